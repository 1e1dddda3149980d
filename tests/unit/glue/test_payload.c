/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <check.h>
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "glue.h"

static uint8_t buf[CHANNEL_PAYLOAD_MAX];

/* Guest for calls' arguments: count is written where the call has it; the rest is a pattern. */
static uint8_t arg[CHANNEL_PAYLOAD_MAX * 2];

struct size_case {
	uint32_t nr;
	uint32_t count_at, count;
	int ret;
	uint32_t in, out;
};

#define NONE UINT32_MAX

static const struct size_case cases[] = {
	{ KVM_GET_REGS, NONE, 0, 0, 0, sizeof(struct kvm_regs) },
	{ KVM_SET_REGS, NONE, 0, 0, sizeof(struct kvm_regs), 0 },
	{ KVM_TRANSLATE, NONE, 0, 0, 24, 24 },
	{ KVM_IRQ_LINE, NONE, 0, 0, 8, 0 },
	{ KVM_IRQ_LINE_STATUS, NONE, 0, 0, 8, 8 },
	{ KVM_GET_LAPIC, NONE, 0, 0, 0, 1024 },
	{ KVM_GET_IRQCHIP, NONE, 0, 0, sizeof(struct kvm_irqchip), sizeof(struct kvm_irqchip) },
	{ KVM_SET_IRQCHIP, NONE, 0, 0, sizeof(struct kvm_irqchip), 0 },
	{ KVM_SET_PIT, NONE, 0, 0, sizeof(struct kvm_pit_state), 0 },
	{ KVM_REINJECT_CONTROL, NONE, 0, 0, sizeof(struct kvm_reinject_control), 0 },
	{ KVM_SET_IDENTITY_MAP_ADDR, NONE, 0, 0, 8, 0 },
	{ KVM_X86_SETUP_MCE, NONE, 0, 0, 8, 0 },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, NONE, 0, 0, 0, 8 },
	{ KVM_GET_SREGS2, NONE, 0, 0, 0, sizeof(struct kvm_sregs2) },
	{ KVM_GET_MSR_INDEX_LIST, 0, 0, 0, 4, 4 },
	{ KVM_GET_MSR_INDEX_LIST, 0, 100, 0, 4, 404 },
	{ KVM_GET_MSR_FEATURE_INDEX_LIST, 0, 7, 0, 4, 32 },
	{ KVM_GET_MSR_INDEX_LIST, 0, UINT32_MAX, 0, 4, CHANNEL_PAYLOAD_MAX },
	{ KVM_GET_SUPPORTED_CPUID, 0, 1, 0, 8, 48 },
	{ KVM_GET_EMULATED_CPUID, 0, 2, 0, 8, 88 },
	{ KVM_GET_CPUID2, 0, 100, 0, 8, 4008 },
	{ KVM_GET_SUPPORTED_CPUID, 0, UINT32_MAX, 0, 8, CHANNEL_PAYLOAD_MAX },
	{ KVM_SET_CPUID2, 0, 0, 0, 8, 0 },
	{ KVM_SET_CPUID2, 0, 256, 0, 8 + 256 * 40, 0 },
	{ KVM_SET_CPUID2, 0, 257, -E2BIG, 0, 0 },
	{ KVM_SET_CPUID, 0, 3, 0, 8 + 3 * 24, 0 },
	{ KVM_GET_MSRS, 0, 4, 0, 72, 72 },
	{ KVM_GET_MSRS, 0, 255, 0, 8 + 255 * 16, 8 + 255 * 16 },
	{ KVM_GET_MSRS, 0, 256, -E2BIG, 0, 0 },
	{ KVM_SET_MSRS, 0, 1, 0, 24, 0 },
	{ KVM_SET_MSRS, 0, UINT32_MAX, -E2BIG, 0, 0 },
	{ KVM_SET_PMU_EVENT_FILTER, 4, 2, 0, 48, 0 },
	{ KVM_SET_PMU_EVENT_FILTER, 4, 301, -E2BIG, 0, 0 },
	{ KVM_GET_NESTED_STATE, 4, 4224, 0, 128, 4224 },
	{ KVM_GET_NESTED_STATE, 4, 4, 0, 128, 128 },
	{ KVM_SET_NESTED_STATE, 4, 4224, 0, 4224, 0 },
	{ KVM_SET_NESTED_STATE, 4, 16385, -EINVAL, 0, 0 },
	{ KVM_GET_XSAVE, NONE, 0, 0, 0, 4096 },
	{ KVM_GET_XSAVE2, NONE, 0, 0, 0, 5000 },
	{ KVM_SET_XSAVE, NONE, 0, 0, 5000, 0 },
};

