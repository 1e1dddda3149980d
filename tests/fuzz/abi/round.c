// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Steps of a shadow gone mad: calls on the module with fields mutated from good ones, and everything that may happen to a
 * process meanwhile. Each result must be one that shim/umbra_abi.h documents; with one thread it must be the one.
 */
#include "abi-fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

#define VMS 3
#define VCPUS 8
#define ARENAS 4
#define ARENA_SIZE (1UL << 20)
#define PAGE 4096UL
#define SLOTS 12

/* Descriptors and mappings, which all threads use and close under each other. */
static _Atomic int vm_fd[VMS];
static struct {
	_Atomic int fd, vm;
	_Atomic(struct umbra_run *) run;
} cpus[VCPUS];
static uint8_t *arena[ARENAS]; /* 0: private memory, 1: memfd, 2: with huge pages, 3: read-only */
static int arena_memfd;
static int dev;
static const struct plan *plan;
static struct umbra_info host;
static uint64_t user_end; /* first address past user space */

/* With one thread all is known. */
static struct umbra_region model[VMS][UMBRA_MAX_REGIONS];

struct thread {
	pthread_t id;
	uint32_t n;
	uint64_t random;
	uint32_t step;
};
static struct thread threads[THREADS_MAX];
static atomic_uint alive;

static __thread struct thread *self;

/* ---- numbers ---- */

static uint64_t any(void)
{
	return random_next(&self->random) * 0x2545f4914f6cdd1d;
}

static uint32_t pick(uint32_t n)
{
	return (uint32_t)(any() >> 33) % n;
}

static bool chance(uint32_t of) /* one in so many */
{
	return !pick(of);
}

static uint64_t odd_number(void)
{
	static const uint64_t numbers[] = {
		0,
		1,
		PAGE - 1,
		PAGE,
		PAGE + 1,
		1ULL << 21,
		1ULL << 32,
		1ULL << 36,
		1ULL << 40,
		(1ULL << 40) + PAGE,
		1ULL << 46,
		1ULL << 47,
		0x7ffffffff000,
		0xffff800000000000,
		0xffffffff80000000,
		0xfffffffffffff000,
		~0ULL,
		1ULL << 63,
	};

	return chance(4) ? any() : numbers[pick(ARRAY_SIZE(numbers))] + (chance(4) ? any() : 0);
}

/* A bit, a byte, a word of it is something else. */
static void mutate(void *what, size_t size)
{
	uint8_t *bytes = what;
	uint64_t value = odd_number();

	switch (pick(3)) {
	case 0:
		bytes[pick((uint32_t)size)] ^= (uint8_t)(1 << pick(8));
		break;
	case 1:
		bytes[pick((uint32_t)size)] = (uint8_t)any();
		break;
	default:
		memcpy(bytes + pick((uint32_t)size / 8) * 8, &value, 8);
	}
}

/* ---- what is allowed ---- */

static bool alone(void)
{
	return plan->threads == 1;
}

static void say(const char *format, ...)
{
	uint32_t line = atomic_fetch_add(&report->lines[self->n], 1) % LOG_LINES;
	char *at = report->line[self->n][line];
	va_list args;
	int n = snprintf(at, 24, "%u: ", self->step);

	va_start(args, format);
	vsnprintf(at + n, sizeof(report->line[0][0]) - (size_t)n, format, args);
	va_end(args);
}

static void broken(const char *format, ...)
{
	va_list args;

	if (!atomic_exchange(&report->failed, 1)) {
		int n = snprintf(report->reason, sizeof(report->reason), "thread %u step %u: ", self->n, self->step);

		va_start(args, format);
		vsnprintf(report->reason + n, sizeof(report->reason) - (size_t)n, format, args);
		va_end(args);
	}
	_exit(3);
}

static int count(long r)
{
	atomic_fetch_add_explicit(&report->calls, 1, memory_order_relaxed);
	return r < 0 ? -errno : (int)(r > 0x7fffffff ? 0x7fffffff : r);
}

