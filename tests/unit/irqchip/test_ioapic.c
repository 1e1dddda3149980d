// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "ioapic.h"
#include "suites.h"

/* Against the 82093AA's data sheet. The other end of its messages is a list here. */

static struct ioapic ioapic;
static struct apic_msg sent[8];
static unsigned int sends;
static int answer;

static int deliver(void *opaque, const struct apic_msg *msg)
{
	ck_assert_ptr_eq(opaque, &ioapic);
	sent[sends++ % 8] = *msg;
	if (answer > 0 && msg->taken)
		*msg->taken |= 1; /* vCPU 0 */
	return answer;
}

static void setup(void)
{
	ioapic.deliver = deliver;
	ioapic.opaque = &ioapic;
	ioapic_init(&ioapic);
	sends = 0;
	answer = 1;
}

static uint32_t reg_get(uint32_t reg)
{
	unsigned int pin;

	ck_assert(!ioapic_write(&ioapic, 0, reg, &pin));
	ck_assert_uint_eq(ioapic_read(&ioapic, 0), reg);
	return ioapic_read(&ioapic, 0x10);
}

static bool reg_set(uint32_t reg, uint32_t value)
{
	unsigned int pin = 99;
	bool entry;

	ioapic_write(&ioapic, 0, reg, &pin);
	entry = ioapic_write(&ioapic, 0x10, value, &pin);
	if (entry)
		ck_assert_uint_eq(pin, (reg - 0x10) / 2);
	return entry;
}

static void entry_set(unsigned int pin, uint64_t value)
{
	ck_assert(reg_set(0x11 + 2 * pin, value >> 32));
	ck_assert(reg_set(0x10 + 2 * pin, value));
}

START_TEST(registers)
{
	ck_assert_uint_eq(reg_get(1), 0x00170011);
	ck_assert(!reg_set(1, 0xffffffff));
	ck_assert_uint_eq(reg_get(1), 0x00170011);
	ck_assert_uint_eq(reg_get(0), 0);
	ck_assert(!reg_set(0, 0xffffffff));
	ck_assert_uint_eq(reg_get(0), 0x0f000000);
	ck_assert_uint_eq(reg_get(2), 0x0f000000); /* the arbitration ID follows */
	ck_assert(!reg_set(2, 0));
	ck_assert_uint_eq(reg_get(2), 0x0f000000);
	for (unsigned int reg = 3; reg < 0x10; reg++) {
		ck_assert(!reg_set(reg, 0));
		ck_assert_uint_eq(reg_get(reg), 0xffffffff);
	}
	for (unsigned int reg = 0x40; reg < 0x100; reg++) {
		ck_assert(!reg_set(reg, 0));
		ck_assert_uint_eq(reg_get(reg), 0xffffffff);
	}
	for (uint32_t offset = 4; offset < 0x100; offset += 4)
		if (offset != 0x10)
			ck_assert_uint_eq(ioapic_read(&ioapic, offset), 0);
}
END_TEST

START_TEST(entries)
{
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		ck_assert_uint_eq(reg_get(0x10 + 2 * pin), 0x10000); /* masked after reset */
		ck_assert_uint_eq(reg_get(0x11 + 2 * pin), 0);
		entry_set(pin, 0xab00000000018100 | (0x30 + pin));
		ck_assert_uint_eq(reg_get(0x10 + 2 * pin), 0x18130 + pin);
		ck_assert_uint_eq(reg_get(0x11 + 2 * pin), 0xab000000);
	}
	/* Delivery status and Remote IRR are read-only. */
	entry_set(3, 0x1d040);
	ck_assert_uint_eq(reg_get(0x16), 0x18040);
	ioapic.entry[3] |= 0x5000;
	entry_set(3, 0x18041);
	ck_assert_uint_eq(reg_get(0x16), 0x1d041);
	entry_set(3, 0x10041); /* edge: Remote IRR goes */
	ck_assert_uint_eq(reg_get(0x16), 0x11041);
}
END_TEST

