// SPDX-License-Identifier: GPL-2.0-or-later
/* The exit part of the run area itself: each of its fields, and that it is output only. VMX's encodings. */
#include <stdbool.h>

#include "exits.h"

#define EXIT_FIELDS 0xa5 /* what the exit part is filled with before */

static void raw_fill(struct umbra_run *run, int byte)
{
	memset(&run->exit, byte, sizeof(run->exit));
}

struct raw_case {
	const char *what;
	int insn; /* of the snippet's marked ones */
	uint32_t reason, hw_reason, insn_len;
	uint64_t hw_info;
	uint32_t detail_mask, hw_detail, hw_error_code;
	uint64_t address; /* gpa and gva */
	uint32_t access;
	int32_t error;
};

static void raw_check(struct guest *g, const struct raw_case *c)
{
	const struct umbra_exit *e = &g->vcpu.run->exit;

	check(e->reason == c->reason, "%s: reason %u, want %u", c->what, e->reason, c->reason);
	check(e->valid == g->vcpu.run->want, "%s: valid %llx", c->what, (unsigned long long)e->valid);
	check(!(e->event.flags & UMBRA_EVENT_VALID), "%s: an event", c->what);
	if (c->reason == UMBRA_EXIT_MEM) {
		check(e->gpa == c->address && e->gva == c->address, "%s: gpa %llx gva %llx", c->what,
		      (unsigned long long)e->gpa, (unsigned long long)e->gva);
		check(e->access == c->access && e->error == c->error, "%s: access %x error %d", c->what, e->access,
		      e->error);
	}
	if (c->reason != UMBRA_EXIT_HARDWARE)
		return;
	check(e->hw_reason == c->hw_reason, "%s: hw_reason %u, want %u", c->what, e->hw_reason, c->hw_reason);
	if (c->insn_len)
		check(e->insn_len == c->insn_len, "%s: insn_len %u, want %u", c->what, e->insn_len, c->insn_len);
	check(e->hw_info == c->hw_info, "%s: hw_info %llx, want %llx", c->what, (unsigned long long)e->hw_info,
	      (unsigned long long)c->hw_info);
	check((e->hw_detail & c->detail_mask) == c->hw_detail, "%s: hw_detail %x, want %x", c->what, e->hw_detail,
	      c->hw_detail);
	if (c->hw_detail & 1 << 11)
		check(e->hw_error_code == c->hw_error_code, "%s: hw_error_code %x, want %x", c->what, e->hw_error_code,
		      c->hw_error_code);
}

#define UNMAPPED 0x200000008ULL /* not in the guest's own tables */

