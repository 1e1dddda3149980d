// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hooks_rig.h"
#include "rig.h"
#include "../../unit/channel_fds.h"
#include "channel_io.h"
#include "check.h"

struct rig rig;
uint8_t rig_reply[CHANNEL_PAYLOAD_MAX];
uint32_t rig_reply_size;

static uint8_t payload[CHANNEL_PAYLOAD_MAX];
static int fd_floor;
static bool sigs;

static const struct limits limits = {
	.cr0_may = 0xe005003f,
	.cr4_may = 0x7ff | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 20 | 1 << 21,
	.efer_may = 0xd01,
	.xcr0_may = 7,
	.user_end = 0x7ffffffff000,
	.gpa_bits = 40,
};

/* ---- the shim ---- */

static int fake_info(struct shim *shim, struct umbra_info *info)
{
	(void)shim;
	*info = (struct umbra_info) {
		.abi_version = UMBRA_ABI_VERSION,
		.hw = rig.svm ? UMBRA_HW_SVM : UMBRA_HW_VMX,
		.features = (rig.svm ? 0 : UMBRA_FEAT_TPR_SHADOW) | UMBRA_FEAT_RDTSCP,
		.guest_xcr0 = limits.xcr0_may,
		.guest_cr0 = limits.cr0_may,
		.guest_cr4 = limits.cr4_may,
		.guest_efer = limits.efer_may,
		.tsc_khz = 1000000,
		.gpa_bits = limits.gpa_bits,
		.run_size = 8192,
		.vapic_offset = 4096,
	};
	return 0;
}

static int fake_create_vm(struct shim *shim)
{
	(void)shim;
	return 100;
}

/* Rules of the real one; and a region is only ever memory that the shadow has mapped for it. */
static int fake_set_region(struct shim *shim, const struct umbra_region *region)
{
	(void)shim;
	fuzz_assert(!check_region(region, &limits));
	if (region->size) {
		fuzz_assert(fuzz_mapped(region->addr, region->size));
		for (uint32_t i = 0; i < UMBRA_MAX_REGIONS; i++)
			fuzz_assert(i == region->slot || !rig.region[i].size ||
				    rig.region[i].gpa >= region->gpa + region->size ||
				    region->gpa >= rig.region[i].gpa + rig.region[i].size);
	} else if (!rig.region[region->slot].size) {
		return -ENOENT;
	}
	rig.region[region->slot] = *region;
	return 0;
}

static int fake_get_dirty(struct shim *shim, const struct umbra_dirty *dirty)
{
	const struct umbra_region *region = &rig.region[dirty->slot];

	(void)shim;
	fuzz_assert(dirty->slot < UMBRA_MAX_REGIONS && !check_dirty(dirty, region->size));
	if (!(region->flags & UMBRA_REGION_LOG_DIRTY))
		return -ENOENT;
	memset((void *)(uintptr_t)dirty->bitmap, 0x5a, (dirty->pages + 63) / 64 * 8);
	return 0;
}

static int fake_create_vcpu(struct shim *shim, struct umbra_run **run, void **vapic)
{
	(void)shim;
	fuzz_assert(rig.vcpus <= RIG_VCPUS);
	if (rig.vcpus == RIG_VCPUS)
		return -ENOSPC;
	*run = aligned_alloc(4096, 4096);
	*vapic = aligned_alloc(4096, 4096);
	memset(*run, 0, 4096);
	memset(*vapic, 0, 4096);
	rig.run[rig.vcpus] = *run;
	return (int)(200 + rig.vcpus++);
}

static void fake_destroy_vcpu(struct shim *shim, int vcpu_fd, struct umbra_run *run)
{
	(void)shim;
	(void)run;
	fuzz_assert(vcpu_fd == (int)(200 + rig.vcpus - 1));
	rig.run[--rig.vcpus] =
		NULL; /* its pages leak until rig_end(), which does not know them any more: never happens here */
}

static const uint8_t vmx_reasons[] = { 0,  2,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 18, 28, 28, 28,
				       29, 30, 30, 30, 31, 31, 32, 32, 36, 39, 40, 43, 51, 54, 55, 59 };
static const uint8_t svm_reasons[] = { 0x00, 0x03, 0x04, 0x10, 0x13, 0x14, 0x18, 0x20, 0x27, 0x30, 0x37, 0x41, 0x43,
				       0x44, 0x46, 0x4d, 0x4e, 0x51, 0x64, 0x65, 0x6e, 0x72, 0x74, 0x76, 0x77, 0x78,
				       0x7b, 0x7b, 0x7c, 0x7c, 0x7c, 0x7d, 0x7f, 0x81, 0x88, 0x8a, 0x8d };

