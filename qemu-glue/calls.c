/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* KVM's calls on /dev/kvm and on a VM, as messages. */

#define SLOTS_MAX 4096 /* that the glue keeps the size of; the shadow's own limit is far below */

static int64_t forward_locked(struct shadow *shadow, uint16_t kind, uint32_t nr, uint64_t arg, uint32_t xsave_size)
{
	struct request request = { .kind = kind, .nr = nr };
	struct payload p;
	int put;
	int64_t ret = payload_gather(nr, arg, xsave_size, shadow->buf, &p);

	if (ret)
		return ret;
	request.arg = p.number ? arg : 0;
	request.size = p.in_size;
	request.max = p.out_max;
	ret = shadow_request_locked(shadow, &request);
	put = payload_put(nr, &p, shadow->buf, request.size, ret);
	if (put == -EPROTO) {
		shadow_is_broken_locked(shadow, "it sent a malformed reply");
		return -EIO;
	}
	return put ? put : ret;
}

static int64_t forward(struct shadow *shadow, uint16_t kind, uint32_t nr, uint64_t arg, uint32_t xsave_size)
{
	int64_t ret;

	pthread_mutex_lock(&shadow->lock);
	ret = forward_locked(shadow, kind, nr, arg, xsave_size);
	pthread_mutex_unlock(&shadow->lock);
	return ret;
}

/* ---- /dev/kvm ---- */

/* A descriptor number for the VMM to hold; what it stands for is in the file table. */
static int new_descriptor(const char *name, int flags, struct file *file)
{
	int fd = memfd_create(name, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
	int ret;

	if (fd < 0) {
		ret = -errno;
		file_put(file);
		return ret;
	}
	ret = file_install(fd, file);
	if (ret) {
		real_close(fd);
		file_put(file);
		return ret;
	}
	return fd;
}

int kvm_open(int flags)
{
	struct kvm *kvm = calloc(1, sizeof(*kvm));
	struct file *file;
	int ret;

	if (!kvm)
		return -ENOMEM;
	ret = shadow_start(&kvm->shadow);
	if (ret) {
		free(kvm);
		return ret;
	}
	pthread_mutex_init(&kvm->lock, NULL);
	file = file_new(FILE_KVM, kvm);
	if (!file) {
		shadow_put(kvm->shadow);
		free(kvm);
		return -ENOMEM;
	}
	return new_descriptor("umbra-kvm", flags, file);
}

/* A shadow that went with its VM, or was left behind by fork(), is replaced; one that died is not. */
static int kvm_shadow_locked(struct kvm *kvm)
{
	struct shadow *old = kvm->shadow;
	int ret;

	if (!atomic_load(&old->closed))
		return 0;
	ret = shadow_start(&kvm->shadow);
	if (ret) {
		kvm->shadow = old;
		return ret;
	}
	shadow_put(old);
	return 0;
}

static void vm_put(struct vm *vm)
{
	if (atomic_fetch_sub(&vm->refs, 1) != 1)
		return;
	irq_bell_close(vm);
	ring_close(vm, !atomic_load(&vm->shadow->closed)); /* in a child made by fork() nothing is mapped */
	shadow_close(vm->shadow);
	shadow_put(vm->shadow);
	pthread_mutex_destroy(&vm->irq_lock);
	free(vm->slots);
	free(vm);
}

static int64_t vm_create(struct kvm *kvm, uint64_t type)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct file *file = NULL;
	struct shadow *shadow = kvm->shadow;
	int64_t ret = vm ? 0 : -ENOMEM;

	if (ret)
		return ret;
	if (shadow->has_vm)
		ret = shadow_start(&shadow); /* one shadow, one guest */
	else
		shadow_get(shadow);
	if (ret) {
		free(vm);
		return ret;
	}
	atomic_store(&vm->refs, 1);
	vm->ring.fd = -1;
	pthread_mutex_init(&vm->irq_lock, NULL);
	wait_init(&vm->irq_adapt);
	vm->shadow = shadow;
	ret = forward(shadow, CHANNEL_VM, KVM_CREATE_VM, type, 0);
	if (ret >= 0) {
		ret = forward(shadow, CHANNEL_VM, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2, 0);
		vm->xsave_size = shadow->xsave_size = ret > 0 ? ret : 0;
		shadow->has_vm = true;
		file = file_new(FILE_VM, vm);
		ret = file ? 0 : -ENOMEM;
	}
	if (ret < 0) {
		/* The shadow of /dev/kvm itself stays: only this call failed. */
		shadow_put(shadow);
		free(vm);
		return ret;
	}
	return new_descriptor("umbra-vm", O_CLOEXEC, file);
}

