// SPDX-License-Identifier: GPL-2.0-or-later
/* MSRs, as the guest and the VMM read and write them. On the vCPU's thread, but for msr_init(). */
#include "msr.h"

#include <errno.h>
#include <stdlib.h>
#include <asm/kvm_para.h>

#include "clock.h"
#include "cpuid.h"
#include "cpuid_host.h"
#include "msr_internal.h"
#include "msr_numbers.h"
#include "sys.h"
#include "vcpu.h"

#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)
#define CR0_PG (1ull << 31)
#define CR4_LA57 (1ull << 12)

/* MISC_ENABLE: no branch trace store, no PEBS; a guest cannot change these two. (SDM 4 table 2-2) */
#define MISC_ENABLE_NO_PMU (1ull << 11 | 1ull << 12)
#define CPUID_FAULT_OFFERED (1ull << 31) /* PLATFORM_INFO */
#define CPUID_FAULT_ON (1ull << 0)	 /* MISC_FEATURES_ENABLES */
#define FEATURE_CONTROL_LOCKED (1ull << 0)
#define DEBUGCTL_LBR_BTF 3ull
#define PV_EOI_RESERVED 2ull

bool msr_canonical(struct vcpu *vcpu, uint64_t address)
{
	int shift;

	vcpu_fetch(vcpu, UMBRA_STATE_CR);
	shift = vcpu->run->cr4 & CR4_LA57 ? 64 - 57 : 64 - 48;
	return (uint64_t)((int64_t)(address << shift) >> shift) == address;
}

static bool guest_is_amd(struct vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(vcpu, 0, 0);

	return e && cpuid_vendor(e->ebx, e->ecx, e->edx) == CPUID_AMD;
}

/* ---- TSC ---- */

void msr_set_tsc_offset(struct vcpu *vcpu, uint64_t offset)
{
	bool changed = offset != vcpu->run->tsc_offset;

	__atomic_store_n(&vcpu->run->tsc_offset, offset, __ATOMIC_SEQ_CST); /* other vCPUs compare theirs with it */
	lapic_tsc_changed(vcpu);
	atomic_fetch_or(&vcpu->requests, VCPU_REQ_CLOCK);
	if (changed)
		clock_tsc_changed(vcpu);
}

void msr_set_tsc(struct vcpu *vcpu, uint64_t guest_tsc)
{
	msr_set_tsc_offset(vcpu, guest_tsc - clock_host_tsc());
}

/* The VM's offset if this write means the same moment (or is the 0 of a new vCPU), else the new one, for others to share. */
static uint64_t tsc_offset_shared(struct vcpu *vcpu, uint64_t guest_tsc)
{
	uint64_t offset = guest_tsc - clock_host_tsc(), last = atomic_load(&vcpu->vm->tsc_offset);
	int64_t second = (int64_t)vcpu->tsc_khz * 1000, apart;

	do { /* vCPUs restore theirs at the same time: one offset wins, the others take it */
		apart = (int64_t)(offset - last);
		if (last && (!guest_tsc || (apart < second && -apart < second)))
			return last;
	} while (!atomic_compare_exchange_weak(&vcpu->vm->tsc_offset, &last, offset));
	return offset;
}

void msr_sync_tsc(struct vcpu *vcpu, uint64_t guest_tsc)
{
	msr_set_tsc_offset(vcpu, tsc_offset_shared(vcpu, guest_tsc));
}

static int put_tsc(struct vcpu *vcpu, uint64_t value, bool host)
{
	uint64_t old = vcpu->run->tsc_offset;

	if (host) {
		msr_sync_tsc(vcpu, value);
	} else {
		msr_set_tsc(vcpu, value);
		vcpu->msrs->tsc_adjust += vcpu->run->tsc_offset - old;
	}
	return MSR_OK;
}

static int put_tsc_adjust(struct vcpu *vcpu, uint64_t value, bool host)
{
	if (!host && cpuid_has(vcpu, 7, 0, 1, 1))
		msr_set_tsc_offset(vcpu, vcpu->run->tsc_offset + value - vcpu->msrs->tsc_adjust);
	vcpu->msrs->tsc_adjust = value;
	return MSR_OK;
}

/* ---- those in the run area ---- */

