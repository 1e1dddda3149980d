/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_CPUID_H
#define UMBRA_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct vm;
struct vcpu;

/* KVM_GET_SUPPORTED_CPUID / KVM_GET_EMULATED_CPUID: fills up to max entries; the count, or -E2BIG. */
int cpuid_supported(const struct vm *vm, struct kvm_cpuid_entry2 *entries, uint32_t max);
int cpuid_emulated(const struct vm *vm, struct kvm_cpuid_entry2 *entries, uint32_t max);
/* KVM_SET_CPUID2: checks as KVM does, then derives cr4_guest_bits and the like. 0 or -errno. */
int cpuid_set(struct vcpu *vcpu, const struct kvm_cpuid_entry2 *entries, uint32_t count);
const struct kvm_cpuid_entry2 *cpuid_find(const struct vcpu *vcpu, uint32_t function, uint32_t index);
bool cpuid_has(const struct vcpu *vcpu, uint32_t function, uint32_t index, int reg,
	       int bit); /* reg 0..3: eax ebx ecx edx */
/* The CPUID instruction: dynamic bits (OSXSAVE, APIC, MWAIT, XSAVE size) included. regs: eax ebx ecx edx */
void cpuid_guest(struct vcpu *vcpu, uint32_t function, uint32_t index, uint32_t regs[4]);
void cpuid_exit(struct vcpu *vcpu); /* the whole exit: registers in, registers out, next instruction. The hot path. */

#endif
