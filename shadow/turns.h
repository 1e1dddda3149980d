/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_TURNS_H
#define UMBRA_TURNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct vm;

/* Taking turns where a VM has more vCPUs than CPUs: see turns.c. */
struct vm_turns {
	unsigned int cpus;	/* V: for this process; 0: not known yet */
	atomic_uint running;	/* A: vCPUs in the guest, about to be, or with the VMM */
	atomic_uint parked;	/* A: vCPUs that wait for a turn */
	atomic_uint workers;	/* A: those of them that did not spin when their last one ended */
	_Atomic uint64_t until; /* A: host TSC: they take turns until then */
	_Atomic uint64_t sent;	/* A: host TSC of the last interrupt for several vCPUs */
	atomic_uint polling;	/* A: halted vCPUs whose threads look for work */
	atomic_uint ticket;	/* A: next number in the queue */
};

struct vcpu_turn {
	bool counted;		 /* in vm_turns.running */
	uint64_t since;		 /* host TSC when the turn began */
	bool spins;		 /* it gave up its turn to wait for another vCPU */
	_Atomic uint64_t asked;	 /* A: host TSC of such an interrupt that this one has not taken yet; 0: none */
	atomic_uint parked;	 /* A: futex: not 0 while it waits */
	_Atomic uint32_t ticket; /* A: its place, while it waits */
};

void turns_vcpu_added(struct vm *vm);	/* control thread */
void turns_begin(struct vcpu *vcpu);	/* KVM_RUN begins, a halt is over */
void turns_end(struct vcpu *vcpu);	/* halted, or back to the VMM for longer */
void turns_needed(struct vm *vm);	/* a vCPU spins for one that may not run */
void turns_sent(struct vm *vm);		/* any thread: an interrupt for several, whose sender may wait for all */
void turns_asked(struct vcpu *vcpu);	/* any thread: it is one of those that such an interrupt is for */
void turns_taken(struct vcpu *vcpu);	/* it takes its requests */
void turns_poll(struct vm *vm, int by); /* 1: a halted vCPU begins to look for work, -1: it ends */
bool turns_cpu_is_free(struct vm *vm);	/* is there one for each vCPU that runs or polls? */
void turns_look(struct vcpu *vcpu);	/* before an entry: is the turn over? */
void turns_give(struct vcpu *vcpu);	/* it waits for another vCPU: the present turn is over at the next look */
bool turns_spin(struct vcpu *vcpu);	/* the same, of its own accord; true: there is one to give the turn to */
void turns_let_go(struct vcpu *vcpu);	/* any thread: whoever it is that waits, it waits no longer */

#endif