/* r: a result or a negative errno; then the errnos that may be, to 0. Others may have closed or replaced a descriptor. */
static void expect(const char *what, int r, ...)
{
	va_list args;
	int error;

	say("%s = %d", what, r);
	if (r >= 0 || r == -ENOMEM)
		return;
	if (!alone() && (r == -EBADF || r == -ENOTTY || r == -EINVAL || r == -ENODEV || r == -ESPIPE))
		return;
	va_start(args, r);
	while ((error = va_arg(args, int)))
		if (r == -error)
			break;
	va_end(args);
	if (!error)
		broken("%s: errno %d (%s), not documented for it", what, -r, strerror(-r));
}

/* With one thread: exactly this. */
static void expect_exactly(const char *what, int r, int want)
{
	if (alone() && (want < 0 ? r != want : r < 0) && r != -ENOMEM && r != -EINTR)
		broken("%s: %d, not %d", what, r, want);
}

/* ---- VMs and regions ---- */

/* Mostly one that is there. */
static uint32_t pick_vm(void)
{
	uint32_t n = pick(VMS);

	for (int i = 0; i < 3 && vm_fd[n] < 0 && !chance(8); i++)
		n = (n + 1) % VMS;
	return n;
}

static uint32_t pick_vcpu(void)
{
	uint32_t c = pick(VCPUS);

	for (int i = 0; i < 8 && (cpus[c].fd < 0 || !cpus[c].run) && !chance(16); i++)
		c = (c + 1) % VCPUS;
	return c;
}

static void *bad_pointer(void)
{
	static const uint64_t bad[] = { 0, 8, 0x7ffffffff000, 0xffff888000000000, 0xffffffff81000000, ~0ULL };

	return (void *)(uintptr_t)bad[pick(ARRAY_SIZE(bad))];
}

static void vm_forget(uint32_t n)
{
	memset(model[n], 0, sizeof(model[n]));
	for (int i = 0; i < VCPUS; i++)
		if (cpus[i].vm == (int)n)
			cpus[i].vm = -1;
}

static void op_create_vm(void)
{
	struct umbra_create_vm arg = { 0 };
	uint32_t n = pick(VMS);
	bool bad = chance(4);
	int r, old;

	if (bad)
		mutate(&arg, sizeof(arg));
	bad = arg.flags | arg.reserved[0] | arg.reserved[1] | arg.reserved[2];
	r = count(ioctl(dev, UMBRA_CREATE_VM, &arg));
	expect("CREATE_VM", r, EINVAL, EMFILE, ENFILE, EBUSY, 0);
	expect_exactly("CREATE_VM", r, bad ? -EINVAL : 0);
	if (r < 0)
		return;
	vm_forget(n);
	old = atomic_exchange(&vm_fd[n], r);
	if (old >= 0)
		close(old);
}

static bool region_good(const struct umbra_region *r)
{
	unsigned __int128 gpa_end = (unsigned __int128)r->gpa + r->size,
			  addr_end = (unsigned __int128)r->addr + r->size;

	if (r->slot >= UMBRA_MAX_REGIONS || r->reserved ||
	    r->flags & ~(UMBRA_REGION_READONLY | UMBRA_REGION_LOG_DIRTY | UMBRA_REGION_ANNOUNCE))
		return false;
	if (!r->size)
		return !(r->flags | r->gpa | r->addr);
	return !((r->gpa | r->addr | r->size) % PAGE) && r->size <= UMBRA_MAX_REGION_SIZE &&
	       gpa_end <= (unsigned __int128)1 << host.gpa_bits && addr_end <= user_end;
}

