// SPDX-License-Identifier: GPL-2.0-or-later
/* What the shim answers by itself, and which features of the host a guest gets to see. */
#include <string.h>

#include "fakes.h"
#include "msr.h"

static struct umbra_answer table[UMBRA_ANSWERS];

static const struct umbra_answer *answer(uint32_t kind, uint32_t leaf)
{
	const struct umbra_answer *a = &table[UMBRA_ANSWER_SLOT(leaf)];

	return a->kind == kind && a->leaf == leaf ? a : NULL;
}

static void answers_make(void)
{
	struct kvm_cpuid_entry2 entries[] = {
		{ .function = 0, .eax = 0xd, .ebx = 1, .ecx = 2, .edx = 3 },
		{ .function = 1, .eax = 4 },
		{ .function = 4, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 5 },
		{ .function = 0xd, .index = 0, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 7 },
		{ .function = 0x40, .eax = 6 }, /* the slot of leaf 0 */
	};

	memset(table, 0xff, sizeof(table)); /* whatever was there goes */
	world_make();
	w->vcpu.answers = table;
	ck_assert_int_eq(cpuid_set(&w->vcpu, entries, sizeof(entries) / sizeof(entries[0])), 0);
}

START_TEST(cpuid_leaves)
{
	const struct umbra_answer *a = answer(UMBRA_ANSWER_CPUID, 0);

	ck_assert(a && a->index_mask == 0 && a->reg[0] == 0xd && a->reg[1] == 1 && a->reg[2] == 2 && a->reg[3] == 3);
	a = answer(UMBRA_ANSWER_CPUID, 4);
	ck_assert(a && a->index_mask == ~0u && a->index == 1 && a->reg[0] == 5);
	/* They follow the guest's state; and one slot has one answer. */
	ck_assert(!answer(UMBRA_ANSWER_CPUID, 1) && !answer(UMBRA_ANSWER_CPUID, 0xd) &&
		  !answer(UMBRA_ANSWER_CPUID, 0x40));
}
END_TEST

START_TEST(cpuid_faulting)
{

	ck_assert_int_eq(msr_write(&w->vcpu, MSR_MISC_FEATURES, 1, true), 0);
	ck_assert(!answer(UMBRA_ANSWER_CPUID, 0) && answer(UMBRA_ANSWER_RDMSR, MSR_MISC_ENABLE));
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_MISC_FEATURES, 0, true), 0);
	ck_assert(answer(UMBRA_ANSWER_CPUID, 0) != NULL);
}
END_TEST

START_TEST(msrs_follow_writes)
{
	uint64_t value;

	ck_assert_int_eq(msr_read(&w->vcpu, MSR_MISC_ENABLE, &value, true), 0);
	ck_assert_int_eq(msr_write(&w->vcpu, MSR_MISC_ENABLE, value ^ 1, true), 0);
	ck_assert(answer(UMBRA_ANSWER_RDMSR, MSR_MISC_ENABLE) != NULL);
	ck_assert_uint_eq(answer(UMBRA_ANSWER_RDMSR, MSR_MISC_ENABLE)->reg[0], (uint32_t)(value ^ 1));
}
END_TEST

START_TEST(msrs_filtered)
{
	const uint8_t deny[8] = { 0 };
	struct kvm_msr_filter filter = { 0 };

	filter.ranges[0] =
		(struct kvm_msr_filter_range) { .flags = KVM_MSR_FILTER_READ, .nmsrs = 1, .base = MSR_MISC_ENABLE };
	ck_assert_int_eq(msr_set_filter(&w->vm, &filter, deny), 0);
	answers_update(&w->vcpu); /* as the request does on the vCPU's thread */
	ck_assert(!answer(UMBRA_ANSWER_RDMSR, MSR_MISC_ENABLE) && answer(UMBRA_ANSWER_RDMSR, MSR_PLATFORM_INFO));
}
END_TEST

START_TEST(kernel_takes_away)
{
	host_flags_apply("flags\t\t: fpu pni avx2x fsgsbase bmi1 erms\n");
	ck_assert_uint_eq(host_flags_cleared(7, 0, 1) & (1 << 0 | 1 << 3 | 1 << 9), 0);
	ck_assert_uint_eq(host_flags_cleared(7, 0, 1) & (1 << 5 | 1 << 8), 1 << 5 | 1 << 8); /* avx2, bmi2 */
	ck_assert_uint_eq(host_flags_cleared(1, 0, 2) & 1, 0);
	ck_assert_uint_eq(host_flags_cleared(1, 0, 3), 0); /* not looked at */
}
END_TEST

Suite *suite_answers(void)
{
	Suite *suite = suite_create("answers");
	TCase *tc = tcase_create("answers");

	tcase_add_checked_fixture(tc, answers_make, world_drop);
	tcase_add_test(tc, cpuid_leaves);
	tcase_add_test(tc, cpuid_faulting);
	tcase_add_test(tc, msrs_follow_writes);
	tcase_add_test(tc, msrs_filtered);
	tcase_add_test(tc, kernel_takes_away);
	suite_add_tcase(suite, tc);
	return suite;
}
