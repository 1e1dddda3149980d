// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

#include <Zydis/Zydis.h>

#include <string.h>

/* Zydis's answer, in the emulator's terms. The only file that knows Zydis. */

static const struct {
	uint8_t mode, width;
} machines[] = {
	[MODE_REAL16] = { ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16 },
	[MODE_LEGACY16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
	[MODE_LEGACY32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
	[MODE_COMPAT16] = { ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16 },
	[MODE_COMPAT32] = { ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32 },
	[MODE_LONG64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
};

/* Only for emulate_operand(). */
static int exec_operand(struct emul *e)
{
	(void)e;
	return EXEC_UNKNOWN;
}

struct known {
	uint16_t mnemonic;
	uint8_t arg;
	int (*exec)(struct emul *e);
};

/* Legacy encodings. Names that strings and SSE share are told apart below. */
static const struct known general[] = {
	{ ZYDIS_MNEMONIC_MOV, 0, exec_move },
	{ ZYDIS_MNEMONIC_MOVZX, 0, exec_move },
	{ ZYDIS_MNEMONIC_MOVNTI, 0, exec_move },
	{ ZYDIS_MNEMONIC_MOVDIRI, 0, exec_move },
	{ ZYDIS_MNEMONIC_MOVSX, 0, exec_move_sign_extend },
	{ ZYDIS_MNEMONIC_MOVSXD, 0, exec_move_sign_extend },
	{ ZYDIS_MNEMONIC_MOVBE, 0, exec_move_swapped },
	{ ZYDIS_MNEMONIC_ADD, ALU_ADD, exec_binary },
	{ ZYDIS_MNEMONIC_OR, ALU_OR, exec_binary },
	{ ZYDIS_MNEMONIC_ADC, ALU_ADC, exec_binary },
	{ ZYDIS_MNEMONIC_SBB, ALU_SBB, exec_binary },
	{ ZYDIS_MNEMONIC_AND, ALU_AND, exec_binary },
	{ ZYDIS_MNEMONIC_SUB, ALU_SUB, exec_binary },
	{ ZYDIS_MNEMONIC_XOR, ALU_XOR, exec_binary },
	{ ZYDIS_MNEMONIC_CMP, ALU_CMP, exec_binary },
	{ ZYDIS_MNEMONIC_TEST, 0, exec_test },
	{ ZYDIS_MNEMONIC_INC, UNARY_INC, exec_unary },
	{ ZYDIS_MNEMONIC_DEC, UNARY_DEC, exec_unary },
	{ ZYDIS_MNEMONIC_NEG, UNARY_NEG, exec_unary },
	{ ZYDIS_MNEMONIC_NOT, UNARY_NOT, exec_unary },
	{ ZYDIS_MNEMONIC_XCHG, 0, exec_exchange },
	{ ZYDIS_MNEMONIC_XADD, 1, exec_exchange },
	{ ZYDIS_MNEMONIC_CMPXCHG, 0, exec_compare_exchange },
	{ ZYDIS_MNEMONIC_CMPXCHG8B, 4, exec_compare_exchange_pair },
	{ ZYDIS_MNEMONIC_CMPXCHG16B, 8, exec_compare_exchange_pair },
	{ ZYDIS_MNEMONIC_PUSH, 0, exec_push },
	{ ZYDIS_MNEMONIC_POP, 0, exec_pop },
	{ ZYDIS_MNEMONIC_CALL, 1, exec_branch },
	{ ZYDIS_MNEMONIC_JMP, 0, exec_branch },
	{ ZYDIS_MNEMONIC_XLAT, 0, exec_table_lookup },
	{ ZYDIS_MNEMONIC_NOP, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_PREFETCH, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_PREFETCHW, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_PREFETCHWT1, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_PREFETCHNTA, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_PREFETCHT0, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_PREFETCHT1, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_PREFETCHT2, 0, exec_cache_hint },
	{ ZYDIS_MNEMONIC_CLFLUSH, 1, exec_cache_hint },
	{ ZYDIS_MNEMONIC_CLFLUSHOPT, 1, exec_cache_hint },
	{ ZYDIS_MNEMONIC_CLWB, 1, exec_cache_hint },
	{ ZYDIS_MNEMONIC_ROL, SHIFT_ROL, exec_shift },
	{ ZYDIS_MNEMONIC_ROR, SHIFT_ROR, exec_shift },
	{ ZYDIS_MNEMONIC_RCL, SHIFT_RCL, exec_shift },
	{ ZYDIS_MNEMONIC_RCR, SHIFT_RCR, exec_shift },
	{ ZYDIS_MNEMONIC_SHL, SHIFT_SHL, exec_shift },
	{ ZYDIS_MNEMONIC_SHR, SHIFT_SHR, exec_shift },
	{ ZYDIS_MNEMONIC_SAR, SHIFT_SAR, exec_shift },
	{ ZYDIS_MNEMONIC_SHLD, 1, exec_shift_double },
	{ ZYDIS_MNEMONIC_SHRD, 0, exec_shift_double },
	{ ZYDIS_MNEMONIC_BT, BIT_TEST, exec_bit_test },
	{ ZYDIS_MNEMONIC_BTS, BIT_SET, exec_bit_test },
	{ ZYDIS_MNEMONIC_BTR, BIT_RESET, exec_bit_test },
	{ ZYDIS_MNEMONIC_BTC, BIT_COMPLEMENT, exec_bit_test },
	{ ZYDIS_MNEMONIC_MUL, 0, exec_multiply },
	{ ZYDIS_MNEMONIC_IMUL, 1, exec_multiply },
	{ ZYDIS_MNEMONIC_DIV, 0, exec_divide },
	{ ZYDIS_MNEMONIC_IDIV, 1, exec_divide },
	{ ZYDIS_MNEMONIC_BSF, 1, exec_bit_scan },
	{ ZYDIS_MNEMONIC_BSR, 0, exec_bit_scan },
	{ ZYDIS_MNEMONIC_POPCNT, COUNT_ONES, exec_bit_count },
	{ ZYDIS_MNEMONIC_TZCNT, COUNT_TRAILING, exec_bit_count },
	{ ZYDIS_MNEMONIC_LZCNT, COUNT_LEADING, exec_bit_count },
	{ ZYDIS_MNEMONIC_INSB, 1, exec_port_string },
	{ ZYDIS_MNEMONIC_INSW, 1, exec_port_string },
	{ ZYDIS_MNEMONIC_INSD, 1, exec_port_string },
	{ ZYDIS_MNEMONIC_OUTSB, 0, exec_port_string },
	{ ZYDIS_MNEMONIC_OUTSW, 0, exec_port_string },
	{ ZYDIS_MNEMONIC_OUTSD, 0, exec_port_string },
	{ ZYDIS_MNEMONIC_IN, 1, exec_port },
	{ ZYDIS_MNEMONIC_OUT, 0, exec_port },
	{ ZYDIS_MNEMONIC_LMSW, 0, exec_operand },
	{ ZYDIS_MNEMONIC_SMSW, 0, exec_operand },
	{ ZYDIS_MNEMONIC_FNSTCW, 0, exec_x87_word },
	{ ZYDIS_MNEMONIC_FNSTSW, 1, exec_x87_word },
};

static const struct known strings[] = {
	{ ZYDIS_MNEMONIC_MOVSB, STRING_MOVS, exec_string }, { ZYDIS_MNEMONIC_MOVSW, STRING_MOVS, exec_string },
	{ ZYDIS_MNEMONIC_MOVSD, STRING_MOVS, exec_string }, { ZYDIS_MNEMONIC_MOVSQ, STRING_MOVS, exec_string },
	{ ZYDIS_MNEMONIC_STOSB, STRING_STOS, exec_string }, { ZYDIS_MNEMONIC_STOSW, STRING_STOS, exec_string },
	{ ZYDIS_MNEMONIC_STOSD, STRING_STOS, exec_string }, { ZYDIS_MNEMONIC_STOSQ, STRING_STOS, exec_string },
	{ ZYDIS_MNEMONIC_LODSB, STRING_LODS, exec_string }, { ZYDIS_MNEMONIC_LODSW, STRING_LODS, exec_string },
	{ ZYDIS_MNEMONIC_LODSD, STRING_LODS, exec_string }, { ZYDIS_MNEMONIC_LODSQ, STRING_LODS, exec_string },
	{ ZYDIS_MNEMONIC_CMPSB, STRING_CMPS, exec_string }, { ZYDIS_MNEMONIC_CMPSW, STRING_CMPS, exec_string },
	{ ZYDIS_MNEMONIC_CMPSD, STRING_CMPS, exec_string }, { ZYDIS_MNEMONIC_CMPSQ, STRING_CMPS, exec_string },
	{ ZYDIS_MNEMONIC_SCASB, STRING_SCAS, exec_string }, { ZYDIS_MNEMONIC_SCASW, STRING_SCAS, exec_string },
	{ ZYDIS_MNEMONIC_SCASD, STRING_SCAS, exec_string }, { ZYDIS_MNEMONIC_SCASQ, STRING_SCAS, exec_string },
};

/* Legacy and VEX. */
static const struct known vectors[] = {
	{ ZYDIS_MNEMONIC_MOVAPS, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVAPD, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVDQA, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVNTDQ, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVNTDQA, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVNTPS, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVNTPD, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVAPS, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVAPD, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVDQA, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVNTDQ, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVNTDQA, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVNTPS, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVNTPD, VECTOR_ALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVUPS, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVUPD, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVDQU, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_LDDQU, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVUPS, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVUPD, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVDQU, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_VLDDQU, VECTOR_UNALIGNED, exec_vector },
	{ ZYDIS_MNEMONIC_MOVQ, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_MOVD, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_MOVSS, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_MOVSD, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVQ, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVD, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVSS, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVSD, VECTOR_SCALAR, exec_vector },
	{ ZYDIS_MNEMONIC_MOVLPS, VECTOR_LOW, exec_vector },
	{ ZYDIS_MNEMONIC_MOVLPD, VECTOR_LOW, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVLPS, VECTOR_LOW, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVLPD, VECTOR_LOW, exec_vector },
	{ ZYDIS_MNEMONIC_MOVHPS, VECTOR_HIGH, exec_vector },
	{ ZYDIS_MNEMONIC_MOVHPD, VECTOR_HIGH, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVHPS, VECTOR_HIGH, exec_vector },
	{ ZYDIS_MNEMONIC_VMOVHPD, VECTOR_HIGH, exec_vector },
};

static bool known_find(const struct known *table, size_t count, ZydisMnemonic mnemonic, struct emul_insn *insn)
{
	for (size_t i = 0; i < count; i++) {
		if (table[i].mnemonic != mnemonic)
			continue;
		insn->exec = table[i].exec;
		insn->arg = table[i].arg;
		return true;
	}
	return false;
}

#define FIND(table, mnemonic, insn) known_find(table, sizeof(table) / sizeof((table)[0]), mnemonic, insn)

static void exec_find(const ZydisDecodedInstruction *z, struct emul_insn *insn)
{
	insn->vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	if (!insn->vex && z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return;
	if (insn->vex) {
		FIND(vectors, z->mnemonic, insn);
	} else if (z->meta.category == ZYDIS_CATEGORY_STRINGOP) {
		FIND(strings, z->mnemonic, insn);
	} else if (z->meta.category == ZYDIS_CATEGORY_SETCC) {
		insn->exec = exec_set_condition;
		insn->arg = z->opcode;
	} else if (z->meta.category == ZYDIS_CATEGORY_CMOV) {
		insn->exec = exec_move_condition;
		insn->arg = z->opcode;
	} else if (!FIND(general, z->mnemonic, insn)) {
		FIND(vectors, z->mnemonic, insn);
	}
}

/* ---- operands ---- */

/* 0-15, or 16-19 for AH CH DH BH; false: not a general register */
static bool gpr_find(ZydisRegister reg, uint8_t *index)
{
	uint32_t nr;

	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_R15B) {
		nr = reg - ZYDIS_REGISTER_AL; /* AL..BL, AH..BH, SPL..R15B */
		*index = (uint8_t)(nr < 4 ? nr : nr < 8 ? nr + 12 : nr - 4);
	} else if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W) {
		*index = (uint8_t)(reg - ZYDIS_REGISTER_AX);
	} else if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D) {
		*index = (uint8_t)(reg - ZYDIS_REGISTER_EAX);
	} else if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15) {
		*index = (uint8_t)(reg - ZYDIS_REGISTER_RAX);
	} else {
		return false;
	}
	return true;
}

