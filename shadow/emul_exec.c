// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

#include <string.h>

/* Moves and arithmetic. Memory is written before registers: the write is the last thing that can fail. */

/* A selector is stored with 16 bits to memory, zero-extended to a register. */
int exec_move(struct emul *e)
{
	uint64_t value;
	int ret = emul_get(e, 1, &value);

	return ret ? ret : emul_put(e, 0, value);
}

int exec_move_sign_extend(struct emul *e)
{
	uint64_t value;
	int ret = emul_get(e, 1, &value);

	return ret ? ret : emul_put(e, 0, (uint64_t)sign_extend(value, e->op[1].len * 8u));
}

int exec_move_swapped(struct emul *e)
{
	uint64_t value;
	int ret = emul_get(e, 1, &value);

	return ret ? ret : emul_put(e, 0, __builtin_bswap64(value) >> (64 - e->osize));
}

int exec_move_condition(struct emul *e)
{
	uint64_t value, old;
	int ret = emul_get(e, 1, &value); /* read even when not moved (SDM 2 CMOVcc) */

	if (!ret)
		ret = emul_get(e, 0, &old);
	return ret ? ret : emul_put(e, 0, alu_condition(e->insn->arg, e->rflags) ? value : old);
}

int exec_set_condition(struct emul *e)
{
	return emul_put(e, 0, alu_condition(e->insn->arg, e->rflags));
}

int exec_binary(struct emul *e)
{
	enum alu_op op = e->insn->arg;
	uint64_t a, b, flags = e->rflags;
	int ret = op == ALU_CMP ? emul_get(e, 0, &a) : emul_get_for_write(e, 0, &a);

	if (!ret)
		ret = emul_get(e, 1, &b);
	if (ret)
		return ret;
	a = alu_binary(op, a, b, e->osize, &flags);
	if (op != ALU_CMP)
		ret = emul_put(e, 0, a);
	e->rflags = flags;
	return ret;
}

int exec_test(struct emul *e)
{
	uint64_t a, b;
	int ret = emul_get(e, 0, &a);

	if (!ret)
		ret = emul_get(e, 1, &b);
	if (!ret)
		alu_binary(ALU_AND, a, b, e->osize, &e->rflags);
	return ret;
}

int exec_unary(struct emul *e)
{
	uint64_t value;
	int ret = emul_get_for_write(e, 0, &value);

	if (ret)
		return ret;
	/* the flags are in the working copy: gone if the write fails */
	switch (e->insn->arg) {
	case UNARY_INC:
		return emul_put(e, 0, alu_inc(value, e->osize, &e->rflags));
	case UNARY_DEC:
		return emul_put(e, 0, alu_dec(value, e->osize, &e->rflags));
	case UNARY_NEG:
		return emul_put(e, 0, alu_neg(value, e->osize, &e->rflags));
	default:
		return emul_put(e, 0, ~value);
	}
}

/* Memory first: its address may depend on the register that is exchanged. */
int exec_exchange(struct emul *e)
{
	uint32_t mem = e->op[1].kind == OPERAND_MEMORY, reg = !mem;
	uint64_t old_mem, old_reg;
	int ret = emul_get_for_write(e, mem, &old_mem);

	if (!ret)
		ret = emul_get(e, reg, &old_reg);
	if (ret)
		return ret;
	if (!e->insn->arg) {
		ret = emul_put(e, mem, old_reg);
		return ret ? ret : emul_put(e, reg, old_mem);
	}
	old_reg = alu_binary(ALU_ADD, old_mem, old_reg, e->osize, &e->rflags);
	if (e->op[0].kind == OPERAND_MEMORY) {
		ret = emul_put(e, 0, old_reg);
		return ret ? ret : emul_put(e, 1, old_mem);
	}
	ret = emul_put(e, 1, old_mem); /* XADD r, r: with one register the sum stays */
	return ret ? ret : emul_put(e, 0, old_reg);
}

/* Memory gets a write either way (SDM 2 CMPXCHG); a register keeps even its upper half. Not atomic: see emul_write. */
int exec_compare_exchange(struct emul *e)
{
	uint64_t old, value, acc = emul_reg_get(e, RAX, e->osize), flags = e->rflags;
	int ret = emul_get_for_write(e, 0, &old);

	if (!ret)
		ret = emul_get(e, 1, &value);
	if (ret)
		return ret;
	alu_binary(ALU_CMP, acc, old, e->osize, &flags);
	if (acc == old || e->op[0].kind == OPERAND_MEMORY)
		ret = emul_put(e, 0, acc == old ? value : old);
	if (!ret && acc != old)
		emul_reg_put(e, RAX, e->osize, old);
	e->rflags = flags;
	return ret;
}

