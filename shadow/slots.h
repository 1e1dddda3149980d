/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_SLOTS_H
#define UMBRA_SLOTS_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * Dirty bits of one slot with KVM_MEM_LOG_DIRTY_PAGES, besides those that the shim keeps for the guest's own writes.
 * Freed like the slot itself: when no reader of a snapshot can hold it any more.
 */
struct slot_dirty {
	uint64_t words;
	uint64_t *pending;	/* V: manual protect: handed out, not yet cleared by the VMM */
	_Atomic uint64_t own[]; /* A: pages that the shadow wrote */
};

#endif
