// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory exits: the emulator's accesses to RAM, ROM, devices and the LAPIC. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine.h"
#include "routing.h"
#include "vcpu_state.h"

static void setup(void)
{
	machine_start(false);
}

static void setup_irqchip(void)
{
	machine_start(true);
}

static struct fake_step *push_mem(uint64_t gpa, uint32_t access)
{
	struct fake_step *step = fake_push(&m.fake, VMEXIT_MEM, 0);

	step->exit.mem.gpa = step->exit.mem.gva = gpa;
	step->exit.mem.access = access | UMBRA_MEM_GVA;
	return step;
}

static void expect_mmio(uint64_t gpa, uint32_t len, bool write, const void *data)
{
	ck_assert_uint_eq(m.kvm->mmio.phys_addr, gpa);
	ck_assert_uint_eq(m.kvm->mmio.len, len);
	ck_assert_uint_eq(m.kvm->mmio.is_write, write);
	if (write)
		ck_assert_int_eq(memcmp(m.kvm->mmio.data, data, len), 0);
}

START_TEST(mmio_write)
{
	static const uint8_t code[] = { 0x89, 0x03 }; /* mov %eax, (%ebx) */

	machine_code(code, 2);
	m.run->gpr[UMBRA_RAX] = 0x12345678;
	m.run->gpr[UMBRA_RBX] = DEVICE + 4;
	push_mem(DEVICE + 4, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE + 4, 4, true, "\x78\x56\x34\x12");
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
}
END_TEST

START_TEST(mmio_read)
{
	static const uint8_t code[] = { 0x0f, 0xb6, 0x03 }; /* movzbl (%ebx), %eax */

	machine_code(code, 3);
	m.run->gpr[UMBRA_RAX] = ~0ULL;
	m.run->gpr[UMBRA_RBX] = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_READ);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 1, false, NULL);
	m.kvm->mmio.data[0] = 0x9a;
	m.kvm->mmio.len = 0x7fffffff; /* what the VMM changes here is not believed */
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RAX], 0x9a);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
}
END_TEST

/* Read, modify, write: one exit each, in this order, and the second run of the emulator does not read again. */
START_TEST(mmio_modify)
{
	static const uint8_t code[] = { 0x83, 0x03, 0x05 }; /* addl $5, (%ebx) */

	machine_code(code, 3);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_READ | UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 4, false, NULL);
	memcpy(m.kvm->mmio.data, "\x10\0\0\0", 4);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 4, true, "\x15\0\0\0");
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 3);
}
END_TEST

/* A REP from one device to another: two exits an iteration; the answers of one are not taken for the next. */
START_TEST(mmio_rep_movs)
{
	static const uint8_t code[] = { 0xf3, 0xa4 };
	uint64_t to = DEVICE + 0x10000;

	machine_code(code, 2);
	m.run->gpr[UMBRA_RSI] = DEVICE;
	m.run->gpr[UMBRA_RDI] = to;
	m.run->gpr[UMBRA_RCX] = 3;
	push_mem(DEVICE, UMBRA_MEM_READ);
	for (uint32_t i = 0; i < 3; i++) {
		uint8_t byte = (uint8_t)(0x40 + i);

		machine_run(0, KVM_EXIT_MMIO);
		expect_mmio(DEVICE + i, 1, false, NULL);
		m.kvm->mmio.data[0] = byte;
		machine_run(0, KVM_EXIT_MMIO);
		expect_mmio(to + i, 1, true, &byte);
	}
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RCX], 0);
	ck_assert_uint_eq(m.run->rip, CODE + 2);
	ck_assert_uint_eq(m.fake.at, 2);
}
END_TEST

/* 16 bytes: two pieces of 8. */
START_TEST(mmio_pieces)
{
	static const uint8_t code[] = { 0x0f, 0x11, 0x03 }; /* movups %xmm0, (%ebx) */

	machine_code(code, 3);
	m.run->cr4 |= 1 << 9; /* OSFXSR */
	m.run->gpr[UMBRA_RBX] = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	ck_assert_uint_eq(m.kvm->mmio.phys_addr, DEVICE);
	ck_assert_uint_eq(m.kvm->mmio.len, 8);
	machine_run(0, KVM_EXIT_MMIO);
	ck_assert_uint_eq(m.kvm->mmio.phys_addr, DEVICE + 8);
	ck_assert_uint_eq(m.kvm->mmio.len, 8);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->rip, CODE + 3);
}
END_TEST

/* ---- MMX moves on a device leave the x87 unit as the CPU leaves it ---- */

struct x87_image {
	uint16_t fcw, fsw;
	uint8_t ftw, rest[27];
	uint8_t st[8][16], more[352];
} __attribute__((aligned(16)));
_Static_assert(sizeof(struct x87_image) == 512, "FXSAVE");

