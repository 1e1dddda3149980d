// SPDX-License-Identifier: GPL-2.0-only
#include "check.h"

#include <asm/processor-flags.h>

#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)
#define PAGE_MASK_LOW (UMBRA_PAGE_SIZE - 1ULL)

static bool is_canonical(__u64 address, __u32 bits)
{
	__u64 top = address >> (bits - 1);

	return !top || top == ~0ULL >> (bits - 1);
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
	if (region->flags & ~(UMBRA_REGION_READONLY | UMBRA_REGION_LOG_DIRTY))
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
	if ((in->dirty | in->want | in->want_emul) & ~UMBRA_STATE_ALL)
		return UMBRA_BAD_DIRTY;
	if (in->intercepts & ~UMBRA_ICPT_ALL || in->flags & ~(UMBRA_RUN_FLUSH_TLB | UMBRA_RUN_NO_ENTRY))
		return UMBRA_BAD_DIRTY;
	if (in->reserved[0] | in->reserved[1])
		return UMBRA_BAD_DIRTY;
	if (in->tpr_threshold > 15)
		return UMBRA_BAD_TPR;
	return 0;
}

/* Attack: an event of a type or vector that only the hardware may make. (SDM 3C 27.2.1.3) */
__u32 check_event(const struct umbra_event *event)
{
	bool soft = event->type >= UMBRA_EVENT_SOFT_INT && event->type <= UMBRA_EVENT_SOFT_EXC;

	if (event->flags & ~(UMBRA_EVENT_VALID | UMBRA_EVENT_ERROR_CODE))
		return UMBRA_BAD_EVENT;
	if (!(event->flags & UMBRA_EVENT_VALID))
		return 0;
	if (event->flags & UMBRA_EVENT_ERROR_CODE && event->type != UMBRA_EVENT_EXC)
		return UMBRA_BAD_EVENT;
	if (soft && (event->insn_len < 1 || event->insn_len > 15))
		return UMBRA_BAD_EVENT;
	switch (event->type) {
	case UMBRA_EVENT_INTR:
	case UMBRA_EVENT_SOFT_INT:
		return 0;
	case UMBRA_EVENT_NMI:
		return event->vector == 2 ? 0 : UMBRA_BAD_EVENT;
	case UMBRA_EVENT_EXC:
		return event->vector < 32 && event->vector != 2 ? 0 : UMBRA_BAD_EVENT;
	case UMBRA_EVENT_ICEBP:
		return event->vector == 1 ? 0 : UMBRA_BAD_EVENT;
	case UMBRA_EVENT_SOFT_EXC:
		return event->vector == 3 || event->vector == 4 ? 0 : UMBRA_BAD_EVENT;
	default:
		return UMBRA_BAD_EVENT;
	}
}

/* Attack: control-register bits that switch on what the shim does not manage (VMXE, SMXE, PKE, CET, LA57),
 * or an XCR0 that makes XSETBV fault in the host (CVE-2014-3610's class). (S4; SDM 1 13.3) */
static __u32 check_cr(const struct umbra_run *in, const struct limits *limits)
{
	__u64 avx512 = in->xcr0 & 0xe0;

	if (in->cr0 & ~limits->cr0_may || (in->cr0 & X86_CR0_PG && !(in->cr0 & X86_CR0_PE)))
		return UMBRA_BAD_CR0;
	if (in->cr3 >> limits->gpa_bits)
		return UMBRA_BAD_CR3;
	if (in->cr4 & ~limits->cr4_may)
		return UMBRA_BAD_CR4;
	if (in->efer & ~limits->efer_may)
		return UMBRA_BAD_EFER;
	if (!(in->efer & EFER_LMA) != !(in->efer & EFER_LME && in->cr0 & X86_CR0_PG))
		return UMBRA_BAD_EFER;
	if (in->efer & EFER_LMA && !(in->cr4 & X86_CR4_PAE))
		return UMBRA_BAD_CR4;
	if (!limits->xcr0_may)
		return in->xcr0 ? UMBRA_BAD_XCR0 : 0;
	if (in->xcr0 & ~limits->xcr0_may || !(in->xcr0 & 1) || (in->xcr0 & 6) == 4 ||
	    (avx512 && (avx512 != 0xe0 || !(in->xcr0 & 4))))
		return UMBRA_BAD_XCR0;
	return 0;
}

/* Attack: a WRMSR in the host that faults, or an address that SYSRET or SYSENTER would fault on. (S4, CVE-2014-3610) */
static __u32 check_msr(const struct umbra_msrs *msr, const struct limits *limits)
{
	int i;

	if (!is_canonical(msr->lstar, limits->vaddr_bits) || !is_canonical(msr->cstar, limits->vaddr_bits) ||
	    !is_canonical(msr->sysenter_esp, limits->vaddr_bits) ||
	    !is_canonical(msr->sysenter_eip, limits->vaddr_bits))
		return UMBRA_BAD_MSR;
	if ((msr->fmask | msr->sysenter_cs | msr->tsc_aux) >> 32)
		return UMBRA_BAD_MSR;
	for (i = 0; i < 64; i += 8) {
		__u8 type = msr->pat >> i;

		if (type > 7 || type == 2 || type == 3)
			return UMBRA_BAD_PAT;
	}
	return 0;
}

__u32 check_state(const struct umbra_run *in, const struct limits *limits)
{
	int i;

	if (in->reserved2 || in->intr_shadow & ~(UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS | UMBRA_SHADOW_NMI) ||
	    in->pending_dbg & ~0x1500fULL)
		return UMBRA_BAD_INTR;
	for (i = 0; i < UMBRA_SEGS; i++)
		if (in->seg[i].attr & 0x0f00 || !is_canonical(in->seg[i].base, limits->vaddr_bits))
			return UMBRA_BAD_SEGMENT;
	if (!is_canonical(in->gdtr.base, limits->vaddr_bits) || in->gdtr.limit >> 16 || in->gdtr.reserved ||
	    !is_canonical(in->idtr.base, limits->vaddr_bits) || in->idtr.limit >> 16 || in->idtr.reserved)
		return UMBRA_BAD_SEGMENT;
	if (in->dr7 >> 32)
		return UMBRA_BAD_DR7;
	return check_cr(in, limits) ?: check_msr(&in->msr, limits);
}
