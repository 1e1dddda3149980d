// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

#include <string.h>

#include "fault.h"

/* Fetching, addressing, operands. What instructions do is in emul_*.c. */

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

static uint64_t long_base(struct emul *e, uint32_t seg)
{
	if (seg < SEG_FS)
		return 0;
	if (e->ctx->ops->segments)
		e->ctx->ops->segments(e->ctx);
	return e->ctx->seg[seg].base;
}

bool emul_linear_ok(struct emul *e, uint32_t seg, uint64_t offset, uint32_t len, enum emul_access access)
{
	uint64_t gva;

	if (!e->long64)
		return segment_ok(e, &e->ctx->seg[seg], offset, len, access);
	gva = offset + long_base(e, seg);
	return canonical(gva) && canonical(gva + len - 1); /* from the last byte it goes on at 0, as on the CPU */
}

int emul_linear(struct emul *e, uint32_t seg, uint64_t offset, uint32_t len, enum emul_access access, uint64_t *gva)
{
	if (!emul_linear_ok(e, seg, offset, len, access))
		return emul_raise(e, seg == SEG_SS ? VEC_SS : VEC_GP, true);
	if (e->long64)
		*gva = offset + long_base(e, seg);
	else
		*gva = (offset + e->ctx->seg[seg].base) & 0xffffffff;
	if (e->ctx->cpl == 3 && (e->ctx->cr0 & CR0_AM) && (e->rflags & FLAG_AC) && len <= 8 && !(len & (len - 1)) &&
	    (*gva & (len - 1)) && access != ACCESS_CHECK)
		return emul_raise(e, VEC_AC, true);
	return EMUL_OK;
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

int emul_operand_gva(struct emul *e, const struct emul_operand *op, int64_t displace, uint32_t len,
		     enum emul_access access, uint64_t *gva)
{
	uint64_t offset = op->value + (uint64_t)displace;

	FAULT_POINT(emul_operand, e, op, len);
	if (op->base == OPERAND_RIP)
		offset += e->ctx->rip + e->insn->length;
	else if (op->base != OPERAND_NO_REG)
		offset += e->gpr[op->base];
	if (op->index != OPERAND_NO_REG)
		offset += e->gpr[op->index] * op->scale;
	return emul_linear(e, op->seg, offset & mask_bits(e->asize), len, access, gva);
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
	const struct emul_operand *op = &e->op[nr];
	uint64_t gva;
	int ret;

	*value = 0;
	switch (op->kind) {
	case OPERAND_GPR:
		*value = emul_reg_get(e, op->reg, op->len * 8u);
		return EMUL_OK;
	case OPERAND_IMMEDIATE:
		*value = op->value;
		return EMUL_OK;
	case OPERAND_SEGMENT:
		if (e->long64 && e->ctx->ops->segments)
			e->ctx->ops->segments(e->ctx);
		*value = e->ctx->seg[op->reg].selector;
		return EMUL_OK;
	case OPERAND_MEMORY:
		if (!op->len || op->len > 8)
			return EXEC_UNKNOWN;
		ret = emul_operand_gva(e, op, 0, op->len, access, &gva);
		if (!ret && access == ACCESS_WRITE)
			ret = emul_probe_write(e, gva, op->len);
		return ret ? ret : emul_read(e, gva, value, op->len);
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
	const struct emul_operand *op = &e->op[nr];
	uint64_t gva;
	int ret;

	if (op->kind == OPERAND_GPR) {
		emul_reg_put(e, op->reg, op->len * 8u, value);
		return EMUL_OK;
	}
	if (op->kind != OPERAND_MEMORY || !op->len || op->len > 8)
		return EXEC_UNKNOWN;
	ret = emul_operand_gva(e, op, 0, op->len, ACCESS_WRITE, &gva);
	return ret ? ret : emul_write(e, gva, &value, op->len);
}

uint32_t emul_stack_bits(const struct emul *e)
{
	return e->long64 ? 64 : e->ctx->seg[SEG_SS].attr & ATTR_DB ? 32 : 16;
}

void emul_commit_registers(struct emul *e)
{
	memcpy(e->ctx->gpr, e->gpr, sizeof(e->gpr));
}

/* ---- fetching ---- */

static enum emul_mode mode_init(struct emul *e)
{
	const struct emul_ctx *ctx = e->ctx;
	bool big = ctx->seg[SEG_CS].attr & ATTR_DB;

	e->flat_types = !(ctx->cr0 & CR0_PE) || (ctx->rflags & FLAG_VM);
	e->long64 = (ctx->efer & EFER_LMA) && (ctx->seg[SEG_CS].attr & ATTR_L);
	if (e->long64)
		return MODE_LONG64;
	if (ctx->efer & EFER_LMA)
		return big ? MODE_COMPAT32 : MODE_COMPAT16;
	if (big)
		return MODE_LEGACY32;
	/* Real mode's decoder would refuse what virtual-8086 mode refuses: groups that this does not execute. */
	return ctx->cr0 & CR0_PE ? MODE_LEGACY16 : MODE_REAL16;
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

/* ctx->bytes[fetched..to) from memory, not past the CS limit. */
static int fetch(struct emul *e, uint32_t to)
{
	struct emul_ctx *ctx = e->ctx;
	uint32_t from = ctx->fetched, len = fetch_limit(e, from, to - from);
	uint64_t gva = ctx->rip + from;
	int ret;

	if (!len)
		return EMUL_OK;
	if (!e->long64)
		gva = (gva + ctx->seg[SEG_CS].base) & 0xffffffff;
	else if (!canonical(gva))
		return EMUL_OK;
	ret = ctx->ops->fetch(ctx, gva, (uint8_t *)ctx->bytes + from, len);
	if (!ret)
		ctx->fetched = (uint8_t)(from + len);
	return ret;
}

static struct emul_cached *cached_at(struct emul_ctx *ctx)
{
	return ctx->cache ? &ctx->cache->entry[(ctx->rip ^ ctx->rip >> 7) % EMUL_CACHE] : NULL;
}

/* The very bytes that were fetched now, decoded before. */
static bool cached_find(struct emul_ctx *ctx, const struct emul_cached *entry, enum emul_mode mode)
{
	if (entry->insn.length > ctx->fetched || !entry->insn.length || entry->mode != mode ||
	    ((ctx->bytes[0] ^ entry->bytes[0]) & entry->mask[0]) ||
	    ((ctx->bytes[1] ^ entry->bytes[1]) & entry->mask[1])) {
		ctx->cache->misses++;
		return false;
	}
	ctx->cache->hits++;
	*ctx->insn = entry->insn;
	return true;
}

static void cached_put(struct emul_ctx *ctx, struct emul_cached *entry, enum emul_mode mode)
{
	uint32_t bits = ctx->insn->length * 8u;

	entry->mode = mode;
	entry->insn = *ctx->insn;
	entry->mask[0] = mask_bits(bits);
	entry->mask[1] = bits > 64 ? mask_bits(bits - 64) : 0;
	entry->bytes[0] = ctx->bytes[0];
	entry->bytes[1] = ctx->bytes[1];
}

static enum decode_result decode_bytes(struct emul_ctx *ctx, enum emul_mode mode)
{
	enum decode_result result;

	if (ctx->ops->library)
		ctx->ops->library(ctx, true);
	result = emul_decode(mode, (const uint8_t *)ctx->bytes, ctx->fetched, ctx->insn);
	if (ctx->ops->library)
		ctx->ops->library(ctx, false);
	return result;
}

/*
 * Fetches no byte of the next page that the instruction does not need, since that fetch may fault. An instruction that
 * goes past the CS limit or past 15 bytes is #GP(0).
 */
static int decode(struct emul *e, enum emul_mode mode, bool may_fault)
{
	struct emul_ctx *ctx = e->ctx;
	struct emul_cached *entry = cached_at(ctx);
	uint64_t gva = ctx->rip + (e->long64 ? 0 : ctx->seg[SEG_CS].base);
	uint32_t first = 0x1000 - (gva & 0xfff);
	enum decode_result result;
	int ret;

	ctx->bytes[0] = ctx->bytes[1] = 0;
	ctx->fetched = 0;
	ret = fetch(e, first < 15 ? first : 15);
	if (ret)
		return ret;
	FAULT_POINT(emul_fetch, ctx, ctx->bytes, ctx->fetched);
	if (entry && cached_find(ctx, entry, mode))
		return EMUL_OK;
	result = decode_bytes(ctx, mode);
	if (result == DECODE_MORE && ctx->fetched == first && first < 15) {
		ret = fetch(e, 15);
		if (ret)
			return ret;
		result = decode_bytes(ctx, mode);
	}
	if (result == DECODE_OK) {
		if (entry)
			cached_put(ctx, entry, mode);
		return EMUL_OK;
	}
	if (!may_fault)
		return EXEC_UNKNOWN;
	if (result == DECODE_MORE || result == DECODE_TOO_LONG)
		return emul_raise(e, VEC_GP, true);
	if (result == DECODE_LOCK)
		return emul_raise(e, VEC_UD, false);
	return EXEC_UNKNOWN;
}

static void insn_use(struct emul *e)
{
	e->insn = e->ctx->insn;
	e->op = e->insn->op;
	e->asize = e->insn->asize;
	e->osize = e->insn->osize;
	e->next_rip = e->ctx->rip + e->insn->length;
	if (!e->long64)
		e->next_rip &= 0xffffffff;
}

static int execute(struct emul *e)
{
	insn_use(e);
	FAULT_POINT(emul_unknown, e, NULL, e->insn->exec != NULL);
	return e->insn->exec ? e->insn->exec(e) : EXEC_UNKNOWN;
}

enum emul_result emulate(struct emul_ctx *ctx)
{
	enum emul_mode mode;
	struct emul e;
	int ret = EMUL_OK;

	e.ctx = ctx;
	ctx->rep_yield = ctx->posted = false;
	ctx->commits = 0;
	e.rflags = ctx->rflags;
	memcpy(e.gpr, ctx->gpr, sizeof(e.gpr));
	mode = mode_init(&e);
	if (!ctx->decoded)
		ret = decode(&e, mode, true);
	if (!ret)
		ret = execute(&e);
	switch (ret) {
	case EMUL_OK:
		emul_commit_registers(&e);
		ctx->rflags = e.rflags & ~FLAG_RF;
		ctx->rip = e.next_rip;
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
	return decode(&e, mode_init(&e), false) ? 0 : ctx->insn->length;
}

enum emul_result emulate_operand(struct emul_ctx *ctx, bool write, uint64_t *value)
{
	struct emul e;
	int ret;

	e.ctx = ctx;
	e.rflags = ctx->rflags;
	memcpy(e.gpr, ctx->gpr, sizeof(e.gpr));
	ret = decode(&e, mode_init(&e), true);
	if (!ret) {
		insn_use(&e);
		ret = write ? emul_put(&e, 0, *value) : emul_get(&e, 0, value);
	}
	if (ret == EMUL_OK) {
		emul_commit_registers(&e);
		return EMUL_DONE;
	}
	return ret == EMUL_RAISED ? EMUL_FAULT : EMUL_UNKNOWN;
}
