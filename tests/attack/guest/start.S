/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hostile guest kernel: start by PVH, long mode, traps, a second CPU. */

#define CODE64 0x08
#define DATA 0x10
#define CODE32 0x18

	.section .note.pvh, "a", @note
	.align 4
	.long 4, 8, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad start32

	.text
	.code32
	.globl start32
start32:
	cli
	cld
	mov	%ebx, boot_info
	lgdtl	gdt_pointer
	mov	$DATA, %ecx
	mov	%ecx, %ds
	mov	%ecx, %es
	mov	%ecx, %ss
	mov	$stack_top, %esp
	/* 0 to 4 GiB, 2 MiB pages, user may touch all */
	mov	$pd, %edi
	mov	$0x87, %eax
1:	mov	%eax, (%edi)
	movl	$0, 4(%edi)
	add	$8, %edi
	add	$0x200000, %eax
	jnc	1b
	mov	$pdpt, %edi
	mov	$pd + 7, %eax
	mov	$4, %ecx
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x1000, %eax
	loop	1b
	movl	$pdpt + 7, pml4
	call	long_mode
	ljmp	$CODE64, $start64

long_mode:
	mov	%cr4, %eax
	or	$0x620, %eax		/* PAE, SSE */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x901, %eax
	wrmsr
	mov	%cr0, %eax
	and	$~0xc, %eax
	or	$0x80000023, %eax
	mov	%eax, %cr0
	ret

	.code64
start64:
	mov	$stack_top, %rsp
	call	hostile_main
1:	hlt
	jmp	1b

/* ---- the second CPU: copied to 0x8000 ---- */
	.code16
	.globl trampoline, trampoline_end
trampoline:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	lgdtl	0x8000 + tramp_gdt - trampoline
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$CODE32, $start32_second
tramp_gdt:
	.word	gdt_end - gdt - 1
	.long	gdt
trampoline_end:

	.code32
start32_second:
	mov	$DATA, %ecx
	mov	%ecx, %ds
	mov	%ecx, %es
	mov	%ecx, %ss
	mov	$second_stack_top, %esp
	call	long_mode
	ljmp	$CODE64, $start64_second
	.code64
start64_second:
	mov	$second_stack_top, %rsp
	call	second_main

/* ---- attempts: int attempt(void (*what)(void)); 1 + vector if it trapped ---- */
	.globl attempt
attempt:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, attempt_rsp
	call	*%rdi
	xor	%eax, %eax
attempt_end:
	movq	$0, attempt_rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	cld
	ret

/* Every exception ends the attempt; interrupts are acknowledged and forgotten. The second CPU has no attempts: it starts anew. */
	.macro stub vector
	.align 16
stub_\vector:
	.if \vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21
	.else
	push	$0
	.endif
	push	$\vector
	jmp	trap
	.endm
	.align 16
	.globl stubs
stubs:
	.set v, 0
	.rept 256
	.altmacro
	stub %v
	.noaltmacro
	.set v, v + 1
	.endr

trap:
	push	%rax
	push	%rcx
	push	%rdx
	mov	24(%rsp), %rax
	cmp	$2, %eax
	je	2f
	cmp	$32, %eax
	jb	3f
	incq	interrupts
	call	acknowledge
2:	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq
3:	mov	%rsp, %rcx
	mov	$second_stack, %edx
	cmp	%rdx, %rcx
	jb	4f
	mov	$second_stack_top, %edx
	cmp	%rdx, %rcx
	jbe	5f
4:	cmpq	$0, attempt_rsp
	je	6f
	mov	%rax, %rcx
	mov	attempt_rsp, %rsp
	xor	%eax, %eax
	mov	%rax, %dr7
	lea	1(%rcx), %rax
	jmp	attempt_end
5:	mov	$second_stack_top, %rsp
	call	second_main
6:	mov	%rax, %rdi		/* outside an attempt */
	mov	40(%rsp), %rsi
	call	hostile_trapped
1:	hlt
	jmp	1b

/* By MSR in x2APIC mode, else by memory. */
acknowledge:
	mov	$0x1b, %ecx
	rdmsr
	test	$0x800, %eax
	jz	2f
	test	$0x400, %eax
	jz	1f
	mov	$0x80b, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	ret
1:	mov	$0xfee000b0, %eax
	movl	$0, (%rax)
2:	ret

	.globl shutdown
shutdown:
	lidt	no_idt
	int3

	.data
	.align 8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
	.quad	0x00cf9b000000ffff
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
no_idt:
	.quad	0, 0
	.globl boot_info, interrupts, attempt_rsp
	.align 8
boot_info:	.quad 0
attempt_rsp:	.quad 0
interrupts:	.quad 0

	.bss
	.align 4096
	.globl pml4, pdpt, pd
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4 * 4096
	.skip 65536
stack_top:
second_stack:
	.skip 16384
second_stack_top:
	.section .note.GNU-stack, "", @progbits
