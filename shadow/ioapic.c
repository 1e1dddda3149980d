// SPDX-License-Identifier: GPL-2.0-or-later
#include "ioapic.h"

#include <string.h>

#include "fault.h"

/* Intel 82093AA data sheet (order number 290566). It has no EOI register: EOIs come as messages. */

#define VERSION 0x11
#define IOREGSEL 0x00
#define IOWIN 0x10
#define REG_ID 0
#define REG_VERSION 1
#define REG_ARBITRATION 2
#define REG_TABLE 0x10

#define ENTRY_STATUS (1ull << 12)
#define ENTRY_READ_ONLY (ENTRY_STATUS | IOAPIC_ENTRY_REMOTE_IRR)

void ioapic_init(struct ioapic *ioapic)
{
	int (*deliver)(void *, const struct apic_msg *) = ioapic->deliver;
	void *opaque = ioapic->opaque;

	memset(ioapic, 0, sizeof(*ioapic));
	ioapic->deliver = deliver;
	ioapic->opaque = opaque;
	ioapic->base = IOAPIC_BASE;
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->entry[pin] = IOAPIC_ENTRY_MASKED;
}

/* ---- interrupts ---- */

/* Sends the pin's message if its entry allows. */
static int service(struct ioapic *ioapic, unsigned int pin, bool status)
{
	uint64_t entry = ioapic->entry[pin], taken = 0;
	bool level = entry & IOAPIC_ENTRY_LEVEL;
	struct apic_msg msg = {
		.dest = entry >> 56,
		.vector = entry,
		.mode = entry >> 8 & 7,
		.logical = entry >> 11 & 1,
		.level = level,
		.taken = &taken,
	};
	int ret;

	if (entry & IOAPIC_ENTRY_MASKED || (level && entry & IOAPIC_ENTRY_REMOTE_IRR))
		return -1;
	if (!level)
		ioapic->irr_delivered |= 1u << pin;
	ret = ioapic->deliver(ioapic->opaque, &msg);
	/* A message that nobody takes gets no EOI. To KVM it is sent all the same. */
	if (ret < 0)
		ret = 0;
	if (level && ret)
		ioapic->entry[pin] |= IOAPIC_ENTRY_REMOTE_IRR;
	if (pin == IOAPIC_PIN_RTC && status) {
		ioapic->rtc_pending = taken;
		ioapic->rtc_vector = entry;
	}
	return ret;
}

static int raise(struct ioapic *ioapic, unsigned int pin, bool status)
{
	uint32_t bit = 1u << pin;
	bool was_up = ioapic->irr & bit;

	if (pin == IOAPIC_PIN_RTC && status && ioapic->rtc_pending)
		return 0;
	ioapic->irr |= bit;
	if (!(ioapic->entry[pin] & IOAPIC_ENTRY_LEVEL)) {
		ioapic->irr_delivered &= ~bit;
		if (was_up)
			return 0;
	}
	return service(ioapic, pin, status);
}

int ioapic_set_line(struct ioapic *ioapic, unsigned int pin, unsigned int source, bool level, bool status)
{
	if (level)
		ioapic->lines[pin] |= 1 << source;
	else
		ioapic->lines[pin] &= ~(1 << source);
	if (ioapic->lines[pin])
		return raise(ioapic, pin, status);
	ioapic->irr &= ~(1u << pin);
	return 1;
}

void ioapic_service_level(struct ioapic *ioapic, unsigned int pin)
{
	if (ioapic->entry[pin] & IOAPIC_ENTRY_LEVEL && ioapic->irr >> pin & 1)
		service(ioapic, pin, false);
}

void ioapic_restore(struct ioapic *ioapic, uint32_t irr)
{
	ioapic->irr = 0;
	ioapic->irr_delivered = 0;
	ioapic->delayed = 0;
	ioapic->rtc_pending = 0;
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		if (irr >> pin & 1)
			raise(ioapic, pin, true);
}

/* ---- EOI ---- */

uint32_t ioapic_eoi_pins(const struct ioapic *ioapic, uint8_t vector)
{
	uint32_t pins = 0;

	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		if ((uint8_t)ioapic->entry[pin] == vector)
			pins |= 1u << pin;
	return pins;
}

