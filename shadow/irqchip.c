// SPDX-License-Identifier: GPL-2.0-or-later
#include "irqchip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fault.h"
#include "ioapic.h"
#include "irqchip_state.h"
#include "lapic_regs.h"
#include "routing.h"
#include "vcpu.h"

/* The devices among themselves, with the routes, the CPUs and the VMM. The locks: see irqchip.h. */

#define GSI_PIT 0
#define TIMER_NEVER INT64_MAX
#define STORM_PAUSE_NS 10000000 /* as KVM's */

static void lock(struct vm *vm)
{
	lock_take(&vm->irq_lock);
}

/* ---- to the CPUs ---- */

bool irqchip_pic_output(const struct vm *vm)
{
	return atomic_load_explicit(&vm->irqchip->pic_output, memory_order_acquire);
}

/* INTR of the PIC, to whoever listens: as a rule the first vCPU, through its LINT0. */
static void pic_output_locked(struct vm *vm)
{
	struct irqchip *irqchip = vm->irqchip;
	unsigned int left = atomic_load(&vm->vcpus);
	bool output = irqchip->pic.output;

	if (atomic_exchange(&irqchip->pic_output, output) == output || !output)
		return;
	for (unsigned int n = 0; n < VM_MAX_VCPUS && left; n++) {
		struct vcpu *vcpu = __atomic_load_n(&vm->vcpu[n], __ATOMIC_ACQUIRE);

		if (!vcpu)
			continue;
		left--;
		/* One that opens LINT0 just now looks at the output before it enters its guest. */
		if (lapic_accepts_pic(vcpu))
			vcpu_notify(vcpu, VCPU_REQ_EVENT);
	}
}

/* ---- the PIT ---- */

/* A tick reaches a LINT0 that is set to NMI, too: the NMI watchdog of old kernels. */
static void pit_nmi_locked(struct vm *vm)
{
	unsigned int left = atomic_load(&vm->vcpus);

	for (unsigned int n = 0; n < VM_MAX_VCPUS && left; n++) {
		struct vcpu *vcpu = __atomic_load_n(&vm->vcpu[n], __ATOMIC_ACQUIRE);
		uint32_t lvt;

		if (!vcpu)
			continue;
		left--;
		lvt = lapic_reg(&vcpu->lapic, APIC_LVT_LINT0);
		if (lapic_is_enabled(&vcpu->lapic) && !(lvt & APIC_LVT_MASKED) && (lvt >> 8 & 7) == APIC_NMI)
			vcpu_notify(vcpu, VCPU_REQ_NMI);
	}
}

static void pit_pulse_locked(struct vm *vm)
{
	routing_set_irq_locked(vm, IRQ_SOURCE_PIT, GSI_PIT, 1, false);
	routing_set_irq_locked(vm, IRQ_SOURCE_PIT, GSI_PIT, 0, false);
	pit_nmi_locked(vm);
}

/* ---- time ---- */

static void earlier(int64_t *first, int64_t when)
{
	if (when && when < *first)
		*first = when;
}

/* When the event thread has something to do; TIMER_NEVER: nothing. */
static int64_t next_locked(const struct irqchip *irqchip)
{
	int64_t next = TIMER_NEVER;

	if (irqchip->has_pit)
		earlier(&next, irqchip->pit.next);
	earlier(&next, irqchip->storm_end);
	return next;
}

/* Does the event thread sleep too long? */
static void wake_locked(struct vm *vm)
{
	struct irqchip *irqchip = vm->irqchip;
	int64_t next;

	if (irqchip->ioapic.delayed && !irqchip->storm_end)
		irqchip->storm_end = clock_monotonic_ns() + STORM_PAUSE_NS;
	next = next_locked(irqchip);
	if (next < irqchip->wakes) {
		irqchip->wakes = next;
		eventfds_wake(vm);
	}
}

static void storm_check_locked(struct irqchip *irqchip, int64_t now)
{
	uint32_t pins = irqchip->ioapic.delayed;

	if (!irqchip->storm_end || now < irqchip->storm_end)
		return;
	irqchip->storm_end = 0;
	irqchip->ioapic.delayed = 0;
	for (; pins; pins &= pins - 1)
		ioapic_service_level(&irqchip->ioapic, __builtin_ctz(pins));
}

