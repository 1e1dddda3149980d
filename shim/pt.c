// SPDX-License-Identifier: GPL-2.0-only
#include "pt.h"

/* Hardware walks the tables while they change: each entry is written whole. */
#define entry_set(entry, value) (*(volatile __u64 *)(entry) = (value))

static unsigned int pt_index(__u64 gpa, int level)
{
	return gpa >> (12 + 9 * (level - 1)) & (PT_ENTRIES - 1);
}

static __u64 level_size(int level)
{
	return PT_PAGE << 9 * (level - 1);
}

static bool is_leaf(const struct pt *pt, __u64 entry, int level)
{
	return level == 1 || entry & pt->format->huge;
}

static __u64 *entry_table(__u64 entry)
{
	return pt_va(entry & PT_ADDR_MASK);
}

bool pt_map(struct pt *pt, __u64 gpa, __u64 hpa, bool write, bool huge, struct pt_cache *cache, bool *flush)
{
	__u64 *table = pt->root, *entry, leaf;
	int level, last = huge ? 2 : 1;

	for (level = PT_LEVELS;; level--) {
		entry = &table[pt_index(gpa, level)];
		if (level == last)
			break;
		if (*entry && is_leaf(pt, *entry, level)) {
			/* A huge leaf in the way of a small one: the small ones come back by faults. */
			entry_set(entry, 0);
			pt->leaves -= level_size(level) / PT_PAGE;
			*flush = true;
		}
		if (!*entry)
			entry_set(entry, pt_pa(cache->page[--cache->count]) | pt->format->table);
		table = entry_table(*entry);
	}
	if (*entry && !is_leaf(pt, *entry, level))
		return false;
	leaf = (hpa & PT_ADDR_MASK) | pt->format->leaf | (write ? pt->format->write : 0) |
	       (huge ? pt->format->huge : 0);
	if (!*entry)
		pt->leaves += level_size(level) / PT_PAGE;
	else if ((*entry ^ leaf) & ~pt->format->write || *entry & ~leaf)
		*flush = true; /* another page, or fewer rights */
	entry_set(entry, leaf);
	return true;
}

static bool table_empty(const __u64 *table)
{
	int i;

	for (i = 0; i < PT_ENTRIES; i++)
		if (table[i])
			return false;
	return true;
}

/* Recursion is PT_LEVELS deep at most. start and end lie within the table's own range or beyond it. */
static bool table_zap(struct pt *pt, __u64 *table, int level, __u64 base, __u64 start, __u64 end)
{
	__u64 size = level_size(level);
	bool zapped = false;
	int i = start > base ? (start - base) / size : 0;

	for (base += i * size; i < PT_ENTRIES && base < end; i++, base += size) {
		if (!table[i])
			continue;
		if (is_leaf(pt, table[i], level)) {
			entry_set(&table[i], 0);
			pt->leaves -= size / PT_PAGE;
			zapped = true;
		} else if (table_zap(pt, entry_table(table[i]), level - 1, base, start, end)) {
			zapped = true;
			if (table_empty(entry_table(table[i]))) {
				__u64 *dead = entry_table(table[i]);

				entry_set(&table[i], 0);
				pt->dead(pt, dead);
			}
		}
	}
	return zapped;
}

bool pt_zap(struct pt *pt, __u64 start, __u64 end)
{
	return table_zap(pt, pt->root, PT_LEVELS, 0, start, end);
}

/* The entry where the walk to gpa ends: a leaf, or none. */
static __u64 *pt_find(const struct pt *pt, __u64 gpa, int *level)
{
	__u64 *table = pt->root, *entry;

	for (*level = PT_LEVELS;; --*level) {
		entry = &table[pt_index(gpa, *level)];
		if (!*entry || is_leaf(pt, *entry, *level))
			return entry;
		table = entry_table(*entry);
	}
}

bool pt_untouched(const struct pt *pt, __u64 gpa)
{
	int level;

	return !*pt_find(pt, gpa, &level) && level > 1;
}

bool pt_write_protect(struct pt *pt, __u64 gpa)
{
	int level;
	__u64 *entry = pt_find(pt, gpa, &level);

	if (!(*entry & pt->format->write))
		return false;
	entry_set(entry, *entry & ~pt->format->write);
	return true;
}
