// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest with more vCPUs than there are CPUs loses some of them to the host's scheduler at any moment. The others spin for their locks
 * and wait for their answers to TLB flushes, a time slice each. KVM sees its threads lose the CPU and marks them as preempted for
 * the guest. A process is not told; so here vCPUs take turns: when a turn is over and others are waiting, or more
 * run than there are CPUs, a vCPU parks itself until it is called. A parked one is known not to run, and is marked.
 *
 * A vCPU that spins waits for another one. It gives its turn to one that waits for a turn itself, and nobody who works ends his turn for
 * one that spins: else those who wait for a long piece of work would take half of the CPUs from it.
 *
 * All of it costs something where vCPUs do not spin for each other: who works for a while waits for a while. So they take turns only while there
 * are signs that they need to: a loop of PAUSEs that exits, a yield to another vCPU, an interrupt for several vCPUs that one of them takes
 * late, since its sender may spin until all have answered (the flush of TLBs).
 *
 * None of this is needed for a vCPU to run: a wait that is not ended by another vCPU ends by itself, and who wakes from a halt
 * or comes from the VMM does not wait at all.
 */
#include "turns.h"

#include "core.h"
#include "sys.h"
#include "vcpu.h"

#define TURN_US 4000
#define NEED_US 500000		      /* how long after the last sign that they need to */
#define OFTEN_US 20000		      /* interrupts for several vCPUs: what is a sign while they take turns */
#define LATE_US 1000		      /* and how late one must be taken to be a sign while they do not */
#define WAIT_NS 25000000	      /* at most */
#define SPIN_WAIT_NS (TURN_US * 1000) /* the same for one that spins: what it waits for may have come */

/* vcpu_turn.parked */
#define PARKED 1
#define PARKED_SPINNING 2

void turns_vcpu_added(struct vm *vm)
{
	vm->turns.cpus = vm_cpus();
}

static bool too_many(const struct vm *vm)
{
	return atomic_load_explicit(&vm->vcpus, memory_order_relaxed) > vm->turns.cpus;
}

static bool in_use(const struct vm *vm)
{
	return too_many(vm) && cpu_rdtsc() < atomic_load_explicit(&vm->turns.until, memory_order_relaxed);
}

void turns_needed(struct vm *vm)
{
	uint64_t until = cpu_rdtsc() + vm_us_to_ticks(vm, NEED_US);

	if (too_many(vm) && until > atomic_load_explicit(&vm->turns.until, memory_order_relaxed))
		atomic_store_explicit(&vm->turns.until, until, memory_order_relaxed);
}

void turns_sent(struct vm *vm)
{
	uint64_t now, last;

	if (!too_many(vm))
		return;
	now = cpu_rdtsc();
	last = atomic_exchange(&vm->turns.sent, now);
	if (now - last < vm_us_to_ticks(vm, OFTEN_US) && in_use(vm))
		turns_needed(vm);
}

void turns_asked(struct vcpu *vcpu)
{
	uint64_t none = 0;

	if (too_many(vcpu->vm) && !in_use(vcpu->vm) && atomic_load(&vcpu->in_guest))
		atomic_compare_exchange_strong(&vcpu->turn.asked, &none, cpu_rdtsc());
}

void turns_taken(struct vcpu *vcpu)
{
	uint64_t asked = atomic_load_explicit(&vcpu->turn.asked, memory_order_relaxed);

	if (!asked)
		return;
	atomic_store_explicit(&vcpu->turn.asked, 0, memory_order_relaxed);
	if (cpu_rdtsc() - asked > vm_us_to_ticks(vcpu->vm, LATE_US))
		turns_needed(vcpu->vm);
}

void turns_poll(struct vm *vm, int by)
{
	atomic_fetch_add(&vm->turns.polling, (unsigned int)by);
}

bool turns_cpu_is_free(struct vm *vm)
{
	return !in_use(vm) || atomic_load(&vm->turns.running) + atomic_load(&vm->turns.polling) <= vm->turns.cpus;
}

static void count(struct vcpu *vcpu)
{
	vcpu->turn.counted = true;
	vcpu->turn.since = cpu_rdtsc();
	atomic_fetch_add(&vcpu->vm->turns.running, 1);
}

