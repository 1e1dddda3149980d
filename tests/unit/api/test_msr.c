// SPDX-License-Identifier: GPL-2.0-or-later
/* Each MSR: a value that is taken, one that is refused; the filter. */
#include <errno.h>
#include <string.h>
#include <asm/kvm_para.h>

#include "fakes.h"

#define GUEST 1
#define HOST 2
#define BOTH 3
#define NONCANONICAL 0x0001000000000000ull

/* Writes: by whom it is taken; reads back as */
static const struct {
	const char *name;
	uint32_t msr;
	uint64_t value;
	int by;
	uint64_t reads;
} writes[] = {
	{ "STAR", 0xc0000081, ~0ull, BOTH, ~0ull },
	{ "LSTAR", 0xc0000082, 0xffff800000000000, BOTH, 0xffff800000000000 },
	{ "LSTAR bad", 0xc0000082, NONCANONICAL, 0, 0 },
	{ "CSTAR", 0xc0000083, 0x7fffffffffff, BOTH, 0x7fffffffffff },
	{ "CSTAR bad", 0xc0000083, 0x800000000000, 0, 0 },
	{ "FMASK", 0xc0000084, 0x47700, BOTH, 0x47700 },
	{ "FMASK bad", 0xc0000084, 1ull << 32, 0, 0 },
	{ "FS_BASE", 0xc0000100, 0x1234, BOTH, 0x1234 },
	{ "FS_BASE bad", 0xc0000100, NONCANONICAL, 0, 0 },
	{ "GS_BASE", 0xc0000101, 0xffff888000000000, BOTH, 0xffff888000000000 },
	{ "GS_BASE bad", 0xc0000101, NONCANONICAL, 0, 0 },
	{ "KERNEL_GS_BASE", 0xc0000102, 0xffff888000001000, BOTH, 0xffff888000001000 },
	{ "KERNEL_GS_BASE bad", 0xc0000102, NONCANONICAL, 0, 0 },
	{ "TSC_AUX", 0xc0000103, 7, BOTH, 7 },
	{ "TSC_AUX bad", 0xc0000103, 1ull << 32, 0, 0 },
	{ "SYSENTER_CS", 0x174, 0x1234500000010, BOTH, 0x10 },
	{ "SYSENTER_ESP", 0x175, 0x8000, BOTH, 0x8000 },
	{ "SYSENTER_ESP bad", 0x175, NONCANONICAL, 0, 0 },
	{ "SYSENTER_EIP", 0x176, 0x8000, BOTH, 0x8000 },
	{ "SYSENTER_EIP bad", 0x176, NONCANONICAL, 0, 0 },
	{ "PAT", 0x277, 0x0407050600070106, BOTH, 0x0407050600070106 },
	{ "PAT type 2", 0x277, 0x0007040600070402, 0, 0 },
	{ "PAT type 8", 0x277, 0x0807040600070406, 0, 0 },
	{ "EFER", 0xc0000080, 0x901, BOTH, 0x901 },
	{ "EFER LMA is not written", 0xc0000080, 0xd01, BOTH, 0x901 },
	{ "EFER SVME", 0xc0000080, 1 << 12, 0, 0 },
	{ "EFER FFXSR", 0xc0000080, 1 << 14, 0, 0 },
	{ "MISC_ENABLE", 0x1a0, 0x1801, BOTH, 0x1801 },
	{ "MISC_ENABLE PMU bits", 0x1a0, 1, HOST, 1 },
	{ "FEATURE_CONTROL", 0x3a, 1, BOTH, 1 },
	{ "FEATURE_CONTROL VMX", 0x3a, 5, 0, 0 },
	{ "ARCH_CAPABILITIES", 0x10a, 0, HOST, 0 },
	{ "PLATFORM_INFO", 0xce, 1ull << 31, HOST, 1ull << 31 },
	{ "MISC_FEATURES", 0x140, 1, BOTH, 1 },
	{ "MISC_FEATURES bad", 0x140, 2, 0, 0 },
	{ "SMBASE", 0x9e, 0x40000, HOST, 0x40000 },
	{ "SMI_COUNT", 0x34, 3, HOST, 3 },
	{ "POWER_CTL", 0x1fc, 2, BOTH, 2 },
	{ "DEBUGCTL", 0x1d9, 0, BOTH, 0 },
	{ "DEBUGCTL LBR, BTF", 0x1d9, 3, BOTH, 0 },
	{ "DEBUGCTL BTS", 0x1d9, 1 << 7, 0, 0 },
	{ "HWCR", 0xc0010015, 1 << 18 | 1 << 6, BOTH, 1 << 18 },
	{ "HWCR bad", 0xc0010015, 1 << 10, 0, 0 },
	{ "XSS", 0xda0, 0, HOST, 0 },
	{ "XSS bits", 0xda0, 1 << 11, 0, 0 },
	{ "MTRR cap", 0xfe, 0x508, 0, 0 },
	{ "MTRR default", 0x2ff, 0xc06, BOTH, 0xc06 },
	{ "MTRR default type 7", 0x2ff, 0xc07, 0, 0 },
	{ "MTRR default reserved", 0x2ff, 0x1c06, 0, 0 },
	{ "MTRR fixed", 0x250, 0x0606060606060606, BOTH, 0x0606060606060606 },
	{ "MTRR fixed last", 0x26f, 0x0105040006060600, BOTH, 0x0105040006060600 },
	{ "MTRR fixed bad", 0x26f, 0x0205040006060600, 0, 0 },
	{ "MTRR base", 0x200, 0xc0000000, BOTH, 0xc0000000 },
	{ "MTRR base reserved", 0x200, 0xc0000100, 0, 0 },
	{ "MTRR base high", 0x20e, 1ull << 46, 0, 0 },
	{ "MTRR mask", 0x20f, 0x3fffc0000800, BOTH, 0x3fffc0000800 },
	{ "MTRR mask reserved", 0x20f, 0x3fffc0000400, 0, 0 },
	{ "MTRR ninth pair", 0x210, 0, 0, 0 },
	{ "MCG_STATUS", 0x17a, 4, BOTH, 4 },
	{ "MCG_CAP", 0x179, 0, 0, 0 },
	{ "MC0_CTL", 0x400, ~0ull, BOTH, ~0ull },
	{ "MC0_CTL part", 0x400, 0xff, 0, 0 },
	{ "MC0_STATUS clear", 0x401, 0, BOTH, 0 },
	{ "MC0_STATUS set", 0x401, 1ull << 63, HOST, 1ull << 63 },
	{ "MC31_MISC", 0x47f, 5, BOTH, 5 },
	{ "PV_EOI", MSR_KVM_PV_EOI_EN, 0x1001, BOTH, 0x1001 },
	{ "PV_EOI reserved", MSR_KVM_PV_EOI_EN, 0x1003, 0, 0 },
	{ "POLL_CONTROL", MSR_KVM_POLL_CONTROL, 0, BOTH, 0 },
	{ "POLL_CONTROL bad", MSR_KVM_POLL_CONTROL, 2, 0, 0 },
	{ "ASYNC_PF off", MSR_KVM_ASYNC_PF_EN, 0, BOTH, 0 },
	{ "ASYNC_PF on", MSR_KVM_ASYNC_PF_EN, 1, 0, 0 },
	{ "STEAL_TIME", MSR_KVM_STEAL_TIME, 0x10001, BOTH, 0x10001 },
	{ "STEAL_TIME refused", MSR_KVM_STEAL_TIME, 0xbad, 0, 0 },
	{ "SYSTEM_TIME", MSR_KVM_SYSTEM_TIME, 0x2001, BOTH, 0x2001 },
	{ "SYSTEM_TIME_NEW", MSR_KVM_SYSTEM_TIME_NEW, 0x2001, BOTH, 0x2001 },
	{ "WALL_CLOCK", MSR_KVM_WALL_CLOCK, 0x3000, BOTH, 0x3000 },
	{ "WALL_CLOCK_NEW", MSR_KVM_WALL_CLOCK_NEW, 0x3000, BOTH, 0x3000 },
	{ "WALL_CLOCK refused by the clock", MSR_KVM_WALL_CLOCK_NEW, 0xbad, 0, 0 },
	{ "migration control", MSR_KVM_MIGRATION_CONTROL, 1, 0, 0 },
	{ "APIC_BASE", 0x1b, 0xfee00d00, BOTH, 0xfee00d00 },
	{ "APIC_BASE bad", 0x1b, 0xfee00d01, 0, 0 },
	{ "PERFCTR 0", 0xc1, 0, BOTH, 0 },
	{ "PERFCTR on", 0xc1, 5, 0, 0 },
	{ "EVNTSEL on", 0x186, 0x530000, 0, 0 },
	{ "K7 EVNTSEL 0", 0xc0010000, 0, BOTH, 0 },
	{ "NB_CFG", 0xc001001f, 5, BOTH, 0 },
	{ "VM_HSAVE_PA", 0xc0010117, 0x7fff, BOTH, 0 },
	{ "SPEC_CTRL", 0x48, 0, 0, 0 },
	{ "PRED_CMD", 0x49, 1, 0, 0 },
	{ "VMX_BASIC", 0x480, 0, 0, 0 },
	{ "PMU global", 0x38f, 0, 0, 0 },
	{ "unknown", 0x12345, 0, 0, 0 },
};

