// SPDX-License-Identifier: GPL-2.0-or-later
/* The first thing that must work: create, run one OUT, see that exit, destroy, see that it is gone. */
#include "lib.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static void smoke_out(void)
{
	struct guest g;
	struct umbra_run *run;

	guest_new(&g, MODE_LONG64, SNIPPET(out_one));
	run = g.vcpu.run;
	check(counter_read("vms") == 1 && counter_read("vcpus") == 1, "counters: %ld VMs, %ld vCPUs",
	      counter_read("vms"), counter_read("vcpus"));
	run->intercepts = UMBRA_ICPT_HLT;
	vcpu_expect_io(&g.vcpu, 0x3f8, "out");
	check(g.vcpu.exit.io.size == 1 && g.vcpu.exit.io.flags == 0, "%s", vcpu_describe(&g.vcpu));
	check((run->gpr[UMBRA_RAX] & 0xff) == 'U', "RAX %llx", (unsigned long long)run->gpr[UMBRA_RAX]);
	check(run->rip == GPA_CODE + 7, "RIP %llx", (unsigned long long)run->rip);
	check(run->dirty == 0, "dirty %llx is not cleared", (unsigned long long)run->dirty);
	check(counter_read("pages") > 0, "no page is counted");
	vcpu_skip(&g.vcpu);
	vcpu_expect(&g.vcpu, VMEXIT_HLT, "hlt");

	vcpu_destroy(&g.vcpu);
	check(counter_read("vcpus") == 0, "%ld vCPUs after close", counter_read("vcpus"));
	vm_destroy(&g.vm);
	check(!counters_zero_wait(), "%ld VMs, %ld vCPUs, %ld pages after close", counter_read("vms"),
	      counter_read("vcpus"), counter_read("pages"));
}

static void smoke_ioctl(void)
{
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(out_one));
	for (int i = 0; i < 3; i++) { /* the same by ioctl; not skipped, so the same exit again */
		do {
			need(ioctl(g.vcpu.fd, UMBRA_VCPU_RUN, 0) == 0, "RUN by ioctl: %s", strerror(errno));
			vcpu_decode(&g.vcpu);
		} while (g.vcpu.exit.reason == VMEXIT_INTERRUPTED);
		check(g.vcpu.exit.reason == VMEXIT_IO, "%s", vcpu_describe(&g.vcpu));
	}
}

static void smoke_info(void)
{
	const struct umbra_info *i = info();

	note("hw %u features %llx xcr0 %llx cr0 %llx cr4 %llx efer %llx tsc %u kHz gpa %u bits run area %u vapic at %u",
	     i->hw, (unsigned long long)i->features, (unsigned long long)i->guest_xcr0,
	     (unsigned long long)i->guest_cr0, (unsigned long long)i->guest_cr4, (unsigned long long)i->guest_efer,
	     i->tsc_khz, i->gpa_bits, i->run_size, i->vapic_offset);
	check(i->hw == UMBRA_HW_VMX || i->hw == UMBRA_HW_SVM, "hw %u", i->hw);
	check((i->guest_cr0 & 0x80050033) == 0x80050033, "CR0 %llx", (unsigned long long)i->guest_cr0);
	check((i->guest_cr4 & 0x620) == 0x620 && !(i->guest_cr4 & 1 << 13), "CR4 %llx",
	      (unsigned long long)i->guest_cr4);
	check((i->guest_efer & 0xd01) == 0xd01, "EFER %llx", (unsigned long long)i->guest_efer);
	check(i->gpa_bits >= 36 && i->gpa_bits <= 52, "gpa_bits %u", i->gpa_bits);
	check(i->run_size >= sizeof(struct umbra_run) && i->run_size % UMBRA_PAGE_SIZE == 0, "run_size %u",
	      i->run_size);
	check(i->vapic_offset + UMBRA_PAGE_SIZE <= i->run_size && i->vapic_offset >= sizeof(struct umbra_run) &&
		      i->vapic_offset % UMBRA_PAGE_SIZE == 0,
	      "vapic_offset %u", i->vapic_offset);
	check(i->tsc_khz > 1000, "tsc_khz %u", i->tsc_khz);
	for (size_t n = 0; n < ARRAY_SIZE(i->reserved); n++)
		check(!i->reserved[n], "reserved[%zu]", n);
}

int smoke_main(void)
{
	static const struct test tests[] = {
		{ "info", smoke_info, 10 },
		{ "out", smoke_out, 10 },
		{ "ioctl", smoke_ioctl, 10 },
	};

	return run_tests("smoke", tests, ARRAY_SIZE(tests));
}
