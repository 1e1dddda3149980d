// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The same snippets on Umbra and on stock KVM, with the same state at the start: what they do to the outside and the
 * state they end in must be the same. One hypervisor after the other, in one boot; where stock KVM holds the hardware as
 * long as it is loaded: "oracle umbra FILE", change modules, "oracle kvm FILE", and the files are compared.
 */
#include "life.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define TRACE_SIZE (64 << 10)
#define MAX_EXITS 64

struct oracle_case {
	const char *name;
	enum guest_mode mode;
	struct snippet code;
	int start; /* at that marked instruction; -1: at the snippet's start */
	struct umbra_event event;
	uint64_t rdi, rbx, rcx, rsi;
	uint64_t rflags;    /* 0: as usual */
	uint16_t idt_limit; /* 0: as usual */
};

static char *trace; /* what happens, in words */
static size_t trace_at;

static void trace_add(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void trace_add(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (trace_at < TRACE_SIZE)
		trace_at += (size_t)vsnprintf(trace + trace_at, TRACE_SIZE - trace_at, format, args);
	va_end(args);
}

#define EVENT(t, v, l)                                                            \
	{                                                                         \
		.vector = v, .type = t, .flags = UMBRA_EVENT_VALID, .insn_len = l \
	}
#define EVENT_CODE(v, c)                                                                                   \
	{                                                                                                  \
		.vector = v, .type = UMBRA_EVENT_EXC, .flags = UMBRA_EVENT_VALID | UMBRA_EVENT_ERROR_CODE, \
		.error_code = c                                                                            \
	}

static size_t cases_make(struct oracle_case *cases, size_t room)
{
	const struct oracle_case made[] = {
		{ "real mode", MODE_REAL, SNIPPET(real), -1 },
		{ "real to protected", MODE_REAL, SNIPPET(real_to_prot), -1 },
		{ "protected", MODE_PROT32, SNIPPET(flat32), -1, .rdi = GPA_DATA },
		{ "32-bit paging", MODE_PAGING32, SNIPPET(flat32), -1, .rdi = GPA_DATA },
		{ "PAE paging", MODE_PAE, SNIPPET(flat32), -1, .rdi = GVA_ALIAS + GPA_DATA },
		{ "checksum", MODE_LONG64, SNIPPET(checksum), -1, .rsi = 0, .rcx = GPA_DATA / 8 },
		{ "copy", MODE_LONG64, SNIPPET(copy), -1, .rsi = GPA_STUBS, .rdi = GPA_DATA, .rcx = 300 },
		{ "ud2", MODE_LONG64, SNIPPET(traps), 0 },
		{ "int3", MODE_LONG64, SNIPPET(traps), 1 },
		{ "int 80h", MODE_LONG64, SNIPPET(traps), 2 },
		{ "div", MODE_LONG64, SNIPPET(traps), 3 },
		{ "page fault", MODE_LONG64, SNIPPET(traps), 4, .rdi = 0x200000008 },
		{ "not canonical", MODE_LONG64, SNIPPET(traps), 5, .rbx = 0x8000000000000000 },
		{ "bad selector", MODE_LONG64, SNIPPET(traps), 6, .rbx = 0x1230 },
		{ "user hlt", MODE_USER64, SNIPPET(hlt_user), -1 },
		{ "user in", MODE_USER64, SNIPPET(in_user), -1 },
		{ "mmio read", MODE_LONG64, SNIPPET(load), -1, .rdi = GVA_ALIAS + GPA_HOLE + 0x120 },
		{ "mmio write", MODE_LONG64, SNIPPET(store), -1, .rdi = GPA_HOLE + 0x128, .rbx = 0x1122334455667788 },
		{ "triple fault", MODE_LONG64, SNIPPET(ud), -1, .idt_limit = 1 },
		{ "clts", MODE_LONG64, SNIPPET(clts), -1 },
		{ "lmsw", MODE_LONG64, SNIPPET(lmsw), -1 },
		{ "cr0 toggle", MODE_LONG64, SNIPPET(cr0_toggle), -1, .rbx = 1 << 16 },
		{ "cr0 toggle NE", MODE_LONG64, SNIPPET(cr0_toggle), -1, .rbx = 1 << 5 },
		{ "cr4 toggle", MODE_LONG64, SNIPPET(cr4_toggle), -1, .rbx = 1 << 7 },
		{ "interrupt", MODE_LONG64, SNIPPET(nops), -1, .event = EVENT(UMBRA_EVENT_INTR, 0x41, 0) },
		{ "NMI", MODE_LONG64, SNIPPET(nops), -1, .event = EVENT(UMBRA_EVENT_NMI, 2, 0) },
		{ "#UD injected", MODE_LONG64, SNIPPET(nops), -1, .event = EVENT(UMBRA_EVENT_EXC, 6, 0) },
		{ "#GP injected", MODE_LONG64, SNIPPET(nops), -1, .event = EVENT_CODE(13, 0x1238) },
	};

	need(room >= ARRAY_SIZE(made), "too many cases");
	memcpy(cases, made, sizeof(made));
	return ARRAY_SIZE(made);
}

/* ---- the same for both ---- */

static void memory_fill(unsigned char *mem, const struct oracle_case *c)
{
	static const unsigned char handler[] = { 0xbb, 0xef, 0xbe, 0xcf };
	uint16_t limit = 63;
	uint32_t base = GPA_GDT;

	if (c->mode != MODE_REAL)
		return;
	memcpy(mem + 0x700, handler, sizeof(handler));
	memcpy(mem + 4 * 0x21, "\x00\x07\x00\x00", 4);
	memcpy(mem + 0x500, &limit, 2);
	memcpy(mem + 0x502, &base, 4);
}

static void state_fill(struct umbra_run *run, const struct oracle_case *c)
{
	vcpu_state(run, c->mode, c->mode == MODE_REAL ? 0 : GPA_CODE);
	if (c->start >= 0)
		run->rip += c->code.at[c->start].where - (uintptr_t)c->code.start;
	for (int i = 8; i < UMBRA_GPRS; i++)
		run->gpr[i] = 0x1000 + (uint64_t)i;
	run->gpr[UMBRA_RAX] = 7;
	run->gpr[UMBRA_RDI] = c->rdi;
	run->gpr[UMBRA_RSI] = c->rsi;
	run->gpr[UMBRA_RBX] = c->rbx;
	run->gpr[UMBRA_RCX] = c->rcx;
	if (c->rflags)
		run->rflags = c->rflags;
	if (c->idt_limit)
		run->idtr.limit = c->idt_limit;
	run->cr0 |= c->code.start == SNIPPET(clts).start ? 8 : 0;
	run->inject = c->event;
}

static void state_trace(const struct umbra_run *run)
{
	static const char *const names[] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };

	for (int i = 0; i < UMBRA_GPRS; i++)
		trace_add(" r%d=%llx", i, (unsigned long long)run->gpr[i]);
	trace_add("\n rip=%llx rflags=%llx cr0=%llx cr3=%llx cr4=%llx efer=%llx\n", (unsigned long long)run->rip,
		  (unsigned long long)run->rflags, (unsigned long long)run->cr0, (unsigned long long)run->cr3,
		  (unsigned long long)run->cr4, (unsigned long long)run->efer);
	for (int i = 0; i < UMBRA_SEGS; i++)
		if (run->seg[i].attr & 0x80)
			trace_add(" %s=%x:%llx:%x:%x", names[i], run->seg[i].selector,
				  (unsigned long long)run->seg[i].base, run->seg[i].limit, run->seg[i].attr);
		else
			trace_add(" %s=unusable", names[i]);
	trace_add("\n gdtr=%llx:%x idtr=%llx:%x\n", (unsigned long long)run->gdtr.base, run->gdtr.limit,
		  (unsigned long long)run->idtr.base, run->idtr.limit);
}

