// SPDX-License-Identifier: GPL-2.0-or-later
#include "lapic_regs.h"

#include <errno.h>
#include <string.h>

#include "cpuid.h"
#include "routing.h"

/*
 * The heart of the local APIC: its modes, its priorities, IRR and ISR, EOI. The registers are in lapic_access.c,
 * the timer in lapic_timer.c, messages between APICs in apic_bus.c.
 */

static void any_update(const struct lapic *lapic, uint32_t base, uint8_t vector, uint8_t *any)
{
	uint8_t bit = 1 << (vector >> 5);

	if (lapic_reg(lapic, lapic_vector_reg(base, vector)))
		*any |= bit;
	else
		*any &= ~bit;
}

static void vector_set(struct lapic *lapic, uint32_t base, uint8_t vector)
{
	uint32_t offset = lapic_vector_reg(base, vector);

	lapic_set_reg(lapic, offset, lapic_reg(lapic, offset) | 1u << (vector & 31));
}

static void vector_clear(struct lapic *lapic, uint32_t base, uint8_t vector)
{
	uint32_t offset = lapic_vector_reg(base, vector);

	lapic_set_reg(lapic, offset, lapic_reg(lapic, offset) & ~(1u << (vector & 31)));
}

void lapic_set_irr(struct lapic *lapic, uint8_t vector, bool level)
{
	vector_set(lapic, APIC_IRR, vector);
	lapic->irr_any |= 1 << (vector >> 5);
	if (level)
		vector_set(lapic, APIC_TMR, vector);
	else
		vector_clear(lapic, APIC_TMR, vector);
}

/* ---- requests from other threads ---- */

void lapic_request(struct vcpu *vcpu, uint8_t vector, bool level)
{
	struct lapic *lapic = &vcpu->lapic;
	uint64_t bit = 1ull << (vector & 63);
	unsigned int word = vector >> 6;

	if (!lapic_sw_enabled(lapic))
		return;
	if (vector < 16) {
		atomic_fetch_or(&lapic->error_request, APIC_ESR_RECEIVE_ILLEGAL);
		atomic_store(&lapic->request_any, 1);
		vcpu_notify(vcpu, VCPU_REQ_EVENT);
		return;
	}
	if (level)
		atomic_fetch_or(&lapic->request_level[word], bit);
	else if (atomic_load_explicit(&lapic->request_level[word], memory_order_relaxed) & bit)
		atomic_fetch_and(&lapic->request_level[word], ~bit);
	if (atomic_fetch_or(&lapic->request[word], bit) & bit)
		return; /* whoever set it has notified, or is about to */
	/* After the bit: the reader clears request_any before it takes the bits, so one of both is always seen. */
	atomic_store(&lapic->request_any, 1);
	vcpu_notify(vcpu, VCPU_REQ_EVENT);
}

static void merge_word(struct lapic *lapic, unsigned int word)
{
	uint64_t bits, level;

	if (!atomic_load_explicit(&lapic->request[word], memory_order_relaxed))
		return;
	bits = atomic_exchange(&lapic->request[word], 0);
	level = atomic_load(&lapic->request_level[word]) & bits;
	if (level)
		atomic_fetch_and(&lapic->request_level[word], ~level);
	while (bits) {
		unsigned int n = __builtin_ctzll(bits);

		bits &= bits - 1;
		lapic_set_irr(lapic, word * 64 + n, level >> n & 1);
	}
}

void lapic_merge_requests(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t errors;

	if (!atomic_load_explicit(&lapic->request_any, memory_order_relaxed))
		return;
	atomic_exchange(&lapic->request_any, 0);
	for (unsigned int word = 0; word < 4; word++)
		merge_word(lapic, word);
	errors = atomic_exchange(&lapic->error_request, 0);
	if (errors)
		lapic_error(vcpu, errors);
}

static void requests_drop(struct lapic *lapic)
{
	atomic_store(&lapic->request_any, 0);
	for (unsigned int word = 0; word < 4; word++) {
		atomic_store(&lapic->request[word], 0);
		atomic_store(&lapic->request_level[word], 0);
	}
	atomic_store(&lapic->error_request, 0);
}

/* ---- errors and local interrupts ---- */

