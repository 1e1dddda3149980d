// SPDX-License-Identifier: GPL-2.0-or-later
/* Proofs about the table of regions in shim/mem.c and about what is zapped, with models of what it asks the kernel for. */
#include "umbra_abi.h"
#undef UMBRA_MAX_REGIONS
#define UMBRA_MAX_REGIONS 4 /* a small table */
#include "kernel_model.h"

#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#define OLD 2 /* regions before the call */
static struct region pool[OLD + 1];
static bool freed[OLD + 1];
static int events; /* counts what happens, to see in which order */
static int zapped_at[OLD + 1], removed_at[OLD + 1];

static void *model_alloc(void)
{
	return nondet_bool() ? &pool[OLD] : NULL;
}

static void model_free(const void *what)
{
	for (int i = 0; i <= OLD; i++)
		if (what == &pool[i]) {
			PROVE(!freed[i], "freed once");
			freed[i] = true;
		}
}

static unsigned long bitmap[1];
#undef kzalloc
#define kzalloc(size, flags) model_alloc()
#undef kvcalloc
#define kvcalloc(n, size, flags) (nondet_bool() ? bitmap : NULL)
#undef kfree
#define kfree(what) model_free(what)
#undef kvfree
#define kvfree(what) ((void)(what))
#undef spin_lock
#define spin_lock(lock) ((void)(lock))
#undef spin_unlock
#define spin_unlock(lock) ((void)(lock))
#define down_write(sem) ((void)(sem))
#define up_write(sem) ((void)(sem))

static int model_insert(struct mmu_interval_notifier *notifier)
{
	return nondet_bool() ? nondet_bool() ? -ENOMEM : -EINTR : 0;
}
#define mmu_interval_notifier_insert(notifier, mm, start, size, ops) model_insert(notifier)

static void model_remove(struct mmu_interval_notifier *notifier)
{
	for (int i = 0; i <= OLD; i++)
		if (notifier == &pool[i].notifier) {
			PROVE(!freed[i], "before it is freed");
			removed_at[i] = ++events;
		}
}
#define mmu_interval_notifier_remove(notifier) model_remove(notifier)

/* Elements of either table, a few of which are there. */
#undef memmove
#define memmove(to, from, size)                                                    \
	do {                                                                       \
		__typeof__(*(from)) *to_ = (to), *from_ = (from), copy_[OLD + 1];  \
		unsigned long n_ = (size) / sizeof(*to_);                          \
		PROVE(n_ <= OLD && n_ * sizeof(*to_) == (size), "whole elements"); \
		for (int i_ = 0; i_ < OLD; i_++)                                   \
			if (i_ < n_)                                               \
				copy_[i_] = from_[i_];                             \
		for (int i_ = 0; i_ < OLD; i_++)                                   \
			if (i_ < n_)                                               \
				to_[i_] = copy_[i_];                               \
	} while (0)

#undef min
#define min(a, b) ((a) < (b) ? (a) : (b))
#undef cond_resched
#define cond_resched() 0
static __u64 piece = 1ULL << 62;
#undef PT_PIECE
#define PT_PIECE piece				  /* any size, for the table */
static __u64 zap_from, zap_end, zap_to, zap_most; /* one call of vm_zap(): what it shall cover, and how far it is */

#include "mem.c"
#include "check.c"

struct limits shim_limits;
const struct shim_ops *shim_ops;
atomic_long_t stat_pages;

/* pt_zap() and the flush: proved in pt_proofs.c and tested. Here: of what, and when. */
bool pt_zap(struct pt *pt, __u64 start, __u64 end)
{
	PROVE(!zap_most || (start == zap_to && start < end && end <= zap_end && end - start <= zap_most),
	      "from where the piece before ended, not too much, nothing beyond");
	zap_to = end;
	for (int i = 0; i <= OLD; i++)
		if (start == pool[i].arg.gpa && end == start + pool[i].arg.size)
			zapped_at[i] = ++events;
	return false;
}

static struct vm vm;

static bool same(const struct umbra_region *a, const struct umbra_region *b)
{
	return a->slot == b->slot && a->flags == b->flags && a->gpa == b->gpa && a->addr == b->addr &&
	       a->size == b->size;
}