START_TEST(test_write)
{
	uint64_t value;

	guest_cpuid_supported();
	for (int host = 0; host < 2; host++) {
		bool want = writes[_i].by & (host ? HOST : GUEST);
		int r = msr_write(&w->vcpu, writes[_i].msr, writes[_i].value, host);

		ck_assert_msg(r == (want ? 0 : -1), "%s, %s: %d", writes[_i].name, host ? "host" : "guest", r);
		if (!want)
			continue;
		value = 0x1122;
		ck_assert_int_eq(msr_read(&w->vcpu, writes[_i].msr, &value, true), 0);
		ck_assert_msg(value == writes[_i].reads, "%s reads %llx", writes[_i].name, (unsigned long long)value);
	}
}
END_TEST

/* A refused write changes nothing. */
START_TEST(test_refused_unchanged)
{
	uint64_t before, after;

	guest_cpuid_supported();
	if (writes[_i].by || msr_read(&w->vcpu, writes[_i].msr, &before, true))
		return;
	w->run.dirty = 0;
	ck_assert_int_eq(msr_write(&w->vcpu, writes[_i].msr, writes[_i].value, false), -1);
	ck_assert_int_eq(msr_read(&w->vcpu, writes[_i].msr, &after, true), 0);
	if (writes[_i].value != 0xbad)
		ck_assert_uint_eq(before, after);
	ck_assert_uint_eq(w->run.dirty, 0);
}
END_TEST