/* 1: the snippet is at its end. value: what an IN gives. */
static int io_trace(const unsigned char *mem, int in, uint16_t port, unsigned int size, uint64_t value, uint64_t rsp)
{
	trace_add(" %s %x size %u value %llx\n", in ? "in" : "out", port, size, (unsigned long long)value);
	if (port == PORT_VECTORED) {
		trace_add(" frame");
		for (int i = 0; i < 7 && rsp < GUEST_MEM - 64; i++) {
			uint64_t word;

			memcpy(&word, mem + rsp + 8 * (uint64_t)i, 8);
			/* RFLAGS.RF of a fault: QEMU 7.2 does not set it when it delivers, KVM does when it injects. */
			if (is_svm() && (i == 3 || i == 4))
				word &= ~(1ULL << 16);
			trace_add(" %llx", (unsigned long long)word);
		}
		trace_add("\n");
	}
	return port == PORT_DONE || port == PORT_VECTORED;
}

static uint64_t mask_of(unsigned int size)
{
	return size == 4 ? 0xffffffff : size == 2 ? 0xffff : 0xff;
}

#define IN_VALUE 0x5aULL

/* ---- Umbra ---- */

static void umbra_cr(struct vcpu *v)
{
	struct umbra_run *run = v->run;
	uint64_t value = run->gpr[v->exit.cr.gpr & 15];

	if (v->exit.cr.op == VMEXIT_CR_CLTS)
		run->cr0 &= ~8ULL;
	else if (v->exit.cr.op == VMEXIT_CR_LMSW)
		run->cr0 = (run->cr0 & ~0xeULL) | (v->exit.cr.lmsw & 0xf);
	else if (v->exit.cr.op == VMEXIT_CR_MOV_TO && v->exit.cr.cr == 0)
		run->cr0 = value | 0x10;
	else if (v->exit.cr.op == VMEXIT_CR_MOV_TO && v->exit.cr.cr == 4)
		run->cr4 = value;
	else if (v->exit.cr.op == VMEXIT_CR_MOV_FROM)
		run->gpr[v->exit.cr.gpr & 15] = v->exit.cr.cr ? run->cr4 : run->cr0;
	else
		need(0, "%s", vcpu_describe(v));
	run->dirty |= UMBRA_STATE_CR;
	vcpu_skip(v);
}

