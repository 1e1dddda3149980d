// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fakes.h"

#include "core.h"
#include "cpuid.h"
#include "sandbox.h"

uint64_t fake_tsc;
int64_t fake_ns;
unsigned int fake_wakes;
bool fake_has_x2apic = true, fake_has_deadline = true;
bool fake_no_event_thread;
struct call fake_call;
struct vm vm;
struct vcpu *cpu;
atomic_uint fake_notified[VM_MAX_VCPUS], fake_calls[VM_MAX_VCPUS];
uint8_t fake_ram[FAKE_RAM_SIZE] __attribute__((aligned(4096)));

static struct vcpu vcpus[VM_MAX_VCPUS];
static struct vcpu_msrs msrs[VM_MAX_VCPUS];
static struct umbra_run runs[VM_MAX_VCPUS];
static struct kvm_run kvm_runs[VM_MAX_VCPUS];
static struct channel_vcpu channels[VM_MAX_VCPUS];
static uint8_t pages[VM_MAX_VCPUS][4096] __attribute__((aligned(4096)));

uint64_t clock_host_tsc(void)
{
	return fake_tsc;
}

int64_t clock_monotonic_ns(void)
{
	return fake_ns;
}

/* Where there is no event thread. */
void __attribute__((weak)) eventfds_wake(struct vm *of)
{
	(void)of;
	fake_wakes++;
}

void __attribute__((weak)) turns_sent(struct vm *of)
{
	(void)of;
}

void __attribute__((weak)) turns_asked(struct vcpu *vcpu)
{
	(void)vcpu;
}

/* Where vm_calls.c is not there. */
int64_t __attribute__((weak)) vm_interrupt_call(struct vm *of, struct call *call)
{
	ck_assert_ptr_eq(of, &vm);
	fake_call = *call;
	memcpy(call->out, "answer", 6);
	call->out_size = 6;
	return -ENXIO;
}

void vcpu_notify(struct vcpu *vcpu, unsigned int requests)
{
	atomic_fetch_or(&fake_notified[vcpu - vcpus], requests);
	atomic_fetch_add(&fake_calls[vcpu - vcpus], 1);
}

bool cpuid_has(const struct vcpu *vcpu, uint32_t function, uint32_t index, int reg, int bit)
{
	(void)vcpu;
	ck_assert(function == 1 && index == 0 && reg == 2);
	return bit == 21 ? fake_has_x2apic : bit == 24 ? fake_has_deadline : false;
}

void *vm_gpa_to_hva(struct vm *of, uint64_t gpa, size_t len, bool write)
{
	(void)of;
	(void)write;
	if (gpa < FAKE_RAM_GPA || len > FAKE_RAM_SIZE || gpa - FAKE_RAM_GPA > FAKE_RAM_SIZE - len)
		return NULL;
	return fake_ram + (gpa - FAKE_RAM_GPA);
}

void vm_read_lock(struct vm *of)
{
	(void)of;
}
void vm_read_unlock(struct vm *of)
{
	(void)of;
}
void vm_synchronize(struct vm *of)
{
	(void)of;
}
void sandbox_thread(enum sandbox_role role)
{
	ck_assert(role == SANDBOX_EVENT);
	while (fake_no_event_thread)
		pause();
}
void sandbox_die(const char *reason)
{
	ck_abort_msg("%s", reason);
	abort();
}

struct vcpu *fake_vcpu(unsigned int n)
{
	return &vcpus[n];
}

void fake_clear(void)
{
	memset(fake_notified, 0, sizeof(fake_notified));
	memset(fake_calls, 0, sizeof(fake_calls));
}

void fake_machine(unsigned int count)
{
	memset(&vm, 0, sizeof(vm));
	memset(vcpus, 0, sizeof(vcpus));
	memset(msrs, 0, sizeof(msrs));
	memset(runs, 0, sizeof(runs));
	memset(fake_ram, 0, sizeof(fake_ram));
	fake_tsc = 1000000;
	fake_has_x2apic = fake_has_deadline = true;
	vm.split_irqchip = true;
	vm.ioapic_pins = 24;
	vm.info.tsc_khz = 1000000;
	pthread_mutex_init(&vm.lock, NULL);
	ck_assert_int_eq(routing_create(&vm), 0);
	for (unsigned int n = 0; n < count; n++) {
		struct vcpu *vcpu = &vcpus[n];

		memset(pages[n], 0xa5, sizeof(pages[n])); /* reset must not count on zeros */
		vcpu->vm = &vm;
		vcpu->id = n;
		vcpu->run = &runs[n];
		vcpu->kvm = &kvm_runs[n];
		vcpu->channel = &channels[n];
		vcpu->msrs = &msrs[n];
		vcpu->maxphyaddr = 40;
		vcpu->lapic.regs = pages[n];
		vcpu->apic_base = n ? 0 : APIC_BASE_BSP;
		lapic_reset(vcpu, false);
		vm.vcpu[n] = vcpu;
		reg_write(vcpu, APIC_SVR, 0x1ff);
	}
	atomic_store(&vm.vcpus, count);
	cpu = &vcpus[0];
	fake_clear();
}

void fake_x2apic(struct vcpu *vcpu)
{
	uint64_t base = vcpu->apic_base | APIC_BASE_X2APIC;

	ck_assert_int_eq(lapic_check_base(vcpu, base, false), 0);
	lapic_set_base(vcpu, base);
}

uint32_t reg_read(struct vcpu *vcpu, uint32_t offset)
{
	uint32_t value = 0xdeadbeef;

	ck_assert(lapic_mmio_read(vcpu, offset, 4, &value));
	return value;
}

void reg_write(struct vcpu *vcpu, uint32_t offset, uint32_t value)
{
	ck_assert(lapic_mmio_write(vcpu, offset, 4, &value));
}

int fake_main(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed, ran;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	ran = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed || !ran;
}

void answers_update(struct vcpu *vcpu)
{
	(void)vcpu; /* no CPUID or MSR here */
}