START_TEST(test_dirty_groups)
{
	guest_cpuid_supported();
	w->run.dirty = 0;
	w->vcpu.valid = 0;
	msr_write(&w->vcpu, MSR_LSTAR, 0x1000, false);
	ck_assert_uint_eq(w->run.dirty, UMBRA_STATE_MSR);
	ck_assert(fetch_valid & UMBRA_STATE_MSR);
	w->run.dirty = fetch_valid = 0;
	msr_write(&w->vcpu, MSR_GS_BASE, 0x1000, false);
	ck_assert_uint_eq(w->run.dirty, UMBRA_STATE_SEG_DATA);
	ck_assert(fetch_valid & UMBRA_STATE_SEG_DATA);
	w->run.dirty = fetch_valid = 0;
	msr_write(&w->vcpu, MSR_EFER, 0x800, false);
	ck_assert_uint_eq(w->run.dirty, UMBRA_STATE_CR);
	ck_assert(w->run.flags & UMBRA_RUN_FLUSH_TLB);
}
END_TEST

START_TEST(test_efer)
{
	guest_cpuid_supported();
	w->run.efer = 0x500; /* LME, LMA */
	w->run.cr0 = 0x80000001;
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_EFER, 0, false), -1); /* LME under paging */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_EFER, 0x101, false), 0);
	ck_assert_uint_eq(w->run.efer, 0x501);
	guest_cpuid_bit(0x80000001, 3, 20, false);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_EFER, 0xd01, false), -1); /* no NX */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_EFER, 0xd01, true), 0);
}
END_TEST

