// SPDX-License-Identifier: GPL-2.0-or-later
/* Which instruction makes which exit, with which values: guest snippets against tables. */
#include "lib.h"
#include "exits.h"

/*
 * Runs a snippet's marked instructions: each must exit as its step says, at its own RIP, with its own length.
 * Fields of a step that the reason has no use for stay zero.
 */
static void step_check(struct vcpu *v, const struct step *s)
{
	const struct vmexit *e = &v->exit;

	switch (s->reason) {
	case VMEXIT_IO:
		check(e->io.port == s->port && e->io.size == s->size && e->io.flags == s->flags, "%s: %s", s->what,
		      vcpu_describe(v));
		if (!(s->flags & VMEXIT_IO_STRING))
			break;
		/* SVM's description has the segment with decode assists only; QEMU 7.2 leaves the size out, too. */
		check(e->io.addr_size == s->addr_size || (is_svm() && !e->io.addr_size), "%s: address size %u", s->what,
		      e->io.addr_size);
		check(e->io.seg == s->seg || is_svm(), "%s: segment %u", s->what, e->io.seg);
		break;
	case VMEXIT_CR:
		check(e->cr.cr == s->cr && e->cr.op == s->op && e->cr.gpr == s->gpr, "%s: %s", s->what,
		      vcpu_describe(v));
		break;
	case VMEXIT_DR:
		check(e->dr.dr == s->cr && e->dr.write == s->op && e->dr.gpr == s->gpr, "%s: dr%u write %u gpr %u",
		      s->what, e->dr.dr, e->dr.write, e->dr.gpr);
		break;
	case VMEXIT_EXCEPTION:
		check(e->exc.vector == s->vector && !e->exc.has_error_code, "%s: %s", s->what, vcpu_describe(v));
		break;
	}
	check(!(v->run->exit.event.flags & UMBRA_EVENT_VALID), "%s: an event", s->what);
	if (s->rax_mask)
		check((v->run->gpr[UMBRA_RAX] & s->rax_mask) == s->value, "%s: RAX %llx", s->what,
		      (unsigned long long)v->run->gpr[UMBRA_RAX]);
}

/* QEMU 7.2 takes INT3 for an INT n, which no exception's intercept catches: the guest's handler has it. RIP is the caller's. */
int int3_vectored(struct vcpu *vcpu)
{
	uint64_t rsp = vcpu->run->gpr[UMBRA_RSP];

	if (!is_svm() || vcpu_exit(vcpu) == VMEXIT_EXCEPTION) /* the caller will see it again */
		return 0;
	need(vcpu->exit.reason == VMEXIT_IO && vcpu->exit.io.port == PORT_VECTORED, "int3: %s", vcpu_describe(vcpu));
	vcpu->run->gpr[UMBRA_RSP] = rsp;
	note("this CPU takes INT3 for an INT n");
	return 1;
}

/* QEMU 7.2 knows no intercept of XSETBV: the guest then is at the next exit. */
static int xsetbv_executed(struct vcpu *vcpu, uint64_t rip)
{
	if (!is_svm() || vcpu_exit(vcpu) == VMEXIT_XSETBV)
		return 0;
	if (!info()->guest_xcr0 && vcpu->exit.reason == VMEXIT_EXCEPTION)
		return 1; /* no such instruction */
	need(vcpu->run->rip > rip, "xsetbv: %s", vcpu_describe(vcpu));
	note("this CPU has no exit for XSETBV");
	return 1;
}

void steps_run(struct guest *g, struct snippet code, const struct step *steps, size_t count)
{
	struct umbra_run *run = g->vcpu.run;
	uint64_t base = run->cr0 & 1 ? GPA_CODE : 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t where = code.at[i].where - (uintptr_t)code.start;

		need(code.at[i].len, "%s: no instruction of it in the snippet", steps[i].what);
		if (steps[i].reason == VMEXIT_EXCEPTION && steps[i].vector == 3 && int3_vectored(&g->vcpu))
			continue;
		if (steps[i].reason == VMEXIT_XSETBV && xsetbv_executed(&g->vcpu, base + where)) {
			run->rip = base + where + code.at[i].len;
			run->dirty |= UMBRA_STATE_RIP;
			continue;
		}
		if (steps[i].reason == VMEXIT_INVD && is_svm())
			need(vcpu_exit(&g->vcpu) == VMEXIT_INVD || g->vcpu.exit.reason == VMEXIT_WBINVD, "invd: %s",
			     vcpu_describe(&g->vcpu)); /* QEMU 7.2 takes it for a WBINVD */
		else
			vcpu_expect(&g->vcpu, steps[i].reason, steps[i].what);
		check(run->rip == base + where, "%s: RIP %llx, want %llx", steps[i].what, (unsigned long long)run->rip,
		      (unsigned long long)(base + where));
		if (steps[i].reason != VMEXIT_EXCEPTION)
			check(g->vcpu.exit.insn_len == code.at[i].len || (!g->vcpu.exit.insn_len && is_svm()),
			      "%s: length %u, want %u", steps[i].what, g->vcpu.exit.insn_len,
			      (unsigned int)code.at[i].len);
		step_check(&g->vcpu, &steps[i]);
		run->rip = base + where + code.at[i].len;
		run->dirty |= UMBRA_STATE_RIP;
	}
	need(!code.at[count].len, "the snippet has more instructions than the table");
}

