// SPDX-License-Identifier: GPL-2.0-or-later
/* Second-level tables, with pages from here: each page is handed out once, and comes back on the dead list at most once. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pt.h"

#define TABLE 0x7ULL
#define WRITE 0x2ULL
#define HUGE (1ULL << 7)
#define GIB (1ULL << 30)

static const struct pt_format format = { .table = TABLE, .leaf = 0x35, .write = WRITE, .huge = HUGE };

#define PAGES 4096
static __u64 pool[PAGES][512] __attribute__((aligned(4096))); /* every page there ever was in this test */
static bool died[PAGES];
static int pages, dead_count;
static struct pt pt;
static struct pt_cache cache;

static int page_number(const __u64 *page)
{
	uintptr_t offset = (uintptr_t)page - (uintptr_t)pool;

	return offset % PT_PAGE || offset / PT_PAGE >= (uintptr_t)pages ? -1 : (int)(offset / PT_PAGE);
}

/* Tables that are linked may still be walked by hardware: what is dead is only counted, its content stays. */
static void on_dead(struct pt *which, __u64 *table)
{
	int n = page_number(table);

	ck_assert_ptr_eq(which, &pt);
	ck_assert_msg(n > 0, "a table that was never handed out, or the root");
	ck_assert_msg(!died[n], "a table died twice");
	for (int i = 0; i < 512; i++)
		ck_assert_msg(!table[i], "a dead table with entries");
	died[n] = true;
	dead_count++;
}

static __u64 *page_new(void)
{
	ck_assert_int_lt(pages, PAGES);
	memset(pool[pages], 0, PT_PAGE);
	return pool[pages++];
}

static void cache_fill(void)
{
	while (cache.count < PT_CACHE)
		cache.page[cache.count++] = page_new();
}

static void setup(void)
{
	pages = dead_count = 0;
	memset(died, 0, sizeof(died));
	cache.count = 0;
	pt = (struct pt) { .format = &format, .root = page_new(), .dead = on_dead };
}

/* ---- what hardware sees ---- */

struct seen {
	__u64 entry;
	int level; /* 0: nothing there */
};

static struct seen walk(__u64 gpa)
{
	const __u64 *table = pt.root;

	for (int level = PT_LEVELS;; level--) {
		int n;
		__u64 entry = table[gpa >> (12 + 9 * (level - 1)) & 511];

		if (!entry)
			return (struct seen) { 0, 0 };
		if (level == 1 || entry & HUGE)
			return (struct seen) { entry, level };
		if ((entry & ~PT_ADDR_MASK) != TABLE)
			ck_abort_msg("table entry %llx", (unsigned long long)entry);
		n = page_number((__u64 *)(uintptr_t)(entry & PT_ADDR_MASK));
		if (n <= 0 || died[n])
			ck_abort_msg("a foreign or dead table is linked");
		table = (__u64 *)(uintptr_t)(entry & PT_ADDR_MASK);
	}
}

struct count {
	long leaves; /* 4 KiB pages */
	int tables, empty;
};

static void count_table(const __u64 *table, int level, struct count *count)
{
	bool any = false;

	count->tables++;
	for (int i = 0; i < 512; i++) {
		if (!table[i])
			continue;
		any = true;
		if (level == 1 || table[i] & HUGE) {
			if (level > 2 || (table[i] & ~PT_ADDR_MASK & ~WRITE) != (format.leaf | (level == 2 ? HUGE : 0)))
				ck_abort_msg("leaf %llx at level %d", (unsigned long long)table[i], level);
			count->leaves += level == 2 ? 512 : 1;
		} else {
			count_table((__u64 *)(uintptr_t)(table[i] & PT_ADDR_MASK), level - 1, count);
		}
	}
	count->empty += !any;
}

/* The whole tree: its leaves are as many as counted, and each page handed out is in the tree, dead or in the cache. */
static struct count tree_check(void)
{
	struct count count = { 0 };

	count_table(pt.root, PT_LEVELS, &count);
	ck_assert_msg(count.leaves == pt.leaves, "%ld leaves, %ld counted", count.leaves, pt.leaves);
	ck_assert_msg(count.tables + dead_count + cache.count == pages, "%d in the tree, %d dead, %d cached of %d",
		      count.tables, dead_count, cache.count, pages);
	return count;
}

