// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) "umbra: " fmt

#include "shim.h"

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pm_domain.h>
#include <linux/reboot.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/fpu/xcr.h>
#include <asm/tsc.h>

#include "compat.h"

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
module_param_cb(pages, &stat_ops, &stat_pages, 0400); /* goes with what guests touch */

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

	if (nr != UMBRA_VM_SET_REGION && nr != UMBRA_VM_GET_DIRTY && nr != UMBRA_VM_CREATE_VCPU)
		return -ENOTTY;
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
};

static struct miscdevice dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "umbra",
	.fops = &dev_fops,
};

int shim_refuse(const char *why, const char *what)
{
	pr_err("not loaded: %s%s\n", why, what);
	return -EOPNOTSUPP;
}

/* What is the same for both vendors. */
static int __init limits_init(void)
{
	if (compat_has_fred())
		return shim_refuse("FRED is in use: boot with fred=off", "");
	if (!boot_cpu_has(X86_FEATURE_TSC) || !tsc_khz)
		return shim_refuse("the TSC's frequency is not known", "");
	shim_limits = (struct limits) {
		.user_end = TASK_SIZE_MAX,
		.gpa_bits = min_t(u32, boot_cpu_data.x86_phys_bits, 46),
		.cr0_may = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP |
			   X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG,
		/* No VMXE, SMXE, LA57, PKE, CET, PKS: the shim does not switch what they need. */
		.cr4_may = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE |
			   X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
			   X86_CR4_UMIP | X86_CR4_FSGSBASE | X86_CR4_PCIDE | X86_CR4_OSXSAVE | X86_CR4_SMEP |
			   X86_CR4_SMAP,
		.efer_may = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX,
	};
	if (boot_cpu_has(X86_FEATURE_OSXSAVE)) {
		host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
		shim_limits.xcr0_may = host_xcr0 & (XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | XFEATURE_MASK_AVX512);
	} else {
		shim_limits.cr4_may &= ~X86_CR4_OSXSAVE;
	}
	return 0;
}

static int __init umbra_init(void)
{
	int r;

	shim_ops = cpuid_ecx(0x80000001) & BIT(2) ? &svm_ops : &vmx_ops;
	r = limits_init() ?: shim_ops->setup(&shim_limits, &shim_features);
	if (r)
		return r;
	r = boot_cpu_has(X86_FEATURE_FSGSBASE)
		    ? register_reboot_notifier(&hw_reboot_notifier)
		    : shim_refuse("the CPU lacks ", "FSGSBASE (or the kernel was booted with nofsgsbase)");
	if (r)
		goto teardown;
	r = misc_register(&dev);
	if (!r) {
		dev_pm_domain_set(dev.this_device, &hw_pm);
		return 0;
	}
	unregister_reboot_notifier(&hw_reboot_notifier);
teardown:
	shim_ops->teardown();
	return r;
}

static void __exit umbra_exit(void)
{
	misc_deregister(&dev);
	unregister_reboot_notifier(&hw_reboot_notifier);
	shim_ops->teardown();
}

module_init(umbra_init);
module_exit(umbra_exit);
MODULE_LICENSE("GPL v2");
MODULE_DESCRIPTION("Umbra: enters guests for unprivileged hypervisors");
