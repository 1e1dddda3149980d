// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "fakes.h"

/* Messages between several APICs, MSIs, routes. */

#define CPUS 8
#define ALL 0xff

static void setup(void)
{
	fake_machine(CPUS);
}

/* Which vCPUs have this vector; it is taken out again. */
static uint32_t who(uint8_t vector)
{
	uint32_t mask = 0;

	for (unsigned int n = 0; n < CPUS; n++) {
		struct vcpu *vcpu = fake_vcpu(n);

		if (lapic_pending(vcpu) != vector)
			continue;
		lapic_accept(vcpu, vector);
		lapic_eoi(vcpu);
		mask |= 1u << n;
	}
	return mask;
}

static uint32_t notified(unsigned int request)
{
	uint32_t mask = 0;

	for (unsigned int n = 0; n < CPUS; n++)
		if (fake_notified[n] & request)
			mask |= 1u << n;
	return mask;
}

static int send(uint32_t dest, bool logical)
{
	struct apic_msg msg = { .dest = dest, .vector = 0x55, .logical = logical };

	return apic_deliver(&vm, cpu, &msg);
}

/* how the APICs stand: mode 0 xAPIC flat, 1 xAPIC cluster, 2 x2APIC, 3 odd ones x2APIC, even ones xAPIC flat */
static void mode_set(int mode)
{
	for (unsigned int n = 0; n < CPUS; n++) {
		struct vcpu *vcpu = fake_vcpu(n);

		reg_write(vcpu, APIC_DFR, mode == 1 ? 0x0fffffff : 0xffffffff);
		/* clusters of two: 0x01 0x02 0x11 0x12 ... */
		reg_write(vcpu, APIC_LDR, mode == 1 ? (n / 2) << 28 | 1u << (24 + n % 2) : 1u << (24 + n));
		if (mode == 2 || (mode == 3 && n & 1))
			fake_x2apic(vcpu);
	}
}

static const struct {
	int mode;
	uint32_t dest;
	bool logical;
	uint32_t takers;
} matches[] = {
	{ 0, 3, false, 1 << 3 },       { 0, 0, false, 1 },	{ 0, 9, false, 0 },	  { 0, 0xff, false, ALL },
	{ 0, 0x103, false, 0 },	       { 0, 0x81, true, 0x81 }, { 0, 0xff, true, ALL },	  { 0, 0, true, 0 },
	{ 1, 0x13, true, 0x0c },       { 1, 0x32, true, 0x80 }, { 1, 0x0c, true, 0 },	  { 1, 0x43, true, 0 },
	{ 1, 0xff, true, ALL },	       { 1, 5, false, 1 << 5 }, { 2, 6, false, 1 << 6 },  { 2, 0xff, false, 0 },
	{ 2, 0xffffffff, false, ALL }, { 2, 0x81, true, 0x81 }, { 2, 0x10001, true, 0 },  { 2, 0xffffffff, true, ALL },
	{ 2, 0xff, true, ALL },	       { 2, 0x100ff, true, 0 }, { 3, 0xff, false, 0x55 }, { 3, 0xffffffff, false, ALL },
	{ 3, 4, false, 1 << 4 },       { 3, 5, false, 1 << 5 },
};

START_TEST(matching)
{
	uint32_t takers = matches[_i].takers;
	int ret;

	mode_set(matches[_i].mode);
	ret = send(matches[_i].dest, matches[_i].logical);
	ck_assert_int_eq(ret, takers ? __builtin_popcount(takers) : -1);
	ck_assert_uint_eq(who(0x55), takers);
}
END_TEST

START_TEST(ldr_changes_count)
{
	mode_set(0);
	reg_write(fake_vcpu(2), APIC_LDR, 0x80000000);
	ck_assert_int_eq(send(0x80, true), 2);
	ck_assert_uint_eq(who(0x55), 0x84);
	reg_write(fake_vcpu(2), APIC_DFR, 0x50000000); /* neither model */
	ck_assert_int_eq(send(0x80, true), 1);
	reg_write(fake_vcpu(3), APIC_ID, 0x42000000);
	ck_assert_int_eq(send(3, false), -1);
	ck_assert_int_eq(send(0x42, false), 1);
	lapic_set_base(fake_vcpu(3), APIC_BASE_DEFAULT); /* off */
	ck_assert_int_eq(send(0x42, false), -1);
	who(0x55);
	reg_write(fake_vcpu(4), APIC_SVR, 0xff); /* software-disabled: there, but takes nothing */
	ck_assert_int_eq(send(4, false), 0);
	ck_assert_uint_eq(who(0x55), 0);
}
END_TEST

