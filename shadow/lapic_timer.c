// SPDX-License-Identifier: GPL-2.0-or-later
#include "lapic_regs.h"

#include "fault.h"

/*
 * The APIC timer: SDM 3A 11.5.4. Its clock runs at 1 GHz, as KVM's: one count before division is one nanosecond.
 * Everything is kept as a deadline in host TSC ticks; the vCPU's loop hands it to the shim or sleeps until then.
 */

/* As KVM's default: a guest cannot ask for more than 5000 periodic interrupts a second and stall its host. */
#define PERIOD_MIN_NS 200000

static uint64_t host_khz(const struct vcpu *vcpu)
{
	return vcpu->vm->info.tsc_khz ? vcpu->vm->info.tsc_khz : 1000000;
}

/* ns: at most 2^39 (a full count, divided by 128), so the product fits for any clock below 32 GHz. */
static uint64_t ns_to_ticks(const struct vcpu *vcpu, uint64_t ns)
{
	return ns * host_khz(vcpu) / 1000000;
}

static uint64_t ticks_to_ns(const struct vcpu *vcpu, uint64_t ticks)
{
	/* in two parts, since ticks * 10^6 may not fit */
	uint64_t khz = host_khz(vcpu);

	return ticks / khz * 1000000 + ticks % khz * 1000000 / khz;
}

static uint64_t count_to_ticks(const struct vcpu *vcpu, uint32_t count)
{
	return ns_to_ticks(vcpu, (uint64_t)count * vcpu->lapic.timer_divide);
}

static uint32_t divide_of(uint32_t tdcr)
{
	uint32_t code = (tdcr & 3) | (tdcr & 8) >> 1;

	return 1u << ((code + 1) & 7); /* 111b: divide by 1 */
}

void lapic_timer_stop(struct lapic *lapic)
{
	lapic->timer_deadline_tsc = 0;
	lapic->timer_guest_deadline = 0;
	lapic->timer_period_tsc = 0;
}

static uint64_t period_ticks(const struct vcpu *vcpu)
{
	uint64_t period = count_to_ticks(vcpu, lapic_reg(&vcpu->lapic, APIC_TMICT));
	uint64_t min = ns_to_ticks(vcpu, PERIOD_MIN_NS);

	return period < min ? min : period;
}

/* Ticks from now; a deadline of 0 would mean "not armed". */
static void arm(struct vcpu *vcpu, uint64_t now, uint64_t ticks)
{
	vcpu->lapic.timer_deadline_tsc = now + ticks ? now + ticks : 1;
}

/* Host TSC for the guest's deadline; without a look at the clock: the host's TSC counts up from 0. */
static void arm_guest_deadline(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	uint64_t guest = lapic->timer_guest_deadline;
	int64_t offset = vcpu->run->tsc_offset;
	uint64_t host;

	if (!guest)
		host = 0;
	else if (offset >= 0)
		host = guest > (uint64_t)offset ? guest - offset : 1; /* before the host's start: long past */
	else if (__builtin_add_overflow(guest, 0 - (uint64_t)offset, &host))
		host = UINT64_MAX;
	lapic->timer_deadline_tsc = host;
}

void lapic_timer_set_deadline(struct vcpu *vcpu, uint64_t guest_tsc)
{
	struct lapic *lapic = &vcpu->lapic;

	if (lapic->timer_mode != APIC_TIMER_DEADLINE || !lapic->enabled)
		return;
	lapic->timer_guest_deadline = guest_tsc;
	arm_guest_deadline(vcpu);
}

void lapic_tsc_changed(struct vcpu *vcpu)
{
	if (vcpu->lapic.timer_mode == APIC_TIMER_DEADLINE)
		arm_guest_deadline(vcpu);
}

void lapic_timer_lvt_written(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t mode = lapic_reg(lapic, APIC_LVT_TIMER) & APIC_TIMER_MODE;
	uint32_t old = lapic->timer_mode;

	if (mode == old)
		return;
	/* To and from the deadline mode the timer is disarmed (SDM 3A 11.5.4.1); 11b is reserved and never counts. */
	if ((mode | old) & APIC_TIMER_DEADLINE) {
		lapic_timer_stop(lapic);
		lapic_set_reg(lapic, APIC_TMICT, 0);
	}
	lapic->timer_mode = mode;
	lapic->timer_period_tsc = mode == APIC_TIMER_PERIODIC ? period_ticks(vcpu) : 0;
}

