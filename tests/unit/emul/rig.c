// SPDX-License-Identifier: GPL-2.0-or-later
#include "rig.h"

#include <check.h>
#include <string.h>

static struct rig *rig_of(struct emul_ctx *ctx)
{
	return ctx->opaque;
}

static bool place(uint64_t gva, uint64_t *at)
{
	*at = gva >= RIG_HIGH ? gva - RIG_HIGH : gva;
	return *at < RIG_SIZE && *at / 0x1000 != RIG_ABSENT / 0x1000;
}

static int page_fault(struct rig *rig, uint32_t code)
{
	rig->faults++;
	rig->vector = 14;
	rig->has_code = true;
	rig->code = code | (rig->ctx.cpl == 3 ? 4 : 0);
	return EMUL_RAISED;
}

static int check(struct rig *rig, uint64_t gva, uint32_t len, bool write, bool *device)
{
	uint64_t at;

	*device = false;
	for (uint32_t i = 0; i < len; i++) {
		if (!place(gva + i, &at))
			return page_fault(rig, write ? 2 : 0);
		if (write && at / 0x1000 == RIG_READONLY / 0x1000)
			return page_fault(rig, 3);
		if (at >= RIG_DEVICE)
			*device = true;
	}
	return EMUL_OK;
}

static void copy(struct rig *rig, uint64_t gva, void *data, uint32_t len, bool write)
{
	uint64_t at;

	for (uint32_t i = 0; i < len; i++) {
		place(gva + i, &at);
		if (write)
			rig->mem[at] = ((uint8_t *)data)[i];
		else
			((uint8_t *)data)[i] = rig->mem[at];
	}
}

/* The answer to this access, if the VMM has given it; else *fresh: the VMM does it now and answers later. */
static struct rig_answer *answer_find(struct rig *rig, int kind, uint64_t gva, uint32_t len, bool *fresh)
{
	struct rig_answer *answer;

	if (rig->ctx.commits != rig->commits) {
		ck_assert_uint_eq(rig->cursor, rig->answers); /* nothing was left unasked */
		rig->answers = 0;
		rig->cursor = 0;
		rig->commits = rig->ctx.commits;
	}
	answer = &rig->answer[rig->cursor];
	*fresh = rig->cursor == rig->answers;
	if (*fresh) {
		ck_assert_uint_lt(rig->answers, RIG_ANSWERS);
		ck_assert_uint_le(len, sizeof(answer->data));
		rig->answers++;
		rig->pendings++;
		answer->kind = kind;
		answer->gva = gva;
		answer->len = len;
		return answer;
	}
	ck_assert_int_eq(answer->kind, kind);
	ck_assert_uint_eq(answer->gva, gva);
	ck_assert_uint_eq(answer->len, len);
	rig->cursor++;
	return answer;
}

static int rig_read(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	struct rig *rig = rig_of(ctx);
	struct rig_answer *answer;
	bool device, fresh;

	if (check(rig, gva, len, false, &device))
		return EMUL_RAISED;
	if (!device) {
		copy(rig, gva, data, len, false);
		return EMUL_OK;
	}
	answer = answer_find(rig, 'r', gva, len, &fresh);
	if (fresh) {
		copy(rig, gva, answer->data, len, false);
		return EMUL_PENDING;
	}
	memcpy(data, answer->data, len);
	return EMUL_OK;
}

static int rig_write(struct emul_ctx *ctx, uint64_t gva, const void *data, uint32_t len)
{
	struct rig *rig = rig_of(ctx);
	struct rig_answer *answer;
	uint8_t bytes[4096];
	bool device, fresh;

	if (check(rig, gva, len, true, &device))
		return EMUL_RAISED;
	ck_assert_uint_le(len, sizeof(bytes));
	memcpy(bytes, data, len);
	if (!device) {
		copy(rig, gva, bytes, len, true);
		return EMUL_OK;
	}
	answer = answer_find(rig, 'w', gva, len, &fresh);
	if (fresh) {
		memcpy(answer->data, data, len);
		copy(rig, gva, bytes, len, true);
		return EMUL_PENDING;
	}
	ck_assert_mem_eq(answer->data, data, len);
	return EMUL_OK;
}

static int rig_probe_write(struct emul_ctx *ctx, uint64_t gva, uint32_t len)
{
	bool device;

	return check(rig_of(ctx), gva, len, true, &device);
}

static int rig_fetch(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	bool device;

	ck_assert_uint_le(len, 15);
	if (check(rig_of(ctx), gva, len, false, &device)) {
		rig_of(ctx)->code |= 16;
		return EMUL_RAISED;
	}
	copy(rig_of(ctx), gva, data, len, false);
	return EMUL_OK;
}

static int rig_io(struct emul_ctx *ctx, bool in, uint16_t port, uint32_t size, void *data, uint32_t count)
{
	struct rig *rig = rig_of(ctx);
	struct rig_answer *answer;
	bool fresh;

	ck_assert(size == 1 || size == 2 || size == 4);
	ck_assert_uint_ge(count, 1);
	ck_assert_uint_le(count * size, 4096);
	answer = answer_find(rig, in ? 'i' : 'o', port, size * count, &fresh);
	if (!fresh) {
		if (in)
			memcpy(data, answer->data, size * count);
		return EMUL_OK;
	}
	rig->port = port;
	if (in) {
		ck_assert_uint_le(rig->port_in_used + size * count, sizeof(rig->port_in));
		memcpy(answer->data, rig->port_in + rig->port_in_used, size * count);
		rig->port_in_used += size * count;
	} else {
		ck_assert_uint_le(rig->port_out_len + size * count, sizeof(rig->port_out));
		memcpy(rig->port_out + rig->port_out_len, data, size * count);
		rig->port_out_len += size * count;
	}
	return EMUL_PENDING;
}

