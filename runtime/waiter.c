/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "waiter.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "last_words.h"
#include "sandbox.h"

#define GRACE_MS 2000 /* to end by itself once the glue is gone */

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Raw: glibc's poll() may become ppoll() one day, and the policy names poll. */
static int wait_for(struct pollfd *fds, unsigned int count, int timeout)
{
	int ready;

	do
		ready = syscall(SYS_poll, fds, count, timeout);
	while (ready < 0 && errno == EINTR);
	return ready;
}

_Noreturn void waiter_run(int pidfd, int control_fd, int peer_pidfd)
{
	/* events 0: only POLLHUP and POLLERR are reported. The socket alone would not do: its other end can be kept open by others,
	 * by a shadow that was given it, or it lies in a message that nobody takes. Nor would a parent-death signal: it is tied to the
	 * thread of the VMM that started us, not to the VMM. */
	struct pollfd fds[3] = {
		{ .fd = pidfd, .events = POLLIN },
		{ .fd = control_fd, .events = 0 },
		{ .fd = peer_pidfd, .events = POLLIN }, /* -1: looked at by nobody */
	};
	struct words words = { 0 };
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	wait_for(fds, 3, -1);
	if (!fds[0].revents && !wait_for(fds, 1, GRACE_MS))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	while (syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED, NULL) < 0)
		if (errno != EINTR)
			_exit(SANDBOX_EXIT_FAILED);
	if (info.si_code == CLD_EXITED)
		_exit(info.si_status);
	if (fds[1].revents || fds[2].revents) /* nobody to tell */
		_exit(SANDBOX_EXIT_SIGNAL + info.si_status);
	words_add(&words, "killed by signal ");
	words_add_number(&words, info.si_status, 10);
	words_add(&words, info.si_status == SIGKILL ? " (SIGKILL: out of memory, or somebody's kill)" : "");
	last_words(words.text, SANDBOX_EXIT_SIGNAL + info.si_status);
}
