/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sandbox from outside: what /proc says about a process in it, how it ends and what its starter hears. */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "sandbox.h"

#define ALL_NAMESPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID)

static int sock = -1;
static pid_t waiter;
static int error_fd = -1; /* the probe's standard error; -1: /dev/null, written only */
static struct channel_hello hello;
static struct channel_msg last;
static char words[1024];

#define USER 1	   /* not root */
#define CHROOTED 2 /* behind a chroot the kernel refuses user namespaces */
#define NO_STDERR 4

static char chroot_dir[] = "/tmp/umbra-sandbox-XXXXXX";

static bool go_behind_chroot(void)
{
	return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("/", chroot_dir, NULL, MS_BIND | MS_REC, NULL) && !chroot(chroot_dir) && !chdir("/");
}

static void start_as(const char *what, const char *more, int how)
{
	int pair[2], null;

	strcpy(chroot_dir, "/tmp/umbra-sandbox-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(chroot_dir));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	waiter = fork();
	ck_assert_int_ge(waiter, 0);
	if (!waiter) {
		int extra = fcntl(pair[1], F_DUPFD, 100); /* one that must be closed */

		null = error_fd < 0 ? open("/dev/null", O_WRONLY) : error_fd;
		dup2(null, 2);
		if (how & NO_STDERR)
			close(2);
		dup2(pair[1], 5);
		fcntl(5, F_SETFD, 0); /* dup2 leaves the flag where the two are one */
		if (extra < 0 || ((how & CHROOTED) && !go_behind_chroot()) ||
		    ((how & USER) && (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))))
			_exit(98);
		execl(PROBE, "sandbox-probe", what, more, NULL);
		_exit(99);
	}
	close(pair[1]);
	sock = pair[0];
}

/* One message; its kind, 0 at the end. */
static int next_message(void)
{
	struct {
		struct channel_msg msg;
		char data[1024];
	} packet;
	ssize_t bytes = read(sock, &packet, sizeof(packet));

	if (bytes <= 0)
		return 0;
	ck_assert_int_ge(bytes, sizeof(packet.msg));
	ck_assert_uint_eq(packet.msg.size, bytes - sizeof(packet.msg));
	last = packet.msg;
	if (packet.msg.kind == CHANNEL_HELLO) {
		ck_assert_uint_eq(packet.msg.size, sizeof(hello));
		memcpy(&hello, packet.data, sizeof(hello));
	} else if (packet.msg.kind == CHANNEL_DEATH) {
		snprintf(words, sizeof(words), "%.*s", (int)packet.msg.size, packet.data);
	}
	return packet.msg.kind;
}

static void start(const char *what)
{
	start_as(what, NULL, 0);
	ck_assert_int_eq(next_message(), CHANNEL_HELLO);
}

static int end_status(void)
{
	int status;

	ck_assert_int_eq(waitpid(waiter, &status, 0), waiter);
	ck_assert_msg(WIFEXITED(status), "status %#x", status);
	return WEXITSTATUS(status);
}

static void teardown(void)
{
	rmdir(chroot_dir); /* mounted over only in the child's own namespace */
	if (sock >= 0)
		close(sock);
	sock = -1;
}

/* ---- /proc ---- */

static void status_line(pid_t pid, const char *key, char *value, size_t size)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	value[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) || line[strlen(key)] != ':')
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(value, size, "%s", line + strlen(key) + 1 + strspn(line + strlen(key) + 1, "\t "));
	}
	fclose(f);
}

static void expect_status(pid_t pid, const char *key, const char *expected)
{
	char value[256];

	status_line(pid, key, value, sizeof(value));
	ck_assert_msg(!strcmp(value, expected), "pid %d: %s is '%s', not '%s'", pid, key, value, expected);
}

static void expect_locked_in(pid_t pid)
{
	static const char *const empty[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };

	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		expect_status(pid, empty[i], "0000000000000000");
	expect_status(pid, "NoNewPrivs", "1");
	expect_status(pid, "Seccomp", "2");
}

static bool is_root(void)
{
	if (!geteuid())
		return true;
	fprintf(stderr, "SKIP: /proc of a process that is not dumpable can be read by root only\n");
	return false;
}

