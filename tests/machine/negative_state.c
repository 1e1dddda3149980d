// SPDX-License-Identifier: GPL-2.0-or-later
/* Each UMBRA_BAD_* rule, reached by exactly one change to a state that is otherwise valid. */
#include "lib.h"

#include <pthread.h>
#include <sched.h>

#define FIELD(f) offsetof(struct umbra_run, f), sizeof(((struct umbra_run *)0)->f)
#define NONCANONICAL 0x0000800000000000ULL
#define OR 1 /* set these bits in the valid value, instead of replacing it */

struct state_case {
	const char *name;
	uint32_t rule; /* 0: no rule is broken, the guest runs */
	uint64_t value;
	int or ;
	size_t offset, size;
	int lax; /* Bochs 2.7 does not check it, silicon does: there the guest runs with it, to no harm but its own */
	uint32_t svm; /* SVM: the rule that says no; 0: entered, to no harm but the guest's own (APM 2 15.5.1) */
};

static const struct state_case cases[] = {
	{ "dirty bit 8", UMBRA_BAD_CONTROL, 1 << 8, OR, FIELD(dirty) },
	{ "dirty bit 63", UMBRA_BAD_CONTROL, 1ULL << 63, OR, FIELD(dirty) },
	{ "want bit 8", UMBRA_BAD_CONTROL, 1 << 8, OR, FIELD(want) },
	{ "want bit 63", UMBRA_BAD_CONTROL, 1ULL << 63, OR, FIELD(want) },
	{ "want_emul bit 8", UMBRA_BAD_CONTROL, 1 << 8, OR, FIELD(want_emul) },
	{ "want_emul bit 63", UMBRA_BAD_CONTROL, 1ULL << 63, OR, FIELD(want_emul) },
	{ "intercepts bit 4", UMBRA_BAD_CONTROL, UMBRA_ICPT_ALL + 1, OR, FIELD(intercepts) },
	{ "intercepts bit 31", UMBRA_BAD_CONTROL, 1u << 31, OR, FIELD(intercepts) },
	{ "flags bit 2", UMBRA_BAD_CONTROL, 1 << 2, OR, FIELD(flags) },
	{ "flags bit 31", UMBRA_BAD_CONTROL, 1u << 31, OR, FIELD(flags) },
	{ "reserved[0]", UMBRA_BAD_CONTROL, 1, OR, FIELD(reserved[0]) },
	{ "reserved[1]", UMBRA_BAD_CONTROL, 1ULL << 63, OR, FIELD(reserved[1]) },
	{ "reserved2", UMBRA_BAD_CONTROL, 1, OR, FIELD(reserved2) },
	{ "GDTR reserved", UMBRA_BAD_CONTROL, 1, 0, FIELD(gdtr.reserved) },
	{ "IDTR reserved", UMBRA_BAD_CONTROL, 1u << 31, 0, FIELD(idtr.reserved) },
	{ "tpr_threshold 16", UMBRA_BAD_CONTROL, 16, 0, FIELD(tpr_threshold) },
	{ "tpr_threshold 2^31", UMBRA_BAD_CONTROL, 1u << 31, 0, FIELD(tpr_threshold) },

	{ "event flag 2", UMBRA_BAD_EVENT, 1 << 2, OR, FIELD(inject.flags) },
	{ "event flag 7", UMBRA_BAD_EVENT, 1 << 7, OR, FIELD(inject.flags) },
	{ "event type 7", UMBRA_BAD_EVENT, 7, 0, FIELD(inject.type) }, /* VMX has one that the ABI has not */
	{ "event type 8", UMBRA_BAD_EVENT, 8, 0, FIELD(inject.type) },
	{ "event type 255", UMBRA_BAD_EVENT, 255, 0, FIELD(inject.type) },

	{ "CR0 bit 6", UMBRA_BAD_CR0, 1 << 6, OR, FIELD(cr0) },
	{ "CR0 bit 32", UMBRA_BAD_CR0, 1ULL << 32, OR, FIELD(cr0) },
	{ "CR0 bit 63", UMBRA_BAD_CR0, 1ULL << 63, OR, FIELD(cr0) },
	{ "CR4.LA57", UMBRA_BAD_CR4, 1 << 12, OR, FIELD(cr4) },
	{ "CR4.VMXE", UMBRA_BAD_CR4, 1 << 13, OR, FIELD(cr4) },
	{ "CR4.SMXE", UMBRA_BAD_CR4, 1 << 14, OR, FIELD(cr4) },
	{ "CR4.PKE", UMBRA_BAD_CR4, 1 << 22, OR, FIELD(cr4) },
	{ "CR4.CET", UMBRA_BAD_CR4, 1 << 23, OR, FIELD(cr4) },
	{ "CR4 bit 31", UMBRA_BAD_CR4, 1u << 31, OR, FIELD(cr4) },
	{ "CR4 bit 32", UMBRA_BAD_CR4, 1ULL << 32, OR, FIELD(cr4) },
	{ "EFER bit 1", UMBRA_BAD_EFER, 1 << 1, OR, FIELD(efer) },
	{ "EFER.SVME", UMBRA_BAD_EFER, 1 << 12, OR, FIELD(efer) },
	{ "EFER bit 63", UMBRA_BAD_EFER, 1ULL << 63, OR, FIELD(efer) },
	{ "XCR0 0", UMBRA_BAD_XCR0, 0, 0, FIELD(xcr0) },
	{ "XCR0 without x87", UMBRA_BAD_XCR0, 2, 0, FIELD(xcr0) },
	{ "XCR0 AVX without SSE", UMBRA_BAD_XCR0, 5, 0, FIELD(xcr0) },
	{ "XCR0.PKRU", UMBRA_BAD_XCR0, 1 << 9, OR, FIELD(xcr0) },
	{ "XCR0 AMX", UMBRA_BAD_XCR0, 3 << 17, OR, FIELD(xcr0) },
	{ "XCR0 bit 63", UMBRA_BAD_XCR0, 1ULL << 63, OR, FIELD(xcr0) },
	{ "XCR0 one of AVX-512's three", UMBRA_BAD_XCR0, 0x27, 0, FIELD(xcr0) },
	{ "LSTAR", UMBRA_BAD_MSR, NONCANONICAL, 0, FIELD(msr.lstar) },
	{ "LSTAR, high", UMBRA_BAD_MSR, 0xffff7fffffffffffULL, 0, FIELD(msr.lstar) },
	{ "CSTAR", UMBRA_BAD_MSR, NONCANONICAL, 0, FIELD(msr.cstar) },
	{ "FMASK", UMBRA_BAD_MSR, 1ULL << 32, 0, FIELD(msr.fmask) },
	{ "TSC_AUX", UMBRA_BAD_MSR, 1ULL << 32, 0, FIELD(msr.tsc_aux) },

	/* What the CPU finds when it is to take the event. (SDM 3C 27.2.1.3) */
	{ "event type 1", UMBRA_BAD_ENTRY, 1, 0, FIELD(inject.type), .svm = UMBRA_BAD_EVENT },
	{ "interrupt with error code", UMBRA_BAD_ENTRY, UMBRA_EVENT_ERROR_CODE, OR, FIELD(inject.flags) },
	{ "NMI of vector 0x40", UMBRA_BAD_ENTRY, UMBRA_EVENT_NMI, 0, FIELD(inject.type) },
	{ "exception 0x40", UMBRA_BAD_ENTRY, UMBRA_EVENT_EXC, 0, FIELD(inject.type), .svm = UMBRA_BAD_HARDWARE },
	{ "soft interrupt without length", UMBRA_BAD_ENTRY, UMBRA_EVENT_SOFT_INT, 0, FIELD(inject.type),
	  .svm = UMBRA_BAD_EVENT },

	/* What the CPU finds in the guest's state. (SDM 3C 27.3.1) */
	{ "CR0.PG without PE", UMBRA_BAD_HARDWARE, 0x80050032, 0, FIELD(cr0), .svm = UMBRA_BAD_HARDWARE },
	{ "CR3 bit 63", UMBRA_BAD_HARDWARE, 1ULL << 63, OR, FIELD(cr3), .svm = UMBRA_BAD_HARDWARE },
	{ "CR3 bit 52", UMBRA_BAD_HARDWARE, 1ULL << 52, OR, FIELD(cr3), .svm = UMBRA_BAD_HARDWARE },
	{ "long mode without PAE", UMBRA_BAD_HARDWARE, 0x600, 0, FIELD(cr4), .svm = UMBRA_BAD_HARDWARE },
	{ "EFER.LMA without LME", UMBRA_BAD_HARDWARE, 0xc01, 0, FIELD(efer) },
	{ "EFER.LME and paging without LMA", UMBRA_BAD_HARDWARE, 0x901, 0, FIELD(efer) },
	{ "DR7 bit 32", UMBRA_BAD_HARDWARE, 1ULL << 32, OR, FIELD(dr7), .svm = UMBRA_BAD_HARDWARE },
	{ "DR7 bit 63", UMBRA_BAD_HARDWARE, 1ULL << 63, OR, FIELD(dr7), .svm = UMBRA_BAD_HARDWARE },
	{ "SYSENTER_ESP", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(msr.sysenter_esp) },
	{ "SYSENTER_EIP", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(msr.sysenter_eip) },
	{ "PAT type 2", UMBRA_BAD_HARDWARE, 0x0007040600070402, 0, FIELD(msr.pat) },
	{ "PAT type 3", UMBRA_BAD_HARDWARE, 0x0007040600030406, 0, FIELD(msr.pat) },
	{ "PAT type 8", UMBRA_BAD_HARDWARE, 0x0807040600070406, 0, FIELD(msr.pat) },
	{ "PAT type 0x86", UMBRA_BAD_HARDWARE, 0x0007048600070406, 0, FIELD(msr.pat) },
	{ "CS attribute 8", UMBRA_BAD_HARDWARE, 1 << 8, OR, FIELD(seg[UMBRA_CS].attr) },
	{ "SS attribute 11", UMBRA_BAD_HARDWARE, 1 << 11, OR, FIELD(seg[UMBRA_SS].attr) },
	{ "ES attribute 9", UMBRA_BAD_HARDWARE, 1 << 9, OR, FIELD(seg[UMBRA_ES].attr) },
	{ "GS attribute 10", UMBRA_BAD_HARDWARE, 1 << 10, OR, FIELD(seg[UMBRA_GS].attr) },
	{ "TR attribute 8", UMBRA_BAD_HARDWARE, 1 << 8, OR, FIELD(seg[UMBRA_TR].attr) },
	{ "LDTR attribute 8", UMBRA_BAD_HARDWARE, 0x182, 0,
	  FIELD(seg[UMBRA_LDTR].attr) }, /* usable: else it is ignored */
	{ "FS base", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(seg[UMBRA_FS].base) },
	{ "GS base", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(seg[UMBRA_GS].base) },
	{ "TR base", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(seg[UMBRA_TR].base) },
	{ "LDTR base", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(seg[UMBRA_LDTR].base) },
	{ "GDTR base", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(gdtr.base) },
	{ "IDTR base", UMBRA_BAD_HARDWARE, NONCANONICAL, 0, FIELD(idtr.base) },
	{ "GDTR limit", UMBRA_BAD_HARDWARE, 1 << 16, 0, FIELD(gdtr.limit) },
	{ "IDTR limit", UMBRA_BAD_HARDWARE, 1 << 16, 0, FIELD(idtr.limit) },
	{ "intr_shadow bit 2", UMBRA_BAD_HARDWARE, 1 << 2, OR, FIELD(intr_shadow) },
	{ "intr_shadow bit 4", UMBRA_BAD_HARDWARE, 1 << 4, OR, FIELD(intr_shadow) },
	{ "intr_shadow bit 31", UMBRA_BAD_HARDWARE, 1u << 31, OR, FIELD(intr_shadow) },
	{ "intr_shadow STI and MOV SS", UMBRA_BAD_HARDWARE, UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS, OR,
	  FIELD(intr_shadow) },
	{ "pending_dbg bit 4", UMBRA_BAD_HARDWARE, 1 << 4, 0, FIELD(pending_dbg) },
	{ "pending_dbg bit 17", UMBRA_BAD_HARDWARE, 1 << 17, 0, FIELD(pending_dbg) },
	{ "pending_dbg bit 31", UMBRA_BAD_HARDWARE, 1u << 31, 0, FIELD(pending_dbg) },
	{ "pending_dbg bit 63", UMBRA_BAD_HARDWARE, 1ULL << 63, 0, FIELD(pending_dbg), 1 }, /* Bochs: 32 bits of it */
	{ "CS with L and D", UMBRA_BAD_HARDWARE, 1 << 14, OR, FIELD(seg[UMBRA_CS].attr), .svm = UMBRA_BAD_HARDWARE },
	{ "TR not present", UMBRA_BAD_HARDWARE, 0, 0, FIELD(seg[UMBRA_TR].attr) },
	{ "RFLAGS.VM in long mode", UMBRA_BAD_HARDWARE, 1 << 17, OR, FIELD(rflags) },
	{ "RFLAGS bit 63", UMBRA_BAD_HARDWARE, 1ULL << 63, OR, FIELD(rflags) },
	{ "RIP not canonical", UMBRA_BAD_HARDWARE, 1ULL << 60, OR, FIELD(rip), 1 }, /* Bochs: #GP in the guest */
	{ "interrupt with IF clear", UMBRA_BAD_HARDWARE, 2, 0, FIELD(rflags) },

	/* The hardware's field has 32 bits: the others do not exist. */
	{ "SYSENTER_CS bit 32", 0, 1ULL << 32, 0, FIELD(msr.sysenter_cs) },
};

