/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest code. Copied to GPA_CODE (0x10000), position-independent. X marks an instruction that is expected to
 * exit: its place and length go to snip_NAME_at[], in order, so that tests compare RIP and length with the assembler's.
 * Registers that a test sets beforehand are named at each snippet. Port 0xdd: done.
 */

.macro snippet name
	.section .snip.text, "a", @progbits
	.balign 16
	.globl snip_\name, snip_\name\()_at
	.pushsection .snip.at, "a", @progbits
	.balign 8
snip_\name\()_at:
	.popsection
snip_\name:
.endm

.macro endsnip name
	.globl snip_\name\()_end
snip_\name\()_end:
	.pushsection .snip.at, "a", @progbits
	.quad 0, 0
	.popsection
.endm

.macro X insn:vararg
.Lxa\@:
	\insn
.Lxb\@:
	.pushsection .snip.at, "a", @progbits
	.quad .Lxa\@, .Lxb\@ - .Lxa\@
	.popsection
.endm

.code64

snippet out_one			/* the smallest guest */
	mov	$0x3f8, %edx
	mov	$'U', %al
	X out	%al, %dx
	X hlt
endsnip out_one

snippet out_loop		/* rax counts */
1:	X out	%al, $0x80
	inc	%rax
	jmp	1b
endsnip out_loop

snippet spin			/* rax counts */
1:	inc	%rax
	jmp	1b
endsnip spin

snippet spin_shared		/* rdi: counter in memory */
1:	incq	(%rdi)
	jmp	1b
endsnip spin_shared

snippet io			/* rsi: source, rdi: destination */
	mov	$0x11223344, %eax
	X out	%al, $0x10
	X out	%ax, $0x12
	X out	%eax, $0x14
	mov	$0x3f8, %edx
	X out	%al, %dx
	X out	%ax, %dx
	X out	%eax, %dx
	X in	$0x60, %al
	X in	$0x62, %ax
	X in	$0x64, %eax
	mov	$0xffff, %edx
	X in	%dx, %al
	mov	$0xfffe, %edx
	X in	%dx, %ax
	mov	$0xfffc, %edx
	X in	%dx, %eax
	mov	$0x1f0, %edx
	mov	$3, %ecx
	cld
	X outsb
	X rep outsw
	X rep outsl
	X insb
	X rep insw
	X insl
	X outsb	%fs:(%rsi), %dx
	X outsb	(%esi), %dx
	X rep insw %dx, (%edi)
endsnip io

snippet io_sweep		/* every port, dx counts; ends at the done port's own turn in rcx */
1:	X in	%dx, %al
	inc	%edx
	X out	%eax, %dx
	inc	%edx
	cmp	$0x10000, %edx
	jb	1b
	mov	$1, %ebx
	out	%al, $0xdd
endsnip io_sweep

snippet answer_cpuid		/* RAX, RCX */
	sti
	X cpuid
	X out	%al, $0xdd
endsnip answer_cpuid

snippet answer_rdmsr		/* RCX */
	sti
	X rdmsr
	X out	%al, $0xdd
endsnip answer_rdmsr

snippet privileged		/* HLT intercepted; without a mark: does not exit; CR4.OSXSAVE set */
	X cpuid
	mov	$0x1b, %ecx
	X rdmsr
	X wrmsr
	X hlt
	mov	%cr3, %r8
	mov	%r8, %cr3
	X mov	%rcx, %dr0
	X mov	%dr3, %r9
	X mov	%dr6, %rbx
	X mov	%rax, %dr7
	xor	%ecx, %ecx
	mov	$1, %eax
	xor	%edx, %edx
	X xsetbv
	X invd
	X wbinvd
	X rdpmc
	mov	$0x20000, %eax
	X monitor
	X mwait
	mov	$0x123456, %eax
	invlpg (%rax)
	rdtsc
	X ud2
	X int3
endsnip privileged

snippet rdtscp
	rdtscp
	out	%al, $0xdd
endsnip rdtscp

