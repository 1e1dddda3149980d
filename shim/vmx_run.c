// SPDX-License-Identifier: GPL-2.0-only
#include "compat.h"
#include "vmx.h"

#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>

#define AR_UNUSABLE (1 << 16)
#define AR_PRESENT (1 << 7)
#define INTR_SHADOW_BITS (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS | UMBRA_SHADOW_NMI)

/* ---- state: fields of the run area that are fields of the VMCS ---- */

static const struct {
	u16 vmcs, offset;
	u8 size, group;
} fields[] = {
#define FIELD(vmcs, member, group)                                                                      \
	{                                                                                               \
		vmcs, offsetof(struct umbra_run, member), sizeof_field(struct umbra_run, member), group \
	}
#define SEGMENT(name, group)                                                   \
	FIELD(GUEST_##name##_SELECTOR, seg[UMBRA_##name].selector, group),     \
		FIELD(GUEST_##name##_AR_BYTES, seg[UMBRA_##name].attr, group), \
		FIELD(GUEST_##name##_LIMIT, seg[UMBRA_##name].limit, group),   \
		FIELD(GUEST_##name##_BASE, seg[UMBRA_##name].base, group)
	FIELD(GUEST_RIP, rip, UMBRA_STATE_RIP),
	FIELD(GUEST_RFLAGS, rflags, UMBRA_STATE_RIP),
	FIELD(GUEST_INTERRUPTIBILITY_INFO, intr_shadow, UMBRA_STATE_INTR),
	FIELD(GUEST_PENDING_DBG_EXCEPTIONS, pending_dbg, UMBRA_STATE_INTR),
	SEGMENT(CS, UMBRA_STATE_SEG_CODE),
	SEGMENT(SS, UMBRA_STATE_SEG_CODE),
	SEGMENT(DS, UMBRA_STATE_SEG_DATA),
	SEGMENT(ES, UMBRA_STATE_SEG_DATA),
	SEGMENT(FS, UMBRA_STATE_SEG_DATA),
	SEGMENT(GS, UMBRA_STATE_SEG_DATA),
	SEGMENT(LDTR, UMBRA_STATE_SEG_SYS),
	SEGMENT(TR, UMBRA_STATE_SEG_SYS),
	FIELD(GUEST_GDTR_BASE, gdtr.base, UMBRA_STATE_SEG_SYS),
	FIELD(GUEST_GDTR_LIMIT, gdtr.limit, UMBRA_STATE_SEG_SYS),
	FIELD(GUEST_IDTR_BASE, idtr.base, UMBRA_STATE_SEG_SYS),
	FIELD(GUEST_IDTR_LIMIT, idtr.limit, UMBRA_STATE_SEG_SYS),
	FIELD(GUEST_CR3, cr3, UMBRA_STATE_CR),
	FIELD(GUEST_IA32_EFER, efer, UMBRA_STATE_CR),
	FIELD(GUEST_PDPTR0, pdpte[0], UMBRA_STATE_CR),
	FIELD(GUEST_PDPTR1, pdpte[1], UMBRA_STATE_CR),
	FIELD(GUEST_PDPTR2, pdpte[2], UMBRA_STATE_CR),
	FIELD(GUEST_PDPTR3, pdpte[3], UMBRA_STATE_CR),
	FIELD(GUEST_DR7, dr7, UMBRA_STATE_DR),
	FIELD(GUEST_SYSENTER_CS, msr.sysenter_cs, UMBRA_STATE_MSR),
	FIELD(GUEST_IA32_PAT, msr.pat, UMBRA_STATE_MSR),
	FIELD(GUEST_SYSENTER_ESP, msr.sysenter_esp, UMBRA_STATE_MSR),
	FIELD(GUEST_SYSENTER_EIP, msr.sysenter_eip, UMBRA_STATE_MSR),
};

static bool is_ar(u16 vmcs)
{
	return vmcs >= GUEST_ES_AR_BYTES && vmcs <= GUEST_TR_AR_BYTES;
}

/* CR0 and CR4: the guest sees its own bits, the CPU also those that the host needs. */
static void cr_write(const struct umbra_run *in)
{
	vmwrite(GUEST_CR0, (in->cr0 & ~(X86_CR0_CD | X86_CR0_NW)) | (vmx.cr0_fixed0 & ~(X86_CR0_PE | X86_CR0_PG)));
	vmwrite(CR0_READ_SHADOW, in->cr0);
	/* A machine check while CR4.MCE is 0 would shut the host down. (S4) */
	vmwrite(GUEST_CR4, in->cr4 | vmx.cr4_fixed0 | X86_CR4_MCE);
	vmwrite(CR4_READ_SHADOW, in->cr4);
	vmwrite(VM_ENTRY_CONTROLS, vmx.entry | (in->efer & EFER_LMA ? VM_ENTRY_IA32E_MODE : 0));
}

static void vmx_store_dirty(struct vcpu *vcpu)
{
	const struct umbra_run *in = &vcpu->in;
	u64 value, dirty = vcpu->dirty;
	int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!(fields[i].group & dirty))
			continue;
		value = 0;
		memcpy(&value, (void *)in + fields[i].offset, fields[i].size);
		if (is_ar(fields[i].vmcs) && !(value & AR_PRESENT))
			value |= AR_UNUSABLE;
		vmwrite(fields[i].vmcs, value);
	}
	/* New state runs: a HLT that was not intercepted is over. */
	vmwrite(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	if (dirty & UMBRA_STATE_CR)
		cr_write(in);
	/* Without EFER.SCE the guest has no SYSCALL that would use them. */
	vcpu->hw->own_msrs = in->efer & EFER_SCE && (in->msr.star != vmx.star || in->msr.lstar != vmx.lstar ||
						     in->msr.cstar != vmx.cstar || in->msr.fmask != vmx.fmask);
	vcpu->dirty = 0;
}

void vmx_fetch(struct vcpu *vcpu, __u64 groups)
{
	struct umbra_run *run = vcpu->run, *in = &vcpu->in;
	void *to;
	u64 value;
	int i;

	if (vcpu->dirty)
		vmx_store_dirty(vcpu);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!(fields[i].group & groups))
			continue;
		value = vmread(fields[i].vmcs);
		if (is_ar(fields[i].vmcs) && value & AR_UNUSABLE)
			value &= ~AR_PRESENT;
		to = (void *)run + fields[i].offset;
		if (fields[i].size == 8)
			*(u64 *)to = value;
		else if (fields[i].size == 4)
			*(u32 *)to = value;
		else
			*(u16 *)to = value;
	}
	if (groups & UMBRA_STATE_CR) {
		run->cr0 = (in->cr0 & ~CR0_GUEST_OWNED) | (vmread(GUEST_CR0) & CR0_GUEST_OWNED);
		run->cr4 = (in->cr4 & ~CR4_GUEST_OWNED) | (vmread(GUEST_CR4) & CR4_GUEST_OWNED);
	}
}

/* ---- before and after the switch ---- */

/* The fixed controls plus what the user side asked for; it can take nothing away. (S1) */
void vmx_write_controls(struct vcpu *vcpu)
{
	const struct umbra_run *in = &vcpu->in;
	u32 procbased = vmx.procbased, procbased2 = vmx.procbased2;

	if (in->intercepts & UMBRA_ICPT_INTR_WINDOW)
		procbased |= CPU_BASED_INTR_WINDOW_EXITING;
	if (in->intercepts & UMBRA_ICPT_NMI_WINDOW)
		procbased |= CPU_BASED_NMI_WINDOW_EXITING;
	if (in->intercepts & UMBRA_ICPT_HLT)
		procbased |= CPU_BASED_HLT_EXITING;
	if (in->intercepts & UMBRA_ICPT_PAUSE && vmx.can_ple)
		procbased2 |= SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, procbased);
	vmwrite(SECONDARY_VM_EXEC_CONTROL, procbased2);
	vmwrite(EXCEPTION_BITMAP, in->exceptions | BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC)); /* (S3) */
	vmwrite(TSC_OFFSET, in->tsc_offset);
	vmwrite(TPR_THRESHOLD, in->tpr_threshold);
	vcpu->new_controls = false;
}

