// SPDX-License-Identifier: GPL-2.0-or-later
/* The shadow's other parts, as far as the calls need them. */
#include "fakes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

struct world *w;
uint64_t fake_tsc;
struct seen seen;
uint64_t fetch_valid;
uint32_t host_max_basic = 0x20, host_max_extended = 0x80000028;
bool host_amd;

void host_everything(uint32_t function, uint32_t index, uint32_t regs[4])
{
	/* name of component: size, offset, ECX */
	static const uint32_t xsave[][3] = {
		[2] = { 256, 576, 0 },	[3] = { 64, 960, 0 },	 [4] = { 64, 1024, 0 }, [5] = { 64, 1088, 0 },
		[6] = { 512, 1152, 0 }, [7] = { 1024, 1664, 0 }, [8] = { 128, 0, 1 },	[9] = { 8, 2688, 0 },
		[17] = { 64, 2752, 2 }, [18] = { 8192, 2816, 6 }
	};

	for (int i = 0; i < 4; i++)
		regs[i] = ~0u;
	switch (function) {
	case 0:
		regs[0] = host_max_basic;
		regs[1] = host_amd ? 0x68747541 : 0x756e6547;
		regs[3] = host_amd ? 0x69746e65 : 0x49656e69;
		regs[2] = host_amd ? 0x444d4163 : 0x6c65746e;
		break;
	case 4:
	case 0x8000001d:
		regs[0] = index < 3 ? 0x121 + index : 0;
		break;
	case 7:
		regs[0] = index ? ~0u : 2;
		break;
	case 0xd:
		if (index >= 2) {
			memset(regs, 0, 16);
			if (index < sizeof(xsave) / sizeof(xsave[0])) {
				regs[0] = xsave[index][0];
				regs[1] = xsave[index][1];
				regs[2] = xsave[index][2];
			}
		}
		break;
	case 0x80000000:
		regs[0] = host_max_extended;
		break;
	case 0x80000008:
		regs[0] = 0x3934; /* 57 bits virtual, 52 physical */
		break;
	default:
		break;
	}
}

void world_make(void)
{
	w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
	ck_assert_ptr_nonnull(w);
	memset(w, 0, sizeof(*w));
	memset(&seen, 0, sizeof(seen));
	fetch_valid = 0;
	host_max_basic = 0x20;
	host_max_extended = 0x80000028;
	host_amd = false;
	cpuid_host = host_everything;
	fake_tsc = 1000000;
	w->vm.shim = &w->shim;
	w->vm.info = (struct umbra_info) {
		.abi_version = UMBRA_ABI_VERSION,
		.features = UMBRA_FEAT_RDTSCP | UMBRA_FEAT_INVPCID,
		.guest_xcr0 = 7,
		.guest_cr0 = 0xe005003f,
		.guest_cr4 = 0x370fff,
		.guest_efer = 0xd01,
		.tsc_khz = 2000000,
		.gpa_bits = 46,
	};
	w->vm.tsc_khz = 2000000;
	w->vm.split_irqchip = true;
	w->vcpu.vm = &w->vm;
	w->vcpu.run = &w->run;
	w->vcpu.vapic = w->vapic;
	w->vcpu.user_interrupt = -1;
	w->vcpu.apic_base = 0xfee00900;
	w->vcpu.fpu_park = aligned_alloc(64, 16384);
	memset(w->vcpu.fpu_park, 0, 16384);
	w->vcpu.valid = UMBRA_STATE_ALL;
	ck_assert_int_eq(msr_init(&w->vcpu), 0);
}

void world_drop(void)
{
	free(w->vcpu.msrs);
	free(w->vcpu.fpu_park);
	free(w->vm.msr_filter);
	free(w);
	w = NULL;
}

void guest_cpuid_supported(void)
{
	struct kvm_cpuid_entry2 entries[256];
	int n = cpuid_supported(&w->vm, entries, 256);

	ck_assert_int_gt(n, 20);
	ck_assert_int_eq(cpuid_set(&w->vcpu, entries, n), 0);
}

void guest_cpuid_bit(uint32_t function, int reg, int bit, bool on)
{
	struct kvm_cpuid_entry2 entries[256];
	uint32_t n = w->vcpu.cpuid_count, *regs = NULL;

	memcpy(entries, w->vcpu.cpuid, sizeof(entries));
	for (uint32_t i = 0; i < n && !regs; i++) {
		if (entries[i].function == function)
			regs = &entries[i].eax;
	}
	ck_assert_ptr_nonnull(regs);
	regs[reg] = on ? regs[reg] | 1u << bit : regs[reg] & ~(1u << bit);
	ck_assert_int_eq(cpuid_set(&w->vcpu, entries, n), 0);
}

int call(uint32_t nr, void *buf, uint32_t in, uint32_t *out)
{
	static uint8_t payload[CHANNEL_PAYLOAD_MAX] __attribute__((aligned(4096)));
	uint32_t size = in;
	int ret;

	memset(payload, 0x5a, sizeof(payload));
	memcpy(payload, buf, in);
	ret = vcpu_call(&w->vcpu, nr, 0, payload, &size);
	ck_assert_uint_le(size, sizeof(payload));
	memcpy(buf, payload, size);
	if (out)
		*out = size;
	return ret;
}

/* ---- the other parts ---- */

