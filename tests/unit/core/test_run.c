// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_RUN's beginning and end, requests, kicks, halting, the doorbell of a real vCPU thread. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "msr.h"
#include "sys.h"

static void setup(void)
{
	machine_start(false);
}

static void setup_irqchip(void)
{
	machine_start(true);
}

START_TEST(immediate_exit)
{
	if (_i)
		m.vcpu->channel->stop = 1;
	else
		m.kvm->immediate_exit = 1;
	machine_run(-EINTR, 0);
	ck_assert_uint_eq(m.kvm->exit_reason, KVM_EXIT_INTR);
	ck_assert_uint_eq(m.fake.at, 0);
	m.vcpu->channel->stop = 0;
	m.kvm->immediate_exit = 0;
	machine_run(0, KVM_EXIT_SHUTDOWN);
}
END_TEST

/* As KVM: what the VMM answered is completed first. */
START_TEST(immediate_exit_completes)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_IO, 2);

	step->exit.io.size = 1;
	step->exit.io.flags = VMEXIT_IO_IN;
	machine_run(0, KVM_EXIT_IO);
	m.vcpu->pio[0] = 0x77;
	m.kvm->immediate_exit = 1;
	machine_run(-EINTR, 0);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX] & 0xff, 0x77);
	ck_assert_uint_eq(m.run->rip, CODE + 2);
	ck_assert_uint_eq(m.fake.at, 1);
}
END_TEST

START_TEST(sync_regs_are_not_there)
{
	m.kvm->kvm_valid_regs = 1;
	machine_run(-EINVAL, 0);
	m.kvm->kvm_valid_regs = 0;
	m.kvm->kvm_dirty_regs = 1;
	machine_run(-EINVAL, 0);
}
END_TEST

static void vmm_stops(struct umbra_run *run)
{
	(void)run;
	m.vcpu->channel->stop = 1;
	vcpu_notify(m.vcpu, VCPU_REQ_STOP);
}

START_TEST(stop_in_guest)
{
	/* after a quick exit and after a slow one */
	fake_push(&m.fake, _i ? VMEXIT_CPUID : VMEXIT_INTERRUPTED, 2)->act = vmm_stops;
	machine_run(-EINTR, 0);
	ck_assert_uint_eq(m.fake.at, 1);
	ck_assert_uint_eq(m.vcpu->in_guest, 0);
	/* stale: the VMM has cleared stop and rung again */
	m.vcpu->channel->stop = 0;
	vcpu_notify(m.vcpu, VCPU_REQ_STOP);
	machine_run(0, KVM_EXIT_SHUTDOWN);
}
END_TEST

START_TEST(nmi_request)
{
	vcpu_notify(m.vcpu, VCPU_REQ_NMI);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_NMI, 2);
}
END_TEST

/* Kicks go out only when the vCPU is announced in the guest, and one is enough. */
START_TEST(kick_only_in_guest)
{
	vcpu_set_current(NULL);
	vcpu_notify(m.vcpu, VCPU_REQ_EVENT);
	ck_assert_uint_eq(m.fake.kicks, 0);
	m.vcpu->in_guest = 1;
	vcpu_notify(m.vcpu, VCPU_REQ_EVENT);
	vcpu_notify(m.vcpu, VCPU_REQ_NMI);
	ck_assert_uint_eq(m.fake.kicks, 1);
	vcpu_set_current(m.vcpu);
	m.vcpu->in_guest = 1;
	vcpu_notify(m.vcpu, VCPU_REQ_EVENT);
	ck_assert_uint_eq(m.fake.kicks, 1);
	ck_assert_uint_eq(m.vcpu->requests, VCPU_REQ_EVENT | VCPU_REQ_NMI);
}
END_TEST

START_TEST(init_and_sipi)
{
	m.vcpu->id = 1;
	m.vcpu->apic_base &= ~(uint64_t)APIC_BASE_BSP;
	m.vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	m.vcpu->lapic.init_pending = 1;
	m.vcpu->lapic.sipi_vector = 0x19a;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[0].seg[UMBRA_CS].selector, 0x9a00);
	ck_assert_uint_eq(m.fake.entry[0].seg[UMBRA_CS].base, 0x9a000);
	ck_assert_uint_eq(m.fake.entry[0].rip, 0);
	ck_assert_uint_eq(m.vcpu->mp_state, KVM_MP_STATE_RUNNABLE);
}
END_TEST