int64_t irqchip_timer(struct vm *vm)
{
	struct irqchip *irqchip = __atomic_load_n(&vm->irqchip, __ATOMIC_ACQUIRE);
	int64_t now = 0, next;

	if (!irqchip)
		return -1;
	lock(vm);
	if (next_locked(irqchip) != TIMER_NEVER) {
		now = clock_monotonic_ns();
		storm_check_locked(irqchip, now);
		if (irqchip->has_pit && pit_expire(&irqchip->pit, now))
			pit_pulse_locked(vm);
	}
	irqchip->wakes = 0; /* nobody needs to wake it now */
	irqchip_settle_locked(vm);
	irqchip->wakes = next = next_locked(irqchip);
	lock_drop(&vm->irq_lock);
	if (next == TIMER_NEVER)
		return -1;
	if (!now) /* only settling made it have something to do */
		now = clock_monotonic_ns();
	return next > now ? next - now : 0;
}

/* ---- who waits for the end of an interrupt ---- */

static void resample_locked(struct vm *vm, uint32_t gsi)
{
	static const uint64_t one = 1;
	struct irqchip *irqchip = vm->irqchip;
	bool first = true;

	for (uint32_t n = 0; n < irqchip->resamplers; n++) {
		const struct resampler *r = &irqchip->resampler[n];

		if (r->gsi != gsi)
			continue;
		/* Down before the VMM hears of it: it raises the line again if its device still asks. */
		if (first)
			routing_set_irq_locked(vm, IRQ_SOURCE_RESAMPLE, gsi, 0, false);
		first = false;
		sys_write(r->fd, &one, sizeof(one));
	}
}

static void gsi_acked_locked(struct vm *vm, int gsi)
{
	struct irqchip *irqchip = vm->irqchip;

	if (gsi < 0)
		return;
	if (irqchip->resamplers)
		resample_locked(vm, gsi);
	if (gsi == GSI_PIT && irqchip->has_pit && pit_acked(&irqchip->pit))
		pit_pulse_locked(vm);
}

static void gsi_unmasked_locked(struct vm *vm, int gsi)
{
	struct irqchip *irqchip = vm->irqchip;

	/* What a guest could not see it need not make up for. */
	if (gsi == GSI_PIT && irqchip->has_pit && irqchip->pit.reinject)
		pit_reset_ticks(&irqchip->pit);
}

static int pic_gsi(struct vm *vm, unsigned int pin)
{
	return routing_gsi_of_locked(vm, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin & 7);
}

/*
 * After each change of the devices: tells the ends of interrupts and the unmasking of pins, and shows the CPUs the PIC's
 * output. What that causes is seen in the next round. It ends: the PIT's ticks grow fewer, nothing else raises lines here.
 */
void irqchip_settle_locked(struct vm *vm)
{
	struct irqchip *irqchip = vm->irqchip;
	struct pic *pic = &irqchip->pic;

	while (pic->acked | pic->unmasked) {
		uint16_t acked = pic->acked, unmasked = pic->unmasked;

		pic->acked = pic->unmasked = 0;
		for (; unmasked; unmasked &= unmasked - 1)
			gsi_unmasked_locked(vm, pic_gsi(vm, __builtin_ctz(unmasked)));
		for (; acked; acked &= acked - 1)
			gsi_acked_locked(vm, pic_gsi(vm, __builtin_ctz(acked)));
	}
	pic_output_locked(vm);
	wake_locked(vm);
}

static void unlock(struct vm *vm)
{
	irqchip_settle_locked(vm);
	lock_drop(&vm->irq_lock);
}

/* ---- pins ---- */

int irqchip_set_pin_locked(struct vm *vm, uint32_t chip, uint32_t pin, enum irq_source source, bool level, bool status)
{
	struct irqchip *irqchip = vm->irqchip;

	if (chip == KVM_IRQCHIP_IOAPIC)
		return pin < IOAPIC_PINS ? ioapic_set_line(&irqchip->ioapic, pin, source, level, status) : -1;
	pin += chip == KVM_IRQCHIP_PIC_SLAVE ? 8 : 0;
	return pin < PIC_PINS ? pic_set_line(&irqchip->pic, pin, source, level) : -1;
}