static int is_hardware(const struct state_case *c)
{
	return c->rule == UMBRA_BAD_HARDWARE || c->rule == UMBRA_BAD_ENTRY || !c->rule;
}

static void base_runs(struct vcpu *vcpu, const struct umbra_run *base, const char *after);

/* Not reached by one field alone. */
static void event_cases(struct vcpu *vcpu, const struct umbra_run *base)
{
	static const struct {
		const char *name;
		struct umbra_event event;
		int delivered; /* the CPU takes it: it is the guest's own affair */
	} events[] = {
		{ "length 16", { 0x80, UMBRA_EVENT_SOFT_INT, UMBRA_EVENT_VALID, 16, 0 } },
		{ "exception 32", { 32, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID, 0, 0 } },
		{ "NMI with error code", { 2, UMBRA_EVENT_NMI, UMBRA_EVENT_VALID | UMBRA_EVENT_ERROR_CODE, 0, 0 } },
		{ "#UD with error code", { 6, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID | UMBRA_EVENT_ERROR_CODE, 0, 0 } },
		{ "#GP without error code", { 13, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID, 0, 0 } },
		{ "error code past 16 bits",
		  { 13, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID | UMBRA_EVENT_ERROR_CODE, 0, 1 << 16 } },
		/* No check of VM entry has anything against these. */
		{ "ICEBP of vector 3", { 3, UMBRA_EVENT_ICEBP, UMBRA_EVENT_VALID, 1, 0 }, 1 },
		{ "soft exception 5", { 5, UMBRA_EVENT_SOFT_EXC, UMBRA_EVENT_VALID, 1, 0 }, 1 },
		{ "exception 2", { 2, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID, 0, 0 }, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		struct frame f;

		memcpy(vcpu->run, base, offsetof(struct umbra_run, exit));
		vcpu->run->inject = events[i].event;
		vcpu->run->gpr[UMBRA_RSP] -= events[i].delivered ? 0 : 0x100; /* it goes with what was refused */
		if (events[i].delivered)
			vcpu_expect_vector(vcpu, events[i].event.vector, &f, events[i].name);
		else if (vcpu_exit(vcpu) != VMEXIT_BAD_STATE || vcpu->exit.bad.rule != UMBRA_BAD_ENTRY)
			fail("%s: %s", events[i].name, vcpu_describe(vcpu));
		check(!(vcpu->run->inject.flags & UMBRA_EVENT_VALID), "%s: inject is not cleared", events[i].name);
		base_runs(vcpu, base, events[i].name); /* and it is gone */
	}
}

static int case_applies(const struct state_case *c)
{
	uint64_t xcr0 = info()->guest_xcr0;

	if (c->rule != UMBRA_BAD_XCR0)
		return 1;
	if (!xcr0)
		return c->value != 0;
	return c->value != 2 || (xcr0 & 3) == 3;
}

static void case_apply(const struct state_case *c, struct umbra_run *run)
{
	uint64_t value = 0;
	char *at = (char *)run + c->offset;

	memcpy(&value, at, c->size);
	value = c->or ? value | c->value : c->value;
	memcpy(at, &value, c->size);
	/* An event for the cases about events, one that is valid by itself. */
	if (c->rule == UMBRA_BAD_EVENT || c->rule == UMBRA_BAD_ENTRY || !strcmp(c->name, "interrupt with IF clear")) {
		run->inject.vector = 0x40;
		run->inject.flags |= UMBRA_EVENT_VALID;
	}
	if (!strcmp(c->name, "LDTR base")) /* of one that is not usable it means nothing */
		run->seg[UMBRA_LDTR].attr = 0x82;
}

/* The state is whole again after a refusal: the same guest, with its valid state, runs. */
static void base_runs(struct vcpu *vcpu, const struct umbra_run *base, const char *after)
{
	memcpy(vcpu->run, base, offsetof(struct umbra_run, exit));
	vcpu_expect_io(vcpu, 0x80, after);
	check(vcpu->run->rip == GPA_CODE && vcpu->run->gpr[UMBRA_RSP] == base->gpr[UMBRA_RSP],
	      "%s: then RIP %llx, RSP %llx", after, (unsigned long long)vcpu->run->rip,
	      (unsigned long long)vcpu->run->gpr[UMBRA_RSP]);
}

void negative_state(void)
{
	struct umbra_run base;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
	base_runs(&g.vcpu, &base, "the valid state");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!case_applies(&cases[i]) || is_hardware(&cases[i]))
			continue;
		memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
		case_apply(&cases[i], g.vcpu.run);
		if (vcpu_exit(&g.vcpu) != VMEXIT_BAD_STATE || g.vcpu.exit.bad.rule != cases[i].rule)
			fail("%s: want rule %u, got %s", cases[i].name, cases[i].rule, vcpu_describe(&g.vcpu));
		base_runs(&g.vcpu, &base, cases[i].name);
		/* No entry, the same refusal. */
		memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
		g.vcpu.run->flags = UMBRA_RUN_NO_ENTRY;
		case_apply(&cases[i], g.vcpu.run);
		if (vcpu_exit(&g.vcpu) != VMEXIT_BAD_STATE || g.vcpu.exit.bad.rule != cases[i].rule)
			fail("%s, no entry: want rule %u, got %s", cases[i].name, cases[i].rule,
			     vcpu_describe(&g.vcpu));
	}
	base_runs(&g.vcpu, &base, "all of them");
}