/* The 8-bit broadcast of devices reaches x2APICs until the VMM switches the quirk off. */
START_TEST(broadcast_quirk)
{
	struct kvm_msi msi = { .address_lo = 0xfeeff000, .data = 0x55 };

	mode_set(3);
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), CPUS);
	ck_assert_uint_eq(who(0x55), ALL);
	vm.x2apic_no_broadcast_quirk = true;
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), 4);
	ck_assert_uint_eq(who(0x55), 0x55);
}
END_TEST

START_TEST(big_ids)
{
	struct kvm_msi msi = { .address_lo = 0xfee34000, .address_hi = 0x1200, .data = 0x55 };

	fake_vcpu(1)->id = 0x1234;
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), 0); /* to 0x34, which there is not */
	vm.x2apic_api_32bit_ids = true;
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), 1);
	ck_assert_uint_eq(who(0x55), 2);
	msi.address_hi |= 1;
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), -EINVAL);
}
END_TEST

/* ICR: low half, then who gets the vector, an NMI, an INIT or SIPI (both notify EVENT). Sender: vCPU 2; destination 5. */
static const struct {
	uint32_t icr, vector, nmi, init, sipi;
} icrs[] = {
	{ 0x00055, 1 << 5, 0, 0, 0 },	{ 0x04055, 1 << 5, 0, 0, 0 },
	{ 0x08055, 1 << 5, 0, 0, 0 }, /* the trigger mode is ignored */
	{ 0x00155, 1 << 5, 0, 0, 0 }, /* lowest priority of one */
	{ 0x40055, 1 << 2, 0, 0, 0 },	{ 0x80055, ALL, 0, 0, 0 },
	{ 0xc0055, ALL & ~4, 0, 0, 0 }, { 0x00400, 0, 1 << 5, 0, 0 },
	{ 0x80400, 0, ALL, 0, 0 },	{ 0xc0400, 0, ALL & ~4, 0, 0 },
	{ 0x00500, 0, 0, 1 << 5, 0 },	{ 0x0c500, 0, 0, 1 << 5, 0 }, /* level assert */
	{ 0x08500, 0, 0, 0, 0 },				      /* level de-assert */
	{ 0xc0500, 0, 0, ALL & ~4, 0 }, { 0x80500, 0, 0, 0, 0 },      /* nobody resets itself */
	{ 0x40500, 0, 0, 0, 0 },	{ 0x00655, 0, 0, 0, 1 << 5 },
	{ 0xc0655, 0, 0, 0, ALL & ~4 }, { 0x40655, 0, 0, 0, 0 },
	{ 0x00255, 0, 0, 0, 0 }, /* SMI */
	{ 0x00355, 0, 0, 0, 0 }, /* reserved */
	{ 0x00755, 0, 0, 0, 0 }, /* ExtINT */
};

static void check_icr(unsigned int i)
{
	uint32_t init = 0, sipi = 0;

	for (unsigned int n = 0; n < CPUS; n++) {
		if (atomic_load(&fake_vcpu(n)->lapic.init_pending))
			init |= 1u << n;
		if (atomic_load(&fake_vcpu(n)->lapic.sipi_vector) == 0x155)
			sipi |= 1u << n;
		if ((init | sipi) >> n & 1)
			ck_assert(fake_notified[n] & VCPU_REQ_EVENT);
	}
	ck_assert_uint_eq(init, icrs[i].init);
	ck_assert_uint_eq(sipi, icrs[i].sipi);
	ck_assert_uint_eq(notified(VCPU_REQ_NMI), icrs[i].nmi);
	ck_assert_uint_eq(who(0x55), icrs[i].vector);
	for (unsigned int n = 0; n < CPUS; n++)
		ck_assert_uint_eq(lapic_reg(&fake_vcpu(n)->lapic, APIC_TMR + 0x20), 0);
}

START_TEST(icr_xapic)
{
	reg_write(fake_vcpu(2), APIC_ICR2, 5u << 24);
	reg_write(fake_vcpu(2), APIC_ICR, icrs[_i].icr | APIC_ICR_BUSY);
	ck_assert_uint_eq(reg_read(fake_vcpu(2), APIC_ICR), icrs[_i].icr); /* never busy */
	check_icr(_i);
}
END_TEST

START_TEST(icr_x2apic)
{
	mode_set(2);
	ck_assert_int_eq(lapic_msr_write(fake_vcpu(2), 0x830, 5ull << 32 | icrs[_i].icr), 0);
	check_icr(_i);
}
END_TEST

