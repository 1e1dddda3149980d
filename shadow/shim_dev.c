// SPDX-License-Identifier: GPL-2.0-or-later
/* The shim behind /dev/umbra. */
#include "shim.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys.h"

static int dev_info(struct shim *shim, struct umbra_info *info)
{
	return (int)sys_ioctl(shim->dev_fd, UMBRA_INFO, (unsigned long)info);
}

static int dev_create_vm(struct shim *shim)
{
	struct umbra_create_vm arg = { .flags = 0 };
	int fd = (int)sys_ioctl(shim->dev_fd, UMBRA_CREATE_VM, (unsigned long)&arg);

	if (fd >= 0)
		shim->vm_fd = fd;
	return fd;
}

/* EINTR: a signal came while the kernel registered this process's first notifier. A VMM does not expect that of the call. */
static int dev_set_region(struct shim *shim, const struct umbra_region *region)
{
	int ret;

	do
		ret = (int)sys_ioctl(shim->vm_fd, UMBRA_VM_SET_REGION, (unsigned long)region);
	while (ret == -EINTR);
	return ret;
}

static int dev_get_dirty(struct shim *shim, const struct umbra_dirty *dirty)
{
	return (int)sys_ioctl(shim->vm_fd, UMBRA_VM_GET_DIRTY, (unsigned long)dirty);
}

static int dev_create_vcpu(struct shim *shim, struct umbra_run **run, void **vapic)
{
	struct umbra_create_vcpu arg = { .flags = 0 };
	struct umbra_info info;
	int fd, ret = dev_info(shim, &info);
	char *area;

	if (ret < 0)
		return ret;
	if (info.run_size < sizeof(**run) || info.vapic_offset < sizeof(**run) ||
	    info.vapic_offset + UMBRA_PAGE_SIZE > info.run_size)
		return -EPROTO;
	fd = (int)sys_ioctl(shim->vm_fd, UMBRA_VM_CREATE_VCPU, (unsigned long)&arg);
	if (fd < 0)
		return fd;
	area = mmap(NULL, info.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (area == MAP_FAILED) {
		ret = -errno;
		close(fd);
		return ret;
	}
	*run = (struct umbra_run *)area;
	*vapic = area + info.vapic_offset;
	return fd;
}

static void dev_destroy_vcpu(struct shim *shim, int vcpu_fd, struct umbra_run *run)
{
	struct umbra_info info;

	/* Its size cannot be other than at creation; were it not to be had, the descriptor would still go. */
	if (dev_info(shim, &info) >= 0)
		munmap(run, info.run_size);
	close(vcpu_fd);
}

static int dev_run(struct shim *shim, int vcpu_fd)
{
	(void)shim;
	return (int)sys_lseek(vcpu_fd, 0, SEEK_SET);
}

static int dev_kick(struct shim *shim, int vcpu_fd)
{
	(void)shim;
	return (int)sys_ioctl(vcpu_fd, UMBRA_VCPU_KICK, 0);
}

static const struct shim_ops ops_vmx = {
	.info = dev_info,
	.create_vm = dev_create_vm,
	.set_region = dev_set_region,
	.get_dirty = dev_get_dirty,
	.create_vcpu = dev_create_vcpu,
	.destroy_vcpu = dev_destroy_vcpu,
	.run = dev_run,
	.kick = dev_kick,
};

static const struct shim_ops ops_svm = {
	.info = dev_info,
	.create_vm = dev_create_vm,
	.set_region = dev_set_region,
	.get_dirty = dev_get_dirty,
	.create_vcpu = dev_create_vcpu,
	.destroy_vcpu = dev_destroy_vcpu,
	.run = dev_run,
	.exit_read = exit_read_svm,
	.kick = dev_kick,
};

void shim_dev_init(struct shim *shim, int dev_fd)
{
	struct umbra_info info;

	shim->dev_fd = dev_fd;
	shim->vm_fd = -1;
	/* What RUN says is the hardware's own language. Who cannot be asked fails at the next call. */
	shim->ops = dev_info(shim, &info) >= 0 && info.hw == UMBRA_HW_SVM ? &ops_svm : &ops_vmx;
}
