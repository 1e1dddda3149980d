/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-2-Clause) */
#ifndef UMBRA_ABI_H
#define UMBRA_ABI_H

/*
 * The ABI between the shim (kernel) and a shadow hypervisor (user space).
 *
 * Three kinds of descriptor: /dev/umbra, a VM, a vCPU. Seven calls and one mmap.
 * Every structure has a fixed size; reserved fields and unknown flags must be zero (EINVAL).
 * An unknown call fails with ENOTTY. A call that fails changes nothing.
 *
 * Errors that every call on a VM or a vCPU may return besides its own:
 *   EFAULT   the argument cannot be read or written
 *   EINVAL   a reserved field, an unknown flag or a value out of its range
 *   EPERM    the caller does not run in the address space that created the VM
 *
 * Changes of this file are listed in docs/abi-changes.md.
 */

#include <linux/ioctl.h>
#include <linux/types.h>

#define UMBRA_ABI_VERSION 1

/* Limits. Past one of them a call fails with the errno named there. */
#define UMBRA_MAX_VCPUS 64		   /* a VM (ENOSPC) */
#define UMBRA_MAX_REGIONS 512		   /* a VM; slot numbers are 0..511 (EINVAL) */
#define UMBRA_MAX_REGION_SIZE (1ULL << 40) /* bytes (EINVAL) */
#define UMBRA_PAGE_SIZE 4096		   /* all gpa, addresses and sizes are multiples of this */

/* ---- /dev/umbra ---- */

#define UMBRA_HW_VMX 1
#define UMBRA_HW_SVM 2

#define UMBRA_FEAT_TPR_SHADOW (1ULL << 0) /* CR8 lives in the virtual-APIC page; else it exits */
#define UMBRA_FEAT_RDTSCP (1ULL << 1)	  /* the guest can use RDTSCP (and RDPID where the CPU has it) */
#define UMBRA_FEAT_INVPCID (1ULL << 2)	  /* the guest can use INVPCID */
#define UMBRA_FEAT_HUGE_2M (1ULL << 3)	  /* 2 MiB second-level leaves are used */

/*
 * UMBRA_INFO: what this machine offers. No errors of its own.
 */
struct umbra_info {
	__u32 abi_version;  /* out: UMBRA_ABI_VERSION */
	__u32 hw;	    /* out: UMBRA_HW_* */
	__u64 features;	    /* out: UMBRA_FEAT_* */
	__u64 guest_xcr0;   /* out: XCR0 bits a guest may set; 0: no XSAVE */
	__u64 guest_cr0;    /* out: CR0 bits a guest may set */
	__u64 guest_cr4;    /* out: CR4 bits a guest may set */
	__u64 guest_efer;   /* out: EFER bits a guest may set */
	__u32 tsc_khz;	    /* out: host TSC frequency, kHz */
	__u32 gpa_bits;	    /* out: guest-physical addresses have this many bits */
	__u32 run_size;	    /* out: bytes to mmap from a vCPU descriptor */
	__u32 vapic_offset; /* out: bytes from its start to the virtual-APIC page */
	__u64 reserved[8];  /* out: zero */
};

/*
 * UMBRA_CREATE_VM: a VM bound to the caller's address space. Returns a descriptor (O_CLOEXEC).
 *   EBUSY   another hypervisor holds the virtualization hardware
 *   EIO     the hardware cannot be switched on
 *   ENOMEM, EMFILE, ENFILE
 */
struct umbra_create_vm {
	__u64 flags;	   /* in: must be zero */
	__u64 reserved[3]; /* in: must be zero */
};

/* ---- VM ---- */

#define UMBRA_REGION_READONLY (1ULL << 0)  /* the guest may not write: a write exits (UMBRA_EXIT_MEM) */
#define UMBRA_REGION_LOG_DIRTY (1ULL << 1) /* keep a dirty bitmap */
#define UMBRA_REGION_ANNOUNCE \
	(1ULL << 2) /* exit before the first page of an aligned 2 MiB is taken (UMBRA_MEM_FIRST) */