START_TEST(edge)
{
	entry_set(4, 0x0300000000000031);
	ck_assert_int_eq(ioapic_set_line(&ioapic, 4, 0, true, false), 1);
	ck_assert_uint_eq(sends, 1);
	ck_assert_uint_eq(sent[0].vector, 0x31);
	ck_assert_uint_eq(sent[0].dest, 3);
	ck_assert(!sent[0].level && !sent[0].logical && sent[0].mode == 0);
	ck_assert_int_eq(ioapic_set_line(&ioapic, 4, 0, true, false), 0); /* no edge */
	ck_assert_uint_eq(sends, 1);
	ck_assert_int_eq(ioapic_set_line(&ioapic, 4, 0, false, false), 1);
	ck_assert_int_eq(ioapic_set_line(&ioapic, 4, 0, true, false), 1);
	ck_assert_uint_eq(sends, 2);
	/* An edge while masked is lost. */
	ioapic_set_line(&ioapic, 4, 0, false, false);
	entry_set(4, 0x10031);
	ck_assert_int_eq(ioapic_set_line(&ioapic, 4, 0, true, false), -1);
	entry_set(4, 0x00031);
	ioapic_service_level(&ioapic, 4);
	ck_assert_uint_eq(sends, 2);
	ck_assert_uint_eq(ioapic.unmasked, 1 << 4);
	ck_assert(!(ioapic.entry[4] & IOAPIC_ENTRY_REMOTE_IRR));
}
END_TEST

START_TEST(level)
{
	entry_set(9, 0xff00000000008950); /* logical, lowest priority */
	ck_assert_int_eq(ioapic_set_line(&ioapic, 9, 0, true, false), 1);
	ck_assert(sent[0].level && sent[0].logical && sent[0].mode == 1 && sent[0].dest == 0xff);
	ck_assert(ioapic.entry[9] & IOAPIC_ENTRY_REMOTE_IRR);
	ck_assert_int_eq(ioapic_set_line(&ioapic, 9, 0, true, false), -1); /* one at a time */
	ck_assert_uint_eq(sends, 1);
	/* EOI with the line up: once more; with the line down: no more. */
	ck_assert_uint_eq(ioapic_eoi_pins(&ioapic, 0x50), 1 << 9);
	ck_assert_uint_eq(ioapic_eoi_pins(&ioapic, 0x51), 0);
	ioapic_eoi(&ioapic, 9, 0, true);
	ck_assert_uint_eq(sends, 2);
	ioapic_set_line(&ioapic, 9, 0, false, false);
	ioapic_eoi(&ioapic, 9, 0, true);
	ck_assert_uint_eq(sends, 2);
	ck_assert(!(ioapic.entry[9] & IOAPIC_ENTRY_REMOTE_IRR));
	/* While masked it waits, and comes with the mask's end. */
	entry_set(9, 0x18050);
	ck_assert_int_eq(ioapic_set_line(&ioapic, 9, 0, true, false), -1);
	entry_set(9, 0x08050);
	ioapic_service_level(&ioapic, 9);
	ck_assert_uint_eq(sends, 3);
	/* The EOI of an edge with the same vector is not this pin's. */
	ioapic_eoi(&ioapic, 9, 0, false);
	ck_assert(ioapic.entry[9] & IOAPIC_ENTRY_REMOTE_IRR);
}
END_TEST

START_TEST(shared_vector)
{
	entry_set(10, 0x8060);
	entry_set(11, 0x8060);
	ck_assert_uint_eq(ioapic_eoi_pins(&ioapic, 0x60), 3 << 10);
}
END_TEST

START_TEST(nobody_there)
{
	entry_set(9, 0x8050);
	answer = _i; /* an APIC that is off, or none */
	ck_assert_int_eq(ioapic_set_line(&ioapic, 9, 0, true, false), 0);
	ck_assert(!(ioapic.entry[9] & IOAPIC_ENTRY_REMOTE_IRR));
}
END_TEST

START_TEST(delivery_modes)
{
	static const uint8_t modes[] = { 0, 1, 2, 4, 5, 7 };

	for (unsigned int n = 0; n < sizeof(modes); n++) {
		entry_set(12, modes[n] << 8 | 0x70);
		ioapic_set_line(&ioapic, 12, 0, true, false);
		ioapic_set_line(&ioapic, 12, 0, false, false);
		ck_assert_uint_eq(sent[n].mode, modes[n]);
	}
}
END_TEST

