/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MSR_NUMBERS_H
#define UMBRA_MSR_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

/* SDM 4; APM 2 appendix A. Those of KVM are in <asm/kvm_para.h>. */
#define MSR_TSC 0x10
#define MSR_SMI_COUNT 0x34
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_TSC_ADJUST 0x3b
#define MSR_APIC_BASE 0x1b
#define MSR_UCODE_REV 0x8b
#define MSR_SMBASE 0x9e
#define MSR_PLATFORM_INFO 0xce
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_MISC_FEATURES 0x140
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_MCG_STATUS 0x17a
#define MSR_MCG_CTL 0x17b
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_POWER_CTL 0x1fc
#define MSR_PAT 0x277
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800
#define MSR_X2APIC_LAST 0x8ff
#define MSR_XSS 0xda0
#define MSR_KVM_RANGE (MSR_KVM_WALL_CLOCK_NEW >> 8)
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_FMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103
#define MSR_HWCR 0xc0010015
#define MSR_VM_HSAVE_PA 0xc0010117
#define MSR_DE_CFG 0xc0011029

/* msr_lists.c: MSRs that systems touch when they start and that mean nothing here. */
bool msr_constant(uint32_t msr, uint64_t *value); /* a read that always gives this */
bool msr_ignored(uint32_t msr);			  /* a write that does nothing */
bool msr_zero_only(uint32_t msr);		  /* one of them that takes only 0 */

#endif
