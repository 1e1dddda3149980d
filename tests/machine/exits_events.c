// SPDX-License-Identifier: GPL-2.0-or-later
/* Events: vectored in the guest, intercepted, injected, waited for, cut short; time. */
#include "exits.h"

#include <unistd.h>

static uint64_t at(struct snippet code, int n)
{
	return GPA_CODE + code.at[n].where - (uintptr_t)code.start;
}

static struct umbra_event event(uint8_t type, uint8_t vector, uint8_t insn_len)
{
	return (struct umbra_event) {
		.vector = vector, .type = type, .flags = UMBRA_EVENT_VALID, .insn_len = insn_len
	};
}

/* Nothing intercepted: the guest's own handlers get each exception, with the right frame. */
void exits_vectored(void)
{
	static const struct {
		unsigned int vector;
		uint64_t error_code;
		int trap; /* RIP in the frame is behind the instruction */
		const char *what;
	} want[] = {
		{ 6, 0, 0, "ud2" },
		{ 3, 0, 1, "int3" },
		{ 0x80, 0, 1, "int 80h" },
		{ 0, 0, 0, "div by 0" },
		{ 14, 2, 0, "page not present" },
		{ 13, 0, 0, "not canonical" },
		{ 13, 0x8888 & ~3, 0, "bad selector" },
	};
	struct snippet code = SNIPPET(traps);
	uint64_t gate;
	struct frame f;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, code);
	run = g.vcpu.run;
	run->gpr[UMBRA_RDI] = 0x200000000; /* 8 GiB: not in the guest's tables */
	memcpy(&gate, g.vm.mem + GPA_IDT, 8);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		vcpu_expect_vector(&g.vcpu, want[i].vector, &f, want[i].what);
		check(f.rip == at(code, (int)i) + (want[i].trap ? code.at[i].len : 0), "%s: RIP in the frame %llx",
		      want[i].what, (unsigned long long)f.rip);
		check(f.error_code == want[i].error_code, "%s: error code %llx", want[i].what,
		      (unsigned long long)f.error_code);
		check(f.cs == SEL_CODE64 && f.rsp == GPA_STACK, "%s: CS %llx RSP %llx", want[i].what,
		      (unsigned long long)f.cs, (unsigned long long)f.rsp);
		if (want[i].vector == 14)
			check(run->cr2 == 0x200000000, "CR2 %llx", (unsigned long long)run->cr2);
		f.rip = at(code, (int)i) + code.at[i].len;
		memcpy(g.vm.mem + run->gpr[UMBRA_RSP], &f.rip, 8);
		vcpu_iret(&g.vcpu);
	}
	vcpu_expect_io(&g.vcpu, PORT_DONE, "after the exceptions");
	check(run->gpr[UMBRA_RSP] == GPA_STACK, "RSP %llx", (unsigned long long)run->gpr[UMBRA_RSP]);
}

void exits_intercepted(void)
{
	static const struct {
		unsigned int vector;
		int code;
		uint32_t error_code;
		uint64_t payload;
		const char *what;
	} want[] = {
		{ 6, 0, 0, 0, "ud2" },
		{ 3, 0, 0, 0, "int3" },
		{ 0, 0, 0, 0, "div by 0" },
		{ 14, 1, 2, 0x200000000, "page not present" },
		{ 13, 1, 0, 0, "not canonical" },
		{ 13, 1, 0x8888 & ~3, 0, "bad selector" },
	};
	struct snippet code = SNIPPET(traps);
	struct guest g;
	struct umbra_run *run;
	int insn = 0;

	guest_new(&g, MODE_LONG64, code);
	run = g.vcpu.run;
	run->gpr[UMBRA_RDI] = 0x200000000;
	run->cr2 = 0x777;
	run->exceptions = 0xffffffff;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++, insn++) {
		if (insn == 2) { /* INT n is not an exception */
			struct frame f;

			vcpu_expect_vector(&g.vcpu, 0x80, &f, "int 80h");
			vcpu_iret(&g.vcpu);
			insn++;
		}
		if (want[i].vector == 3 && int3_vectored(&g.vcpu)) {
			run->rip = at(code, insn) + code.at[insn].len;
			run->dirty |= UMBRA_STATE_RIP;
			continue;
		}
		vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, want[i].what);
		check(g.vcpu.exit.exc.vector == want[i].vector && g.vcpu.exit.exc.has_error_code == want[i].code &&
			      g.vcpu.exit.exc.error_code == want[i].error_code &&
			      g.vcpu.exit.exc.payload == want[i].payload,
		      "%s: %s", want[i].what, vcpu_describe(&g.vcpu));
		check(run->rip == at(code, insn), "%s: RIP %llx", want[i].what, (unsigned long long)run->rip);
		check(run->cr2 == 0x777, "%s: CR2 %llx was changed though nothing was delivered", want[i].what,
		      (unsigned long long)run->cr2);
		run->rip = at(code, insn) + code.at[insn].len;
		run->dirty |= UMBRA_STATE_RIP;
	}
	vcpu_expect_io(&g.vcpu, PORT_DONE, "after the exceptions");
}

