// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fakes.h"
#include "irqchip_state.h"
#include "suites.h"

/* The devices together, with routes and vCPUs: what KVM's API promises. */

#define IOAPIC_WINDOW (IOAPIC_BASE + 0x10)

struct vm machines_left[4];
static unsigned int machines;

/* A machine that is left keeps its memory where the leak check sees it. */
static void machine(unsigned int count)
{
	machines_left[machines++ % 4] = vm;
	fake_machine(count);
}

static void setup(void)
{
	machine(2);
	vm.split_irqchip = false;
	atomic_store(&vm.vcpus, 0);
	ck_assert_int_eq(irqchip_create(&vm), 0);
	atomic_store(&vm.vcpus, 2);
	fake_ns = 5000000000;
	fake_clear();
}

static void setup_pit(void)
{
	setup();
	ck_assert_int_eq(irqchip_create_pit(&vm, KVM_PIT_SPEAKER_DUMMY), 0);
	fake_wakes = 0;
}

static void outb(uint16_t port, uint8_t value)
{
	ck_assert(irqchip_port_out(&vm, port, 1, &value));
}

static uint8_t inb(uint16_t port)
{
	uint8_t value = 0xee;

	ck_assert(irqchip_port_in(&vm, port, 1, &value));
	return value;
}

static void pic_program(void)
{
	for (uint16_t port = 0x20; port <= 0xa0; port += 0x80) {
		outb(port, 0x11);
		outb(port + 1, port == 0x20 ? 0x30 : 0x38);
		outb(port + 1, port == 0x20 ? 4 : 2);
		outb(port + 1, 1);
	}
}

static void ioapic_set(unsigned int pin, uint64_t entry)
{
	for (unsigned int half = 2; half-- > 0;) {
		uint32_t reg = 0x10 + 2 * pin + half, value = entry >> 32 * half;

		ck_assert(irqchip_mmio_write(&vm, IOAPIC_BASE, &reg, 4));
		ck_assert(irqchip_mmio_write(&vm, IOAPIC_WINDOW, &value, 4));
	}
}

static uint32_t ioapic_get(unsigned int pin)
{
	uint32_t reg = 0x10 + 2 * pin, value = 0;

	ck_assert(irqchip_mmio_write(&vm, IOAPIC_BASE, &reg, 4));
	ck_assert(irqchip_mmio_read(&vm, IOAPIC_WINDOW, &value, 4));
	return value;
}

/* As a vCPU does before it enters its guest; -1: nothing. */
static int takes(struct vcpu *vcpu)
{
	int vector;

	if (atomic_load(&fake_notified[vcpu->id]) & VCPU_REQ_SCAN_EOI)
		routing_scan_eoi(vcpu);
	vector = lapic_pending(vcpu);
	if (vector >= 0)
		lapic_accept(vcpu, vector);
	return vector;
}

START_TEST(creation)
{
	machine(0);
	ck_assert_int_eq(irqchip_create(&vm), -EEXIST); /* split already */
	vm.split_irqchip = false;
	ck_assert_int_eq(irqchip_create_pit(&vm, 0), -ENOENT);
	atomic_store(&vm.vcpus, 1);
	ck_assert_int_eq(irqchip_create(&vm), -EINVAL);
	atomic_store(&vm.vcpus, 0);
	ck_assert_int_eq(irqchip_create(&vm), 0);
	ck_assert_int_eq(irqchip_create(&vm), -EEXIST);
	ck_assert_int_eq(irqchip_set_reinject(&vm, true), -ENXIO);
	ck_assert_int_eq(irqchip_create_pit(&vm, 0), 0);
	ck_assert_int_eq(irqchip_create_pit(&vm, 0), -EEXIST);
	ck_assert_int_eq(irqchip_set_reinject(&vm, true), 0);
	machine(1);
	vm.split_irqchip = false;
	ck_assert_int_eq(irqchip_get(&vm, &(struct kvm_irqchip) { 0 }), -ENXIO);
	ck_assert_int_eq(irqchip_set(&vm, &(struct kvm_irqchip) { 0 }), -ENXIO);
	ck_assert_int_eq(irqchip_get_pit(&vm, &(struct kvm_pit_state2) { 0 }), -ENXIO);
	ck_assert_int_eq(irqchip_set_pit(&vm, &(struct kvm_pit_state2) { 0 }, true), -ENXIO);
}
END_TEST

