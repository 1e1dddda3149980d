/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every role's filter as the kernel applies it: one child process a case, raw system calls. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <unistd.h>

#include "channel_io.h"
#include "last_words.h"
#include "policy.h"
#include "sandbox.h"
#include "umbra_abi.h"

#define THREAD_FLAGS 0x3d0f00 /* as strace shows pthread_create() */
#define PASSES 42	      /* exit status of a child whose call came back */
#define ANY (-4096)	      /* whatever the call returns: it was let through */

/* The sanitizers must not call anything between the registers' assignment and the system call. */
__attribute__((no_sanitize("address", "undefined"), noinline)) static long raw(long nr, const long *args)
{
	long a = args[0], b = args[1], c = args[2], d = args[3], e = args[4], f = args[5], ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* Not _Noreturn: before the call of such a function ASan makes a system call of its own, which no policy allows. */
static void raw_exit(int status)
{
	raw(SYS_exit_group, (long[6]) { status });
}

/* Loads what a thread of this role has: the control thread's filter, then its own. */
static void enter(enum sandbox_role role, int report)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || last_words_install())
		raw_exit(1);
	dup2(report, 2); /* the words on stderr are the same ones; keep the log clean */
	last_words_to(report);
	if (role != SANDBOX_CONTROL && role != SANDBOX_WAITER)
		sandbox_thread(SANDBOX_CONTROL);
	sandbox_thread(role);
}

struct call {
	enum sandbox_role role;
	long nr;
	long args[6];
	long ret; /* expected result, or ANY */
};

static int run_child(const struct call *call, char *words, size_t size)
{
	struct channel_msg *msg;
	char packet[1024];
	int pair[2], status;
	ssize_t bytes;
	pid_t pid;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		long ret;

		enter(call->role, pair[1]);
		ret = raw(call->nr, call->args);
		raw_exit(call->ret == ANY || ret == call->ret ? PASSES : 1);
	}
	close(pair[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	words[0] = 0;
	bytes = read(pair[0], packet, sizeof(packet));
	if (bytes > (ssize_t)sizeof(*msg)) {
		msg = (struct channel_msg *)packet;
		ck_assert_uint_eq(msg->kind, CHANNEL_DEATH);
		snprintf(words, size, "%.*s", (int)(bytes - sizeof(*msg)), packet + sizeof(*msg));
	}
	close(pair[0]);
	return status;
}

static const char *const roles[SANDBOX_ROLES] = { "control", "event", "vcpu", "waiter" };

static void expect_trapped(const struct call *call)
{
	char words[512], expected[128];
	int status = run_child(call, words, sizeof(words));

	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == SANDBOX_EXIT_VIOLATION, "%s: %s: status %#x, '%s'",
		      roles[call->role], policy_syscall_name(call->nr), status, words);
	snprintf(expected, sizeof(expected), "forbidden system call %s (%ld) in the %s thread",
		 policy_syscall_name(call->nr), call->nr, roles[call->role]);
	ck_assert_msg(!strncmp(words, expected, strlen(expected)), "'%s' expected, not '%s'", expected, words);
}

static void expect_passes(const struct call *call)
{
	char words[512];
	int status = run_child(call, words, sizeof(words));

	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == PASSES, "%s: %s: status %#x, '%s'", roles[call->role],
		      policy_syscall_name(call->nr), status, words);
}

/* ---- what passes ---- */

#define EVERY_THREAD(role)                                                                                        \
	{ role, SYS_sched_yield, { 0 }, 0 }, { role, SYS_write, { -1 }, -EBADF },                                 \
		{ role, SYS_futex, { 0, FUTEX_WAKE, 1 }, ANY }, { role, SYS_clock_gettime, { 0 }, ANY },          \
		{ role, SYS_munmap, { 1, 1 }, -EINVAL }, { role, SYS_madvise, { 1, 1, MADV_DONTNEED }, -EINVAL }, \
		{ role, SYS_writev, { -1 }, -EBADF }, { role, SYS_rt_sigprocmask, { -1, 0, 0, 8 }, ANY },         \
		{ role, SYS_restart_syscall, { 0 }, ANY }, { role, SYS_exit_group, { PASSES }, ANY },             \
	{                                                                                                         \
		role, SYS_exit, { PASSES }, ANY                                                                   \
	}

