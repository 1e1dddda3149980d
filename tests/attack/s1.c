// SPDX-License-Identifier: GPL-2.0-or-later
/* S1: control fields come from the shim's tables; input is copied once, checked, used. */
#include "attack.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORD(member) (offsetof(struct umbra_run, member) / 8)
#define CONTROL_WORDS (offsetof(struct umbra_run, gpr) / 8)

/* The rule that one flipped bit of the control part breaks, or 0. */
static uint32_t control_rule(size_t word, unsigned int bit)
{
	switch (word) {
	case WORD(dirty):
	case WORD(want):
	case WORD(want_emul):
		return bit < 8 ? 0 : UMBRA_BAD_CONTROL;
	case WORD(intercepts): /* exceptions above it */
		return bit < 4 || bit >= 32 ? 0 : UMBRA_BAD_CONTROL;
	case WORD(flags): /* tpr_threshold above it */
		return bit < 2 || (bit >= 32 && bit < 36) ? 0 : UMBRA_BAD_CONTROL;
	case WORD(inject): /* vector, type (0 to 6), flags, insn_len, error_code */
		return (bit >= 18 && bit < 24) || (bit >= 11 && bit < 16) ? UMBRA_BAD_EVENT : 0;
	case WORD(reserved[0]):
	case WORD(reserved[1]):
		return UMBRA_BAD_CONTROL;
	}
	return 0;
}

ATTACK(s1_control_bits)
{
	struct umbra_run base;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
	for (size_t word = 0; word < CONTROL_WORDS; word++) {
		for (unsigned int bit = 0; bit < 64; bit++) {
			uint32_t want = control_rule(word, bit), rule;

			memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
			((uint64_t *)g.vcpu.run)[word] ^= 1ULL << bit;
			need(!vcpu_run(&g.vcpu), "RUN");
			rule = g.vcpu.exit.reason == VMEXIT_BAD_STATE ? g.vcpu.exit.bad.rule : 0;
			if (want)
				check(rule == want, "word %zu bit %u: rule %u, want %u", word, bit, rule, want);
			else
				check(rule != UMBRA_BAD_CONTROL && rule != UMBRA_BAD_EVENT, "word %zu bit %u: rule %u",
				      word, bit, rule);
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
			run_good(&g.vcpu, &base, "a control bit");
		}
	}
}

static void bits_refused(int fd, unsigned long nr, uint64_t *arg, size_t word, uint64_t bits, const char *what)
{
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(bits & 1ULL << bit))
			continue;
		arg[word] ^= 1ULL << bit;
		errno = 0;
		check(ioctl(fd, nr, arg) < 0 && errno == EINVAL, "%s, word %zu bit %u: %s", what, word, bit,
		      strerror(errno));
		arg[word] ^= 1ULL << bit;
	}
}

/* Each bit of each field that must be zero. */
ATTACK(s1_reserved)
{
	union {
		struct umbra_create_vm vm;
		struct umbra_create_vcpu vcpu;
		struct umbra_region region;
		struct umbra_dirty dirty;
		uint64_t word[8];
	} u = { 0 };
	uint64_t bitmap[8];
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (size_t word = 0; word < sizeof(u.vm) / 8; word++)
		bits_refused(g.vm.dev, UMBRA_CREATE_VM, u.word, word, ~0ULL, "CREATE_VM");
	for (size_t word = 0; word < sizeof(u.vcpu) / 8; word++)
		bits_refused(g.vm.fd, UMBRA_VM_CREATE_VCPU, u.word, word, ~0ULL, "CREATE_VCPU");
	u.region = (struct umbra_region) { .slot = 1, .gpa = GPA_HOLE, .addr = (uintptr_t)g.vm.mem, .size = 64 * PAGE };
	bits_refused(g.vm.fd, UMBRA_VM_SET_REGION, u.word, 0, ~511ULL, "SET_REGION slot, reserved");
	bits_refused(g.vm.fd, UMBRA_VM_SET_REGION, u.word, 1, ~7ULL, "SET_REGION flags");
	u.region.flags = UMBRA_REGION_LOG_DIRTY;
	need(!ioctl(g.vm.fd, UMBRA_VM_SET_REGION, &u.region), "SET_REGION: %s", strerror(errno));
	u.dirty = (struct umbra_dirty) { .slot = 1, .pages = 64, .bitmap = (uintptr_t)bitmap };
	bits_refused(g.vm.fd, UMBRA_VM_GET_DIRTY, u.word, 0, ~511ULL, "GET_DIRTY slot, reserved");
	bits_refused(g.vm.fd, UMBRA_VM_GET_DIRTY, u.word, 1, ~0ULL, "GET_DIRTY first_page");
	check(counter_read("vms") == 2 && counter_read("vcpus") == 2, "something was made: %ld VMs, %ld vCPUs",
	      counter_read("vms"), counter_read("vcpus"));
}

