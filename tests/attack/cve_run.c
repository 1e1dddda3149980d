// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every row of cves.tsv that has something to run, one after the other, beside a witness: another guest, with the product's
 * shadow, that computes all the time. A row is contained when its shadow ended as expected and is gone, its VMM was told, the
 * witness got on with the right sums, the module counts nothing but the witness, and the kernel's log has no complaint.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cve.h"

#define WITNESS_FILE "/tmp/cve-witness"
#define FIELDS 8
#define LIMIT_MS 25000 /* of a row */

static struct witness *witness;
static int kmsg = -1, failed;
static const char *self = "/usr/libexec/umbra/cve-client";

struct row {
	const char *id, *component, *class, *attacker, *boundary, *how, *expect, *place;
};

/* What a row's VMM and its shadow said. */
struct said {
	char text[16384];
	size_t used;
	int gone; /* ms until nobody held its standard error any more; -1: somebody still does */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

static void pause_ms(unsigned int ms)
{
	nanosleep(&(struct timespec) { ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static long counter(const char *name)
{
	char path[128];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/umbra/parameters/%s", name);
	file = fopen(path, "r");
	if (file && fscanf(file, "%ld", &value) != 1)
		value = -1;
	if (file)
		fclose(file);
	return value;
}

/* ---- the kernel's log ---- */

static int log_complains(char *line, size_t size)
{
	static const char *const bad[] = { "BUG:",  "WARNING:", "Oops", "unchecked MSR", "blocked for more than",
					   "stall", "lockup",	"panic" };
	char record[2048], *text;
	ssize_t n;

	while ((n = read(kmsg, record, sizeof(record) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		record[n] = 0;
		text = strchr(record, ';');
		for (size_t i = 0; text && i < sizeof(bad) / sizeof(bad[0]); i++) {
			if (!strstr(text, bad[i]))
				continue;
			snprintf(line, size, "%.200s", text + 1);
			line[strcspn(line, "\n")] = 0;
			return 1;
		}
	}
	return 0;
}

/* ---- a process ---- */

static pid_t start(const char *what, const char *arg, int out, const char *shadow, const char *fault)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	setpgid(0, 0);
	dup2(out, 1);
	dup2(out, 2);
	if (shadow)
		setenv("UMBRA_SHADOW", shadow, 1);
	if (fault)
		setenv("UMBRA_FAULT", fault, 1);
	execlp("umbra", "umbra", "run", "--", self, what, arg, NULL);
	_exit(127);
}

/* Reads until the VMM has ended and nobody has its standard error open: the shadow has, as long as it lives. */
static void row_process(const char *id, const char *shadow, const char *fault, struct said *said)
{
	uint64_t begin = now_ms(), ended = 0, now;
	int out[2], open = 1;
	pid_t pid;

	said->used = 0;
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK))
		exit(2);
	pid = start("row", id, out[1], shadow, fault);
	close(out[1]);
	while (open || !ended) {
		struct pollfd fd = { .fd = open ? out[0] : -1, .events = POLLIN };
		ssize_t n = 0;

		poll(&fd, 1, 50);
		if (open) {
			n = read(out[0], said->text + said->used, sizeof(said->text) - 1 - said->used);
			if (n > 0)
				said->used += n;
			else if (!n)
				open = 0;
		}
		now = now_ms();
		if (!ended && waitpid(pid, NULL, WNOHANG) == pid)
			ended = now;
		if (!ended && now - begin > LIMIT_MS)
			kill(-pid, SIGKILL);
		if (ended && now - ended > 6000)
			break;
	}
	said->text[said->used] = 0;
	said->gone = open ? -1 : (int)(now_ms() - ended);
	close(out[0]);
}

/* ---- a row ---- */

/* The rest of the line behind the first place where text has this; NULL: nowhere. */
static const char *line_after(const char *text, const char *start, char *line, size_t size)
{
	const char *at = strstr(text, start);

	if (!at)
		return NULL;
	snprintf(line, size, "%s", at + strlen(start));
	line[strcspn(line, "\n")] = 0;
	return line;
}

static int expected(const char *expect, const char *how)
{
	size_t len = strcspn(how, ":");
	const char *at;

	for (at = expect; *at; at += strcspn(at, "|"), at += *at == '|')
		if (strcspn(at, "|") == len && !strncmp(at, how, len))
			return 1;
	return 0;
}

static int witness_gets_on(uint64_t before)
{
	uint64_t end = now_ms() + 10000;

	while (witness->rounds <= before && now_ms() < end)
		pause_ms(20);
	return witness->rounds > before && !witness->errors;
}

static int only_witness_counted(void)
{
	for (int i = 0; i < 50; i++) {
		if (counter("vms") == 1 && counter("vcpus") == 1)
			return 1;
		pause_ms(100);
	}
	return 0;
}

/* NULL: contained; or why not. */
static const char *judge(const struct row *row, const struct said *said, uint64_t rounds, char *observed, size_t size,
			 char *thread)
{
	static char why[256];
	char line[256];
	int fault = !strcmp(row->how, "fault");

	strcpy(thread, "-");
	if (!line_after(said->text, "RESULT ", observed, size))
		return "said nothing of its end";
	if (!expected(row->expect, observed)) {
		snprintf(why, sizeof(why), "%.150s (expected: %s)", observed, row->expect);
		return why;
	}
	if (!strstr(said->text, "SANDBOX "))
		return "the sandbox was not looked at";
	if (fault) {
		snprintf(line, sizeof(line), "fault: %s at %s in the ", row->id, row->place);
		if (!line_after(said->text, line, why, sizeof(why)))
			return "the mistake was not reached";
		sscanf(why, "%15s", thread);
	}
	if (!strncmp(observed, "dies", 4)) {
		if (!line_after(said->text, "the shadow (pid ", line, sizeof(line)) || !strstr(line, "gone: "))
			return "the VMM's standard error does not say that the shadow is gone";
		snprintf(why, sizeof(why), "%s", strstr(line, "gone: ") + 6);
		snprintf(observed + strlen(observed), size - strlen(observed), "; %.160s", why);
	}
	if (!strcmp(row->class, "takeover") && !strstr(observed, "forbidden system call")) {
		snprintf(why, sizeof(why), "no forbidden system call: %.150s", observed);
		return why;
	}
	if (strstr(said->text, "fault: the system call came back"))
		return "a system call that no policy should allow came back";
	if (said->gone < 0)
		return "the shadow lives on after its VMM";
	if (!witness_gets_on(rounds))
		return "the witness does not get on, or has a wrong sum";
	if (!only_witness_counted())
		return "the module counts more than the witness";
	if (log_complains(line, sizeof(line))) {
		snprintf(why, sizeof(why), "the kernel's log: %.200s", line);
		return why;
	}
	return NULL;
}

static void row_run(const struct row *row, const char *shadow, const char *product)
{
	static struct said said;
	uint64_t rounds = witness->rounds;
	int fault = !strcmp(row->how, "fault");
	char observed[512] = "", thread[16], line[512];
	const char *why;

	row_process(row->id, fault ? shadow : product, fault ? row->id : NULL, &said);
	why = judge(row, &said, rounds, observed, sizeof(observed), thread);
	printf("ROW\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row->id, row->component, row->class, row->attacker,
	       row->boundary, row->how, row->place, thread, observed, why ? why : "contained");
	if (why) {
		failed = 1;
		printf("not ok cve/%s: %s\n", row->id, why);
		printf("%s", said.text);
	} else {
		printf("ok cve/%s\n", row->id);
	}
	if (line_after(said.text, "SANDBOX with its VM: ", line, sizeof(line)) && !strcmp(row->id, "CVE-2009-4031"))
		printf("sandbox before the attack: %s\n", line);
	fflush(stdout);
}

static void table_run(FILE *file, const char *shadow, const char *product)
{
	char text[512], *field[FIELDS];

	while (fgets(text, sizeof(text), file)) {
		struct row row;
		char *rest = text;
		int n;

		text[strcspn(text, "\n")] = 0;
		if (text[0] == '#')
			continue;
		for (n = 0; n < FIELDS && rest; n++)
			field[n] = strsep(&rest, "\t");
		if (n < FIELDS || (strcmp(field[5], "fault") && strcmp(field[5], "replay")))
			continue;
		row = (struct row) { field[0], field[1], field[2], field[3], field[4], field[5], field[6], field[7] };
		row_run(&row, shadow, product);
	}
}

/* What code that took a thread over could try; and the same words in cve_faults.c. */
static void takeovers_run(const char *shadow)
{
	static const char *const threads[] = { "vcpu", "control", "event" };
	static const char *const places[] = { "exit_wrmsr", "create_device", "irqfd_raise" };
	static const char *const tries[] = {
		"open-device",	    "open-memory",  "run-program", "map-code",	"make-code",
		"process",	    "fork",	    "namespace",   "socket",	"trace",
		"write-memory",	    "kill",	    "load-bpf",	   "io-uring",	"perf",
		"userfault",	    "keys",	    "module",	   "no-filter", "other-ioctl",
		"steal-descriptor", "message-queue"
	};

	for (size_t t = 0; t < sizeof(threads) / sizeof(threads[0]); t++) {
		for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
			char id[64];

			/* The event thread's filter is the vCPUs' but for three calls: three tries will do. */
			if (t == 2 && i % 7)
				continue;
			snprintf(id, sizeof(id), "TAKEOVER-%s-%s", threads[t], tries[i]);
			row_run(&(struct row) { id, threads[t], "takeover", t == 1 ? "vmm" : "guest", "P", "fault",
						"dies", places[t] },
				shadow, NULL);
		}
	}
}

static int witness_start(const char *product)
{
	int fd = open(WITNESS_FILE, O_RDWR | O_CREAT | O_TRUNC, 0600), out;
	uint64_t end = now_ms() + 20000;

	if (fd < 0 || ftruncate(fd, 4096))
		return -1;
	witness = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	out = open("/tmp/cve-witness.log", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (witness == MAP_FAILED || out < 0)
		return -1;
	start("witness", WITNESS_FILE, out, product, NULL);
	while (witness->rounds < 3 && now_ms() < end)
		pause_ms(50);
	return witness->rounds >= 3 ? 0 : -1;
}

int all_main(const char *rows, const char *shadow, const char *product, const char *takeovers)
{
	FILE *file = fopen(rows, "r");

	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (!file || kmsg < 0 || lseek(kmsg, 0, SEEK_END) < 0 || witness_start(product)) {
		printf("not ok cve.witness: the rows, the kernel's log or the witness are not there\n");
		return 1;
	}
	table_run(file, shadow, product);
	if (strcmp(takeovers, "no"))
		takeovers_run(shadow);
	if (witness->errors)
		printf("not ok cve.witness: %llu wrong sums\n", (unsigned long long)witness->errors);
	else
		printf("ok cve.witness\n");
	printf("the witness: %llu sums, all of them right\n", (unsigned long long)witness->rounds);
	fclose(file);
	return failed || witness->errors;
}
