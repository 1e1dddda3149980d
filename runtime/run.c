/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umbra run: starts a VMM with libumbra-kvm.so preloaded, or says why that cannot work. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "umbra.h"

#ifndef UMBRA_LIBRARY_PATH
#define UMBRA_LIBRARY_PATH "/usr/lib/libumbra-kvm.so"
#endif
#ifndef UMBRA_SHADOW_PATH
#define UMBRA_SHADOW_PATH "/usr/libexec/umbra/umbra-shadow"
#endif
#ifndef UMBRA_LIBDIR
#define UMBRA_LIBDIR "lib"
#endif

#define MAX_PHDRS 256

/* From this program's own folder: another prefix, then a build tree. */
static const char *const near_libraries[] = {
	"../" UMBRA_LIBDIR "/libumbra-kvm.so",
	"../" UMBRA_LIBDIR "/umbra/libumbra-kvm.so",
	"../qemu-glue/libumbra-kvm.so",
	NULL,
};
static const char *const near_shadows[] = { "../libexec/umbra/umbra-shadow", "../shadow/umbra-shadow", NULL };

static bool find_beside(const char *const *near, const char *installed, char *path, size_t size)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len > 0) {
		self[len] = 0;
		*strrchr(self, '/') = 0;
		for (; *near; near++)
			if (snprintf(path, size, "%s/%s", self, *near) < (int)size && !access(path, R_OK))
				return true;
	}
	return snprintf(path, size, "%s", installed) < (int)size && !access(path, R_OK);
}

/* ---- can the VMM be preloaded? ---- */

static bool check_elf(int fd, const char *path, char *text, size_t size)
{
	Elf64_Phdr phdr[MAX_PHDRS];
	char interp[PATH_MAX] = "";
	Elf64_Ehdr head;
	size_t bytes;

	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) || memcmp(head.e_ident, ELFMAG, SELFMAG))
		return true; /* a script: its interpreter passes the environment on; or nothing that can run at all */
	if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != EM_X86_64) {
		snprintf(text, size, "%s is not an x86-64 program", path);
		return false;
	}
	bytes = head.e_phnum * sizeof(phdr[0]);
	if (!head.e_phnum || head.e_phnum > MAX_PHDRS || head.e_phentsize != sizeof(phdr[0]) ||
	    pread(fd, phdr, bytes, head.e_phoff) != (ssize_t)bytes) {
		snprintf(text, size, "%s is a damaged ELF file", path);
		return false;
	}
	for (unsigned int i = 0; i < head.e_phnum; i++) {
		size_t len = phdr[i].p_filesz;

		if (phdr[i].p_type != PT_INTERP)
			continue;
		if (len < sizeof(interp) && pread(fd, interp, len, phdr[i].p_offset) == (ssize_t)len)
			interp[len] = 0;
	}
	if (!interp[0]) {
		snprintf(text, size,
			 "%s is statically linked: no library can be preloaded. Use a dynamically linked build of it",
			 path);
		return false;
	}
	if (strstr(interp, "musl")) {
		snprintf(text, size, "%s is linked to musl, libumbra-kvm.so to glibc. Use a build for glibc", path);
		return false;
	}
	return true;
}

bool run_can_preload(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	bool ok;

	if (fd < 0)
		return true; /* executable but not readable: nothing to be said about it */
	if (!fstat(fd, &st) && (st.st_mode & (S_ISUID | S_ISGID)) && S_ISREG(st.st_mode)) {
		snprintf(text, size,
			 "%s is setuid or setgid: the dynamic linker ignores preloads. Run a copy without these bits",
			 path);
		ok = false;
	} else if (geteuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0) {
		snprintf(
			text, size,
			"%s has file capabilities: the dynamic linker ignores preloads. Run a copy without them (setcap -r)",
			path);
		ok = false;
	} else {
		ok = check_elf(fd, path, text, size);
	}
	close(fd);
	return ok;
}

