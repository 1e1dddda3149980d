// SPDX-License-Identifier: GPL-2.0-or-later
#include <check.h>
#include <string.h>

#include "emulate.h"
#include "vm.h"

/* The walker over a megabyte of guest memory; 0x80000 to 0x8ffff is a read-only slot, nothing is above. */
#define MEMORY 0x100000
#define ROM 0x80000
#define ROM_END 0x90000

static uint8_t memory[MEMORY] __attribute__((aligned(4096)));
static int lock_depth, lookups, race_at;
static void (*race)(void);

void *vm_gpa_to_hva(struct vm *vm, uint64_t gpa, size_t len, bool write)
{
	(void)vm;
	ck_assert_int_eq(lock_depth, 1); /* the slot must not go away */
	if (race && ++lookups >= race_at)
		race();
	if (gpa >= MEMORY || len > MEMORY - gpa)
		return NULL;
	if (write && gpa >= ROM && gpa < ROM_END)
		return NULL;
	return memory + gpa;
}

void vm_read_lock(struct vm *vm)
{
	(void)vm;
	lock_depth++;
}

void vm_read_unlock(struct vm *vm)
{
	(void)vm;
	lock_depth--;
}

static uint64_t entry_get(uint64_t gpa, int size)
{
	uint64_t value = 0;

	memcpy(&value, memory + gpa, size);
	return value;
}

static void entry_put(uint64_t gpa, uint64_t value, int size)
{
	memcpy(memory + gpa, &value, size);
}

enum mode { BITS32, PAE, LONG };

#define P 1ull
#define W 2ull
#define U 4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define NX (1ull << 63)
#define ALL (P | W | U)

#define WP (1ull << 16)
#define PSE (1ull << 4)
#define SMEP (1ull << 20)
#define SMAP (1ull << 21)
#define NXE (1ull << 11)
#define AC (1ull << 18)

#define FRAME 0x7b000ull /* of a 4 KiB page */
#define GVA 0x7654b2109abcull
#define GVA32 0xb2109abcull
#define PHYS 40

#define RD 0
#define WR WALK_WRITE
#define US WALK_USER
#define FE WALK_FETCH
#define OK_4K 0, FRAME | 0xabc
#define ERR(code) 1, code

/*
 * e: attributes of the entries, top level first; where the next level is, is filled in unless the entry is a large
 * page
 */
struct row {
	const char *name;
	enum mode mode;
	uint64_t e[4];
	uint64_t cr0, cr4, efer, rflags;
	uint32_t access;
	int fails;
	uint64_t result; /* gpa, or error code */
	bool implicit;
};