/* #DB and #AC exit though nobody asked: a guest must not be able to loop in their delivery. */
void exits_always_intercepted(void)
{
	struct snippet code = SNIPPET(ac_user);
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(nops));
	run = g.vcpu.run;
	/* Once without: Bochs makes a pending #DB of a step that a second-level fault cut short. */
	vcpu_expect_io(&g.vcpu, PORT_DONE, "no single step");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nops));
	run->rflags |= 1 << 8; /* TF */
	run->exceptions = 0;
	vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, "single step");
	check(g.vcpu.exit.exc.vector == 1 && g.vcpu.exit.exc.payload & 1 << 14, "single step: %s",
	      vcpu_describe(&g.vcpu));
	check(run->rip == GPA_CODE + 1, "single step: RIP %llx", (unsigned long long)run->rip);

	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
	run->dr[2] = GPA_DATA + 64;
	run->dr7 = 0x400 | 1 << 4 | 3u << 24 | 3u << 26; /* L2, read or write, 4 bytes */
	run->gpr[UMBRA_RDI] = GPA_DATA + 64;
	if (vcpu_exit(&g.vcpu) == VMEXIT_IO && is_svm()) /* QEMU 7.2's VMRUN does not switch them on */
		note("this CPU has no breakpoints for guests");
	else
		check(g.vcpu.exit.reason == VMEXIT_EXCEPTION && g.vcpu.exit.exc.vector == 1 &&
			      (g.vcpu.exit.exc.payload & 0xf) == 1 << 2,
		      "data breakpoint: %s", vcpu_describe(&g.vcpu));

	vcpu_load(&g.vcpu, MODE_USER64, code);
	run->exceptions = 0;
	if (vcpu_exit(&g.vcpu) != VMEXIT_EXCEPTION && is_svm()) {
		note("this CPU has no #AC");
		return;
	}
	vcpu_load(&g.vcpu, MODE_USER64, code);
	vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, "misaligned access");
	check(g.vcpu.exit.exc.vector == 17 && g.vcpu.exit.exc.has_error_code && run->rip == at(code, 0),
	      "misaligned access: %s", vcpu_describe(&g.vcpu));
}

/* SVM's hardware has no such events: refused before anything runs, and gone. */
static void inject_refused(struct guest *g, struct umbra_event ev, const char *what)
{
	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(nops));
	g->vcpu.run->inject = ev;
	vcpu_expect(&g->vcpu, VMEXIT_BAD_STATE, what);
	check(g->vcpu.exit.bad.rule == UMBRA_BAD_EVENT && g->vcpu.run->rip == GPA_CODE, "%s: %s", what,
	      vcpu_describe(&g->vcpu));
	check(!(g->vcpu.run->inject.flags & UMBRA_EVENT_VALID) && !(g->vcpu.run->exit.event.flags & UMBRA_EVENT_VALID),
	      "%s: it is still there", what);
	vcpu_expect_io(&g->vcpu, PORT_DONE, what);
}

