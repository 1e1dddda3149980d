// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Proofs about shim/pt.c. Pages are those of a pool here, and their addresses are numbers of it. The tables are small: BITS
 * bits of the address a level instead of nine (run.sh makes pt_small.c of pt.c so), four levels. All these functions touch
 * one path only, so a path of real tables with anything in all other entries is every tree. (pt_zap() does not:
 * pt_zap_proofs.c.)
 */
#include "model.h"

#include <string.h>

#include "pt.h"

#undef pt_pa
#undef pt_va
#define pt_pa(table) model_pa(table)
#define pt_va(hpa) model_va(hpa)

static __u64 model_pa(const __u64 *table);
static __u64 *model_va(__u64 hpa);
#ifndef BITS
#define BITS 9
#endif
#undef PT_ENTRIES
#define PT_ENTRIES (1 << BITS)
#include "pt_small.c"
#include "pt_model.h"

#define POOL 7
static __u64 pool[POOL][PT_ENTRIES];

static __u64 model_pa(const __u64 *table)
{
	for (int i = 0; i < POOL; i++)
		if (table == pool[i])
			return (i + 1) * PT_PAGE;
	PROVE(0, "the address of a table");
	return 0;
}

static __u64 *model_va(__u64 hpa)
{
	PROVE(hpa % PT_PAGE == 0 && hpa && hpa <= POOL * PT_PAGE, "a table of the pool is followed");
	ASSUME(hpa % PT_PAGE == 0 && hpa && hpa <= POOL * PT_PAGE);
	return pool[hpa / PT_PAGE - 1];
}

static unsigned int index_of(__u64 gpa, int level)
{
	return gpa >> (12 + BITS * (level - 1)) & (PT_ENTRIES - 1);
}

static __u64 any_leaf(bool huge)
{
	return (nondet_u64() & PT_ADDR_MASK) | format.leaf | (nondet_bool() ? format.write : 0) |
	       (huge ? format.huge : 0);
}

/*
 * PROOF pt-index: with the real nine bits: every index lies in its table, and the four of them and the offset make up the address
 * BOUNDS: any address of 48 bits
 * CBMC: --conversion-check
 * MUTATION pt.c: s/& \(PT_ENTRIES - 1\)/\& PT_ENTRIES/
 * MUTATION pt.c: s/PT_PAGE << 9/PT_PAGE << 1 + 9/
 */
void pt_index_proof(void)
{
	__u64 gpa = nondet_u64(), sum = gpa % PT_PAGE;

	ASSUME(gpa < 1ULL << 48);
	for (int level = 1; level <= 4; level++) {
		PROVE(pt_index(gpa, level) < PT_ENTRIES, "in the table");
		sum += pt_index(gpa, level) * level_size(level);
	}
	PROVE(sum == gpa, "nothing of the address is lost");
}

/* The path to gpa: pool[0] is the root, pool[1..3] hang below it as far as they do; pool[4..6] are the cache's. */
static void any_path(__u64 gpa)
{
	__u64 any[POOL][PT_ENTRIES];

	any_format();
	memcpy(pool, any, sizeof(pool));
	for (int level = 4; level > 0; level--) {
		__u64 *entry = &pool[4 - level][index_of(gpa, level)];

		*entry = nondet_bool()		       ? 0
			 : level == 1		       ? any_leaf(false)
			 : level == 2 && nondet_bool() ? any_leaf(true)
						       : ((__u64)(4 - level + 2) * PT_PAGE | format.table);
	}
	memset(pool[4], 0, 3 * sizeof(pool[4]));
	pt.root = pool[0];
	pt.leaves = nondet_int();
}

/* What hardware finds for gpa: the entry where its walk ends, and on which level. */
static __u64 walk(__u64 gpa, int *level)
{
	const __u64 *table = pt.root;

	for (*level = 4;; --*level) {
		__u64 entry = table[index_of(gpa, *level)];

		if (!entry || *level == 1 || is_huge(entry))
			return entry;
		PROVE((entry & ~PT_ADDR_MASK) == format.table, "a linked table has no other bits");
		table = model_va(entry & PT_ADDR_MASK);
	}
}

/*
 * PROOF pt-map: the leaf has that page's address and the permitted bits alone; no other entry changes; the count and the flush are right
 * BOUNDS: tables of four entries, any tree (by its one path), any addresses, both sizes; formats as the vendors'
 * CBMC: -DBITS=2 --unwind 8
 * MUTATION pt.c: s/\(hpa & PT_ADDR_MASK\) \|/hpa |/
 * MUTATION pt.c: s/pt->leaves -= level_size\(level\) \/ PT_PAGE;/pt->leaves -= 1;/
 * MUTATION pt.c: s/\|\| \*entry & ~leaf/|| 0/
 * MUTATION pt.c: s/if \(\*entry && !is_leaf\(pt, \*entry, level\)\)/if (0)/
 */
