// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <string.h>

#include "core.h"
#include "cpuid.h"
#include "fault.h"
#include "msr.h"
#include "routing.h"
#include "sys.h"
#include "vcpu.h"

/* ---- ports ---- */

/* The instruction is over when the VMM calls KVM_RUN again, unless it has set other registers meanwhile. */
static int io_out_complete(struct vcpu *vcpu)
{
	if (vcpu->run->rip == vcpu->resume->rip)
		vcpu_skip_insn(vcpu);
	return EXIT_RESUME;
}

/* What of RAX it is: four bytes clear the upper half. */
static uint64_t io_mask(uint32_t size)
{
	return size >= 4 ? ~0ULL : (1ULL << size * 8) - 1;
}

static void io_in_put(struct vcpu *vcpu, uint32_t size, uint32_t value)
{
	__u64 *rax = &vcpu->run->gpr[UMBRA_RAX];
	uint64_t mask = io_mask(size);

	*rax = (*rax & ~mask) | (value & mask);
	FAULT_POINT(port_in, vcpu, NULL, size);
	vcpu_skip_insn(vcpu);
}

static int io_in_complete(struct vcpu *vcpu)
{
	uint32_t value;

	if (vcpu->run->rip != vcpu->resume->rip)
		return EXIT_RESUME;
	memcpy(&value, vcpu->pio, sizeof(value)); /* more than was asked for, in the same page */
	io_in_put(vcpu, vcpu->resume->pio_size, value);
	return EXIT_RESUME;
}

static int io_to_user(struct vcpu *vcpu, bool in, uint16_t port, uint8_t size)
{
	struct kvm_run *kvm = vcpu->kvm;
	uint32_t value;

	if (!in) {
		value = (uint32_t)(vcpu->run->gpr[UMBRA_RAX] & io_mask(size));
		memcpy(vcpu->pio, &value, sizeof(value));
	}
	vcpu->resume->rip = vcpu->run->rip;
	vcpu->resume->pio_size = size;
	kvm->exit_reason = KVM_EXIT_IO;
	kvm->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	kvm->io.size = size;
	kvm->io.port = port;
	kvm->io.count = 1;
	kvm->io.data_offset = CHANNEL_PIO_OFFSET;
	vcpu->complete = in ? io_in_complete : io_out_complete;
	return EXIT_USER;
}

/* Apart, since almost all exits are for the VMM, and those need no stack frame then. */
static __attribute__((noinline)) int io_here(struct vcpu *vcpu, bool in, uint16_t port, uint8_t size)
{
	uint32_t value = (uint32_t)(vcpu->run->gpr[UMBRA_RAX] & io_mask(size));

	if (!in) {
		if (!bus_port_out(vcpu, port, size, &value))
			return io_to_user(vcpu, in, port, size);
		vcpu_skip_insn(vcpu);
		return EXIT_RESUME;
	}
	value = 0;
	if (!bus_port_in(vcpu, port, size, &value))
		return io_to_user(vcpu, in, port, size);
	io_in_put(vcpu, size, value);
	return EXIT_RESUME;
}

static int exit_io(struct vcpu *vcpu)
{
	const struct vmexit *exit = &vcpu->exit;
	bool in = exit->io.flags & VMEXIT_IO_IN;
	uint16_t port = exit->io.port;
	uint8_t size = exit->io.size;

	if (exit->io.flags & VMEXIT_IO_STRING)
		return access_emulate(vcpu);
	if (size != 1 && size != 2 && size != 4)
		return -EINVAL;
	return bus_has_port(vcpu, !in, port, size) ? io_here(vcpu, in, port, size) : io_to_user(vcpu, in, port, size);
}

/* ---- memory ---- */

#define RETRIES 16 /* a slot that is just being moved is back by then; if not, the emulator does the access */

/* The slot that was missing is there by now: the CPU does the instruction itself, LOCK and all. */
static bool mem_is_back(struct vcpu *vcpu)
{
	const struct vmexit *exit = &vcpu->exit;

	if (bus_has_mmio(vcpu, exit->mem.gpa) ||
	    !vm_gpa_to_hva(vcpu->vm, exit->mem.gpa, 1, exit->mem.access & UMBRA_MEM_WRITE)) {
		vcpu->mem_retries = 0;
		return false;
	}
	if (vcpu->mem_retried != exit->mem.gpa) {
		vcpu->mem_retried = exit->mem.gpa;
		vcpu->mem_retries = 0;
	}
	if (++vcpu->mem_retries > RETRIES)
		return false;
	sys_sched_yield();
	return true;
}

