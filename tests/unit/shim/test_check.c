// SPDX-License-Identifier: GPL-2.0-or-later
/* Every check of what a shadow hands in: accepted, refused, each bound and the step past it. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h" /* the shim's */

#define PAGE 4096ULL
#define USER_END 0x7ffffffff000ULL
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct limits limits = {
	.cr0_may = 0xe005003f,
	.cr4_may = 0x3727ff & ~(1ULL << 12 | 1ULL << 13 | 1ULL << 14),
	.efer_may = 0xd01,
	.xcr0_may = 0xe7,
	.user_end = USER_END,
	.gpa_bits = 40,
};

START_TEST(control_bits)
{
	ck_assert_uint_eq(constrain(0, 0, ~0u), 0);
	ck_assert_uint_eq(constrain(6, 0, ~0u), 6);
	ck_assert_uint_eq(constrain(6, 0x16, ~0u), 0x16);  /* must be 1 */
	ck_assert_uint_eq(constrain(6, 0x10, 0x14), 0x14); /* bit 1 may not */
	ck_assert_uint_eq(constrain(~0u, 0, 0), 0);
	for (int i = 0; i < 32; i++) {
		__u32 bit = 1u << i;

		ck_assert_uint_eq(constrain(bit, 0, bit), bit);
		ck_assert_uint_eq(constrain(bit, 0, ~bit), 0);
		ck_assert_uint_eq(constrain(0, bit, ~0u), bit);
	}
}
END_TEST

START_TEST(create)
{
	__u64 reserved[3] = { 0 };

	ck_assert_int_eq(check_create(0, reserved), 0);
	for (int bit = 0; bit < 64; bit++) {
		ck_assert_int_eq(check_create(1ULL << bit, reserved), -EINVAL);
		for (int i = 0; i < 3; i++) {
			reserved[i] = 1ULL << bit;
			ck_assert_int_eq(check_create(0, reserved), -EINVAL);
			reserved[i] = 0;
		}
	}
}
END_TEST

#define GPA_END (1ULL << 40)

