// SPDX-License-Identifier: GPL-2.0-or-later
/* SVM: exits that do not describe their instruction, NMIs that the hardware does not block, events that it cannot take. */
#include <linux/kvm_para.h>

#include "machine.h"
#include "sys.h"
#include "vcpu_state.h"

#define CODE_CPUID 0x72
#define CODE_IRET 0x74
#define CODE_MSR 0x7c
#define CODE_EXCEPTION 0x40
#define DR6_FRESH 0xffff0ff0ULL

static void setup(void)
{
	machine_start_svm(false);
}

static void setup_irqchip(void)
{
	static const uint8_t spurious[4] = { 0xff, 0x01, 0, 0 };

	machine_start_svm(true);
	lapic_mmio_write(m.vcpu, 0xf0, 4, spurious); /* software enable */
	m.run->rflags |= X86_RFLAGS_IF;
}

/* An exit to the VMM that leaves all state as it is: the script's end does not. */
static void run_to_port(void)
{
	fake_push_svm(&m.fake, 0x7b, 0x00800010, m.run->rip + 2, 0);
	machine_run(0, KVM_EXIT_IO);
}

static void code64(void)
{
	/* Identity: one 1 GiB page would need a PDPT; the walker is tested elsewhere, so the guest runs unpaged with L set. */
	m.run->efer = X86_EFER_LMA | X86_EFER_LME;
	m.run->seg[UMBRA_CS].attr = 0xa09b;
}

/* ---- lengths ---- */

struct length_row {
	uint32_t code;
	uint64_t info;
	bool long_mode;
	uint8_t len;
	uint8_t bytes[15];
};

static const struct length_row lengths[] = {
	{ 0x72, 0, false, 2, { 0x0f, 0xa2 } },	     /* CPUID */
	{ 0x72, 0, false, 3, { 0x66, 0x0f, 0xa2 } }, /* prefixes */
	{ 0x72, 0, true, 3, { 0x48, 0x0f, 0xa2 } },  /* REX */
	{ 0x72, 0, true, 5, { 0x2e, 0x66, 0x4f, 0x0f, 0xa2 } },
	{ 0x72, 0, false, 7, { 0xf2, 0x3e, 0x67, 0x26, 0x64, 0x0f, 0xa2 } },
	{ 0x7c, 0, false, 2, { 0x0f, 0x32 } }, /* RDMSR */
	{ 0x7c, 1, false, 2, { 0x0f, 0x30 } }, /* WRMSR */
	{ 0x7c, 1, true, 3, { 0x65, 0x0f, 0x30 } },
	{ 0x77, 0, false, 2, { 0xf3, 0x90 } }, /* PAUSE */
	{ 0x77, 0, false, 3, { 0x66, 0xf3, 0x90 } },
	{ 0x8d, 0, false, 3, { 0x0f, 0x01, 0xd1 } }, /* XSETBV */
	{ 0x76, 0, false, 2, { 0x0f, 0x08 } },	     /* INVD */
	{ 0x89, 0, false, 2, { 0x0f, 0x09 } },	     /* WBINVD */
	{ 0x89, 0, false, 3, { 0xf3, 0x0f, 0x09 } }, /* WBNOINVD */
	{ 0x6e, 0, false, 2, { 0x0f, 0x31 } },	     /* RDTSC */
	{ 0x6e, 0, false, 3, { 0x0f, 0x01, 0xf9 } }, /* RDTSCP */
	{ 0x8a, 0, false, 3, { 0x0f, 0x01, 0xc8 } }, /* MONITOR */
	{ 0x8a, 0, false, 3, { 0x0f, 0x01, 0xfa } }, /* MONITORX */
	{ 0x8b, 0, false, 3, { 0x0f, 0x01, 0xc9 } }, /* MWAIT */
	{ 0x8b, 0, false, 3, { 0x0f, 0x01, 0xfb } }, /* MWAITX */
	/* Another vCPU has written over the code: whatever is there now, something goes forward. */
	{ 0x72, 0, false, 2, { 0x8b, 0xc8 } }, /* MOV: its own length */
	{ 0x72, 0, false, 2, { 0x0f, 0x04 } }, /* undecodable: CPUID's */
	{ 0x77, 0, false, 2, { 0x0f, 0x04 } },
};