/* MSRs that somebody answers. */
static const uint32_t msrs[] = {
	0x10,	    0x11,	0x12,	    0x1b,	0x34,	    0x3a,	0x3b,	    0x48,	0x49,
	0x8b,	    0xce,	0xfe,	    0x10a,	0x10b,	    0x140,	0x174,	    0x175,	0x176,
	0x179,	    0x17a,	0x17b,	    0x198,	0x1a0,	    0x1d9,	0x1fc,	    0x200,	0x201,
	0x20f,	    0x250,	0x258,	    0x268,	0x26f,	    0x277,	0x280,	    0x2ff,	0x345,
	0x400,	    0x401,	0x402,	    0x403,	0x47f,	    0x4d0,	0x6e0,	    0x802,	0x808,
	0x80b,	    0x80f,	0x830,	    0x832,	0x838,	    0x83e,	0x83f,	    0xda0,	0xc0000080,
	0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xc0010015,
	0xc001001f, 0xc0010117, 0xc0011029, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d05,
	0x4b564d06, 0x4b564d07, 0x4b564d08,
};

static uint32_t pick_msr(struct input *in)
{
	uint8_t n = input_u8(in);

	return n == 0xff ? input_u32(in) : msrs[n % (sizeof(msrs) / sizeof(msrs[0]))];
}

/* What the guest did meanwhile: registers that it can change without an exit. */
static void guest_changes(struct input *in, struct umbra_run *run, uint8_t what)
{
	if (what & 1)
		run->gpr[input_pick(in, 16)] = input_number(in);
	if (what & 2)
		run->gpr[UMBRA_RCX] = pick_msr(in);
	if (what & 4) {
		run->rip = input_u8(in) & 1 ? input_number(in) : RIG_CODE + input_pick(in, 256);
		run->rflags = (input_u16(in) & 0x7fd5) | 2;
	}
	if (what & 8) {
		unsigned int seg = input_pick(in, 6);

		run->seg[seg].base = input_number(in);
		run->seg[seg].limit = input_u32(in);
		run->seg[seg].attr = (uint16_t)((run->seg[seg].attr & ~0x60u) | (input_u8(in) & 0x60));
	}
	if (what & 16)
		run->intr_shadow = input_u8(in) & (rig.svm ? 1 : 11);
}

static void event_cut_short(struct input *in, struct umbra_event *event)
{
	static const uint8_t types[] = { UMBRA_EVENT_INTR, UMBRA_EVENT_NMI, UMBRA_EVENT_EXC, UMBRA_EVENT_EXC };
	static const uint8_t types_vmx[] = { UMBRA_EVENT_SOFT_INT, UMBRA_EVENT_ICEBP, UMBRA_EVENT_SOFT_EXC };
	uint8_t pick = input_u8(in);

	event->flags = UMBRA_EVENT_VALID | (pick & 0x80 ? UMBRA_EVENT_ERROR_CODE : 0);
	event->type = rig.svm || pick & 8 ? types[pick & 3] : types_vmx[(pick & 3) % 3];
	event->vector = input_u8(in);
	if (event->type == UMBRA_EVENT_EXC)
		event->vector &= 31;
	else if (event->type == UMBRA_EVENT_NMI)
		event->vector = 2;
	event->insn_len = event->type >= UMBRA_EVENT_SOFT_INT ? 1 + (pick >> 4 & 7) : 0;
	event->error_code = input_u8(in);
}

static void exit_of(struct input *in, struct umbra_run *run, struct umbra_exit *exit)
{
	static const uint64_t gpas[] = { RIG_DEVICE, RIG_ROM, 0xfee00000, 0xfec00000, 0, RIG_CODE };
	uint8_t kind = input_u8(in);

	memset(exit, 0, sizeof(*exit));
	exit->reason = UMBRA_EXIT_HARDWARE;
	if ((kind & 3) == 0) {
		exit->reason = UMBRA_EXIT_MEM;
		exit->gpa = gpas[(kind >> 2) % 6] + input_pick(in, 4096);
		exit->gva = kind & 0x20 ? exit->gpa : input_number(in);
		exit->access = input_u8(in) & 0x3f;
		if (kind & 0x40)
			exit->access &= 0xf;
		if (exit->access & UMBRA_MEM_FAULT)
			exit->error = -EFAULT;
		return;
	}
	if (kind == 0xfd) {
		exit->reason = input_pick(in, 6);
		exit->rule = input_u8(in);
		exit->hw_reason = input_u32(in);
		return;
	}
	if (rig.svm)
		exit->hw_reason = kind & 0x80 ? input_u8(in) : svm_reasons[(kind >> 2) % sizeof(svm_reasons)];
	else
		exit->hw_reason = kind & 0x80 ? input_u8(in) & 0x3f : vmx_reasons[(kind >> 2) % sizeof(vmx_reasons)];
	exit->hw_info = input_number(in);
	exit->hw_detail = input_u32(in);
	exit->hw_error_code = input_u8(in);
	exit->insn_len = input_u8(in) & 15;
	exit->hw_info2 = kind & 0x40 ? run->rip + exit->insn_len : input_number(in);
}

