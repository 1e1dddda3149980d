// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * loops one|two|io|load...: the first process of a guest that measures itself. Each item is repeated in batches; its figure
 * is a line "LOOPS NAME LEAST MEDIAN" in nanoseconds of one operation, by the guest's clock. The last line is "LOOPS end".
 *   one   on one CPU: system call, page fault, context switch, fork and exec, timers
 *   two   what CPU 0 wants of CPU 1: interrupts, TLB flushes, wake-ups
 *   io    a disk and a network (io.c)
 *   load  a fixed amount of computing and fork + exec, shared out over all CPUs
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "loops.h"

#define PAGE 4096UL
#define BATCHES 15
#define BATCH_NS 20000000
#define DELAY_NS 100000 /* of the timers */
#define AREA (1UL << 20)
#define FRESH (48UL << 20) /* of memory that no one has used before */
#define LOAD_UNITS 16

static const char *self;

uint64_t loops_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Not sysconf(): no one has mounted /proc or /sys. */
static int cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		err(1, "CPUs");
	return CPU_COUNT(&set);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

/* Does it n times; returns how long that took, or how late it was in all. */
typedef uint64_t loop(unsigned long n);

struct item {
	const char *name;
	loop *run;
	void (*begin)(void);
	void (*end)(void);
	unsigned int batches; /* 0: BATCHES, each as long as BATCH_NS; others: so many, of one operation */
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* How many operations make a batch. */
static unsigned long calibrate(loop *run)
{
	for (unsigned long n = 1;; n *= 2) {
		uint64_t start = loops_now(), took;

		run(n);
		took = loops_now() - start;
		if (took >= BATCH_NS)
			return n;
		if (took >= BATCH_NS / 4)
			return (unsigned long)((double)n * BATCH_NS / (double)took);
	}
}

static void measure(const struct item *item)
{
	unsigned int batches = item->batches ? item->batches : BATCHES;
	unsigned long n = 1;
	double ns[BATCHES];

	if (item->begin)
		item->begin();
	if (!item->batches)
		n = calibrate(item->run);
	for (unsigned int i = 0; i < batches; i++)
		ns[i] = (double)item->run(n) / (double)n;
	if (item->end)
		item->end();
	qsort(ns, batches, sizeof(ns[0]), compare);
	printf("LOOPS %s %.1f %.1f\n", item->name, ns[0], ns[batches / 2]);
}

/* ---- on one CPU ---- */

static uint64_t syscall_loop(unsigned long n)
{
	uint64_t start = loops_now();

	while (n--)
		syscall(SYS_getppid);
	return loops_now() - start;
}

static volatile char *map_small(size_t size)
{
	char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		err(1, "mmap");
	madvise(area, size, MADV_NOHUGEPAGE);
	return area;
}

/* The guest's kernel gives the same pages again, so that the hypervisor has no part in it after the first time. */
static uint64_t fault_loop(unsigned long n)
{
	uint64_t start = loops_now();

	while (n) {
		volatile char *area = map_small(AREA);

		for (size_t i = 0; i < AREA / PAGE && n; i++, n--)
			area[i * PAGE] = 1;
		munmap((void *)area, AREA);
	}
	return loops_now() - start;
}

/* Per page; the hypervisor has to find it. Once only: afterwards it is not fresh. */
static uint64_t fresh_loop(unsigned long n)
{
	volatile char *area = map_small(FRESH);
	uint64_t start = loops_now();

	for (size_t i = 0; i < FRESH / PAGE; i++)
		area[i * PAGE] = 1;
	start = (loops_now() - start) / (FRESH / PAGE);
	munmap((void *)area, FRESH);
	return n * start;
}

/* A process that answers each byte; on the same CPU a context switch, on another one a wake-up by interrupt. */
static int to_peer[2], from_peer[2];
static pid_t peer;

static void peer_begin(int cpu)
{
	char byte;

	if (pipe(to_peer) || pipe(from_peer))
		err(1, "pipe");
	peer = fork();
	if (peer < 0)
		err(1, "fork");
	if (peer)
		return;
	pin(cpu);
	while (read(to_peer[0], &byte, 1) == 1 && write(from_peer[1], &byte, 1) == 1)
		;
	_exit(1);
}

static void peer_begin_here(void)
{
	peer_begin(0);
}

static void peer_begin_there(void)
{
	peer_begin(1);
}

static void peer_end(void)
{
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	for (int i = 0; i < 2; i++) {
		close(to_peer[i]);
		close(from_peer[i]);
	}
}

static uint64_t peer_loop(unsigned long n)
{
	uint64_t start = loops_now();
	char byte = 'x';

	while (n--)
		if (write(to_peer[1], &byte, 1) != 1 || read(from_peer[0], &byte, 1) != 1)
			err(1, "peer");
	return loops_now() - start;
}

static void fork_exec(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		execl(self, self, "exit", NULL);
		_exit(126);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
		errx(1, "fork and exec: status %#x", (unsigned int)status);
}

static uint64_t fork_loop(unsigned long n)
{
	uint64_t start = loops_now();

	while (n--)
		fork_exec();
	return loops_now() - start;
}

/* How late: the CPU halts until then. */
static uint64_t timer_idle_loop(unsigned long n)
{
	uint64_t late = 0;

	while (n--) {
		struct timespec wait = { 0, DELAY_NS };
		uint64_t start = loops_now();

		nanosleep(&wait, NULL);
		late += loops_now() - start - DELAY_NS;
	}
	return late;
}

static timer_t timer;
static volatile sig_atomic_t fired;
static uint64_t fired_at;

static void timer_fired(int number)
{
	(void)number;
	fired_at = loops_now();
	fired = 1;
}

static void timer_begin(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };

	signal(SIGUSR1, timer_fired);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer))
		err(1, "timer");
}

static void timer_end(void)
{
	timer_delete(timer);
}

/* How late: the CPU is at work until then. */
static uint64_t timer_busy_loop(unsigned long n)
{
	uint64_t late = 0;

	while (n--) {
		uint64_t at = loops_now() + DELAY_NS;
		struct itimerspec when = { .it_value = { (time_t)(at / 1000000000), (long)(at % 1000000000) } };

		fired = 0;
		if (timer_settime(timer, TIMER_ABSTIME, &when, NULL))
			err(1, "timer");
		while (!fired)
			;
		late += fired_at - at;
	}
	return late;
}

/* ---- CPU 0 and CPU 1, which is at work in the same address space ---- */

static pthread_t spinner;
static atomic_bool spinning, spin_end;
static atomic_ulong spins, answers;
static volatile char *target;

static void answer(int number)
{
	(void)number;
	atomic_fetch_add(&answers, 1);
}

static void *spin(void *arg)
{
	(void)arg;
	pin(1);
	atomic_store(&spinning, true);
	while (!atomic_load(&spin_end))
		atomic_fetch_add(&spins, 1);
	return NULL;
}

static void spin_begin(void)
{
	target = map_small(PAGE);
	signal(SIGUSR2, answer);
	atomic_store(&spin_end, false);
	atomic_store(&spinning, false);
	if (pthread_create(&spinner, NULL, spin, NULL))
		errx(1, "thread");
	while (!atomic_load(&spinning))
		sched_yield();
}

static void spin_stop(void)
{
	atomic_store(&spin_end, true);
	pthread_join(spinner, NULL);
	munmap((void *)target, PAGE);
}

/* A signal to a thread at work: an interrupt to its CPU, then an answer by memory. */
static uint64_t ipi_loop(unsigned long n)
{
	uint64_t start = loops_now();

	while (n--) {
		unsigned long before = atomic_load(&answers);

		pthread_kill(spinner, SIGUSR2);
		while (atomic_load(&answers) == before)
			;
	}
	return loops_now() - start;
}