static int region_want(uint32_t n, const struct umbra_region *r)
{
	if (!region_good(r))
		return -EINVAL;
	if (!r->size)
		return model[n][r->slot].size ? 0 : -ENOENT;
	for (uint32_t i = 0; i < UMBRA_MAX_REGIONS; i++)
		if (i != r->slot && model[n][i].size && r->gpa < model[n][i].gpa + model[n][i].size &&
		    model[n][i].gpa < r->gpa + r->size)
			return -EEXIST;
	return 0;
}

static void op_region(void)
{
	struct umbra_region arg = { .slot = pick(SLOTS), .flags = pick(8) };
	uint32_t n = pick_vm();
	int r, want;

	arg.gpa = chance(3) ? 0 : pick(1024) * PAGE;
	arg.addr = (uintptr_t)arena[pick(ARENAS)];
	arg.size = chance(2) ? ARENA_SIZE : (1 + pick(64)) * PAGE;
	if (chance(4))
		arg = (struct umbra_region) { .slot = pick(SLOTS) };
	if (chance(4))
		mutate(&arg, sizeof(arg));
	if (chance(50)) {
		r = count(ioctl(vm_fd[n], UMBRA_VM_SET_REGION, bad_pointer()));
		expect("SET_REGION, bad pointer", r, EFAULT, vm_fd[n] < 0 ? EBADF : EFAULT, 0);
		return;
	}
	want = vm_fd[n] < 0 ? -EBADF : region_want(n, &arg);
	r = count(ioctl(vm_fd[n], UMBRA_VM_SET_REGION, &arg));
	expect("SET_REGION", r, EINVAL, EEXIST, ENOENT, EINTR, vm_fd[n] < 0 ? EBADF : EINVAL, 0);
	expect_exactly("SET_REGION", r, want);
	if (!r && arg.slot < UMBRA_MAX_REGIONS)
		model[n][arg.slot] = arg;
}

static void op_dirty(void)
{
	static __thread uint64_t bitmap[1024];
	uint32_t n = pick_vm();
	struct umbra_dirty arg = { .slot = pick(SLOTS), .bitmap = (uintptr_t)bitmap };
	uint64_t pages = model[n][arg.slot].size / PAGE;
	int r;

	arg.pages = pages && pages <= 65536 ? pages : 64;
	if (chance(3)) {
		arg.first_page = pick(4) * 64;
		arg.pages = 1 + pick(128);
	}
	if (chance(4))
		mutate(&arg, sizeof(arg));
	if (arg.bitmap == (uintptr_t)bitmap && arg.pages > 65536)
		arg.pages = 64; /* it would write over what lies behind: that is what it is told to do */
	else if (arg.bitmap != (uintptr_t)bitmap && arg.bitmap < 0x7ffffffff000 && arg.bitmap >= PAGE)
		arg.bitmap = (uintptr_t)arena[3]; /* read-only memory: EFAULT; not somebody's data */
	r = count(ioctl(vm_fd[n], UMBRA_VM_GET_DIRTY, &arg));
	expect("GET_DIRTY", r, EINVAL, ENOENT, EFAULT, vm_fd[n] < 0 ? EBADF : EINVAL, 0);
	if (alone() && !r && !(model[n][arg.slot].flags & UMBRA_REGION_LOG_DIRTY))
		broken("GET_DIRTY of slot %u, which logs nothing", arg.slot);
}

static void op_close_vm(void)
{
	uint32_t n = pick(VMS);
	int old = atomic_exchange(&vm_fd[n], -1);

	say("close VM");
	vm_forget(n);
	if (old >= 0)
		close(old);
}

