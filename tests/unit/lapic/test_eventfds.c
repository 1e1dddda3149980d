// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "fakes.h"
#include "irq_bell.h"

/* irqfds, kicks and ioeventfds with real eventfds and the real event thread. */

static void setup(void)
{
	struct kvm_irq_routing_entry e[4] = { 0 };

	fake_machine(2);
	for (uint32_t i = 0; i < 4; i++) {
		e[i].gsi = i;
		e[i].type = KVM_IRQ_ROUTING_MSI;
		e[i].u.msi.address_lo = 0xfee00000;
		e[i].u.msi.data = 0x40 + i;
	}
	ck_assert_int_eq(routing_set(&vm, e, 4), 0);
	ck_assert_int_eq(eventfds_start(&vm), 0);
	fake_clear();
}

static void nap(long ms)
{
	nanosleep(&(struct timespec) { ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* Waits until so many notifications have reached vCPU 0. */
static bool calls_reach(unsigned int count)
{
	for (int i = 0; i < 2000 && atomic_load(&fake_calls[0]) < count; i++)
		nap(1);
	return atomic_load(&fake_calls[0]) >= count;
}

/* The event thread counts behind the call. */
static bool interrupts_reach(unsigned int count)
{
	for (int i = 0; i < 2000 && vm.irqfd_interrupts < count; i++)
		nap(1);
	return vm.irqfd_interrupts == count;
}

static int taken(void)
{
	int vector = lapic_pending(cpu);

	if (vector >= 0) {
		lapic_accept(cpu, vector);
		lapic_eoi(cpu);
	}
	return vector;
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	ck_assert_int_eq(write(fd, &one, 8), 8);
}

static int fd_copy(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* as one that came over a socket */

	ck_assert_int_ge(copy, 0);
	return copy;
}

static int irqfd(int fd, uint32_t gsi, uint32_t flags, uint32_t cookie)
{
	struct kvm_irqfd args = { .fd = 77, .gsi = gsi, .flags = flags };
	int copy = fd < 0 ? -1 : fd_copy(fd), resample = -1, ret;

	ret = eventfds_irqfd(&vm, &args, cookie, &copy, &resample);
	if (copy >= 0)
		close(copy); /* not kept */
	else if (fd >= 0)
		ck_assert_int_eq(ret, 0); /* kept only on success */
	return ret;
}

static int ioeventfd(int fd, uint64_t addr, uint32_t len, uint32_t flags, uint64_t match, uint32_t cookie)
{
	struct kvm_ioeventfd args = { .datamatch = match, .addr = addr, .len = len, .fd = 77, .flags = flags };
	int copy = fd < 0 ? -1 : fd_copy(fd), ret;

	ret = eventfds_ioeventfd(&vm, &args, cookie, &copy);
	if (copy >= 0)
		close(copy);
	else if (fd >= 0)
		ck_assert_int_eq(ret, 0);
	return ret;
}

START_TEST(irqfd_raises)
{
	int fd = eventfd(0, _i ? EFD_NONBLOCK : 0);
	uint64_t left;

	ck_assert_int_eq(irqfd(fd, 1, 0, 10), 0);
	for (unsigned int round = 1; round <= 50; round++) {
		signal_fd(fd);
		ck_assert(calls_reach(round));
		ck_assert_int_eq(taken(), 0x41);
		ck_assert_int_eq(taken(), -1);
	}
	if (_i) { /* consumed, as by KVM */
		nap(5);
		ck_assert(read(fd, &left, 8) < 0 && errno == EAGAIN);
	}
	ck_assert_int_eq(irqfd(fd, 2, KVM_IRQFD_FLAG_DEASSIGN, 10), 0); /* another gsi: nothing happens, as on KVM */
	signal_fd(fd);
	ck_assert(calls_reach(51));
	ck_assert_int_eq(taken(), 0x41);
	ck_assert_int_eq(irqfd(fd, 1, KVM_IRQFD_FLAG_DEASSIGN, 10), 0);
	signal_fd(fd);
	nap(30);
	ck_assert_uint_eq(fake_calls[0], 51);
	ck_assert_int_eq(irqfd(fd, 1, KVM_IRQFD_FLAG_DEASSIGN, 10), 0); /* twice is no error */
	/* Signalled before it is assigned: raised at once; in a place that was used before. */
	ck_assert_int_eq(irqfd(fd, 3, 0, 10), 0);
	ck_assert(calls_reach(52));
	ck_assert_int_eq(taken(), 0x43);
	ck_assert(interrupts_reach(52));
}
END_TEST

START_TEST(irqfd_refused)
{
	int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK), file = open("/proc/self/exe", O_RDONLY);

	ck_assert_int_eq(irqfd(fd, 1, 0, 10), 0);
	ck_assert_int_eq(irqfd(fd, 1, 0, 10), -EBUSY);
	ck_assert_int_eq(irqfd(fd, 2, 0, 10), -EBUSY);
	ck_assert_int_eq(irqfd(other, 1, 0, 11), 0); /* two eventfds, one gsi: fine */
	ck_assert_int_eq(irqfd(fd, 1, 4, 12), -EINVAL);
	ck_assert_int_eq(irqfd(fd, 1, KVM_IRQFD_FLAG_RESAMPLE, 12), -EINVAL);
	ck_assert_int_eq(irqfd(-1, 1, 0, 12), -EBADF);
	ck_assert_int_eq(irqfd(file, 1, 0, 12), -EINVAL);
	ck_assert_int_eq(irqfd(file, 1, 0, 12), -EINVAL); /* the place is free again */
	vm.split_irqchip = false;
	ck_assert_int_eq(irqfd(fd, 1, 0, 12), -EINVAL);
	vm.split_irqchip = true;
	ck_assert_int_eq(irqfd(fd, 900, 0, 12), 0); /* no route yet: ignored until there is one */
	ck_assert_int_eq(irqfd(fd, 0xffffffff, 0, 13), 0);
}
END_TEST

START_TEST(irqfd_limit)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	struct rlimit files;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	if (files.rlim_cur < 4200) {
		printf("SKIPPED, at most %llu open files here: the limit of irqfds\n",
		       (unsigned long long)files.rlim_cur);
		return;
	}
	for (uint32_t i = 0; i < 4096; i++)
		ck_assert_int_eq(irqfd(fd, 1, 0, i), 0);
	ck_assert_int_eq(irqfd(fd, 1, 0, 5000), -ENOSPC);
	ck_assert_int_eq(irqfd(fd, 1, KVM_IRQFD_FLAG_DEASSIGN, 500), 0);
	ck_assert_int_eq(irqfd(fd, 1, 0, 5000), 0);
}
END_TEST

/* Everything else that a VMM could hand in. */
static int other_side = -1; /* where its bytes would come out */

static int no_eventfd(int kind)
{
	struct io_uring_params params = { 0 };
	int pair[2];

	switch (kind) {
	case 0:
		return pipe2(pair, O_NONBLOCK) ? -1 : pair[0];
	case 1:
		if (pipe2(pair, O_NONBLOCK))
			return -1;
		other_side = pair[0];
		return pair[1];
	case 2: /* the VMM's end of the control socket could be one: kept here, its closing would not be seen */
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair))
			return -1;
		other_side = pair[0];
		return pair[1];
	case 3:
		return memfd_create("file", 0);
	case 4:
		return open("/dev/zero", O_RDWR);
	case 5:
		return open("/", O_RDONLY);
	case 6:
		return epoll_create1(0);
	case 7:
		return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	case 8:
		return signalfd(-1, &(sigset_t) { 0 }, SFD_NONBLOCK);
	case 9:
		return inotify_init1(IN_NONBLOCK);
	case 10:
		return (int)syscall(SYS_pidfd_open, getpid(), 0);
	case 11: /* can keep other files open */
		return (int)syscall(SYS_io_uring_setup, 4, &params);
	default:
		return open("/proc/self/exe", O_PATH);
	}
}