static void inject_case(struct guest *g, struct umbra_event ev, uint64_t frame_rip, const char *what)
{
	struct umbra_run *run = g->vcpu.run;
	struct frame f;

	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(nops));
	run->inject = ev;
	vcpu_expect_vector(&g->vcpu, ev.vector, &f, what);
	check(!(run->inject.flags & UMBRA_EVENT_VALID), "%s: inject is not cleared", what);
	check(!(run->exit.event.flags & UMBRA_EVENT_VALID), "%s: given back", what);
	check(f.rip == frame_rip, "%s: RIP in the frame %llx", what, (unsigned long long)f.rip);
	if (ev.flags & UMBRA_EVENT_ERROR_CODE)
		check(f.error_code == ev.error_code, "%s: error code %llx", what, (unsigned long long)f.error_code);
	vcpu_iret(&g->vcpu);
	vcpu_expect_io(&g->vcpu, PORT_DONE, what);
}

void exits_inject(void)
{
	struct umbra_event gp = event(UMBRA_EVENT_EXC, 13, 0);
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(nops));
	inject_case(&g, event(UMBRA_EVENT_INTR, 0x41, 0), GPA_CODE, "interrupt");
	inject_case(&g, event(UMBRA_EVENT_INTR, 0xff, 0), GPA_CODE, "interrupt 255");
	inject_case(&g, event(UMBRA_EVENT_EXC, 6, 0), GPA_CODE, "#UD");
	inject_case(&g, event(UMBRA_EVENT_EXC, 0, 0), GPA_CODE, "#DE");
	gp.flags |= UMBRA_EVENT_ERROR_CODE;
	gp.error_code = 0x1238;
	inject_case(&g, gp, GPA_CODE, "#GP with code");
	gp.vector = 14;
	gp.error_code = 7;
	inject_case(&g, gp, GPA_CODE, "#PF with code");
	inject_case(&g, event(UMBRA_EVENT_NMI, 2, 0), GPA_CODE, "NMI");
	if (is_svm()) {
		inject_refused(&g, event(UMBRA_EVENT_SOFT_INT, 0x80, 2), "INT n");
		inject_refused(&g, event(UMBRA_EVENT_SOFT_EXC, 3, 1), "INT3");
		inject_refused(&g, event(UMBRA_EVENT_ICEBP, 1, 1), "INT1");
		inject_case(&g, event(UMBRA_EVENT_EXC, 3, 0), GPA_CODE, "#BP");
		inject_case(&g, event(UMBRA_EVENT_EXC, 1, 0), GPA_CODE, "#DB");
		return;
	}
	inject_case(&g, event(UMBRA_EVENT_SOFT_INT, 0x80, 2), GPA_CODE + 2, "INT n");
	inject_case(&g, event(UMBRA_EVENT_SOFT_EXC, 3, 1), GPA_CODE + 1, "INT3");
	inject_case(&g, event(UMBRA_EVENT_ICEBP, 1, 1), GPA_CODE + 1, "INT1");
}

void exits_windows(void)
{
	struct guest g;
	struct umbra_run *run;
	struct frame f;

	guest_new(&g, MODE_LONG64, SNIPPET(sti_window));
	run = g.vcpu.run;
	run->rflags = 2;
	run->intercepts = UMBRA_ICPT_INTR_WINDOW;
	vcpu_expect(&g.vcpu, VMEXIT_INTR_WINDOW, "window after STI");
	check(run->rip == GPA_CODE + 3, "window after STI and one instruction: RIP %llx", (unsigned long long)run->rip);
	run->intercepts = 0;
	run->inject = event(UMBRA_EVENT_INTR, 0x55, 0);
	vcpu_expect_vector(&g.vcpu, 0x55, &f, "into the window");
	check(f.rip == GPA_CODE + 3, "into the window: %llx", (unsigned long long)f.rip);
	vcpu_iret(&g.vcpu);
	vcpu_expect_io(&g.vcpu, PORT_DONE, "after the window");

	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nops)); /* already open: at once */
	run->intercepts = UMBRA_ICPT_INTR_WINDOW;
	vcpu_expect(&g.vcpu, VMEXIT_INTR_WINDOW, "open window");
	check(run->rip == GPA_CODE, "open window: RIP %llx", (unsigned long long)run->rip);

	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nops)); /* in the shadow of an STI: one instruction later */
	run->intercepts = UMBRA_ICPT_INTR_WINDOW;
	run->intr_shadow = UMBRA_SHADOW_STI;
	vcpu_expect(&g.vcpu, VMEXIT_INTR_WINDOW, "shadowed window");
	check(run->rip == GPA_CODE + 1 && !run->intr_shadow, "shadowed window: RIP %llx shadow %x",
	      (unsigned long long)run->rip, run->intr_shadow);
}