static int exit_mem(struct vcpu *vcpu)
{
	const struct vmexit *exit = &vcpu->exit;

	FAULT_RETURN(exit_mem, vcpu, NULL, exit->mem.gpa);
	if (exit->mem.access & UMBRA_MEM_FIRST) {
		vm_first_touch(vcpu->vm, exit->mem.gpa);
		return EXIT_RESUME;
	}
	/* The VMM's own memory is not to be had there: KVM_RUN fails so. */
	if (exit->mem.access & UMBRA_MEM_FAULT)
		return -EFAULT;
	if (mem_is_back(vcpu))
		return EXIT_RESUME;
	if ((exit->mem.access & UMBRA_MEM_GVA) && !(exit->mem.access & (UMBRA_MEM_WALK | UMBRA_MEM_EXEC)))
		access_hint(vcpu, exit->mem.gva, exit->mem.gpa, exit->mem.access);
	return access_emulate(vcpu);
}

/* ---- CPUID, MSRs ---- */

static int exit_cpuid(struct vcpu *vcpu)
{
	cpuid_exit(vcpu);
	return EXIT_QUICK;
}

static int msr_to_vmm(struct vcpu *vcpu, uint32_t msr, bool write, uint64_t value, uint32_t reason)
{
	struct kvm_run *kvm = vcpu->kvm;

	vcpu->resume->rip = vcpu->run->rip;
	kvm->exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	kvm->msr.error = 0;
	memset(kvm->msr.pad, 0, sizeof(kvm->msr.pad));
	kvm->msr.reason = reason;
	kvm->msr.index = msr;
	kvm->msr.data = value;
	return EXIT_USER;
}

static int msr_complete(struct vcpu *vcpu, bool read)
{
	struct umbra_run *run = vcpu->run;
	uint64_t value = vcpu->kvm->msr.data;

	if (run->rip != vcpu->resume->rip)
		return EXIT_RESUME;
	if (vcpu->kvm->msr.error) {
		inject_gp(vcpu);
		return EXIT_RESUME;
	}
	if (read) {
		run->gpr[UMBRA_RAX] = (uint32_t)value;
		run->gpr[UMBRA_RDX] = value >> 32;
	}
	vcpu_skip_insn(vcpu);
	return EXIT_RESUME;
}

static int rdmsr_complete(struct vcpu *vcpu)
{
	return msr_complete(vcpu, true);
}

static int wrmsr_complete(struct vcpu *vcpu)
{
	return msr_complete(vcpu, false);
}

static int msr_failed(struct vcpu *vcpu, uint32_t msr, bool write, uint64_t value)
{
	uint32_t reason = msr_to_user(vcpu, msr, write, true);

	if (reason) {
		vcpu->complete = write ? wrmsr_complete : rdmsr_complete;
		return msr_to_vmm(vcpu, msr, write, value, reason);
	}
	inject_gp(vcpu);
	return EXIT_RESUME;
}

static int exit_rdmsr(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint32_t msr = (uint32_t)run->gpr[UMBRA_RCX];
	uint64_t value;

	if (__builtin_expect(msr_read(vcpu, msr, &value, false) < 0, 0))
		return msr_failed(vcpu, msr, false, 0);
	run->gpr[UMBRA_RAX] = (uint32_t)value;
	run->gpr[UMBRA_RDX] = value >> 32;
	vcpu_skip_insn(vcpu);
	return EXIT_QUICK;
}

/* MSRs whose writing may change what is to be injected. */
static bool msr_is_apic(uint32_t msr)
{
	return (msr >= 0x800 && msr <= 0x8ff) || msr == 0x1b;
}

static int exit_wrmsr(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint32_t msr = (uint32_t)run->gpr[UMBRA_RCX];
	uint64_t value = (uint32_t)run->gpr[UMBRA_RAX] | run->gpr[UMBRA_RDX] << 32;
	int ret = msr_write(vcpu, msr, value, false);

	FAULT_POINT(exit_wrmsr, vcpu, NULL, msr);
	if (__builtin_expect(ret < 0, 0))
		return msr_failed(vcpu, msr, true, value);
	vcpu_skip_insn(vcpu);
	if (__builtin_expect(ret == 1, 0))
		return EXIT_USER;
	return msr_is_apic(msr) ? EXIT_RESUME : EXIT_QUICK;
}

/* ---- instructions that end at once ---- */

static int exit_resume(struct vcpu *vcpu)
{
	(void)vcpu;
	return EXIT_RESUME; /* the loop looks at requests, timers and events */
}

static int exit_nmi_window(struct vcpu *vcpu)
{
	if (vcpu->svm)
		inject_iret(vcpu);
	return EXIT_RESUME;
}

static int exit_skip(struct vcpu *vcpu)
{
	vcpu_skip_insn(vcpu); /* caches: the guest's memory is coherent. MONITOR and MWAIT: nothing, as in KVM */
	return EXIT_RESUME;
}

static int exit_gp(struct vcpu *vcpu)
{
	inject_gp(vcpu);
	return EXIT_RESUME;
}

