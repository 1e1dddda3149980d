/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_KERNEL_MODEL_H
#define UMBRA_KERNEL_MODEL_H

/*
 * For proofs about files of the shim that need the kernel's headers: the harness is preprocessed by the kernel's own build
 * system, and what these files do by inline assembly is replaced by models, since CBMC does not look into it.
 */
#include <linux/bits.h>
#undef GENMASK_INPUT_CHECK /* a constant expression for gcc, but not for CBMC */
#define GENMASK_INPUT_CHECK(h, l) 0

#include "shim.h"
#include <asm/msr.h>
#include "model.h"

u64 nondet_tsc(void);

/* Any value, as on a CPU that nothing is known of. */
static int model_rdmsr_safe(u32 msr, u64 *value)
{
	*value = nondet_u64();
	return nondet_bool() ? -EIO : 0;
}
#undef rdmsrl
#define rdmsrl(msr, value) ((void)((value) = nondet_u64()))
#undef rdmsrl_safe
#define rdmsrl_safe(msr, value) model_rdmsr_safe(msr, value)
#define __rdmsr(msr) nondet_u64()
#define rdtsc() nondet_tsc()

/* Shared memory: whatever is read, at any time. */
#undef READ_ONCE
#define READ_ONCE(x)                     \
	({                               \
		__typeof__(x) any_value; \
		any_value;               \
	})

static inline void model_clear_bit(long nr, unsigned long *addr)
{
	addr[nr / 64] &= ~(1UL << nr % 64);
}
#define clear_bit(nr, addr) model_clear_bit(nr, addr)

#undef for_each_possible_cpu
#define for_each_possible_cpu(cpu) for ((cpu) = 0; (cpu) < 0; (cpu)++)

#undef boot_cpu_has
#define boot_cpu_has(feature) nondet_bool()

/* Not the fortified ones: CBMC knows what the plain ones do. */
#undef memcpy
#undef memset

#endif
