// SPDX-License-Identifier: GPL-2.0-or-later
/* Each documented error of each call once, otherwise valid; after each the object still works. */
#include "lib.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

void negative_state(void);
void negative_state_whole(void);
void negative_state_hardware(void);
void negative_flip(void);

#define PAGE UMBRA_PAGE_SIZE
#define BAD_POINTER ((void *)0x10) /* not mapped */
#define KERNEL_POINTER ((void *)0xffff888000000000ULL)

static void still_works(struct guest *g, const char *what)
{
	vcpu_expect_io(&g->vcpu, 0x80, what);
	vcpu_skip(&g->vcpu);
}

static void expect_errno(int got, int want, const char *what)
{
	check(got == -want, "%s: want %s, got %s", what, want ? strerror(want) : "success",
	      got < 0 ? strerror(-got) : "success");
}

static int call(int fd, unsigned long nr, void *arg)
{
	int r = ioctl(fd, nr, arg);

	return r < 0 ? -errno : r;
}

/* ---- /dev/umbra ---- */

static void negative_device(void)
{
	struct umbra_create_vm arg = { 0 };
	int fd = dev_open(), vm;

	expect_errno(call(fd, UMBRA_INFO, BAD_POINTER), EFAULT, "INFO, bad pointer");
	expect_errno(call(fd, UMBRA_INFO, KERNEL_POINTER), EFAULT, "INFO, kernel pointer");
	expect_errno(call(fd, UMBRA_CREATE_VM, BAD_POINTER), EFAULT, "CREATE_VM, bad pointer");
	expect_errno(call(fd, UMBRA_CREATE_VM, NULL), EFAULT, "CREATE_VM, NULL");
	for (int bit = 0; bit < 64; bit += 7) {
		arg.flags = 1ULL << bit;
		expect_errno(call(fd, UMBRA_CREATE_VM, &arg), EINVAL, "CREATE_VM, unknown flag");
	}
	arg.flags = 0;
	for (size_t i = 0; i < ARRAY_SIZE(arg.reserved); i++) {
		arg.reserved[i] = 1ULL << (60 * i % 64);
		expect_errno(call(fd, UMBRA_CREATE_VM, &arg), EINVAL, "CREATE_VM, reserved field");
		arg.reserved[i] = 0;
	}
	check(counter_read("vms") == 0, "%ld VMs after failures", counter_read("vms"));
	vm = call(fd, UMBRA_CREATE_VM, &arg);
	check(vm >= 0, "CREATE_VM: %s", strerror(-vm));
	check(fcntl(vm, F_GETFD) == FD_CLOEXEC, "the VM's descriptor is not close-on-exec");
	close(vm);
}

/* Numbers near ours, ours with another size or direction, and those of other descriptors. */
static void negative_unknown(void)
{
	static const unsigned long dev_calls[] = { UMBRA_INFO, UMBRA_CREATE_VM };
	static const unsigned long vm_calls[] = { UMBRA_VM_SET_REGION, UMBRA_VM_GET_DIRTY, UMBRA_VM_CREATE_VCPU };
	static const unsigned long vcpu_calls[] = { UMBRA_VCPU_RUN, UMBRA_VCPU_KICK };
	unsigned char buffer[256] = { 0 };
	struct guest g;
	int fds[3];

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	fds[0] = g.vm.dev;
	fds[1] = g.vm.fd;
	fds[2] = g.vcpu.fd;
	for (int kind = 0; kind < 3; kind++) {
		for (unsigned int nr = 0; nr < 256; nr++) {
			expect_errno(call(fds[kind], _IOC(_IOC_NONE, UMBRA_IOC, nr, 8), buffer), ENOTTY, "odd size");
			if (kind != 2 || (nr != 0x20 && nr != 0x21))
				expect_errno(call(fds[kind], _IO(UMBRA_IOC, nr), buffer), ENOTTY, "no such call");
			expect_errno(call(fds[kind], _IOC(_IOC_NONE, 0xae, nr, 0), buffer), ENOTTY, "another's call");
		}
		for (size_t i = 0; i < ARRAY_SIZE(dev_calls); i++)
			if (kind != 0)
				expect_errno(call(fds[kind], dev_calls[i], buffer), ENOTTY, "the device's call");
		for (size_t i = 0; i < ARRAY_SIZE(vm_calls); i++)
			if (kind != 1)
				expect_errno(call(fds[kind], vm_calls[i], buffer), ENOTTY, "a VM's call");
		for (size_t i = 0; i < ARRAY_SIZE(vcpu_calls); i++)
			if (kind != 2)
				expect_errno(call(fds[kind], vcpu_calls[i], buffer), ENOTTY, "a vCPU's call");
	}
	still_works(&g, "after unknown calls");
}

