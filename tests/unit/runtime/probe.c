/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A shadow without a shim: goes into the sandbox as umbra-shadow does, says hello, then does what argv[1] says.
 * Descriptor 5 is the socket; an argument "require" behind it makes namespaces mandatory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel_io.h"
#include "sandbox.h"
#include "umbra_abi.h"

static unsigned char payload[CHANNEL_PAYLOAD_MAX];

static void *thread_of(void *role)
{
	sandbox_thread((enum sandbox_role)(long)role);
	sched_yield();
	return "done";
}

static void *thread_escapes(void *role)
{
	sandbox_thread((enum sandbox_role)(long)role);
	open("/etc/passwd", O_RDONLY);
	return NULL;
}

static int threads(void *(*body)(void *))
{
	static const enum sandbox_role roles[] = { SANDBOX_EVENT, SANDBOX_VCPU, SANDBOX_VCPU };
	pthread_t thread;
	void *result;

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (pthread_create(&thread, NULL, body, (void *)(long)roles[i]))
			return 20;
		if (pthread_join(thread, &result) || !result)
			return 21;
	}
	return 0;
}

static void *thread_stays(void *arg)
{
	sandbox_thread(SANDBOX_VCPU);
	for (;;)
		syscall(SYS_futex, arg, FUTEX_WAIT_PRIVATE, 0, NULL);
	return NULL;
}

/* All that a guest may have at once fits, and there is an end to it. */
static int many_threads(const struct sandbox *sandbox)
{
	static int word;
	pthread_t thread;
	int count = 0, error;

	do
		error = pthread_create(&thread, NULL, thread_stays, &word);
	while (!error && ++count < 200);
	if (!(sandbox->namespaces &
	      CLONE_NEWUSER)) /* the limit would count the user's other processes too: there is none */
		return error ? 27 : 0;
	if (error != EAGAIN)
		return 25;
	return count >= UMBRA_MAX_VCPUS + 1 && count < 100 ? 0 : 26;
}

/* What comes stays open, as one that is kept would. */
static int wait_for_end(int fd)
{
	int fds[CHANNEL_FDS_MAX], nfds;
	struct channel_msg msg;

	while (channel_receive(fd, &msg, payload, fds, &nfds) > 0)
		if (channel_send(fd, &msg, payload, msg.size))
			return 30;
	return 17;
}

/* What can be done with standard error: the result of read(), and its flags, go to the other side. */
static int use_stderr(int fd)
{
	struct channel_msg msg = { .kind = CHANNEL_VM };
	ssize_t n = read(STDERR_FILENO, payload, 64);

	msg.ret = n < 0 ? -errno : n;
	msg.arg = (unsigned int)fcntl(STDERR_FILENO, F_GETFL);
	lseek(STDERR_FILENO, 0, SEEK_SET); /* over the lines that are there */
	if (write(STDERR_FILENO, "shadow\n", 7) != 7)
		msg.cookie = errno;
	return channel_send(fd, &msg, NULL, 0) ? 50 : wait_for_end(fd);
}

/* What a shadow does all day with libc, so that a policy that forgets something is seen. */
static int use_libc(void)
{
	struct stat st;

	if (syscall(SYS_fstat, 3, &st) || !S_ISSOCK(st.st_mode))
		return 42;
	for (size_t size = 16; size < (64 << 20); size *= 3) {
		char *p = malloc(size);

		if (!p)
			return 40;
		memset(p, 1, size);
		p = realloc(p, size * 2);
		if (!p || p[size - 1] != 1)
			return 41;
		free(p);
	}
	return 0;
}

/* Guest memory whose file the VMM cuts short: before the sandbox, where no memfd is made any more. */
static volatile char *memory_cut(void)
{
	int fd = memfd_create("cut", MFD_CLOEXEC);
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return fd < 0 || memory == MAP_FAILED || ftruncate(fd, 0) ? NULL : memory;
}

/* On a thread that may not do what glibc does when its own check finds this. */
static void *thread_smashes(void *role)
{
	char frame[16];
	char *volatile at = frame;

	sandbox_thread((enum sandbox_role)(long)role);
	memset(at, 0x41, 64);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sandbox sandbox = { .control_fd = 5, .device_fd = -1 };
	struct channel_msg msg = { .kind = CHANNEL_HELLO };
	struct channel_hello hello = { 0 };
	const char *what = argc > 1 ? argv[1] : "";
	volatile char *cut = memory_cut();
	volatile int *volatile nowhere = (int *)8;

	sandbox.require_namespaces = argc > 2 && !strcmp(argv[2], "require");
	sandbox_enter(&sandbox);
	hello.pid = sandbox.pid;
	hello.namespaces = sandbox.namespaces;
	if (channel_send(sandbox.control_fd, &msg, &hello, sizeof(hello)))
		return 10;
	if (!strcmp(what, "serve"))
		return wait_for_end(sandbox.control_fd);
	if (!strcmp(what, "stderr"))
		return use_stderr(sandbox.control_fd);
	if (!strcmp(what, "threads"))
		return threads(thread_of);
	if (!strcmp(what, "thread-escapes"))
		return threads(thread_escapes);
	if (!strcmp(what, "many-threads"))
		return many_threads(&sandbox);
	if (!strcmp(what, "libc"))
		return use_libc();
	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "crash"))
		*nowhere = 1;
	if (!strcmp(what, "memory-cut"))
		*cut = 1;
	if (!strcmp(what, "smash"))
		return threads(thread_smashes);
	if (!strcmp(what, "open"))
		return open("/etc/passwd", O_RDONLY) < 0 ? 50 : 51;
	if (!strcmp(what, "die"))
		sandbox_die("tired of it");
	if (!strcmp(what, "spin"))
		for (;;)
			sched_yield();
	return 60;
}
