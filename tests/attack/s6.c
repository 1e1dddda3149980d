// SPDX-License-Identifier: GPL-2.0-or-later
/* S6: the guest reaches only pages that the VM's owner could touch itself, and only as long as it could. */
#include "attack.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOT 3
#define CAN_READ 1
#define CAN_WRITE 2
#define STORED 0x5ca1ab1e0ddba11ULL

/* What the guest can do at GPA_HOLE. */
static int can(struct guest *g, uint64_t *value)
{
	int result = 0;

	for (int store = 0; store < 2; store++) {
		if (store)
			vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(store));
		else
			vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(load));
		g->vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE;
		g->vcpu.run->gpr[UMBRA_RBX] = STORED;
		run_bounded(&g->vcpu, LONG);
		need(g->vcpu.exit.reason == VMEXIT_IO ||
			     (g->vcpu.exit.reason == VMEXIT_MEM && g->vcpu.exit.mem.gpa == GPA_HOLE &&
			      g->vcpu.exit.mem.access & UMBRA_MEM_FAULT && g->vcpu.exit.mem.error < 0),
		     "%s: %s", store ? "store" : "load", vcpu_describe(&g->vcpu));
		if (g->vcpu.exit.reason != VMEXIT_IO)
			continue;
		result |= store ? CAN_WRITE : CAN_READ;
		if (!store && value)
			*value = g->vcpu.run->gpr[UMBRA_RBX];
	}
	return result;
}

static void kind(struct guest *g, const void *at, int want, const char *name)
{
	int got, error = vm_region(&g->vm, SLOT, 0, GPA_HOLE, at, PAGE);

	need(!error, "%s: SET_REGION: %s", name, strerror(-error));
	got = can(g, NULL);
	check(got == want, "%s: the guest can%s%s", name, got & CAN_READ ? " read" : "",
	      got & CAN_WRITE ? " write" : "");
	need(!vm_region(&g->vm, SLOT, 0, 0, NULL, 0), "remove");
}

/* The start of a mapping by its name in /proc/self/maps, or NULL. */
static void *mapping(const char *name)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned long start, found = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, name) && sscanf(line, "%lx", &start) == 1 && !found)
			found = start;
	if (file)
		fclose(file);
	return (void *)found;
}

static int memfd(size_t size, unsigned int flags)
{
	int fd = (int)syscall(SYS_memfd_create, "attack", MFD_CLOEXEC | flags);

	need(fd >= 0 && !ftruncate(fd, (off_t)size), "memfd: %s", strerror(errno));
	return fd;
}

static void *map(int fd, int prot, int flags)
{
	void *at = mmap(NULL, PAGE, prot, flags, fd, 0);

	need(at != MAP_FAILED, "mmap: %s", strerror(errno));
	return at;
}

