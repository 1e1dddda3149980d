// SPDX-License-Identifier: GPL-2.0-or-later
/* vCPU calls of the KVM API: sizes, dispatch, and the small ones. On the vCPU's thread. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "cpuid.h"
#include "fault.h"
#include "msr.h"
#include "msr_internal.h"
#include "vcpu_state.h"

#define MAX_IO_MSRS 256		       /* KVM_GET/SET_MSRS: fewer than this */
#define TSC_TOLERANCE_PPM 250	       /* a TSC frequency this near the host's needs no scaling */
#define CALL_KEY(nr) ((nr)&0x3fffffff) /* but for the direction bits */

/* buf: aligned for any structure; the handler checks what lies behind the fixed part. *out: bytes that go back. */
typedef int call_fn(struct vcpu *vcpu, uint64_t arg, void *buf, uint32_t in, uint32_t *out);

#define STATE_GET(name, type)                                                                          \
	static int call_##name(struct vcpu *vcpu, uint64_t arg, void *buf, uint32_t in, uint32_t *out) \
	{                                                                                              \
		(void)arg, (void)in, (void)out;                                                        \
		return state_##name(vcpu, (type *)buf);                                                \
	}

STATE_GET(get_regs, struct kvm_regs)
STATE_GET(set_regs, const struct kvm_regs)
STATE_GET(get_sregs, struct kvm_sregs)
STATE_GET(set_sregs, const struct kvm_sregs)
STATE_GET(get_sregs2, struct kvm_sregs2)
STATE_GET(set_sregs2, const struct kvm_sregs2)
STATE_GET(get_fpu, struct kvm_fpu)
STATE_GET(set_fpu, const struct kvm_fpu)
STATE_GET(get_xcrs, struct kvm_xcrs)
STATE_GET(set_xcrs, const struct kvm_xcrs)
STATE_GET(get_debugregs, struct kvm_debugregs)
STATE_GET(set_debugregs, const struct kvm_debugregs)
STATE_GET(get_events, struct kvm_vcpu_events)
STATE_GET(set_events, const struct kvm_vcpu_events)
STATE_GET(get_mp, struct kvm_mp_state)
STATE_GET(set_mp, const struct kvm_mp_state)
STATE_GET(guest_debug, const struct kvm_guest_debug)

#define CALL(name) static int call_##name(struct vcpu *vcpu, uint64_t arg, void *buf, uint32_t in, uint32_t *out)
#define UNUSED_ARGS (void)vcpu, (void)arg, (void)buf, (void)in, (void)out

/* ---- XSAVE ---- */

CALL(get_xsave)
{
	UNUSED_ARGS;
	/* The old call has room for 4096 bytes only. */
	if (state_xsave_size(vcpu) > sizeof(struct kvm_xsave))
		return -EINVAL;
	return state_get_xsave(vcpu, buf, sizeof(struct kvm_xsave));
}

CALL(get_xsave2)
{
	uint32_t size = state_xsave_size(vcpu);
	int err = size > CHANNEL_PAYLOAD_MAX ? -EINVAL : state_get_xsave(vcpu, buf, size);

	UNUSED_ARGS;
	*out = size;
	return err;
}

CALL(set_xsave)
{
	UNUSED_ARGS;
	return state_set_xsave(vcpu, buf, in);
}

/* ---- MSRs: up to the first that is refused; the result is how many were done ---- */

static int msrs(struct vcpu *vcpu, void *buf, uint32_t in, bool write)
{
	struct kvm_msrs *list = buf;
	uint32_t i;

	if (list->nmsrs >= MAX_IO_MSRS)
		return -E2BIG;
	if (in < sizeof(*list) + list->nmsrs * sizeof(list->entries[0]))
		return -EINVAL;
	for (i = 0; i < list->nmsrs; i++) {
		struct kvm_msr_entry *e = &list->entries[i];
		uint64_t value = e->data;

		if (write ? msr_write(vcpu, e->index, value, true) < 0 : msr_read(vcpu, e->index, &value, true) < 0)
			break;
		e->data = value;
	}
	return (int)i;
}

CALL(get_msrs)
{
	int ret = msrs(vcpu, buf, in, false);

	UNUSED_ARGS;
	if (ret >= 0)
		*out = sizeof(struct kvm_msrs) + ((struct kvm_msrs *)buf)->nmsrs * sizeof(struct kvm_msr_entry);
	return ret;
}

CALL(set_msrs)
{
	UNUSED_ARGS;
	return msrs(vcpu, buf, in, true);
}

/* ---- CPUID ---- */

CALL(set_cpuid2)
{
	struct kvm_cpuid2 *list = buf;

	UNUSED_ARGS;
	if (list->nent > VCPU_MAX_CPUID)
		return -E2BIG;
	if (in < sizeof(*list) + list->nent * sizeof(list->entries[0]))
		return -EINVAL;
	return cpuid_set(vcpu, list->entries, list->nent);
}

