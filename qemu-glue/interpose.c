/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The functions below are the C library's by name: its own inline forms of them must not get in the way. */
#undef _FORTIFY_SOURCE

#include "glue.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "glue_signals.h"

#define EXPORT __attribute__((visibility("default")))

/* The next definition of a function, found once. Calls may come before any constructor of ours has run. */
static void *find_next(_Atomic(void *) *cache, const char *name)
{
	void *fn = atomic_load_explicit(cache, memory_order_relaxed);

	if (!fn) {
		fn = dlsym(RTLD_NEXT, name);
		if (!fn) {
			glue_say("the C library has no %s()", name);
			_exit(127);
		}
		atomic_store_explicit(cache, fn, memory_order_relaxed);
	}
	return fn;
}

#define NEXT(ret, name, ...)                                          \
	({                                                            \
		static _Atomic(void *) next_##name;                   \
		(ret(*)(__VA_ARGS__)) find_next(&next_##name, #name); \
	})

static int64_t result(int64_t ret)
{
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}

/* ---- whose table is it? ---- */

static pid_t owner;

static void fork_child(void)
{
	owner = getpid();
	shadow_fork_child();
	memory_fork_child();
	proc_fork_child();
}

static void set_up(void)
{
	owner = getpid();
	pthread_atfork(NULL, NULL, fork_child);
}

/* A child made by vfork() runs in our memory, but its descriptors are its own. Asked only about descriptors that are ours. */
static bool is_owner(void)
{
	return owner == (pid_t)syscall(SYS_getpid);
}

/* ---- open ---- */

static bool is_kvm(const char *path)
{
	return path && path[0] == '/' && !strcmp(path, "/dev/kvm");
}

static int open_kvm(int flags)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, set_up);
	return result(kvm_open(flags));
}

#define TAKE_MODE(mode, flags)                                               \
	do {                                                                 \
		if (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE) { \
			va_list ap;                                          \
			va_start(ap, flags);                                 \
			mode = va_arg(ap, mode_t);                           \
			va_end(ap);                                          \
		}                                                            \
	} while (0)

EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (is_kvm(path))
		return open_kvm(flags);
	TAKE_MODE(mode, flags);
	return NEXT(int, open, const char *, int, ...)(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (is_kvm(path))
		return open_kvm(flags);
	TAKE_MODE(mode, flags);
	return NEXT(int, open64, const char *, int, ...)(path, flags, mode);
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (is_kvm(path))
		return open_kvm(flags);
	TAKE_MODE(mode, flags);
	return NEXT(int, openat, int, const char *, int, ...)(dir, path, flags, mode);
}

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (is_kvm(path))
		return open_kvm(flags);
	TAKE_MODE(mode, flags);
	return NEXT(int, openat64, int, const char *, int, ...)(dir, path, flags, mode);
}

/* The forms that _FORTIFY_SOURCE calls. */
EXPORT int __open_2(const char *path, int flags)
{
	return is_kvm(path) ? open_kvm(flags) : NEXT(int, __open_2, const char *, int)(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return is_kvm(path) ? open_kvm(flags) : NEXT(int, __open64_2, const char *, int)(path, flags);
}

EXPORT int __openat_2(int dir, const char *path, int flags)
{
	return is_kvm(path) ? open_kvm(flags) : NEXT(int, __openat_2, int, const char *, int)(dir, path, flags);
}

EXPORT int __openat64_2(int dir, const char *path, int flags)
{
	return is_kvm(path) ? open_kvm(flags) : NEXT(int, __openat64_2, int, const char *, int)(dir, path, flags);
}

/* ---- descriptors ---- */

EXPORT int ioctl(int fd, unsigned long nr, ...)
{
	struct file *file;
	int64_t ret;
	void *arg;
	va_list ap;

	va_start(ap, nr);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (__builtin_expect(!file_is_ours(fd), 1))
		return NEXT(int, ioctl, int, unsigned long, ...)(fd, nr, arg);
	file = file_get(fd);
	if (!file)
		return NEXT(int, ioctl, int, unsigned long, ...)(fd, nr, arg);
	ret = glue_ioctl(file, nr, (uintptr_t)arg);
	file_put(file);
	return result(ret);
}

EXPORT int close(int fd)
{
	if (file_is_ours(fd) && is_owner()) {
		/* A VMM that closes all it does not know would cut its own guest off. */
		if (file_is_private(fd))
			return result(-EBADF);
		file_forget(fd);
	}
	return NEXT(int, close, int)(fd);
}

static int close_pieces(unsigned int first, unsigned int last, int flags)
{
	unsigned int from = first;
	int top = file_highest();
	int ret = 0;

	for (unsigned int fd = first; top >= 0 && fd <= last && fd <= (unsigned int)top; fd++) {
		if (!file_is_ours(fd))
			continue;
		if (!file_is_private(fd)) {
			file_forget(fd);
			continue;
		}
		if (from < fd)
			ret |= syscall(SYS_close_range, from, fd - 1, flags);
		from = fd + 1;
	}
	if (from <= last)
		ret |= syscall(SYS_close_range, from, last, flags);
	return ret;
}

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	if (first > last || flags || file_highest() < 0 || !is_owner())
		return syscall(SYS_close_range, first, last, flags);
	return close_pieces(first, last, flags);
}

