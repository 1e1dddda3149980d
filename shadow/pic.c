// SPDX-License-Identifier: GPL-2.0-or-later
#include "pic.h"

#include <string.h>

/* Intel 8259A data sheet (order number 231468); the ELCR: 82371SB (PIIX3) data sheet, 3.6.4. */

#define CASCADE 2
#define SPURIOUS 7

#define ICW1 0x10
#define ICW1_IC4 0x01
#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10
#define OCW3 0x08
#define OCW3_RIS 0x01
#define OCW3_RR 0x02
#define OCW3_POLL 0x04
#define OCW3_SMM 0x20
#define OCW3_ESMM 0x40

void pic_init(struct pic *pic)
{
	memset(pic, 0, sizeof(*pic));
	/* Timer, keyboard, cascade; real-time clock and FPU are always edge-triggered. */
	pic->chip[0].elcr_mask = 0xf8;
	pic->chip[1].elcr_mask = 0xde;
}

/* ---- priorities ---- */

/* How far down the order of priorities the first pin of the mask is; 8: the mask is empty. */
static unsigned int rank(const struct pic_chip *chip, uint8_t mask)
{
	for (unsigned int n = 0; n < 8; n++)
		if (mask >> ((n + chip->priority_add) & 7) & 1)
			return n;
	return 8;
}

static unsigned int pin_at(const struct pic_chip *chip, unsigned int rank)
{
	return (rank + chip->priority_add) & 7;
}

/* In the special mask mode a masked pin's service holds nobody up. */
static uint8_t service_bits(const struct pic_chip *chip)
{
	return chip->special_mask ? chip->isr & ~chip->imr : chip->isr;
}

/* The pin that asks for service and outranks all in service; -1: none. */
static int chip_due(const struct pic *pic, const struct pic_chip *chip)
{
	unsigned int first = rank(chip, chip->irr & ~chip->imr);
	uint8_t service = service_bits(chip);

	/* Special fully nested mode: what is in service in the second chip must not hold up its other pins. */
	if (chip == &pic->chip[0] && chip->special_fully_nested_mode)
		service &= ~(1 << CASCADE);
	return first < rank(chip, service) ? (int)pin_at(chip, first) : -1;
}

static int chip_line(struct pic_chip *chip, unsigned int pin, bool level)
{
	uint8_t bit = 1 << pin;
	int new = 1;

	if (!level) {
		chip->last_irr &= ~bit;
		if (chip->elcr & bit)
			chip->irr &= ~bit;
		return chip->imr & bit ? -1 : 1;
	}
	if (chip->elcr & bit || !(chip->last_irr & bit)) {
		new = !(chip->irr & bit);
		chip->irr |= bit;
	}
	chip->last_irr |= bit;
	return chip->imr & bit ? -1 : new;
}

/* A request of the second chip reaches the first as an edge, so that each new one counts. */
void pic_update(struct pic *pic)
{
	if (chip_due(pic, &pic->chip[1]) >= 0) {
		chip_line(&pic->chip[0], CASCADE, true);
		chip_line(&pic->chip[0], CASCADE, false);
	}
	pic->output = chip_due(pic, &pic->chip[0]) >= 0;
}

int pic_set_line(struct pic *pic, unsigned int pin, unsigned int source, bool level)
{
	int ret;

	if (level)
		pic->lines[pin] |= 1 << source;
	else
		pic->lines[pin] &= ~(1 << source);
	ret = chip_line(&pic->chip[pin >> 3], pin & 7, pic->lines[pin] != 0);
	pic_update(pic);
	return ret;
}

/* ---- service ---- */

static void service_end(struct pic *pic, struct pic_chip *chip, unsigned int pin)
{
	chip->isr &= ~(1 << pin);
	pic->acked |= 1 << (pin + (chip == &pic->chip[1] ? 8 : 0));
}

static void service_begin(struct pic *pic, struct pic_chip *chip, unsigned int pin)
{
	chip->isr |= 1 << pin;
	/* A level-triggered request stands as long as its line does. */
	if (!(chip->elcr >> pin & 1))
		chip->irr &= ~(1 << pin);
	if (!chip->auto_eoi)
		return;
	if (chip->rotate_on_auto_eoi)
		chip->priority_add = (pin + 1) & 7;
	service_end(pic, chip, pin);
}

/* Pin 7 without a bit in service when the request has gone: "spurious". */
static unsigned int chip_acknowledge(struct pic *pic, struct pic_chip *chip)
{
	int pin = chip_due(pic, chip);

	if (pin < 0)
		return SPURIOUS;
	service_begin(pic, chip, pin);
	return pin;
}

uint8_t pic_acknowledge(struct pic *pic)
{
	bool due = chip_due(pic, &pic->chip[0]) >= 0;
	unsigned int pin = chip_acknowledge(pic, &pic->chip[0]);
	uint8_t vector = pic->chip[0].irq_base + pin;

	if (due && pin == CASCADE)
		vector = pic->chip[1].irq_base + chip_acknowledge(pic, &pic->chip[1]);
	pic_update(pic);
	return vector;
}

