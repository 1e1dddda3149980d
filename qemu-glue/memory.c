/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAPS_MAX 64
#define HINT_MIN 65536 /* bytes: guest memory that is smaller is found by its mapping */

/* ---- slots ---- */

/* 1: [start, end) lies in one backing, holes of the address space between its ranges excepted; 0: nothing of it is converted. */
static int find_backing(uint64_t start, uint64_t end, struct backing **backing, uint64_t *offset, bool *readonly)
{
	struct map_info maps[1];
	uint64_t covered = start;
	size_t i = ranges_first(start);

	*backing = NULL;
	*readonly = true;
	for (; i < ranges_count() && ranges_at(i)->start < end; i++) {
		struct range *r = ranges_at(i);

		if (!*backing) {
			*backing = r->backing;
			*offset = r->offset + start - r->start;
		}
		if (r->backing != *backing || r->offset - r->start != *offset - start)
			return -EINVAL;
		if (r->start > covered && maps_read(covered, r->start, maps, 1, false))
			return -EINVAL; /* something that was not converted lies between */
		covered = r->end;
		if (r->prot & PROT_WRITE)
			*readonly = false;
	}
	if (!*backing)
		return 0;
	if (covered < end && maps_read(covered, end, maps, 1, false))
		return -EINVAL;
	if (*offset > (*backing)->size || end - start > (*backing)->size - *offset)
		return -EINVAL;
	return 1;
}

static int ref_backing(const struct backing *backing, uint64_t offset, bool readonly, struct memory_ref *ref)
{
	char name[32];

	snprintf(name, sizeof(name), "fd/%d", backing->fd);
	ref->fd = readonly ? proc_open(name, O_RDONLY) : -1;
	if (ref->fd < 0)
		ref->fd = fcntl(backing->fd, F_DUPFD_CLOEXEC, 0);
	ref->offset = offset;
	ref->readonly = readonly;
	ref->huge = backing->huge;
	return ref->fd < 0 ? -errno : 0;
}

/* Memory that is a shared mapping already: 1 done, 0 it is not one. */
static int share_as_is(uint64_t start, uint64_t end, struct memory_ref *ref)
{
	struct map_info maps[MAPS_MAX];
	int n = maps_read(start, end, maps, MAPS_MAX, false);
	bool write = false;

	if (n <= 0)
		return n ? n : -EFAULT;
	if (!maps[0].shared || !maps[0].inode)
		return 0;
	for (int i = 0; i < n; i++) {
		if (!maps[i].shared || maps[i].inode != maps[0].inode || maps[i].dev != maps[0].dev ||
		    maps[i].offset - maps[i].start != maps[0].offset - maps[0].start)
			return 0;
		write |= maps[i].prot & PROT_WRITE;
	}
	ref->fd = shared_find(&maps[0], write);
	if (ref->fd < 0) {
		if (!strcmp(maps[0].path, "/dev/zero (deleted)") || !strcmp(maps[0].path, "/anon_hugepage (deleted)"))
			return 0; /* shared with children only, which have no part in a guest: copied like private memory */
		glue_say("guest memory is a shared mapping of %s, but no descriptor of it is open: keep one open",
			 maps[0].path);
		return -EACCES;
	}
	ref->offset = maps[0].offset + start - maps[0].start;
	ref->readonly = !write;
	return 1;
}

/* Memory that the C library itself gave back (a large free()) went without our seeing it: what is there now is another mapping. */
static void drop_stale(uint64_t start, uint64_t end)
{
	struct map_info maps[MAPS_MAX];
	int n = maps_read(start, end, maps, MAPS_MAX, false);

	for (int i = 0; i < n; i++) {
		uint64_t from = maps[i].start > start ? maps[i].start : start,
			 to = maps[i].end < end ? maps[i].end : end;
		size_t at = ranges_first(from);

		if (at < ranges_count() && ranges_at(at)->start < to &&
		    (!maps[i].shared || maps[i].inode != ranges_at(at)->backing->inode))
			ranges_cut(from, to);
	}
}

static int share_locked(uint64_t start, uint64_t end, struct memory_ref *ref)
{
	struct backing *backing;
	uint64_t offset;
	bool readonly;
	int ret;

	drop_stale(start, end);
	ret = find_backing(start, end, &backing, &offset, &readonly);
	if (!ret) {
		ret = share_as_is(start, end, ref);
		if (ret)
			return ret < 0 ? ret : 0;
		ret = memory_convert(start, end);
		if (ret)
			return ret;
		ret = find_backing(start, end, &backing, &offset, &readonly);
	}
	if (ret < 0)
		glue_say("a memory slot covers memory of several blocks: this is not supported");
	return ret > 0 ? ref_backing(backing, offset, readonly, ref) : ret ? ret : -EFAULT;
}

int memory_share(uint64_t addr, uint64_t size, struct memory_ref *ref)
{
	int ret;

	if (!size || addr + size < addr)
		return -EINVAL;
	pthread_mutex_lock(&memory_lock);
	ret = share_locked(addr, addr + size, ref);
	pthread_mutex_unlock(&memory_lock);
	return ret;
}

/* ---- what the VMM does to its address space ---- */

void memory_note_mmap(void *addr, size_t len, int flags)
{
	uint64_t start = (uintptr_t)addr;

	if (!(flags & MAP_PRIVATE) || len < HINT_MIN)
		return;
	pthread_mutex_lock(&memory_lock);
	hints_add(start, start + ((len + GLUE_PAGE - 1) & ~(GLUE_PAGE - 1)));
	pthread_mutex_unlock(&memory_lock);
}