/* Whatever the shadow asks for, what must exit exits. */
ATTACK(s1_mandatory)
{
	struct snippet code = SNIPPET(mandatory);
	uint64_t seed = 5;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, code);
	run = g.vcpu.run;
	for (uint32_t round = 0; round < 16 * 4; round++) {
		vcpu_load(&g.vcpu, MODE_LONG64, code);
		run->intercepts = round & UMBRA_ICPT_ALL & ~(uint32_t)(UMBRA_ICPT_INTR_WINDOW | UMBRA_ICPT_NMI_WINDOW);
		run->exceptions = (uint32_t[]) { 0, ~0u, (uint32_t)random_next(&seed), 1u << (round & 31) }[round >> 4];
		run->tpr_threshold = is_svm() ? round & 15 : 0; /* VMX: not above the TPR */
		run->tsc_offset = random_next(&seed);
		for (const struct snip_at *at = code.at; at->len; at++) {
			uint64_t rip = GPA_CODE + at->where - (uintptr_t)code.start;

			run_bounded(&g.vcpu, LONG);
			need(run->rip == rip, "intercepts %x, exceptions %x: the instruction at %llx did not exit: %s",
			     run->intercepts, run->exceptions, (unsigned long long)(rip - GPA_CODE),
			     vcpu_describe(&g.vcpu));
			check(run->exit.reason == UMBRA_EXIT_HARDWARE, "at %llx: %s", (unsigned long long)rip,
			      vcpu_describe(&g.vcpu));
			run->rip = rip + at->len;
			run->dirty |= UMBRA_STATE_RIP;
		}
	}
}

