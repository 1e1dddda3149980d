// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "core.h"
#include "fault.h"
#include "irqchip.h"
#include "sys.h"
#include "vcpu.h"
#include "vcpu_state.h"

/* #UD #NM #TS #NP #SS #GP #PF #AC #CP: what an IRET can raise */
#define IRET_EXCEPTIONS (1 << 6 | 1 << 7 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21)

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

/* ---- NMI blocking ---- */

/*
 * SVM tells of an IRET before it is executed. It runs in single step, with all that it can raise intercepted, so that no
 * frame of the guest gets to see the step's TF; the #DB after it ends the blocking.
 */
void inject_iret(struct vcpu *vcpu)
{
	if (!vcpu->nmi_blocked)
		return;
	vcpu->careful |= CAREFUL_IRET;
	vcpu->iret_rip = vcpu->run->rip;
	vcpu->iret_tf = vcpu->run->rflags & X86_RFLAGS_TF;
}

uint64_t inject_iret_done(struct vcpu *vcpu, uint64_t dr6)
{
	vcpu->careful &= ~(uint32_t)CAREFUL_IRET;
	if (!(dr6 & X86_DR6_BS)) /* a breakpoint before the IRET */
		return dr6;
	vcpu->nmi_blocked = false;
	if (!vcpu->iret_tf && !(vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP))
		dr6 &= ~X86_DR6_BS;
	return dr6;
}

/* ---- after an exit ---- */

/*
 * SVM has no soft events: RIP is moved past the instruction and the exception handed over as a hardware one. Nobody reports a
 * delivery of these that was cut short, but then RIP still is where it was left.
 */
static void soft_take_back(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;

	vcpu->soft_sent = false;
	if (run->rip != vcpu->soft_rip)
		return;
	run->rip -= vcpu->soft_len;
	vcpu_dirty(vcpu, UMBRA_STATE_RIP);
	vcpu->exception.injected = true;
}

void inject_undo(struct vcpu *vcpu)
{
	vcpu->run->inject.flags = 0;
	if (__builtin_expect(vcpu->soft_sent, 0))
		soft_take_back(vcpu);
}

