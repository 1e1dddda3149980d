// SPDX-License-Identifier: GPL-2.0-or-later
#include "pit.h"

#include <linux/kvm.h>
#include <string.h>

#include "fault.h"

/*
 * Intel 8254 data sheet (order number 231164). Counts are not ticked down but worked out from the time since they were
 * loaded. A new count takes effect at once, also in modes 2 and 3, where the chip ends the period first.
 */

#define NS_PER_SEC 1000000000ull

enum { RW_LATCH, RW_LOW, RW_HIGH, RW_WORD, RW_WORD_HIGH };

/* ---- time and counts ---- */

/* ns below 2^63: no product overflows. */
static uint64_t ns_to_clocks(uint64_t ns)
{
	return ns / NS_PER_SEC * PIT_HZ + ns % NS_PER_SEC * PIT_HZ / NS_PER_SEC;
}

static uint32_t bcd_to_number(uint32_t bcd)
{
	return (bcd >> 12 & 15) * 1000 + (bcd >> 8 & 15) * 100 + (bcd >> 4 & 15) * 10 + (bcd & 15);
}

static uint16_t number_to_bcd(uint32_t n)
{
	return n / 1000 % 10 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10;
}

/* Clocks from the count to 0. */
static uint32_t clocks_of(const struct pit_channel *c)
{
	uint32_t count = c->count;

	if (c->bcd) {
		count = bcd_to_number(count & 0xffff);
		return count ? count : 10000;
	}
	return count ? count : 0x10000;
}

static uint64_t elapsed(const struct pit_channel *c, int64_t now)
{
	int64_t ns = (int64_t)((uint64_t)(c->paused ? c->paused_ns : now) - (uint64_t)c->load_time);

	return c->null_count || ns < 0 ? 0 : ns_to_clocks(ns);
}

static uint16_t counter(const struct pit_channel *c, int64_t now)
{
	uint32_t count = clocks_of(c), modulo = c->bcd ? 10000 : 0x10000, value;
	uint64_t d = elapsed(c, now);

	switch (c->mode) {
	case 0: /* these go on through 0 */
	case 1:
	case 4:
	case 5:
		value = (count % modulo + modulo - d % modulo) % modulo;
		break;
	case 3: /* counts by two, twice in a period */
		value = count - 2 * d % count;
		break;
	default:
		value = count - d % count;
	}
	return c->bcd ? number_to_bcd(value) : value;
}

/* The level of OUT: figures 15 to 20 of the data sheet. */
static bool output(const struct pit_channel *c, int64_t now)
{
	uint32_t count = clocks_of(c);
	uint64_t d = elapsed(c, now);

	if (c->null_count)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
	case 1:
		return d >= count;
	case 2: /* low for the last clock */
		return !c->gate || d % count != count - 1;
	case 3: /* an odd count is high for the longer half */
		return !c->gate || d % count < (count + 1) / 2;
	case 4: /* low for one clock */
	case 5:
		return d != count;
	default:
		return false;
	}
}

/* ---- interrupts of channel 0 ---- */

static void timer_stop(struct pit *pit)
{
	pit->next = 0;
	pit->periodic = false;
}

void pit_reset_ticks(struct pit *pit)
{
	pit->pending = 0;
	pit->ready = true;
}

void pit_set_reinject(struct pit *pit, bool reinject)
{
	if (reinject && !pit->reinject)
		pit_reset_ticks(pit);
	pit->reinject = reinject;
}

static void timer_start(struct pit *pit, int64_t now)
{
	const struct pit_channel *c = &pit->channel[0];
	uint64_t ns = clocks_of(c) * NS_PER_SEC; /* in 1/PIT_HZ */

	timer_stop(pit);
	if (pit->flags & KVM_PIT_FLAGS_HPET_LEGACY || c->mode > 4)
		return;
	pit->periodic = c->mode == 2 || c->mode == 3;
	pit->period_ns = ns / PIT_HZ;
	pit->period_rest = ns % PIT_HZ;
	if (pit->periodic && pit->period_ns < PIT_PERIOD_MIN_NS) {
		pit->period_ns = PIT_PERIOD_MIN_NS;
		pit->period_rest = 0;
	}
	pit->rest = pit->period_rest;
	pit_reset_ticks(pit);
	pit->next = now + (int64_t)pit->period_ns;
}

