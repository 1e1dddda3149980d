// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) "umbra: " fmt

#include "compat.h"
#include "vmx.h"

#include <linux/cpu.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/perf_event.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/tlbflush.h>
#include <asm/tsc.h>

struct vmx_config vmx;
static DEFINE_PER_CPU(void *, vmx_region);
static DEFINE_PER_CPU(struct list_head, vmx_active);
static DEFINE_IDA(vmx_vpids);
static unsigned long *msr_bitmap; /* one for all: it is the same for each */

/* VMX's own encoding of the second-level entries. (SDM 3C 29.3.2) */
#define EPT_RWX (VMX_EPT_READABLE_MASK | VMX_EPT_WRITABLE_MASK | VMX_EPT_EXECUTABLE_MASK)
static const struct pt_format vmx_pt_format = {
	.table = EPT_RWX,
	.leaf = VMX_EPT_READABLE_MASK | VMX_EPT_EXECUTABLE_MASK | VMX_EPT_IPAT_BIT | 6 << VMX_EPT_MT_EPTE_SHIFT,
	.write = VMX_EPT_WRITABLE_MASK,
	.huge = 1 << 7,
};

/*
 * The only MSRs a guest reaches without an exit. All live in the VMCS or, KERNEL_GS_BASE, in the calling thread's own
 * state; hardware checks what is written; none tells anything of the host. (S2)
 */
static const struct {
	u32 msr;
	bool write;
} passed_msrs[] = {
	{ MSR_FS_BASE, true },		{ MSR_GS_BASE, true },		 { MSR_KERNEL_GS_BASE, true },
	{ MSR_IA32_SYSENTER_CS, true }, { MSR_IA32_SYSENTER_ESP, true }, { MSR_IA32_SYSENTER_EIP, true },
	{ MSR_IA32_TSC, false }, /* TSC offset applies */
};

void vmwrite_failed(unsigned long field, unsigned long value)
{
	WARN_ONCE(1, "umbra: vmwrite %lx = %lx failed\n", field, value);
}

static bool vmx_insn_vmxon(u64 pa)
{
	asm goto("1: vmxon %0\n"
		 "jna %l[failed]\n" FAULTS_TO(failed)
		 :
		 : "m"(pa)
		 : "cc", "memory"
		 : failed);
	return true;
failed:
	return false;
}

static void vmx_insn_vmclear(void *vmcs)
{
	u64 pa = __pa(vmcs);

	asm volatile("1: vmclear %0\n2:\n" _ASM_EXTABLE(1b, 2b) : : "m"(pa) : "cc", "memory");
}

static void vmx_insn_vmptrld(void *vmcs)
{
	u64 pa = __pa(vmcs);

	asm volatile("1: vmptrld %0\n2:\n" _ASM_EXTABLE(1b, 2b) : : "m"(pa) : "cc", "memory");
}

