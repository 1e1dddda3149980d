/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umbra run: which programs can be preloaded, and what it sets before it starts one. */
#define _GNU_SOURCE
#include <check.h>
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "umbra.h"

static char dir[64], path[128], text[1024];

static void setup(void)
{
	strcpy(dir, "/tmp/umbra-run-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/vmm", dir);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "/bin/rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static void put(const void *data, size_t size, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755);

	ck_assert_int_eq(write(fd, data, size), size);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

struct elf {
	Elf64_Ehdr head;
	Elf64_Phdr phdr[2];
	char interp[64];
};

static struct elf make_elf(const char *interp)
{
	struct elf elf = {
		.head = { .e_type = ET_DYN, .e_machine = EM_X86_64, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 }
	};

	memcpy(elf.head.e_ident, ELFMAG, SELFMAG);
	elf.head.e_ident[EI_CLASS] = ELFCLASS64;
	elf.head.e_phoff = offsetof(struct elf, phdr);
	elf.phdr[0].p_type = PT_LOAD;
	if (interp) {
		elf.phdr[1].p_type = PT_INTERP;
		elf.phdr[1].p_offset = offsetof(struct elf, interp);
		elf.phdr[1].p_filesz = strlen(interp) + 1;
		strcpy(elf.interp, interp);
	}
	return elf;
}

static void expect_refused(const struct elf *elf, mode_t mode, const char *why)
{
	put(elf, sizeof(*elf), mode);
	ck_assert(!run_can_preload(path, text, sizeof(text)));
	ck_assert_msg(strstr(text, why), "'%s' expected: %s", why, text);
}

START_TEST(programs)
{
	struct elf elf = make_elf("/lib64/ld-linux-x86-64.so.2");

	put(&elf, sizeof(elf), 0755);
	ck_assert(run_can_preload(path, text, sizeof(text)));
	ck_assert(run_can_preload("/proc/self/exe", text, sizeof(text)));
	expect_refused(&elf, 04755, "setuid");
	expect_refused(&elf, 02755, "setuid or setgid");
	elf.head.e_machine = EM_AARCH64;
	expect_refused(&elf, 0755, "not an x86-64");
	elf.head.e_machine = EM_X86_64;
	elf.head.e_ident[EI_CLASS] = ELFCLASS32;
	expect_refused(&elf, 0755, "not an x86-64");
	elf = make_elf(NULL);
	expect_refused(&elf, 0755, "statically linked");
	elf = make_elf("/lib/ld-musl-x86_64.so.1");
	expect_refused(&elf, 0755, "musl");
}
END_TEST

START_TEST(damaged)
{
	struct elf elf = make_elf("/lib64/ld-linux-x86-64.so.2");

	elf.head.e_phoff = 1ULL << 62;
	expect_refused(&elf, 0755, "damaged");
	elf.head.e_phoff = sizeof(elf);
	expect_refused(&elf, 0755, "damaged");
	elf = make_elf("x");
	elf.head.e_phnum = 0;
	expect_refused(&elf, 0755, "damaged");
	elf.head.e_phnum = 0xffff;
	expect_refused(&elf, 0755, "damaged");
	elf.head.e_phnum = 2;
	elf.head.e_phentsize = 1;
	expect_refused(&elf, 0755, "damaged");
	elf = make_elf("x");
	elf.phdr[1].p_filesz = 1ULL << 40;
	expect_refused(&elf, 0755, "statically linked");
	elf.phdr[1].p_filesz = 8;
	elf.phdr[1].p_offset = 1ULL << 60;
	expect_refused(&elf, 0755, "statically linked");
}
END_TEST

START_TEST(scripts)
{
	put("#!/bin/sh\n", 10, 0755);
	ck_assert(run_can_preload(path, text, sizeof(text)));
	put("", 0, 0755);
	ck_assert(run_can_preload(path, text, sizeof(text)));
	ck_assert(run_can_preload("/nowhere/at/all", text, sizeof(text)));
}
END_TEST

/* In a child, since it replaces the process. */
static int run(char **argv)
{
	int argc = 0, status;
	pid_t pid = fork();

	while (argv[argc])
		argc++;
	if (!pid) {
		freopen("/dev/null", "w", stderr);
		_exit(run_main(argc, argv));
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

START_TEST(environment)
{
	char library[128], shadow[128];
	static const char script[] =
		"#!/bin/sh -p\n[ \"$1\" = a ] && [ \"$2\" = \"b c\" ] && [ \"$#\" = 2 ] && "
		"[ \"$UMBRA_SHADOW\" = \"$EXPECT_SHADOW\" ] && [ \"$UMBRA_REQUIRE_NAMESPACES\" = 1 ] && "
		"[ \"$LD_PRELOAD\" = \"$EXPECT_PRELOAD\" ] && exit 33\nexit 1\n";

	/* Files that exist; the dynamic linker only complains about a preload that is no library. */
	snprintf(library, sizeof(library), "%s/lib.so", dir);
	snprintf(shadow, sizeof(shadow), "%s/shadow", dir);
	ck_assert_int_eq(close(open(library, O_CREAT | O_WRONLY, 0755)), 0);
	ck_assert_int_eq(close(open(shadow, O_CREAT | O_WRONLY, 0755)), 0);
	put(script, strlen(script), 0755);
	unsetenv("LD_PRELOAD");
	setenv("EXPECT_PRELOAD", library, 1);
	setenv("EXPECT_SHADOW", shadow, 1);
	ck_assert_int_eq(run((char *[]) { "run", "--library", library, "--shadow", shadow, "--require-namespaces", "--",
					  path, "a", "b c", NULL }),
			 33);
	/* Found through PATH, options of the VMM are not ours. */
	setenv("PATH", dir, 1);
	ck_assert_int_eq(run((char *[]) { "run", "--library", library, "--shadow", shadow, "--require-namespaces",
					  "vmm", "a", "b c", NULL }),
			 33);
}
END_TEST

START_TEST(errors)
{
	char *library = "/proc/self/exe";
	struct elf elf = make_elf(NULL);

	ck_assert_int_eq(run((char *[]) { "run", NULL }), RUN_EXIT_USAGE);
	ck_assert_int_eq(run((char *[]) { "run", "--nonsense", "x", NULL }), RUN_EXIT_USAGE);
	ck_assert_int_eq(run((char *[]) { "run", "--library", "/nowhere", "/bin/true", NULL }), RUN_EXIT_CANNOT);
	ck_assert_int_eq(run((char *[]) { "run", "--library", library, "--shadow", "/nowhere", "/bin/true", NULL }),
			 RUN_EXIT_CANNOT);
	ck_assert_int_eq(run((char *[]) { "run", "--library", library, "no-such-program-here", NULL }),
			 RUN_EXIT_NOT_FOUND);
	ck_assert_int_eq(run((char *[]) { "run", "--library", library, "/nowhere/vmm", NULL }), RUN_EXIT_NOT_FOUND);
	put(&elf, sizeof(elf), 0755);
	ck_assert_int_eq(run((char *[]) { "run", "--library", library, path, NULL }), RUN_EXIT_CANNOT);
	put("", 0, 0644);
	if (geteuid())
		ck_assert_int_eq(run((char *[]) { "run", "--library", library, path, NULL }), RUN_EXIT_CANNOT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("run");
	TCase *tc = tcase_create("programs");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, programs);
	tcase_add_test(tc, damaged);
	tcase_add_test(tc, scripts);
	tcase_add_test(tc, environment);
	tcase_add_test(tc, errors);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