START_TEST(not_an_eventfd)
{
	int fd = no_eventfd(_i), good = eventfd(0, EFD_NONBLOCK), copy, resample;
	struct kvm_irqfd args = { .gsi = 1, .flags = KVM_IRQFD_FLAG_RESAMPLE };
	int left = 0;

	if (_i == 11 && fd < 0)
		return; /* a kernel without rings */
	ck_assert_int_ge(fd, 0);
	vm.irqchip = (void *)&args; /* the one that resamples is not reached */
	ck_assert_int_eq(irqfd(fd, 1, 0, 10), -EINVAL);
	copy = fd_copy(good), resample = fd_copy(fd);
	ck_assert_int_eq(eventfds_irqfd(&vm, &args, 11, &copy, &resample), -EINVAL);
	ck_assert(copy >= 0 && resample >= 0);
	vm.irqchip = NULL;
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, 0, 0, 1), -EINVAL);
	cpu->kick_fd = fd;
	cpu->done_fd = good;
	ck_assert_int_eq(eventfds_add_vcpu(cpu), -EINVAL);
	cpu->kick_fd = good;
	cpu->done_fd = fd;
	ck_assert_int_eq(eventfds_add_vcpu(cpu), -EINVAL);
	if (other_side >= 0) /* nothing was written into it */
		ck_assert(!ioctl(other_side, FIONREAD, &left) && !left);
}
END_TEST

