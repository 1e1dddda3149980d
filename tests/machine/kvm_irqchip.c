// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A KVM client, for "umbra run --" and for stock KVM: what accesses of a guest and calls of the VMM leave in PIC, PIT and I/O
 * APIC. Prints what it saw; the output of both is compared. Left out is what depends on the time, and what Umbra does as the
 * data sheets say and KVM does not: poll mode, special mask mode, BCD counts, no output
 * of a PIC that is being initialized.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE (1 << 20)
#define CODE 0x10000 /* the operations, straight on */
#define STUBS 0x8000 /* 256 handlers of 16 bytes */
#define IDT 0x4000
#define GDT 0x3000
#define STACK 0x2ff0
#define LOG 0x40000 /* what IN gave and which vectors came */
#define LOG_MAX 1024
#define END_PORT 0xf4
#define IOAPIC 0xfec00000u
#define ROUTES_MAX 4096

static int kvm, vm, vcpu;
static struct kvm_run *run;
static uint8_t *ram, *code;
static int case_nr;

static void die(const char *what)
{
	printf("not ok kvm_irqchip: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int call(int fd, unsigned long nr, void *arg)
{
	return ioctl(fd, nr, arg) < 0 ? -errno : 0;
}

static void need(int fd, unsigned long nr, void *arg, const char *what)
{
	if (call(fd, nr, arg))
		die(what);
}

/* ---- code of the guest: 32-bit, flat ---- */

static void emit(const char *bytes, size_t count)
{
	memcpy(code, bytes, count);
	code += count;
}

static void emit32(uint32_t value)
{
	memcpy(code, &value, 4);
	code += 4;
}

static void out(uint16_t port, uint32_t value, int size)
{
	emit("\x66\xba", 2); /* mov dx, port */
	memcpy(code, &port, 2);
	code += 2;
	*code++ = 0xb8; /* mov eax, value */
	emit32(value);
	if (size == 2)
		*code++ = 0x66;
	*code++ = size == 1 ? 0xee : 0xef;
}

static void in(uint16_t port, int size)
{
	emit("\x66\xba", 2);
	memcpy(code, &port, 2);
	code += 2;
	emit("\x31\xc0", 2); /* xor eax, eax */
	if (size == 2)
		*code++ = 0x66;
	*code++ = size == 1 ? 0xec : 0xed;
	*code++ = 0xab; /* stosd */
}

static void store(uint32_t addr, uint32_t value)
{
	emit("\xc7\x05", 2);
	emit32(addr);
	emit32(value);
}

static void load(uint32_t addr)
{
	*code++ = 0xa1;
	emit32(addr);
	*code++ = 0xab;
}

static void interrupts_taken(void)
{
	emit("\xfb\x90\x90\x90\xfa", 5);
}

static void ioapic_write(uint8_t reg, uint32_t value)
{
	store(IOAPIC, reg);
	store(IOAPIC + 0x10, value);
}

static void guest_init(void)
{
	static const uint64_t gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };

	memset(ram, 0, RAM_SIZE);
	memcpy(ram + GDT, gdt, sizeof(gdt));
	for (uint32_t n = 0; n < 256; n++) {
		uint32_t at = STUBS + n * 16, gate[2] = { 0x80000 | (at & 0xffff), (at & 0xffff0000) | 0x8e00 };

		memcpy(ram + IDT + n * 8, gate, 8);
		code = ram + at;
		emit("\x50\xb8", 2); /* push eax; mov eax, marked vector */
		emit32(0xc0de0000 | n);
		emit("\xab\xe9", 2); /* stosd; jmp common */
		emit32(STUBS + 0x1000 - (at + 12));
	}
	/* An interrupt that never ends (level-triggered, automatic EOI) ends the run when the log is full. */
	code = ram + STUBS + 0x1000;
	emit("\x81\xff", 2); /* cmp edi, end of the log */
	emit32(LOG + LOG_MAX * 4);
	emit("\x73\x02\x58\xcf", 4); /* jae over; pop eax; iret */
	out(END_PORT, 0, 1);
	code = ram + CODE;
}

/* ---- the machine ---- */

static void machine_open(int pit)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM_SIZE, .userspace_addr = (uintptr_t)ram };
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };

	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM");
	if (call(vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000))
		die("KVM_SET_TSS_ADDR");
	printf("before: pit %d get %d set %d line %d\n", call(vm, KVM_GET_PIT2, &(struct kvm_pit_state2) { 0 }),
	       call(vm, KVM_GET_IRQCHIP, &(struct kvm_irqchip) { 0 }),
	       call(vm, KVM_SET_IRQCHIP, &(struct kvm_irqchip) { 0 }),
	       call(vm, KVM_IRQ_LINE, &(struct kvm_irq_level) { 0 }));
	need(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	printf("twice: %d\n", call(vm, KVM_CREATE_IRQCHIP, NULL));
	if (pit) {
		printf("no pit: %d %d\n", call(vm, KVM_GET_PIT2, &(struct kvm_pit_state2) { 0 }),
		       call(vm, KVM_REINJECT_CONTROL, &(struct kvm_reinject_control) { 0 }));
		need(vm, KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2");
		printf("pit twice: %d\n", call(vm, KVM_CREATE_PIT2, &config));
	}
	need(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		die("KVM_CREATE_VCPU");
	run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("mmap");
	printf("KVM_INTERRUPT: %d\n", call(vcpu, KVM_INTERRUPT, &(struct kvm_interrupt) { 0x20 }));
	guest_init();
}

static void machine_close(void)
{
	munmap(run, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	close(vcpu);
	close(vm);
}

static void registers_set(void)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1
	};
	struct kvm_regs regs = { .rip = CODE, .rsp = STACK, .rdi = LOG, .rflags = 2 };
	struct kvm_sregs sregs;

	need(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	data.selector = 8;
	data.type = 11;
	sregs.cs = data;
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 23;
	sregs.idt.base = IDT;
	sregs.idt.limit = 2047;
	sregs.cr0 = 0x11;
	need(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	need(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

/* What was emitted since the last time. */
static void guest_run(void)
{
	struct kvm_regs regs;

	out(END_PORT, 0, 1);
	if (code > ram + LOG)
		die("too much code");
	memset(ram + LOG, 0, LOG_MAX * 4);
	registers_set();
	for (;;) {
		int ret = call(vcpu, KVM_RUN, NULL);

		if (ret == -EINTR)
			continue;
		if (ret || run->exit_reason != KVM_EXIT_IO) {
			printf("KVM_RUN: %d, exit reason %u\n", ret, run->exit_reason);
			errno = EPROTO;
			die("KVM_RUN");
		}
		if (run->io.port == END_PORT)
			break;
		/* Ports next to the devices', and accesses that reach beyond them. */
		printf(" to the VMM: %s %x %u\n", run->io.direction ? "out" : "in", run->io.port, run->io.size);
		memset((uint8_t *)run + run->io.data_offset, 0x5a, run->io.size);
	}
	need(vcpu, KVM_GET_REGS, &regs, "KVM_GET_REGS");
	printf(" log:");
	for (uint32_t at = LOG; at < regs.rdi && at < LOG + LOG_MAX * 4; at += 4)
		printf(" %x", *(uint32_t *)(ram + at));
	printf("\n");
	code = ram + CODE;
}

static void line(uint32_t gsi, int level)
{
	struct kvm_irq_level arg = { .irq = gsi, .level = level };
	int ret = call(vm, KVM_IRQ_LINE_STATUS, &arg);

	printf(" line %u %d: %d %d\n", gsi, level, ret, arg.status);
}

/* ---- what is compared ---- */

static void dump(void)
{
	struct kvm_irqchip chip = { 0 };
	struct kvm_lapic_state lapic;

	for (unsigned int id = 0; id < 2; id++) {
		const struct kvm_pic_state *p = &chip.chip.pic;

		chip.chip_id = id;
		need(vm, KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP");
		printf(" pic%u: last %x irr %x imr %x isr %x add %x base %x read %x poll %x smm %x init %x aeoi %x rot %x "
		       "sfnm %x init4 %x elcr %x mask %x\n",
		       id, p->last_irr, p->irr, p->imr, p->isr, p->priority_add, p->irq_base, p->read_reg_select,
		       p->poll, p->special_mask, p->init_state, p->auto_eoi, p->rotate_on_auto_eoi,
		       p->special_fully_nested_mode, p->init4, p->elcr, p->elcr_mask);
	}
	chip.chip_id = 2;
	need(vm, KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP");
	printf(" ioapic: %llx %x %x irr %x:", (unsigned long long)chip.chip.ioapic.base_address,
	       chip.chip.ioapic.ioregsel, chip.chip.ioapic.id, chip.chip.ioapic.irr);
	for (int n = 0; n < 24; n++)
		printf(" %llx", (unsigned long long)chip.chip.ioapic.redirtbl[n].bits);
	need(vcpu, KVM_GET_LAPIC, &lapic, "KVM_GET_LAPIC");
	printf("\n lapic:");
	for (int reg = 0x10; reg < 0x28; reg++)
		printf(" %x", *(uint32_t *)(lapic.regs + reg * 16));
	printf("\n");
}

static void dump_pit(void)
{
	struct kvm_pit_state2 state;

	need(vm, KVM_GET_PIT2, &state, "KVM_GET_PIT2");
	for (int n = 0; n < 3; n++) {
		const struct kvm_pit_channel_state *c = &state.channels[n];

		printf(" pit%d: count %x latched %x %x read %x write %x %x rw %x mode %x bcd %x gate %x\n", n, c->count,
		       c->count_latched, c->status_latched, c->read_state, c->write_state, c->write_latch, c->rw_mode,
		       c->mode, c->bcd, c->gate);
	}
	printf(" flags %x\n", state.flags);
}

static void title(const char *what)
{
	printf("== %d %s\n", case_nr++, what);
}

/* ---- cases ---- */

static void pic_program(uint8_t icw4)
{
	for (int n = 0; n < 2; n++) {
		uint16_t port = n ? 0xa0 : 0x20;

		out(port, 0x11, 1);
		out(port + 1, n ? 0x38 : 0x30, 1);
		out(port + 1, n ? 2 : 4, 1);
		out(port + 1, icw4, 1);
		out(port + 1, 0, 1);
	}
}

static void lapic_enable(void)
{
	store(0xfee000f0, 0x1ff);
}

static void by_hand(void)
{
	title("after creation");
	machine_open(0);
	dump();
	title("registers");
	for (int reg = 0; reg < 0x44; reg++) {
		store(IOAPIC, reg);
		load(IOAPIC);
		load(IOAPIC + 0x10);
	}
	for (int offset = 4; offset < 0x100; offset += 4)
		if (offset != 0x10)
			load(IOAPIC + offset);
	for (int size = 1; size <= 2; size++) {
		in(0x20, size);
		in(0x21, 1);
		in(0xa0, size);
		in(0xa1, 1);
		in(0x4d0, size);
		in(0x4d1, 1);
	}
	guest_run();
	title("PIC: edges, levels, nesting");
	pic_program(1);
	out(0x4d0, 0xff, 1);
	out(0x4d1, 0xff, 1);
	out(0x4d0, 0x20, 1);
	in(0x4d1, 1);
	guest_run();
	for (int gsi = 0; gsi < 16; gsi++) {
		line(gsi, 1);
		line(gsi, 1);
		line(gsi, 0);
	}
	dump();
	for (int n = 0; n < 20; n++) {
		interrupts_taken();
		out(0x20, n & 1 ? 0x0a : 0x0b, 1);
		in(0x20, 1);
		out(0xa0, 0x20, 1);
		out(0x20, 0x20, 1);
	}
	guest_run();
	dump();
	line(5, 1);
	interrupts_taken();
	guest_run();
	dump();
	out(0x20, 0x65, 1);
	interrupts_taken();
	guest_run();
	line(5, 0);
	dump();
	title("I/O APIC: level, EOI");
	lapic_enable();
	out(0x21, 0xff, 1);
	ioapic_write(0x10 + 2 * 10, 0x8061);
	ioapic_write(0x10 + 2 * 4, 0x44);
	guest_run();
	line(10, 1);
	line(4, 1);
	line(4, 1);
	dump();
	interrupts_taken();
	guest_run();
	dump();
	store(0xfee000b0, 0);
	guest_run();
	dump();
	line(10, 0);
	interrupts_taken();
	store(0xfee000b0, 0);
	interrupts_taken();
	store(0xfee000b0, 0);
	guest_run();
	dump();
	title("RTC");
	ioapic_write(0x10 + 2 * 8, 0x48);
	guest_run();
	for (int n = 0; n < 3; n++) {
		line(8, 1);
		line(8, 0);
	}
	interrupts_taken();
	store(0xfee000b0, 0);
	guest_run();
	line(8, 1);
	line(8, 0);
	dump();
	machine_close();
}

/* Irqfds act in their own time: until the pin is up. */
static void pin_wait(unsigned int pin)
{
	struct kvm_irqchip chip = { .chip_id = 2 };

	for (int n = 0; n < 5000; n++) {
		need(vm, KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP");
		if (chip.chip.ioapic.irr >> pin & 1)
			return;
		usleep(1000);
	}
	printf(" pin %u never came up\n", pin);
}

static uint64_t told(int fd)
{
	eventfd_t count = 0;

	return eventfd_read(fd, &count) ? 0 : count;
}

static int irqfd(int fd, int resample, uint32_t gsi, uint32_t flags)
{
	struct kvm_irqfd arg = { .fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resample };

	return call(vm, KVM_IRQFD, &arg);
}

static void resample_cases(void)
{
	int fd = eventfd(0, EFD_NONBLOCK), re = eventfd(0, EFD_NONBLOCK);

	title("resampling irqfd");
	machine_open(0);
	lapic_enable();
	ioapic_write(0x10 + 2 * 10, 0x8061);
	guest_run();
	printf(" %d", irqfd(fd, 9999, 10, KVM_IRQFD_FLAG_RESAMPLE));
	printf(" %d", irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE));
	printf(" %d\n", irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE));
	for (int n = 0; n < 3; n++) {
		eventfd_write(fd, 1);
		pin_wait(10);
		interrupts_taken();
		guest_run();
		dump();
		printf(" told %d", (int)told(re));
		store(0xfee000b0, 0);
		interrupts_taken();
		guest_run();
		printf(" told %d\n", (int)told(re));
		dump();
	}
	eventfd_write(fd, 1);
	pin_wait(10);
	printf(" %d\n", irqfd(fd, re, 10, KVM_IRQFD_FLAG_DEASSIGN));
	dump();
	machine_close();
	close(fd);
	close(re);
}

static void split_cases(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	int fd = eventfd(0, EFD_NONBLOCK), re = eventfd(0, EFD_NONBLOCK);

	title("split irqchip");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM");
	printf(" irqfd before: %d\n", irqfd(fd, re, 10, 0));
	cap.args[0] = ROUTES_MAX + 1;
	printf(" split, too many pins %d", call(vm, KVM_ENABLE_CAP, &cap));
	cap.args[0] = 24;
	printf(" split %d", call(vm, KVM_ENABLE_CAP, &cap));
	printf(" again %d", call(vm, KVM_ENABLE_CAP, &cap));
	printf(" create %d", call(vm, KVM_CREATE_IRQCHIP, NULL));
	printf(" get %d set %d pit %d\n", call(vm, KVM_GET_IRQCHIP, &(struct kvm_irqchip) { 0 }),
	       call(vm, KVM_SET_IRQCHIP, &(struct kvm_irqchip) { 0 }),
	       call(vm, KVM_GET_PIT2, &(struct kvm_pit_state2) { 0 }));
	printf(" resample %d", irqfd(fd, re, 10, KVM_IRQFD_FLAG_RESAMPLE));
	printf(" plain %d", irqfd(fd, re, 10, 0));
	printf(" line %d\n", call(vm, KVM_IRQ_LINE, &(struct kvm_irq_level) { .irq = 3, .level = 1 }));
	close(vm);
	close(fd);
	close(re);
}

/* A message for each GSI that there can be; the highest one arrives. */
static void many_routes(void)
{
	struct kvm_irq_routing *arg = calloc(1, sizeof(*arg) + (ROUTES_MAX + 1) * sizeof(arg->entries[0]));

	if (!arg)
		die("calloc");
	title("many routes");
	machine_open(0);
	lapic_enable();
	guest_run();
	for (uint32_t n = 0; n <= ROUTES_MAX; n++) {
		arg->entries[n].gsi = n % ROUTES_MAX;
		arg->entries[n].type = KVM_IRQ_ROUTING_MSI;
		arg->entries[n].u.msi.address_lo = 0xfee00000;
		arg->entries[n].u.msi.data = 0x40 + n % 0x80;
	}
	printf(" room %d", ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING));
	arg->nr = ROUTES_MAX;
	printf(" all %d\n", call(vm, KVM_SET_GSI_ROUTING, arg));
	line(ROUTES_MAX - 1, 1);
	line(1365, 1); /* the message's number of entries is no power of two: around a place where one may be cut */
	line(1366, 1);
	line(ROUTES_MAX, 1);
	interrupts_taken();
	guest_run();
	dump();
	arg->nr = ROUTES_MAX + 1;
	printf(" one more %d", call(vm, KVM_SET_GSI_ROUTING, arg));
	arg->nr = ROUTES_MAX;
	arg->entries[ROUTES_MAX - 1].gsi = 0;
	printf(" twice at the end %d", call(vm, KVM_SET_GSI_ROUTING, arg));
	arg->entries[ROUTES_MAX - 1].gsi = ROUTES_MAX;
	printf(" too high at the end %d\n", call(vm, KVM_SET_GSI_ROUTING, arg));
	line(ROUTES_MAX - 1, 1); /* the routes from before */
	interrupts_taken();
	guest_run();
	dump();
	machine_close();
	free(arg);
}

/* Routes: what is taken, and where lines go then. */
static void routing_cases(void)
{
	static const struct {
		uint32_t gsi, type, flags, chip, pin;
	} row[] = {
		{ 5, 1, 0, 0, 8 },    { 5, 1, 0, 1, 8 },  { 5, 1, 0, 2, 24 },	{ 5, 1, 0, 3, 0 },
		{ 5, 1, 1, 2, 3 },    { 5, 9, 0, 0, 0 },  { 4096, 1, 0, 2, 3 }, { 6, 1, 0, 2, 7 },
		{ 4095, 1, 0, 2, 7 }, { 16, 1, 0, 1, 6 }, { 0, 1, 0, 2, 2 },
	};
	struct kvm_irq_routing *arg = calloc(1, sizeof(*arg) + 2 * sizeof(arg->entries[0]));
	struct kvm_irq_routing_entry *entry;

	if (!arg)
		die("calloc");
	entry = arg->entries;
	title("routes");
	machine_open(0);
	lapic_enable();
	ioapic_write(0x10 + 2 * 7, 0x57);
	guest_run();
	for (size_t n = 0; n < sizeof(row) / sizeof(row[0]); n++) {
		memset(arg, 0, sizeof(*arg) + 2 * sizeof(*entry));
		arg->nr = 1;
		entry[0].gsi = row[n].gsi;
		entry[0].type = row[n].type;
		entry[0].flags = row[n].flags;
		entry[0].u.irqchip.irqchip = row[n].chip;
		entry[0].u.irqchip.pin = row[n].pin;
		printf(" route %zu: %d", n, call(vm, KVM_SET_GSI_ROUTING, arg));
		arg->nr = 2;
		entry[1] = entry[0];
		printf(" twice %d", call(vm, KVM_SET_GSI_ROUTING, arg));
		entry[1].u.irqchip.irqchip ^= 2;
		entry[1].u.irqchip.pin &= 7;
		printf(" two chips %d\n", call(vm, KVM_SET_GSI_ROUTING, arg));
		for (uint32_t gsi = 0; gsi < 18; gsi++) {
			line(gsi, 1);
			line(gsi, 0);
		}
		line(row[n].gsi, 1);
		line(row[n].gsi, 0);
		interrupts_taken();
		store(0xfee000b0, 0);
		guest_run();
		dump();
	}
	machine_close();
	free(arg);
}

static const uint8_t safe_ocw3[] = { 0x08, 0x0a, 0x0b, 0x48 };

static void random_pic_op(void)
{
	uint16_t port = rand() % 2 ? 0x20 : 0xa0;
	uint8_t icw1;

	switch (rand() % 12) {
	case 0:
		pic_program(rand() % 4 ? 1 : 1 | (rand() & 0x12));
		break;
	case 1:
		/* To its end and with a mask: KVM lets its output stand until something else changes. */
		icw1 = 0x10 | (rand() & 0xe9);
		out(port, icw1, 1);
		for (int n = icw1 & 1 ? 4 : 3; n; n--)
			out(port + 1, rand() & 0xf3, 1);
		break;
	case 2:
		out(0x4d0 + rand() % 2, rand(), 1);
		break;
	case 3:
		out(port, safe_ocw3[rand() % 4], 1);
		break;
	case 4:
		out(port + 1, rand() & rand(), 1);
		break;
	case 5:
		interrupts_taken();
		break;
	case 6:
		out(rand() % 2 ? 0x4d0 : port, rand(), 2); /* not a byte: ignored */
		break;
	case 7:
		in(port + rand() % 2, 1 + rand() % 2);
		break;
	default:
		out(port, rand() & 0xe7, 1); /* OCW2 */
	}
}

static void random_ioapic_op(void)
{
	uint32_t reg = rand() % 8 ? 0x10 + rand() % 48 : rand() % 256;

	if (rand() % 4 == 0) {
		store(IOAPIC, reg);
		load(IOAPIC + 0x10);
	} else if (rand() % 4 == 0) {
		store(0xfee000b0, 0);
		interrupts_taken();
	} else {
		/* High half: physical, the first APIC or nobody. Low: fixed or lowest, any trigger, often unmasked. */
		ioapic_write(reg, reg & 1 ? (rand() % 8 ? 0 : 0x5000000) | (rand() & 0xffffff)
					  : (0x40 + rand() % 0xb0) | (rand() & 0xfef57000) | (rand() % 2) << 8 |
						    (rand() % 4 ? 0 : 0x10000));
	}
}

static void random_lines(void)
{
	for (int n = rand() % 6; n; n--)
		line(rand() % 26, rand() % 2);
}

static void random_cases(int count)
{
	title("random accesses");
	for (int n = 0; n < count; n++) {
		srand(1000 + n);
		printf("= %d\n", n);
		machine_open(0);
		lapic_enable();
		pic_program(1);
		for (int round = 0; round < 12; round++) {
			for (int op = rand() % 12; op; op--) {
				if (rand() % 2)
					random_pic_op();
				else
					random_ioapic_op();
			}
			guest_run();
			random_lines();
			dump();
		}
		machine_close();
	}
}

static void state_cases(void)
{
	struct kvm_irqchip chip;
	struct kvm_pit_state2 pit;

	title("state set and read back");
	machine_open(1);
	for (int n = 0; n < 30; n++) {
		srand(n);
		for (size_t i = 0; i < sizeof(chip); i++)
			((uint8_t *)&chip)[i] = rand();
		chip.chip_id = n % 4;
		chip.chip.pic.special_mask = chip.chip.pic.poll = 0;
		if (n % 4 == 2) {
			chip.chip.ioapic.base_address = IOAPIC;
			for (int pin = 0; pin < 24; pin++) {
				chip.chip.ioapic.redirtbl[pin].bits &= 0x00fffffffffff0ff; /* fixed, to the first */
				chip.chip.ioapic.redirtbl[pin].bits |= 0x40;
			}
		}
		printf(" set %d: %d\n", n % 4, call(vm, KVM_SET_IRQCHIP, &chip));
		dump();
	}
	for (int n = 0; n < 30; n++) {
		for (size_t i = 0; i < sizeof(pit); i++)
			((uint8_t *)&pit)[i] = rand();
		for (int c = 0; c < 3; c++) {
			pit.channels[c].count &= 0xffff;
			pit.channels[c].mode = rand() % 6;
		}
		pit.channels[0].mode = 5; /* no interrupts */
		printf(" set pit: %d\n", n % 2 ? call(vm, KVM_SET_PIT2, &pit) : call(vm, KVM_SET_PIT, &pit));
		dump_pit();
	}
	machine_close();
}

static void pit_cases(void)
{
	title("PIT");
	machine_open(1);
	dump_pit();
	for (int n = 0; n < 40; n++) {
		srand(2000 + n);
		for (int op = rand() % 10; op; op--) {
			if (rand() % 3 == 0)
				out(0x43, rand() & 0xfe, 1);
			else if (rand() % 4 == 0)
				out(0x61, rand() & 3, 1);
			else
				out(0x40 + rand() % 3, rand(), rand() % 8 ? 1 : 2);
		}
		in(0x43, 1);
		guest_run();
		dump_pit();
	}
	machine_close();
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		die("mmap");
	by_hand();
	state_cases();
	pit_cases();
	resample_cases();
	routing_cases();
	many_routes();
	split_cases();
	random_cases(argc > 1 ? atoi(argv[1]) : 40);
	printf("end\n");
	return 0;
}
