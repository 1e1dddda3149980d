// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

#include <string.h>

/* Moves and arithmetic. Memory is written before registers: the write is the last thing that can fail. */

static int move(struct emul *e)
{
	uint64_t value;
	int ret;

	/* a selector is stored with 16 bits to memory, zero-extended to a register; loading one is not emulated */
	if (e->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER && e->op[1].reg.value >= ZYDIS_REGISTER_ES &&
	    e->op[1].reg.value <= ZYDIS_REGISTER_GS)
		return emul_put(e, 0, e->ctx->seg[e->op[1].reg.value - ZYDIS_REGISTER_ES].selector);
	ret = emul_get(e, 1, &value);
	return ret ? ret : emul_put(e, 0, value);
}

static int move_sign_extend(struct emul *e)
{
	uint64_t value;
	int ret = emul_get(e, 1, &value);

	return ret ? ret : emul_put(e, 0, (uint64_t)sign_extend(value, e->op[1].size));
}

static int move_swapped(struct emul *e)
{
	uint64_t value;
	int ret = emul_get(e, 1, &value);

	return ret ? ret : emul_put(e, 0, __builtin_bswap64(value) >> (64 - e->osize));
}

static int move_condition(struct emul *e)
{
	uint64_t value, old;
	int ret = emul_get(e, 1, &value); /* read even when not moved (SDM 2 CMOVcc) */

	if (!ret)
		ret = emul_get(e, 0, &old);
	return ret ? ret : emul_put(e, 0, alu_condition(e->insn.opcode, e->rflags) ? value : old);
}