static const struct call passing[] = {
	EVERY_THREAD(SANDBOX_CONTROL),
	{ SANDBOX_CONTROL, SYS_recvmsg, { -1 }, -EBADF },
	{ SANDBOX_CONTROL, SYS_ioctl, { -1, (long)UMBRA_INFO }, -EBADF },
	{ SANDBOX_CONTROL, SYS_ioctl, { -1, (long)UMBRA_CREATE_VM }, -EBADF },
	{ SANDBOX_CONTROL, SYS_ioctl, { -1, (long)UMBRA_VM_SET_REGION }, -EBADF },
	{ SANDBOX_CONTROL, SYS_ioctl, { -1, (long)UMBRA_VM_GET_DIRTY }, -EBADF },
	{ SANDBOX_CONTROL, SYS_ioctl, { -1, (long)UMBRA_VM_CREATE_VCPU }, -EBADF },
	{ SANDBOX_CONTROL, SYS_ioctl, { -1, (long)UMBRA_VCPU_KICK }, -EBADF },
	{ SANDBOX_CONTROL, SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, -1 }, -EBADF },
	{ SANDBOX_CONTROL, SYS_mprotect, { 1, 1, PROT_READ }, -EINVAL },
	{ SANDBOX_CONTROL, SYS_brk, { 0 }, ANY },
	{ SANDBOX_CONTROL, SYS_mremap, { 0 }, -ENOMEM },
	{ SANDBOX_CONTROL, SYS_clone3, { 0 }, -ENOSYS },
	{ SANDBOX_CONTROL, SYS_seccomp, { SECCOMP_SET_MODE_FILTER, 0, 0 }, -EFAULT },
	{ SANDBOX_CONTROL, SYS_close, { -1 }, -EBADF },
	{ SANDBOX_CONTROL, SYS_fcntl, { -1, F_GET_SEALS }, -EBADF },
	{ SANDBOX_CONTROL, SYS_fstat, { -1 }, -EBADF },
	{ SANDBOX_CONTROL, SYS_fcntl, { -1, F_GETFL }, -EBADF },
	{ SANDBOX_CONTROL, SYS_madvise, { 1, 1, MADV_HUGEPAGE }, -EINVAL },
	{ SANDBOX_CONTROL, SYS_madvise, { 1, 1, 102 /* MADV_GUARD_INSTALL */ }, -EINVAL },
	{ SANDBOX_CONTROL, SYS_madvise, { 1, 1, 103 /* MADV_GUARD_REMOVE */ }, -EINVAL },
	{ SANDBOX_CONTROL, SYS_epoll_ctl, { -1, 2, -1 }, -EBADF },
	{ SANDBOX_CONTROL, SYS_sched_getaffinity, { 0, 0 }, -EINVAL },
	EVERY_THREAD(SANDBOX_EVENT),
	{ SANDBOX_EVENT, SYS_epoll_pwait2, { -1, 0, 0, 0, 0 }, ANY },
	{ SANDBOX_VCPU, SYS_epoll_pwait2, { -1, 0, 0, 0, 0 }, ANY },
	{ SANDBOX_EVENT, SYS_read, { -1 }, -EBADF },
	{ SANDBOX_EVENT, SYS_ioctl, { -1, (long)UMBRA_VCPU_KICK }, -EBADF },
	EVERY_THREAD(SANDBOX_VCPU),
	{ SANDBOX_VCPU, SYS_lseek, { -1 }, -EBADF },
	{ SANDBOX_VCPU, SYS_madvise, { 1, 1, 23 /* MADV_POPULATE_WRITE */ }, -EINVAL },
	{ SANDBOX_VCPU, SYS_madvise, { 1, 1, 25 /* MADV_COLLAPSE */ }, -EINVAL },
	{ SANDBOX_VCPU, SYS_ioctl, { -1, (long)UMBRA_VCPU_KICK }, -EBADF },
	{ SANDBOX_WAITER, SYS_poll, { 0, 0, 0 }, 0 },
	{ SANDBOX_WAITER, SYS_waitid, { 99 }, ANY },
	{ SANDBOX_WAITER, SYS_pidfd_send_signal, { -1, SIGKILL }, -EBADF },
	{ SANDBOX_WAITER, SYS_write, { -1 }, -EBADF },
	{ SANDBOX_WAITER, SYS_restart_syscall, { 0 }, ANY },
	{ SANDBOX_WAITER, SYS_exit_group, { PASSES }, ANY },
};

