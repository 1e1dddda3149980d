/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIGSET_BYTES 8 /* of the kernel's sigset_t */

/* The descriptor of the vCPU that this thread ran last; -1: none. By then it may be another file's. */
static __thread int last_run __attribute__((tls_model("initial-exec"))) = -1;

static uint8_t *run_byte(const struct vcpu *vcpu, int byte)
{
	return (uint8_t *)vcpu->area + byte;
}

/* In two places: the word is what makes a FUTEX_WAIT return, but the shadow, too, could write it. */
void vcpu_note(struct vcpu *vcpu, bool noted)
{
	vcpu->noted = noted;
	__atomic_store_n(run_byte(vcpu, CHANNEL_NOTE_BYTE), noted, __ATOMIC_SEQ_CST);
}

static struct wait wait_of(struct vcpu *vcpu)
{
	return (struct wait) { .word = (uint32_t *)vcpu->area,
			       .mask = 0xffu << (8 * CHANNEL_BELL_BYTE),
			       .sleeps = &vcpu->channel->vmm_sleeps,
			       .adapt = &vcpu->adapt,
			       .shadow = vcpu->vm->shadow };
}

/* ---- doorbell ---- */

static void ring(struct vcpu *vcpu, uint8_t bell)
{
	__atomic_store_n(run_byte(vcpu, CHANNEL_BELL_BYTE), bell, __ATOMIC_SEQ_CST);
	/* The order of this load after that store is what the shadow's own store, then load, relies on. */
	if (__atomic_load_n(&vcpu->channel->shadow_sleeps, __ATOMIC_SEQ_CST))
		real_futex((uint32_t *)vcpu->area, FUTEX_WAKE, 1, NULL);
}

void vcpu_stop(struct vcpu *vcpu)
{
	uint64_t one = 1;
	ssize_t n;

	__atomic_store_n(&vcpu->channel->stop, 1, __ATOMIC_SEQ_CST);
	/* Full (EAGAIN) means that it is readable, which is all that is needed. */
	n = write(vcpu->kick_fd, &one, sizeof(one));
	(void)n;
}

/* As wait_sleep(), woken by the done eventfd, so that the signals in signal_fd can be waited for as well. */
static int wait_poll_fds(struct wait *wait)
{
	struct vcpu *vcpu = wait->run;
	struct pollfd fds[3] = { { .fd = vcpu->done_fd, .events = POLLIN },
				 { .fd = vcpu->vm->shadow->socket },
				 { .fd = vcpu->signal_fd, .events = POLLIN } };
	uint64_t count;
	uint32_t word;
	int ret = 0;

	__atomic_store_n(wait->sleeps, 2, __ATOMIC_SEQ_CST);
	while (wait_goes_on(wait, &word)) {
		int n;

		fds[0].revents = fds[1].revents = fds[2].revents = 0;
		n = poll(fds, wait->stopped ? 2 : 3, WAIT_LOOK_MS);
		if (n < 0 && errno == EINTR && !wait->stopped)
			wait_stop(wait);
		if (n > 0 && (fds[0].revents & POLLIN) && read(vcpu->done_fd, &count, sizeof(count)) < 0 &&
		    errno != EAGAIN)
			fds[0].fd = -1;
		if (n > 0 && (fds[2].revents & POLLIN) && !wait->stopped)
			wait_stop(wait);
		if (n == 0 || (n > 0 && fds[1].revents)) {
			ret = wait_look(wait);
			if (ret)
				break;
		}
	}
	__atomic_store_n(wait->sleeps, 0, __ATOMIC_SEQ_CST);
	return ret;
}

/* ---- death ---- */

static int set_dead(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->channel->dead, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(run_byte(vcpu, CHANNEL_BELL_BYTE), CHANNEL_IDLE, __ATOMIC_SEQ_CST);
	return -EIO;
}

/* Once KVM_EXIT_INTERNAL_ERROR, so that the VMM stops the guest in its own orderly way; after that EIO. */
static int64_t run_dead(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	set_dead(vcpu);
	if (vcpu->told_dead)
		return -EIO;
	vcpu->told_dead = true;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON;
	run->internal.ndata = 2;
	run->internal.data[0] = vcpu->vm->shadow->wait_status;
	run->internal.data[1] = vcpu->id;
	return 0;
}

/* ---- KVM_RUN ---- */