/* What this side knows itself. VMMs ask again when a guest may long have had its shadow, and map and unmap by the answer. */
static bool answer_here(struct shadow *shadow, uint32_t nr, uint64_t arg, int64_t *ret)
{
	if (atomic_load(&shadow->dead) || atomic_load(&shadow->closed))
		return false;
	if (nr == KVM_GET_API_VERSION)
		*ret = arg ? -EINVAL : KVM_API_VERSION;
	else if (nr == KVM_GET_VCPU_MMAP_SIZE)
		*ret = arg ? -EINVAL : CHANNEL_VCPU_OFFSET;
	else if (nr == KVM_CHECK_EXTENSION && arg == KVM_CAP_XSAVE2 && shadow->has_vm)
		*ret = shadow->xsave_size; /* which KVM_GET_XSAVE2 is held to */
	else
		return false;
	return true;
}

static int64_t kvm_call_locked(struct kvm *kvm, uint32_t nr, uint64_t arg)
{
	int64_t ret = kvm_shadow_locked(kvm);

	if (ret || answer_here(kvm->shadow, nr, arg, &ret))
		return ret;
	return nr == KVM_CREATE_VM ? vm_create(kvm, arg) : forward(kvm->shadow, CHANNEL_SYSTEM, nr, arg, 0);
}