START_TEST(sizes)
{
	const struct size_case *c = &cases[_i];
	struct payload p;

	for (size_t i = 0; i < sizeof(arg); i++)
		arg[i] = i * 7 + 1;
	if (c->count_at != NONE)
		memcpy(arg + c->count_at, &c->count, 4);
	ck_assert_int_eq(payload_gather(c->nr, (uintptr_t)arg, 5000, buf, &p), c->ret);
	if (c->ret)
		return;
	ck_assert(!p.number);
	ck_assert_uint_eq(p.in_size, c->in);
	ck_assert_uint_eq(p.out_max, c->out);
	ck_assert(!c->out || p.out_addr == (uintptr_t)arg);
	ck_assert_mem_eq(buf, arg, c->in);
}
END_TEST

/* The buffer of a vCPU's calls is shared with the shadow, which changes a count there as soon as it is written. */
static bool shadow_changes;

int __real_user_read(void *to, uint64_t addr, size_t len);
int __wrap_user_read(void *to, uint64_t addr, size_t len);
int __wrap_user_read(void *to, uint64_t addr, size_t len)
{
	const uint32_t count = 255;
	int ret = __real_user_read(to, addr, len);

	if (shadow_changes)
		memcpy(buf, &count, sizeof(count));
	return ret;
}

START_TEST(count_is_read_once)
{
	static const uint32_t nrs[] = { KVM_GET_MSRS, KVM_SET_MSRS, KVM_SET_CPUID2, KVM_GET_CPUID2 };
	static const uint32_t whole[] = { 24, 24, 48, 48 };
	const uint32_t one = 1;
	struct payload p;

	memcpy(arg, &one, sizeof(one));
	shadow_changes = true;
	ck_assert_int_eq(payload_gather(nrs[_i], (uintptr_t)arg, 0, buf, &p), 0);
	shadow_changes = false;
	ck_assert_uint_eq(p.in_size, _i == 3 ? 8 : whole[_i]);
	ck_assert_uint_eq(p.out_max, _i == 0 || _i == 3 ? whole[_i] : 0);
	ck_assert_uint_eq(p.count, 1);
}
END_TEST

/* What comes back, and where it goes. */
START_TEST(answers)
{
	static uint8_t to[CHANNEL_PAYLOAD_MAX];
	const uint32_t room = 3;
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)buf, *got = (struct kvm_cpuid2 *)to;
	struct payload p;

	memcpy(to, &room, sizeof(room));
	ck_assert_int_eq(payload_gather(KVM_GET_CPUID2, (uintptr_t)to, 0, buf, &p), 0);
	memset(buf, 0x5a, 200);
	cpuid->nent = 3;
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 128, 0), 0);
	ck_assert_mem_eq(to, buf, 128);
	ck_assert_int_eq(to[128], 0);
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 129, 0), -EPROTO);
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 128, 4), -EPROTO);
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 2, 0), -EPROTO);
	cpuid->nent = 4;
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 128, 0), -EPROTO);
	ck_assert_uint_eq(got->nent, 3);
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 8, -E2BIG), 0); /* so many there are */
	ck_assert_uint_eq(got->nent, 4);
	cpuid->nent = UINT32_MAX;
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 8, -E2BIG), -EPROTO);
	ck_assert_int_eq(payload_put(KVM_GET_CPUID2, &p, buf, 0, -EINVAL), 0);
	ck_assert_int_eq(payload_gather(KVM_GET_LAPIC, (uintptr_t)to, 0, buf, &p), 0);
	ck_assert_int_eq(payload_put(KVM_GET_LAPIC, &p, buf, 1024, 0), 0);
	ck_assert_mem_eq(to, buf, 1024);
	ck_assert_int_eq(payload_put(KVM_GET_LAPIC, &p, buf, 1025, 0), -EPROTO);
	p.out_addr = 8;
	ck_assert_int_eq(payload_put(KVM_GET_LAPIC, &p, buf, 1024, 0), -EFAULT);
	ck_assert_int_eq(payload_gather(KVM_GET_STATS_FD, 0, 0, buf, &p), 0);
	ck_assert_int_eq(payload_put(KVM_GET_STATS_FD, &p, buf, 0, -ENOTTY), 0);
	ck_assert_int_eq(payload_put(KVM_GET_STATS_FD, &p, buf, 0, 5), -EPROTO);
}
END_TEST