static int umbra_step(struct vcpu *v)
{
	struct umbra_run *run = v->run;
	uint64_t mask;

	switch (vcpu_exit(v)) {
	case VMEXIT_IO:
		mask = mask_of(v->exit.io.size);
		if (v->exit.io.flags & VMEXIT_IO_IN)
			run->gpr[UMBRA_RAX] =
				v->exit.io.size == 4 ? IN_VALUE : (run->gpr[UMBRA_RAX] & ~mask) | IN_VALUE;
		vcpu_skip(v);
		return io_trace(v->vm->mem, v->exit.io.flags & VMEXIT_IO_IN, v->exit.io.port, v->exit.io.size,
				run->gpr[UMBRA_RAX] & mask, run->gpr[UMBRA_RSP]);
	case VMEXIT_CR:
		umbra_cr(v);
		return 0;
	case VMEXIT_HLT:
		trace_add(" hlt\n");
		vcpu_skip(v);
		return 0;
	case VMEXIT_MEM:
		trace_add(" mmio %s %llx\n", v->exit.mem.access & UMBRA_MEM_WRITE ? "write" : "read",
			  (unsigned long long)v->exit.mem.gpa);
		return 2;
	case VMEXIT_SHUTDOWN:
		trace_add(" shutdown\n");
		return 2;
	default:
		trace_add(" %s\n", vcpu_describe(v));
		return 2;
	}
}

static void umbra_case(struct guest *g, const struct oracle_case *c)
{
	int end = 0;

	memset(g->vm.mem, 0, g->vm.size);
	vcpu_load(&g->vcpu, c->mode, c->code);
	memory_fill(g->vm.mem, c);
	state_fill(g->vcpu.run, c);
	g->vcpu.run->want = UMBRA_STATE_ALL;
	g->vcpu.run->intercepts = UMBRA_ICPT_HLT;
	trace_add("%s\n", c->name);
	for (int i = 0; i < MAX_EXITS && !end; i++)
		end = umbra_step(&g->vcpu);
	if (end == 1)
		state_trace(g->vcpu.run);
}

static void umbra_all(const struct oracle_case *cases, size_t count)
{
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	for (size_t i = 0; i < count; i++)
		umbra_case(&g, &cases[i]);
	vcpu_destroy(&g.vcpu);
	vm_destroy(&g.vm);
}

/* ---- stock KVM ---- */

struct kvm_guest {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	unsigned char *mem;
};

#define KVM_CALL(fd, nr, arg) need(ioctl(fd, nr, arg) >= 0, "%s: %s", #nr, strerror(errno))