static void next_period(struct pit *pit, uint64_t periods)
{
	pit->rest += periods * pit->period_rest; /* both far below 2^32 */
	pit->next += (int64_t)(periods * pit->period_ns + pit->rest / PIT_HZ);
	pit->rest %= PIT_HZ;
}

/* With reinjection a tick is raised when the one before was taken; until then they are counted. */
static bool tick(struct pit *pit)
{
	if (!pit->reinject)
		return true;
	if (!pit->ready)
		return false;
	pit->ready = false;
	return true;
}

bool pit_expire(struct pit *pit, int64_t now)
{
	uint64_t ticks = 1;

	if (!pit->next || now < pit->next)
		return false;
	if (pit->periodic) {
		ticks += (uint64_t)(now - pit->next) / pit->period_ns;
		/* After a very long stop there is nothing to be made up for. */
		if (ticks > 1000000) {
			ticks = 1;
			pit->next = now;
		}
		next_period(pit, ticks);
	} else {
		pit->next = 0;
	}
	if (pit->reinject)
		pit->pending = pit->pending > UINT32_MAX / 2 ? pit->pending : pit->pending + (uint32_t)ticks;
	return tick(pit);
}

bool pit_acked(struct pit *pit)
{
	pit->ready = true;
	if (!pit->reinject || !pit->pending)
		return false;
	return --pit->pending && tick(pit);
}

/* ---- loading ---- */

static void load(struct pit *pit, unsigned int n, uint32_t count, int64_t now)
{
	struct pit_channel *c = &pit->channel[n];

	c->count = count ? count : 0x10000;
	c->load_time = now;
	/* Modes 1 and 5 take the count over with the gate's next edge. Channel 0's gate is tied high: as KVM, it counts. */
	c->null_count = n && (c->mode == 1 || c->mode == 5);
	c->paused = !c->gate && (c->mode == 0 || (c->mode >= 2 && c->mode <= 4));
	c->paused_ns = now;
	if (!n)
		timer_start(pit, now);
}

void pit_init(struct pit *pit, int64_t now)
{
	memset(pit, 0, sizeof(*pit));
	for (unsigned int n = 0; n < PIT_CHANNELS; n++) {
		pit->channel[n].mode = 0xff; /* undefined until the first control word */
		pit->channel[n].gate = n != 2;
		load(pit, n, 0, now);
	}
	pit->reinject = true;
	pit_reset_ticks(pit);
}

void pit_restore(struct pit *pit, uint32_t flags, int64_t now)
{
	pit->flags = flags;
	for (unsigned int n = 0; n < PIT_CHANNELS; n++) {
		load(pit, n, pit->channel[n].count, now);
		pit->channel[n].null_count = false;
	}
}

/* ---- ports ---- */

static void latch_count(struct pit_channel *c, int64_t now)
{
	if (c->count_latched)
		return; /* until it is read: the first latch stands */
	c->latched_count = counter(c, now);
	c->count_latched = c->rw_mode;
}

static void latch_status(struct pit_channel *c, int64_t now)
{
	if (c->status_latched)
		return;
	c->status =
		output(c, now) << 7 | c->null_count << 6 | (c->rw_mode & 3) << 4 | (c->mode & 7) << 1 | (c->bcd & 1);
	c->status_latched = 1;
}

/* Figure 11: latches count and status of any of the three. */
static void read_back(struct pit *pit, uint8_t value, int64_t now)
{
	for (unsigned int n = 0; n < PIT_CHANNELS; n++) {
		if (!(value >> (n + 1) & 1))
			continue;
		if (!(value & 0x20))
			latch_count(&pit->channel[n], now);
		if (!(value & 0x10))
			latch_status(&pit->channel[n], now);
	}
}