/* All of this CPU's VMCSs to memory, then out of VMX. */
static void vmx_cpu_disable(void)
{
	struct hw_vcpu *hw, *next;

	list_for_each_entry_safe (hw, next, this_cpu_ptr(&vmx_active), active) {
		vmx_insn_vmclear(hw->vmcs);
		list_del(&hw->active);
		hw->launched = false;
		WRITE_ONCE(hw->cpu, -1);
	}
	asm volatile("1: vmxoff\n2:\n" _ASM_EXTABLE(1b, 2b) : : : "cc", "memory");
	cr4_clear_bits_irqsoff(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
}

static bool vmx_unlocked(void)
{
	u64 control, want = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;

	return !rdmsrl_safe(MSR_IA32_FEAT_CTL, &control) && (control & want) == want;
}

static int vmx_cpu_enable(void)
{
	if (cr4_read_shadow() & X86_CR4_VMXE)
		return -EBUSY;
	if (!vmx_unlocked())
		return -EIO;
	/* Only here are they the host's for sure: kvm_intel leaves a guest's in them until its own cpu_disable. */
	rdmsrl(MSR_STAR, vmx.star);
	rdmsrl(MSR_LSTAR, vmx.lstar);
	rdmsrl(MSR_CSTAR, vmx.cstar);
	rdmsrl(MSR_SYSCALL_MASK, vmx.fmask);
	intel_pt_handle_vmx(1);
	cr4_set_bits_irqsoff(X86_CR4_VMXE);
	if (vmx_insn_vmxon(__pa(this_cpu_read(vmx_region)))) {
		vmx_flush(VMX_EPT_EXTENT_GLOBAL, 0);
		return 0;
	}
	cr4_clear_bits_irqsoff(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
	return -EIO;
}

/* On the CPU where the VMCS is active (or was: then there is nothing to do). */
static void vmx_deactivate(void *arg)
{
	struct hw_vcpu *hw = arg;

	if (hw->cpu != smp_processor_id())
		return;
	vmx_insn_vmclear(hw->vmcs);
	list_del(&hw->active);
	if (this_cpu_read(vcpu_current) == hw->vcpu)
		this_cpu_write(vcpu_current, NULL);
	hw->launched = false;
	smp_wmb(); /* pairs with the control dependency in vmx_vcpu_load: -1 comes last */
	WRITE_ONCE(hw->cpu, -1);
}

/* What differs from CPU to CPU in the host's state. (SDM 3C 25.5) */
static void vmx_write_host_cpu(struct hw_vcpu *hw)
{
	int cpu = smp_processor_id();

	vmwrite(HOST_TR_BASE, (unsigned long)&get_cpu_entry_area(cpu)->tss.x86_tss);
	hw->host_gdt = (unsigned long)get_cpu_gdt_ro(cpu);
	vmwrite(HOST_GDTR_BASE, hw->host_gdt);
	vmwrite(HOST_GS_BASE, cpu_kernelmode_gs_base(cpu));
	vmwrite(HOST_IA32_SYSENTER_ESP, __rdmsr(MSR_IA32_SYSENTER_ESP));
}

static const u16 zero_fields[] = {
	HOST_DS_SELECTOR,	 HOST_ES_SELECTOR,	     HOST_FS_SELECTOR,
	HOST_GS_SELECTOR,	 PAGE_FAULT_ERROR_CODE_MASK, PAGE_FAULT_ERROR_CODE_MATCH,
	CR3_TARGET_COUNT,	 VM_EXIT_MSR_STORE_COUNT,    VM_EXIT_MSR_LOAD_COUNT,
	VM_ENTRY_MSR_LOAD_COUNT, VM_ENTRY_INTR_INFO_FIELD,   GUEST_IA32_DEBUGCTL,
	GUEST_ACTIVITY_STATE,
};

static void vmx_write_constants(struct vcpu *vcpu)
{
	struct hw_vcpu *hw = vcpu->hw;
	struct desc_ptr idt;
	int i;

	/* Host state that is the same on every CPU. */
	store_idt(&idt);
	vmwrite(HOST_IDTR_BASE, idt.address);
	vmwrite(HOST_CR0, read_cr0() & ~X86_CR0_TS);
	vmwrite(HOST_CS_SELECTOR, __KERNEL_CS);
	vmwrite(HOST_SS_SELECTOR, __KERNEL_DS);
	vmwrite(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
	vmwrite(HOST_RIP, (unsigned long)vmx_exit_point);
	vmwrite(HOST_IA32_SYSENTER_CS, __rdmsr(MSR_IA32_SYSENTER_CS));
	vmwrite(HOST_IA32_SYSENTER_EIP, __rdmsr(MSR_IA32_SYSENTER_EIP));
	vmwrite(HOST_IA32_PAT, __rdmsr(MSR_IA32_CR_PAT));
	vmwrite(HOST_IA32_EFER, __rdmsr(MSR_EFER));

	/* Controls: nothing of this can be changed from outside. (S1) */
	for (i = 0; i < ARRAY_SIZE(zero_fields); i++)
		vmwrite(zero_fields[i], 0);
	vmwrite(PIN_BASED_VM_EXEC_CONTROL, vmx.pinbased);
	vmwrite(VM_EXIT_CONTROLS, vmx.exit);
	vmwrite(MSR_BITMAP, __pa(msr_bitmap));
	vmwrite(EPT_POINTER, vmx_eptp(vcpu));
	vmwrite(VIRTUAL_PROCESSOR_ID, hw->vpid);
	if (vmx.procbased & CPU_BASED_TPR_SHADOW)
		vmwrite(VIRTUAL_APIC_PAGE_ADDR, __pa(vcpu->vapic));
	if (vmx.can_ple) {
		vmwrite(PLE_GAP, 128);
		vmwrite(PLE_WINDOW, 4096);
	}
	if (vmx.procbased2 & SECONDARY_EXEC_ENCLS_EXITING)
		vmwrite(ENCLS_EXITING_BITMAP, -1ULL);
	vmwrite(CR0_GUEST_HOST_MASK, ~CR0_GUEST_OWNED);
	vmwrite(CR4_GUEST_HOST_MASK, ~CR4_GUEST_OWNED);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, vmx.timer_bound);
	vmwrite(VMCS_LINK_POINTER, -1ULL);
	if (vmx.has_perf)
		vmwrite(GUEST_IA32_PERF_GLOBAL_CTRL, 0);
	vmx_write_controls(vcpu);
	hw->timer = vmx.timer_bound;
	hw->filled = true;
	vcpu->dirty = UMBRA_STATE_ALL;
}

/* Brings the VMCS here; may open a window for interrupts, in which the CPU may change. */
static int vmx_vcpu_load(struct vcpu *vcpu)
{
	struct hw_vcpu *hw = vcpu->hw;
	int cpu;

	while ((cpu = READ_ONCE(hw->cpu)) >= 0 && cpu != smp_processor_id()) {
		local_irq_enable();
		smp_call_function_single(cpu, vmx_deactivate, hw, 1);
		local_irq_disable();
	}
	if (!this_cpu_read(hw_on))
		return -EIO;
	if (hw->cpu < 0)
		vmx_insn_vmclear(hw->vmcs); /* also a new one's launch state is clear */
	vmx_insn_vmptrld(hw->vmcs);
	this_cpu_write(vcpu_current, vcpu);
	/* The guest before must not steer this one's indirect branches. */
	indirect_branch_prediction_barrier();
	if (hw->cpu < 0) {
		list_add(&hw->active, this_cpu_ptr(&vmx_active));
		hw->cpu = smp_processor_id();
		if (!hw->filled)
			vmx_write_constants(vcpu);
		vmx_write_host_cpu(hw);
		/* This CPU may hold translations from when the vCPU was here last. (S8) */
		vcpu->flushed_generation = READ_ONCE(vcpu->vm->flush_generation) - 1;
	}
	return 0;
}

static void vmx_vcpu_destroy(struct vcpu *vcpu)
{
	struct hw_vcpu *hw = vcpu->hw;
	int cpu;

	while ((cpu = READ_ONCE(hw->cpu)) >= 0)
		smp_call_function_single(cpu, vmx_deactivate, hw, 1);
	if (hw->vpid > 0)
		ida_free(&vmx_vpids, hw->vpid);
	free_page((unsigned long)hw->vmcs);
	kfree(hw);
}

static int vmx_vcpu_create(struct vcpu *vcpu)
{
	struct hw_vcpu *hw = kzalloc(sizeof(*hw), GFP_KERNEL_ACCOUNT);

	if (!hw)
		return -ENOMEM;
	vcpu->hw = hw;
	hw->vcpu = vcpu;
	hw->cpu = -1;
	hw->vmcs = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!hw->vmcs)
		return -ENOMEM;
	hw->vpid = ida_alloc_range(&vmx_vpids, 1, 0xffff, GFP_KERNEL);
	if (hw->vpid < 0)
		return hw->vpid;
	*(u32 *)hw->vmcs = vmx.revision;
	return 0;
}

/* ---- set-up: what this CPU can do ---- */

/* Control fields: which MSR says what is allowed, what is needed, what is used where it is there. (SDM 3D A.2) */
static const struct {
	u32 msr;
	u32 need, want;
	u32 *result;
	const char *lacks;
} controls[] = {
	{ MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_EXEC_ENABLE_EPT, 0, &vmx.procbased2,
	  "EPT (second-level page tables)" },
	{ MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_EXEC_UNRESTRICTED_GUEST, 0, &vmx.procbased2,
	  "VMX unrestricted guest" },
	{ MSR_IA32_VMX_TRUE_PINBASED_CTLS,
	  PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS | PIN_BASED_VMX_PREEMPTION_TIMER, 0,
	  &vmx.pinbased, "virtual NMIs or the VMX preemption timer" },
	{ MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
	  CPU_BASED_USE_TSC_OFFSETTING | CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING | CPU_BASED_RDPMC_EXITING |
		  CPU_BASED_MOV_DR_EXITING | CPU_BASED_UNCOND_IO_EXITING | CPU_BASED_USE_MSR_BITMAPS |
		  CPU_BASED_ACTIVATE_SECONDARY_CONTROLS,
	  CPU_BASED_TPR_SHADOW, &vmx.procbased, "MSR bitmaps or secondary VMX controls" },
	{ MSR_IA32_VMX_PROCBASED_CTLS2,
	  SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST | SECONDARY_EXEC_ENABLE_VPID |
		  SECONDARY_EXEC_WBINVD_EXITING,
	  SECONDARY_EXEC_PAUSE_LOOP_EXITING | SECONDARY_EXEC_ENCLS_EXITING | SECONDARY_EXEC_ENABLE_RDTSCP |
		  SECONDARY_EXEC_ENABLE_INVPCID,
	  &vmx.procbased2, "VPID or WBINVD exits" },
	{ MSR_IA32_VMX_TRUE_EXIT_CTLS, VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_LOAD_IA32_EFER | VM_EXIT_LOAD_IA32_PAT,
	  VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, &vmx.exit, "EFER and PAT switching" },
	{ MSR_IA32_VMX_TRUE_ENTRY_CTLS, VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_EFER | VM_ENTRY_LOAD_IA32_PAT,
	  VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL, &vmx.entry, "EFER and PAT switching" },
};

static int setup_controls(void)
{
	u64 allowed;
	int i;

	for (i = 0; i < ARRAY_SIZE(controls); i++) {
		if (rdmsrl_safe(controls[i].msr, &allowed))
			allowed = 0; /* the MSR came with the feature */
		*controls[i].result = constrain(controls[i].need | controls[i].want, allowed, allowed >> 32);
		if ((*controls[i].result & controls[i].need) != controls[i].need)
			return shim_refuse("the CPU lacks ", controls[i].lacks);
	}
	vmx.can_ple = vmx.procbased2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	vmx.procbased2 &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING; /* on request */
	if (!boot_cpu_has(X86_FEATURE_RDTSCP))
		vmx.procbased2 &= ~SECONDARY_EXEC_ENABLE_RDTSCP;
	if (!boot_cpu_has(X86_FEATURE_INVPCID))
		vmx.procbased2 &= ~SECONDARY_EXEC_ENABLE_INVPCID;
	if (!(vmx.procbased & CPU_BASED_TPR_SHADOW))
		vmx.procbased |= CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING;
	vmx.has_perf = boot_cpu_has(X86_FEATURE_ARCH_PERFMON) && vmx.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL &&
		       vmx.entry & VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL;
	if (!vmx.has_perf) {
		vmx.exit &= ~VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL;
		vmx.entry &= ~VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL;
	}
	return 0;
}

/* Where the host's mitigations ask for something at entry that is not done here, there is no entry. */
static int setup_mitigations(void)
{
	vmx.verw = boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF) || boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF_VM) ||
		   (boot_cpu_has_bug(X86_BUG_MMIO_STALE_DATA) && !cpu_mitigations_off());
	if (boot_cpu_has_bug(X86_BUG_L1TF) && l1tf_mitigation != L1TF_MITIGATION_OFF) {
		if (!boot_cpu_has(X86_FEATURE_FLUSH_L1D))
			return shim_refuse(
				"L1TF: this CPU's microcode has no L1D flush; update it, or boot with l1tf=off if you accept the risk",
				"");
		vmx.flush_l1d = true;
	}
	return 0;
}

