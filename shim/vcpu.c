// SPDX-License-Identifier: GPL-2.0-only
#include "shim.h"

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/hw_breakpoint.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/debugreg.h>
#include <asm/fpu/api.h>
#include <asm/msr.h>

#include "compat.h"

#define RUN_SIZE (2 * PAGE_SIZE) /* run area, virtual-APIC page */
#define CONTROL_WORDS (offsetof(struct umbra_run, deadline_tsc) / 8)

/* Work that wants the calling thread out of here, and work that schedule() does. */
#define WORK_USER (_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL | _TIF_NOTIFY_RESUME)
#define WORK_ANY (WORK_USER | _TIF_NEED_RESCHED)

DEFINE_PER_CPU(struct vcpu *, vcpu_current);
DEFINE_PER_CPU(u64, host_tsc_aux);
u64 host_xcr0, host_xss;

static unsigned long thread_flags(void)
{
	return READ_ONCE(current_thread_info()->flags);
}

/*
 * Takes over what was handed in. Each word is read from the shared page once; the copy is checked and then used.
 * (S1; CVE-2021-29657's class) When a group besides RIP is dirty that goes for all the state, so that whatever
 * vcpu->in holds has been checked. The control words are checked when they change.
 */
static __u32 run_load(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run, *in = &vcpu->in, *next = &vcpu->next;
	__u64 dirty = READ_ONCE(run->dirty), *word = (__u64 *)run, *old = (__u64 *)in;
	__u64 changed = READ_ONCE(run->reserved[0]) | READ_ONCE(run->reserved[1]) | (dirty & ~UMBRA_STATE_RIP);
	__u32 rule = 0;
	int i;

#pragma GCC unroll 8
	for (i = 1; i < CONTROL_WORDS; i++)
		changed |= READ_ONCE(word[i]) ^ old[i];
	in->inject = READ_ONCE(run->inject);
	if (unlikely(changed || in->inject.flags)) {
		memcpy(next, run, sizeof(*next));
		barrier(); /* from here on it is the copy that counts */
		next->dirty = dirty;
		rule = check_control(next);
		if (!rule && dirty & ~UMBRA_STATE_RIP)
			rule = check_state(next, &shim_limits);
		if (rule)
			return rule;
		memcpy(in, next, dirty & ~UMBRA_STATE_RIP ? sizeof(*next) : offsetof(struct umbra_run, gpr));
		vcpu->new_controls = true;
		vcpu->event = in->inject;
		run->inject.flags = 0;
	}
	in->deadline_tsc = READ_ONCE(run->deadline_tsc);
	if (dirty) {
		in->rip = READ_ONCE(run->rip);
		in->rflags = READ_ONCE(run->rflags);
		vcpu->dirty |= dirty;
		run->dirty = 0;
	}
	return 0;
}

/* Makes the vCPU's state current on this CPU. 0: interrupts are off; -EIO: on, and the hardware is off. */
static int vcpu_load(struct vcpu *vcpu)
{
	bool lost;

	for (;;) {
		local_irq_disable();
		if (likely(this_cpu_read(vcpu_current) == vcpu) || !shim_ops->vcpu_load(vcpu))
			return 0;
		lost = cpu_active(smp_processor_id());
		local_irq_enable();
		if (lost)
			return -EIO;
		cond_resched(); /* this CPU is on its way offline: the next one */
	}
}

static void xcr0_write(u64 xcr0)
{
	asm volatile("xsetbv" : : "c"(0), "a"((u32)xcr0), "d"((u32)(xcr0 >> 32)));
}

/*
 * What no hardware control of either vendor switches is the guest's from here to registers_host(), only where it differs;
 * the values were checked when they were handed in. DR0-DR3 only while a breakpoint of the guest is on. (S4, S5)
 */
static void registers_guest(const struct umbra_run *in)
{
	if (unlikely(in->dr7 & 0xff)) {
		set_debugreg(0UL, 7);
		set_debugreg(in->dr[0], 0);
		set_debugreg(in->dr[1], 1);
		set_debugreg(in->dr[2], 2);
		set_debugreg(in->dr[3], 3);
	}
	if (shim_features & UMBRA_FEAT_RDTSCP && in->msr.tsc_aux != this_cpu_read(host_tsc_aux))
		native_wrmsrl(MSR_TSC_AUX, in->msr.tsc_aux);
	if (in->cr4 & X86_CR4_OSXSAVE && in->xcr0 != host_xcr0)
		xcr0_write(in->xcr0);
	/* SVM alone lets XSAVES pass: no state of the kernel's in a guest's reach. */
	if (in->cr4 & X86_CR4_OSXSAVE && host_xss)
		native_wrmsrl(MSR_IA32_XSS, 0);
}

