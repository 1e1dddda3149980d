// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Classes of mistakes that hypervisors once had, put back into the handler where each was: FAULT_POINT() in shadow/. One at
 * a time, by the environment variable UMBRA_FAULT. What sets it off is the input of the attacker who found it: an instruction,
 * an MSR, a register of a device, a call of the KVM API. Nothing here is in a build without UMBRA_FAULTS.
 *
 * Where a mistake gives its attacker the process, what follows is what he may try first: see take_over().
 */
#include "fault.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel.h"
#include "core.h"
#include "emul.h"
#include "irqchip_state.h"
#include "lapic_regs.h"
#include "msr.h"
#include "routing.h"
#include "sandbox.h"
#include "sys.h"
#include "umbra_abi.h"

#define PREFIX_66 0x66
#define MMIO 0x10000000u   /* the client's */
#define MANY (64ull << 20) /* bytes: more than anything that lies behind the shadow's data */

uint64_t fault_result;

struct fault {
	const char *id, *place;
	/* false: this input does not set it off */
	bool (*make)(const void *object, const void *data, uint64_t value);
};

static const struct fault *chosen;
static const char *chosen_id;
static const char *takeover; /* what code that took the process over tries */
static void *page;	     /* an object of a page of its own, which can be given back to the kernel */
static _Thread_local volatile uint64_t sink;

/* ---- tools ---- */

static void write_text(const char *text)
{
	size_t len = 0;

	while (text[len])
		len++;
	sys_write(2, text, len);
}

/* So that the test sees that it was this that happened, and on which thread. */
static void reached(void)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (atomic_flag_test_and_set(&said))
		return;
	write_text("fault: ");
	write_text(chosen_id);
	write_text(" at ");
	write_text(chosen->place);
	write_text(" in the ");
	write_text(sandbox_role_name());
	write_text(" thread\n");
}

/* A pointer that the compiler knows nothing of. */
static __attribute__((noinline)) void *opaque(const volatile void *pointer)
{
	__asm__("" : "+r"(pointer));
	return (void *)(uintptr_t)pointer;
}

/* free(), of which the compiler does not know that nothing may be done with the memory afterwards. */
static __attribute__((noinline)) void give_back(void *memory)
{
	free(opaque(memory));
}

static void null_use(size_t member)
{
	reached();
	*(volatile uint64_t *)opaque((void *)member) += 1;
}

static void null_call(void)
{
	void (*function)(void) = (void (*)(void))(uintptr_t)opaque(NULL);

	reached();
	function();
}

/* Past the end, until something stops it. */
static void overflow(void *from, uint64_t bytes)
{
	volatile uint64_t *at = opaque(from);

	reached();
	for (uint64_t n = 0; n < bytes / 8; n++)
		at[n] = 0x4141414141414141;
}

/* The same on the stack: bytes into an array of 16. */
static __attribute__((noinline)) void smash(uint64_t bytes)
{
	uint8_t frame[16];
	volatile uint8_t *at = opaque(frame);

	reached();
	for (uint64_t n = 0; n < bytes; n++)
		at[n] = 0x41;
	__asm__ volatile("" : : "r"(frame) : "memory");
}

/* What a function that ended has left there: return addresses and the like. */
static __attribute__((noinline)) void stack_left(void *to, uint64_t bytes)
{
	const volatile uint8_t *from = opaque(__builtin_frame_address(0));
	volatile uint8_t *at = opaque(to);

	reached();
	for (uint64_t n = 0; n < bytes; n++)
		at[n] = from[n % 256];
}

static void bug(void)
{
	reached();
	abort();
}

static __attribute__((noreturn)) void spin(void)
{
	reached();
	for (;;)
		sink++;
}

static __attribute__((noinline)) uint64_t recurse(uint64_t depth)
{
	volatile uint64_t frame[64];

	frame[depth % 64] = depth;
	if (!~depth)
		return 0;
	return recurse(depth + 1) + frame[(depth + 1) % 64];
}

/* ---- what code that took the process over tries: a system call that none of its threads needs ---- */

