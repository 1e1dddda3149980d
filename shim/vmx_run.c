// SPDX-License-Identifier: GPL-2.0-only
#include "vmx.h"

#include <linux/hw_breakpoint.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/msr.h>
#include <asm/mmu_context.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>

/* VMCS fields of segment n (in the order of umbra_run.seg[]) lie 2 apart. */
#define SEG_FIELD(base, n) ((base) + 2 * (n))
#define AR_UNUSABLE (1 << 16)
#define AR_PRESENT (1 << 7)
#define AR_BITS 0xf0ff
#define INTR_SHADOW_BITS (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS | UMBRA_SHADOW_NMI)

/* ---- state into the VMCS: vcpu->in is checked ---- */

static void segment_write(const struct umbra_run *in, int first, int last)
{
	int i;

	for (i = first; i <= last; i++) {
		const struct umbra_segment *seg = &in->seg[i];

		vmwrite(SEG_FIELD(GUEST_ES_SELECTOR, i), seg->selector);
		vmwrite(SEG_FIELD(GUEST_ES_LIMIT, i), seg->limit);
		vmwrite(SEG_FIELD(GUEST_ES_AR_BYTES, i), seg->attr | (seg->attr & AR_PRESENT ? 0 : AR_UNUSABLE));
		vmwrite(SEG_FIELD(GUEST_ES_BASE, i), seg->base);
	}
}

static void cr_write(struct vcpu *vcpu)
{
	const struct umbra_run *in = &vcpu->in;
	u64 cr0 = (in->cr0 & ~(X86_CR0_CD | X86_CR0_NW)) | (vmx.cr0_fixed0 & ~(X86_CR0_PE | X86_CR0_PG));
	/* A machine check while CR4.MCE is 0 would shut the host down. (S4) */
	u64 cr4 = in->cr4 | vmx.cr4_fixed0 | X86_CR4_MCE;
	u32 entry = vmx.entry | (in->efer & EFER_LMA ? VM_ENTRY_IA32E_MODE : 0);
	int i;

	vmwrite(GUEST_CR0, cr0 & vmx.cr0_fixed1);
	vmwrite(CR0_READ_SHADOW, in->cr0);
	vmwrite(GUEST_CR3, in->cr3);
	vmwrite(GUEST_CR4, cr4);
	vmwrite(CR4_READ_SHADOW, in->cr4);
	vmwrite(GUEST_IA32_EFER, in->efer);
	vmwrite(VM_ENTRY_CONTROLS, entry);
	if ((in->cr4 & X86_CR4_PAE) && !(in->efer & EFER_LMA))
		for (i = 0; i < 4; i++)
			vmwrite(GUEST_PDPTR0 + 2 * i, in->pdpte[i]);
}

void vmx_store_dirty(struct vcpu *vcpu)
{
	const struct umbra_run *in = &vcpu->in;
	u64 dirty = vcpu->dirty;

	vcpu->dirty = 0;
	if (dirty & UMBRA_STATE_RIP) {
		vmwrite(GUEST_RIP, in->rip);
		vmwrite(GUEST_RFLAGS, in->rflags);
	}
	if (dirty & UMBRA_STATE_INTR) {
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, in->intr_shadow);
		vmwrite(GUEST_PENDING_DBG_EXCEPTIONS, in->pending_dbg);
	}
	if (dirty & UMBRA_STATE_SEG_CODE)
		segment_write(in, UMBRA_CS, UMBRA_SS);
	if (dirty & UMBRA_STATE_SEG_DATA) {
		segment_write(in, UMBRA_ES, UMBRA_ES);
		segment_write(in, UMBRA_DS, UMBRA_GS);
	}
	if (dirty & UMBRA_STATE_SEG_SYS) {
		segment_write(in, UMBRA_LDTR, UMBRA_TR);
		vmwrite(GUEST_GDTR_BASE, in->gdtr.base);
		vmwrite(GUEST_GDTR_LIMIT, in->gdtr.limit);
		vmwrite(GUEST_IDTR_BASE, in->idtr.base);
		vmwrite(GUEST_IDTR_LIMIT, in->idtr.limit);
	}
	if (dirty & UMBRA_STATE_CR)
		cr_write(vcpu);
	if (dirty & UMBRA_STATE_DR)
		vmwrite(GUEST_DR7, in->dr7 | 0x400);
	if (dirty & UMBRA_STATE_MSR) {
		vmwrite(GUEST_SYSENTER_CS, in->msr.sysenter_cs);
		vmwrite(GUEST_SYSENTER_ESP, in->msr.sysenter_esp);
		vmwrite(GUEST_SYSENTER_EIP, in->msr.sysenter_eip);
		vmwrite(GUEST_IA32_PAT, in->msr.pat);
		vcpu->hw->own_msrs = in->msr.star != vmx.star || in->msr.lstar != vmx.lstar ||
				     in->msr.cstar != vmx.cstar || in->msr.fmask != vmx.fmask;
	}
}

