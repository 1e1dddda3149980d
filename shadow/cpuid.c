// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's CPUID: the table that the VMM set, its rules, and the exit. Runs on the vCPU's thread. */
#include "cpuid.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <string.h>

#include "cpuid_host.h"
#include "msr.h"
#include "vcpu.h"

#define CR4_OSXSAVE (1u << 18)
#define APIC_BASE_EN (1u << 11)
#define SIGNIFICANT KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* CR4 bits of the base architecture, which KVM allows whatever CPUID says: VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT */
#define CR4_BASE 0x7ffu
/* CR4 bits that a CPUID bit allows */
static const struct {
	uint8_t cr4, reg, bit;
	uint32_t function;
} cr4_features[] = {
	{ 11, 2, 2, 7 },  /* UMIP */
	{ 12, 2, 16, 7 }, /* LA57 */
	{ 16, 1, 0, 7 },  /* FSGSBASE */
	{ 17, 2, 17, 1 }, /* PCIDE */
	{ 18, 2, 26, 1 }, /* OSXSAVE */
	{ 20, 1, 7, 7 },  /* SMEP */
	{ 21, 1, 20, 7 }, /* SMAP */
};

#define EFER_SCE (1u << 0)
#define EFER_LM (1u << 8 | 1u << 10)
#define EFER_NX (1u << 11)
#define EFER_FFXSR (1u << 14)

/* Functions that the direct table covers: 0..0x1f, 0x40000000.., 0x80000000.. */
static inline bool in_table(uint32_t function)
{
	return function >> 30 < 3 && !(function & 0x3fffffe0);
}

static const struct kvm_cpuid_entry2 *find_slow(const struct vcpu *vcpu, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < vcpu->cpuid_count; i++) {
		const struct kvm_cpuid_entry2 *e = &vcpu->cpuid[i];

		if (e->function == function && (!(e->flags & SIGNIFICANT) || e->index == index))
			return e;
	}
	return NULL;
}

static inline __attribute__((always_inline)) const struct kvm_cpuid_entry2 *find(const struct vcpu *vcpu,
										 uint32_t function, uint32_t index)
{
	uint32_t i;

	if (!in_table(function))
		return find_slow(vcpu, function, index);
	for (i = vcpu->cpuid_first[function >> 30][function & 31]; i; i = vcpu->cpuid_next[i - 1]) {
		const struct kvm_cpuid_entry2 *e = &vcpu->cpuid[i - 1];

		if (!(e->flags & SIGNIFICANT) || e->index == index)
			return e;
	}
	return NULL;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct vcpu *vcpu, uint32_t function, uint32_t index)
{
	return find(vcpu, function, index);
}

static void index_entries(struct vcpu *vcpu)
{
	memset(vcpu->cpuid_first, 0, sizeof(vcpu->cpuid_first));
	memset(vcpu->cpuid_next, 0, sizeof(vcpu->cpuid_next));
	for (uint32_t i = vcpu->cpuid_count; i--;) {
		uint32_t function = vcpu->cpuid[i].function;
		uint16_t *first;

		if (!in_table(function))
			continue;
		first = &vcpu->cpuid_first[function >> 30][function & 31];
		vcpu->cpuid_next[i] = *first;
		*first = i + 1;
	}
}

static uint32_t entry_reg(const struct kvm_cpuid_entry2 *e, int reg)
{
	switch (reg) {
	case 0:
		return e->eax;
	case 1:
		return e->ebx;
	case 2:
		return e->ecx;
	default:
		return e->edx;
	}
}

bool cpuid_has(const struct vcpu *vcpu, uint32_t function, uint32_t index, int reg, int bit)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(vcpu, function, index);

	return e && entry_reg(e, reg) >> bit & 1;
}