static bool register_operand(ZydisRegister reg, struct emul_operand *op)
{
	op->kind = OPERAND_GPR;
	if (gpr_find(reg, &op->reg))
		return true;
	if (reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS) {
		op->kind = OPERAND_SEGMENT;
		op->reg = (uint8_t)(reg - ZYDIS_REGISTER_ES);
		return true;
	}
	if (reg >= ZYDIS_REGISTER_MM0 && reg <= ZYDIS_REGISTER_MM7) {
		op->kind = OPERAND_MMX;
		op->reg = (uint8_t)(reg - ZYDIS_REGISTER_MM0);
		return true;
	}
	op->kind = OPERAND_VECTOR;
	if (reg >= ZYDIS_REGISTER_XMM0 && reg <= ZYDIS_REGISTER_XMM15)
		op->reg = (uint8_t)(reg - ZYDIS_REGISTER_XMM0);
	else if (reg >= ZYDIS_REGISTER_YMM0 && reg <= ZYDIS_REGISTER_YMM15)
		op->reg = (uint8_t)(reg - ZYDIS_REGISTER_YMM0);
	else
		return false;
	return true;
}

static bool address_register(ZydisRegister reg, uint8_t *index)
{
	*index = OPERAND_NO_REG;
	if (reg == ZYDIS_REGISTER_NONE)
		return true;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) {
		*index = OPERAND_RIP;
		return true;
	}
	return gpr_find(reg, index);
}