START_TEST(length)
{
	const struct length_row *row = &lengths[_i];

	if (row->long_mode)
		code64();
	machine_code(row->bytes, sizeof(row->bytes));
	m.run->gpr[UMBRA_RCX] = row->code == 0x7c ? 0x277 : 0; /* PAT; XCR0 */
	m.run->gpr[UMBRA_RAX] = row->code == 0x8d ? 1 : 0x00070406;
	m.run->gpr[UMBRA_RDX] = row->code == 0x8d ? 0 : 0x00070406;
	if (row->code == 0x8d)
		m.run->cr4 |= X86_CR4_OSXSAVE;
	fake_push_svm(&m.fake, row->code, row->info, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(1);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + row->len);
}
END_TEST

/* The hardware's own length, where there is one, is believed. */
START_TEST(length_given)
{
	machine_code("\x0f\xa2", 2);
	fake_push_svm(&m.fake, CODE_CPUID, 0, 0, 4);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 4);
}
END_TEST

/* Code that ends with its page, and code that crosses into one that is not there. */
START_TEST(length_at_page_end)
{
	uint64_t rip = _i ? RAM_SIZE - 2 : 0x2000 - 1;

	memcpy(m.ram + rip, "\x0f\xa2", 2);
	m.run->rip = rip;
	fake_push_svm(&m.fake, CODE_CPUID, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, rip + 2);
}
END_TEST

START_TEST(hlt)
{
	machine_code("\xf4", 1);
	fake_push_svm(&m.fake, 0x78, 0, 0, 0);
	machine_run(0, KVM_EXIT_HLT);
	ck_assert_uint_eq(m.run->rip, CODE + 1);
}
END_TEST

START_TEST(port)
{
	fake_push_svm(&m.fake, 0x7b, 0x03f80040, CODE + 3, 0);
	m.run->gpr[UMBRA_RAX] = 0x12345678;
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.port, 0x3f8);
	ck_assert_uint_eq(m.kvm->io.size, 4);
	ck_assert_uint_eq(m.kvm->io.direction, KVM_EXIT_IO_OUT);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
}
END_TEST

/* ---- control and debug registers ---- */

START_TEST(mov_to_cr)
{
	machine_code("\x0f\x22\xe3", 3); /* MOV CR4, EBX */
	m.run->gpr[UMBRA_RBX] = X86_CR4_PSE | X86_CR4_PGE;
	fake_push_svm(&m.fake, 0x14, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].cr4, X86_CR4_PSE | X86_CR4_PGE);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
}
END_TEST

START_TEST(mov_from_cr)
{
	static const uint8_t plain[] = { 0x0f, 0x20, 0xe6 }, rex[] = { 0x41, 0x0f, 0x20, 0xe6 };

	if (_i) {
		code64();
		machine_code(rex, sizeof(rex));
	} else {
		machine_code(plain, sizeof(plain));
	}
	m.run->cr4 = X86_CR4_PSE;
	fake_push_svm(&m.fake, 0x04, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].gpr[_i ? 14 : UMBRA_RSI], X86_CR4_PSE);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3 + (unsigned int)_i);
}
END_TEST

/* AMD's other way to CR8: the exit says which register it is. */
START_TEST(cr8)
{
	machine_code("\xf0\x0f\x22\xc1\xf0\x0f\x20\xc2", 8);
	m.run->gpr[UMBRA_RCX] = 9;
	fake_push_svm(&m.fake, 0x18, 0, 0, 0);
	fake_push_svm(&m.fake, 0x08, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[2].gpr[UMBRA_RDX], 9);
	ck_assert_uint_eq(m.fake.entry[2].rip, CODE + 8);
}
END_TEST

