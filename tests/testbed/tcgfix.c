// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Preloaded into QEMU 7.2 with TCG: mends three faults of its SVM, which every hypervisor in there runs into, KVM as well.
 *
 * A hypervisor injects an interrupt. VMRUN delivers it, but leaves its vector where the loop finds the exception to be delivered
 * next. If another thread then wants the CPU to stop for a moment, the loop delivers the interrupt once more, in the middle of its
 * handler, interrupts off or not. Linux as the guest waits for a lock that it holds itself, or takes a double fault. Mended: the loop
 * is told that there is no exception, as after any other event that VMRUN delivers.
 *
 * FXRSTOR takes back IGNNE#, by a read and a write of the first CPU's flags from whichever CPU executes it. What the first CPU
 * changes meanwhile is lost: it stays in nested paging after #VMEXIT, which puts the host's state into the VMCB, or it stays without
 * the global interrupt flag, deaf, until others wait for it for ever. Mended: IGNNE# is not taken back; only a system that gets its
 * floating-point errors by IRQ 13 would notice.
 *
 * A guest writes CR8 while its hypervisor has a virtual interrupt pending: TCG raises it without QEMU's big lock and ends in an
 * assertion. OVMF does that. Mended: the lock is taken.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MODULE "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so"

/* QEMU's, in its program. Weak: what is missing in another one is told below, not by the loader. */
#pragma weak current_cpu
#pragma weak qemu_mutex_iothread_locked
#pragma weak do_interrupt_x86_hardirq
#pragma weak do_interrupt_all
#pragma weak cpu_loop_exit_noexc
#pragma weak cpu_clear_ignne
extern __thread void *current_cpu;
bool qemu_mutex_iothread_locked(void);
void qemu_mutex_lock_iothread_impl(const char *file, int line);
void qemu_mutex_unlock_iothread(void);
void do_interrupt_x86_hardirq(void *env, int vector, int is_hardware);
void do_interrupt_all(void *cpu, int vector, int is_soft, int error_code, unsigned long next_rip, int is_hardware);
void cpu_loop_exit_noexc(void *cpu) __attribute__((noreturn));
void cpu_clear_ignne(void);

static void fail(const char *what)
{
	fprintf(stderr,
		"tcgfix: %s is not as in Debian 12's QEMU 7.2: install that one, or look into tests/testbed/tcgfix.c\n",
		what);
	abort();
}

/* ---- in place of QEMU's functions ---- */

/* do_interrupt_x86_hardirq(): VMRUN calls it without the lock, the loop with it. */
static void deliver(void *env, int vector, int is_hardware)
{
	(void)env;
	do_interrupt_all(current_cpu, vector, 0, 0, 0, is_hardware);
	if (!qemu_mutex_iothread_locked())
		cpu_loop_exit_noexc(current_cpu);
}

/* cpu_clear_ignne() */
static void leave_ignne(void)
{
}

/* Writes a jump: no table that a preloaded library could change is used for calls within the program. */
static void replace(const char *name, void *function, void *by)
{
	struct {
		uint8_t opcode[6]; /* JMP to the address behind it */
		void *target;
	} __attribute__((packed)) jump = { { 0xff, 0x25 }, by };
	size_t size = (size_t)getpagesize();
	void *page = (void *)((uintptr_t)function & -size);
	const ElfW(Sym) * symbol;
	Dl_info info;

	if (!function || !dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol ||
	    symbol->st_size < sizeof(jump))
		fail(name);
	if (mprotect(page, 2 * size, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		perror("tcgfix: mprotect");
		abort();
	}
	memcpy(function, &jump, sizeof(jump));
	mprotect(page, 2 * size, PROT_READ | PROT_EXEC);
}

__attribute__((constructor)) static void replace_all(void)
{
	if (!dlsym(RTLD_DEFAULT, "current_cpu") || !qemu_mutex_iothread_locked || !do_interrupt_all ||
	    !cpu_loop_exit_noexc)
		fail("its interrupt delivery");
	replace("do_interrupt_x86_hardirq", do_interrupt_x86_hardirq, deliver);
	replace("cpu_clear_ignne", cpu_clear_ignne, leave_ignne);
}

/* ---- before QEMU's function of the same name, which it calls by a pointer ---- */

typedef void handle_interrupt(void *cpu, int mask);
handle_interrupt tcg_handle_interrupt;

static handle_interrupt *find_real(void)
{
	void *module = dlopen(MODULE, RTLD_LAZY | RTLD_NOLOAD);
	handle_interrupt *real = module ? (handle_interrupt *)dlsym(module, "tcg_handle_interrupt") : NULL;

	if (!real || real == tcg_handle_interrupt)
		fail("tcg_handle_interrupt");
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
