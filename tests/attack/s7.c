// SPDX-License-Identifier: GPL-2.0-or-later
/* S7: attributes of the second level: write protection, dirty log, no executable huge page where that is a CPU bug. */
#include "attack.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOT 3

struct writer {
	pthread_t thread;
	struct guest guest;
	volatile uint64_t *page;
	volatile int stop;
	volatile uint64_t refused;
};

static void *writer_thread(void *arg)
{
	struct writer *w = arg;
	struct vcpu *v = &w->guest.vcpu;

	while (!w->stop) {
		need(!vcpu_run(v), "RUN");
		if (v->exit.reason == VMEXIT_MEM && !(v->exit.mem.access & UMBRA_MEM_FAULT))
			w->refused++;
		else
			need(v->exit.reason == VMEXIT_INTERRUPTED, "%s", vcpu_describe(v));
	}
	return NULL;
}

static void region(struct writer *w, uint64_t flags, size_t size)
{
	int error = vm_region(&w->guest.vm, SLOT, flags, GPA_HOLE, (void *)w->page, size);

	need(!error, "SET_REGION: %s", strerror(-error));
}

static void writer_start(struct writer *w, size_t size)
{
	memset(w, 0, sizeof(*w));
	guest_new(&w->guest, MODE_LONG64, SNIPPET(spin_stamp));
	w->page = memory_new(size, 2 << 20);
	region(w, 0, size);
	w->guest.vcpu.run->gpr[UMBRA_RDI] = GPA_HOLE;
	need(!pthread_create(&w->thread, NULL, writer_thread, w), "thread");
}

static void writer_end(struct writer *w)
{
	w->stop = 1;
	for (int i = 0; i < 5000; i++) {
		vcpu_kick(&w->guest.vcpu);
		if (!pthread_tryjoin_np(w->thread, NULL))
			return;
		usleep(1000);
	}
	fail("the vCPU does not end");
}

static void writes_on(struct writer *w, const char *what)
{
	uint64_t was = w->page[0], end = time_ms() + 20000;

	while (w->page[0] == was && time_ms() < end)
		usleep(50);
	need(w->page[0] != was, "%s: the guest does not write any more", what);
}

static void spin(void)
{
	for (int i = 0; i < 400; i++)
		__builtin_ia32_pause();
	usleep(100);
}

/* A slot becomes read-only under a guest that writes: from the call's return on nothing changes. */
static void readonly_rounds(size_t size)
{
	struct writer w;

	writer_start(&w, size);
	for (uint64_t i = 0; i < scaled(250); i++) {
		uint64_t was;

		writes_on(&w, "writable");
		region(&w, UMBRA_REGION_READONLY | (i & 1 ? UMBRA_REGION_LOG_DIRTY : 0), size);
		was = w.page[0];
		spin();
		check(w.page[0] == was, "the guest wrote to a read-only slot");
		region(&w, 0, size);
	}
	writer_end(&w);
	note("%llu writes refused", (unsigned long long)w.refused);
	check(w.refused > 0, "no write was refused");
}

ATTACK(s7_readonly_toggle)
{
	readonly_rounds(PAGE);
	readonly_rounds(2 << 20);
}

/* The log goes on and off, and is fetched, under a guest that writes: no write between two looks is missing. */
ATTACK(s7_dirty_toggle)
{
	uint64_t bitmap[8], set = 0;
	struct writer w;

	writer_start(&w, 2 << 20);
	for (uint64_t i = 0; i < scaled(250); i++) {
		writes_on(&w, "not logged");
		region(&w, UMBRA_REGION_LOG_DIRTY, 2 << 20);
		for (int look = 0; look < 4; look++) {
			uint64_t was = w.page[0], is;

			spin();
			is = w.page[0];
			need(!vm_dirty(&w.guest.vm, SLOT, 0, 512, bitmap), "GET_DIRTY");
			if (is != was)
				check(bitmap[0] & 1, "page 0 was written and is not in the log");
			for (int n = 1; n < 8; n++)
				check(!bitmap[n], "pages that nobody wrote are in the log");
			set += bitmap[0] & 1;
		}
		region(&w, 0, 2 << 20);
	}
	writer_end(&w);
	check(set > 10, "only %llu bits", (unsigned long long)set);
}

/* As the kernel reads its command line. */
static int mitigations_off(void)
{
	char word[100];
	int off = 0;
	FILE *line = fopen("/proc/cmdline", "r");

	while (line && fscanf(line, "%99s", word) == 1)
		if (!strncmp(word, "mitigations=", 12)) /* the last one counts */
			off = !strcmp(word + 12, "off");
	if (line)
		fclose(line);
	return off;
}

/* CVE-2018-12207: on a CPU that an executable huge page can bring down there are none, whatever memory a guest executes. */
ATTACK(s7_itlb_multihit)
{
	const size_t huge = 2 << 20, size = 4 * huge;
	int fd = open("/sys/devices/system/cpu/vulnerabilities/itlb_multihit", O_RDONLY | O_CLOEXEC);
	char text[100] = "";
	unsigned char *mem;
	struct guest g;
	long before;

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	text[strcspn(text, "\n")] = 0;
	note("%s, mitigations %s", text, mitigations_off() ? "off" : "on");
	if (!text[0] || strstr(text, "Not affected") || mitigations_off())
		skip_test("the CPU is not affected, or mitigations are off");
	file_write("/proc/sys/vm/nr_hugepages", "4");
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	need(mem != MAP_FAILED, "no hugetlb pages: %s", strerror(errno));
	guest_new(&g, MODE_LONG64, SNIPPET(nop_loop));
	need(!vm_region(&g.vm, SLOT, 0, GPA_HOLE, mem, size), "SET_REGION");
	for (size_t at = 0; at < size; at += huge)
		memcpy(mem + at, "\xe6\xdd", 2); /* out %al, $0xdd */
	run_bounded(&g.vcpu, 5);
	before = counter_read("pages");
	for (size_t at = 0; at < size; at += huge) {
		vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(nop_loop));
		g.vcpu.run->rip = GPA_HOLE + at;
		run_bounded(&g.vcpu, LONG);
		need(g.vcpu.exit.reason == VMEXIT_IO && g.vcpu.exit.io.port == 0xdd, "%s", vcpu_describe(&g.vcpu));
	}
	before = counter_read("pages") - before;
	note("%zu huge pages executed, %ld small ones mapped for it", size / huge, before);
	check(before >= (long)(size / huge) && before < (long)(huge / PAGE), "executable huge pages");
	check(!(info()->features & UMBRA_FEAT_HUGE_2M), "the module says that it maps huge pages");
	munmap(mem, size);
	file_write("/proc/sys/vm/nr_hugepages", "0");
}

int s7_main(void)
{
	static const struct test tests[] = {
		{ "readonly_toggle", s7_readonly_toggle, 90 },
		{ "dirty_toggle", s7_dirty_toggle, 90 },
		{ "itlb_multihit", s7_itlb_multihit,
		  40 }, /* only by name: it needs a machine with mitigations, see vmx-cve */
	};

	return run_tests("attack.s7", tests, ARRAY_SIZE(tests) - (test_only || test_list ? 0 : 1));
}
