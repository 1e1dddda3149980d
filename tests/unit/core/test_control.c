// SPDX-License-Identifier: GPL-2.0-or-later
/* The control socket: VM calls, their errnos, malformed messages. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel_fds.h"
#include "channel_io.h"
#include "irqchip.h"
#include "machine.h"
#include "routing.h"

static int vmm, shadow;

static void connect_vmm(void)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	vmm = fds[0];
	shadow = fds[1];
}

static void setup(void)
{
	machine_start(false);
	connect_vmm();
}

static void setup_lapics(void)
{
	machine_start(true);
	lapic_mmio_write(m.vcpu, 0xf0, 4, &(uint32_t) { 0x1ff }); /* software enable */
	connect_vmm();
}

static int64_t reply(void)
{
	static uint8_t payload[CHANNEL_PAYLOAD_MAX];
	struct channel_msg msg;
	int fds[CHANNEL_FDS_MAX], nfds;

	ck_assert(control_serve(shadow, &m.vm));
	ck_assert_int_eq(channel_receive(vmm, &msg, payload, fds, &nfds), 1);
	return msg.ret;
}

static int64_t ask(uint16_t kind, uint32_t nr, uint64_t arg, const void *payload, size_t size)
{
	struct channel_msg msg = { .kind = kind, .nr = nr, .arg = arg };

	ck_assert_int_eq(channel_send(vmm, &msg, payload, size), 0);
	return reply();
}

/* A KVM_CREATE_VM that fails half-way, for want of descriptors, can be called again: there is one VM in the shim. */
START_TEST(create_again)
{
	static struct fake_shim fake;
	static struct vm vm;
	struct call create = { .nr = KVM_CREATE_VM };
	struct rlimit limit, none;
	struct vm_clock *clock;

	fake_init(&fake);
	ck_assert_int_eq(vm_init(&vm, &fake.shim), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit) { 0, limit.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(vm_call(&vm, &create), -EMFILE);
	clock = vm.clock;
	ck_assert_int_eq(vm_call(&vm, &create), -EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert(!vm.created);
	ck_assert_int_eq(vm_call(&vm, &create), 0);
	ck_assert_int_eq(vm_call(&vm, &create), -EEXIST);
	ck_assert_uint_eq(fake.vms, 1);
	ck_assert_ptr_eq(vm.clock, clock);
}
END_TEST

START_TEST(malformed)
{
	struct channel_msg msg = { .version = CHANNEL_VERSION, .kind = CHANNEL_VM, .nr = KVM_CHECK_EXTENSION };
	size_t size = sizeof(msg);

	if (_i == 0)
		size = 5;
	else if (_i == 1)
		msg.version = 99;
	else if (_i == 2)
		msg.size = 8; /* not there */
	else if (_i == 3)
		msg.kind = 0;
	else
		msg.kind = 99;
	ck_assert_int_eq(send(vmm, &msg, size, 0), (ssize_t)size);
	ck_assert_int_eq(reply(), -EBADMSG);
	ck_assert_int_ge(ask(CHANNEL_VM, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY, NULL, 0), 0); /* still there */
}
END_TEST

START_TEST(wrong_kinds)
{
	ck_assert_int_eq(ask(CHANNEL_HELLO, 0, 0, NULL, 0), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_DEATH, 0, 0, NULL, 0), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, 0x12345678, 0, NULL, 0), -ENOTTY);
	ck_assert_int_eq(ask(CHANNEL_MEMORY, 0, 0, "x", 1), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VCPU, 0, 1, NULL, 0), -EINVAL);
}
END_TEST

START_TEST(glue_leaves)
{
	close(vmm);
	ck_assert(!control_serve(shadow, &m.vm));
}
END_TEST

