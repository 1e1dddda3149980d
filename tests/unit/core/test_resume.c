// SPDX-License-Identifier: GPL-2.0-or-later
/* Instructions that wait for the VMM in the middle: nothing is done twice, nothing is lost. Coalesced writes. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine.h"
#include "routing.h"

#define PORT 0x1f0
#define DEVICE2 (DEVICE + 0x10000)
#define RING_ENTRIES 170u

static struct kvm_coalesced_mmio_ring *ring;

static void setup(void)
{
	machine_start(false);
	ring = (void *)((uint8_t *)m.kvm + CHANNEL_RING_OFFSET);
	m.vm.ring = ring;
}

/* The instruction at CODE exits, for its memory operand or for its port. */
static void start(const void *code, size_t len, bool port)
{
	struct fake_step *step = fake_push(&m.fake, port ? VMEXIT_IO : VMEXIT_MEM, 0);

	machine_code(code, len);
	if (port) {
		step->exit.io.port = PORT;
		step->exit.io.flags = VMEXIT_IO_STRING;
	} else {
		step->exit.mem.gpa = DEVICE;
		step->exit.mem.access = UMBRA_MEM_READ;
	}
}

#define START(code, port) start(code, sizeof(code) - 1, port)

static void expect_read(uint64_t gpa, uint32_t len, uint64_t answer)
{
	machine_run(0, KVM_EXIT_MMIO);
	ck_assert_uint_eq(m.kvm->mmio.phys_addr, gpa);
	ck_assert_uint_eq(m.kvm->mmio.len, len);
	ck_assert_uint_eq(m.kvm->mmio.is_write, 0);
	memcpy(m.kvm->mmio.data, &answer, 8);
}

static void expect_write(uint64_t gpa, uint32_t len, uint64_t value)
{
	uint64_t data = 0;

	machine_run(0, KVM_EXIT_MMIO);
	memcpy(&data, m.kvm->mmio.data, m.kvm->mmio.len);
	ck_assert_uint_eq(m.kvm->mmio.phys_addr, gpa);
	ck_assert_uint_eq(m.kvm->mmio.len, len);
	ck_assert_uint_eq(m.kvm->mmio.is_write, 1);
	ck_assert_uint_eq(data, value);
}

static void expect_port(bool in, uint32_t size, uint32_t count)
{
	machine_run(0, KVM_EXIT_IO);
	ck_assert_uint_eq(m.kvm->io.direction, in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT);
	ck_assert_uint_eq(m.kvm->io.port, PORT);
	ck_assert_uint_eq(m.kvm->io.size, size);
	ck_assert_uint_eq(m.kvm->io.count, count);
}

static void expect_end(size_t len)
{
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.run->rip, CODE + len);
}

/* ---- ports and device memory ---- */

/* The port is read once, though the write has to wait as well; and what was read is kept apart from the VMM's page. */
START_TEST(ins_to_device)
{
	m.run->gpr[UMBRA_RDI] = DEVICE;
	m.run->gpr[UMBRA_RDX] = PORT;
	START("\x6d", true); /* insl */
	expect_port(true, 4, 1);
	memcpy(m.vcpu->pio, "\x11\x22\x33\x44", 4);
	expect_write(DEVICE, 4, 0x44332211);
	memset(m.vcpu->pio, 0xff, 4096);
	expect_end(1);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RDI], DEVICE + 4);
}
END_TEST

/* Across two pages of devices: one answer of the port, two writes. */
START_TEST(ins_to_two_pages)
{
	m.run->gpr[UMBRA_RDI] = DEVICE + 0xffe;
	m.run->gpr[UMBRA_RDX] = PORT;
	START("\x6d", true);
	expect_port(true, 4, 1);
	memcpy(m.vcpu->pio, "\x11\x22\x33\x44", 4);
	expect_write(DEVICE + 0xffe, 2, 0x2211);
	memset(m.vcpu->pio, 0xff, 4096);
	expect_write(DEVICE + 0x1000, 2, 0x4433);
	expect_end(1);
}
END_TEST

