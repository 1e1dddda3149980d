// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A KVM client, for "umbra run --" and for stock KVM: calls with arguments that KVM refuses, or takes although they look odd.
 * Prints what each gave; the output of both is compared. Left out is what Umbra does not offer (README), and where it refuses
 * what KVM of 6.1 takes: a PIT or a boot CPU id that later kernels refuse, bits of EFER that there are not.
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
#define NOWHERE ((void *)16)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum chip { NO_CHIP, SPLIT_CHIP, WHOLE_CHIP };
static const char *const chip_name[] = { "none", "split", "whole" };
static int kvm, vm, vcpu;
static uint8_t *ram;

static int call(int fd, unsigned long nr, void *arg)
{
	int ret = ioctl(fd, nr, arg);

	return ret < 0 ? -errno : ret;
}

static int call_number(int fd, unsigned long nr, unsigned long arg)
{
	return call(fd, nr, (void *)arg);
}

/* Values that differ from host to host are none of the comparison: what is not an error is 0. */
static void say(const char *what, long detail, int ret)
{
	printf("%s %lx: %s\n", what, detail, ret < 0 ? strerrorname_np(-ret) : "ok");
}
#define SAY(fd, nr, arg) say(#nr, 0, call(fd, nr, (void *)(arg)))
#define SAY_FOR(detail, fd, nr, arg) say(#nr, detail, call(fd, nr, (void *)(arg)))

/* ---- /dev/kvm ---- */

static void system_calls(void)
{
	static const uint32_t nents[] = { 0, 1, 256, 0xffffffff };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + 256 * sizeof(msrs->entries[0]));
	struct kvm_device_attr attr = { .group = 0, .attr = 99 };
	struct kvm_msr_list list = { 0 };

	if (!cpuid || !msrs)
		exit(1);
	say("KVM_GET_API_VERSION", 1, call_number(kvm, KVM_GET_API_VERSION, 1));
	say("KVM_GET_VCPU_MMAP_SIZE", 1, call_number(kvm, KVM_GET_VCPU_MMAP_SIZE, 1));
	say("KVM_CREATE_VM", 77, call_number(kvm, KVM_CREATE_VM, 77));
	for (size_t n = 0; n < COUNT(nents); n++) {
		cpuid->nent = nents[n];
		SAY_FOR(nents[n], kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
		if (nents[n] == 1)
			continue; /* KVM has two leaves more: an instruction that Umbra does not emulate */
		cpuid->nent = nents[n];
		SAY_FOR(nents[n], kvm, KVM_GET_EMULATED_CPUID, cpuid);
	}
	SAY(kvm, KVM_GET_SUPPORTED_CPUID, NOWHERE);
	SAY(kvm, KVM_GET_MSR_INDEX_LIST, &list);
	SAY(kvm, KVM_GET_MSR_INDEX_LIST, NOWHERE);
	list.nmsrs = 0;
	SAY(kvm, KVM_GET_MSR_FEATURE_INDEX_LIST, &list);
	msrs->nmsrs = 256;
	SAY_FOR(256, kvm, KVM_GET_MSRS, msrs);
	msrs->nmsrs = 1;
	msrs->entries[0].index = 0x12345;
	SAY_FOR(0x12345, kvm, KVM_GET_MSRS, msrs);
	SAY(kvm, KVM_GET_MSRS, NOWHERE);
	SAY(kvm, KVM_HAS_DEVICE_ATTR, &attr);
	attr.group = 5;
	SAY(kvm, KVM_GET_DEVICE_ATTR, &attr);
	SAY(kvm, KVM_GET_DEVICE_ATTR, NOWHERE);
	/* Calls that belong elsewhere, and one that nobody has. */
	SAY(kvm, KVM_RUN, NULL);
	SAY(kvm, KVM_CREATE_VCPU, NULL);
	SAY(kvm, _IO(KVMIO, 0xfe), NULL);
	SAY(kvm, _IO('x', 1), NULL);
	free(cpuid);
	free(msrs);
}

/* ---- memory slots ---- */

