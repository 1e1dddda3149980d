// SPDX-License-Identifier: GPL-2.0-or-later
/* Compiled without vector registers, calls only the decoder: what a shadow's vCPU thread is like. */
#include "fpu_loop.h"

#include <sys/mman.h>
#include <sys/syscall.h>

volatile unsigned long fpu_loop_signals;

static long call3(long nr, long a, long b, long c)
{
	long r;

	asm volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

/* The assembler knows how long the instruction is. */
static uint64_t length_at(const struct snippet *code, uint64_t rip)
{
	for (const struct snip_at *at = code->at; at->len; at++)
		if (at->where - (uintptr_t)code->start + GPA_CODE == rip)
			return at->len;
	return 0;
}

/* INT3 or XSETBV (its #GP) where they have no exit: back from the handler, behind the instruction. */
static void vectored(const struct fpu_loop *loop)
{
	struct umbra_run *run = loop->vcpu->run;
	uint64_t *stack = (uint64_t *)(loop->vcpu->vm->mem + (run->gpr[UMBRA_RSP] & (GUEST_MEM - 8)));

	if (stack[0] == 13) {
		stack[2] += length_at(&loop->code, stack[2]);
		run->gpr[UMBRA_RSP] += 8;
	}
	run->gpr[UMBRA_RSP] += 8;
	run->rip += 2;
	run->dirty |= UMBRA_STATE_RIP;
}

void fpu_loop_signal(int signal)
{
	(void)signal;
	fpu_loop_signals++;
}

void fpu_loop_run(struct fpu_loop *loop)
{
	struct umbra_run *run = loop->vcpu->run;
	struct vmexit exit;
	uint64_t length, clobber = loop->clobber_every, drop = loop->drop_every;
	long r;

	loop->error = 0;
	for (;;) {
		r = call3(SYS_lseek, loop->vcpu->fd, 0, 0);
		if (r) {
			loop->error = (int)-r;
			return;
		}
		loop->exits++;
		loop->vcpu->read(run, &exit);
		loop->seen |= 1ULL << (exit.reason & 63);
		if (exit.reason == VMEXIT_INTERRUPTED)
			continue;
		if (exit.reason == VMEXIT_IO && exit.io.port == PORT_DONE)
			return;
		if (exit.reason == VMEXIT_IO && exit.io.port == PORT_VECTORED) {
			vectored(loop);
			continue;
		}
		length = length_at(&loop->code, run->rip);
		if (!length) {
			loop->error = 1000 + (int)exit.reason;
			return;
		}
		run->rip += length;
		run->dirty |= UMBRA_STATE_RIP;
		if (clobber && !--clobber) {
			clobber = loop->clobber_every;
			asm volatile("pcmpeqd %xmm3, %xmm3");
		}
		if (drop && !--drop) {
			drop = loop->drop_every;
			call3(SYS_madvise, (long)loop->drop, UMBRA_PAGE_SIZE, MADV_DONTNEED);
		}
	}
}
