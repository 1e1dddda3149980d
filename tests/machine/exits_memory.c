// SPDX-License-Identifier: GPL-2.0-or-later
/* UMBRA_EXIT_MEM: where, how, and whose fault. */
#include "exits.h"

#include <sys/mman.h>
#include <unistd.h>

static void mem_case(struct guest *g, struct snippet code, uint64_t gva, uint64_t gpa, uint32_t access,
		     const char *what)
{
	struct umbra_run *run = g->vcpu.run;

	vcpu_load(&g->vcpu, MODE_LONG64, code);
	run->gpr[UMBRA_RDI] = gva;
	vcpu_expect(&g->vcpu, VMEXIT_MEM, what);
	check(g->vcpu.exit.mem.gpa == gpa, "%s: %s", what, vcpu_describe(&g->vcpu));
	check((g->vcpu.exit.mem.access &
	       (UMBRA_MEM_READ | UMBRA_MEM_WRITE | UMBRA_MEM_EXEC | UMBRA_MEM_FAULT | UMBRA_MEM_WALK)) == access,
	      "%s: %s", what, vcpu_describe(&g->vcpu));
	if (info()->hw == UMBRA_HW_VMX)
		check(g->vcpu.exit.mem.access & UMBRA_MEM_GVA && g->vcpu.exit.mem.gva == gva, "%s: %s", what,
		      vcpu_describe(&g->vcpu));
	check(!(run->exit.event.flags & UMBRA_EVENT_VALID), "%s: an event", what);
	if (!(access & UMBRA_MEM_EXEC))
		check(run->rip == GPA_CODE, "%s: RIP %llx", what, (unsigned long long)run->rip);
}

void exits_mem_hole(void)
{
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(load));
	mem_case(&g, SNIPPET(load), GPA_HOLE, GPA_HOLE, UMBRA_MEM_READ, "read");
	mem_case(&g, SNIPPET(load), GPA_HOLE + 0xff8, GPA_HOLE + 0xff8, UMBRA_MEM_READ, "read at a page's end");
	mem_case(&g, SNIPPET(store), GPA_HOLE + 8, GPA_HOLE + 8, UMBRA_MEM_WRITE, "write");
	mem_case(&g, SNIPPET(jump), GPA_HOLE + 0x10, GPA_HOLE + 0x10, UMBRA_MEM_EXEC, "jump");
	mem_case(&g, SNIPPET(load), GVA_ALIAS + GPA_HOLE + 0x18, GPA_HOLE + 0x18, UMBRA_MEM_READ,
		 "read by another address");
	mem_case(&g, SNIPPET(store), GVA_ALIAS + GUEST_MEM, GUEST_MEM, UMBRA_MEM_WRITE, "first byte behind the memory");
	/* The user side answers it: skip the load with a value. */
	mem_case(&g, SNIPPET(load), GPA_HOLE, GPA_HOLE, UMBRA_MEM_READ, "emulated read");
	g.vcpu.run->gpr[UMBRA_RBX] = 0x5555;
	g.vcpu.run->rip += SNIPPET(load).at[0].len;
	g.vcpu.run->dirty |= UMBRA_STATE_RIP;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "emulated read");
	check(g.vcpu.run->gpr[UMBRA_RBX] == 0x5555, "emulated read");
	/* Or puts a region there. */
	mem_case(&g, SNIPPET(store), GPA_HOLE, GPA_HOLE, UMBRA_MEM_WRITE, "before the region");
	{
		uint64_t *page = memory_new(UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE);

		need(!vm_region(&g.vm, 1, 0, GPA_HOLE, page, UMBRA_PAGE_SIZE), "region");
		g.vcpu.run->gpr[UMBRA_RBX] = 0x7777;
		vcpu_expect_io(&g.vcpu, PORT_DONE, "after the region");
		check(page[0] == 0x7777, "the write went to %llx", (unsigned long long)page[0]);
	}
}

/* The guest's own page tables lie in a hole. */
void exits_mem_walk(void)
{
	uint64_t entry = GPA_HOLE + 0x3000 + 7;
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(load));
	run = g.vcpu.run;
	memcpy(g.vm.mem + GPA_ROOT + 8, &entry, 8);
	run->gpr[UMBRA_RDI] = 0x8000001000;
	vcpu_expect(&g.vcpu, VMEXIT_MEM, "walk");
	check(g.vcpu.exit.mem.access & UMBRA_MEM_WALK && g.vcpu.exit.mem.gpa >> 12 == (GPA_HOLE + 0x3000) >> 12,
	      "walk: %s", vcpu_describe(&g.vcpu));
	check(g.vcpu.exit.mem.gva == 0x8000001000 || info()->hw != UMBRA_HW_VMX, "walk: gva %llx",
	      (unsigned long long)g.vcpu.exit.mem.gva);
	check(!(g.vcpu.exit.mem.access & UMBRA_MEM_EXEC), "walk: %s", vcpu_describe(&g.vcpu));
}

void exits_mem_readonly(void)
{
	uint64_t *page = memory_new(2 * UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE);
	struct guest g;

	page[0] = 0x1111;
	guest_new(&g, MODE_LONG64, SNIPPET(load));
	need(!vm_region(&g.vm, 1, UMBRA_REGION_READONLY, GPA_HOLE, page, 2 * UMBRA_PAGE_SIZE), "region");
	mem_case(&g, SNIPPET(store), GPA_HOLE + 0x1000, GPA_HOLE + 0x1000, UMBRA_MEM_WRITE, "write before any read");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "read");
	check(g.vcpu.run->gpr[UMBRA_RBX] == 0x1111, "read %llx", (unsigned long long)g.vcpu.run->gpr[UMBRA_RBX]);
	mem_case(&g, SNIPPET(store), GPA_HOLE, GPA_HOLE, UMBRA_MEM_WRITE, "write");
	check(page[0] == 0x1111, "the write happened");
	page[0] = 0x2222; /* the owner may */
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
	g.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "read again");
	check(g.vcpu.run->gpr[UMBRA_RBX] == 0x2222, "read %llx", (unsigned long long)g.vcpu.run->gpr[UMBRA_RBX]);
}