/* 1: mapped, 0: refused. -1 in want_flush: do not look. */
static int map(__u64 gpa, __u64 hpa, bool write, bool huge, int want_flush)
{
	bool flush = false, done;

	cache_fill();
	done = pt_map(&pt, gpa, hpa, write, huge, &cache, &flush);
	if (want_flush >= 0)
		ck_assert_msg(flush == want_flush, "gpa %llx: flush %d", (unsigned long long)gpa, flush);
	tree_check();
	return done;
}

static void expect(__u64 gpa, __u64 hpa, bool write, int level)
{
	struct seen seen = walk(gpa);

	ck_assert_msg(seen.level == level, "gpa %llx: level %d, want %d", (unsigned long long)gpa, seen.level, level);
	if (!level)
		return;
	ck_assert_uint_eq(seen.entry, hpa | format.leaf | (write ? WRITE : 0) | (level == 2 ? HUGE : 0));
}

/* ---- single steps ---- */

START_TEST(map_small)
{
	ck_assert(map(0, 0x111000, true, false, 0));
	expect(0, 0x111000, true, 1);
	expect(0x1000, 0, false, 0);
	ck_assert_int_eq(tree_check().tables, 4);
	ck_assert(map(0x1000, 0x222000, false, false, 0)); /* the same table */
	expect(0x1000, 0x222000, false, 1);
	ck_assert_int_eq(tree_check().tables, 4);
	ck_assert(map((1ULL << 48) - PT_PAGE, 0x333000, true, false, 0)); /* the last page: three tables more */
	expect((1ULL << 48) - PT_PAGE, 0x333000, true, 1);
	ck_assert_int_eq(tree_check().tables, 7);
	ck_assert_int_eq(pt.leaves, 3);
	ck_assert(map(0x2000, ~0ULL, true, false, 0)); /* only address bits of the hpa get in */
	expect(0x2000, 0x000ffffffffff000ULL, true, 1);
}
END_TEST

START_TEST(map_huge)
{
	ck_assert(map(PT_HUGE, 0x40000000, true, true, 0));
	expect(PT_HUGE, 0x40000000, true, 2);
	expect(2 * PT_HUGE - PT_PAGE, 0x40000000, true, 2);
	expect(2 * PT_HUGE, 0, false, 0);
	expect(0, 0, false, 0);
	ck_assert_int_eq(pt.leaves, 512);
	ck_assert_int_eq(tree_check().tables, 3);
}
END_TEST

START_TEST(remap)
{
	for (int huge = 0; huge < 2; huge++) {
		__u64 gpa = huge ? GIB : 0;
		int level = huge ? 2 : 1;
		long leaves;

		ck_assert(map(gpa, 0x40000000, false, huge, 0));
		leaves = pt.leaves;
		ck_assert(map(gpa, 0x40000000, false, huge, 0)); /* the same */
		ck_assert(map(gpa, 0x40000000, true, huge, 0));	 /* more rights: no flush */
		expect(gpa, 0x40000000, true, level);
		ck_assert(map(gpa, 0x40000000, true, huge, 0));
		ck_assert(map(gpa, 0x40000000, false, huge, 1)); /* fewer */
		expect(gpa, 0x40000000, false, level);
		ck_assert(map(gpa, 0x80000000, false, huge, 1)); /* another page */
		expect(gpa, 0x80000000, false, level);
		ck_assert(map(gpa, 0xc0000000, true, huge, 1)); /* another page, more rights */
		expect(gpa, 0xc0000000, true, level);
		ck_assert_int_eq(pt.leaves, leaves);
	}
}
END_TEST

START_TEST(huge_over_table)
{
	ck_assert(map(PT_HUGE + 5 * PT_PAGE, 0x111000, true, false, 0));
	ck_assert(!map(PT_HUGE, 0x40000000, true, true, 0)); /* a table hangs there: refused, nothing changed */
	expect(PT_HUGE + 5 * PT_PAGE, 0x111000, true, 1);
	expect(PT_HUGE, 0, false, 0);
	ck_assert_int_eq(pt.leaves, 1);
	ck_assert(map(2 * PT_HUGE, 0x40000000, true, true, 0)); /* beside it */
	ck_assert(pt_zap(&pt, PT_HUGE, 2 * PT_HUGE));		/* once it is empty it can be had */
	ck_assert(map(PT_HUGE, 0x40000000, true, true, 0));
	expect(PT_HUGE + 5 * PT_PAGE, 0x40000000, true, 2);
}
END_TEST

