// SPDX-License-Identifier: GPL-2.0-or-later
/* Guest memory is the owner's memory, with the owner's rights, at every moment. Single-threaded cases. */
#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE UMBRA_PAGE_SIZE

void guest_store(struct guest *g, uint64_t gpa, uint64_t value)
{
	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(store));
	g->vcpu.run->gpr[UMBRA_RDI] = gpa;
	g->vcpu.run->gpr[UMBRA_RBX] = value;
	vcpu_expect_io(&g->vcpu, PORT_DONE, "store");
}

uint64_t guest_read(struct guest *g, uint64_t gpa)
{
	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(load));
	g->vcpu.run->gpr[UMBRA_RDI] = gpa;
	vcpu_expect_io(&g->vcpu, PORT_DONE, "load");
	return g->vcpu.run->gpr[UMBRA_RBX];
}

static void store_faults(struct guest *g, uint64_t gpa, const char *what)
{
	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(store));
	g->vcpu.run->gpr[UMBRA_RDI] = gpa;
	g->vcpu.run->gpr[UMBRA_RBX] = 0xbad;
	vcpu_expect(&g->vcpu, VMEXIT_MEM, what);
	check(g->vcpu.exit.mem.access & UMBRA_MEM_WRITE && g->vcpu.exit.mem.access & UMBRA_MEM_FAULT &&
		      g->vcpu.exit.mem.gpa == gpa,
	      "%s: %s", what, vcpu_describe(&g->vcpu));
}

static void load_faults(struct guest *g, uint64_t gpa, const char *what)
{
	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(load));
	g->vcpu.run->gpr[UMBRA_RDI] = gpa;
	vcpu_expect(&g->vcpu, VMEXIT_MEM, what);
	check(g->vcpu.exit.mem.access & UMBRA_MEM_FAULT && g->vcpu.exit.mem.gpa == gpa, "%s: %s", what,
	      vcpu_describe(&g->vcpu));
}

static void same(uint64_t got, uint64_t want, const char *what)
{
	check(got == want, "%s: %llx, want %llx", what, (unsigned long long)got, (unsigned long long)want);
}

static void memory_lazy(void)
{
	uint64_t *mem = memory_new(64 * PAGE, PAGE);
	struct guest g;
	long before;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 64 * PAGE), "region");
	madvise(mem, 64 * PAGE, MADV_NOHUGEPAGE);
	guest_store(&g, GPA_DATA, 1); /* code and tables are there */
	before = counter_read("pages");
	guest_store(&g, GPA_HOLE, 1);
	check(counter_read("pages") <= before + 16, "one page touched, %ld there: only near neighbours may come along",
	      counter_read("pages") - before);
	for (int i = 1; i < 64; i++)
		guest_store(&g, GPA_HOLE + (uint64_t)i * PAGE, 100 + (uint64_t)i);
	for (int i = 1; i < 64; i++)
		same(mem[i * PAGE / 8], 100 + (uint64_t)i, "what the guest wrote");
	check(counter_read("pages") >= before + 64, "64 pages more: counter from %ld to %ld", before,
	      counter_read("pages"));
	mem[5 * PAGE / 8] = 0x5555;
	same(guest_read(&g, GPA_HOLE + 5 * PAGE), 0x5555, "what the owner wrote");
	need(!vm_region(&g.vm, 1, 0, 0, NULL, 0), "remove");
	check(counter_read("pages") <= before, "pages after the region went: %ld, before %ld", counter_read("pages"),
	      before);
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE + 5 * PAGE;
	vcpu_expect(&g.vcpu, VMEXIT_MEM, "removed region");
	check(!(g.vcpu.exit.mem.access & UMBRA_MEM_FAULT), "%s", vcpu_describe(&g.vcpu));
}

