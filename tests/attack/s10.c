// SPDX-License-Identifier: GPL-2.0-or-later
/* S10: nothing that a guest or its shadow programs holds a host CPU. */
#include "attack.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOT 3

/* Interrupts off in the guest: the deadline ends it, though nothing else does. */
ATTACK(s10_cli_spin)
{
	struct guest g;

	cpu_pin(0);
	guest_new(&g, MODE_LONG64, SNIPPET(cli_spin));
	for (uint64_t i = 0; i < scaled(50); i++) {
		uint64_t start = time_ms();

		run_bounded(&g.vcpu, 5);
		check(g.vcpu.exit.reason == VMEXIT_DEADLINE, "%s", vcpu_describe(&g.vcpu));
		check(time_ms() - start < 2000, "5 ms lasted %llu ms", (unsigned long long)(time_ms() - start));
	}
}

/* Deadlines in the past, at once, at the end of time: RUN returns for those that have passed, and only for them. */
ATTACK(s10_deadlines)
{
	uint64_t seed = 51;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (uint64_t i = 0; i < scaled(3000); i++) {
		uint64_t now = tsc_read(), deadline = 1ULL << (i & 63);
		int error;

		if (i & 64)
			deadline = now + (random_next(&seed) % 4000) - 2000;
		else if (i & 128)
			deadline = random_next(&seed);
		g.vcpu.run->deadline_tsc = deadline;
		error = vcpu_run(&g.vcpu);
		need(!error, "RUN: %s", strerror(-error));
		switch (g.vcpu.exit.reason) {
		case VMEXIT_DEADLINE:
			check(deadline <= tsc_read(), "%llx has not passed", (unsigned long long)deadline);
			break;
		case VMEXIT_IO:
			check(deadline > now || !deadline, "%llx has passed, and the guest ran",
			      (unsigned long long)deadline);
			vcpu_skip(&g.vcpu);
			break;
		default:
			need(g.vcpu.exit.reason == VMEXIT_INTERRUPTED, "%s", vcpu_describe(&g.vcpu));
		}
	}
	/* Those far away do not come early, and a kick ends the wait for them. */
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(spin));
	for (int i = 0; i < 4; i++) {
		g.vcpu.run->deadline_tsc = (uint64_t[]) { ~0ULL, 1ULL << 63, tsc_read() + (1ULL << 50), ~0ULL - 1 }[i];
		vcpu_kick(&g.vcpu);
		need(!vcpu_run(&g.vcpu), "RUN");
		check(g.vcpu.exit.reason == VMEXIT_INTERRUPTED, "%s", vcpu_describe(&g.vcpu));
	}
}

/* An event with each entry, windows asked for at the same time, handlers that never end. */
ATTACK(s10_event_storm)
{
	unsigned int seen[VMEXIT_REASONS + 1] = { 0 };
	uint64_t seed = 61;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(spin));
	for (uint64_t i = 0; i < scaled(6000); i++) {
		struct umbra_run *run = g.vcpu.run;
		uint64_t r = random_next(&seed);

		if (!(i & 63))
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(spin));
		run->inject = (struct umbra_event) { .vector = (uint8_t)(r & 1 ? 2 : 32 + (r >> 8) % 200),
						     .type = r & 1 ? UMBRA_EVENT_NMI : UMBRA_EVENT_INTR,
						     .flags = UMBRA_EVENT_VALID };
		run->intercepts = (uint32_t)(r >> 16) & UMBRA_ICPT_ALL;
		run->tpr_threshold = r >> 28 & 7 ? 0 : (uint32_t)(r >> 24) & 15;
		run_bounded(&g.vcpu, 1);
		seen[g.vcpu.exit.reason < VMEXIT_REASONS ? g.vcpu.exit.reason : VMEXIT_REASONS]++;
		if (g.vcpu.exit.reason == VMEXIT_IO)
			vcpu_skip(&g.vcpu);
		if (g.vcpu.exit.reason == VMEXIT_BAD_STATE) /* interrupts off */
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(spin));
	}
	note("%u IO, %u BAD_STATE, %u INTR_WINDOW, %u NMI_WINDOW, %u DEADLINE, %u TPR", seen[VMEXIT_IO],
	     seen[VMEXIT_BAD_STATE], seen[VMEXIT_INTR_WINDOW], seen[VMEXIT_NMI_WINDOW], seen[VMEXIT_DEADLINE],
	     seen[VMEXIT_TPR]);
	check(seen[VMEXIT_IO] > 100, "nothing was delivered");
}

ATTACK(s10_triple_fault)
{
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(int3_once));
	for (uint64_t i = 0; i < scaled(1500); i++) {
		vcpu_state(g.vcpu.run, MODE_LONG64, GPA_CODE);
		g.vcpu.run->idtr.limit = 0;
		run_bounded(&g.vcpu, LONG);
		need(g.vcpu.exit.reason == VMEXIT_SHUTDOWN, "%s", vcpu_describe(&g.vcpu));
	}
}