/*
 * With any group dirty besides RIP the whole state is checked, whether or not the bad value's own group is; with RIP
 * alone or nothing, nothing of it is looked at.
 */
void negative_state_whole(void)
{
	struct umbra_run base;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
	base_runs(&g.vcpu, &base, "the valid state");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!case_applies(&cases[i]) || is_hardware(&cases[i]) ||
		    (cases[i].rule < UMBRA_BAD_CR0 && cases[i].offset < offsetof(struct umbra_run, gpr)))
			continue;
		for (unsigned int group = 0; 1u << group <= UMBRA_STATE_ALL; group++) {
			memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
			case_apply(&cases[i], g.vcpu.run);
			g.vcpu.run->dirty = 1u << group;
			vcpu_exit(&g.vcpu);
			if (1u << group == UMBRA_STATE_RIP)
				check(g.vcpu.exit.reason == VMEXIT_IO, "%s, RIP dirty: %s", cases[i].name,
				      vcpu_describe(&g.vcpu));
			else
				check(g.vcpu.exit.reason == VMEXIT_BAD_STATE && g.vcpu.exit.bad.rule == cases[i].rule,
				      "%s, group %u dirty: %s", cases[i].name, group, vcpu_describe(&g.vcpu));
			check(g.vcpu.exit.reason == VMEXIT_IO || g.vcpu.run->dirty == 1u << group,
			      "%s: refused, but dirty is now %llx", cases[i].name,
			      (unsigned long long)g.vcpu.run->dirty);
		}
		memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
		case_apply(&cases[i], g.vcpu.run);
		g.vcpu.run->dirty = 0;
		vcpu_expect_io(&g.vcpu, 0x80, cases[i].name);
		base_runs(&g.vcpu, &base, cases[i].name);
	}
}

