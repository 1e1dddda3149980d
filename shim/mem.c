// SPDX-License-Identifier: GPL-2.0-only
#include "shim.h"

#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/io.h>

#define FILL_PAGES 16 /* at a fault */

/*
 * A guest reaches only pages that the VM's owner could reach itself, with no more rights: entries come from
 * get_user_pages on the owner's own memory, no reference is kept, and the interval notifier takes an entry away,
 * and makes every CPU forget it, before the kernel takes the page away. (S6)
 */

static void pt_dead(struct pt *pt, __u64 *table)
{
	struct vm *vm = container_of(pt, struct vm, pt);

	list_add(&virt_to_page(table)->lru, &vm->dead_tables);
}

/* No CPU uses a translation older than this call when it returns. Holds T. */
static void vm_flush(struct vm *vm)
{
	struct page *page, *next;
	struct vcpu *vcpu;
	int cpu;

	lockdep_assert_held(&vm->pt_lock);
	WRITE_ONCE(vm->flush_generation, vm->flush_generation + 1);
	/* Pairs with enter_once: either it sees the new generation before it enters, or we see it in the guest. */
	smp_mb();
	list_for_each_entry (vcpu, &vm->vcpus, link) {
		cpu = READ_ONCE(vcpu->guest_cpu);
		if (cpu >= 0)
			smp_call_function_single(cpu, vcpu_leave_guest, NULL, 1);
	}
	list_for_each_entry_safe (page, next, &vm->dead_tables, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
}

/* Zaps and counts, piece by piece. Nothing can be filled in again meanwhile: the caller sees to that. */
static void vm_zap(struct vm *vm, __u64 gpa, __u64 end, bool may_sleep)
{
	__u64 next;
	long before;

	for (; gpa < end; gpa = next) {
		next = min(end, (gpa & ~(PT_PIECE - 1)) + PT_PIECE);
		spin_lock(&vm->pt_lock);
		before = vm->pt.leaves;
		if (pt_zap(&vm->pt, gpa, next))
			vm_flush(vm);
		atomic_long_sub(before - vm->pt.leaves, &stat_pages);
		spin_unlock(&vm->pt_lock);
		if (may_sleep)
			cond_resched();
	}
}

static bool region_invalidate(struct mmu_interval_notifier *notifier, const struct mmu_notifier_range *range,
			      unsigned long seq)
{
	struct region *region = container_of(notifier, struct region, notifier);
	__u64 start = max_t(__u64, range->start, region->arg.addr);
	__u64 end = min_t(__u64, range->end, region->arg.addr + region->arg.size);

	spin_lock(&region->vm->pt_lock);
	mmu_interval_set_seq(notifier, seq); /* from here on no fill succeeds */
	spin_unlock(&region->vm->pt_lock);
	if (start < end)
		vm_zap(region->vm, region->arg.gpa + (start - region->arg.addr),
		       region->arg.gpa + (end - region->arg.addr), mmu_notifier_range_blockable(range));
	return true;
}

static const struct mmu_interval_notifier_ops region_notifier_ops = { .invalidate = region_invalidate };

static void region_free(struct region *region)
{
	kvfree(region->dirty);
	kfree(region);
}

static struct region *region_alloc(struct vm *vm, const struct umbra_region *arg)
{
	struct region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	int r;

	if (!region)
		return ERR_PTR(-ENOMEM);
	region->vm = vm;
	region->arg = *arg;
	if (arg->flags & UMBRA_REGION_LOG_DIRTY) {
		region->dirty = kvcalloc(BITS_TO_LONGS(arg->size >> PAGE_SHIFT), sizeof(long), GFP_KERNEL_ACCOUNT);
		if (!region->dirty) {
			kfree(region);
			return ERR_PTR(-ENOMEM);
		}
	}
	r = mmu_interval_notifier_insert(&region->notifier, vm->mm, region->arg.addr, region->arg.size,
					 &region_notifier_ops);
	if (r) {
		region_free(region);
		return ERR_PTR(r);
	}
	return region;
}

/* Takes region[at] out of the table; nothing of it is reachable when this returns. Holds R for writing. */
static void region_remove(struct vm *vm, int at)
{
	struct region *region = vm->region[at];

	vm->regions--;
	memmove(&vm->region[at], &vm->region[at + 1], (vm->regions - at) * sizeof(vm->region[0]));
	memmove(&vm->range[at], &vm->range[at + 1], (vm->regions - at) * sizeof(vm->range[0]));
	/* First zap (nothing can be filled in while R is held), then stop listening: no page goes unheard between. */
	vm_zap(vm, region->arg.gpa, region->arg.gpa + region->arg.size, true);
	mmu_interval_notifier_remove(&region->notifier);
	region_free(region);
}

static void region_insert(struct vm *vm, int at, struct region *region)
{
	memmove(&vm->region[at + 1], &vm->region[at], (vm->regions - at) * sizeof(vm->region[0]));
	memmove(&vm->range[at + 1], &vm->range[at], (vm->regions - at) * sizeof(vm->range[0]));
	vm->region[at] = region;
	vm->range[at] = (struct gpa_range) { region->arg.gpa, region->arg.size };
	vm->regions++;
}

static int region_of_slot(struct vm *vm, __u32 slot)
{
	int i;

	for (i = 0; i < vm->regions; i++)
		if (vm->region[i]->arg.slot == slot)
			return i;
	return -ENOENT;
}

long vm_set_region(struct vm *vm, const struct umbra_region *arg)
{
	struct region *region = NULL;
	int r, old, at;

	r = check_region(arg, &shim_limits);
	if (r)
		return r;
	down_write(&vm->region_lock);
	old = region_of_slot(vm, arg->slot);
	if (arg->size) {
		r = range_place(vm->range, vm->regions, old, arg->gpa, arg->size);
		if (r >= 0) {
			region = region_alloc(vm, arg);
			r = PTR_ERR_OR_ZERO(region);
		}
	} else if (old < 0) {
		r = old;
	}
	if (!r && old >= 0)
		region_remove(vm, old);
	if (!r && region) {
		at = range_place(vm->range, vm->regions, -1, region->arg.gpa, region->arg.size);
		region_insert(vm, at, region);
	}
	up_write(&vm->region_lock);
	return r;
}

long vm_get_dirty(struct vm *vm, const struct umbra_dirty *arg)
{
	struct region *region;
	unsigned long *bits, *dirty, page;
	bool flush = false;
	size_t bytes;
	int at;
	long r;

	if (arg->slot >= UMBRA_MAX_REGIONS)
		return -EINVAL;
	down_read(&vm->region_lock);
	at = region_of_slot(vm, arg->slot);
	region = at < 0 ? NULL : vm->region[at];
	r = !region || !region->dirty ? -ENOENT : check_dirty(arg, region->arg.size);
	if (r)
		goto out;
	bytes = BITS_TO_LONGS(arg->pages) * sizeof(long);
	dirty = region->dirty + BIT_WORD(arg->first_page);
	bits = kvzalloc(bytes, GFP_KERNEL_ACCOUNT);
	if (!bits) {
		r = -ENOMEM;
		goto out;
	}
	spin_lock(&vm->pt_lock);
	memcpy(bits, dirty, bytes);
	spin_unlock(&vm->pt_lock);
	/* Bits are cleared when the caller has them: nothing is lost. What is written until then it reads after this call. */
	if (copy_to_user(u64_to_user_ptr(arg->bitmap), bits, bytes)) {
		r = -EFAULT;
		goto free;
	}
	spin_lock(&vm->pt_lock);
	bitmap_andnot(dirty, dirty, bits, arg->pages);
	for_each_set_bit(page, bits, arg->pages) flush |=
		pt_write_protect(&vm->pt, region->arg.gpa + ((arg->first_page + page) << PAGE_SHIFT));
	if (flush)
		vm_flush(vm);
	spin_unlock(&vm->pt_lock);
free:
	kvfree(bits);
out:
	up_read(&vm->region_lock);
	return r;
}

static int cache_fill(struct pt_cache *cache)
{
	while (cache->count < PT_CACHE) {
		__u64 *page = (__u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);

		if (!page)
			return -ENOMEM;
		cache->page[cache->count++] = page;
	}
	return 0;
}

/*
 * Is the whole 2 MiB around addr one physically contiguous, aligned piece that the owner has with the same rights? Asked
 * of the kernel page by page, so a huge page of which only a part is mapped is not taken for a whole one.
 */
static bool backing_is_huge(const struct region *region, unsigned long addr, __u64 gpa, struct page *page, int gup)
{
	unsigned long start = addr & ~(PT_HUGE - 1);
	struct page **pages;
	int i, got;
	bool huge;

	if (!(shim_features & UMBRA_FEAT_HUGE_2M) || region->dirty || (gpa ^ addr) & (PT_HUGE - 1) ||
	    start < region->arg.addr || start + PT_HUGE > region->arg.addr + region->arg.size ||
	    compound_order(compound_head(page)) < PMD_SHIFT - PAGE_SHIFT || is_zone_device_page(page))
		return false;
	pages = kmalloc_array(PT_ENTRIES, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return false;
	got = get_user_pages_fast(start, PT_ENTRIES, gup, pages);
	huge = got == PT_ENTRIES && !(page_to_pfn(pages[0]) & (PT_ENTRIES - 1));
	for (i = 0; i < got; i++) {
		huge &= page_to_pfn(pages[i]) == page_to_pfn(pages[0]) + i;
		put_page(pages[i]);
	}
	kfree(pages);
	return huge;
}

static void region_map(struct region *region, struct vcpu *vcpu, __u64 gpa, struct page *page, bool write, bool huge)
{
	struct pt *pt = &region->vm->pt;
	__u64 hpa = page_to_phys(page);
	long before = pt->leaves;
	bool flush = false;

	lockdep_assert_held(&region->vm->pt_lock);
	if (!huge || !pt_map(pt, gpa & ~(PT_HUGE - 1), hpa & ~(PT_HUGE - 1), write, true, &vcpu->cache, &flush))
		pt_map(pt, gpa, hpa, write, false, &vcpu->cache, &flush);
	if (flush)
		vm_flush(region->vm);
	atomic_long_add(pt->leaves - before, &stat_pages);
	if (write && region->dirty)
		__set_bit((gpa - region->arg.gpa) >> PAGE_SHIFT, region->dirty);
}

/*
 * Fills in gpa's page and, where its owner has or can have them as well, the others of an aligned cluster: a fault costs
 * far more than a page. A logged region gets no page that was not asked for.
 */
static int region_fill(struct region *region, struct vcpu *vcpu, __u64 gpa, bool write_access)
{
	__u64 cluster = region->dirty ? PAGE_SIZE : FILL_PAGES * PAGE_SIZE;
	__u64 start = max(region->arg.gpa, gpa & ~(cluster - 1));
	__u64 end = min(region->arg.gpa + region->arg.size, (gpa & ~(cluster - 1)) + cluster);
	bool huge, write = !(region->arg.flags & UMBRA_REGION_READONLY) && (write_access || !region->dirty);
	unsigned long seq, addr = region->arg.addr - region->arg.gpa;
	int i, got, at = (gpa - start) >> PAGE_SHIFT, r = cache_fill(&vcpu->cache);
	struct page *page[FILL_PAGES];

	if (r)
		return r;
	seq = mmu_interval_read_begin(&region->notifier);
	got = get_user_pages_fast(addr + start, (end - start) >> PAGE_SHIFT, write ? FOLL_WRITE : 0, page);
	if (got <= at) {
		for (i = 0; i < got; i++)
			put_page(page[i]);
		start = gpa;
		at = 0;
		got = get_user_pages_fast(addr + gpa, 1, write ? FOLL_WRITE : 0, page);
	}
	if (got < 1 && write && !write_access) {
		write = false; /* the owner itself can only read here */
		got = get_user_pages_fast(addr + gpa, 1, 0, page);
	}
	if (got < 1)
		return got ?: -EFAULT;
	huge = backing_is_huge(region, addr + gpa, gpa, page[at], write ? FOLL_WRITE : 0);
	/* The guest's writes leave no trace in the owner's page tables. */
	for (i = 0; i < got; i++)
		if (write && !PageDirty(page[i]))
			set_page_dirty_lock(page[i]);
	spin_lock(&region->vm->pt_lock);
	if (mmu_interval_read_retry(&region->notifier, seq))
		r = -EAGAIN;
	else if (huge)
		region_map(region, vcpu, gpa, page[at], write, true);
	for (i = 0; i < got && !r && !huge; i++)
		if (is_zone_device_page(page[i]))
			r = -EFAULT;
		else
			region_map(region, vcpu, start + i * PAGE_SIZE, page[i], write, false);
	spin_unlock(&region->vm->pt_lock);
	for (i = 0; i < got; i++)
		put_page(page[i]);
	return r;
}

static bool is_first(struct vcpu *vcpu, const struct region *region, __u64 gpa)
{
	__u64 last = gpa | (PT_HUGE - 1);
	bool first;

	if (!(region->arg.flags & UMBRA_REGION_ANNOUNCE) || vcpu->announced == last)
		return false;
	spin_lock(&vcpu->vm->pt_lock);
	first = pt_untouched(&vcpu->vm->pt, gpa);
	spin_unlock(&vcpu->vm->pt_lock);
	if (first)
		vcpu->announced = last;
	return first;
}

int vm_fault(struct vcpu *vcpu)
{
	bool write = vcpu->fault_access & UMBRA_MEM_WRITE;
	__u64 gpa = vcpu->fault_gpa & PAGE_MASK;
	struct vm *vm = vcpu->vm;
	int at, r = -ENOENT;

	down_read(&vm->region_lock);
	at = range_find(vm->range, vm->regions, gpa);
	if (at >= 0 && is_first(vcpu, vm->region[at], gpa))
		vcpu->fault_access |= UMBRA_MEM_FIRST;
	else if (at >= 0 && !(write && vm->region[at]->arg.flags & UMBRA_REGION_READONLY))
		r = region_fill(vm->region[at], vcpu, gpa, write);
	up_read(&vm->region_lock);
	return r == -EAGAIN || r == -EINTR ? 0 : r; /* the loop looks for signals first */
}

int vm_mem_init(struct vm *vm)
{
	init_rwsem(&vm->region_lock);
	spin_lock_init(&vm->pt_lock);
	INIT_LIST_HEAD(&vm->dead_tables);
	INIT_LIST_HEAD(&vm->vcpus);
	vm->pt.format = shim_ops->pt_format;
	vm->pt.dead = pt_dead;
	vm->pt.root = (__u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	return vm->pt.root ? 0 : -ENOMEM;
}

/* The last user of the VM is gone. */
void vm_mem_destroy(struct vm *vm)
{
	while (vm->regions)
		region_remove(vm, vm->regions - 1);
	free_page((unsigned long)vm->pt.root);
}