snippet raw			/* one at a time; rdx, rsi, rdi for string I/O, rcx an MSR, r8 to r10 addresses */
	X out	%al, $0x80
	X outsb
	X insb
	X in	$0x60, %eax
	X cpuid
	X rdmsr
	X mov	%rcx, %dr7
	X ud2
	X mov	%rbx, (%r8)
	X mov	(%r9), %rbx
	X mov	%rbx, (%r10)
	X hlt
endsnip raw

snippet hlt_plain
	hlt
	out	%al, $0xdd
endsnip hlt_plain

snippet string_out		/* rsi: in memory */
	cld
	X out	%al, $0x80
	mov	$0x1f0, %edx
	mov	%rsi, %rdi
	X outsb
	X insb
	X cpuid
endsnip string_out

snippet vmcall
	X vmcall
	X vmxon	(%rdi)
endsnip vmcall

snippet vmmcall
	X vmmcall
	mov	$0x20000, %eax
	X vmrun
endsnip vmmcall

snippet cr0_toggle		/* rbx: bits */
	mov	%cr0, %rax
	xor	%rbx, %rax
	X mov	%rax, %cr0
	mov	%cr0, %rcx
	out	%al, $0xdd
endsnip cr0_toggle

snippet cr4_toggle		/* rbx: bits */
	mov	%cr4, %r11
	xor	%rbx, %r11
	X mov	%r11, %cr4
	mov	%cr4, %rcx
	out	%al, $0xdd
endsnip cr4_toggle

snippet clts			/* CR0.TS set */
	X clts
	mov	%cr0, %rcx
	out	%al, $0xdd
endsnip clts

snippet lmsw			/* toggles TS by LMSW */
	mov	%cr0, %rax
	xor	$8, %eax
	X lmsw	%ax
	mov	%cr0, %rcx
	out	%al, $0xdd
endsnip lmsw

snippet cr8			/* rbx: value */
	X mov	%rbx, %cr8
	X mov	%cr8, %rcx
	out	%al, $0xdd
endsnip cr8

snippet msr_sweep		/* rcx: first, rbx: one past the last; r8: 1 for WRMSR */
1:	test	%r8d, %r8d
	jnz	2f
	X rdmsr
	jmp	3f
2:	X wrmsr
3:	inc	%ecx
	cmp	%ecx, %ebx
	jne	1b
	out	%al, $0xdd
endsnip msr_sweep

snippet traps			/* vectored in the guest; rdi: not mapped */
	X ud2
	X int3
after_int3:
	X int	$0x80
	xor	%edx, %edx
	xor	%ecx, %ecx
	mov	$7, %eax
	X div	%ecx
	X mov	%eax, (%rdi)
	mov	$0x8888888888888888, %rbx
	X mov	(%rbx), %eax
	X mov	%bx, %fs
	out	%al, $0xdd
endsnip traps

snippet ud
	X ud2
endsnip ud

snippet nops			/* a place to be interrupted in */
	nop
	nop
	nop
	nop
	nop
	nop
	nop
	nop
	out	%al, $0xdd
1:	jmp	1b
endsnip nops

snippet iret			/* to the next instruction */
	X out	%al, $0x80
	mov	%rsp, %rax
	push	$0x10
	push	%rax
	push	$0x202
	push	$0x08
	lea	1f(%rip), %rax
	push	%rax
	iretq
1:	nop
	out	%al, $0xdd
endsnip iret

snippet sti_window		/* IF clear at the start */
	nop
	sti
	nop
window_here:
	out	%al, $0xdd
endsnip sti_window

snippet ac_user			/* CPL 3 */
	pushfq
	orl	$0x40000, (%rsp)
	popfq
	X movl	1(%rsp), %eax
endsnip ac_user

snippet hlt_user		/* CPL 3 */
	X hlt
endsnip hlt_user

snippet in_user			/* CPL 3 */
	X in	%dx, %al
endsnip in_user

snippet tsc_read
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%rax, %rbx
	out	%al, $0xdd
endsnip tsc_read