static void registers_host(const struct umbra_run *in)
{
	if (in->cr4 & X86_CR4_OSXSAVE && host_xss)
		native_wrmsrl(MSR_IA32_XSS, host_xss);
	if (in->cr4 & X86_CR4_OSXSAVE && in->xcr0 != host_xcr0)
		xcr0_write(host_xcr0);
	if (shim_features & UMBRA_FEAT_RDTSCP && in->msr.tsc_aux != this_cpu_read(host_tsc_aux))
		native_wrmsrl(MSR_TSC_AUX, this_cpu_read(host_tsc_aux));
	if (unlikely(hw_breakpoint_active()))
		hw_breakpoint_restore();
}

/*
 * One world switch, or none if there is work for this thread. guest_cpu is announced before the last look at kicks
 * and at the tables' generation; whoever changes one of them looks at guest_cpu afterwards, so nothing gets lost.
 */
static enum run_result enter_once(struct vcpu *vcpu)
{
	enum run_result result = RUN_AGAIN;
	unsigned long generation;
	bool flush;

	if (unlikely(vcpu_load(vcpu)))
		return RUN_OFF;
	WRITE_ONCE(vcpu->guest_cpu, smp_processor_id());
	smp_mb(); /* pairs with vm_flush and vcpu_kick */
	if (likely(!READ_ONCE(vcpu->kicked) && !(thread_flags() & WORK_ANY))) {
		generation = READ_ONCE(vcpu->vm->flush_generation);
		flush = generation != vcpu->flushed_generation;
		vcpu->flushed_generation = generation;
		/* The thread's FPU state is the guest's: have it in the registers. */
		if (test_thread_flag(TIF_NEED_FPU_LOAD))
			switch_fpu_return();
		registers_guest(&vcpu->in);
		result = shim_ops->vcpu_enter(vcpu, flush);
		registers_host(&vcpu->in);
	}
	WRITE_ONCE(vcpu->guest_cpu, -1);
	local_irq_enable();
	return result;
}

/* The end of a RUN: the exit's head, the event that is still to be delivered, and the wanted groups. */
static long run_return(struct vcpu *vcpu, __u32 reason, __u64 groups)
{
	struct umbra_exit *exit = &vcpu->run->exit;

	exit->reason = reason;
	exit->valid = groups;
	exit->event = vcpu->event;
	vcpu->event.flags = 0;
	if (groups) {
		if (vcpu_load(vcpu))
			return -EIO;
		shim_ops->vcpu_fetch(vcpu, groups);
		local_irq_enable();
	}
	return 0;
}

static long run_locked(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run, *in = &vcpu->in;
	__u32 rule = run_load(vcpu);
	int r;

	if (unlikely(rule)) {
		run->exit.rule = rule;
		return run_return(vcpu, UMBRA_EXIT_BAD_STATE, 0);
	}
	if (unlikely(in->flags)) {
		WRITE_ONCE(run->flags, 0);
		vcpu->flush_guest |= in->flags & UMBRA_RUN_FLUSH_TLB;
		if (in->flags & UMBRA_RUN_NO_ENTRY)
			return run_return(vcpu, UMBRA_EXIT_NONE, in->want);
	}
	for (;;) {
		switch (enter_once(vcpu)) {
		case RUN_EXIT:
			return run_return(vcpu, vcpu->exit_reason, in->want);
		case RUN_EMULATE:
			return run_return(vcpu, vcpu->exit_reason, in->want | in->want_emul);
		case RUN_FAULT:
			r = vm_fault(vcpu);
			if (r) {
				run->exit.access = vcpu->fault_access | (r == -ENOENT ? 0 : UMBRA_MEM_FAULT);
				run->exit.error = r == -ENOENT ? 0 : r;
				return run_return(vcpu, UMBRA_EXIT_MEM, in->want | in->want_emul);
			}
			break;
		case RUN_OFF:
			return -EIO;
		case RUN_AGAIN:
			break;
		}
		/* In-place re-entry: vcpu->event, whose delivery was cut short, is delivered again. (SDM 3C 28.2.4) */
		if (READ_ONCE(vcpu->kicked) || thread_flags() & WORK_USER) {
			WRITE_ONCE(vcpu->kicked, 0);
			return run_return(vcpu, UMBRA_EXIT_INTERRUPTED, in->want);
		}
		cond_resched();
	}
}

