/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef FUZZ_HOOKS_RIG_H
#define FUZZ_HOOKS_RIG_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* What rig.c and hooks.c share; here malloc() and its kin are libc's. */

struct sys_timespec;

extern jmp_buf fuzz_sleep;
extern bool fuzz_may_sleep;
bool fuzz_mapped(uint64_t addr, uint64_t len); /* all of it lies in one mapping of the shadow's */
void fuzz_memory_reset(void);
void fuzz_cpuid_init(void);

#endif
