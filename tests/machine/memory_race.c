// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two vCPUs read and write a page while the owner takes it away in every way there is. The owner stamps each new page
 * with a generation and only then publishes the generation: a guest that reads a stamp older than the generation it
 * has read before has seen a page that was not the owner's any more. Pages that the owner allocates meanwhile must not change.
 */
#include "memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE UMBRA_PAGE_SIZE
#define VCPUS 2
#define PAGES 64

struct race;

struct racer {
	pthread_t thread;
	struct race *race;
	struct vcpu vcpu;
	uint64_t batches, faults, bad, stamp, generation;
};

struct race {
	struct vm vm;
	struct racer racer[VCPUS];
	volatile int stop;
	volatile uint64_t *generation; /* in guest memory */
	volatile uint64_t *page;       /* PAGES of them at GPA_HOLE: [0] stamp, [1] what the guest writes */
	uint64_t now;
	int fd, pages;
};

static void *racer_run(void *arg)
{
	struct racer *r = arg;
	struct umbra_run *run = r->vcpu.run;
	uint64_t seed = 17 + (uintptr_t)r;

	while (!r->race->stop) {
		uint32_t reason = vcpu_exit(&r->vcpu);

		if (reason == VMEXIT_MEM) { /* not there at this moment */
			need(r->vcpu.exit.mem.gpa >> 12 >= GPA_HOLE >> 12, "%s", vcpu_describe(&r->vcpu));
			r->faults++;
			sched_yield();
			continue;
		}
		need(reason == VMEXIT_IO, "%s", vcpu_describe(&r->vcpu));
		r->batches++;
		run->rip = GPA_CODE;
		run->gpr[UMBRA_RCX] = 300;
		run->gpr[UMBRA_RSI] = GPA_HOLE + random_next(&seed) % (unsigned int)r->race->pages * PAGE;
		run->dirty |= UMBRA_STATE_RIP;
	}
	r->bad = run->gpr[8];
	r->stamp = run->gpr[9];
	r->generation = run->gpr[10];
	return NULL;
}

static void race_start(struct race *race, void *memory, int pages, uint64_t flags)
{
	memset(race, 0, sizeof(*race));
	vm_create(&race->vm, GUEST_MEM);
	race->generation = (volatile uint64_t *)(race->vm.mem + GPA_DATA);
	race->page = memory ? memory : memory_new((size_t)pages * PAGE, PAGE);
	race->pages = pages;
	race->fd = -1;
	madvise((void *)race->page, (size_t)pages * PAGE, MADV_NOHUGEPAGE);
	need(!vm_region(&race->vm, 1, flags, GPA_HOLE, (void *)race->page, (size_t)pages * PAGE), "region");
	for (int i = 0; i < VCPUS; i++) {
		struct racer *r = &race->racer[i];

		r->race = race;
		vcpu_create(&r->vcpu, &race->vm);
		vcpu_load(&r->vcpu, MODE_LONG64, SNIPPET(stamps));
		r->vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
		r->vcpu.run->gpr[UMBRA_RSI] = GPA_HOLE;
		r->vcpu.run->gpr[UMBRA_RCX] = 300;
	}
	for (int i = 0; i < VCPUS; i++) { /* loading the second one wrote the tables once more */
		struct racer *r = &race->racer[i];

		need(!pthread_create(&r->thread, NULL, racer_run, r), "thread");
	}
}

/* Ends the guests; returns how often they saw what they must not see. */
static uint64_t race_stop(struct race *race, const char *what)
{
	uint64_t bad = 0, batches = 0, faults = 0;

	race->stop = 1;
	for (int i = 0; i < VCPUS; i++) {
		struct racer *r = &race->racer[i];

		for (int n = 0; pthread_tryjoin_np(r->thread, NULL); n++) {
			need(n < 5000, "%s: a vCPU does not end", what);
			vcpu_kick(&r->vcpu);
			usleep(1000);
		}
		if (r->bad)
			note("%s: stamp %llx at generation %llx", what, (unsigned long long)r->stamp,
			     (unsigned long long)r->generation);
		bad += r->bad;
		batches += r->batches;
		faults += r->faults;
	}
	note("%s: %llu generations, %llu batches, %llu memory exits", what, (unsigned long long)race->now,
	     (unsigned long long)batches, (unsigned long long)faults);
	check(batches > 0, "%s: the guests did nothing", what);
	return bad;
}

