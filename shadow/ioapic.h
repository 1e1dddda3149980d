/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_IOAPIC_H
#define UMBRA_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "lapic.h"

/* The 82093AA. A plain device: its owner locks, delivers its messages and sends it the EOIs. */

#define IOAPIC_PINS 24
#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_SIZE 0x100
#define IOAPIC_PIN_RTC 8
#define IOAPIC_STORM 10000 /* EOIs of a pin in a row that found the line still up, until it has to wait */

#define IOAPIC_ENTRY_REMOTE_IRR (1ull << 14)
#define IOAPIC_ENTRY_LEVEL (1ull << 15)
#define IOAPIC_ENTRY_MASKED (1ull << 16)

struct ioapic {
	uint64_t base; /* where it answers */
	uint32_t select;
	uint32_t id;		/* bits 3:0 */
	uint32_t irr;		/* pins that are up */
	uint32_t irr_delivered; /* of these: edges whose interrupt was sent */
	uint64_t entry[IOAPIC_PINS];
	uint8_t lines[IOAPIC_PINS];   /* who holds the pin up: a bit a source */
	uint16_t streak[IOAPIC_PINS]; /* such EOIs so far */
	uint32_t delayed;  /* pins that wait: the owner calls ioapic_service_level() after a while, and clears it */
	uint32_t unmasked; /* pins that were unmasked since the owner looked */
	/* The real-time clock's pin: which vCPUs have yet to end its last interrupt, and with which vector. */
	uint64_t rtc_pending;
	uint8_t rtc_vector;
	/* Result as apic_deliver(). */
	int (*deliver)(void *opaque, const struct apic_msg *msg);
	void *opaque;
};

void ioapic_init(struct ioapic *ioapic);
/* A source's line to a pin below IOAPIC_PINS. status: the caller wants to hear of lost ticks of the real-time clock.
 * > 0: sent to so many or nothing to send, 0: an interrupt of this pin is on its way still, or nobody is there; -1: masked. */
int ioapic_set_line(struct ioapic *ioapic, unsigned int pin, unsigned int source, bool level, bool status);
uint32_t ioapic_read(const struct ioapic *ioapic, uint32_t offset);
/* true: an entry of the redirection table has changed. Deliver what may be due then: ioapic_service(). */
bool ioapic_write(struct ioapic *ioapic, uint32_t offset, uint32_t value, unsigned int *pin);
void ioapic_service_level(struct ioapic *ioapic, unsigned int pin);
/* EOI, in two steps: whose it is, and, after the owner has told the sources, what follows. */
uint32_t ioapic_eoi_pins(const struct ioapic *ioapic, uint8_t vector);
void ioapic_eoi(struct ioapic *ioapic, unsigned int pin, uint32_t vcpu, bool level);
/* Vectors whose EOIs matter: of level-triggered pins and of those in also. Adds to vectors. */
void ioapic_eoi_vectors(const struct ioapic *ioapic, uint32_t also, uint64_t vectors[4]);
/* After base, select, id and entry[] came from outside: irr is raised anew. */
void ioapic_restore(struct ioapic *ioapic, uint32_t irr);

#endif