static __u64 *run_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *group)
{
	struct umbra_run *run = vcpu->run;

	*group = UMBRA_STATE_MSR;
	switch (msr) {
	case MSR_STAR:
		return &run->msr.star;
	case MSR_LSTAR:
		return &run->msr.lstar;
	case MSR_CSTAR:
		return &run->msr.cstar;
	case MSR_FMASK:
		return &run->msr.fmask;
	case MSR_SYSENTER_CS:
		return &run->msr.sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &run->msr.sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &run->msr.sysenter_eip;
	case MSR_PAT:
		return &run->msr.pat;
	case MSR_TSC_AUX:
		return &run->msr.tsc_aux;
	case MSR_FS_BASE:
		*group = UMBRA_STATE_SEG_DATA;
		return &run->seg[UMBRA_FS].base;
	case MSR_GS_BASE:
		*group = UMBRA_STATE_SEG_DATA;
		return &run->seg[UMBRA_GS].base;
	default:
		return NULL;
	}
}

static bool may_use_tsc_aux(struct vcpu *vcpu)
{
	return cpuid_has(vcpu, 0x80000001, 0, 3, 27) || cpuid_has(vcpu, 7, 0, 2, 22);
}

/* The value to store, or refused. */
static int run_msr_check(struct vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	switch (msr) {
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
		return msr_canonical(vcpu, *value) ? MSR_OK : MSR_REFUSED;
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
		/* AMD keeps 32 bits of them; Intel wants canonical ones. */
		if (guest_is_amd(vcpu))
			*value = (uint32_t)*value;
		return msr_canonical(vcpu, *value) ? MSR_OK : MSR_REFUSED;
	case MSR_SYSENTER_CS:
		*value = (uint32_t)*value;
		return MSR_OK;
	case MSR_FMASK:
		return *value >> 32 ? MSR_REFUSED : MSR_OK;
	case MSR_PAT:
		return msr_pat_valid(*value) ? MSR_OK : MSR_REFUSED;
	case MSR_TSC_AUX:
		if (!host && !may_use_tsc_aux(vcpu))
			return MSR_REFUSED;
		if (*value >> 32 && !guest_is_amd(vcpu))
			return MSR_REFUSED;
		*value = (uint32_t)*value;
		return MSR_OK;
	default:
		return MSR_OK;
	}
}

static int put_run_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	uint64_t group;
	__u64 *field = run_msr(vcpu, msr, &group);

	if (run_msr_check(vcpu, msr, &value, host))
		return MSR_REFUSED;
	vcpu_fetch(vcpu, group);
	*field = value;
	vcpu_dirty(vcpu, group);
	return MSR_OK;
}

static int get_run_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	uint64_t group;
	__u64 *field = run_msr(vcpu, msr, &group);

	if (msr == MSR_TSC_AUX && !host && !may_use_tsc_aux(vcpu))
		return MSR_REFUSED;
	vcpu_fetch(vcpu, group);
	*value = *field;
	return MSR_OK;
}

static int put_efer(struct vcpu *vcpu, uint64_t value, bool host)
{
	struct umbra_run *run = vcpu->run;

	if (value & ~(vcpu->vm->info.guest_efer | EFER_LMA))
		return MSR_REFUSED;
	vcpu_fetch(vcpu, UMBRA_STATE_CR);
	if (!host) {
		if (value & ~vcpu->efer_guest_bits)
			return MSR_REFUSED;
		if (run->cr0 & CR0_PG && (run->efer ^ value) & EFER_LME)
			return MSR_REFUSED;
	}
	value = (value & ~EFER_LMA) | (run->efer & EFER_LMA);
	if ((run->efer ^ value) & EFER_NXE)
		run->flags |= UMBRA_RUN_FLUSH_TLB; /* translations were cached under the other meaning of bit 63 */
	run->efer = value;
	vcpu_dirty(vcpu, UMBRA_STATE_CR);
	return MSR_OK;
}

/* ---- those of KVM ---- */

static int put_pv_eoi(struct vcpu *vcpu, uint64_t value)
{
	if (value & PV_EOI_RESERVED)
		return MSR_REFUSED;
	lapic_pv_eoi_sync(vcpu);
	vcpu->lapic.pv_eoi_msr = value;
	return MSR_OK;
}

