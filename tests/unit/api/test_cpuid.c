// SPDX-License-Identifier: GPL-2.0-or-later
/* CPUID: what is offered of a host that has everything, what a guest is told. */
#include <errno.h>
#include <string.h>

#include "fakes.h"

static struct kvm_cpuid_entry2 entries[256];
static int count;

static void supported(void)
{
	count = cpuid_supported(&w->vm, entries, 256);
	ck_assert_int_gt(count, 0);
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	for (int i = 0; i < count; i++) {
		if (entries[i].function == function && entries[i].index == index)
			return &entries[i];
	}
	return NULL;
}

static bool bit(uint32_t function, uint32_t index, int reg, int n)
{
	const struct kvm_cpuid_entry2 *e = leaf(function, index);

	ck_assert_msg(e != NULL, "no leaf %x.%x", function, index);
	return (&e->eax)[reg] >> n & 1;
}

struct feature {
	const char *name;
	uint32_t function, index;
	int reg, bit;
};

static const struct feature hidden[] = {
	{ "DTES64", 1, 0, 2, 2 },
	{ "MONITOR", 1, 0, 2, 3 },
	{ "DS_CPL", 1, 0, 2, 4 },
	{ "VMX", 1, 0, 2, 5 },
	{ "SMX", 1, 0, 2, 6 },
	{ "EST", 1, 0, 2, 7 },
	{ "TM2", 1, 0, 2, 8 },
	{ "PDCM", 1, 0, 2, 15 },
	{ "DCA", 1, 0, 2, 18 },
	{ "OSXSAVE", 1, 0, 2, 27 },
	{ "DS", 1, 0, 3, 21 },
	{ "ACPI", 1, 0, 3, 22 },
	{ "HTT", 1, 0, 3, 28 },
	{ "TM", 1, 0, 3, 29 },
	{ "SGX", 7, 0, 1, 2 },
	{ "RDT_M", 7, 0, 1, 12 },
	{ "MPX", 7, 0, 1, 14 },
	{ "PT", 7, 0, 1, 25 },
	{ "PKU", 7, 0, 2, 3 },
	{ "OSPKE", 7, 0, 2, 4 },
	{ "WAITPKG", 7, 0, 2, 5 },
	{ "SHSTK", 7, 0, 2, 7 },
	{ "TME", 7, 0, 2, 13 },
	{ "LA57", 7, 0, 2, 16 },
	{ "KL", 7, 0, 2, 23 },
	{ "BUS_LOCK", 7, 0, 2, 24 },
	{ "ENQCMD", 7, 0, 2, 29 },
	{ "SGX_LC", 7, 0, 2, 30 },
	{ "PKS", 7, 0, 2, 31 },
	{ "UINTR", 7, 0, 3, 5 },
	{ "PCONFIG", 7, 0, 3, 18 },
	{ "ARCH_LBR", 7, 0, 3, 19 },
	{ "IBT", 7, 0, 3, 20 },
	{ "AMX_BF16", 7, 0, 3, 22 },
	{ "AMX_TILE", 7, 0, 3, 24 },
	{ "AMX_INT8", 7, 0, 3, 25 },
	{ "SPEC_CTRL", 7, 0, 3, 26 },
	{ "STIBP", 7, 0, 3, 27 },
	{ "FLUSH_L1D", 7, 0, 3, 28 },
	{ "CORE_CAP", 7, 0, 3, 30 },
	{ "SSBD", 7, 0, 3, 31 },
	{ "AMX_FP16", 7, 1, 0, 21 },
	{ "FRED", 7, 1, 0, 17 },
	{ "LAM", 7, 1, 0, 26 },
	{ "XSAVES", 0xd, 1, 0, 3 },
	{ "XFD", 0xd, 1, 0, 4 },
	{ "TSC_DEADLINE", 1, 0, 2, 24 }, /* has a capability of its own */
	{ "SVM", 0x80000001, 0, 2, 2 },
	{ "EXTAPIC", 0x80000001, 0, 2, 3 },
	{ "OSVW", 0x80000001, 0, 2, 9 },
	{ "IBS", 0x80000001, 0, 2, 10 },
	{ "SKINIT", 0x80000001, 0, 2, 12 },
	{ "PERFCTR_CORE", 0x80000001, 0, 2, 23 },
	{ "FXSR_OPT", 0x80000001, 0, 3, 25 },
	{ "IBPB", 0x80000008, 0, 1, 12 },
	{ "IBRS", 0x80000008, 0, 1, 14 },
	{ "STIBP", 0x80000008, 0, 1, 15 },
	{ "SSBD", 0x80000008, 0, 1, 24 },
	{ "VIRT_SSBD", 0x80000008, 0, 1, 25 },
	{ "AUTOIBRS", 0x80000021, 0, 0, 8 },
	{ "ASYNC_PF", 0x40000001, 0, 0, 4 },
	{ "ASYNC_PF_VMEXIT", 0x40000001, 0, 0, 10 },
	{ "ASYNC_PF_INT", 0x40000001, 0, 0, 14 },
	{ "MSI_EXT_DEST_ID", 0x40000001, 0, 0, 15 },
	{ "MIGRATION_CONTROL", 0x40000001, 0, 0, 17 },
	{ "AVX512F", 7, 0, 1, 16 }, /* the fake shim gives AVX, no more */
};