static void race_end(struct race *race, const char *what)
{
	uint64_t bad = race_stop(race, what);

	check(!bad, "%s: a page that was gone was seen %llu times", what, (unsigned long long)bad);
}

static void publish(struct race *race)
{
	__atomic_store_n(race->generation, race->now, __ATOMIC_SEQ_CST);
}

static void let_run(unsigned int spins)
{
	for (unsigned int i = 0; i < spins; i++)
		__builtin_ia32_pause();
	if (cpu_count_online() == 1)
		sched_yield();
}

/* Pages just freed come back here; a stale translation would write into them. */
static void reuse_check(const char *what)
{
	uint64_t *fresh =
		mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	need(fresh != MAP_FAILED, "mmap");
	for (size_t i = 0; i < 8; i++)
		fresh[i * PAGE / 8] = fresh[i * PAGE / 8 + 1] = 0xeeeeeeeeeeeeeeee;
	let_run(50);
	for (size_t i = 0; i < 8; i++)
		check(fresh[i * PAGE / 8] == 0xeeeeeeeeeeeeeeee && fresh[i * PAGE / 8 + 1] == 0xeeeeeeeeeeeeeeee,
		      "%s: another page was written to: %llx", what, (unsigned long long)fresh[i * PAGE / 8 + 1]);
	munmap(fresh, 8 * PAGE);
}

void race_dontneed(void)
{
	struct race race;

	race_start(&race, NULL, 1, 0);
	for (race.now = 1; race.now < scaled(1500); race.now++) {
		need(!madvise((void *)race.page, PAGE, MADV_DONTNEED), "madvise");
		race.page[0] = race.now;
		publish(&race);
		reuse_check("MADV_DONTNEED");
	}
	race_end(&race, "MADV_DONTNEED");
}

void race_punch(void)
{
	int fd = memfd_create("race", MFD_CLOEXEC);
	struct race race;
	void *mem;

	need(fd >= 0 && !ftruncate(fd, PAGE), "memfd");
	mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(mem != MAP_FAILED, "mmap");
	race_start(&race, mem, 1, 0);
	for (race.now = 1; race.now < scaled(1500); race.now++) {
		need(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), "punch hole");
		race.page[0] = race.now;
		publish(&race);
		reuse_check("punch hole");
	}
	race_end(&race, "punch hole");
}

void race_remap(void)
{
	struct race race;

	race_start(&race, NULL, 1, 0);
	for (race.now = 1; race.now < scaled(1500); race.now++) {
		if (race.now & 1)
			need(!munmap((void *)race.page, PAGE), "munmap");
		need(mmap((void *)race.page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			  0) == (void *)race.page,
		     "mmap");
		race.page[0] = race.now;
		publish(&race);
		reuse_check("munmap and mmap");
	}
	race_end(&race, "munmap and mmap");
}

void race_mprotect(void)
{
	struct race race;

	race_start(&race, NULL, 1, 0);
	for (race.now = 2; race.now < scaled(1500); race.now++) {
		uint64_t was;

		race.page[0] = race.now;
		need(!mprotect((void *)race.page, PAGE, race.now & 1 ? PROT_READ : PROT_NONE), "mprotect");
		publish(&race); /* from now on the guest would write something new */
		if (race.now & 1) {
			was = race.page[1];
			let_run(200);
			check(race.page[1] == was, "the guest wrote %llx to a read-only page",
			      (unsigned long long)race.page[1]);
		} else {
			let_run(200);
			need(!mprotect((void *)race.page, PAGE, PROT_READ), "mprotect");
			check(race.page[1] < race.now, "the guest wrote %llx to a PROT_NONE page",
			      (unsigned long long)race.page[1]);
		}
		need(!mprotect((void *)race.page, PAGE, PROT_READ | PROT_WRITE), "mprotect");
		let_run(50);
	}
	race_end(&race, "mprotect");
}

/* The slot's memory changes between two buffers. */
static void region_rounds(int delete_first, const char *what)
{
	volatile uint64_t *buffer[2];
	struct race race;

	race_start(&race, NULL, 1, 0);
	buffer[0] = race.page;
	buffer[1] = memory_new(PAGE, PAGE);
	for (race.now = 1; race.now < scaled(1500); race.now++) {
		volatile uint64_t *old = buffer[~race.now & 1], *new = buffer[race.now & 1];
		uint64_t was;

		new[0] = race.now;
		if (delete_first)
			need(!vm_region(&race.vm, 1, 0, 0, NULL, 0), "remove");
		need(!vm_region(&race.vm, 1, 0, GPA_HOLE, (void *)new, PAGE), "change");
		was = old[1];
		publish(&race);
		let_run(50);
		check(old[1] == was, "%s: the guest wrote %llx to the old memory", what, (unsigned long long)old[1]);
	}
	race_end(&race, what);
}

