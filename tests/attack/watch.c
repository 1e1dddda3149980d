// SPDX-License-Identifier: GPL-2.0-or-later
/* The witness, and what the watchers compare. */
#include "attack.h"

#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CPUS 4 /* at most so many are watched */
#define PORT_FREE 0x80
#define POOL 8
#define EFER 0xc0000080
#define EFER_SVME (1ULL << 12) /* on while there are VMs, and while a CPU comes online there may be none yet */

static const uint32_t msrs[] = {
	0x1b,						/* APIC_BASE */
	0x3a,						/* FEATURE_CONTROL */
	0x48,						/* SPEC_CTRL */
	0x174,						/* SYSENTER_CS, _ESP, _EIP */
	0x175,	    0x176,	0x1a0,			/* MISC_ENABLE */
	0x1d9,						/* DEBUGCTL */
	0x277,						/* PAT */
	0x2ff,						/* MTRR_DEF_TYPE */
	0x38f,						/* PERF_GLOBAL_CTRL */
	EFER,	    0xc0000081,				/* STAR, LSTAR, CSTAR, FMASK */
	0xc0000082, 0xc0000083, 0xc0000084, 0xc0000103, /* TSC_AUX */
	0xc0010114,					/* VM_CR */
};

/* What does not change on a CPU as long as the machine runs. */
struct host {
	unsigned char gdt[10], idt[10];
	uint16_t tr, ldt, cs, ss;
	uint64_t smsw, xcr0;
	uint32_t ecx1, ecx7; /* CPUID: OSXSAVE, OSPKE */
	uint64_t msr[ARRAY_SIZE(msrs)];
	unsigned int msr_read; /* bit n: msrs[n] can be read */
};

static struct host baseline[CPUS];
static int cpus;

struct shared {
	volatile int stop;
	volatile unsigned int plugged;	    /* how often the hot-plug CPU left or came back; odd: it is away */
	volatile uint64_t rounds[1 + CPUS]; /* the witness's, the watchers' */
};
static struct shared *shared;
static pid_t pid[1 + CPUS];

static void host_read(struct host *h, int cpu)
{
	uint32_t a, b, c, d;
	char path[40];
	int fd;

	memset(h, 0, sizeof(*h));
	asm volatile("sgdt %0" : "=m"(h->gdt));
	asm volatile("sidt %0" : "=m"(h->idt));
	asm volatile("str %0" : "=m"(h->tr));
	asm volatile("sldt %0" : "=m"(h->ldt));
	asm volatile("mov %%cs, %0" : "=m"(h->cs));
	asm volatile("mov %%ss, %0" : "=m"(h->ss));
	asm volatile("smsw %0" : "=r"(h->smsw));
	h->smsw &= ~8ULL; /* TS: the kernel's own business */
	a = 1;
	c = 0;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	h->ecx1 = c;
	a = 7;
	c = 0;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	h->ecx7 = c;
	if (h->ecx1 & 1 << 27) {
		asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
		h->xcr0 = (uint64_t)d << 32 | a;
	}
	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (unsigned int i = 0; fd >= 0 && i < ARRAY_SIZE(msrs); i++) {
		if (pread(fd, &h->msr[i], 8, msrs[i]) != 8)
			continue;
		h->msr_read |= 1u << i;
		if (msrs[i] == EFER)
			h->msr[i] &= ~EFER_SVME;
	}
	if (fd >= 0)
		close(fd);
}

static void host_compare(const struct host *was, const struct host *is, int cpu)
{
	check(!memcmp(was->gdt, is->gdt, 10), "watcher, CPU %d: GDT limit %x, was %x, or its base", cpu,
	      is->gdt[0] | is->gdt[1] << 8, was->gdt[0] | was->gdt[1] << 8);
	/* Its limit is 64 KiB after a VM exit (SDM 3C 28.5.2), which is no less than what 256 vectors need. */
	check(!memcmp(was->idt + 2, is->idt + 2, 8) && is->idt[1] >= 0x0f, "watcher, CPU %d: IDT limit %x, or its base",
	      cpu, is->idt[0] | is->idt[1] << 8);
	check(was->tr == is->tr && was->ldt == is->ldt, "watcher, CPU %d: TR %x LDTR %x", cpu, is->tr, is->ldt);
	check(was->cs == is->cs && was->ss == is->ss, "watcher, CPU %d: CS %x SS %x", cpu, is->cs, is->ss);
	check(was->smsw == is->smsw, "watcher, CPU %d: CR0 %llx, was %llx", cpu, (unsigned long long)is->smsw,
	      (unsigned long long)was->smsw);
	check(was->xcr0 == is->xcr0, "watcher, CPU %d: XCR0 %llx, was %llx", cpu, (unsigned long long)is->xcr0,
	      (unsigned long long)was->xcr0);
	check(was->ecx1 == is->ecx1 && was->ecx7 == is->ecx7, "watcher, CPU %d: CPUID %x %x, was %x %x (CR4)", cpu,
	      is->ecx1, is->ecx7, was->ecx1, was->ecx7);
	for (unsigned int i = 0; i < ARRAY_SIZE(msrs); i++)
		check(!(was->msr_read & is->msr_read & 1u << i) || was->msr[i] == is->msr[i],
		      "watcher, CPU %d: MSR %x is %llx, was %llx", cpu, msrs[i], (unsigned long long)is->msr[i],
		      (unsigned long long)was->msr[i]);
}

