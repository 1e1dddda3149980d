/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_ROUTING_H
#define UMBRA_ROUTING_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "irqchip.h"

struct vm;
struct vcpu;

int routing_create(struct vm *vm);
/* KVM_SET_GSI_ROUTING: all or nothing; -EINVAL as KVM. */
int routing_set(struct vm *vm, const struct kvm_irq_routing_entry *entries, uint32_t count);
/* The same in pieces, in their order: entries [first, first + count) of total. The last one makes the routes valid. */
int routing_set_piece(struct vm *vm, const struct kvm_irq_routing_entry *entries, uint32_t first, uint32_t count,
		      uint32_t total);
/* KVM_IRQ_LINE(_STATUS), irqfd: any thread. >= 0: delivered to so many; -1: ignored (level 0 of a message, no route, masked,
 * nobody there) */
int routing_set_irq(struct vm *vm, uint32_t gsi, int level);
int routing_irq_line(struct vm *vm, uint32_t gsi, int level,
		     bool status); /* status: the VMM wants to know what became of it */
int routing_set_irq_locked(struct vm *vm, enum irq_source source, uint32_t gsi, int level, bool status);
/* The GSI behind a pin of KVM_IRQCHIP_*, -1: none */
int routing_gsi_of_locked(struct vm *vm, uint32_t chip, uint32_t pin);
/* After a change of the I/O APIC's entries: vCPUs shall know which vectors' EOIs matter. */
void routing_vectors_changed_locked(struct vm *vm);
/* KVM_SIGNAL_MSI */
int routing_signal_msi(struct vm *vm, const struct kvm_msi *msi);
/* Fills vcpu->lapic.eoi_exit: with a split irqchip from level-triggered MSI routes of the first ioapic_pins GSIs, else from
 * the I/O APIC's entries. */
void routing_scan_eoi(struct vcpu *vcpu);

/* eventfds.c: the event thread */
int eventfds_start(struct vm *vm);
/* What the event thread does, on a vCPU thread: events that are there, without waiting for any. No vector registers. */
void eventfds_poll(struct vm *vm);
void eventfds_wake(struct vm *vm); /* the event thread asks irqchip_timer() again; any thread */
int eventfds_irqfd(struct vm *vm, const struct kvm_irqfd *irqfd, uint32_t cookie, int *fd, int *resample_fd);
int eventfds_ioeventfd(struct vm *vm, const struct kvm_ioeventfd *args, uint32_t cookie, int *fd);
int eventfds_check(int fd);		  /* 0: an eventfd */
int eventfds_add_vcpu(struct vcpu *vcpu); /* its kick_fd */
/* On the vCPU thread: signals a matching ioeventfd. true: done, the access needs no VMM. */
bool eventfds_ioevent(struct vm *vm, bool pio, uint64_t addr, uint32_t len, uint64_t value);

#endif
