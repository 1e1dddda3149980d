/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "last_words.h"
#include "namespaces.h"
#include "policy.h"
#include "waiter.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define MAX_FDS 8192		 /* 4,096 irqfds, 1,000 ioeventfds, some for each vCPU */
#define MAX_TASKS 80		 /* 64 vCPU threads, control, event, waiter, some more */
#define STDERR_GROWTH (64 << 10) /* bytes a log file behind stderr may still grow */

static const struct policy *const policies[SANDBOX_ROLES] = {
	[SANDBOX_CONTROL] = &policy_control,
	[SANDBOX_EVENT] = &policy_event,
	[SANDBOX_VCPU] = &policy_vcpu,
	[SANDBOX_WAITER] = &policy_waiter,
};

static __thread const struct policy *thread_policy;

const char *sandbox_role_name(void)
{
	return thread_policy ? thread_policy->name : "starting";
}

static _Noreturn void fail(const char *step)
{
	char text[256];

	snprintf(text, sizeof(text), "sandbox: %s: %s", step, strerror(errno));
	sandbox_die(text);
}

/* ---- descriptors ---- */

/* Another file in descriptor 2's place; -1: it cannot be opened. */
static int reopen_stderr(const char *path, int flags)
{
	int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC | flags);
	int result = fd < 0 ? -1 : dup2(fd, STDERR_FILENO);

	if (fd > STDERR_FILENO)
		close(fd);
	return result;
}

/*
 * Whoever takes the shadow over has this descriptor, and may read. A terminal is open for both ways, as a rule: he would read what
 * the user types, and behind setsid() no job control is in the way. So it is opened anew, to be written only. What cannot be, a socket
 * for one, or a terminal that belongs to somebody else by now, becomes /dev/null: the glue says the last words, too.
 * What is opened for writing only is taken as it is, for it may not be possible to open it again; nor may a FIFO's reader be there.
 */
static int limit_stderr(void)
{
	int flags = fcntl(STDERR_FILENO, F_GETFL), access = flags < 0 ? -1 : flags & (O_ACCMODE | O_PATH);
	bool regular, stream;
	struct stat st;

	if (access < 0 || fstat(STDERR_FILENO, &st))
		return reopen_stderr("/dev/null", 0); /* closed: occupied, as the others are */
	regular = S_ISREG(st.st_mode);
	stream = S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode);
	if (!(regular || stream) || (access != O_WRONLY && access != O_RDWR))
		return reopen_stderr("/dev/null", 0);
	/* No line that is there may be changed, for lseek() is allowed. The VMM's lines must not go over the shadow's either: so on its
	 * own open file, which then does for both. */
	if (regular && !(flags & O_APPEND) && fcntl(STDERR_FILENO, F_SETFL, flags | O_APPEND))
		return reopen_stderr("/dev/null", 0);
	if (access == O_WRONLY)
		return 0;
	/* O_NONBLOCK: a serial line without a carrier would not open. */
	if (reopen_stderr("/proc/self/fd/2", O_NONBLOCK | (regular ? O_APPEND : 0)) < 0)
		return reopen_stderr("/dev/null", 0);
	return fcntl(STDERR_FILENO, F_SETFL, (flags & O_NONBLOCK) | (regular ? O_APPEND : 0));
}

/* 0 and 1: /dev/null, 2: stderr, to be written only, 3: the socket, 4: the device if there is one; nothing else. */
static void keep_descriptors(struct sandbox *sandbox)
{
	int control = fcntl(sandbox->control_fd, F_DUPFD_CLOEXEC, 16);
	int device = sandbox->device_fd < 0 ? -1 : fcntl(sandbox->device_fd, F_DUPFD_CLOEXEC, 16);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int used = 4;

	if (control < 0 || (sandbox->device_fd >= 0 && device < 0))
		fail("descriptors");
	if (null < 0)
		fail("/dev/null");
	/* Occupied, so that no eventfd becomes somebody's idea of standard output. */
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || limit_stderr() < 0)
		fail("standard descriptors");
	if (dup3(control, 3, O_CLOEXEC) < 0)
		fail("descriptors");
	if (device >= 0 && dup3(device, used++, O_CLOEXEC) < 0)
		fail("descriptors");
	if (syscall(SYS_close_range, used, ~0U, 0))
		fail("close_range");
	sandbox->control_fd = 3;
	sandbox->device_fd = device < 0 ? -1 : 4;
	last_words_to(sandbox->control_fd);
}

