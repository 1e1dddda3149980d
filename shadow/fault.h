/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_FAULT_H
#define UMBRA_FAULT_H

/*
 * Places where tests/attack/cve_faults.c puts mistakes back in that hypervisors once had (tests/attack/cve.sh). Only a build with
 * UMBRA_FAULTS=ON has them: elsewhere both macros are nothing, and no argument is evaluated.
 */
#ifdef UMBRA_FAULTS

#include <stdbool.h>
#include <stdint.h>

extern uint64_t fault_result;
/* true: the handler shall return fault_result. */
bool fault_point(const char *place, const void *object, const void *data, uint64_t value);

#define FAULT_POINT(place, object, data, value) ((void)fault_point(#place, object, data, value))
#define FAULT_RETURN(place, object, data, value)              \
	do {                                                  \
		if (fault_point(#place, object, data, value)) \
			return fault_result;                  \
	} while (0)

#else

#define FAULT_POINT(place, object, data, value) ((void)0)
#define FAULT_RETURN(place, object, data, value) ((void)0)

#endif
#endif