/* SIPI without INIT before it is dropped. */
START_TEST(sipi_alone)
{
	m.vcpu->lapic.sipi_vector = 0x19a;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[0].rip, CODE);
	ck_assert_uint_eq(m.vcpu->lapic.sipi_vector, 0x9a); /* the vector stays, nothing is pending */
}
END_TEST

/*
 * When the vCPU's thread sleeps, or looks for work before it does: one that comes before the halt shows nothing. If neither ever is, the
 * test's time-out ends it.
 */
static void *notify_later(void *arg)
{
	unsigned int request = (unsigned int)(uintptr_t)arg;

	while (!atomic_load(&m.vcpu->wake) && !atomic_load(&m.vm.turns.polling))
		usleep(100);
	usleep(1000); /* as a rule it is at it by then; nothing fails if not */
	if (request == VCPU_REQ_STOP)
		m.vcpu->channel->stop = 1;
	vcpu_notify(m.vcpu, request);
	return NULL;
}

START_TEST(halted_until_notified)
{
	pthread_t thread;

	pthread_create(&thread, NULL, notify_later, (void *)(uintptr_t)(_i ? VCPU_REQ_STOP : VCPU_REQ_NMI));
	fake_push(&m.fake, VMEXIT_HLT, 1);
	machine_run(_i ? -EINTR : 0, KVM_EXIT_SHUTDOWN);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(m.fake.at, _i ? 1 : 2);
	ck_assert_uint_eq(m.vcpu->mp_state, _i ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE);
	if (!_i)
		machine_injected(1, UMBRA_EVENT_NMI, 2);
}
END_TEST

static void timer_soon(struct umbra_run *run)
{
	static const uint8_t count[4] = { 0, 0, 0x20, 0 };

	(void)run;
	lapic_mmio_write(m.vcpu, 0x380, 4, count);
}

/*
 * A sleep ends with the LAPIC timer (fake TSC rate: 1 GHz; the real one only changes how long that is). Set anew in the guest: one that
 * has come before the halt would not end it.
 */
START_TEST(halted_until_timer)
{
	static const uint8_t spurious[4] = { 0xff, 0x01, 0, 0 }, lvtt[4] = { 0x40, 0, 0, 0 },
			     divide[4] = { 0xb, 0, 0, 0 };
	static const uint8_t late[4] = { 0, 0, 0, 0xff };

	lapic_mmio_write(m.vcpu, 0xf0, 4, spurious);
	lapic_mmio_write(m.vcpu, 0x3e0, 4, divide);
	lapic_mmio_write(m.vcpu, 0x320, 4, lvtt);
	lapic_mmio_write(m.vcpu, 0x380, 4, late);
	ck_assert_uint_ne(m.vcpu->lapic.timer_deadline_tsc, 0);
	m.run->rflags |= X86_RFLAGS_IF;
	fake_push(&m.fake, VMEXIT_HLT, 1)->act = timer_soon;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_ne(m.fake.entry[0].deadline_tsc, 0);
	machine_injected(1, UMBRA_EVENT_INTR, 0x40);
	ck_assert_uint_eq(m.fake.entry[1].deadline_tsc, 0);
}
END_TEST

/* ---- halts that are polled ---- */

static struct channel_irq irq;

/* Without a kick: only a thread that looks at the bell finds it rung. */
static void *ring_later(void *arg)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x45 };

	(void)arg;
	usleep(20000);
	while (!__atomic_load_n(&irq.polled, __ATOMIC_SEQ_CST))
		sched_yield();
	memcpy(irq.payload, &msi, sizeof(msi));
	irq.nr = KVM_SIGNAL_MSI;
	irq.size = sizeof(msi);
	__atomic_store_n(&irq.bell, CHANNEL_IRQ_RUNG, __ATOMIC_SEQ_CST);
	return NULL;
}

static void let_poll(void)
{
	m.vm.turns.cpus = 2;
	m.vcpu->halt.window_us = 10000000; /* longer than any wait here */
}