void exits_raw(void)
{
	static const struct raw_case cases[] = {
		{ "out", 0, UMBRA_EXIT_HARDWARE, 30, 2, 0x80 << 16 | 1 << 6 },
		{ "outsb", 1, UMBRA_EXIT_HARDWARE, 30, 1, 0x1f0 << 16 | 1 << 4, 7 << 7 | 7 << 15, 2 << 7 | 3 << 15 },
		{ "insb", 2, UMBRA_EXIT_HARDWARE, 30, 1, 0x1f0 << 16 | 1 << 4 | 1 << 3, 7 << 7, 2 << 7 },
		{ "in eax", 3, UMBRA_EXIT_HARDWARE, 30, 2, 0x60 << 16 | 1 << 6 | 1 << 3 | 3 },
		{ "cpuid", 4, UMBRA_EXIT_HARDWARE, 10, 2 },
		{ "rdmsr", 5, UMBRA_EXIT_HARDWARE, 31, 2 },
		{ "mov rcx,dr7", 6, UMBRA_EXIT_HARDWARE, 29, 3, 7 | 1 << 8 },
		{ "ud2", 7, UMBRA_EXIT_HARDWARE, 0, 0, 0, ~0u, 0x80000306 },
		{ "page fault", 8, UMBRA_EXIT_HARDWARE, 0, 0, UNMAPPED, ~0u & ~(1u << 12), 0x80000b0e, 2 },
		{ "hole", 9, UMBRA_EXIT_MEM, .address = GPA_HOLE, .access = UMBRA_MEM_READ | UMBRA_MEM_GVA },
		{ "owner has no page", 10, UMBRA_EXIT_MEM, .address = GPA_HOLE + 0x3000,
		  .access = UMBRA_MEM_WRITE | UMBRA_MEM_GVA | UMBRA_MEM_FAULT, .error = -EFAULT },
		{ "hlt", 11, UMBRA_EXIT_HARDWARE, 12, 1 },
	};
	struct snippet code = SNIPPET(raw);
	struct guest g;
	struct umbra_run *run;

	if (is_svm()) {
		exits_raw_svm();
		return;
	}
	guest_new(&g, MODE_LONG64, code);
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE + 0x3000, (void *)UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE),
	     "region"); /* nothing there */
	run = g.vcpu.run;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t start = GPA_CODE + code.at[cases[i].insn].where - (uintptr_t)code.start;

		for (int fill = 0; fill < 2; fill++) {
			vcpu_load(&g.vcpu, MODE_LONG64, code);
			run->rip = start;
			run->intercepts = UMBRA_ICPT_HLT;
			run->exceptions = 1 << 6 | 1 << 14;
			run->want = i & 1 ? UMBRA_STATE_RIP : UMBRA_STATE_RIP | UMBRA_STATE_SEG_SYS;
			run->gpr[UMBRA_RDX] = 0x1f0;
			run->gpr[UMBRA_RCX] = 0x1b;
			run->gpr[UMBRA_RSI] = run->gpr[UMBRA_RDI] = GPA_DATA;
			run->gpr[8] = UNMAPPED;
			run->gpr[9] = GPA_HOLE;
			run->gpr[10] = GPA_HOLE + 0x3000;
			raw_fill(run, fill ? 0xff : EXIT_FIELDS);
			vcpu_exit(&g.vcpu);
			raw_check(&g, &cases[i]);
			check(run->rip == start, "%s: RIP %llx", cases[i].what, (unsigned long long)run->rip);
		}
	}
}

/* reason, rule, hw_reason, hw_info and valid of what is not entered, and of a RUN that meets no exit. */
void exits_raw_refused(void)
{
	static const struct {
		const char *what;
		uint32_t rule;
		uint32_t hw_reason; /* 0: not said */
		uint64_t cr4, rflags;
		struct umbra_event inject;
		uint64_t cr4_clear;
	} cases[] = {
		{ "CR4.VMXE", UMBRA_BAD_CR4, 0, 1 << 13 },
		{ "RFLAGS bit 63", UMBRA_BAD_HARDWARE, 33, 0, 1ULL << 63 },
		{ "event type 1", UMBRA_BAD_ENTRY, 7, 0, 0, { 0x40, 1, UMBRA_EVENT_VALID, 0, 0 } },
		/* SVM */
		{ "CR4.VMXE", UMBRA_BAD_CR4, 0, 1 << 13 },
		{ "CR4 without PAE", UMBRA_BAD_HARDWARE, 0xffffffff, .cr4_clear = 1 << 5 },
		{ "exception 0x40",
		  UMBRA_BAD_HARDWARE,
		  0xffffffff,
		  0,
		  0,
		  { 0x40, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID, 0, 0 } },
	};
	const int vmx_cases = 3;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	run = g.vcpu.run;
	for (int i = is_svm() ? vmx_cases : 0; i < (is_svm() ? (int)ARRAY_SIZE(cases) : vmx_cases); i++) {
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
		run->want = UMBRA_STATE_RIP;
		run->cr4 = (run->cr4 | cases[i].cr4) & ~cases[i].cr4_clear;
		run->rflags |= cases[i].rflags;
		run->inject = cases[i].inject;
		raw_fill(run, EXIT_FIELDS);
		vcpu_exit(&g.vcpu);
		check(run->exit.reason == UMBRA_EXIT_BAD_STATE && run->exit.rule == cases[i].rule,
		      "%s: reason %u rule %u", cases[i].what, run->exit.reason, run->exit.rule);
		check(run->exit.valid == (cases[i].hw_reason ? run->want : 0), "%s: valid %llx", cases[i].what,
		      (unsigned long long)run->exit.valid);
		if (cases[i].hw_reason)
			check(run->exit.hw_reason == cases[i].hw_reason && run->exit.hw_info != 0xa5a5a5a5a5a5a5a5,
			      "%s: hw_reason %u", cases[i].what, run->exit.hw_reason);
		check(!(run->exit.event.flags & UMBRA_EVENT_VALID), "%s: an event", cases[i].what);
	}
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
	raw_fill(run, EXIT_FIELDS);
	run->flags = UMBRA_RUN_NO_ENTRY;
	vcpu_exit(&g.vcpu);
	check(run->exit.reason == UMBRA_EXIT_NONE && run->exit.valid == UMBRA_STATE_RIP, "no entry: reason %u",
	      run->exit.reason);
	run->want = 0;
	raw_fill(run, EXIT_FIELDS);
	vcpu_kick(&g.vcpu);
	need(!vcpu_run(&g.vcpu), "RUN");
	check(run->exit.reason == UMBRA_EXIT_INTERRUPTED && !run->exit.valid && !run->exit.event.flags,
	      "kicked: reason %u", run->exit.reason);
	raw_fill(run, EXIT_FIELDS);
	guest_code(&g.vm, GPA_CODE, SNIPPET(spin));
	run->deadline_tsc = tsc_read() + 1000;
	vcpu_exit(&g.vcpu);
	check(run->exit.reason == UMBRA_EXIT_DEADLINE && !run->exit.valid && !run->exit.event.flags,
	      "deadline: reason %u", run->exit.reason);
}