START_TEST(test_la57_canonical)
{
	guest_cpuid_supported();
	w->run.cr4 = 1 << 12;
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_LSTAR, 0xff00000000000000, false), 0);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_LSTAR, 0xfe00000000000000, false), -1);
}
END_TEST

START_TEST(test_tsc_aux_without_rdtscp)
{
	uint64_t v;

	ck_assert_int_eq(msr_write(&w->vcpu, MSR_TSC_AUX, 1, false), -1);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_TSC_AUX, &v, false), -1);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_TSC_AUX, 1, true), 0);
}
END_TEST

START_TEST(test_tsc)
{
	uint64_t v;

	guest_cpuid_supported();
	/* starts at 0 */
	msr_read(&w->vcpu, MSR_TSC, &v, false);
	ck_assert_uint_eq(v, 0);
	fake_tsc += 5000;
	msr_read(&w->vcpu, MSR_TSC, &v, false);
	ck_assert_uint_eq(v, 5000);
	/* a guest's write moves it, and TSC_ADJUST tells by how much */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_TSC, 105000, false), 0);
	msr_read(&w->vcpu, MSR_TSC, &v, false);
	ck_assert_uint_eq(v, 105000);
	msr_read(&w->vcpu, MSR_TSC_ADJUST, &v, false);
	ck_assert_uint_eq(v, 100000);
	ck_assert_uint_eq(seen.tsc_changed, 1);
	ck_assert(atomic_load(&w->vcpu.requests) & VCPU_REQ_CLOCK);
	/* and back through TSC_ADJUST */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_TSC_ADJUST, 0, false), 0);
	msr_read(&w->vcpu, MSR_TSC, &v, false);
	ck_assert_uint_eq(v, 5000);
	/* the VMM's write of TSC_ADJUST is only stored */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_TSC_ADJUST, 77, true), 0);
	msr_read(&w->vcpu, MSR_TSC, &v, false);
	ck_assert_uint_eq(v, 5000);
}
END_TEST

START_TEST(test_tsc_shared)
{
	uint64_t offset = w->run.tsc_offset;

	/* 0, as a VMM writes to a new vCPU: the VM's time goes on */
	fake_tsc += 100ull * 2000000000;
	msr_write(&w->vcpu, MSR_TSC, 0, true);
	ck_assert_uint_eq(w->run.tsc_offset, offset);
	/* within a second of what it would be: the same */
	msr_write(&w->vcpu, MSR_TSC, fake_tsc + offset + 1000000000, true);
	ck_assert_uint_eq(w->run.tsc_offset, offset);
	/* another time */
	msr_write(&w->vcpu, MSR_TSC, fake_tsc + offset + 3000000000, true);
	ck_assert_uint_eq(w->run.tsc_offset, offset + 3000000000);
	/* which the next vCPU shares */
	msr_write(&w->vcpu, MSR_TSC, fake_tsc + offset + 3000000500, true);
	ck_assert_uint_eq(w->run.tsc_offset, offset + 3000000000);
}
END_TEST

static const struct {
	uint32_t msr;
	uint64_t value;
} constants[] = {
	{ 0x0, 0 },
	{ 0x1, 0 },
	{ 0x17, 0 },
	{ 0x2a, 0 },
	{ 0x2c, 1 << 24 },
	{ 0xcd, 3 },
	{ 0xfe, 0x508 },
	{ 0x11e, 0xbe702111 },
	{ 0x198, 1000 | 4ull << 40 },
	{ 0x199, 0 },
	{ 0x1db, 0 },
	{ 0x1de, 0 },
	{ 0x606, 0 },
	{ 0x611, 0 },
	{ 0x619, 0 },
	{ 0x639, 0 },
	{ 0xc0010010, 0 },
	{ 0xc001001b, 0x20000000 },
	{ 0xc0010055, 0 },
	{ 0xc0010058, 0 },
	{ 0xc0010112, 0 },
	{ 0xc0010117, 0 },
	{ 0xc0011022, 0 },
	{ 0xc001102a, 0 },
	{ 0x8b, 1ull << 32 },
	{ 0x10a, 1 << 6 },
	{ 0xce, 1ull << 31 },
	{ 0x1a0, 0x1800 },
	{ 0x179, 32 },
	{ 0x1b, 0xfee00900 },
};