/* The look does not change an eventfd, whatever is in it and whatever it is. */
START_TEST(eventfd_looked_at)
{
	uint64_t value = _i & 1 ? 0xfffffffffffffffe : 0, got;
	int fd = eventfd(0, EFD_NONBLOCK | (_i & 2 ? EFD_SEMAPHORE : 0));

	ck_assert_int_eq(write(fd, &value, 8), 8);
	for (int round = 0; round < 2; round++) { /* one that blocks too, and is full: the look does not wait */
		ck_assert_int_eq(eventfds_check(fd), 0);
		ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
	}
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(read(fd, &got, 8), value ? 8 : -1);
	if (value)
		ck_assert_uint_eq(got, _i & 2 ? 1 : value);
	ck_assert_int_eq(eventfds_check(-1), -EBADF);
}
END_TEST

/* One that blocks is not read, and readable for ever: the event thread must not spin or hang on it. */
START_TEST(blocking_eventfd)
{
	int blocks = eventfd(1, 0), fd = eventfd(0, EFD_NONBLOCK);
	struct timespec used, after;

	ck_assert_int_eq(irqfd(blocks, 1, 0, 10), 0);
	nap(100);
	ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
	nap(200);
	ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after), 0);
	ck_assert_int_lt((after.tv_sec - used.tv_sec) * 1000 + (after.tv_nsec - used.tv_nsec) / 1000000, 50);
	ck_assert_uint_le(fake_calls[0], 10);
	taken();
	fake_clear();
	ck_assert_int_eq(irqfd(fd, 2, 0, 11), 0);
	signal_fd(fd);
	ck_assert(calls_reach(1));
	ck_assert_int_eq(taken(), 0x42);
}
END_TEST

START_TEST(kick)
{
	cpu->kick_fd = eventfd(0, 0);
	cpu->done_fd = eventfd(0, 0);
	ck_assert_int_eq(eventfds_add_vcpu(cpu), -EINVAL); /* it blocks, and is not changed: it is the VMM's, too */
	ck_assert_int_eq(fcntl(cpu->kick_fd, F_GETFL) & O_NONBLOCK, 0);
	cpu->kick_fd = eventfd(0, EFD_NONBLOCK);
	ck_assert_int_eq(eventfds_add_vcpu(cpu), 0);
	signal_fd(cpu->kick_fd); /* without stop: a kick for a RUN that has ended */
	nap(30);
	ck_assert_uint_eq(fake_calls[0], 0);
	cpu->channel->stop = 1;
	for (unsigned int i = 1; i <= 20; i++) {
		signal_fd(cpu->kick_fd);
		ck_assert(calls_reach(i));
	}
	ck_assert_uint_eq(fake_notified[0], VCPU_REQ_STOP);
	ck_assert_uint_eq(fake_calls[1], 0);
	fake_vcpu(1)->kick_fd = -1;
	ck_assert_int_eq(eventfds_add_vcpu(fake_vcpu(1)), -EBADF);
}
END_TEST