START_TEST(small_over_huge)
{
	ck_assert(map(PT_HUGE, 0x40000000, true, true, 0));
	ck_assert(map(PT_HUGE + 7 * PT_PAGE, 0x111000, false, false, 1)); /* the others come back by faults */
	expect(PT_HUGE + 7 * PT_PAGE, 0x111000, false, 1);
	expect(PT_HUGE, 0, false, 0);
	expect(PT_HUGE + 8 * PT_PAGE, 0, false, 0);
	ck_assert_int_eq(pt.leaves, 1);
	ck_assert_int_eq(tree_check().tables, 4);
}
END_TEST

START_TEST(cache_use)
{
	bool flush = false;

	cache_fill();
	ck_assert(pt_map(&pt, 0, 0x111000, true, false, &cache, &flush));
	ck_assert_int_eq(cache.count, 0);				       /* three tables: what PT_CACHE is for */
	ck_assert(pt_map(&pt, 0x1000, 0x111000, true, false, &cache, &flush)); /* none */
	cache_fill();
	ck_assert(pt_map(&pt, PT_HUGE, 0x200000, true, true, &cache, &flush));
	ck_assert_int_eq(cache.count, PT_CACHE);
	ck_assert(pt_map(&pt, 2 * PT_HUGE, 0x111000, true, false, &cache, &flush));
	ck_assert_int_eq(cache.count, PT_CACHE - 1);
	ck_assert(pt_map(&pt, 1ULL << 39, 0x200000, true, true, &cache, &flush));
	ck_assert_int_eq(cache.count, PT_CACHE - 3);
}
END_TEST

START_TEST(zap_parts)
{
	for (int i = 0; i < 512; i++)
		ck_assert(map(PT_HUGE + (__u64)i * PT_PAGE, 0x40000000 + (__u64)i * PT_PAGE, true, false, 0));
	ck_assert_int_eq(pt.leaves, 512);
	ck_assert(!pt_zap(&pt, 0, PT_HUGE)); /* beside it, on both sides */
	ck_assert(!pt_zap(&pt, 2 * PT_HUGE, 4 * PT_HUGE));
	ck_assert(!pt_zap(&pt, PT_HUGE, PT_HUGE)); /* empty */
	ck_assert(pt_zap(&pt, PT_HUGE + 10 * PT_PAGE, PT_HUGE + 20 * PT_PAGE));
	tree_check();
	ck_assert_int_eq(pt.leaves, 502);
	for (int i = 0; i < 512; i++)
		expect(PT_HUGE + (__u64)i * PT_PAGE, 0x40000000 + (__u64)i * PT_PAGE, true, i >= 10 && i < 20 ? 0 : 1);
	ck_assert(!pt_zap(&pt, PT_HUGE + 10 * PT_PAGE, PT_HUGE + 20 * PT_PAGE)); /* gone already */
	ck_assert(
		pt_zap(&pt, PT_HUGE + 20 * PT_PAGE + 1, PT_HUGE + 20 * PT_PAGE + 2)); /* what touches a leaf takes it */
	ck_assert_int_eq(pt.leaves, 501);
	ck_assert_int_eq(dead_count, 0);
	ck_assert(pt_zap(&pt, 0, 1ULL << 48));
	ck_assert_int_eq(pt.leaves, 0);
	ck_assert_int_eq(dead_count, 3); /* all but the root */
	ck_assert_int_eq(tree_check().empty, 1);
	ck_assert(!pt_zap(&pt, 0, 1ULL << 48));
	ck_assert_int_eq(dead_count, 3);
}
END_TEST

