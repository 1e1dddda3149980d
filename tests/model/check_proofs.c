// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Proofs about shim/check.c: each function accepts exactly what its specification here says, for every input. The
 * specifications are written another way than the code: sums in 128 bits, sets as tables.
 */
#include "check.c"

#include "model.h"

typedef unsigned __int128 wide;

/*
 * PROOF constrain: all of `must` is set and nothing outside `may`; what is wanted and may be is there
 * BOUNDS: none: all 2^96 inputs
 * CBMC: --conversion-check
 * MUTATION check.h: s/return \(want \| must\) & may/return want | (must \& may)/
 */
void constrain_proof(void)
{
	__u32 want = nondet_u32(), must = nondet_u32(), may = nondet_u32(), got;

	ASSUME(!(must & ~may)); /* how the CPU reports it (SDM 3D A.3) */
	got = constrain(want, must, may);
	PROVE(!(must & ~got), "mandatory bits are set");
	PROVE(!(got & ~may), "forbidden bits are clear");
	PROVE((got & may & ~must) == (want & may & ~must), "the others are as wanted");
}

/*
 * PROOF create: accepted exactly when every field is zero
 * BOUNDS: none
 * CBMC:
 * MUTATION check.c: s/ \| reserved\[2\] \? -EINVAL/ ? -EINVAL/
 */
void create_proof(void)
{
	__u64 flags = nondet_u64(), reserved[3] = { nondet_u64(), nondet_u64(), nondet_u64() };
	int r = check_create(flags, reserved);

	PROVE(r == 0 || r == -EINVAL, "an errno of the ABI");
	PROVE((r == 0) == (!flags && !reserved[0] && !reserved[1] && !reserved[2]), "zero or refused");
}

static bool region_spec(const struct umbra_region *r, const struct limits *limits)
{
	bool known = r->slot < 512 && !r->reserved && r->flags <= 7;

	if (r->size == 0)
		return known && !r->flags && !r->gpa && !r->addr;
	return known && r->gpa % 4096 == 0 && r->addr % 4096 == 0 && r->size % 4096 == 0 && r->size <= (1ULL << 40) &&
	       (wide)r->gpa + r->size <= (wide)1 << limits->gpa_bits && (wide)r->addr + r->size <= limits->user_end;
}

/*
 * PROOF region: accepted exactly when it is a removal, or whole pages below gpa_bits and in user space, wrapping nowhere
 * BOUNDS: gpa_bits <= 46, as limits_init() sees to; all else free
 * CBMC:
 * MUTATION check.c: s/size <= end && base <= end - size/base + size <= end/
 * MUTATION check.c: s/\(region->gpa \| region->addr \| region->size\) & PAGE_MASK_LOW/(region->gpa | region->size) \& PAGE_MASK_LOW/
 * MUTATION check.c: s/!range_ok\(region->addr, region->size, limits->user_end\)/region->addr >= limits->user_end/
 */
void region_proof(void)
{
	struct umbra_region region = nondet_region();
	struct limits limits = nondet_limits();
	int r;

	ASSUME(limits.gpa_bits <= 46);
	r = check_region(&region, &limits);
	PROVE(r == 0 || r == -EINVAL, "an errno of the ABI");
	PROVE((r == 0) == region_spec(&region, &limits), "accepted exactly by the specification");
	if (!r && region.size) {
		PROVE(region.gpa + region.size > region.gpa && region.addr + region.size > region.addr,
		      "nothing wraps");
		PROVE(region.addr + region.size - 1 < limits.user_end, "no address of the kernel");
		PROVE((region.gpa + region.size - 1) >> limits.gpa_bits == 0, "no address past the tables");
	}
}

/*
 * PROOF dirty: an accepted range lies in the region and its words in the bitmap; its last word holds no other page's bit
 * BOUNDS: region size: any that check_region() accepts, or 0
 * CBMC: --conversion-check
 * MUTATION check.c: s/dirty->first_page & 63 \|\|/0 ||/
 * MUTATION check.c: s/dirty->pages & 63 &&/0 \&\&/
 * MUTATION check.c: s/!range_ok\(dirty->first_page, dirty->pages, pages\)/dirty->first_page + dirty->pages > pages/
 */
