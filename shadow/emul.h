/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_EMUL_H
#define UMBRA_EMUL_H

#include "emulate.h"

/* Inside the emulator only: emul_decode.c decodes, emulate.c addresses, the other emul_*.c execute. */

#define FLAG_CF (1ull << 0)
#define FLAG_PF (1ull << 2)
#define FLAG_AF (1ull << 4)
#define FLAG_ZF (1ull << 6)
#define FLAG_SF (1ull << 7)
#define FLAG_DF (1ull << 10)
#define FLAG_OF (1ull << 11)
#define FLAG_RF (1ull << 16)
#define FLAG_VM (1ull << 17)
#define FLAG_AC (1ull << 18)
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define VEC_DE 0
#define VEC_UD 6
#define VEC_NM 7
#define VEC_SS 12
#define VEC_GP 13
#define VEC_MF 16
#define VEC_AC 17

/* Besides EMUL_OK, EMUL_PENDING and EMUL_RAISED, what an executing function can return. */
#define EXEC_UNKNOWN 2
#define EXEC_YIELD 3

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

enum emul_access { ACCESS_READ, ACCESS_WRITE, ACCESS_CHECK /* limits only */ };

struct emul {
	struct emul_ctx *ctx;
	bool long64;	  /* 64-bit code */
	bool flat_types;  /* real or virtual-8086 mode: no descriptor types */
	uint32_t asize;	  /* address size in bits */
	uint32_t osize;	  /* operand size in bits, 8 for byte instructions */
	uint64_t gpr[16]; /* working copy: becomes the guest's when the instruction (or a REP iteration) is complete */
	uint64_t rflags;
	uint64_t next_rip;
	const struct emul_insn *insn;
	const struct emul_operand *op; /* insn's */
};

static inline uint64_t mask_bits(uint32_t bits)
{
	return bits >= 64 ? ~0ull : (1ull << bits) - 1;
}

static inline int64_t sign_extend(uint64_t value, uint32_t bits)
{
	return bits >= 64 ? (int64_t)value : (int64_t)(value << (64 - bits)) >> (64 - bits);
}

/* emulate.c */
int emul_raise(struct emul *e, uint8_t vector, bool has_code);
/* Segment, limit, canonical and (unless CR0.AM is off) alignment checks of [offset, offset + len) -> linear address. */
int emul_linear(struct emul *e, uint32_t seg, uint64_t offset, uint32_t len, enum emul_access access, uint64_t *gva);
bool emul_linear_ok(struct emul *e, uint32_t seg, uint64_t offset, uint32_t len, enum emul_access access);
/* The linear address of a memory operand, moved by displace bytes (bit strings). */
int emul_operand_gva(struct emul *e, const struct emul_operand *op, int64_t displace, uint32_t len,
		     enum emul_access access, uint64_t *gva);
/* Operands by number: register, immediate or memory of up to 8 bytes. */
int emul_get(struct emul *e, uint32_t nr, uint64_t *value);
int emul_get_for_write(struct emul *e, uint32_t nr, uint64_t *value);
int emul_put(struct emul *e, uint32_t nr, uint64_t value);
uint64_t emul_reg_get(struct emul *e, uint32_t index, uint32_t bits);
void emul_reg_put(struct emul *e, uint32_t index, uint32_t bits, uint64_t value);
int emul_read(struct emul *e, uint64_t gva, void *data, uint32_t len);
int emul_write(struct emul *e, uint64_t gva, const void *data, uint32_t len);
int emul_probe_write(struct emul *e, uint64_t gva, uint32_t len);
void emul_commit_registers(struct emul *e); /* working copy of general registers -> guest */

uint32_t emul_stack_bits(const struct emul *e);

/* emul_decode.c. bytes: have of them. */
enum emul_mode { MODE_REAL16, MODE_LEGACY16, MODE_LEGACY32, MODE_COMPAT16, MODE_COMPAT32, MODE_LONG64 };
enum decode_result {
	DECODE_OK,
	DECODE_MORE,	 /* more bytes needed */
	DECODE_TOO_LONG, /* than 15 bytes */
	DECODE_LOCK,	 /* LOCK where there must be none */
	DECODE_INVALID,
};
enum decode_result emul_decode(enum emul_mode mode, const uint8_t *bytes, uint32_t have, struct emul_insn *insn);