#define OUTS VMEXIT_IO_STRING
#define INS (VMEXIT_IO_STRING | VMEXIT_IO_IN)

static const struct step io_steps[] = {
	{ "out imm 8", VMEXIT_IO, .port = 0x10, .size = 1, .rax_mask = ~0ULL, .value = 0x11223344 },
	{ "out imm 16", VMEXIT_IO, .port = 0x12, .size = 2 },
	{ "out imm 32", VMEXIT_IO, .port = 0x14, .size = 4 },
	{ "out dx 8", VMEXIT_IO, .port = 0x3f8, .size = 1 },
	{ "out dx 16", VMEXIT_IO, .port = 0x3f8, .size = 2 },
	{ "out dx 32", VMEXIT_IO, .port = 0x3f8, .size = 4 },
	{ "in imm 8", VMEXIT_IO, .port = 0x60, .size = 1, .flags = VMEXIT_IO_IN },
	{ "in imm 16", VMEXIT_IO, .port = 0x62, .size = 2, .flags = VMEXIT_IO_IN },
	{ "in imm 32", VMEXIT_IO, .port = 0x64, .size = 4, .flags = VMEXIT_IO_IN },
	{ "in dx 8", VMEXIT_IO, .port = 0xffff, .size = 1, .flags = VMEXIT_IO_IN },
	{ "in dx 16", VMEXIT_IO, .port = 0xfffe, .size = 2, .flags = VMEXIT_IO_IN },
	{ "in dx 32", VMEXIT_IO, .port = 0xfffc, .size = 4, .flags = VMEXIT_IO_IN },
	{ "outsb", VMEXIT_IO, .port = 0x1f0, .size = 1, .flags = OUTS, .addr_size = 8, .seg = UMBRA_DS },
	{ "rep outsw", VMEXIT_IO, .port = 0x1f0, .size = 2, .flags = OUTS | VMEXIT_IO_REP, .addr_size = 8,
	  .seg = UMBRA_DS },
	{ "rep outsl", VMEXIT_IO, .port = 0x1f0, .size = 4, .flags = OUTS | VMEXIT_IO_REP, .addr_size = 8,
	  .seg = UMBRA_DS },
	{ "insb", VMEXIT_IO, .port = 0x1f0, .size = 1, .flags = INS, .addr_size = 8, .seg = UMBRA_ES },
	{ "rep insw", VMEXIT_IO, .port = 0x1f0, .size = 2, .flags = INS | VMEXIT_IO_REP, .addr_size = 8,
	  .seg = UMBRA_ES },
	{ "insl", VMEXIT_IO, .port = 0x1f0, .size = 4, .flags = INS, .addr_size = 8, .seg = UMBRA_ES },
	{ "outsb fs:", VMEXIT_IO, .port = 0x1f0, .size = 1, .flags = OUTS, .addr_size = 8, .seg = UMBRA_FS },
	{ "outsb (esi)", VMEXIT_IO, .port = 0x1f0, .size = 1, .flags = OUTS, .addr_size = 4, .seg = UMBRA_DS },
	{ "rep insw (edi)", VMEXIT_IO, .port = 0x1f0, .size = 2, .flags = INS | VMEXIT_IO_REP, .addr_size = 4,
	  .seg = UMBRA_ES },
};

static void exits_io(void)
{
	struct snippet code = SNIPPET(io);
	struct guest g;

	guest_new(&g, MODE_LONG64, code);
	g.vcpu.run->gpr[UMBRA_RSI] = GPA_DATA;
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_DATA + 0x1000;
	steps_run(&g, code, io_steps, ARRAY_SIZE(io_steps));
}