void dirty_proof(void)
{
	struct umbra_dirty dirty = nondet_dirty();
	__u64 size = nondet_u64(), pages = size / 4096, other = nondet_u64(), words;
	int r;

	ASSUME(size % 4096 == 0 && size <= UMBRA_MAX_REGION_SIZE);
	r = check_dirty(&dirty, size);
	PROVE(r == 0 || r == -EINVAL, "an errno of the ABI");
	if (r) {
		PROVE(dirty.reserved || dirty.bitmap % 8 || dirty.first_page % 64 || dirty.pages > 1 << 20 ||
			      !dirty.pages || (wide)dirty.first_page + dirty.pages > pages ||
			      (dirty.pages % 64 && dirty.first_page + dirty.pages != pages),
		      "refused for a reason of the ABI");
		return;
	}
	words = (dirty.pages + 63) / 64; /* what vm_get_dirty() copies and clears */
	PROVE(dirty.pages && (wide)dirty.first_page + dirty.pages <= pages, "inside the region");
	PROVE(dirty.first_page / 64 + words <= (pages + 63) / 64, "inside the bitmap");
	PROVE(dirty.pages <= 1 << 20 && dirty.bitmap % 8 == 0 && !dirty.reserved, "bounded and aligned");
	ASSUME(other < pages && (other < dirty.first_page || other >= dirty.first_page + dirty.pages));
	PROVE(other / 64 < dirty.first_page / 64 || other / 64 >= dirty.first_page / 64 + words, "no other page's bit");
}

#ifndef LIMIT
#define LIMIT 1
#endif
static struct gpa_range ranges[LIMIT];

/*
 * A table as the shim keeps it, sorted, apart, below 2^46; but that is only assumed of each range towards one, the witness,
 * which can be any. Assuming less proves more, and it is all that the proofs need.
 */
static int ranges_any(int witness)
{
	int i, count = nondet_int();

	ASSUME(count >= 0 && count <= LIMIT && witness >= 0 && witness < count);
	for (i = 0; i < LIMIT; i++) {
		ranges[i].gpa = nondet_u64();
		ranges[i].size = nondet_u64();
		ASSUME(ranges[i].size && ranges[i].gpa < 1ULL << 46 && ranges[i].size <= 1ULL << 40);
	}
	for (i = 0; i < LIMIT; i++) {
		ASSUME(i >= witness || ranges[i].gpa + ranges[i].size <= ranges[witness].gpa);
		ASSUME(i <= witness || i >= count || ranges[i].gpa >= ranges[witness].gpa + ranges[witness].size);
	}
	return count;
}

static bool overlap(const struct gpa_range *a, __u64 gpa, __u64 size)
{
	return a->gpa < gpa + size && gpa < a->gpa + a->size;
}

/*
 * PROOF place: refused exactly when another range than skip overlaps; else inserting there keeps the table sorted and apart
 * BOUNDS: tables of 1 to 8 ranges
 * CBMC: -DLIMIT=8 --unwind 9 --conversion-check
 * MUTATION check.c: s/ranges\[i\]\.gpa < gpa \+ size && gpa < /ranges[i].gpa < gpa + size \&\& gpa + size <= /
 * MUTATION check.c: s/at = i \+ 1/at = i/
 */
void place_proof(void)
{
	int witness = nondet_int(), count = ranges_any(witness), skip = nondet_int(), r;
	__u64 gpa = nondet_u64(), size = nondet_u64();
	bool some = false;

	ASSUME(size && size <= 1ULL << 40 && gpa < 1ULL << 46); /* check_region() */
	r = range_place(ranges, count, skip, gpa, size);
	PROVE(r == -EEXIST || (r >= 0 && r <= count), "a place in the table, or the errno");
	if (r >= 0) {
		PROVE(witness == skip || !overlap(&ranges[witness], gpa, size), "no other range overlaps");
		PROVE((witness < r) == (ranges[witness].gpa < gpa), "sorted after insertion");
		return;
	}
	for (int i = 0; i < LIMIT; i++)
		some |= i < count && i != skip && overlap(&ranges[i], gpa, size);
	PROVE(some, "refused for an overlap");
}

/*
 * PROOF find: the index of the range that holds the address, -ENOENT exactly where none does; in four steps at most
 * BOUNDS: tables of 1 to 8 ranges
 * CBMC: -DLIMIT=8 --unwind 9 --unwindset range_find.0:5
 * MUTATION check.c: s/>= ranges\[mid\]\.size/> ranges[mid].size/
 * MUTATION check.c: s/low = mid \+ 1/low = mid + 2/
 */