void memory_forget(void *addr, size_t len)
{
	uint64_t start = (uintptr_t)addr, end = start + ((len + GLUE_PAGE - 1) & ~(GLUE_PAGE - 1));

	if (!atomic_load(&memory_converted) && len < HINT_MIN)
		return;
	pthread_mutex_lock(&memory_lock);
	hints_cut(start, end);
	if (ranges_cut(start, end))
		glue_say("out of memory for the table of guest memory");
	pthread_mutex_unlock(&memory_lock);
}

/* Pages of a private file mapping that are given up read as the file again. */
static int restore_origin(const struct range *r, uint64_t start, uint64_t end)
{
	const struct backing *b = r->backing;
	uint64_t offset = r->offset + start - r->start;
	uint8_t page[GLUE_PAGE];

	if (b->origin < 0)
		return -EINVAL;
	for (; start < end; start += GLUE_PAGE, offset += GLUE_PAGE) {
		ssize_t n = pread(b->origin, page, sizeof(page), b->origin_offset + offset);

		if (n < 0)
			return -errno;
		memset(page + n, 0, sizeof(page) - n);
		if (pwrite(b->fd, page, sizeof(page), offset) != (ssize_t)sizeof(page))
			return -errno;
	}
	return 0;
}

static int give_up(const struct range *r, uint64_t start, uint64_t end)
{
	if (r->backing->has_origin)
		return restore_origin(r, start, end);
	if (fallocate(r->backing->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r->offset + start - r->start,
		      end - start))
		return -errno;
	return 0;
}

static int advise_rest(uint64_t start, uint64_t end, int advice)
{
	return start < end && real_madvise((void *)start, end - start, advice) ? -errno : 0;
}

/*
 * Giving up pages: on a shared mapping MADV_DONTNEED would keep the data, on private memory it drops them. *done is false when the
 * range has nothing of ours.
 */
int memory_advise(void *addr, size_t len, int advice, bool *done)
{
	uint64_t at = (uintptr_t)addr, end = at + ((len + GLUE_PAGE - 1) & ~(GLUE_PAGE - 1));
	size_t i;
	int ret = 0;

	*done = false;
	if (at % GLUE_PAGE || end < at)
		return 0; /* the kernel's EINVAL */
	pthread_mutex_lock(&memory_lock);
	i = ranges_first(at);
	*done = i < ranges_count() && ranges_at(i)->start < end;
	for (; *done && !ret && i < ranges_count() && ranges_at(i)->start < end; i++) {
		const struct range *r = ranges_at(i);
		uint64_t from = r->start > at ? r->start : at, to = r->end < end ? r->end : end;

		ret = advise_rest(at, from, advice);
		if (!ret)
			ret = give_up(r, from, to);
		at = to;
	}
	if (*done && !ret)
		ret = advise_rest(at, end, advice);
	pthread_mutex_unlock(&memory_lock);
	return ret;
}

/* Converted memory has the size of its file: it can move and shrink, not grow. */
int memory_mremap_check(void *old, size_t old_len, size_t new_len)
{
	uint64_t start = (uintptr_t)old;
	bool ours;
	size_t i;

	if (new_len <= old_len)
		return 0;
	pthread_mutex_lock(&memory_lock);
	i = ranges_first(start);
	ours = i < ranges_count() && ranges_at(i)->start < start + old_len;
	pthread_mutex_unlock(&memory_lock);
	return ours ? -ENOMEM : 0;
}

/* After mremap(). from_len 0: the pages are at both places now. */
void memory_moved(void *from, size_t from_len, void *to, size_t to_len)
{
	uint64_t source = (uintptr_t)from, target = (uintptr_t)to;
	struct range moved[MAPS_MAX];
	size_t n = 0;

	pthread_mutex_lock(&memory_lock);
	for (size_t i = ranges_first(source);
	     n < MAPS_MAX && i < ranges_count() && ranges_at(i)->start < source + to_len; i++) {
		struct range r = *ranges_at(i);
		uint64_t start = r.start > source ? r.start : source,
			 end = r.end < source + to_len ? r.end : source + to_len;

		r.offset += start - r.start;
		r.start = target + (start - source);
		r.end = target + (end - source);
		r.backing->refs++; /* over the cut */
		moved[n++] = r;
	}
	if (from_len) {
		hints_cut(source, source + from_len);
		ranges_cut(source, source + from_len);
	}
	if (source != target || !from_len)
		ranges_cut(target, target + to_len);
	for (size_t i = 0; i < n; i++) {
		if (ranges_insert(&moved[i]))
			glue_say("out of memory for the table of guest memory");
		backing_put(moved[i].backing);
	}
	pthread_mutex_unlock(&memory_lock);
}

/*
 * In a child made by fork() what was private memory is private again: a copy, as it would have been. (What the VMM kept
 * out of its children is not there.)
 */
void memory_fork_child(void)
{
	pthread_mutex_init(&memory_lock, NULL);
	for (size_t i = 0; i < ranges_count(); i++) {
		const struct range *r = ranges_at(i);

		if (!r->dontfork)
			real_mmap((void *)r->start, r->end - r->start, r->prot, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
				  r->backing->fd, r->offset);
	}
	/* The files themselves stay the parent's: nothing here may punch holes into them. */
	ranges_drop_all();
}