/* ---- SET_REGION ---- */

#define GOOD_SLOT 7
#define GOOD_GPA 0x10000000ULL
#define GOOD_SIZE (4 * PAGE)

static unsigned char *region_memory;

struct region_case {
	const char *name;
	int want;
	struct umbra_region change; /* each nonzero field replaces the valid one; ~0 stands for 0 */
};

#define USER_END 0x7ffffffff000ULL
#define USER_END_57 0xfffffffffff000ULL

/* Kernels with five-level paging give the upper part to who asks for it. */
static int user_57(void)
{
	void *want = (void *)(1ULL << 50), *got = mmap(want, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (got != MAP_FAILED)
		munmap(got, PAGE);
	return got == want;
}

static const struct region_case region_cases[] = {
	{ "slot 512", EINVAL, { .slot = UMBRA_MAX_REGIONS } },
	{ "slot 2^31", EINVAL, { .slot = 1u << 31 } },
	{ "slot 511", 0, { .slot = UMBRA_MAX_REGIONS - 1 } },
	{ "reserved", EINVAL, { .reserved = 1 } },
	{ "reserved, high", EINVAL, { .reserved = 1u << 31 } },
	{ "flag 3", EINVAL, { .flags = 1 << 3 } },
	{ "flag 31", EINVAL, { .flags = 1u << 31 } },
	{ "flag 63", EINVAL, { .flags = 1ULL << 63 } },
	{ "gpa misaligned by 1", EINVAL, { .gpa = GOOD_GPA + 1 } },
	{ "gpa misaligned by 2048", EINVAL, { .gpa = GOOD_GPA + 2048 } },
	{ "size misaligned", EINVAL, { .size = GOOD_SIZE + 1 } },
	{ "size 1", EINVAL, { .size = 1 } },
	{ "size past the limit", EINVAL, { .addr = PAGE, .size = UMBRA_MAX_REGION_SIZE + PAGE } },
	{ "size 2^63", EINVAL, { .addr = PAGE, .size = 1ULL << 63 } },
	{ "size wraps gpa", EINVAL, { .size = -(uint64_t)PAGE } },
	{ "gpa wraps", EINVAL, { .gpa = -(uint64_t)PAGE } },
	{ "gpa 2^63", EINVAL, { .gpa = 1ULL << 63 } },
	{ "addr of the kernel", EINVAL, { .addr = 0xffff888000000000ULL } },
	{ "addr not canonical", EINVAL, { .addr = 0x800000000000ULL } },
	{ "addr not canonical, high", EINVAL, { .addr = 0x8000000000000000ULL } },
	{ "addr wraps", EINVAL, { .addr = -(uint64_t)PAGE } },
	{ "addr ends one page past user space", EINVAL, { .addr = USER_END - GOOD_SIZE + PAGE } },
	{ "addr ends at user space's end", 0, { .addr = USER_END - GOOD_SIZE } },
	{ "vsyscall page", EINVAL, { .addr = 0xffffffffff600000ULL, .size = PAGE } },
	{ "same range as slot 0", EEXIST, { .gpa = ~0ULL, .size = GUEST_MEM } },
	{ "inside slot 0", EEXIST, { .gpa = GUEST_MEM / 2 } },
	{ "one page over slot 0's end", EEXIST, { .gpa = GUEST_MEM - PAGE } },
	{ "directly behind slot 0", 0, { .gpa = GUEST_MEM } },
	{ "around slot 9", EEXIST, { .gpa = GPA_HOLE - PAGE } },
	{ "one page over slot 9's start", EEXIST, { .gpa = GPA_HOLE - GOOD_SIZE + PAGE } },
	{ "directly before slot 9", 0, { .gpa = GPA_HOLE - GOOD_SIZE } },
	{ "around slot 9, large", EEXIST, { .gpa = GPA_HOLE - PAGE, .addr = PAGE, .size = 1 << 30 } },
	{ "all flags", 0, { .flags = UMBRA_REGION_READONLY | UMBRA_REGION_LOG_DIRTY | UMBRA_REGION_ANNOUNCE } },
	{ "memory that is not there", 0, { .addr = PAGE } },
	{ "remove with flags", EINVAL, { .size = ~0ULL, .gpa = ~0ULL, .addr = ~0ULL, .flags = 1 } },
	{ "remove with gpa", EINVAL, { .size = ~0ULL, .addr = ~0ULL } },
	{ "remove with addr", EINVAL, { .size = ~0ULL, .gpa = ~0ULL } },
	{ "remove with reserved", EINVAL, { .size = ~0ULL, .gpa = ~0ULL, .addr = ~0ULL, .reserved = 1 } },
	{ "remove slot 512", EINVAL, { .size = ~0ULL, .gpa = ~0ULL, .addr = ~0ULL, .slot = UMBRA_MAX_REGIONS } },
	{ "remove an empty slot", ENOENT, { .size = ~0ULL, .gpa = ~0ULL, .addr = ~0ULL } },
};

static uint64_t changed(uint64_t good, uint64_t change)
{
	return !change ? good : change == ~0ULL ? 0 : change;
}

/* Values about the end of user space, where that is further up. */
static uint64_t addr_57(uint64_t addr)
{
	if (addr == USER_END + PAGE)
		return USER_END_57 + PAGE;
	return addr >= USER_END - GOOD_SIZE && addr < USER_END + PAGE ? addr - USER_END + USER_END_57 : addr;
}

static void region_case_run(struct guest *g, const struct region_case *c)
{
	uint64_t addr = c->change.addr;
	struct umbra_region r = {
		.slot = c->change.slot ? c->change.slot : GOOD_SLOT,
		.reserved = c->change.reserved,
		.flags = c->change.flags,
		.gpa = changed(GOOD_GPA, c->change.gpa),
		.addr = changed((uintptr_t)region_memory, user_57() ? addr_57(addr) : addr),
		.size = changed(GOOD_SIZE, c->change.size),
	};

	expect_errno(call(g->vm.fd, UMBRA_VM_SET_REGION, &r), c->want, c->name);
	still_works(g, c->name);
	if (!c->want) /* it is there, and goes once */
		expect_errno(vm_region(&g->vm, r.slot, 0, 0, NULL, 0), 0, "remove");
	expect_errno(vm_region(&g->vm, GOOD_SLOT, 0, 0, NULL, 0), ENOENT, "nothing may be left");
}

static void negative_region(void)
{
	uint64_t top = 1ULL << info()->gpa_bits;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	region_memory = memory_new(1 << 20, PAGE);
	need(!vm_region(&g.vm, 9, 0, GPA_HOLE, region_memory, PAGE), "slot 9");
	expect_errno(call(g.vm.fd, UMBRA_VM_SET_REGION, BAD_POINTER), EFAULT, "SET_REGION, bad pointer");
	for (size_t i = 0; i < ARRAY_SIZE(region_cases); i++)
		region_case_run(&g, &region_cases[i]);
	expect_errno(vm_region(&g.vm, GOOD_SLOT, 0, top - PAGE, region_memory, 2 * PAGE), EINVAL, "past gpa_bits");
	expect_errno(vm_region(&g.vm, GOOD_SLOT, 0, top, region_memory, PAGE), EINVAL, "at gpa_bits");
	expect_errno(vm_region(&g.vm, GOOD_SLOT, 0, top - PAGE, region_memory, PAGE), 0, "the last page");
	expect_errno(vm_region(&g.vm, GOOD_SLOT, 0, 0, NULL, 0), 0, "remove the last page");
	if (top > UMBRA_MAX_REGION_SIZE) {
		expect_errno(vm_region(&g.vm, GOOD_SLOT, 0, GOOD_GPA, (void *)PAGE, UMBRA_MAX_REGION_SIZE),
			     top - GOOD_GPA >= UMBRA_MAX_REGION_SIZE ? 0 : EINVAL, "the largest size");
		vm_region(&g.vm, GOOD_SLOT, 0, 0, NULL, 0);
	}
	/* A change that fails leaves the slot as it was. */
	expect_errno(vm_region(&g.vm, 9, 0, GUEST_MEM - PAGE, region_memory, PAGE), EEXIST, "change onto slot 0");
	expect_errno(vm_region(&g.vm, GOOD_SLOT, 0, GPA_HOLE, region_memory, PAGE), EEXIST, "slot 9 is still there");
	/* A slot may move onto its own old range. */
	expect_errno(vm_region(&g.vm, 9, 0, GPA_HOLE + PAGE, region_memory, 2 * PAGE), 0, "move");
	expect_errno(vm_region(&g.vm, 9, 0, GPA_HOLE, region_memory, 2 * PAGE), 0, "move over itself");
	still_works(&g, "after regions");
}

static void negative_many_regions(void)
{
	struct guest g;
	uint32_t slot;
	uint64_t seed = 7;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	region_memory = memory_new(1 << 20, PAGE);
	for (slot = 1; slot < UMBRA_MAX_REGIONS; slot++)
		expect_errno(vm_region(&g.vm, slot, 0, GOOD_GPA + (uint64_t)(slot * 37 % 512) * PAGE, region_memory,
				       PAGE),
			     0, "all slots");
	still_works(&g, "with all slots");
	for (int i = 0; i < 2000; i++) {
		slot = 1 + (uint32_t)(random_next(&seed) % (UMBRA_MAX_REGIONS - 1));
		expect_errno(vm_region(&g.vm, slot, 0, 0, NULL, 0), 0, "remove one of many");
		expect_errno(vm_region(&g.vm, slot, 0, GOOD_GPA + (uint64_t)(slot * 37 % 512) * PAGE, region_memory,
				       PAGE),
			     0, "put it back");
	}
	still_works(&g, "after all slots");
}

/* ---- GET_DIRTY ---- */

static void negative_dirty(void)
{
	uint64_t bitmap[64] = { 0 };
	struct umbra_dirty arg;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	region_memory = memory_new(1 << 20, PAGE);
	need(!vm_region(&g.vm, 1, UMBRA_REGION_LOG_DIRTY, GPA_HOLE, region_memory, 200 * PAGE), "region");
	expect_errno(call(g.vm.fd, UMBRA_VM_GET_DIRTY, BAD_POINTER), EFAULT, "bad pointer");
	expect_errno(vm_dirty(&g.vm, 2, 0, 64, bitmap), ENOENT, "empty slot");
	expect_errno(vm_dirty(&g.vm, 0, 0, 64, bitmap), ENOENT, "slot without log");
	expect_errno(vm_dirty(&g.vm, UMBRA_MAX_REGIONS, 0, 64, bitmap), EINVAL, "slot 512");
	expect_errno(vm_dirty(&g.vm, 1, 1, 64, bitmap), EINVAL, "first_page 1");
	expect_errno(vm_dirty(&g.vm, 1, 0, 63, bitmap), EINVAL, "63 pages");
	expect_errno(vm_dirty(&g.vm, 1, 0, 65, bitmap), EINVAL, "65 pages");
	expect_errno(vm_dirty(&g.vm, 1, 128, 128, bitmap), EINVAL, "last part too long");
	expect_errno(vm_dirty(&g.vm, 1, 192, 64, bitmap), EINVAL, "past the end");
	expect_errno(vm_dirty(&g.vm, 1, 256, 64, bitmap), EINVAL, "behind the end");
	expect_errno(vm_dirty(&g.vm, 1, -64ULL, 64, bitmap), EINVAL, "first_page wraps");
	expect_errno(vm_dirty(&g.vm, 1, -64ULL, 128, bitmap), EINVAL, "sum wraps");
	expect_errno(vm_dirty(&g.vm, 1, 0, -64ULL, bitmap), EINVAL, "pages wraps");
	expect_errno(vm_dirty(&g.vm, 1, 0, (1 << 20) + 64, bitmap), EINVAL, "too many pages");
	expect_errno(vm_dirty(&g.vm, 1, 0, 64, (char *)bitmap + 1), EINVAL, "bitmap misaligned");
	expect_errno(vm_dirty(&g.vm, 1, 0, 64, (char *)bitmap + 4), EINVAL, "bitmap misaligned by 4");
	arg = (struct umbra_dirty) { .slot = 1, .reserved = 1, .pages = 64, .bitmap = (uintptr_t)bitmap };
	expect_errno(call(g.vm.fd, UMBRA_VM_GET_DIRTY, &arg), EINVAL, "reserved");

	g.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE + 5 * PAGE;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "store");
	expect_errno(vm_dirty(&g.vm, 1, 0, 64, (void *)PAGE), EFAULT, "bitmap not mapped");
	expect_errno(vm_dirty(&g.vm, 1, 0, 64, KERNEL_POINTER), EFAULT, "bitmap of the kernel");
	expect_errno(vm_dirty(&g.vm, 1, 0, 200, bitmap), 0, "all");
	check(bitmap[0] == 1 << 5 && !bitmap[1] && !bitmap[2] && !bitmap[3],
	      "a call that failed changed something: %llx", (unsigned long long)bitmap[0]);
	expect_errno(vm_dirty(&g.vm, 1, 192, 8, bitmap), 0, "the end");
	expect_errno(vm_dirty(&g.vm, 1, 128, 64, bitmap), 0, "before the end");
}