/* The interrupt bell is rung by the same eventfd. */
START_TEST(bell)
{
	struct channel_irq irq = { .nr = KVM_SIGNAL_MSI, .size = 5, .payload = "hello" };

	cpu->kick_fd = eventfd(0, EFD_NONBLOCK);
	cpu->done_fd = eventfd(0, 0);
	ck_assert_int_eq(eventfds_add_vcpu(cpu), 0);
	signal_fd(cpu->kick_fd); /* no bell yet */
	nap(20);
	ck_assert(!irq_bell_serve(&vm));
	vm.irq_bell = &irq;
	ck_assert(!irq_bell_serve(&vm)); /* not rung */
	for (int i = 0; i < 20; i++) {
		irq.size = 5;
		__atomic_store_n(&irq.bell, CHANNEL_IRQ_RUNG, __ATOMIC_SEQ_CST);
		signal_fd(cpu->kick_fd);
		for (int n = 0; n < 2000 && __atomic_load_n(&irq.bell, __ATOMIC_SEQ_CST); n++)
			nap(1);
		ck_assert_uint_eq(irq.bell, CHANNEL_IRQ_IDLE);
		ck_assert_int_eq(irq.ret, -ENXIO);
		ck_assert_uint_eq(irq.size, 6);
		ck_assert_mem_eq(irq.payload, "answer", 6);
		ck_assert_uint_eq(fake_call.nr, KVM_SIGNAL_MSI);
		ck_assert_uint_eq(fake_call.in_size, 5);
	}
	/* Someone else does it: it is done once. */
	irq.bell = CHANNEL_IRQ_TAKEN;
	ck_assert(!irq_bell_serve(&vm));
	ck_assert_uint_eq(fake_notified[0], 0);
}
END_TEST

/* As a shadow, which can make no set once its filter is on. */
static void setup_prepared(void)
{
	ck_assert_int_eq(shadow_prepare(), 0);
	setup();
}

static void setup_without_thread(void)
{
	fake_no_event_thread = true;
	setup();
}

/* What a vCPU's thread takes out of the set while it polls. It reads nothing. */
START_TEST(polled)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	uint64_t left;

	ck_assert_int_eq(irqfd(fd, 1, 0, 10), 0);
	cpu->kick_fd = eventfd(0, EFD_NONBLOCK);
	cpu->done_fd = eventfd(0, 0);
	ck_assert_int_eq(eventfds_add_vcpu(cpu), 0);
	eventfds_wake(&vm); /* the event thread's own: not for others, and in nobody's way */
	for (unsigned int round = 1; round <= 20; round++) {
		eventfds_poll(&vm);
		ck_assert_uint_eq(fake_calls[0], round - 1);
		signal_fd(fd);
		eventfds_poll(&vm);
		ck_assert_uint_eq(fake_calls[0], round);
		ck_assert_int_eq(taken(), 0x41);
	}
	signal_fd(cpu->kick_fd);
	eventfds_poll(&vm);
	ck_assert_uint_eq(fake_calls[0], 20);
	cpu->channel->stop = 1;
	signal_fd(cpu->kick_fd);
	eventfds_poll(&vm);
	ck_assert_uint_eq(fake_calls[0], 21);
	ck_assert(fake_notified[0] & VCPU_REQ_STOP);
	ck_assert_int_eq(irqfd(fd, 1, KVM_IRQFD_FLAG_DEASSIGN, 10), 0);
	ck_assert(read(fd, &left, 8) < 0 && errno == EAGAIN); /* the VMM finds it empty, as after KVM */
	signal_fd(fd);
	eventfds_poll(&vm);
	ck_assert_uint_eq(fake_calls[0], 21);
}
END_TEST