static unsigned int plugged(int cpu)
{
	return cpu == HOTPLUG_CPU ? shared->plugged : 0;
}

static void host_check(int cpu, unsigned int since)
{
	struct host now;
	uint32_t aux;

	host_read(&now, cpu);
	if (plugged(cpu) != since)
		return;
	host_compare(&baseline[cpu], &now, cpu);
	if (info()->features & UMBRA_FEAT_RDTSCP) {
		asm volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
		check((int)(aux & 0xfff) == cpu || plugged(cpu) != since, "watcher, CPU %d: TSC_AUX %x", cpu, aux);
	}
}

/* The task's I/O bitmap lies behind the TSS: without its limit an allowed OUT would fault, and end this process. */
static void port_check(void)
{
	outb(0, PORT_FREE);
}

/* Vector and x87 registers stay as they are while others run. */
static void registers_check(int avx, uint64_t seed)
{
	static uint64_t in[64] __attribute__((aligned(64))), out[64] __attribute__((aligned(64)));
	uint32_t mxcsr = 0x1f80 | (seed & 3) << 13, mxcsr_now;
	uint16_t cw = 0x37f, cw_now;

	for (int i = 0; i < 64; i++)
		in[i] = random_next(&seed);
#define EACH(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define LOAD_Y(n) "vmovups " #n "*32(%2), %%ymm" #n "\n"
#define KEEP_Y(n) "vmovups %%ymm" #n ", " #n "*32(%3)\n"
#define LOAD_X(n) "movups " #n "*32(%2), %%xmm" #n "\n"
#define KEEP_X(n) "movups %%xmm" #n ", " #n "*32(%3)\n"
#define XMMS                                                                                                       \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
		"xmm13", "xmm14", "xmm15"
#define WAIT "ldmxcsr %4\nfldcw %5\nmov $20000, %%eax\n1: dec %%eax\njnz 1b\nstmxcsr %0\nfnstcw %1\n"
	if (avx) {
		asm volatile(EACH(LOAD_Y) WAIT EACH(KEEP_Y) "vzeroupper\n"
			     : "=m"(mxcsr_now), "=m"(cw_now)
			     : "r"(in), "r"(out), "m"(mxcsr), "m"(cw)
			     : "eax", "memory", XMMS);
	} else {
		memcpy(out, in, sizeof(out));
		asm volatile(EACH(LOAD_X) WAIT EACH(KEEP_X)
			     : "=m"(mxcsr_now), "=m"(cw_now)
			     : "r"(in), "r"(out), "m"(mxcsr), "m"(cw)
			     : "eax", "memory", XMMS);
	}
	check(!memcmp(in, out, sizeof(in)), "watcher: vector registers changed");
	check(mxcsr == mxcsr_now && cw == cw_now, "watcher: MXCSR %x, was %x; x87 control word %x", mxcsr_now, mxcsr,
	      cw_now);
	mxcsr = 0x1f80;
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
}

/* One for each CPU: a watcher whose CPU goes away writes to its own on another CPU. */
static volatile uint64_t watched[CPUS];

