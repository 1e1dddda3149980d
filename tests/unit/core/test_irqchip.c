// SPDX-License-Identifier: GPL-2.0-or-later
/* A vCPU with the whole irqchip: its ports and MMIO stay in the shadow, the PIC's interrupts reach the guest. */
#include "irqchip.h"
#include "machine.h"
#include "routing.h"
#include "vcpu_state.h"

static void setup(void)
{
	machine_start(false);
	m.vm.vcpus = 0; /* none yet, as far as the call sees */
	ck_assert_int_eq(irqchip_create(&m.vm), 0);
	m.vm.vcpus = 1;
	lapic_reset(m.vcpu, false);
	m.run->rflags |= X86_RFLAGS_IF;
}

static void push_out(uint16_t port, uint8_t size)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_IO, 2);

	step->exit.io.port = port;
	step->exit.io.size = size;
}

static void push_in(uint16_t port, uint8_t size)
{
	push_out(port, size);
	m.fake.step[m.fake.steps - 1].exit.io.flags = VMEXIT_IO_IN;
}

static void outb(uint16_t port, uint8_t value)
{
	ck_assert(irqchip_port_out(&m.vm, port, 1, &value));
}

static void pic_program(void)
{
	static const uint8_t icw[] = { 0x11, 0x30, 0x04, 0x01 };

	for (int n = 0; n < 4; n++)
		outb(n ? 0x21 : 0x20, icw[n]);
}

START_TEST(ports_stay_here)
{
	uint8_t mask = 0;

	m.run->gpr[UMBRA_RAX] = 0x12345a5a;
	push_out(0x21, 1);
	push_in(0x21, 1);
	push_in(0x22, 1); /* not there: the VMM's */
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.port, 0x22);
	ck_assert(irqchip_port_in(&m.vm, 0x21, 1, &mask));
	ck_assert_uint_eq(mask, 0x5a);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
	ck_assert_uint_eq(m.fake.entry[2].rip, CODE + 4);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX], 0x12345a5a);
	ck_assert_uint_eq(m.vcpu->exits_user, 1);
}
END_TEST

static void again(struct umbra_run *run)
{
	run->gpr[UMBRA_RCX] = 16;
}

/* INSB and OUTSB with REP: a guest can do that, too. */
START_TEST(string_ports)
{
	static const uint8_t code[] = { 0xf3, 0x6e, 0xf3, 0x6c }; /* rep outsb, rep insb */

	machine_code(code, sizeof(code));
	memset(m.ram + 0x2000, 0x77, 16);
	m.run->gpr[UMBRA_RDX] = 0x21;
	m.run->gpr[UMBRA_RSI] = 0x2000;
	m.run->gpr[UMBRA_RDI] = 0x3000;
	m.run->gpr[UMBRA_RCX] = 16;
	for (int n = 0; n < 2; n++) {
		struct fake_step *step = fake_push(&m.fake, VMEXIT_IO, 2);

		step->exit.io.port = 0x21;
		step->exit.io.size = 1;
		step->exit.io.flags = VMEXIT_IO_STRING | VMEXIT_IO_REP | (n ? VMEXIT_IO_IN : 0);
		step->act = n ? again : NULL;
	}
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->rip, CODE + 4);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RCX], 0);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RDI], 0x3010);
	for (int n = 0; n < 16; n++)
		ck_assert_uint_eq(m.ram[0x3000 + n], 0x77);
	ck_assert_uint_eq(m.vcpu->exits_user, 1);
}
END_TEST

START_TEST(ioapic_stays_here)
{
	/* mov dword [0xfec00000], 1; mov eax, [0xfec00010] */
	static const uint8_t code[] = { 0xc7, 0x05, 0, 0, 0xc0, 0xfe, 1, 0, 0, 0, 0xa1, 0x10, 0, 0xc0, 0xfe };
	struct fake_step *step;

	machine_code(code, sizeof(code));
	for (int n = 0; n < 2; n++) {
		step = fake_push(&m.fake, VMEXIT_MEM, 0);
		step->exit.mem.gpa = 0xfec00000 + n * 0x10;
		step->exit.mem.access = n ? UMBRA_MEM_READ : UMBRA_MEM_WRITE;
	}
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX], 0x170011);
	ck_assert_uint_eq(m.vcpu->exits_user, 1);
}
END_TEST

START_TEST(pic_interrupt)
{
	pic_program();
	ck_assert_int_eq(routing_irq_line(&m.vm, 4, 1, true), 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_INTR, 0x34);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(1);
	/* The next one waits for its EOI, and for the guest's IF. */
	routing_irq_line(&m.vm, 5, 1, false);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(2);
	m.run->rflags &= ~X86_RFLAGS_IF;
	outb(0x20, 0x20);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(3);
	ck_assert(m.fake.entry[3].intercepts & UMBRA_ICPT_INTR_WINDOW);
	m.run->rflags |= X86_RFLAGS_IF;
	m.run->dirty |= UMBRA_STATE_RIP;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(4, UMBRA_EVENT_INTR, 0x35);
}
END_TEST

/* LINT0 masked: the PIC is not heard, and does not wake a halted vCPU. */
START_TEST(pic_needs_lint0)
{
	static const uint8_t on[4] = { 0xff, 1, 0, 0 }, masked[4] = { 0, 7, 1, 0 }, open[4] = { 0, 7, 0, 0 };

	lapic_mmio_write(m.vcpu, 0xf0, 4, on);
	lapic_mmio_write(m.vcpu, 0x350, 4, masked);
	pic_program();
	routing_irq_line(&m.vm, 4, 1, false);
	ck_assert(!vcpu_has_work(m.vcpu));
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_none(0);
	lapic_mmio_write(m.vcpu, 0x350, 4, open);
	ck_assert(vcpu_has_work(m.vcpu));
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(1, UMBRA_EVENT_INTR, 0x34);
}
END_TEST

/* The VMM has no PIC to inject for: no windows, no KVM_INTERRUPT. */
START_TEST(nothing_for_the_vmm)
{
	ck_assert_int_eq(state_interrupt(m.vcpu, 256), -EINVAL);
	ck_assert_int_eq(state_interrupt(m.vcpu, 0x20), -ENXIO);
	m.kvm->request_interrupt_window = 1;
	fake_push(&m.fake, VMEXIT_INTERRUPTED, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert(!(m.fake.entry[0].intercepts & UMBRA_ICPT_INTR_WINDOW));
	ck_assert_uint_eq(m.kvm->ready_for_interrupt_injection, 1);
}
END_TEST

START_TEST(events_unaffected)
{
	struct kvm_vcpu_events events;

	pic_program();
	routing_irq_line(&m.vm, 4, 1, false);
	ck_assert_int_eq(state_get_events(m.vcpu, &events), 0);
	ck_assert(!events.interrupt.injected); /* waits in the PIC, which is asked at entry only */
	ck_assert_int_eq(state_set_events(m.vcpu, &events), 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected(0, UMBRA_EVENT_INTR, 0x34);
}
END_TEST

Suite *suite_irqchip(void)
{
	Suite *suite = suite_create("irqchip");
	TCase *tcase = tcase_create("irqchip");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, ports_stay_here);
	tcase_add_test(tcase, string_ports);
	tcase_add_test(tcase, ioapic_stays_here);
	tcase_add_test(tcase, pic_interrupt);
	tcase_add_test(tcase, pic_needs_lint0);
	tcase_add_test(tcase, nothing_for_the_vmm);
	tcase_add_test(tcase, events_unaffected);
	suite_add_tcase(suite, tcase);
	return suite;
}
