/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef UMBRA_CHECK_H
#define UMBRA_CHECK_H

/*
 * Every check of what a shadow hands in: pure functions over plain structures, no kernel API, so that the
 * module, the unit tests, the fuzzers and the model checker compile the same file. The caller passes its own
 * copy, never shared memory. 0 means accepted. What the CPU itself checks at VM entry (SDM 3C 27.2, 27.3), before any of it
 * takes effect, is left to the CPU; what would otherwise reach a host register or a table is checked here.
 */

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/types.h>
#else
#include <errno.h>
#include <stdbool.h>
#endif

#include "umbra_abi.h"

/* What a guest may have, computed once when the module loads. */
struct limits {
	__u64 cr0_may, cr4_may, efer_may, xcr0_may;
	__u64 user_end; /* first address past user space */
	__u32 gpa_bits;
};

/* One occupied guest-physical range; arrays of them are sorted by gpa. */
struct gpa_range {
	__u64 gpa;
	__u64 size;
};

/* A control field: what is wanted, plus what must be 1, minus what may not be 1. (SDM 3D A.2) */
static inline __u32 constrain(__u32 want, __u32 must, __u32 may)
{
	return (want | must) & may;
}

int check_create(__u64 flags, const __u64 reserved[3]);
int check_region(const struct umbra_region *region, const struct limits *limits);
int check_dirty(const struct umbra_dirty *dirty, __u64 region_size);

/* Where in ranges[0..count) a range goes: its index, or -EEXIST when it overlaps another than skip. */
int range_place(const struct gpa_range *ranges, int count, int skip, __u64 gpa, __u64 size);
/* The range that contains gpa, or -ENOENT. */
int range_find(const struct gpa_range *ranges, int count, __u64 gpa);

/* The run area, as copied: an UMBRA_BAD_* rule or 0. The control part; all of the state. */
__u32 check_control(const struct umbra_run *in);
__u32 check_state(const struct umbra_run *in, const struct limits *limits);

#endif
