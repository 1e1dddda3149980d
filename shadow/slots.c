// SPDX-License-Identifier: GPL-2.0-or-later
#include "slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "channel.h"
#include "core.h"
#include "fault.h"
#include "sys.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define PAGE UMBRA_PAGE_SIZE
#define PAGE_SHIFT 12
#define HUGE_SIZE (2ULL << 20)
#define HUGE_MISSES_MAX 16		  /* then it is not tried again: an old kernel, or no memory for huge pages */
#define FILE_UNIT_MAX (1ULL << 30)	  /* the largest pages of hugetlbfs */
#define MAX_SLOT_PAGES ((1ULL << 31) - 1) /* KVM_MEM_MAX_NR_PAGES */
#define SHIM_DIRTY_PAGES (1ULL << 20)	  /* struct umbra_dirty's limit */

/* ---- readers ---- */

static const struct slot *slots_find(const struct slots *slots, uint64_t gpa)
{
	uint32_t low = 0, high = slots->count;

	FAULT_POINT(slots_find, slots, NULL, gpa);
	while (low < high) {
		uint32_t mid = (low + high) / 2;
		const struct slot *slot = &slots->slot[mid];

		if (gpa < slot->gpa)
			high = mid;
		else if (gpa - slot->gpa >= slot->size)
			low = mid + 1;
		else
			return slot;
	}
	return NULL;
}

static void slot_mark_dirty(struct vm *vm, const struct slot *slot, uint64_t offset, uint64_t len)
{
	struct slot_dirty *dirty = vm->dirty[slot->id];

	if (!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES) || !dirty || !len)
		return;
	for (uint64_t page = offset >> PAGE_SHIFT; page <= (offset + len - 1) >> PAGE_SHIFT; page++)
		if (page / 64 < dirty->words)
			atomic_fetch_or(&dirty->own[page / 64], 1ULL << (page % 64));
}

/* How much of [gpa, gpa + len) lies in one slot, from gpa on; 0: none. Inside vm_read_lock(). */
static size_t slots_piece(struct vm *vm, uint64_t gpa, size_t len, bool write, void **hva)
{
	struct slots *slots = atomic_load_explicit(&vm->slots, memory_order_acquire);
	const struct slot *slot = slots_find(slots, gpa);
	uint64_t offset;

	if (!slot || (write && (slot->flags & KVM_MEM_READONLY)))
		return 0;
	offset = gpa - slot->gpa;
	if (len > slot->size - offset)
		len = slot->size - offset;
	if (write)
		slot_mark_dirty(vm, slot, offset, len);
	*hva = slot->hva + offset;
	return len;
}

/* The pointer is good until the caller's outermost vm_read_unlock(). What is written there is written by then: see dirty_take(). */
void *vm_gpa_to_hva(struct vm *vm, uint64_t gpa, size_t len, bool write)
{
	void *hva = NULL;

	vm_read_lock(vm);
	if (!len || slots_piece(vm, gpa, len, write, &hva) < len)
		hva = NULL;
	vm_read_unlock(vm);
	return hva;
}

int vm_read_gpa(struct vm *vm, uint64_t gpa, void *to, size_t len)
{
	int ret = 0;

	vm_read_lock(vm);
	while (len) {
		void *hva;
		size_t piece = slots_piece(vm, gpa, len, false, &hva);

		if (!piece) {
			ret = -EFAULT;
			break;
		}
		memcpy(to, hva, piece);
		to = (uint8_t *)to + piece;
		gpa += piece;
		len -= piece;
	}
	vm_read_unlock(vm);
	return ret;
}

int vm_write_gpa(struct vm *vm, uint64_t gpa, const void *from, size_t len)
{
	int ret = 0;

	vm_read_lock(vm);
	while (len) {
		void *hva;
		size_t piece = slots_piece(vm, gpa, len, true, &hva);

		if (!piece) {
			ret = -EFAULT;
			break;
		}
		memcpy(hva, from, piece);
		from = (const uint8_t *)from + piece;
		gpa += piece;
		len -= piece;
	}
	vm_read_unlock(vm);
	return ret;
}