START_TEST(zap_huge)
{
	ck_assert(map(PT_HUGE, 0x40000000, true, true, 0));
	ck_assert(map(2 * PT_HUGE, 0x40200000, true, true, 0));
	ck_assert(map(GIB, 0x80000000, true, false, 0));
	ck_assert(pt_zap(&pt, PT_HUGE + 3 * PT_PAGE, PT_HUGE + 4 * PT_PAGE)); /* a part of it: all of it goes */
	tree_check();
	expect(PT_HUGE, 0, false, 0);
	expect(2 * PT_HUGE, 0x40200000, true, 2);
	ck_assert_int_eq(pt.leaves, 513);
	ck_assert(pt_zap(&pt, 3 * PT_HUGE - PT_PAGE, GIB + PT_PAGE)); /* over tables' borders */
	tree_check();
	ck_assert_int_eq(pt.leaves, 0);
	ck_assert_int_eq(tree_check().tables, 1);
}
END_TEST

START_TEST(write_protect)
{
	ck_assert(!pt_write_protect(&pt, 0)); /* nothing there, at each level */
	ck_assert(map(0, 0x111000, true, false, 0));
	ck_assert(!pt_write_protect(&pt, 0x1000));
	ck_assert(!pt_write_protect(&pt, PT_HUGE));
	ck_assert(!pt_write_protect(&pt, GIB));
	ck_assert(pt_write_protect(&pt, 0));
	expect(0, 0x111000, false, 1);
	ck_assert(!pt_write_protect(&pt, 0));	     /* it has not got it any more */
	ck_assert(map(0, 0x111000, true, false, 0)); /* and gets it back without a flush */
	ck_assert(map(GIB, 0x40000000, true, true, 0));
	ck_assert(pt_write_protect(&pt, GIB + 0x5000));
	expect(GIB, 0x40000000, false, 2);
	expect(GIB + 0x5000, 0x40000000, false, 2);
	ck_assert_int_eq(pt.leaves, 513);
	tree_check();
}
END_TEST

START_TEST(untouched)
{
	ck_assert(pt_untouched(&pt, 0)); /* nothing there, at each level */
	ck_assert(map(PT_HUGE + 3 * PT_PAGE, 0x111000, true, false, 0));
	ck_assert(pt_untouched(&pt, PT_HUGE - 1));
	ck_assert(!pt_untouched(&pt, PT_HUGE + 3 * PT_PAGE));
	ck_assert(!pt_untouched(&pt, PT_HUGE)); /* a neighbour is there */
	ck_assert(!pt_untouched(&pt, 2 * PT_HUGE - 1));
	ck_assert(pt_untouched(&pt, 2 * PT_HUGE));
	ck_assert(pt_untouched(&pt, GIB));
	ck_assert(map(GIB, 0x40000000, true, true, 0));
	ck_assert(!pt_untouched(&pt, GIB + PT_HUGE - 1));
	ck_assert(pt_untouched(&pt, GIB + PT_HUGE));
	ck_assert(pt_zap(&pt, PT_HUGE + 3 * PT_PAGE, PT_HUGE + 4 * PT_PAGE));
	ck_assert(pt_untouched(&pt, PT_HUGE + 3 * PT_PAGE)); /* the last one of it went */
	tree_check();
}
END_TEST

/* ---- a model: one entry for each 4 KiB page ---- */

#define CHUNKS 6 /* of 2 MiB; chunk n lies at base[n] */
static const __u64 base[CHUNKS] = { 0, PT_HUGE, GIB - PT_HUGE, GIB, 1ULL << 39, (1ULL << 46) - PT_HUGE };

static struct model {
	__u64 hpa;
	bool mapped, write, huge;
} model[CHUNKS][512];

static long model_leaves(void)
{
	long count = 0;

	for (int c = 0; c < CHUNKS; c++)
		for (int i = 0; i < 512; i++)
			count += model[c][i].mapped;
	return count;
}

static void model_compare(void)
{
	for (int c = 0; c < CHUNKS; c++)
		for (int i = 0; i < 512; i++) {
			const struct model *m = &model[c][i];
			struct seen seen = walk(base[c] + (__u64)i * PT_PAGE);

			if (seen.level != (!m->mapped ? 0
					   : m->huge  ? 2
						      : 1) ||
			    (m->mapped && ((seen.entry & PT_ADDR_MASK) != m->hpa || !(seen.entry & WRITE) == m->write)))
				ck_abort_msg("chunk %d page %d: level %d entry %llx", c, i, seen.level,
					     (unsigned long long)seen.entry);
		}
	ck_assert_int_eq(tree_check().leaves, model_leaves());
}

