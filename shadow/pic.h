/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_PIC_H
#define UMBRA_PIC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Two 8259A in the PC's arrangement, the second one at pin 2 of the first, and the chip set's edge/level registers (ELCR).
 * A plain device: its owner locks, takes its output to the CPUs and looks at acked and unmasked after each call.
 */

#define PIC_PINS 16

/* One 8259A. The fields are those of the KVM API's state, which may hold anything: each is used with care. */
struct pic_chip {
	uint8_t last_irr; /* levels of the pins when last looked at: edges are seen against it */
	uint8_t irr;
	uint8_t imr;
	uint8_t isr;
	uint8_t priority_add; /* the pin of highest priority */
	uint8_t irq_base;     /* ICW2 */
	uint8_t read_reg_select;
	uint8_t poll;
	uint8_t special_mask;
	uint8_t init_state; /* 0: ready; else the next write is ICW(n + 1) */
	uint8_t auto_eoi;
	uint8_t rotate_on_auto_eoi;
	uint8_t special_fully_nested_mode;
	uint8_t init4; /* ICW1 has announced ICW4 */
	uint8_t elcr;  /* 1: level-triggered */
	uint8_t elcr_mask;
};

struct pic {
	struct pic_chip chip[2];
	bool output;		 /* INT of the first one */
	uint8_t lines[PIC_PINS]; /* who holds the pin up: a bit a source */
	uint16_t acked;		 /* pins whose service has ended since the owner looked */
	uint16_t unmasked;	 /* pins that were unmasked since */
};

void pic_init(struct pic *pic);
/* A source's line to a pin below PIC_PINS. 1: a new request, 0: one was there already, -1: masked. */
int pic_set_line(struct pic *pic, unsigned int pin, unsigned int source, bool level);
uint8_t pic_acknowledge(struct pic *pic); /* the CPU's INTA cycles: the vector, of pin 7 if nothing is due */
bool pic_has_port(uint16_t port);
uint8_t pic_read(struct pic *pic, uint16_t port);
void pic_write(struct pic *pic, uint16_t port, uint8_t value);
void pic_update(struct pic *pic); /* after a change of chip[] from outside */

#endif