struct cr0_row {
	uint8_t bytes[6], len;
	uint64_t cr0;
	uint32_t code;
};

#define CR0_BASE 0x60000010ULL
static const struct cr0_row cr0_rows[] = {
	{ { 0x0f, 0x06 }, 2, CR0_BASE | 0x23, 0x10 },		  /* CLTS */
	{ { 0x0f, 0x01, 0xf0 }, 3, CR0_BASE | 0x27, 0x65 },	  /* LMSW AX */
	{ { 0x66, 0x0f, 0x01, 0xf0 }, 4, CR0_BASE | 0x27, 0x10 }, /* prefixed */
	{ { 0x0f, 0x01, 0x33 }, 3, CR0_BASE | 0x2d, 0x65 },	  /* LMSW [EBX] */
	{ { 0x0f, 0x01, 0x73, 0x02 }, 4, CR0_BASE | 0x2f, 0x65 }, /* LMSW [EBX+2] */
	{ { 0x0f, 0x22, 0xc1 }, 3, 0x11, 0x65 },		  /* MOV CR0, ECX */
};

START_TEST(cr0_forms)
{
	static const uint16_t words[] = { 0xfffd, 0xffff };
	const struct cr0_row *row = &cr0_rows[_i];

	machine_code(row->bytes, sizeof(row->bytes));
	memcpy(m.ram + 0x3000, words, sizeof(words));
	m.run->cr0 = CR0_BASE | 0x2b; /* NE TS MP PE */
	m.run->gpr[UMBRA_RAX] = 0xffff0006;
	m.run->gpr[UMBRA_RCX] = 0x11;
	m.run->gpr[UMBRA_RBX] = 0x3000;
	fake_push_svm(&m.fake, row->code, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(1);
	ck_assert_uint_eq(m.fake.entry[1].cr0, row->cr0);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + row->len);
}
END_TEST

/* SMSW exits as a read of CR0 while CD or NW is set: by the register's size, and 16 bits of memory. */
START_TEST(smsw)
{
	static const struct {
		uint8_t bytes[5], len;
		uint64_t rax;
	} rows[] = {
		{ { 0x0f, 0x01, 0xe0 }, 3, 0x60000033 },
		{ { 0x66, 0x0f, 0x01, 0xe0 }, 4, 0xa5a5a5a5a5a50033 },
		{ { 0x0f, 0x01, 0x23 }, 3, 0xa5a5a5a5a5a5a5a5 }, /* [EBX] */
		{ { 0x0f, 0x20, 0xc0 }, 3, 0x60000033 },	 /* MOV EAX, CR0 */
	};

	machine_code(rows[_i].bytes, 5);
	m.run->cr0 = 0x60000033;
	m.run->gpr[UMBRA_RAX] = 0xa5a5a5a5a5a5a5a5;
	m.run->gpr[UMBRA_RBX] = 0x3000;
	memset(m.ram + 0x3000, 0xff, 8);
	fake_push_svm(&m.fake, 0x00, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(1);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], rows[_i].rax);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + rows[_i].len);
	ck_assert_int_eq(memcmp(m.ram + 0x3000, _i == 2 ? "\x33\x00\xff\xff" : "\xff\xff\xff\xff", 4), 0);
}
END_TEST

/* LMSW from where no memory is, and from a segment that does not allow it. */
START_TEST(lmsw_bad_operand)
{
	machine_code("\x0f\x01\x33", 3);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	if (_i)
		m.run->seg[UMBRA_DS].limit = 0xfff;
	fake_push_svm(&m.fake, 0x65, 0, 0, 0);
	if (!_i) {
		machine_run(0, KVM_EXIT_INTERNAL_ERROR);
		return;
	}
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 13, 0);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
}
END_TEST