static const struct feature offered[] = {
	{ "X2APIC", 1, 0, 2, 21 },
	{ "HYPERVISOR", 1, 0, 2, 31 },
	{ "XSAVE", 1, 0, 2, 26 },
	{ "AVX", 1, 0, 2, 28 },
	{ "PCID", 1, 0, 2, 17 },
	{ "APIC", 1, 0, 3, 9 },
	{ "FPU", 1, 0, 3, 0 },
	{ "SSE2", 1, 0, 3, 26 },
	{ "SEP", 1, 0, 3, 11 },
	{ "MCE", 1, 0, 3, 7 },
	{ "FSGSBASE", 7, 0, 1, 0 },
	{ "TSC_ADJUST", 7, 0, 1, 1 },
	{ "AVX2", 7, 0, 1, 5 },
	{ "SMEP", 7, 0, 1, 7 },
	{ "SMAP", 7, 0, 1, 20 },
	{ "INVPCID", 7, 0, 1, 10 },
	{ "UMIP", 7, 0, 2, 2 },
	{ "RDPID", 7, 0, 2, 22 },
	{ "MD_CLEAR", 7, 0, 3, 10 },
	{ "ARCH_CAPABILITIES", 7, 0, 3, 29 },
	{ "ARAT", 6, 0, 0, 2 },
	{ "XSAVEOPT", 0xd, 1, 0, 0 },
	{ "XSAVEC", 0xd, 1, 0, 1 },
	{ "LM", 0x80000001, 0, 3, 29 },
	{ "NX", 0x80000001, 0, 3, 20 },
	{ "SYSCALL", 0x80000001, 0, 3, 11 },
	{ "RDTSCP", 0x80000001, 0, 3, 27 },
	{ "GBPAGES", 0x80000001, 0, 3, 26 },
	{ "invariant TSC", 0x80000007, 0, 3, 8 },
	{ "CLOCKSOURCE2", 0x40000001, 0, 0, 3 },
	{ "STEAL_TIME", 0x40000001, 0, 0, 5 },
	{ "PV_EOI", 0x40000001, 0, 0, 6 },
	{ "PV_UNHALT", 0x40000001, 0, 0, 7 },
	{ "PV_TLB_FLUSH", 0x40000001, 0, 0, 9 },
	{ "PV_SEND_IPI", 0x40000001, 0, 0, 11 },
	{ "POLL_CONTROL", 0x40000001, 0, 0, 12 },
	{ "PV_SCHED_YIELD", 0x40000001, 0, 0, 13 },
	{ "STABLE", 0x40000001, 0, 0, 24 },
	{ "NOP_IO_DELAY", 0x40000001, 0, 0, 1 },
	{ "CLOCKSOURCE", 0x40000001, 0, 0, 0 },
};

START_TEST(test_hidden)
{
	const struct feature *f = &hidden[_i];

	supported();
	ck_assert_msg(!bit(f->function, f->index, f->reg, f->bit), "%s is offered", f->name);
}
END_TEST

START_TEST(test_offered)
{
	const struct feature *f = &offered[_i];

	supported();
	ck_assert_msg(bit(f->function, f->index, f->reg, f->bit), "%s is not offered", f->name);
}
END_TEST

static void host_nothing(uint32_t function, uint32_t index, uint32_t regs[4])
{
	host_everything(function, index, regs);
	if ((function && function != 0x80000000) || index)
		memset(regs, 0, 16);
}