static void derive(struct vcpu *vcpu)
{
	const struct umbra_info *info = &vcpu->vm->info;
	const struct kvm_cpuid_entry2 *e;
	uint64_t cr4 = CR4_BASE, efer = EFER_SCE;

	for (size_t i = 0; i < sizeof(cr4_features) / sizeof(cr4_features[0]); i++) {
		if (cpuid_has(vcpu, cr4_features[i].function, 0, cr4_features[i].reg, cr4_features[i].bit))
			cr4 |= 1ull << cr4_features[i].cr4;
	}
	vcpu->cr4_guest_bits = cr4 & info->guest_cr4;

	if (cpuid_has(vcpu, 0x80000001, 0, 3, 29))
		efer |= EFER_LM;
	if (cpuid_has(vcpu, 0x80000001, 0, 3, 20))
		efer |= EFER_NX;
	if (cpuid_has(vcpu, 0x80000001, 0, 3, 25))
		efer |= EFER_FFXSR;
	/* LMA is never written by a guest; a shim may leave it out of what can be set. */
	vcpu->efer_guest_bits = efer & (info->guest_efer | (info->guest_efer & 1u << 8) << 2);

	e = cpuid_find(vcpu, 0xd, 0);
	vcpu->xcr0_guest_bits = 0;
	if (e && vcpu->cr4_guest_bits & CR4_OSXSAVE)
		vcpu->xcr0_guest_bits = (e->eax | (uint64_t)e->edx << 32) & info->guest_xcr0;

	vcpu->maxphyaddr = 36;
	e = cpuid_find(vcpu, 0x80000000, 0);
	if (e && e->eax >= 0x80000008) {
		e = cpuid_find(vcpu, 0x80000008, 0);
		if (e)
			vcpu->maxphyaddr = e->eax & 0xff;
	}
	if (vcpu->maxphyaddr > 52)
		vcpu->maxphyaddr = 52; /* SDM 3A 4.1.4: the architecture's limit */
}

/* An entry as it is kept. */
static struct kvm_cpuid_entry2 kept(const struct vcpu *vcpu, const struct kvm_cpuid_entry2 *entry)
{
	struct kvm_cpuid_entry2 e = *entry;

	memset(e.padding, 0, sizeof(e.padding));
	/* A halt that does not exit cannot be ended by a hypercall. */
	if (e.function == KVM_CPUID_FEATURES && vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT)
		e.eax &= ~(1u << KVM_FEATURE_PV_UNHALT);
	return e;
}

int cpuid_set(struct vcpu *vcpu, const struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	if (count > VCPU_MAX_CPUID)
		return -E2BIG;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t virt = entries[i].eax >> 8 & 0xff;

		if (entries[i].function == 0x80000008 && virt != 48 && virt != 57 && virt != 0)
			return -EINVAL;
	}
	/* Once the guest has run, what it has seen stays. */
	if (vcpu->cpuid_count && vcpu->exits_shim_calls) {
		for (uint32_t i = 0; i < count && count == vcpu->cpuid_count; i++) {
			const struct kvm_cpuid_entry2 a = kept(vcpu, &entries[i]), *b = &vcpu->cpuid[i];

			if (a.function != b->function || a.index != b->index || a.flags != b->flags ||
			    a.eax != b->eax || a.ebx != b->ebx || a.ecx != b->ecx || a.edx != b->edx)
				return -EINVAL;
		}
		return count == vcpu->cpuid_count ? 0 : -EINVAL;
	}
	for (uint32_t i = 0; i < count; i++) {
		vcpu->cpuid[i] = kept(vcpu, &entries[i]);
	}
	vcpu->cpuid_count = count;
	index_entries(vcpu);
	derive(vcpu);
	answers_update(vcpu);
	return 0;
}

