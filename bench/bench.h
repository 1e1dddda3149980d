/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_BENCH_H
#define UMBRA_BENCH_H

#include <err.h>
#include <stdint.h>

/* In order: a load fence before it keeps it from running ahead on real hardware. */
static inline uint64_t tsc_read(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

#endif