void lapic_timer_count_written(struct vcpu *vcpu, uint32_t count)
{
	struct lapic *lapic = &vcpu->lapic;

	if (lapic->timer_mode & APIC_TIMER_DEADLINE)
		return;
	lapic_set_reg(lapic, APIC_TMICT, count);
	lapic_timer_stop(lapic);
	if (!count)
		return;
	if (lapic->timer_mode == APIC_TIMER_PERIODIC)
		lapic->timer_period_tsc = period_ticks(vcpu);
	arm(vcpu, clock_host_tsc(), lapic->timer_period_tsc ? lapic->timer_period_tsc : count_to_ticks(vcpu, count));
}

/* Host TSC ticks until the count is 0. A periodic timer that is due but was not looked at yet has wrapped. */
static uint64_t ticks_left(const struct lapic *lapic, uint64_t now)
{
	uint64_t deadline = lapic->timer_deadline_tsc;

	if (!deadline)
		return 0;
	if (now < deadline)
		return deadline - now;
	if (!lapic->timer_period_tsc)
		return 0;
	return lapic->timer_period_tsc - (now - deadline) % lapic->timer_period_tsc;
}

static uint32_t count_at(struct vcpu *vcpu, uint64_t now)
{
	uint64_t ns = ticks_to_ns(vcpu, ticks_left(&vcpu->lapic, now));
	uint64_t count = ns / vcpu->lapic.timer_divide;
	uint32_t initial = lapic_reg(&vcpu->lapic, APIC_TMICT);

	return count > initial ? initial : count;
}

uint32_t lapic_timer_count(struct vcpu *vcpu)
{
	FAULT_POINT(lapic_timer_count, vcpu, NULL, lapic_reg(&vcpu->lapic, APIC_TMICT));
	if (vcpu->lapic.timer_mode & APIC_TIMER_DEADLINE || !vcpu->lapic.timer_deadline_tsc)
		return 0;
	return count_at(vcpu, clock_host_tsc());
}

/* A running timer goes on from its present count at the new rate. */
void lapic_timer_divide_written(struct vcpu *vcpu, uint32_t value)
{
	struct lapic *lapic = &vcpu->lapic;
	uint64_t now;
	uint32_t count;

	lapic_set_reg(lapic, APIC_TDCR, value);
	if (divide_of(value) == lapic->timer_divide)
		return;
	if (lapic->timer_mode & APIC_TIMER_DEADLINE || !lapic->timer_deadline_tsc) {
		lapic->timer_divide = divide_of(value);
		return;
	}
	now = clock_host_tsc();
	lapic_timer_check(vcpu, now);
	count = count_at(vcpu, now);
	lapic->timer_divide = divide_of(value);
	if (lapic->timer_period_tsc)
		lapic->timer_period_tsc = period_ticks(vcpu);
	if (lapic->timer_deadline_tsc)
		arm(vcpu, now, count_to_ticks(vcpu, count));
}

void lapic_timer_check(struct vcpu *vcpu, uint64_t host_tsc)
{
	struct lapic *lapic = &vcpu->lapic;

	if (!lapic->timer_deadline_tsc || host_tsc < lapic->timer_deadline_tsc)
		return;
	if (lapic->timer_period_tsc) {
		/* Periods that nobody looked at are one interrupt, as in an IRR bit. */
		arm(vcpu, host_tsc, ticks_left(lapic, host_tsc));
	} else {
		lapic->timer_deadline_tsc = 0;
		lapic->timer_guest_deadline = 0;
	}
	lapic_local_deliver(vcpu, APIC_LVT_TIMER);
}

void lapic_timer_restore(struct vcpu *vcpu, uint32_t count)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t initial = lapic_reg(lapic, APIC_TMICT);
	uint64_t guest_deadline = lapic->timer_guest_deadline;

	lapic_timer_stop(lapic);
	lapic->timer_mode = lapic_reg(lapic, APIC_LVT_TIMER) & APIC_TIMER_MODE;
	lapic->timer_divide = divide_of(lapic_reg(lapic, APIC_TDCR));
	if (lapic->timer_mode == APIC_TIMER_DEADLINE) {
		/* The deadline is an MSR of its own: whatever was restored before stays. */
		lapic->timer_guest_deadline = guest_deadline;
		arm_guest_deadline(vcpu);
		return;
	}
	if (lapic->timer_mode & APIC_TIMER_DEADLINE || !initial)
		return;
	if (count > initial)
		count = initial;
	if (lapic->timer_mode == APIC_TIMER_PERIODIC) {
		lapic->timer_period_tsc = period_ticks(vcpu);
		arm(vcpu, clock_host_tsc(), count ? count_to_ticks(vcpu, count) : lapic->timer_period_tsc);
	} else if (count) {
		/* A one-shot timer at 0 has fired already: its interrupt is in IRR. */
		arm(vcpu, clock_host_tsc(), count_to_ticks(vcpu, count));
	}
}
