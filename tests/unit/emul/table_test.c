// SPDX-License-Identifier: GPL-2.0-or-later
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/*
 * Before and after in words, numbers hexadecimal:   rax=.. to r15=..  fl=RFLAGS  ip=..  cr0= cr4= cpl=  ds.base=
 * ds.limit= ds.attr= (any segment)   m@address=bytes   x3=bytes of vector register 3   y3=MMX register 3   mf=1: an x87 exception is pending   in=bytes that ports will give
 * only after:   out=bytes that ports got   port=..  u=waits for the VMM  y=REP yields  f=vector or f=vector:code
 * unknown What after does not name must be as before, all of memory included; rip has moved by the instruction unless
 * it faulted.
 */
struct row {
	enum rig_mode mode;
	const char *name, *code, *before, *after;
};

static const struct row rows[] = {
#include "rows.h"
};

static const char *const gpr_names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					 "r8",	"r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
static const char *const seg_names[] = { "es", "cs", "ss", "ds", "fs", "gs" };

struct outcome {
	enum emul_result result;
	uint32_t pendings, yields, code, out_len;
	uint8_t vector;
	bool has_code;
	uint16_t port;
	uint8_t out[64];
};

static uint32_t bytes_parse(const char *text, uint8_t *to, uint32_t room)
{
	uint32_t len = 0;
	unsigned int byte;

	for (; sscanf(text, "%2x", &byte) == 1; text += 2) {
		ck_assert_uint_lt(len, room);
		to[len++] = (uint8_t)byte;
		if (!text[1] || !text[2])
			break;
	}
	return len;
}

static bool state_word(struct rig *rig, const char *name, const char *value)
{
	uint64_t number = strtoull(value, NULL, 16), at;

	for (int i = 0; i < 16; i++) {
		if (!strcmp(name, gpr_names[i])) {
			rig->gpr[i] = number;
			return true;
		}
	}
	for (int i = 0; i < 6; i++) {
		struct emul_segment *seg = &rig->ctx.seg[i];

		if (strncmp(name, seg_names[i], 2) || name[2] != '.')
			continue;
		if (!strcmp(name + 3, "base"))
			seg->base = number;
		else if (!strcmp(name + 3, "limit"))
			seg->limit = (uint32_t)number;
		else if (!strcmp(name + 3, "attr"))
			seg->attr = (uint16_t)number;
		else
			return false;
		return true;
	}
	if (!strncmp(name, "m@", 2)) {
		at = strtoull(name + 2, NULL, 16);
		ck_assert_uint_lt(at, RIG_SIZE - 64);
		bytes_parse(value, rig->mem + at, 64);
	} else if (name[0] == 'x' && name[1] >= '0' && name[1] <= '9') {
		at = strtoull(name + 1, NULL, 10);
		ck_assert_uint_lt(at, 16);
		memset(rig->vec[at], 0, 32);
		bytes_parse(value, rig->vec[at], 32);
	} else if (name[0] == 'y' && name[1] >= '0' && name[1] <= '7') {
		rig->mmx[name[1] - '0'] = number;
	} else if (!strcmp(name, "mf")) {
		rig->x87_pending = number;
	} else if (!strcmp(name, "fl")) {
		rig->ctx.rflags = number;
	} else if (!strcmp(name, "ip")) {
		rig->ctx.rip = number;
	} else if (!strcmp(name, "cr0")) {
		rig->ctx.cr0 = number;
	} else if (!strcmp(name, "cr4")) {
		rig->ctx.cr4 = number;
	} else if (!strcmp(name, "cpl")) {
		rig->ctx.cpl = (uint8_t)number;
	} else if (!strcmp(name, "in")) {
		bytes_parse(value, rig->port_in, sizeof(rig->port_in));
	} else {
		return false;
	}
	return true;
}

