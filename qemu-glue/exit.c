/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <linux/kvm.h>
#include <string.h>

/*
 * The VMM's struct kvm_run is not the one that the shadow has: VMMs compute addresses and lengths from it, long after anything could have
 * been checked in a page that the shadow still writes. What an exit carries is copied when KVM_RUN ends, checked in the copy, and
 * then the VMM's alone; what a VMM hands in is copied when KVM_RUN begins.
 */

#define UNION_AT offsetof(struct kvm_run, hw)
#define EXIT(bytes) (1 + (bytes))
#define OF(member) EXIT(sizeof(((struct kvm_run *)0)->member))
#define SMALL 24 /* bytes: most exits fill no more of the union */

/* The exits that a shadow has, each with the bytes of the union that it fills; 0: it has no such exit. */
static const uint8_t exits[] = {
	[KVM_EXIT_UNKNOWN] = OF(hw),
	[KVM_EXIT_IO] = OF(io),
	[KVM_EXIT_DEBUG] = OF(debug),
	[KVM_EXIT_HLT] = EXIT(0),
	[KVM_EXIT_MMIO] = OF(mmio),
	[KVM_EXIT_IRQ_WINDOW_OPEN] = EXIT(0),
	[KVM_EXIT_SHUTDOWN] = EXIT(0),
	[KVM_EXIT_FAIL_ENTRY] = OF(fail_entry),
	[KVM_EXIT_INTR] = EXIT(0),
	[KVM_EXIT_SET_TPR] = EXIT(0),
	[KVM_EXIT_INTERNAL_ERROR] = OF(internal),
	[KVM_EXIT_IOAPIC_EOI] = OF(eoi),
	[KVM_EXIT_X86_RDMSR] = OF(msr),
	[KVM_EXIT_X86_WRMSR] = OF(msr),
};

/* Most are as long as one access; no call for those. */
static void copy_data(void *to, const void *from, size_t len)
{
	switch (len) {
	case 1:
		memcpy(to, from, 1);
		break;
	case 2:
		memcpy(to, from, 2);
		break;
	case 4:
		memcpy(to, from, 4);
		break;
	case 8:
		memcpy(to, from, 8);
		break;
	default:
		memcpy(to, from, len);
	}
}

/* What is copied is looked at where it now lies, not where it came from. */
static inline void copy_once(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	atomic_signal_fence(memory_order_seq_cst);
}

/* The VMM's answer to the last exit goes with the next KVM_RUN. */
static void answer_at(struct vcpu *vcpu, size_t offset, size_t bytes)
{
	vcpu->answer_at = offset;
	vcpu->answer_bytes = bytes;
}

bool exit_hand_in(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	struct kvm_run *area = vcpu->area;
	uint8_t immediate = __atomic_load_n(&run->immediate_exit, __ATOMIC_RELAXED);

	area->request_interrupt_window = run->request_interrupt_window;
	__atomic_store_n(&area->immediate_exit, immediate, __ATOMIC_RELAXED);
	area->cr8 = run->cr8;
	area->kvm_valid_regs = run->kvm_valid_regs;
	area->kvm_dirty_regs = run->kvm_dirty_regs;
	if (vcpu->answer_bytes)
		copy_data((uint8_t *)area + vcpu->answer_at, (const uint8_t *)run + vcpu->answer_at,
			  vcpu->answer_bytes);
	return immediate;
}

/* The data lie in the second page, which is all that they can fill. */
static bool take_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t offset = run->io.data_offset, bytes = (uint64_t)run->io.size * run->io.count;
	uint8_t size = run->io.size;

	if ((size != 1 && size != 2 && size != 4) || run->io.direction > KVM_EXIT_IO_OUT ||
	    offset < CHANNEL_PIO_OFFSET || offset > CHANNEL_RING_OFFSET || bytes > CHANNEL_RING_OFFSET - offset)
		return false;
	if (run->io.direction == KVM_EXIT_IO_IN)
		answer_at(vcpu, offset, bytes);
	else
		copy_data((uint8_t *)run + offset, (const uint8_t *)vcpu->area + offset, bytes);
	return true;
}

static bool take_mmio(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	if (!run->mmio.is_write)
		answer_at(vcpu, offsetof(struct kvm_run, mmio.data), sizeof(run->mmio.data));
	return run->mmio.len && run->mmio.len <= sizeof(run->mmio.data) && run->mmio.is_write <= 1;
}

static bool error_is_sound(const struct kvm_run *run)
{
	const uint64_t has_bytes = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;

	if (run->internal.ndata > sizeof(run->internal.data) / sizeof(run->internal.data[0]))
		return false;
	return run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || !run->internal.ndata ||
	       !(run->emulation_failure.flags & has_bytes) ||
	       run->emulation_failure.insn_size <= sizeof(run->emulation_failure.insn_bytes);
}

bool exit_take(struct vcpu *vcpu)
{
	const size_t head = offsetof(struct kvm_run, exit_reason);
	struct kvm_run *run = vcpu->run;
	const uint8_t *area = (const uint8_t *)vcpu->area;
	uint32_t reason;

	copy_once((uint8_t *)run + head, area + head, UNION_AT - head);
	reason = run->exit_reason;
	vcpu->answer_bytes = 0;
	if (reason >= sizeof(exits) || !exits[reason])
		return false;
	copy_once((uint8_t *)run + UNION_AT, area + UNION_AT, SMALL);
	if (exits[reason] > EXIT(SMALL))
		copy_once((uint8_t *)run + UNION_AT, area + UNION_AT, exits[reason] - EXIT(0));
	switch (reason) {
	case KVM_EXIT_IO:
		return take_io(vcpu);
	case KVM_EXIT_MMIO:
		return take_mmio(vcpu);
	case KVM_EXIT_INTERNAL_ERROR:
		return error_is_sound(run);
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		answer_at(vcpu, offsetof(struct kvm_run, msr), sizeof(run->msr));
		return true;
	default:
		return true;
	}
}
