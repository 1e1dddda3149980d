// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Steal time and the "preempted" mark (Documentation/virt/kvm/x86/msr.rst). KVM asks the scheduler how long its thread waited in a
 * run queue. A sandboxed process cannot, but it has two clocks: what is left of the elapsed time after the thread's CPU time and
 * the time that it chose to be away was spent waiting for a CPU. Time that the VMM's thread waits for one is not seen.
 *
 * The mark says that a vCPU does not run, so that other vCPUs need not spin for it, and may leave a request to
 * flush its TLB there instead of an interrupt. The shadow does not learn when its thread loses the CPU: it marks the vCPUs that
 * are with the VMM or wait for their turn (turns.c). A halted one is idle, not preempted: its guest may well choose it for work.
 */
#include "steal.h"

#include <asm/kvm_para.h>
#include <stddef.h>
#include <time.h>

#include "clock.h"
#include "core.h"
#include "msr.h"
#include "sys.h"
#include "vcpu.h"

#define LOOK_EVERY_US 4000 /* a look is a system call; Linux looks at each tick, 4 ms with Debian's HZ */

_Static_assert(sizeof(struct kvm_steal_time) == 64, "a gpa that is 64-byte aligned has all of it in one page");

static uint64_t thread_cpu_ns(void)
{
	struct sys_timespec now = { 0, 0 };

	sys_call3(__NR_clock_gettime, CLOCK_THREAD_CPUTIME_ID, (long)&now, 0);
	return (uint64_t)now.sec * 1000000000 + (uint64_t)now.nsec;
}

static uint64_t host_khz(const struct vcpu *vcpu)
{
	return vcpu->vm->info.tsc_khz ? vcpu->vm->info.tsc_khz : 1000000;
}

static uint64_t ticks_to_ns(const struct vcpu *vcpu, uint64_t ticks)
{
	uint64_t khz = host_khz(vcpu); /* in two parts, since ticks * 10^6 may not fit */

	return ticks / khz * 1000000 + ticks % khz * 1000000 / khz;
}

/* With vm_read_lock held. */
static struct kvm_steal_time *area(struct vcpu *vcpu)
{
	uint64_t gpa = vcpu->msrs->steal_time & ~(uint64_t)(KVM_MSR_ENABLED | KVM_STEAL_RESERVED_MASK);

	return vm_gpa_to_hva(vcpu->vm, gpa, sizeof(struct kvm_steal_time), true);
}

/* Everything is counted from here on. */
static void begin(struct vcpu *vcpu)
{
	vcpu->steal.looked = clock_host_tsc();
	vcpu->steal.cpu_ns = thread_cpu_ns();
	vcpu->steal.away = 0;
	vcpu->steal.left = 0;
	atomic_store_explicit(&vcpu->steal.woken, 0, memory_order_relaxed);
}

/* ns since the last look that the thread waited for a CPU */
static uint64_t waited(struct vcpu *vcpu)
{
	struct vcpu_steal *steal = &vcpu->steal;
	uint64_t ticks = clock_host_tsc() - steal->looked, cpu = thread_cpu_ns(), ns;

	ns = ticks_to_ns(vcpu, ticks > steal->away ? ticks - steal->away : 0);
	ns = ns > cpu - steal->cpu_ns ? ns - (cpu - steal->cpu_ns) : 0;
	steal->looked += ticks;
	steal->cpu_ns = cpu;
	steal->away = 0;
	return ns;
}

/* The guest reads version, body, version: odd means "being written". */
static void area_add(struct kvm_steal_time *guest, uint64_t ns)
{
	uint32_t version = __atomic_load_n(&guest->version, __ATOMIC_RELAXED) | 1;

	__atomic_store_n(&guest->version, version, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&guest->steal, __atomic_load_n(&guest->steal, __ATOMIC_RELAXED) + ns, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&guest->version, version + 1, __ATOMIC_RELAXED);
}

/* Before any translation of the guest's is used again. */
static void unmark(struct vcpu *vcpu, struct kvm_steal_time *guest)
{
	vcpu->steal.marked = false;
	if (__atomic_exchange_n(&guest->preempted, 0, __ATOMIC_SEQ_CST) & KVM_VCPU_FLUSH_TLB)
		vcpu->run->flags |= UMBRA_RUN_FLUSH_TLB;
}