static void slots(void)
{
	static const struct {
		uint32_t slot, flags;
		uint64_t addr, size, offset;
	} row[] = {
		{ 0, 0, 0, RAM_SIZE, 0 },
		{ 0, 4, 0, RAM_SIZE, 0 }, /* unknown flag */
		{ 0, 0x80000000, 0, RAM_SIZE, 0 },
		{ 0, 0, 0, RAM_SIZE / 2, 0 }, /* another size */
		{ 0, 0, 0, RAM_SIZE, 4096 },  /* another place of the memory */
		{ 0, KVM_MEM_READONLY, 0, RAM_SIZE, 0 },
		{ 1, 0, 0x1000, 0x1000, 0 }, /* overlaps */
		{ 1, 0, 0x100000, 0x800, 0 },
		{ 1, 0, 0x100800, 0x1000, 0 },
		{ 1, 0, 0x100000, 0x1000, 0x800 },
		{ 1, 0, 0xfffffffffffff000, 0x2000, 0 }, /* wraps */
		{ 1, 0, 0x100000, 0, 0 },		 /* nothing to delete */
		{ 0x8000, 0, 0x100000, 0x1000, 0 },
		{ 0x20000, 0, 0x100000, 0x1000, 0 }, /* address space 2 */
		{ 1, KVM_MEM_LOG_DIRTY_PAGES, 0x100000, 0x1000, 0 },
		{ 1, 0, 0x200000, 0x1000, 0 }, /* moves */
		{ 1, KVM_MEM_READONLY, 0x200000, 0x1000, 0 },
		{ 1, 0, 0x200000, 0, 0 },
		{ 1, 0, 0x200000, 0, 0 },
		{ 2, KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES, 0x300000, 0x1000, 0 },
		{ 2, KVM_MEM_READONLY, 0x300000, 0x1000, 0 },
		{ 2, 7, 0x300000, 0, 0 }, /* deleted with an unknown flag */
		{ 2, 0, 0x300000, 0, 0 },
	};
	uint64_t bitmap[RAM_SIZE / 4096 / 64];
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	struct kvm_clear_dirty_log clear = { .num_pages = 64, .dirty_bitmap = bitmap };

	for (size_t n = 0; n < COUNT(row); n++) {
		struct kvm_userspace_memory_region region = { .slot = row[n].slot,
							      .flags = row[n].flags,
							      .guest_phys_addr = row[n].addr,
							      .memory_size = row[n].size,
							      .userspace_addr = (uintptr_t)ram + row[n].offset };

		SAY_FOR((long)n, vm, KVM_SET_USER_MEMORY_REGION, &region);
	}
	SAY(vm, KVM_SET_USER_MEMORY_REGION, NOWHERE);
	SAY_FOR(0, vm, KVM_GET_DIRTY_LOG, &log); /* not logged */
	log.slot = 9;
	SAY_FOR(9, vm, KVM_GET_DIRTY_LOG, &log); /* not there */
	log.slot = 0xffff;
	SAY_FOR(0xffff, vm, KVM_GET_DIRTY_LOG, &log);
	log.slot = 0x50000;
	SAY_FOR(0x50000, vm, KVM_GET_DIRTY_LOG, &log);
	SAY(vm, KVM_GET_DIRTY_LOG, NOWHERE);
	SAY_FOR(0, vm, KVM_CLEAR_DIRTY_LOG, &clear);
	SAY(vm, KVM_SET_MEMORY_REGION, &(struct kvm_memory_region) { 0 });
}

/* ---- capabilities ---- */

static void capabilities(void)
{
	static const struct {
		uint32_t cap, flags;
		uint64_t arg;
	} row[] = {
		{ 9999, 0, 0 },
		{ 0, 0, 0 },
		{ KVM_CAP_SPLIT_IRQCHIP, 1, 24 },
		{ KVM_CAP_SPLIT_IRQCHIP, 0, 5000 },
		{ KVM_CAP_X2APIC_API, 0, 0x100 },
		{ KVM_CAP_X2APIC_API, 0, 3 },
		{ KVM_CAP_X86_DISABLE_EXITS, 0, 0x100 },
		{ KVM_CAP_EXCEPTION_PAYLOAD, 1, 1 },
		{ KVM_CAP_EXCEPTION_PAYLOAD, 0, 1 },
		{ KVM_CAP_X86_USER_SPACE_MSR, 0, 0x1000 },
		{ KVM_CAP_X86_USER_SPACE_MSR, 0, 1 },
		{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 8 },
		{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 2 },
		{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 0 },
		{ KVM_CAP_MAX_VCPU_ID, 0, 1 << 20 },
		{ KVM_CAP_MAX_VCPU_ID, 0, 0 },
		{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 0, 2 },
		{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 0, 1 },
		{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 0, 1 },
		{ KVM_CAP_IRQFD, 0, 0 },
	};

	for (size_t n = 0; n < COUNT(row); n++) {
		struct kvm_enable_cap cap = { .cap = row[n].cap, .flags = row[n].flags, .args = { row[n].arg } };

		SAY_FOR((long)n, vm, KVM_ENABLE_CAP, &cap);
	}
	SAY(vm, KVM_ENABLE_CAP, NOWHERE);
}

