// SPDX-License-Identifier: GPL-2.0-or-later
/* The project's mem* functions, under other names, against plain loops: every length and overlap up to 40 bytes. */
#define memcpy own_memcpy
#define memmove own_memmove
#define memset own_memset
#define memcmp own_memcmp
#define bcmp own_bcmp
#include "../../../shadow/string.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef bcmp

#include <stdio.h>
#include <stdlib.h>

#define N 96

static void fill(uint8_t *buf)
{
	for (int i = 0; i < N; i++)
		buf[i] = (uint8_t)(i * 7 + 3);
}

static void same(const uint8_t *a, const uint8_t *b, const char *what, int x, int y, int len)
{
	for (int i = 0; i < N; i++)
		if (a[i] != b[i]) {
			fprintf(stderr, "%s(%d, %d, %d): byte %d\n", what, x, y, len, i);
			exit(1);
		}
}

static void check_moves(int to, int from, int len)
{
	uint8_t own[N], plain[N], copy[N];

	fill(own);
	fill(plain);
	fill(copy);
	for (int i = 0; i < len; i++)
		plain[to + i] = copy[from + i];
	own_memmove(own + to, own + from, (size_t)len);
	same(own, plain, "memmove", to, from, len);
	fill(own);
	if (own_memcpy(own + to, copy + from, (size_t)len) != own + to)
		exit(1);
	same(own, plain, "memcpy", to, from, len);
	for (int i = 0; i < N; i++)
		plain[i] = (uint8_t)(i >= to && i < to + len ? 0xa5 : copy[i]);
	fill(own);
	own_memset(own + to, 0x1a5, (size_t)len);
	same(own, plain, "memset", to, 0, len);
}

int main(void)
{
	static const uint8_t a[] = { 1, 2, 0xff, 4 }, b[] = { 1, 2, 0x01, 4 };

	for (int to = 0; to < 40; to++)
		for (int from = 0; from < 40; from++)
			for (int len = 0; len <= 40; len++)
				check_moves(to, from, len);
	if (own_memcmp(a, b, 2) || own_memcmp(a, b, 4) <= 0 || own_memcmp(b, a, 3) >= 0 || own_memcmp(a, b, 0) ||
	    !own_bcmp(a, b, 4)) {
		fprintf(stderr, "memcmp\n");
		return 1;
	}
	return 0;
}