/* A function above its range's limit: Intel answers with the highest basic leaf, AMD with zeros. NULL: zeros. (SDM 2A CPUID) */
static const struct kvm_cpuid_entry2 *out_of_range(const struct vcpu *vcpu, uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *basic = cpuid_find(vcpu, 0, 0), *class;

	if (!basic || cpuid_vendor(basic->ebx, basic->ecx, basic->edx) == CPUID_AMD)
		return NULL;
	if (function >= 0x40000000 && function <= 0x4fffffff)
		class = cpuid_find(vcpu, function & 0xffffff00, 0);
	else if (function >= 0xc0000000)
		class = cpuid_find(vcpu, 0xc0000000, 0);
	else
		class = cpuid_find(vcpu, function & 0x80000000, 0);
	if (class && function <= class->eax)
		return NULL;
	return cpuid_find(vcpu, basic->eax, index);
}

static void missing(struct vcpu *vcpu, uint32_t function, uint32_t index, uint32_t regs[4])
{
	const struct kvm_cpuid_entry2 *e = out_of_range(vcpu, function, index);

	regs[0] = regs[1] = regs[2] = regs[3] = 0;
	if (e) {
		regs[0] = e->eax;
		regs[1] = e->ebx;
		regs[2] = e->ecx;
		regs[3] = e->edx;
	} else if (function == 0xb || function == 0x1f) {
		/* Sub-leaves past the last still give the level asked for and the x2APIC ID. */
		e = cpuid_find(vcpu, function, 1);
		if (e) {
			regs[2] = index & 0xff;
			regs[3] = e->edx;
		}
	}
}

/*
 * Bits that follow the guest's own state. CR4.OSXSAVE and XCR0 change only by an exit that is handled here, so the run area
 * always has them, whether its group is valid or not: a fetch would cost a RUN on a common exit.
 */
static void dynamic(struct vcpu *vcpu, uint32_t function, uint32_t index, uint32_t regs[4])
{
	if (function == 1) {
		regs[2] &= ~(1u << 27);
		if (regs[2] & 1u << 26 && vcpu->run->cr4 & CR4_OSXSAVE)
			regs[2] |= 1u << 27;
		if (!(vcpu->apic_base & APIC_BASE_EN))
			regs[3] &= ~(1u << 9);
	} else if (function == 0xd && index == 0 && vcpu->xcr0_guest_bits) {
		regs[1] = cpuid_xsave_size(vcpu->run->xcr0);
	} else if (function == 0xd && index == 1 && regs[0] & 2) {
		regs[1] = cpuid_xsave_compact_size(vcpu->run->xcr0);
	}
}

static inline __attribute__((always_inline)) void answer(struct vcpu *vcpu, uint32_t function, uint32_t index,
							 uint32_t regs[4])
{
	const struct kvm_cpuid_entry2 *e = find(vcpu, function, index);

	if (!e) {
		missing(vcpu, function, index, regs);
		return;
	}
	regs[0] = e->eax;
	regs[1] = e->ebx;
	regs[2] = e->ecx;
	regs[3] = e->edx;
	if (__builtin_expect(function == 1 || function == 0xd, 0))
		dynamic(vcpu, function, index, regs);
}

void cpuid_guest(struct vcpu *vcpu, uint32_t function, uint32_t index, uint32_t regs[4])
{
	answer(vcpu, function, index, regs);
}

void cpuid_exit(struct vcpu *vcpu)
{
	__u64 *gpr = vcpu->run->gpr;
	uint32_t regs[4];

	/* CPUID faulting: MISC_FEATURES_ENABLES bit 0 (SDM 2A CPUID, "CPUID faulting") */
	if (__builtin_expect(vcpu->msrs->misc_features & 1, 0) && vcpu_cpl(vcpu) > 0) {
		inject_gp(vcpu);
		return;
	}
	answer(vcpu, gpr[UMBRA_RAX], gpr[UMBRA_RCX], regs);
	gpr[UMBRA_RAX] = regs[0];
	gpr[UMBRA_RBX] = regs[1];
	gpr[UMBRA_RCX] = regs[2];
	gpr[UMBRA_RDX] = regs[3];
	vcpu_skip_insn(vcpu);
}
