/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_CLOCK_H
#define UMBRA_CLOCK_H

#include <linux/kvm.h>
#include <stdint.h>

struct vm;
struct vcpu;

int clock_create(struct vm *vm);
int clock_get(struct vm *vm, struct kvm_clock_data *data);	 /* KVM_GET_CLOCK */
int clock_set(struct vm *vm, const struct kvm_clock_data *data); /* KVM_SET_CLOCK */
uint64_t clock_host_tsc(void);
int64_t clock_monotonic_ns(void);	/* CLOCK_MONOTONIC, as the KVM API's PIT state has it; any thread, no libc */
uint64_t clock_guest_ns(struct vm *vm); /* kvmclock now, ns; any thread, no libc */
/* MSR_KVM_SYSTEM_TIME(_NEW), MSR_KVM_WALL_CLOCK(_NEW): 0 or -1 (#GP) */
int clock_write_system_time(struct vcpu *vcpu, uint64_t value);
int clock_write_wall_clock(struct vcpu *vcpu, uint64_t value);
void clock_update(struct vcpu *vcpu);	    /* VCPU_REQ_CLOCK: (re)writes the guest's pvclock page */
void clock_tsc_changed(struct vcpu *vcpu);  /* its TSC's offset: do all vCPUs still have the same TSC? */
int clock_kvmclock_ctrl(struct vcpu *vcpu); /* KVM_KVMCLOCK_CTRL: PVCLOCK_GUEST_STOPPED; -EINVAL without a clock page */

#endif
