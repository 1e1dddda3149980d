// SPDX-License-Identifier: GPL-2.0-or-later
/* What user space can see of the CPU is the same before and after guests that change all they can. */
#include "lib.h"

#include <asm/prctl.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct host_state {
	unsigned char gdt[10], idt[10];
	uint16_t tr, ldt, cs, ss, ds, es, fs, gs;
	uint32_t tr_limit_valid;
	uint64_t xcr0, fs_base, gs_base, rflags;
};

static void host_state_read(struct host_state *s)
{
	uint32_t low, high;
	unsigned long base;

	memset(s, 0, sizeof(*s));
	asm volatile("sgdt %0" : "=m"(s->gdt));
	asm volatile("sidt %0" : "=m"(s->idt));
	asm volatile("str %0" : "=m"(s->tr));
	asm volatile("sldt %0" : "=m"(s->ldt));
	asm volatile("mov %%cs, %0" : "=m"(s->cs));
	asm volatile("mov %%ss, %0" : "=m"(s->ss));
	asm volatile("mov %%ds, %0" : "=m"(s->ds));
	asm volatile("mov %%es, %0" : "=m"(s->es));
	asm volatile("mov %%fs, %0" : "=m"(s->fs));
	asm volatile("mov %%gs, %0" : "=m"(s->gs));
	if (info()->guest_xcr0) {
		asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
		s->xcr0 = (uint64_t)high << 32 | low;
	}
	syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
	s->fs_base = base;
	syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
	s->gs_base = base;
	asm volatile("pushfq\npop %0" : "=r"(s->rflags));
	s->rflags &= ~0x8d5ULL; /* arithmetic flags */
}

/* A guest state as far from the host's as it gets. */
static void state_hostile(struct umbra_run *run)
{
	run->gdtr = (struct umbra_dtable) { .base = 0xffff8000deadb000, .limit = 0 };
	run->idtr = (struct umbra_dtable) { .base = 0x123456789000, .limit = 7 };
	run->msr.star = 0x00ff00ee00000000;
	run->msr.lstar = 0xffff8000deadbeef;
	run->msr.cstar = 0xffff8000deadbeef;
	run->msr.fmask = 0xffffffff;
	run->msr.sysenter_cs = 0xffff;
	run->msr.sysenter_esp = 0xffff8000deadbeef;
	run->msr.sysenter_eip = 0xffff8000deadbeef;
	run->msr.pat = 0;
	run->msr.tsc_aux = 0xffffffff;
	run->dr[0] = run->dr[1] = run->dr[2] = run->dr[3] = 0xffff8000deadbeef;
	run->dr7 = 0x400 | 0xff;
	run->seg[UMBRA_FS].base = 0xffff8000deadb000;
	run->seg[UMBRA_GS].base = 0xffff8000deadb000;
	run->cr4 |= info()->guest_cr4 & (1 << 2 | 1 << 7 | 1 << 16 | 1 << 18);
	run->xcr0 = info()->guest_xcr0 ? 1 : 0;
}

static void differ(const struct host_state *before, const struct host_state *after, const char *what)
{
	check(!memcmp(before->gdt, after->gdt, 10), "%s: GDT limit %x, before %x", what,
	      after->gdt[0] | after->gdt[1] << 8, before->gdt[0] | before->gdt[1] << 8);
	check(!memcmp(before->idt, after->idt, 10), "%s: IDT limit %x, before %x", what,
	      after->idt[0] | after->idt[1] << 8, before->idt[0] | before->idt[1] << 8);
	check(before->tr == after->tr && before->ldt == after->ldt, "%s: TR %x, LDTR %x", what, after->tr, after->ldt);
	check(before->cs == after->cs && before->ss == after->ss, "%s: CS %x, SS %x", what, after->cs, after->ss);
	check(before->fs == after->fs && before->gs == after->gs, "%s: FS %x, GS %x", what, after->fs, after->gs);
	check(before->xcr0 == after->xcr0, "%s: XCR0 %llx", what, (unsigned long long)after->xcr0);
	check(before->fs_base == after->fs_base, "%s: FS base %llx", what, (unsigned long long)after->fs_base);
	check(before->gs_base == after->gs_base, "%s: GS base %llx, before %llx", what,
	      (unsigned long long)after->gs_base, (unsigned long long)before->gs_base);
	check(before->rflags == after->rflags, "%s: RFLAGS %llx", what, (unsigned long long)after->rflags);
}