/* clang-format off */
static const struct row rows[] = {
	/* long mode: presence */
	{ "read", LONG, { ALL, ALL, ALL, ALL }, 0, 0, 0, 0, RD, OK_4K, false },
	{ "write", LONG, { ALL, ALL, ALL, ALL }, 0, 0, 0, 0, WR, OK_4K, false },
	{ "user read", LONG, { ALL, ALL, ALL, ALL }, 0, 0, 0, 0, US, OK_4K, false },
	{ "user write", LONG, { ALL, ALL, ALL, ALL }, 0, 0, 0, 0, US | WR, OK_4K, false },
	{ "already accessed", LONG, { ALL | A, ALL | A, ALL | A, ALL | A | D }, 0, 0, 0, 0, WR, OK_4K, false },
	{ "PML4E absent", LONG, { W | U, ALL, ALL, ALL }, 0, 0, 0, 0, RD, ERR(0), false },
	{ "PDPTE absent", LONG, { ALL, 0, ALL, ALL }, 0, 0, 0, 0, WR, ERR(2), false },
	{ "PDE absent", LONG, { ALL, ALL, 0, ALL }, 0, 0, 0, 0, US, ERR(4), false },
	{ "PTE absent", LONG, { ALL, ALL, ALL, 0 }, 0, 0, 0, 0, US | WR, ERR(6), false },
	{ "absent, fetch, no NXE", LONG, { ALL, ALL, ALL, 0 }, 0, 0, 0, 0, FE, ERR(0), false },
	{ "absent, fetch, NXE", LONG, { ALL, ALL, ALL, 0 }, 0, 0, NXE, 0, FE, ERR(0x10), false },
	{ "absent, fetch, SMEP", LONG, { ALL, ALL, ALL, 0 }, 0, SMEP, 0, 0, FE | US, ERR(0x14), false },
	{ "absent, reserved bits do not count", LONG, { ALL, ALL, ALL, 1ull << 45 }, 0, 0, 0, 0, RD, ERR(0), false },
	/* U/S and W at every level */
	{ "user, PML4E supervisor", LONG, { P | W, ALL, ALL, ALL }, 0, 0, 0, 0, US, ERR(5), false },
	{ "user, PDPTE supervisor", LONG, { ALL, P | W, ALL, ALL }, 0, 0, 0, 0, US, ERR(5), false },
	{ "user, PDE supervisor", LONG, { ALL, ALL, P | W, ALL }, 0, 0, 0, 0, US | WR, ERR(7), false },
	{ "user, PTE supervisor", LONG, { ALL, ALL, ALL, P | W }, 0, 0, 0, 0, US, ERR(5), false },
	{ "user write, PML4E read-only", LONG, { P | U, ALL, ALL, ALL }, 0, 0, 0, 0, US | WR, ERR(7), false },
	{ "user write, PDE read-only", LONG, { ALL, ALL, P | U, ALL }, WP, 0, 0, 0, US | WR, ERR(7), false },
	{ "user write, PTE read-only", LONG, { ALL, ALL, ALL, P | U }, 0, 0, 0, 0, US | WR, ERR(7), false },
	{ "user read, PTE read-only", LONG, { ALL, ALL, ALL, P | U }, WP, 0, 0, 0, US, OK_4K, false },
	{ "supervisor write, read-only, no WP", LONG, { ALL, ALL, ALL, P }, 0, 0, 0, 0, WR, OK_4K, false },
	{ "supervisor write, read-only, WP", LONG, { ALL, ALL, ALL, P }, WP, 0, 0, 0, WR, ERR(3), false },
	{ "supervisor write, PDPTE read-only, WP", LONG, { ALL, P, ALL, ALL }, WP, 0, 0, 0, WR, ERR(3), false },
	{ "supervisor read, read-only, WP", LONG, { P, P, P, P }, WP, 0, 0, 0, RD, OK_4K, false },
	/* NX */
	{ "fetch", LONG, { ALL, ALL, ALL, ALL }, 0, 0, NXE, 0, FE, OK_4K, false },
	{ "fetch, NX in PTE", LONG, { ALL, ALL, ALL, ALL | NX }, 0, 0, NXE, 0, FE, ERR(0x11), false },
	{ "fetch, NX in PML4E", LONG, { ALL | NX, ALL, ALL, ALL }, 0, 0, NXE, 0, FE | US, ERR(0x15), false },
	{ "fetch, NX in PDE", LONG, { ALL, ALL, ALL | NX, ALL }, 0, 0, NXE, 0, FE, ERR(0x11), false },
	{ "read, NX", LONG, { ALL, ALL, ALL, ALL | NX }, 0, 0, NXE, 0, US, OK_4K, false },
	{ "NX without NXE is reserved", LONG, { ALL, ALL, ALL, ALL | NX }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "NX without NXE, PML4E, user fetch", LONG, { ALL | NX, ALL, ALL, ALL }, 0, SMEP, 0, 0, US | FE, ERR(0x1d), false },
	{ "user fetch, supervisor page, no I", LONG, { ALL, ALL, ALL, P }, 0, 0, 0, 0, US | FE, ERR(5), false },
	/* SMEP, SMAP */
	{ "SMEP fetch from user page", LONG, { ALL, ALL, ALL, ALL }, 0, SMEP, 0, 0, FE, ERR(0x11), false },
	{ "SMEP fetch from supervisor page", LONG, { ALL, ALL, ALL, P }, 0, SMEP, 0, 0, FE, OK_4K, false },
	{ "SMEP fetch, one level supervisor", LONG, { P | W, ALL, ALL, ALL }, 0, SMEP, 0, 0, FE, OK_4K, false },
	{ "SMEP user fetch", LONG, { ALL, ALL, ALL, ALL }, 0, SMEP, 0, 0, FE | US, OK_4K, false },
	{ "SMAP read", LONG, { ALL, ALL, ALL, ALL }, 0, SMAP, 0, 0, RD, ERR(1), false },
	{ "SMAP write", LONG, { ALL, ALL, ALL, ALL }, 0, SMAP, 0, 0, WR, ERR(3), false },
	{ "SMAP read, AC", LONG, { ALL, ALL, ALL, ALL }, 0, SMAP, 0, AC, RD, OK_4K, false },
	{ "SMAP write, AC, read-only, WP", LONG, { ALL, ALL, ALL, P | U }, WP, SMAP, 0, AC, WR, ERR(3), false },
	{ "SMAP read, AC, implicit", LONG, { ALL, ALL, ALL, ALL }, 0, SMAP, 0, AC, RD, ERR(1), true },
	{ "SMAP, supervisor page", LONG, { ALL, ALL, ALL, P | W }, 0, SMAP, 0, 0, WR, OK_4K, true },
	{ "SMAP, user access", LONG, { ALL, ALL, ALL, ALL }, 0, SMAP, 0, 0, US, OK_4K, false },
	{ "SMAP leaves fetches alone", LONG, { ALL, ALL, ALL, ALL }, 0, SMAP, 0, 0, FE, OK_4K, false },
	/* reserved bits */
	{ "reserved PML4E bit 40", LONG, { ALL | 1ull << 40, ALL, ALL, ALL }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "reserved PDPTE bit 51", LONG, { ALL, ALL | 1ull << 51, ALL, ALL }, 0, 0, 0, 0, WR, ERR(0xb), false },
	{ "reserved PDE bit 45", LONG, { ALL, ALL, ALL | 1ull << 45, ALL }, 0, 0, 0, 0, US, ERR(0xd), false },
	{ "reserved PTE bit 40", LONG, { ALL, ALL, ALL, ALL | 1ull << 40 }, 0, 0, NXE, 0, FE, ERR(0x19), false },
	{ "bits 52 to 62 are the system's", LONG, { ALL | 0x7ffull << 52, ALL | 0x7ffull << 52, ALL, ALL | 0x7ffull << 52 },
	  0, 0, 0, 0, RD, OK_4K, false },
	{ "PS in PML4E", LONG, { ALL | PS, ALL, ALL, ALL }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "reserved before rights", LONG, { ALL, ALL, ALL, P | 1ull << 40 }, 0, 0, 0, 0, US | WR, ERR(0xf), false },
	{ "PTE bit 7 is PAT", LONG, { ALL, ALL, ALL, ALL | PS }, 0, 0, 0, 0, RD, OK_4K, false },
	/* large pages */
	{ "2 MiB, bit 40", LONG, { ALL, ALL, ALL | PS | 0x12345600000, 0 }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "2 MiB", LONG, { ALL, ALL, ALL | PS | 0x2345600000, 0 }, 0, 0, 0, 0, WR, 0, 0x2345709abc, false },
	{ "2 MiB, PAT bit", LONG, { ALL, ALL, ALL | PS | 0x2345601000, 0 }, 0, 0, 0, 0, RD, 0, 0x2345709abc, false },
	{ "2 MiB, bit 13", LONG, { ALL, ALL, ALL | PS | 0x2345602000, 0 }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "2 MiB, bit 20", LONG, { ALL, ALL, ALL | PS | 0x2345700000, 0 }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "2 MiB, user, supervisor page", LONG, { ALL, ALL, P | W | PS, 0 }, 0, 0, 0, 0, US, ERR(5), false },
	{ "1 GiB", LONG, { ALL, ALL | PS | 0x2340000000, 0, 0 }, 0, 0, 0, 0, US | WR, 0, 0x2372109abc, false },
	{ "1 GiB, bit 21", LONG, { ALL, ALL | PS | 0x2340200000, 0, 0 }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "1 GiB, NX fetch", LONG, { ALL, ALL | PS | NX, 0, 0 }, 0, 0, NXE, 0, FE, ERR(0x11), false },
	/* PAE: e[1] is the PDPTE */
	{ "read", PAE, { 0, P, ALL, ALL }, 0, 0, 0, 0, RD, OK_4K, false },
	{ "user write", PAE, { 0, P, ALL, ALL }, 0, 0, 0, 0, US | WR, OK_4K, false },
	{ "PDPTE absent", PAE, { 0, 0, ALL, ALL }, 0, 0, 0, 0, US, ERR(4), false },
	{ "PDPTE bit 1", PAE, { 0, P | W, ALL, ALL }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "PDPTE bit 6", PAE, { 0, P | 1 << 6, ALL, ALL }, 0, 0, 0, 0, WR, ERR(0xb), false },
	{ "PDPTE bit 63", PAE, { 0, P | NX, ALL, ALL }, 0, 0, NXE, 0, RD, ERR(9), false },
	{ "PDPTE bit 40", PAE, { 0, P | 1ull << 40, ALL, ALL }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "PDE absent", PAE, { 0, P, W, ALL }, 0, 0, 0, 0, WR, ERR(2), false },
	{ "PTE absent, NXE fetch", PAE, { 0, P, ALL, 0 }, 0, 0, NXE, 0, FE, ERR(0x10), false },
	{ "PTE bit 62", PAE, { 0, P, ALL, ALL | 1ull << 62 }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "PDE bit 52", PAE, { 0, P, ALL | 1ull << 52, ALL }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "NX without NXE", PAE, { 0, P, ALL, ALL | NX }, 0, 0, 0, 0, RD, ERR(9), false },
	{ "NX", PAE, { 0, P, ALL, ALL | NX }, 0, 0, NXE, 0, FE | US, ERR(0x15), false },
	{ "2 MiB", PAE, { 0, P, ALL | PS | 0x2345600000, 0 }, 0, 0, 0, 0, WR, 0, 0x2345709abc, false },
	{ "2 MiB, bit 13", PAE, { 0, P, ALL | PS | 0x2345602000, 0 }, 0, 0, 0, 0, WR, ERR(0xb), false },
	{ "WP", PAE, { 0, P, P | U, ALL }, WP, 0, 0, 0, WR, ERR(3), false },
	{ "SMEP", PAE, { 0, P, ALL, ALL }, 0, SMEP, 0, 0, FE, ERR(0x11), false },
	/* 32 bits: e[2] is the PDE */
	{ "read", BITS32, { 0, 0, ALL, ALL }, 0, 0, 0, 0, RD, OK_4K, false },
	{ "user write", BITS32, { 0, 0, ALL, ALL }, WP, 0, 0, 0, US | WR, OK_4K, false },
	{ "PDE absent", BITS32, { 0, 0, 0, ALL }, 0, 0, 0, 0, WR, ERR(2), false },
	{ "PTE absent", BITS32, { 0, 0, ALL, W | U }, 0, 0, 0, 0, US, ERR(4), false },
	{ "fetch, NXE means nothing", BITS32, { 0, 0, ALL, 0 }, 0, 0, NXE, 0, FE, ERR(0), false },
	{ "fetch, SMEP", BITS32, { 0, 0, ALL, ALL }, 0, SMEP, 0, 0, FE, ERR(0x11), false },
	{ "SMAP", BITS32, { 0, 0, ALL, ALL }, 0, SMAP, 0, 0, RD, ERR(1), false },
	{ "user, supervisor PDE", BITS32, { 0, 0, P | W, ALL }, 0, 0, 0, 0, US, ERR(5), false },
	{ "WP", BITS32, { 0, 0, ALL, P }, WP, 0, 0, 0, WR, ERR(3), false },
	{ "no WP", BITS32, { 0, 0, ALL, P }, 0, 0, 0, 0, WR, OK_4K, false },
	{ "PS without PSE", BITS32, { 0, 0, ALL | PS, ALL }, 0, 0, 0, 0, RD, OK_4K, false },
	{ "4 MiB", BITS32, { 0, 0, ALL | PS | 0x12400000, 0 }, 0, PSE, 0, 0, WR, 0, 0x12509abc, false },
	{ "4 MiB, PSE-36", BITS32, { 0, 0, ALL | PS | 0x12400000 | 0xa5 << 13, 0 }, 0, PSE, 0, 0, RD, 0, 0xa512509abc, false },
	{ "4 MiB, bit 21", BITS32, { 0, 0, ALL | PS | 0x12600000, 0 }, 0, PSE, 0, 0, RD, ERR(9), false },
	{ "4 MiB, PAT bit", BITS32, { 0, 0, ALL | PS | 0x12401000, 0 }, 0, PSE, 0, 0, US, 0, 0x12509abc, false },
	{ "4 MiB, supervisor", BITS32, { 0, 0, P | PS, 0 }, 0, PSE, 0, 0, US | WR, ERR(7), false },
};
/* clang-format on */

