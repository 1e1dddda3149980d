// SPDX-License-Identifier: GPL-2.0-or-later
#include "cve_guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define GDT 0x1000
#define IDT 0x2000
#define TSS 0x3000
#define PAGES 0x4000 /* page directory: 4 MiB pages */
#define STACK 0x7ff0
#define STUBS 0x8000 /* 16 bytes a vector */
#define COMMON 0x9000
#define CODE 0x10000
#define PORT_END 0xf4
#define PORT_VECTOR 0xf5
#define PORT_CR2 0xf6
#define PORT_SAY 0xf7

int kvm = -1, vm = -1, vcpu[2] = { -1, -1 };
struct kvm_run *run[2];
uint8_t *ram;
struct seen seen;
void (*on_death)(const char *what);

static uint8_t *slots[3], *code;
static unsigned int machine;

int call(int fd, unsigned long nr, void *arg, const char *what)
{
	int ret = ioctl(fd, nr, arg);

	if (ret >= 0)
		return ret;
	if (errno == EIO)
		on_death(what);
	return -errno;
}

void need(int fd, unsigned long nr, void *arg, const char *what)
{
	int ret = call(fd, nr, arg, what);

	if (ret >= 0)
		return;
	printf("RESULT broken: %s: %s\n", what, strerror(-ret));
	exit(1);
}

/* ---- code ---- */

void emit(const char *bytes, size_t count)
{
	memcpy(code, bytes, count);
	code += count;
}

void emit32(uint32_t value)
{
	memcpy(code, &value, 4);
	code += 4;
}

static void emit8(uint8_t value)
{
	*code++ = value;
}

void set_reg(unsigned int reg, uint32_t value)
{
	emit8(0xb8 + reg);
	emit32(value);
}

void store32(uint32_t addr, uint32_t value)
{
	EMIT("\xc7\x05");
	emit32(addr);
	emit32(value);
}

void store8(uint32_t addr, uint8_t value)
{
	EMIT("\xc6\x05");
	emit32(addr);
	emit8(value);
}

void load32(uint32_t addr)
{
	emit8(0xa1);
	emit32(addr);
}

void out8(uint16_t port, uint8_t value)
{
	set_reg(2, port);
	set_reg(0, value);
	emit8(0xee);
}

void in8(uint16_t port)
{
	set_reg(2, port);
	EMIT("\x31\xc0\xec"); /* xor eax, eax; in al, dx */
}

static void out_eax(uint16_t port)
{
	set_reg(2, port);
	emit8(0xef);
}

void wrmsr(uint32_t msr, uint64_t value)
{
	set_reg(1, msr);
	set_reg(0, (uint32_t)value);
	set_reg(2, value >> 32);
	EMIT("\x0f\x30");
}

void say_eax(void)
{
	out_eax(PORT_SAY);
}

/* ---- memory of the guest ---- */

static void gate_set(unsigned int vector, uint32_t to)
{
	uint32_t gate[2] = { 8 << 16 | (to & 0xffff), (to & 0xffff0000) | 0xee00 };

	memcpy(ram + IDT + vector * 8, gate, 8);
}

/* Exceptions say which they are and end the run; the one interrupt is ended at the LAPIC. */
static void handlers_init(void)
{
	for (uint32_t n = 0; n < 32; n++) {
		gate_set(n, STUBS + n * 16);
		code = ram + STUBS + n * 16;
		set_reg(0, n);
		emit8(0xe9); /* jmp */
		emit32(COMMON - (STUBS + n * 16 + 10));
	}
	code = ram + COMMON;
	out_eax(PORT_VECTOR);
	EMIT("\x0f\x20\xd0"); /* mov eax, cr2 */
	out_eax(PORT_CR2);
	out_eax(PORT_END);
	EMIT("\xf4\xeb\xfd"); /* hlt, for ever */
	gate_set(IRQ_VECTOR, COMMON + 0x100);
	code = ram + COMMON + 0x100;
	emit8(0x50);
	store32(LAPIC + 0xb0, 0);
	EMIT("\x58\xcf");
}

static void tables_init(void)
{
	static const uint64_t gdt[] = { 0,
					0x00cf9b000000ffff,
					0x00cf93000000ffff,
					0x00cffb000000ffff,
					0x00cff3000000ffff,
					0x00008b0030000067 /* TSS at 0x3000 */ };
	uint32_t tss[3] = { 0, STACK, 0x10 }, *directory = (uint32_t *)(ram + PAGES);

	memcpy(ram + GDT, gdt, sizeof(gdt));
	memcpy(ram + TSS, tss, sizeof(tss));
	/* Identity, as far as it is used; 8 MiB.. is not there. Bit 7: a page of 4 MiB. */
	directory[0] = 0x87;
	directory[SLOT1 >> 22] = SLOT1 | 0x87;
	directory[MMIO >> 22] = MMIO | 0x87;
	directory[LAPIC >> 22] = (LAPIC & 0xffc00000) | 0x87;
}

/* ---- the machine ---- */