static void stop_soon(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->channel->stop, 1, __ATOMIC_SEQ_CST);
	atomic_fetch_or(&vcpu->requests, VCPU_REQ_STOP);
}

static int fake_run(struct shim *shim, int vcpu_fd)
{
	unsigned int n = (unsigned int)vcpu_fd - 200;
	struct umbra_run *run = rig.run[n];
	struct input none = { NULL, NULL }, *in = rig.in ? rig.in : &none;
	uint8_t what;

	(void)shim;
	fuzz_assert(n < rig.vcpus);
	fuzz_assert(!check_control(run));
	if (run->dirty & ~UMBRA_STATE_RIP)
		fuzz_assert(!check_state(run, &limits));
	run->dirty = 0;
	if (run->flags & UMBRA_RUN_NO_ENTRY) {
		run->exit = (struct umbra_exit) { .reason = UMBRA_EXIT_NONE, .valid = run->want };
		return 0;
	}
	run->flags = 0;
	if (rig.vm.vcpu[n]) /* one entry a KVM_RUN, or a few */
		stop_soon(rig.vm.vcpu[n]);
	what = input_u8(in);
	if (what == 0xff)
		return -EINTR;
	if (!(what & 0x80) || !(run->inject.flags & UMBRA_EVENT_VALID))
		run->inject.flags = 0;
	guest_changes(in, run, what);
	exit_of(in, run, &run->exit);
	if (what & 0x40)
		event_cut_short(in, &run->exit.event);
	run->exit.valid = run->want | run->want_emul;
	return 0;
}

static void fake_exit_read(const struct umbra_run *run, struct vmexit *exit)
{
	if (rig.svm)
		exit_read_svm(run, exit);
	else
		exit_read_vmx(run, exit);
}

static int fake_kick(struct shim *shim, int vcpu_fd)
{
	(void)shim;
	(void)vcpu_fd;
	return 0;
}

/* With answers in the run area, as the real shim's VMX has them, when there is no exit_read. */
static const struct shim_ops ops_svm = {
	.info = fake_info,
	.create_vm = fake_create_vm,
	.set_region = fake_set_region,
	.get_dirty = fake_get_dirty,
	.create_vcpu = fake_create_vcpu,
	.destroy_vcpu = fake_destroy_vcpu,
	.run = fake_run,
	.exit_read = fake_exit_read,
	.kick = fake_kick,
};
static struct shim_ops ops_vmx;

/* ---- begin and end ---- */

