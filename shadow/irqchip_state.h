/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_IRQCHIP_STATE_H
#define UMBRA_IRQCHIP_STATE_H

/* Inside the irqchip: what irqchip.c and irqchip_state.c share. */

#include <stdatomic.h>

#include "ioapic.h"
#include "irqchip.h"
#include "lock.h"
#include "pic.h"
#include "pit.h"
#include "vm.h"

#define RESAMPLERS_MAX VM_MAX_ROUTES /* as many as irqfds: each may have one */

struct resampler {
	uint32_t gsi;
	uint32_t cookie; /* of the irqfd */
	int fd;		 /* the eventfd that tells the VMM */
};

struct irqchip {
	struct pic pic;
	struct ioapic ioapic;
	struct pit pit;
	int64_t storm_end;	/* when the I/O APIC's delayed pins may go on; 0: none */
	int64_t wakes;		/* when the event thread looks by itself; INT64_MAX: never */
	bool has_pit;		/* set before the first vCPU runs, as a rule; a vCPU that misses it sees no such port */
	bool has_speaker;	/* port 61h too */
	atomic_bool pic_output; /* A: what the CPUs see of pic.output */
	uint32_t resamplers;
	struct resampler resampler[RESAMPLERS_MAX];
};

#endif