/* Pins of both controllers behind one GSI. */
START_TEST(default_routes)
{
	pic_program();
	for (uint32_t gsi = 0; gsi < 24; gsi++)
		ioapic_set(gsi, 0x40 + gsi);
	for (uint32_t gsi = 0; gsi < 24; gsi++) {
		int vector;

		if (gsi == 2)
			continue; /* the cascade */
		ck_assert_int_gt(routing_irq_line(&vm, gsi, 1, false), 0);
		vector = takes(cpu);
		ck_assert_int_eq(vector, 0x40 + gsi);
		lapic_eoi(cpu);
		ck_assert_int_eq(irqchip_pic_output(&vm), gsi < 16);
		if (gsi < 16) {
			ck_assert_uint_eq(irqchip_pic_take(&vm), 0x30 + gsi);
			if (gsi >= 8)
				outb(0xa0, 0x20);
			outb(0x20, 0x20);
		}
		routing_irq_line(&vm, gsi, 0, false);
	}
	ck_assert_int_eq(routing_irq_line(&vm, 24, 1, false), -1);
	ck_assert_int_eq(routing_irq_line(&vm, 0xffffffff, 1, false), -1);
	outb(0x21, 0xff);
	ioapic_set(5, 0x10000);
	ck_assert_int_eq(routing_irq_line(&vm, 5, 1, false), -1); /* masked in both */
}
END_TEST

static struct kvm_irq_routing_entry pin_entry(uint32_t gsi, uint32_t chip, uint32_t pin)
{
	return (struct kvm_irq_routing_entry) { .gsi = gsi,
						.type = KVM_IRQ_ROUTING_IRQCHIP,
						.u.irqchip = { .irqchip = chip, .pin = pin } };
}

START_TEST(routes)
{
	struct kvm_irq_routing_entry e[3] = { pin_entry(5, KVM_IRQCHIP_PIC_MASTER, 5),
					      pin_entry(5, KVM_IRQCHIP_IOAPIC, 7),
					      pin_entry(5, KVM_IRQCHIP_PIC_SLAVE, 1) };

	ck_assert_int_eq(routing_set(&vm, e, 3), 0);
	e[2] = pin_entry(5, KVM_IRQCHIP_IOAPIC, 8); /* a chip twice */
	ck_assert_int_eq(routing_set(&vm, e, 3), -EINVAL);
	e[2] = (struct kvm_irq_routing_entry) { .gsi = 5, .type = KVM_IRQ_ROUTING_MSI };
	ck_assert_int_eq(routing_set(&vm, e, 3), -EINVAL);
	e[2].gsi = 6;
	ck_assert_int_eq(routing_set(&vm, e, 3), 0);
	e[0] = pin_entry(6, KVM_IRQCHIP_PIC_MASTER, 6);
	ck_assert_int_eq(routing_set(&vm, e, 3), -EINVAL);
	e[0] = pin_entry(5, KVM_IRQCHIP_PIC_MASTER, 8);
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
	e[0] = pin_entry(5, KVM_IRQCHIP_PIC_SLAVE, 8);
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
	e[0] = pin_entry(5, KVM_IRQCHIP_IOAPIC, 24);
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
	e[0] = pin_entry(5, 3, 0);
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
	e[0] = pin_entry(VM_MAX_ROUTES, KVM_IRQCHIP_IOAPIC, 0);
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
	e[0] = pin_entry(5, KVM_IRQCHIP_IOAPIC, 3);
	e[0].flags = 1;
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
	e[0].flags = 0;
	e[0].type = 3; /* Hyper-V's */
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
	/* The last good one is in force. */
	ioapic_set(7, 0x57);
	ck_assert_int_gt(routing_irq_line(&vm, 5, 1, false), 0);
	ck_assert_int_eq(takes(cpu), 0x57);
	/* With a split irqchip there are no pins. */
	machine(1);
	e[0] = pin_entry(5, KVM_IRQCHIP_IOAPIC, 3);
	ck_assert_int_eq(routing_set(&vm, e, 1), -EINVAL);
}
END_TEST

