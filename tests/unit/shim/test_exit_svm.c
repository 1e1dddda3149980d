// SPDX-License-Identifier: GPL-2.0-or-later
/* What SVM says, decoded: a table of raw descriptions. (APM 2 15.7 to 15.14, appendix C) */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exit.h"

#define RIP 0xffffffff81234567ULL

static struct vmexit decode(const struct umbra_exit *hw)
{
	struct umbra_run *run = malloc(sizeof(*run)); /* on the heap: a read past it is found */
	struct vmexit exit;

	memset(run, 0x5a, sizeof(*run));
	memset(&exit, 0xa5, sizeof(exit));
	run->exit = *hw;
	run->rip = RIP;
	exit_read_svm(run, &exit);
	ck_assert_int_eq(memcmp(&run->exit, hw, sizeof(*hw)), 0);
	free(run);
	return exit;
}

/* Every exit code there can be, and what becomes of it. */
START_TEST(reasons)
{
	static const struct {
		unsigned int first, last, want;
	} table[] = {
		{ 0x00, 0x1f, VMEXIT_CR },
		{ 0x20, 0x3f, VMEXIT_DR },
		{ 0x40, 0x5f, VMEXIT_EXCEPTION },
		{ 0x60, 0x63, VMEXIT_UNKNOWN }, /* INTR, NMI, SMI, INIT are the shim's */
		{ 0x64, 0x64, VMEXIT_INTR_WINDOW },
		{ 0x65, 0x65, VMEXIT_CR },
		{ 0x66, 0x6d, VMEXIT_UNKNOWN },
		{ 0x6e, 0x6e, VMEXIT_RDTSC },
		{ 0x6f, 0x6f, VMEXIT_RDPMC },
		{ 0x70, 0x71, VMEXIT_UNKNOWN },
		{ 0x72, 0x72, VMEXIT_CPUID },
		{ 0x73, 0x73, VMEXIT_UNDEFINED },
		{ 0x74, 0x74, VMEXIT_NMI_WINDOW },
		{ 0x75, 0x75, VMEXIT_UNKNOWN },
		{ 0x76, 0x76, VMEXIT_INVD },
		{ 0x77, 0x77, VMEXIT_PAUSE },
		{ 0x78, 0x78, VMEXIT_HLT },
		{ 0x79, 0x79, VMEXIT_UNKNOWN },
		{ 0x7a, 0x7a, VMEXIT_UNDEFINED },
		{ 0x7b, 0x7b, VMEXIT_IO },
		{ 0x7c, 0x7c, VMEXIT_RDMSR },
		{ 0x7d, 0x7d, VMEXIT_TASK_SWITCH },
		{ 0x7e, 0x7e, VMEXIT_UNKNOWN },
		{ 0x7f, 0x7f, VMEXIT_SHUTDOWN },
		{ 0x80, 0x80, VMEXIT_UNDEFINED },
		{ 0x81, 0x81, VMEXIT_HYPERCALL },
		{ 0x82, 0x86, VMEXIT_UNDEFINED },
		{ 0x87, 0x87, VMEXIT_UNKNOWN },
		{ 0x88, 0x88, VMEXIT_EXCEPTION },
		{ 0x89, 0x89, VMEXIT_WBINVD },
		{ 0x8a, 0x8a, VMEXIT_MONITOR },
		{ 0x8b, 0x8c, VMEXIT_MWAIT },
		{ 0x8d, 0x8d, VMEXIT_XSETBV },
		{ 0x8e, 0x8e, VMEXIT_UNDEFINED },
		{ 0x8f, 0x9f, VMEXIT_UNKNOWN },
		{ 0xa0, 0xa1, VMEXIT_UNDEFINED },
		{ 0xa2, 0xa2, VMEXIT_UNKNOWN },
		{ 0xa3, 0xa4, VMEXIT_UNDEFINED },
		{ 0xa5, 0x1000, VMEXIT_UNKNOWN },
		{ 0x7ffffff0, 0x80000100, VMEXIT_UNKNOWN },
		{ 0xfffffff0, 0xfffffffe, VMEXIT_UNKNOWN },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		for (unsigned int r = table[i].first; r <= table[i].last; r++) {
			struct umbra_exit hw = {
				.reason = UMBRA_EXIT_HARDWARE, .hw_reason = r, .insn_len = 3, .hw_info = 0x123456789a
			};
			struct vmexit exit = decode(&hw);

			ck_assert_msg(exit.reason == table[i].want, "%x: %u", r, exit.reason);
			if (exit.reason == VMEXIT_UNKNOWN) {
				ck_assert_uint_eq(exit.bad.rule, 0);
				ck_assert_uint_eq(exit.bad.hw_reason, r);
				ck_assert_uint_eq(exit.bad.hw_info, 0x123456789a);
			}
		}
	}
}
END_TEST