#define MEMORY ((long)page)
static const struct
try {
	const char *name;
	long nr, arg[4];
}
tries[] = {
	{ "open-device", __NR_openat, { -100, (long)"/dev/umbra", 2 } },
	{ "open-memory", __NR_open, { (long)"/proc/1/mem", 2 } },
	{ "run-program", __NR_execve, { (long)"/bin/sh" } },
	{ "map-code", __NR_mmap, { 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS } },
	{ "make-code", __NR_mprotect, { 0x10000, 4096, PROT_READ | PROT_EXEC } },
	{ "process", __NR_clone, { SIGCHLD } },
	{ "fork", __NR_fork, { 0 } },
	{ "namespace", __NR_unshare, { 0x10000000 } },
	{ "socket", __NR_socket, { 2, 1 } },
	{ "trace", __NR_ptrace, { 16, 1 } },
	{ "write-memory", __NR_process_vm_writev, { 1 } },
	{ "kill", __NR_kill, { -1, SIGKILL } },
	{ "steal-descriptor", __NR_pidfd_open, { 1 } },
	{ "load-bpf", __NR_bpf, { 5 } },
	{ "io-uring", __NR_io_uring_setup, { 8 } },
	{ "perf", __NR_perf_event_open, { 0 } },
	{ "userfault", __NR_userfaultfd, { 0 } },
	{ "keys", __NR_add_key, { 0 } },
	{ "message-queue", __NR_msgget, { 0 } },
	{ "module", __NR_finit_module, { -1 } },
	{ "no-filter", __NR_seccomp, { 0 } },
	{ "other-ioctl", __NR_ioctl, { 0, 0x5412 /* TIOCSTI */ } },
};

static void take_over(const char *name)
{
	long ret = -1;

	reached();
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		const struct try *t = &tries[i];

		if (strcmp(t->name, name))
			continue;
		ret = sys_call4(t->nr, t->arg[0], t->arg[1], t->arg[2], t->arg[3]);
		write_text("fault: the system call came back\n");
		sys_exit_group(ret < 0 ? 77 : 78);
	}
	write_text("fault: no such try\n");
	sys_exit_group(79);
}

/* ---- emulator ---- */

static uint8_t insn_byte(const struct emul_ctx *ctx, unsigned int n)
{
	return (uint8_t)(ctx->bytes[n / 8] >> n % 8 * 8);
}

static bool emul_no_memory_operand(const void *object, const void *data, uint64_t value)
{
	const struct emul *e = object;

	(void)data, (void)value;
	if (insn_byte(e->ctx, 0) != PREFIX_66)
		return false;
	null_use(offsetof(struct emul_operand, value));
	return true;
}

/* In 64-bit code this form is relative to RIP. */
static bool emul_no_flags(const void *object, const void *data, uint64_t value)
{
	const struct emul_operand *op = data;

	(void)object, (void)value;
	if (op->base != OPERAND_NO_REG || op->index != OPERAND_NO_REG)
		return false;
	null_use(0x40);
	return true;
}

static bool emul_not_decoded(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data;
	if (value)
		return false;
	null_call();
	return true;
}

/* Prefixes are fetched as long as there are some. */
static bool emul_endless_fetch(const void *object, const void *data, uint64_t value)
{
	const uint8_t *bytes = data;

	(void)object;
	for (uint64_t n = 0; n < 8; n++)
		if (n >= value || bytes[n] != PREFIX_66)
			return false;
	spin();
}

/* The write's buffer is given back when its instruction ends, and the next one's data are put there: a pointer, to be called. */
static bool emul_stale_buffer(const void *object, const void *data, uint64_t value)
{
	static unsigned int writes;

	(void)object, (void)data, (void)value;
	if (++writes < 2)
		return false;
	take_over("run-program");
	return true;
}

static bool emul_stack_to_guest(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)value;
	stack_left((void *)(uintptr_t)data, 8); /* the fault's address: CR2 */
	return true;
}

static bool dr_no_operand(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data, (void)value;
	null_use(0x18);
	return true;
}

/* As many bytes as the guest's REP asked for, into room for one access. */
static bool mmio_answer_too_long(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;

	(void)data, (void)value;
	smash(4 * vcpu->run->gpr[UMBRA_RCX]);
	return true;
}

