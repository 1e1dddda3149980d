// SPDX-License-Identifier: GPL-2.0-or-later
/* S5: host state is whole again after every exit: the watchers look while guests with the worst of states run on each CPU. */
#include "attack.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static void state_worst(struct umbra_run *run, uint64_t *seed)
{
	run->gdtr = (struct umbra_dtable) { .base = 0xffff8000deadb000, .limit = (uint32_t)random_next(seed) & 0xffff };
	run->idtr = (struct umbra_dtable) { .base = 0x123456789000, .limit = 7 };
	run->msr = (struct umbra_msrs) {
		.star = random_next(seed),
		.lstar = 0xffff8000deadbeef,
		.cstar = 0x00007fffdeadbeef,
		.fmask = (uint32_t)random_next(seed),
		.sysenter_cs = 0xffff,
		.sysenter_esp = 0xffff8000deadbeef,
		.sysenter_eip = 0xffff8000deadbeef,
		.pat = 0,
		.tsc_aux = (uint32_t)random_next(seed) | 0x800,
	};
	for (int i = 0; i < 4; i++)
		run->dr[i] = 0x7fff00000000 + (random_next(seed) & 0xfffff);
	run->dr7 = 0x400 | 0xff;
	run->seg[UMBRA_FS].base = 0xffff8000deadb000;
	run->seg[UMBRA_GS].base = 0xffff8000deadb000;
	run->cr4 |= info()->guest_cr4 & (1 << 2 | 1 << 7 | 1 << 16 | 1 << 18 | 1 << 11);
	run->xcr0 = info()->guest_xcr0 ? 1 : 0;
	run->tsc_offset = random_next(seed);
	run->cr2 = random_next(seed);
}

/* Here, since this thread has no I/O permissions: for one that has, as the watchers, the kernel loads the GDT again. UMIP makes up 0. */
static void gdt_check(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) gdt;

	asm volatile("sgdt %0" : "=m"(gdt));
	check(gdt.limit <= 16 * 8 - 1, "GDT limit %x after an exit", gdt.limit);
}

static volatile int stop;

static void *worst_thread(void *arg)
{
	int number = (int)(intptr_t)arg, cpu = number % cpu_count_online();
	uint64_t seed = 100 + (uint64_t)number, *runs = calloc(1, 8);
	struct guest g;

	cpu_pin(cpu);
	if (number / cpu_count_online() & 1)
		guest_new(&g, MODE_LONG64, SNIPPET(spin));
	else
		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	while (!stop) {
		if (!(++*runs & 3))
			state_worst(g.vcpu.run, &seed);
		g.vcpu.run->dirty |= UMBRA_STATE_ALL;
		g.vcpu.run->deadline_tsc = tsc_read() + info()->tsc_khz / 4;
		need(!vcpu_run(&g.vcpu), "RUN");
		gdt_check();
		need(g.vcpu.exit.reason == VMEXIT_IO || g.vcpu.exit.reason == VMEXIT_DEADLINE ||
			     g.vcpu.exit.reason == VMEXIT_INTERRUPTED,
		     "%s", vcpu_describe(&g.vcpu));
		if (!(*runs & 7)) /* now and then without an exit to user mode in between; else straight on */
			syscall(SYS_getpid);
	}
	return runs;
}

static void on_signal(int signal)
{
	(void)signal;
}

ATTACK(s5_hostile_state)
{
	int n = 2 * cpu_count_online();
	uint64_t end = time_ms() + scaled(3000), runs = 0;
	struct sigaction action = { .sa_handler = on_signal };
	pthread_t thread[8];
	void *result;

	n = n > 8 ? 8 : n;
	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < n; i++)
		need(!pthread_create(&thread[i], NULL, worst_thread, (void *)(intptr_t)i), "thread");
	while (time_ms() < end) {
		usleep(3000);
		for (int i = 0; i < n; i++)
			pthread_kill(thread[i], SIGUSR1);
	}
	stop = 1;
	for (int i = 0; i < n; i++) {
		pthread_join(thread[i], &result);
		runs += *(uint64_t *)result;
	}
	note("%llu runs", (unsigned long long)runs);
	check(runs > 100, "only %llu runs", (unsigned long long)runs);
}

/* A guest that leaves an x87 exception pending and unmasks SSE's: its own thread's affair, and nobody else's. */
ATTACK(s5_fpu)
{
	uint32_t mxcsr = 0x1f80;
	uint64_t seed = 5;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(fpu_clobber));
	for (size_t i = 0; i < 66; i++)
		((uint64_t *)(g.vm.mem + GPA_DATA))[i] = random_next(&seed);
	g.vcpu.run->gpr[UMBRA_RSI] = GPA_DATA;
	for (uint64_t i = 0; i < scaled(1500); i++) {
		int error;

		cpu_pin((int)(i / 16 % (unsigned int)cpu_count_online()));
		error = vcpu_run(&g.vcpu);
		if (i & 1)
			sched_yield(); /* the kernel saves what the guest left */
		asm volatile("fnclex\nfninit\nldmxcsr %0" : : "m"(mxcsr));
		need(!error, "RUN: %s", strerror(-error));
		if (g.vcpu.exit.reason == VMEXIT_INTERRUPTED)
			continue;
		need(g.vcpu.exit.reason == VMEXIT_IO, "%s", vcpu_describe(&g.vcpu));
		g.vcpu.run->rip = GPA_CODE;
		g.vcpu.run->dirty |= UMBRA_STATE_RIP;
	}
	cpu_pin(-1);
}

int s5_main(void)
{
	static const struct test tests[] = {
		{ "hostile_state", s5_hostile_state, 60 },
		{ "fpu", s5_fpu, 60 },
	};

	return run_tests("attack.s5", tests, ARRAY_SIZE(tests));
}