/* SDM 3A 11.5.3: bits gather behind ESR and are moved into it by a write. */
void lapic_error(struct vcpu *vcpu, uint32_t bits)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t lvt = lapic_reg(lapic, APIC_LVT_ERROR);

	lapic->error_next |= bits;
	if (lvt & APIC_LVT_MASKED || !lapic_sw_enabled(lapic))
		return;
	/* An illegal vector in LVT error itself would be an error again: it only leaves its bit. */
	if ((lvt & 0xff) < 16)
		lapic->error_next |= APIC_ESR_RECEIVE_ILLEGAL;
	else
		lapic_set_irr(lapic, lvt & 0xff, false);
}

/* An interrupt of the local APIC's own: the timer. (LINT pins, thermal and performance events have no source.) */
void lapic_local_deliver(struct vcpu *vcpu, uint32_t offset)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t lvt = lapic_reg(lapic, offset);

	if (lvt & APIC_LVT_MASKED || !lapic_is_enabled(lapic))
		return;
	if ((lvt & 0xff) < 16)
		lapic_error(vcpu, APIC_ESR_RECEIVE_ILLEGAL);
	else
		lapic_set_irr(lapic, lvt & 0xff, false);
}

/* ---- priorities: SDM 3A 11.8.3 ---- */

uint32_t lapic_ppr(const struct lapic *lapic)
{
	uint32_t tpr = lapic_reg(lapic, APIC_TPR) & 0xff; /* once: the hardware writes it too */
	int isr = lapic_highest(lapic, APIC_ISR, lapic->isr_any);
	uint32_t class = isr < 0 ? 0 : isr & 0xf0;

	return (tpr & 0xf0) >= class ? tpr : class;
}

int lapic_pending(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	int vector;

	lapic_merge_requests(vcpu);
	if (!lapic->irr_any || !lapic->enabled)
		return -1;
	/* An interrupt waits for the EOI: the guest must not skip it any more. */
	if (lapic->pv_eoi_pending)
		lapic_pv_eoi_cancel(vcpu);
	vector = lapic_highest(lapic, APIC_IRR, lapic->irr_any);
	return (vector & 0xf0) > (int)(lapic_ppr(lapic) & 0xf0) ? vector : -1;
}

uint64_t lapic_get_tpr(struct vcpu *vcpu)
{
	return lapic_reg(&vcpu->lapic, APIC_TPR) >> 4 & 0xf;
}

void lapic_set_tpr(struct vcpu *vcpu, uint64_t cr8)
{
	lapic_set_reg(&vcpu->lapic, APIC_TPR, (cr8 & 0xf) << 4);
}

/* SDM 3C 30.1.2: an exit is due once the TPR falls below the class of the highest interrupt that waits. */
uint32_t lapic_tpr_threshold(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t class;

	if (!lapic->irr_any || !lapic->enabled)
		return 0;
	class = lapic_highest(lapic, APIC_IRR, lapic->irr_any) >> 4;
	return lapic_get_tpr(vcpu) < class ? 0 : class;
}

bool lapic_accepts_pic(struct vcpu *vcpu)
{
	uint32_t lvt = lapic_reg(&vcpu->lapic, APIC_LVT_LINT0);

	return !vcpu->lapic.enabled || (!(lvt & APIC_LVT_MASKED) && (lvt >> 8 & 7) == APIC_EXTINT);
}

/* ---- PV EOI: one bit in guest memory that says "no EOI needed"; the guest clears it instead of writing EOI ---- */

static uint8_t *pv_eoi_byte(struct vcpu *vcpu, uint64_t gpa)
{
	return vm_gpa_to_hva(vcpu->vm, gpa, 4, true);
}

/* SDM 3A 11.8.5: the EOI is sent on for level-triggered interrupts, unless the guest suppresses that. The I/O APIC here wants
 * to hear of some others, too. */
static bool eoi_leaves(const struct vcpu *vcpu, uint8_t vector)
{
	const struct lapic *lapic = &vcpu->lapic;

	return lapic->eoi_exit[vector >> 6] >> (vector & 63) & 1 &&
	       (vcpu->vm->irqchip || lapic_vector_test(lapic, APIC_TMR, vector));
}

