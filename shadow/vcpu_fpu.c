// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_GET/SET_FPU, XSAVE, XCRS. The guest's FPU state is live in this thread's registers, or in fpu_park while it is
 * parked. fpu_park serves as the aligned buffer for the live case too.
 */
#include <errno.h>
#include <string.h>

#include "core.h"
#include "cpuid_host.h"
#include "fault.h"
#include "sys.h"
#include "vcpu_state.h"

#define XFEATURE_FP 1ull
#define XFEATURE_SSE 2ull
#define XFEATURE_AVX 4ull
#define MXCSR_DEFAULT 0x1f80
#define HEADER 512 /* of an XSAVE area: XSTATE_BV, XCOMP_BV, 6 reserved (SDM 1 13.4.2) */

/* SDM 1 table 10-2, the 64-bit form */
struct fxsave {
	uint16_t fcw, fsw;
	uint8_t ftw, reserved;
	uint16_t fop;
	uint64_t rip, rdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t rest[96]; /* 48 reserved, 48 for software */
};
_Static_assert(sizeof(struct fxsave) == HEADER, "layout of FXSAVE");

struct xsave_header {
	uint64_t xstate_bv, xcomp_bv, reserved[6];
};

static bool has_xsave(struct vcpu *vcpu)
{
	return vcpu_fpu_mask(vcpu) != 0;
}

/* fpu_park now has the guest's state. */
static void store(struct vcpu *vcpu)
{
	if (vcpu->fpu_parked)
		return;
	if (has_xsave(vcpu)) {
		memset((uint8_t *)vcpu->fpu_park + HEADER, 0, sizeof(struct xsave_header));
		cpu_xsave(vcpu->fpu_park, vcpu_fpu_mask(vcpu));
	} else {
		cpu_fxsave(vcpu->fpu_park);
	}
}

/* The guest's state is what fpu_park has. Checked before: it must not fault. */
static void load(struct vcpu *vcpu)
{
	if (vcpu->fpu_parked)
		return;
	if (has_xsave(vcpu))
		cpu_xrstor(vcpu->fpu_park, vcpu_fpu_mask(vcpu));
	else
		cpu_fxrstor(vcpu->fpu_park);
}

/* MXCSR bits that the CPU knows; others fault when loaded. (SDM 1 11.6.6) */
static uint32_t mxcsr_mask(void)
{
	static uint32_t mask; /* any thread finds the same */
	struct fxsave area __attribute__((aligned(16)));

	if (!mask) {
		memset(&area, 0, sizeof(area));
		cpu_fxsave(&area);
		mask = area.mxcsr_mask ? area.mxcsr_mask : 0xffbf;
	}
	return mask;
}

int state_get_fpu(struct vcpu *vcpu, struct kvm_fpu *fpu)
{
	const struct fxsave *fx = vcpu->fpu_park;
	const struct xsave_header *head = (void *)((uint8_t *)vcpu->fpu_park + HEADER);

	store(vcpu);
	memset(fpu, 0, sizeof(*fpu));
	fpu->fcw = 0x37f;
	fpu->mxcsr = MXCSR_DEFAULT;
	/* XSTATE_BV says which parts of a parked area mean something; the others are in their initial state. */
	if (!has_xsave(vcpu) || head->xstate_bv & XFEATURE_FP) {
		memcpy(fpu->fpr, fx->st, sizeof(fpu->fpr));
		fpu->fcw = fx->fcw;
		fpu->fsw = fx->fsw;
		fpu->ftwx = fx->ftw;
		fpu->last_opcode = fx->fop;
		fpu->last_ip = fx->rip;
		fpu->last_dp = fx->rdp;
	}
	if (!has_xsave(vcpu) || head->xstate_bv & XFEATURE_SSE)
		memcpy(fpu->xmm, fx->xmm, sizeof(fpu->xmm));
	if (!has_xsave(vcpu) || head->xstate_bv & (XFEATURE_SSE | XFEATURE_AVX))
		fpu->mxcsr = fx->mxcsr;
	return 0;
}

/* MXCSR stays as it is: KVM's call does not set it, and VMMs leave it 0, which would unmask every exception. */
int state_set_fpu(struct vcpu *vcpu, const struct kvm_fpu *fpu)
{
	struct fxsave *fx = vcpu->fpu_park;
	struct xsave_header *head = (void *)((uint8_t *)vcpu->fpu_park + HEADER);

	store(vcpu);
	if (has_xsave(vcpu) && !(head->xstate_bv & (XFEATURE_SSE | XFEATURE_AVX)))
		fx->mxcsr = MXCSR_DEFAULT;
	memcpy(fx->st, fpu->fpr, sizeof(fx->st));
	memcpy(fx->xmm, fpu->xmm, sizeof(fx->xmm));
	fx->fcw = fpu->fcw;
	fx->fsw = fpu->fsw;
	fx->ftw = fpu->ftwx;
	fx->fop = fpu->last_opcode;
	fx->rip = fpu->last_ip;
	fx->rdp = fpu->last_dp;
	if (has_xsave(vcpu))
		head->xstate_bv |= XFEATURE_FP | XFEATURE_SSE;
	load(vcpu);
	return 0;
}

