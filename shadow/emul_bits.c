// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

/* Shifts, single bits, multiply and divide. */

int exec_shift(struct emul *e)
{
	uint64_t value, count;
	int ret = emul_get_for_write(e, 0, &value);

	if (!ret)
		ret = emul_get(e, 1, &count);
	if (ret)
		return ret;
	/* With a count of 0 the destination is written all the same: its 32-bit register is zero-extended. */
	return emul_put(e, 0, alu_shift(e->insn->arg, value, count & 0xff, e->osize, &e->rflags));
}

int exec_shift_double(struct emul *e)
{
	uint64_t a, b, count;
	int ret = emul_get_for_write(e, 0, &a);

	if (!ret)
		ret = emul_get(e, 1, &b);
	if (!ret)
		ret = emul_get(e, 2, &count);
	if (ret)
		return ret;
	return emul_put(e, 0, alu_shift_double(e->insn->arg, a, b, count & 0xff, e->osize, &e->rflags));
}

/* With a register as index the bit string reaches beyond the operand in both directions (SDM 2 BT). */
int exec_bit_test(struct emul *e)
{
	bool writes = e->insn->arg != BIT_TEST, memory = e->op[0].kind == OPERAND_MEMORY;
	uint32_t len = e->osize / 8;
	uint64_t index, value = 0, bit, gva = 0;
	int64_t displace = 0;
	int ret = emul_get(e, 1, &index);

	if (ret)
		return ret;
	if (memory) {
		if (e->op[1].kind == OPERAND_GPR)
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
	if (e->insn->arg == BIT_SET)
		value |= bit;
	else if (e->insn->arg == BIT_RESET)
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

int exec_multiply(struct emul *e)
{
	uint64_t a, b, lo, hi;
	uint32_t visible = e->insn->operands;
	int ret;

	if (visible == 1) {
		ret = emul_get(e, 0, &b);
		if (ret)
			return ret;
		alu_mul(e->insn->arg, emul_reg_get(e, RAX, e->osize), b, e->osize, &lo, &hi, &e->rflags);
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

int exec_divide(struct emul *e)
{
	uint64_t divisor, lo, hi;
	int ret = emul_get(e, 0, &divisor);

	if (ret)
		return ret;
	lo = emul_reg_get(e, RAX, e->osize);
	hi = e->osize == 8 ? emul_reg_get(e, 16 + RAX, 8) : emul_reg_get(e, RDX, e->osize);
	if (!alu_div(e->insn->arg, &lo, &hi, divisor, e->osize))
		return emul_raise(e, VEC_DE, false);
	accumulator_put(e, lo, hi);
	return EMUL_OK;
}

/* BSF and BSR leave the destination alone for 0, as CPUs do. */
int exec_bit_scan(struct emul *e)
{
	uint64_t value;
	int ret = emul_get(e, 1, &value);

	if (ret)
		return ret;
	e->rflags = (e->rflags & ~FLAG_ZF) | (value ? 0 : FLAG_ZF);
	if (!value)
		return EMUL_OK;
	return emul_put(e, 0, e->insn->arg ? (uint64_t)__builtin_ctzll(value) : 63 - (uint64_t)__builtin_clzll(value));
}

/* POPCNT, TZCNT, LZCNT. Flags: SDM 2; the undefined ones stay. */
int exec_bit_count(struct emul *e)
{
	uint64_t value, count;
	int ret = emul_get(e, 1, &value);

	if (ret)
		return ret;
	if (e->insn->arg == COUNT_ONES) {
		for (count = 0; value; value &= value - 1) /* no call: a library's may use vector registers */
			count++;
		e->rflags = (e->rflags & ~FLAGS_ARITH) | (count ? 0 : FLAG_ZF);
		return emul_put(e, 0, count);
	}
	if (!value)
		count = e->osize;
	else if (e->insn->arg == COUNT_TRAILING)
		count = (uint64_t)__builtin_ctzll(value);
	else
		count = (uint64_t)__builtin_clzll(value) + e->osize - 64;
	e->rflags &= ~(FLAG_CF | FLAG_ZF);
	e->rflags |= (value ? 0 : FLAG_CF) | (count ? 0 : FLAG_ZF);
	return emul_put(e, 0, count);
}