START_TEST(test_read)
{
	uint64_t v = 0x1122;

	guest_cpuid_supported();
	ck_assert_int_eq(msr_read(&w->vcpu, constants[_i].msr, &v, false), 0);
	ck_assert_msg(v == constants[_i].value, "%x: %llx", constants[_i].msr, (unsigned long long)v);
}
END_TEST

static const uint32_t unreadable[] = { 0x48,	   0x49,       0x79,	   0x9e,  0x38d, 0x345,
				       0x480,	   0x570,      0xda0,	   0x17b, 0x480, 0xc0010020,
				       0xc0011029, 0xc0010140, 0x4b564d08, 0x35,  0x8ff };

START_TEST(test_unreadable)
{
	uint64_t v;

	guest_cpuid_supported();
	ck_assert_msg(msr_read(&w->vcpu, unreadable[_i], &v, false) == -1, "%x", unreadable[_i]);
}
END_TEST

START_TEST(test_ucode)
{
	uint64_t v;

	ck_assert_int_eq(msr_write(&w->vcpu, 0x79, 0x1234, false), 0); /* update trigger: nothing happens */
	ck_assert_int_eq(msr_write(&w->vcpu, 0x8b, 0, false), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, 0x8b, &v, false), 0);
	ck_assert_uint_eq(v, 1ull << 32);
	ck_assert_int_eq(msr_write(&w->vcpu, 0x8b, 0x7700000000, true), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, 0x8b, &v, false), 0);
	ck_assert_uint_eq(v, 0x7700000000);
}
END_TEST

START_TEST(test_locked)
{
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_FEATURE_CONTROL, 1, false), 0);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_FEATURE_CONTROL, 1, false), -1);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_FEATURE_CONTROL, 0, true), 0);
}
END_TEST

START_TEST(test_cpuid_fault_pair)
{
	msr_write(&w->vcpu, MSR_MISC_FEATURES, 1, false);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_PLATFORM_INFO, 0, true), -1); /* it is on */
	msr_write(&w->vcpu, MSR_MISC_FEATURES, 0, false);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_PLATFORM_INFO, 0, true), 0);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_MISC_FEATURES, 1, false), -1); /* not offered */
}
END_TEST

START_TEST(test_apic_range)
{
	uint64_t v;

	ck_assert_int_eq(msr_read(&w->vcpu, 0x802, &v, false), 0);
	ck_assert_uint_eq(v, 0xa802);
	ck_assert_int_eq(msr_write(&w->vcpu, 0x830, 9, false), 0);
	ck_assert_uint_eq(seen.last, 9);
	ck_assert_int_eq(msr_write(&w->vcpu, 0x80b, 0, false), 1); /* to the VMM */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_TSC_DEADLINE, 55, false), 0);
	ck_assert_uint_eq(seen.x2apic_writes, 3);
}
END_TEST

START_TEST(test_mce)
{
	uint64_t v;

	ck_assert_int_eq(msr_mce_setup(&w->vcpu, 0), -EINVAL);
	ck_assert_int_eq(msr_mce_setup(&w->vcpu, 33), -EINVAL);
	ck_assert_int_eq(msr_mce_setup(&w->vcpu, 10 | 1 << 10), -EINVAL); /* CMCI */
	ck_assert_int_eq(msr_mce_setup(&w->vcpu, 10 | MSR_MCG_CTL_P | MSR_MCG_SER_P), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_MCG_CTL, &v, false), 0);
	ck_assert_uint_eq(v, ~0ull);
	ck_assert_int_eq(msr_read(&w->vcpu, 0x400 + 39, &v, false), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, 0x400 + 40, &v, false), -1);
	ck_assert_int_eq(msr_write(&w->vcpu, 0x400 + 40, 0, false), -1);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_MCG_CTL, 5, false), -1);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_MCG_CTL, 0, false), 0);
}
END_TEST