static bool memory_operand(const ZydisDecodedOperandMem *mem, struct emul_operand *op)
{
	if (mem->type != ZYDIS_MEMOP_TYPE_MEM && mem->type != ZYDIS_MEMOP_TYPE_AGEN)
		return false;
	op->kind = OPERAND_MEMORY;
	op->seg = SEG_DS;
	if (mem->segment >= ZYDIS_REGISTER_ES && mem->segment <= ZYDIS_REGISTER_GS)
		op->seg = (uint8_t)(mem->segment - ZYDIS_REGISTER_ES);
	op->scale = mem->scale;
	op->value = (uint64_t)mem->disp.value;
	return address_register(mem->base, &op->base) && address_register(mem->index, &op->index);
}

static bool operand(const ZydisDecodedOperand *z, struct emul_operand *op)
{
	uint32_t len = z->size / 8;

	op->len = (uint8_t)(len > 32 ? 0 : len); /* nothing that is emulated is longer */
	switch (z->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		return register_operand(z->reg.value, op);
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		op->kind = OPERAND_IMMEDIATE;
		op->value = z->imm.value.u; /* already sign-extended where it is signed */
		return true;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return memory_operand(&z->mem, op);
	default: /* far pointers */
		return false;
	}
}

/* false: the instruction has an operand that is not emulated, and nothing of it may be done. */
static bool operands(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *zop, struct emul_insn *insn)
{
	if (z->operand_count_visible > 3)
		return false;
	insn->operands = z->operand_count_visible;
	for (uint32_t i = 0; i < insn->operands; i++)
		if (!operand(&zop[i], &insn->op[i]))
			return false;
	/* loading a segment register */
	return insn->op[0].kind != OPERAND_SEGMENT;
}