static void memory_dontneed(void)
{
	uint64_t *mem = memory_new(4 * PAGE, PAGE);
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 4 * PAGE), "region");
	for (uint64_t i = 0; i < scaled(200); i++) {
		guest_store(&g, GPA_HOLE + PAGE, 0x1000 + i);
		same(mem[PAGE / 8], 0x1000 + i, "owner");
		need(!madvise(mem + PAGE / 8, PAGE, MADV_DONTNEED), "madvise");
		same(guest_read(&g, GPA_HOLE + PAGE), 0, "guest after MADV_DONTNEED");
		mem[PAGE / 8] = i;
		same(guest_read(&g, GPA_HOLE + PAGE), i, "guest after a new page");
	}
	/* The zero page, read first, then written by the owner. */
	same(guest_read(&g, GPA_HOLE + 2 * PAGE), 0, "untouched");
	mem[2 * PAGE / 8] = 0x77;
	same(guest_read(&g, GPA_HOLE + 2 * PAGE), 0x77, "written by the owner after the guest had read zeros");
}

static void memory_shared_file(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	uint64_t *mem, *other;
	struct guest g;

	need(fd >= 0 && !ftruncate(fd, 16 * PAGE), "memfd");
	mem = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	other = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(mem != MAP_FAILED && other != MAP_FAILED, "mmap");
	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 16 * PAGE), "region");
	for (uint64_t i = 1; i <= scaled(100); i++) {
		guest_store(&g, GPA_HOLE + 3 * PAGE, i);
		same(other[3 * PAGE / 8], i, "another mapping");
		need(!madvise(mem + 3 * PAGE / 8, PAGE, MADV_DONTNEED), "madvise");
		same(guest_read(&g, GPA_HOLE + 3 * PAGE), i, "MADV_DONTNEED of shared memory keeps the data");
		need(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, PAGE), "punch hole");
		same(guest_read(&g, GPA_HOLE + 3 * PAGE), 0, "after a hole was punched");
		need(!madvise(mem, 16 * PAGE, MADV_REMOVE), "MADV_REMOVE");
	}
	guest_store(&g, GPA_HOLE + 15 * PAGE, 9);
	need(!ftruncate(fd, 8 * PAGE), "ftruncate");
	load_faults(&g, GPA_HOLE + 15 * PAGE, "the file was cut");
	need(!ftruncate(fd, 16 * PAGE), "ftruncate");
	same(guest_read(&g, GPA_HOLE + 15 * PAGE), 0, "the file grew again");
}

static void memory_protect(void)
{
	uint64_t *mem = memory_new(4 * PAGE, PAGE);
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 4 * PAGE), "region");
	for (uint64_t i = 0; i < scaled(50); i++) {
		guest_store(&g, GPA_HOLE + PAGE, 0x100 + i);
		need(!mprotect(mem, 4 * PAGE, PROT_READ), "mprotect");
		store_faults(&g, GPA_HOLE + PAGE, "write to PROT_READ");
		same(guest_read(&g, GPA_HOLE + PAGE), 0x100 + i, "read of PROT_READ");
		store_faults(&g, GPA_HOLE + PAGE, "write to PROT_READ after a read");
		need(!mprotect(mem, 4 * PAGE, PROT_NONE), "mprotect");
		load_faults(&g, GPA_HOLE + PAGE, "read of PROT_NONE");
		need(!mprotect(mem, 4 * PAGE, PROT_READ | PROT_WRITE), "mprotect");
		same(mem[PAGE / 8], 0x100 + i, "nothing was written");
	}
}

