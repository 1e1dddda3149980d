// SPDX-License-Identifier: GPL-2.0-or-later
#include "routing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "fault.h"
#include "sys.h"

/* ioeventfds: a write of the guest that only signals an eventfd. The table is a snapshot, sorted by bus and address. */

#define IOEVENTS_MAX 1000 /* as many as a bus of KVM's has devices */
#define FLAGS_KNOWN                                                                            \
	(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN | \
	 1u << kvm_ioeventfd_flag_nr_fast_mmio)

static bool before(const struct ioevent *event, bool pio, uint64_t addr)
{
	return event->pio != pio ? event->pio < pio : event->addr < addr;
}

/* The first that is not before this address. */
static uint32_t find(const struct ioevents *events, bool pio, uint64_t addr)
{
	uint32_t low = 0, high = events ? events->count : 0;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (before(&events->event[middle], pio, addr))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool at(const struct ioevents *events, uint32_t n, bool pio, uint64_t addr)
{
	return events && n < events->count && events->event[n].pio == pio && events->event[n].addr == addr;
}

bool eventfds_ioevent(struct vm *vm, bool pio, uint64_t addr, uint32_t len, uint64_t value)
{
	const struct ioevents *events;
	uint64_t one = 1;
	bool hit = false;

	if (!(atomic_load_explicit(&vm->ioevent_buses, memory_order_relaxed) & 1u << pio))
		return false;
	FAULT_POINT(ioeventfd, vm, NULL, addr);
	if (len < 8)
		value &= (1ull << len * 8) - 1;
	vm_read_lock(vm);
	events = atomic_load(&vm->ioevents);
	for (uint32_t n = find(events, pio, addr); at(events, n, pio, addr); n++) {
		const struct ioevent *event = &events->event[n];

		if (event->len && (event->len != len || (event->has_match && event->match != value)))
			continue;
		sys_write(event->fd, &one, sizeof(one));
		atomic_fetch_add_explicit(&vm->ioeventfd_signals, 1, memory_order_relaxed);
		hit = true;
		break;
	}
	vm_read_unlock(vm);
	return hit;
}

static bool collides(const struct ioevent *a, const struct ioevent *b)
{
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (!a->has_match || !b->has_match || a->match == b->match);
}

static void publish(struct vm *vm, struct ioevents *new)
{
	struct ioevents *old = atomic_exchange(&vm->ioevents, new);
	uint32_t count = new ? new->count : 0;
	unsigned int buses = 0;

	for (uint32_t i = 0; i < count; i++)
		buses |= 1u << new->event[i].pio;
	atomic_store(&vm->ioevent_buses, buses);
	vm_synchronize(vm); /* no vCPU thread uses the old one, or a descriptor in it, any more */
	free(old);
}

static int assign(struct vm *vm, const struct ioevent *event)
{
	struct ioevents *old = atomic_load(&vm->ioevents), *new;
	uint32_t count = old ? old->count : 0, n;

	n = find(old, event->pio, event->addr);
	for (uint32_t i = n; at(old, i, event->pio, event->addr); i++)
		if (collides(&old->event[i], event))
			return -EEXIST;
	if (count >= IOEVENTS_MAX)
		return -ENOSPC;
	new = malloc(sizeof(*new) + (count + 1) * sizeof(new->event[0]));
	if (!new)
		return -ENOMEM;
	new->count = count + 1;
	if (n)
		memcpy(new->event, old->event, n * sizeof(new->event[0]));
	new->event[n] = *event;
	if (count > n)
		memcpy(&new->event[n + 1], &old->event[n], (count - n) * sizeof(new->event[0]));
	publish(vm, new);
	return 0;
}

static int deassign(struct vm *vm, const struct ioevent *event)
{
	struct ioevents *old = atomic_load(&vm->ioevents), *new = NULL;
	uint32_t n = find(old, event->pio, event->addr);
	int fd;

	for (;; n++) {
		const struct ioevent *found;

		if (!at(old, n, event->pio, event->addr))
			return -ENOENT;
		found = &old->event[n];
		if (found->cookie == event->cookie && found->len == event->len &&
		    found->has_match == event->has_match && (!event->has_match || found->match == event->match))
			break;
	}
	fd = old->event[n].fd;
	if (old->count > 1) {
		new = malloc(sizeof(*new) + (old->count - 1) * sizeof(new->event[0]));
		if (!new)
			return -ENOMEM;
		new->count = old->count - 1;
		memcpy(new->event, old->event, n * sizeof(new->event[0]));
		memcpy(&new->event[n], &old->event[n + 1], (old->count - 1 - n) * sizeof(new->event[0]));
	}
	publish(vm, new);
	close(fd);
	return 0;
}

int eventfds_ioeventfd(struct vm *vm, const struct kvm_ioeventfd *args, uint32_t cookie, int *fd)
{
	struct ioevent event = {
		.addr = args->addr,
		.len = args->len,
		.fd = *fd,
		.cookie = cookie,
		.pio = args->flags & KVM_IOEVENTFD_FLAG_PIO,
		.has_match = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int ret;

	if (event.has_match)
		event.match = args->datamatch;
	if (args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) {
		/* What could never be assigned is not there either. */
		return args->flags & ~FLAGS_KNOWN ? -ENOENT : deassign(vm, &event);
	}
	if (args->len > 8 || (args->len & (args->len - 1)))
		return -EINVAL;
	if (args->addr + args->len < args->addr || args->flags & ~FLAGS_KNOWN)
		return -EINVAL;
	if (!args->len && event.has_match)
		return -EINVAL;
	if (*fd < 0)
		return -EBADF;
	ret = eventfds_check(*fd);
	if (ret)
		return ret;
	ret = assign(vm, &event);
	if (!ret)
		*fd = -1;
	return ret;
}
