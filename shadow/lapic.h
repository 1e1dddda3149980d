/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_LAPIC_H
#define UMBRA_LAPIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct vm;
struct kvm_lapic_state;

/* SDM 3A chapter 11. Registers belong to the vCPU's thread; request[] takes interrupts from any thread. */
struct lapic {
	uint8_t *regs;			   /* the virtual-APIC page: register at its architectural offset */
	_Atomic uint64_t request[4];	   /* vectors asked for, not yet in IRR */
	_Atomic uint64_t request_level[4]; /* of these: level-triggered */
	atomic_uint request_any;	   /* 1: request[] may hold something */
	bool enabled;			   /* IA32_APIC_BASE.EN */
	bool x2apic;			   /* IA32_APIC_BASE.EXTD */
	uint64_t timer_deadline_tsc;	   /* host TSC when the timer fires; 0: not armed */
	uint64_t timer_guest_deadline;	   /* IA32_TSC_DEADLINE as the guest wrote it */
	uint64_t timer_period_tsc;	   /* periodic mode: in host TSC ticks */
	uint32_t timer_divide;
	uint64_t eoi_exit[4];	   /* vectors whose EOI goes to the VMM (KVM_EXIT_IOAPIC_EOI) */
	uint64_t pv_eoi_msr;	   /* MSR_KVM_PV_EOI_EN */
	bool pv_eoi_pending;	   /* the guest may skip the EOI of the ISR's highest vector */
	atomic_uint init_pending;  /* A */
	atomic_uint sipi_vector;   /* A: 0x100 | vector when one is there */
	atomic_uint error_request; /* A: ESR bits that other threads ask for */
	atomic_uint lowest_taken;  /* A: lowest-priority messages taken so far */
	uint64_t pv_eoi_gpa;	   /* with pv_eoi_pending: where the guest's bit was set */
	uint32_t error_next;	   /* ESR bits since its last write */
	uint32_t timer_mode;	   /* LVT timer bits 18:17 that are in force */
	uint8_t irr_any, isr_any;  /* bit n: register n of IRR, ISR is not zero */
	bool eoi_exit_pending;	   /* see lapic_eoi_exit_pending() */
};

/* On the vCPU's thread. */
void lapic_reset(struct vcpu *vcpu, bool init); /* init: INIT rather than power-up; apic_base's BSP bit is kept */
void lapic_set_base(struct vcpu *vcpu, uint64_t apic_base); /* already checked */
int lapic_check_base(struct vcpu *vcpu, uint64_t apic_base,
		     bool host); /* 0 or -EINVAL: reserved bits, bad transitions */
/* MMIO page; offset 0..4095, len 1..8; false: no such access (reads as 0, write ignored, as hardware does). */
bool lapic_mmio_read(struct vcpu *vcpu, uint32_t offset, uint32_t len, void *data);
bool lapic_mmio_write(struct vcpu *vcpu, uint32_t offset, uint32_t len, const void *data);
/* x2APIC MSRs 0x800..0x8ff, TSC_DEADLINE: 0 or -1 (#GP). A write may ask for an exit to the VMM: 1 (kvm_run is filled). */
int lapic_msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
int lapic_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value);
/* EOI. Returns 1 when kvm_run was filled in with KVM_EXIT_IOAPIC_EOI. Writes through MMIO or MSR call it. */
int lapic_eoi(struct vcpu *vcpu);
bool lapic_eoi_exit_pending(struct vcpu *vcpu); /* after lapic_mmio_write: kvm_run asks for an exit */
/* Highest vector that may be delivered now (above PPR), -1: none. Takes in request[] first. */
int lapic_pending(struct vcpu *vcpu);
void lapic_accept(struct vcpu *vcpu, uint8_t vector); /* IRR -> ISR as it is injected; sets up PV EOI */
bool lapic_accepts_pic(struct vcpu *vcpu);	      /* LVT0 ExtINT or APIC off: KVM_INTERRUPT's interrupts pass */
void lapic_pv_eoi_sync(struct vcpu *vcpu);	      /* after an exit: has the guest used PV EOI? */
uint32_t lapic_tpr_threshold(struct vcpu *vcpu);      /* 0..15 for run->tpr_threshold */
uint64_t lapic_get_tpr(struct vcpu *vcpu);	      /* CR8 */
void lapic_set_tpr(struct vcpu *vcpu, uint64_t cr8);
void lapic_timer_check(struct vcpu *vcpu, uint64_t host_tsc); /* fires what is due, re-arms periodic */
int lapic_get_state(struct vcpu *vcpu, struct kvm_lapic_state *state);
int lapic_set_state(struct vcpu *vcpu, const struct kvm_lapic_state *state);
void lapic_tsc_changed(struct vcpu *vcpu); /* offset changed: deadlines are guest TSC */

/* Any thread. trigger: 1 level. Calls vcpu_notify() when the vCPU must look. */
void lapic_request(struct vcpu *vcpu, uint8_t vector, bool level);

/* An interrupt message (IPI, MSI): destination matching as in SDM 3A 11.6.2. Any thread.
 * Returns how many vCPUs took it, -1: none matched. */
struct apic_msg {
	uint32_t dest;
	uint8_t vector;
	uint8_t mode; /* delivery mode: 0 fixed, 1 lowest, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT */
	bool logical;
	bool level;
	uint8_t shorthand; /* 0 none, 1 self, 2 all, 3 all but self */
	bool several;	   /* by its sender's wish: it may wait for all of them */
	uint64_t *taken;   /* NULL, or gets a bit for each vCPU (by its id) that took a fixed or lowest-priority one */
};
int apic_deliver(struct vm *vm, struct vcpu *from, const struct apic_msg *msg);

#endif
