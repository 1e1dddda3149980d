// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls on /dev/kvm itself. Control thread. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "cpuid.h"
#include "cpuid_host.h"
#include "fault.h"
#include "msr.h"
#include "msr_internal.h"
#include "vm.h"

#ifndef KVM_X86_XCOMP_GUEST_SUPP
#define KVM_X86_XCOMP_GUEST_SUPP 0
#endif
#define MAX_CPUID 256					       /* entries */
#define MAX_IO_MSRS 256					       /* KVM_GET_MSRS: fewer than this */
#define SAME_CALL(a, b) (((a)&0x3fffffff) == ((b)&0x3fffffff)) /* but for the direction bits */

static long online_cpus = 1;

/* Counting CPUs reads files, which a sandboxed process cannot. */
static void __attribute__((constructor)) count_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	online_cpus = n < 1 ? 1 : n < VM_MAX_VCPUS ? n : VM_MAX_VCPUS;
}

static int64_t cap_xsave2(struct vm *vm)
{
	uint32_t size = vm->info.guest_xcr0 ? cpuid_xsave_size(vm->info.guest_xcr0) : 0;

	return size < sizeof(struct kvm_xsave) ? sizeof(struct kvm_xsave) : size;
}

/* What is there. Everything else reads 0, as an extension that this KVM has never heard of. */
static const struct {
	uint32_t cap;
	int32_t value;
} capabilities[] = {
	{ KVM_CAP_IRQCHIP, 1 },
	{ KVM_CAP_PIT, 1 },
	{ KVM_CAP_PIT2, 1 },
	{ KVM_CAP_PIT_STATE2, 1 },
	{ KVM_CAP_REINJECT_CONTROL, 1 },
	{ KVM_CAP_SPLIT_IRQCHIP, 1 },
	{ KVM_CAP_HLT, 1 },
	{ KVM_CAP_USER_MEMORY, 1 },
	{ KVM_CAP_SET_TSS_ADDR, 1 },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, 1 },
	{ KVM_CAP_EXT_CPUID, 1 },
	{ KVM_CAP_EXT_EMUL_CPUID, 1 },
	{ KVM_CAP_CLOCKSOURCE, 1 },
	{ KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC },
	{ KVM_CAP_KVMCLOCK_CTRL, 1 },
	{ KVM_CAP_NOP_IO_DELAY, 1 },
	{ KVM_CAP_MAX_VCPUS, VM_MAX_VCPUS },
	{ KVM_CAP_MAX_VCPU_ID, VM_MAX_VCPU_IDS },
	{ KVM_CAP_SET_BOOT_CPU_ID, 1 },
	{ KVM_CAP_NR_MEMSLOTS, VM_MAX_SLOTS },
	{ KVM_CAP_MULTI_ADDRESS_SPACE, 1 },
	{ KVM_CAP_SYNC_MMU, 1 },
	{ KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1 },
	{ KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1 },
	{ KVM_CAP_READONLY_MEM, 1 },
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET },
	{ KVM_CAP_MP_STATE, 1 },
	{ KVM_CAP_USER_NMI, 1 },
	{ KVM_CAP_INTR_SHADOW, 1 },
	{ KVM_CAP_IRQ_ROUTING, VM_MAX_ROUTES },
	{ KVM_CAP_IRQ_INJECT_STATUS, 1 },
	{ KVM_CAP_IRQFD, 1 },
	{ KVM_CAP_IRQFD_RESAMPLE, 1 },
	{ KVM_CAP_SIGNAL_MSI, 1 },
	{ KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK },
	{ KVM_CAP_TSC_DEADLINE_TIMER, 1 },
	{ KVM_CAP_IOEVENTFD, 1 },
	{ KVM_CAP_IOEVENTFD_NO_LENGTH, 1 },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, 1 },
	{ KVM_CAP_INTERNAL_ERROR_DATA, 1 },
	{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1 },
	{ KVM_CAP_COALESCED_MMIO, CHANNEL_RING_OFFSET / UMBRA_PAGE_SIZE }, /* the ring's page */
	{ KVM_CAP_COALESCED_PIO, 1 },
	{ KVM_CAP_IMMEDIATE_EXIT, 1 },
	{ KVM_CAP_ENABLE_CAP_VM, 1 },
	{ KVM_CAP_CHECK_EXTENSION_VM, 1 },
	{ KVM_CAP_SYS_ATTRIBUTES, 1 },
	{ KVM_CAP_VCPU_ATTRIBUTES, 1 },
	{ KVM_CAP_VCPU_EVENTS, 1 },
	{ KVM_CAP_EXCEPTION_PAYLOAD, 1 },
	{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1 },
	{ KVM_CAP_SREGS2, 1 },
	{ KVM_CAP_DEBUGREGS, 1 },
	{ KVM_CAP_X86_ROBUST_SINGLESTEP, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP |
					    KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB },
	{ KVM_CAP_XSAVE, 1 },
	{ KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE },
	{ KVM_CAP_MCE, MSR_MCE_BANKS },
	{ KVM_CAP_GET_TSC_KHZ, 1 },
	{ KVM_CAP_GET_MSR_FEATURES, 1 },
	{ KVM_CAP_X86_USER_SPACE_MSR, 1 },
	{ KVM_CAP_X86_MSR_FILTER, 1 },
};

