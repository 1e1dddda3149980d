/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ABI_FUZZ_H
#define ABI_FUZZ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One round: a process with so many threads, each with a sequence that its number and the seed give. */
struct plan {
	uint64_t seed;
	uint32_t threads, steps;
	uint32_t ops; /* a bit for each kind of step that is allowed */
};

#define THREADS_MAX 6
#define LOG_LINES 32
#define COVER_BYTES (1 << 18)

/* What the parent sees of a round. */
struct report {
	_Atomic uint64_t calls;
	_Atomic uint64_t entries; /* RUNs that came back with 0 */
	atomic_int failed;
	char reason[256];
	char line[THREADS_MAX][LOG_LINES][112]; /* the last steps of each thread */
	atomic_uint lines[THREADS_MAX];
	/* Kept from round to round: from here on. */
	uint64_t text;		    /* of the module; 0: no KCOV */
	uint8_t cover[COVER_BYTES]; /* 1: the place so far from there was reached */
};

extern struct report *report;

void round_run(const struct plan *plan); /* in a process of its own; does not come back */
/* cover.c */
void cover_begin(void);
void cover_take(void);
uint64_t cover_text(void);
void cover_print(void);

extern const char *const op_names[];
extern const uint32_t op_count;

#endif
