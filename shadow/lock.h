/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_LOCK_H
#define UMBRA_LOCK_H

/* A lock that vCPU threads may take: no libc, no vector registers. Not recursive, not fair. */

#include <stdatomic.h>

#include "sys.h"

struct lock {
	atomic_uint word; /* 0 free, 1 held, 2 held and someone may sleep */
};

static inline void lock_take(struct lock *lock)
{
	unsigned int free = 0;

	if (atomic_compare_exchange_strong_explicit(&lock->word, &free, 1, memory_order_acquire, memory_order_relaxed))
		return;
	/* Whoever had to wait leaves the mark of a sleeper behind: at worst one wake-up for nobody. */
	while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire))
		sys_futex_wait(&lock->word, 2, 0, 0);
}

static inline void lock_drop(struct lock *lock)
{
	if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2)
		sys_futex_wake(&lock->word, 0);
}

#endif
