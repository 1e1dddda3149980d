// SPDX-License-Identifier: GPL-2.0-or-later
#include "routing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "vcpu.h"

#define MSI_LOGICAL (1u << 2)
#define MSI_REDIRECTION (1u << 3)
#define MSI_LEVEL (1u << 15)

#define CHIPS 3	    /* KVM_IRQCHIP_* */
#define PINS_MAX 24 /* of a chip */

/* One GSI: a message, or a pin each of some of the chips. With a split irqchip all are messages: the VMM's I/O APIC pins too. */
struct route {
	bool msi;
	uint8_t pin[CHIPS]; /* its number + 1; 0: none */
	uint32_t address_lo, address_hi, data;
};

struct route_table {
	uint32_t count;		      /* highest GSI in use + 1 */
	int16_t gsi[CHIPS][PINS_MAX]; /* of a pin, + 1; 0: none */
	struct route route[VM_MAX_ROUTES];
};

/*
 * Two tables: the spare one is built without the lock (V is held: one builder), then they change places. So the hundreds of
 * tables that a VMM sends while its guest boots cost neither memory nor a wait of the readers.
 */
struct irq_routes {
	struct route_table *current; /* vm->irq_lock */
	struct route_table *spare;   /* V */
	uint32_t taken;		     /* V: entries in the spare so far */
	/* A: vectors whose EOIs I/O APICs must hear of, for vCPU threads, which take no lock for it. */
	_Atomic uint64_t level[4];
};

int routing_create(struct vm *vm)
{
	struct irq_routes *routes = calloc(1, sizeof(*routes));

	if (!routes)
		return -ENOMEM;
	routes->current = calloc(1, sizeof(*routes->current));
	routes->spare = calloc(1, sizeof(*routes->spare));
	if (!routes->current || !routes->spare) {
		free(routes->current);
		free(routes->spare);
		free(routes);
		return -ENOMEM;
	}
	vm->routes = routes;
	return 0;
}

/* SDM 3A 11.11. Bits 39:8 of an extended destination are in the high address (KVM_CAP_X2APIC_API). */
static struct apic_msg msi_message(const struct vm *vm, uint32_t address_lo, uint32_t address_hi, uint32_t data)
{
	struct apic_msg msg = {
		.dest = address_lo >> 12 & 0xff,
		.vector = data,
		.mode = data >> 8 & 7,
		.logical = address_lo & MSI_LOGICAL,
		.level = data & MSI_LEVEL,
	};

	if (vm->x2apic_api_32bit_ids)
		msg.dest |= address_hi & 0xffffff00;
	/* The hint asks for one of several destinations. */
	if (address_lo & MSI_REDIRECTION && !msg.mode)
		msg.mode = 1;
	return msg;
}

/* As on KVM, a message that is for no APIC is no error as long as there is one. */
static int msi_deliver(struct vm *vm, const struct apic_msg *msg)
{
	int ret = apic_deliver(vm, NULL, msg);

	return ret < 0 && atomic_load(&vm->vcpus) ? 0 : ret;
}

static bool msi_valid(const struct vm *vm, uint32_t address_hi)
{
	return !vm->x2apic_api_32bit_ids || !(address_hi & 0xff);
}

static int table_add_msi(const struct vm *vm, struct route *route, const struct kvm_irq_routing_entry *entry)
{
	if (entry->flags & ~KVM_MSI_VALID_DEVID || !msi_valid(vm, entry->u.msi.address_hi))
		return -EINVAL;
	/* A message has its GSI to itself. */
	if (route->msi || route->pin[0] || route->pin[1] || route->pin[2])
		return -EINVAL;
	route->msi = true;
	route->address_lo = entry->u.msi.address_lo;
	route->address_hi = entry->u.msi.address_hi;
	route->data = entry->u.msi.data;
	return 0;
}

static int table_add_pin(struct route_table *table, struct route *route, const struct kvm_irq_routing_entry *entry)
{
	uint32_t chip = entry->u.irqchip.irqchip, pin = entry->u.irqchip.pin;

	if (entry->flags || chip >= CHIPS || pin >= (chip == KVM_IRQCHIP_IOAPIC ? PINS_MAX : 8))
		return -EINVAL;
	if (route->msi || route->pin[chip])
		return -EINVAL;
	route->pin[chip] = pin + 1;
	table->gsi[chip][pin] = entry->gsi + 1;
	return 0;
}