/* Not the instruction that exited: nothing is done, the guest goes on where it was. */
START_TEST(code_has_changed)
{
	static const uint32_t codes[] = { 0x14, 0x04, 0x10, 0x65, 0x37, 0x27 };

	machine_code("\x90\x90\x90", 3);
	m.run->cr4 = X86_CR4_PSE;
	m.run->dr7 = 0x400;
	fake_push_svm(&m.fake, codes[_i], 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
	ck_assert_uint_eq(m.fake.entry[1].cr4, X86_CR4_PSE);
	machine_injected_none(1);
}
END_TEST

START_TEST(debug_registers)
{
	machine_code("\x0f\x23\xd9\x0f\x21\xda", 6); /* MOV DR3, ECX; MOV EDX, DR3 */
	m.run->gpr[UMBRA_RCX] = 0x1234;
	fake_push_svm(&m.fake, 0x33, 0, 0, 0);
	fake_push_svm(&m.fake, 0x23, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].dr[3], 0x1234);
	ck_assert_uint_eq(m.fake.entry[2].gpr[UMBRA_RDX], 0x1234);
	ck_assert_uint_eq(m.fake.entry[2].rip, CODE + 6);
}
END_TEST

/* ---- exceptions ---- */

START_TEST(db)
{
	fake_push_svm(&m.fake, CODE_EXCEPTION + 1, 0, DR6_FRESH | X86_DR6_BS | 1, 0);
	m.vcpu->dr6 = DR6_FRESH | 8;
	run_to_port();
	machine_injected(1, UMBRA_EVENT_EXC, 1);
	ck_assert_uint_eq(m.vcpu->dr6, DR6_FRESH | X86_DR6_BS | 1);
}
END_TEST

START_TEST(page_fault)
{
	fake_push_svm(&m.fake, CODE_EXCEPTION + 14, 6, 0xdeadb000, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 14, 6);
	ck_assert_uint_eq(m.fake.entry[1].cr2, 0xdeadb000);
}
END_TEST

/* A hypercall by the instruction of either vendor; #UD else. */
START_TEST(hypercall)
{
	static const struct {
		uint32_t code;
		uint8_t bytes[3];
		bool call;
	} rows[] = {
		{ 0x81, { 0x0f, 0x01, 0xd9 }, true },
		{ CODE_EXCEPTION + 6, { 0x0f, 0x01, 0xc1 }, true },
		{ CODE_EXCEPTION + 6, { 0x0f, 0x0b }, false },
		{ 0x80, { 0x0f, 0x01, 0xd8 }, false }, /* VMRUN */
	};

	machine_code(rows[_i].bytes, 3);
	m.run->gpr[UMBRA_RAX] = 12345;
	fake_push_svm(&m.fake, rows[_i].code, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert(m.fake.entry[0].exceptions & 1 << 6);
	if (rows[_i].call) {
		machine_injected_none(1);
		ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
		ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], (uint32_t)-KVM_ENOSYS);
	} else {
		machine_injected(1, UMBRA_EVENT_EXC, 6);
		ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
	}
}
END_TEST

/* INT3 that the debugger gives back, INT1: a hardware exception from behind the instruction. */
START_TEST(soft_exception)
{
	if (_i) {
		fake_push_svm(&m.fake, 0x88, 0, 0, 0);
		fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);
	} else {
		inject_soft_exception(m.vcpu, EXC_BP, UMBRA_EVENT_SOFT_EXC, 1);
	}
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(_i ? 1 : 0, UMBRA_EVENT_EXC, _i ? EXC_DB : EXC_BP);
	ck_assert_uint_eq(m.fake.entry[_i ? 1 : 0].inject.insn_len, 0);
	ck_assert_uint_eq(m.fake.entry[_i ? 1 : 0].rip, CODE + 1);
}
END_TEST

static void handler_entered(struct umbra_run *run)
{
	run->rip = 0x8000;
}