int slot_set(uint32_t slot, uint64_t gpa, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uintptr_t)slots[slot]
	};

	return call(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

static void slot_new(uint32_t slot, uint64_t gpa, uint64_t size)
{
	slots[slot] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (slots[slot] == MAP_FAILED || slot_set(slot, gpa, size) < 0) {
		printf("RESULT broken: memory of slot %u\n", slot);
		exit(1);
	}
}

static void registers_set(unsigned int n)
{
	uint8_t level = machine & USER ? 3 : 0;
	struct kvm_segment data = { .limit = 0xffffffff,
				    .selector = level ? 0x23 : 0x10,
				    .type = 3,
				    .present = 1,
				    .dpl = level,
				    .db = 1,
				    .s = 1,
				    .g = 1 };
	struct kvm_regs regs = { .rip = CODE + n * 0x1000, .rsp = STACK - n * 0x400, .rflags = 2 };
	struct kvm_sregs sregs;

	need(vcpu[n], KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	data.selector = level ? 0x1b : 8;
	data.type = 11;
	sregs.cs = data;
	/* Not marked busy: QEMU 7.2 ends itself where it finds a busy 32-bit TSS and needs its stack. */
	sregs.tr = (struct kvm_segment) { .base = TSS, .limit = 0x67, .selector = 0x28, .type = 9, .present = 1 };
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 0x2f;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0x7ff;
	sregs.cr0 = 0x31;
	if (machine & PAGING) {
		sregs.cr0 |= 1u << 31;
		sregs.cr3 = PAGES;
		sregs.cr4 = 1 << 4; /* PSE */
	}
	need(vcpu[n], KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	need(vcpu[n], KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

static void vcpu_new(unsigned int n)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
	static uint64_t room[1024];
	struct kvm_cpuid2 *cpuid = (void *)room;

	vcpu[n] = call(vm, KVM_CREATE_VCPU, (void *)(uintptr_t)n, "KVM_CREATE_VCPU");
	if (vcpu[n] < 0) {
		printf("RESULT broken: no vCPU\n");
		exit(1);
	}
	run[n] = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu[n], 0);
	if (run[n] == MAP_FAILED) {
		printf("RESULT broken: mmap of the vCPU\n");
		exit(1);
	}
	if (n)
		need(vcpu[n], KVM_SET_MP_STATE, &runnable, "KVM_SET_MP_STATE");
	/* The list itself may be what is attacked: then by the row. */
	if (getenv("UMBRA_FAULT") &&
	    (strstr(getenv("UMBRA_FAULT"), "2009-3638") || strstr(getenv("UMBRA_FAULT"), "2019-19332")))
		return;
	cpuid->nent = 128;
	need(kvm, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
	need(vcpu[n], KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
}

void machine_open(unsigned int flags)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 24 };
	struct kvm_pit_config pit = { 0 };

	machine = flags;
	vm = call(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	if (vm < 0) {
		printf("RESULT broken: KVM_CREATE_VM: %s\n", strerror(-vm));
		exit(1);
	}
	if (flags & SPLIT)
		need(vm, KVM_ENABLE_CAP, &split, "KVM_CAP_SPLIT_IRQCHIP");
	else if (!(flags & NO_CHIP))
		need(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	if (flags & PIT)
		need(vm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
	slot_new(0, 0, RAM_SIZE);
	slot_new(1, SLOT1, SLOT_SIZE);
	slot_new(2, SLOT2, SLOT_SIZE);
	ram = slots[0];
	tables_init();
	handlers_init();
	code = ram + CODE;
	for (unsigned int n = 0; n < (flags & TWO ? 2 : 1); n++)
		vcpu_new(n);
}

/* ---- a run ---- */

static void port_out(struct kvm_run *r)
{
	uint32_t value = 0;

	memcpy(&value, (uint8_t *)r + r->io.data_offset, r->io.size);
	if (r->io.port == PORT_VECTOR)
		seen.vector = value;
	else if (r->io.port == PORT_CR2)
		seen.cr2 = value;
	else if (r->io.port == PORT_SAY && seen.count < sizeof(seen.said) / sizeof(seen.said[0]))
		seen.said[seen.count++] = value;
}

static void mmio(struct kvm_run *r)
{
	if (!r->mmio.is_write) {
		memset(r->mmio.data, 0x5a, sizeof(r->mmio.data));
		return;
	}
	memcpy(seen.mmio, r->mmio.data, sizeof(seen.mmio));
	seen.mmio_len = r->mmio.len;
}

static int run_loop(unsigned int n)
{
	struct kvm_run *r = run[n];

	for (;;) {
		int ret = call(vcpu[n], KVM_RUN, NULL, "KVM_RUN");

		if (ret < 0)
			return ret;
		if (r->exit_reason == KVM_EXIT_MMIO) {
			mmio(r);
		} else if (r->exit_reason == KVM_EXIT_IO) {
			if (r->io.direction == KVM_EXIT_IO_OUT && r->io.port == PORT_END)
				return 0;
			if (r->io.direction == KVM_EXIT_IO_OUT)
				port_out(r);
		} else if (r->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
			   r->internal.suberror == KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON) {
			/* The shadow is gone. From now on it is EIO. */
			if (ioctl(vcpu[n], KVM_RUN, 0) >= 0 || errno != EIO)
				on_death("KVM_RUN -> KVM_EXIT_INTERNAL_ERROR, but then no EIO");
			on_death("KVM_RUN -> KVM_EXIT_INTERNAL_ERROR, then");
		} else {
			return r->exit_reason;
		}
	}
}

int guest_run(unsigned int n)
{
	if (n == 0) {
		set_reg(2, PORT_END);
		emit8(0xef);
		EMIT("\xf4\xeb\xfd");
		code = ram + CODE;
		memset(&seen, 0, sizeof(seen));
		seen.vector = -1;
	}
	registers_set(n);
	return run_loop(n);
}