/* INTR reaches those whose LINT0 says ExtINT: after reset the first vCPU. */
START_TEST(virtual_wire)
{
	pic_program();
	ck_assert(lapic_accepts_pic(fake_vcpu(0)));
	ck_assert(!lapic_accepts_pic(fake_vcpu(1)));
	routing_irq_line(&vm, 4, 1, false);
	ck_assert_uint_eq(fake_notified[0], VCPU_REQ_EVENT);
	ck_assert_uint_eq(fake_notified[1], 0);
	ck_assert(irqchip_pic_output(&vm));
	fake_clear();
	routing_irq_line(&vm, 3, 1, false); /* is up already: nobody needs to be told */
	ck_assert_uint_eq(fake_calls[0], 0);
	ck_assert_uint_eq(irqchip_pic_take(&vm), 0x33);
	ck_assert(!irqchip_pic_output(&vm));
	outb(0x20, 0x20);
	ck_assert(irqchip_pic_output(&vm));
	ck_assert_uint_ne(fake_calls[0], 0);
	ck_assert_uint_eq(irqchip_pic_take(&vm), 0x34);
	ck_assert_uint_eq(irqchip_pic_take(&vm), 0x37); /* a second CPU that came too late */
}
END_TEST

START_TEST(level_and_eoi)
{
	ioapic_set(10, 0x8061);
	ck_assert(fake_notified[0] & VCPU_REQ_SCAN_EOI && fake_notified[1] & VCPU_REQ_SCAN_EOI);
	routing_irq_line(&vm, 10, 1, false);
	ck_assert_int_eq(takes(cpu), 0x61);
	ck_assert_uint_eq(ioapic_get(10), 0xc061);
	ck_assert_int_eq(lapic_eoi(cpu), 0); /* no exit to the VMM */
	ck_assert_int_eq(takes(cpu), 0x61);  /* the line is still up */
	routing_irq_line(&vm, 10, 0, false);
	lapic_eoi(cpu);
	ck_assert_int_eq(takes(cpu), -1);
	ck_assert_uint_eq(ioapic_get(10), 0x8061);
	/* Unmasking shows what waits. */
	ioapic_set(10, 0x18061);
	routing_irq_line(&vm, 10, 1, false);
	ck_assert_int_eq(takes(cpu), -1);
	ioapic_set(10, 0x8061);
	ck_assert_int_eq(takes(cpu), 0x61);
}
END_TEST

/* The entry is changed while its interrupt is in service: the EOI still finds the pin if the vector is the same. */
START_TEST(entry_changes_in_service)
{
	ioapic_set(10, 0x8061);
	routing_irq_line(&vm, 10, 1, false);
	ck_assert_int_eq(takes(cpu), 0x61);
	ioapic_set(10, 0x18061);
	routing_irq_line(&vm, 10, 0, false);
	takes(cpu);
	lapic_eoi(cpu);
	ck_assert_uint_eq(ioapic_get(10), 0x18061);
}
END_TEST

/* A line that nobody lowers leaves the guest a pause now and then. */
START_TEST(storm)
{
	ioapic_set(10, 0x8061);
	routing_irq_line(&vm, 10, 1, false);
	fake_wakes = 0;
	for (int round = 0; round < 3; round++) {
		for (int n = 0; n < IOAPIC_STORM; n++) {
			if (takes(cpu) != 0x61)
				ck_abort_msg("interrupt %d did not come", n);
			lapic_eoi(cpu);
		}
		ck_assert_int_eq(takes(cpu), -1);
		ck_assert_uint_eq(fake_wakes, round + 1);
		ck_assert_int_eq(irqchip_timer(&vm), 10000000);
		ck_assert_int_eq(takes(cpu), -1);
		fake_ns += 10000000;
		ck_assert_int_eq(irqchip_timer(&vm), -1);
	}
	/* A device that is served begins anew. */
	ck_assert_int_eq(takes(cpu), 0x61);
	routing_irq_line(&vm, 10, 0, false);
	lapic_eoi(cpu);
	ck_assert_uint_eq(vm.irqchip->ioapic.streak[10], 0);
	routing_irq_line(&vm, 10, 1, false);
	ck_assert_int_eq(takes(cpu), 0x61);
}
END_TEST

