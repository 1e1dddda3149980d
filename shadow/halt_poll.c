// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who waits for a device or another vCPU halts for some ten microseconds, and as much again goes by until a thread that slept runs. So,
 * as with KVM, the thread of a halted vCPU looks for work before it sleeps, and how long it does so depends on how long the halts before
 * were. What it looks at: its requests, the VM's interrupt bell, and the event thread's set of eventfds, so that an interrupt needs no
 * other thread. The time is the thread's own: it yields to whoever else can run, and it ends when vCPUs that have work need the CPU.
 */
#include "halt_poll.h"

#include "channel.h"
#include "irq_bell.h"
#include "msr.h"
#include "routing.h"
#include "sys.h"
#include "vcpu.h"

#define LONGEST_US 200 /* KVM's default halt_poll_ns */
#define FIRST_US 10
#define LOOK_US 2 /* between two looks that are system calls */
#define LOOKS_PER_YIELD 4
#define PAUSES 8

static bool is_allowed(const struct vcpu *vcpu)
{
	return vcpu->mp_state == KVM_MP_STATE_HALTED && vcpu->msrs->poll_control & 1 && vcpu->vm->turns.cpus > 1;
}

static void pause_a_little(void)
{
	for (int i = 0; i < PAUSES; i++)
		cpu_pause();
}

static bool poll_until(struct vcpu *vcpu, uint64_t end)
{
	uint64_t now, next = cpu_rdtsc() + vm_us_to_ticks(vcpu->vm, LOOK_US);

	for (unsigned int looks = 0; !atomic_load(&vcpu->requests);) {
		now = cpu_rdtsc();
		if (now >= end || !turns_cpu_is_free(vcpu->vm))
			return false;
		irq_bell_serve(vcpu->vm);
		if (now >= next) {
			eventfds_poll(vcpu->vm);
			if (++looks % LOOKS_PER_YIELD == 0)
				sys_sched_yield();
			next = cpu_rdtsc() + vm_us_to_ticks(vcpu->vm, LOOK_US);
		}
		pause_a_little();
	}
	return true;
}

bool halt_poll(struct vcpu *vcpu, uint64_t since)
{
	uint64_t deadline = vcpu->lapic.timer_deadline_tsc,
		 end = since + vm_us_to_ticks(vcpu->vm, vcpu->halt.window_us);
	bool found;

	if (!vcpu->halt.window_us || !is_allowed(vcpu) || cpu_rdtsc() >= end)
		return false;
	turns_poll(vcpu->vm, 1);
	irq_bell_polled(vcpu->vm, 1);
	found = poll_until(vcpu, deadline && deadline < end ? deadline : end);
	irq_bell_polled(vcpu->vm, -1);
	turns_poll(vcpu->vm, -1);
	vcpu->halt.polls++;
	if (!found && (!deadline || cpu_rdtsc() < deadline))
		return false;
	vcpu->halt.polls_ended++;
	return true;
}

void halt_poll_adapt(struct vcpu *vcpu, uint64_t since)
{
	uint64_t ticks = cpu_rdtsc() - since;
	uint32_t window = vcpu->halt.window_us;

	if (ticks <= vm_us_to_ticks(vcpu->vm, window))
		return;
	if (ticks > vm_us_to_ticks(vcpu->vm, LONGEST_US))
		window = 0;
	else if (window)
		window = window < LONGEST_US / 2 ? 2 * window : LONGEST_US;
	else
		window = FIRST_US;
	vcpu->halt.window_us = window;
}