static void op_unknown(void)
{
	static const uint32_t near[] = { UMBRA_INFO,	       UMBRA_CREATE_VM, UMBRA_VM_SET_REGION, UMBRA_VM_GET_DIRTY,
					 UMBRA_VM_CREATE_VCPU, UMBRA_VCPU_RUN,	UMBRA_VCPU_KICK };
	uint32_t nr = near[pick(ARRAY_SIZE(near))];
	int fd = chance(3) ? dev : chance(2) ? vm_fd[pick_vm()] : cpus[pick_vcpu()].fd, r;

	nr ^= 1u << pick(32);
	if (_IOC_TYPE(nr) != UMBRA_IOC)
		nr = (nr & ~0xff00u) | UMBRA_IOC << 8; /* no call of the kernel's own for all files */
	for (size_t i = 0; i < ARRAY_SIZE(near); i++)
		if (nr == near[i])
			return;
	r = count(ioctl(fd, nr, bad_pointer()));
	expect("unknown call", r, ENOTTY, fd < 0 ? EBADF : ENOTTY, 0);
	if (alone() && r >= 0)
		broken("call %#x is known", nr);
}

static void op_info(void)
{
	struct umbra_info arg;
	int r = count(ioctl(dev, UMBRA_INFO, chance(8) ? bad_pointer() : &arg));

	expect("INFO", r, EFAULT, 0);
}

/* ---- vCPUs ---- */

static void op_create_vcpu(void)
{
	struct umbra_create_vcpu arg = { 0 };
	uint32_t n = pick_vm(), c = pick(VCPUS);
	bool bad;
	int r, old;

	if (chance(6))
		mutate(&arg, sizeof(arg));
	bad = arg.flags | arg.reserved[0] | arg.reserved[1] | arg.reserved[2];
	r = count(ioctl(vm_fd[n], UMBRA_VM_CREATE_VCPU, &arg));
	expect("CREATE_VCPU", r, EINVAL, ENOSPC, EMFILE, ENFILE, vm_fd[n] < 0 ? EBADF : EINVAL, 0);
	expect_exactly("CREATE_VCPU", r, vm_fd[n] < 0 ? -EBADF : bad ? -EINVAL : 0);
	if (r < 0)
		return;
	cpus[c].vm = (int)n;
	cpus[c].run = NULL; /* the old one's */
	old = atomic_exchange(&cpus[c].fd, r);
	if (old >= 0)
		close(old);
}

/*
 * States that hardware takes or refuses, and that end the emulated machine; in no state of a vCPU and at no moment of it:
 * QEMU 7.2 (TCG) does not give the host its CR0 back when a guest with EFER.LME and without CR4.PAE exits: it sets CR0 before CR4 and
 * refuses to. So on SVM CR4.PAE is always on. Bochs 2.7 does not look at CR0.PG at an entry with EFER.LMA, and panics without CR0.PE.
 * So on VMX one half of the vCPUs always has CR0.PG, the other never EFER.LMA.
 */
static void spare_emulator(struct umbra_run *run, uint32_t c)
{
	if (host.hw == UMBRA_HW_SVM)
		run->cr4 |= 1 << 5;
	else if (c & 1)
		run->efer &= ~(1ULL << 10);
	else
		run->cr0 |= 1ULL << 31;
}

/* The old mapping is left behind, with whoever uses it. */
static void op_map_run(void)
{
	uint32_t c = pick(VCPUS);
	size_t size = host.run_size;
	off_t offset = 0;
	int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED;
	bool bad = chance(4);
	void *run;

	if (bad) {
		switch (pick(4)) {
		case 0:
			size = chance(2) ? PAGE : 3 * PAGE;
			break;
		case 1:
			offset = (off_t)(pick(4) + 1) * (off_t)PAGE;
			break;
		case 2:
			flags = MAP_PRIVATE;
			break;
		default:
			prot |= PROT_EXEC;
		}
	}
	run = mmap(NULL, size, prot, flags, cpus[c].fd, offset);
	expect("mmap", count(run == MAP_FAILED ? -1 : 0), EINVAL, EPERM, EACCES, EBADF, ENODEV, 0);
	if (run == MAP_FAILED)
		return;
	if (bad) {
		if (alone())
			broken("mmap of size %zu, offset %ld, flags %d, prot %d", size, (long)offset, flags, prot);
		munmap(run, size);
		return;
	}
	spare_emulator(run, c);
	cpus[c].run = run;
}