/* Where the tables are: level 4 at 0x1000 down to level 1 at 0x4000, PAE's PDPT at 0x2060. */
static uint64_t entry_gpa(enum mode mode, int nr, uint64_t base)
{
	uint64_t gva = mode == LONG ? GVA : GVA32;

	if (mode == BITS32)
		return base + nr * 0x1000 + (nr == 3 ? gva >> 12 & 0x3ff : gva >> 22) * 4;
	if (mode == PAE && nr == 1)
		return base + 0x1060 + (gva >> 30) * 8;
	return base + nr * 0x1000 + (gva >> (39 - 9 * nr) & 0x1ff) * 8;
}

static uint64_t build(const struct row *row, uint64_t base, uint64_t *entries)
{
	int size = row->mode == BITS32 ? 4 : 8, first = row->mode == LONG ? 0 : row->mode == PAE ? 1 : 2;

	memset(memory, 0, sizeof(memory));
	for (int nr = first; nr < 4; nr++) {
		bool leaf = nr == 3 || (nr && (row->e[nr] & PS) && (row->mode != BITS32 || (row->cr4 & PSE)));

		entries[nr] = row->e[nr] | (nr == 3 ? FRAME : leaf ? 0 : base + (nr + 1) * 0x1000);
		entry_put(entry_gpa(row->mode, nr, base), entries[nr], size);
	}
	return base + (row->mode == LONG ? 0 : row->mode == PAE ? 0x1060 : 0x2000);
}

