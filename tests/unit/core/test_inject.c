// SPDX-License-Identifier: GPL-2.0-or-later
/* Events: order, windows, what an exit cut short, exceptions on top of exceptions, the VMM's interrupts and debugger. */
#include "machine.h"
#include "vcpu_state.h"

static void setup(void)
{
	machine_start(false);
}

static void setup_irqchip(void)
{
	static const uint8_t spurious[4] = { 0xff, 0x01, 0, 0 };

	machine_start(true);
	lapic_mmio_write(m.vcpu, 0xf0, 4, spurious); /* software enable */
	m.run->rflags |= X86_RFLAGS_IF;
}

static struct fake_step *push_event(uint8_t type, uint8_t vector, uint8_t flags, uint32_t code, uint8_t len)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);

	step->event = (struct umbra_event) {
		.vector = vector, .type = type, .flags = UMBRA_EVENT_VALID | flags, .insn_len = len, .error_code = code
	};
	return step;
}

/* Each kind of delivery that was cut short is handed in again as it was. */
START_TEST(again)
{
	static const struct umbra_event rows[] = {
		{ 0x30, UMBRA_EVENT_INTR, 0, 0, 0 },
		{ 2, UMBRA_EVENT_NMI, 0, 0, 0 },
		{ 14, UMBRA_EVENT_EXC, UMBRA_EVENT_ERROR_CODE, 0, 7 },
		{ 6, UMBRA_EVENT_EXC, 0, 0, 0 },
		{ 0x80, UMBRA_EVENT_SOFT_INT, 0, 2, 0 },
		{ 3, UMBRA_EVENT_SOFT_EXC, 0, 1, 0 },
		{ 1, UMBRA_EVENT_ICEBP, 0, 1, 0 },
	};
	const struct umbra_event *row = &rows[_i];

	push_event(row->type, row->vector, row->flags, row->error_code, row->insn_len);
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, row->type, row->vector);
	ck_assert_uint_eq(m.fake.entry[1].inject.flags & UMBRA_EVENT_ERROR_CODE, row->flags);
	ck_assert_uint_eq(m.fake.entry[1].inject.error_code, row->error_code);
	ck_assert_uint_eq(m.fake.entry[1].inject.insn_len, row->insn_len);
	machine_injected_none(2); /* and only once */
}
END_TEST

START_TEST(nmi_again_unblocks)
{
	push_event(UMBRA_EVENT_NMI, 2, 0, 0, 0);
	m.run->intr_shadow = UMBRA_SHADOW_NMI;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_NMI, 2);
	ck_assert_uint_eq(m.fake.entry[1].intr_shadow, 0);
	ck_assert(m.fake.entry[1].dirty & UMBRA_STATE_INTR);
}
END_TEST

/* RUN came back before it took the event. */
START_TEST(not_taken)
{
	inject_gp(m.vcpu);
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0)->keep_inject = true;
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(0, 13, 0);
	machine_injected_code(1, 13, 0);
	machine_injected_none(2);
}
END_TEST

/* first: an exception being delivered; second: raised meanwhile. result: vector, 0x100: triple fault. */
struct pair {
	uint8_t first, second;
	int result;
};

static const struct pair pairs[] = {
	{ 13, 13, 8 }, { 13, 14, 14 }, { 14, 13, 8 },	 { 14, 14, 8 },	  { 0, 11, 8 },	 { 6, 13, 13 }, { 6, 14, 14 },
	{ 13, 6, 6 },  { 14, 6, 6 },   { 8, 13, 0x100 }, { 8, 6, 0x100 }, { 1, 12, 12 }, { 10, 12, 8 },
};

START_TEST(exception_pair)
{
	const struct pair *row = &pairs[_i];
	struct fake_step *step;

	step = push_event(UMBRA_EVENT_EXC, row->first, 0, 0, 0);
	step->exit.reason = VMEXIT_EXCEPTION;
	step->exit.exc.vector = row->second;
	step->exit.exc.has_error_code = row->second != 6;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	if (row->result == 0x100) {
		ck_assert_uint_eq(m.fake.at, 1); /* the shutdown is ours, not the script's */
		return;
	}
	machine_injected(1, UMBRA_EVENT_EXC, (uint8_t)row->result);
	if (row->result == 8)
		machine_injected_code(1, 8, 0);
}
END_TEST

/* A new exception goes before an interrupt that was cut short; that one comes afterwards. */
START_TEST(exception_over_interrupt)
{
	struct fake_step *step = push_event(_i ? UMBRA_EVENT_SOFT_INT : UMBRA_EVENT_INTR, 0x40, 0, 0, _i ? 2 : 0);

	m.run->rflags |= X86_RFLAGS_IF;
	step->exit.reason = VMEXIT_EXCEPTION;
	step->exit.exc.vector = 14;
	step->exit.exc.has_error_code = 1;
	step->exit.exc.error_code = 2;
	step->exit.exc.payload = 0xabc000;
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 14, 2);
	ck_assert_uint_eq(m.fake.entry[1].cr2, 0xabc000);
	ck_assert(m.fake.entry[1].rflags & X86_RFLAGS_RF);
	ck_assert(!_i == m.vcpu->interrupt.injected || m.fake.at == 3);
	machine_injected_none(2);
}
END_TEST