/* The preemption timer runs in any case; in time for the deadline where there is one. */
static void timer_update(struct vcpu *vcpu)
{
	u64 deadline = vcpu->in.deadline_tsc, now;
	u32 ticks = vmx.timer_bound;

	if (deadline) {
		now = rdtsc();
		if (deadline <= now)
			ticks = 0;
		else if ((deadline - now) >> vmx.timer_shift < ticks)
			ticks = ((deadline - now) >> vmx.timer_shift) + 1;
	}
	if (ticks != vcpu->hw->timer) {
		vcpu->hw->timer = ticks;
		vmwrite(VMX_PREEMPTION_TIMER_VALUE, ticks);
	}
}

#define HOST_UPDATE(field, cached, value)           \
	do {                                        \
		unsigned long value_ = (value);     \
		if (unlikely(value_ != (cached))) { \
			(cached) = value_;          \
			vmwrite(field, value_);     \
		}                                   \
	} while (0)

/* The host's values that the exit loads: they can change between any two entries. */
static void host_state_update(struct hw_vcpu *hw)
{
	HOST_UPDATE(HOST_CR3, hw->host_cr3, __read_cr3());
	HOST_UPDATE(HOST_CR4, hw->host_cr4, cr4_read_shadow());
	HOST_UPDATE(HOST_FS_BASE, hw->host_fs, rdfsbase());
	/* The guest runs with all counters off: no PEBS record is written with its addresses. (S5) */
	if (vmx.has_perf)
		HOST_UPDATE(HOST_IA32_PERF_GLOBAL_CTRL, hw->host_perf, __rdmsr(MSR_CORE_PERF_GLOBAL_CTRL));
}

