// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "vm.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "sys.h"

/*
 * Readers of snapshots. Each thread has a counter, odd while it is inside. A writer publishes the new snapshot, then waits
 * until every counter that was odd has moved: whoever enters later sees the new one. The exchange in lock orders the
 * counter before the reader's loads; together with the fence in vm_synchronize either the writer sees the odd counter
 * or the reader sees the new pointer (Dekker).
 * Threads never end before the process does, so a place is never given back.
 */
#define READERS 256

static struct reader {
	_Atomic uint64_t seq;
	uint64_t pad[7];
} readers[READERS];
static atomic_uint readers_used;
static __thread struct reader *reader_self;
static __thread unsigned int reader_depth;

void vm_read_lock(struct vm *vm)
{
	(void)vm;
	if (reader_depth++)
		return;
	if (__builtin_expect(!reader_self, 0)) {
		unsigned int n = atomic_fetch_add(&readers_used, 1);

		if (n >= READERS)
			sys_exit_group(70);
		reader_self = &readers[n];
	}
	atomic_exchange(&reader_self->seq, atomic_load_explicit(&reader_self->seq, memory_order_relaxed) + 1);
}

void vm_read_unlock(struct vm *vm)
{
	(void)vm;
	if (--reader_depth)
		return;
	atomic_store_explicit(&reader_self->seq, atomic_load_explicit(&reader_self->seq, memory_order_relaxed) + 1,
			      memory_order_release);
}

void vm_synchronize(struct vm *vm)
{
	unsigned int used;

	(void)vm;
	atomic_thread_fence(memory_order_seq_cst);
	used = atomic_load(&readers_used);
	for (unsigned int i = 0; i < used && i < READERS; i++) {
		uint64_t seq = atomic_load(&readers[i].seq);

		if (!(seq & 1) || &readers[i] == reader_self)
			continue;
		while (atomic_load(&readers[i].seq) == seq)
			sys_sched_yield();
	}
}

/* VMX sees loops; SVM without its filter (APM 2 15.14.4) would exit on every single PAUSE, which costs more than it saves. */
static bool pause_loops_seen(const struct vm *vm)
{
	uint32_t regs[4];

	if (vm->info.hw != UMBRA_HW_SVM)
		return true;
	cpu_cpuid(0x80000000, 0, regs);
	if (regs[0] < 0x8000000a)
		return false;
	cpu_cpuid(0x8000000a, 0, regs);
	return regs[3] >> 10 & 1;
}

int vm_init(struct vm *vm, struct shim *shim)
{
	int ret;

	memset(vm, 0, sizeof(*vm));
	vm->shim = shim;
	pthread_mutex_init(&vm->lock, NULL);
	ret = shim->ops->info(shim, &vm->info);
	if (ret < 0)
		return ret;
	if (vm->info.abi_version != UMBRA_ABI_VERSION)
		return -71; /* EPROTO */
	vm->tsc_khz = vm->info.tsc_khz;
	vm->pause_loops = pause_loops_seen(vm);
	slots_init(vm);
	return 0;
}

unsigned int vm_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned int)CPU_COUNT(&set);
}
