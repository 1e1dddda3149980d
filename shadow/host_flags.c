// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Features that the CPU names but the host's kernel has taken away: on the command line (clearcpuid=), for a bug, or
 * because firmware switched them off (fast strings). A guest does not get them either, as with KVM. The kernel's view is
 * /proc/cpuinfo, read before the sandbox closes; without it nothing is taken away.
 */
#include "cpuid_host.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EAX, EBX, ECX, EDX };

/* For each register the names of its bits in /proc/cpuinfo, bit 0 first; "": not looked at. */
struct flag_names {
	uint32_t function, index;
	int reg;
	const char *name[32];
	uint32_t cleared;
};

static struct flag_names flag_names[] = {
	{ 1,
	  0,
	  ECX,
	  { [0] = "pni",
	    [1] = "pclmulqdq",
	    [9] = "ssse3",
	    [12] = "fma",
	    [13] = "cx16",
	    [17] = "pcid",
	    [19] = "sse4_1",
	    [20] = "sse4_2",
	    [22] = "movbe",
	    [23] = "popcnt",
	    [25] = "aes",
	    [26] = "xsave",
	    [28] = "avx",
	    [29] = "f16c",
	    [30] = "rdrand" },
	  0 },
	{ 7,
	  0,
	  EBX,
	  { [0] = "fsgsbase",	 [3] = "bmi1",	    [4] = "hle",       [5] = "avx2",	  [7] = "smep",
	    [8] = "bmi2",	 [9] = "erms",	    [10] = "invpcid",  [11] = "rtm",	  [16] = "avx512f",
	    [17] = "avx512dq",	 [18] = "rdseed",   [19] = "adx",      [20] = "smap",	  [21] = "avx512ifma",
	    [23] = "clflushopt", [24] = "clwb",	    [26] = "avx512pf", [27] = "avx512er", [28] = "avx512cd",
	    [29] = "sha_ni",	 [30] = "avx512bw", [31] = "avx512vl" },
	  0 },
	{ 7,
	  0,
	  ECX,
	  { [1] = "avx512vbmi",
	    [2] = "umip",
	    [6] = "avx512_vbmi2",
	    [8] = "gfni",
	    [9] = "vaes",
	    [10] = "vpclmulqdq",
	    [11] = "avx512_vnni",
	    [12] = "avx512_bitalg",
	    [14] = "avx512_vpopcntdq",
	    [22] = "rdpid",
	    [25] = "cldemote",
	    [27] = "movdiri",
	    [28] = "movdir64b" },
	  0 },
	{ 7,
	  0,
	  EDX,
	  { [2] = "avx512_4vnniw",
	    [3] = "avx512_4fmaps",
	    [4] = "fsrm",
	    [8] = "avx512_vp2intersect",
	    [10] = "md_clear",
	    [14] = "serialize",
	    [16] = "tsxldtrk",
	    [23] = "avx512_fp16" },
	  0 },
	{ 7, 1, EAX, { [4] = "avx_vnni", [5] = "avx512_bf16" }, 0 },
	{ 0xd, 1, EAX, { [0] = "xsaveopt", [1] = "xsavec", [2] = "xgetbv1" }, 0 },
	{ 0x80000001, 0, EDX, { [20] = "nx", [26] = "pdpe1gb", [27] = "rdtscp" }, 0 },
};

static bool line_has(const char *line, const char *flag)
{
	size_t length = strlen(flag);

	for (const char *at = line; (at = strstr(at, flag)); at += length)
		if (at[-1] == ' ' && (at[length] == ' ' || at[length] == '\n' || !at[length]))
			return true;
	return false;
}

void host_flags_apply(const char *line)
{
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++) {
		struct flag_names *f = &flag_names[i];

		f->cleared = 0;
		for (int bit = 0; bit < 32; bit++)
			if (f->name[bit] && !line_has(line, f->name[bit]))
				f->cleared |= 1u << bit;
	}
}

uint32_t host_flags_cleared(uint32_t function, uint32_t index, int reg)
{
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++)
		if (flag_names[i].function == function && flag_names[i].index == index && flag_names[i].reg == reg)
			return flag_names[i].cleared;
	return 0;
}

static void __attribute__((constructor)) host_flags_read(void)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return;
	while (getline(&line, &size, file) > 0)
		if (!strncmp(line, "flags", 5) && strstr(line, ": ")) {
			host_flags_apply(line);
			break;
		}
	free(line);
	fclose(file);
}
