// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The shim's checks: a table of regions as shim/mem.c keeps it, beside a plain list; and the run area's checks against
 * what the host's registers could take. 128-bit sums show what a check has let wrap.
 */
#include "check.h"
#include "input.h"

typedef unsigned __int128 u128;

#define CR4_NEVER (1ULL << 12 | 1ULL << 13 | 1ULL << 14 | 1ULL << 22 | 1ULL << 23)

static const struct limits hosts[] = {
	{ 0xe005003f, 0x3727ff & ~CR4_NEVER, 0xd01, 7, 0x7ffffffff000, 46 },
	{ 0xe005003f, 0x3727ff & ~CR4_NEVER & ~(1ULL << 18), 0xd01, 0, 0x7ffffffff000, 36 },
	{ 0xe005003f, 0x3727ff & ~CR4_NEVER, 0xd01, 0xe7, 0xfffffffffff000, 40 },
};

/* The table as the shim keeps it, and the same as a list by slot. */
static struct gpa_range range[UMBRA_MAX_REGIONS];
static int slot_at[UMBRA_MAX_REGIONS];
static struct umbra_region list[UMBRA_MAX_REGIONS]; /* size 0: empty */
static int ranges;

static bool meet(u128 a, u128 a_size, u128 b, u128 b_size)
{
	return a < b + b_size && b < a + a_size;
}

static void region_holds(const struct umbra_region *r, const struct limits *limits)
{
	fuzz_assert(r->slot < UMBRA_MAX_REGIONS && !r->reserved && !(r->flags & ~7ULL));
	if (!r->size)
		return;
	fuzz_assert(!(r->gpa % UMBRA_PAGE_SIZE) && !(r->addr % UMBRA_PAGE_SIZE) && !(r->size % UMBRA_PAGE_SIZE));
	fuzz_assert((u128)r->gpa + r->size <= (u128)1 << limits->gpa_bits);
	fuzz_assert((u128)r->addr + r->size <= limits->user_end);
	fuzz_assert(r->size <= UMBRA_MAX_REGION_SIZE);
}

static int find_slot(uint32_t slot)
{
	for (int i = 0; i < ranges; i++)
		if (slot_at[i] == (int)slot)
			return i;
	return -1;
}

static void take_out(int at)
{
	memmove(&range[at], &range[at + 1], (size_t)(ranges - at - 1) * sizeof(range[0]));
	memmove(&slot_at[at], &slot_at[at + 1], (size_t)(ranges - at - 1) * sizeof(slot_at[0]));
	ranges--;
}

static void region_set(const struct umbra_region *r)
{
	int old = find_slot(r->slot), at;
	bool overlaps = false;

	if (!r->size) {
		if (old >= 0)
			take_out(old);
		list[r->slot].size = 0;
		return;
	}
	for (uint32_t i = 0; i < UMBRA_MAX_REGIONS; i++)
		if (i != r->slot && list[i].size && meet(list[i].gpa, list[i].size, r->gpa, r->size))
			overlaps = true;
	at = range_place(range, ranges, old, r->gpa, r->size);
	fuzz_assert(overlaps ? at == -EEXIST : at >= 0 && at <= ranges);
	if (overlaps)
		return;
	if (old >= 0) {
		take_out(old);
		at -= old < at;
	}
	memmove(&range[at + 1], &range[at], (size_t)(ranges - at) * sizeof(range[0]));
	memmove(&slot_at[at + 1], &slot_at[at], (size_t)(ranges - at) * sizeof(slot_at[0]));
	range[at] = (struct gpa_range) { r->gpa, r->size };
	slot_at[at] = (int)r->slot;
	ranges++;
	list[r->slot] = *r;
	for (int i = 1; i < ranges; i++)
		fuzz_assert((u128)range[i - 1].gpa + range[i - 1].size <= range[i].gpa);
}

static void find(uint64_t gpa)
{
	int at = range_find(range, ranges, gpa), want = -ENOENT;

	for (int i = 0; i < ranges; i++)
		if (gpa >= range[i].gpa && gpa < (u128)range[i].gpa + range[i].size)
			want = i;
	fuzz_assert(at == want);
}

static uint64_t paged(struct input *in)
{
	uint64_t value = input_number(in);

	return input_u8(in) & 7 ? value & ~(UMBRA_PAGE_SIZE - 1ULL) : value;
}

static void fuzz_region(struct input *in, const struct limits *limits)
{
	struct umbra_region r = { .slot = input_pick(in, 520) };
	uint8_t odd = input_u8(in);

	r.flags = odd & 7;
	if (odd & 0x80)
		r.flags = input_number(in);
	if (odd & 0x40)
		r.reserved = input_u32(in);
	r.size = paged(in);
	r.gpa = paged(in);
	r.addr = paged(in);
	if (check_region(&r, limits))
		return;
	region_holds(&r, limits);
	region_set(&r);
	find(r.gpa);
	find(r.gpa + r.size);
	find(r.gpa - 1);
}