START_TEST(sources)
{
	entry_set(9, 0x8050);
	ioapic_set_line(&ioapic, 9, 0, true, false);
	ioapic_set_line(&ioapic, 9, 1, true, false);
	ioapic_set_line(&ioapic, 9, 0, false, false);
	ck_assert_uint_eq(ioapic.irr, 1 << 9);
	ioapic_set_line(&ioapic, 9, 1, false, false);
	ck_assert_uint_eq(ioapic.irr, 0);
}
END_TEST

/* The VMM hears when a tick of the real-time clock comes before the last one's EOI. */
START_TEST(clock_ticks)
{
	entry_set(IOAPIC_PIN_RTC, 0x48);
	for (int n = 0; n < 3; n++) {
		ck_assert_int_eq(ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, true, true), 1);
		ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, false, true);
		ck_assert_int_eq(ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, true, true), 0);
		ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, false, true);
		ck_assert_uint_eq(sends, n + 1);
		ioapic_eoi(&ioapic, IOAPIC_PIN_RTC, 1, false); /* another vCPU's */
		ck_assert_int_eq(ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, true, true), 0);
		ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, false, true);
		ioapic_eoi(&ioapic, IOAPIC_PIN_RTC, 0, false);
	}
	/* Who does not ask is not held up. */
	ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, true, true);
	ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, false, true);
	ck_assert_int_eq(ioapic_set_line(&ioapic, IOAPIC_PIN_RTC, 0, true, false), 1);
}
END_TEST

START_TEST(vectors)
{
	uint64_t v[4] = { 0 };

	entry_set(1, 0x8021);
	entry_set(2, 0x18080); /* masked ones too: they may be unmasked any time */
	entry_set(3, 0x00ff);
	entry_set(4, 0x00fe);
	ioapic_eoi_vectors(&ioapic, 1 << 4, v);
	ck_assert_uint_eq(v[0], 1ull << 0x21);
	ck_assert_uint_eq(v[1], 0);
	ck_assert_uint_eq(v[2], 1);
	ck_assert_uint_eq(v[3], 1ull << 62);
}
END_TEST

START_TEST(hostile)
{
	uint64_t v[4];
	unsigned int pin;

	srand(_i);
	for (int n = 0; n < 20000; n++) {
		if (rand() % 64 == 0) {
			ioapic.select = rand();
			ioapic.id = rand();
			for (int i = 0; i < IOAPIC_PINS; i++)
				ioapic.entry[i] = (uint64_t)rand() << 40 ^ rand();
			ioapic_restore(&ioapic, rand());
		}
		answer = rand() % 4 - 1;
		if (ioapic_write(&ioapic, rand() % 0x20 & ~3, rand(), &pin)) {
			ck_assert_uint_lt(pin, IOAPIC_PINS);
			ioapic_service_level(&ioapic, pin);
		}
		ioapic_read(&ioapic, rand() % 0x100);
		ioapic_set_line(&ioapic, rand() % IOAPIC_PINS, rand() % 3, rand() % 2, rand() % 2);
		ck_assert_uint_eq(ioapic_eoi_pins(&ioapic, rand()) >> IOAPIC_PINS, 0);
		ioapic_eoi(&ioapic, rand() % IOAPIC_PINS, rand(), rand() % 2);
		memset(v, 0, sizeof(v));
		ioapic_eoi_vectors(&ioapic, rand(), v);
		ck_assert_uint_eq(ioapic.irr >> IOAPIC_PINS, 0);
	}
}
END_TEST

Suite *suite_ioapic(void)
{
	Suite *suite = suite_create("ioapic");
	TCase *tcase = tcase_create("ioapic");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, registers);
	tcase_add_test(tcase, entries);
	tcase_add_test(tcase, edge);
	tcase_add_test(tcase, level);
	tcase_add_test(tcase, shared_vector);
	tcase_add_loop_test(tcase, nobody_there, -1, 1);
	tcase_add_test(tcase, delivery_modes);
	tcase_add_test(tcase, sources);
	tcase_add_test(tcase, clock_ticks);
	tcase_add_test(tcase, vectors);
	tcase_add_loop_test(tcase, hostile, 0, 8);
	suite_add_tcase(suite, tcase);
	return suite;
}