/* What the user side put into RAX is what the guest goes on with; want and want_emul are obeyed. */
static void exits_groups(void)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	run = g.vcpu.run;
	for (int i = 0; i < UMBRA_GPRS; i++)
		if (i != UMBRA_RSP)
			run->gpr[i] = 0x0101010101010101ULL * (unsigned int)(i + 1);
	run->cr2 = 0x1234567890;
	run->want = 0;
	for (int round = 0; round < 3; round++) {
		vcpu_expect_io(&g.vcpu, 0x80, "groups");
		check(run->exit.valid == run->want, "valid %llx", (unsigned long long)run->exit.valid);
		for (int i = 1; i < UMBRA_GPRS; i++)
			check(i == UMBRA_RSP || run->gpr[i] == 0x0101010101010101ULL * (unsigned int)(i + 1),
			      "gpr %d: %llx", i, (unsigned long long)run->gpr[i]);
		check(run->cr2 == 0x1234567890, "CR2 %llx", (unsigned long long)run->cr2);
		check(run->gpr[UMBRA_RAX] == 0x0101010101010101ULL + (unsigned int)round, "RAX %llx",
		      (unsigned long long)run->gpr[UMBRA_RAX]);
		vcpu_skip(&g.vcpu);
	}
	/* Everything stored equals what was loaded. */
	{
		struct umbra_run before;

		run->msr.lstar = 0xffffffff81000000ULL;
		run->msr.cstar = 0x1000;
		run->msr.star = 0x0023001000000000ULL;
		run->msr.fmask = 0x47700;
		run->msr.sysenter_cs = 0x10;
		run->msr.sysenter_esp = 0xffffc90000001000ULL;
		run->msr.sysenter_eip = 0xffffffff81001000ULL;
		run->msr.tsc_aux = 7;
		run->dr[0] = 0x111;
		run->dr[3] = 0x7fff00000000;
		run->seg[UMBRA_FS].base = 0xffff800000001000ULL;
		run->seg[UMBRA_GS].base = 0x7fff00001000ULL;
		run->dirty = UMBRA_STATE_ALL;
		run->want = UMBRA_STATE_ALL;
		memcpy(&before, run, sizeof(before));
		memset(&run->exit, 0, sizeof(run->exit));
		run->flags = UMBRA_RUN_NO_ENTRY;
		need(!vcpu_run(&g.vcpu), "RUN");
		check(g.vcpu.exit.reason == VMEXIT_NONE, "no entry: %s", vcpu_describe(&g.vcpu));
		check(run->exit.valid == UMBRA_STATE_ALL, "no entry: valid %llx", (unsigned long long)run->exit.valid);
		vcpu_expect_io(&g.vcpu, 0x80, "all groups");
		check(!memcmp(run->seg, before.seg, sizeof(run->seg)), "segments differ");
		check(!memcmp(&run->gdtr, &before.gdtr, sizeof(run->gdtr)) &&
			      !memcmp(&run->idtr, &before.idtr, sizeof(run->idtr)),
		      "GDTR or IDTR differ");
		check(run->cr0 == before.cr0 && run->cr3 == before.cr3 && run->cr4 == before.cr4 &&
			      run->efer == before.efer && run->xcr0 == before.xcr0,
		      "CR: %llx %llx %llx %llx %llx", (unsigned long long)run->cr0, (unsigned long long)run->cr3,
		      (unsigned long long)run->cr4, (unsigned long long)run->efer, (unsigned long long)run->xcr0);
		check(!memcmp(run->dr, before.dr, sizeof(run->dr)) && run->dr7 == before.dr7, "DR differ");
		check(!memcmp(&run->msr, &before.msr, sizeof(run->msr)), "MSRs differ");
	}
	/* want_emul only at exits that need emulation: of memory and of string I/O. On SVM most need the decoder. */
	run->want = UMBRA_STATE_DR;
	run->want_emul = UMBRA_STATE_CR;
	vcpu_expect_io(&g.vcpu, 0x80, "want");
	check(run->exit.valid == (UMBRA_STATE_DR | (is_svm() ? UMBRA_STATE_CR : 0)), "want: valid %llx",
	      (unsigned long long)run->exit.valid);
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(string_out));
	run->want = UMBRA_STATE_DR;
	run->want_emul = UMBRA_STATE_CR | UMBRA_STATE_SEG_DATA;
	run->gpr[UMBRA_RSI] = GPA_DATA;
	vcpu_expect_io(&g.vcpu, 0x80, "OUT after want_emul");
	check(run->exit.valid == (is_svm() ? UMBRA_STATE_DR | UMBRA_STATE_CR | UMBRA_STATE_SEG_DATA : UMBRA_STATE_DR),
	      "OUT: valid %llx", (unsigned long long)run->exit.valid);
	vcpu_skip(&g.vcpu);
	vcpu_expect_io(&g.vcpu, 0x1f0, "OUTS");
	check(run->exit.valid == (UMBRA_STATE_DR | UMBRA_STATE_CR | UMBRA_STATE_SEG_DATA), "OUTS: valid %llx",
	      (unsigned long long)run->exit.valid);
	vcpu_skip(&g.vcpu);
	vcpu_expect_io(&g.vcpu, 0x1f0, "INS");
	check(run->exit.valid == (UMBRA_STATE_DR | UMBRA_STATE_CR | UMBRA_STATE_SEG_DATA), "INS: valid %llx",
	      (unsigned long long)run->exit.valid);
	vcpu_skip(&g.vcpu);
	vcpu_expect(&g.vcpu, VMEXIT_CPUID, "CPUID after want_emul");
	check(run->exit.valid == (is_svm() ? UMBRA_STATE_DR | UMBRA_STATE_CR | UMBRA_STATE_SEG_DATA : UMBRA_STATE_DR),
	      "CPUID: valid %llx", (unsigned long long)run->exit.valid);
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
	run->want = UMBRA_STATE_DR;
	run->want_emul = UMBRA_STATE_CR;
	run->gpr[UMBRA_RDI] = GPA_HOLE;
	vcpu_expect(&g.vcpu, VMEXIT_MEM, "want_emul");
	check(run->exit.valid == (UMBRA_STATE_DR | UMBRA_STATE_CR), "want_emul: valid %llx",
	      (unsigned long long)run->exit.valid);
}

