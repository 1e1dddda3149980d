// SPDX-License-Identifier: GPL-2.0-or-later
/* Proofs about the tables of shim/svm.c, with the kernel's headers: fixed intercepts, bitmaps, the entries' bits. */
#include "kernel_model.h"

#include <linux/slab.h>

static unsigned long msrpm[1024], iopm[2048];
#undef __get_free_pages
#define __get_free_pages(flags, order) ((unsigned long)((order) == IOPM_ORDER ? iopm : msrpm))
#undef __pa
#define __pa(address) model_pa((const void *)(address))
static unsigned long model_pa(const void *address);
#undef pgtable_l5_enabled
#define pgtable_l5_enabled() false

#include "svm.c"

static __u64 root[512];
static unsigned long model_pa(const void *address)
{
	return address == iopm ? 0x1000 : address == msrpm ? 0x5000 : address == root ? 0x7000 : 0;
}

/*
 * PROOF svm-base: every fixed intercept is set, the bitmaps and the tables are the shim's, nested paging is on
 * BOUNDS: none: constants
 * CBMC: KERNEL --unwind 40
 * MUTATION svm.c: s/INTERCEPT_MSR_PROT,/INTERCEPT_IOIO_PROT,/
 * MUTATION svm.c: s/control->intercepts\[INTERCEPT_DR\] = ~0/control->intercepts[INTERCEPT_DR] = 0xff/
 * MUTATION svm.c: s/INTERCEPT_VMLOAD,/INTERCEPT_VMMCALL,/
 */
void svm_base_proof(void)
{
	static struct vmcb vmcb;
	static struct hw_vcpu hw;
	static struct vcpu vcpu;
	static struct vm vm;
	/* By number, APM 2 B.1: vector 3 from bit 0 INTR, vector 4 from bit 0 VMRUN. */
	static const u8 third[] = { 0, 1, 2, 3, 5, 15, 18, 19, 22, 26, 27, 28, 29, 30, 31 };
	static const u8 fourth[] = { 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14 };
	unsigned int at = nondet_u32();

	hw.vmcb = &vmcb;
	vcpu.hw = &hw;
	vcpu.vm = &vm;
	vm.pt.root = root;
	io_bitmap = iopm;
	msr_bitmap = msrpm;
	svm_write_constants(&vcpu);
	PROVE((vmcb.control.intercepts[0] & 0x01100110) == 0x01100110, "CR4 and CR8, read and written");
	PROVE(vmcb.control.intercepts[1] == ~0U, "all debug registers");
	PROVE(at >= sizeof(third) || (vmcb.control.intercepts[3] >> third[at] & 1), "vector 3");
	PROVE(at >= sizeof(fourth) || (vmcb.control.intercepts[4] >> fourth[at] & 1), "vector 4");
	PROVE(vmcb.control.iopm_base_pa == 0x1000 && vmcb.control.msrpm_base_pa == 0x5000, "the bitmaps");
	PROVE(vmcb.control.nested_ctl == 1 && vmcb.control.nested_cr3 == 0x7000, "nested paging, by the VM's tables");
}

/* FS_BASE, GS_BASE, KERNEL_GS_BASE; SYSENTER_CS, ESP, EIP. */
static bool may_pass(u32 msr)
{
	return (msr >= 0xc0000100 && msr <= 0xc0000102) || (msr >= 0x174 && msr <= 0x176);
}

/*
 * PROOF svm-msrs: six MSRs can be read and written without an exit; every other bit of the bitmap is 1
 * BOUNDS: none: every bit of the 8 KiB
 * CBMC: KERNEL --unwind 10
 * MUTATION svm.c: s/	MSR_FS_BASE,/	MSR_STAR,/
 * MUTATION svm.c: s/clear_bit\(bit \+ 1, msr_bitmap\)/clear_bit(bit + 2, msr_bitmap)/
 */
void svm_msrs_proof(void)
{
	unsigned int bit = nondet_u32(), at = bit / 2;
	u32 msr;

	ASSUME(bit < 8192 * 8);
	ASSUME(!setup_memory());
	/* Two bits an MSR, 2 KiB a range: 0, C0000000h, C0010000h, reserved. (APM 2 15.11) */
	msr = at % 8192 + (at / 8192 == 0 ? 0 : at / 8192 == 1 ? 0xc0000000 : 0xc0010000);
	PROVE((msrpm[bit / 64] >> bit % 64 & 1) == !(at < 16384 && may_pass(msr)), "exits, but for the list");
}

/*
 * PROOF svm-ports: every port access exits
 * BOUNDS: none: every bit of the 12 KiB that the CPU reads
 * CBMC: KERNEL --unwind 10
 * MUTATION svm.c: s/memset\(io_bitmap, 0xff, PAGE_SIZE << IOPM_ORDER\)/memset(io_bitmap, 0xff, PAGE_SIZE)/
 */
void svm_ports_proof(void)
{
	unsigned int word = nondet_u32();

	ASSUME(word < 12288 / 8);
	ASSUME(!setup_memory());
	PROVE(iopm[word] == ~0UL, "exits");
}

/*
 * PROOF svm-format: entries have what the proofs about pt.c assume, and the bits of APM 2 5.4 for a user's pages
 * BOUNDS: none: constants
 * CBMC: KERNEL
 * MUTATION svm.c: s/\.leaf = NPT_USER \| _PAGE_DIRTY/.leaf = NPT_USER | _PAGE_RW/
 */
void svm_format_proof(void)
{
	const struct pt_format *format = svm_ops.pt_format;

	PROVE(format->table == 0x27, "present, writable, user, accessed: the leaf decides");
	PROVE(format->leaf == 0x65, "present, user, accessed, dirty");
	PROVE(format->write == 2 && format->huge == 1 << 7, "write; huge");
}
