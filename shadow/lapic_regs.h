/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_LAPIC_REGS_H
#define UMBRA_LAPIC_REGS_H

/* Inside the LAPIC: register numbers (SDM 3A table 11-1) and what its files share. */

#include "clock.h"
#include "vcpu.h"

#define APIC_ID 0x20
#define APIC_VERSION 0x30
#define APIC_TPR 0x80
#define APIC_APR 0x90
#define APIC_PPR 0xa0
#define APIC_EOI 0xb0
#define APIC_RRD 0xc0
#define APIC_LDR 0xd0
#define APIC_DFR 0xe0
#define APIC_SVR 0xf0
#define APIC_ISR 0x100
#define APIC_TMR 0x180
#define APIC_IRR 0x200
#define APIC_ESR 0x280
#define APIC_ICR 0x300
#define APIC_ICR2 0x310
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_THERMAL 0x330
#define APIC_LVT_PERF 0x340
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_LVT_ERROR 0x370
#define APIC_TMICT 0x380
#define APIC_TMCCT 0x390
#define APIC_TDCR 0x3e0
#define APIC_SELF_IPI 0x3f0

#define APIC_VERSION_VALUE 0x50014u /* six LVT entries, integrated APIC */
#define APIC_VERSION_DIRECTED_EOI (1u << 24)

#define APIC_SVR_ENABLE (1u << 8)
#define APIC_SVR_FOCUS (1u << 9)
#define APIC_SVR_DIRECTED_EOI (1u << 12)

#define APIC_LVT_MASKED (1u << 16)
#define APIC_LVT_STATUS (1u << 12)
#define APIC_LVT_REMOTE_IRR (1u << 14)

#define APIC_TIMER_PERIODIC (1u << 17)
#define APIC_TIMER_DEADLINE (2u << 17)
#define APIC_TIMER_MODE (3u << 17)

#define APIC_ICR_BUSY (1u << 12)
#define APIC_ICR_LOGICAL (1u << 11)
#define APIC_ICR_ASSERT (1u << 14)
#define APIC_ICR_LEVEL (1u << 15)

#define APIC_ESR_SEND_ILLEGAL 0x20u
#define APIC_ESR_RECEIVE_ILLEGAL 0x40u
#define APIC_ESR_REGISTER 0x80u

#define APIC_FIXED 0
#define APIC_LOWEST 1
#define APIC_SMI 2
#define APIC_NMI 4
#define APIC_INIT 5
#define APIC_SIPI 6
#define APIC_EXTINT 7

#define APIC_BASE_BSP (1ULL << 8)
#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ENABLE (1ULL << 11)
#define APIC_BASE_DEFAULT 0xfee00000ull

#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800

/* Other threads read ID, LDR, DFR and SVR to match destinations: every access is one whole load or store. */
static inline uint32_t lapic_reg(const struct lapic *lapic, uint32_t offset)
{
	return __atomic_load_n((const uint32_t *)(lapic->regs + offset), __ATOMIC_RELAXED);
}

static inline void lapic_set_reg(struct lapic *lapic, uint32_t offset, uint32_t value)
{
	__atomic_store_n((uint32_t *)(lapic->regs + offset), value, __ATOMIC_RELAXED);
}

static inline bool lapic_is_enabled(const struct lapic *lapic)
{
	return __atomic_load_n(&lapic->enabled, __ATOMIC_RELAXED);
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
	return __atomic_load_n(&lapic->x2apic, __ATOMIC_RELAXED);
}

static inline bool lapic_sw_enabled(const struct lapic *lapic)
{
	return lapic_is_enabled(lapic) && lapic_reg(lapic, APIC_SVR) & APIC_SVR_ENABLE;
}

/* IRR, ISR and TMR are eight 32-bit registers each, 16 bytes apart. */
static inline uint32_t lapic_vector_reg(uint32_t base, uint8_t vector)
{
	return base + (vector >> 5) * 16u;
}

static inline bool lapic_vector_test(const struct lapic *lapic, uint32_t base, uint8_t vector)
{
	return lapic_reg(lapic, lapic_vector_reg(base, vector)) >> (vector & 31) & 1;
}

/* Highest vector of IRR or ISR; any: its summary. -1: none. */
static inline int lapic_highest(const struct lapic *lapic, uint32_t base, uint8_t any)
{
	int n;

	if (!any)
		return -1;
	n = 31 - __builtin_clz(any);
	return n * 32 + 31 - __builtin_clz(lapic_reg(lapic, base + n * 16u));
}

/* On the vCPU's thread, all of them. */
void lapic_set_irr(struct lapic *lapic, uint8_t vector, bool level);
void lapic_merge_requests(struct vcpu *vcpu);
void lapic_error(struct vcpu *vcpu, uint32_t bits);
void lapic_local_deliver(struct vcpu *vcpu, uint32_t lvt);
void lapic_pv_eoi_cancel(struct vcpu *vcpu);
uint32_t lapic_version(struct vcpu *vcpu);
uint32_t lapic_ppr(const struct lapic *lapic);
void lapic_registers_reset(struct vcpu *vcpu);
void lapic_send_icr(struct vcpu *vcpu, uint32_t dest, uint32_t icr);
/* One register; 0, -1: no such register in this mode, or a value that x2APIC mode refuses. write: 1 as lapic_eoi(). */
int lapic_register_read(struct vcpu *vcpu, uint32_t offset, uint32_t *value);
int lapic_register_write(struct vcpu *vcpu, uint32_t offset, uint32_t value);

/* lapic_timer.c */
void lapic_timer_stop(struct lapic *lapic);
void lapic_timer_lvt_written(struct vcpu *vcpu);
void lapic_timer_divide_written(struct vcpu *vcpu, uint32_t value);
void lapic_timer_count_written(struct vcpu *vcpu, uint32_t count);
uint32_t lapic_timer_count(struct vcpu *vcpu);
void lapic_timer_set_deadline(struct vcpu *vcpu, uint64_t guest_tsc);
/* After a restore of the registers; count: the restored current count. */
void lapic_timer_restore(struct vcpu *vcpu, uint32_t count);

#endif