void find_proof(void)
{
	int witness = nondet_int(), count = ranges_any(witness), r;
	__u64 gpa = nondet_u64();

	r = range_find(ranges, count, gpa);
	PROVE(r == -ENOENT || (r >= 0 && r < count), "an index of the table, or the errno");
	if (r >= 0)
		PROVE(gpa >= ranges[r].gpa && gpa - ranges[r].gpa < ranges[r].size, "the range holds it");
	else
		PROVE(gpa < ranges[witness].gpa || gpa - ranges[witness].gpa >= ranges[witness].size,
		      "no range holds it");
}

/*
 * PROOF control: no unknown bit, reserved field, event type or flag passes
 * BOUNDS: none
 * CBMC:
 * MUTATION check.c: s/in->dirty \| in->want \| in->want_emul/in->dirty | in->want/
 * MUTATION check.c: s/in->inject\.type > UMBRA_EVENT_SOFT_EXC/in->inject.type > 7/
 */
void control_proof(void)
{
	struct umbra_run in = nondet_run();
	__u32 rule = check_control(&in);
	bool fields = in.dirty < 256 && in.want < 256 && in.want_emul < 256 && in.intercepts < 16 && in.flags < 4 &&
		      in.tpr_threshold < 16 && !in.reserved[0] && !in.reserved[1];
	bool event = in.inject.flags < 4 && in.inject.type < 7;

	PROVE(rule == (fields ? event ? 0 : UMBRA_BAD_EVENT : UMBRA_BAD_CONTROL), "accepted exactly by the ABI");
}

/* XSETBV faults on all others, of the bits up to AVX-512 and without MPX. (SDM 1 13.3) */
static bool xsetbv_takes(__u64 xcr0, __u64 host)
{
	static const __u8 valid[] = { 1, 3, 7, 0xe7 }; /* x87; SSE; AVX; AVX-512 */
	bool ok = false;

	for (int i = 0; i < 4; i++)
		ok |= xcr0 == valid[i];
	return ok && !(xcr0 & ~host);
}

static bool canonical(__u64 address)
{
	return address < 1ULL << 47 || address >= -(1ULL << 47);
}

/*
 * PROOF state: what passes has control registers within the masks, an XCR0 that XSETBV takes, MSRs that WRMSR takes
 * BOUNDS: limits as limits_init() makes them: xcr0_may is what the host has of x87, SSE, AVX, AVX-512; 0 without OSXSAVE
 * CBMC: --unwind 5
 * MUTATION check.c: s/\(xcr0 & 6\) != 4/1/
 * MUTATION check.c: s/avx512 == 0xe0 && xcr0 & 4/avx512 == 0xe0/
 * MUTATION check.c: s/<< 16\) >> 16/<< 15) >> 15/
 * MUTATION check.c: s/in->cr4 & ~limits->cr4_may/0/
 */
void state_proof(void)
{
	struct umbra_run in = nondet_run();
	struct limits limits = nondet_limits();
	__u64 host = nondet_u64();
	__u32 rule;

	if (nondet_bool()) {
		ASSUME((host & 1) && xsetbv_takes(host & 0xe7, host & 0xe7));
		limits.xcr0_may = host & 0xe7;
	} else {
		limits.xcr0_may = 0;
		ASSUME(!(limits.cr4_may & (1 << 18))); /* OSXSAVE */
	}
	rule = check_state(&in, &limits);
	if (rule) {
		PROVE(rule >= UMBRA_BAD_CONTROL && rule <= UMBRA_BAD_MSR && rule != UMBRA_BAD_EVENT,
		      "a rule of the ABI");
		return;
	}
	PROVE(!(in.cr0 & ~limits.cr0_may) && !(in.cr4 & ~limits.cr4_may) && !(in.efer & ~limits.efer_may),
	      "only bits a guest may have");
	PROVE(!(in.cr4 & (1 << 18)) || xsetbv_takes(in.xcr0, host), "XSETBV takes it");
	PROVE(limits.xcr0_may || !in.xcr0, "no XCR0 without XSAVE");
	PROVE(canonical(in.msr.lstar) && canonical(in.msr.cstar), "WRMSR takes the entry points");
	PROVE(in.msr.fmask < 1ULL << 32 && in.msr.tsc_aux < 1ULL << 32, "and the 32-bit MSRs");
	PROVE(!in.reserved2 && !in.gdtr.reserved && !in.idtr.reserved, "reserved fields are zero");
}