uint8_t irqchip_pic_take(struct vm *vm)
{
	uint8_t vector;

	lock(vm);
	vector = pic_acknowledge(&vm->irqchip->pic);
	unlock(vm);
	return vector;
}

/* ---- EOI ---- */

/* Pins whose EOI someone waits for, be they edge-triggered: of resampling irqfds, of the PIT's ticks, of the RTC's. */
void irqchip_eoi_vectors_locked(struct vm *vm, uint64_t vectors[4])
{
	struct irqchip *irqchip = vm->irqchip;
	uint32_t also = 1u << IOAPIC_PIN_RTC;

	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		int gsi = routing_gsi_of_locked(vm, KVM_IRQCHIP_IOAPIC, pin);

		if (gsi == GSI_PIT && irqchip->has_pit && irqchip->pit.reinject)
			also |= 1u << pin;
		for (uint32_t n = 0; n < irqchip->resamplers; n++)
			if ((int)irqchip->resampler[n].gsi == gsi)
				also |= 1u << pin;
	}
	ioapic_eoi_vectors(&irqchip->ioapic, also, vectors);
}

void irqchip_eoi(struct vcpu *vcpu, uint8_t vector, bool level)
{
	struct vm *vm = vcpu->vm;
	struct ioapic *ioapic = &vm->irqchip->ioapic;
	uint32_t pins;

	lock(vm);
	for (pins = ioapic_eoi_pins(ioapic, vector); pins; pins &= pins - 1) {
		unsigned int pin = __builtin_ctz(pins);

		/* Sources first: a line that falls with the EOI is not served again. */
		gsi_acked_locked(vm, routing_gsi_of_locked(vm, KVM_IRQCHIP_IOAPIC, pin));
		ioapic_eoi(ioapic, pin, vcpu->id, level);
	}
	unlock(vm);
}

/* ---- MMIO and ports ---- */

static void ioapic_written_locked(struct vm *vm, unsigned int pin)
{
	struct ioapic *ioapic = &vm->irqchip->ioapic;
	uint32_t unmasked = ioapic->unmasked;
	int gsi = routing_gsi_of_locked(vm, KVM_IRQCHIP_IOAPIC, pin);

	/* Before the entry can send anything: the vCPUs must know its vector. */
	routing_vectors_changed_locked(vm);
	ioapic->unmasked = 0;
	if (unmasked) {
		gsi_unmasked_locked(vm, gsi);
		/* The device of a resampled line may be content by now: it is asked. */
		if (gsi >= 0 && vm->irqchip->resamplers && ioapic->irr >> pin & 1 &&
		    !(ioapic->entry[pin] & IOAPIC_ENTRY_REMOTE_IRR))
			resample_locked(vm, gsi);
	}
	ioapic_service_level(ioapic, pin);
}

/* Takes the lock if the I/O APIC is there. */
static bool ioapic_lock(struct vm *vm, uint64_t gpa, uint32_t len)
{
	if (gpa - IOAPIC_BASE >= IOAPIC_SIZE || len > 8 || IOAPIC_BASE + IOAPIC_SIZE - gpa < len)
		return false;
	lock(vm);
	/* KVM_SET_IRQCHIP can move it, where it is not seen any more. */
	if (gpa - vm->irqchip->ioapic.base < IOAPIC_SIZE)
		return true;
	lock_drop(&vm->irq_lock);
	return false;
}

bool irqchip_mmio_read(struct vm *vm, uint64_t gpa, void *data, uint32_t len)
{
	uint64_t value;

	if (!ioapic_lock(vm, gpa, len))
		return false;
	value = ioapic_read(&vm->irqchip->ioapic, gpa & (IOAPIC_SIZE - 1));
	memcpy(data, &value, len);
	unlock(vm);
	return true;
}

bool irqchip_mmio_write(struct vm *vm, uint64_t gpa, const void *data, uint32_t len)
{
	uint64_t value = 0;
	unsigned int pin;

	if (!ioapic_lock(vm, gpa, len))
		return false;
	memcpy(&value, data, len);
	if (ioapic_write(&vm->irqchip->ioapic, gpa & (IOAPIC_SIZE - 1), value, &pin))
		ioapic_written_locked(vm, pin);
	unlock(vm);
	return true;
}

