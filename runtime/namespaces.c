/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is needed between giving up root and dropping everything. */
static int raise_kept_capabilities(void)
{
	static const cap_value_t needed[] = { CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETPCAP };
	cap_t caps = cap_get_proc();
	int result = 0;

	if (!caps)
		return -1;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		cap_flag_value_t permitted = CAP_CLEAR;

		cap_get_flag(caps, needed[i], CAP_PERMITTED, &permitted);
		if (permitted == CAP_SET)
			result |= cap_set_flag(caps, CAP_EFFECTIVE, 1, &needed[i], CAP_SET);
	}
	result |= cap_set_proc(caps);
	cap_free(caps);
	return result;
}

int namespaces_give_up_root(void)
{
	if (getuid() && geteuid() && getgid() && getegid())
		return 0;
	if (setgroups(0, NULL) && errno != EPERM)
		return -1;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
		return -1;
	/* EINVAL: root of a user namespace that has no such id; it is somebody else outside, and the id is all there is.
	 * EPERM: uid 0 without the capability, or group 0 of an ordinary user. */
	if (setresgid(NAMESPACES_ID, NAMESPACES_ID, NAMESPACES_ID) && errno != EINVAL && errno != EPERM)
		return -1;
	if (!getuid() || !geteuid())
		if (setresuid(NAMESPACES_ID, NAMESPACES_ID, NAMESPACES_ID) && errno != EINVAL && errno != EPERM)
			return -1;
	if (raise_kept_capabilities())
		return -1;
	/* The change of user made /proc/self root's; the id maps are written there. Off again right after them. */
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC), saved;
	ssize_t written;

	if (fd < 0)
		return -1;
	written = write(fd, text, strlen(text));
	saved = errno;
	close(fd);
	errno = saved;
	return written == (ssize_t)strlen(text) ? 0 : -1;
}

int namespaces_user(void)
{
	unsigned int uid = geteuid(), gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWUSER))
		return -1;
	if (write_file("/proc/self/setgroups", "deny") && errno != ENOENT)
		return -1;
	snprintf(map, sizeof(map), "%u %u 1\n", NAMESPACES_ID, uid);
	if (write_file("/proc/self/uid_map", map))
		return -1;
	snprintf(map, sizeof(map), "%u %u 1\n", NAMESPACES_ID, gid);
	return write_file("/proc/self/gid_map", map);
}

int namespaces_one(int flag)
{
	return unshare(flag);
}

int namespaces_empty_root(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	/* Nothing done here may reach the outer namespace. */
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -1;
	/* On /proc: a directory that is there on every machine. */
	if (mount("umbra", "/proc", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") || chdir("/proc"))
		return -1;
	if (!syscall(SYS_pivot_root, ".", ".")) {
		if (umount2(".", MNT_DETACH))
			return -1;
	} else if (mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".")) {
		/* pivot_root cannot leave the kernel's first root, the initramfs; moving over it can. */
		return -1;
	}
	if (chdir("/"))
		return -1;
	return mount("none", "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL);
}
