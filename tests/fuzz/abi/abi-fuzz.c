// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * abi-fuzz [--seed N] [--seconds N] [--steps N] [--threads N] [--ops MASK] [--calls N]
 * Rounds of hostile calls on /dev/umbra, each in a process of its own, until the time is over (and, with --calls, so many
 * were made). After each one the kernel's log and the module's counters must be clean. A round that fails is made
 * smaller and tried again; what is left is said as a command line.
 * With --steps and --threads only that round, ten times.
 */
#include "abi-fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

#define STEPS 1500
#define ROUND_SECONDS 90 /* past this, and past SIGKILL, a process hangs in the kernel */
#define TRIES 3		 /* races do not fail each time */

struct report *report;
static int kmsg;
static char complaint[300];

/* Lines that have come to the kernel's log since the last look. */
static bool log_complains(void)
{
	static const char *const bad[] = {
		"WARNING:", "BUG:",	 "BUG ",	"Oops",		 "general protection", "KASAN",	   "UBSAN",
		"INFO: ",   "possible ", "suspicious ", "unchecked MSR", "Call Trace",	       "stall on", "DEBUG_LOCKS"
	};
	char line[2048];
	bool found = false;
	ssize_t n;

	while ((n = read(kmsg, line, sizeof(line) - 1)) != 0) {
		if (n < 0 && errno == EPIPE)
			continue;
		if (n < 0)
			break;
		line[n] = 0;
		for (size_t i = 0; i < ARRAY_SIZE(bad) && !found; i++) {
			char *text = strchr(line, ';');

			if (text && strstr(text, bad[i])) {
				snprintf(complaint, sizeof(complaint), "%.290s", text + 1);
				found = true;
			}
		}
	}
	return found;
}

static bool round_end(pid_t pid, int *status)
{
	for (int i = 0; i < ROUND_SECONDS * 100; i++) {
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		if (i == (ROUND_SECONDS - 10) * 100)
			kill(pid, SIGKILL);
		usleep(10000);
	}
	return false;
}

/* True: something was wrong; why says what. */
static bool round_fails(const struct plan *plan, char *why, size_t size, uint64_t *calls, uint64_t *entries)
{
	int status = 0;
	pid_t pid;

	memset(report, 0, offsetof(struct report, text));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		round_run(plan);
	}
	if (!round_end(pid, &status)) {
		file_write("/proc/sysrq-trigger", "w");
		file_write("/proc/sysrq-trigger", "l");
		snprintf(why, size, "process %d hangs in the kernel", pid);
		return true;
	}
	*calls += report->calls;
	*entries += report->entries;
	if (log_complains())
		snprintf(why, size, "kernel log: %s", complaint);
	else if (report->failed)
		snprintf(why, size, "%s", report->reason);
	/* SIGBUS and SIGSEGV: of memory that a thread of its own has taken away. */
	else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGBUS && WTERMSIG(status) != SIGSEGV)
		snprintf(why, size, "signal %d", WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status))
		snprintf(why, size, "exit status %d", WEXITSTATUS(status));
	else if (counters_zero_wait() && counters_zero_wait())
		snprintf(why, size, "left over: %ld VMs, %ld vCPUs, %ld pages", counter_read("vms"),
			 counter_read("vcpus"), counter_read("pages"));
	else
		return false;
	return true;
}

static void print_log(const struct plan *plan)
{
	for (uint32_t t = 0; t < plan->threads; t++) {
		uint32_t lines = report->lines[t];

		printf("  thread %u, its last steps:\n", t);
		for (uint32_t i = lines > LOG_LINES ? lines - LOG_LINES : 0; i < lines; i++)
			printf("    %s\n", report->line[t][i % LOG_LINES]);
	}
}

static bool still_fails(const struct plan *plan)
{
	char why[400];
	uint64_t ignored = 0;

	for (int i = 0; i < TRIES; i++)
		if (round_fails(plan, why, sizeof(why), &ignored, &ignored))
			return true;
	return false;
}

