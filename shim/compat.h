/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef UMBRA_COMPAT_H
#define UMBRA_COMPAT_H

/* Differences between kernels. Kbuild looks at the headers and defines HAVE_*; no version numbers. */

#include <linux/mm.h>
#include <asm/cpufeature.h>

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

#endif
