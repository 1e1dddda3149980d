/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef UMBRA_SVM_H
#define UMBRA_SVM_H

#include <linux/hrtimer.h>
#include <linux/percpu.h>
#include <asm/svm.h>

#include "shim.h"

/* AMD's part of a vCPU. Fields without a letter belong to the thread in RUN, interrupts off. */
struct hw_vcpu {
	struct vmcb *vmcb;	 /* C */
	__u64 *top;		 /* C: fifth level of the tables, where the host's paging has five; else NULL */
	int cpu;		 /* where it ran last, -1: nowhere */
	unsigned int generation; /* of that CPU's ASIDs, when vmcb's was taken */
	struct hrtimer timer;	 /* makes the guest exit for deadline */
	u64 armed;		 /* the deadline it is armed for; its callback clears it */
};

/* One a CPU: its ASIDs, and where the state goes that VMRUN and VMLOAD replace. (S8) */
struct svm_cpu {
	void *hsave; /* C: VMRUN's */
	void *host;  /* C: VMSAVE's */
	unsigned int asid, generation;
};

DECLARE_PER_CPU(struct svm_cpu, svm_cpus);
extern unsigned int svm_asids;

/* entry.S: VMRUN and back, with all that VMLOAD loads. host_pa: where VMSAVE puts the host's. */
void svm_enter_guest(__u64 *gpr, unsigned long vmcb_pa, unsigned long host_pa, struct vmcb *vmcb, struct vmcb *host);

/* svm_run.c */
enum hrtimer_restart svm_timer(struct hrtimer *timer);
enum run_result svm_vcpu_enter(struct vcpu *vcpu, bool flush);
void svm_fetch(struct vcpu *vcpu, __u64 groups);

#endif
