// SPDX-License-Identifier: GPL-2.0-or-later
/* VMX's exit reasons and qualifications. (SDM 3C 28.2.1, 3D appendix C) */
#include "exit.h"

/* 0 (VMEXIT_NONE): not known. */
static const __u8 reasons[] = {
	[0] = VMEXIT_EXCEPTION,
	[2] = VMEXIT_SHUTDOWN,
	[7] = VMEXIT_INTR_WINDOW,
	[8] = VMEXIT_NMI_WINDOW,
	[9] = VMEXIT_TASK_SWITCH,
	[10] = VMEXIT_CPUID,
	[11] = VMEXIT_UNDEFINED /* GETSEC */,
	[12] = VMEXIT_HLT,
	[13] = VMEXIT_INVD,
	[14] = VMEXIT_INVLPG,
	[15] = VMEXIT_RDPMC,
	[16] = VMEXIT_RDTSC,
	[18] = VMEXIT_HYPERCALL,
	[19 ... 27] = VMEXIT_UNDEFINED /* the VMX instructions */,
	[28] = VMEXIT_CR,
	[29] = VMEXIT_DR,
	[30] = VMEXIT_IO,
	[31] = VMEXIT_RDMSR,
	[32] = VMEXIT_WRMSR,
	[36] = VMEXIT_MWAIT,
	[39] = VMEXIT_MONITOR,
	[40] = VMEXIT_PAUSE,
	[43] = VMEXIT_TPR,
	[50] = VMEXIT_UNDEFINED /* INVEPT */,
	[51] = VMEXIT_RDTSC,
	[53] = VMEXIT_UNDEFINED /* INVVPID */,
	[54] = VMEXIT_WBINVD,
	[55] = VMEXIT_XSETBV,
	[59] = VMEXIT_UNDEFINED /* VMFUNC */,
	[60] = VMEXIT_UNDEFINED /* ENCLS */,
};

static void read_io(const struct umbra_exit *hw, struct vmexit *exit)
{
	__u64 qual = hw->hw_info;

	exit->io.port = qual >> 16;
	exit->io.size = (qual & 7) + 1;
	exit->io.flags = (qual & 1 << 3 ? VMEXIT_IO_IN : 0) | (qual & 1 << 4 ? VMEXIT_IO_STRING : 0) |
			 (qual & 1 << 5 ? VMEXIT_IO_REP : 0);
	exit->io.addr_size = 0;
	exit->io.seg = UMBRA_ES; /* the place held other exits' operands before */
	if (!(qual & 1 << 4))
		return;
	exit->io.addr_size = 2 << (hw->hw_detail >> 7 & 3);
	exit->io.seg = qual & 1 << 3 ? UMBRA_ES : hw->hw_detail >> 15 & 7; /* means nothing for INS */
}

static void read_exception(const struct umbra_exit *hw, struct vmexit *exit)
{
	exit->exc.vector = hw->hw_detail & 0xff;
	exit->exc.has_error_code = hw->hw_detail >> 11 & 1;
	exit->exc.error_code = exit->exc.has_error_code ? hw->hw_error_code : 0;
	exit->exc.payload = exit->exc.vector == 1 || exit->exc.vector == 14 ? hw->hw_info : 0;
}

static void read_hardware(const struct umbra_exit *hw, struct vmexit *exit)
{
	__u64 qual = hw->hw_info;

	exit->reason = hw->hw_reason < sizeof(reasons) ? reasons[hw->hw_reason] : VMEXIT_NONE;
	exit->insn_len = hw->insn_len;
	switch (exit->reason) {
	case VMEXIT_IO:
		read_io(hw, exit);
		break;
	case VMEXIT_EXCEPTION:
		read_exception(hw, exit);
		break;
	case VMEXIT_CR:
		exit->cr.cr = qual & 15;
		exit->cr.op = qual >> 4 & 3;
		exit->cr.gpr = qual >> 8 & 15;
		exit->cr.lmsw = qual >> 16 & 0xffff;
		break;
	case VMEXIT_DR:
		exit->dr.dr = qual & 7;
		exit->dr.write = !(qual & 1 << 4);
		exit->dr.gpr = qual >> 8 & 15;
		break;
	case VMEXIT_INVLPG:
		exit->mem.gva = qual;
		break;
	case VMEXIT_TASK_SWITCH:
		exit->task.selector = qual & 0xffff;
		exit->task.source = qual >> 30 & 3;
		break;
	case VMEXIT_SHUTDOWN:
	case VMEXIT_INTR_WINDOW:
	case VMEXIT_NMI_WINDOW:
	case VMEXIT_TPR:
		exit->insn_len = 0; /* no instruction */
		break;
	case VMEXIT_NONE:
		exit->reason = VMEXIT_UNKNOWN;
		exit->bad.rule = 0;
		exit->bad.hw_reason = hw->hw_reason;
		exit->bad.hw_info = qual;
		break;
	}
}

void exit_read_shim(const struct umbra_exit *hw, struct vmexit *exit)
{
	exit->insn_len = 0;
	switch (hw->reason) {
	case UMBRA_EXIT_MEM:
		exit->reason = VMEXIT_MEM;
		exit->mem.gpa = hw->gpa;
		exit->mem.gva = hw->gva;
		exit->mem.access = hw->access;
		exit->mem.error = hw->error;
		break;
	case UMBRA_EXIT_BAD_STATE:
		exit->reason = VMEXIT_BAD_STATE;
		exit->bad.rule = hw->rule;
		exit->bad.hw_reason = hw->hw_reason;
		exit->bad.hw_info = hw->hw_info;
		break;
	default: /* NONE, INTERRUPTED, DEADLINE: the same numbers */
		exit->reason = hw->reason;
	}
}

void exit_read_vmx(const struct umbra_run *run, struct vmexit *exit)
{
	const struct umbra_exit *hw = &run->exit;

	if (__builtin_expect(hw->reason == UMBRA_EXIT_HARDWARE, 1))
		read_hardware(hw, exit);
	else
		exit_read_shim(hw, exit);
}
