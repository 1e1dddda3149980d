/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef FAKE_SHIM_H
#define FAKE_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include "shadow/shim.h"

/*
 * The shim's ABI over a script of exits. What it is handed at each entry is kept for the test to look at. A script that is
 * at its end answers VMEXIT_SHUTDOWN.
 */
#define FAKE_STEPS 64

struct fake_step {
	struct vmexit exit;
	struct umbra_event event;	    /* cut short by this exit */
	void (*act)(struct umbra_run *run); /* what the guest did before it exited */
	int ret;			    /* RUN's result */
	bool raw;			    /* hw instead of exit: as SVM's shim hands it on */
	struct umbra_exit hw;
	bool keep_inject; /* comes back without having taken the event over */
};

struct fake_shim {
	struct shim shim; /* first */
	bool svm;
	struct umbra_run *run;
	void *vapic;
	struct fake_step step[FAKE_STEPS];
	struct umbra_run entry[FAKE_STEPS]; /* the run area as each entry found it */
	unsigned int steps, at;
	unsigned int fetches; /* RUNs with NO_ENTRY */
	_Atomic unsigned int kicks;
	int create_ret;		/* < 0: what create_vcpu fails with */
	unsigned int destroyed; /* vCPUs */
	unsigned int vms;
	struct umbra_region region[UMBRA_MAX_REGIONS];
	int region_ret;	     /* what the next set_region returns */
	uint64_t dirty_word; /* first word of what get_dirty reports */
	struct umbra_dirty dirty_arg;
	_Atomic unsigned int dirty_calls;
};

void fake_init(struct fake_shim *fake);
struct fake_step *fake_push(struct fake_shim *fake, uint32_t reason, uint8_t insn_len);
struct fake_step *fake_push_svm(struct fake_shim *fake, uint32_t code, uint64_t info1, uint64_t info2,
				uint8_t insn_len);

#endif