/* A host that has a feature not gives it not, but for what the shadow makes itself. */
START_TEST(test_host_lacks)
{
	static const struct feature own[] = { { "", 1, 0, 2, 21 }, { "", 1, 0, 2, 31 }, { "", 1, 0, 3, 9 },
					      { "", 7, 0, 1, 1 },  { "", 7, 0, 3, 29 }, { "", 6, 0, 0, 2 } };
	uint32_t allowed[4];

	cpuid_host = host_nothing;
	supported();
	for (int i = 0; i < count; i++) {
		uint32_t f = entries[i].function;

		if (!f || f == 0x80000000 || f == 0x80000008 || f >> 28 == 4)
			continue;
		memset(allowed, 0, sizeof(allowed));
		for (size_t k = 0; k < sizeof(own) / sizeof(own[0]); k++) {
			if (own[k].function == f)
				allowed[own[k].reg] |= 1u << own[k].bit;
		}
		for (int reg = 0; reg < 4; reg++)
			ck_assert_msg((&entries[i].eax)[reg] == allowed[reg], "leaf %x reg %d: %x", f, reg,
				      (&entries[i].eax)[reg]);
	}
}
END_TEST

static const struct {
	const char *name;
	uint64_t cr4, efer, xcr0, feat; /* taken away from the shim */
	uint32_t function, index;
	int reg, bit;
} taken[] = {
	{ "PCID", 1 << 17, 0, 0, 0, 1, 0, 2, 17 },
	{ "XSAVE", 1 << 18, 0, 0, 0, 1, 0, 2, 26 },
	{ "AVX", 0, 0, 4, 0, 1, 0, 2, 28 },
	{ "FMA", 0, 0, 4, 0, 1, 0, 2, 12 },
	{ "AVX2", 0, 0, 4, 0, 7, 0, 1, 5 },
	{ "VAES", 0, 0, 4, 0, 7, 0, 2, 9 },
	{ "XOP", 0, 0, 4, 0, 0x80000001, 0, 2, 11 },
	{ "SMEP", 1 << 20, 0, 0, 0, 7, 0, 1, 7 },
	{ "SMAP", 1 << 21, 0, 0, 0, 7, 0, 1, 20 },
	{ "FSGSBASE", 1 << 16, 0, 0, 0, 7, 0, 1, 0 },
	{ "UMIP", 1 << 11, 0, 0, 0, 7, 0, 2, 2 },
	{ "NX", 0, 1 << 11, 0, 0, 0x80000001, 0, 3, 20 },
	{ "LM", 0, 1 << 8, 0, 0, 0x80000001, 0, 3, 29 },
	{ "RDTSCP", 0, 0, 0, UMBRA_FEAT_RDTSCP, 0x80000001, 0, 3, 27 },
	{ "RDPID", 0, 0, 0, UMBRA_FEAT_RDTSCP, 7, 0, 2, 22 },
	{ "INVPCID", 0, 0, 0, UMBRA_FEAT_INVPCID, 7, 0, 1, 10 },
};

START_TEST(test_shim_lacks)
{
	supported();
	ck_assert_msg(bit(taken[_i].function, taken[_i].index, taken[_i].reg, taken[_i].bit), "%s before",
		      taken[_i].name);
	w->vm.info.guest_cr4 &= ~taken[_i].cr4;
	w->vm.info.guest_efer &= ~taken[_i].efer;
	w->vm.info.guest_xcr0 &= ~taken[_i].xcr0;
	w->vm.info.features &= ~taken[_i].feat;
	supported();
	ck_assert_msg(!bit(taken[_i].function, taken[_i].index, taken[_i].reg, taken[_i].bit), "%s after",
		      taken[_i].name);
}
END_TEST

START_TEST(test_la57_and_avx512_when_given)
{
	w->vm.info.guest_cr4 |= 1 << 12;
	w->vm.info.guest_xcr0 = 0xe7;
	supported();
	ck_assert(bit(7, 0, 2, 16));
	ck_assert(bit(7, 0, 1, 16));
	ck_assert_uint_eq(leaf(0x80000008, 0)->eax, 57 << 8 | 46);
	ck_assert_uint_eq(leaf(0xd, 0)->ebx, 2688);
}
END_TEST

