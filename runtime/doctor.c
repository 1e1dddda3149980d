/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umbra doctor: looks at what a machine needs for Umbra; each line says what to do. Only reads. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "start.h"
#include "umbra.h"

#define MSR_FEATURE_CONTROL 0x3a /* SDM 3C 24.7 */
#define FEATURE_CONTROL_LOCKED (1 << 0)
#define FEATURE_CONTROL_VMX (1 << 2) /* outside of SMX */
#define MSR_VM_CR 0xc0010114	     /* APM 2 15.30.1 */
#define VM_CR_LOCKED (1 << 3)
#define VM_CR_SVM_DISABLED (1 << 4)

struct doctor {
	const char *root;
	const char *device;
	FILE *out;
	int failed;
	bool module_loaded;
	char flags[4096];     /* " name name " */
	char vmx_flags[2048]; /* as flags */
};

enum verdict { OK, WARN, FAIL };

static void say(struct doctor *d, enum verdict verdict, const char *what, const char *format, ...)
{
	static const char *const words[] = { "OK  ", "WARN", "FAIL" };
	va_list args;

	fprintf(d->out, "%s  %-20s ", words[verdict], what);
	va_start(args, format);
	vfprintf(d->out, format, args);
	va_end(args);
	fputc('\n', d->out);
	if (verdict == FAIL)
		d->failed++;
}

/* ---- files ---- */

static void make_path(const struct doctor *d, char *path, const char *name)
{
	snprintf(path, PATH_MAX, "%s%s", d->root, name);
}

static bool exists(const struct doctor *d, const char *name)
{
	char path[PATH_MAX];

	make_path(d, path, name);
	return !access(path, F_OK);
}

/* At most size - 1 bytes, without the line end; false: cannot be read (text is empty). */
static bool read_text(const struct doctor *d, const char *name, char *text, size_t size)
{
	char path[PATH_MAX];
	size_t bytes;
	FILE *f;

	make_path(d, path, name);
	text[0] = 0;
	f = fopen(path, "re");
	if (!f)
		return false;
	bytes = fread(text, 1, size - 1, f);
	fclose(f);
	text[bytes] = 0;
	text[strcspn(text, "\n")] = 0;
	return bytes > 0;
}

static long read_number(const struct doctor *d, const char *name, long otherwise)
{
	char text[64], *end;
	long value;

	if (!read_text(d, name, text, sizeof(text)))
		return otherwise;
	value = strtol(text, &end, 0);
	return end == text ? otherwise : value;
}

/* ---- the CPU ---- */

static bool has(const char *words, const char *word)
{
	char padded[64];

	snprintf(padded, sizeof(padded), " %s ", word);
	return strstr(words, padded);
}

static void read_cpuinfo(struct doctor *d, char *vendor, char *model, size_t size)
{
	char path[PATH_MAX], line[8192];
	FILE *f;

	make_path(d, path, "/proc/cpuinfo");
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char *value = strchr(line, ':');

		if (!value) /* the empty line behind the first CPU */
			break;
		value += strspn(value, ": \t");
		value[strcspn(value, "\n")] = 0;
		if (!strncmp(line, "vendor_id", 9))
			snprintf(vendor, size, "%s", value);
		else if (!strncmp(line, "model name", 10))
			snprintf(model, size, "%s", value);
		else if (!strncmp(line, "flags", 5))
			snprintf(d->flags, sizeof(d->flags), " %s ", value);
		else if (!strncmp(line, "vmx flags", 9))
			snprintf(d->vmx_flags, sizeof(d->vmx_flags), " %s ", value);
	}
	if (f)
		fclose(f);
}

/* Needs root and the msr driver; false: errno says why. */
static bool read_msr(const struct doctor *d, uint32_t number, uint64_t *value)
{
	char path[PATH_MAX];
	bool whole;
	int fd;

	make_path(d, path, "/dev/cpu/0/msr");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	errno = ENXIO; /* of a short read */
	whole = pread(fd, value, sizeof(*value), number) == sizeof(*value);
	close(fd);
	return whole;
}

static void firmware_unknown(struct doctor *d, const char *flag, uint32_t number, const char *what)
{
	if (!has(d->flags, flag))
		say(d, WARN, "firmware",
		    "cannot read MSR 0x%x (%s): run as root after `modprobe msr` to see whether the firmware locks %s off",
		    number, strerror(errno), what);
}

