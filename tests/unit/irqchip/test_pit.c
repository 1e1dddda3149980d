// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "pit.h"
#include "suites.h"

/* Against the 8254's data sheet; time is the test's. */

static struct pit pit;
static int64_t now;

static void setup(void)
{
	now = 1000000000000;
	pit_init(&pit, now);
}

/* The first moment at which so many clocks have passed. */
static int64_t clocks(uint64_t n)
{
	return (int64_t)((n * 1000000000ull + PIT_HZ - 1) / PIT_HZ);
}

static void control(uint8_t value)
{
	pit_write(&pit, 3, value, now);
}

static void count_write(unsigned int channel, uint16_t count)
{
	pit_write(&pit, channel, count, now);
	pit_write(&pit, channel, count >> 8, now);
}

static uint16_t count_read(unsigned int channel)
{
	uint8_t low = pit_read(&pit, channel, now);

	return low | pit_read(&pit, channel, now) << 8;
}

static uint8_t status(unsigned int channel)
{
	control(0xe0 | 2 << channel);
	return pit_read(&pit, channel, now);
}

static bool out(unsigned int channel)
{
	return status(channel) & 0x80;
}

static void gate(bool level)
{
	pit_speaker_write(&pit, level, now);
}

START_TEST(mode0)
{
	control(0xb0);
	ck_assert(!out(2)); /* low from the control word on */
	gate(true);
	count_write(2, 1000);
	ck_assert_uint_eq(count_read(2), 1000);
	now += clocks(999);
	ck_assert_uint_eq(count_read(2), 1);
	ck_assert(!out(2));
	now += clocks(1) + 1;
	ck_assert(out(2));
	now += clocks(10);
	ck_assert_uint_eq(count_read(2), 0x10000 - 10); /* goes on */
	ck_assert(out(2));
}
END_TEST

START_TEST(mode0_gate)
{
	control(0xb0);
	count_write(2, 1000); /* the gate is low: it stands */
	now += clocks(5000);
	ck_assert_uint_eq(count_read(2), 1000);
	gate(true);
	now += clocks(400);
	gate(false);
	ck_assert_uint_eq(count_read(2), 600);
	now += clocks(5000);
	ck_assert_uint_eq(count_read(2), 600);
	gate(true);
	now += clocks(200);
	ck_assert_uint_eq(count_read(2), 400);
	ck_assert(!out(2));
	now += clocks(401);
	ck_assert(out(2));
}
END_TEST

START_TEST(mode1)
{
	control(0xb2);
	count_write(2, 100);
	ck_assert(out(2)); /* waits for the trigger */
	ck_assert_uint_eq(status(2) & 0x40, 0x40);
	now += clocks(500);
	ck_assert(out(2));
	gate(true);
	ck_assert(!out(2));
	ck_assert_uint_eq(status(2) & 0x40, 0);
	now += clocks(50);
	gate(false); /* has no effect */
	ck_assert_uint_eq(count_read(2), 50);
	gate(true); /* again from the start */
	now += clocks(99);
	ck_assert(!out(2));
	now += clocks(2);
	ck_assert(out(2));
}
END_TEST

START_TEST(mode2)
{
	gate(true);
	control(0xb4);
	count_write(2, 100);
	ck_assert(out(2));
	for (unsigned int n = 0; n < 250; n++) {
		ck_assert_uint_eq(count_read(2), 100 - n % 100);
		ck_assert_int_eq(out(2), n % 100 != 99); /* low for the last clock */
		now = 1000000000000 + clocks(n + 1);
	}
	gate(false);
	ck_assert(out(2));
	now += clocks(77);
	gate(true); /* a new period */
	ck_assert_uint_eq(count_read(2), 100);
}
END_TEST

START_TEST(mode3)
{
	gate(true);
	control(0xb6 | (_i & 1) << 3); /* 3 and its other name, 7 */
	count_write(2, 100 + (_i >> 1));
	for (unsigned int n = 0; n < 300; n++) {
		unsigned int period = 100 + (_i >> 1), at = n % period;

		ck_assert_int_eq(out(2), at < (period + 1) / 2); /* an odd one is high for a clock more */
		if (!(_i >> 1))
			ck_assert_uint_eq(count_read(2), 100 - 2 * at % 100);
		now = 1000000000000 + clocks(n + 1);
	}
	ck_assert_uint_eq(status(2) >> 1 & 7, 3);
}
END_TEST

START_TEST(modes4_5)
{
	gate(_i == 4);
	control(0xb0 | _i << 1);
	count_write(2, 10);
	if (_i == 5)
		gate(true);
	for (unsigned int n = 0; n < 30; n++) {
		ck_assert_int_eq(out(2), n != 10); /* a strobe of one clock */
		now = 1000000000000 + clocks(n + 1);
	}
}
END_TEST

