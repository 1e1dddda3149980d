// SPDX-License-Identifier: GPL-2.0-or-later
#include <check.h>
#include <errno.h>
#include <string.h>

#include "fakes.h"

/* One APIC: registers, modes, priorities, EOI, PV EOI, timer, state. */

static void setup(void)
{
	fake_machine(1);
}

static int take(struct vcpu *vcpu)
{
	int vector = lapic_pending(vcpu);

	if (vector >= 0)
		lapic_accept(vcpu, vector);
	return vector;
}

static int msr_get(uint32_t msr, uint64_t *value)
{
	*value = 0xdeadbeefdeadbeef;
	return lapic_msr_read(cpu, msr, value);
}

static uint64_t msr_value(uint32_t msr)
{
	uint64_t value;

	ck_assert_int_eq(lapic_msr_read(cpu, msr, &value), 0);
	return value;
}

START_TEST(reset_values)
{
	lapic_reset(cpu, false);
	ck_assert_uint_eq(cpu->apic_base, 0xfee00900);
	ck_assert(cpu->lapic.enabled && !cpu->lapic.x2apic);
	ck_assert_uint_eq(reg_read(cpu, APIC_ID), 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_VERSION), 0x1050014);
	ck_assert_uint_eq(reg_read(cpu, APIC_SVR), 0xff);
	ck_assert_uint_eq(reg_read(cpu, APIC_DFR), 0xffffffff);
	ck_assert_uint_eq(reg_read(cpu, APIC_LVT_LINT0), 0x700);
	for (uint32_t reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg += 16)
		if (reg != APIC_LVT_LINT0)
			ck_assert_uint_eq(reg_read(cpu, reg), 0x10000);
	for (uint32_t reg = 0; reg < 0x400; reg += 16)
		if (reg != APIC_VERSION && reg != APIC_SVR && reg != APIC_DFR &&
		    (reg < APIC_LVT_TIMER || reg > APIC_LVT_ERROR))
			ck_assert_uint_eq(reg_read(cpu, reg), 0);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	ck_assert(lapic_accepts_pic(cpu));
	/* LINT0 is open on the vCPU that boots only. */
	cpu->apic_base = 0;
	lapic_reset(cpu, false);
	ck_assert_uint_eq(cpu->apic_base, 0xfee00800);
	ck_assert_uint_eq(reg_read(cpu, APIC_LVT_LINT0), 0x10000);
	ck_assert(!lapic_accepts_pic(cpu));
}
END_TEST

START_TEST(version_follows_cpuid)
{
	fake_has_x2apic = false;
	ck_assert_uint_eq(reg_read(cpu, APIC_VERSION), 0x50014);
	reg_write(cpu, APIC_SVR, 0x11ff);
	ck_assert_uint_eq(reg_read(cpu, APIC_SVR), 0x1ff);
	fake_has_x2apic = true;
	ck_assert_uint_eq(reg_read(cpu, APIC_VERSION), 0x1050014);
	reg_write(cpu, APIC_SVR, 0x11ff);
	ck_assert_uint_eq(reg_read(cpu, APIC_SVR), 0x11ff);
}
END_TEST

/* offset, written, read back */
static const uint32_t masks[][3] = {
	{ APIC_ID, 0xffffffff, 0xff000000 },
	{ APIC_VERSION, 0, 0x1050014 },
	{ APIC_TPR, 0xffffffff, 0xff },
	{ APIC_PPR, 0xff, 0 },
	{ APIC_LDR, 0x12345678, 0x12000000 },
	{ APIC_DFR, 0, 0x0fffffff },
	{ APIC_SVR, 0xffffffff, 0x13ff },
	{ APIC_ISR, 0xffffffff, 0 },
	{ APIC_TMR + 0x70, 0xffffffff, 0 },
	{ APIC_IRR + 0x10, 0xffffffff, 0 },
	{ APIC_ICR2, 0x12345678, 0x12000000 },
	{ APIC_LVT_TIMER, 0xffffffff, 0x700ff },
	{ APIC_LVT_THERMAL, 0xffffffff, 0x107ff },
	{ APIC_LVT_PERF, 0xffffffff, 0x107ff },
	{ APIC_LVT_LINT0, 0xffffffff, 0x1a7ff },
	{ APIC_LVT_LINT1, 0xffffffff, 0x1a7ff },
	{ APIC_LVT_ERROR, 0xffffffff, 0x100ff },
	{ APIC_TMCCT, 0xffffffff, 0 },
	{ APIC_TDCR, 0xffffffff, 0xb },
};

START_TEST(register_masks)
{
	reg_write(cpu, masks[_i][0], masks[_i][1]);
	ck_assert_msg(reg_read(cpu, masks[_i][0]) == masks[_i][2], "%x: %x, not %x", masks[_i][0],
		      reg_read(cpu, masks[_i][0]), masks[_i][2]);
	reg_write(cpu, APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0); /* all of these registers exist */
}
END_TEST

START_TEST(deadline_mode_needs_cpuid)
{
	fake_has_deadline = false;
	reg_write(cpu, APIC_LVT_TIMER, 0x400ff);
	ck_assert_uint_eq(reg_read(cpu, APIC_LVT_TIMER), 0xff);
	fake_x2apic(cpu);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x832, 0x400ff), -1);
	fake_has_deadline = true;
	ck_assert_int_eq(lapic_msr_write(cpu, 0x832, 0x400ff), 0);
}
END_TEST

START_TEST(odd_accesses)
{
	uint8_t bytes[8];
	uint32_t value = 0x44332211;

	reg_write(cpu, APIC_TMICT, 0x44332211);
	memset(bytes, 0xcc, 8);
	ck_assert(lapic_mmio_read(cpu, APIC_TMICT + 1, 2, bytes));
	ck_assert(bytes[0] == 0x22 && bytes[1] == 0x33 && bytes[2] == 0xcc);
	ck_assert(lapic_mmio_read(cpu, APIC_TMICT + 3, 4, bytes));
	ck_assert(bytes[0] == 0x44 && !bytes[1] && !bytes[2] && !bytes[3]);
	memset(bytes, 0xcc, 8);
	ck_assert(lapic_mmio_read(cpu, APIC_TMICT, 8, bytes));
	ck_assert(!memcmp(bytes, "\x11\x22\x33\x44\0\0\0\0", 8));
	ck_assert(lapic_mmio_read(cpu, APIC_TMICT + 4, 4, bytes));
	ck_assert(!memcmp(bytes, "\0\0\0\0", 4));
	/* Only aligned 32-bit writes count. */
	ck_assert(lapic_mmio_write(cpu, APIC_TPR, 1, &value));
	ck_assert(lapic_mmio_write(cpu, APIC_TPR + 4, 4, &value));
	ck_assert(lapic_mmio_write(cpu, APIC_TPR, 8, "\1\2\3\4\5\6\7"));
	ck_assert_uint_eq(reg_read(cpu, APIC_TPR), 0);
	ck_assert(!lapic_mmio_read(cpu, 4096, 4, bytes));
	ck_assert(!lapic_mmio_read(cpu, 0, 0, bytes));
	ck_assert(!lapic_mmio_read(cpu, 0, 9, bytes));
	ck_assert(!lapic_mmio_write(cpu, 4096, 4, &value));
	/* Every offset and length: no finding of the sanitizers. */
	for (uint32_t offset = 0; offset < 4096; offset++)
		for (uint32_t len = 1; len <= 8; len++)
			ck_assert(lapic_mmio_read(cpu, offset, len, bytes));
}
END_TEST

START_TEST(esr_write_then_read)
{
	uint32_t value;

	ck_assert(lapic_mmio_read(cpu, 0x10, 4, &value)); /* no such register */
	ck_assert_uint_eq(value, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0); /* not before a write */
	reg_write(cpu, APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0x80);
	reg_write(cpu, APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0);

	reg_write(cpu, APIC_LVT_ERROR, 0x71);
	reg_write(cpu, 0x3f0, 0x50); /* self IPI is x2APIC's */
	ck_assert_int_eq(take(cpu), 0x71);
	lapic_request(cpu, 5, false); /* an illegal vector from outside */
	ck_assert_uint_eq(fake_notified[0], VCPU_REQ_EVENT);
	lapic_eoi(cpu);
	ck_assert_int_eq(take(cpu), 0x71);
	reg_write(cpu, APIC_ICR, 0x40003); /* an illegal vector of its own */
	reg_write(cpu, APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0x80 | 0x40 | 0x20);
	/* An illegal vector in LVT error must not go round for ever. */
	reg_write(cpu, APIC_LVT_ERROR, 0x3);
	reg_write(cpu, 0x10, 0);
	reg_write(cpu, APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0xc0);
}
END_TEST

START_TEST(priorities)
{
	lapic_request(cpu, 0x31, false);
	lapic_request(cpu, 0x52, false);
	lapic_request(cpu, 0xff, false);
	lapic_request(cpu, 0x10, false);
	ck_assert_int_eq(take(cpu), 0xff);
	ck_assert_uint_eq(reg_read(cpu, APIC_PPR), 0xf0);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	lapic_eoi(cpu);
	reg_write(cpu, APIC_TPR, 0x50);
	ck_assert_int_eq(lapic_pending(cpu), -1); /* the same class waits */
	ck_assert_uint_eq(lapic_tpr_threshold(cpu), 5);
	reg_write(cpu, APIC_TPR, 0x4f);
	ck_assert_uint_eq(reg_read(cpu, APIC_PPR), 0x4f);
	ck_assert_uint_eq(lapic_tpr_threshold(cpu), 0);
	ck_assert_int_eq(take(cpu), 0x52);
	lapic_request(cpu, 0x5f, false); /* same class: waits; higher class: nests */
	ck_assert_int_eq(lapic_pending(cpu), -1);
	lapic_request(cpu, 0x60, false);
	ck_assert_int_eq(take(cpu), 0x60);
	ck_assert_uint_eq(reg_read(cpu, APIC_ISR + 0x30), 1);
	ck_assert_uint_eq(reg_read(cpu, APIC_ISR + 0x20), 1 << 18);
	lapic_eoi(cpu);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	lapic_eoi(cpu);
	ck_assert_int_eq(take(cpu), 0x5f);
	lapic_eoi(cpu);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	lapic_set_tpr(cpu, 0);
	ck_assert_int_eq(take(cpu), 0x31);
	lapic_eoi(cpu);
	ck_assert_int_eq(take(cpu), 0x10);
	lapic_eoi(cpu);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	ck_assert_int_eq(lapic_eoi(cpu), 0); /* nothing in service */
}
END_TEST

/* All vectors, in an order that jumps about: the summaries must agree with the bits. */
START_TEST(every_vector)
{
	for (unsigned int i = 0; i < 256; i++)
		lapic_request(cpu, i * 37, i & 1);
	for (int vector = 255; vector >= 16; vector--) {
		ck_assert_int_eq(lapic_pending(cpu), vector);
		lapic_accept(cpu, vector);
		ck_assert_int_eq(lapic_eoi(cpu), 0);
	}
	ck_assert_int_eq(lapic_pending(cpu), -1);
	ck_assert_uint_eq(cpu->lapic.irr_any | cpu->lapic.isr_any, 0);
}
END_TEST

START_TEST(cr8_is_tpr)
{
	lapic_set_tpr(cpu, 0xa);
	ck_assert_uint_eq(reg_read(cpu, APIC_TPR), 0xa0);
	cpu->lapic.regs[0x80] = 0x30; /* as the hardware does */
	ck_assert_uint_eq(lapic_get_tpr(cpu), 3);
	lapic_set_tpr(cpu, 0xff5);
	ck_assert_uint_eq(lapic_get_tpr(cpu), 5);
}
END_TEST

START_TEST(requests_coalesce)
{
	lapic_request(cpu, 0x40, false);
	ck_assert_uint_eq(fake_calls[0], 1);
	lapic_request(cpu, 0x40, false);
	ck_assert_uint_eq(fake_calls[0], 1);
	lapic_request(cpu, 0x41, false);
	ck_assert_uint_eq(fake_calls[0], 2);
	ck_assert_int_eq(take(cpu), 0x41);
	lapic_request(cpu, 0x40, false); /* taken over by now: a new one */
	ck_assert_uint_eq(fake_calls[0], 3);
	reg_write(cpu, APIC_SVR, 0xff);
	lapic_request(cpu, 0x90, false); /* software-disabled */
	ck_assert_uint_eq(fake_calls[0], 3);
	ck_assert_uint_eq(atomic_load(&cpu->lapic.request[2]), 0);
}
END_TEST

START_TEST(trigger_mode)
{
	lapic_request(cpu, 0x45, true);
	lapic_pending(cpu);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMR + 0x20), 1 << 5);
	lapic_request(cpu, 0x45, false);
	lapic_pending(cpu);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMR + 0x20), 0);
	lapic_request(cpu, 0x46, true);
	lapic_request(cpu, 0x46, false); /* the last one counts */
	lapic_pending(cpu);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMR + 0x20), 0);
}
END_TEST

START_TEST(eoi_to_the_vmm)
{
	cpu->lapic.eoi_exit[1] = 1ull << (0x45 - 64) | 1ull << (0x46 - 64);
	lapic_request(cpu, 0x45, true);
	ck_assert_int_eq(take(cpu), 0x45);
	reg_write(cpu, APIC_EOI, 0);
	ck_assert(lapic_eoi_exit_pending(cpu));
	ck_assert(!lapic_eoi_exit_pending(cpu));
	ck_assert_uint_eq(cpu->kvm->exit_reason, KVM_EXIT_IOAPIC_EOI);
	ck_assert_uint_eq(cpu->kvm->eoi.vector, 0x45);
	lapic_request(cpu, 0x46, false); /* edge: no message */
	ck_assert_int_eq(take(cpu), 0x46);
	ck_assert_int_eq(lapic_eoi(cpu), 0);
	lapic_request(cpu, 0x47, true); /* level, but no pin's */
	ck_assert_int_eq(take(cpu), 0x47);
	ck_assert_int_eq(lapic_eoi(cpu), 0);
	fake_x2apic(cpu);
	lapic_request(cpu, 0x45, true);
	ck_assert_int_eq(take(cpu), 0x45);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x80b, 0), 1);
	ck_assert(!lapic_eoi_exit_pending(cpu));
	/* Suppressed by the guest (SDM 3A 11.8.5). */
	ck_assert_int_eq(lapic_msr_write(cpu, 0x80f, 0x11ff), 0);
	lapic_request(cpu, 0x45, true);
	ck_assert_int_eq(take(cpu), 0x45);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x80b, 0), 0);
}
END_TEST

START_TEST(software_disable)
{
	for (uint32_t reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg += 16)
		reg_write(cpu, reg, 0x40);
	lapic_request(cpu, 0x80, false);
	lapic_pending(cpu);
	reg_write(cpu, APIC_SVR, 0xff);
	for (uint32_t reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg += 16) {
		ck_assert_uint_eq(reg_read(cpu, reg), 0x10040);
		reg_write(cpu, reg, 0x41);
		ck_assert_uint_eq(reg_read(cpu, reg), 0x10041);
	}
	ck_assert_int_eq(lapic_pending(cpu), 0x80); /* what was there stays */
	reg_write(cpu, APIC_SVR, 0x1ff);
	ck_assert_uint_eq(reg_read(cpu, APIC_LVT_TIMER), 0x10041);
}
END_TEST

START_TEST(pic_passes)
{
	static const struct {
		uint32_t lvt;
		bool passes;
	} table[] = { { 0x700, true }, { 0x10700, false }, { 0x30, false }, { 0x400, false }, { 0x8700, true } };

	for (unsigned int i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		reg_write(cpu, APIC_LVT_LINT0, table[i].lvt);
		ck_assert_int_eq(lapic_accepts_pic(cpu), table[i].passes);
	}
	reg_write(cpu, APIC_LVT_LINT0, 0x10000);
	lapic_set_base(cpu, APIC_BASE_DEFAULT);
	ck_assert(lapic_accepts_pic(cpu));
	vm.split_irqchip = false;
	lapic_reset(cpu, false);
	ck_assert(!cpu->lapic.enabled && lapic_accepts_pic(cpu));
	ck_assert_int_eq(lapic_pending(cpu), -1);
}
END_TEST

#define EN APIC_BASE_ENABLE
#define X2 (APIC_BASE_ENABLE | APIC_BASE_X2APIC)
/* old, new, may the guest, may the VMM */
static const struct {
	uint64_t old, new;
	int guest, host;
} transitions[] = {
	{ EN, EN, 0, 0 },
	{ EN, X2, 0, 0 },
	{ EN, 0, 0, 0 },
	{ X2, X2, 0, 0 },
	{ X2, EN, -EINVAL, 0 },
	{ X2, 0, 0, 0 },
	{ 0, 0, 0, 0 },
	{ 0, EN, 0, 0 },
	{ 0, X2, -EINVAL, 0 },
	{ EN, APIC_BASE_X2APIC, -EINVAL, -EINVAL },
	{ 0, APIC_BASE_X2APIC, -EINVAL, -EINVAL },
	{ EN, EN | 1, -EINVAL, -EINVAL },
	{ EN, EN | 1 << 9, -EINVAL, -EINVAL },
	{ EN, EN | APIC_BASE_BSP, 0, 0 },
	{ EN, EN | 1ull << 40, -EINVAL, -EINVAL },
	{ EN, EN | 1ull << 39, 0, 0 },
	{ EN, EN | 1ull << 63, -EINVAL, -EINVAL },
};

START_TEST(base_transitions)
{
	cpu->apic_base = transitions[_i].old | APIC_BASE_DEFAULT;
	ck_assert_int_eq(lapic_check_base(cpu, transitions[_i].new | APIC_BASE_DEFAULT, false), transitions[_i].guest);
	ck_assert_int_eq(lapic_check_base(cpu, transitions[_i].new | APIC_BASE_DEFAULT, true), transitions[_i].host);
	if (transitions[_i].new == X2) {
		fake_has_x2apic = false;
		ck_assert_int_eq(lapic_check_base(cpu, transitions[_i].new | APIC_BASE_DEFAULT, true), -EINVAL);
	}
}
END_TEST

START_TEST(base_effects)
{
	cpu->id = 0x25;
	fake_x2apic(cpu);
	ck_assert_uint_eq(msr_value(0x802), 0x25);
	ck_assert_uint_eq(msr_value(0x80d), 0x20020);
	ck_assert_uint_eq(msr_value(0x80f), 0x1ff); /* kept */
	ck_assert(!lapic_mmio_read(cpu, APIC_ID, 4, &(uint32_t) { 0 }));
	ck_assert(!lapic_mmio_write(cpu, APIC_TPR, 4, &(uint32_t) { 0 }));
	lapic_request(cpu, 0x80, false);
	lapic_set_base(cpu, APIC_BASE_DEFAULT);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	ck_assert(!lapic_mmio_read(cpu, APIC_ID, 4, &(uint32_t) { 0 }));
	lapic_request(cpu, 0x80, false);
	lapic_set_base(cpu, APIC_BASE_DEFAULT | EN);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	ck_assert_uint_eq(reg_read(cpu, APIC_ID), 0x25000000);
	ck_assert_uint_eq(reg_read(cpu, APIC_LDR), 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_SVR), 0xff);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x808, 0), -1); /* x2APIC's MSRs are gone */
	ck_assert_int_eq(lapic_msr_read(cpu, 0x808, &(uint64_t) { 0 }), -1);
}
END_TEST

START_TEST(init_keeps)
{
	reg_write(cpu, APIC_ID, 0x77000000);
	reg_write(cpu, APIC_LDR, 0x77000000);
	lapic_request(cpu, 0x80, true);
	cpu->lapic.pv_eoi_msr = 1;
	lapic_reset(cpu, true);
	ck_assert_uint_eq(reg_read(cpu, APIC_ID), 0x77000000);
	ck_assert_uint_eq(reg_read(cpu, APIC_LDR), 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_SVR), 0xff);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	ck_assert_uint_eq(cpu->lapic.pv_eoi_msr, 0);
	fake_x2apic(cpu);
	lapic_reset(cpu, true);
	ck_assert(cpu->lapic.x2apic);
	ck_assert_uint_eq(msr_value(0x80d), 1);
	lapic_reset(cpu, false);
	ck_assert(!cpu->lapic.x2apic);
}
END_TEST

/* MSR, may be read, a legal value to write (~0: none), an illegal one (0: none) */
static const struct {
	uint32_t msr;
	bool readable;
	uint64_t good, bad;
} msrs[] = {
	{ 0x802, true, ~0ull, 0 },
	{ 0x803, true, ~0ull, 0 },
	{ 0x808, true, 0xff, 0x100 },
	{ 0x809, false, ~0ull, 0 },
	{ 0x80a, true, ~0ull, 0 },
	{ 0x80b, false, 0, 1 },
	{ 0x80d, true, ~0ull, 0 },
	{ 0x80e, false, ~0ull, 0 },
	{ 0x80f, true, 0x13ff, 0x4000 },
	{ 0x810, true, ~0ull, 0 },
	{ 0x817, true, ~0ull, 0 },
	{ 0x818, true, ~0ull, 0 },
	{ 0x81f, true, ~0ull, 0 },
	{ 0x827, true, ~0ull, 0 },
	{ 0x828, true, 0, 1 },
	{ 0x82f, false, ~0ull, 0 },
	{ 0x830, true, 0xff00000540ull, 0x100000 },
	{ 0x831, false, ~0ull, 0 },
	{ 0x832, true, 0x710ff, 0x100 },
	{ 0x833, true, 0x117ff, 0x2000 },
	{ 0x834, true, 0x117ff, 0x20000 },
	{ 0x835, true, 0x1f7ff, 0x800 },
	{ 0x836, true, 0x1f7ff, 0x40000 },
	{ 0x837, true, 0x110ff, 0x700 },
	{ 0x838, true, 0xffffffff, 0x100000000 },
	{ 0x839, true, ~0ull, 0 },
	{ 0x83e, true, 0xb, 4 },
	{ 0x83f, false, 0x40, 0x140 },
	{ 0x800, false, ~0ull, 0 },
	{ 0x840, false, ~0ull, 0 },
	{ 0x8ff, false, ~0ull, 0 },
	{ 0x900, false, ~0ull, 0 },
	{ 0x80c, false, ~0ull, 0 },
	{ 0x7ff, false, ~0ull, 0 },
};

START_TEST(x2apic_msrs)
{
	uint64_t value;

	fake_x2apic(cpu);
	ck_assert_int_eq(msr_get(msrs[_i].msr, &value), msrs[_i].readable ? 0 : -1);
	if (msrs[_i].good == ~0ull)
		ck_assert_int_eq(lapic_msr_write(cpu, msrs[_i].msr, 0), -1);
	else
		ck_assert_int_eq(lapic_msr_write(cpu, msrs[_i].msr, msrs[_i].good), 0);
	if (msrs[_i].bad)
		ck_assert_int_eq(lapic_msr_write(cpu, msrs[_i].msr, msrs[_i].bad), -1);
	if (msrs[_i].msr != 0x830)
		ck_assert_int_eq(lapic_msr_write(cpu, msrs[_i].msr, 1ull << 32), -1);
	/* #GP is all: no ESR bit in x2APIC mode */
	ck_assert_int_eq(lapic_msr_write(cpu, 0x828, 0), 0);
	ck_assert_uint_eq(msr_value(0x828), 0);
}
END_TEST

START_TEST(x2apic_icr_and_self_ipi)
{
	fake_x2apic(cpu);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x830, 0x500001055ull), 0);
	ck_assert_uint_eq(msr_value(0x830), 0x500000055ull);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x83f, 0x66), 0);
	ck_assert_int_eq(take(cpu), 0x66);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x80b, 0), 0);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x83f, 0x6), 0);
	ck_assert_int_eq(take(cpu), -1);
	ck_assert_int_eq(lapic_msr_write(cpu, 0x828, 0), 0);
	ck_assert_uint_eq(msr_value(0x828), 0x20);
}
END_TEST

/* ---- PV EOI ---- */

#define PV (FAKE_RAM_GPA + 0x40)

START_TEST(pv_eoi_used)
{
	fake_ram[0x40] = 0xa4;
	cpu->lapic.pv_eoi_msr = PV | 1;
	lapic_request(cpu, 0x50, false);
	ck_assert_int_eq(take(cpu), 0x50);
	ck_assert_uint_eq(fake_ram[0x40], 0xa5);
	lapic_pv_eoi_sync(cpu); /* an exit in the handler: still in service */
	ck_assert_uint_eq(reg_read(cpu, APIC_PPR), 0x50);
	fake_ram[0x40] = 0xa4; /* the guest skips its EOI */
	lapic_pv_eoi_sync(cpu);
	ck_assert_uint_eq(reg_read(cpu, APIC_PPR), 0);
	lapic_pv_eoi_sync(cpu);
	/* A write of EOI although the bit stands is one EOI. */
	lapic_request(cpu, 0x50, false);
	ck_assert_int_eq(take(cpu), 0x50);
	ck_assert_uint_eq(fake_ram[0x40], 0xa5);
	lapic_eoi(cpu);
	ck_assert_uint_eq(fake_ram[0x40], 0xa4);
	ck_assert(!cpu->lapic.pv_eoi_pending);
	ck_assert_uint_eq(cpu->lapic.isr_any, 0);
}
END_TEST

START_TEST(pv_eoi_withdrawn)
{
	struct kvm_lapic_state state;

	cpu->lapic.pv_eoi_msr = PV | 1;
	lapic_request(cpu, 0x50, false);
	ck_assert_int_eq(take(cpu), 0x50);
	ck_assert_uint_eq(fake_ram[0x40], 1);
	lapic_request(cpu, 0x51, false); /* waits for the EOI */
	ck_assert_int_eq(lapic_pending(cpu), -1);
	ck_assert_uint_eq(fake_ram[0x40], 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_PPR), 0x50);
	lapic_eoi(cpu);
	ck_assert_int_eq(take(cpu), 0x51);
	ck_assert_uint_eq(fake_ram[0x40], 1);
	lapic_request(cpu, 0x90, false); /* nests */
	ck_assert_int_eq(take(cpu), 0x90);
	ck_assert_uint_eq(fake_ram[0x40], 0);
	lapic_eoi(cpu);
	lapic_eoi(cpu);
	/* Two vectors wait: the first needs an EOI. */
	lapic_request(cpu, 0x50, false);
	lapic_request(cpu, 0x30, false);
	ck_assert_int_eq(take(cpu), 0x50);
	ck_assert_uint_eq(fake_ram[0x40], 0);
	lapic_eoi(cpu);
	ck_assert_int_eq(take(cpu), 0x30);
	ck_assert_uint_eq(fake_ram[0x40], 1);
	/* State that leaves shows nothing of the offer, so it is taken back. */
	ck_assert_int_eq(lapic_get_state(cpu, &state), 0);
	ck_assert_uint_eq(fake_ram[0x40], 0);
	lapic_eoi(cpu);
	/* A pin's vector. */
	cpu->lapic.eoi_exit[1] = 1ull << 16;
	lapic_request(cpu, 0x50, true);
	ck_assert_int_eq(take(cpu), 0x50);
	ck_assert_uint_eq(fake_ram[0x40], 0);
	ck_assert_int_eq(lapic_eoi(cpu), 1);
}
END_TEST

START_TEST(pv_eoi_memory)
{
	cpu->lapic.pv_eoi_msr = 0x5001; /* no memory there */
	lapic_request(cpu, 0x50, false);
	ck_assert_int_eq(take(cpu), 0x50);
	ck_assert(!cpu->lapic.pv_eoi_pending);
	lapic_eoi(cpu);
	cpu->lapic.pv_eoi_msr = PV | 1;
	lapic_request(cpu, 0x50, false);
	ck_assert_int_eq(take(cpu), 0x50);
	/* The guest moves it: the bit is looked for where it was set. */
	cpu->lapic.pv_eoi_msr = (PV + 8) | 1;
	lapic_pv_eoi_sync(cpu);
	ck_assert_uint_eq(reg_read(cpu, APIC_PPR), 0x50);
	cpu->lapic.pv_eoi_gpa = 0x5000; /* the slot went away: not used */
	lapic_pv_eoi_sync(cpu);
	ck_assert_uint_eq(reg_read(cpu, APIC_PPR), 0x50);
	ck_assert(!cpu->lapic.pv_eoi_pending);
}
END_TEST

/* ---- timer ---- */

static int timer_at(uint64_t tsc)
{
	int vector;

	fake_tsc = tsc;
	lapic_timer_check(cpu, tsc);
	vector = take(cpu);
	if (vector >= 0)
		lapic_eoi(cpu);
	return vector;
}

START_TEST(timer_one_shot)
{
	uint64_t t = fake_tsc;

	reg_write(cpu, APIC_TDCR, 0xb); /* by 1 */
	reg_write(cpu, APIC_LVT_TIMER, 0x40);
	reg_write(cpu, APIC_TMICT, 1000);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, t + 1000);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMCCT), 1000);
	ck_assert_int_eq(timer_at(t + 400), -1);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMCCT), 600);
	ck_assert_int_eq(timer_at(t + 999), -1);
	ck_assert_int_eq(timer_at(t + 1000), 0x40);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMCCT), 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMICT), 1000);
	ck_assert_int_eq(timer_at(t + 5000), -1);
	reg_write(cpu, APIC_TMICT, 1000);
	reg_write(cpu, APIC_TMICT, 0); /* stops */
	ck_assert_int_eq(timer_at(t + 9000), -1);
	/* Masked: it runs down without an interrupt. */
	reg_write(cpu, APIC_LVT_TIMER, 0x10040);
	reg_write(cpu, APIC_TMICT, 10);
	ck_assert_int_eq(timer_at(t + 10000), -1);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
	/* An illegal vector: an error. */
	reg_write(cpu, APIC_LVT_TIMER, 0x4);
	reg_write(cpu, APIC_TMICT, 10);
	ck_assert_int_eq(timer_at(t + 20000), -1);
	reg_write(cpu, APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0x40);
}
END_TEST

START_TEST(timer_divide)
{
	static const struct {
		uint32_t tdcr, divide;
	} table[] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 }, { 11, 1 } };
	uint64_t t = fake_tsc;

	vm.info.tsc_khz = 2500000; /* 2.5 ticks a ns */
	for (unsigned int i = 0; i < 8; i++) {
		reg_write(cpu, APIC_TDCR, table[i].tdcr);
		reg_write(cpu, APIC_TMICT, 0xffffffff);
		ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, t + 0xffffffffull * table[i].divide * 5 / 2);
		ck_assert_uint_ge(reg_read(cpu, APIC_TMCCT), 0xfffffffe);
		fake_tsc = t + table[i].divide * 2500000ull;
		ck_assert_uint_le(0xffffffff - 1000000 - reg_read(cpu, APIC_TMCCT) + 1, 2);
		fake_tsc = t;
	}
	/* A change while it runs: the count stays, its rate changes. */
	vm.info.tsc_khz = 1000000;
	reg_write(cpu, APIC_TMICT, 1000000);
	fake_tsc = t + 400000;
	reg_write(cpu, APIC_TDCR, 1); /* by 4 */
	ck_assert_uint_eq(reg_read(cpu, APIC_TMCCT), 600000);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, t + 400000 + 2400000);
}
END_TEST

START_TEST(timer_periodic)
{
	uint64_t t = fake_tsc;

	reg_write(cpu, APIC_TDCR, 0xb);
	reg_write(cpu, APIC_LVT_TIMER, 0x20041);
	reg_write(cpu, APIC_TMICT, 1000000);
	ck_assert_int_eq(timer_at(t + 999999), -1);
	ck_assert_int_eq(timer_at(t + 1000003), 0x41);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, t + 2000000); /* no drift */
	ck_assert_int_eq(timer_at(t + 2000000), 0x41);
	fake_tsc = t + 3250000; /* due, not looked at yet */
	ck_assert_uint_eq(reg_read(cpu, APIC_TMCCT), 750000);
	ck_assert_int_eq(timer_at(t + 7500000), 0x41); /* missed ones are one */
	ck_assert_int_eq(timer_at(t + 7500001), -1);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, t + 8000000);
	/* To one-shot: this period ends, no other begins. */
	reg_write(cpu, APIC_LVT_TIMER, 0x41);
	ck_assert_int_eq(timer_at(t + 8000000), 0x41);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
	/* A guest cannot make its host do nothing else. */
	reg_write(cpu, APIC_LVT_TIMER, 0x20041);
	reg_write(cpu, APIC_TMICT, 1);
	ck_assert_uint_eq(cpu->lapic.timer_period_tsc, 200000);
}
END_TEST

START_TEST(timer_deadline)
{
	uint64_t value;

	cpu->run->tsc_offset = -500000ull;
	ck_assert_int_eq(lapic_msr_write(cpu, MSR_TSC_DEADLINE, 7000000), 0); /* not in this mode: ignored */
	ck_assert_uint_eq(msr_value(MSR_TSC_DEADLINE), 0);
	reg_write(cpu, APIC_LVT_TIMER, 0x40042);
	ck_assert_int_eq(lapic_msr_write(cpu, MSR_TSC_DEADLINE, 7000000), 0);
	ck_assert_uint_eq(msr_value(MSR_TSC_DEADLINE), 7000000);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 7500000);
	reg_write(cpu, APIC_TMICT, 100); /* ignored in this mode */
	ck_assert_uint_eq(reg_read(cpu, APIC_TMICT), 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMCCT), 0);
	cpu->run->tsc_offset = 500000;
	lapic_tsc_changed(cpu);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 6500000);
	ck_assert_int_eq(timer_at(6499999), -1);
	ck_assert_int_eq(timer_at(6500000), 0x42);
	ck_assert_int_eq(msr_get(MSR_TSC_DEADLINE, &value), 0);
	ck_assert_uint_eq(value, 0);
	ck_assert_int_eq(timer_at(9000000), -1);
	/* Long past: at once. Zero: off. */
	lapic_msr_write(cpu, MSR_TSC_DEADLINE, 1);
	ck_assert_int_eq(timer_at(9000001), 0x42);
	lapic_msr_write(cpu, MSR_TSC_DEADLINE, 10000000);
	lapic_msr_write(cpu, MSR_TSC_DEADLINE, 0);
	ck_assert_int_eq(timer_at(20000000), -1);
	/* Never. */
	cpu->run->tsc_offset = -1000ull;
	lapic_msr_write(cpu, MSR_TSC_DEADLINE, ~0ull);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, ~0ull);
	/* Another mode disarms. */
	reg_write(cpu, APIC_LVT_TIMER, 0x42);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
	ck_assert_uint_eq(msr_value(MSR_TSC_DEADLINE), 0);
	reg_write(cpu, APIC_TMICT, 100000);
	reg_write(cpu, APIC_LVT_TIMER, 0x40042);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMICT), 0);
	/* The reserved mode counts nothing. */
	reg_write(cpu, APIC_LVT_TIMER, 0x60042);
	lapic_msr_write(cpu, MSR_TSC_DEADLINE, 5);
	reg_write(cpu, APIC_TMICT, 5);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
}
END_TEST

/* ---- state ---- */

START_TEST(state_round_trip)
{
	struct kvm_lapic_state a, b;
	uint64_t t = fake_tsc;

	reg_write(cpu, APIC_ID, 0x5000000);
	reg_write(cpu, APIC_LDR, 0x20000000);
	reg_write(cpu, APIC_DFR, 0);
	reg_write(cpu, APIC_TPR, 0x21);
	reg_write(cpu, APIC_LVT_LINT0, 0x10000);
	reg_write(cpu, APIC_LVT_LINT1, 0x400);
	reg_write(cpu, APIC_LVT_TIMER, 0x20033);
	reg_write(cpu, APIC_TDCR, 3);
	reg_write(cpu, APIC_TMICT, 1000000);
	lapic_request(cpu, 0x81, true);
	ck_assert_int_eq(take(cpu), 0x81);
	lapic_request(cpu, 0x44, false); /* still a request: must be in the state */
	fake_tsc = t + 4000000;
	ck_assert_int_eq(lapic_get_state(cpu, &a), 0);
	ck_assert_uint_eq(*(uint32_t *)(a.regs + APIC_TMCCT), 750000);
	ck_assert_uint_eq(*(uint32_t *)(a.regs + APIC_IRR + 0x20), 1 << 4);
	ck_assert_uint_eq(*(uint32_t *)(a.regs + APIC_ISR + 0x40), 1 << 1);
	ck_assert_uint_eq(*(uint32_t *)(a.regs + APIC_TMR + 0x40), 1 << 1);
	ck_assert_uint_eq(*(uint32_t *)(a.regs + APIC_PPR), 0x80);

	lapic_reset(cpu, false);
	fake_tsc = t + 90000000;
	ck_assert_int_eq(lapic_set_state(cpu, &a), 0);
	ck_assert_int_eq(lapic_get_state(cpu, &b), 0);
	ck_assert_mem_eq(&a, &b, sizeof(a));
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, fake_tsc + 12000000);
	ck_assert_uint_eq(cpu->lapic.timer_period_tsc, 16000000);
	ck_assert_int_eq(lapic_pending(cpu), -1);
	lapic_eoi(cpu);
	ck_assert_int_eq(take(cpu), 0x44);
}
END_TEST

