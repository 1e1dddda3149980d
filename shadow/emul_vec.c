// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

#include <string.h>

/*
 * Vector moves between memory and MMX, XMM or YMM registers, legacy and VEX encodings, and two words of the x87 unit.
 * EVEX: unknown.
 */

#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR4_OSFXSR (1ull << 9)
#define CR4_OSXSAVE (1ull << 18)

static int vec_enabled(struct emul *e, bool vex)
{
	const struct emul_ctx *ctx = e->ctx;
	bool off = (ctx->cr0 & CR0_EM) || !(ctx->cr4 & CR4_OSFXSR);

	if (vex)
		off = e->flat_types || !(ctx->cr4 & CR4_OSXSAVE);
	if (off)
		return emul_raise(e, VEC_UD, false);
	if (ctx->cr0 & CR0_TS)
		return emul_raise(e, VEC_NM, false);
	return EMUL_OK;
}

/* MOVD and MOVQ: the registers are the x87 unit's. (SDM 3A 13.2) */
static int exec_mmx(struct emul *e, const struct emul_operand *memory, uint32_t reg, bool store)
{
	struct emul_ctx *ctx = e->ctx;
	uint64_t value, gva;
	int ret;

	if (ctx->cr0 & CR0_EM)
		return emul_raise(e, VEC_UD, false);
	if (ctx->cr0 & CR0_TS)
		return emul_raise(e, VEC_NM, false);
	if (!ctx->ops->mmx_read(ctx, reg, &value))
		return emul_raise(e, VEC_MF, false);
	ret = emul_operand_gva(e, memory, 0, memory->len, store ? ACCESS_WRITE : ACCESS_READ, &gva);
	if (ret)
		return ret;
	if (!store)
		value = 0; /* the upper half of a MOVD */
	ret = store ? emul_write(e, gva, &value, memory->len) : emul_read(e, gva, &value, memory->len);
	if (!ret)
		ctx->ops->mmx_done(ctx, reg, store ? NULL : &value);
	return ret;
}

/* FNSTCW and FNSTSW, which wait for no exception that is pending. */
int exec_x87_word(struct emul *e)
{
	struct emul_ctx *ctx = e->ctx;

	if (ctx->cr0 & (CR0_EM | CR0_TS))
		return emul_raise(e, VEC_NM, false);
	return emul_put(e, 0, ctx->ops->x87_word(ctx, e->insn->arg));
}

int exec_vector(struct emul *e)
{
	bool store = e->op[0].kind == OPERAND_MEMORY;
	uint32_t kind = e->insn->arg, operands = e->insn->operands, reg, source, len;
	const struct emul_operand *memory = &e->op[store ? 0 : operands - 1];
	uint8_t data[32] = { 0 }, old[16];
	uint64_t gva;
	int ret;

	if (memory->kind != OPERAND_MEMORY)
		return EXEC_UNKNOWN;
	reg = e->op[store ? 1 : 0].reg;
	if (e->op[store ? 1 : 0].kind == OPERAND_MMX && kind == VECTOR_SCALAR)
		return exec_mmx(e, memory, reg, store);
	if (e->op[store ? 1 : 0].kind != OPERAND_VECTOR)
		return EXEC_UNKNOWN;
	source = reg; /* of the half that a load keeps; VEX names it */
	if (operands == 3) {
		if (e->op[1].kind != OPERAND_VECTOR)
			return EXEC_UNKNOWN;
		source = e->op[1].reg;
	}
	len = memory->len;
	if (len != 4 && len != 8 && len != 16 && len != 32)
		return EXEC_UNKNOWN;
	if ((kind == VECTOR_LOW || kind == VECTOR_HIGH) && len != 8)
		return EXEC_UNKNOWN;

	ret = vec_enabled(e, e->insn->vex);
	if (!ret)
		ret = emul_operand_gva(e, memory, 0, len, store ? ACCESS_WRITE : ACCESS_READ, &gva);
	if (ret)
		return ret;
	if (kind == VECTOR_ALIGNED && (gva & (len - 1)))
		return emul_raise(e, VEC_GP, true);

	if (store) {
		e->ctx->ops->vec_read(e->ctx, reg, data, len == 32 ? 32 : 16);
		return emul_write(e, gva, data + (kind == VECTOR_HIGH ? 8 : 0), len);
	}
	ret = emul_read(e, gva, data, len);
	if (ret)
		return ret;
	if (kind == VECTOR_LOW || kind == VECTOR_HIGH) {
		e->ctx->ops->vec_read(e->ctx, source, old, 16);
		if (kind == VECTOR_LOW) {
			memcpy(data + 8, old + 8, 8);
		} else {
			memcpy(data + 8, data, 8);
			memcpy(data, old, 8);
		}
	}
	/* a scalar's upper part is 0: data was */
	e->ctx->ops->vec_write(e->ctx, reg, data, len == 32 ? 32 : 16, e->insn->vex);
	return EMUL_OK;
}
