// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's vector and x87 registers are the calling thread's. They must survive every kind of exit, preemption
 * by other users of the FPU, signals and migration; and neither side may ever see the other's.
 */
#include "fpu_loop.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define GPA_PATTERN GPA_DATA
#define GPA_SCRATCH (GPA_DATA + 0x1000)
#define GPA_DROP (GPA_DATA + 0x2000)

static struct shared {
	volatile int stop;
	volatile uint64_t hog_rounds, hog_errors;
} * shared;

static void pattern_write(unsigned char *at, uint64_t seed)
{
	static const double number = 3.25;
	uint32_t mxcsr = 0x1f80, control = 0x037f;

	for (int i = 0; i < 64; i++) {
		uint64_t word = random_next(&seed);

		memcpy(at + 8 * i, &word, 8);
	}
	if (seed & 1)
		mxcsr = 0x7f80; /* round to zero */
	if (seed & 2)
		control = 0x0f7f; /* rounding only: QEMU 7.2 lets the precision act on loads */
	memcpy(at + 512, &mxcsr, 4);
	memcpy(at + 516, &control, 4);
	memcpy(at + 520, &number, 8);
}

static int has_avx(void)
{
	return (info()->guest_xcr0 & 6) == 6;
}

static struct snippet fpu_code(void)
{
	return has_avx() ? SNIPPET(fpu_avx) : SNIPPET(fpu_sse);
}

static void fpu_guest(struct guest *g, uint64_t rounds, uint64_t seed)
{
	struct snippet code = fpu_code();
	unsigned char *at;
	struct umbra_run *run;

	guest_new(g, MODE_LONG64, code);
	run = g->vcpu.run;
	pattern_write(g->vm.mem + GPA_PATTERN, seed);
	memset(g->vm.mem + GPA_SCRATCH, 0, 4096);
	if (info()->hw == UMBRA_HW_SVM) /* VMMCALL in place of VMCALL */
		for (at = g->vm.mem + GPA_CODE; at < g->vm.mem + GPA_CODE + (code.end - code.start) - 3; at++)
			if (at[0] == 0x0f && at[1] == 0x01 && at[2] == 0xc1)
				at[2] = 0xd9;
	run->intercepts = UMBRA_ICPT_HLT;
	run->exceptions = 1 << 6 | 1 << 3;
	run->xcr0 = has_avx() ? 7 : run->xcr0;
	if (info()->guest_xcr0)
		run->cr4 |= 1 << 18;
	run->gpr[UMBRA_RSI] = GPA_PATTERN;
	run->gpr[UMBRA_RDI] = GPA_SCRATCH;
	run->gpr[10] = GPA_DROP;
	run->gpr[11] = GPA_HOLE;
	run->gpr[12] = rounds;
}

/* ---- those who use the FPU too ---- */

#define HOG_REGISTERS(op) \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define HOG_LOAD(n) "movups " #n "*16(%0), %%xmm" #n "\n"
#define HOG_STORE(n) "movups %%xmm" #n ", " #n "*16(%1)\n"