ATTACK(s6_kinds)
{
	int fd = memfd(PAGE, MFD_ALLOW_SEALING), file, mem;
	volatile uint64_t *page;
	const char *path = "/tmp/attack-file";
	uint64_t value;
	struct guest g;
	void *vdso = mapping("[vdso]"), *vvar = mapping("[vvar]");

	guest_new(&g, MODE_LONG64, SNIPPET(load));
	kind(&g, memory_new(PAGE, PAGE), CAN_READ | CAN_WRITE, "anonymous");
	kind(&g, map(-1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), CAN_READ, "anonymous, read-only");
	kind(&g, map(-1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS), 0, "PROT_NONE");
	kind(&g, (void *)PAGE, 0, "nothing mapped");
	need(vvar && vdso, "no vvar, no vdso");
	kind(&g, vvar, 0, "vvar, page frames that are mapped");
	value = *(volatile uint64_t *)vdso;
	kind(&g, vdso, CAN_READ, "vdso");
	check(*(volatile uint64_t *)vdso == value, "the vdso was written to");

	/* The zero page that all processes share: the first write gets a page of its own. */
	page = memory_new(PAGE, PAGE);
	value = page[0];
	kind(&g, (void *)page, CAN_READ | CAN_WRITE, "zero page");
	check(page[0] == STORED, "the owner does not see it: %llx", (unsigned long long)page[0]);
	check(!*(volatile uint64_t *)memory_new(PAGE, PAGE), "the zero page was written to");

	/* A file: read-only, private, and sealed. */
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	need(file >= 0 && !ftruncate(file, PAGE) && pwrite(file, "original", 8, 0) == 8, "file");
	kind(&g, map(file, PROT_READ, MAP_SHARED), CAN_READ, "shared file, read-only mapping");
	kind(&g, map(file, PROT_READ | PROT_WRITE, MAP_PRIVATE), CAN_READ | CAN_WRITE, "private file");
	mem = open(path, O_RDONLY | O_CLOEXEC);
	kind(&g, map(mem, PROT_READ, MAP_SHARED), CAN_READ, "shared file, opened read-only");
	kind(&g, map(mem, PROT_READ | PROT_WRITE, MAP_PRIVATE), CAN_READ | CAN_WRITE, "private file, opened read-only");
	need(pread(file, &value, 8, 0) == 8, "pread");
	check(!memcmp(&value, "original", 8), "the file was written to: %.8s", (char *)&value);
	kind(&g, mapping("attack-tests"), CAN_READ, "program text");
	need(!fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), "seal: %s", strerror(errno));
	kind(&g, map(fd, PROT_READ, MAP_SHARED), CAN_READ, "sealed memfd");
	need(pread(fd, &value, 8, 0) == 8 && !value, "the sealed memfd was written to");
	unlink(path);

	/* Physical memory, where the kernel lets it be mapped at all. */
	mem = open("/dev/mem", O_RDWR | O_CLOEXEC);
	page = mem < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0xf0000);
	if (page == MAP_FAILED)
		note("no /dev/mem to map");
	else
		kind(&g, (void *)page, 0, "/dev/mem");
	page = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (page == MAP_FAILED && !file_write("/proc/sys/vm/nr_hugepages", "1"))
		page = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (page == MAP_FAILED)
		note("no hugetlb page");
	else
		kind(&g, (void *)page, CAN_READ | CAN_WRITE, "hugetlb");
	file_write("/proc/sys/vm/nr_hugepages", "0");
}

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

/* Memory that its owner hid even from the kernel. */
ATTACK(s6_secret)
{
	int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	volatile uint64_t *page;
	struct guest g;

	if (fd < 0)
		skip_test("no memfd_secret: %s", strerror(errno));
	need(!ftruncate(fd, PAGE), "ftruncate");
	page = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	page[0] = 0x5ec4e7;
	guest_new(&g, MODE_LONG64, SNIPPET(load));
	kind(&g, (void *)page, 0, "secret memory");
	check(page[0] == 0x5ec4e7, "secret memory was written to");
}

/* ---- the owner takes its memory away ---- */

struct writer {
	pthread_t thread;
	struct guest *guest;
	volatile int stop;
	volatile uint64_t faults;
};

static void *writer_thread(void *arg)
{
	struct writer *w = arg;

	while (!w->stop) {
		need(!vcpu_run(&w->guest->vcpu), "RUN");
		if (w->guest->vcpu.exit.reason == VMEXIT_MEM)
			w->faults++;
		else
			need(w->guest->vcpu.exit.reason == VMEXIT_INTERRUPTED, "%s", vcpu_describe(&w->guest->vcpu));
	}
	return NULL;
}

static void writer_start(struct writer *w, struct guest *g)
{
	memset(w, 0, sizeof(*w));
	w->guest = g;
	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(spin_stamp));
	g->vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE;
	need(!pthread_create(&w->thread, NULL, writer_thread, w), "thread");
}

static void writer_end(struct writer *w)
{
	w->stop = 1;
	for (int i = 0; i < 5000; i++) {
		vcpu_kick(&w->guest->vcpu);
		if (!pthread_tryjoin_np(w->thread, NULL))
			return;
		usleep(1000);
	}
	fail("the vCPU does not end");
}

/* What the kernel gives out anew right after the guest lost a page: the guest does not write to it. */
static void reuse_check(const char *what)
{
	volatile uint64_t *fresh = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(fresh != MAP_FAILED, "mmap");
	for (size_t i = 0; i < 16; i++)
		fresh[i * PAGE / 8] = 0xf4e5;
	for (int spin = 0; spin < 300; spin++)
		__builtin_ia32_pause();
	sched_yield();
	for (size_t i = 0; i < 16; i++)
		check(fresh[i * PAGE / 8] == 0xf4e5, "%s: the guest wrote %llx to another page", what,
		      (unsigned long long)fresh[i * PAGE / 8]);
	munmap((void *)fresh, 16 * PAGE);
}