START_TEST(region)
{
	static const struct {
		const char *what;
		int want;
		struct umbra_region r;
	} table[] = {
		{ "plain", 0, { 1, 0, 0, 0x100000, 0x7f0000000000, 0x4000 } },
		{ "slot 511", 0, { 511, 0, 0, 0, PAGE, PAGE } },
		{ "slot 512", -EINVAL, { 512, 0, 0, 0, PAGE, PAGE } },
		{ "slot 2^32-1", -EINVAL, { ~0u, 0, 0, 0, PAGE, PAGE } },
		{ "reserved", -EINVAL, { 1, 1, 0, 0, PAGE, PAGE } },
		{ "reserved high", -EINVAL, { 1, 1u << 31, 0, 0, PAGE, PAGE } },
		{ "both flags", 0, { 1, 0, 3, 0, PAGE, PAGE } },
		{ "all flags", 0, { 1, 0, 7, 0, PAGE, PAGE } },
		{ "flag 3", -EINVAL, { 1, 0, 8, 0, PAGE, PAGE } },
		{ "flag 63", -EINVAL, { 1, 0, 1ULL << 63, 0, PAGE, PAGE } },
		{ "gpa + 1", -EINVAL, { 1, 0, 0, 1, PAGE, PAGE } },
		{ "gpa + 2048", -EINVAL, { 1, 0, 0, 2048, PAGE, PAGE } },
		{ "addr + 1", -EINVAL, { 1, 0, 0, 0, PAGE + 1, PAGE } },
		{ "size + 1", -EINVAL, { 1, 0, 0, 0, PAGE, PAGE + 1 } },
		{ "size 1", -EINVAL, { 1, 0, 0, 0, PAGE, 1 } },
		{ "addr 0", 0, { 1, 0, 0, 0, 0, PAGE } },
		{ "gpa: last page", 0, { 1, 0, 0, GPA_END - PAGE, PAGE, PAGE } },
		{ "gpa: one past", -EINVAL, { 1, 0, 0, GPA_END - PAGE, PAGE, 2 * PAGE } },
		{ "gpa at the end", -EINVAL, { 1, 0, 0, GPA_END, PAGE, PAGE } },
		{ "gpa past the end", -EINVAL, { 1, 0, 0, GPA_END + PAGE, PAGE, PAGE } },
		{ "gpa 2^63", -EINVAL, { 1, 0, 0, 1ULL << 63, PAGE, PAGE } },
		{ "gpa wraps to 0", -EINVAL, { 1, 0, 0, -PAGE, PAGE, PAGE } },
		{ "gpa wraps past 0", -EINVAL, { 1, 0, 0, -PAGE, PAGE, 2 * PAGE } },
		{ "addr: last page", 0, { 1, 0, 0, 0, USER_END - PAGE, PAGE } },
		{ "addr: one past", -EINVAL, { 1, 0, 0, 0, USER_END - PAGE, 2 * PAGE } },
		{ "addr at the end", -EINVAL, { 1, 0, 0, 0, USER_END, PAGE } },
		{ "addr not canonical", -EINVAL, { 1, 0, 0, 0, 0x800000000000, PAGE } },
		{ "addr of the kernel", -EINVAL, { 1, 0, 0, 0, 0xffff888000000000, PAGE } },
		{ "addr wraps to 0", -EINVAL, { 1, 0, 0, 0, -PAGE, PAGE } },
		{ "addr wraps past 0", -EINVAL, { 1, 0, 0, 0, -PAGE, 2 * PAGE } },
		{ "size: the most", 0, { 1, 0, 0, 0, PAGE, UMBRA_MAX_REGION_SIZE } },
		{ "size: the most and a page", -EINVAL, { 1, 0, 0, 0, PAGE, UMBRA_MAX_REGION_SIZE + PAGE } },
		{ "size 2^63", -EINVAL, { 1, 0, 0, 0, PAGE, 1ULL << 63 } },
		{ "size wraps both", -EINVAL, { 1, 0, 0, PAGE, PAGE, -PAGE } },
		{ "remove", 0, { 1, 0, 0, 0, 0, 0 } },
		{ "remove slot 511", 0, { 511, 0, 0, 0, 0, 0 } },
		{ "remove slot 512", -EINVAL, { 512, 0, 0, 0, 0, 0 } },
		{ "remove, flag", -EINVAL, { 1, 0, 1, 0, 0, 0 } },
		{ "remove, gpa", -EINVAL, { 1, 0, 0, PAGE, 0, 0 } },
		{ "remove, addr", -EINVAL, { 1, 0, 0, 0, PAGE, 0 } },
		{ "remove, reserved", -EINVAL, { 1, 1, 0, 0, 0, 0 } },
	};
	struct limits wide = limits;
	struct umbra_region r = { 1, 0, 0, 0, PAGE, UMBRA_MAX_REGION_SIZE + PAGE };

	for (size_t i = 0; i < COUNT(table); i++)
		ck_assert_msg(check_region(&table[i].r, &limits) == table[i].want, "%s", table[i].what);
	/* The limit of the size holds by itself, where gpa_bits would allow more. */
	wide.gpa_bits = 46;
	ck_assert_int_eq(check_region(&r, &wide), -EINVAL);
	r.size -= PAGE;
	ck_assert_int_eq(check_region(&r, &wide), 0);
	r.gpa = (1ULL << 46) - r.size;
	ck_assert_int_eq(check_region(&r, &wide), 0);
	r.gpa += PAGE;
	ck_assert_int_eq(check_region(&r, &wide), -EINVAL);
}
END_TEST

