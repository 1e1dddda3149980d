/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VMM in small: nothing but the C library and KVM's API. Runs with libumbra-kvm.so preloaded and the stub as its shadow.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "stub.h"

#define KICKS 3000

static int kvm = -1, vm = -1, vcpu = -1;
static struct kvm_run *run;
static volatile sig_atomic_t handled;
static volatile uint8_t *area; /* the first vCPU's that the shadow has, in the glue's own mapping */

static void handler(int sig)
{
	(void)sig;
	handled++;
}

static void handler_immediate(int sig)
{
	(void)sig;
	handled++;
	run->immediate_exit = 1;
}

static void catch (int sig, void (*fn)(int), int flags)
{
	struct sigaction act = { .sa_handler = fn, .sa_flags = flags };

	ck_assert_int_eq(sigaction(sig, &act, NULL), 0);
}

static void find_area(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end, offset;
	char line[512];

	area = NULL;
	while (!area && fgets(line, sizeof(line), maps))
		if (strstr(line, "/memfd:umbra-vcpu") && sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    !offset && end - start == CHANNEL_VCPU_SIZE)
			area = (uint8_t *)start;
	fclose(maps);
	ck_assert(area != NULL);
}

static void set_up(void)
{
	int size;

	handled = 0;
	/* Before there is a vCPU: has to be found later. With SA_RESTART, which must make no difference. */
	catch (SIGUSR1, handler, SA_RESTART);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(kvm, 0);
	ck_assert_int_eq(ioctl(kvm, KVM_GET_API_VERSION, 0), 12);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ck_assert_int_ge(vm, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	ck_assert_int_ge(vcpu, 0);
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	ck_assert_int_eq(size, 3 * 4096);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	ck_assert_ptr_ne(run, MAP_FAILED);
	find_area();
}

static void tear_down(void)
{
	munmap(run, 3 * 4096);
	close(vcpu);
	close(vm);
	close(kvm);
	/* The shadow was waited for: no child is left. */
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

static void mode(enum stub_mode m)
{
	struct kvm_mp_state state = { m };

	ck_assert_int_eq(ioctl(vcpu, KVM_SET_MP_STATE, &state), 0);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

START_TEST(exit_to_vmm)
{
	for (int i = 0; i < 20000; i++) {
		run->exit_reason = 0;
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
		ck_assert_int_eq(run->exit_reason, KVM_EXIT_IO);
		ck_assert_int_eq(((char *)run)[run->io.data_offset], 'U');
	}
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 1), -1);
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

struct kicker {
	pthread_t target;
	int sig;
	volatile int round; /* a kick is due */
	volatile bool end;
	bool rung; /* not before the run has been rung in */
	int seen;
};

static void *kick_thread(void *arg)
{
	struct kicker *k = arg;
	int done = 0;

	while (!k->end) {
		if (k->round == done) {
			sched_yield();
			continue;
		}
		done = k->round;
		while (k->rung && area[CHANNEL_BELL_BYTE] != CHANNEL_RUN && !k->end)
			;
		for (volatile int i = 0; i < (done * 37) % 2500; i++)
			;
		pthread_kill(k->target, k->sig);
	}
	return NULL;
}

/* What the VMM hands in at KVM_RUN arrives, and what an exit carries. */
START_TEST(answers)
{
	struct kvm_regs regs;

	mode(STUB_ASKS);
	for (uint64_t i = 1; i <= 99; i++) {
		run->cr8 = i & 15;
		run->request_interrupt_window = i & 1;
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
		ck_assert_uint_eq(run->cr8, i);
		ck_assert_uint_eq(run->apic_base, 0xfee00900 + i);
		ck_assert_uint_eq(run->if_flag, i & 1);
		ck_assert_uint_eq(run->ready_for_interrupt_injection, i & 1);
		ck_assert_int_eq(ioctl(vcpu, KVM_GET_REGS, &regs), 0);
		ck_assert_uint_eq(regs.rsi, i & 15);
		ck_assert_uint_eq(regs.rdi, i & 1);
		if (i % 3 == 1) { /* and what the RDMSR before it was answered with */
			ck_assert_uint_eq(run->exit_reason, KVM_EXIT_IO);
			ck_assert_uint_eq(run->io.direction, KVM_EXIT_IO_IN);
			ck_assert(run->io.size == 4 && run->io.count == 2 && run->io.port == 0x3f8);
			ck_assert(i == 1 || (regs.rcx == i - 1 && regs.rdx == 1));
			*(uint64_t *)((uint8_t *)run + run->io.data_offset) = 0x1122334455667788 + i;
		} else if (i % 3 == 2) {
			ck_assert_uint_eq(run->exit_reason, KVM_EXIT_MMIO);
			ck_assert(run->mmio.phys_addr == 0x123456789 && run->mmio.len == 4 && !run->mmio.is_write);
			ck_assert_uint_eq(regs.rax, 0x1122334455667788 + i - 1);
			memset(run->mmio.data, (int)i, 8);
		} else {
			ck_assert_uint_eq(run->exit_reason, KVM_EXIT_X86_RDMSR);
			ck_assert(run->msr.index == 0x1234 && run->msr.reason == KVM_MSR_EXIT_REASON_FILTER);
			ck_assert_uint_eq(regs.rbx, (i - 1) * 0x0101010101010101);
			run->msr.data = i;
			run->msr.error = 1;
		}
	}
}
END_TEST

/* What a VMM has of an exit is its own: the shadow cannot change it any more. */
START_TEST(exit_stays)
{
	struct channel_vcpu *channel = (struct channel_vcpu *)(uintptr_t)(area + CHANNEL_VCPU_OFFSET);
	uint8_t before[3 * 4096];

	mode(STUB_CHANGES);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
		ck_assert_uint_eq(run->exit_reason, i % 2 ? KVM_EXIT_IO : KVM_EXIT_MMIO);
		memcpy(before, run, sizeof(before));
		__atomic_store_n(&channel->reserved[0], 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(&channel->reserved[1], __ATOMIC_SEQ_CST))
			sched_yield();
		ck_assert_mem_eq(before, run, sizeof(before));
	}
}
END_TEST

static struct kvm_coalesced_mmio_ring *ring_of_vm(void)
{
	return (struct kvm_coalesced_mmio_ring *)((uint8_t *)run + CHANNEL_RING_OFFSET);
}

static uint32_t ring_take(uint32_t most, uint64_t *expected)
{
	const uint32_t entries = (4096 - sizeof(*ring_of_vm())) / sizeof(ring_of_vm()->coalesced_mmio[0]);
	struct kvm_coalesced_mmio_ring *ring = ring_of_vm();
	uint32_t n;

	for (n = 0; n < most && ring->first != *(volatile uint32_t *)&ring->last; n++) {
		const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[ring->first];

		ck_assert_uint_eq(entry->phys_addr, (*expected)++);
		ck_assert_uint_eq(entry->len, 4);
		ck_assert_mem_eq(entry->data, "ring", 4);
		ring->first = (ring->first + 1) % entries;
	}
	return n;
}

/* All writes arrive, in their order, over the ring's end, from two vCPUs, and when the VMM is slow. */
START_TEST(ring_order)
{
	struct kvm_mp_state state = { STUB_RING };
	int second = ioctl(vm, KVM_CREATE_VCPU, 1);
	uint64_t expected = 0;

	ck_assert_int_eq(ioctl(second, KVM_SET_MP_STATE, &state), 0);
	mode(STUB_RING);
	for (int i = 0; i < 200; i++) {
		ck_assert_int_eq(ioctl(i % 3 ? vcpu : second, KVM_RUN, 0), 0);
		if (i % 20 > 3)
			ck_assert_uint_eq(ring_take(UINT32_MAX, &expected), 100);
		else if (i % 20 == 3) /* as many as there is room for */
			ck_assert_uint_eq(ring_take(UINT32_MAX, &expected), 169);
		if (i % 20 == 19) /* it may begin anew */
			ring_of_vm()->first = ring_of_vm()->last = 0;
	}
	ck_assert_uint_eq(expected, 10 * (169 + 16 * 100));
	close(second);
}
END_TEST

static void *ring_watcher(void *arg)
{
	struct kicker *k = arg;
	double end = now() + 10;
	uint64_t expected = 0;

	while (!ring_take(1, &expected) && now() < end)
		usleep(1000);
	k->seen = expected;
	k->round++;
	return NULL;
}

/* The guest does not leave its loop, and what it wrote is seen. */
START_TEST(ring_while_it_runs)
{
	struct kicker k = { .target = pthread_self(), .sig = SIGUSR1 };
	pthread_t kicks, watcher;

	mode(STUB_RING_STOP);
	pthread_create(&kicks, NULL, kick_thread, &k);
	pthread_create(&watcher, NULL, ring_watcher, &k);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
	ck_assert_int_eq(errno, EINTR);
	pthread_join(watcher, NULL);
	k.end = true;
	pthread_join(kicks, NULL);
	ck_assert_int_eq(k.seen, 1);
}
END_TEST

/* Too few descriptors: no vCPU on either side, or a whole one. */
START_TEST(few_descriptors)
{
	struct rlimit limit, low;
	int vms[12], filler[256], made = 0, refused = 0;

	for (int i = 0; i < 12; i++)
		ck_assert_int_ge(vms[i] = ioctl(kvm, KVM_CREATE_VM, 0), 0);
	getrlimit(RLIMIT_NOFILE, &limit);
	low = (struct rlimit) { 128, limit.rlim_max };
	for (int spare = 0; spare < 12; spare++) {
		int n = 0, first, second;
		uint8_t *a, *b;

		setrlimit(RLIMIT_NOFILE, &low);
		while ((filler[n] = open("/dev/null", O_RDWR)) >= 0)
			n++;
		for (int i = 0; i < spare; i++)
			close(filler[--n]);
		first = ioctl(vms[spare], KVM_CREATE_VCPU, 0);
		if (first < 0)
			ck_assert_int_eq(errno, EMFILE);
		while (n)
			close(filler[--n]);
		setrlimit(RLIMIT_NOFILE, &limit);
		made += first >= 0;
		refused += first < 0;
		if (first < 0)
			first = ioctl(vms[spare], KVM_CREATE_VCPU, 0);
		ck_assert_int_ge(first, 0);
		a = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, first, 0);
		second = ioctl(vms[spare], KVM_CREATE_VCPU, 1);
		ck_assert_int_ge(second, 0);
		b = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, second, 0);
		a[8192 + 100] = 0x5a;
		ck_assert_int_eq(b[8192 + 100], 0x5a);
		munmap(a, 3 * 4096);
		munmap(b, 3 * 4096);
		close(first);
		close(second);
	}
	ck_assert(made && refused);
	for (int i = 0; i < 12; i++)
		close(vms[i]);
}
END_TEST