static void kvm_guest_new(struct kvm_guest *k)
{
	struct kvm_userspace_memory_region region = { .memory_size = GUEST_MEM };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 128 * sizeof(cpuid->entries[0]));
	long size;

	need(cpuid, "memory");
	cpuid->nent = 128;

	k->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (k->kvm < 0)
		skip_test("no /dev/kvm: %s; load kvm-intel or kvm-amd first", strerror(errno));
	k->vm = ioctl(k->kvm, KVM_CREATE_VM, 0);
	need(k->vm >= 0, "KVM_CREATE_VM: %s", strerror(errno));
	ioctl(k->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	k->mem = memory_new(GUEST_MEM, 2 << 20);
	region.userspace_addr = (uintptr_t)k->mem;
	KVM_CALL(k->vm, KVM_SET_USER_MEMORY_REGION, &region);
	k->vcpu = ioctl(k->vm, KVM_CREATE_VCPU, 0);
	need(k->vcpu >= 0, "KVM_CREATE_VCPU: %s", strerror(errno));
	KVM_CALL(k->kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	KVM_CALL(k->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	size = ioctl(k->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	k->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, k->vcpu, 0);
	need(k->run != MAP_FAILED, "mmap of kvm_run");
}

static struct kvm_segment kvm_segment_of(const struct umbra_segment *s)
{
	return (struct kvm_segment) {
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & 15,
		.s = s->attr >> 4 & 1,
		.dpl = s->attr >> 5 & 3,
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 12 & 1,
		.l = s->attr >> 13 & 1,
		.db = s->attr >> 14 & 1,
		.g = s->attr >> 15 & 1,
		.unusable = !(s->attr & 0x80),
	};
}

static struct umbra_segment umbra_segment_of(const struct kvm_segment *s)
{
	return (struct umbra_segment) {
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.attr = s->unusable ? 0
				    : (uint16_t)(s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->avl << 12 |
						 s->l << 13 | s->db << 14 | s->g << 15),
	};
}

/* kvm_regs has an order of its own. */
static void kvm_gprs(struct kvm_regs *r, uint64_t *gpr, int to_kvm)
{
	__u64 *const fields[UMBRA_GPRS] = { &r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi,
					    &r->r8,  &r->r9,  &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15 };

	for (int i = 0; i < UMBRA_GPRS; i++)
		if (to_kvm)
			*fields[i] = gpr[i];
		else
			gpr[i] = *fields[i];
}

static void kvm_load(struct kvm_guest *k, struct umbra_run *run)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = run->rip, .rflags = run->rflags };
	struct kvm_segment *const segs[UMBRA_SEGS] = { &s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs, &s.ldt, &s.tr };
	struct kvm_vcpu_events ev = { 0 };

	KVM_CALL(k->vcpu, KVM_GET_SREGS, &s);
	for (int i = 0; i < UMBRA_SEGS; i++)
		*segs[i] = kvm_segment_of(&run->seg[i]);
	s.gdt = (struct kvm_dtable) { .base = run->gdtr.base, .limit = (uint16_t)run->gdtr.limit };
	s.idt = (struct kvm_dtable) { .base = run->idtr.base, .limit = (uint16_t)run->idtr.limit };
	s.cr0 = run->cr0;
	s.cr2 = run->cr2;
	s.cr3 = run->cr3;
	s.cr4 = run->cr4;
	s.efer = run->efer;
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	if (run->inject.flags & UMBRA_EVENT_VALID && run->inject.type == UMBRA_EVENT_INTR)
		s.interrupt_bitmap[run->inject.vector / 64] |= 1ULL << (run->inject.vector & 63);
	KVM_CALL(k->vcpu, KVM_SET_SREGS, &s);
	kvm_gprs(&r, (uint64_t *)run->gpr, 1);
	KVM_CALL(k->vcpu, KVM_SET_REGS, &r);
	KVM_CALL(k->vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ev.exception.injected = 0;
	ev.exception.pending = 0;
	ev.nmi.injected = 0;
	ev.nmi.masked = 0;
	ev.nmi.pending = 0;
	ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	if (run->inject.flags & UMBRA_EVENT_VALID && run->inject.type == UMBRA_EVENT_NMI)
		ev.nmi.pending = 1;
	if (run->inject.flags & UMBRA_EVENT_VALID && run->inject.type == UMBRA_EVENT_EXC) {
		ev.exception.injected = 1;
		ev.exception.nr = run->inject.vector;
		ev.exception.has_error_code = !!(run->inject.flags & UMBRA_EVENT_ERROR_CODE);
		ev.exception.error_code = run->inject.error_code;
	}
	KVM_CALL(k->vcpu, KVM_SET_VCPU_EVENTS, &ev);
}

void kvm_spin(void)
{
	struct {
		uint32_t count, pad; /* as struct kvm_msrs */
		struct kvm_msr_entry entry[4];
	} msrs = { 4,
		   0,
		   { { .index = 0xc0000081, .data = 0x1230000800000000 }, /* STAR, LSTAR, CSTAR, FMASK */
		     { .index = 0xc0000082, .data = 0xffffffffdead0000 },
		     { .index = 0xc0000083, .data = 0xffffffffdead1000 },
		     { .index = 0xc0000084, .data = 0x100 } } };
	struct umbra_run state;
	struct kvm_guest k;
	struct vm vm;
	struct vcpu vcpu = { .vm = &vm, .run = &state };

	kvm_guest_new(&k);
	vm.mem = k.mem;
	vcpu_load(&vcpu, MODE_LONG64, SNIPPET(spin));
	kvm_load(&k, &state);
	need(ioctl(k.vcpu, KVM_SET_MSRS, &msrs) == 4, "KVM_SET_MSRS");
	while (!ioctl(k.vcpu, KVM_RUN, 0) || errno == EINTR)
		;
	fail("KVM_RUN: %s", strerror(errno));
}

static void kvm_store(struct kvm_guest *k, struct umbra_run *run)
{
	struct kvm_sregs s;
	struct kvm_regs r;
	const struct kvm_segment *const segs[UMBRA_SEGS] = { &s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs, &s.ldt, &s.tr };

	KVM_CALL(k->vcpu, KVM_GET_SREGS, &s);
	KVM_CALL(k->vcpu, KVM_GET_REGS, &r);
	for (int i = 0; i < UMBRA_SEGS; i++)
		run->seg[i] = umbra_segment_of(segs[i]);
	run->gdtr = (struct umbra_dtable) { .base = s.gdt.base, .limit = s.gdt.limit };
	run->idtr = (struct umbra_dtable) { .base = s.idt.base, .limit = s.idt.limit };
	run->cr0 = s.cr0;
	run->cr3 = s.cr3;
	run->cr4 = s.cr4;
	run->efer = s.efer;
	kvm_gprs(&r, (uint64_t *)run->gpr, 0);
	run->rip = r.rip;
	run->rflags = r.rflags;
}

/* Completes the instruction, enters nothing. */
static void kvm_complete(struct kvm_guest *k)
{
	k->run->immediate_exit = 1;
	need(ioctl(k->vcpu, KVM_RUN, 0) < 0 && errno == EINTR, "KVM_RUN with immediate_exit");
	k->run->immediate_exit = 0;
}

static int kvm_io(struct kvm_guest *k, struct umbra_run *state)
{
	struct kvm_run *run = k->run;
	unsigned char *data = (unsigned char *)run + run->io.data_offset;
	int in = run->io.direction == KVM_EXIT_IO_IN;
	uint16_t port = run->io.port;
	unsigned int size = run->io.size;
	uint64_t value = IN_VALUE;

	if (in)
		memcpy(data, &value, size);
	else {
		value = 0;
		memcpy(&value, data, size);
	}
	kvm_complete(k);
	kvm_store(k, state);
	return io_trace(k->mem, in, port, size, value, state->gpr[UMBRA_RSP]);
}

static int kvm_step(struct kvm_guest *k, struct umbra_run *state)
{
	struct kvm_run *run = k->run;

	while (ioctl(k->vcpu, KVM_RUN, 0) < 0)
		need(errno == EINTR, "KVM_RUN: %s", strerror(errno));
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return kvm_io(k, state);
	case KVM_EXIT_HLT:
		trace_add(" hlt\n");
		return 0;
	case KVM_EXIT_MMIO:
		trace_add(" mmio %s %llx\n", run->mmio.is_write ? "write" : "read",
			  (unsigned long long)run->mmio.phys_addr);
		kvm_complete(k); /* nothing of it must be left for the next case */
		return 2;
	case KVM_EXIT_SHUTDOWN:
		trace_add(" shutdown\n");
		return 2;
	default:
		trace_add(" kvm exit %u\n", run->exit_reason);
		return 2;
	}
}

