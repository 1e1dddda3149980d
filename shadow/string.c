// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The mem* family for the whole process, in general registers only: libc's versions use vector registers, which on a
 * vCPU's thread belong to the guest. Inline assembly, so that no compiler turns a loop into a call of itself.
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
int bcmp(const void *a, const void *b, size_t len);

static inline void copy_up(void *to, const void *from, size_t len)
{
	size_t words = len >> 3;

	len &= 7;
	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
	copy_up(to, from, len);
	return to;
}

void *memmove(void *to, const void *from, size_t len)
{
	uint8_t *last_to = (uint8_t *)to + len - 1;
	const uint8_t *last_from = (const uint8_t *)from + len - 1;

	if ((uintptr_t)to - (uintptr_t)from >= len) {
		copy_up(to, from, len);
		return to;
	}
	__asm__ volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last_from), "+c"(len) : : "memory");
	return to;
}

void *memset(void *to, int byte, size_t len)
{
	uint64_t pattern = (uint8_t)byte * 0x0101010101010101ULL;
	size_t words = len >> 3;
	void *at = to;

	len &= 7;
	__asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(pattern) : "memory");
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(pattern) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < len; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

int bcmp(const void *a, const void *b, size_t len)
{
	return memcmp(a, b, len);
}
