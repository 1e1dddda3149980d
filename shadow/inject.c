// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "core.h"
#include "vcpu.h"

/*
 * Events on their way to the guest. An event is "injected" from the moment it is handed to the shim until an exit shows that its
 * delivery is over; an exit that cut it short brings it back and it is handed in again, before anything new.
 */

/* ---- raising exceptions ---- */

enum exc_class { EXC_BENIGN, EXC_CONTRIBUTORY, EXC_PAGE_FAULT };

static enum exc_class exception_class(uint8_t vector)
{
	switch (vector) {
	case 14: /* #PF */
	case 20: /* #VE */
		return EXC_PAGE_FAULT;
	case 0:	 /* #DE */
	case 10: /* #TS */
	case 11: /* #NP */
	case 12: /* #SS */
	case 13: /* #GP */
	case 21: /* #CP */
		return EXC_CONTRIBUTORY;
	default:
		return EXC_BENIGN;
	}
}

/* A second exception while the first one is on its way. (SDM 3A 6.15, table 6-5) */
static void exception_combine(struct vcpu *vcpu, struct pending_exception *new)
{
	const struct pending_exception *first = &vcpu->exception;
	enum exc_class a = exception_class(first->vector), b = exception_class(new->vector);

	if (first->vector == EXC_DF) {
		vcpu->triple_fault = true;
		*new = (struct pending_exception) { .pending = false };
	} else if ((a == EXC_CONTRIBUTORY && b == EXC_CONTRIBUTORY) || (a == EXC_PAGE_FAULT && b != EXC_BENIGN)) {
		*new = (struct pending_exception) { .pending = true, .vector = EXC_DF, .has_error_code = true };
	}
	/* Else the first one comes again when its instruction does. */
}

static void exception_raise(struct vcpu *vcpu, struct pending_exception new)
{
	new.pending = true;
	if (vcpu->exception.pending || vcpu->exception.injected)
		exception_combine(vcpu, &new);
	vcpu->exception = new;
	/* A software interrupt comes again with its instruction. */
	if (vcpu->interrupt.injected && vcpu->interrupt.soft)
		vcpu->interrupt.injected = false;
}

void inject_exception(struct vcpu *vcpu, uint8_t vector)
{
	exception_raise(vcpu, (struct pending_exception) { .vector = vector });
}

void inject_exception_code(struct vcpu *vcpu, uint8_t vector, uint32_t code)
{
	exception_raise(vcpu,
			(struct pending_exception) { .vector = vector, .has_error_code = true, .error_code = code });
}

void inject_page_fault(struct vcpu *vcpu, uint64_t gva, uint32_t code)
{
	exception_raise(vcpu, (struct pending_exception) { .vector = EXC_PF,
							   .has_error_code = true,
							   .error_code = code,
							   .has_payload = true,
							   .payload = gva });
}

void inject_debug(struct vcpu *vcpu, uint64_t dr6)
{
	exception_raise(vcpu, (struct pending_exception) { .vector = EXC_DB, .has_payload = true, .payload = dr6 });
}

/* INT1, INT3: with the length of the instruction, for the return address. */
void inject_soft_exception(struct vcpu *vcpu, uint8_t vector, uint8_t type, uint8_t insn_len)
{
	exception_raise(vcpu, (struct pending_exception) { .vector = vector, .type = type, .insn_len = insn_len });
}

/* ---- after an exit ---- */

void inject_take_back(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	struct umbra_event event = run->exit.event;

	if (run->inject.flags & UMBRA_EVENT_VALID) {
		/* Nothing was entered: what was handed over is still due. */
		run->inject.flags = 0;
		return;
	}
	vcpu->injecting = false;
	vcpu->exception.injected = false;
	vcpu->interrupt.injected = false;
	vcpu->nmi_injected = false;
	if (!(event.flags & UMBRA_EVENT_VALID))
		return;
	switch (event.type) {
	case UMBRA_EVENT_INTR:
	case UMBRA_EVENT_SOFT_INT:
		vcpu->interrupt = (struct pending_interrupt) {
			.injected = true,
			.soft = event.type == UMBRA_EVENT_SOFT_INT,
			.vector = event.vector,
			.insn_len = event.insn_len,
		};
		break;
	case UMBRA_EVENT_NMI:
		vcpu->nmi_injected = true;
		/* Its delivery blocked NMIs, but it was not delivered. */
		if (run->intr_shadow & UMBRA_SHADOW_NMI) {
			vcpu_fetch(vcpu, UMBRA_STATE_INTR);
			run->intr_shadow &= ~(uint32_t)UMBRA_SHADOW_NMI;
			vcpu_dirty(vcpu, UMBRA_STATE_INTR);
		}
		break;
	case UMBRA_EVENT_EXC:
	case UMBRA_EVENT_SOFT_EXC:
	case UMBRA_EVENT_ICEBP:
		vcpu->exception = (struct pending_exception) {
			.injected = true,
			.vector = event.vector,
			.type = event.type == UMBRA_EVENT_EXC ? 0 : event.type,
			.insn_len = event.insn_len,
			.has_error_code = event.flags & UMBRA_EVENT_ERROR_CODE,
			.error_code = event.error_code,
		};
		break;
	}
}

