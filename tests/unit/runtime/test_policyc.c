/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The policy compiler: what it takes, and that each mistake is named with its file and line. */
#define _GNU_SOURCE
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], output[16384], messages[4096];

static void setup(void)
{
	strcpy(dir, "/tmp/umbra-policyc-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static void write_policy(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void read_back(const char *name, char *text, size_t size)
{
	char path[128];
	size_t bytes = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	if (f) {
		bytes = fread(text, 1, size - 1, f);
		fclose(f);
	}
	text[bytes] = 0;
}

static int compile(const char *main_text)
{
	char command[512];
	int status;

	write_policy("main.policy", main_text);
	snprintf(command, sizeof(command), "%s -o %s/out.c role=%s/main.policy 2>%s/errors", POLICYC, dir, dir, dir);
	status = system(command);
	ck_assert(WIFEXITED(status));
	read_back("errors", messages, sizeof(messages));
	read_back("out.c", output, sizeof(output));
	return WEXITSTATUS(status);
}

struct good {
	const char *text;
};
static const struct good goods[] = {
	{ "read # reads what it holds\n" },
	{ "read # reads what it holds" }, /* no newline at the end */
	{ "# a comment\n\n   \t\n  read\t# reads what it holds\n" },
	{ "ioctl arg1 == UMBRA_INFO # asks the shim\nioctl arg1 == UMBRA_VCPU_KICK # kicks its vCPU\n" },
	{ "mmap arg2 & PROT_EXEC == 0 and arg4 != 0x10 # never executable\n" },
	{ "mmap arg2 & PROT_EXEC|PROT_WRITE == PROT_WRITE # one of two bits\n" },
	{ "clone3 return ENOSYS # glibc falls back\n" },
	{ "lseek arg0 < 5 and arg1 <= 6 and arg2 > 1 # each of the\nlseek arg0 >= 9 # operators\n" },
};

START_TEST(accepts)
{
	ck_assert_msg(!compile(goods[_i].text), "%s: %s", goods[_i].text, messages);
	ck_assert_str_eq(messages, "");
	ck_assert_ptr_nonnull(strstr(output, "const struct policy policy_role = { \"role\", filter_role, "));
	ck_assert_ptr_nonnull(strstr(output, "getppid"));
}
END_TEST

struct bad {
	const char *text;
	int line;
	const char *message;
};
static const struct bad bads[] = {
	{ "read # first all is well\nraed # misspelt system call\n", 2, "'raed' is no system call" },
	{ "read\n", 1, "'read' needs a reason" },
	{ "read #\n", 1, "'read' needs a reason" },
	{ "read # why\n", 1, "'read' needs a reason" },
	{ "read #           \n", 1, "'read' needs a reason" },
	{ "ioctl arg6 == 1 # there are six of them\n", 1, "arg0 to arg5 expected" },
	{ "ioctl arg == 1 # which one is meant\n", 1, "arg0 to arg5 expected" },
	{ "ioctl arg12 == 1 # which one is meant\n", 1, "arg0 to arg5 expected" },
	{ "ioctl arg1 = 1 # assignment does nothing\n", 1, "unknown operator '='" },
	{ "ioctl arg1 # compared with what\n", 1, "an operator expected" },
	{ "ioctl arg1 == # compared with what\n", 1, "a value expected" },
	{ "ioctl arg1 == UMBRA_NONSENSE # no such constant\n", 1, "neither a number nor" },
	{ "ioctl arg1 == 12x # no such number\n", 1, "neither a number nor" },
	{ "ioctl arg1 == -1 # no such number\n", 1, "neither a number nor" },
	{ "ioctl arg1 == 0x1ffffffffffffffff # too large a number\n", 1, "neither a number nor" },
	{ "ioctl arg1 == 1| # half of a value\n", 1, "neither a number nor" },
	{ "mmap arg2 & 4 # compared with what\n", 1, "'== value' after the mask" },
	{ "mmap arg2 & 4 != 0 # only == works here\n", 1, "'== value' expected" },
	{ "mmap arg2 & 4 == 2 # can never be\n", 1, "never true" },
	{ "write arg0 < 0 # can never be\n", 1, "never true" },
	{ "write arg1 == 0 and arg0 == 5 # libseccomp loses it\nwrite arg1 != 0 # because of this\n", 1,
	  "lost by libseccomp" },
	{ "write arg0 == 0 and arg2 & 2 == 0 # libseccomp makes\nwrite arg1 <= 0 and arg2 == 0 # one rule of these four\n"
	  "write arg0 == 1 and arg2 == 0 # that allows more than\nwrite arg1 >= 1 and arg2 & 2 == 0 # they themselves do\n",
	  1, "allows more than the rules" },
	{ "ioctl arg1 == 1 and # and what else\n", 1, "a condition after 'and'" },
	{ "ioctl arg1 == 1 or arg1 == 2 # there is no or\n", 1, "'and' or the end" },
	{ "read return # which errno is it\n", 1, "an errno expected" },
	{ "read return EWHAT # no such errno\n", 1, "unknown errno" },
	{ "read return ENOSYS now # trailing word\n", 1, "nothing may follow" },
	{ "read # first of them\n\nread # second of them\n", 3, "pointless" },
	{ "ioctl arg1 == 1 # first of them\nioctl # all of them\n", 2, "pointless" },
	{ "ioctl # all of them\nioctl arg1 == 1 # one of them\n", 2, "pointless" },
	{ "ioctl arg1 == 1 # first of them\nioctl arg1 == 1 # the same\n", 2, "pointless" },
	{ "read # is allowed\nread return ENOSYS # is it not?\n", 2, "pointless" },
	{ "include nowhere.policy\n", 1, "No such file" },
	{ "include\n", 1, "a file expected" },
	{ "include main.policy\n", 1, "nested too deeply" },
	{ "within a.policy b.policy\n", 1, "nothing may follow" },
	{ "# only a comment\n", 1, "no rule" },
	{ "ioctl arg1 == 1 and arg1 == 2 # libseccomp allows one condition an argument\n", 1, "libseccomp refuses" },
};

START_TEST(refuses)
{
	const struct bad *bad = &bads[_i];
	char place[128];

	ck_assert_msg(compile(bad->text) == 1, "accepted: %s", bad->text);
	snprintf(place, sizeof(place), "%s/main.policy:%d: ", dir, bad->line);
	ck_assert_msg(!strncmp(messages, place, strlen(place)), "no place in: %s", messages);
	ck_assert_msg(strstr(messages, bad->message), "'%s' expected: %s", bad->message, messages);
}
END_TEST

START_TEST(includes)
{
	write_policy("common.policy", "# shared\nwrite # last words\nread\n");
	ck_assert_int_eq(compile("include common.policy\nlseek # moves on\n"), 1);
	ck_assert_ptr_nonnull(strstr(messages, "common.policy:3: 'read' needs a reason"));
	write_policy("common.policy", "write # last words\n");
	ck_assert_int_eq(compile("include common.policy\nlseek # moves on\n"), 0);
	ck_assert_int_eq(compile("include common.policy\nwrite # once more\n"), 1);
	ck_assert_ptr_nonnull(strstr(messages, "main.policy:2: "));
}
END_TEST

START_TEST(within)
{
	write_policy("outer.policy",
		     "write # last words\nioctl arg1 == 1 # only this one\nclone3 return ENOSYS # the old way does\n");
	ck_assert_int_eq(compile("within outer.policy\nwrite # last words\nioctl arg1 == 1 # only this one\n"), 0);
	ck_assert_int_eq(compile("within outer.policy\nwrite arg0 == 2 # stderr only\n"), 0);
	ck_assert_int_eq(compile("within outer.policy\nwrite # last words\nread # not in there\n"), 1);
	ck_assert_ptr_nonnull(strstr(messages, "main.policy:3: not allowed by"));
	ck_assert_int_eq(compile("within outer.policy\nioctl # any of them\n"), 1);
	ck_assert_int_eq(compile("within outer.policy\nioctl arg1 == 2 # another one\n"), 1);
	ck_assert_int_eq(compile("within outer.policy\nclone3 # an errno is no permission\n"), 1);
	ck_assert_int_eq(compile("within nowhere.policy\nread # reads a file\n"), 1);
	ck_assert_ptr_nonnull(strstr(messages, "main.policy:1: "));
}
END_TEST

START_TEST(command_line)
{
	ck_assert_int_ne(system(POLICYC " 2>/dev/null"), 0);
	ck_assert_int_ne(system(POLICYC " -o /dev/null 2>/dev/null"), 0);
	ck_assert_int_ne(system(POLICYC " -o /dev/null " POLICIES "/vcpu.policy 2>/dev/null"), 0);
	ck_assert_int_ne(system(POLICYC " -o /nowhere/x vcpu=" POLICIES "/vcpu.policy 2>/dev/null"), 0);
	ck_assert_int_ne(system(POLICYC " -o /dev/full vcpu=" POLICIES "/vcpu.policy 2>/dev/null"), 0);
	ck_assert_int_eq(system(POLICYC " -o /dev/null vcpu=" POLICIES "/vcpu.policy"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("policyc");
	TCase *tc = tcase_create("files");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, accepts, 0, sizeof(goods) / sizeof(goods[0]));
	tcase_add_loop_test(tc, refuses, 0, sizeof(bads) / sizeof(bads[0]));
	tcase_add_test(tc, includes);
	tcase_add_test(tc, within);
	tcase_add_test(tc, command_line);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
