// SPDX-License-Identifier: GPL-2.0-or-later
/* Machine-check banks: storage that the VMM fills, and #MC. (SDM 3B 16.3) */
#include <errno.h>
#include <linux/kvm.h>

#include "fault.h"
#include "msr.h"
#include "msr_internal.h"
#include "vcpu.h"

#define MCG_CAP 0x179
#define MCG_STATUS 0x17a
#define MCG_CTL 0x17b
#define MC0_CTL 0x400
#define HWCR_MC_STATUS_WR_EN (1ull << 18)

#define MCG_STATUS_MCIP (1ull << 2)
#define MCI_VAL (1ull << 63)
#define MCI_OVER (1ull << 62)
#define MCI_UC (1ull << 61)
#define CR4_MCE (1ull << 6)

static uint32_t banks(struct vcpu *vcpu)
{
	uint32_t n = vcpu->msrs->mcg_cap & 0xff;

	return n < MSR_MCE_BANKS ? n : MSR_MCE_BANKS;
}

int msr_mce_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	struct vcpu_msrs *m = vcpu->msrs;

	switch (msr) {
	case MCG_CAP:
		*value = m->mcg_cap;
		return MSR_OK;
	case MCG_STATUS:
		*value = m->mcg_status;
		return MSR_OK;
	case MCG_CTL:
		*value = m->mcg_ctl;
		return m->mcg_cap & MSR_MCG_CTL_P ? MSR_OK : MSR_REFUSED;
	default:
		if (msr < MC0_CTL || msr >= MC0_CTL + 4 * MSR_MCE_BANKS)
			return MSR_UNKNOWN;
		if (msr - MC0_CTL >= 4 * banks(vcpu))
			return MSR_REFUSED;
		*value = m->mc[msr - MC0_CTL];
		return MSR_OK;
	}
}

int msr_mce_write(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	struct vcpu_msrs *m = vcpu->msrs;

	switch (msr) {
	case MCG_CAP:
		return MSR_REFUSED;
	case MCG_STATUS:
		m->mcg_status = value;
		return MSR_OK;
	case MCG_CTL:
		if (!(m->mcg_cap & MSR_MCG_CTL_P) && (value || !host))
			return MSR_REFUSED;
		if (value && value != ~0ull)
			return MSR_REFUSED;
		m->mcg_ctl = value;
		return MSR_OK;
	default:
		break;
	}
	if (msr < MC0_CTL || msr >= MC0_CTL + 4 * MSR_MCE_BANKS)
		return MSR_UNKNOWN;
	msr -= MC0_CTL;
	if (msr >= 4 * banks(vcpu))
		return MSR_REFUSED;
	/* Control: all on or all off, but for two bits that systems are known to leave clear (AMD GART, a BIOS's bank 0). */
	if (msr % 4 == 0 && value && (value | 1 << 10 | 1) != ~0ull)
		return MSR_REFUSED;
	if (msr % 4 == 1 && value && !host && !(m->hwcr & HWCR_MC_STATUS_WR_EN))
		return MSR_REFUSED;
	m->mc[msr] = value;
	return MSR_OK;
}

int msr_mce_setup(struct vcpu *vcpu, uint64_t mcg_cap)
{
	struct vcpu_msrs *m = vcpu->msrs;
	uint32_t n = mcg_cap & 0xff;

	FAULT_POINT(mce_setup, m->mc, NULL, mcg_cap);
	if (!n || n > MSR_MCE_BANKS || mcg_cap & ~(MSR_MCG_SUPPORTED | 0xff | 0xff0000))
		return -EINVAL;
	m->mcg_cap = mcg_cap;
	if (mcg_cap & MSR_MCG_CTL_P)
		m->mcg_ctl = ~0ull;
	for (uint32_t i = 0; i < n; i++)
		m->mc[4 * i] = ~0ull;
	return 0;
}

static void bank_store(uint64_t *bank, const struct kvm_x86_mce *mce, uint64_t status)
{
	bank[1] = status;
	bank[2] = mce->addr;
	bank[3] = mce->misc;
}

int msr_mce_inject(struct vcpu *vcpu, const struct kvm_x86_mce *mce)
{
	struct vcpu_msrs *m = vcpu->msrs;
	uint64_t *bank;

	if (mce->bank >= banks(vcpu) || !(mce->status & MCI_VAL))
		return -EINVAL;
	bank = &m->mc[4 * mce->bank];
	/* Uncorrected, but the guest has switched reporting off: it is not told. */
	if (mce->status & MCI_UC && m->mcg_cap & MSR_MCG_CTL_P && m->mcg_ctl != ~0ull)
		return 0;
	if (mce->status & MCI_UC && bank[0] != ~0ull)
		return 0;
	if (mce->status & MCI_UC) {
		vcpu_fetch(vcpu, UMBRA_STATE_CR);
		if (m->mcg_status & MCG_STATUS_MCIP || !(vcpu->run->cr4 & CR4_MCE)) {
			vcpu->triple_fault = true;
			return 0;
		}
		bank_store(bank, mce, mce->status | (bank[1] & MCI_VAL ? MCI_OVER : 0));
		m->mcg_status = mce->mcg_status;
		inject_exception(vcpu, 18);
	} else if (!(bank[1] & MCI_VAL) || !(bank[1] & MCI_UC)) {
		bank_store(bank, mce, mce->status | (bank[1] & MCI_VAL ? MCI_OVER : 0));
	} else {
		bank[1] |= MCI_OVER;
	}
	return 0;
}