/* Faults that cannot be mended: memory that is not there, under the data, the tables and the delivery of events. */
ATTACK(s10_fault_loop)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	run = g.vcpu.run;
	need(!vm_region(&g.vm, SLOT, 0, GPA_HOLE, (void *)PAGE, 16 * PAGE), "region"); /* nothing is mapped there */
	for (uint64_t i = 0; i < scaled(2000); i++) {
		vcpu_state(run, MODE_LONG64, GPA_CODE);
		run->gpr[UMBRA_RDI] = GPA_HOLE;
		switch (i % 5) {
		case 1:
			run->gpr[UMBRA_RSP] = GPA_HOLE + 64;
			run->inject = (struct umbra_event) { 0x40, UMBRA_EVENT_INTR, UMBRA_EVENT_VALID, 0, 0 };
			break;
		case 2:
			run->idtr.base = GPA_HOLE;
			run->inject = (struct umbra_event) { 6, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID, 0, 0 };
			break;
		case 3:
			run->cr3 = GPA_HOLE;
			run->flags = UMBRA_RUN_FLUSH_TLB;
			break;
		case 4:
			run->rip = GPA_HOLE;
			break;
		}
		run_bounded(&g.vcpu, LONG);
		need(g.vcpu.exit.reason == VMEXIT_MEM && g.vcpu.exit.mem.access & UMBRA_MEM_FAULT, "case %llu: %s",
		     (unsigned long long)(i % 5), vcpu_describe(&g.vcpu));
	}
}

/* ---- a process beside it ---- */

static void competitor(void)
{
	cpu_pin(0);
	for (;;)
		asm volatile("pause");
}

static void hog(struct snippet code)
{
	struct guest g;

	cpu_pin(0);
	guest_new(&g, MODE_LONG64, code);
	for (;;)
		vcpu_run(&g.vcpu);
}

/* On one CPU with a guest that never exits by itself a process gets its share. */
ATTACK(s10_share)
{
	struct snippet codes[] = { SNIPPET(cli_spin), SNIPPET(pause_spin), SNIPPET(cli_hlt) };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		pid_t guest = child_new(), other;
		uint64_t start, used, wall;

		if (!guest)
			hog(codes[i]);
		other = child_new();
		if (!other)
			competitor();
		usleep(100000);
		used = cpu_time_us(other);
		start = time_ms();
		usleep((useconds_t)scaled(800000));
		used = cpu_time_us(other) - used;
		wall = (time_ms() - start) * 1000;
		note("kind %zu: the process beside it had %llu of %llu ms", i, (unsigned long long)(used / 1000),
		     (unsigned long long)(wall / 1000));
		/* The watcher of this CPU and the witness have theirs, too. */
		check(used * 8 > wall, "kind %zu: the process beside it had %llu of %llu ms", i,
		      (unsigned long long)(used / 1000), (unsigned long long)(wall / 1000));
		child_kill(other);
		child_kill(guest);
	}
}

/* A page that never comes: the owner waits for itself in its own fault handler. */
static void blocked(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	void *page = memory_new(PAGE, PAGE);
	struct guest g;

	reg.range.start = (uintptr_t)page;
	reg.range.len = PAGE;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		note("no userfaultfd: %s", strerror(errno));
	guest_new(&g, MODE_LONG64, SNIPPET(load_out));
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE;
	vm_region(&g.vm, SLOT, 0, GPA_HOLE, page, PAGE);
	for (;;)
		vcpu_run(&g.vcpu);
}

/* SIGKILL ends each of them soon. */
ATTACK(s10_kill)
{
	struct snippet codes[] = { SNIPPET(cli_spin), SNIPPET(pause_spin), SNIPPET(cli_hlt), SNIPPET(out_loop) };

	for (uint64_t i = 0; i < scaled(20); i++) {
		pid_t pid = child_new();

		if (!pid) {
			if (i % 5 == 4)
				blocked();
			hog(codes[i % 5]);
		}
		usleep(30000);
		child_kill(pid);
	}
}

int s10_main(void)
{
	static const struct test tests[] = {
		{ "cli_spin", s10_cli_spin, 60 },
		{ "deadlines", s10_deadlines, 60 },
		{ "event_storm", s10_event_storm, 90 },
		{ "triple_fault", s10_triple_fault, 60 },
		{ "fault_loop", s10_fault_loop, 60 },
		{ "share", s10_share, 60 },
		{ "kill", s10_kill, 90 },
	};

	return run_tests("attack.s10", tests, ARRAY_SIZE(tests));
}