static void control_write(struct pit *pit, uint8_t value, int64_t now)
{
	struct pit_channel *c;
	unsigned int n = value >> 6, rw = value >> 4 & 3, mode = value >> 1 & 7;

	if (n == 3) {
		read_back(pit, value, now);
		return;
	}
	c = &pit->channel[n];
	if (rw == RW_LATCH) {
		latch_count(c, now);
		return;
	}
	c->rw_mode = c->read_state = c->write_state = rw;
	c->mode = mode > 5 ? mode - 4 : mode;
	c->bcd = value & 1;
	c->null_count = true;
	if (!n)
		timer_stop(pit);
}

void pit_write(struct pit *pit, unsigned int port, uint8_t value, int64_t now)
{
	struct pit_channel *c;

	port &= 3;
	if (port == 3) {
		control_write(pit, value, now);
		return;
	}
	c = &pit->channel[port];
	switch (c->write_state) {
	case RW_HIGH:
		load(pit, port, value << 8, now);
		break;
	case RW_WORD:
		c->write_latch = value;
		c->write_state = RW_WORD_HIGH;
		break;
	case RW_WORD_HIGH:
		c->write_state = RW_WORD;
		load(pit, port, c->write_latch | value << 8, now);
		break;
	default:
		load(pit, port, value, now);
	}
}

static uint8_t read_latched(struct pit_channel *c)
{
	uint8_t what = c->count_latched;

	/* The high byte is the next one of a word. */
	c->count_latched = what == RW_WORD ? RW_HIGH : 0;
	return what == RW_HIGH ? c->latched_count >> 8 : c->latched_count;
}

uint8_t pit_read(struct pit *pit, unsigned int port, int64_t now)
{
	struct pit_channel *c;
	uint16_t count;

	FAULT_RETURN(pit_read, pit, NULL, port);
	port &= 3;
	if (port == 3)
		return 0; /* the control word cannot be read */
	c = &pit->channel[port];
	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched)
		return read_latched(c);
	count = counter(c, now);
	switch (c->read_state) {
	case RW_HIGH:
		return count >> 8;
	case RW_WORD:
		c->read_state = RW_WORD_HIGH;
		return count;
	case RW_WORD_HIGH:
		c->read_state = RW_WORD;
		return count >> 8;
	default:
		return count;
	}
}

/* ---- port 61h ---- */

static void set_gate(struct pit_channel *c, bool gate, int64_t now)
{
	bool rises = gate && !c->gate, falls = !gate && c->gate;

	c->gate = gate;
	if (rises && (c->mode == 1 || c->mode == 5)) { /* a trigger */
		c->load_time = now;
		c->null_count = false;
		return;
	}
	if (c->null_count || c->mode == 1 || c->mode >= 5)
		return;
	/* Low: the counter stands. In modes 2 and 3 the rising edge begins a new period, in 0 and 4 the count goes on. */
	if (falls) {
		c->paused = true;
		c->paused_ns = now;
	} else if (rises && c->paused) {
		c->load_time = c->mode == 2 || c->mode == 3 ? now : c->load_time + (now - c->paused_ns);
		c->paused = false;
	}
}

uint8_t pit_speaker_read(const struct pit *pit, int64_t now)
{
	const struct pit_channel *c = &pit->channel[2];
	bool data = pit->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;

	/* Bit 4 shows the refresh of memory: it changes every 15 us or so. */
	return (c->gate ? 1 : 0) | data << 1 | (now >> 14 & 1) << 4 | output(c, now) << 5;
}

void pit_speaker_write(struct pit *pit, uint8_t value, int64_t now)
{
	if (value & 2)
		pit->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	else
		pit->flags &= ~(uint32_t)KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	set_gate(&pit->channel[2], value & 1, now);
}