static void exits_io_sweep(void)
{
	struct guest g;
	struct umbra_run *run;
	unsigned int port;

	guest_new(&g, MODE_LONG64, SNIPPET(io_sweep));
	run = g.vcpu.run;
	for (port = 0; port < 0x10000; port++) {
		vcpu_expect(&g.vcpu, VMEXIT_IO, "sweep");
		need(g.vcpu.exit.io.port == port, "port %x does not exit: next is %x", port, g.vcpu.exit.io.port);
		vcpu_skip(&g.vcpu);
	}
	vcpu_expect_io(&g.vcpu, PORT_DONE, "sweep");
	check(run->gpr[UMBRA_RBX] == 1, "not at the end");
}

/* ---- instructions ---- */

static const struct step privileged_steps[] = {
	{ "cpuid", VMEXIT_CPUID },
	{ "rdmsr", VMEXIT_RDMSR },
	{ "wrmsr", VMEXIT_WRMSR },
	{ "hlt", VMEXIT_HLT },
	{ "mov rcx,dr0", VMEXIT_DR, .cr = 0, .op = 1, .gpr = UMBRA_RCX },
	{ "mov dr3,r9", VMEXIT_DR, .cr = 3, .op = 0, .gpr = 9 },
	{ "mov dr6,rbx", VMEXIT_DR, .cr = 6, .op = 0, .gpr = UMBRA_RBX },
	{ "mov rax,dr7", VMEXIT_DR, .cr = 7, .op = 1, .gpr = UMBRA_RAX },
	{ "xsetbv", VMEXIT_XSETBV },
	{ "invd", VMEXIT_INVD },
	{ "wbinvd", VMEXIT_WBINVD },
	{ "rdpmc", VMEXIT_RDPMC },
	{ "monitor", VMEXIT_MONITOR },
	{ "mwait", VMEXIT_MWAIT },
	{ "ud2", VMEXIT_EXCEPTION, .vector = 6 },
	{ "int3", VMEXIT_EXCEPTION, .vector = 3 },
};

static void exits_privileged(void)
{
	struct snippet code = SNIPPET(privileged);
	struct guest g;

	guest_new(&g, MODE_LONG64, code);
	g.vcpu.run->intercepts = UMBRA_ICPT_HLT;
	g.vcpu.run->exceptions = 1 << 6 | 1 << 3;
	if (info()->guest_xcr0)
		g.vcpu.run->cr4 |= 1 << 18;
	steps_run(&g, code, privileged_steps, ARRAY_SIZE(privileged_steps));
}

/* Does not exit: the guest's own TSC_AUX, the TSC with the offset. */
static void exits_rdtscp(void)
{
	uint64_t before, after, guest;
	struct guest g;
	struct umbra_run *run;

	if (!(info()->features & UMBRA_FEAT_RDTSCP))
		skip_test("no RDTSCP for guests");
	guest_new(&g, MODE_LONG64, SNIPPET(rdtscp));
	run = g.vcpu.run;
	run->msr.tsc_aux = 0x5a5a1234;
	run->tsc_offset = 1ULL << 40;
	before = tsc_read();
	vcpu_expect_io(&g.vcpu, PORT_DONE, "rdtscp");
	after = tsc_read();
	guest = (run->gpr[UMBRA_RAX] & 0xffffffff) + (run->gpr[UMBRA_RDX] << 32) - run->tsc_offset;
	check(run->gpr[UMBRA_RCX] == 0x5a5a1234, "TSC_AUX %llx", (unsigned long long)run->gpr[UMBRA_RCX]);
	check(guest >= before && guest <= after, "TSC %llu not in %llu..%llu", (unsigned long long)guest,
	      (unsigned long long)before, (unsigned long long)after);
}

static void exits_undefined(void)
{
	static const struct step steps[] = { { "vmcall", VMEXIT_HYPERCALL }, { "vmxon, vmrun", VMEXIT_UNDEFINED } };
	struct snippet code = is_svm() ? SNIPPET(vmmcall) : SNIPPET(vmcall);
	struct guest g;

	guest_new(&g, MODE_LONG64, code);
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
	steps_run(&g, code, steps, 2);
}

static uint32_t exit_past_reads(struct vcpu *vcpu)
{
	/* On SVM a read exits, too, where the CPU's register is not the guest's. */
	while (vcpu_exit(vcpu) == VMEXIT_CR && vcpu->exit.cr.op == VMEXIT_CR_MOV_FROM && is_svm()) {
		vcpu->run->gpr[vcpu->exit.cr.gpr & 15] = vcpu->exit.cr.cr ? vcpu->run->cr4 : vcpu->run->cr0;
		vcpu_skip(vcpu);
	}
	return vcpu->exit.reason;
}

