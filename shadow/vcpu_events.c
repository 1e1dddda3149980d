// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_GET/SET_VCPU_EVENTS, MP_STATE, KVM_INTERRUPT, KVM_NMI, KVM_SET_GUEST_DEBUG */
#include <errno.h>
#include <string.h>

#include "core.h"
#include "fault.h"
#include "vcpu_state.h"

#define EVENTS_KNOWN                                                                                      \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW | \
	 KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

/* ---- NMI blocking: VMX keeps it in the interrupt shadow, for SVM the shadow keeps it itself ---- */

bool state_nmi_blocked(const struct vcpu *vcpu)
{
	return vcpu->svm ? vcpu->nmi_blocked : !!(vcpu->run->intr_shadow & UMBRA_SHADOW_NMI);
}

void state_block_nmi(struct vcpu *vcpu, bool blocked)
{
	uint32_t shadow;

	if (vcpu->svm) {
		vcpu->nmi_blocked = blocked;
		return;
	}
	vcpu_fetch(vcpu, UMBRA_STATE_INTR);
	shadow = vcpu->run->intr_shadow & ~(uint32_t)UMBRA_SHADOW_NMI;
	if (blocked)
		shadow |= UMBRA_SHADOW_NMI;
	if (shadow == vcpu->run->intr_shadow)
		return;
	vcpu->run->intr_shadow = shadow;
	vcpu_dirty(vcpu, UMBRA_STATE_INTR);
}

/* ---- KVM_GET/SET_VCPU_EVENTS ---- */

/* #BP and #OF come again when their instruction does. */
static bool exception_soft(const struct pending_exception *e)
{
	return e->vector == EXC_BP || e->vector == EXC_OF;
}

/* A VMM that has not asked for payloads finds what they stand for in CR2 and DR6. */
static void deliver_payload(struct vcpu *vcpu)
{
	struct pending_exception *e = &vcpu->exception;

	if (e->vector == EXC_PF)
		vcpu->run->cr2 = e->payload;
	else if (e->vector == EXC_DB)
		vcpu->dr6 = (vcpu->dr6 & ~15ull) | X86_DR6_ACTIVE_LOW | e->payload;
	e->has_payload = false;
	e->payload = 0;
}

static void get_exception(struct vcpu *vcpu, struct kvm_vcpu_events *events)
{
	struct pending_exception *e = &vcpu->exception;
	bool payload = vcpu->vm->exception_payload;

	if (!payload && e->pending && e->has_payload)
		deliver_payload(vcpu);
	if (!exception_soft(e)) {
		events->exception.injected = e->injected || (!payload && e->pending);
		events->exception.pending = payload && e->pending;
	}
	events->exception.nr = e->vector;
	events->exception.has_error_code = e->has_error_code;
	events->exception.error_code = e->error_code;
	if (payload) {
		events->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
		events->exception_has_payload = e->has_payload;
		events->exception_payload = e->payload;
	}
}

static uint8_t get_shadow(const struct vcpu *vcpu)
{
	uint32_t shadow = vcpu->run->intr_shadow;

	/* SVM has one bit for both. */
	if (vcpu->svm && shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS))
		return KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS;
	return (shadow & UMBRA_SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0) |
	       (shadow & UMBRA_SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
}