void vcpu_fetch(struct vcpu *vcpu, uint64_t groups)
{
	fetch_valid |= groups;
	if (groups & ~vcpu->valid)
		seen.fetched++;
	vcpu->valid |= groups;
}

int vcpu_cpl(struct vcpu *vcpu)
{
	return vcpu->run->seg[UMBRA_SS].attr >> 5 & 3;
}

void vcpu_skip_insn(struct vcpu *vcpu)
{
	vcpu->run->rip += 2;
	seen.skipped++;
}

void inject_exception(struct vcpu *vcpu, uint8_t vector)
{
	vcpu->exception = (struct pending_exception) { .pending = true, .vector = vector };
}

void inject_exception_code(struct vcpu *vcpu, uint8_t vector, uint32_t code)
{
	vcpu->exception = (struct pending_exception) {
		.pending = true, .vector = vector, .has_error_code = true, .error_code = code
	};
}

void inject_soft_exception(struct vcpu *vcpu, uint8_t vector, uint8_t type, uint8_t insn_len)
{
	vcpu->exception =
		(struct pending_exception) { .pending = true, .vector = vector, .type = type, .insn_len = insn_len };
}

uint64_t clock_host_tsc(void)
{
	return fake_tsc;
}

int clock_write_system_time(struct vcpu *vcpu, uint64_t value)
{
	seen.system_time++;
	vcpu->msrs->system_time = value;
	return 0;
}

int clock_write_wall_clock(struct vcpu *vcpu, uint64_t value)
{
	seen.wall_clock++;
	vcpu->msrs->wall_clock = value;
	return value == 0xbad ? -1 : 0;
}

void clock_tsc_changed(struct vcpu *vcpu)
{
	(void)vcpu;
}

int steal_write_msr(struct vcpu *vcpu, uint64_t value, bool host)
{
	(void)host;
	if (value == 0xbad)
		return -1;
	vcpu->msrs->steal_time = value;
	return 0;
}

void vcpu_take_init_sipi(struct vcpu *vcpu)
{
	if (atomic_exchange(&vcpu->lapic.init_pending, 0))
		vcpu->mp_state = KVM_MP_STATE_INIT_RECEIVED;
}

bool vcpu_take_unhalt(struct vcpu *vcpu)
{
	return atomic_exchange(&vcpu->pv_unhalt, 0);
}

int clock_kvmclock_ctrl(struct vcpu *vcpu)
{
	return vcpu->msrs->system_time & 1 ? 0 : -EINVAL;
}

int lapic_check_base(struct vcpu *vcpu, uint64_t apic_base, bool host)
{
	(void)vcpu;
	(void)host;
	return apic_base & 0xff ? -EINVAL : 0;
}

void lapic_set_base(struct vcpu *vcpu, uint64_t apic_base)
{
	seen.apic_base_set++;
	vcpu->apic_base = apic_base;
}

int lapic_msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)vcpu;
	seen.x2apic_reads++;
	*value = 0xa000 + msr;
	return msr == 0x8ff ? -1 : 0;
}

int lapic_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	(void)vcpu;
	seen.x2apic_writes++;
	seen.last = value;
	return msr == 0x80b ? 1 : 0;
}

uint64_t lapic_get_tpr(struct vcpu *vcpu)
{
	return ((uint8_t *)vcpu->vapic)[0x80] >> 4;
}

void lapic_set_tpr(struct vcpu *vcpu, uint64_t cr8)
{
	((uint8_t *)vcpu->vapic)[0x80] = (uint8_t)(cr8 << 4);
}

void lapic_tsc_changed(struct vcpu *vcpu)
{
	(void)vcpu;
	seen.tsc_changed++;
}

void lapic_pv_eoi_sync(struct vcpu *vcpu)
{
	vcpu->lapic.pv_eoi_pending = false;
}

int lapic_get_state(struct vcpu *vcpu, struct kvm_lapic_state *state)
{
	memcpy(state, vcpu->vapic, sizeof(*state));
	return 0;
}

int lapic_set_state(struct vcpu *vcpu, const struct kvm_lapic_state *state)
{
	memcpy(vcpu->vapic, state, sizeof(*state));
	return 0;
}

bool xcr0_valid(const struct vcpu *vcpu, uint64_t value)
{
	return value & 1 && !(value & ~(vcpu->xcr0_guest_bits | 1));
}

uint64_t vcpu_fpu_mask(const struct vcpu *vcpu)
{
	return vcpu->vm->info.guest_xcr0;
}

int vm_read_gpa(struct vm *vm, uint64_t gpa, void *to, size_t len)
{
	(void)vm;
	if (gpa > sizeof(w->memory) || len > sizeof(w->memory) - gpa)
		return -EFAULT;
	memcpy(to, w->memory + gpa, len);
	return 0;
}

int walk_gva(struct vm *vm, const struct walk_regs *regs, uint64_t gva, uint32_t access, uint64_t *gpa, uint32_t *error)
{
	(void)vm;
	(void)regs;
	(void)access;
	*error = 0;
	*gpa = gva - 0x10000;
	return gva < 0x10000 ? -1 : 0;
}

void vm_read_lock(struct vm *vm)
{
	(void)vm;
}

void vm_read_unlock(struct vm *vm)
{
	(void)vm;
}

void vm_synchronize(struct vm *vm)
{
	(void)vm;
	seen.synchronized++;
}

void vcpu_notify(struct vcpu *vcpu, unsigned int requests)
{
	atomic_fetch_or(&vcpu->requests, requests);
}
