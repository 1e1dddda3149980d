// SPDX-License-Identifier: GPL-2.0-or-later
#include "emulate.h"

#include "fault.h"
#include "vm.h"

/*
 * The guest's page tables (SDM 3A 4). Other vCPUs change them meanwhile: each entry is read once, and its accessed and
 * dirty bits are set with a compare-and-swap against what was read; if that fails the walk starts again. Tables in
 * memory that is not RAM read as not present, as KVM has it; bits of entries in ROM stay as they are.
 */

#define CR0_WP (1ull << 16)
#define CR0_PG (1ull << 31)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)
#define RFLAGS_AC (1ull << 18)

#define PTE_P (1ull << 0)
#define PTE_W (1ull << 1)
#define PTE_U (1ull << 2)
#define PTE_A (1ull << 5)
#define PTE_D (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

#define PF_P (1 << 0)
#define PF_RSVD (1 << 3)

#define WALK_RETRIES 32
#define WALK_AGAIN 1

struct walk {
	struct vm *vm;
	const struct walk_regs *regs;
	uint32_t access;
	uint32_t width; /* of a guest-physical address, bits */
	bool long_mode, pae;
	uint32_t depth; /* entries so far */
	struct {
		uint64_t gpa, value;
		const void *hva;
	} entry[4];
	const void *hva;	 /* of the last entry read */
	bool writable, user, nx; /* combined over all entries */
};

static uint64_t bits_range(uint32_t high, uint32_t low) /* both included; none if high < low */
{
	return high < low ? 0 : (~0ull >> (63 - high)) & (~0ull << low);
}

/* false: no RAM there */
static bool entry_read(struct walk *w, uint64_t gpa, uint64_t *value)
{
	const void *hva = vm_gpa_to_hva(w->vm, gpa, w->pae ? 8 : 4, false);

	w->hva = hva;
	if (!hva)
		return false;
	if (w->pae)
		*value = __atomic_load_n((const uint64_t *)hva, __ATOMIC_RELAXED);
	else
		*value = __atomic_load_n((const uint32_t *)hva, __ATOMIC_RELAXED);
	return true;
}