/* ---- vCPU ---- */

static void negative_vcpu(void)
{
	struct umbra_create_vcpu arg = { 0 };
	int fd, fds[UMBRA_MAX_VCPUS];
	struct rlimit limit = { 4096, 4096 };
	struct guest g;

	setrlimit(RLIMIT_NOFILE, &limit);
	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	expect_errno(call(g.vm.fd, UMBRA_VM_CREATE_VCPU, BAD_POINTER), EFAULT, "bad pointer");
	for (int bit = 0; bit < 64; bit += 9) {
		arg.flags = 1ULL << bit;
		expect_errno(call(g.vm.fd, UMBRA_VM_CREATE_VCPU, &arg), EINVAL, "unknown flag");
	}
	arg.flags = 0;
	for (size_t i = 0; i < ARRAY_SIZE(arg.reserved); i++) {
		arg.reserved[i] = 1;
		expect_errno(call(g.vm.fd, UMBRA_VM_CREATE_VCPU, &arg), EINVAL, "reserved");
		arg.reserved[i] = 0;
	}
	check(counter_read("vcpus") == 1, "%ld vCPUs after failures", counter_read("vcpus"));
	for (int i = 1; i < UMBRA_MAX_VCPUS; i++) {
		fds[i] = vcpu_create_fd(&g.vm);
		need(fds[i] >= 0, "vCPU %d: %s", i, strerror(-fds[i]));
	}
	check(fcntl(fds[1], F_GETFD) == FD_CLOEXEC, "a vCPU's descriptor is not close-on-exec");
	expect_errno(vcpu_create_fd(&g.vm), ENOSPC, "one vCPU too many");
	still_works(&g, "with all vCPUs");
	close(fds[9]);
	fd = vcpu_create_fd(&g.vm);
	check(fd >= 0, "a place that became free: %s", strerror(-fd));
	expect_errno(vcpu_create_fd(&g.vm), ENOSPC, "full again");

	limit.rlim_cur = (rlim_t)fd + 1; /* no descriptor left */
	close(fds[10]);
	while (dup(0) >= 0)
		if (fcntl(fd, F_GETFD) < 0)
			break;
	setrlimit(RLIMIT_NOFILE, &limit);
	expect_errno(vcpu_create_fd(&g.vm), EMFILE, "no descriptor left");
	still_works(&g, "after EMFILE");
}

