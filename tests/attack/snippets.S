/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code of hostile guests; the conventions are those of tests/machine/snippets.S. */

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

snippet mandatory		/* what exits whatever the shadow asks for */
	X cpuid
	X in	$0x80, %al
	X out	%eax, $0x80
	mov	$0x1b, %ecx
	X rdmsr
	X wrmsr
	mov	$0xc0000082, %ecx
	X wrmsr
	X mov	%rax, %dr7
	X mov	%dr6, %rbx
	X wbinvd
	X invd
	X rdpmc
	mov	$0x20000, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	X monitor
	X mwait
	mov	%cr0, %rax
	xor	$0x20, %eax
	X mov	%rax, %cr0
	mov	$0x2620, %eax
	X mov	%rax, %cr4
	X out	%al, $0xdd
endsnip mandatory

snippet msr_all			/* ecx: first, ebx: one past the last; r8: 1 for WRMSR of r10:r9 */
1:	test	%r8d, %r8d
	jnz	2f
	rdmsr
	jmp	3f
2:	mov	%r9d, %eax
	mov	%r10d, %edx
	wrmsr
3:	inc	%ecx
	cmp	%ecx, %ebx
	jne	1b
	out	%al, $0xdd
endsnip msr_all

snippet ports_all		/* edx: first; each port twice */
1:	in	%dx, %al
	out	%al, %dx
	inc	%edx
	cmp	$0x10000, %edx
	jb	1b
	out	%al, $0xdd
endsnip ports_all

snippet cr8_all			/* all priorities, up and down */
	xor	%eax, %eax
1:	mov	%rax, %cr8
	mov	%cr8, %rbx
	inc	%eax
	and	$15, %eax
	out	%al, $0x80
	jmp	1b
endsnip cr8_all

snippet nop_loop
1:	nop
	inc	%rax
	jmp	1b
endsnip nop_loop

snippet push_loop		/* rsp: watched */
1:	push	%rax
	pop	%rax
	inc	%rax
	jmp	1b
endsnip push_loop

snippet int3_once
	int3
	out	%al, $0xdd
endsnip int3_once

snippet fpu_clobber		/* rsi: garbage, 528 bytes; leaves an x87 exception pending and SSE's unmasked */
1:
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movups	\n*32(%rsi), %xmm\n
	.endr
	fninit
	movl	$0, 512(%rsi)
	fldcw	512(%rsi)	/* nothing masked */
	fld1
	fldz
	fdivrp	%st, %st(1)	/* 1 / 0: waits for the next x87 instruction */
	movl	$0x8000, 516(%rsi)
	ldmxcsr	516(%rsi)	/* nothing masked, flush to zero */
	out	%al, $0x80
	jmp	1b
endsnip fpu_clobber

snippet cli_spin
	cli
1:	inc	%rax
	jmp	1b
endsnip cli_spin

snippet cli_hlt
	cli
1:	hlt
	jmp	1b
endsnip cli_hlt

snippet pause_spin
	cli
1:	pause
	jmp	1b
endsnip pause_spin

snippet touch			/* rdi: base, rcx: mask of pages, rbx: seed; reads and writes, one OUT each 64 */
1:	mov	$64, %r8d
2:	imul	$0x5851f42d, %rbx, %rbx
	add	$0x3039, %rbx
	mov	%rbx, %rax
	shr	$20, %rax
	and	%rcx, %rax
	shl	$12, %rax
	mov	(%rdi,%rax), %rdx
	test	$0x40000, %ebx
	jz	3f
	mov	%rbx, 8(%rdi,%rax)
3:	dec	%r8d
	jnz	2b
	out	%al, $0x80
	jmp	1b
endsnip touch

snippet remap_loop		/* rdi: 512 page-table entries, rsi: a table of 64 values to put there; never exits */
	xor	%ebx, %ebx
1:	imul	$0x5851f42d, %rbx, %rbx
	add	$0x3039, %rbx
	mov	%rbx, %rax
	shr	$20, %rax
	mov	%eax, %edx
	and	$511, %eax
	shr	$9, %edx
	and	$63, %edx
	mov	(%rsi,%rdx,8), %rcx
	mov	%rcx, (%rdi,%rax,8)
	jmp	1b
endsnip remap_loop

snippet self_modify		/* rdi: a page-table entry, rsi: gva it maps, rcx: the other value; then reads and writes there */
1:	mov	(%rdi), %rax
	xchg	%rcx, (%rdi)
	invlpg	(%rsi)
	mov	(%rsi), %rbx
	mov	%rbx, 8(%rsi)
	out	%al, $0x80
	jmp	1b
endsnip self_modify

snippet spin_stamp		/* rdi: counter in memory, as fast as it goes; rax the number written last */
1:	inc	%rax
	mov	%rax, (%rdi)
	jmp	1b
endsnip spin_stamp

snippet load_out		/* rbx = *rdi, over and over */
1:	mov	(%rdi), %rbx
	out	%al, $0x80
	jmp	1b
endsnip load_out

/* ---- 32-bit, CPL 3 ---- */
.code32
snippet ac32
	X mov	2(%esp), %eax
1:	jmp	1b
endsnip ac32

	.section .note.GNU-stack, "", @progbits