CALL(get_cpuid2)
{
	struct kvm_cpuid2 *list = buf;
	uint32_t room = list->nent;

	UNUSED_ARGS;
	list->nent = vcpu->cpuid_count;
	*out = sizeof(*list);
	if (room < vcpu->cpuid_count)
		return -E2BIG;
	memcpy(list->entries, vcpu->cpuid, vcpu->cpuid_count * sizeof(vcpu->cpuid[0]));
	*out += vcpu->cpuid_count * sizeof(vcpu->cpuid[0]);
	return 0;
}

/* ---- LAPIC ---- */

CALL(get_lapic)
{
	UNUSED_ARGS;
	return vm_has_lapics(vcpu->vm) ? lapic_get_state(vcpu, buf) : -EINVAL;
}

CALL(set_lapic)
{
	UNUSED_ARGS;
	return vm_has_lapics(vcpu->vm) ? lapic_set_state(vcpu, buf) : -EINVAL;
}

/* No TPR access of a guest goes to the VMM: there is nothing to report, so that the wish is taken and costs nothing. */
CALL(tpr_reporting)
{
	const struct kvm_tpr_access_ctl *ctl = buf;

	UNUSED_ARGS;
	return ctl->flags ? -EINVAL : 0;
}

/* Its page would be used by code that TPR reports make a VMM patch in. There are none: only its address is checked. */
CALL(set_vapic_addr)
{
	const struct kvm_vapic_addr *addr = buf;
	uint32_t word;

	UNUSED_ARGS;
	if (!vm_has_lapics(vcpu->vm))
		return -EINVAL;
	FAULT_POINT(vapic_addr, vcpu->vm, NULL, addr->vapic_addr);
	return addr->vapic_addr && vm_read_gpa(vcpu->vm, addr->vapic_addr, &word, sizeof(word)) ? -EINVAL : 0;
}

/* ---- events ---- */

CALL(interrupt)
{
	UNUSED_ARGS;
	return state_interrupt(vcpu, ((const struct kvm_interrupt *)buf)->irq);
}

CALL(nmi)
{
	UNUSED_ARGS;
	return state_nmi(vcpu);
}

CALL(setup_mce)
{
	UNUSED_ARGS;
	return msr_mce_setup(vcpu, *(const uint64_t *)buf);
}

CALL(set_mce)
{
	UNUSED_ARGS;
	return msr_mce_inject(vcpu, buf);
}

/* ---- time ---- */

CALL(get_tsc_khz)
{
	UNUSED_ARGS;
	return (int)vcpu->tsc_khz;
}

/* There is no TSC scaling: the host's frequency, or one so near that guests do not tell them apart. 0: the host's. */
bool vcpu_tsc_khz_possible(const struct vm *vm, uint32_t khz)
{
	uint64_t host = vm->info.tsc_khz, slack = host * TSC_TOLERANCE_PPM / 1000000;

	return !khz || (khz <= host + slack && khz + slack >= host);
}

CALL(set_tsc_khz)
{
	UNUSED_ARGS;
	if (!vcpu_tsc_khz_possible(vcpu->vm, (uint32_t)arg))
		return -EINVAL;
	vcpu->tsc_khz = (uint32_t)arg ? (uint32_t)arg : vcpu->vm->info.tsc_khz;
	atomic_fetch_or(&vcpu->requests, VCPU_REQ_CLOCK);
	return 0;
}

CALL(kvmclock_ctrl)
{
	UNUSED_ARGS;
	return clock_kvmclock_ctrl(vcpu);
}

