// SPDX-License-Identifier: GPL-2.0-or-later
#include <check.h>
#include <string.h>

#include "emul.h"
#include "rig.h"

/*
 * Random bytes, half of them near instructions that the emulator knows, in every mode, with random registers: nothing
 * crashes (sanitizers), and the rules of rig_run hold. An op that always waits, or faults now and then, is tried too.
 */
#define ROUNDS 200000

static uint64_t state = 0x9e3779b97f4a7c15;

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static struct rig rigs[5]; /* one a mode */

static uint64_t random_value(void)
{
	switch (random64() & 7) {
	case 0:
		return random64();
	case 1:
		return random64() & 0xff;
	case 2:
		return RIG_HIGH + (random64() & 0x3ffff);
	case 3:
		return RIG_ABSENT - (random64() & 0x1f);
	case 4:
		return ~(random64() & 0xff);
	default:
		return random64() & 0x3ffff;
	}
}

static uint32_t random_code(uint8_t *code)
{
	static const uint8_t prefixes[] = {
		0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x2e, 0x36, 0x26, 0x48, 0x4f, 0x41
	};
	static const uint8_t opcodes[] = { 0x00, 0x01, 0x03, 0x11, 0x29, 0x31, 0x39, 0x6c, 0x6d, 0x6e, 0x6f, 0x80,
					   0x81, 0x83, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8f, 0xa0,
					   0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae,
					   0xaf, 0xc0, 0xc1, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xd7, 0xe4, 0xed,
					   0xee, 0xf6, 0xf7, 0xfe, 0xff, 0x50, 0x58, 0x63 };
	uint32_t at = 0;

	for (uint32_t i = 0; i < 24; i++)
		code[i] = (uint8_t)random64();
	if (random64() & 1)
		return 24;
	for (uint64_t n = random64() % 4; n; n--)
		code[at++] = prefixes[random64() % sizeof(prefixes)];
	if (random64() & 1)
		code[at++] = opcodes[random64() % sizeof(opcodes)];
	else if (random64() & 3)
		code[at++] = 0x0f;
	else
		code[at++] = random64() & 1 ? 0xc5 : 0xc4;
	return 24;
}

static int op_waits(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	(void)ctx;
	(void)gva;
	memset(data, 0, len);
	return random64() & 3 ? EMUL_OK : EMUL_PENDING;
}

static void round_once(uint32_t round, uint32_t *done)
{
	enum rig_mode mode = round % 5;
	struct rig *rig = &rigs[mode];
	const struct emul_ops *ops_before = rig->ctx.ops;
	struct emul_ops ops;
	uint64_t rip = round & 16 ? RIG_ABSENT - 1 - random64() % 15 : 0x8000;
	uint64_t before[16];
	enum emul_result result;
	uint8_t code[32];
	uint32_t len = random_code(code);

	rig->answers = 0;
	rig->cursor = 0;
	rig->commits = 0;
	rig->port_in_used = 0;
	rig->port_out_len = 0;
	rig->faults = 0;
	rig->ctx.rip = rip;
	rig->ctx.rflags = 2 | (random64() & 0xcd5);
	rig->ctx.cpl = random64() & 1 ? 3 : 0;
	for (int i = 0; i < 16; i++)
		rig->gpr[i] = random_value();
	rig->gpr[1] &= 0x3f; /* REP counts that end within the ports' data */
	for (uint32_t i = 0; i < len && (rip + i) < RIG_ABSENT; i++)
		rig->mem[rip + i] = code[i];
	if (mode <= PROT32 && !(round & 7))
		rig->ctx.seg[round >> 3 & 1 ? 3 : 0].attr = (uint16_t)random64();

	if (round % 11 == 0) { /* an answer that never fits */
		ops = *rig->ctx.ops;
		ops.read = op_waits;
		rig->ctx.ops = &ops;
		memcpy(before, rig->gpr, sizeof(before));
		rig->ctx.decoded = false;
		result = emulate(&rig->ctx);
		rig->ctx.ops = ops_before;
		if (result == EMUL_USER && !rig->ctx.commits)
			ck_assert_mem_eq(before, rig->gpr, sizeof(before));
	} else {
		result = rig_run(rig);
		if (result == EMUL_FAULT)
			ck_assert_uint_eq(rig->faults, 1);
		else
			ck_assert_uint_eq(rig->faults, 0);
	}
	if (result == EMUL_DONE && !rig->ctx.rep_yield) {
		ck_assert_uint_ge(rig->insn.length, 1);
		ck_assert_uint_le(rig->insn.length, 15);
		if (rig->insn.exec != exec_branch)
			ck_assert_uint_eq((rig->ctx.rip - rip) & 0xffffffff, rig->insn.length);
		++*done;
	}
}

START_TEST(test_random)
{
	uint32_t done = 0;

	for (uint32_t round = 0; round < ROUNDS; round++) {
		if (round % 2000 < 5) /* memory and segments back to their start */
			rig_init(&rigs[round % 5], round % 5);
		round_once(round, &done);
	}
	/* it must have executed something, or this tests only the decoder */
	ck_assert_uint_gt(done, ROUNDS / 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("emulator, random code");
	TCase *tcase = tcase_create("random");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 110);
	tcase_add_test(tcase, test_random);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
