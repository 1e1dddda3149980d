// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>

#include "machine.h"

int main(void)
{
	SRunner *runner = srunner_create(suite_exits());
	int failed;

	srunner_add_suite(runner, suite_memory());
	srunner_add_suite(runner, suite_resume());
	srunner_add_suite(runner, suite_state());
	srunner_add_suite(runner, suite_inject());
	srunner_add_suite(runner, suite_slots());
	srunner_add_suite(runner, suite_control());
	srunner_add_suite(runner, suite_run());
	srunner_add_suite(runner, suite_svm());
	srunner_add_suite(runner, suite_pv());
	srunner_add_suite(runner, suite_irqchip());
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
