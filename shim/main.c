// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) "umbra: " fmt

#include "shim.h"

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

const struct shim_ops *shim_ops;
struct limits shim_limits;
__u64 shim_features;
atomic_long_t stat_vms, stat_vcpus, stat_pages;

/* Live counters: /sys/module/umbra/parameters/{vms,vcpus,pages}; pages are 4 KiB mapped for guests. */
static int stat_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%ld\n", atomic_long_read(kp->arg));
}

static const struct kernel_param_ops stat_ops = { .get = stat_get };
module_param_cb(vms, &stat_ops, &stat_vms, 0444);
module_param_cb(vcpus, &stat_ops, &stat_vcpus, 0444);
module_param_cb(pages, &stat_ops, &stat_pages, 0444);

static void vm_release_ref(struct kref *ref)
{
	struct vm *vm = container_of(ref, struct vm, ref);

	vm_mem_destroy(vm);
	mmdrop(vm->mm);
	kvfree(vm);
	atomic_long_dec(&stat_vms);
	hw_put();
}

void vm_put(struct vm *vm)
{
	kref_put(&vm->ref, vm_release_ref);
}

static long vm_ioctl(struct file *file, unsigned int nr, unsigned long arg)
{
	struct vm *vm = file->private_data;
	void __user *user = (void __user *)arg;
	union {
		struct umbra_region region;
		struct umbra_dirty dirty;
		struct umbra_create_vcpu vcpu;
	} u;

	switch (nr) {
	case UMBRA_VM_SET_REGION:
	case UMBRA_VM_GET_DIRTY:
	case UMBRA_VM_CREATE_VCPU:
		break;
	default:
		return -ENOTTY;
	}
	if (current->mm != vm->mm)
		return -EPERM;
	if (copy_from_user(&u, user, _IOC_SIZE(nr)))
		return -EFAULT;
	if (nr == UMBRA_VM_SET_REGION)
		return vm_set_region(vm, &u.region);
	if (nr == UMBRA_VM_GET_DIRTY)
		return vm_get_dirty(vm, &u.dirty);
	return check_create(u.vcpu.flags, u.vcpu.reserved) ?: vcpu_create(vm);
}

static int vm_release(struct inode *inode, struct file *file)
{
	vm_put(file->private_data);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vm_ioctl,
	.release = vm_release,
};

static long vm_create(void)
{
	struct vm *vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	int r;

	if (!vm)
		return -ENOMEM;
	r = hw_get();
	if (r)
		goto free;
	r = vm_mem_init(vm);
	if (r)
		goto put;
	kref_init(&vm->ref);
	vm->mm = current->mm;
	mmgrab(vm->mm);
	atomic_long_inc(&stat_vms);
	r = anon_inode_getfd("umbra-vm", &vm_fops, vm, O_RDWR | O_CLOEXEC);
	if (r < 0)
		vm_put(vm);
	return r;
put:
	hw_put();
free:
	kvfree(vm);
	return r;
}

static void info_fill(struct umbra_info *info)
{
	*info = (struct umbra_info) {
		.abi_version = UMBRA_ABI_VERSION,
		.hw = shim_ops->hw,
		.features = shim_features,
		.guest_xcr0 = shim_limits.xcr0_may,
		.guest_cr0 = shim_limits.cr0_may,
		.guest_cr4 = shim_limits.cr4_may,
		.guest_efer = shim_limits.efer_may,
		.tsc_khz = tsc_khz,
		.gpa_bits = shim_limits.gpa_bits,
		.run_size = 2 * PAGE_SIZE,
		.vapic_offset = PAGE_SIZE,
	};
}

static long dev_ioctl(struct file *file, unsigned int nr, unsigned long arg)
{
	struct umbra_create_vm create;
	struct umbra_info info;

	switch (nr) {
	case UMBRA_INFO:
		info_fill(&info);
		return copy_to_user((void __user *)arg, &info, sizeof(info)) ? -EFAULT : 0;
	case UMBRA_CREATE_VM:
		if (copy_from_user(&create, (void __user *)arg, sizeof(create)))
			return -EFAULT;
		return check_create(create.flags, create.reserved) ?: vm_create();
	default:
		return -ENOTTY;
	}
}

static const struct file_operations dev_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dev_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "umbra",
	.fops = &dev_fops,
};

static int __init umbra_init(void)
{
	int r;

	shim_ops = &vmx_ops;
	shim_limits.user_end = TASK_SIZE_MAX;
	r = shim_ops->setup(&shim_limits, &shim_features);
	if (r)
		return r;
	r = hw_init();
	if (r)
		goto teardown;
	r = misc_register(&dev);
	if (r)
		goto exit;
	return 0;
exit:
	hw_exit();
teardown:
	shim_ops->teardown();
	return r;
}

static void __exit umbra_exit(void)
{
	misc_deregister(&dev);
	hw_exit();
	shim_ops->teardown();
}

module_init(umbra_init);
module_exit(umbra_exit);
MODULE_LICENSE("GPL v2");
MODULE_DESCRIPTION("Umbra: enters guests for unprivileged hypervisors");