/* CMPXCHG8B, CMPXCHG16B: half is 4 or 8 */
int exec_compare_exchange_pair(struct emul *e)
{
	uint32_t half = e->insn->arg;
	uint64_t gva, lo = 0, hi = 0;
	uint8_t data[16];
	bool equal;
	int ret = emul_operand_gva(e, &e->op[0], 0, 2 * half, ACCESS_WRITE, &gva);

	if (ret)
		return ret;
	if (half == 8 && (gva & 15))
		return emul_raise(e, VEC_GP, true);
	ret = emul_probe_write(e, gva, 2 * half);
	if (!ret)
		ret = emul_read(e, gva, data, 2 * half);
	if (ret)
		return ret;
	memcpy(&lo, data, half);
	memcpy(&hi, data + half, half);
	equal = lo == emul_reg_get(e, RAX, half * 8) && hi == emul_reg_get(e, RDX, half * 8);
	if (equal) {
		memcpy(data, &e->gpr[RBX], half);
		memcpy(data + half, &e->gpr[RCX], half);
	}
	ret = emul_write(e, gva, data, 2 * half);
	if (ret)
		return ret;
	e->rflags = (e->rflags & ~FLAG_ZF) | (equal ? FLAG_ZF : 0);
	if (!equal) {
		emul_reg_put(e, RAX, half * 8, lo);
		emul_reg_put(e, RDX, half * 8, hi);
	}
	return EMUL_OK;
}

/* ---- stack ---- */

static void stack_move(struct emul *e, int64_t by)
{
	uint32_t bits = emul_stack_bits(e);

	emul_reg_put(e, RSP, bits, e->gpr[RSP] + (uint64_t)by);
}

static int push_value(struct emul *e, uint64_t value, uint32_t len)
{
	uint64_t gva;
	int ret;

	stack_move(e, -(int64_t)len);
	ret = emul_linear(e, SEG_SS, emul_reg_get(e, RSP, emul_stack_bits(e)), len, ACCESS_WRITE, &gva);
	return ret ? ret : emul_write(e, gva, &value, len);
}

int exec_push(struct emul *e)
{
	uint64_t value;
	int ret = emul_get(e, 0, &value);

	return ret ? ret : push_value(e, value, e->osize / 8);
}

int exec_pop(struct emul *e)
{
	uint32_t len = e->osize / 8;
	uint64_t value = 0, gva;
	int ret = emul_linear(e, SEG_SS, emul_reg_get(e, RSP, emul_stack_bits(e)), len, ACCESS_READ, &gva);

	if (!ret)
		ret = emul_read(e, gva, &value, len);
	if (ret)
		return ret;
	stack_move(e, len); /* first: POP [rSP + x] uses the new one, POP rSP keeps what it read (SDM 2 POP) */
	return emul_put(e, 0, value);
}

/* Near and indirect. A target that cannot be is #GP(0) before anything is pushed. */
int exec_branch(struct emul *e)
{
	uint64_t target;
	int ret = emul_get(e, 0, &target);

	if (ret)
		return ret;
	if (e->long64 ? (uint64_t)sign_extend(target, 48) != target : target > e->ctx->seg[SEG_CS].limit)
		return emul_raise(e, VEC_GP, true);
	if (e->insn->arg)
		ret = push_value(e, e->next_rip & mask_bits(e->osize), e->osize / 8);
	if (!ret)
		e->next_rip = target;
	return ret;
}

/* ---- no data ---- */

/* A prefetch never faults; CLFLUSH and CLWB do on a bad address. The VMM's devices have no cache lines. */
int exec_cache_hint(struct emul *e)
{
	uint64_t gva;

	return e->insn->arg ? emul_operand_gva(e, &e->op[0], 0, 1, ACCESS_CHECK, &gva) : EMUL_OK;
}

int exec_table_lookup(struct emul *e) /* XLAT */
{
	uint64_t gva, value = 0;
	int ret;

	ret = emul_linear(e, e->insn->seg, (e->gpr[RBX] + (e->gpr[RAX] & 0xff)) & mask_bits(e->asize), 1, ACCESS_READ,
			  &gva);
	if (!ret)
		ret = emul_read(e, gva, &value, 1);
	if (!ret)
		emul_reg_put(e, RAX, 8, value);
	return ret;
}