/* 8 bytes of the emulator's stack to the VMM where the guest wrote fewer. */
static bool mmio_write_stack(const void *object, const void *data, uint64_t value)
{
	struct kvm_run *kvm = (void *)(uintptr_t)object;

	(void)data;
	if (!kvm->mmio.is_write || value >= 8)
		return false;
	stack_left((uint8_t *)kvm->mmio.data + value, 8 - value);
	return true;
}

static const void *fragment;

static __attribute__((noinline)) void fragment_begin(uint64_t value)
{
	uint64_t data = value;

	fragment = opaque(&data);
}

/* A small write's data are looked for where they lay when the instruction began. */
static bool mmio_write_dead_frame(const void *object, const void *data, uint64_t value)
{
	struct kvm_run *kvm = (void *)(uintptr_t)object;

	(void)data, (void)value;
	if (!kvm->mmio.is_write)
		return false;
	fragment_begin(0);
	reached();
	memcpy(kvm->mmio.data, opaque(fragment), sizeof(kvm->mmio.data));
	return true;
}

/* ---- interrupt controllers and timers ---- */

static bool ioapic_read_any(const void *object, const void *data, uint64_t value)
{
	const struct ioapic *ioapic = object;
	const volatile uint64_t *entry = opaque(ioapic->entry);
	uint64_t n = (value - 0x10) / 2;

	(void)data;
	if (value < 0x10 || n < IOAPIC_PINS)
		return false;
	reached();
	fault_result = value & 1 ? entry[n] >> 32 : (uint32_t)entry[n];
	return true;
}

/* One bit a destination, in a bitmap for fewer. */
static bool ioapic_destinations(const void *object, const void *data, uint64_t value)
{
	uint32_t written = *(const uint32_t *)data;

	(void)object;
	if (value < 0x10 || !(value & 1))
		return false;
	smash(16 + (written >> 24) / 8);
	return true;
}

static bool ioapic_eoi_bug(const void *object, const void *data, uint64_t value)
{
	const struct ioapic *ioapic = object;

	(void)data;
	if (!(ioapic->entry[value] & IOAPIC_ENTRY_REMOTE_IRR))
		return false;
	bug();
	return true;
}

/* The line is up, so it is served again within the EOI, which ends at once, and so on. */
static bool ioapic_eoi_recursion(const void *object, const void *data, uint64_t value)
{
	const struct ioapic *ioapic = object;

	(void)data;
	if (!(ioapic->irr >> value & 1))
		return false;
	reached();
	sink += recurse(0);
	return true;
}

/* The map of who got the interrupt is indexed by what the guest chose. */
static bool ioapic_map_index(const void *object, const void *data, uint64_t value)
{
	static uint64_t map[4];
	volatile uint64_t *at = opaque(map);

	(void)data;
	reached();
	at[(((const struct ioapic *)object)->entry[value] & 0xff) << 24] = 1;
	return true;
}

/* What was put off until later looks at a vCPU that has gone meanwhile. */
static bool ioapic_eoi_stale_vcpu(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data, (void)value;
	reached();
	sys_call3(__NR_munmap, MEMORY, 4096, 0);
	*(volatile uint64_t *)opaque(page) += 1;
	return true;
}

static bool lapic_count_by_zero(const void *object, const void *data, uint64_t value)
{
	volatile uint32_t initial = value;

	(void)object, (void)data;
	if (initial)
		return false;
	reached();
	sink += 1000 / initial;
	return true;
}

/* The offset is taken as it is: what lies behind the registers is the rest of the vCPU. */
static bool lapic_read_any(const void *object, const void *data, uint64_t value)
{
	const struct lapic *lapic = object;

	reached();
	memcpy((void *)(uintptr_t)data, (const uint8_t *)opaque(lapic) + value, 4);
	fault_result = 0;
	return true;
}

/* The map of logical ids, with an index that the guest wrote. */
static bool lapic_map_index(const void *object, const void *data, uint64_t value)
{
	static void *map[16];
	void *volatile *entry = opaque(map);

	if (value != APIC_LDR)
		return false;
	reached();
	entry[*(const uint32_t *)data] = (void *)(uintptr_t)object;
	return true;
}

/* An interrupt of the VMM's has no APIC that sent it. */
static bool msi_no_source(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data, (void)value;
	null_use(offsetof(struct vcpu, lapic));
	return true;
}