/* A request, or one that the bell brings, ends the poll; nobody sleeps. */
START_TEST(halt_polled)
{
	static const uint8_t spurious[4] = { 0xff, 0x01, 0, 0 };
	pthread_t thread;

	let_poll();
	m.vm.irq_bell = &irq;
	lapic_mmio_write(m.vcpu, 0xf0, 4, spurious);
	m.run->rflags |= X86_RFLAGS_IF;
	pthread_create(&thread, NULL, _i ? ring_later : notify_later, (void *)(uintptr_t)VCPU_REQ_NMI);
	fake_push(&m.fake, VMEXIT_HLT, 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(m.vcpu->halt.polls, 1);
	ck_assert_uint_eq(m.vcpu->halt.polls_ended, 1);
	ck_assert_uint_eq(irq.polled, 0);
	ck_assert_uint_eq(m.vm.turns.polling, 0);
	if (_i)
		machine_injected(1, UMBRA_EVENT_INTR, 0x45);
	else
		machine_injected(1, UMBRA_EVENT_NMI, 2);
}
END_TEST

/* One CPU; the guest polls itself; both CPUs are needed by vCPUs that run; no window. */
START_TEST(halt_not_polled)
{
	pthread_t thread;

	let_poll();
	switch (_i) {
	case 0:
		m.vm.turns.cpus = 1;
		break;
	case 1:
		m.vcpu->msrs->poll_control = 0;
		break;
	case 2:
		m.vm.vcpus = 3;
		m.vm.vcpu[1] = m.vm.vcpu[2] = m.vcpu;
		m.vm.turns.running = 2;
		m.vm.turns.until = UINT64_MAX;
		break;
	case 3:
		m.vcpu->halt.window_us = 0;
		break;
	}
	pthread_create(&thread, NULL, notify_later, (void *)(uintptr_t)VCPU_REQ_NMI);
	fake_push(&m.fake, VMEXIT_HLT, 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(m.vcpu->halt.polls_ended, 0);
	machine_injected(1, UMBRA_EVENT_NMI, 2);
}
END_TEST

/* The timer's time is in the window: the poll ends with it. */
START_TEST(halt_polled_until_timer)
{
	let_poll();
	m.vcpu->lapic.timer_deadline_tsc = cpu_rdtsc() + (uint64_t)m.vm.info.tsc_khz * 20;
	m.vcpu->mp_state = KVM_MP_STATE_HALTED;
	ck_assert(halt_poll(m.vcpu, cpu_rdtsc()));
	ck_assert_uint_ge(cpu_rdtsc(), m.vcpu->lapic.timer_deadline_tsc);
	m.vcpu->halt.window_us = 100; /* and here it is not */
	m.vcpu->lapic.timer_deadline_tsc = cpu_rdtsc() + (uint64_t)m.vm.info.tsc_khz * 10000;
	ck_assert(!halt_poll(m.vcpu, cpu_rdtsc()));
	ck_assert_uint_lt(cpu_rdtsc(), m.vcpu->lapic.timer_deadline_tsc);
}
END_TEST

START_TEST(halt_window)
{
	static const struct {
		unsigned int us, window;
	} halts[] = { { 50, 10 },   { 50, 20 },	 { 50, 40 }, { 50, 80 }, { 50, 80 }, { 150, 160 }, { 190, 200 },
		      { 199, 200 }, { 90, 200 }, { 250, 0 }, { 300, 0 }, { 5, 10 },  { 5, 10 } };

	m.vm.info.tsc_khz = 4000000000u; /* so that the time which this test takes is less than a microsecond */
	for (size_t i = 0; i < sizeof(halts) / sizeof(halts[0]); i++) {
		halt_poll_adapt(m.vcpu, cpu_rdtsc() - halts[i].us * (uint64_t)(m.vm.info.tsc_khz / 1000));
		ck_assert_msg(m.vcpu->halt.window_us == halts[i].window, "halt %zu: %u us", i, m.vcpu->halt.window_us);
	}
}
END_TEST

/* Many notifies from another thread against a vCPU that halts each time: a lost one would hang the test. */
static atomic_uint rounds;

static void *notify_often(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 20000; i++) {
		vcpu_notify(m.vcpu, VCPU_REQ_NMI);
		while (atomic_load(&rounds) <= i)
			sched_yield();
	}
	return NULL;
}

START_TEST(no_lost_wake)
{
	pthread_t thread;

	pthread_create(&thread, NULL, notify_often, NULL);
	for (unsigned int i = 0; i < 20000; i++) {
		m.fake.at = m.fake.steps = 0;
		m.vcpu->mp_state = KVM_MP_STATE_HALTED;
		m.run->intr_shadow = 0;
		machine_run(0, KVM_EXIT_SHUTDOWN);
		machine_injected(0, UMBRA_EVENT_NMI, 2);
		atomic_store(&rounds, i + 1);
	}
	pthread_join(thread, NULL);
}
END_TEST

/* ---- a vCPU with its thread ---- */

static struct kvm_run *area;
static struct channel_vcpu *channel;
static int done_fd, kick_fd;

static void thread_vcpu(void)
{
	int memfd = machine_memfd(CHANNEL_VCPU_SIZE, NULL);

	ck_assert_int_eq(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	area = mmap(NULL, CHANNEL_VCPU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	channel = (struct channel_vcpu *)((uint8_t *)area + CHANNEL_VCPU_OFFSET);
	done_fd = eventfd(0, 0);
	kick_fd = eventfd(0, EFD_NONBLOCK);
	m.vm.vcpus = 0;
	ck_assert_int_eq(vcpu_create(&m.vm, 0, memfd, kick_fd, done_fd), 0);
}

static int ring(uint8_t bell)
{
	uint32_t *word = (uint32_t *)area;

	__atomic_store_n((uint8_t *)area + CHANNEL_BELL_BYTE, bell, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&channel->shadow_sleeps, __ATOMIC_SEQ_CST))
		sys_futex_wake(area, 1);
	if (channel->vmm_sleeps == 2) {
		uint64_t count;

		ck_assert_int_eq(read(done_fd, &count, 8), 8);
	}
	for (;;) {
		uint32_t value = __atomic_load_n(word, __ATOMIC_SEQ_CST);

		if (!(value >> 16 & 0xff))
			return channel->ret;
		if (channel->vmm_sleeps == 1)
			sys_futex_wait(area, value, NULL, 1);
		else
			sched_yield();
	}
}

START_TEST(doorbell)
{
	struct kvm_regs *regs = (struct kvm_regs *)((uint8_t *)area + CHANNEL_PAYLOAD_OFFSET);

	channel->vmm_sleeps = (uint32_t)_i;
	for (int i = 0; i < 200; i++) {
		if (i % 50 == 0)
			usleep(2000); /* long enough for the shadow to sleep */
		ck_assert_int_eq(ring(CHANNEL_RUN), 0);
		ck_assert_uint_eq(area->exit_reason, KVM_EXIT_SHUTDOWN);
		channel->nr = KVM_GET_REGS;
		channel->size = 0;
		ck_assert_int_eq(ring(CHANNEL_CALL), 0);
		ck_assert_uint_eq(channel->size, sizeof(*regs));
		ck_assert_uint_eq(regs->rip, 0xfff0);
	}
	channel->nr = 0x1234;
	ck_assert_int_lt(ring(CHANNEL_CALL), 0);
	channel->nr = KVM_SET_REGS;
	channel->size = CHANNEL_PAYLOAD_MAX + 1;
	ck_assert_int_eq(ring(CHANNEL_CALL), -EINVAL);
	/* VM calls have a bell of their own, and those that only interrupt are all. There is no LAPIC here. */
	channel->nr = KVM_IRQ_LINE;
	channel->size = sizeof(struct kvm_irq_level);
	ck_assert_int_eq(ring(CHANNEL_VM_CALL), -ENXIO);
	ck_assert_uint_eq(channel->size, 0);
	ck_assert_int_eq(ring(CHANNEL_CALL), -EINVAL);
	channel->nr = KVM_GET_REGS;
	channel->size = 0;
	ck_assert_int_eq(ring(CHANNEL_VM_CALL), -EINVAL);
	channel->nr = KVM_CREATE_VM;
	ck_assert_int_eq(ring(CHANNEL_VM_CALL), -EINVAL);
	channel->nr = KVM_SIGNAL_MSI;
	channel->size = sizeof(struct kvm_msi) - 1;
	ck_assert_int_eq(ring(CHANNEL_VM_CALL), -EINVAL);
	ck_assert_int_eq(ring(77), -EINVAL);
	ck_assert_int_eq(ring(CHANNEL_RUN), 0);
}
END_TEST

static int ring_irq(struct channel_irq *bell, uint32_t nr, uint32_t size, bool sleep)
{
	const uint64_t one = 1;

	bell->vmm_sleeps = sleep;
	bell->nr = nr;
	bell->size = size;
	__atomic_store_n(&bell->bell, CHANNEL_IRQ_RUNG, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(write(kick_fd, &one, 8), 8);
	for (;;) {
		uint32_t value = __atomic_load_n(&bell->bell, __ATOMIC_SEQ_CST);

		if (value == CHANNEL_IRQ_IDLE)
			return bell->ret;
		if (sleep)
			sys_futex_wait(&bell->bell, value, NULL, 1);
	}
}

/* The same rules as on the socket and at the doorbell; there is no LAPIC here. */
START_TEST(interrupt_bell)
{
	struct channel_irq *bell = (struct channel_irq *)((uint8_t *)area + CHANNEL_IRQ_OFFSET);

	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(ring_irq(bell, KVM_IRQ_LINE, sizeof(struct kvm_irq_level), _i), -ENXIO);
	ck_assert_uint_eq(bell->size, 0);
	ck_assert_int_eq(ring_irq(bell, KVM_IRQ_LINE, sizeof(struct kvm_irq_level) - 1, _i), -EINVAL);
	ck_assert_int_eq(ring_irq(bell, KVM_SIGNAL_MSI, sizeof(struct kvm_msi), _i), -EINVAL);
	ck_assert_int_eq(ring_irq(bell, KVM_SIGNAL_MSI, CHANNEL_IRQ_PAYLOAD + 1, _i), -EINVAL);
	ck_assert_int_eq(ring_irq(bell, KVM_SIGNAL_MSI, UINT32_MAX, _i), -EINVAL);
	ck_assert_int_eq(ring_irq(bell, KVM_CREATE_VM, 0, _i), -EINVAL);
	ck_assert_int_eq(ring_irq(bell, 0, 0, _i), -EINVAL);
	channel->vmm_sleeps = 0;
	ck_assert_int_eq(ring(CHANNEL_RUN), 0); /* the vCPU has nothing to do with it */
}
END_TEST

static void setup_thread(void)
{
	setup();
	thread_vcpu();
}

START_TEST(statistics)
{
	int fds[2];
	char text[1024];
	ssize_t len;

	fake_push(&m.fake, VMEXIT_CPUID, 2);
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_int_eq(pipe(fds), 0);
	stats_print(&m.vm, fds[1]);
	len = read(fds[0], text, sizeof(text) - 1);
	ck_assert_int_gt(len, 0);
	text[len] = 0;
	ck_assert_ptr_nonnull(strstr(text, "umbra: exits CPUID 2\n"));
	ck_assert_ptr_nonnull(strstr(text, "umbra: exits SHUTDOWN 1\n"));
	ck_assert_ptr_nonnull(strstr(text, "umbra: exits to the VMM 1\n"));
	ck_assert_ptr_nonnull(strstr(text, "umbra: runs 1\n"));
	ck_assert_ptr_nonnull(strstr(text, "umbra: halts polled 0\n"));
	ck_assert_ptr_nonnull(strstr(text, "umbra: halts that ended while polled 0\n"));
	ck_assert_ptr_nonnull(strstr(text, "umbra: ioeventfd signals 0\n"));
	ck_assert_ptr_nonnull(strstr(text, "umbra: irqfd interrupts 0\n"));
	ck_assert_ptr_null(strstr(text, "HLT"));
}
END_TEST

Suite *suite_run(void)
{
	Suite *suite = suite_create("run");
	TCase *plain = tcase_create("plain"), *irqchip = tcase_create("irqchip"), *thread = tcase_create("thread");

	tcase_add_checked_fixture(plain, setup, NULL);
	tcase_add_checked_fixture(irqchip, setup_irqchip, NULL);
	tcase_set_timeout(irqchip, 60);
	tcase_add_checked_fixture(thread, setup_thread, NULL);
	tcase_add_loop_test(plain, immediate_exit, 0, 2);
	tcase_add_test(plain, immediate_exit_completes);
	tcase_add_test(plain, sync_regs_are_not_there);
	tcase_add_loop_test(plain, stop_in_guest, 0, 2);
	tcase_add_test(plain, nmi_request);
	tcase_add_test(plain, kick_only_in_guest);
	tcase_add_test(irqchip, init_and_sipi);
	tcase_add_test(irqchip, sipi_alone);
	tcase_add_loop_test(irqchip, halted_until_notified, 0, 2);
	tcase_add_test(irqchip, halted_until_timer);
	tcase_add_loop_test(irqchip, halt_polled, 0, 2);
	tcase_add_loop_test(irqchip, halt_not_polled, 0, 4);
	tcase_add_test(irqchip, halt_polled_until_timer);
	tcase_add_test(irqchip, halt_window);
	tcase_add_test(irqchip, no_lost_wake);
	tcase_add_loop_test(thread, doorbell, 0, 3);
	tcase_add_loop_test(thread, interrupt_bell, 0, 2);
	tcase_add_test(plain, statistics);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, irqchip);
	suite_add_tcase(suite, thread);
	return suite;
}
