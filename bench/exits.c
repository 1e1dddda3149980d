// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A small VMM on the public KVM API: its guest does one kind of exit over and over and measures it with RDTSC.
 * The same binary runs on stock KVM and, preloaded, on Umbra.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "guest.h"

#define MEMORY_SIZE 0x200000
#define PML4 0x1000
#define PDPT 0x2000
#define PD 0x3000
#define IDT 0x4000
#define GDT 0x5000
#define CODE 0x8000
#define RESULTS 0x10000
#define STACK_TOP 0x80000
#define BATCHES_MAX 1000

extern const uint8_t guest_start[], guest_end[], guest_init[], guest_interrupt[];

#define GUEST(name) extern const uint8_t guest_##name[]
GUEST(empty);
GUEST(cpuid);
GUEST(rdmsr_apic_base);
GUEST(rdmsr_misc_enable);
GUEST(wrmsr_tsc_deadline);
GUEST(port_out);
GUEST(port_in);
GUEST(mmio_write);
GUEST(mmio_read);
GUEST(ioeventfd_port);
GUEST(ioeventfd_mmio);
GUEST(halt_wake);

struct item {
	const char *name;
	const uint8_t *code;
	unsigned int batch; /* operations */
	bool waker;	    /* needs the thread that answers GUEST_PORT_EVENT with an interrupt */
	uint32_t to_client; /* KVM_EXIT_* that each operation brings the client; 0: none */
};

static const struct item items[] = {
	{ "empty", guest_empty, 1000, false, 0 },
	{ "cpuid", guest_cpuid, 1000, false, 0 },
	{ "rdmsr_apic_base", guest_rdmsr_apic_base, 1000, false, 0 },
	{ "rdmsr_misc_enable", guest_rdmsr_misc_enable, 1000, false, 0 },
	{ "wrmsr_tsc_deadline", guest_wrmsr_tsc_deadline, 1000, false, 0 },
	{ "port_out", guest_port_out, 1000, false, KVM_EXIT_IO },
	{ "port_in", guest_port_in, 1000, false, KVM_EXIT_IO },
	{ "mmio_write", guest_mmio_write, 1000, false, KVM_EXIT_MMIO },
	{ "mmio_read", guest_mmio_read, 1000, false, KVM_EXIT_MMIO },
	{ "ioeventfd_port", guest_ioeventfd_port, 1000, false, 0 },
	{ "ioeventfd_mmio", guest_ioeventfd_mmio, 1000, false, 0 },
	{ "halt_wake", guest_halt_wake, 100, true, 0 },
};
#define ITEMS (sizeof(items) / sizeof(items[0]))

static int kvm, vm, vcpu, event, irq;
static struct kvm_run *run;
static uint8_t *memory;
static unsigned int batches = 20;

static int call(int fd, const char *name, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		err(1, "%s", name);
	return ret;
}
#define CALL(fd, request, arg) call(fd, #request, request, (void *)(uintptr_t)(arg))

static uint64_t guest_address(const uint8_t *code)
{
	return CODE + (uint64_t)(code - guest_start);
}

static void put64(uint64_t gpa, uint64_t value)
{
	memcpy(memory + gpa, &value, sizeof(value));
}

/* ---- set-up ---- */

static void memory_make(void)
{
	struct kvm_userspace_memory_region slot = { .memory_size = MEMORY_SIZE };
	uint64_t handler = guest_address(guest_interrupt);

	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "guest memory");
	slot.userspace_addr = (uintptr_t)memory;
	memcpy(memory + CODE, guest_start, (size_t)(guest_end - guest_start));
	/* 4 MiB, identity: memory, and nothing behind it for MMIO. (SDM 3A 4.5) */
	put64(PML4, PDPT | 3);
	put64(PDPT, PD | 3);
	put64(PD, 0 | 0x83);
	put64(PD + 8, GUEST_MMIO | 0x83);
	put64(GDT + 8, 0x00af9b000000ffff);
	put64(GDT + 16, 0x00cf93000000ffff);
	/* An interrupt gate to the code segment. (SDM 3A 6.14.1) */
	put64(IDT + GUEST_VECTOR * 16,
	      (handler & 0xffff) | 8ULL << 16 | 0x8eULL << 40 | (handler >> 16 & 0xffff) << 48);
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
}