static void rig_fault(struct emul_ctx *ctx, uint8_t vector, bool has_code, uint32_t code)
{
	struct rig *rig = rig_of(ctx);

	rig->faults++;
	rig->vector = vector;
	rig->has_code = has_code;
	rig->code = code;
}

static void rig_vec_read(struct emul_ctx *ctx, uint32_t reg, void *data, uint32_t len)
{
	ck_assert_uint_lt(reg, 16);
	ck_assert(len == 16 || len == 32);
	memcpy(data, rig_of(ctx)->vec[reg], len);
}

static void rig_vec_write(struct emul_ctx *ctx, uint32_t reg, const void *data, uint32_t len, bool vex)
{
	ck_assert_uint_lt(reg, 16);
	ck_assert(len == 16 || (len == 32 && vex));
	if (vex)
		memset(rig_of(ctx)->vec[reg], 0, 32);
	memcpy(rig_of(ctx)->vec[reg], data, len);
}

static bool rig_mmx_read(struct emul_ctx *ctx, uint32_t reg, uint64_t *value)
{
	ck_assert_uint_lt(reg, 8);
	*value = rig_of(ctx)->mmx[reg];
	return !rig_of(ctx)->x87_pending;
}

static void rig_mmx_done(struct emul_ctx *ctx, uint32_t reg, const uint64_t *value)
{
	ck_assert_uint_lt(reg, 8);
	if (value)
		rig_of(ctx)->mmx[reg] = *value;
}

static uint16_t rig_x87_word(struct emul_ctx *ctx, bool status)
{
	(void)ctx;
	return status ? 0x3841 : 0x27f;
}

/* One for all: what another test has left in it must not matter. */
static struct emul_cache rig_cache;

static const struct emul_ops rig_ops = {
	.read = rig_read,
	.write = rig_write,
	.fetch = rig_fetch,
	.io = rig_io,
	.fault = rig_fault,
	.vec_read = rig_vec_read,
	.vec_write = rig_vec_write,
	.mmx_read = rig_mmx_read,
	.mmx_done = rig_mmx_done,
	.x87_word = rig_x87_word,
	.probe_write = rig_probe_write,
};

void rig_init(struct rig *rig, enum rig_mode mode)
{
	/* accessed, present; code readable, data writable; with D and G where the mode is 32-bit */
	static const uint16_t code_attr[] = { 0x009b, 0x009b, 0xc09b, 0xc09b, 0xa09b };
	static const uint16_t data_attr[] = { 0x0093, 0x0093, 0xc093, 0xc093, 0xc093 };
	struct emul_ctx *ctx = &rig->ctx;

	memset(rig, 0, sizeof(*rig));
	ctx->ops = &rig_ops;
	ctx->opaque = rig;
	ctx->gpr = rig->gpr;
	ctx->insn = &rig->insn;
	ctx->cache = &rig_cache;
	ctx->rip = 0x8000;
	ctx->rflags = 2;
	ctx->cr0 = mode == REAL16 ? 0x10 : 0x80000011;
	ctx->cr4 = 0x40600; /* OSFXSR, OSXMMEXCPT, OSXSAVE */
	if (mode >= COMPAT32) {
		ctx->efer = 0xd00;
		ctx->cr4 |= 0x20;
	}
	for (int i = 0; i < 6; i++) {
		ctx->seg[i].attr = i == 1 ? code_attr[mode] : data_attr[mode];
		ctx->seg[i].limit = mode <= PROT16 ? 0xffff : 0xffffffff;
		ctx->seg[i].selector = (uint16_t)(0x10 + i * 8);
	}
	rig->gpr[4] = 0xe000;
	for (uint32_t i = 0; i < RIG_SIZE; i++)
		rig->mem[i] = (uint8_t)(i * 7 + (i >> 8));
}

enum emul_result rig_run(struct rig *rig)
{
	uint64_t gpr[16], rip = rig->ctx.rip, rflags = rig->ctx.rflags;
	enum emul_result result;
	bool waits = false;

	for (uint32_t i = 0; i < 100000; i++) {
		memcpy(gpr, rig->gpr, sizeof(gpr));
		rig->cursor = 0;
		rig->commits = 0;
		rig->ctx.decoded = waits && rig->keep_decoded;
		result = emulate(&rig->ctx);
		waits = result == EMUL_USER;
		if (result != EMUL_DONE) {
			ck_assert_uint_eq(rig->ctx.rip, rip);
			ck_assert_uint_eq(rig->ctx.rflags, rflags);
			if (!rig->ctx.commits)
				ck_assert_mem_eq(gpr, rig->gpr, sizeof(gpr));
		}
		if (result == EMUL_USER)
			continue;
		if (result != EMUL_DONE || !rig->ctx.rep_yield)
			return result;
		ck_assert_uint_eq(rig->ctx.rip, rip);
		ck_assert_uint_eq(rig->ctx.rflags, rflags);
		ck_assert_uint_gt(rig->ctx.commits, 0);
		rig->answers = 0; /* enters the guest and comes back for the rest */
		rig->yields++;
	}
	ck_abort_msg("never done");
	return EMUL_UNKNOWN;
}
