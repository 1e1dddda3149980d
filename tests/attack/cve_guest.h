/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_ATTACK_CVE_GUEST_H
#define UMBRA_ATTACK_CVE_GUEST_H

/* A small VMM and a guest of a few 32-bit instructions. */

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define RAM_SIZE 0x100000u /* slot 0, at 0 */
#define SLOT1 0x400000u	   /* 64 KiB */
#define SLOT2 0x600000u	   /* 64 KiB */
#define SLOT_SIZE 0x10000u
#define MMIO 0x10000000u /* nothing is there */
#define IOAPIC 0xfec00000u
#define LAPIC 0xfee00000u
#define GUEST_DATA 0x20000u
#define IRQ_PIN 5
#define IRQ_VECTOR 0x35

enum {
	NO_CHIP = 1,
	SPLIT = 2, /* the split irqchip; else the whole one */
	PIT = 4,
	TWO = 8, /* vCPUs */
	PAGING = 16,
	USER = 32,  /* privilege level 3 */
	SPINS = 64, /* the call does not come back: somebody has to look */
};

extern int kvm, vm, vcpu[2];
extern struct kvm_run *run[2];
extern uint8_t *ram;

/* What the guest's last run showed. */
struct seen {
	uint8_t mmio[8]; /* of the last write to MMIO, and how many of them the guest wrote */
	uint32_t mmio_len;
	int vector; /* exception that ended it, -1: none */
	uint64_t cr2;
	uint32_t said[512]; /* by say_eax() */
	unsigned int count;
};
extern struct seen seen;

/* Ends the process's part in a row: does not return when the shadow is gone (EIO, or an exit that says so). */
extern void (*on_death)(const char *what);

int call(int fd, unsigned long nr, void *arg, const char *what); /* 0.. or -errno */
void need(int fd, unsigned long nr, void *arg, const char *what);
void machine_open(unsigned int flags);
int slot_set(uint32_t slot, uint64_t gpa, uint64_t size);

/* Code is put together, then run from its beginning to its end. */
void emit(const char *bytes, size_t count);
void emit32(uint32_t value);
void store32(uint32_t addr, uint32_t value);
void store8(uint32_t addr, uint8_t value);
void load32(uint32_t addr);
void out8(uint16_t port, uint8_t value);
void in8(uint16_t port);
void wrmsr(uint32_t msr, uint64_t value);
void set_reg(unsigned int reg, uint32_t value); /* 0 EAX 1 ECX 2 EDX 3 EBX 6 ESI 7 EDI */
void say_eax(void);
int guest_run(unsigned int n); /* 0: to its end; or what KVM_RUN gave: -errno, or the exit reason */

#define EMIT(bytes) emit(bytes, sizeof(bytes) - 1)

#endif