/* ---- state out of the VMCS, into the shared page ---- */

static void segment_read(struct umbra_run *run, int first, int last)
{
	int i;

	for (i = first; i <= last; i++) {
		u32 ar = vmread(SEG_FIELD(GUEST_ES_AR_BYTES, i));

		run->seg[i].selector = vmread(SEG_FIELD(GUEST_ES_SELECTOR, i));
		run->seg[i].attr = ar & (ar & AR_UNUSABLE ? AR_BITS & ~AR_PRESENT : AR_BITS);
		run->seg[i].limit = vmread(SEG_FIELD(GUEST_ES_LIMIT, i));
		run->seg[i].base = vmread(SEG_FIELD(GUEST_ES_BASE, i));
	}
}

void vmx_fetch(struct vcpu *vcpu, __u64 groups)
{
	struct umbra_run *run = vcpu->run, *in = &vcpu->in;
	int i;

	if (groups & UMBRA_STATE_INTR)
		run->pending_dbg = vmread(GUEST_PENDING_DBG_EXCEPTIONS);
	if (groups & UMBRA_STATE_SEG_CODE)
		segment_read(run, UMBRA_CS, UMBRA_SS);
	if (groups & UMBRA_STATE_SEG_DATA) {
		segment_read(run, UMBRA_ES, UMBRA_ES);
		segment_read(run, UMBRA_DS, UMBRA_GS);
	}
	if (groups & UMBRA_STATE_SEG_SYS) {
		segment_read(run, UMBRA_LDTR, UMBRA_TR);
		run->gdtr = (struct umbra_dtable){ vmread(GUEST_GDTR_BASE), vmread(GUEST_GDTR_LIMIT) };
		run->idtr = (struct umbra_dtable){ vmread(GUEST_IDTR_BASE), vmread(GUEST_IDTR_LIMIT) };
	}
	if (groups & UMBRA_STATE_CR) {
		run->cr0 = (in->cr0 & ~CR0_GUEST_OWNED) | (vmread(GUEST_CR0) & CR0_GUEST_OWNED);
		run->cr3 = vmread(GUEST_CR3);
		run->cr4 = (in->cr4 & ~CR4_GUEST_OWNED) | (vmread(GUEST_CR4) & CR4_GUEST_OWNED);
		run->efer = in->efer;
		run->xcr0 = in->xcr0;
		if (in->cr4 & X86_CR4_PAE && in->cr0 & X86_CR0_PG && !(in->efer & EFER_LMA))
			for (i = 0; i < 4; i++)
				run->pdpte[i] = vmread(GUEST_PDPTR0 + 2 * i);
	}
	if (groups & UMBRA_STATE_DR)
		memcpy(run->dr, in->dr, sizeof(in->dr)); /* dr7 cannot change without an exit */
	if (groups & UMBRA_STATE_MSR) {
		run->msr = in->msr;
		run->msr.sysenter_cs = vmread(GUEST_SYSENTER_CS);
		run->msr.sysenter_esp = vmread(GUEST_SYSENTER_ESP);
		run->msr.sysenter_eip = vmread(GUEST_SYSENTER_EIP);
	}
}

/* ---- before and after the switch ---- */

