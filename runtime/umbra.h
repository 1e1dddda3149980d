/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_COMMAND_H
#define UMBRA_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define RUN_EXIT_USAGE 2
#define RUN_EXIT_CANNOT 126    /* found, but the preload cannot work or exec failed */
#define RUN_EXIT_NOT_FOUND 127 /* no such program */

/* umbra run: argv[0] is "run". Returns the exit status; does not return when the VMM is started. */
int run_main(int argc, char **argv);

/* Why a preloaded library cannot work in this program: false and the reason in text. */
bool run_can_preload(const char *path, char *text, size_t size);

/* umbra tcb: what has to be trusted. root: as for doctor. */
void tcb_report(const char *root, FILE *out);

/* umbra doctor: one line a check. root: where /proc, /sys, /dev and /lib/modules are looked for ("" but in tests).
 * Returns the number of lines that say FAIL. */
int doctor_run(const char *root, const char *device, FILE *out);

#endif