/* Structures of the wrong size, a byte short and a byte long: an errno, and nothing is read past the end. */
START_TEST(wrong_sizes)
{
	static const struct {
		uint32_t nr, size;
	} rows[] = {
		{ KVM_ENABLE_CAP, sizeof(struct kvm_enable_cap) },
		{ KVM_SET_GSI_ROUTING, sizeof(struct kvm_irq_routing) },
		{ KVM_IRQ_LINE, sizeof(struct kvm_irq_level) },
		{ KVM_IRQ_LINE_STATUS, sizeof(struct kvm_irq_level) },
		{ KVM_SIGNAL_MSI, sizeof(struct kvm_msi) },
		{ KVM_IRQFD, sizeof(struct kvm_irqfd) },
		{ KVM_IOEVENTFD, sizeof(struct kvm_ioeventfd) },
		{ KVM_SET_CLOCK, sizeof(struct kvm_clock_data) },
		{ KVM_X86_SET_MSR_FILTER, sizeof(struct kvm_msr_filter) },
		{ KVM_GET_DIRTY_LOG, sizeof(struct kvm_dirty_log) },
		{ KVM_SET_IDENTITY_MAP_ADDR, 8 },
	};
	static uint8_t zero[4096];

	m.vm.split_irqchip = true;
	ck_assert_int_eq(ask(CHANNEL_VM, rows[_i].nr, 0, zero, rows[_i].size - 1), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, rows[_i].nr, 0, zero, rows[_i].size + 1), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, rows[_i].nr, 0, NULL, 0), -EINVAL);
}
END_TEST

static int64_t enable(uint32_t cap, uint32_t flags, uint64_t arg)
{
	struct kvm_enable_cap in = { .cap = cap, .flags = flags, .args = { arg } };

	return ask(CHANNEL_VM, KVM_ENABLE_CAP, 0, &in, sizeof(in));
}

START_TEST(capabilities)
{
	ck_assert_int_eq(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1, 1), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_EXCEPTION_PAYLOAD, 0, 1), 0);
	ck_assert(m.vm.exception_payload);
	ck_assert_int_eq(enable(KVM_CAP_X86_TRIPLE_FAULT_EVENT, 0, 1), 0);
	ck_assert(m.vm.triple_fault_event);
	ck_assert_int_eq(enable(KVM_CAP_X2APIC_API, 0, 4), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_X2APIC_API, 0, 3), 0);
	ck_assert(m.vm.x2apic_api_32bit_ids && m.vm.x2apic_no_broadcast_quirk);
	ck_assert_int_eq(enable(KVM_CAP_X86_USER_SPACE_MSR, 0, 8), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_X86_USER_SPACE_MSR, 0, 7), 0);
	ck_assert_uint_eq(m.vm.user_space_msr_mask, 7);
	ck_assert_int_eq(enable(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 2), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 3), 0);
	ck_assert_int_eq(enable(KVM_CAP_SPLIT_IRQCHIP, 0, 100000), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_SPLIT_IRQCHIP, 0, 24), -EEXIST);
	m.vm.vcpus = 0;
	ck_assert_int_eq(enable(KVM_CAP_SPLIT_IRQCHIP, 0, 24), 0);
	ck_assert_uint_eq(m.vm.ioapic_pins, 24);
	ck_assert_int_eq(enable(KVM_CAP_SPLIT_IRQCHIP, 0, 24), -EEXIST);
	/* once, or the same again */
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, VM_MAX_VCPU_IDS + 1), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, 0), 0);
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, 2), 0);
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, 2), 0);
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, 3), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, 0), -EINVAL);
	ck_assert_int_eq(enable(9999, 0, 0), -EINVAL);
}
END_TEST

