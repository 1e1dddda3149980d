// SPDX-License-Identifier: GPL-2.0-or-later
/* The emulator's view of a vCPU: registers, page tables, memory, devices. */
#include <errno.h>
#include <string.h>

#include "core.h"
#include "fault.h"
#include "sys.h"
#include "vcpu.h"

#define PAGE_MASK 0xfffULL

struct access {
	struct emul_ctx ctx; /* first: ops get a pointer to it */
	struct vcpu *vcpu;
	struct walk_regs regs;
	struct emul_insn insn; /* where no other place is given */
	bool quiet;	       /* raise nothing */
	bool has_segments;
	bool ram_only;
	bool unfetchable; /* the instruction itself does not lie in memory */
};

static struct access *access_of(struct emul_ctx *ctx)
{
	return ctx->opaque;
}

/* ---- addresses ---- */

static bool hint_allows(const struct emul_resume *resume, uint64_t gva, uint32_t access)
{
	if (!resume->hint_access || ((gva ^ resume->hint_gva) & ~PAGE_MASK) || (access & WALK_FETCH))
		return false;
	return !(access & WALK_WRITE) || (resume->hint_access & UMBRA_MEM_WRITE);
}

/* All in one page. */
static int translate(struct access *a, uint64_t gva, uint32_t access, uint64_t *gpa)
{
	struct vcpu *vcpu = a->vcpu;
	uint32_t error = 0;

	if (hint_allows(vcpu->resume, gva, access)) {
		*gpa = (vcpu->resume->hint_gpa & ~PAGE_MASK) | (gva & PAGE_MASK);
		return EMUL_OK;
	}
	if (a->ctx.cpl == 3)
		access |= WALK_USER;
	if (!walk_gva(vcpu->vm, &a->regs, gva, access, gpa, &error))
		return EMUL_OK;
	FAULT_POINT(emul_page_fault, vcpu, &gva, error);
	if (!a->quiet)
		inject_page_fault(vcpu, gva, error);
	return EMUL_RAISED;
}

static uint32_t page_piece(uint64_t gva, uint32_t len)
{
	uint32_t room = 0x1000 - (uint32_t)(gva & PAGE_MASK);

	return len < room ? len : room;
}

void access_hint(struct vcpu *vcpu, uint64_t gva, uint64_t gpa, uint32_t access)
{
	vcpu->resume->hint_gva = gva;
	vcpu->resume->hint_gpa = gpa;
	vcpu->resume->hint_access = access & (UMBRA_MEM_READ | UMBRA_MEM_WRITE);
}

/* ---- guest-physical ---- */

/* The access that exited: the first of its instruction finds no memory either. (A write may have found ROM.) */
static bool no_memory(const struct emul_resume *resume, uint64_t gpa, bool write)
{
	return !resume->entries && !((gpa ^ resume->hint_gpa) & ~PAGE_MASK) &&
	       (write ? resume->hint_access & UMBRA_MEM_WRITE : resume->hint_access == UMBRA_MEM_READ);
}

/* len: 1..8, within a page. Each is done once, however often the instruction is begun. */
static int piece_access(struct access *a, uint64_t gpa, uint8_t *data, uint32_t len, bool write)
{
	struct vcpu *vcpu = a->vcpu;
	struct emul_resume *resume = vcpu->resume;
	struct resume_entry *entry;
	bool done;

	if (a->ram_only) {
		a->unfetchable = bus_has_mmio(vcpu, gpa) || (write ? vm_write_gpa(vcpu->vm, gpa, data, len)
								   : vm_read_gpa(vcpu->vm, gpa, data, len));
		return a->unfetchable ? EMUL_RAISED : EMUL_OK;
	}
	if (resume->posted)
		return EMUL_PENDING;
	resume_sync(resume, a->ctx.commits);
	entry = resume_next(resume, write ? RESUME_WRITE : RESUME_READ, gpa, len);
	if (entry) {
		if (!write)
			memcpy(data, entry->data, len);
		return EMUL_OK;
	}
	entry = resume_new(resume, write ? RESUME_WRITE : RESUME_READ, gpa, len);
	if (!entry) {
		a->unfetchable = true; /* no instruction has so many pieces */
		return EMUL_RAISED;
	}
	if (bus_has_mmio(vcpu, gpa) || no_memory(resume, gpa, write))
		done = write ? bus_mmio_write(vcpu, gpa, data, len) : bus_mmio_read(vcpu, gpa, data, len);
	else if (write)
		done = !vm_write_gpa(vcpu->vm, gpa, data, len) || bus_mmio_write(vcpu, gpa, data, len);
	else
		done = !vm_read_gpa(vcpu->vm, gpa, data, len) || bus_mmio_read(vcpu, gpa, data, len);
	if (done || write)
		memcpy(entry->data, data, len);
	if (!done) {
		int ret = resume_mmio(vcpu, entry);

		a->ctx.posted = resume->posted;
		return ret;
	}
	resume_done(resume);
	return EMUL_OK;
}