START_TEST(access_modes)
{
	control(0x90); /* low byte only: the high one is 0 */
	pit_write(&pit, 2, 0x34, now);
	ck_assert_uint_eq(pit.channel[2].count, 0x34);
	ck_assert_uint_eq(pit_read(&pit, 2, now), 0x34);
	control(0xa0); /* high byte only */
	pit_write(&pit, 2, 0x12, now);
	ck_assert_uint_eq(pit.channel[2].count, 0x1200);
	ck_assert_uint_eq(pit_read(&pit, 2, now), 0x12);
	control(0xb0);
	pit_write(&pit, 2, 0x78, now);
	ck_assert_uint_eq(status(2) & 0x40, 0x40); /* half of it is not yet a count */
	pit_write(&pit, 2, 0x56, now);
	ck_assert_uint_eq(pit.channel[2].count, 0x5678);
	ck_assert_uint_eq(count_read(2), 0x5678);
	count_write(2, 0);
	ck_assert_uint_eq(pit.channel[2].count, 0x10000);
	ck_assert_uint_eq(count_read(2), 0);
	now += clocks(1);
	ck_assert_uint_eq(pit_read(&pit, 3, now), 0);
}
END_TEST

START_TEST(latches)
{
	gate(true);
	control(0xb4);
	count_write(2, 50000);
	now += clocks(1000);
	control(0x80);
	now += clocks(1000);
	control(0x80); /* ignored until the first one is read */
	ck_assert_uint_eq(count_read(2), 49000);
	ck_assert_uint_eq(count_read(2), 48000); /* as it runs */
	/* Read-back: status first, then the count, both latched at once; of several channels. */
	control(0xc0 | 0x0a);
	now += clocks(1000);
	ck_assert_uint_eq(pit_read(&pit, 2, now), 0x80 | 0x30 | 4);
	ck_assert_uint_eq(count_read(2), 48000);
	ck_assert_uint_eq(pit_read(&pit, 0, now) & 0x40, 0); /* channel 0's status */
	control(0xd0 | 0x08);				     /* the count only */
	ck_assert_uint_eq(count_read(2), 47000);
}
END_TEST

START_TEST(bcd)
{
	gate(true);
	control(0xb1);
	count_write(2, 0x1234);
	now += clocks(234);
	ck_assert_uint_eq(count_read(2), 0x1000);
	now += clocks(1001);
	ck_assert_uint_eq(count_read(2), 0x9999);
	ck_assert(out(2));
	control(0xb5);
	count_write(2, 0); /* 10000 */
	now += clocks(1);
	ck_assert_uint_eq(count_read(2), 0x9999);
	ck_assert_uint_eq(status(2) & 0x3f, 0x35);
}
END_TEST

