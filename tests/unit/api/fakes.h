/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef API_FAKES_H
#define API_FAKES_H

#include <check.h>
#include <linux/kvm.h>

#include "core.h"
#include "cpuid.h"
#include "cpuid_host.h"
#include "msr.h"
#include "msr_internal.h"
#include "msr_numbers.h"

/* One VM with one vCPU whose shim loads and stores nothing: the run area is the state. */
struct world {
	struct shim shim;
	struct vm vm;
	struct vcpu vcpu;
	struct umbra_run run;
	uint8_t vapic[4096];
	uint8_t memory[8192]; /* guest-physical 0.. */
};
extern struct world *w;

void world_make(void);
void world_drop(void);

/* A host with every CPUID bit set in the feature leaves. */
void host_everything(uint32_t function, uint32_t index, uint32_t regs[4]);
/* Changes to it: the next host_everything() calls answer so. */
extern uint32_t host_max_basic, host_max_extended;
extern bool host_amd;

/* Sets the guest's CPUID to all that is supported. */
void guest_cpuid_supported(void);
/* One register bit of the guest's CPUID; the leaf must be there. */
void guest_cpuid_bit(uint32_t function, int reg, int bit, bool on);

extern uint64_t fake_tsc;
/* What the fakes were asked. */
extern struct seen {
	unsigned int tsc_changed, wall_clock, system_time, apic_base_set, x2apic_reads, x2apic_writes, synchronized,
		skipped, fetched;
	uint64_t last;
} seen;
extern uint64_t fetch_valid; /* groups that vcpu_fetch() was asked for */

int call(uint32_t nr, void *buf, uint32_t in, uint32_t *out);

Suite *suite_cpuid(void);
Suite *suite_msr(void);
Suite *suite_calls(void);
Suite *suite_system(void);
Suite *suite_answers(void);

#endif