/*
 * A write of a control register either exits, and the user side gives the register its value, or the guest has the bit for
 * itself. Bits that the shim must hold against the guest have to exit.
 */
static void cr_toggle(struct guest *g, int cr, uint64_t bits, int must_exit, const char *what)
{
	struct umbra_run *run = g->vcpu.run;
	uint64_t old, new;

	vcpu_load(&g->vcpu, MODE_LONG64, cr ? SNIPPET(cr4_toggle) : SNIPPET(cr0_toggle));
	run->want = UMBRA_STATE_CR;
	run->gpr[UMBRA_RBX] = bits;
	old = cr ? run->cr4 : run->cr0;
	new = old ^ bits;
	if (exit_past_reads(&g->vcpu) == VMEXIT_CR) {
		check(g->vcpu.exit.cr.cr == cr && g->vcpu.exit.cr.op == VMEXIT_CR_MOV_TO &&
			      g->vcpu.exit.cr.gpr == (cr ? 11 : 0),
		      "%s: %s", what, vcpu_describe(&g->vcpu));
		check((cr ? run->cr4 : run->cr0) == old, "%s: the register changed before the exit", what);
		if (cr == 4 && new & ~info()->guest_cr4)
			return;
		if (cr)
			run->cr4 = new;
		else
			run->cr0 = new;
		run->dirty |= UMBRA_STATE_CR;
		vcpu_skip(&g->vcpu);
		exit_past_reads(&g->vcpu);
	} else {
		check(!must_exit, "%s: no exit but %s", what, vcpu_describe(&g->vcpu));
	}
	need(g->vcpu.exit.reason == VMEXIT_IO, "%s: %s", what, vcpu_describe(&g->vcpu));
	check(run->gpr[UMBRA_RCX] == new, "%s: the guest reads %llx, want %llx", what,
	      (unsigned long long)run->gpr[UMBRA_RCX], (unsigned long long)new);
	check((cr ? run->cr4 : run->cr0) == new, "%s: stored %llx, want %llx", what,
	      (unsigned long long)(cr ? run->cr4 : run->cr0), (unsigned long long)new);
}

static void exits_cr(void)
{
	static const struct {
		int cr, must_exit;
		uint64_t bits;
		const char *what;
	} toggles[] = {
		{ 0, 0, 1 << 3, "CR0.TS" },	    { 0, 0, 1 << 1, "CR0.MP" },	  { 0, 0, 1 << 16, "CR0.WP" },
		{ 0, 0, 1 << 18, "CR0.AM" },	    { 0, 1, 1 << 5, "CR0.NE" },	  { 0, 1, 1 << 30, "CR0.CD" },
		{ 0, 1, 3 << 29, "CR0.CD and NW" }, { 0, 1, 1u << 31, "CR0.PG" }, { 4, 0, 1 << 7, "CR4.PGE" },
		{ 4, 0, 1 << 2, "CR4.TSD" },	    { 4, 0, 1 << 3, "CR4.DE" },	  { 4, 1, 1 << 13, "CR4.VMXE" },
		{ 4, 1, 1 << 14, "CR4.SMXE" },	    { 4, 1, 1 << 6, "CR4.MCE" },  { 4, 1, 1 << 22, "CR4.PKE" },
		{ 4, 1, 1 << 12, "CR4.LA57" },
	};
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (size_t i = 0; i < ARRAY_SIZE(toggles); i++) {
		if (toggles[i].bits ==
		    1u << 31) { /* leaving long mode this way is the user side's to emulate: only the exit */
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(cr0_toggle));
			g.vcpu.run->gpr[UMBRA_RBX] = toggles[i].bits;
			vcpu_expect(&g.vcpu, VMEXIT_CR, toggles[i].what);
			continue;
		}
		cr_toggle(&g, toggles[i].cr, toggles[i].bits, toggles[i].must_exit, toggles[i].what);
	}
}

