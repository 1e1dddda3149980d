/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HINTS 256

pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
atomic_uint memory_converted;

static struct range *table;
static size_t count, room;

struct hint {
	uint64_t start, end;
};
static struct hint hints[HINTS];
static size_t next_hint;

size_t ranges_count(void)
{
	return count;
}

struct range *ranges_at(size_t i)
{
	return &table[i];
}

size_t ranges_first(uint64_t addr)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (table[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void backing_put(struct backing *backing)
{
	if (--backing->refs)
		return;
	private_close(backing->fd);
	private_close(backing->origin);
	free(backing);
}

static int make_room(void)
{
	size_t more = room ? room * 2 : 16;
	struct range *moved;

	if (count < room)
		return 0;
	moved = realloc(table, more * sizeof(*table));
	if (!moved)
		return -ENOMEM;
	table = moved;
	room = more;
	return 0;
}

int ranges_insert(const struct range *range)
{
	size_t at = ranges_first(range->start);

	if (make_room())
		return -ENOMEM;
	memmove(&table[at + 1], &table[at], (count - at) * sizeof(*table));
	table[at] = *range;
	range->backing->refs++;
	atomic_store(&memory_converted, ++count);
	return 0;
}

static void remove_at(size_t at)
{
	backing_put(table[at].backing);
	memmove(&table[at], &table[at + 1], (count - at - 1) * sizeof(*table));
	atomic_store(&memory_converted, --count);
}

int ranges_cut(uint64_t start, uint64_t end)
{
	size_t i = ranges_first(start);

	while (i < count && table[i].start < end) {
		struct range *r = &table[i], tail = *r;

		if (r->start < start && r->end > end) {
			tail.offset += end - r->start;
			tail.start = end;
			r->end = start;
			return ranges_insert(&tail);
		}
		if (r->start < start) {
			r->end = start;
			i++;
		} else if (r->end > end) {
			r->offset += end - r->start;
			r->start = end;
			break;
		} else {
			remove_at(i);
		}
	}
	return 0;
}

void ranges_drop_all(void)
{
	while (count)
		remove_at(count - 1);
}

/* ---- hints ---- */

void hints_add(uint64_t start, uint64_t end)
{
	hints[next_hint++ % HINTS] = (struct hint) { start, end };
}

void hints_cut(uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < HINTS; i++) {
		struct hint *h = &hints[i];

		if (h->end <= start || h->start >= end)
			continue;
		if (h->start < start)
			h->end = start; /* of a hole in the middle the lower part is kept */
		else if (h->end > end)
			h->start = end;
		else
			*h = (struct hint) { 0, 0 };
	}
}

bool hints_find(uint64_t *start, uint64_t *end)
{
	const struct hint *best = NULL;

	for (size_t i = 0; i < HINTS; i++) {
		const struct hint *h = &hints[i];

		if (h->start > *start || h->end < *end)
			continue;
		if (!best || h->end - h->start < best->end - best->start)
			best = h;
	}
	if (!best)
		return false;
	*start = best->start;
	*end = best->end;
	return true;
}