static void check_vmx_lock(struct doctor *d)
{
	uint64_t value;

	if (!read_msr(d, MSR_FEATURE_CONTROL, &value))
		firmware_unknown(d, "vmx", MSR_FEATURE_CONTROL, "VMX");
	else if ((value & FEATURE_CONTROL_LOCKED) && !(value & FEATURE_CONTROL_VMX))
		say(d, FAIL, "firmware", "VMX is locked off: switch virtualization (VT-x) on in the firmware set-up");
	else
		say(d, OK, "firmware", "VMX is %s",
		    value & FEATURE_CONTROL_LOCKED ? "allowed and locked on" : "not locked");
}

static void check_svm_lock(struct doctor *d)
{
	uint64_t value;

	if (!read_msr(d, MSR_VM_CR, &value))
		firmware_unknown(d, "svm", MSR_VM_CR, "SVM");
	else if (value & VM_CR_SVM_DISABLED)
		say(d, FAIL, "firmware", "SVM is %soff: switch virtualization (SVM, AMD-V) on in the firmware set-up",
		    value & VM_CR_LOCKED ? "locked " : "switched ");
	else
		say(d, OK, "firmware", "SVM is allowed");
}

static void check_vmx(struct doctor *d)
{
	static const char *const needed[] = { "ept", "unrestricted_guest" };
	bool all = true;

	if (!has(d->flags, "vmx")) {
		say(d, FAIL, "VMX", "not there: %s",
		    has(d->flags, "hypervisor") ? "this is a virtual machine; its host must offer nested virtualization"
						: "the CPU lacks it, or the firmware switches it off");
		return;
	}
	/* Kernels before 5.11 have no such line. The module checks again when it is loaded. */
	for (size_t i = 0; d->vmx_flags[0] && i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (!has(d->vmx_flags, needed[i])) {
			say(d, FAIL, "VMX", "the CPU (or the hypervisor below) lacks %s, which Umbra needs", needed[i]);
			all = false;
		}
	}
	if (all)
		say(d, OK, "VMX",
		    d->vmx_flags[0] ? "with EPT and unrestricted guest"
				    : "there; this kernel does not list its parts, the module will check them");
}

static void check_svm(struct doctor *d)
{
	char command_line[4096];

	if (!has(d->flags, "svm"))
		say(d, FAIL, "SVM", "not there: %s",
		    has(d->flags, "hypervisor") ? "this is a virtual machine; its host must offer nested virtualization"
						: "the CPU lacks it, or the firmware switches it off");
	else if (!has(d->flags, "npt"))
		say(d, FAIL, "SVM", "the CPU (or the hypervisor below) lacks nested paging (npt), which Umbra needs");
	else
		say(d, OK, "SVM", "with nested paging%s",
		    has(d->flags, "nrip_save") ? "" : "; it does not save the next RIP: exits cost more");
	read_text(d, "/proc/cmdline", command_line, sizeof(command_line));
	if (has(d->flags, "sme") && strstr(command_line, "mem_encrypt=on"))
		say(d, FAIL, "SME",
		    "memory encryption is on, which the module cannot work with: boot without mem_encrypt=on");
}

static void check_cpu(struct doctor *d)
{
	char vendor[128] = "", model[128] = "";

	read_cpuinfo(d, vendor, model, sizeof(vendor));
	if (!vendor[0]) {
		say(d, FAIL, "CPU", "/proc/cpuinfo cannot be read, or this is not x86: Umbra needs x86-64");
		return;
	}
	say(d, OK, "CPU", "%s", model[0] ? model : vendor);
	if (has(d->flags, "svm") || !strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine")) {
		check_svm(d);
		check_svm_lock(d);
	} else {
		check_vmx(d);
		check_vmx_lock(d);
	}
	if (has(d->flags, "fred"))
		say(d, FAIL, "FRED", "in use; the module cannot work with it yet: boot with fred=off");
	if (has(d->flags, "fsgsbase"))
		say(d, OK, "FSGSBASE", "there");
	else
		say(d, FAIL, "FSGSBASE", "not there: the CPU is too old, or the kernel runs with nofsgsbase");
	if (!has(d->flags, "constant_tsc") || !has(d->flags, "nonstop_tsc"))
		say(d, WARN, "TSC", "not constant: the guest's clocks may drift");
}

/* ---- who else is there ---- */