static void exits_clts_lmsw(void)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(clts));
	run = g.vcpu.run;
	run->want = UMBRA_STATE_CR;
	run->cr0 |= 8;
	if (vcpu_exit(&g.vcpu) == VMEXIT_CR) {
		check(g.vcpu.exit.cr.cr == 0 && g.vcpu.exit.cr.op == VMEXIT_CR_CLTS, "clts: %s",
		      vcpu_describe(&g.vcpu));
		run->cr0 &= ~8ULL;
		run->dirty |= UMBRA_STATE_CR;
		vcpu_skip(&g.vcpu);
		vcpu_exit(&g.vcpu);
	}
	check(g.vcpu.exit.reason == VMEXIT_IO && !(run->gpr[UMBRA_RCX] & 8) && !(run->cr0 & 8), "clts: %s, CR0 %llx",
	      vcpu_describe(&g.vcpu), (unsigned long long)run->gpr[UMBRA_RCX]);

	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(lmsw));
	run->want = UMBRA_STATE_CR;
	if (vcpu_exit(&g.vcpu) == VMEXIT_CR) {
		check(g.vcpu.exit.cr.cr == 0 && g.vcpu.exit.cr.op == VMEXIT_CR_LMSW &&
			      (g.vcpu.exit.cr.lmsw & 0xf) == 0xb,
		      "lmsw: %s, operand %x", vcpu_describe(&g.vcpu), g.vcpu.exit.cr.lmsw);
		run->cr0 |= 8;
		run->dirty |= UMBRA_STATE_CR;
		vcpu_skip(&g.vcpu);
		vcpu_exit(&g.vcpu);
	}
	check(g.vcpu.exit.reason == VMEXIT_IO && run->gpr[UMBRA_RCX] & 8 && run->cr0 & 8, "lmsw: %s, CR0 %llx",
	      vcpu_describe(&g.vcpu), (unsigned long long)run->gpr[UMBRA_RCX]);
}

static void exits_cr8(void)
{
	unsigned char *vapic;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(cr8));
	run = g.vcpu.run;
	vapic = (unsigned char *)run + info()->vapic_offset;
	run->gpr[UMBRA_RBX] = 7;
	if (info()->features & UMBRA_FEAT_TPR_SHADOW) {
		vcpu_expect_io(&g.vcpu, PORT_DONE, "cr8 in the virtual-APIC page");
		check(run->gpr[UMBRA_RCX] == 7, "CR8 reads %llx", (unsigned long long)run->gpr[UMBRA_RCX]);
		check(vapic[0x80] == 0x70, "virtual TPR %x", vapic[0x80]);
		/* Below the threshold: an exit after the instruction. */
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(cr8));
		run->tpr_threshold = 5;
		vapic[0x80] = 0x90;
		run->gpr[UMBRA_RBX] = 3;
		vcpu_expect(&g.vcpu, VMEXIT_TPR, "TPR below the threshold");
		check(run->rip == GPA_CODE + 4, "TPR: RIP %llx", (unsigned long long)run->rip);
		run->tpr_threshold = 0;
		vcpu_expect_io(&g.vcpu, PORT_DONE, "after TPR");
		return;
	}
	vcpu_expect(&g.vcpu, VMEXIT_CR, "mov to cr8");
	check(g.vcpu.exit.cr.cr == 8 && g.vcpu.exit.cr.op == VMEXIT_CR_MOV_TO && g.vcpu.exit.cr.gpr == UMBRA_RBX, "%s",
	      vcpu_describe(&g.vcpu));
	vcpu_skip(&g.vcpu);
	vcpu_expect(&g.vcpu, VMEXIT_CR, "mov from cr8");
	check(g.vcpu.exit.cr.cr == 8 && g.vcpu.exit.cr.op == VMEXIT_CR_MOV_FROM && g.vcpu.exit.cr.gpr == UMBRA_RCX,
	      "%s", vcpu_describe(&g.vcpu));
}

/* ---- MSRs: every one outside a short list exits, read and write ---- */

static int msr_may_pass(uint32_t msr, int write)
{
	switch (msr) {
	case 0x10: /* TSC, with the offset */
		return !write;
	case 0x48: /* SPEC_CTRL */
	case 0x49: /* PRED_CMD */
	case 0x174 ... 0x176:
	case 0x277:
	case 0xc0000100 ... 0xc0000102:
		return 1;
	default:
		return 0;
	}
}

static void msr_sweep(uint32_t first, uint32_t end, int write)
{
	struct guest g;
	struct umbra_run *run;
	uint32_t next = first;
	unsigned int passed = 0;

	guest_new(&g, MODE_LONG64, SNIPPET(msr_sweep));
	run = g.vcpu.run;
	run->gpr[UMBRA_RCX] = first;
	run->gpr[UMBRA_RBX] = end;
	run->gpr[8] = (uint64_t)write;
	run->exceptions = 1 << 13;
	for (;;) {
		uint32_t reason = vcpu_exit(&g.vcpu), at = (uint32_t)run->gpr[UMBRA_RCX];

		for (; next != at && next != end; next++) {
			passed++;
			check(msr_may_pass(next, write), "%s of MSR %x does not exit", write ? "WRMSR" : "RDMSR", next);
		}
		if (reason == VMEXIT_IO)
			break;
		if (reason == VMEXIT_EXCEPTION)
			check(msr_may_pass(at, write), "%s of MSR %x is left to the CPU (#GP)",
			      write ? "WRMSR" : "RDMSR", at);
		else
			need(reason == (write ? VMEXIT_WRMSR : VMEXIT_RDMSR), "%s", vcpu_describe(&g.vcpu));
		next++;
		run->rip += 2;
		run->dirty |= UMBRA_STATE_RIP;
	}
	note("%s of %x..%x: %u pass", write ? "WRMSR" : "RDMSR", first, end - 1, passed);
	vcpu_destroy(&g.vcpu);
	vm_destroy(&g.vm);
}