static void guest_code_write(void)
{
	/* Real and 32-bit code, position-independent; each is harmless wherever it ends. */
	static const uint8_t codes[][24] = {
		{ 0xf4 },						  /* HLT */
		{ 0xe6, 0x80, 0xeb, 0xfc },				  /* OUT, again */
		{ 0xeb, 0xfe },						  /* a spin */
		{ 0x0f, 0xa2, 0x40, 0xeb, 0xfb },			  /* CPUID of all leaves */
		{ 0x0f, 0x32, 0x41, 0xeb, 0xfb },			  /* RDMSR */
		{ 0x0f, 0x30, 0x41, 0xeb, 0xfb },			  /* WRMSR */
		{ 0x89, 0x07, 0x81, 0xc7, 0x00, 0x10, 0, 0, 0xeb, 0xf6 }, /* writes page after page */
		{ 0x8b, 0x07, 0x81, 0xc7, 0x00, 0x10, 0, 0, 0xeb, 0xf6 }, /* reads them */
		{ 0xcc },
		{ 0xcd, 0x20 },
		{ 0x0f, 0x0b },
		{ 0xf1 },
		{ 0x0f, 0x22, 0xd8, 0xeb, 0xfb },		    /* MOV CR3 */
		{ 0x0f, 0x23, 0xc0, 0x0f, 0x21, 0xf0, 0xeb, 0xf8 }, /* MOV DR */
		{ 0xf3, 0x6e, 0xf3, 0x6c },			    /* OUTS, INS */
		{ 0x0f, 0x01, 0xd1 },
		{ 0x0f, 0x01, 0xc1 },
		{ 0x0f, 0x01, 0xd9 },
		{ 0xf3, 0x90, 0xeb, 0xfc },
		{ 0x9c, 0x9d, 0xfb, 0xfa, 0xeb, 0xfa },	      /* PUSHF, POPF, STI, CLI */
		{ 0x0f, 0x01, 0x3f, 0x0f, 0x08, 0x0f, 0x09 }, /* INVLPG, INVD, WBINVD */
	};
	const uint8_t *code = codes[pick(ARRAY_SIZE(codes))];
	uint8_t *to = arena[pick(2)] + GPA_CODE;

	/* Somebody may just have taken the page away: not by a fault here. */
	struct iovec {
		void *at;
		size_t len;
	} from_iov = { (void *)(uintptr_t)code, 24 }, to_iov = { to, 24 };

	syscall(SYS_process_vm_writev, getpid(), &from_iov, 1, &to_iov, 1, 0);
	say("guest code %02x %02x", code[0], code[1]);
}

static void op_load(void)
{
	static const enum guest_mode modes[] = { MODE_REAL, MODE_PROT32, MODE_PROT32, MODE_LONG64, MODE_PAE };
	uint32_t c = pick_vcpu(), mode = pick(ARRAY_SIZE(modes));
	struct umbra_run *run = cpus[c].run, state;

	guest_code_write();
	if (!run)
		return;
	memset(&state, 0, sizeof(state));
	vcpu_state(&state, modes[mode], modes[mode] == MODE_REAL ? 0 : GPA_CODE);
	for (int i = 0; i < 8; i++)
		state.gpr[i] = odd_number();
	state.gpr[UMBRA_RDI] = pick(256) * PAGE;
	state.gpr[UMBRA_RCX] = chance(2) ? pick(0x300) : 0xc0000080 + pick(8);
	state.intercepts = pick(16);
	state.exceptions = chance(2) ? 0 : (uint32_t)any();
	state.want = pick(256);
	state.flags = chance(8) ? pick(4) : 0;
	if (chance(3))
		state.inject = (struct umbra_event) { .vector = (uint8_t)pick(256),
						      .type = (uint8_t)pick(8),
						      .flags = (uint8_t)pick(4),
						      .insn_len = (uint8_t)pick(16) };
	if (chance(3))
		mutate(&state, offsetof(struct umbra_run, exit));
	spare_emulator(&state, c);
	memcpy(run, &state, offsetof(struct umbra_run, exit));
	say("state, mode %u", mode);
}