static void fuzz_dirty(struct input *in)
{
	struct umbra_dirty d = { .first_page = input_number(in),
				 .pages = input_number(in),
				 .bitmap = input_number(in) };
	uint64_t size = input_number(in) & ~(UMBRA_PAGE_SIZE - 1ULL), pages;

	if (input_u8(in) & 1)
		d.reserved = input_u32(in);
	size = size > UMBRA_MAX_REGION_SIZE ? UMBRA_MAX_REGION_SIZE : size;
	pages = size / UMBRA_PAGE_SIZE;
	if (check_dirty(&d, size))
		return;
	/* The kernel's bitmap has whole words of 64 pages. */
	fuzz_assert(!d.reserved && d.pages && d.pages <= 1 << 20 && !(d.bitmap & 7));
	fuzz_assert((u128)d.first_page + d.pages <= pages && !(d.first_page % 64));
	fuzz_assert((u128)d.first_page / 64 + (d.pages + 63) / 64 <= (pages + 63) / 64);
	fuzz_assert(!(d.pages % 64) || d.first_page + d.pages == pages);
}

static bool canonical(uint64_t address)
{
	return address >> 47 == 0 || address >> 47 == 0x1ffff;
}

static void state_holds(const struct umbra_run *run, const struct limits *limits)
{
	uint64_t xcr0 = run->xcr0;

	fuzz_assert(!(run->cr0 & ~limits->cr0_may) && !(run->cr4 & ~limits->cr4_may) &&
		    !(run->efer & ~limits->efer_may));
	fuzz_assert(!(run->cr4 & CR4_NEVER));
	/* What XSETBV takes without #GP. (SDM 1 13.3) */
	fuzz_assert(limits->xcr0_may ? xcr0 & 1 && !(xcr0 & ~limits->xcr0_may) : !xcr0);
	fuzz_assert(!(xcr0 & 4) || xcr0 & 2);
	fuzz_assert(!(xcr0 & 0xe0) || (xcr0 & 0xe4) == 0xe4);
	fuzz_assert(canonical(run->msr.lstar) && canonical(run->msr.cstar));
	fuzz_assert(run->msr.fmask <= 0xffffffff && run->msr.tsc_aux <= 0xffffffff);
}

static void fuzz_run(struct input *in, const struct limits *limits)
{
	static struct umbra_run run;
	uint8_t *bytes = (uint8_t *)&run;

	memset(&run, 0, sizeof(run));
	run.cr0 = input_number(in) & limits->cr0_may;
	run.xcr0 = limits->xcr0_may & (input_u8(in) | 1);
	run.cr4 = input_number(in);
	run.efer = input_number(in);
	run.msr.lstar = input_number(in);
	run.msr.cstar = input_number(in);
	/* One of the control fields, near its limit. */
	switch (input_u8(in) & 7) {
	case 0:
		run.tpr_threshold = input_u8(in) & 31;
		break;
	case 1:
		run.intercepts = input_u8(in) & 31;
		break;
	case 2:
		run.flags = input_u8(in) & 7;
		break;
	case 3:
		run.want = input_u16(in) & 0x1ff;
		break;
	case 4:
		run.inject.type = input_u8(in) & 15;
		run.inject.flags = input_u8(in) & 7;
	}
	for (uint8_t n = input_u8(in) & 15; n; n--)
		bytes[input_pick(in, sizeof(run))] = input_u8(in);
	if (!check_control(&run)) {
		fuzz_assert(!((run.dirty | run.want | run.want_emul) >> 8) && !(run.intercepts >> 4) &&
			    !(run.flags >> 2));
		fuzz_assert(run.tpr_threshold <= 15 && !run.reserved[0] && !run.reserved[1]);
		fuzz_assert(run.inject.type <= UMBRA_EVENT_SOFT_EXC && !(run.inject.flags >> 2));
	}
	if (!check_state(&run, limits))
		state_holds(&run, limits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	const struct limits *limits = &hosts[input_pick(&in, 3)];
	struct umbra_create_vm create;

	memset(list, 0, sizeof(list));
	ranges = 0;
	while (input_more(&in)) {
		switch (input_u8(&in) & 7) {
		case 0:
			fuzz_dirty(&in);
			break;
		case 1:
			fuzz_run(&in, limits);
			break;
		case 2:
			find(input_number(&in));
			break;
		case 3:
			input_bytes(&in, &create, sizeof(create));
			fuzz_assert(!check_create(create.flags, create.reserved) ==
				    !(create.flags | create.reserved[0] | create.reserved[1] | create.reserved[2]));
			break;
		default:
			fuzz_region(&in, limits);
		}
	}
	return 0;
}
