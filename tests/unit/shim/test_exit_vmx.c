// SPDX-License-Identifier: GPL-2.0-or-later
/* What VMX says, decoded: a table of raw descriptions. (SDM 3C 28.2, appendix C) */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exit.h"

static struct vmexit decode(const struct umbra_exit *hw)
{
	struct umbra_run *run = malloc(sizeof(*run)); /* on the heap: a read past it is found */
	struct vmexit exit;

	memset(run, 0x5a, sizeof(*run));
	memset(&exit, 0xa5, sizeof(exit));
	run->exit = *hw;
	exit_read_vmx(run, &exit);
	ck_assert_int_eq(memcmp(&run->exit, hw, sizeof(*hw)), 0);
	free(run);
	return exit;
}

/* Every basic exit reason there can be, and what becomes of it. */
START_TEST(reasons)
{
	static const struct {
		unsigned int first, last, want;
	} table[] = {
		{ 0, 0, VMEXIT_EXCEPTION },
		{ 1, 1, VMEXIT_UNKNOWN },
		{ 2, 2, VMEXIT_SHUTDOWN },
		{ 3, 6, VMEXIT_UNKNOWN },
		{ 7, 7, VMEXIT_INTR_WINDOW },
		{ 8, 8, VMEXIT_NMI_WINDOW },
		{ 9, 9, VMEXIT_TASK_SWITCH },
		{ 10, 10, VMEXIT_CPUID },
		{ 11, 11, VMEXIT_UNDEFINED },
		{ 12, 12, VMEXIT_HLT },
		{ 13, 13, VMEXIT_INVD },
		{ 14, 14, VMEXIT_INVLPG },
		{ 15, 15, VMEXIT_RDPMC },
		{ 16, 16, VMEXIT_RDTSC },
		{ 17, 17, VMEXIT_UNKNOWN },
		{ 18, 18, VMEXIT_HYPERCALL },
		{ 19, 27, VMEXIT_UNDEFINED },
		{ 28, 28, VMEXIT_CR },
		{ 29, 29, VMEXIT_DR },
		{ 30, 30, VMEXIT_IO },
		{ 31, 31, VMEXIT_RDMSR },
		{ 32, 32, VMEXIT_WRMSR },
		{ 33, 35, VMEXIT_UNKNOWN },
		{ 36, 36, VMEXIT_MWAIT },
		{ 37, 38, VMEXIT_UNKNOWN },
		{ 39, 39, VMEXIT_MONITOR },
		{ 40, 40, VMEXIT_PAUSE },
		{ 41, 42, VMEXIT_UNKNOWN },
		{ 43, 43, VMEXIT_TPR },
		{ 44, 49, VMEXIT_UNKNOWN },
		{ 50, 50, VMEXIT_UNDEFINED },
		{ 51, 51, VMEXIT_RDTSC },
		{ 52, 52, VMEXIT_UNKNOWN },
		{ 53, 53, VMEXIT_UNDEFINED },
		{ 54, 54, VMEXIT_WBINVD },
		{ 55, 55, VMEXIT_XSETBV },
		{ 56, 58, VMEXIT_UNKNOWN },
		{ 59, 60, VMEXIT_UNDEFINED },
		{ 61, 1000, VMEXIT_UNKNOWN },
		{ 0x7ffffff0, 0x80000100, VMEXIT_UNKNOWN },
		{ 0xfffffff0, 0xfffffffe, VMEXIT_UNKNOWN },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		for (unsigned int r = table[i].first; r <= table[i].last; r++) {
			struct umbra_exit hw = {
				.reason = UMBRA_EXIT_HARDWARE, .hw_reason = r, .insn_len = 3, .hw_info = 0x123456789a
			};
			struct vmexit exit = decode(&hw);

			ck_assert_msg(exit.reason == table[i].want, "%u: %u", r, exit.reason);
			if (exit.reason == VMEXIT_UNKNOWN) {
				ck_assert_uint_eq(exit.bad.rule, 0);
				ck_assert_uint_eq(exit.bad.hw_reason, r);
				ck_assert_uint_eq(exit.bad.hw_info, 0x123456789a);
			}
		}
	}
}
END_TEST