static void map_case(struct guest *g, size_t size, int prot, int flags, off_t offset, const char *what)
{
	void *at = mmap(NULL, size, prot, flags, g->vcpu.fd, offset);

	check(at == MAP_FAILED, "mmap succeeds: %s", what);
	if (at != MAP_FAILED)
		munmap(at, size);
}

static void negative_mmap(void)
{
	size_t size = info()->run_size;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	map_case(&g, size, PROT_READ | PROT_WRITE, MAP_SHARED, PAGE, "offset 4096");
	map_case(&g, size, PROT_READ | PROT_WRITE, MAP_SHARED, (off_t)size, "offset past the end");
	map_case(&g, size + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, "too large");
	map_case(&g, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, "too small");
	map_case(&g, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, 0, "executable");
	map_case(&g, size, PROT_READ | PROT_EXEC, MAP_SHARED, 0, "executable, read-only");
	map_case(&g, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, "private");
	check(mprotect(g.vcpu.run, size, PROT_READ | PROT_EXEC), "mprotect makes it executable");
	check(mremap(g.vcpu.run, size, 2 * size, MREMAP_MAYMOVE) == MAP_FAILED, "mremap lets it grow");
	check(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, g.vm.fd, 0) == MAP_FAILED, "mmap of a VM");
	check(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, g.vm.dev, 0) == MAP_FAILED, "mmap of the device");
	still_works(&g, "after mmap");
	/* A second mapping is the same area. */
	{
		struct umbra_run *second = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, g.vcpu.fd, 0);

		need(second != MAP_FAILED, "second mapping: %s", strerror(errno));
		vcpu_expect_io(&g.vcpu, 0x80, "run");
		check(!memcmp(&second->exit, &g.vcpu.run->exit, sizeof(second->exit)) &&
			      second->exit.reason == UMBRA_EXIT_HARDWARE,
		      "the second mapping shows something else");
		munmap(second, size);
	}
	expect_errno(lseek(g.vcpu.fd, 1, SEEK_SET) < 0 ? -errno : 0, EINVAL, "lseek to 1");
	expect_errno(lseek(g.vcpu.fd, 0, SEEK_CUR) < 0 ? -errno : 0, EINVAL, "lseek from here");
	expect_errno(lseek(g.vcpu.fd, 0, SEEK_END) < 0 ? -errno : 0, EINVAL, "lseek from the end");
}

