// SPDX-License-Identifier: GPL-2.0-or-later
/* Proofs about what the shim writes to a VMCB: shim/svm_run.c, with the kernel's headers. */
#include "kernel_model.h"

#include <linux/percpu.h>

static struct svm_cpu *model_cpu(void);
#undef this_cpu_ptr
#define this_cpu_ptr(pointer) model_cpu()
#undef smp_processor_id
#define smp_processor_id() nondet_int()
#undef this_cpu_write
#define this_cpu_write(variable, value) ((void)((variable) = (value)))

#include "svm.h"
#include "svm_run.c"

static struct svm_cpu svm_cpu;
static struct svm_cpu *model_cpu(void)
{
	return &svm_cpu;
}

unsigned int svm_asids;
static struct vcpu vcpu;
static struct hw_vcpu hw;
static struct vmcb vmcb, before;

/* A VMCB as svm_write_constants() leaves it is a special case of any VMCB: what was set in it must still be. */
static void any_vmcb(void)
{
	struct vmcb any;

	vmcb = any;
	before = any;
	vcpu.in = nondet_run();
	vcpu.dirty = nondet_u64();
	vcpu.hw = &hw;
	hw.vmcb = &vmcb;
}

/*
 * PROOF svm-controls: whatever is handed in, no fixed intercept goes, and no address, tag or nesting control changes
 * BOUNDS: any run area, any VMCB
 * CBMC: KERNEL
 * MUTATION svm_run.c: s/ \| BIT\(X86_TRAP_DB\)//
 * MUTATION svm_run.c: s/V_INTR_MASKING_MASK \|/0 |/
 * MUTATION svm_run.c: s/intercept\(control, INTERCEPT_HLT,/intercept(control, INTERCEPT_CPUID,/
 * MUTATION svm_run.c: s/control->tsc_offset = /control->nested_ctl = /
 */
void svm_controls_proof(void)
{
	struct vmcb_control_area *now = &vmcb.control, *old = &before.control;
	unsigned int word = nondet_u32();
	u32 free = 0;

	any_vmcb();
	svm_write_controls(&vcpu);
	ASSUME(word < MAX_INTERCEPT && word != INTERCEPT_EXCEPTION);
	if (word == INTERCEPT_WORD3)
		free = BIT(INTERCEPT_VINTR % 32) | BIT(INTERCEPT_IRET % 32) | BIT(INTERCEPT_HLT % 32) |
		       BIT(INTERCEPT_PAUSE % 32);
	PROVE(!((now->intercepts[word] ^ old->intercepts[word]) & ~free), "no intercept changes but the ABI's four");
	PROVE((now->intercepts[INTERCEPT_EXCEPTION] & (1 << 1 | 1 << 17 | 1 << 18)) == (1 << 1 | 1 << 17 | 1 << 18),
	      "#DB, #AC and #MC exit");
	PROVE(now->iopm_base_pa == old->iopm_base_pa && now->msrpm_base_pa == old->msrpm_base_pa,
	      "the bitmaps are the shim's");
	PROVE(now->nested_ctl == old->nested_ctl && now->nested_cr3 == old->nested_cr3, "the tables are the shim's");
	PROVE(now->asid == old->asid && now->tlb_ctl == old->tlb_ctl, "the tags are the shim's");
	PROVE(now->int_ctl >> 24 & 1, "the host's interrupts exit whatever the guest's IF is");
	PROVE(now->virt_ext == old->virt_ext && now->avic_backing_page == old->avic_backing_page, "no AVIC, no LBR");
}

/*
 * PROOF svm-state: state goes to the save area's guest fields only; EFER.SVME and CR4.MCE are on, the cache bits off
 * BOUNDS: any run area, any VMCB, any mask of dirty groups
 * CBMC: KERNEL --unwind 30
 * MUTATION svm_run.c: s/in->efer \| EFER_SVME/in->efer/
 * MUTATION svm_run.c: s/in->cr4 \| X86_CR4_MCE/in->cr4/
 * MUTATION svm_run.c: s/attr >> 5 & 3/attr >> 5/
 * MUTATION svm_run.c: s/INTERCEPT_CR0_WRITE, in->cr0/INTERCEPT_CR4_WRITE, in->cr0/
 */
void svm_state_proof(void)
{
	struct vmcb_control_area *now = &vmcb.control, *old = &before.control;
	bool cr;
	u32 free;

	any_vmcb();
	cr = vcpu.dirty & UMBRA_STATE_CR;
	svm_store_dirty(&vcpu);
	free = BIT(INTERCEPT_CR0_READ) | BIT(INTERCEPT_CR0_WRITE);
	PROVE(!((now->intercepts[0] ^ old->intercepts[0]) & ~free), "no intercept changes but those of CR0");
	PROVE(now->intercepts[1] == old->intercepts[1] && now->intercepts[2] == old->intercepts[2] &&
		      now->intercepts[3] == old->intercepts[3] && now->intercepts[4] == old->intercepts[4],
	      "nor another");
	PROVE(now->iopm_base_pa == old->iopm_base_pa && now->msrpm_base_pa == old->msrpm_base_pa &&
		      now->nested_cr3 == old->nested_cr3 && now->asid == old->asid && now->int_ctl == old->int_ctl,
	      "no control changes");
	PROVE(!(now->int_state & ~1U) || now->int_state == old->int_state, "the interrupt shadow alone");
	PROVE(!cr || (vmcb.save.efer >> 12 & 1), "EFER.SVME is on, without which VMRUN fails");
	PROVE(!cr || (vmcb.save.cr4 >> 6 & 1), "CR4.MCE is on");
	PROVE(!cr || !(vmcb.save.cr0 & (1 << 30 | 1 << 29)),
	      "CR0.CD and CR0.NW, which would be the host's cache, are off");
	PROVE(!cr || !(vcpu.in.cr0 & (1 << 30 | 1 << 29)) || ((now->intercepts[0] & free) == free),
	      "then its accesses exit");
	PROVE(vmcb.save.cpl <= 3 || vmcb.save.cpl == before.save.cpl, "a privilege level");
	PROVE(vmcb.save.dbgctl == before.save.dbgctl && vmcb.save.vmpl == before.save.vmpl &&
		      vmcb.save.last_excp_from == before.save.last_excp_from,
	      "DEBUGCTL stays as it is");
	PROVE(!vcpu.dirty, "all of it is stored");
}