START_TEST(illegal_vectors)
{
	struct apic_msg msg = { .dest = 1, .vector = 15 };

	/* From an APIC: never sent. From a device: refused by the receiver. */
	ck_assert_int_eq(apic_deliver(&vm, cpu, &msg), -1);
	reg_write(cpu, APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(cpu, APIC_ESR), 0x20);
	ck_assert_int_eq(apic_deliver(&vm, NULL, &msg), 1);
	ck_assert_int_eq(lapic_pending(fake_vcpu(1)), -1);
	reg_write(fake_vcpu(1), APIC_ESR, 0);
	ck_assert_uint_eq(reg_read(fake_vcpu(1), APIC_ESR), 0x40);
}
END_TEST

START_TEST(init_voids_sipi)
{
	struct apic_msg msg = { .dest = 1, .vector = 0x12, .mode = APIC_SIPI };

	apic_deliver(&vm, cpu, &msg);
	ck_assert_uint_eq(fake_vcpu(1)->lapic.sipi_vector, 0x112);
	msg.mode = APIC_INIT;
	apic_deliver(&vm, cpu, &msg);
	ck_assert_uint_eq(fake_vcpu(1)->lapic.sipi_vector, 0);
	ck_assert_uint_eq(fake_vcpu(1)->lapic.init_pending, 1);
}
END_TEST

START_TEST(lowest_priority)
{
	struct apic_msg msg = { .dest = 0x0e, .vector = 0x55, .mode = APIC_LOWEST, .logical = true };
	unsigned int taken[CPUS] = { 0 };

	mode_set(0);
	reg_write(fake_vcpu(2), APIC_SVR, 0xff);
	for (int i = 0; i < 10; i++) {
		uint32_t mask;

		ck_assert_int_eq(apic_deliver(&vm, NULL, &msg), 1);
		mask = who(0x55);
		ck_assert_int_eq(__builtin_popcount(mask), 1);
		taken[__builtin_ctz(mask)]++;
	}
	ck_assert(taken[1] == 5 && taken[3] == 5); /* in turn, past the one that is off */
	msg.dest = 4;
	ck_assert_int_eq(apic_deliver(&vm, NULL, &msg), 0);
	msg.dest = 0;
	ck_assert_int_eq(apic_deliver(&vm, NULL, &msg), -1);
}
END_TEST

START_TEST(gaps_in_the_table)
{
	vm.vcpu[9] = vm.vcpu[3];
	vm.vcpu[3] = NULL;
	ck_assert_int_eq(send(3, false), 1);
	ck_assert_uint_eq(who(0x55), 8);
}
END_TEST

/* ---- routes ---- */

static struct kvm_irq_routing_entry entry(uint32_t gsi, uint32_t dest, uint32_t data)
{
	struct kvm_irq_routing_entry e;

	memset(&e, 0, sizeof(e));
	e.gsi = gsi;
	e.type = KVM_IRQ_ROUTING_MSI;
	e.u.msi.address_lo = 0xfee00000 | dest << 12;
	e.u.msi.data = data;
	return e;
}

START_TEST(routes)
{
	struct kvm_irq_routing_entry e[3] = { entry(5, 1, 0x55), entry(VM_MAX_ROUTES - 1, 2, 0x55),
					      entry(7, 0xff, 0x55) };

	ck_assert_int_eq(routing_set_irq(&vm, 5, 1), -1);
	ck_assert_int_eq(routing_set(&vm, e, 3), 0);
	ck_assert_int_eq(routing_set_irq(&vm, 5, 1), 1);
	ck_assert_uint_eq(who(0x55), 2);
	ck_assert_int_eq(routing_set_irq(&vm, 5, 0), -1);
	ck_assert_uint_eq(who(0x55), 0);
	ck_assert_int_eq(routing_set_irq(&vm, VM_MAX_ROUTES - 1, 1), 1);
	ck_assert_uint_eq(who(0x55), 4);
	ck_assert_int_eq(routing_set_irq(&vm, 7, 1), CPUS);
	who(0x55);
	ck_assert_int_eq(routing_set_irq(&vm, 6, 1), -1);
	ck_assert_int_eq(routing_set_irq(&vm, VM_MAX_ROUTES, 1), -1);
	ck_assert_int_eq(routing_set_irq(&vm, 0xffffffff, 1), -1);
	/* Replaced as a whole, both tables in turn. */
	for (int i = 0; i < 5; i++) {
		e[0] = entry(i, i, 0x55);
		ck_assert_int_eq(routing_set(&vm, e, 1), 0);
		for (uint32_t gsi = 0; gsi < VM_MAX_ROUTES; gsi++)
			ck_assert_int_eq(routing_set_irq(&vm, gsi, 1), gsi == (uint32_t)i ? 1 : -1);
		ck_assert_uint_eq(who(0x55), 1u << i);
	}
	ck_assert_int_eq(routing_set(&vm, e, 0), 0);
	ck_assert_int_eq(routing_set_irq(&vm, 4, 1), -1);
}
END_TEST