static int put_kvm(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		return clock_write_wall_clock(vcpu, value) ? MSR_REFUSED : MSR_OK;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		return clock_write_system_time(vcpu, value) ? MSR_REFUSED : MSR_OK;
	case MSR_KVM_PV_EOI_EN:
		return put_pv_eoi(vcpu, value);
	case MSR_KVM_POLL_CONTROL:
		if (value & ~1ull)
			return MSR_REFUSED;
		vcpu->msrs->poll_control = value;
		return MSR_OK;
	case MSR_KVM_STEAL_TIME:
		return steal_write_msr(vcpu, value, host) ? MSR_REFUSED : MSR_OK;
	case MSR_KVM_ASYNC_PF_EN: /* not offered: only "off" can be written */
	case MSR_KVM_ASYNC_PF_INT:
		return value ? MSR_REFUSED : MSR_OK;
	default:
		return MSR_UNKNOWN;
	}
}

static int get_kvm(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		*value = vcpu->msrs->wall_clock;
		return MSR_OK;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*value = vcpu->msrs->system_time;
		return MSR_OK;
	case MSR_KVM_PV_EOI_EN:
		*value = vcpu->lapic.pv_eoi_msr;
		return MSR_OK;
	case MSR_KVM_POLL_CONTROL:
		*value = vcpu->msrs->poll_control;
		return MSR_OK;
	case MSR_KVM_STEAL_TIME:
		*value = vcpu->msrs->steal_time;
		return MSR_OK;
	case MSR_KVM_ASYNC_PF_EN:
	case MSR_KVM_ASYNC_PF_INT:
		*value = 0;
		return MSR_OK;
	default:
		return MSR_UNKNOWN;
	}
}

/* ---- those that the shadow keeps ---- */

static int put_misc_enable(struct vcpu *vcpu, uint64_t value, bool host)
{
	uint64_t *old = &vcpu->msrs->misc_enable;

	if (!host && (*old ^ value) & MISC_ENABLE_NO_PMU)
		return MSR_REFUSED;
	*old = value;
	return MSR_OK;
}

static int put_feature_control(struct vcpu *vcpu, uint64_t value, bool host)
{
	if (value & ~FEATURE_CONTROL_LOCKED)
		return MSR_REFUSED;
	if (!host && vcpu->msrs->feature_control & FEATURE_CONTROL_LOCKED)
		return MSR_REFUSED;
	vcpu->msrs->feature_control = value;
	return MSR_OK;
}

static int put_hwcr(struct vcpu *vcpu, uint64_t value)
{
	value &= ~(1ull << 3 | 1ull << 6 | 1ull << 8); /* cache and FP error switches of old CPUs: no effect */
	if (value & ~(1ull << 18 | 1ull << 24))	       /* McStatusWrEn, TscFreqSel */
		return MSR_REFUSED;
	vcpu->msrs->hwcr = value;
	return MSR_OK;
}

static int put_misc_features(struct vcpu *vcpu, uint64_t value)
{
	if (value & ~CPUID_FAULT_ON || (value && !(vcpu->msrs->platform_info & CPUID_FAULT_OFFERED)))
		return MSR_REFUSED;
	vcpu->msrs->misc_features = value;
	return MSR_OK;
}

static int put_platform_info(struct vcpu *vcpu, uint64_t value, bool host)
{
	if (!host || (!(value & CPUID_FAULT_OFFERED) && vcpu->msrs->misc_features & CPUID_FAULT_ON))
		return MSR_REFUSED;
	vcpu->msrs->platform_info = value;
	return MSR_OK;
}

static int put_debugctl(struct vcpu *vcpu, uint64_t value)
{
	/* Last-branch records and branch single-step are taken and not done, as KVM does where it has neither. */
	if (value & ~DEBUGCTL_LBR_BTF)
		return MSR_REFUSED;
	vcpu->msrs->debugctl = 0;
	return MSR_OK;
}

static int put_de_cfg(struct vcpu *vcpu, uint64_t value)
{
	uint64_t allowed = 0;

	if (!vcpu->msrs->amd)
		return MSR_UNKNOWN;
	msr_feature_get(vcpu->vm, MSR_DE_CFG, &allowed);
	if (value & ~allowed)
		return MSR_REFUSED;
	vcpu->msrs->de_cfg = value;
	return MSR_OK;
}