static void events_make(void)
{
	struct kvm_irq_routing *routing = calloc(1, sizeof(*routing) + sizeof(routing->entries[0]));
	struct kvm_ioeventfd doorbell = { .addr = GUEST_PORT_EVENT, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO };
	struct kvm_irqfd irqfd = { .gsi = 0 };

	event = eventfd(0, EFD_CLOEXEC);
	irq = eventfd(0, EFD_CLOEXEC);
	if (event < 0 || irq < 0 || !routing)
		err(1, "events");
	doorbell.fd = event;
	CALL(vm, KVM_IOEVENTFD, &doorbell);
	doorbell = (struct kvm_ioeventfd) { .addr = GUEST_MMIO_EVENT, .len = 4, .fd = event };
	CALL(vm, KVM_IOEVENTFD, &doorbell);
	routing->nr = 1;
	routing->entries[0].type = KVM_IRQ_ROUTING_MSI;
	routing->entries[0].u.msi.address_lo = 0xfee00000; /* physical, APIC 0 */
	routing->entries[0].u.msi.data = GUEST_VECTOR;	   /* fixed, edge */
	CALL(vm, KVM_SET_GSI_ROUTING, routing);
	free(routing);
	irqfd.fd = (uint32_t)irq;
	CALL(vm, KVM_IRQFD, &irqfd);
}

static void cpuid_set(void)
{
	unsigned int room = 256;
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + room * sizeof(cpuid->entries[0]));

	if (!cpuid)
		err(1, "memory");
	cpuid->nent = room;
	CALL(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	for (unsigned int i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1) /* what KVM answers by capabilities: x2APIC, TSC deadline */
			cpuid->entries[i].ecx |= 1U << 21 | 1U << 24;
	CALL(vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

static void segment_set(struct kvm_segment *segment, uint16_t selector, uint8_t type, bool code)
{
	*segment = (struct kvm_segment) { .limit = 0xffffffff,
					  .selector = selector,
					  .type = type,
					  .present = 1,
					  .s = 1,
					  .g = 1,
					  .l = code,
					  .db = !code };
}

static void long_mode_set(void)
{
	struct kvm_sregs sregs;

	CALL(vcpu, KVM_GET_SREGS, &sregs);
	segment_set(&sregs.cs, 8, 11, true);
	segment_set(&sregs.ss, 16, 3, false);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss;
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 23;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0xfff;
	sregs.cr0 = 0x80010033; /* PG WP NE ET MP PE */
	sregs.cr3 = PML4;
	sregs.cr4 = 0x620;  /* OSXMMEXCPT OSFXSR PAE */
	sregs.efer = 0x500; /* LMA LME */
	CALL(vcpu, KVM_SET_SREGS, &sregs);
}

static void open_kvm(void)
{
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	vm = CALL(kvm, KVM_CREATE_VM, 0);
}

static void create_vcpu(void)
{
	int size = CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	vcpu = CALL(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "mmap of the vCPU");
}

static void create(void)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 24 };

	open_kvm();
	CALL(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	CALL(vm, KVM_ENABLE_CAP, &split);
	memory_make();
	create_vcpu();
	events_make();
	cpuid_set();
	long_mode_set();
}

/* ---- running ---- */

/* Ends with the guest's OUT to GUEST_PORT_DONE. Returns how many exits came to us, which must all be of one kind. */
static unsigned long run_guest(uint32_t expected)
{
	unsigned long exits = 0;

	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			err(1, "KVM_RUN");
		}
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == GUEST_PORT_DONE)
			return exits;
		if (run->exit_reason != expected)
			errx(1, "exit reason %u instead of %u", run->exit_reason, expected);
		exits++;
		if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
			*((uint8_t *)run + run->io.data_offset) = 0x5a;
		else if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
			memset(run->mmio.data, 0x5a, sizeof(run->mmio.data));
	}
}