/* The fixed controls plus what the user side asked for; it can take nothing away. (S1) */
void vmx_write_controls(struct vcpu *vcpu)
{
	const struct umbra_run *in = &vcpu->in;
	u32 procbased = vmx.procbased;

	if (in->intercepts & UMBRA_ICPT_INTR_WINDOW)
		procbased |= CPU_BASED_INTR_WINDOW_EXITING;
	if (in->intercepts & UMBRA_ICPT_NMI_WINDOW)
		procbased |= CPU_BASED_NMI_WINDOW_EXITING;
	if (in->intercepts & UMBRA_ICPT_HLT)
		procbased |= CPU_BASED_HLT_EXITING;
	if (in->intercepts & UMBRA_ICPT_PAUSE && !(vmx.procbased2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING))
		procbased |= CPU_BASED_PAUSE_EXITING;
	if (in->intercepts & UMBRA_ICPT_CR3)
		procbased |= CPU_BASED_CR3_LOAD_EXITING;
	if (in->intercepts & UMBRA_ICPT_INVLPG)
		procbased |= CPU_BASED_INVLPG_EXITING;
	if (in->intercepts & UMBRA_ICPT_RDTSC)
		procbased |= CPU_BASED_RDTSC_EXITING;
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, procbased);
	vmwrite(EXCEPTION_BITMAP, in->exceptions | BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC)); /* (S3) */
	vmwrite(TSC_OFFSET, in->tsc_offset);
	vmwrite(TPR_THRESHOLD, in->tpr_threshold);
	vcpu->new_controls = false;
}

/* The preemption timer runs in any case; in time for the deadline where there is one. */
static void timer_update(struct vcpu *vcpu)
{
	struct hw_vcpu *hw = vcpu->hw;
	u32 ticks = vmx.timer_bound;

	if (vcpu->in.deadline_tsc) {
		u64 now = rdtsc(), left = vcpu->in.deadline_tsc - now;

		if (vcpu->in.deadline_tsc <= now)
			ticks = 0;
		else if (left >> vmx.timer_shift < ticks)
			ticks = (left >> vmx.timer_shift) + 1;
	}
	if (ticks != hw->timer) {
		hw->timer = ticks;
		vmwrite(VMX_PREEMPTION_TIMER_VALUE, ticks);
	}
}

/* The host's values that the exit loads: they can change between any two entries. */
static void host_state_update(struct hw_vcpu *hw)
{
	unsigned long cr3 = __read_cr3(), cr4 = cr4_read_shadow(), fs = rdfsbase();

	if (unlikely(cr3 != hw->host_cr3)) {
		hw->host_cr3 = cr3;
		vmwrite(HOST_CR3, cr3);
	}
	if (unlikely(cr4 != hw->host_cr4)) {
		hw->host_cr4 = cr4;
		vmwrite(HOST_CR4, cr4);
	}
	if (unlikely(fs != hw->host_fs)) {
		hw->host_fs = fs;
		vmwrite(HOST_FS_BASE, fs);
	}
	/* The guest runs with all counters off: no PEBS record is written with its addresses. (S5) */
	if (vmx.has_perf) {
		u64 perf = __rdmsr(MSR_CORE_PERF_GLOBAL_CTRL);

		if (perf != hw->host_perf) {
			hw->host_perf = perf;
			vmwrite(HOST_IA32_PERF_GLOBAL_CTRL, perf);
		}
	}
}

static void event_write(const struct umbra_event *event)
{
	u32 info = event->vector | event->type << 8 | INTR_INFO_VALID_MASK;

	if (event->flags & UMBRA_EVENT_ERROR_CODE) {
		info |= INTR_INFO_DELIVER_CODE_MASK;
		vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, event->error_code);
	}
	if (event->type >= UMBRA_EVENT_SOFT_INT)
		vmwrite(VM_ENTRY_INSTRUCTION_LEN, event->insn_len);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, info);
}

