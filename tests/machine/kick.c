// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Kicks and signals in every phase of RUN: none lost (each is seen within a bounded time), none invented (no more
 * UMBRA_EXIT_INTERRUPTED than kicks and signals). glibc's rseq also makes RUN return; main() runs these without.
 */
#include "lib.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

struct runner {
	pthread_t thread;
	struct guest guest;
	volatile uint64_t interrupted, exits, runs;
	volatile int stop;
	int cpu, nap; /* nap: leave the RUN loop for a moment now and then */
};

static void *runner_thread(void *arg)
{
	struct runner *r = arg;
	struct vcpu *v = &r->guest.vcpu;

	if (r->cpu >= 0)
		cpu_pin(r->cpu);
	while (!r->stop) {
		int error = vcpu_run(v);

		need(!error, "RUN: %s", strerror(-error));
		r->runs++;
		if (v->exit.reason == VMEXIT_INTERRUPTED) {
			r->interrupted++;
		} else {
			need(v->exit.reason == VMEXIT_IO, "%s", vcpu_describe(v));
			r->exits++;
			vcpu_skip(v);
		}
		if (r->nap && !(r->runs % 16))
			sched_yield();
	}
	return NULL;
}

static void runner_start(struct runner *r, struct snippet code, int cpu)
{
	memset(r, 0, sizeof(*r));
	guest_new(&r->guest, MODE_LONG64, code);
	r->cpu = cpu;
	need(!pthread_create(&r->thread, NULL, runner_thread, r), "thread");
}

static void runner_end(struct runner *r)
{
	r->stop = 1;
	for (int i = 0; i < 2000; i++) {
		vcpu_kick(&r->guest.vcpu);
		if (!pthread_tryjoin_np(r->thread, NULL))
			return;
		usleep(1000);
	}
	fail("the thread in RUN does not end though kicked");
}

/* Waits until *count has passed before; yields so that one CPU is enough. */
static int seen(volatile uint64_t *count, uint64_t before)
{
	uint64_t end = time_ms() + 5000;

	for (unsigned int spins = 0; *count == before; spins++) {
		if (spins < 200 && cpu_count_online() > 1)
			__builtin_ia32_pause();
		else
			sched_yield();
		if (!(spins & 1023) && time_ms() > end)
			return 0;
	}
	return 1;
}

/*
 * How often RUN may return without a kick since start: never, but from Linux 6.3 on the scheduler gives each thread a
 * task work of its own (mm_cid) every 100 ms, and such work is done on the way to user space only.
 */
static uint64_t spare(uint64_t start)
{
	static int strict = -1;
	struct utsname name;

	if (strict < 0) {
		unsigned int major = 0, minor = 0;

		uname(&name);
		sscanf(name.release, "%u.%u", &major, &minor);
		strict = major < 6 || (major == 6 && minor < 3);
	}
	return strict ? 0 : 2 + (time_ms() - start) / 50;
}

static void kick_rounds(struct runner *r, uint64_t kicks, const char *what)
{
	uint64_t start = r->interrupted, began = time_ms(), before;

	for (uint64_t i = 0; i < kicks; i++) {
		before = r->interrupted;
		need(!vcpu_kick(&r->guest.vcpu), "KICK");
		need(seen(&r->interrupted, before), "%s: kick %llu of %llu was lost", what, (unsigned long long)i,
		     (unsigned long long)kicks);
	}
	usleep(20000);
	check(r->interrupted - start >= kicks && r->interrupted - start <= kicks + spare(began),
	      "%s: %llu kicks, %llu times INTERRUPTED", what, (unsigned long long)kicks,
	      (unsigned long long)(r->interrupted - start));
}

/* An interrupt between QEMU's emulated CPUs takes milliseconds when the machine below is busy. */
static uint64_t round_trips(void)
{
	return scaled(is_svm() ? 2000 : 40000);
}

/* In the guest, which does nothing else; the next RUN begins while the next kick comes. */
static void kick_spin(void)
{
	uint64_t start = time_ms(), kicks = round_trips();
	struct runner r;

	runner_start(&r, SNIPPET(spin), cpu_count_online() > 1 ? 1 : -1);
	if (cpu_count_online() > 1)
		cpu_pin(0);
	kick_rounds(&r, kicks, "spin");
	runner_end(&r);
	note("%llu kicks in %llu ms", (unsigned long long)kicks, (unsigned long long)(time_ms() - start));
}

static void kick_exits(void)
{
	uint64_t kicks = round_trips();
	struct runner r;

	runner_start(&r, SNIPPET(out_loop), cpu_count_online() > 1 ? 1 : -1);
	if (cpu_count_online() > 1)
		cpu_pin(0);
	r.nap = 1;
	kick_rounds(&r, kicks, "exits");
	check(r.exits > 0, "no exits in between");
	note("%llu exits meanwhile", (unsigned long long)r.exits);
	runner_end(&r);
}

/* Both on one CPU. */
static void kick_one_cpu(void)
{
	struct runner r;

	cpu_pin(0);
	runner_start(&r, SNIPPET(spin), 0);
	kick_rounds(&r, scaled(300), "one CPU");
	runner_end(&r);
}

