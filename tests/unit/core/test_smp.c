// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Several vCPUs, each with its thread, on a shim whose guests are written in C: they send each other interrupts in all the ways
 * there are, halt, spin, and are reset while they run. A lost interrupt or kick shows as a guest that waits for ever; with
 * UMBRA_SANITIZE the threads are watched for data races.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <linux/kvm_para.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core.h"
#include "cpuid.h"
#include "msr.h"
#include "sandbox.h"
#include "sys.h"

#define VCPUS 4
#define TOKEN 0x41 /* vectors */
#define NOISE 0x31
#define QUIT 0x51
#define SIPI 0x08
#define SECONDS 40 /* without progress: something was lost */

#define ICR_LOGICAL (1u << 11)
#define ICR_LEVEL_ASSERT (1u << 14)
#define ICR_OTHERS (3u << 18)

/* A guest's vCPU: what it is about to do, and what it has got. */
struct guest {
	struct vcpu *vcpu;
	struct umbra_run *run;
	void *vapic;
	atomic_bool kicked;
	bool started, apic_on, token, quit, eoi;
	unsigned int step, waits, noise;
	atomic_uint nmis, resets;
	atomic_bool there; /* its APIC is on */
};

static struct shim shim;
static struct vm vm;
static struct guest guests[VCPUS];
static unsigned int made;
static unsigned int rounds, ring; /* how often the token is passed, among so many */
static atomic_uint passed;
static __thread struct vmexit last_exit;

void sandbox_thread(enum sandbox_role role)
{
	(void)role;
}

void sandbox_die(const char *reason)
{
	(void)reason;
	abort();
}

/* ---- the guests ---- */

static void exit_wrmsr(struct guest *g, uint32_t msr, uint64_t value)
{
	g->run->gpr[UMBRA_RCX] = msr;
	g->run->gpr[UMBRA_RAX] = (uint32_t)value;
	g->run->gpr[UMBRA_RDX] = value >> 32;
	last_exit = (struct vmexit) { .reason = VMEXIT_WRMSR, .insn_len = 2 };
}

static void exit_plain(uint32_t reason, uint8_t len)
{
	last_exit = (struct vmexit) { .reason = reason, .insn_len = len };
}

static void exit_ipi_call(struct guest *g, unsigned int to, uint32_t icr)
{
	g->run->gpr[UMBRA_RAX] = KVM_HC_SEND_IPI;
	g->run->gpr[UMBRA_RBX] = 1u << to;
	g->run->gpr[UMBRA_RCX] = 0;
	g->run->gpr[UMBRA_RDX] = 0;
	g->run->gpr[UMBRA_RSI] = icr;
	exit_plain(VMEXIT_HYPERCALL, 3);
}

static void icr(struct guest *g, uint32_t dest, uint32_t low)
{
	exit_wrmsr(g, 0x830, (uint64_t)dest << 32 | low);
}

static uint32_t x2apic_logical(unsigned int n)
{
	return 1u << n;
}

/* The token goes on to the next vCPU, each time in another way. */
static void pass_token(struct guest *g, unsigned int self)
{
	unsigned int next = (self + 1) % ring, turn = atomic_fetch_add(&passed, 1) + 1;

	g->token = false;
	if (turn >= rounds) {
		g->quit = true;
		icr(g, 0, ICR_OTHERS | QUIT);
		return;
	}
	switch (turn % 6) {
	case 0:
		icr(g, next, TOKEN);
		break;
	case 1:
		icr(g, x2apic_logical(next), ICR_LOGICAL | TOKEN);
		break;
	case 2:
		exit_ipi_call(g, next, TOKEN);
		break;
	case 3:
		icr(g, x2apic_logical(next), ICR_LOGICAL | 1 << 8 | TOKEN); /* lowest priority among one */
		break;
	case 4:
		icr(g, next, 4 << 8); /* NMI */
		break;
	default:
		exit_ipi_call(g, next, 4 << 8);
	}
}

/* Nothing to do: halts, spins until something makes it leave, or goes in and out of the hypervisor. */
static void wait_for_work(struct guest *g)
{
	switch (g->waits++ % 5) {
	case 0:
		exit_plain(VMEXIT_HLT, 1);
		break;
	case 1:
		while (!atomic_exchange(&g->kicked, false))
			sched_yield();
		exit_plain(VMEXIT_INTERRUPTED, 0);
		break;
	case 2:
		g->run->gpr[UMBRA_RAX] = 0;
		exit_plain(VMEXIT_CPUID, 2);
		break;
	case 3: /* to all, also to who is being reset */
		icr(g, x2apic_logical(VCPUS) - 1, ICR_LOGICAL | NOISE);
		break;
	default:
		exit_plain(VMEXIT_PAUSE, 2);
	}
}

static void init_or_sipi(struct guest *g, unsigned int to)
{
	if (g->step++ % 2 == 0)
		icr(g, to, ICR_LEVEL_ASSERT | 5 << 8);
	else
		icr(g, to, 6 << 8 | SIPI);
}