START_TEST(dirty)
{
	static const struct {
		const char *what;
		int want;
		__u64 region_pages;
		struct umbra_dirty d;
	} table[] = {
		{ "all of 64", 0, 64, { 0, 0, 0, 64, 8 } },
		{ "all of 200", 0, 200, { 0, 0, 0, 200, 8 } },
		{ "end of 200", 0, 200, { 0, 0, 192, 8, 8 } },
		{ "middle of 200", 0, 200, { 0, 0, 64, 128, 8 } },
		{ "all of 1", 0, 1, { 0, 0, 0, 1, 8 } },
		{ "2^20", 0, 1 << 21, { 0, 0, 0, 1 << 20, 8 } },
		{ "2^20 + 64", -EINVAL, 1 << 21, { 0, 0, 0, (1 << 20) + 64, 8 } },
		{ "none", -EINVAL, 64, { 0, 0, 0, 0, 8 } },
		{ "none at the end", -EINVAL, 64, { 0, 0, 64, 0, 8 } },
		{ "reserved", -EINVAL, 64, { 0, 1, 0, 64, 8 } },
		{ "bitmap + 1", -EINVAL, 64, { 0, 0, 0, 64, 9 } },
		{ "bitmap + 4", -EINVAL, 64, { 0, 0, 0, 64, 12 } },
		{ "first 1", -EINVAL, 200, { 0, 0, 1, 64, 8 } },
		{ "first 63", -EINVAL, 200, { 0, 0, 63, 64, 8 } },
		{ "63 pages", -EINVAL, 200, { 0, 0, 0, 63, 8 } },
		{ "32 pages", -EINVAL, 200, { 0, 0, 0, 32, 8 } },
		{ "96 pages", -EINVAL, 200, { 0, 0, 0, 96, 8 } },
		{ "65 pages", -EINVAL, 200, { 0, 0, 0, 65, 8 } },
		{ "199 of 200", -EINVAL, 200, { 0, 0, 0, 199, 8 } },
		{ "201 of 200", -EINVAL, 200, { 0, 0, 0, 201, 8 } },
		{ "256 of 200", -EINVAL, 200, { 0, 0, 0, 256, 8 } },
		{ "7 at the end", -EINVAL, 200, { 0, 0, 192, 7, 8 } },
		{ "9 at the end", -EINVAL, 200, { 0, 0, 192, 9, 8 } },
		{ "behind the end", -EINVAL, 200, { 0, 0, 256, 64, 8 } },
		{ "at the end", -EINVAL, 192, { 0, 0, 192, 64, 8 } },
		{ "first wraps", -EINVAL, 200, { 0, 0, -64ULL, 64, 8 } },
		{ "sum wraps", -EINVAL, 200, { 0, 0, -64ULL, 128, 8 } },
		{ "pages wraps", -EINVAL, 200, { 0, 0, 0, -64ULL, 8 } },
		{ "2^63 pages", -EINVAL, 200, { 0, 0, 0, 1ULL << 63, 8 } },
	};

	for (size_t i = 0; i < COUNT(table); i++)
		ck_assert_msg(check_dirty(&table[i].d, table[i].region_pages * PAGE) == table[i].want, "%s",
			      table[i].what);
}
END_TEST

/* ---- ranges ---- */

START_TEST(place)
{
	const struct gpa_range three[] = { { 0x1000, 0x1000 }, { 0x4000, 0x2000 }, { 0x8000, 0x1000 } };
	static const struct {
		__u64 gpa, size;
		int skip, want;
	} table[] = {
		{ 0, 0x1000, -1, 0 },	     { 0, 0x1001, -1, -EEXIST },     { 0x1000, 0x1000, -1, -EEXIST },
		{ 0x1000, 0x1000, 0, 0 },    { 0x2000, 0x2000, -1, 1 },	     { 0x2000, 0x3000, -1, -EEXIST },
		{ 0x1fff, 1, -1, -EEXIST },  { 0x2000, 1, -1, 1 },	     { 0x5000, 0x1000, -1, -EEXIST },
		{ 0x5000, 0x1000, 1, 2 },    { 0x6000, 0x2000, -1, 2 },	     { 0x6000, 0x2001, -1, -EEXIST },
		{ 0x7fff, 1, -1, 2 },	     { 0x8fff, 1, -1, -EEXIST },     { 0x9000, 0x1000, -1, 3 },
		{ 0, 0x10000, -1, -EEXIST }, { 0, 0x10000, 1, -EEXIST },     { 0x3000, 0x4000, 1, 1 },
		{ 0x4000, 0x4000, 1, 1 },    { 0x4000, 0x4001, 1, -EEXIST }, { 1ULL << 51, 1ULL << 40, -1, 3 },
	};

	for (size_t i = 0; i < COUNT(table); i++)
		ck_assert_msg(range_place(three, 3, table[i].skip, table[i].gpa, table[i].size) == table[i].want,
			      "row %zu: %d", i, range_place(three, 3, table[i].skip, table[i].gpa, table[i].size));
	ck_assert_int_eq(range_place(NULL, 0, -1, 0x5000, 0x1000), 0);
}
END_TEST

