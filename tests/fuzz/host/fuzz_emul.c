// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The instruction emulator on any bytes, in any mode. Each instruction is executed three times: with every access
 * answered at once; with each device access waiting for the VMM and the instruction begun anew; and the same
 * with the decoded instruction kept. All three must end the same, to the last byte. Nothing is asked for beyond what ops promise.
 */
#include "emulate.h"
#include "input.h"

#define MEM 0xa000
#define ABSENT 0x4000
#define READONLY 0x6000
#define DEVICE 0x8000
#define HIGH 0xffff800000000000ull
#define CODE 0x2000
#define LOG 300 /* a page in pieces of the largest operand, and more */
#define ROUNDS 6

struct access {
	char kind;
	uint64_t at;
	uint32_t len;
	uint8_t data[EMUL_PORT_BATCH > 64 ? EMUL_PORT_BATCH : 64];
};

struct machine {
	struct emul_ctx ctx;
	struct emul_insn insn;
	uint64_t gpr[16];
	uint8_t vec[16][32];
	uint64_t mmx[8];
	uint8_t mem[MEM];
	/* what happened: must be the same in the end */
	uint32_t faults, vector, code, device_accesses;
	uint64_t device_hash;
	enum emul_result result;
	/* accesses of the instruction, or of its REP iteration under way */
	bool waits, keep;
	struct access log[LOG];
	uint32_t logged, cursor, commits;
};

static struct machine begin, machine[3];
static struct emul_cache cache;

static struct machine *of(struct emul_ctx *ctx)
{
	return ctx->opaque;
}

static bool place(uint64_t gva, uint64_t *at)
{
	*at = gva >= HIGH ? gva - HIGH : gva;
	return *at < MEM && *at / 4096 != ABSENT / 4096;
}

static int page_fault(struct machine *m, uint32_t code)
{
	m->faults++;
	m->vector = 14;
	m->code = code;
	return EMUL_RAISED;
}

static int look(struct machine *m, uint64_t gva, uint32_t len, bool write, bool *device)
{
	uint64_t at;

	*device = false;
	for (uint32_t i = 0; i < len; i++) {
		if (!place(gva + i, &at))
			return page_fault(m, write ? 2 : 0);
		if (write && at / 4096 == READONLY / 4096)
			return page_fault(m, 3);
		*device |= at >= DEVICE;
	}
	return EMUL_OK;
}