void pt_map_proof(void)
{
	__u64 gpa = nondet_u64(), hpa = nondet_u64(), old, now, expected, kept;
	bool write = nondet_bool(), huge = nondet_bool(), flush = nondet_bool(), flush_before = flush, mapped,
	     table_there;
	struct pt_cache cache = { { pool[4], pool[5], pool[6] }, 3 };
	unsigned int row = nondet_u32(), column = nondet_u32();
	int old_level, level;
	long leaves;

	ASSUME(gpa < 1ULL << (12 + 4 * BITS) && row < 7 && column < PT_ENTRIES);
	any_path(gpa);
	leaves = pt.leaves;
	kept = pool[row][column];
	old = walk(gpa, &old_level);
	table_there = old_level == 1;
	mapped = pt_map(&pt, gpa, hpa, write, huge, &cache, &flush);
	now = walk(gpa, &level);
	PROVE(cache.count >= 0 && cache.count <= 3, "three pages are enough");
	if (!mapped) {
		PROVE(huge && table_there, "only a huge one, only where a table hangs");
		PROVE(pool[row][column] == kept && pt.leaves == leaves && cache.count == 3 && flush == flush_before,
		      "then nothing changes");
		return;
	}
	expected = (hpa & PT_ADDR_MASK) | format.leaf | (write ? format.write : 0) | (huge ? format.huge : 0);
	PROVE(now == expected && level == (huge ? 2 : 1), "the leaf is as asked for");
	if (old)
		PROVE(pt.leaves == leaves - (old_level == 2 ? PT_ENTRIES : 1) + (huge ? PT_ENTRIES : 1),
		      "the count, something was there");
	else
		PROVE(pt.leaves == leaves + (huge ? PT_ENTRIES : 1), "the count");
	if (old && ((old ^ now) & ~format.write || (old & format.write && !write)))
		PROVE(flush, "a translation that hardware may hold is flushed");
	PROVE(flush || !flush_before, "a flush that was due stays due");
	if (row < 4 && column != index_of(gpa, 4 - row))
		PROVE(pool[row][column] == kept, "no entry off the path changes");
	if (row >= 4)
		PROVE(!pool[row][column] || column == index_of(gpa, 1) || column == index_of(gpa, 2) ||
			      column == index_of(gpa, 3),
		      "a new table has that path alone");
}

/*
 * PROOF pt-cache: the pages taken before a fault are enough for it: a huge leaf that may fail, and small ones around the address
 * BOUNDS: tables of four entries, any tree (by its one path), any addresses, two of the small ones
 * CBMC: -DBITS=2 --unwind 8
 * MUTATION pt.c: s/if \(!\*entry\)$/if (1)/
 */
void pt_cache_proof(void)
{
	__u64 gpa = nondet_u64(), near = nondet_u64(), piece = PT_PAGE * PT_ENTRIES;
	struct pt_cache cache = { .count = PT_CACHE };
	bool flush;

	for (int i = 0; i < PT_CACHE; i++)
		cache.page[i] = pool[4 + i];
	ASSUME(gpa < 1ULL << (12 + 4 * BITS) && near / piece == gpa / piece);
	any_path(gpa);
	/* As in region_map(), and for the next page of the same fault. */
	if (!nondet_bool() || !pt_map(&pt, gpa, nondet_u64(), nondet_bool(), true, &cache, &flush)) {
		pt_map(&pt, gpa, nondet_u64(), nondet_bool(), false, &cache, &flush);
		if (near != gpa && near / PT_PAGE % PT_ENTRIES != gpa / PT_PAGE % PT_ENTRIES) {
			pool[3][index_of(near, 1)] = nondet_bool() ? 0 : any_leaf(false);
			pt_map(&pt, near, nondet_u64(), nondet_bool(), false, &cache, &flush);
		}
	}
	PROVE(cache.count >= 0 && cache.count <= PT_CACHE, "no page more was taken");
}

/*
 * PROOF pt-write-protect: the leaf loses its write permission and nothing else; true exactly when it had it
 * BOUNDS: tables of four entries, any tree (by its one path), any address; formats as the vendors'
 * CBMC: -DBITS=2 --unwind 8
 * MUTATION pt.c: s/entry_set\(entry, \*entry & ~pt->format->write\)/entry_set(entry, *entry \& ~pt->format->leaf)/
 * MUTATION pt.c: s/if \(!\(\*entry & pt->format->write\)\)/if (!*entry)/
 */
void pt_write_protect_proof(void)
{
	__u64 gpa = nondet_u64(), old, now, kept;
	unsigned int row = nondet_u32(), column = nondet_u32();
	int level, old_level;
	long leaves;
	bool had;

	ASSUME(gpa < 1ULL << (12 + 4 * BITS) && row < 7 && column < PT_ENTRIES);
	any_path(gpa);
	leaves = pt.leaves;
	old = walk(gpa, &old_level);
	ASSUME(row != 4 - old_level || column != index_of(gpa, old_level));
	kept = pool[row][column];
	had = pt_write_protect(&pt, gpa);
	now = walk(gpa, &level);
	PROVE(level == old_level && now == (old & ~format.write), "no write, all else as it was");
	PROVE(had == !!(old & format.write), "true when it had it");
	PROVE(pool[row][column] == kept && pt.leaves == leaves, "no other entry changes");
}

/*
 * PROOF pt-untouched: true exactly when no table and no leaf is there for the 2 MiB around the address
 * BOUNDS: tables of four entries, any tree (by its one path), any address; formats as the vendors'
 * CBMC: -DBITS=2 --unwind 8
 * MUTATION pt.c: s/&& level > 1/\&\& level > 0/
 * MUTATION pt.c: s/return !\*pt_find\(pt, gpa, &level\) &&/return pt_find(pt, gpa, \&level) \&\&/
 */
void pt_untouched_proof(void)
{
	__u64 gpa = nondet_u64(), found;
	int level;

	ASSUME(gpa < 1ULL << (12 + 4 * BITS));
	any_path(gpa);
	found = walk(gpa, &level);
	PROVE(pt_untouched(&pt, gpa) == (!found && level > 1), "nothing on levels 4 to 2");
}
