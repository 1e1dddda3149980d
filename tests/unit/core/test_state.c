// SPDX-License-Identifier: GPL-2.0-or-later
/* Control registers, debug registers, XCR0, reset. */
#include "machine.h"

#define PE 1ULL
#define ET 0x10ULL
#define CD (1ULL << 30)
#define NW (1ULL << 29)
#define PG (1ULL << 31)
#define PAE X86_CR4_PAE
#define LME X86_EFER_LME
#define LMA X86_EFER_LMA
#define GP 1

static void setup(void)
{
	machine_start(false);
	m.vcpu->cr4_guest_bits = 0x7ff | X86_CR4_PCIDE | X86_CR4_OSXSAVE | X86_CR4_SMEP;
	m.vcpu->xcr0_guest_bits = 7 | 7 << 5;
	m.vcpu->maxphyaddr = 40;
}

struct cr_row {
	uint8_t cr, op;
	uint64_t value;		      /* RAX */
	uint64_t cr0, cr3, cr4, efer; /* before */
	int gp;
	uint64_t after; /* the register, or RAX of MOV from */
	uint64_t after_efer;
	bool flush;
	uint16_t cs; /* attr, 0: as it is */
};

static const struct cr_row cr_rows[] = {
	/* CR0 */
	{ 0, VMEXIT_CR_MOV_TO, PE | 2, PE | ET, 0, 0, 0, 0, PE | ET | 2, 0, false, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | 0x1000, PE | ET, 0, 0, 0, 0, PE | ET, 0, false, 0 }, /* reserved: ignored */
	{ 0, VMEXIT_CR_MOV_TO, PG, ET, 0, 0, 0, GP, ET, 0, false, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | NW, PE | ET, 0, 0, 0, GP, PE | ET, 0, false, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | NW | CD, PE | ET, 0, 0, 0, 0, PE | ET | NW | CD, 0, false, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | PG, PE | ET, 0, 0, 0, 0, PE | ET | PG, 0, true, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | PG, PE | ET, 0, PAE, LME, 0, PE | ET | PG, LME | LMA, true, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | PG, PE | ET, 0, 0, LME, GP, PE | ET, LME, false, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | PG, PE | ET, 0, PAE, LME, GP, PE | ET, LME, false, 0xa09b }, /* CS.L */
	{ 0, VMEXIT_CR_MOV_TO, PE, PE | ET | PG, 0, PAE, LME | LMA, 0, PE | ET, LME, true, 0 },
	{ 0, VMEXIT_CR_MOV_TO, PE, PE | ET | PG, 0, PAE, LME | LMA, GP, PE | ET | PG, LME | LMA, false, 0xa09b },
	{ 0, VMEXIT_CR_MOV_TO, PE, PE | ET | PG, 0, PAE | X86_CR4_PCIDE, LME | LMA, GP, PE | ET | PG, LME | LMA, false,
	  0 },
	{ 0, VMEXIT_CR_MOV_TO, PE | PG, PE | ET, 0x3000, PAE, 0, 0, PE | ET | PG, 0, true, 0 },	 /* good PDPTEs */
	{ 0, VMEXIT_CR_MOV_TO, PE | PG, PE | ET, 0x4000, PAE, 0, GP, PE | ET, 0, false, 0 },	 /* bad ones */
	{ 0, VMEXIT_CR_MOV_TO, PE | PG, PE | ET, 0xe0000000, PAE, 0, GP, PE | ET, 0, false, 0 }, /* none */
	{ 0, VMEXIT_CR_CLTS, 0, PE | ET | 8, 0, 0, 0, 0, PE | ET, 0, false, 0 },
	{ 0, VMEXIT_CR_LMSW, 0, PE | ET | 0xe, 0, 0, 0, 0, PE | ET, 0, false, 0 }, /* cannot clear PE */
	{ 0, VMEXIT_CR_MOV_FROM, 0, PE | ET | 8, 0, 0, 0, 0, PE | ET | 8, 0, false, 0 },
	/* CR3 */
	{ 3, VMEXIT_CR_MOV_TO, 0x5018, PE | ET | PG, 0, 0, 0, 0, 0x5018, 0, true, 0 },
	{ 3, VMEXIT_CR_MOV_TO, 1ULL << 40, PE | ET | PG, 0x1000, PAE, LME | LMA, GP, 0x1000, LME | LMA, false, 0xa09b },
	{ 3, VMEXIT_CR_MOV_TO, 1ULL << 39, PE | ET | PG, 0, PAE, LME | LMA, 0, 1ULL << 39, LME | LMA, true, 0xa09b },
	{ 3, VMEXIT_CR_MOV_TO, 1ULL << 63 | 0x5001, PE | ET | PG, 0, PAE | X86_CR4_PCIDE, LME | LMA, 0, 0x5001,
	  LME | LMA, false, 0xa09b },
	{ 3, VMEXIT_CR_MOV_TO, 1ULL << 63 | 0x5000, PE | ET | PG, 0, PAE, LME | LMA, GP, 0, LME | LMA, false, 0xa09b },
	{ 3, VMEXIT_CR_MOV_TO, 0x4000, PE | ET | PG, 0x3000, PAE, 0, GP, 0x3000, 0, false, 0 },
	{ 3, VMEXIT_CR_MOV_FROM, 0, PE | ET, 0x7000, 0, 0, 0, 0x7000, 0, false, 0 },
	/* CR4 */
	{ 4, VMEXIT_CR_MOV_TO, X86_CR4_DE, PE | ET, 0, 0, 0, 0, X86_CR4_DE, 0, false, 0 },
	{ 4, VMEXIT_CR_MOV_TO, 1 << 13, PE | ET, 0, 0, 0, GP, 0, 0, false, 0 }, /* VMXE */
	{ 4, VMEXIT_CR_MOV_TO, X86_CR4_PGE, PE | ET, 0, 0, 0, 0, X86_CR4_PGE, 0, true, 0 },
	{ 4, VMEXIT_CR_MOV_TO, 0, PE | ET | PG, 0, PAE, LME | LMA, GP, PAE, LME | LMA, false, 0xa09b },
	{ 4, VMEXIT_CR_MOV_TO, X86_CR4_PCIDE, PE | ET, 0, 0, 0, GP, 0, 0, false, 0 },
	{ 4, VMEXIT_CR_MOV_TO, PAE | X86_CR4_PCIDE, PE | ET | PG, 0x5000, PAE, LME | LMA, 0, PAE | X86_CR4_PCIDE,
	  LME | LMA, false, 0xa09b },
	{ 4, VMEXIT_CR_MOV_TO, PAE | X86_CR4_PCIDE, PE | ET | PG, 0x5001, PAE, LME | LMA, GP, PAE, LME | LMA, false,
	  0xa09b },
	{ 4, VMEXIT_CR_MOV_TO, PAE, PE | ET | PG, 0x4000, 0, 0, GP, 0, 0, false, 0 }, /* bad PDPTEs */
	{ 4, VMEXIT_CR_MOV_FROM, 0, PE | ET, 0, 0x20, 0, 0, 0x20, 0, false, 0 },
};

