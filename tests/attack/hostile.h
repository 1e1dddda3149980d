/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_ATTACK_HOSTILE_H
#define UMBRA_ATTACK_HOSTILE_H

/* What the hostile VMM and the hostile client of the KVM API share: random numbers from a seed, and a clock. */

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static uint64_t seed = 1;

/* Neighbouring seeds on a command line begin far from each other. */
static inline void seed_set(const char *text)
{
	seed = strtoull(text, NULL, 0) * 0x9e3779b97f4a7c15 + 1;
}

static inline uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static inline uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#endif