static uint64_t mmx_data;

static void x87_start(int pushes)
{
	__asm__ volatile("fninit");
	for (int i = 0; i < pushes; i++)
		__asm__ volatile("fldpi; fldl2e; fadd %st(1), %st");
}

static const struct {
	uint8_t code[3];
	bool store;
} mmx_moves[] = {
	{ { 0x0f, 0x6f, 0x0b }, false }, /* movq (%ebx), %mm1 */
	{ { 0x0f, 0x6f, 0x33 }, false }, /* movq (%ebx), %mm6 */
	{ { 0x0f, 0x7f, 0x2b }, true },	 /* movq %mm5, (%ebx) */
};

static void mmx_native(int which)
{
	if (which == 0)
		__asm__ volatile("movq %0, %%mm1" : : "m"(mmx_data));
	else if (which == 1)
		__asm__ volatile("movq %0, %%mm6" : : "m"(mmx_data));
	else
		__asm__ volatile("movq %%mm5, %0" : "=m"(mmx_data));
}

START_TEST(mmio_mmx)
{
	int which = _i % 3, pushes = _i / 3;
	struct x87_image want, got;

	mmx_data = 0x1122334455667788;
	x87_start(pushes);
	mmx_native(which);
	__asm__ volatile("fxsave64 %0" : "=m"(want));
	x87_start(pushes);
	machine_code(mmx_moves[which].code, 3);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	push_mem(DEVICE, mmx_moves[which].store ? UMBRA_MEM_WRITE : UMBRA_MEM_READ);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 8, mmx_moves[which].store, &mmx_data);
	memcpy(m.kvm->mmio.data, &mmx_data, 8);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	__asm__ volatile("fxsave64 %0; fninit" : "=m"(got));
	ck_assert_uint_eq(m.run->rip, CODE + 3);
	ck_assert_uint_eq(got.fcw, want.fcw);
	ck_assert_uint_eq(got.fsw, want.fsw);
	ck_assert_uint_eq(got.ftw, want.ftw);
	ck_assert_mem_eq(got.st, want.st, sizeof(got.st));
}
END_TEST

/* A pending x87 exception comes before the access. */
START_TEST(mmio_mmx_pending)
{
	uint16_t zero_divide_unmasked = 0x37b;

	__asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp" : : "m"(zero_divide_unmasked));
	machine_code(mmx_moves[0].code, 3);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_READ);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	__asm__ volatile("fnclex; fninit");
	machine_injected(1, UMBRA_EVENT_EXC, 16);
	ck_assert_uint_eq(m.run->rip, CODE);
}
END_TEST

/* Its control and status word, as they are, also while an exception is pending. */
START_TEST(mmio_x87_words)
{
	static const uint8_t code[] = { 0xd9, 0x3b, 0xdd, 0x3b }; /* fnstcw (%ebx); fnstsw (%ebx) */
	uint16_t fcw = 0x37b, fsw, fsw_after;			  /* zero divide unmasked */

	__asm__ volatile("fninit; fldcw %1; fld1; fldz; fdivrp; fnstsw %0" : "=m"(fsw) : "m"(fcw));
	machine_code(code, 4);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 2, true, &fcw);
	push_mem(DEVICE, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 2, true, &fsw);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	__asm__ volatile("fnstsw %0; fnclex; fninit" : "=m"(fsw_after));
	ck_assert_uint_eq(fsw, 0xb084); /* B, TOP 6, ES, ZE */
	ck_assert_uint_eq(fsw_after, fsw);
	ck_assert_uint_eq(m.run->rip, CODE + 4);
}
END_TEST

