// SPDX-License-Identifier: GPL-2.0-or-later
/* Threads that move, CPUs that go, processes that die, descriptors in every order. */
#include "life.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* The same function as the snippet "checksum". */
static uint64_t checksum_host(const uint64_t *words, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		sum ^= words[i];
		sum *= 0x9e3779b97f4a7c15;
		sum = sum << 23 | sum >> 41;
	}
	return sum;
}

static void migrate_between(void)
{
	struct guest g;
	uint64_t rounds = scaled(2000);

	if (cpu_count_online() < 2)
		skip_test("one CPU only");
	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (uint64_t i = 0; i < rounds; i++) {
		cpu_pin((int)(i & 1));
		vcpu_expect_io(&g.vcpu, 0x80, "migrate");
		need(g.vcpu.run->gpr[UMBRA_RAX] == i, "RAX %llx, want %llx",
		     (unsigned long long)g.vcpu.run->gpr[UMBRA_RAX], (unsigned long long)i);
		vcpu_skip(&g.vcpu);
	}
}

struct counter_thread {
	pthread_t thread;
	struct guest guest;
	volatile int stop;
	volatile uint64_t returns;
};

static void *counter_run(void *arg)
{
	struct counter_thread *t = arg;

	while (!t->stop) {
		int error = vcpu_run(&t->guest.vcpu);

		need(!error, "RUN: %s", strerror(-error));
		need(t->guest.vcpu.exit.reason == VMEXIT_INTERRUPTED, "%s", vcpu_describe(&t->guest.vcpu));
		t->returns++;
	}
	return NULL;
}

static volatile uint64_t *counter_start(struct counter_thread *t)
{
	memset(t, 0, sizeof(*t));
	guest_new(&t->guest, MODE_LONG64, SNIPPET(spin_shared));
	t->guest.vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
	need(!pthread_create(&t->thread, NULL, counter_run, t), "thread");
	return (volatile uint64_t *)(t->guest.vm.mem + GPA_DATA);
}

static void counter_end(struct counter_thread *t)
{
	t->stop = 1;
	for (int i = 0; i < 3000; i++) {
		vcpu_kick(&t->guest.vcpu);
		if (!pthread_tryjoin_np(t->thread, NULL))
			return;
		usleep(1000);
	}
	fail("the vCPU does not end");
}

static void goes_on(volatile uint64_t *counter, const char *what)
{
	uint64_t before = *counter, end = time_ms() + 5000;

	while (*counter == before && time_ms() < end)
		usleep(500);
	need(*counter != before, "%s: the guest stands still", what);
}

/* Another thread moves it while it is in the guest. */
static void migrate_during(void)
{
	struct counter_thread t;
	volatile uint64_t *counter;

	if (cpu_count_online() < 2)
		skip_test("one CPU only");
	counter = counter_start(&t);
	for (uint64_t i = 0; i < scaled(300); i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(i & 1, &set);
		need(!pthread_setaffinity_np(t.thread, sizeof(set), &set), "setaffinity");
		goes_on(counter, "migration");
	}
	counter_end(&t);
}

static void cpu_offline(void)
{
	struct counter_thread t[2];
	volatile uint64_t *counter[2];
	const char *path = "/sys/devices/system/cpu/cpu1/online";

	if (cpu_count_online() < 2 || access(path, W_OK))
		skip_test("no CPU that can be taken offline");
	for (int i = 0; i < 2; i++)
		counter[i] = counter_start(&t[i]);
	for (uint64_t round = 0; round < scaled(5); round++) {
		struct guest extra;

		need(!file_write(path, "0"), "CPU 1 offline");
		for (int i = 0; i < 2; i++)
			goes_on(counter[i], "CPU 1 offline");
		guest_new(&extra, MODE_LONG64, SNIPPET(out_loop)); /* made while the CPU is away */
		vcpu_expect_io(&extra.vcpu, 0x80, "offline");
		need(!file_write(path, "1"), "CPU 1 online");
		cpu_pin(1);
		vcpu_skip(&extra.vcpu);
		vcpu_expect_io(&extra.vcpu, 0x80, "online again");
		cpu_pin(-1);
		for (int i = 0; i < 2; i++)
			goes_on(counter[i], "CPU 1 online");
		vcpu_destroy(&extra.vcpu);
		vm_destroy(&extra.vm);
	}
	for (int i = 0; i < 2; i++)
		counter_end(&t[i]);
	/* The last VM goes while the CPU is away; then it comes back without VMX, and a VM makes it on again. */
	need(!file_write(path, "0"), "CPU 1 offline");
	for (int i = 0; i < 2; i++) {
		vcpu_destroy(&t[i].guest.vcpu);
		vm_destroy(&t[i].guest.vm);
	}
	need(!file_write(path, "1"), "CPU 1 online");
	{
		struct guest last;

		cpu_pin(1);
		guest_new(&last, MODE_LONG64, SNIPPET(out_loop));
		vcpu_expect_io(&last.vcpu, 0x80, "afterwards");
	}
}

