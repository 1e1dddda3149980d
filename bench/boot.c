// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * boot MARKER COMMAND...: TSC ticks from the start of COMMAND to the line of its output with MARKER, and to its end.
 * With MAGIC in the environment it begins with the emulator's magic breakpoint, for bench/trace.sh, and ends with that line.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static _Noreturn void run_command(char **argv, int out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(out, 1) < 0 || dup2(out, 2) < 0)
		err(127, "dup2");
	execvp(argv[0], argv);
	err(127, "%s", argv[0]);
}

int main(int argc, char **argv)
{
	uint64_t start, marker = 0, end;
	char line[4096];
	int out[2], status;
	FILE *console;
	pid_t child;

	if (argc < 3)
		errx(2, "usage: boot MARKER COMMAND...");
	if (pipe2(out, O_CLOEXEC) < 0)
		err(1, "pipe");
	if (getenv("MAGIC"))
		__asm__ volatile("xchgw %%bx, %%bx" : : : "memory");
	start = tsc_read();
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child)
		run_command(argv + 2, out[1]);
	close(out[1]);
	console = fdopen(out[0], "r");
	if (!console)
		err(1, "fdopen");
	while (!(marker && getenv("MAGIC")) && fgets(line, sizeof(line), console)) {
		if (!marker && strstr(line, argv[1]))
			marker = tsc_read() - start;
		fputs(line, stderr);
	}
	if (getenv("MAGIC"))
		return 0; /* the command dies with us */
	if (waitpid(child, &status, 0) != child)
		err(1, "waitpid");
	end = tsc_read() - start;
	if (!marker)
		errx(1, "no line with \"%s\"", argv[1]);
	if (status)
		errx(1, "%s: wait status %#x", argv[2], (unsigned int)status);
	printf("boot_user %llu\nboot_end %llu\n", (unsigned long long)marker, (unsigned long long)end);
	return 0;
}
