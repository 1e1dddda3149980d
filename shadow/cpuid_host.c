// SPDX-License-Identifier: GPL-2.0-or-later
/* What the guest's CPUID may say: the host's, less what the shim or the shadow does not give. */
#include "cpuid_host.h"

#include <errno.h>
#include <stddef.h>
#include <linux/kvm.h>
#include <asm/kvm_para.h>

#include "cpuid.h"
#include "vm.h"

#define BIT(n) (1u << (n))
#define MAX_BASIC 0x1fu
#define MAX_EXTENDED 0x80000021u
#define XCR0_AVX (1ull << 2)
#define XCR0_AVX512 (7ull << 5)

enum { EAX, EBX, ECX, EDX };

static void cpuid_instruction(uint32_t function, uint32_t index, uint32_t regs[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3])
			 : "a"(function), "c"(index));
	for (int reg = EAX; reg <= EDX; reg++)
		regs[reg] &= ~host_flags_cleared(function, index, reg);
}

void (*cpuid_host)(uint32_t function, uint32_t index, uint32_t regs[4]) = cpuid_instruction;

enum cpuid_vendor cpuid_vendor(uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	if (ebx == 0x756e6547 && edx == 0x49656e69 && ecx == 0x6c65746e) /* GenuineIntel */
		return CPUID_INTEL;
	if (ebx == 0x68747541 && edx == 0x69746e65 && ecx == 0x444d4163) /* AuthenticAMD */
		return CPUID_AMD;
	if (ebx == 0x6f677948 && edx == 0x6e65476e && ecx == 0x656e6975) /* HygonGenuine */
		return CPUID_AMD;
	return CPUID_OTHER;
}

enum cpuid_vendor cpuid_host_vendor(void)
{
	uint32_t r[4];

	cpuid_host(0, 0, r);
	return cpuid_vendor(r[EBX], r[ECX], r[EDX]);
}

uint32_t cpuid_xsave_size(uint64_t xcr0)
{
	uint32_t size = 576, r[4];

	for (uint32_t i = 2; i < 63; i++) {
		if (!(xcr0 >> i & 1))
			continue;
		cpuid_host(0xd, i, r);
		if (r[EAX] && r[EBX] + r[EAX] > size)
			size = r[EBX] + r[EAX];
	}
	return size;
}

/* The compacted format's size: components follow one another, some at 64-byte boundaries. (SDM 1 13.4.3) */
uint32_t cpuid_xsave_compact_size(uint64_t xcr0)
{
	uint32_t size = 576, r[4];

	for (uint32_t i = 2; i < 63; i++) {
		if (!(xcr0 >> i & 1))
			continue;
		cpuid_host(0xd, i, r);
		if (r[ECX] & 2)
			size = (size + 63) & ~63u;
		size += r[EAX];
	}
	return size;
}

/*
 * Feature bits that pass from the host to the guest. Absent on purpose, though a host may have them: VMX, SVM, SMX, MONITOR,
 * PDCM, DS, ACPI, HTT (VMM's topology), PKU, CET, SGX, MPX, PT, WAITPKG, AMX, XSAVES, XFD, bus lock, SPEC_CTRL and its kin (no switch of
 * that MSR yet), PERFCTR, IBS, OSVW. TSC_DEADLINE goes by KVM_CAP_TSC_DEADLINE_TIMER: a VMM with a LAPIC of its own may not have it.
 */
struct pass {
	uint32_t function, index;
	uint8_t reg;
	uint32_t mask;
};

