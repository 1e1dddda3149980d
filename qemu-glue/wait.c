/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

/* How a thread of the VMM waits for the shadow's answer in shared memory: it polls, yields, then sleeps. */

#define SPIN_MIN_US 5
#define SPIN_MAX_US 100
#define PAUSES 16 /* between two looks at the clock */
#define YIELDS_MIN 1
#define YIELDS_MAX 8
#define ANSWER_TIMEOUT 60 /* seconds for whatever is not a guest running */

void wait_init(struct wait_adapt *adapt)
{
	adapt->spin_us = SPIN_MAX_US;
	adapt->yields = YIELDS_MAX / 2;
}

uint32_t wait_word(const struct wait *wait)
{
	return __atomic_load_n(wait->word, __ATOMIC_SEQ_CST);
}

bool wait_is_over(const struct wait *wait, uint32_t word)
{
	return !(word & wait->mask);
}

static bool wants_stop(const struct wait *wait)
{
	const struct vcpu *vcpu = wait->run;

	return vcpu && !wait->stopped &&
	       (vcpu->noted || (!wait->ignored && __atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_RELAXED)));
}

void wait_stop(struct wait *wait)
{
	vcpu_stop(wait->run);
	wait->stopped = true;
	clock_gettime(CLOCK_MONOTONIC, &wait->since);
}

bool wait_goes_on(struct wait *wait, uint32_t *word)
{
	while (*word = wait_word(wait), !wait_is_over(wait, *word)) {
		if (!wants_stop(wait))
			return true;
		wait_stop(wait);
	}
	return false;
}

static void count_cpus(struct wait_adapt *adapt)
{
	cpu_set_t set;

	adapt->cpus = 2; /* more CPUs than the set holds */
	if (!sched_getaffinity(0, sizeof(set), &set))
		adapt->cpus = CPU_COUNT(&set);
	adapt->sleeps = 0;
}

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
	return value < low ? low : value > high ? high : value;
}

static uint64_t us_to_ticks(const struct wait *wait, uint32_t us)
{
	return (uint64_t)wait->shadow->tsc_khz * us / 1000;
}

bool wait_spin(struct wait *wait)
{
	uint64_t end;

	if (!wait->adapt->cpus)
		count_cpus(wait->adapt);
	if (wait->adapt->cpus == 1)
		return false;
	end = __rdtsc() + us_to_ticks(wait, wait->adapt->spin_us);
	do {
		for (int i = 0; i < PAUSES; i++) {
			uint32_t word = wait_word(wait);

			if (wait_is_over(wait, word))
				return true;
			if (wants_stop(wait))
				return false;
			__builtin_ia32_pause();
		}
		sched_yield(); /* who else can run, may; it could be the one that has to answer */
	} while (__rdtsc() < end);
	return false;
}

/* An answer that comes soon is worth spinning for, whether it was spun for this time or not. */
static void learn(struct wait *wait, uint64_t ticks)
{
	struct wait_adapt *adapt = wait->adapt;

	if (ticks > us_to_ticks(wait, SPIN_MAX_US))
		adapt->spin_us = clamp(adapt->spin_us / 2, SPIN_MIN_US, SPIN_MAX_US);
	else if (ticks > us_to_ticks(wait, adapt->spin_us) / 2)
		adapt->spin_us = clamp(adapt->spin_us * 2, SPIN_MIN_US, SPIN_MAX_US);
}

static bool wait_yield(struct wait *wait)
{
	struct wait_adapt *adapt = wait->adapt;

	for (uint32_t i = 0; i < adapt->yields; i++) {
		uint32_t word;

		sched_yield();
		word = wait_word(wait);
		if (wait_is_over(wait, word)) {
			adapt->yields = clamp(adapt->yields + 1, YIELDS_MIN, YIELDS_MAX);
			return true;
		}
		if (wants_stop(wait))
			return false;
	}
	adapt->yields = clamp(adapt->yields - 1, YIELDS_MIN, YIELDS_MAX);
	if (++adapt->sleeps >= 1024)
		count_cpus(adapt);
	return false;
}

/* Now and then while nothing comes: is there still someone to answer? */
int wait_look(struct wait *wait)
{
	struct timespec now;

	if (wait->run)
		ring_sync(wait->run->vm); /* a guest that only writes is seen by the VMM all the same */
	if (shadow_is_gone(wait->shadow))
		return -EIO;
	if (wait->run && !wait->stopped)
		return 0; /* a guest may run as long as it likes */
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec - wait->since.tv_sec <= ANSWER_TIMEOUT)
		return 0;
	shadow_is_broken(wait->shadow, "it does not answer");
	return -EIO;
}

int wait_sleep(struct wait *wait)
{
	static const struct timespec interval = { 0, WAIT_LOOK_MS * 1000000L };
	uint32_t word;
	int ret = 0;

	__atomic_store_n(wait->sleeps, 1, __ATOMIC_SEQ_CST);
	while (wait_goes_on(wait, &word)) {
		/* With a timeout the call is never restarted after a handler, SA_RESTART or not. */
		if (!real_futex(wait->word, FUTEX_WAIT, word, &interval) || errno == EAGAIN)
			continue;
		if (errno == EINTR && wait->run && !wait->stopped) {
			wait_stop(wait);
		} else if (errno == ETIMEDOUT) {
			ret = wait_look(wait);
			if (ret)
				break;
		}
	}
	__atomic_store_n(wait->sleeps, 0, __ATOMIC_SEQ_CST);
	return ret;
}

int wait_answer(struct wait *wait)
{
	uint64_t begin = __rdtsc();
	int ret = wait_spin(wait) || wait_yield(wait) ? 0 : wait_sleep(wait);

	if (wait->adapt->cpus > 1)
		learn(wait, __rdtsc() - begin);
	return ret;
}