#define CR_ROWS ((int)(sizeof(cr_rows) / sizeof(cr_rows[0])))

START_TEST(control_register)
{
	const struct cr_row *row = &cr_rows[_i];
	struct fake_step *step = fake_push(&m.fake, VMEXIT_CR, 3);
	const struct umbra_run *entry = &m.fake.entry[1];
	uint64_t pdpte[8] = { 0x1001, 0, 0x2001, 0, [4] = 0 }, bad[4] = { 0x1003, 0, 0, 0 }, got;

	memcpy(m.ram + 0x3000, pdpte, 32);
	memcpy(m.ram + 0x4000, bad, 32);
	step->exit.cr.cr = row->cr;
	step->exit.cr.op = row->op;
	step->exit.cr.gpr = UMBRA_RAX;
	m.run->gpr[UMBRA_RAX] = row->value;
	m.run->cr0 = row->cr0;
	m.run->cr3 = row->cr3;
	m.run->cr4 = row->cr4;
	m.run->efer = row->efer;
	m.run->flags = 0;
	if (row->cs)
		m.run->seg[UMBRA_CS].attr = row->cs;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	if (row->gp) {
		machine_injected(1, UMBRA_EVENT_EXC, 13);
		ck_assert_uint_eq(!!(entry->inject.flags & UMBRA_EVENT_ERROR_CODE), row->cr0 & PE);
		ck_assert_uint_eq(entry->rip, CODE);
	} else {
		machine_injected_none(1);
		ck_assert_uint_eq(entry->rip, CODE + 3);
	}
	got = row->op == VMEXIT_CR_MOV_FROM ? entry->gpr[UMBRA_RAX]
	      : row->cr == 0		    ? entry->cr0
	      : row->cr == 3		    ? entry->cr3
					    : entry->cr4;
	ck_assert_msg(got == row->after, "row %d: %llx instead of %llx", _i, (unsigned long long)got,
		      (unsigned long long)row->after);
	ck_assert_uint_eq(entry->efer, row->after_efer);
	ck_assert_msg(!!(entry->flags & UMBRA_RUN_FLUSH_TLB) == row->flush, "row %d: flush", _i);
	if (!row->gp && row->op != VMEXIT_CR_MOV_FROM)
		ck_assert(entry->dirty & UMBRA_STATE_CR);
}
END_TEST

