/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An option ROM of 512 bytes. -DBOOT: for QEMU's -option-rom; takes over INT 19h and ends the machine from there. Otherwise the
 * ROM of a PCI device, -DDEVICE=ID of vendor 1af4. Says on COM1 when the firmware calls it, and whether a byte that is written to its
 * copy in memory stays: until the firmware write-protects it before the boot. (QEMU does that without KVM only.)
 */
#define COM1 0x3f8

	.code16
	.text
	.globl _start
_start:
	.byte 0x55, 0xaa, 1
	jmp init				/* offset 3: a far call */
	.org 0x18
#ifdef DEVICE
	.word pcir
#else
	.word 0
#endif
	.word 0					/* not plug and play: run once, before the boot */

init:
	pushaw
	push %ds
	push %es
	push %cs
	pop %ds
	mov $text_init, %si
	call say_and_write
#ifdef BOOT
	xor %ax, %ax
	mov %ax, %es
	movw $boot, %es:0x19 * 4
	mov %cs, %es:0x19 * 4 + 2
#endif
	pop %es
	pop %ds
	popaw
	lretw

#ifdef BOOT
boot:						/* INT 19h */
	push %cs
	pop %ds
	mov $text_boot, %si
	call say_and_write
	mov $0xf000, %ax			/* the BIOS below it, too */
	mov %ax, %ds
	mov $text_bios, %si
	call say_and_write
	mov $0xf4, %dx
	mov $0x10, %al
	out %al, %dx
1:	hlt
	jmp 1b
#endif

/* The text at CS:SI, then what becomes of a byte that is written to DS:probe. */
say_and_write:
	call say
	mov probe, %al
	mov %al, %ah
	not %al
	mov %al, probe
	cmp %ah, probe
	mov %ah, probe
	mov $text_written, %si
	jne say
	mov $text_dropped, %si
say:
	mov $COM1, %dx
1:	lods %cs:(%si), %al
	test %al, %al
	jz 2f
	out %al, %dx
	jmp 1b
2:	ret

#ifdef DEVICE
text_init:	.asciz "rom: PCI device's, called: "
	.balign 4
pcir:	.ascii "PCIR"
	.word 0x1af4, DEVICE, 0, 0x18
	.byte 0, 0, 0, 2			/* revision; class */
	.word 1, 0				/* 512 bytes */
	.byte 0, 0x80				/* for x86; the last image */
	.word 0
#else
text_init:	.asciz "rom: option, called: "
text_boot:	.asciz "rom: option, boots: "
text_bios:	.asciz "rom: BIOS: "
#endif
text_written:	.asciz "written\r\n"
text_dropped:	.asciz "write-protected\r\n"
	.org 0x1f0
probe:	.byte 0x5a
	.org 0x1ff
	.byte 0					/* makes the sum 0: pc-root.sh */