/* Within a page. */
static int gpa_access(struct access *a, uint64_t gpa, uint8_t *data, uint32_t len, bool write)
{
	struct vcpu *vcpu = a->vcpu;

	/* A batch to or from RAM: its port access comes before it (INS) or is the last (OUTS), so it needs no log. */
	if (len > 32 && !vcpu->resume->posted &&
	    (write ? !vm_write_gpa(vcpu->vm, gpa, data, len) : !vm_read_gpa(vcpu->vm, gpa, data, len)))
		return EMUL_OK;
	while (len) {
		uint32_t piece = len < 8 ? len : 8;
		int ret = piece_access(a, gpa, data, piece, write);

		if (ret != EMUL_OK)
			return ret;
		gpa += piece;
		data += piece;
		len -= piece;
	}
	return EMUL_OK;
}

static int gva_access(struct access *a, uint64_t gva, uint8_t *data, uint32_t len, bool write)
{
	uint64_t gpa[2], at = gva;
	uint32_t first = page_piece(gva, len);
	int ret;

	/* Both pages before anything is done: an access that faults has no effect. */
	ret = translate(a, at, write ? WALK_WRITE : 0, &gpa[0]);
	if (ret == EMUL_OK && first < len)
		ret = translate(a, at + first, write ? WALK_WRITE : 0, &gpa[1]);
	if (ret == EMUL_OK)
		ret = gpa_access(a, gpa[0], data, first, write);
	if (ret == EMUL_OK && first < len)
		ret = gpa_access(a, gpa[1], data + first, len - first, write);
	return ret;
}

/* ---- struct emul_ops ---- */

static int op_read(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	return gva_access(access_of(ctx), gva, data, len, false);
}

/* The data is the emulator's, and only read here. */
static int op_write(struct emul_ctx *ctx, uint64_t gva, const void *data, uint32_t len)
{
	FAULT_POINT(emul_write, access_of(ctx)->vcpu, data, len);
	return gva_access(access_of(ctx), gva, (uint8_t *)(uintptr_t)data, len, true);
}

static int op_probe_write(struct emul_ctx *ctx, uint64_t gva, uint32_t len)
{
	struct access *a = access_of(ctx);
	uint32_t first = page_piece(gva, len);
	uint64_t gpa;
	int ret = translate(a, gva, WALK_WRITE, &gpa);

	if (ret == EMUL_OK && first < len)
		ret = translate(a, gva + first, WALK_WRITE, &gpa);
	return ret;
}

static int op_fetch(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len)
{
	struct access *a = access_of(ctx);
	uint8_t *to = data;

	while (len) {
		uint32_t piece = page_piece(gva, len);
		uint64_t gpa;

		if (translate(a, gva, WALK_FETCH, &gpa) != EMUL_OK)
			return EMUL_RAISED;
		if (vm_read_gpa(a->vcpu->vm, gpa, to, piece)) {
			a->unfetchable = true;
			return EMUL_RAISED;
		}
		to += piece;
		gva += piece;
		len -= piece;
	}
	return EMUL_OK;
}