/* ---- ports ---- */

bool pic_has_port(uint16_t port)
{
	switch (port) {
	case 0x20:
	case 0x21:
	case 0xa0:
	case 0xa1:
	case 0x4d0:
	case 0x4d1:
		return true;
	default:
		return false;
	}
}

/* The read after a poll command is an acknowledge. */
static uint8_t poll_read(struct pic *pic, struct pic_chip *chip)
{
	int pin = chip_due(pic, chip);

	if (pin >= 0) {
		/* The request to the first chip falls as its pin is acknowledged here. */
		if (chip == &pic->chip[1])
			pic->chip[0].irr &= ~(1 << CASCADE);
		service_begin(pic, chip, pin);
	}
	pic_update(pic);
	return pin < 0 ? SPURIOUS : 0x80 | pin;
}

uint8_t pic_read(struct pic *pic, uint16_t port)
{
	struct pic_chip *chip = &pic->chip[port >= 0x4d0 ? port & 1 : port >> 7 & 1];

	if (port >= 0x4d0)
		return chip->elcr;
	if (chip->poll) {
		chip->poll = 0;
		return poll_read(pic, chip);
	}
	if (port & 1)
		return chip->imr;
	return chip->read_reg_select ? chip->isr : chip->irr;
}

/* Edges must come again; what stands on level-triggered pins still stands. */
static void init_begin(struct pic *pic, struct pic_chip *chip, uint8_t value)
{
	uint8_t forgotten = chip->irr & ~chip->elcr;

	chip->init4 = value & ICW1_IC4;
	chip->last_irr = 0;
	chip->irr &= chip->elcr;
	chip->imr = 0;
	chip->priority_add = 0;
	chip->special_mask = 0;
	chip->read_reg_select = 0;
	if (!chip->init4) {
		chip->special_fully_nested_mode = 0;
		chip->auto_eoi = 0;
	}
	chip->init_state = 1;
	/* Whoever waits for the end of such a request has it now. */
	for (unsigned int pin = 0; pin < 8; pin++)
		if (forgotten >> pin & 1)
			service_end(pic, chip, pin);
}

/* OCW2: R, SL, EOI in bits 7 to 5. */
static void command(struct pic *pic, struct pic_chip *chip, uint8_t value)
{
	unsigned int pin = value & 7, first;

	switch (value >> 5) {
	case 0: /* rotate in automatic EOI mode: clear, set */
	case 4:
		chip->rotate_on_auto_eoi = value >> 7;
		return;
	case 1: /* non-specific EOI, without and with rotation */
	case 5:
		first = rank(chip, service_bits(chip));
		if (first == 8)
			return;
		pin = pin_at(chip, first);
		break;
	case 3: /* specific EOI, without and with rotation */
	case 7:
		break;
	case 6: /* set priority */
		chip->priority_add = (pin + 1) & 7;
		pic_update(pic);
		return;
	default:
		return;
	}
	if (value & 0x80)
		chip->priority_add = (pin + 1) & 7;
	service_end(pic, chip, pin);
	pic_update(pic);
}

static void control_write(struct pic *pic, struct pic_chip *chip, uint8_t value)
{
	if (value & ICW1) {
		/* ICW1's other bits have no use in a PC: always two chips, the ELCR says which pins are level-triggered. */
		init_begin(pic, chip, value);
		pic_update(pic);
	} else if (value & OCW3) {
		if (value & OCW3_POLL)
			chip->poll = 1;
		if (value & OCW3_RR)
			chip->read_reg_select = value & OCW3_RIS;
		if (value & OCW3_ESMM) {
			chip->special_mask = !!(value & OCW3_SMM);
			pic_update(pic);
		}
	} else {
		command(pic, chip, value);
	}
}

static void data_write(struct pic *pic, struct pic_chip *chip, uint8_t value)
{
	uint8_t opened;

	switch (chip->init_state) {
	case 1: /* ICW2 */
		chip->irq_base = value & 0xf8;
		chip->init_state = 2;
		break;
	case 2: /* ICW3: the cascade's wiring is what it is */
		chip->init_state = chip->init4 ? 3 : 0;
		break;
	case 3: /* ICW4 */
		chip->special_fully_nested_mode = !!(value & ICW4_SFNM);
		chip->auto_eoi = !!(value & ICW4_AEOI);
		chip->init_state = 0;
		break;
	default: /* OCW1 */
		opened = chip->imr & ~value;
		pic->unmasked |= opened << (chip == &pic->chip[1] ? 8 : 0);
		chip->imr = value;
		pic_update(pic);
	}
}

void pic_write(struct pic *pic, uint16_t port, uint8_t value)
{
	struct pic_chip *chip = &pic->chip[port >= 0x4d0 ? port & 1 : port >> 7 & 1];

	if (port >= 0x4d0)
		chip->elcr = value & chip->elcr_mask;
	else if (port & 1)
		data_write(pic, chip, value);
	else
		control_write(pic, chip, value);
}
