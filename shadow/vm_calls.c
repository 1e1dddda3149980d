// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM's calls on a VM. Errnos are those of KVM and its documentation. */
#include <errno.h>
#include <string.h>

#include "channel.h"
#include "clock.h"
#include "core.h"
#include "fault.h"
#include "irqchip.h"
#include "msr.h"
#include "routing.h"
#include "vcpu.h"
#include "vm.h"

#define TSS_ADDR_MAX 0xffffd000ULL /* three pages below 4 GiB */
#define MSR_EXIT_REASONS \
	((uint64_t)(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER))
#define X2APIC_API_FLAGS ((uint64_t)(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))

/* Copies the call's structure out of the payload, which has exactly this size. */
static bool take(const struct call *call, void *to, uint32_t size)
{
	if (call->in_size != size)
		return false;
	memcpy(to, call->in, size);
	return true;
}

static void give(struct call *call, const void *from, uint32_t size)
{
	memcpy(call->out, from, size);
	call->out_size = size;
}

/* ---- KVM_CREATE_VM ---- */

/* One shadow, one VM. Types other than 0 (protected VMs) do not exist here. */
static int64_t create_vm(struct vm *vm, struct call *call)
{
	int ret;

	if (call->arg)
		return -EINVAL;
	if (vm->created)
		return -EEXIST;
	/* What there is after a try that failed is there for the next one: the shim makes one VM for a shadow. */
	if (!vm->in_shim) {
		ret = vm->shim->ops->create_vm(vm->shim);
		if (ret < 0)
			return ret;
		vm->in_shim = true;
	}
	ret = vm->clock ? 0 : clock_create(vm);
	if (!ret && !vm->routes)
		ret = routing_create(vm);
	if (!ret)
		ret = eventfds_start(vm);
	if (ret < 0)
		return ret;
	vm->created = true;
	return 0;
}

int64_t vm_create_vcpu(struct vm *vm, struct call *call)
{
	uint32_t count = atomic_load(&vm->vcpus);
	int ret;

	if (!vm->created)
		return -EBADF;
	if (call->nfds != 3)
		return -EINVAL;
	FAULT_POINT(create_vcpu, vm, NULL, call->arg);
	if (call->arg >= VM_MAX_VCPU_IDS || count >= VM_MAX_VCPUS)
		return -EINVAL;
	if (!vm->max_vcpu_ids) /* as KVM: from the first vCPU on the limit is fixed */
		vm->max_vcpu_ids = VM_MAX_VCPU_IDS;
	if (call->arg >= vm->max_vcpu_ids)
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++)
		if (vm->vcpu[i]->id == call->arg)
			return -EEXIST;
	ret = vcpu_create(vm, (uint32_t)call->arg, call->fds[0], call->fds[1], call->fds[2]);
	if (ret < 0)
		return ret;
	call->fds[1] = call->fds[2] = -1;
	return 0;
}

/* ---- KVM_ENABLE_CAP ---- */

static int cap_split_irqchip(struct vm *vm, uint64_t pins)
{
	if (pins > VM_MAX_ROUTES)
		return -EINVAL;
	if (vm_has_lapics(vm) || atomic_load(&vm->vcpus))
		return -EEXIST;
	vm->ioapic_pins = (uint32_t)pins;
	vm->split_irqchip = true;
	return 0;
}

