// SPDX-License-Identifier: GPL-2.0-or-later
/* KCOV of a thread's calls: which marked places of the module they reach. Only the module is compiled for it. */
#include "abi-fuzz.h"

#include <fcntl.h>
#include <linux/kcov.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define WORDS (1 << 16)

static __thread uint64_t *area;

void cover_begin(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);

	if (fd < 0 || !report->text)
		return;
	if (ioctl(fd, KCOV_INIT_TRACE, WORDS))
		return;
	area = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (area == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		area = NULL;
}

/* What came since the last time. */
void cover_take(void)
{
	uint64_t count;

	if (!area)
		return;
	count = __atomic_load_n(&area[0], __ATOMIC_RELAXED);
	for (uint64_t i = 0; i < count && i + 1 < WORDS; i++) {
		uint64_t at = area[i + 1] - report->text;

		if (at < COVER_BYTES)
			report->cover[at] = 1;
	}
	__atomic_store_n(&area[0], 0, __ATOMIC_RELAXED);
}

/* Where the module lies; without, there is nothing to count from. */
uint64_t cover_text(void)
{
	FILE *file = fopen("/sys/module/umbra/sections/.text", "re");
	unsigned long long at = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%llx", &at) != 1)
		at = 0;
	fclose(file);
	return at;
}

void cover_print(void)
{
	for (uint32_t i = 0; i < COVER_BYTES; i++)
		if (report->cover[i])
			printf("kcov %x\n", i);
}
