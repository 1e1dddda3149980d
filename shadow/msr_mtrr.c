// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory type range registers and PAT. (SDM 3A 12.11, 12.12) */
#include "msr.h"
#include "fault.h"
#include "msr_internal.h"
#include "vcpu.h"

#define MTRR_CAP 0xfe
#define MTRR_VAR 0x200 /* 8 pairs */
#define MTRR_DEF_TYPE 0x2ff
#define MTRR_CAP_VALUE 0x508 /* write combining, fixed ranges, 8 variable ones */

/* Index in mtrr_fixed[], -1: none. */
static int fixed_index(uint32_t msr)
{
	if (msr == 0x250)
		return 0;
	if (msr == 0x258 || msr == 0x259)
		return 1 + (msr - 0x258);
	if (msr >= 0x268 && msr <= 0x26f)
		return 3 + (msr - 0x268);
	return -1;
}

/* UC, WC, WT, WP, WB */
static bool type_valid(uint8_t type)
{
	return type < 8 && (1 << type & 0x73);
}

bool msr_pat_valid(uint64_t value)
{
	for (int i = 0; i < 64; i += 8) {
		uint8_t type = value >> i;

		if (!type_valid(type) && type != 7) /* 7: UC- */
			return false;
	}
	return true;
}

static bool fixed_valid(uint64_t value)
{
	for (int i = 0; i < 64; i += 8) {
		if (!type_valid(value >> i))
			return false;
	}
	return true;
}

static bool variable_valid(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	uint64_t reserved = vcpu->maxphyaddr < 64 ? ~0ull << vcpu->maxphyaddr : 0;

	if (msr & 1) /* mask: bit 11 is V */
		return !(value & (reserved | 0x7ff));
	return !(value & (reserved | 0xf00)) && type_valid(value);
}

int msr_mtrr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	struct vcpu_msrs *m = vcpu->msrs;

	if (msr == MTRR_CAP)
		*value = MTRR_CAP_VALUE;
	else if (msr == MTRR_DEF_TYPE)
		*value = m->mtrr_def_type;
	else if (msr >= MTRR_VAR && msr < MTRR_VAR + 16)
		*value = m->mtrr_var[msr - MTRR_VAR];
	else if (fixed_index(msr) >= 0)
		*value = m->mtrr_fixed[fixed_index(msr)];
	else
		return MSR_UNKNOWN;
	return MSR_OK;
}

int msr_mtrr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	struct vcpu_msrs *m = vcpu->msrs;

	FAULT_POINT(mtrr_write, m, &value, msr);
	if (msr == MTRR_CAP)
		return MSR_REFUSED;
	if (msr == MTRR_DEF_TYPE) {
		if (value & ~0xcffull || !type_valid(value))
			return MSR_REFUSED;
		m->mtrr_def_type = value;
	} else if (msr >= MTRR_VAR && msr < MTRR_VAR + 16) {
		if (!variable_valid(vcpu, msr, value))
			return MSR_REFUSED;
		m->mtrr_var[msr - MTRR_VAR] = value;
	} else if (fixed_index(msr) >= 0) {
		if (!fixed_valid(value))
			return MSR_REFUSED;
		m->mtrr_fixed[fixed_index(msr)] = value;
	} else {
		return MSR_UNKNOWN;
	}
	return MSR_OK;
}