/* A vCPU that is being made is in the table before it is whole; this one's making failed, and it was freed. */
static bool msi_offline_vcpu(const void *object, const void *data, uint64_t value)
{
	const struct vm *vm = object;

	(void)data;
	if ((value >> 12 & 0xff) < atomic_load(&vm->vcpus))
		return false;
	reached();
	sys_call3(__NR_munmap, MEMORY, 4096, 0);
	sink += *(volatile uint64_t *)opaque(page);
	return true;
}

static bool routing_any_gsi(const void *object, const void *data, uint64_t value)
{
	const struct kvm_irq_routing_entry *entry = data;
	volatile uint64_t *route = opaque(object);

	if (!value || entry->gsi < VM_MAX_ROUTES)
		return false;
	reached();
	route[2ull * entry->gsi] = 1;
	return true;
}

static bool scan_no_ioapic(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;

	(void)data, (void)value;
	if (vcpu->vm->irqchip)
		return false;
	null_use(offsetof(struct irqchip, ioapic));
	return true;
}

static bool irqchip_after_vcpu(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data;
	if (!value)
		return false;
	null_use(0x30);
	return true;
}

static bool irqfd_bug(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data;
	if (value < VM_MAX_ROUTES)
		return false;
	bug();
	return true;
}

/* Without LAPICs here there is none to ask. */
static bool no_lapic(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;

	(void)data, (void)value;
	if (vm_has_lapics(vcpu->vm))
		return false;
	null_use(0x88);
	return true;
}

/* The page that the VMM named, and what follows where it is the last. */
static bool vapic_crosses(const void *object, const void *data, uint64_t value)
{
	uint8_t *hva = vm_gpa_to_hva((void *)(uintptr_t)object, value, 1, true);

	(void)data;
	if (!hva)
		return false;
	overflow(hva, MANY);
	return true;
}

static bool pit_no_irqchip(const void *object, const void *data, uint64_t value)
{
	(void)data, (void)value;
	if (object)
		return false;
	null_use(offsetof(struct irqchip, pit));
	return true;
}

static bool pit_count_zero(const void *object, const void *data, uint64_t value)
{
	const struct kvm_pit_state2 *state = data;
	volatile uint32_t count = state->channels[0].count;

	(void)object, (void)value;
	if (count)
		return false;
	reached();
	sink += PIT_HZ / count;
	return true;
}

/* The fourth channel of three. What lies there is taken for its state. */
static bool pit_fourth_channel(const void *object, const void *data, uint64_t value)
{
	const struct pit *pit = object;
	uint64_t *volatile *behind = opaque(&pit->channel[PIT_CHANNELS]);

	(void)data;
	if ((value & 3) != 3)
		return false;
	reached();
	fault_result = *(volatile uint64_t *)*behind;
	return true;
}

/* Each writer takes the timer away while it makes a new one, without a lock. */
static bool pit_unlocked(const void *object, const void *data, uint64_t value)
{
	static uint64_t timer;
	static void *volatile current = &timer;
	static atomic_uint writers;
	void *mine = current;

	(void)object, (void)data;
	if (value < 0x40 || value > 0x43 || atomic_fetch_add(&writers, 1) < 100)
		return false;
	reached();
	current = NULL;
	for (int i = 0; i < 20; i++)
		sys_sched_yield();
	*(volatile uint64_t *)opaque(mine) += 1;
	current = &timer;
	return true;
}

/* ---- paravirtual ---- */

static bool kvmclock_unaligned(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;
	uint8_t *hva = vm_gpa_to_hva(vcpu->vm, value & ~1ull, 1, true);

	(void)data;
	if (!(value & 2) || !hva)
		return false;
	overflow(hva, MANY);
	return true;
}

/* The page's address is kept from the time when the guest named it. */
static bool kvmclock_stale(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;
	static volatile uint32_t *hva;

	(void)data;
	if (!hva) {
		hva = vm_gpa_to_hva(vcpu->vm, value & ~1ull, 4, true);
		return true;
	}
	reached();
	*hva += 1;
	return true;
}

