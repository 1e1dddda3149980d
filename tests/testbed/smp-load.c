// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * smp-load SECONDS: what makes the CPUs of a guest talk to each other. Processes that fork and exec, threads that wake each
 * other, threads that change the mappings that others use, and clocks that must not run backwards over CPUs. Says how much of each
 * was done; status 1 when something came out wrong or stood still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define STILL 15 /* seconds without a round of one worker: a stall */
#define WORKERS 64

struct worker {
	const char *kind;
	atomic_ulong rounds;
	unsigned long seen;
	time_t moved;
	bool process;
};

static struct shared {
	atomic_bool end;
	atomic_ulong errors;
	struct worker worker[WORKERS];
} * shared;
static unsigned int workers;

static struct worker *worker_new(const char *kind)
{
	struct worker *w = &shared->worker[workers++];

	if (workers > WORKERS)
		abort();
	w->kind = kind;
	return w;
}

static void wrong(const char *what, uint64_t is, uint64_t least)
{
	if (atomic_fetch_add(&shared->errors, 1) < 10)
		printf("load: WRONG: %s: %llu, not %llu or more\n", what, (unsigned long long)is,
		       (unsigned long long)least);
}

static uint64_t now_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- fork and exec ---- */

static void fork_loop(struct worker *w)
{
	while (!atomic_load(&shared->end)) {
		int status = -1;
		pid_t pid = fork();

		if (!pid) {
			execl("/proc/self/exe", "smp-load", "exit", NULL);
			_exit(126);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
			wrong("a child's status", (uint64_t)status, 7 << 8);
		atomic_fetch_add(&w->rounds, 1);
	}
	_exit(0);
}

/* ---- two threads that wake each other ---- */

struct pair {
	atomic_uint turn;
	struct worker *w;
};

static void *pong(void *arg, unsigned int mine)
{
	struct pair *pair = arg;

	while (!atomic_load(&shared->end)) {
		struct timespec wait = { 1, 0 };
		unsigned int turn = atomic_load(&pair->turn);

		if (turn % 2 != mine) {
			syscall(SYS_futex, &pair->turn, FUTEX_WAIT_PRIVATE, turn, &wait);
			continue;
		}
		atomic_store(&pair->turn, turn + 1);
		syscall(SYS_futex, &pair->turn, FUTEX_WAKE_PRIVATE, 1);
		if (mine)
			atomic_fetch_add(&pair->w->rounds, 1);
	}
	return NULL;
}

static void *ping(void *arg)
{
	return pong(arg, 0);
}

static void *ping_back(void *arg)
{
	return pong(arg, 1);
}

/* ---- one thread replaces a page, the others must never see an old one again ---- */

static volatile uint64_t *page;
static atomic_ulong page_number;

static void *page_replace(void *arg)
{
	struct worker *w = arg;

	for (uint64_t n = 1; !atomic_load(&shared->end); n++) {
		uint64_t *fresh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (fresh == MAP_FAILED)
			abort();
		*fresh = n;
		if (mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page) == MAP_FAILED)
			abort();
		atomic_store(&page_number, n); /* from here on a smaller number comes from a stale translation */
		atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

static void *page_look(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&shared->end)) {
		for (int i = 0; i < 1000; i++) {
			uint64_t least = atomic_load(&page_number), is = *page;

			if (is < least)
				wrong("a page's number", is, least);
		}
		atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

/* ---- mappings come, change and go in all threads ---- */

static void *map_loop(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&shared->end)) {
		volatile uint8_t *area =
			mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (area == MAP_FAILED)
			abort();
		for (int i = 0; i < 16; i++)
			area[i * PAGE] = (uint8_t)(i + 1);
		mprotect((void *)area, 16 * PAGE, PROT_READ);
		mprotect((void *)area, 8 * PAGE, PROT_READ | PROT_WRITE);
		madvise((void *)area, 4 * PAGE, MADV_DONTNEED);
		for (int i = 0; i < 16; i++)
			if (area[i * PAGE] != (i < 4 ? 0 : i + 1))
				wrong("a mapped byte", area[i * PAGE], (uint64_t)i);
		munmap((void *)area, 16 * PAGE);
		atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

/* ---- no CPU's clock is behind what another one has read ---- */

static _Atomic uint64_t latest[2];

static void *clock_loop(void *arg)
{
	static const clockid_t ids[2] = { CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW };
	struct worker *w = arg;

	while (!atomic_load(&shared->end)) {
		for (int i = 0; i < 200; i++) {
			uint64_t least = atomic_load(&latest[i & 1]), now = now_ns(ids[i & 1]);

			if (now < least)
				wrong(i & 1 ? "raw clock" : "clock", now, least);
			while (least < now && !atomic_compare_exchange_weak(&latest[i & 1], &least, now))
				;
		}
		sched_yield();
		atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

/* ---- timers ---- */

static atomic_ulong late_us;

static void *timer_loop(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&shared->end)) {
		struct timespec wait = { 0, 1000000 };
		uint64_t begun = now_ns(CLOCK_MONOTONIC), took;

		nanosleep(&wait, NULL);
		took = now_ns(CLOCK_MONOTONIC) - begun;
		if (took < 1000000)
			wrong("a sleep in ns", took, 1000000);
		else if ((took - 1000000) / 1000 > atomic_load(&late_us))
			atomic_store(&late_us, (took - 1000000) / 1000);
		atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

static void thread_new(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, fn, arg))
		abort();
}

static void begin(unsigned int cpus)
{
	static struct pair pairs[4];

	/* Processes first: a fork copies one thread. */
	for (unsigned int i = 0; i < (cpus + 1) / 2; i++) {
		struct worker *w = worker_new("fork+exec");

		w->process = true;
		if (!fork())
			fork_loop(w);
	}
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned int i = 0; i < 2; i++) {
		pairs[i].w = worker_new("ping-pong");
		thread_new(ping, &pairs[i]);
		thread_new(ping_back, &pairs[i]);
	}
	thread_new(page_replace, worker_new("page replaced"));
	thread_new(timer_loop, worker_new("1 ms sleep"));
	for (unsigned int i = 0; i < (cpus + 1) / 2; i++) {
		thread_new(page_look, worker_new("1000 looks"));
		thread_new(map_loop, worker_new("mapping"));
		thread_new(clock_loop, worker_new("200 clock reads"));
	}
}

static void watch(void)
{
	time_t now = (time_t)(now_ns(CLOCK_MONOTONIC) / 1000000000);

	for (unsigned int i = 0; i < workers; i++) {
		struct worker *w = &shared->worker[i];
		unsigned long rounds = atomic_load(&w->rounds);

		if (rounds != w->seen || !w->moved) {
			w->seen = rounds;
			w->moved = now;
		} else if (now - w->moved >= STILL) {
			printf("load: WRONG: %s stands still for %d seconds\n", w->kind, STILL);
			atomic_fetch_add(&shared->errors, 1);
			w->moved = now;
		}
	}
}

static void report(void)
{
	for (unsigned int i = 0; i < workers; i++) {
		unsigned long sum = 0;
		bool said = false;

		for (unsigned int k = 0; k < workers; k++) {
			if (strcmp(shared->worker[k].kind, shared->worker[i].kind))
				continue;
			said |= k < i;
			sum += atomic_load(&shared->worker[k].rounds);
		}
		if (!said)
			printf("load: %s %lu\n", shared->worker[i].kind, sum);
		if (!sum)
			atomic_fetch_add(&shared->errors, 1);
	}
	printf("load: latest timer %lu us\n", atomic_load(&late_us));
}

/* What the guest's kernel says it uses of its hypervisor (its whole log: action 3), and the steal time so far, in 10 ms. */
static void paravirtual(void)
{
	static char log[1 << 18];
	int size = klogctl(3, log, sizeof(log) - 1);
	unsigned long steal = 0;
	FILE *stat = fopen("/proc/stat", "r");

	for (char *line = strtok(log, "\n"); size > 0 && line; line = strtok(NULL, "\n")) {
		char *at = strstr(line, "kvm-guest: ");

		if (at && !strstr(at, ", msr "))
			printf("load: pv %s\n", at + strlen("kvm-guest: "));
		else if (at && strstr(at, "stealtime: "))
			printf("load: pv stealtime\n");
	}
	if (!stat || fscanf(stat, "cpu %*u %*u %*u %*u %*u %*u %*u %lu", &steal) != 1)
		atomic_fetch_add(&shared->errors, 1);
	if (stat)
		fclose(stat);
	printf("load: steal %lu\n", steal);
}

int main(int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int seconds = argc > 1 ? atoi(argv[1]) : 10;

	if (argc > 1 && !strcmp(argv[1], "exit"))
		return 7;
	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	printf("load: %d seconds on %ld CPUs\n", seconds, cpus);
	begin((unsigned int)(cpus < 1 ? 1 : cpus > 8 ? 8 : cpus));
	for (int i = 0; i < seconds; i++) {
		sleep(1);
		watch();
	}
	atomic_store(&shared->end, true);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	report();
	paravirtual();
	printf("load: errors %lu\n", atomic_load(&shared->errors));
	return atomic_load(&shared->errors) != 0;
}