static void expect_other_namespace(pid_t pid, const char *name, bool other)
{
	char path[64], ours[64] = "", theirs[64] = "";

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	ck_assert_int_gt(readlink(path, ours, sizeof(ours) - 1), 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	ck_assert_msg(readlink(path, theirs, sizeof(theirs) - 1) > 0, "%s: %s", path, strerror(errno));
	ck_assert_msg(!!strcmp(ours, theirs) == other, "%s of %d: %s, ours %s", name, pid, theirs, ours);
}

static void expect_limit(pid_t pid, const char *name, unsigned long long at_most)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long soft, hard;

		if (strncmp(line, name, strlen(name)))
			continue;
		ck_assert_msg(sscanf(line + strlen(name), "%llu %llu", &soft, &hard) == 2, "%s",
			      line); /* not "unlimited" */
		ck_assert_msg(hard <= at_most && soft == hard, "%s", line);
		found = true;
	}
	fclose(f);
	ck_assert_msg(found, "no limit %s", name);
}

START_TEST(privileges)
{
	start("serve");
	expect_locked_in(hello.pid);
	expect_locked_in(waiter);
	expect_status(hello.pid, "SigBlk", "0000000000000000");
}
END_TEST

/* Where the kernel leaves it to each process. */
START_TEST(predictors)
{
	char own[256];

	start("serve");
	status_line(getpid(), "SpeculationIndirectBranch", own, sizeof(own));
	if (!strncmp(own, "conditional ", 12))
		snprintf(own, sizeof(own), "conditional force disabled");
	else
		fprintf(stderr, "SKIP: indirect branches are %s for each process here: nothing to ask for\n", own);
	expect_status(hello.pid, "SpeculationIndirectBranch", own);
	expect_status(waiter, "SpeculationIndirectBranch", own);
}
END_TEST

START_TEST(not_root)
{
	char value[256];

	start("serve");
	for (int i = 0; i < 2; i++) {
		status_line(i ? waiter : (pid_t)hello.pid, "Uid", value, sizeof(value));
		ck_assert_msg(geteuid() || !strcmp(value, "65534\t65534\t65534\t65534"), "uid %s", value);
		status_line(i ? waiter : (pid_t)hello.pid, "Gid", value, sizeof(value));
		ck_assert_msg(geteuid() || !strcmp(value, "65534\t65534\t65534\t65534"), "gid %s", value);
		if (!geteuid())
			expect_status(i ? waiter : (pid_t)hello.pid, "Groups", "");
	}
}
END_TEST

START_TEST(namespaces)
{
	static const char *const names[] = { "user", "mnt", "net", "ipc", "uts", "pid" };

	start("serve");
	if (hello.namespaces != ALL_NAMESPACES)
		fprintf(stderr, "note: this kernel allows only the namespaces %#x\n", hello.namespaces);
	if (!is_root())
		return;
	ck_assert_uint_eq(hello.namespaces, ALL_NAMESPACES);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		expect_other_namespace(hello.pid, names[i], true);
		expect_other_namespace(waiter, names[i],
				       strcmp(names[i], "pid")); /* the waiter stays outside of that one */
	}
}
END_TEST

START_TEST(empty_root)
{
	char path[64], link[256] = "";
	struct dirent *entry;
	DIR *dir;

	start("serve");
	if (!is_root())
		return;
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/root", i ? waiter : (pid_t)hello.pid);
		dir = opendir(path);
		ck_assert_ptr_nonnull(dir);
		while ((entry = readdir(dir)))
			ck_assert_msg(entry->d_name[0] == '.', "%s has %s", path, entry->d_name);
		ck_assert_int_lt(openat(dirfd(dir), "new", O_CREAT | O_WRONLY, 0600), 0);
		ck_assert_int_eq(errno, EROFS);
		closedir(dir);
	}
	snprintf(path, sizeof(path), "/proc/%d/cwd", hello.pid);
	ck_assert_int_gt(readlink(path, link, sizeof(link) - 1), 0);
	ck_assert_str_eq(link, "/");
}
END_TEST

