/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>

#define HOST_RSP 0x6c14

/* umbra_run.gpr[] */
#define GPR(n) (8 * (n))(%rax)

	.section .rodata
verw_selector:
	.word __KERNEL_DS

	.text

/*
 * int vmx_enter_guest(struct vcpu *vcpu, __u64 *gpr, unsigned int flags)
 * The guest's registers are loaded from and stored to the shared run page itself: no value of theirs can harm the
 * host, each is read once, and RSP (slot 4) is not among them.
 */
SYM_FUNC_START(vmx_enter_guest)
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
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
	mov	GPR(1), %rcx
	mov	GPR(2), %rdx
	mov	GPR(3), %rbx
	mov	GPR(5), %rbp
	mov	GPR(6), %rsi
	mov	GPR(7), %rdi
	mov	GPR(8), %r8
	mov	GPR(9), %r9
	mov	GPR(10), %r10
	mov	GPR(11), %r11
	mov	GPR(12), %r12
	mov	GPR(13), %r13
	mov	GPR(14), %r14
	mov	GPR(15), %r15
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
	mov	%rcx, GPR(1)
	mov	%rdx, GPR(2)
	mov	%rbx, GPR(3)
	mov	%rbp, GPR(5)
	mov	%rsi, GPR(6)
	mov	%rdi, GPR(7)
	mov	%r8, GPR(8)
	mov	%r9, GPR(9)
	mov	%r10, GPR(10)
	mov	%r11, GPR(11)
	mov	%r12, GPR(12)
	mov	%r13, GPR(13)
	mov	%r14, GPR(14)
	mov	%r15, GPR(15)
	pop	GPR(0)
	xor	%ebx, %ebx

6:	/* No speculation with the guest's values, its return addresses or its branch history. */
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%ebp, %ebp
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE
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
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
SYM_FUNC_END(vmx_enter_guest)
