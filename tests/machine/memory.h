/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MACHINE_MEMORY_H
#define UMBRA_MACHINE_MEMORY_H

#include "lib.h"

void guest_store(struct guest *g, uint64_t gpa, uint64_t value);
uint64_t guest_read(struct guest *g, uint64_t gpa);

void race_dontneed(void);
void race_punch(void);
void race_remap(void);
void race_mprotect(void);
void race_region(void);
void race_region_delete(void);
void race_migrate(void);
void race_fork(void);
void race_dirty(void);
void race_negative_control(void);

#endif
