// SPDX-License-Identifier: GPL-2.0-or-later
#include "clock.h"

#include "sys.h"

/* A file of its own, so that unit tests can bring their own time. */
uint64_t clock_host_tsc(void)
{
	return cpu_rdtsc();
}