int64_t vm_check_extension(struct vm *vm, uint64_t cap)
{
	switch (cap) {
	case KVM_CAP_NR_VCPUS:
		return online_cpus;
	case KVM_CAP_XCRS:
		return vm->info.guest_xcr0 != 0;
	case KVM_CAP_XSAVE2:
		return cap_xsave2(vm);
	default:
		break;
	}
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
		if (capabilities[i].cap == cap)
			return capabilities[i].value;
	}
	return 0;
}

static int64_t get_cpuid(struct vm *vm, struct call *call, bool emulated)
{
	struct kvm_cpuid2 head;
	int n;

	if (call->in_size < sizeof(head))
		return -EINVAL;
	memcpy(&head, call->in, sizeof(head));
	FAULT_POINT(get_cpuid, &head, NULL, emulated);
	if (head.nent < 1)
		return -E2BIG;
	if (head.nent > MAX_CPUID)
		head.nent = MAX_CPUID;
	n = emulated ? cpuid_emulated(vm, (void *)((uint8_t *)call->out + sizeof(head)), head.nent)
		     : cpuid_supported(vm, (void *)((uint8_t *)call->out + sizeof(head)), head.nent);
	if (n < 0)
		return n;
	head.nent = n;
	memcpy(call->out, &head, sizeof(head));
	call->out_size = sizeof(head) + n * sizeof(struct kvm_cpuid_entry2);
	return 0;
}

static int64_t get_msr_list(struct vm *vm, struct call *call, bool features)
{
	uint32_t list[64], room, n;

	if (call->in_size < sizeof(room))
		return -EINVAL;
	memcpy(&room, call->in, sizeof(room));
	n = features ? msr_feature_list(vm, list, 64) : msr_index_list(vm, list, 64);
	/* The true count goes back even when there is no room for the list. */
	memcpy(call->out, &n, sizeof(n));
	call->out_size = sizeof(n);
	if (room < n)
		return -E2BIG;
	memcpy((uint8_t *)call->out + sizeof(n), list, n * sizeof(list[0]));
	call->out_size += n * sizeof(list[0]);
	return 0;
}

/* Feature MSRs: as many as can be read, up to the first that cannot. */
static int64_t get_feature_msrs(struct vm *vm, struct call *call)
{
	struct kvm_msrs head;
	uint32_t i;

	if (call->in_size < sizeof(head))
		return -EINVAL;
	memcpy(&head, call->in, sizeof(head));
	if (head.nmsrs >= MAX_IO_MSRS)
		return -E2BIG;
	if (call->in_size < sizeof(head) + head.nmsrs * sizeof(struct kvm_msr_entry))
		return -EINVAL;
	call->out_size = sizeof(head) + head.nmsrs * sizeof(struct kvm_msr_entry);
	memcpy(call->out, call->in, call->out_size);
	for (i = 0; i < head.nmsrs; i++) {
		uint8_t *at = (uint8_t *)call->out + sizeof(head) + i * sizeof(struct kvm_msr_entry);
		struct kvm_msr_entry entry;
		uint64_t value;

		memcpy(&entry, at, sizeof(entry));
		if (msr_feature_get(vm, entry.index, &value))
			break;
		entry.data = value;
		memcpy(at, &entry, sizeof(entry));
	}
	return i;
}

static int64_t device_attr(struct vm *vm, struct call *call, bool get)
{
	struct kvm_device_attr attr;
	uint64_t value = vm->info.guest_xcr0;

	if (call->in_size < sizeof(attr))
		return -EINVAL;
	memcpy(&attr, call->in, sizeof(attr));
	if (attr.group || attr.attr != KVM_X86_XCOMP_GUEST_SUPP)
		return -ENXIO;
	if (get) {
		memcpy(call->out, &value, sizeof(value));
		call->out_size = sizeof(value);
	}
	return 0;
}

int64_t system_call(struct vm *vm, struct call *call)
{
	uint32_t nr = call->nr;
	uint64_t mce = MSR_MCG_SUPPORTED; /* the number of banks is KVM_CAP_MCE's answer */

	call->out_size = 0;
	if (SAME_CALL(nr, KVM_GET_API_VERSION))
		return call->arg ? -EINVAL : KVM_API_VERSION;
	if (SAME_CALL(nr, KVM_GET_VCPU_MMAP_SIZE))
		return call->arg ? -EINVAL : CHANNEL_RUN_PAGES * UMBRA_PAGE_SIZE;
	if (SAME_CALL(nr, KVM_CHECK_EXTENSION))
		return vm_check_extension(vm, call->arg);
	if (SAME_CALL(nr, KVM_GET_SUPPORTED_CPUID))
		return get_cpuid(vm, call, false);
	if (SAME_CALL(nr, KVM_GET_EMULATED_CPUID))
		return get_cpuid(vm, call, true);
	if (SAME_CALL(nr, KVM_GET_MSR_INDEX_LIST))
		return get_msr_list(vm, call, false);
	if (SAME_CALL(nr, KVM_GET_MSR_FEATURE_INDEX_LIST))
		return get_msr_list(vm, call, true);
	if (SAME_CALL(nr, KVM_GET_MSRS))
		return get_feature_msrs(vm, call);
	if (SAME_CALL(nr, KVM_GET_DEVICE_ATTR))
		return device_attr(vm, call, true);
	if (SAME_CALL(nr, KVM_HAS_DEVICE_ATTR))
		return device_attr(vm, call, false);
	if (SAME_CALL(nr, KVM_X86_GET_MCE_CAP_SUPPORTED)) {
		memcpy(call->out, &mce, sizeof(mce));
		call->out_size = sizeof(mce);
		return 0;
	}
	return -EINVAL; /* what KVM gives for a call it does not know on /dev/kvm */
}