START_TEST(state_timers)
{
	struct kvm_lapic_state state;

	reg_write(cpu, APIC_TDCR, 0xb);
	reg_write(cpu, APIC_LVT_TIMER, 0x40033);
	lapic_msr_write(cpu, MSR_TSC_DEADLINE, 5000000);
	ck_assert_int_eq(lapic_get_state(cpu, &state), 0);
	ck_assert_int_eq(lapic_set_state(cpu, &state), 0);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 5000000);
	/* A one-shot timer that has fired does not fire again. */
	reg_write(cpu, APIC_LVT_TIMER, 0x33);
	reg_write(cpu, APIC_TMICT, 100);
	fake_tsc += 200;
	ck_assert_int_eq(lapic_get_state(cpu, &state), 0);
	ck_assert_uint_eq(*(uint32_t *)(state.regs + APIC_IRR + 0x10), 1 << 19);
	ck_assert_int_eq(lapic_set_state(cpu, &state), 0);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
	ck_assert_int_eq(take(cpu), 0x33);
	/* A count above the initial one is cut. */
	*(uint32_t *)(state.regs + APIC_TMCCT) = 0xffffffff;
	ck_assert_int_eq(lapic_set_state(cpu, &state), 0);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, fake_tsc + 100);
}
END_TEST

START_TEST(state_x2apic_ids)
{
	struct kvm_lapic_state state;

	cpu->id = 0x12;
	fake_x2apic(cpu);
	lapic_msr_write(cpu, 0x830, 0x1234567800000055ull);
	ck_assert_int_eq(lapic_get_state(cpu, &state), 0);
	ck_assert_uint_eq(*(uint32_t *)(state.regs + APIC_ID), 0x12000000);
	ck_assert_uint_eq(*(uint32_t *)(state.regs + APIC_ICR2), 0x12345678);
	*(uint32_t *)(state.regs + APIC_LDR) = 0x55;
	ck_assert_int_eq(lapic_set_state(cpu, &state), 0);
	ck_assert_uint_eq(msr_value(0x802), 0x12);
	ck_assert_uint_eq(msr_value(0x80d), 0x10004);
	ck_assert_uint_eq(msr_value(0x830), 0x1234567800000055ull);
	vm.x2apic_api_32bit_ids = true;
	ck_assert_int_eq(lapic_set_state(cpu, &state), -EINVAL);
	ck_assert_int_eq(lapic_get_state(cpu, &state), 0);
	ck_assert_uint_eq(*(uint32_t *)(state.regs + APIC_ID), 0x12);
	ck_assert_int_eq(lapic_set_state(cpu, &state), 0);
	vm.split_irqchip = false;
	ck_assert_int_eq(lapic_get_state(cpu, &state), -EINVAL);
	ck_assert_int_eq(lapic_set_state(cpu, &state), -EINVAL);
}
END_TEST

/* A VMM may hand in anything: what is kept is what a guest could have made, and nothing breaks. */
START_TEST(state_hostile)
{
	struct kvm_lapic_state state;
	uint32_t seed = 12345;

	memset(&state, 0xff, sizeof(state));
	ck_assert_int_eq(lapic_set_state(cpu, &state), 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_SVR), 0x13ff);
	ck_assert_uint_eq(reg_read(cpu, APIC_LVT_TIMER), 0x700ff);
	ck_assert_uint_eq(reg_read(cpu, APIC_IRR), 0xffff0000);
	ck_assert_uint_eq(cpu->lapic.timer_deadline_tsc, 0);
	for (int round = 0; round < 2000; round++) {
		for (unsigned int i = 0; i < sizeof(state.regs); i++) {
			seed = seed * 1103515245 + 12345;
			state.regs[i] = seed >> 16;
		}
		if (round == 1000)
			fake_x2apic(cpu);
		ck_assert_int_eq(lapic_set_state(cpu, &state), 0);
		fake_tsc += seed;
		lapic_timer_check(cpu, fake_tsc);
		while (take(cpu) >= 0)
			;
		while (cpu->lapic.isr_any)
			lapic_eoi(cpu);
		ck_assert_int_eq(lapic_get_state(cpu, &state), 0);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lapic");
	TCase *c = tcase_create("lapic");

	tcase_add_checked_fixture(c, setup, NULL);
	tcase_add_test(c, reset_values);
	tcase_add_test(c, version_follows_cpuid);
	tcase_add_loop_test(c, register_masks, 0, sizeof(masks) / sizeof(masks[0]));
	tcase_add_test(c, deadline_mode_needs_cpuid);
	tcase_add_test(c, odd_accesses);
	tcase_add_test(c, esr_write_then_read);
	tcase_add_test(c, priorities);
	tcase_add_test(c, every_vector);
	tcase_add_test(c, cr8_is_tpr);
	tcase_add_test(c, requests_coalesce);
	tcase_add_test(c, trigger_mode);
	tcase_add_test(c, eoi_to_the_vmm);
	tcase_add_test(c, software_disable);
	tcase_add_test(c, pic_passes);
	tcase_add_loop_test(c, base_transitions, 0, sizeof(transitions) / sizeof(transitions[0]));
	tcase_add_test(c, base_effects);
	tcase_add_test(c, init_keeps);
	tcase_add_loop_test(c, x2apic_msrs, 0, sizeof(msrs) / sizeof(msrs[0]));
	tcase_add_test(c, x2apic_icr_and_self_ipi);
	tcase_add_test(c, pv_eoi_used);
	tcase_add_test(c, pv_eoi_withdrawn);
	tcase_add_test(c, pv_eoi_memory);
	tcase_add_test(c, timer_one_shot);
	tcase_add_test(c, timer_divide);
	tcase_add_test(c, timer_periodic);
	tcase_add_test(c, timer_deadline);
	tcase_add_test(c, state_round_trip);
	tcase_add_test(c, state_timers);
	tcase_add_test(c, state_x2apic_ids);
	tcase_add_test(c, state_hostile);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return fake_main(suite());
}