void rig_begin(struct input *in, bool svm)
{
	int pair[2];

	if (!sigs) {
		sigs = true;
		ops_vmx = ops_svm;
		ops_vmx.exit_read = NULL;
	}
	fuzz_cpuid_init();
	memset(&rig, 0, sizeof(rig));
	fd_floor = dup(2);
	close(fd_floor);
	rig.svm = svm;
	rig.shim.ops = svm ? &ops_svm : &ops_vmx;
	fuzz_tsc = 1000000000;
	fuzz_ns = 1000000000;
	fuzz_assert(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	rig.vmm = pair[0];
	rig.shadow = pair[1];
	for (int i = 0; i < 4; i++)
		rig.event[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	fuzz_assert(!vm_init(&rig.vm, &rig.shim));
	rig.in = in;
}

void rig_end(void)
{
	for (uint32_t i = 0; i < rig.vcpus; i++) {
		if (rig.vm.vcpu[i])
			free(rig.vm.vcpu[i]->vapic);
		free(rig.run[i]);
	}
	for (uint32_t i = 0; i < rig.areas; i++)
		munmap(rig.area[i], CHANNEL_VCPU_SIZE);
	if (rig.ram)
		munmap(rig.ram, RIG_RAM);
	fuzz_memory_reset();
	close_range((unsigned int)fd_floor, ~0U, 0);
}

int rig_memfd(uint64_t size, uint8_t **map)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	fuzz_assert(fd >= 0 && !ftruncate(fd, (off_t)size));
	if (map) {
		*map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		fuzz_assert(*map != MAP_FAILED);
	}
	return fd;
}

/* ---- the control socket ---- */

static int64_t serve(void)
{
	static struct channel_msg msg;
	int fds[CHANNEL_FDS_MAX], nfds, got;

	fuzz_assert(control_serve(rig.shadow, &rig.vm));
	/* The glue's own rule: each request has one whole answer. */
	got = channel_receive(rig.vmm, &msg, rig_reply, fds, &nfds);
	fuzz_assert(got == 1 && !nfds);
	rig_reply_size = msg.size;
	return msg.ret;
}

int64_t rig_ask(uint16_t kind, uint32_t nr, uint64_t arg, const void *data, size_t size, const int *fds, int nfds)
{
	struct channel_msg msg = { .kind = kind, .nr = nr, .arg = arg, .cookie = (uint32_t)arg };

	fuzz_assert(!channel_send_fds(rig.vmm, &msg, data, size, fds, nfds));
	return serve();
}

/* Any bytes at all as a packet. */
void rig_step_raw(struct input *in)
{
	struct channel_msg msg = { .version = CHANNEL_VERSION };
	uint8_t how = input_u8(in), tail = input_u8(in);
	struct iovec iov[2] = { { &msg, sizeof(msg) }, { payload, tail } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };

	msg.kind = input_u8(in) & 7;
	msg.nr = input_u32(in);
	msg.arg = input_number(in);
	input_bytes(in, payload, tail);
	msg.size = how & 1 ? input_u32(in) : tail;
	if (how & 2)
		msg.version = input_u16(in);
	if (how & 4)
		msg.kind = input_u16(in);
	if (how & 8)
		iov[0].iov_len = 1 + input_pick(in, sizeof(msg)), hdr.msg_iovlen = 1;
	if (sendmsg(rig.vmm, &hdr, MSG_NOSIGNAL) > 0)
		serve();
}

/* ---- KVM's calls ---- */

struct kvm_call {
	uint8_t kind;
	uint32_t nr;
	uint16_t size;	/* of the payload's fixed part */
	uint16_t count; /* offset of a 32-bit count in it; NONE: no list */
	uint16_t elem;	/* bytes */
};
#define NONE 0xffff
#define VM_CALL(nr, size)                     \
	{                                     \
		CHANNEL_VM, nr, size, NONE, 0 \
	}
#define SYS_CALL(nr, size)                        \
	{                                         \
		CHANNEL_SYSTEM, nr, size, NONE, 0 \
	}

static const struct kvm_call calls[] = {
	VM_CALL(KVM_CHECK_EXTENSION, 0),
	VM_CALL(KVM_CREATE_VM, 0),
	VM_CALL(KVM_ENABLE_CAP, sizeof(struct kvm_enable_cap)),
	VM_CALL(KVM_CREATE_IRQCHIP, 0),
	VM_CALL(KVM_CREATE_PIT2, sizeof(struct kvm_pit_config)),
	VM_CALL(KVM_CREATE_PIT, 0),
	VM_CALL(KVM_GET_IRQCHIP, sizeof(struct kvm_irqchip)),
	VM_CALL(KVM_SET_IRQCHIP, sizeof(struct kvm_irqchip)),
	VM_CALL(KVM_GET_PIT, 0),
	VM_CALL(KVM_SET_PIT, sizeof(struct kvm_pit_state)),
	VM_CALL(KVM_GET_PIT2, 0),
	VM_CALL(KVM_SET_PIT2, sizeof(struct kvm_pit_state2)),
	VM_CALL(KVM_REINJECT_CONTROL, sizeof(struct kvm_reinject_control)),
	VM_CALL(KVM_SET_TSS_ADDR, 0),
	VM_CALL(KVM_SET_IDENTITY_MAP_ADDR, 8),
	VM_CALL(KVM_SET_BOOT_CPU_ID, 0),
	VM_CALL(KVM_GET_TSC_KHZ, 0),
	VM_CALL(KVM_SET_TSC_KHZ, 0),
	{ CHANNEL_VM, KVM_SET_GSI_ROUTING, sizeof(struct kvm_irq_routing), 0, sizeof(struct kvm_irq_routing_entry) },
	{ CHANNEL_VM, KVM_SET_GSI_ROUTING, sizeof(struct kvm_irq_routing), 0, sizeof(struct kvm_irq_routing_entry) },
	VM_CALL(KVM_IRQ_LINE, sizeof(struct kvm_irq_level)),
	VM_CALL(KVM_IRQ_LINE_STATUS, sizeof(struct kvm_irq_level)),
	VM_CALL(KVM_SIGNAL_MSI, sizeof(struct kvm_msi)),
	VM_CALL(KVM_IRQFD, sizeof(struct kvm_irqfd)),
	VM_CALL(KVM_IOEVENTFD, sizeof(struct kvm_ioeventfd)),
	VM_CALL(KVM_REGISTER_COALESCED_MMIO, sizeof(struct kvm_coalesced_mmio_zone)),
	VM_CALL(KVM_UNREGISTER_COALESCED_MMIO, sizeof(struct kvm_coalesced_mmio_zone)),
	VM_CALL(KVM_GET_CLOCK, 0),
	VM_CALL(KVM_SET_CLOCK, sizeof(struct kvm_clock_data)),
	{ CHANNEL_VM, KVM_X86_SET_MSR_FILTER, sizeof(struct kvm_msr_filter), NONE, 8 },
	VM_CALL(KVM_GET_DIRTY_LOG, sizeof(struct kvm_dirty_log)),
	{ CHANNEL_VM, KVM_CLEAR_DIRTY_LOG, sizeof(struct kvm_clear_dirty_log), NONE, 8 },
	SYS_CALL(KVM_GET_API_VERSION, 0),
	SYS_CALL(KVM_CHECK_EXTENSION, 0),
	SYS_CALL(KVM_GET_SUPPORTED_CPUID, sizeof(struct kvm_cpuid2)),
	SYS_CALL(KVM_GET_EMULATED_CPUID, sizeof(struct kvm_cpuid2)),
	SYS_CALL(KVM_GET_MSR_INDEX_LIST, sizeof(struct kvm_msr_list)),
	SYS_CALL(KVM_GET_MSR_FEATURE_INDEX_LIST, sizeof(struct kvm_msr_list)),
	{ CHANNEL_SYSTEM, KVM_GET_MSRS, sizeof(struct kvm_msrs), 0, sizeof(struct kvm_msr_entry) },
	SYS_CALL(KVM_GET_DEVICE_ATTR, sizeof(struct kvm_device_attr)),
	SYS_CALL(KVM_HAS_DEVICE_ATTR, sizeof(struct kvm_device_attr)),
	SYS_CALL(KVM_X86_GET_MCE_CAP_SUPPORTED, 0),
};

static const struct kvm_call vcpu_calls[] = {
	VM_CALL(KVM_GET_REGS, 0),
	VM_CALL(KVM_SET_REGS, sizeof(struct kvm_regs)),
	VM_CALL(KVM_GET_SREGS, 0),
	VM_CALL(KVM_SET_SREGS, sizeof(struct kvm_sregs)),
	VM_CALL(KVM_GET_SREGS2, 0),
	VM_CALL(KVM_SET_SREGS2, sizeof(struct kvm_sregs2)),
	VM_CALL(KVM_GET_FPU, 0),
	VM_CALL(KVM_SET_FPU, sizeof(struct kvm_fpu)),
	VM_CALL(KVM_GET_XSAVE, 0),
	VM_CALL(KVM_GET_XSAVE2, 0),
	VM_CALL(KVM_SET_XSAVE, sizeof(struct kvm_xsave)),
	VM_CALL(KVM_GET_XCRS, 0),
	VM_CALL(KVM_SET_XCRS, sizeof(struct kvm_xcrs)),
	{ 0, KVM_GET_MSRS, sizeof(struct kvm_msrs), 0, sizeof(struct kvm_msr_entry) },
	{ 0, KVM_SET_MSRS, sizeof(struct kvm_msrs), 0, sizeof(struct kvm_msr_entry) },
	{ 0, KVM_SET_MSRS, sizeof(struct kvm_msrs), 0, sizeof(struct kvm_msr_entry) },
	{ 0, KVM_SET_CPUID2, sizeof(struct kvm_cpuid2), 0, sizeof(struct kvm_cpuid_entry2) },
	{ 0, KVM_GET_CPUID2, sizeof(struct kvm_cpuid2), NONE, 0 },
	VM_CALL(KVM_GET_DEBUGREGS, 0),
	VM_CALL(KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs)),
	VM_CALL(KVM_GET_LAPIC, 0),
	VM_CALL(KVM_SET_LAPIC, sizeof(struct kvm_lapic_state)),
	VM_CALL(KVM_GET_MP_STATE, 0),
	VM_CALL(KVM_SET_MP_STATE, sizeof(struct kvm_mp_state)),
	VM_CALL(KVM_GET_VCPU_EVENTS, 0),
	VM_CALL(KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events)),
	VM_CALL(KVM_INTERRUPT, sizeof(struct kvm_interrupt)),
	VM_CALL(KVM_NMI, 0),
	VM_CALL(KVM_TRANSLATE, sizeof(struct kvm_translation)),
	VM_CALL(KVM_SET_GUEST_DEBUG, sizeof(struct kvm_guest_debug)),
	VM_CALL(KVM_GET_TSC_KHZ, 0),
	VM_CALL(KVM_SET_TSC_KHZ, 0),
	VM_CALL(KVM_TPR_ACCESS_REPORTING, sizeof(struct kvm_tpr_access_ctl)),
	VM_CALL(KVM_SET_VAPIC_ADDR, sizeof(struct kvm_vapic_addr)),
	VM_CALL(KVM_KVMCLOCK_CTRL, 0),
	VM_CALL(KVM_X86_SETUP_MCE, 8),
	VM_CALL(KVM_X86_SET_MCE, sizeof(struct kvm_x86_mce)),
	VM_CALL(KVM_HAS_DEVICE_ATTR, sizeof(struct kvm_device_attr)),
	VM_CALL(KVM_GET_DEVICE_ATTR, sizeof(struct kvm_device_attr)),
	VM_CALL(KVM_SET_DEVICE_ATTR, sizeof(struct kvm_device_attr) + 8),
};