/* Only a CPU that is at work in this address space is asked to flush, so first see that it is. */
static uint64_t flush_loop(unsigned long n)
{
	uint64_t start = loops_now();

	while (n--) {
		unsigned long before = atomic_load(&spins);

		while (atomic_load(&spins) == before)
			;
		*target = 1;
		if (mprotect((void *)target, PAGE, PROT_READ) || mprotect((void *)target, PAGE, PROT_READ | PROT_WRITE))
			err(1, "mprotect");
	}
	return loops_now() - start;
}

/* ---- all CPUs ---- */

static void load_unit(void)
{
	volatile uint64_t sum = 1;

	for (unsigned int i = 0; i < 1000000; i++)
		sum = sum * 6364136223846793005 + i;
	for (unsigned int i = 0; i < 4; i++)
		fork_exec();
}

static uint64_t load_loop(unsigned long n)
{
	int cpus = cpu_count();
	uint64_t start = loops_now();
	int status;

	for (int i = 0; i < cpus; i++) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (pid)
			continue;
		for (int unit = i; unit < LOAD_UNITS; unit += cpus)
			load_unit();
		_exit(0);
	}
	for (int i = 0; i < cpus; i++)
		if (wait(&status) < 0 || status)
			errx(1, "load: status %#x", (unsigned int)status);
	return n * (loops_now() - start);
}

/* ---- */

static const struct item one[] = {
	{ "memory_fresh", fresh_loop, NULL, NULL, 1 },
	{ "syscall", syscall_loop, NULL, NULL, 0 },
	{ "page_fault", fault_loop, NULL, NULL, 0 },
	{ "context_switch", peer_loop, peer_begin_here, peer_end, 0 },
	{ "fork_exec", fork_loop, NULL, NULL, 0 },
	{ "timer_idle", timer_idle_loop, NULL, NULL, 0 },
	{ "timer_busy", timer_busy_loop, timer_begin, timer_end, 0 },
};
static const struct item two[] = {
	{ "ipi", ipi_loop, spin_begin, spin_stop, 0 },
	{ "tlb_flush", flush_loop, spin_begin, spin_stop, 0 },
	{ "wake", peer_loop, peer_begin_there, peer_end, 0 },
};
static const struct item io[] = {
	{ "disk_read", disk_read_loop, disk_begin, disk_end, 0 },
	{ "disk_write", disk_write_loop, disk_begin, disk_end, 0 },
	{ "net_request", network_loop, request_begin, network_end, 0 },
	{ "net_send", network_loop, send_begin, network_end, 0 },
	{ "net_receive", network_loop, receive_begin, network_end, 0 },
};
static const struct item load = { "load", load_loop, NULL, NULL, 4 };

#define MEASURE_ALL(items)                                              \
	for (size_t k = 0; k < sizeof(items) / sizeof((items)[0]); k++) \
	measure(&(items)[k])

static void group(const char *name)
{
	cpu_set_t all;

	sched_getaffinity(0, sizeof(all), &all);
	if (!strcmp(name, "load")) {
		measure(&load);
		return;
	}
	if (!strcmp(name, "io")) {
		io_begin();
		MEASURE_ALL(io);
		return;
	}
	pin(0);
	if (!strcmp(name, "one"))
		MEASURE_ALL(one);
	else if (!strcmp(name, "two"))
		MEASURE_ALL(two);
	else
		errx(2, "no group %s", name);
	sched_setaffinity(0, sizeof(all), &all);
}

/* Neither a power-off nor the panic at the end of the first process waits for what the serial port has not sent yet. */
static void drain(void)
{
	tcdrain(1);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "exit"))
		return 7;
	if (getpid() == 1)
		atexit(drain);
	self = argv[0];
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
	printf("guest: user space reached\nLOOPS cpus %d\n", cpu_count());
	for (int i = 1; i < argc; i++)
		group(argv[i]);
	puts("LOOPS end");
	drain();
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	return 0;
}
