/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef FAKES_H
#define FAKES_H

#include <check.h>

#include "lapic_regs.h"
#include "msr.h"
#include "routing.h"

/* A machine without a shim: vCPUs whose run areas are plain memory, and time that stands still. */

#define FAKE_RAM_GPA 0x100000ull
#define FAKE_RAM_SIZE 8192

extern uint64_t fake_tsc;
extern int64_t fake_ns; /* CLOCK_MONOTONIC */
extern unsigned int fake_wakes;
extern bool fake_has_x2apic, fake_has_deadline;
extern bool fake_no_event_thread; /* it is there, but takes no event */
extern struct call fake_call;	  /* the last vm_interrupt_call(); it returns -ENXIO */
extern struct vm vm;
extern struct vcpu *cpu;			/* vm.vcpu[0] */
extern atomic_uint fake_notified[VM_MAX_VCPUS]; /* all requests since the last fake_clear() */
extern atomic_uint fake_calls[VM_MAX_VCPUS];	/* calls of vcpu_notify() */
extern uint8_t fake_ram[FAKE_RAM_SIZE];

void fake_machine(unsigned int vcpus); /* split irqchip, APICs on and software-enabled, TSC at 1 GHz */
struct vcpu *fake_vcpu(unsigned int n);
void fake_x2apic(struct vcpu *vcpu);
void fake_clear(void);
int fake_main(Suite *suite);

/* xAPIC registers; both check that there is such an access. */
uint32_t reg_read(struct vcpu *vcpu, uint32_t offset);
void reg_write(struct vcpu *vcpu, uint32_t offset, uint32_t value);

#endif