/* ---- another address space ---- */

static void child_calls(struct guest *g, const int *pipes)
{
	struct umbra_region region = { .slot = 3, .gpa = GOOD_GPA, .addr = (uintptr_t)g->vm.mem, .size = PAGE };
	uint64_t bitmap = 0;
	char ready;

	expect_errno(call(g->vm.fd, UMBRA_VM_SET_REGION, &region), EPERM, "child: SET_REGION");
	expect_errno(vm_dirty(&g->vm, 1, 0, 64, &bitmap), EPERM, "child: GET_DIRTY");
	expect_errno(vcpu_create_fd(&g->vm), EPERM, "child: CREATE_VCPU");
	expect_errno(vcpu_run(&g->vcpu), EPERM, "child: RUN");
	expect_errno(call(g->vcpu.fd, UMBRA_VCPU_RUN, NULL), EPERM, "child: RUN by ioctl");
	expect_errno(vcpu_kick(&g->vcpu), EPERM, "child: KICK");
	check(mmap(NULL, info()->run_size, PROT_READ, MAP_SHARED, g->vcpu.fd, 0) == MAP_FAILED, "child: mmap");
	if (!fork()) { /* the run area is not inherited: a third process dies of looking */
		volatile uint64_t *look = (uint64_t *)g->vcpu.run;

		_exit(*look ? 3 : 4);
	}
	{
		int status;

		wait(&status);
		check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "the run area is there after fork: %x",
		      status);
	}
	/* The parent closes everything; what the child holds is harmless. */
	if (write(pipes[1], "x", 1) != 1 || read(pipes[2], &ready, 1) != 1)
		fail("child: no word from the parent");
	expect_errno(vcpu_run(&g->vcpu), EPERM, "child, parent gone: RUN");
	expect_errno(call(g->vm.fd, UMBRA_VM_SET_REGION, &region), EPERM, "child, parent gone: SET_REGION");
	_exit(0);
}

