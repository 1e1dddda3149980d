/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The umbra command. */
#include "umbra.h"

#include <stdlib.h>
#include <string.h>

#include "version.h"

static void usage(FILE *out)
{
	fputs("usage: umbra run [options] [--] VMM [arguments]   run a VMM on Umbra instead of /dev/kvm\n"
	      "       umbra doctor                             can this machine run Umbra, and what to do if not\n"
	      "       umbra tcb                                what has to be trusted, in figures\n"
	      "       umbra --help | --version\n"
	      "\n"
	      "options of run:\n"
	      "  --require-namespaces   end the guest where the kernel refuses the shadow a namespace\n"
	      "  --library PATH         another libumbra-kvm.so\n"
	      "  --shadow PATH          another umbra-shadow\n"
	      "\n"
	      "for example: umbra run -- qemu-system-x86_64 -accel kvm -M microvm -kernel vmlinuz ...\n",
	      out);
}

static int doctor_main(int argc)
{
	int failed;

	if (argc != 1) {
		usage(stderr);
		return RUN_EXIT_USAGE;
	}
	failed = doctor_run("", "/dev/umbra", stdout);
	if (failed)
		printf("\n%d of these lines %s in the way of running a guest.\n", failed,
		       failed == 1 ? "stands" : "stand");
	else
		printf("\nThis machine can run guests on Umbra.\n");
	return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc >= 2 && !strcmp(argv[1], "run"))
		return run_main(argc - 1, argv + 1);
	if (argc >= 2 && !strcmp(argv[1], "doctor"))
		return doctor_main(argc - 1);
	if (argc == 2 && !strcmp(argv[1], "tcb")) {
		tcb_report("", stdout);
		return fflush(stdout) ? 1 : 0;
	}
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		puts("umbra " UMBRA_VERSION);
		return 0;
	}
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		usage(stdout);
		return 0;
	}
	usage(stderr);
	return RUN_EXIT_USAGE;
}