/* While another thread runs it. */
static void op_scribble(void)
{
	uint32_t c = pick_vcpu();
	struct umbra_run *run = cpus[c].run;

	if (!run)
		return;
	for (uint32_t n = 1 + pick(16); n; n--) {
		struct umbra_run copy;
		size_t at = chance(2) ? 0 : pick(sizeof(copy) / 8) * 8, len = sizeof(copy) - at;

		if (chance(4)) {
			mutate((uint8_t *)run + 1024 + pick(host.run_size / 512 - 2) * 512, 512);
			continue;
		}
		/* A copy is changed and stored word by word, so that no bit is missing for a moment. */
		memcpy(&copy, run, sizeof(copy));
		mutate((uint8_t *)&copy + at, len < 128 ? len : 128);
		spare_emulator(&copy, c);
		for (size_t i = at; i < at + (len < 128 ? len : 128); i += 8)
			__atomic_store_n((uint64_t *)((uint8_t *)run + i), *(uint64_t *)((uint8_t *)&copy + i),
					 __ATOMIC_RELAXED);
	}
	say("scribble");
}

static void op_run(void)
{
	uint32_t c = pick_vcpu(), how = pick(8);
	struct umbra_run *run = cpus[c].run;
	int fd = cpus[c].fd, r;
	bool zero = false;

	for (uint32_t n = 1 + pick(4); n; n--) {
		if (how == 0) {
			r = count(ioctl(fd, UMBRA_VCPU_RUN, odd_number() | 1));
			expect("RUN with an argument", r, EINVAL, fd < 0 ? EBADF : EINVAL, 0);
			zero = r >= 0;
		} else if (how == 1) {
			r = count(lseek(fd, (off_t)pick(3), (int)pick(3)));
			expect("lseek", r, EINVAL, EBUSY, fd < 0 ? EBADF : EINVAL, 0);
		} else {
			r = count(how & 1 ? ioctl(fd, UMBRA_VCPU_RUN, 0) : lseek(fd, 0, SEEK_SET));
			expect("RUN", r, EBUSY, EPERM, fd < 0 ? EBADF : EBUSY, 0);
			expect_exactly("RUN", r, fd < 0 ? -EBADF : 0);
			if (!r)
				atomic_fetch_add_explicit(&report->entries, 1, memory_order_relaxed);
			if (!r && run && alone() && run->exit.reason > UMBRA_EXIT_BAD_STATE)
				broken("exit reason %u", run->exit.reason);
		}
		if (zero && alone())
			broken("RUN with an argument was taken");
	}
}

static void op_kick(void)
{
	int fd = cpus[pick_vcpu()].fd;

	expect("KICK", count(ioctl(fd, UMBRA_VCPU_KICK, 0)), fd < 0 ? EBADF : EPERM, 0);
}

static void op_close_vcpu(void)
{
	uint32_t c = pick(VCPUS);
	int old = atomic_exchange(&cpus[c].fd, -1);
	struct umbra_run *run = cpus[c].run;

	say("close vCPU");
	/* Its area stays mapped, or not: nobody else may use it then. */
	if (alone() && run && chance(2)) {
		cpus[c].run = NULL;
		munmap(run, host.run_size);
	}
	if (old >= 0)
		close(old);
}

/* ---- memory and processes ---- */

