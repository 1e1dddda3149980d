// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_GET/SET_REGS, SREGS, SREGS2, DEBUGREGS */
#include <errno.h>
#include <string.h>

#include "core.h"
#include "fault.h"
#include "vcpu_state.h"

#define GROUPS_SREGS (UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE | UMBRA_STATE_SEG_DATA | UMBRA_STATE_SEG_SYS)
#define SEG_P (1 << 7)

int state_get_regs(struct vcpu *vcpu, struct kvm_regs *regs)
{
	const struct umbra_run *run = vcpu->run;
	const __u64 *gpr = run->gpr;

	vcpu_fetch(vcpu, UMBRA_STATE_RIP);
	*regs = (struct kvm_regs) {
		.rax = gpr[UMBRA_RAX],
		.rbx = gpr[UMBRA_RBX],
		.rcx = gpr[UMBRA_RCX],
		.rdx = gpr[UMBRA_RDX],
		.rsi = gpr[UMBRA_RSI],
		.rdi = gpr[UMBRA_RDI],
		.rsp = gpr[UMBRA_RSP],
		.rbp = gpr[UMBRA_RBP],
		.r8 = gpr[8],
		.r9 = gpr[9],
		.r10 = gpr[10],
		.r11 = gpr[11],
		.r12 = gpr[12],
		.r13 = gpr[13],
		.r14 = gpr[14],
		.r15 = gpr[15],
		.rip = run->rip,
		.rflags = run->rflags,
	};
	return 0;
}

int state_set_regs(struct vcpu *vcpu, const struct kvm_regs *regs)
{
	struct umbra_run *run = vcpu->run;
	__u64 *gpr = run->gpr;

	vcpu_fetch(vcpu, UMBRA_STATE_RIP);
	gpr[UMBRA_RAX] = regs->rax;
	gpr[UMBRA_RBX] = regs->rbx;
	gpr[UMBRA_RCX] = regs->rcx;
	gpr[UMBRA_RDX] = regs->rdx;
	gpr[UMBRA_RSI] = regs->rsi;
	gpr[UMBRA_RDI] = regs->rdi;
	gpr[UMBRA_RSP] = regs->rsp;
	gpr[UMBRA_RBP] = regs->rbp;
	gpr[8] = regs->r8;
	gpr[9] = regs->r9;
	gpr[10] = regs->r10;
	gpr[11] = regs->r11;
	gpr[12] = regs->r12;
	gpr[13] = regs->r13;
	gpr[14] = regs->r14;
	gpr[15] = regs->r15;
	run->rip = regs->rip;
	run->rflags = regs->rflags | X86_RFLAGS_FIXED;
	vcpu_dirty(vcpu, UMBRA_STATE_RIP);
	vcpu->exception.pending = false; /* it belonged to the instruction that was left */
	return 0;
}

/* ---- segments ---- */

static void segment_get(const struct umbra_segment *from, struct kvm_segment *to)
{
	uint16_t a = from->attr;

	*to = (struct kvm_segment) {
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.type = a & 15,
		.s = a >> 4 & 1,
		.dpl = a >> 5 & 3,
		.present = a >> 7 & 1,
		.avl = a >> 12 & 1,
		.l = a >> 13 & 1,
		.db = a >> 14 & 1,
		.g = a >> 15 & 1,
		.unusable = !(a & SEG_P),
	};
}

static void segment_set(struct umbra_segment *to, const struct kvm_segment *from)
{
	uint16_t a = (from->type & 15) | (from->s & 1) << 4 | (from->dpl & 3) << 5 | (from->avl & 1) << 12 |
		     (from->l & 1) << 13 | (from->db & 1) << 14 | (from->g & 1) << 15;

	if (from->present && !from->unusable)
		a |= SEG_P;
	*to = (struct umbra_segment) {
		.selector = from->selector, .attr = a, .limit = from->limit, .base = from->base
	};
}

static void segments_get(struct vcpu *vcpu,
			 struct kvm_segment *cs) /* cs ds es fs gs ss tr ldt, as in struct kvm_sregs */
{
	static const uint8_t order[UMBRA_SEGS] = { UMBRA_CS, UMBRA_DS, UMBRA_ES, UMBRA_FS,
						   UMBRA_GS, UMBRA_SS, UMBRA_TR, UMBRA_LDTR };

	for (int i = 0; i < UMBRA_SEGS; i++)
		segment_get(&vcpu->run->seg[order[i]], &cs[i]);
}

static void segments_set(struct vcpu *vcpu, const struct kvm_segment *cs)
{
	static const uint8_t order[UMBRA_SEGS] = { UMBRA_CS, UMBRA_DS, UMBRA_ES, UMBRA_FS,
						   UMBRA_GS, UMBRA_SS, UMBRA_TR, UMBRA_LDTR };

	for (int i = 0; i < UMBRA_SEGS; i++) {
		struct umbra_segment *seg = &vcpu->run->seg[order[i]];

		segment_set(seg, &cs[i]);
		/* A loaded segment has been accessed; entry insists on it (SDM 3C 27.3.1.2), VMMs forget it. */
		if (order[i] <= UMBRA_GS && seg->attr & SEG_P)
			seg->attr |= 1;
	}
}