/* ---- interrupts and doorbells ---- */

static void irqfds(enum chip chip)
{
	int fd = eventfd(0, EFD_CLOEXEC), other = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct kvm_irqfd row[] = {
		{ .fd = -1, .gsi = 5 },
		{ .fd = 900, .gsi = 5 },
		{ .fd = other, .gsi = 5 },
		{ .fd = fd, .gsi = 5, .flags = 0x80 },
		{ .fd = fd, .gsi = 100000 },
		{ .fd = fd, .gsi = 5, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = -1 },
		{ .fd = fd, .gsi = 5, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = other },
		{ .fd = fd, .gsi = 5, .flags = KVM_IRQFD_FLAG_DEASSIGN },
		{ .fd = fd, .gsi = 5 },
		{ .fd = fd, .gsi = 5 },
		{ .fd = fd, .gsi = 6 },
		{ .fd = fd, .gsi = 7, .flags = KVM_IRQFD_FLAG_DEASSIGN },
		{ .fd = fd, .gsi = 5, .flags = KVM_IRQFD_FLAG_DEASSIGN },
		{ .fd = fd, .gsi = 5, .flags = KVM_IRQFD_FLAG_DEASSIGN },
		{ .fd = other, .gsi = 5, .flags = KVM_IRQFD_FLAG_DEASSIGN },
	};

	for (size_t n = 0; n < COUNT(row); n++) {
		/* Of two reasons KVM names the other one. */
		if (chip != WHOLE_CHIP && row[n].flags == KVM_IRQFD_FLAG_RESAMPLE)
			continue;
		if (chip == NO_CHIP && (int)row[n].fd != fd && (int)row[n].fd != other)
			continue;
		SAY_FOR((long)n, vm, KVM_IRQFD, &row[n]);
	}
	SAY(vm, KVM_IRQFD, NOWHERE);
	close(fd);
	close(other);
}

static void ioeventfds(void)
{
	int fd = eventfd(0, EFD_CLOEXEC), other = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct kvm_ioeventfd row[] = {
		{ .fd = fd, .addr = 0x500, .len = 3, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = fd, .addr = 0x500, .len = 16, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = fd, .addr = 0x500, .len = 8, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = fd, .addr = 0x500, .len = 2, .flags = 0x100 },
		{ .fd = fd, .addr = ~0ull, .len = 2 },
		{ .fd = fd, .addr = ~0ull, .len = 0 },
		{ .fd = fd, .addr = 0xd0000000, .len = 0, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH },
		{ .fd = -1, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = other, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = fd, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = fd, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = fd, .addr = 0x500, .len = 4, .flags = KVM_IOEVENTFD_FLAG_PIO },
		{ .fd = fd, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH },
		{ .fd = fd, .addr = 0x500, .len = 2 },
		{ .fd = fd, .addr = 0x600, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN },
		{ .fd = fd, .addr = 0x500, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN },
		{ .fd = fd, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN },
		{ .fd = fd, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN },
		{ .fd = other, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN },
	};

	for (size_t n = 0; n < COUNT(row); n++)
		SAY_FOR((long)n, vm, KVM_IOEVENTFD, &row[n]);
	SAY(vm, KVM_IOEVENTFD, NOWHERE);
	close(fd);
	close(other);
}