/* A device, or ROM, gets each element by itself, however many there are. */
START_TEST(rep_ins_to_device)
{
	uint64_t to = _i ? ROM_GPA : DEVICE;

	m.run->gpr[UMBRA_RDI] = to;
	m.run->gpr[UMBRA_RCX] = 300;
	m.run->gpr[UMBRA_RDX] = PORT;
	START("\x66\xf3\x6d", true); /* rep insw */
	for (uint16_t i = 0; i < 300; i++) {
		uint16_t value = (uint16_t)(0x5a00 ^ i);

		expect_port(true, 2, 1);
		memcpy(m.vcpu->pio, &value, 2);
		expect_write(to + i * 2, 2, value);
		if (i < 299) { /* in between the guest takes interrupts */
			m.fake.steps = m.fake.at = 0;
			START("\x66\xf3\x6d", true);
		}
	}
	expect_end(3);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RCX], 0);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RDI], to + 600);
}
END_TEST

START_TEST(rep_outs_from_device)
{
	m.run->gpr[UMBRA_RSI] = DEVICE;
	m.run->gpr[UMBRA_RCX] = 200;
	m.run->gpr[UMBRA_RDX] = PORT;
	START("\xf3\x6f", true); /* rep outsl */
	for (uint32_t i = 0; i < 200; i++) {
		uint32_t value;

		expect_read(DEVICE + i * 4, 4, 0xabcd0000 + i);
		expect_port(false, 4, 1);
		memcpy(&value, m.vcpu->pio, 4);
		ck_assert_uint_eq(value, 0xabcd0000 + i);
		if (i < 199) {
			m.fake.steps = m.fake.at = 0;
			START("\xf3\x6f", true);
		}
	}
	expect_end(2);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RCX], 0);
}
END_TEST

/* To memory it stays one exit. The slot goes away while the VMM has the port: still nothing is lost. */
START_TEST(rep_ins_slot_vanishes)
{
	struct channel_memory gone = { .slot = 0 };

	m.run->gpr[UMBRA_RDI] = 0x4000;
	m.run->gpr[UMBRA_RCX] = 1024;
	m.run->gpr[UMBRA_RDX] = PORT;
	START("\xf3\x6c", true); /* rep insb */
	expect_port(true, 1, 1024);
	for (uint32_t i = 0; i < 1024; i++)
		m.vcpu->pio[i] = (uint8_t)(i * 7);
	if (!_i) {
		expect_end(2);
		ck_assert_uint_eq(m.ram[0x4000 + 1023], (uint8_t)(1023 * 7));
		return;
	}
	ck_assert_int_eq(machine_memory(&gone, -1), 0);
	/* the code stays */
	gone.size = 0x4000;
	gone.slot = 2;
	gone.userspace_addr = 0x30000000;
	ck_assert_int_eq(machine_memory(&gone, machine_memfd(0x4000, &m.ram)), 0);
	memcpy(m.ram + CODE, "\xf3\x6c", 2);
	for (uint32_t i = 0; i < 1024; i += 8) {
		uint64_t value;

		for (uint32_t n = 0; n < 8; n++)
			((uint8_t *)&value)[n] = (uint8_t)((i + n) * 7);
		expect_write(0x4000 + i, 8, value);
		memset(m.vcpu->pio, 0, 4096);
	}
	expect_end(2);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RCX], 0);
}
END_TEST

/* ---- RAM and device in one operand ---- */

/* The half in RAM is modified once, though the instruction is begun three times. */
static const struct {
	const char *name, *code;
	size_t len;
	uint64_t eax, ram_after, read, written, eax_after;
} halves[] = {
	/* RAM has 0x00ff, the device 0x0001 at its start: the operand is 0x000100ff */
	{ "addl $0x10001, (%ebx)", "\x81\x03\x01\x00\x01\x00", 6, 0, 0x0100, 1, 0x0002, 0 },
	{ "incl (%ebx)", "\xff\x03", 2, 0, 0x0100, 1, 0x0001, 0 },
	{ "xadd %eax, (%ebx)", "\x0f\xc1\x03", 3, 0x20002, 0x0101, 1, 0x0003, 0x100ff },
	{ "xchg %eax, (%ebx)", "\x87\x03", 2, 0x12345678, 0x5678, 1, 0x1234, 0x100ff },
	{ "cmpxchg %ecx, (%ebx)", "\x0f\xb1\x0b", 3, 0x100ff, 0xdddd, 1, 0xcccc, 0x100ff },
	{ "shll (%ebx)", "\xd1\x23", 2, 0, 0x01fe, 1, 0x0002, 0 },
	{ "btsl $31, (%ebx)", "\x0f\xba\x2b\x1f", 4, 0, 0x00ff, 1, 0x8001, 0 },
};

