/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_PIT_H
#define UMBRA_PIT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The 8254 and the part of the PC's port 61h that belongs to it. A plain device: its owner locks, tells the time (ns, any
 * clock that does not go back) and raises the interrupts of channel 0.
 */

#define PIT_HZ 1193182
#define PIT_CHANNELS 3
#define PIT_PERIOD_MIN_NS 200000 /* of interrupts: a guest cannot ask for more than 5000 a second, as on KVM */

/* The fields of the KVM API's state, which may hold anything, and below them the model's own. */
struct pit_channel {
	uint32_t count; /* as loaded; 0 is 65536 */
	uint16_t latched_count;
	uint8_t count_latched; /* PIT_RW_*: what is to be read of latched_count; 0: not latched */
	uint8_t status_latched;
	uint8_t status;
	uint8_t read_state; /* PIT_RW_* */
	uint8_t write_state;
	uint8_t write_latch;
	uint8_t rw_mode;
	uint8_t mode; /* 0 to 5; others never count */
	uint8_t bcd;
	uint8_t gate;
	int64_t load_time; /* when the present count began, ns */
	bool null_count;   /* a control word was written, its count is not there yet: the counter stands */
	bool paused;	   /* by the gate, at paused_ns */
	int64_t paused_ns;
};

struct pit {
	struct pit_channel channel[PIT_CHANNELS];
	uint32_t flags; /* KVM_PIT_FLAGS_* */
	/* Interrupts of channel 0 */
	int64_t next; /* when, ns; 0: none */
	bool periodic;
	uint64_t period_ns;   /* whole ns of a period, and what is left of it */
	uint64_t period_rest; /* in 1/PIT_HZ ns */
	uint64_t rest;
	uint32_t pending; /* ticks that the guest has not taken yet */
	bool reinject;	  /* a tick waits for the end of the one before */
	bool ready;	  /* the one before was taken */
};

void pit_init(struct pit *pit, int64_t now);
/* Ports 40h to 43h, by their low two bits */
uint8_t pit_read(struct pit *pit, unsigned int port, int64_t now);
void pit_write(struct pit *pit, unsigned int port, uint8_t value, int64_t now);
uint8_t pit_speaker_read(const struct pit *pit, int64_t now);
void pit_speaker_write(struct pit *pit, uint8_t value, int64_t now);

/* Channel 0's time has come: true when the owner shall raise an interrupt. */
bool pit_expire(struct pit *pit, int64_t now);
bool pit_acked(struct pit *pit); /* the guest has taken one: true when the next one is to follow at once */
void pit_reset_ticks(struct pit *pit);
void pit_set_reinject(struct pit *pit, bool reinject);

/* channel[] came from outside: all counts begin anew. */
void pit_restore(struct pit *pit, uint32_t flags, int64_t now);

#endif