static void told(struct machine *m, const void *data, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		m->device_hash = (m->device_hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
	m->device_accesses++;
}

/* What a device says depends on what it was told and asked before: a second reading would be another. */
static void says(struct machine *m, void *data, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		((uint8_t *)data)[i] = (uint8_t)(m->device_hash >> (i & 7) * 8) ^ (uint8_t)i;
	told(m, data, len);
}

/* True: *out has this access's answer; false: it is new, and done now. */
static bool again(struct machine *m, char kind, uint64_t at, uint32_t len, struct access **out)
{
	struct access *a;

	if (m->ctx.commits != m->commits) {
		fuzz_assert(m->cursor == m->logged); /* all that was done before is asked for again */
		m->logged = m->cursor = 0;
		m->commits = m->ctx.commits;
	}
	a = *out = &m->log[m->cursor];
	if (m->cursor++ < m->logged) {
		fuzz_assert(a->kind == kind && a->at == at && a->len == len);
		return true;
	}
	fuzz_assert(m->logged < LOG && len <= sizeof(a->data));
	m->logged++;
	a->kind = kind;
	a->at = at;
	a->len = len;
	return false;
}

static int done(struct machine *m, bool device)
{
	return device && m->waits ? EMUL_PENDING : EMUL_OK;
}

static void copy(struct machine *m, uint64_t gva, uint8_t *data, uint32_t len, bool write)
{
	uint64_t at;

	for (uint32_t i = 0; i < len; i++) {
		place(gva + i, &at);
		if (write)
			m->mem[at] = data[i];
		else
			data[i] = m->mem[at];
	}
}

static int op_read(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	struct machine *m = of(ctx);
	struct access *a;
	bool device;

	fuzz_assert(len >= 1);
	if (look(m, gva, len, false, &device))
		return EMUL_RAISED;
	if (!again(m, 'r', gva, len, &a)) {
		if (device)
			says(m, a->data, len);
		else
			copy(m, gva, a->data, len, false);
		if (done(m, device))
			return EMUL_PENDING;
	}
	memcpy(data, a->data, len);
	return EMUL_OK;
}

static int op_write(struct emul_ctx *ctx, uint64_t gva, const void *data, uint32_t len)
{
	struct machine *m = of(ctx);
	struct access *a;
	bool device;

	fuzz_assert(len >= 1);
	if (look(m, gva, len, true, &device))
		return EMUL_RAISED;
	if (again(m, 'w', gva, len, &a)) {
		fuzz_assert(!memcmp(a->data, data, len));
		return EMUL_OK;
	}
	memcpy(a->data, data, len);
	if (device)
		told(m, data, len);
	copy(m, gva, a->data, len, true);
	return done(m, device);
}

static int op_probe(struct emul_ctx *ctx, uint64_t gva, uint32_t len)
{
	bool device;

	fuzz_assert(len >= 1 && len <= 4096);
	return look(of(ctx), gva, len, true, &device);
}

static int op_fetch(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	bool device;

	fuzz_assert(len >= 1 && len <= 15);
	if (look(of(ctx), gva, len, false, &device))
		return EMUL_RAISED;
	copy(of(ctx), gva, data, len, false);
	return EMUL_OK;
}

static int op_io(struct emul_ctx *ctx, bool in, uint16_t port, uint32_t size, void *data, uint32_t count)
{
	struct machine *m = of(ctx);
	struct access *a;
	uint32_t len = size * count;

	fuzz_assert((size == 1 || size == 2 || size == 4) && count >= 1 && len <= EMUL_PORT_BATCH);
	if (!again(m, in ? 'i' : 'o', port, len, &a)) {
		if (in)
			says(m, a->data, len);
		else
			memcpy(a->data, data, len), told(m, data, len);
		if (done(m, true))
			return EMUL_PENDING;
	}
	if (in)
		memcpy(data, a->data, len);
	else
		fuzz_assert(!memcmp(data, a->data, len));
	return EMUL_OK;
}

static bool op_batch(struct emul_ctx *ctx, bool in, uint16_t port, uint64_t gva, uint32_t len)
{
	uint64_t at;

	(void)ctx;
	(void)in;
	(void)port;
	fuzz_assert(len >= 1 && (gva & 4095) + len <= 4096);
	return place(gva, &at) && at < DEVICE;
}

static void op_fault(struct emul_ctx *ctx, uint8_t vector, bool has_code, uint32_t code)
{
	struct machine *m = of(ctx);

	fuzz_assert(vector < 32);
	m->faults++;
	m->vector = vector | (has_code ? 0x100 : 0);
	m->code = code;
}

static void op_vec_read(struct emul_ctx *ctx, uint32_t reg, void *data, uint32_t len)
{
	fuzz_assert(reg < 16 && (len == 16 || len == 32));
	memcpy(data, of(ctx)->vec[reg], len);
}

static void op_vec_write(struct emul_ctx *ctx, uint32_t reg, const void *data, uint32_t len, bool vex)
{
	fuzz_assert(reg < 16 && (len == 16 || (len == 32 && vex)));
	if (vex)
		memset(of(ctx)->vec[reg], 0, 32);
	memcpy(of(ctx)->vec[reg], data, len);
}

static bool op_mmx_read(struct emul_ctx *ctx, uint32_t reg, uint64_t *value)
{
	fuzz_assert(reg < 8);
	*value = of(ctx)->mmx[reg];
	return !(*value >> 63); /* for any reason */
}

static void op_mmx_done(struct emul_ctx *ctx, uint32_t reg, const uint64_t *value)
{
	fuzz_assert(reg < 8);
	if (value)
		of(ctx)->mmx[reg] = *value;
}

static uint16_t op_x87_word(struct emul_ctx *ctx, bool status)
{
	(void)ctx;
	return status ? 0x3800 : 0x37f;
}

static const struct emul_ops ops = {
	.read = op_read,
	.write = op_write,
	.fetch = op_fetch,
	.io = op_io,
	.fault = op_fault,
	.vec_read = op_vec_read,
	.vec_write = op_vec_write,
	.mmx_read = op_mmx_read,
	.mmx_done = op_mmx_done,
	.x87_word = op_x87_word,
	.probe_write = op_probe,
	.batch = op_batch,
};

/* Until the instruction is over, or has gone round often enough. */
static void run(struct machine *m, bool waits, bool keep)
{
	uint64_t gpr[16], rip = m->ctx.rip, rflags = m->ctx.rflags;
	bool asked = false;

	m->ctx.opaque = m;
	m->ctx.gpr = m->gpr;
	m->ctx.insn = &m->insn;
	m->ctx.cache = keep ? &cache : NULL;
	m->waits = waits;
	for (uint32_t yields = 0; yields < ROUNDS;) {
		memcpy(gpr, m->gpr, sizeof(gpr));
		m->cursor = m->commits = 0;
		m->ctx.commits = 0;
		m->ctx.decoded = asked && keep;
		m->result = emulate(&m->ctx);
		asked = m->result == EMUL_USER;
		fuzz_assert(!asked || waits);
		if (m->result != EMUL_DONE) {
			fuzz_assert(m->ctx.rip == rip && m->ctx.rflags == rflags);
			fuzz_assert(m->ctx.commits || !memcmp(gpr, m->gpr, sizeof(gpr)));
		}
		if (asked)
			continue;
		if (m->result != EMUL_DONE || !m->ctx.rep_yield)
			return;
		fuzz_assert(m->ctx.rip == rip && m->ctx.commits > 0);
		m->logged = 0;
		yields++;
	}
}

static void same(const struct machine *a, const struct machine *b)
{
	fuzz_assert(a->result == b->result);
	if (a->result == EMUL_DONE && (a->ctx.rep_yield || b->ctx.rep_yield))
		return; /* stopped at different iterations */
	fuzz_assert(a->faults == b->faults && a->vector == b->vector && a->code == b->code);
	fuzz_assert(a->device_accesses == b->device_accesses && a->device_hash == b->device_hash);
	fuzz_assert(!memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && a->ctx.rip == b->ctx.rip &&
		    a->ctx.rflags == b->ctx.rflags);
	fuzz_assert(!memcmp(a->mem, b->mem, MEM) && !memcmp(a->vec, b->vec, sizeof(a->vec)));
}

static uint64_t value(struct input *in)
{
	uint8_t kind = input_u8(in);

	switch (kind & 7) {
	case 0:
		return input_u64(in);
	case 1:
		return HIGH + input_u16(in);
	case 2:
		return ABSENT - (kind >> 3);
	case 3:
		return DEVICE + (input_u16(in) & 0x1fff);
	case 4:
		return DEVICE - (kind >> 3);
	case 5:
		return ~(uint64_t)(kind >> 3);
	default:
		return kind >> 3;
	}
}

static void setup(struct input *in)
{
	static const uint16_t code_attr[] = { 0x009b, 0x009b, 0xc09b, 0xc09b, 0xa09b };
	struct emul_ctx *ctx = &begin.ctx;
	uint8_t how = input_u8(in), mode = how % 5, odd = input_u8(in);

	memset(&begin, 0, offsetof(struct machine, log));
	ctx->ops = &ops;
	ctx->rip = odd & 1 ? ABSENT - (odd >> 4) : CODE;
	ctx->rflags = 2 | (odd & 2 ? 0x400 : 0) | (odd & 4 ? 0x8d5 : 0) | (odd & 8 ? 0x40000 : 0);
	ctx->cr0 = mode ? 0x80000011 : 0x10;
	ctx->cr4 = 0x40600;
	if (how & 0x80)
		ctx->cr0 |= 1 << 18;
	if (mode >= 3) {
		ctx->efer = 0xd00;
		ctx->cr4 |= 0x20;
	}
	ctx->cpl = how & 0x40 ? 3 : 0;
	for (int i = 0; i < 6; i++) {
		ctx->seg[i].attr = i == 1 ? code_attr[mode] : mode < 2 ? 0x93 : 0xc093;
		ctx->seg[i].limit = mode <= 1 ? 0xffff : 0xffffffff;
		ctx->seg[i].selector = (uint16_t)(0x10 + i * 8);
	}
	for (uint8_t n = input_u8(in) & 3; n; n--) {
		struct emul_segment *seg = &ctx->seg[input_pick(in, 6)];

		if (seg == &ctx->seg[1])
			continue;
		seg->base = value(in);
		seg->limit = input_u32(in);
		seg->attr = (uint16_t)((seg->attr & ~0x8eu) | (input_u8(in) & 0x8e));
	}
	for (uint32_t i = 0; i < MEM; i++)
		begin.mem[i] = (uint8_t)(i * 7 + (i >> 8));
	begin.gpr[4] = 0x3800;
	for (uint8_t n = input_u8(in) & 7; n; n--)
		begin.gpr[input_pick(in, 16)] = value(in);
	for (int i = 0; i < 16; i++)
		memset(begin.vec[i], 0x11 * i, 32);
	begin.device_hash = 0xcbf29ce484222325;
	input_bytes(in, begin.mem + ctx->rip, odd & 1 ? ABSENT - ctx->rip : 15);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	uint64_t operand = 0x1122334455667788;
	uint8_t length;

	setup(&in);
	for (int i = 0; i < 3; i++) {
		memcpy(&machine[i], &begin, offsetof(struct machine, log));
		machine[i].logged = 0;
		run(&machine[i], i > 0, i > 1);
		if (i)
			same(&machine[0], &machine[i]);
	}
	/* The other two ways in. */
	memcpy(&machine[1], &begin, offsetof(struct machine, log));
	machine[1].logged = 0;
	machine[1].ctx.opaque = &machine[1];
	machine[1].ctx.gpr = machine[1].gpr;
	machine[1].ctx.insn = &machine[1].insn;
	length = emulate_length(&machine[1].ctx);
	fuzz_assert(length <= 15 && machine[1].ctx.rip == begin.ctx.rip);
	fuzz_assert(!memcmp(machine[1].gpr, begin.gpr, sizeof(begin.gpr)) && !memcmp(machine[1].mem, begin.mem, MEM));
	emulate_operand(&machine[1].ctx, input_u8(&in) & 1, &operand);
	fuzz_assert(machine[1].ctx.rip == begin.ctx.rip);
	return 0;
}