static struct walk_cache cache, *cache_used;
static struct slots slots;
static struct vm the_vm;

static void nothing(void)
{
}

static void setup(void)
{
	cache_used = NULL;
}

static struct walk_regs regs_of(const struct row *row, uint64_t cr3)
{
	struct walk_regs regs = {
		.cr0 = row->cr0 | 0x80000001,
		.cr3 = cr3 | (row->mode == PAE ? 0 : 0x18), /* PCD, PWT: ignored */
		.cr4 = row->cr4 | (row->mode == BITS32 ? 0 : 0x20),
		.efer = row->efer | (row->mode == LONG ? 0x500 : 0),
		.rflags = row->rflags | 2,
		.maxphyaddr = PHYS,
		.implicit = row->implicit,
		.cache = cache_used,
	};

	return regs;
}

static void check_row(const struct row *row, uint64_t base)
{
	uint64_t entries[4], gpa = ~0ull, want, used = ~0ull;
	uint64_t cr3 = build(row, base, entries);
	struct walk_regs regs = regs_of(row, cr3);
	int first = row->mode == LONG ? 0 : row->mode == PAE ? 1 : 2, size = row->mode == BITS32 ? 4 : 8;
	uint32_t error = ~0u;
	int ret = walk_gva(&the_vm, &regs, row->mode == LONG ? GVA : GVA32, row->access, &gpa, &error);

	ck_assert_int_eq(lock_depth, 0);
	ck_assert_msg(ret == -row->fails, "%s: %d, error %x", row->name, ret, error);
	if (ret)
		ck_assert_msg(error == row->result, "%s: error %x, not %x", row->name, error,
			      (unsigned int)row->result);
	if (!ret)
		ck_assert_msg(gpa == row->result, "%s: gpa %llx", row->name, (unsigned long long)gpa);
	for (int nr = first; nr < 4; nr++) {
		bool leaf = nr == 3 || (nr && (row->e[nr] & PS) && (row->mode != BITS32 || (row->cr4 & PSE)));

		want = entries[nr];
		if (!ret && used && !(row->mode == PAE && nr == 1) && base != ROM)
			want |= A | (leaf && (row->access & WR) ? D : 0);
		ck_assert_msg(entry_get(entry_gpa(row->mode, nr, base), size) == want, "%s: entry %d", row->name, nr);
		if (leaf)
			used = 0;
	}
}