/* A payload of the size that the call has, or nearly. */
static uint32_t fill(struct input *in, const struct kvm_call *call, uint8_t how)
{
	uint32_t count = call->elem ? input_pick(in, 9) : 0, size = call->size + count * call->elem, taken = size;

	if (how & 1) /* mostly zero: the first bytes are the input's */
		taken = size < 32 ? size : 32;
	memset(payload, 0, size);
	input_bytes(in, payload, taken);
	if (call->count != NONE && call->size && !(how & 2))
		memcpy(payload + call->count, &count, sizeof(count));
	if ((call->nr == KVM_SET_MSRS || call->nr == KVM_GET_MSRS) && !(how & 2))
		for (uint32_t i = 0; i < count; i++) {
			struct kvm_msr_entry *e = (struct kvm_msr_entry *)(payload + sizeof(struct kvm_msrs)) + i;

			e->index = pick_msr(in);
			e->data = input_number(in);
		}
	if (how & 4)
		size = input_pick(in, size + 16);
	return size;
}

void rig_step_call(struct input *in)
{
	uint8_t how = input_u8(in);
	const struct kvm_call *call = &calls[input_pick(in, sizeof(calls) / sizeof(calls[0]))];
	uint64_t arg = call->size ? input_pick(in, 8) : input_number(in);
	uint32_t size = fill(in, call, how);
	int fds[2] = { rig.event[arg & 3], rig.event[(arg + 1) & 3] };

	rig_ask(call->kind, call->nr, arg, payload, size, fds, how >> 3 & 1 ? 1 + (how >> 4 & 1) : 0);
}