uint32_t state_xsave_size(struct vcpu *vcpu)
{
	uint32_t size = vm_check_extension(vcpu->vm, KVM_CAP_XSAVE2);

	return size < sizeof(struct kvm_xsave) ? sizeof(struct kvm_xsave) : size;
}

int state_get_xsave(struct vcpu *vcpu, void *area, uint32_t size)
{
	uint32_t used = has_xsave(vcpu) ? cpuid_xsave_size(vcpu_fpu_mask(vcpu)) : HEADER;
	struct xsave_header head = { .xstate_bv = XFEATURE_FP | XFEATURE_SSE };
	struct fxsave *fx = area;

	if (used > size)
		return -EINVAL;
	store(vcpu);
	memset(area, 0, size);
	memcpy(area, vcpu->fpu_park, used);
	memset(fx->rest, 0, sizeof(fx->rest));
	if (has_xsave(vcpu)) {
		memcpy(&head, (uint8_t *)vcpu->fpu_park + HEADER, sizeof(head));
		head = (struct xsave_header) { .xstate_bv = head.xstate_bv & vcpu_fpu_mask(vcpu) };
		if (!(head.xstate_bv & (XFEATURE_SSE | XFEATURE_AVX)))
			fx->mxcsr = MXCSR_DEFAULT;
		if (!(head.xstate_bv & XFEATURE_FP))
			fx->fcw = 0x37f;
	}
	fx->mxcsr_mask = mxcsr_mask();
	memcpy((uint8_t *)area + HEADER, &head, sizeof(head));
	FAULT_POINT(get_xsave, vcpu, area, size);
	return 0;
}

/* All that could make XRSTOR fault is refused here. (SDM 1 13.8.1) */
int state_set_xsave(struct vcpu *vcpu, const void *area, uint32_t size)
{
	uint32_t used = has_xsave(vcpu) ? cpuid_xsave_size(vcpu_fpu_mask(vcpu)) : HEADER;
	struct fxsave *fx = vcpu->fpu_park;
	struct xsave_header head;
	struct fxsave in;

	if (size < HEADER + sizeof(head) || size < used)
		return -EINVAL;
	memcpy(&in, area, sizeof(in));
	memcpy(&head, (const uint8_t *)area + HEADER, sizeof(head));
	if (!has_xsave(vcpu))
		head.xstate_bv = XFEATURE_FP | XFEATURE_SSE;
	else if (head.xstate_bv & ~vcpu_fpu_mask(vcpu) || head.xcomp_bv)
		return -EINVAL;
	for (int i = 0; i < 6; i++) {
		if (head.reserved[i])
			return -EINVAL;
	}
	if (head.xstate_bv & (XFEATURE_SSE | XFEATURE_AVX)) {
		if (in.mxcsr & ~mxcsr_mask())
			return -EINVAL;
	} else {
		in.mxcsr = MXCSR_DEFAULT; /* the standard form loads it in any case */
	}
	memcpy(vcpu->fpu_park, area, used);
	fx->mxcsr = in.mxcsr;
	if (has_xsave(vcpu))
		memcpy((uint8_t *)vcpu->fpu_park + HEADER, &head, sizeof(head));
	load(vcpu);
	return 0;
}

int state_get_xcrs(struct vcpu *vcpu, struct kvm_xcrs *xcrs)
{
	if (!has_xsave(vcpu))
		return -EINVAL;
	vcpu_fetch(vcpu, UMBRA_STATE_CR);
	memset(xcrs, 0, sizeof(*xcrs));
	xcrs->nr_xcrs = 1;
	xcrs->xcrs[0].value = vcpu->run->xcr0;
	return 0;
}

int state_set_xcrs(struct vcpu *vcpu, const struct kvm_xcrs *xcrs)
{
	if (!has_xsave(vcpu) || xcrs->nr_xcrs > KVM_MAX_XCRS || xcrs->flags)
		return -EINVAL;
	for (uint32_t i = 0; i < xcrs->nr_xcrs; i++) {
		if (xcrs->xcrs[i].xcr)
			continue;
		if (!xcr0_valid(vcpu, xcrs->xcrs[i].value))
			return -EINVAL;
		vcpu_fetch(vcpu, UMBRA_STATE_CR);
		vcpu->run->xcr0 = xcrs->xcrs[i].value;
		vcpu_dirty(vcpu, UMBRA_STATE_CR);
		break;
	}
	return 0;
}
