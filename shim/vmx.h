/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef UMBRA_VMX_H
#define UMBRA_VMX_H

#include <linux/list.h>
#include <linux/percpu.h>
#include <asm/asm.h>
#include <asm/vmx.h>

#include "shim.h"

/* Intel's part of a vCPU. Fields without a letter belong to the thread in RUN, interrupts off. */
struct hw_vcpu {
	struct list_head active; /* on vmx_active of the CPU named by cpu */
	struct vcpu *vcpu;	 /* C */
	int cpu;		 /* where the VMCS is active, -1: nowhere */
	bool filled;		 /* the VMCS has its constants */
	bool launched;
	bool own_msrs; /* the guest's system call MSRs differ from the host's */
	void *vmcs;    /* C */
	int vpid;      /* C */
	/* What the VMCS holds now, to write only what changes. */
	unsigned long host_cr3, host_cr4, host_fs, host_gdt;
	u64 host_perf;
	u32 timer;
};

/* Computed when the module loads; the system call MSRs when a CPU enters VMX. They are the same on all. */
struct vmx_config {
	u32 pinbased, procbased, procbased2, exit, entry;
	u32 revision;
	u32 timer_shift;
	u32 timer_bound; /* ticks: a guest is never longer in one go */
	u64 cr0_fixed0, cr4_fixed0;
	u64 star, lstar, cstar, fmask;
	bool can_ple, has_perf;
	bool flush_l1d, verw;
};

extern struct vmx_config vmx;

/* CR bits that the guest changes without an exit; all others are the shim's. */
#define CR0_GUEST_OWNED (X86_CR0_TS | X86_CR0_MP | X86_CR0_EM | X86_CR0_WP | X86_CR0_AM)
#define CR4_GUEST_OWNED \
	(X86_CR4_TSD | X86_CR4_DE | X86_CR4_PGE | X86_CR4_PVI | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_PCE)

/* A VMX instruction may find VMX switched off by an emergency reboot: then it does nothing. */
static __always_inline unsigned long vmread(unsigned long field)
{
	unsigned long value = 0;

	asm volatile("1: vmread %1, %0\n2:\n" _ASM_EXTABLE(1b, 2b) : "+r"(value) : "r"(field) : "cc");
	return value;
}

void vmwrite_failed(unsigned long field, unsigned long value);

/* clang-format off */
#define FAULTS_TO(label) _ASM_EXTABLE(1b, %l[label])
/* clang-format on */

static __always_inline void vmwrite(unsigned long field, unsigned long value)
{
	asm goto("1: vmwrite %1, %0\n jna %l[failed]\n" FAULTS_TO(failed) : : "r"(field), "rm"(value) : "cc" : failed);
	return;
failed:
	vmwrite_failed(field, value);
}

static inline u64 vmx_eptp(const struct vcpu *vcpu)
{
	return __pa(vcpu->vm->pt.root) | VMX_EPTP_MT_WB | VMX_EPTP_PWL_4;
}

/* Single-context INVEPT also drops the guest's own (combined) translations of this VM. (SDM 3C 29.4.3.1) */
static inline void vmx_flush(unsigned long extent, u64 eptp)
{
	u64 operand[2] = { eptp };

	asm volatile("1: invept %0, %1\n2:\n" _ASM_EXTABLE(1b, 2b) : : "m"(operand), "r"(extent) : "cc", "memory");
}

/* entry.S. 0: the guest ran and exited; 1: the CPU refused. */
#define VMX_LAUNCHED (1 << 0)
#define VMX_VERW (1 << 1)
int vmx_enter_guest(struct vcpu *vcpu, __u64 *gpr, unsigned int flags);
extern char vmx_exit_point[];

/* vmx_run.c */
enum run_result vmx_vcpu_enter(struct vcpu *vcpu, bool flush);
void vmx_write_controls(struct vcpu *vcpu);
void vmx_fetch(struct vcpu *vcpu, __u64 groups);

#endif
