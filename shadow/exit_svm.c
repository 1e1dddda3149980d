// SPDX-License-Identifier: GPL-2.0-or-later
/* SVM's exit codes and EXITINFO fields. (APM 2 appendix C, 15.7 to 15.12) */
#include "exit.h"

#define EXIT_CR 0x00	    /* 0x00-0x0f: read of CR0-15; 0x10-0x1f: write */
#define EXIT_DR 0x20	    /* 0x20-0x2f: read of DR0-15; 0x30-0x3f: write */
#define EXIT_EXCEPTION 0x40 /* 0x40-0x5f: by vector */
#define EXIT_OTHER 0x60
#define EXIT_CR0_SEL_WRITE 0x65
#define EXIT_MSR 0x7c
#define EXIT_ICEBP 0x88

#define DR6_FRESH 0xffff0ff0ULL /* what the guest's DR6 was at entry */
#define EXC_WITH_CODE (1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30)

/* From EXIT_OTHER on; 0 (VMEXIT_NONE): not known. */
static const __u8 reasons[] = {
	[0x64 - EXIT_OTHER] = VMEXIT_INTR_WINDOW,
	[EXIT_CR0_SEL_WRITE - EXIT_OTHER] = VMEXIT_CR,
	[0x6e - EXIT_OTHER] = VMEXIT_RDTSC,
	[0x6f - EXIT_OTHER] = VMEXIT_RDPMC,
	[0x72 - EXIT_OTHER] = VMEXIT_CPUID,
	[0x73 - EXIT_OTHER] = VMEXIT_UNDEFINED /* RSM */,
	[0x74 - EXIT_OTHER] = VMEXIT_NMI_WINDOW /* IRET, before it is executed */,
	[0x76 - EXIT_OTHER] = VMEXIT_INVD,
	[0x77 - EXIT_OTHER] = VMEXIT_PAUSE,
	[0x78 - EXIT_OTHER] = VMEXIT_HLT,
	[0x7a - EXIT_OTHER] = VMEXIT_UNDEFINED /* INVLPGA */,
	[0x7b - EXIT_OTHER] = VMEXIT_IO,
	[EXIT_MSR - EXIT_OTHER] = VMEXIT_RDMSR,
	[0x7d - EXIT_OTHER] = VMEXIT_TASK_SWITCH,
	[0x7f - EXIT_OTHER] = VMEXIT_SHUTDOWN,
	[0x80 - EXIT_OTHER] = VMEXIT_UNDEFINED /* VMRUN */,
	[0x81 - EXIT_OTHER] = VMEXIT_HYPERCALL,
	[0x82 - EXIT_OTHER... 0x86 - EXIT_OTHER] = VMEXIT_UNDEFINED /* VMLOAD VMSAVE STGI CLGI SKINIT */,
	[EXIT_ICEBP - EXIT_OTHER] = VMEXIT_EXCEPTION,
	[0x89 - EXIT_OTHER] = VMEXIT_WBINVD,
	[0x8a - EXIT_OTHER] = VMEXIT_MONITOR,
	[0x8b - EXIT_OTHER... 0x8c - EXIT_OTHER] = VMEXIT_MWAIT,
	[0x8d - EXIT_OTHER] = VMEXIT_XSETBV,
	[0x8e - EXIT_OTHER] = VMEXIT_UNDEFINED /* RDPRU */,
	[0xa0 - EXIT_OTHER... 0xa1 - EXIT_OTHER] = VMEXIT_UNDEFINED /* INVLPGB */,
	[0xa3 - EXIT_OTHER... 0xa4 - EXIT_OTHER] = VMEXIT_UNDEFINED /* MCOMMIT, TLBSYNC */,
};

/* APM 2 15.10.2. The segment is there with decode assists only; string I/O is decoded anew anyway. */
static void read_io(const struct umbra_exit *hw, __u64 rip, struct vmexit *exit)
{
	__u64 info = hw->hw_info;

	exit->io.port = info >> 16;
	exit->io.size = info >> 4 & 7;
	exit->io.flags = (info & 1 << 0 ? VMEXIT_IO_IN : 0) | (info & 1 << 2 ? VMEXIT_IO_STRING : 0) |
			 (info & 1 << 3 ? VMEXIT_IO_REP : 0);
	exit->io.addr_size = (info >> 7 & 7) * 2;
	exit->io.seg = info & 1 << 0 ? UMBRA_ES : UMBRA_DS;
	if (hw->hw_info2 - rip <= 15) /* the next RIP, whatever else the CPU saves */
		exit->insn_len = hw->hw_info2 - rip;
}