/* A pause that begins while the event thread looks what it has to do: from now on, not from the beginning of time. */
START_TEST(storm_late)
{
	ck_assert_int_eq(irqchip_timer(&vm), -1);
	vm.irqchip->ioapic.delayed = 1u << 10;
	ck_assert_int_eq(irqchip_timer(&vm), 10000000);
	fake_ns += 10000000;
	ck_assert_int_eq(irqchip_timer(&vm), -1);
}
END_TEST

START_TEST(mmio)
{
	uint64_t value = 0x1122334455667700 | 1;
	uint8_t byte = 0;

	ck_assert(irqchip_mmio_write(&vm, IOAPIC_BASE, &value, 8));
	value = 0;
	ck_assert(irqchip_mmio_read(&vm, IOAPIC_WINDOW, &value, 8));
	ck_assert_uint_eq(value, 0x170011);
	ck_assert(irqchip_mmio_read(&vm, IOAPIC_WINDOW, &byte, 1));
	ck_assert_uint_eq(byte, 0x11);
	ck_assert(irqchip_mmio_read(&vm, IOAPIC_BASE + 0xfc, &value, 4));
	ck_assert(!irqchip_mmio_read(&vm, IOAPIC_BASE + 0xfd, &value, 4));
	ck_assert(!irqchip_mmio_read(&vm, IOAPIC_BASE + 0x100, &value, 4));
	ck_assert(!irqchip_mmio_read(&vm, IOAPIC_BASE - 1, &value, 4));
	ck_assert(!irqchip_mmio_write(&vm, 0, &value, 4));
	ck_assert(!irqchip_mmio_write(&vm, ~0ull, &value, 1));
}
END_TEST

START_TEST(port_ranges)
{
	uint32_t value = 0x12345678;

	ck_assert(!irqchip_port_in(&vm, 0x40, 1, &value)); /* no PIT yet */
	ck_assert(!irqchip_port_in(&vm, 0x61, 1, &value));
	ck_assert_int_eq(irqchip_create_pit(&vm, 0), 0);
	ck_assert(irqchip_port_in(&vm, 0x40, 1, &value));
	ck_assert(!irqchip_port_in(&vm, 0x61, 1, &value)); /* not asked for */
	for (unsigned int port = 0; port < 0x10000; port++) {
		for (uint32_t size = 1; size <= 4; size *= 2) {
			unsigned int end = port + size;
			bool is = (port >= 0x20 && end <= 0x22) || (port >= 0xa0 && end <= 0xa2) ||
				  (port >= 0x4d0 && end <= 0x4d2) || (port >= 0x40 && end <= 0x44);

			/* plainly: each ck_assert is a message to the parent */
			if (irqchip_port_in(&vm, port, size, &value) != is ||
			    irqchip_port_out(&vm, port, size, &value) != is)
				ck_abort_msg("port %x, %u bytes", port, size);
		}
	}
	/* The PIC has ears for bytes only. */
	pic_program();
	value = 0xff;
	ck_assert(irqchip_port_out(&vm, 0x20, 2, &value));
	outb(0x21, 0x5a);
	value = 0xffffffff;
	ck_assert(irqchip_port_in(&vm, 0x20, 2, &value));
	ck_assert_uint_eq(value, 0xffff0000);
	ck_assert_uint_eq(inb(0x21), 0x5a);
}
END_TEST

/* ---- PIT ---- */

static void pit_start(uint8_t control, uint16_t count)
{
	outb(0x43, control);
	outb(0x40, count);
	outb(0x40, count >> 8);
}

