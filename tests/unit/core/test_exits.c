// SPDX-License-Identifier: GPL-2.0-or-later
/* Ports, CPUID, MSRs and the plain exits. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "cpuid.h"
#include "machine.h"
#include "routing.h"

static void setup(void)
{
	machine_start(false);
}

static void setup_irqchip(void)
{
	machine_start(true);
}

static void push_io(uint16_t port, uint8_t size, uint8_t flags, uint8_t insn_len)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_IO, insn_len);

	step->exit.io.port = port;
	step->exit.io.size = size;
	step->exit.io.flags = flags;
}

START_TEST(port_out)
{
	static const uint32_t values[] = { 0x78, 0x5678, 0x12345678 };
	static const uint8_t sizes[] = { 1, 2, 4 };

	m.run->gpr[UMBRA_RAX] = 0xaabbccdd12345678;
	push_io(0x3f8, sizes[_i], 0, 2);
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.direction, KVM_EXIT_IO_OUT);
	ck_assert_uint_eq(m.kvm->io.port, 0x3f8);
	ck_assert_uint_eq(m.kvm->io.size, sizes[_i]);
	ck_assert_uint_eq(m.kvm->io.count, 1);
	ck_assert_uint_eq(m.kvm->io.data_offset, CHANNEL_PIO_OFFSET);
	ck_assert_int_eq(memcmp(m.vcpu->pio, &values[_i], sizes[_i]), 0);
	ck_assert_uint_eq(m.run->rip, CODE); /* over when KVM_RUN is called again */
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
	ck_assert(m.fake.entry[1].dirty & UMBRA_STATE_RIP);
	ck_assert_uint_eq(m.vcpu->exits_user, 2);
}
END_TEST

START_TEST(port_in)
{
	static const struct {
		uint8_t size;
		uint64_t rax;
	} rows[] = { { 1, 0xffffffffffffff44 }, { 2, 0xffffffffffff3344 }, { 4, 0x11223344 } };
	uint32_t value = 0x11223344;

	m.run->gpr[UMBRA_RAX] = ~0ULL;
	push_io(0x64, rows[_i].size, VMEXIT_IO_IN, 1);
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.direction, KVM_EXIT_IO_IN);
	memcpy(m.vcpu->pio, &value, 4);
	m.kvm->io.size = 200; /* what the VMM changes here is not believed */
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], rows[_i].rax);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 1);
}
END_TEST

START_TEST(port_vmm_resets)
{
	push_io(0xcf9, 1, _i ? VMEXIT_IO_IN : 0, 2);
	m.run->gpr[UMBRA_RAX] = 7;
	machine_run(0, KVM_EXIT_IO);
	m.run->rip = 0x2000;
	m.vcpu->pio[0] = 0x99;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, 0x2000);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], 7);
}
END_TEST

START_TEST(port_ioeventfd)
{
	struct kvm_ioeventfd arg = { .addr = 0x510, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO };
	int fd = eventfd(0, EFD_NONBLOCK);
	int given = fd;
	uint64_t count;

	ck_assert_int_eq(eventfds_ioeventfd(&m.vm, &arg, 1, &given), 0);
	push_io(0x510, 2, 0, 2);
	push_io(0x511, 2, 0, 2); /* another port */
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.port, 0x511);
	ck_assert_int_eq(read(fd, &count, 8), 8);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
}
END_TEST

START_TEST(port_string_out)
{
	static const uint8_t rep_outsb[] = { 0xf3, 0x6e };

	machine_code(rep_outsb, 2);
	memcpy(m.ram + 0x2000, "hello", 5);
	m.run->gpr[UMBRA_RSI] = 0x2000;
	m.run->gpr[UMBRA_RDX] = 0x402;
	m.run->gpr[UMBRA_RCX] = 5;
	push_io(0x402, 1, VMEXIT_IO_STRING | VMEXIT_IO_REP, 2);
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.count, 5);
	ck_assert_uint_eq(m.kvm->io.direction, KVM_EXIT_IO_OUT);
	ck_assert_int_eq(memcmp(m.vcpu->pio, "hello", 5), 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RCX], 0);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RSI], 0x2005);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
}
END_TEST

START_TEST(port_string_in)
{
	static const uint8_t rep_insw[] = { 0x66, 0xf3, 0x6d };

	machine_code(rep_insw, 3);
	m.run->gpr[UMBRA_RDI] = 0x3ffe; /* one element to the page's end: two exits */
	m.run->gpr[UMBRA_RDX] = 0x1f0;
	m.run->gpr[UMBRA_RCX] = 3;
	push_io(0x1f0, 2, VMEXIT_IO_STRING | VMEXIT_IO_REP | VMEXIT_IO_IN, 3);
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.count, 1);
	memcpy(m.vcpu->pio, "AB", 2);
	push_io(0x1f0, 2, VMEXIT_IO_STRING | VMEXIT_IO_REP | VMEXIT_IO_IN, 3);
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.count, 2);
	ck_assert_uint_eq(m.kvm->io.size, 2);
	memcpy(m.vcpu->pio, "CDEF", 4);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_int_eq(memcmp(m.ram + 0x3ffe, "ABCDEF", 6), 0);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RCX], 0);
	ck_assert_uint_eq(m.run->rip, CODE + 3);
}
END_TEST

