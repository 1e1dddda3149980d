// SPDX-License-Identifier: GPL-2.0-or-later
/* S4: what is loaded into host CPU state is checked first. */
#include "attack.h"

#define FIELD(member) offsetof(struct umbra_run, member)

static struct guest g;
static struct umbra_run base;

static void guest_start(void)
{
	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
}

/* The rule that the state with this value in this field breaks; 0: it is none of the shim's. */
static uint32_t rule_of(size_t offset, uint64_t value)
{
	memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
	memcpy((char *)g.vcpu.run + offset, &value, 8);
	run_bounded(&g.vcpu, 1);
	if (g.vcpu.exit.reason == VMEXIT_BAD_STATE)
		return g.vcpu.exit.bad.rule < UMBRA_BAD_CONTROL ? 0 : g.vcpu.exit.bad.rule;
	if (g.vcpu.exit.reason != VMEXIT_IO)
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
	return 0;
}

static void bits_of(size_t offset, uint64_t may, uint32_t rule, const char *name)
{
	uint64_t good;

	memcpy(&good, (char *)&base + offset, 8);
	for (unsigned int bit = 0; bit < 64; bit++) {
		uint32_t want = may & 1ULL << bit ? 0 : rule, got = rule_of(offset, good | 1ULL << bit);

		check(got == want, "%s bit %u: rule %u, want %u", name, bit, got, want);
		run_good(&g.vcpu, &base, name);
	}
	check(rule_of(offset, ~0ULL) == rule, "%s all ones: rule %u", name, g.vcpu.exit.bad.rule);
}

ATTACK(s4_control_registers)
{
	guest_start();
	check(!(info()->guest_cr4 & (1 << 13 | 1 << 14 | 1 << 12 | 1 << 22 | 1 << 23 | 1 << 24)),
	      "CR4 bits that the shim does not manage: %llx", (unsigned long long)info()->guest_cr4);
	check(!(info()->guest_efer & 1 << 12), "EFER.SVME: %llx", (unsigned long long)info()->guest_efer);
	bits_of(FIELD(cr0), info()->guest_cr0, UMBRA_BAD_CR0, "CR0");
	bits_of(FIELD(cr4), info()->guest_cr4, UMBRA_BAD_CR4, "CR4");
	bits_of(FIELD(efer), info()->guest_efer, UMBRA_BAD_EFER, "EFER");
}

/* By SDM 1 13.3, written apart from the shim's own. */
static int xcr0_legal(uint64_t v)
{
	uint64_t may = info()->guest_xcr0;

	if (!may)
		return v == 0;
	if (v & ~may || !(v & 1))
		return 0;
	if (v & 4 && !(v & 2))
		return 0;
	return !(v & 0xe0) || ((v & 0xe0) == 0xe0 && (v & 6) == 6);
}

ATTACK(s4_xcr0)
{
	uint64_t v, seed = 8;

	guest_start();
	check(!(info()->guest_xcr0 & ~0xe7ULL), "XCR0 bits that the shim does not manage: %llx",
	      (unsigned long long)info()->guest_xcr0);
	if (info()->guest_cr4 & 1 << 18)
		base.cr4 |= 1 << 18; /* OSXSAVE: it is really loaded */
	for (uint64_t i = 0; i < 0x400 + 64 + 200; i++) {
		uint32_t rule;

		v = i < 0x400 ? i : i < 0x440 ? 1ULL << (i - 0x400) | 3 : random_next(&seed);
		rule = rule_of(FIELD(xcr0), v);
		check(rule == (xcr0_legal(v) ? 0 : UMBRA_BAD_XCR0), "XCR0 %llx: rule %u", (unsigned long long)v, rule);
		if (!(i & 15))
			run_good(&g.vcpu, &base, "XCR0");
	}
}

static int is_canonical(uint64_t a)
{
	return a < 1ULL << 47 || a >= ~0ULL << 47;
}

static int pat_legal(uint64_t pat)
{
	for (int i = 0; i < 8; i++, pat >>= 8)
		if ((pat & 0xff) > 7 || (pat & 0xfe) == 2)
			return 0;
	return 1;
}