/* Its delivery was cut short, or never begun: RIP is as if nothing had been tried, and it is handed in again. */
START_TEST(soft_exception_again)
{
	inject_soft_exception(m.vcpu, EXC_BP, UMBRA_EVENT_SOFT_EXC, 1);
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0)->keep_inject = _i == 1;
	if (_i == 2) /* as INT1's comes back */
		m.fake.step[0].event = (struct umbra_event) { 1, UMBRA_EVENT_EXC, UMBRA_EVENT_VALID, 0, 0 };
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0)->act = handler_entered;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_EXC, EXC_BP);
	ck_assert_uint_eq(m.fake.entry[0].rip, CODE + 1);
	machine_injected(1, UMBRA_EVENT_EXC, EXC_BP);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 1);
	machine_injected_none(2);
	ck_assert_uint_eq(m.fake.entry[2].rip, 0x8000);
}
END_TEST

/* What the VMM saves meanwhile is the state before the instruction. */
START_TEST(soft_exception_saved)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	inject_soft_exception(m.vcpu, EXC_BP, UMBRA_EVENT_SOFT_EXC, 1);
	run_to_port();
	ck_assert_int_eq(state_get_regs(m.vcpu, &regs), 0);
	ck_assert_int_eq(state_get_events(m.vcpu, &events), 0);
	ck_assert_uint_eq(regs.rip, CODE);
	ck_assert_uint_eq(events.exception.injected, 0);
}
END_TEST

START_TEST(soft_interrupt)
{
	struct kvm_vcpu_events events = { .interrupt = { .injected = 1, .nr = 0x80, .soft = 1 } };

	machine_code(_i ? "\xcd\x80" : "\x90\x90", 2);
	ck_assert_int_eq(state_set_events(m.vcpu, &events), 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	if (_i) /* the guest executes it again */
		machine_injected_none(0);
	else
		machine_injected(0, UMBRA_EVENT_INTR, 0x80);
	ck_assert_uint_eq(m.fake.entry[0].rip, CODE);
}
END_TEST

/* ---- NMIs ---- */

#define WINDOWS (UMBRA_ICPT_NMI_WINDOW | UMBRA_ICPT_INTR_WINDOW)

static uint32_t windows(unsigned int entry)
{
	return m.fake.entry[entry].intercepts & WINDOWS;
}

static bool stepping(unsigned int entry)
{
	return m.fake.entry[entry].rflags & X86_RFLAGS_TF;
}

static void iret_done(struct umbra_run *run)
{
	run->rip = 0x8000;
	run->rflags = X86_RFLAGS_FIXED | X86_RFLAGS_IF;
}

static void iret_done_tf(struct umbra_run *run)
{
	iret_done(run);
	run->rflags |= X86_RFLAGS_TF;
}

/* From the handler on the second one waits for IRET, which is let run alone; then it is handed over. */
START_TEST(nmi_blocked_until_iret)
{
	m.vcpu->nmi_pending = 2;
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);  /* 0: the first NMI goes in */
	fake_push_svm(&m.fake, CODE_IRET, 0, 0, 0); /* 1: its handler's end */
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);  /* 2: not yet executed */
	fake_push_svm(&m.fake, CODE_EXCEPTION + 1, 0, DR6_FRESH | X86_DR6_BS, 0)->act = iret_done; /* 3 */
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_NMI, 2);
	ck_assert_uint_eq(windows(0), UMBRA_ICPT_NMI_WINDOW); /* the handler may end in this very entry */
	machine_injected_none(1);
	ck_assert_uint_eq(windows(1), UMBRA_ICPT_NMI_WINDOW);
	for (unsigned int n = 2; n < 4; n++) {
		machine_injected_none(n);
		ck_assert(stepping(n));
		ck_assert_uint_eq(windows(n), 0);
		ck_assert_uint_eq(m.fake.entry[n].exceptions & 1 << 13, 1 << 13);
	}
	machine_injected(4, UMBRA_EVENT_NMI, 2);
	ck_assert(!stepping(4));
	ck_assert_uint_eq(m.fake.entry[4].exceptions & 1 << 13, 0);
	ck_assert_uint_eq(m.vcpu->nmi_pending, 0);
}
END_TEST