/* ---- prefixes ---- */

static uint8_t source_segment(const ZydisDecodedInstruction *z, bool long64)
{
	if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
		return SEG_FS;
	if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
		return SEG_GS;
	if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES)
		return SEG_ES;
	if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS)
		return SEG_CS;
	if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS)
		return long64 ? SEG_DS : SEG_SS; /* ignored there, but an SS would make it #SS */
	return SEG_DS;
}

static void prefixes(const ZydisDecodedInstruction *z, struct emul_insn *insn)
{
	for (uint32_t i = 0; i < z->raw.prefix_count; i++) {
		uint8_t prefix = z->raw.prefixes[i].value;

		if (prefix == 0xf2 || prefix == 0xf3) { /* the last one counts */
			insn->rep = true;
			insn->repe = prefix == 0xf3;
		}
	}
}

static uint8_t port_string_width(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_OUTSB:
		return 8;
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_OUTSW:
		return 16;
	default:
		return 32; /* also with REX.W */
	}
}

enum decode_result emul_decode(enum emul_mode mode, const uint8_t *bytes, uint32_t have, struct emul_insn *insn)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder decoder;
	ZyanStatus status;

	ZydisDecoderInit(&decoder, machines[mode].mode, machines[mode].width);
	status = ZydisDecoderDecodeFull(&decoder, bytes, have, &z, op);
	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return DECODE_MORE;
	if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return DECODE_TOO_LONG;
	if (status == ZYDIS_STATUS_ILLEGAL_LOCK)
		return DECODE_LOCK;
	if (!ZYAN_SUCCESS(status))
		return DECODE_INVALID;
	memset(insn, 0, sizeof(*insn));
	insn->length = z.length;
	insn->asize = z.address_width;
	insn->osize = z.operand_width;
	insn->seg = source_segment(&z, mode == MODE_LONG64);
	prefixes(&z, insn);
	exec_find(&z, insn);
	if (insn->exec == exec_port_string)
		insn->osize = port_string_width(z.mnemonic);
	if (insn->exec && insn->exec != exec_string && insn->exec != exec_port_string && !operands(&z, op, insn))
		insn->exec = NULL;
	if (insn->exec == exec_port && !insn->arg) { /* OUT's operands the other way round */
		struct emul_operand port = insn->op[0];

		insn->op[0] = insn->op[1];
		insn->op[1] = port;
	}
	if (insn->exec == exec_branch && z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		insn->exec = NULL;
	if (insn->exec == exec_branch && insn->op[0].kind == OPERAND_IMMEDIATE)
		insn->exec = NULL; /* relative: it has no memory operand */
	return DECODE_OK;
}