static int binary(struct emul *e, enum alu_op op)
{
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

static int test(struct emul *e)
{
	uint64_t a, b;
	int ret = emul_get(e, 0, &a);

	if (!ret)
		ret = emul_get(e, 1, &b);
	if (!ret)
		alu_binary(ALU_AND, a, b, e->osize, &e->rflags);
	return ret;
}

static int unary(struct emul *e, uint64_t (*fn)(uint64_t a, uint32_t bits, uint64_t *flags))
{
	uint64_t value;
	int ret = emul_get_for_write(e, 0, &value);

	if (ret)
		return ret;
	/* the flags are in the working copy: gone if the write fails */
	return emul_put(e, 0, fn ? fn(value, e->osize, &e->rflags) : ~value);
}

/* Memory first: its address may depend on the register that is exchanged. */
static int exchange(struct emul *e, bool add)
{
	uint32_t mem = e->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY, reg = !mem;
	uint64_t old_mem, old_reg;
	int ret = emul_get_for_write(e, mem, &old_mem);

	if (!ret)
		ret = emul_get(e, reg, &old_reg);
	if (ret)
		return ret;
	if (!add) {
		ret = emul_put(e, mem, old_reg);
		return ret ? ret : emul_put(e, reg, old_mem);
	}
	old_reg = alu_binary(ALU_ADD, old_mem, old_reg, e->osize, &e->rflags);
	if (e->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		ret = emul_put(e, 0, old_reg);
		return ret ? ret : emul_put(e, 1, old_mem);
	}
	ret = emul_put(e, 1, old_mem); /* XADD r, r: with one register the sum stays */
	return ret ? ret : emul_put(e, 0, old_reg);
}

/* The destination gets a write either way (SDM 2 CMPXCHG). Not atomic: see emul_write. */
static int compare_exchange(struct emul *e)
{
	uint64_t old, value, acc = emul_reg_get(e, RAX, e->osize), flags = e->rflags;
	int ret = emul_get_for_write(e, 0, &old);

	if (!ret)
		ret = emul_get(e, 1, &value);
	if (ret)
		return ret;
	alu_binary(ALU_CMP, acc, old, e->osize, &flags);
	ret = emul_put(e, 0, acc == old ? value : old);
	if (!ret && acc != old)
		emul_reg_put(e, RAX, e->osize, old);
	e->rflags = flags;
	return ret;
}

/* CMPXCHG8B, CMPXCHG16B: half is 4 or 8 */
static int compare_exchange_pair(struct emul *e, uint32_t half)
{
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

static uint32_t stack_bits(struct emul *e)
{
	return e->long64 ? 64 : e->ctx->seg[SEG_SS].attr & (1 << 14) ? 32 : 16;
}

static void stack_move(struct emul *e, int64_t by)
{
	uint32_t bits = stack_bits(e);

	emul_reg_put(e, RSP, bits, e->gpr[RSP] + (uint64_t)by);
}

static int push(struct emul *e)
{
	uint32_t len = e->osize / 8;
	uint64_t value, gva;
	int ret = emul_get(e, 0, &value);

	if (ret)
		return ret;
	stack_move(e, -(int64_t)len);
	ret = emul_linear(e, SEG_SS, emul_reg_get(e, RSP, stack_bits(e)), len, ACCESS_WRITE, &gva);
	return ret ? ret : emul_write(e, gva, &value, len);
}

static int pop(struct emul *e)
{
	uint32_t len = e->osize / 8;
	uint64_t value = 0, gva;
	int ret = emul_linear(e, SEG_SS, emul_reg_get(e, RSP, stack_bits(e)), len, ACCESS_READ, &gva);

	if (!ret)
		ret = emul_read(e, gva, &value, len);
	if (ret)
		return ret;
	stack_move(e, len); /* first: POP [rSP + x] uses the new one, POP rSP keeps what it read (SDM 2 POP) */
	return emul_put(e, 0, value);
}

/* ---- no data ---- */

/* A prefetch never faults; CLFLUSH and CLWB do on a bad address. The VMM's devices have no cache lines. */
static int cache_hint(struct emul *e, bool checks)
{
	uint64_t gva;

	return checks ? emul_operand_gva(e, &e->op[0], 0, 1, ACCESS_CHECK, &gva) : EMUL_OK;
}

static int table_lookup(struct emul *e) /* XLAT */
{
	uint64_t gva, value = 0;
	uint32_t seg = SEG_DS;
	int ret;

	for (uint32_t i = 0; i < e->insn.operand_count; i++) {
		if (e->op[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (e->op[i].mem.segment >= ZYDIS_REGISTER_ES && e->op[i].mem.segment <= ZYDIS_REGISTER_GS)
			seg = e->op[i].mem.segment - ZYDIS_REGISTER_ES;
	}
	ret = emul_linear(e, seg, (e->gpr[RBX] + (e->gpr[RAX] & 0xff)) & mask_bits(e->asize), 1, ACCESS_READ, &gva);
	if (!ret)
		ret = emul_read(e, gva, &value, 1);
	if (!ret)
		emul_reg_put(e, RAX, 8, value);
	return ret;
}

static bool destination_known(const struct emul *e)
{
	ZydisRegister reg = e->op[0].reg.value;

	return e->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER || (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_R15);
}

int emul_exec(struct emul *e)
{
	if (e->insn.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return EXEC_UNKNOWN;
	if (!destination_known(e)) /* before its source is read: a device would see that */
		return EXEC_UNKNOWN;
	if (e->insn.meta.category == ZYDIS_CATEGORY_SETCC)
		return emul_put(e, 0, alu_condition(e->insn.opcode, e->rflags));
	if (e->insn.meta.category == ZYDIS_CATEGORY_CMOV)
		return move_condition(e);
	if (e->insn.meta.category == ZYDIS_CATEGORY_STRINGOP)
		return EXEC_UNKNOWN;

	switch (e->insn.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_MOVDIRI:
		return move(e);
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
		return move_sign_extend(e);
	case ZYDIS_MNEMONIC_MOVBE:
		return move_swapped(e);
	case ZYDIS_MNEMONIC_ADD:
		return binary(e, ALU_ADD);
	case ZYDIS_MNEMONIC_OR:
		return binary(e, ALU_OR);
	case ZYDIS_MNEMONIC_ADC:
		return binary(e, ALU_ADC);
	case ZYDIS_MNEMONIC_SBB:
		return binary(e, ALU_SBB);
	case ZYDIS_MNEMONIC_AND:
		return binary(e, ALU_AND);
	case ZYDIS_MNEMONIC_SUB:
		return binary(e, ALU_SUB);
	case ZYDIS_MNEMONIC_XOR:
		return binary(e, ALU_XOR);
	case ZYDIS_MNEMONIC_CMP:
		return binary(e, ALU_CMP);
	case ZYDIS_MNEMONIC_TEST:
		return test(e);
	case ZYDIS_MNEMONIC_INC:
		return unary(e, alu_inc);
	case ZYDIS_MNEMONIC_DEC:
		return unary(e, alu_dec);
	case ZYDIS_MNEMONIC_NEG:
		return unary(e, alu_neg);
	case ZYDIS_MNEMONIC_NOT:
		return unary(e, NULL);
	case ZYDIS_MNEMONIC_XCHG:
		return exchange(e, false);
	case ZYDIS_MNEMONIC_XADD:
		return exchange(e, true);
	case ZYDIS_MNEMONIC_CMPXCHG:
		return compare_exchange(e);
	case ZYDIS_MNEMONIC_CMPXCHG8B:
		return compare_exchange_pair(e, 4);
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		return compare_exchange_pair(e, 8);
	case ZYDIS_MNEMONIC_PUSH:
		return push(e);
	case ZYDIS_MNEMONIC_POP:
		return pop(e);
	case ZYDIS_MNEMONIC_XLAT:
		return table_lookup(e);
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHW:
	case ZYDIS_MNEMONIC_PREFETCHWT1:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
		return cache_hint(e, false);
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
		return cache_hint(e, true);
	default:
		return EXEC_UNKNOWN;
	}
}
