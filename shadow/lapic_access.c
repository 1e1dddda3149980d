// SPDX-License-Identifier: GPL-2.0-or-later
#include "lapic_regs.h"

#include <string.h>

#include "cpuid.h"
#include "fault.h"
#include "routing.h"

/* The register file as the guest sees it: the xAPIC's page and the x2APIC's MSRs. SDM 3A 11.4.1, 11.12.1. */

struct lvt {
	uint32_t writable;  /* bits kept */
	uint32_t read_only; /* bits that x2APIC mode ignores instead of refusing */
};

/* In the order of their offsets. */
static const struct lvt lvts[] = {
	{ 0xff | APIC_LVT_MASKED | APIC_TIMER_MODE, APIC_LVT_STATUS },		     /* timer */
	{ 0x7ff | APIC_LVT_MASKED, APIC_LVT_STATUS },				     /* thermal */
	{ 0x7ff | APIC_LVT_MASKED, APIC_LVT_STATUS },				     /* performance counters */
	{ 0x7ff | 0xa000 | APIC_LVT_MASKED, APIC_LVT_STATUS | APIC_LVT_REMOTE_IRR }, /* LINT0 */
	{ 0x7ff | 0xa000 | APIC_LVT_MASKED, APIC_LVT_STATUS | APIC_LVT_REMOTE_IRR }, /* LINT1 */
	{ 0xff | APIC_LVT_MASKED, APIC_LVT_STATUS },				     /* error */
};

uint32_t lapic_version(struct vcpu *vcpu)
{
	uint32_t version = APIC_VERSION_VALUE;

	/* The VMM's I/O APIC has an EOI register; x2APIC tells the guest that it may rely on it, as on KVM. */
	if (vcpu->vm->split_irqchip && cpuid_has(vcpu, 1, 0, 2, 21))
		version |= APIC_VERSION_DIRECTED_EOI;
	return version;
}

/* ---- one register ---- */

int lapic_register_read(struct vcpu *vcpu, uint32_t offset, uint32_t *value)
{
	struct lapic *lapic = &vcpu->lapic;

	*value = 0;
	switch (offset) {
	case APIC_VERSION:
		*value = lapic_version(vcpu);
		return 0;
	case APIC_TPR:
		*value = lapic_reg(lapic, offset) & 0xff;
		return 0;
	case APIC_PPR:
		*value = lapic_ppr(lapic);
		return 0;
	case APIC_IRR ... APIC_IRR + 0x70:
		lapic_merge_requests(vcpu);
		*value = lapic_reg(lapic, offset);
		return 0;
	case APIC_TMCCT:
		*value = lapic_timer_count(vcpu);
		return 0;
	case APIC_ID:
	case APIC_LDR:
	case APIC_SVR:
	case APIC_ISR ... APIC_ISR + 0x70:
	case APIC_TMR ... APIC_TMR + 0x70:
	case APIC_ESR:
	case APIC_ICR:
	case APIC_LVT_TIMER:
	case APIC_LVT_THERMAL:
	case APIC_LVT_PERF:
	case APIC_LVT_LINT0:
	case APIC_LVT_LINT1:
	case APIC_LVT_ERROR:
	case APIC_TMICT:
	case APIC_TDCR:
		*value = lapic_reg(lapic, offset);
		return 0;
	case APIC_DFR:
	case APIC_ICR2:
		if (lapic->x2apic)
			return -1;
		*value = lapic_reg(lapic, offset);
		return 0;
	case APIC_APR: /* not in this version of the APIC: reads 0 */
	case APIC_EOI:
	case APIC_RRD:
		return lapic->x2apic ? -1 : 0;
	default:
		FAULT_RETURN(lapic_read, lapic, value, offset);
		return -1;
	}
}

