// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "core.h"
#include "routing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "irq_bell.h"
#include "lock.h"
#include "sandbox.h"
#include "sys.h"
#include "vcpu.h"

/*
 * The event thread: eventfds of the VMM become interrupts (irqfd), requests to stop KVM_RUN or calls of the interrupt bell (kick). The
 * control thread changes the set; an irqfd that is taken out raises nothing any more once that call is back. The threads of halted
 * vCPUs take events out of the same set (halt_poll.c); each event is for one of them all.
 * The time it sleeps at most is the PIT's: no timer needs a thread or a descriptor of its own.
 */

#define IRQFDS_MAX 4096 /* as many as there can be routes */
#define EVENTS 16
#define EVENTS_POLLED 4
#define TAG_IRQFD (1ull << 63)
#define TAG_WAKE (1ull << 62)
#define NS_PER_SEC 1000000000

struct irqfd {
	int fd; /* -1: free */
	uint32_t gsi;
	uint32_t cookie;     /* which eventfd it is, for the VMM as a whole */
	uint32_t generation; /* an event for a former user of this place is not taken for this one */
	bool drain;
	int resample_fd; /* -1: the interrupt is an edge; else a level, and this tells the VMM of its end */
};

struct eventfds {
	struct lock lock; /* protects irqfd[], irqfds */
	int epoll;
	int wake_fd; /* eventfd: the PIT's time has changed */
	pthread_t thread;
	uint32_t irqfds; /* places ever used */
	struct irqfd irqfd[IRQFDS_MAX];
	struct vcpu *kick[VM_MAX_VCPUS]; /* set before the descriptor is in the set */
	uint32_t kicks;
};

static uint64_t irqfd_tag(const struct eventfds *events, const struct irqfd *irqfd)
{
	return TAG_IRQFD | (uint64_t)(irqfd->generation & 0x7fffffff) << 32 | (uint64_t)(irqfd - events->irqfd);
}

/* ---- the thread ---- */

/* The set watches for edges: one that blocks, and is left as it is, does not make the thread spin. */
static void drain(int fd)
{
	uint64_t count;
	ssize_t got = read(fd, &count, sizeof(count));

	(void)got;
}

static void irqfd_raise(struct vm *vm, const struct irqfd *irqfd)
{
	FAULT_POINT(irqfd_raise, vm, NULL, irqfd->gsi);
	if (irqfd->resample_fd >= 0) {
		irqchip_resample_raise(vm, irqfd->gsi);
		return;
	}
	routing_set_irq(vm, irqfd->gsi, 1);
	if (vm->irqchip) /* a pin's edge has two sides */
		routing_set_irq(vm, irqfd->gsi, 0);
}

static void irqfd_event(struct vm *vm, uint64_t tag, bool may_read)
{
	struct eventfds *events = vm->eventfds;
	struct irqfd *irqfd = &events->irqfd[(uint32_t)tag % IRQFDS_MAX];

	/* Held across the interrupt, so that a deassign cannot come in between. */
	lock_take(&events->lock);
	if (irqfd->fd >= 0 && irqfd_tag(events, irqfd) == tag) {
		if (may_read && irqfd->drain)
			drain(irqfd->fd);
		irqfd_raise(vm, irqfd);
		atomic_fetch_add_explicit(&vm->irqfd_interrupts, 1, memory_order_relaxed);
	}
	lock_drop(&events->lock);
}

static void kick_event(struct vm *vm, uint64_t tag, bool may_read)
{
	struct eventfds *events = vm->eventfds;
	struct vcpu *vcpu;

	if (tag >= VM_MAX_VCPUS)
		return;
	vcpu = __atomic_load_n(&events->kick[tag], __ATOMIC_ACQUIRE);
	/* Drained first: a kick after this look at stop and the bell is an edge again. */
	if (may_read)
		drain(vcpu->kick_fd);
	if (__atomic_load_n(&vcpu->channel->stop, __ATOMIC_SEQ_CST))
		vcpu_notify(vcpu, VCPU_REQ_STOP);
	irq_bell_serve(vm);
}

static void event_take(struct vm *vm, uint64_t tag, bool may_read)
{
	if (tag & TAG_IRQFD)
		irqfd_event(vm, tag, may_read);
	else if (!(tag & TAG_WAKE))
		kick_event(vm, tag, may_read);
	else if (may_read)
		drain(vm->eventfds->wake_fd);
}

/*
 * A vCPU thread may not read. What it takes stays readable, which nobody minds: the set watches for edges. The event thread's own wake-up
 * is not taken from it.
 */