START_TEST(test_leaves)
{
	static const uint32_t zero[] = { 3,    5,    9,	   0xa,	 0xb,  0xc,	   0x12,       0x14,
					 0x15, 0x16, 0x1d, 0x1e, 0x1f, 0x8000000a, 0x8000001e, 0x8000001f };
	char name[13] = { 0 };

	supported();
	ck_assert_uint_eq(leaf(0, 0)->eax, 0x1f);
	ck_assert_uint_eq(leaf(0x80000000, 0)->eax, 0x80000021);
	ck_assert_uint_eq(leaf(1, 0)->ebx, 0xff00);
	for (size_t i = 0; i < sizeof(zero) / sizeof(zero[0]); i++) {
		const struct kvm_cpuid_entry2 *e = leaf(zero[i], 0);

		ck_assert_ptr_nonnull(e);
		ck_assert_msg(!e->eax && !e->ebx && !e->ecx && !e->edx, "leaf %x", zero[i]);
	}
	ck_assert_ptr_nonnull(leaf(4, 3));
	ck_assert_ptr_null(leaf(4, 4));
	ck_assert_ptr_nonnull(leaf(7, 1));
	ck_assert_ptr_null(leaf(7, 2));
	ck_assert_uint_eq(leaf(7, 0)->eax, 1);
	ck_assert_uint_eq(leaf(7, 0)->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	ck_assert_uint_eq(leaf(1, 0)->flags, 0);
	/* XSAVE: x87, SSE, AVX; nothing of PKRU or AMX */
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 7);
	ck_assert_uint_eq(leaf(0xd, 0)->edx, 0);
	ck_assert_uint_eq(leaf(0xd, 0)->ebx, 832);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 832);
	ck_assert_uint_eq(leaf(0xd, 2)->eax, 256);
	ck_assert_ptr_null(leaf(0xd, 9));
	ck_assert_ptr_null(leaf(0xd, 18));
	ck_assert_uint_eq(leaf(0xd, 1)->eax, 7);
	ck_assert_uint_eq(leaf(0xd, 1)->ecx, 0);
	ck_assert_uint_eq(leaf(0x80000008, 0)->eax, 48 << 8 | 46);
	ck_assert_uint_eq(leaf(0x40000000, 0)->eax, 0x40000001);
	memcpy(name, &leaf(0x40000000, 0)->ebx, 4);
	memcpy(name + 4, &leaf(0x40000000, 0)->ecx, 4);
	memcpy(name + 8, &leaf(0x40000000, 0)->edx, 4);
	ck_assert_str_eq(name, "KVMKVMKVM");
}
END_TEST

START_TEST(test_too_small)
{
	supported();
	for (int room = 0; room < count; room += 7)
		ck_assert_int_eq(cpuid_supported(&w->vm, entries, room), -E2BIG);
	ck_assert_int_eq(cpuid_supported(&w->vm, entries, count), count);
	ck_assert_int_eq(cpuid_emulated(&w->vm, entries, 0), -E2BIG);
	ck_assert_int_eq(cpuid_emulated(&w->vm, entries, 8), 0);
}
END_TEST

START_TEST(test_old_host)
{
	host_max_basic = 4;
	host_max_extended = 0x80000004;
	supported();
	ck_assert_ptr_null(leaf(5, 0));
	ck_assert_ptr_null(leaf(0x80000008, 0));
	ck_assert_uint_eq(leaf(0, 0)->eax, 4);
	ck_assert_uint_eq(leaf(0x80000000, 0)->eax, 0x80000004);
}
END_TEST

/* ---- the guest's ---- */

static void ask(uint32_t function, uint32_t index, uint32_t r[4])
{
	cpuid_guest(&w->vcpu, function, index, r);
}

START_TEST(test_guest_lookup)
{
	uint32_t r[4];

	guest_cpuid_supported();
	ask(7, 0, r);
	ck_assert_uint_eq(r[0], 1);
	ask(7, 1, r);
	ck_assert_uint_eq(r[1], 0);
	ck_assert_uint_ne(r[0], 0);
	ask(0x40000000, 0, r);
	ck_assert_uint_eq(r[1], 0x4b4d564b);
	ask(0x80000008, 77, r); /* its index means nothing */
	ck_assert_uint_eq(r[0], 48 << 8 | 46);
	ask(7, 9, r); /* an index that is not there */
	ck_assert(!r[0] && !r[1] && !r[2] && !r[3]);
}
END_TEST