/* What instructions do; each is an emul_insn.exec, told apart by arg. */
int exec_move(struct emul *e); /* emul_exec.c */
int exec_move_sign_extend(struct emul *e);
int exec_move_swapped(struct emul *e);
int exec_move_condition(struct emul *e);
int exec_set_condition(struct emul *e);
int exec_binary(struct emul *e); /* arg: alu_op */
int exec_test(struct emul *e);
enum { UNARY_INC, UNARY_DEC, UNARY_NEG, UNARY_NOT };
int exec_unary(struct emul *e);
int exec_exchange(struct emul *e); /* arg: adds */
int exec_compare_exchange(struct emul *e);
int exec_compare_exchange_pair(struct emul *e); /* arg: half's bytes */
int exec_push(struct emul *e);
int exec_pop(struct emul *e);
int exec_branch(struct emul *e);     /* arg: it is a CALL */
int exec_cache_hint(struct emul *e); /* arg: it may fault */
int exec_table_lookup(struct emul *e);
int exec_shift(struct emul *e);	       /* emul_bits.c; arg: alu_shift */
int exec_shift_double(struct emul *e); /* arg: left */
enum { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };
int exec_bit_test(struct emul *e);
int exec_multiply(struct emul *e); /* arg: signed */
int exec_divide(struct emul *e);   /* arg: signed */
int exec_bit_scan(struct emul *e); /* arg: forward */
enum { COUNT_ONES, COUNT_TRAILING, COUNT_LEADING };
int exec_bit_count(struct emul *e);
enum { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_CMPS, STRING_SCAS };
int exec_string(struct emul *e);      /* emul_string.c */
int exec_port_string(struct emul *e); /* arg: in */
int exec_port(struct emul *e);	      /* arg: in */
enum { VECTOR_ALIGNED, VECTOR_UNALIGNED, VECTOR_SCALAR, VECTOR_LOW, VECTOR_HIGH };
int exec_vector(struct emul *e);   /* emul_vec.c */
int exec_x87_word(struct emul *e); /* arg: status */

/*
 * emul_alu.c: pure functions. bits: 8, 16, 32, 64; operands above bits are ignored; *flags: only what the instruction
 * defines changes (undefined ones keep some legal value). SDM 1, appendix A.
 */
enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP }; /* order of the opcodes */
uint64_t alu_binary(enum alu_op op, uint64_t a, uint64_t b, uint32_t bits, uint64_t *flags);
uint64_t alu_inc(uint64_t a, uint32_t bits, uint64_t *flags);
uint64_t alu_dec(uint64_t a, uint32_t bits, uint64_t *flags);
uint64_t alu_neg(uint64_t a, uint32_t bits, uint64_t *flags);
enum alu_shift {
	SHIFT_ROL,
	SHIFT_ROR,
	SHIFT_RCL,
	SHIFT_RCR,
	SHIFT_SHL,
	SHIFT_SHR,
	SHIFT_SAR
}; /* count: CL or imm8, raw */
uint64_t alu_shift(enum alu_shift op, uint64_t a, uint32_t count, uint32_t bits, uint64_t *flags);
uint64_t alu_shift_double(bool left, uint64_t a, uint64_t b, uint32_t count, uint32_t bits, uint64_t *flags);
/* lo and hi: the double-width product, each of bits width */
void alu_mul(bool is_signed, uint64_t a, uint64_t b, uint32_t bits, uint64_t *lo, uint64_t *hi, uint64_t *flags);
/* hi:lo / divisor; false: #DE */
bool alu_div(bool is_signed, uint64_t *lo, uint64_t *hi, uint64_t divisor, uint32_t bits);
bool alu_condition(uint32_t code, uint64_t flags); /* low four bits of Jcc, SETcc, CMOVcc */

#endif
