// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ABI's layout, in numbers: a change of the header that moves, resizes or drops a field does not compile. The
 * offsets leave no gap, so there is no padding that could carry a kernel's old memory out.
 */
#include "umbra_abi.h"

#define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), "sizeof struct " #type)
#define AT(type, field, offset, size)                                        \
	_Static_assert(__builtin_offsetof(struct type, field) == (offset) && \
			       sizeof(((struct type *)0)->field) == (size),  \
		       #type "." #field)

SIZE(umbra_info, 128);
AT(umbra_info, abi_version, 0, 4);
AT(umbra_info, hw, 4, 4);
AT(umbra_info, features, 8, 8);
AT(umbra_info, guest_xcr0, 16, 8);
AT(umbra_info, guest_cr0, 24, 8);
AT(umbra_info, guest_cr4, 32, 8);
AT(umbra_info, guest_efer, 40, 8);
AT(umbra_info, tsc_khz, 48, 4);
AT(umbra_info, gpa_bits, 52, 4);
AT(umbra_info, run_size, 56, 4);
AT(umbra_info, vapic_offset, 60, 4);
AT(umbra_info, reserved, 64, 64);

SIZE(umbra_create_vm, 32);
AT(umbra_create_vm, flags, 0, 8);
AT(umbra_create_vm, reserved, 8, 24);

SIZE(umbra_region, 40);
AT(umbra_region, slot, 0, 4);
AT(umbra_region, reserved, 4, 4);
AT(umbra_region, flags, 8, 8);
AT(umbra_region, gpa, 16, 8);
AT(umbra_region, addr, 24, 8);
AT(umbra_region, size, 32, 8);

SIZE(umbra_dirty, 32);
AT(umbra_dirty, slot, 0, 4);
AT(umbra_dirty, reserved, 4, 4);
AT(umbra_dirty, first_page, 8, 8);
AT(umbra_dirty, pages, 16, 8);
AT(umbra_dirty, bitmap, 24, 8);

SIZE(umbra_create_vcpu, 32);
AT(umbra_create_vcpu, flags, 0, 8);
AT(umbra_create_vcpu, reserved, 8, 24);

SIZE(umbra_segment, 16);
AT(umbra_segment, selector, 0, 2);
AT(umbra_segment, attr, 2, 2);
AT(umbra_segment, limit, 4, 4);
AT(umbra_segment, base, 8, 8);

SIZE(umbra_msrs, 72);
AT(umbra_msrs, star, 0, 8);
AT(umbra_msrs, lstar, 8, 8);
AT(umbra_msrs, cstar, 16, 8);
AT(umbra_msrs, fmask, 24, 8);
AT(umbra_msrs, sysenter_cs, 32, 8);
AT(umbra_msrs, sysenter_esp, 40, 8);
AT(umbra_msrs, sysenter_eip, 48, 8);
AT(umbra_msrs, pat, 56, 8);
AT(umbra_msrs, tsc_aux, 64, 8);

SIZE(umbra_event, 8);
AT(umbra_event, vector, 0, 1);
AT(umbra_event, type, 1, 1);
AT(umbra_event, flags, 2, 1);
AT(umbra_event, insn_len, 3, 1);
AT(umbra_event, error_code, 4, 4);

SIZE(umbra_exit, 80);
AT(umbra_exit, reason, 0, 4);
AT(umbra_exit, rule, 4, 4);
AT(umbra_exit, valid, 8, 8);
AT(umbra_exit, event, 16, 8);
AT(umbra_exit, hw_reason, 24, 4);
AT(umbra_exit, insn_len, 28, 4);
AT(umbra_exit, hw_info, 32, 8);
AT(umbra_exit, hw_info2, 40, 8);
AT(umbra_exit, hw_detail, 48, 4);
AT(umbra_exit, hw_error_code, 52, 4);
AT(umbra_exit, gpa, 56, 8);
AT(umbra_exit, gva, 64, 8);
AT(umbra_exit, access, 72, 4);
AT(umbra_exit, error, 76, 4);

SIZE(umbra_dtable, 16);
AT(umbra_dtable, base, 0, 8);
AT(umbra_dtable, limit, 8, 4);
AT(umbra_dtable, reserved, 12, 4);

SIZE(umbra_run, 672);
AT(umbra_run, dirty, 0, 8);
AT(umbra_run, want, 8, 8);
AT(umbra_run, want_emul, 16, 8);
AT(umbra_run, intercepts, 24, 4);
AT(umbra_run, exceptions, 28, 4);
AT(umbra_run, flags, 32, 4);
AT(umbra_run, tpr_threshold, 36, 4);
AT(umbra_run, tsc_offset, 40, 8);
AT(umbra_run, deadline_tsc, 48, 8);
AT(umbra_run, inject, 56, 8);
AT(umbra_run, reserved, 64, 16);
AT(umbra_run, gpr, 80, 128);
AT(umbra_run, cr2, 208, 8);
AT(umbra_run, rip, 216, 8);
AT(umbra_run, rflags, 224, 8);
AT(umbra_run, intr_shadow, 232, 4);
AT(umbra_run, reserved2, 236, 4);
AT(umbra_run, pending_dbg, 240, 8);
AT(umbra_run, seg, 248, 128);
AT(umbra_run, gdtr, 376, 16);
AT(umbra_run, idtr, 392, 16);
AT(umbra_run, cr0, 408, 8);
AT(umbra_run, cr3, 416, 8);
AT(umbra_run, cr4, 424, 8);
AT(umbra_run, efer, 432, 8);
AT(umbra_run, xcr0, 440, 8);
AT(umbra_run, pdpte, 448, 32);
AT(umbra_run, dr, 480, 32);
AT(umbra_run, dr7, 512, 8);
AT(umbra_run, msr, 520, 72);
AT(umbra_run, exit, 592, 80);

/* Call numbers carry the size of their structure. */
_Static_assert(UMBRA_INFO == 0x8080b500u, "UMBRA_INFO");
_Static_assert(UMBRA_CREATE_VM == 0x4020b501u, "UMBRA_CREATE_VM");
_Static_assert(UMBRA_VM_SET_REGION == 0x4028b510u, "UMBRA_VM_SET_REGION");
_Static_assert(UMBRA_VM_GET_DIRTY == 0x4020b511u, "UMBRA_VM_GET_DIRTY");
_Static_assert(UMBRA_VM_CREATE_VCPU == 0x4020b512u, "UMBRA_VM_CREATE_VCPU");
_Static_assert(UMBRA_VCPU_RUN == 0xb520u, "UMBRA_VCPU_RUN");
_Static_assert(UMBRA_VCPU_KICK == 0xb521u, "UMBRA_VCPU_KICK");

/* Numbers that both sides store. */
#define IS(name, value) _Static_assert((name) == (value), #name)
IS(UMBRA_ABI_VERSION, 1);
IS(UMBRA_MAX_VCPUS, 0x40);
IS(UMBRA_MAX_REGIONS, 0x200);
IS(UMBRA_MAX_REGION_SIZE, 0x10000000000);
IS(UMBRA_PAGE_SIZE, 0x1000);
IS(UMBRA_HW_VMX, 1);
IS(UMBRA_HW_SVM, 2);
IS(UMBRA_FEAT_TPR_SHADOW, 1);
IS(UMBRA_FEAT_RDTSCP, 2);
IS(UMBRA_FEAT_INVPCID, 4);
IS(UMBRA_FEAT_HUGE_2M, 8);
IS(UMBRA_REGION_READONLY, 1);
IS(UMBRA_REGION_LOG_DIRTY, 2);
IS(UMBRA_REGION_ANNOUNCE, 4);
IS(UMBRA_STATE_RIP, 1);
IS(UMBRA_STATE_INTR, 2);
IS(UMBRA_STATE_SEG_CODE, 4);
IS(UMBRA_STATE_SEG_DATA, 8);
IS(UMBRA_STATE_SEG_SYS, 0x10);
IS(UMBRA_STATE_CR, 0x20);
IS(UMBRA_STATE_DR, 0x40);
IS(UMBRA_STATE_MSR, 0x80);
IS(UMBRA_STATE_ALL, 0xff);
IS(UMBRA_RAX, 0);
IS(UMBRA_RCX, 1);
IS(UMBRA_RDX, 2);
IS(UMBRA_RBX, 3);
IS(UMBRA_RSP, 4);
IS(UMBRA_RBP, 5);
IS(UMBRA_RSI, 6);
IS(UMBRA_RDI, 7);
IS(UMBRA_GPRS, 0x10);
IS(UMBRA_ES, 0);
IS(UMBRA_CS, 1);
IS(UMBRA_SS, 2);
IS(UMBRA_DS, 3);
IS(UMBRA_FS, 4);
IS(UMBRA_GS, 5);
IS(UMBRA_LDTR, 6);
IS(UMBRA_TR, 7);
IS(UMBRA_SEGS, 8);
IS(UMBRA_EVENT_VALID, 1);
IS(UMBRA_EVENT_ERROR_CODE, 2);
IS(UMBRA_EVENT_INTR, 0);
IS(UMBRA_EVENT_NMI, 2);
IS(UMBRA_EVENT_EXC, 3);
IS(UMBRA_EVENT_SOFT_INT, 4);
IS(UMBRA_EVENT_ICEBP, 5);
IS(UMBRA_EVENT_SOFT_EXC, 6);
IS(UMBRA_SHADOW_STI, 1);
IS(UMBRA_SHADOW_MOV_SS, 2);
IS(UMBRA_SHADOW_NMI, 8);
IS(UMBRA_ICPT_INTR_WINDOW, 1);
IS(UMBRA_ICPT_NMI_WINDOW, 2);
IS(UMBRA_ICPT_HLT, 4);
IS(UMBRA_ICPT_PAUSE, 8);
IS(UMBRA_ICPT_ALL, 0xf);
IS(UMBRA_RUN_FLUSH_TLB, 1);
IS(UMBRA_RUN_NO_ENTRY, 2);
IS(UMBRA_EXIT_NONE, 0);
IS(UMBRA_EXIT_INTERRUPTED, 1);
IS(UMBRA_EXIT_DEADLINE, 2);
IS(UMBRA_EXIT_MEM, 3);
IS(UMBRA_EXIT_HARDWARE, 4);
IS(UMBRA_EXIT_BAD_STATE, 5);
IS(UMBRA_MEM_READ, 1);
IS(UMBRA_MEM_WRITE, 2);
IS(UMBRA_MEM_EXEC, 4);
IS(UMBRA_MEM_GVA, 8);
IS(UMBRA_MEM_WALK, 0x10);
IS(UMBRA_MEM_FAULT, 0x20);
IS(UMBRA_BAD_HARDWARE, 1);
IS(UMBRA_BAD_ENTRY, 2);
IS(UMBRA_BAD_CONTROL, 3);
IS(UMBRA_BAD_EVENT, 4);
IS(UMBRA_BAD_CR0, 5);
IS(UMBRA_BAD_CR4, 6);
IS(UMBRA_BAD_EFER, 7);
IS(UMBRA_BAD_XCR0, 8);
IS(UMBRA_BAD_MSR, 9);

SIZE(umbra_answer, 32);
AT(umbra_answer, kind, 0, 4);
AT(umbra_answer, leaf, 4, 4);
AT(umbra_answer, index, 8, 4);
AT(umbra_answer, index_mask, 12, 4);
AT(umbra_answer, reg, 16, 16);
IS(UMBRA_ANSWERS, 64);
IS(UMBRA_ANSWERS_OFFSET, 2048);
IS(UMBRA_ANSWER_NONE, 0);
IS(UMBRA_ANSWER_CPUID, 1);
IS(UMBRA_ANSWER_RDMSR, 2);
IS(UMBRA_ANSWER_SLOT(0x80000001u), 0x21);
/* The shim indexes the table with a guest's leaf: run area and table share one page, and end with it. */
_Static_assert(sizeof(struct umbra_run) <= UMBRA_ANSWERS_OFFSET, "the run area reaches into the answers");
_Static_assert(UMBRA_ANSWERS_OFFSET + UMBRA_ANSWERS * sizeof(struct umbra_answer) <= UMBRA_PAGE_SIZE,
	       "the answers reach past the page");