static void check_others(struct doctor *d)
{
	static const char *const names[] = { "kvm_intel", "kvm_amd", "vboxdrv", "vmmon", "hax" };
	char path[PATH_MAX], line[512], at_load[16] = "";
	bool found = false;
	FILE *f;

	read_text(d, "/sys/module/kvm/parameters/enable_virt_at_load", at_load, sizeof(at_load));
	make_path(d, path, "/proc/modules");
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char name[128];
		long size, users;

		if (sscanf(line, "%127s %ld %ld", name, &size, &users) != 3)
			continue;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if (strcmp(names[i], name))
				continue;
			found = true;
			if (users > 0)
				say(d, FAIL, "other hypervisors", "%s is in use (%ld users): stop its guests", name,
				    users);
			else if (at_load[0] == 'Y' && !strncmp(name, "kvm_", 4))
				say(d, FAIL, "other hypervisors",
				    "%s keeps the hardware from load on: `rmmod %s`, or kvm.enable_virt_at_load=0",
				    name, name);
			else
				say(d, WARN, "other hypervisors",
				    "%s is loaded, not in use: only one of the two can run guests at a time", name);
		}
	}
	if (f)
		fclose(f);
	if (!found && (exists(d, "/sys/module/kvm_intel") || exists(d, "/sys/module/kvm_amd")))
		say(d, WARN, "other hypervisors",
		    "KVM is built into the kernel: only one of the two can run guests at a time");
	else if (!found)
		say(d, OK, "other hypervisors", "none loaded");
}

/* ---- the module and its device ---- */

static bool module_installed(const struct doctor *d)
{
	static const char *const places[] = { "extra", "updates", "updates/dkms", "kernel/extra" };
	char release[128], name[512];

	if (!read_text(d, "/proc/sys/kernel/osrelease", release, sizeof(release)))
		return false;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(name, sizeof(name), "/lib/modules/%s/%s/umbra.ko", release, places[i]);
		if (exists(d, name))
			return true;
	}
	return false;
}

static bool secure_boot(const struct doctor *d)
{
	char path[PATH_MAX], value[5] = "";
	bool on;
	FILE *f;

	make_path(d, path, "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
	f = fopen(path, "re");
	on = f && fread(value, 1, 5, f) == 5 && value[4] == 1; /* four bytes of attributes, then the value */
	if (f)
		fclose(f);
	return on;
}

static void check_signatures(struct doctor *d)
{
	char lockdown[128], enforce[16];

	if (d->module_loaded)
		return;
	read_text(d, "/sys/kernel/security/lockdown", lockdown, sizeof(lockdown));
	read_text(d, "/sys/module/module/parameters/sig_enforce", enforce, sizeof(enforce));
	if (!exists(d, "/proc/modules"))
		say(d, FAIL, "module loading", "this kernel has no loadable modules");
	else if (read_number(d, "/proc/sys/kernel/modules_disabled", 0))
		say(d, FAIL, "module loading", "switched off until the next boot (kernel.modules_disabled)");
	else if (strstr(lockdown, "[integrity]") || strstr(lockdown, "[confidentiality]") || enforce[0] == 'Y')
		say(d, WARN, "module loading",
		    "only signed modules%s: sign umbra.ko and enrol the key (mokutil --import)",
		    secure_boot(d) ? " (secure boot)" : "");
	else
		say(d, OK, "module loading", "allowed, no signature needed");
}

static void check_module(struct doctor *d)
{
	d->module_loaded = exists(d, "/sys/module/umbra");
	if (d->module_loaded)
		say(d, OK, "module umbra", "loaded");
	else if (module_installed(d))
		say(d, FAIL, "module umbra",
		    "installed but not loaded: `modprobe umbra`, then see dmesg if it refuses");
	else
		say(d, FAIL, "module umbra",
		    "not installed for this kernel: build it for its headers (UMBRA_KDIR), `cmake --install`, `depmod`");
	check_signatures(d);
}

static void check_device(struct doctor *d)
{
	char path[PATH_MAX], text[PATH_MAX + 256];
	struct umbra_info info;
	struct group *group;
	struct stat st;
	int fd;

	make_path(d, path, d->device);
	if (stat(path, &st)) {
		say(d, FAIL, d->device, "%s", start_open_error(errno));
		return;
	}
	if (access(path, R_OK | W_OK)) {
		group = getgrgid(st.st_gid);
		say(d, FAIL, d->device,
		    "no permission (mode %03o, group %s): add the user to that group, or install the udev rule",
		    st.st_mode & 0777, group ? group->gr_name : "unknown");
		return;
	}
	if (!S_ISCHR(st.st_mode)) {
		say(d, FAIL, d->device, "is not a character device: remove it and load the module again");
		return;
	}
	fd = start_open_device(path, &info, text, sizeof(text));
	if (fd < 0) {
		say(d, FAIL, d->device, "%s", text);
		return;
	}
	close(fd);
	say(d, OK, d->device, "there, ABI version %u, %s", info.abi_version, info.hw == UMBRA_HW_VMX ? "VMX" : "SVM");
}

/* ---- what a shadow wants ---- */

static void check_limits(struct doctor *d)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		if (limit.rlim_max < 256)
			say(d, FAIL, "open files", "at most %llu: too few for a shadow (ulimit -Hn 8192)",
			    (unsigned long long)limit.rlim_max);
		else if (limit.rlim_max < 8192)
			say(d, WARN, "open files", "at most %llu: large guests want 8192 (ulimit -Hn)",
			    (unsigned long long)limit.rlim_max);
		else
			say(d, OK, "open files", "at most %llu", (unsigned long long)limit.rlim_max);
	}
	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY)
		say(d, WARN, "address space",
		    "limited to %llu MiB: guest memory counts twice, in the VMM and in its shadow (ulimit -v)",
		    (unsigned long long)limit.rlim_cur >> 20);
}