START_TEST(half_modify)
{
	uint16_t ram = 0x00ff;

	m.run->gpr[UMBRA_RBX] = RAM_SIZE - 2;
	m.run->gpr[UMBRA_RAX] = halves[_i].eax;
	m.run->gpr[UMBRA_RCX] = 0xccccdddd;
	memcpy(m.ram + RAM_SIZE - 2, &ram, 2);
	start(halves[_i].code, halves[_i].len, false);
	expect_read(RAM_SIZE, 2, halves[_i].read);
	expect_write(RAM_SIZE, 2, halves[_i].written);
	memcpy(&ram, m.ram + RAM_SIZE - 2, 2);
	ck_assert_msg(ram == halves[_i].ram_after, "%s: %x", halves[_i].name, ram);
	memcpy(m.ram + RAM_SIZE - 2, "\x77\x77", 2); /* another CPU's write after ours */
	expect_end(halves[_i].len);
	ck_assert_int_eq(memcmp(m.ram + RAM_SIZE - 2, "\x77\x77", 2), 0);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX], halves[_i].eax_after);
}
END_TEST

/* cmpxchg8b over two pages of devices: two reads, two writes. */
START_TEST(two_pages_cmpxchg8b)
{
	m.run->gpr[UMBRA_RBX] = 0x11111111;
	m.run->gpr[UMBRA_RCX] = 0x22222222;
	m.run->gpr[UMBRA_RAX] = 0x04030201;
	m.run->gpr[UMBRA_RDX] = 0x08070605;
	m.run->gpr[UMBRA_RSI] = DEVICE + 0xffd;
	START("\xf0\x0f\xc7\x0e", false); /* lock cmpxchg8b (%esi) */
	expect_read(DEVICE + 0xffd, 3, 0x030201);
	expect_read(DEVICE + 0x1000, 5, 0x0807060504);
	expect_write(DEVICE + 0xffd, 3, 0x111111);
	expect_write(DEVICE + 0x1000, 5, 0x2222222211);
	expect_end(4);
	ck_assert(m.run->rflags & 0x40);
}
END_TEST

START_TEST(two_pages_mov)
{
	m.run->gpr[UMBRA_RBX] = DEVICE + 0xfff;
	START("\x8b\x03", false);
	expect_read(DEVICE + 0xfff, 1, 0x11);
	expect_read(DEVICE + 0x1000, 3, 0x443322);
	expect_end(2);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RAX], 0x44332211);
}
END_TEST

/* Where the source is memory that the write changes: an overlapping MOVS at RAM's end. */
START_TEST(movs_overlaps)
{
	memcpy(m.ram + RAM_SIZE - 5, "\x01\x02\x03\x04\x05", 5);
	m.run->gpr[UMBRA_RSI] = RAM_SIZE - 5;
	m.run->gpr[UMBRA_RDI] = RAM_SIZE - 3;
	START("\xa5\x90", false); /* movsl */
	expect_write(RAM_SIZE, 1, 4);
	expect_end(1);
	ck_assert_int_eq(memcmp(m.ram + RAM_SIZE - 5, "\x01\x02\x01\x02\x03", 5), 0);
}
END_TEST

/* ---- writes that end their instruction ---- */

START_TEST(write_is_last)
{
	m.run->gpr[UMBRA_RBX] = DEVICE;
	m.run->gpr[UMBRA_RAX] = 5;
	START("\x89\x03", false);
	expect_write(DEVICE, 4, 5);
	ck_assert_uint_eq(m.run->rip, CODE + 2); /* over, as with KVM */
	m.run->rip = 0x3000;			 /* so the VMM may go on elsewhere */
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.fake.entry[1].rip, 0x3000);
}
END_TEST

/* The fault of a REP's next iteration comes after the write of the one before. */
START_TEST(rep_faults_after_write)
{
	m.run->gpr[UMBRA_RSI] = 0x6ffc;
	m.run->gpr[UMBRA_RDI] = DEVICE;
	m.run->gpr[UMBRA_RCX] = 2;
	m.run->seg[UMBRA_DS].limit = 0x6fff;
	START("\xf3\xa5", false);
	memcpy(m.ram + 0x6ffc, "\x01\x02\x03\x04", 4);
	expect_write(DEVICE, 4, 0x04030201);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	machine_injected_code(1, 13, 0);
	ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RCX], 1);
	ck_assert_uint_eq(m.fake.entry[1].gpr[UMBRA_RSI], 0x7000);
}
END_TEST

/* ---- memory that is there after all ---- */