/* ---- SREGS: the part that both versions share; struct kvm_sregs2 begins as struct kvm_sregs does ---- */

_Static_assert(__builtin_offsetof(struct kvm_sregs, interrupt_bitmap) == __builtin_offsetof(struct kvm_sregs2, flags),
	       "kvm_sregs2 begins like kvm_sregs");
#define SREGS_COMMON __builtin_offsetof(struct kvm_sregs, interrupt_bitmap)

static bool pae_paging(struct vcpu *vcpu)
{
	const struct umbra_run *run = vcpu->run;

	return run->cr0 & X86_CR0_PG && run->cr4 & X86_CR4_PAE && !(run->efer & X86_EFER_LMA);
}

static void sregs_get(struct vcpu *vcpu, struct kvm_sregs *s)
{
	const struct umbra_run *run = vcpu->run;

	vcpu_fetch(vcpu, GROUPS_SREGS);
	memset(s, 0, sizeof(*s));
	segments_get(vcpu, &s->cs);
	s->gdt.base = run->gdtr.base;
	s->gdt.limit = run->gdtr.limit;
	s->idt.base = run->idtr.base;
	s->idt.limit = run->idtr.limit;
	s->cr0 = run->cr0;
	s->cr2 = run->cr2;
	s->cr3 = run->cr3;
	s->cr4 = run->cr4;
	s->cr8 = lapic_get_tpr(vcpu);
	s->efer = run->efer;
	s->apic_base = vcpu->apic_base;
}

int state_get_sregs(struct vcpu *vcpu, struct kvm_sregs *sregs)
{
	sregs_get(vcpu, sregs);
	if (vcpu->interrupt.injected && !vcpu->interrupt.soft)
		sregs->interrupt_bitmap[vcpu->interrupt.vector / 64] |= 1ull << vcpu->interrupt.vector % 64;
	return 0;
}

/* Combinations that no CPU can be in, and bits that this guest does not have. (SDM 3A 2.5, 4.1) */
static bool sregs_valid(struct vcpu *vcpu, const struct kvm_sregs *s)
{
	const struct umbra_info *info = &vcpu->vm->info;

	if (s->cr0 >> 32 || (s->cr0 & X86_CR0_NW && !(s->cr0 & X86_CR0_CD)) ||
	    (s->cr0 & X86_CR0_PG && !(s->cr0 & X86_CR0_PE)))
		return false;
	if (s->efer & X86_EFER_LME && s->cr0 & X86_CR0_PG) {
		if (!(s->cr4 & X86_CR4_PAE) || !(s->efer & X86_EFER_LMA))
			return false;
		/* Bit 63 belongs to PCIDs in MOV to CR3 only: it is never in the register. */
		if (s->cr3 >> vcpu->maxphyaddr)
			return false;
	} else if (s->efer & X86_EFER_LMA || s->cs.l) {
		return false;
	}
	if (s->efer & ~(info->guest_efer | X86_EFER_LMA))
		return false;
	return !(s->cr4 & ~vcpu->cr4_guest_bits);
}

/*
 * PAE's four page-directory pointers: VMX keeps them in registers, loaded by MOV to CR3 and its like; SVM with nested
 * paging reads them from memory with each walk. (SDM 3A 4.4.1, APM 2 15.25.10)
 */
struct walk_regs vcpu_walk_regs(struct vcpu *vcpu)
{
	const struct umbra_run *run = vcpu->run;

	vcpu_fetch(vcpu, UMBRA_STATE_CR | UMBRA_STATE_RIP);
	return (struct walk_regs) {
		.cr0 = run->cr0,
		.cr3 = run->cr3,
		.cr4 = run->cr4,
		.efer = run->efer,
		.rflags = run->rflags,
		.pdpte = vcpu->vm->info.hw == UMBRA_HW_VMX ? (const uint64_t *)run->pdpte : NULL,
		.maxphyaddr = vcpu->maxphyaddr,
		.cache = vcpu->walks,
	};
}

static void load_pdptes(struct vcpu *vcpu)
{
	uint64_t pdpte[4];

	/* A table that is not there: the first access to memory faults, as it does with KVM. */
	if (vm_read_gpa(vcpu->vm, vcpu->run->cr3 & 0xffffffe0, pdpte, sizeof(pdpte)))
		memset(pdpte, 0, sizeof(pdpte));
	for (int i = 0; i < 4; i++)
		vcpu->run->pdpte[i] = pdpte[i];
}

/* A VMM that knows no MP state wakes the first vCPU up by resetting it. */
static void wake_at_reset_vector(struct vcpu *vcpu, const struct kvm_sregs *s)
{
	if (vcpu->apic_base & APIC_BASE_BSP && vcpu->run->rip == 0xfff0 && s->cs.selector == 0xf000 &&
	    s->cs.base == 0xffff0000 && !(s->cr0 & X86_CR0_PE))
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
}