/* Instructions of hypervisors, of SMM, of enclaves, and of what the shim does not manage. */
ATTACK(s1_vm_instructions)
{
	static const struct {
		const char *name;
		const char *bytes;
		size_t size;
		int lax; /* QEMU 7.2 takes it for another instruction, which does nothing */
	} insns[] = {
#define INSN(name, bytes) { name, bytes, sizeof(bytes) - 1, 0 }
#define INSN_LAX(name, bytes)                     \
	{                                         \
		name, bytes, sizeof(bytes) - 1, 1 \
	}
		INSN("VMCALL", "\x0f\x01\xc1"),
		INSN("VMLAUNCH", "\x0f\x01\xc2"),
		INSN("VMRESUME", "\x0f\x01\xc3"),
		INSN("VMXOFF", "\x0f\x01\xc4"),
		INSN("VMFUNC", "\x0f\x01\xd4"),
		INSN("VMXON", "\xf3\x0f\xc7\x37"),
		INSN("VMCLEAR", "\x66\x0f\xc7\x37"),
		INSN("VMPTRLD", "\x0f\xc7\x37"),
		INSN("VMPTRST", "\x0f\xc7\x3f"),
		INSN("VMREAD", "\x0f\x78\xc0"),
		INSN("VMWRITE", "\x0f\x79\xc0"),
		INSN("INVEPT", "\x66\x0f\x38\x80\x07"),
		INSN("INVVPID", "\x66\x0f\x38\x81\x07"),
		INSN("GETSEC", "\x0f\x37"),
		INSN("VMRUN", "\x0f\x01\xd8"),
		INSN("VMMCALL", "\x0f\x01\xd9"),
		INSN("VMLOAD", "\x0f\x01\xda"),
		INSN("VMSAVE", "\x0f\x01\xdb"),
		INSN("STGI", "\x0f\x01\xdc"),
		INSN("CLGI", "\x0f\x01\xdd"),
		INSN("SKINIT", "\x0f\x01\xde"),
		INSN("INVLPGA", "\x0f\x01\xdf"),
		INSN("RSM", "\x0f\xaa"),
		INSN("ENCLS", "\x0f\x01\xcf"),
		INSN("ENCLV", "\x0f\x01\xc0"),
		INSN("PCONFIG", "\x0f\x01\xc5"),
		INSN("XSAVES", "\x0f\xc7\x2f"),
		INSN("XRSTORS", "\x0f\xc7\x1f"),
		INSN("RDPKRU", "\x0f\x01\xee"),
		INSN("WRPKRU", "\x0f\x01\xef"),
		INSN("MONITORX", "\x0f\x01\xfa"),
		INSN("MWAITX", "\x0f\x01\xfb"),
		INSN("RDPRU", "\x0f\x01\xfd"),
		INSN("INVLPGB", "\x0f\x01\xfe"),
		INSN("TLBSYNC", "\x0f\x01\xff"),
		INSN("WBNOINVD", "\xf3\x0f\x09"),
		INSN("WBINVD", "\x0f\x09"),
		INSN_LAX("UMWAIT", "\xf2\x0f\xae\xf0"),
		INSN_LAX("TPAUSE", "\x66\x0f\xae\xf0"),
		INSN("ENQCMDS", "\xf3\x0f\x38\xf8\x07"),
		INSN("SEAMCALL", "\x66\x0f\x01\xcf"),
		INSN("UIRET", "\xf3\x0f\x01\xec"),
		INSN("SETSSBSY", "\xf3\x0f\x01\xe8"),
	};
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	run = g.vcpu.run;
	for (size_t i = 0; i < ARRAY_SIZE(insns); i++) {
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
		memcpy(g.vm.mem + GPA_CODE, insns[i].bytes, insns[i].size);
		memcpy(g.vm.mem + GPA_CODE + insns[i].size, "\xe6\xdd", 2); /* OUT to the done port */
		run->exceptions = 1 << 6 | 1 << 7 | 1 << 13;
		run->gpr[UMBRA_RAX] = run->gpr[UMBRA_RDI] = GPA_DATA;
		run_bounded(&g.vcpu, LONG);
		if (insns[i].lax && is_svm() && g.vcpu.exit.reason == VMEXIT_IO)
			continue;
		check(run->rip == GPA_CODE && run->exit.reason == UMBRA_EXIT_HARDWARE, "%s: %s", insns[i].name,
		      vcpu_describe(&g.vcpu));
	}
}

/* ---- values that change between the shim's look and its use ---- */

struct flip {
	volatile uint64_t *at;
	uint64_t good, bad;
	volatile int go, idle, end;
};

static void *flip_thread(void *arg)
{
	struct flip *f = arg;

	while (!f->end) {
		f->idle = !f->go;
		if (f->idle) {
			sched_yield();
			continue;
		}
		for (int i = 0; i < 64; i++) {
			*f->at = f->bad;
			*f->at = f->good;
		}
	}
	return NULL;
}

