// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

#include <string.h>

/* Vector moves between memory and XMM/YMM registers, legacy and VEX encodings. MMX and EVEX: unknown. */

#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR4_OSFXSR (1ull << 9)
#define CR4_OSXSAVE (1ull << 18)

enum vec_kind { VEC_NONE, VEC_ALIGNED, VEC_UNALIGNED, VEC_SCALAR, VEC_LOW, VEC_HIGH };

static enum vec_kind kind_of(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOVAPS:
	case ZYDIS_MNEMONIC_MOVAPD:
	case ZYDIS_MNEMONIC_MOVDQA:
	case ZYDIS_MNEMONIC_MOVNTDQ:
	case ZYDIS_MNEMONIC_MOVNTDQA:
	case ZYDIS_MNEMONIC_MOVNTPS:
	case ZYDIS_MNEMONIC_MOVNTPD:
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA:
	case ZYDIS_MNEMONIC_VMOVNTPS:
	case ZYDIS_MNEMONIC_VMOVNTPD:
		return VEC_ALIGNED;
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_VMOVUPS:
	case ZYDIS_MNEMONIC_VMOVUPD:
	case ZYDIS_MNEMONIC_VMOVDQU:
	case ZYDIS_MNEMONIC_VLDDQU:
		return VEC_UNALIGNED;
	case ZYDIS_MNEMONIC_MOVQ:
	case ZYDIS_MNEMONIC_MOVD:
	case ZYDIS_MNEMONIC_MOVSS:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_VMOVQ:
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VMOVSS:
	case ZYDIS_MNEMONIC_VMOVSD:
		return VEC_SCALAR;
	case ZYDIS_MNEMONIC_MOVLPS:
	case ZYDIS_MNEMONIC_MOVLPD:
	case ZYDIS_MNEMONIC_VMOVLPS:
	case ZYDIS_MNEMONIC_VMOVLPD:
		return VEC_LOW;
	case ZYDIS_MNEMONIC_MOVHPS:
	case ZYDIS_MNEMONIC_MOVHPD:
	case ZYDIS_MNEMONIC_VMOVHPS:
	case ZYDIS_MNEMONIC_VMOVHPD:
		return VEC_HIGH;
	default:
		return VEC_NONE;
	}
}

static bool vec_register(const ZydisDecodedOperand *op, uint32_t *index)
{
	if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	if (op->reg.value >= ZYDIS_REGISTER_XMM0 && op->reg.value <= ZYDIS_REGISTER_XMM15)
		*index = op->reg.value - ZYDIS_REGISTER_XMM0;
	else if (op->reg.value >= ZYDIS_REGISTER_YMM0 && op->reg.value <= ZYDIS_REGISTER_YMM15)
		*index = op->reg.value - ZYDIS_REGISTER_YMM0;
	else
		return false;
	return true;
}

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

int emul_exec_vec(struct emul *e)
{
	bool vex = e->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX, store;
	enum vec_kind kind = kind_of(e->insn.mnemonic);
	uint32_t visible = e->insn.operand_count_visible, reg, source, len, memory;
	uint8_t data[32] = { 0 }, old[16];
	uint64_t gva;
	int ret;

	if (kind == VEC_NONE || visible < 2 || visible > 3 ||
	    (!vex && e->insn.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY))
		return EXEC_UNKNOWN;
	store = e->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	memory = store ? 0 : visible - 1;
	if (e->op[memory].type != ZYDIS_OPERAND_TYPE_MEMORY || !vec_register(&e->op[store ? 1 : 0], &reg))
		return EXEC_UNKNOWN;
	source = reg; /* of the half that a load keeps; VEX names it */
	if (visible == 3 && !vec_register(&e->op[1], &source))
		return EXEC_UNKNOWN;
	len = e->op[memory].size / 8;
	if (len != 4 && len != 8 && len != 16 && len != 32)
		return EXEC_UNKNOWN;
	if ((kind == VEC_LOW || kind == VEC_HIGH) && len != 8)
		return EXEC_UNKNOWN;

	ret = vec_enabled(e, vex);
	if (!ret)
		ret = emul_operand_gva(e, &e->op[memory], 0, len, store ? ACCESS_WRITE : ACCESS_READ, &gva);
	if (ret)
		return ret;
	if (kind == VEC_ALIGNED && (gva & (len - 1)))
		return emul_raise(e, VEC_GP, true);

	if (store) {
		e->ctx->ops->vec_read(e->ctx, reg, data, len == 32 ? 32 : 16);
		return emul_write(e, gva, data + (kind == VEC_HIGH ? 8 : 0), len);
	}
	ret = emul_read(e, gva, data, len);
	if (ret)
		return ret;
	if (kind == VEC_LOW || kind == VEC_HIGH) {
		e->ctx->ops->vec_read(e->ctx, source, old, 16);
		if (kind == VEC_LOW) {
			memcpy(data + 8, old + 8, 8);
		} else {
			memcpy(data + 8, data, 8);
			memcpy(data, old, 8);
		}
	}
	/* a scalar's upper part is 0: data was */
	e->ctx->ops->vec_write(e->ctx, reg, data, len == 32 ? 32 : 16, vex);
	return EMUL_OK;
}