void eventfds_poll(struct vm *vm)
{
	static const struct sys_timespec at_once = { 0, 0 };
	struct epoll_event event[EVENTS_POLLED];
	long n = sys_call5(__NR_epoll_pwait2, vm->eventfds->epoll, (long)event, EVENTS_POLLED, (long)&at_once, 0);

	for (long i = 0; i < n; i++)
		event_take(vm, event[i].data.u64, false);
}

void eventfds_wake(struct vm *vm)
{
	static const uint64_t one = 1;

	sys_write(vm->eventfds->wake_fd, &one, sizeof(one));
}

static int events_wait(struct vm *vm, struct epoll_event *event)
{
	int64_t ns = irqchip_timer(vm);
	struct timespec timeout = { .tv_sec = ns / NS_PER_SEC, .tv_nsec = ns % NS_PER_SEC };

	return epoll_pwait2(vm->eventfds->epoll, event, EVENTS, ns < 0 ? NULL : &timeout, NULL);
}

static void *event_thread(void *opaque)
{
	struct vm *vm = opaque;
	struct epoll_event event[EVENTS];

	sandbox_thread(SANDBOX_EVENT);
	for (;;) {
		int n = events_wait(vm, event);

		if (n < 0 && errno != EINTR)
			sandbox_die("event thread: epoll_pwait2 failed");
		for (int i = 0; i < n; i++)
			event_take(vm, event[i].data.u64, true);
	}
	return NULL;
}

/* What a shadow cannot make any more once its filter is on: with many sets it could use up what all processes of its user may watch. */
static int ready_epoll = -1, ready_wake = -1;

static int set_make(int *epoll, int *wake)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = TAG_WAKE };

	*epoll = epoll_create1(EPOLL_CLOEXEC);
	*wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *epoll < 0 || *wake < 0 || epoll_ctl(*epoll, EPOLL_CTL_ADD, *wake, &event) ? -errno : 0;
}

int shadow_prepare(void)
{
	return set_make(&ready_epoll, &ready_wake);
}

static int events_open(struct eventfds *events)
{
	if (ready_epoll < 0) /* tests */
		return set_make(&events->epoll, &events->wake_fd);
	events->epoll = ready_epoll;
	events->wake_fd = ready_wake;
	return 0;
}

static void events_free(struct eventfds *events)
{
	if (events->epoll >= 0 && events->epoll != ready_epoll)
		close(events->epoll);
	if (events->wake_fd >= 0 && events->wake_fd != ready_wake)
		close(events->wake_fd);
	free(events);
}

int eventfds_start(struct vm *vm)
{
	struct eventfds *events = calloc(1, sizeof(*events));
	int ret;

	if (!events)
		return -ENOMEM;
	ret = events_open(events);
	if (ret) {
		events_free(events);
		return ret;
	}
	vm->eventfds = events;
	ret = pthread_create(&events->thread, NULL, event_thread, vm);
	if (ret) {
		vm->eventfds = NULL;
		events_free(events);
	}
	return -ret;
}

/* ---- the control thread's side ---- */

/*
 * 0: an eventfd; else -EINVAL as on KVM, or -EBADF. A socket that is kept could be the VMM's own end of the control socket, and then
 * the VMM's death would not be seen; a file's write can wait for ever. Of what lies on the anonymous inode (no file type) an
 * eventfd takes eight bytes, and adds their value: none here. Epoll sets, timers, rings and the like take no bytes at all.
 */
int eventfds_check(int fd)
{
	static const uint64_t nothing = 0;
	struct stat st;
	int ret = (int)sys_fstat(fd, &st);

	if (ret < 0)
		return ret;
	if (st.st_mode & S_IFMT)
		return -EINVAL;
	return sys_write(fd, &nothing, sizeof(nothing)) == sizeof(nothing) ? 0 : -EINVAL;
}

int eventfds_add_vcpu(struct vcpu *vcpu)
{
	struct eventfds *events = vcpu->vm->eventfds;
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = events->kicks };
	int ret = eventfds_check(vcpu->kick_fd);

	if (!ret)
		ret = eventfds_check(vcpu->done_fd);
	if (ret)
		return ret;
	if (events->kicks >= VM_MAX_VCPUS)
		return -ENOSPC;
	/* The event thread must never wait in read(). Not set here: who may set it can take it away, and the VMM would wait in write(). */
	if (!(fcntl(vcpu->kick_fd, F_GETFL) & O_NONBLOCK))
		return -EINVAL;
	__atomic_store_n(&events->kick[events->kicks], vcpu, __ATOMIC_RELEASE);
	if (epoll_ctl(events->epoll, EPOLL_CTL_ADD, vcpu->kick_fd, &event))
		return -errno;
	events->kicks++;
	return 0;
}

