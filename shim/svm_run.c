// SPDX-License-Identifier: GPL-2.0-only
#include "compat.h"
#include "svm.h"

#include <asm/msr.h>
#include <asm/trap_pf.h>
#include <asm/trapnr.h>
#include <asm/tsc.h>

#define CR0_GUEST_OWNED (X86_CR0_TS | X86_CR0_MP) /* what a selective intercept of CR0 lets through (APM 2 15.8.1) */
#define CR0_NO_CACHE (X86_CR0_CD | X86_CR0_NW)
#define DR6_NONE 0xffff0ff0
#define EVENT_TYPES (BIT(UMBRA_EVENT_INTR) | BIT(UMBRA_EVENT_NMI) | BIT(UMBRA_EVENT_EXC))

static_assert(sizeof(struct vmcb) <= PAGE_SIZE);
static_assert(sizeof(struct umbra_segment) == sizeof(struct vmcb_seg));

/* ---- state: fields of the run area that are fields of the VMCB ---- */

static const struct {
	u16 vmcb, offset;
	u8 size, group;
} fields[] = {
#define FIELD(field, member, group)                                                         \
	{                                                                                   \
		offsetof(struct vmcb_save_area, field), offsetof(struct umbra_run, member), \
			sizeof_field(struct umbra_run, member), group                       \
	}
	FIELD(rip, rip, UMBRA_STATE_RIP),
	FIELD(rflags, rflags, UMBRA_STATE_RIP),
	FIELD(cs, seg[UMBRA_CS], UMBRA_STATE_SEG_CODE),
	FIELD(ss, seg[UMBRA_SS], UMBRA_STATE_SEG_CODE),
	FIELD(ds, seg[UMBRA_DS], UMBRA_STATE_SEG_DATA),
	FIELD(es, seg[UMBRA_ES], UMBRA_STATE_SEG_DATA),
	FIELD(fs, seg[UMBRA_FS], UMBRA_STATE_SEG_DATA),
	FIELD(gs, seg[UMBRA_GS], UMBRA_STATE_SEG_DATA),
	FIELD(ldtr, seg[UMBRA_LDTR], UMBRA_STATE_SEG_SYS),
	FIELD(tr, seg[UMBRA_TR], UMBRA_STATE_SEG_SYS),
	FIELD(gdtr.base, gdtr.base, UMBRA_STATE_SEG_SYS),
	FIELD(gdtr.limit, gdtr.limit, UMBRA_STATE_SEG_SYS),
	FIELD(idtr.base, idtr.base, UMBRA_STATE_SEG_SYS),
	FIELD(idtr.limit, idtr.limit, UMBRA_STATE_SEG_SYS),
	FIELD(cr3, cr3, UMBRA_STATE_CR),
	FIELD(cr0, cr0, UMBRA_STATE_CR),
	FIELD(cr4, cr4, UMBRA_STATE_CR),
	FIELD(efer, efer, UMBRA_STATE_CR),
	FIELD(dr7, dr7, UMBRA_STATE_DR),
	FIELD(star, msr.star, UMBRA_STATE_MSR),
	FIELD(lstar, msr.lstar, UMBRA_STATE_MSR),
	FIELD(cstar, msr.cstar, UMBRA_STATE_MSR),
	FIELD(sfmask, msr.fmask, UMBRA_STATE_MSR),
	FIELD(sysenter_cs, msr.sysenter_cs, UMBRA_STATE_MSR),
	FIELD(sysenter_esp, msr.sysenter_esp, UMBRA_STATE_MSR),
	FIELD(sysenter_eip, msr.sysenter_eip, UMBRA_STATE_MSR),
	FIELD(g_pat, msr.pat, UMBRA_STATE_MSR),
};

static bool is_segment(unsigned int field)
{
	return fields[field].size == sizeof(struct umbra_segment);
}

static void intercept(struct vmcb_control_area *control, int bit, bool on)
{
	u32 *word = &control->intercepts[bit / 32];

	*word = on ? *word | BIT(bit % 32) : *word & ~BIT(bit % 32);
}