static long vcpu_run(struct vcpu *vcpu)
{
	long r;

	/* A descriptor can be inherited or passed on; the memory behind it is its owner's. */
	if (unlikely(current->mm != vcpu->vm->mm))
		return -EPERM;
	if (unlikely(atomic_cmpxchg(&vcpu->busy, 0, 1)))
		return -EBUSY;
	r = run_locked(vcpu);
	atomic_set_release(&vcpu->busy, 0);
	return r;
}

/* For smp_call_function: the interrupt itself makes that CPU leave the guest. */
void vcpu_leave_guest(void *unused)
{
}

static void vcpu_kick(struct vcpu *vcpu)
{
	int cpu;

	WRITE_ONCE(vcpu->kicked, 1);
	smp_mb(); /* pairs with enter_once */
	preempt_disable();
	cpu = READ_ONCE(vcpu->guest_cpu);
	if (cpu >= 0 && cpu != smp_processor_id())
		smp_call_function_single(cpu, vcpu_leave_guest, NULL, 0);
	preempt_enable();
}

static long vcpu_ioctl(struct file *file, unsigned int nr, unsigned long arg)
{
	struct vcpu *vcpu = file->private_data;

	if (nr != UMBRA_VCPU_RUN && nr != UMBRA_VCPU_KICK)
		return -ENOTTY;
	if (arg)
		return -EINVAL;
	if (nr == UMBRA_VCPU_RUN)
		return vcpu_run(vcpu);
	if (current->mm != vcpu->vm->mm)
		return -EPERM;
	vcpu_kick(vcpu);
	return 0;
}

/* RUN again, by the cheapest system call that carries a descriptor and nothing else. */
static loff_t vcpu_llseek(struct file *file, loff_t offset, int whence)
{
	return offset || whence ? -EINVAL : vcpu_run(file->private_data);
}

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vcpu *vcpu = file->private_data;
	int r;

	if (vma->vm_mm != vcpu->vm->mm)
		return -EPERM;
	if (vma->vm_pgoff || vma->vm_end - vma->vm_start != RUN_SIZE || !(vma->vm_flags & VM_SHARED) ||
	    vma->vm_flags & VM_EXEC)
		return -EINVAL;
	compat_vm_flags(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	r = vm_insert_page(vma, vma->vm_start, virt_to_page(vcpu->run));
	return r ?: vm_insert_page(vma, vma->vm_start + PAGE_SIZE, virt_to_page(vcpu->vapic));
}

/* Also the error path of vcpu_create: works on a half-made vCPU that no other thread knows. */
static void vcpu_free(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	spin_lock(&vm->pt_lock);
	vm->vcpu_count -= !list_empty(&vcpu->link);
	list_del(&vcpu->link);
	spin_unlock(&vm->pt_lock);
	if (vcpu->hw)
		shim_ops->vcpu_destroy(vcpu);
	while (vcpu->cache.count)
		free_page((unsigned long)vcpu->cache.page[--vcpu->cache.count]);
	free_page((unsigned long)vcpu->vapic);
	free_page((unsigned long)vcpu->run);
	kfree(vcpu);
	atomic_long_dec(&stat_vcpus);
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	struct vcpu *vcpu = file->private_data;
	struct vm *vm = vcpu->vm;

	vcpu_free(vcpu);
	vm_put(vm);
	return 0;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vcpu_ioctl,
	.llseek = vcpu_llseek,
	.mmap = vcpu_mmap,
	.release = vcpu_release,
};

static int vcpu_enlist(struct vm *vm, struct vcpu *vcpu)
{
	int r = -ENOSPC;

	spin_lock(&vm->pt_lock);
	if (vm->vcpu_count < UMBRA_MAX_VCPUS) {
		list_add(&vcpu->link, &vm->vcpus);
		vm->vcpu_count++;
		r = 0;
	}
	spin_unlock(&vm->pt_lock);
	return r;
}

int vcpu_create(struct vm *vm)
{
	struct vcpu *vcpu = kzalloc(sizeof(*vcpu), GFP_KERNEL_ACCOUNT);
	int r = -ENOMEM;

	if (!vcpu)
		return r;
	atomic_long_inc(&stat_vcpus);
	vcpu->vm = vm;
	vcpu->guest_cpu = -1;
	INIT_LIST_HEAD(&vcpu->link);
	vcpu->run = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vcpu->vapic = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (vcpu->run && vcpu->vapic)
		r = vcpu_enlist(vm, vcpu) ?: shim_ops->vcpu_create(vcpu);
	if (r) {
		vcpu_free(vcpu);
		return r;
	}
	kref_get(&vm->ref);
	r = anon_inode_getfd("umbra-vcpu", &vcpu_fops, vcpu, O_RDWR | O_CLOEXEC);
	if (r < 0) {
		vcpu_free(vcpu);
		vm_put(vm);
	}
	return r;
}
