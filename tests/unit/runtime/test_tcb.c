/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umbra tcb: figures of the source in any case; of the module only when it is loaded. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "umbra.h"

static char root[64], *report;

static void run(void)
{
	size_t size;
	FILE *out = open_memstream(&report, &size);

	ck_assert_ptr_nonnull(out);
	tcb_report(root, out);
	fclose(out);
}

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", root, name);
	if (!text) {
		ck_assert_int_eq(mkdir(path, 0755), 0);
		return;
	}
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void has(const char *text)
{
	ck_assert_msg(strstr(report, text), "no '%s' in:\n%s", text, report);
}

START_TEST(not_loaded)
{
	strcpy(root, "/nonexistent");
	run();
	has("lines of code in the kernel");
	has("      7  calls of the module's ABI");		    /* UMBRA_INFO .. UMBRA_VCPU_KICK */
	has("     17  system calls that a vCPU's thread can make"); /* seccomp/common.policy and vcpu.policy */
	has("not loaded");
	ck_assert_msg(!strstr(report, "      0  "), "a figure is 0:\n%s", report);
	free(report);
}
END_TEST

START_TEST(loaded)
{
	strcpy(root, "/tmp/umbra-tcb-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	put("/sys", NULL);
	put("/sys/module", NULL);
	put("/sys/module/umbra", NULL);
	put("/sys/module/umbra/coresize", "81920\n");
	put("/sys/module/umbra/parameters", NULL);
	put("/sys/module/umbra/parameters/vms", "3\n");
	run();
	has("  81920  bytes in the kernel's memory");
	has("      3  virtual machines");
	free(report);
	put("/sys/module/umbra/coresize", "nonsense\n");
	run();
	has("not loaded");
	free(report);
	execl("/bin/rm", "rm", "-r", root, (char *)NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tcb");
	TCase *tcase = tcase_create("tcb");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, not_loaded);
	tcase_add_test(tcase, loaded);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	failed += srunner_ntests_run(runner) != 2;
	srunner_free(runner);
	return failed;
}