ATTACK(s6_truncate)
{
	int fd = memfd(PAGE, 0);
	uint64_t value;
	struct writer w;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(load));
	need(!vm_region(&g.vm, SLOT, 0, GPA_HOLE, map(fd, PROT_READ | PROT_WRITE, MAP_SHARED), PAGE), "region");
	writer_start(&w, &g);
	for (uint64_t i = 0; i < scaled(150); i++) {
		uint64_t faults = w.faults, end = time_ms() + 20000;

		need(!ftruncate(fd, 0), "ftruncate");
		reuse_check("truncation");
		while (w.faults == faults && time_ms() < end)
			usleep(100);
		need(w.faults != faults, "truncated, and the guest writes on");
		need(!ftruncate(fd, PAGE), "ftruncate");
		end = time_ms() + 20000;
		do
			need(pread(fd, &value, 8, 0) == 8, "pread");
		while (!value && time_ms() < end);
		check(value, "the guest does not come back");
	}
	writer_end(&w);
	note("%llu faults", (unsigned long long)w.faults);
}

/* Addresses in no region, by a page table of the guest's own: an exit that names them, or the guest's own #PF. */
ATTACK(s6_holes)
{
	struct snippet codes[] = { SNIPPET(load), SNIPPET(store), SNIPPET(jump) };
	uint64_t seed = 9, mem = 0, vectored = 0;
	struct umbra_run *run;
	struct guest g;

	guest_new(&g, MODE_LONG64, codes[0]);
	run = g.vcpu.run;
	for (uint64_t i = 0; i < scaled(600) + 3 * 31; i++) {
		uint64_t entry, gpa = i < 3 * 31 ? 1ULL << (21 + i / 3) : random_next(&seed) & 0xfffffffe00000ULL;
		uint32_t reason;

		if (gpa < GUEST_MEM)
			continue;
		vcpu_load(&g.vcpu, MODE_LONG64, codes[i % 3]);
		entry = gpa | 0x87;
		memcpy(g.vm.mem + GPA_PD + 100 * 8, &entry, 8);
		run->gpr[UMBRA_RDI] = (100ULL << 21) + 0x1238;
		run->flags = UMBRA_RUN_FLUSH_TLB;
		reason = run_bounded(&g.vcpu, LONG);
		if (reason == VMEXIT_MEM) {
			mem++;
			check(g.vcpu.exit.mem.gpa == gpa + 0x1238 && !(g.vcpu.exit.mem.access & UMBRA_MEM_FAULT),
			      "%llx: %s", (unsigned long long)gpa, vcpu_describe(&g.vcpu));
		} else {
			vectored++;
			check(reason == VMEXIT_IO && g.vcpu.exit.io.port == PORT_VECTORED && gpa >> info()->gpa_bits,
			      "%llx: %s", (unsigned long long)gpa, vcpu_describe(&g.vcpu));
		}
	}
	note("%llu exits, %llu page faults of the guest's own", (unsigned long long)mem, (unsigned long long)vectored);
	check(mem > 50, "only %llu exits", (unsigned long long)mem);
}

/* Guest memory between two pieces of the owner's that are in no region: nothing of them changes. */
#define GUARD 0x9a2d9a2d9a2d9a2dULL

static unsigned char *guarded_new(size_t size)
{
	unsigned char *mem = memory_new(size + 32 * PAGE, PAGE);

	for (size_t i = 0; i < 16 * PAGE; i += 8) {
		memcpy(mem + i, &(uint64_t) { GUARD }, 8);
		memcpy(mem + 16 * PAGE + size + i, &(uint64_t) { GUARD }, 8);
	}
	return mem + 16 * PAGE;
}

static void guarded_check(const unsigned char *mem, size_t size, const char *what)
{
	for (size_t i = 0; i < 16 * PAGE; i += 8)
		need(*(const uint64_t *)(mem - 16 * PAGE + i) == GUARD && *(const uint64_t *)(mem + size + i) == GUARD,
		     "%s: memory beside the region changed", what);
}