snippet pauses			/* rcx: how many */
1:	X pause
	dec	%rcx
	jnz	1b
	out	%al, $0xdd
endsnip pauses

snippet load			/* rbx = *rdi */
	X mov	(%rdi), %rbx
	out	%al, $0xdd
endsnip load

snippet store			/* *rdi = rbx */
	X mov	%rbx, (%rdi)
	out	%al, $0xdd
endsnip store

snippet jump
	jmp	*%rdi
endsnip jump

snippet copy			/* rcx quadwords from rsi to rdi */
	cld
	rep movsq
	out	%al, $0xdd
endsnip copy

snippet store_list		/* r8: array of rcx addresses; rbx goes to each */
1:	mov	(%r8), %rdi
	mov	%rbx, (%rdi)
	add	$8, %r8
	dec	%rcx
	jnz	1b
	out	%al, $0xdd
endsnip store_list

snippet checksum		/* rcx quadwords at rsi; rax: sum */
	xor	%eax, %eax
	mov	$0x9e3779b97f4a7c15, %rbx
1:	xor	(%rsi), %rax
	imul	%rbx, %rax
	rol	$23, %rax
	add	$8, %rsi
	dec	%rcx
	jnz	1b
	out	%al, $0xdd
endsnip checksum

/*
 * rdi: generation counter, rsi: stamp under test, rcx: rounds. A stamp is 0 (not written yet) or at least the
 * generation read before it. r8: how often not; r9: the last such stamp; r10: its generation. Writes after the stamp too.
 */
snippet stamps
1:	mov	(%rdi), %rax
	mov	(%rsi), %rbx
	mov	%rax, 8(%rsi)
	test	%rbx, %rbx
	jz	2f
	cmp	%rax, %rbx
	jae	2f
	inc	%r8
	mov	%rbx, %r9
	mov	%rax, %r10
2:	dec	%rcx
	jnz	1b
	out	%al, $0xdd
endsnip stamps

snippet stamps_read		/* the same without the write */
1:	mov	(%rdi), %rax
	mov	(%rsi), %rbx
	test	%rbx, %rbx
	jz	2f
	cmp	%rax, %rbx
	jae	2f
	inc	%r8
	mov	%rbx, %r9
	mov	%rax, %r10
2:	dec	%rcx
	jnz	1b
	out	%al, $0xdd
endsnip stamps_read

snippet drs			/* reads rdi rcx times, with a breakpoint of its own elsewhere */
1:	mov	(%rdi), %rax
	dec	%rcx
	jnz	1b
	out	%al, $0xdd
endsnip drs

snippet gsbase			/* swapgs, read, swap back */
	swapgs
	mov	$0xc0000101, %ecx
	rdgsbase %rbx
	swapgs
	out	%al, $0xdd
endsnip gsbase

snippet syscall_msrs		/* a SYSCALL in the guest; LSTAR points at 1f, set by the test as rip + offset in r10 */
	X out	%al, $0x80
	syscall
	nop
	nop
	nop
1:	mov	$0x600d, %ebx
	out	%al, $0xdd
endsnip syscall_msrs

/* ---- FPU: rsi: pattern, rdi: scratch, r12: rounds; r15: mismatches, r14: after which exit, r9: which 8 bytes, r13: rounds done ---- */
.macro fpu_load avx
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	.if \avx
	vmovups	\n*32(%rsi), %ymm\n
	.else
	movups	\n*32(%rsi), %xmm\n
	.endif
	.endr
	ldmxcsr	512(%rsi)
	fninit
	fldcw	516(%rsi)
	fldl	520(%rsi)
.endm

.macro fpu_verify avx
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	.if \avx
	vmovups	%ymm\n, \n*32(%rdi)
	.else
	movups	%xmm\n, \n*32(%rdi)
	mov	\n*32+16(%rsi), %r8	/* no upper halves: always right */
	mov	%r8, \n*32+16(%rdi)
	mov	\n*32+24(%rsi), %r8
	mov	%r8, \n*32+24(%rdi)
	.endif
	.endr
	stmxcsr	512(%rdi)
	fnstcw	516(%rdi)
	fstl	520(%rdi)
	push	%rsi
	push	%rdi
	mov	$66, %ecx
	cld
	repe cmpsq
	pop	%rdi
	pop	%rsi