/* SVM says nothing of blocked NMIs: the user side keeps account, by an exit before each IRET that it asked to see. */
static void nmi_svm(void)
{
	struct guest g;
	struct umbra_run *run;
	struct frame f;

	guest_new(&g, MODE_LONG64, SNIPPET(nops));
	run = g.vcpu.run;
	run->inject = event(UMBRA_EVENT_NMI, 2, 0);
	run->intr_shadow = UMBRA_SHADOW_NMI; /* means nothing */
	run->intercepts = UMBRA_ICPT_NMI_WINDOW;
	vcpu_expect_vector(&g.vcpu, 2, &f, "NMI");
	check(!(run->intr_shadow & UMBRA_SHADOW_NMI), "shadow %x", run->intr_shadow);
	vcpu_iret(&g.vcpu);
	for (int i = 0; i < 2; i++) { /* it stays there as long as it is not let through */
		vcpu_expect(&g.vcpu, VMEXIT_NMI_WINDOW, "before IRET");
		check(run->rip == GPA_HANDLER + 2 && !g.vcpu.exit.insn_len, "before IRET: %s", vcpu_describe(&g.vcpu));
	}
	run->intercepts = 0;
	run->rflags |= 1 << 8; /* TF: it alone */
	run->dirty |= UMBRA_STATE_RIP;
	vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, "IRET in single step");
	check(g.vcpu.exit.exc.vector == 1 && g.vcpu.exit.exc.payload == 1 << 14 && run->rip == GPA_CODE &&
		      !(run->rflags & 1 << 8),
	      "IRET in single step: %s", vcpu_describe(&g.vcpu));
	run->inject = event(UMBRA_EVENT_NMI, 2, 0);
	vcpu_expect_vector(&g.vcpu, 2, &f, "second NMI");
	vcpu_iret(&g.vcpu);
	vcpu_expect_io(&g.vcpu, PORT_DONE, "after the NMIs");
}

void exits_nmi(void)
{
	struct guest g;
	struct umbra_run *run;
	struct frame f;

	if (is_svm()) {
		nmi_svm();
		return;
	}
	guest_new(&g, MODE_LONG64, SNIPPET(nops));
	run = g.vcpu.run;
	run->inject = event(UMBRA_EVENT_NMI, 2, 0);
	vcpu_expect_vector(&g.vcpu, 2, &f, "NMI");
	check(run->intr_shadow & UMBRA_SHADOW_NMI, "NMIs are not blocked in the handler: %x", run->intr_shadow);
	run->intercepts = UMBRA_ICPT_NMI_WINDOW;
	vcpu_iret(&g.vcpu);
	vcpu_expect(&g.vcpu, VMEXIT_NMI_WINDOW, "NMI window");
	check(run->rip == GPA_CODE, "NMI window right after IRET: RIP %llx", (unsigned long long)run->rip);
	check(!(run->intr_shadow & UMBRA_SHADOW_NMI), "NMIs are still blocked after IRET");
	run->intercepts = 0;
	run->inject = event(UMBRA_EVENT_NMI, 2, 0);
	vcpu_expect_vector(&g.vcpu, 2, &f, "second NMI");
	vcpu_iret(&g.vcpu);
	vcpu_expect_io(&g.vcpu, PORT_DONE, "after the NMIs");

	/* Blocked by the user side: no window before the guest's own IRET. */
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(iret));
	run->intr_shadow = UMBRA_SHADOW_NMI;
	run->intercepts = UMBRA_ICPT_NMI_WINDOW;
	vcpu_expect_io(&g.vcpu, 0x80, "NMIs blocked");
	check(run->intr_shadow & UMBRA_SHADOW_NMI, "NMIs are no longer blocked");
	vcpu_skip(&g.vcpu);
	vcpu_expect(&g.vcpu, VMEXIT_NMI_WINDOW, "after IRET");
	run->intercepts = 0;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "after the window");
}