static const struct pass pass[] = {
	/* FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFLUSH MMX FXSR SSE SSE2 SS */
	{ 1, 0, EDX, 0x0f8bfbff & ~BIT(10) },
	/* SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 X2APIC MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
	{ 1, 0, ECX,
	  BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | BIT(20) | BIT(21) | BIT(22) | BIT(23) |
		  BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30) },
	/* FSGSBASE BMI1 HLE AVX2 FDP_EXCPTN SMEP BMI2 ERMS INVPCID RTM ZERO_FCS_FDS AVX512F DQ RDSEED ADX SMAP IFMA CLFLUSHOPT CLWB
	 * AVX512PF ER CD SHA BW VL */
	{ 7, 0, EBX,
	  BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(13) |
		  BIT(16) | BIT(17) | BIT(18) | BIT(19) | BIT(20) | BIT(21) | BIT(23) | BIT(24) | BIT(26) | BIT(27) |
		  BIT(28) | BIT(29) | BIT(30) | BIT(31) },
	/* VBMI UMIP VBMI2 GFNI VAES VPCLMUL VNNI BITALG VPOPCNTDQ LA57 RDPID CLDEMOTE MOVDIRI MOVDIR64B */
	{ 7, 0, ECX,
	  BIT(1) | BIT(2) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14) | BIT(16) | BIT(22) |
		  BIT(25) | BIT(27) | BIT(28) },
	/* 4VNNIW 4FMAPS FSRM VP2INTERSECT MD_CLEAR SERIALIZE TSXLDTRK AVX512_FP16 */
	{ 7, 0, EDX, BIT(2) | BIT(3) | BIT(4) | BIT(8) | BIT(10) | BIT(14) | BIT(16) | BIT(23) },
	/* AVX_VNNI AVX512_BF16 CMPCCXADD FZRM FSRS FSRC AVX_IFMA */
	{ 7, 1, EAX, BIT(4) | BIT(5) | BIT(7) | BIT(10) | BIT(11) | BIT(12) | BIT(23) },
	/* AVX_VNNI_INT8 AVX_NE_CONVERT PREFETCHITI */
	{ 7, 1, EDX, BIT(4) | BIT(5) | BIT(14) },
	{ 0xd, 1, EAX, BIT(0) | BIT(1) | BIT(2) }, /* XSAVEOPT XSAVEC XGETBV1 */
	/* LAHF CMP_LEGACY CR8_LEGACY ABM SSE4A MISALIGNSSE 3DNOWPREFETCH XOP FMA4 TBM TOPOEXT */
	{ 0x80000001, 0, ECX,
	  BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(16) | BIT(21) | BIT(22) },
	/* as leaf 1, SYSCALL NX MMXEXT FXSR_OPT GBPAGES RDTSCP LM 3DNOWEXT 3DNOW */
	{ 0x80000001, 0, EDX,
	  0x0183f3ff | BIT(11) | BIT(20) | BIT(22) | BIT(25) | BIT(26) | BIT(27) | BIT(29) | BIT(30) | BIT(31) },
	{ 0x80000007, 0, EDX, BIT(8) },				    /* invariant TSC */
	{ 0x80000008, 0, EBX, BIT(0) | BIT(2) | BIT(9) | BIT(26) }, /* CLZERO XSAVEERPTR WBNOINVD SSB_NO */
	{ 0x80000021, 0, EAX, BIT(0) | BIT(2) | BIT(6) }, /* NO_NESTED_DATA_BP LFENCE_RDTSC NULL_SEL_CLR_BASE */
};

/* Bits that need something of the shim besides: all of cr4, efer, xcr0 and feat must be there. */
struct need {
	uint32_t function, index;
	uint8_t reg;
	uint32_t mask;
	uint64_t cr4, efer, xcr0, feat;
};

#define CR4(n) (1ull << (n))
#define AVX512_EBX (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define AVX512_ECX (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
#define AVX512_EDX (BIT(2) | BIT(3) | BIT(8) | BIT(23))

