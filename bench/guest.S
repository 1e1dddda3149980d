/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest runs: 64-bit code, copied into its memory, independent of its place. Each guest_NAME measures
 * batches of one operation:
 *   in   r13 batches, r15 operations in a batch, r14 where the results go (8 bytes a batch: TSC ticks),
 *        r11 the batch (counted down from r13) that begins with the emulator's magic breakpoint; 0: none
 * and ends with an OUT to GUEST_PORT_DONE. The count includes the loop: 2 instructions and those before the exit.
 */
#include "guest.h"

.macro tsc to
	lfence
	rdtsc
	shlq $32, %rdx
	orq %rdx, %rax
	movq %rax, \to
.endm

.macro wrmsr_value msr, high, low
	movl $\msr, %ecx
	movl $\high, %edx
	movl $\low, %eax
	wrmsr
.endm

.macro measure name
	.globl guest_\name
guest_\name:
1:	cmpq %r11, %r13
	jne 2f
	xchgw %bx, %bx
2:	movq %r15, %r12
	tsc %r10
3:	op_\name
	decq %r12
	jnz 3b
	tsc %r9
	subq %r10, %r9
	movq %r9, (%r14)
	addq $8, %r14
	decq %r13
	jnz 1b
	outb %al, $GUEST_PORT_DONE
	ud2
.endm

.macro op_empty
.endm
.macro op_cpuid
	xorl %eax, %eax
	cpuid
.endm
.macro op_rdmsr_apic_base
	movl $0x1b, %ecx
	rdmsr
.endm
.macro op_rdmsr_misc_enable
	movl $0x1a0, %ecx
	rdmsr
.endm
.macro op_wrmsr_tsc_deadline /* hours away */
	wrmsr_value 0x6e0, 0x100, 0
.endm
.macro op_port_out
	outb %al, $GUEST_PORT
.endm
.macro op_port_in
	inb $GUEST_PORT, %al
.endm
.macro op_mmio_write
	movl $GUEST_MMIO, %ebx
	movl %eax, (%rbx)
.endm
.macro op_mmio_read
	movl $GUEST_MMIO, %ebx
	movl (%rbx), %eax
.endm
.macro op_ioeventfd_port
	outb %al, $GUEST_PORT_EVENT
.endm
.macro op_ioeventfd_mmio
	movl $GUEST_MMIO_EVENT, %ebx
	movl %eax, (%rbx)
.endm
/* Tells the client's other thread, which answers through an irqfd, and halts until then. */
.macro op_halt_wake
	cli
	outb %al, $GUEST_PORT_EVENT
	sti
	hlt
.endm

	.section .rodata
	.globl guest_start, guest_end, guest_init, guest_interrupt
guest_start:

guest_init: /* local APIC: x2APIC mode, on, timer in TSC-deadline mode */
	wrmsr_value 0x1b, 0, 0xfee00d00
	wrmsr_value 0x80f, 0, 0x1ff
	wrmsr_value 0x832, 0, 0x400ef
	outb %al, $GUEST_PORT_DONE
	ud2

guest_interrupt:
	wrmsr_value 0x80b, 0, 0
	iretq

	measure empty
	measure cpuid
	measure rdmsr_apic_base
	measure rdmsr_misc_enable
	measure wrmsr_tsc_deadline
	measure port_out
	measure port_in
	measure mmio_write
	measure mmio_read
	measure ioeventfd_port
	measure ioeventfd_mmio
	measure halt_wake
guest_end:

	.section .note.GNU-stack, "", @progbits
