/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef FUZZ_RIG_H
#define FUZZ_RIG_H

#include "core.h"
#include "input.h"
#include "shim.h"

/*
 * A whole shadow on a fake shim, all on one thread. The shim's checks (shim/check.c) are made on what it hands in, as the
 * real one makes them: whatever guest and VMM do, they must pass.
 */
#define RIG_VCPUS 4
#define RIG_RAM (64 * 4096ULL)
#define RIG_ROM 0x100000ULL
#define RIG_ROM_SIZE (4 * 4096ULL)
#define RIG_CODE 0x1000ULL
#define RIG_TABLES 0x8000ULL /* page tables of the modes that have some */
#define RIG_DEVICE 0xd0000000ULL

struct rig {
	struct shim shim; /* first */
	struct vm vm;
	bool svm;
	uint32_t vcpus;
	struct umbra_run *run[RIG_VCPUS];
	void *(*thread[RIG_VCPUS + 1])(void *); /* 0: the event thread */
	void *thread_arg[RIG_VCPUS + 1];
	uint32_t threads;
	uint8_t *ram;	  /* the VMM's view */
	struct input *in; /* where exits come from */
	struct umbra_region region[UMBRA_MAX_REGIONS];
	int vmm, shadow; /* the control socket */
	int memfd[RIG_VCPUS], kick[RIG_VCPUS], done[RIG_VCPUS], event[4];
	uint8_t *area[RIG_VCPUS]; /* the VMM's view of a vCPU's memfd */
	uint32_t areas;
	uint32_t area_thread
		[RIG_VCPUS]; /* place in thread[] of the vCPU behind an area: memfds of other sizes get vCPUs, too */
};

extern struct rig rig;

enum rig_irqchip { RIG_NONE, RIG_SPLIT, RIG_WHOLE, RIG_WHOLE_PIT };
enum rig_mode { RIG_RESET, RIG_FLAT32, RIG_PAE, RIG_LONG };

void rig_begin(struct input *in, bool svm); /* a shadow before its first message */
void rig_end(void);			    /* everything is gone again */
int64_t rig_ask(uint16_t kind, uint32_t nr, uint64_t arg, const void *payload, size_t size, const int *fds, int nfds);
extern uint8_t rig_reply[CHANNEL_PAYLOAD_MAX];
extern uint32_t rig_reply_size;
/* A VM with RAM, ROM and one vCPU, through the socket. */
void rig_machine(enum rig_irqchip irqchip);
void rig_mode(struct vcpu *vcpu, enum rig_mode mode);
int rig_vcpu(uint32_t id);
int rig_memfd(uint64_t size, uint8_t **map);

/* Steps; each takes what it needs from the input. */
void rig_step_raw(struct input *in);
void rig_step_call(struct input *in);
void rig_step_memory(struct input *in);
void rig_step_vcpu(struct input *in);
void rig_step_run(struct input *in);
void rig_step_vcpu_call(struct input *in);
void rig_step_scribble(struct input *in);
void rig_step_events(struct input *in);
void rig_step_time(struct input *in);
void rig_step_ram(struct input *in);

extern uint64_t fuzz_tsc;
extern int64_t fuzz_ns;

#endif