/*
 * PROOF svm-asid: a fresh tag is one a guest may have, and no (generation, tag) is given out twice on a CPU
 * BOUNDS: any number of ASIDs from 2 up, any CPU state that this function leaves behind
 * CBMC: KERNEL
 * MUTATION svm_run.c: s/cpu->asid = 1;/cpu->asid = 0;/
 * MUTATION svm_run.c: s/cpu->asid >= svm_asids/cpu->asid > svm_asids/
 * MUTATION svm_run.c: s/tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID/tlb_ctl = TLB_CONTROL_DO_NOTHING/
 */
void svm_asid_proof(void)
{
	unsigned int generation, asid;
	struct svm_cpu any;

	any_vmcb();
	svm_asids = nondet_u32();
	svm_cpu = any;
	ASSUME(svm_asids >= 2 && svm_cpu.asid >= 1 && svm_cpu.asid <= svm_asids && svm_cpu.generation < UINT_MAX);
	vmcb.control.tlb_ctl = TLB_CONTROL_DO_NOTHING;
	generation = svm_cpu.generation;
	asid = svm_cpu.asid; /* none from here up was given out in this generation */
	svm_new_asid(&hw);
	PROVE(vmcb.control.asid >= 1 && vmcb.control.asid < svm_asids, "the host's tag 0 is no guest's");
	PROVE(hw.generation == svm_cpu.generation, "of this generation");
	PROVE(hw.generation == generation ? vmcb.control.asid >= asid : hw.generation == generation + 1,
	      "not used before");
	PROVE(hw.generation == generation || vmcb.control.tlb_ctl == TLB_CONTROL_FLUSH_ALL_ASID, "or all are flushed");
	PROVE(svm_cpu.asid > vmcb.control.asid && svm_cpu.asid <= svm_asids, "and not again");
}

/*
 * PROOF svm-event: an injected event has no reserved bit, and is injected once
 * BOUNDS: any event; 1 << 31 is defined, as the kernel is compiled (-fno-strict-overflow)
 * CBMC: KERNEL --no-signed-overflow-check
 * MUTATION svm_run.c: s/\(event->type & 7\) << SVM/event->type << SVM/
 */
void svm_event_proof(void)
{
	struct umbra_event event = nondet_run().inject;

	any_vmcb();
	event_write(&vmcb.control, &event);
	PROVE((vmcb.control.event_inj & 0x7ffff000) == 0 && vmcb.control.event_inj >> 31 == 1,
	      "valid, bits 12 to 30 are zero");
	PROVE(!(event.flags & UMBRA_EVENT_VALID), "used up");
}

/*
 * PROOF svm-fetch: only the guest's save area is read for the user side, and it stays inside the run area
 * BOUNDS: any VMCB, any mask of wanted groups
 * CBMC: KERNEL --unwind 30
 * MUTATION svm_run.c: s/memcpy\(\(void \*\)run \+ fields/memcpy((void *)(run + 1) - 8 + fields/
 * MUTATION svm_run.c: s/run->cr4 = in->cr4;/run->cr4 = save->cr4;/
 */
void svm_fetch_proof(void)
{
	static struct umbra_run run;

	any_vmcb();
	vcpu.run = &run;
	vcpu.dirty = 0;
	vmcb.save.cr4 = vcpu.in.cr4 | 1 << 6; /* svm_store_dirty() */
	run.cr4 = vcpu.in.cr4;
	svm_fetch(&vcpu, nondet_u64());
	PROVE(run.cr4 == vcpu.in.cr4, "the host's CR4.MCE does not show");
}

DEFINE_PER_CPU(struct svm_cpu, svm_cpus);

/*
 * PROOF svm-refused: after an entry that the CPU refused the vCPU's next one flushes, with a tag that comes after a flush of all
 * BOUNDS: any VMCB, any vCPU, any number of tags
 * CBMC: KERNEL --unwind 30
 * MUTATION svm_run.c: s/vcpu->flush_guest = true;/;/
 * MUTATION svm_run.c: s/this_cpu_write\(svm_cpus\.asid, svm_asids\);/;/
 */
void svm_refused_proof(void)
{
	static struct umbra_run run;

	any_vmcb();
	vcpu.run = &run;
	svm_asids = nondet_u32();
	ASSUME(vmcb.control.exit_code == (u32)SVM_EXIT_ERR && svm_asids > 1);
	PROVE(exit_handle(&vcpu) == RUN_EXIT && vcpu.exit_reason == UMBRA_EXIT_BAD_STATE, "it is said");
	PROVE(vcpu.flush_guest && svm_cpus.asid >= svm_asids, "a new tag, of a new generation");
}