START_TEST(errnos)
{
	struct kvm_irq_level level = { .irq = 1 };
	struct kvm_msi msi = { 0 };
	struct kvm_irqfd irqfd = { 0 };
	struct kvm_pit_config pit = { 0 };
	uint64_t addr = 0xfffbc000;

	ck_assert_int_eq(ask(CHANNEL_VM, KVM_CREATE_VM, 0, NULL, 0), -EEXIST);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_CREATE_VM, 1, NULL, 0), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_CREATE_IRQCHIP, 0, NULL, 0), -EINVAL); /* a vCPU is there */
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_CREATE_PIT2, 0, &pit, sizeof(pit)), -ENOENT);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_GET_PIT2, 0, NULL, 0), -ENXIO);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_TSS_ADDR, 0xffffd000, NULL, 0), 0);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_TSS_ADDR, 0xffffe000, NULL, 0), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_IDENTITY_MAP_ADDR, 0, &addr, 8), -EINVAL); /* a vCPU is there */
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_BOOT_CPU_ID, 0, NULL, 0), -EBUSY);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_IRQ_LINE, 0, &level, sizeof(level)), -ENXIO); /* no irqchip */
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SIGNAL_MSI, 0, &msi, sizeof(msi)), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_IRQFD, 0, &irqfd, sizeof(irqfd)), -EINVAL);
	m.vm.split_irqchip = true;
	irqfd.flags = 0x80;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_IRQFD, 0, &irqfd, sizeof(irqfd)), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_CREATE_IRQCHIP, 0, NULL, 0), -EEXIST);
	m.vm.created = false;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_CHECK_EXTENSION, 0, NULL, 0), -EBADF);
}
END_TEST

START_TEST(routing_counts)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry[2];
	} in;

	memset(&in, 0, sizeof(in));
	m.vm.split_irqchip = true;
	in.head.nr = 1; /* more came along */
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, sizeof(in)), -EINVAL);
	in.head.nr = 0xffffffff;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, sizeof(in)), -EINVAL);
	in.head.nr = 2;
	in.head.flags = 1;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, sizeof(in)), -EINVAL);
	in.head.flags = 0;
	in.entry[0].type = in.entry[1].type = KVM_IRQ_ROUTING_MSI;
	in.entry[0].u.msi.address_lo = in.entry[1].u.msi.address_lo = 0xfee00000;
	in.entry[1].gsi = 1;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, sizeof(in)), 0);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, sizeof(in) - 1), -EINVAL);
}
END_TEST

/* Larger tables than a message come in pieces. Nothing is valid before the last one, and a piece out of turn ends it. */
START_TEST(routing_pieces)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry[2];
	} in;
	const size_t one = sizeof(in) - sizeof(in.entry[0]);

	memset(&in, 0, sizeof(in));
	in.head.nr = 3;
	in.entry[0].type = in.entry[1].type = KVM_IRQ_ROUTING_MSI;
	in.entry[0].u.msi.address_lo = in.entry[1].u.msi.address_lo = 0xfee00000;
	in.entry[0].u.msi.data = in.entry[1].u.msi.data = 0x55;
	in.entry[0].gsi = 8;
	in.entry[1].gsi = 9;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, sizeof(in)), 0);
	ck_assert_int_eq(routing_set_irq(&m.vm, 9, 1), -1);
	in.entry[0].gsi = 4095;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 2, &in, one), 0);
	ck_assert_int_ge(routing_set_irq(&m.vm, 9, 1), 0);
	ck_assert_int_ge(routing_set_irq(&m.vm, 4095, 1), 0);

	in.entry[0].gsi = 10;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 2, &in, one), -EINVAL); /* nothing was begun */
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, one), 0);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 2, &in, one), -EINVAL); /* one is missing */
	in.entry[0].gsi = 11;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 1, &in, sizeof(in)), 0);
	ck_assert_int_eq(routing_set_irq(&m.vm, 8, 1), -1);
	ck_assert_int_ge(routing_set_irq(&m.vm, 10, 1), 0);

	in.entry[0].gsi = 12;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0, &in, one), 0);
	in.entry[0].gsi = 4096;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 1, &in, one), -EINVAL);
	in.entry[0].gsi = 13;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 1, &in, sizeof(in)), -EINVAL); /* over with the failure */
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 3, &in, one), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0xffffffffffffffff, &in, one), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_GSI_ROUTING, 0x100000000, &in, one), -EINVAL);
	ck_assert_int_ge(routing_set_irq(&m.vm, 10, 1), 0);
	ck_assert_int_eq(routing_set_irq(&m.vm, 12, 1), -1);
}
END_TEST

