// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

#include <string.h>

/* Decoding, addressing, operands. What instructions do is in emul_*.c. */

#define CR0_PE (1ull << 0)
#define CR0_AM (1ull << 18)
#define EFER_LMA (1ull << 10)

/* enum of struct umbra_segment's attr */
#define ATTR_CODE (1 << 3)
#define ATTR_EXPAND_DOWN (1 << 2) /* data */
#define ATTR_WRITE (1 << 1)	  /* data; readable for code */
#define ATTR_P (1 << 7)
#define ATTR_L (1 << 13)
#define ATTR_DB (1 << 14)

int emul_raise(struct emul *e, uint8_t vector, bool has_code)
{
	e->ctx->ops->fault(e->ctx, vector, has_code, 0);
	return EMUL_RAISED;
}

/* ---- addresses ---- */

static bool canonical(uint64_t gva)
{
	return (uint64_t)sign_extend(gva, 48) == gva;
}

/* SDM 3A 5.3 (limits), 5.5 and 3.4.5.1 (types) */
static bool segment_ok(const struct emul *e, const struct emul_segment *seg, uint64_t offset, uint32_t len,
		       enum emul_access access)
{
	uint64_t last = offset + len - 1, top;
	bool code = seg->attr & ATTR_CODE;

	if (!e->flat_types) {
		if (!(seg->attr & ATTR_P))
			return false;
		if (access == ACCESS_WRITE && (code || !(seg->attr & ATTR_WRITE)))
			return false;
		if (access == ACCESS_READ && code && !(seg->attr & ATTR_WRITE))
			return false;
	}
	if (!code && (seg->attr & ATTR_EXPAND_DOWN)) {
		top = seg->attr & ATTR_DB ? 0xffffffff : 0xffff;
		return offset > seg->limit && last <= top;
	}
	return last <= seg->limit;
}

bool emul_linear_ok(struct emul *e, uint32_t seg, uint64_t offset, uint32_t len, enum emul_access access)
{
	uint64_t gva;

	if (!e->long64)
		return segment_ok(e, &e->ctx->seg[seg], offset, len, access);
	gva = offset + (seg >= SEG_FS ? e->ctx->seg[seg].base : 0);
	return canonical(gva) && canonical(gva + len - 1) && (int64_t)(gva ^ (gva + len - 1)) >= 0;
}

int emul_linear(struct emul *e, uint32_t seg, uint64_t offset, uint32_t len, enum emul_access access, uint64_t *gva)
{
	if (!emul_linear_ok(e, seg, offset, len, access))
		return emul_raise(e, seg == SEG_SS ? VEC_SS : VEC_GP, true);
	if (e->long64)
		*gva = offset + (seg >= SEG_FS ? e->ctx->seg[seg].base : 0);
	else
		*gva = (offset + e->ctx->seg[seg].base) & 0xffffffff;
	if (e->ctx->cpl == 3 && (e->ctx->cr0 & CR0_AM) && (e->rflags & FLAG_AC) && len <= 8 && !(len & (len - 1)) &&
	    (*gva & (len - 1)) && access != ACCESS_CHECK)
		return emul_raise(e, VEC_AC, true);
	return EMUL_OK;
}

static uint32_t segment_index(ZydisRegister reg)
{
	switch (reg) {
	case ZYDIS_REGISTER_ES:
		return SEG_ES;
	case ZYDIS_REGISTER_CS:
		return SEG_CS;
	case ZYDIS_REGISTER_SS:
		return SEG_SS;
	case ZYDIS_REGISTER_FS:
		return SEG_FS;
	case ZYDIS_REGISTER_GS:
		return SEG_GS;
	default:
		return SEG_DS;
	}
}