/* The decision holds for the whole iteration: an answer that is there already was for so many elements. */
static bool op_batch(struct emul_ctx *ctx, bool in, uint16_t port, uint64_t gva, uint32_t len)
{
	struct access *a = access_of(ctx);
	struct emul_resume *resume = a->vcpu->resume;
	bool quiet = a->quiet, yes = false;
	uint64_t gpa;

	(void)port;
	resume_sync(resume, ctx->commits);
	if (resume->batch)
		return resume->batch == 2;
	a->quiet = true;
	if (translate(a, gva, in ? WALK_WRITE : 0, &gpa) == EMUL_OK)
		yes = !bus_has_mmio(a->vcpu, gpa) && vm_gpa_to_hva(a->vcpu->vm, gpa, len, in);
	a->quiet = quiet;
	resume->batch = yes ? 2 : 1;
	return yes;
}

/* How many of the first elements need no VMM. */
static uint32_t io_local(struct vcpu *vcpu, bool in, uint16_t port, uint32_t size, uint8_t *data, uint32_t count)
{
	uint32_t n;

	for (n = 0; n < count; n++, data += size)
		if (in ? !bus_port_in(vcpu, port, size, data) : !bus_port_out(vcpu, port, size, data))
			break;
	return n;
}

static int op_io(struct emul_ctx *ctx, bool in, uint16_t port, uint32_t size, void *data, uint32_t count)
{
	struct access *a = access_of(ctx);
	struct vcpu *vcpu = a->vcpu;
	struct emul_resume *resume = vcpu->resume;
	uint32_t kind = in ? RESUME_IN : RESUME_OUT, local;
	struct resume_entry *entry;
	int ret;

	if (!size || size > 4 || !count || count > EMUL_PORT_BATCH / size)
		return EMUL_RAISED;
	if (resume->posted)
		return EMUL_PENDING;
	resume_sync(resume, ctx->commits);
	entry = resume_next(resume, kind, port, size * count);
	if (entry) {
		if (in)
			memcpy(data, resume->pio_in, size * count);
		return EMUL_OK;
	}
	entry = resume_new(resume, kind, port, size * count);
	if (!entry) {
		a->unfetchable = true;
		return EMUL_RAISED;
	}
	local = io_local(vcpu, in, port, size, data, count);
	if (local == count) {
		if (in)
			memcpy(resume->pio_in, data, size * count);
		resume_done(resume);
		return EMUL_OK;
	}
	/* INS: who answered the first answers all. OUTS: the first may have found a place that is full now. */
	if (!in) {
		data = (uint8_t *)data + local * size;
		count -= local;
	}
	ret = resume_port(vcpu, entry, size, data, count);
	ctx->posted = resume->posted;
	return ret;
}

static void op_fault(struct emul_ctx *ctx, uint8_t vector, bool has_code, uint32_t code)
{
	struct access *a = access_of(ctx);

	if (a->quiet)
		return;
	if (has_code)
		inject_exception_code(a->vcpu, vector, code);
	else
		inject_exception(a->vcpu, vector);
}

/* ---- vector registers, in the parked XSAVE area (standard format, SDM 1 13.4) ---- */

#define XSAVE_XMM 160
#define XSAVE_BV 512
#define XSAVE_YMM_HIGH 576
#define XSTATE_SSE (1ULL << 1)
#define XSTATE_YMM (1ULL << 2)
#define XSTATE_ZMM_HIGH (1ULL << 6)

static uint8_t *park_at(struct emul_ctx *ctx, size_t offset)
{
	return (uint8_t *)access_of(ctx)->vcpu->fpu_park + offset;
}

static void op_vec_read(struct emul_ctx *ctx, uint32_t reg, void *data, uint32_t len)
{
	vcpu_park_fpu(access_of(ctx)->vcpu);
	reg &= 15;
	memcpy(data, park_at(ctx, XSAVE_XMM + reg * 16), len < 16 ? len : 16);
	if (len == 32)
		memcpy((uint8_t *)data + 16, park_at(ctx, XSAVE_YMM_HIGH + reg * 16), 16);
}

static void op_library(struct emul_ctx *ctx, bool enter)
{
	if (enter)
		vcpu_park_fpu(access_of(ctx)->vcpu);
	else
		vcpu_unpark_fpu(access_of(ctx)->vcpu);
}

