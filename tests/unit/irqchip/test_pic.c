// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "pic.h"
#include "suites.h"

/* Against the 8259A's data sheet. Vectors as a PC's firmware sets them: 08h and 70h. */

static struct pic pic;

static void program(uint8_t icw4)
{
	static const uint16_t ports[2] = { 0x20, 0xa0 };

	for (int n = 0; n < 2; n++) {
		pic_write(&pic, ports[n], 0x11);
		pic_write(&pic, ports[n] + 1, n ? 0x70 : 0x08);
		pic_write(&pic, ports[n] + 1, n ? 2 : 4);
		pic_write(&pic, ports[n] + 1, icw4);
	}
}

static void setup(void)
{
	pic_init(&pic);
	program(0x01);
	pic.acked = pic.unmasked = 0;
}

static int line(unsigned int pin, bool level)
{
	return pic_set_line(&pic, pin, 0, level);
}

static void pulse(unsigned int pin)
{
	line(pin, true);
	line(pin, false);
}

static uint8_t reg(unsigned int chip, bool isr)
{
	uint16_t port = chip ? 0xa0 : 0x20;

	pic_write(&pic, port, isr ? 0x0b : 0x0a);
	return pic_read(&pic, port);
}

/* The CPU takes an interrupt: there is one, and it has this vector. */
static void takes(uint8_t vector)
{
	ck_assert(pic.output);
	ck_assert_uint_eq(pic_acknowledge(&pic), vector);
}

static void eoi(unsigned int chip)
{
	pic_write(&pic, chip ? 0xa0 : 0x20, 0x20);
}

START_TEST(initialization)
{
	/* Masks, priorities and modes of before are gone; a request on an edge pin, too. */
	pic_write(&pic, 0x21, 0xff);
	pic_write(&pic, 0x20, 0xc3);
	pic_write(&pic, 0x20, 0x68);
	pulse(5);
	ck_assert(!pic.output);
	pic_write(&pic, 0x20, 0x10); /* no ICW4 */
	ck_assert_uint_eq(pic_read(&pic, 0x21), 0);
	ck_assert_uint_eq(pic.chip[0].priority_add, 0);
	ck_assert_uint_eq(pic.chip[0].special_mask, 0);
	ck_assert_uint_eq(pic_read(&pic, 0x20), 0); /* IRR is what is read */
	pic_write(&pic, 0x21, 0x2f);		    /* ICW2: low bits are the pin's */
	pic_write(&pic, 0x21, 0x04);
	pic_write(&pic, 0x21, 0xf0); /* a mask already */
	ck_assert_uint_eq(pic_read(&pic, 0x21), 0xf0);
	pulse(1);
	takes(0x29);
	ck_assert(pic.acked & 1 << 5); /* whoever waits for pin 5's end need wait no longer */
	/* ICW1 without ICW4 ends automatic EOI and special fully nested mode. */
	program(0x13);
	ck_assert(pic.chip[0].auto_eoi && pic.chip[0].special_fully_nested_mode);
	pic_write(&pic, 0x20, 0x10);
	ck_assert(!pic.chip[0].auto_eoi && !pic.chip[0].special_fully_nested_mode);
}
END_TEST

START_TEST(edges)
{
	ck_assert_int_eq(line(3, true), 1);
	ck_assert_int_eq(line(3, true), 1); /* no edge: KVM's answer is this */
	line(3, false);
	ck_assert_int_eq(line(3, true), 0); /* an edge, but the request of the first one still stands */
	takes(0x0b);
	ck_assert(!pic.output);
	line(3, true); /* in service, the line is up all the time: nothing new */
	eoi(0);
	ck_assert(!pic.output);
	line(3, false);
	line(3, true);
	takes(0x0b);
	ck_assert_uint_eq(reg(0, true), 0x08);
	ck_assert_uint_eq(reg(0, false), 0);
	eoi(0);
	ck_assert_uint_eq(reg(0, true), 0);
	ck_assert_uint_eq(pic.acked, 1 << 3);
}
END_TEST

START_TEST(levels)
{
	pic_write(&pic, 0x4d0, 0xff);
	ck_assert_uint_eq(pic_read(&pic, 0x4d0), 0xf8); /* 0 to 2 are always edges */
	pic_write(&pic, 0x4d1, 0xff);
	ck_assert_uint_eq(pic_read(&pic, 0x4d1), 0xde); /* 8 and 13 too */
	line(5, true);
	takes(0x0d);
	ck_assert_uint_eq(reg(0, false), 0x20); /* the request stands with its line */
	ck_assert(!pic.output);
	eoi(0);
	takes(0x0d);
	line(5, false);
	eoi(0);
	ck_assert(!pic.output);
	/* A level that goes before it is taken leaves nothing behind; an edge does. */
	pulse(6);
	ck_assert(!pic.output);
	pulse(1);
	ck_assert(pic.output);
}
END_TEST

