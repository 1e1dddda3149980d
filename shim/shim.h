/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef UMBRA_SHIM_KERNEL_H
#define UMBRA_SHIM_KERNEL_H

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/rwsem.h>

#include "check.h"
#include "pt.h"

/*
 * Locks, outermost first: R vm->region_lock, then the kernel's mmap_lock, then T vm->pt_lock (never held over
 * anything that sleeps; taken inside MMU notifiers). I: the thread in RUN, interrupts off. C: constant after creation.
 * X: vcpu->busy, which only one RUN holds.
 */

struct region {
	struct mmu_interval_notifier notifier;
	struct vm *vm;		 /* C */
	struct umbra_region arg; /* C */
	unsigned long *dirty;	 /* T: bitmap, a bit a page; NULL: not logged */
};

struct vm {
	struct kref ref;
	struct mm_struct *mm; /* C */
	struct rw_semaphore region_lock;
	int regions;				   /* R */
	struct gpa_range range[UMBRA_MAX_REGIONS]; /* R: sorted; range[i] is region[i]'s */
	struct region *region[UMBRA_MAX_REGIONS];  /* R */
	spinlock_t pt_lock;
	struct pt pt;			/* T */
	struct list_head dead_tables;	/* T */
	unsigned long flush_generation; /* T, read under I */
	struct list_head vcpus;		/* T */
	int vcpu_count;			/* T */
};

struct vcpu {
	unsigned long host_rsp;		  /* VMX's; first: entry.S */
	struct umbra_run *run;		  /* C: the shared page; of its exit part nothing is ever read */
	void *vapic;			  /* C: virtual-APIC page, shared */
	struct vm *vm;			  /* C */
	struct list_head link;		  /* T: in vm->vcpus */
	struct hw_vcpu *hw;		  /* C: the backend's */
	atomic_t busy;			  /* a RUN is going on */
	int kicked;			  /* any thread sets, RUN clears */
	int guest_cpu;			  /* I writes: CPU this vCPU is in the guest on, -1: none */
	unsigned long flushed_generation; /* I */
	struct umbra_run in;		  /* X: the shim's own copy of what was handed in and checked */
	struct umbra_run next;		  /* X: a copy while it is being checked */
	__u64 dirty;			  /* X: groups of in that the hardware does not have yet */
	bool new_controls;		  /* X: the control part of in changed */
	bool flush_guest;		  /* X: UMBRA_RUN_FLUSH_TLB */
	struct umbra_event event;	  /* X: to be injected at the next entry, or what the last exit cut short */
	__u32 exit_reason;		  /* X: RUN_EXIT's and RUN_EMULATE's: UMBRA_EXIT_* */
	__u64 fault_gpa;		  /* X: RUN_FAULT's */
	__u32 fault_access;		  /* X */
	__u64 announced;		  /* X: last byte of the 2 MiB that UMBRA_MEM_FIRST was last said of */
	struct pt_cache cache;		  /* X */
};

/* What a world switch ended with; for the last two run->exit is filled in. */
enum run_result {
	RUN_AGAIN, /* an interrupt of the host, or nothing: enter again */
	RUN_FAULT, /* second-level fault: fill in, or an exit where that cannot be */
	RUN_EXIT,
	RUN_EMULATE, /* an exit, and want_emul's groups with it */
	RUN_OFF,     /* the hardware was taken away */
};

/* The vendor's part; one of them is chosen when the module loads. */
struct shim_ops {
	__u32 hw; /* UMBRA_HW_* */
	const struct pt_format *pt_format;
	/* Fits limits and features to the CPU; a line in the log and an errno where something is missing. */
	int (*setup)(struct limits *limits, __u64 *features);
	void (*teardown)(void);
	int (*cpu_enable)(void); /* on that CPU, interrupts off; hw_on tells whether it is */
	void (*cpu_disable)(void);
	int (*vcpu_create)(struct vcpu *vcpu);
	void (*vcpu_destroy)(struct vcpu *vcpu);
	/* Interrupts off, may open a window for them. Makes the vCPU's state current on this CPU, vcpu_current says so.
	 * -EIO where the hardware is off. */
	int (*vcpu_load)(struct vcpu *vcpu);
	/* Interrupts off, after vcpu_load. flush: second-level translations changed. */
	enum run_result (*vcpu_enter)(struct vcpu *vcpu, bool flush);
	/* Interrupts off, after vcpu_load: groups into the shared page; vcpu->dirty ones are stored first. */
	void (*vcpu_fetch)(struct vcpu *vcpu, __u64 groups);
};

extern const struct shim_ops *shim_ops;
extern const struct shim_ops vmx_ops, svm_ops;
extern struct limits shim_limits;
extern __u64 shim_features;
extern atomic_long_t stat_vms, stat_vcpus, stat_pages;

int shim_refuse(const char *why, const char *what); /* not to load: says so */

/* hw.c: the CPUs' virtualization hardware is on while somebody holds it. */
DECLARE_PER_CPU(bool, hw_on);
int hw_get(void);
void hw_put(void);
extern struct dev_pm_domain hw_pm;
extern struct notifier_block hw_reboot_notifier;

/* vcpu.c */
extern u64 host_xcr0, host_xss; /* host_xss: 0 where a guest cannot use it */
DECLARE_PER_CPU(u64, host_tsc_aux);
DECLARE_PER_CPU(struct vcpu *, vcpu_current); /* whose state the hardware of this CPU has */
int vcpu_create(struct vm *vm);
void vcpu_leave_guest(void *unused);

/* mem.c */
int vm_mem_init(struct vm *vm);
void vm_mem_destroy(struct vm *vm);
long vm_set_region(struct vm *vm, const struct umbra_region *region);
long vm_get_dirty(struct vm *vm, const struct umbra_dirty *dirty);
/* 0: enter again; else the access is for the user side, and whatever else it says is for run->exit.error. May sleep. */
int vm_fault(struct vcpu *vcpu);

/* main.c */
void vm_put(struct vm *vm);

#endif