/* KVM_CREATE_VCPU: what the memfd must be. */
START_TEST(vcpu_area)
{
	struct channel_msg msg = { .kind = CHANNEL_VCPU, .arg = 1 };
	int memfd = machine_memfd(_i == 1 ? CHANNEL_VCPU_SIZE - 4096 : CHANNEL_VCPU_SIZE, NULL);
	int fds[3] = { memfd, eventfd(0, EFD_NONBLOCK), eventfd(0, 0) };

	if (_i != 0)
		fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK);
	if (_i == 2)
		fds[0] = fds[1]; /* no memfd at all */
	if (_i == 3)
		msg.arg = 0; /* there already */
	if (_i == 4)
		msg.arg = VM_MAX_VCPU_IDS;
	ck_assert_int_eq(channel_send_fds(vmm, &msg, NULL, 0, fds, 3), 0);
	ck_assert_int_eq(reply(), _i == 3 ? -EEXIST : -EINVAL);
	ck_assert_uint_eq(m.vm.vcpus, 1);
}
END_TEST

/* The hardware cannot have one more, or its thread cannot be watched: nothing is left of it, and the next one can be made. */
START_TEST(vcpu_fails_late)
{
	struct channel_msg msg = { .kind = CHANNEL_VCPU, .arg = 1 };
	int memfd = machine_memfd(CHANNEL_VCPU_SIZE, NULL), good = eventfd(0, EFD_NONBLOCK), other = eventfd(0, 0);
	int fds[3] = { memfd, good, other };

	if (_i == 1)
		fds[1] = machine_memfd(4096, NULL);
	if (_i == 2)
		fds[1] = other; /* it blocks */
	if (_i == 3)
		fds[2] = vmm;

	fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK);
	m.fake.create_ret = _i ? 0 : -ENOSPC;
	ck_assert_int_eq(channel_send_fds(vmm, &msg, NULL, 0, fds, 3), 0);
	ck_assert_int_eq(reply(), _i ? -EINVAL : -ENOMEM);
	ck_assert_uint_eq(m.vm.vcpus, 1);
	ck_assert_uint_eq(m.fake.destroyed, _i != 0);
	m.fake.create_ret = 0;
	fds[1] = good;
	fds[2] = other;
	ck_assert_int_eq(channel_send_fds(vmm, &msg, NULL, 0, fds, 3), 0);
	ck_assert_int_eq(reply(), 0);
	ck_assert_uint_eq(m.vm.vcpus, 2);
	ck_assert_uint_eq(m.vm.vcpu[1]->id, 1);
}
END_TEST