START_TEST(routes_refused)
{
	static struct kvm_irq_routing_entry many[VM_MAX_ROUTES + 1];
	struct kvm_irq_routing_entry good = entry(5, 1, 0x55), e[2];

	ck_assert_int_eq(routing_set(&vm, &good, 1), 0);
	for (int i = 0; i < 7; i++) {
		e[0] = entry(1, 0, 0x60);
		e[1] = entry(2, 0, 0x60);
		if (i == 0)
			e[1].gsi = VM_MAX_ROUTES;
		else if (i == 1)
			e[1].type = KVM_IRQ_ROUTING_IRQCHIP;
		else if (i == 2)
			e[1].type = 77;
		else if (i == 3)
			e[1].flags = 2;
		else if (i == 4)
			e[1].gsi = 1; /* twice */
		else if (i == 5)
			e[1].u.msi.address_hi = vm.x2apic_api_32bit_ids = 1;
		else
			vm.split_irqchip = false;
		ck_assert_int_eq(routing_set(&vm, e, 2), -EINVAL);
		vm.split_irqchip = true;
		/* All or nothing: the old table stands. */
		ck_assert_int_eq(routing_set_irq(&vm, 5, 1), 1);
		ck_assert_int_eq(routing_set_irq(&vm, 1, 1), -1);
	}
	ck_assert_int_eq(routing_set(&vm, many, VM_MAX_ROUTES + 1), -EINVAL);
	for (uint32_t i = 0; i < VM_MAX_ROUTES; i++)
		many[i] = entry(VM_MAX_ROUTES - 1 - i, 1, 0x55);
	ck_assert_int_eq(routing_set(&vm, many, VM_MAX_ROUTES), 0);
}
END_TEST

START_TEST(msi_format)
{
	struct kvm_msi msi = { .address_lo = 0xfee03004 /* logical 3 */, .data = 0xc055 };
	int ret;

	mode_set(0);
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), 2);
	lapic_pending(cpu);
	ck_assert_uint_eq(reg_read(cpu, APIC_TMR + 0x20), 1 << 21); /* level */
	ck_assert_uint_eq(who(0x55), 3);
	msi.address_lo |= 8; /* redirection hint: one of them */
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), 1);
	ck_assert_int_eq(__builtin_popcount(who(0x55)), 1);
	msi = (struct kvm_msi) { .address_lo = 0xfee05000, .data = 0x400 };
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), 1);
	ck_assert_uint_eq(notified(VCPU_REQ_NMI), 1 << 5);
	msi.flags = 2;
	ret = routing_signal_msi(&vm, &msi);
	ck_assert_int_eq(ret, -EINVAL);
	msi.flags = 0;
	vm.split_irqchip = false;
	ck_assert_int_eq(routing_signal_msi(&vm, &msi), -EINVAL);
}
END_TEST

START_TEST(scan_eoi)
{
	struct kvm_irq_routing_entry e[3] = { entry(4, 0, 0x8044), entry(5, 0, 0x45), entry(30, 0, 0x8046) };

	vm.ioapic_pins = 24;
	ck_assert_int_eq(routing_set(&vm, e, 3), 0);
	ck_assert_uint_eq(notified(VCPU_REQ_SCAN_EOI), ALL);
	routing_scan_eoi(cpu);
	ck_assert_uint_eq(cpu->lapic.eoi_exit[1], 1 << 4); /* level, and a pin */
	ck_assert_uint_eq(cpu->lapic.eoi_exit[0] | cpu->lapic.eoi_exit[2] | cpu->lapic.eoi_exit[3], 0);
	/* The same vectors again: nobody is disturbed. */
	fake_clear();
	e[1] = entry(5, 3, 0x77);
	ck_assert_int_eq(routing_set(&vm, e, 3), 0);
	ck_assert_uint_eq(notified(~0u), 0);
	/* The pin is rewritten while its interrupt is in service: the EOI still goes out. */
	ck_assert_int_eq(routing_set_irq(&vm, 4, 1), 1);
	ck_assert_int_eq(lapic_pending(cpu), 0x44);
	lapic_accept(cpu, 0x44);
	e[0] = entry(4, 0, 0x80c4);
	fake_clear();
	ck_assert_int_eq(routing_set(&vm, e, 3), 0);
	ck_assert_uint_eq(notified(VCPU_REQ_SCAN_EOI), ALL);
	routing_scan_eoi(cpu);
	ck_assert_uint_eq(cpu->lapic.eoi_exit[1], 1 << 4);
	ck_assert_uint_eq(cpu->lapic.eoi_exit[3], 1 << 4);
	ck_assert_int_eq(lapic_eoi(cpu), 1);
	ck_assert_uint_eq(cpu->kvm->eoi.vector, 0x44);
	routing_scan_eoi(cpu);
	ck_assert_uint_eq(cpu->lapic.eoi_exit[1], 0);
	/* Only a request yet, not in IRR. */
	ck_assert_int_eq(routing_set_irq(&vm, 4, 1), 1);
	ck_assert_int_eq(routing_set(&vm, e, 0), 0);
	routing_scan_eoi(cpu);
	ck_assert_uint_eq(cpu->lapic.eoi_exit[3], 1 << 4);
	/* A new vCPU knows the routes from its reset. */
	ck_assert_int_eq(routing_set(&vm, e, 3), 0);
	lapic_reset(fake_vcpu(1), false);
	ck_assert_uint_eq(fake_vcpu(1)->lapic.eoi_exit[3], 1 << 4);
}
END_TEST

