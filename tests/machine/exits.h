/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MACHINE_EXITS_H
#define UMBRA_MACHINE_EXITS_H

#include "lib.h"

/* One expected exit. */
struct step {
	const char *what;
	uint32_t reason;
	uint16_t port;		/* IO */
	uint8_t size, flags;	/* IO */
	uint8_t addr_size, seg; /* string IO */
	uint8_t cr, op, gpr;	/* CR; DR: cr is the number, op 1 for a write */
	uint8_t vector;		/* EXCEPTION */
	uint64_t rax_mask;	/* RAX & rax_mask == value */
	uint64_t value;
};

int int3_vectored(struct vcpu *vcpu); /* at an INT3 whose #BP is intercepted */
void steps_run(struct guest *g, struct snippet code, const struct step *steps, size_t count);

void exits_vectored(void);
void exits_intercepted(void);
void exits_always_intercepted(void);
void exits_inject(void);
void exits_windows(void);
void exits_nmi(void);
void exits_delivery_cut_short(void);
void exits_triple_fault(void);
void exits_deadline(void);
void exits_tsc(void);
void exits_pause(void);
void exits_gs_base(void);
void exits_syscall(void);
void exits_mem_hole(void);
void exits_mem_walk(void);
void exits_mem_readonly(void);
void exits_mem_fault(void);
void exits_flush_tlb(void);
void exits_never_stored(void);
void exits_raw(void);
void exits_raw_svm(void);
void exits_raw_refused(void);
void exits_answers(void);
void exits_output_only(void);
void exits_unknown(void);
void exits_halted(void);

#endif
