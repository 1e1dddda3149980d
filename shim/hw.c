// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) "umbra: " fmt

#include "shim.h"

#include <linux/cpuhotplug.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <linux/suspend.h>
#include <asm/msr.h>
#include <asm/reboot.h>

/*
 * Virtualization is on on every online CPU while a VM exists. (S9) The CPU hotplug core calls cpu_online for each
 * CPU there is and for each that comes, and undoes it when one of them fails.
 */

static DEFINE_MUTEX(hw_lock);
static int hw_users;	  /* under hw_lock */
static int hotplug_state; /* under hw_lock: > 0 while it is on */
static bool hw_sleeping;  /* written by the notifiers, one at a time */
static bool emergency_ours;
DEFINE_PER_CPU(bool, hw_on);

static int hw_enable(void)
{
	unsigned long flags;
	int r = 0;

	local_irq_save(flags);
	if (!this_cpu_read(hw_on)) {
		r = shim_ops->cpu_enable();
		this_cpu_write(hw_on, !r);
		if (!r && shim_features & UMBRA_FEAT_RDTSCP)
			rdmsrl(MSR_TSC_AUX, *this_cpu_ptr(&host_tsc_aux));
	}
	local_irq_restore(flags);
	return r;
}

/* Also in an emergency: no locks, no allocation. */
static void hw_disable(void)
{
	unsigned long flags;

	local_irq_save(flags);
	if (this_cpu_read(hw_on)) {
		this_cpu_write(vcpu_current, NULL);
		shim_ops->cpu_disable();
		this_cpu_write(hw_on, false);
	}
	local_irq_restore(flags);
}

/*
 * A crash or an emergency reboot: the next kernel needs CPUs that are out of virtualization. The kernel has one place for
 * such a callback; kvm_intel or kvm_amd holds it while it is loaded, and its callback does the same.
 */
static void hw_emergency(bool on)
{
	bool kvm_loaded = __symbol_get("kvm_rebooting");

	if (kvm_loaded)
		__symbol_put("kvm_rebooting");
	if (on && !kvm_loaded)
		cpu_emergency_register_virt_callback(hw_disable);
	else if (!on && emergency_ours)
		cpu_emergency_unregister_virt_callback(hw_disable);
	emergency_ours = on && !kvm_loaded;
}

static int hw_cpu_online(unsigned int cpu)
{
	return READ_ONCE(hw_sleeping) ? 0 : hw_enable();
}

static int hw_cpu_offline(unsigned int cpu)
{
	hw_disable();
	return 0;
}

static void hw_cpu_disable(void *unused)
{
	hw_disable();
}

static void hw_cpu_enable_again(void *unused)
{
	if (hw_enable())
		pr_err("cannot switch virtualization on again on CPU %d\n", smp_processor_id());
}

int hw_get(void)
{
	int r = 0;

	mutex_lock(&hw_lock);
	if (!hw_users) {
		r = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "umbra:online", hw_cpu_online, hw_cpu_offline);
		if (r >= 0) {
			hotplug_state = r;
			hw_emergency(true);
			r = 0;
		}
	}
	if (!r)
		hw_users++;
	mutex_unlock(&hw_lock);
	if (r == -EBUSY)
		pr_warn("another hypervisor holds the virtualization hardware (kvm_intel, kvm_amd or vboxdrv?): end its guests or unload it\n");
	return r;
}

void hw_put(void)
{
	mutex_lock(&hw_lock);
	if (!--hw_users) {
		hw_emergency(false);
		cpuhp_remove_state(hotplug_state);
		hotplug_state = 0;
	}
	mutex_unlock(&hw_lock);
}

static void hw_sleep(void)
{
	WRITE_ONCE(hw_sleeping, true);
	on_each_cpu(hw_cpu_disable, NULL, 1);
}

static void hw_wake(void)
{
	mutex_lock(&hw_lock);
	WRITE_ONCE(hw_sleeping, false);
	if (hw_users)
		on_each_cpu(hw_cpu_enable_again, NULL, 1);
	mutex_unlock(&hw_lock);
}

/* Firmware and kexec want the CPUs out of virtualization; a RUN meanwhile finds them off and waits for its thread to be frozen. */
static int hw_pm(struct notifier_block *nb, unsigned long event, void *unused)
{
	if (event == PM_HIBERNATION_PREPARE || event == PM_SUSPEND_PREPARE || event == PM_RESTORE_PREPARE)
		hw_sleep();
	else /* the PM_POST events */
		hw_wake();
	return NOTIFY_DONE;
}

static int hw_reboot(struct notifier_block *nb, unsigned long event, void *unused)
{
	hw_sleep();
	return NOTIFY_DONE;
}

static struct notifier_block pm_notifier = { .notifier_call = hw_pm };
static struct notifier_block reboot_notifier = { .notifier_call = hw_reboot };

int hw_init(void)
{
	int r = register_reboot_notifier(&reboot_notifier);

	if (r)
		return r;
	r = register_pm_notifier(&pm_notifier);
	if (r)
		unregister_reboot_notifier(&reboot_notifier);
	return r;
}

void hw_exit(void)
{
	unregister_pm_notifier(&pm_notifier);
	unregister_reboot_notifier(&reboot_notifier);
}