START_TEST(test_row)
{
	check_row(&rows[_i], 0x1000);
}
END_TEST

/* The same from ROM: works, and the bits stay. */
START_TEST(test_row_rom)
{
	check_row(&rows[_i], ROM);
}
END_TEST

/* With a cache that knows all earlier rows: each twice, and once more after its tables have changed. */
START_TEST(test_row_cached)
{
	const struct row *row = &rows[_i];
	uint64_t entries[4], gpa, cr3;
	struct walk_regs regs;
	uint32_t error;

	the_vm.slots = &slots;
	cache_used = &cache;
	memset(&cache, 0, sizeof(cache));
	check_row(&rows[0], 0x1000);
	for (int i = _i ? _i - 1 : 0; i <= _i; i++) {
		check_row(&rows[i], 0x1000);
		check_row(&rows[i], 0x1000);
	}
	if (row->fails || row->mode != LONG)
		return;
	for (int nr = 0; nr < 4; nr++) {
		cr3 = build(row, 0x1000, entries);
		regs = regs_of(row, cr3);
		ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA, row->access, &gpa, &error), 0);
		ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA, row->access, &gpa, &error), 0);
		ck_assert_uint_eq(gpa, row->result);
		entry_put(entry_gpa(LONG, nr, 0x1000), 0, 8);
		ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA, row->access, &gpa, &error), -1);
		if (nr == 3 || (nr && (row->e[nr] & PS)))
			break;
	}
}
END_TEST

