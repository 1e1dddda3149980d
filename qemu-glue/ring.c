/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/mman.h>

/*
 * Coalesced writes. VMMs take places and lengths from the ring as it is, whenever they like, so theirs is not the one that the shadow
 * writes: at both ends of each KVM_RUN, and now and then while one lasts, what the shadow has put into its ring is checked and goes into the
 * VMM's, to the same places, and the room that the VMM has made there becomes the shadow's.
 */

#define ENTRIES ((uint32_t)((GLUE_PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio)))

static void *map_page(int fd)
{
	void *page = real_mmap(NULL, GLUE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, CHANNEL_RING_OFFSET);

	if (page != MAP_FAILED)
		real_madvise(page, GLUE_PAGE, MADV_DONTFORK);
	return page;
}

static void unmap_page(void *page)
{
	if (page && page != MAP_FAILED)
		real_munmap(page, GLUE_PAGE);
}

int ring_open(struct vm *vm, const struct vcpu *vcpu)
{
	struct ring *ring = &vm->ring;
	pthread_mutexattr_t attr;
	int ret;

	ring->vmm = map_page(vcpu->fd);
	ring->shadow = map_page(vcpu->area_fd);
	ring->fd = private_fd(fcntl(vcpu->fd, F_DUPFD_CLOEXEC, 0));
	if (ring->vmm == MAP_FAILED || ring->shadow == MAP_FAILED || ring->fd < 0) {
		ret = -errno;
		ring_close(vm, true);
		return ret;
	}
	ring->last = 0;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&ring->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	return 0;
}

void ring_close(struct vm *vm, bool mapped)
{
	struct ring *ring = &vm->ring;

	if (mapped) {
		unmap_page(ring->vmm);
		unmap_page(ring->shadow);
	}
	private_close(ring->fd);
	*ring = (struct ring) { .fd = -1 };
}

static bool take_entries(struct ring *ring, uint32_t last, uint32_t first)
{
	struct kvm_coalesced_mmio entry;

	if (ring->last == last)
		return true; /* nonsense perhaps, but the VMM's */
	if (last >= ENTRIES || ring->last >= ENTRIES)
		return false;
	while (ring->last != last) {
		uint32_t next = ring->last + 1 < ENTRIES ? ring->last + 1 : 0;

		if (next == first)
			break; /* the rest would go over what the VMM has not yet read */
		entry = ring->shadow->coalesced_mmio[ring->last];
		atomic_signal_fence(memory_order_seq_cst); /* what is checked is the copy */
		if (entry.len > sizeof(entry.data) || entry.pio > 1)
			return false;
		ring->vmm->coalesced_mmio[ring->last] = entry;
		__atomic_store_n(&ring->vmm->last, next, __ATOMIC_RELEASE);
		__atomic_store_n(&ring->last, next, __ATOMIC_RELEASE);
	}
	return true;
}

/* Another thread may be at it: as far as ring->last the VMM has all. */
static bool nothing_new(const struct ring *ring)
{
	uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);

	return __atomic_load_n(&ring->shadow->last, __ATOMIC_ACQUIRE) == last &&
	       __atomic_load_n(&ring->vmm->last, __ATOMIC_RELAXED) == last &&
	       __atomic_load_n(&ring->shadow->first, __ATOMIC_RELAXED) ==
		       __atomic_load_n(&ring->vmm->first, __ATOMIC_RELAXED);
}

bool ring_sync(struct vm *vm)
{
	struct ring *ring = &vm->ring;
	bool sound;
	uint32_t first, last;

	if (nothing_new(ring))
		return true;
	/* In a signal handler that came in between here, the frame below goes on with it. */
	if (pthread_mutex_lock(&ring->lock))
		return true;
	/* Room is given under the lock, so that it never shrinks again. */
	first = __atomic_load_n(&ring->vmm->first, __ATOMIC_ACQUIRE);
	last = __atomic_load_n(&ring->vmm->last, __ATOMIC_RELAXED);
	if (last != ring->last) { /* no VMM needs to, but in KVM it is the one that counts */
		__atomic_store_n(&ring->last, last, __ATOMIC_RELAXED);
		__atomic_store_n(&ring->shadow->last, last, __ATOMIC_RELEASE);
	}
	sound = take_entries(ring, __atomic_load_n(&ring->shadow->last, __ATOMIC_ACQUIRE), first);
	__atomic_store_n(&ring->shadow->first, first, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ring->lock);
	return sound;
}
