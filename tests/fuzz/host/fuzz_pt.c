// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The builder of second-level tables beside a list of what should be mapped. Tables are walked here by a second, simple
 * walker; each table page is accounted for, and only bits that the format has may be in an entry.
 */
#include "input.h"
#include "pt.h"

/* EPT's and NPT's. (SDM 3C 29.3.2, APM 2 15.25) */
static const struct pt_format formats[] = { { .table = 7, .leaf = 0x75, .write = 2, .huge = 0x80 },
					    { .table = 7, .leaf = 5, .write = 2, .huge = 0x80 } };

#define PAGES_MAX 512 /* tables alive at once */
#define LEAVES_MAX 1024

struct leaf {
	uint64_t gpa, size, hpa;
	bool write;
};

static uint64_t *page[PAGES_MAX];
static bool used[PAGES_MAX];
static struct leaf leaf[LEAVES_MAX];
static unsigned int leaves;
static struct pt pt;

static uint64_t *page_get(void)
{
	for (int i = 0; i < PAGES_MAX; i++) {
		if (used[i])
			continue;
		if (!page[i])
			page[i] = aligned_alloc(PT_PAGE, PT_PAGE);
		memset(page[i], 0, PT_PAGE);
		used[i] = true;
		return page[i];
	}
	return NULL;
}

static int page_number(const uint64_t *table)
{
	for (int i = 0; i < PAGES_MAX; i++)
		if (page[i] == table && used[i])
			return i;
	return -1;
}

static void page_dead(struct pt *of, __u64 *table)
{
	int n = page_number((uint64_t *)table);

	fuzz_assert(of == &pt && n >= 0);
	for (int i = 0; i < PT_ENTRIES; i++)
		fuzz_assert(!table[i]);
	used[n] = false;
}

static bool has(const struct leaf *l, uint64_t gpa)
{
	return gpa >= l->gpa && gpa - l->gpa < l->size;
}

static struct leaf *leaf_at(uint64_t gpa)
{
	for (unsigned int i = 0; i < leaves; i++)
		if (has(&leaf[i], gpa))
			return &leaf[i];
	return NULL;
}

/* ---- the second walker ---- */

static unsigned int seen_leaves, seen_tables;
static long seen_pages;

static void walk(const uint64_t *table, int level, uint64_t base)
{
	const struct pt_format *f = pt.format;
	uint64_t size = 1ULL << (12 + 9 * (level - 1));

	seen_tables++;
	fuzz_assert(page_number(table) >= 0);
	for (uint64_t i = 0; i < PT_ENTRIES; i++) {
		uint64_t entry = table[i], gpa = base + i * size, address = entry & PT_ADDR_MASK,
			 bits = entry & ~PT_ADDR_MASK;
		const struct leaf *l;

		if (!entry)
			continue;
		if (level > 1 && !(entry & f->huge)) {
			fuzz_assert(bits == f->table);
			walk((const uint64_t *)address, level - 1, gpa);
			continue;
		}
		fuzz_assert(level <= 2);
		fuzz_assert((bits & ~f->write) == (f->leaf | (level == 2 ? f->huge : 0)));
		l = leaf_at(gpa);
		fuzz_assert(l && l->gpa == gpa && l->size == size && l->hpa == address &&
			    l->write == !!(bits & f->write));
		seen_leaves++;
		seen_pages += (long)(size / PT_PAGE);
	}
}

static void compare(void)
{
	unsigned int alive = 0;

	seen_leaves = seen_tables = 0;
	seen_pages = 0;
	walk((const uint64_t *)pt.root, PT_LEVELS, 0);
	fuzz_assert(seen_leaves == leaves && seen_pages == pt.leaves);
	for (int i = 0; i < PAGES_MAX; i++)
		alive += used[i];
	fuzz_assert(alive == seen_tables);
}

/* ---- operations ---- */

/* Few tables, so that operations meet: four places at each level, and all pages of the last. */
static uint64_t take_gpa(struct input *in)
{
	static const uint16_t index[] = { 0, 1, 255, 511 };
	uint8_t a = input_u8(in);
	uint64_t gpa = 0;

	for (int level = 4; level > 1; level--, a >>= 2)
		gpa |= (uint64_t)index[a & 3] << (12 + 9 * (level - 1));
	return gpa | (uint64_t)(input_u16(in) % PT_ENTRIES) << 12;
}