/* One ring of coalesced writes a VM, through whichever vCPU and in whatever pieces it is mapped. */
START_TEST(ring)
{
	int second = ioctl(vm, KVM_CREATE_VCPU, 1), vm2 = ioctl(kvm, KVM_CREATE_VM, 0), other;
	uint8_t *first = (uint8_t *)run + 8192, *mapped, *alone, *foreign;

	ck_assert_int_ge(second, 0);
	mapped = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, second, 0);
	alone = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, second, 8192);
	ck_assert_ptr_ne(mapped, MAP_FAILED);
	ck_assert_ptr_ne(alone, MAP_FAILED);
	memset(first, 0x5a, 4096);
	ck_assert_int_eq(mapped[8192 + 5], 0x5a);
	mapped[8192 + 5] = 0x77;
	ck_assert_int_eq(first[5], 0x77);
	ck_assert_int_eq(alone[5], 0x77);
	mapped[4096] = 1; /* the rest is each one's own */
	ck_assert_int_eq(((uint8_t *)run)[4096], 0);
	close(vcpu); /* and stays when the first descriptor goes */
	vcpu = -1;
	munmap(alone, 4096);
	alone = mmap(NULL, 4096, PROT_READ, MAP_SHARED, second, 8192);
	ck_assert_int_eq(alone[5], 0x77);
	ck_assert_int_ge(vm2, 0);
	other = ioctl(vm2, KVM_CREATE_VCPU, 0);
	foreign = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	ck_assert_int_eq(foreign[8192 + 5], 0);
	munmap(foreign, 3 * 4096);
	munmap(mapped, 3 * 4096);
	munmap(alone, 4096);
	close(other);
	close(vm2);
	close(second);
}
END_TEST