/* kvm-amd keeps it although no SVM is offered (a VMM restores anything, without the low bits); kvm-intel ignores it. */
static int put_hsave_pa(struct vcpu *vcpu, uint64_t value, bool host)
{
	if (!vcpu->msrs->amd)
		return MSR_OK;
	if (!host && (value & 0xfff || value >> vcpu->maxphyaddr))
		return MSR_REFUSED;
	vcpu->msrs->hsave_pa = value & ~0xfffull;
	return MSR_OK;
}

static int put_apic_base(struct vcpu *vcpu, uint64_t value, bool host)
{
	if (lapic_check_base(vcpu, value, host))
		return MSR_REFUSED;
	lapic_set_base(vcpu, value);
	return MSR_OK;
}

static int host_only(uint64_t *field, uint64_t value, bool host)
{
	if (!host)
		return MSR_REFUSED;
	*field = value;
	return MSR_OK;
}

static int put_other(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	int r = msr_mtrr_write(vcpu, msr, value);

	if (r == MSR_UNKNOWN)
		r = msr_mce_write(vcpu, msr, value, host);
	if (r == MSR_UNKNOWN && msr_ignored(msr))
		return msr_zero_only(msr) && value ? MSR_REFUSED : MSR_OK;
	return r;
}

int msr_put(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	struct vcpu_msrs *m = vcpu->msrs;

	if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST)
		return lapic_msr_write(vcpu, msr, value);
	switch (msr) {
	case MSR_TSC_DEADLINE:
		return lapic_msr_write(vcpu, msr, value);
	case MSR_TSC:
		return put_tsc(vcpu, value, host);
	case MSR_TSC_ADJUST:
		return put_tsc_adjust(vcpu, value, host);
	case MSR_APIC_BASE:
		return put_apic_base(vcpu, value, host);
	case MSR_EFER:
		return put_efer(vcpu, value, host);
	case MSR_STAR:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FMASK:
	case MSR_SYSENTER_CS:
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_PAT:
	case MSR_TSC_AUX:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
		return put_run_msr(vcpu, msr, value, host);
	case MSR_KERNEL_GS_BASE:
		if (!msr_canonical(vcpu, value))
			return MSR_REFUSED;
		cpu_wrgsbase(value);
		return MSR_OK;
	case MSR_MISC_ENABLE:
		return put_misc_enable(vcpu, value, host);
	case MSR_FEATURE_CONTROL:
		return put_feature_control(vcpu, value, host);
	case MSR_UCODE_REV:
		if (host)
			m->ucode_rev = value;
		return MSR_OK; /* the guest's write asks the CPU to put the revision there */
	case MSR_ARCH_CAPABILITIES:
		return host_only(&m->arch_capabilities, value, host);
	case MSR_PLATFORM_INFO:
		return put_platform_info(vcpu, value, host);
	case MSR_MISC_FEATURES:
		return put_misc_features(vcpu, value);
	case MSR_SMBASE:
		return host_only(&vcpu->smbase, value, host);
	case MSR_SMI_COUNT:
		return host_only(&m->smi_count, value, host);
	case MSR_POWER_CTL:
		m->power_ctl = value;
		return MSR_OK;
	case MSR_DEBUGCTL:
		return put_debugctl(vcpu, value);
	case MSR_HWCR:
		return put_hwcr(vcpu, value);
	case MSR_DE_CFG:
		return put_de_cfg(vcpu, value);
	case MSR_VM_HSAVE_PA:
		return put_hsave_pa(vcpu, value, host);
	case MSR_XSS:
		return value || !host ? MSR_REFUSED : MSR_OK; /* XSAVES is not offered */
	default:
		break;
	}
	if (msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_SYSTEM_TIME || msr >> 8 == MSR_KVM_RANGE)
		return put_kvm(vcpu, msr, value, host);
	return put_other(vcpu, msr, value, host);
}

static int get_other(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	int r = msr_mtrr_read(vcpu, msr, value);

	if (r == MSR_UNKNOWN)
		r = msr_mce_read(vcpu, msr, value);
	if (r == MSR_UNKNOWN && msr_constant(msr, value))
		r = MSR_OK;
	return r;
}

