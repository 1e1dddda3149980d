/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue_signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "glue.h"

/*
 * KVM_RUN ends with EINTR for every signal whose handler runs meanwhile. In the kernel that is one test; here the handler may run
 * between the ring and FUTEX_WAIT, in user mode, where no system call would be interrupted. So handlers are called through
 * a trampoline that changes the futex word of the RUN under way on its thread: the FUTEX_WAIT that follows returns at once.
 * Handlers are wrapped from the first vCPU on; before that sigaction() passes through.
 */

__thread struct vcpu *volatile signal_vcpu;

typedef void (*handler_fn)(int sig, siginfo_t *info, void *context);

static _Atomic(uintptr_t) handlers[NSIG];
static atomic_bool watching;

static int real_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	static _Atomic(uintptr_t) next;
	uintptr_t fn = atomic_load_explicit(&next, memory_order_relaxed);

	if (!fn) {
		fn = (uintptr_t)dlsym(RTLD_NEXT, "sigaction");
		atomic_store(&next, fn);
	}
	if (!fn) {
		errno = ENOSYS;
		return -1;
	}
	return ((int (*)(int, const struct sigaction *, struct sigaction *))fn)(sig, act, old);
}

static void trampoline(int sig, siginfo_t *info, void *context)
{
	struct vcpu *vcpu = signal_vcpu;
	uintptr_t handler = atomic_load(&handlers[sig]);

	if (vcpu)
		vcpu_note(vcpu, true);
	if (handler)
		((handler_fn)handler)(sig, info, context);
}

static bool is_function(const struct sigaction *act)
{
	return act->sa_handler != SIG_DFL && act->sa_handler != SIG_IGN && act->sa_sigaction != trampoline;
}

int signals_action(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction wrapped, seen;
	uintptr_t before;
	int ret;

	if (!atomic_load(&watching) || sig <= 0 || sig >= NSIG)
		return real_sigaction(sig, act, old);
	before = atomic_load(&handlers[sig]);
	if (act && is_function(act)) {
		wrapped = *act;
		wrapped.sa_sigaction = trampoline;
		atomic_store(&handlers[sig], (uintptr_t)act->sa_sigaction);
		ret = real_sigaction(sig, &wrapped, &seen);
		if (ret)
			atomic_store(&handlers[sig], before);
	} else {
		ret = real_sigaction(sig, act, &seen);
	}
	if (!ret && old) {
		*old = seen;
		if (seen.sa_sigaction == trampoline)
			old->sa_sigaction = (handler_fn)before;
	}
	return ret;
}

void (*signals_signal(int sig, void (*handler)(int), int flags))(int)
{
	struct sigaction act, old;

	memset(&act, 0, sizeof(act));
	act.sa_handler = handler;
	act.sa_flags = flags;
	sigemptyset(&act.sa_mask);
	if (!(flags & SA_RESETHAND))
		sigaddset(&act.sa_mask, sig);
	if (handler == SIG_ERR || signals_action(sig, &act, &old))
		return SIG_ERR;
	return old.sa_handler;
}

bool signals_watching(void)
{
	return atomic_load_explicit(&watching, memory_order_relaxed);
}

void signals_watch(void)
{
	struct sigaction act;

	if (atomic_exchange(&watching, true))
		return;
	for (int sig = 1; sig < NSIG; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP || real_sigaction(sig, NULL, &act))
			continue; /* glibc keeps two signals to itself */
		if (!is_function(&act))
			continue;
		atomic_store(&handlers[sig], (uintptr_t)act.sa_sigaction);
		act.sa_sigaction = trampoline;
		real_sigaction(sig, &act, NULL);
	}
}