/* index: 0-15, or 16-19 for AH CH DH BH. false: not a general register */
static bool gpr_find(ZydisRegister reg, uint32_t *index, uint32_t *bits)
{
	uint32_t nr;

	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_R15B) {
		nr = reg - ZYDIS_REGISTER_AL; /* AL..BL, AH..BH, SPL..R15B */
		*index = nr < 4 ? nr : nr < 8 ? nr + 12 : nr - 4;
		*bits = 8;
	} else if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W) {
		*index = reg - ZYDIS_REGISTER_AX;
		*bits = 16;
	} else if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D) {
		*index = reg - ZYDIS_REGISTER_EAX;
		*bits = 32;
	} else if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15) {
		*index = reg - ZYDIS_REGISTER_RAX;
		*bits = 64;
	} else {
		return false;
	}
	return true;
}

uint64_t emul_reg_get(struct emul *e, uint32_t index, uint32_t bits)
{
	if (index >= 16)
		return e->gpr[index - 16] >> 8 & 0xff;
	return e->gpr[index] & mask_bits(bits);
}

void emul_reg_put(struct emul *e, uint32_t index, uint32_t bits, uint64_t value)
{
	uint64_t mask = mask_bits(bits);

	if (index >= 16) {
		index -= 16;
		e->gpr[index] = (e->gpr[index] & ~0xff00ull) | (value & 0xff) << 8;
		return;
	}
	if (bits == 32) /* SDM 1 3.4.1.1: the upper half is cleared */
		mask = ~0ull;
	e->gpr[index] = (e->gpr[index] & ~mask) | (value & mask_bits(bits));
}

static uint64_t address_register(struct emul *e, ZydisRegister reg)
{
	uint32_t index, bits;

	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return e->ctx->rip + e->insn.length;
	if (!gpr_find(reg, &index, &bits))
		return 0;
	return emul_reg_get(e, index, bits);
}

int emul_operand_gva(struct emul *e, const ZydisDecodedOperand *op, int64_t displace, uint32_t len,
		     enum emul_access access, uint64_t *gva)
{
	uint64_t offset = (uint64_t)op->mem.disp.value + (uint64_t)displace;

	if (op->mem.type != ZYDIS_MEMOP_TYPE_MEM && op->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
		return EXEC_UNKNOWN;
	offset += address_register(e, op->mem.base);
	offset += address_register(e, op->mem.index) * op->mem.scale;
	return emul_linear(e, segment_index(op->mem.segment), offset & mask_bits(e->asize), len, access, gva);
}

/* ---- operands ---- */

int emul_read(struct emul *e, uint64_t gva, void *data, uint32_t len)
{
	return e->ctx->ops->read(e->ctx, gva, data, len);
}

/*
 * No access here is atomic, LOCK or not: what is emulated is device memory (its order is that of the exits) and ROM,
 * where hardware locks nothing either. A LOCKed read-modify-write that lies partly in RAM is two plain accesses to
 * that part.
 */
int emul_write(struct emul *e, uint64_t gva, const void *data, uint32_t len)
{
	return e->ctx->ops->write(e->ctx, gva, data, len);
}

int emul_probe_write(struct emul *e, uint64_t gva, uint32_t len)
{
	return e->ctx->ops->probe_write ? e->ctx->ops->probe_write(e->ctx, gva, len) : EMUL_OK;
}

static int operand_get(struct emul *e, uint32_t nr, uint64_t *value, enum emul_access access)
{
	const ZydisDecodedOperand *op = &e->op[nr];
	uint32_t index, bits, len = op->size / 8;
	uint64_t gva;
	int ret;

	*value = 0;
	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (!gpr_find(op->reg.value, &index, &bits))
			return EXEC_UNKNOWN;
		*value = emul_reg_get(e, index, bits);
		return EMUL_OK;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		*value = op->imm.value.u; /* already sign-extended where it is signed */
		return EMUL_OK;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		if (!len || len > 8)
			return EXEC_UNKNOWN;
		ret = emul_operand_gva(e, op, 0, len, access, &gva);
		if (!ret && access == ACCESS_WRITE)
			ret = emul_probe_write(e, gva, len);
		return ret ? ret : emul_read(e, gva, value, len);
	default:
		return EXEC_UNKNOWN;
	}
}

int emul_get(struct emul *e, uint32_t nr, uint64_t *value)
{
	return operand_get(e, nr, value, ACCESS_READ);
}