/* A region covers it, the owner's memory is not there or not allowed. */
void exits_mem_fault(void)
{
	unsigned char *mem = memory_new(4 * UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE);
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(load));
	run = g.vcpu.run;
	mem[0] = 1;
	munmap(mem + UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE);
	mprotect(mem + 2 * UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE, PROT_NONE);
	mprotect(mem + 3 * UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE, PROT_READ);
	need(!vm_region(&g.vm, 1, 0, GPA_HOLE, mem, 4 * UMBRA_PAGE_SIZE), "region");
	mem_case(&g, SNIPPET(load), GPA_HOLE + 0x1000, GPA_HOLE + 0x1000, UMBRA_MEM_READ | UMBRA_MEM_FAULT,
		 "not mapped");
	check(g.vcpu.exit.mem.error == -EFAULT, "not mapped: error %d", g.vcpu.exit.mem.error);
	mem_case(&g, SNIPPET(load), GPA_HOLE + 0x2000, GPA_HOLE + 0x2000, UMBRA_MEM_READ | UMBRA_MEM_FAULT,
		 "PROT_NONE");
	check(g.vcpu.exit.mem.error == -EFAULT, "PROT_NONE: error %d", g.vcpu.exit.mem.error);
	mem_case(&g, SNIPPET(store), GPA_HOLE + 0x3000, GPA_HOLE + 0x3000, UMBRA_MEM_WRITE | UMBRA_MEM_FAULT,
		 "PROT_READ");
	check(g.vcpu.exit.mem.error == -EFAULT, "PROT_READ: error %d", g.vcpu.exit.mem.error);
	mem_case(&g, SNIPPET(jump), GPA_HOLE + 0x2010, GPA_HOLE + 0x2010, UMBRA_MEM_EXEC | UMBRA_MEM_FAULT,
		 "jump to PROT_NONE");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
	run->gpr[UMBRA_RDI] = GPA_HOLE + 0x3000;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "read of PROT_READ");
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(store));
	run->gpr[UMBRA_RDI] = GPA_HOLE;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "the page beside");
	/* Given back, it works: nothing remembers the fault. */
	mprotect(mem + 2 * UMBRA_PAGE_SIZE, 2 * UMBRA_PAGE_SIZE, PROT_READ | PROT_WRITE);
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(store));
	run->gpr[UMBRA_RDI] = GPA_HOLE + 0x2000;
	run->gpr[UMBRA_RBX] = 0x99;
	vcpu_expect_io(&g.vcpu, PORT_DONE, "PROT_NONE lifted");
	check(mem[2 * UMBRA_PAGE_SIZE] == 0x99, "PROT_NONE lifted");
	/* Memory of devices and other things without ordinary pages does not exist here. */
	{
		int fd = memfd_create("short", 0); /* mapped, but past the file's end: SIGBUS for the owner */
		void *past = mmap(NULL, UMBRA_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		need(fd >= 0 && past != MAP_FAILED, "memfd");
		need(!vm_region(&g.vm, 2, 0, GPA_HOLE + 0x100000, past, UMBRA_PAGE_SIZE), "region");
		mem_case(&g, SNIPPET(load), GPA_HOLE + 0x100000, GPA_HOLE + 0x100000, UMBRA_MEM_READ | UMBRA_MEM_FAULT,
			 "past the end of a file");
		need(!ftruncate(fd, UMBRA_PAGE_SIZE), "ftruncate");
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
		run->gpr[UMBRA_RDI] = GPA_HOLE + 0x100000;
		vcpu_expect_io(&g.vcpu, PORT_DONE, "the file grew");
	}
}

/* Guest tables changed behind the guest's back are seen after UMBRA_RUN_FLUSH_TLB. */
void exits_flush_tlb(void)
{
	struct guest g;
	struct umbra_run *run;
	uint64_t entry = 0 | 0x87, value = 0xaaaa;

	guest_new(&g, MODE_LONG64, SNIPPET(load));
	run = g.vcpu.run;
	memcpy(g.vm.mem + GPA_DATA, &value, 8);
	/* gva 1 GiB + 2 MiB: 2 MiB page 1 at first, then 0 */
	for (int round = 0; round < 4; round++) {
		uint64_t other = round & 1 ? entry : 1ULL << 21 | 0x87;

		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(load));
		memcpy(g.vm.mem + GPA_PD + 8, &other, 8);
		run->flags = UMBRA_RUN_FLUSH_TLB;
		run->gpr[UMBRA_RDI] = GVA_ALIAS + (1 << 21) + GPA_DATA;
		vcpu_exit(&g.vcpu);
		check(!run->flags, "flags %x are not cleared", run->flags);
		if (round & 1)
			check(g.vcpu.exit.reason == VMEXIT_IO && run->gpr[UMBRA_RBX] == 0xaaaa,
			      "round %d: %s, rbx %llx", round, vcpu_describe(&g.vcpu),
			      (unsigned long long)run->gpr[UMBRA_RBX]);
		else
			check(g.vcpu.exit.reason == VMEXIT_MEM && g.vcpu.exit.mem.gpa == (1 << 21) + GPA_DATA,
			      "round %d: %s", round, vcpu_describe(&g.vcpu));
	}
}
