/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef FUZZ_HOOKS_H
#define FUZZ_HOOKS_H

/*
 * Included in front of each file of the shadow: time, sleep, threads, memory and the FPU are the fuzzer's, so that one
 * input always does the same and leaves nothing behind. The shadow's own sources stay as they are.
 */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "sys.h"

void *fuzz_malloc(size_t size);
void *fuzz_calloc(size_t n, size_t size);
void fuzz_free(void *p);
void *fuzz_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int fuzz_munmap(void *addr, size_t len);
int fuzz_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg);
int fuzz_epoll_pwait2(int epoll, struct epoll_event *event, int max, const struct timespec *timeout, const void *sigs);
long fuzz_futex_wait(void *word, uint32_t value, const struct sys_timespec *timeout);
_Noreturn void fuzz_exit_group(int code);
long fuzz_clock_gettime(int clock, struct sys_timespec *now);
extern uint64_t fuzz_tsc;
uint64_t fuzz_rdtsc(void);
void fuzz_xsave(void *area, uint64_t mask);
void fuzz_cpuid(uint32_t leaf, uint32_t index, uint32_t regs[4]);
extern uint64_t fuzz_gs_base;

#define malloc(size) fuzz_malloc(size)
#define calloc(n, size) fuzz_calloc(n, size)
#define free(p) fuzz_free(p)
#define mmap(addr, len, prot, flags, fd, offset) fuzz_mmap(addr, len, prot, flags, fd, offset)
#define munmap(addr, len) fuzz_munmap(addr, len)
#define pthread_create(thread, attr, start, arg) fuzz_pthread_create(thread, attr, start, arg)
#define pthread_detach(thread) ((void)(thread), 0)
#define pthread_join(thread, result) ((void)(thread), 0)
#define epoll_pwait2(epoll, event, max, timeout, sigs) fuzz_epoll_pwait2(epoll, event, max, timeout, sigs)
#define sys_futex_wait(word, value, timeout, shared) fuzz_futex_wait(word, value, timeout)
#define sys_exit_group(code) fuzz_exit_group(code)
#define sys_clock_gettime(clock, now) fuzz_clock_gettime(clock, now)
#define sys_madvise(addr, len, advice) ((void)(addr), -22L)		  /* no huge page to be had */
#define sys_call4(nr, a, b, c, d) ((void)(a), (void)(b), (void)(c), -22L) /* rseq, which is the fuzzer's */
#define cpu_rdtsc() fuzz_rdtsc()
#define cpu_pause() ((void)(fuzz_tsc += 100000)) /* nobody comes while one waits: not for long, then */
#define cpu_cpuid(leaf, index, regs) fuzz_cpuid(leaf, index, regs)
/* The guest's FPU state lies in fpu_park all the time; the registers are the fuzzer's. */
#define cpu_xsave(area, mask) fuzz_xsave(area, mask)
#define cpu_xrstor(area, mask) ((void)(area), (void)(mask))
#define cpu_fxrstor(area) ((void)(area))
#define cpu_ldmxcsr(value) ((void)(value))
#define cpu_wrgsbase(base) ((void)(fuzz_gs_base = (base)))
#define cpu_rdgsbase() fuzz_gs_base

#endif
