/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umbra-shadow's start where it must fail: what the starter and the user hear. */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.h"
#include "sandbox.h"

static char words[1024], errors[2048];

/* Runs umbra-shadow with a socket as descriptor 7; its exit status, its CHANNEL_DEATH in words, its stderr in errors. */
static int run_shadow(char **argv, const char *preload)
{
	struct {
		struct channel_msg msg;
		char data[1024];
	} packet;
	int pair[2], pipes[2], status;
	ssize_t bytes;
	size_t used;
	pid_t pid;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		dup2(pipes[1], 1); /* first: one of them could be 7 */
		dup2(pipes[1], 2);
		dup2(pair[1], 7);
		fcntl(7, F_SETFD, 0);
		if (preload)
			setenv("LD_PRELOAD", preload, 1);
		execv(SHADOW, argv);
		_exit(99);
	}
	close(pair[1]);
	close(pipes[1]);
	words[0] = 0;
	bytes = read(pair[0], &packet, sizeof(packet));
	if (bytes > 0) {
		ck_assert_int_gt(bytes, sizeof(packet.msg));
		ck_assert_uint_eq(packet.msg.kind, CHANNEL_DEATH);
		ck_assert_uint_eq(packet.msg.size, bytes - sizeof(packet.msg));
		snprintf(words, sizeof(words), "%.*s", (int)packet.msg.size, packet.data);
	}
	for (used = 0; used < sizeof(errors) - 1; used += bytes) {
		bytes = read(pipes[0], errors + used, sizeof(errors) - 1 - used);
		if (bytes <= 0)
			break;
	}
	errors[used] = 0;
	close(pair[0]);
	close(pipes[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "status %#x", status);
	return WEXITSTATUS(status);
}

static void expect_end(char **argv, const char *preload, const char *text)
{
	ck_assert_int_eq(run_shadow(argv, preload), SANDBOX_EXIT_FAILED);
	ck_assert_msg(strstr(words, text), "'%s' expected: '%s'", text, words);
	ck_assert_msg(strstr(errors, text), "'%s' expected on stderr: '%s'", text, errors);
}

START_TEST(device)
{
	expect_end((char *[]) { "s", "--fd", "7", "--device", "/dev/no-such-device", NULL }, NULL, "load the module");
	expect_end((char *[]) { "s", "--fd", "7", "--device", "/dev/null", NULL }, NULL, "is not Umbra's device");
}
END_TEST

START_TEST(preloaded)
{
	expect_end((char *[]) { "s", "--fd", "7", NULL }, "/nowhere/libumbra-kvm.so", "must clear LD_PRELOAD");
}
END_TEST

START_TEST(usage)
{
	static const char *const bad_fds[] = { "", "x", "7x", "-1", "1", "99", "65536", "99999999999999999999" };

	for (size_t i = 0; i < sizeof(bad_fds) / sizeof(bad_fds[0]); i++)
		ck_assert_int_eq(run_shadow((char *[]) { "s", "--fd", (char *)bad_fds[i], NULL }, NULL), 2);
	ck_assert_int_eq(run_shadow((char *[]) { "s", NULL }, NULL), 2);
	ck_assert_ptr_nonnull(strstr(errors, "usage:"));
	ck_assert_int_eq(run_shadow((char *[]) { "s", "--fd", "7", "more", NULL }, NULL), 2);
	ck_assert_int_eq(run_shadow((char *[]) { "s", "--fd", "7", "--nonsense", NULL }, NULL), 2);
	/* Only the test build knows it. */
	ck_assert_int_eq(run_shadow((char *[]) { "s", "--fd", "7", "--test-forbidden-syscall", NULL }, NULL), 2);
	ck_assert_int_eq(run_shadow((char *[]) { "s", "--help", NULL }, NULL), 0);
	ck_assert_int_eq(run_shadow((char *[]) { "s", "--version", NULL }, NULL), 0);
	ck_assert_ptr_nonnull(strstr(errors, "umbra-shadow "));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("start");
	TCase *tc = tcase_create("failures");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, device);
	tcase_add_test(tc, preloaded);
	tcase_add_test(tc, usage);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
