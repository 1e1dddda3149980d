// SPDX-License-Identifier: GPL-2.0-or-later
#include "lapic_regs.h"

#include <errno.h>
#include <string.h>

#include "routing.h"

/* KVM_GET_LAPIC and KVM_SET_LAPIC: the first 1 KiB of the register page. */

static void put(struct kvm_lapic_state *state, uint32_t offset, uint32_t value)
{
	memcpy(state->regs + offset, &value, 4);
}

static uint32_t get(const struct kvm_lapic_state *state, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, state->regs + offset, 4);
	return value;
}

int lapic_get_state(struct vcpu *vcpu, struct kvm_lapic_state *state)
{
	struct lapic *lapic = &vcpu->lapic;

	if (!vm_has_lapics(vcpu->vm))
		return -EINVAL;
	/* Nothing may hang on what the registers do not show. */
	lapic_timer_check(vcpu, clock_host_tsc());
	lapic_merge_requests(vcpu);
	lapic_pv_eoi_cancel(vcpu);

	memset(state, 0, sizeof(*state));
	for (uint32_t offset = 0; offset < sizeof(state->regs); offset += 16)
		put(state, offset, lapic_reg(lapic, offset));
	put(state, APIC_VERSION, lapic_version(vcpu));
	put(state, APIC_TPR, lapic_reg(lapic, APIC_TPR) & 0xff);
	put(state, APIC_PPR, lapic_ppr(lapic));
	put(state, APIC_TMCCT, lapic_timer_count(vcpu));
	if (lapic->x2apic && !vcpu->vm->x2apic_api_32bit_ids)
		put(state, APIC_ID, vcpu->id << 24);
	return 0;
}

static void set_vectors(struct lapic *lapic, const struct kvm_lapic_state *state, uint32_t base, uint8_t *any)
{
	uint8_t bits = 0;

	for (unsigned int n = 0; n < 8; n++) {
		uint32_t value = get(state, base + n * 16);

		if (!n)
			value &= ~0xffffu; /* vectors 0 to 15 are illegal */
		lapic_set_reg(lapic, base + n * 16, value);
		if (value)
			bits |= 1 << n;
	}
	if (any)
		*any = bits;
}

static void set_masked(struct vcpu *vcpu, const struct kvm_lapic_state *state, uint32_t offset, uint32_t mask)
{
	lapic_set_reg(&vcpu->lapic, offset, get(state, offset) & mask);
}

int lapic_set_state(struct vcpu *vcpu, const struct kvm_lapic_state *state)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t svr = 0xff | APIC_SVR_ENABLE | APIC_SVR_FOCUS;
	uint64_t guest_deadline = lapic->timer_guest_deadline;

	if (!vm_has_lapics(vcpu->vm))
		return -EINVAL;
	if (lapic->x2apic && vcpu->vm->x2apic_api_32bit_ids && get(state, APIC_ID) != vcpu->id)
		return -EINVAL;

	lapic_registers_reset(vcpu);
	if (lapic->x2apic) {
		lapic_set_reg(lapic, APIC_ID, vcpu->id);
		lapic_set_reg(lapic, APIC_LDR, (vcpu->id >> 4) << 16 | 1u << (vcpu->id & 15));
		lapic_set_reg(lapic, APIC_ICR2, get(state, APIC_ICR2));
	} else {
		set_masked(vcpu, state, APIC_ID, 0xff000000);
		set_masked(vcpu, state, APIC_LDR, 0xff000000);
		set_masked(vcpu, state, APIC_ICR2, 0xff000000);
	}
	lapic_set_reg(lapic, APIC_DFR, get(state, APIC_DFR) | 0x0fffffff);
	set_masked(vcpu, state, APIC_TPR, 0xff);
	if (lapic_version(vcpu) & APIC_VERSION_DIRECTED_EOI)
		svr |= APIC_SVR_DIRECTED_EOI;
	set_masked(vcpu, state, APIC_SVR, svr);
	set_masked(vcpu, state, APIC_ESR, 0xff);
	set_masked(vcpu, state, APIC_ICR, 0xcdfff);
	lapic_set_reg(lapic, APIC_ICR, lapic_reg(lapic, APIC_ICR) & ~APIC_ICR_BUSY);
	set_vectors(lapic, state, APIC_ISR, &lapic->isr_any);
	set_vectors(lapic, state, APIC_TMR, NULL);
	set_vectors(lapic, state, APIC_IRR, &lapic->irr_any);

	set_masked(vcpu, state, APIC_LVT_TIMER, 0xff | APIC_LVT_MASKED | APIC_TIMER_MODE);
	set_masked(vcpu, state, APIC_LVT_THERMAL, 0x7ff | APIC_LVT_MASKED);
	set_masked(vcpu, state, APIC_LVT_PERF, 0x7ff | APIC_LVT_MASKED);
	set_masked(vcpu, state, APIC_LVT_LINT0, 0x7ff | 0xa000 | APIC_LVT_MASKED);
	set_masked(vcpu, state, APIC_LVT_LINT1, 0x7ff | 0xa000 | APIC_LVT_MASKED);
	set_masked(vcpu, state, APIC_LVT_ERROR, 0xff | APIC_LVT_MASKED);
	set_masked(vcpu, state, APIC_TMICT, 0xffffffff);
	set_masked(vcpu, state, APIC_TDCR, 0xb);
	lapic->timer_guest_deadline = guest_deadline;
	lapic_timer_restore(vcpu, get(state, APIC_TMCCT));
	return 0;
}