/* Whatever the user side writes there changes nothing: the guest, what is stored, what comes back. */
void exits_output_only(void)
{
	uint64_t seed = 99, rounds = scaled(2000), next = 0;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	run = g.vcpu.run;
	run->want = 0;
	run->cr3 = GPA_ROOT;
	for (uint64_t i = 0; i < rounds; i++) {
		unsigned char *bytes = (unsigned char *)&run->exit;

		for (size_t n = 0; n < sizeof(run->exit); n++)
			bytes[n] = (unsigned char)random_next(&seed);
		if (i & 1) { /* not only noise: as another exit would have left it */
			run->exit.event = (struct umbra_event) { 0x41, UMBRA_EVENT_INTR, UMBRA_EVENT_VALID, 0, 0 };
			run->exit.valid = UMBRA_STATE_ALL;
			run->exit.reason = i % 6;
		}
		need(!vcpu_run(&g.vcpu), "RUN");
		if (g.vcpu.exit.reason == VMEXIT_INTERRUPTED)
			continue;
		need(g.vcpu.exit.reason == VMEXIT_IO && g.vcpu.exit.io.port == 0x80, "round %llu: %s",
		     (unsigned long long)i, vcpu_describe(&g.vcpu));
		need(run->gpr[UMBRA_RAX] == next, "round %llu: RAX %llx, want %llx", (unsigned long long)i,
		     (unsigned long long)run->gpr[UMBRA_RAX], (unsigned long long)next);
		need(!run->exit.valid && !run->exit.event.flags, "round %llu: valid %llx event %x",
		     (unsigned long long)i, (unsigned long long)run->exit.valid, run->exit.event.flags);
		need(run->gpr[UMBRA_RSP] == GPA_STACK, "round %llu: RSP %llx", (unsigned long long)i,
		     (unsigned long long)run->gpr[UMBRA_RSP]);
		vcpu_skip(&g.vcpu);
		next++;
	}
	check(next > rounds / 2, "only %llu exits", (unsigned long long)next);
}

