// SPDX-License-Identifier: GPL-2.0-or-later
/* Control and debug registers and XCR0 as the guest writes them. (SDM 3A 2.5, 2.6, 4.1; 3B 18.2) */
#include <string.h>

#include "core.h"
#include "fault.h"
#include "vcpu.h"

#define CR0_WRITABLE 0xe005003fULL /* the others read as zero and ignore writes */
#define CR0_LMSW 0xfULL
#define CR3_PCID_MASK 0xfffULL
#define CR3_NOFLUSH (1ULL << 63)
#define CR4_PDPTE_BITS (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP)
#define PDPTE_PRESENT (1ULL << 0)
#define PDPTE_RESERVED_LOW 0x1e6ULL

static void flush_guest_tlb(struct vcpu *vcpu)
{
	vcpu->run->flags |= UMBRA_RUN_FLUSH_TLB;
}

static uint64_t address_reserved(const struct vcpu *vcpu)
{
	return vcpu->maxphyaddr >= 52 ? 0xfffULL << 52 : ~0ULL << vcpu->maxphyaddr;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & X86_EFER_LMA);
}

/* SDM 3A 4.4.1: all four are loaded and checked, or none. */
static bool pdptes_load(struct vcpu *vcpu, uint64_t cr3)
{
	uint64_t pdpte[4];

	if (vm_read_gpa(vcpu->vm, cr3 & 0xffffffe0, pdpte, sizeof(pdpte)))
		return false;
	for (int i = 0; i < 4; i++)
		if ((pdpte[i] & PDPTE_PRESENT) && (pdpte[i] & (PDPTE_RESERVED_LOW | address_reserved(vcpu))))
			return false;
	memcpy(vcpu->run->pdpte, pdpte, sizeof(pdpte));
	return true;
}

/* Each returns false where the instruction owes the guest a #GP(0); then nothing has changed. */
static bool cr0_write(struct vcpu *vcpu, uint64_t value)
{
	struct umbra_run *run = vcpu->run;
	uint64_t efer = run->efer, changed;

	if (value >> 32)
		return false;
	if ((value & X86_CR0_NW) && !(value & X86_CR0_CD))
		return false;
	if ((value & X86_CR0_PG) && !(value & X86_CR0_PE))
		return false;
	value = (value & CR0_WRITABLE) | X86_CR0_ET;
	changed = value ^ run->cr0;
	if ((changed & X86_CR0_PG) && (value & X86_CR0_PG)) {
		if (efer & X86_EFER_LME) {
			if (!(run->cr4 & X86_CR4_PAE) || (run->seg[UMBRA_CS].attr & (1 << 13)))
				return false;
			efer |= X86_EFER_LMA;
		}
	} else if (changed & X86_CR0_PG) {
		if ((run->cr4 & X86_CR4_PCIDE) || vcpu_code64(vcpu))
			return false;
		efer &= ~X86_EFER_LMA;
	}
	if (pae_paging(value, run->cr4, efer) && (changed & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)) &&
	    !pdptes_load(vcpu, run->cr3))
		return false;
	run->cr0 = value;
	run->efer = efer;
	vcpu_dirty(vcpu, UMBRA_STATE_CR);
	if (changed & (X86_CR0_PG | X86_CR0_PE))
		flush_guest_tlb(vcpu);
	return true;
}

static bool cr3_write(struct vcpu *vcpu, uint64_t value)
{
	struct umbra_run *run = vcpu->run;
	bool keep = false;

	if (run->cr4 & X86_CR4_PCIDE) {
		keep = value & CR3_NOFLUSH;
		value &= ~CR3_NOFLUSH;
	}
	if ((run->efer & X86_EFER_LMA) && (value & address_reserved(vcpu)))
		return false;
	if (pae_paging(run->cr0, run->cr4, run->efer) && !pdptes_load(vcpu, value))
		return false;
	run->cr3 = value;
	vcpu_dirty(vcpu, UMBRA_STATE_CR);
	if (!keep)
		flush_guest_tlb(vcpu);
	return true;
}