static void pv_eoi_offer(struct vcpu *vcpu, uint8_t vector)
{
	struct lapic *lapic = &vcpu->lapic;
	uint64_t gpa = lapic->pv_eoi_msr & ~3ull;
	uint8_t *byte;

	/* Another vector in IRR or ISR needs a look at this EOI, and so does an I/O APIC. */
	if (lapic->irr_any || eoi_leaves(vcpu, vector) || lapic->isr_any & (lapic->isr_any - 1))
		return;
	vm_read_lock(vcpu->vm);
	byte = pv_eoi_byte(vcpu, gpa);
	if (byte) {
		__atomic_store_n(byte, __atomic_load_n(byte, __ATOMIC_RELAXED) | 1, __ATOMIC_RELAXED);
		lapic->pv_eoi_pending = true;
		lapic->pv_eoi_gpa = gpa;
	}
	vm_read_unlock(vcpu->vm);
}

static void isr_end(struct lapic *lapic, uint8_t vector)
{
	vector_clear(lapic, APIC_ISR, vector);
	any_update(lapic, APIC_ISR, vector, &lapic->isr_any);
}

/* clear: take the offer back if it still stands. */
static void pv_eoi_look(struct vcpu *vcpu, bool clear)
{
	struct lapic *lapic = &vcpu->lapic;
	bool standing = true; /* memory that is gone: the guest cannot have used it */
	uint8_t *byte, value;
	int vector;

	vm_read_lock(vcpu->vm);
	byte = pv_eoi_byte(vcpu, lapic->pv_eoi_gpa);
	if (byte) {
		value = __atomic_load_n(byte, __ATOMIC_RELAXED);
		standing = value & 1;
		if (standing && clear)
			__atomic_store_n(byte, value & ~1, __ATOMIC_RELAXED);
	}
	vm_read_unlock(vcpu->vm);
	if (standing && !clear && byte)
		return;
	lapic->pv_eoi_pending = false;
	vector = lapic_highest(lapic, APIC_ISR, lapic->isr_any);
	if (!standing && vector >= 0)
		isr_end(lapic, vector);
}

void lapic_pv_eoi_sync(struct vcpu *vcpu)
{
	if (vcpu->lapic.pv_eoi_pending)
		pv_eoi_look(vcpu, false);
}

void lapic_pv_eoi_cancel(struct vcpu *vcpu)
{
	if (vcpu->lapic.pv_eoi_pending)
		pv_eoi_look(vcpu, true);
}

/* ---- from IRR to ISR to EOI ---- */

void lapic_accept(struct vcpu *vcpu, uint8_t vector)
{
	struct lapic *lapic = &vcpu->lapic;
	uint32_t offset = lapic_vector_reg(APIC_ISR, vector);
	bool alone = !lapic->isr_any;

	if (lapic->pv_eoi_pending)
		lapic_pv_eoi_cancel(vcpu);
	vector_clear(lapic, APIC_IRR, vector);
	any_update(lapic, APIC_IRR, vector, &lapic->irr_any);
	lapic_set_reg(lapic, offset, lapic_reg(lapic, offset) | 1u << (vector & 31));
	lapic->isr_any |= 1 << (vector >> 5);
	if (lapic->pv_eoi_msr & 1 && alone)
		pv_eoi_offer(vcpu, vector);
}

int lapic_eoi(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	int vector;

	/* The bit may still stand when the guest writes EOI all the same: then this write is the EOI. */
	if (lapic->pv_eoi_pending)
		lapic_pv_eoi_cancel(vcpu);
	vector = lapic_highest(lapic, APIC_ISR, lapic->isr_any);
	if (vector < 0)
		return 0;
	isr_end(lapic, vector);
	if (!eoi_leaves(vcpu, vector) || lapic_reg(lapic, APIC_SVR) & APIC_SVR_DIRECTED_EOI)
		return 0;
	if (vcpu->vm->irqchip) {
		irqchip_eoi(vcpu, vector, lapic_vector_test(lapic, APIC_TMR, vector));
		return 0;
	}
	vcpu->kvm->exit_reason = KVM_EXIT_IOAPIC_EOI;
	vcpu->kvm->eoi.vector = vector;
	lapic->eoi_exit_pending = true;
	return 1;
}

bool lapic_eoi_exit_pending(struct vcpu *vcpu)
{
	bool pending = vcpu->lapic.eoi_exit_pending;

	vcpu->lapic.eoi_exit_pending = false;
	return pending;
}

/* ---- modes and reset ---- */

static void mode_set(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;
	/* Without a split irqchip the APICs are the VMM's. */
	bool enabled = vm_has_lapics(vcpu->vm) && vcpu->apic_base & APIC_BASE_ENABLE;

	__atomic_store_n(&lapic->enabled, enabled, __ATOMIC_RELAXED);
	__atomic_store_n(&lapic->x2apic, enabled && vcpu->apic_base & APIC_BASE_X2APIC, __ATOMIC_RELAXED);
}

