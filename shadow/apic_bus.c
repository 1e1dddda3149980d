// SPDX-License-Identifier: GPL-2.0-or-later
#include "lapic_regs.h"

/*
 * Messages between APICs and from devices: SDM 3A 11.6.2. Any thread: of other vCPUs only whole registers are read,
 * as a message on a bus may meet a destination before or after its change.
 */

#define BROADCAST_XAPIC 0xffu
#define BROADCAST_X2APIC 0xffffffffu

static bool match_logical(const struct lapic *lapic, bool x2apic, uint32_t dest)
{
	uint32_t ldr = lapic_reg(lapic, APIC_LDR);

	if (x2apic)
		return ldr >> 16 == dest >> 16 && ldr & dest & 0xffff;
	ldr >>= 24;
	if (lapic_reg(lapic, APIC_DFR) >> 28 == 0xf)
		return ldr & dest;
	if (lapic_reg(lapic, APIC_DFR) >> 28)
		return false; /* neither the flat nor the cluster model */
	return ldr >> 4 == dest >> 4 && ldr & dest & 0xf;
}

static bool match_dest(struct vm *vm, struct vcpu *from, struct vcpu *to, const struct apic_msg *msg)
{
	const struct lapic *lapic = &to->lapic;
	bool x2apic = lapic_is_x2apic(lapic);

	if (msg->dest == BROADCAST_X2APIC)
		return true;
	/* A device's 8-bit broadcast reaches x2APICs too, unless the VMM switched that off (KVM_CAP_X2APIC_API). */
	if (msg->dest == BROADCAST_XAPIC && (!x2apic || (!from && !vm->x2apic_no_broadcast_quirk)))
		return true;
	if (msg->logical)
		return match_logical(lapic, x2apic, msg->dest);
	/* An APIC whose ID has more than 8 bits can be reached before it enters x2APIC mode. */
	if (x2apic || to->id > 0xff)
		return msg->dest == to->id;
	return msg->dest == lapic_reg(lapic, APIC_ID) >> 24;
}

static bool match(struct vm *vm, struct vcpu *from, struct vcpu *to, const struct apic_msg *msg)
{
	if (!lapic_is_enabled(&to->lapic))
		return false;
	switch (msg->shorthand) {
	case 0:
		return match_dest(vm, from, to, msg);
	case 1:
		return to == from;
	case 2:
		return true;
	default:
		return to != from;
	}
}

/* On the vCPU's own thread its registers can be written at once. */
static void interrupt(struct vcpu *from, struct vcpu *to, const struct apic_msg *msg)
{
	if (from && from != to && msg->several)
		turns_asked(to);
	if (from != to)
		lapic_request(to, msg->vector, msg->level);
	else if (msg->vector < 16)
		lapic_error(to, APIC_ESR_RECEIVE_ILLEGAL);
	else
		lapic_set_irr(&to->lapic, msg->vector, msg->level);
}

/* 1: taken */
static int take(struct vcpu *from, struct vcpu *to, const struct apic_msg *msg)
{
	switch (msg->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		if (!lapic_sw_enabled(&to->lapic))
			return 0;
		interrupt(from, to, msg);
		if (msg->taken)
			*msg->taken |= 1ull << (to->id & 63);
		return 1;
	case APIC_NMI:
		vcpu_notify(to, VCPU_REQ_NMI);
		return 1;
	case APIC_INIT:
		/* A SIPI that came before it is void. */
		atomic_store(&to->lapic.sipi_vector, 0);
		atomic_store(&to->lapic.init_pending, 1);
		vcpu_notify(to, VCPU_REQ_EVENT);
		return 1;
	case APIC_SIPI:
		atomic_store(&to->lapic.sipi_vector, 0x100 | msg->vector);
		vcpu_notify(to, VCPU_REQ_EVENT);
		return 1;
	default: /* SMI, ExtINT, reserved: nobody takes them */
		return 0;
	}
}

/* Set once, never taken away, but not in an order that helps: ids may have gaps. */
static struct vcpu *vcpu_at(struct vm *vm, unsigned int n)
{
	return __atomic_load_n(&vm->vcpu[n], __ATOMIC_ACQUIRE);
}

/* Of those that match, the one that has taken the fewest so far: round robin. (Hardware asks for the lowest PPR, but
 * that register belongs to another thread, and SDM 3A 11.6.2.4 leaves the choice between equals open.) */
static int deliver_lowest(struct vm *vm, struct vcpu *from, const struct apic_msg *msg)
{
	unsigned int left = atomic_load(&vm->vcpus), least = 0, taken;
	struct vcpu *best = NULL, *to;
	int ret = -1;

	for (unsigned int n = 0; n < VM_MAX_VCPUS && left; n++) {
		to = vcpu_at(vm, n);
		if (!to)
			continue;
		left--;
		if (!match(vm, from, to, msg))
			continue;
		ret = 0;
		taken = atomic_load_explicit(&to->lapic.lowest_taken, memory_order_relaxed);
		if (!lapic_sw_enabled(&to->lapic) || (best && (int)(taken - least) >= 0))
			continue;
		best = to;
		least = taken;
	}
	if (!best)
		return ret;
	atomic_fetch_add_explicit(&best->lapic.lowest_taken, 1, memory_order_relaxed);
	return take(from, best, msg);
}

int apic_deliver(struct vm *vm, struct vcpu *from, const struct apic_msg *msg)
{
	unsigned int left = atomic_load(&vm->vcpus);
	int ret = -1;

	/* SDM 3A 11.5.3: such a message is never sent; a device's is refused by the receiver. */
	if (from && msg->mode <= APIC_LOWEST && msg->vector < 16) {
		lapic_error(from, APIC_ESR_SEND_ILLEGAL);
		return -1;
	}
	if (msg->shorthand == 1)
		return match(vm, from, from, msg) ? take(from, from, msg) : -1;
	if (msg->mode == APIC_LOWEST)
		return deliver_lowest(vm, from, msg);
	for (unsigned int n = 0; n < VM_MAX_VCPUS && left; n++) {
		struct vcpu *to = vcpu_at(vm, n);

		if (!to)
			continue;
		left--;
		if (!match(vm, from, to, msg))
			continue;
		ret = (ret < 0 ? 0 : ret) + take(from, to, msg);
	}
	return ret;
}

/* SDM 3A 11.6.1 */
void lapic_send_icr(struct vcpu *vcpu, uint32_t dest, uint32_t icr)
{
	struct apic_msg msg = {
		.dest = dest,
		.vector = icr,
		.mode = icr >> 8 & 7,
		.logical = icr & APIC_ICR_LOGICAL,
		.level = false, /* the trigger mode is ignored but for INIT's level de-assert */
		.shorthand = icr >> 18 & 3,
		.several = icr >> 18 & 2 || icr & APIC_ICR_LOGICAL,
	};

	/* INIT's level de-assert has had no effect since the Pentium 4. */
	if (msg.mode == APIC_INIT && icr & APIC_ICR_LEVEL && !(icr & APIC_ICR_ASSERT))
		return;
	/* Nobody resets or starts itself (SDM 3A tables 11-3, 11-4). */
	if ((msg.shorthand == 1 || msg.shorthand == 2) && (msg.mode == APIC_INIT || msg.mode == APIC_SIPI))
		return;
	if (msg.several)
		turns_sent(vcpu->vm);
	apic_deliver(vcpu->vm, vcpu, &msg);
}