/*
 * UMBRA_VM_SET_REGION: add, change or (size 0) remove the region with this slot number.
 * The guest reaches [gpa, gpa + size) in the caller's own memory at [addr, addr + size), with the
 * caller's own permissions and never with more. Pages are taken when the guest touches
 * them or, without UMBRA_REGION_LOG_DIRTY, a near neighbour.
 *   EEXIST   overlaps another slot's guest-physical range
 *   EINVAL   not a multiple of 4 KiB, wraps, past gpa_bits or past user space, slot out of range;
 *            size 0 with any other field but slot set
 *   ENOENT   size is 0 and the slot is empty
 *   EINTR    a signal came first: nothing has changed, call again
 *   ENOMEM
 */
struct umbra_region {
	__u32 slot;	/* in: 0..UMBRA_MAX_REGIONS-1 */
	__u32 reserved; /* in: must be zero */
	__u64 flags;	/* in: UMBRA_REGION_* */
	__u64 gpa;	/* in: guest-physical address, bytes */
	__u64 addr;	/* in: the caller's virtual address, bytes */
	__u64 size;	/* in: bytes; 0 removes */
};

/*
 * UMBRA_VM_GET_DIRTY: fetch and clear part of a slot's dirty bitmap: bit n of byte n / 8 stands for
 * page first_page + n, least significant bit first. Pages that were dirty are write-protected again.
 *   EINVAL   first_page or pages out of the region, or no multiple of 64 (the region's end excepted)
 *   ENOENT   the slot is empty or has no UMBRA_REGION_LOG_DIRTY
 */
struct umbra_dirty {
	__u32 slot;	  /* in */
	__u32 reserved;	  /* in: must be zero */
	__u64 first_page; /* in: from the region's start; a multiple of 64 */
	__u64 pages;	  /* in: how many; a multiple of 64 or up to the region's end; at most 2^20 */
	__u64 bitmap;	  /* in: the caller's address, 8-byte aligned; ceil(pages / 64) * 8 bytes are written */
};

/*
 * UMBRA_VM_CREATE_VCPU: returns a descriptor (O_CLOEXEC). The state after it is all zero; the caller
 * loads every group before the first entry.
 *   ENOSPC   UMBRA_MAX_VCPUS reached, or no hardware tag (VPID, ASID) is left
 *   ENOMEM, EMFILE, ENFILE
 */
struct umbra_create_vcpu {
	__u64 flags;	   /* in: must be zero */
	__u64 reserved[3]; /* in: must be zero */
};

/* ---- vCPU: the run area, mapped shared from the vCPU descriptor ---- */

/*
 * State groups. When any group besides RIP is dirty, the whole state part is copied and checked, so all of it must hold
 * acceptable values; of the other groups nothing needs to take effect. RIP is stored at every exit; GPRs and CR2 are loaded and stored
 * always. What a guest cannot change without an exit (xcr0, dr, dr7, star to fmask, pat, tsc_aux) need not be stored.
 */
#define UMBRA_STATE_RIP (1ULL << 0)	 /* rip, rflags */
#define UMBRA_STATE_INTR (1ULL << 1)	 /* intr_shadow, pending_dbg; intr_shadow is stored at every exit */
#define UMBRA_STATE_SEG_CODE (1ULL << 2) /* seg[CS], seg[SS] */
#define UMBRA_STATE_SEG_DATA (1ULL << 3) /* seg[DS], seg[ES], seg[FS], seg[GS] */
#define UMBRA_STATE_SEG_SYS (1ULL << 4)	 /* seg[LDTR], seg[TR], gdtr, idtr */
#define UMBRA_STATE_CR (1ULL << 5)	 /* cr0, cr3, cr4, efer, xcr0, pdpte[] */
#define UMBRA_STATE_DR (1ULL << 6)	 /* dr[0..3], dr7 */
#define UMBRA_STATE_MSR (1ULL << 7)	 /* struct umbra_msrs */
#define UMBRA_STATE_ALL ((1ULL << 8) - 1)

/* Indices of umbra_run.gpr[]: the order of instruction encodings. */
#define UMBRA_RAX 0
#define UMBRA_RCX 1
#define UMBRA_RDX 2
#define UMBRA_RBX 3
#define UMBRA_RSP 4
#define UMBRA_RBP 5
#define UMBRA_RSI 6
#define UMBRA_RDI 7
#define UMBRA_GPRS 16