static void shrink(struct plan *plan)
{
	struct plan less = *plan;

	while (less.threads > 1) {
		less.threads--;
		if (still_fails(&less))
			*plan = less;
		else
			break;
	}
	for (uint32_t cut = plan->steps / 2; cut; cut /= 2) {
		less = *plan;
		less.steps -= cut;
		while (less.steps && still_fails(&less)) {
			*plan = less;
			less.steps = less.steps > cut ? less.steps - cut : 0;
		}
	}
	for (uint32_t i = 0; i < op_count; i++) {
		less = *plan;
		less.ops &= ~(1u << i);
		if (less.ops != plan->ops && still_fails(&less))
			*plan = less;
	}
}

static void tell(struct plan *plan, const char *why)
{
	printf("failed: seed %llu, %u threads, %u steps: %s\n", (unsigned long long)plan->seed, plan->threads,
	       plan->steps, why);
	print_log(plan);
	if (strstr(why, "hangs in the kernel"))
		return; /* it still holds what it holds */
	shrink(plan);
	printf("reproduce: abi-fuzz --seed %llu --threads %u --steps %u --ops %#x (", (unsigned long long)plan->seed,
	       plan->threads, plan->steps, plan->ops);
	for (uint32_t i = 0; i < op_count; i++)
		if (plan->ops >> i & 1)
			printf(" %s", op_names[i]);
	printf(" )\n");
}

int main(int argc, char **argv)
{
	struct plan plan = { .ops = (1u << op_count) - 1 }, one;
	uint64_t seed = 1, seconds = 10, want = 0, calls = 0, entries = 0, rounds = 0, end, told = 0;
	uint32_t steps = 0, fixed_threads = 0;
	char why[400];

	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 0);

		if (!strcmp(argv[i], "--seed"))
			seed = value;
		else if (!strcmp(argv[i], "--seconds"))
			seconds = value;
		else if (!strcmp(argv[i], "--steps"))
			steps = (uint32_t)value;
		else if (!strcmp(argv[i], "--threads"))
			fixed_threads = value > THREADS_MAX ? THREADS_MAX : (uint32_t)value;
		else if (!strcmp(argv[i], "--ops"))
			plan.ops = (uint32_t)value;
		else if (!strcmp(argv[i], "--calls"))
			want = value;
		else
			return fprintf(stderr, "abi-fuzz: what is %s?\n", argv[i]), 2;
	}
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (report == MAP_FAILED || kmsg < 0 || counter_read("vms") < 0)
		return fprintf(stderr, "abi-fuzz: no module, or no /dev/kmsg\n"), 2;
	lseek(kmsg, 0, SEEK_END);
	report->text = cover_text();
	setrlimit(RLIMIT_CORE, &(struct rlimit) { 0, 0 });
	end = time_ms() + seconds * 1000;
	for (; time_ms() < end || calls < want; seed++, rounds++) {
		/* One thread alone, where every result is known, and up to six. */
		static const uint32_t mix[] = { 1, 4, 2, 6, 1, 3 };

		plan.seed = seed;
		plan.threads = fixed_threads ? fixed_threads : mix[seed % ARRAY_SIZE(mix)];
		plan.steps = steps ? steps : STEPS;
		if (time_ms() >= told + 15000 || !rounds) {
			told = time_ms();
			printf("# seed %llu, %llu calls, %llu entries\n", (unsigned long long)seed,
			       (unsigned long long)calls, (unsigned long long)entries);
		}
		if (round_fails(&plan, why, sizeof(why), &calls, &entries)) {
			one = plan;
			tell(&one, why);
			return 1;
		}
		if (steps && fixed_threads && rounds >= 9)
			break;
		if (steps && fixed_threads)
			seed--; /* the same round again */
	}
	cover_print();
	printf("# %llu rounds, %llu calls, %llu entries, clean\n", (unsigned long long)rounds,
	       (unsigned long long)calls, (unsigned long long)entries);
	return 0;
}