/* One single-context INVEPT also drops the guest's own (combined) translations of this VM. (SDM 3C 29.4.3.1) */
static void flush_ept(struct vcpu *vcpu)
{
	struct {
		u64 eptp, reserved;
	} operand = { __pa(vcpu->vm->pt.root) | vmx.eptp_bits };

	asm volatile("1: invept %0, %1\n2:\n" _ASM_EXTABLE(1b, 2b)
		     : : "m"(operand), "r"((unsigned long)VMX_EPT_EXTENT_CONTEXT) : "cc", "memory");
}

/*
 * MSRs and XCR0 that no VMX control switches: the guest's from here to host_msrs(), only where they differ, values
 * checked when they were handed in. (S4, S5)
 */
static void syscall_msrs_write(u64 star, u64 lstar, u64 cstar, u64 fmask)
{
	native_wrmsrl(MSR_STAR, star);
	native_wrmsrl(MSR_LSTAR, lstar);
	native_wrmsrl(MSR_CSTAR, cstar);
	native_wrmsrl(MSR_SYSCALL_MASK, fmask);
}

static void xcr0_write(u64 xcr0)
{
	asm volatile("xsetbv" : : "c"(0), "a"((u32)xcr0), "d"((u32)(xcr0 >> 32)));
}

static void guest_msrs(const struct vcpu *vcpu)
{
	const struct umbra_run *in = &vcpu->in;

	if (vcpu->hw->own_msrs)
		syscall_msrs_write(in->msr.star, in->msr.lstar, in->msr.cstar, in->msr.fmask);
	if (vmx.has_tsc_aux && in->msr.tsc_aux != this_cpu_read(vmx_tsc_aux))
		native_wrmsrl(MSR_TSC_AUX, in->msr.tsc_aux);
	if (in->cr4 & X86_CR4_OSXSAVE && in->xcr0 != vmx.xcr0)
		xcr0_write(in->xcr0);
}

static void host_msrs(const struct vcpu *vcpu)
{
	const struct umbra_run *in = &vcpu->in;

	if (in->cr4 & X86_CR4_OSXSAVE && in->xcr0 != vmx.xcr0)
		xcr0_write(vmx.xcr0);
	if (vmx.has_tsc_aux && in->msr.tsc_aux != this_cpu_read(vmx_tsc_aux))
		native_wrmsrl(MSR_TSC_AUX, this_cpu_read(vmx_tsc_aux));
	if (vcpu->hw->own_msrs)
		syscall_msrs_write(vmx.star, vmx.lstar, vmx.cstar, vmx.fmask);
}

/* DR0-DR3 are the guest's only while one of its breakpoints is on; the exit itself clears DR7. (SDM 3C 28.5.1) */
static void guest_breakpoints(const struct umbra_run *in)
{
	set_debugreg(0UL, 7);
	set_debugreg(in->dr[0], 0);
	set_debugreg(in->dr[1], 1);
	set_debugreg(in->dr[2], 2);
	set_debugreg(in->dr[3], 3);
}

/* ---- the exit ---- */

static void event_read(struct umbra_event *event)
{
	u32 info = vmread(IDT_VECTORING_INFO_FIELD);

	if (likely(!(info & VECTORING_INFO_VALID_MASK)))
		return;
	event->vector = info;
	event->type = (info & VECTORING_INFO_TYPE_MASK) >> 8;
	event->flags = UMBRA_EVENT_VALID;
	if (info & VECTORING_INFO_DELIVER_CODE_MASK) {
		event->flags |= UMBRA_EVENT_ERROR_CODE;
		event->error_code = vmread(IDT_VECTORING_ERROR_CODE);
	}
	if (event->type >= UMBRA_EVENT_SOFT_INT)
		event->insn_len = vmread(VM_EXIT_INSTRUCTION_LEN);
	/* The interrupted delivery of an NMI blocked NMIs, and will again. (SDM 3C 28.2.4, 32.7.1.2) */
	if (event->type == UMBRA_EVENT_NMI)
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, vmread(GUEST_INTERRUPTIBILITY_INFO) & ~GUEST_INTR_STATE_NMI);
}