void negative_state_hardware(void)
{
	struct umbra_run base;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
	base_runs(&g.vcpu, &base, "the valid state");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct state_case *c = &cases[i];

		if (!is_hardware(c))
			continue;
		memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
		case_apply(c, g.vcpu.run);
		/* A guest gone wild; long where SVM is to refuse it: a deadline that has passed would come first there. */
		g.vcpu.run->deadline_tsc =
			tsc_read() + info()->tsc_khz * (is_svm() && (c->svm || !c->rule) ? 5000ULL : 1ULL);
		vcpu_exit(&g.vcpu);
		if (is_svm() && c->rule)
			check(!c->svm || (g.vcpu.exit.reason == VMEXIT_BAD_STATE && g.vcpu.exit.bad.rule == c->svm),
			      "%s: want rule %u, got %s", c->name, c->svm, vcpu_describe(&g.vcpu));
		else if (c->lax && g.vcpu.exit.reason == VMEXIT_IO)
			note("%s: this CPU does not check it", c->name);
		else if (!c->rule)
			check(g.vcpu.exit.reason == VMEXIT_IO, "%s: %s", c->name, vcpu_describe(&g.vcpu));
		else
			check(g.vcpu.exit.reason == VMEXIT_BAD_STATE && g.vcpu.exit.bad.rule == c->rule,
			      "%s: want rule %u, got %s", c->name, c->rule, vcpu_describe(&g.vcpu));
		base_runs(&g.vcpu, &base, c->name);
	}
	if (!is_svm())
		event_cases(&g.vcpu, &base);
	/* A vCPU that was given nothing at all. */
	{
		struct vcpu fresh;

		vcpu_create(&fresh, &g.vm);
		fresh.run->deadline_tsc = tsc_read() + 1000000;
		if (vcpu_exit(&fresh) != VMEXIT_BAD_STATE && !is_svm()) /* there it is real mode */
			fail("an all-zero state is entered: %s", vcpu_describe(&fresh));
		base_runs(&fresh, &base, "a vCPU whose first entry was refused");
		vcpu_destroy(&fresh);
	}
	base_runs(&g.vcpu, &base, "a second vCPU");
}

