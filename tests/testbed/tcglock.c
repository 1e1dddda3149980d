// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Preloaded into QEMU 7.2 with TCG: where a nested guest writes CR8 while its hypervisor has a
 * virtual interrupt pending, TCG raises the interrupt without QEMU's big lock and ends in an
 * assertion. OVMF does that. Takes the lock for it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>

#define MODULE "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so"

bool qemu_mutex_iothread_locked(void);
void qemu_mutex_lock_iothread_impl(const char *file, int line);
void qemu_mutex_unlock_iothread(void);
void tcg_handle_interrupt(void *cpu, int mask);

typedef void handle_interrupt(void *cpu, int mask);

static handle_interrupt *find_real(void)
{
	void *module = dlopen(MODULE, RTLD_LAZY | RTLD_NOLOAD);
	handle_interrupt *real = module ? (handle_interrupt *)dlsym(module, "tcg_handle_interrupt") : NULL;

	if (!real || real == tcg_handle_interrupt)
		abort();
	return real;
}

void tcg_handle_interrupt(void *cpu, int mask)
{
	static handle_interrupt *real;
	bool locked = qemu_mutex_iothread_locked();

	if (!locked)
		qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
	if (!real)
		real = find_real();
	real(cpu, mask);
	if (!locked)
		qemu_mutex_unlock_iothread();
}