/* An IRET that exits part-way has unblocked NMIs already; it will run again. (SDM 3C 28.2.3) */
static void nmi_block_again(const struct umbra_event *event)
{
	if (!(event->flags & UMBRA_EVENT_VALID))
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, vmread(GUEST_INTERRUPTIBILITY_INFO) | GUEST_INTR_STATE_NMI);
}

static enum run_result exit_exception(struct vcpu *vcpu)
{
	struct umbra_exit *exit = &vcpu->exit;
	u32 info = vmread(VM_EXIT_INTR_INFO);

	/* The host's own: its handlers run now, before interrupts go on. */
	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR) {
		asm volatile("int $2");
		return RUN_AGAIN;
	}
	exit->exc.vector = info;
	if (exit->exc.vector == X86_TRAP_MC) {
		asm volatile("int $18");
		return RUN_AGAIN;
	}
	exit->reason = UMBRA_EXIT_EXCEPTION;
	exit->insn_len = vmread(VM_EXIT_INSTRUCTION_LEN);
	if (info & INTR_INFO_DELIVER_CODE_MASK) {
		exit->exc.has_error_code = 1;
		exit->exc.error_code = vmread(VM_EXIT_INTR_ERROR_CODE);
	}
	if (exit->exc.vector == X86_TRAP_PF || exit->exc.vector == X86_TRAP_DB)
		exit->exc.payload = vmread(EXIT_QUALIFICATION);
	if (info & INTR_INFO_UNBLOCK_NMI && exit->exc.vector != X86_TRAP_DF)
		nmi_block_again(&exit->event);
	return RUN_EXIT;
}

static enum run_result exit_ept(struct vcpu *vcpu)
{
	struct umbra_exit *exit = &vcpu->exit;
	u64 qual = vmread(EXIT_QUALIFICATION);

	exit->reason = UMBRA_EXIT_MEM;
	exit->mem.gpa = vmread(GUEST_PHYSICAL_ADDRESS);
	exit->mem.access = qual & (UMBRA_MEM_READ | UMBRA_MEM_WRITE | UMBRA_MEM_EXEC);
	if (qual & BIT(7)) {
		exit->mem.access |= UMBRA_MEM_GVA | (qual & BIT(8) ? 0 : UMBRA_MEM_WALK);
		exit->mem.gva = vmread(GUEST_LINEAR_ADDRESS);
	}
	if (qual & INTR_INFO_UNBLOCK_NMI)
		nmi_block_again(&exit->event);
	return RUN_FAULT;
}

static void exit_io(struct umbra_exit *exit)
{
	u64 qual = vmread(EXIT_QUALIFICATION);

	exit->reason = UMBRA_EXIT_IO;
	exit->io.port = qual >> 16;
	exit->io.size = (qual & 7) + 1;
	exit->io.flags = (qual & BIT(3) ? UMBRA_IO_IN : 0) | (qual & BIT(4) ? UMBRA_IO_STRING : 0) |
			 (qual & BIT(5) ? UMBRA_IO_REP : 0);
	if (qual & BIT(4)) {
		u32 info = vmread(VMX_INSTRUCTION_INFO);

		exit->io.addr_size = 2 << (info >> 7 & 7);
		exit->io.seg = info >> 15 & 7;
	}
}

static void exit_cr(struct umbra_exit *exit)
{
	u64 qual = vmread(EXIT_QUALIFICATION);

	exit->reason = UMBRA_EXIT_CR;
	exit->cr.cr = qual & 15;
	exit->cr.op = qual >> 4 & 3;
	exit->cr.gpr = qual >> 8 & 15;
	exit->cr.lmsw = qual >> 16;
}

static void exit_dr(struct umbra_exit *exit)
{
	u64 qual = vmread(EXIT_QUALIFICATION);

	exit->reason = UMBRA_EXIT_DR;
	exit->dr.dr = qual & 7;
	exit->dr.write = !(qual & BIT(4));
	exit->dr.gpr = qual >> 8 & 15;
}