/* What of it makes no sense the CPU refuses at entry. (SDM 3C 27.2.1.3) */
static void event_write(struct umbra_event *event)
{
	bool has_code = event->flags & UMBRA_EVENT_ERROR_CODE;

	vmwrite(VM_ENTRY_INTR_INFO_FIELD, event->vector | (event->type & 7) << 8 | INTR_INFO_VALID_MASK |
						  (has_code ? INTR_INFO_DELIVER_CODE_MASK : 0));
	vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, event->error_code);
	vmwrite(VM_ENTRY_INSTRUCTION_LEN, event->insn_len);
	event->flags = 0;
}

static void syscall_msrs_write(u64 star, u64 lstar, u64 cstar, u64 fmask)
{
	native_wrmsrl(MSR_STAR, star);
	native_wrmsrl(MSR_LSTAR, lstar);
	native_wrmsrl(MSR_CSTAR, cstar);
	native_wrmsrl(MSR_SYSCALL_MASK, fmask);
}

/* What no VMX control switches is the guest's from here to host_registers(), only where it differs. (S4, S5) */
static void guest_registers(const struct vcpu *vcpu)
{
	const struct umbra_msrs *msr = &vcpu->in.msr;

	if (unlikely(vmx.flush_l1d))
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
	if (vcpu->hw->own_msrs)
		syscall_msrs_write(msr->star, msr->lstar, msr->cstar, msr->fmask);
}

static void host_registers(const struct vcpu *vcpu, unsigned long debugctl)
{
	struct desc_ptr gdt = { GDT_SIZE - 1, vcpu->hw->host_gdt };

	if (vcpu->hw->own_msrs)
		syscall_msrs_write(vmx.star, vmx.lstar, vmx.cstar, vmx.fmask);
	/* The exit leaves limits of 64 KiB and 103 bytes, DR7 and DEBUGCTL off. (SDM 3C 28.5) */
	native_load_gdt(&gdt);
	invalidate_tss_limit();
	if (unlikely(debugctl))
		update_debugctlmsr(debugctl);
}

/* ---- the exit ---- */

static void nmi_blocking(bool on)
{
	u32 state = vmread(GUEST_INTERRUPTIBILITY_INFO);

	vmwrite(GUEST_INTERRUPTIBILITY_INFO, on ? state | GUEST_INTR_STATE_NMI : state & ~GUEST_INTR_STATE_NMI);
}

static void event_read(struct umbra_event *event, u32 info)
{
	*event = (struct umbra_event) {
		.vector = info,
		.type = (info & VECTORING_INFO_TYPE_MASK) >> 8,
		.flags = UMBRA_EVENT_VALID | (info & VECTORING_INFO_DELIVER_CODE_MASK ? UMBRA_EVENT_ERROR_CODE : 0),
		.insn_len = vmread(VM_EXIT_INSTRUCTION_LEN),
		.error_code = vmread(IDT_VECTORING_ERROR_CODE),
	};
	/* The interrupted delivery of an NMI blocked NMIs, and will again. (SDM 3C 28.2.4, 32.7.1.2) */
	if (event->type == UMBRA_EVENT_NMI)
		nmi_blocking(false);
}