static void xstate_mark(struct emul_ctx *ctx, uint64_t parts)
{
	uint64_t bv;

	memcpy(&bv, park_at(ctx, XSAVE_BV), 8);
	bv |= parts;
	memcpy(park_at(ctx, XSAVE_BV), &bv, 8);
}

static void op_vec_write(struct emul_ctx *ctx, uint32_t reg, const void *data, uint32_t len, bool vex)
{
	uint64_t mask = vcpu_fpu_mask(access_of(ctx)->vcpu);
	uint32_t leaf[4];

	vcpu_park_fpu(access_of(ctx)->vcpu);
	reg &= 15;
	memcpy(park_at(ctx, XSAVE_XMM + reg * 16), data, len < 16 ? len : 16);
	xstate_mark(ctx, XSTATE_SSE);
	if (!(mask & XSTATE_YMM) || (!vex && len < 32))
		return;
	if (len == 32)
		memcpy(park_at(ctx, XSAVE_YMM_HIGH + reg * 16), (const uint8_t *)data + 16, 16);
	else
		memset(park_at(ctx, XSAVE_YMM_HIGH + reg * 16), 0, 16);
	xstate_mark(ctx, XSTATE_YMM);
	if (!vex || !(mask & XSTATE_ZMM_HIGH))
		return;
	cpu_cpuid(0xd, 6, leaf); /* EBX: where ZMM_Hi256 lies */
	memset(park_at(ctx, leaf[1] + reg * 32), 0, 32);
	xstate_mark(ctx, XSTATE_ZMM_HIGH);
}

/* ---- MMX registers: the x87 registers by number, which the area has by their place in the stack. (SDM 1 8.1.2, 3A 13.2) ---- */

#define XSAVE_FSW 2
#define XSAVE_FTW 4 /* abridged: a bit a register, 1: valid */
#define XSAVE_ST 32
#define XSTATE_X87 (1ULL << 0)
#define FSW_ES (1u << 7)
#define FSW_TOP(fsw) ((fsw) >> 11 & 7)

/* Parks the FPU state; where the area has no x87 state that is the initial one. */
static uint16_t x87_fsw(struct emul_ctx *ctx)
{
	struct vcpu *vcpu = access_of(ctx)->vcpu;
	uint16_t fcw = 0x37f, fsw;
	uint64_t bv;

	vcpu_park_fpu(vcpu);
	memcpy(&bv, park_at(ctx, XSAVE_BV), 8);
	if (vcpu_fpu_mask(vcpu) && !(bv & XSTATE_X87)) {
		memset(park_at(ctx, 0), 0, 24); /* up to MXCSR */
		memset(park_at(ctx, XSAVE_ST), 0, 8 * 16);
		memcpy(park_at(ctx, 0), &fcw, 2);
		xstate_mark(ctx, XSTATE_X87);
	}
	memcpy(&fsw, park_at(ctx, XSAVE_FSW), 2);
	return fsw;
}

static uint8_t *x87_reg(struct emul_ctx *ctx, uint32_t reg, uint16_t fsw)
{
	return park_at(ctx, XSAVE_ST + ((reg - FSW_TOP(fsw)) & 7) * 16);
}

static bool op_mmx_read(struct emul_ctx *ctx, uint32_t reg, uint64_t *value)
{
	uint16_t fsw = x87_fsw(ctx);

	memcpy(value, x87_reg(ctx, reg, fsw), 8);
	return !(fsw & FSW_ES);
}

static void op_mmx_done(struct emul_ctx *ctx, uint32_t reg, const uint64_t *value)
{
	uint16_t fsw = x87_fsw(ctx);
	uint8_t st[8][16];

	for (uint32_t i = 0; i < 8; i++)
		memcpy(st[i], x87_reg(ctx, i, fsw), 16);
	if (value) {
		memcpy(st[reg & 7], value, 8);
		memset(st[reg & 7] + 8, 0xff, 2);
	}
	memcpy(park_at(ctx, XSAVE_ST), st, sizeof(st));
	fsw &= ~(7u << 11);
	memcpy(park_at(ctx, XSAVE_FSW), &fsw, 2);
	*park_at(ctx, XSAVE_FTW) = 0xff;
}