static void exits_msr_sweep(void)
{
	for (int write = 0; write < 2; write++) {
		msr_sweep(0, 0x2001, write);
		msr_sweep(0x40000000, 0x40000100, write);
		msr_sweep(0xbffffff0, 0xc0002001, write);
		msr_sweep(0xc0010000, 0xc0010140, write);
	}
}

/* ---- modes ---- */

static void exits_real(void)
{
	static const struct step steps[] = {
		{ "out ax", VMEXIT_IO, .port = 0x42, .size = 2, .rax_mask = 0xffff, .value = 0x1234 },
		{ "in al", VMEXIT_IO, .port = 0x44, .size = 1, .flags = VMEXIT_IO_IN },
		{ "hlt", VMEXIT_HLT },
	};
	static const unsigned char handler[] = { 0xbb, 0xef, 0xbe, 0xcf }; /* mov $0xbeef,%bx; iret */
	struct snippet code = SNIPPET(real);
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_REAL, code);
	run = g.vcpu.run;
	memcpy(g.vm.mem + 0x700, handler, sizeof(handler));
	memcpy(g.vm.mem + 4 * 0x21, "\x00\x07\x00\x00", 4);
	run->intercepts = UMBRA_ICPT_HLT;
	run->want = UMBRA_STATE_SEG_DATA;
	steps_run(&g, code, steps, ARRAY_SIZE(steps));
	vcpu_expect_io(&g.vcpu, PORT_DONE, "real mode");
	check((run->gpr[UMBRA_RSI] & 0xffff) == 0xbeef, "SI %llx: INT 21h through the vector table",
	      (unsigned long long)run->gpr[UMBRA_RSI]);
	check(g.vm.mem[0x600] == 0x35 && g.vm.mem[0x601] == 0x12, "memory %x %x", g.vm.mem[0x600], g.vm.mem[0x601]);
	check(g.vm.mem[0x20000] == 0x77, "ES write: %x", g.vm.mem[0x20000]);
	check(run->seg[UMBRA_ES].base == 0x20000 && run->seg[UMBRA_ES].selector == 0x2000, "ES %x base %llx",
	      run->seg[UMBRA_ES].selector, (unsigned long long)run->seg[UMBRA_ES].base);
	check(run->gpr[UMBRA_RSP] == 0x7000, "SP %llx", (unsigned long long)run->gpr[UMBRA_RSP]);
}

static void exits_real_to_prot(void)
{
	struct guest g;
	struct umbra_run *run;
	uint16_t limit = 63;
	uint32_t base = GPA_GDT;

	guest_new(&g, MODE_REAL, SNIPPET(real_to_prot));
	run = g.vcpu.run;
	memcpy(g.vm.mem + 0x500, &limit, 2);
	memcpy(g.vm.mem + 0x502, &base, 4);
	memcpy(g.vm.mem + 0x100000, "\x78\x56\x34\x12", 4);
	run->want = UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE | UMBRA_STATE_SEG_SYS;
	if (vcpu_exit(&g.vcpu) == VMEXIT_CR) {
		check(g.vcpu.exit.cr.cr == 0 && g.vcpu.exit.cr.op == VMEXIT_CR_MOV_TO, "%s", vcpu_describe(&g.vcpu));
		run->cr0 |= 1;
		run->rip += 3;
		run->dirty |= UMBRA_STATE_CR | UMBRA_STATE_RIP;
		vcpu_exit(&g.vcpu);
	}
	need(g.vcpu.exit.reason == VMEXIT_IO, "%s", vcpu_describe(&g.vcpu));
	check((run->gpr[UMBRA_RBX] & 0xffffffff) == 0x5a5a && (run->gpr[UMBRA_RCX] & 0xffffffff) == 0x12345678,
	      "rbx %llx rcx %llx", (unsigned long long)run->gpr[UMBRA_RBX], (unsigned long long)run->gpr[UMBRA_RCX]);
	check(run->seg[UMBRA_CS].selector == SEL_CODE32 && run->seg[UMBRA_CS].attr == 0xc09b, "CS %x attr %x",
	      run->seg[UMBRA_CS].selector, run->seg[UMBRA_CS].attr);
	check(run->gdtr.base == GPA_GDT && run->gdtr.limit == 63, "GDTR %llx %x", (unsigned long long)run->gdtr.base,
	      run->gdtr.limit);
	check(run->cr0 & 1, "CR0 %llx", (unsigned long long)run->cr0);
}