START_TEST(find)
{
	const struct gpa_range three[] = { { 0x1000, 0x1000 }, { 0x4000, 0x2000 }, { 0x6000, 0x1000 } };

	ck_assert_int_eq(range_find(NULL, 0, 0), -ENOENT);
	ck_assert_int_eq(range_find(three, 3, 0), -ENOENT);
	ck_assert_int_eq(range_find(three, 3, 0xfff), -ENOENT);
	ck_assert_int_eq(range_find(three, 3, 0x1000), 0);
	ck_assert_int_eq(range_find(three, 3, 0x1fff), 0);
	ck_assert_int_eq(range_find(three, 3, 0x2000), -ENOENT);
	ck_assert_int_eq(range_find(three, 3, 0x3fff), -ENOENT);
	ck_assert_int_eq(range_find(three, 3, 0x4000), 1);
	ck_assert_int_eq(range_find(three, 3, 0x5fff), 1);
	ck_assert_int_eq(range_find(three, 3, 0x6000), 2);
	ck_assert_int_eq(range_find(three, 3, 0x6fff), 2);
	ck_assert_int_eq(range_find(three, 3, 0x7000), -ENOENT);
	ck_assert_int_eq(range_find(three, 3, ~0ULL), -ENOENT);
	ck_assert_int_eq(range_find(three, 1, 0x4000), -ENOENT);
}
END_TEST

/* Sets built by range_place stay sorted and disjoint, and range_find says what a look at each page would. */
START_TEST(ranges_random)
{
	unsigned int seed = 5;

	for (int round = 0; round < 300; round++) {
		struct gpa_range ranges[32];
		int count = 0;

		for (int i = 0; i < 60 && count < 32; i++) {
			__u64 gpa = rand_r(&seed) % 256, size = 1 + rand_r(&seed) % 24;
			int at = range_place(ranges, count, -1, gpa * PAGE, size * PAGE), overlap = 0;

			for (int n = 0; n < count; n++)
				for (__u64 page = gpa; page < gpa + size; page++)
					overlap |= page * PAGE >= ranges[n].gpa &&
						   page * PAGE < ranges[n].gpa + ranges[n].size;
			ck_assert_int_eq(at == -EEXIST, overlap);
			if (at < 0)
				continue;
			memmove(ranges + at + 1, ranges + at, sizeof(*ranges) * (size_t)(count - at));
			ranges[at] = (struct gpa_range) { gpa * PAGE, size * PAGE };
			count++;
			for (int n = 1; n < count; n++)
				ck_assert(ranges[n - 1].gpa + ranges[n - 1].size <= ranges[n].gpa);
		}
		for (__u64 page = 0; page < 300; page++) {
			int want = -ENOENT;

			for (int n = 0; n < count; n++)
				if (page * PAGE >= ranges[n].gpa && page * PAGE < ranges[n].gpa + ranges[n].size)
					want = n;
			ck_assert_int_eq(range_find(ranges, count, page * PAGE + page % PAGE), want);
		}
	}
}
END_TEST

/* ---- the run area ---- */

static void good(struct umbra_run *run)
{
	memset(run, 0, sizeof(*run));
	run->cr0 = 0x80050033;
	run->cr4 = 0x620;
	run->efer = 0xd01;
	run->xcr0 = 1;
	run->msr.lstar = 0xffffffff81000000;
}