START_TEST(slot_is_back)
{
	m.run->gpr[UMBRA_RBX] = 0x5000;
	machine_code("\xff\x03", 2); /* incl (%ebx) */
	for (int i = 0; i < 20; i++) {
		struct fake_step *step = fake_push(&m.fake, VMEXIT_MEM, 0);

		step->exit.mem.gpa = 0x5000;
		step->exit.mem.access = UMBRA_MEM_WRITE | UMBRA_MEM_READ;
	}
	m.fake.steps = _i ? 20 : 1;
	machine_run(0, KVM_EXIT_SHUTDOWN);
	if (!_i) { /* the CPU does it */
		ck_assert_uint_eq(m.fake.entry[1].rip, CODE);
		ck_assert_uint_eq(m.ram[0x5000], 0);
		return;
	}
	ck_assert_uint_gt(m.ram[0x5000], 0); /* but not for ever */
}
END_TEST

START_TEST(emulation_failure_exits)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args[0] = 2 };
	struct call call = { .nr = KVM_ENABLE_CAP, .in = &cap, .in_size = sizeof(cap) };

	ck_assert_int_eq(vm_call(&m.vm, &call), -EINVAL);
	cap.args[0] = 1;
	ck_assert_int_eq(vm_call(&m.vm, &call), 0);
	m.run->seg[UMBRA_SS].attr |= 3 << 5;
	m.run->gpr[UMBRA_RBX] = DEVICE;
	START("\x0f\xae\x03", false); /* fxsave */
	machine_run(0, KVM_EXIT_INTERNAL_ERROR);
	ck_assert_uint_eq(m.run->rip, CODE);
	machine_run(0, KVM_EXIT_SHUTDOWN); /* no exception is left behind */
	machine_injected_none(1);
}
END_TEST

/* 64-bit code: data segments are fetched when an address names FS or GS, and only then. */
START_TEST(segments_on_demand)
{
	static const struct {
		const char *code;
		size_t len;
		uint64_t gpa;
		unsigned int fetches;
	} steps[] = {
		{ "\x65\x8b\x03", 3, DEVICE2 + 8, 0 }, /* mov %gs:(%rbx), %eax: the first exit brings them along */
		{ "\x67\x8b\x83\x00\x00\x00\xd0", 7, DEVICE + 8, 0 }, /* mov 0xd0000000(%ebx), %eax */
		{ "\x65\x8b\x03", 3, DEVICE2 + 8, 1 },
		{ "\x65\x8b\x03", 3, DEVICE2 + 8, 1 },
	};
	uint64_t *pml4 = (uint64_t *)(m.ram + 0x8000), *pdpt = (uint64_t *)(m.ram + 0x9000);

	pml4[0] = 0x9003;
	pdpt[0] = 0x83; /* 1 GiB */
	pdpt[3] = 0xc0000083;
	m.run->cr3 = 0x8000;
	m.run->cr4 = 0x20;
	m.run->efer = 0x500;
	m.run->cr0 |= X86_CR0_PG;
	m.run->seg[UMBRA_CS].attr = 0xa09b;
	m.run->seg[UMBRA_GS].base = DEVICE2;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		unsigned int before = m.fake.fetches;

		m.fake.steps = m.fake.at = 0;
		m.run->gpr[UMBRA_RBX] = 8;
		start(steps[i].code, steps[i].len, false);
		expect_read(steps[i].gpa, 4, 0x1234 + i);
		expect_end(steps[i].len);
		ck_assert_uint_eq(m.run->gpr[UMBRA_RAX], 0x1234 + i);
		ck_assert_uint_eq(m.fake.fetches - before, steps[i].fetches);
	}
	ck_assert_uint_eq(m.vcpu->insns->hits, 1); /* the last one was known */
}
END_TEST

/* ---- coalesced writes ---- */

static int64_t zone_call(bool add, uint64_t addr, uint32_t size, uint32_t pio)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = addr, .size = size, .pio = pio };
	struct call call = { .nr = add ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO,
			     .in = &zone,
			     .in_size = sizeof(zone) };

	return vm_call(&m.vm, &call);
}

/* mov %eax, (%ebx) */
static void write_device(uint64_t gpa, uint32_t value)
{
	m.fake.steps = m.fake.at = 0;
	m.run->gpr[UMBRA_RBX] = gpa;
	m.run->gpr[UMBRA_RAX] = value;
	START("\x89\x03", false);
}