static struct irqfd *irqfd_place(struct eventfds *events)
{
	for (uint32_t i = 0; i < events->irqfds; i++)
		if (events->irqfd[i].fd < 0)
			return &events->irqfd[i];
	return events->irqfds < IRQFDS_MAX ? &events->irqfd[events->irqfds] : NULL;
}

static int irqfd_watch(struct eventfds *events, struct irqfd *irqfd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = irqfd_tag(events, irqfd) };

	return epoll_ctl(events->epoll, EPOLL_CTL_ADD, irqfd->fd, &event) ? -errno : 0;
}

static int irqfd_assign(struct vm *vm, const struct kvm_irqfd *args, uint32_t cookie, int *fd, int *resample_fd)
{
	struct eventfds *events = vm->eventfds;
	bool resample = args->flags & KVM_IRQFD_FLAG_RESAMPLE;
	struct irqfd *irqfd;
	int flags, ret = eventfds_check(*fd);

	if (!ret && resample)
		ret = eventfds_check(*resample_fd);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < events->irqfds; i++)
		if (events->irqfd[i].fd >= 0 && events->irqfd[i].cookie == cookie)
			return -EBUSY; /* one eventfd raises one interrupt */
	irqfd = irqfd_place(events);
	if (!irqfd)
		return -ENOSPC;
	flags = fcntl(*fd, F_GETFL);
	if (flags < 0)
		return -errno;
	/* Before the first event can come. */
	if (resample)
		ret = irqchip_resample_add(vm, args->gsi, cookie, *resample_fd);
	if (ret)
		return ret;
	/* The VMM's descriptor stays as it is. One that blocks is not read: the VMM could be quicker. */
	irqfd->drain = flags & O_NONBLOCK;
	irqfd->gsi = args->gsi;
	irqfd->cookie = cookie;
	irqfd->resample_fd = resample ? *resample_fd : -1;
	irqfd->generation++;
	irqfd->fd = *fd;
	if (irqfd == &events->irqfd[events->irqfds])
		events->irqfds++;
	ret = irqfd_watch(events, irqfd);
	if (ret) {
		irqfd->fd = -1;
		if (resample)
			irqchip_resample_remove(vm, args->gsi, cookie);
		return ret;
	}
	*fd = -1;
	if (resample)
		*resample_fd = -1;
	return 0;
}

/* As on KVM, one that is not there is no error. */
static int irqfd_deassign(struct vm *vm, const struct kvm_irqfd *args, uint32_t cookie)
{
	struct eventfds *events = vm->eventfds;

	for (uint32_t i = 0; i < events->irqfds; i++) {
		struct irqfd *irqfd = &events->irqfd[i];

		if (irqfd->fd < 0 || irqfd->cookie != cookie || irqfd->gsi != args->gsi)
			continue;
		/* The VMM holds the same file: closing our number alone would leave it in the set. */
		epoll_ctl(events->epoll, EPOLL_CTL_DEL, irqfd->fd, NULL);
		if (irqfd->drain) /* nothing of ours is left for who waits for it next */
			drain(irqfd->fd);
		close(irqfd->fd);
		irqfd->fd = -1;
		if (irqfd->resample_fd < 0)
			continue;
		/* Then no vCPU thread writes to it any more. */
		irqchip_resample_remove(vm, args->gsi, cookie);
		close(irqfd->resample_fd);
		irqfd->resample_fd = -1;
	}
	return 0;
}

int eventfds_irqfd(struct vm *vm, const struct kvm_irqfd *irqfd, uint32_t cookie, int *fd, int *resample_fd)
{
	struct eventfds *events = vm->eventfds;
	int ret;

	FAULT_POINT(irqfd, vm, NULL, irqfd->gsi);
	if (irqfd->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	if (!(irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN)) {
		/* Resampling needs an irqchip with level-triggered pins, as on KVM. */
		if (!vm_has_lapics(vm) || (irqfd->flags & KVM_IRQFD_FLAG_RESAMPLE && !vm->irqchip))
			return -EINVAL;
		if (*fd < 0 || (irqfd->flags & KVM_IRQFD_FLAG_RESAMPLE && *resample_fd < 0))
			return -EBADF;
	}
	lock_take(&events->lock);
	if (irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN)
		ret = irqfd_deassign(vm, irqfd, cookie);
	else
		ret = irqfd_assign(vm, irqfd, cookie, fd, resample_fd);
	lock_drop(&events->lock);
	return ret;
}
