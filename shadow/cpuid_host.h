/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_CPUID_HOST_H
#define UMBRA_CPUID_HOST_H

#include <stdint.h>

/* Where cpuid_supported() reads the host CPU; tests put a made-up one here. regs: eax ebx ecx edx */
extern void (*cpuid_host)(uint32_t function, uint32_t index, uint32_t regs[4]);

/* Bytes of a standard-format XSAVE area for these XCR0 bits, header included; 576 without any extended one. */
uint32_t cpuid_xsave_size(uint64_t xcr0);

uint32_t cpuid_xsave_compact_size(uint64_t xcr0); /* of a compacted one */

enum cpuid_vendor { CPUID_INTEL, CPUID_AMD, CPUID_OTHER };
/* From leaf 0's registers; Hygon counts as AMD. */
enum cpuid_vendor cpuid_vendor(uint32_t ebx, uint32_t ecx, uint32_t edx);
enum cpuid_vendor cpuid_host_vendor(void);

/* host_flags.c: bits that the host's kernel has taken away, of a line "flags : ..." as in /proc/cpuinfo. */
void host_flags_apply(const char *line);
uint32_t host_flags_cleared(uint32_t function, uint32_t index, int reg); /* reg 0..3: EAX EBX ECX EDX */

#endif
