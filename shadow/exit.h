/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_EXIT_H
#define UMBRA_EXIT_H

#include "umbra_abi.h"

/*
 * Why a guest exited, in terms that no vendor owns. The shim hands on what the hardware says; decoding it needs no
 * privilege, so it happens here (exit_vmx.c, exit_svm.c).
 */
enum vmexit_reason {
	VMEXIT_NONE,	    /* UMBRA_EXIT_NONE */
	VMEXIT_INTERRUPTED, /* UMBRA_EXIT_INTERRUPTED */
	VMEXIT_DEADLINE,    /* UMBRA_EXIT_DEADLINE */
	VMEXIT_IO,	    /* IN, OUT, INS, OUTS [io] */
	VMEXIT_MEM,	    /* guest-physical access that no region allows [mem] */
	VMEXIT_CPUID,
	VMEXIT_RDMSR,
	VMEXIT_WRMSR,
	VMEXIT_HLT,
	VMEXIT_CR, /* MOV to or from CR0, CR3, CR4, CR8, CLTS, LMSW [cr] */
	VMEXIT_DR, /* MOV to or from a debug register [dr] */
	VMEXIT_XSETBV,
	VMEXIT_EXCEPTION, /* an intercepted exception, not delivered [exc] */
	VMEXIT_INTR_WINDOW,
	VMEXIT_NMI_WINDOW,
	VMEXIT_SHUTDOWN, /* triple fault */
	VMEXIT_PAUSE,
	VMEXIT_INVD,
	VMEXIT_WBINVD,
	VMEXIT_INVLPG, /* [mem].gva */
	VMEXIT_RDPMC,
	VMEXIT_RDTSC,
	VMEXIT_MONITOR,
	VMEXIT_MWAIT,
	VMEXIT_HYPERCALL,   /* VMCALL, VMMCALL: where hardware tells it from the others below */
	VMEXIT_UNDEFINED,   /* an instruction that guests do not have (VMX, SVM, GETSEC, ...): owes the guest a #UD */
	VMEXIT_TASK_SWITCH, /* [task] */
	VMEXIT_TPR,	    /* the guest's TPR fell below tpr_threshold; after the instruction */
	VMEXIT_BAD_STATE,   /* the state handed in cannot be entered; nothing ran [bad] */
	VMEXIT_UNKNOWN,	    /* a reason that exit_*.c does not know [bad] */
	VMEXIT_REASONS,
};

#define VMEXIT_IO_IN (1 << 0)
#define VMEXIT_IO_STRING (1 << 1)
#define VMEXIT_IO_REP (1 << 2)

#define VMEXIT_CR_MOV_TO 0
#define VMEXIT_CR_MOV_FROM 1
#define VMEXIT_CR_CLTS 2
#define VMEXIT_CR_LMSW 3
#define VMEXIT_CR_SMSW 4    /* SVM: also done when the exit handler sees it */
#define VMEXIT_CR_UNKNOWN 5 /* the hardware names only the register: the instruction says the rest (insn.c) */
#define VMEXIT_GPR_UNKNOWN 0xff

struct vmexit {
	__u32 reason;  /* VMEXIT_* */
	__u8 insn_len; /* bytes of the instruction that exited; 0: unknown, or not caused by an instruction */
	union {
		struct {
			__u16 port;
			__u8 size;	/* 1, 2, 4 bytes */
			__u8 flags;	/* VMEXIT_IO_* */
			__u8 addr_size; /* string only: 2, 4, 8 bytes */
			__u8 seg;	/* string only: index of seg[] */
		} io;
		struct {
			__u64 gpa;
			__u64 gva;
			__u32 access; /* UMBRA_MEM_* */
			__s32 error;  /* with UMBRA_MEM_FAULT: negative errno */
		} mem;
		struct {
			__u8 cr;    /* 0, 3, 4, 8 */
			__u8 op;    /* VMEXIT_CR_* */
			__u8 gpr;   /* index of gpr[], or VMEXIT_GPR_UNKNOWN */
			__u16 lmsw; /* LMSW's source operand */
		} cr;
		struct {
			__u8 dr;    /* 0..7 */
			__u8 write; /* 1: MOV to the debug register */
			__u8 gpr;   /* as above */
		} dr;
		struct {
			__u8 vector;
			__u8 has_error_code;
			__u32 error_code;
			__u64 payload; /* #PF: the address; #DB: DR6 bits; else 0 (SDM 3C 28.2.1) */
		} exc;
		struct {
			__u16 selector;
			__u8 source; /* 0 CALL, 1 IRET, 2 JMP, 3 task gate in the IDT */
		} task;
		struct {
			__u32 rule;	 /* UMBRA_BAD_*; 0 with VMEXIT_UNKNOWN */
			__u32 hw_reason; /* raw */
			__u64 hw_info;	 /* raw */
		} bad;
	};
};

/* Fills in *exit from the exit part of a run area whose RUN has come back. No vector registers. */
void exit_read_vmx(const struct umbra_run *run, struct vmexit *exit);
void exit_read_svm(const struct umbra_run *run, struct vmexit *exit);
/* What the hardware does not say: all reasons but UMBRA_EXIT_HARDWARE. */
void exit_read_shim(const struct umbra_exit *hw, struct vmexit *exit);

#endif