static bool ipi_bank_index(const void *object, const void *data, uint64_t value)
{
	const volatile uint64_t *bank = opaque(data);

	(void)object;
	reached();
	sink += bank[value];
	return true;
}

/* The vCPU that ran last is looked up by a number that another thread is changing: here, to what the guest says. */
static bool yield_any_index(const void *object, const void *data, uint64_t value)
{
	const struct vm *vm = object;
	struct vcpu *const volatile *vcpus = opaque(vm->vcpu);

	(void)data;
	if (value < VM_MAX_VCPU_IDS)
		return false;
	reached();
	sink += (uintptr_t)vcpus[value];
	return true;
}

/* ---- MSRs, CPUID ---- */

static bool mce_banks(const void *object, const void *data, uint64_t value)
{
	(void)data;
	if ((value & 0xffffff) <= 32)
		return false;
	overflow((void *)(uintptr_t)object, (value & 0xffffff) * 4 * 8);
	return true;
}

/* Past the array; what it hits there is a pointer to code, as the attacker has found out. */
static bool mtrr_index(const void *object, const void *data, uint64_t value)
{
	const struct vcpu_msrs *m = object;
	volatile uint64_t *var = opaque(m->mtrr_var);

	if (value != 0x2f8)
		return false;
	reached();
	var[value - 0x200] = *(const uint64_t *)data;
	take_over("open-device");
	return true;
}

/* The size in 32 bits. */
static bool cpuid_size_wraps(const void *object, const void *data, uint64_t value)
{
	const struct kvm_cpuid2 *head = object;
	uint64_t bytes = (uint64_t)head->nent * sizeof(struct kvm_cpuid_entry2);
	void *buffer;

	(void)data;
	if (value || bytes >> 32 == 0)
		return false;
	buffer = malloc((uint32_t)bytes);
	overflow(buffer, bytes);
	free(buffer);
	return true;
}

/* One more than there is room for. */
static bool cpuid_one_more(const void *object, const void *data, uint64_t value)
{
	const struct kvm_cpuid2 *head = object;
	uint64_t bytes = (uint64_t)head->nent * sizeof(struct kvm_cpuid_entry2);
	void *buffer;

	(void)data;
	if (!value || bytes > MANY)
		return false;
	buffer = malloc(bytes);
	overflow(buffer, bytes + sizeof(struct kvm_cpuid_entry2));
	free(buffer);
	return true;
}

/* ---- vCPU calls ---- */

static bool events_padding(const void *object, const void *data, uint64_t value)
{
	const struct kvm_vcpu_events *events = data;

	(void)object, (void)value;
	stack_left((uint8_t *)(uintptr_t)events->reserved, sizeof(events->reserved));
	return true;
}

static bool debugregs_reserved(const void *object, const void *data, uint64_t value)
{
	const struct kvm_debugregs *regs = data;

	(void)object, (void)value;
	stack_left((uint8_t *)(uintptr_t)regs->reserved, sizeof(regs->reserved));
	return true;
}

static bool sregs_no_root(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;

	(void)data;
	if (vm_gpa_to_hva(vcpu->vm, value, 8, false))
		return false;
	null_use(0x20);
	return true;
}

/* More than the guest's area has: what else the vCPU's structure holds. */
static bool xsave_too_much(const void *object, const void *data, uint64_t value)
{
	reached();
	memcpy((void *)(uintptr_t)data, opaque(object), value);
	return true;
}

/* The slots as they were, without the lock that keeps them. */
static bool events_stale_slots(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;
	static const struct slots *old;

	(void)data, (void)value;
	if (!old) {
		old = atomic_load(&vcpu->vm->slots);
		return true;
	}
	reached();
	sink += *(volatile uint8_t *)old->slot[1].hva;
	return true;
}

static bool inject_closed(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;

	(void)data, (void)value;
	if (vcpu->run->rflags & X86_RFLAGS_IF)
		return false;
	bug();
	return true;
}

static bool always_bug(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data, (void)value;
	bug();
	return true;
}

/* The fast way, where the instruction's length must be known. */
static bool fast_path_bug(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;

	(void)data;
	if (value != 0x6e0 || vcpu->exit.insn_len)
		return false;
	bug();
	return true;
}