/* Was it asked for before? From now on it was. */
static bool huge_asked(struct vm *vm, uint64_t piece)
{
	uint64_t bit = 1ull << piece % 64;

	return piece >= HUGE_PIECES || atomic_fetch_or(&vm->huge_asked[piece / 64], bit) & bit;
}

/*
 * The memory is a memfd's, which the kernel fills with pages of 4 KiB unless shmem_enabled says otherwise. Had it stayed the
 * VMM's private memory the kernel would have given it huge pages (slot->huge), so they are asked for here, one piece at its first
 * touch. The kernel makes them only where there is a page already. Once a piece: where the VMM punched holes since (a balloon),
 * it would fill them again.
 */
void vm_first_touch(struct vm *vm, uint64_t gpa)
{
	uint64_t start = gpa & ~(HUGE_SIZE - 1);
	const struct slot *slot;

	if (atomic_load_explicit(&vm->huge_misses, memory_order_relaxed) >= HUGE_MISSES_MAX)
		return;
	vm_read_lock(vm);
	slot = slots_find(atomic_load_explicit(&vm->slots, memory_order_acquire), gpa);
	if (slot && slot->huge && start >= slot->gpa && start + HUGE_SIZE <= slot->gpa + slot->size &&
	    !huge_asked(vm, start / HUGE_SIZE)) {
		uint8_t *hva = slot->hva + (gpa - slot->gpa);

		if (!sys_madvise(hva - gpa % PAGE, PAGE, MADV_POPULATE_WRITE) &&
		    !sys_madvise(hva - (gpa - start), HUGE_SIZE, MADV_COLLAPSE))
			atomic_store_explicit(&vm->huge_misses, 0, memory_order_relaxed);
		else
			atomic_fetch_add_explicit(&vm->huge_misses, 1, memory_order_relaxed);
	}
	vm_read_unlock(vm);
}

/* ---- the control thread: KVM_SET_USER_MEMORY_REGION ---- */

static struct slots empty_slots;

void slots_init(struct vm *vm)
{
	atomic_store(&vm->slots, &empty_slots);
}

static const struct slot *slots_by_id(const struct slots *slots, uint32_t id)
{
	for (uint32_t i = 0; i < slots->count; i++)
		if (slots->slot[i].id == id)
			return &slots->slot[i];
	return NULL;
}

static bool slots_overlap(const struct slots *slots, uint32_t id, uint64_t gpa, uint64_t size)
{
	for (uint32_t i = 0; i < slots->count; i++) {
		const struct slot *slot = &slots->slot[i];

		if (slot->id != id && gpa < slot->gpa + slot->size && slot->gpa < gpa + size)
			return true;
	}
	return false;
}

/* A copy of the snapshot without slot id, and with *add where given. */
static struct slots *slots_change(const struct slots *old, uint32_t id, const struct slot *add)
{
	struct slots *new = malloc(sizeof(*new) + (old->count + 1) * sizeof(struct slot));
	uint32_t n = 0;

	if (!new)
		return NULL;
	for (uint32_t i = 0; i < old->count; i++) {
		if (add && add->gpa < old->slot[i].gpa) {
			new->slot[n++] = *add;
			add = NULL;
		}
		if (old->slot[i].id != id)
			new->slot[n++] = old->slot[i];
	}
	if (add)
		new->slot[n++] = *add;
	new->count = n;
	new->generation = old->generation + 1;
	return new;
}

static void slots_publish(struct vm *vm, struct slots *new)
{
	struct slots *old = atomic_exchange(&vm->slots, new);

	vm_synchronize(vm);
	if (old != &empty_slots)
		free(old);
}

/* Bits of a slot's word that stand for pages of it. */
static uint64_t dirty_mask(uint64_t size, uint64_t word)
{
	uint64_t pages = (size >> PAGE_SHIFT) - word * 64;

	return pages < 64 ? (1ULL << pages) - 1 : UINT64_MAX;
}