static void negative_fork(void)
{
	int up[2], down[2], status;
	struct guest g;
	char ready;
	pid_t pid;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	need(!vm_region(&g.vm, 1, UMBRA_REGION_LOG_DIRTY, GPA_HOLE, g.vm.mem, 64 * PAGE), "region");
	still_works(&g, "before fork");
	need(!pipe(up) && !pipe(down), "pipe");
	pid = fork();
	need(pid >= 0, "fork");
	if (!pid)
		child_calls(&g, (int[]) { up[0], up[1], down[0], down[1] });
	need(read(up[0], &ready, 1) == 1, "no word from the child");
	still_works(&g, "after the child's calls");
	vcpu_destroy(&g.vcpu);
	vm_destroy(&g.vm);
	check(counter_read("vms") == 1 && counter_read("vcpus") == 1, "the child's descriptors hold %ld VMs, %ld vCPUs",
	      counter_read("vms"), counter_read("vcpus"));
	need(write(down[1], "x", 1) == 1, "pipe");
	waitpid(pid, &status, 0);
	check(!status, "child: %x", status);
}

/* ---- RUN while RUN ---- */

static volatile int stop;

static void *spinner(void *arg)
{
	struct vcpu *vcpu = arg;

	while (!stop) {
		int error = vcpu_run(vcpu);

		need(!error || error == -EBUSY, "RUN in the thread: %s", strerror(-error));
	}
	return NULL;
}