/* ---- ioeventfds ---- */

static unsigned int count(int fd)
{
	uint64_t value = 0;

	return read(fd, &value, 8) == 8 ? value : 0;
}

#define PIO KVM_IOEVENTFD_FLAG_PIO
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define GONE KVM_IOEVENTFD_FLAG_DEASSIGN

START_TEST(ioevent_matching)
{
	int fd = eventfd(0, EFD_NONBLOCK), fd2 = eventfd(0, EFD_NONBLOCK), fd3 = eventfd(0, EFD_NONBLOCK);

	ck_assert(!eventfds_ioevent(&vm, false, 0x1000, 4, 0));
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 2, MATCH, 7, 1), 0);
	ck_assert_int_eq(ioeventfd(fd2, 0x1000, 2, MATCH, 8, 2), 0);
	ck_assert_int_eq(ioeventfd(fd3, 0x1000, 4, 0, 0, 3), 0);
	ck_assert_int_eq(ioeventfd(fd, 0x500, 0, 0, 0, 1), 0);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 1, PIO, 0, 1), 0);

	ck_assert(eventfds_ioevent(&vm, false, 0x1000, 2, 7));
	ck_assert(count(fd) == 1 && !count(fd2) && !count(fd3));
	ck_assert(eventfds_ioevent(&vm, false, 0x1000, 2, 0xabc0008)); /* only len bytes count */
	ck_assert(!count(fd) && count(fd2) == 1);
	ck_assert(!eventfds_ioevent(&vm, false, 0x1000, 2, 9));
	ck_assert(eventfds_ioevent(&vm, false, 0x1000, 4, 9));
	ck_assert(count(fd3) == 1);
	ck_assert(!eventfds_ioevent(&vm, false, 0x1000, 8, 7));
	ck_assert(!eventfds_ioevent(&vm, false, 0x1001, 2, 7));
	ck_assert(!eventfds_ioevent(&vm, false, 0xfff, 2, 7));
	for (uint32_t len = 1; len <= 8; len *= 2)
		ck_assert(eventfds_ioevent(&vm, false, 0x500, len, len)); /* any length */
	ck_assert(count(fd) == 4);
	ck_assert(eventfds_ioevent(&vm, true, 0x1000, 1, 5));
	ck_assert(!eventfds_ioevent(&vm, true, 0x1000, 2, 7));
	ck_assert(!eventfds_ioevent(&vm, true, 0x500, 1, 5));
	ck_assert(count(fd) == 1);
	ck_assert_uint_eq(vm.ioeventfd_signals, 8); /* those that matched */
}
END_TEST

