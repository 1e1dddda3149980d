// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) "umbra: " fmt

#include "shim.h"

#include <linux/cpuhotplug.h>
#include <linux/module.h>
#include <linux/pm.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <asm/msr.h>
#include <asm/reboot.h>

/*
 * Virtualization is on on every online CPU while a VM exists. (S9) The CPU hotplug core calls cpu_online for each
 * CPU there is and for each that comes, and undoes it when one of them fails.
 */

static DEFINE_MUTEX(hw_lock);
static int hw_users;	  /* under hw_lock */
static int hotplug_state; /* under hw_lock: > 0 while it is on */
static bool hw_stopped;	  /* for good: the machine goes down */
static bool emergency_ours;
DEFINE_PER_CPU(bool, hw_on);

static int hw_cpu_online(unsigned int unused)
{
	unsigned long flags;
	int r = 0;

	local_irq_save(flags);
	if (!this_cpu_read(hw_on)) {
		r = READ_ONCE(hw_stopped) ? -EIO : shim_ops->cpu_enable();
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

static int hw_cpu_offline(unsigned int unused)
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
	if (hw_cpu_online(0))
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
		pr_warn_ratelimited(
			"another hypervisor holds the virtualization hardware (kvm_intel, kvm_amd or vboxdrv?): end its guests or unload it\n");
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

/*
 * Suspend and hibernation, of the device: no thread runs at that time, so no RUN finds its CPU off. CPUs that come back
 * before the device does are on already.
 */
static int hw_suspend(struct device *unused)
{
	on_each_cpu(hw_cpu_disable, NULL, 1);
	return 0;
}

static int hw_resume(struct device *unused)
{
	if (hw_users)
		on_each_cpu(hw_cpu_enable_again, NULL, 1);
	return 0;
}

struct dev_pm_domain hw_pm = { .ops = { SYSTEM_SLEEP_PM_OPS(hw_suspend, hw_resume) } };

/* Firmware and kexec want the CPUs out of virtualization. */
static int hw_reboot(struct notifier_block *nb, unsigned long event, void *unused)
{
	WRITE_ONCE(hw_stopped, true);
	on_each_cpu(hw_cpu_disable, NULL, 1);
	return NOTIFY_DONE;
}

struct notifier_block hw_reboot_notifier = { .notifier_call = hw_reboot };
