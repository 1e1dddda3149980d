/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umbra-shadow: opens the device, locks itself in, says hello, then serves one VMM. */
#define _GNU_SOURCE
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "channel_io.h"
#include "last_words.h"
#include "sandbox.h"
#include "../shadow/shim.h"
#include "start.h"
#include "version.h"

struct options {
	int fd;
	const char *device;
	bool require_namespaces;
	int forbidden_after; /* seconds; < 0: never (test build only) */
};

static void usage(FILE *out)
{
	fprintf(out, "usage: umbra-shadow --fd N [--device PATH] [--require-namespaces]\n"
		     "The process that virtualizes one guest. Started by libumbra-kvm.so; see umbra-shadow(8).\n");
}

static int parse_fd(const char *text)
{
	char *end;
	long fd = strtol(text, &end, 10);
	socklen_t size = sizeof(int);
	int type;

	if (!*text || *end || fd < 0 || fd > 65535)
		return -1;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_SEQPACKET)
		return -1;
	return fd;
}

static void parse_options(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{ "fd", required_argument, NULL, 'f' },
		{ "device", required_argument, NULL, 'd' },
		{ "require-namespaces", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
#ifdef UMBRA_TEST_BUILD
		{ "test-forbidden-syscall", optional_argument, NULL, 't' },
#endif
		{ 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 'f':
			options->fd = parse_fd(optarg);
			if (options->fd < 0) {
				fprintf(stderr, "umbra-shadow: --fd %s is not a SOCK_SEQPACKET socket\n", optarg);
				exit(2);
			}
			break;
		case 'd':
			options->device = optarg;
			break;
		case 'n':
			options->require_namespaces = true;
			break;
		case 't':
			options->forbidden_after = optarg ? atoi(optarg) : 3;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case 'v':
			puts("umbra-shadow " UMBRA_VERSION);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind < argc || options->fd < 0) {
		usage(stderr);
		exit(2);
	}
}

#ifdef UMBRA_TEST_BUILD
/* What a taken-over shadow might try: getppid is harmless and in no policy. */
static void *break_out(void *arg)
{
	struct timespec until;

	sandbox_thread(SANDBOX_EVENT);
	clock_gettime(CLOCK_MONOTONIC, &until);
	for (time_t end = until.tv_sec + (intptr_t)arg; until.tv_sec < end; clock_gettime(CLOCK_MONOTONIC, &until))
		sched_yield();
	getppid();
	return NULL;
}

static void test_forbidden(struct options *options)
{
	const char *after = getenv("UMBRA_TEST_FORBIDDEN_SYSCALL");
	pthread_t thread;

	if (after)
		options->forbidden_after = atoi(after);
	if (options->forbidden_after >= 0 &&
	    pthread_create(&thread, NULL, break_out, (void *)(intptr_t)options->forbidden_after))
		sandbox_die("test thread");
}
#endif

static void say_hello(const struct sandbox *sandbox, const struct umbra_info *info)
{
	struct channel_msg msg = { .kind = CHANNEL_HELLO };
	struct channel_hello hello = {
		.abi_version = info->abi_version,
		.pid = sandbox->pid,
		.namespaces = sandbox->namespaces,
		.tsc_khz = info->tsc_khz,
	};

	if (channel_send(sandbox->control_fd, &msg, &hello, sizeof(hello)))
		sandbox_die("the VMM is gone before the shadow was ready");
}

int main(int argc, char **argv)
{
	struct options options = { .fd = -1, .device = "/dev/umbra", .forbidden_after = -1 };
	const char *preload = getenv("LD_PRELOAD"), *required = getenv("UMBRA_REQUIRE_NAMESPACES");
	struct sandbox sandbox = { 0 };
	struct umbra_info info;
	struct shim shim;
	char text[256];

	signal(SIGPIPE, SIG_IGN); /* the last words must not be cut off by a reader of stderr that went away */
	parse_options(argc, argv, &options);
	last_words_to(options.fd);
	if (preload && strstr(preload, "libumbra-kvm"))
		sandbox_die("started with libumbra-kvm.so preloaded: the starter must clear LD_PRELOAD");
	sandbox.control_fd = options.fd;
	sandbox.require_namespaces = options.require_namespaces || (required && !strcmp(required, "1"));
	sandbox.prepare = shadow_prepare;
	sandbox.device_fd = start_open_device(options.device, &info, text, sizeof(text));
	if (sandbox.device_fd < 0)
		sandbox_die(text);
	sandbox_enter(&sandbox);
	shim_dev_init(&shim, sandbox.device_fd);
	say_hello(&sandbox, &info);
#ifdef UMBRA_TEST_BUILD
	test_forbidden(&options);
#endif
	return shadow_main(sandbox.control_fd, &shim);
}