START_TEST(passes)
{
	expect_passes(&passing[_i]);
}
END_TEST

/* ---- what no role may ---- */

static const struct call never[] = {
	{ 0, SYS_open, { 0 }, 0 },
	{ 0, SYS_openat, { AT_FDCWD }, 0 },
	{ 0, SYS_openat2, { 0 }, 0 },
	{ 0, SYS_open_by_handle_at, { 0 }, 0 },
	{ 0, SYS_execve, { 0 }, 0 },
	{ 0, SYS_execveat, { 0 }, 0 },
	{ 0, SYS_fork, { 0 }, 0 },
	{ 0, SYS_vfork, { 0 }, 0 },
	{ 0, SYS_clone, { SIGCHLD }, 0 },
	{ 0, SYS_clone, { THREAD_FLAGS | CLONE_NEWUSER }, 0 },
	{ 0, SYS_clone, { THREAD_FLAGS | (1L << 40) }, 0 },
	{ 0, SYS_unshare, { CLONE_NEWUSER }, 0 },
	{ 0, SYS_setns, { 0 }, 0 },
	{ 0, SYS_ptrace, { 0 }, 0 },
	{ 0, SYS_process_vm_readv, { 0 }, 0 },
	{ 0, SYS_process_vm_writev, { 0 }, 0 },
	{ 0, SYS_kill, { 0 }, 0 },
	{ 0, SYS_tkill, { 1, SIGTERM }, 0 },
	{ 0, SYS_tgkill, { 1, 1, SIGTERM }, 0 },
	{ 0, SYS_rt_sigaction, { SIGSYS }, 0 },
	{ 0, SYS_rt_sigqueueinfo, { 0 }, 0 },
	{ 0, SYS_sigaltstack, { 0 }, 0 },
	{ 0, SYS_socket, { AF_UNIX }, 0 },
	{ 0, SYS_connect, { 0 }, 0 },
	{ 0, SYS_bind, { 0 }, 0 },
	{ 0, SYS_sendto, { 0 }, 0 },
	{ 0, SYS_sendmsg, { -1 }, 0 }, /* descriptors could be in it */
	{ 0, SYS_sendmmsg, { -1 }, 0 },
	{ 0, SYS_io_uring_setup, { 0 }, 0 },
	{ 0, SYS_bpf, { 0 }, 0 },
	{ 0, SYS_perf_event_open, { 0 }, 0 },
	{ 0, SYS_userfaultfd, { 0 }, 0 },
	{ 0, SYS_memfd_create, { 0 }, 0 },
	{ 0, SYS_epoll_create1, { 0 }, 0 }, /* the user's watches are counted, and a set can hold all descriptors */
	{ 0, SYS_eventfd2, { 0 }, 0 },
	{ 0, SYS_mount, { 0 }, 0 },
	{ 0, SYS_chroot, { 0 }, 0 },
	{ 0, SYS_keyctl, { 0 }, 0 },
	{ 0, SYS_init_module, { 0 }, 0 },
	{ 0, SYS_personality, { 0x0400000 }, 0 },
	{ 0, SYS_prctl, { PR_SET_DUMPABLE, 1 }, 0 },
	{ 0, SYS_prctl, { PR_SET_NAME }, 0 },
	{ 0, SYS_prctl, { PR_SET_SECCOMP, 2 }, 0 },
	{ 0, SYS_arch_prctl, { 0 }, 0 },
	{ 0, SYS_setrlimit, { 0 }, 0 },
	{ 0, SYS_prlimit64, { 0 }, 0 },
	{ 0, SYS_mmap, { 0, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 }, 0 },
	{ 0, SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 }, 0 },
	{ 0, SYS_mprotect, { 0, 4096, PROT_READ | PROT_EXEC }, 0 },
	{ 0, SYS_pkey_mprotect, { 0, 4096, PROT_EXEC }, 0 },
	{ 0, SYS_shmat, { 0 }, 0 },
	{ 0, SYS_seccomp, { SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER }, 0 },
	{ 0, SYS_mmap, { 0, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1 }, 0 },
	{ 0, SYS_madvise, { 0, 4096, MADV_MERGEABLE }, 0 },
	{ 0, SYS_madvise, { 0, 4096, MADV_PAGEOUT }, 0 },
	{ 0, SYS_madvise, { 0, 4096, MADV_REMOVE }, 0 },
	{ 0, SYS_fcntl, { 2, F_GETFD }, 0 },
	{ 0, SYS_fcntl, { 2, F_SETFD }, 0 },
	{ 0, SYS_fcntl, { 2, F_SETFL, 0 }, 0 }, /* the VMM's own open files */
	{ 0, SYS_fcntl, { 2, F_SETFL, O_NONBLOCK }, 0 },
	{ 0, SYS_fcntl, { 2, F_DUPFD_CLOEXEC }, 0 },
	{ 0, SYS_fcntl, { 2, F_SETOWN }, 0 },
	{ 0, SYS_newfstatat, { AT_FDCWD, 0, 0, 0 }, 0 },
	{ 0, SYS_newfstatat, { AT_FDCWD, (long)"/etc/passwd", 0, AT_EMPTY_PATH }, 0 },
	{ 0, SYS_statx, { AT_FDCWD }, 0 },
	{ 0, SYS_sched_getaffinity, { 1 }, 0 },
	{ 0, SYS_ioctl, { 2, 0x5412 /* TIOCSTI */ }, 0 },
	{ 0, SYS_ioctl, { 2, 0x541c /* TIOCLINUX */ }, 0 },
	{ 0, SYS_ioctl, { 2, (long)KVM_CREATE_VM }, 0 },
	{ 0, SYS_ioctl, { 2, (long)UMBRA_VCPU_RUN }, 0 },
	{ 0, SYS_ioctl, { 2, (long)(UMBRA_INFO | (1UL << 32)) }, 0 },
	{ 0, SYS_pidfd_getfd, { 0 }, 0 },
	{ 0, 450, { 0 }, 0 }, /* one that is newer than this policy */
	{ 0, 9999, { 0 }, 0 },
};

