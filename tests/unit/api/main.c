// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>

#include "fakes.h"

int main(void)
{
	SRunner *runner = srunner_create(suite_cpuid());
	int failed;

	srunner_add_suite(runner, suite_msr());
	srunner_add_suite(runner, suite_calls());
	srunner_add_suite(runner, suite_system());
	srunner_add_suite(runner, suite_answers());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner) || !srunner_ntests_run(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