/* Reasons that the decoder does not know; no guest here reaches one, so they are written where the shim would. */
void exits_unknown(void)
{
	static const uint32_t vmx[] = { 1, 37, 48, 49, 52, 61, 255, 256, 0x7fffffff, 0x80000021, ~0u };
	static const uint32_t svm[] = { 0x60, 0x63, 0x66, 0x70, 0x79, 0x87, 0x400, 0x402, 0x7fffffff, 0x80000000, ~0u };
	const uint32_t *reasons = is_svm() ? svm : vmx;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	run = g.vcpu.run;
	for (size_t i = 0; i < ARRAY_SIZE(vmx); i++) {
		run->exit.reason = UMBRA_EXIT_HARDWARE;
		run->exit.hw_reason = reasons[i];
		run->exit.hw_info = 0x1234567800 + i;
		vcpu_decode(&g.vcpu);
		check(g.vcpu.exit.reason == VMEXIT_UNKNOWN && !g.vcpu.exit.bad.rule &&
			      g.vcpu.exit.bad.hw_reason == reasons[i] && g.vcpu.exit.bad.hw_info == 0x1234567800 + i,
		      "%x: %s", reasons[i], vcpu_describe(&g.vcpu));
		vcpu_expect_io(&g.vcpu, 0x80, "afterwards");
		vcpu_skip(&g.vcpu);
	}
}

/* What a guest cannot change is the user side's alone: what it wrote there stays, though all groups are wanted. */
void exits_never_stored(void)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	run = g.vcpu.run;
	run->want = UMBRA_STATE_ALL;
	vcpu_expect_io(&g.vcpu, 0x80, "first");
	run->dr[0] = 0x1110;
	run->dr[1] = 0x1111;
	run->dr[2] = 0x1112;
	run->dr[3] = 0x1113;
	run->xcr0 = ~0ULL; /* not dirty: not looked at */
	run->msr.star = ~0ULL;
	run->msr.lstar = 0x8000000000000000;
	run->msr.cstar = 0x8000000000000001;
	run->msr.fmask = ~0ULL;
	run->msr.tsc_aux = ~0ULL;
	run->rip += 2; /* RIP alone is dirty: nothing else is looked at */
	run->dirty = UMBRA_STATE_RIP;
	vcpu_expect_io(&g.vcpu, 0x80, "second");
	check(run->exit.valid == UMBRA_STATE_ALL, "valid %llx", (unsigned long long)run->exit.valid);
	for (unsigned int i = 0; i < 4; i++)
		check(run->dr[i] == 0x1110 + i, "DR%u %llx", i, (unsigned long long)run->dr[i]);
	check(run->xcr0 == ~0ULL && run->msr.tsc_aux == ~0ULL, "XCR0 %llx, TSC_AUX %llx", (unsigned long long)run->xcr0,
	      (unsigned long long)run->msr.tsc_aux);
	/* These are in SVM's VMCB, and stored as they were handed in. */
	if (is_svm())
		check(!run->msr.star && !run->msr.lstar && !run->msr.cstar && !run->msr.fmask, "MSRs were not stored");
	else
		check(run->msr.star == ~0ULL && run->msr.lstar == 0x8000000000000000 &&
			      run->msr.cstar == 0x8000000000000001 && run->msr.fmask == ~0ULL,
		      "MSRs %llx %llx %llx %llx", (unsigned long long)run->msr.star, (unsigned long long)run->msr.lstar,
		      (unsigned long long)run->msr.cstar, (unsigned long long)run->msr.fmask);
	/* Those that a guest can change were stored over what is there. */
	run->seg[UMBRA_FS].base = 0x123000;
	run->cr3 = 0x7000;
	run->gdtr.base = 0x5000;
	run->msr.sysenter_esp = 0x1000;
	run->rip += 2;
	run->dirty = UMBRA_STATE_RIP;
	vcpu_expect_io(&g.vcpu, 0x80, "third");
	check(!run->seg[UMBRA_FS].base && run->cr3 == GPA_ROOT && run->gdtr.base == GPA_GDT && !run->msr.sysenter_esp,
	      "not stored: FS base %llx CR3 %llx GDTR %llx SYSENTER_ESP %llx",
	      (unsigned long long)run->seg[UMBRA_FS].base, (unsigned long long)run->cr3,
	      (unsigned long long)run->gdtr.base, (unsigned long long)run->msr.sysenter_esp);
}

/*
 * A guest that halted by itself, HLT not intercepted: an event wakes it, and a state that the user side loads anew (a
 * reset) is not a halted one.
 */
