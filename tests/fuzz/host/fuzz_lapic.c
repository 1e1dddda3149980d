// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Local APICs of four vCPUs: registers by MMIO and MSR, modes, timer, IPIs and messages, state from the VMM. After each step
 * their summaries, priorities and modes must fit together.
 */
#include "irqchip.h"
#include "lapic_regs.h"
#include "msr.h"
#include "rig.h"
#include "routing.h"

#define STEPS 200

static uint64_t vectors_of(const struct lapic *lapic, uint32_t base, unsigned int n)
{
	return lapic_reg(lapic, base + n * 16);
}

static int highest(const struct lapic *lapic, uint32_t base)
{
	for (int v = 255; v >= 0; v--)
		if (lapic_vector_test(lapic, base, (uint8_t)v))
			return v;
	return -1;
}

static void holds(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	int pending, irr, isr;
	uint32_t tpr, ppr;

	fuzz_assert(!lapic->x2apic || lapic->enabled);
	fuzz_assert(lapic->enabled == !!(vcpu->apic_base & APIC_BASE_ENABLE));
	pending = lapic_pending(vcpu);
	for (unsigned int n = 0; n < 8; n++) {
		fuzz_assert(!vectors_of(lapic, APIC_IRR, n) == !(lapic->irr_any >> n & 1));
		fuzz_assert(!vectors_of(lapic, APIC_ISR, n) == !(lapic->isr_any >> n & 1));
	}
	irr = highest(lapic, APIC_IRR);
	isr = highest(lapic, APIC_ISR);
	tpr = lapic_reg(lapic, APIC_TPR) & 0xff;
	ppr = isr >= 0 && (uint32_t)isr >> 4 >= tpr >> 4 ? (uint32_t)isr & 0xf0 : tpr;
	if (isr >= 0 && (uint32_t)isr >> 4 == tpr >> 4)
		fuzz_assert(lapic_ppr(lapic) >> 4 == tpr >> 4);
	else
		fuzz_assert(lapic_ppr(lapic) == ppr);
	/* (SDM 3A 11.8.3.1) */
	if (pending >= 0)
		fuzz_assert(pending == irr && (uint32_t)pending >> 4 > ppr >> 4);
	fuzz_assert(lapic_tpr_threshold(vcpu) <= 15 && lapic_get_tpr(vcpu) == tpr >> 4);
}

static void state(struct input *in, struct vcpu *vcpu)
{
	static struct kvm_lapic_state a, b;

	if (lapic_get_state(vcpu, &a))
		return;
	for (uint8_t n = input_u8(in) & 15; n; n--)
		a.regs[input_pick(in, sizeof(a.regs))] = (char)input_u8(in);
	if (lapic_set_state(vcpu, &a))
		return;
	/* What it made of it stays so. */
	fuzz_assert(!lapic_get_state(vcpu, &a) && !lapic_set_state(vcpu, &a) && !lapic_get_state(vcpu, &b));
	memset(a.regs + APIC_TMCCT, 0, 4); /* time goes on */
	memset(b.regs + APIC_TMCCT, 0, 4);
	fuzz_assert(!memcmp(&a, &b, sizeof(a)));
}

static void message(struct input *in)
{
	uint8_t how = input_u8(in);
	uint64_t taken = 0;
	struct apic_msg msg = { .vector = input_u8(in), .mode = how & 7, .logical = how & 8, .level = how & 16 };
	int count;

	msg.dest = input_u8(in);
	if (how & 32)
		msg.dest = input_u32(in);
	msg.shorthand = how >> 6;
	msg.taken = &taken;
	count = apic_deliver(&rig.vm, msg.shorthand ? rig.vm.vcpu[0] : NULL, &msg);
	fuzz_assert(count >= -1 && count <= (int)rig.vcpus && !(taken >> 4));
	if (msg.mode == APIC_LOWEST)
		fuzz_assert(__builtin_popcountll(taken) <= 1);
}

static void step(struct input *in)
{
	struct vcpu *vcpu = rig.vm.vcpu[input_pick(in, rig.vcpus)];
	uint8_t what = input_u8(in) & 15;
	uint64_t value = 0;
	uint32_t offset = (uint32_t)input_u8(in) << 4, len;
	int vector;

	switch (what) {
	case 0:
		value = (vcpu->apic_base & APIC_BASE_BSP) | (input_number(in) & ~(uint64_t)APIC_BASE_BSP);
		if (offset & 16)
			value = (vcpu->apic_base & ~0xc00ULL) | (offset & 0xc00);
		if (!lapic_check_base(vcpu, value, offset & 32))
			lapic_set_base(vcpu, value);
		break;
	case 1:
		state(in, vcpu);
		break;
	case 2:
		message(in);
		break;
	case 3:
		fuzz_tsc += input_u32(in);
		lapic_timer_check(vcpu, fuzz_tsc);
		fuzz_assert(!vcpu->lapic.timer_deadline_tsc || vcpu->lapic.timer_deadline_tsc > fuzz_tsc - 1000);
		break;
	case 4:
	case 5:
		vector = lapic_pending(vcpu);
		if (vector >= 0) {
			lapic_accept(vcpu, (uint8_t)vector);
			fuzz_assert(lapic_vector_test(&vcpu->lapic, APIC_ISR, (uint8_t)vector));
		}
		break;
	case 6:
		lapic_eoi(vcpu);
		break;
	case 7:
		lapic_set_tpr(vcpu, offset >> 4 & 15);
		break;
	case 8:
		lapic_msr_read(vcpu, MSR_X2APIC + (offset >> 4), &value);
		break;
	case 9:
		lapic_msr_write(vcpu, offset == 0xff0 ? MSR_TSC_DEADLINE : MSR_X2APIC + (offset >> 4),
				input_number(in));
		break;
	case 10:
		len = 1 + input_pick(in, 8);
		lapic_mmio_read(vcpu, (offset + input_pick(in, 16)) & 0xfff, len, &value);
		break;
	case 11:
		lapic_request(vcpu, input_u8(in), offset & 16);
		break;
	case 12:
		msr_write(vcpu, 0x4b564d04, input_number(in), false); /* KVM_PV_EOI_EN */
		break;
	case 13:
		if (offset & 16)
			vcpu_take_init_sipi(vcpu);
		else
			lapic_pv_eoi_sync(vcpu);
		break;
	default:
		value = input_number(in);
		len = offset == APIC_EOI || input_u8(in) & 0xe ? 4 : 1 + input_pick(in, 8);
		lapic_mmio_write(vcpu, offset, len, &value);
		lapic_eoi_exit_pending(vcpu);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	uint8_t how = input_u8(&in);

	rig_begin(NULL, how & 1);
	rig_machine(how & 2 ? RIG_WHOLE : RIG_SPLIT);
	for (uint32_t n = 1; n < RIG_VCPUS; n++)
		rig_vcpu(n);
	for (uint32_t n = 0; n < RIG_VCPUS; n++)
		if (how & 4)
			lapic_set_reg(&rig.vm.vcpu[n]->lapic, APIC_SVR, 0x1ff);
	for (unsigned int n = 0; input_more(&in) && n < STEPS; n++) {
		step(&in);
		for (uint32_t i = 0; i < RIG_VCPUS; i++)
			holds(rig.vm.vcpu[i]);
	}
	rig_end();
	return 0;
}