START_TEST(instruction_length)
{
	static const unsigned int no_instruction[] = { 2, 7, 8, 43 }, with[] = { 10, 12, 30, 31, 28, 54, 55, 0 };

	for (size_t i = 0; i < sizeof(no_instruction) / sizeof(no_instruction[0]); i++) {
		struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = no_instruction[i], .insn_len = 5 };

		ck_assert_uint_eq(decode(&hw).insn_len, 0);
	}
	for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++)
		for (unsigned int length = 1; length <= 15; length++) {
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
		__u32 detail;
		unsigned int port, size, flags, addr_size, seg;
	} table[] = {
		{ 0x00800040, 0, 0x80, 1, 0, 0, 0 },		  /* OUT imm8, AL */
		{ 0x03f80000, 0, 0x3f8, 1, 0, 0, 0 },		  /* OUT DX, AL */
		{ 0x03f80001, 0, 0x3f8, 2, 0, 0, 0 },		  /* OUT DX, AX */
		{ 0x03f80003, 0, 0x3f8, 4, 0, 0, 0 },		  /* OUT DX, EAX */
		{ 0xffff0008, 0, 0xffff, 1, VMEXIT_IO_IN, 0, 0 }, /* IN AL, DX */
		{ 0xfffc000b, 0, 0xfffc, 4, VMEXIT_IO_IN, 0, 0 }, /* IN EAX, DX */
		{ 0x01f00010, 2 << 7 | 3 << 15, 0x1f0, 1, VMEXIT_IO_STRING, 8, UMBRA_DS },
		{ 0x01f00010, 1 << 7 | 4 << 15, 0x1f0, 1, VMEXIT_IO_STRING, 4, UMBRA_FS },
		{ 0x01f00031, 0 << 7 | 2 << 15, 0x1f0, 2, VMEXIT_IO_STRING | VMEXIT_IO_REP, 2, UMBRA_SS },
		{ 0x01f00013, 2 << 7 | 5 << 15, 0x1f0, 4, VMEXIT_IO_STRING, 8, UMBRA_GS },
		{ 0x01f00013, 2 << 7 | 1 << 15, 0x1f0, 4, VMEXIT_IO_STRING, 8, UMBRA_CS },
		{ 0x01f00018, 2 << 7 | 7 << 15, 0x1f0, 1, VMEXIT_IO_STRING | VMEXIT_IO_IN, 8,
		  UMBRA_ES }, /* INS: ES, whatever is said */
		{ 0x01f00039, 1 << 7 | 3 << 15, 0x1f0, 2, VMEXIT_IO_STRING | VMEXIT_IO_IN | VMEXIT_IO_REP, 4,
		  UMBRA_ES },
		{ 0xabcdef01f0000bULL, 0, 0x1f0, 4, VMEXIT_IO_IN, 0, 0 }, /* bits past 31 mean nothing */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE,
					 .hw_reason = 30,
					 .insn_len = 2,
					 .hw_info = table[i].info,
					 .hw_detail = table[i].detail };
		struct vmexit exit = decode(&hw);

		ck_assert_uint_eq(exit.reason, VMEXIT_IO);
		ck_assert_msg(exit.io.port == table[i].port && exit.io.size == table[i].size &&
				      exit.io.flags == table[i].flags,
			      "row %zu: port %x size %u flags %x", i, exit.io.port, exit.io.size, exit.io.flags);
		if (!(table[i].flags & VMEXIT_IO_STRING))
			continue;
		ck_assert_msg(exit.io.addr_size == table[i].addr_size && exit.io.seg == table[i].seg,
			      "row %zu: address %u segment %u", i, exit.io.addr_size, exit.io.seg);
	}
}
END_TEST