void exits_halted(void)
{
	static const enum guest_mode modes[] = { MODE_LONG64, MODE_USER64, MODE_REAL };
	uint64_t soon = info()->tsc_khz * 20ULL;
	struct guest g;
	struct umbra_run *run;
	struct frame f;

	guest_new(&g, MODE_LONG64, SNIPPET(hlt_plain));
	run = g.vcpu.run;
	run->deadline_tsc = tsc_read() + soon;
	vcpu_exit(&g.vcpu);
	if (is_svm() && g.vcpu.exit.reason == VMEXIT_DEADLINE) { /* SVM saves the RIP after HLT, and nothing else */
		run->deadline_tsc = 0;
		vcpu_exit(&g.vcpu);
	}
	if (g.vcpu.exit.reason == VMEXIT_DEADLINE) {
		check(run->rip == GPA_CODE + 1, "halted: RIP %llx", (unsigned long long)run->rip);
		run->deadline_tsc = tsc_read() + soon;
		vcpu_expect(&g.vcpu, VMEXIT_DEADLINE, "still halted");
		run->deadline_tsc = 0;
		run->inject = (struct umbra_event) { 0x41, UMBRA_EVENT_INTR, UMBRA_EVENT_VALID, 0, 0 };
		vcpu_expect_vector(&g.vcpu, 0x41, &f, "woken");
		check(f.rip == GPA_CODE + 1, "woken: RIP in the frame %llx", (unsigned long long)f.rip);
	} else {
		/* Bochs 2.7 saves "active" at each exit; silicon saves that the guest is halted. (SDM 3C 28.3.4) */
		check(g.vcpu.exit.reason == VMEXIT_IO && g.vcpu.exit.io.port == PORT_DONE, "halted: %s",
		      vcpu_describe(&g.vcpu));
		note("this CPU forgets at an exit that the guest is halted");
	}
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct snippet code = modes[i] == MODE_USER64 ? SNIPPET(hlt_user)
				      : modes[i] == MODE_REAL ? SNIPPET(real)
							      : SNIPPET(out_loop);

		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(hlt_plain));
		run->deadline_tsc = tsc_read() + soon;
		vcpu_exit(&g.vcpu);
		vcpu_load(&g.vcpu, modes[i], code);
		run->exceptions = 1 << 13;
		run->deadline_tsc = tsc_read() + 250 * soon; /* an exit comes first, on a busy machine too */
		vcpu_exit(&g.vcpu);
		check(g.vcpu.exit.reason == VMEXIT_IO || g.vcpu.exit.reason == VMEXIT_EXCEPTION,
		      "reset into mode %u: %s", modes[i], vcpu_describe(&g.vcpu));
	}
}

/* One entry of the table of answers and the guest's question. */
struct answer_case {
	const char *what;
	struct umbra_answer entry;
	uint32_t rax, rcx; /* of the guest; RCX the MSR's number for RDMSR */
	bool rdmsr, step, answered;
};

#define ANSWER(kind, ...)                        \
	{                                        \
		UMBRA_ANSWER_##kind, __VA_ARGS__ \
	}
#define REGS                                                   \
	{                                                      \
		0x11111111, 0x22222222, 0x33333333, 0x44444444 \
	}

