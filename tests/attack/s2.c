// SPDX-License-Identifier: GPL-2.0-or-later
/* S2: MSR and I/O bitmaps, APIC registers: nothing of the host's is passed through. */
#include "attack.h"

#include <pthread.h>

/* All of both bitmaps with a scale of 1000; else where something is. */
#define FULL 1000

static const struct {
	uint32_t first, end;
	unsigned int scale;
} msr_ranges[] = {
	{ 0, 0x200, 0 },
	{ 0x200, 0x800, FULL },
	{ 0x800, 0x840, 0 },
	{ 0x840, 0x1ffc, FULL },
	{ 0x1ffc, 0x2004, 0 },
	{ 0x40000000, 0x40000020, 0 },
	{ 0x40000020, 0x40000200, FULL },
	{ 0x4b564d00, 0x4b564d08, 0 },
	{ 0x80000000, 0x80000004, 0 },
	{ 0xbffffffc, 0xc0000120, 0 },
	{ 0xc0000120, 0xc0001ffc, FULL },
	{ 0xc0001ffc, 0xc0002004, 0 },
	{ 0xc0010000, 0xc0010130, 0 },
	{ 0xc0010130, 0xc0012000, FULL },
	{ 0xfffffffc, 0xffffffff, 0 },
};

/* The list is short: FS, GS and KERNEL_GS base, SYSENTER; on VMX the TSC with its offset may be read. */
static int msr_passes(uint32_t msr, int write)
{
	return (msr >= 0xc0000100 && msr <= 0xc0000102) || (msr >= 0x174 && msr <= 0x176) ||
	       (!write && msr == 0x10 && !is_svm());
}

static void msr_sweep(int write, uint64_t value)
{
	unsigned int exits = 0, passed = 0;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(msr_all));
	run = g.vcpu.run;
	for (size_t i = 0; i < ARRAY_SIZE(msr_ranges); i++) {
		uint32_t next = msr_ranges[i].first;

		if (msr_ranges[i].scale > test_scale)
			continue;
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(msr_all));
		run->gpr[UMBRA_RCX] = next;
		run->gpr[UMBRA_RBX] = msr_ranges[i].end;
		run->gpr[8] = (uint64_t)write;
		run->gpr[9] = (uint32_t)value;
		run->gpr[10] = value >> 32;
		run->exceptions = 1 << 13;
		while (next != msr_ranges[i].end) {
			uint32_t reason = vcpu_exit(&g.vcpu), at = (uint32_t)run->gpr[UMBRA_RCX];

			for (; next != at; next++, passed++)
				check(msr_passes(next, write), "%s of MSR %x does not exit", write ? "WRMSR" : "RDMSR",
				      next);
			if (reason == VMEXIT_IO)
				break;
			need(reason == VMEXIT_RDMSR || reason == VMEXIT_WRMSR || reason == VMEXIT_EXCEPTION, "%s",
			     vcpu_describe(&g.vcpu));
			check(reason != VMEXIT_EXCEPTION || msr_passes(at, write), "MSR %x is left to the CPU", at);
			exits++;
			next++;
			run->rip += 2;
			run->dirty |= UMBRA_STATE_RIP;
		}
	}
	note("%s %llx: %u exits, %u pass", write ? "WRMSR" : "RDMSR", (unsigned long long)value, exits, passed);
	check(exits > 1000, "only %u exits", exits);
	vcpu_destroy(&g.vcpu);
	vm_destroy(&g.vm);
}

ATTACK(s2_msr_read)
{
	msr_sweep(0, 0);
}

ATTACK(s2_msr_write)
{
	msr_sweep(1, ~0ULL);
	msr_sweep(1, 0xffff8000deadbeef);
}

/* Those that do pass hold garbage while the thread is interrupted, migrates and calls the kernel. */
ATTACK(s2_passed_msrs)
{
	static const uint32_t msrs[] = { 0xc0000100, 0xc0000101, 0xc0000102, 0x174, 0x175, 0x176 };
	static const uint64_t values[] = { 0,	   0xffff8000deadb000, 0x7fffffffffff, 0xffffffffffffffff,
					   0x1000, 0x8000000000000000 /* not canonical */ };
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(msr_all));
	run = g.vcpu.run;
	for (uint64_t round = 0; round < scaled(60); round++) {
		uint64_t value = values[round / ARRAY_SIZE(msrs) % ARRAY_SIZE(values)];
		uint32_t msr = msrs[round % ARRAY_SIZE(msrs)];

		cpu_pin((int)(round % (unsigned int)cpu_count_online()));
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(msr_all));
		memcpy(g.vm.mem + GPA_CODE + 0x100, "\xeb\xfe", 2); /* then spins */
		run->gpr[UMBRA_RCX] = msr;
		run->gpr[UMBRA_RBX] = msr + 1;
		run->gpr[8] = 1;
		run->gpr[9] = (uint32_t)value;
		run->gpr[10] = value >> 32;
		run->exceptions = 1 << 13;
		run_bounded(&g.vcpu, LONG);
		need(g.vcpu.exit.reason == VMEXIT_IO || g.vcpu.exit.reason == VMEXIT_EXCEPTION, "%s",
		     vcpu_describe(&g.vcpu));
		run->rip = GPA_CODE + 0x100;
		run->dirty |= UMBRA_STATE_RIP;
		run_bounded(&g.vcpu, 5);
		check(g.vcpu.exit.reason == VMEXIT_DEADLINE, "%s", vcpu_describe(&g.vcpu));
	}
	cpu_pin(-1);
}

