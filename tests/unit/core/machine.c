// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include "sandbox.h"

struct machine m;

void sandbox_thread(enum sandbox_role role)
{
	(void)role;
}

void sandbox_die(const char *reason)
{
	(void)reason;
	abort();
}

int machine_memfd(uint64_t size, uint8_t **map)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	if (map) {
		*map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ck_assert_ptr_ne(*map, MAP_FAILED);
	}
	return fd;
}

int64_t machine_memory(const struct channel_memory *arg, int fd)
{
	int fds[1] = { fd };
	struct call call = { .in = arg, .in_size = sizeof(*arg), .fds = fds, .nfds = fd >= 0 };

	return vm_memory(&m.vm, &call);
}

static void flat_mode(struct umbra_run *run)
{
	for (int i = 0; i < 6; i++)
		run->seg[i] = (struct umbra_segment) { .selector = 0x10, .attr = 0xc093, .limit = 0xffffffff };
	run->seg[UMBRA_CS].attr = 0xc09b;
	run->cr0 = 0x60000011;
	run->rip = CODE;
}

static void start(bool split_irqchip, bool svm)
{
	struct channel_memory ram = { .slot = 0, .gpa = 0, .size = RAM_SIZE, .userspace_addr = 0x10000000 };
	struct channel_memory rom = {
		.slot = 1, .flags = KVM_MEM_READONLY, .gpa = ROM_GPA, .size = ROM_SIZE, .userspace_addr = 0x20000000
	};
	struct call create = { .nr = KVM_CREATE_VM };
	uint8_t *area;

	fake_init(&m.fake);
	m.fake.svm = svm;
	ck_assert_int_eq(vm_init(&m.vm, &m.fake.shim), 0);
	ck_assert_int_eq(vm_call(&m.vm, &create), 0);
	m.vm.split_irqchip = split_irqchip;
	m.vm.ioapic_pins = 24;
	ck_assert_int_eq(machine_memory(&ram, machine_memfd(RAM_SIZE, &m.ram)), 0);
	ck_assert_int_eq(machine_memory(&rom, machine_memfd(ROM_SIZE, &m.rom)), 0);
	area = mmap(NULL, CHANNEL_VCPU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	m.vcpu = calloc(1, sizeof(*m.vcpu));
	m.vcpu->kvm = m.kvm = (struct kvm_run *)area;
	m.vcpu->pio = area + CHANNEL_PIO_OFFSET;
	m.vcpu->channel = (struct channel_vcpu *)(area + CHANNEL_VCPU_OFFSET);
	m.vcpu->payload = area + CHANNEL_PAYLOAD_OFFSET;
	m.vcpu->kick_fd = m.vcpu->done_fd = -1;
	ck_assert_int_eq(vcpu_init(m.vcpu, &m.vm, 0), 0);
	m.vm.vcpu[0] = m.vcpu;
	m.vm.vcpus = 1;
	vcpu_set_current(m.vcpu);
	m.run = m.vcpu->run;
	flat_mode(m.run);
}

void machine_start(bool split_irqchip)
{
	start(split_irqchip, false);
}

void machine_start_svm(bool split_irqchip)
{
	start(split_irqchip, true);
}

void machine_code(const void *code, size_t len)
{
	memcpy(m.ram + CODE, code, len);
	m.run->rip = CODE;
}

void machine_run(int ret, uint32_t exit_reason)
{
	ck_assert_int_eq(vcpu_run(m.vcpu), ret);
	if (!ret)
		ck_assert_uint_eq(m.kvm->exit_reason, exit_reason);
}

void machine_injected(unsigned int n, uint8_t type, uint8_t vector)
{
	const struct umbra_event *event = &m.fake.entry[n].inject;

	ck_assert_uint_lt(n, m.fake.at);
	ck_assert_msg(event->flags & UMBRA_EVENT_VALID, "entry %u: nothing was handed over", n);
	ck_assert_uint_eq(event->type, type);
	ck_assert_uint_eq(event->vector, vector);
}

void machine_injected_code(unsigned int n, uint8_t vector, uint32_t code)
{
	machine_injected(n, UMBRA_EVENT_EXC, vector);
	ck_assert(m.fake.entry[n].inject.flags & UMBRA_EVENT_ERROR_CODE);
	ck_assert_uint_eq(m.fake.entry[n].inject.error_code, code);
}

void machine_injected_none(unsigned int n)
{
	ck_assert_uint_lt(n, m.fake.at);
	ck_assert_msg(!(m.fake.entry[n].inject.flags & UMBRA_EVENT_VALID), "entry %u: vector %u was handed over", n,
		      m.fake.entry[n].inject.vector);
}