static void memory_unmap(void)
{
	uint64_t *mem = memory_new(8 * PAGE, PAGE), *moved;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 8 * PAGE), "region");
	for (int i = 0; i < 8; i++)
		guest_store(&g, GPA_HOLE + (uint64_t)i * PAGE, 0x200 + (uint64_t)i);
	need(!munmap(mem + 2 * PAGE / 8, PAGE), "munmap");
	load_faults(&g, GPA_HOLE + 2 * PAGE, "unmapped");
	same(guest_read(&g, GPA_HOLE + 3 * PAGE), 0x203, "the page beside");
	need(mmap(mem + 2 * PAGE / 8, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		     MAP_FAILED,
	     "mmap");
	same(guest_read(&g, GPA_HOLE + 2 * PAGE), 0, "mapped anew");
	/* The page moves away: the region still names the old address. */
	moved = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(moved != MAP_FAILED, "mmap");
	need(mremap(mem + 4 * PAGE / 8, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved) == moved, "mremap");
	load_faults(&g, GPA_HOLE + 4 * PAGE, "moved away");
	same(moved[0], 0x204, "the page itself");
	/* And over another one. */
	need(mremap(moved, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mem + 5 * PAGE / 8) == mem + 5 * PAGE / 8,
	     "mremap");
	same(guest_read(&g, GPA_HOLE + 5 * PAGE), 0x204, "moved over");
	/* All of it goes, and the VM stays. */
	need(!munmap(mem, 8 * PAGE), "munmap");
	load_faults(&g, GPA_HOLE + 7 * PAGE, "all unmapped");
	same(guest_read(&g, GPA_DATA), 0, "the other region");
}

static void memory_fork(void)
{
	uint64_t *mem = memory_new(8 * PAGE, PAGE);
	int up[2], down[2], status;
	struct guest g;
	char c;
	pid_t pid;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 8 * PAGE), "region");
	for (int i = 0; i < 8; i++)
		guest_store(&g, GPA_HOLE + (uint64_t)i * PAGE, 0x300 + (uint64_t)i);
	need(!pipe(up) && !pipe(down), "pipe");
	pid = fork();
	need(pid >= 0, "fork");
	if (!pid) {
		need(read(down[0], &c, 1) == 1, "pipe");
		for (int i = 0; i < 8; i++)
			same(mem[i * PAGE / 8], 0x300 + (uint64_t)i, "the child's copy");
		mem[6 * PAGE / 8] = 0xc;
		need(write(up[1], "x", 1) == 1 && read(down[0], &c, 1) == 1, "pipe");
		same(mem[7 * PAGE / 8], 0x307, "the child's copy later");
		_exit(0);
	}
	guest_store(&g, GPA_HOLE, 0xa0); /* the guest writes to memory that the child shares for now */
	same(guest_read(&g, GPA_HOLE + PAGE), 0x301, "read after fork");
	guest_store(&g, GPA_HOLE + PAGE, 0xa1); /* after a read mapped it */
	mem[2 * PAGE / 8] = 0xa2;		/* the owner writes: its own copy from now on */
	same(guest_read(&g, GPA_HOLE + 2 * PAGE), 0xa2, "the owner's copy");
	same(mem[0], 0xa0, "what the guest wrote after fork");
	same(mem[PAGE / 8], 0xa1, "what the guest wrote after a read");
	need(write(down[1], "x", 1) == 1 && read(up[0], &c, 1) == 1, "pipe");
	same(guest_read(&g, GPA_HOLE + 6 * PAGE), 0x306, "what the child wrote is not here");
	guest_store(&g, GPA_HOLE + 7 * PAGE, 0xa7);
	need(write(down[1], "x", 1) == 1, "pipe");
	waitpid(pid, &status, 0);
	check(!status, "child: %x", status);
}