static void negative_busy(void)
{
	pthread_t thread;
	struct guest g;
	int error = 0;

	guest_new(&g, MODE_LONG64, SNIPPET(spin));
	expect_errno(call(g.vcpu.fd, UMBRA_VCPU_RUN, BAD_POINTER), EINVAL, "RUN with an argument");
	expect_errno(call(g.vcpu.fd, UMBRA_VCPU_KICK, BAD_POINTER), EINVAL, "KICK with an argument");
	need(!pthread_create(&thread, NULL, spinner, &g.vcpu), "thread");
	/* When we come first the deadline ends it. */
	for (int i = 0; i < 1000 && error != -EBUSY; i++) {
		g.vcpu.run->deadline_tsc = tsc_read() + info()->tsc_khz * 5ULL;
		usleep(200); /* its turn: the last deadline let it in for no time at all */
		error = vcpu_run(&g.vcpu);
	}
	expect_errno(error, EBUSY, "RUN while RUN");
	error = 0;
	for (int i = 0; i < 1000 && error != -EBUSY; i++) {
		g.vcpu.run->deadline_tsc = tsc_read() + info()->tsc_khz * 5ULL;
		error = call(g.vcpu.fd, UMBRA_VCPU_RUN, NULL);
	}
	expect_errno(error, EBUSY, "RUN by ioctl while RUN");
	stop = 1;
	for (int i = 0; i < 1000; i++) {
		vcpu_kick(&g.vcpu);
		usleep(1000);
		if (!pthread_tryjoin_np(thread, NULL))
			return;
	}
	fail("the running thread does not end");
}

int negative_main(void)
{
	static const struct test tests[] = {
		{ "device", negative_device, 20 },
		{ "unknown", negative_unknown, 20 },
		{ "region", negative_region, 30 },
		{ "many_regions", negative_many_regions, 60 },
		{ "dirty", negative_dirty, 20 },
		{ "vcpu", negative_vcpu, 30 },
		{ "mmap", negative_mmap, 20 },
		{ "fork", negative_fork, 20 },
		{ "busy", negative_busy, 20 },
		{ "state", negative_state, 60 },
		{ "state_whole", negative_state_whole, 60 },
		{ "state_hardware", negative_state_hardware, 30 },
		{ "flip", negative_flip, 60 },
	};

	return run_tests("negative", tests, ARRAY_SIZE(tests));
}