/* Without a second one, too: or the next would wait for an IRET that has long been. */
START_TEST(nmi_iret_is_always_seen)
{
	struct kvm_vcpu_events events;

	m.vcpu->nmi_pending = 1;
	fake_push_svm(&m.fake, CODE_IRET, 0, 0, 0);
	if (!_i)
		fake_push_svm(&m.fake, CODE_EXCEPTION + 1, 0, DR6_FRESH | X86_DR6_BS, 0)->act = iret_done;
	run_to_port();
	ck_assert_uint_eq(windows(0), UMBRA_ICPT_NMI_WINDOW);
	state_get_events(m.vcpu, &events);
	ck_assert_uint_eq(events.nmi.masked, (unsigned int)_i);
	ck_assert_uint_eq(m.run->rflags & X86_RFLAGS_TF, 0);
	if (!_i)
		ck_assert_uint_eq(windows(2), 0);
}
END_TEST

/* The step's TF is not the guest's: unless it had it itself, before the IRET or behind it. */
START_TEST(nmi_step_and_the_guests_own)
{
	m.vcpu->nmi_pending = 1;
	if (_i == 1)
		m.run->rflags |= X86_RFLAGS_TF;
	fake_push_svm(&m.fake, CODE_IRET, 0, 0, 0);
	fake_push_svm(&m.fake, CODE_EXCEPTION + 1, 0, DR6_FRESH | X86_DR6_BS | (_i == 3 ? 2 : 0), 0)->act =
		_i == 2 ? iret_done_tf : iret_done;
	run_to_port();
	ck_assert_uint_eq(stepping(2), _i == 2);
	if (_i == 1 || _i == 3) {
		machine_injected(2, UMBRA_EVENT_EXC, EXC_DB);
		ck_assert_uint_eq(m.vcpu->dr6, DR6_FRESH | (_i == 1 ? X86_DR6_BS : 2));
	} else {
		machine_injected_none(2);
	}
}
END_TEST

/* An IRET that faults: the guest's handler finds its own RFLAGS, and NMIs are no longer blocked. */
START_TEST(nmi_iret_faults)
{
	m.vcpu->nmi_pending = 1;
	fake_push_svm(&m.fake, CODE_IRET, 0, 0, 0);
	fake_push_svm(&m.fake, CODE_EXCEPTION + (_i ? 14 : 13), 0x10, 0x5000, 0);
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);
	run_to_port();
	machine_injected_code(2, _i ? 14 : 13, 0x10);
	ck_assert(!stepping(2));
	ck_assert(!m.vcpu->nmi_blocked);
	ck_assert_uint_eq(windows(3), 0);
}
END_TEST

/* An instruction breakpoint on the IRET comes before it. */
START_TEST(nmi_iret_breakpoint)
{
	m.vcpu->nmi_pending = 1;
	fake_push_svm(&m.fake, CODE_IRET, 0, 0, 0);
	fake_push_svm(&m.fake, CODE_EXCEPTION + 1, 0, DR6_FRESH | 1, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(2, UMBRA_EVENT_EXC, EXC_DB);
	ck_assert(!stepping(2));
	ck_assert_uint_eq(windows(2), UMBRA_ICPT_NMI_WINDOW);
}
END_TEST

/* The VMM moved RIP while the IRET was stepped: that one is not executed any more. */
START_TEST(nmi_iret_left)
{
	struct kvm_regs regs;

	m.vcpu->nmi_pending = 1;
	fake_push_svm(&m.fake, CODE_IRET, 0, 0, 0);
	m.kvm->immediate_exit = 0;
	fake_push(&m.fake, VMEXIT_MEM, 0)->exit.mem.access = UMBRA_MEM_FAULT;
	machine_run(-EFAULT, 0);
	state_get_regs(m.vcpu, &regs);
	ck_assert_uint_eq(regs.rflags & X86_RFLAGS_TF, 0);
	regs.rip = 0x3000;
	state_set_regs(m.vcpu, &regs);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert(!stepping(2));
	ck_assert_uint_eq(windows(2), UMBRA_ICPT_NMI_WINDOW);
}
END_TEST

/* Its delivery was cut short: it is not blocked by itself. */
START_TEST(nmi_again)
{
	m.vcpu->nmi_pending = 1;
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0)->event =
		(struct umbra_event) { 2, UMBRA_EVENT_NMI, UMBRA_EVENT_VALID, 0, 0 };
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);
	run_to_port();
	machine_injected(0, UMBRA_EVENT_NMI, 2);
	machine_injected(1, UMBRA_EVENT_NMI, 2);
	machine_injected_none(2);
	ck_assert(m.vcpu->nmi_blocked);
}
END_TEST