/* The set of pages written equals the bitmap, round after round. */
static void dirty_rounds(size_t pages, size_t align, const char *what)
{
	uint64_t seed = 42, bitmap[pages / 64], want[pages / 64], other[pages / 64];
	uint64_t *mem = memory_new(pages * PAGE, align), *list;
	struct guest g;

	madvise(mem, pages * PAGE, align > PAGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	guest_new(&g, MODE_LONG64, SNIPPET(store_list));
	list = (uint64_t *)(g.vm.mem + GPA_DATA);
	need(!vm_region(&g.vm, 1, UMBRA_REGION_LOG_DIRTY, GPA_HOLE, mem, pages * PAGE), "region");
	memset(bitmap, 0xff, sizeof(bitmap));
	need(!vm_dirty(&g.vm, 1, 0, pages, bitmap), "GET_DIRTY");
	for (size_t i = 0; i < pages / 64; i++)
		same(bitmap[i], 0, "clean at the start");
	for (uint64_t round = 0; round < scaled(20); round++) {
		size_t count = 1 + random_next(&seed) % 200;

		memset(want, 0, sizeof(want));
		for (size_t i = 0; i < count; i++) {
			uint64_t page = random_next(&seed) % pages;

			want[page / 64] |= 1ULL << page % 64;
			list[i] = GPA_HOLE + page * PAGE + 8 * (random_next(&seed) & 511);
		}
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(store_list));
		g.vcpu.run->gpr[8] = GPA_DATA;
		g.vcpu.run->gpr[UMBRA_RCX] = count;
		g.vcpu.run->gpr[UMBRA_RBX] = round + 1;
		vcpu_expect_io(&g.vcpu, PORT_DONE, what);
		guest_read(&g, GPA_HOLE + random_next(&seed) % pages * PAGE); /* a read is not a write */
		/* In two parts, the second twice. */
		need(!vm_dirty(&g.vm, 1, 0, 64, bitmap) && !vm_dirty(&g.vm, 1, 64, pages - 64, bitmap + 1),
		     "GET_DIRTY");
		for (size_t i = 0; i < pages / 64; i++)
			same(bitmap[i], want[i], what);
		need(!vm_dirty(&g.vm, 1, 0, pages, other), "GET_DIRTY");
		for (size_t i = 0; i < pages / 64; i++)
			same(other[i], 0, "fetched once, then clean");
		for (size_t i = 0; i < count; i++)
			same(mem[(list[i] - GPA_HOLE) / 8], round + 1, "the data");
	}
	/* Logging off and on again by changing the region. */
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, pages * PAGE), "log off");
	guest_store(&g, GPA_HOLE, 1);
	check(vm_dirty(&g.vm, 1, 0, 64, bitmap) == -ENOENT, "GET_DIRTY without log");
	need(!vm_region(&g.vm, 1, UMBRA_REGION_LOG_DIRTY, GPA_HOLE, mem, pages * PAGE), "log on");
	guest_store(&g, GPA_HOLE + 3 * PAGE, 1);
	need(!vm_dirty(&g.vm, 1, 0, 64, bitmap), "GET_DIRTY");
	same(bitmap[0], 8, "after log on");
}

static void memory_dirty(void)
{
	dirty_rounds(512, PAGE, "dirty bitmap");
}

static void memory_dirty_huge(void)
{
	dirty_rounds(1024, 2 << 20, "dirty bitmap, huge pages behind");
}

static void huge_use(struct guest *g, unsigned char *mem, size_t size, const char *what)
{
	long before = counter_read("pages"), grown;

	need(!vm_region(&g->vm, 1, 0, GPA_HOLE, mem, size), "region");
	memset(mem, 0, size);
	for (size_t at = 0; at < size; at += 2 << 20)
		guest_store(g, GPA_HOLE + at + 0x5008, at + 1);
	grown = counter_read("pages") - before;
	note("%s: %ld pages mapped for %zu touched", what, grown, size >> 21);
	for (size_t at = 0; at < size; at += 2 << 20) {
		uint64_t word;

		memcpy(&word, mem + at + 0x5008, 8);
		same(word, at + 1, what);
		word = at + 2;
		memcpy(mem + at + 0x1ff000, &word, 8);
		same(guest_read(g, GPA_HOLE + at + 0x1ff000), at + 2, what);
	}
	if (info()->features & UMBRA_FEAT_HUGE_2M)
		check(grown >= (long)(size >> 12), "%s: not mapped by 2 MiB pages: %ld", what, grown);
	/* One small page of it goes: the rest stays right. */
	if (!madvise(mem + 0x5000, PAGE, MADV_DONTNEED)) {
		same(guest_read(g, GPA_HOLE + 0x5008), 0, "a small page of a huge one was dropped");
		same(guest_read(g, GPA_HOLE + 0x1ff000), 2, "the rest of the huge page");
	}
	mprotect(mem, size, PROT_READ);
	store_faults(g, GPA_HOLE + 0x8000, what);
	mprotect(mem, size, PROT_READ | PROT_WRITE);
	guest_store(g, GPA_HOLE + 0x8000, 5);
	same(mem[0x8000], 5, what);
	need(!vm_region(&g->vm, 1, 0, 0, NULL, 0), "remove");
}