static bool cr4_write(struct vcpu *vcpu, uint64_t value)
{
	struct umbra_run *run = vcpu->run;
	uint64_t changed = value ^ run->cr4;

	if (value & ~vcpu->cr4_guest_bits)
		return false;
	if ((run->efer & X86_EFER_LMA) && (!(value & X86_CR4_PAE) || (changed & X86_CR4_LA57)))
		return false;
	if ((changed & X86_CR4_PCIDE) && (value & X86_CR4_PCIDE) &&
	    (!(run->efer & X86_EFER_LMA) || (run->cr3 & CR3_PCID_MASK)))
		return false;
	if (pae_paging(run->cr0, value, run->efer) && (changed & CR4_PDPTE_BITS) && !pdptes_load(vcpu, run->cr3))
		return false;
	run->cr4 = value;
	vcpu_dirty(vcpu, UMBRA_STATE_CR);
	if ((changed & (CR4_PDPTE_BITS | X86_CR4_LA57)) || (changed & ~value & X86_CR4_PCIDE))
		flush_guest_tlb(vcpu);
	return true;
}

/* 1: done; 0: done, and the VMM wants to hear of it; -1: #GP */
static int cr8_write(struct vcpu *vcpu, uint64_t value)
{
	uint64_t old = lapic_get_tpr(vcpu);

	if (value & ~0xfULL)
		return -1;
	lapic_set_tpr(vcpu, value);
	if (vm_has_lapics(vcpu->vm) || value >= old)
		return 1;
	vcpu->kvm->exit_reason = KVM_EXIT_SET_TPR;
	return 0;
}

static uint64_t cr_read(struct vcpu *vcpu, uint8_t cr)
{
	switch (cr) {
	case 0:
		return vcpu->run->cr0;
	case 3:
		return vcpu->run->cr3;
	case 4:
		return vcpu->run->cr4;
	default:
		return lapic_get_tpr(vcpu);
	}
}

static bool mov_to_cr(struct vcpu *vcpu, uint8_t cr, uint64_t value)
{
	switch (cr) {
	case 0:
		return cr0_write(vcpu, value);
	case 3:
		return cr3_write(vcpu, value);
	default:
		return cr4_write(vcpu, value);
	}
}

static uint64_t operand(struct vcpu *vcpu, uint8_t gpr)
{
	return vcpu_code64(vcpu) ? vcpu->run->gpr[gpr] : (uint32_t)vcpu->run->gpr[gpr];
}

/* The CPU has checked the privilege level and which registers exist before it exited. */
int exit_cr(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint8_t cr = vcpu->exit.cr.cr, op = vcpu->exit.cr.op, gpr = vcpu->exit.cr.gpr & (UMBRA_GPRS - 1);
	uint16_t lmsw = vcpu->exit.cr.lmsw;
	bool ok = true;
	int ret = 1;

	vcpu_fetch(vcpu, UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE);
	if (vcpu->exit.cr.gpr == VMEXIT_GPR_UNKNOWN) {
		if (!insn_cr(vcpu, &ret))
			return ret;
		op = vcpu->exit.cr.op;
		gpr = vcpu->exit.cr.gpr & (UMBRA_GPRS - 1);
		lmsw = vcpu->exit.cr.lmsw;
	}
	if (op == VMEXIT_CR_MOV_TO && cr == 8) {
		ret = cr8_write(vcpu, operand(vcpu, gpr));
		ok = ret >= 0;
	} else if (op == VMEXIT_CR_MOV_TO) {
		ok = mov_to_cr(vcpu, cr, operand(vcpu, gpr));
	} else if (op == VMEXIT_CR_MOV_FROM) {
		run->gpr[gpr] = cr_read(vcpu, cr);
	} else if (op == VMEXIT_CR_SMSW) {
		; /* insn_cr() has done it */
	} else if (op == VMEXIT_CR_CLTS) {
		ok = cr0_write(vcpu, run->cr0 & ~X86_CR0_TS);
	} else { /* LMSW can set PE but not clear it */
		ok = cr0_write(vcpu, (run->cr0 & ~(CR0_LMSW & ~X86_CR0_PE)) | (lmsw & CR0_LMSW));
	}
	if (!ok) {
		inject_gp(vcpu);
		return EXIT_RESUME;
	}
	vcpu_skip_insn(vcpu);
	return ret ? EXIT_RESUME : EXIT_USER;
}