static void ring_expect(uint32_t n, uint64_t addr, uint32_t len, uint32_t pio, uint32_t value)
{
	const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[n];

	ck_assert_uint_eq(entry->phys_addr, addr);
	ck_assert_uint_eq(entry->len, len);
	ck_assert_uint_eq(entry->pio, pio);
	ck_assert_int_eq(memcmp(entry->data, &value, len), 0);
}

START_TEST(coalesced_basic)
{
	ck_assert_int_eq(zone_call(true, DEVICE, 0x1000, 0), 0);
	write_device(DEVICE + 8, 0x1234);
	expect_end(2);
	ring_expect(0, DEVICE + 8, 4, 0, 0x1234);
	ck_assert_uint_eq(ring->last, 1);
	ck_assert_uint_eq(ring->first, 0);
	ck_assert_uint_eq(m.vm.coalesced_writes, 1);
	write_device(DEVICE + 0xffc, 5); /* the last word */
	expect_end(2);
	ck_assert_uint_eq(ring->last, 2);
	write_device(DEVICE + 0xffd, 5); /* two bytes and more: by page, and the second is outside */
	m.fake.steps = m.fake.at = 0;
	START("\x89\x03", false);
	expect_write(DEVICE + 0x1000, 1, 0);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(ring->last, 3);
	ring_expect(2, DEVICE + 0xffd, 3, 0, 5);
	m.fake.steps = m.fake.at = 0;
	START("\x8b\x03", false); /* reads are the VMM's */
	m.run->gpr[UMBRA_RBX] = DEVICE;
	expect_read(DEVICE, 4, 7);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	/* a zone that is taken back */
	ck_assert_int_eq(zone_call(false, DEVICE + 4, 4, 0), 0); /* lies in it: goes with it */
	write_device(DEVICE + 8, 1);
	expect_write(DEVICE + 8, 4, 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(ring->last, 3);
}
END_TEST

START_TEST(coalesced_rep)
{
	ck_assert_int_eq(zone_call(true, DEVICE, 0x1000, 0), 0);
	m.run->gpr[UMBRA_RDI] = DEVICE + 0xff8;
	m.run->gpr[UMBRA_RCX] = 4;
	m.run->gpr[UMBRA_RAX] = 0x20;
	START("\xf3\xab", false);
	expect_write(DEVICE + 0x1000, 4, 0x20);
	ck_assert_uint_eq(ring->last, 2);
	expect_write(DEVICE + 0x1004, 4, 0x20);
	expect_end(2);
	ck_assert_uint_eq(ring->last, 2);
}
END_TEST

static void out_port(uint32_t value)
{
	struct fake_step *step;

	m.fake.steps = m.fake.at = 0;
	step = fake_push(&m.fake, VMEXIT_IO, 1);
	step->exit.io.port = PORT;
	step->exit.io.size = 2;
	m.run->gpr[UMBRA_RAX] = value;
	machine_code("\xef", 1);
}

START_TEST(coalesced_port)
{
	ck_assert_int_eq(zone_call(true, PORT, 2, 0), 0); /* of memory: another bus */
	out_port(0x1234);
	machine_run(0, KVM_EXIT_IO);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_int_eq(zone_call(true, PORT, 2, 1), 0);
	out_port(0x1234);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ring_expect(0, PORT, 2, 1, 0x1234);
	/* OUTS: each element; what no longer fits goes to the VMM, in order */
	m.fake.steps = m.fake.at = 0;
	memcpy(m.ram + 0x4000, "\x01\x00\x02\x00\x03\x00\x04\x00", 8);
	m.run->gpr[UMBRA_RSI] = 0x4000;
	m.run->gpr[UMBRA_RCX] = 4;
	m.run->gpr[UMBRA_RDX] = PORT;
	ring->first = 4;
	START("\x66\xf3\x6f", true);
	expect_port(false, 2, 2);
	ck_assert_int_eq(memcmp(m.vcpu->pio, "\x03\x00\x04\x00", 4), 0);
	ck_assert_uint_eq(ring->last, 3);
	ring_expect(2, PORT, 2, 1, 2);
	expect_end(3);
	ck_assert_uint_eq(m.run->gpr[UMBRA_RCX], 0);
}
END_TEST

/* One place stays free. What the VMM has taken out makes room again. */
START_TEST(coalesced_full)
{
	ck_assert_int_eq(zone_call(true, DEVICE, 0x1000, 0), 0);
	for (uint32_t i = 0; i < RING_ENTRIES - 1; i++) {
		write_device(DEVICE, i);
		machine_run(0, KVM_EXIT_SHUTDOWN);
		ring_expect(i, DEVICE, 4, 0, i);
	}
	write_device(DEVICE, 1000);
	expect_write(DEVICE, 4, 1000);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(ring->last, RING_ENTRIES - 1);
	ring->first = 1;
	write_device(DEVICE, 1001);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(ring->last, 0);
	ring_expect(RING_ENTRIES - 1, DEVICE, 4, 0, 1001);
}
END_TEST

/* Indices that are no places: the ring is left alone. */
START_TEST(coalesced_hostile)
{
	static const struct {
		uint32_t first, last;
	} bad[] = {
		{ 0, RING_ENTRIES }, { 0, 0xffffffff },		 { RING_ENTRIES, 0 },
		{ 0xffffffff, 5 },   { 0x80000000, 0x80000000 },
	};
	uint8_t before[4096];

	ck_assert_int_eq(zone_call(true, DEVICE, 0x1000, 0), 0);
	memset(ring, 0x5a, 4096);
	ring->first = bad[_i].first;
	ring->last = bad[_i].last;
	memcpy(before, ring, 4096);
	write_device(DEVICE, 7);
	expect_write(DEVICE, 4, 7);
	ck_assert_int_eq(memcmp(before, ring, 4096), 0);
	ck_assert_uint_eq(((uint8_t *)ring)[4096], 0); /* and what lies behind it */
}
END_TEST

START_TEST(coalesced_errors)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = DEVICE };
	struct call call = { .nr = KVM_REGISTER_COALESCED_MMIO, .in = &zone, .in_size = sizeof(zone) - 1 };

	ck_assert_int_eq(vm_call(&m.vm, &call), -EINVAL);
	ck_assert_int_eq(zone_call(true, DEVICE, 1, 2), -EINVAL);
	ck_assert_int_eq(zone_call(false, DEVICE, 1, 2), -EINVAL);
	ck_assert_int_eq(zone_call(false, DEVICE, 1, 1), 0); /* none there: as if it had been */
	for (uint32_t i = 0; i < 1000; i++)
		ck_assert_int_eq(zone_call(true, DEVICE + i * 0x1000, 0x1000, 0), 0);
	ck_assert_int_eq(zone_call(true, DEVICE, 4, 0), -ENOSPC);
	ck_assert_int_eq(zone_call(true, PORT, 4, 1), 0); /* each bus has its own limit */
	ck_assert_int_eq(zone_call(false, DEVICE + 0x5000, 0x1000, 0), 0);
	ck_assert_int_eq(zone_call(true, ~0ULL - 3, 0xffffffff, 0), 0); /* wraps: holds nothing */
	write_device(DEVICE + 0x5000, 1);
	expect_write(DEVICE + 0x5000, 4, 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	write_device(DEVICE + 0x6000, 1);
	machine_run(0, KVM_EXIT_SHUTDOWN);
	ck_assert_uint_eq(m.vm.coalesced_writes, 1);
}
END_TEST