/* Indices of umbra_run.seg[]: the order of instruction encodings, then LDTR and TR. */
#define UMBRA_ES 0
#define UMBRA_CS 1
#define UMBRA_SS 2
#define UMBRA_DS 3
#define UMBRA_FS 4
#define UMBRA_GS 5
#define UMBRA_LDTR 6
#define UMBRA_TR 7
#define UMBRA_SEGS 8

/*
 * attr has the descriptor's attribute bits: 0-3 type, 4 S, 5-6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G.
 * P clear means unusable. SS.DPL is the CPL, usable or not. (SDM 3A 3.4.5, 3C 25.4.1)
 */
struct umbra_segment {
	__u16 selector;
	__u16 attr;
	__u32 limit; /* bytes, as after applying G */
	__u64 base;
};

struct umbra_msrs {
	__u64 star, lstar, cstar;	  /* lstar and cstar canonical */
	__u64 fmask;			  /* 32 bits */
	__u64 sysenter_cs;		  /* 32 bits */
	__u64 sysenter_esp, sysenter_eip; /* canonical */
	__u64 pat;			  /* eight valid memory types (SDM 3A 12.12.2) */
	__u64 tsc_aux;			  /* 32 bits */
	/* KERNEL_GS_BASE is the calling thread's own user GS base; FS_BASE and GS_BASE are in seg[]. */
};

/* An event: to be injected, or one whose delivery an exit interrupted. (SDM 3C 25.8.3) */
#define UMBRA_EVENT_VALID (1 << 0)
#define UMBRA_EVENT_ERROR_CODE (1 << 1)
#define UMBRA_EVENT_INTR 0 /* external interrupt; vector 0..255 */
#define UMBRA_EVENT_NMI 2  /* vector 2 */
#define UMBRA_EVENT_EXC 3  /* hardware exception; vector 0..31 */
/* SVM has no SOFT types and no ICEBP (BAD_EVENT): an interrupted INT n, INT3, INTO is executed again. */
#define UMBRA_EVENT_SOFT_INT 4 /* INT n; insn_len 1..15 */
#define UMBRA_EVENT_ICEBP 5    /* INT1; vector 1; insn_len 1..15 */
#define UMBRA_EVENT_SOFT_EXC 6 /* INT3, INTO; vector 3 or 4; insn_len 1..15 */
struct umbra_event {
	__u8 vector;
	__u8 type;     /* UMBRA_EVENT_INTR.. */
	__u8 flags;    /* UMBRA_EVENT_VALID, UMBRA_EVENT_ERROR_CODE */
	__u8 insn_len; /* bytes; the SOFT types only */
	__u32 error_code;
};

/* Bits of intr_shadow. (SDM 3C 25.4.2) */
#define UMBRA_SHADOW_STI (1 << 0) /* SVM: also MOV SS */
#define UMBRA_SHADOW_MOV_SS (1 << 1)
#define UMBRA_SHADOW_NMI (1 << 3) /* NMIs are blocked until IRET. SVM: the user side keeps account */

/* Intercepts the caller may add to the shim's fixed set (it can take none away). */
#define UMBRA_ICPT_INTR_WINDOW (1 << 0) /* exit when the guest can take an external interrupt */
#define UMBRA_ICPT_NMI_WINDOW (1 << 1)	/* exit when the guest can take an NMI; SVM: at an IRET, before it */
#define UMBRA_ICPT_HLT (1 << 2)
/* Exit on a PAUSE loop, where the CPU detects such (SDM 3C 26.1.3); an SVM without a pause filter exits on each PAUSE. */
#define UMBRA_ICPT_PAUSE (1 << 3)
#define UMBRA_ICPT_ALL ((1 << 4) - 1)

/* umbra_run.flags */
#define UMBRA_RUN_FLUSH_TLB (1 << 0) /* flush the guest's own translations before entry; cleared by the shim */
#define UMBRA_RUN_NO_ENTRY (1 << 1)  /* load dirty groups, store wanted groups, do not enter; exit reason NONE */

