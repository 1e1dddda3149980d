/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MODEL_H
#define UMBRA_MODEL_H

/* What the proofs need of CBMC. A function without a body returns any value of its type. */
#ifndef __KERNEL__
#include "check.h"
#endif

#define ASSUME(condition) __CPROVER_assume(condition)
#define PROVE(condition, text) __CPROVER_assert(condition, text)

_Bool nondet_bool(void);
int nondet_int(void);
__u8 nondet_u8(void);
__u32 nondet_u32(void);
__u64 nondet_u64(void);
struct umbra_region nondet_region(void);
struct umbra_dirty nondet_dirty(void);
struct umbra_run nondet_run(void);
struct limits nondet_limits(void);

#endif