/* ---- before an entry ---- */

static bool handed_over(const struct vcpu *vcpu)
{
	return vcpu->run->inject.flags & UMBRA_EVENT_VALID;
}

static void hand_over(struct vcpu *vcpu, struct umbra_event event)
{
	event.flags |= UMBRA_EVENT_VALID;
	vcpu->run->inject = event;
	vcpu->injecting = true;
}

static void hand_over_exception(struct vcpu *vcpu)
{
	const struct pending_exception *exc = &vcpu->exception;
	/* Real mode pushes no error codes and VM entry refuses them. (SDM 3C 27.2.1.3) */
	bool code = exc->has_error_code && (vcpu->run->cr0 & X86_CR0_PE);

	hand_over(vcpu, (struct umbra_event) {
				.vector = exc->vector,
				.type = exc->type ? exc->type : UMBRA_EVENT_EXC,
				.flags = code ? UMBRA_EVENT_ERROR_CODE : 0,
				.insn_len = exc->type ? exc->insn_len : 0,
				.error_code = code ? exc->error_code : 0,
			});
}

static void hand_over_interrupt(struct vcpu *vcpu)
{
	hand_over(vcpu, (struct umbra_event) {
				.vector = vcpu->interrupt.vector,
				.type = vcpu->interrupt.soft ? UMBRA_EVENT_SOFT_INT : UMBRA_EVENT_INTR,
				.insn_len = vcpu->interrupt.soft ? vcpu->interrupt.insn_len : 0,
			});
}

/* The side effects of an exception's delivery that the CPU leaves to who injects it. */
static void exception_deliver(struct vcpu *vcpu)
{
	struct pending_exception *exc = &vcpu->exception;
	struct umbra_run *run = vcpu->run;

	exc->pending = false;
	exc->injected = true;
	if (exc->vector == EXC_DB) {
		if (exc->has_payload)
			vcpu->dr6 = ((vcpu->dr6 & ~0xfULL) | X86_DR6_ACTIVE_LOW | (exc->payload & ~(1ULL << 12))) ^
				    (exc->payload & X86_DR6_ACTIVE_LOW & ~(1ULL << 12));
		vcpu_fetch(vcpu, UMBRA_STATE_DR);
		if (run->dr7 & X86_DR7_GD) {
			run->dr7 &= ~X86_DR7_GD;
			vcpu_dirty(vcpu, UMBRA_STATE_DR);
		}
	} else if (exc->vector == EXC_PF && exc->has_payload) {
		run->cr2 = exc->payload;
	}
	exc->has_payload = false;
	/* Faults save RFLAGS with RF set; traps (#DB, #BP, #OF) and aborts (#DF, #MC) do not. (SDM 3A 6.8.3) */
	if (exc->vector != EXC_DB && exc->vector != EXC_BP && exc->vector != EXC_OF && exc->vector != EXC_DF &&
	    exc->vector != EXC_MC) {
		run->rflags |= X86_RFLAGS_RF;
		vcpu_dirty(vcpu, UMBRA_STATE_RIP);
	}
}

static bool user_interrupt_due(struct vcpu *vcpu)
{
	return vcpu->user_interrupt >= 0 && (!vm_has_lapics(vcpu->vm) || lapic_accepts_pic(vcpu));
}

static bool interrupt_due(struct vcpu *vcpu)
{
	return user_interrupt_due(vcpu) || (vm_has_lapics(vcpu->vm) && lapic_pending(vcpu) >= 0);
}

static bool interrupts_open(const struct vcpu *vcpu)
{
	return (vcpu->run->rflags & X86_RFLAGS_IF) &&
	       !(vcpu->run->intr_shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS)) &&
	       !(vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ);
}

