/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A multiboot kernel that goes through the CPU's modes and tells of each on COM1: 32-bit protected mode without paging,
 * with 32-bit and PAE paging, 64-bit mode, back to 16-bit protected and to real mode, BIOS calls and timer interrupts
 * there, A20. In each paging mode it reads the I/O APIC's version, a memory-mapped register, through a mapping of its
 * own: that is where a hypervisor walks these tables itself. Ends by QEMU's isa-debug-exit at port 0xf4.
 */
#define COM1 0x3f8
#define LOW 0x8000	/* where the 16-bit code runs */
#define PTE_P 1
#define PTE_W 2
#define PTE_BIG 0x80
#define IOAPIC 0xfec00000

	.section .text
	.code32
	.globl _start
	.balign 4
	.long 0x1badb002, 0, -0x1badb002	/* multiboot: magic, flags, checksum */

_start:
	cld
	cli
	mov 16(%ebx), %esi			/* multiboot's command line: "FILE" or "FILE ARGUMENTS" */
1:	lodsb
	test %al, %al
	jz 2f
	cmp $' ', %al
	jne 1b
	cmpb $0, (%esi)			/* QEMU puts a blank behind FILE in any case */
	je 2f
debug_wait:					/* with arguments: until the debugger writes there */
	inb $0x80, %al				/* exits: Bochs ends no loop of instructions with IF 0 for the host */
	cmpl $0, debug_value
	je debug_wait
2:
	mov $stack, %esp
	lgdt gdt_pointer
	ljmp $0x08, $1f
1:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %eax, %fs
	mov %eax, %gs
	lidt idt_pointer
	mov $idt + 14 * 8, %edi			/* #PF */
	mov $page_fault, %eax
	movw %ax, (%edi)
	movw $0x08, 2(%edi)
	movw $0x8e00, 4(%edi)
	shr $16, %eax
	movw %ax, 6(%edi)
	jmp debugged

/* What the debugger's test stops in. Its addresses are in the symbol table. */
	.globl debug_break, debug_second, debug_watch, debug_stored, debug_value
	.balign 16
debugged:
	mov $5, %ecx
debug_break:
	inc %edx
	add $2, %edx
	nop
debug_second:
	dec %ecx
	jnz debug_break
debug_watch:
	movl $0x1234, debug_value
debug_stored:
	nop

	mov $text_flat, %esi
	call print
	movb 0xfffffff0, %al			/* the firmware's ROM, a read-only slot: a write leaves it as it was */
	mov %al, %ah
	not %al
	movb %al, 0xfffffff0
	cmpb %ah, 0xfffffff0
	mov $text_rom, %esi
	je 1f
	mov $text_no_rom, %esi
1:	call print
	mov $IOAPIC, %ebx
	call version

/* 32-bit paging: 4 MiB pages, and 4 KiB pages for 0x50000000: the I/O APIC, and memory at 0x50001000 */
	mov $tables, %edi
	mov $6 * 1024, %ecx
	xor %eax, %eax
	rep stosl
	movl $PTE_P | PTE_W | PTE_BIG, tables
	movl $table1 + PTE_P + PTE_W, tables + (0x50000000 >> 22) * 4
	movl $IOAPIC | PTE_P | PTE_W, table1
	movl $scratch + PTE_P + PTE_W, table1 + 4
	mov %cr4, %eax
	or $0x10, %eax				/* PSE */
	mov %eax, %cr4
	mov $tables, %eax
	mov %eax, %cr3
	mov %cr0, %eax
	or $0x80010000, %eax			/* PG, WP */
	mov %eax, %cr0
	mov $text_paging, %esi
	call print
	mov $0x50000000, %ebx
	call version
	movl $0xcafe, 0x50001010
	mov scratch + 0x10, %eax
	call print_hex
	movl $0, %eax				/* accessed and dirty bits of what was used */
	mov table1, %al
	mov table1 + 4, %ah
	call print_hex
	mov 0x60000000, %eax			/* not mapped: #PF */
	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0