/* The VMM's own end of the socket, in the place of each descriptor that is kept: refused, and its closing is seen. */
START_TEST(own_end_of_socket)
{
	struct channel_memory memory = { .slot = 5, .gpa = 1 << 30, .size = 4096, .userspace_addr = 1 << 30 };
	struct kvm_irqfd irqfd = { .gsi = 5 }, resample = { .gsi = 5, .flags = KVM_IRQFD_FLAG_RESAMPLE };
	struct kvm_ioeventfd io = { .addr = 0x1000, .len = 4 };
	struct channel_msg msg = { .kind = CHANNEL_VM, .cookie = 77 };
	int memfd = machine_memfd(CHANNEL_VCPU_SIZE, NULL);
	int fds[3] = { vmm, vmm, vmm };
	struct pollfd end = { .fd = shadow };

	fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK);
	switch (_i) {
	case 0:
		msg.nr = KVM_IRQFD;
		ck_assert_int_eq(channel_send_fds(vmm, &msg, &irqfd, sizeof(irqfd), fds, 1), 0);
		break;
	case 1:
		m.vm.vcpus = 0;
		m.vm.split_irqchip = false;
		ck_assert_int_eq(irqchip_create(&m.vm), 0);
		m.vm.vcpus = 1;
		msg.nr = KVM_IRQFD;
		fds[0] = eventfd(0, 0);
		ck_assert_int_eq(channel_send_fds(vmm, &msg, &resample, sizeof(resample), fds, 2), 0);
		break;
	case 2:
		msg.nr = KVM_IOEVENTFD;
		ck_assert_int_eq(channel_send_fds(vmm, &msg, &io, sizeof(io), fds, 1), 0);
		break;
	case 3:
		msg.kind = CHANNEL_MEMORY;
		ck_assert_int_eq(channel_send_fds(vmm, &msg, &memory, sizeof(memory), fds, 1), 0);
		break;
	default:
		msg.kind = CHANNEL_VCPU;
		msg.arg = 1;
		fds[0] = memfd;
		fds[_i == 4 ? 2 : 1] = eventfd(0, EFD_NONBLOCK);
		ck_assert_int_eq(channel_send_fds(vmm, &msg, NULL, 0, fds, 3), 0);
	}
	ck_assert_int_eq(reply(), -EINVAL);
	close(vmm);
	ck_assert_int_eq(poll(&end, 1, 1000), 1);
	ck_assert(end.revents & POLLHUP);
	ck_assert(!control_serve(shadow, &m.vm));
}
END_TEST

START_TEST(vcpu_limits)
{
	struct channel_msg msg = { .kind = CHANNEL_VCPU, .arg = 5 };
	int memfd = machine_memfd(CHANNEL_VCPU_SIZE, NULL), fds[3] = { memfd, eventfd(0, EFD_NONBLOCK), eventfd(0, 0) };

	fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK);
	m.vm.max_vcpu_ids = 5;
	ck_assert_int_eq(channel_send_fds(vmm, &msg, NULL, 0, fds, 3), 0);
	ck_assert_int_eq(reply(), -EINVAL);
	m.vm.max_vcpu_ids = 0;
	m.vm.vcpus = VM_MAX_VCPUS;
	ck_assert_int_eq(channel_send_fds(vmm, &msg, NULL, 0, fds, 3), 0);
	ck_assert_int_eq(reply(), -EINVAL);
	m.vm.vcpus = 1;
	ck_assert_int_eq(channel_send_fds(vmm, &msg, NULL, 0, fds, 3), 0);
	ck_assert_int_eq(reply(), 0);
	/* from now on the limit is fixed */
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, 6), -EINVAL);
	ck_assert_int_eq(enable(KVM_CAP_MAX_VCPU_ID, 0, VM_MAX_VCPU_IDS), 0);
}
END_TEST

START_TEST(boot_cpu)
{
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_BOOT_CPU_ID, 0, NULL, 0), -EBUSY);
	m.vm.vcpus = 0;
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_BOOT_CPU_ID, VM_MAX_VCPU_IDS, NULL, 0), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_BOOT_CPU_ID, 3, NULL, 0), 0);
	m.vm.split_irqchip = true;
	for (uint32_t id = 0; id < 4; id += 3) {
		struct vcpu *vcpu = calloc(1, sizeof(*vcpu));

		vcpu->kvm = m.kvm;
		ck_assert_int_eq(vcpu_init(vcpu, &m.vm, id), 0);
		ck_assert_uint_eq(vcpu->mp_state, id ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
		ck_assert_uint_eq(vcpu->apic_base >> 8 & 1, id == 3);
		vcpu_fini(vcpu);
		free(vcpu);
	}
}
END_TEST

START_TEST(tsc_khz)
{
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_GET_TSC_KHZ, 0, NULL, 0), 1000000);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_TSC_KHZ, 2000000, NULL, 0), -EINVAL);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_TSC_KHZ, 1000200, NULL, 0), 0);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_GET_TSC_KHZ, 0, NULL, 0), 1000200);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_SET_TSC_KHZ, 0, NULL, 0), 0);
	ck_assert_int_eq(ask(CHANNEL_VM, KVM_GET_TSC_KHZ, 0, NULL, 0), 1000000);
}
END_TEST