static void look(struct vcpu *vcpu)
{
	uint64_t ns = waited(vcpu);
	struct kvm_steal_time *guest;

	vm_read_lock(vcpu->vm);
	guest = area(vcpu);
	if (guest) {
		unmark(vcpu, guest);
		area_add(guest, ns);
	}
	vm_read_unlock(vcpu->vm);
}

int steal_write_msr(struct vcpu *vcpu, uint64_t value, bool host)
{
	if (value & KVM_STEAL_RESERVED_MASK)
		return -1;
	vcpu->msrs->steal_time = value;
	atomic_store(&vcpu->steal.on, value & KVM_MSR_ENABLED);
	vcpu->steal.marked = false;
	if (!(value & KVM_MSR_ENABLED))
		return 0;
	begin(vcpu);
	if (host)
		vcpu->steal.left = vcpu->steal.looked;
	else
		look(vcpu);
	return 0;
}

void steal_reset(struct vcpu *vcpu)
{
	if (vcpu->msrs)
		vcpu->msrs->steal_time = 0;
	atomic_store(&vcpu->steal.on, false);
	vcpu->steal.marked = false;
}

static bool is_on(const struct vcpu *vcpu)
{
	return __builtin_expect(atomic_load_explicit(&vcpu->steal.on, memory_order_relaxed), 0);
}

void steal_run_begin(struct vcpu *vcpu)
{
	if (!is_on(vcpu))
		return;
	if (vcpu->steal.left)
		vcpu->steal.away += clock_host_tsc() - vcpu->steal.left;
	vcpu->steal.left = 0;
	steal_unmark(vcpu);
}

void steal_unmark(struct vcpu *vcpu)
{
	struct kvm_steal_time *guest;

	if (!vcpu->steal.marked)
		return;
	vm_read_lock(vcpu->vm);
	guest = area(vcpu);
	if (guest)
		unmark(vcpu, guest);
	else
		vcpu->run->flags |= UMBRA_RUN_FLUSH_TLB; /* whatever was asked for there is gone with the memory */
	vcpu->steal.marked = false;
	vm_read_unlock(vcpu->vm);
}

/*
 * An instruction that waits for the VMM half-done must see what its translations said when it began: no mark then, so that others
 * wait for this vCPU as ever.
 * A KVM_RUN that fails at once has not begun: since when the vCPU is away, and what others left in its mark, stays as it was.
 */
void steal_run_end(struct vcpu *vcpu)
{
	if (!is_on(vcpu))
		return;
	if (!vcpu->steal.left)
		vcpu->steal.left = clock_host_tsc();
	if (!vcpu->resume->active && atomic_load_explicit(&vcpu->vm->vcpus, memory_order_relaxed) > 1)
		steal_mark(vcpu);
}

void steal_mark(struct vcpu *vcpu)
{
	struct kvm_steal_time *guest;

	if (!is_on(vcpu) || vcpu->steal.marked)
		return;
	vm_read_lock(vcpu->vm);
	guest = area(vcpu);
	if (guest) {
		__atomic_store_n(&guest->preempted, KVM_VCPU_PREEMPTED, __ATOMIC_SEQ_CST);
		vcpu->steal.marked = true;
	}
	vm_read_unlock(vcpu->vm);
}

void steal_look(struct vcpu *vcpu)
{
	if (is_on(vcpu) && clock_host_tsc() - vcpu->steal.looked >= host_khz(vcpu) * LOOK_EVERY_US / 1000)
		look(vcpu);
}

/* The halt ended when it was meant to end; what came after that was waiting. */
void steal_halted(struct vcpu *vcpu, uint64_t from, uint64_t to, uint64_t deadline)
{
	uint64_t woken;

	if (!is_on(vcpu))
		return;
	woken = atomic_exchange_explicit(&vcpu->steal.woken, 0, memory_order_relaxed);
	if (deadline > from && deadline < to)
		to = deadline;
	if (woken > from && woken < to)
		to = woken;
	vcpu->steal.away += to - from;
}

void steal_woken(struct vcpu *vcpu)
{
	if (is_on(vcpu))
		atomic_store_explicit(&vcpu->steal.woken, clock_host_tsc(), memory_order_relaxed);
}
