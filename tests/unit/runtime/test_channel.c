/* SPDX-License-Identifier: GPL-2.0-or-later */
/* channel_io.c against a peer that sends whatever it likes. */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "channel_fds.h"
#include "channel_io.h"

static int ours, peers;
static unsigned char payload[CHANNEL_PAYLOAD_MAX];
static int fds[CHANNEL_FDS_MAX], nfds;
static struct channel_msg msg;

static void setup(void)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	ours = pair[0];
	peers = pair[1];
	memset(&msg, 0xee, sizeof(msg));
	nfds = -1;
}

static void teardown(void)
{
	close(ours);
	close(peers);
}

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Sends a packet as it is, with `count` descriptors. */
static void send_raw(const void *head, size_t head_size, size_t size, int count)
{
	char *data = calloc(1, head_size + size + 1);
	char control[CMSG_SPACE(sizeof(int) * 16)] = { 0 };
	struct iovec iov = { data, head_size + size };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	memcpy(data, head, head_size);
	if (count) {
		hdr.msg_control = control;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * count);
		for (int i = 0; i < count; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &peers, sizeof(int));
	}
	ck_assert_int_eq(sendmsg(peers, &hdr, 0), head_size + size);
	free(data);
}

static struct channel_msg good_head(unsigned int size)
{
	return (struct channel_msg) { .version = CHANNEL_VERSION, .kind = CHANNEL_VM, .nr = 7, .arg = 8, .size = size };
}

static int receive(void)
{
	return channel_receive(ours, &msg, payload, fds, &nfds);
}

/* A message that must be refused, leaves no descriptor behind and does not spoil the next one. */
static void expect_refused(const void *head, size_t head_size, size_t size, int count)
{
	struct channel_msg good = good_head(0);
	int before = open_fds();

	send_raw(head, head_size, size, count);
	ck_assert_int_eq(receive(), -EBADMSG);
	ck_assert_int_eq(nfds, 0);
	ck_assert_int_eq(open_fds(), before);
	send_raw(&good, sizeof(good), 0, 0);
	ck_assert_int_eq(receive(), 1);
}

START_TEST(round_trip)
{
	struct channel_msg out = { .kind = CHANNEL_SYSTEM, .nr = 0xae03, .arg = 1ULL << 40, .ret = -5, .cookie = 9 };
	static unsigned char data[CHANNEL_PAYLOAD_MAX];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = i * 7;
	for (size_t size = 0; size <= sizeof(data); size = size ? size * 16 : 16) {
		memset(payload, 0, sizeof(payload));
		ck_assert_int_eq(channel_send(peers, &out, data, size), 0);
		ck_assert_int_eq(receive(), 1);
		ck_assert_uint_eq(msg.version, CHANNEL_VERSION);
		ck_assert_uint_eq(msg.kind, CHANNEL_SYSTEM);
		ck_assert_uint_eq(msg.nr, 0xae03);
		ck_assert_uint_eq(msg.arg, 1ULL << 40);
		ck_assert_int_eq(msg.ret, -5);
		ck_assert_uint_eq(msg.cookie, 9);
		ck_assert_uint_eq(msg.size, size);
		ck_assert_int_eq(memcmp(data, payload, size), 0);
		ck_assert_int_eq(nfds, 0);
	}
}
END_TEST

START_TEST(descriptors_travel)
{
	struct channel_msg out = { .kind = CHANNEL_VCPU };
	int pipes[2], send[CHANNEL_FDS_MAX];
	char byte;

	ck_assert_int_eq(pipe(pipes), 0);
	for (int i = 0; i < CHANNEL_FDS_MAX; i++)
		send[i] = pipes[1];
	ck_assert_int_eq(channel_send_fds(peers, &out, "x", 1, send, CHANNEL_FDS_MAX), 0);
	ck_assert_int_eq(receive(), 1);
	ck_assert_int_eq(nfds, CHANNEL_FDS_MAX);
	for (int i = 0; i < nfds; i++) {
		ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		ck_assert_int_eq(write(fds[i], &"abcd"[i], 1), 1);
		ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
		ck_assert_int_eq(byte, "abcd"[i]);
		close(fds[i]);
	}
	close(pipes[0]);
	close(pipes[1]);
}
END_TEST

START_TEST(send_limits)
{
	struct channel_msg out = { .kind = CHANNEL_VM };

	ck_assert_int_eq(channel_send(peers, &out, payload, CHANNEL_PAYLOAD_MAX + 1), -EMSGSIZE);
}
END_TEST

