// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls on /dev/kvm. */
#include <errno.h>
#include <string.h>

#include "channel.h"
#include "fakes.h"

static uint8_t out[CHANNEL_PAYLOAD_MAX] __attribute__((aligned(16)));
static struct call c;

static int64_t sys(uint32_t nr, uint64_t arg, const void *in, uint32_t size)
{
	memset(out, 0x5a, sizeof(out));
	c = (struct call) { .nr = nr, .arg = arg, .in = in, .in_size = size, .out = out, .out_size = 12345 };
	return system_call(&w->vm, &c);
}

static const struct {
	const char *name;
	uint32_t cap;
	int64_t value;
} caps[] = {
#define CAP(name, value)           \
	{                          \
#name, name, value \
	}
	/* without these QEMU ends */
	CAP(KVM_CAP_USER_MEMORY, 1),
	CAP(KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1),
	CAP(KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1),
	CAP(KVM_CAP_SET_TSS_ADDR, 1),
	CAP(KVM_CAP_EXT_CPUID, 1),
	CAP(KVM_CAP_MP_STATE, 1),
	CAP(KVM_CAP_IRQCHIP, 1),
	CAP(KVM_CAP_SPLIT_IRQCHIP, 1),
	CAP(KVM_CAP_PIT2, 1),
	CAP(KVM_CAP_PIT_STATE2, 1),
	CAP(KVM_CAP_REINJECT_CONTROL, 1),
	CAP(KVM_CAP_IRQFD_RESAMPLE, 1),
	CAP(KVM_CAP_SYNC_MMU, 1),
	CAP(KVM_CAP_IOEVENTFD, 1),
	CAP(KVM_CAP_IRQFD, 1),
	CAP(KVM_CAP_NR_MEMSLOTS, 509),
	CAP(KVM_CAP_IRQ_ROUTING, 4096),
	CAP(KVM_CAP_MAX_VCPUS, 64),
	CAP(KVM_CAP_ADJUST_CLOCK, 14),
	CAP(KVM_CAP_MCE, 32),
	CAP(KVM_CAP_XSAVE2, 4096),
	CAP(KVM_CAP_XCRS, 1),
	CAP(KVM_CAP_MULTI_ADDRESS_SPACE, 1),
	CAP(KVM_CAP_TSC_DEADLINE_TIMER, 1),
	CAP(KVM_CAP_READONLY_MEM, 1),
	CAP(KVM_CAP_SREGS2, 1),
	CAP(KVM_CAP_X86_USER_SPACE_MSR, 1),
	CAP(KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1),
	CAP(KVM_CAP_COALESCED_MMIO, 2),
	CAP(KVM_CAP_COALESCED_PIO, 1),
	/* not there */
	CAP(KVM_CAP_X86_SMM, 0),
	CAP(KVM_CAP_NESTED_STATE, 0),
	CAP(KVM_CAP_HYPERV, 0),
	CAP(KVM_CAP_TSC_CONTROL, 0),
	CAP(KVM_CAP_ASYNC_PF, 0),
	CAP(KVM_CAP_STEAL_TIME, 0),
	CAP(KVM_CAP_BINARY_STATS_FD, 0),
	CAP(KVM_CAP_DIRTY_LOG_RING, 0),
	CAP(KVM_CAP_PCI_2_3, 0),
	CAP(KVM_CAP_VM_ATTRIBUTES, 0),
	CAP(KVM_CAP_SYNC_REGS, 0),
	CAP(KVM_CAP_X86_NOTIFY_VMEXIT, 0),
	CAP(KVM_CAP_XEN_HVM, 0),
	{ "unknown", 4000000, 0 },
};

START_TEST(test_caps)
{
	ck_assert_msg(sys(KVM_CHECK_EXTENSION, caps[_i].cap, NULL, 0) == caps[_i].value, "%s", caps[_i].name);
}
END_TEST

START_TEST(test_small)
{
	uint64_t v;

	ck_assert_int_eq(sys(KVM_GET_API_VERSION, 0, NULL, 0), 12);
	ck_assert_int_eq(sys(KVM_GET_API_VERSION, 1, NULL, 0), -EINVAL);
	ck_assert_int_eq(sys(KVM_GET_VCPU_MMAP_SIZE, 0, NULL, 0), 3 * 4096);
	ck_assert_int_eq(sys(KVM_GET_VCPU_MMAP_SIZE, 1, NULL, 0), -EINVAL);
	ck_assert_int_eq(sys(_IO(KVMIO, 0xee), 0, NULL, 0), -EINVAL);
	ck_assert_uint_eq(c.out_size, 0);
	ck_assert_int_ge(sys(KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS, NULL, 0), 1);
	ck_assert_int_eq(sys(KVM_X86_GET_MCE_CAP_SUPPORTED, 0, NULL, 0), 0);
	memcpy(&v, out, 8);
	ck_assert_uint_eq(v, 1 << 8 | 1 << 24);
	w->vm.info.guest_xcr0 = 0;
	ck_assert_int_eq(sys(KVM_CHECK_EXTENSION, KVM_CAP_XCRS, NULL, 0), 0);
	ck_assert_int_eq(sys(KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2, NULL, 0), 4096);
}
END_TEST