/* PAE: the I/O APIC at 0xc0000000, by the fourth page-directory pointer */
	mov $tables, %edi
	mov $6 * 1024, %ecx
	xor %eax, %eax
	rep stosl
	movl $table1 + PTE_P, tables
	movl $table2 + PTE_P, tables + 3 * 8
	movl $PTE_P | PTE_W | PTE_BIG, table1
	movl $table3 + PTE_P + PTE_W, table2
	movl $IOAPIC | PTE_P | PTE_W, table3
	mov %cr4, %eax
	or $0x20, %eax				/* PAE */
	mov %eax, %cr4
	mov $tables, %eax
	mov %eax, %cr3
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	mov $text_pae, %esi
	call print
	mov $0xc0000000, %ebx
	call version
	movl $0, tables + 3 * 8			/* registers on Intel's CPUs, memory on AMD's with nested paging */
	invlpg 0xc0000000
	call version
	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0

/* 64-bit mode: the I/O APIC at 0x8000000000 */
	mov $tables, %edi
	mov $6 * 1024, %ecx
	xor %eax, %eax
	rep stosl
	movl $table1 + PTE_P + PTE_W, tables
	movl $table2 + PTE_P + PTE_W, tables + 8
	movl $table3 + PTE_P + PTE_W, table1
	movl $PTE_P | PTE_W | PTE_BIG, table3
	movl $table4 + PTE_P + PTE_W, table2
	movl $table5 + PTE_P + PTE_W, table4
	movl $IOAPIC | PTE_P | PTE_W, table5
	mov $tables, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx			/* EFER.LME */
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	mov $text_compat, %esi			/* compatibility mode until CS.L is loaded */
	call print
	ljmp $0x18, $long_mode

	.code64
long_mode:
	mov $text_long, %esi
	call print64
	mov $0x8000000000, %rbx
	movl $1, (%rbx)
	mov 0x10(%rbx), %eax
	mov $scratch, %edi
	mov %eax, (%rdi)
	push $0x08
	mov $leave_long, %eax
	push %rax
	lretq

	.code32
leave_long:
	mov scratch, %eax
	call print_hex
	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	mov $0xc0000080, %ecx
	rdmsr
	and $~0x100, %eax
	wrmsr
	xor %eax, %eax
	mov %eax, %cr4

/* 16-bit protected and real mode run low. */
	mov $low_start, %esi
	mov $LOW, %edi
	mov $low_end - low_start, %ecx
	rep movsb
	ljmp $0x20, $LOW

page_fault:
	mov $text_fault, %esi
	call print
	mov %cr2, %eax
	call print_hex
	pop %eax				/* the error code */
	call print_hex
	mov (%esp), %eax
	cmpb $0xa1, (%eax)			/* mov moffs, %eax: five bytes; else mov 0x10(%ebx) or (%ebx): */
	jne 1f
	addl $5, (%esp)
	iret
1:	movl $version_end, (%esp)
	iret

/* ebx: where the I/O APIC is */
version:
	movl $1, (%ebx)
	mov 0x10(%ebx), %eax
	call print_hex
version_end:
	ret

print:	/* esi */
	lodsb
	test %al, %al
	jz 2f
	call print_char
	jmp print
2:	ret

print_char: /* al */
	push %edx
	push %eax
	mov $COM1 + 5, %dx
1:	in %dx, %al
	test $0x20, %al
	jz 1b
	pop %eax
	mov $COM1, %dx
	out %al, %dx
	pop %edx
	ret

print_hex: /* eax, and a new line */
	push %ecx
	push %ebx
	mov %eax, %ebx
	mov $8, %ecx
1:	rol $4, %ebx
	mov %bl, %al
	and $15, %al
	add $'0', %al
	cmp $'9', %al
	jbe 2f
	add $'a' - '9' - 1, %al
2:	call print_char
	loop 1b
	mov $'\n', %al
	call print_char
	pop %ebx
	pop %ecx
	ret

	.code64
print64:
	lodsb
	test %al, %al
	jz 2f
	mov %al, %cl
	mov $COM1 + 5, %dx