START_TEST(cr0_upper_half)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_CR, 3);

	step->exit.cr.op = VMEXIT_CR_MOV_TO;
	m.run->cr0 = PE | ET | PG;
	m.run->cr4 = PAE;
	m.run->efer = LME | LMA;
	m.run->seg[UMBRA_CS].attr = 0xa09b;
	m.run->gpr[UMBRA_RAX] = 1ULL << 32 | PE | PG;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 13, 0);
}
END_TEST

START_TEST(cr8_user_apic)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_CR, 4);

	step->exit.cr.op = VMEXIT_CR_MOV_TO;
	step->exit.cr.cr = 8;
	m.kvm->cr8 = 9;
	m.run->gpr[UMBRA_RAX] = _i == 0 ? 4 : _i == 1 ? 10 : 16;
	machine_run(0, _i == 0 ? KVM_EXIT_SET_TPR : KVM_EXIT_SHUTDOWN);
	if (_i == 2)
		machine_injected_code(1, 13, 0);
	else
		ck_assert_uint_eq(m.kvm->cr8, _i == 0 ? 4 : 10);
	ck_assert_uint_eq(m.run->rip, _i == 2 ? CODE : CODE + 4);
}
END_TEST

START_TEST(cr8_bad_from_vmm)
{
	m.kvm->cr8 = 16;
	machine_run(-EINVAL, 0);
	ck_assert_uint_eq(m.fake.at, 0);
}
END_TEST

struct dr_row {
	uint8_t dr, write;
	uint64_t value, cr4, dr7;
	uint8_t cpl;
	int vector; /* -1: none */
	uint64_t after;
};

static const struct dr_row dr_rows[] = {
	{ 0, 1, 0x1234, 0, 0, 0, -1, 0x1234 },
	{ 3, 0, 0, 0, 0, 0, -1, 0x3333 },
	{ 4, 1, 0xf, 0, 0, 0, -1, 0xffff0fff }, /* DR6 */
	{ 4, 1, 0xf, X86_CR4_DE, 0, 0, 6, X86_DR6_ACTIVE_LOW },
	{ 5, 0, 0, 0, 0x401, 0, -1, 0x401 },
	{ 6, 1, 0, 0, 0, 0, -1, X86_DR6_ACTIVE_LOW },
	{ 6, 1, 0xffffffff, 0, 0, 0, -1, 0xffffefff },
	{ 7, 1, 0, 0, 0x401, 0, -1, 0x400 },
	{ 7, 1, 0xffffd7ff, 0, 0, 0, -1, 0xffff07ff },
	{ 0, 1, 1, 0, 0, 3, 13, 0 },
	{ 0, 1, 1, 0, X86_DR7_GD | 0x400, 0, 1, 0 },
};

#define DR_ROWS ((int)(sizeof(dr_rows) / sizeof(dr_rows[0])))

START_TEST(debug_register)
{
	const struct dr_row *row = &dr_rows[_i];
	struct fake_step *step = fake_push(&m.fake, VMEXIT_DR, 3);
	const struct umbra_run *entry = &m.fake.entry[1];
	uint8_t dr = row->dr == 4 || row->dr == 5 ? row->dr + 2 : row->dr;
	uint64_t got;

	step->exit.dr.dr = row->dr;
	step->exit.dr.write = row->write;
	step->exit.dr.gpr = UMBRA_RAX;
	m.run->gpr[UMBRA_RAX] = row->value;
	m.run->cr4 = row->cr4;
	m.run->dr[3] = 0x3333;
	m.run->dr7 = row->dr7 ? row->dr7 : X86_DR7_FIXED;
	m.run->seg[UMBRA_SS].attr |= (uint16_t)(row->cpl << 5);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	if (row->vector >= 0) {
		machine_injected(1, UMBRA_EVENT_EXC, (uint8_t)row->vector);
		ck_assert_uint_eq(entry->rip, CODE);
	} else {
		machine_injected_none(1);
		ck_assert_uint_eq(entry->rip, CODE + 3);
	}
	got = !row->write ? entry->gpr[UMBRA_RAX] : dr < 4 ? entry->dr[dr] : dr == 6 ? m.vcpu->dr6 : entry->dr7;
	ck_assert_msg(got == row->after, "row %d: %llx", _i, (unsigned long long)got);
	if (row->vector == 1) {
		ck_assert_uint_eq(m.vcpu->dr6, X86_DR6_ACTIVE_LOW | X86_DR6_BD);
		ck_assert(!(entry->dr7 & X86_DR7_GD));
	}
}
END_TEST

START_TEST(dr_upper_half)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_DR, 3);

	step->exit.dr.dr = (uint8_t)(6 + _i);
	step->exit.dr.write = 1;
	m.run->gpr[UMBRA_RAX] = 1ULL << 32;
	m.run->cr0 = PE | ET | PG;
	m.run->cr4 = PAE;
	m.run->efer = LME | LMA;
	m.run->seg[UMBRA_CS].attr = 0xa09b;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 13, 0);
}
END_TEST

struct xcr_row {
	uint32_t index;
	uint64_t value;
	uint8_t cpl;
	bool ok;
};

static const struct xcr_row xcr_rows[] = {
	{ 0, 7, 0, true },	    { 0, 3, 0, true },		 { 0, 1, 0, true },
	{ 0, 2, 0, false },	    { 0, 5, 0, false },		 { 0, 7 | 1 << 5, 0, false },
	{ 0, 7 | 7 << 5, 0, true }, { 0, 3 | 7 << 5, 0, false }, { 0, 7 | 1 << 9, 0, false },
	{ 1, 7, 0, false },	    { 0, 7, 3, false },		 { 0, 7 | 1ULL << 63, 0, false },
};

START_TEST(xsetbv)
{
	const struct xcr_row *row = &xcr_rows[_i];

	m.run->gpr[UMBRA_RCX] = row->index;
	m.run->gpr[UMBRA_RAX] = (uint32_t)row->value;
	m.run->gpr[UMBRA_RDX] = row->value >> 32;
	m.run->seg[UMBRA_SS].attr |= (uint16_t)(row->cpl << 5);
	fake_push(&m.fake, VMEXIT_XSETBV, 3);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].xcr0, row->ok ? row->value : 1);
	ck_assert_uint_eq(m.fake.entry[1].rip, row->ok ? CODE + 3 : CODE);
	if (!row->ok)
		machine_injected_code(1, 13, 0);
}
END_TEST

START_TEST(xcr0_rules)
{
	m.vcpu->xcr0_guest_bits = 7 | 3 << 3 | 7 << 5 | 3 << 17;
	ck_assert(!xcr0_valid(m.vcpu, 7 | 1 << 3));
	ck_assert(xcr0_valid(m.vcpu, 7 | 3 << 3));
	ck_assert(!xcr0_valid(m.vcpu, 7 | 1 << 17));
	ck_assert(!xcr0_valid(m.vcpu, 7 | 1 << 18));
	ck_assert(xcr0_valid(m.vcpu, 7 | 3 << 17));
}
END_TEST

START_TEST(reset_state)
{
	struct umbra_run *run = m.run;

	memset(run->gpr, 0x55, sizeof(run->gpr));
	run->cr4 = run->efer = run->cr3 = 0x5555;
	run->cr0 = PE | ET | CD | PG;
	run->xcr0 = 7;
	run->msr.lstar = 0x1234;
	m.vcpu->interrupt.injected = m.vcpu->exception.pending = m.vcpu->nmi_injected = true;
	vcpu_reset(m.vcpu, _i);
	ck_assert_uint_eq(run->rip, 0xfff0);
	ck_assert_uint_eq(run->seg[UMBRA_CS].selector, 0xf000);
	ck_assert_uint_eq(run->seg[UMBRA_CS].base, 0xffff0000);
	ck_assert_uint_eq(run->seg[UMBRA_CS].attr, 0x9b);
	ck_assert_uint_eq(run->seg[UMBRA_DS].attr, 0x93);
	ck_assert_uint_eq(run->seg[UMBRA_TR].attr, 0x8b);
	ck_assert_uint_eq(run->seg[UMBRA_LDTR].attr, 0x82);
	ck_assert_uint_eq(run->gdtr.limit, 0xffff);
	ck_assert_uint_eq(run->rflags, 2);
	ck_assert_uint_eq(run->cr0, _i ? CD | ET : 0x60000010);
	ck_assert_uint_eq(run->cr3 | run->cr4 | run->efer, 0);
	ck_assert_uint_eq(run->dr7, 0x400);
	ck_assert_uint_eq(run->gpr[UMBRA_RDX], 0x600);
	ck_assert_uint_eq(run->gpr[UMBRA_RAX], 0);
	ck_assert_uint_eq(run->xcr0, _i ? 7 : 1); /* INIT keeps XCR0 and most MSRs */
	ck_assert_uint_eq(run->msr.lstar, _i ? 0x1234 : 0);
	ck_assert_uint_eq(run->dirty, UMBRA_STATE_ALL);
	ck_assert_uint_eq(m.vcpu->valid, UMBRA_STATE_ALL);
	ck_assert(!m.vcpu->interrupt.injected && !m.vcpu->exception.pending && !m.vcpu->nmi_injected);
	ck_assert_uint_eq(m.vcpu->dr6, X86_DR6_ACTIVE_LOW);
}
END_TEST