static int64_t run_answer(struct vcpu *vcpu)
{
	int64_t ret = __atomic_load_n(&vcpu->channel->ret, __ATOMIC_SEQ_CST);

	vcpu->rung = false;
	atomic_signal_fence(memory_order_seq_cst);
	if (vcpu->finished)
		return vcpu->finished_ret;
	if (ret < -4095 || ret > 0 || !exit_take(vcpu) || !ring_sync(vcpu->vm)) {
		shadow_is_broken(vcpu->vm->shadow, "it sent a malformed exit");
		return run_dead(vcpu);
	}
	return ret;
}

static int64_t run_ring(struct vcpu *vcpu, bool with_fds)
{
	struct wait wait = wait_of(vcpu);
	int ret;

	vcpu->channel->stop = 0;
	ring_sync(vcpu->vm); /* nonsense in it is found when this run ends */
	wait.run = vcpu;
	wait.ignored = exit_hand_in(vcpu);
	vcpu->finished = false;
	vcpu->rung = true;
	ring(vcpu, CHANNEL_RUN);
	ret = with_fds ? wait_poll_fds(&wait) : wait_answer(&wait);
	if (ret) {
		vcpu->rung = false;
		return run_dead(vcpu);
	}
	return run_answer(vcpu);
}

/*
 * With KVM_SET_SIGNAL_MASK: a signal that it unblocks ends the run; if the thread has it blocked, it stays pending. A
 * signal that it blocks, and the thread does not, waits until the run is over.
 */
static int64_t run_masked(struct vcpu *vcpu)
{
	uint64_t own, during, watched;
	int64_t ret;
	int fd;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &own, SIGSET_BYTES);
	during = own | vcpu->sigmask;
	watched = own & ~vcpu->sigmask;
	fd = syscall(SYS_signalfd4, vcpu->signal_fd, &watched, SIGSET_BYTES, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (vcpu->signal_fd < 0)
		vcpu->signal_fd = private_fd(fd);
	if (during != own)
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &during, NULL, SIGSET_BYTES);
	ret = run_ring(vcpu, true);
	if (during != own)
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &own, NULL, SIGSET_BYTES);
	return ret;
}

/*
 * A handler that runs during KVM_RUN may itself call into the vCPU; with KVM the run would be over by then. So end it,
 * and keep its result for the frame below. (The same state is found after a longjmp out of the handler.)
 */
static void finish_run_below(struct vcpu *vcpu)
{
	struct wait wait = wait_of(vcpu);

	if (!vcpu->rung || vcpu->finished)
		return;
	wait.run = vcpu;
	if (!wait_is_over(&wait, wait_word(&wait))) {
		wait_stop(&wait);
		if (wait_sleep(&wait)) {
			vcpu->finished_ret = run_dead(vcpu);
			vcpu->finished = true;
			return;
		}
	}
	vcpu->finished_ret = run_answer(vcpu);
	vcpu->finished = true;
}

/* 0: locked; 1: this thread has it from the KVM_RUN below; or -EBUSY. */
static int vcpu_enter(struct vcpu *vcpu)
{
	if (signal_vcpu == vcpu) {
		finish_run_below(vcpu);
		return 1;
	}
	return pthread_mutex_lock(&vcpu->lock) ? -EBUSY : 0;
}

static int64_t vcpu_run(struct vcpu *vcpu)
{
	struct vcpu *below = signal_vcpu;
	int nested = vcpu_enter(vcpu);
	int64_t ret;

	if (nested < 0)
		return nested;
	if (atomic_load(&vcpu->vm->shadow->dead)) {
		ret = run_dead(vcpu);
	} else {
		last_run = vcpu->fd;
		vcpu_note(vcpu, 0);
		signal_vcpu = vcpu; /* from here on a handler leaves its mark */
		atomic_signal_fence(memory_order_seq_cst);
		ret = vcpu->has_sigmask ? run_masked(vcpu) : run_ring(vcpu, false);
		atomic_signal_fence(memory_order_seq_cst);
		signal_vcpu = below;
		vcpu_note(vcpu, nested);
	}
	if (nested) {
		vcpu->finished_ret = -EINTR;
		vcpu->finished = true;
	} else {
		pthread_mutex_unlock(&vcpu->lock);
	}
	return ret;
}

/* ---- other calls ---- */

