/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_GLUE_SIGNALS_H
#define UMBRA_GLUE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

/* What the interposed sigaction() and signal() do. */
int signals_action(int sig, const struct sigaction *act, struct sigaction *old);
void (*signals_signal(int sig, void (*handler)(int), int flags))(int);
bool signals_watching(void);

#endif