START_TEST(no_role_may)
{
	for (int role = 0; role < SANDBOX_ROLES; role++) {
		struct call call = never[_i];

		call.role = role;
		expect_trapped(&call);
	}
}
END_TEST

/* ---- what only some may ---- */

static const struct call not_this_one[] = {
	{ SANDBOX_VCPU, SYS_read, { 0 }, 0 },
	{ SANDBOX_VCPU, SYS_recvmsg, { 0 }, 0 },
	{ SANDBOX_VCPU, SYS_madvise, { 0, 4096, MADV_HUGEPAGE }, 0 },
	{ SANDBOX_VCPU, SYS_close, { 0 }, 0 },
	{ SANDBOX_VCPU, SYS_mmap, { 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1 }, 0 },
	{ SANDBOX_VCPU, SYS_mprotect, { 0, 4096, PROT_READ }, 0 },
	{ SANDBOX_VCPU, SYS_clone, { THREAD_FLAGS }, 0 },
	{ SANDBOX_VCPU, SYS_seccomp, { SECCOMP_SET_MODE_FILTER }, 0 },
	{ SANDBOX_VCPU, SYS_epoll_ctl, { 0 }, 0 },
	{ SANDBOX_VCPU, SYS_brk, { 0 }, 0 },
	{ SANDBOX_VCPU, SYS_ioctl, { 2, (long)UMBRA_CREATE_VM }, 0 },
	{ SANDBOX_VCPU, SYS_ioctl, { 2, (long)UMBRA_VM_SET_REGION }, 0 },
	{ SANDBOX_EVENT, SYS_lseek, { 0 }, 0 },
	{ SANDBOX_EVENT, SYS_recvmsg, { 0 }, 0 },
	{ SANDBOX_EVENT, SYS_madvise, { 0, 4096, 25 /* MADV_COLLAPSE */ }, 0 },
	{ SANDBOX_EVENT, SYS_mmap, { 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1 }, 0 },
	{ SANDBOX_EVENT, SYS_epoll_ctl, { 0 }, 0 },
	{ SANDBOX_EVENT, SYS_clone, { THREAD_FLAGS }, 0 },
	{ SANDBOX_EVENT, SYS_seccomp, { SECCOMP_SET_MODE_FILTER }, 0 },
	{ SANDBOX_EVENT, SYS_ioctl, { 2, (long)UMBRA_VM_SET_REGION }, 0 },
	{ SANDBOX_WAITER, SYS_read, { 0 }, 0 },
	{ SANDBOX_WAITER, SYS_recvmsg, { 0 }, 0 },
	{ SANDBOX_WAITER, SYS_mmap, { 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1 }, 0 },
	{ SANDBOX_WAITER, SYS_ioctl, { 2, (long)UMBRA_INFO }, 0 },
	{ SANDBOX_WAITER, SYS_futex, { 0 }, 0 },
	{ SANDBOX_WAITER, SYS_pidfd_send_signal, { 0, SIGSTOP }, 0 },
	{ SANDBOX_CONTROL, SYS_waitid, { 0 }, 0 },
	{ SANDBOX_CONTROL, SYS_pidfd_send_signal, { 0, SIGKILL }, 0 },
	{ SANDBOX_CONTROL, SYS_poll, { 0 }, 0 },
};

