// SPDX-License-Identifier: GPL-2.0-or-later
/* Instructions that guests do not have; among them the one that calls the hypervisor. */
#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "core.h"
#include "fault.h"
#include "sys.h"
#include "vcpu.h"

#define HYPERCALL_LEN 3 /* bytes */
#define ICR_VECTOR 0xff
#define ICR_MODE_SHIFT 8

static struct vcpu *vcpu_by_id(struct vm *vm, uint32_t apic_id)
{
	uint32_t count = atomic_load(&vm->vcpus);

	for (uint32_t i = 0; i < count; i++) {
		struct vcpu *vcpu = __atomic_load_n(&vm->vcpu[i], __ATOMIC_ACQUIRE);

		if (vcpu->id == apic_id)
			return vcpu;
	}
	return NULL;
}

/* Ends the target's halt, or its next one: guests' spin locks sleep so, with interrupts off. */
static int64_t hypercall_kick(struct vcpu *vcpu, uint32_t apic_id)
{
	struct vcpu *target = vcpu_by_id(vcpu->vm, apic_id);

	if (target) {
		atomic_store(&target->pv_unhalt, 1);
		vcpu_notify(target, VCPU_REQ_EVENT);
	}
	return 0;
}

/* The guest waits for a vCPU that does not run. If that one waits for a turn it has ours; else the scheduler chooses. */
static int64_t hypercall_yield(struct vcpu *vcpu, uint32_t apic_id)
{
	struct vcpu *target = vcpu_by_id(vcpu->vm, apic_id);

	if (!target || target == vcpu)
		return 0;
	turns_needed(vcpu->vm);
	if (atomic_load(&target->turn.parked)) {
		turns_let_go(target);
		turns_give(vcpu);
	} else {
		sys_sched_yield();
	}
	return 0;
}

/* a0, a1: bitmap of APIC ids from min on; 64 bits each in 64-bit mode, else 32. */
static int64_t hypercall_send_ipi(struct vcpu *vcpu, const uint64_t bitmap[2], uint32_t min, uint64_t icr,
				  uint32_t width)
{
	struct apic_msg msg = { .vector = icr & ICR_VECTOR, .mode = icr >> ICR_MODE_SHIFT & 7 };
	int64_t count = 0;

	if (msg.mode != 0 && msg.mode != 4) /* fixed and NMI */
		return -KVM_EINVAL;
	msg.several = (bitmap[0] & (bitmap[0] - 1)) || (bitmap[1] & (bitmap[1] - 1)) || (bitmap[0] && bitmap[1]);
	if (msg.several)
		turns_sent(vcpu->vm);
	for (uint32_t i = 0; i < 2 * width; i++) {
		uint64_t id = (uint64_t)min + i;
		int ret;

		if (!(bitmap[i / width] >> (i % width) & 1))
			continue;
		if (id >= 0xffffffff)
			break;
		msg.dest = (uint32_t)id;
		ret = apic_deliver(vcpu->vm, vcpu, &msg);
		if (ret > 0)
			count += ret;
	}
	return count;
}

static int64_t hypercall(struct vcpu *vcpu, bool code64)
{
	struct umbra_run *run = vcpu->run;
	uint64_t mask = code64 ? ~0ULL : 0xffffffff;
	uint64_t nr = run->gpr[UMBRA_RAX] & mask, a1 = run->gpr[UMBRA_RCX] & mask;
	uint64_t bitmap[2] = { run->gpr[UMBRA_RBX] & mask, a1 };

	if (vcpu_cpl(vcpu))
		return -KVM_EPERM;
	switch (nr) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;
	case KVM_HC_KICK_CPU:
		return hypercall_kick(vcpu, (uint32_t)a1);
	case KVM_HC_SCHED_YIELD:
		FAULT_POINT(yield, vcpu->vm, NULL, bitmap[0]);
		return hypercall_yield(vcpu, (uint32_t)bitmap[0]);
	case KVM_HC_SEND_IPI:
		FAULT_POINT(send_ipi, vcpu, bitmap, run->gpr[UMBRA_RDX]);
		if (!vm_has_lapics(vcpu->vm))
			return -KVM_ENOSYS;
		return hypercall_send_ipi(vcpu, bitmap, (uint32_t)run->gpr[UMBRA_RDX], run->gpr[UMBRA_RSI] & mask,
					  code64 ? 64 : 32);
	default:
		return -KVM_ENOSYS;
	}
}

/* VMCALL 0F 01 C1, VMMCALL 0F 01 D9 */
static bool is_hypercall(const uint8_t *bytes, uint32_t have)
{
	return have == HYPERCALL_LEN && bytes[0] == 0x0f && bytes[1] == 0x01 && (bytes[2] == 0xc1 || bytes[2] == 0xd9);
}

int exit_hypercall(struct vcpu *vcpu)
{
	bool code64 = vcpu_code64(vcpu); /* fetches what the privilege level needs, too */
	int64_t ret = hypercall(vcpu, code64);

	vcpu->run->gpr[UMBRA_RAX] = code64 ? (uint64_t)ret : (uint32_t)ret;
	if (!vcpu->exit.insn_len)
		vcpu->exit.insn_len = HYPERCALL_LEN;
	vcpu_skip_insn(vcpu);
	return EXIT_RESUME;
}

int exit_undefined(struct vcpu *vcpu)
{
	uint8_t bytes[HYPERCALL_LEN];

	if (is_hypercall(bytes, access_fetch(vcpu, bytes, sizeof(bytes))))
		return exit_hypercall(vcpu);
	inject_ud(vcpu);
	return EXIT_RESUME;
}
