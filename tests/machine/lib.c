// SPDX-License-Identifier: GPL-2.0-or-later
#include "lib.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

unsigned int test_scale = 100;
const char *module_path;
const char *test_only;
int test_list;

/* Shared between a test's process (and its children) and the one that reports. */
static struct result {
	int failed, skipped;
	char reason[400];
} * result;

static void reason_set(const char *format, va_list args)
{
	char text[sizeof(result->reason)];

	vsnprintf(text, sizeof(text), format, args);
	if (!result) /* before the first test: there is none to blame */
		fprintf(stderr, "%s\n", text);
	else if (!result->failed && !result->skipped)
		memcpy(result->reason, text, sizeof(text));
	else
		printf("# also: %s\n", text);
	fflush(stdout);
}

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!result || result->failed < 20)
		reason_set(format, args);
	va_end(args);
	if (result)
		result->failed++;
}

void die(void)
{
	_exit(1);
}

void skip_test(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	reason_set(format, args);
	va_end(args);
	result->skipped = 1;
	_exit(0);
}

void note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
}

uint64_t scaled(uint64_t n)
{
	n = n * test_scale / 100;
	return n ? n : 1;
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

uint64_t tsc_read(void)
{
	return __builtin_ia32_rdtsc();
}

uint64_t time_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done;

	if (fd < 0)
		return -errno;
	done = write(fd, text, strlen(text));
	if (done < 0)
		done = -errno;
	close(fd);
	return done < 0 ? (int)done : 0;
}

void cpu_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (cpu >= 0)
		CPU_SET((size_t)cpu, &set);
	else
		for (size_t i = 0; i < 64; i++)
			CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		note("cannot pin to CPU %d: %s", cpu, strerror(errno));
}