/* Registers of its own, through time slices and system calls; a guest's in them would show. */
static void hog(unsigned int seed)
{
	uint64_t in[32], out[32], state = seed;

	while (!shared->stop) {
		for (int i = 0; i < 32; i++)
			in[i] = random_next(&state);
		asm volatile(HOG_REGISTERS(HOG_LOAD) "mov $20000, %%ecx\n"
						     "1: dec %%ecx\n"
						     "jnz 1b\n"
						     "mov $24, %%eax\n" /* sched_yield */
						     "syscall\n" HOG_REGISTERS(HOG_STORE)
			     :
			     : "r"(in), "r"(out)
			     : "rax", "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
		if (memcmp(in, out, sizeof(in)))
			__atomic_add_fetch(&shared->hog_errors, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&shared->hog_rounds, 1, __ATOMIC_RELAXED);
	}
	_exit(0);
}

static void hogs_start(pid_t *pids, int count)
{
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(shared != MAP_FAILED, "shared page");
	for (int i = 0; i < count; i++) {
		pids[i] = fork();
		need(pids[i] >= 0, "fork");
		if (!pids[i]) {
			cpu_pin(i % cpu_count_online());
			hog(1000 + (unsigned int)i);
		}
	}
}

static void hogs_end(const pid_t *pids, int count)
{
	shared->stop = 1;
	for (int i = 0; i < count; i++)
		waitpid(pids[i], NULL, 0);
	check(!shared->hog_errors, "other processes saw foreign registers %llu times in %llu",
	      (unsigned long long)shared->hog_errors, (unsigned long long)shared->hog_rounds);
	check(shared->hog_rounds > 0, "the other processes did nothing");
}

/* ---- tests ---- */

static void result_check(struct guest *g, const struct fpu_loop *loop, uint64_t rounds)
{
	const struct umbra_run *run = g->vcpu.run;

	need(!loop->error, "loop: %d (%s)", loop->error, vcpu_describe(&g->vcpu));
	check(run->gpr[13] == rounds, "%llu rounds of %llu", (unsigned long long)run->gpr[13],
	      (unsigned long long)rounds);
	check(!run->gpr[15],
	      "the guest's registers were wrong %llu times in %llu rounds, last after exit kind %llu in word %llu",
	      (unsigned long long)run->gpr[15], (unsigned long long)rounds, (unsigned long long)run->gpr[14],
	      (unsigned long long)run->gpr[9]);
}

static void fpu_alone(void)
{
	uint64_t want = 1 << VMEXIT_IO | 1 << VMEXIT_MEM | 1 << VMEXIT_CPUID | 1 << VMEXIT_RDMSR | 1 << VMEXIT_WRMSR |
			1 << VMEXIT_HLT | 1 << VMEXIT_CR | 1 << VMEXIT_DR | 1 << VMEXIT_XSETBV | 1 << VMEXIT_EXCEPTION |
			1 << VMEXIT_WBINVD | 1 << VMEXIT_RDPMC | 1 << VMEXIT_HYPERCALL;
	struct fpu_loop loop = { 0 };
	struct guest g;

	fpu_guest(&g, 20, 5);
	loop.vcpu = &g.vcpu;
	loop.code = fpu_code();
	loop.drop_every = 7;
	loop.drop = g.vm.mem + GPA_DROP;
	fpu_loop_run(&loop);
	result_check(&g, &loop, 20);
	if (is_svm() && !(loop.seen & 1 << VMEXIT_XSETBV)) {
		note("this CPU has no exit for XSETBV");
		want &= ~(1ULL << VMEXIT_XSETBV);
	}
	check((loop.seen & want) == want, "exit kinds not seen: %llx", (unsigned long long)(want & ~loop.seen));
}

struct guest_thread {
	pthread_t thread;
	struct guest guest;
	struct fpu_loop loop;
	int cpu;
};

static void *guest_thread(void *arg)
{
	struct guest_thread *t = arg;

	if (t->cpu >= 0)
		cpu_pin(t->cpu);
	fpu_loop_run(&t->loop);
	return NULL;
}

/* Two guests and four other processes on the CPUs there are, with a signal now and then. */
static void fpu_crowd(void)
{
	uint64_t rounds = scaled(300);
	struct guest_thread t[2];
	pid_t pids[4];
	struct sigaction action = { .sa_handler = fpu_loop_signal };
	unsigned long sent = 0;

	memset(t, 0, sizeof(t));
	hogs_start(pids, 4);
	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < 2; i++) {
		fpu_guest(&t[i].guest, rounds, 77 + (uint64_t)i);
		t[i].loop = (struct fpu_loop) { .vcpu = &t[i].guest.vcpu,
						.code = fpu_code(),
						.drop_every = 11 + (uint64_t)i,
						.drop = t[i].guest.vm.mem + GPA_DROP };
		t[i].cpu = i % cpu_count_online();
		need(!pthread_create(&t[i].thread, NULL, guest_thread, &t[i]), "thread");
	}
	for (int running = 3; running; usleep(3000)) {
		for (int i = 0; i < 2; i++) {
			if (!(running & 1 << i))
				continue;
			if (!pthread_tryjoin_np(t[i].thread, NULL)) {
				running &= ~(1 << i);
				continue;
			}
			if (!pthread_kill(t[i].thread, SIGUSR1))
				sent++;
		}
	}
	for (int i = 0; i < 2; i++)
		result_check(&t[i].guest, &t[i].loop, rounds);
	hogs_end(pids, 4);
	note("fpu: %llu and %llu exits, %lu signals sent, %lu handled, %llu rounds of other processes",
	     (unsigned long long)t[0].loop.exits, (unsigned long long)t[1].loop.exits, sent, fpu_loop_signals,
	     (unsigned long long)shared->hog_rounds);
	check(fpu_loop_signals > 0 || rounds < 50, "no signal arrived");
}