/* Before RUN: kept for it, however many, and used up by it. */
static void kick_before(void)
{
	uint64_t rounds = scaled(20000), began = time_ms(), invented = 0;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (uint64_t i = 0; i < rounds; i++) {
		for (uint64_t k = 0; k <= i % 3; k++)
			vcpu_kick(&g.vcpu);
		need(!vcpu_run(&g.vcpu), "RUN");
		need(g.vcpu.exit.reason == VMEXIT_INTERRUPTED, "round %llu: lost: %s", (unsigned long long)i,
		     vcpu_describe(&g.vcpu));
		need(!vcpu_run(&g.vcpu), "RUN");
		while (g.vcpu.exit.reason == VMEXIT_INTERRUPTED && ++invented <= spare(began))
			need(!vcpu_run(&g.vcpu), "RUN");
		need(g.vcpu.exit.reason == VMEXIT_IO, "round %llu: invented: %s", (unsigned long long)i,
		     vcpu_describe(&g.vcpu));
		vcpu_skip(&g.vcpu);
	}
	/* Nothing was entered: the guest's counter counts the OUTs only. */
	check(g.vcpu.run->gpr[UMBRA_RAX] == rounds - 1, "the guest did %llu rounds",
	      (unsigned long long)g.vcpu.run->gpr[UMBRA_RAX]);
	/* NO_ENTRY does not eat a kick. */
	vcpu_kick(&g.vcpu);
	g.vcpu.run->flags = UMBRA_RUN_NO_ENTRY;
	need(!vcpu_run(&g.vcpu), "RUN");
	check(g.vcpu.exit.reason == VMEXIT_NONE || g.vcpu.exit.reason == VMEXIT_INTERRUPTED, "no entry: %s",
	      vcpu_describe(&g.vcpu));
	if (g.vcpu.exit.reason == VMEXIT_NONE) {
		need(!vcpu_run(&g.vcpu), "RUN");
		check(g.vcpu.exit.reason == VMEXIT_INTERRUPTED, "after no entry: %s", vcpu_describe(&g.vcpu));
	}
}

/* Nobody waits for anybody: two kickers against one vCPU. */
struct storm {
	pthread_t thread;
	struct vcpu *vcpu;
	uint64_t kicks;
};

static void *storm_thread(void *arg)
{
	struct storm *s = arg;
	uint64_t seed = (uintptr_t)s | 1;

	for (uint64_t i = 0; i < s->kicks; i++) {
		vcpu_kick(s->vcpu);
		for (uint64_t n = random_next(&seed) & 255; n; n--)
			__builtin_ia32_pause();
		if (!(i & 63))
			sched_yield();
	}
	return NULL;
}

static void kick_storm(void)
{
	struct storm s[2];
	struct runner r;
	uint64_t before;

	runner_start(&r, SNIPPET(out_loop), -1);
	for (int i = 0; i < 2; i++) {
		s[i] = (struct storm) { .vcpu = &r.guest.vcpu, .kicks = scaled(20000) };
		need(!pthread_create(&s[i].thread, NULL, storm_thread, &s[i]), "thread");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(s[i].thread, NULL);
	usleep(20000);
	check(r.interrupted > 0 && r.interrupted <= s[0].kicks + s[1].kicks, "%llu times INTERRUPTED for %llu kicks",
	      (unsigned long long)r.interrupted, (unsigned long long)(s[0].kicks + s[1].kicks));
	before = r.interrupted;
	vcpu_kick(&r.guest.vcpu);
	check(seen(&r.interrupted, before), "the kick after the storm was lost");
	note("storm: %llu kicks, %llu INTERRUPTED, %llu exits", (unsigned long long)(s[0].kicks + s[1].kicks),
	     (unsigned long long)r.interrupted, (unsigned long long)r.exits);
	runner_end(&r);
}

static volatile uint64_t handled;

static void on_signal(int signal)
{
	(void)signal;
	handled++;
}

static void kick_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	uint64_t count = round_trips() / 8, began = time_ms(), before;
	struct runner r;

	sigaction(SIGUSR1, &action, NULL);
	runner_start(&r, SNIPPET(spin), cpu_count_online() > 1 ? 1 : -1);
	usleep(10000);
	for (uint64_t i = 0; i < count; i++) {
		before = handled;
		pthread_kill(r.thread, SIGUSR1);
		need(seen(&handled, before), "signal %llu does not end RUN", (unsigned long long)i);
	}
	usleep(20000);
	check(handled == count, "%llu signals, %llu handled", (unsigned long long)count, (unsigned long long)handled);
	check(r.interrupted <= count + spare(began), "%llu signals, %llu times INTERRUPTED", (unsigned long long)count,
	      (unsigned long long)r.interrupted);
	check(r.interrupted >= count / 2, "only %llu of %llu signals came in RUN", (unsigned long long)r.interrupted,
	      (unsigned long long)count);
	runner_end(&r);
}

/* Many reschedules, no kick: RUN must not come back for them. */
static void kick_none(void)
{
	uint64_t began = time_ms(), end = began + scaled(1500), rounds = 0;
	struct runner r;

	runner_start(&r, SNIPPET(spin), 0);
	cpu_pin(0);
	while (time_ms() < end) {
		for (volatile int i = 0; i < 20000; i++)
			;
		sched_yield();
		rounds++;
	}
	check(r.interrupted <= spare(began), "%llu times INTERRUPTED without a kick in %llu yields",
	      (unsigned long long)r.interrupted, (unsigned long long)rounds);
	check(!r.exits, "an exit: %s", vcpu_describe(&r.guest.vcpu));
	runner_end(&r);
}

int kick_main(void)
{
	static const struct test tests[] = {
		{ "none", kick_none, 30 },	  { "before", kick_before, 60 }, { "one_cpu", kick_one_cpu, 120 },
		{ "spin", kick_spin, 180 },	  { "exits", kick_exits, 180 },	 { "storm", kick_storm, 120 },
		{ "signals", kick_signals, 120 },
	};

	return run_tests("kick", tests, ARRAY_SIZE(tests));
}
