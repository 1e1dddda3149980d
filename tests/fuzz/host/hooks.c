// SPDX-License-Identifier: GPL-2.0-or-later
/* What hooks.h puts in place of libc and hardware. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hooks_rig.h"
#include "cpuid_host.h"
#include "sys.h"
#include "input.h"
#include "rig.h"
#include "sandbox.h"

uint64_t fuzz_tsc;
int64_t fuzz_ns;
uint64_t fuzz_gs_base;
jmp_buf fuzz_sleep; /* where a thread that would sleep goes */
bool fuzz_may_sleep;

/* ---- memory: lists of what is alive, so that it can be given back ---- */

#define GUARD 4096
#define MAPS_MAX 4096

struct block {
	struct block *next, *prev;
	uint64_t pad[2];
};
static struct block blocks = { &blocks, &blocks, { 0, 0 } };

static struct {
	uint8_t *at;
	size_t len;
} map[MAPS_MAX];
static unsigned int maps;

/* The list's links lie outside of the block, so that ASan sees a step past either end of it. */
struct handle {
	struct block link;
	void *p;
};

void *fuzz_malloc(size_t size)
{
	struct handle *h = malloc(sizeof(*h));

	h->p = malloc(size);
	memset(h->p, 0xa5, size);
	h->link.next = blocks.next;
	h->link.prev = &blocks;
	blocks.next->prev = &h->link;
	blocks.next = &h->link;
	return h->p;
}

void *fuzz_calloc(size_t n, size_t size)
{
	void *p;

	if (size && n > SIZE_MAX / size)
		return NULL;
	p = fuzz_malloc(n * size);
	memset(p, 0, n * size);
	return p;
}

static void block_free(struct handle *h)
{
	h->link.prev->next = h->link.next;
	h->link.next->prev = h->link.prev;
	free(h->p);
	free(h);
}

void fuzz_free(void *p)
{
	if (!p)
		return;
	for (struct block *b = blocks.next; b != &blocks; b = b->next) {
		if (((struct handle *)b)->p == p) {
			block_free((struct handle *)b);
			return;
		}
	}
	free(p); /* libc's own, of getline() */
}

/* Between pages that nobody may touch. */
void *fuzz_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	size_t whole = ((len + GUARD - 1) & ~(size_t)(GUARD - 1)) + 2 * GUARD;
	uint8_t *at;

	if (flags & MAP_FIXED)
		return mmap(addr, len, prot, flags, fd, offset);
	if (whole < len || maps == MAPS_MAX) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	at = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return at;
	if (mmap(at + GUARD, len, prot, flags | MAP_FIXED, fd, offset) == MAP_FAILED) {
		int error = errno;

		munmap(at, whole);
		errno = error;
		return MAP_FAILED;
	}
	map[maps].at = at;
	map[maps++].len = whole;
	return at + GUARD;
}

/* Nobody else gets the place before the input ends: a use after it is seen. */
int fuzz_munmap(void *addr, size_t len)
{
	if (!fuzz_mapped((uintptr_t)addr, len))
		abort();
	return mmap(addr, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED
		       ? -1
		       : 0;
}

bool fuzz_mapped(uint64_t addr, uint64_t len)
{
	for (unsigned int i = 0; i < maps; i++)
		if (addr >= (uintptr_t)map[i].at + GUARD && addr + len <= (uintptr_t)map[i].at + map[i].len - GUARD &&
		    addr + len >= addr)
			return true;
	return false;
}

void fuzz_memory_reset(void)
{
	while (blocks.next != &blocks)
		block_free((struct handle *)blocks.next);
	while (maps) {
		maps--;
		munmap(map[maps].at, map[maps].len);
	}
}

/* ---- threads and sleep ---- */

int fuzz_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	(void)attr;
	*thread = pthread_self();
	fuzz_assert(rig.threads <= RIG_VCPUS);
	rig.thread[rig.threads] = start;
	rig.thread_arg[rig.threads++] = arg;
	return 0;
}

