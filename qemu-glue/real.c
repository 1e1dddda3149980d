/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FRAMES_NEAR 4096 /* bytes */

/* Raw system calls: neither our own interposers nor another preloaded library's see them. */

int real_close(int fd)
{
	return syscall(SYS_close, fd);
}

int real_dup3(int from, int to, int flags)
{
	return syscall(SYS_dup3, from, to, flags);
}

void *real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

int real_munmap(void *addr, size_t len)
{
	return syscall(SYS_munmap, addr, len);
}

int real_madvise(void *addr, size_t len, int advice)
{
	return syscall(SYS_madvise, addr, len, advice);
}

long real_futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

void glue_say(const char *fmt, ...)
{
	char line[1400] = "umbra: ";
	size_t used = strlen(line);
	ssize_t n;
	va_list ap;

	va_start(ap, fmt);
	n = vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	used += (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
	line[used++] = '\n';
	/* One write, so that lines of several threads do not mix. Nothing to be done if it fails. */
	n = write(STDERR_FILENO, line, used);
	(void)n;
}

/* Of this thread; end 0: not looked up yet, 1: not known. */
static __thread struct stack {
	uint64_t start, end;
} stack __attribute__((tls_model("initial-exec")));

static void stack_find(void)
{
	pthread_attr_t attr;
	void *start;
	size_t size;

	stack.end = 1;
	if (pthread_getattr_np(pthread_self(), &attr))
		return;
	if (!pthread_attr_getstack(&attr, &start, &size)) {
		stack.start = (uintptr_t)start;
		stack.end = stack.start + size;
	}
	pthread_attr_destroy(&attr);
}

/*
 * Just above this frame are those of the callers: what a VMM has there need not be asked about. Not so past the end of the stack,
 * and on a stack that is not the thread's, as a coroutine's.
 */
static bool in_callers_frame(uint64_t addr, size_t len)
{
	uint64_t here = (uintptr_t)__builtin_frame_address(0);

	if (addr < here || addr + len > here + FRAMES_NEAR)
		return false;
	if (!stack.end)
		stack_find();
	return here >= stack.start && addr + len <= stack.end;
}

static void plain_copy(void *ours, void *theirs, size_t len, bool write)
{
	if (write)
		memcpy(theirs, ours, len);
	else
		memcpy(ours, theirs, len);
}

/*
 * The kernel does the copy, so that a bad pointer is EFAULT and not a crash. Where a sandbox forbids the call, a plain
 * copy is what is left: NULL is still caught.
 */
static int user_copy(void *ours, uint64_t addr, size_t len, bool write)
{
	struct iovec local = { ours, len }, remote = { (void *)(uintptr_t)addr, len };
	int saved = errno;
	ssize_t n;

	if (!len)
		return 0;
	if (addr < GLUE_PAGE || addr + len < addr)
		return -EFAULT;
	if (in_callers_frame(addr, len)) {
		errno = saved;
		plain_copy(ours, remote.iov_base, len, write);
		return 0;
	}
	if (write)
		n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	else
		n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	if (n == (ssize_t)len)
		return 0;
	if (n >= 0 || (errno != EPERM && errno != ENOSYS)) {
		errno = saved;
		return -EFAULT;
	}
	errno = saved;
	plain_copy(ours, remote.iov_base, len, write);
	return 0;
}

int user_read(void *to, uint64_t addr, size_t len)
{
	return user_copy(to, addr, len, false);
}

int user_write(uint64_t addr, const void *from, size_t len)
{
	return user_copy((void *)(uintptr_t)from, addr, len, true);
}