/* Across the end of RAM: the first half lies in memory. */
START_TEST(mmio_half)
{
	static const uint8_t code[] = { 0x89, 0x03 };

	machine_code(code, 2);
	m.run->gpr[UMBRA_RAX] = 0x44332211;
	m.run->gpr[UMBRA_RBX] = RAM_SIZE - 2;
	push_mem(RAM_SIZE, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(RAM_SIZE, 2, true, "\x33\x44");
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_int_eq(memcmp(m.ram + RAM_SIZE - 2, "\x11\x22", 2), 0);
}
END_TEST

START_TEST(rom)
{
	static const uint8_t store[] = { 0x89, 0x03, 0xa5 }; /* mov %eax, (%ebx); movsl */

	machine_code(store, 3);
	memcpy(m.rom, "\x01\x02\x03\x04", 4);
	m.run->gpr[UMBRA_RAX] = 0xffffffff;
	m.run->gpr[UMBRA_RBX] = ROM_GPA;
	push_mem(ROM_GPA, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(ROM_GPA, 4, true, "\xff\xff\xff\xff");
	m.run->gpr[UMBRA_RSI] = ROM_GPA;
	m.run->gpr[UMBRA_RDI] = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 4, true, "\x01\x02\x03\x04");
}
END_TEST

START_TEST(mmio_ioeventfd)
{
	static const uint8_t code[] = { 0x66, 0x89, 0x03 }; /* mov %ax, (%ebx) */
	struct kvm_ioeventfd arg = { .addr = DEVICE, .len = 2, .datamatch = 3, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH };
	int fd = eventfd(0, EFD_NONBLOCK), given = fd;
	uint64_t count;

	ck_assert_int_eq(eventfds_ioeventfd(&m.vm, &arg, 1, &given), 0);
	machine_code(code, 3);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	m.run->gpr[UMBRA_RAX] = 3;
	push_mem(DEVICE, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_int_eq(read(fd, &count, 8), 8);
	ck_assert_uint_eq(m.run->rip, CODE + 3);
	machine_code(code, 3);
	m.run->gpr[UMBRA_RAX] = 4; /* no match */
	m.fake.steps = m.fake.at;
	push_mem(DEVICE, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
	ck_assert_int_eq(read(fd, &count, 8), -1);
}
END_TEST

START_TEST(lapic_page)
{
	static const uint8_t code[] = { 0x8b, 0x03 }; /* mov (%ebx), %eax */

	machine_code(code, 2);
	m.run->gpr[UMBRA_RBX] = 0xfee00030;
	push_mem(0xfee00030, UMBRA_MEM_READ);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX] & 0xff, 0x14);
}
END_TEST

/* Off, or in x2APIC mode: not the VMM's either, to which a write of 0x4500 would be a device's INIT. */
START_TEST(lapic_hole)
{
	static const uint8_t code[] = { 0x8b, 0x03, 0x89, 0x0b }; /* mov (%ebx), %eax; mov %ecx, (%ebx) */

	machine_code(code, 4);
	lapic_set_base(m.vcpu, _i ? 0xfee00d00 : 0xfee00100);
	m.run->gpr[UMBRA_RBX] = 0xfee00300;
	m.run->gpr[UMBRA_RCX] = 0x4500;
	push_mem(0xfee00300, UMBRA_MEM_READ);
	push_mem(0xfee00300, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX], 0xffffffff);
	ck_assert_uint_eq(m.fake.entry[2].rip, CODE + 4);
	ck_assert(!m.vcpu->lapic.init_pending);
}
END_TEST

/* The VMM has the APICs: its page is its own. */
START_TEST(lapic_of_vmm)
{
	machine_code("\x89\x0b", 2);
	m.run->gpr[UMBRA_RBX] = 0xfee00300;
	push_mem(0xfee00300, UMBRA_MEM_WRITE);
	machine_run(0, KVM_EXIT_MMIO);
}
END_TEST

/* An announcement is no access: the instruction is not looked at, the guest goes on. */
START_TEST(mem_first)
{
	machine_code("\x0f\x0b", 2);
	push_mem(0x2000, UMBRA_MEM_WRITE | UMBRA_MEM_FIRST);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
	machine_injected_none(1);
}
END_TEST

START_TEST(mem_fault)
{
	push_mem(0x2000, UMBRA_MEM_WRITE | UMBRA_MEM_FAULT)->exit.mem.error = -EFAULT;
	machine_run(-EFAULT, 0);
}
END_TEST

START_TEST(unknown_instruction)
{
	static const uint8_t code[] = { 0x0f, 0xae, 0x03 }; /* fxsave (%ebx) */

	machine_code(code, 3);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	m.run->seg[UMBRA_SS].attr |= (uint16_t)(_i ? 3 << 5 : 0);
	push_mem(DEVICE, UMBRA_MEM_WRITE);
	machine_run(0, _i ? KVM_EXIT_SHUTDOWN : KVM_EXIT_INTERNAL_ERROR);
	if (_i) {
		machine_injected(1, UMBRA_EVENT_EXC, 6);
		return;
	}
	ck_assert_uint_eq(m.kvm->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	ck_assert_uint_eq(m.kvm->emulation_failure.flags, KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	ck_assert_uint_ge(m.kvm->emulation_failure.insn_size, 3);
	ck_assert_int_eq(memcmp(m.kvm->emulation_failure.insn_bytes, code, 3), 0);
}
END_TEST

/* Code where there is no memory must not loop. */
START_TEST(fetch_from_nowhere)
{
	m.run->rip = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_EXEC);
	machine_run(0, KVM_EXIT_INTERNAL_ERROR);
}
END_TEST

START_TEST(vmm_moves_rip)
{
	static const uint8_t code[] = { 0x8b, 0x03 };

	machine_code(code, 2);
	m.run->gpr[UMBRA_RAX] = 5;
	m.run->gpr[UMBRA_RBX] = DEVICE;
	push_mem(DEVICE, UMBRA_MEM_READ);
	machine_run(0, KVM_EXIT_MMIO);
	m.run->rip = 0x3000;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->rip, 0x3000);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX], 5);
}
END_TEST