EXPORT void closefrom(int low)
{
	if (file_highest() < 0 || !is_owner())
		NEXT(void, closefrom, int)(low);
	else
		close_pieces(low < 0 ? 0 : low, ~0U, 0);
}

static int note_dup(int from, int to)
{
	if (to >= 0 && (file_is_ours(from) || file_is_ours(to)) && is_owner()) {
		if (from == to)
			return to;
		file_forget(to);
		file_copy(from, to);
	}
	return to;
}

EXPORT int dup(int fd)
{
	return note_dup(fd, NEXT(int, dup, int)(fd));
}

EXPORT int dup2(int from, int to)
{
	if (file_is_ours(to) && file_is_private(to) && is_owner())
		return result(-EBUSY);
	return note_dup(from, NEXT(int, dup2, int, int)(from, to));
}

EXPORT int dup3(int from, int to, int flags)
{
	if (file_is_ours(to) && file_is_private(to) && is_owner())
		return result(-EBUSY);
	return note_dup(from, NEXT(int, dup3, int, int, int)(from, to, flags));
}

/* Every command's argument is one register; passing it on as it came is right for all of them. */
EXPORT int fcntl(int fd, int cmd, ...)
{
	void *arg;
	va_list ap;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	ret = NEXT(int, fcntl, int, int, ...)(fd, cmd, arg);
	return (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) ? note_dup(fd, ret) : ret;
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
	void *arg;
	va_list ap;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	ret = NEXT(int, fcntl64, int, int, ...)(fd, cmd, arg);
	return (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) ? note_dup(fd, ret) : ret;
}

/* ---- memory ---- */

static void *note_mmap(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	int ret;

	if (addr == MAP_FAILED)
		return addr;
	if (!(flags & MAP_ANONYMOUS)) {
		ret = vcpu_map_ring(fd, addr, len, prot, flags, (uint64_t)offset);
		if (ret) {
			real_munmap(addr, len);
			errno = -ret;
			return MAP_FAILED;
		}
	}
	if (atomic_load_explicit(&memory_converted, memory_order_relaxed))
		memory_forget(addr, len);
	memory_note_mmap(addr, len, flags);
	return addr;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return note_mmap(NEXT(void *, mmap, void *, size_t, int, int, int, off_t)(addr, len, prot, flags, fd, offset),
			 len, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	return note_mmap(NEXT(void *, mmap64, void *, size_t, int, int, int, off64_t)(addr, len, prot, flags, fd,
										      offset),
			 len, prot, flags, fd, offset);
}

EXPORT int munmap(void *addr, size_t len)
{
	/* Before: once it is unmapped another thread may get the same addresses. */
	if (len && !((uintptr_t)addr % GLUE_PAGE))
		memory_forget(addr, len);
	return NEXT(int, munmap, void *, size_t)(addr, len);
}

EXPORT void *mremap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
	void *to = NULL, *ret;
	va_list ap;
	int check;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	if (!atomic_load(&memory_converted))
		return NEXT(void *, mremap, void *, size_t, size_t, int, ...)(old, old_len, new_len, flags, to);
	check = old_len ? memory_mremap_check(old, old_len, new_len) : 0;
	if (check) {
		errno = -check;
		return MAP_FAILED;
	}
	ret = NEXT(void *, mremap, void *, size_t, size_t, int, ...)(old, old_len, new_len, flags, to);
	if (ret != MAP_FAILED)
		memory_moved(old, old_len, ret, new_len);
	return ret;
}

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* posix_madvise() is left alone: its DONTNEED drops nothing. */
EXPORT int madvise(void *addr, size_t len, int advice)
{
	bool done;
	int ret;

	if (atomic_load_explicit(&memory_converted, memory_order_relaxed) &&
	    (advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_DONTNEED_LOCKED)) {
		ret = memory_advise(addr, len, advice, &done);
		if (done)
			return result(ret);
	}
	return NEXT(int, madvise, void *, size_t, int)(addr, len, advice);
}

/* ---- signals ---- */

EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return signals_action(sig, act, old);
}

typedef void (*simple_handler)(int);

EXPORT simple_handler signal(int sig, simple_handler handler)
{
	if (!signals_watching())
		return NEXT(simple_handler, signal, int, simple_handler)(sig, handler);
	return signals_signal(sig, handler, SA_RESTART);
}

EXPORT simple_handler __sysv_signal(int sig, simple_handler handler)
{
	if (!signals_watching())
		return NEXT(simple_handler, __sysv_signal, int, simple_handler)(sig, handler);
	return signals_signal(sig, handler, SA_RESETHAND | SA_NODEFER);
}
