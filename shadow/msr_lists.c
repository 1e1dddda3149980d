// SPDX-License-Identifier: GPL-2.0-or-later
/* Tables of MSRs: without meaning, for KVM_GET_MSR_INDEX_LIST, for the system's feature MSRs. */
#include <errno.h>
#include <stddef.h>
#include <asm/kvm_para.h>

#include "cpuid_host.h"
#include "msr.h"
#include "msr_internal.h"
#include "msr_numbers.h"
#include "vm.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define WR_IGNORE 1 /* any write is taken */
#define WR_ZERO 2   /* a write of 0 is taken */

/* Read by Linux, Windows or firmware without asking CPUID. */
static const struct {
	uint32_t msr;
	uint8_t write;
	uint64_t value;
} constants[] = {
	{ 0x0, 0, 0 },
	{ 0x1, 0, 0 },		 /* P5_MC_ADDR, P5_MC_TYPE */
	{ 0x17, 0, 0 },		 /* PLATFORM_ID */
	{ 0x2a, 0, 0 },		 /* EBL_CR_POWERON */
	{ 0x2c, 0, 1ull << 24 }, /* EBC_FREQUENCY_ID: a 100 MHz bus */
	{ 0xc1, WR_ZERO, 0 },
	{ 0xc2, WR_ZERO, 0 }, /* PERFCTR0, 1: no PMU */
	{ 0x186, WR_ZERO, 0 },
	{ 0x187, WR_ZERO, 0 },		  /* EVNTSEL0, 1 */
	{ 0xcd, 0, 3 },			  /* FSB_FREQ */
	{ 0x11e, WR_IGNORE, 0xbe702111 }, /* BBL_CR_CTL3: the L2 cache is there and on */
	{ 0x198, 0, 1000 | 4ull << 40 },  /* PERF_STATUS: the TSC's ratio, as KVM gives it */
	{ 0x199, WR_IGNORE, 0 },	  /* PERF_CTL */
	{ 0x1db, 0, 0 },
	{ 0x1dc, 0, 0 },
	{ 0x1dd, 0, 0 },
	{ 0x1de, 0, 0 }, /* last branch and interrupt */
	{ 0x606, 0, 0 },
	{ 0x611, 0, 0 },
	{ 0x619, 0, 0 },
	{ 0x639, 0, 0 },
	{ 0x641, 0, 0 }, /* RAPL: no unit, no energy */
	{ 0xc0010000, WR_ZERO, 0 },
	{ 0xc0010001, WR_ZERO, 0 },
	{ 0xc0010002, WR_ZERO, 0 },
	{ 0xc0010003, WR_ZERO, 0 },
	{ 0xc0010004, WR_ZERO, 0 },
	{ 0xc0010005, WR_ZERO, 0 },
	{ 0xc0010006, WR_ZERO, 0 },
	{ 0xc0010007, WR_ZERO, 0 },
	{ 0xc0010010, 0, 0 },		       /* SYSCFG */
	{ 0xc001001b, WR_IGNORE, 0x20000000 }, /* K7_CLK_CTL */
	{ 0xc001001f, WR_IGNORE, 0 },	       /* NB_CFG */
	{ 0xc0010055, 0, 0 },		       /* INT_PENDING_MSG */
	{ 0xc0010058, WR_ZERO, 0 },	       /* MMIO_CONF_BASE: off */
	{ 0xc0010112, 0, 0 },
	{ 0xc0010113, 0, 0 },	      /* SMM_ADDR, SMM_MASK */
	{ 0xc0011022, WR_IGNORE, 0 }, /* DC_CFG */
	{ 0xc001102a, WR_IGNORE, 0 }, /* BU_CFG2 */
	{ 0xc001102c, WR_IGNORE, 0 }, /* EX_CFG */
};

bool msr_put_only(uint32_t msr)
{
	return msr == 0x79 || msr == 0xc0010020; /* microcode update triggers: a guest has none to give */
}

static uint8_t write_rule(uint32_t msr)
{
	for (size_t i = 0; i < COUNT(constants); i++) {
		if (constants[i].msr == msr)
			return constants[i].write;
	}
	return msr_put_only(msr) ? WR_IGNORE : 0;
}

bool msr_constant(uint32_t msr, uint64_t *value)
{
	for (size_t i = 0; i < COUNT(constants); i++) {
		if (constants[i].msr == msr) {
			*value = constants[i].value;
			return true;
		}
	}
	return false;
}

