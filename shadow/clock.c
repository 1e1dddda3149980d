// SPDX-License-Identifier: GPL-2.0-or-later
#include "clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "msr.h"
#include "sys.h"
#include "vcpu.h"

/*
 * kvmclock. One base for the whole VM, so that all vCPUs agree to the tick: the clock was ns at host TSC tsc and runs on
 * with the TSC, which is taken to be stable (the shim's hosts have an invariant one).
 */

#define NS_PER_SEC 1000000000ull
#define MSR_ENABLE 1ull
#define FLAG_TSC_STABLE (1 << 0)
#define FLAG_GUEST_STOPPED (1 << 1)

/* In guest memory: KVM's ABI with its guests (Documentation/virt/kvm/x86/msr.rst). */
struct pvclock {
	uint32_t version;
	uint32_t pad;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad2[2];
} __attribute__((packed, aligned(4)));

struct pvclock_wall {
	uint32_t version;
	uint32_t sec;
	uint32_t nsec;
};

struct vm_clock {
	_Atomic uint32_t seq; /* odd: the control thread is changing the base */
	_Atomic uint64_t base_tsc;
	_Atomic uint64_t base_ns;
	uint32_t mul; /* C: ns = (ticks << shift) * mul / 2^32; shift < 0: to the right */
	int shift;    /* C */
};

/* ---- arithmetic ---- */

/* mul is the largest that fits 32 bits, so the error is below one in 2^31. */
static void scale_set(struct vm_clock *clock, uint32_t khz)
{
	uint64_t hz = (khz ? khz : 1000000) * 1000ull, rest, mul;
	int shift = 0;

	/* Ticks a unit after the shift: between 1 and 2 times 10^9. Right shifts are done on the dividend: no bit is lost. */
	while (hz <= NS_PER_SEC) {
		hz <<= 1;
		shift++;
	}
	while (hz >> -(shift < 0 ? shift : 0) > 2 * NS_PER_SEC)
		shift--;
	/* (10^9 << 32 << -shift) / hz, rounded; the high half is below hz, so the quotient fits. */
	rest = shift < 0 ? NS_PER_SEC << -shift : NS_PER_SEC;
	__asm__("divq %4" : "=a"(mul), "=d"(rest) : "a"(rest << 32), "d"(rest >> 32), "r"(hz) : "cc");
	if (rest >= hz - rest && mul < UINT32_MAX)
		mul++;
	clock->mul = mul > UINT32_MAX ? UINT32_MAX : mul;
	clock->shift = shift;
}

static uint64_t scale(const struct vm_clock *clock, uint64_t ticks)
{
	ticks = clock->shift < 0 ? ticks >> -clock->shift : ticks << clock->shift;
	return (unsigned __int128)ticks * clock->mul >> 32;
}

struct base {
	uint64_t tsc, ns;
};

static struct base base_get(struct vm_clock *clock)
{
	struct base base;
	uint32_t seq;

	do {
		seq = atomic_load_explicit(&clock->seq, memory_order_acquire);
		base.tsc = atomic_load_explicit(&clock->base_tsc, memory_order_relaxed);
		base.ns = atomic_load_explicit(&clock->base_ns, memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
	} while (seq & 1 || atomic_load_explicit(&clock->seq, memory_order_relaxed) != seq);
	return base;
}

/* Control thread only: one writer. */
static void base_set(struct vm_clock *clock, uint64_t tsc, uint64_t ns)
{
	atomic_fetch_add(&clock->seq, 1);
	atomic_store(&clock->base_tsc, tsc);
	atomic_store(&clock->base_ns, ns);
	atomic_fetch_add(&clock->seq, 1);
}

static uint64_t ns_at(struct vm_clock *clock, uint64_t tsc)
{
	struct base base = base_get(clock);

	return base.ns + ((int64_t)(tsc - base.tsc) > 0 ? scale(clock, tsc - base.tsc) : 0);
}

uint64_t clock_guest_ns(struct vm *vm)
{
	return ns_at(vm->clock, clock_host_tsc());
}

/* ---- one clock for all vCPUs ---- */

static struct vcpu *vcpu_at(struct vm *vm, unsigned int n)
{
	return __atomic_load_n(&vm->vcpu[n], __ATOMIC_ACQUIRE);
}

/*
 * Do all vCPUs have the same TSC? Only then may a guest compute the time of one vCPU from the page of another, as its vDSO does. The
 * pages themselves agree in any case.
 */
static bool tsc_same(struct vm *vm)
{
	unsigned int count = atomic_load(&vm->vcpus);
	struct vcpu *first = count ? vcpu_at(vm, 0) : NULL;

	for (unsigned int n = 1; n < count; n++)
		if (__atomic_load_n(&vcpu_at(vm, n)->run->tsc_offset, __ATOMIC_SEQ_CST) !=
		    __atomic_load_n(&first->run->tsc_offset, __ATOMIC_SEQ_CST))
			return false;
	return true;
}

static void notify_all(struct vm *vm, const struct vcpu *but)
{
	unsigned int count = atomic_load(&vm->vcpus);

	for (unsigned int n = 0; n < count; n++)
		if (vcpu_at(vm, n) != but)
			vcpu_notify(vcpu_at(vm, n), VCPU_REQ_CLOCK);
}

void clock_tsc_changed(struct vcpu *vcpu)
{
	notify_all(vcpu->vm, vcpu);
}

/* ---- the VMM's side ---- */

int clock_create(struct vm *vm)
{
	struct vm_clock *clock = calloc(1, sizeof(*clock));

	if (!clock)
		return -ENOMEM;
	scale_set(clock, vm->info.tsc_khz);
	base_set(clock, clock_host_tsc(), 0); /* as KVM's, it starts with its VM */
	vm->clock = clock;
	return 0;
}

static uint64_t realtime_ns(void)
{
	struct sys_timespec now = { 0, 0 };

	sys_clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.sec * NS_PER_SEC + now.nsec;
}

/* Wall time and TSC of one moment: of a few tries the one that was disturbed least. */
static void realtime_pair(uint64_t *realtime, uint64_t *tsc)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 4; i++) {
		uint64_t before = clock_host_tsc(), now = realtime_ns(), after = clock_host_tsc();

		if (after - before >= best)
			continue;
		best = after - before;
		*realtime = now;
		*tsc = before + best / 2;
	}
}