static int attr_check(const struct kvm_device_attr *attr)
{
	return attr->group == KVM_VCPU_TSC_CTRL && attr->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

CALL(has_attr)
{
	UNUSED_ARGS;
	return attr_check(buf);
}

CALL(get_attr)
{
	int err = attr_check(buf);

	UNUSED_ARGS;
	if (err)
		return err;
	*(uint64_t *)buf = vcpu->run->tsc_offset;
	*out = sizeof(uint64_t);
	return 0;
}

CALL(set_attr)
{
	int err = attr_check(buf);
	uint64_t offset;

	UNUSED_ARGS;
	if (err)
		return err;
	if (in < sizeof(struct kvm_device_attr) + sizeof(offset))
		return -EINVAL;
	memcpy(&offset, (struct kvm_device_attr *)buf + 1, sizeof(offset));
	atomic_store(&vcpu->vm->tsc_offset, offset);
	msr_set_tsc_offset(vcpu, offset);
	return 0;
}

/* ---- memory ---- */

CALL(translate)
{
	struct kvm_translation *t = buf;
	struct walk_regs regs = vcpu_walk_regs(vcpu);
	uint64_t gpa = 0;
	uint32_t error;

	UNUSED_ARGS;
	regs.implicit = true;
	*t = (struct kvm_translation) { .linear_address = t->linear_address, .writeable = 1 };
	t->valid = !walk_gva(vcpu->vm, &regs, t->linear_address, 0, &gpa, &error);
	t->physical_address = t->valid ? gpa : ~0ull;
	return 0;
}

/* ---- dispatch ---- */

#define NO_PAYLOAD 0
static const struct {
	uint32_t nr;
	uint16_t in,
		out; /* bytes that must come, and bytes that go back when it succeeds (unless the handler says otherwise) */
	call_fn *fn;
} calls[] = {
#define IN(nr, type, fn)                       \
	{                                      \
		nr, sizeof(type), 0, call_##fn \
	}
#define OUT(nr, type, fn)                      \
	{                                      \
		nr, 0, sizeof(type), call_##fn \
	}
	OUT(KVM_GET_REGS, struct kvm_regs, get_regs),
	IN(KVM_SET_REGS, struct kvm_regs, set_regs),
	OUT(KVM_GET_SREGS, struct kvm_sregs, get_sregs),
	IN(KVM_SET_SREGS, struct kvm_sregs, set_sregs),
	OUT(KVM_GET_SREGS2, struct kvm_sregs2, get_sregs2),
	IN(KVM_SET_SREGS2, struct kvm_sregs2, set_sregs2),
	OUT(KVM_GET_FPU, struct kvm_fpu, get_fpu),
	IN(KVM_SET_FPU, struct kvm_fpu, set_fpu),
	OUT(KVM_GET_XSAVE, struct kvm_xsave, get_xsave),
	OUT(KVM_GET_XSAVE2, struct kvm_xsave, get_xsave2),
	IN(KVM_SET_XSAVE, struct kvm_xsave, set_xsave),
	OUT(KVM_GET_XCRS, struct kvm_xcrs, get_xcrs),
	IN(KVM_SET_XCRS, struct kvm_xcrs, set_xcrs),
	IN(KVM_GET_MSRS, struct kvm_msrs, get_msrs),
	IN(KVM_SET_MSRS, struct kvm_msrs, set_msrs),
	IN(KVM_SET_CPUID2, struct kvm_cpuid2, set_cpuid2),
	IN(KVM_GET_CPUID2, struct kvm_cpuid2, get_cpuid2),
	OUT(KVM_GET_DEBUGREGS, struct kvm_debugregs, get_debugregs),
	IN(KVM_SET_DEBUGREGS, struct kvm_debugregs, set_debugregs),
	OUT(KVM_GET_LAPIC, struct kvm_lapic_state, get_lapic),
	IN(KVM_SET_LAPIC, struct kvm_lapic_state, set_lapic),
	OUT(KVM_GET_MP_STATE, struct kvm_mp_state, get_mp),
	IN(KVM_SET_MP_STATE, struct kvm_mp_state, set_mp),
	OUT(KVM_GET_VCPU_EVENTS, struct kvm_vcpu_events, get_events),
	IN(KVM_SET_VCPU_EVENTS, struct kvm_vcpu_events, set_events),
	IN(KVM_INTERRUPT, struct kvm_interrupt, interrupt),
	{ KVM_NMI, NO_PAYLOAD, NO_PAYLOAD, call_nmi },
	{ KVM_TRANSLATE, sizeof(struct kvm_translation), sizeof(struct kvm_translation), call_translate },
	IN(KVM_SET_GUEST_DEBUG, struct kvm_guest_debug, guest_debug),
	{ KVM_GET_TSC_KHZ, NO_PAYLOAD, NO_PAYLOAD, call_get_tsc_khz },
	{ KVM_SET_TSC_KHZ, NO_PAYLOAD, NO_PAYLOAD, call_set_tsc_khz },
	{ KVM_TPR_ACCESS_REPORTING, sizeof(struct kvm_tpr_access_ctl), sizeof(struct kvm_tpr_access_ctl),
	  call_tpr_reporting },
	IN(KVM_SET_VAPIC_ADDR, struct kvm_vapic_addr, set_vapic_addr),
	{ KVM_KVMCLOCK_CTRL, NO_PAYLOAD, NO_PAYLOAD, call_kvmclock_ctrl },
	IN(KVM_X86_SETUP_MCE, uint64_t, setup_mce),
	IN(KVM_X86_SET_MCE, struct kvm_x86_mce, set_mce),
	IN(KVM_HAS_DEVICE_ATTR, struct kvm_device_attr, has_attr),
	IN(KVM_GET_DEVICE_ATTR, struct kvm_device_attr, get_attr),
	IN(KVM_SET_DEVICE_ATTR, struct kvm_device_attr, set_attr),
};

int vcpu_call(struct vcpu *vcpu, uint32_t nr, uint64_t arg, void *buf, uint32_t *size)
{
	uint32_t in = *size, out;
	int ret;

	*size = 0;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (CALL_KEY(calls[i].nr) != CALL_KEY(nr))
			continue;
		if (in < calls[i].in || in > CHANNEL_PAYLOAD_MAX)
			return -EINVAL;
		out = calls[i].out;
		ret = calls[i].fn(vcpu, arg, buf, in, &out);
		/* The lists' true count goes back with E2BIG too. */
		if (ret >= 0 || ret == -E2BIG)
			*size = out;
		return ret;
	}
	/* KVM_SMI, nested state, KVM_ENABLE_CAP and all that is unknown: KVM's errno for a vCPU. */
	return -EINVAL;
}
