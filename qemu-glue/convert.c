/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue_memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAPS_MAX 64
#define CHUNK_PAGES 64
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

/* ---- descriptors of files that are mapped ---- */

static bool same_file(int fd, const struct map_info *map)
{
	char link[32], path[sizeof(map->path) + 16];
	struct stat st;
	ssize_t n;
	int dir;

	if (fstat(fd, &st) || st.st_ino != map->inode)
		return false;
	if (st.st_dev == map->dev)
		return true;
	/* Some filesystems show another device here than there: then the name has to be the same. */
	dir = proc_open("fd", O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		return false;
	snprintf(link, sizeof(link), "%d", fd);
	n = readlinkat(dir, link, path, sizeof(path) - 1);
	real_close(dir);
	if (n < 0)
		return false;
	path[n] = 0;
	return !strcmp(path, map->path);
}

static bool access_is_enough(int fd, bool write)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_PATH))
		return false;
	return (flags & O_ACCMODE) == O_RDWR || (!write && (flags & O_ACCMODE) == O_RDONLY);
}

static int find_among_open(const struct map_info *map, bool write)
{
	int dir_fd = proc_open("fd", O_RDONLY | O_DIRECTORY), found = -ENOENT;
	DIR *dir = dir_fd < 0 ? NULL : fdopendir(dir_fd);
	struct dirent *entry;

	if (!dir) {
		if (dir_fd >= 0)
			real_close(dir_fd);
		return -ENOENT;
	}
	while (found < 0 && (entry = readdir(dir))) {
		char *rest;
		int fd = strtol(entry->d_name, &rest, 10);

		if (*rest || rest == entry->d_name || fd == dir_fd || !access_is_enough(fd, write) ||
		    !same_file(fd, map))
			continue;
		found = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		/* Another thread may have closed it and opened something else there. */
		if (found >= 0 && (!access_is_enough(found, write) || !same_file(found, map))) {
			real_close(found);
			found = -ENOENT;
		}
	}
	closedir(dir);
	return found;
}

/*
 * The descriptor found is the VMM's: it has a position, and often more rights than the mapping. A shadow gets a description of its own with the
 * mapping's rights. Only of what opens as the same thing again: a file, which may be deleted, a memfd or of hugetlbfs; opened anew a device
 * may be another one. Where the file's mode refuses it (the descriptor was passed on by a more privileged process), the VMM's own has
 * to do, as a guest would not start otherwise.
 */
static int reopen(int fd, const struct map_info *map, bool write)
{
	char name[32];
	struct stat st;
	int own = -1;

	if (!fstat(fd, &st) && S_ISREG(st.st_mode)) {
		snprintf(name, sizeof(name), "fd/%d", fd);
		own = proc_open(name, write ? O_RDWR : O_RDONLY);
	}
	if (own >= 0 && same_file(own, map)) {
		real_close(fd);
		return own;
	}
	if (own >= 0)
		real_close(own);
	else if (!write && access_is_enough(fd, true))
		glue_say(
			"guest memory is a read-only mapping of %s, which cannot be opened for reading alone: its shadow can write there",
			map->path);
	return fd;
}

int shared_find(const struct map_info *map, bool write)
{
	int flags = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC, fd = find_among_open(map, write);
	char name[64];

	if (fd >= 0)
		return reopen(fd, map, write);
	/* The VMM closed it after mapping. The kernel's own link needs a privilege; the name may be gone or stand for another file. */
	snprintf(name, sizeof(name), "map_files/%llx-%llx", (unsigned long long)map->start,
		 (unsigned long long)map->end);
	fd = proc_open(name, flags);
	if (fd < 0 && map->path[0] == '/')
		fd = open(map->path, flags);
	if (fd >= 0 && same_file(fd, map))
		return fd;
	if (fd >= 0)
		real_close(fd);
	return -ENOENT;
}

/* ---- copying ---- */

static bool page_is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, GLUE_PAGE - 1);
}

struct copier {
	uint8_t *view; /* of the memfd; its start stands for base */
	uint64_t base;
	int mem, pagemap; /* of /proc/self; -1: not to be had */
	uint8_t *bounce;  /* CHUNK_PAGES */
};

/* A page that cannot be read by anyone (past the end of a file, say) stays zero. */
static int read_pages(struct copier *c, uint64_t addr, size_t len)
{
	if (!user_read(c->bounce, addr, len))
		return 0;
	/* Not readable for this process now, but it may become so again: PROT_NONE, write-only. */
	return c->mem >= 0 && pread(c->mem, c->bounce, len, addr) == (ssize_t)len ? 0 : -EFAULT;
}