static void id_set(struct vcpu *vcpu)
{
	uint32_t id = vcpu->id;

	if (vcpu->lapic.x2apic) {
		lapic_set_reg(&vcpu->lapic, APIC_ID, id);
		lapic_set_reg(&vcpu->lapic, APIC_LDR, (id >> 4) << 16 | 1u << (id & 15));
	} else {
		lapic_set_reg(&vcpu->lapic, APIC_ID, id << 24);
	}
}

/* SDM 3A 11.4.7.1, 11.4.7.3: all but the APIC ID, which INIT keeps. */
void lapic_registers_reset(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;

	lapic_pv_eoi_cancel(vcpu);
	lapic_timer_stop(lapic);
	for (uint32_t offset = 0; offset < 4096; offset += 4) /* senders look at some of them meanwhile */
		if (offset != APIC_ID)
			lapic_set_reg(lapic, offset, 0);
	lapic_set_reg(lapic, APIC_DFR, 0xffffffff);
	lapic_set_reg(lapic, APIC_SVR, 0xff);
	for (uint32_t offset = APIC_LVT_TIMER; offset <= APIC_LVT_ERROR; offset += 16)
		lapic_set_reg(lapic, offset, APIC_LVT_MASKED);
	/* As KVM by default: firmware that never programs LINT0 still gets the PIC's interrupts. */
	if (vcpu->apic_base & APIC_BASE_BSP)
		lapic_set_reg(lapic, APIC_LVT_LINT0, APIC_EXTINT << 8);
	lapic->irr_any = 0;
	lapic->isr_any = 0;
	lapic->error_next = 0;
	lapic->eoi_exit_pending = false;
	lapic->timer_mode = 0;
	lapic->timer_divide = 2;
	requests_drop(lapic);
}

void lapic_reset(struct vcpu *vcpu, bool init)
{
	struct lapic *lapic = &vcpu->lapic;

	if (!init) {
		/* which vCPU boots is the core's business */
		vcpu->apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (vcpu->apic_base & APIC_BASE_BSP);
		atomic_store(&lapic->init_pending, 0);
		atomic_store(&lapic->sipi_vector, 0);
	}
	mode_set(vcpu);
	lapic_registers_reset(vcpu);
	lapic->pv_eoi_msr = 0;
	if (!init || lapic->x2apic)
		id_set(vcpu);
	routing_scan_eoi(vcpu);
}

/* SDM 3A figure 11-27: x2APIC is left through "disabled" only and entered from xAPIC only. */
int lapic_check_base(struct vcpu *vcpu, uint64_t apic_base, bool host)
{
	uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
	uint64_t old = vcpu->apic_base & modes, new = apic_base &modes;
	uint64_t reserved = 0x2ff;

	/* cpuid_set() derives it; before KVM_SET_CPUID2 an address has the architecture's 36 bits */
	reserved |= ~0ull << (vcpu->maxphyaddr >= 32 && vcpu->maxphyaddr <= 52 ? vcpu->maxphyaddr : 36);
	if (!cpuid_has(vcpu, 1, 0, 2, 21))
		reserved |= APIC_BASE_X2APIC;
	if (apic_base & reserved || new == APIC_BASE_X2APIC)
		return -EINVAL;
	if (host)
		return 0;
	if (old == modes && new == APIC_BASE_ENABLE)
		return -EINVAL;
	if (!old && new == modes)
		return -EINVAL;
	return 0;
}

void lapic_set_base(struct vcpu *vcpu, uint64_t apic_base)
{
	struct lapic *lapic = &vcpu->lapic;
	bool was_enabled = lapic->enabled, was_x2apic = lapic->x2apic;

	vcpu->apic_base = apic_base;
	answers_update(vcpu);
	mode_set(vcpu);
	/* Switched off: it comes back as after power-up (SDM 3A 11.4.3). */
	if (was_enabled && !lapic->enabled)
		lapic_registers_reset(vcpu);
	if (was_enabled == lapic->enabled && was_x2apic == lapic->x2apic)
		return;
	id_set(vcpu);
	if (lapic->x2apic)
		lapic_set_reg(lapic, APIC_ICR2, 0);
}
