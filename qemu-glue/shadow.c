/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "glue_spawn.h"

#define HELLO_TIMEOUT 30 /* seconds */
#define REPLY_TIMEOUT 60 /* seconds: a shadow that says nothing for so long counts as gone */
#define WHY_MAX 1024
#define TSC_KHZ_MAX 10000000 /* that is believed: it only says how long to spin */
#define END_TIMEOUT 4000     /* ms: more than the shadow's own waiter grants before it kills */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shadow *list;

/* ---- messages ---- */

/* 0: the reply to this request; 1: last words; -EPROTO: neither. */
int message_check(const struct channel_msg *msg, size_t bytes, bool truncated, const struct request *request)
{
	if (truncated || bytes < sizeof(*msg) || msg->version != CHANNEL_VERSION)
		return -EPROTO;
	if (msg->size != bytes - sizeof(*msg))
		return -EPROTO;
	if (msg->kind == CHANNEL_DEATH)
		return msg->size <= WHY_MAX ? 1 : -EPROTO;
	if (msg->kind != request->kind || msg->nr != request->nr || msg->size > request->max)
		return -EPROTO;
	if (msg->ret < -4095 || msg->ret > INT32_MAX)
		return -EPROTO;
	return 0;
}

static void set_last_words(struct shadow *shadow, const uint8_t *text, size_t size)
{
	if (size > WHY_MAX)
		size = WHY_MAX;
	for (size_t i = 0; i < size; i++)
		shadow->why[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : ' '; /* it goes to a terminal */
	shadow->why[size] = 0;
}

static int send_packet(struct shadow *shadow, const struct request *request)
{
	struct channel_msg msg = {
		.version = CHANNEL_VERSION,
		.kind = request->kind,
		.nr = request->nr,
		.arg = request->arg,
		.size = request->size,
		.cookie = request->cookie,
	};
	struct iovec iov[2] = { { &msg, sizeof(msg) }, { shadow->buf, request->size } };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
	} control;
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (request->nfds) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		hdr.msg_control = control.space;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * request->nfds);
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * request->nfds);
		memcpy(CMSG_DATA(cmsg), request->fds, sizeof(int) * request->nfds);
	}
	do
		n = sendmsg(shadow->socket, &hdr, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static int wait_packet(struct shadow *shadow, int seconds)
{
	struct pollfd pfd = { .fd = shadow->socket, .events = POLLIN };
	struct timespec now, end;
	int n;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	for (;;) {
		int64_t left;

		clock_gettime(CLOCK_MONOTONIC, &now);
		left = (end.tv_sec - now.tv_sec) * 1000 + (end.tv_nsec - now.tv_nsec) / 1000000;
		if (left <= 0)
			return -ETIMEDOUT;
		n = poll(&pfd, 1, left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* One packet: its size, 0 at the end, or a negative errno. A shadow has no descriptors to give: those that come are closed. */
static ssize_t receive_packet(struct shadow *shadow, bool *truncated)
{
	struct iovec iov = { shadow->packet, sizeof(shadow->packet) };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * 253)];
	} control;
	struct msghdr hdr = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)
	};
	struct cmsghdr *cmsg;
	ssize_t n;

	do
		n = recvmsg(shadow->socket, &hdr, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	*truncated = hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
	for (cmsg = CMSG_FIRSTHDR(&hdr); cmsg; cmsg = CMSG_NXTHDR(&hdr, cmsg)) {
		size_t fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < fds; i++) {
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
			real_close(fd);
		}
		*truncated = true;
	}
	return n;
}

/* ---- death ---- */

static int wait_child(struct shadow *shadow, int milliseconds)
{
	struct timespec pause = { 0, 1000000 };
	int status;

	for (int waited = 0;; waited++) {
		pid_t pid = waitpid(shadow->pid, &status, WNOHANG);

		if (pid == shadow->pid)
			return status;
		if (pid < 0 && errno != EINTR)
			return -1; /* the VMM waited for all its children, or ignores SIGCHLD */
		if (waited >= milliseconds)
			return -2;
		nanosleep(&pause, NULL);
	}
}

/* Its socket was shut down before, or it is dead already. SIGKILL at once would hit its waiter, and leave the shadow itself. */
static void end_child(struct shadow *shadow, int milliseconds)
{
	int status;

	if (shadow->pid <= 0)
		return;
	status = wait_child(shadow, milliseconds);
	if (status == -2) {
		kill(shadow->pid, SIGKILL);
		status = wait_child(shadow, 5000);
	}
	shadow->wait_status = status;
	if (status != -2)
		shadow->pid = -shadow->pid; /* reaped: the number is not ours any more */
}

