/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_IRQCHIP_H
#define UMBRA_IRQCHIP_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct vm;
struct vcpu;

/*
 * The whole irqchip (KVM_CREATE_IRQCHIP): two PICs and an I/O APIC, and with KVM_CREATE_PIT2 a PIT. vm->irqchip is set by
 * the control thread before the first vCPU and never changes. Its devices belong to whoever holds vm->irq_lock, as
 * the routes do: vCPU threads (ports, MMIO, EOI, INTA), the event thread (irqfds, the PIT's time) and the control thread
 * (KVM calls). Inside the lock: LAPIC requests and kicks, which need no lock. Nothing with _locked takes it.
 */

/* Who holds a pin up; each has a bit of its own, so that one cannot drop another's line. */
enum irq_source { IRQ_SOURCE_USER, IRQ_SOURCE_RESAMPLE, IRQ_SOURCE_PIT };

/* ---- control thread ---- */
int irqchip_create(struct vm *vm);
int irqchip_create_pit(struct vm *vm, uint32_t flags);
int irqchip_get(struct vm *vm, struct kvm_irqchip *chip); /* in: chip_id */
int irqchip_set(struct vm *vm, const struct kvm_irqchip *chip);
int irqchip_get_pit(struct vm *vm, struct kvm_pit_state2 *state);
int irqchip_set_pit(struct vm *vm, const struct kvm_pit_state2 *state, bool flags); /* flags: state has them */
int irqchip_set_reinject(struct vm *vm, bool reinject);
bool irqchip_has_pit(struct vm *vm);

/* ---- a vCPU's thread ---- */
/* Accesses to the devices' ports (size 1, 2, 4) and to the I/O APIC; false: not there. */
bool irqchip_has_port(const struct vm *vm, uint16_t port, uint32_t size);
bool irqchip_port_in(struct vm *vm, uint16_t port, uint32_t size, void *data);
bool irqchip_port_out(struct vm *vm, uint16_t port, uint32_t size, const void *data);
bool irqchip_mmio_read(struct vm *vm, uint64_t gpa, void *data, uint32_t len);
bool irqchip_mmio_write(struct vm *vm, uint64_t gpa, const void *data, uint32_t len);
void irqchip_eoi(struct vcpu *vcpu, uint8_t vector, bool level);
bool irqchip_pic_output(const struct vm *vm); /* any thread */
uint8_t irqchip_pic_take(struct vm *vm);      /* the vector that the PIC gives */

/* ---- event thread ---- */
/* Raises what is due; ns until it wants to be called again, -1: not before eventfds_wake(). */
int64_t irqchip_timer(struct vm *vm);

/* ---- resampling irqfds: a level that falls with the guest's EOI, which the VMM is told ---- */
int irqchip_resample_add(struct vm *vm, uint32_t gsi, uint32_t cookie, int fd); /* the fd stays the caller's */
void irqchip_resample_remove(struct vm *vm, uint32_t gsi, uint32_t cookie);
void irqchip_resample_raise(struct vm *vm, uint32_t gsi);

/* ---- for routing.c ---- */
int irqchip_set_pin_locked(struct vm *vm, uint32_t chip, uint32_t pin, enum irq_source source, bool level, bool status);
void irqchip_eoi_vectors_locked(struct vm *vm, uint64_t vectors[4]);
void irqchip_settle_locked(struct vm *vm); /* before vm->irq_lock is dropped after any change */

#endif