static int table_add(const struct vm *vm, struct route_table *table, const struct kvm_irq_routing_entry *entry)
{
	struct route *route;
	int ret = -EINVAL;

	if (entry->gsi >= VM_MAX_ROUTES)
		return -EINVAL;
	route = &table->route[entry->gsi];
	if (entry->gsi >= table->count)
		table->count = entry->gsi + 1; /* even if it fails: what is below count is cleared the next time */
	if (entry->type == KVM_IRQ_ROUTING_MSI)
		ret = table_add_msi(vm, route, entry);
	else if (entry->type == KVM_IRQ_ROUTING_IRQCHIP && vm->irqchip)
		ret = table_add_pin(table, route, entry);
	return ret;
}

int routing_gsi_of_locked(struct vm *vm, uint32_t chip, uint32_t pin)
{
	return vm->routes->current->gsi[chip][pin] - 1;
}

/* Which vectors' EOIs the I/O APIC must hear of, the VMM's or the one here. Destinations do not matter: an APIC that has such
 * a vector in service as level-triggered got it from one of these pins. */
static void level_vectors(struct vm *vm, const struct route_table *table, uint64_t level[4])
{
	memset(level, 0, 4 * sizeof(level[0]));
	if (vm->irqchip) {
		irqchip_eoi_vectors_locked(vm, level);
		return;
	}
	for (uint32_t gsi = 0; gsi < table->count && gsi < vm->ioapic_pins; gsi++) {
		const struct route *route = &table->route[gsi];

		if (route->msi && route->data & MSI_LEVEL)
			level[(route->data & 0xff) >> 6] |= 1ull << (route->data & 63);
	}
}

/* Returns true when a vector is new. */
static bool level_add(struct irq_routes *routes, const uint64_t level[4])
{
	bool added = false;

	for (unsigned int n = 0; n < 4; n++)
		added |= level[n] & ~atomic_fetch_or(&routes->level[n], level[n]);
	return added;
}

static void scan_request(struct vm *vm)
{
	unsigned int left = atomic_load(&vm->vcpus);

	for (unsigned int n = 0; n < VM_MAX_VCPUS && left; n++) {
		struct vcpu *vcpu = __atomic_load_n(&vm->vcpu[n], __ATOMIC_ACQUIRE);

		if (!vcpu)
			continue;
		left--;
		vcpu_notify(vcpu, VCPU_REQ_SCAN_EOI);
	}
}

/* New vectors are told to the vCPUs before anything can raise one. Those that go away do no harm until the next scan, so
 * most changes make no vCPU leave its guest. */
static void vectors_publish(struct vm *vm, const uint64_t level[4])
{
	if (level_add(vm->routes, level))
		scan_request(vm);
}

static void vectors_drop(struct vm *vm, const uint64_t level[4])
{
	for (unsigned int n = 0; n < 4; n++)
		atomic_store(&vm->routes->level[n], level[n]);
}

void routing_vectors_changed_locked(struct vm *vm)
{
	uint64_t level[4];

	level_vectors(vm, vm->routes->current, level);
	vectors_publish(vm, level);
	vectors_drop(vm, level);
}

static int table_fill(struct vm *vm, struct route_table *table, const struct kvm_irq_routing_entry *entries,
		      uint32_t count)
{
	FAULT_POINT(routing_set, table->route, entries, count);
	for (uint32_t i = 0; i < count; i++) {
		int ret = table_add(vm, table, &entries[i]);

		if (ret)
			return ret;
	}
	return 0;
}

static void table_publish(struct vm *vm, struct irq_routes *routes)
{
	struct route_table *table = routes->spare;
	uint64_t level[4];

	lock_take(&vm->irq_lock);
	if (!vm->irqchip) {
		level_vectors(vm, table, level);
		vectors_publish(vm, level);
	}
	routes->spare = routes->current;
	routes->current = table;
	if (vm->irqchip)
		routing_vectors_changed_locked(vm); /* other pins may be the PIT's or a resampled line's */
	else
		vectors_drop(vm, level);
	lock_drop(&vm->irq_lock);
}