START_TEST(control_registers)
{
	static const struct {
		__u64 info;
		unsigned int cr, op, gpr, lmsw;
	} table[] = {
		{ 0x000, 0, VMEXIT_CR_MOV_TO, UMBRA_RAX, 0 }, { 0xf03, 3, VMEXIT_CR_MOV_TO, 15, 0 },
		{ 0x304, 4, VMEXIT_CR_MOV_TO, UMBRA_RBX, 0 }, { 0x118, 8, VMEXIT_CR_MOV_FROM, UMBRA_RCX, 0 },
		{ 0x408, 8, VMEXIT_CR_MOV_TO, UMBRA_RSP, 0 }, { 0x020, 0, VMEXIT_CR_CLTS, 0, 0 },
		{ 0xfffb0030, 0, VMEXIT_CR_LMSW, 0, 0xfffb }, { 0x00010070, 0, VMEXIT_CR_LMSW, 0, 1 }, /* from memory */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = 28, .hw_info = table[i].info };
		struct vmexit exit = decode(&hw);

		ck_assert_msg(exit.reason == VMEXIT_CR && exit.cr.cr == table[i].cr && exit.cr.op == table[i].op &&
				      exit.cr.gpr == table[i].gpr && exit.cr.lmsw == table[i].lmsw,
			      "row %zu: cr%u op %u gpr %u lmsw %x", i, exit.cr.cr, exit.cr.op, exit.cr.gpr,
			      exit.cr.lmsw);
	}
}
END_TEST

START_TEST(debug_registers)
{
	for (unsigned int dr = 0; dr < 8; dr++)
		for (unsigned int gpr = 0; gpr < 16; gpr++)
			for (unsigned int from = 0; from < 2; from++) {
				struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE,
							 .hw_reason = 29,
							 .insn_len = 3,
							 .hw_info = dr | from << 4 | gpr << 8 };
				struct vmexit exit = decode(&hw);

				ck_assert_uint_eq(exit.reason, VMEXIT_DR);
				ck_assert_uint_eq(exit.dr.dr, dr);
				ck_assert_uint_eq(exit.dr.write, !from);
				ck_assert_uint_eq(exit.dr.gpr, gpr);
			}
}
END_TEST

START_TEST(exceptions)
{
	static const struct {
		__u32 detail, code;
		__u64 info;
		unsigned int vector, has, want_code;
		__u64 payload;
	} table[] = {
		{ 0x80000306, 0x77, 0x1234, 6, 0, 0, 0 },	  /* #UD: neither means anything */
		{ 0x80000603, 0x77, 0x1234, 3, 0, 0, 0 },	  /* INT3, a software exception */
		{ 0x80000301, 0x77, 1 << 14, 1, 0, 0, 1 << 14 },  /* #DB, single step */
		{ 0x80000501, 0, 0, 1, 0, 0, 0 },		  /* INT1 */
		{ 0x80000b0d, 0x8888, 0x1234, 13, 1, 0x8888, 0 }, /* #GP */
		{ 0x80000b0e, 2, 0xffff800000001008, 14, 1, 2, 0xffff800000001008 },
		{ 0x80001b0e, 0xffffffff, 8, 14, 1, 0xffffffff, 8 }, /* NMIs unblocked by IRET: bit 12 */
		{ 0x80000b11, 0, 0, 17, 1, 0, 0 },		     /* #AC */
		{ 0x8000031f, 5, 9, 31, 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE,
					 .hw_reason = 0,
					 .hw_info = table[i].info,
					 .hw_detail = table[i].detail,
					 .hw_error_code = table[i].code };
		struct vmexit exit = decode(&hw);

		ck_assert_msg(exit.reason == VMEXIT_EXCEPTION && exit.exc.vector == table[i].vector &&
				      exit.exc.has_error_code == table[i].has &&
				      exit.exc.error_code == table[i].want_code && exit.exc.payload == table[i].payload,
			      "row %zu: vector %u has %u code %x payload %llx", i, exit.exc.vector,
			      exit.exc.has_error_code, exit.exc.error_code, (unsigned long long)exit.exc.payload);
	}
}
END_TEST