START_TEST(mounts_stay_inside)
{
	char line[512];
	FILE *f;

	start("serve");
	f = fopen("/proc/self/mounts", "r");
	while (fgets(line, sizeof(line), f))
		ck_assert_msg(strncmp(line, "umbra ", 6), "seen outside: %s", line);
	fclose(f);
}
END_TEST

START_TEST(descriptors)
{
	char path[64], link[256];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	start("serve");
	if (!is_root())
		return;
	snprintf(path, sizeof(path), "/proc/%d/fd", hello.pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir))) {
		ssize_t len;

		if (entry->d_name[0] == '.')
			continue;
		len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
		ck_assert_int_gt(len, 0);
		link[len] = 0;
		ck_assert_msg(!strcmp(entry->d_name, "3")
				      ? !strncmp(link, "socket:", 7)
				      : entry->d_name[0] <= '2' && !entry->d_name[1] && !strcmp(link, "/dev/null"),
			      "descriptor %s is %s", entry->d_name, link);
		count++;
	}
	closedir(dir);
	ck_assert_int_eq(count, 4);
}
END_TEST

/* ---- standard error ---- */

enum { PTY, FILE_BOTH, FILE_APPEND, FILE_WRITE, PIPE, FIFO, SOCKET, READ_ONLY, CLOSED, NOT_OURS, KINDS };

static char error_file[] = "/tmp/umbra-stderr-XXXXXX";
static int other_end; /* where its words can be read */

static void put(int fd, const char *text)
{
	ck_assert_int_eq(write(fd, text, strlen(text)), strlen(text));
}

static void make_pty(void)
{
	struct termios raw;

	error_fd = -1;
	ck_assert_int_eq(openpty(&other_end, &error_fd, NULL, NULL, NULL), 0);
	ck_assert_int_eq(tcgetattr(error_fd, &raw), 0);
	cfmakeraw(&raw);
	ck_assert_int_eq(tcsetattr(error_fd, TCSANOW, &raw), 0);
	put(other_end, "typed"); /* what the user types */
}

static void make_file(int flags)
{
	int fd = mkstemp(error_file);

	ck_assert_int_ge(fd, 0);
	close(fd);
	error_fd = open(error_file, flags);
	other_end = open(error_file, O_RDONLY);
	ck_assert(error_fd >= 0 && other_end >= 0);
	if (flags & O_ACCMODE)
		put(error_fd, "older\n");
	if ((flags & O_ACCMODE) == O_RDWR)
		lseek(error_fd, 0, SEEK_SET); /* there is something to read */
}

static void make_error_fd(int kind)
{
	int pair[2];

	strcpy(error_file, "/tmp/umbra-stderr-XXXXXX");
	other_end = -1;
	switch (kind) {
	case PTY:
		make_pty();
		return;
	case FILE_APPEND:
		make_file(O_WRONLY | O_APPEND);
		return;
	case FILE_WRITE:
		make_file(O_WRONLY);
		return;
	case FILE_BOTH:
	case NOT_OURS: /* root's file, and the shadow is somebody else's */
		make_file(O_RDWR);
		return;
	case READ_ONLY:
		make_file(O_RDONLY);
		return;
	case PIPE:
		ck_assert_int_eq(pipe(pair), 0);
		break;
	case FIFO: /* open for both, nobody else at it: a plain open() to write would wait for a reader */
		close(mkstemp(error_file));
		unlink(error_file);
		ck_assert_int_eq(mkfifo(error_file, 0600), 0);
		other_end = error_fd = open(error_file, O_RDWR);
		put(error_fd, "x"); /* there is something to read */
		return;
	case SOCKET:
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		put(pair[0], "request");
		break;
	default:
		return;
	}
	other_end = pair[0];
	error_fd = pair[1];
}

/*
 * Whoever takes the shadow over may read() and lseek(). Nothing can be read from what the VMM has as its standard error, no line that
 * is there be changed, and neither writes over the other's; where that cannot be had it is /dev/null.
 */