/* Handed on as it is, 0 (not known) included; none where nobody must step over anything. */
START_TEST(instruction_length)
{
	static const unsigned int no_instruction[] = { 0x41, 0x43, 0x4e, 0x64, 0x74, 0x7f };
	static const unsigned int with[] = { 0x10, 0x21, 0x65, 0x72, 0x77, 0x78, 0x7c, 0x81, 0x89, 0x8d };

	for (size_t i = 0; i < sizeof(no_instruction) / sizeof(no_instruction[0]); i++) {
		struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = no_instruction[i], .insn_len = 5 };

		ck_assert_uint_eq(decode(&hw).insn_len, 0);
	}
	for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++)
		for (unsigned int length = 0; length <= 15; length++) {
			struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE,
						 .hw_reason = with[i],
						 .insn_len = length };

			ck_assert_uint_eq(decode(&hw).insn_len, length);
		}
}
END_TEST

START_TEST(io)
{
	static const struct {
		__u64 info;
		unsigned int port, size, flags, addr_size, seg;
	} table[] = {
		{ 0x00800210, 0x80, 1, 0, 8, 0 },	       /* OUT imm8, AL */
		{ 0x03f80220, 0x3f8, 2, 0, 8, 0 },	       /* OUT DX, AX */
		{ 0x03f80140, 0x3f8, 4, 0, 4, 0 },	       /* OUT DX, EAX */
		{ 0xffff0211, 0xffff, 1, VMEXIT_IO_IN, 8, 0 }, /* IN AL, DX */
		{ 0xfffc0041, 0xfffc, 4, VMEXIT_IO_IN, 0, 0 }, /* IN EAX, DX */
		{ 0x01f00214, 0x1f0, 1, VMEXIT_IO_STRING, 8, UMBRA_DS },
		{ 0x01f0012c, 0x1f0, 2, VMEXIT_IO_STRING | VMEXIT_IO_REP, 4, UMBRA_DS },
		{ 0x01f000c5, 0x1f0, 4, VMEXIT_IO_STRING | VMEXIT_IO_IN, 2, UMBRA_ES },
		{ 0x01f0021d, 0x1f0, 1, VMEXIT_IO_STRING | VMEXIT_IO_IN | VMEXIT_IO_REP, 8, UMBRA_ES },
		{ 0xabcdef01f00041ULL, 0x1f0, 4, VMEXIT_IO_IN, 0, 0 }, /* bits past 31 mean nothing */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct umbra_exit hw = {
			.reason = UMBRA_EXIT_HARDWARE, .hw_reason = 0x7b, .insn_len = 2, .hw_info = table[i].info
		};
		struct vmexit exit = decode(&hw);

		ck_assert_uint_eq(exit.reason, VMEXIT_IO);
		ck_assert_uint_eq(exit.insn_len, 2);
		ck_assert_msg(exit.io.port == table[i].port && exit.io.size == table[i].size &&
				      exit.io.flags == table[i].flags,
			      "row %zu: port %x size %u flags %x", i, exit.io.port, exit.io.size, exit.io.flags);
		if (table[i].flags & VMEXIT_IO_STRING)
			ck_assert_msg(exit.io.addr_size == table[i].addr_size && exit.io.seg == table[i].seg,
				      "row %zu: address %u segment %u", i, exit.io.addr_size, exit.io.seg);
	}
}
END_TEST

START_TEST(msr)
{
	struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = 0x7c };

	ck_assert_uint_eq(decode(&hw).reason, VMEXIT_RDMSR);
	hw.hw_info = 1;
	ck_assert_uint_eq(decode(&hw).reason, VMEXIT_WRMSR);
}
END_TEST

/* Which register it is, and for reads that it is one; the rest is in the instruction. */
START_TEST(registers)
{
	for (unsigned int n = 0; n < 0x40; n++) {
		/* Decode assists, which are not used. */
		struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = n, .hw_info = 1ULL << 63 | 5 };
		struct vmexit exit = decode(&hw);

		if (n < 0x20) {
			ck_assert_uint_eq(exit.cr.cr, n & 15);
			ck_assert_uint_eq(exit.cr.op, n < 0x10 ? VMEXIT_CR_MOV_FROM : VMEXIT_CR_UNKNOWN);
			ck_assert_uint_eq(exit.cr.gpr, VMEXIT_GPR_UNKNOWN);
		} else {
			ck_assert_uint_eq(exit.dr.dr, n & 15);
			ck_assert_uint_eq(exit.dr.write, n >= 0x30);
			ck_assert_uint_eq(exit.dr.gpr, VMEXIT_GPR_UNKNOWN);
		}
	}
	struct umbra_exit sel = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = 0x65 };
	struct vmexit exit = decode(&sel);

	ck_assert(exit.cr.cr == 0 && exit.cr.op == VMEXIT_CR_UNKNOWN && exit.cr.gpr == VMEXIT_GPR_UNKNOWN);
}
END_TEST