static int exit_pause(struct vcpu *vcpu)
{
	vcpu_skip_insn(vcpu);
	if (!turns_spin(vcpu))
		sys_sched_yield();
	return EXIT_RESUME;
}

static int exit_hlt(struct vcpu *vcpu)
{
	vcpu_skip_insn(vcpu);
	if (vm_has_lapics(vcpu->vm)) {
		vcpu->mp_state = KVM_MP_STATE_HALTED;
		return EXIT_RESUME;
	}
	vcpu->kvm->exit_reason = KVM_EXIT_HLT;
	return EXIT_USER;
}

static int exit_invlpg(struct vcpu *vcpu)
{
	vcpu->run->flags |= UMBRA_RUN_FLUSH_TLB;
	vcpu_skip_insn(vcpu);
	return EXIT_RESUME;
}

static int exit_rdtsc(struct vcpu *vcpu)
{
	uint64_t tsc = cpu_rdtsc() + vcpu->run->tsc_offset;

	vcpu->run->gpr[UMBRA_RAX] = (uint32_t)tsc;
	vcpu->run->gpr[UMBRA_RDX] = tsc >> 32;
	vcpu_skip_insn(vcpu);
	return EXIT_RESUME;
}

/* ---- ends ---- */

static int exit_shutdown(struct vcpu *vcpu)
{
	FAULT_POINT(exit_shutdown, vcpu, NULL, 0);
	if (vcpu->svm) /* leaves no state that means anything (APM 2 15.14.3) */
		vcpu_reset(vcpu, true);
	vcpu->kvm->exit_reason = KVM_EXIT_SHUTDOWN;
	return EXIT_USER;
}

static int exit_task_switch(struct vcpu *vcpu)
{
	return access_internal_error(vcpu, NULL, 0);
}

static int exit_bad_state(struct vcpu *vcpu)
{
	struct kvm_run *kvm = vcpu->kvm;

	explain_bad_state(vcpu);
	kvm->exit_reason = KVM_EXIT_FAIL_ENTRY;
	kvm->fail_entry.hardware_entry_failure_reason = vcpu->exit.bad.hw_reason;
	if (!kvm->fail_entry.hardware_entry_failure_reason) /* "invalid guest state", which VMMs know */
		kvm->fail_entry.hardware_entry_failure_reason = 0x80000021;
	kvm->fail_entry.cpu = 0xffffffff;
	return EXIT_USER;
}

static int exit_unknown(struct vcpu *vcpu)
{
	vcpu->kvm->exit_reason = KVM_EXIT_UNKNOWN;
	vcpu->kvm->hw.hardware_exit_reason = vcpu->exit.bad.hw_reason;
	return EXIT_USER;
}

static int (*const handlers[VMEXIT_REASONS])(struct vcpu *) = {
	[VMEXIT_NONE] = exit_resume,
	[VMEXIT_INTERRUPTED] = exit_resume,
	[VMEXIT_DEADLINE] = exit_resume,
	[VMEXIT_IO] = exit_io,
	[VMEXIT_MEM] = exit_mem,
	[VMEXIT_CPUID] = exit_cpuid,
	[VMEXIT_RDMSR] = exit_rdmsr,
	[VMEXIT_WRMSR] = exit_wrmsr,
	[VMEXIT_HLT] = exit_hlt,
	[VMEXIT_CR] = exit_cr,
	[VMEXIT_DR] = exit_dr,
	[VMEXIT_XSETBV] = exit_xsetbv,
	[VMEXIT_EXCEPTION] = exit_exception,
	[VMEXIT_INTR_WINDOW] = exit_resume,
	[VMEXIT_NMI_WINDOW] = exit_nmi_window,
	[VMEXIT_SHUTDOWN] = exit_shutdown,
	[VMEXIT_PAUSE] = exit_pause,
	[VMEXIT_INVD] = exit_skip,
	[VMEXIT_WBINVD] = exit_skip,
	[VMEXIT_INVLPG] = exit_invlpg,
	[VMEXIT_RDPMC] = exit_gp, /* no PMU */
	[VMEXIT_RDTSC] = exit_rdtsc,
	[VMEXIT_MONITOR] = exit_skip,
	[VMEXIT_MWAIT] = exit_skip,
	[VMEXIT_HYPERCALL] = exit_hypercall,
	[VMEXIT_UNDEFINED] = exit_undefined,
	[VMEXIT_TASK_SWITCH] = exit_task_switch,
	[VMEXIT_TPR] = exit_resume,
	[VMEXIT_BAD_STATE] = exit_bad_state,
	[VMEXIT_UNKNOWN] = exit_unknown,
};

int vcpu_handle_exit(struct vcpu *vcpu)
{
	uint32_t reason = vcpu->exit.reason;

	if (__builtin_expect(reason >= VMEXIT_REASONS, 0))
		reason = VMEXIT_UNKNOWN;
	vcpu->exits[reason]++;
	return handlers[reason](vcpu);
}