static bool retry_for_ever(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data;
	if (value != MMIO)
		return false;
	reached();
	fault_result = EXIT_RESUME;
	return true;
}

/* The whole register for a byte of it. */
static bool port_in_width(const void *object, const void *data, uint64_t value)
{
	const struct vcpu *vcpu = object;

	(void)data;
	if (value != 1)
		return false;
	reached();
	vcpu->run->gpr[UMBRA_RAX] &= 0xff;
	return true;
}

/* ---- the VM's calls, memory ---- */

/* Both indices lie in memory that the VMM writes. */
static bool ring_any_index(const void *object, const void *data, uint64_t value)
{
	struct kvm_coalesced_mmio_ring *ring = (void *)(uintptr_t)object;
	volatile struct kvm_coalesced_mmio *entry = opaque(ring->coalesced_mmio);

	(void)data;
	if (ring->last < 4096 / sizeof(*entry))
		return false;
	reached();
	entry[ring->last].len = value;
	return true;
}

static bool error_any_index(const void *object, const void *data, uint64_t value)
{
	struct kvm_run *kvm = (void *)(uintptr_t)object;
	volatile uint64_t *at = opaque((void *)&kvm->internal.data);

	(void)data;
	if (kvm->internal.ndata < 16)
		return false;
	reached();
	at[kvm->internal.ndata] = value;
	return true;
}

/* The device was freed when its descriptor was closed; the VMM's bytes lie there now, and its release() is called. */
static bool device_stale_call(const void *object, const void *data, uint64_t value)
{
	void (*release)(void);
	void *device = malloc(64), *bytes;

	(void)data;
	if (!device || value < sizeof(release))
		return false;
	reached();
	give_back(device);
	bytes = malloc(64);
	memcpy(bytes, object, sizeof(release));
	memcpy(&release, opaque(device), sizeof(release));
	release();
	return true;
}

static bool device_twice(const void *object, const void *data, uint64_t value)
{
	void *device = malloc(64);

	(void)object, (void)data, (void)value;
	reached();
	give_back(device);
	give_back(device);
	return true;
}

static bool device_no_destroy(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data, (void)value;
	null_call();
	return true;
}

static bool vcpu_any_id(const void *object, const void *data, uint64_t value)
{
	const struct vm *vm = object;
	void *volatile *vcpus = opaque(vm->vcpu);

	(void)data;
	if (value < VM_MAX_VCPU_IDS)
		return false;
	reached();
	vcpus[value] = NULL;
	return true;
}

/* The last slot that was found is looked at first, though there may be fewer by now. */
static bool slots_last_found(const void *object, const void *data, uint64_t value)
{
	const struct slots *slots = object;
	static uint32_t last;

	(void)data, (void)value;
	if (slots->count > last) {
		last = slots->count - 1;
		return false;
	}
	reached();
	sink += *(volatile uint8_t *)((const struct slot *)opaque(slots->slot))[last].hva;
	return true;
}

/* The list goes on being read after it was given back. */
static bool zones_stale(const void *object, const void *data, uint64_t value)
{
	const volatile struct coalesced_zones *zones = opaque(object);

	(void)data, (void)value;
	reached();
	for (uint32_t i = 0; i < zones->count; i++)
		sink += zones->zone[i].addr;
	return true;
}

static bool zones_twice(const void *object, const void *data, uint64_t value)
{
	(void)data, (void)value;
	reached();
	give_back((void *)(uintptr_t)object);
	return true;
}

static bool zones_leak(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data, (void)value;
	reached();
	memset(opaque(malloc(1 << 20)), 0x41, 1 << 20);
	return true;
}

/* Page by page through as many as the VMM says, without a look at anything else. */
static bool memory_page_by_page(const void *object, const void *data, uint64_t value)
{
	struct channel_memory memory;

	(void)object;
	if (value != sizeof(memory))
		return false;
	memcpy(&memory, data, sizeof(memory));
	if (memory.size || memory.gpa < 1ull << 40)
		return false;
	reached();
	for (uint64_t n = 0; n < memory.gpa; n++)
		sink++;
	return true;
}

/* The page tables are thought to lie at the VMM's address. */
static bool walk_vmm_address(const void *object, const void *data, uint64_t value)
{
	const struct vm *vm = object;
	const struct slots *slots = atomic_load(&vm->slots);

	reached();
	*(volatile uint64_t *)opaque((void *)(slots->slot[0].userspace_addr + value)) = *(const uint64_t *)data;
	return true;
}

/* From the page's number by the guest's own entry. */
static bool walk_guest_address(const void *object, const void *data, uint64_t value)
{
	uint8_t *hva = vm_gpa_to_hva((void *)(uintptr_t)object, value, 4, true);
	uint64_t entry = *(const uint64_t *)data;

	reached();
	*(volatile uint64_t *)opaque(hva + (entry << 8)) |= 0x20;
	return true;
}

/* One level more than there is room for on the stack, and more. */
static bool walk_depth(const void *object, const void *data, uint64_t value)
{
	(void)data, (void)value;
	overflow((void *)(uintptr_t)object, 1024);
	return true;
}

static bool ioeventfd_unaligned(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data;
	if (!(value & 3))
		return false;
	bug();
	return true;
}

/* ---- a process that was taken over, on each of its threads ---- */

static bool take_over_vcpu(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data;
	if (value != 0x6e0)
		return false;
	take_over(takeover);
	return true;
}

static bool take_over_control(const void *object, const void *data, uint64_t value)
{
	(void)object, (void)data, (void)value;
	take_over(takeover);
	return true;
}

/* ---- which ---- */

