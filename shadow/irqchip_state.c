// SPDX-License-Identifier: GPL-2.0-or-later
/* The irqchip's calls of the KVM API. Control thread. */
#include "irqchip_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fault.h"
#include "routing.h"
#include "vm.h"

/* The API's structures have the device's fields under the device's names; what a VMM sets it gets back as it is. */
#define PIC_COPY(to, from)                                                           \
	do {                                                                         \
		(to)->last_irr = (from)->last_irr;                                   \
		(to)->irr = (from)->irr;                                             \
		(to)->imr = (from)->imr;                                             \
		(to)->isr = (from)->isr;                                             \
		(to)->priority_add = (from)->priority_add;                           \
		(to)->irq_base = (from)->irq_base;                                   \
		(to)->read_reg_select = (from)->read_reg_select;                     \
		(to)->poll = (from)->poll;                                           \
		(to)->special_mask = (from)->special_mask;                           \
		(to)->init_state = (from)->init_state;                               \
		(to)->auto_eoi = (from)->auto_eoi;                                   \
		(to)->rotate_on_auto_eoi = (from)->rotate_on_auto_eoi;               \
		(to)->special_fully_nested_mode = (from)->special_fully_nested_mode; \
		(to)->init4 = (from)->init4;                                         \
		(to)->elcr = (from)->elcr;                                           \
		(to)->elcr_mask = (from)->elcr_mask;                                 \
	} while (0)
#define PIT_COPY(to, from)                                     \
	do {                                                   \
		(to)->count = (from)->count;                   \
		(to)->latched_count = (from)->latched_count;   \
		(to)->count_latched = (from)->count_latched;   \
		(to)->status_latched = (from)->status_latched; \
		(to)->status = (from)->status;                 \
		(to)->read_state = (from)->read_state;         \
		(to)->write_state = (from)->write_state;       \
		(to)->write_latch = (from)->write_latch;       \
		(to)->rw_mode = (from)->rw_mode;               \
		(to)->mode = (from)->mode;                     \
		(to)->bcd = (from)->bcd;                       \
		(to)->gate = (from)->gate;                     \
	} while (0)

static int deliver(void *opaque, const struct apic_msg *msg)
{
	return apic_deliver(opaque, NULL, msg);
}

/* KVM's routes as long as the VMM sets no others: the pins of the PICs are those of the I/O APIC. */
static int default_routes(struct vm *vm)
{
	struct kvm_irq_routing_entry entry[PIC_PINS + IOAPIC_PINS];
	uint32_t count = 0;

	memset(entry, 0, sizeof(entry));
	for (uint32_t gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		entry[count].gsi = gsi;
		entry[count].type = KVM_IRQ_ROUTING_IRQCHIP;
		entry[count].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		entry[count++].u.irqchip.pin = gsi;
		if (gsi >= PIC_PINS)
			continue;
		entry[count].gsi = gsi;
		entry[count].type = KVM_IRQ_ROUTING_IRQCHIP;
		entry[count].u.irqchip.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		entry[count++].u.irqchip.pin = gsi & 7;
	}
	return routing_set(vm, entry, count);
}

int irqchip_create(struct vm *vm)
{
	struct irqchip *irqchip;
	int ret;

	FAULT_POINT(create_irqchip, vm, NULL, atomic_load(&vm->vcpus));
	if (vm_has_lapics(vm))
		return -EEXIST;
	if (atomic_load(&vm->vcpus))
		return -EINVAL;
	irqchip = calloc(1, sizeof(*irqchip));
	if (!irqchip)
		return -ENOMEM;
	pic_init(&irqchip->pic);
	irqchip->ioapic.deliver = deliver;
	irqchip->ioapic.opaque = vm;
	ioapic_init(&irqchip->ioapic);
	irqchip->wakes = INT64_MAX;
	__atomic_store_n(&vm->irqchip, irqchip, __ATOMIC_RELEASE);
	ret = default_routes(vm);
	if (ret < 0) {
		__atomic_store_n(&vm->irqchip, NULL, __ATOMIC_RELEASE);
		free(irqchip);
	}
	return ret;
}

/* ---- PIC, I/O APIC ---- */

/* An edge whose interrupt was sent is not shown: it would be sent once more where it is restored. */
static void ioapic_get(const struct ioapic *ioapic, struct kvm_ioapic_state *state)
{
	memset(state, 0, sizeof(*state));
	state->base_address = ioapic->base;
	state->ioregsel = ioapic->select;
	state->id = ioapic->id;
	state->irr = ioapic->irr & ~ioapic->irr_delivered;
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		state->redirtbl[pin].bits = ioapic->entry[pin];
}

