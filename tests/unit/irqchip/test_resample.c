// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "fakes.h"
#include "irqchip_state.h"

/* Irqfds on the pins of a whole irqchip, with real eventfds and the real event thread; and that thread's timer. */

static int64_t real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void ioapic_set(unsigned int pin, uint32_t entry)
{
	uint32_t reg = 0x10 + 2 * pin;

	ck_assert(irqchip_mmio_write(&vm, IOAPIC_BASE, &reg, 4));
	ck_assert(irqchip_mmio_write(&vm, IOAPIC_BASE + 0x10, &entry, 4));
}

static void setup(void)
{
	fake_machine(1);
	vm.split_irqchip = false;
	atomic_store(&vm.vcpus, 0);
	ck_assert_int_eq(eventfds_start(&vm), 0);
	ck_assert_int_eq(irqchip_create(&vm), 0);
	atomic_store(&vm.vcpus, 1);
	ioapic_set(10, 0x8061);
	ioapic_set(4, 0x0044);
	routing_scan_eoi(cpu);
	fake_clear();
}

static void nap(void)
{
	nanosleep(&(struct timespec) { 0, 1000000 }, NULL);
}

static int takes(void)
{
	int vector = -1;

	for (int n = 0; n < 3000 && vector < 0; n++) {
		vector = lapic_pending(cpu);
		if (vector < 0)
			nap();
	}
	if (vector >= 0)
		lapic_accept(cpu, vector);
	return vector;
}

static bool nothing(void)
{
	for (int n = 0; n < 30; n++) {
		if (lapic_pending(cpu) >= 0)
			return false;
		nap();
	}
	return true;
}

static int irqfd(int fd, int resample, uint32_t gsi, uint32_t flags, uint32_t cookie)
{
	struct kvm_irqfd args = { .gsi = gsi, .flags = flags };
	int copies[2] = { fd < 0 ? -1 : dup(fd), resample < 0 ? -1 : dup(resample) }, ret;

	ret = eventfds_irqfd(&vm, &args, cookie, &copies[0], &copies[1]);
	for (int n = 0; n < 2; n++)
		if (copies[n] >= 0)
			close(copies[n]);
	return ret;
}

static void signal_fd(int fd)
{
	ck_assert_int_eq(eventfd_write(fd, 1), 0);
}

/* How often it was signalled since the last look. */
static uint64_t told(int fd)
{
	eventfd_t count = 0;

	return eventfd_read(fd, &count) ? 0 : count;
}

START_TEST(edge_pins)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	ck_assert_int_eq(irqfd(fd, -1, 4, 0, 1), 0);
	for (int n = 0; n < 10; n++) {
		signal_fd(fd);
		ck_assert_int_eq(takes(), 0x44);
		lapic_eoi(cpu);
	}
	ck_assert_uint_eq(vm.irqchip->ioapic.irr, 0); /* a pulse */
}
END_TEST

START_TEST(resampling)
{
	int fd = eventfd(0, EFD_NONBLOCK), re = eventfd(0, EFD_NONBLOCK);

	ck_assert_int_eq(irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE, 1), 0);
	for (int n = 0; n < 10; n++) {
		signal_fd(fd);
		ck_assert_int_eq(takes(), 0x61);
		ck_assert_uint_eq(vm.irqchip->ioapic.irr, 1 << 10); /* stays up */
		ck_assert_uint_eq(told(re), 0);
		lapic_eoi(cpu);
		ck_assert_uint_eq(told(re), 1);
		ck_assert_uint_eq(vm.irqchip->ioapic.irr, 0);
	}
	ck_assert(nothing());
	/* The VMM finds its device still asking: it signals again. */
	signal_fd(fd);
	ck_assert_int_eq(takes(), 0x61);
	lapic_eoi(cpu);
	ck_assert_uint_eq(told(re), 1);
	signal_fd(fd);
	ck_assert_int_eq(takes(), 0x61);
	/* Its line goes with it. */
	ck_assert_int_eq(irqfd(fd, -1, 10, KVM_IRQFD_FLAG_DEASSIGN, 1), 0);
	ck_assert_uint_eq(vm.irqchip->ioapic.irr, 0);
	lapic_eoi(cpu);
	ck_assert_uint_eq(told(re), 0);
	ck_assert(nothing());
}
END_TEST