static const struct need needs[] = {
	{ 1, 0, EDX, BIT(1), CR4(0) | CR4(1), 0, 0, 0 },			 /* VME */
	{ 1, 0, EDX, BIT(6), CR4(5), 0, 0, 0 },					 /* PAE */
	{ 1, 0, EDX, BIT(7) | BIT(14), CR4(6), 0, 0, 0 },			 /* MCE, MCA */
	{ 1, 0, EDX, BIT(13), CR4(7), 0, 0, 0 },				 /* PGE */
	{ 1, 0, EDX, BIT(24) | BIT(25) | BIT(26), CR4(9), 0, 0, 0 },		 /* FXSR, SSE, SSE2 */
	{ 1, 0, ECX, BIT(17), CR4(17), 0, 0, 0 },				 /* PCID */
	{ 1, 0, ECX, BIT(26), CR4(18), 0, 3, 0 },				 /* XSAVE */
	{ 1, 0, ECX, BIT(12) | BIT(28) | BIT(29), CR4(18), 0, XCR0_AVX | 3, 0 }, /* FMA, AVX, F16C */
	{ 7, 0, EBX, BIT(0), CR4(16), 0, 0, 0 },				 /* FSGSBASE */
	{ 7, 0, EBX, BIT(7), CR4(20), 0, 0, 0 },				 /* SMEP */
	{ 7, 0, EBX, BIT(20), CR4(21), 0, 0, 0 },				 /* SMAP */
	{ 7, 0, EBX, BIT(10), 0, 0, 0, UMBRA_FEAT_INVPCID },
	{ 7, 0, EBX, BIT(5), CR4(18), 0, XCR0_AVX | 3, 0 }, /* AVX2 */
	{ 7, 0, EBX, AVX512_EBX, CR4(18), 0, XCR0_AVX512 | XCR0_AVX | 3, 0 },
	{ 7, 0, ECX, BIT(2), CR4(11), 0, 0, 0 },		      /* UMIP */
	{ 7, 0, ECX, BIT(16), CR4(12), 0, 0, 0 },		      /* LA57 */
	{ 7, 0, ECX, BIT(22), 0, 0, 0, UMBRA_FEAT_RDTSCP },	      /* RDPID */
	{ 7, 0, ECX, BIT(9) | BIT(10), CR4(18), 0, XCR0_AVX | 3, 0 }, /* VAES, VPCLMUL */
	{ 7, 0, ECX, AVX512_ECX, CR4(18), 0, XCR0_AVX512 | XCR0_AVX | 3, 0 },
	{ 7, 0, EDX, AVX512_EDX, CR4(18), 0, XCR0_AVX512 | XCR0_AVX | 3, 0 },
	{ 7, 1, EAX, BIT(4) | BIT(23), CR4(18), 0, XCR0_AVX | 3, 0 },
	{ 7, 1, EAX, BIT(5), CR4(18), 0, XCR0_AVX512 | XCR0_AVX | 3, 0 },
	{ 7, 1, EDX, BIT(4) | BIT(5), CR4(18), 0, XCR0_AVX | 3, 0 },
	{ 0xd, 1, EAX, ~0u, CR4(18), 0, 3, 0 },
	{ 0x80000001, 0, ECX, BIT(11) | BIT(16), CR4(18), 0, XCR0_AVX | 3, 0 }, /* XOP, FMA4 */
	{ 0x80000001, 0, EDX, BIT(11), 0, 1ull << 0, 0, 0 },			/* SYSCALL */
	{ 0x80000001, 0, EDX, BIT(20), 0, 1ull << 11, 0, 0 },			/* NX */
	{ 0x80000001, 0, EDX, BIT(25), 0, 1ull << 14, 0, 0 },			/* FXSR_OPT */
	{ 0x80000001, 0, EDX, BIT(29), 0, 1ull << 8, 0, 0 },			/* LM */
	{ 0x80000001, 0, EDX, BIT(27), 0, 0, 0, UMBRA_FEAT_RDTSCP },
};

struct builder {
	const struct vm *vm;
	struct kvm_cpuid_entry2 *entries;
	uint32_t count, max;
	bool full;
};

static uint64_t guest_xcr0(const struct vm *vm)
{
	return vm->info.guest_xcr0;
}

/* host & pass, less what the shim lacks */
static uint32_t feature_bits(const struct vm *vm, uint32_t function, uint32_t index, uint8_t reg, uint32_t host)
{
	uint32_t mask = 0;

	for (size_t i = 0; i < sizeof(pass) / sizeof(pass[0]); i++) {
		if (pass[i].function == function && pass[i].index == index && pass[i].reg == reg)
			mask = pass[i].mask;
	}
	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		const struct need *n = &needs[i];

		if (n->function != function || n->index != index || n->reg != reg)
			continue;
		if ((vm->info.guest_cr4 & n->cr4) != n->cr4 || (vm->info.guest_efer & n->efer) != n->efer ||
		    (guest_xcr0(vm) & n->xcr0) != n->xcr0 || (vm->info.features & n->feat) != n->feat)
			mask &= ~n->mask;
	}
	return host & mask;
}