static uint16_t op_x87_word(struct emul_ctx *ctx, bool status)
{
	uint16_t fsw = x87_fsw(ctx), fcw;

	memcpy(&fcw, park_at(ctx, 0), 2);
	return status ? fsw : fcw;
}

static void segment_init(struct access *a, int nr)
{
	const struct umbra_segment *seg = &a->vcpu->run->seg[nr];

	a->ctx.seg[nr] = (struct emul_segment) {
		.base = seg->base,
		.limit = seg->limit,
		.attr = seg->attr,
		.selector = seg->selector,
	};
}

static void op_segments(struct emul_ctx *ctx)
{
	struct access *a = access_of(ctx);

	if (a->has_segments)
		return;
	a->has_segments = true;
	vcpu_fetch(a->vcpu, UMBRA_STATE_SEG_DATA);
	for (int i = 0; i < 6; i++)
		segment_init(a, i);
}

static const struct emul_ops access_ops = {
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
	.probe_write = op_probe_write,
	.batch = op_batch,
	.segments = op_segments,
	.library = op_library,
};

/* What the shim stores with each exit that is emulated: 64-bit code seldom uses its data segments. */
#define WANT_ALWAYS (UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE)

static void access_init(struct access *a, struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;

	vcpu_fetch(vcpu, WANT_ALWAYS);
	/* Field by field: seg[], the greater part, is mostly not looked at. */
	a->ctx.ops = &access_ops;
	a->ctx.opaque = a;
	a->ctx.gpr = (uint64_t *)run->gpr;
	a->ctx.rip = run->rip;
	a->ctx.rflags = run->rflags;
	a->ctx.cr0 = run->cr0;
	a->ctx.cr4 = run->cr4;
	a->ctx.efer = run->efer;
	a->ctx.cpl = run->seg[UMBRA_SS].attr >> 5 & 3;
	a->ctx.decoded = false;
	a->ctx.insn = &a->insn;
	a->ctx.cache = vcpu->insns;
	a->ctx.bytes[0] = a->ctx.bytes[1] = 0;
	a->ctx.fetched = 0;
	a->vcpu = vcpu;
	a->has_segments = false;
	if (vcpu_code64(vcpu)) {
		segment_init(a, UMBRA_CS);
		segment_init(a, UMBRA_SS);
		run->want_emul = WANT_ALWAYS;
	} else {
		op_segments(&a->ctx);
		run->want_emul = WANT_ALWAYS | UMBRA_STATE_SEG_DATA;
	}
	a->regs = vcpu_walk_regs(vcpu);
	a->quiet = a->ram_only = false;
	a->unfetchable = false;
}

/* ---- one instruction ---- */

/* As KVM lays it out: flags, then size and bytes where there are any, then what the hardware said. */
int access_internal_error(struct vcpu *vcpu, const uint8_t *bytes, uint32_t len)
{
	const struct umbra_exit *hw = &vcpu->run->exit;
	const uint64_t info[] = { hw->hw_reason, hw->hw_info, hw->gpa, hw->hw_detail, hw->hw_error_code };
	struct kvm_run *kvm = vcpu->kvm;
	uint32_t n = len ? 3 : 1;

	FAULT_POINT(internal_error, kvm, NULL, n);
	kvm->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	kvm->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
	kvm->emulation_failure.flags = len ? KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES : 0;
	if (len > sizeof(kvm->emulation_failure.insn_bytes))
		len = sizeof(kvm->emulation_failure.insn_bytes);
	if (len) {
		kvm->emulation_failure.insn_size = (uint8_t)len;
		memset(kvm->emulation_failure.insn_bytes, 0x90, sizeof(kvm->emulation_failure.insn_bytes));
		memcpy(kvm->emulation_failure.insn_bytes, bytes, len);
	}
	memcpy((void *)&kvm->internal.data[n], info, sizeof(info));
	kvm->internal.ndata = n + sizeof(info) / sizeof(info[0]);
	return EXIT_USER;
}

static void resume_end(struct vcpu *vcpu)
{
	vcpu->resume->active = false;
	vcpu->resume->hint_access = 0;
}