/* ---- debug registers ---- */

static bool dr_write(struct vcpu *vcpu, uint8_t dr, uint64_t value)
{
	struct umbra_run *run = vcpu->run;

	if (dr >= 4 && value >> 32)
		return false;
	if (dr < 4)
		run->dr[dr] = value;
	else if (dr == 6)
		vcpu->dr6 = (value & 0x1e00f) | X86_DR6_ACTIVE_LOW;
	else
		run->dr7 = (value & 0xffff2bff) | X86_DR7_FIXED;
	vcpu_dirty(vcpu, UMBRA_STATE_DR);
	return true;
}

static uint64_t dr_read(struct vcpu *vcpu, uint8_t dr)
{
	if (dr < 4)
		return vcpu->run->dr[dr];
	return dr == 6 ? vcpu->dr6 : vcpu->run->dr7;
}

int exit_dr(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint8_t dr = vcpu->exit.dr.dr & 7, gpr;
	bool write = vcpu->exit.dr.write;

	FAULT_POINT(exit_dr, vcpu, NULL, dr);
	vcpu_fetch(vcpu, UMBRA_STATE_DR | UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE);
	if (vcpu->exit.dr.gpr == VMEXIT_GPR_UNKNOWN && !insn_dr(vcpu))
		return EXIT_RESUME;
	gpr = vcpu->exit.dr.gpr & (UMBRA_GPRS - 1);
	if (dr == 4 || dr == 5) {
		if (run->cr4 & X86_CR4_DE) {
			inject_ud(vcpu);
			return EXIT_RESUME;
		}
		dr += 2;
	}
	if (vcpu_cpl(vcpu)) {
		inject_gp(vcpu);
		return EXIT_RESUME;
	}
	if (run->dr7 & X86_DR7_GD) { /* cleared as the #DB is delivered */
		if (vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP)
			return debug_exit(vcpu, EXC_DB, X86_DR6_BD);
		inject_debug(vcpu, X86_DR6_BD);
		return EXIT_RESUME;
	}
	if (!write) {
		run->gpr[gpr] = dr_read(vcpu, dr);
	} else if (!dr_write(vcpu, dr, operand(vcpu, gpr))) {
		inject_gp(vcpu);
		return EXIT_RESUME;
	}
	vcpu_skip_insn(vcpu);
	return EXIT_RESUME;
}

/* ---- XCR0 (SDM 1 13.3) ---- */

#define XCR0_X87 (1ULL << 0)
#define XCR0_SSE (1ULL << 1)
#define XCR0_AVX (1ULL << 2)
#define XCR0_MPX (3ULL << 3)
#define XCR0_AVX512 (7ULL << 5)
#define XCR0_AMX (3ULL << 17)

bool xcr0_valid(const struct vcpu *vcpu, uint64_t value)
{
	if (!(value & XCR0_X87) || (value & ~(vcpu->xcr0_guest_bits | XCR0_X87)))
		return false;
	if ((value & XCR0_AVX) && !(value & XCR0_SSE))
		return false;
	if ((value & XCR0_MPX) && (value & XCR0_MPX) != XCR0_MPX)
		return false;
	if ((value & XCR0_AVX512) && ((value & XCR0_AVX512) != XCR0_AVX512 || !(value & XCR0_AVX)))
		return false;
	return !(value & XCR0_AMX) || (value & XCR0_AMX) == XCR0_AMX;
}

int exit_xsetbv(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint64_t value = (uint32_t)run->gpr[UMBRA_RAX] | run->gpr[UMBRA_RDX] << 32;

	vcpu_fetch(vcpu, UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE);
	if (vcpu_cpl(vcpu) || (uint32_t)run->gpr[UMBRA_RCX] || !xcr0_valid(vcpu, value)) {
		inject_gp(vcpu);
		return EXIT_RESUME;
	}
	run->xcr0 = value;
	vcpu_dirty(vcpu, UMBRA_STATE_CR);
	vcpu_skip_insn(vcpu);
	return EXIT_RESUME;
}