static struct slot_dirty *dirty_create(uint64_t size, bool all_set)
{
	uint64_t words = ((size >> PAGE_SHIFT) + 63) / 64;
	struct slot_dirty *dirty = calloc(1, sizeof(*dirty) + words * 8);

	if (!dirty)
		return NULL;
	dirty->words = words;
	dirty->pending = calloc(words, 8);
	if (!dirty->pending) {
		free(dirty);
		return NULL;
	}
	for (uint64_t i = 0; all_set && i < words; i++)
		dirty->pending[i] = dirty_mask(size, i);
	return dirty;
}

static void dirty_free(struct slot_dirty *dirty)
{
	if (!dirty)
		return;
	free(dirty->pending);
	free(dirty);
}

/*
 * What a file can be mapped in: hugetlbfs says its page size here. Some other files say more than a page, too; that does
 * no harm.
 */
static uint64_t file_unit(const struct stat *st)
{
	uint64_t unit = (uint64_t)st->st_blksize;

	return S_ISREG(st->st_mode) && unit > PAGE && unit <= FILE_UNIT_MAX && !(unit & (unit - 1)) ? unit : PAGE;
}

/* mmap() of a file at an address that is congruent to like modulo align (a power of two). */
static void *map_aligned(uint64_t len, int prot, int fd, uint64_t offset, uint64_t like, uint64_t align)
{
	uint64_t reserve = len + align, start;
	uint8_t *area, *map;

	area = mmap(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return MAP_FAILED;
	start = ((uint64_t)area & ~(align - 1)) + (like & (align - 1));
	if (start < (uint64_t)area)
		start += align;
	map = mmap((void *)start, len, prot, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset);
	if (map == MAP_FAILED) {
		int error = errno;

		munmap(area, reserve);
		errno = error;
		return MAP_FAILED;
	}
	if (map > area)
		munmap(area, (size_t)(map - area));
	if (map + len < area + reserve)
		munmap(map + len, (size_t)(area + reserve - (map + len)));
	return map;
}

/*
 * Never executable. Congruent to gpa modulo 2 MiB, so that the shim can use large leaves; where the file has larger pages,
 * congruent to the file, which has no other addresses.
 */
static int slot_map(struct slot *slot, int fd, uint64_t offset, bool writable)
{
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	uint64_t unit, skip, len;
	struct stat st;
	void *map;
	int ret = (int)sys_fstat(fd, &st);

	if (ret < 0)
		return ret;
	/* A mapping keeps its file. What is neither a file nor a device could keep others alive with it, a ring of io_uring's the VMM's socket. */
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return -EINVAL;
	if (S_ISREG(st.st_mode) &&
	    (offset > (uint64_t)st.st_size || slot->size > (((uint64_t)st.st_size + PAGE - 1) & -PAGE) - offset))
		return -EINVAL;
	unit = file_unit(&st);
	skip = offset & (unit - 1);
	len = (skip + slot->size + unit - 1) & -unit;
	map = map_aligned(len, prot, fd, offset - skip, unit > PAGE ? offset - skip : slot->gpa,
			  unit > HUGE_SIZE ? unit : HUGE_SIZE);
	if (map == MAP_FAILED)
		return -errno;
	/* Where the host gives shared memory huge pages for the asking (shmem_enabled=advise); else it does nothing. */
	madvise(map, len, MADV_HUGEPAGE);
	slot->map = map;
	slot->map_size = len;
	slot->hva = (uint8_t *)map + skip;
	return 0;
}

static int slot_set_region(struct vm *vm, const struct slot *slot, uint64_t size)
{
	struct umbra_region region = {
		.slot = slot->id,
		.size = size,
	};

	if (size) {
		region.gpa = slot->gpa;
		region.addr = (uint64_t)slot->hva;
		if (slot->flags & KVM_MEM_READONLY)
			region.flags |= UMBRA_REGION_READONLY;
		if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
			region.flags |= UMBRA_REGION_LOG_DIRTY;
		else if (slot->huge)
			region.flags |= UMBRA_REGION_ANNOUNCE;
	}
	return vm->shim->ops->set_region(vm->shim, &region);
}

static int slot_delete(struct vm *vm, const struct slot *slot)
{
	struct slots *old = atomic_load(&vm->slots), *new = slots_change(old, slot->id, NULL);
	struct slot gone = *slot;
	int ret;

	if (!new)
		return -ENOMEM;
	ret = slot_set_region(vm, slot, 0);
	if (ret < 0) {
		free(new);
		return ret;
	}
	slots_publish(vm, new);
	dirty_free(vm->dirty[gone.id]);
	vm->dirty[gone.id] = NULL;
	munmap(gone.map, gone.map_size);
	return 0;
}

/* A new gpa or new flags of a slot that is there, or a slot that is new and mapped. */
static int slot_replace(struct vm *vm, const struct slot *slot)
{
	struct slots *new = slots_change(atomic_load(&vm->slots), slot->id, slot);
	struct slot_dirty *dirty = vm->dirty[slot->id];
	bool log = slot->flags & KVM_MEM_LOG_DIRTY_PAGES;
	int ret;

	if (!new)
		return -ENOMEM;
	if (log && !dirty) {
		dirty = dirty_create(slot->size, vm->manual_dirty_protect & KVM_DIRTY_LOG_INITIALLY_SET);
		if (!dirty) {
			free(new);
			return -ENOMEM;
		}
	}
	ret = slot_set_region(vm, slot, slot->size);
	if (ret < 0) {
		if (dirty != vm->dirty[slot->id])
			dirty_free(dirty);
		free(new);
		return ret;
	}
	/* A log that goes on at another place: what the shim knew of the guest's writes went with the region that it had. */
	for (uint64_t i = 0; log && dirty == vm->dirty[slot->id] && i < dirty->words; i++)
		atomic_store(&dirty->own[i], dirty_mask(slot->size, i));
	vm->dirty[slot->id] = dirty; /* before the snapshot that leads readers to it */
	slots_publish(vm, new);
	if (!log && dirty) {
		vm->dirty[slot->id] = NULL;
		vm_synchronize(vm);
		dirty_free(dirty);
	}
	return 0;
}

static int slot_create(struct vm *vm, struct slot *slot, const struct channel_memory *arg, struct call *call)
{
	int ret;

	if (call->nfds < 1 || call->fds[0] < 0)
		return -EBADF;
	if ((arg->fd_offset & (PAGE - 1)) || arg->fd_offset > INT64_MAX - arg->size || arg->fd_readonly > 1 ||
	    arg->huge > 1)
		return -EINVAL;
	/* Page by page in the file as in the guest, or huge pages cannot be mapped. */
	slot->huge = arg->huge && !arg->fd_readonly && !((arg->fd_offset ^ arg->gpa) & (HUGE_SIZE - 1));
	for (uint64_t piece = arg->gpa / HUGE_SIZE;
	     slot->huge && piece < HUGE_PIECES && piece * HUGE_SIZE < arg->gpa + arg->size; piece++)
		atomic_fetch_and(&vm->huge_asked[piece / 64], ~(1ull << piece % 64));
	ret = slot_map(slot, call->fds[0], arg->fd_offset, !arg->fd_readonly);
	if (ret < 0)
		return ret;
	ret = slot_replace(vm, slot);
	if (ret < 0)
		munmap(slot->map, slot->map_size);
	return ret;
}

static int memory_check(const struct vm *vm, const struct channel_memory *arg)
{
	uint64_t gpa_limit = vm->info.gpa_bits >= 64 ? UINT64_MAX : 1ULL << vm->info.gpa_bits;

	if ((arg->flags & ~(uint32_t)(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)))
		return -EINVAL;
	if ((arg->size & (PAGE - 1)) || (arg->gpa & (PAGE - 1)) || (arg->userspace_addr & (PAGE - 1)))
		return -EINVAL;
	if (arg->slot >> 16 || (arg->slot & 0xffff) >= VM_MAX_SLOTS)
		return -EINVAL;
	if (arg->gpa + arg->size < arg->gpa || arg->size >> PAGE_SHIFT > MAX_SLOT_PAGES ||
	    arg->size > UMBRA_MAX_REGION_SIZE)
		return -EINVAL;
	if (arg->size && arg->gpa + arg->size > gpa_limit)
		return -EINVAL;
	return 0;
}

static int memory_set(struct vm *vm, const struct channel_memory *arg, struct call *call)
{
	struct slots *slots = atomic_load(&vm->slots);
	const struct slot *old = slots_by_id(slots, arg->slot);
	struct slot slot = {
		.gpa = arg->gpa,
		.size = arg->size,
		.userspace_addr = arg->userspace_addr,
		.id = arg->slot,
		.flags = arg->flags,
	};

	if (!arg->size)
		return old ? slot_delete(vm, old) : -EINVAL;
	if (old) {
		if (old->userspace_addr != arg->userspace_addr || old->size != arg->size ||
		    ((old->flags ^ arg->flags) & KVM_MEM_READONLY))
			return -EINVAL;
		if (old->gpa == arg->gpa && old->flags == arg->flags)
			return 0;
	}
	if ((!old || old->gpa != arg->gpa) && slots_overlap(slots, arg->slot, arg->gpa, arg->size))
		return -EEXIST;
	if (!old)
		return slot_create(vm, &slot, arg, call);
	slot.hva = old->hva;
	slot.map = old->map;
	slot.map_size = old->map_size;
	slot.huge = old->huge && !((old->gpa ^ slot.gpa) & (HUGE_SIZE - 1));
	return slot_replace(vm, &slot);
}

int64_t vm_memory(struct vm *vm, struct call *call)
{
	struct channel_memory arg;
	int ret;

	FAULT_POINT(set_memory, vm, call->in, call->in_size);
	if (call->in_size != sizeof(arg))
		return -EINVAL;
	if (!vm->created)
		return -EBADF;
	memcpy(&arg, call->in, sizeof(arg));
	ret = memory_check(vm, &arg);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&vm->lock);
	ret = memory_set(vm, &arg, call);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

/* Unit tests end a VM; a shadow ends with its VM. */
void slots_fini(struct vm *vm)
{
	struct slots *slots = atomic_load(&vm->slots);

	for (uint32_t i = 0; i < slots->count; i++) {
		munmap(slots->slot[i].map, slots->slot[i].map_size);
		dirty_free(vm->dirty[slots->slot[i].id]);
		vm->dirty[slots->slot[i].id] = NULL;
	}
	if (slots != &empty_slots)
		free(slots);
	slots_init(vm);
}

/* ---- dirty log ---- */

/*
 * Takes the dirty bits of [first, first + pages) from the shim and from the shadow's own writes. V held. The VMM reads these
 * pages next, and their bits are gone: all that was written under them must be there by then. The guest's writes are, since the
 * shim takes its right to write away first. A thread of the shadow marks a page before it writes it, without leaving its
 * vm_read_lock() in between, so all that costs it nothing and is made up for here.
 */
static int dirty_take(struct vm *vm, uint32_t id, uint64_t first, uint64_t pages, uint64_t *bitmap)
{
	struct slot_dirty *dirty = vm->dirty[id];

	for (uint64_t done = 0; done < pages; done += SHIM_DIRTY_PAGES) {
		struct umbra_dirty arg = {
			.slot = id,
			.first_page = first + done,
			.pages = pages - done < SHIM_DIRTY_PAGES ? pages - done : SHIM_DIRTY_PAGES,
			.bitmap = (uint64_t)(bitmap + done / 64),
		};
		int ret = vm->shim->ops->get_dirty(vm->shim, &arg);

		if (ret < 0)
			return ret;
	}
	for (uint64_t i = 0; i < (pages + 63) / 64; i++)
		bitmap[i] |= atomic_exchange(&dirty->own[first / 64 + i], 0);
	vm_synchronize(vm);
	return 0;
}

static int64_t get_dirty_locked(struct vm *vm, struct call *call, uint32_t id, uint64_t first)
{
	const struct slot *slot = id < VM_MAX_SLOTS ? slots_by_id(atomic_load(&vm->slots), id) : NULL;
	struct slot_dirty *dirty;
	uint64_t pages, words;
	uint64_t *bitmap = call->out;
	int ret;

	if (!CHANNEL_SLOT_KNOWN(id))
		return -EINVAL;
	if (!slot || !(slot->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return -ENOENT;
	dirty = vm->dirty[id];
	pages = slot->size >> PAGE_SHIFT;
	if (first % 64 || first >= pages)
		return -EINVAL;
	pages -= first;
	if (pages > CHANNEL_PAYLOAD_MAX * 8ULL)
		pages = CHANNEL_PAYLOAD_MAX * 8ULL;
	words = (pages + 63) / 64;
	ret = dirty_take(vm, id, first, pages, bitmap);
	if (ret < 0)
		return ret;
	if (vm->manual_dirty_protect & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		for (uint64_t i = 0; i < words; i++)
			bitmap[i] = dirty->pending[first / 64 + i] |= bitmap[i];
	call->out_size = (uint32_t)(words * 8);
	return 0;
}

/*
 * KVM_GET_DIRTY_LOG. A reply holds CHANNEL_PAYLOAD_MAX * 8 pages at most: arg says from which page of the slot on (a
 * multiple of 64), so that the glue can fetch a larger slot piece by piece.
 */
int64_t slots_get_dirty(struct vm *vm, struct call *call)
{
	struct kvm_dirty_log arg;
	int64_t ret;

	if (call->in_size != sizeof(arg))
		return -EINVAL;
	memcpy(&arg, call->in, sizeof(arg));
	pthread_mutex_lock(&vm->lock);
	ret = get_dirty_locked(vm, call, arg.slot, call->arg);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

/*
 * KVM_CLEAR_DIRTY_LOG. The pages were write-protected again when their bits were fetched, so that a write since then is in
 * the shim's bitmap and comes with the next KVM_GET_DIRTY_LOG: never less than KVM reports.
 */
static int64_t clear_dirty_locked(struct vm *vm, const struct kvm_clear_dirty_log *arg, const uint8_t *bitmap,
				  uint32_t bitmap_size)
{
	const struct slot *slot = arg->slot < VM_MAX_SLOTS ? slots_by_id(atomic_load(&vm->slots), arg->slot) : NULL;
	uint64_t pages, words = ((uint64_t)arg->num_pages + 63) / 64;

	if (!CHANNEL_SLOT_KNOWN(arg->slot) || arg->first_page % 64)
		return -EINVAL;
	if (!slot || !(slot->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return -ENOENT;
	pages = slot->size >> PAGE_SHIFT;
	if (arg->first_page > pages || arg->num_pages > pages - arg->first_page ||
	    (arg->num_pages % 64 && arg->first_page + arg->num_pages < pages))
		return -EINVAL;
	if (bitmap_size < words * 8)
		return -EINVAL;
	for (uint64_t i = 0; i < words; i++) {
		uint64_t bits;

		memcpy(&bits, bitmap + i * 8, 8);
		vm->dirty[arg->slot]->pending[arg->first_page / 64 + i] &= ~bits;
	}
	return 0;
}

int64_t slots_clear_dirty(struct vm *vm, struct call *call)
{
	struct kvm_clear_dirty_log arg;
	int64_t ret;

	if (call->in_size < sizeof(arg))
		return -EINVAL;
	memcpy(&arg, call->in, sizeof(arg));
	pthread_mutex_lock(&vm->lock);
	ret = clear_dirty_locked(vm, &arg, (const uint8_t *)call->in + sizeof(arg), call->in_size - sizeof(arg));
	pthread_mutex_unlock(&vm->lock);
	return ret;
}