/* Each device answers to accesses that lie in its ports as a whole; KVM's PIC is silent on all but bytes. */
enum port_owner { PORT_NONE, PORT_PIC, PORT_PIT, PORT_SPEAKER };

static bool within(uint16_t port, uint32_t size, uint16_t first, uint32_t count)
{
	return port >= first && port + size <= first + count;
}

static enum port_owner port_owner(const struct irqchip *irqchip, uint16_t port, uint32_t size)
{
	if (within(port, size, 0x20, 2) || within(port, size, 0xa0, 2) || within(port, size, 0x4d0, 2))
		return PORT_PIC;
	if (irqchip->has_pit && within(port, size, 0x40, 4))
		return PORT_PIT;
	if (irqchip->has_speaker && port == 0x61)
		return PORT_SPEAKER;
	return PORT_NONE;
}

static uint32_t port_read_locked(struct irqchip *irqchip, enum port_owner owner, uint16_t port, uint32_t size)
{
	if (owner == PORT_PIC)
		return size == 1 ? pic_read(&irqchip->pic, port) : 0;
	if (owner == PORT_PIT)
		return pit_read(&irqchip->pit, port, clock_monotonic_ns());
	return pit_speaker_read(&irqchip->pit, clock_monotonic_ns());
}

static void port_write_locked(struct irqchip *irqchip, enum port_owner owner, uint16_t port, uint32_t size,
			      uint8_t value)
{
	if (owner == PORT_PIC) {
		if (size == 1)
			pic_write(&irqchip->pic, port, value);
	} else if (owner == PORT_PIT) {
		pit_write(&irqchip->pit, port, value, clock_monotonic_ns());
	} else {
		pit_speaker_write(&irqchip->pit, value, clock_monotonic_ns());
	}
}

bool irqchip_has_port(const struct vm *vm, uint16_t port, uint32_t size)
{
	return port_owner(vm->irqchip, port, size) != PORT_NONE;
}

bool irqchip_port_in(struct vm *vm, uint16_t port, uint32_t size, void *data)
{
	enum port_owner owner = port_owner(vm->irqchip, port, size);
	uint32_t value;

	if (owner == PORT_NONE)
		return false;
	lock(vm);
	value = port_read_locked(vm->irqchip, owner, port, size);
	unlock(vm);
	memcpy(data, &value, size);
	return true;
}

bool irqchip_port_out(struct vm *vm, uint16_t port, uint32_t size, const void *data)
{
	enum port_owner owner = port_owner(vm->irqchip, port, size);

	if (owner == PORT_NONE)
		return false;
	FAULT_POINT(port_out, vm->irqchip, data, port);
	lock(vm);
	port_write_locked(vm->irqchip, owner, port, size, *(const uint8_t *)data);
	unlock(vm);
	return true;
}

/* ---- resampling irqfds ---- */

int irqchip_resample_add(struct vm *vm, uint32_t gsi, uint32_t cookie, int fd)
{
	struct irqchip *irqchip = vm->irqchip;
	int ret = -ENOSPC;

	lock(vm);
	if (irqchip->resamplers < RESAMPLERS_MAX) {
		irqchip->resampler[irqchip->resamplers++] = (struct resampler) { gsi, cookie, fd };
		routing_vectors_changed_locked(vm);
		ret = 0;
	}
	unlock(vm);
	return ret;
}

void irqchip_resample_remove(struct vm *vm, uint32_t gsi, uint32_t cookie)
{
	struct irqchip *irqchip = vm->irqchip;
	bool others = false;

	lock(vm);
	for (uint32_t n = 0; n < irqchip->resamplers;) {
		struct resampler *r = &irqchip->resampler[n];

		if (r->gsi == gsi && r->cookie == cookie) {
			*r = irqchip->resampler[--irqchip->resamplers];
			continue;
		}
		others |= r->gsi == gsi;
		n++;
	}
	/* With the last one goes what they have raised. */
	if (!others)
		routing_set_irq_locked(vm, IRQ_SOURCE_RESAMPLE, gsi, 0, false);
	routing_vectors_changed_locked(vm);
	unlock(vm);
}

void irqchip_resample_raise(struct vm *vm, uint32_t gsi)
{
	lock(vm);
	routing_set_irq_locked(vm, IRQ_SOURCE_RESAMPLE, gsi, 1, false);
	unlock(vm);
}