START_TEST(ioevent_rules)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	ck_assert_int_eq(ioeventfd(fd, 0x1000, 3, 0, 0, 1), -EINVAL);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 16, 0, 0, 1), -EINVAL);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 0, MATCH, 0, 1), -EINVAL);
	ck_assert_int_eq(ioeventfd(fd, ~0ull - 2, 4, 0, 0, 1), -EINVAL);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, 1 << 5, 0, 1), -EINVAL);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY, 0, 1), -EINVAL);
	ck_assert_int_eq(ioeventfd(-1, 0x1000, 4, 0, 0, 1), -EBADF);
	ck_assert_ptr_null(vm.ioevents);

	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, MATCH, 5, 1), 0);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, MATCH, 5, 2), -EEXIST);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, 0, 0, 2), -EEXIST); /* would take the other's */
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 0, 0, 0, 2), -EEXIST);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 2, 0, 0, 2), 0);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, MATCH, 6, 2), 0);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, MATCH | PIO, 5, 2), 0);

	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, GONE, 5, 1), -ENOENT);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, GONE | MATCH, 7, 1), -ENOENT);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, GONE | MATCH, 5, 2), -ENOENT); /* another eventfd */
	ck_assert_int_eq(ioeventfd(fd, 0x1008, 4, GONE | MATCH, 5, 1), -ENOENT);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 8, GONE | MATCH, 5, 1), -ENOENT);
	ck_assert(eventfds_ioevent(&vm, false, 0x1000, 4, 5));
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, GONE | MATCH, 5, 1), 0);
	ck_assert(!eventfds_ioevent(&vm, false, 0x1000, 4, 5));
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, GONE | MATCH, 5, 1), -ENOENT);
	ck_assert(eventfds_ioevent(&vm, false, 0x1000, 4, 6));
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, GONE | MATCH, 6, 2), 0);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 2, GONE, 0, 2), 0);
	ck_assert_int_eq(ioeventfd(fd, 0x1000, 4, GONE | MATCH | PIO, 5, 2), 0);
	ck_assert_ptr_null(vm.ioevents); /* the last one is out: nothing is kept */
}
END_TEST

/* Many at jumbled addresses, out again in another order; no descriptor is lost. */
START_TEST(ioevent_many)
{
	int fd = eventfd(0, EFD_NONBLOCK), next = fd_copy(fd), after;
	struct kvm_ioeventfd args = { .len = 4, .flags = PIO };
	unsigned int ready = 0;

	close(next);
	for (uint32_t i = 0; i < 1001; i++) {
		int same = fd; /* one number for all: the table only stores it */

		args.addr = i * 37 % 1009;
		ck_assert_int_eq(eventfds_ioeventfd(&vm, &args, i, &same), i < 1000 ? 0 : -ENOSPC);
	}
	for (uint32_t addr = 0; addr < 1009; addr++)
		ready += eventfds_ioevent(&vm, true, addr, 4, 0);
	ck_assert_uint_eq(ready, 1000);
	ck_assert_uint_eq(count(fd), 1000);
	for (uint32_t i = 0; i < 1000; i++) {
		int none = -1, n = i * 7 % 1000;

		args.addr = n * 37 % 1009;
		args.flags = PIO | GONE;
		ck_assert_int_eq(eventfds_ioeventfd(&vm, &args, n, &none), 0); /* closes fd the first time */
		ck_assert(!eventfds_ioevent(&vm, true, args.addr, 4, 0));
	}
	ck_assert_ptr_null(vm.ioevents);
	after = eventfd(0, 0);
	ck_assert_int_eq(after, fd);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("eventfds");
	TCase *c = tcase_create("eventfds"), *without = tcase_create("without a thread");
	TCase *prepared = tcase_create("prepared");

	tcase_add_checked_fixture(c, setup, NULL);
	tcase_add_loop_test(c, irqfd_raises, 0, 2);
	tcase_add_test(c, irqfd_refused);
	tcase_add_test(c, irqfd_limit);
	tcase_add_loop_test(without, not_an_eventfd, 0, 13);
	tcase_add_loop_test(without, eventfd_looked_at, 0, 4);
	tcase_add_test(c, blocking_eventfd);
	tcase_add_test(c, kick);
	tcase_add_test(c, bell);
	tcase_add_checked_fixture(without, setup_without_thread, NULL);
	tcase_add_test(without, polled);
	tcase_add_test(c, ioevent_matching);
	tcase_add_test(c, ioevent_rules);
	tcase_add_test(c, ioevent_many);
	suite_add_tcase(s, c);
	suite_add_tcase(s, without);
	tcase_add_checked_fixture(prepared, setup_prepared, NULL);
	tcase_add_loop_test(prepared, irqfd_raises, 0, 2);
	tcase_add_test(prepared, kick);
	suite_add_tcase(s, prepared);
	return s;
}

int main(void)
{
	return fake_main(suite());
}