/* A hit needs the same slots, table, rights and registers; and marks a page dirty again whose bit was taken. */
START_TEST(test_cache_keys)
{
	static const struct row row = { "", LONG, { ALL, ALL, ALL, ALL }, 0, 0, 0, 0, 0, 0, 0, false };
	uint64_t entries[4], gpa, pte;
	struct walk_regs regs, other;
	uint32_t error;

	the_vm.slots = &slots;
	cache_used = &cache;
	regs = regs_of(&row, build(&row, 0x1000, entries));
	pte = entry_gpa(LONG, 3, 0x1000);
	ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA, WALK_WRITE, &gpa, &error), 0);
	lookups = 0;
	race_at = 1000;
	race = nothing; /* counts lookups */
	ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA + 1, WALK_WRITE, &gpa, &error), 0);
	ck_assert_int_eq(lookups, 0);
	ck_assert_uint_eq(gpa, (FRAME | 0xabc) + 1);
	entry_put(pte, entry_get(pte, 8) & ~D, 8);
	ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA, WALK_WRITE, &gpa, &error), 0);
	ck_assert_int_gt(lookups, 0);
	ck_assert(entry_get(pte, 8) & D);
	lookups = 0;
	slots.generation++;
	ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA, WALK_WRITE, &gpa, &error), 0);
	ck_assert_int_gt(lookups, 0);
	lookups = 0;
	other = regs;
	other.cr4 |= SMAP;
	ck_assert_int_eq(walk_gva(&the_vm, &other, GVA, WALK_WRITE, &gpa, &error), -1);
	other = regs;
	other.cr3 = 0x20000;
	ck_assert_int_eq(walk_gva(&the_vm, &other, GVA, WALK_WRITE, &gpa, &error), -1);
	ck_assert_int_eq(walk_gva(&the_vm, &regs, GVA, WALK_WRITE, &gpa, &error), 0);
	race = NULL;
}
END_TEST

START_TEST(test_no_paging)
{
	struct walk_regs regs = { .cr0 = 1, .maxphyaddr = PHYS };
	uint64_t gpa;
	uint32_t error;

	ck_assert_int_eq(walk_gva(NULL, &regs, 0x123456789abc, WALK_WRITE | WALK_USER, &gpa, &error), 0);
	ck_assert_uint_eq(gpa, 0x56789abc);
}
END_TEST

/* Tables outside RAM: not present. */
START_TEST(test_device_tables)
{
	struct row row = rows[0];
	uint64_t entries[4], gpa;
	struct walk_regs regs = regs_of(&row, build(&row, 0x1000, entries));
	uint32_t error = 99;

	regs.cr3 = 0xfee00000;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA, WALK_WRITE, &gpa, &error), -1);
	ck_assert_uint_eq(error, 2);
	regs.cr3 = 0x1000;
	entry_put(entry_gpa(LONG, 1, 0x1000), ALL | 0xfee00000, 8);
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA, WALK_USER, &gpa, &error), -1);
	ck_assert_uint_eq(error, 4);
}
END_TEST