static int64_t call_locked(struct vcpu *vcpu, uint8_t bell, uint32_t nr, uint64_t arg)
{
	struct channel_vcpu *channel = vcpu->channel;
	struct wait wait = wait_of(vcpu);
	struct payload p;
	int put;
	uint32_t size;
	int64_t ret;

	if (atomic_load(&vcpu->vm->shadow->dead))
		return set_dead(vcpu);
	ret = payload_gather(nr, arg, vcpu->vm->xsave_size, vcpu->payload, &p);
	if (ret)
		return ret;
	channel->nr = nr;
	channel->arg = p.number ? arg : 0;
	channel->size = p.in_size;
	clock_gettime(CLOCK_MONOTONIC, &wait.since);
	ring(vcpu, bell);
	if (wait_answer(&wait))
		return set_dead(vcpu);
	size = __atomic_load_n(&channel->size, __ATOMIC_SEQ_CST);
	ret = __atomic_load_n(&channel->ret, __ATOMIC_SEQ_CST);
	put = ret < -4095 ? -EPROTO : payload_put(nr, &p, vcpu->payload, p.out_max ? size : 0, ret);
	if (put == -EPROTO) {
		shadow_is_broken(vcpu->vm->shadow, "a vCPU sent a malformed reply");
		return set_dead(vcpu);
	}
	return put ? put : ret;
}

int vcpu_set_signal_mask(struct vcpu *vcpu, uint64_t arg)
{
	struct kvm_signal_mask head;
	uint64_t mask;

	if (!arg) {
		vcpu->has_sigmask = false;
		return 0;
	}
	if (user_read(&head, arg, sizeof(head)))
		return -EFAULT;
	if (head.len != SIGSET_BYTES)
		return -EINVAL;
	if (user_read(&mask, arg + sizeof(head), sizeof(mask)))
		return -EFAULT;
	vcpu->sigmask = mask & ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1));
	vcpu->has_sigmask = true;
	return 0;
}

int64_t vcpu_ioctl(struct vcpu *vcpu, uint32_t nr, uint64_t arg)
{
	int64_t ret;
	int nested;

	/* Only in a child made by fork(), which has neither the area nor the locks' owners: KVM, too, says EIO there. */
	if (atomic_load(&vcpu->vm->shadow->closed))
		return -EIO;
	if (nr == KVM_RUN)
		return arg ? -EINVAL : vcpu_run(vcpu);
	nested = vcpu_enter(vcpu);
	if (nested < 0)
		return nested;
	ret = nr == KVM_SET_SIGNAL_MASK ? vcpu_set_signal_mask(vcpu, arg) : call_locked(vcpu, CHANNEL_CALL, nr, arg);
	if (!nested)
		pthread_mutex_unlock(&vcpu->lock);
	return ret;
}

/*
 * A device's interrupt while its registers are accessed: this thread's vCPU waits for its next KVM_RUN, and its shadow thread still
 * polls the doorbell, so it can do that call without a wake-up. False: it is not at hand, the socket has to do.
 */
bool vcpu_vm_call(struct vm *vm, uint32_t nr, uint64_t arg, int64_t *ret)
{
	struct file *file = file_get(last_run);
	struct vcpu *vcpu = file ? file->object : NULL;
	bool done = false;

	if (!file)
		return false;
	/* In a signal handler the lock is this thread's own, or the run below has it. */
	if (atomic_load(&file->kind) == FILE_VCPU && vcpu->vm == vm && signal_vcpu != vcpu &&
	    !atomic_load(&vm->shadow->closed) && !pthread_mutex_trylock(&vcpu->lock)) {
		*ret = call_locked(vcpu, CHANNEL_VM_CALL, nr, arg);
		pthread_mutex_unlock(&vcpu->lock);
		done = true;
	}
	file_put(file);
	return done;
}

/* ---- life ---- */

/* A memfd that neither side can take pages away from under the other, and our mapping of it. */
static void *create_pages(const char *name, size_t size, int *fd)
{
	void *pages;

	*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0 || ftruncate(*fd, size) || fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return NULL;
	pages = real_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (pages == MAP_FAILED)
		return NULL;
	real_madvise(pages, size, MADV_DONTFORK);
	return pages;
}

static int create_area(struct vcpu *vcpu)
{
	uint8_t *area;

	vcpu->run = create_pages("umbra-run", CHANNEL_VCPU_OFFSET, &vcpu->fd);
	if (!vcpu->run)
		return -errno;
	area = create_pages("umbra-vcpu", CHANNEL_VCPU_SIZE, &vcpu->area_fd);
	if (!area)
		return -errno;
	vcpu->area = (struct kvm_run *)area;
	vcpu->channel = (struct channel_vcpu *)(area + CHANNEL_VCPU_OFFSET);
	vcpu->payload = area + CHANNEL_PAYLOAD_OFFSET;
	vcpu->kick_fd = private_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	vcpu->done_fd = private_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (vcpu->kick_fd < 0 || vcpu->done_fd < 0)
		return -errno;
	return vcpu->fd < FILE_TABLE_SIZE ? 0 : -EMFILE;
}