/* Exit reasons. */
#define UMBRA_EXIT_NONE 0	 /* UMBRA_RUN_NO_ENTRY */
#define UMBRA_EXIT_INTERRUPTED 1 /* a kick or work for the calling thread (a signal); call RUN again */
#define UMBRA_EXIT_DEADLINE 2	 /* deadline_tsc has passed */
#define UMBRA_EXIT_MEM 3	 /* guest-physical access that no region allows, or FIRST: gpa, gva, access, error */
#define UMBRA_EXIT_HARDWARE 4	 /* any other: hw_reason, hw_info, hw_info2, hw_detail, hw_error_code, insn_len */
#define UMBRA_EXIT_BAD_STATE 5	 /* the state handed in cannot be entered, nothing ran: rule, hw_reason, hw_info */

#define UMBRA_MEM_READ (1 << 0)
#define UMBRA_MEM_WRITE (1 << 1)
#define UMBRA_MEM_EXEC (1 << 2)
#define UMBRA_MEM_GVA (1 << 3)	 /* gva is valid */
#define UMBRA_MEM_WALK (1 << 4)	 /* the access was to the guest's page tables, for gva */
#define UMBRA_MEM_FAULT (1 << 5) /* a region covers gpa but the caller's own memory there cannot be had: error */
#define UMBRA_MEM_FIRST \
	(1 << 6) /* UMBRA_REGION_ANNOUNCE; the next RUN takes the page, unless another 2 MiB comes between */

/* umbra_exit.rule: which rule the state handed in breaks. What the CPU checks itself at entry is not checked twice. */
#define UMBRA_BAD_HARDWARE 1 /* the CPU refused the state: see hw_reason and hw_info (SDM 3C 27.3, 27.8) */
#define UMBRA_BAD_ENTRY 2 /* the CPU refused controls or the event: hw_reason is its error number (SDM 3C 27.2, 31.4) */
#define UMBRA_BAD_CONTROL \
	3 /* unknown bit in dirty, want, want_emul, flags, intercepts, a reserved field; tpr_threshold */
#define UMBRA_BAD_EVENT 4 /* inject: unknown flag or type */
#define UMBRA_BAD_CR0 5
#define UMBRA_BAD_CR4 6
#define UMBRA_BAD_EFER 7
#define UMBRA_BAD_XCR0 8
#define UMBRA_BAD_MSR 9 /* lstar, cstar not canonical; fmask, tsc_aux not 32 bits */

/*
 * Why RUN is back. The hardware's own description is handed on as it is, for the user side to decode: it is output only,
 * and tells of the guest alone.
 */
struct umbra_exit {
	__u32 reason;		  /* UMBRA_EXIT_* */
	__u32 rule;		  /* UMBRA_BAD_* */
	__u64 valid;		  /* the UMBRA_STATE_* groups stored by this exit */
	struct umbra_event event; /* delivery of this event was cut short; hand it in again */
	__u32 hw_reason;	  /* VMX: basic exit reason (SDM 3D C); SVM: EXITCODE (APM 2 C) */
	__u32 insn_len; /* bytes of the instruction that exited; means nothing where there is none. SVM: 0 if not known */
	__u64 hw_info;	     /* VMX: exit qualification (SDM 3C 28.2.1); SVM: EXITINFO1 */
	__u64 hw_info2;	     /* SVM: EXITINFO2; of a #DB the guest's DR6 */
	__u32 hw_detail;     /* VMX: interruption information for exceptions, else instruction information */
	__u32 hw_error_code; /* VMX: of an exception */
	__u64 gpa;	     /* bytes */
	__u64 gva;	     /* bytes */
	__u32 access;	     /* UMBRA_MEM_* */
	__s32 error;	     /* with UMBRA_MEM_FAULT: negative errno of the caller's memory */
};

struct umbra_dtable {
	__u64 base;  /* canonical */
	__u32 limit; /* bytes, 16 bits */
	__u32 reserved;
};

/*
 * Answers as data: CPUID leaves and MSR reads that the shim answers from this table and re-enters the guest. They
 * only ever reach the guest's own registers. The table begins UMBRA_ANSWERS_OFFSET bytes into the run area; an entry's
 * place in it is UMBRA_ANSWER_SLOT of its leaf.
 */
