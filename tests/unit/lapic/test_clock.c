// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <string.h>
#include <time.h>

#include "fakes.h"

/* kvmclock, as a guest computes it from the page, against 128-bit arithmetic. */

struct pvtime {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
};

#define PAGE_GPA (FAKE_RAM_GPA + 0x100)
#define page ((volatile struct pvtime *)(fake_ram + 0x100))

static void start(uint32_t khz)
{
	fake_machine(2);
	fake_tsc = 123456789;
	vm.info.tsc_khz = khz;
	ck_assert_int_eq(clock_create(&vm), 0);
}

/* What the guest's code does. */
static uint64_t guest_ns(const volatile struct pvtime *p, uint64_t guest_tsc)
{
	uint64_t delta = guest_tsc - p->tsc_timestamp;

	delta = p->shift < 0 ? delta >> -p->shift : delta << p->shift;
	return p->system_time + (uint64_t)((unsigned __int128)delta * p->mul >> 32);
}

static const uint32_t khz[] = { 1000,	 19200,	  400000,  500000,  999999,  1000000, 1000001, 1999999, 2000000,
				2000001, 2593906, 2999999, 3700000, 4000001, 5200000, 8000000, 20000000 };

START_TEST(arithmetic)
{
	uint64_t t, start_tsc;

	start(khz[_i]);
	start_tsc = fake_tsc;
	cpu->run->tsc_offset = -77777;
	ck_assert_int_eq(clock_write_system_time(cpu, PAGE_GPA | 1), 0);
	ck_assert_uint_ge(page->mul, 1u << 31); /* no precision thrown away */
	for (uint64_t ticks = 0; ticks < 1ull << 53; ticks = ticks * 3 + 7) {
		unsigned __int128 exact = (unsigned __int128)ticks * 1000000 / khz[_i];
		uint64_t error;

		t = guest_ns(page, start_tsc + ticks - 77777);
		fake_tsc = start_tsc + ticks;
		ck_assert_uint_eq(t, clock_guest_ns(&vm)); /* host and guest agree to the ns */
		error = t > exact ? t - (uint64_t)exact : (uint64_t)exact - t;
		/* a factor rounded to 32 bits: half of one in 2^31; and the bits that the guest shifts out */
		ck_assert_uint_le(error, (uint64_t)(exact >> 32) + 17);
	}
	fake_tsc = start_tsc - 5; /* a CPU that is a little behind: no jump */
	ck_assert_uint_eq(clock_guest_ns(&vm), 0);
}
END_TEST

START_TEST(page_protocol)
{
	start(1000000);
	page->version = 7; /* left odd by someone */
	ck_assert_int_eq(clock_write_system_time(cpu, PAGE_GPA | 1), 0);
	ck_assert_uint_eq(page->version, 8);
	ck_assert_uint_eq(page->flags, 1);
	ck_assert_uint_eq(cpu->msrs->system_time, PAGE_GPA | 1);
	clock_update(cpu);
	ck_assert_uint_eq(page->version, 10);
	cpu->run->tsc_offset = 1000;
	clock_update(cpu);
	ck_assert_uint_eq(page->tsc_timestamp, 123456789 + 1000);
	ck_assert_uint_eq(page->pad, 0);
	/* off */
	ck_assert_int_eq(clock_write_system_time(cpu, PAGE_GPA), 0);
	memset(fake_ram, 0, sizeof(fake_ram));
	clock_update(cpu);
	ck_assert_uint_eq(page->version, 0);
}
END_TEST

START_TEST(page_checks)
{
	start(1000000);
	ck_assert_int_eq(clock_write_system_time(cpu, (PAGE_GPA + 2) | 1), -1);
	ck_assert_uint_eq(cpu->msrs->system_time, 0);
	ck_assert_int_eq(clock_write_system_time(cpu, 0x5001), 0); /* no memory: nothing written */
	ck_assert_int_eq(clock_write_system_time(cpu, ~0ull - 2), 0);
	ck_assert_int_eq(clock_write_system_time(cpu, (FAKE_RAM_GPA + FAKE_RAM_SIZE - 28) | 1),
			 0); /* 4 bytes too few */
	for (unsigned int i = 0; i < FAKE_RAM_SIZE; i++)
		ck_assert_uint_eq(fake_ram[i], 0);
	ck_assert_int_eq(clock_write_system_time(cpu, (FAKE_RAM_GPA + FAKE_RAM_SIZE - 32) | 1), 0);
	ck_assert_uint_eq(fake_ram[FAKE_RAM_SIZE - 32], 2);
	ck_assert_int_eq(clock_write_system_time(cpu, (PAGE_GPA + 4) | 1), 0); /* 4-byte aligned is enough */
}
END_TEST

START_TEST(guest_stopped)
{
	start(1000000);
	ck_assert_int_eq(clock_kvmclock_ctrl(cpu), -EINVAL);
	ck_assert_int_eq(clock_write_system_time(cpu, PAGE_GPA | 1), 0);
	ck_assert_int_eq(clock_kvmclock_ctrl(cpu), 0);
	ck_assert_uint_eq(page->flags, 3);
	clock_update(cpu);
	ck_assert_uint_eq(page->flags, 3); /* until the guest has seen it */
	page->flags = 1;
	clock_update(cpu);
	ck_assert_uint_eq(page->flags, 1);
	page->flags = 0xff; /* only this flag is the guest's to keep */
	clock_update(cpu);
	ck_assert_uint_eq(page->flags, 3);
}
END_TEST