/* All but the VMM's descriptor. */
void vcpu_destroy(struct vcpu *vcpu)
{
	/* In a child made by fork() they are not mapped. */
	if (vcpu->run && !atomic_load(&vcpu->vm->shadow->closed))
		real_munmap(vcpu->run, CHANNEL_VCPU_OFFSET);
	if (vcpu->area && !atomic_load(&vcpu->vm->shadow->closed))
		real_munmap(vcpu->area, CHANNEL_VCPU_SIZE);
	if (vcpu->area_fd >= 0)
		real_close(vcpu->area_fd);
	private_close(vcpu->kick_fd);
	private_close(vcpu->done_fd);
	private_close(vcpu->signal_fd);
	pthread_mutex_destroy(&vcpu->lock);
	free(vcpu);
}

static struct vcpu *vcpu_new(struct vm *vm, uint32_t id)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
	pthread_mutexattr_t attr;

	if (!vcpu)
		return NULL;
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = vcpu->area_fd = vcpu->kick_fd = vcpu->done_fd = vcpu->signal_fd = -1;
	wait_init(&vcpu->adapt);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&vcpu->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	return vcpu;
}

/* The ring first: once the shadow has its part of it, nothing may fail. Under the lock, since the shadow, too, takes the first one's. */
static int64_t create_in_shadow_locked(struct vm *vm, struct vcpu *vcpu)
{
	struct request request = { .kind = CHANNEL_VCPU,
				   .nr = KVM_CREATE_VCPU,
				   .arg = vcpu->id,
				   .fds = { vcpu->area_fd, vcpu->kick_fd, vcpu->done_fd },
				   .nfds = 3 };
	bool first = vm->ring.fd < 0;
	int64_t ret = first ? ring_open(vm, vcpu) : 0;

	if (ret)
		return ret;
	ret = shadow_request_locked(vm->shadow, &request);
	if (ret < 0 && first)
		ring_close(vm, true);
	else if (first)
		irq_bell_open(vm, vcpu); /* without it interrupts go by the socket */
	return ret;
}

/* All that this side can fail in comes before the shadow's part: a vCPU that only one side has could not be made again. */
int vcpu_create(struct vm *vm, uint32_t id, int *fd)
{
	struct vcpu *vcpu = vcpu_new(vm, id);
	struct file *file;
	int64_t ret;

	if (!vcpu)
		return -ENOMEM;
	ret = create_area(vcpu);
	*fd = vcpu->fd;
	file = ret ? NULL : file_new(FILE_VCPU, vcpu);
	if (!file) {
		vcpu_destroy(vcpu);
		if (*fd >= 0)
			real_close(*fd);
		return ret ? ret : -ENOMEM;
	}
	atomic_fetch_add(&vm->refs, 1);
	pthread_mutex_lock(&vm->shadow->lock);
	ret = create_in_shadow_locked(vm, vcpu);
	pthread_mutex_unlock(&vm->shadow->lock);
	if (ret < 0) {
		file_put(file);
		real_close(*fd);
		return ret;
	}
	real_close(vcpu->area_fd);
	vcpu->area_fd = -1;
	signals_watch();
	return file_install(*fd, file);
}

static int map_ring(const struct vm *vm, uint8_t *addr, size_t len, int prot, int flags, uint64_t offset)
{
	void *ring;

	if (vm->ring.fd < 0 || offset > CHANNEL_RING_OFFSET || offset + len <= CHANNEL_RING_OFFSET)
		return 0;
	ring = real_mmap(addr + (CHANNEL_RING_OFFSET - offset), GLUE_PAGE, prot, (flags & MAP_TYPE) | MAP_FIXED,
			 vm->ring.fd, CHANNEL_RING_OFFSET);
	return ring == MAP_FAILED ? -errno : 0;
}

int vcpu_map_ring(int fd, uint8_t *addr, size_t len, int prot, int flags, uint64_t offset)
{
	struct file *file;
	int ret = 0;

	if (__builtin_expect(!file_is_ours(fd), 1))
		return 0;
	file = file_get(fd);
	if (!file)
		return 0;
	if (atomic_load(&file->kind) == FILE_VCPU)
		ret = map_ring(((struct vcpu *)file->object)->vm, addr, len, prot, flags, offset);
	file_put(file);
	return ret;
}