void race_region(void)
{
	region_rounds(0, "region moved");
}

void race_region_delete(void)
{
	region_rounds(1, "region removed");
}

static long vmstat(const char *name)
{
	char line[100];
	long value = -1;
	FILE *file = fopen("/proc/vmstat", "r");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ')
			value = strtol(line + strlen(name), NULL, 10);
	if (file)
		fclose(file);
	return value;
}

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* The kernel moves the pages about: compaction, and soft offlining, which moves a page for certain. */
void race_migrate(void)
{
	long before = vmstat("pgmigrate_success"), offlined = 0, moved;
	uint64_t seed = 3;
	struct race race;

	race_start(&race, NULL, PAGES, 0);
	for (race.now = 1; race.now < scaled(40) + 5; race.now++) {
		for (int i = 0; i < PAGES; i++)
			race.page[(size_t)i * PAGE / 8] = race.now;
		publish(&race);
		let_run(1000);
		if (race.now & 3)
			offlined += !madvise((void *)(race.page + random_next(&seed) % PAGES * PAGE / 8), PAGE,
					     MADV_SOFT_OFFLINE);
		else
			file_write("/proc/sys/vm/compact_memory", "1");
		reuse_check("migration");
	}
	race_end(&race, "migration");
	moved = vmstat("pgmigrate_success") - before;
	note("migration: %ld pages moved, %ld by soft offlining", moved, offlined);
	if (!moved && !offlined)
		skip_test("this kernel moved no page");
}

/* After each fork the first write makes a copy; the child must not see what the guest writes. */
void race_fork(void)
{
	struct race race;

	race_start(&race, NULL, 1, 0);
	for (race.now = 1; race.now < scaled(60) + 2; race.now++) {
		int status;
		pid_t pid = fork();

		need(pid >= 0, "fork");
		if (!pid) {
			uint64_t was = race.page[1];

			usleep(3000);
			_exit(race.page[1] != was);
		}
		race.page[0] = race.now;
		publish(&race);
		waitpid(pid, &status, 0);
		check(!status, "the child saw what the guest wrote after the fork (%x)", status);
	}
	race_end(&race, "fork");
}

/* No write is lost between two looks at the bitmap. */
void race_dirty(void)
{
	uint64_t bitmap, was, is, set = 0;
	struct race race;

	race_start(&race, NULL, PAGES, UMBRA_REGION_LOG_DIRTY);
	need(!vm_dirty(&race.vm, 1, 0, PAGES, &bitmap), "GET_DIRTY");
	was = race.page[1];
	for (race.now = 1; race.now < scaled(1500); race.now++) {
		size_t page = race.now % PAGES;

		for (int i = 0; i < PAGES; i++)
			race.page[(size_t)i * PAGE / 8] = race.now;
		publish(&race);
		was = race.page[page * PAGE / 8 + 1];
		let_run(300);
		is = race.page[page * PAGE / 8 + 1];
		need(!vm_dirty(&race.vm, 1, 0, PAGES, &bitmap), "GET_DIRTY");
		if (is != was)
			check(bitmap & 1ULL << page, "page %zu was written (%llx, %llx) and is not in the bitmap", page,
			      (unsigned long long)was, (unsigned long long)is);
		set += (uint64_t)__builtin_popcountll(bitmap);
	}
	note("dirty: %llu bits", (unsigned long long)set);
	check(set > 0, "no bit was ever set");
	race_end(&race, "dirty log");
}

/* The test can fail: an owner that publishes before it has taken the page away makes the guests complain. */
void race_negative_control(void)
{
	struct race race;
	uint64_t bad;

	race_start(&race, NULL, 1, 0);
	for (race.now = 1; race.now < scaled(300) + 50; race.now++) {
		publish(&race);
		usleep(500);
		race.page[0] = race.now;
		let_run(100);
	}
	bad = race_stop(&race, "negative control");
	check(bad > 0, "the guests noticed nothing");
}