static int setup_features(struct limits *limits, __u64 *features)
{
	u64 ept;

	rdmsrl(MSR_IA32_VMX_EPT_VPID_CAP, ept);
	if (~ept & (VMX_EPT_PAGE_WALK_4_BIT | VMX_EPTP_WB_BIT | VMX_EPT_INVEPT_BIT | VMX_EPT_EXTENT_CONTEXT_BIT |
		    VMX_EPT_EXTENT_GLOBAL_BIT))
		return shim_refuse("the CPU lacks ", "write-back EPT tables or INVEPT");
	vmx.revision = __rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;
	vmx.timer_shift = __rdmsr(MSR_IA32_VMX_MISC) & 0x1f;
	/* Two milliseconds: no guest holds a CPU without an exit, whatever it does to its interrupts. (S10) */
	vmx.timer_bound = max_t(u64, 2ULL * tsc_khz >> vmx.timer_shift, 1);
	rdmsrl(MSR_IA32_VMX_CR0_FIXED0, vmx.cr0_fixed0);
	rdmsrl(MSR_IA32_VMX_CR4_FIXED0, vmx.cr4_fixed0);

	limits->cr4_may &= __rdmsr(MSR_IA32_VMX_CR4_FIXED1);
	if (vmx.procbased & CPU_BASED_TPR_SHADOW)
		*features |= UMBRA_FEAT_TPR_SHADOW;
	if (vmx.procbased2 & SECONDARY_EXEC_ENABLE_RDTSCP)
		*features |= UMBRA_FEAT_RDTSCP;
	if (vmx.procbased2 & SECONDARY_EXEC_ENABLE_INVPCID)
		*features |= UMBRA_FEAT_INVPCID;
	/* An executable huge page can bring such a CPU down: small pages only. (S7, CVE-2018-12207) */
	if (ept & VMX_EPT_2MB_PAGE_BIT && (!boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) || cpu_mitigations_off()))
		*features |= UMBRA_FEAT_HUGE_2M;
	return 0;
}