static enum run_result exit_ept(struct vcpu *vcpu)
{
	struct umbra_exit *exit = &vcpu->run->exit;
	u64 qual = vmread(EXIT_QUALIFICATION);

	vcpu->fault_gpa = vmread(GUEST_PHYSICAL_ADDRESS);
	vcpu->fault_access = qual & (UMBRA_MEM_READ | UMBRA_MEM_WRITE | UMBRA_MEM_EXEC);
	if (qual & BIT(7))
		vcpu->fault_access |= UMBRA_MEM_GVA | (qual & BIT(8) ? 0 : UMBRA_MEM_WALK);
	exit->gpa = vcpu->fault_gpa;
	exit->gva = vmread(GUEST_LINEAR_ADDRESS);
	/* An IRET that exits part-way has unblocked NMIs already; it will run again. (SDM 3C 28.2.3) */
	if (qual & INTR_INFO_UNBLOCK_NMI && !(vcpu->event.flags & UMBRA_EVENT_VALID))
		nmi_blocking(true);
	return RUN_FAULT;
}

/* The host's own: its handlers run before interrupts go on. */
static bool exit_for_host(u32 info)
{
	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR)
		asm volatile("int $2");
	else if ((u8)info == X86_TRAP_MC)
		compat_machine_check();
	else
		return false;
	return true;
}

/* Answers as data: the guest's registers from the table that the user side keeps for it. */
static bool exit_answer(struct umbra_run *run, u32 kind)
{
	u64 *gpr = run->gpr, rip = vmread(GUEST_RIP), next = rip + vmread(VM_EXIT_INSTRUCTION_LEN);
	u32 state, leaf = gpr[kind == UMBRA_ANSWER_CPUID ? UMBRA_RAX : UMBRA_RCX];
	const struct umbra_answer *answer = (void *)run + UMBRA_ANSWERS_OFFSET;

	answer += UMBRA_ANSWER_SLOT(leaf);
	/* A single step, and a step over 4 GiB, which depends on the mode, are the user side's. */
	if (answer->kind != kind || answer->leaf != leaf || (gpr[UMBRA_RCX] & answer->index_mask) != answer->index ||
	    (rip ^ next) >> 32 || vmread(GUEST_RFLAGS) & X86_EFLAGS_TF)
		return false;
	gpr[UMBRA_RAX] = answer->reg[0];
	gpr[UMBRA_RDX] = answer->reg[3];
	if (kind == UMBRA_ANSWER_CPUID) {
		gpr[UMBRA_RBX] = answer->reg[1];
		gpr[UMBRA_RCX] = answer->reg[2];
	}
	vmwrite(GUEST_RIP, next);
	state = vmread(GUEST_INTERRUPTIBILITY_INFO);
	if (unlikely(state & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)))
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, state & ~(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS));
	return true;
}

static enum run_result exit_refused(struct vcpu *vcpu, u32 rule, u32 reason)
{
	vcpu->exit_reason = UMBRA_EXIT_BAD_STATE;
	vcpu->run->exit.rule = rule;
	vcpu->run->exit.hw_reason = reason;
	vcpu->run->exit.hw_info = vmread(EXIT_QUALIFICATION);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0);
	return RUN_EXIT;
}

static enum run_result exit_handle(struct vcpu *vcpu, u32 reason)
{
	struct umbra_exit *exit = &vcpu->run->exit;
	u32 info;