void rig_step_memory(struct input *in)
{
	static const uint64_t sizes[] = { 0, 0x1000, 0x4000, 0x10000, 0x200000, 0x400000 };
	uint8_t how = input_u8(in);
	struct channel_memory arg = { .slot = input_pick(in, 5), .size = sizes[input_pick(in, 6)] };
	int fd;

	arg.gpa = (how & 1 ? input_number(in) : (uint64_t)input_u16(in) << 12) & (how & 2 ? ~0ULL : ~0xfffULL);
	arg.userspace_addr = 0x10000000 + ((uint64_t)input_pick(in, 4) << 24);
	arg.flags = input_u8(in) & 7;
	arg.huge = how >> 2 & 1;
	arg.fd_readonly = how >> 3 & 1;
	if (how & 16)
		arg.slot = input_u32(in);
	if (how & 32)
		arg.size = input_number(in);
	if (how & 64)
		arg.fd_offset = input_number(in);
	/* The file is as long as a slot that the shadow takes may need: a glue that truncates it hurts its own guest only. */
	fd = rig_memfd(0x400000, NULL);
	memset(payload, 0, 64);
	memcpy(payload, &arg, sizeof(arg));
	rig_ask(CHANNEL_MEMORY, 0, 0, payload, how & 128 ? input_pick(in, 64) : sizeof(arg), &fd, 1);
	close(fd);
}

/* ---- vCPUs ---- */

int rig_vcpu(uint32_t id)
{
	uint32_t n = rig.areas;
	int fds[3];

	if (n == RIG_VCPUS)
		return -1;
	rig.memfd[n] = rig_memfd(CHANNEL_VCPU_SIZE, &rig.area[n]);
	fcntl(rig.memfd[n], F_ADD_SEALS, F_SEAL_SHRINK);
	rig.kick[n] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	rig.done[n] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	rig.areas++;
	fds[0] = rig.memfd[n];
	fds[1] = rig.kick[n];
	fds[2] = rig.done[n];
	if (rig_ask(CHANNEL_VCPU, 0, id, NULL, 0, fds, 3) == 0) {
		rig.area_thread[n] = rig.threads - 1;
		return (int)n;
	}
	munmap(rig.area[n], CHANNEL_VCPU_SIZE);
	rig.areas--;
	return -1;
}

/* Often with what is no vCPU's memfd. */
void rig_step_vcpu(struct input *in)
{
	uint8_t how = input_u8(in);
	int fds[3] = { rig.event[0], rig.event[1], rig.event[2] }, memfd;

	if (!(how & 3)) {
		rig_vcpu(how >> 2);
		return;
	}
	memfd = rig_memfd((uint64_t)input_u16(in) << 3, NULL);
	if (how & 4)
		fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK);
	fds[0] = memfd;
	rig_ask(CHANNEL_VCPU, 0, input_number(in), NULL, 0, fds, 1 + (how >> 4 & 1) + (how >> 5 & 1));
	close(memfd);
}

static void thread_go(uint32_t n)
{
	if (n >= rig.threads)
		return;
	fuzz_may_sleep = true;
	if (!setjmp(fuzz_sleep)) {
		if (n)
			vcpu_set_current(rig.thread_arg[n]);
		rig.thread[n](rig.thread_arg[n]);
	}
	vcpu_set_current(NULL);
	fuzz_may_sleep = false;
}

static void ring(uint32_t n, uint8_t bell)
{
	rig.area[n][CHANNEL_BELL_BYTE] = bell;
	thread_go(rig.area_thread[n]);
	fuzz_assert(rig.area[n][CHANNEL_BELL_BYTE] == CHANNEL_IDLE); /* answered, whatever it was */
}