static int thp_possible(void)
{
	char text[64] = "";
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY);
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return size > 0 && !strstr(text, "[never]");
}

static void memory_thp(void)
{
	size_t size = 4 << 20;
	unsigned char *mem = memory_new(size, 2 << 20);
	struct guest g;

	if (!thp_possible())
		skip_test("transparent huge pages are off");
	madvise(mem, size, MADV_HUGEPAGE);
	guest_new(&g, MODE_LONG64, SNIPPET(store));
	huge_use(&g, mem, size, "THP");
}

static void memory_hugetlb(void)
{
	size_t size = 4 << 20;
	unsigned char *mem;
	struct guest g;

	file_write("/proc/sys/vm/nr_hugepages", "4");
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (mem == MAP_FAILED)
		skip_test("no hugetlb pages: %s", strerror(errno));
	guest_new(&g, MODE_LONG64, SNIPPET(store));
	huge_use(&g, mem, size, "hugetlb");
	munmap(mem, size);
	file_write("/proc/sys/vm/nr_hugepages", "0");
}

static void first_at(struct guest *g, uint64_t gpa, const char *what)
{
	vcpu_load(&g->vcpu, MODE_LONG64, SNIPPET(load));
	g->vcpu.run->gpr[UMBRA_RDI] = gpa;
	vcpu_expect(&g->vcpu, VMEXIT_MEM, what);
	check((g->vcpu.exit.mem.access & (UMBRA_MEM_FIRST | UMBRA_MEM_READ | UMBRA_MEM_WRITE | UMBRA_MEM_FAULT)) ==
			      (UMBRA_MEM_FIRST | UMBRA_MEM_READ) &&
		      g->vcpu.exit.mem.gpa == gpa,
	      "%s: %s", what, vcpu_describe(&g->vcpu));
}

/* UMBRA_REGION_ANNOUNCE: one exit before the first page of each aligned 2 MiB, and none of it is taken then. */
static void memory_announce(void)
{
	const size_t huge = 2 << 20, size = 4 * huge;
	unsigned char *mem = memory_new(size, huge), there[1];
	uint64_t word = 0x77;
	struct guest g;
	long before;

	madvise(mem, size, MADV_NOHUGEPAGE);
	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, UMBRA_REGION_ANNOUNCE, GPA_HOLE, mem, size), "region");
	guest_store(&g, GPA_DATA, 1); /* code and tables are there */
	guest_read(&g, GPA_DATA);
	before = counter_read("pages");
	first_at(&g, GPA_HOLE + 0x5008, "first");
	need(!mincore(mem + 0x5000, PAGE, there), "mincore");
	check(!(there[0] & 1) && counter_read("pages") == before, "a page was taken at the announcement");
	memcpy(mem + 0x5008, &word, 8);
	vcpu_expect_io(&g.vcpu, PORT_DONE, "the same access again");
	same(g.vcpu.run->gpr[UMBRA_RBX], 0x77, "what the owner put there meanwhile");
	same(guest_read(&g, GPA_HOLE + huge - 8), 0, "the rest of the 2 MiB is not announced");
	first_at(&g, GPA_HOLE + huge, "the next 2 MiB");
	first_at(&g, GPA_HOLE + 2 * huge, "others come between");
	first_at(&g, GPA_HOLE + huge, "announced again");
	vcpu_expect_io(&g.vcpu, PORT_DONE, "the access");
	guest_store(&g, GPA_HOLE + huge + 0x1000, 5);
	same(mem[huge + 0x1000], 5, "a write");
	need(!madvise(mem, huge, MADV_DONTNEED), "madvise");
	first_at(&g, GPA_HOLE + 0x5008, "all of it was dropped");
	need(!vm_region(&g.vm, 1, UMBRA_REGION_ANNOUNCE | UMBRA_REGION_READONLY, GPA_HOLE, mem, size), "read-only");
	first_at(&g, GPA_HOLE + 3 * huge, "read-only");
	vcpu_expect_io(&g.vcpu, PORT_DONE, "the read");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(store));
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE + 3 * huge;
	vcpu_expect(&g.vcpu, VMEXIT_MEM, "a write");
	check(!(g.vcpu.exit.mem.access & UMBRA_MEM_FIRST), "a write: %s", vcpu_describe(&g.vcpu));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, size), "without");
	same(guest_read(&g, GPA_HOLE), 0, "without the flag");
}