int clock_get(struct vm *vm, struct kvm_clock_data *data)
{
	uint64_t realtime = 0, tsc = 0;

	realtime_pair(&realtime, &tsc);
	memset(data, 0, sizeof(*data));
	data->clock = ns_at(vm->clock, tsc);
	data->flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC | (tsc_same(vm) ? KVM_CLOCK_TSC_STABLE : 0);
	data->realtime = realtime;
	data->host_tsc = tsc;
	return 0;
}

int clock_set(struct vm *vm, const struct kvm_clock_data *data)
{
	uint64_t ns = data->clock, realtime = 0, tsc = 0;

	if (data->flags & ~(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
		return -EINVAL;
	realtime_pair(&realtime, &tsc);
	/* The time that passed since the VMM took its reading; never backwards. */
	if (data->flags & KVM_CLOCK_REALTIME && realtime > data->realtime)
		ns += realtime - data->realtime;
	base_set(vm->clock, tsc, ns);
	notify_all(vm, NULL);
	return 0;
}

/* ---- the guest's side, on the vCPU's thread ---- */

/* The guest reads version, body, version: odd means "being written" (and other vCPUs may look). */
static void pvclock_write(struct pvclock *to, const struct pvclock *from)
{
	uint32_t version = __atomic_load_n(&to->version, __ATOMIC_RELAXED) | 1;

	__atomic_store_n(&to->version, version, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* also keeps the copy between the two stores */
	memcpy((uint8_t *)to + 8, (const uint8_t *)from + 8, sizeof(*to) - 8);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&to->version, version + 1, __ATOMIC_RELAXED);
}

static void page_write(struct vcpu *vcpu, uint8_t new_flags)
{
	struct vm_clock *clock = vcpu->vm->clock;
	uint64_t msr = vcpu->msrs->system_time;
	struct pvclock *guest, now = { 0 };
	struct base base;

	if (!(msr & MSR_ENABLE))
		return;
	FAULT_POINT(kvmclock_page, vcpu, NULL, msr);
	base = base_get(clock);
	now.tsc_timestamp = base.tsc + vcpu->run->tsc_offset;
	now.system_time = base.ns;
	now.tsc_to_system_mul = clock->mul;
	now.tsc_shift = clock->shift;
	vm_read_lock(vcpu->vm);
	guest = vm_gpa_to_hva(vcpu->vm, msr & ~MSR_ENABLE, sizeof(*guest), true);
	if (guest) {
		/* "Stopped" stays until the guest has seen it and clears it. */
		now.flags = (tsc_same(vcpu->vm) ? FLAG_TSC_STABLE : 0) | new_flags |
			    (__atomic_load_n(&guest->flags, __ATOMIC_RELAXED) & FLAG_GUEST_STOPPED);
		pvclock_write(guest, &now);
	}
	vm_read_unlock(vcpu->vm);
}

void clock_update(struct vcpu *vcpu)
{
	page_write(vcpu, 0);
}

int clock_kvmclock_ctrl(struct vcpu *vcpu)
{
	if (!(vcpu->msrs->system_time & MSR_ENABLE))
		return -EINVAL;
	page_write(vcpu, FLAG_GUEST_STOPPED);
	return 0;
}

int clock_write_system_time(struct vcpu *vcpu, uint64_t value)
{
	FAULT_POINT(kvmclock_msr, vcpu, NULL, value);
	/* 4-byte aligned, by the ABI. An address without memory is the guest's loss, as on KVM: nothing is written. */
	if (value & MSR_ENABLE && value & 2)
		return -1;
	vcpu->msrs->system_time = value;
	page_write(vcpu, 0);
	return 0;
}

int clock_write_wall_clock(struct vcpu *vcpu, uint64_t value)
{
	struct pvclock_wall *guest;
	uint64_t boot, sec = 0;
	uint32_t version;

	if (value & 3)
		return -1;
	vcpu->msrs->wall_clock = value;
	if (!value)
		return 0;
	boot = realtime_ns() - clock_guest_ns(vcpu->vm); /* wall time when the guest's clock was 0 */
	sec = boot / NS_PER_SEC;
	vm_read_lock(vcpu->vm);
	guest = vm_gpa_to_hva(vcpu->vm, value, sizeof(*guest), true);
	if (guest) {
		version = __atomic_load_n(&guest->version, __ATOMIC_RELAXED) | 1;
		__atomic_store_n(&guest->version, version, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		__atomic_store_n(&guest->sec, (uint32_t)sec, __ATOMIC_RELAXED);
		__atomic_store_n(&guest->nsec, (uint32_t)(boot % NS_PER_SEC), __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		__atomic_store_n(&guest->version, version + 1, __ATOMIC_RELAXED);
	}
	vm_read_unlock(vcpu->vm);
	return 0;
}