static void map(struct input *in)
{
	uint64_t gpa = take_gpa(in), hpa = (input_u64(in) & 0xffffff) << 12;
	uint8_t how = input_u8(in);
	bool write = how & 1, huge = how & 2, flush = false, changed = false, blocked = false, done;
	struct pt_cache cache = { .count = 0 };

	if (how & 4 && leaf_at(gpa))
		hpa = leaf_at(gpa)->hpa; /* the same page, other rights */
	if (huge) {
		gpa &= ~(PT_HUGE - 1);
		hpa &= ~(PT_HUGE - 1);
	}
	if (leaves == LEAVES_MAX)
		return;
	for (; cache.count < PT_CACHE; cache.count++) {
		cache.page[cache.count] = (__u64 *)page_get();
		if (!cache.page[cache.count])
			break;
	}
	if (cache.count == PT_CACHE) {
		/* What is there now: nothing, a leaf of this size, a larger or smaller ones. */
		for (unsigned int i = 0; i < leaves; i++) {
			struct leaf *l = &leaf[i];
			bool same = l->gpa == gpa && l->size == (huge ? PT_HUGE : PT_PAGE);

			if (huge && l->size == PT_PAGE && l->gpa - gpa < PT_HUGE)
				blocked = true;
			else if ((same && (l->hpa != hpa || (l->write && !write))) || (!same && !huge && has(l, gpa)))
				changed = true;
		}
		done = pt_map(&pt, gpa, hpa, write, huge, &cache, &flush);
		fuzz_assert(!blocked || !done);
		fuzz_assert(done || huge);
		fuzz_assert(!changed || !done || flush);
		if (done) {
			struct leaf *old = leaf_at(gpa);

			if (old)
				*old = leaf[--leaves];
			leaf[leaves++] = (struct leaf) { gpa, huge ? PT_HUGE : PT_PAGE, hpa, write };
		} else {
			/* Only a table of its own may be in the way. */
			fuzz_assert(blocked);
		}
	}
	while (cache.count)
		used[page_number((uint64_t *)cache.page[--cache.count])] = false;
}

static void zap(struct input *in)
{
	uint64_t start = take_gpa(in), end = start + PT_PAGE, kept = 0;
	bool any = false, zapped;
	uint8_t how = input_u8(in);

	if (how & 1)
		end = take_gpa(in) + PT_PAGE;
	else if (how & 2)
		end = start + (uint64_t)input_u16(in) * PT_PAGE;
	if (end <= start)
		return;
	for (unsigned int i = 0; i < leaves; i++) {
		if (leaf[i].gpa < end && start < leaf[i].gpa + leaf[i].size)
			any = true;
		else
			leaf[kept++] = leaf[i];
	}
	leaves = (unsigned int)kept;
	zapped = pt_zap(&pt, start, end);
	fuzz_assert(zapped == any);
}

static void protect(struct input *in)
{
	uint64_t gpa = take_gpa(in);
	struct leaf *l = leaf_at(gpa);
	bool had = pt_write_protect(&pt, gpa);

	fuzz_assert(had == (l && l->write));
	if (l)
		l->write = false;
}

static void untouched(struct input *in)
{
	uint64_t gpa = take_gpa(in), piece = gpa & ~(PT_HUGE - 1);
	bool any = false;

	for (unsigned int i = 0; i < leaves; i++)
		any |= leaf[i].gpa < piece + PT_HUGE && piece < leaf[i].gpa + leaf[i].size;
	/* Emptied tables are taken off, so that nothing mapped and untouched are the same. */
	fuzz_assert(pt_untouched(&pt, gpa) == !any);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);

	memset(used, 0, sizeof(used));
	leaves = 0;
	pt = (struct pt) { .format = &formats[input_u8(&in) & 1], .dead = page_dead };
	pt.root = (__u64 *)page_get();
	for (unsigned int n = 0; input_more(&in) && n < 400; n++) {
		switch (input_u8(&in) & 7) {
		case 0:
			zap(&in);
			break;
		case 1:
			protect(&in);
			break;
		case 2:
			untouched(&in);
			break;
		case 3:
			compare();
			break;
		default:
			map(&in);
		}
	}
	compare();
	pt_zap(&pt, 0, 1ULL << 48);
	leaves = 0;
	compare();
	fuzz_assert(!pt.leaves);
	return 0;
}