static void check_sandbox(struct doctor *d)
{
	char actions[256];

	if (!read_text(d, "/proc/sys/kernel/seccomp/actions_avail", actions, sizeof(actions)))
		say(d, FAIL, "seccomp",
		    "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER): a shadow will not start");
	else if (!strstr(actions, "trap") || !strstr(actions, "kill_process"))
		say(d, FAIL, "seccomp", "the kernel's seccomp is too old: a shadow will not start");
	else
		say(d, OK, "seccomp", "filters are there");

	if (!exists(d, "/proc/self/ns/user"))
		say(d, WARN, "user namespaces", "not in this kernel: shadows run with seccomp alone");
	else if (!read_number(d, "/proc/sys/user/max_user_namespaces", 1))
		say(d, WARN, "user namespaces",
		    "switched off: shadows run with seccomp alone (sysctl user.max_user_namespaces=10000)");
	else if (!read_number(d, "/proc/sys/kernel/unprivileged_userns_clone", 1))
		say(d, WARN, "user namespaces",
		    "root only: users' shadows run with seccomp alone (sysctl kernel.unprivileged_userns_clone=1)");
	else if (read_number(d, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0))
		say(d, WARN, "user namespaces",
		    "restricted by AppArmor: give umbra-shadow a profile with the `userns` rule");
	else
		say(d, OK, "user namespaces", "allowed");
}

static void check_huge_pages(struct doctor *d)
{
	char text[256], thp[256];
	long pages = read_number(d, "/proc/sys/vm/nr_hugepages", 0);

	/* Guest memory is a memfd; with shmem_enabled at "never" the shadow asks for huge pages where private memory has them. */
	if (!read_text(d, "/sys/kernel/mm/transparent_hugepage/shmem_enabled", text, sizeof(text)))
		say(d, WARN, "huge pages",
		    "no transparent huge pages for shared memory in this kernel: guests run on 4 KiB pages");
	else if (strstr(text, "[always]") || strstr(text, "[within_size]") || strstr(text, "[advise]") ||
		 strstr(text, "[force]"))
		say(d, OK, "huge pages", "transparent ones for shared memory: %s; reserved: %ld", text, pages);
	else if (strstr(text, "[never]") &&
		 read_text(d, "/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp)) &&
		 (strstr(thp, "[always]") || strstr(thp, "[madvise]")))
		say(d, OK, "huge pages", "transparent ones as for private memory: %s; reserved: %ld", thp, pages);
	else
		say(d, WARN, "huge pages",
		    "guests run on 4 KiB pages; for speed: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
}

int doctor_run(const char *root, const char *device, FILE *out)
{
	struct doctor d = { .root = root, .device = device, .out = out };

	check_cpu(&d);
	check_others(&d);
	check_module(&d);
	check_device(&d);
	check_limits(&d);
	check_sandbox(&d);
	check_huge_pages(&d);
	return d.failed;
}