static bool table_good(void)
{
	bool good = vm.regions >= 0 && vm.regions <= OLD + 1;

	for (int i = 0; i <= OLD; i++) {
		if (i >= vm.regions)
			continue;
		good = good && vm.range[i].size && vm.range[i].gpa == vm.region[i]->arg.gpa &&
		       vm.range[i].size == vm.region[i]->arg.size && vm.range[i].gpa < 1ULL << 46 &&
		       vm.range[i].size <= 1ULL << 40 && vm.region[i]->arg.slot < UMBRA_MAX_REGIONS;
		for (int k = 0; k < i; k++)
			good = good && vm.range[k].gpa + vm.range[k].size <= vm.range[i].gpa &&
			       vm.region[k]->arg.slot != vm.region[i]->arg.slot;
	}
	return good;
}

/*
 * PROOF set-region: the table stays sorted, apart, a slot once; a failed call changes nothing; what goes is zapped, then no longer listened for, then freed
 * BOUNDS: one call, from any good table of up to two regions, slots 0 to 3
 * CBMC: KERNEL --unwind 5
 * MUTATION mem.c: s/range_place\(vm->range, vm->regions, old, arg->gpa, arg->size\)/range_place(vm->range, 0, old, arg->gpa, arg->size)/
 * MUTATION mem.c: s/at = range_place\(vm->range, vm->regions, -1, [^;]+/at = vm->regions/
 * MUTATION mem.c: s/vm_zap\(vm, region->arg\.gpa, region->arg\.gpa \+ region->arg\.size, true\);/;/
 * MUTATION mem.c: s/if \(!r && old >= 0\)/if (old >= 0)/
 */
void set_region_proof(void)
{
	struct umbra_region arg = nondet_region(), before[OLD];
	int count = nondet_int(), old = -1, here = 0, any;
	long r;

	ASSUME(count >= 0 && count <= OLD);
	shim_limits = nondet_limits();
	ASSUME(shim_limits.gpa_bits <= 46);
	for (int i = 0; i < OLD; i++) {
		pool[i].arg = nondet_region();
		before[i] = pool[i].arg;
		vm.region[i] = &pool[i];
		vm.range[i].gpa = pool[i].arg.gpa;
		vm.range[i].size = pool[i].arg.size;
	}
	vm.regions = count;
	ASSUME(table_good());
	for (int i = 0; i < OLD; i++)
		if (i < count && pool[i].arg.slot == arg.slot)
			old = i;
	r = vm_set_region(&vm, &arg);
	PROVE(table_good(), "sorted, apart, each slot once");
	if (!r) {
		PROVE(vm.regions == count - (old >= 0) + !!arg.size, "one more, where there is a size");
		for (int i = 0, found = 0; i <= OLD; i++) {
			found += i < vm.regions && vm.region[i] == &pool[OLD] && same(&pool[OLD].arg, &arg);
			PROVE(i < OLD || found == !!arg.size, "the new one is there as asked for");
		}
	} else {
		PROVE(r == -EINVAL || r == -EEXIST || r == -ENOENT || r == -ENOMEM || r == -EINTR,
		      "an errno of the ABI");
		PROVE(vm.regions == count, "none more, none less");
	}
	any = nondet_int();
	ASSUME(any >= 0 && any < count);
	for (int i = 0; i <= OLD; i++)
		here += i < vm.regions && vm.region[i] == &pool[any];
	if (r) {
		PROVE(vm.regions == count && vm.region[any] == &pool[any] && !freed[any] && !zapped_at[any],
		      "a failed call changes nothing");
		return;
	}
	PROVE(here == (any != old), "the old region of the slot is gone, every other one is there");
	PROVE(same(&pool[any].arg, &before[any]), "and unchanged");
	PROVE(any == old ? zapped_at[any] && removed_at[any] > zapped_at[any] && freed[any]
			 : !freed[any] && !removed_at[any],
	      "zapped, then unheard, then freed");
}

/*
 * PROOF zap-pieces: what a notifier or a removal wants zapped is zapped: all of it, in order, nothing else, no more than 1 GiB in one go
 * BOUNDS: up to 3 GiB, from anywhere below 2^47
 * CBMC: KERNEL --unwind 6
 * MUTATION mem.c: s/gpa = next\) \{/gpa = next + UMBRA_PAGE_SIZE) {/
 * MUTATION mem.c: s/next = min\(end, /next = (/
 * MUTATION mem.c: s/next = min\(end, [^;]+/next = end/
 */
void zap_pieces_proof(void)
{
	piece = 1ULL << 30;
	zap_from = nondet_u64();
	zap_end = nondet_u64();
	ASSUME(zap_from < zap_end && zap_end <= 1ULL << 47 && zap_end - zap_from <= 3 * piece);
	zap_to = zap_from;
	zap_most = piece;
	vm_zap(&vm, zap_from, zap_end, nondet_bool());
	PROVE(zap_to == zap_end, "all of it");
}