int emul_get_for_write(struct emul *e, uint32_t nr, uint64_t *value)
{
	return operand_get(e, nr, value, ACCESS_WRITE);
}

int emul_put(struct emul *e, uint32_t nr, uint64_t value)
{
	const ZydisDecodedOperand *op = &e->op[nr];
	uint32_t index, bits, len = op->size / 8;
	uint64_t gva;
	int ret;

	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		if (!gpr_find(op->reg.value, &index, &bits))
			return EXEC_UNKNOWN;
		emul_reg_put(e, index, bits, value);
		return EMUL_OK;
	}
	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || !len || len > 8)
		return EXEC_UNKNOWN;
	ret = emul_operand_gva(e, op, 0, len, ACCESS_WRITE, &gva);
	return ret ? ret : emul_write(e, gva, &value, len);
}

void emul_commit_registers(struct emul *e)
{
	memcpy(e->ctx->gpr, e->gpr, sizeof(e->gpr));
}

/* ---- decoding ---- */

static void decoder_init(struct emul *e, ZydisDecoder *decoder)
{
	const struct emul_ctx *ctx = e->ctx;
	bool big = ctx->seg[SEG_CS].attr & ATTR_DB;
	ZydisMachineMode mode;
	ZydisStackWidth width = big ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;

	e->flat_types = !(ctx->cr0 & CR0_PE) || (ctx->rflags & FLAG_VM);
	e->long64 = (ctx->efer & EFER_LMA) && (ctx->seg[SEG_CS].attr & ATTR_L);
	if (e->long64) {
		mode = ZYDIS_MACHINE_MODE_LONG_64;
		width = ZYDIS_STACK_WIDTH_64;
	} else if (ctx->efer & EFER_LMA) {
		mode = big ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
	} else if (big) {
		mode = ZYDIS_MACHINE_MODE_LEGACY_32;
	} else {
		/*
		 * REAL_16 would refuse what virtual-8086 mode refuses, and 0F 00/01 groups only: none that this
		 * executes
		 */
		mode = ctx->cr0 & CR0_PE ? ZYDIS_MACHINE_MODE_LEGACY_16 : ZYDIS_MACHINE_MODE_REAL_16;
	}
	ZydisDecoderInit(decoder, mode, width);
}

/* How many of want bytes at rip + from CS lets through. */
static uint32_t fetch_limit(struct emul *e, uint32_t from, uint32_t want)
{
	uint64_t rip = e->ctx->rip + from;

	if (e->long64)
		return want;
	if (rip > e->ctx->seg[SEG_CS].limit)
		return 0;
	if (e->ctx->seg[SEG_CS].limit - rip < want - 1)
		return (uint32_t)(e->ctx->seg[SEG_CS].limit - rip) + 1;
	return want;
}

/* ctx->bytes[from..to) from memory, not past the CS limit; *have: how many there are now */
static int fetch(struct emul *e, uint32_t from, uint32_t to, uint32_t *have)
{
	struct emul_ctx *ctx = e->ctx;
	uint64_t gva = ctx->rip + from;
	uint32_t len = fetch_limit(e, from, to - from);
	int ret;

	*have = from;
	if (!len)
		return EMUL_OK;
	if (!e->long64)
		gva = (gva + ctx->seg[SEG_CS].base) & 0xffffffff;
	else if (!canonical(gva))
		return EMUL_OK;
	ret = ctx->ops->fetch(ctx, gva, ctx->bytes + from, len);
	if (ret)
		return ret;
	*have = from + len;
	return EMUL_OK;
}

/*
 * Fetches no byte of the next page that the instruction does not need, since that fetch may fault. An instruction that
 * goes past the CS limit or past 15 bytes is #GP(0).
 */
