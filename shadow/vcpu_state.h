/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_VCPU_STATE_H
#define UMBRA_VCPU_STATE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* The vCPU calls behind vcpu_call(). All on the vCPU's thread; 0 or a negative errno. */

/* vcpu_regs.c */
int state_get_regs(struct vcpu *vcpu, struct kvm_regs *regs);
int state_set_regs(struct vcpu *vcpu, const struct kvm_regs *regs);
int state_get_sregs(struct vcpu *vcpu, struct kvm_sregs *sregs);
int state_set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs);
int state_get_sregs2(struct vcpu *vcpu, struct kvm_sregs2 *sregs);
int state_set_sregs2(struct vcpu *vcpu, const struct kvm_sregs2 *sregs);
int state_get_debugregs(struct vcpu *vcpu, struct kvm_debugregs *regs);
int state_set_debugregs(struct vcpu *vcpu, const struct kvm_debugregs *regs);

/* vcpu_fpu.c */
int state_get_fpu(struct vcpu *vcpu, struct kvm_fpu *fpu);
int state_set_fpu(struct vcpu *vcpu, const struct kvm_fpu *fpu);
uint32_t state_xsave_size(struct vcpu *vcpu);			   /* bytes, at least 4096 */
int state_get_xsave(struct vcpu *vcpu, void *area, uint32_t size); /* fills size bytes: 4096 or state_xsave_size() */
int state_set_xsave(struct vcpu *vcpu, const void *area, uint32_t size);
int state_get_xcrs(struct vcpu *vcpu, struct kvm_xcrs *xcrs);
int state_set_xcrs(struct vcpu *vcpu, const struct kvm_xcrs *xcrs);

/* vcpu_events.c */
int state_get_events(struct vcpu *vcpu, struct kvm_vcpu_events *events);
int state_set_events(struct vcpu *vcpu, const struct kvm_vcpu_events *events);
int state_get_mp(struct vcpu *vcpu, struct kvm_mp_state *mp);
int state_set_mp(struct vcpu *vcpu, const struct kvm_mp_state *mp);
int state_interrupt(struct vcpu *vcpu, uint32_t vector);
int state_nmi(struct vcpu *vcpu);
bool state_nmi_blocked(const struct vcpu *vcpu);
void state_block_nmi(struct vcpu *vcpu, bool blocked);
int state_guest_debug(struct vcpu *vcpu, const struct kvm_guest_debug *debug);

#endif
