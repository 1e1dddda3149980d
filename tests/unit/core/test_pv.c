// SPDX-License-Identifier: GPL-2.0-or-later
/* What KVM's guests ask of it for several vCPUs: steal time, the preempted mark, kicks, hypercalls. */
#define _GNU_SOURCE
#include <linux/kvm_para.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "msr.h"
#include "sys.h"

#define AREA 0x3000

static struct kvm_steal_time *area(void)
{
	return (struct kvm_steal_time *)(m.ram + AREA);
}

static void setup(void)
{
	machine_start(true);
	m.vm.vcpus = 2; /* the second one is nobody that anything here asks */
	m.vm.vcpu[1] = m.vcpu;
	ck_assert_int_eq(msr_write(m.vcpu, MSR_KVM_STEAL_TIME, AREA | 1, false), 0);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Both clocks at one moment: of some readings the one that nothing came into. */
static void clocks(uint64_t *ns, uint64_t *tsc)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 20; i++) {
		uint64_t before = cpu_rdtsc(), now = now_ns(), took = cpu_rdtsc() - before;

		if (took < least) {
			least = took;
			*ns = now;
			*tsc = before;
		}
	}
}

/* The real frequency of this machine's TSC: the shadow's arithmetic is held against the system's clock. */
static void tsc_measure(void)
{
	uint64_t ns[2], tsc[2];

	clocks(&ns[0], &tsc[0]);
	do
		clocks(&ns[1], &tsc[1]);
	while (ns[1] - ns[0] < 20000000);
	m.vm.info.tsc_khz = (uint32_t)((tsc[1] - tsc[0]) * 1000000 / (ns[1] - ns[0]));
}

static void spin(uint64_t ns)
{
	uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

START_TEST(steal_msr)
{
	uint64_t value;

	ck_assert_int_eq(msr_read(m.vcpu, MSR_KVM_STEAL_TIME, &value, false), 0);
	ck_assert_uint_eq(value, AREA | 1);
	for (unsigned int bit = 1; bit < 6; bit++)
		ck_assert_int_eq(msr_write(m.vcpu, MSR_KVM_STEAL_TIME, AREA | 1 | 1 << bit, false), -1);
	/* memory that is not there is the guest's loss */
	ck_assert_int_eq(msr_write(m.vcpu, MSR_KVM_STEAL_TIME, DEVICE | 1, false), 0);
	ck_assert_int_eq(msr_write(m.vcpu, MSR_KVM_STEAL_TIME, AREA, false), 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(area()->preempted, 0);
}
END_TEST

static void run_in_vain(void)
{
	m.kvm->kvm_valid_regs = 1;
	ck_assert_int_eq(vcpu_run(m.vcpu), -EINVAL);
	m.kvm->kvm_valid_regs = 0;
}

/* Time in which the thread could not run counts; what it ran, halted or was with the VMM does not. */
START_TEST(steal_counts)
{
	struct timespec pause = { 0, 30000000 };
	uint64_t begun, ran, stolen;

	tsc_measure();
	begun = now_ns();
	ran = cpu_ns();
	ck_assert_int_eq(msr_write(m.vcpu, MSR_KVM_STEAL_TIME, AREA | 1, false), 0);
	area()->steal = 0;
	switch (_i) {
	case 0: /* off the CPU without having asked for it: as if preempted */
		nanosleep(&pause, NULL);
		steal_look(m.vcpu);
		ck_assert_uint_ge(area()->steal, 29000000);
		break;
	case 1:
		spin(30000000);
		steal_look(m.vcpu);
		break;
	case 4: /* with the VMM, which calls KVM_RUN in vain */
	case 2: /* with the VMM */
		steal_run_end(m.vcpu);
		nanosleep(&pause, NULL);
		if (_i == 4)
			run_in_vain();
		steal_run_begin(m.vcpu);
		spin(2000000);
		steal_look(m.vcpu);
		begun += 30000000;
		break;
	case 3: { /* halted; the wake-up came after a third of it */
		uint64_t from = cpu_rdtsc(), woken;

		nanosleep(&pause, NULL);
		woken = from + (cpu_rdtsc() - from) / 3;
		atomic_store(&m.vcpu->steal.woken, woken);
		steal_halted(m.vcpu, from, cpu_rdtsc(), 0);
		steal_look(m.vcpu);
		ck_assert_uint_ge(area()->steal, 19000000);
		begun += 10000000;
		break;
	}
	}
	/* At no time more than the thread was off the CPU, and the rest of the time was stolen by this machine's load. */
	stolen = now_ns() - begun;
	ran = cpu_ns() - ran;
	stolen = stolen > ran ? stolen - ran : 0;
	ck_assert_uint_le(area()->steal, stolen + 1000000);
	ck_assert_uint_eq(area()->version & 1, 0);
	ck_assert_uint_ge(area()->version, 2);
}
END_TEST

static void mark_seen(struct umbra_run *run)
{
	(void)run;
	ck_assert_uint_eq(area()->preempted, 0);
}

/* Marked while the VMM has it, not while it runs; what was left there is done before the next entry. */
START_TEST(mark)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_IO, 2);

	step->exit.io.size = 1;
	step->act = mark_seen;
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(area()->preempted, KVM_VCPU_PREEMPTED);
	ck_assert_uint_eq(m.fake.entry[0].flags & UMBRA_RUN_FLUSH_TLB, UMBRA_RUN_FLUSH_TLB); /* after reset */
	if (_i)
		area()->preempted |= KVM_VCPU_FLUSH_TLB;
	fake_push(&m.fake, VMEXIT_CPUID, 2)->act = mark_seen;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].flags & UMBRA_RUN_FLUSH_TLB, _i ? UMBRA_RUN_FLUSH_TLB : 0);
}
END_TEST

