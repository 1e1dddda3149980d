/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a shadow says why it ends. All of it async-signal-safe, with system calls that every policy allows. */
#define _GNU_SOURCE
#include "last_words.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "channel_io.h"
#include "policy.h"
#include "sandbox.h"

#define SI_SECCOMP 1 /* SYS_SECCOMP of <asm-generic/siginfo.h>, which libc's header does not have */

extern const char __executable_start[], etext[]; /* from the linker */

static int report_fd = -1;
static atomic_flag reported = ATOMIC_FLAG_INIT;

void words_add(struct words *words, const char *text)
{
	while (*text && words->used < sizeof(words->text) - 1)
		words->text[words->used++] = *text++;
	words->text[words->used] = 0;
}

void words_add_number(struct words *words, unsigned long value, unsigned int base)
{
	char digits[24];
	size_t i = sizeof(digits);

	digits[--i] = 0;
	do
		digits[--i] = "0123456789abcdef"[value % base];
	while (value /= base);
	words_add(words, base == 16 ? "0x" : "");
	words_add(words, digits + i);
}

void last_words_to(int control_fd)
{
	report_fd = control_fd;
}

_Noreturn void last_words(const char *text, int status)
{
	struct words line = { 0 };
	ssize_t ignored;

	/* A second thread that fails meanwhile must not cut the first one's words off. */
	while (atomic_flag_test_and_set(&reported))
		syscall(SYS_exit, status);
	channel_death(report_fd, text);
	words_add(&line, "umbra-shadow: ");
	words_add(&line, text);
	words_add(&line, "\n");
	ignored = write(STDERR_FILENO, line.text, line.used);
	(void)ignored; /* nothing is left to tell it to */
	_exit(status);
}

_Noreturn void sandbox_die(const char *reason)
{
	last_words(reason, SANDBOX_EXIT_FAILED);
}

static void on_violation(int sig, siginfo_t *info, void *context)
{
	const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct words words = { 0 };

	(void)sig;
	if (info->si_code != SI_SECCOMP) { /* somebody sent a plain SIGSYS */
		words_add(&words, "ended by SIGSYS");
	} else if (info->si_syscall == SYS_tgkill && regs[REG_RDX] == SIGABRT) {
		words_add(&words, "aborted (see the message above it, if any)");
	} else {
		words_add(&words, "forbidden system call ");
		words_add(&words, policy_syscall_name(info->si_syscall));
		words_add(&words, " (");
		words_add_number(&words, (unsigned int)info->si_syscall, 10);
		words_add(&words, ") in the ");
		words_add(&words, sandbox_role_name());
		words_add(&words, " thread, arguments ");
		words_add_number(&words, regs[REG_RDI], 16);
		words_add(&words, " ");
		words_add_number(&words, regs[REG_RSI], 16);
		words_add(&words, " ");
		words_add_number(&words, regs[REG_RDX], 16);
		if (info->si_syscall == SYS_mmap)
			words_add(&words, " (glibc calls it before it aborts: see the message above this one, if any)");
	}
	last_words(words.text, SANDBOX_EXIT_VIOLATION);
}

static void words_add_instruction(struct words *words, uintptr_t ip)
{
	uintptr_t base = (uintptr_t)__executable_start;

	words_add(words, ", instruction ");
	if (ip >= base && ip < (uintptr_t)etext) {
		words_add(words, "umbra-shadow+");
		ip -= base;
	}
	words_add_number(words, ip, 16);
}

static void on_crash(int sig, siginfo_t *info, void *context)
{
	struct words words = { 0 };

	words_add(&words, "crashed: ");
	words_add(&words, sig == SIGSEGV ? "SIGSEGV" : sig == SIGBUS ? "SIGBUS" : sig == SIGILL ? "SIGILL" : "SIGFPE");
	words_add(&words, " in the ");
	words_add(&words, sandbox_role_name());
	words_add(&words, " thread, address ");
	words_add_number(&words, (uintptr_t)info->si_addr, 16);
	words_add_instruction(&words, ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]);
	if (sig == SIGBUS && info->si_code == BUS_ADRERR)
		words_add(&words, ": memory of a file that was cut short or has no room, guest memory most likely");
	last_words(words.text, SANDBOX_EXIT_SIGNAL + sig);
}

/*
 * The compiler's stack protector calls it. glibc's own prints a text and maps memory before it aborts, which most threads may
 * not: the policy's violation would be all that the VMM hears of.
 */
_Noreturn void __stack_chk_fail(void);
__attribute__((used)) void __stack_chk_fail(void)
{
	struct words words = { 0 };

	words_add(&words, "crashed: a function's stack frame was overwritten in the ");
	words_add(&words, sandbox_role_name());
	words_add(&words, " thread");
	words_add_instruction(&words, (uintptr_t)__builtin_return_address(0));
	last_words(words.text, SANDBOX_EXIT_SIGNAL + SIGABRT);
}

int last_words_install(void)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct sigaction action = { .sa_flags = SA_SIGINFO };

	/* SIGSYS is blocked within its handler: a forbidden call in there kills the process. */
	action.sa_sigaction = on_violation;
	if (sigaction(SIGSYS, &action, NULL))
		return -1;
	/* A crash within the handler must end the process: default action the second time. */
	action.sa_flags = SA_SIGINFO | SA_RESETHAND;
	action.sa_sigaction = on_crash;
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		if (sigaction(crashes[i], &action, NULL))
			return -1;
	return 0;
}
