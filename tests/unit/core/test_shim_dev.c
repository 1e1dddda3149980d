// SPDX-License-Identifier: GPL-2.0-or-later
/* The tables of the real shim's operations: what a fake one has must be in both. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shadow/shim_dev.c"

#define OPS (sizeof(struct shim_ops) / sizeof(uintptr_t))

void exit_read_svm(const struct umbra_run *run, struct vmexit *exit)
{
	(void)run;
	(void)exit;
}

static void complete(const struct shim_ops *ops, const struct shim_ops *none)
{
	uintptr_t op[OPS], may_lack[OPS];

	memcpy(op, ops, sizeof(op));
	memcpy(may_lack, none, sizeof(may_lack));
	for (size_t i = 0; i < OPS; i++)
		ck_assert_msg(op[i] || may_lack[i], "operation %zu is missing", i);
}

START_TEST(tables)
{
	static const struct shim_ops every, no_reader = { .exit_read = exit_read_svm };

	complete(&ops_vmx, &no_reader);
	complete(&ops_svm, &every);
	ck_assert_ptr_null(ops_vmx.exit_read); /* it means exit_read_vmx */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shim_dev");
	TCase *tcase = tcase_create("all");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, tables);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
