/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MACHINE_FPU_LOOP_H
#define UMBRA_MACHINE_FPU_LOOP_H

#include "lib.h"

struct fpu_loop {
	struct vcpu *vcpu;
	struct snippet code;
	uint64_t exits;		/* out */
	uint64_t seen;		/* out: bit n: exit reason n */
	uint64_t clobber_every; /* spoil a vector register at every n-th exit; 0: never */
	uint64_t drop_every;	/* take the page at r10 away at every n-th exit; 0: never */
	void *drop;		/* that page */
	int error;		/* out: errno or unexpected reason + 1000 */
};

/* Until the guest is done. Touches no vector register: they are the guest's. */
void fpu_loop_run(struct fpu_loop *loop);
void fpu_loop_signal(int signal);
extern volatile unsigned long fpu_loop_signals;

#endif