static struct channel_vcpu *channel_of(uint32_t n)
{
	return (struct channel_vcpu *)(rig.area[n] + CHANNEL_VCPU_OFFSET);
}

static bool pick_vcpu(struct input *in, uint32_t *n)
{
	if (!rig.areas || !rig.vm.vcpus)
		return false;
	*n = input_pick(in, rig.areas);
	return true;
}

/* KVM_RUN, with the VMM's answer to the exit before. */
void rig_step_run(struct input *in)
{
	struct kvm_run *kvm;
	uint32_t n;
	uint8_t how = input_u8(in);

	if (!pick_vcpu(in, &n))
		return;
	kvm = (struct kvm_run *)rig.area[n];
	if (kvm->exit_reason == KVM_EXIT_MMIO)
		input_bytes(in, kvm->mmio.data, 8);
	else if (kvm->exit_reason == KVM_EXIT_IO)
		input_bytes(in, rig.area[n] + CHANNEL_PIO_OFFSET, 4);
	else if (kvm->exit_reason == KVM_EXIT_X86_RDMSR)
		kvm->msr.data = input_u32(in);
	if (how & 1)
		kvm->msr.error = how >> 1 & 1;
	kvm->request_interrupt_window = how >> 2 & 1;
	kvm->immediate_exit = (how & 0x18) == 0x18;
	kvm->cr8 = how & 0x20 ? input_u8(in) : 0;
	if (rig.vm.vcpu[n]->mp_state == KVM_MP_STATE_HALTED && how & 0x40)
		rig.vm.vcpu[n]->mp_state = KVM_MP_STATE_RUNNABLE;
	channel_of(n)->stop = 0;
	channel_of(n)->vmm_sleeps = how >> 6 & 3;
	ring(n, CHANNEL_RUN);
}

void rig_step_vcpu_call(struct input *in)
{
	const struct kvm_call *call = &vcpu_calls[input_pick(in, sizeof(vcpu_calls) / sizeof(vcpu_calls[0]))];
	uint8_t how = input_u8(in);
	struct channel_vcpu *channel;
	uint32_t n, size;

	if (!pick_vcpu(in, &n))
		return;
	channel = channel_of(n);
	size = fill(in, call, how);
	channel->nr = call->nr;
	channel->arg = call->size ? 0 : input_number(in);
	channel->size = how & 8 && !(how & 0xf0) ? input_u32(in) : size;
	/* What was read is written back, a little different: nearer to good values than any bytes. */
	if (!(how & 0x10))
		memcpy(rig.area[n] + CHANNEL_PAYLOAD_OFFSET, payload, size);
	else if (size)
		for (uint8_t i = how >> 5; i; i--)
			rig.area[n][CHANNEL_PAYLOAD_OFFSET + input_pick(in, size)] = input_u8(in);
	ring(n, CHANNEL_CALL);
	fuzz_assert(channel->size <= CHANNEL_PAYLOAD_MAX);
}

/* The VMM writes where it likes. */
void rig_step_scribble(struct input *in)
{
	uint32_t n, at;

	if (!pick_vcpu(in, &n))
		return;
	for (uint8_t i = input_u8(in) & 15; i; i--) {
		at = input_u16(in) % (CHANNEL_PAYLOAD_OFFSET + 64);
		if (at != CHANNEL_BELL_BYTE)
			rig.area[n][at] = input_u8(in);
	}
	if (input_u8(in) & 1)
		ring(n, input_u8(in) | 1);
}

/* The interrupt bell; the kick that belongs to it comes with the events. */
static void irq_bell(struct input *in)
{
	static const uint32_t calls[] = { KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI };
	struct channel_irq *irq = (struct channel_irq *)(rig.area[0] + CHANNEL_IRQ_OFFSET);
	uint32_t which = input_pick(in, 4);

	irq->nr = which < 3 ? calls[which] : input_u32(in);
	irq->size = which < 3 ? _IOC_SIZE(irq->nr) : input_u32(in);
	irq->vmm_sleeps = input_u8(in) & 1;
	input_bytes(in, irq->payload, sizeof(irq->payload));
	irq->bell = CHANNEL_IRQ_RUNG;
}

void rig_step_events(struct input *in)
{
	uint8_t what = input_u8(in);
	uint64_t one = 1;
	ssize_t done = 0;
	/* The first vCPU's area; a memfd of another size can have been taken for that one. */
	bool has_bell = rig.areas && rig.area_thread[0] == 1;

	if (what & 0xf)
		for (int i = 0; i < 4; i++)
			if (what >> i & 1)
				done |= write(rig.event[i], &one, sizeof(one));
	if (what & 0x40 && has_bell)
		irq_bell(in);
	if (what & 0x10 && rig.areas) {
		channel_of(0)->stop = what >> 5 & 1;
		done |= write(rig.kick[0], &one, sizeof(one));
	}
	(void)done;
	thread_go(0);
	if ((what & 0x50) == 0x50 && has_bell) {
		struct channel_irq *irq = (struct channel_irq *)(rig.area[0] + CHANNEL_IRQ_OFFSET);

		fuzz_assert(irq->bell == CHANNEL_IRQ_IDLE && irq->size <= CHANNEL_IRQ_PAYLOAD);
	}
}