START_TEST(calls)
{
	struct kvm_regs in, out = { 0 };
	struct kvm_irq_level level = { .irq = 4 };
	uint32_t list[2 + 8 * 10] = { 1 }; /* struct kvm_cpuid2 with room for eight entries */
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)list;

	memset(&in, 0x3c, sizeof(in));
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_REGS, &in), 0);
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_REGS, &out), 0);
	ck_assert_mem_eq(&in, &out, sizeof(in));
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_REGS, NULL), -1);
	ck_assert_int_eq(errno, EFAULT);
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_REGS, (void *)0x7ffffffff000), -1);
	ck_assert_int_eq(errno, EFAULT);
	ck_assert_int_eq(ioctl(vcpu, KVM_SMI, 0), -1);
	ck_assert_int_eq(errno, ENOTTY);
	ck_assert_int_eq(ioctl(vm, KVM_IRQ_LINE_STATUS, &level), 0);
	ck_assert_int_eq(level.status, 3);
	/* Too small a list: the true count comes back with the error. */
	ck_assert_int_eq(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), -1);
	ck_assert_int_eq(errno, E2BIG);
	ck_assert_int_eq(cpuid->nent, 3);
	cpuid->nent = 8;
	ck_assert_int_eq(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	ck_assert_int_eq(cpuid->nent, 3);
	ck_assert_int_eq(cpuid->entries[2].eax, 0x5a5a5a5a);
	ck_assert_int_eq(cpuid->entries[3].eax, 0);
}
END_TEST

static uint32_t irq_line_status(void)
{
	struct kvm_irq_level level = { .irq = 4, .level = 1 };

	ck_assert_int_eq(ioctl(vm, KVM_IRQ_LINE_STATUS, &level), 0);
	return level.status;
}

static void *irq_line_thread(void *status)
{
	*(uint32_t *)status = irq_line_status();
	return NULL;
}