START_TEST(all_vcpus_agree)
{
	volatile struct pvtime *other = (volatile struct pvtime *)(fake_ram + 0x200);

	start(2593906);
	cpu->run->tsc_offset = 5000;
	fake_vcpu(1)->run->tsc_offset = -9000;
	fake_tsc += 1000;
	clock_write_system_time(cpu, PAGE_GPA | 1);
	fake_tsc += 777777;
	clock_write_system_time(fake_vcpu(1), (PAGE_GPA + 0x100) | 1);
	for (uint64_t host = fake_tsc; host < 1ull << 50; host = host * 5 + 1)
		ck_assert_uint_eq(guest_ns(page, host + 5000), guest_ns(other, host - 9000));
}
END_TEST

static uint64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

START_TEST(get_and_set)
{
	struct kvm_clock_data data;
	uint64_t before = real_ns(), after;

	start(2000000);
	fake_tsc += 2000000;
	memset(&data, 0xff, sizeof(data));
	ck_assert_int_eq(clock_get(&vm, &data), 0);
	after = real_ns();
	ck_assert_uint_eq(data.clock, 1000000);
	ck_assert_uint_eq(data.flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC);
	ck_assert_uint_eq(data.host_tsc, fake_tsc);
	ck_assert(data.realtime >= before && data.realtime <= after);
	ck_assert(!data.pad0 && !data.pad[0]);

	memset(&data, 0, sizeof(data));
	data.clock = 5000000000;
	fake_clear();
	ck_assert_int_eq(clock_set(&vm, &data), 0);
	ck_assert_uint_eq(clock_guest_ns(&vm), 5000000000);
	ck_assert(fake_notified[0] == VCPU_REQ_CLOCK && fake_notified[1] == VCPU_REQ_CLOCK);
	fake_tsc += 2000;
	ck_assert_uint_eq(clock_guest_ns(&vm), 5000001000);
	clock_write_system_time(cpu, PAGE_GPA | 1);
	ck_assert_uint_eq(guest_ns(page, fake_tsc), 5000001000);

	/* With wall time: what passed since then is added; a reading from the future adds nothing. */
	data.flags = KVM_CLOCK_REALTIME;
	data.realtime = real_ns() - 3000000000;
	ck_assert_int_eq(clock_set(&vm, &data), 0);
	ck_assert(clock_guest_ns(&vm) >= 8000000000 && clock_guest_ns(&vm) < 13000000000);
	data.realtime = real_ns() + 1000000000000;
	ck_assert_int_eq(clock_set(&vm, &data), 0);
	ck_assert_uint_eq(clock_guest_ns(&vm), 5000000000);
	data.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_HOST_TSC;
	ck_assert_int_eq(clock_set(&vm, &data), 0);
	data.flags = 1;
	data.clock = 1;
	ck_assert_int_eq(clock_set(&vm, &data), -EINVAL);
	data.flags = 16;
	ck_assert_int_eq(clock_set(&vm, &data), -EINVAL);
	ck_assert_uint_eq(clock_guest_ns(&vm), 5000000000);
}
END_TEST

START_TEST(wall_clock)
{
	volatile uint32_t *wall = (volatile uint32_t *)(fake_ram + 0x300);
	uint64_t before, after, got;

	start(1000000);
	fake_tsc += 4000000000; /* 4 s */
	wall[0] = 3;
	before = real_ns();
	ck_assert_int_eq(clock_write_wall_clock(cpu, FAKE_RAM_GPA + 0x300), 0);
	after = real_ns();
	got = wall[1] * 1000000000ull + wall[2] + 4000000000;
	ck_assert(got >= before && got <= after);
	ck_assert_uint_lt(wall[2], 1000000000);
	ck_assert_uint_eq(wall[0], 4);
	ck_assert_uint_eq(cpu->msrs->wall_clock, FAKE_RAM_GPA + 0x300);
	ck_assert_int_eq(clock_write_wall_clock(cpu, FAKE_RAM_GPA + 0x302), -1);
	ck_assert_int_eq(clock_write_wall_clock(cpu, 0x5000), 0);
	ck_assert_int_eq(clock_write_wall_clock(cpu, 0), 0);
	ck_assert_int_eq(clock_write_wall_clock(cpu, FAKE_RAM_GPA + FAKE_RAM_SIZE - 8), 0);
	ck_assert_uint_eq(fake_ram[FAKE_RAM_SIZE - 8], 0);
}
END_TEST

static atomic_uint end;

static void *setter(void *opaque)
{
	struct kvm_clock_data data = { 0 };

	(void)opaque;
	while (!atomic_load(&end)) {
		data.clock = data.clock ? 0 : 1ull << 62;
		clock_set(&vm, &data);
	}
	return NULL;
}

/* Time stands still here, so a reader sees one of two values, and never a mixture. */
START_TEST(base_is_whole)
{
	pthread_t thread;

	start(1000000);
	ck_assert_int_eq(pthread_create(&thread, NULL, setter, NULL), 0);
	for (int i = 0; i < 200000; i++) {
		uint64_t ns = clock_guest_ns(&vm);

		ck_assert(ns == 0 || ns == 1ull << 62);
	}
	atomic_store(&end, 1);
	pthread_join(thread, NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("clock");
	TCase *c = tcase_create("clock");

	tcase_add_loop_test(c, arithmetic, 0, sizeof(khz) / sizeof(khz[0]));
	tcase_add_test(c, page_protocol);
	tcase_add_test(c, page_checks);
	tcase_add_test(c, guest_stopped);
	tcase_add_test(c, all_vcpus_agree);
	tcase_add_test(c, get_and_set);
	tcase_add_test(c, wall_clock);
	tcase_add_test(c, base_is_whole);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return fake_main(suite());
}