static void queue_count(struct vm_turns *turns, unsigned int parked, unsigned int by)
{
	atomic_fetch_add(&turns->parked, by);
	if (parked == PARKED)
		atomic_fetch_add(&turns->workers, by);
}

/* It becomes 0 once: by who calls it, or by its own time-out. */
static bool unpark(struct vcpu *vcpu)
{
	unsigned int parked = atomic_load(&vcpu->turn.parked);

	if (!parked || !atomic_compare_exchange_strong(&vcpu->turn.parked, &parked, 0))
		return false;
	queue_count(&vcpu->vm->turns, parked, -1u);
	return true;
}

void turns_let_go(struct vcpu *vcpu)
{
	if (unpark(vcpu))
		sys_futex_wake(&vcpu->turn.parked, 0);
}

/* The one that has waited longest, first of those that do not spin. */
static void call_next(struct vm *vm)
{
	unsigned int vcpus = atomic_load(&vm->vcpus), first = 0;
	struct vcpu *oldest = NULL;

	if (!atomic_load(&vm->turns.parked))
		return;
	for (unsigned int n = 0; n < vcpus; n++) {
		struct vcpu *vcpu = __atomic_load_n(&vm->vcpu[n], __ATOMIC_ACQUIRE);
		unsigned int parked = atomic_load(&vcpu->turn.parked);

		if (!parked || (oldest && parked > first))
			continue;
		if (!oldest || parked < first ||
		    (int32_t)(atomic_load(&vcpu->turn.ticket) - atomic_load(&oldest->turn.ticket)) < 0) {
			oldest = vcpu;
			first = parked;
		}
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
	static const struct sys_timespec most = { 0, WAIT_NS }, spin_most = { 0, SPIN_WAIT_NS };
	struct vm_turns *turns = &vcpu->vm->turns;
	unsigned int parked = vcpu->turn.spins ? PARKED_SPINNING : PARKED;

	atomic_store(&vcpu->turn.ticket, atomic_fetch_add(&turns->ticket, 1));
	call_next(vcpu->vm); /* before this one is in the queue itself */
	leave(vcpu);
	steal_mark(vcpu);
	queue_count(turns, parked, 1);
	atomic_store(&vcpu->turn.parked, parked);
	/* Who sets a request that must not wait looks at parked after it. */
	if (!(atomic_load(&vcpu->requests) & (VCPU_REQ_STOP | VCPU_REQ_EXIT)))
		sys_futex_wait(&vcpu->turn.parked, parked, vcpu->turn.spins ? &spin_most : &most, 0);
	unpark(vcpu);
	vcpu->turn.spins = false;
	steal_unmark(vcpu);
	count(vcpu);
}

static bool should_park(struct vcpu *vcpu)
{
	const struct vm_turns *turns = &vcpu->vm->turns;

	return atomic_load(vcpu->turn.spins ? &turns->parked : &turns->workers) ||
	       atomic_load(&turns->running) > turns->cpus;
}

/* They may have begun or ended to take turns since the last look. */
static bool takes_part(struct vcpu *vcpu)
{
	bool used = in_use(vcpu->vm);

	if (used && !vcpu->turn.counted)
		count(vcpu);
	else if (!used && vcpu->turn.counted)
		turns_end(vcpu);
	return used;
}

void turns_look(struct vcpu *vcpu)
{
	uint64_t now;

	if (__builtin_expect(!takes_part(vcpu), 1))
		return;
	now = cpu_rdtsc();
	if (now - vcpu->turn.since < vm_us_to_ticks(vcpu->vm, TURN_US))
		return;
	if (should_park(vcpu)) {
		park(vcpu);
	} else {
		vcpu->turn.since = now;
		vcpu->turn.spins = false;
	}
}

void turns_give(struct vcpu *vcpu)
{
	vcpu->turn.since = 0;
	vcpu->turn.spins = true;
}

bool turns_spin(struct vcpu *vcpu)
{
	turns_needed(vcpu->vm);
	if (!vcpu->turn.counted)
		return false;
	turns_give(vcpu);
	return should_park(vcpu);
}