static int lvt_write(struct vcpu *vcpu, uint32_t offset, uint32_t value)
{
	struct lapic *lapic = &vcpu->lapic;
	const struct lvt *lvt = &lvts[(offset - APIC_LVT_TIMER) / 16];
	uint32_t writable = lvt->writable;

	/* The deadline mode is there when CPUID says so (SDM 3A 11.5.4.1). */
	if (offset == APIC_LVT_TIMER && !cpuid_has(vcpu, 1, 0, 2, 24))
		writable &= ~APIC_TIMER_DEADLINE;
	if (lapic->x2apic && value & ~(writable | lvt->read_only))
		return -1;
	value &= writable;
	if (!lapic_sw_enabled(lapic))
		value |= APIC_LVT_MASKED; /* SDM 3A 11.4.7.2 */
	lapic_set_reg(lapic, offset, value);
	if (offset == APIC_LVT_TIMER)
		lapic_timer_lvt_written(vcpu);
	return 0;
}

static int svr_write(struct vcpu *vcpu, uint32_t value)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t writable = 0xff | APIC_SVR_ENABLE | APIC_SVR_FOCUS;

	if (lapic_version(vcpu) & APIC_VERSION_DIRECTED_EOI)
		writable |= APIC_SVR_DIRECTED_EOI;
	if (lapic->x2apic && value & ~writable)
		return -1;
	lapic_set_reg(lapic, APIC_SVR, value & writable);
	if (value & APIC_SVR_ENABLE)
		return 0;
	for (uint32_t offset = APIC_LVT_TIMER; offset <= APIC_LVT_ERROR; offset += 16)
		lapic_set_reg(lapic, offset, lapic_reg(lapic, offset) | APIC_LVT_MASKED);
	return 0;
}

static void esr_write(struct vcpu *vcpu)
{
	lapic_merge_requests(vcpu); /* errors of other threads' making */
	lapic_set_reg(&vcpu->lapic, APIC_ESR, vcpu->lapic.error_next);
	vcpu->lapic.error_next = 0;
}

/* Registers that only the xAPIC lets the guest write. */
static int xapic_write(struct vcpu *vcpu, uint32_t offset, uint32_t value)
{
	struct lapic *lapic = &vcpu->lapic;

	FAULT_POINT(lapic_write, lapic, &value, offset);
	if (lapic->x2apic)
		return -1;
	switch (offset) {
	case APIC_ID:
	case APIC_LDR:
	case APIC_ICR2:
		lapic_set_reg(lapic, offset, value & 0xff000000);
		return 0;
	case APIC_DFR:
		lapic_set_reg(lapic, offset, value | 0x0fffffff);
		return 0;
	case APIC_VERSION: /* read-only: ignored */
	case APIC_APR:
	case APIC_PPR:
	case APIC_RRD:
	case APIC_ISR ... APIC_ISR + 0x70:
	case APIC_TMR ... APIC_TMR + 0x70:
	case APIC_IRR ... APIC_IRR + 0x70:
	case APIC_TMCCT:
		return 0;
	default:
		return -1;
	}
}

int lapic_register_write(struct vcpu *vcpu, uint32_t offset, uint32_t value)
{
	struct lapic *lapic = &vcpu->lapic;

	switch (offset) {
	case APIC_EOI:
		if (lapic->x2apic && value)
			return -1;
		return lapic_eoi(vcpu);
	case APIC_TPR:
		if (lapic->x2apic && value & ~0xffu)
			return -1;
		lapic_set_reg(lapic, APIC_TPR, value & 0xff);
		return 0;
	case APIC_SVR:
		return svr_write(vcpu, value);
	case APIC_ESR:
		if (lapic->x2apic && value)
			return -1;
		esr_write(vcpu);
		return 0;
	case APIC_ICR: /* the x2APIC's whole ICR: lapic_msr_write() */
		value &= ~APIC_ICR_BUSY;
		lapic_set_reg(lapic, APIC_ICR, value);
		lapic_send_icr(vcpu, lapic_reg(lapic, APIC_ICR2) >> 24, value);
		return 0;
	case APIC_LVT_TIMER:
	case APIC_LVT_THERMAL:
	case APIC_LVT_PERF:
	case APIC_LVT_LINT0:
	case APIC_LVT_LINT1:
	case APIC_LVT_ERROR:
		return lvt_write(vcpu, offset, value);
	case APIC_TMICT:
		lapic_timer_count_written(vcpu, value);
		return 0;
	case APIC_TDCR:
		if (lapic->x2apic && value & ~0xbu)
			return -1;
		lapic_timer_divide_written(vcpu, value & 0xb);
		return 0;
	default:
		return xapic_write(vcpu, offset, value);
	}
}

