/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_SYS_H
#define UMBRA_SYS_H

/*
 * System calls and instructions for code that runs on a vCPU thread: no libc, no vector registers, no errno.
 * A system call returns its result or a negative errno.
 */

#include <asm/unistd.h>
#include <linux/futex.h>
#include <stdint.h>

static inline long sys_call1(long nr, long a)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a) : "rcx", "r11", "memory");
	return ret;
}

static inline long sys_call3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

static inline long sys_call4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
}

static inline long sys_call5(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long sys_lseek(int fd, long offset, int whence)
{
	return sys_call3(__NR_lseek, fd, offset, whence);
}

static inline long sys_ioctl(int fd, unsigned long nr, unsigned long arg)
{
	return sys_call3(__NR_ioctl, fd, (long)nr, (long)arg);
}

static inline long sys_write(int fd, const void *data, unsigned long len)
{
	return sys_call3(__NR_write, fd, (long)data, (long)len);
}

struct stat;

/* By number: libc's own uses a call that takes a path, too. */
static inline long sys_fstat(int fd, struct stat *st)
{
	return sys_call3(__NR_fstat, fd, (long)st, 0);
}

static inline long sys_madvise(void *addr, unsigned long len, int advice)
{
	return sys_call3(__NR_madvise, (long)addr, (long)len, advice);
}

static inline void sys_sched_yield(void)
{
	sys_call1(__NR_sched_yield, 0);
}

static inline void __attribute__((noreturn)) sys_exit_group(int code)
{
	for (;;)
		sys_call1(__NR_exit_group, code);
}

struct sys_timespec {
	int64_t sec;
	int64_t nsec;
};

/* shared: the word lies in memory that another process maps. timeout: relative; NULL: none. */
static inline long sys_futex_wait(void *word, uint32_t value, const struct sys_timespec *timeout, int shared)
{
	return sys_call4(__NR_futex, (long)word, shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, value, (long)timeout);
}

static inline long sys_futex_wake(void *word, int shared)
{
	return sys_call3(__NR_futex, (long)word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, 0x7fffffff);
}

static inline long sys_clock_gettime(int clock, struct sys_timespec *now)
{
	return sys_call3(__NR_clock_gettime, clock, (long)now, 0);
}

static inline uint64_t cpu_rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low | (uint64_t)high << 32;
}

static inline void cpu_cpuid(uint32_t leaf, uint32_t index, uint32_t regs[4])
{
	__asm__ volatile("cpuid" : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3]) : "a"(leaf), "c"(index));
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* The user GS base of a vCPU's thread is the guest's KERNEL_GS_BASE. */
static inline uint64_t cpu_rdgsbase(void)
{
	uint64_t base;

	__asm__ volatile("rdgsbase %0" : "=r"(base));
	return base;
}

static inline void cpu_wrgsbase(uint64_t base)
{
	__asm__ volatile("wrgsbase %0" : : "r"(base));
}

/* area: 64-byte aligned, its header's reserved bytes zero. */
static inline void cpu_xsave(void *area, uint64_t mask)
{
	__asm__ volatile("xsave64 (%0)" : : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
}

static inline void cpu_xrstor(const void *area, uint64_t mask)
{
	__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
}

static inline void cpu_fxsave(void *area)
{
	__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

static inline void cpu_fxrstor(const void *area)
{
	__asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

static inline void cpu_ldmxcsr(uint32_t value)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(value));
}

#endif