ATTACK(s4_msr_values)
{
	static const struct {
		const char *name;
		size_t offset;
		int kind; /* 0: any, 1: canonical, 2: 32 bits, 3: the CPU's affair */
	} fields[] = {
		{ "STAR", FIELD(msr.star), 0 },
		{ "LSTAR", FIELD(msr.lstar), 1 },
		{ "CSTAR", FIELD(msr.cstar), 1 },
		{ "FMASK", FIELD(msr.fmask), 2 },
		{ "TSC_AUX", FIELD(msr.tsc_aux), 2 },
		{ "SYSENTER_CS", FIELD(msr.sysenter_cs), 3 },
		{ "SYSENTER_ESP", FIELD(msr.sysenter_esp), 3 },
		{ "SYSENTER_EIP", FIELD(msr.sysenter_eip), 3 },
		{ "PAT", FIELD(msr.pat), 3 },
	};
	uint64_t seed = 21;

	guest_start();
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		for (unsigned int n = 0; n < 64 * 3 + 50; n++) {
			uint64_t bit = 1ULL << (n & 63), v = n < 64    ? bit
							     : n < 128 ? ~bit
							     : n < 192 ? -bit
								       : random_next(&seed);
			uint32_t want = 0, got = rule_of(fields[i].offset, v);

			if ((fields[i].kind == 1 && !is_canonical(v)) || (fields[i].kind == 2 && v >> 32))
				want = UMBRA_BAD_MSR;
			check(got == want, "%s %llx: rule %u, want %u", fields[i].name, (unsigned long long)v, got,
			      want);
			if (fields[i].offset == FIELD(msr.pat) && !is_svm())
				check((g.vcpu.exit.reason == VMEXIT_BAD_STATE) == !pat_legal(v), "PAT %llx: %s",
				      (unsigned long long)v, vcpu_describe(&g.vcpu));
			if (!(n & 15))
				run_good(&g.vcpu, &base, fields[i].name);
		}
	}
}

/* DR0 to DR3 and DR7 hold anything while the watchers' own watchpoints are in use. */
ATTACK(s4_debug)
{
	uint64_t seed = 77;

	guest_start();
	for (uint64_t i = 0; i < scaled(800); i++) {
		memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
		for (int n = 0; n < 4; n++)
			g.vcpu.run->dr[n] = random_next(&seed) & (i & 1 ? ~0ULL : 0x3fffff);
		g.vcpu.run->dr7 = i & 2 ? random_next(&seed) : 0x400 | (random_next(&seed) & 0xffff03ff);
		run_bounded(&g.vcpu, 5);
		if (!(i & 15)) {
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
			run_good(&g.vcpu, &base, "debug registers");
		}
	}
}

/* Segments, descriptor tables and event fields at random: refused by the CPU or the guest's own affair. */
ATTACK(s4_segments)
{
	unsigned int seen[VMEXIT_REASONS + 1] = { 0 };
	uint64_t seed = 31;

	guest_start();
	for (uint64_t i = 0; i < scaled(1500); i++) {
		struct umbra_run *run = g.vcpu.run;
		struct umbra_segment *s;

		memcpy(run, &base, offsetof(struct umbra_run, exit));
		for (uint64_t n = random_next(&seed) % 4 + 1; n; n--) {
			s = &run->seg[random_next(&seed) % UMBRA_SEGS];
			if (is_svm() && s == &run->seg[UMBRA_TR])
				s--; /* QEMU 7.2 aborts over a TSS of an unknown type */
			switch (random_next(&seed) % 6) {
			case 0:
				s->selector = (uint16_t)random_next(&seed);
				break;
			case 1:
				s->attr = (uint16_t)random_next(&seed);
				break;
			case 2:
				s->limit = (uint32_t)random_next(&seed);
				break;
			case 3:
				s->base = random_next(&seed);
				break;
			case 4:
				run->gdtr.base = random_next(&seed);
				run->idtr.base = random_next(&seed);
				break;
			case 5:
				run->gdtr.limit = (uint32_t)random_next(&seed);
				run->idtr.limit = (uint32_t)random_next(&seed);
				break;
			}
		}
		if (i & 1) {
			uint64_t event = random_next(&seed);

			memcpy(&run->inject, &event, 8);
			run->inject.type %= 7;
			run->inject.flags = UMBRA_EVENT_VALID | (run->inject.flags & UMBRA_EVENT_ERROR_CODE);
		}
		run_bounded(&g.vcpu, 1);
		seen[g.vcpu.exit.reason < VMEXIT_REASONS ? g.vcpu.exit.reason : VMEXIT_REASONS]++;
		if (!(i & 15) || (g.vcpu.exit.reason != VMEXIT_BAD_STATE && g.vcpu.exit.reason != VMEXIT_IO)) {
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
			run_good(&g.vcpu, &base, "segments");
		}
	}
	note("%u IO, %u BAD_STATE, %u MEM, %u SHUTDOWN, %u DEADLINE", seen[VMEXIT_IO], seen[VMEXIT_BAD_STATE],
	     seen[VMEXIT_MEM], seen[VMEXIT_SHUTDOWN], seen[VMEXIT_DEADLINE]);
}

int s4_main(void)
{
	static const struct test tests[] = {
		{ "control_registers", s4_control_registers, 60 },
		{ "xcr0", s4_xcr0, 60 },
		{ "msr_values", s4_msr_values, 90 },
		{ "debug", s4_debug, 60 },
		{ "segments", s4_segments, 90 },
	};

	return run_tests("attack.s4", tests, ARRAY_SIZE(tests));
}