static void shadow_over(struct umbra_run *run)
{
	run->intr_shadow = 0;
}

/* No window tells when an interrupt shadow ends with interrupts off, or a delivery: the shadow comes back soon to look. */
START_TEST(nmi_in_shadow)
{
	uint64_t now = cpu_rdtsc(), soon = m.vm.info.tsc_khz * 50ULL; /* generous: 50 ms by the fake's own TSC */

	m.vcpu->nmi_pending = 1;
	m.run->intr_shadow = UMBRA_SHADOW_STI;
	if (_i)
		m.run->rflags |= X86_RFLAGS_IF;
	fake_push(&m.fake, VMEXIT_DEADLINE, 0)->act = shadow_over;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(0);
	ck_assert_uint_eq(windows(0), _i ? UMBRA_ICPT_INTR_WINDOW : 0);
	ck_assert_uint_gt(m.fake.entry[0].deadline_tsc, now);
	ck_assert_uint_lt(m.fake.entry[0].deadline_tsc, cpu_rdtsc() + soon);
	machine_injected(1, UMBRA_EVENT_NMI, 2);
	ck_assert_uint_eq(m.fake.entry[1].deadline_tsc, 0);
}
END_TEST

START_TEST(nmi_behind_exception)
{
	m.vcpu->nmi_pending = 1;
	inject_gp(m.vcpu);
	machine_code("\x0f\xa2", 2);
	fake_push_svm(&m.fake, CODE_CPUID, 0, 0, 2); /* a quick exit does not forget it */
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(0, 13, 0);
	ck_assert_uint_ne(m.fake.entry[0].deadline_tsc, 0);
	machine_injected(1, UMBRA_EVENT_NMI, 2);
}
END_TEST

/* While the IRET is stepped no interrupt goes before it; behind it they do. */
START_TEST(interrupt_behind_iret)
{
	m.vcpu->nmi_pending = 1;
	fake_push_svm(&m.fake, CODE_IRET, 0, 0, 0);
	fake_push_svm(&m.fake, CODE_EXCEPTION + 1, 0, DR6_FRESH | X86_DR6_BS, 0)->act = iret_done;
	m.fake.step[0].act = NULL;
	apic_deliver(&m.vm, NULL, &(struct apic_msg) { .vector = 0x51, .dest = 0 });
	m.run->rflags &= ~X86_RFLAGS_IF;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(1);
	ck_assert_uint_eq(windows(1), 0);
	machine_injected(2, UMBRA_EVENT_INTR, 0x51);
}
END_TEST

START_TEST(nmi_state)
{
	struct kvm_vcpu_events events = { .nmi = { .masked = 1, .pending = 1 },
					  .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
					  .interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS };

	ck_assert_int_eq(state_set_events(m.vcpu, &events), 0);
	ck_assert_int_eq(state_get_events(m.vcpu, &events), 0);
	ck_assert(events.nmi.masked && events.nmi.pending);
	ck_assert_uint_eq(events.interrupt.shadow, KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI);
	run_to_port();
	machine_injected_none(0);
	ck_assert_uint_eq(windows(0), UMBRA_ICPT_NMI_WINDOW);
	vcpu_reset(m.vcpu, true);
	state_get_events(m.vcpu, &events);
	ck_assert(!events.nmi.masked && !events.nmi.pending);
}
END_TEST