static void op_memory(void)
{
	uint32_t n = pick(ARENAS - 1), what = pick(10);
	uint8_t *at = arena[n] + pick(ARENA_SIZE / PAGE) * PAGE;
	size_t left = (size_t)(arena[n] + ARENA_SIZE - at), len = chance(3) ? left : PAGE * (1 + pick(16));
	int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS;

	if (len > left)
		len = left;
	say("memory %u: arena %u", what, n);
	switch (what) {
	case 0:
		madvise(at, len, MADV_DONTNEED);
		break;
	case 1:
		madvise(at, len, MADV_REMOVE);
		break;
	case 2:
		munmap(at, len);
		sched_yield();
		mmap(at, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0);
		break;
	case 3:
		mprotect(at, len, PROT_READ);
		sched_yield();
		mprotect(at, len, PROT_READ | PROT_WRITE);
		break;
	case 4:
		mprotect(at, len, PROT_NONE);
		sched_yield();
		mprotect(at, len, PROT_READ | PROT_WRITE);
		break;
	case 5:
		if (ftruncate(arena_memfd, (off_t)(pick(256) * PAGE)) == 0)
			sched_yield();
		if (ftruncate(arena_memfd, (off_t)ARENA_SIZE) == 0)
			sched_yield();
		break;
	case 6:
		fallocate(arena_memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(pick(256) * PAGE),
			  (off_t)(PAGE * 16));
		break;
	case 7:
		mmap(arena[1], ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, arena_memfd, 0);
		break;
	case 8:
		madvise(at, len, chance(2) ? MADV_HUGEPAGE : 25 /* MADV_COLLAPSE */);
		break;
	default:
		madvise(at, len, chance(2) ? 22 /* MADV_POPULATE_READ */ : 23 /* MADV_POPULATE_WRITE */);
	}
}

/* A child has the descriptors and another address space: it may do nothing with them but close them. */
static void op_fork(void)
{
	struct umbra_region region = { .slot = 0, .addr = (uintptr_t)arena[0], .size = PAGE };
	struct umbra_create_vcpu create = { 0 };
	uint32_t n = pick_vm(), c = pick_vcpu(), stay = chance(4) ? 20000 : 0;
	int status = 0, vm = vm_fd[n], cpu = cpus[c].fd;
	pid_t pid;

	say("fork");
	pid = fork();
	if (!pid) {
		int bad = 0;

		if (vm >= 0 && alone()) {
			bad |= ioctl(vm, UMBRA_VM_SET_REGION, &region) >= 0 || errno != EPERM;
			bad |= ioctl(vm, UMBRA_VM_CREATE_VCPU, &create) >= 0 || errno != EPERM;
		}
		if (cpu >= 0 && alone()) {
			bad |= lseek(cpu, 0, SEEK_SET) >= 0 || errno != EPERM;
			bad |= ioctl(cpu, UMBRA_VCPU_KICK, 0) >= 0 || errno != EPERM;
			bad |= mmap(NULL, host.run_size, PROT_READ, MAP_SHARED, cpu, 0) != MAP_FAILED || errno != EPERM;
		}
		if (stay) /* outlives its parent now and then */
			usleep(stay);
		_exit(bad ? 9 : 0);
	}
	count(0);
	if (pid > 0 && !stay) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 9)
			broken("a forked child got past EPERM");
	}
}

static void op_move(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(pick((uint32_t)cpu_count_online()), &set);
	sched_setaffinity(0, sizeof(set), &set);
	say("to another CPU");
	if (chance(2))
		pthread_kill(threads[pick(plan->threads)].id, SIGUSR1);
}

/* ---- threads ---- */

static const struct {
	void (*run)(void);
	uint32_t weight;
} ops[] = {
	{ op_create_vm, 3 },  { op_region, 12 },  { op_dirty, 8 },	 { op_close_vm, 1 },
	{ op_unknown, 2 },    { op_info, 1 },	  { op_create_vcpu, 6 }, { op_map_run, 6 },
	{ op_load, 12 },      { op_scribble, 6 }, { op_run, 30 },	 { op_kick, 6 },
	{ op_close_vcpu, 1 }, { op_memory, 8 },	  { op_fork, 1 },	 { op_move, 2 },
};
const char *const op_names[] = { "create-vm",	"region",  "dirty", "close-vm", "unknown", "info",
				 "create-vcpu", "map-run", "load",  "scribble", "run",	   "kick",
				 "close-vcpu",	"memory",  "fork",  "move" };