static void *remap_thread(void *arg)
{
	struct writer *w = arg;

	while (!w->stop)
		need(!vcpu_run(&w->guest->vcpu), "RUN");
	return NULL;
}

/* One vCPU rewrites the page tables under the other. */
ATTACK(s6_own_tables)
{
	unsigned int seen[VMEXIT_REASONS + 1] = { 0 };
	uint64_t seed = 41, values[64], end = time_ms() + scaled(2500);
	unsigned char *mem = guarded_new(8 * PAGE);
	struct guest g, second;
	struct writer w = { .guest = &second };
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(touch));
	need(!vm_region(&g.vm, SLOT, 0, GPA_HOLE, mem, 8 * PAGE), "region");
	second.vm = g.vm;
	vcpu_create(&second.vcpu, &second.vm);
	for (size_t i = 0; i < 64; i++)
		values[i] = i & 3 ? (GPA_HOLE + (random_next(&seed) % 12 - 2) * PAGE) | 7 : random_next(&seed);
	run = g.vcpu.run;
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(touch));
	memcpy(g.vm.mem + GPA_DATA, values, sizeof(values));
	for (size_t i = 0; i < 512; i++)
		memcpy(g.vm.mem + GPA_PT + 8 * i, &values[i % 64], 8);
	memcpy(g.vm.mem + GPA_PD + 100 * 8, &(uint64_t) { GPA_PT | 7 }, 8);
	guest_code(&g.vm, GPA_CODE + 0x1000, SNIPPET(remap_loop));
	vcpu_state(second.vcpu.run, MODE_LONG64, GPA_CODE + 0x1000);
	second.vcpu.run->gpr[UMBRA_RDI] = GPA_PT;
	second.vcpu.run->gpr[UMBRA_RSI] = GPA_DATA;
	need(!pthread_create(&w.thread, NULL, remap_thread, &w), "thread");
	for (uint64_t round = 0; time_ms() < end; round++) {
		vcpu_state(run, MODE_LONG64, GPA_CODE);
		run->gpr[UMBRA_RDI] = 100ULL << 21;
		run->gpr[UMBRA_RCX] = 511;
		run->gpr[UMBRA_RBX] = random_next(&seed);
		run->flags = round & 1 ? UMBRA_RUN_FLUSH_TLB : 0;
		run_bounded(&g.vcpu, 2);
		seen[g.vcpu.exit.reason < VMEXIT_REASONS ? g.vcpu.exit.reason : VMEXIT_REASONS]++;
		need(g.vcpu.exit.reason == VMEXIT_IO || g.vcpu.exit.reason == VMEXIT_MEM ||
			     g.vcpu.exit.reason == VMEXIT_DEADLINE,
		     "%s", vcpu_describe(&g.vcpu));
		if (!(round & 63))
			guarded_check(mem, 8 * PAGE, "page tables that change");
	}
	writer_end(&w);
	guarded_check(mem, 8 * PAGE, "page tables that change");
	note("%u IO, %u MEM, %u DEADLINE", seen[VMEXIT_IO], seen[VMEXIT_MEM], seen[VMEXIT_DEADLINE]);
	check(seen[VMEXIT_MEM] && seen[VMEXIT_IO], "not both kinds of exit");
}

/* ---- everything at once ---- */

#define CHAOS_PAGES 64

static void chaos_step(struct guest *g, unsigned char *mem, int fd, uint64_t r)
{
	unsigned char *at = mem + (r >> 8) % CHAOS_PAGES * PAGE;
	size_t pages = (r >> 16) % 8 + 1, size = pages * PAGE;
	uint64_t bitmap[2];
	pid_t pid;

	if (at + size > mem + CHAOS_PAGES * PAGE)
		size = PAGE;
	switch (r % 14) {
	case 0:
		madvise(at, size, MADV_DONTNEED);
		break;
	case 1:
		mprotect(at, size, PROT_READ);
		break;
	case 2:
		mprotect(at, size, PROT_NONE);
		break;
	case 3:
	case 4:
		mprotect(mem, CHAOS_PAGES * PAGE, PROT_READ | PROT_WRITE);
		break;
	case 5:
		munmap(at, size);
		break;
	case 6:
		mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 7:
		mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
		break;
	case 8:
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)((r >> 24) % 8 * PAGE), (off_t)size);
		break;
	case 9:
		if (ftruncate(fd, (off_t)((r >> 24) % 9 * PAGE)))
			fail("ftruncate: %s", strerror(errno));
		break;
	case 10:
		vm_region(&g->vm, SLOT + (r >> 24) % 2, (r >> 28) & 7, GPA_HOLE + (r >> 32) % 4 * PAGE, mem,
			  ((r >> 40) % CHAOS_PAGES + 1) * PAGE);
		break;
	case 11:
		vm_region(&g->vm, SLOT + (r >> 24) % 2, 0, 0, NULL, 0);
		break;
	case 12:
		vm_dirty(&g->vm, SLOT, 0, 64, bitmap);
		break;
	case 13:
		if (r >> 24 & 7)
			break;
		pid = fork();
		if (!pid)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
		break;
	}
}

