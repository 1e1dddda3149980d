// SPDX-License-Identifier: GPL-2.0-or-later
/* Proofs about the tables of shim/vmx.c, with the kernel's headers: the base of the controls, the MSR bitmap, the entries. */
#include "kernel_model.h"

#include <linux/slab.h>

static unsigned long bitmap[512];
#undef get_zeroed_page
#define get_zeroed_page(flags) ((unsigned long)bitmap)

#include "vmx.c"

int shim_refuse(const char *why, const char *what)
{
	return -EOPNOTSUPP;
}

/*
 * PROOF vmx-base: where the module loads, every mandatory control is in the base, as the CPU allows it
 * BOUNDS: any capability MSRs, any features
 * CBMC: KERNEL --unwind 10
 * MUTATION vmx.c: s/ \| CPU_BASED_UNCOND_IO_EXITING//
 * MUTATION vmx.c: s/CPU_BASED_MOV_DR_EXITING \| //
 * MUTATION vmx.c: s/if \(\(\*controls\[i\]\.result & controls\[i\]\.need\) != controls\[i\]\.need\)/if (0)/
 * MUTATION vmx.c: s/vmx\.procbased \|= CPU_BASED_CR8_LOAD_EXITING \| CPU_BASED_CR8_STORE_EXITING/vmx.procbased |= CPU_BASED_CR8_LOAD_EXITING/
 */
void vmx_base_proof(void)
{
	struct vmx_config any;

	vmx = any;
	ASSUME(!setup_controls());
	/* Bits by number: SDM 3C 25.6.1, 25.6.2, 25.7.1, 25.8.1. */
	PROVE((vmx.pinbased & 0x69) == 0x69, "external interrupts, NMIs, virtual NMIs, the timer");
	PROVE(vmx.procbased >> 24 & 1, "every port access exits");
	PROVE((vmx.procbased >> 28 & 1) && (vmx.procbased >> 31 & 1), "MSR bitmaps, secondary controls");
	PROVE((vmx.procbased >> 10 & 1) && (vmx.procbased >> 29 & 1) && (vmx.procbased >> 23 & 1) &&
		      (vmx.procbased >> 11 & 1),
	      "MWAIT, MONITOR, MOV DR and RDPMC exit");
	PROVE((vmx.procbased >> 21 & 1) || ((vmx.procbased >> 19 & 1) && (vmx.procbased >> 20 & 1)),
	      "CR8 is the virtual APIC's, or exits");
	PROVE((vmx.procbased2 & (1 << 1 | 1 << 5 | 1 << 7 | 1 << 6)) == (1 << 1 | 1 << 5 | 1 << 7 | 1 << 6),
	      "EPT, VPID, unrestricted guest, WBINVD exits");
	PROVE(vmx.exit >> 9 & 1, "the host is 64-bit");
	PROVE((vmx.exit >> 21 & 1) && (vmx.exit >> 19 & 1), "the host's EFER and PAT are loaded");
	PROVE((vmx.entry >> 15 & 1) && (vmx.entry >> 14 & 1) && (vmx.entry >> 2 & 1),
	      "the guest's, and its debug controls");
	PROVE(!vmx.has_perf || ((vmx.exit >> 12 & 1) && (vmx.entry >> 13 & 1)),
	      "counters are switched both ways or not at all");
}

/* MSRs that a guest may reach without an exit, by number. (SDM 4, table 2-2) */
static bool may_pass(u32 msr, bool write)
{
	switch (msr) {
	case 0xc0000100: /* FS_BASE */
	case 0xc0000101: /* GS_BASE */
	case 0xc0000102: /* KERNEL_GS_BASE */
	case 0x174:	 /* SYSENTER_CS */
	case 0x175:	 /* SYSENTER_ESP */
	case 0x176:	 /* SYSENTER_EIP */
		return true;
	case 0x10: /* TSC, with the offset */
		return !write;
	}
	return false;
}

/*
 * PROOF vmx-msrs: seven MSRs can be read without an exit and six written; every other bit of the bitmap is 1
 * BOUNDS: none: every bit of the page
 * CBMC: KERNEL --unwind 10
 * MUTATION vmx.c: s/\{ MSR_IA32_TSC, false \}/{ MSR_IA32_TSC, true }/
 * MUTATION vmx.c: s/\{ MSR_GS_BASE, true \}/{ MSR_LSTAR, true }/
 * MUTATION vmx.c: s/memset\(msr_bitmap, 0xff, PAGE_SIZE\)/memset(msr_bitmap, 0xff, PAGE_SIZE - 8)/
 */
void vmx_msrs_proof(void)
{
	unsigned int bit = nondet_u32();
	u32 msr;

	ASSUME(bit < 4096 * 8);
	ASSUME(!setup_memory());
	/* Four bitmaps of 1 KiB: read low, read high, write low, write high. (SDM 3C 25.6.9) */
	msr = (bit % 8192) + (bit / 8192 % 2 ? 0xc0000000 : 0);
	PROVE((bitmap[bit / 64] >> bit % 64 & 1) == !may_pass(msr, bit / 8192 >= 2), "exits, but for the list");
}

/*
 * PROOF vmx-format: entries have what the proofs about pt.c assume, and the bits of SDM 3C 29.3.2 for write-back memory
 * BOUNDS: none: constants
 * CBMC: KERNEL
 * MUTATION vmx.c: s/6 << VMX_EPT_MT_EPTE_SHIFT/0 << VMX_EPT_MT_EPTE_SHIFT/
 * MUTATION vmx.c: s/\.leaf = VMX_EPT_READABLE_MASK \|/.leaf = VMX_EPT_RWX_MASK |/
 */
void vmx_format_proof(void)
{
	const struct pt_format *format = vmx_ops.pt_format;

	PROVE(format->table == 7, "read, write, execute: the leaf decides");
	PROVE(format->leaf == (1 | 4 | 1 << 6 | 6 << 3), "read, execute, write-back, the guest's PAT ignored");
	PROVE(format->write == 2 && format->huge == 1 << 7, "write; huge");
}
