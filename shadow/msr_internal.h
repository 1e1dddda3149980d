/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MSR_INTERNAL_H
#define UMBRA_MSR_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* Results of the parts of msr_read() and msr_write(). */
#define MSR_OK 0
#define MSR_USER 1	 /* kvm_run is filled in for the VMM */
#define MSR_REFUSED (-1) /* known, but not so */
#define MSR_UNKNOWN (-2)

/* msr.c: msr_read() and msr_write() without the filter, telling unknown from refused. */
int msr_get(struct vcpu *vcpu, uint32_t msr, uint64_t *value, bool host);
int msr_put(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host);
bool msr_put_only(uint32_t msr); /* known, but only for writing */

/* msr_mtrr.c: memory types are stored and checked; second-level tables decide alone. */
int msr_mtrr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
int msr_mtrr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value);
bool msr_pat_valid(uint64_t value);

/* msr_mce.c: machine-check banks */
#define MSR_MCE_BANKS 32
#define MSR_MCG_CTL_P (1ull << 8)
#define MSR_MCG_SER_P (1ull << 24)
#define MSR_MCG_SUPPORTED (MSR_MCG_CTL_P | MSR_MCG_SER_P)
int msr_mce_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
int msr_mce_write(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host);
int msr_mce_setup(struct vcpu *vcpu, uint64_t mcg_cap); /* KVM_X86_SETUP_MCE */
struct kvm_x86_mce;
int msr_mce_inject(struct vcpu *vcpu, const struct kvm_x86_mce *mce); /* KVM_X86_SET_MCE */

/* msr_filter.c */
bool msr_filter_allows(struct vcpu *vcpu, uint32_t msr, bool write);

/* The TSC as the VMM writes it: vCPUs whose TSCs are written within a second share one offset. */
void msr_sync_tsc(struct vcpu *vcpu, uint64_t guest_tsc);
void msr_set_tsc_offset(struct vcpu *vcpu, uint64_t offset);

/* Canonical with 48 bits, 57 when CR4.LA57 is set. */
bool msr_canonical(struct vcpu *vcpu, uint64_t address);

#endif