bool msr_ignored(uint32_t msr)
{
	return write_rule(msr);
}

bool msr_zero_only(uint32_t msr)
{
	return write_rule(msr) == WR_ZERO;
}

/* ---- KVM_GET_MSR_INDEX_LIST: what a VMM saves and restores ---- */

static const uint32_t saved[] = {
	MSR_SYSENTER_CS,
	MSR_SYSENTER_ESP,
	MSR_SYSENTER_EIP,
	MSR_STAR,
	MSR_CSTAR,
	MSR_KERNEL_GS_BASE,
	MSR_FMASK,
	MSR_LSTAR,
	MSR_TSC,
	MSR_PAT,
	MSR_FEATURE_CONTROL,
	MSR_KVM_SYSTEM_TIME,
	MSR_KVM_WALL_CLOCK,
	MSR_KVM_SYSTEM_TIME_NEW,
	MSR_KVM_WALL_CLOCK_NEW,
	MSR_KVM_PV_EOI_EN,
	MSR_KVM_STEAL_TIME,
	MSR_KVM_POLL_CONTROL,
	MSR_TSC_ADJUST,
	MSR_TSC_DEADLINE,
	MSR_ARCH_CAPABILITIES,
	MSR_MISC_ENABLE,
	MSR_MCG_STATUS,
	MSR_MCG_CTL,
	MSR_PLATFORM_INFO,
	MSR_MISC_FEATURES,
	MSR_UCODE_REV,
	MSR_POWER_CTL,
};

static uint32_t append(uint32_t *list, uint32_t max, uint32_t n, uint32_t msr)
{
	if (n < max)
		list[n] = msr;
	return n + 1;
}

uint32_t msr_index_list(const struct vm *vm, uint32_t *list, uint32_t max)
{
	uint32_t n = 0;

	for (size_t i = 0; i < COUNT(saved); i++)
		n = append(list, max, n, saved[i]);
	if (vm->info.features & UMBRA_FEAT_RDTSCP)
		n = append(list, max, n, MSR_TSC_AUX);
	if (cpuid_host_vendor() == CPUID_AMD) {
		n = append(list, max, n, MSR_HWCR);
		n = append(list, max, n, MSR_VM_HSAVE_PA);
		n = append(list, max, n, MSR_DE_CFG);
	}
	return n;
}

/* ---- KVM_GET_MSR_FEATURE_INDEX_LIST, and KVM_GET_MSRS on /dev/kvm ---- */

uint32_t msr_feature_list(const struct vm *vm, uint32_t *list, uint32_t max)
{
	uint32_t n = 0;

	(void)vm;
	n = append(list, max, n, MSR_UCODE_REV);
	n = append(list, max, n, MSR_ARCH_CAPABILITIES);
	if (cpuid_host_vendor() == CPUID_AMD)
		n = append(list, max, n, MSR_DE_CFG);
	return n;
}

/* AMD: always, or as the host's kernel has set it: Linux does wherever the MSR exists, from family 10h on but for 11h. */
static bool lfence_serializes(void)
{
	uint32_t r[4], family;

	cpuid_host(0x80000000, 0, r);
	if (r[0] >= 0x80000021) {
		cpuid_host(0x80000021, 0, r);
		if (r[0] & 4)
			return true;
	}
	cpuid_host(1, 0, r);
	family = (r[0] >> 8 & 15) + (r[0] >> 20 & 0xff);
	return family >= 0x10 && family != 0x11;
}

/*
 * User space cannot read the host's MSRs, so only what holds without looking is said. ARCH_CAPABILITIES: PSCHANGE_MC_NO (the
 * shim splits executable huge pages where the CPU needs that); the _NO bits of side channels stay 0, which is always safe.
 */
int msr_feature_get(const struct vm *vm, uint32_t msr, uint64_t *value)
{
	(void)vm;
	switch (msr) {
	case MSR_UCODE_REV:
		*value = cpuid_host_vendor() == CPUID_AMD ? 0x01000065 : 1ull << 32;
		return 0;
	case MSR_ARCH_CAPABILITIES:
		*value = 1 << 6;
		return 0;
	case MSR_DE_CFG:
		if (cpuid_host_vendor() != CPUID_AMD)
			return -EINVAL;
		*value = lfence_serializes() ? 2 : 0;
		return 0;
	default:
		return -EINVAL;
	}
}