/* Exits that need nothing but their name; 0: not one of them. */
static const __u8 plain_exits[] = {
	[EXIT_REASON_TRIPLE_FAULT] = UMBRA_EXIT_SHUTDOWN,
	[EXIT_REASON_INTERRUPT_WINDOW] = UMBRA_EXIT_INTR_WINDOW,
	[EXIT_REASON_NMI_WINDOW] = UMBRA_EXIT_NMI_WINDOW,
	[EXIT_REASON_CPUID] = UMBRA_EXIT_CPUID,
	[EXIT_REASON_HLT] = UMBRA_EXIT_HLT,
	[EXIT_REASON_INVD] = UMBRA_EXIT_INVD,
	[EXIT_REASON_RDPMC] = UMBRA_EXIT_RDPMC,
	[EXIT_REASON_RDTSC] = UMBRA_EXIT_RDTSC,
	[EXIT_REASON_RDTSCP] = UMBRA_EXIT_RDTSC,
	[EXIT_REASON_VMCALL] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMCLEAR] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMLAUNCH] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMPTRLD] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMPTRST] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMREAD] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMRESUME] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMWRITE] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMOFF] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMON] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_INVEPT] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_INVVPID] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_VMFUNC] = UMBRA_EXIT_UNDEFINED,
	[EXIT_REASON_ENCLS] = UMBRA_EXIT_UNDEFINED,
	[11] = UMBRA_EXIT_UNDEFINED, /* GETSEC */
	[EXIT_REASON_MSR_READ] = UMBRA_EXIT_RDMSR,
	[EXIT_REASON_MSR_WRITE] = UMBRA_EXIT_WRMSR,
	[EXIT_REASON_MWAIT_INSTRUCTION] = UMBRA_EXIT_MWAIT,
	[EXIT_REASON_MONITOR_INSTRUCTION] = UMBRA_EXIT_MONITOR,
	[EXIT_REASON_PAUSE_INSTRUCTION] = UMBRA_EXIT_PAUSE,
	[EXIT_REASON_TPR_BELOW_THRESHOLD] = UMBRA_EXIT_TPR,
	[EXIT_REASON_WBINVD] = UMBRA_EXIT_WBINVD,
	[EXIT_REASON_XSETBV] = UMBRA_EXIT_XSETBV,
};

/* Exits that follow no instruction: their length field means nothing. */
static bool has_insn_len(__u32 reason)
{
	return reason != UMBRA_EXIT_SHUTDOWN && reason != UMBRA_EXIT_INTR_WINDOW && reason != UMBRA_EXIT_NMI_WINDOW &&
	       reason != UMBRA_EXIT_TPR;
}

static enum run_result exit_failed(struct umbra_exit *exit, u32 reason, u64 info, u32 rule)
{
	*exit = (struct umbra_exit){
		.reason = UMBRA_EXIT_BAD_STATE,
		.bad = { .rule = rule, .hw_reason = reason, .hw_info = info },
	};
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0);
	return RUN_EXIT;
}

static enum run_result exit_decode(struct vcpu *vcpu, u32 reason)
{
	struct umbra_exit *exit = &vcpu->exit;