	vcpu->exit_reason = UMBRA_EXIT_HARDWARE;
	switch (reason) {
	case EXIT_REASON_EXTERNAL_INTERRUPT:
		return RUN_AGAIN; /* taken when interrupts go on */
	case EXIT_REASON_PREEMPTION_TIMER:
		if (!vcpu->in.deadline_tsc || rdtsc() < vcpu->in.deadline_tsc)
			return RUN_AGAIN;
		vcpu->exit_reason = UMBRA_EXIT_DEADLINE;
		return RUN_EXIT;
	case EXIT_REASON_EPT_VIOLATION:
		return exit_ept(vcpu);
	case EXIT_REASON_CPUID:
		if (exit_answer(vcpu->run, UMBRA_ANSWER_CPUID))
			return RUN_AGAIN;
		break;
	case EXIT_REASON_MSR_READ:
		if (exit_answer(vcpu->run, UMBRA_ANSWER_RDMSR))
			return RUN_AGAIN;
		break;
	case EXIT_REASON_EXCEPTION_NMI:
		info = vmread(VM_EXIT_INTR_INFO);
		if (exit_for_host(info))
			return RUN_AGAIN;
		exit->hw_detail = info;
		exit->hw_error_code = vmread(VM_EXIT_INTR_ERROR_CODE);
		if (info & INTR_INFO_UNBLOCK_NMI && (u8)info != X86_TRAP_DF && !(vcpu->event.flags & UMBRA_EVENT_VALID))
			nmi_blocking(true);
		break;
	case EXIT_REASON_IO_INSTRUCTION:
		exit->hw_detail = vmread(VMX_INSTRUCTION_INFO);
		break;
	default:
		if (reason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
			if ((u16)reason == EXIT_REASON_MCE_DURING_VMENTRY)
				compat_machine_check();
			return exit_refused(vcpu, UMBRA_BAD_HARDWARE, (u16)reason);
		}
	}
	exit->hw_reason = reason;
	exit->insn_len = vmread(VM_EXIT_INSTRUCTION_LEN);
	exit->hw_info = vmread(EXIT_QUALIFICATION);
	return reason == EXIT_REASON_IO_INSTRUCTION && vmread(EXIT_QUALIFICATION) & BIT(4) ? RUN_EMULATE : RUN_EXIT;
}

enum run_result vmx_vcpu_enter(struct vcpu *vcpu, bool flush)
{
	struct umbra_run *run = vcpu->run, *in = &vcpu->in;
	struct hw_vcpu *hw = vcpu->hw;
	unsigned long cr2, debugctl;
	enum run_result result;
	u32 vectoring, reason;
	int failed;

	host_state_update(hw);
	if (likely(vcpu->dirty == UMBRA_STATE_RIP)) {
		vcpu->dirty = 0;
		vmwrite(GUEST_RIP, in->rip);
		vmwrite(GUEST_RFLAGS, in->rflags);
	} else if (vcpu->dirty) {
		vmx_store_dirty(vcpu);
	}
	if (unlikely(vcpu->new_controls))
		vmx_write_controls(vcpu);
	timer_update(vcpu);
	vmwrite(GUEST_RSP, READ_ONCE(run->gpr[UMBRA_RSP]));
	if (unlikely(vcpu->event.flags & UMBRA_EVENT_VALID))
		event_write(&vcpu->event);
	if (unlikely(flush || vcpu->flush_guest)) {
		vcpu->flush_guest = false;
		vmx_flush(VMX_EPT_EXTENT_CONTEXT, vmx_eptp(vcpu));
	}
	cr2 = READ_ONCE(run->cr2);
	if (cr2 != native_read_cr2())
		native_write_cr2(cr2);
	debugctl = __rdmsr(MSR_IA32_DEBUGCTLMSR);
	guest_registers(vcpu);

	failed = vmx_enter_guest(vcpu, run->gpr, (hw->launched ? VMX_LAUNCHED : 0) | (vmx.verw ? VMX_VERW : 0));

	host_registers(vcpu, debugctl);
	if (unlikely(failed))
		return exit_refused(vcpu, UMBRA_BAD_ENTRY, vmread(VM_INSTRUCTION_ERROR));
	reason = vmread(VM_EXIT_REASON);
	if (likely(!(reason & VMX_EXIT_REASONS_FAILED_VMENTRY)))
		hw->launched = true;
	run->cr2 = native_read_cr2();
	vectoring = vmread(IDT_VECTORING_INFO_FIELD);
	if (unlikely(vectoring & VECTORING_INFO_VALID_MASK))
		event_read(&vcpu->event, vectoring);
	result = exit_handle(vcpu, reason);
	run->gpr[UMBRA_RSP] = vmread(GUEST_RSP);
	run->rip = vmread(GUEST_RIP);
	run->rflags = vmread(GUEST_RFLAGS);
	run->intr_shadow = vmread(GUEST_INTERRUPTIBILITY_INFO) & INTR_SHADOW_BITS;
	return result;
}
