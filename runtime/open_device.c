/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char *start_open_error(int error)
{
	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return "it is not there: load the module (modprobe umbra)";
	case EACCES:
	case EPERM:
		return "no permission: the user must be in its group (kvm, as a rule)";
	case EBUSY:
		return "busy: another hypervisor holds the virtualization hardware";
	default:
		return strerror(error);
	}
}

int start_open_device(const char *path, struct umbra_info *info, char *text, size_t size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		snprintf(text, size, "%s: %s", path, start_open_error(errno));
		return -1;
	}
	if (ioctl(fd, UMBRA_INFO, info)) {
		snprintf(text, size, "%s: is not Umbra's device, or another version's (%s)", path, strerror(errno));
	} else if (info->abi_version != UMBRA_ABI_VERSION) {
		snprintf(text, size,
			 "%s: the module speaks ABI version %u, this program %u: install both from one source", path,
			 info->abi_version, UMBRA_ABI_VERSION);
	} else {
		return fd;
	}
	close(fd);
	return -1;
}