START_TEST(control)
{
	struct umbra_run *run = malloc(sizeof(*run));

	good(run);
	ck_assert_uint_eq(check_control(run), 0);
	for (int bit = 0; bit < 64; bit++) {
		__u64 *const masks[] = { &run->dirty, &run->want, &run->want_emul };
		__u32 want = bit < 8 ? 0 : UMBRA_BAD_CONTROL;

		for (int i = 0; i < 3; i++) {
			*masks[i] = 1ULL << bit;
			ck_assert_uint_eq(check_control(run), want);
			*masks[i] = UMBRA_STATE_ALL | 1ULL << bit;
			ck_assert_uint_eq(check_control(run), want);
			*masks[i] = 0;
		}
		for (int i = 0; i < 2; i++) {
			run->reserved[i] = 1ULL << bit;
			ck_assert_uint_eq(check_control(run), UMBRA_BAD_CONTROL);
			run->reserved[i] = 0;
		}
	}
	for (int bit = 0; bit < 32; bit++) {
		run->intercepts = 1u << bit;
		ck_assert_uint_eq(check_control(run), bit < 4 ? 0 : UMBRA_BAD_CONTROL);
		run->intercepts = 0;
		run->flags = 1u << bit;
		ck_assert_uint_eq(check_control(run), bit < 2 ? 0 : UMBRA_BAD_CONTROL);
		run->flags = 0;
		run->exceptions = 1u << bit; /* any */
		ck_assert_uint_eq(check_control(run), 0);
		run->exceptions = 0;
		run->tpr_threshold = 1u << bit;
		ck_assert_uint_eq(check_control(run), bit < 4 ? 0 : UMBRA_BAD_CONTROL);
		run->tpr_threshold = 0;
	}
	run->tpr_threshold = 15;
	ck_assert_uint_eq(check_control(run), 0);
	run->tpr_threshold = 16;
	ck_assert_uint_eq(check_control(run), UMBRA_BAD_CONTROL);
	run->tpr_threshold = 0;
	run->tsc_offset = run->deadline_tsc = ~0ULL; /* any */
	ck_assert_uint_eq(check_control(run), 0);
	free(run);
}
END_TEST

START_TEST(event)
{
	struct umbra_run *run = malloc(sizeof(*run));

	good(run);
	for (int flags = 0; flags < 256; flags++)
		for (int type = 0; type < 256; type++) {
			run->inject = (struct umbra_event) { 0x40, (__u8)type, (__u8)flags, 2, 0x12345678 };
			ck_assert_uint_eq(check_control(run), flags & ~3 || type > 6 ? UMBRA_BAD_EVENT : 0);
		}
	/* A control that is wrong is found too. */
	run->flags = 4;
	ck_assert_uint_eq(check_control(run), UMBRA_BAD_CONTROL);
	free(run);
}
END_TEST

/* Each bit by itself: refused if and only if a guest may not have it. */
START_TEST(control_registers)
{
	struct umbra_run *run = malloc(sizeof(*run));

	good(run);
	ck_assert_uint_eq(check_state(run, &limits), 0);
	for (int bit = 0; bit < 64; bit++) {
		__u64 one = 1ULL << bit;

		good(run);
		run->cr0 |= one;
		ck_assert_uint_eq(check_state(run, &limits), limits.cr0_may & one ? 0 : UMBRA_BAD_CR0);
		good(run);
		run->cr4 |= one;
		ck_assert_uint_eq(check_state(run, &limits), limits.cr4_may & one ? 0 : UMBRA_BAD_CR4);
		good(run);
		run->efer |= one;
		ck_assert_uint_eq(check_state(run, &limits), limits.efer_may & one ? 0 : UMBRA_BAD_EFER);
		good(run);
		run->cr3 = run->dr7 = run->dr[0] = run->pdpte[0] = run->rip = run->rflags =
			one; /* the CPU's to check */
		ck_assert_uint_eq(check_state(run, &limits), 0);
	}
	good(run);
	run->cr0 = limits.cr0_may;
	run->cr4 = limits.cr4_may;
	run->efer = limits.efer_may;
	ck_assert_uint_eq(check_state(run, &limits), 0);
	run->cr0 = run->cr4 = run->efer = 0;
	ck_assert_uint_eq(check_state(run, &limits), 0);
	free(run);
}
END_TEST