START_TEST(real_mode_has_no_error_codes)
{
	m.run->cr0 = 0x60000010;
	inject_gp(m.vcpu);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_EXC, 13);
	ck_assert(!(m.fake.entry[0].inject.flags & UMBRA_EVENT_ERROR_CODE));
}
END_TEST

START_TEST(traps_have_no_rf)
{
	inject_exception(m.vcpu, _i ? 1 : 6);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(!!(m.fake.entry[0].rflags & X86_RFLAGS_RF), !_i);
}
END_TEST

START_TEST(nmi_waits)
{
	static const uint32_t shadows[] = { UMBRA_SHADOW_NMI, UMBRA_SHADOW_MOV_SS, UMBRA_SHADOW_STI };

	m.vcpu->nmi_pending = 2;
	m.run->rflags |= X86_RFLAGS_IF;
	m.run->intr_shadow = shadows[_i];
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(0);
	ck_assert(m.fake.entry[0].intercepts & (_i == 2 ? UMBRA_ICPT_INTR_WINDOW : UMBRA_ICPT_NMI_WINDOW));
	m.run->intr_shadow = 0;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_NMI, 2);
	ck_assert(m.fake.entry[1].intercepts & UMBRA_ICPT_NMI_WINDOW); /* for the second one */
	ck_assert_uint_eq(m.vcpu->nmi_pending, 1);
}
END_TEST

START_TEST(interrupt_from_lapic)
{
	lapic_request(m.vcpu, 0x51, false);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_INTR, 0x51);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(1); /* in service */
}
END_TEST

START_TEST(interrupt_waits)
{
	lapic_request(m.vcpu, 0x51, false);
	if (_i)
		m.run->intr_shadow = UMBRA_SHADOW_STI;
	else
		m.run->rflags &= ~X86_RFLAGS_IF;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(0);
	ck_assert(m.fake.entry[0].intercepts & UMBRA_ICPT_INTR_WINDOW);
	m.run->intr_shadow = 0;
	m.run->rflags |= X86_RFLAGS_IF;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_INTR, 0x51);
	ck_assert(!(m.fake.entry[1].intercepts & UMBRA_ICPT_INTR_WINDOW));
}
END_TEST

START_TEST(nmi_before_interrupt)
{
	lapic_request(m.vcpu, 0x51, false);
	m.vcpu->nmi_pending = 1;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_NMI, 2);
	ck_assert(m.fake.entry[0].intercepts & UMBRA_ICPT_INTR_WINDOW);
}
END_TEST

/* KVM_INTERRUPT without an irqchip. */
START_TEST(user_interrupt)
{
	m.vcpu->user_interrupt = 0x20;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(0); /* IF is clear */
	ck_assert(m.fake.entry[0].intercepts & UMBRA_ICPT_INTR_WINDOW);
	ck_assert_uint_eq(m.kvm->if_flag, 0);
	ck_assert_uint_eq(m.kvm->ready_for_interrupt_injection, 0);
	m.run->rflags |= X86_RFLAGS_IF;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_INTR, 0x20);
	ck_assert_int_eq(m.vcpu->user_interrupt, -1);
	ck_assert_uint_eq(m.kvm->if_flag, 1);
	ck_assert_uint_eq(m.kvm->ready_for_interrupt_injection, 1);
}
END_TEST

static void guest_sti(struct umbra_run *run)
{
	run->rflags |= X86_RFLAGS_IF;
}

START_TEST(window_for_vmm)
{
	m.kvm->request_interrupt_window = 1;
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	fake_push(&m.fake, VMEXIT_INTR_WINDOW, 0)->act = guest_sti;
	machine_run(0, KVM_EXIT_IRQ_WINDOW_OPEN);
	ck_assert(m.fake.entry[0].intercepts & UMBRA_ICPT_INTR_WINDOW);
	ck_assert_uint_eq(m.fake.at, 2);
	ck_assert_uint_eq(m.kvm->ready_for_interrupt_injection, 1);
}
END_TEST

START_TEST(user_interrupt_needs_extint)
{
	static const uint8_t extint[4] = { 0, 7, 0, 0 }, masked[4] = { 0, 7, 1, 0 };

	lapic_mmio_write(m.vcpu, 0x350, 4, masked);
	m.vcpu->user_interrupt = 0x20;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(0);
	lapic_mmio_write(m.vcpu, 0x350, 4, extint);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_INTR, 0x20);
}
END_TEST

START_TEST(debug_exception)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_EXCEPTION, 0);

	step->exit.exc.vector = 1;
	step->exit.exc.payload = X86_DR6_BS | 1;
	m.vcpu->dr6 = X86_DR6_ACTIVE_LOW | 8;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_EXC, 1);
	ck_assert_uint_eq(m.vcpu->dr6, X86_DR6_ACTIVE_LOW | X86_DR6_BS | 1);
}
END_TEST