void ioapic_eoi(struct ioapic *ioapic, unsigned int pin, uint32_t vcpu, bool level)
{
	if (pin == IOAPIC_PIN_RTC && ioapic->rtc_vector == (uint8_t)ioapic->entry[pin])
		ioapic->rtc_pending &= ~(1ull << (vcpu & 63));
	if (!level || !(ioapic->entry[pin] & IOAPIC_ENTRY_LEVEL))
		return;
	FAULT_POINT(ioapic_eoi, ioapic, NULL, pin);
	ioapic->entry[pin] &= ~IOAPIC_ENTRY_REMOTE_IRR;
	if (!(ioapic->irr >> pin & 1) || ioapic->entry[pin] & IOAPIC_ENTRY_MASKED) {
		ioapic->streak[pin] = 0;
		return;
	}
	/* The line is still up. Between two such interrupts real hardware leaves a guest time that cannot quiet its device. */
	if (++ioapic->streak[pin] < IOAPIC_STORM) {
		ioapic_service_level(ioapic, pin);
		return;
	}
	ioapic->streak[pin] = 0;
	ioapic->delayed |= 1u << pin;
}

void ioapic_eoi_vectors(const struct ioapic *ioapic, uint32_t also, uint64_t vectors[4])
{
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		uint8_t vector = ioapic->entry[pin];

		if (ioapic->entry[pin] & IOAPIC_ENTRY_LEVEL || also >> pin & 1)
			vectors[vector >> 6] |= 1ull << (vector & 63);
	}
}

/* ---- registers ---- */

static uint32_t window_read(const struct ioapic *ioapic)
{
	uint32_t reg = ioapic->select, n;

	FAULT_RETURN(ioapic_read, ioapic, NULL, reg);
	switch (reg) {
	case REG_ID:
	case REG_ARBITRATION:
		return (ioapic->id & 0xf) << 24;
	case REG_VERSION:
		return (IOAPIC_PINS - 1) << 16 | VERSION;
	default:
		n = (reg - REG_TABLE) / 2;
		if (reg < REG_TABLE || n >= IOAPIC_PINS)
			return 0xffffffff;
		return reg & 1 ? ioapic->entry[n] >> 32 : ioapic->entry[n];
	}
}

uint32_t ioapic_read(const struct ioapic *ioapic, uint32_t offset)
{
	switch (offset) {
	case IOREGSEL:
		return ioapic->select;
	case IOWIN:
		return window_read(ioapic);
	default:
		return 0;
	}
}

static void entry_write(struct ioapic *ioapic, unsigned int pin, bool high, uint32_t value)
{
	uint64_t old = ioapic->entry[pin], new;

	if (high)
		new = (uint32_t)old | (uint64_t)value << 32;
	else
		new = (old & (~0ull << 32 | ENTRY_READ_ONLY)) | (value & ~(uint32_t)ENTRY_READ_ONLY);
	/* Guests switch a pin to edge and back to be rid of a Remote IRR bit. */
	if (!(new &IOAPIC_ENTRY_LEVEL))
		new &= ~IOAPIC_ENTRY_REMOTE_IRR;
	ioapic->entry[pin] = new;
	if (old & ~new &IOAPIC_ENTRY_MASKED)
		ioapic->unmasked |= 1u << pin;
	/* The end of an interrupt sent by the old entry may not be recognized: better a lost tick untold than all swallowed. */
	if (pin == IOAPIC_PIN_RTC)
		ioapic->rtc_pending = 0;
}

bool ioapic_write(struct ioapic *ioapic, uint32_t offset, uint32_t value, unsigned int *pin)
{
	uint32_t reg = ioapic->select;

	if (offset == IOREGSEL) {
		ioapic->select = value & 0xff;
		return false;
	}
	if (offset != IOWIN)
		return false;
	FAULT_POINT(ioapic_write, ioapic, &value, reg);
	if (reg == REG_ID)
		ioapic->id = value >> 24 & 0xf;
	if (reg < REG_TABLE || (reg - REG_TABLE) / 2 >= IOAPIC_PINS)
		return false;
	*pin = (reg - REG_TABLE) / 2;
	entry_write(ioapic, *pin, reg & 1, value);
	return true;
}