Suite *suite_resume(void)
{
	Suite *suite = suite_create("resume");
	TCase *c = tcase_create("resume");

	tcase_add_checked_fixture(c, setup, NULL);
	tcase_add_test(c, ins_to_device);
	tcase_add_test(c, ins_to_two_pages);
	tcase_add_loop_test(c, rep_ins_to_device, 0, 2);
	tcase_add_test(c, rep_outs_from_device);
	tcase_add_loop_test(c, rep_ins_slot_vanishes, 0, 2);
	tcase_add_loop_test(c, half_modify, 0, sizeof(halves) / sizeof(halves[0]));
	tcase_add_test(c, two_pages_cmpxchg8b);
	tcase_add_test(c, two_pages_mov);
	tcase_add_test(c, movs_overlaps);
	tcase_add_test(c, write_is_last);
	tcase_add_test(c, rep_faults_after_write);
	tcase_add_loop_test(c, slot_is_back, 0, 2);
	tcase_add_test(c, emulation_failure_exits);
	tcase_add_test(c, segments_on_demand);
	tcase_add_test(c, coalesced_basic);
	tcase_add_test(c, coalesced_rep);
	tcase_add_test(c, coalesced_port);
	tcase_add_test(c, coalesced_full);
	tcase_add_loop_test(c, coalesced_hostile, 0, 5);
	tcase_add_test(c, coalesced_errors);
	suite_add_tcase(suite, c);
	return suite;
}