static bool outcome_word(struct outcome *outcome, const char *name, const char *value)
{
	uint32_t number = (uint32_t)strtoul(value, NULL, 16);

	if (!strcmp(name, "unknown")) {
		outcome->result = EMUL_UNKNOWN;
	} else if (!strcmp(name, "f")) {
		outcome->result = EMUL_FAULT;
		outcome->vector = (uint8_t)number;
		outcome->has_code = strchr(value, ':');
		if (outcome->has_code)
			outcome->code = (uint32_t)strtoul(strchr(value, ':') + 1, NULL, 16);
	} else if (!strcmp(name, "u")) {
		outcome->pendings = number;
	} else if (!strcmp(name, "y")) {
		outcome->yields = number;
	} else if (!strcmp(name, "port")) {
		outcome->port = (uint16_t)number;
	} else if (!strcmp(name, "out")) {
		outcome->out_len = bytes_parse(value, outcome->out, sizeof(outcome->out));
	} else {
		return false;
	}
	return true;
}

static void words_apply(const char *words, struct rig *rig, struct outcome *outcome)
{
	char text[512], *save = NULL, *word, *value;

	ck_assert_uint_lt(strlen(words), sizeof(text));
	strcpy(text, words);
	for (word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		value = strchr(word, '=');
		if (value)
			*value++ = 0;
		else
			value = word + strlen(word);
		if (outcome && outcome_word(outcome, word, value))
			continue;
		ck_assert_msg(state_word(rig, word, value), "bad word %s", word);
	}
}

static struct rig rig, expected;

START_TEST(test_row)
{
	const struct row *row = &rows[_i];
	struct outcome want = { .result = EMUL_DONE };
	uint8_t code[32];
	uint64_t at;
	uint32_t len;

	rig_init(&rig, row->mode);
	rig.keep_decoded = _i & 1;
	words_apply(row->before, &rig, NULL);
	len = bytes_parse(row->code, code, sizeof(code));
	at = rig.ctx.rip + rig.ctx.seg[1].base;
	for (uint32_t i = 0; i < len; i++) {
		if (((at + i) & 0xfffff) / 0x1000 != RIG_ABSENT / 0x1000)
			rig.mem[(at + i) & 0xfffff] = code[i];
	}
	expected = rig;
	words_apply(row->after, &expected, &want);
	if (want.result == EMUL_DONE)
		expected.ctx.rip += len;

	ck_assert_msg(rig_run(&rig) == want.result, "%s: result, vector %x", row->name, rig.vector);
	for (int i = 0; i < 16; i++)
		ck_assert_msg(rig.gpr[i] == expected.gpr[i], "%s: %s %llx, not %llx", row->name, gpr_names[i],
			      (unsigned long long)rig.gpr[i], (unsigned long long)expected.gpr[i]);
	ck_assert_msg(rig.ctx.rflags == expected.ctx.rflags, "%s: flags %llx, not %llx", row->name,
		      (unsigned long long)rig.ctx.rflags, (unsigned long long)expected.ctx.rflags);
	ck_assert_msg(rig.ctx.rip == expected.ctx.rip, "%s: rip %llx", row->name, (unsigned long long)rig.ctx.rip);
	for (uint32_t i = 0; i < RIG_SIZE; i++) {
		if (rig.mem[i] != expected.mem[i])
			ck_abort_msg("%s: memory %x is %x, not %x", row->name, i, rig.mem[i], expected.mem[i]);
	}
	ck_assert_msg(!memcmp(rig.vec, expected.vec, sizeof(rig.vec)), "%s: vector registers", row->name);
	ck_assert_msg(!memcmp(rig.mmx, expected.mmx, sizeof(rig.mmx)), "%s: MMX registers", row->name);
	if (want.result == EMUL_FAULT) {
		ck_assert_uint_eq(rig.faults, 1);
		ck_assert_msg(rig.vector == want.vector && rig.has_code == want.has_code && rig.code == want.code,
			      "%s: vector %x code %x (%d)", row->name, rig.vector, rig.code, rig.has_code);
	} else {
		ck_assert_msg(!rig.faults, "%s: fault %x", row->name, rig.vector);
	}
	if (want.result == EMUL_UNKNOWN) /* the bytes are there for the report */
		ck_assert_mem_eq(rig.ctx.bytes, code, len);
	ck_assert_msg(rig.pendings == want.pendings, "%s: %u waits", row->name, rig.pendings);
	ck_assert_msg(rig.yields == want.yields, "%s: %u yields", row->name, rig.yields);
	ck_assert_msg(rig.port == want.port, "%s: port %x", row->name, rig.port);
	ck_assert_msg(rig.port_out_len == want.out_len && !memcmp(rig.port_out, want.out, want.out_len),
		      "%s: port data (%u)", row->name, rig.port_out_len);
}
END_TEST