static void *chaos_thread(void *arg)
{
	struct writer *w = arg;
	uint64_t seed = (uintptr_t)w | 1;

	while (!w->stop) {
		struct umbra_run *run = w->guest->vcpu.run;

		need(!vcpu_run(&w->guest->vcpu), "RUN");
		if (w->guest->vcpu.exit.reason == VMEXIT_MEM) {
			w->faults++;
			need(w->guest->vcpu.exit.mem.gpa >= GPA_HOLE, "%s", vcpu_describe(&w->guest->vcpu));
			run->rip = GPA_CODE;
			run->gpr[UMBRA_RBX] = random_next(&seed);
			run->dirty |= UMBRA_STATE_RIP;
		} else if (w->guest->vcpu.exit.reason == VMEXIT_IO) {
			vcpu_skip(&w->guest->vcpu);
		} else {
			need(w->guest->vcpu.exit.reason == VMEXIT_INTERRUPTED, "%s", vcpu_describe(&w->guest->vcpu));
		}
	}
	return NULL;
}

ATTACK(s6_chaos)
{
	uint64_t seed = 71, end = time_ms() + scaled(4000), steps = 0;
	unsigned char *mem = guarded_new(CHAOS_PAGES * PAGE);
	int fd = memfd(8 * PAGE, 0);
	struct guest guest[2];
	struct writer w[2] = { 0 };

	guest_new(&guest[0], MODE_LONG64, SNIPPET(touch));
	guest[1].vm = guest[0].vm;
	vcpu_create(&guest[1].vcpu, &guest[1].vm);
	for (int i = 0; i < 2; i++) {
		vcpu_state(guest[i].vcpu.run, MODE_LONG64, GPA_CODE);
		guest[i].vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE;
		guest[i].vcpu.run->gpr[UMBRA_RCX] = CHAOS_PAGES - 1;
		guest[i].vcpu.run->gpr[UMBRA_RBX] = (uint64_t)i + 1;
		w[i].guest = &guest[i];
		need(!pthread_create(&w[i].thread, NULL, chaos_thread, &w[i]), "thread");
	}
	while (time_ms() < end) {
		chaos_step(&guest[0], mem, fd, random_next(&seed));
		if (!(++steps & 127)) {
			guarded_check(mem, CHAOS_PAGES * PAGE, "chaos");
			reuse_check("chaos");
		}
	}
	for (int i = 0; i < 2; i++)
		writer_end(&w[i]);
	guarded_check(mem, CHAOS_PAGES * PAGE, "chaos");
	note("%llu steps, %llu memory exits", (unsigned long long)steps,
	     (unsigned long long)(w[0].faults + w[1].faults));
	check(steps > 100, "only %llu steps", (unsigned long long)steps);
}

/* A guest that only reads: once the owner has a new page there, it sees that one. */
ATTACK(s6_gone)
{
	struct guest g;
	unsigned char *others = memory_new((scaled(200) + 2) * PAGE, PAGE);
	uint64_t stamp = 1;

	guest_new(&g, MODE_LONG64, SNIPPET(load_out));
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
	for (; stamp < scaled(200) + 2; stamp++) {
		need(!madvise(g.vm.mem + GPA_DATA, PAGE, MADV_DONTNEED), "madvise");
		others[stamp * PAGE] = 1; /* takes the page, so that the next one is another */
		memcpy(g.vm.mem + GPA_DATA, &stamp, 8);
		run_bounded(&g.vcpu, LONG);
		need(g.vcpu.exit.reason == VMEXIT_IO, "%s", vcpu_describe(&g.vcpu));
		need(g.vcpu.run->gpr[UMBRA_RBX] == stamp, "the guest reads %llx, want %llx",
		     (unsigned long long)g.vcpu.run->gpr[UMBRA_RBX], (unsigned long long)stamp);
		vcpu_skip(&g.vcpu);
	}
}