static void describe_end(const struct shadow *shadow, char *text, size_t size)
{
	int status = shadow->wait_status;

	if (status >= 0 && WIFSIGNALED(status))
		snprintf(text, size, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (status >= 0 && WIFEXITED(status))
		snprintf(text, size, "ended with status %d", WEXITSTATUS(status));
	else
		snprintf(text, size, "ended (how is not known)");
}

/* Last words that are still in the socket. */
static void hear_last_words(struct shadow *shadow)
{
	struct pollfd pfd = { .fd = shadow->socket, .events = POLLIN };
	struct channel_msg msg;
	struct request none = { 0 };
	bool truncated;
	ssize_t n;

	for (int i = 0; i < 16 && poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLIN); i++) {
		n = receive_packet(shadow, &truncated);
		if (n < (ssize_t)sizeof(msg))
			return;
		memcpy(&msg, shadow->packet, sizeof(msg));
		if (message_check(&msg, n, truncated, &none) == 1)
			set_last_words(shadow, shadow->packet + sizeof(msg), msg.size);
	}
}

static void set_dead_locked(struct shadow *shadow, const char *why)
{
	char end[128];
	pid_t pid = shadow->pid;

	if (atomic_load(&shadow->dead) || atomic_load(&shadow->closed))
		return;
	if (shadow->socket >= 0)
		hear_last_words(shadow);
	/* One that is still there misbehaved: it must not run the guest on behind the VMM's back. */
	shutdown(shadow->socket, SHUT_RDWR);
	end_child(shadow, END_TIMEOUT);
	describe_end(shadow, end, sizeof(end));
	/* Said first: who sees it dead may end the VMM at once. */
	glue_say("the shadow (pid %d) of the guest of process %d is gone: %s%s%s%s%s", (int)pid, (int)getpid(),
		 why ? why : "", why ? "; " : "", end, shadow->why[0] ? ": " : "", shadow->why);
	atomic_store(&shadow->dead, true);
}

void shadow_is_broken_locked(struct shadow *shadow, const char *why)
{
	set_dead_locked(shadow, why);
}

void shadow_is_broken(struct shadow *shadow, const char *why)
{
	pthread_mutex_lock(&shadow->lock);
	set_dead_locked(shadow, why);
	pthread_mutex_unlock(&shadow->lock);
}

/*
 * Without waiting for the lock: who holds it talks to the shadow and finds out by himself; those who wait for a vCPU look
 * again a moment later.
 */
bool shadow_is_gone(struct shadow *shadow)
{
	struct pollfd pfd = { .fd = shadow->socket };

	if (atomic_load(&shadow->dead) || atomic_load(&shadow->closed))
		return true;
	if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & (POLLHUP | POLLERR | POLLNVAL)))
		return false;
	if (pthread_mutex_trylock(&shadow->lock))
		return false;
	set_dead_locked(shadow, NULL);
	pthread_mutex_unlock(&shadow->lock);
	return true;
}

/* ---- requests ---- */

int64_t shadow_request_locked(struct shadow *shadow, struct request *request)
{
	struct channel_msg msg;
	bool truncated = false;
	ssize_t n;
	int ret;

	ret = atomic_load(&shadow->dead) || atomic_load(&shadow->closed) ? -EIO : send_packet(shadow, request);
	request->size = 0; /* what was handed over is no reply */
	if (ret && ret != -EPIPE && ret != -ECONNRESET)
		return ret; /* too many descriptors in flight, no memory: nothing was sent */
	ret = wait_packet(shadow, REPLY_TIMEOUT);
	if (ret) {
		set_dead_locked(shadow, "it does not answer");
		return -EIO;
	}
	n = receive_packet(shadow, &truncated);
	if (n <= 0) {
		set_dead_locked(shadow, NULL);
		return -EIO;
	}
	if (n >= (ssize_t)sizeof(msg))
		memcpy(&msg, shadow->packet, sizeof(msg));
	ret = message_check(&msg, n, truncated, request);
	if (ret) {
		if (ret == 1)
			set_last_words(shadow, shadow->packet + sizeof(msg), msg.size);
		set_dead_locked(shadow, ret == 1 ? NULL : "it sent a malformed reply");
		return -EIO;
	}
	memcpy(shadow->buf, shadow->packet + sizeof(msg), msg.size);
	request->size = msg.size;
	return msg.ret;
}

/* ---- start and end ---- */

/* Why a shadow ended before its hello, when it did not say: what the user can do about it. */
static int explain_start(struct shadow *shadow, int said)
{
	char end[128];

	describe_end(shadow, end, sizeof(end));
	if (shadow->why[0])
		glue_say("the shadow could not start: %s", shadow->why);
	else
		glue_say("the shadow %s before it was ready", end);
	if (said)
		return said;
	if (access("/dev/umbra", F_OK)) {
		if (!shadow->why[0])
			glue_say(
				"there is no /dev/umbra: load the module (modprobe umbra); `umbra doctor` tells what is missing");
		return -ENOENT;
	}
	if (access("/dev/umbra", R_OK | W_OK)) {
		if (!shadow->why[0])
			glue_say("no permission for /dev/umbra: its group is the one to be in; see `umbra doctor`");
		return -EACCES;
	}
	return -ENODEV;
}

