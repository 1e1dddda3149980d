// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

/* Shifts, single bits, multiply and divide. */

static int shift(struct emul *e, enum alu_shift op)
{
	uint64_t value, count;
	int ret = emul_get_for_write(e, 0, &value);

	if (!ret)
		ret = emul_get(e, 1, &count);
	if (ret)
		return ret;
	/* With a count of 0 the destination is written all the same: its 32-bit register is zero-extended. */
	return emul_put(e, 0, alu_shift(op, value, count & 0xff, e->osize, &e->rflags));
}

static int shift_double(struct emul *e, bool left)
{
	uint64_t a, b, count;
	int ret = emul_get_for_write(e, 0, &a);

	if (!ret)
		ret = emul_get(e, 1, &b);
	if (!ret)
		ret = emul_get(e, 2, &count);
	if (ret)
		return ret;
	return emul_put(e, 0, alu_shift_double(left, a, b, count & 0xff, e->osize, &e->rflags));
}

/* With a register as index the bit string reaches beyond the operand in both directions (SDM 2 BT). */
static int bit_test(struct emul *e)
{
	bool writes = e->insn.mnemonic != ZYDIS_MNEMONIC_BT, memory = e->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	uint32_t len = e->osize / 8;
	uint64_t index, value = 0, bit, gva = 0;
	int64_t displace = 0;
	int ret = emul_get(e, 1, &index);

	if (ret)
		return ret;
	if (memory) {
		if (e->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
			displace = (sign_extend(index, e->osize) >> __builtin_ctz(e->osize)) * len;
		ret = emul_operand_gva(e, &e->op[0], displace, len, writes ? ACCESS_WRITE : ACCESS_READ, &gva);
		if (!ret && writes)
			ret = emul_probe_write(e, gva, len);
		if (!ret)
			ret = emul_read(e, gva, &value, len);
	} else {
		ret = emul_get(e, 0, &value);
	}
	if (ret)
		return ret;
	bit = 1ull << (index & (e->osize - 1));
	e->rflags = (e->rflags & ~FLAG_CF) | (value & bit ? FLAG_CF : 0);
	if (e->insn.mnemonic == ZYDIS_MNEMONIC_BTS)
		value |= bit;
	else if (e->insn.mnemonic == ZYDIS_MNEMONIC_BTR)
		value &= ~bit;
	else
		value ^= bit;
	if (!writes)
		return EMUL_OK;
	return memory ? emul_write(e, gva, &value, len) : emul_put(e, 0, value);
}

/* rDX:rAX, or AX for bytes */
static void accumulator_put(struct emul *e, uint64_t lo, uint64_t hi)
{
	emul_reg_put(e, RAX, e->osize, lo);
	if (e->osize == 8)
		emul_reg_put(e, 16 + RAX, 8, hi);
	else
		emul_reg_put(e, RDX, e->osize, hi);
}

static int multiply(struct emul *e, bool is_signed)
{
	uint64_t a, b, lo, hi;
	uint32_t visible = e->insn.operand_count_visible;
	int ret;

	if (visible == 1) {
		ret = emul_get(e, 0, &b);
		if (ret)
			return ret;
		alu_mul(is_signed, emul_reg_get(e, RAX, e->osize), b, e->osize, &lo, &hi, &e->rflags);
		accumulator_put(e, lo, hi);
		return EMUL_OK;
	}
	ret = emul_get(e, visible - 2, &a);
	if (!ret)
		ret = emul_get(e, visible - 1, &b);
	if (ret)
		return ret;
	alu_mul(true, a, b, e->osize, &lo, &hi, &e->rflags);
	return emul_put(e, 0, lo);
}

static int divide(struct emul *e, bool is_signed)
{
	uint64_t divisor, lo, hi;
	int ret = emul_get(e, 0, &divisor);

	if (ret)
		return ret;
	lo = emul_reg_get(e, RAX, e->osize);
	hi = e->osize == 8 ? emul_reg_get(e, 16 + RAX, 8) : emul_reg_get(e, RDX, e->osize);
	if (!alu_div(is_signed, &lo, &hi, divisor, e->osize))
		return emul_raise(e, VEC_DE, false);
	accumulator_put(e, lo, hi);
	return EMUL_OK;
}

/* BSF and BSR leave the destination alone for 0, as CPUs do. */
static int bit_scan(struct emul *e, bool forward)
{
	uint64_t value;
	int ret = emul_get(e, 1, &value);

	if (ret)
		return ret;
	e->rflags = (e->rflags & ~FLAG_ZF) | (value ? 0 : FLAG_ZF);
	if (!value)
		return EMUL_OK;
	return emul_put(e, 0, forward ? (uint64_t)__builtin_ctzll(value) : 63 - (uint64_t)__builtin_clzll(value));
}

int emul_exec_bits(struct emul *e)
{
	if (e->insn.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return EXEC_UNKNOWN;
	switch (e->insn.mnemonic) {
	case ZYDIS_MNEMONIC_ROL:
		return shift(e, SHIFT_ROL);
	case ZYDIS_MNEMONIC_ROR:
		return shift(e, SHIFT_ROR);
	case ZYDIS_MNEMONIC_RCL:
		return shift(e, SHIFT_RCL);
	case ZYDIS_MNEMONIC_RCR:
		return shift(e, SHIFT_RCR);
	case ZYDIS_MNEMONIC_SHL:
		return shift(e, SHIFT_SHL);
	case ZYDIS_MNEMONIC_SHR:
		return shift(e, SHIFT_SHR);
	case ZYDIS_MNEMONIC_SAR:
		return shift(e, SHIFT_SAR);
	case ZYDIS_MNEMONIC_SHLD:
		return shift_double(e, true);
	case ZYDIS_MNEMONIC_SHRD:
		return shift_double(e, false);
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return bit_test(e);
	case ZYDIS_MNEMONIC_MUL:
		return multiply(e, false);
	case ZYDIS_MNEMONIC_IMUL:
		return multiply(e, true);
	case ZYDIS_MNEMONIC_DIV:
		return divide(e, false);
	case ZYDIS_MNEMONIC_IDIV:
		return divide(e, true);
	case ZYDIS_MNEMONIC_BSF:
		return bit_scan(e, true);
	case ZYDIS_MNEMONIC_BSR:
		return bit_scan(e, false);
	default:
		return EXEC_UNKNOWN;
	}
}