/* Addresses of the kernel, of nobody, that wrap, that are not aligned: no region is made of them. */
ATTACK(s6_addresses)
{
	static const uint64_t addresses[] = {
		0xffffffff81000000, 0xffff888000000000, 0xffff888000001000, 0xffffc90000000000, 0xffffea0000000000,
		0xfffffe0000000000, 0xffffffffff600000, 0xffffffffff5ff000, 0xffffffffffffe000, 0xfffffffffffff000,
		0x0100000000000000, 0x8000000000000000, 0xffff7ffffffff000, 0xff00000000000000, 0xfff8000000000000,
	};
	uint64_t sizes[] = { PAGE, 2 * PAGE, 2 << 20, 1ULL << 39 }, seed = 3;
	unsigned char *good;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	good = memory_new(4 * PAGE, PAGE);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
		for (size_t n = 0; n < ARRAY_SIZE(sizes); n++)
			check(vm_region(&g.vm, SLOT, 0, GPA_HOLE, (void *)addresses[i], sizes[n]) == -EINVAL,
			      "a region at %llx is taken", (unsigned long long)addresses[i]);
	for (uint64_t i = 0; i < scaled(3000); i++) {
		uint64_t r = random_next(&seed) | 1ULL << 63;

		check(vm_region(&g.vm, SLOT, 0, GPA_HOLE, (void *)(r & ~4095ULL), PAGE) == -EINVAL,
		      "a region at %llx is taken", (unsigned long long)r);
	}
	for (uint64_t low = 1; low < PAGE; low += 1 + random_next(&seed) % 64) {
		check(vm_region(&g.vm, SLOT, 0, GPA_HOLE, good + low, PAGE) == -EINVAL, "address +%llx",
		      (unsigned long long)low);
		check(vm_region(&g.vm, SLOT, 0, GPA_HOLE + low, good, PAGE) == -EINVAL, "gpa +%llx",
		      (unsigned long long)low);
		check(vm_region(&g.vm, SLOT, 0, GPA_HOLE, good, PAGE + low) == -EINVAL, "size +%llx",
		      (unsigned long long)low);
	}
	for (uint64_t gpa = 1ULL << info()->gpa_bits; gpa; gpa <<= 1)
		check(vm_region(&g.vm, SLOT, 0, gpa, good, PAGE) == -EINVAL, "gpa %llx", (unsigned long long)gpa);
	check(vm_region(&g.vm, SLOT, 0, GPA_HOLE, (void *)-(2ULL * PAGE), 4 * PAGE) == -EINVAL,
	      "an address that wraps");
	check(vm_region(&g.vm, SLOT, 0, -(2ULL * PAGE), good, 4 * PAGE) == -EINVAL, "a gpa that wraps");
	check(vm_region(&g.vm, SLOT, 0, GPA_HOLE, good, -(uint64_t)PAGE) == -EINVAL, "a size that wraps");
}

/* ---- descriptors in other processes ---- */

static void receiver(int socket)
{
	struct umbra_create_vcpu create = { 0 };
	struct umbra_region region = { .slot = SLOT, .gpa = GPA_HOLE, .size = PAGE };
	int fds[2];
	char go;

	need(!fds_receive(socket, fds, 2), "descriptors did not arrive");
	region.addr = (uintptr_t)memory_new(PAGE, PAGE);
	for (int round = 0; round < 2; round++) {
		check(ioctl(fds[0], UMBRA_VM_SET_REGION, &region) < 0 && errno == EPERM, "SET_REGION: %s",
		      strerror(errno));
		check(ioctl(fds[0], UMBRA_VM_CREATE_VCPU, &create) < 0 && errno == EPERM, "CREATE_VCPU: %s",
		      strerror(errno));
		check(ioctl(fds[1], UMBRA_VCPU_RUN, 0) < 0 && errno == EPERM, "RUN: %s", strerror(errno));
		check(lseek(fds[1], 0, SEEK_SET) < 0 && errno == EPERM, "RUN by lseek: %s", strerror(errno));
		check(ioctl(fds[1], UMBRA_VCPU_KICK, 0) < 0 && errno == EPERM, "KICK: %s", strerror(errno));
		check(mmap(NULL, info()->run_size, PROT_READ, MAP_SHARED, fds[1], 0) == MAP_FAILED, "mmap succeeds");
		need(write(socket, "x", 1) == 1, "write");
		if (!round)
			need(read(socket, &go, 1) == 1, "read"); /* then the owner is dead */
	}
	need(read(socket, &go, 1) == 1, "read");
	_exit(0);
}