static void features(const struct vm *vm, uint32_t function, uint32_t index, uint32_t r[4])
{
	for (uint8_t reg = 0; reg < 4; reg++)
		r[reg] = feature_bits(vm, function, index, reg, r[reg]);
}

static void add(struct builder *b, uint32_t function, uint32_t index, uint32_t flags, const uint32_t r[4])
{
	if (b->count >= b->max) {
		b->full = true;
		return;
	}
	b->entries[b->count++] = (struct kvm_cpuid_entry2) { .function = function,
							     .index = index,
							     .flags = flags,
							     .eax = r[EAX],
							     .ebx = r[EBX],
							     .ecx = r[ECX],
							     .edx = r[EDX] };
}

static void leaf_1(const struct vm *vm, uint32_t r[4])
{
	uint32_t eax = r[EAX], ebx = r[EBX];

	features(vm, 1, 0, r);
	r[EAX] = eax;
	r[EBX] = ebx & 0xff00; /* CLFLUSH line size; ids are the VMM's */
	/* The shadow's LAPIC has these whatever the host has; and this is a guest. */
	r[ECX] |= BIT(21) | BIT(31);
	r[EDX] |= BIT(9);
}

static void leaf_7(struct builder *b)
{
	uint32_t r[4], max;

	cpuid_host(7, 0, r);
	max = r[EAX] < 1 ? r[EAX] : 1;
	features(b->vm, 7, 0, r);
	r[EAX] = max;
	r[EBX] |= BIT(1);  /* TSC_ADJUST: an emulated MSR */
	r[EDX] |= BIT(29); /* ARCH_CAPABILITIES: an emulated, read-only MSR */
	add(b, 7, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, r);
	if (max) {
		cpuid_host(7, 1, r);
		features(b->vm, 7, 1, r);
		add(b, 7, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, r);
	}
}

static void leaf_d(struct builder *b)
{
	uint64_t xcr0 = guest_xcr0(b->vm);
	uint32_t r[4], size;

	cpuid_host(1, 0, r);
	if (!feature_bits(b->vm, 1, 0, ECX, r[ECX] & BIT(26)))
		xcr0 = 0;
	size = xcr0 ? cpuid_xsave_size(xcr0) : 0;
	add(b, 0xd, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, (uint32_t[4]) { xcr0, size, size, xcr0 >> 32 });
	if (!xcr0)
		return;
	cpuid_host(0xd, 1, r);
	features(b->vm, 0xd, 1, r);
	if (r[EAX] & BIT(1))
		r[EBX] = cpuid_xsave_compact_size(xcr0);
	add(b, 0xd, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, r);
	for (uint32_t i = 2; i < 63; i++) {
		if (!(xcr0 >> i & 1))
			continue;
		cpuid_host(0xd, i, r);
		r[ECX] &= BIT(1); /* only the alignment: no supervisor component, no XFD */
		r[EDX] = 0;
		add(b, 0xd, i, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, r);
	}
}

/* Cache descriptions: one sub-leaf a cache, up to the first without a type. */
static void leaf_caches(struct builder *b, uint32_t function)
{
	uint32_t r[4];

	for (uint32_t i = 0; i < 16; i++) {
		cpuid_host(function, i, r);
		add(b, function, i, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, r);
		if (!(r[EAX] & 0x1f))
			break;
	}
}

static void leaf_basic(struct builder *b, uint32_t function)
{
	static const uint32_t zero[4];
	uint32_t r[4];

	switch (function) {
	case 0:
		cpuid_host(0, 0, r);
		if (r[EAX] > MAX_BASIC)
			r[EAX] = MAX_BASIC;
		add(b, 0, 0, 0, r);
		break;
	case 1:
		cpuid_host(1, 0, r);
		leaf_1(b->vm, r);
		add(b, 1, 0, 0, r);
		break;
	case 2:
		cpuid_host(2, 0, r);
		add(b, 2, 0, 0, r);
		break;
	case 4:
		leaf_caches(b, 4);
		break;
	case 6:
		add(b, 6, 0, 0, (uint32_t[4]) { BIT(2), 0, 0, 0 }); /* the LAPIC's timer never stops */
		break;
	case 7:
		leaf_7(b);
		break;
	case 0xb:
	case 0x1f: /* no topology: the VMM knows it */
		add(b, function, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, zero);
		break;
	case 0xd:
		leaf_d(b);
		break;
	default: /* PMU, SGX, PT, crystal clock, AMX: not given */
		add(b, function, 0, 0, zero);
	}
}

