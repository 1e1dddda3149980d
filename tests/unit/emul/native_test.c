// SPDX-License-Identifier: GPL-2.0-or-later
#include <check.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "emulate.h"

/*
 * The CPU that this runs on as the oracle: each instruction with random registers, flags and memory, once through the
 * emulator and once for real, from the same state. All registers but rsp, all flags that are not undefined, and memory
 * must agree.
 */
#define ROUNDS 400
#define FLAGS 0xcd5

enum kind {
	ANY,
	SHIFT,	/* CF is undefined above the width: counts up to 8 */
	BITS,	/* rax is a bit index that must stay in the buffer */
	DIVIDE, /* rdx such that the quotient often fits */
	STRING, /* rsi, rdi and rcx in the buffer; DF random */
	VEX,
};

struct row {
	const char *name, *code;
	uint32_t len;
	uint64_t undefined;
	enum kind kind;
};

static const struct row rows[] = {
#include "native_rows.h"
};

/* Offsets are known to native_run below. */
struct state {
	uint64_t gpr[16];
	uint64_t rflags;    /* 128 */
	uint64_t avx;	    /* 136 */
	uint8_t vec[2][32]; /* 144 */
	uint64_t mmx[2];    /* 208 */
};

/* void native_run(struct state *state, const void *code): loads state, calls code, stores state */
void native_run(struct state *state, const void *code);
__asm__(".text\n"
	".globl native_run\n"
	"native_run:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	push %rdi; push %rsi\n"
	"	cmpq $0, 136(%rdi); je 1f\n"
	"	vmovdqu 144(%rdi), %ymm0; vmovdqu 176(%rdi), %ymm1; jmp 2f\n"
	"1:	movdqu 144(%rdi), %xmm0; movdqu 176(%rdi), %xmm1\n"
	"2:	movq 208(%rdi), %mm0; movq 216(%rdi), %mm1\n"
	"	pushq 128(%rdi)\n"
	"	mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp; mov 48(%rdi), %rsi; mov 64(%rdi), %r8; mov 72(%rdi), %r9\n"
	"	mov 80(%rdi), %r10; mov 88(%rdi), %r11; mov 96(%rdi), %r12; mov 104(%rdi), %r13\n"
	"	mov 112(%rdi), %r14; mov 120(%rdi), %r15; mov 56(%rdi), %rdi\n"
	"	popfq\n"
	"	call *(%rsp)\n"
	"	pushfq; cld; push %rax\n"
	"	mov 24(%rsp), %rax\n"
	"	mov %rcx, 8(%rax); mov %rdx, 16(%rax); mov %rbx, 24(%rax); mov %rbp, 40(%rax)\n"
	"	mov %rsi, 48(%rax); mov %rdi, 56(%rax); mov %r8, 64(%rax); mov %r9, 72(%rax)\n"
	"	mov %r10, 80(%rax); mov %r11, 88(%rax); mov %r12, 96(%rax); mov %r13, 104(%rax)\n"
	"	mov %r14, 112(%rax); mov %r15, 120(%rax)\n"
	"	pop %rcx; mov %rcx, 0(%rax); pop %rcx; mov %rcx, 128(%rax)\n"
	"	cmpq $0, 136(%rax); je 3f\n"
	"	vmovdqu %ymm0, 144(%rax); vmovdqu %ymm1, 176(%rax); vzeroupper; jmp 4f\n"
	"3:	movdqu %xmm0, 144(%rax); movdqu %xmm1, 176(%rax)\n"
	"4:	movq %mm0, 208(%rax); movq %mm1, 216(%rax); emms\n"
	"	add $16, %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

static uint64_t seed = 0x2545f4914f6cdd1d;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Edges are more likely than chance has them. */
static uint64_t random_value(void)
{
	static const uint64_t edges[] = { 0,
					  1,
					  0x7f,
					  0x80,
					  0xff,
					  0x7fff,
					  0x8000,
					  0xffff,
					  0x7fffffff,
					  0x80000000,
					  0xffffffff,
					  0x7fffffffffffffff,
					  0x8000000000000000,
					  ~0ull };

	switch (random64() & 3) {
	case 0:
		return edges[random64() % (sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return random64() >> (random64() & 63);
	default:
		return random64();
	}
}

#define BUFFER 8192
static uint8_t buffer[BUFFER] __attribute__((aligned(64)));
static uint8_t buffer_before[BUFFER], buffer_emulated[BUFFER];
static uint8_t *code_page;
static struct state emulated, native;
static int fault_vector;

static bool inside(uint64_t gva, uint32_t len)
{
	return gva >= (uintptr_t)buffer && gva + len <= (uintptr_t)buffer + BUFFER;
}

static int op_read(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	(void)ctx;
	ck_assert(inside(gva, len));
	memcpy(data, (void *)(uintptr_t)gva, len);
	return EMUL_OK;
}

static int op_write(struct emul_ctx *ctx, uint64_t gva, const void *data, uint32_t len)
{
	(void)ctx;
	ck_assert(inside(gva, len));
	memcpy((void *)(uintptr_t)gva, data, len);
	return EMUL_OK;
}

static int op_fetch(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	(void)ctx;
	memcpy(data, (void *)(uintptr_t)gva, len);
	return EMUL_OK;
}

static void op_fault(struct emul_ctx *ctx, uint8_t vector, bool has_code, uint32_t code)
{
	(void)ctx;
	(void)has_code;
	(void)code;
	fault_vector = vector;
}

static void op_vec_read(struct emul_ctx *ctx, uint32_t reg, void *data, uint32_t len)
{
	(void)ctx;
	ck_assert_uint_lt(reg, 2);
	memcpy(data, emulated.vec[reg], len);
}

static void op_vec_write(struct emul_ctx *ctx, uint32_t reg, const void *data, uint32_t len, bool vex)
{
	(void)ctx;
	ck_assert_uint_lt(reg, 2);
	if (vex)
		memset(emulated.vec[reg], 0, 32);
	memcpy(emulated.vec[reg], data, len);
}

static bool op_mmx_read(struct emul_ctx *ctx, uint32_t reg, uint64_t *value)
{
	(void)ctx;
	ck_assert_uint_lt(reg, 2);
	*value = emulated.mmx[reg];
	return true;
}

static void op_mmx_done(struct emul_ctx *ctx, uint32_t reg, const uint64_t *value)
{
	(void)ctx;
	ck_assert_uint_lt(reg, 2);
	if (value)
		emulated.mmx[reg] = *value;
}

static const struct emul_ops ops = {
	.read = op_read,
	.write = op_write,
	.fetch = op_fetch,
	.fault = op_fault,
	.vec_read = op_vec_read,
	.vec_write = op_vec_write,
	.mmx_read = op_mmx_read,
	.mmx_done = op_mmx_done,
};

static sigjmp_buf native_fault;

static void on_signal(int nr)
{
	siglongjmp(native_fault, nr);
}

/* 0, or the signal that ended it */
static int native_try(void)
{
	int nr = sigsetjmp(native_fault, 1);

	if (!nr)
		native_run(&native, code_page);
	return nr;
}

static void state_init(struct state *state, enum kind kind)
{
	uint64_t *memory = (uint64_t *)(buffer + BUFFER / 2);
	uint64_t mask = random64() & 1 ? 0x0101010101010101 : ~0ull;

	for (uint32_t i = 0; i < BUFFER / 8; i++)
		((uint64_t *)buffer)[i] = kind == STRING ? random64() & mask : random64();
	memory[0] = random_value();
	memory[1] = random_value();
	for (int i = 0; i < 16; i++)
		state->gpr[i] = random_value();
	state->rflags = 2 | (random64() & FLAGS & (kind == STRING ? ~0ull : ~0x400ull));
	state->gpr[3] = (uintptr_t)memory;
	state->gpr[4] = 0;
	if (random64() & 1) { /* for CMPXCHG and its kind */
		state->gpr[0] = memory[0];
		state->gpr[2] = memory[1];
	} else if (random64() & 1) {
		state->gpr[0] = (uint32_t)memory[0];
		state->gpr[2] = memory[0] >> 32;
	}
	if (kind == SHIFT)
		state->gpr[1] = random64() % 9;
	if (kind == BITS)
		state->gpr[0] = (uint64_t)((int64_t)(random64() % 16384) - 8192);
	if (kind == DIVIDE && (random64() & 1))
		state->gpr[2] = random64() & 1 ? random64() & 0xf : ~(random64() & 0xf);
	if (kind == STRING) {
		state->gpr[1] = random64() % 40;
		state->gpr[6] = (uintptr_t)buffer + 2000 + random64() % 16;
		state->gpr[7] = (uintptr_t)buffer + 6000 + random64() % 16;
	}
	for (int i = 0; i < 8; i++)
		((uint64_t *)state->vec)[i] = random64();
	for (int i = 0; i < 2; i++)
		state->mmx[i] = random64();
}

static enum emul_result emulate_once(void)
{
	static struct emul_cache cache;
	struct emul_insn insn;
	struct emul_ctx ctx = {
		.ops = &ops,
		.insn = &insn,
		.cache = &cache,
		.gpr = emulated.gpr,
		.rip = (uintptr_t)code_page,
		.rflags = emulated.rflags,
		.cr0 = 0x80000011,
		.cr4 = 0x40620,
		.efer = 0xd00,
	};
	enum emul_result result;

	for (int i = 0; i < 6; i++)
		ctx.seg[i].attr = i == 1 ? 0xa09b : 0xc093;
	result = emulate(&ctx);
	emulated.rflags = ctx.rflags;
	return result;
}

/* Once through both: 1 executed, 0 #DE from both, -1 unknown to this CPU. */
static int round_once(const struct row *row)
{
	enum emul_result result;
	int nr;

	memset(&emulated, 0, sizeof(emulated));
	state_init(&emulated, row->kind);
	emulated.avx = !!__builtin_cpu_supports("avx2");
	native = emulated;
	memcpy(buffer_before, buffer, BUFFER);
	result = emulate_once();
	memcpy(buffer_emulated, buffer, BUFFER);
	memcpy(buffer, buffer_before, BUFFER);
	nr = native_try();
	if (nr == SIGILL)
		return -1;
	if (nr == SIGFPE) {
		ck_assert_msg(result == EMUL_FAULT && fault_vector == 0, "%s: no #DE", row->name);
		if (memcmp(buffer_emulated, buffer_before, BUFFER))
			ck_abort_msg("%s: #DE changed memory", row->name);
		return 0;
	}
	ck_assert_msg(result == EMUL_DONE, "%s: result %d", row->name, result);
	for (int i = 0; i < 16; i++) {
		if (i != 4 && native.gpr[i] != emulated.gpr[i])
			ck_abort_msg("%s: register %d is %llx, the CPU has %llx", row->name, i,
				     (unsigned long long)emulated.gpr[i], (unsigned long long)native.gpr[i]);
	}
	if ((native.rflags ^ emulated.rflags) & FLAGS & ~row->undefined)
		ck_abort_msg("%s: flags %llx, the CPU has %llx", row->name, (unsigned long long)emulated.rflags,
			     (unsigned long long)native.rflags);
	if (memcmp(native.vec, emulated.vec, sizeof(native.vec)))
		ck_abort_msg("%s: vector registers differ", row->name);
	if (memcmp(native.mmx, emulated.mmx, sizeof(native.mmx)))
		ck_abort_msg("%s: MMX registers differ", row->name);
	if (memcmp(buffer, buffer_emulated, BUFFER))
		ck_abort_msg("%s: memory differs", row->name);
	return 1;
}

static void code_set(const struct row *row)
{
	memset(code_page, 0xc3, 32); /* RET */
	memcpy(code_page, row->code, row->len);
}

static void native_setup(void)
{
	code_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(code_page, MAP_FAILED);
	memset(code_page, 0xc3, 4096);
	signal(SIGFPE, on_signal);
	signal(SIGILL, on_signal);
}

static void native_teardown(void)
{
	munmap(code_page, 4096);
}

START_TEST(test_row)
{
	const struct row *row = &rows[_i];
	uint32_t executed = 0;

	if (row->kind == VEX && !__builtin_cpu_supports("avx2")) {
		printf("SKIPPED, no AVX2 on this CPU: %s\n", row->name);
		return;
	}
	code_set(row);
	for (int round = 0; round < ROUNDS; round++) {
		int ret = round_once(row);

		if (ret < 0) {
			printf("SKIPPED, unknown to this CPU: %s\n", row->name);
			return;
		}
		executed += (uint32_t)ret;
	}
	ck_assert_msg(executed > ROUNDS / 20, "%s: executed %u times", row->name, executed);
}
END_TEST

/*
 * The CPU takes none of these (SDM 2: "NP 0F C3"), so none comes to the emulator from it. Stock KVM's emulator would do them, which only
 * shows on a CPU that takes them: QEMU's.
 */
static const struct row refused_rows[] = {
	{ "movnti with 66", "\x66\x0f\xc3\x03", 4, 0, ANY },
	{ "movnti with 66, 64-bit", "\x66\x48\x0f\xc3\x03", 5, 0, ANY },
	{ "movnti with f3", "\xf3\x0f\xc3\x03", 4, 0, ANY },
	{ "movnti with f2, 64-bit", "\xf2\x48\x0f\xc3\x03", 5, 0, ANY },
};

START_TEST(test_refused)
{
	const struct row *row = &refused_rows[_i];

	code_set(row);
	memset(&emulated, 0, sizeof(emulated));
	state_init(&emulated, row->kind);
	native = emulated;
	ck_assert_int_eq(emulate_once(), EMUL_UNKNOWN);
	ck_assert_int_eq(native_try(), SIGILL);
}
END_TEST

/* ---- whole groups of opcodes, with random operands each time ---- */

#define B 1u
#define W 2u
#define D 4u
#define Q 8u
#define DQ (D | Q)
#define WDQ (W | D | Q)
#define MEMORY 16u /* no register as r/m */
#define OSIZE 4
#define NO_MODRM (-2)
#define VECTOR (-3)
#define SWEEP_ROUNDS 120

struct sweep {
	const char *name;
	uint8_t prefix, map, first, last;
	int reg;
	uint32_t sizes;
	uint32_t immediate;
	uint64_t undefined;
	enum kind kind;
	bool count;
};

static const struct sweep sweeps[] = {
#include "sweep_rows.h"
};

/* 0-15 but never rSP, which the calling code needs. AH to BH are 4-7 of bytes without REX. */
static uint32_t random_register(bool byte, bool rex)
{
	uint32_t reg = random64() % (rex ? 16 : 8);

	return reg == 4 && !(byte && !rex) ? 0 : reg;
}

static uint32_t sweep_code(const struct sweep *sweep, uint32_t size, uint8_t opcode, uint8_t *code)
{
	bool byte = size == B, rex = size == Q || (random64() & 1),
	     direct = !(sweep->sizes & MEMORY) && !(random64() & 3);
	uint32_t reg = random_register(byte, rex), rm = direct ? random_register(byte, rex) : 3 /* rbx */, at = 0;
	uint32_t immediate = sweep->immediate == OSIZE && size == W ? 2 : sweep->immediate;

	if (sweep->reg >= 0)
		reg = (uint32_t)sweep->reg;
	if (sweep->reg == VECTOR) {
		reg = random64() & 1;
		direct = false;
	}
	if (size == W)
		code[at++] = 0x66;
	if (sweep->prefix)
		code[at++] = sweep->prefix;
	if (rex)
		code[at++] = (uint8_t)(0x40 | (size == Q ? 8 : 0) | (reg >> 3) << 2 | rm >> 3);
	if (sweep->map)
		code[at++] = 0x0f;
	if (sweep->map == 2)
		code[at++] = 0x38;
	code[at++] = opcode;
	if (sweep->reg != NO_MODRM) {
		code[at++] = (uint8_t)((direct ? 0xc0 : 0x40) | (reg & 7) << 3 | (rm & 7));
		if (!direct)
			code[at++] = (uint8_t)(random64() % 4 * 16);
	}
	for (uint32_t i = 0; i < immediate; i++)
		code[at++] = (uint8_t)(sweep->count ? 1 + random64() % (byte ? 7 : 15) : random64());
	return at;
}

START_TEST(test_sweep)
{
	const struct sweep *sweep = &sweeps[_i];
	uint32_t executed = 0, tried = 0;
	uint8_t code[16];
	char name[160];

	for (uint32_t size = B; size <= Q; size <<= 1) {
		for (uint32_t op = sweep->first; (sweep->sizes & size) && op <= sweep->last; op++) {
			for (int round = 0; round < SWEEP_ROUNDS; round++) {
				struct row row = { name, (const char *)code, 0, sweep->undefined, sweep->kind };
				int ret, used;

				row.len = sweep_code(sweep, size, (uint8_t)op, code);
				used = snprintf(name, sizeof(name), "%s:", sweep->name);
				for (uint32_t i = 0; i < row.len; i++)
					used += snprintf(name + used, sizeof(name) - (size_t)used, " %02x", code[i]);
				code_set(&row);
				ret = round_once(&row);
				if (ret < 0) {
					printf("SKIPPED, unknown to this CPU: %s\n", name);
					return;
				}
				executed += (uint32_t)ret;
				tried++;
			}
		}
	}
	ck_assert_uint_ge(tried, SWEEP_ROUNDS);
	ck_assert_msg(executed > tried / 20, "%s: executed %u times", sweep->name, executed);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("emulator against the CPU");
	TCase *tcase = tcase_create("native");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, native_setup, native_teardown);
	tcase_add_loop_test(tcase, test_sweep, 0, sizeof(sweeps) / sizeof(sweeps[0]));
	tcase_add_loop_test(tcase, test_row, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_loop_test(tcase, test_refused, 0, sizeof(refused_rows) / sizeof(refused_rows[0]));
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