START_TEST(standard_error)
{
	static const char *const words_of[KINDS] = {
		[PTY] = "shadow\n",
		[FILE_BOTH] = "older\nshadow\nvmm\n",
		[FILE_APPEND] = "older\nshadow\nvmm\n",
		[FILE_WRITE] = "older\nshadow\nvmm\n",
		[PIPE] = "shadow\n",
		[FIFO] = "xshadow\n",
		[SOCKET] = "",
		[READ_ONLY] = "",
		[CLOSED] = NULL,
		[NOT_OURS] = "older\nvmm\n",
	};
	char got[64] = "";
	ssize_t n;

	if (_i == NOT_OURS && !is_root())
		return;
	make_error_fd(_i);
	start_as("stderr", NULL, _i == NOT_OURS ? USER : _i == CLOSED ? NO_STDERR : 0);
	ck_assert_int_eq(next_message(), CHANNEL_HELLO);
	ck_assert_int_eq(next_message(), CHANNEL_VM);
	ck_assert_msg(last.ret == -EBADF, "kind %d: read() gives %d", _i, (int)last.ret);
	ck_assert_msg((last.arg & O_ACCMODE) == O_WRONLY, "kind %d: flags %#x", _i, (unsigned int)last.arg);
	ck_assert_msg(!(last.arg & O_NONBLOCK), "kind %d: it does not block", _i);
	ck_assert_msg(!last.cookie, "kind %d: write() gives %u", _i, last.cookie);
	if (_i == FILE_BOTH || _i == FILE_APPEND || _i == FILE_WRITE || _i == NOT_OURS)
		put(error_fd, "vmm\n"); /* by the VMM's own descriptor */
	if (words_of[_i]) {
		fcntl(other_end, F_SETFL, fcntl(other_end, F_GETFL) | O_NONBLOCK);
		n = read(other_end, got, sizeof(got) - 1);
		got[n < 0 ? 0 : n] = 0;
		ck_assert_msg(!strcmp(got, words_of[_i]), "kind %d: '%s'", _i, got);
	}
	unlink(error_file);
	close(sock);
	sock = -1;
	ck_assert_int_eq(end_status(), 17);
}
END_TEST

START_TEST(not_dumpable)
{
	char path[64];
	struct stat st;

	start("serve");
	snprintf(path, sizeof(path), "/proc/%d/mem", hello.pid);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_uid, 0); /* a dumpable process's files are its user's */
}
END_TEST

START_TEST(limits)
{
	start("serve");
	if (!is_root())
		return;
	expect_limit(hello.pid, "Max core file size", 0);
	expect_limit(hello.pid, "Max file size", 0);
	expect_limit(hello.pid, "Max locked memory", 0);
	expect_limit(hello.pid, "Max msgqueue size", 0);
	expect_limit(hello.pid, "Max open files", 8192);
	expect_limit(hello.pid, "Max processes", 80);
}
END_TEST

START_TEST(ordinary_user)
{
	if (!is_root())
		return;
	start_as("serve", NULL, USER);
	ck_assert_int_eq(next_message(), CHANNEL_HELLO);
	ck_assert_msg(hello.namespaces == ALL_NAMESPACES || access("/proc/sys/user/max_user_namespaces", F_OK),
		      "namespaces %#x", hello.namespaces);
	expect_locked_in(hello.pid);
	close(sock);
	sock = -1;
	ck_assert_int_eq(end_status(), 17);
}
END_TEST

/* Where the kernel refuses user namespaces: it goes on without, or ends if they are required. */
START_TEST(no_namespaces)
{
	if (!is_root())
		return;
	start_as("serve", NULL, USER | CHROOTED);
	ck_assert_int_eq(next_message(), CHANNEL_HELLO);
	ck_assert_uint_eq(hello.namespaces, 0);
	expect_status(hello.pid, "Seccomp", "2");
	expect_status(hello.pid, "NoNewPrivs", "1");
	expect_status(hello.pid, "CapPrm", "0000000000000000");
	expect_status(hello.pid, "CapEff", "0000000000000000");
	close(sock);
	ck_assert_int_eq(end_status(), 17);
	rmdir(chroot_dir);

	start_as("serve", "require", USER | CHROOTED);
	ck_assert_int_eq(next_message(), CHANNEL_DEATH);
	ck_assert_msg(strstr(words, "user namespace"), "%s", words);
	ck_assert_int_eq(end_status(), SANDBOX_EXIT_FAILED);
}
END_TEST

