/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_HALT_POLL_H
#define UMBRA_HALT_POLL_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* Belongs to the vCPU's thread. */
struct vcpu_halt {
	uint32_t window_us;   /* how long a halt is polled; 0: not at all */
	uint64_t polls;	      /* counters, for stats_print(): halts that were polled, */
	uint64_t polls_ended; /* and of these such that ended meanwhile */
};

/* since: host TSC at the halt. false: nothing came, and there is no use in polling (any longer). */
bool halt_poll(struct vcpu *vcpu, uint64_t since);
/* After a halt: it learns from its length. */
void halt_poll_adapt(struct vcpu *vcpu, uint64_t since);

#endif