/* ---- the page ---- */

bool lapic_mmio_read(struct vcpu *vcpu, uint32_t offset, uint32_t len, void *data)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t value, shift = offset & 15;
	uint8_t bytes[8] = { 0 };

	if (!len || len > 8)
		return false;
	memset(data, 0, len);
	if (offset > 4095 || !lapic->enabled || lapic->x2apic)
		return false;
	/* Other accesses than aligned 32-bit ones are undefined (SDM 3A 11.4.1): what lies outside the register reads 0. */
	if (shift > 3)
		return true;
	if (lapic_register_read(vcpu, offset & ~15u, &value)) {
		lapic_error(vcpu, APIC_ESR_REGISTER);
		return true;
	}
	memcpy(bytes, &value, 4);
	memcpy(data, bytes + shift, len < 4 - shift ? len : 4 - shift);
	return true;
}

bool lapic_mmio_write(struct vcpu *vcpu, uint32_t offset, uint32_t len, const void *data)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t value;

	if (offset > 4095 || !lapic->enabled || lapic->x2apic)
		return false;
	if (len != 4 || offset & 15)
		return true; /* undefined: ignored */
	memcpy(&value, data, 4);
	if (lapic_register_write(vcpu, offset, value) < 0)
		lapic_error(vcpu, APIC_ESR_REGISTER);
	return true;
}

/* ---- the MSRs ---- */

int lapic_msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t low = 0;

	*value = 0;
	if (msr == MSR_TSC_DEADLINE) {
		if (lapic->timer_mode == APIC_TIMER_DEADLINE)
			*value = lapic->timer_guest_deadline;
		return 0;
	}
	if (!lapic->x2apic || msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff)
		return -1;
	if (lapic_register_read(vcpu, (msr - MSR_X2APIC) << 4, &low))
		return -1;
	*value = low;
	if (msr == MSR_X2APIC + APIC_ICR / 16)
		*value |= (uint64_t)lapic_reg(lapic, APIC_ICR2) << 32;
	return 0;
}

/* SDM 3A 11.12.9. The destination is the whole high half. */
static int x2apic_icr_write(struct vcpu *vcpu, uint64_t value)
{
	uint32_t icr = value;

	if (icr & 0xfff32000)
		return -1;
	icr &= ~APIC_ICR_BUSY;
	lapic_set_reg(&vcpu->lapic, APIC_ICR2, value >> 32);
	lapic_set_reg(&vcpu->lapic, APIC_ICR, icr);
	lapic_send_icr(vcpu, value >> 32, icr);
	return 0;
}

int lapic_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	struct lapic *lapic = &vcpu->lapic;
	int ret;

	if (msr == MSR_TSC_DEADLINE) {
		lapic_timer_set_deadline(vcpu, value);
		return 0;
	}
	if (!lapic->x2apic)
		return -1;
	if (msr == MSR_X2APIC + APIC_EOI / 16) {
		if (value)
			return -1;
		ret = lapic_eoi(vcpu);
		lapic->eoi_exit_pending = false; /* told by the result */
		return ret;
	}
	if (msr == MSR_X2APIC + APIC_ICR / 16)
		return x2apic_icr_write(vcpu, value);
	if (msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff || value >> 32)
		return -1;
	if (msr == MSR_X2APIC + APIC_SELF_IPI / 16) {
		if (value & ~0xffull)
			return -1;
		lapic_send_icr(vcpu, 0, (1u << 18) | (uint32_t)value);
		return 0;
	}
	return lapic_register_write(vcpu, (msr - MSR_X2APIC) << 4, value);
}
