// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "channel.h"
#include "clock.h"
#include "core.h"
#include "fault.h"
#include "routing.h"
#include "sandbox.h"
#include "sys.h"
#include "vcpu.h"

#define SPIN_MIN_US 5
#define SPIN_MAX_US 100
#define PAUSES 16 /* between two looks at the clock */
#define YIELDS 4
#define GATE_OPEN 1
#define GATE_SHUT 2
#define SLEEP_MAX_SECONDS 1000 /* then the loop looks again; keeps the conversion below from overflowing */

static __thread struct vcpu *current_vcpu;
static bool smp;

void vcpu_set_current(struct vcpu *vcpu)
{
	current_vcpu = vcpu;
}

/* ---- kicks ----
 *
 * The vCPU announces where it is, then looks at requests; a notifier sets requests, then looks where the vCPU is. All
 * four are sequentially consistent, so at least one of the two sees what the other did:
 *
 *   vCPU:     in_guest = 1;  requests?  RUN          notifier:  requests |= r;  in_guest?  KICK
 *   vCPU:     wake = 1;      requests?  FUTEX_WAIT   notifier:  requests |= r;  wake?      wake = 0, FUTEX_WAKE
 *
 * - The vCPU sees the request: it does not enter (sleep), and takes it.
 * - The notifier sees in_guest: its KICK makes the running RUN return, or the next one if this one has not begun or
 *   has just ended (the shim keeps a kick until a RUN takes it). After each RUN that ends requests are looked at before the
 *   next one, so a kick that is taken by another RUN (NO_ENTRY) is not lost: requests were set before it was sent.
 * - The notifier sees neither: then the vCPU's announcement comes later than the request, and it sees the request.
 * - FUTEX_WAIT compares wake with 1 in the kernel: a notifier that came in between has made it 0.
 * in_guest 2: someone has kicked already, or is about to. His request and everyone's who saw 2 were set before
 * that kick's RUN returns and requests are looked at again.
 * The vCPU's own thread only leaves the request: it is not in the guest.
 */
void vcpu_notify(struct vcpu *vcpu, unsigned int requests)
{
	unsigned int in_guest = 1;

	atomic_fetch_or(&vcpu->requests, requests);
	if (vcpu == current_vcpu)
		return;
	if (atomic_load(&vcpu->wake) && atomic_exchange(&vcpu->wake, 0)) {
		steal_woken(vcpu);
		sys_futex_wake(&vcpu->wake, 0);
	}
	if (requests & (VCPU_REQ_STOP | VCPU_REQ_EXIT))
		turns_let_go(vcpu);
	if (atomic_compare_exchange_strong(&vcpu->in_guest, &in_guest, 2))
		vcpu->vm->shim->ops->kick(vcpu->vm->shim, vcpu->fd);
}

/* ---- the guest's FPU state is this thread's ---- */

void vcpu_park_fpu(struct vcpu *vcpu)
{
	uint64_t mask = vcpu_fpu_mask(vcpu);

	if (vcpu->fpu_parked)
		return;
	if (mask)
		cpu_xsave(vcpu->fpu_park, mask);
	else
		cpu_fxsave(vcpu->fpu_park);
	cpu_ldmxcsr(0x1f80); /* no exception that the guest has unmasked may hit a library */
	vcpu->fpu_parked = true;
}

void vcpu_unpark_fpu(struct vcpu *vcpu)
{
	uint64_t mask = vcpu_fpu_mask(vcpu);

	if (!vcpu->fpu_parked)
		return;
	if (mask)
		cpu_xrstor(vcpu->fpu_park, mask);
	else
		cpu_fxrstor(vcpu->fpu_park);
	vcpu->fpu_parked = false;
}

/* ---- KVM_RUN ---- */

static int run_interrupted(struct vcpu *vcpu)
{
	vcpu->kvm->exit_reason = KVM_EXIT_INTR;
	return -EINTR;
}

static bool stop_wanted(const struct vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->channel->stop, __ATOMIC_ACQUIRE) != 0;
}