static void take_hello(struct shadow *shadow)
{
	struct channel_hello hello;

	memcpy(&hello, shadow->packet + sizeof(struct channel_msg), sizeof(hello));
	shadow->tsc_khz = hello.tsc_khz < TSC_KHZ_MAX ? hello.tsc_khz : TSC_KHZ_MAX;
}

static int receive_hello(struct shadow *shadow)
{
	struct request hello = { .kind = CHANNEL_HELLO, .max = sizeof(struct channel_hello) };
	struct channel_msg msg;
	bool truncated = false;
	int said = 0, ret = wait_packet(shadow, HELLO_TIMEOUT);
	ssize_t n;

	if (ret) {
		shutdown(shadow->socket, SHUT_RDWR);
		end_child(shadow, END_TIMEOUT);
		glue_say("the shadow was not ready after %d seconds", HELLO_TIMEOUT);
		return -ETIMEDOUT;
	}
	n = receive_packet(shadow, &truncated);
	if (n >= (ssize_t)sizeof(msg)) {
		memcpy(&msg, shadow->packet, sizeof(msg));
		if (msg.version != CHANNEL_VERSION) {
			shutdown(shadow->socket, SHUT_RDWR);
			end_child(shadow, END_TIMEOUT);
			glue_say(
				"the shadow speaks version %u of the channel, this library %u: they are from different builds of Umbra",
				msg.version, CHANNEL_VERSION);
			return -ENODEV;
		}
		ret = message_check(&msg, n, truncated, &hello);
		if (!ret && msg.size == sizeof(struct channel_hello)) {
			take_hello(shadow);
			return 0;
		}
		if (ret != 1) {
			shutdown(shadow->socket, SHUT_RDWR);
			end_child(shadow, END_TIMEOUT);
			glue_say("the shadow's first message is malformed");
			return -ENODEV;
		}
		set_last_words(shadow, shadow->packet + sizeof(msg), msg.size);
		if (msg.ret < 0 && msg.ret >= -4095)
			said = msg.ret;
	}
	shutdown(shadow->socket, SHUT_RDWR);
	end_child(shadow, END_TIMEOUT);
	return explain_start(shadow, said);
}

static void list_add(struct shadow *shadow)
{
	pthread_mutex_lock(&list_lock);
	shadow->next = list;
	list = shadow;
	pthread_mutex_unlock(&list_lock);
}

static void list_remove(struct shadow *shadow)
{
	pthread_mutex_lock(&list_lock);
	for (struct shadow **p = &list; *p; p = &(*p)->next)
		if (*p == shadow) {
			*p = shadow->next;
			break;
		}
	pthread_mutex_unlock(&list_lock);
}

int shadow_start(struct shadow **out)
{
	struct shadow *shadow = calloc(1, sizeof(*shadow));
	int pair[2], size = 4 * (CHANNEL_PAYLOAD_MAX + 4096), ret;

	if (!shadow)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		ret = -errno;
		free(shadow);
		return ret;
	}
	for (int i = 0; i < 2; i++) {
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		pair[i] = private_fd(pair[i]);
	}
	pthread_mutex_init(&shadow->lock, NULL);
	atomic_store(&shadow->refs, 1);
	shadow->socket = pair[0];
	shadow->wait_status = -1;
	shadow->pid = spawn_shadow(pair[1]);
	private_close(pair[1]);
	ret = shadow->pid < 0 ? shadow->pid : receive_hello(shadow);
	if (ret) {
		private_close(shadow->socket);
		free(shadow);
		return ret;
	}
	list_add(shadow);
	*out = shadow;
	return 0;
}

void shadow_close(struct shadow *shadow)
{
	pthread_mutex_lock(&shadow->lock);
	if (!atomic_exchange(&shadow->closed, true)) {
		/* The end of the socket is what tells it to go. */
		shutdown(shadow->socket, SHUT_RDWR);
		end_child(shadow, END_TIMEOUT);
	}
	pthread_mutex_unlock(&shadow->lock);
}

void shadow_get(struct shadow *shadow)
{
	atomic_fetch_add(&shadow->refs, 1);
}

void shadow_put(struct shadow *shadow)
{
	if (atomic_fetch_sub(&shadow->refs, 1) != 1)
		return;
	shadow_close(shadow);
	list_remove(shadow);
	private_close(shadow->socket);
	pthread_mutex_destroy(&shadow->lock);
	free(shadow);
}

/*
 * A forked child has the VMM's sockets too; with them open the shadow would outlive the VMM. What it inherits is
 * closed for it, as a VM of KVM is of no use in another address space. The other threads are gone, so are their locks' owners.
 */
void shadow_fork_child(void)
{
	for (struct shadow *shadow = list; shadow; shadow = shadow->next) {
		atomic_store(&shadow->closed, true);
		pthread_mutex_init(&shadow->lock, NULL);
		shadow->pid = 0; /* not this process's child */
		real_close(shadow->socket);
		file_forget(shadow->socket);
		shadow->socket = -1;
	}
	pthread_mutex_init(&list_lock, NULL);
}