.endm

.macro fpu_snippet name, avx
snippet \name
1:	fpu_load \avx
	mov	$1, %ebp
	X cpuid
	call	9f
	X out	%al, $0x80
	call	9f
	X in	$0x80, %al
	call	9f
	mov	$0x1b, %ecx
	X rdmsr
	call	9f
	mov	$0x1b, %ecx
	X wrmsr
	call	9f
	X hlt
	call	9f
	X mov	%rax, %dr7
	call	9f
	mov	%cr3, %rax
	mov	%rax, %cr3
	call	9f
	mov	%cr0, %rax
	xor	$0x20, %eax		/* CR0.NE is not the guest's own */
	X mov	%rax, %cr0
	call	9f
	xor	%ecx, %ecx
	X xsetbv
	call	9f
	X wbinvd
	call	9f
	rdtsc
	call	9f
	invlpg (%rsi)
	call	9f
	X ud2
	call	9f
	X int3
	call	9f
	X mov	(%r11), %rax		/* r11: in no region */
	call	9f
	X mov	%rax, (%r11)
	call	9f
	movq	$1, (%r10)		/* r10: a page that the host takes away now and then */
	call	9f
	X rdpmc
	call	9f
	X vmcall_or_vmmcall
	call	9f
	mov	$20000, %ecx		/* a while in which only interrupts exit */
2:	dec	%ecx
	jnz	2b
	call	9f
	mov	$0x9e3779b97f4a7c15, %rbx
	mov	$64, %ecx
3:	add	%rbx, -8(%rsi,%rcx,8)
	dec	%ecx
	jnz	3b
	incq	520(%rsi)
	inc	%r13
	cmp	%r12, %r13
	jne	1b
	out	%al, $0xdd
9:	fpu_verify \avx
	je	8f
	inc	%r15
	mov	%ebp, %r14d
	mov	$65, %r9d
	sub	%ecx, %r9d
	fpu_load \avx			/* each fault counts once */
8:	inc	%ebp
	ret
endsnip \name
.endm

.macro vmcall_or_vmmcall		/* the test puts the right one here */
	.byte	0x0f, 0x01, 0xc1
.endm

fpu_snippet fpu_avx, 1
fpu_snippet fpu_sse, 0

/* ---- 32-bit ---- */
.code32
snippet flat32			/* edi: a word in memory */
	mov	$0x12345678, %eax
	push	%eax
	pop	%ebx
	X out	%eax, $0x42
	mov	%ebx, (%edi)
	addl	$1, (%edi)
	mov	(%edi), %ecx
	mov	%esp, %ebp
	out	%al, $0xdd
endsnip flat32

snippet load32
	X mov	(%edi), %ebx
	out	%al, $0xdd
endsnip load32

/* ---- real mode: CS base 0x10000, DS base 0, IVT at 0 ---- */
.code16
snippet real			/* 0x500: GDT pseudo-descriptor */
	mov	$0x1234, %ax
	X out	%ax, $0x42
	X in	$0x44, %al
	mov	%ax, 0x600
	incw	0x600
	mov	0x600, %bx
	mov	$0x2000, %cx
	mov	%cx, %es
	movb	$0x77, %es:(0)
	X hlt
	int	$0x21
	mov	%bx, %si
	out	%al, $0xdd
endsnip real

snippet real_to_prot		/* as firmware does it */
	cli
	lgdtl	0x500
	mov	%cr0, %eax
	or	$1, %al
	X mov	%eax, %cr0
	ljmpl	$0x18, $0x10000 + 2f - snip_real_to_prot
.code32
2:	mov	$0x10, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x30000, %esp
	push	$0x5a5a
	pop	%ebx
	mov	0x100000, %ecx
	sti
	out	%al, $0xdd
endsnip real_to_prot

.code64
	.section .note.GNU-stack, "", @progbits