START_TEST(cpuid)
{
	struct kvm_cpuid_entry2 entry = { .function = 0x4000, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4 };

	ck_assert_int_eq(cpuid_set(m.vcpu, &entry, 1), 0);
	m.run->gpr[UMBRA_RAX] = 0xffffffff00004000;
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], 1);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RBX], 2);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RCX], 3);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RDX], 4);
	ck_assert_uint_eq(m.fake.entry[2].rip, CODE + 4);
	ck_assert_uint_eq(m.vcpu->exits[VMEXIT_CPUID], 2);
	ck_assert_uint_eq(m.vcpu->exits_user, 1);
}
END_TEST

START_TEST(msr_gp)
{
	m.run->gpr[UMBRA_RCX] = 0xdeadbeef;
	fake_push(&m.fake, _i ? VMEXIT_WRMSR : VMEXIT_RDMSR, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 13, 0);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
}
END_TEST

START_TEST(msr_rw)
{
	m.run->gpr[UMBRA_RCX] = 0x174; /* SYSENTER_CS */
	m.run->gpr[UMBRA_RAX] = 0xffffffff00000010;
	m.run->gpr[UMBRA_RDX] = 0;
	fake_push(&m.fake, VMEXIT_WRMSR, 2);
	fake_push(&m.fake, VMEXIT_RDMSR, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].msr.sysenter_cs, 0x10);
	ck_assert(m.fake.entry[1].dirty & UMBRA_STATE_MSR);
	ck_assert_uint_eq(m.fake.entry[2].gpr[UMBRA_RAX], 0x10);
	ck_assert_uint_eq(m.fake.entry[2].rip, CODE + 4);
}
END_TEST

START_TEST(msr_user_space)
{
	bool write = _i & 1, error = _i & 2;

	m.vm.user_space_msr_mask = KVM_MSR_EXIT_REASON_UNKNOWN;
	m.run->gpr[UMBRA_RCX] = 0xdeadbeef;
	m.run->gpr[UMBRA_RAX] = 0x11111111;
	m.run->gpr[UMBRA_RDX] = 0x22222222;
	fake_push(&m.fake, write ? VMEXIT_WRMSR : VMEXIT_RDMSR, 2);
	machine_run(0, write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR);
	ck_assert_uint_eq(m.kvm->msr.index, 0xdeadbeef);
	ck_assert_uint_eq(m.kvm->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	if (write)
		ck_assert_uint_eq(m.kvm->msr.data, 0x2222222211111111);
	m.kvm->msr.data = 0x4444444433333333;
	m.kvm->msr.error = error;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	if (error) {
		machine_injected_code(1, 13, 0);
		ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
	} else {
		machine_injected_none(1);
		ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
		ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], write ? 0x11111111 : 0x33333333);
		ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RDX], write ? 0x22222222 : 0x44444444);
	}
}
END_TEST

/* Exits that only end the instruction. */
START_TEST(skipped)
{
	static const uint32_t reasons[] = { VMEXIT_INVD,  VMEXIT_WBINVD, VMEXIT_MONITOR, VMEXIT_MWAIT,
					    VMEXIT_PAUSE, VMEXIT_INVLPG, VMEXIT_RDTSC };

	fake_push(&m.fake, reasons[_i], 3);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
	machine_injected_none(1);
	ck_assert_uint_eq(!!(m.fake.entry[1].flags & UMBRA_RUN_FLUSH_TLB), reasons[_i] == VMEXIT_INVLPG);
	ck_assert_uint_eq(m.vcpu->exits[reasons[_i]], 1);
}
END_TEST

/* Exits after which the guest just goes on. */
START_TEST(resumed)
{
	static const uint32_t reasons[] = { VMEXIT_NONE,	VMEXIT_INTERRUPTED, VMEXIT_DEADLINE,
					    VMEXIT_INTR_WINDOW, VMEXIT_NMI_WINDOW,  VMEXIT_TPR };

	fake_push(&m.fake, reasons[_i], 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.at, 2);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
	machine_injected_none(1);
}
END_TEST

START_TEST(rdpmc)
{
	fake_push(&m.fake, VMEXIT_RDPMC, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 13, 0);
}
END_TEST