/* All 2^8 values of the bits that matter, by a definition that is written differently. (SDM 1 13.3) */
START_TEST(xcr0)
{
	static const __u64 offered[] = { 0xe7, 0x07, 0x03, 0x01, 0 };
	struct umbra_run *run = malloc(sizeof(*run));
	struct limits l = limits;

	good(run);
	for (size_t n = 0; n < COUNT(offered); n++) {
		l.xcr0_may = offered[n];
		for (__u64 value = 0; value < 256; value++) {
			bool x87 = value & 1, sse = value & 2, avx = value & 4;
			int avx512 = !!(value & 0x20) + !!(value & 0x40) + !!(value & 0x80);
			bool ok = x87 && (!avx || sse) && (avx512 == 0 || (avx512 == 3 && avx)) &&
				  (value | offered[n]) == offered[n];

			if (!offered[n])
				ok = value == 0;
			run->xcr0 = value;
			ck_assert_msg(check_state(run, &l) == (ok ? 0 : UMBRA_BAD_XCR0), "%llx of %llx",
				      (unsigned long long)value, (unsigned long long)offered[n]);
		}
		for (int bit = 8; bit < 64; bit++) {
			run->xcr0 = (offered[n] ? 1 : 0) | 1ULL << bit;
			ck_assert_uint_eq(check_state(run, &l), UMBRA_BAD_XCR0);
		}
	}
	free(run);
}
END_TEST

START_TEST(msrs)
{
	static const struct {
		__u64 address;
		bool canonical;
	} edges[] = {
		{ 0, true },
		{ 1, true },
		{ 0x7fffffffffff, true },
		{ 0x800000000000, false },
		{ 0x800000000001, false },
		{ 0xffff7fffffffffff, false },
		{ 0xffff800000000000, true },
		{ ~0ULL, true },
		{ 1ULL << 63, false },
		{ 0x0001000000000000, false },
		{ 0xfffe800000000000, false },
		{ 0x7fff800000000000, false },
	};
	struct umbra_run *run = malloc(sizeof(*run));

	for (size_t i = 0; i < COUNT(edges); i++) {
		__u32 want = edges[i].canonical ? 0 : UMBRA_BAD_MSR;

		good(run);
		run->msr.lstar = edges[i].address;
		ck_assert_uint_eq(check_state(run, &limits), want);
		good(run);
		run->msr.cstar = edges[i].address;
		ck_assert_uint_eq(check_state(run, &limits), want);
		good(run); /* no address that the host could trip over */
		run->msr.star = run->msr.sysenter_esp = run->msr.sysenter_eip = run->msr.pat = edges[i].address;
		ck_assert_uint_eq(check_state(run, &limits), 0);
	}
	for (int bit = 0; bit < 64; bit++) {
		good(run);
		run->msr.fmask = 1ULL << bit;
		ck_assert_uint_eq(check_state(run, &limits), bit < 32 ? 0 : UMBRA_BAD_MSR);
		good(run);
		run->msr.tsc_aux = 1ULL << bit;
		ck_assert_uint_eq(check_state(run, &limits), bit < 32 ? 0 : UMBRA_BAD_MSR);
	}
	good(run);
	run->msr.fmask = run->msr.tsc_aux = 0xffffffff;
	ck_assert_uint_eq(check_state(run, &limits), 0);
	free(run);
}
END_TEST

START_TEST(reserved)
{
	struct umbra_run *run = malloc(sizeof(*run));

	for (int bit = 0; bit < 32; bit++) {
		__u32 *const fields[] = { &run->reserved2, &run->gdtr.reserved, &run->idtr.reserved };

		for (int i = 0; i < 3; i++) {
			good(run);
			*fields[i] = 1u << bit;
			ck_assert_uint_eq(check_state(run, &limits), UMBRA_BAD_CONTROL);
		}
	}
	/* Nothing of the exit part is looked at. */
	good(run);
	memset(&run->exit, 0xff, sizeof(run->exit));
	ck_assert_uint_eq(check_control(run), 0);
	ck_assert_uint_eq(check_state(run, &limits), 0);
	free(run);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shim check");
	TCase *tests = tcase_create("check");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tests);
	tcase_add_test(tests, control_bits);
	tcase_add_test(tests, create);
	tcase_add_test(tests, region);
	tcase_add_test(tests, dirty);
	tcase_add_test(tests, place);
	tcase_add_test(tests, find);
	tcase_add_test(tests, ranges_random);
	tcase_add_test(tests, control);
	tcase_add_test(tests, event);
	tcase_add_test(tests, control_registers);
	tcase_add_test(tests, xcr0);
	tcase_add_test(tests, msrs);
	tcase_add_test(tests, reserved);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