/* What another vCPU asked for in the mark outlives a KVM_RUN that fails before it has begun. */
START_TEST(mark_stays)
{
	fake_push(&m.fake, VMEXIT_IO, 2)->exit.io.size = 1;
	machine_run(0, KVM_EXIT_IO);
	area()->preempted |= KVM_VCPU_FLUSH_TLB;
	run_in_vain();
	ck_assert_uint_eq(area()->preempted, KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].flags & UMBRA_RUN_FLUSH_TLB, UMBRA_RUN_FLUSH_TLB);
}
END_TEST

/* An instruction that is half-done goes on with the translations that it had: nobody may take its TLB as flushed. */
START_TEST(no_mark_half_done)
{
	static const uint8_t load[] = { 0xa1, 0x00, 0x00, 0x00, 0xd0 }; /* mov eax, [DEVICE] */
	struct fake_step *step = fake_push(&m.fake, VMEXIT_MEM, 0);

	machine_code(load, sizeof(load));
	step->exit.mem.gpa = DEVICE;
	step->exit.mem.access = UMBRA_MEM_READ;
	machine_run(0, KVM_EXIT_MMIO);
	ck_assert_uint_eq(area()->preempted, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
}
END_TEST

struct caller {
	bool flush;   /* asks for a flush, as a guest does: of a vCPU that is marked */
	bool flushed; /* it was marked */
};

static void *call_later(void *arg)
{
	struct timespec pause = { 0, 3000000 };
	struct caller *caller = arg;
	uint8_t marked = KVM_VCPU_PREEMPTED;

	nanosleep(&pause, NULL);
	if (caller->flush)
		caller->flushed = __atomic_compare_exchange_n(&area()->preempted, &marked,
							      KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB, false,
							      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	turns_let_go(m.vcpu);
	return NULL;
}

#define ATTEMPTS 200 /* a loaded machine may run the other thread late, or this one */

/* One wait, which another thread ends (0: none does): ns that it took. */
static uint64_t turn_wait(int which)
{
	struct caller caller = { .flush = which == 2 };
	uint64_t begun = now_ns(), took;
	uint32_t ticket = m.vm.turns.ticket;
	pthread_t thread;

	m.run->flags = 0;
	m.vcpu->turn.since = 0;
	if (which)
		pthread_create(&thread, NULL, call_later, &caller);
	turns_look(m.vcpu);
	took = now_ns() - begun;
	if (which)
		pthread_join(thread, NULL);
	ck_assert_uint_eq(m.vm.turns.ticket, ticket + 1);
	ck_assert_uint_eq(m.vm.turns.parked, 0);
	ck_assert_uint_eq(m.vm.turns.running, 2);
	ck_assert_uint_eq(area()->preempted, 0);
	ck_assert_uint_eq(m.run->flags & UMBRA_RUN_FLUSH_TLB, caller.flushed ? UMBRA_RUN_FLUSH_TLB : 0);
	return !caller.flush || caller.flushed ? took : UINT64_MAX;
}

/* Its turn is over while another one runs: parked and marked, until it is called or has waited long enough. */
START_TEST(turn_is_over)
{
	uint64_t took = UINT64_MAX;

	m.vm.turns.cpus = 1;
	m.vm.turns.until = UINT64_MAX;
	m.vm.turns.running = 1;		/* the other one */
	m.vm.info.tsc_khz = UINT32_MAX; /* a turn of seconds */
	turns_begin(m.vcpu);
	turns_look(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.ticket, 0); /* not yet over */
	m.vm.info.tsc_khz = 1;
	switch (_i) {
	case 0:
		ck_assert_uint_ge(turn_wait(0), 25000000);
		break;
	case 1:
	case 2:
		for (int i = 0; i < ATTEMPTS && took >= 25000000; i++) {
			took = turn_wait(_i);
			ck_assert_uint_ge(took, 3000000);
		}
		ck_assert_uint_lt(took, 25000000);
		break;
	default:
		atomic_fetch_or(&m.vcpu->requests, VCPU_REQ_STOP); /* the VMM does not wait */
		for (int i = 0; i < ATTEMPTS && took >= 25000000; i++)
			took = turn_wait(0);
		ck_assert_uint_lt(took, 25000000);
	}
	turns_end(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.running, 1);
}
END_TEST

/* A vCPU that spins gives its turn away at once, and waits for less long. */
START_TEST(spinner_gives_its_turn)
{
	uint64_t begun, took = UINT64_MAX;

	m.vm.turns.cpus = 1;
	m.vm.turns.until = UINT64_MAX;
	m.vm.info.tsc_khz = UINT32_MAX;
	turns_begin(m.vcpu);
	ck_assert(!turns_spin(m.vcpu)); /* there is nobody who could have it */
	turns_look(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.ticket, 0);
	if (_i)
		m.vm.turns.running++;
	else
		m.vm.turns.parked = 1; /* another one that spins */
	for (unsigned int i = 1; i <= ATTEMPTS && took >= 25000000; i++) {
		begun = now_ns();
		ck_assert(turns_spin(m.vcpu));
		turns_look(m.vcpu);
		took = now_ns() - begun;
		ck_assert_uint_eq(m.vm.turns.ticket, i);
		ck_assert_uint_ge(took, 4000000);
		ck_assert_uint_eq(m.vm.turns.workers, 0);
		ck_assert_uint_eq(m.vm.turns.parked, !_i);
	}
	ck_assert_uint_lt(took, 25000000);
	/* Back again it is like any other. */
	begun = now_ns();
	m.vm.turns.workers = m.vm.turns.parked = 1;
	m.vcpu->turn.since = 0;
	m.vm.turns.ticket = 1;
	turns_look(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.ticket, 2);
	ck_assert_uint_ge(now_ns() - begun, 25000000);
}
END_TEST

/* Nobody ends his turn for those who spin, but for others. */
START_TEST(worker_keeps_its_turn)
{
	m.vm.turns.cpus = 1;
	m.vm.turns.until = UINT64_MAX;
	turns_begin(m.vcpu);
	m.vm.turns.parked = 3;
	m.vcpu->turn.since = 0;
	turns_look(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.ticket, 0);
	ck_assert_uint_gt(m.vcpu->turn.since, 0); /* a new turn */
	m.vm.turns.workers = 1;
	m.vcpu->turn.since = 0;
	turns_look(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.ticket, 1);
	ck_assert_uint_eq(m.vm.turns.parked, 3);
	ck_assert_uint_eq(m.vm.turns.workers, 1);
}
END_TEST

/* Only while there are signs that they need to: an interrupt for several that is taken late, a loop of PAUSEs. */
START_TEST(turns_when_needed)
{
	struct apic_msg msg = { .dest = 0, .vector = 0x40, .several = _i != 1 };
	static struct vcpu sender;

	m.vm.turns.cpus = 1;
	m.vm.turns.running = 1;
	m.vm.info.tsc_khz = 1000000; /* the real one only changes how long it is */
	m.vcpu->in_guest = 1;
	turns_begin(m.vcpu);
	ck_assert(!m.vcpu->turn.counted);
	lapic_mmio_write(m.vcpu, 0xf0, 4, (const uint8_t[4]) { 0xff, 0x01, 0, 0 });
	if (_i < 3) {
		ck_assert_int_eq(apic_deliver(&m.vm, &sender, &msg), 2);
		ck_assert_int_eq(m.vcpu->turn.asked != 0, _i != 1);
		if (_i != 2)
			usleep(20000);
		else
			m.vcpu->turn.asked = cpu_rdtsc(); /* taken at once */
		turns_taken(m.vcpu);
		ck_assert_uint_eq(m.vcpu->turn.asked, 0);
	} else {
		turns_spin(m.vcpu);
	}
	turns_look(m.vcpu);
	ck_assert_int_eq(m.vcpu->turn.counted, _i == 0 || _i == 3);
	m.vm.turns.until = cpu_rdtsc(); /* the signs are old */
	m.vcpu->turn.since = 0;
	turns_look(m.vcpu);
	ck_assert(!m.vcpu->turn.counted);
	ck_assert_uint_eq(m.vm.turns.ticket, 0);
	ck_assert_uint_eq(m.vm.turns.running, 1);
}
END_TEST

static void send_ipi(uint64_t bitmap)
{
	m.run->gpr[UMBRA_RAX] = KVM_HC_SEND_IPI;
	m.run->gpr[UMBRA_RBX] = bitmap;
	m.run->gpr[UMBRA_RCX] = m.run->gpr[UMBRA_RDX] = 0;
	m.run->gpr[UMBRA_RSI] = 0x40;
	ck_assert_int_eq(exit_hypercall(m.vcpu), EXIT_RESUME);
}

/* While they do, interrupts for several keep them at it if they come often. One alone does not, however many it is for. */
START_TEST(turns_go_on)
{
	uint64_t until;

	m.vm.turns.cpus = 1;
	m.vm.info.tsc_khz = 1000000000; /* what is often takes seconds of the real TSC's */
	until = cpu_rdtsc() + (1ull << 36);
	m.vm.turns.until = until;
	send_ipi(_i == 2 ? 1 : 3);
	ck_assert_uint_eq(m.vm.turns.until, until);
	if (_i)
		send_ipi(_i == 2 ? 1 : 3);
	ck_assert_int_eq(m.vm.turns.until > until, _i == 1);
}
END_TEST

/* As many CPUs as vCPUs: nobody takes turns. */
START_TEST(no_turns)
{
	m.vm.turns.cpus = 2;
	turns_begin(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.running, 0);
	m.vcpu->turn.since = 0;
	turns_look(m.vcpu);
	ck_assert_uint_eq(m.vm.turns.ticket, 0);
}
END_TEST

/* One vCPU alone has nobody who would look. */
START_TEST(no_mark_alone)
{
	m.vm.vcpus = 1;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(area()->preempted, 0);
}
END_TEST

/* INIT takes the addresses away that the guest has given. */
START_TEST(init_switches_off)
{
	uint64_t value = 1;

	ck_assert_int_eq(msr_write(m.vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0x4001, false), 0);
	m.vcpu->lapic.init_pending = 1;
	m.vcpu->pv_unhalt = 1;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.vcpu->mp_state, KVM_MP_STATE_RUNNABLE); /* the BSP */
	ck_assert_int_eq(msr_read(m.vcpu, MSR_KVM_STEAL_TIME, &value, false), 0);
	ck_assert_uint_eq(value, 0);
	ck_assert_int_eq(msr_read(m.vcpu, MSR_KVM_SYSTEM_TIME_NEW, &value, false), 0);
	ck_assert_uint_eq(value, 0);
	ck_assert_uint_eq(m.vcpu->pv_unhalt, 0);
	ck_assert_uint_eq(area()->preempted, 0);
}
END_TEST

/* A kick ends a halt with interrupts off; one that comes before ends the next. */
START_TEST(unhalt)
{
	m.run->rflags &= ~X86_RFLAGS_IF;
	if (!_i)
		fake_push(&m.fake, VMEXIT_HLT, 1);
	else
		m.vcpu->mp_state = KVM_MP_STATE_AP_RESET_HOLD;
	m.vcpu->pv_unhalt = 1;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.vcpu->mp_state, KVM_MP_STATE_RUNNABLE);
	ck_assert_uint_eq(m.vcpu->pv_unhalt, 0);
}
END_TEST