/* Four threads ask for every vector, the vCPU's thread takes them: none may be lost, whatever the interleaving. */
static atomic_uint asked[256];

static void *asker(void *opaque)
{
	unsigned int first = (uintptr_t)opaque;

	for (int round = 0; round < 3000; round++) {
		for (unsigned int v = 32 + first; v < 256; v += 4) {
			struct apic_msg msg = { .dest = 0, .vector = v };

			atomic_fetch_add(&asked[v], 1);
			apic_deliver(&vm, NULL, &msg);
		}
	}
	return NULL;
}

START_TEST(many_askers)
{
	unsigned int after[256] = { 0 };
	pthread_t thread[4];
	bool done = false;

	for (uintptr_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, asker, (void *)i), 0);
	for (int quiet = 0; quiet < 2;) {
		int vector = lapic_pending(cpu);

		if (vector < 0) {
			if (!done) {
				for (int i = 0; i < 4; i++)
					pthread_join(thread[i], NULL);
				done = true;
			}
			quiet++;
			continue;
		}
		lapic_accept(cpu, vector);
		lapic_eoi(cpu);
		after[vector] = atomic_load(&asked[vector]);
	}
	for (unsigned int v = 32; v < 256; v++) {
		ck_assert_uint_eq(asked[v], 3000);
		ck_assert_uint_eq(after[v], 3000); /* taken once more after, or with, the last request */
	}
	ck_assert_uint_gt(fake_calls[0], 0);
}
END_TEST

/* Requests come in at every instruction of the taking: a signal's handler makes them. None may be left lying unannounced. */
static atomic_uint handled;

static void request_now(int sig)
{
	(void)sig;
	lapic_request(cpu, 33, false); /* its word is passed first */
	atomic_fetch_add(&handled, 1);
}

START_TEST(none_left_lying)
{
	struct itimerval often = { { 0, 30 }, { 0, 30 } }, off = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = request_now, .sa_flags = SA_RESTART };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (atomic_load(&handled) < 5000) {
		lapic_request(cpu, 250, false);
		lapic_pending(cpu);
		if (atomic_load(&cpu->lapic.request[0]))
			ck_assert_uint_eq(atomic_load(&cpu->lapic.request_any), 1);
	}
	setitimer(ITIMER_REAL, &off, NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("apic_bus");
	TCase *c = tcase_create("apic_bus");

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, NULL);
	tcase_add_loop_test(c, matching, 0, sizeof(matches) / sizeof(matches[0]));
	tcase_add_test(c, ldr_changes_count);
	tcase_add_test(c, broadcast_quirk);
	tcase_add_test(c, big_ids);
	tcase_add_loop_test(c, icr_xapic, 0, sizeof(icrs) / sizeof(icrs[0]));
	tcase_add_loop_test(c, icr_x2apic, 0, sizeof(icrs) / sizeof(icrs[0]));
	tcase_add_test(c, illegal_vectors);
	tcase_add_test(c, init_voids_sipi);
	tcase_add_test(c, lowest_priority);
	tcase_add_test(c, gaps_in_the_table);
	tcase_add_test(c, routes);
	tcase_add_test(c, routes_refused);
	tcase_add_test(c, msi_format);
	tcase_add_test(c, scan_eoi);
	tcase_add_test(c, many_askers);
	tcase_add_test(c, none_left_lying);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return fake_main(suite());
}