bool inject_can_take_interrupt(struct vcpu *vcpu)
{
	return interrupts_open(vcpu) && !vcpu->exception.pending && !vcpu->exception.injected && !vcpu->nmi_injected &&
	       !vcpu->interrupt.injected;
}

bool vcpu_has_work(struct vcpu *vcpu)
{
	if (vcpu->exception.pending || vcpu->triple_fault)
		return true;
	if (vcpu->nmi_pending && !(vcpu->run->intr_shadow & UMBRA_SHADOW_NMI))
		return true;
	return interrupts_open(vcpu) && interrupt_due(vcpu);
}

static void interrupt_take(struct vcpu *vcpu)
{
	int vector;

	if (user_interrupt_due(vcpu)) { /* ExtINT goes before the LAPIC's own, as in KVM */
		vector = vcpu->user_interrupt;
		vcpu->user_interrupt = -1;
	} else {
		vector = lapic_pending(vcpu);
		lapic_accept(vcpu, (uint8_t)vector);
	}
	vcpu->interrupt = (struct pending_interrupt) { .injected = true, .vector = (uint8_t)vector };
	hand_over_interrupt(vcpu);
}

static void nmi_take(struct vcpu *vcpu)
{
	vcpu->nmi_pending--;
	vcpu->nmi_injected = true;
	hand_over(vcpu, (struct umbra_event) { .vector = 2, .type = UMBRA_EVENT_NMI });
}

/*
 * Order: what was cut short; a new exception, which belongs to the instruction before or at RIP; NMI; interrupt
 * (SDM 3A 6.9). One event an entry; a window is asked for while more is waiting.
 */
static uint32_t events_hand_over(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint32_t windows = 0;

	if (vcpu->exception.injected)
		hand_over_exception(vcpu);
	else if (vcpu->nmi_injected)
		hand_over(vcpu, (struct umbra_event) { .vector = 2, .type = UMBRA_EVENT_NMI });
	else if (vcpu->interrupt.injected && !vcpu->exception.pending)
		hand_over_interrupt(vcpu);

	if (vcpu->exception.pending && !handed_over(vcpu)) {
		exception_deliver(vcpu);
		hand_over_exception(vcpu);
	}
	if (vcpu->nmi_pending && !(vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ)) {
		if (!handed_over(vcpu) && !vcpu->interrupt.injected && !run->intr_shadow)
			nmi_take(vcpu);
		if (vcpu->nmi_pending) /* in an STI shadow the CPU may report an NMI window that is none yet */
			windows |= run->intr_shadow & UMBRA_SHADOW_STI ? UMBRA_ICPT_INTR_WINDOW : UMBRA_ICPT_NMI_WINDOW;
	}
	if (interrupt_due(vcpu)) {
		if (!handed_over(vcpu) && !vcpu->interrupt.injected && interrupts_open(vcpu))
			interrupt_take(vcpu);
		if (interrupt_due(vcpu) && !(vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ))
			windows |= UMBRA_ICPT_INTR_WINDOW;
	}
	return windows;
}

static uint32_t base_intercepts(const struct vm *vm)
{
	uint32_t icpt = 0;

	if (!(vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT))
		icpt |= UMBRA_ICPT_HLT;
	if (!(vm->disabled_exits & KVM_X86_DISABLE_EXITS_PAUSE) && vm->vcpus > 1)
		icpt |= UMBRA_ICPT_PAUSE;
	return icpt;
}

int inject_before_entry(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint32_t windows;

	if (vcpu->triple_fault) {
		vcpu->triple_fault = false;
		vcpu->kvm->exit_reason = KVM_EXIT_SHUTDOWN;
		return EXIT_USER;
	}
	/* CR0.PE decides about error codes; to be had before anything is handed over. */
	if (vcpu->exception.pending || vcpu->exception.injected)
		vcpu_fetch(vcpu, UMBRA_STATE_CR);
	run->inject.flags = 0;
	windows = events_hand_over(vcpu);
	if (*(volatile uint8_t *)&vcpu->kvm->request_interrupt_window &&
	    (!vm_has_lapics(vcpu->vm) || lapic_accepts_pic(vcpu)))
		windows |= UMBRA_ICPT_INTR_WINDOW;
	run->intercepts = base_intercepts(vcpu->vm) | windows;
	run->exceptions = vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP ? 1 << EXC_BP : 0;
	run->tpr_threshold = vm_has_lapics(vcpu->vm) ? lapic_tpr_threshold(vcpu) : 0;
	return EXIT_RESUME;
}
