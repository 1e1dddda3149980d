// SPDX-License-Identifier: GPL-2.0-or-later
/* The emulator's view of a vCPU: registers, page tables, memory, devices. */
#include <errno.h>
#include <string.h>

#include "core.h"
#include "routing.h"
#include "sys.h"
#include "vcpu.h"

#define PAGE_MASK 0xfffULL

struct access {
	struct emul_ctx ctx; /* first: ops get a pointer to it */
	struct vcpu *vcpu;
	struct walk_regs regs;
	bool quiet;	  /* raise nothing */
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

/* ---- what the VMM answers ---- */

/* Answers from before an iteration that is complete are used up. */
static void answers_sync(struct access *a)
{
	struct emul_resume *resume = a->vcpu->resume;

	if (resume->commits == a->ctx.commits)
		return;
	resume->commits = a->ctx.commits;
	resume->answers = resume->cursor = 0;
	resume->pio_done = false;
}

static struct resume_answer *answer_next(struct emul_resume *resume, uint64_t gpa, uint32_t len, bool write)
{
	struct resume_answer *answer = &resume->answer[resume->cursor];

	if (resume->cursor >= resume->answers || answer->gpa != gpa || answer->len != len || answer->write != write) {
		resume->answers = resume->cursor; /* what follows was for another access */
		return NULL;
	}
	resume->cursor++;
	return answer;
}

static int mmio_to_user(struct vcpu *vcpu, const struct resume_answer *answer)
{
	struct kvm_run *kvm = vcpu->kvm;

	kvm->exit_reason = KVM_EXIT_MMIO;
	kvm->mmio.phys_addr = answer->gpa;
	kvm->mmio.len = answer->len;
	kvm->mmio.is_write = answer->write;
	memset(kvm->mmio.data, 0, sizeof(kvm->mmio.data));
	if (answer->write)
		memcpy(kvm->mmio.data, answer->data, answer->len);
	vcpu->resume->pending_mmio = true;
	return EMUL_PENDING;
}

/* len: 1..8, within a page. */
static int mmio(struct access *a, uint64_t gpa, uint8_t *data, uint32_t len, bool write)
{
	struct emul_resume *resume = a->vcpu->resume;
	struct resume_answer *answer;
	uint64_t value = 0;

	answers_sync(a);
	answer = answer_next(resume, gpa, len, write);
	if (answer) {
		if (!write)
			memcpy(data, answer->data, len);
		return EMUL_OK;
	}
	answer = &resume->answer[resume->answers];
	answer->gpa = gpa;
	answer->len = len;
	answer->write = write;
	if (write) {
		memcpy(answer->data, data, len);
		memcpy(&value, data, len);
		if (eventfds_ioevent(a->vcpu->vm, false, gpa, len, value)) {
			/* Remembered: were the instruction asked again, it must not signal twice. */
			if (resume->answers < RESUME_ANSWERS)
				resume->cursor = ++resume->answers;
			return EMUL_OK;
		}
	}
	if (resume->answers >= RESUME_ANSWERS) {
		a->unfetchable = true; /* no instruction has so many pieces */
		return EMUL_RAISED;
	}
	return mmio_to_user(a->vcpu, answer);
}

static bool lapic_page(const struct vcpu *vcpu, uint64_t gpa)
{
	return vcpu->lapic.enabled && !vcpu->lapic.x2apic && !((gpa ^ vcpu->apic_base) & ~PAGE_MASK);
}

/* Guest-physical, within a page. */
static int gpa_access(struct access *a, uint64_t gpa, uint8_t *data, uint32_t len, bool write)
{
	struct vcpu *vcpu = a->vcpu;

	if (lapic_page(vcpu, gpa) && len <= 8) {
		uint32_t offset = (uint32_t)(gpa & PAGE_MASK);

		if (write)
			lapic_mmio_write(vcpu, offset, len, data);
		else if (!lapic_mmio_read(vcpu, offset, len, data))
			memset(data, 0, len);
		return EMUL_OK;
	}
	if (write ? !vm_write_gpa(vcpu->vm, gpa, data, len) : !vm_read_gpa(vcpu->vm, gpa, data, len))
		return EMUL_OK;
	while (len) {
		uint32_t piece = len < 8 ? len : 8;
		int ret = mmio(a, gpa, data, piece, write);

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

static int op_io(struct emul_ctx *ctx, bool in, uint16_t port, uint32_t size, void *data, uint32_t count)
{
	struct access *a = access_of(ctx);
	struct vcpu *vcpu = a->vcpu;
	struct emul_resume *resume = vcpu->resume;
	struct kvm_run *kvm = vcpu->kvm;
	uint64_t value = 0;

	if (!size || size > 4 || !count || count > 4096 / size)
		return EMUL_RAISED;
	answers_sync(a);
	if (resume->pio_done && resume->pio_in == in && resume->pio_port == port && resume->pio_size == size &&
	    resume->pio_count == count) {
		resume->pio_done = false;
		if (in)
			memcpy(data, vcpu->pio, size * count);
		return EMUL_OK;
	}
	if (!in && count == 1) {
		memcpy(&value, data, size);
		if (eventfds_ioevent(vcpu->vm, true, port, size, value))
			return EMUL_OK;
	}
	if (!in)
		memcpy(vcpu->pio, data, size * count);
	resume->pio_in = in;
	resume->pio_port = port;
	resume->pio_size = size;
	resume->pio_count = count;
	resume->pending_pio = true;
	kvm->exit_reason = KVM_EXIT_IO;
	kvm->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	kvm->io.size = (uint8_t)size;
	kvm->io.port = port;
	kvm->io.count = count;
	kvm->io.data_offset = CHANNEL_PIO_OFFSET;
	return EMUL_PENDING;
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
	reg &= 15;
	memcpy(data, park_at(ctx, XSAVE_XMM + reg * 16), len < 16 ? len : 16);
	if (len == 32)
		memcpy((uint8_t *)data + 16, park_at(ctx, XSAVE_YMM_HIGH + reg * 16), 16);
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

static const struct emul_ops access_ops = {
	.read = op_read,
	.write = op_write,
	.fetch = op_fetch,
	.io = op_io,
	.fault = op_fault,
	.vec_read = op_vec_read,
	.vec_write = op_vec_write,
	.probe_write = op_probe_write,
};

static void access_init(struct access *a, struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;

	vcpu_fetch(vcpu, UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE | UMBRA_STATE_SEG_DATA);
	a->ctx = (struct emul_ctx) {
		.ops = &access_ops,
		.opaque = a,
		.gpr = (uint64_t *)run->gpr,
		.rip = run->rip,
		.rflags = run->rflags,
		.cr0 = run->cr0,
		.cr4 = run->cr4,
		.efer = run->efer,
		.cpl = run->seg[UMBRA_SS].attr >> 5 & 3,
	};
	for (int i = 0; i < 6; i++)
		a->ctx.seg[i] = (struct emul_segment) {
			.base = run->seg[i].base,
			.limit = run->seg[i].limit,
			.attr = run->seg[i].attr,
			.selector = run->seg[i].selector,
		};
	a->vcpu = vcpu;
	a->regs = (struct walk_regs) {
		.cr0 = run->cr0,
		.cr3 = run->cr3,
		.cr4 = run->cr4,
		.efer = run->efer,
		.rflags = run->rflags,
		.maxphyaddr = vcpu->maxphyaddr,
	};
	a->quiet = false;
	a->unfetchable = false;
}

/* ---- one instruction ---- */

int access_internal_error(struct vcpu *vcpu, const uint8_t *bytes, uint32_t len)
{
	struct kvm_run *kvm = vcpu->kvm;

	kvm->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	kvm->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	kvm->emulation_failure.ndata = len ? 3 : 1; /* words of 64 bits: flags, then size and bytes */
	kvm->emulation_failure.flags = len ? KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES : 0;
	if (len > sizeof(kvm->emulation_failure.insn_bytes))
		len = sizeof(kvm->emulation_failure.insn_bytes);
	kvm->emulation_failure.insn_size = (uint8_t)len;
	memset(kvm->emulation_failure.insn_bytes, 0x90, sizeof(kvm->emulation_failure.insn_bytes));
	if (len)
		memcpy(kvm->emulation_failure.insn_bytes, bytes, len);
	return EXIT_USER;
}

static void resume_end(struct vcpu *vcpu)
{
	vcpu->resume->active = false;
	vcpu->resume->hint_access = 0;
}

static int access_complete(struct vcpu *vcpu)
{
	struct emul_resume *resume = vcpu->resume;

	if (resume->pending_mmio) {
		struct resume_answer *answer = &resume->answer[resume->answers];

		if (!answer->write)
			memcpy(answer->data, vcpu->kvm->mmio.data, answer->len);
		resume->answers++;
		resume->pending_mmio = false;
	}
	if (resume->pending_pio) {
		resume->pio_done = true;
		resume->pending_pio = false;
	}
	if (vcpu->run->rip != resume->rip) { /* the VMM has set other registers meanwhile */
		resume_end(vcpu);
		return EXIT_RESUME;
	}
	return access_emulate(vcpu);
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
	return lapic_eoi_exit_pending(vcpu) ? EXIT_USER : EXIT_RESUME;
}

/* As KVM: an unprivileged program gets #UD and cannot stop its machine. */
static int emulate_unknown(struct vcpu *vcpu, const struct access *a)
{
	resume_end(vcpu);
	inject_ud(vcpu);
	if (a->ctx.cpl)
		return EXIT_RESUME;
	return access_internal_error(vcpu, a->ctx.bytes, a->ctx.length);
}

int access_emulate(struct vcpu *vcpu)
{
	struct emul_resume *resume = vcpu->resume;
	enum emul_result result;
	struct access a;

	if (!resume->active) {
		resume->active = true;
		resume->rip = vcpu->run->rip;
		resume->answers = 0;
		resume->pio_done = false;
	}
	resume->cursor = 0;
	resume->commits = 0;
	resume->pending_mmio = resume->pending_pio = false;
	access_init(&a, vcpu);
	vcpu_park_fpu(vcpu);
	result = emulate(&a.ctx);
	vcpu_unpark_fpu(vcpu);
	switch (result) {
	case EMUL_DONE:
		return emulate_done(vcpu, &a);
	case EMUL_USER:
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
	uint8_t len;

	access_init(&a, vcpu);
	a.quiet = true;
	vcpu_park_fpu(vcpu);
	len = emulate_length(&a.ctx);
	vcpu_unpark_fpu(vcpu);
	return len;
}
