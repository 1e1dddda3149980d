// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

/* String instructions and ports. */

/* REP iterations in one call: then the guest is entered again, so that interrupts and kicks get through. */
#define STRING_BUDGET 1024

struct string {
	uint32_t kind;
	uint32_t len; /* of an element, bytes */
	uint32_t seg; /* of the source: DS or a prefix's */
	int64_t step; /* -len with DF */
	bool rep;
	bool equal; /* F3: CMPS and SCAS go on while equal, otherwise while not */
};

static void string_init(struct emul *e, struct string *s)
{
	s->kind = e->insn->arg;
	s->len = e->osize / 8;
	s->seg = e->insn->seg;
	s->step = e->rflags & FLAG_DF ? -(int64_t)s->len : (int64_t)s->len;
	s->rep = e->insn->rep;
	s->equal = e->insn->repe;
}

static int index_linear(struct emul *e, const struct string *s, uint32_t index, enum emul_access access, uint64_t *gva)
{
	/* the destination is always in ES */
	return emul_linear(e, index == RDI ? (uint32_t)SEG_ES : s->seg, emul_reg_get(e, index, e->asize), s->len,
			   access, gva);
}

static void index_advance(struct emul *e, uint32_t index, int64_t by)
{
	emul_reg_put(e, index, e->asize, e->gpr[index] + (uint64_t)by);
}

static int string_step(struct emul *e, const struct string *s)
{
	bool source = s->kind == STRING_MOVS || s->kind == STRING_LODS || s->kind == STRING_CMPS;
	bool destination = s->kind != STRING_LODS;
	bool compares = s->kind == STRING_CMPS || s->kind == STRING_SCAS;
	uint64_t from = 0, to = 0, value = emul_reg_get(e, RAX, s->len * 8), other = 0;
	int ret = EMUL_OK;

	if (source)
		ret = index_linear(e, s, RSI, ACCESS_READ, &from);
	if (!ret && destination)
		ret = index_linear(e, s, RDI, compares ? ACCESS_READ : ACCESS_WRITE, &to);
	if (!ret && source) {
		value = 0;
		ret = emul_read(e, from, &value, s->len);
	}
	if (!ret && compares)
		ret = emul_read(e, to, &other, s->len);
	else if (!ret && destination)
		ret = emul_write(e, to, &value, s->len);
	if (ret)
		return ret;
	if (compares)
		alu_binary(ALU_CMP, value, other, s->len * 8, &e->rflags);
	if (s->kind == STRING_LODS)
		emul_reg_put(e, RAX, s->len * 8, value);
	if (source)
		index_advance(e, RSI, s->step);
	if (destination)
		index_advance(e, RDI, s->step);
	return EMUL_OK;
}

/*
 * Each iteration is committed on its own, but for the flags: a REP CMPS that faults or is interrupted has the ones
 * from before it (SDM 2 REP), and its last iteration sets them anyway.
 */
int exec_string(struct emul *e)
{
	struct string s;
	int ret;

	string_init(e, &s);
	if (!s.rep)
		return string_step(e, &s);
	if (!emul_reg_get(e, RCX, e->asize))
		return EMUL_OK;
	for (uint32_t i = 0; i < STRING_BUDGET; i++) {
		ret = string_step(e, &s);
		if (ret)
			return ret;
		index_advance(e, RCX, -1);
		emul_commit_registers(e);
		e->ctx->commits++;
		if (!emul_reg_get(e, RCX, e->asize))
			return EMUL_OK;
		if ((s.kind == STRING_CMPS || s.kind == STRING_SCAS) && !(e->rflags & FLAG_ZF) == s.equal)
			return EMUL_OK;
		if (e->ctx->posted) /* a fault of the next iteration comes after this write */
			return EMUL_PENDING;
	}
	return EXEC_YIELD;
}

/* ---- ports. The CPU has checked IOPL and the I/O bitmap before it exited (SDM 3C 26.1.1). ---- */

/* How many elements at offset (linear: gva) go in one piece: same page, no wrap, inside the segment. */
static uint32_t batch_count(struct emul *e, const struct string *s, uint32_t seg, uint64_t offset, uint64_t gva,
			    enum emul_access access)
{
	uint64_t count = s->rep ? emul_reg_get(e, RCX, e->asize) : 1, room = 0x1000 - (gva & 0xfff);

	if (room > EMUL_PORT_BATCH)
		room = EMUL_PORT_BATCH;
	if (mask_bits(e->asize) - offset < room - 1)
		room = mask_bits(e->asize) - offset + 1;
	if (count > room / s->len)
		count = room / s->len;
	if (count < 2 || s->step < 0 || !emul_linear_ok(e, seg, offset, (uint32_t)count * s->len, access))
		return 1;
	if (e->ctx->ops->batch &&
	    !e->ctx->ops->batch(e->ctx, access == ACCESS_WRITE, (uint16_t)e->gpr[RDX], gva, (uint32_t)count * s->len))
		return 1;
	return (uint32_t)count;
}

int exec_port_string(struct emul *e)
{
	bool in = e->insn->arg;
	enum emul_access access = in ? ACCESS_WRITE : ACCESS_READ;
	uint32_t index = in ? RDI : RSI, len = e->osize / 8, count;
	uint16_t port = (uint16_t)e->gpr[RDX];
	uint8_t data[EMUL_PORT_BATCH];
	struct string s;
	uint64_t gva;
	int ret;

	string_init(e, &s);
	if (s.rep && !emul_reg_get(e, RCX, e->asize))
		return EMUL_OK;
	ret = index_linear(e, &s, index, access, &gva);
	if (ret)
		return ret;
	count = batch_count(e, &s, in ? (uint32_t)SEG_ES : s.seg, emul_reg_get(e, index, e->asize), gva, access);
	if (in) {
		ret = emul_probe_write(e, gva, count * len);
		if (!ret)
			ret = e->ctx->ops->io(e->ctx, true, port, len, data, count);
		if (!ret)
			ret = emul_write(e, gva, data, count * len);
	} else {
		ret = emul_read(e, gva, data, count * len);
		if (!ret)
			ret = e->ctx->ops->io(e->ctx, false, port, len, data, count);
	}
	if (ret)
		return ret;
	index_advance(e, index, s.step * (int64_t)count);
	if (!s.rep)
		return EMUL_OK;
	index_advance(e, RCX, -(int64_t)count);
	emul_commit_registers(e);
	e->ctx->commits++;
	/* One batch a call: each is an exit of its own. */
	return emul_reg_get(e, RCX, e->asize) ? EXEC_YIELD : EMUL_OK;
}

/* Operands: the accumulator, and the port where it is an immediate. */
int exec_port(struct emul *e)
{
	uint32_t bits = e->op[0].len * 8u;
	bool in = e->insn->arg;
	uint64_t value = in ? 0 : emul_reg_get(e, RAX, bits);
	uint16_t port = (uint16_t)e->gpr[RDX];
	int ret;

	if (e->op[1].kind == OPERAND_IMMEDIATE)
		port = e->op[1].value & 0xff;
	ret = e->ctx->ops->io(e->ctx, in, port, bits / 8, &value, 1);
	if (!ret && in)
		emul_reg_put(e, RAX, bits, value);
	return ret;
}
