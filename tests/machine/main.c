// SPDX-License-Identifier: GPL-2.0-or-later
/* machine-tests [--scale PERCENT] [--module umbra.ko] PROGRAM[/TEST]... | all | --list */
#include "lib.h"

#include <unistd.h>

static int oracle_default(void)
{
	return oracle_main(0, NULL);
}

static const struct {
	const char *name;
	int (*main)(void);
} programs[] = {
	{ "smoke", smoke_main },      { "negative", negative_main }, { "exits", exits_main },
	{ "oracle", oracle_default }, { "fpu", fpu_main },	     { "kick", kick_main },
	{ "memory", memory_main },    { "life", life_main },	     { "hoststate", hoststate_main },
};

static int program_run(char *name)
{
	char *slash = strchr(name, '/');
	int failed = 0, found = 0;

	if (slash)
		*slash = 0;
	test_only = slash ? slash + 1 : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		if (strcmp(name, "all") && strcmp(name, programs[i].name))
			continue;
		failed |= programs[i].main();
		found = 1;
	}
	if (!found)
		printf("not ok %s: no such program\n", name);
	return failed || !found;
}

int main(int argc, char **argv)
{
	int failed = 0, i;

	/* glibc's rseq would make RUN return after each preemption: the tests count returns. */
	if (!getenv("GLIBC_TUNABLES")) {
		setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		execv("/proc/self/exe", argv);
		perror("cannot start again without rseq");
		return 2;
	}
	if (access("/umbra.ko", R_OK) == 0)
		module_path = "/umbra.ko";
	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--list")) {
			test_list = 1;
			return program_run((char[]) { "all" });
		} else if (!strcmp(argv[i], "--scale") && i + 1 < argc) {
			test_scale = (unsigned int)strtoul(argv[++i], NULL, 10);
		} else if (!strcmp(argv[i], "--module") && i + 1 < argc) {
			module_path = argv[++i];
		} else {
			break;
		}
	}
	if (i >= argc || argv[i][0] == '-') {
		fprintf(stderr, "usage: %s [--scale PERCENT] [--module umbra.ko] PROGRAM[/TEST]... | all | --list\n",
			argv[0]);
		return 2;
	}
	if (!strcmp(argv[i], "oracle") && i + 1 < argc &&
	    (!strcmp(argv[i + 1], "umbra") || !strcmp(argv[i + 1], "kvm") || !strcmp(argv[i + 1], "compare")))
		return oracle_main(argc - i - 1, argv + i + 1);
	for (; i < argc; i++)
		failed |= program_run(argv[i]);
	return failed;
}