int routing_set_piece(struct vm *vm, const struct kvm_irq_routing_entry *entries, uint32_t first, uint32_t count,
		      uint32_t total)
{
	struct irq_routes *routes = vm->routes;
	struct route_table *table = routes->spare;
	int ret;

	if (!vm_has_lapics(vm) || total > VM_MAX_ROUTES || first > total || count > total - first)
		return -EINVAL;
	if (!first) {
		memset(table->route, 0, table->count * sizeof(table->route[0]));
		memset(table->gsi, 0, sizeof(table->gsi));
		table->count = 0;
		routes->taken = 0;
	}
	if (first != routes->taken)
		return -EINVAL;
	ret = table_fill(vm, table, entries, count);
	routes->taken = ret ? UINT32_MAX : first + count; /* after a failure all begins anew */
	if (!ret && routes->taken == total) {
		table_publish(vm, routes);
		routes->taken = UINT32_MAX;
	}
	return ret;
}

int routing_set(struct vm *vm, const struct kvm_irq_routing_entry *entries, uint32_t count)
{
	return routing_set_piece(vm, entries, 0, count, count);
}

static int add_result(int sum, int ret)
{
	return ret < 0 ? sum : ret + (sum < 0 ? 0 : sum);
}

int routing_set_irq_locked(struct vm *vm, enum irq_source source, uint32_t gsi, int level, bool status)
{
	const struct route_table *table = vm->routes->current;
	const struct route *route;
	struct apic_msg msg;
	int ret = -1;

	if (gsi >= table->count)
		return -1;
	route = &table->route[gsi];
	if (route->msi) {
		if (!level)
			return -1; /* a message has no falling edge */
		msg = msi_message(vm, route->address_lo, route->address_hi, route->data);
		return msi_deliver(vm, &msg);
	}
	for (uint32_t chip = 0; vm->irqchip && chip < CHIPS; chip++)
		if (route->pin[chip])
			ret = add_result(ret,
					 irqchip_set_pin_locked(vm, chip, route->pin[chip] - 1, source, level, status));
	return ret;
}

int routing_irq_line(struct vm *vm, uint32_t gsi, int level, bool status)
{
	int ret;

	lock_take(&vm->irq_lock);
	ret = routing_set_irq_locked(vm, IRQ_SOURCE_USER, gsi, level, status);
	if (vm->irqchip)
		irqchip_settle_locked(vm);
	lock_drop(&vm->irq_lock);
	return ret;
}

int routing_set_irq(struct vm *vm, uint32_t gsi, int level)
{
	return routing_irq_line(vm, gsi, level, false);
}

int routing_signal_msi(struct vm *vm, const struct kvm_msi *msi)
{
	struct apic_msg msg;

	if (!vm_has_lapics(vm) || msi->flags & ~KVM_MSI_VALID_DEVID || !msi_valid(vm, msi->address_hi))
		return -EINVAL;
	FAULT_POINT(signal_msi, vm, msi, msi->address_lo);
	msg = msi_message(vm, msi->address_lo, msi->address_hi, msi->data);
	return msi_deliver(vm, &msg);
}

void routing_scan_eoi(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;

	FAULT_POINT(scan_eoi, vcpu, NULL, 0);
	if (!vcpu->vm->routes)
		return;
	for (unsigned int n = 0; n < 4; n++) {
		uint64_t level = atomic_load(&vcpu->vm->routes->level[n]);
		uint64_t busy = atomic_load(&lapic->request[n]);

		/* An interrupt on its way was raised by the old table: its EOI still belongs to the pin. */
		for (unsigned int half = 0; half < 2; half++) {
			uint32_t offset = (n * 2 + half) * 16, bits;

			memcpy(&bits, lapic->regs + 0x100 + offset, 4);
			busy |= (uint64_t)bits << (half * 32);
			memcpy(&bits, lapic->regs + 0x200 + offset, 4);
			busy |= (uint64_t)bits << (half * 32);
		}
		lapic->eoi_exit[n] = level | (lapic->eoi_exit[n] & busy);
	}
}
