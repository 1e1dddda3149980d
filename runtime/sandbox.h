/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_SANDBOX_H
#define UMBRA_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

/* The policies in seccomp/, one a role. */
enum sandbox_role {
	SANDBOX_CONTROL, /* the process's first thread, once sandbox_enter() is back */
	SANDBOX_EVENT,
	SANDBOX_VCPU,
	SANDBOX_WAITER, /* the process that waits for the shadow; sandbox_enter() only */
	SANDBOX_ROLES,
};

struct sandbox {
	int control_fd;		 /* socket to the glue: stays open in both processes */
	int device_fd;		 /* /dev/umbra: stays open in the shadow; -1: none (tests) */
	int (*prepare)(void);	 /* called last before the filter; < 0: -errno, ends the process; NULL: none */
	bool require_namespaces; /* in: a namespace that cannot be had ends the process */
	unsigned int namespaces; /* out: CLONE_NEW* bits in force */
	unsigned int pid;	 /* out: this process as the parent of the waiter sees it */
};

/*
 * Locks this single-threaded process in, in the order of the design; forks (the caller goes on as the child, the parent
 * stays as a waiter that relays the exit status). Comes back only when every step is done: a step that fails sends
 * CHANNEL_DEATH, writes to stderr and ends the process with SANDBOX_EXIT_FAILED.
 * Afterwards: system calls of the control policy only; a forbidden one, and SIGSEGV, SIGBUS, SIGILL, SIGFPE or an
 * abort(), sends CHANNEL_DEATH with the reason and ends the process.
 */
void sandbox_enter(struct sandbox *sandbox);

/*
 * The first thing a new thread does: adds its role's filter on top of the control thread's (which it inherits). Never
 * fails: ends the process where the kernel refuses. A vCPU thread's filter allows no second call.
 */
void sandbox_thread(enum sandbox_role role);

/* The calling thread's role, for messages. Async-signal-safe. */
const char *sandbox_role_name(void);

/* Ends the process with the reason sent as CHANNEL_DEATH and to stderr. Any thread, signal handlers too. */
_Noreturn void sandbox_die(const char *reason);

#define SANDBOX_EXIT_FAILED 70	  /* the sandbox could not be closed, or the shadow gave up: sandbox_die() */
#define SANDBOX_EXIT_VIOLATION 71 /* a forbidden system call */
#define SANDBOX_EXIT_SIGNAL 128	  /* + the signal that ended the shadow */

#endif