START_TEST(test_pdpte_registers)
{
	const struct row row = { .name = "", .mode = PAE, .e = { 0, 0, ALL, ALL } };
	uint64_t entries[4], gpa, pdpte[4] = { 0, 0, 0x1000 + 0x2000 + P, 0 };
	struct walk_regs regs = regs_of(&row, build(&row, 0x1000, entries));
	uint32_t error;

	ck_assert_int_eq(walk_gva(NULL, &regs, GVA32, 0, &gpa, &error), -1);
	regs.pdpte = pdpte;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA32, 0, &gpa, &error), 0);
	ck_assert_uint_eq(gpa, FRAME | 0xabc);
	/* "Accessed" is a reserved bit in a register; in memory an emulated CPU may have set it. */
	pdpte[2] |= A;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA32, 0, &gpa, &error), -1);
	ck_assert_uint_eq(error, 9);
	entry_put(regs.cr3 + 16, pdpte[2], 8);
	regs.pdpte = NULL;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA32, 0, &gpa, &error), 0);
	ck_assert_uint_eq(gpa, FRAME | 0xabc);
}
END_TEST

/* PSE-36 with narrower addresses: what is above them is reserved. */
START_TEST(test_pse36_width)
{
	const struct row row = {
		.name = "", .mode = BITS32, .e = { 0, 0, ALL | PS | 0x12400000 | 1 << 16 }, .cr4 = PSE
	};
	uint64_t entries[4], gpa;
	struct walk_regs regs = regs_of(&row, build(&row, 0x1000, entries));
	uint32_t error;

	regs.maxphyaddr = 36;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA32, 0, &gpa, &error), 0);
	ck_assert_uint_eq(gpa, 0x812509abc);
	regs.maxphyaddr = 35;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA32, 0, &gpa, &error), -1);
	ck_assert_uint_eq(error, 9);
}
END_TEST

/* Any width that a VMM's CPUID may say is survived. */
START_TEST(test_widths)
{
	struct row row = rows[0];
	uint64_t entries[4], gpa;
	struct walk_regs regs = regs_of(&row, build(&row, 0x1000, entries));
	uint32_t error;

	for (int width = 0; width < 256; width++) {
		regs.maxphyaddr = (uint8_t)width;
		ck_assert_int_eq(walk_gva(NULL, &regs, GVA, WALK_WRITE, &gpa, &error), 0);
	}
}
END_TEST

static uint64_t race_gpa, race_value;

static void race_once(void)
{
	entry_put(race_gpa, race_value, 8);
	race = NULL;
}

static void race_always(void)
{
	static uint64_t count;

	/* a new frame each time: the compare-and-swap never finds what was read */
	entry_put(race_gpa, ALL | (FRAME + (count++ % 7 << 12)), 8);
}

/* Another vCPU changes the PTE after it was read (lookup 5 is the first for writing): the new one counts. */
START_TEST(test_race)
{
	struct row row = rows[0];
	uint64_t entries[4], gpa;
	struct walk_regs regs = regs_of(&row, build(&row, 0x1000, entries));
	uint32_t error;

	lookups = 0;
	race_at = 5;
	race = race_once;
	race_gpa = entry_gpa(LONG, 3, 0x1000);
	race_value = ALL | 0x5c000;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA, WALK_WRITE, &gpa, &error), 0);
	ck_assert_uint_eq(gpa, 0x5cabc);
	ck_assert_uint_eq(entry_get(race_gpa, 8), ALL | 0x5c000 | A | D);

	build(&row, 0x1000, entries); /* and away: no bit is set in what is no longer there */
	lookups = 0;
	race = race_once;
	race_value = 0x1234000;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA, WALK_WRITE, &gpa, &error), -1);
	ck_assert_uint_eq(error, 2);
	ck_assert_uint_eq(entry_get(race_gpa, 8), 0x1234000);

	build(&row, 0x1000, entries); /* for ever: it ends */
	lookups = 0;
	race_at = 0;
	race = race_always;
	ck_assert_int_eq(walk_gva(NULL, &regs, GVA, WALK_WRITE, &gpa, &error), -1);
	ck_assert_uint_eq(error, 2);
	race = NULL;
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("page-table walker");
	TCase *tcase = tcase_create("walk");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, test_row, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_loop_test(tcase, test_row_cached, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tcase, test_cache_keys);
	tcase_add_loop_test(tcase, test_row_rom, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tcase, test_no_paging);
	tcase_add_test(tcase, test_device_tables);
	tcase_add_test(tcase, test_pdpte_registers);
	tcase_add_test(tcase, test_pse36_width);
	tcase_add_test(tcase, test_widths);
	tcase_add_test(tcase, test_race);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
