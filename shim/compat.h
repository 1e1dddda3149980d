/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef UMBRA_COMPAT_H
#define UMBRA_COMPAT_H

/* Differences between kernels. Kbuild looks at the headers and defines HAVE_*; no version numbers. */

#include <linux/mm.h>
#include <asm/cpufeature.h>
#include <asm/mce.h>
#include <asm/msr.h>

static inline void compat_vm_flags(struct vm_area_struct *vma, unsigned long set, unsigned long clear)
{
#ifdef HAVE_VM_FLAGS_MOD
	vm_flags_mod(vma, set, clear);
#else
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#endif
}

#ifdef X86_FEATURE_FRED
#define compat_has_fred() cpu_feature_enabled(X86_FEATURE_FRED)
#else
#define compat_has_fred() false
#endif

/* In a guest, handled as in a program: it may cost this process, but not the machine. A kernel without CONFIG_X86_MCE has no handler. */
static inline void compat_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	struct pt_regs regs = { .cs = __USER_CS, .flags = X86_EFLAGS_IF };

	do_machine_check(&regs);
#endif
}

/* Zen 5 and later: the host kernel may have chosen this against SRSO attacks by guests. */
static inline void compat_bp_spec_reduce(bool on)
{
#ifdef MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT
	u64 value, bit = BIT_ULL(MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT);

	if (cpu_feature_enabled(X86_FEATURE_SRSO_BP_SPEC_REDUCE) && !rdmsrl_safe(MSR_ZEN4_BP_CFG, &value))
		wrmsrl(MSR_ZEN4_BP_CFG, on ? value | bit : value & ~bit);
#endif
}

#endif
