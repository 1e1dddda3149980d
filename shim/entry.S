/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>

#define HOST_RSP 0x6c14		  /* VMCS field (SDM 3D B) */
#define VMCB_INT_STATE 0x68	  /* struct vmcb (APM 2 B): control.int_state */
#define VMCB_KERNEL_GS_BASE 0x620 /* save.kernel_gs_base */

/* umbra_run.gpr[] */
#define GPR(n) (8 * (n))(%rax)

/*
 * All but RAX, which holds their address, and RSP; RSP's slot is skipped. They are loaded from and stored to the shared run
 * page itself: no value of theirs can harm the host, and each is read once.
 */
.macro guest_gprs action
	.set	slot, 1
	.irp	reg, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	.ifnc	\reg, rsp
	.ifc	\action, load
	mov	GPR(slot), %\reg
	.else
	mov	%\reg, GPR(slot)
	.endif
	.endif
	.set	slot, slot + 1
	.endr
.endm

.macro push_saved
	.irp	reg, rbp, r15, r14, r13, r12, rbx
	push	%\reg
	.endr
.endm

.macro pop_saved
	.irp	reg, rbx, r12, r13, r14, r15, rbp
	pop	%\reg
	.endr
.endm

/* No speculation with the guest's values, its return addresses or its branch history. */
.macro clear_guest keep
	.irp	reg, eax, ebx, ecx, edx, ebp, esi, edi, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	.ifnc	\reg, \keep
	xor	%\reg, %\reg
	.endif
	.endr
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE
.endm

	.section .rodata
verw_selector:
	.word __KERNEL_DS

	.text

/*
 * int vmx_enter_guest(struct vcpu *vcpu, __u64 *gpr, unsigned int flags)
 */
SYM_FUNC_START(vmx_enter_guest)
	push_saved
	push	%rsi

	/* vcpu->host_rsp remembers what the VMCS holds. */
	cmp	%rsp, (%rdi)
	je	1f
	mov	%rsp, (%rdi)
	mov	$HOST_RSP, %eax
	vmwrite	%rsp, %rax
1:
	/* MDS and its kin: nothing but the guest's own registers is loaded after this. */
	test	$2, %edx
	jz	2f
	verw	verw_selector(%rip)
2:
	bt	$0, %edx	/* CF: launched; MOV leaves it alone */
	mov	%rsi, %rax
	guest_gprs load
	mov	GPR(0), %rax
	UNWIND_HINT_SAVE
	jnc	4f
3:	vmresume
	jmp	5f
4:	vmlaunch
	/* Refused, or VMX was switched off by an emergency reboot: rsp is still ours. */
5:	mov	$1, %ebx
	jmp	6f
	_ASM_EXTABLE(3b, 5b)
	_ASM_EXTABLE(4b, 5b)

SYM_INNER_LABEL_ALIGN(vmx_exit_point, SYM_L_GLOBAL)
	UNWIND_HINT_RESTORE
	ENDBR
	push	%rax
	mov	8(%rsp), %rax
	guest_gprs store
	pop	GPR(0)
	xor	%ebx, %ebx

6:	clear_guest ebx
	/* IBRS must be written again after an exit, before the first return. */
	ALTERNATIVE "jmp 7f", "", X86_FEATURE_KERNEL_IBRS
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	mov	PER_CPU_VAR(x86_spec_ctrl_current), %rax
	mov	%rax, %rdx
	shr	$32, %rdx
	wrmsr
7:	CLEAR_BRANCH_HISTORY_VMEXIT

	mov	%ebx, %eax
	pop	%rsi
	pop_saved
	RET
SYM_FUNC_END(vmx_enter_guest)

/*
 * void svm_enter_guest(__u64 *gpr, unsigned long vmcb_pa, unsigned long host_pa, struct vmcb *vmcb, struct vmcb *host)
 * VMRUN switches RAX. Between CLGI and STGI nothing interrupts, for FS, GS and TR are the guest's.
 */
SYM_FUNC_START(svm_enter_guest)
	push_saved
	push	%rcx
	push	%r8
	push	%rdx
	push	%rsi
	push	%rdi

	mov	%rdx, %rax
	vmsave	%rax
	/* The guest's KERNEL_GS_BASE is the calling thread's user GS base. */
	mov	VMCB_KERNEL_GS_BASE(%r8), %r9
	mov	%r9, VMCB_KERNEL_GS_BASE(%rcx)
	clgi
	/* A host interrupt makes the guest exit; it is taken when the caller lets it. */
	sti
	btl	$0, VMCB_INT_STATE(%rcx) /* to CF, which nothing before VMRUN changes */
	mov	%rdi, %rax
	guest_gprs load
	mov	8(%rsp), %rax
	vmload	%rax
	/* MDS's kin (TSA): nothing but the guest's own registers is loaded after this. */
	VM_CLEAR_CPU_BUFFERS
	/* QEMU's emulation takes the guest's interrupt shadow from an STI right here, instead of from the VMCB. */
	jnc	1f
	sti
1:	vmrun	%rax
2:	cli
	_ASM_EXTABLE(1b, 2b)

	vmsave	%rax
	mov	(%rsp), %rax
	guest_gprs store
	mov	32(%rsp), %rcx
	mov	24(%rsp), %r8
	mov	VMCB_KERNEL_GS_BASE(%rcx), %r9
	mov	%r9, VMCB_KERNEL_GS_BASE(%r8)
	mov	16(%rsp), %rax
	vmload	%rax

	clear_guest
	stgi
	UNTRAIN_RET
	ALTERNATIVE "", "call entry_ibpb", X86_FEATURE_IBPB_ON_VMEXIT

	add	$40, %rsp
	pop_saved
	RET
SYM_FUNC_END(svm_enter_guest)
