/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_ATTACK_CVE_H
#define UMBRA_ATTACK_CVE_H

#include <stdint.h>

/*
 * cve-client all ROWS SHADOW PRODUCT yes|no: every row of the table, each with a process of its own; then the takeovers or not
 * cve-client row ID: one VMM whose guest, or which itself, attacks; under "umbra run"
 * cve-client witness FILE: another VMM, whose guest computes meanwhile; under "umbra run"
 */

/* What the witness's guest has in its memory, again and again. No other guest may ever see it. */
#define WITNESS_MARK "a witness's own "

/* The file that the witness and who watches it share. */
struct witness {
	volatile uint64_t rounds; /* whole computations with the right sum */
	volatile uint64_t errors;
};

int row_main(const char *id);
int witness_main(const char *path);
int all_main(const char *rows, const char *shadow, const char *product, const char *takeovers);

#endif