START_TEST(test_cpuid)
{
	struct kvm_cpuid2 head = { .nent = 0 }, *reply = (void *)out;

	ck_assert_int_eq(sys(KVM_GET_SUPPORTED_CPUID, 0, &head, sizeof(head)), -E2BIG);
	head.nent = 5;
	ck_assert_int_eq(sys(KVM_GET_SUPPORTED_CPUID, 0, &head, sizeof(head)), -E2BIG);
	head.nent = 1000000;
	ck_assert_int_eq(sys(KVM_GET_SUPPORTED_CPUID, 0, &head, sizeof(head)), 0);
	ck_assert_uint_gt(reply->nent, 20);
	ck_assert_uint_eq(c.out_size, 8 + 40 * reply->nent);
	ck_assert_int_eq(sys(KVM_GET_SUPPORTED_CPUID, 0, &head, 7), -EINVAL);
	ck_assert_int_eq(sys(KVM_GET_EMULATED_CPUID, 0, &head, sizeof(head)), 0);
	ck_assert_uint_eq(reply->nent, 0);
}
END_TEST

START_TEST(test_msr_lists)
{
	uint32_t room = 0, *reply = (uint32_t *)out, n;
	const uint32_t nrs[] = { KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST };

	ck_assert_int_eq(sys(nrs[_i], 0, &room, 4), -E2BIG);
	ck_assert_uint_eq(c.out_size, 4);
	n = reply[0];
	ck_assert_uint_gt(n, 0);
	room = n - 1;
	ck_assert_int_eq(sys(nrs[_i], 0, &room, 4), -E2BIG);
	room = n;
	ck_assert_int_eq(sys(nrs[_i], 0, &room, 4), 0);
	ck_assert_uint_eq(c.out_size, 4 + 4 * n);
	ck_assert_uint_eq(reply[0], n);
	ck_assert_int_eq(sys(nrs[_i], 0, &room, 3), -EINVAL);
}
END_TEST

START_TEST(test_feature_msrs)
{
	struct {
		struct {
			uint32_t nmsrs, pad;
		} head; /* as struct kvm_msrs */
		struct kvm_msr_entry e[3];
	} in = { .head.nmsrs = 3, .e = { { .index = 0x8b }, { .index = 0x10a }, { .index = 0x10 } } };

	ck_assert_int_eq(sys(KVM_GET_MSRS, 0, &in, sizeof(in)), 2);
	ck_assert_uint_eq(c.out_size, sizeof(in));
	ck_assert_uint_eq(((struct kvm_msrs *)out)->entries[0].data, 1ull << 32);
	ck_assert_int_eq(sys(KVM_GET_MSRS, 0, &in, sizeof(in) - 1), -EINVAL);
	in.head.nmsrs = 256;
	ck_assert_int_eq(sys(KVM_GET_MSRS, 0, &in, sizeof(in)), -E2BIG);
}
END_TEST

START_TEST(test_attr)
{
	struct kvm_device_attr a = { .group = 0, .attr = 0 };
	uint64_t v;

	ck_assert_int_eq(sys(KVM_HAS_DEVICE_ATTR, 0, &a, sizeof(a)), 0);
	ck_assert_uint_eq(c.out_size, 0);
	ck_assert_int_eq(sys(KVM_GET_DEVICE_ATTR, 0, &a, sizeof(a)), 0);
	memcpy(&v, out, 8);
	ck_assert_uint_eq(v, 7);
	ck_assert_uint_eq(c.out_size, 8);
	a.attr = 1;
	ck_assert_int_eq(sys(KVM_GET_DEVICE_ATTR, 0, &a, sizeof(a)), -ENXIO);
	a = (struct kvm_device_attr) { .group = 1 };
	ck_assert_int_eq(sys(KVM_HAS_DEVICE_ATTR, 0, &a, sizeof(a)), -ENXIO);
	ck_assert_int_eq(sys(KVM_HAS_DEVICE_ATTR, 0, &a, sizeof(a) - 1), -EINVAL);
}
END_TEST

Suite *suite_system(void)
{
	Suite *s = suite_create("system calls");
	TCase *t = tcase_create("system");

	tcase_add_checked_fixture(t, world_make, world_drop);
	tcase_add_loop_test(t, test_caps, 0, (int)(sizeof(caps) / sizeof(caps[0])));
	tcase_add_test(t, test_small);
	tcase_add_test(t, test_cpuid);
	tcase_add_loop_test(t, test_msr_lists, 0, 2);
	tcase_add_test(t, test_feature_msrs);
	tcase_add_test(t, test_attr);
	suite_add_tcase(s, t);
	return s;
}
