// SPDX-License-Identifier: GPL-2.0-only
#include "check.h"

#define PAGE_MASK_LOW (UMBRA_PAGE_SIZE - 1ULL)

/* Addresses of 48 bits: five-level paging is not offered. */
static bool is_canonical(__u64 address)
{
	return (__u64)((__s64)(address << 16) >> 16) == address;
}

/* size bytes from base end at or before end; no sum that could wrap is formed. */
static bool range_ok(__u64 base, __u64 size, __u64 end)
{
	return size && size <= end && base <= end - size;
}

int check_create(__u64 flags, const __u64 reserved[3])
{
	return flags | reserved[0] | reserved[1] | reserved[2] ? -EINVAL : 0;
}

/* Attack: a region that wraps, or that names kernel addresses or guest-physical ones past the tables. (S6) */
int check_region(const struct umbra_region *region, const struct limits *limits)
{
	if (region->slot >= UMBRA_MAX_REGIONS || region->reserved)
		return -EINVAL;
	if (region->flags & ~(UMBRA_REGION_READONLY | UMBRA_REGION_LOG_DIRTY | UMBRA_REGION_ANNOUNCE))
		return -EINVAL;
	if (!region->size)
		return region->flags | region->gpa | region->addr ? -EINVAL : 0;
	if ((region->gpa | region->addr | region->size) & PAGE_MASK_LOW)
		return -EINVAL;
	if (region->size > UMBRA_MAX_REGION_SIZE || !range_ok(region->gpa, region->size, 1ULL << limits->gpa_bits) ||
	    !range_ok(region->addr, region->size, limits->user_end))
		return -EINVAL;
	return 0;
}

/* Attack: bits past the end of the kernel's bitmap. */
int check_dirty(const struct umbra_dirty *dirty, __u64 region_size)
{
	__u64 pages = region_size / UMBRA_PAGE_SIZE;

	if (dirty->reserved || dirty->bitmap & 7 || dirty->first_page & 63 || dirty->pages > 1 << 20)
		return -EINVAL;
	if (!range_ok(dirty->first_page, dirty->pages, pages))
		return -EINVAL;
	if (dirty->pages & 63 && dirty->first_page + dirty->pages != pages)
		return -EINVAL;
	return 0;
}

int range_place(const struct gpa_range *ranges, int count, int skip, __u64 gpa, __u64 size)
{
	int i, at = 0;

	for (i = 0; i < count; i++) {
		if (ranges[i].gpa < gpa)
			at = i + 1;
		if (i != skip && ranges[i].gpa < gpa + size && gpa < ranges[i].gpa + ranges[i].size)
			return -EEXIST;
	}
	return at;
}

int range_find(const struct gpa_range *ranges, int count, __u64 gpa)
{
	int low = 0, high = count;

	while (low < high) {
		int mid = low + (high - low) / 2;

		if (gpa < ranges[mid].gpa)
			high = mid;
		else if (gpa - ranges[mid].gpa >= ranges[mid].size)
			low = mid + 1;
		else
			return mid;
	}
	return -ENOENT;
}

/* Attack: an unknown bit that reaches a control field. (S1) */
__u32 check_control(const struct umbra_run *in)
{
	if ((in->dirty | in->want | in->want_emul) & ~UMBRA_STATE_ALL || in->intercepts & ~UMBRA_ICPT_ALL ||
	    in->flags & ~(UMBRA_RUN_FLUSH_TLB | UMBRA_RUN_NO_ENTRY) || in->reserved[0] | in->reserved[1] ||
	    in->tpr_threshold > 15)
		return UMBRA_BAD_CONTROL;
	return in->inject.flags & ~(UMBRA_EVENT_VALID | UMBRA_EVENT_ERROR_CODE) ||
			       in->inject.type > UMBRA_EVENT_SOFT_EXC
		       ? UMBRA_BAD_EVENT
		       : 0;
}

/* Attack: an XSETBV that faults in the host. (S4; SDM 1 13.3) */
static bool xcr0_ok(__u64 xcr0, __u64 may)
{
	__u64 avx512 = xcr0 & 0xe0;

	if (!may)
		return !xcr0;
	return !(xcr0 & ~may) && xcr0 & 1 && (xcr0 & 6) != 4 && (!avx512 || (avx512 == 0xe0 && xcr0 & 4));
}

/*
 * Attacks: control-register bits that switch on what the shim does not manage (VMXE, SMXE, PKE, CET, LA57); a WRMSR that
 * faults in the host, or an address that SYSRET would fault on there. (S4; CVE-2014-3610)
 */
__u32 check_state(const struct umbra_run *in, const struct limits *limits)
{
	if (in->cr0 & ~limits->cr0_may)
		return UMBRA_BAD_CR0;
	if (in->cr4 & ~limits->cr4_may)
		return UMBRA_BAD_CR4;
	if (in->efer & ~limits->efer_may)
		return UMBRA_BAD_EFER;
	if (!xcr0_ok(in->xcr0, limits->xcr0_may))
		return UMBRA_BAD_XCR0;
	if (!is_canonical(in->msr.lstar) || !is_canonical(in->msr.cstar) || (in->msr.fmask | in->msr.tsc_aux) >> 32)
		return UMBRA_BAD_MSR;
	return in->reserved2 | in->gdtr.reserved | in->idtr.reserved ? UMBRA_BAD_CONTROL : 0;
}