/* ---- ends ---- */

START_TEST(shutdown_leaves_init_state)
{
	m.run->gpr[UMBRA_RBX] = 5;
	fake_push_svm(&m.fake, 0x7f, 0, 0, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->rip, 0xfff0);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RBX], 0);
	ck_assert_uint_eq(m.run->seg[UMBRA_CS].selector, 0xf000);
}
END_TEST

START_TEST(bad_state)
{
	struct fake_step *step = fake_push_svm(&m.fake, 0xffffffff, 0, 0, 0);

	step->hw.reason = UMBRA_EXIT_BAD_STATE;
	step->hw.rule = UMBRA_BAD_HARDWARE;
	machine_run(0, KVM_EXIT_FAIL_ENTRY);
	ck_assert_uint_eq(m.kvm->fail_entry.hardware_entry_failure_reason, 0xffffffff);
}
END_TEST

START_TEST(unknown)
{
	fake_push_svm(&m.fake, 0x7e, 0, 0, 0);
	machine_run(0, KVM_EXIT_UNKNOWN);
	ck_assert_uint_eq(m.kvm->hw.hardware_exit_reason, 0x7e);
}
END_TEST

Suite *suite_svm(void)
{
	Suite *suite = suite_create("svm");
	TCase *plain = tcase_create("plain"), *irqchip = tcase_create("irqchip");

	tcase_add_checked_fixture(plain, setup, NULL);
	tcase_add_checked_fixture(irqchip, setup_irqchip, NULL);
	tcase_add_loop_test(plain, length, 0, (int)(sizeof(lengths) / sizeof(lengths[0])));
	tcase_add_test(plain, length_given);
	tcase_add_loop_test(plain, length_at_page_end, 0, 2);
	tcase_add_test(plain, hlt);
	tcase_add_test(plain, port);
	tcase_add_test(plain, mov_to_cr);
	tcase_add_loop_test(plain, mov_from_cr, 0, 2);
	tcase_add_test(plain, cr8);
	tcase_add_loop_test(plain, cr0_forms, 0, (int)(sizeof(cr0_rows) / sizeof(cr0_rows[0])));
	tcase_add_loop_test(plain, smsw, 0, 4);
	tcase_add_loop_test(plain, lmsw_bad_operand, 0, 2);
	tcase_add_loop_test(plain, code_has_changed, 0, 6);
	tcase_add_test(plain, debug_registers);
	tcase_add_test(plain, db);
	tcase_add_test(plain, page_fault);
	tcase_add_loop_test(plain, hypercall, 0, 4);
	tcase_add_loop_test(plain, soft_exception, 0, 2);
	tcase_add_loop_test(plain, soft_exception_again, 0, 3);
	tcase_add_test(plain, soft_exception_saved);
	tcase_add_loop_test(plain, soft_interrupt, 0, 2);
	tcase_add_test(plain, nmi_blocked_until_iret);
	tcase_add_loop_test(plain, nmi_iret_is_always_seen, 0, 2);
	tcase_add_loop_test(plain, nmi_step_and_the_guests_own, 0, 4);
	tcase_add_loop_test(plain, nmi_iret_faults, 0, 2);
	tcase_add_test(plain, nmi_iret_breakpoint);
	tcase_add_test(plain, nmi_iret_left);
	tcase_add_test(plain, nmi_again);
	tcase_add_loop_test(plain, nmi_in_shadow, 0, 2);
	tcase_add_test(plain, nmi_behind_exception);
	tcase_add_test(irqchip, interrupt_behind_iret);
	tcase_add_test(plain, nmi_state);
	tcase_add_test(plain, shutdown_leaves_init_state);
	tcase_add_test(plain, bad_state);
	tcase_add_test(plain, unknown);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, irqchip);
	return suite;
}
