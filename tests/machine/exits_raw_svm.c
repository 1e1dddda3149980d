// SPDX-License-Identifier: GPL-2.0-or-later
/* The exit part of the run area, field by field, as SVM's hardware fills it. (APM 2 15.7 to 15.12, appendix C) */
#include "exits.h"

#define UNMAPPED 0x200000008ULL /* not in the guest's own tables */

struct raw_case {
	const char *what;
	int insn; /* of the snippet's marked ones */
	uint32_t reason, code;
	uint64_t info1, info1_mask, info2, info2_mask; /* masks 0: not looked at */
	uint64_t gpa;
	uint32_t access;
	int32_t error;
};

#define NEXT_RIP 1 /* info2 */
/* Port, type and size; the CPU may add the address size and, with decode assists, the segment. */
#define IO_MASK 0xffff007fULL

static const struct raw_case cases[] = {
	{ "out", 0, UMBRA_EXIT_HARDWARE, 0x7b, 0x00800010, IO_MASK, NEXT_RIP, ~0ULL },
	{ "outsb", 1, UMBRA_EXIT_HARDWARE, 0x7b, 0x01f00014, IO_MASK, NEXT_RIP, ~0ULL },
	{ "insb", 2, UMBRA_EXIT_HARDWARE, 0x7b, 0x01f00015, IO_MASK, NEXT_RIP, ~0ULL },
	{ "in eax", 3, UMBRA_EXIT_HARDWARE, 0x7b, 0x00600041, IO_MASK, NEXT_RIP, ~0ULL },
	{ "cpuid", 4, UMBRA_EXIT_HARDWARE, 0x72 },
	{ "rdmsr", 5, UMBRA_EXIT_HARDWARE, 0x7c, 0, ~0ULL },
	{ "mov rcx,dr7", 6, UMBRA_EXIT_HARDWARE, 0x37 },
	{ "ud2", 7, UMBRA_EXIT_HARDWARE, 0x46 },
	{ "page fault", 8, UMBRA_EXIT_HARDWARE, 0x4e, 2, 0xffffffff, UNMAPPED, ~0ULL },
	{ "hole", 9, UMBRA_EXIT_MEM, .gpa = GPA_HOLE, .access = UMBRA_MEM_READ },
	{ "owner has no page", 10, UMBRA_EXIT_MEM, .gpa = GPA_HOLE + 0x3000,
	  .access = UMBRA_MEM_WRITE | UMBRA_MEM_FAULT, .error = -EFAULT },
	{ "hlt", 11, UMBRA_EXIT_HARDWARE, 0x78 },
};

static void raw_check(struct guest *g, const struct raw_case *c, uint64_t start, uint64_t length)
{
	const struct umbra_exit *e = &g->vcpu.run->exit;
	uint64_t info2 = c->info2 == NEXT_RIP ? start + length : c->info2;

	check(e->reason == c->reason, "%s: reason %u, want %u", c->what, e->reason, c->reason);
	check(e->valid == (g->vcpu.run->want | g->vcpu.run->want_emul), "%s: valid %llx", c->what,
	      (unsigned long long)e->valid);
	check(!(e->event.flags & UMBRA_EVENT_VALID), "%s: an event", c->what);
	if (c->reason == UMBRA_EXIT_MEM) {
		check(e->gpa == c->gpa && e->access == c->access && e->error == c->error,
		      "%s: gpa %llx access %x error %d", c->what, (unsigned long long)e->gpa, e->access, e->error);
		return;
	}
	check(e->hw_reason == c->code, "%s: hw_reason %x, want %x", c->what, e->hw_reason, c->code);
	/* Where the CPU does not tell it, there is nothing; and of an exception never. */
	check(!e->insn_len || (e->insn_len == length && (c->code & ~0x1fu) != 0x40), "%s: insn_len %u, want %llu",
	      c->what, e->insn_len, (unsigned long long)length);
	check((e->hw_info & c->info1_mask) == c->info1, "%s: hw_info %llx, want %llx", c->what,
	      (unsigned long long)e->hw_info, (unsigned long long)c->info1);
	check(!c->info2_mask || e->hw_info2 == info2, "%s: hw_info2 %llx, want %llx", c->what,
	      (unsigned long long)e->hw_info2, (unsigned long long)info2);
}

void exits_raw_svm(void)
{
	struct snippet code = SNIPPET(raw);
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, code);
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE + 0x3000, (void *)UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE),
	     "region"); /* nothing there */
	run = g.vcpu.run;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct snip_at *at = &code.at[cases[i].insn];
		uint64_t start = GPA_CODE + at->where - (uintptr_t)code.start;

		for (int fill = 0; fill < 2; fill++) {
			vcpu_load(&g.vcpu, MODE_LONG64, code);
			run->rip = start;
			run->intercepts = UMBRA_ICPT_HLT;
			run->exceptions = 1 << 6 | 1 << 14;
			run->want = i & 1 ? UMBRA_STATE_RIP : UMBRA_STATE_RIP | UMBRA_STATE_SEG_SYS;
			run->want_emul = i & 2 ? UMBRA_STATE_CR : 0;
			run->gpr[UMBRA_RDX] = 0x1f0;
			run->gpr[UMBRA_RCX] = 0x1b;
			run->gpr[UMBRA_RSI] = run->gpr[UMBRA_RDI] = GPA_DATA;
			run->gpr[8] = UNMAPPED;
			run->gpr[9] = GPA_HOLE;
			run->gpr[10] = GPA_HOLE + 0x3000;
			memset(&run->exit, fill ? 0xff : 0xa5, sizeof(run->exit));
			vcpu_exit(&g.vcpu);
			raw_check(&g, &cases[i], start, at->len);
			check(run->rip == start, "%s: RIP %llx", cases[i].what, (unsigned long long)run->rip);
		}
	}
	/* A #DB: the guest's DR6, made afresh for each entry. */
	for (int round = 0; round < 2; round++) {
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nops));
		run->rflags |= 1 << 8;
		vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, "single step");
		check(run->exit.hw_reason == 0x41 && run->exit.hw_info2 == 0xffff4ff0, "single step: DR6 %llx",
		      (unsigned long long)run->exit.hw_info2);
	}
}