static void interrupts(void)
{
	static const struct kvm_irq_level lines[] = {
		{ { .irq = 4 }, .level = 1 }, { { .irq = 24 }, .level = 1 },  { { .irq = 5000 }, .level = 1 },
		{ { .irq = 4 }, .level = 0 }, { { .irq = ~0u }, .level = 1 },
	};
	static const struct kvm_msi msis[] = {
		{ .address_lo = 0xfee00000, .data = 0x40 },
		{ .address_lo = 0xfee00000, .data = 0x40, .flags = 2 },
		{ .address_lo = 0xfee00000, .data = 0 },
		{ .address_lo = 0xfee09000, .data = 0x40 },
		{ .address_lo = 0xfee00000, .address_hi = 0xffffff01 },
	};
	struct kvm_coalesced_mmio_zone zone = { .addr = 0xd0000000, .size = 0x1000 };

	for (size_t n = 0; n < COUNT(lines); n++) {
		struct kvm_irq_level line = lines[n];

		SAY_FOR((long)n, vm, KVM_IRQ_LINE, &line);
		SAY_FOR((long)n, vm, KVM_IRQ_LINE_STATUS, &line);
	}
	SAY(vm, KVM_IRQ_LINE, NOWHERE);
	for (size_t n = 0; n < COUNT(msis); n++)
		SAY_FOR((long)n, vm, KVM_SIGNAL_MSI, &msis[n]);
	SAY(vm, KVM_SIGNAL_MSI, NOWHERE);
	SAY_FOR(1, vm, KVM_UNREGISTER_COALESCED_MMIO, &zone);
	SAY_FOR(1, vm, KVM_REGISTER_COALESCED_MMIO, &zone);
	SAY_FOR(2, vm, KVM_UNREGISTER_COALESCED_MMIO, &zone);
	zone.pio = 2;
	SAY_FOR(3, vm, KVM_REGISTER_COALESCED_MMIO, &zone);
	SAY_FOR(3, vm, KVM_UNREGISTER_COALESCED_MMIO, &zone);
	SAY(vm, KVM_REGISTER_COALESCED_MMIO, NOWHERE);
}

/* ---- VM ---- */

static void vm_before_vcpus(enum chip chip)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	uint64_t map = 0xfffbc000;

	if (chip == SPLIT_CHIP)
		SAY(vm, KVM_ENABLE_CAP, &split);
	if (chip == WHOLE_CHIP)
		SAY(vm, KVM_CREATE_IRQCHIP, NULL);
	if (chip != NO_CHIP) {
		SAY_FOR(2, vm, KVM_ENABLE_CAP, &split);
		SAY_FOR(2, vm, KVM_CREATE_IRQCHIP, NULL);
	}
	SAY(vm, KVM_GET_IRQCHIP, &(struct kvm_irqchip) { .chip_id = 3 });
	SAY(vm, KVM_SET_IRQCHIP, &(struct kvm_irqchip) { .chip_id = 3 });
	SAY(vm, KVM_GET_PIT2, &(struct kvm_pit_state2) { 0 });
	say("KVM_SET_TSS_ADDR", 1, call_number(vm, KVM_SET_TSS_ADDR, ~0ul));
	say("KVM_SET_TSS_ADDR", 2, call_number(vm, KVM_SET_TSS_ADDR, 0xfffffffful));
	say("KVM_SET_TSS_ADDR", 3, call_number(vm, KVM_SET_TSS_ADDR, 0xfffbd000));
	SAY(vm, KVM_SET_IDENTITY_MAP_ADDR, &map);
	SAY(vm, KVM_SET_IDENTITY_MAP_ADDR, NOWHERE);
	say("KVM_SET_BOOT_CPU_ID", 0, call_number(vm, KVM_SET_BOOT_CPU_ID, 0));
	say("KVM_CREATE_VCPU", 1 << 20, call_number(vm, KVM_CREATE_VCPU, 1 << 20));
	say("KVM_CREATE_VCPU", -1, call_number(vm, KVM_CREATE_VCPU, ~0ul));
}

