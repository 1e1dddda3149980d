/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MSR_H
#define UMBRA_MSR_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct vm;
struct vcpu;

/* The MSRs that the shadow keeps itself; the others live in the run area's groups. */
struct vcpu_msrs {
	uint64_t misc_enable, mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
	uint64_t mcg_cap, mcg_status, mcg_ctl, mc[4 * 32];
	uint64_t tsc_adjust, arch_capabilities, ucode_rev, platform_info, misc_features, feature_control, smi_count;
	uint64_t system_time, wall_clock; /* kvmclock MSRs as the guest wrote them */
	uint64_t async_pf_en, async_pf_int, steal_time, poll_control;
	uint64_t bios_sign_id, perf_capabilities, debugctl, spec_ctrl, xss;
	uint64_t hwcr, power_ctl, de_cfg, hsave_pa; /* AMD: HWCR, DE_CFG, VM_HSAVE_PA */
	bool amd;				    /* the host is: DE_CFG is known, VM_HSAVE_PA kept */
};

int msr_init(struct vcpu *vcpu);
/* host: the VMM asks (KVM_GET/SET_MSRS: fewer rules); else the guest. 0, -1 (#GP; host: refuse),
 * 1: kvm_run is filled in for the VMM (IOAPIC EOI by x2APIC). Unknown MSRs: -1. */
int msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value, bool host);
int msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host);
/* KVM_CAP_X86_USER_SPACE_MSR and the filter: does the guest's access go to the VMM? reason: KVM_MSR_EXIT_REASON_* or 0 */
uint32_t msr_to_user(struct vcpu *vcpu, uint32_t msr, bool write, bool failed);
int msr_set_filter(struct vm *vm, const struct kvm_msr_filter *filter, const uint8_t *bitmaps); /* see vm_calls.c */
/* KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST */
uint32_t msr_index_list(const struct vm *vm, uint32_t *list, uint32_t max);
uint32_t msr_feature_list(const struct vm *vm, uint32_t *list, uint32_t max);
int msr_feature_get(const struct vm *vm, uint32_t msr, uint64_t *value);
void msr_set_tsc(struct vcpu *vcpu, uint64_t guest_tsc); /* sets run->tsc_offset */

#endif
