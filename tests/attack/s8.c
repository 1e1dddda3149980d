// SPDX-License-Identifier: GPL-2.0-or-later
/* S8: tags of translations (ASID, VPID) and flushes belong to the shim. */
#include "attack.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define GUESTS 24

static void stamp_check(struct guest *g, uint64_t want, const char *what)
{
	run_bounded(&g->vcpu, LONG);
	need(g->vcpu.exit.reason == VMEXIT_IO, "%s: %s", what, vcpu_describe(&g->vcpu));
	need(g->vcpu.run->gpr[UMBRA_RBX] == want, "%s: the guest reads %llx, want %llx", what,
	     (unsigned long long)g->vcpu.run->gpr[UMBRA_RBX], (unsigned long long)want);
	vcpu_skip(&g->vcpu);
}

static void stamp_new(struct guest *g, uint64_t stamp)
{
	guest_new(g, MODE_LONG64, SNIPPET(load_out));
	memcpy(g->vm.mem + GPA_DATA, &stamp, 8);
	g->vcpu.run->gpr[UMBRA_RDI] = GPA_DATA;
}

/* More guests than a small CPU has tags, at the same addresses, on all CPUs in any order; some go, others come. */
ATTACK(s8_isolation)
{
	static struct guest g[GUESTS];
	uint64_t seed = 19, stamp[GUESTS], next = 1000;

	for (size_t i = 0; i < GUESTS; i++)
		stamp_new(&g[i], stamp[i] = next++);
	for (uint64_t round = 0; round < scaled(3000); round++) {
		size_t i = random_next(&seed) % GUESTS;

		if (!(round % 16))
			cpu_pin((int)(random_next(&seed) % (unsigned int)cpu_count_online()));
		stamp_check(&g[i], stamp[i], "one of many");
		if (round % 40 == 7) { /* its tag goes to a new one */
			vcpu_destroy(&g[i].vcpu);
			vm_destroy(&g[i].vm);
			stamp_new(&g[i], stamp[i] = next++);
		} else if (round % 40 == 23) { /* a new page at the same address */
			stamp[i] = next++;
			madvise(g[i].vm.mem + GPA_DATA, PAGE, MADV_DONTNEED);
			memcpy(g[i].vm.mem + GPA_DATA, &stamp[i], 8);
		}
	}
	cpu_pin(-1);
}

/* As many vCPUs as there may be: each runs, and tags come back. */
ATTACK(s8_many_tags)
{
	struct rlimit limit = { 8192, 8192 };
	size_t vms = (size_t)scaled(8), count = 0;
	struct vm *vm = calloc(vms, sizeof(*vm));
	struct vcpu *vcpu = calloc(vms * UMBRA_MAX_VCPUS, sizeof(*vcpu));
	uint64_t seed = 3;

	need(vm && vcpu && !setrlimit(RLIMIT_NOFILE, &limit), "memory, descriptors");
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < vms; i++) {
			vm_create(&vm[i], GUEST_MEM);
			guest_code(&vm[i], GPA_CODE, SNIPPET(load_out));
			for (size_t n = 0; n < UMBRA_MAX_VCPUS; n++) {
				struct vcpu *v = &vcpu[i * UMBRA_MAX_VCPUS + n];

				vcpu_create(v, &vm[i]);
				vcpu_state(v->run, MODE_LONG64, GPA_CODE);
				v->run->gpr[UMBRA_RDI] = GPA_DATA;
				count++;
			}
			memcpy(vm[i].mem + GPA_DATA, &(uint64_t) { i + 77 }, 8);
		}
		for (uint64_t n = 0; n < 3 * vms * UMBRA_MAX_VCPUS; n++) {
			struct vcpu *v = &vcpu[random_next(&seed) % (vms * UMBRA_MAX_VCPUS)];

			if (!(n % 64))
				cpu_pin((int)(n / 64 % (unsigned int)cpu_count_online()));
			run_bounded(v, LONG);
			need(v->exit.reason == VMEXIT_IO, "%s", vcpu_describe(v));
			need(v->run->gpr[UMBRA_RBX] == (size_t)(v->vm - vm) + 77, "another VM's memory: %llx",
			     (unsigned long long)v->run->gpr[UMBRA_RBX]);
			vcpu_skip(v);
		}
		for (size_t n = 0; n < vms * UMBRA_MAX_VCPUS; n++)
			vcpu_destroy(&vcpu[n]);
		for (size_t i = 0; i < vms; i++)
			vm_destroy(&vm[i]);
	}
	cpu_pin(-1);
	note("%zu vCPUs", count);
}

/* A CPU forgets what it knew of a guest while it was offline: the page there is another one now. (CVE-2026-68093) */
ATTACK(s8_offline)
{
	uint64_t stamp = 1;
	struct guest g[2];

	if (cpu_count_online() < 2 || access(HOTPLUG_PATH, W_OK))
		skip_test("no CPU that can be taken offline");
	for (int i = 0; i < 2; i++)
		stamp_new(&g[i], stamp);
	for (uint64_t round = 0; round < scaled(4); round++) {
		cpu_pin(HOTPLUG_CPU);
		for (int i = 0; i < 2; i++)
			stamp_check(&g[i], stamp, "before");
		cpu_pin(-1);
		need(!hotplug_set(0), "CPU 1 offline");
		stamp++;
		for (int i = 0; i < 2; i++) {
			madvise(g[i].vm.mem + GPA_DATA, PAGE, MADV_DONTNEED);
			memcpy(g[i].vm.mem + GPA_DATA, &stamp, 8);
		}
		stamp_check(&g[0], stamp, "meanwhile"); /* one of them runs elsewhere */
		need(!hotplug_set(1), "CPU 1 online");
		cpu_pin(HOTPLUG_CPU);
		for (int i = 0; i < 2; i++)
			stamp_check(&g[i], stamp, "afterwards");
	}
	cpu_pin(-1);
}

int s8_main(void)
{
	static const struct test tests[] = {
		{ "isolation", s8_isolation, 90 },
		{ "many_tags", s8_many_tags, 90 },
		{ "offline", s8_offline, 90 },
	};

	return run_tests("attack.s8", tests, ARRAY_SIZE(tests));
}