static void vm_with_vcpu(void)
{
	struct kvm_clock_data clock = { .flags = 0x80 };
	struct kvm_msr_filter filter = { .flags = 8 };
	struct kvm_create_device device = { .type = 99 };
	struct kvm_device_attr attr = { .group = 9 };
	uint64_t map = 0xfffbc000;

	say("KVM_CREATE_VCPU", 0, call_number(vm, KVM_CREATE_VCPU, 0)); /* a second one of this id */
	SAY(vm, KVM_CREATE_IRQCHIP, NULL);
	SAY(vm, KVM_SET_IDENTITY_MAP_ADDR, &map);
	say("KVM_SET_BOOT_CPU_ID", 1, call_number(vm, KVM_SET_BOOT_CPU_ID, 0));
	SAY(vm, KVM_SET_CLOCK, &clock);
	SAY(vm, KVM_SET_CLOCK, NOWHERE);
	SAY(vm, KVM_GET_CLOCK, NOWHERE);
	SAY(vm, KVM_X86_SET_MSR_FILTER, &filter);
	filter.flags = 0;
	filter.ranges[0].flags = 8;
	filter.ranges[0].nmsrs = 8;
	filter.ranges[0].bitmap = ram;
	SAY_FOR(1, vm, KVM_X86_SET_MSR_FILTER, &filter);
	filter.ranges[0].flags = KVM_MSR_FILTER_READ;
	filter.ranges[0].nmsrs = 1 << 24;
	SAY_FOR(2, vm, KVM_X86_SET_MSR_FILTER, &filter);
	filter.ranges[0].nmsrs = 8;
	filter.ranges[0].bitmap = NOWHERE;
	SAY_FOR(3, vm, KVM_X86_SET_MSR_FILTER, &filter);
	SAY(vm, KVM_X86_SET_MSR_FILTER, NOWHERE);
	SAY_FOR(99, vm, KVM_CREATE_DEVICE, &device);
	SAY(vm, KVM_CREATE_DEVICE, NOWHERE);
	SAY(vm, KVM_HAS_DEVICE_ATTR, &attr);
	say("KVM_CHECK_EXTENSION", 99999, call_number(vm, KVM_CHECK_EXTENSION, 99999));
	SAY(vm, KVM_RUN, NULL);
	SAY(vm, KVM_GET_API_VERSION, NULL);
	SAY(vm, _IO(KVMIO, 0xfe), NULL);
}

/* ---- vCPU ---- */

static void mp_states(void)
{
	for (uint32_t n = 0; n < 12; n++) {
		struct kvm_mp_state state = { .mp_state = n };
		int ret = call(vcpu, KVM_SET_MP_STATE, &state);

		say("KVM_SET_MP_STATE", n, ret);
		state.mp_state = 77;
		say("KVM_GET_MP_STATE", n, call(vcpu, KVM_GET_MP_STATE, &state));
		printf(" is %u\n", state.mp_state);
	}
	SAY_FOR(-1, vcpu, KVM_SET_MP_STATE, &(struct kvm_mp_state) { .mp_state = ~0u });
	SAY(vcpu, KVM_SET_MP_STATE, NOWHERE);
	SAY(vcpu, KVM_GET_MP_STATE, NOWHERE);
	SAY(vcpu, KVM_SET_MP_STATE, &(struct kvm_mp_state) { .mp_state = KVM_MP_STATE_RUNNABLE });
}

static void sregs(void)
{
	struct kvm_sregs good, bad;
	struct kvm_sregs2 good2, bad2;

	if (call(vcpu, KVM_GET_SREGS, &good) || call(vcpu, KVM_GET_SREGS2, &good2))
		exit(1);
#define BAD(n, change)                                 \
	do {                                           \
		bad = good;                            \
		bad.change;                            \
		SAY_FOR(n, vcpu, KVM_SET_SREGS, &bad); \
	} while (0)
	BAD(0, cr0 = good.cr0);
	BAD(1, cr0 = 0x80000000); /* paging without protection */
	BAD(2, cr0 = 0x20000011); /* NW without CD */
	BAD(3, cr0 |= 1ull << 40);
	BAD(4, cr4 = 1ull << 40);
	BAD(5, cr4 = 1 << 15);
	BAD(7, efer = 0x400); /* LMA without LME and paging */
	BAD(8, efer = 0x500);
	BAD(9, cr8 = 17);
	BAD(10, apic_base = good.apic_base | 1ull << 60);
	BAD(11, apic_base = good.apic_base | 1);
	BAD(12, apic_base = 0xfee00400); /* x2APIC without enable */
	BAD(13, interrupt_bitmap[0] = 1ull << 40);
	BAD(14, interrupt_bitmap[0] = 0);
	SAY(vcpu, KVM_SET_SREGS, NOWHERE);
	SAY(vcpu, KVM_GET_SREGS, NOWHERE);
	bad2 = good2;
	bad2.flags = 8;
	SAY_FOR(1, vcpu, KVM_SET_SREGS2, &bad2);
	bad2 = good2;
	bad2.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID; /* without PAE paging */
	SAY_FOR(2, vcpu, KVM_SET_SREGS2, &bad2);
	if (call(vcpu, KVM_SET_SREGS, &good))
		printf("KVM_SET_SREGS: the first values are not taken any more\n");
}