START_TEST(hlt_user)
{
	fake_push(&m.fake, VMEXIT_HLT, 1);
	machine_run(0, KVM_EXIT_HLT);
	ck_assert_uint_eq(m.run->rip, CODE + 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
}
END_TEST

START_TEST(hlt_wakes_for_work)
{
	m.vcpu->nmi_pending = 1;
	m.run->rflags |= X86_RFLAGS_IF;
	m.run->intr_shadow = UMBRA_SHADOW_STI; /* STI; HLT: no NMI before HLT has halted */
	fake_push(&m.fake, VMEXIT_HLT, 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(0);
	ck_assert(m.fake.entry[0].intercepts & UMBRA_ICPT_INTR_WINDOW);
	ck_assert_uint_eq(m.fake.entry[1].intr_shadow, 0);
	machine_injected(1, UMBRA_EVENT_NMI, 2);
	ck_assert_uint_eq(m.vcpu->mp_state, KVM_MP_STATE_RUNNABLE);
}
END_TEST

START_TEST(undefined)
{
	static const uint8_t getsec[] = { 0x0f, 0x37 };

	machine_code(getsec, 2);
	fake_push(&m.fake, VMEXIT_UNDEFINED, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_EXC, 6);
	ck_assert(!(m.fake.entry[1].inject.flags & UMBRA_EVENT_ERROR_CODE));
}
END_TEST

START_TEST(hypercall)
{
	static const struct {
		uint8_t code[3];
		uint64_t nr;
		uint8_t cpl;
		uint32_t rax;
	} rows[] = {
		{ { 0x0f, 0x01, 0xc1 }, 1, 0, 0 },
		{ { 0x0f, 0x01, 0xd9 }, 1, 0, 0 },
		{ { 0x0f, 0x01, 0xc1 }, 1, 3, (uint32_t)-1 },
		{ { 0x0f, 0x01, 0xc1 }, 999, 0, (uint32_t)-1000 },
		{ { 0x0f, 0x01, 0xc1 }, 5, 0, 0 },
		{ { 0x0f, 0x01, 0xc1 }, 10, 0, (uint32_t)-1000 }, /* no LAPIC here */
	};

	machine_code(rows[_i].code, 3);
	m.run->gpr[UMBRA_RAX] = rows[_i].nr;
	m.run->seg[UMBRA_SS].attr |= (uint16_t)(rows[_i].cpl << 5);
	fake_push(&m.fake, VMEXIT_UNDEFINED, 3);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], rows[_i].rax);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
}
END_TEST

START_TEST(shutdown_and_strangers)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_UNKNOWN, 0);

	step->exit.bad.hw_reason = 77;
	machine_run(0, KVM_EXIT_UNKNOWN);
	ck_assert_uint_eq(m.kvm->hw.hardware_exit_reason, 77);
	fake_push(&m.fake, 12345, 0);
	machine_run(0, KVM_EXIT_UNKNOWN);
	fake_push(&m.fake, VMEXIT_TASK_SWITCH, 0);
	machine_run(0, KVM_EXIT_INTERNAL_ERROR);
	ck_assert_uint_eq(m.kvm->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	machine_run(0, KVM_EXIT_SHUTDOWN);
}
END_TEST

START_TEST(bad_state)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_BAD_STATE, 0);

	step->exit.bad.rule = _i ? UMBRA_BAD_HARDWARE : UMBRA_BAD_CR4;
	step->exit.bad.hw_reason = _i ? 0x80000022 : 0;
	machine_run(0, KVM_EXIT_FAIL_ENTRY);
	ck_assert_uint_eq(m.kvm->fail_entry.hardware_entry_failure_reason, _i ? 0x80000022 : 0x80000021);
}
END_TEST

START_TEST(run_error)
{
	fake_push(&m.fake, VMEXIT_NONE, 0)->ret = -EIO;
	machine_run(-EIO, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
}
END_TEST

Suite *suite_exits(void)
{
	Suite *suite = suite_create("exits");
	TCase *plain = tcase_create("plain"), *irqchip = tcase_create("irqchip");

	tcase_add_checked_fixture(plain, setup, NULL);
	tcase_add_checked_fixture(irqchip, setup_irqchip, NULL);
	tcase_add_loop_test(plain, port_out, 0, 3);
	tcase_add_loop_test(plain, port_in, 0, 3);
	tcase_add_loop_test(plain, port_vmm_resets, 0, 2);
	tcase_add_test(plain, port_ioeventfd);
	tcase_add_test(plain, port_string_out);
	tcase_add_test(plain, port_string_in);
	tcase_add_test(plain, cpuid);
	tcase_add_loop_test(plain, msr_gp, 0, 2);
	tcase_add_test(plain, msr_rw);
	tcase_add_loop_test(plain, msr_user_space, 0, 4);
	tcase_add_loop_test(plain, skipped, 0, 7);
	tcase_add_loop_test(plain, resumed, 0, 6);
	tcase_add_test(plain, rdpmc);
	tcase_add_test(plain, hlt_user);
	tcase_add_test(irqchip, hlt_wakes_for_work);
	tcase_add_test(plain, undefined);
	tcase_add_loop_test(plain, hypercall, 0, 6);
	tcase_add_test(plain, shutdown_and_strangers);
	tcase_add_loop_test(plain, bad_state, 0, 2);
	tcase_add_test(plain, run_error);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, irqchip);
	return suite;
}