static int access_complete(struct vcpu *vcpu)
{
	resume_answered(vcpu);
	if (vcpu->run->rip != vcpu->resume->rip) { /* the VMM has set other registers meanwhile */
		resume_end(vcpu);
		return EXIT_RESUME;
	}
	return access_emulate(vcpu);
}

static int eoi_complete(struct vcpu *vcpu)
{
	return lapic_eoi_exit_pending(vcpu) ? EXIT_USER : EXIT_RESUME;
}

static int emulate_done(struct vcpu *vcpu, const struct access *a)
{
	struct umbra_run *run = vcpu->run;

	resume_end(vcpu);
	if (!a->ctx.rep_yield) {
		run->rip = a->ctx.rip;
		run->rflags = a->ctx.rflags;
		vcpu_dirty(vcpu, UMBRA_STATE_RIP);
		vcpu_insn_done(vcpu);
	}
	if (!vcpu->resume->posted)
		return eoi_complete(vcpu);
	vcpu->complete = eoi_complete;
	return EXIT_USER;
}

/* As KVM: an unprivileged program gets #UD and cannot stop its machine, unless the VMM wants to see that. */
static int emulate_unknown(struct vcpu *vcpu, const struct access *a)
{
	resume_end(vcpu);
	if (!vcpu->vm->exit_on_emulation_failure) {
		inject_ud(vcpu);
		if (a->ctx.cpl)
			return EXIT_RESUME;
	}
	return access_internal_error(vcpu, (const uint8_t *)a->ctx.bytes, a->ctx.fetched);
}

int access_emulate(struct vcpu *vcpu)
{
	struct emul_resume *resume = vcpu->resume;
	enum emul_result result;
	struct access a;

	access_init(&a, vcpu);
	a.ctx.insn = &resume->insn;
	a.ctx.decoded = resume->active;
	if (!resume->active) {
		resume->active = true;
		resume->rip = vcpu->run->rip;
		resume->entries = 0;
		resume->batch = 0;
	}
	resume->cursor = 0;
	resume->commits = 0;
	resume->asked = resume->posted = false;
	result = emulate(&a.ctx);
	vcpu_unpark_fpu(vcpu); /* where vector registers were used */
	switch (result) {
	case EMUL_DONE:
		return emulate_done(vcpu, &a);
	case EMUL_USER:
		resume_sync(resume, a.ctx.commits);
		vcpu->complete = access_complete;
		return EXIT_USER;
	case EMUL_FAULT:
		if (!a.unfetchable) {
			resume_end(vcpu);
			return EXIT_RESUME;
		}
		break;
	case EMUL_UNKNOWN:
		break;
	}
	return emulate_unknown(vcpu, &a);
}

uint32_t access_fetch(struct vcpu *vcpu, uint8_t *bytes, uint32_t len)
{
	struct access a;
	uint64_t gva;
	uint32_t first;

	access_init(&a, vcpu);
	a.quiet = true;
	gva = a.ctx.rip;
	if (!vcpu_code64(vcpu))
		gva = (uint32_t)(gva + a.ctx.seg[UMBRA_CS].base);
	first = page_piece(gva, len);
	if (op_fetch(&a.ctx, gva, bytes, first) != EMUL_OK)
		return 0;
	if (first < len && op_fetch(&a.ctx, gva + first, bytes + first, len - first) != EMUL_OK)
		return first;
	return len;
}

uint8_t access_insn_length(struct vcpu *vcpu)
{
	struct access a;

	access_init(&a, vcpu);
	a.quiet = true;
	return emulate_length(&a.ctx);
}

bool access_operand(struct vcpu *vcpu, bool write, uint64_t *value, uint8_t *len, int *ret)
{
	enum emul_result result;
	struct access a;

	access_init(&a, vcpu);
	a.insn.length = 0;
	a.ram_only = true;
	result = emulate_operand(&a.ctx, write, value);
	*len = a.insn.length;
	*ret = EXIT_RESUME;
	if (result == EMUL_UNKNOWN || a.unfetchable)
		*ret = access_internal_error(vcpu, (const uint8_t *)a.ctx.bytes, a.ctx.fetched);
	return result == EMUL_DONE;
}