/* Root of a machine without user namespaces has the others all the same, and is not root afterwards. */
START_TEST(root_without_user_namespace)
{
	char value[256];

	if (!is_root())
		return;
	start_as("serve", NULL, CHROOTED);
	ck_assert_int_eq(next_message(), CHANNEL_HELLO);
	ck_assert_uint_eq(hello.namespaces, ALL_NAMESPACES & ~CLONE_NEWUSER);
	expect_locked_in(hello.pid);
	expect_locked_in(waiter);
	status_line(hello.pid, "Uid", value, sizeof(value));
	ck_assert_str_eq(value, "65534\t65534\t65534\t65534");
	close(sock);
	sock = -1;
	ck_assert_int_eq(end_status(), 17);
}
END_TEST

/* ---- life and death ---- */

START_TEST(serves_and_ends)
{
	struct channel_msg msg = { .version = CHANNEL_VERSION, .kind = CHANNEL_VM };

	start("serve");
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(write(sock, &msg, sizeof(msg)), sizeof(msg));
		ck_assert_int_eq(next_message(), CHANNEL_VM);
	}
	close(sock);
	sock = -1;
	ck_assert_int_eq(end_status(), 17);
}
END_TEST

struct ending {
	const char *what;
	int status;
	const char *words; /* how they begin; NULL: no CHANNEL_DEATH */
};
static const struct ending endings[] = {
	{ "threads", 0, NULL },
	{ "many-threads", 0, NULL },
	{ "libc", 0, NULL },
	{ "thread-escapes", SANDBOX_EXIT_VIOLATION, "forbidden system call openat (257) in the event thread" },
	{ "open", SANDBOX_EXIT_VIOLATION, "forbidden system call openat (257) in the control thread" },
	{ "abort", SANDBOX_EXIT_VIOLATION, "aborted" },
	{ "crash", SANDBOX_EXIT_SIGNAL + SIGSEGV,
	  "crashed: SIGSEGV in the control thread, address 0x8, instruction umbra-shadow+" },
	{ "memory-cut", SANDBOX_EXIT_SIGNAL + SIGBUS, "crashed: SIGBUS in the control thread, address 0x" },
	{ "smash", SANDBOX_EXIT_SIGNAL + SIGABRT,
	  "crashed: a function's stack frame was overwritten in the event thread, instruction umbra-shadow+" },
	{ "die", SANDBOX_EXIT_FAILED, "tired of it" },
};

START_TEST(ends)
{
	const struct ending *ending = &endings[_i];

	start(ending->what);
	if (ending->words) {
		ck_assert_int_eq(next_message(), CHANNEL_DEATH);
		ck_assert_msg(!strncmp(words, ending->words, strlen(ending->words)), "%s: '%s'", ending->what, words);
		ck_assert_msg(!strstr(words, "cut short") == !!strcmp(ending->what, "memory-cut"), "%s", words);
	}
	ck_assert_int_eq(next_message(), 0);
	ck_assert_msg(end_status() == ending->status, "%s", ending->what);
}
END_TEST

START_TEST(killed_shadow)
{
	start("serve");
	ck_assert_int_eq(kill(hello.pid, SIGKILL), 0);
	ck_assert_int_eq(next_message(), CHANNEL_DEATH);
	ck_assert_msg(strstr(words, "killed by signal 9"), "%s", words);
	ck_assert_int_eq(next_message(), 0);
	ck_assert_int_eq(end_status(), SANDBOX_EXIT_SIGNAL + SIGKILL);
}
END_TEST

/* Gone, or waiting for whoever is its parent now. */
static bool process_lives(pid_t pid)
{
	char path[64], state[256] = "";

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (access(path, F_OK))
		return false;
	status_line(pid, "State", state, sizeof(state));
	return state[0] && state[0] != 'Z' && state[0] != 'X';
}