static void events(void)
{
	struct kvm_vcpu_events good, bad;

	if (call(vcpu, KVM_GET_VCPU_EVENTS, &good))
		exit(1);
#define BAD_EVENTS(n, ...)                                   \
	do {                                                 \
		bad = good;                                  \
		__VA_ARGS__;                                 \
		SAY_FOR(n, vcpu, KVM_SET_VCPU_EVENTS, &bad); \
		call(vcpu, KVM_SET_VCPU_EVENTS, &good);      \
	} while (0)
	BAD_EVENTS(0, (void)0);
	BAD_EVENTS(1, bad.flags = 0x80);
	BAD_EVENTS(2, bad.flags |= KVM_VCPUEVENT_VALID_PAYLOAD);
	BAD_EVENTS(3, bad.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	BAD_EVENTS(4, bad.exception.injected = 1, bad.exception.nr = 32);
	BAD_EVENTS(5, bad.exception.injected = 1, bad.exception.nr = 2);
	BAD_EVENTS(6, bad.exception.injected = 1, bad.exception.nr = 13);
	BAD_EVENTS(7, bad.exception.nr = 77);
	BAD_EVENTS(8, bad.interrupt.shadow = 0xff, bad.flags |= KVM_VCPUEVENT_VALID_SHADOW);
	BAD_EVENTS(9, bad.nmi.pending = 9);
	BAD_EVENTS(10, bad.interrupt.injected = 1, bad.interrupt.nr = 5);
	SAY(vcpu, KVM_SET_VCPU_EVENTS, NOWHERE);
	SAY(vcpu, KVM_GET_VCPU_EVENTS, NOWHERE);
}

static void debug_registers(void)
{
	struct kvm_debugregs good, bad;

	if (call(vcpu, KVM_GET_DEBUGREGS, &good))
		exit(1);
#define BAD_DEBUG(n, change)                               \
	do {                                               \
		bad = good;                                \
		bad.change;                                \
		SAY_FOR(n, vcpu, KVM_SET_DEBUGREGS, &bad); \
		call(vcpu, KVM_SET_DEBUGREGS, &good);      \
	} while (0)
	BAD_DEBUG(0, dr6 = good.dr6);
	BAD_DEBUG(1, flags = 1);
	BAD_DEBUG(2, dr6 = 1ull << 32);
	BAD_DEBUG(3, dr7 = 1ull << 32);
	BAD_DEBUG(4, db[0] = 1ull << 60);
	SAY(vcpu, KVM_SET_DEBUGREGS, NOWHERE);
}

static void small_calls(enum chip chip)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 300 * sizeof(cpuid->entries[0]));
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + 256 * sizeof(msrs->entries[0]));
	struct kvm_lapic_state lapic;
	struct kvm_tpr_access_ctl tpr = { .enabled = 1, .flags = 1 };
	struct kvm_enable_cap cap = { .cap = 9999 };
	struct kvm_device_attr attr = { .group = 99, .addr = (uintptr_t)ram };
	struct kvm_xcrs xcrs = { .nr_xcrs = 17 };
	struct kvm_vapic_addr vapic = { .vapic_addr = 1ull << 45 };
	struct kvm_x86_mce mce = { .bank = 200, .status = 1ull << 63 };
	uint64_t mcg;
	struct {
		uint32_t len;
		uint8_t set[8];
	} mask = { .len = 4 };

	if (!cpuid || !msrs)
		exit(1);
	for (uint32_t irq = 0x20; irq < 0x200; irq += 0xe0)
		SAY_FOR(irq, vcpu, KVM_INTERRUPT, &(struct kvm_interrupt) { irq });
	SAY_FOR(-1, vcpu, KVM_INTERRUPT, &(struct kvm_interrupt) { ~0u });
	SAY(vcpu, KVM_INTERRUPT, NOWHERE);
	SAY(vcpu, KVM_GET_LAPIC, &lapic);
	SAY(vcpu, KVM_SET_LAPIC, chip == NO_CHIP ? &lapic : NOWHERE);
	cpuid->nent = 257;
	SAY_FOR(257, vcpu, KVM_SET_CPUID2, cpuid);
	cpuid->nent = 0;
	SAY_FOR(0, vcpu, KVM_SET_CPUID2, cpuid);
	cpuid->nent = 1;
	SAY_FOR(1, vcpu, KVM_SET_CPUID2, cpuid);
	cpuid->nent = 0;
	SAY_FOR(0, vcpu, KVM_GET_CPUID2, cpuid);
	SAY(vcpu, KVM_SET_CPUID2, NOWHERE);
	msrs->nmsrs = 256;
	SAY_FOR(256, vcpu, KVM_GET_MSRS, msrs);
	SAY_FOR(256, vcpu, KVM_SET_MSRS, msrs);
	msrs->nmsrs = 1;
	msrs->entries[0].index = 0x12345;
	printf("KVM_GET_MSRS, unknown one: %d\n", call(vcpu, KVM_GET_MSRS, msrs));
	printf("KVM_SET_MSRS, unknown one: %d\n", call(vcpu, KVM_SET_MSRS, msrs));
	SAY(vcpu, KVM_SET_MSRS, NOWHERE);
	SAY(vcpu, KVM_TPR_ACCESS_REPORTING, &tpr);
	SAY_FOR(1, vcpu, KVM_SET_VAPIC_ADDR, &vapic);
	vapic.vapic_addr = 0;
	SAY_FOR(0, vcpu, KVM_SET_VAPIC_ADDR, &vapic);
	SAY(vcpu, KVM_KVMCLOCK_CTRL, NULL);
	SAY(vcpu, KVM_ENABLE_CAP, &cap);
	SAY(vcpu, KVM_HAS_DEVICE_ATTR, &attr);
	SAY(vcpu, KVM_GET_DEVICE_ATTR, &attr);
	SAY(vcpu, KVM_SET_DEVICE_ATTR, &attr);
	SAY_FOR(17, vcpu, KVM_SET_XCRS, &xcrs);
	xcrs.nr_xcrs = 1;
	xcrs.flags = 1;
	SAY_FOR(1, vcpu, KVM_SET_XCRS, &xcrs);
	xcrs.flags = 0;
	SAY_FOR(2, vcpu, KVM_SET_XCRS, &xcrs); /* XCR0 without x87 */
	mcg = 0;			       /* no bank */
	SAY_FOR(0, vcpu, KVM_X86_SETUP_MCE, &mcg);
	mcg = 40;
	SAY_FOR(40, vcpu, KVM_X86_SETUP_MCE, &mcg);
	mcg = 10 | 1ull << 50;
	SAY_FOR(50, vcpu, KVM_X86_SETUP_MCE, &mcg);
	mcg = 10;
	SAY_FOR(10, vcpu, KVM_X86_SETUP_MCE, &mcg);
	SAY_FOR(200, vcpu, KVM_X86_SET_MCE, &mce);
	mce.bank = 0;
	mce.status = 0;
	SAY_FOR(0, vcpu, KVM_X86_SET_MCE, &mce);
	SAY(vcpu, KVM_SET_SIGNAL_MASK, &mask);
	SAY(vcpu, KVM_SET_SIGNAL_MASK, NOWHERE);
	SAY(vcpu, KVM_SET_REGS, NOWHERE);
	SAY(vcpu, KVM_SET_FPU, NOWHERE);
	SAY(vcpu, KVM_SET_GUEST_DEBUG, NOWHERE);
	SAY(vcpu, KVM_TRANSLATE, NOWHERE);
	SAY(vcpu, KVM_CREATE_VM, NULL);
	SAY(vcpu, KVM_CREATE_IRQCHIP, NULL);
	SAY(vcpu, _IO(KVMIO, 0xfe), NULL);
	say("KVM_RUN", 5, call_number(vcpu, KVM_RUN, 5));
	free(cpuid);
	free(msrs);
}

static void machine(enum chip chip)
{
	printf("== irqchip: %s\n", chip_name[chip]);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		exit(1);
	capabilities();
	vm_before_vcpus(chip);
	irqfds(chip);
	ioeventfds();
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		exit(1);
	slots();
	interrupts();
	vm_with_vcpu();
	mp_states();
	sregs();
	events();
	debug_registers();
	small_calls(chip);
	close(vcpu);
	close(vm);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (kvm < 0 || ram == MAP_FAILED) {
		perror("kvm-errors");
		return 1;
	}
	system_calls();
	for (enum chip chip = NO_CHIP; chip <= WHOLE_CHIP; chip++)
		machine(chip);
	printf("end\n");
	return 0;
}
