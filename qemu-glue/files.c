/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

_Atomic(struct file *) file_table[FILE_TABLE_SIZE];

static atomic_int highest = -1;
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *pool;
static struct file private_file = { .refs = 1, .kind = FILE_PRIVATE };

struct file *file_new(enum file_kind kind, void *object)
{
	struct file *file;

	pthread_mutex_lock(&pool_lock);
	file = pool;
	if (file)
		pool = file->next;
	pthread_mutex_unlock(&pool_lock);
	if (!file)
		file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	file->object = object;
	atomic_store(&file->kind, kind);
	atomic_store(&file->refs, 1);
	return file;
}

/*
 * Without a lock: a file may be released and used again between the look at the table and the count, hence the second look.
 * Its memory stays a struct file, so the count itself is always safe to touch.
 */
struct file *file_get(int fd)
{
	struct file *file;
	unsigned int refs;

	if (fd < 0 || fd >= FILE_TABLE_SIZE)
		return NULL;
	for (;;) {
		file = atomic_load(&file_table[fd]);
		if (!file || file == &private_file)
			return NULL;
		refs = atomic_load(&file->refs);
		while (refs && !atomic_compare_exchange_weak(&file->refs, &refs, refs + 1))
			;
		if (refs && atomic_load(&file_table[fd]) == file)
			return file;
		if (refs)
			file_put(file);
	}
}

void file_put(struct file *file)
{
	enum file_kind kind;
	void *object;

	if (file == &private_file)
		return;
	kind = atomic_load(&file->kind);
	object = file->object;
	if (atomic_fetch_sub(&file->refs, 1) != 1)
		return;
	file_release(kind, object);
	pthread_mutex_lock(&pool_lock);
	file->next = pool;
	pool = file;
	pthread_mutex_unlock(&pool_lock);
}

int file_install(int fd, struct file *file)
{
	struct file *old;
	int seen;

	if (fd < 0 || fd >= FILE_TABLE_SIZE)
		return -EMFILE;
	seen = atomic_load(&highest);
	while (seen < fd && !atomic_compare_exchange_weak(&highest, &seen, fd))
		;
	old = atomic_exchange(&file_table[fd], file);
	if (old)
		file_put(old);
	return 0;
}

void file_copy(int from, int to)
{
	struct file *file = file_get(from);

	if (file && file_install(to, file))
		file_put(file);
}

void file_forget(int fd)
{
	struct file *file;

	if (fd < 0 || fd >= FILE_TABLE_SIZE)
		return;
	file = atomic_exchange(&file_table[fd], NULL);
	if (file)
		file_put(file);
}

int file_highest(void)
{
	return atomic_load(&highest);
}

bool file_is_private(int fd)
{
	return fd >= 0 && fd < FILE_TABLE_SIZE && atomic_load(&file_table[fd]) == &private_file;
}

/* VMMs expect small descriptor numbers for what they open; ours go to the upper half of what is allowed. */
int private_fd(int fd)
{
	struct rlimit limit = { 256, 256 };
	int floor, moved;

	if (fd < 0)
		return fd;
	getrlimit(RLIMIT_NOFILE, &limit);
	floor = limit.rlim_cur > 2048 ? 1024 : (int)limit.rlim_cur / 2;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, floor);
	if (moved >= 0) {
		real_close(fd);
		fd = moved;
	}
	file_install(fd, &private_file);
	return fd;
}

void private_close(int fd)
{
	if (fd < 0)
		return;
	file_forget(fd);
	real_close(fd);
}
