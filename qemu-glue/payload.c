/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

/* How much memory each call's argument points to. What is not in the table follows its number: _IO passes a number,
 * the rest a structure of _IOC_SIZE bytes in the direction that the number tells. */

enum shape {
	IN,	   /* _IOC_SIZE bytes (or head), whatever the direction bits say */
	LIST_IN,   /* head, then count elements */
	LIST_OUT,  /* head in; head and count elements out */
	LIST_BOTH, /* head and elements in and out */
	SIZED_IN,  /* the field at count has the size of the whole */
	SIZED_OUT,
	XSAVE_IN,
	XSAVE_OUT,
	MSR_FILTER,
	ATTR_SET,
	ATTR_GET,
	ATTR_HAS,
};

struct rule {
	uint32_t nr;
	enum shape shape;
	uint16_t head;	/* bytes */
	uint16_t count; /* offset of the 32-bit count */
	uint16_t elem;	/* bytes */
	uint32_t most;	/* elements KVM takes; 0: what fits */
	int too_many;	/* errno above that */
};

#define LIST(nr, shape, type, count, elem, most, error)                                         \
	{                                                                                       \
		nr, shape, sizeof(struct type), offsetof(struct type, count), elem, most, error \
	}

static const struct rule rules[] = {
	LIST(KVM_GET_MSR_INDEX_LIST, LIST_OUT, kvm_msr_list, nmsrs, 4, 0, 0),
	LIST(KVM_GET_MSR_FEATURE_INDEX_LIST, LIST_OUT, kvm_msr_list, nmsrs, 4, 0, 0),
	LIST(KVM_GET_SUPPORTED_CPUID, LIST_OUT, kvm_cpuid2, nent, sizeof(struct kvm_cpuid_entry2), 0, 0),
	LIST(KVM_GET_EMULATED_CPUID, LIST_OUT, kvm_cpuid2, nent, sizeof(struct kvm_cpuid_entry2), 0, 0),
	LIST(KVM_GET_SUPPORTED_HV_CPUID, LIST_OUT, kvm_cpuid2, nent, sizeof(struct kvm_cpuid_entry2), 0, 0),
	LIST(KVM_GET_CPUID2, LIST_OUT, kvm_cpuid2, nent, sizeof(struct kvm_cpuid_entry2), 0, 0),
	LIST(KVM_SET_CPUID2, LIST_IN, kvm_cpuid2, nent, sizeof(struct kvm_cpuid_entry2), 256, E2BIG),
	LIST(KVM_SET_CPUID, LIST_IN, kvm_cpuid, nent, sizeof(struct kvm_cpuid_entry), 256, E2BIG),
	LIST(KVM_GET_MSRS, LIST_BOTH, kvm_msrs, nmsrs, sizeof(struct kvm_msr_entry), 255, E2BIG),
	LIST(KVM_SET_MSRS, LIST_IN, kvm_msrs, nmsrs, sizeof(struct kvm_msr_entry), 255, E2BIG),
	LIST(KVM_SET_PMU_EVENT_FILTER, LIST_IN, kvm_pmu_event_filter, nevents, 8, 300, E2BIG),
	LIST(KVM_GET_NESTED_STATE, SIZED_OUT, kvm_nested_state, size, 1, 0, 0),
	LIST(KVM_SET_NESTED_STATE, SIZED_IN, kvm_nested_state, size, 1, 16384, EINVAL),
	{ .nr = KVM_SET_IRQCHIP, .shape = IN, .head = sizeof(struct kvm_irqchip) },
	{ .nr = KVM_SET_PIT, .shape = IN, .head = sizeof(struct kvm_pit_state) },
	{ .nr = KVM_REINJECT_CONTROL, .shape = IN, .head = sizeof(struct kvm_reinject_control) },
	{ .nr = KVM_SET_XSAVE, .shape = XSAVE_IN },
	{ .nr = KVM_GET_XSAVE2, .shape = XSAVE_OUT },
	{ .nr = KVM_X86_SET_MSR_FILTER, .shape = MSR_FILTER },
	{ .nr = KVM_SET_DEVICE_ATTR, .shape = ATTR_SET },
	{ .nr = KVM_GET_DEVICE_ATTR, .shape = ATTR_GET },
	{ .nr = KVM_HAS_DEVICE_ATTR, .shape = ATTR_HAS },
};

#define HEAD_MAX sizeof(struct kvm_nested_state) /* of all rules */
#define MSR_FILTER_BITMAP_MAX 0x600		 /* bytes, KVM's limit */

static uint32_t clamp_payload(uint64_t size)
{
	return size < CHANNEL_PAYLOAD_MAX ? size : CHANNEL_PAYLOAD_MAX;
}

/* The head is read into memory of our own: buf may be the shadow's, too, and what it made of the count would be taken for checked. */
static int gather_list(const struct rule *rule, uint64_t arg, uint8_t *buf, struct payload *p)
{
	bool sized = rule->shape == SIZED_IN || rule->shape == SIZED_OUT;
	uint8_t head[HEAD_MAX];
	uint32_t count;
	uint64_t whole;
	int ret = user_read(head, arg, rule->head);

	if (ret)
		return ret;
	memcpy(&count, head + rule->count, sizeof(count));
	memcpy(buf, head, rule->head);
	if (rule->most && count > rule->most)
		return -rule->too_many;
	p->counted = true;
	p->count_at = rule->count;
	p->count = count;
	whole = sized ? count : rule->head + (uint64_t)count * rule->elem;
	if (whole < rule->head)
		whole = rule->head;
	p->in_size = rule->head;
	if (rule->shape == LIST_OUT || rule->shape == SIZED_OUT || rule->shape == LIST_BOTH) {
		p->out_max = clamp_payload(whole);
		p->out_addr = arg;
	}
	if (rule->shape == LIST_OUT || rule->shape == SIZED_OUT)
		return 0;
	if (whole > CHANNEL_PAYLOAD_MAX)
		return -E2BIG;
	p->in_size = whole;
	/* Only the tail: the head, whose count was just checked, is not read again. */
	return user_read(buf + rule->head, arg + rule->head, whole - rule->head);
}