/* ---- kill -9 ---- */

static void victim_memory(struct guest *g)
{
	static unsigned int round;
	unsigned char *at = g->vm.mem + 0x100000;

	madvise(at, 0x10000, MADV_DONTNEED);
	memset(at, (int)round, 0x4000);
	vm_region(&g->vm, 5, round & 1 ? UMBRA_REGION_LOG_DIRTY : 0, GPA_HOLE + 0x200000, at, 0x10000);
	if (round++ & 4)
		vm_region(&g->vm, 5, 0, 0, NULL, 0);
}

static void *victim_second(void *arg)
{
	struct vcpu v;

	vcpu_create(&v, arg);
	vcpu_state(v.run, MODE_LONG64, GPA_CODE + 0x1000);
	guest_code(arg, GPA_CODE + 0x1000, SNIPPET(spin));
	for (;;)
		vcpu_run(&v);
	return NULL;
}

static void victim(void)
{
	pthread_t thread;
	struct guest g;

	for (;;) {
		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
		pthread_create(&thread, NULL, victim_second, &g.vm);
		for (int i = 0; i < 500; i++) {
			vcpu_expect_io(&g.vcpu, 0x80, "victim");
			vcpu_skip(&g.vcpu);
			if (!(i & 15))
				victim_memory(&g);
		}
	}
}

/* Another guest runs on and its sums stay right. */
static void kill_random(void)
{
	uint64_t seed = 99, want, count = scaled(100);
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(checksum));
	for (size_t i = 0; i < 512; i++)
		((uint64_t *)(g.vm.mem + GPA_DATA))[i] = random_next(&seed);
	want = checksum_host((uint64_t *)(g.vm.mem + GPA_DATA), 512);
	for (uint64_t i = 0; i < count; i++) {
		pid_t pid = fork();

		need(pid >= 0, "fork");
		if (!pid) {
			victim();
			_exit(0);
		}
		usleep((useconds_t)(random_next(&seed) % 30000));
		kill(pid, SIGKILL);
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(checksum));
		g.vcpu.run->gpr[UMBRA_RSI] = GPA_DATA;
		g.vcpu.run->gpr[UMBRA_RCX] = 512;
		vcpu_expect_io(&g.vcpu, PORT_DONE, "checksum");
		need(g.vcpu.run->gpr[UMBRA_RAX] == want, "the other guest's sum is wrong after kill %llu",
		     (unsigned long long)i);
		waitpid(pid, NULL, 0);
		need(counter_read("vms") == 1 && counter_read("vcpus") == 1, "kill %llu leaves %ld VMs, %ld vCPUs",
		     (unsigned long long)i, counter_read("vms"), counter_read("vcpus"));
	}
}

/* ---- closing ---- */

static void close_one(struct guest *g, int what)
{
	switch (what) {
	case 0:
		close(g->vm.dev);
		break;
	case 1:
		close(g->vm.fd);
		break;
	case 2:
		close(g->vcpu.fd);
		break;
	case 3:
		munmap(g->vcpu.run, info()->run_size);
		break;
	case 4:
		munmap(g->vm.mem, g->vm.size);
		break;
	}
}

/* All 120 orders of five closings, run before (odd) or not (even). */
static void close_orders(void)
{
	info();
	for (int order = 0; order < 120; order++) {
		int left[5] = { 0, 1, 2, 3, 4 }, n = order;
		struct guest g;

		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
		if (order & 1)
			vcpu_expect_io(&g.vcpu, 0x80, "before closing");
		for (int i = 5; i > 0; i--) {
			int at = n % i;

			n /= i;
			close_one(&g, left[at]);
			left[at] = left[i - 1];
		}
		need(!counters_zero_wait(), "order %d leaves %ld VMs, %ld vCPUs, %ld pages", order, counter_read("vms"),
		     counter_read("vcpus"), counter_read("pages"));
	}
}