static void host_visible(void)
{
	struct host_state before, after;
	struct guest g;

	cpu_pin(0);
	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	host_state_read(&before);
	for (uint64_t i = 0; i < scaled(3000); i++) {
		if (!(i & 1))
			state_hostile(g.vcpu.run);
		g.vcpu.run->dirty |= UMBRA_STATE_ALL;
		vcpu_expect_io(&g.vcpu, 0x80, "hostile state");
		vcpu_skip(&g.vcpu);
		host_state_read(&after); /* before anything else could put it right */
		differ(&before, &after, "right after RUN");
		check(syscall(SYS_getpid) == getpid(), "SYSCALL");
		if (!(i % 500)) {
			usleep(1000);
			host_state_read(&after);
			differ(&before, &after, "after a sleep");
		}
	}
}

/* MSRs by /dev/cpu/N/msr, where the machine has it. */
static void host_msrs(void)
{
	static const uint32_t msrs[] = { 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000103,
					 0x174,	     0x175,	 0x176,	     0x277,	 0x1d9,	     0x48 };
	uint64_t before[ARRAY_SIZE(msrs)] = { 0 }, after;
	int ok[ARRAY_SIZE(msrs)], fd = open("/dev/cpu/0/msr", O_RDONLY | O_CLOEXEC);
	struct guest g;

	if (fd < 0)
		skip_test("no /dev/cpu/0/msr (module msr)");
	cpu_pin(0);
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		ok[i] = pread(fd, &before[i], 8, msrs[i]) == 8;
	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (int round = 0; round < 50; round++) {
		if (!(round & 1))
			state_hostile(g.vcpu.run);
		g.vcpu.run->dirty |= UMBRA_STATE_ALL;
		vcpu_expect_io(&g.vcpu, 0x80, "hostile state");
		vcpu_skip(&g.vcpu);
		for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
			if (!ok[i])
				continue;
			need(pread(fd, &after, 8, msrs[i]) == 8, "MSR %x", msrs[i]);
			if (is_svm() && msrs[i] == 0xc0000080)
				after &= ~(1ULL << 12); /* SVME: on while there are VMs */
			check(after == before[i], "MSR %x is %llx, before %llx", msrs[i], (unsigned long long)after,
			      (unsigned long long)before[i]);
		}
	}
	check(ok[2], "LSTAR cannot be read");
}

/* ---- a watchpoint of another process ---- */

static volatile uint64_t watched __attribute__((aligned(8)));

static void watched_child(uint64_t writes)
{
	cpu_pin(0);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	for (uint64_t i = 0; i < writes; i++) {
		watched = i;
		for (volatile int n = 0; n < 500; n++)
			;
		if (!(i & 3))
			sched_yield();
	}
	_exit(0);
}

/* A guest with breakpoints of its own, on the same CPU, until killed. */
static void breakpoint_guest(void)
{
	struct guest g;
	struct umbra_run *run;

	cpu_pin(0);
	guest_new(&g, MODE_LONG64, SNIPPET(drs));
	run = g.vcpu.run;
	for (uint64_t round = 0;; round++) {
		uint64_t at = GPA_DATA + (round & 1 ? 0 : 0x800);

		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(drs));
		run->gpr[UMBRA_RDI] = GPA_DATA;
		run->gpr[UMBRA_RCX] = 500;
		run->dr[0] = at;
		run->dr[1] = run->dr[2] = run->dr[3] =
			(uintptr_t)&watched; /* the watched process's address, in the guest */
		run->dr7 = 0x400 | 0xff | 3u << 16 | 3u << 18;
		vcpu_exit(&g.vcpu);
		if (round & 1)
			need((g.vcpu.exit.reason == VMEXIT_EXCEPTION && g.vcpu.exit.exc.vector == 1 &&
			      (g.vcpu.exit.exc.payload & 15) == 1) ||
				     (is_svm() &&
				      g.vcpu.exit.reason == VMEXIT_IO), /* QEMU 7.2: see always_intercepted */
			     "the guest's own breakpoint: %s", vcpu_describe(&g.vcpu));
		else
			need(g.vcpu.exit.reason == VMEXIT_IO, "no breakpoint of the guest: %s", vcpu_describe(&g.vcpu));
	}
}

static void debug_set(pid_t pid, size_t number, uint64_t value)
{
	need(!ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + 8 * number, value), "DR%zu: %s", number,
	     strerror(errno));
}