void rig_step_time(struct input *in)
{
	uint32_t by = input_u32(in);

	fuzz_tsc += by;
	fuzz_ns += by;
	thread_go(0);
}

void rig_step_ram(struct input *in)
{
	uint32_t at = input_u16(in), len = input_pick(in, 24);

	if (!rig.ram)
		return;
	for (uint32_t i = 0; i < len; i++)
		rig.ram[(at * 4ULL + i) % RIG_RAM] = input_u8(in);
}

/* ---- a machine that is ready ---- */

static void tables(void)
{
	uint64_t *pml4 = (uint64_t *)(rig.ram + RIG_TABLES), *pdpt = pml4 + 512, *pd = pml4 + 1024, *pae = pml4 + 1536;

	pml4[0] = pml4[256] = (RIG_TABLES + 0x1000) | 7;
	pdpt[0] = (RIG_TABLES + 0x2000) | 7;
	pdpt[3] = 0xc0000000 | 0x87;
	pae[0] = (RIG_TABLES + 0x2000) | 1;
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = i << 21 | 0x87;
}

void rig_mode(struct vcpu *vcpu, enum rig_mode mode)
{
	struct umbra_run *run = vcpu->run;

	if (mode == RIG_RESET)
		return;
	for (int i = 0; i < 6; i++)
		run->seg[i] = (struct umbra_segment) { .selector = 0x10, .attr = 0xc093, .limit = 0xffffffff };
	run->seg[UMBRA_CS].attr = mode == RIG_LONG ? 0xa09b : 0xc09b;
	run->cr0 = 0x60000011;
	run->rip = RIG_CODE;
	run->gpr[UMBRA_RSP] = 0x7000;
	if (mode >= RIG_PAE) {
		run->cr0 |= X86_CR0_PG;
		run->cr4 = X86_CR4_PAE;
		run->cr3 = mode == RIG_LONG ? RIG_TABLES : RIG_TABLES + 0x3000;
		run->pdpte[0] = (RIG_TABLES + 0x2000) | 1;
	}
	if (mode == RIG_LONG)
		run->efer = X86_EFER_LME | X86_EFER_LMA;
	vcpu_dirty(vcpu, UMBRA_STATE_ALL);
}

/* What CPUID offers is what the guest gets, as most VMMs do. */
static void cpuid(uint32_t n)
{
	struct kvm_cpuid2 head = { .nent = 200 };
	struct channel_vcpu *channel = channel_of(n);

	if (rig_ask(CHANNEL_SYSTEM, KVM_GET_SUPPORTED_CPUID, 0, &head, sizeof(head), NULL, 0) < 0)
		return;
	memcpy(rig.area[n] + CHANNEL_PAYLOAD_OFFSET, rig_reply, rig_reply_size);
	channel->nr = KVM_SET_CPUID2;
	channel->size = rig_reply_size;
	ring(n, CHANNEL_CALL);
	fuzz_assert(channel->ret == 0);
}

void rig_machine(enum rig_irqchip irqchip)
{
	struct channel_memory ram = { .slot = 0, .size = RIG_RAM, .userspace_addr = 0x10000000 };
	struct channel_memory rom = {
		.slot = 1, .flags = KVM_MEM_READONLY, .gpa = RIG_ROM, .size = RIG_ROM_SIZE, .userspace_addr = 0x20000000
	};
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_pit_config pit = { 0 };
	int fd;

	fuzz_assert(!rig_ask(CHANNEL_VM, KVM_CREATE_VM, 0, NULL, 0, NULL, 0));
	if (irqchip == RIG_SPLIT)
		fuzz_assert(!rig_ask(CHANNEL_VM, KVM_ENABLE_CAP, 0, &split, sizeof(split), NULL, 0));
	else if (irqchip != RIG_NONE)
		fuzz_assert(!rig_ask(CHANNEL_VM, KVM_CREATE_IRQCHIP, 0, NULL, 0, NULL, 0));
	if (irqchip == RIG_WHOLE_PIT)
		fuzz_assert(!rig_ask(CHANNEL_VM, KVM_CREATE_PIT2, 0, &pit, sizeof(pit), NULL, 0));
	fd = rig_memfd(RIG_RAM, &rig.ram);
	fuzz_assert(!rig_ask(CHANNEL_MEMORY, 0, 0, &ram, sizeof(ram), &fd, 1));
	close(fd);
	fd = rig_memfd(RIG_ROM_SIZE, NULL);
	fuzz_assert(!rig_ask(CHANNEL_MEMORY, 0, 0, &rom, sizeof(rom), &fd, 1));
	close(fd);
	tables();
	fuzz_assert(rig_vcpu(0) == 0);
	cpuid(0);
}