/* Nothing was sent, nothing came: what was handed over is not written back. */
START_TEST(nothing_sent)
{
	static struct shadow shadow = { .lock = PTHREAD_MUTEX_INITIALIZER, .socket = -1 };
	struct request request = { .kind = CHANNEL_SYSTEM, .nr = KVM_GET_DEVICE_ATTR, .size = 24, .max = 8 };

	ck_assert_int_eq(shadow_request_locked(&shadow, &request), -EBADF);
	ck_assert_uint_eq(request.size, 0);
}
END_TEST

START_TEST(numbers)
{
	static const uint32_t nrs[] = {
		KVM_CREATE_VM, KVM_CHECK_EXTENSION, KVM_SET_TSS_ADDR,	  KVM_SET_TSC_KHZ,     KVM_GET_TSC_KHZ, KVM_NMI,
		KVM_SMI,       KVM_KVMCLOCK_CTRL,   KVM_SET_NR_MMU_PAGES, KVM_SET_BOOT_CPU_ID, KVM_GET_STATS_FD
	};
	struct payload p;

	for (size_t i = 0; i < sizeof(nrs) / sizeof(nrs[0]); i++) {
		ck_assert_int_eq(payload_gather(nrs[i], 1, 0, buf, &p), 0);
		ck_assert(p.number);
		ck_assert_uint_eq(p.in_size, 0);
		ck_assert_uint_eq(p.out_max, 0);
	}
}
END_TEST

START_TEST(small_xsave)
{
	struct payload p;

	ck_assert_int_eq(payload_gather(KVM_SET_XSAVE, (uintptr_t)arg, 0, buf, &p), 0);
	ck_assert_uint_eq(p.in_size, 4096);
	ck_assert_int_eq(payload_gather(KVM_GET_XSAVE2, (uintptr_t)arg, UINT32_MAX, buf, &p), 0);
	ck_assert_uint_eq(p.out_max, CHANNEL_PAYLOAD_MAX);
}
END_TEST

START_TEST(faults)
{
	static const uint32_t nrs[] = { KVM_SET_REGS,		KVM_SET_MSRS,	     KVM_GET_SUPPORTED_CPUID,
					KVM_X86_SET_MSR_FILTER, KVM_SET_DEVICE_ATTR, KVM_SET_XSAVE,
					KVM_SET_IRQCHIP };
	uint8_t *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_msrs msrs = { .nmsrs = 100 };
	struct payload p;

	munmap(two + 4096, 4096);
	for (size_t i = 0; i < sizeof(nrs) / sizeof(nrs[0]); i++) {
		ck_assert_int_eq(payload_gather(nrs[i], 0, 0, buf, &p), -EFAULT);
		ck_assert_int_eq(payload_gather(nrs[i], UINT64_MAX - 3, 0, buf, &p), -EFAULT);
		ck_assert_int_eq(payload_gather(nrs[i], (uintptr_t)two + 4096, 0, buf, &p), -EFAULT);
	}
	/* The head is there, its tail is not. */
	memcpy(two + 4096 - 16, &msrs, sizeof(msrs));
	ck_assert_int_eq(payload_gather(KVM_SET_MSRS, (uintptr_t)two + 4096 - 16, 0, buf, &p), -EFAULT);
	ck_assert_int_eq(user_write((uintptr_t)two + 4090, buf, 7), -EFAULT);
	ck_assert_int_eq(user_write((uintptr_t)two + 4090, buf, 6), 0);
	munmap(two, 4096);
}
END_TEST