START_TEST(exceptions)
{
	static const struct {
		unsigned int vector, has, code;
		__u64 info1, info2, payload;
	} table[] = {
		{ 0, 0, 0, 0x77, 0x1234, 0 }, /* neither means anything */
		{ 3, 0, 0, 0x77, 0x1234, 0 },
		{ 6, 0, 0, 0x77, 0x1234, 0 },
		{ 1, 0, 0, 0x77, 0xffff4ff0, 1 << 14 }, /* single step */
		{ 1, 0, 0, 0, 0xffff0ff5, 5 },		/* breakpoints 0 and 2 */
		{ 1, 0, 0, 0, 0xffff2ff0, 1 << 13 },	/* general detect */
		{ 1, 0, 0, 0, 0xfffe0ff0, 1 << 16 },	/* active low */
		{ 1, 0, 0, 0, 0xffff0ff0, 0 },
		{ 8, 1, 0, 0, 0x1234, 0 },
		{ 13, 1, 0x8888, 0xffff00008888, 0x1234, 0 },
		{ 14, 1, 7, 7, 0xffff800000001008, 0xffff800000001008 },
		{ 17, 1, 0, 0, 0x1234, 0 },
		{ 30, 1, 1, 1, 0x1234, 0 },
		{ 31, 0, 0, 5, 9, 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE,
					 .hw_reason = 0x40 + table[i].vector,
					 .hw_info = table[i].info1,
					 .hw_info2 = table[i].info2 };
		struct vmexit exit = decode(&hw);

		ck_assert_msg(exit.reason == VMEXIT_EXCEPTION && exit.exc.vector == table[i].vector &&
				      exit.exc.has_error_code == table[i].has && exit.exc.error_code == table[i].code &&
				      exit.exc.payload == table[i].payload,
			      "row %zu: vector %u has %u code %x payload %llx", i, exit.exc.vector,
			      exit.exc.has_error_code, exit.exc.error_code, (unsigned long long)exit.exc.payload);
	}
}
END_TEST

/* INT1 has an exit of its own; its length is what tells it from other #DB. */
START_TEST(icebp)
{
	struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = 0x88, .hw_info2 = 0x55 };

	for (unsigned int length = 0; length < 3; length++) {
		struct vmexit exit;

		hw.insn_len = length;
		exit = decode(&hw);
		ck_assert(exit.exc.vector == 1 && !exit.exc.has_error_code && !exit.exc.payload);
		ck_assert_uint_eq(exit.insn_len, length ? length : 1);
	}
}
END_TEST

START_TEST(tasks)
{
	struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = 0x7d, .hw_info = 0x5555000000000028 };

	ck_assert_uint_eq(decode(&hw).task.selector, 0x28);
	ck_assert_uint_eq(decode(&hw).task.source, 0);
	hw.hw_info2 = 1ULL << 36;
	ck_assert_uint_eq(decode(&hw).task.source, 1);
	hw.hw_info2 = 1ULL << 38;
	ck_assert_uint_eq(decode(&hw).task.source, 2);
	hw.hw_info2 = 0;
	hw.event.flags = UMBRA_EVENT_VALID;
	ck_assert_uint_eq(decode(&hw).task.source, 3);
}
END_TEST

/* Those that are not the hardware's: raw fields of the last one may still stand there and mean nothing. */
START_TEST(others)
{
	struct umbra_exit hw;
	struct vmexit exit;

	memset(&hw, 0xee, sizeof(hw));
	for (unsigned int reason = UMBRA_EXIT_NONE; reason <= UMBRA_EXIT_DEADLINE; reason++) {
		hw.reason = reason;
		exit = decode(&hw);
		ck_assert_uint_eq(exit.reason, reason);
		ck_assert_uint_eq(exit.insn_len, 0);
	}
	hw = (struct umbra_exit) { .reason = UMBRA_EXIT_MEM,
				   .gpa = 0xfee00020,
				   .insn_len = 9,
				   .hw_reason = 0x400,
				   .access = UMBRA_MEM_WRITE | UMBRA_MEM_FAULT,
				   .error = -EFAULT };
	exit = decode(&hw);
	ck_assert_uint_eq(exit.reason, VMEXIT_MEM);
	ck_assert_uint_eq(exit.insn_len, 0);
	ck_assert_uint_eq(exit.mem.gpa, 0xfee00020);
	ck_assert_uint_eq(exit.mem.access, UMBRA_MEM_WRITE | UMBRA_MEM_FAULT);
	ck_assert_int_eq(exit.mem.error, -EFAULT);
	hw = (struct umbra_exit) {
		.reason = UMBRA_EXIT_BAD_STATE, .rule = UMBRA_BAD_HARDWARE, .hw_reason = 0xffffffff, .insn_len = 9
	};
	exit = decode(&hw);
	ck_assert_uint_eq(exit.reason, VMEXIT_BAD_STATE);
	ck_assert_uint_eq(exit.insn_len, 0);
	ck_assert_uint_eq(exit.bad.rule, UMBRA_BAD_HARDWARE);
	ck_assert_uint_eq(exit.bad.hw_reason, 0xffffffff);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exit_svm");
	TCase *tests = tcase_create("table");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tests);
	tcase_add_test(tests, reasons);
	tcase_add_test(tests, instruction_length);
	tcase_add_test(tests, io);
	tcase_add_test(tests, msr);
	tcase_add_test(tests, registers);
	tcase_add_test(tests, exceptions);
	tcase_add_test(tests, icebp);
	tcase_add_test(tests, tasks);
	tcase_add_test(tests, others);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