static void kvm_case(struct kvm_guest *k, const struct oracle_case *c)
{
	struct umbra_run state;
	struct vm fake = { .mem = k->mem, .size = GUEST_MEM };
	struct vcpu fake_vcpu = { .run = &state, .vm = &fake };
	int end = 0;

	memset(k->mem, 0, GUEST_MEM);
	vcpu_load(&fake_vcpu, c->mode, c->code); /* writes tables and code */
	memory_fill(k->mem, c);
	state_fill(&state, c);
	kvm_load(k, &state);
	trace_add("%s\n", c->name);
	for (int i = 0; i < MAX_EXITS && !end; i++)
		end = kvm_step(k, &state);
	if (end == 1)
		state_trace(&state);
}

static void kvm_all(const struct oracle_case *cases, size_t count)
{
	struct kvm_guest k;

	kvm_guest_new(&k);
	for (size_t i = 0; i < count; i++)
		kvm_case(&k, &cases[i]);
}

/* ---- comparing ---- */

static char *trace_of(int umbra)
{
	struct oracle_case cases[64];
	size_t count = cases_make(cases, ARRAY_SIZE(cases));

	trace = calloc(1, TRACE_SIZE);
	need(trace, "memory");
	trace_at = 0;
	if (umbra)
		umbra_all(cases, count);
	else
		kvm_all(cases, count);
	return trace;
}