static int sregs_set(struct vcpu *vcpu, const struct kvm_sregs *s, const __u64 *pdptrs)
{
	struct umbra_run *run = vcpu->run;

	FAULT_POINT(set_sregs, vcpu, s, s->cr3);
	if (!sregs_valid(vcpu, s) || lapic_check_base(vcpu, s->apic_base, true))
		return -EINVAL;
	vcpu_fetch(vcpu, GROUPS_SREGS);
	lapic_set_base(vcpu, s->apic_base);
	run->gdtr = (struct umbra_dtable) { .base = s->gdt.base, .limit = s->gdt.limit };
	run->idtr = (struct umbra_dtable) { .base = s->idt.base, .limit = s->idt.limit };
	segments_set(vcpu, &s->cs);
	run->cr0 = (s->cr0 & vcpu->vm->info.guest_cr0) | X86_CR0_ET;
	run->cr2 = s->cr2;
	run->cr3 = s->cr3;
	run->cr4 = s->cr4;
	run->efer = s->efer;
	lapic_set_tpr(vcpu, s->cr8 & 15);
	if (pdptrs)
		memcpy(run->pdpte, pdptrs, sizeof(run->pdpte));
	else if (pae_paging(vcpu))
		load_pdptes(vcpu);
	run->flags |= UMBRA_RUN_FLUSH_TLB;
	vcpu_dirty(vcpu, GROUPS_SREGS);
	wake_at_reset_vector(vcpu, s);
	return 0;
}

int state_set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs)
{
	int err = sregs_set(vcpu, sregs, NULL);

	if (err)
		return err;
	for (int i = 0; i < 256; i++) {
		if (sregs->interrupt_bitmap[i / 64] >> i % 64 & 1) {
			vcpu->interrupt = (struct pending_interrupt) { .injected = true, .vector = i };
			break;
		}
	}
	return 0;
}

int state_get_sregs2(struct vcpu *vcpu, struct kvm_sregs2 *sregs)
{
	struct kvm_sregs common;

	sregs_get(vcpu, &common);
	if (vcpu->svm && pae_paging(vcpu)) /* no registers: the CPU reads them where it walks (APM 2 15.25.10) */
		load_pdptes(vcpu);
	memset(sregs, 0, sizeof(*sregs));
	memcpy(sregs, &common, SREGS_COMMON);
	if (pae_paging(vcpu)) {
		memcpy(sregs->pdptrs, vcpu->run->pdpte, sizeof(sregs->pdptrs));
		sregs->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	return 0;
}

int state_set_sregs2(struct vcpu *vcpu, const struct kvm_sregs2 *sregs)
{
	bool pae = sregs->cr0 & X86_CR0_PG && sregs->cr4 & X86_CR4_PAE && !(sregs->efer & X86_EFER_LMA);
	bool given = sregs->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
	struct kvm_sregs common = { 0 };

	if (sregs->flags & ~(__u64)KVM_SREGS2_FLAGS_PDPTRS_VALID || (given && !pae))
		return -EINVAL;
	memcpy(&common, sregs, SREGS_COMMON);
	return sregs_set(vcpu, &common, given ? sregs->pdptrs : NULL);
}

/* ---- debug registers: the guest's own; the VMM's breakpoints take their place only while the guest runs ---- */

int state_get_debugregs(struct vcpu *vcpu, struct kvm_debugregs *regs)
{
	vcpu_fetch(vcpu, UMBRA_STATE_DR);
	memset(regs, 0, sizeof(*regs));
	if (vcpu->debug_drs) {
		for (int i = 0; i < 4; i++)
			regs->db[i] = vcpu->debug_saved[i];
		regs->dr7 = vcpu->debug_saved[4];
	} else {
		memcpy(regs->db, vcpu->run->dr, sizeof(regs->db));
		regs->dr7 = vcpu->run->dr7;
	}
	regs->dr6 = vcpu->dr6;
	FAULT_POINT(get_debugregs, vcpu, regs, sizeof(*regs));
	return 0;
}

int state_set_debugregs(struct vcpu *vcpu, const struct kvm_debugregs *regs)
{
	if (regs->flags || regs->dr6 >> 32 || regs->dr7 >> 32)
		return -EINVAL;
	vcpu->dr6 = regs->dr6;
	if (vcpu->debug_drs) {
		for (int i = 0; i < 4; i++)
			vcpu->debug_saved[i] = regs->db[i];
		vcpu->debug_saved[4] = regs->dr7;
		return 0;
	}
	vcpu_fetch(vcpu, UMBRA_STATE_DR);
	memcpy(vcpu->run->dr, regs->db, sizeof(regs->db));
	vcpu->run->dr7 = (regs->dr7 & 0xffff2bff) | X86_DR7_FIXED; /* bits that hardware holds at 0 and 1 */
	vcpu_dirty(vcpu, UMBRA_STATE_DR);
	return 0;
}