/* APM 2 15.12 */
static void read_exception(const struct umbra_exit *hw, struct vmexit *exit)
{
	__u8 vector = hw->hw_reason - EXIT_EXCEPTION;

	exit->reason = VMEXIT_EXCEPTION;
	exit->insn_len = 0;
	exit->exc.vector = vector;
	exit->exc.has_error_code = (__u32)EXC_WITH_CODE >> vector & 1;
	exit->exc.error_code = exit->exc.has_error_code ? hw->hw_info : 0;
	exit->exc.payload = 0;
	if (vector == 14)
		exit->exc.payload = hw->hw_info2;
	else if (vector == 1)
		exit->exc.payload = (hw->hw_info2 ^ DR6_FRESH) & 0xffffffff;
}

static void read_icebp(struct vmexit *exit)
{
	exit->exc.vector = 1;
	exit->exc.has_error_code = 0;
	exit->exc.error_code = 0;
	exit->exc.payload = 0;
	if (!exit->insn_len)
		exit->insn_len = 1; /* what tells it from other #DB */
}

/* APM 2 15.14.1 */
static void read_task_switch(const struct umbra_exit *hw, struct vmexit *exit)
{
	exit->task.selector = hw->hw_info & 0xffff;
	if (hw->hw_info2 >> 36 & 1)
		exit->task.source = 1;
	else if (hw->hw_info2 >> 38 & 1)
		exit->task.source = 2;
	else
		exit->task.source = hw->event.flags & UMBRA_EVENT_VALID ? 3 : 0;
}

static void read_register(const struct umbra_exit *hw, struct vmexit *exit)
{
	if (hw->hw_reason >= EXIT_DR) {
		exit->reason = VMEXIT_DR;
		exit->dr.dr = hw->hw_reason & 15;
		exit->dr.write = hw->hw_reason >> 4 & 1;
		exit->dr.gpr = VMEXIT_GPR_UNKNOWN;
		return;
	}
	exit->reason = VMEXIT_CR;
	exit->cr.cr = hw->hw_reason & 15;
	exit->cr.op = hw->hw_reason & 0x10 ? VMEXIT_CR_UNKNOWN : VMEXIT_CR_MOV_FROM;
	exit->cr.gpr = VMEXIT_GPR_UNKNOWN;
	exit->cr.lmsw = 0;
}

static void read_other(const struct umbra_exit *hw, __u64 rip, struct vmexit *exit)
{
	exit->reason = hw->hw_reason - EXIT_OTHER < sizeof(reasons) ? reasons[hw->hw_reason - EXIT_OTHER] : VMEXIT_NONE;
	switch (exit->reason) {
	case VMEXIT_IO:
		read_io(hw, rip, exit);
		break;
	case VMEXIT_RDMSR:
		if (hw->hw_info & 1)
			exit->reason = VMEXIT_WRMSR;
		break;
	case VMEXIT_CR: /* CR0_SEL_WRITE */
		exit->cr.cr = 0;
		exit->cr.op = VMEXIT_CR_UNKNOWN;
		exit->cr.gpr = VMEXIT_GPR_UNKNOWN;
		exit->cr.lmsw = 0;
		break;
	case VMEXIT_EXCEPTION:
		read_icebp(exit);
		break;
	case VMEXIT_TASK_SWITCH:
		read_task_switch(hw, exit);
		break;
	case VMEXIT_SHUTDOWN:
	case VMEXIT_INTR_WINDOW:
	case VMEXIT_NMI_WINDOW: /* nobody is to step over the IRET */
		exit->insn_len = 0;
		break;
	case VMEXIT_NONE:
		exit->reason = VMEXIT_UNKNOWN;
		exit->bad.rule = 0;
		exit->bad.hw_reason = hw->hw_reason;
		exit->bad.hw_info = hw->hw_info;
		break;
	}
}

void exit_read_svm(const struct umbra_run *run, struct vmexit *exit)
{
	const struct umbra_exit *hw = &run->exit;

	if (__builtin_expect(hw->reason != UMBRA_EXIT_HARDWARE, 0)) {
		exit_read_shim(hw, exit);
		return;
	}
	exit->insn_len = hw->insn_len;
	if (hw->hw_reason >= EXIT_OTHER)
		read_other(hw, run->rip, exit);
	else if (hw->hw_reason >= EXIT_EXCEPTION)
		read_exception(hw, exit);
	else
		read_register(hw, exit);
}