/* By the doorbell (2) from the thread that has run a vCPU, while there is one; else by the VM's bell (3). */
START_TEST(interrupts_by_doorbell)
{
	pthread_t thread;
	uint32_t status;
	int second, third;

	ck_assert_uint_eq(irq_line_status(), 3);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
	ck_assert_uint_eq(irq_line_status(), 2);
	ck_assert_int_eq(ioctl(vm, KVM_IRQ_LINE_STATUS, NULL), -1);
	ck_assert_int_eq(errno, EFAULT);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
	ck_assert_uint_eq(irq_line_status(), 2);
	ck_assert_int_eq(pthread_create(&thread, NULL, irq_line_thread, &status), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(status, 3);
	/* On the vCPU's own descriptor it is no call at all. */
	ck_assert_int_eq(ioctl(vcpu, KVM_IRQ_LINE_STATUS, &(struct kvm_irq_level) { 0 }), -1);
	ck_assert_int_eq(errno, ENOTTY);
	/* Another VM's vCPU does not serve, nor one that is gone. */
	second = ioctl(kvm, KVM_CREATE_VM, 0);
	third = ioctl(second, KVM_CREATE_VCPU, 0);
	ck_assert_int_ge(third, 0);
	close(vcpu);
	ck_assert_uint_eq(irq_line_status(), 3);
	ck_assert_int_eq(dup2(third, vcpu), vcpu);
	ck_assert_uint_eq(irq_line_status(), 3);
	close(third);
	close(second);
}
END_TEST

/* The VM's bell: from its first vCPU on; polled or not, late, and with nonsense or nothing as the answer. */
START_TEST(interrupts_by_bell)
{
	static const uint32_t last[] = { STUB_IRQ_BAD_SIZE, STUB_IRQ_BAD_RET, STUB_IRQ_KILLED };
	struct kvm_irq_level level = { .irq = 4, .level = 1 };
	int second = ioctl(kvm, KVM_CREATE_VM, 0);

	ck_assert_int_eq(ioctl(second, KVM_IRQ_LINE_STATUS, &level), 0);
	ck_assert_int_eq(level.status, 1);
	close(second);
	for (int i = 0; i < 20; i++)
		ck_assert_uint_eq(irq_line_status(), 3);
	level = (struct kvm_irq_level) { .irq = STUB_IRQ_LATE };
	ck_assert_int_eq(ioctl(vm, KVM_IRQ_LINE_STATUS, &level), 0);
	ck_assert_int_eq(level.status, 3);
	ck_assert_int_eq(ioctl(vm, KVM_IRQ_LINE_STATUS, NULL), -1);
	ck_assert_int_eq(errno, EFAULT);
	ck_assert_int_eq(ioctl(vm, KVM_SIGNAL_MSI, &(struct kvm_msi) { 0 }), -1);
	ck_assert_int_eq(errno, EINVAL); /* the stub's */
	for (int i = 0; i < 2; i++) {
		level = (struct kvm_irq_level) { .irq = last[_i] };
		ck_assert_int_eq(ioctl(vm, KVM_IRQ_LINE_STATUS, &level), -1);
		ck_assert_int_eq(errno, EIO);
	}
}
END_TEST

#define ROUTES 4096 /* KVM's limit */

/* More of them than one message holds. */
START_TEST(routes)
{
	struct kvm_irq_routing *routing = calloc(1, sizeof(*routing) + (ROUTES + 1) * sizeof(routing->entries[0]));
	static const uint32_t counts[] = { 0, 1, 1365, 1366, 2730, 2731, ROUTES };

	for (uint32_t i = 0; i <= ROUTES; i++)
		routing->entries[i].gsi = i;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		routing->nr = counts[i];
		ck_assert_int_eq(ioctl(vm, KVM_SET_GSI_ROUTING, routing), 0);
		ck_assert_int_eq(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING), (int)counts[i]);
	}
	routing->entries[ROUTES - 1].gsi = UINT32_MAX; /* refused, in the last message */
	ck_assert_int_eq(ioctl(vm, KVM_SET_GSI_ROUTING, routing), -1);
	ck_assert_int_eq(errno, EINVAL);
	routing->entries[ROUTES - 1].gsi = ROUTES - 1;
	routing->flags = 1;
	ck_assert_int_eq(ioctl(vm, KVM_SET_GSI_ROUTING, routing), -1);
	ck_assert_int_eq(errno, EINVAL);
	routing->flags = 0;
	routing->nr = ROUTES + 1;
	ck_assert_int_eq(ioctl(vm, KVM_SET_GSI_ROUTING, routing), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(ioctl(vm, KVM_SET_GSI_ROUTING, (void *)8), -1);
	ck_assert_int_eq(errno, EFAULT);
	free(routing);
}
END_TEST

START_TEST(descriptors)
{
	struct kvm_regs regs;
	int copy = dup(vcpu), other = fcntl(vcpu, F_DUPFD_CLOEXEC, 100), plain = open("/dev/null", O_RDWR);

	ck_assert_int_ge(other, 100);
	ck_assert_int_eq(dup2(vcpu, plain), plain);
	ck_assert_int_eq(close(vcpu), 0);
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_REGS, &regs), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(ioctl(copy, KVM_GET_REGS, &regs), 0);
	ck_assert_int_eq(ioctl(plain, KVM_GET_REGS, &regs), 0);
	close(copy);
	close(plain);
	ck_assert_int_eq(ioctl(other, KVM_GET_REGS, &regs), 0);
	/* A descriptor that is overwritten is not ours any more. */
	ck_assert_int_eq(dup2(other, vcpu), vcpu);
	plain = open("/dev/null", O_RDWR);
	ck_assert_int_eq(dup3(plain, other, O_CLOEXEC), other);
	ck_assert_int_eq(ioctl(other, KVM_GET_REGS, &regs), -1);
	ck_assert_int_eq(errno, ENOTTY);
	/* The VM lives as long as its vCPU; the glue's own descriptors survive a VMM that closes everything else. */
	close(vm);
	vm = -1;
	for (int fd = 64; fd < 1200; fd++) /* those below are the test framework's */
		if (fd != vcpu && fd != kvm)
			close(fd);
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_REGS, &regs), 0);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
}
END_TEST

