/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int proc_dir = -1;
static pthread_mutex_t proc_lock = PTHREAD_MUTEX_INITIALIZER;

/* The folder is kept: a VMM may change its root after it has opened /dev/kvm. */
int proc_open(const char *name, int flags)
{
	pthread_mutex_lock(&proc_lock);
	if (proc_dir < 0)
		proc_dir = private_fd(open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC));
	pthread_mutex_unlock(&proc_lock);
	if (proc_dir < 0)
		return -1;
	return openat(proc_dir, name, flags | O_CLOEXEC);
}

void proc_fork_child(void)
{
	pthread_mutex_init(&proc_lock, NULL);
	if (proc_dir >= 0) {
		file_forget(proc_dir);
		real_close(proc_dir);
		proc_dir = -1; /* it shows the parent */
	}
}

/* "start-end rwxp offset major:minor inode    path" */
bool maps_parse_line(const char *line, struct map_info *info)
{
	unsigned int major_nr, minor_nr;
	unsigned long long start, end, offset, inode;
	char perms[5];
	int path = 0;
	size_t len;

	memset(info, 0, sizeof(*info));
	if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu %n", &start, &end, perms, &offset, &major_nr, &minor_nr, &inode,
		   &path) != 7 ||
	    !path || strlen(perms) != 4 || start >= end)
		return false;
	info->start = start;
	info->end = end;
	info->offset = offset;
	info->dev = makedev(major_nr, minor_nr);
	info->inode = inode;
	info->prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
		     (perms[2] == 'x' ? PROT_EXEC : 0);
	info->shared = perms[3] == 's';
	info->page_size = GLUE_PAGE;
	len = strcspn(line + path, "\n");
	if (len >= sizeof(info->path))
		len = sizeof(info->path) - 1; /* too long to be compared, which is all it is for */
	memcpy(info->path, line + path, len);
	return true;
}

static void parse_detail(const char *line, struct map_info *info)
{
	unsigned int kib;

	if (sscanf(line, "KernelPageSize: %u kB", &kib) == 1)
		info->page_size = kib * 1024;
	if (strncmp(line, "VmFlags:", 8))
		return;
	info->dontfork = strstr(line, " dc");
	info->dontdump = strstr(line, " dd");
	info->hugepage = strstr(line, " hg");
	info->nohugepage = strstr(line, " nh");
	info->locked = strstr(line, " lo");
}

/* smaps has the flags that madvise() set, but it is slow and not every kernel has it. */
static FILE *open_maps(bool detail)
{
	static const char *const names[] = { "smaps", "maps" };
	FILE *file;
	int fd;

	for (int i = detail ? 0 : 1; i < 2; i++) {
		fd = proc_open(names[i], O_RDONLY);
		if (fd < 0)
			continue;
		file = fdopen(fd, "r");
		if (file)
			return file;
		real_close(fd);
	}
	return NULL;
}

int maps_read(uint64_t start, uint64_t end, struct map_info *info, int max, bool detail)
{
	struct map_info one, *last = NULL;
	char *line = NULL;
	size_t size = 0;
	int n = 0;
	FILE *file = open_maps(detail);

	if (!file)
		return -errno;
	while (getline(&line, &size, file) > 0) {
		if (!maps_parse_line(line, &one)) {
			if (last)
				parse_detail(line, last);
			continue;
		}
		last = NULL;
		if (one.start >= end)
			break;
		if (one.end <= start)
			continue;
		if (n == max) {
			n = -E2BIG;
			break;
		}
		info[n] = one;
		last = &info[n++];
	}
	free(line);
	fclose(file);
	return n;
}