/* Delivery that an exit cuts short is handed back, and delivered when handed in again. */
static void cut_short_case(struct guest *g, struct umbra_event ev, uint64_t frame_rip, const char *what)
{
	struct umbra_run *run = g->vcpu.run;
	struct frame f;

	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(nops));
	run->gpr[UMBRA_RSP] = GPA_HOLE + 0x1000;
	run->inject = ev;
	vcpu_expect(&g->vcpu, VMEXIT_MEM, what);
	check(g->vcpu.exit.mem.access & UMBRA_MEM_WRITE && g->vcpu.exit.mem.gpa >= GPA_HOLE &&
		      g->vcpu.exit.mem.gpa < GPA_HOLE + 0x1000,
	      "%s: %s", what, vcpu_describe(&g->vcpu));
	check(run->exit.event.flags == ev.flags && run->exit.event.type == ev.type &&
		      run->exit.event.vector == ev.vector && run->exit.event.insn_len == ev.insn_len &&
		      run->exit.event.error_code == ev.error_code,
	      "%s: handed back: vector %u type %u flags %x length %u", what, run->exit.event.vector,
	      run->exit.event.type, run->exit.event.flags, run->exit.event.insn_len);
	check(run->rip == GPA_CODE, "%s: RIP %llx", what, (unsigned long long)run->rip);
	run->gpr[UMBRA_RSP] = GPA_STACK;
	run->inject = run->exit.event;
	vcpu_expect_vector(&g->vcpu, ev.vector, &f, what);
	check(f.rip == frame_rip, "%s: again: RIP in the frame %llx", what, (unsigned long long)f.rip);
	vcpu_iret(&g->vcpu);
	vcpu_expect_io(&g->vcpu, PORT_DONE, what);
}

/* INT n and INT3 of the guest's own on SVM: not handed back, since RIP still is at the instruction. */
static void cut_short_soft(struct guest *g)
{
	static const struct {
		int insn;
		unsigned int vector;
		const char *what;
	} rows[] = { { 2, 0x80, "int 80h" }, { 1, 3, "int3" } };
	struct snippet code = SNIPPET(traps);
	struct umbra_run *run = g->vcpu.run;
	struct frame f;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		vcpu_load(&g->vcpu, MODE_LONG64, code);
		run->rip = at(code, rows[i].insn);
		run->gpr[UMBRA_RSP] = GPA_HOLE + 0x1000;
		vcpu_expect(&g->vcpu, VMEXIT_MEM, rows[i].what);
		check(!(run->exit.event.flags & UMBRA_EVENT_VALID), "%s: handed back: vector %u", rows[i].what,
		      run->exit.event.vector);
		check(run->rip == at(code, rows[i].insn), "%s: RIP %llx", rows[i].what, (unsigned long long)run->rip);
		run->gpr[UMBRA_RSP] = GPA_STACK;
		vcpu_expect_vector(&g->vcpu, rows[i].vector, &f, rows[i].what);
		check(f.rip == at(code, rows[i].insn) + code.at[rows[i].insn].len, "%s: RIP in the frame %llx",
		      rows[i].what, (unsigned long long)f.rip);
	}
}