/* Only what the entry says, kind, leaf and the index bits that count included, is answered; all else exits as ever. */
void exits_answers(void)
{
	static const struct answer_case cases[] = {
		{ "cpuid", ANSWER(CPUID, 7, 0, 0, REGS), 7, 5, false, false, true },
		{ "cpuid, index", ANSWER(CPUID, 7, 5, ~0u, REGS), 7, 5, false, false, true },
		{ "cpuid, one bit of the index", ANSWER(CPUID, 7, 4, 4, REGS), 7, 5, false, false, true },
		{ "cpuid, high leaf", ANSWER(CPUID, 0x80000001, 0, 0, REGS), 0x80000001, 0, false, false, true },
		{ "rdmsr", ANSWER(RDMSR, 0x1a0, 0, 0, REGS), 7, 0x1a0, true, false, true },
		{ "no entry", ANSWER(NONE, 7, 0, 0, REGS), 7, 5, false, false, false },
		{ "unknown kind", { 3, 7, 0, 0, REGS }, 7, 5, false, false, false },
		{ "an MSR's entry", ANSWER(RDMSR, 7, 0, 0, REGS), 7, 5, false, false, false },
		{ "a leaf's entry", ANSWER(CPUID, 0x1a0, 0, 0, REGS), 7, 0x1a0, true, false, false },
		{ "another leaf of the slot", ANSWER(CPUID, 7 + 64, 0, 0, REGS), 7, 5, false, false, false },
		{ "another index", ANSWER(CPUID, 7, 4, ~0u, REGS), 7, 5, false, false, false },
		{ "an index that no mask lets through", ANSWER(CPUID, 7, 5, 0, REGS), 7, 5, false, false, false },
		{ "single step", ANSWER(CPUID, 7, 0, 0, REGS), 7, 5, false, true, false },
	};
	struct umbra_answer *table;
	struct umbra_run *run;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(answer_cpuid));
	run = g.vcpu.run;
	table = (struct umbra_answer *)((char *)run + UMBRA_ANSWERS_OFFSET);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct answer_case *c = &cases[i];
		struct snippet code = c->rdmsr ? SNIPPET(answer_rdmsr) : SNIPPET(answer_cpuid);

		vcpu_load(&g.vcpu, MODE_LONG64, code);
		memset(table, 0, UMBRA_ANSWERS * sizeof(*table));
		/* The slot that the guest's leaf points at, whatever leaf the entry names. */
		table[UMBRA_ANSWER_SLOT(c->rdmsr ? c->rcx : c->rax)] = c->entry;
		run->gpr[UMBRA_RAX] = 0xffffffff00000000ULL | c->rax;
		/* QEMU 7.2 looks for an MSR in SVM's bitmap by all of RCX. */
		run->gpr[UMBRA_RCX] = (is_svm() ? 0 : 0xffffffff00000000ULL) | c->rcx;
		run->gpr[UMBRA_RBX] = run->gpr[UMBRA_RDX] = 0x5555555555555555ULL;
		if (c->step) {
			run->rflags |= 1 << 8;
			run->rip = GPA_CODE + code.at[0].where - (uintptr_t)code.start; /* past the STI */
		}
		if (!c->answered || is_svm()) { /* there, nothing is answered so far */
			vcpu_expect(&g.vcpu, c->rdmsr ? VMEXIT_RDMSR : VMEXIT_CPUID, c->what);
			check(run->rip == GPA_CODE + code.at[0].where - (uintptr_t)code.start &&
				      (uint32_t)run->gpr[UMBRA_RAX] == c->rax &&
				      run->gpr[UMBRA_RDX] == 0x5555555555555555ULL,
			      "%s: %s", c->what, vcpu_describe(&g.vcpu));
			continue;
		}
		vcpu_expect_io(&g.vcpu, PORT_DONE, c->what);
		check(run->rip == GPA_CODE + code.at[1].where - (uintptr_t)code.start &&
			      run->gpr[UMBRA_RAX] == 0x11111111 && run->gpr[UMBRA_RDX] == 0x44444444,
		      "%s: %s rax %llx rdx %llx", c->what, vcpu_describe(&g.vcpu),
		      (unsigned long long)run->gpr[UMBRA_RAX], (unsigned long long)run->gpr[UMBRA_RDX]);
		if (c->rdmsr)
			check(run->gpr[UMBRA_RBX] == 0x5555555555555555ULL && (uint32_t)run->gpr[UMBRA_RCX] == c->rcx,
			      "%s: RBX or RCX changed", c->what);
		else
			check(run->gpr[UMBRA_RBX] == 0x22222222 && run->gpr[UMBRA_RCX] == 0x33333333, "%s: RBX, RCX",
			      c->what);
		/* The STI before it: its shadow ends with the instruction that was answered. */
		check(!(run->intr_shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS)), "%s: interrupt shadow %x",
		      c->what, run->intr_shadow);
	}
}