_Noreturn static void leave(void)
{
	fuzz_assert(fuzz_may_sleep);
	longjmp(fuzz_sleep, 1);
}

int fuzz_epoll_pwait2(int epoll, struct epoll_event *event, int max, const struct timespec *timeout, const void *sigs)
{
	int n = epoll_wait(epoll, event, max, 0);

	(void)timeout;
	(void)sigs;
	if (n <= 0)
		leave();
	return n;
}

/* The only thread there is sleeps: on its bell, else a halted vCPU, which the VMM then stops; a lock would be a deadlock. */
long fuzz_futex_wait(void *word, uint32_t value, const struct sys_timespec *timeout)
{
	(void)value;
	for (uint32_t i = 0; i < rig.vcpus; i++) {
		struct vcpu *vcpu = rig.vm.vcpu[i];

		if (!vcpu)
			continue;
		if (word == &vcpu->wake) {
			__atomic_store_n(&vcpu->channel->stop, 1, __ATOMIC_SEQ_CST);
			atomic_fetch_or(&vcpu->requests, VCPU_REQ_STOP);
			if (timeout)
				fuzz_tsc += (uint64_t)timeout->sec * 1000000000 + (uint64_t)timeout->nsec;
			return 0;
		}
		if (word == vcpu->kvm)
			leave();
		if (word == &vcpu->turn.parked)
			return 0;
	}
	fprintf(stderr, "a lock is waited for, and nobody is there to drop it\n");
	abort();
}

_Noreturn void fuzz_exit_group(int code)
{
	fprintf(stderr, "the shadow ends with status %d\n", code);
	abort();
}

void sandbox_thread(enum sandbox_role role)
{
	(void)role;
}

void sandbox_die(const char *reason)
{
	fprintf(stderr, "the shadow gives up: %s\n", reason);
	abort();
}

/* ---- time ---- */

uint64_t fuzz_rdtsc(void)
{
	return fuzz_tsc += 10;
}

long fuzz_clock_gettime(int clock, struct sys_timespec *now)
{
	(void)clock;
	now->sec = fuzz_ns / 1000000000;
	now->nsec = fuzz_ns % 1000000000;
	return 0;
}

/* ---- FPU: what is in the area is in the registers ---- */

void fuzz_xsave(void *area, uint64_t mask)
{
	uint64_t *header = (uint64_t *)((uint8_t *)area + 512);

	header[0] |= mask;
}

/* A hypervisor below takes a while for each CPUID: each is asked once. */
struct cpuid_memo {
	unsigned int count;
	struct {
		uint32_t leaf, index, regs[4];
	} known[256];
};

static void cpuid_from(struct cpuid_memo *memo, void (*ask)(uint32_t leaf, uint32_t index, uint32_t regs[4]),
		       uint32_t leaf, uint32_t index, uint32_t regs[4])
{
	for (unsigned int i = 0; i < memo->count; i++) {
		if (memo->known[i].leaf == leaf && memo->known[i].index == index) {
			memcpy(regs, memo->known[i].regs, sizeof(memo->known[i].regs));
			return;
		}
	}
	ask(leaf, index, regs);
	if (memo->count == 256)
		return;
	memo->known[memo->count].leaf = leaf;
	memo->known[memo->count].index = index;
	memcpy(memo->known[memo->count++].regs, regs, sizeof(memo->known[0].regs));
}

void fuzz_cpuid(uint32_t leaf, uint32_t index, uint32_t regs[4])
{
	static struct cpuid_memo memo;

	cpuid_from(&memo, cpu_cpuid, leaf, index, regs);
}

static void (*cpuid_host_ask)(uint32_t leaf, uint32_t index, uint32_t regs[4]);

static void cpuid_host_known(uint32_t leaf, uint32_t index, uint32_t regs[4])
{
	static struct cpuid_memo memo;

	cpuid_from(&memo, cpuid_host_ask, leaf, index, regs);
}

void fuzz_cpuid_init(void)
{
	if (cpuid_host_ask)
		return;
	cpuid_host_ask = cpuid_host;
	cpuid_host = cpuid_host_known;
}