/* RUN goes on though the VM's descriptor and the device's are closed; and while the vCPU's own is. */
static void *close_runner(void *arg)
{
	struct counter_thread *t = arg;
	int error;

	do
		error = vcpu_run(&t->guest.vcpu);
	while (!error && !t->stop);
	return (void *)(intptr_t)error;
}

static void close_during(void)
{
	for (uint64_t i = 0; i < scaled(50); i++) {
		struct counter_thread t = { 0 };
		volatile uint64_t *counter;
		void *result;
		int copy;

		guest_new(&t.guest, MODE_LONG64, SNIPPET(spin_shared));
		t.guest.vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
		counter = (volatile uint64_t *)(t.guest.vm.mem + GPA_DATA);
		copy = dup(t.guest.vcpu.fd);
		need(copy >= 0 && !pthread_create(&t.thread, NULL, close_runner, &t), "thread");
		goes_on(counter, "before closing");
		close(t.guest.vm.fd);
		close(t.guest.vm.dev);
		goes_on(counter, "the VM closed");
		close(t.guest.vcpu.fd); /* RUN holds the file */
		goes_on(counter, "the vCPU closed");
		t.stop = 1;
		t.guest.vcpu.fd = copy;
		for (int n = 0; n < 2000 && (n < 1 || pthread_tryjoin_np(t.thread, &result)); n++) {
			vcpu_kick(&t.guest.vcpu);
			usleep(500);
			need(n < 1999, "the vCPU does not end");
		}
		munmap(t.guest.vcpu.run, info()->run_size);
		close(copy);
		need(!counters_zero_wait(), "%ld VMs, %ld vCPUs remain", counter_read("vms"), counter_read("vcpus"));
		munmap(t.guest.vm.mem, t.guest.vm.size);
	}
}

/* ---- two at once ---- */

static void sum_process(unsigned int seed_value, uint64_t rounds)
{
	uint64_t seed = seed_value, *data;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(checksum));
	data = (uint64_t *)(g.vm.mem + 0x100000);
	for (uint64_t i = 0; i < rounds; i++) {
		for (size_t n = 0; n < 8192; n++)
			data[n] = random_next(&seed);
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(checksum));
		g.vcpu.run->gpr[UMBRA_RSI] = 0x100000;
		g.vcpu.run->gpr[UMBRA_RCX] = 8192;
		vcpu_expect_io(&g.vcpu, PORT_DONE, "checksum");
		need(g.vcpu.run->gpr[UMBRA_RAX] == checksum_host(data, 8192), "guest %u, round %llu: sum", seed_value,
		     (unsigned long long)i);
		if (i % 8 == 0)
			madvise(data, 8192 * 8, MADV_DONTNEED);
	}
}

static void two_guests(void)
{
	pid_t pids[4];

	for (unsigned int i = 0; i < 4; i++) { /* as many again as CPUs */
		pids[i] = fork();
		need(pids[i] >= 0, "fork");
		if (!pids[i]) {
			sum_process(i + 1, scaled(60));
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		int status;

		waitpid(pids[i], &status, 0);
		check(!status, "guest %d: %x", i, status);
	}
}

int life_main(void)
{
	static const struct test tests[] = {
		{ "migrate_between", migrate_between, 60 },
		{ "migrate_during", migrate_during, 60 },
		{ "two_guests", two_guests, 90 },
		{ "close_orders", close_orders, 90 },
		{ "close_during", close_during, 60 },
		{ "kill", kill_random, 150 },
		{ "cpu_offline", cpu_offline, 60 },
		{ "rmmod_busy", life_rmmod_busy, 30 },
		{ "reload", life_reload, 120 },
		{ "kvm_busy", life_kvm_busy, 30 },
		{ "kvm_msrs", life_kvm_msrs, 60 },
		{ "suspend", life_suspend, 60 },
	};

	return run_tests("life", tests, ARRAY_SIZE(tests));
}