/* Lines that differ, with the case they belong to. */
static void compare(char *ours, char *theirs)
{
	char *save_a, *save_b, *a = strtok_r(ours, "\n", &save_a), *b = strtok_r(theirs, "\n", &save_b), name[100] = "";
	unsigned int lines = 0;

	for (; a && b; a = strtok_r(NULL, "\n", &save_a), b = strtok_r(NULL, "\n", &save_b), lines++) {
		if (*a != ' ')
			snprintf(name, sizeof(name), "%s", a);
		if (!strcmp(a, b))
			continue;
		printf("# %s\n#  umbra:%s\n#  kvm:  %s\n", name, a, b);
		fail("%s differs from stock KVM", name);
		if ((*a != ' ') != (*b != ' '))
			return; /* out of step */
	}
	check(!a && !b, "one trace is longer");
	note("%u lines of trace compared", lines);
	check(lines > 50, "too few lines");
}

static void oracle_both(void)
{
	char *ours = trace_of(1);

	need(!counters_zero_wait(), "Umbra still holds something");
	compare(ours, trace_of(0));
}

static const char *record_path;
static int record_umbra;

static void oracle_record(void)
{
	char *text = trace_of(record_umbra);
	FILE *file = fopen(record_path, "w");

	need(file && fputs(text, file) >= 0 && !fclose(file), "cannot write %s", record_path);
}

static char *file_read(const char *path)
{
	char *text = calloc(1, TRACE_SIZE);
	FILE *file = fopen(path, "r");

	need(text && file && fread(text, 1, TRACE_SIZE - 1, file) > 0, "cannot read %s", path);
	fclose(file);
	return text;
}

static const char *compare_path;

static void oracle_compare(void)
{
	compare(file_read(record_path), file_read(compare_path));
}

int oracle_main(int argc, char **argv)
{
	static const struct test both = { "both", oracle_both, 120 }, record = { "record", oracle_record, 120 },
				 files = { "compare", oracle_compare, 10 };

	if (!argc)
		return run_tests("oracle", &both, 1);
	record_path = argc > 1 ? argv[1] : "";
	if (argc == 2 && (!strcmp(argv[0], "umbra") || !strcmp(argv[0], "kvm"))) {
		record_umbra = !strcmp(argv[0], "umbra");
		return run_tests("oracle", &record, 1);
	}
	if (argc == 3 && !strcmp(argv[0], "compare")) {
		compare_path = argv[2];
		return run_tests("oracle", &files, 1);
	}
	printf("not ok oracle: usage: oracle [umbra FILE | kvm FILE | compare FILE FILE]\n");
	return 2;
}