static int decode(struct emul *e, bool may_fault)
{
	struct emul_ctx *ctx = e->ctx;
	uint32_t have, first;
	ZydisDecoder decoder;
	ZyanStatus status;
	uint64_t gva;
	int ret;

	memset(ctx->bytes, 0, sizeof(ctx->bytes));
	ctx->length = 0;
	decoder_init(e, &decoder);
	gva = ctx->rip + (e->long64 ? 0 : ctx->seg[SEG_CS].base);
	first = 0x1000 - (gva & 0xfff);
	if (first > sizeof(ctx->bytes))
		first = sizeof(ctx->bytes);
	ret = fetch(e, 0, first, &have);
	if (ret)
		return ret;
	status = ZydisDecoderDecodeFull(&decoder, ctx->bytes, have, &e->insn, e->op);
	if (status == ZYDIS_STATUS_NO_MORE_DATA && have == first && have < sizeof(ctx->bytes)) {
		ret = fetch(e, first, sizeof(ctx->bytes), &have);
		if (ret)
			return ret;
		status = ZydisDecoderDecodeFull(&decoder, ctx->bytes, have, &e->insn, e->op);
	}
	if (ZYAN_SUCCESS(status)) {
		ctx->length = e->insn.length;
		return EMUL_OK;
	}
	ctx->length = (uint8_t)have;
	if (!may_fault)
		return EXEC_UNKNOWN;
	if (status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return emul_raise(e, VEC_GP, true);
	if (status == ZYDIS_STATUS_ILLEGAL_LOCK)
		return emul_raise(e, VEC_UD, false);
	return EXEC_UNKNOWN;
}

static void next_instruction(struct emul *e)
{
	struct emul_ctx *ctx = e->ctx;

	ctx->rip += e->insn.length;
	if (!e->long64)
		ctx->rip &= 0xffffffff;
	ctx->rflags &= ~FLAG_RF;
}

static int execute(struct emul *e)
{
	static int (*const exec[])(struct emul * e) = { emul_exec, emul_exec_string, emul_exec_bits, emul_exec_vec };
	int ret = EXEC_UNKNOWN;

	for (uint32_t i = 0; i < sizeof(exec) / sizeof(exec[0]) && ret == EXEC_UNKNOWN; i++)
		ret = exec[i](e);
	return ret;
}

enum emul_result emulate(struct emul_ctx *ctx)
{
	struct emul e;
	int ret;

	e.ctx = ctx;
	ctx->rep_yield = ctx->posted = false;
	ctx->commits = 0;
	e.rflags = ctx->rflags;
	memcpy(e.gpr, ctx->gpr, sizeof(e.gpr));
	ret = decode(&e, true);
	if (!ret) {
		e.asize = e.insn.address_width;
		e.osize = e.insn.operand_width;
		ret = execute(&e);
	}
	switch (ret) {
	case EMUL_OK:
		emul_commit_registers(&e);
		ctx->rflags = e.rflags;
		next_instruction(&e);
		return EMUL_DONE;
	case EXEC_YIELD: /* the REP iterations are committed already */
		ctx->rep_yield = true;
		return EMUL_DONE;
	case EMUL_PENDING:
		return EMUL_USER;
	case EMUL_RAISED:
		return EMUL_FAULT;
	default:
		return EMUL_UNKNOWN;
	}
}

uint8_t emulate_length(struct emul_ctx *ctx)
{
	struct emul e;

	e.ctx = ctx;
	if (decode(&e, false))
		ctx->length = 0;
	return ctx->length;
}

enum emul_result emulate_operand(struct emul_ctx *ctx, bool write, uint64_t *value)
{
	struct emul e;
	int ret;

	e.ctx = ctx;
	e.rflags = ctx->rflags;
	memcpy(e.gpr, ctx->gpr, sizeof(e.gpr));
	ret = decode(&e, true);
	if (!ret) {
		e.asize = e.insn.address_width;
		e.osize = e.insn.operand_width;
		ret = write ? emul_put(&e, 0, *value) : emul_get(&e, 0, value);
	}
	if (ret == EMUL_OK) {
		emul_commit_registers(&e);
		return EMUL_DONE;
	}
	return ret == EMUL_RAISED ? EMUL_FAULT : EMUL_UNKNOWN;
}