void exits_delivery_cut_short(void)
{
	struct umbra_event pf = event(UMBRA_EVENT_EXC, 14, 0);
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(nops));
	run = g.vcpu.run;
	cut_short_case(&g, event(UMBRA_EVENT_INTR, 0x41, 0), GPA_CODE, "interrupt");
	cut_short_case(&g, event(UMBRA_EVENT_NMI, 2, 0), GPA_CODE, "NMI");
	if (is_svm()) {
		cut_short_case(&g, event(UMBRA_EVENT_EXC, 3, 0), GPA_CODE, "#BP");
		cut_short_soft(&g);
	} else {
		cut_short_case(&g, event(UMBRA_EVENT_SOFT_INT, 0x80, 2), GPA_CODE + 2, "INT n");
		cut_short_case(&g, event(UMBRA_EVENT_SOFT_EXC, 3, 1), GPA_CODE + 1, "INT3");
	}
	pf.flags |= UMBRA_EVENT_ERROR_CODE;
	pf.error_code = 5;
	cut_short_case(&g, pf, GPA_CODE, "#PF");

	/* The stack is not in the guest's own tables: #PF, intercepted, and the interrupt with it. */
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nops));
	run->gpr[UMBRA_RSP] = 0x200001000;
	run->exceptions = 1 << 14;
	run->inject = event(UMBRA_EVENT_INTR, 0x42, 0);
	vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, "stack not present");
	check(g.vcpu.exit.exc.vector == 14 && run->exit.event.flags & UMBRA_EVENT_VALID &&
		      run->exit.event.vector == 0x42,
	      "stack not present: %s, event %u", vcpu_describe(&g.vcpu), run->exit.event.vector);

	/* The stack is in a region but not filled in yet: the shim fills it and delivers by itself. */
	{
		void *more = memory_new(0x10000, UMBRA_PAGE_SIZE);
		struct frame f;
		uint64_t rip;

		need(!vm_region(&g.vm, 1, 0, GPA_HOLE, more, 0x10000), "region");
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nops));
		run->gpr[UMBRA_RSP] = GPA_HOLE + 0x8000;
		run->inject = event(UMBRA_EVENT_INTR, 0x43, 0);
		vcpu_expect_io(&g.vcpu, PORT_VECTORED, "stack filled in on the way");
		memcpy(&rip, (char *)more + run->gpr[UMBRA_RSP] - GPA_HOLE + 8, 8);
		check(rip == GPA_CODE, "stack filled in on the way: RIP in the frame %llx", (unsigned long long)rip);
		memset(&f, 0, sizeof(f));
	}
}

void exits_triple_fault(void)
{
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(ud));
	g.vcpu.run->idtr.limit = 0;
	vcpu_expect(&g.vcpu, VMEXIT_SHUTDOWN, "no IDT");
	/* And back to life: the user side resets it. */
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
	vcpu_expect_io(&g.vcpu, 0x80, "after the reset");
}

void exits_deadline(void)
{
	uint64_t khz = info()->tsc_khz, before, after, late, most = 0;
	int missed = 0;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(spin));
	run = g.vcpu.run;
	for (int i = 0; i < 20; i++) {
		uint64_t wait = khz * (i % 5) + 1000 * (uint64_t)i; /* 0 to 4 ms */

		before = tsc_read();
		run->deadline_tsc = before + wait;
		vcpu_expect(&g.vcpu, VMEXIT_DEADLINE, "deadline");
		after = tsc_read();
		check(after >= run->deadline_tsc, "%llu ticks early", (unsigned long long)(run->deadline_tsc - after));
		late = after - run->deadline_tsc;
		most = late > most ? late : most;
		missed += late >= khz * 200;
	}
	note("latest deadline: %llu us", (unsigned long long)(most * 1000 / khz));
	/* QEMU's emulated CPUs are threads of a machine that may be busy. */
	check(missed <= (is_svm() ? 2 : 0), "%d deadlines were missed, by up to %llu ms", missed,
	      (unsigned long long)(most / khz));
	run->deadline_tsc = 1; /* long ago */
	vcpu_expect(&g.vcpu, VMEXIT_DEADLINE, "deadline in the past");
	run->deadline_tsc = ~0ULL; /* never: a kick ends it, and exits come before it */
	vcpu_kick(&g.vcpu);
	need(!vcpu_run(&g.vcpu), "RUN");
	check(g.vcpu.exit.reason == VMEXIT_INTERRUPTED, "deadline never, kicked: %s", vcpu_describe(&g.vcpu));
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
	run->deadline_tsc = tsc_read() + khz * 10000;
	vcpu_expect_io(&g.vcpu, 0x80, "an exit before the deadline");
}

void exits_tsc(void)
{
	static const uint64_t offsets[] = { 0, 1ULL << 40, -(1ULL << 30), 1ULL << 63, 12345 };
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(tsc_read));
	run = g.vcpu.run;
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		uint64_t before, after, guest;

		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(tsc_read));
		run->tsc_offset = offsets[i];
		before = tsc_read();
		vcpu_expect_io(&g.vcpu, PORT_DONE, "rdtsc");
		after = tsc_read();
		guest = run->gpr[UMBRA_RBX] - offsets[i];
		check(guest >= before && guest <= after, "offset %llx: %llu not in %llu..%llu",
		      (unsigned long long)offsets[i], (unsigned long long)guest, (unsigned long long)before,
		      (unsigned long long)after);
	}
}