START_TEST(test_mce_inject)
{
	struct kvm_x86_mce mce = {
		.status = 1ull << 63 | 1ull << 61, .addr = 0x1000, .misc = 2, .mcg_status = 5, .bank = 1
	};
	uint64_t v;

	ck_assert_int_eq(msr_mce_setup(&w->vcpu, 10 | MSR_MCG_CTL_P), 0);
	mce.bank = 10;
	ck_assert_int_eq(msr_mce_inject(&w->vcpu, &mce), -EINVAL);
	mce.bank = 1;
	mce.status &= ~(1ull << 63);
	ck_assert_int_eq(msr_mce_inject(&w->vcpu, &mce), -EINVAL);
	mce.status |= 1ull << 63;
	ck_assert_int_eq(msr_mce_inject(&w->vcpu, &mce), 0); /* CR4.MCE is off */
	ck_assert(w->vcpu.triple_fault);
	w->vcpu.triple_fault = false;
	w->run.cr4 = 1 << 6;
	ck_assert_int_eq(msr_mce_inject(&w->vcpu, &mce), 0);
	ck_assert(!w->vcpu.triple_fault);
	ck_assert_uint_eq(w->vcpu.exception.vector, 18);
	msr_read(&w->vcpu, 0x406, &v, false);
	ck_assert_uint_eq(v, 0x1000);
	msr_read(&w->vcpu, MSR_MCG_STATUS, &v, false);
	ck_assert_uint_eq(v, 5);
	/* a second one while the first is handled: shutdown */
	ck_assert_int_eq(msr_mce_inject(&w->vcpu, &mce), 0);
	ck_assert(w->vcpu.triple_fault);
	/* a corrected one does not overwrite it, only marks the loss */
	mce.status = 1ull << 63;
	mce.addr = 0x2000;
	ck_assert_int_eq(msr_mce_inject(&w->vcpu, &mce), 0);
	msr_read(&w->vcpu, 0x406, &v, false);
	ck_assert_uint_eq(v, 0x1000);
	msr_read(&w->vcpu, 0x405, &v, false);
	ck_assert(v >> 62 & 1);
}
END_TEST

START_TEST(test_amd)
{
	uint64_t v;

	host_amd = true;
	ck_assert_int_eq(msr_feature_get(&w->vm, MSR_DE_CFG, &v), 0);
	ck_assert_uint_eq(v, 2);
	ck_assert_int_eq(msr_feature_get(&w->vm, MSR_UCODE_REV, &v), 0);
	ck_assert_uint_eq(v, 0x01000065);
	w->vcpu.msrs->amd = true;
	guest_cpuid_supported();
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_DE_CFG, 2, false), 0);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_DE_CFG, 3, false), -1);
	/* a page of the guest's, or anything of the VMM's */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_VM_HSAVE_PA, 0x7fff, false), -1);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_VM_HSAVE_PA, 1ull << w->vcpu.maxphyaddr, false), -1);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_VM_HSAVE_PA, 0x7000, false), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_VM_HSAVE_PA, &v, false), 0);
	ck_assert_uint_eq(v, 0x7000);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_VM_HSAVE_PA, 0x8fff, true), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_VM_HSAVE_PA, &v, false), 0);
	ck_assert_uint_eq(v, 0x8000);
	/* AMD keeps 32 bits of these */
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_SYSENTER_EIP, NONCANONICAL | 5, false), 0);
	ck_assert_uint_eq(w->run.msr.sysenter_eip, 5);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_TSC_AUX, 5ull << 32 | 6, false), 0);
	ck_assert_uint_eq(w->run.msr.tsc_aux, 6);
}
END_TEST

