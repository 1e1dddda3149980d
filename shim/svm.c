// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) "umbra: " fmt

#include "compat.h"
#include "svm.h"

#include <linux/cc_platform.h>
#include <linux/cpu.h>
#include <linux/slab.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/pgtable.h>

#define IOPM_ORDER 2  /* 12 KiB are used (APM 2 15.10.1) */
#define MSRPM_ORDER 1 /* 8 KiB (APM 2 15.11) */

DEFINE_PER_CPU(struct svm_cpu, svm_cpus);
unsigned int svm_asids;
static void *io_bitmap, *msr_bitmap; /* one for all: they are the same for each */

/* Nested tables are those of long mode; what a guest does counts as a user's access. Accessed and dirty are set from the
 * start, so that the CPU never writes an entry. (APM 2 15.25.5) */
#define NPT_USER (_PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED)
static const struct pt_format svm_pt_format = {
	.table = NPT_USER | _PAGE_RW,
	.leaf = NPT_USER | _PAGE_DIRTY,
	.write = _PAGE_RW,
	.huge = _PAGE_PSE,
};

/* The only MSRs a guest reaches without an exit: VMLOAD and VMSAVE switch them, KERNEL_GS_BASE included. (S2) */
static const u32 passed_msrs[] = {
	MSR_FS_BASE,	      MSR_GS_BASE,	     MSR_KERNEL_GS_BASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

/* Every guest has these exits; nothing of this can be changed from outside. (S1, S3) */
static const u16 fixed_intercepts[] = {
	INTERCEPT_CR4_READ,	 INTERCEPT_CR8_READ,	INTERCEPT_CR4_WRITE,  INTERCEPT_CR8_WRITE,
	INTERCEPT_INTR,		 INTERCEPT_NMI,		INTERCEPT_SMI,	      INTERCEPT_INIT,
	INTERCEPT_SELECTIVE_CR0, INTERCEPT_RDPMC,	INTERCEPT_CPUID,      INTERCEPT_RSM,
	INTERCEPT_INVD,		 INTERCEPT_INVLPGA,	INTERCEPT_IOIO_PROT,  INTERCEPT_MSR_PROT,
	INTERCEPT_TASK_SWITCH,	 INTERCEPT_FERR_FREEZE, INTERCEPT_SHUTDOWN,   INTERCEPT_VMRUN,
	INTERCEPT_VMMCALL,	 INTERCEPT_VMLOAD,	INTERCEPT_VMSAVE,     INTERCEPT_STGI,
	INTERCEPT_CLGI,		 INTERCEPT_SKINIT,	INTERCEPT_ICEBP,      INTERCEPT_WBINVD,
	INTERCEPT_MONITOR,	 INTERCEPT_MWAIT,	INTERCEPT_MWAIT_COND, INTERCEPT_XSETBV,
	INTERCEPT_RDPRU,
};

static void svm_cpu_disable(void)
{
	u64 efer;

	/* A crash may have come while the global interrupt flag was clear. */
	asm volatile("1: stgi\n2:\n" _ASM_EXTABLE(1b, 2b));
	compat_bp_spec_reduce(false);
	rdmsrl(MSR_EFER, efer);
	wrmsrl(MSR_EFER, efer & ~EFER_SVME);
	wrmsrl(MSR_VM_HSAVE_PA, 0);
}

static bool svm_unlocked(void)
{
	u64 vm_cr;

	return !rdmsrl_safe(MSR_VM_CR, &vm_cr) && !(vm_cr & SVM_VM_CR_SVM_DIS_MASK);
}

static int svm_cpu_enable(void)
{
	struct svm_cpu *cpu = this_cpu_ptr(&svm_cpus);
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME)
		return -EBUSY;
	if (!svm_unlocked() || wrmsrl_safe(MSR_EFER, efer | EFER_SVME))
		return -EIO;
	wrmsrl(MSR_VM_HSAVE_PA, __pa(cpu->hsave));
	compat_bp_spec_reduce(true);
	cpu->generation++;
	cpu->asid = svm_asids; /* the first guest begins with a flush of all */
	return 0;
}

static int svm_vcpu_load(struct vcpu *vcpu)
{
	if (!this_cpu_read(hw_on))
		return -EIO;
	this_cpu_write(vcpu_current, vcpu);
	/* The guest before must not steer this one's indirect branches. */
	indirect_branch_prediction_barrier();
	return 0;
}

static void svm_write_constants(struct vcpu *vcpu)
{
	struct vmcb_control_area *control = &vcpu->hw->vmcb->control;
	int i;

	for (i = 0; i < ARRAY_SIZE(fixed_intercepts); i++)
		control->intercepts[fixed_intercepts[i] / 32] |= BIT(fixed_intercepts[i] % 32);
	control->intercepts[INTERCEPT_DR] = ~0;
	control->iopm_base_pa = __pa(io_bitmap);
	control->msrpm_base_pa = __pa(msr_bitmap);
	control->nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	control->nested_cr3 = __pa(vcpu->hw->top ?: vcpu->vm->pt.root);
	vcpu->new_controls = true;
	vcpu->dirty = UMBRA_STATE_ALL;
}