START_TEST(msr_filter)
{
	uint8_t first[16], second[0x600];
	struct kvm_msr_filter filter = {
		.ranges = { { .nmsrs = 65, .bitmap = first }, { 0 }, { .nmsrs = 0x600 * 8, .bitmap = second } }
	};
	struct kvm_msr_filter sent;
	struct payload p;

	memset(first, 0x12, sizeof(first));
	memset(second, 0x34, sizeof(second));
	ck_assert_int_eq(payload_gather(KVM_X86_SET_MSR_FILTER, (uintptr_t)&filter, 0, buf, &p), 0);
	ck_assert_uint_eq(p.in_size, sizeof(filter) + 16 + 0x600);
	ck_assert_mem_eq(buf + sizeof(filter), first, 16);
	ck_assert_mem_eq(buf + sizeof(filter) + 16, second, sizeof(second));
	memcpy(&sent, buf, sizeof(sent));
	ck_assert_ptr_null(sent.ranges[0].bitmap); /* addresses stay here */
	filter.ranges[2].nmsrs++;
	ck_assert_int_eq(payload_gather(KVM_X86_SET_MSR_FILTER, (uintptr_t)&filter, 0, buf, &p), -EINVAL);
	filter.ranges[2].nmsrs = UINT32_MAX;
	ck_assert_int_eq(payload_gather(KVM_X86_SET_MSR_FILTER, (uintptr_t)&filter, 0, buf, &p), -EINVAL);
}
END_TEST

START_TEST(device_attr)
{
	uint64_t value = 0x1122334455667788;
	struct kvm_device_attr attr = { .addr = (uintptr_t)&value };
	struct payload p;

	ck_assert_int_eq(payload_gather(KVM_SET_DEVICE_ATTR, (uintptr_t)&attr, 0, buf, &p), 0);
	ck_assert_uint_eq(p.in_size, sizeof(attr) + 8);
	ck_assert_mem_eq(buf + sizeof(attr), &value, 8);
	ck_assert_int_eq(payload_gather(KVM_GET_DEVICE_ATTR, (uintptr_t)&attr, 0, buf, &p), 0);
	ck_assert_uint_eq(p.in_size, sizeof(attr));
	ck_assert_uint_eq(p.out_max, 8);
	ck_assert(p.out_addr == (uintptr_t)&value);
	ck_assert_int_eq(payload_gather(KVM_HAS_DEVICE_ATTR, (uintptr_t)&attr, 0, buf, &p), 0);
	ck_assert_uint_eq(p.out_max, 0);
	attr.addr = 8;
	ck_assert_int_eq(payload_gather(KVM_SET_DEVICE_ATTR, (uintptr_t)&attr, 0, buf, &p), -EFAULT);
}
END_TEST

/* One reply that is sound; then one fault at a time. */
START_TEST(messages)
{
	const struct request request = { .kind = CHANNEL_VM, .nr = KVM_GET_CLOCK, .max = 48 };
	const struct channel_msg good = {
		.version = CHANNEL_VERSION, .kind = CHANNEL_VM, .nr = KVM_GET_CLOCK, .size = 48
	};
	const size_t bytes = sizeof(good) + 48;
	struct channel_msg m = good;

	ck_assert_int_eq(message_check(&m, bytes, false, &request), 0);
	m.ret = -4095;
	ck_assert_int_eq(message_check(&m, bytes, false, &request), 0);
	m.ret = -4096;
	ck_assert_int_eq(message_check(&m, bytes, false, &request), -EPROTO);
	m.ret = 1LL << 31;
	ck_assert_int_eq(message_check(&m, bytes, false, &request), -EPROTO);
	m = good;
	ck_assert_int_eq(message_check(&m, bytes, true, &request), -EPROTO);
	ck_assert_int_eq(message_check(&m, bytes - 1, false, &request), -EPROTO);
	ck_assert_int_eq(message_check(&m, bytes + 1, false, &request), -EPROTO);
	ck_assert_int_eq(message_check(&m, sizeof(m) - 1, false, &request), -EPROTO);
	ck_assert_int_eq(message_check(&m, 0, false, &request), -EPROTO);
	m.size = 49;
	ck_assert_int_eq(message_check(&m, bytes + 1, false, &request), -EPROTO);
	m.size = 0;
	ck_assert_int_eq(message_check(&m, sizeof(m), false, &request), 0);
	m = good;
	m.version++;
	ck_assert_int_eq(message_check(&m, bytes, false, &request), -EPROTO);
	m = good;
	m.kind = CHANNEL_SYSTEM;
	ck_assert_int_eq(message_check(&m, bytes, false, &request), -EPROTO);
	m = good;
	m.nr++;
	ck_assert_int_eq(message_check(&m, bytes, false, &request), -EPROTO);
	m = good;
	m.kind = CHANNEL_DEATH;
	ck_assert_int_eq(message_check(&m, bytes, false, &request), 1);
	m.size = 1025;
	ck_assert_int_eq(message_check(&m, sizeof(m) + 1025, false, &request), -EPROTO);
}
END_TEST