	if (unlikely(reason & VMX_EXIT_REASONS_FAILED_VMENTRY)) {
		if ((u16)reason == EXIT_REASON_MCE_DURING_VMENTRY)
			asm volatile("int $18");
		return exit_failed(exit, (u16)reason, vmread(EXIT_QUALIFICATION), UMBRA_BAD_HARDWARE);
	}
	if (reason == EXIT_REASON_EXTERNAL_INTERRUPT)
		return RUN_AGAIN; /* taken when interrupts go on */
	if (reason < ARRAY_SIZE(plain_exits) && plain_exits[reason]) {
		exit->reason = plain_exits[reason];
		if (has_insn_len(exit->reason))
			exit->insn_len = vmread(VM_EXIT_INSTRUCTION_LEN);
		return RUN_EXIT;
	}
	memset(exit->pad, 0, sizeof(exit->pad));
	switch (reason) {
	case EXIT_REASON_EPT_VIOLATION:
		return exit_ept(vcpu);
	case EXIT_REASON_EXCEPTION_NMI:
		return exit_exception(vcpu);
	case EXIT_REASON_PREEMPTION_TIMER:
		if (!vcpu->in.deadline_tsc || rdtsc() < vcpu->in.deadline_tsc)
			return RUN_AGAIN;
		exit->reason = UMBRA_EXIT_DEADLINE;
		return RUN_EXIT;
	case EXIT_REASON_IO_INSTRUCTION:
		exit_io(exit);
		break;
	case EXIT_REASON_CR_ACCESS:
		exit_cr(exit);
		break;
	case EXIT_REASON_DR_ACCESS:
		exit_dr(exit);
		break;
	case EXIT_REASON_INVLPG:
		exit->reason = UMBRA_EXIT_INVLPG;
		exit->mem.gva = vmread(EXIT_QUALIFICATION);
		break;
	case EXIT_REASON_TASK_SWITCH:
		exit->reason = UMBRA_EXIT_TASK_SWITCH;
		exit->task.selector = vmread(EXIT_QUALIFICATION);
		exit->task.source = vmread(EXIT_QUALIFICATION) >> 30;
		break;
	default:
		exit->reason = UMBRA_EXIT_UNKNOWN;
		exit->bad.hw_reason = reason;
		exit->bad.hw_info = vmread(EXIT_QUALIFICATION);
		return RUN_EXIT;
	}
	exit->insn_len = vmread(VM_EXIT_INSTRUCTION_LEN);
	return RUN_EXIT;
}

static void host_mend(const struct hw_vcpu *hw, unsigned long debugctl)
{
	struct desc_ptr gdt = { GDT_SIZE - 1, hw->host_gdt };

	/* The exit leaves limits of 64 KiB and 103 bytes. (SDM 3C 28.5.2) */
	native_load_gdt(&gdt);
	invalidate_tss_limit();
	if (unlikely(debugctl))
		update_debugctlmsr(debugctl);
	if (unlikely(hw_breakpoint_active()))
		hw_breakpoint_restore();
}

enum run_result vmx_vcpu_enter(struct vcpu *vcpu, bool flush)
{
	struct umbra_run *run = vcpu->run, *in = &vcpu->in;
	struct hw_vcpu *hw = vcpu->hw;
	unsigned long cr2, debugctl, rsp;
	enum run_result result;
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
	rsp = READ_ONCE(run->gpr[UMBRA_RSP]);
	if (rsp != hw->rsp)
		vmwrite(GUEST_RSP, rsp);
	if (unlikely(vcpu->inject.flags & UMBRA_EVENT_VALID)) {
		event_write(&vcpu->inject);
		vcpu->inject.flags = 0;
	}
	if (unlikely(flush || vcpu->flush_guest)) {
		vcpu->flush_guest = false;
		flush_ept(vcpu);
	}
	cr2 = READ_ONCE(run->cr2);
	if (cr2 != native_read_cr2())
		native_write_cr2(cr2);
	debugctl = __rdmsr(MSR_IA32_DEBUGCTLMSR);
	if (unlikely(in->dr7 & 0xff))
		guest_breakpoints(in);
	if (unlikely(vmx.flush_l1d))
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
	guest_msrs(vcpu);

	failed = vmx_enter_guest(vcpu, run->gpr,
				 (hw->launched ? VMX_LAUNCHED : 0) | (vmx.verw ? VMX_VERW : 0));

	host_msrs(vcpu);
	host_mend(hw, debugctl);
	if (unlikely(failed))
		return exit_failed(&vcpu->exit, vmread(VM_INSTRUCTION_ERROR), 0, UMBRA_BAD_CONTROLS);
	hw->launched = true;
	run->cr2 = native_read_cr2();
	event_read(&vcpu->exit.event);
	result = exit_decode(vcpu, vmread(VM_EXIT_REASON));
	hw->rsp = vmread(GUEST_RSP);
	run->gpr[UMBRA_RSP] = hw->rsp;
	run->rip = vmread(GUEST_RIP);
	run->rflags = vmread(GUEST_RFLAGS);
	run->intr_shadow = vmread(GUEST_INTERRUPTIBILITY_INFO) & INTR_SHADOW_BITS;
	return result;
}
