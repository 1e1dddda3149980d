// SPDX-License-Identifier: GPL-2.0-or-later
#include "clock.h"

#include <time.h>

#include "sys.h"

/* A file of its own, so that unit tests can bring their own time. */
uint64_t clock_host_tsc(void)
{
	return cpu_rdtsc();
}

int64_t clock_monotonic_ns(void)
{
	struct sys_timespec now = { 0, 0 };

	sys_clock_gettime(CLOCK_MONOTONIC, &now);
	return now.sec * (int64_t)1000000000 + now.nsec;
}