/* What was taken over is what was checked: it is read back without an entry, the flipper standing still. */
static void flip_field(struct guest *g, const struct umbra_run *base, size_t offset, uint64_t bad, uint64_t group)
{
	struct flip f = { .at = (uint64_t *)((char *)g->vcpu.run + offset), .bad = bad };
	uint64_t taken = 0, refused = 0, rounds = scaled(400), got;
	struct umbra_run *run = g->vcpu.run;
	pthread_t thread;

	memcpy(&f.good, (const char *)base + offset, 8);
	cpu_pin(cpu_count_online() - 1);
	need(!pthread_create(&thread, NULL, flip_thread, &f), "thread"); /* on the last CPU */
	cpu_pin(0);
	for (uint64_t i = 0; i < rounds; i++) {
		memcpy(run, base, offsetof(struct umbra_run, exit));
		run->flags = UMBRA_RUN_NO_ENTRY;
		f.go = 1;
		for (int spins = 0; f.idle && spins < 10000; spins++)
			__builtin_ia32_pause();
		need(!vcpu_run(&g->vcpu), "RUN");
		f.go = 0;
		while (!f.idle)
			sched_yield();
		if (g->vcpu.exit.reason == VMEXIT_BAD_STATE) {
			refused++;
			continue;
		}
		taken++;
		need(g->vcpu.exit.reason == VMEXIT_NONE, "%s", vcpu_describe(&g->vcpu));
		run->dirty = 0;
		run->want = group;
		run->flags = UMBRA_RUN_NO_ENTRY;
		*f.at = f.good;
		need(!vcpu_run(&g->vcpu) && g->vcpu.exit.reason == VMEXIT_NONE, "%s", vcpu_describe(&g->vcpu));
		got = *f.at;
		need(got == f.good, "offset %zu: checked %llx, took over %llx", offset, (unsigned long long)f.good,
		     (unsigned long long)got);
	}
	f.end = 1;
	pthread_join(thread, NULL);
	cpu_pin(-1);
	note("offset %zu: %llu taken, %llu refused", offset, (unsigned long long)taken, (unsigned long long)refused);
	check(taken && refused, "the flipper never hit: %llu taken, %llu refused", (unsigned long long)taken,
	      (unsigned long long)refused);
}

ATTACK(s1_double_fetch)
{
	struct umbra_run base;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
	flip_field(&g, &base, offsetof(struct umbra_run, cr4), base.cr4 | 1 << 13, UMBRA_STATE_CR);
	flip_field(&g, &base, offsetof(struct umbra_run, efer), base.efer | 1 << 16, UMBRA_STATE_CR);
	flip_field(&g, &base, offsetof(struct umbra_run, cr0), base.cr0 | 1 << 8, UMBRA_STATE_CR);
	run_good(&g.vcpu, &base, "the flipper");
}

/* Each bit of the whole run area by itself: refused, or the guest's own affair. */
ATTACK(s1_every_bit)
{
	unsigned int seen[VMEXIT_REASONS + 1] = { 0 };
	struct umbra_run base;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	memcpy(&base, g.vcpu.run, sizeof(base));
	base.want = UMBRA_STATE_ALL;
	for (size_t at = offsetof(struct umbra_run, gpr) * 8; at < offsetof(struct umbra_run, exit) * 8; at++) {
		memcpy(g.vcpu.run, &base, offsetof(struct umbra_run, exit));
		((unsigned char *)g.vcpu.run)[at / 8] ^= (unsigned char)(1 << at % 8);
		run_bounded(&g.vcpu, 1);
		seen[g.vcpu.exit.reason < VMEXIT_REASONS ? g.vcpu.exit.reason : VMEXIT_REASONS]++;
		if (g.vcpu.exit.reason != VMEXIT_BAD_STATE && g.vcpu.exit.reason != VMEXIT_IO)
			vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop)); /* it may have written anywhere */
		run_good(&g.vcpu, &base, "a bit");
	}
	note("%u IO, %u BAD_STATE, %u MEM, %u SHUTDOWN, %u DEADLINE", seen[VMEXIT_IO], seen[VMEXIT_BAD_STATE],
	     seen[VMEXIT_MEM], seen[VMEXIT_SHUTDOWN], seen[VMEXIT_DEADLINE]);
	check(seen[VMEXIT_BAD_STATE] > 300, "only %u refusals", seen[VMEXIT_BAD_STATE]);
}

int s1_main(void)
{
	static const struct test tests[] = {
		{ "control_bits", s1_control_bits, 60 }, { "reserved", s1_reserved, 30 },
		{ "mandatory", s1_mandatory, 60 },	 { "vm_instructions", s1_vm_instructions, 30 },
		{ "double_fetch", s1_double_fetch, 90 }, { "every_bit", s1_every_bit, 120 },
	};

	return run_tests("attack.s1", tests, ARRAY_SIZE(tests));
}