START_TEST(speaker)
{
	uint8_t value;

	pit_speaker_write(&pit, 0xff, now);
	value = pit_speaker_read(&pit, now);
	ck_assert_uint_eq(value & 0x03, 3);
	ck_assert_uint_eq(value & 0xcc, 0);
	ck_assert_uint_eq(pit.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	pit_speaker_write(&pit, 0, now);
	ck_assert_uint_eq(pit_speaker_read(&pit, now) & 0x03, 0);
	/* Refresh changes, OUT of channel 2 is bit 5. */
	ck_assert_uint_ne(pit_speaker_read(&pit, 0) & 0x10, pit_speaker_read(&pit, 1 << 14) & 0x10);
	control(0xb0);
	count_write(2, 10);
	pit_speaker_write(&pit, 1, now);
	ck_assert_uint_eq(pit_speaker_read(&pit, now) & 0x20, 0);
	now += clocks(11);
	ck_assert_uint_eq(pit_speaker_read(&pit, now) & 0x20, 0x20);
}
END_TEST

/* ---- interrupts of channel 0 ---- */

START_TEST(one_shot)
{
	control(0x30);
	count_write(0, 11932);
	ck_assert_int_ge(pit.next, now + clocks(11932) - 1);
	ck_assert(!pit_expire(&pit, pit.next - 1));
	ck_assert(pit_expire(&pit, pit.next));
	ck_assert_int_eq(pit.next, 0);
	ck_assert(!pit_expire(&pit, now + 10000000000));
	count_write(0, 100);
	control(0x30); /* a control word stops it until the next count */
	ck_assert_int_eq(pit.next, 0);
}
END_TEST

/* Whatever the rounding of one period: after an hour of ticks they are where the counter is. */
START_TEST(no_drift)
{
	uint64_t ticks = 0, count = 1193; /* 1 kHz or so */
	int64_t start = now;

	control(0x34);
	count_write(0, count);
	pit_set_reinject(&pit, false);
	while (ticks < 3600000) {
		int64_t next = pit.next, exact;

		exact = clocks(++ticks * count);
		if (!pit_expire(&pit, next) || next - start < exact - 2 || next - start > exact + 1)
			ck_abort_msg("tick %lu after %ld ns, not %ld", ticks, next - start, exact);
	}
}
END_TEST

START_TEST(rate_limit)
{
	int64_t before;

	control(0x34);
	count_write(0, 2);
	before = pit.next;
	ck_assert(pit_expire(&pit, pit.next));
	ck_assert_int_eq(pit.next - before, PIT_PERIOD_MIN_NS);
	control(0x30); /* a single one may be short */
	count_write(0, 2);
	ck_assert_int_lt(pit.next, now + 2000);
}
END_TEST

/* Ticks that the guest has not taken are made up for, one with each acknowledge. */
START_TEST(reinjection)
{
	control(0x34);
	count_write(0, 11932);
	ck_assert(pit_expire(&pit, pit.next));
	ck_assert(!pit_expire(&pit, pit.next));		       /* not taken yet */
	ck_assert(!pit_expire(&pit, pit.next + 3 * 10000200)); /* four at once */
	ck_assert_uint_eq(pit.pending, 6);
	for (int n = 5; n > 0; n--) {
		ck_assert(pit_acked(&pit));
		ck_assert_uint_eq(pit.pending, n);
	}
	ck_assert(!pit_acked(&pit));
	ck_assert_uint_eq(pit.pending, 0);
	ck_assert(!pit_acked(&pit)); /* one too many */
	ck_assert(pit_expire(&pit, pit.next));
	/* A new count, or unmasking, forgets them. */
	ck_assert(!pit_expire(&pit, pit.next));
	count_write(0, 11932);
	ck_assert_uint_eq(pit.pending, 0);
	ck_assert(pit_expire(&pit, pit.next));
}
END_TEST

START_TEST(no_reinjection)
{
	control(0x34);
	count_write(0, 11932);
	pit_set_reinject(&pit, false);
	for (int n = 0; n < 10; n++)
		ck_assert(pit_expire(&pit, pit.next));
	ck_assert_uint_eq(pit.pending, 0);
	ck_assert(!pit_acked(&pit));
	pit_set_reinject(&pit, true);
	ck_assert(pit_expire(&pit, pit.next));
	ck_assert(!pit_expire(&pit, pit.next));
}
END_TEST

START_TEST(hpet_legacy)
{
	control(0x34);
	count_write(0, 11932);
	ck_assert_int_ne(pit.next, 0);
	pit_restore(&pit, KVM_PIT_FLAGS_HPET_LEGACY, now);
	ck_assert_int_eq(pit.next, 0);
	count_write(0, 11932);
	ck_assert_int_eq(pit.next, 0);
	pit_restore(&pit, 0, now);
	ck_assert_int_eq(pit.next - now, 11932ll * 1000000000 / PIT_HZ);
}
END_TEST

START_TEST(hostile)
{
	srand(_i);
	for (int n = 0; n < 20000; n++) {
		if (rand() % 64 == 0) {
			for (unsigned int i = 0; i < sizeof(pit.channel); i++)
				((uint8_t *)pit.channel)[i] = rand();
			/* bool's bytes are the model's own */
			for (int i = 0; i < PIT_CHANNELS; i++) {
				memset(&pit.channel[i].null_count, 0, sizeof(bool));
				memset(&pit.channel[i].paused, 0, sizeof(bool));
				if (rand() % 2)
					pit.channel[i].count = rand() % 5;
			}
			pit_restore(&pit, rand(), now);
		}
		pit_write(&pit, rand() % 4, rand(), now);
		pit_read(&pit, rand() % 4, now);
		pit_speaker_write(&pit, rand(), now);
		pit_speaker_read(&pit, now);
		pit_expire(&pit, now);
		if (rand() % 4 == 0)
			pit_acked(&pit);
		now += rand() % 100 ? rand() % 100000 : (int64_t)rand() << 20;
		if (rand() % 1000 == 0)
			now = rand() % 3; /* not even the clock is to be trusted */
	}
	now = 1000000000000;
	pit_restore(&pit, 0, now);
	control(0x34);
	count_write(0, 11932);
	ck_assert(pit_expire(&pit, pit.next));
}
END_TEST

Suite *suite_pit(void)
{
	Suite *suite = suite_create("pit");
	TCase *tcase = tcase_create("pit");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, mode0);
	tcase_add_test(tcase, mode0_gate);
	tcase_add_test(tcase, mode1);
	tcase_add_test(tcase, mode2);
	tcase_add_loop_test(tcase, mode3, 0, 4);
	tcase_add_loop_test(tcase, modes4_5, 4, 6);
	tcase_add_test(tcase, access_modes);
	tcase_add_test(tcase, latches);
	tcase_add_test(tcase, bcd);
	tcase_add_test(tcase, speaker);
	tcase_add_test(tcase, one_shot);
	tcase_add_test(tcase, no_drift);
	tcase_add_test(tcase, rate_limit);
	tcase_add_test(tcase, reinjection);
	tcase_add_test(tcase, no_reinjection);
	tcase_add_test(tcase, hpet_legacy);
	tcase_add_loop_test(tcase, hostile, 0, 8);
	suite_add_tcase(suite, tcase);
	return suite;
}
