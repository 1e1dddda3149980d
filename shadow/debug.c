// SPDX-License-Identifier: GPL-2.0-or-later
/* Intercepted exceptions, and the VMM's debugger (KVM_SET_GUEST_DEBUG). */
#include <string.h>

#include "core.h"
#include "vcpu.h"

/* For the time of one entry the VMM's breakpoints take the place of the guest's, and TF is set for its single step. */
void debug_enter(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint32_t mode = vcpu->guest_debug;

	if (mode & KVM_GUESTDBG_SINGLESTEP || vcpu->careful & CAREFUL_IRET) {
		vcpu->debug_tf = !(run->rflags & X86_RFLAGS_TF);
		run->rflags |= X86_RFLAGS_TF;
		vcpu_dirty(vcpu, UMBRA_STATE_RIP);
	}
	if ((mode & KVM_GUESTDBG_USE_HW_BP) && !vcpu->debug_drs) {
		vcpu_fetch(vcpu, UMBRA_STATE_DR);
		memcpy(vcpu->debug_saved, run->dr, sizeof(run->dr));
		vcpu->debug_saved[4] = run->dr7;
		memcpy(run->dr, vcpu->guest_debug_regs.debugreg, sizeof(run->dr));
		run->dr7 = (vcpu->guest_debug_regs.debugreg[7] & 0xffff2bff) | X86_DR7_FIXED;
		vcpu_dirty(vcpu, UMBRA_STATE_DR);
		vcpu->debug_drs = true;
	}
}

/* Whoever looks at the state after the exit sees the guest's own. Guests cannot change DRs without an exit. */
void debug_leave(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;

	if (vcpu->debug_drs) {
		memcpy(run->dr, vcpu->debug_saved, sizeof(run->dr));
		run->dr7 = vcpu->debug_saved[4];
		vcpu->valid |= UMBRA_STATE_DR;
		vcpu_dirty(vcpu, UMBRA_STATE_DR);
		vcpu->debug_drs = false;
	}
	if (vcpu->debug_tf) {
		vcpu->debug_tf = false;
		if (vcpu->careful & CAREFUL_IRET && run->rip != vcpu->iret_rip)
			return; /* the IRET is done and has loaded RFLAGS */
		run->rflags &= ~X86_RFLAGS_TF;
		vcpu_dirty(vcpu, UMBRA_STATE_RIP);
	}
}

int debug_exit(struct vcpu *vcpu, uint8_t vector, uint64_t dr6)
{
	struct kvm_run *kvm = vcpu->kvm;
	struct umbra_run *run = vcpu->run;
	bool hw = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP;

	vcpu_fetch(vcpu, UMBRA_STATE_SEG_CODE | UMBRA_STATE_DR | UMBRA_STATE_CR);
	kvm->exit_reason = KVM_EXIT_DEBUG;
	kvm->debug.arch.exception = vector;
	kvm->debug.arch.pad = 0;
	kvm->debug.arch.pc = run->rip + (vcpu_code64(vcpu) ? 0 : run->seg[UMBRA_CS].base);
	kvm->debug.arch.dr6 = dr6 | X86_DR6_ACTIVE_LOW;
	kvm->debug.arch.dr7 = hw ? vcpu->guest_debug_regs.debugreg[7] : run->dr7;
	return EXIT_USER;
}

static int exception_db(struct vcpu *vcpu, uint64_t payload, uint8_t insn_len)
{
	if (vcpu->careful & CAREFUL_IRET && !insn_len) {
		payload = inject_iret_done(vcpu, payload);
		if (!payload)
			return EXIT_RESUME;
	}
	if ((vcpu->guest_debug & KVM_GUESTDBG_ENABLE) &&
	    (vcpu->guest_debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)) && !insn_len)
		return debug_exit(vcpu, EXC_DB, payload);
	if (insn_len) /* INT1: no DR6 bit, and the instruction is over */
		inject_soft_exception(vcpu, EXC_DB, UMBRA_EVENT_ICEBP, insn_len);
	else
		inject_debug(vcpu, payload);
	return EXIT_RESUME;
}

int exit_exception(struct vcpu *vcpu)
{
	struct vmexit *exit = &vcpu->exit;
	uint8_t vector = exit->exc.vector, insn_len = exit->insn_len;

	if (vcpu->careful & CAREFUL_IRET && vector != EXC_DB && vector != EXC_MC)
		inject_iret_done(vcpu, X86_DR6_BS); /* one that faults unblocks, too (SDM 3A 6.7.1) */
	switch (vector) {
	case EXC_DB:
		return exception_db(vcpu, exit->exc.payload, insn_len);
	case EXC_BP:
		if (vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP)
			return debug_exit(vcpu, EXC_BP, 0);
		inject_soft_exception(vcpu, EXC_BP, UMBRA_EVENT_SOFT_EXC, insn_len ? insn_len : 1);
		return EXIT_RESUME;
	case EXC_UD: /* the other vendor's hypercall instruction, in a guest that was made for its CPUs */
		exit->insn_len = 0;
		return exit_undefined(vcpu);
	case EXC_MC: /* the host's, and the host has handled it */
		return EXIT_RESUME;
	case EXC_PF:
		inject_page_fault(vcpu, exit->exc.payload, exit->exc.error_code);
		return EXIT_RESUME;
	default:
		if (exit->exc.has_error_code)
			inject_exception_code(vcpu, vector & 31, exit->exc.error_code);
		else
			inject_exception(vcpu, vector & 31);
		return EXIT_RESUME;
	}
}