static void ioapic_set_locked(struct vm *vm, const struct kvm_ioapic_state *state)
{
	struct ioapic *ioapic = &vm->irqchip->ioapic;

	ioapic->base = state->base_address;
	ioapic->select = state->ioregsel;
	ioapic->id = state->id;
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->entry[pin] = state->redirtbl[pin].bits;
	/* The vCPUs learn of the vectors before the first one can be sent. */
	routing_vectors_changed_locked(vm);
	ioapic_restore(ioapic, state->irr);
}

int irqchip_get(struct vm *vm, struct kvm_irqchip *chip)
{
	struct irqchip *irqchip = vm->irqchip;
	int ret = 0;

	if (!irqchip)
		return -ENXIO;
	lock_take(&vm->irq_lock);
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
		PIC_COPY(&chip->chip.pic, &irqchip->pic.chip[0]);
		break;
	case KVM_IRQCHIP_PIC_SLAVE:
		PIC_COPY(&chip->chip.pic, &irqchip->pic.chip[1]);
		break;
	case KVM_IRQCHIP_IOAPIC:
		ioapic_get(&irqchip->ioapic, &chip->chip.ioapic);
		break;
	default:
		ret = -EINVAL;
	}
	lock_drop(&vm->irq_lock);
	return ret;
}

int irqchip_set(struct vm *vm, const struct kvm_irqchip *chip)
{
	struct irqchip *irqchip = vm->irqchip;
	int ret = 0;

	if (!irqchip)
		return -ENXIO;
	lock_take(&vm->irq_lock);
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
		PIC_COPY(&irqchip->pic.chip[0], &chip->chip.pic);
		break;
	case KVM_IRQCHIP_PIC_SLAVE:
		PIC_COPY(&irqchip->pic.chip[1], &chip->chip.pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		ioapic_set_locked(vm, &chip->chip.ioapic);
		break;
	default:
		ret = -EINVAL;
	}
	pic_update(&irqchip->pic);
	irqchip_settle_locked(vm);
	lock_drop(&vm->irq_lock);
	return ret;
}

/* ---- PIT ---- */

bool irqchip_has_pit(struct vm *vm)
{
	return vm->irqchip && vm->irqchip->has_pit;
}

int irqchip_create_pit(struct vm *vm, uint32_t flags)
{
	struct irqchip *irqchip = vm->irqchip;

	FAULT_POINT(create_pit, irqchip, NULL, flags);
	if (irqchip_has_pit(vm))
		return -EEXIST;
	if (!irqchip)
		return -ENOENT;
	lock_take(&vm->irq_lock);
	pit_init(&irqchip->pit, clock_monotonic_ns());
	irqchip->has_speaker = flags & KVM_PIT_SPEAKER_DUMMY;
	irqchip->has_pit = true;
	routing_vectors_changed_locked(vm);
	irqchip_settle_locked(vm);
	lock_drop(&vm->irq_lock);
	return 0;
}

int irqchip_get_pit(struct vm *vm, struct kvm_pit_state2 *state)
{
	if (!irqchip_has_pit(vm))
		return -ENXIO;
	memset(state, 0, sizeof(*state));
	lock_take(&vm->irq_lock);
	for (unsigned int n = 0; n < PIT_CHANNELS; n++) {
		const struct pit_channel *c = &vm->irqchip->pit.channel[n];
		struct kvm_pit_channel_state *s = &state->channels[n];

		PIT_COPY(s, c);
		s->count_load_time = c->load_time;
	}
	state->flags = vm->irqchip->pit.flags;
	lock_drop(&vm->irq_lock);
	return 0;
}

int irqchip_set_pit(struct vm *vm, const struct kvm_pit_state2 *state, bool flags)
{
	struct pit *pit;

	if (!irqchip_has_pit(vm))
		return -ENXIO;
	pit = &vm->irqchip->pit;
	lock_take(&vm->irq_lock);
	FAULT_POINT(set_pit, pit, state, 0);
	for (unsigned int n = 0; n < PIT_CHANNELS; n++) {
		struct pit_channel *c = &pit->channel[n];
		const struct kvm_pit_channel_state *s = &state->channels[n];

		PIT_COPY(c, s);
	}
	pit_restore(pit, flags ? state->flags : pit->flags, clock_monotonic_ns());
	irqchip_settle_locked(vm);
	lock_drop(&vm->irq_lock);
	return 0;
}

int irqchip_set_reinject(struct vm *vm, bool reinject)
{
	if (!irqchip_has_pit(vm))
		return -ENXIO;
	lock_take(&vm->irq_lock);
	pit_set_reinject(&vm->irqchip->pit, reinject);
	routing_vectors_changed_locked(vm);
	irqchip_settle_locked(vm);
	lock_drop(&vm->irq_lock);
	return 0;
}