START_TEST(hypercalls)
{
	static const struct {
		uint64_t nr, rbx, rcx, rdx, rsi;
		int64_t rax;
	} rows[] = {
		{ KVM_HC_KICK_CPU, 0, 7, 0, 0, 0 },	/* nobody of that name */
		{ KVM_HC_SCHED_YIELD, 0, 0, 0, 0, 0 },	/* itself */
		{ KVM_HC_SCHED_YIELD, 9, 0, 0, 0, 0 },	/* nobody */
		{ KVM_HC_SEND_IPI, 1, 0, 0, 0x30, 1 },	/* itself, fixed */
		{ KVM_HC_SEND_IPI, 1, 0, 0, 0x400, 1 }, /* itself, NMI */
		{ KVM_HC_SEND_IPI, 2, 0, 0, 0x30, 0 },	/* nobody */
		{ KVM_HC_SEND_IPI, 1, 0, 0, 0x530, -KVM_EINVAL },
		{ KVM_HC_CLOCK_PAIRING, AREA, 0, 0, 0, -KVM_ENOSYS },
	};

	m.vm.vcpus = 1;
	atomic_store(&m.vcpu->steal.on, false);
	ck_assert(lapic_mmio_write(m.vcpu, 0xf0, 4, &(uint32_t) { 0x1ff }));
	m.run->gpr[UMBRA_RAX] = rows[_i].nr;
	m.run->gpr[UMBRA_RBX] = rows[_i].rbx;
	m.run->gpr[UMBRA_RCX] = rows[_i].rcx;
	m.run->gpr[UMBRA_RDX] = rows[_i].rdx;
	m.run->gpr[UMBRA_RSI] = rows[_i].rsi;
	fake_push(&m.fake, VMEXIT_HYPERCALL, _i & 1 ? 3 : 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], (uint32_t)rows[_i].rax);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
}
END_TEST