static void svm_store_dirty(struct vcpu *vcpu)
{
	struct vmcb_save_area *save = &vcpu->hw->vmcb->save;
	const struct umbra_run *in = &vcpu->in;
	struct vmcb_seg *seg;
	int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!(fields[i].group & vcpu->dirty))
			continue;
		memcpy((void *)save + fields[i].vmcb, (void *)in + fields[i].offset, fields[i].size);
		if (is_segment(i)) {
			seg = (void *)save + fields[i].vmcb;
			seg->attrib = (seg->attrib & 0xff) | (seg->attrib >> 4 & 0xf00);
		}
	}
	if (vcpu->dirty & UMBRA_STATE_SEG_CODE)
		save->cpl = in->seg[UMBRA_SS].attr >> 5 & 3;
	if (vcpu->dirty & UMBRA_STATE_CR) {
		/* The guest's CR0.CD would take the host's cache away: it sees its own bits, and all its writes exit. */
		save->cr0 = in->cr0 & ~CR0_NO_CACHE;
		intercept(&vcpu->hw->vmcb->control, INTERCEPT_CR0_READ, in->cr0 & CR0_NO_CACHE);
		intercept(&vcpu->hw->vmcb->control, INTERCEPT_CR0_WRITE, in->cr0 & CR0_NO_CACHE);
		/* A machine check while CR4.MCE is 0 would shut the host down. (S4) */
		save->cr4 = in->cr4 | X86_CR4_MCE;
		save->efer = in->efer | EFER_SVME;
	}
	if (vcpu->dirty & UMBRA_STATE_INTR)
		vcpu->hw->vmcb->control.int_state =
			in->intr_shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS) ? SVM_INTERRUPT_SHADOW_MASK : 0;
	vcpu->dirty = 0;
}

void svm_fetch(struct vcpu *vcpu, __u64 groups)
{
	const struct vmcb_save_area *save = &vcpu->hw->vmcb->save;
	struct umbra_run *run = vcpu->run, *in = &vcpu->in;
	struct umbra_segment *seg;
	int i;

	if (vcpu->dirty)
		svm_store_dirty(vcpu);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!(fields[i].group & groups))
			continue;
		memcpy((void *)run + fields[i].offset, (void *)save + fields[i].vmcb, fields[i].size);
		if (is_segment(i)) {
			seg = (void *)run + fields[i].offset;
			seg->attr = (seg->attr & 0xff) | (seg->attr & 0xf00) << 4;
		}
	}
	if (groups & UMBRA_STATE_SEG_CODE)
		run->seg[UMBRA_SS].attr = (run->seg[UMBRA_SS].attr & ~(3 << 5)) | save->cpl << 5;
	if (groups & UMBRA_STATE_CR) {
		run->cr0 = (in->cr0 & ~CR0_GUEST_OWNED) | (save->cr0 & CR0_GUEST_OWNED);
		run->cr4 = in->cr4;
		run->efer = in->efer;
	}
	if (groups & UMBRA_STATE_INTR)
		run->pending_dbg = 0;
}

/* ---- before the switch ---- */

/* The fixed controls plus what the user side asked for; it can take nothing away. (S1) */
static void svm_write_controls(struct vcpu *vcpu)
{
	struct vmcb_control_area *control = &vcpu->hw->vmcb->control;
	const struct umbra_run *in = &vcpu->in;
	bool window = in->intercepts & UMBRA_ICPT_INTR_WINDOW;

	intercept(control, INTERCEPT_VINTR, window);
	intercept(control, INTERCEPT_IRET, in->intercepts & UMBRA_ICPT_NMI_WINDOW);
	intercept(control, INTERCEPT_HLT, in->intercepts & UMBRA_ICPT_HLT);
	intercept(control, INTERCEPT_PAUSE, in->intercepts & UMBRA_ICPT_PAUSE);
	control->intercepts[INTERCEPT_EXCEPTION] =
		in->exceptions | BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC); /* (S3) */
	control->tsc_offset = in->tsc_offset;
	/* The host's interrupts exit whatever the guest's RFLAGS.IF is. (S10) A virtual one shows that the window is open. */
	control->int_ctl = V_INTR_MASKING_MASK | (window ? V_IRQ_INJECTION_BITS_MASK : 0);
	if (boot_cpu_has(X86_FEATURE_PAUSEFILTER))
		control->pause_filter_count = 3000;
	vcpu->new_controls = false;
}