static int cap_x2apic_api(struct vm *vm, uint64_t flags)
{
	if (flags & ~X2APIC_API_FLAGS)
		return -EINVAL;
	if (flags & KVM_X2APIC_API_USE_32BIT_IDS)
		vm->x2apic_api_32bit_ids = true;
	if (flags & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
		vm->x2apic_no_broadcast_quirk = true;
	return 0;
}

static int cap_disable_exits(struct vm *vm, uint64_t exits)
{
	int64_t offered = vm_check_extension(vm, KVM_CAP_X86_DISABLE_EXITS);

	if (offered <= 0 || (exits & ~(uint64_t)offered) || atomic_load(&vm->vcpus))
		return -EINVAL;
	vm->disabled_exits = (uint32_t)exits;
	return 0;
}

static int cap_max_vcpu_id(struct vm *vm, uint64_t ids)
{
	if (ids > VM_MAX_VCPU_IDS)
		return -EINVAL;
	if (!vm->max_vcpu_ids)
		vm->max_vcpu_ids = (uint32_t)ids;
	return vm->max_vcpu_ids == ids ? 0 : -EINVAL;
}

static int cap_manual_dirty(struct vm *vm, uint64_t mode)
{
	uint64_t allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (mode & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
	if (mode & ~allowed)
		return -EINVAL;
	vm->manual_dirty_protect = mode;
	return 0;
}

static int enable_cap_locked(struct vm *vm, const struct kvm_enable_cap *cap)
{
	uint64_t arg = cap->args[0];

	switch (cap->cap) {
	case KVM_CAP_SPLIT_IRQCHIP:
		return cap_split_irqchip(vm, arg);
	case KVM_CAP_X2APIC_API:
		return cap_x2apic_api(vm, arg);
	case KVM_CAP_X86_DISABLE_EXITS:
		return cap_disable_exits(vm, arg);
	case KVM_CAP_MAX_VCPU_ID:
		return cap_max_vcpu_id(vm, arg);
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return cap_manual_dirty(vm, arg);
	case KVM_CAP_EXCEPTION_PAYLOAD:
		vm->exception_payload = arg & 1;
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		vm->triple_fault_event = arg & 1;
		return 0;
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (arg & ~1ULL)
			return -EINVAL;
		vm->exit_on_emulation_failure = arg;
		return 0;
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (arg & ~MSR_EXIT_REASONS)
			return -EINVAL;
		vm->user_space_msr_mask = arg;
		return 0;
	default:
		return -EINVAL;
	}
}

static int64_t enable_cap(struct vm *vm, struct call *call)
{
	struct kvm_enable_cap cap;
	int ret;

	if (!take(call, &cap, sizeof(cap)) || cap.flags)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	ret = enable_cap_locked(vm, &cap);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

/* ---- interrupts ---- */

static int64_t set_gsi_routing(struct vm *vm, struct call *call)
{
	const struct kvm_irq_routing_entry *entries =
		(const void *)((const uint8_t *)call->in + sizeof(struct kvm_irq_routing));
	struct kvm_irq_routing routing;
	uint32_t bytes, count;

	if (call->in_size < sizeof(routing))
		return -EINVAL;
	memcpy(&routing, call->in, sizeof(routing));
	bytes = call->in_size - sizeof(routing);
	count = bytes / sizeof(*entries);
	if (routing.flags || bytes % sizeof(*entries) || call->arg > VM_MAX_ROUTES)
		return -EINVAL;
	return routing_set_piece(vm, entries, (uint32_t)call->arg, count, routing.nr);
}

static int64_t irq_line(struct vm *vm, struct call *call, bool status)
{
	struct kvm_irq_level level;
	int ret;

	if (!take(call, &level, sizeof(level)))
		return -EINVAL;
	if (!vm_has_lapics(vm))
		return -ENXIO;
	ret = routing_irq_line(vm, level.irq, level.level != 0, status);
	if (ret == -EINVAL)
		return ret;
	if (status) {
		level.status = ret;
		give(call, &level, sizeof(level));
	}
	return 0;
}

static int64_t signal_msi(struct vm *vm, struct call *call)
{
	struct kvm_msi msi;

	if (!take(call, &msi, sizeof(msi)) || !vm_has_lapics(vm))
		return -EINVAL;
	return routing_signal_msi(vm, &msi);
}

static int64_t irqfd(struct vm *vm, struct call *call)
{
	struct kvm_irqfd arg;
	int none = -1;

	if (!take(call, &arg, sizeof(arg)))
		return -EINVAL;
	if (arg.flags & ~(uint32_t)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	return eventfds_irqfd(vm, &arg, call->cookie, call->nfds > 0 ? &call->fds[0] : &none,
			      call->nfds > 1 ? &call->fds[1] : &none);
}

static int64_t ioeventfd(struct vm *vm, struct call *call)
{
	struct kvm_ioeventfd arg;
	int none = -1;

	if (!take(call, &arg, sizeof(arg)))
		return -EINVAL;
	return eventfds_ioeventfd(vm, &arg, call->cookie, call->nfds > 0 ? &call->fds[0] : &none);
}

/* ---- PIC, I/O APIC, PIT ---- */

static int64_t get_irqchip(struct vm *vm, struct call *call)
{
	struct kvm_irqchip chip;
	int ret;

	if (!take(call, &chip, sizeof(chip)))
		return -EINVAL;
	ret = irqchip_get(vm, &chip);
	if (!ret)
		give(call, &chip, sizeof(chip));
	return ret;
}

static int64_t set_irqchip(struct vm *vm, struct call *call)
{
	struct kvm_irqchip chip;

	return take(call, &chip, sizeof(chip)) ? irqchip_set(vm, &chip) : -EINVAL;
}

static int64_t create_pit2(struct vm *vm, struct call *call)
{
	struct kvm_pit_config config;

	return take(call, &config, sizeof(config)) ? irqchip_create_pit(vm, config.flags) : -EINVAL;
}

/* The older structure is the first part of the newer one. */
static int64_t get_pit(struct vm *vm, struct call *call, uint32_t size)
{
	struct kvm_pit_state2 state;
	int ret = irqchip_get_pit(vm, &state);

	if (!ret)
		give(call, &state, size);
	return ret;
}

static int64_t set_pit(struct vm *vm, struct call *call)
{
	struct kvm_pit_state2 state;

	memset(&state, 0, sizeof(state));
	return take(call, &state, sizeof(struct kvm_pit_state)) ? irqchip_set_pit(vm, &state, false) : -EINVAL;
}

static int64_t set_pit2(struct vm *vm, struct call *call)
{
	struct kvm_pit_state2 state;

	return take(call, &state, sizeof(state)) ? irqchip_set_pit(vm, &state, true) : -EINVAL;
}

static int64_t reinject_control(struct vm *vm, struct call *call)
{
	struct kvm_reinject_control control;

	return take(call, &control, sizeof(control)) ? irqchip_set_reinject(vm, control.pit_reinject) : -EINVAL;
}

/* ---- the rest ---- */

static int64_t get_clock(struct vm *vm, struct call *call)
{
	struct kvm_clock_data data;
	int ret;

	memset(&data, 0, sizeof(data));
	ret = clock_get(vm, &data);
	if (ret >= 0)
		give(call, &data, sizeof(data));
	return ret;
}

static int64_t set_clock(struct vm *vm, struct call *call)
{
	struct kvm_clock_data data;

	return take(call, &data, sizeof(data)) ? clock_set(vm, &data) : -EINVAL;
}

/* The structure, then the bitmaps of its ranges one after another, each nmsrs bits rounded up to 64. */
static int64_t set_msr_filter(struct vm *vm, struct call *call)
{
	struct kvm_msr_filter filter;
	uint64_t bytes = 0;

	if (call->in_size < sizeof(filter))
		return -EINVAL;
	memcpy(&filter, call->in, sizeof(filter));
	for (int i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		bytes += ((uint64_t)filter.ranges[i].nmsrs + 63) / 64 * 8;
	if (bytes != call->in_size - sizeof(filter))
		return -EINVAL;
	return msr_set_filter(vm, &filter, (const uint8_t *)call->in + sizeof(filter));
}

static int64_t set_tss_addr(struct vm *vm, uint64_t addr)
{
	if (addr > TSS_ADDR_MAX)
		return -EINVAL;
	vm->tss_addr = addr; /* an unrestricted guest needs no pages for it */
	return 0;
}

static int64_t set_identity_map_addr(struct vm *vm, struct call *call)
{
	uint64_t addr;

	if (!take(call, &addr, sizeof(addr)) || atomic_load(&vm->vcpus))
		return -EINVAL;
	vm->identity_map_addr = addr;
	return 0;
}

static int64_t set_boot_cpu_id(struct vm *vm, uint64_t id)
{
	if (atomic_load(&vm->vcpus))
		return -EBUSY;
	if (id >= (vm->max_vcpu_ids ? vm->max_vcpu_ids : VM_MAX_VCPU_IDS))
		return -EINVAL;
	vm->boot_cpu_id = (uint32_t)id;
	return 0;
}

/* The default for vCPUs to come. */
static int64_t set_tsc_khz(struct vm *vm, uint32_t khz)
{
	if (!vcpu_tsc_khz_possible(vm, khz))
		return -EINVAL;
	vm->tsc_khz = khz ? khz : vm->info.tsc_khz;
	return 0;
}

int64_t vm_interrupt_call(struct vm *vm, struct call *call)
{
	switch (call->nr) {
	case KVM_IRQ_LINE:
		return irq_line(vm, call, false);
	case KVM_IRQ_LINE_STATUS:
		return irq_line(vm, call, true);
	case KVM_SIGNAL_MSI:
		return signal_msi(vm, call);
	default:
		return -EINVAL;
	}
}

int64_t vm_call(struct vm *vm, struct call *call)
{
	if (call->nr == KVM_CREATE_VM)
		return create_vm(vm, call);
	if (!vm->created)
		return -EBADF;
	switch (call->nr) {
	case KVM_CHECK_EXTENSION:
		return vm_check_extension(vm, call->arg);
	case KVM_ENABLE_CAP:
		return enable_cap(vm, call);
	case KVM_CREATE_IRQCHIP:
		return irqchip_create(vm);
	case KVM_CREATE_PIT:
		return irqchip_create_pit(vm, KVM_PIT_SPEAKER_DUMMY);
	case KVM_CREATE_PIT2:
		return create_pit2(vm, call);
	case KVM_GET_IRQCHIP:
		return get_irqchip(vm, call);
	case KVM_SET_IRQCHIP:
		return set_irqchip(vm, call);
	case KVM_GET_PIT:
		return get_pit(vm, call, sizeof(struct kvm_pit_state));
	case KVM_SET_PIT:
		return set_pit(vm, call);
	case KVM_GET_PIT2:
		return get_pit(vm, call, sizeof(struct kvm_pit_state2));
	case KVM_SET_PIT2:
		return set_pit2(vm, call);
	case KVM_REINJECT_CONTROL:
		return reinject_control(vm, call);
	case KVM_CREATE_DEVICE:
		FAULT_POINT(create_device, call->in, NULL, call->in_size);
		return -ENODEV;
	case KVM_SET_TSS_ADDR:
		return set_tss_addr(vm, call->arg);
	case KVM_SET_IDENTITY_MAP_ADDR:
		return set_identity_map_addr(vm, call);
	case KVM_SET_BOOT_CPU_ID:
		return set_boot_cpu_id(vm, call->arg);
	case KVM_GET_TSC_KHZ:
		return vm->tsc_khz;
	case KVM_SET_TSC_KHZ:
		return set_tsc_khz(vm, (uint32_t)call->arg);
	case KVM_SET_GSI_ROUTING:
		return set_gsi_routing(vm, call);
	case KVM_IRQ_LINE:
	case KVM_IRQ_LINE_STATUS:
	case KVM_SIGNAL_MSI:
		return vm_interrupt_call(vm, call);
	case KVM_IRQFD:
		return irqfd(vm, call);
	case KVM_IOEVENTFD:
		return ioeventfd(vm, call);
	case KVM_REGISTER_COALESCED_MMIO:
		return coalesced_call(vm, call, true);
	case KVM_UNREGISTER_COALESCED_MMIO:
		return coalesced_call(vm, call, false);
	case KVM_GET_CLOCK:
		return get_clock(vm, call);
	case KVM_SET_CLOCK:
		return set_clock(vm, call);
	case KVM_X86_SET_MSR_FILTER:
		return set_msr_filter(vm, call);
	case KVM_GET_DIRTY_LOG:
		return slots_get_dirty(vm, call);
	case KVM_CLEAR_DIRTY_LOG:
		return slots_clear_dirty(vm, call);
	default:
		return -ENOTTY;
	}
}
