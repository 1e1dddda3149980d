/* SPDX-License-Identifier: GPL-2.0-or-later */
/* doctor over made-up machines: trees with the files it reads. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "umbra.h"

static char root[64], report[8192];
static int failed;

static void put_bytes(const char *name, const void *data, size_t size)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", root, name);
	for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		ck_assert(!mkdir(path, 0755) || errno == EEXIST);
		*slash = '/';
	}
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(data, 1, size, f), size);
	fclose(f);
}

static void put(const char *name, const char *text)
{
	put_bytes(name, text, strlen(text));
}

static void drop(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s%s", root, name);
	ck_assert_int_eq(unlink(path), 0);
}

static void put_cpu(const char *vendor, const char *flags, const char *vmx_flags)
{
	char text[2048];

	snprintf(text, sizeof(text),
		 "processor\t: 0\nvendor_id\t: %s\nmodel name\t: A CPU\nflags\t\t: %s\n%s%s%sbugs\t\t:\n\n"
		 "processor\t: 1\nvendor_id\t: Other\nflags\t\t: fred\n\n",
		 vendor, flags, vmx_flags ? "vmx flags\t: " : "", vmx_flags ? vmx_flags : "", vmx_flags ? "\n" : "");
	put("/proc/cpuinfo", text);
}

#define FLAGS "fpu constant_tsc nonstop_tsc fsgsbase vmx"
#define VMX_FLAGS "vnmi ept vpid unrestricted_guest"

/* A machine where all is well but the device, which a test cannot make. */
static void setup(void)
{
	strcpy(root, "/tmp/umbra-doctor-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	put_cpu("GenuineIntel", FLAGS, VMX_FLAGS);
	put_bytes("/dev/cpu/0/msr", (char[0x42]) { [0x3a] = 5 }, 0x42);
	put("/proc/modules", "ext4 1 2 - Live 0x0\n");
	put("/proc/sys/kernel/osrelease", "6.1.0-test\n");
	put("/proc/sys/kernel/modules_disabled", "0\n");
	put("/proc/sys/kernel/seccomp/actions_avail", "kill_process kill_thread trap errno allow\n");
	put("/proc/sys/user/max_user_namespaces", "1000\n");
	put("/proc/self/ns/user", "x");
	put("/sys/module/umbra/refcnt", "0\n");
	put("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size [advise] never deny force\n");
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", root);
	ck_assert_int_eq(system(command), 0);
}

static void examine(void)
{
	FILE *out = fmemopen(report, sizeof(report) - 1, "w");

	memset(report, 0, sizeof(report));
	failed = doctor_run(root, "/dev/umbra", out);
	fclose(out);
}

/* The line about `what` begins with the verdict and has the text in it. */
static void expect(const char *verdict, const char *what, const char *text)
{
	char start[64], line[1024];
	const char *at;

	snprintf(start, sizeof(start), "%s  %-20s ", verdict, what);
	at = strstr(report, start);
	ck_assert_msg(at, "no '%s' in:\n%s", start, report);
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
	ck_assert_msg(strstr(line, text), "no '%s' in: %s", text, line);
}

START_TEST(all_well)
{
	examine();
	expect("OK  ", "CPU", "A CPU");
	expect("OK  ", "VMX", "EPT and unrestricted guest");
	expect("OK  ", "firmware", "allowed and locked on");
	expect("OK  ", "FSGSBASE", "there");
	expect("OK  ", "other hypervisors", "none");
	expect("OK  ", "module umbra", "loaded");
	expect("OK  ", "seccomp", "there");
	expect("OK  ", "user namespaces", "allowed");
	expect("OK  ", "huge pages", "[advise]");
	expect("FAIL", "/dev/umbra", "load the module");
	ck_assert_int_eq(failed, 1);
	ck_assert_ptr_null(strstr(report, "FRED")); /* the second CPU's flags are not looked at */
}
END_TEST

START_TEST(cpu_lacks)
{
	put_cpu("GenuineIntel", "fpu constant_tsc nonstop_tsc fsgsbase", NULL);
	examine();
	expect("FAIL", "VMX", "the firmware");
	put_cpu("GenuineIntel", "fpu constant_tsc nonstop_tsc fsgsbase hypervisor", NULL);
	examine();
	expect("FAIL", "VMX", "nested virtualization");
	put_cpu("GenuineIntel", FLAGS, "vnmi vpid unrestricted_guest");
	examine();
	expect("FAIL", "VMX", "lacks ept,");
	put_cpu("GenuineIntel", FLAGS, "vnmi ept_ad ept vpid");
	examine();
	expect("FAIL", "VMX", "lacks unrestricted_guest");
	put_cpu("GenuineIntel", FLAGS, NULL);
	examine();
	expect("OK  ", "VMX", "the module will check");
	put_cpu("GenuineIntel", "constant_tsc nonstop_tsc vmx", VMX_FLAGS);
	examine();
	expect("FAIL", "FSGSBASE", "nofsgsbase");
	put_cpu("GenuineIntel", "vmx fsgsbase fred", VMX_FLAGS);
	examine();
	expect("FAIL", "FRED", "fred=off");
	expect("WARN", "TSC", "not constant");
	drop("/proc/cpuinfo");
	examine();
	expect("FAIL", "CPU", "cannot be read");
}
END_TEST

#define SVM_FLAGS "fpu constant_tsc nonstop_tsc fsgsbase svm npt"

static void put_vm_cr(uint64_t value)
{
	char path[512];
	FILE *f;

	put("/dev/cpu/0/msr", "");
	snprintf(path, sizeof(path), "%s/dev/cpu/0/msr", root);
	f = fopen(path, "r+");
	ck_assert(f && !fseeko(f, 0xc0010114, SEEK_SET) && fwrite(&value, 8, 1, f) == 1);
	fclose(f);
}

START_TEST(amd)
{
	put_cpu("AuthenticAMD", SVM_FLAGS " nrip_save", NULL);
	put_vm_cr(0);
	examine();
	expect("OK  ", "CPU", "A CPU");
	expect("OK  ", "SVM", "with nested paging");
	expect("OK  ", "firmware", "SVM is allowed");
	ck_assert_ptr_null(strstr(report, "VMX"));
	ck_assert_int_eq(failed, 1); /* the device */
	put_cpu("HygonGenuine", SVM_FLAGS, NULL);
	put_vm_cr(1 << 4);
	examine();
	expect("OK  ", "SVM", "exits cost more");
	expect("FAIL", "firmware", "switched off");
	put_vm_cr(1 << 4 | 1 << 3);
	examine();
	expect("FAIL", "firmware", "locked off");
	put("/dev/cpu/0/msr", "");
	examine();
	ck_assert_ptr_null(strstr(report, "firmware "));
	put_cpu("AuthenticAMD", "fpu fsgsbase", NULL);
	examine();
	expect("FAIL", "SVM", "the firmware");
	expect("WARN", "firmware", "MSR 0xc0010114");
	put_cpu("AuthenticAMD", "fpu fsgsbase hypervisor", NULL);
	examine();
	expect("FAIL", "SVM", "nested virtualization");
	put_cpu("AuthenticAMD", "fpu fsgsbase svm", NULL);
	examine();
	expect("FAIL", "SVM", "npt");
	put_cpu("AuthenticAMD", SVM_FLAGS " sme", NULL);
	put("/proc/cmdline", "quiet\n");
	examine();
	ck_assert_ptr_null(strstr(report, "SME"));
	put("/proc/cmdline", "mem_encrypt=on quiet\n");
	examine();
	expect("FAIL", "SME", "boot without");
}
END_TEST

START_TEST(firmware_lock)
{
	put_bytes("/dev/cpu/0/msr", (char[0x42]) { [0x3a] = 1 }, 0x42);
	examine();
	expect("FAIL", "firmware", "locked off");
	put_bytes("/dev/cpu/0/msr", (char[0x42]) { 0 }, 0x42);
	examine();
	expect("OK  ", "firmware", "not locked");
	drop("/dev/cpu/0/msr");
	examine();
	ck_assert_ptr_null(strstr(report, "firmware "));
	put_cpu("GenuineIntel", "fsgsbase", NULL);
	examine();
	expect("WARN", "firmware", "modprobe msr");
}
END_TEST

START_TEST(other_hypervisors)
{
	put("/proc/modules", "kvm_intel 368640 0 - Live 0x0\nkvm 1000000 1 kvm_intel, Live 0x0\n");
	examine();
	expect("WARN", "other hypervisors", "kvm_intel is loaded, not in use");
	put("/sys/module/kvm/parameters/enable_virt_at_load", "Y\n");
	examine();
	expect("FAIL", "other hypervisors", "rmmod kvm_intel");
	put("/proc/modules", "kvm_intel 368640 3 - Live 0x0\n");
	examine();
	expect("FAIL", "other hypervisors", "in use (3 users)");
	put("/proc/modules", "vboxnetadp 1 0 - Live 0x0\nvboxdrv 368640 2 vboxnetadp, Live 0x0\n");
	examine();
	expect("FAIL", "other hypervisors", "vboxdrv is in use");
	put("/proc/modules", "ext4 1 2 - Live 0x0\n");
	put("/sys/module/kvm_intel/parameters/ept", "Y\n");
	examine();
	expect("WARN", "other hypervisors", "built into the kernel");
}
END_TEST

START_TEST(module_and_device)
{
	drop("/sys/module/umbra/refcnt");
	ck_assert_int_eq(rmdir((snprintf(report, sizeof(report), "%s/sys/module/umbra", root), report)), 0);
	examine();
	expect("FAIL", "module umbra", "not installed for this kernel");
	expect("OK  ", "module loading", "no signature");
	put("/lib/modules/6.1.0-test/extra/umbra.ko", "x");
	examine();
	expect("FAIL", "module umbra", "modprobe umbra");
	put("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
	examine();
	expect("WARN", "module loading", "only signed modules:");
	put_bytes("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\6\0\0\0\1", 5);
	examine();
	expect("WARN", "module loading", "(secure boot)");
	put("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
	examine();
	expect("OK  ", "module loading", "allowed");
	put("/sys/module/module/parameters/sig_enforce", "Y\n");
	examine();
	expect("WARN", "module loading", "only signed");
	put("/proc/sys/kernel/modules_disabled", "1\n");
	examine();
	expect("FAIL", "module loading", "until the next boot");
	drop("/proc/modules");
	examine();
	expect("FAIL", "module loading", "no loadable modules");
	put("/dev/umbra", "a plain file");
	examine();
	expect("FAIL", "/dev/umbra", "not a character device");
}
END_TEST

START_TEST(sandbox_lines)
{
	put("/proc/sys/user/max_user_namespaces", "0\n");
	examine();
	expect("WARN", "user namespaces", "switched off");
	put("/proc/sys/user/max_user_namespaces", "9\n");
	put("/proc/sys/kernel/unprivileged_userns_clone", "0\n");
	examine();
	expect("WARN", "user namespaces", "root only");
	put("/proc/sys/kernel/unprivileged_userns_clone", "1\n");
	put("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
	examine();
	expect("WARN", "user namespaces", "AppArmor");
	drop("/proc/self/ns/user");
	examine();
	expect("WARN", "user namespaces", "not in this kernel");
	put("/proc/sys/kernel/seccomp/actions_avail", "kill_thread errno allow\n");
	examine();
	expect("FAIL", "seccomp", "too old");
	drop("/proc/sys/kernel/seccomp/actions_avail");
	examine();
	expect("FAIL", "seccomp", "no seccomp");
	put("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force\n");
	examine();
	expect("WARN", "huge pages", "echo advise"); /* no word on private memory */
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	examine();
	expect("OK  ", "huge pages", "as for private memory");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
	examine();
	expect("WARN", "huge pages", "echo advise");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
	put("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise never [deny] force\n");
	examine();
	expect("WARN", "huge pages", "echo advise");
	drop("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	examine();
	expect("WARN", "huge pages", "no transparent");
}
END_TEST

/* Garbage must not crash it. */
START_TEST(garbage)
{
	static char noise[20000];

	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = i % 97 ? 'a' + i % 26 : i % 194 ? ':' : '\n';
	put_bytes("/proc/cpuinfo", noise, sizeof(noise));
	put_bytes("/proc/modules", noise, sizeof(noise));
	put_bytes("/proc/sys/user/max_user_namespaces", noise, sizeof(noise));
	put_bytes("/sys/kernel/mm/transparent_hugepage/shmem_enabled", noise, sizeof(noise));
	put_bytes("/dev/cpu/0/msr", noise, 3);
	examine();
	expect("FAIL", "CPU", "cannot be read");
	ck_assert_int_ge(failed, 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("doctor");
	TCase *tc = tcase_create("machines");
	SRunner *runner;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, all_well);
	tcase_add_test(tc, cpu_lacks);
	tcase_add_test(tc, amd);
	tcase_add_test(tc, firmware_lock);
	tcase_add_test(tc, other_hypervisors);
	tcase_add_test(tc, module_and_device);
	tcase_add_test(tc, sandbox_lines);
	tcase_add_test(tc, garbage);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