/* The second operand's page is not mapped: #PF with the address, and nothing has happened. */
START_TEST(page_fault)
{
	static const uint8_t code[] = { 0xff, 0x33 }; /* pushl (%ebx) */
	uint32_t *pd = (uint32_t *)(m.ram + 0x8000), *pt = (uint32_t *)(m.ram + 0x9000);

	for (int i = 0; i < 16; i++)
		pt[i] = (uint32_t)i << 12 | 3;
	pt[5] = 0;
	pd[0] = 0x9003;
	pd[DEVICE >> 22] = (uint32_t)DEVICE | 0x83; /* 4 MiB */
	m.run->cr3 = 0x8000;
	m.run->cr4 = X86_CR4_PSE;
	m.run->cr0 |= X86_CR0_PG;
	machine_code(code, 2);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	m.run->gpr[UMBRA_RSP] = 0x6000;
	push_mem(DEVICE, UMBRA_MEM_READ);
	machine_run(0, KVM_EXIT_MMIO);
	ck_assert_uint_eq(m.kvm->mmio.phys_addr, DEVICE);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 14, 2);
	ck_assert_uint_eq(m.fake.entry[1].cr2, 0x5ffc);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RSP], 0x6000);
}
END_TEST

/*
 * PAE: the page-directory pointers come from registers with VMX, from memory with SVM; the other place has none that is
 * present. The address's gva is not told, so that it is the walk that finds the device.
 */
START_TEST(pae_pointers)
{
	static const uint8_t code[] = { 0x8b, 0x03 }; /* mov (%ebx), %eax */
	const uint64_t pointers[4] = { 0x9001, 0, 0, 0xa001 }, none[4] = { 0 };
	uint64_t *low = (void *)(m.ram + 0x9000), *high = (void *)(m.ram + 0xa000);
	bool svm = _i;
	struct kvm_sregs2 sregs;

	m.vm.info.hw = svm ? UMBRA_HW_SVM : UMBRA_HW_VMX;
	m.vcpu->svm = svm;
	memcpy(m.ram + 0x8000, svm ? pointers : none, 32);
	memcpy(m.run->pdpte, svm ? none : pointers, 32);
	low[0] = 0x83; /* 2 MiB */
	high[DEVICE >> 21 & 511] = DEVICE | 0x83;
	m.run->cr3 = 0x8000;
	m.run->cr4 = X86_CR4_PAE;
	m.run->cr0 |= X86_CR0_PG;
	machine_code(code, 2);
	m.run->gpr[UMBRA_RBX] = DEVICE;
	fake_push(&m.fake, VMEXIT_MEM, 0)->exit.mem.gpa = DEVICE;
	machine_run(0, KVM_EXIT_MMIO);
	expect_mmio(DEVICE, 4, false, NULL);
	ck_assert_int_eq(state_get_sregs2(m.vcpu, &sregs), 0);
	ck_assert_uint_eq(sregs.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
	ck_assert_int_eq(memcmp(sregs.pdptrs, pointers, 32), 0);
	machine_run(0, KVM_EXIT_SHUTDOWN); /* leaves no state with SVM */
	machine_injected_none(1);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE + 2);
}
END_TEST

Suite *suite_memory(void)
{
	Suite *suite = suite_create("memory");
	TCase *plain = tcase_create("plain"), *irqchip = tcase_create("irqchip");

	tcase_add_checked_fixture(plain, setup, NULL);
	tcase_add_checked_fixture(irqchip, setup_irqchip, NULL);
	tcase_add_test(plain, mmio_write);
	tcase_add_test(plain, mmio_read);
	tcase_add_test(plain, mmio_modify);
	tcase_add_test(plain, mmio_rep_movs);
	tcase_add_test(plain, mmio_pieces);
	tcase_add_loop_test(plain, mmio_mmx, 0, 9);
	tcase_add_test(plain, mmio_mmx_pending);
	tcase_add_test(plain, mmio_x87_words);
	tcase_add_test(plain, mmio_half);
	tcase_add_test(plain, rom);
	tcase_add_test(plain, mmio_ioeventfd);
	tcase_add_test(irqchip, lapic_page);
	tcase_add_loop_test(irqchip, lapic_hole, 0, 2);
	tcase_add_test(plain, lapic_of_vmm);
	tcase_add_test(plain, mem_first);
	tcase_add_test(plain, mem_fault);
	tcase_add_loop_test(plain, unknown_instruction, 0, 2);
	tcase_add_test(plain, fetch_from_nowhere);
	tcase_add_test(plain, vmm_moves_rip);
	tcase_add_test(plain, page_fault);
	tcase_add_loop_test(plain, pae_pointers, 0, 2);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, irqchip);
	return suite;
}