START_TEST(tasks_and_invlpg)
{
	struct umbra_exit hw = { .reason = UMBRA_EXIT_HARDWARE, .hw_reason = 9 };

	for (__u64 source = 0; source < 4; source++) {
		struct vmexit exit;

		hw.hw_info = source << 30 | 0x28;
		exit = decode(&hw);
		ck_assert_uint_eq(exit.reason, VMEXIT_TASK_SWITCH);
		ck_assert_uint_eq(exit.task.selector, 0x28);
		ck_assert_uint_eq(exit.task.source, source);
	}
	hw.hw_reason = 14;
	hw.hw_info = 0xffff888000123456;
	ck_assert_uint_eq(decode(&hw).mem.gva, 0xffff888000123456);
}
END_TEST

/* Those that are not the hardware's: raw fields of the last one may still stand there and mean nothing. */
START_TEST(others)
{
	static const __u32 plain[][2] = {
		{ UMBRA_EXIT_NONE, VMEXIT_NONE },
		{ UMBRA_EXIT_INTERRUPTED, VMEXIT_INTERRUPTED },
		{ UMBRA_EXIT_DEADLINE, VMEXIT_DEADLINE },
	};
	struct umbra_exit hw;
	struct vmexit exit;

	memset(&hw, 0xee, sizeof(hw));
	for (size_t i = 0; i < 3; i++) {
		hw.reason = plain[i][0];
		exit = decode(&hw);
		ck_assert_uint_eq(exit.reason, plain[i][1]);
		ck_assert_uint_eq(exit.insn_len, 0);
	}
	hw = (struct umbra_exit) { .reason = UMBRA_EXIT_MEM,
				   .gpa = 0xfee00020,
				   .gva = 0xffff888000000020,
				   .insn_len = 9,
				   .hw_reason = 12,
				   .access = UMBRA_MEM_WRITE | UMBRA_MEM_GVA | UMBRA_MEM_FAULT,
				   .error = -EFAULT };
	exit = decode(&hw);
	ck_assert_uint_eq(exit.reason, VMEXIT_MEM);
	ck_assert_uint_eq(exit.insn_len, 0);
	ck_assert_uint_eq(exit.mem.gpa, 0xfee00020);
	ck_assert_uint_eq(exit.mem.gva, 0xffff888000000020);
	ck_assert_uint_eq(exit.mem.access, UMBRA_MEM_WRITE | UMBRA_MEM_GVA | UMBRA_MEM_FAULT);
	ck_assert_int_eq(exit.mem.error, -EFAULT);
	hw = (struct umbra_exit) {
		.reason = UMBRA_EXIT_BAD_STATE, .rule = UMBRA_BAD_HARDWARE, .hw_reason = 33, .hw_info = 4, .insn_len = 9
	};
	exit = decode(&hw);
	ck_assert_uint_eq(exit.reason, VMEXIT_BAD_STATE);
	ck_assert_uint_eq(exit.insn_len, 0);
	ck_assert_uint_eq(exit.bad.rule, UMBRA_BAD_HARDWARE);
	ck_assert_uint_eq(exit.bad.hw_reason, 33);
	ck_assert_uint_eq(exit.bad.hw_info, 4);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exit_vmx");
	TCase *tests = tcase_create("table");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tests);
	tcase_add_test(tests, reasons);
	tcase_add_test(tests, instruction_length);
	tcase_add_test(tests, io);
	tcase_add_test(tests, control_registers);
	tcase_add_test(tests, debug_registers);
	tcase_add_test(tests, exceptions);
	tcase_add_test(tests, tasks_and_invlpg);
	tcase_add_test(tests, others);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