static void host_watchpoint(void)
{
	uint64_t writes = scaled(400), hits = 0;
	pid_t pid, guest;
	int status;

	cpu_pin(0);
	guest = fork();
	need(guest >= 0, "fork");
	if (!guest)
		breakpoint_guest();
	pid = fork();
	need(pid >= 0, "fork");
	if (!pid)
		watched_child(writes);
	waitpid(pid, &status, 0);
	debug_set(pid, 0, (uintptr_t)&watched);
	debug_set(pid, 7, 1 | 1u << 16 | 2u << 18); /* L0, write, 8 bytes */
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		int signal = WSTOPSIG(status);

		if (signal == SIGTRAP) {
			long dr6 = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + 8 * 6, NULL);

			hits++;
			check((dr6 & 15) == 1, "DR6 %lx", dr6);
			signal = 0;
		}
		ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)signal);
	}
	check(WIFEXITED(status) && !WEXITSTATUS(status), "watched process: %x", status);
	check(hits == writes, "the watchpoint fired %llu times for %llu writes", (unsigned long long)hits,
	      (unsigned long long)writes);
	check(!waitpid(guest, &status, WNOHANG), "the guest's process ended: %x", status);
	kill(guest, SIGKILL);
	waitpid(guest, &status, 0);
}

/* A watchpoint on the vCPU thread's own process: the guest does not trip over it. */
static void host_watchpoint_own(void)
{
	int status;
	pid_t pid = fork();

	need(pid >= 0, "fork");
	if (!pid) {
		struct guest g;

		guest_new(&g, MODE_LONG64, SNIPPET(store));
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		for (int i = 0; i < 50; i++) {
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(store));
			g.vcpu.run->gpr[UMBRA_RDI] = (uintptr_t)&watched & 0x1fffff; /* below */
			g.vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
			vcpu_exit(&g.vcpu);
			if (g.vcpu.exit.reason != VMEXIT_IO)
				_exit(2);
			watched = (uint64_t)i;
		}
		_exit(0);
	}
	waitpid(pid, &status, 0);
	debug_set(pid, 0, GPA_DATA); /* an address that the guest writes to and the process does not */
	debug_set(pid, 1, (uintptr_t)&watched);
	debug_set(pid, 7, 1 | 4 | 1u << 16 | 2u << 18 | 1u << 20 | 2u << 22);
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	for (int hits = 0;;) {
		need(waitpid(pid, &status, 0) == pid, "waitpid");
		if (!WIFSTOPPED(status)) {
			check(hits == 50, "the process's watchpoint fired %d times for 50 writes", hits);
			break;
		}
		if (WSTOPSIG(status) == SIGTRAP) {
			check((ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + 48, NULL) & 15) == 2,
			      "the guest's write fired the process's watchpoint");
			hits++;
			ptrace(PTRACE_CONT, pid, NULL, NULL);
		} else {
			ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)WSTOPSIG(status));
		}
	}
	check(WIFEXITED(status) && !WEXITSTATUS(status), "process: %x", status);
}

/* TSC_AUX is the kernel's per-CPU number: RDTSCP in user space reads the CPU, whatever the guest had. */
static void host_tsc_aux(void)
{
	struct guest g;
	uint32_t aux;

	if (!(info()->features & UMBRA_FEAT_RDTSCP))
		skip_test("no RDTSCP");
	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (uint64_t i = 0; i < scaled(200); i++) {
		int cpu = (int)(i % (unsigned int)cpu_count_online());

		cpu_pin(cpu);
		g.vcpu.run->msr.tsc_aux = 0x12345;
		g.vcpu.run->dirty |= UMBRA_STATE_MSR;
		vcpu_expect_io(&g.vcpu, 0x80, "tsc_aux");
		vcpu_skip(&g.vcpu);
		asm volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
		need((aux & 0xfff) == (uint32_t)cpu, "RDTSCP says CPU %x on CPU %d", aux, cpu);
	}
}

int hoststate_main(void)
{
	static const struct test tests[] = {
		{ "visible", host_visible, 60 },
		{ "msrs", host_msrs, 30 },
		{ "tsc_aux", host_tsc_aux, 30 },
		{ "watchpoint", host_watchpoint, 120 },
		{ "watchpoint_own", host_watchpoint_own, 60 },
	};

	return run_tests("hoststate", tests, ARRAY_SIZE(tests));
}