static uint32_t family_eax, family_21;

static void host_family(uint32_t function, uint32_t index, uint32_t regs[4])
{
	(void)index;
	memset(regs, 0, 16);
	if (function == 0) {
		regs[1] = 0x68747541;
		regs[3] = 0x69746e65;
		regs[2] = 0x444d4163;
	} else if (function == 1) {
		regs[0] = family_eax;
	} else if (function == 0x80000000) {
		regs[0] = family_21 ? 0x80000021 : 0x80000008;
	} else if (function == 0x80000021) {
		regs[0] = family_21;
	}
}

/* LFENCE that serializes: by itself, or because the host's kernel has made it so. */
START_TEST(test_amd_lfence)
{
	static const struct {
		uint32_t eax, leaf_21;
		uint64_t value;
	} rows[] = {
		{ 0x00060fb1, 0, 0 }, /* family 0Fh */
		{ 0x00100f42, 0, 2 }, /* 10h */
		{ 0x00200f31, 0, 0 }, /* 11h */
		{ 0x00a20f12, 0, 2 }, /* 19h */
		{ 0x00060fb1, 4, 2 }, { 0x00060fb1, 1, 0 },
	};
	uint64_t v;

	cpuid_host = host_family;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		family_eax = rows[i].eax;
		family_21 = rows[i].leaf_21;
		ck_assert_int_eq(msr_feature_get(&w->vm, MSR_DE_CFG, &v), 0);
		ck_assert_msg(v == rows[i].value, "row %zu: %llx", i, (unsigned long long)v);
	}
}
END_TEST

/* Each that is listed can be saved and restored. */
START_TEST(test_lists)
{
	uint32_t list[64], n = msr_index_list(&w->vm, list, 64);
	uint64_t v;

	guest_cpuid_supported();
	msr_mce_setup(&w->vcpu, 10 | MSR_MCG_CTL_P);
	ck_assert_uint_gt(n, 20);
	ck_assert_uint_eq(msr_index_list(&w->vm, list, 0), n);
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_msg(!msr_read(&w->vcpu, list[i], &v, true), "read %x", list[i]);
		ck_assert_msg(!msr_write(&w->vcpu, list[i], v, true), "write %x", list[i]);
	}
	n = msr_feature_list(&w->vm, list, 64);
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(msr_feature_get(&w->vm, list[i], &v), 0);
	ck_assert_int_eq(msr_feature_get(&w->vm, MSR_TSC, &v), -EINVAL);
}
END_TEST

/* ---- filter ---- */

static struct kvm_msr_filter filter;
static uint8_t bitmaps[64];

START_TEST(test_filter_checks)
{
	memset(&filter, 0, sizeof(filter));
	filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), -EINVAL); /* deny all */
	filter.flags = 2;
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), -EINVAL);
	filter.flags = 0;
	filter.ranges[3] = (struct kvm_msr_filter_range) { .flags = 4, .nmsrs = 1 };
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), -EINVAL);
	filter.ranges[3] = (struct kvm_msr_filter_range) { .flags = 0, .nmsrs = 1 };
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), -EINVAL);
	filter.ranges[3] = (struct kvm_msr_filter_range) { .flags = 1, .nmsrs = 0x600 * 8 + 1 };
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), -EINVAL);
	filter.ranges[3] = (struct kvm_msr_filter_range) { .flags = 1, .nmsrs = ~0u };
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), -EINVAL);
	ck_assert_ptr_null(w->vm.msr_filter);
}
END_TEST