static void copy_pages(struct copier *c, uint64_t addr, size_t pages)
{
	if (read_pages(c, addr, pages * GLUE_PAGE)) {
		for (size_t i = 0; pages > 1 && i < pages; i++)
			copy_pages(c, addr + i * GLUE_PAGE, 1);
		return;
	}
	for (size_t i = 0; i < pages; i++)
		if (!page_is_zero(c->bounce + i * GLUE_PAGE))
			memcpy(c->view + (addr - c->base) + i * GLUE_PAGE, c->bounce + i * GLUE_PAGE, GLUE_PAGE);
}

static void copy_piece(struct copier *c, const struct map_info *piece, uint64_t start, uint64_t end)
{
	const uint64_t present = 1ULL << 63, swapped = 1ULL << 62;
	uint64_t entry[CHUNK_PAGES];

	for (uint64_t addr = start; addr < end; addr += CHUNK_PAGES * GLUE_PAGE) {
		size_t pages = (end - addr) / GLUE_PAGE < CHUNK_PAGES ? (end - addr) / GLUE_PAGE : CHUNK_PAGES;
		size_t bytes = pages * sizeof(entry[0]), from = 0;

		/* Of a private file mapping every page counts: those not present are in the file. */
		if (piece->inode || c->pagemap < 0 ||
		    pread(c->pagemap, entry, bytes, addr / GLUE_PAGE * sizeof(entry[0])) != (ssize_t)bytes)
			memset(entry, 0xff, bytes);
		for (size_t i = 0; i <= pages; i++) {
			if (i < pages && (entry[i] & (present | swapped)))
				continue;
			if (i > from)
				copy_pages(c, addr + from * GLUE_PAGE, i - from);
			from = i + 1;
		}
	}
}

/* ---- conversion ---- */