/* CPL 3, IOPL 3 and an I/O bitmap that allows all: each port exits all the same. */
ATTACK(s2_ports)
{
	/* exits/io_sweep goes through all of them at CPL 0, in part. */
	unsigned int port = test_scale >= FULL ? 0 : 0xf000;
	struct guest g;

	guest_new(&g, MODE_USER64, SNIPPET(ports_all));
	g.vcpu.run->gpr[UMBRA_RDX] = port;
	memset(g.vm.mem + GPA_TSS + 0x68, 0, 0xf00);
	g.vcpu.run->rflags |= 3 << 12;
	for (unsigned int n = 2 * port; n < 2 * 0x10000; n++) {
		vcpu_expect(&g.vcpu, VMEXIT_IO, "sweep");
		need(g.vcpu.exit.io.port == n / 2 && (g.vcpu.exit.io.flags & VMEXIT_IO_IN) == !(n & 1),
		     "port %x does not exit: next is %x", n / 2, g.vcpu.exit.io.port);
		vcpu_skip(&g.vcpu);
	}
	vcpu_expect_io(&g.vcpu, PORT_DONE, "sweep");
}

static volatile int apic_stop;

static void *vapic_thread(void *arg)
{
	volatile uint64_t *page = arg;
	uint64_t seed = 3;

	while (!apic_stop)
		page[random_next(&seed) % 512] = random_next(&seed);
	return NULL;
}

/* The host's APIC is not to be had by its address, nor by CR8 with garbage in the virtual-APIC page. */
ATTACK(s2_apic)
{
	static const uint64_t bases[] = { 0xfee00000, 0xfec00000, 0xfed00000, 0xfff00000 };
	uint64_t entry, priorities = 0;
	struct umbra_run *run;
	pthread_t thread;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(load));
	run = g.vcpu.run;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		for (uint64_t offset = 0; offset < PAGE; offset += 0x70) {
			int store = (offset / 0x70) & 1;

			if (store)
				vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(store));
			else
				vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
			entry = (bases[i] & ~0x1fffffULL) | 0x87;
			memcpy(g.vm.mem + GPA_PD + 511 * 8, &entry, 8);
			run->gpr[UMBRA_RDI] = (511ULL << 21) + (bases[i] & 0x1fffff) + offset;
			run->flags = UMBRA_RUN_FLUSH_TLB;
			run_bounded(&g.vcpu, LONG);
			need(g.vcpu.exit.reason == VMEXIT_MEM && g.vcpu.exit.mem.gpa == bases[i] + offset, "%llx: %s",
			     (unsigned long long)(bases[i] + offset), vcpu_describe(&g.vcpu));
		}
	}
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(cr8_all));
	need(!pthread_create(&thread, NULL, vapic_thread, (char *)run + info()->vapic_offset), "thread");
	for (uint64_t i = 0; i < scaled(1000); i++) {
		run->tpr_threshold = i & 15;
		if (vcpu_exit(&g.vcpu) == VMEXIT_IO || g.vcpu.exit.reason == VMEXIT_CR)
			vcpu_skip(&g.vcpu);
		else
			need(g.vcpu.exit.reason == VMEXIT_TPR || g.vcpu.exit.reason == VMEXIT_BAD_STATE, "%s",
			     vcpu_describe(&g.vcpu));
		priorities++;
	}
	apic_stop = 1;
	pthread_join(thread, NULL);
	check(priorities > 0, "nothing ran");
}

int s2_main(void)
{
	static const struct test tests[] = {
		{ "msr_read", s2_msr_read, 90 },
		{ "msr_write", s2_msr_write, 120 },
		{ "passed_msrs", s2_passed_msrs, 60 },
		{ "ports", s2_ports, 120 },
		{ "apic", s2_apic, 90 },
	};

	return run_tests("attack.s2", tests, ARRAY_SIZE(tests));
}