const uint32_t op_count = ARRAY_SIZE(ops);

static void one_step(void)
{
	uint32_t sum = 0, at, i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		sum += ops[i].weight;
	at = pick(sum);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	/* One that is left out still uses up its random numbers' place: the others stay as they were. */
	if (plan->ops >> i & 1)
		ops[i].run();
}

static void *thread_main(void *arg)
{
	self = arg;
	cover_begin();
	/* A good start, so that most of what follows gets somewhere. */
	if (!self->n) {
		for (int i = 0; i < 6; i++)
			op_create_vm();
		for (int i = 0; i < 3; i++)
			op_region(), op_create_vcpu(), op_map_run();
	}
	for (self->step = 0; self->step < plan->steps; self->step++) {
		/* Each step has random numbers of its own: it is the same whatever the ones before came to. */
		self->random = (plan->seed + 1) * 0x9e3779b97f4a7c15 ^
			       ((uint64_t)self->n << 56 | (self->step + 1)) * 0xbf58476d1ce4e5b9;
		one_step();
		cover_take();
	}
	atomic_fetch_sub(&alive, 1);
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

/* Guests that spin: each thread is signalled now and then. */
static void *ticker(void *arg)
{
	(void)arg;
	while (atomic_load(&alive)) {
		usleep(3000);
		for (uint32_t i = 0; i < plan->threads; i++)
			if (atomic_load(&alive))
				pthread_kill(threads[i].id, SIGUSR1);
	}
	return NULL;
}

static void arenas_make(void)
{
	for (int i = 0; i < ARENAS; i++) {
		/* The third one at 2 MiB, so that a huge page fits. */
		arena[i] = mmap((void *)(0x100000000UL + (unsigned long)i * 0x40000000UL),
				i == 2 ? 2 * ARENA_SIZE : ARENA_SIZE, i == 3 ? PROT_READ : PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (arena[i] == MAP_FAILED)
			_exit(4);
	}
	madvise(arena[2], 2 * ARENA_SIZE, MADV_HUGEPAGE);
	arena_memfd = memfd_create("arena", MFD_CLOEXEC);
	if (arena_memfd < 0 || ftruncate(arena_memfd, (off_t)ARENA_SIZE) ||
	    mmap(arena[1], ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, arena_memfd, 0) == MAP_FAILED)
		_exit(4);
}

/* With five levels of page tables whoever asks for a high address gets one. */
static void user_end_find(void)
{
	void *high = mmap((void *)(1UL << 48), PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	user_end = (uintptr_t)high >> 47 ? (1ULL << 56) - PAGE : (1ULL << 47) - PAGE;
	if (high != MAP_FAILED)
		munmap(high, PAGE);
}

void round_run(const struct plan *of)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t tick;

	plan = of;
	alarm(60);
	sigaction(SIGUSR1, &action, NULL);
	self = &threads[0];
	dev = dev_open();
	if (dev < 0 || ioctl(dev, UMBRA_INFO, &host))
		_exit(4);
	info();
	arenas_make();
	user_end_find();
	for (int i = 0; i < VMS; i++)
		vm_fd[i] = -1;
	for (int i = 0; i < VCPUS; i++)
		cpus[i].fd = cpus[i].vm = -1;
	atomic_store(&alive, plan->threads);
	for (uint32_t i = 0; i < plan->threads; i++) {
		threads[i].n = i;
		threads[i].random = plan->seed + i + 1;
		if (pthread_create(&threads[i].id, NULL, thread_main, &threads[i]))
			_exit(4);
	}
	if (pthread_create(&tick, NULL, ticker, NULL))
		_exit(4);
	for (uint32_t i = 0; i < plan->threads; i++)
		pthread_join(threads[i].id, NULL);
	pthread_join(tick, NULL);
	_exit(0);
}
