/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_GLUE_MEMORY_H
#define UMBRA_GLUE_MEMORY_H

#include "glue.h"

/* The file behind converted memory. */
struct backing {
	int fd;		   /* memfd */
	uint64_t inode;	   /* its own, as /proc/self/maps shows it */
	unsigned int refs; /* ranges */
	int origin;	   /* the file of a private file mapping, which MADV_DONTNEED goes back to; -1: none */
	bool has_origin;
	bool huge;		/* the kernel would have given the memory huge pages where it was */
	uint64_t base, size;	/* where it was mapped first */
	uint64_t origin_offset; /* of base */
};

/* A stretch of the VMM's memory that is a shared mapping of a backing. */
struct range {
	uint64_t start, end, offset;
	struct backing *backing;
	int prot;
	bool dontfork;
};

/* ---- ranges.c: the table, sorted by address. Callers hold memory_lock. ---- */
extern pthread_mutex_t memory_lock;
size_t ranges_first(uint64_t addr); /* index of the first range that ends above addr */
size_t ranges_count(void);
struct range *ranges_at(size_t i);
int ranges_insert(const struct range *range); /* takes a reference of its backing */
int ranges_cut(uint64_t start, uint64_t end); /* forgets what lies in there */
void ranges_drop_all(void);
void backing_put(struct backing *backing);

/* What the VMM mapped in one call, as a hint where a block begins and ends. */
void hints_add(uint64_t start, uint64_t end);
void hints_cut(uint64_t start, uint64_t end);
bool hints_find(uint64_t *start, uint64_t *end); /* widens to the smallest one around it */

/* ---- convert.c ---- */
int memory_convert(uint64_t start, uint64_t end);
int shared_find(const struct map_info *map, bool write); /* a descriptor of the file, to be closed; or -errno */

#endif