/* false: the entry is no longer what was read */
static bool entry_set_bits(struct walk *w, uint64_t gpa, uint64_t value, uint64_t bits)
{
	uint32_t value32 = (uint32_t)value;
	void *hva;

	if ((value & bits) == bits)
		return true;
	FAULT_POINT(walk_mark, w->vm, &value, gpa);
	hva = vm_gpa_to_hva(w->vm, gpa, w->pae ? 8 : 4, true);
	if (!hva)
		return true;
	if (w->pae)
		return __atomic_compare_exchange_n((uint64_t *)hva, &value, value | bits, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	return __atomic_compare_exchange_n((uint32_t *)hva, &value32, value32 | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

/* Bits that must be 0 in a present entry (SDM 3A 4.3 to 4.5). level: 1 is the page table's. */
static uint64_t reserved_bits(const struct walk *w, uint32_t level, uint64_t value)
{
	uint32_t width = w->width;
	uint64_t reserved;
	bool leaf_big = level > 1 && (value & PTE_PS);

	if (!w->pae) {
		if (!leaf_big || !(w->regs->cr4 & CR4_PSE))
			return 0;
		return bits_range(21, width >= 40 ? 21 : width > 32 ? width - 19 : 13); /* PSE-36 */
	}
	reserved = bits_range(w->long_mode ? 51 : 62, width);
	if (!(w->regs->efer & EFER_NXE))
		reserved |= PTE_NX;
	if (level == 4)
		reserved |= PTE_PS;
	else if (leaf_big)
		reserved |= bits_range(level == 3 ? 29 : 20, 13);
	return reserved;
}

static uint32_t error_code(const struct walk *w, uint32_t bits)
{
	uint32_t code = bits | (w->access & (WALK_WRITE | WALK_USER));

	/* I only where fetches are told apart from reads (SDM 3A 4.7) */
	if ((w->access & WALK_FETCH) && ((w->regs->cr4 & CR4_SMEP) || (w->pae && (w->regs->efer & EFER_NXE))))
		code |= WALK_FETCH;
	return code;
}

/* SDM 3A 4.6.1 */
static bool access_allowed(const struct walk *w)
{
	const struct walk_regs *regs = w->regs;

	if ((w->access & WALK_FETCH) && w->nx)
		return false;
	if (w->access & WALK_USER)
		return w->user && (w->writable || !(w->access & WALK_WRITE));
	if (w->access & WALK_FETCH)
		return !(w->user && (regs->cr4 & CR4_SMEP));
	if (w->user && (regs->cr4 & CR4_SMAP) && (regs->implicit || !(regs->rflags & RFLAGS_AC)))
		return false;
	return !(w->access & WALK_WRITE) || w->writable || !(regs->cr0 & CR0_WP);
}

/* Reads and checks the entry of one level. 0, or -1 and *error. */
static int entry_load(struct walk *w, uint32_t level, uint64_t gpa, uint64_t *value, uint32_t *error)
{
	if (!entry_read(w, gpa, value) || !(*value & PTE_P)) {
		*error = error_code(w, 0);
		return -1;
	}
	if (*value & reserved_bits(w, level, *value)) {
		*error = error_code(w, PF_P | PF_RSVD);
		return -1;
	}
	FAULT_POINT(walk_entry, w->entry, value, level);
	w->entry[w->depth].gpa = gpa;
	w->entry[w->depth].value = *value;
	w->entry[w->depth].hva = w->hva;
	w->depth++;
	w->writable = w->writable && (*value & PTE_W);
	w->user = w->user && (*value & PTE_U);
	w->nx = w->nx || (w->pae && (w->regs->efer & EFER_NXE) && (*value & PTE_NX));
	return 0;
}

/* PAE's top level: registers, or 32 bytes of memory; no rights, no accessed bit (SDM 3A 4.4.1). */
static int pdpte_load(struct walk *w, uint64_t gva, uint64_t *value, uint32_t *error)
{
	uint32_t nr = gva >> 30 & 3;
	bool found = true;

	if (w->regs->pdpte)
		*value = w->regs->pdpte[nr];
	else
		found = entry_read(w, (w->regs->cr3 & 0xffffffe0) + nr * 8, value);
	if (!found || !(*value & PTE_P)) {
		*error = error_code(w, 0);
		return -1;
	}
	/*
	 * In memory the bit for "accessed" is let pass: the CPU that walks there (SVM) has checked the entry itself, and an
	 * emulated one (QEMU's TCG) sets it.
	 */
	if (*value & (bits_range(63, w->width) | bits_range(8, w->regs->pdpte ? 5 : 6) | bits_range(2, 1))) {
		*error = error_code(w, PF_P | PF_RSVD);
		return -1;
	}
	return 0;
}

static bool entry_is_leaf(const struct walk *w, uint32_t level, uint64_t value)
{
	if (level == 1)
		return true;
	return (value & PTE_PS) && (w->pae || (w->regs->cr4 & CR4_PSE));
}

static uint64_t leaf_address(const struct walk *w, uint64_t value, uint64_t gva, uint32_t shift)
{
	uint64_t base = value & (w->pae ? PTE_ADDR : 0xfffff000);

	if (!w->pae && shift == 22)
		base |= (value & bits_range(20, 13)) << 19; /* PSE-36: bits 39:32 */
	return (base & ~bits_range(shift - 1, 0)) | (gva & bits_range(shift - 1, 0));
}

/* Every entry on the way was used: accessed; a written page is dirty. */
static int entries_mark(struct walk *w)
{
	for (uint32_t i = 0; i < w->depth; i++) {
		uint64_t bits = PTE_A;

		if (i == w->depth - 1 && (w->access & WALK_WRITE))
			bits |= PTE_D;
		if (!entry_set_bits(w, w->entry[i].gpa, w->entry[i].value, bits))
			return WALK_AGAIN;
	}
	return 0;
}

/* ---- walks that were done ---- */

/* All that a walk's result depends on besides the entries; these bits lie apart. */
static uint32_t cached_control(const struct walk_regs *regs, uint32_t access)
{
	return access |
	       (uint32_t)((regs->cr0 & CR0_WP) | (regs->cr4 & (CR4_SMEP | CR4_SMAP)) | (regs->efer & EFER_NXE) |
			  (regs->rflags & RFLAGS_AC)) |
	       (uint32_t)regs->maxphyaddr << 24 | (regs->implicit ? 1 : 0);
}

static struct walk_cached *cached_at(const struct walk_regs *regs, uint64_t gva, uint32_t access)
{
	return &regs->cache->at[(gva >> 12 ^ (access & WALK_FETCH ? WALK_CACHE / 2 : 0)) % WALK_CACHE];
}

static uint64_t slots_generation(struct vm *vm)
{
	return atomic_load_explicit(&vm->slots, memory_order_acquire)->generation;
}

static bool cached_find(struct vm *vm, const struct walk_regs *regs, uint64_t gva, uint32_t access, uint64_t *gpa)
{
	const struct walk_cached *c = cached_at(regs, gva, access);
	bool same;

	if (!c->depth || c->page != gva >> 12 || c->cr3 != regs->cr3 || c->control != cached_control(regs, access))
		return false;
	vm_read_lock(vm);
	same = c->generation == slots_generation(vm);
	for (uint32_t i = 0; same && i < c->depth; i++)
		same = __atomic_load_n(c->entry[i], __ATOMIC_RELAXED) == c->value[i];
	vm_read_unlock(vm);
	*gpa = c->gpa | (gva & 0xfff);
	return same;
}

/* Inside the lock that the walk was done in. */
static void cached_put(const struct walk *w, uint64_t gva, uint64_t gpa)
{
	struct walk_cached *c = cached_at(w->regs, gva, w->access);

	c->page = gva >> 12;
	c->cr3 = w->regs->cr3;
	c->gpa = gpa & ~0xfffULL;
	c->generation = slots_generation(w->vm);
	c->control = cached_control(w->regs, w->access);
	c->depth = w->depth;
	for (uint32_t i = 0; i < w->depth; i++) {
		c->entry[i] = w->entry[i].hva;
		c->value[i] = w->entry[i].value | PTE_A;
	}
	if (w->access & WALK_WRITE)
		c->value[w->depth - 1] |= PTE_D;
}

static int walk_once(struct walk *w, uint64_t gva, uint64_t *gpa, uint32_t *error)
{
	uint64_t table = w->regs->cr3 & (w->long_mode ? PTE_ADDR : 0xfffff000), value;
	uint32_t index_bits = w->pae ? 9 : 10, level = w->long_mode ? 4 : 2, shift;

	w->depth = 0;
	w->writable = true;
	w->user = true;
	w->nx = false;
	if (w->pae && !w->long_mode) {
		if (pdpte_load(w, gva, &value, error))
			return -1;
		table = value & PTE_ADDR;
	}
	for (;; level--) {
		shift = 12 + (level - 1) * index_bits;
		table += (gva >> shift & ((1u << index_bits) - 1)) * (w->pae ? 8 : 4);
		if (entry_load(w, level, table, &value, error))
			return -1;
		if (entry_is_leaf(w, level, value))
			break;
		table = value & (w->pae ? PTE_ADDR : 0xfffff000);
	}
	if (!access_allowed(w)) {
		*error = error_code(w, PF_P);
		return -1;
	}
	*gpa = leaf_address(w, value, gva, shift);
	return entries_mark(w);
}

int walk_gva(struct vm *vm, const struct walk_regs *regs, uint64_t gva, uint32_t access, uint64_t *gpa, uint32_t *error)
{
	struct walk w = { .vm = vm, .regs = regs, .access = access };
	int ret = WALK_AGAIN;

	if (!(regs->cr0 & CR0_PG)) {
		*gpa = gva & 0xffffffff;
		return 0;
	}
	if (regs->cache && (regs->efer & EFER_LMA) && cached_find(vm, regs, gva, access, gpa))
		return 0;
	w.width = regs->maxphyaddr < 32 ? 32 : regs->maxphyaddr > 52 ? 52 : regs->maxphyaddr; /* the VMM's CPUID */
	w.long_mode = regs->efer & EFER_LMA;
	w.pae = w.long_mode || (regs->cr4 & CR4_PAE);
	if (!w.long_mode)
		gva &= 0xffffffff;
	vm_read_lock(vm);
	for (uint32_t i = 0; i < WALK_RETRIES && ret == WALK_AGAIN; i++)
		ret = walk_once(&w, gva, gpa, error);
	if (!ret && regs->cache && w.long_mode)
		cached_put(&w, gva, *gpa);
	vm_read_unlock(vm);
	if (ret != WALK_AGAIN)
		return ret;
	/* Someone keeps changing these entries: a spurious page fault, which any guest must cope with. */
	*error = error_code(&w, 0);
	return -1;
}