/* ---- namespaces ---- */

/* The kernel forbids, limits or does not have it. */
static bool namespace_refused(int error)
{
	return error == EPERM || error == EACCES || error == ENOSPC || error == EINVAL || error == ENOSYS ||
	       error == EUSERS;
}

static void namespace_missing(const struct sandbox *sandbox, const char *name)
{
	if (sandbox->require_namespaces || !namespace_refused(errno))
		fail(name);
}

static void enter_namespaces(struct sandbox *sandbox)
{
	static const struct {
		int flag;
		const char *name;
	} more[] = {
		{ CLONE_NEWNS, "mount namespace" }, { CLONE_NEWNET, "network namespace" },
		{ CLONE_NEWIPC, "IPC namespace" },  { CLONE_NEWUTS, "UTS namespace" },
		{ CLONE_NEWPID, "PID namespace" },
	};

	sandbox->namespaces = 0;
	if (!namespaces_user())
		sandbox->namespaces |= CLONE_NEWUSER;
	else
		namespace_missing(sandbox, "user namespace");
	/* Only now: writing the id maps needs /proc/self to be our own. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		fail("not dumpable");
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		if (!namespaces_one(more[i].flag))
			sandbox->namespaces |= more[i].flag;
		else
			namespace_missing(sandbox, more[i].name);
	}
	if (!(sandbox->namespaces & CLONE_NEWNS))
		return;
	if (namespaces_empty_root()) {
		sandbox->namespaces &= ~CLONE_NEWNS;
		namespace_missing(sandbox, "empty root directory");
	}
}

/* ---- privileges ---- */

static void drop_capabilities(void)
{
	cap_flag_value_t can_lock = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	if (!caps)
		fail("capabilities");
	cap_get_flag(caps, CAP_SETPCAP, CAP_EFFECTIVE, &can_lock);
	/* Without CAP_SETPCAP the bounding set stays. It only matters to execve() of privileged files, which
	 * no_new_privs makes harmless and seccomp forbids. */
	if (can_lock == CAP_SET) {
		if (cap_set_secbits(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				    SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				    SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED))
			fail("securebits");
		for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
			if (cap_drop_bound(cap))
				fail("capability bounding set");
	}
	if (cap_reset_ambient() || cap_clear(caps) || cap_set_proc(caps))
		fail("capabilities");
	cap_free(caps);
}

static void limit_resource(int resource, rlim_t value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		fail("getrlimit");
	if (limit.rlim_max < value)
		value = limit.rlim_max;
	limit.rlim_cur = value;
	limit.rlim_max = value;
	if (setrlimit(resource, &limit))
		fail("setrlimit");
}

static void limit_resources(const struct sandbox *sandbox)
{
	struct stat st;
	rlim_t file = 0;

	if (!fstat(STDERR_FILENO, &st) && S_ISREG(st.st_mode))
		file = st.st_size + STDERR_GROWTH;
	limit_resource(RLIMIT_FSIZE, file);
	limit_resource(RLIMIT_CORE, 0);
	limit_resource(RLIMIT_NOFILE, MAX_FDS);
	limit_resource(RLIMIT_MEMLOCK, 0);
	limit_resource(RLIMIT_MSGQUEUE, 0);
	/* Counted per user namespace: in the outer one it would count the user's other processes too. */
	if (sandbox->namespaces & CLONE_NEWUSER)
		limit_resource(RLIMIT_NPROC, MAX_TASKS);
}

static void refuse_executable_mappings(void)
{
	int persona = personality(0xffffffff);

	/* With READ_IMPLIES_EXEC the filter's look at PROT_EXEC would be worth nothing. */
	if (persona < 0 || ((persona & READ_IMPLIES_EXEC) && personality(persona & ~READ_IMPLIES_EXEC) < 0))
		fail("personality");
	/* Linux 6.3 and later; before, the filter alone does it. */
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) && errno != EINVAL)
		fail("refuse executable mappings");
}