static void leaf_addresses(const struct vm *vm, uint32_t r[4])
{
	uint32_t phys = r[EAX] & 0xff, virt = r[EAX] >> 8 & 0xff, ebx = r[EBX];

	if (!phys)
		phys = 36;
	if (vm->info.gpa_bits && vm->info.gpa_bits < phys)
		phys = vm->info.gpa_bits;
	if (virt < 48 || !(vm->info.guest_cr4 & CR4(12)))
		virt = 48;
	r[EAX] = phys | virt << 8;
	r[EBX] = feature_bits(vm, 0x80000008, 0, EBX, ebx);
	r[ECX] = r[EDX] = 0;
}

static void leaf_extended(struct builder *b, uint32_t function)
{
	uint32_t r[4] = { 0 };

	switch (function) {
	case 0x80000000:
		cpuid_host(function, 0, r);
		if (r[EAX] > MAX_EXTENDED)
			r[EAX] = MAX_EXTENDED;
		break;
	case 0x80000001:
	case 0x80000007:
	case 0x80000021: {
		uint32_t eax;

		cpuid_host(function, 0, r);
		eax = r[EAX];
		features(b->vm, function, 0, r);
		if (function == 0x80000001)
			r[EAX] = eax;
		break;
	}
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
	case 0x80000005:
	case 0x80000006:
	case 0x80000019:
	case 0x8000001a:
		cpuid_host(function, 0, r);
		break;
	case 0x80000008:
		cpuid_host(function, 0, r);
		leaf_addresses(b->vm, r);
		break;
	case 0x8000001d:
		cpuid_host(0x80000001, 0, r);
		if (feature_bits(b->vm, 0x80000001, 0, ECX, r[ECX]) & BIT(22)) {
			leaf_caches(b, function);
			return;
		}
		r[EAX] = r[EBX] = r[ECX] = r[EDX] = 0;
		break;
	default: /* SVM, SEV, topology: not given */
		break;
	}
	add(b, function, 0, function == 0x8000001d ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0, r);
}

static void leaf_kvm(struct builder *b)
{
	uint32_t features_eax =
		BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
		BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) | BIT(KVM_FEATURE_STEAL_TIME) |
		BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) |
		BIT(KVM_FEATURE_POLL_CONTROL) | BIT(KVM_FEATURE_PV_SCHED_YIELD);

	/* "KVMKVMKVM\0\0\0" */
	add(b, KVM_CPUID_SIGNATURE, 0, 0, (uint32_t[4]) { KVM_CPUID_FEATURES, 0x4b4d564b, 0x564b4d56, 0x4d });
	add(b, KVM_CPUID_FEATURES, 0, 0, (uint32_t[4]) { features_eax, 0, 0, 0 });
}

int cpuid_supported(const struct vm *vm, struct kvm_cpuid_entry2 *entries, uint32_t max)
{
	struct builder b = { .vm = vm, .entries = entries, .max = max };
	uint32_t r[4], limit;

	cpuid_host(0, 0, r);
	limit = r[EAX] < MAX_BASIC ? r[EAX] : MAX_BASIC;
	for (uint32_t f = 0; f <= limit; f++)
		leaf_basic(&b, f);

	cpuid_host(0x80000000, 0, r);
	limit = r[EAX] < MAX_EXTENDED ? r[EAX] : MAX_EXTENDED;
	for (uint32_t f = 0x80000000; f <= limit; f++)
		leaf_extended(&b, f);

	leaf_kvm(&b);
	return b.full ? -E2BIG : (int)b.count;
}

/* No instruction that a host CPU lacks is emulated. */
int cpuid_emulated(const struct vm *vm, struct kvm_cpuid_entry2 *entries, uint32_t max)
{
	(void)vm;
	(void)entries;
	return max ? 0 : -E2BIG;
}