START_TEST(short_header)
{
	struct channel_msg head = good_head(0);

	for (size_t size = 1; size < sizeof(head); size++)
		expect_refused(&head, size, 0, 0);
	expect_refused(&head, 3, 0, 2);
}
END_TEST

START_TEST(size_lies)
{
	struct channel_msg head = good_head(100);

	expect_refused(&head, sizeof(head), 99, 0);
	expect_refused(&head, sizeof(head), 101, 0);
	expect_refused(&head, sizeof(head), 0, 0);
	head.size = 0xffffffff;
	expect_refused(&head, sizeof(head), 0, 0);
	head.size = 0;
	expect_refused(&head, sizeof(head), 1, 0);
}
END_TEST

START_TEST(oversized)
{
	struct channel_msg head = good_head(CHANNEL_PAYLOAD_MAX + 1);

	expect_refused(&head, sizeof(head), CHANNEL_PAYLOAD_MAX + 1, 0);
	/* Cut off, and the header agrees with what is left of it. */
	head.size = CHANNEL_PAYLOAD_MAX;
	expect_refused(&head, sizeof(head), CHANNEL_PAYLOAD_MAX + 1, 1);
}
END_TEST

START_TEST(version_and_kind)
{
	struct channel_msg head = good_head(0);

	head.version = CHANNEL_VERSION + 1;
	expect_refused(&head, sizeof(head), 0, 0);
	head.version = 0;
	expect_refused(&head, sizeof(head), 0, 1);
	head = good_head(0);
	head.kind = 0;
	expect_refused(&head, sizeof(head), 0, 0);
	head.kind = CHANNEL_DEATH + 1;
	expect_refused(&head, sizeof(head), 0, 0);
	head.kind = 0xffff;
	expect_refused(&head, sizeof(head), 0, 0);
}
END_TEST

START_TEST(too_many_descriptors)
{
	struct channel_msg head = good_head(4);

	/* CMSG_SPACE rounds up, so one more may get past the kernel's own limit, and many more do not. */
	expect_refused(&head, sizeof(head), 4, CHANNEL_FDS_MAX + 1);
	expect_refused(&head, sizeof(head), 4, 16);
}
END_TEST

/* A descriptor that cannot be installed is cut off by the kernel: MSG_CTRUNC. */
START_TEST(truncated_descriptors)
{
	struct channel_msg head = good_head(0);
	struct rlimit few = { 256, 256 };
	int taken[300], count = 0, ret;

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	send_raw(&head, sizeof(head), 0, 3);
	while (count < 300 && (taken[count] = dup(ours)) >= 0)
		count++;
	ck_assert_int_gt(count, 10);
	ck_assert_int_lt(count, 300);
	close(taken[--count]); /* room for one of three */
	ret = receive();
	while (count)
		close(taken[--count]);
	ck_assert_int_eq(ret, -EBADMSG);
	ck_assert_int_eq(nfds, 0);
}
END_TEST

START_TEST(end_of_channel)
{
	struct channel_msg out = { .kind = CHANNEL_VM };

	signal(SIGPIPE, SIG_IGN); /* as in a shadow */
	close(peers);
	ck_assert_int_eq(receive(), 0);
	ck_assert_int_eq(channel_send(ours, &out, NULL, 0), -EPIPE);
	close(ours);
	ck_assert_int_eq(receive(), -EBADF);
}
END_TEST

START_TEST(death)
{
	char longer[2000];

	channel_death(peers, "killed by a test");
	ck_assert_int_eq(receive(), 1);
	ck_assert_uint_eq(msg.kind, CHANNEL_DEATH);
	ck_assert_uint_eq(msg.size, strlen("killed by a test"));
	ck_assert_int_eq(memcmp(payload, "killed by a test", msg.size), 0);

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	channel_death(peers, longer);
	ck_assert_int_eq(receive(), 1);
	ck_assert_uint_gt(msg.size, 100);
	ck_assert_uint_lt(msg.size, sizeof(longer));
	channel_death(-1, "nobody"); /* must not crash */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("channel");
	TCase *tc = tcase_create("messages");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, round_trip);
	tcase_add_test(tc, descriptors_travel);
	tcase_add_test(tc, send_limits);
	tcase_add_test(tc, short_header);
	tcase_add_test(tc, size_lies);
	tcase_add_test(tc, oversized);
	tcase_add_test(tc, version_and_kind);
	tcase_add_test(tc, too_many_descriptors);
	tcase_add_test(tc, truncated_descriptors);
	tcase_add_test(tc, end_of_channel);
	tcase_add_test(tc, death);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