/* Its interrupt is enough: the exit that it causes finds the deadline passed. */
enum hrtimer_restart svm_timer(struct hrtimer *timer)
{
	WRITE_ONCE(container_of(timer, struct hw_vcpu, timer)->armed, 0);
	return HRTIMER_NORESTART;
}

/* False: it has passed. At most a second ahead; then it is looked at again. */
static bool timer_update(struct vcpu *vcpu)
{
	u64 deadline = vcpu->in.deadline_tsc, now = deadline ? rdtsc() : 0;
	struct hw_vcpu *hw = vcpu->hw;

	if (deadline && deadline <= now)
		return false;
	if (READ_ONCE(hw->armed) != deadline || hw->cpu != smp_processor_id()) {
		WRITE_ONCE(hw->armed, deadline);
		if (deadline)
			hrtimer_start(&hw->timer,
				      mul_u64_u32_div(min(deadline - now, 1000ULL * tsc_khz), NSEC_PER_MSEC, tsc_khz),
				      HRTIMER_MODE_REL_PINNED_HARD);
	}
	return true;
}

/* No translation made so far is used again: a tag of this CPU that is fresh. (S8) */
static void svm_new_asid(struct hw_vcpu *hw)
{
	struct svm_cpu *cpu = this_cpu_ptr(&svm_cpus);

	if (cpu->asid >= svm_asids) {
		cpu->asid = 1;
		cpu->generation++;
		hw->vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	}
	hw->vmcb->control.asid = cpu->asid++;
	hw->generation = cpu->generation;
	hw->cpu = smp_processor_id();
}

/* What of it makes no sense VMRUN refuses. (APM 2 15.20) */
static void event_write(struct vmcb_control_area *control, struct umbra_event *event)
{
	control->event_inj = event->vector | (event->type & 7) << SVM_EVTINJ_TYPE_SHIFT | SVM_EVTINJ_VALID |
			     (event->flags & UMBRA_EVENT_ERROR_CODE ? SVM_EVTINJ_VALID_ERR : 0);
	control->event_inj_err = event->error_code;
	event->flags = 0;
}

/* ---- the exit ---- */

/*
 * An event whose delivery was cut short is delivered again; but an INT n, INT3 or INTO of the guest's own is executed
 * again, since RIP still points to it.
 */
static void event_read(struct vcpu *vcpu, u32 info, u32 injected)
{
	u32 type = info & SVM_EXITINTINFO_TYPE_MASK;
	u8 vector = info;

	if (type == SVM_EXITINTINFO_TYPE_SOFT || (type == SVM_EXITINTINFO_TYPE_EXEPT && info != injected &&
						  (vector == X86_TRAP_BP || vector == X86_TRAP_OF)))
		return;
	vcpu->event = (struct umbra_event) {
		.vector = vector,
		.type = type >> SVM_EVTINJ_TYPE_SHIFT,
		.flags = UMBRA_EVENT_VALID | (info & SVM_EXITINTINFO_VALID_ERR ? UMBRA_EVENT_ERROR_CODE : 0),
		.error_code = vcpu->hw->vmcb->control.exit_int_info_err,
	};
}

static enum run_result exit_npf(struct vcpu *vcpu)
{
	const struct vmcb_control_area *control = &vcpu->hw->vmcb->control;
	u64 code = control->exit_info_1;

	vcpu->fault_gpa = control->exit_info_2;
	vcpu->fault_access = (code & X86_PF_WRITE   ? UMBRA_MEM_WRITE
			      : code & X86_PF_INSTR ? UMBRA_MEM_EXEC
						    : UMBRA_MEM_READ) |
			     (code & BIT_ULL(33) ? UMBRA_MEM_WALK : 0);
	vcpu->run->exit.gpa = vcpu->fault_gpa;
	return RUN_FAULT;
}

static enum run_result exit_refused(struct vcpu *vcpu, u32 rule)
{
	vcpu->event.flags = 0;
	vcpu->exit_reason = UMBRA_EXIT_BAD_STATE;
	vcpu->run->exit.rule = rule;
	vcpu->run->exit.hw_reason = vcpu->hw->vmcb->control.exit_code;
	vcpu->run->exit.hw_info = vcpu->hw->vmcb->control.exit_info_1;
	return RUN_EXIT;
}