/* A wild pointer just above the frame, past the end of the stack. */
static uint8_t *stack_end;
static int past_the_end, in_the_frame, over_the_end;

static void *near_the_end(void *unused)
{
	uint8_t here[16] = { 1 }, to[16] = { 0 };

	in_the_frame = user_read(to, (uintptr_t)here, sizeof(here)) || memcmp(to, here, sizeof(here));
	past_the_end = user_read(buf, (uintptr_t)stack_end, 16);
	over_the_end = user_write((uintptr_t)stack_end - 8, buf, 16);
	return unused;
}

static void *stack_new(size_t size)
{
	uint8_t *stack = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(stack, MAP_FAILED);
	ck_assert_int_eq(mprotect(stack + size, 4096, PROT_NONE), 0);
	stack_end = stack + size;
	return stack;
}

#define STACK (256 << 10)

START_TEST(end_of_stack)
{
	void *stack = stack_new(STACK);
	ucontext_t there, back;
	pthread_attr_t attr;
	pthread_t thread;

	if (_i) { /* a coroutine's: its frames begin at the end */
		ck_assert_int_eq(getcontext(&there), 0);
		there.uc_stack.ss_sp = stack;
		there.uc_stack.ss_size = STACK;
		there.uc_link = &back;
		makecontext(&there, (void (*)(void))near_the_end, 1, 0);
		ck_assert_int_eq(swapcontext(&back, &there), 0);
	} else {
		ck_assert_int_eq(pthread_attr_init(&attr), 0);
		ck_assert_int_eq(pthread_attr_setstack(&attr, stack, STACK), 0);
		ck_assert_int_eq(pthread_create(&thread, &attr, near_the_end, NULL), 0);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	}
	ck_assert_int_eq(in_the_frame, 0);
	ck_assert_int_eq(past_the_end, -EFAULT);
	ck_assert_int_eq(over_the_end, -EFAULT);
}
END_TEST

START_TEST(maps_lines)
{
	struct map_info m;

	ck_assert(maps_parse_line("7f0000000000-7f0000200000 rw-s 00003000 00:01 1234   /memfd:a b (deleted)\n", &m));
	ck_assert(m.start == 0x7f0000000000 && m.end == 0x7f0000200000 && m.offset == 0x3000 && m.inode == 1234 &&
		  m.shared);
	ck_assert_int_eq(m.prot, PROT_READ | PROT_WRITE);
	ck_assert_str_eq(m.path, "/memfd:a b (deleted)");
	ck_assert(maps_parse_line("1000-2000 ---p 00000000 00:00 0 \n", &m));
	ck_assert(!m.shared && !m.inode && !m.prot && !m.path[0]);
	ck_assert(!maps_parse_line("Size:               4 kB\n", &m));
	ck_assert(!maps_parse_line("VmFlags: rd wr mr\n", &m));
	ck_assert(!maps_parse_line("2000-1000 ---p 00000000 00:00 0\n", &m));
	ck_assert(!maps_parse_line("", &m));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("glue_payload");
	TCase *tc = tcase_create("payload");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tc, sizes, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_loop_test(tc, count_is_read_once, 0, 4);
	tcase_add_test(tc, answers);
	tcase_add_test(tc, nothing_sent);
	tcase_add_test(tc, numbers);
	tcase_add_test(tc, small_xsave);
	tcase_add_test(tc, faults);
	tcase_add_test(tc, msr_filter);
	tcase_add_test(tc, device_attr);
	tcase_add_test(tc, messages);
	tcase_add_loop_test(tc, end_of_stack, 0, 2);
	tcase_add_test(tc, maps_lines);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