START_TEST(test_filter)
{
	uint64_t v;

	guest_cpuid_supported();
	memset(&filter, 0, sizeof(filter));
	memset(bitmaps, 0, sizeof(bitmaps));
	/* reads of STAR (not LSTAR) denied; writes of CSTAR denied, by a second range */
	filter.ranges[0] = (struct kvm_msr_filter_range) { .flags = KVM_MSR_FILTER_READ, .base = MSR_STAR, .nmsrs = 2 };
	filter.ranges[7] =
		(struct kvm_msr_filter_range) { .flags = KVM_MSR_FILTER_WRITE, .base = MSR_CSTAR, .nmsrs = 1 };
	bitmaps[0] = 2;
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), 0);
	bitmaps[0] = 0; /* it was copied */
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_STAR, &v, false), -1);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_LSTAR, &v, false), 0);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_STAR, 0, false), 0);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_CSTAR, 0, false), -1);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_CSTAR, &v, false), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_STAR, &v, true), 0); /* the VMM is not filtered */
	/* without the capability a denied access is a #GP */
	ck_assert_uint_eq(msr_to_user(&w->vcpu, MSR_STAR, false, true), 0);
	w->vm.user_space_msr_mask = KVM_MSR_EXIT_REASON_FILTER;
	ck_assert_uint_eq(msr_to_user(&w->vcpu, MSR_STAR, false, false), KVM_MSR_EXIT_REASON_FILTER);
	ck_assert_uint_eq(msr_to_user(&w->vcpu, MSR_STAR, false, true), KVM_MSR_EXIT_REASON_FILTER);
	ck_assert_uint_eq(msr_to_user(&w->vcpu, MSR_STAR, true, false), 0);
	ck_assert_uint_eq(msr_to_user(&w->vcpu, 0x12345, true, true), 0);
	/* replaced: the old one is freed after readers are gone */
	filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	bitmaps[0] = 1;
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, bitmaps), 0);
	ck_assert_uint_eq(seen.synchronized, 2);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_STAR, &v, false), 0);
	ck_assert_int_eq(msr_read(&w->vcpu, MSR_PAT, &v, false), -1);
	ck_assert_int_eq(msr_read(&w->vcpu, 0x802, &v, false), 0); /* x2APIC: never filtered */
}
END_TEST

START_TEST(test_user_space_reasons)
{
	w->vm.user_space_msr_mask = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;
	ck_assert_uint_eq(msr_to_user(&w->vcpu, 0x12345, false, true), KVM_MSR_EXIT_REASON_UNKNOWN);
	ck_assert_uint_eq(msr_to_user(&w->vcpu, 0x12345, false, false), 0);
	ck_assert_uint_eq(msr_to_user(&w->vcpu, MSR_LSTAR, true, true), KVM_MSR_EXIT_REASON_INVAL);
	w->vm.user_space_msr_mask = KVM_MSR_EXIT_REASON_INVAL;
	ck_assert_uint_eq(msr_to_user(&w->vcpu, 0x12345, false, true), 0);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

Suite *suite_msr(void)
{
	Suite *s = suite_create("msr");
	TCase *t = tcase_create("policy");

	tcase_add_checked_fixture(t, world_make, world_drop);
	tcase_add_loop_test(t, test_write, 0, COUNT(writes));
	tcase_add_loop_test(t, test_refused_unchanged, 0, COUNT(writes));
	tcase_add_loop_test(t, test_read, 0, COUNT(constants));
	tcase_add_loop_test(t, test_unreadable, 0, COUNT(unreadable));
	tcase_add_test(t, test_dirty_groups);
	tcase_add_test(t, test_efer);
	tcase_add_test(t, test_la57_canonical);
	tcase_add_test(t, test_tsc_aux_without_rdtscp);
	tcase_add_test(t, test_tsc);
	tcase_add_test(t, test_tsc_shared);
	tcase_add_test(t, test_ucode);
	tcase_add_test(t, test_locked);
	tcase_add_test(t, test_cpuid_fault_pair);
	tcase_add_test(t, test_apic_range);
	tcase_add_test(t, test_mce);
	tcase_add_test(t, test_mce_inject);
	tcase_add_test(t, test_amd);
	tcase_add_test(t, test_amd_lfence);
	tcase_add_test(t, test_lists);
	tcase_add_test(t, test_filter_checks);
	tcase_add_test(t, test_filter);
	tcase_add_test(t, test_user_space_reasons);
	suite_add_tcase(s, t);
	return s;
}