/* Of the CPU, not of a task: those are set anew with each switch to it. */
static int breakpoint_open(int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_W,
		.bp_addr = (uintptr_t)&watched[cpu],
		.bp_len = HW_BREAKPOINT_LEN_8,
		.sample_period = 0,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};

	return (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static void breakpoint_check(int fd, int cpu, unsigned int since)
{
	uint64_t before, after;

	if (fd < 0) {
		check(plugged(cpu) != since, "watcher, CPU %d: no watchpoint: %s", cpu, strerror(errno));
		return;
	}
	need(read(fd, &before, 8) == 8, "watcher: watchpoint");
	for (int i = 0; i < 3; i++)
		watched[cpu]++;
	need(read(fd, &after, 8) == 8, "watcher: watchpoint");
	check(after == before + 3 || plugged(cpu) != since,
	      "watcher, CPU %d: the watchpoint fired %llu times for 3 writes", cpu,
	      (unsigned long long)(after - before));
}

/* Pages of this process: zero when they are new, and nobody else writes to them. */
static void pages_check(uint64_t *pool[POOL], uint64_t round)
{
	uint64_t **at = &pool[round % POOL], mark = round << 8 | 0xa5;

	if (*at) {
		mark -= (uint64_t)POOL << 8;
		for (size_t i = 0; i < 4 * PAGE / 8; i += 16)
			check((*at)[i] == mark, "watcher: its page changed: %llx, was %llx",
			      (unsigned long long)(*at)[i], (unsigned long long)mark);
		munmap(*at, 4 * PAGE);
		mark += (uint64_t)POOL << 8;
	}
	*at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(*at != MAP_FAILED, "watcher: mmap");
	for (size_t i = 0; i < 4 * PAGE / 8; i += 16) {
		check(!(*at)[i], "watcher: a new page is not zero: %llx", (unsigned long long)(*at)[i]);
		(*at)[i] = mark;
	}
}

static void watcher(int cpu)
{
	uint64_t *pool[POOL] = { NULL };
	int fd = -1, avx = (baseline[cpu].xcr0 & 4) != 0;
	unsigned int since = 0;

	cpu_pin(cpu);
	need(!ioperm(PORT_FREE, 1, 1), "watcher: ioperm: %s", strerror(errno));
	for (uint64_t round = 1; !shared->stop; round++) {
		if (plugged(cpu) != since) { /* with the CPU go its breakpoint and the thread's ties to it */
			since = plugged(cpu);
			if (fd >= 0)
				close(fd);
			fd = -1;
			if (!(since & 1))
				cpu_pin(cpu);
		}
		if (!(since & 1)) {
			host_check(cpu, since);
			fd = fd < 0 ? breakpoint_open(cpu) : fd;
			breakpoint_check(fd, cpu, since);
		}
		port_check();
		registers_check(avx, round * 977 + (uint64_t)cpu);
		pages_check(pool, round);
		shared->rounds[1 + cpu]++;
		usleep(10000);
	}
	_exit(0);
}

static uint64_t checksum(const uint64_t *words, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		sum ^= words[i];
		sum *= 0x9e3779b97f4a7c15;
		sum = sum << 23 | sum >> 41;
	}
	return sum;
}

static void witness(void)
{
	uint64_t seed = 4711, *data;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(checksum));
	data = (uint64_t *)(g.vm.mem + GPA_DATA);
	while (!shared->stop) {
		for (size_t i = 0; i < 512; i++)
			data[i] = random_next(&seed);
		vcpu_state(g.vcpu.run, MODE_LONG64, GPA_CODE);
		g.vcpu.run->gpr[UMBRA_RSI] = GPA_DATA;
		g.vcpu.run->gpr[UMBRA_RCX] = 512;
		vcpu_exit(&g.vcpu);
		need(g.vcpu.exit.reason == VMEXIT_IO && g.vcpu.exit.io.port == PORT_DONE, "witness: %s",
		     vcpu_describe(&g.vcpu));
		need(g.vcpu.run->gpr[UMBRA_RAX] == checksum(data, 512), "witness: its sum is wrong");
		shared->rounds[0]++;
		usleep(2000);
	}
	_exit(0);
}

void watch_init(void)
{
	cpus = cpu_count_online() < CPUS ? cpu_count_online() : CPUS;
	for (int cpu = 0; cpu < cpus; cpu++) {
		cpu_pin(cpu);
		host_read(&baseline[cpu], cpu);
	}
	cpu_pin(-1);
	note("watch: %d CPUs, MSRs %x, XCR0 %llx, GDT limit %x%s", cpus, baseline[0].msr_read,
	     (unsigned long long)baseline[0].xcr0, baseline[0].gdt[0] | baseline[0].gdt[1] << 8,
	     baseline[0].gdt[9] == 0xff && baseline[0].gdt[8] == 0xff && !baseline[0].gdt[0]
		     ? " (UMIP: this is the kernel's invention)"
		     : "");
	info();
}

int hotplug_set(int online)
{
	int r;

	if (!online)
		shared->plugged++;
	r = file_write(HOTPLUG_PATH, online ? "1" : "0");
	if (online)
		shared->plugged++;
	return r;
}

static void rounds_wait(const char *what)
{
	uint64_t before[1 + CPUS], end = time_ms() + 10000;

	memcpy(before, (void *)shared->rounds, sizeof(before));
	for (int i = 0; i < 1 + cpus; i++)
		while (shared->rounds[i] == before[i] && time_ms() < end)
			usleep(200);
	for (int i = 0; i < 1 + cpus; i++)
		check(shared->rounds[i] != before[i], "%s stands still %s", i ? "a watcher" : "the witness", what);
}

void watch_begin(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(shared != MAP_FAILED, "mmap");
	need(baseline[0].msr_read, "no /dev/cpu/0/msr (module msr): nobody watches the host");
	for (int i = 0; i < 1 + cpus; i++) {
		pid[i] = child_new();
		if (pid[i])
			continue;
		if (i)
			watcher(i - 1);
		witness();
	}
	rounds_wait("before the attack");
}

void watch_end(void)
{
	int status;

	rounds_wait("after the attack");
	shared->stop = 1;
	for (int i = 0; i < 1 + cpus; i++) {
		status = child_wait(pid[i], 10000);
		check(!status, "the %s ended with %x", i ? "watcher" : "witness", status);
		if (status < 0)
			kill(pid[i], SIGKILL);
	}
}