/*
 * The guest trains the CPU's branch predictors as this process, so what the kernel does for a process that may not steer
 * others' branches is for the guest: a barrier (IBPB) at each switch between it and another process, the VMM among them. KVM
 * has it before each return to its VMM (VMSCAPE). Not offered where the CPU or spectre_v2_user= leaves no choice.
 */
static void guard_predictors(void)
{
	if (prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_FORCE_DISABLE, 0, 0) && errno != EPERM &&
	    errno != ENXIO && errno != ENODEV && errno != EINVAL)
		fail("branch predictors");
}

static void *no_thread(void *arg)
{
	return arg;
}

/* The first pthread_create() makes glibc install a signal handler, and nobody may do that once the filter is on. */
static void warm_up_threads(void)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, no_thread, NULL);
	if (!errno)
		errno = pthread_join(thread, NULL);
	if (errno)
		fail("first thread");
}

static void load_filter(enum sandbox_role role)
{
	struct sock_fprog program = { .len = policies[role]->count,
				      .filter = (struct sock_filter *)policies[role]->filter };

	thread_policy = policies[role];
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		fail("seccomp filter");
}

/* ---- two processes ---- */

/* Who made the socket, which is the VMM; -1: it lives in another PID namespace. */
static int open_peer(int control_fd)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	int fd;

	if (getsockopt(control_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		fail("the VMM's process");
	if (peer.pid <= 0)
		return -1;
	fd = syscall(SYS_pidfd_open, peer.pid, 0);
	if (fd < 0)
		fail("the VMM's process");
	return fd;
}

static void become_waiter(const struct sandbox *sandbox, int child, int link)
{
	int pidfd = syscall(SYS_pidfd_open, child, 0), peer = open_peer(sandbox->control_fd);
	bool bound;
	char ready;

	if (pidfd < 0)
		fail("pidfd_open");
	if (sandbox->device_fd >= 0)
		close(sandbox->device_fd);
	drop_capabilities();
	limit_resources(sandbox);
	refuse_executable_mappings();
	/* The child is bound to our life now; tell it who it is, once we are locked in, too: the link stays open, nothing hangs on it.
	 * No answer: it is gone, as waiter_run() will see. */
	bound = read(link, &ready, 1) == 1;
	load_filter(SANDBOX_WAITER);
	if (bound && write(link, &child, sizeof(child)) != sizeof(child))
		fail("waiter");
	waiter_run(pidfd, sandbox->control_fd, peer);
}

static void split(struct sandbox *sandbox)
{
	int link[2], child, pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link))
		fail("socketpair");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child) {
		close(link[1]);
		become_waiter(sandbox, child, link[0]);
	}
	close(link[0]);
	/* The waiter has one thread, so here the parent-death signal means what its name says. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		fail("parent-death signal");
	if (write(link[1], "", 1) != 1 || read(link[1], &pid, sizeof(pid)) != sizeof(pid))
		_exit(SANDBOX_EXIT_FAILED); /* the waiter is gone and has said why */
	close(link[1]);
	sandbox->pid = pid;
}

static void reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || signal(SIGXFSZ, SIG_IGN) == SIG_ERR ||
	    signal(SIGCHLD, SIG_DFL) == SIG_ERR || sigprocmask(SIG_SETMASK, &none, NULL))
		fail("signals");
	setsid(); /* terminal signals are for the VMM; an error means that we lead a group already */
	if (last_words_install())
		fail("signal handlers");
}

void sandbox_enter(struct sandbox *sandbox)
{
	last_words_to(sandbox->control_fd);
	if (getuid() != geteuid() || getgid() != getegid())
		sandbox_die("sandbox: umbra-shadow must not be setuid or setgid");
	reset_signals();
	keep_descriptors(sandbox);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("no new privileges");
	if (namespaces_give_up_root())
		fail("giving up root");
	/* Timers of a guest must not be late by the default 50 us. */
	if (prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0))
		fail("timer slack");
	guard_predictors();
	enter_namespaces(sandbox);
	split(sandbox);
	warm_up_threads();
	drop_capabilities();
	limit_resources(sandbox);
	refuse_executable_mappings();
	if (sandbox->prepare) {
		errno = -sandbox->prepare();
		if (errno)
			fail("event set");
	}
	load_filter(SANDBOX_CONTROL);
}

void sandbox_thread(enum sandbox_role role)
{
	load_filter(role);
}