#define UMBRA_ANSWERS_OFFSET 2048
#define UMBRA_ANSWERS 64
#define UMBRA_ANSWER_SLOT(leaf) (((leaf) ^ (leaf) >> 26) & (UMBRA_ANSWERS - 1))
#define UMBRA_ANSWER_NONE 0
#define UMBRA_ANSWER_CPUID 1 /* leaf in EAX, index in ECX */
#define UMBRA_ANSWER_RDMSR 2 /* leaf is the MSR; reg[0] and reg[3] only */
struct umbra_answer {
	__u32 kind;	  /* in: UMBRA_ANSWER_* */
	__u32 leaf;	  /* in */
	__u32 index;	  /* in: CPUID: sub-leaf */
	__u32 index_mask; /* in: CPUID: bits of ECX that count, 0: none */
	__u32 reg[4];	  /* in: EAX, EBX, ECX, EDX */
};

/*
 * The run area. Parts: control (in), registers (in and out), groups (in and out by masks), exit (out).
 * The shim reads each field of a part that it needs once, checks its copy and uses the copy.
 */
struct umbra_run {
	/* control */
	__u64 dirty;		   /* in: groups to load before entry; the shim clears it when it has loaded them */
	__u64 want;		   /* in: groups to store at every exit */
	__u64 want_emul;	   /* in: groups to store besides at MEM and string I/O exits */
	__u32 intercepts;	   /* in: UMBRA_ICPT_* */
	__u32 exceptions;	   /* in: bit n: exception n exits; #DB, #AC and #MC always do */
	__u32 flags;		   /* in: UMBRA_RUN_* */
	__u32 tpr_threshold;	   /* in: 0..15 (SDM 3C 30.1.2) */
	__u64 tsc_offset;	   /* in: guest TSC = host TSC + tsc_offset */
	__u64 deadline_tsc;	   /* in: host TSC at which RUN returns; 0: none */
	struct umbra_event inject; /* in: cleared by the shim when handed to the hardware */
	__u64 reserved[2];	   /* in: must be zero */

	/* registers */
	__u64 gpr[UMBRA_GPRS];
	__u64 cr2;
	__u64 rip;
	__u64 rflags;
	__u32 intr_shadow; /* UMBRA_SHADOW_* */
	__u32 reserved2;
	__u64 pending_dbg; /* SDM 3C 25.4.2 */

	/* groups */
	struct umbra_segment seg[UMBRA_SEGS];
	struct umbra_dtable gdtr, idtr;
	__u64 cr0, cr3, cr4; /* as the guest sees them */
	__u64 efer;
	__u64 xcr0;
	__u64 pdpte[4]; /* PAE paging only (SDM 3A 4.4.1) */
	__u64 dr[4];
	__u64 dr7;
	struct umbra_msrs msr;

	struct umbra_exit exit;
};

/* ---- number table ---- */

#define UMBRA_IOC 0xB5
#define UMBRA_INFO _IOR(UMBRA_IOC, 0x00, struct umbra_info)
#define UMBRA_CREATE_VM _IOW(UMBRA_IOC, 0x01, struct umbra_create_vm)
#define UMBRA_VM_SET_REGION _IOW(UMBRA_IOC, 0x10, struct umbra_region)
#define UMBRA_VM_GET_DIRTY _IOW(UMBRA_IOC, 0x11, struct umbra_dirty)
#define UMBRA_VM_CREATE_VCPU _IOW(UMBRA_IOC, 0x12, struct umbra_create_vcpu)

/*
 * UMBRA_VCPU_RUN: 0 and run area's exit filled in, or
 *   EBUSY   another thread is in RUN on this vCPU
 *   EIO     the virtualization hardware was taken away (the machine goes down, or it did not come back after suspend)
 * lseek(vcpu_fd, 0, SEEK_SET) does exactly the same on a cheaper system call path (no ioctl hooks).
 *
 * UMBRA_VCPU_KICK: a running RUN, else the next one, returns UMBRA_EXIT_INTERRUPTED (kicks do not
 * add up). May be called from any thread of the VM's process. No errors of its own.
 */
#define UMBRA_VCPU_RUN _IO(UMBRA_IOC, 0x20)
#define UMBRA_VCPU_KICK _IO(UMBRA_IOC, 0x21)

#endif