START_TEST(fetch_keeps_exit)
{
	struct vmexit before;

	fake_push(&m.fake, VMEXIT_HLT, 1);
	machine_run(0, KVM_EXIT_HLT);
	ck_assert_uint_eq(m.vcpu->valid & UMBRA_STATE_SEG_SYS, 0);
	before = m.vcpu->exit;
	m.run->inject = (struct umbra_event) { .vector = 33, .flags = UMBRA_EVENT_VALID };
	vcpu_fetch(m.vcpu, UMBRA_STATE_SEG_SYS);
	ck_assert_uint_eq(m.fake.fetches, 1);
	ck_assert_int_eq(memcmp(&before, &m.vcpu->exit, sizeof(before)), 0);
	ck_assert_uint_eq(m.run->inject.vector, 33);
	ck_assert(m.run->inject.flags & UMBRA_EVENT_VALID);
	ck_assert(m.vcpu->valid & UMBRA_STATE_SEG_SYS);
	ck_assert_uint_eq(m.run->want, 0);
	ck_assert_uint_eq(m.run->flags, 0);
	vcpu_fetch(m.vcpu, UMBRA_STATE_SEG_SYS);
	ck_assert_uint_eq(m.fake.fetches, 1);
}
END_TEST

/* RIP wraps at 4 GiB outside 64-bit code only. */
START_TEST(skip_wraps)
{
	m.run->rip = 0xffffffff;
	m.vcpu->exit.insn_len = 2;
	if (_i) {
		m.run->efer = LME | LMA;
		m.run->seg[UMBRA_CS].attr = 0xa09b;
	}
	vcpu_skip_insn(m.vcpu);
	ck_assert_uint_eq(m.run->rip, _i ? 0x100000001 : 1);
}
END_TEST

START_TEST(skip_decodes)
{
	static const uint8_t code[] = { 0x66, 0x0f, 0x01, 0xf9 };

	machine_code(code, 4);
	m.vcpu->exit.insn_len = 0;
	vcpu_skip_insn(m.vcpu);
	ck_assert_uint_eq(m.run->rip, CODE + 4);
}
END_TEST

START_TEST(skip_single_step)
{
	m.run->rflags |= X86_RFLAGS_TF;
	fake_push(&m.fake, VMEXIT_INVD, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_EXC, 1);
	ck_assert_uint_eq(m.vcpu->dr6, X86_DR6_ACTIVE_LOW | X86_DR6_BS);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
	ck_assert(!(m.fake.entry[1].rflags & X86_RFLAGS_RF));
}
END_TEST

/* The shim takes XCR0 0 only where there is no XSAVE. */
START_TEST(reset_xcr0)
{
	m.vm.info.guest_xcr0 = _i ? 7 : 0;
	m.run->xcr0 = 7;
	vcpu_reset(m.vcpu, false);
	ck_assert_uint_eq(m.run->xcr0, _i);
}
END_TEST

Suite *suite_state(void)
{
	Suite *suite = suite_create("state");
	TCase *tcase = tcase_create("state");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_loop_test(tcase, control_register, 0, CR_ROWS);
	tcase_add_test(tcase, cr0_upper_half);
	tcase_add_loop_test(tcase, reset_xcr0, 0, 2);
	tcase_add_loop_test(tcase, cr8_user_apic, 0, 3);
	tcase_add_test(tcase, cr8_bad_from_vmm);
	tcase_add_loop_test(tcase, debug_register, 0, DR_ROWS);
	tcase_add_loop_test(tcase, dr_upper_half, 0, 2);
	tcase_add_loop_test(tcase, xsetbv, 0, (int)(sizeof(xcr_rows) / sizeof(xcr_rows[0])));
	tcase_add_test(tcase, xcr0_rules);
	tcase_add_loop_test(tcase, reset_state, 0, 2);
	tcase_add_test(tcase, fetch_keeps_exit);
	tcase_add_loop_test(tcase, skip_wraps, 0, 2);
	tcase_add_test(tcase, skip_decodes);
	tcase_add_test(tcase, skip_single_step);
	suite_add_tcase(suite, tcase);
	return suite;
}