static __attribute__((noinline)) void take_init_sipi(struct vcpu *vcpu)
{
	unsigned int sipi;

	if (atomic_load(&vcpu->lapic.init_pending) && atomic_exchange(&vcpu->lapic.init_pending, 0)) {
		vcpu_reset(vcpu, true);
		vcpu->mp_state = vcpu->apic_base & APIC_BASE_BSP ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
	}
	if (!(atomic_load(&vcpu->lapic.sipi_vector) & 0x100))
		return;
	sipi = atomic_fetch_and(&vcpu->lapic.sipi_vector, ~0x100u);
	if ((sipi & 0x100) && vcpu->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
		vcpu_sipi(vcpu, (uint8_t)sipi);
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}

/* INIT and SIPI. (SDM 3A 8.4.2) */
void vcpu_take_init_sipi(struct vcpu *vcpu)
{
	if (__builtin_expect(atomic_load(&vcpu->lapic.init_pending) || (atomic_load(&vcpu->lapic.sipi_vector) & 0x100),
			     0))
		take_init_sipi(vcpu);
}

/* EXIT_RESUME, or -EINTR: the VMM wants its thread back. */
static int take_requests(struct vcpu *vcpu)
{
	unsigned int requests = atomic_exchange(&vcpu->requests, 0);

	turns_taken(vcpu);
	if (requests & VCPU_REQ_EXIT)
		sys_exit_group(0);
	if ((requests & VCPU_REQ_NMI) && vcpu->nmi_pending < 2)
		vcpu->nmi_pending++;
	if (requests & VCPU_REQ_CLOCK)
		clock_update(vcpu);
	if (requests & VCPU_REQ_ANSWERS)
		answers_update(vcpu);
	if (requests & VCPU_REQ_SCAN_EOI)
		routing_scan_eoi(vcpu);
	if (requests & VCPU_REQ_EVENT)
		vcpu_take_init_sipi(vcpu);
	/* A request that is left from a run before: the VMM has cleared stop since. */
	if ((requests & VCPU_REQ_STOP) && stop_wanted(vcpu))
		return run_interrupted(vcpu);
	return EXIT_RESUME;
}

static void timer_check(struct vcpu *vcpu)
{
	uint64_t deadline = vcpu->lapic.timer_deadline_tsc, now;

	if (!deadline)
		return;
	now = cpu_rdtsc();
	if (now >= deadline)
		lapic_timer_check(vcpu, now);
}

static void sleep_until_notified(struct vcpu *vcpu)
{
	uint64_t deadline = vcpu->lapic.timer_deadline_tsc, now = cpu_rdtsc(), ticks, khz = vcpu->vm->info.tsc_khz;
	struct sys_timespec timeout;
	uint64_t ns;

	if (deadline && now >= deadline)
		return;
	ticks = deadline - now;
	if (!khz || ticks > khz * 1000 * SLEEP_MAX_SECONDS)
		ns = SLEEP_MAX_SECONDS * 1000000000ULL;
	else
		ns = ticks * 1000000 / khz + 1;
	timeout.sec = (int64_t)(ns / 1000000000);
	timeout.nsec = (int64_t)(ns % 1000000000);
	atomic_store(&vcpu->wake, 1);
	if (!atomic_load(&vcpu->requests))
		sys_futex_wait(&vcpu->wake, 1, deadline ? &timeout : NULL, 0);
	atomic_store(&vcpu->wake, 0);
	steal_halted(vcpu, now, cpu_rdtsc(), deadline);
}

static bool vcpu_is_halted(const struct vcpu *vcpu)
{
	return vcpu->mp_state == KVM_MP_STATE_HALTED || vcpu->mp_state == KVM_MP_STATE_AP_RESET_HOLD;
}

/* KVM_HC_KICK_CPU: one that comes before the halt ends it, too. */
bool vcpu_take_unhalt(struct vcpu *vcpu)
{
	return atomic_load(&vcpu->pv_unhalt) && atomic_exchange(&vcpu->pv_unhalt, 0);
}

/* Halted, or waiting for SIPI. EXIT_RESUME: runs again. */
static int vcpu_block(struct vcpu *vcpu)
{
	uint64_t since = cpu_rdtsc();

	for (;;) {
		if (atomic_load(&vcpu->requests)) {
			int ret = take_requests(vcpu);

			if (ret != EXIT_RESUME)
				return ret;
		}
		timer_check(vcpu);
		if (vcpu_is_halted(vcpu) && (vcpu_take_unhalt(vcpu) || vcpu_has_work(vcpu) || vcpu->debug_pending))
			vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
		if (vcpu->mp_state == KVM_MP_STATE_RUNNABLE) {
			halt_poll_adapt(vcpu, since);
			turns_begin(vcpu);
			return EXIT_RESUME;
		}
		turns_end(vcpu);
		if (!halt_poll(vcpu, since))
			sleep_until_notified(vcpu);
	}
}

/* Does the VMM wait until it can inject an interrupt of its own? (KVM_EXIT_IRQ_WINDOW_OPEN) */
static bool window_for_user(struct vcpu *vcpu)
{
	return !vcpu->vm->irqchip && inject_can_take_interrupt(vcpu) && vcpu->user_interrupt < 0 &&
	       (!vm_has_lapics(vcpu->vm) || lapic_accepts_pic(vcpu));
}

/* Everything that is due before an entry. Back with EXIT_RESUME the vCPU is announced as in the guest. */
static int run_prepare(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	int ret;

	for (;;) {
		inject_undo(vcpu);
		if (atomic_load(&vcpu->requests)) {
			ret = take_requests(vcpu);
			if (ret != EXIT_RESUME)
				return ret;
		}
		turns_look(vcpu);
		timer_check(vcpu);
		steal_look(vcpu);
		if (vcpu->debug_pending) {
			vcpu->debug_pending = false;
			return debug_exit(vcpu, EXC_DB, X86_DR6_BS);
		}
		if (__builtin_expect(vcpu->mp_state != KVM_MP_STATE_RUNNABLE, 0)) {
			ret = vcpu_block(vcpu);
			if (ret != EXIT_RESUME)
				return ret;
		}
		ret = inject_before_entry(vcpu);
		if (ret != EXIT_RESUME)
			return ret;
		run->deadline_tsc = vcpu->lapic.timer_deadline_tsc;
		if (__builtin_expect(vcpu->guest_debug | vcpu->careful, 0)) {
			run->deadline_tsc = inject_deadline(vcpu);
			debug_enter(vcpu);
		}
		atomic_store(&vcpu->in_guest, 1);
		if (!atomic_load(&vcpu->requests))
			return EXIT_RESUME;
		atomic_store_explicit(&vcpu->in_guest, 0, memory_order_release);
		debug_leave(vcpu);
	}
}

/* Exits whose handlers are short and leave nothing to look at: the vCPU stays announced as in the guest. */
static bool exit_is_quick(uint32_t reason)
{
	return reason - VMEXIT_CPUID <= VMEXIT_WRMSR - VMEXIT_CPUID;
}

/* In and out of the guest until an exit needs more than a quick handler. The hot path. */
static int run_guest(struct vcpu *vcpu)
{
	struct shim *shim = vcpu->vm->shim;
	struct umbra_run *run = vcpu->run;
	int ret;

	do {
		vcpu->exits_shim_calls++;
		ret = shim->ops->run(shim, vcpu->fd);
		if (__builtin_expect(ret < 0, 0)) {
			atomic_store_explicit(&vcpu->in_guest, 0, memory_order_release);
			return ret;
		}
		if (__builtin_expect(!shim->ops->exit_read, 1))
			exit_read_vmx(run, &vcpu->exit); /* known at compile time: the hot path */
		else
			shim->ops->exit_read(run, &vcpu->exit);
		vcpu->valid = run->exit.valid | run->dirty | UMBRA_STATE_RIP;
		if (__builtin_expect(vcpu->injecting | run->exit.event.flags, 0))
			inject_take_back(vcpu);
		if (__builtin_expect(vcpu->lapic.pv_eoi_pending, 0))
			lapic_pv_eoi_sync(vcpu);
		if (__builtin_expect(vcpu->guest_debug | vcpu->careful, 0))
			debug_leave(vcpu);
		if (!exit_is_quick(vcpu->exit.reason))
			break;
		ret = vcpu_handle_exit(vcpu);
		if (ret != EXIT_QUICK || vcpu->guest_debug | vcpu->careful)
			goto out;
		run->deadline_tsc = vcpu->lapic.timer_deadline_tsc;
		if (__builtin_expect(vcpu->exception.pending, 0))
			goto out;
	} while (!atomic_load_explicit(&vcpu->requests, memory_order_relaxed));
	if (exit_is_quick(vcpu->exit.reason))
		goto out;
	atomic_store_explicit(&vcpu->in_guest, 0, memory_order_release);
	ret = vcpu_handle_exit(vcpu);
	return ret == EXIT_QUICK ? EXIT_RESUME : ret;
out:
	atomic_store_explicit(&vcpu->in_guest, 0, memory_order_release);
	return ret == EXIT_QUICK ? EXIT_RESUME : ret;
}

static int run_start(struct vcpu *vcpu)
{
	volatile struct kvm_run *kvm = vcpu->kvm;
	int (*complete)(struct vcpu *) = vcpu->complete;
	int ret = EXIT_RESUME;

	if (kvm->kvm_valid_regs | kvm->kvm_dirty_regs)
		return -EINVAL; /* KVM_CAP_SYNC_REGS is 0 */
	if (!vm_has_lapics(vcpu->vm)) {
		uint64_t cr8 = kvm->cr8;

		FAULT_POINT(run_cr8, vcpu, NULL, cr8);
		if (cr8 & ~0xfULL)
			return -EINVAL;
		lapic_set_tpr(vcpu, cr8);
	}
	turns_begin(vcpu);
	steal_run_begin(vcpu);
	if (complete) {
		vcpu->complete = NULL;
		ret = complete(vcpu);
		if (ret <= EXIT_USER)
			return ret;
	}
	if (kvm->immediate_exit || stop_wanted(vcpu))
		return run_interrupted(vcpu);
	vcpu_take_init_sipi(vcpu);
	return EXIT_RESUME;
}

static int run_loop(struct vcpu *vcpu)
{
	int ret = run_start(vcpu);

	while (ret == EXIT_RESUME) {
		ret = run_prepare(vcpu);
		if (ret == EXIT_RESUME)
			ret = run_guest(vcpu);
		if (ret == EXIT_RESUME && *(volatile uint8_t *)&vcpu->kvm->request_interrupt_window &&
		    window_for_user(vcpu)) {
			vcpu->kvm->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			ret = EXIT_USER;
		}
	}
	return ret;
}

/* The fields of struct kvm_run that hold after every KVM_RUN. */
static void run_publish(struct vcpu *vcpu)
{
	struct kvm_run *kvm = vcpu->kvm;

	kvm->if_flag = (vcpu->run->rflags & X86_RFLAGS_IF) != 0;
	kvm->flags = 0;
	kvm->cr8 = lapic_get_tpr(vcpu);
	kvm->apic_base = vcpu->apic_base;
	/* With a PIC here the VMM has none to wait for, and KVM says so. */
	kvm->ready_for_interrupt_injection = vcpu->vm->irqchip || window_for_user(vcpu);
}

int vcpu_run(struct vcpu *vcpu)
{
	int ret;

	vcpu->exits_runs++;
	ret = run_loop(vcpu);
	run_publish(vcpu);
	if (ret < 0)
		turns_end(vcpu); /* else it is back soon, as a rule */
	steal_run_end(vcpu);
	if (ret == EXIT_USER)
		vcpu->exits_user++;
	return ret;
}

/* ---- the doorbell ---- */

static uint32_t bell_word(struct vcpu *vcpu)
{
	return __atomic_load_n((uint32_t *)vcpu->kvm, __ATOMIC_SEQ_CST);
}

static uint32_t bell_of(uint32_t word)
{
	return word >> (8 * CHANNEL_BELL_BYTE) & 0xff;
}

static bool bell_spin(struct vcpu *vcpu, uint64_t end)
{
	do {
		for (int i = 0; i < PAUSES; i++) {
			if (bell_of(bell_word(vcpu)) != CHANNEL_IDLE)
				return true;
			cpu_pause();
		}
		sys_sched_yield(); /* the VMM's thread may wait for this CPU */
	} while (cpu_rdtsc() < end);
	return false;
}

static bool bell_yield(struct vcpu *vcpu)
{
	for (int i = 0; i < YIELDS; i++) {
		if (bell_of(bell_word(vcpu)) != CHANNEL_IDLE)
			return true;
		sys_sched_yield();
	}
	return false;
}

/* A ring that comes soon is worth spinning for, whether it was spun for this time or not. */
static void bell_learn(struct vcpu *vcpu, uint64_t ticks)
{
	if (ticks > vm_us_to_ticks(vcpu->vm, SPIN_MAX_US))
		vcpu->spin_us = vcpu->spin_us > 2 * SPIN_MIN_US ? vcpu->spin_us / 2 : SPIN_MIN_US;
	else if (ticks > vm_us_to_ticks(vcpu->vm, vcpu->spin_us) / 2)
		vcpu->spin_us = vcpu->spin_us < SPIN_MAX_US / 2 ? vcpu->spin_us * 2 : SPIN_MAX_US;
}

/*
 * shadow_sleeps is set before the word is looked at for the last time, and the VMM rings before it looks at shadow_sleeps;
 * the futex compares the word again in the kernel. So a ring is seen here or brings a wake-up.
 */
static uint32_t bell_wait(struct vcpu *vcpu)
{
	uint64_t begin = cpu_rdtsc();
	uint32_t word;

	if (!(smp && bell_spin(vcpu, begin + vm_us_to_ticks(vcpu->vm, vcpu->spin_us))) && !bell_yield(vcpu)) {
		__atomic_store_n(&vcpu->channel->shadow_sleeps, 1, __ATOMIC_SEQ_CST);
		while (word = bell_word(vcpu), bell_of(word) == CHANNEL_IDLE)
			sys_futex_wait(vcpu->kvm, word, NULL, 1);
		__atomic_store_n(&vcpu->channel->shadow_sleeps, 0, __ATOMIC_RELAXED);
	}
	if (smp)
		bell_learn(vcpu, cpu_rdtsc() - begin);
	return bell_of(bell_word(vcpu));
}

static void bell_answer(struct vcpu *vcpu)
{
	static const uint64_t one = 1;
	uint8_t *bell = (uint8_t *)vcpu->kvm + CHANNEL_BELL_BYTE;
	uint32_t sleeps;

	__atomic_exchange_n(bell, CHANNEL_IDLE, __ATOMIC_SEQ_CST);
	sleeps = __atomic_load_n(&vcpu->channel->vmm_sleeps, __ATOMIC_SEQ_CST);
	if (sleeps == 1)
		sys_futex_wake(vcpu->kvm, 1);
	else if (sleeps == 2)
		sys_write(vcpu->done_fd, &one, sizeof(one));
}

/* A VM call that a vCPU thread can do as well as the control thread: the way there is shorter. */
static int interrupt_call(struct vcpu *vcpu, uint32_t nr, void *buf, uint32_t *size)
{
	struct call call = { .nr = nr, .in = buf, .in_size = *size, .out = buf };
	int ret = (int)vm_interrupt_call(vcpu->vm, &call);

	*size = call.out_size;
	return ret;
}

static int serve_call(struct vcpu *vcpu, uint32_t bell)
{
	volatile struct channel_vcpu *channel = vcpu->channel;
	uint32_t size = channel->size, nr = channel->nr;
	uint64_t arg = channel->arg;
	int ret;

	if (size > CHANNEL_PAYLOAD_MAX) {
		channel->size = 0;
		return -EINVAL;
	}
	memcpy(vcpu->call_buf, vcpu->payload, size);
	if (bell == CHANNEL_VM_CALL)
		ret = interrupt_call(vcpu, nr, vcpu->call_buf, &size);
	else
		ret = vcpu_call(vcpu, nr, arg, vcpu->call_buf, &size);
	if (size > CHANNEL_PAYLOAD_MAX)
		size = 0;
	memcpy(vcpu->payload, vcpu->call_buf, size);
	channel->size = size;
	return ret;
}

/* One ring of the bell. */
void vcpu_serve(struct vcpu *vcpu, uint32_t bell)
{
	int ret;

	if (bell == CHANNEL_RUN)
		ret = vcpu_run(vcpu);
	else if (bell == CHANNEL_CALL || bell == CHANNEL_VM_CALL)
		ret = serve_call(vcpu, bell);
	else
		ret = -EINVAL;
	__atomic_store_n(&vcpu->channel->ret, ret, __ATOMIC_RELAXED);
	bell_answer(vcpu);
}

/*
 * A thread with an rseq area gets "work to do before user mode" with each preemption, and each time RUN would come
 * back for nothing. libc's area is given up; nothing here uses restartable sequences.
 */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static void rseq_give_up(void)
{
	static const unsigned int rseq_sizes[] = { 32, 64 };
	char *area;

	if (!&__rseq_size || !__rseq_size)
		return;
	area = (char *)__builtin_thread_pointer() + __rseq_offset;
	for (unsigned int i = 0; i < 2; i++)
		if (!sys_call4(__NR_rseq, (long)area, rseq_sizes[i], 1 /* unregister */, 0x53053053))
			return;
	sys_call4(__NR_rseq, (long)area, __rseq_size, 1, 0x53053053);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	unsigned int gate;

	rseq_give_up();
	vcpu_set_current(vcpu);
	sandbox_thread(SANDBOX_VCPU);
	while (!(gate = atomic_load(&vcpu->gate)))
		sys_futex_wait(&vcpu->gate, 0, NULL, 0);
	if (gate == GATE_SHUT)
		return NULL;
	/* From here on the FPU state is the guest's: what vcpu_init() has put into the area. */
	vcpu->fpu_parked = true;
	vcpu_unpark_fpu(vcpu);
	for (;;)
		vcpu_serve(vcpu, bell_wait(vcpu));
	return NULL;
}

/* ---- KVM_CREATE_VCPU, on the control thread ---- */

static int area_map(struct vcpu *vcpu, int memfd)
{
	int seals = fcntl(memfd, F_GET_SEALS);
	struct stat st;
	uint8_t *area;

	/* A memfd that can shrink could make every access a SIGBUS. */
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (sys_fstat(memfd, &st) < 0 || st.st_size < CHANNEL_VCPU_SIZE)
		return -EINVAL;
	area = mmap(NULL, CHANNEL_VCPU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (area == MAP_FAILED)
		return -errno;
	vcpu->kvm = (struct kvm_run *)area;
	vcpu->pio = area + CHANNEL_PIO_OFFSET;
	vcpu->channel = (struct channel_vcpu *)(area + CHANNEL_VCPU_OFFSET);
	vcpu->payload = area + CHANNEL_PAYLOAD_OFFSET;
	return 0;
}

static int thread_start(struct vcpu *vcpu, pthread_t *thread)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	ret = pthread_create(thread, &attr, vcpu_thread, vcpu);
	pthread_attr_destroy(&attr);
	return -ret;
}

/* The new thread waits until all that can fail has been done: from then on others may know the vCPU, for good. */
static void gate_set(struct vcpu *vcpu, unsigned int gate)
{
	atomic_store(&vcpu->gate, gate);
	sys_futex_wake(&vcpu->gate, 0);
}

int vcpu_create(struct vm *vm, uint32_t id, int memfd, int kick_fd, int done_fd)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
	uint32_t n = atomic_load(&vm->vcpus);
	pthread_t thread;
	int ret;

	if (!vcpu)
		return -ENOMEM;
	smp = vm_cpus() > 1;
	turns_vcpu_added(vm);
	vcpu->kick_fd = kick_fd;
	vcpu->done_fd = done_fd;
	ret = area_map(vcpu, memfd);
	if (ret < 0)
		goto free_vcpu;
	ret = vcpu_init(vcpu, vm, id);
	if (ret < 0)
		goto unmap;
	ret = thread_start(vcpu, &thread);
	if (ret < 0)
		goto fini;
	ret = eventfds_add_vcpu(vcpu);
	if (ret < 0)
		goto join;
	if (!n) {
		vm->ring = (struct kvm_coalesced_mmio_ring *)((uint8_t *)vcpu->kvm + CHANNEL_RING_OFFSET);
		__atomic_store_n(&vm->irq_bell, (struct channel_irq *)((uint8_t *)vcpu->kvm + CHANNEL_IRQ_OFFSET),
				 __ATOMIC_RELEASE);
	}
	__atomic_store_n(&vm->vcpu[n], vcpu, __ATOMIC_RELEASE);
	atomic_store(&vm->vcpus, n + 1);
	gate_set(vcpu, GATE_OPEN);
	pthread_detach(thread);
	return 0;
join:
	gate_set(vcpu, GATE_SHUT);
	pthread_join(thread, NULL);
fini:
	vcpu_fini(vcpu);
unmap:
	munmap(vcpu->kvm, CHANNEL_VCPU_SIZE);
free_vcpu:
	free(vcpu);
	return ret;
}