/* Random bytes in well-formed packets: whatever comes back, it comes back, and ASan has nothing to say. */
START_TEST(random_messages)
{
	static const uint32_t calls[] = { KVM_CHECK_EXTENSION,
					  KVM_ENABLE_CAP,
					  KVM_SET_GSI_ROUTING,
					  KVM_IRQ_LINE_STATUS,
					  KVM_SIGNAL_MSI,
					  KVM_IRQFD,
					  KVM_IOEVENTFD,
					  KVM_GET_CLOCK,
					  KVM_SET_CLOCK,
					  KVM_X86_SET_MSR_FILTER,
					  KVM_GET_DIRTY_LOG,
					  KVM_CLEAR_DIRTY_LOG,
					  KVM_GET_SUPPORTED_CPUID,
					  KVM_GET_MSR_INDEX_LIST,
					  KVM_GET_MSRS,
					  KVM_GET_IRQCHIP,
					  KVM_SET_IRQCHIP,
					  KVM_CREATE_PIT2,
					  KVM_GET_PIT2,
					  KVM_SET_PIT2,
					  KVM_SET_PIT,
					  KVM_REINJECT_CONTROL,
					  KVM_CREATE_IRQCHIP };
	static const uint32_t sizes[] = { 0, 4, 8, 16, 24, 32, 48, 64, 104, 128, 392, 4096 };
	uint8_t payload[4096];

	srand(1 + (unsigned int)_i);
	if (_i % 4 == 3) { /* a whole one */
		m.vm.vcpus = 0;
		ck_assert_int_eq(irqchip_create(&m.vm), 0);
		m.vm.vcpus = 1;
	} else {
		m.vm.split_irqchip = _i & 1;
	}
	for (int n = 0; n < 2000; n++) {
		uint32_t nr = calls[rand() % (int)(sizeof(calls) / sizeof(calls[0]))];
		uint32_t size = rand() % 2 ? (nr >> 16 & 0x3fff) : sizes[rand() % 12];
		uint16_t kind = (uint16_t)(CHANNEL_SYSTEM + rand() % 3);

		for (uint32_t i = 0; i < sizeof(payload); i++)
			payload[i] = rand() % 3 ? 0 : (uint8_t)rand();
		ask(kind, nr, rand() % 4 ? (uint64_t)(rand() % 300) : (uint64_t)rand() << 20, payload,
		    size > sizeof(payload) ? sizeof(payload) : size);
	}
}
END_TEST

Suite *suite_control(void)
{
	Suite *suite = suite_create("control");
	TCase *tcase = tcase_create("control"), *lapics = tcase_create("lapics");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, create_again);
	tcase_add_loop_test(tcase, malformed, 0, 5);
	tcase_add_test(tcase, wrong_kinds);
	tcase_add_test(tcase, glue_leaves);
	tcase_add_loop_test(tcase, wrong_sizes, 0, 11);
	tcase_add_test(tcase, capabilities);
	tcase_add_test(tcase, errnos);
	tcase_add_test(tcase, routing_counts);
	tcase_add_loop_test(tcase, vcpu_area, 0, 5);
	tcase_add_loop_test(tcase, vcpu_fails_late, 0, 4);
	tcase_add_test(tcase, vcpu_limits);
	tcase_add_test(tcase, boot_cpu);
	tcase_add_test(tcase, tsc_khz);
	tcase_add_loop_test(tcase, random_messages, 0, 4);
	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(lapics, setup_lapics, NULL);
	tcase_add_test(lapics, routing_pieces);
	tcase_add_loop_test(lapics, own_end_of_socket, 0, 6);
	suite_add_tcase(suite, lapics);
	return suite;
}
