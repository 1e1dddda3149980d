/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue_spawn.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "glue.h"

#ifndef UMBRA_SHADOW_PATH
#define UMBRA_SHADOW_PATH "/usr/libexec/umbra/umbra-shadow"
#endif

extern char **environ;

/* From the library's own folder: installed beside it, or below the same prefix, or in a build tree. */
static const char *const near[] = { "umbra-shadow", "../libexec/umbra/umbra-shadow", "../../libexec/umbra/umbra-shadow",
				    "../bin/umbra-shadow", "../shadow/umbra-shadow" };

static bool near_library(char *path, size_t size, const char *name)
{
	Dl_info info;
	const char *slash;

	if (!dladdr((void *)(uintptr_t)spawn_shadow, &info) || !info.dli_fname)
		return false;
	slash = strrchr(info.dli_fname, '/');
	if (!slash)
		return false;
	return snprintf(path, size, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, name) < (int)size &&
	       !access(path, X_OK);
}

static bool find_shadow(char *path, size_t size)
{
	const char *env = getenv("UMBRA_SHADOW");

	if (env && *env) {
		snprintf(path, size, "%s", env);
		return true; /* asked for by name: if it is not there, say that, and look nowhere else */
	}
	snprintf(path, size, "%s", UMBRA_SHADOW_PATH);
	if (!access(path, X_OK))
		return true;
	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++)
		if (near_library(path, size, near[i]))
			return true;
	return false;
}

/* Of the VMM's environment only what the shadow reads: the rest may hold secrets, and a guest may take the shadow over. */
static char **clean_environment(void)
{
	size_t n = 0, kept = 0;
	char **env;

	while (environ && environ[n])
		n++;
	env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++)
		if (!strncmp(environ[i], "UMBRA_", 6) || !strncmp(environ[i], "LD_LIBRARY_PATH=", 16))
			env[kept++] = environ[i];
	return env;
}

static int spawn_at(const char *path, int sock, pid_t *pid)
{
	char *argv[] = { (char *)"umbra-shadow", (char *)"--fd", (char *)"3", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	char **env = clean_environment();
	int ret = ENOMEM;

	if (!env)
		return ret;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	/* A process group of its own: a Ctrl-C on the VMM's terminal is the VMM's to handle. */
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawn_file_actions_init(&actions);
	/* sock is never 3 itself (shadow_start), so dup2 drops its close-on-exec flag. */
	ret = posix_spawn_file_actions_adddup2(&actions, sock, 3);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
	if (!ret)
		ret = posix_spawn_file_actions_addclosefrom_np(&actions, 4);
#endif
	if (!ret)
		ret = posix_spawn(pid, path, &actions, &attr, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	free(env);
	return ret;
}

pid_t spawn_shadow(int sock)
{
	char path[PATH_MAX];
	pid_t pid;
	int ret;

	if (!find_shadow(path, sizeof(path))) {
		glue_say(
			"umbra-shadow not found (looked for %s and near the library): install Umbra, or set UMBRA_SHADOW to its path",
			UMBRA_SHADOW_PATH);
		return -ENOENT;
	}
	ret = spawn_at(path, sock, &pid);
	if (!ret)
		return pid;
	glue_say("cannot start %s: %s%s", path, strerror(ret),
		 ret == EPERM || ret == EACCES
			 ? " (a sandbox of the VMM that forbids new processes, or no execute permission)"
			 : "");
	return ret == EPERM ? -EACCES : -ret;
}