/* Long REPs stop on purpose and go on. */
START_TEST(test_rep_bounded)
{
	rig_init(&rig, LONG64);
	memcpy(rig.mem + 0x8000, "\xf3\xaa", 2); /* rep stosb */
	rig.gpr[7] = 0x1000;
	rig.gpr[1] = 5000;
	rig.gpr[0] = 0xaa;
	ck_assert_int_eq(emulate(&rig.ctx), EMUL_DONE);
	ck_assert(rig.ctx.rep_yield);
	ck_assert_uint_eq(rig.ctx.rip, 0x8000);
	ck_assert_uint_gt(rig.gpr[1], 0);
	ck_assert_uint_lt(rig.gpr[1], 5000);
	ck_assert_uint_eq(rig.gpr[7] + rig.gpr[1], 0x1000 + 5000);
	ck_assert_uint_eq(rig.ctx.commits, 5000 - rig.gpr[1]);
	ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
	ck_assert_uint_eq(rig.gpr[1], 0);
	ck_assert_uint_eq(rig.ctx.rip, 0x8002);
	ck_assert_uint_eq(rig.mem[0x1000 + 4999], 0xaa);
	ck_assert_uint_ne(rig.mem[0x1000 + 5000], 0xaa);
}
END_TEST

/* An access that waits leaves everything as it was, and comes again. */
START_TEST(test_pending)
{
	rig_init(&rig, LONG64);
	memcpy(rig.mem + 0x8000, "\x01\x03", 2); /* add [rbx], eax */
	memset(rig.mem + RIG_DEVICE, 0, 4);
	rig.gpr[3] = RIG_DEVICE;
	rig.gpr[0] = 5;
	ck_assert_int_eq(emulate(&rig.ctx), EMUL_USER); /* read */
	ck_assert_uint_eq(rig.ctx.rip, 0x8000);
	ck_assert_uint_eq(rig.mem[RIG_DEVICE], 0);
	rig.cursor = 0;
	ck_assert_int_eq(emulate(&rig.ctx), EMUL_USER); /* write */
	ck_assert_uint_eq(rig.mem[RIG_DEVICE], 5);
	ck_assert_uint_eq(rig.ctx.rflags, 2);
	rig.cursor = 0;
	ck_assert_int_eq(emulate(&rig.ctx), EMUL_DONE);
	ck_assert_uint_eq(rig.mem[RIG_DEVICE], 5); /* once */
	ck_assert_uint_eq(rig.ctx.rip, 0x8002);
	ck_assert_uint_eq(rig.ctx.rflags, 6);
}
END_TEST

START_TEST(test_length)
{
	rig_init(&rig, LONG64);
	memcpy(rig.mem + 0x8000, "\x48\xc7\x03\x01\x00\x00\x00", 7);
	ck_assert_uint_eq(emulate_length(&rig.ctx), 7);
	ck_assert_uint_eq(rig.ctx.rip, 0x8000);
	memcpy(rig.mem + 0xfffe, "\x0f\xa2", 2); /* CPUID at the end of the page: the next one is not touched */
	rig.ctx.rip = 0xfffe;
	ck_assert_uint_eq(emulate_length(&rig.ctx), 2);
	ck_assert_uint_eq(rig.faults, 0);
	memcpy(rig.mem + 0x8000, "\x0f\xff\xff\x06", 4);
	rig.ctx.rip = 0x8000;
	rig.mem[0x8000] = 0x06; /* PUSH ES: not in 64-bit code */
	ck_assert_uint_eq(emulate_length(&rig.ctx), 0);
	rig.ctx.seg[1].attr = 0xc09b; /* but in compatibility mode */
	ck_assert_uint_eq(emulate_length(&rig.ctx), 1);
	ck_assert_uint_eq(rig.faults, 0);
}
END_TEST