START_TEST(breakpoint)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_EXCEPTION, 1);

	step->exit.exc.vector = 3;
	m.vcpu->guest_debug = _i ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP : 0;
	machine_run(0, _i ? KVM_EXIT_DEBUG : KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[0].exceptions, 1 << 6 | (_i ? 1 << 3 : 0));
	if (_i) {
		ck_assert_uint_eq(m.kvm->debug.arch.exception, 3);
		ck_assert_uint_eq(m.kvm->debug.arch.pc, CODE);
	} else {
		machine_injected(1, UMBRA_EVENT_SOFT_EXC, 3);
		ck_assert_uint_eq(m.fake.entry[1].inject.insn_len, 1);
	}
}
END_TEST

START_TEST(icebp)
{
	fake_push(&m.fake, VMEXIT_EXCEPTION, 1)->exit.exc.vector = 1;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_ICEBP, 1);
	ck_assert_uint_eq(m.fake.entry[1].inject.insn_len, 1);
}
END_TEST

START_TEST(machine_check_is_the_hosts)
{
	fake_push(&m.fake, VMEXIT_EXCEPTION, 0)->exit.exc.vector = 18;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(1);
}
END_TEST

START_TEST(alignment_check)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_EXCEPTION, 0);

	step->exit.exc.vector = 17;
	step->exit.exc.has_error_code = 1;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 17, 0);
}
END_TEST

/* The VMM's single step: TF is set for the entry only, and an emulated instruction counts as a step. */
START_TEST(single_step)
{
	struct fake_step *step;

	m.vcpu->guest_debug = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	step = fake_push(&m.fake, VMEXIT_EXCEPTION, 0);
	step->exit.exc.vector = 1;
	step->exit.exc.payload = X86_DR6_BS;
	machine_run(0, KVM_EXIT_DEBUG);
	ck_assert(m.fake.entry[0].rflags & X86_RFLAGS_TF);
	ck_assert(!(m.run->rflags & X86_RFLAGS_TF));
	ck_assert_uint_eq(m.kvm->debug.arch.dr6, X86_DR6_ACTIVE_LOW | X86_DR6_BS);
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	machine_run(0, KVM_EXIT_DEBUG);
	ck_assert_uint_eq(m.kvm->debug.arch.pc, CODE + 2);
	ck_assert_uint_eq(m.fake.at, 2);
}
END_TEST

/* When the debugger has let go, an emulated instruction is no step any more. */
START_TEST(single_step_over)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };

	state_guest_debug(m.vcpu, &debug);
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	machine_run(0, KVM_EXIT_DEBUG);
	debug.control = 0;
	state_guest_debug(m.vcpu, &debug);
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(2);
	ck_assert(!(m.fake.entry[2].rflags & X86_RFLAGS_TF));
}
END_TEST

START_TEST(hardware_breakpoints)
{
	m.vcpu->guest_debug = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	m.vcpu->guest_debug_regs.debugreg[0] = 0x7777;
	m.vcpu->guest_debug_regs.debugreg[7] = 0x401;
	m.run->dr[0] = 0x1111;
	fake_push(&m.fake, VMEXIT_CPUID, 2);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[0].dr[0], 0x7777);
	ck_assert_uint_eq(m.fake.entry[0].dr7, 0x401);
	ck_assert_uint_eq(m.fake.entry[1].dr[0], 0x7777);
	ck_assert_uint_eq(m.run->dr[0], 0x1111);
	ck_assert_uint_eq(m.run->dr7, 0x400);
}
END_TEST

Suite *suite_inject(void)
{
	Suite *suite = suite_create("inject");
	TCase *plain = tcase_create("plain"), *irqchip = tcase_create("irqchip");

	tcase_add_checked_fixture(plain, setup, NULL);
	tcase_add_checked_fixture(irqchip, setup_irqchip, NULL);
	tcase_add_loop_test(plain, again, 0, 7);
	tcase_add_test(plain, nmi_again_unblocks);
	tcase_add_test(plain, not_taken);
	tcase_add_loop_test(plain, exception_pair, 0, (int)(sizeof(pairs) / sizeof(pairs[0])));
	tcase_add_loop_test(plain, exception_over_interrupt, 0, 2);
	tcase_add_test(plain, real_mode_has_no_error_codes);
	tcase_add_loop_test(plain, traps_have_no_rf, 0, 2);
	tcase_add_loop_test(plain, nmi_waits, 0, 3);
	tcase_add_test(irqchip, interrupt_from_lapic);
	tcase_add_loop_test(irqchip, interrupt_waits, 0, 2);
	tcase_add_test(irqchip, nmi_before_interrupt);
	tcase_add_test(plain, user_interrupt);
	tcase_add_test(plain, window_for_vmm);
	tcase_add_test(irqchip, user_interrupt_needs_extint);
	tcase_add_test(plain, debug_exception);
	tcase_add_loop_test(plain, breakpoint, 0, 2);
	tcase_add_test(plain, icebp);
	tcase_add_test(plain, machine_check_is_the_hosts);
	tcase_add_test(plain, alignment_check);
	tcase_add_test(plain, single_step);
	tcase_add_test(plain, single_step_over);
	tcase_add_test(plain, hardware_breakpoints);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, irqchip);
	return suite;
}