/* A TSC of its own: the clock's pages still agree, but nobody may use another vCPU's. */
START_TEST(clock_stable)
{
	struct umbra_run other = *m.run;
	struct vcpu second = { .vm = &m.vm, .run = &other, .id = 1 };
	uint8_t *flags = m.ram + 0x4000 + 29;

	m.vm.vcpu[1] = &second;
	ck_assert_int_eq(msr_write(m.vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0x4001, false), 0);
	ck_assert_uint_eq(*flags & 1, 1);
	ck_assert_int_eq(msr_write(m.vcpu, 0x10, 12345, false), 0); /* the TSC */
	ck_assert_uint_eq(second.requests, VCPU_REQ_CLOCK);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(*flags & 1, 0);
	other.tsc_offset = m.run->tsc_offset;
	vcpu_notify(m.vcpu, VCPU_REQ_CLOCK);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(*flags & 1, 1);
}
END_TEST

Suite *suite_pv(void)
{
	Suite *suite = suite_create("pv");
	TCase *tcase = tcase_create("pv");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, steal_msr);
	tcase_add_loop_test(tcase, steal_counts, 0, 5);
	tcase_add_loop_test(tcase, mark, 0, 2);
	tcase_add_test(tcase, mark_stays);
	tcase_add_test(tcase, no_mark_half_done);
	tcase_add_loop_test(tcase, turn_is_over, 0, 4);
	tcase_add_loop_test(tcase, spinner_gives_its_turn, 0, 2);
	tcase_add_test(tcase, worker_keeps_its_turn);
	tcase_add_loop_test(tcase, turns_when_needed, 0, 4);
	tcase_add_loop_test(tcase, turns_go_on, 0, 3);
	tcase_add_test(tcase, no_turns);
	tcase_add_test(tcase, no_mark_alone);
	tcase_add_test(tcase, init_switches_off);
	tcase_add_loop_test(tcase, unhalt, 0, 2);
	tcase_add_loop_test(tcase, hypercalls, 0, 8);
	tcase_add_test(tcase, clock_stable);
	suite_add_tcase(suite, tcase);
	return suite;
}
