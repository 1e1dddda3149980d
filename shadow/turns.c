// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest with more vCPUs than there are CPUs loses some of them to the host's scheduler at any moment. The others spin for their locks
 * and wait for their answers to TLB flushes, a time slice each. KVM sees its threads lose the CPU and marks them as preempted for
 * the guest. A process is not told; so here vCPUs take turns: when a turn is over and others are waiting, or more
 * run than there are CPUs, a vCPU parks itself until it is called. A parked one is known not to run, and is marked.
 *
 * None of this is needed for a vCPU to run: a wait that is not ended by another vCPU ends by itself, and who wakes from a halt
 * or comes from the VMM does not wait at all.
 */
#include "turns.h"

#include "core.h"
#include "sys.h"
#include "vcpu.h"

#define TURN_US 4000
#define WAIT_NS 25000000 /* at most */

void turns_vcpu_added(struct vm *vm)
{
	vm->turns.cpus = vm_cpus();
}

static bool in_use(const struct vm *vm)
{
	return atomic_load_explicit(&vm->vcpus, memory_order_relaxed) > vm->turns.cpus;
}

static void count(struct vcpu *vcpu)
{
	vcpu->turn.counted = true;
	vcpu->turn.since = cpu_rdtsc();
	atomic_fetch_add(&vcpu->vm->turns.running, 1);
}

/* 1 becomes 0 once: by who calls it, or by its own time-out. */
static bool unpark(struct vcpu *vcpu)
{
	unsigned int parked = 1;

	if (!atomic_compare_exchange_strong(&vcpu->turn.parked, &parked, 0))
		return false;
	atomic_fetch_sub(&vcpu->vm->turns.parked, 1);
	return true;
}

void turns_let_go(struct vcpu *vcpu)
{
	if (atomic_load(&vcpu->turn.parked) && unpark(vcpu))
		sys_futex_wake(&vcpu->turn.parked, 0);
}

/* The one that has waited longest. */
static void call_next(struct vm *vm)
{
	unsigned int vcpus = atomic_load(&vm->vcpus);
	struct vcpu *oldest = NULL;

	if (!atomic_load(&vm->turns.parked))
		return;
	for (unsigned int n = 0; n < vcpus; n++) {
		struct vcpu *vcpu = __atomic_load_n(&vm->vcpu[n], __ATOMIC_ACQUIRE);

		if (atomic_load(&vcpu->turn.parked) &&
		    (!oldest || (int32_t)(atomic_load(&vcpu->turn.ticket) - atomic_load(&oldest->turn.ticket)) < 0))
			oldest = vcpu;
	}
	if (oldest)
		turns_let_go(oldest);
}

void turns_begin(struct vcpu *vcpu)
{
	if (__builtin_expect(in_use(vcpu->vm), 0) && !vcpu->turn.counted)
		count(vcpu);
}

static void leave(struct vcpu *vcpu)
{
	vcpu->turn.counted = false;
	atomic_fetch_sub(&vcpu->vm->turns.running, 1);
}

void turns_end(struct vcpu *vcpu)
{
	if (__builtin_expect(!vcpu->turn.counted, 1))
		return;
	leave(vcpu);
	if (atomic_load(&vcpu->vm->turns.running) < vcpu->vm->turns.cpus)
		call_next(vcpu->vm);
}

static void park(struct vcpu *vcpu)
{
	static const struct sys_timespec most = { 0, WAIT_NS };
	struct vm_turns *turns = &vcpu->vm->turns;

	atomic_store(&vcpu->turn.ticket, atomic_fetch_add(&turns->ticket, 1));
	call_next(vcpu->vm); /* before this one is in the queue itself */
	leave(vcpu);
	steal_mark(vcpu);
	atomic_fetch_add(&turns->parked, 1);
	atomic_store(&vcpu->turn.parked, 1);
	/* Who sets a request that must not wait looks at parked after it. */
	if (!(atomic_load(&vcpu->requests) & (VCPU_REQ_STOP | VCPU_REQ_EXIT)))
		sys_futex_wait(&vcpu->turn.parked, 1, &most, 0);
	unpark(vcpu);
	steal_unmark(vcpu);
	count(vcpu);
}

void turns_look(struct vcpu *vcpu)
{
	const struct vm_turns *turns = &vcpu->vm->turns;
	uint64_t now;

	if (__builtin_expect(!vcpu->turn.counted, 1))
		return;
	now = cpu_rdtsc();
	if (now - vcpu->turn.since < (uint64_t)vcpu->vm->info.tsc_khz * TURN_US / 1000)
		return;
	if (atomic_load(&turns->parked) || atomic_load(&turns->running) > turns->cpus)
		park(vcpu);
	else
		vcpu->turn.since = now;
}

void turns_give(struct vcpu *vcpu)
{
	vcpu->turn.since = 0;
}