int msr_get(struct vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	struct vcpu_msrs *m = vcpu->msrs;

	if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST)
		return lapic_msr_read(vcpu, msr, value);
	switch (msr) {
	case MSR_TSC_DEADLINE:
		return lapic_msr_read(vcpu, msr, value);
	case MSR_TSC:
		*value = clock_host_tsc() + vcpu->run->tsc_offset;
		return MSR_OK;
	case MSR_TSC_ADJUST:
		*value = m->tsc_adjust;
		return MSR_OK;
	case MSR_APIC_BASE:
		*value = vcpu->apic_base;
		return MSR_OK;
	case MSR_EFER:
		vcpu_fetch(vcpu, UMBRA_STATE_CR);
		*value = vcpu->run->efer;
		return MSR_OK;
	case MSR_STAR:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FMASK:
	case MSR_SYSENTER_CS:
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_PAT:
	case MSR_TSC_AUX:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
		return get_run_msr(vcpu, msr, value, host);
	case MSR_KERNEL_GS_BASE:
		*value = cpu_rdgsbase();
		return MSR_OK;
	case MSR_MISC_ENABLE:
		*value = m->misc_enable;
		return MSR_OK;
	case MSR_FEATURE_CONTROL:
		*value = m->feature_control;
		return MSR_OK;
	case MSR_UCODE_REV:
		*value = m->ucode_rev;
		return MSR_OK;
	case MSR_ARCH_CAPABILITIES:
		*value = m->arch_capabilities;
		return host || cpuid_has(vcpu, 7, 0, 3, 29) ? MSR_OK : MSR_REFUSED;
	case MSR_PLATFORM_INFO:
		*value = m->platform_info;
		return MSR_OK;
	case MSR_MISC_FEATURES:
		*value = m->misc_features;
		return MSR_OK;
	case MSR_SMBASE:
		*value = vcpu->smbase;
		return host ? MSR_OK : MSR_REFUSED;
	case MSR_SMI_COUNT:
		*value = m->smi_count;
		return MSR_OK;
	case MSR_POWER_CTL:
		*value = m->power_ctl;
		return MSR_OK;
	case MSR_DEBUGCTL:
		*value = m->debugctl;
		return MSR_OK;
	case MSR_HWCR:
		*value = m->hwcr;
		return MSR_OK;
	case MSR_DE_CFG:
		*value = m->de_cfg;
		return m->amd ? MSR_OK : MSR_UNKNOWN;
	case MSR_VM_HSAVE_PA:
		*value = m->hsave_pa;
		return MSR_OK;
	case MSR_XSS:
		*value = 0;
		return host ? MSR_OK : MSR_REFUSED;
	default:
		break;
	}
	if (msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_SYSTEM_TIME || msr >> 8 == MSR_KVM_RANGE)
		return get_kvm(vcpu, msr, value);
	return get_other(vcpu, msr, value);
}

int msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	int r;

	if (!host && !msr_filter_allows(vcpu, msr, false))
		return -1;
	r = msr_get(vcpu, msr, value, host);
	return r < 0 ? -1 : r;
}

int msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	int r;

	if (!host && !msr_filter_allows(vcpu, msr, true))
		return -1;
	r = msr_put(vcpu, msr, value, host);
	if (__builtin_expect(answers_concern(msr), 0))
		answers_update(vcpu);
	return r < 0 ? -1 : r;
}

int msr_init(struct vcpu *vcpu)
{
	struct vcpu_msrs *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	vcpu->msrs = m;
	m->amd = cpuid_host_vendor() == CPUID_AMD;
	m->misc_enable = MISC_ENABLE_NO_PMU;
	m->platform_info = CPUID_FAULT_OFFERED;
	m->poll_control = 1;
	m->mcg_cap = MSR_MCE_BANKS;
	msr_feature_get(vcpu->vm, MSR_UCODE_REV, &m->ucode_rev);
	msr_feature_get(vcpu->vm, MSR_ARCH_CAPABILITIES, &m->arch_capabilities);
	msr_feature_get(vcpu->vm, MSR_DE_CFG, &m->de_cfg);
	vcpu->smbase = 0x30000;
	if (!vcpu->tsc_khz)
		vcpu->tsc_khz = vcpu->vm->tsc_khz ? vcpu->vm->tsc_khz : vcpu->vm->info.tsc_khz;
	vcpu->run->tsc_offset = tsc_offset_shared(vcpu, 0);
	return vcpu->cpuid_count ? 0 : cpuid_set(vcpu, NULL, 0);
}