1:	in %dx, %al
	test $0x20, %al
	jz 1b
	mov %cl, %al
	mov $COM1, %dx
	out %al, %dx
	jmp print64
2:	ret

/* ---- copied to LOW ---- */
#define low(label) (label - low_start + LOW)
	.code16
low_start:
	mov $0x28, %ax				/* 16-bit protected mode, with 64 KiB segments */
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7000, %sp
	mov $low(text_16), %si
	call low_print
	mov %cr0, %eax
	and $~1, %al
	mov %eax, %cr0
	ljmp $0, $low(real)
real:
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	lidtl low(real_idt)
	mov $low(text_real), %si
	call low_print
	int $0x12				/* KiB of low memory */
	call low_hex
	mov $0x2400, %ax			/* A20 off, then its state, on, its state */
	int $0x15
	mov $0x2402, %ax
	int $0x15
	call low_hex
	mov $0x2401, %ax
	int $0x15
	mov $0x2402, %ax
	int $0x15
	call low_hex
	mov $0xffff, %ax			/* ffff:0010 is above the first megabyte */
	mov %ax, %es
	movl $0x600d, %es:0x7110
	movl $0x0bad, 0x7100
	mov %es:0x7110, %ax
	call low_hex
	mov $low(text_ticks), %si
	call low_print
	mov $3, %cx				/* timer interrupts end the HLTs */
1:	mov 0x46c, %ax
2:	sti
	hlt
	cli
	cmp 0x46c, %ax
	je 2b
	loop 1b
	mov $low(text_done), %si
	call low_print
	mov $0x10, %eax
	mov $0xf4, %dx
	out %eax, %dx
3:	hlt
	jmp 3b

low_print:
	lodsb
	test %al, %al
	jz 2f
	call low_char
	jmp low_print
2:	ret

low_char:
	push %dx
	push %ax
	mov $COM1 + 5, %dx
1:	in %dx, %al
	test $0x20, %al
	jz 1b
	pop %ax
	mov $COM1, %dx
	out %al, %dx
	pop %dx
	ret

low_hex: /* ax */
	push %cx
	push %bx
	mov %ax, %bx
	mov $4, %cx
1:	rol $4, %bx
	mov %bl, %al
	and $15, %al
	add $'0', %al
	cmp $'9', %al
	jbe 2f
	add $'a' - '9' - 1, %al
2:	call low_char
	loop 1b
	mov $'\n', %al
	call low_char
	pop %bx
	pop %cx
	ret

	.balign 8
real_idt:
	.word 0x3ff
	.long 0
text_16:	.asciz "modes: 16-bit protected\n"
text_real:	.asciz "modes: real\n"
text_ticks:	.asciz "modes: interrupts\n"
text_done:	.asciz "modes: done\n"
low_end:

	.section .data
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* 08: 32-bit code */
	.quad 0x00cf93000000ffff	/* 10: data */
	.quad 0x00af9b000000ffff	/* 18: 64-bit code */
	.quad 0x00009b000000ffff	/* 20: 16-bit code */
	.quad 0x000093000000ffff	/* 28: 16-bit data */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
idt_pointer:
	.word 32 * 8 - 1
	.long idt
debug_value:	.long 0
text_flat:	.asciz "modes: 32-bit, no paging\n"
text_rom:	.asciz "modes: ROM kept\n"
text_no_rom:	.asciz "modes: ROM written to\n"
text_paging:	.asciz "modes: 32-bit paging\n"
text_pae:	.asciz "modes: PAE\n"
text_compat:	.asciz "modes: compatibility\n"
text_long:	.asciz "modes: 64-bit\n"
text_fault:	.asciz "modes: page fault\n"

	.section .bss
	.balign 4096
tables:	.skip 4096
table1:	.skip 4096
table2:	.skip 4096
table3:	.skip 4096
table4:	.skip 4096
table5:	.skip 4096
scratch: .skip 4096
idt:	.skip 256
	.skip 4096
stack:
