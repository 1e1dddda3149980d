// SPDX-License-Identifier: GPL-2.0-or-later
/* Proofs about what the shim writes to a VMCS: shim/vmx_run.c and shim/vmx.c, with the kernel's headers. */
#include "kernel_model.h"

#define vmwrite vmwrite_insn
#define vmread vmread_insn
#include "vmx.h"
#undef vmwrite
#undef vmread

/* The VMCS: one field of it is watched, which can be any; so what holds of it holds of all. */
static unsigned long watched, last;
static bool written;

static void vmwrite(unsigned long field, unsigned long value)
{
	if (field != watched)
		return;
	written = true;
	last = value;
}

/* Read-only data and guest state; never host state, whose values would go to the user side. (SDM 3C 25.11.2) */
static unsigned long vmread(unsigned long field)
{
	unsigned long type = field >> 10 & 3;

	PROVE(type == 1 || type == 2, "what is read is the guest's");
	return nondet_u64();
}

#include "vmx_run.c"

static void any_vmx(void)
{
	struct vmx_config any;

	vmx = any;
	watched = nondet_u64();
	written = false;
}

struct vmx_config vmx;
static struct vcpu vcpu;
static struct hw_vcpu hw;

/*
 * PROOF vmx-controls: whatever is handed in, the base's exits stay on, and only four intercepts can be added
 * BOUNDS: any run area, any base
 * CBMC: KERNEL
 * MUTATION vmx_run.c: s/procbased = vmx\.procbased,/procbased = vmx.procbased \& ~in->tpr_threshold,/
 * MUTATION vmx_run.c: s/ \| BIT\(X86_TRAP_AC\)//
 * MUTATION vmx_run.c: s/vmwrite\(TSC_OFFSET, in->tsc_offset\)/vmwrite(TSC_OFFSET + in->reserved2, in->tsc_offset)/
 */
void vmx_controls_proof(void)
{
	u32 base, added;

	any_vmx();
	vcpu.in = nondet_run();
	vmx_write_controls(&vcpu);
	switch (watched) {
	case CPU_BASED_VM_EXEC_CONTROL:
		base = vmx.procbased;
		added = CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING | CPU_BASED_HLT_EXITING;
		break;
	case SECONDARY_VM_EXEC_CONTROL:
		base = vmx.procbased2;
		added = vmx.can_ple ? SECONDARY_EXEC_PAUSE_LOOP_EXITING : 0;
		break;
	case EXCEPTION_BITMAP:
		PROVE(written && (last & 1 << 1) && (last & 1 << 17) && (last & 1 << 18), "#DB, #AC and #MC exit");
		return;
	case TSC_OFFSET:
	case TPR_THRESHOLD:
		PROVE(written, "written each time");
		return;
	default:
		PROVE(!written, "no other field");
		return;
	}
	PROVE(written && (last & base) == base, "no exit of the base is taken away");
	PROVE(!(last & ~(u64)(base | added)), "nothing is added but what the ABI names");
}

/*
 * PROOF vmx-state: state goes to guest fields only; CR0, CR4 and the entry controls keep what is the host's
 * BOUNDS: any run area, any base, any mask of dirty groups
 * CBMC: KERNEL --unwind 52
 * MUTATION vmx_run.c: s/in->cr4 \| vmx\.cr4_fixed0 \| X86_CR4_MCE/in->cr4 | vmx.cr4_fixed0/
 * MUTATION vmx_run.c: s/in->cr0 & ~\(X86_CR0_CD \| X86_CR0_NW\)/in->cr0/
 * MUTATION vmx_run.c: s/FIELD\(GUEST_DR7, dr7/FIELD(HOST_CR4, dr7/
 * MUTATION vmx_run.c: s/in->efer & EFER_LMA \? VM_ENTRY_IA32E_MODE : 0/(u32)in->efer/
 */
void vmx_state_proof(void)
{
	any_vmx();
	vcpu.in = nondet_run();
	vcpu.dirty = nondet_u64();
	vcpu.hw = &hw;
	vmx_store_dirty(&vcpu);
	PROVE(!vcpu.dirty, "all of it is stored");
	if (!written)
		return;
	switch (watched) {
	case GUEST_CR0:
		PROVE(!(last & ~(vcpu.in.cr0 | vmx.cr0_fixed0)) && !(last & (1 << 30 | 1 << 29) & ~vmx.cr0_fixed0),
		      "no CR0.CD and CR0.NW, which would be the host's cache");
		PROVE((last & vmx.cr0_fixed0 & ~0x80000001ULL) == (vmx.cr0_fixed0 & ~0x80000001ULL),
		      "the CPU's fixed bits");
		break;
	case GUEST_CR4:
		PROVE(last == (vcpu.in.cr4 | vmx.cr4_fixed0 | 1 << 6), "CR4.MCE and the CPU's fixed bits are on");
		break;
	case VM_ENTRY_CONTROLS:
		PROVE((last & ~(1UL << 9)) == (vmx.entry & ~(1U << 9)),
		      "nothing but IA-32e mode differs from the base");
		break;
	case CR0_READ_SHADOW:
	case CR4_READ_SHADOW:
		break;
	default: /* SDM 3D B: type 2 is guest state */
		PROVE((watched >> 10 & 3) == 2, "a guest-state field");
		PROVE(watched != VMCS_LINK_POINTER && watched != GUEST_IA32_DEBUGCTL &&
			      watched != GUEST_IA32_PERF_GLOBAL_CTRL && watched != VMX_PREEMPTION_TIMER_VALUE &&
			      watched != GUEST_BNDCFGS,
		      "not one of the shim's own");
		PROVE(watched != GUEST_ACTIVITY_STATE || last == 0, "the CPU is active");
	}
}

/*
 * PROOF vmx-fetch: only guest fields are read for the user side, and they stay inside the run area
 * BOUNDS: any masks
 * CBMC: KERNEL --unwind 52
 * MUTATION vmx_run.c: s/FIELD\(GUEST_DR7, dr7/FIELD(HOST_CR4, dr7/
 * MUTATION vmx_run.c: s/to = \(void \*\)run \+ fields/to = (void *)(run + 1) - 4 + fields/
 */
void vmx_fetch_proof(void)
{
	static struct umbra_run run;

	any_vmx();
	vcpu.in = nondet_run();
	vcpu.run = &run;
	vcpu.hw = &hw;
	vcpu.dirty = 0;
	vmx_fetch(&vcpu, nondet_u64());
	PROVE(!written, "nothing is written");
}

/*
 * PROOF vmx-event: an injected event has no reserved bit, and is injected once
 * BOUNDS: any event
 * CBMC: KERNEL
 * MUTATION vmx_run.c: s/\(event->type & 7\) << 8/event->type << 8/
 */
void vmx_event_proof(void)
{
	struct umbra_event event = nondet_run().inject;

	any_vmx();
	event_write(&event);
	if (watched == VM_ENTRY_INTR_INFO_FIELD)
		PROVE(written && (last & 0x7ffff000) == 0 && (last >> 31) == 1, "valid, and bits 12 to 30 are zero");
	else
		PROVE(!written || watched == VM_ENTRY_EXCEPTION_ERROR_CODE || watched == VM_ENTRY_INSTRUCTION_LEN,
		      "no other");
	PROVE(!(event.flags & UMBRA_EVENT_VALID), "used up");
}

/*
 * PROOF vmx-timer: the guest never runs longer than the bound in one go
 * BOUNDS: any deadline, any time, any shift below 32
 * CBMC: KERNEL
 * MUTATION vmx_run.c: s/>> vmx\.timer_shift < ticks\)/> 0)/
 */
void vmx_timer_proof(void)
{
	any_vmx();
	watched = VMX_PREEMPTION_TIMER_VALUE;
	ASSUME(vmx.timer_shift < 32 && vmx.timer_bound >= 1);
	vcpu.hw = &hw;
	vcpu.in.deadline_tsc = nondet_u64();
	hw.timer = nondet_u32();
	last = hw.timer;
	ASSUME(hw.timer <= vmx.timer_bound); /* as at creation, and by induction */
	timer_update(&vcpu);
	PROVE(last <= vmx.timer_bound && hw.timer == last, "bounded, and remembered right");
}

/*
 * PROOF vmx-answer: an answer as data changes RAX to RDX, RIP and the interrupt shadow of the guest, and nothing else
 * BOUNDS: any run page, any registers
 * CBMC: KERNEL
 * MUTATION vmx_run.c: s/answer \+= UMBRA_ANSWER_SLOT\(leaf\)/answer += leaf \& 127/
 * MUTATION vmx_run.c: s/gpr\[UMBRA_RDX\] = answer/gpr[answer->index_mask \& 15] = answer/
 */
void vmx_answer_proof(void)
{
	typedef union {
		struct umbra_run run;
		u64 word[512];
	} run_page;
	static run_page page;
	run_page any;
	unsigned int witness = nondet_u32();
	u64 before;

	any_vmx();
	page = any;
	ASSUME(witness < 512);
	before = page.word[witness];
	if (!exit_answer(&page.run, nondet_bool() ? UMBRA_ANSWER_CPUID : UMBRA_ANSWER_RDMSR))
		PROVE(!written && page.word[witness] == before, "no answer changes nothing");
	PROVE(page.word[witness] == before ||
		      (&page.word[witness] >= &page.run.gpr[0] && &page.word[witness] <= &page.run.gpr[3]),
	      "no register but RAX to RDX");
	PROVE(!written || watched == GUEST_RIP || watched == GUEST_INTERRUPTIBILITY_INFO, "no other field");
}
