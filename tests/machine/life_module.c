// SPDX-License-Identifier: GPL-2.0-or-later
/* Loading, unloading, and the other hypervisor. */
#include "life.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct suspended {
	struct guest guest;
	pthread_t thread;
	volatile uint64_t *counter;
	volatile int stop, error;
};

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

/*
 * The module loads on a CPU whose system call MSRs are those of KVM's guest: its thread is preempted between two entries, and
 * this one goes on inside finit_module(). What Umbra's exits load must be the host's all the same; else the next system call
 * is the machine's last.
 */
void life_kvm_msrs(void)
{
	if (access("/dev/kvm", R_OK | W_OK) || !module_path)
		skip_test("no /dev/kvm, or no --module PATH");
	info();
	cpu_pin(0);
	for (uint64_t i = 0; i < scaled(2); i++) {
		struct guest g;
		pid_t pid;
		int error;

		pid = fork();
		need(pid >= 0, "fork");
		if (!pid) {
			need(!setpriority(PRIO_PROCESS, 0, -5), "priority: %s", strerror(errno));
			kvm_spin();
			_exit(1);
		}
		usleep(50000);
		error = module_remove();
		need(!error, "remove: %s", strerror(-error));
		error = module_load(); /* in many slices */
		need(!error, "load: %s", strerror(-error));
		need(!waitpid(pid, NULL, WNOHANG), "KVM's guest does not spin");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		usleep(100000); /* KVM lets go of the hardware */
		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
		g.vcpu.run->msr.lstar = 0xffffffff80001000;
		vcpu_expect_io(&g.vcpu, 0x80, "after KVM's guest");
		vcpu_destroy(&g.vcpu);
		vm_destroy(&g.vm);
		need(!counters_zero_wait(), "something remains");
	}
	cpu_pin(-1);
}

#define POWER_STATE "/sys/power/state"
#define RTC_ALARM "/sys/class/rtc/rtc0/wakealarm"

static void *suspend_spin(void *arg)
{
	struct suspended *s = arg;

	while (!s->stop && !s->error)
		s->error = vcpu_run(&s->guest.vcpu);
	return NULL;
}

/* Suspend to RAM with guests running: the CPUs lose all that the module had set up, and no guest sees anything of it. */
void life_suspend(void)
{
	struct suspended s[2] = { 0 };
	uint64_t before;

	if (!is_svm())
		skip_test("Bochs does not wake up again");
	need(!access(POWER_STATE, W_OK) && !access(RTC_ALARM, W_OK), "no %s or %s", POWER_STATE, RTC_ALARM);
	for (int i = 0; i < 2; i++) {
		guest_new(&s[i].guest, MODE_LONG64, SNIPPET(spin_shared));
		s[i].guest.vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
		s[i].guest.vcpu.run->want = UMBRA_STATE_ALL; /* to be fetched when the freezer ends RUN */
		s[i].counter = (volatile uint64_t *)(s[i].guest.vm.mem + GPA_DATA);
		need(!pthread_create(&s[i].thread, NULL, suspend_spin, &s[i]), "thread");
	}
	for (uint64_t round = 0; round < scaled(2); round++) {
		file_write(RTC_ALARM, "0");
		need(!file_write(RTC_ALARM, "+3"), "no alarm");
		need(!file_write(POWER_STATE, "mem"), "no suspend");
		for (int i = 0; i < 2; i++) {
			before = *s[i].counter;
			for (int ms = 0; ms < 5000 && *s[i].counter == before && !s[i].error; ms++)
				usleep(1000);
			need(*s[i].counter != before, "guest %d stands still, RUN: %s", i, strerror(-s[i].error));
		}
	}
	for (int i = 0; i < 2; i++) {
		s[i].stop = 1;
		for (int n = 0; n < 2000 && pthread_tryjoin_np(s[i].thread, NULL); n++) {
			vcpu_kick(&s[i].guest.vcpu);
			usleep(500);
			need(n < 1999, "the vCPU does not end");
		}
		vcpu_destroy(&s[i].guest.vcpu);
		vm_destroy(&s[i].guest.vm);
	}
	need(!counters_zero_wait(), "something remains");
}