int cpu_count_online(void)
{
	return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* ---- what must be clean after each test ---- */

long counter_read(const char *name)
{
	char path[96], text[32];
	ssize_t size;
	int fd;

	snprintf(path, sizeof(path), "/sys/module/umbra/parameters/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (size <= 0)
		return -1;
	text[size] = 0;
	return strtol(text, NULL, 10);
}

int counters_zero_wait(void)
{
	uint64_t end = time_ms() + 5000;

	do {
		if (!counter_read("vms") && !counter_read("vcpus") && !counter_read("pages"))
			return 0;
		usleep(10000);
	} while (time_ms() < end);
	return -1;
}

/* Lines of the kernel's log that must not be there. */
static const char *const complaints[] = {
	"WARNING:",
	"BUG:",
	"BUG ",
	"Oops",
	"general protection",
	"unchecked MSR",
	"Bad FPU state",
	"Call Trace",
	"soft lockup",
	"hard LOCKUP",
	"blocked for more than",
	"rcu_sched self-detected",
	"rcu_preempt self-detected",
	"detected stalls",
	"bad page",
	"Bad page",
	"scheduling while atomic",
	"unexpected VM",
};

static int log_complaints(char *last, size_t size)
{
	static char text[1 << 20];
	int length = klogctl(3, text, sizeof(text) - 1), count = 0;
	char *line, *save = NULL;

	if (length < 0)
		return 0;
	text[length] = 0;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		for (size_t i = 0; i < ARRAY_SIZE(complaints); i++) {
			if (strstr(line, complaints[i])) {
				snprintf(last, size, "%.200s", line);
				count++;
				break;
			}
		}
	}
	return count;
}

/* ---- running ---- */

/* A process that not even its alarm ends hangs in the kernel: have that say where. */
static int test_hangs(pid_t pid)
{
	file_write("/proc/sys/kernel/sysrq", "1");
	file_write("/proc/sysrq-trigger", "w");
	file_write("/proc/sysrq-trigger", "l");
	kill(pid, SIGKILL);
	sleep(5);
	return waitpid(pid, NULL, WNOHANG) != pid;
}

static void test_wait(pid_t pid, const struct test *test)
{
	unsigned int seconds = test->seconds ? test->seconds : 60;
	uint64_t end = time_ms() + 1000 * (seconds + 10ULL);
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (time_ms() > end) {
			fail("hangs in the kernel%s; see the kernel's log", test_hangs(pid) ? ", for good" : "");
			return;
		}
		usleep(2000);
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		fail("no end within %u s", seconds);
	else if (WIFSIGNALED(status))
		fail("killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) && !result->failed)
		fail("exit status %d", WEXITSTATUS(status));
}

/* "attack.s1.x", but "smoke/x" */
static const char *separator(const char *program)
{
	return strchr(program, '.') ? "." : "/";
}

static int test_run(const char *program, const struct test *test)
{
	static int complaints_before = -1;
	uint64_t start = time_ms();
	char line[256] = "";
	int complained;
	pid_t pid;

	if (complaints_before < 0)
		complaints_before = log_complaints(line, sizeof(line));
	memset(result, 0, sizeof(*result));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(test->seconds ? test->seconds : 60);
		test->run();
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0)
		fail("fork: %s", strerror(errno));
	else
		test_wait(pid, test);
	if (access("/sys/module/umbra", F_OK) == 0 && counters_zero_wait())
		fail("left behind: %ld VMs, %ld vCPUs, %ld pages", counter_read("vms"), counter_read("vcpus"),
		     counter_read("pages"));
	complained = log_complaints(line, sizeof(line));
	if (complained > complaints_before)
		fail("kernel log: %s", line);
	complaints_before = complained;

	if (result->failed)
		printf("not ok %s%s%s: %s\n", program, separator(program), test->name, result->reason);
	else if (result->skipped)
		printf("skip %s%s%s: %s\n", program, separator(program), test->name, result->reason);
	else
		printf("ok %s%s%s (%llu ms)\n", program, separator(program), test->name,
		       (unsigned long long)(time_ms() - start));
	fflush(stdout);
	return result->failed ? 1 : 0;
}

int run_tests(const char *program, const struct test *tests, size_t count)
{
	int failed = 0, found = 0;

	if (test_list) {
		for (size_t i = 0; i < count; i++)
			printf("%s%s%s\n", program, separator(program), tests[i].name);
		return 0;
	}
	if (!result) {
		result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (result == MAP_FAILED) {
			printf("not ok %s: no shared page\n", program);
			return 1;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (test_only && strcmp(test_only, tests[i].name))
			continue;
		failed += test_run(program, &tests[i]);
		found = 1;
	}
	if (!found)
		printf("not ok %s%s%s: no such test\n", program, separator(program), test_only);
	return failed || !found;
}

/* ---- machine ---- */

int is_svm(void)
{
	return info()->hw == UMBRA_HW_SVM;
}

int dev_open(void)
{
	int fd = -1;

	for (int i = 0; i < 100; i++) { /* after a load the node may take a moment */
		fd = open("/dev/umbra", O_RDWR | O_CLOEXEC);
		if (fd >= 0 || errno != ENOENT)
			break;
		usleep(10000);
	}
	need(fd >= 0, "open /dev/umbra: %s", strerror(errno));
	return fd;
}

const struct umbra_info *info(void)
{
	static struct umbra_info cached;
	int fd;

	if (cached.abi_version)
		return &cached;
	fd = dev_open();
	need(ioctl(fd, UMBRA_INFO, &cached) == 0, "UMBRA_INFO: %s", strerror(errno));
	need(cached.abi_version == UMBRA_ABI_VERSION, "ABI version %u", cached.abi_version);
	close(fd);
	return &cached;
}

void *memory_new(size_t size, size_t align)
{
	uintptr_t start, want;
	unsigned char *mem;

	mem = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	need(mem != MAP_FAILED, "mmap of %zu bytes: %s", size + align, strerror(errno));
	start = (uintptr_t)mem;
	want = (start + align - 1) & ~(uintptr_t)(align - 1);
	if (want != start)
		munmap(mem, want - start);
	if (want + size != start + size + align)
		munmap((void *)(want + size), start + align - want);
	return (void *)want;
}

int vm_region(struct vm *vm, uint32_t slot, uint64_t flags, uint64_t gpa, const void *addr, uint64_t size)
{
	struct umbra_region region = {
		.slot = slot, .flags = flags, .gpa = gpa, .addr = (uintptr_t)addr, .size = size
	};

	int ret;

	do /* EINTR: the thread got a signal while the kernel took all locks of the address space */
		ret = ioctl(vm->fd, UMBRA_VM_SET_REGION, &region) ? -errno : 0;
	while (ret == -EINTR);
	return ret;
}

int vm_dirty(struct vm *vm, uint32_t slot, uint64_t first, uint64_t pages, void *bitmap)
{
	struct umbra_dirty dirty = { .slot = slot, .first_page = first, .pages = pages, .bitmap = (uintptr_t)bitmap };

	return ioctl(vm->fd, UMBRA_VM_GET_DIRTY, &dirty) ? -errno : 0;
}

static void put64(struct vm *vm, uint64_t gpa, uint64_t value)
{
	memcpy(vm->mem + gpa, &value, sizeof(value));
}

static void tables_write(struct vm *vm)
{
	static const unsigned char handler[] = { 0xe6, PORT_VECTORED, 0x48, 0xcf }; /* out %al,$n; iretq */
	static const uint64_t gdt[] = {
		0,
		0x00af9b000000ffff,
		0x00cf93000000ffff,
		0x00cf9b000000ffff,
		0x00008b0000000067ULL | (uint64_t)GPA_TSS << 16,
		0,
		0x00affb000000ffff,
		0x00cff3000000ffff,
	};
	uint64_t i;

	memcpy(vm->mem + GPA_GDT, gdt, sizeof(gdt));
	memcpy(vm->mem + GPA_HANDLER, handler, sizeof(handler));
	for (i = 0; i < 256; i++) {
		uint64_t stub = GPA_STUBS + 16 * i;
		int32_t vector = (int32_t)i, jump = (int32_t)(GPA_HANDLER - (stub + 10));

		put64(vm, GPA_IDT + 16 * i, (stub & 0xffff) | (uint64_t)SEL_CODE64 << 16 | 0x8eULL << 40);
		put64(vm, GPA_IDT + 16 * i + 8, 0);
		vm->mem[stub] = 0x68; /* push imm32 */
		memcpy(vm->mem + stub + 1, &vector, 4);
		vm->mem[stub + 5] = 0xe9; /* jmp rel32 */
		memcpy(vm->mem + stub + 6, &jump, 4);
	}
	memset(vm->mem + GPA_TSS, 0, 0x68);
	put64(vm, GPA_TSS + 4, GPA_STACK - 0x8000); /* RSP0 */
	vm->mem[GPA_TSS + 0x66] = 0x68;		    /* no I/O bitmap */
	memset(vm->mem + GPA_ROOT, 0, 0x4000);
	put64(vm, GPA_ROOT, GPA_PDPT | 7);
	put64(vm, GPA_PDPT, GPA_PD | 7);
	put64(vm, GPA_PDPT + 8, GPA_PD | 7);
	for (i = 0; i < 512; i++) {
		put64(vm, GPA_PD + 8 * i, i << 21 | 0x87);
		put64(vm, GPA_PT + 8 * i, i << 12 | 7);
	}
}

static void tables_write_32(struct vm *vm, enum guest_mode mode)
{
	for (uint32_t i = 0; i < 1024; i++) {
		uint32_t pde = i << 22 | 0x87;

		if (mode == MODE_PAGING32)
			memcpy(vm->mem + GPA_ROOT + 4 * i, &pde, 4);
	}
	if (mode == MODE_PAE) {
		memset(vm->mem + GPA_ROOT, 0, 4096);
		put64(vm, GPA_ROOT, GPA_PD | 1);
		put64(vm, GPA_ROOT + 8, GPA_PD | 1);
	}
}

void vm_create(struct vm *vm, size_t size)
{
	struct umbra_create_vm arg = { 0 };
	int error;

	memset(vm, 0, sizeof(*vm));
	vm->dev = dev_open();
	vm->fd = ioctl(vm->dev, UMBRA_CREATE_VM, &arg);
	need(vm->fd >= 0, "UMBRA_CREATE_VM: %s", strerror(errno));
	vm->size = size;
	vm->mem = memory_new(size, 2 << 20);
	tables_write(vm);
	error = vm_region(vm, 0, 0, 0, vm->mem, size);
	need(!error, "UMBRA_VM_SET_REGION: %s", strerror(-error));
}

void vm_destroy(struct vm *vm)
{
	close(vm->fd);
	close(vm->dev);
	munmap(vm->mem, vm->size);
}

int vcpu_create_fd(struct vm *vm)
{
	struct umbra_create_vcpu arg = { 0 };
	int fd = ioctl(vm->fd, UMBRA_VM_CREATE_VCPU, &arg);

	return fd < 0 ? -errno : fd;
}

void vcpu_create(struct vcpu *vcpu, struct vm *vm)
{
	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->vm = vm;
	vcpu->fd = vcpu_create_fd(vm);
	need(vcpu->fd >= 0, "UMBRA_VM_CREATE_VCPU: %s", strerror(-vcpu->fd));
	vcpu->run = mmap(NULL, info()->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	need(vcpu->run != MAP_FAILED, "mmap of the run area: %s", strerror(errno));
	vcpu->read = is_svm() ? exit_read_svm : exit_read_vmx;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	munmap(vcpu->run, info()->run_size);
	close(vcpu->fd);
}

/* ---- state ---- */

static struct umbra_segment segment(uint16_t selector, uint16_t attr, uint32_t limit, uint64_t base)
{
	return (struct umbra_segment) { .selector = selector, .attr = attr, .limit = limit, .base = base };
}

static void state_segments(struct umbra_run *run, enum guest_mode mode)
{
	struct umbra_segment data = segment(SEL_DATA, 0xc093, 0xffffffff, 0);
	struct umbra_segment code = segment(SEL_CODE64, 0xa09b, 0xffffffff, 0);

	if (mode == MODE_REAL) {
		data = segment(0, 0x0093, 0xffff, 0);
		code = segment(GPA_CODE >> 4, 0x009b, 0xffff, GPA_CODE);
	} else if (mode == MODE_USER64) {
		data = segment(SEL_USER_DATA, 0xc0f3, 0xffffffff, 0);
		code = segment(SEL_USER_CODE64, 0xa0fb, 0xffffffff, 0);
	} else if (mode != MODE_LONG64) {
		code = segment(SEL_CODE32, 0xc09b, 0xffffffff, 0);
	}
	for (int i = UMBRA_ES; i <= UMBRA_GS; i++)
		run->seg[i] = i == UMBRA_CS ? code : data;
	run->seg[UMBRA_LDTR] = segment(0, 0, 0, 0);
	run->seg[UMBRA_TR] = segment(SEL_TSS, 0x008b, 0x67, GPA_TSS);
	run->gdtr = (struct umbra_dtable) { .base = GPA_GDT, .limit = 8 * 8 - 1 };
	run->idtr = (struct umbra_dtable) { .base = mode == MODE_REAL ? 0 : GPA_IDT,
					    .limit = mode == MODE_REAL ? 0x3ff : 0xfff };
}

void vcpu_state(struct umbra_run *run, enum guest_mode mode, uint64_t rip)
{
	static const uint64_t cr0[] = {
		[MODE_LONG64] = 0x80050033, [MODE_USER64] = 0x80050033,	  [MODE_REAL] = 0x10,
		[MODE_PROT32] = 0x33,	    [MODE_PAGING32] = 0x80050033, [MODE_PAE] = 0x80050033,
	};
	static const uint64_t cr4[] = {
		[MODE_LONG64] = 0x620, [MODE_USER64] = 0x620,	[MODE_REAL] = 0,
		[MODE_PROT32] = 0x600, [MODE_PAGING32] = 0x610, [MODE_PAE] = 0x620,
	};

	memset(run, 0, offsetof(struct umbra_run, exit));
	state_segments(run, mode);
	run->gpr[UMBRA_RSP] = mode == MODE_REAL ? 0x7000 : GPA_STACK;
	run->rip = rip;
	run->rflags = 0x202; /* IF set: the host's interrupts end a guest's spin on every emulator */
	run->cr0 = cr0[mode];
	run->cr3 = GPA_ROOT;
	run->cr4 = cr4[mode];
	run->efer = mode == MODE_LONG64 || mode == MODE_USER64 ? 0xd01 & info()->guest_efer : 0;
	run->xcr0 = info()->guest_xcr0 ? 1 : 0;
	if (mode == MODE_PAE) {
		run->pdpte[0] = GPA_PD | 1;
		run->pdpte[1] = GPA_PD | 1;
	}
	run->dr7 = 0x400;
	run->msr.pat = 0x0007040600070406;
	run->dirty = UMBRA_STATE_ALL;
	run->want = UMBRA_STATE_RIP;
}

uint64_t guest_code(struct vm *vm, uint64_t gpa, struct snippet code)
{
	memcpy(vm->mem + gpa, code.start, (size_t)(code.end - code.start));
	return gpa;
}

void vcpu_load(struct vcpu *vcpu, enum guest_mode mode, struct snippet code)
{
	tables_write(vcpu->vm);
	if (mode == MODE_PAGING32 || mode == MODE_PAE)
		tables_write_32(vcpu->vm, mode);
	guest_code(vcpu->vm, GPA_CODE, code);
	vcpu_state(vcpu->run, mode, mode == MODE_REAL ? 0 : GPA_CODE);
}

void guest_new(struct guest *guest, enum guest_mode mode, struct snippet code)
{
	vm_create(&guest->vm, GUEST_MEM);
	vcpu_create(&guest->vcpu, &guest->vm);
	vcpu_load(&guest->vcpu, mode, code);
}

/* ---- running ---- */

/* SVM names no operands: from the guest's memory, where all of these guests' code lies at its linear address. */
static const unsigned char *insn_at(struct vcpu *vcpu)
{
	const struct umbra_run *run = vcpu->run;

	return vcpu->vm->mem + ((run->rip + (run->cr0 & 1 ? 0 : GPA_CODE)) & (GUEST_MEM - 1));
}

static void operands_read(struct vcpu *vcpu)
{
	struct vmexit *e = &vcpu->exit;
	const unsigned char *code = insn_at(vcpu);
	unsigned char rex = 0, gpr;

	if ((e->reason != VMEXIT_CR || e->cr.gpr != VMEXIT_GPR_UNKNOWN) &&
	    (e->reason != VMEXIT_DR || e->dr.gpr != VMEXIT_GPR_UNKNOWN))
		return;
	if ((*code & 0xf0) == 0x40)
		rex = *code++;
	gpr = (code[2] & 7) | (rex & 1 ? 8 : 0);
	if (e->reason == VMEXIT_DR) {
		e->dr.gpr = gpr;
		return;
	}
	e->cr.gpr = gpr;
	if (e->cr.op != VMEXIT_CR_UNKNOWN)
		return;
	if (code[1] == 0x22) {
		e->cr.op = VMEXIT_CR_MOV_TO;
	} else if (code[1] == 0x06) {
		e->cr.op = VMEXIT_CR_CLTS;
	} else if (code[1] == 0x01) {
		e->cr.op = VMEXIT_CR_LMSW;
		e->cr.lmsw = (uint16_t)vcpu->run->gpr[gpr];
	}
}

/* Other threads of some tests write to the run area: what is decoded is a copy. */
void vcpu_decode(struct vcpu *vcpu)
{
	struct umbra_run copy;

	copy.rip = vcpu->run->rip;
	copy.exit = *(volatile struct umbra_exit *)&vcpu->run->exit;
	vcpu->read(&copy, &vcpu->exit);
	operands_read(vcpu);
}

int vcpu_run(struct vcpu *vcpu)
{
	if (lseek(vcpu->fd, 0, SEEK_SET) < 0)
		return -errno;
	vcpu_decode(vcpu);
	return 0;
}

int vcpu_kick(struct vcpu *vcpu)
{
	return ioctl(vcpu->fd, UMBRA_VCPU_KICK, 0) ? -errno : 0;
}

uint32_t vcpu_exit(struct vcpu *vcpu)
{
	int error;

	for (;;) {
		error = vcpu_run(vcpu);
		need(!error, "RUN: %s", strerror(-error));
		if (vcpu->exit.reason != VMEXIT_INTERRUPTED)
			return vcpu->exit.reason;
		if (vcpu->run->exit.event.flags & UMBRA_EVENT_VALID) /* not delivered yet */
			vcpu->run->inject = vcpu->run->exit.event;
	}
}

/* Lengths of the few instructions that exit in these tests, for hardware that does not tell. */
unsigned int insn_length(struct vcpu *vcpu)
{
	const unsigned char *code = insn_at(vcpu);
	unsigned int n = 0;

	while (code[n] == 0x66 || code[n] == 0x67 || code[n] == 0xf2 || code[n] == 0xf3 || code[n] == 0x64 ||
	       (code[n] & 0xf0) == 0x40)
		n++;
	switch (code[n]) {
	case 0xe4 ... 0xe7: /* IN, OUT imm8 */
	case 0xcd:
		return n + 2;
	case 0x0f:
		break;
	default:
		return n + 1;
	}
	switch (code[n + 1]) {
	case 0x20 ... 0x23: /* MOV CR, DR */
	case 0x01:	    /* LMSW, XSETBV, MONITOR, VMCALL, ... with a register form */
		return n + 3;
	default:
		return n + 2;
	}
}

void vcpu_skip(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	unsigned int length = vcpu->exit.insn_len;

	if (!length) {
		check(info()->hw != UMBRA_HW_VMX, "no insn_len: %s", vcpu_describe(vcpu));
		length = insn_length(vcpu);
	}
	run->rip += length;
	run->dirty |= UMBRA_STATE_RIP;
	if (run->intr_shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS)) {
		run->intr_shadow &= ~(uint32_t)(UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS);
		run->dirty |= UMBRA_STATE_INTR;
	}
}

void vcpu_expect(struct vcpu *vcpu, uint32_t reason, const char *what)
{
	uint32_t got = vcpu_exit(vcpu);

	need(got == reason, "%s: want exit %s, got %s", what, exit_name(reason), vcpu_describe(vcpu));
}

void vcpu_expect_io(struct vcpu *vcpu, uint16_t port, const char *what)
{
	vcpu_expect(vcpu, VMEXIT_IO, what);
	need(vcpu->exit.io.port == port, "%s: want port %x, got %s", what, port, vcpu_describe(vcpu));
}

void vcpu_expect_vector(struct vcpu *vcpu, unsigned int vector, struct frame *frame, const char *what)
{
	static const uint32_t with_code =
		1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17 | 1u << 21;
	uint64_t rsp;

	vcpu_expect_io(vcpu, PORT_VECTORED, what);
	rsp = vcpu->run->gpr[UMBRA_RSP];
	need(rsp <= vcpu->vm->size - 64, "%s: RSP %llx", what, (unsigned long long)rsp);
	memset(frame, 0, sizeof(*frame));
	memcpy(&frame->vector, vcpu->vm->mem + rsp, 8);
	rsp += 8;
	if (frame->vector < 32 && with_code & 1u << frame->vector) {
		memcpy(&frame->error_code, vcpu->vm->mem + rsp, 8);
		rsp += 8;
	}
	memcpy(&frame->rip, vcpu->vm->mem + rsp, 40);
	need(frame->vector == vector, "%s: want vector %u, got %llu from RIP %llx", what, vector,
	     (unsigned long long)frame->vector, (unsigned long long)frame->rip);
	vcpu->run->gpr[UMBRA_RSP] = rsp;
}

void vcpu_iret(struct vcpu *vcpu)
{
	vcpu_skip(vcpu);
}

const char *exit_name(uint32_t reason)
{
	static const char *const names[VMEXIT_REASONS] = {
		"NONE",	     "INTERRUPTED", "DEADLINE",	   "IO",       "MEM",	    "CPUID",
		"RDMSR",     "WRMSR",	    "HLT",	   "CR",       "DR",	    "XSETBV",
		"EXCEPTION", "INTR_WINDOW", "NMI_WINDOW",  "SHUTDOWN", "PAUSE",	    "INVD",
		"WBINVD",    "INVLPG",	    "RDPMC",	   "RDTSC",    "MONITOR",   "MWAIT",
		"HYPERCALL", "UNDEFINED",   "TASK_SWITCH", "TPR",      "BAD_STATE", "UNKNOWN",
	};

	return reason < VMEXIT_REASONS ? names[reason] : "?";
}

const char *vcpu_describe(struct vcpu *vcpu)
{
	static __thread char text[200];
	const struct vmexit *e = &vcpu->exit;
	unsigned long long rip = vcpu->run->rip;
	int n = snprintf(text, sizeof(text), "%s at %llx len %u", exit_name(e->reason), rip, e->insn_len);
	char *more = text + n;
	size_t room = sizeof(text) - (size_t)n;

	switch (e->reason) {
	case VMEXIT_IO:
		snprintf(more, room, " port %x size %u flags %x", e->io.port, e->io.size, e->io.flags);
		break;
	case VMEXIT_MEM:
		snprintf(more, room, " gpa %llx gva %llx access %x error %d", (unsigned long long)e->mem.gpa,
			 (unsigned long long)e->mem.gva, e->mem.access, e->mem.error);
		break;
	case VMEXIT_EXCEPTION:
		snprintf(more, room, " vector %u code %x payload %llx", e->exc.vector, e->exc.error_code,
			 (unsigned long long)e->exc.payload);
		break;
	case VMEXIT_BAD_STATE:
	case VMEXIT_UNKNOWN:
		snprintf(more, room, " rule %u hw %u info %llx", e->bad.rule, e->bad.hw_reason,
			 (unsigned long long)e->bad.hw_info);
		break;
	case VMEXIT_CR:
		snprintf(more, room, " cr%u op %u gpr %u", e->cr.cr, e->cr.op, e->cr.gpr);
		break;
	}
	return text;
}