/* What the boot vCPU does first. */
static bool boot(struct guest *g)
{
	if (g->step >= 2 * (VCPUS - 1))
		return false;
	init_or_sipi(g, 1 + g->step / 2);
	return true;
}

/* The boot vCPU resets the one that is not in the ring, whatever that does just then, and waits until it is there again. */
static bool reset_victim(struct guest *g)
{
	struct guest *victim = &guests[ring];

	if (ring == VCPUS)
		return false;
	switch (g->step % 4) {
	case 0:
		atomic_store(&victim->there, false);
		init_or_sipi(g, ring);
		return true;
	case 1:
		init_or_sipi(g, ring);
		return true;
	case 2:
		if (atomic_load(&victim->there))
			g->step++;
		exit_plain(VMEXIT_PAUSE, 2);
		return true;
	default:
		g->step++;
		return false;
	}
}

static bool all_there(void)
{
	for (unsigned int n = 0; n < VCPUS; n++)
		if (!atomic_load(&guests[n].there))
			return false;
	return true;
}

static void got(struct guest *g, const struct umbra_event *event)
{
	if (event->type == UMBRA_EVENT_NMI) {
		atomic_fetch_add(&g->nmis, 1);
		g->token = true;
		return;
	}
	g->eoi = true;
	if (event->vector == TOKEN)
		g->token = true;
	else if (event->vector == QUIT)
		g->quit = true;
	else if (event->vector == NOISE)
		g->noise++;
	else
		ck_abort_msg("vector %x", event->vector);
}

/* One stretch of a vCPU's life up to its next exit. */
static void guest_go_on(struct guest *g, unsigned int self)
{
	struct umbra_run *run = g->run;

	if (self && run->rip == 0 && run->seg[UMBRA_CS].base == SIPI << 12) {
		run->rip = 0x1000;
		run->rflags |= X86_RFLAGS_IF;
		g->apic_on = g->eoi = false;
		g->step = 0;
		atomic_fetch_add(&g->resets, 1);
	}
	if (!g->apic_on) {
		if (g->step == 0) { /* x2APIC mode */
			exit_wrmsr(g, 0x1b, 0xfee00c00 | (self ? 0 : 0x100));
		} else if (g->step == 1) { /* the enable bit */
			exit_wrmsr(g, 0x80f, 0x1ff);
		} else {
			g->apic_on = true;
			atomic_store(&g->there, true);
			exit_plain(VMEXIT_PAUSE, 2);
		}
		g->step = g->step < 2 ? g->step + 1 : 0;
	} else if (g->eoi) {
		g->eoi = false;
		exit_wrmsr(g, 0x80b, 0);
	} else if (g->quit) {
		exit_plain(VMEXIT_SHUTDOWN, 0);
	} else if (!self && boot(g)) {
	} else if (!self && !g->started) {
		g->started = g->token = all_there();
		exit_plain(VMEXIT_PAUSE, 2);
	} else if (g->token && g->noise % 3 == 0) {
		g->noise++;
		icr(g, 0, ICR_OTHERS | NOISE);
	} else if (g->token && !self && reset_victim(g)) {
	} else if (g->token) {
		g->noise++;
		pass_token(g, self);
	} else {
		wait_for_work(g);
	}
}

/* ---- the shim ---- */

static int smp_info(struct shim *s, struct umbra_info *info)
{
	(void)s;
	*info = (struct umbra_info) {
		.abi_version = UMBRA_ABI_VERSION,
		.hw = UMBRA_HW_VMX,
		.features = UMBRA_FEAT_TPR_SHADOW,
		.guest_cr0 = 0xe005003f,
		.guest_cr4 = 0x7ff,
		.guest_efer = 0xd01,
		.tsc_khz = 1000000,
		.gpa_bits = 40,
		.run_size = 8192,
		.vapic_offset = 4096,
	};
	return 0;
}

static int smp_create_vm(struct shim *s)
{
	(void)s;
	return 100;
}

static int smp_create_vcpu(struct shim *s, struct umbra_run **run, void **vapic)
{
	struct guest *g = &guests[made];

	(void)s;
	g->run = *run = calloc(1, sizeof(**run));
	g->vapic = *vapic = aligned_alloc(4096, 4096);
	memset(g->vapic, 0, 4096);
	return (int)made++;
}

static int smp_run(struct shim *s, int fd)
{
	struct guest *g = &guests[fd];
	struct umbra_run *run = g->run;
	struct umbra_event event = run->inject;

	(void)s;
	run->dirty = 0;
	if (run->flags & UMBRA_RUN_NO_ENTRY) {
		atomic_store(&g->kicked, false); /* any RUN takes a kick */
		run->exit = (struct umbra_exit) { .reason = UMBRA_EXIT_NONE, .valid = run->want };
		return 0;
	}
	run->flags = 0;
	run->inject.flags = 0;
	run->exit = (struct umbra_exit) { .valid = run->want };
	if (event.flags & UMBRA_EVENT_VALID)
		got(g, &event);
	if (run->intercepts & UMBRA_ICPT_INTR_WINDOW && run->rflags & X86_RFLAGS_IF)
		exit_plain(VMEXIT_INTR_WINDOW, 0);
	else if (atomic_exchange(&g->kicked, false))
		exit_plain(VMEXIT_INTERRUPTED, 0);
	else
		guest_go_on(g, (unsigned int)fd);
	return 0;
}