static void fpu_migrate(void)
{
	uint64_t rounds = scaled(100);
	struct guest_thread t = { .cpu = -1 };
	pid_t pids[2];

	if (cpu_count_online() < 2)
		skip_test("one CPU only");
	hogs_start(pids, 2);
	fpu_guest(&t.guest, rounds, 99);
	t.loop = (struct fpu_loop) { .vcpu = &t.guest.vcpu, .code = fpu_code() };
	need(!pthread_create(&t.thread, NULL, guest_thread, &t), "thread");
	for (unsigned int i = 0; pthread_tryjoin_np(t.thread, NULL); i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(i & 1, &set);
		pthread_setaffinity_np(t.thread, sizeof(set), &set);
		usleep(2000);
	}
	result_check(&t.guest, &t.loop, rounds);
	hogs_end(pids, 2);
}

/* The test can fail: a user side that spoils a register is noticed, each time. */
static void fpu_negative_control(void)
{
	struct fpu_loop loop = { .clobber_every = 5 };
	struct guest g;

	fpu_guest(&g, 10, 3);
	loop.vcpu = &g.vcpu;
	loop.code = fpu_code();
	fpu_loop_run(&loop);
	need(!loop.error, "loop: %d", loop.error);
	check(g.vcpu.run->gpr[15] >= 20, "spoilt registers noticed only %llu times in %llu exits",
	      (unsigned long long)g.vcpu.run->gpr[15], (unsigned long long)loop.exits);
}

/* XCR0 differs between guest and host: each has its own. */
static void fpu_xcr0(void)
{
	uint32_t low, high, again, again_high;
	struct guest g;

	if (!info()->guest_xcr0)
		skip_test("no XSAVE");
	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	for (int i = 0; i < 200; i++) {
		g.vcpu.run->xcr0 = i & 1 ? 1 : info()->guest_xcr0;
		g.vcpu.run->cr4 |= 1 << 18;
		g.vcpu.run->want = UMBRA_STATE_CR;
		g.vcpu.run->dirty |= UMBRA_STATE_CR;
		vcpu_expect_io(&g.vcpu, 0x80, "xcr0");
		asm volatile("xgetbv" : "=a"(again), "=d"(again_high) : "c"(0));
		need(again == low && again_high == high, "the host's XCR0 is %x after a guest", again);
		need(g.vcpu.run->xcr0 == (i & 1 ? 1 : info()->guest_xcr0), "the guest's XCR0 is %llx",
		     (unsigned long long)g.vcpu.run->xcr0);
		vcpu_skip(&g.vcpu);
		if (!(i % 20))
			usleep(1);
	}
}

int fpu_main(void)
{
	static const struct test tests[] = {
		{ "alone", fpu_alone, 30 },	 { "negative_control", fpu_negative_control, 30 },
		{ "xcr0", fpu_xcr0, 20 },	 { "crowd", fpu_crowd, 180 },
		{ "migrate", fpu_migrate, 120 },
	};

	return run_tests("fpu", tests, ARRAY_SIZE(tests));
}