/* Two slots and two gpas over the same memory; parts of one mapping in several slots. */
static void memory_alias(void)
{
	uint64_t *mem = memory_new(8 * PAGE, PAGE);
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(store));
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 8 * PAGE), "region 1");
	need(!vm_region(&g.vm, 2, UMBRA_REGION_READONLY, GPA_HOLE + 0x100000, mem + 2 * PAGE / 8, 2 * PAGE),
	     "region 2");
	guest_store(&g, GPA_HOLE + 2 * PAGE, 0x11);
	same(guest_read(&g, GPA_HOLE + 0x100000), 0x11, "alias");
	guest_store(&g, GPA_HOLE + 3 * PAGE, 0x22);
	same(guest_read(&g, GPA_HOLE + 0x100000 + PAGE), 0x22, "alias, second page");
	need(!madvise(mem + 2 * PAGE / 8, PAGE, MADV_DONTNEED), "madvise");
	same(guest_read(&g, GPA_HOLE + 0x100000), 0, "dropped in the alias");
	same(guest_read(&g, GPA_HOLE + 2 * PAGE), 0, "dropped");
	/* The run area itself as guest memory: it is not ordinary memory of the owner, or it is, but nothing breaks. */
	need(!vm_region(&g.vm, 3, 0, GPA_HOLE + 0x200000, g.vcpu.run, PAGE), "region 3");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE + 0x200000;
	vcpu_exit(&g.vcpu);
	check(g.vcpu.exit.reason == VMEXIT_MEM || g.vcpu.exit.reason == VMEXIT_IO, "run area as memory: %s",
	      vcpu_describe(&g.vcpu));
	same(guest_read(&g, GPA_HOLE + 3 * PAGE), 0x22, "afterwards");
}

int memory_main(void)
{
	static const struct test tests[] = {
		{ "lazy", memory_lazy, 20 },
		{ "dontneed", memory_dontneed, 30 },
		{ "shared_file", memory_shared_file, 30 },
		{ "protect", memory_protect, 30 },
		{ "unmap", memory_unmap, 20 },
		{ "fork", memory_fork, 20 },
		{ "dirty", memory_dirty, 60 },
		{ "dirty_huge", memory_dirty_huge, 60 },
		{ "thp", memory_thp, 30 },
		{ "hugetlb", memory_hugetlb, 30 },
		{ "announce", memory_announce, 20 },
		{ "alias", memory_alias, 20 },
		{ "race_dontneed", race_dontneed, 120 },
		{ "race_punch", race_punch, 120 },
		{ "race_remap", race_remap, 120 },
		{ "race_mprotect", race_mprotect, 120 },
		{ "race_region", race_region, 120 },
		{ "race_region_delete", race_region_delete, 120 },
		{ "race_migrate", race_migrate, 120 },
		{ "race_fork", race_fork, 120 },
		{ "race_dirty", race_dirty, 120 },
		{ "race_negative_control", race_negative_control, 60 },
	};

	return run_tests("memory", tests, ARRAY_SIZE(tests));
}