static void registers_set(const uint8_t *code, unsigned int batch, unsigned int magic)
{
	struct kvm_regs regs = { .rip = guest_address(code),
				 .rsp = STACK_TOP,
				 .rflags = 2,
				 .r13 = batches,
				 .r15 = batch,
				 .r14 = RESULTS,
				 .r11 = magic };

	CALL(vcpu, KVM_SET_REGS, &regs);
}

static void *wake(void *arg)
{
	uint64_t count;

	(void)arg;
	for (;;) {
		if (read(event, &count, sizeof(count)) != sizeof(count))
			err(1, "eventfd");
		count = 1;
		if (write(irq, &count, sizeof(count)) != sizeof(count))
			err(1, "irqfd");
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The waker never ends, so items that need it come after all that do not. */
static void measure(const struct item *item, bool magic)
{
	uint64_t results[BATCHES_MAX];
	unsigned long exits;
	pthread_t thread;

	if (item->waker) {
		errno = pthread_create(&thread, NULL, wake, NULL);
		if (errno)
			err(1, "thread");
	}
	memset(memory + RESULTS, 0, sizeof(results));
	registers_set(item->code, item->batch, magic ? 1 : 0);
	exits = run_guest(item->to_client);
	if (exits != (item->to_client ? (unsigned long)item->batch * batches : 0))
		errx(1, "%s: %lu exits came to the client", item->name, exits);
	memcpy(results, memory + RESULTS, sizeof(results));
	qsort(results, batches, sizeof(results[0]), compare);
	if (!results[0])
		errx(1, "%s: the guest has not measured", item->name);
	printf("%s %.1f %.1f\n", item->name, (double)results[0] / item->batch,
	       (double)results[batches / 2] / item->batch);
	fflush(stdout);
}

static void measure_startup(void)
{
	uint64_t start = tsc_read(), created;

	open_kvm();
	created = tsc_read() - start;
	create_vcpu();
	printf("start_vm %llu\nstart_vcpu %llu\n", (unsigned long long)created,
	       (unsigned long long)(tsc_read() - start));
}

static _Noreturn void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: exits [--batches N] [--magic] [--startup] [ITEM...]\n"
		"prints for each item: name, TSC ticks of an operation (least of the batches), median\n"
		"  --batches N  per item (20; at most %d)\n"
		"  --startup    instead: ticks from opening /dev/kvm to a VM, to a vCPU\n"
		"  --magic      say \"ready\", wait for a line of input; the last batch begins with XCHG BX,BX\n"
		"items:",
		BATCHES_MAX);
	for (unsigned int i = 0; i < ITEMS; i++)
		fprintf(status ? stderr : stdout, " %s", items[i].name);
	fputc('\n', status ? stderr : stdout);
	exit(status);
}

static const struct item *item_find(const char *name)
{
	for (unsigned int i = 0; i < ITEMS; i++)
		if (!strcmp(items[i].name, name))
			return &items[i];
	usage(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "batches", required_argument, NULL, 'b' },
		{ "magic", no_argument, NULL, 'm' },
		{ "startup", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool magic = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'b':
			batches = (unsigned int)strtoul(optarg, NULL, 10);
			if (!batches || batches > BATCHES_MAX)
				usage(2);
			break;
		case 'm':
			magic = true;
			break;
		case 's':
			measure_startup();
			return 0;
		default:
			usage(option == 'h' ? 0 : 2);
		}
	}
	for (int i = optind; i < argc; i++)
		item_find(argv[i]);
	create();
	registers_set(guest_init, 0, 0);
	run_guest(0);
	if (magic) {
		puts("ready");
		fflush(stdout);
		if (getchar() == EOF)
			errx(1, "no input");
	}
	for (unsigned int i = 0; optind == argc && i < ITEMS; i++)
		measure(&items[i], magic);
	for (int i = optind; i < argc; i++)
		measure(item_find(argv[i]), magic);
	return 0;
}
