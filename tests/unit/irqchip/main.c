// SPDX-License-Identifier: GPL-2.0-or-later
#include "suites.h"

int main(void)
{
	SRunner *runner = srunner_create(suite_pic());
	int failed, ran;

	srunner_add_suite(runner, suite_pit());
	srunner_add_suite(runner, suite_ioapic());
	srunner_add_suite(runner, suite_irqchip());
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	ran = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed || !ran;
}