START_TEST(nesting)
{
	pulse(6);
	pulse(3);
	pulse(4);
	takes(0x0b); /* the lowest number first */
	ck_assert(!pic.output);
	pulse(1); /* only what outranks it may interrupt it */
	takes(0x09);
	pulse(1);
	ck_assert(!pic.output);
	eoi(0); /* of pin 1, the highest in service */
	ck_assert_uint_eq(reg(0, true), 0x08);
	takes(0x09);
	eoi(0);
	eoi(0);
	takes(0x0c);
	eoi(0);
	takes(0x0e);
	eoi(0);
	ck_assert(!pic.output);
	eoi(0); /* nothing in service: nothing happens */
	ck_assert_uint_eq(reg(0, true), 0);
}
END_TEST

START_TEST(masks)
{
	pic_write(&pic, 0x21, 0x10);
	ck_assert_int_eq(line(4, true), -1);
	ck_assert_int_eq(line(4, false), -1);
	ck_assert(!pic.output);
	ck_assert_uint_eq(reg(0, false), 0x10);
	pic_write(&pic, 0x21, 0x00);
	ck_assert_uint_eq(pic.unmasked, 0x10);
	takes(0x0c);
	pic.unmasked = 0;
	pic_write(&pic, 0xa1, 0xff);
	pic_write(&pic, 0xa1, 0x7e);
	ck_assert_uint_eq(pic.unmasked, 0x8100);
}
END_TEST

START_TEST(specific_eoi)
{
	pulse(4);
	takes(0x0c);
	pulse(2 + 1);
	takes(0x0b);
	pic_write(&pic, 0x20, 0x60 | 4);
	ck_assert_uint_eq(reg(0, true), 0x08);
	pic_write(&pic, 0x20, 0x40); /* no operation */
	ck_assert_uint_eq(reg(0, true), 0x08);
	pic_write(&pic, 0x20, 0x60 | 3);
	ck_assert_uint_eq(reg(0, true), 0);
}
END_TEST

START_TEST(rotation)
{
	/* By non-specific EOI: who was served goes to the end. */
	pulse(4);
	takes(0x0c);
	pulse(6);
	pic_write(&pic, 0x20, 0xa0);
	ck_assert_uint_eq(pic.chip[0].priority_add, 5);
	pulse(4);
	takes(0x0e);
	eoi(0);
	takes(0x0c);
	eoi(0);
	/* By specific EOI */
	pulse(0);
	takes(0x08);
	pic_write(&pic, 0x20, 0xe0 | 0);
	ck_assert_uint_eq(reg(0, true), 0);
	ck_assert_uint_eq(pic.chip[0].priority_add, 1);
	/* By command: pin 2 becomes the lowest, so 3 the highest. */
	pic_write(&pic, 0x20, 0xc0 | 2);
	pulse(0);
	pulse(7);
	takes(0x0f);
	pulse(3);
	takes(0x0b);
}
END_TEST

START_TEST(automatic_eoi)
{
	program(0x03);
	pulse(3);
	takes(0x0b);
	ck_assert_uint_eq(reg(0, true), 0);
	ck_assert_uint_eq(pic.acked, 1 << 3);
	pulse(3);
	takes(0x0b);
	/* With rotation */
	pic_write(&pic, 0x20, 0x80);
	pulse(3);
	takes(0x0b);
	pulse(3);
	pulse(6);
	takes(0x0e);
	pic_write(&pic, 0x20, 0x00);
	takes(0x0b);
	ck_assert_uint_eq(pic.chip[0].priority_add, 7);
}
END_TEST

START_TEST(special_mask)
{
	pulse(3);
	takes(0x0b);
	pulse(5);
	pic_write(&pic, 0x21, 0x08);
	ck_assert(!pic.output); /* masked, but in service: still in the way */
	pic_write(&pic, 0x20, 0x68);
	takes(0x0d); /* not in this mode */
	eoi(0);	     /* a non-specific EOI does not see what is masked */
	ck_assert_uint_eq(reg(0, true), 0x08);
	pic_write(&pic, 0x20, 0x08); /* without ESMM: no change */
	pulse(6);
	takes(0x0e);
	eoi(0);
	pic_write(&pic, 0x20, 0x48);
	pulse(6);
	ck_assert(!pic.output);
}
END_TEST

START_TEST(poll)
{
	pic_write(&pic, 0x20, 0x0c);
	ck_assert_uint_eq(pic_read(&pic, 0x20) & 0x80, 0);
	pulse(6);
	pic_write(&pic, 0x20, 0x0c);
	ck_assert_uint_eq(pic_read(&pic, 0x20), 0x86);
	ck_assert_uint_eq(reg(0, true), 0x40); /* the read was the acknowledge */
	ck_assert_uint_eq(reg(0, false), 0);
	ck_assert(!pic.output);
	eoi(0);
	/* The second chip by itself: the first forgets the request. */
	pulse(9);
	ck_assert(pic.output);
	pic_write(&pic, 0xa0, 0x0c);
	ck_assert_uint_eq(pic_read(&pic, 0xa0), 0x81);
	ck_assert_uint_eq(reg(1, true), 0x02);
	ck_assert(!pic.output);
	/* One read only */
	ck_assert_uint_eq(pic_read(&pic, 0xa0), 0x02);
}
END_TEST