START_TEST(second_vm)
{
	int second = ioctl(kvm, KVM_CREATE_VM, 0), bad;

	ck_assert_int_ge(second, 0);
	ck_assert_int_eq(ioctl(second, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2), 4096);
	bad = ioctl(kvm, KVM_CREATE_VM, 99);
	ck_assert_int_eq(bad, -1);
	ck_assert_int_eq(errno, EINVAL);
	close(vcpu);
	close(vm);
	vcpu = vm = -1;
	/* Its shadow is gone; /dev/kvm and the other VM are not. */
	ck_assert_int_eq(ioctl(kvm, KVM_CHECK_EXTENSION, 1), 0);
	ck_assert_int_eq(ioctl(second, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2), 4096);
	close(second);
}
END_TEST

START_TEST(eventfd_cookies)
{
	struct kvm_irqfd irqfd = { .gsi = 5 };
	int fd = eventfd(0, 0), copy = dup(fd), other = eventfd(0, 0), a, b;

	irqfd.fd = fd;
	a = ioctl(vm, KVM_IRQFD, &irqfd);
	ck_assert_int_eq(a % 10, 1);
	irqfd.fd = copy;
	ck_assert_int_eq(ioctl(vm, KVM_IRQFD, &irqfd), a);
	irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
	ck_assert_int_eq(ioctl(vm, KVM_IRQFD, &irqfd), a - 1);
	irqfd.flags = 0;
	irqfd.fd = other;
	b = ioctl(vm, KVM_IRQFD, &irqfd);
	ck_assert_int_ne(a, b);
	irqfd.fd = vm; /* no eventfd */
	ck_assert_int_eq(ioctl(vm, KVM_IRQFD, &irqfd), -1);
	ck_assert_int_eq(errno, EINVAL);
	irqfd.fd = 4000;
	ck_assert_int_eq(ioctl(vm, KVM_IRQFD, &irqfd), -1);
	ck_assert_int_eq(errno, EBADF);
	close(fd);
	close(copy);
	close(other);
}
END_TEST

START_TEST(memory)
{
	const size_t size = 128 * 4096;
	uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .memory_size = size, .userspace_addr = (uintptr_t)ram };
	uint64_t bitmap[2] = { 0 };
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	pid_t child;
	int status;

	ram[0] = 0x11;
	ram[5 * 4096 + 7] = 0x22;
	ck_assert_int_eq(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), 0);
	ck_assert_int_eq(ram[0], 0x11);
	ck_assert_int_eq(ioctl(vm, KVM_SET_TSS_ADDR, 5 * 4096 + 7), 0x22);
	ram[9 * 4096] = 0x33;
	ck_assert_int_eq(ioctl(vm, KVM_SET_TSS_ADDR, 9 * 4096), 0x33);
	ck_assert_int_eq(ioctl(vm, KVM_SET_NR_MMU_PAGES, 6 * 4096), 0);
	ck_assert_int_eq(ram[6 * 4096], 0x77);
	ck_assert_int_eq(ioctl(vm, KVM_GET_DIRTY_LOG, &log), 0);
	ck_assert(bitmap[0] == 0xa5a5a5a5a5a5a5a5 && bitmap[1] == bitmap[0]);
	log.slot = 9;
	ck_assert_int_eq(ioctl(vm, KVM_GET_DIRTY_LOG, &log), -1);
	ck_assert_int_eq(errno, ENOENT);
	/* A child's copy is its own, and what it gives up is not ours. */
	child = fork();
	if (!child) {
		bool same = ram[9 * 4096] == 0x33;

		ram[0] = 0x99;
		madvise(ram, size, MADV_DONTNEED);
		_exit(!same || ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) != -1 || ioctl(vcpu, KVM_RUN, 0) != -1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(ram[0], 0x11);
	ck_assert_int_eq(ioctl(vm, KVM_SET_TSS_ADDR, 9 * 4096), 0x33);
	/* Given up: zero on both sides. */
	ck_assert_int_eq(madvise(ram + 9 * 4096, 4096, MADV_DONTNEED), 0);
	ck_assert_int_eq(ram[9 * 4096], 0);
	ck_assert_int_eq(ioctl(vm, KVM_SET_TSS_ADDR, 9 * 4096), 0);
	ck_assert_int_eq(ram[5 * 4096 + 7], 0x22);
	region.userspace_addr++;
	ck_assert_int_eq(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), -1);
	ck_assert_int_eq(errno, EINVAL);
	munmap(ram, size);
}
END_TEST

/* ---- kicks ---- */