static void flat32(enum guest_mode mode, uint64_t gva, const char *what)
{
	static const struct step steps[] = {
		{ "out eax", VMEXIT_IO, .port = 0x42, .size = 4, .rax_mask = ~0ULL, .value = 0x12345678 },
	};
	struct snippet code = SNIPPET(flat32);
	struct guest g;
	struct umbra_run *run;
	uint32_t word;

	guest_new(&g, mode, code);
	run = g.vcpu.run;
	run->gpr[UMBRA_RDI] = gva;
	steps_run(&g, code, steps, 1);
	vcpu_expect_io(&g.vcpu, PORT_DONE, what);
	memcpy(&word, g.vm.mem + (gva & (GUEST_MEM - 1)), 4);
	check(run->gpr[UMBRA_RCX] == 0x12345679 && word == 0x12345679, "%s: rcx %llx memory %x", what,
	      (unsigned long long)run->gpr[UMBRA_RCX], word);
	check(run->gpr[UMBRA_RBP] == GPA_STACK, "%s: ESP %llx", what, (unsigned long long)run->gpr[UMBRA_RBP]);
	/* A hole, by its own address. */
	vcpu_load(&g.vcpu, mode, SNIPPET(load32));
	run->gpr[UMBRA_RDI] = GPA_HOLE + 0x123;
	vcpu_expect(&g.vcpu, VMEXIT_MEM, what);
	check(g.vcpu.exit.mem.gpa == GPA_HOLE + 0x123, "%s: %s", what, vcpu_describe(&g.vcpu));
}

static void exits_prot32(void)
{
	flat32(MODE_PROT32, GPA_DATA, "no paging");
}

static void exits_paging32(void)
{
	flat32(MODE_PAGING32, GPA_DATA, "32-bit paging");
}

static void exits_pae(void)
{
	flat32(MODE_PAE, GVA_ALIAS + GPA_DATA, "PAE");
}

static void exits_user(void)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_USER64, SNIPPET(hlt_user));
	run = g.vcpu.run;
	run->intercepts = UMBRA_ICPT_HLT;
	run->exceptions = 1 << 13;
	vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, "hlt at CPL 3");
	check(g.vcpu.exit.exc.vector == 13 && g.vcpu.exit.exc.has_error_code && !g.vcpu.exit.exc.error_code,
	      "hlt at CPL 3: %s", vcpu_describe(&g.vcpu));
	vcpu_load(&g.vcpu, MODE_USER64, SNIPPET(in_user));
	run->exceptions = 1 << 13;
	run->want = UMBRA_STATE_SEG_CODE;
	vcpu_expect(&g.vcpu, VMEXIT_EXCEPTION, "in at CPL 3");
	check(g.vcpu.exit.exc.vector == 13 && (run->seg[UMBRA_SS].attr >> 5 & 3) == 3, "in at CPL 3: %s",
	      vcpu_describe(&g.vcpu));
}

int exits_main(void)
{
	static const struct test tests[] = {
		{ "io", exits_io, 20 },
		{ "groups", exits_groups, 20 },
		{ "never_stored", exits_never_stored, 20 },
		{ "raw", exits_raw, 20 },
		{ "raw_refused", exits_raw_refused, 20 },
		{ "answers", exits_answers, 20 },
		{ "output_only", exits_output_only, 20 },
		{ "unknown", exits_unknown, 20 },
		{ "halted", exits_halted, 20 },
		{ "io_sweep", exits_io_sweep, 90 },
		{ "privileged", exits_privileged, 20 },
		{ "rdtscp", exits_rdtscp, 20 },
		{ "undefined", exits_undefined, 20 },
		{ "cr", exits_cr, 20 },
		{ "clts_lmsw", exits_clts_lmsw, 20 },
		{ "cr8", exits_cr8, 20 },
		{ "msr_sweep", exits_msr_sweep, 90 },
		{ "real", exits_real, 20 },
		{ "real_to_prot", exits_real_to_prot, 20 },
		{ "prot32", exits_prot32, 20 },
		{ "paging32", exits_paging32, 20 },
		{ "pae", exits_pae, 20 },
		{ "user", exits_user, 20 },
		{ "vectored", exits_vectored, 20 },
		{ "intercepted", exits_intercepted, 20 },
		{ "always_intercepted", exits_always_intercepted, 20 },
		{ "inject", exits_inject, 20 },
		{ "windows", exits_windows, 20 },
		{ "nmi", exits_nmi, 20 },
		{ "delivery_cut_short", exits_delivery_cut_short, 20 },
		{ "triple_fault", exits_triple_fault, 20 },
		{ "deadline", exits_deadline, 30 },
		{ "tsc", exits_tsc, 20 },
		{ "pause", exits_pause, 20 },
		{ "gs_base", exits_gs_base, 20 },
		{ "syscall", exits_syscall, 20 },
		{ "mem_hole", exits_mem_hole, 20 },
		{ "mem_walk", exits_mem_walk, 20 },
		{ "mem_readonly", exits_mem_readonly, 20 },
		{ "mem_fault", exits_mem_fault, 20 },
		{ "flush_tlb", exits_flush_tlb, 20 },
	};

	return run_tests("exits", tests, ARRAY_SIZE(tests));
}