START_TEST(not_this_role)
{
	expect_trapped(&not_this_one[_i]);
}
END_TEST

/* ---- other doors ---- */

START_TEST(x32_numbers)
{
	char words[256];

	for (int role = 0; role < SANDBOX_ROLES; role++) {
		struct call call = { role, 0x40000000 | SYS_write, { 2 }, ANY };
		int status = run_child(&call, words, sizeof(words));

		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status %#x", roles[role], status);
	}
}
END_TEST

START_TEST(i386_entry)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		long ret = 4 /* write */;

		enter(SANDBOX_VCPU, STDERR_FILENO);
		__asm__ volatile("int $0x80"
				 : "+a"(ret)
				 : "b"(-1), "c"(0), "d"(0)
				 : "memory", "r8", "r9", "r10", "r11");
		raw_exit(PASSES);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	/* Killed by the filter; where the kernel has no 32-bit entry, by the fault. */
	ck_assert_msg((WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) ||
			      (WIFEXITED(status) && WEXITSTATUS(status) == SANDBOX_EXIT_SIGNAL + SIGSEGV),
		      "status %#x", status);
}
END_TEST

START_TEST(blocked_sigsys)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		unsigned long all = ~0UL;

		enter(SANDBOX_VCPU, STDERR_FILENO);
		raw(SYS_rt_sigprocmask, (long[6]) { SIG_BLOCK, (long)&all, 0, 8 });
		raw(SYS_getppid, (long[6]) { 0 });
		raw_exit(PASSES);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %#x", status);
}
END_TEST

START_TEST(abort_is_named)
{
	const struct call call = { SANDBOX_VCPU, SYS_tgkill, { 1, 1, SIGABRT }, 0 };
	char words[256];
	int status = run_child(&call, words, sizeof(words));

	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == SANDBOX_EXIT_VIOLATION);
	ck_assert_ptr_nonnull(strstr(words, "aborted"));
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(policy_syscall_name(SYS_read), "read");
	ck_assert_str_eq(policy_syscall_name(SYS_clone3), "clone3");
	ck_assert_str_eq(policy_syscall_name(400), "unknown");
	ck_assert_str_eq(policy_syscall_name(100000), "unknown");
	ck_assert_str_eq(policy_syscall_name(~0U), "unknown");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("policies");
	TCase *tc = tcase_create("kernel");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, passes, 0, sizeof(passing) / sizeof(passing[0]));
	tcase_add_loop_test(tc, no_role_may, 0, sizeof(never) / sizeof(never[0]));
	tcase_add_loop_test(tc, not_this_role, 0, sizeof(not_this_one) / sizeof(not_this_one[0]));
	tcase_add_test(tc, x32_numbers);
	tcase_add_test(tc, i386_entry);
	tcase_add_test(tc, blocked_sigsys);
	tcase_add_test(tc, abort_is_named);
	tcase_add_test(tc, names);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
