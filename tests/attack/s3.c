// SPDX-License-Identifier: GPL-2.0-or-later
/* S3: #AC and #DB always exit: no guest loops in their delivery. (CVE-2015-5307, CVE-2015-8104) */
#include "attack.h"

#include <pthread.h>

#define AC 17
#define SEL_USER_CODE32 0x2b
#define TF (1 << 8)

static int exit_is(struct vcpu *vcpu, unsigned int vector)
{
	return vcpu->exit.reason == VMEXIT_EXCEPTION && vcpu->exit.exc.vector == vector;
}

ATTACK(s3_db_step)
{
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(nop_loop));
	run_bounded(&g.vcpu, 5); /* its pages are there: Bochs makes a second #DB of a step that a fault cut short */
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nop_loop));
	g.vcpu.run->exceptions = 0;
	g.vcpu.run->rflags |= TF;
	for (uint64_t i = 0; i < scaled(1000); i++) {
		run_bounded(&g.vcpu, LONG);
		need(exit_is(&g.vcpu, 1), "step %llu: %s", (unsigned long long)i, vcpu_describe(&g.vcpu));
	}
}

/* A breakpoint on the stack on which #DB would be delivered, and the shadow that delivers it again and again. */
ATTACK(s3_db_loop)
{
	uint64_t hits = 0, others = 0;
	struct umbra_run *run;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(push_loop));
	run = g.vcpu.run;
	for (uint64_t i = 0; i < scaled(800); i++) {
		if (!(i % 50))
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(push_loop));
		run->dr[0] = GPA_STACK - 8;
		run->dr[1] = GPA_STACK - 40;
		run->dr[2] = GPA_HANDLER;
		run->dr[3] = GPA_STUBS + 16;
		run->dr7 = 0x400 | 0xff | 0xbULL << 16 | 0xbULL << 20; /* 8 bytes, writes; execution */
		run->exceptions = 0;
		run->dirty = UMBRA_STATE_DR | (i % 50 ? 0 : UMBRA_STATE_ALL);
		if (i & 1)
			run->inject = (struct umbra_event) { 1, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID, 0, 0 };
		run_bounded(&g.vcpu, 20);
		if (exit_is(&g.vcpu, 1))
			hits++;
		else
			others++;
		need(exit_is(&g.vcpu, 1) || g.vcpu.exit.reason == VMEXIT_DEADLINE ||
			     g.vcpu.exit.reason == VMEXIT_INTERRUPTED || g.vcpu.exit.reason == VMEXIT_IO,
		     "%s", vcpu_describe(&g.vcpu));
		if (is_svm() && i > 100) /* QEMU 7.2 has no breakpoints for guests: what is left is the delivery */
			break;
	}
	note("%llu times #DB, %llu others", (unsigned long long)hits, (unsigned long long)others);
	check(is_svm() || hits > 100, "only %llu times #DB", (unsigned long long)hits);
}

ATTACK(s3_ac)
{
	struct guest g;

	guest_new(&g, MODE_USER64, SNIPPET(ac_user));
	g.vcpu.run->exceptions = 0;
	if (run_bounded(&g.vcpu, 100) != VMEXIT_EXCEPTION && is_svm())
		skip_test("QEMU 7.2 has no #AC");
	for (uint64_t i = 0; i < scaled(200); i++) {
		vcpu_load(&g.vcpu, MODE_USER64, SNIPPET(ac_user));
		g.vcpu.run->exceptions = i & 1 ? ~(1u << AC) : 0;
		run_bounded(&g.vcpu, 100);
		need(exit_is(&g.vcpu, AC), "%s", vcpu_describe(&g.vcpu));
	}
}

/* 32-bit user code handles its own #AC on a misaligned stack: delivery raises the next one. */
ATTACK(s3_ac_loop)
{
	static const uint64_t code32 = 0x00cffb000000ffff;
	struct umbra_segment code = { SEL_USER_CODE32, 0xc0fb, 0xffffffff, 0 };
	struct umbra_segment data = { SEL_USER_DATA, 0xc0f3, 0xffffffff, 0 };
	uint64_t gate = (GPA_CODE & 0xffff) | (uint64_t)SEL_USER_CODE32 << 16 | 0xeeULL << 40 |
			(uint64_t)(GPA_CODE >> 16) << 48;
	struct umbra_run *run;
	struct guest g;

	if (is_svm())
		skip_test("QEMU 7.2 has no #AC");
	guest_new(&g, MODE_PROT32, SNIPPET(ac32));
	run = g.vcpu.run;
	for (uint64_t i = 0; i < scaled(1000); i++) {
		if (!(i % 100)) {
			vcpu_load(&g.vcpu, MODE_PROT32, SNIPPET(ac32));
			memcpy(g.vm.mem + GPA_GDT + (SEL_USER_CODE32 & ~7), &code32, 8);
			memcpy(g.vm.mem + GPA_IDT + 8 * AC, &gate, 8);
			for (int s = UMBRA_ES; s <= UMBRA_GS; s++)
				run->seg[s] = s == UMBRA_CS ? code : data;
			run->cr0 |= 1 << 18;   /* AM */
			run->rflags = 0x40202; /* AC */
			run->gpr[UMBRA_RSP] = GPA_STACK - 1;
		} else { /* the shadow hands it to the guest, whose stack is misaligned */
			run->inject = (struct umbra_event) { AC, UMBRA_EVENT_EXC,
							     UMBRA_EVENT_VALID | UMBRA_EVENT_ERROR_CODE, 0, 0 };
		}
		run->exceptions = 0;
		run_bounded(&g.vcpu, 100);
		need(exit_is(&g.vcpu, AC), "round %llu: %s", (unsigned long long)i, vcpu_describe(&g.vcpu));
	}
}

static volatile int mask_stop;

static void *mask_thread(void *arg)
{
	volatile uint32_t *exceptions = arg;

	while (!mask_stop) {
		*exceptions = ~0u;
		*exceptions = 0;
		*exceptions = ~(1u << 1 | 1u << AC | 1u << 18);
	}
	return NULL;
}

/* The bitmap changes under RUN: #DB exits all the same. */
ATTACK(s3_mask)
{
	pthread_t thread;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(nop_loop));
	run_bounded(&g.vcpu, 5);
	need(!pthread_create(&thread, NULL, mask_thread, &g.vcpu.run->exceptions), "thread");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nop_loop));
	g.vcpu.run->rflags |= TF;
	for (uint64_t i = 0; i < scaled(1000); i++) {
		run_bounded(&g.vcpu, LONG);
		need(exit_is(&g.vcpu, 1), "step %llu: %s", (unsigned long long)i, vcpu_describe(&g.vcpu));
	}
	mask_stop = 1;
	pthread_join(thread, NULL);
}

int s3_main(void)
{
	static const struct test tests[] = {
		{ "db_step", s3_db_step, 60 }, { "db_loop", s3_db_loop, 90 }, { "ac", s3_ac, 60 },
		{ "ac_loop", s3_ac_loop, 60 }, { "mask", s3_mask, 60 },
	};

	return run_tests("attack.s3", tests, ARRAY_SIZE(tests));
}
