// SPDX-License-Identifier: GPL-2.0-or-later
/* PIC, PIT and I/O APIC: a guest's accesses, lines, time, ends of interrupts, and state from the VMM. */
#include "irqchip_state.h"
#include "rig.h"
#include "routing.h"

#define STEPS 200

static const uint16_t ports[] = { 0x20, 0x21, 0xa0, 0xa1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x4d0, 0x4d1, 0x22 };

static struct irqchip *chip(void)
{
	return rig.vm.irqchip;
}

static void holds(void)
{
	const struct pic_chip *master = &chip()->pic.chip[0];

	fuzz_assert(atomic_load(&chip()->pic_output) == chip()->pic.output);
	fuzz_assert(!chip()->pic.output || master->irr & ~master->imr);
	fuzz_assert(chip()->pit.pending <= 1000000000u);
}

/* What the VMM gets can be given back, and is then what it was. */
static void chip_state(struct input *in, uint32_t id)
{
	static struct kvm_irqchip a, b;

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	a.chip_id = b.chip_id = id;
	if (irqchip_get(&rig.vm, &a))
		return;
	for (uint8_t n = input_u8(in) & 15; n; n--)
		((uint8_t *)&a
			 .chip)[input_pick(in, id == KVM_IRQCHIP_IOAPIC ? sizeof(a.chip.ioapic) : sizeof(a.chip.pic))] =
			input_u8(in);
	if (id == KVM_IRQCHIP_PIC_MASTER) /* the second chip pulses its line: it is never left up */
		a.chip.pic.last_irr &= ~4;
	if (irqchip_set(&rig.vm, &a))
		return;
	fuzz_assert(!irqchip_get(&rig.vm, &a) && !irqchip_set(&rig.vm, &a) && !irqchip_get(&rig.vm, &b));
	if (id != KVM_IRQCHIP_IOAPIC) /* the I/O APIC's pins that are up send what is due when it is restored */
		fuzz_assert(!memcmp(&a, &b, sizeof(a)));
}

static void pit_state(struct input *in)
{
	static struct kvm_pit_state2 a, b;

	if (irqchip_get_pit(&rig.vm, &a))
		return;
	for (uint8_t n = input_u8(in) & 15; n; n--)
		((uint8_t *)&a)[input_pick(in, sizeof(a))] = input_u8(in);
	if (irqchip_set_pit(&rig.vm, &a, input_u8(in) & 1))
		return;
	fuzz_assert(!irqchip_get_pit(&rig.vm, &a) && !irqchip_get_pit(&rig.vm, &b));
	fuzz_assert(!memcmp(&a, &b, sizeof(a)));
}

static void step(struct input *in)
{
	uint8_t what = input_u8(in), size = (uint8_t)(1 << (what >> 6 & 1));
	uint64_t value = 0;
	int64_t wait;

	switch (what & 15) {
	case 0:
		chip_state(in, input_pick(in, 4));
		break;
	case 1:
		pit_state(in);
		break;
	case 2:
	case 3:
		fuzz_ns += (what & 0x10 ? 1000LL : 1LL) * input_u32(in);
		fuzz_tsc = (uint64_t)fuzz_ns;
		wait = irqchip_timer(&rig.vm);
		fuzz_assert(wait >= -1);
		break;
	case 4:
		routing_irq_line(&rig.vm, input_pick(in, 26), what >> 4 & 1, what >> 5 & 1);
		break;
	case 5:
		irqchip_eoi(rig.vm.vcpu[what >> 7], input_u8(in), what >> 4 & 1);
		break;
	case 6:
		irqchip_pic_take(&rig.vm);
		break;
	case 7:
		irqchip_set_reinject(&rig.vm, what >> 4 & 1);
		break;
	case 8:
	case 9:
		value = input_u32(in);
		irqchip_mmio_write(&rig.vm, IOAPIC_BASE + (what & 0x10 ? 0x10 : input_u8(in)), &value,
				   what & 0x20 ? 1 + (value & 7) : 4);
		break;
	case 10:
		irqchip_mmio_read(&rig.vm, IOAPIC_BASE + (what & 0x10 ? 0x10 : input_u8(in)), &value,
				  1 + input_pick(in, 8));
		break;
	case 11:
		/* An entry in two steps. */
		value = 0x10 + input_pick(in, 48);
		irqchip_mmio_write(&rig.vm, IOAPIC_BASE, &value, 4);
		value = input_u32(in) & 0x1ffff;
		irqchip_mmio_write(&rig.vm, IOAPIC_BASE + 0x10, &value, 4);
		break;
	case 12:
		irqchip_port_in(&rig.vm, ports[input_pick(in, sizeof(ports) / 2)], size, &value);
		break;
	default:
		value = input_u32(in);
		irqchip_port_out(&rig.vm, ports[input_pick(in, sizeof(ports) / 2)], size, &value);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);

	rig_begin(NULL, false);
	rig_machine(RIG_WHOLE_PIT);
	rig_vcpu(1);
	for (unsigned int n = 0; input_more(&in) && n < STEPS; n++) {
		step(&in);
		holds();
	}
	rig_end();
	return 0;
}
