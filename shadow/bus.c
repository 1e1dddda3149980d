// SPDX-License-Identifier: GPL-2.0-or-later
/* Who gets a guest's access to a port or to device memory before the VMM does. vCPU threads. */
#include <string.h>

#include "core.h"
#include "irqchip.h"
#include "routing.h"
#include "vcpu.h"

#define PAGE_MASK 0xfffULL

/* Where the vCPU's APIC lies, has it registers there or not. */
static bool apic_range(const struct vcpu *vcpu, uint64_t gpa)
{
	return vm_has_lapics(vcpu->vm) && !((gpa ^ vcpu->apic_base) & ~PAGE_MASK);
}

static bool lapic_page(const struct vcpu *vcpu, uint64_t gpa)
{
	return vcpu->lapic.enabled && !vcpu->lapic.x2apic && apic_range(vcpu, gpa);
}

bool bus_has_mmio(struct vcpu *vcpu, uint64_t gpa)
{
	return lapic_page(vcpu, gpa);
}

/*
 * An APIC that is off, or in x2APIC mode, leaves a hole, as KVM's does by default, where the VMM has no memory there. It is not
 * the VMM's: its writes there are devices' messages, and one of them may be an INIT.
 */
bool bus_mmio_read(struct vcpu *vcpu, uint64_t gpa, void *data, uint32_t len)
{
	if (!apic_range(vcpu, gpa))
		return vcpu->vm->irqchip && irqchip_mmio_read(vcpu->vm, gpa, data, len);
	if (!lapic_page(vcpu, gpa))
		memset(data, 0xff, len);
	else if (!lapic_mmio_read(vcpu, (uint32_t)(gpa & PAGE_MASK), len, data))
		memset(data, 0, len);
	return true;
}

bool bus_mmio_write(struct vcpu *vcpu, uint64_t gpa, const void *data, uint32_t len)
{
	uint64_t value = 0;

	if (apic_range(vcpu, gpa)) {
		if (lapic_page(vcpu, gpa))
			lapic_mmio_write(vcpu, (uint32_t)(gpa & PAGE_MASK), len, data);
		return true;
	}
	if (vcpu->vm->irqchip && irqchip_mmio_write(vcpu->vm, gpa, data, len))
		return true;
	memcpy(&value, data, len);
	return eventfds_ioevent(vcpu->vm, false, gpa, len, value) || coalesced_write(vcpu->vm, false, gpa, data, len);
}

/* May one of these two do it? */
bool bus_has_port(struct vcpu *vcpu, bool out, uint16_t port, uint32_t size)
{
	struct vm *vm = vcpu->vm;

	if (vm->irqchip && irqchip_has_port(vm, port, size))
		return true;
	return out && (atomic_load_explicit(&vm->ioevent_buses, memory_order_relaxed) & 2 ||
		       atomic_load_explicit(&vm->coalesced_zones, memory_order_relaxed));
}

bool bus_port_in(struct vcpu *vcpu, uint16_t port, uint32_t size, void *data)
{
	return vcpu->vm->irqchip && irqchip_port_in(vcpu->vm, port, size, data);
}

bool bus_port_out(struct vcpu *vcpu, uint16_t port, uint32_t size, const void *data)
{
	uint32_t value = 0;

	if (vcpu->vm->irqchip && irqchip_port_out(vcpu->vm, port, size, data))
		return true;
	memcpy(&value, data, size);
	return eventfds_ioevent(vcpu->vm, true, port, size, value) || coalesced_write(vcpu->vm, true, port, data, size);
}
