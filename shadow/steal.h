/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_STEAL_H
#define UMBRA_STEAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/*
 * Steal time: how long a vCPU was ready to run but its thread waited for a CPU. All times between two looks are in host
 * TSC ticks; see steal.c. Belongs to the vCPU's thread, but for what is marked A.
 */
struct vcpu_steal {
	uint64_t looked;	/* host TSC at the last look */
	uint64_t cpu_ns;	/* the thread's CPU time then */
	uint64_t away;		/* ticks since then that were not the scheduler's doing: halted, or with the VMM */
	uint64_t left;		/* host TSC when KVM_RUN ended; 0: running */
	_Atomic uint64_t woken; /* A: host TSC of the wake-up that ended the halt; 0: none */
	atomic_bool on;		/* A: the guest asked for it */
	bool marked;		/* KVM_VCPU_PREEMPTED stands in the guest's memory */
};

int steal_write_msr(struct vcpu *vcpu, uint64_t value, bool host); /* MSR_KVM_STEAL_TIME: 0 or -1 (#GP) */
void steal_reset(struct vcpu *vcpu);				   /* power-up and INIT switch it off */
void steal_run_begin(struct vcpu *vcpu);			   /* KVM_RUN: takes the mark back, flushes if asked */
void steal_run_end(struct vcpu *vcpu);				   /* KVM_RUN is over: leaves the mark */
void steal_mark(struct vcpu *vcpu);				   /* parked, between two instructions */
void steal_unmark(struct vcpu *vcpu);
void steal_look(struct vcpu *vcpu);						     /* before an entry */
void steal_halted(struct vcpu *vcpu, uint64_t from, uint64_t to, uint64_t deadline); /* slept; host TSC */
void steal_woken(struct vcpu *vcpu); /* any thread: before it is woken */

#endif
