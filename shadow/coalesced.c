// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Coalesced writes: what the guest writes to such a zone is put into a ring that the VMM empties when it gets to it. One
 * ring a VM, as in KVM: it lies in the first vCPU's area, and the glue shows the same page through every vCPU.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fault.h"
#include "sys.h"
#include "vm.h"

#define ZONES_MAX 1000 /* as many as a bus of KVM's has devices */
#define RING_PAGE 4096
#define RING_ENTRIES \
	((uint32_t)((RING_PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio)))

static bool contains(const struct kvm_coalesced_mmio_zone *zone, uint32_t pio, uint64_t addr, uint64_t len)
{
	return zone->pio == pio && addr + len >= addr && addr >= zone->addr &&
	       addr + len <= zone->addr + (uint64_t)zone->size;
}

static bool zone_find(struct vm *vm, uint32_t pio, uint64_t addr, uint32_t len)
{
	const struct coalesced_zones *zones;
	bool found = false;

	vm_read_lock(vm);
	zones = atomic_load(&vm->coalesced_zones);
	for (uint32_t i = 0; zones && i < zones->count && !found; i++)
		found = contains(&zones->zone[i], pio, addr, len);
	vm_read_unlock(vm);
	return found;
}

static void ring_lock(struct vm *vm)
{
	while (atomic_exchange_explicit(&vm->ring_lock, 1, memory_order_acquire))
		sys_sched_yield(); /* who holds it may be waiting for this CPU */
}

static void ring_unlock(struct vm *vm)
{
	atomic_store_explicit(&vm->ring_lock, 0, memory_order_release);
}

/*
 * first is the VMM's, last ours, but both lie in memory that the VMM writes: each is read once and must be a place in the
 * ring. false: no place (or nonsense), the write goes to the VMM by an exit.
 */
static bool ring_put(struct vm *vm, uint32_t pio, uint64_t addr, const void *data, uint32_t len)
{
	struct kvm_coalesced_mmio_ring *ring = vm->ring;
	uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
	uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED), next;
	struct kvm_coalesced_mmio *entry;

	FAULT_POINT(coalesced_write, ring, data, len);
	if (last >= RING_ENTRIES)
		return false;
	next = last + 1 < RING_ENTRIES ? last + 1 : 0;
	if (next == first || first >= RING_ENTRIES)
		return false;
	entry = &ring->coalesced_mmio[last];
	entry->phys_addr = addr;
	entry->len = len;
	entry->pio = pio;
	memcpy(entry->data, data, len);
	__atomic_store_n(&ring->last, next, __ATOMIC_RELEASE);
	vm->coalesced_writes++;
	return true;
}

/* len: 1..8. true: the VMM will find it in the ring. vCPU threads. */
bool coalesced_write(struct vm *vm, bool pio, uint64_t addr, const void *data, uint32_t len)
{
	bool done;

	if (__builtin_expect(!atomic_load_explicit(&vm->coalesced_zones, memory_order_relaxed), 1) || !vm->ring ||
	    !zone_find(vm, pio, addr, len))
		return false;
	ring_lock(vm);
	done = ring_put(vm, pio, addr, data, len);
	ring_unlock(vm);
	return done;
}

/* ---- KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO: control thread ---- */

static void publish(struct vm *vm, struct coalesced_zones *new)
{
	struct coalesced_zones *old = atomic_exchange(&vm->coalesced_zones, new);

	vm_synchronize(vm);
	free(old);
}

static int zones_add(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	const struct coalesced_zones *old = atomic_load(&vm->coalesced_zones);
	uint32_t count = old ? old->count : 0, on_bus = 0;
	struct coalesced_zones *new;

	for (uint32_t i = 0; i < count; i++)
		on_bus += old->zone[i].pio == zone->pio;
	if (on_bus >= ZONES_MAX)
		return -ENOSPC;
	new = malloc(sizeof(*new) + (count + 1) * sizeof(new->zone[0]));
	if (!new)
		return -ENOMEM;
	new->count = count + 1;
	if (count)
		memcpy(new->zone, old->zone, count * sizeof(new->zone[0]));
	new->zone[count] = *zone;
	publish(vm, new);
	return 0;
}

/* All that contain the given range; that there was one is not asked. */
static int zones_remove(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	const struct coalesced_zones *old = atomic_load(&vm->coalesced_zones);
	struct coalesced_zones *new;
	uint32_t n = 0;

	if (!old)
		return 0;
	new = malloc(sizeof(*new) + old->count * sizeof(new->zone[0]));
	if (!new)
		return -ENOMEM;
	for (uint32_t i = 0; i < old->count; i++)
		if (!contains(&old->zone[i], zone->pio, zone->addr, zone->size))
			new->zone[n++] = old->zone[i];
	new->count = n;
	if (n == old->count) {
		free(new);
		return 0;
	}
	if (!n) {
		free(new);
		new = NULL;
	}
	publish(vm, new);
	FAULT_POINT(coalesced_remove, old, NULL, 0);
	return 0;
}

int64_t coalesced_call(struct vm *vm, const struct call *call, bool add)
{
	struct kvm_coalesced_mmio_zone zone;
	int ret;

	if (call->in_size != sizeof(zone))
		return -EINVAL;
	memcpy(&zone, call->in, sizeof(zone));
	if (zone.pio > 1)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	ret = add ? zones_add(vm, &zone) : zones_remove(vm, &zone);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}
