// SPDX-License-Identifier: GPL-2.0-or-later
#include "routing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vcpu.h"

#define MSI_LOGICAL (1u << 2)
#define MSI_REDIRECTION (1u << 3)
#define MSI_LEVEL (1u << 15)

/* One GSI. With a split irqchip all there is are MSIs: the VMM's I/O APIC pins as well. */
struct route {
	bool used;
	uint32_t address_lo, address_hi, data;
};

struct route_table {
	uint32_t count; /* highest GSI in use + 1 */
	struct route route[VM_MAX_ROUTES];
};

/*
 * Two tables: the spare one is built without the lock (V is held: one builder), then they change places. So the hundreds of
 * tables that a VMM sends while its guest boots cost neither memory nor a wait of the readers.
 */
struct irq_routes {
	pthread_mutex_t lock;
	struct route_table *current; /* lock */
	struct route_table *spare;   /* V */
	/* A: vectors of level-triggered I/O APIC pins, for vCPU threads, which take no lock. */
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
	pthread_mutex_init(&routes->lock, NULL);
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

static bool msi_valid(const struct vm *vm, uint32_t address_hi)
{
	return !vm->x2apic_api_32bit_ids || !(address_hi & 0xff);
}

static int table_add(const struct vm *vm, struct route_table *table, const struct kvm_irq_routing_entry *entry)
{
	struct route *route;

	/* KVM_IRQ_ROUTING_IRQCHIP: there is no irqchip with pins here, as with KVM's split one. */
	if (entry->type != KVM_IRQ_ROUTING_MSI || entry->flags & ~KVM_MSI_VALID_DEVID)
		return -EINVAL;
	if (entry->gsi >= VM_MAX_ROUTES || !msi_valid(vm, entry->u.msi.address_hi))
		return -EINVAL;
	route = &table->route[entry->gsi];
	if (route->used)
		return -EINVAL; /* an MSI has its GSI to itself */
	*route = (struct route) {
		.used = true,
		.address_lo = entry->u.msi.address_lo,
		.address_hi = entry->u.msi.address_hi,
		.data = entry->u.msi.data,
	};
	if (entry->gsi >= table->count)
		table->count = entry->gsi + 1;
	return 0;
}

/* Which vectors' EOIs the VMM's I/O APIC must hear of. Destinations do not matter: an APIC that has such a vector in
 * service as level-triggered got it from one of these pins. */
static void level_vectors(const struct vm *vm, const struct route_table *table, uint64_t level[4])
{
	memset(level, 0, 4 * sizeof(level[0]));
	for (uint32_t gsi = 0; gsi < table->count && gsi < vm->ioapic_pins; gsi++) {
		const struct route *route = &table->route[gsi];

		if (route->used && route->data & MSI_LEVEL)
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

int routing_set(struct vm *vm, const struct kvm_irq_routing_entry *entries, uint32_t count)
{
	struct irq_routes *routes = vm->routes;
	struct route_table *table = routes->spare;
	uint64_t level[4];
	int ret;

	if (!vm->split_irqchip || count > VM_MAX_ROUTES)
		return -EINVAL;
	memset(table->route, 0, table->count * sizeof(table->route[0]));
	table->count = 0;
	for (uint32_t i = 0; i < count; i++) {
		ret = table_add(vm, table, &entries[i]);
		if (ret)
			return ret;
	}
	/* New level-triggered vectors are told to the vCPUs before the table can raise one. Those that go away do no harm
	 * until the next scan, so most changes make no vCPU leave its guest. */
	level_vectors(vm, table, level);
	if (level_add(routes, level))
		scan_request(vm);
	pthread_mutex_lock(&routes->lock);
	routes->spare = routes->current;
	routes->current = table;
	pthread_mutex_unlock(&routes->lock);
	for (unsigned int n = 0; n < 4; n++)
		atomic_store(&routes->level[n], level[n]);
	return 0;
}

int routing_set_irq(struct vm *vm, uint32_t gsi, int level)
{
	struct irq_routes *routes = vm->routes;
	struct route route = { 0 };
	struct apic_msg msg;

	if (!level)
		return -1; /* a message has no falling edge */
	pthread_mutex_lock(&routes->lock);
	if (gsi < routes->current->count)
		route = routes->current->route[gsi];
	pthread_mutex_unlock(&routes->lock);
	if (!route.used)
		return -1;
	msg = msi_message(vm, route.address_lo, route.address_hi, route.data);
	return apic_deliver(vm, NULL, &msg);
}

int routing_signal_msi(struct vm *vm, const struct kvm_msi *msi)
{
	struct apic_msg msg;

	if (!vm->split_irqchip || msi->flags & ~KVM_MSI_VALID_DEVID || !msi_valid(vm, msi->address_hi))
		return -EINVAL;
	msg = msi_message(vm, msi->address_lo, msi->address_hi, msi->data);
	return apic_deliver(vm, NULL, &msg);
}

void routing_scan_eoi(struct vcpu *vcpu)
{
	struct lapic *lapic = &vcpu->lapic;

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