/* ---- fields that change while RUN reads them ---- */

static volatile int flip_stop;

struct flipper {
	struct umbra_run *run;
	const struct umbra_run *base;
	uint64_t seed;
};

static void *flip_thread(void *arg)
{
	struct flipper *f = arg;
	volatile unsigned char *bytes = (unsigned char *)f->run;
	const unsigned char *good = (const unsigned char *)f->base;
	uint64_t rounds = 0;

	while (!flip_stop) {
		size_t at = random_next(&f->seed) % sizeof(struct umbra_run);
		unsigned char old = at < offsetof(struct umbra_run, exit) ? good[at] : 0;

		/* The deadline and IF bound the guest; on some emulators nothing else does. */
		if ((at & ~7UL) == offsetof(struct umbra_run, deadline_tsc) ||
		    (at & ~7UL) == offsetof(struct umbra_run, rflags))
			continue;
		bytes[at] = (unsigned char)(old ^ 1 << (random_next(&f->seed) & 7));
		if (random_next(&f->seed) & 7)
			bytes[at] = old;
		if (!(++rounds & 63))
			sched_yield();
	}
	return NULL;
}

void negative_flip(void)
{
	struct flipper flipper;
	unsigned int seen[VMEXIT_REASONS + 1] = { 0 };
	uint64_t end = time_ms() + scaled(4000), seed = 11;
	struct umbra_run base;
	pthread_t thread;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
	base.inject = (struct umbra_event) { 0x40, UMBRA_EVENT_INTR, 0, 0, 0 };
	flipper = (struct flipper) { g.vcpu.run, &base, 12345 };
	need(!pthread_create(&thread, NULL, flip_thread, &flipper), "thread");
	while (time_ms() < end) {
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop)); /* a guest gone wild may have written anywhere */
		for (int i = 0; i < 100; i++) {
			int error;

			memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
			g.vcpu.run->dirty = random_next(&seed) & UMBRA_STATE_ALL;
			g.vcpu.run->deadline_tsc = tsc_read() + 100000;
			vcpu_kick(&g.vcpu); /* bounds it when the deadline is flipped away and IF with it */
			error = vcpu_run(&g.vcpu);
			need(!error, "RUN: %s", strerror(-error));
			error = vcpu_run(&g.vcpu);
			need(!error, "RUN: %s", strerror(-error));
			seen[g.vcpu.exit.reason < VMEXIT_REASONS ? g.vcpu.exit.reason : VMEXIT_REASONS]++;
		}
	}
	flip_stop = 1;
	pthread_join(thread, NULL);
	check(seen[VMEXIT_BAD_STATE] > 0, "the flipper never hit");
	note("flip: %u IO, %u BAD_STATE, %u MEM, %u SHUTDOWN, %u DEADLINE", seen[VMEXIT_IO], seen[VMEXIT_BAD_STATE],
	     seen[VMEXIT_MEM], seen[VMEXIT_SHUTDOWN], seen[VMEXIT_DEADLINE]);
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
	base_runs(&g.vcpu, &base, "after the flipper");
}