/* One kick a round, at a moment that differs each time; each must end a KVM_RUN. */
static void storm(int sig)
{
	struct kicker k = { .target = pthread_self(), .sig = sig };
	pthread_t thread;
	int seen = 0;

	mode(STUB_UNTIL_STOP);
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_thread, &k), 0);
	for (int i = 0; i < KICKS; i++) {
		int before = handled;

		run->immediate_exit = 0;
		k.round++;
		while (handled == before) {
			int ret = ioctl(vcpu, KVM_RUN, 0);

			ck_assert_int_eq(ret, -1);
			ck_assert_int_eq(errno, EINTR);
			ck_assert_int_eq(run->exit_reason, KVM_EXIT_INTR);
			if (handled == before)
				ck_abort_msg("a kick out of nothing in round %d", i);
			seen++;
		}
	}
	k.end = true;
	pthread_join(thread, NULL);
	ck_assert_int_eq(handled, KICKS);
	ck_assert_int_gt(seen, 0);
}

START_TEST(kick_immediate_exit)
{
	catch (SIGUSR2, handler_immediate, 0);
	storm(SIGUSR2);
}
END_TEST

static void storm_counted(enum stub_mode how, int kicks)
{
	struct kicker k = { .target = pthread_self(), .sig = SIGUSR1, .rung = true };
	pthread_t thread;

	mode(how);
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_thread, &k), 0);
	for (int i = 0; i < kicks; i++) {
		k.round++;
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
		ck_assert_int_eq(errno, EINTR);
		ck_assert_int_eq(handled, i + 1);
	}
	k.end = true;
	pthread_join(thread, NULL);
}

/* A handler that only counts. Whether it runs in a poll, between poll and sleep, or in the sleep: the run has to end. */
START_TEST(kick_handler_only)
{
	storm_counted(STUB_UNTIL_STOP, KICKS);
}
END_TEST

START_TEST(kick_hidden)
{
	storm_counted(STUB_HIDES_NOTE, 100);
}
END_TEST

/* A handler from before the vCPU, with SA_RESTART, during the sleep; and one by signal(). */
START_TEST(kick_in_sleep)
{
	struct itimerspec when = { .it_value.tv_nsec = 30000000 };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	timer_t timer;

	event._sigev_un._tid = syscall(SYS_gettid);
	mode(STUB_UNTIL_STOP);
	for (int i = 0; i < 6; i++) {
		if (i == 3)
			ck_assert_ptr_eq(signal(SIGUSR1, handler), handler);
		ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
		timer_settime(timer, 0, &when, NULL);
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
		ck_assert_int_eq(errno, EINTR);
		ck_assert_int_eq(handled, i + 1);
		timer_delete(timer);
	}
	ck_assert_int_eq(area[CHANNEL_NOTE_BYTE], 0);
}
END_TEST

START_TEST(immediate_exit_before)
{
	mode(STUB_UNTIL_STOP);
	run->immediate_exit = 1;
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
		ck_assert_int_eq(errno, EINTR);
	}
	run->immediate_exit = 0;
	mode(STUB_EXIT_IO);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
}
END_TEST

struct mask_arg {
	uint32_t len;
	uint8_t bits[8];
} __attribute__((packed));

static void set_mask(uint64_t blocked)
{
	struct mask_arg arg = { .len = 8 };

	memcpy(arg.bits, &blocked, 8);
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_SIGNAL_MASK, &arg), 0);
}

START_TEST(signal_mask)
{
	struct mask_arg bad = { .len = 4 };
	struct timespec none = { 0, 0 };
	struct kicker k = { .target = pthread_self(), .sig = SIGUSR1 };
	pthread_t thread;
	sigset_t usr1, pending;

	ck_assert_int_eq(ioctl(vcpu, KVM_SET_SIGNAL_MASK, &bad), -1);
	ck_assert_int_eq(errno, EINVAL);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	set_mask(~(1ULL << (SIGUSR1 - 1)));
	mode(STUB_UNTIL_STOP);
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_thread, &k), 0);
	for (int i = 0; i < KICKS; i++) {
		k.round++;
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
		ck_assert_int_eq(errno, EINTR);
		/* Not handled, still pending: the VMM takes it. */
		ck_assert_int_eq(handled, 0);
		sigpending(&pending);
		ck_assert_int_eq(sigismember(&pending, SIGUSR1), 1);
		ck_assert_int_eq(sigtimedwait(&usr1, NULL, &none), SIGUSR1);
	}
	k.end = true;
	pthread_join(thread, NULL);
	/* The other way round: unblocked, but not by the mask. The run goes on; the handler runs after it. */
	pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
	set_mask(1ULL << (SIGUSR1 - 1));
	mode(STUB_EXIT_OR_STOP);
	k = (struct kicker) { .target = pthread_self(), .sig = SIGUSR1 };
	pthread_create(&thread, NULL, kick_thread, &k);
	k.round = 1;
	for (time_t end = time(NULL) + 20; !handled && time(NULL) < end;) /* the other thread needs a CPU first */
		ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
	ck_assert_int_eq(handled, 1);
	k.end = true;
	pthread_join(thread, NULL);
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_SIGNAL_MASK, NULL), 0);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
}
END_TEST

static struct kvm_regs regs_in_handler;
static int ret_in_handler;