void inject_take_back(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	struct umbra_event event = run->exit.event;

	if (run->inject.flags & UMBRA_EVENT_VALID) {
		/* Nothing was entered: what was handed over is still due. */
		inject_undo(vcpu);
		return;
	}
	if (vcpu->nmi_injected) /* delivered, unless the event below says else; its handler's IRET unblocks */
		vcpu->nmi_blocked = vcpu->svm;
	vcpu->injecting = false;
	vcpu->exception.injected = false;
	vcpu->interrupt.injected = false;
	vcpu->nmi_injected = false;
	if (__builtin_expect(vcpu->soft_sent, 0)) {
		soft_take_back(vcpu);
		return;
	}
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
		state_block_nmi(vcpu, false);
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

/* The type to hand an exception over with. */
static uint8_t exception_type(struct vcpu *vcpu, const struct pending_exception *exc)
{
	struct umbra_run *run = vcpu->run;

	if (!vcpu->svm)
		return exc->type ? exc->type : UMBRA_EVENT_EXC;
	if (exc->type || exc->vector == EXC_BP || exc->vector == EXC_OF) {
		vcpu->soft_sent = true;
		vcpu->soft_len = exc->type ? exc->insn_len : 0;
		run->rip += vcpu->soft_len;
		if (!vcpu_code64(vcpu))
			run->rip = (uint32_t)run->rip;
		vcpu->soft_rip = run->rip;
		vcpu_dirty(vcpu, UMBRA_STATE_RIP);
	}
	return UMBRA_EVENT_EXC;
}

static void hand_over_exception(struct vcpu *vcpu)
{
	const struct pending_exception *exc = &vcpu->exception;
	uint8_t type = exception_type(vcpu, exc);
	/* Real mode pushes no error codes and VM entry refuses them. (SDM 3C 27.2.1.3) */
	bool code = exc->has_error_code && (vcpu->run->cr0 & X86_CR0_PE);

	hand_over(vcpu, (struct umbra_event) {
				.vector = exc->vector,
				.type = type,
				.flags = code ? UMBRA_EVENT_ERROR_CODE : 0,
				.insn_len = type != UMBRA_EVENT_EXC ? exc->insn_len : 0,
				.error_code = code ? exc->error_code : 0,
			});
}

/*
 * INT n, by the VMM's word: on SVM it is executed again, with all of its checks, where RIP is at such an instruction; else
 * there is none to return behind, and it is delivered like any interrupt.
 */
static void soft_interrupt_resolve(struct vcpu *vcpu)
{
	uint8_t bytes[2];

	vcpu->interrupt.soft = false;
	if (access_fetch(vcpu, bytes, sizeof(bytes)) == sizeof(bytes) && bytes[0] == 0xcd &&
	    bytes[1] == vcpu->interrupt.vector)
		vcpu->interrupt.injected = false;
}

static void hand_over_interrupt(struct vcpu *vcpu)
{
	FAULT_POINT(inject_interrupt, vcpu, NULL, vcpu->interrupt.vector);
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

/* The PIC's interrupt: of the one here or, by KVM_INTERRUPT, of the VMM's. */
static bool pic_interrupt_due(struct vcpu *vcpu)
{
	if (vcpu->vm->irqchip)
		return irqchip_pic_output(vcpu->vm) && lapic_accepts_pic(vcpu);
	return vcpu->user_interrupt >= 0 && (!vm_has_lapics(vcpu->vm) || lapic_accepts_pic(vcpu));
}

static bool interrupt_due(struct vcpu *vcpu)
{
	return pic_interrupt_due(vcpu) || (vm_has_lapics(vcpu->vm) && lapic_pending(vcpu) >= 0);
}

static bool interrupts_open(const struct vcpu *vcpu)
{
	return (vcpu->run->rflags & X86_RFLAGS_IF) &&
	       !(vcpu->run->intr_shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS)) &&
	       !(vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ) && !(vcpu->careful & CAREFUL_IRET);
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
	if (vcpu->nmi_pending && !state_nmi_blocked(vcpu))
		return true;
	return interrupts_open(vcpu) && interrupt_due(vcpu);
}

static void interrupt_take(struct vcpu *vcpu)
{
	int vector;

	if (pic_interrupt_due(vcpu)) { /* ExtINT goes before the LAPIC's own, as in KVM */
		vector = vcpu->vm->irqchip ? irqchip_pic_take(vcpu->vm) : vcpu->user_interrupt;
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

static bool nmi_open(const struct vcpu *vcpu)
{
	return !vcpu->run->intr_shadow && !vcpu->nmi_blocked;
}

/* What to wait for while an NMI is waiting. */
static uint32_t nmi_window(struct vcpu *vcpu)
{
	uint32_t shadow = vcpu->run->intr_shadow;

	if (!vcpu->svm) /* in an STI shadow the CPU may report an NMI window that is none yet */
		return shadow & UMBRA_SHADOW_STI ? UMBRA_ICPT_INTR_WINDOW : UMBRA_ICPT_NMI_WINDOW;
	if (vcpu->nmi_blocked || vcpu->nmi_injected)
		return 0; /* its IRET exits in any case */
	vcpu->careful |= CAREFUL_NMI_POLL;
	return shadow && vcpu->run->rflags & X86_RFLAGS_IF ? UMBRA_ICPT_INTR_WINDOW : 0;
}

/*
 * Order: what was cut short; a new exception, which belongs to the instruction before or at RIP; NMI; interrupt
 * (SDM 3A 6.9). One event an entry; a window is asked for while more is waiting.
 */
static uint32_t events_hand_over(struct vcpu *vcpu)
{
	uint32_t windows = 0;

	if (__builtin_expect(vcpu->interrupt.soft, 0) && vcpu->svm)
		soft_interrupt_resolve(vcpu);
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
		if (!handed_over(vcpu) && !vcpu->interrupt.injected && nmi_open(vcpu))
			nmi_take(vcpu);
		if (vcpu->nmi_pending)
			windows |= nmi_window(vcpu);
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
	if (!(vm->disabled_exits & KVM_X86_DISABLE_EXITS_PAUSE) && vm->vcpus > 1 && vm->pause_loops)
		icpt |= UMBRA_ICPT_PAUSE;
	return icpt;
}

/*
 * SVM: the IRET that unblocks NMIs must be seen whether another NMI waits or not. Its single step is off when anything is to be
 * delivered before it, or the VMM has moved RIP.
 */
static uint32_t iret_window(struct vcpu *vcpu)
{
	if (vcpu->careful & CAREFUL_IRET && (handed_over(vcpu) || vcpu->run->rip != vcpu->iret_rip))
		vcpu->careful &= ~(uint32_t)CAREFUL_IRET;
	if (vcpu->careful & CAREFUL_IRET)
		return 0;
	return vcpu->nmi_blocked || vcpu->nmi_injected ? UMBRA_ICPT_NMI_WINDOW : 0;
}

static uint32_t exception_intercepts(const struct vcpu *vcpu)
{
	uint32_t exceptions = 1 << EXC_UD; /* hypercalls of the other vendor's kind */

	if (vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP)
		exceptions |= 1 << EXC_BP;
	if (vcpu->careful & CAREFUL_IRET)
		exceptions |= IRET_EXCEPTIONS;
	return exceptions;
}

#define NMI_POLL_HZ 10000

/* The LAPIC's timer; sooner while an NMI waits that no window tells of. */
uint64_t inject_deadline(const struct vcpu *vcpu)
{
	uint64_t timer = vcpu->lapic.timer_deadline_tsc, poll;

	if (!(vcpu->careful & CAREFUL_NMI_POLL))
		return timer;
	poll = cpu_rdtsc() + vcpu->vm->info.tsc_khz * 1000ULL / NMI_POLL_HZ;
	return timer && timer < poll ? timer : poll;
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
	vcpu->careful &= ~(uint32_t)CAREFUL_NMI_POLL;
	windows = events_hand_over(vcpu);
	if (vcpu->svm)
		windows |= iret_window(vcpu);
	if (*(volatile uint8_t *)&vcpu->kvm->request_interrupt_window && !vcpu->vm->irqchip &&
	    (!vm_has_lapics(vcpu->vm) || lapic_accepts_pic(vcpu)))
		windows |= UMBRA_ICPT_INTR_WINDOW;
	if (vcpu->careful & CAREFUL_IRET) /* one instruction: nothing else may come of this entry */
		windows = 0;
	run->intercepts = base_intercepts(vcpu->vm) | windows;
	run->exceptions = exception_intercepts(vcpu);
	run->tpr_threshold = vm_has_lapics(vcpu->vm) ? lapic_tpr_threshold(vcpu) : 0;
	return EXIT_RESUME;
}