/* The optional operation may be missing: then the read of a read-modify-write faults first, as a read. */
START_TEST(test_without_probe)
{
	struct emul_ops ops;

	rig_init(&rig, LONG64);
	ops = *rig.ctx.ops;
	ops.probe_write = NULL;
	rig.ctx.ops = &ops;
	memcpy(rig.mem + 0x8000, "\x01\x03", 2);
	rig.gpr[3] = RIG_ABSENT;
	ck_assert_int_eq(emulate(&rig.ctx), EMUL_FAULT);
	ck_assert_uint_eq(rig.vector, 14);
	ck_assert_uint_eq(rig.code, 0);
}
END_TEST

/* The cache of decoded instructions: bytes, length and mode must be those of now. */
START_TEST(test_cache)
{
	static struct emul_cache cache;

	rig_init(&rig, LONG64);
	memset(&cache, 0, sizeof(cache));
	rig.ctx.cache = &cache;
	memcpy(rig.mem + 0x8000, "\x48\xc7\xc0\x01\x00\x00\x00", 7); /* mov rax, 1 */
	ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
	rig.ctx.rip = 0x8000;
	ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
	ck_assert_uint_eq(cache.hits, 1);
	ck_assert_uint_eq(rig.gpr[0], 1);
	for (uint32_t i = 3; i < 7; i++) { /* any byte of it */
		rig.ctx.rip = 0x8000;
		rig.mem[0x8000 + i] ^= 0x42;
		ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
		ck_assert_uint_eq(rig.gpr[0], 0x4242424242424243 & 0xffffffffull >> (6 - i) * 8);
	}
	ck_assert_uint_eq(cache.hits, 1);
	rig.mem[0x8007] ^= 1; /* not the one behind it */
	rig.ctx.rip = 0x8000;
	ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
	ck_assert_uint_eq(cache.hits, 2);
	/* the same bytes in another mode: there is no REX */
	rig.ctx.seg[1].attr = 0xc09b;
	rig.ctx.rip = 0x8000;
	rig.gpr[0] = 7;
	ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
	ck_assert_uint_eq(rig.gpr[0], 6); /* dec eax */
	ck_assert_uint_eq(rig.ctx.rip, 0x8001);
	ck_assert_uint_eq(cache.hits, 2);
}
END_TEST

/* An instruction that now reaches into a page that is not there faults, however often it was decoded. */
START_TEST(test_cache_page_end)
{
	static struct emul_cache cache;

	rig_init(&rig, LONG64);
	memset(&cache, 0, sizeof(cache));
	rig.ctx.cache = &cache;
	for (uint64_t at = 0xfff0; at < 0x10000; at++) {
		rig.ctx.rip = at - 0x4000;
		memcpy(rig.mem + rig.ctx.rip, "\x48\xc7\xc0\x01\x00\x00\x00", 7);
		ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
		rig.ctx.rip = at;
		rig.faults = 0;
		memcpy(rig.mem + at, "\x48\xc7\xc0\x01\x00\x00\x00", 0x10000 - at < 7 ? 0x10000 - at : 7);
		if (at + 7 <= 0x10000) {
			ck_assert_int_eq(rig_run(&rig), EMUL_DONE);
			continue;
		}
		ck_assert_int_eq(rig_run(&rig), EMUL_FAULT);
		ck_assert_uint_eq(rig.vector, 14);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("emulator table");
	TCase *tcase = tcase_create("table");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, test_row, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tcase, test_rep_bounded);
	tcase_add_test(tcase, test_pending);
	tcase_add_test(tcase, test_length);
	tcase_add_test(tcase, test_cache);
	tcase_add_test(tcase, test_cache_page_end);
	tcase_add_test(tcase, test_without_probe);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