static int gather_msr_filter(uint64_t arg, uint8_t *buf, struct payload *p)
{
	struct kvm_msr_filter filter;
	uint32_t at = sizeof(filter);
	int ret = user_read(&filter, arg, sizeof(filter));

	if (ret)
		return ret;
	for (int i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		uint64_t bytes = ((uint64_t)filter.ranges[i].nmsrs + 63) / 64 * 8;

		if (bytes > MSR_FILTER_BITMAP_MAX)
			return -EINVAL;
		ret = user_read(buf + at, (uintptr_t)filter.ranges[i].bitmap, bytes);
		if (ret)
			return ret;
		at += bytes;
		filter.ranges[i].bitmap = NULL;
	}
	memcpy(buf, &filter, sizeof(filter));
	p->in_size = at;
	return 0;
}

static int gather_attr(const struct rule *rule, uint64_t arg, uint8_t *buf, struct payload *p)
{
	struct kvm_device_attr attr;
	int ret = user_read(&attr, arg, sizeof(attr));

	if (ret)
		return ret;
	memcpy(buf, &attr, sizeof(attr));
	p->in_size = sizeof(attr);
	if (rule->shape == ATTR_GET) {
		p->out_max = 8;
		p->out_addr = attr.addr;
	} else if (rule->shape == ATTR_SET) {
		p->in_size += 8;
		return user_read(buf + sizeof(attr), attr.addr, 8);
	}
	return 0;
}

static int gather_by_number(uint32_t nr, uint64_t arg, void *buf, struct payload *p)
{
	uint32_t size = _IOC_SIZE(nr);

	if (_IOC_DIR(nr) == _IOC_NONE || !size) {
		p->number = true;
		return 0;
	}
	if (_IOC_DIR(nr) & _IOC_READ) {
		p->out_max = size;
		p->out_addr = arg;
	}
	if (!(_IOC_DIR(nr) & _IOC_WRITE))
		return 0;
	p->in_size = size;
	return user_read(buf, arg, size);
}

/* buf has CHANNEL_PAYLOAD_MAX bytes. */
int payload_gather(uint32_t nr, uint64_t arg, uint32_t xsave_size, void *buf, struct payload *p)
{
	const struct rule *rule = NULL;

	*p = (struct payload) { 0 };
	if (xsave_size < sizeof(struct kvm_xsave))
		xsave_size = sizeof(struct kvm_xsave);
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].nr == nr)
			rule = &rules[i];
	if (!rule)
		return gather_by_number(nr, arg, buf, p);
	switch (rule->shape) {
	case IN:
		p->in_size = rule->head;
		return user_read(buf, arg, rule->head);
	case XSAVE_IN:
		p->in_size = clamp_payload(xsave_size);
		return user_read(buf, arg, p->in_size);
	case XSAVE_OUT:
		p->out_max = clamp_payload(xsave_size);
		p->out_addr = arg;
		return 0;
	case MSR_FILTER:
		return gather_msr_filter(arg, buf, p);
	case ATTR_SET:
	case ATTR_GET:
	case ATTR_HAS:
		return gather_attr(rule, arg, buf, p);
	default:
		return gather_list(rule, arg, buf, p);
	}
}

/*
 * A VMM takes it for granted that a kernel fills in no more of its list than there was room for, and that what it is given as a
 * descriptor is one. (The shadow makes none.)
 */
static bool answer_is_sound(uint32_t nr, const struct payload *p, const uint8_t *head, uint32_t size, int64_t ret)
{
	uint32_t count;

	if (ret >= 0 && (nr == KVM_CREATE_DEVICE || nr == KVM_GET_STATS_FD))
		return false;
	if (!p->counted)
		return true;
	if (ret > p->count)
		return false;
	if (size < p->count_at + sizeof(count))
		return !size; /* half a count would be another one */
	memcpy(&count, head + p->count_at, sizeof(count));
	/* With an error it says how many there are, which VMMs make room for. */
	return count <= (ret < 0 && p->count < CHANNEL_PAYLOAD_MAX ? CHANNEL_PAYLOAD_MAX : p->count);
}

int payload_put(uint32_t nr, const struct payload *p, const void *buf, uint32_t size, int64_t ret)
{
	uint8_t head[HEAD_MAX];
	uint32_t part = size < sizeof(head) ? size : sizeof(head);

	if (size > p->out_max)
		return -EPROTO;
	memcpy(head, buf, part);
	atomic_signal_fence(memory_order_seq_cst); /* what is looked at and written back is this copy */
	if (!answer_is_sound(nr, p, head, size, ret))
		return -EPROTO;
	if (!p->counted)
		return user_write(p->out_addr, buf, size);
	if (user_write(p->out_addr, head, part) ||
	    user_write(p->out_addr + part, (const uint8_t *)buf + part, size - part))
		return -EFAULT;
	return 0;
}