static enum run_result exit_handle(struct vcpu *vcpu)
{
	const struct vmcb_control_area *control = &vcpu->hw->vmcb->control;
	struct umbra_exit *exit = &vcpu->run->exit;
	u32 code = control->exit_code;

	switch (code) {
	case SVM_EXIT_INTR:
	case SVM_EXIT_NMI:
	case SVM_EXIT_SMI:
	case SVM_EXIT_INIT:
		return RUN_AGAIN; /* the host's own: taken when the global interrupt flag and interrupts went on again */
	case SVM_EXIT_EXCP_BASE + X86_TRAP_MC:
		compat_machine_check();
		return RUN_AGAIN;
	case SVM_EXIT_NPF:
		return exit_npf(vcpu);
	case (u32)SVM_EXIT_ERR:
		/* A flush that was due may not have been done. */
		this_cpu_write(svm_cpus.asid, svm_asids);
		vcpu->flush_guest = true;
		return exit_refused(vcpu, UMBRA_BAD_HARDWARE);
	}
	vcpu->exit_reason = UMBRA_EXIT_HARDWARE;
	exit->hw_reason = code;
	exit->hw_info = control->exit_info_1;
	exit->hw_info2 = code == SVM_EXIT_EXCP_BASE + X86_TRAP_DB ? vcpu->hw->vmcb->save.dr6 : control->exit_info_2;
	exit->insn_len =
		boot_cpu_has(X86_FEATURE_NRIPS) && control->next_rip ? control->next_rip - vcpu->hw->vmcb->save.rip : 0;
	return RUN_EMULATE; /* most reasons leave the instruction to be decoded */
}

enum run_result svm_vcpu_enter(struct vcpu *vcpu, bool flush)
{
	struct svm_cpu *cpu = this_cpu_ptr(&svm_cpus);
	struct umbra_run *run = vcpu->run;
	struct hw_vcpu *hw = vcpu->hw;
	struct vmcb *vmcb = hw->vmcb;
	u32 injected = 0;

	vcpu->flush_guest |= flush; /* also if this time does not get as far as VMRUN */
	if (unlikely(!timer_update(vcpu))) {
		vcpu->exit_reason = UMBRA_EXIT_DEADLINE;
		return RUN_EXIT;
	}
	vmcb->control.event_inj = 0;
	if (unlikely(vcpu->event.flags & UMBRA_EVENT_VALID)) {
		if (!(BIT(vcpu->event.type) & EVENT_TYPES))
			return exit_refused(vcpu, UMBRA_BAD_EVENT);
		event_write(&vmcb->control, &vcpu->event);
		injected = vmcb->control.event_inj;
	}
	if (vcpu->dirty)
		svm_store_dirty(vcpu);
	if (unlikely(vcpu->new_controls))
		svm_write_controls(vcpu);
	/* From here on there is no way back but through VMRUN, which does the flush. */
	vmcb->control.tlb_ctl = TLB_CONTROL_DO_NOTHING;
	if (unlikely(vcpu->flush_guest || hw->cpu != smp_processor_id() || hw->generation != cpu->generation)) {
		vcpu->flush_guest = false;
		svm_new_asid(hw);
	}
	vmcb->control.clean = 0;
	vmcb->save.dr6 = DR6_NONE;
	vmcb->save.cr2 = READ_ONCE(run->cr2);
	vmcb->save.rax = READ_ONCE(run->gpr[UMBRA_RAX]);
	vmcb->save.rsp = READ_ONCE(run->gpr[UMBRA_RSP]);
	amd_clear_divider(); /* Zen 1: what the host divided last */

	svm_enter_guest(run->gpr, __pa(vmcb), __pa(cpu->host), vmcb, cpu->host);

	run->gpr[UMBRA_RAX] = vmcb->save.rax;
	run->gpr[UMBRA_RSP] = vmcb->save.rsp;
	run->cr2 = vmcb->save.cr2;
	run->rip = vmcb->save.rip;
	run->rflags = vmcb->save.rflags;
	run->intr_shadow = vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK ? UMBRA_SHADOW_STI : 0;
	if (unlikely(vmcb->control.exit_int_info & SVM_EXITINTINFO_VALID))
		event_read(vcpu, vmcb->control.exit_int_info, injected);
	return exit_handle(vcpu);
}