static void msr_bitmap_pass(u32 msr, bool write)
{
	unsigned int base = msr >= 0xc0000000 ? 0x400 * 8 : 0;

	clear_bit((msr & 0x1fff) + base, msr_bitmap);
	if (write)
		clear_bit((msr & 0x1fff) + base + 0x800 * 8, msr_bitmap);
}

static void vmx_teardown(void)
{
	int cpu;

	for_each_possible_cpu (cpu)
		free_page((unsigned long)per_cpu(vmx_region, cpu));
	free_page((unsigned long)msr_bitmap);
}

static int setup_memory(void)
{
	int cpu, i;

	for_each_possible_cpu (cpu) {
		u32 *region = (u32 *)get_zeroed_page(GFP_KERNEL);

		if (!region)
			return -ENOMEM;
		*region = vmx.revision;
		per_cpu(vmx_region, cpu) = region;
		INIT_LIST_HEAD(&per_cpu(vmx_active, cpu));
	}
	msr_bitmap = (unsigned long *)get_zeroed_page(GFP_KERNEL);
	if (!msr_bitmap)
		return -ENOMEM;
	memset(msr_bitmap, 0xff, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(passed_msrs); i++)
		msr_bitmap_pass(passed_msrs[i].msr, passed_msrs[i].write);
	return 0;
}

static int vmx_setup(struct limits *limits, __u64 *features)
{
	int r;

	if (!(cpuid_ecx(1) & BIT(5)))
		return shim_refuse("the CPU has neither VMX nor SVM (or a hypervisor hides it)", "");
	if (!vmx_unlocked())
		return shim_refuse("VMX is locked off: switch on virtualization (VT-x) in the firmware's set-up", "");
	r = setup_controls() ?: setup_mitigations() ?: setup_features(limits, features) ?: setup_memory();
	if (r)
		vmx_teardown();
	return r;
}

const struct shim_ops vmx_ops = {
	.hw = UMBRA_HW_VMX,
	.pt_format = &vmx_pt_format,
	.setup = vmx_setup,
	.teardown = vmx_teardown,
	.cpu_enable = vmx_cpu_enable,
	.cpu_disable = vmx_cpu_disable,
	.vcpu_create = vmx_vcpu_create,
	.vcpu_destroy = vmx_vcpu_destroy,
	.vcpu_load = vmx_vcpu_load,
	.vcpu_enter = vmx_vcpu_enter,
	.vcpu_fetch = vmx_fetch,
};