START_TEST(test_guest_out_of_range)
{
	struct kvm_cpuid_entry2 e[] = {
		{ .function = 0, .eax = 2, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
		{ .function = 2, .eax = 0x1234, .edx = 5 },
		{ .function = 0x40000000, .eax = 0x40000001 },
		{ .function = 0x80000000, .eax = 0x80000004 },
	};
	uint32_t r[4];

	ck_assert_int_eq(cpuid_set(&w->vcpu, e, 4), 0);
	ask(9, 0, r);
	ck_assert_uint_eq(r[0], 0x1234);
	ask(0x80000009, 0, r);
	ck_assert_uint_eq(r[0], 0x1234);
	ask(0x40000009, 0, r);
	ck_assert_uint_eq(r[0], 0x1234);
	ask(0xc0000000, 0, r);
	ck_assert_uint_eq(r[0], 0x1234);
	ask(1, 0, r); /* in range, not there: zeros */
	ck_assert(!r[0] && !r[3]);
	ask(0x80000003, 0, r);
	ck_assert(!r[0]);
	/* AMD: zeros */
	e[0].ebx = 0x68747541;
	e[0].edx = 0x69746e65;
	e[0].ecx = 0x444d4163;
	ck_assert_int_eq(cpuid_set(&w->vcpu, e, 4), 0);
	ask(9, 0, r);
	ck_assert(!r[0] && !r[3]);
}
END_TEST

START_TEST(test_guest_topology_levels)
{
	struct kvm_cpuid_entry2 e[] = {
		{ .function = 0, .eax = 0xd, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
		{ .function = 0xb, .index = 0, .flags = 1, .eax = 1, .ebx = 1, .ecx = 0x100, .edx = 3 },
		{ .function = 0xb, .index = 1, .flags = 1, .eax = 4, .ebx = 4, .ecx = 0x201, .edx = 3 },
	};
	uint32_t r[4];

	ck_assert_int_eq(cpuid_set(&w->vcpu, e, 3), 0);
	ask(0xb, 5, r);
	ck_assert(!r[0] && !r[1] && r[2] == 5 && r[3] == 3);
}
END_TEST

START_TEST(test_guest_dynamic)
{
	uint32_t r[4];

	guest_cpuid_supported();
	ask(1, 0, r);
	ck_assert(!(r[2] & 1u << 27));
	ck_assert(r[3] & 1 << 9);
	w->run.cr4 = 1 << 18;
	w->vcpu.apic_base = 0xfee00000;
	ask(1, 0, r);
	ck_assert(r[2] & 1u << 27);
	ck_assert(!(r[3] & 1 << 9));
	w->run.xcr0 = 3;
	ask(0xd, 0, r);
	ck_assert_uint_eq(r[1], 576);
	ck_assert_uint_eq(r[2], 832);
	w->run.xcr0 = 7;
	ask(0xd, 0, r);
	ck_assert_uint_eq(r[1], 832);
	ask(0xd, 1, r);
	ck_assert_uint_eq(r[1], 832);
}
END_TEST

START_TEST(test_exit)
{
	guest_cpuid_supported();
	w->run.gpr[UMBRA_RAX] = 0xffffffff00000000; /* high halves: not looked at, and cleared */
	w->run.gpr[UMBRA_RBX] = ~0ull;
	w->run.rip = 0x1000;
	cpuid_exit(&w->vcpu);
	ck_assert_uint_eq(w->run.gpr[UMBRA_RAX], 0x1f);
	ck_assert_uint_eq(w->run.gpr[UMBRA_RBX], 0x756e6547);
	ck_assert_uint_eq(w->run.gpr[UMBRA_RCX], 0x6c65746e);
	ck_assert_uint_eq(w->run.gpr[UMBRA_RDX], 0x49656e69);
	ck_assert_uint_eq(w->run.rip, 0x1002);
	/* CPUID faulting is for user code only */
	w->vcpu.msrs->misc_features = 1;
	w->run.seg[UMBRA_SS].attr = 3 << 5;
	cpuid_exit(&w->vcpu);
	ck_assert_uint_eq(w->vcpu.exception.vector, 13);
	ck_assert_uint_eq(w->run.rip, 0x1002);
	w->run.seg[UMBRA_SS].attr = 0;
	cpuid_exit(&w->vcpu);
	ck_assert_uint_eq(w->run.rip, 0x1004);
}
END_TEST

START_TEST(test_derived)
{
	/* nothing set: the base architecture */
	ck_assert_uint_eq(w->vcpu.cr4_guest_bits, 0x7ff);
	ck_assert_uint_eq(w->vcpu.xcr0_guest_bits, 0);
	ck_assert_uint_eq(w->vcpu.efer_guest_bits, 1);
	ck_assert_uint_eq(w->vcpu.maxphyaddr, 36);
	guest_cpuid_supported();
	ck_assert_uint_eq(w->vcpu.cr4_guest_bits, 0x370fff);
	ck_assert_uint_eq(w->vcpu.xcr0_guest_bits, 7);
	ck_assert_uint_eq(w->vcpu.efer_guest_bits, 0xd01);
	ck_assert_uint_eq(w->vcpu.maxphyaddr, 46);
	guest_cpuid_bit(7, 1, 7, false);
	ck_assert_uint_eq(w->vcpu.cr4_guest_bits, 0x270fff);
	guest_cpuid_bit(1, 2, 26, false);
	ck_assert_uint_eq(w->vcpu.cr4_guest_bits, 0x230fff);
	ck_assert_uint_eq(w->vcpu.xcr0_guest_bits, 0);
	guest_cpuid_bit(0x80000001, 3, 20, false);
	ck_assert_uint_eq(w->vcpu.efer_guest_bits, 0x501);
	guest_cpuid_bit(0x80000001, 3, 29, false);
	ck_assert_uint_eq(w->vcpu.efer_guest_bits, 1);
}
END_TEST

START_TEST(test_set_checks)
{
	struct kvm_cpuid_entry2 e = { .function = 0x80000008, .eax = 47 << 8 | 40 };

	ck_assert_int_eq(cpuid_set(&w->vcpu, entries, 257), -E2BIG);
	ck_assert_int_eq(cpuid_set(&w->vcpu, &e, 1), -EINVAL);
	e.eax = 57 << 8 | 40;
	ck_assert_int_eq(cpuid_set(&w->vcpu, &e, 1), 0);
	/* a CPUID bit that the shim does not give opens nothing */
	ck_assert_uint_eq(w->vcpu.cr4_guest_bits, 0x7ff);
	w->vcpu.exits_shim_calls = 1; /* it has run */
	ck_assert_int_eq(cpuid_set(&w->vcpu, &e, 1), 0);
	e.eax++;
	ck_assert_int_eq(cpuid_set(&w->vcpu, &e, 1), -EINVAL);
	ck_assert_int_eq(cpuid_set(&w->vcpu, NULL, 0), -EINVAL);
}
END_TEST

/* Functions outside the direct tables are found, in the order of the list. */
START_TEST(test_odd_functions)
{
	struct kvm_cpuid_entry2 e[] = { { .function = 0x20000123, .eax = 1 },
					{ .function = 0xc0000001, .eax = 2 },
					{ .function = 0x40000100, .eax = 3 },
					{ .function = 0x1f, .index = 2, .flags = 1, .eax = 4 } };
	uint32_t r[4];

	ck_assert_int_eq(cpuid_set(&w->vcpu, e, 4), 0);
	for (int i = 0; i < 4; i++) {
		ask(e[i].function, e[i].index, r);
		ck_assert_uint_eq(r[0], e[i].eax);
	}
	ck_assert_ptr_null(cpuid_find(&w->vcpu, 0x1f, 1));
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

Suite *suite_cpuid(void)
{
	Suite *s = suite_create("cpuid");
	TCase *t = tcase_create("policy");

	tcase_add_checked_fixture(t, world_make, world_drop);
	tcase_add_loop_test(t, test_hidden, 0, COUNT(hidden));
	tcase_add_loop_test(t, test_offered, 0, COUNT(offered));
	tcase_add_loop_test(t, test_shim_lacks, 0, COUNT(taken));
	tcase_add_test(t, test_host_lacks);
	tcase_add_test(t, test_la57_and_avx512_when_given);
	tcase_add_test(t, test_leaves);
	tcase_add_test(t, test_too_small);
	tcase_add_test(t, test_old_host);
	suite_add_tcase(s, t);
	t = tcase_create("guest");
	tcase_add_checked_fixture(t, world_make, world_drop);
	tcase_add_test(t, test_guest_lookup);
	tcase_add_test(t, test_guest_out_of_range);
	tcase_add_test(t, test_guest_topology_levels);
	tcase_add_test(t, test_guest_dynamic);
	tcase_add_test(t, test_exit);
	tcase_add_test(t, test_derived);
	tcase_add_test(t, test_set_checks);
	tcase_add_test(t, test_odd_functions);
	suite_add_tcase(s, t);
	return s;
}
