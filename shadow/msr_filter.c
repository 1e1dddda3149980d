// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_X86_SET_MSR_FILTER and KVM_CAP_X86_USER_SPACE_MSR: which of the guest's accesses the VMM sees or forbids. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "msr.h"
#include "msr_internal.h"
#include "vcpu.h"

struct msr_range {
	uint32_t base, count, flags;
	const uint8_t *bitmap; /* behind struct msr_filter */
};

struct msr_filter {
	bool default_allow;
	uint32_t ranges;
	struct msr_range range[KVM_MSR_FILTER_MAX_RANGES];
};

static size_t bitmap_size(uint32_t nmsrs)
{
	return ((uint64_t)nmsrs + 63) / 64 * 8;
}

/* 0 and the bytes of all bitmaps, or -EINVAL. */
static int filter_check(const struct kvm_msr_filter *filter, size_t *bytes)
{
	bool empty = true;

	*bytes = 0;
	if (filter->flags & ~(uint32_t)KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	for (int i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		const struct kvm_msr_filter_range *r = &filter->ranges[i];

		if (!r->nmsrs)
			continue;
		empty = false;
		if (!r->flags || r->flags & ~(uint32_t)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) ||
		    bitmap_size(r->nmsrs) > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
			return -EINVAL;
		*bytes += bitmap_size(r->nmsrs);
	}
	/* To deny everything without a range would be no filter but a dead guest. */
	return empty && filter->flags & KVM_MSR_FILTER_DEFAULT_DENY ? -EINVAL : 0;
}

/* Control thread. */
int msr_set_filter(struct vm *vm, const struct kvm_msr_filter *filter, const uint8_t *bitmaps)
{
	struct msr_filter *new, *old;
	uint8_t *copy;
	size_t bytes;
	int err = filter_check(filter, &bytes);

	if (err)
		return err;
	new = calloc(1, sizeof(*new) + bytes);
	if (!new)
		return -ENOMEM;
	copy = (uint8_t *)(new + 1);
	if (bytes)
		memcpy(copy, bitmaps, bytes);
	new->default_allow = !(filter->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (int i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		const struct kvm_msr_filter_range *r = &filter->ranges[i];

		if (!r->nmsrs)
			continue;
		new->range[new->ranges++] =
			(struct msr_range) { .base = r->base, .count = r->nmsrs, .flags = r->flags, .bitmap = copy };
		copy += bitmap_size(r->nmsrs);
	}
	old = __atomic_exchange_n(&vm->msr_filter, new, __ATOMIC_ACQ_REL);
	vm_synchronize(vm);
	free(old);
	for (uint32_t i = 0; i < atomic_load(&vm->vcpus); i++)
		vcpu_notify(vm->vcpu[i], VCPU_REQ_ANSWERS);
	return 0;
}

bool msr_filter_allows(struct vcpu *vcpu, uint32_t msr, bool write)
{
	uint32_t access = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;
	const struct msr_filter *f;
	bool allowed;

	if (!__atomic_load_n(&vcpu->vm->msr_filter, __ATOMIC_RELAXED))
		return true;
	if (msr >= 0x800 && msr <= 0x8ff) /* the x2APIC is never filtered, as in KVM */
		return true;
	vm_read_lock(vcpu->vm);
	f = __atomic_load_n(&vcpu->vm->msr_filter, __ATOMIC_ACQUIRE);
	allowed = f->default_allow;
	for (uint32_t i = 0; i < f->ranges; i++) {
		const struct msr_range *r = &f->range[i];
		uint32_t n = msr - r->base;

		if (msr >= r->base && n < r->count && r->flags & access) {
			allowed = r->bitmap[n / 8] >> n % 8 & 1;
			break;
		}
	}
	vm_read_unlock(vcpu->vm);
	return allowed;
}

static bool msr_known(struct vcpu *vcpu, uint32_t msr)
{
	uint64_t value;

	return msr_get(vcpu, msr, &value, true) != MSR_UNKNOWN || msr_put_only(msr);
}

uint32_t msr_to_user(struct vcpu *vcpu, uint32_t msr, bool write, bool failed)
{
	uint64_t mask = vcpu->vm->user_space_msr_mask;
	uint32_t reason;

	if (!mask)
		return 0;
	if (!msr_filter_allows(vcpu, msr, write))
		reason = KVM_MSR_EXIT_REASON_FILTER;
	else if (!failed)
		return 0;
	else if (msr_known(vcpu, msr))
		reason = KVM_MSR_EXIT_REASON_INVAL;
	else
		reason = KVM_MSR_EXIT_REASON_UNKNOWN;
	return mask & reason;
}
