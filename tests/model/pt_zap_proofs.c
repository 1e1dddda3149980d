// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Proofs about pt_zap(), which walks all of a tree, by recursion: so they go by induction. One table of any level, where the call
 * for a table below it is a model (run.sh makes pt_child.c of pt.c so) that does what this very proof says of the
 * level below, and checks what it is called with. On level 1 there is nothing below. Tables below are never looked into: the
 * address of the one at entry i is that of page i + 1, which says which one it is.
 *
 * What keeps the formula small: where the table lies and the entry that the range begins in are constants, all of them one after the other,
 * and what the model takes off the count is 1 (pt_zap() does not look at the count).
 */
#include "model.h"
#include "pt.h"

#undef pt_va
#define pt_va(hpa) ((__u64 *)(hpa))
#ifdef ENTRIES
#undef PT_ENTRIES
#define PT_ENTRIES ENTRIES
#endif

static bool child_zap(struct pt *which, __u64 *child, int below, __u64 from, __u64 first, __u64 last);
static bool child_empty(const __u64 *child);
#include "pt_child.c"

#define LINK(i) (((i) + 1) * PT_PAGE | 7)
static const struct pt_format format = { .table = 7,
					 .write = 2,
					 .huge = 1 << 7 }; /* see the proofs vmx-format, svm-format */
static struct pt pt = { .format = &format };
static __u64 table[PT_ENTRIES], before[PT_ENTRIES];
static bool called[PT_ENTRIES], zapped[PT_ENTRIES], emptied[PT_ENTRIES], died[PT_ENTRIES];
static __u64 base, start, end;
static int level, latest; /* latest: the entry whose table was worked on last */

static bool leaf_at(int i)
{
	return before[i] && (level == 1 || before[i] & format.huge);
}

static bool touched(int i)
{
	__u64 from = base + i * level_size(level), to = from + level_size(level);

	return from < end && start < to;
}

static int number_of(const __u64 *child)
{
	__u64 number = (__u64)child / PT_PAGE - 1;

	PROVE((__u64)child % PT_PAGE == 0 && number < PT_ENTRIES, "a table that is linked here");
	ASSUME((__u64)child % PT_PAGE == 0 && number < PT_ENTRIES);
	return number;
}

static bool child_zap(struct pt *which, __u64 *child, int below, __u64 from, __u64 first, __u64 last)
{
	latest = number_of(child);
	PROVE(level > 1 && below == level - 1 && which == &pt && first == start && last == end, "for the same range");
	PROVE(from == base + latest * level_size(level), "with its own base");
	PROVE(table[latest] == LINK(latest) && touched(latest) && !called[latest], "one in the range, once");
	called[latest] = true;
	zapped[latest] = nondet_bool(); /* else no leaf in it touched the range: it is as it was */
	emptied[latest] = zapped[latest] && nondet_bool();
	if (zapped[latest])
		pt.leaves--;
	return zapped[latest];
}

static bool child_empty(const __u64 *child)
{
	PROVE(number_of(child) == latest && called[latest], "the table that was just worked on");
	return emptied[latest];
}

static void on_dead(struct pt *which, __u64 *child)
{
	PROVE(which == &pt && number_of(child) == latest && emptied[latest], "an emptied table");
	PROVE(!died[latest] && !table[latest], "once, and no longer linked");
	died[latest] = true;
}

/* first: the entry that the range begins in; -1: before the table */
static void prove_range(int first)
{
	bool result, any = false;
	long gone = 0;

	pt.dead = on_dead;
	pt.root = table;
	pt.leaves = 0;
	base = level == PT_LEVELS ? 0 : 5 * level_size(level + 1);
	start = base + first * level_size(level) + (nondet_u64() & (level_size(level) - 1));
	end = nondet_u64();
	ASSUME(start < end && base < end); /* as check_region() and touched() see to */
	for (int i = 0; i < PT_ENTRIES; i++) {
		before[i] = nondet_bool() ? LINK(i) : nondet_u64();
		ASSUME(!before[i] || leaf_at(i) || before[i] == LINK(i));
		table[i] = before[i];
		called[i] = zapped[i] = emptied[i] = died[i] = false;
	}
	result = level == PT_LEVELS ? pt_zap(&pt, start, end) : table_zap(&pt, table, level, base, start, end);
	for (int i = 0; i < PT_ENTRIES; i++) {
		if (!before[i] || !touched(i)) {
			PROVE(table[i] == before[i] && !called[i], "what does not touch the range is as it was");
		} else if (leaf_at(i)) {
			PROVE(!table[i], "a leaf that touches the range is gone");
			gone += level_size(level) / PT_PAGE;
			any = true;
		} else {
			PROVE(called[i], "every table that touches the range is worked on");
			PROVE(died[i] == emptied[i] && table[i] == (emptied[i] ? 0 : before[i]),
			      "it stays, or dies empty");
			gone += zapped[i];
			any |= zapped[i];
		}
	}
	PROVE(pt.leaves == -gone, "the count");
	PROVE(result == any, "true when a leaf went");
}

/*
 * PROOF pt-zap: no leaf touches the range any more, all others are as they were, the count and the result are right, each emptied table is unlinked, then dies, once
 * BOUNDS: each of the four levels with the real sizes, the level below by induction; tables of three entries, anything in them; any range that begins in them or before
 * CBMC: -DENTRIES=3 --unwind 6
 * MUTATION pt.c: s/base < end; i\+\+/base + size <= end; i++/
 * MUTATION pt.c: s/start > base \? \(start - base\) \/ size : 0/0/
 * MUTATION pt.c: s/pt->leaves -= size \/ PT_PAGE/pt->leaves--/
 * MUTATION pt.c: s/if \(table_empty\(entry_table\(table\[i\]\)\)\)/if (0)/
 * MUTATION pt.c: s/pt->dead\(pt, dead\)/pt->dead(pt, table)/
 * MUTATION pt.c: s/level - 1, base, start, end\)/level - 1, base, base, end)/
 * MUTATION pt.c: s/^(\t+)zapped = true;/\1;/
 */
void pt_zap_proof(void)
{
	int any = nondet_int(), n = 0;

	for (level = 1; level <= PT_LEVELS; level++)
		for (int first = level == PT_LEVELS ? 0 : -1; first < PT_ENTRIES; first++)
			if (n++ == any)
				prove_range(first);
}

/*
 * PROOF pt-empty: true exactly when each of the real 512 entries is zero
 * BOUNDS: none
 * CBMC: --unwind 513
 * MUTATION pt.c: s/i = 0; i < PT_ENTRIES; i\+\+\)$/i = 0; i < PT_ENTRIES - 1; i++)/
 */
void pt_empty_proof(void)
{
	__u64 any = 0;

	for (int i = 0; i < PT_ENTRIES; i++) {
		table[i] = nondet_u64();
		any |= table[i];
	}
	PROVE(table_empty(table) == !any, "no entry");
}