static int64_t kvm_ioctl(struct kvm *kvm, uint32_t nr, uint64_t arg)
{
	int64_t ret;

	pthread_mutex_lock(&kvm->lock);
	ret = kvm_call_locked(kvm, nr, arg);
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

/* ---- memory slots ---- */

static struct vm_slot *slot_find(struct vm *vm, uint32_t slot)
{
	for (uint32_t i = 0; i < vm->nslots; i++)
		if (vm->slots[i].slot == slot)
			return &vm->slots[i];
	return NULL;
}

static int slot_reserve(struct vm *vm)
{
	struct vm_slot *slots;

	if (vm->nslots >= SLOTS_MAX)
		return -EINVAL;
	slots = realloc(vm->slots, (vm->nslots + 1) * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	vm->slots = slots;
	return 0;
}

static void slot_set(struct vm *vm, uint32_t slot, uint64_t pages)
{
	struct vm_slot *found = slot_find(vm, slot);

	if (found && !pages)
		*found = vm->slots[--vm->nslots];
	else if (found)
		found->pages = pages;
	else if (pages)
		vm->slots[vm->nslots++] = (struct vm_slot) { slot, pages };
}

static int64_t vm_set_memory(struct vm *vm, uint64_t arg)
{
	struct kvm_userspace_memory_region region;
	struct channel_memory memory = { 0 };
	struct request request = { .kind = CHANNEL_MEMORY, .nr = KVM_SET_USER_MEMORY_REGION, .size = sizeof(memory) };
	struct memory_ref ref = { .fd = -1 };
	int64_t ret;

	if (user_read(&region, arg, sizeof(region)))
		return -EFAULT;
	if ((region.memory_size | region.guest_phys_addr | region.userspace_addr) % GLUE_PAGE ||
	    region.guest_phys_addr + region.memory_size < region.guest_phys_addr ||
	    region.userspace_addr + region.memory_size < region.userspace_addr)
		return -EINVAL;
	if (region.memory_size) {
		ret = memory_share(region.userspace_addr, region.memory_size, &ref);
		if (ret)
			return ret;
		request.fds[0] = ref.fd;
		request.nfds = 1;
	}
	memory.slot = region.slot;
	memory.flags = region.flags;
	memory.gpa = region.guest_phys_addr;
	memory.size = region.memory_size;
	memory.userspace_addr = region.userspace_addr;
	memory.fd_offset = ref.offset;
	memory.fd_readonly = ref.readonly;
	memory.huge = ref.huge;
	pthread_mutex_lock(&vm->shadow->lock);
	ret = slot_reserve(vm);
	if (!ret) {
		memcpy(vm->shadow->buf, &memory, sizeof(memory));
		ret = shadow_request_locked(vm->shadow, &request);
	}
	if (ret >= 0)
		slot_set(vm, region.slot, region.memory_size / GLUE_PAGE);
	pthread_mutex_unlock(&vm->shadow->lock);
	if (ref.fd >= 0)
		real_close(ref.fd);
	return ret;
}

static int64_t get_dirty_locked(struct vm *vm, const struct kvm_dirty_log *log)
{
	struct vm_slot *slot = slot_find(vm, log->slot);
	uint64_t bytes = slot ? (slot->pages + 63) / 64 * 8 : 0;
	struct kvm_dirty_log ask = { .slot = log->slot };

	if (!slot)
		return CHANNEL_SLOT_KNOWN(log->slot) ? -ENOENT : -EINVAL;
	for (uint64_t at = 0; at < bytes;) {
		uint32_t want = bytes - at < CHANNEL_PAYLOAD_MAX ? bytes - at : CHANNEL_PAYLOAD_MAX;
		struct request request = {
			.kind = CHANNEL_VM, .nr = KVM_GET_DIRTY_LOG, .arg = at * 8, .size = sizeof(ask), .max = want
		};
		int64_t ret;

		memcpy(vm->shadow->buf, &ask, sizeof(ask));
		ret = shadow_request_locked(vm->shadow, &request);
		if (ret < 0)
			return ret;
		if (request.size != want)
			return -EIO;
		if (user_write((uintptr_t)log->dirty_bitmap + at, vm->shadow->buf, want))
			return -EFAULT;
		at += want;
	}
	return 0;
}

static int64_t clear_dirty_locked(struct vm *vm, struct kvm_clear_dirty_log log)
{
	const uint32_t most = (CHANNEL_PAYLOAD_MAX - sizeof(log)) / 8 * 64; /* pages in one message */
	uint64_t bitmap = (uintptr_t)log.dirty_bitmap;
	uint32_t left = log.num_pages;

	if (log.first_page % 64)
		return -EINVAL;
	log.dirty_bitmap = NULL;
	do {
		uint32_t pages = left < most ? left : most, bytes = (pages + 63) / 64 * 8;
		struct request request = { .kind = CHANNEL_VM, .nr = KVM_CLEAR_DIRTY_LOG, .size = sizeof(log) + bytes };
		int64_t ret;

		log.num_pages = pages;
		memcpy(vm->shadow->buf, &log, sizeof(log));
		if (user_read(vm->shadow->buf + sizeof(log), bitmap, bytes))
			return -EFAULT;
		ret = shadow_request_locked(vm->shadow, &request);
		if (ret < 0)
			return ret;
		log.first_page += pages;
		bitmap += bytes;
		left -= pages;
	} while (left);
	return 0;
}

static int64_t vm_dirty(struct vm *vm, uint32_t nr, uint64_t arg)
{
	struct kvm_clear_dirty_log clear;
	struct kvm_dirty_log get;
	int64_t ret;

	if (nr == KVM_GET_DIRTY_LOG ? user_read(&get, arg, sizeof(get)) : user_read(&clear, arg, sizeof(clear)))
		return -EFAULT;
	pthread_mutex_lock(&vm->shadow->lock);
	ret = nr == KVM_GET_DIRTY_LOG ? get_dirty_locked(vm, &get) : clear_dirty_locked(vm, clear);
	pthread_mutex_unlock(&vm->shadow->lock);
	return ret;
}

/* ---- interrupt routes ---- */

#define ROUTES_MAX 4096 /* KVM's limit */

static int64_t routes_locked(struct vm *vm, const struct kvm_irq_routing *routing, uint64_t entries)
{
	const uint32_t most = (CHANNEL_PAYLOAD_MAX - sizeof(*routing)) / sizeof(routing->entries[0]);
	uint32_t at = 0;

	do {
		uint32_t count = routing->nr - at < most ? routing->nr - at : most;
		uint32_t bytes = count * sizeof(routing->entries[0]);
		struct request request = {
			.kind = CHANNEL_VM, .nr = KVM_SET_GSI_ROUTING, .arg = at, .size = sizeof(*routing) + bytes
		};
		int64_t ret;

		memcpy(vm->shadow->buf, routing, sizeof(*routing));
		ret = user_read(vm->shadow->buf + sizeof(*routing),
				entries + (uint64_t)at * sizeof(routing->entries[0]), bytes);
		if (!ret)
			ret = shadow_request_locked(vm->shadow, &request);
		if (ret < 0)
			return ret;
		at += count;
	} while (at < routing->nr);
	return 0;
}

static int64_t vm_routes(struct vm *vm, uint64_t arg)
{
	struct kvm_irq_routing routing;
	int64_t ret;

	if (user_read(&routing, arg, sizeof(routing)))
		return -EFAULT;
	if (routing.nr > ROUTES_MAX || routing.flags)
		return -EINVAL;
	pthread_mutex_lock(&vm->shadow->lock);
	ret = routes_locked(vm, &routing, arg + sizeof(routing));
	pthread_mutex_unlock(&vm->shadow->lock);
	return ret;
}

/* ---- eventfds ---- */

/* The id by which the kernel knows an eventfd, the same for all descriptors of it. */
static int eventfd_id(int fd, uint32_t *id)
{
	char name[32], text[512], *found;
	ssize_t n;
	int info;

	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	info = proc_open(name, O_RDONLY);
	if (info < 0)
		return -errno;
	n = read(info, text, sizeof(text) - 1);
	real_close(info);
	if (n < 0)
		return -EINVAL;
	text[n] = 0;
	found = strstr(text, "eventfd-id:");
	if (!found)
		return -EINVAL; /* KVM's errno for what is no eventfd */
	*id = strtoul(found + strlen("eventfd-id:"), NULL, 10);
	return 0;
}

static int64_t vm_eventfd(struct vm *vm, uint32_t nr, uint64_t arg)
{
	union {
		struct kvm_irqfd irq;
		struct kvm_ioeventfd io;
	} u;
	struct request request = { .kind = CHANNEL_VM, .nr = nr };
	uint32_t resample_id;
	bool deassign, resample;
	int64_t ret;
	int fd;

	request.size = nr == KVM_IRQFD ? sizeof(u.irq) : sizeof(u.io);
	if (user_read(&u, arg, request.size))
		return -EFAULT;
	deassign = nr == KVM_IRQFD ? u.irq.flags & KVM_IRQFD_FLAG_DEASSIGN : u.io.flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	resample = nr == KVM_IRQFD && (u.irq.flags & KVM_IRQFD_FLAG_RESAMPLE) && !deassign;
	fd = nr == KVM_IRQFD ? (int)u.irq.fd : u.io.fd;
	ret = eventfd_id(fd, &request.cookie);
	if (!ret && resample)
		ret = eventfd_id(u.irq.resamplefd, &resample_id);
	if (ret)
		return ret;
	if (!deassign)
		request.fds[request.nfds++] = fd;
	if (resample)
		request.fds[request.nfds++] = u.irq.resamplefd;
	pthread_mutex_lock(&vm->shadow->lock);
	memcpy(vm->shadow->buf, &u, request.size);
	ret = shadow_request_locked(vm->shadow, &request);
	pthread_mutex_unlock(&vm->shadow->lock);
	return ret;
}

/* ---- dispatch ---- */

static int64_t vm_ioctl(struct vm *vm, uint32_t nr, uint64_t arg)
{
	int64_t ret;
	int fd;

	switch (nr) {
	case KVM_CHECK_EXTENSION:
		if (answer_here(vm->shadow, nr, arg, &ret))
			return ret;
		return forward(vm->shadow, CHANNEL_VM, nr, arg, vm->xsave_size);
	case KVM_SET_USER_MEMORY_REGION:
		return vm_set_memory(vm, arg);
	case KVM_CREATE_VCPU:
		if (arg > UINT32_MAX)
			return -EINVAL;
		ret = vcpu_create(vm, arg, &fd);
		return ret ? ret : fd;
	case KVM_GET_DIRTY_LOG:
	case KVM_CLEAR_DIRTY_LOG:
		return vm_dirty(vm, nr, arg);
	case KVM_SET_GSI_ROUTING:
		return vm_routes(vm, arg);
	case KVM_IRQFD:
	case KVM_IOEVENTFD:
		return vm_eventfd(vm, nr, arg);
	case KVM_IRQ_LINE:
	case KVM_IRQ_LINE_STATUS:
	case KVM_SIGNAL_MSI:
		if (vcpu_vm_call(vm, nr, arg, &ret) || irq_bell_call(vm, nr, arg, &ret))
			return ret;
		return forward(vm->shadow, CHANNEL_VM, nr, arg, vm->xsave_size);
	default:
		return forward(vm->shadow, CHANNEL_VM, nr, arg, vm->xsave_size);
	}
}

int64_t glue_ioctl(struct file *file, uint32_t nr, uint64_t arg)
{
	switch (atomic_load(&file->kind)) {
	case FILE_KVM:
		return kvm_ioctl(file->object, nr, arg);
	case FILE_VM:
		return vm_ioctl(file->object, nr, arg);
	case FILE_VCPU:
		return vcpu_ioctl(file->object, nr, arg);
	default:
		return -EBADF;
	}
}

void file_release(enum file_kind kind, void *object)
{
	struct kvm *kvm = object;
	struct vcpu *vcpu = object;
	struct vm *vm;

	switch (kind) {
	case FILE_KVM:
		shadow_put(kvm->shadow);
		pthread_mutex_destroy(&kvm->lock);
		free(kvm);
		break;
	case FILE_VM:
		vm_put(object);
		break;
	case FILE_VCPU:
		vm = vcpu->vm;
		vcpu_destroy(vcpu);
		vm_put(vm);
		break;
	default:
		break;
	}
}