START_TEST(killed_waiter)
{
	int status, tries = 0;

	start("spin");
	ck_assert_int_eq(kill(waiter, SIGKILL), 0);
	ck_assert_int_eq(waitpid(waiter, &status, 0), waiter);
	while (process_lives(hello.pid) && tries++ < 500)
		nanosleep(&(struct timespec) { .tv_nsec = 10000000 }, NULL);
	ck_assert_msg(!process_lives(hello.pid), "the shadow lives on without its waiter");
	ck_assert_int_eq(next_message(), 0);
}
END_TEST

/* The VMM is gone and the shadow does not care: the waiter ends it. */
START_TEST(deaf_shadow)
{
	start("spin");
	close(sock);
	sock = -1;
	ck_assert_int_eq(end_status(), SANDBOX_EXIT_SIGNAL + SIGKILL);
	ck_assert(!process_lives(hello.pid));
}
END_TEST

/* A VMM that gives its shadow the VMM's own end of the socket, in messages that are taken or not, and dies: its shadow ends all the same. */
static void last_acts_of_vmm(int report, bool answered)
{
	static char data[32768];
	struct channel_msg msg = { .version = CHANNEL_VERSION, .kind = CHANNEL_VM, .size = sizeof(data) };
	struct iovec iov[2] = { { &msg, sizeof(msg) }, { data, sizeof(data) } };
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = { .head = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr hdr = {
		.msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct pollfd poll_reply;
	int sent = 0;

	start_as("serve", NULL, 0);
	poll_reply = (struct pollfd) { .fd = sock, .events = POLLIN };
	if (next_message() != CHANNEL_HELLO)
		_exit(1);
	memcpy(CMSG_DATA(&control.head), &sock, sizeof(sock));
	do {
		while (sendmsg(sock, &hdr, MSG_DONTWAIT) > 0)
			sent++;
		if (answered) {
			if (poll(&poll_reply, 1, 5000) != 1)
				_exit(2);
			break;
		}
		usleep(100000); /* until the shadow waits in its reply, and takes no more */
	} while (sendmsg(sock, &hdr, MSG_DONTWAIT) > 0 && sent++ < 1000);
	_exit(write(report, &hello.pid, sizeof(hello.pid)) == sizeof(hello.pid) && sent ? 0 : 3);
}

START_TEST(socket_kept_open)
{
	int report[2], status, tries = 0;
	pid_t vmm;

	ck_assert_int_eq(pipe2(report, O_CLOEXEC), 0);
	vmm = fork();
	ck_assert_int_ge(vmm, 0);
	if (!vmm)
		last_acts_of_vmm(report[1], _i == 0);
	ck_assert_int_eq(waitpid(vmm, &status, 0), vmm);
	ck_assert_msg(WIFEXITED(status) && !WEXITSTATUS(status), "status %#x", status);
	ck_assert_int_eq(read(report[0], &hello.pid, sizeof(hello.pid)), sizeof(hello.pid));
	while (process_lives(hello.pid) && tries++ < 1000)
		nanosleep(&(struct timespec) { .tv_nsec = 10000000 }, NULL);
	if (process_lives(hello.pid)) {
		kill(hello.pid, SIGKILL);
		ck_abort_msg("the shadow lives on without its VMM");
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sandbox");
	TCase *tc = tcase_create("process");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_add_test(tc, privileges);
	tcase_add_test(tc, predictors);
	tcase_add_test(tc, not_root);
	tcase_add_test(tc, namespaces);
	tcase_add_test(tc, empty_root);
	tcase_add_test(tc, mounts_stay_inside);
	tcase_add_test(tc, descriptors);
	tcase_add_loop_test(tc, standard_error, 0, KINDS);
	tcase_add_test(tc, not_dumpable);
	tcase_add_test(tc, limits);
	tcase_add_test(tc, ordinary_user);
	tcase_add_test(tc, no_namespaces);
	tcase_add_test(tc, root_without_user_namespace);
	tcase_add_test(tc, serves_and_ends);
	tcase_add_loop_test(tc, ends, 0, sizeof(endings) / sizeof(endings[0]));
	tcase_add_test(tc, killed_shadow);
	tcase_add_test(tc, killed_waiter);
	tcase_add_test(tc, deaf_shadow);
	tcase_add_loop_test(tc, socket_kept_open, 0, 2);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