/* As execvp() finds it. 0 or the errno. */
static int find_program(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH");
	int error = ENOENT;

	if (strchr(name, '/'))
		return snprintf(path, size, "%s", name) >= (int)size ? ENAMETOOLONG : access(path, X_OK) ? errno : 0;
	for (dirs = dirs && *dirs ? dirs : "/usr/bin:/bin"; dirs;
	     dirs = strchr(dirs, ':') ? strchr(dirs, ':') + 1 : NULL) {
		int len = strcspn(dirs, ":");
		struct stat st;

		if (snprintf(path, size, "%.*s/%s", len ? len : 1, len ? dirs : ".", name) >= (int)size)
			continue;
		if (!access(path, X_OK) && !stat(path, &st) && S_ISREG(st.st_mode))
			return 0;
		if (errno == EACCES)
			error = EACCES;
	}
	return error;
}

/* ---- the command ---- */

static int set_environment(const char *library, const char *shadow, bool require_namespaces)
{
	const char *old = getenv("LD_PRELOAD");
	char *preload;
	int ret;

	if (strpbrk(library, " :")) {
		fprintf(stderr, "umbra: LD_PRELOAD cannot hold a path with a space or a colon: %s\n", library);
		return -1;
	}
	if (asprintf(&preload, "%s%s%s", library, old && *old ? ":" : "", old ? old : "") < 0)
		return -1;
	ret = setenv("LD_PRELOAD", preload, 1);
	free(preload);
	if (!ret && shadow)
		ret = setenv("UMBRA_SHADOW", shadow, 1);
	if (!ret && require_namespaces)
		ret = setenv("UMBRA_REQUIRE_NAMESPACES", "1", 1);
	return ret;
}

static int start(char **argv, const char *library, const char *shadow, bool require_namespaces)
{
	char path[PATH_MAX], text[PATH_MAX + 256];
	int error = find_program(argv[0], path, sizeof(path));

	if (error) {
		fprintf(stderr, "umbra: %s: %s\n", argv[0], strerror(error));
		return error == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_CANNOT;
	}
	if (!run_can_preload(path, text, sizeof(text))) {
		fprintf(stderr, "umbra: %s.\n", text);
		return RUN_EXIT_CANNOT;
	}
	if (set_environment(library, shadow, require_namespaces))
		return RUN_EXIT_CANNOT;
	execv(path, argv);
	fprintf(stderr, "umbra: %s: %s\n", path, strerror(errno));
	return RUN_EXIT_CANNOT;
}

int run_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "library", required_argument, NULL, 'l' },
		{ "shadow", required_argument, NULL, 's' },
		{ "require-namespaces", no_argument, NULL, 'n' },
		{ 0 },
	};
	const char *library = NULL, *shadow = NULL;
	char library_path[PATH_MAX], shadow_path[PATH_MAX];
	bool require_namespaces = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		if (opt == 'l')
			library = realpath(optarg, library_path) ? library_path : optarg;
		else if (opt == 's')
			shadow = realpath(optarg, shadow_path) ? shadow_path : optarg;
		else if (opt == 'n')
			require_namespaces = true;
		else
			return RUN_EXIT_USAGE;
	}
	if (optind == argc) {
		fprintf(stderr, "umbra: run what? umbra run [options] [--] VMM [arguments]\n");
		return RUN_EXIT_USAGE;
	}
	if (!library && find_beside(near_libraries, UMBRA_LIBRARY_PATH, library_path, sizeof(library_path)))
		library = realpath(library_path, NULL);
	if (!library || access(library, R_OK)) {
		fprintf(stderr, "umbra: %s is not there: install Umbra, or name it with --library\n",
			library ? library : UMBRA_LIBRARY_PATH);
		return RUN_EXIT_CANNOT;
	}
	if (!shadow && !getenv("UMBRA_SHADOW") &&
	    find_beside(near_shadows, UMBRA_SHADOW_PATH, shadow_path, sizeof(shadow_path)))
		shadow = realpath(shadow_path, NULL);
	if (shadow && access(shadow, X_OK)) {
		fprintf(stderr, "umbra: %s: %s\n", shadow, strerror(errno));
		return RUN_EXIT_CANNOT;
	}
	return start(argv + optind, library, shadow, require_namespaces);
}