static unsigned int seed;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static void model_map_small(int c, int i, __u64 hpa, bool write)
{
	struct model *m = &model[c][i];
	bool flush = m->huge || (m->mapped && (m->hpa != hpa || (m->write && !write)));

	if (m->huge)
		memset(model[c], 0, sizeof(model[c]));
	*m = (struct model) { hpa, true, write, false };
	ck_assert(map(base[c] + (__u64)i * PT_PAGE, hpa, write, false, flush));
}

static void model_map_huge(int c, __u64 hpa, bool write)
{
	struct model old = model[c][0];
	bool table = false;

	for (int i = 0; i < 512; i++)
		table |= model[c][i].mapped && !model[c][i].huge;
	if (table) {
		ck_assert(!map(base[c], hpa, write, true, 0));
		return;
	}
	ck_assert(map(base[c], hpa, write, true, old.mapped && (old.hpa != hpa || (old.write && !write))));
	for (int i = 0; i < 512; i++)
		model[c][i] = (struct model) { hpa, true, write, true };
}

static void model_zap(__u64 start, __u64 end)
{
	bool any = false;

	for (int c = 0; c < CHUNKS; c++) {
		for (int i = 0; i < 512; i++) {
			__u64 size = model[c][i].huge ? PT_HUGE : PT_PAGE,
			      at = base[c] + (model[c][i].huge ? 0 : (__u64)i * PT_PAGE);

			if (!model[c][i].mapped || at >= end || at + size <= start)
				continue;
			any = true;
			model[c][i].hpa = ~0ULL; /* to go; a huge one is asked page by page */
		}
		for (int i = 0; i < 512; i++)
			if (model[c][i].hpa == ~0ULL)
				model[c][i] = (struct model) { 0 };
	}
	ck_assert_int_eq(pt_zap(&pt, start, end), any);
}

static void model_protect(int c, int i)
{
	bool had = model[c][i].mapped && model[c][i].write;

	ck_assert_int_eq(pt_write_protect(&pt, base[c] + (__u64)i * PT_PAGE), had);
	for (int n = model[c][i].huge ? 0 : i; n < (model[c][i].huge ? 512 : i + 1); n++)
		model[c][n].write = false;
}

START_TEST(random_run)
{
	seed = 1234 + (unsigned int)_i;
	memset(model, 0, sizeof(model));
	for (int step = 0; step < 1000; step++) {
		int c = (int)pick(CHUNKS), i = (int)pick(512), to = (int)pick(CHUNKS);
		__u64 hpa = 0x100000000ULL + pick(4) * PT_HUGE;

		switch (pick(8)) {
		case 0 ... 3:
			model_map_small(c, i % 24, hpa + (__u64)i % 3 * PT_PAGE, pick(2));
			break;
		case 4:
			model_map_huge(c, hpa, pick(2));
			break;
		case 5:
			model_zap(base[c] + (__u64)i % 24 * PT_PAGE, base[c] + ((__u64)i % 24 + 1 + pick(8)) * PT_PAGE);
			break;
		case 6:
			if (pick(4)) /* all of one chunk; else from one into another */
				model_zap(base[c], base[c] + PT_HUGE);
			else if (c <= to)
				model_zap(base[c] + (__u64)i * PT_PAGE, base[to] + (__u64)i * PT_PAGE);
			break;
		case 7:
			model_protect(c, i % 24);
			break;
		}
		tree_check();
		if (step % 16 == 0)
			model_compare();
		if (pages > PAGES - 16)
			break;
	}
	model_compare();
	model_zap(0, 1ULL << 48);
	model_compare();
	ck_assert_int_eq(tree_check().tables, 1);
	ck_assert_int_eq(dead_count, pages - 1 - cache.count);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shim pt");
	TCase *tests = tcase_create("pt");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tests);
	tcase_add_checked_fixture(tests, setup, NULL);
	tcase_add_test(tests, map_small);
	tcase_add_test(tests, map_huge);
	tcase_add_test(tests, remap);
	tcase_add_test(tests, huge_over_table);
	tcase_add_test(tests, small_over_huge);
	tcase_add_test(tests, cache_use);
	tcase_add_test(tests, zap_parts);
	tcase_add_test(tests, zap_huge);
	tcase_add_test(tests, write_protect);
	tcase_add_test(tests, untouched);
	tcase_add_loop_test(tests, random_run, 0, 8);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