int state_get_events(struct vcpu *vcpu, struct kvm_vcpu_events *events)
{
	vcpu_fetch(vcpu, UMBRA_STATE_INTR);
	memset(events, 0, sizeof(*events));
	events->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	get_exception(vcpu, events);
	events->interrupt.injected = vcpu->interrupt.injected && !vcpu->interrupt.soft;
	events->interrupt.nr = vcpu->interrupt.vector;
	events->interrupt.shadow = get_shadow(vcpu);
	/* One that another thread has announced counts too. */
	if (atomic_load(&vcpu->requests) & VCPU_REQ_NMI) {
		atomic_fetch_and(&vcpu->requests, ~(unsigned int)VCPU_REQ_NMI);
		state_nmi(vcpu);
	}
	events->nmi.injected = vcpu->nmi_injected;
	events->nmi.pending = vcpu->nmi_pending != 0;
	events->nmi.masked = state_nmi_blocked(vcpu);
	events->smi.latched_init = vm_has_lapics(vcpu->vm) && atomic_load(&vcpu->lapic.init_pending);
	if (vcpu->vm->triple_fault_event) {
		events->triple_fault.pending = vcpu->triple_fault;
		events->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	FAULT_POINT(get_events, vcpu, events, sizeof(*events));
	return 0;
}

static int check_events(struct vcpu *vcpu, const struct kvm_vcpu_events *events, bool pending)
{
	if (events->flags & ~(__u32)EVENTS_KNOWN)
		return -EINVAL;
	if (events->flags & KVM_VCPUEVENT_VALID_PAYLOAD && !vcpu->vm->exception_payload)
		return -EINVAL;
	if (events->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && !vcpu->vm->triple_fault_event)
		return -EINVAL;
	if ((events->exception.injected || pending) && (events->exception.nr > 31 || events->exception.nr == 2))
		return -EINVAL;
	/* There is no SMM. */
	if (events->flags & KVM_VCPUEVENT_VALID_SMM &&
	    (events->smi.smm || events->smi.pending || events->smi.smm_inside_nmi))
		return -EINVAL;
	return 0;
}

static void set_exception(struct vcpu *vcpu, const struct kvm_vcpu_events *events, bool pending)
{
	bool payload = events->flags & KVM_VCPUEVENT_VALID_PAYLOAD && pending && events->exception_has_payload;

	vcpu->exception = (struct pending_exception) {
		.injected = events->exception.injected && !pending,
		.pending = pending,
		.vector = events->exception.nr & 31,
		.has_error_code = events->exception.has_error_code,
		.error_code = events->exception.error_code,
		.has_payload = payload,
		.payload = payload ? events->exception_payload : 0,
	};
}

static void set_shadow(struct vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	uint32_t shadow = vcpu->run->intr_shadow;

	if (events->flags & KVM_VCPUEVENT_VALID_SHADOW) {
		shadow &= UMBRA_SHADOW_NMI;
		if (events->interrupt.shadow & KVM_X86_SHADOW_INT_STI)
			shadow |= UMBRA_SHADOW_STI;
		/* Hardware never has both. (SDM 3C 27.3.1.5) */
		else if (events->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS)
			shadow |= UMBRA_SHADOW_MOV_SS;
	}
	if (shadow != vcpu->run->intr_shadow) {
		vcpu->run->intr_shadow = shadow;
		vcpu_dirty(vcpu, UMBRA_STATE_INTR);
	}
}

int state_set_events(struct vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	bool pending = events->flags & KVM_VCPUEVENT_VALID_PAYLOAD && events->exception.pending;
	int err = check_events(vcpu, events, pending);

	FAULT_POINT(set_events, vcpu, events, 0);
	if (err)
		return err;
	vcpu_fetch(vcpu, UMBRA_STATE_INTR);
	set_exception(vcpu, events, pending);
	vcpu->interrupt = (struct pending_interrupt) { .injected = events->interrupt.injected,
						       .vector = events->interrupt.nr,
						       .soft = events->interrupt.soft };
	set_shadow(vcpu, events);
	state_block_nmi(vcpu, events->nmi.masked);
	vcpu->nmi_injected = events->nmi.injected;
	if (events->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		vcpu->nmi_pending = events->nmi.pending ? 1 : 0;
	if (events->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && vm_has_lapics(vcpu->vm))
		atomic_store(&vcpu->lapic.sipi_vector, events->sipi_vector & 0xff); /* for KVM_MP_STATE_SIPI_RECEIVED */
	if (events->flags & KVM_VCPUEVENT_VALID_SMM && vm_has_lapics(vcpu->vm))
		atomic_store(&vcpu->lapic.init_pending, events->smi.latched_init ? 1 : 0);
	if (events->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
		vcpu->triple_fault = events->triple_fault.pending;
	return 0;
}

/* ---- multiprocessing state ---- */

int state_get_mp(struct vcpu *vcpu, struct kvm_mp_state *mp)
{
	FAULT_POINT(get_mp_state, vcpu, mp, 0);
	/* What waits for the next KVM_RUN is told as done: INIT and SIPI have no place in what a VMM saves. */
	if (vm_has_lapics(vcpu->vm))
		vcpu_take_init_sipi(vcpu);
	if ((vcpu->mp_state == KVM_MP_STATE_HALTED || vcpu->mp_state == KVM_MP_STATE_AP_RESET_HOLD) &&
	    vcpu_take_unhalt(vcpu))
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	mp->mp_state = vcpu->mp_state;
	return 0;
}

int state_set_mp(struct vcpu *vcpu, const struct kvm_mp_state *mp)
{
	/* Without a LAPIC of its own here, a vCPU has no other state. */
	if (!vm_has_lapics(vcpu->vm) && mp->mp_state != KVM_MP_STATE_RUNNABLE)
		return -EINVAL;
	switch (mp->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_AP_RESET_HOLD: /* AMD's SEV-ES alone; without it the same as halted, as on KVM */
		vcpu->mp_state = mp->mp_state;
		return 0;
	case KVM_MP_STATE_SIPI_RECEIVED: /* the vector is KVM_SET_VCPU_EVENTS' */
		vcpu->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		atomic_fetch_or(&vcpu->lapic.sipi_vector, 0x100);
		return 0;
	default:
		return -EINVAL;
	}
}

/* ---- events by call ---- */

int state_interrupt(struct vcpu *vcpu, uint32_t vector)
{
	if (vector > 255)
		return -EINVAL;
	if (!vm_has_lapics(vcpu->vm)) {
		vcpu->interrupt = (struct pending_interrupt) { .injected = true, .vector = vector };
		return 0;
	}
	if (vcpu->vm->irqchip)
		return -ENXIO; /* the PIC is here: nobody else has such interrupts */
	if (vcpu->user_interrupt >= 0)
		return -EEXIST;
	vcpu->user_interrupt = vector;
	atomic_fetch_or(&vcpu->requests, VCPU_REQ_EVENT);
	return 0;
}

int state_nmi(struct vcpu *vcpu)
{
	if (vcpu->nmi_pending < 2)
		vcpu->nmi_pending++;
	return 0;
}

/* debug.c puts the breakpoints and the single step in place whenever the guest is entered. */
int state_guest_debug(struct vcpu *vcpu, const struct kvm_guest_debug *debug)
{
	const uint32_t known = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP |
			       KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB;

	if (debug->control & ~known)
		return -EINVAL;
	if (debug->control & (KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB)) {
		if (vcpu->exception.pending || vcpu->exception.injected)
			return -EBUSY;
		if (debug->control & KVM_GUESTDBG_INJECT_DB)
			inject_exception(vcpu, EXC_DB);
		else
			inject_soft_exception(vcpu, EXC_BP, UMBRA_EVENT_SOFT_EXC, 1);
	}
	vcpu->guest_debug = debug->control & KVM_GUESTDBG_ENABLE ? debug->control : 0;
	vcpu->guest_debug_regs = debug->arch;
	return 0;
}