static const struct fault faults[] = {
	/* emulator */
	{ "CVE-2009-4031", "emul_fetch", emul_endless_fetch },
	{ "CVE-2010-0435", "exit_dr", dr_no_operand },
	{ "CVE-2014-0049", "mmio_answer", mmio_answer_too_long },
	{ "CVE-2014-8480", "emul_operand", emul_no_flags },
	{ "CVE-2016-8630", "emul_operand", emul_no_memory_operand },
	{ "CVE-2017-2584", "emul_write", emul_stale_buffer },
	{ "CVE-2017-17741", "mmio_exit", mmio_write_stack },
	{ "CVE-2019-7222", "emul_page_fault", emul_stack_to_guest },
	{ "CVE-2022-1852", "emul_unknown", emul_not_decoded },
	{ "CVE-2026-31588", "mmio_exit", mmio_write_dead_frame },
	/* LAPIC, I/O APIC, routes, irqfd */
	{ "CVE-2009-3640", "run_cr8", no_lapic },
	{ "CVE-2012-1601", "create_irqchip", irqchip_after_vcpu },
	{ "CVE-2012-2137", "routing_set", routing_any_gsi },
	{ "CVE-2013-1798", "ioapic_read", ioapic_read_any },
	{ "CVE-2013-6367", "lapic_timer_count", lapic_count_by_zero },
	{ "CVE-2013-6368", "vapic_addr", vapic_crosses },
	{ "CVE-2013-6376", "lapic_write", lapic_map_index },
	{ "CVE-2014-0155", "ioapic_eoi", ioapic_eoi_bug },
	{ "CVE-2015-4692", "get_mp_state", no_lapic },
	{ "CVE-2016-9777", "ioapic_eoi", ioapic_map_index },
	{ "CVE-2017-1000252", "irqfd", irqfd_bug },
	{ "CVE-2018-19407", "scan_eoi", scan_no_ioapic },
	{ "CVE-2020-27152", "ioapic_eoi", ioapic_eoi_recursion },
	{ "CVE-2021-47255", "lapic_read", lapic_read_any },
	{ "CVE-2021-47390", "ioapic_write", ioapic_destinations },
	{ "CVE-2022-2153", "signal_msi", msi_no_source },
	{ "CVE-2022-49154", "irqfd_raise", irqfd_bug },
	{ "CVE-2026-74517", "ioapic_eoi", ioapic_eoi_stale_vcpu },
	/* PIT */
	{ "CVE-2010-0309", "pit_read", pit_fourth_channel },
	{ "CVE-2011-4622", "create_pit", pit_no_irqchip },
	{ "CVE-2014-3611", "port_out", pit_unlocked },
	{ "CVE-2015-7513", "set_pit", pit_count_zero },
	/* paravirtual */
	{ "CVE-2013-1796", "kvmclock_msr", kvmclock_unaligned },
	{ "CVE-2013-1797", "kvmclock_page", kvmclock_stale },
	{ "CVE-2018-19406", "send_ipi", no_lapic },
	{ "CVE-2024-40953", "yield", yield_any_index },
	{ "CVE-2025-21779", "send_ipi", no_lapic },
	{ "CVE-2026-64247", "send_ipi", ipi_bank_index },
	/* MSRs, CPUID */
	{ "CVE-2009-3638", "get_cpuid", cpuid_size_wraps },
	{ "CVE-2009-4004", "mce_setup", mce_banks },
	{ "CVE-2016-3713", "mtrr_write", mtrr_index },
	{ "CVE-2019-19332", "get_cpuid", cpuid_one_more },
	/* vCPU state */
	{ "CVE-2009-2287", "set_sregs", sregs_no_root },
	{ "CVE-2010-4525", "get_events", events_padding },
	{ "CVE-2022-49557", "get_xsave", xsave_too_much },
	{ "CVE-2023-1513", "get_debugregs", debugregs_reserved },
	{ "CVE-2024-46830", "set_events", events_stale_slots },
	{ "CVE-2025-23141", "get_mp_state", events_stale_slots },
	/* exits, events */
	{ "CVE-2020-36310", "exit_mem", retry_for_ever },
	{ "CVE-2021-3501", "internal_error", error_any_index },
	{ "CVE-2022-4994", "port_in", port_in_width },
	{ "CVE-2022-50228", "inject_interrupt", inject_closed },
	{ "CVE-2025-37957", "exit_shutdown", always_bug },
	{ "CVE-2025-40038", "exit_wrmsr", fast_path_bug },
	/* calls on the VM, memory, coalesced writes, ioeventfd */
	{ "CVE-2013-4587", "create_vcpu", vcpu_any_id },
	{ "CVE-2016-10150", "create_device", device_twice },
	{ "CVE-2019-6974", "create_device", device_stale_call },
	{ "CVE-2019-14821", "coalesced_write", ring_any_index },
	{ "CVE-2020-36312", "coalesced_remove", zones_leak },
	{ "CVE-2020-36313", "slots_find", slots_last_found },
	{ "CVE-2021-47060", "coalesced_remove", zones_stale },
	{ "CVE-2021-47061", "coalesced_remove", zones_twice },
	{ "CVE-2021-47341", "coalesced_remove", zones_stale },
	{ "CVE-2022-49568", "create_device", device_no_destroy },
	{ "CVE-2023-54024", "coalesced_remove", zones_leak },
	{ "CVE-2024-58083", "signal_msi", msi_offline_vcpu },
	{ "CVE-2025-38506", "set_memory", memory_page_by_page },
	{ "CVE-2026-63806", "ioeventfd", ioeventfd_unaligned },
	/* page-table walks */
	{ "CVE-2017-12188", "walk_entry", walk_depth },
	{ "CVE-2022-1158", "walk_mark", walk_vmm_address },
	{ "CVE-2022-49562", "walk_mark", walk_guest_address },
	/* TAKEOVER-thread-try */
	{ "TAKEOVER-vcpu-", "exit_wrmsr", take_over_vcpu },
	{ "TAKEOVER-control-", "create_device", take_over_control },
	{ "TAKEOVER-event-", "irqfd_raise", take_over_control },
};

bool fault_point(const char *place, const void *object, const void *data, uint64_t value)
{
	return chosen && !strcmp(place, chosen->place) && chosen->make(object, data, value);
}

/* Before anything else: the environment is read while that is still allowed, and an id that does not exist is no silent pass. */
static void __attribute__((constructor)) choose(void)
{
	const char *id = getenv("UMBRA_FAULT");

	chosen_id = id;
	if (!id || !*id)
		return;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		size_t len = strlen(faults[i].id);

		if (faults[i].id[len - 1] == '-' ? strncmp(id, faults[i].id, len) : strcmp(id, faults[i].id))
			continue;
		chosen = &faults[i];
		takeover = id + len;
	}
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chosen && page != MAP_FAILED)
		return;
	fprintf(stderr, "fault: no %s here\n", id);
	exit(2);
}