static void handler_calls(int sig)
{
	(void)sig;
	ret_in_handler = ioctl(vcpu, KVM_GET_REGS, &regs_in_handler);
}

/* kvmtool prints the registers from a signal handler. */
START_TEST(call_in_handler)
{
	struct kvm_regs regs;
	struct kicker k = { .target = pthread_self(), .sig = SIGUSR2 };
	pthread_t thread;

	memset(&regs, 0x44, sizeof(regs));
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_REGS, &regs), 0);
	catch (SIGUSR2, handler_calls, 0);
	mode(STUB_EXIT_OR_STOP);
	pthread_create(&thread, NULL, kick_thread, &k);
	for (int i = 0; i < 300; i++) {
		int ret;

		memset(&regs_in_handler, 0, sizeof(regs_in_handler));
		ret_in_handler = -2;
		k.round++;
		ret = ioctl(vcpu, KVM_RUN, 0);
		ck_assert(ret == 0 || (ret == -1 && errno == EINTR));
		while (*(volatile int *)&ret_in_handler == -2)
			sched_yield();
		ck_assert_int_eq(ret_in_handler, 0);
		ck_assert_mem_eq(&regs_in_handler, &regs, sizeof(regs));
	}
	k.end = true;
	pthread_join(thread, NULL);
}
END_TEST

static volatile pid_t regs_tid;

static void *regs_thread(void *arg)
{
	struct kvm_regs regs;

	regs_tid = gettid();
	*(double *)arg = ioctl(vcpu, KVM_GET_REGS, &regs) ? -1 : now();
	return NULL;
}

/* Its call waits for the run: it sleeps. Never: the test's time-out. */
static void regs_waits(void)
{
	char path[64], state = 0;
	FILE *file;

	while (state != 'S') {
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", regs_tid);
		file = regs_tid ? fopen(path, "r") : NULL;
		if (file) {
			if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
				state = 0;
			fclose(file);
		}
		usleep(1000);
	}
}

/* While the other thread is in KVM_RUN: a call that has to wait, the close, then the kick. */
static void *late_close_thread(void *arg)
{
	struct timespec pause = { 0, 30000000 };
	struct kicker *k = arg;
	pthread_t waits;
	double done = 0, kicked;

	while (area[CHANNEL_BELL_BYTE] != CHANNEL_RUN)
		;
	regs_tid = 0;
	pthread_create(&waits, NULL, regs_thread, &done);
	regs_waits();
	close(vcpu);
	nanosleep(&pause, NULL);
	kicked = now();
	k->round++;
	pthread_join(waits, NULL);
	ck_assert(done > kicked);
	return NULL;
}

/* A call from another thread waits for the run, as with KVM; closing the descriptor meanwhile does not pull it away. */
START_TEST(two_threads)
{
	struct timespec pause = { 0, 50000000 };
	struct kicker k = { .target = pthread_self(), .sig = SIGUSR1 };
	pthread_t other, kicks;
	double done = 0, start = now();

	mode(STUB_UNTIL_STOP);
	pthread_create(&kicks, NULL, kick_thread, &k);
	pthread_create(&other, NULL, regs_thread, &done);
	pthread_join(other, NULL);
	ck_assert(done > start);
	run->immediate_exit = 0;
	pthread_create(&other, NULL, late_close_thread, &k);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
	ck_assert_int_eq(errno, EINTR);
	pthread_join(other, NULL);
	nanosleep(&pause, NULL);
	k.end = true;
	pthread_join(kicks, NULL);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
	ck_assert_int_eq(errno, EBADF);
}
END_TEST

START_TEST(sigaction_shows_own_handlers)
{
	struct sigaction old;

	ck_assert_int_eq(sigaction(SIGUSR1, NULL, &old), 0);
	ck_assert_ptr_eq(old.sa_handler, handler);
	catch (SIGUSR2, handler_immediate, 0);
	catch (SIGUSR2, handler, 0);
	ck_assert_int_eq(sigaction(SIGUSR2, &(struct sigaction) { .sa_handler = SIG_IGN }, &old), 0);
	ck_assert_ptr_eq(old.sa_handler, handler);
	raise(SIGUSR2);
	ck_assert_int_eq(sigaction(SIGUSR2, NULL, &old), 0);
	ck_assert_ptr_eq(old.sa_handler, SIG_IGN);
	raise(SIGUSR1);
	ck_assert_int_eq(handled, 1);
}
END_TEST

/* ---- death ---- */

static void expect_death(enum stub_mode how)
{
	struct kvm_regs regs;
	double start;

	mode(how);
	start = now();
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
	ck_assert_int_eq(run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
	ck_assert(now() - start < 2);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), -1);
	ck_assert_int_eq(errno, EIO);
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_REGS, &regs), -1);
	ck_assert_int_eq(errno, EIO);
	ck_assert_int_eq(ioctl(vm, KVM_CHECK_EXTENSION, 1), -1);
	ck_assert_int_eq(errno, EIO);
}