/* Sent to another process, whose owner then dies: no call works, and the guest's pages are the kernel's again. */
ATTACK(s6_passed)
{
	int pair[2], status;
	pid_t other, owner;
	char byte;

	for (uint64_t i = 0; i < scaled(5); i++) {
		long pages = counter_read("pages");

		need(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
		other = child_new();
		if (!other)
			receiver(pair[1]);
		owner = child_new();
		if (!owner) {
			struct guest g;

			guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
			vcpu_expect_io(&g.vcpu, 0x80, "owner");
			need(!fds_send(pair[0], (int[]) { g.vm.fd, g.vcpu.fd }, 2), "send");
			_exit(0);
		}
		need(read(pair[0], &byte, 1) == 1, "the receiver says nothing");
		need(child_wait(owner, 5000) == 0, "owner");
		for (int n = 0; n < 100 && counter_read("pages") > pages + 4; n++)
			usleep(10000); /* the witness's own pages come and go */
		check(counter_read("pages") <= pages + 4, "%ld pages of a dead owner are still mapped",
		      counter_read("pages") - pages);
		need(write(pair[0], "g", 1) == 1 && read(pair[0], &byte, 1) == 1, "the receiver says nothing");
		check(counter_read("vms") == 2, "%ld VMs", counter_read("vms"));
		need(write(pair[0], "g", 1) == 1, "write");
		status = child_wait(other, 5000);
		check(!status, "receiver: %x", status);
		close(pair[0]);
		close(pair[1]);
	}
}

/* The run area and the virtual-APIC page as guest memory: the guest rewrites its own vCPU's input while it runs. */
ATTACK(s6_run_area)
{
	uint64_t seed = 15;
	struct umbra_run *run;
	struct guest g;
	int error;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	run = g.vcpu.run;
	error = vm_region(&g.vm, SLOT, 0, GPA_HOLE, run, info()->run_size);
	if (error)
		return; /* as well */
	for (uint64_t i = 0; i < scaled(500); i++) {
		uint64_t offset = random_next(&seed) % (info()->run_size / 8) * 8;

		if (offset == offsetof(struct umbra_run, deadline_tsc) || offset == offsetof(struct umbra_run, rflags))
			continue;
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(store));
		run->gpr[UMBRA_RDI] = GPA_HOLE + offset;
		run->gpr[UMBRA_RBX] = random_next(&seed);
		run->deadline_tsc = tsc_read() + info()->tsc_khz;
		need(!vcpu_run(&g.vcpu), "RUN");
		run->deadline_tsc = tsc_read() + info()->tsc_khz;
		need(!vcpu_run(&g.vcpu), "RUN"); /* with what the guest wrote */
	}
	vm_region(&g.vm, SLOT, 0, 0, NULL, 0);
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
	memset((char *)run + info()->vapic_offset, 0, PAGE);
	run_bounded(&g.vcpu, LONG);
	check(g.vcpu.exit.reason == VMEXIT_IO, "afterwards: %s", vcpu_describe(&g.vcpu));
}

int s6_main(void)
{
	static const struct test tests[] = {
		{ "addresses", s6_addresses, 60 },   { "gone", s6_gone, 60 },	      { "kinds", s6_kinds, 60 },
		{ "secret", s6_secret, 30 },	     { "truncate", s6_truncate, 90 }, { "holes", s6_holes, 60 },
		{ "own_tables", s6_own_tables, 60 }, { "chaos", s6_chaos, 90 },	      { "passed", s6_passed, 60 },
		{ "run_area", s6_run_area, 60 },
	};

	return run_tests("attack.s6", tests, ARRAY_SIZE(tests));
}
