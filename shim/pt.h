/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef UMBRA_PT_H
#define UMBRA_PT_H

/*
 * Second-level page tables (EPT; NPT has the same shape): four levels, 4 KiB and 2 MiB leaves. Pure
 * table arithmetic: pages come from the caller's cache, and emptied tables go to its dead list, because the
 * hardware may walk them until the next flush. The caller holds the lock.
 */

#ifdef __KERNEL__
#include <linux/types.h>
#include <asm/page.h>
#define pt_pa(table) __pa(table)
#define pt_va(hpa) ((__u64 *)__va(hpa))
#else
#include <linux/types.h>
#include <stdbool.h>
#define pt_pa(table) ((__u64)(unsigned long)(table))
#define pt_va(hpa) ((__u64 *)(unsigned long)(hpa))
#endif

#define PT_LEVELS 4
#define PT_ENTRIES 512
#define PT_PAGE 4096ULL
#define PT_HUGE (PT_PAGE * PT_ENTRIES)
#define PT_PIECE (PT_HUGE * PT_ENTRIES) /* what is zapped in one go */
#define PT_ADDR_MASK 0x000ffffffffff000ULL

/* Bits of entries; the only ones besides the address that are ever installed. */
struct pt_format {
	__u64 table; /* present, all rights: the leaf decides */
	__u64 leaf;  /* present, readable, executable, write-back */
	__u64 write;
	__u64 huge;
};

struct pt {
	const struct pt_format *format;
	__u64 *root;
	long leaves;				   /* mapped, in 4 KiB pages */
	void (*dead)(struct pt *pt, __u64 *table); /* an unlinked table: free it after the next flush */
};

/* Pages for the tables on one path. */
#define PT_CACHE (PT_LEVELS - 1)
struct pt_cache {
	__u64 *page[PT_CACHE]; /* zeroed */
	int count;
};

/* Installs a leaf; cache holds PT_CACHE pages. A huge one only where no table hangs (else false: install a small one).
 * *flush is set when a translation that hardware may hold was replaced. */
bool pt_map(struct pt *pt, __u64 gpa, __u64 hpa, bool write, bool huge, struct pt_cache *cache, bool *flush);
/* Clears every leaf that touches [start, end). True: something was there, flush. */
bool pt_zap(struct pt *pt, __u64 start, __u64 end);
/* No table hangs below gpa's 2 MiB, and no leaf is there. */
bool pt_untouched(const struct pt *pt, __u64 gpa);
/* Takes the write permission of the leaf at gpa. True: it had it, flush. */
bool pt_write_protect(struct pt *pt, __u64 gpa);

#endif