static void smp_exit_read(const struct umbra_run *run, struct vmexit *exit)
{
	(void)run;
	*exit = last_exit;
}

static int smp_kick(struct shim *s, int fd)
{
	(void)s;
	atomic_store(&guests[fd].kicked, true);
	return 0;
}

static const struct shim_ops smp_ops = {
	.info = smp_info,
	.create_vm = smp_create_vm,
	.create_vcpu = smp_create_vcpu,
	.run = smp_run,
	.exit_read = smp_exit_read,
	.kick = smp_kick,
};

/* ---- the machine ---- */

static struct vcpu *vcpu_make(uint32_t id)
{
	struct kvm_cpuid_entry2 leaf1 = { .function = 1, .ecx = 1u << 21 };
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
	uint8_t *area = mmap(NULL, CHANNEL_VCPU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(area, MAP_FAILED);
	vcpu->kvm = (struct kvm_run *)area;
	vcpu->channel = (struct channel_vcpu *)(area + CHANNEL_VCPU_OFFSET);
	ck_assert_int_eq(vcpu_init(vcpu, &vm, id), 0);
	ck_assert_int_eq(cpuid_set(vcpu, &leaf1, 1), 0);
	guests[id].vcpu = vcpu;
	return vcpu;
}

static void machine_make(unsigned int cpus)
{
	struct call create = { .nr = KVM_CREATE_VM };

	memset(guests, 0, sizeof(guests));
	made = 0;
	atomic_store(&passed, 0);
	shim.ops = &smp_ops;
	ck_assert_int_eq(vm_init(&vm, &shim), 0);
	ck_assert_int_eq(vm_call(&vm, &create), 0);
	vm.split_irqchip = true;
	vm.turns.cpus = cpus;
	vm.turns.until = UINT64_MAX;
	for (uint32_t id = 0; id < VCPUS; id++)
		vm.vcpu[id] = vcpu_make(id);
	atomic_store(&vm.vcpus, VCPUS);
	guests[0].run->rflags |= X86_RFLAGS_IF;
}

static void *vcpu_life(void *arg)
{
	struct guest *g = arg;

	vcpu_set_current(g->vcpu);
	return (void *)(intptr_t)vcpu_run(g->vcpu);
}

static void play(unsigned int turns, unsigned int players)
{
	struct timespec end;
	pthread_t thread[VCPUS];
	void *ret;

	rounds = turns;
	ring = players;
	for (unsigned int n = 0; n < VCPUS; n++)
		ck_assert_int_eq(pthread_create(&thread[n], NULL, vcpu_life, &guests[n]), 0);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += SECONDS;
	for (unsigned int n = 0; n < VCPUS; n++) {
		int err = pthread_timedjoin_np(thread[n], &ret, &end);

		ck_assert_msg(!err, "vCPU %u waits for ever after %u of %u turns", n, atomic_load(&passed), rounds);
		ck_assert_int_eq((intptr_t)ret, 0);
		ck_assert_uint_eq(guests[n].vcpu->kvm->exit_reason, KVM_EXIT_SHUTDOWN);
	}
}

START_TEST(token_ring)
{
	machine_make(VCPUS);
	play(4000, VCPUS);
	ck_assert_uint_ge(atomic_load(&passed), 4000);
	for (unsigned int n = 1; n < VCPUS; n++) {
		ck_assert_uint_eq(guests[n].resets, 1);
		ck_assert_uint_gt(guests[n].noise, 0);
		ck_assert_uint_gt(guests[n].nmis, 0);
	}
}
END_TEST

/* More vCPUs than CPUs: they take turns, which loses nothing and keeps nobody for ever. */
START_TEST(crowded)
{
	machine_make(1 + (unsigned int)_i);
	vm.info.tsc_khz = 10000; /* turns of some 20 us */
	play(2000, VCPUS);
	ck_assert_uint_ge(atomic_load(&passed), 2000);
	ck_assert_uint_eq(vm.turns.running + vm.turns.parked, VCPUS);
	ck_assert_uint_eq(vm.turns.parked, 0);
	ck_assert_uint_gt(vm.turns.ticket, 10); /* there were turns */
}
END_TEST

START_TEST(resets_while_running)
{
	machine_make(VCPUS);
	play(2000, VCPUS - 1);
	ck_assert_uint_ge(atomic_load(&passed), 2000);
	/* once at boot, then each time the boot vCPU had the token */
	ck_assert_uint_ge(guests[VCPUS - 1].resets, 2000 / (VCPUS - 1));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("smp");
	TCase *tcase = tcase_create("smp");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 2 * SECONDS);
	tcase_add_test(tcase, token_ring);
	tcase_add_test(tcase, resets_while_running);
	tcase_add_loop_test(tcase, crowded, 0, 3);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
