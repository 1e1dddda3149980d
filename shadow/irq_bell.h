/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_IRQ_BELL_H
#define UMBRA_IRQ_BELL_H

#include <stdbool.h>

struct vm;

/* One call of struct channel_irq, if it was rung and nobody else does it. Any thread; no vector registers. */
bool irq_bell_serve(struct vm *vm);
/* by: 1 when a thread begins to look at the bell by itself, -1 when it ends. */
void irq_bell_polled(struct vm *vm, int by);

#endif