START_TEST(death)
{
	static const enum stub_mode ways[] = { STUB_KILLED,	STUB_LAST_WORDS, STUB_BAD_RET,	 STUB_BAD_OFFSET,
					       STUB_BAD_SIZE,	STUB_BAD_MMIO,	 STUB_BAD_NDATA, STUB_BAD_BYTES,
					       STUB_BAD_REASON, STUB_BAD_ENTRY,	 STUB_BAD_LAST };

	expect_death(ways[_i]);
	ck_assert_uint_eq(run->internal.ndata, 2);
}
END_TEST

/* What a VMM would take as a count of its own list, or as a descriptor. */
static int malformed_list(int way)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[4];
	} msrs = { .head.nmsrs = 1, .entry[0].index = STUB_MSR_GOOD };

	ck_assert_int_eq(ioctl(vcpu, KVM_GET_MSRS, &msrs), 1);
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_MSRS, &msrs), 1);
	msrs.entry[0].index = way == 0 ? STUB_MSR_MORE : STUB_MSR_TOO_MANY;
	switch (way) {
	case 0:
	case 1:
		return ioctl(vcpu, KVM_GET_MSRS, &msrs);
	case 2:
		return ioctl(vcpu, KVM_SET_MSRS, &msrs);
	case 3:
		return ioctl(vcpu, KVM_GET_STATS_FD, NULL);
	default:
		return ioctl(vm, KVM_CREATE_DEVICE, &device);
	}
}

START_TEST(death_by_messages)
{
	struct kvm_reinject_control control = { 0 };
	struct kvm_sregs sregs;

	if (_i >= 4)
		ck_assert_int_eq(malformed_list(_i - 4), -1);
	else if (_i == 0)
		ck_assert_int_eq(ioctl(vm, KVM_NMI, 0), -1);
	else if (_i == 1)
		ck_assert_int_eq(ioctl(vm, KVM_REINJECT_CONTROL, &control), -1);
	else if (_i == 2)
		ck_assert_int_eq(ioctl(vm, KVM_CREATE_PIT, 0), -1);
	else
		ck_assert_int_eq(ioctl(vcpu, KVM_GET_SREGS, &sregs), -1);
	ck_assert_int_eq(errno, EIO);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
	ck_assert_int_eq(run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
}
END_TEST

/* ---- start ---- */

static void fails_to_open(const char *how, int error)
{
	setenv("UMBRA_STUB_START", how, 1);
	ck_assert_int_eq(open("/dev/kvm", O_RDWR), -1);
	ck_assert_int_eq(errno, error);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}

START_TEST(bad_starts)
{
	fails_to_open("die", ENODEV);
	fails_to_open("version", ENODEV);
	fails_to_open("short", ENODEV);
	fails_to_open("exit", access("/dev/umbra", F_OK)	  ? ENOENT
			      : access("/dev/umbra", R_OK | W_OK) ? EACCES
								  : ENODEV);
	setenv("UMBRA_SHADOW", "/nonexistent/umbra-shadow", 1);
	fails_to_open("", ENOENT);
	setenv("UMBRA_SHADOW", "/dev/null", 1);
	fails_to_open("", EACCES);
	/* Others are untouched. */
	ck_assert_int_ge(open("/dev/null", O_RDWR), 0);
	ck_assert_int_eq(open("/dev/kvm/x", O_RDWR), -1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("glue_client");
	TCase *start = tcase_create("start"), *kvm_case = tcase_create("kvm");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(start, bad_starts);
	tcase_add_checked_fixture(kvm_case, set_up, tear_down);
	tcase_add_test(kvm_case, exit_to_vmm);
	tcase_add_test(kvm_case, answers);
	tcase_add_test(kvm_case, exit_stays);
	tcase_add_test(kvm_case, ring);
	tcase_add_test(kvm_case, ring_order);
	tcase_add_test(kvm_case, ring_while_it_runs);
	tcase_add_test(kvm_case, few_descriptors);
	tcase_add_test(kvm_case, calls);
	tcase_add_test(kvm_case, interrupts_by_doorbell);
	tcase_add_loop_test(kvm_case, interrupts_by_bell, 0, 3);
	tcase_add_test(kvm_case, routes);
	tcase_add_test(kvm_case, descriptors);
	tcase_add_test(kvm_case, second_vm);
	tcase_add_test(kvm_case, eventfd_cookies);
	tcase_add_test(kvm_case, memory);
	tcase_add_test(kvm_case, kick_immediate_exit);
	tcase_add_test(kvm_case, kick_handler_only);
	tcase_add_test(kvm_case, kick_hidden);
	tcase_add_test(kvm_case, kick_in_sleep);
	tcase_add_test(kvm_case, immediate_exit_before);
	tcase_add_test(kvm_case, signal_mask);
	tcase_add_test(kvm_case, call_in_handler);
	tcase_add_test(kvm_case, two_threads);
	tcase_add_test(kvm_case, sigaction_shows_own_handlers);
	tcase_add_loop_test(kvm_case, death, 0, 11);
	tcase_add_loop_test(kvm_case, death_by_messages, 0, 9);
	suite_add_tcase(suite, start);
	suite_add_tcase(suite, kvm_case);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
