// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Answers as data: what the guest is told by CPUID, and by RDMSR of a few MSRs, hardly ever changes, so the shim has it in a
 * table and answers without coming here. Whoever changes one of these things calls answers_update().
 */
#include <string.h>

#include "cpuid.h"
#include "msr.h"
#include "msr_numbers.h"
#include "vcpu.h"

static const uint32_t constant_msrs[] = { MSR_APIC_BASE, MSR_MISC_ENABLE, MSR_PLATFORM_INFO };

bool answers_concern(uint32_t msr)
{
	for (unsigned int i = 0; i < sizeof(constant_msrs) / sizeof(constant_msrs[0]); i++)
		if (msr == constant_msrs[i])
			return true;
	return msr == MSR_MISC_FEATURES; /* CPUID faulting */
}

/* The first to ask for a slot has it; the others go on exiting. */
static void put(struct vcpu *vcpu, const struct umbra_answer *answer)
{
	struct umbra_answer *slot = &vcpu->answers[UMBRA_ANSWER_SLOT(answer->leaf)];

	if (slot->kind == UMBRA_ANSWER_NONE)
		*slot = *answer;
}

static void put_cpuid(struct vcpu *vcpu, const struct kvm_cpuid_entry2 *e)
{
	bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

	/* Leaf 1 follows CR4.OSXSAVE and the APIC, leaf 0xD follows XCR0. */
	if (e->function == 1 || e->function == 0xd)
		return;
	put(vcpu, &(struct umbra_answer) { .kind = UMBRA_ANSWER_CPUID,
					   .leaf = e->function,
					   .index = indexed ? e->index : 0,
					   .index_mask = indexed ? ~0u : 0,
					   .reg = { e->eax, e->ebx, e->ecx, e->edx } });
}

static void put_msr(struct vcpu *vcpu, uint32_t msr)
{
	uint64_t value;

	if (msr_read(vcpu, msr, &value, false) == 0)
		put(vcpu, &(struct umbra_answer) { .kind = UMBRA_ANSWER_RDMSR,
						   .leaf = msr,
						   .reg = { (uint32_t)value, 0, 0, (uint32_t)(value >> 32) } });
}

void answers_update(struct vcpu *vcpu)
{
	if (!vcpu->answers || !vcpu->msrs)
		return;
	memset(vcpu->answers, 0, UMBRA_ANSWERS * sizeof(vcpu->answers[0]));
	for (unsigned int i = 0; i < sizeof(constant_msrs) / sizeof(constant_msrs[0]); i++)
		put_msr(vcpu, constant_msrs[i]);
	if (vcpu->msrs->misc_features & 1) /* CPUID faults outside CPL 0 */
		return;
	for (uint32_t i = 0; i < vcpu->cpuid_count; i++)
		put_cpuid(vcpu, &vcpu->cpuid[i]);
}
