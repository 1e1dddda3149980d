// SPDX-License-Identifier: GPL-2.0-or-later
/* Loading, unloading, and the other hypervisor. */
#include "life.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int module_remove(void)
{
	return syscall(SYS_delete_module, "umbra", O_NONBLOCK) ? -errno : 0;
}

static int module_load(void)
{
	int fd = open(module_path, O_RDONLY | O_CLOEXEC), error;

	if (fd < 0)
		return -errno;
	error = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return error;
}

static int is_busy(int error)
{
	return error == -EBUSY || error == -EAGAIN; /* the second with O_NONBLOCK */
}

/* Each kind of descriptor, and the mapping alone, keeps the module. */
void life_rmmod_busy(void)
{
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	check(is_busy(module_remove()), "removed while everything is open");
	close(g.vm.dev);
	close(g.vm.fd);
	check(is_busy(module_remove()), "removed while a vCPU is open");
	vcpu_expect_io(&g.vcpu, 0x80, "RUN after the attempts");
	close(g.vcpu.fd);
	check(is_busy(module_remove()), "removed while a run area is mapped");
	g.vcpu.run->want = 1; /* still ours */
	munmap(g.vcpu.run, info()->run_size);
	check(!counters_zero_wait(), "something remains");
}

void life_reload(void)
{
	if (!module_path || access(module_path, R_OK))
		skip_test("where is umbra.ko? --module PATH");
	for (uint64_t i = 0; i < (test_scale < 50 ? 5 : 20); i++) {
		struct guest g;
		int error = module_remove();

		need(!error, "remove %llu: %s", (unsigned long long)i, strerror(-error));
		error = module_load();
		need(!error, "load %llu: %s", (unsigned long long)i, strerror(-error));
		need(module_load() == -EEXIST, "loaded twice");
		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
		vcpu_expect_io(&g.vcpu, 0x80, "after loading");
		vcpu_destroy(&g.vcpu);
		vm_destroy(&g.vm);
		need(!counters_zero_wait(), "something remains");
	}
}

/* One hypervisor at a time; each goes on undisturbed when the other is refused. */
void life_kvm_busy(void)
{
	struct umbra_create_vm arg = { 0 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, dev;
	struct guest g;

	if (kvm < 0)
		skip_test("no /dev/kvm: %s", strerror(errno));
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	need(vm >= 0, "KVM_CREATE_VM: %s", strerror(errno));
	dev = dev_open();
	check(ioctl(dev, UMBRA_CREATE_VM, &arg) < 0 && errno == EBUSY, "CREATE_VM while KVM has a VM: %s",
	      strerror(errno));
	check(counter_read("vms") == 0, "%ld VMs", counter_read("vms"));
	close(vm);
	usleep(100000);

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	vcpu_expect_io(&g.vcpu, 0x80, "after KVM's VM");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	check(vm < 0 && errno == EBUSY, "KVM_CREATE_VM while Umbra has one: %d %s", vm, strerror(errno));
	vcpu_skip(&g.vcpu);
	vcpu_expect_io(&g.vcpu, 0x80, "after KVM was refused");
	vcpu_destroy(&g.vcpu);
	vm_destroy(&g.vm);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	check(vm >= 0, "KVM_CREATE_VM after Umbra's VM: %s", strerror(errno));
	close(vm);
	close(kvm);
}