static int create_memfd(uint64_t size, uint32_t page_size)
{
	unsigned int huge =
		page_size > GLUE_PAGE ? MFD_HUGETLB | (unsigned int)__builtin_ctz(page_size) << MFD_HUGE_SHIFT : 0;
	int fd = memfd_create("umbra-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);

	if (fd < 0)
		return -errno;
	/* Shrinking would take pages away from under the VMM: the shadow has this file too. */
	if (ftruncate(fd, size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL)) {
		int ret = -errno;

		real_close(fd);
		return ret;
	}
	return fd;
}

static int fill(int memfd, uint64_t start, uint64_t end, const struct map_info *maps, int n)
{
	struct copier c = { .base = start };
	int ret = 0;

	c.view = real_mmap(NULL, end - start, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memfd, 0);
	if (c.view == MAP_FAILED)
		return -errno;
	c.bounce = malloc(CHUNK_PAGES * GLUE_PAGE);
	c.mem = proc_open("mem", O_RDONLY);
	c.pagemap = proc_open("pagemap", O_RDONLY);
	if (!c.bounce)
		ret = -ENOMEM;
	for (int i = 0; !ret && i < n; i++)
		copy_piece(&c, &maps[i], maps[i].start < start ? start : maps[i].start,
			   maps[i].end > end ? end : maps[i].end);
	free(c.bounce);
	if (c.mem >= 0)
		real_close(c.mem);
	if (c.pagemap >= 0)
		real_close(c.pagemap);
	real_munmap(c.view, end - start);
	return ret;
}

static void keep_advice(const struct map_info *map, void *addr, size_t len)
{
	if (map->dontfork)
		real_madvise(addr, len, MADV_DONTFORK);
	if (map->dontdump)
		real_madvise(addr, len, MADV_DONTDUMP);
	if (map->hugepage)
		real_madvise(addr, len, MADV_HUGEPAGE);
	if (map->nohugepage)
		real_madvise(addr, len, MADV_NOHUGEPAGE);
	if (map->locked)
		mlock(addr, len);
}

/* One mmap() puts the new pages in the place of the old: no other thread sees a hole. */
static int replace_piece(struct backing *backing, const struct map_info *map, uint64_t start, uint64_t end)
{
	struct range range = { .backing = backing, .prot = map->prot, .dontfork = map->dontfork };
	void *addr;

	range.start = map->start < start ? start : map->start;
	range.end = map->end > end ? end : map->end;
	range.offset = range.start - start;
	addr = real_mmap((void *)range.start, range.end - range.start, map->prot,
			 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, backing->fd, range.offset);
	if (addr == MAP_FAILED)
		return -errno;
	keep_advice(map, addr, range.end - range.start);
	return ranges_insert(&range);
}

/* Where MADV_DONTNEED on a private mapping of one file gets the contents from again. */
static void find_origin(struct backing *backing, const struct map_info *maps, int n)
{
	if (!maps[0].inode || strstr(maps[0].path, "/anon_hugepage") || !strncmp(maps[0].path, "/dev/zero", 9))
		return;
	backing->has_origin = true;
	for (int i = 1; i < n; i++)
		if (maps[i].inode != maps[0].inode || maps[i].offset - maps[i].start != maps[0].offset - maps[0].start)
			return;
	backing->origin = private_fd(shared_find(&maps[0], false));
	backing->origin_offset = maps[0].offset - maps[0].start + backing->base;
}

/* The setting in force of "always [madvise] never"; false: not readable. */
static bool setting_is(const char *path, const char *value)
{
	char text[128] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		real_close(fd);
	return n > 0 && strstr(text, value);
}

/*
 * Would the kernel have given these private mappings huge pages? (Where it gives them to shared memory as well, by
 * shmem_enabled, nobody needs to do anything; "deny" there is meant for us, too.)
 */
static bool was_huge(const struct map_info *maps, int n)
{
	bool advised = false;

	for (int i = 0; i < n; i++) {
		if (maps[i].nohugepage || maps[i].page_size > GLUE_PAGE)
			return false;
		advised |= maps[i].hugepage;
	}
	return setting_is("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "[never]") &&
	       (setting_is("/sys/kernel/mm/transparent_hugepage/enabled", "[always]") ||
		(advised && setting_is("/sys/kernel/mm/transparent_hugepage/enabled", "[madvise]")));
}

static int convert_maps(uint64_t start, uint64_t end, const struct map_info *maps, int n)
{
	struct backing *backing = calloc(1, sizeof(*backing));
	uint32_t page_size = maps[0].page_size;
	struct stat st;
	int ret;

	if (!backing)
		return -ENOMEM;
	for (int i = 1; i < n; i++)
		if (maps[i].page_size != page_size)
			page_size = GLUE_PAGE;
	backing->fd = create_memfd(end - start, page_size);
	if (backing->fd < 0 && page_size > GLUE_PAGE)
		backing->fd = create_memfd(end - start, GLUE_PAGE);
	if (backing->fd < 0) {
		ret = backing->fd;
		free(backing);
		return ret;
	}
	backing->fd = private_fd(backing->fd);
	backing->inode = fstat(backing->fd, &st) ? 0 : st.st_ino;
	backing->refs = 1; /* ours, until the ranges have theirs */
	backing->origin = -1;
	backing->base = start;
	backing->size = end - start;
	backing->huge = was_huge(maps, n);
	find_origin(backing, maps, n);
	ret = fill(backing->fd, start, end, maps, n);
	for (int i = 0; !ret && i < n; i++)
		ret = replace_piece(backing, &maps[i], start, end);
	backing_put(backing);
	return ret;
}

static bool all_private(const struct map_info *maps, int n)
{
	for (int i = 0; i < n; i++)
		if (maps[i].shared && strcmp(maps[i].path, "/dev/zero (deleted)") &&
		    strcmp(maps[i].path, "/anon_hugepage (deleted)"))
			return false;
	return n > 0;
}

/*
 * Converts the block that [start, end) is part of: slots are often pieces of one block, and a slot has one file. How far the
 * block goes is known from the VMM's own mmap() call, else from the mapping, when it is one that no heap or
 * stack can have been merged with (those are not MADV_DONTFORK). Else it is the slot alone.
 */
int memory_convert(uint64_t start, uint64_t end)
{
	static struct map_info maps[MAPS_MAX]; /* under memory_lock */
	uint64_t wide_start = start, wide_end = end;
	int n = maps_read(start, end, maps, MAPS_MAX, true);
	bool widen;

	if (n <= 0)
		return n ? n : -EFAULT;
	widen = hints_find(&wide_start, &wide_end);
	if (!widen || maps[0].page_size > GLUE_PAGE) {
		widen = maps[0].dontfork || maps[0].page_size > GLUE_PAGE || (maps[0].inode && !maps[0].shared);
		for (int i = 0; widen && i < n; i++) {
			wide_start = maps[i].start < wide_start ? maps[i].start : wide_start;
			wide_end = maps[i].end > wide_end ? maps[i].end : wide_end;
		}
	}
	if (widen) {
		size_t i = ranges_first(wide_start);

		n = maps_read(wide_start, wide_end, maps, MAPS_MAX, true);
		if (all_private(maps, n) && (i == ranges_count() || ranges_at(i)->start >= wide_end))
			return convert_maps(wide_start, wide_end, maps, n);
		n = maps_read(start, end, maps, MAPS_MAX, true);
	}
	if (n < 0)
		return n;
	if (!all_private(maps, n)) {
		glue_say("a memory slot is partly shared, partly private memory: this is not supported");
		return -EINVAL;
	}
	return convert_maps(start, end, maps, n);
}