START_TEST(cascade)
{
	pulse(12);
	takes(0x74);
	ck_assert_uint_eq(reg(0, true), 0x04);
	ck_assert_uint_eq(reg(1, true), 0x10);
	pulse(9); /* of the second chip the higher one: the first holds it up until its EOI */
	ck_assert(!pic.output);
	pulse(1);
	takes(0x09);
	eoi(0);
	eoi(1);
	ck_assert(!pic.output);
	eoi(0);
	takes(0x71);
	eoi(1);
	eoi(0);
	ck_assert_uint_eq(pic.acked, 1 << 12 | 1 << 9 | 1 << 2 | 1 << 1);
	/* Special fully nested mode lets it through. */
	pic_write(&pic, 0x20, 0x11);
	pic_write(&pic, 0x21, 0x08);
	pic_write(&pic, 0x21, 0x04);
	pic_write(&pic, 0x21, 0x11);
	pulse(12);
	takes(0x74);
	pulse(9);
	takes(0x71);
	ck_assert_uint_eq(reg(1, true), 0x12);
	pulse(12); /* but not the lower one */
	ck_assert(!pic.output);
}
END_TEST

START_TEST(spurious)
{
	ck_assert_uint_eq(pic_acknowledge(&pic), 0x0f);
	ck_assert_uint_eq(reg(0, true), 0);
	/* A level that goes between the second chip's request and the acknowledge: pin 15, and only pin 2 is in service. */
	pic_write(&pic, 0x4d1, 0x02);
	line(9, true);
	line(9, false);
	ck_assert(pic.output);
	ck_assert_uint_eq(pic_acknowledge(&pic), 0x77);
	ck_assert_uint_eq(reg(0, true), 0x04);
	ck_assert_uint_eq(reg(1, true), 0);
}
END_TEST

/* The line is up as long as one of its sources holds it. */
START_TEST(shared_lines)
{
	pic_write(&pic, 0x4d0, 0x20);
	pic_set_line(&pic, 5, 0, true);
	pic_set_line(&pic, 5, 1, true);
	pic_set_line(&pic, 5, 0, false);
	ck_assert(pic.output);
	pic_set_line(&pic, 5, 1, false);
	ck_assert(!pic.output);
}
END_TEST

START_TEST(has_ports)
{
	for (unsigned int port = 0; port < 0x10000; port++) {
		bool is =
			port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1 || port == 0x4d0 || port == 0x4d1;

		if (pic_has_port(port) != is)
			ck_abort_msg("port %x", port);
	}
}
END_TEST

/* Whatever is in the state and whatever is written: no index runs away (ASan, UBSan look), and the chip still gives vectors. */
START_TEST(hostile)
{
	static const uint16_t ports[] = { 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1 };

	srand(_i);
	for (int n = 0; n < 20000; n++) {
		if (rand() % 64 == 0)
			for (unsigned int i = 0; i < sizeof(pic.chip); i++)
				((uint8_t *)pic.chip)[i] = rand();
		pic_write(&pic, ports[rand() % 6], rand());
		pic_read(&pic, ports[rand() % 6]);
		pic_set_line(&pic, rand() % PIC_PINS, rand() % 3, rand() % 2);
		if (rand() % 4 == 0)
			pic_acknowledge(&pic);
		if (rand() % 16 == 0)
			pic_update(&pic);
	}
	memset(pic.lines, 0, sizeof(pic.lines));
	memset(pic.chip, 0, sizeof(pic.chip));
	program(0x01);
	pulse(14);
	takes(0x76);
}
END_TEST

Suite *suite_pic(void)
{
	Suite *suite = suite_create("pic");
	TCase *tcase = tcase_create("pic");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, initialization);
	tcase_add_test(tcase, edges);
	tcase_add_test(tcase, levels);
	tcase_add_test(tcase, nesting);
	tcase_add_test(tcase, masks);
	tcase_add_test(tcase, specific_eoi);
	tcase_add_test(tcase, rotation);
	tcase_add_test(tcase, automatic_eoi);
	tcase_add_test(tcase, special_mask);
	tcase_add_test(tcase, poll);
	tcase_add_test(tcase, cascade);
	tcase_add_test(tcase, spurious);
	tcase_add_test(tcase, shared_lines);
	tcase_add_test(tcase, has_ports);
	tcase_add_loop_test(tcase, hostile, 0, 8);
	suite_add_tcase(suite, tcase);
	return suite;
}