START_TEST(pit_ticks)
{
	pic_program();
	ck_assert_int_eq(irqchip_timer(&vm), -1);
	pit_start(0x34, 11932); /* 10 ms */
	ck_assert_uint_eq(fake_wakes, 1);
	ck_assert_int_eq(irqchip_timer(&vm), 10000150);
	fake_ns += 10000150;
	ck_assert_int_gt(irqchip_timer(&vm), 9000000);
	ck_assert(irqchip_pic_output(&vm));
	ck_assert_uint_eq(irqchip_pic_take(&vm), 0x30);
	/* Two more before the EOI: they follow it, one by one. */
	fake_ns += 20001000;
	irqchip_timer(&vm);
	ck_assert(!irqchip_pic_output(&vm));
	for (int n = 0; n < 2; n++) {
		outb(0x20, 0x20);
		ck_assert(irqchip_pic_output(&vm));
		irqchip_pic_take(&vm);
	}
	outb(0x20, 0x20);
	ck_assert(!irqchip_pic_output(&vm));
	/* An earlier time wakes the event thread, a later one does not. */
	fake_wakes = 0;
	pit_start(0x34, 20000);
	ck_assert_uint_eq(fake_wakes, 0);
	pit_start(0x34, 1000);
	ck_assert_uint_eq(fake_wakes, 1);
}
END_TEST

/* Through the I/O APIC the EOI of the local APIC is the acknowledge, though the pin is edge-triggered. */
START_TEST(pit_by_ioapic)
{
	struct kvm_irq_routing_entry e = pin_entry(0, KVM_IRQCHIP_IOAPIC, 2);

	ck_assert_int_eq(routing_set(&vm, &e, 1), 0);
	ioapic_set(2, 0x30);
	pit_start(0x34, 11932);
	fake_ns += 30000450; /* three */
	irqchip_timer(&vm);
	for (int n = 0; n < 3; n++) {
		ck_assert_int_eq(takes(cpu), 0x30);
		lapic_eoi(cpu);
	}
	ck_assert_int_eq(takes(cpu), -1);
	/* Without reinjection one interrupt stands for all that were missed, and its EOI is of no interest. */
	ck_assert_int_eq(irqchip_set_reinject(&vm, false), 0);
	fake_ns += 50000750;
	irqchip_timer(&vm);
	ck_assert_int_eq(takes(cpu), 0x30);
	lapic_eoi(cpu);
	ck_assert_int_eq(takes(cpu), -1);
}
END_TEST

START_TEST(pit_unmasked)
{
	pic_program();
	outb(0x21, 0xff);
	pit_start(0x34, 11932);
	fake_ns += 50000750;
	irqchip_timer(&vm);
	ck_assert_uint_eq(vm.irqchip->pit.pending, 5);
	outb(0x21, 0x00);
	ck_assert_uint_eq(vm.irqchip->pit.pending, 0); /* ticks of a masked pin are not made up for */
}
END_TEST

/* The NMI watchdog: LINT0 as NMI. */
START_TEST(pit_nmi)
{
	reg_write(fake_vcpu(1), APIC_LVT_LINT0, APIC_NMI << 8);
	pit_start(0x34, 11932);
	fake_clear();
	fake_ns += 10000150;
	irqchip_timer(&vm);
	ck_assert_uint_eq(fake_notified[1], VCPU_REQ_NMI);
	ck_assert(!(fake_notified[0] & VCPU_REQ_NMI));
}
END_TEST

START_TEST(speaker_port)
{
	uint16_t word = 0xffff;

	outb(0x61, 3);
	ck_assert_uint_eq(inb(0x61) & 3, 3);
	ck_assert(irqchip_port_in(&vm, 0x61, 2, &word));
	ck_assert_uint_eq(word & 0xff03, 3);
	ck_assert(!irqchip_port_in(&vm, 0x62, 1, &word));
	ck_assert(!irqchip_port_in(&vm, 0x60, 2, &word));
}
END_TEST

/* ---- saving and restoring ---- */

START_TEST(state_round_trip)
{
	struct kvm_irqchip chip, back;
	struct kvm_pit_state2 pit, pit_back;

	srand(_i);
	for (uint32_t id = 0; id < 3; id++) {
		memset(&chip, 0, sizeof(chip));
		for (unsigned int n = 0; n < (id < 2 ? sizeof(chip.chip.pic) : sizeof(chip.chip.ioapic)); n++)
			chip.chip.dummy[n] = rand();
		chip.chip_id = id;
		if (id == 2) {
			chip.chip.ioapic.pad = 0;
			chip.chip.ioapic.irr = 0;
		} else {
			/* what this chip asks for must not reach the other one's state */
			chip.chip.pic.imr = 0xff;
			chip.chip.pic.isr = 0xff;
			chip.chip.pic.special_mask = 0;
		}
		ck_assert_int_eq(irqchip_set(&vm, &chip), 0);
		memset(&back, 0, sizeof(back));
		back.chip_id = id;
		ck_assert_int_eq(irqchip_get(&vm, &back), 0);
		ck_assert_mem_eq(&chip, &back, sizeof(chip));
	}
	for (unsigned int n = 0; n < sizeof(pit); n++)
		((uint8_t *)&pit)[n] = rand();
	ck_assert_int_eq(irqchip_set_pit(&vm, &pit, true), 0);
	ck_assert_int_eq(irqchip_get_pit(&vm, &pit_back), 0);
	for (int n = 0; n < 3; n++) {
		ck_assert_int_eq(pit_back.channels[n].count_load_time, fake_ns); /* counts begin anew */
		pit_back.channels[n].count_load_time = pit.channels[n].count_load_time;
	}
	memset(pit.reserved, 0, sizeof(pit.reserved));
	ck_assert_mem_eq(&pit, &pit_back, sizeof(pit));
	/* The older call leaves the flags. */
	memset(&pit, 0, sizeof(pit));
	ck_assert_int_eq(irqchip_set_pit(&vm, &pit, false), 0);
	ck_assert_int_eq(irqchip_get_pit(&vm, &pit), 0);
	ck_assert_uint_eq(pit.flags, pit_back.flags);
	ck_assert_uint_eq(pit.channels[1].count, 0x10000);
	chip.chip_id = 3;
	ck_assert_int_eq(irqchip_get(&vm, &chip), -EINVAL);
	ck_assert_int_eq(irqchip_set(&vm, &chip), -EINVAL);
	chip.chip_id = 0xffffffff;
	ck_assert_int_eq(irqchip_set(&vm, &chip), -EINVAL);
}
END_TEST

/* A machine in the middle of things goes on elsewhere. */
START_TEST(state_moves)
{
	struct kvm_irqchip chip[3];

	pic_program();
	ioapic_set(10, 0x8061);
	ioapic_set(4, 0x0044);
	routing_irq_line(&vm, 10, 1, false); /* under way */
	ck_assert_int_eq(takes(cpu), 0x61);
	routing_irq_line(&vm, 4, 1, false); /* edge: delivered, so not raised again */
	ck_assert_int_eq(takes(cpu), -1);   /* 0x44 is below 0x61 */
	outb(0x21, 0xef);
	for (uint32_t id = 0; id < 3; id++) {
		chip[id].chip_id = id;
		ck_assert_int_eq(irqchip_get(&vm, &chip[id]), 0);
	}
	ck_assert_uint_eq(chip[2].chip.ioapic.irr, 1 << 10);
	setup();
	reg_write(cpu, APIC_TPR, 0);
	for (uint32_t id = 0; id < 3; id++)
		ck_assert_int_eq(irqchip_set(&vm, &chip[id]), 0);
	ck_assert(irqchip_pic_output(&vm)); /* pin 4 */
	ck_assert_uint_eq(irqchip_pic_take(&vm), 0x34);
	ck_assert_int_eq(takes(cpu), -1); /* Remote IRR is set: the LAPIC has it */
	ck_assert_uint_eq(ioapic_get(10), 0xc061);
	/* The EOI that comes with the restored LAPIC brings the next one. */
	irqchip_eoi(cpu, 0x61, true);
	ck_assert_int_eq(takes(cpu), 0x61);
}
END_TEST

/* An I/O APIC that was moved is gone for the guest. */
START_TEST(ioapic_moved)
{
	struct kvm_irqchip chip = { .chip_id = 2 };
	uint32_t value;

	ck_assert_int_eq(irqchip_get(&vm, &chip), 0);
	chip.chip.ioapic.base_address = 0xfec01000;
	ck_assert_int_eq(irqchip_set(&vm, &chip), 0);
	ck_assert(!irqchip_mmio_read(&vm, IOAPIC_BASE, &value, 4));
	ck_assert(!irqchip_mmio_read(&vm, 0xfec01000, &value, 4));
}
END_TEST

/* Ports, registers, state, lines, EOIs at random: ASan and UBSan look on, and it all ends. */
START_TEST(hostile)
{
	static const uint16_t ports[] = { 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61 };

	srand(_i);
	for (int n = 0; n < 20000; n++) {
		uint64_t value = (uint64_t)rand() << 32 ^ (uint64_t)rand() << 8 ^ rand();
		struct kvm_pit_state2 pit;
		struct kvm_irqchip chip;

		irqchip_port_out(&vm, ports[rand() % 11], 1 << rand() % 3, &value);
		irqchip_port_in(&vm, ports[rand() % 11], 1 << rand() % 3, &value);
		irqchip_mmio_write(&vm, IOAPIC_BASE + rand() % 2 * 0x10 + (rand() % 8 ? 0 : rand() % 256), &value,
				   1 + rand() % 8);
		irqchip_mmio_read(&vm, IOAPIC_BASE + rand() % 256, &value, 1 + rand() % 8);
		routing_irq_line(&vm, rand() % 30, rand() % 2, rand() % 2);
		irqchip_eoi(fake_vcpu(rand() % 2), rand(), rand() % 2);
		takes(fake_vcpu(rand() % 2));
		if (rand() % 2)
			lapic_eoi(fake_vcpu(rand() % 2));
		if (irqchip_pic_output(&vm) && rand() % 2)
			irqchip_pic_take(&vm);
		if (rand() % 100 == 0) {
			for (unsigned int i = 0; i < sizeof(chip); i++)
				((uint8_t *)&chip)[i] = rand();
			chip.chip_id = rand() % 4;
			if (rand() % 2)
				chip.chip.ioapic.base_address = IOAPIC_BASE;
			irqchip_set(&vm, &chip);
			irqchip_get(&vm, &chip);
		}
		if (rand() % 100 == 0) {
			for (unsigned int i = 0; i < sizeof(pit); i++)
				((uint8_t *)&pit)[i] = rand();
			irqchip_set_pit(&vm, &pit, rand() % 2);
			irqchip_get_pit(&vm, &pit);
			irqchip_set_reinject(&vm, rand() % 2);
		}
		fake_ns += rand() % 1000000;
		irqchip_timer(&vm);
	}
}
END_TEST

Suite *suite_irqchip(void)
{
	Suite *suite = suite_create("irqchip");
	TCase *plain = tcase_create("plain"), *pit = tcase_create("pit");

	tcase_add_checked_fixture(plain, setup, NULL);
	tcase_add_test(plain, creation);
	tcase_add_test(plain, default_routes);
	tcase_add_test(plain, routes);
	tcase_add_test(plain, virtual_wire);
	tcase_add_test(plain, level_and_eoi);
	tcase_add_test(plain, entry_changes_in_service);
	tcase_add_test(plain, storm);
	tcase_add_test(plain, storm_late);
	tcase_add_test(plain, mmio);
	tcase_add_test(plain, port_ranges);
	tcase_add_test(plain, state_moves);
	tcase_add_test(plain, ioapic_moved);
	suite_add_tcase(suite, plain);
	tcase_add_checked_fixture(pit, setup_pit, NULL);
	tcase_add_test(pit, pit_ticks);
	tcase_add_test(pit, pit_by_ioapic);
	tcase_add_test(pit, pit_unmasked);
	tcase_add_test(pit, pit_nmi);
	tcase_add_test(pit, speaker_port);
	tcase_add_loop_test(pit, state_round_trip, 0, 8);
	tcase_add_loop_test(pit, hostile, 0, 8);
	suite_add_tcase(suite, pit);
	return suite;
}