static void svm_vcpu_destroy(struct vcpu *vcpu)
{
	struct hw_vcpu *hw = vcpu->hw;
	int cpu;

	/* No CPU shall take a later vCPU at the same address for this one. */
	for_each_possible_cpu (cpu)
		cmpxchg(per_cpu_ptr(&vcpu_current, cpu), vcpu, NULL);
	hrtimer_cancel(&hw->timer);
	free_page((unsigned long)hw->top);
	free_page((unsigned long)hw->vmcb);
	kfree(hw);
}

static int svm_vcpu_create(struct vcpu *vcpu)
{
	struct hw_vcpu *hw = kzalloc(sizeof(*hw), GFP_KERNEL_ACCOUNT);

	if (!hw)
		return -ENOMEM;
	vcpu->hw = hw;
	hw->cpu = -1;
	hrtimer_init(&hw->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	hw->timer.function = svm_timer;
	hw->vmcb = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!hw->vmcb)
		return -ENOMEM;
	if (pgtable_l5_enabled()) {
		hw->top = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
		if (!hw->top)
			return -ENOMEM;
		hw->top[0] = __pa(vcpu->vm->pt.root) | svm_pt_format.table;
	}
	svm_write_constants(vcpu);
	return 0;
}

/* Two bits an MSR; read, write. (APM 2 15.11) */
static void msr_bitmap_pass(u32 msr)
{
	unsigned int bit = ((msr & 0x1fff) + (msr >= 0xc0000000 ? 0x2000 : 0)) * 2;

	clear_bit(bit, msr_bitmap);
	clear_bit(bit + 1, msr_bitmap);
}

static void svm_teardown(void)
{
	int cpu;

	for_each_possible_cpu (cpu) {
		free_page((unsigned long)per_cpu(svm_cpus, cpu).hsave);
		free_page((unsigned long)per_cpu(svm_cpus, cpu).host);
	}
	free_pages((unsigned long)io_bitmap, IOPM_ORDER);
	free_pages((unsigned long)msr_bitmap, MSRPM_ORDER);
}

static int setup_memory(void)
{
	int cpu, i;

	for_each_possible_cpu (cpu) {
		struct svm_cpu *svm = &per_cpu(svm_cpus, cpu);

		svm->hsave = (void *)get_zeroed_page(GFP_KERNEL);
		svm->host = (void *)get_zeroed_page(GFP_KERNEL);
		if (!svm->hsave || !svm->host)
			return -ENOMEM;
	}
	io_bitmap = (void *)__get_free_pages(GFP_KERNEL, IOPM_ORDER);
	msr_bitmap = (void *)__get_free_pages(GFP_KERNEL, MSRPM_ORDER);
	if (!io_bitmap || !msr_bitmap)
		return -ENOMEM;
	memset(io_bitmap, 0xff, PAGE_SIZE << IOPM_ORDER);
	memset(msr_bitmap, 0xff, PAGE_SIZE << MSRPM_ORDER);
	for (i = 0; i < ARRAY_SIZE(passed_msrs); i++)
		msr_bitmap_pass(passed_msrs[i]);
	return 0;
}

static int svm_setup(struct limits *limits, __u64 *features)
{
	int r;

	if (!svm_unlocked())
		return shim_refuse("SVM is locked off: switch on virtualization (SVM, AMD-V) in the firmware's set-up",
				   "");
	if (!boot_cpu_has(X86_FEATURE_NPT))
		return shim_refuse("the CPU lacks ", "nested paging (second-level page tables)");
	if (cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT))
		return shim_refuse("SME is on, which is not supported: boot with mem_encrypt=off", "");
	svm_asids = cpuid_ebx(0x8000000a);
	if (svm_asids < 2)
		return shim_refuse("the CPU lacks ", "ASIDs for guests");
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, host_xss);
	*features = UMBRA_FEAT_HUGE_2M | (boot_cpu_has(X86_FEATURE_RDTSCP) ? UMBRA_FEAT_RDTSCP : 0) |
		    (boot_cpu_has(X86_FEATURE_INVPCID) ? UMBRA_FEAT_INVPCID : 0);
	r = setup_memory();
	if (r)
		svm_teardown();
	return r;
}

const struct shim_ops svm_ops = {
	.hw = UMBRA_HW_SVM,
	.pt_format = &svm_pt_format,
	.setup = svm_setup,
	.teardown = svm_teardown,
	.cpu_enable = svm_cpu_enable,
	.cpu_disable = svm_cpu_disable,
	.vcpu_create = svm_vcpu_create,
	.vcpu_destroy = svm_vcpu_destroy,
	.vcpu_load = svm_vcpu_load,
	.vcpu_enter = svm_vcpu_enter,
	.vcpu_fetch = svm_fetch,
};