void exits_pause(void)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(pauses));
	run = g.vcpu.run;
	run->gpr[UMBRA_RCX] = 20000;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "PAUSE not intercepted");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(pauses));
	run->gpr[UMBRA_RCX] = 1000000;
	run->intercepts = UMBRA_ICPT_PAUSE;
	vcpu_expect(&g.vcpu, VMEXIT_PAUSE, "PAUSE loop");
	check(run->rip == GPA_CODE, "PAUSE: RIP %llx", (unsigned long long)run->rip);
	vcpu_skip(&g.vcpu);
	run->intercepts = 0;
	run->gpr[UMBRA_RCX] = 10;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "after PAUSE");
}

/* The thread's user GS base is the guest's KERNEL_GS_BASE, the guest's GS base is seg[GS]'s. */
void exits_gs_base(void)
{
	uint64_t mine = 0x123456789000, read = 0;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(gsbase));
	run = g.vcpu.run;
	run->cr4 |= 1 << 16;
	run->seg[UMBRA_GS].base = 0x7f0000001000;
	run->want = UMBRA_STATE_SEG_DATA;
	asm volatile("wrgsbase %0" : : "r"(mine));
	vcpu_expect_io(&g.vcpu, PORT_DONE, "swapgs");
	asm volatile("rdgsbase %0" : "=r"(read));
	check(read == mine, "the thread's GS base is %llx", (unsigned long long)read);
	check(run->gpr[UMBRA_RBX] == mine, "after SWAPGS the guest reads %llx",
	      (unsigned long long)run->gpr[UMBRA_RBX]);
	check(run->seg[UMBRA_GS].base == 0x7f0000001000, "the guest's GS base is %llx",
	      (unsigned long long)run->seg[UMBRA_GS].base);
	/* One SWAPGS only: the other value goes to the thread. */
	g.vm.mem[GPA_CODE + 3] = 0xe6; /* out %al,$0xdd after the first swapgs */
	g.vm.mem[GPA_CODE + 4] = PORT_DONE;
	run->rip = GPA_CODE;
	run->dirty |= UMBRA_STATE_RIP;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "one swapgs");
	asm volatile("rdgsbase %0" : "=r"(read));
	check(read == 0x7f0000001000 && run->seg[UMBRA_GS].base == mine, "after one SWAPGS: thread %llx, guest %llx",
	      (unsigned long long)read, (unsigned long long)run->seg[UMBRA_GS].base);
	mine = 0;
	asm volatile("wrgsbase %0" : : "r"(mine));
}

/* The guest's SYSCALL goes to the guest's LSTAR; the host's own system calls go on working. */
void exits_syscall(void)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(syscall_msrs));
	run = g.vcpu.run;
	run->want = UMBRA_STATE_MSR;
	run->msr.star = 0x0008ULL << 32 | 0x0028ULL << 48;
	run->msr.lstar = GPA_CODE + 7; /* out, syscall, nops */
	run->msr.fmask = 0x100;
	for (int i = 0; i < 100; i++) {
		run->rip = GPA_CODE;
		run->dirty |= UMBRA_STATE_RIP;
		vcpu_expect_io(&g.vcpu, 0x80, "before SYSCALL");
		check(getppid() > 0, "getppid");
		vcpu_skip(&g.vcpu);
		run->gpr[UMBRA_RBX] = 0;
		vcpu_expect_io(&g.vcpu, PORT_DONE, "after SYSCALL");
		need(run->gpr[UMBRA_RBX] == 0x600d && run->gpr[UMBRA_RCX] == GPA_CODE + 4, "SYSCALL: rbx %llx rcx %llx",
		     (unsigned long long)run->gpr[UMBRA_RBX], (unsigned long long)run->gpr[UMBRA_RCX]);
		check(run->msr.lstar == GPA_CODE + 7, "LSTAR %llx", (unsigned long long)run->msr.lstar);
		usleep(1);
	}
}