/* Several on one line: all are told, and the line stays for the others. The VMM's own line is another one. */
START_TEST(shared)
{
	int fd[2], re[2];

	for (int n = 0; n < 2; n++) {
		fd[n] = eventfd(0, EFD_NONBLOCK);
		re[n] = eventfd(0, EFD_NONBLOCK);
		ck_assert_int_eq(irqfd(fd[n], re[n], 10, KVM_IRQFD_FLAG_RESAMPLE, n), 0);
	}
	signal_fd(fd[0]);
	ck_assert_int_eq(takes(), 0x61);
	lapic_eoi(cpu);
	ck_assert_uint_eq(told(re[0]), 1);
	ck_assert_uint_eq(told(re[1]), 1);
	ck_assert_int_eq(irqfd(fd[0], -1, 10, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	routing_irq_line(&vm, 10, 1, false);
	ck_assert_int_eq(takes(), 0x61);
	lapic_eoi(cpu);
	ck_assert_uint_eq(told(re[0]), 0);
	ck_assert_uint_eq(told(re[1]), 1);
	ck_assert_int_eq(takes(), 0x61); /* the VMM's line is not lowered */
	routing_irq_line(&vm, 10, 0, false);
	lapic_eoi(cpu);
	ck_assert(nothing());
}
END_TEST

/* By way of the PIC its EOI is the end. */
START_TEST(by_pic)
{
	static const uint8_t icw[] = { 0x11, 0x30, 0x04, 0x01 };
	int fd = eventfd(0, EFD_NONBLOCK), re = eventfd(0, EFD_NONBLOCK);
	uint8_t elcr = 0x20, eoi = 0x20;

	for (int n = 0; n < 4; n++)
		ck_assert(irqchip_port_out(&vm, n ? 0x21 : 0x20, 1, &icw[n]));
	ck_assert(irqchip_port_out(&vm, 0x4d0, 1, &elcr));
	ck_assert_int_eq(irqfd(fd, re, 5, KVM_IRQFD_FLAG_RESAMPLE, 1), 0);
	signal_fd(fd);
	for (int n = 0; n < 3000 && !irqchip_pic_output(&vm); n++)
		nap();
	ck_assert_uint_eq(irqchip_pic_take(&vm), 0x35);
	ck_assert_uint_eq(told(re), 0);
	ck_assert(irqchip_port_out(&vm, 0x20, 1, &eoi));
	ck_assert_uint_eq(told(re), 1);
	ck_assert(!irqchip_pic_output(&vm));
}
END_TEST

/* Unmasking asks the VMM before an interrupt that may be stale is sent. */
START_TEST(unmasking)
{
	int fd = eventfd(0, EFD_NONBLOCK), re = eventfd(0, EFD_NONBLOCK);

	ck_assert_int_eq(irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE, 1), 0);
	ioapic_set(10, 0x18061);
	signal_fd(fd);
	for (int n = 0; n < 3000 && !(__atomic_load_n(&vm.irqchip->ioapic.irr, __ATOMIC_RELAXED)); n++)
		nap();
	ioapic_set(10, 0x8061);
	ck_assert_uint_eq(told(re), 1);
	ck_assert(nothing());
}
END_TEST

START_TEST(refused)
{
	int fd = eventfd(0, EFD_NONBLOCK), re = eventfd(0, EFD_NONBLOCK);

	ck_assert_int_eq(irqfd(fd, -1, 10, KVM_IRQFD_FLAG_RESAMPLE, 1), -EBADF);
	ck_assert_int_eq(irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE | 8, 1), -EINVAL);
	ck_assert_int_eq(irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE, 1), 0);
	ck_assert_int_eq(irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE, 1), -EBUSY);
	ck_assert_uint_eq(vm.irqchip->resamplers, 1);
	ck_assert_int_eq(irqfd(open("/proc/self/exe", O_RDONLY), re, 10, KVM_IRQFD_FLAG_RESAMPLE, 2), -EINVAL);
	ck_assert_uint_eq(vm.irqchip->resamplers, 1);
	ck_assert_int_eq(irqfd(eventfd(0, 0), re, 0xffffffff, KVM_IRQFD_FLAG_RESAMPLE, 3),
			 0); /* no such route: nothing */
	ck_assert_int_eq(irqfd(-1, -1, 0xffffffff, KVM_IRQFD_FLAG_DEASSIGN, 3), 0);
}
END_TEST

/* As many as there can be irqfds (VM_MAX_ROUTES), all with a resampler. */
START_TEST(many)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	for (uint32_t cookie = 0; cookie < VM_MAX_ROUTES; cookie++)
		if (irqchip_resample_add(&vm, 10, cookie, fd))
			ck_abort_msg("resampler %u is refused", cookie);
	ck_assert_int_eq(irqchip_resample_add(&vm, 10, VM_MAX_ROUTES, fd), -ENOSPC);
	irqchip_resample_remove(&vm, 10, 7);
	ck_assert_uint_eq(vm.irqchip->resamplers, VM_MAX_ROUTES - 1);
	ck_assert_int_eq(irqchip_resample_add(&vm, 10, VM_MAX_ROUTES, fd), 0);
}
END_TEST

/* The PIT's ticks come from the event thread: nobody else does anything here. */
START_TEST(timer)
{
	static const uint8_t bytes[] = { 0x34, 0x9c, 0x2e }; /* mode 2, 11932: 10 ms */
	static const uint8_t off[] = { 0x30 };
	int64_t start = real_ns();

	fake_ns = start;
	ioapic_set(0, 0x0055);
	ck_assert_int_eq(irqchip_create_pit(&vm, 0), 0);
	routing_scan_eoi(cpu);
	ck_assert(irqchip_port_out(&vm, 0x43, 1, &bytes[0]));
	ck_assert(irqchip_port_out(&vm, 0x40, 1, &bytes[1]));
	ck_assert(irqchip_port_out(&vm, 0x40, 1, &bytes[2]));
	ck_assert(nothing()); /* the clock stands */
	for (int n = 1; n <= 5; n++) {
		__atomic_store_n(&fake_ns, start + n * 10000151ll, __ATOMIC_SEQ_CST);
		ck_assert_int_eq(takes(), 0x55);
		lapic_eoi(cpu);
	}
	ck_assert(irqchip_port_out(&vm, 0x43, 1, off));
	__atomic_store_n(&fake_ns, start + 1000000000ll, __ATOMIC_SEQ_CST);
	ck_assert(nothing());
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("resample");
	TCase *tcase = tcase_create("resample");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, edge_pins);
	tcase_add_test(tcase, resampling);
	tcase_add_test(tcase, shared);
	tcase_add_test(tcase, by_pic);
	tcase_add_test(tcase, unmasking);
	tcase_add_test(tcase, refused);
	tcase_add_test(tcase, timer);
	tcase_add_test(tcase, many);
	suite_add_tcase(suite, tcase);
	return fake_main(suite);
}
