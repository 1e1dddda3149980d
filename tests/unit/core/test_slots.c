// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory slots and the dirty log. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"
#include "slots.h"

static void setup(void)
{
	machine_start(false);
}

#define P 4096ULL

/* One negative case a check; each differs from a good one in what the check is about. */
struct bad_row {
	struct channel_memory arg;
	int error;
};

#define GOOD .slot = 5, .gpa = 0x40000000, .size = 4 * P, .userspace_addr = 0x30000000

static const struct bad_row bad_rows[] = {
	{ { .slot = 5, .gpa = 0x40000000, .size = 4 * P, .userspace_addr = 0x30000000, .flags = 4 }, -EINVAL },
	{ { .slot = 5, .gpa = 0x40000000, .size = 4 * P + 1, .userspace_addr = 0x30000000 }, -EINVAL },
	{ { .slot = 5, .gpa = 0x40000001, .size = 4 * P, .userspace_addr = 0x30000000 }, -EINVAL },
	{ { .slot = 5, .gpa = 0x40000000, .size = 4 * P, .userspace_addr = 0x30000001 }, -EINVAL },
	{ { .slot = 509, .gpa = 0x40000000, .size = 4 * P, .userspace_addr = 0x30000000 }, -EINVAL },
	{ { .slot = 1 << 16, .gpa = 0x40000000, .size = 4 * P, .userspace_addr = 0x30000000 }, -EINVAL },
	{ { .slot = 5, .gpa = -4 * P, .size = 8 * P, .userspace_addr = 0x30000000 }, -EINVAL },
	{ { .slot = 5, .gpa = (1ULL << 40) - P, .size = 4 * P, .userspace_addr = 0x30000000 }, -EINVAL },
	{ { .slot = 5, .gpa = 0x40000000, .size = 1ULL << 43, .userspace_addr = 0x30000000 }, -EINVAL },
	{ { .slot = 5, .gpa = RAM_SIZE - P, .size = 4 * P, .userspace_addr = 0x30000000 }, -EEXIST },
	{ { .slot = 5, .gpa = 0, .size = 4 * P, .userspace_addr = 0x30000000 }, -EEXIST },
	{ { .slot = 5, .size = 0 }, -EINVAL },						   /* nothing there to delete */
	{ { .slot = 0, .gpa = 0, .size = 2 * P, .userspace_addr = 0x10000000 }, -EINVAL }, /* another size */
	{ { .slot = 0, .gpa = 0, .size = RAM_SIZE, .userspace_addr = 0x11000000 }, -EINVAL },
	{ { .slot = 0, .gpa = 0, .size = RAM_SIZE, .userspace_addr = 0x10000000, .flags = KVM_MEM_READONLY }, -EINVAL },
	{ { .slot = 0, .gpa = ROM_GPA, .size = RAM_SIZE, .userspace_addr = 0x10000000 }, -EEXIST }, /* onto another */
	{ { GOOD, .fd_offset = 1 }, -EINVAL },
	{ { GOOD, .fd_offset = 8 * P }, -EINVAL }, /* past the file's end */
	{ { GOOD, .fd_readonly = 2 }, -EINVAL },
	{ { GOOD, .huge = 2 }, -EINVAL },
};

START_TEST(refused)
{
	uint8_t *map;
	int fd = machine_memfd(4 * P, &map);
	struct umbra_region before[8];

	memcpy(before, m.fake.region, sizeof(before));
	ck_assert_int_eq(machine_memory(&bad_rows[_i].arg, fd), bad_rows[_i].error);
	ck_assert_int_eq(memcmp(before, m.fake.region, sizeof(before)), 0);
	ck_assert_uint_eq(m.vm.slots->count, 2);
}
END_TEST

START_TEST(no_descriptor)
{
	struct channel_memory arg = { GOOD };

	ck_assert_int_eq(machine_memory(&arg, -1), -EBADF);
}
END_TEST

START_TEST(life)
{
	struct channel_memory arg = { GOOD };
	struct umbra_region *region = &m.fake.region[5];
	uint8_t *map, byte;
	void *hva;

	ck_assert_int_eq(machine_memory(&arg, machine_memfd(4 * P, &map)), 0);
	ck_assert_uint_eq(region->gpa, arg.gpa);
	ck_assert_uint_eq(region->size, arg.size);
	ck_assert_uint_eq(region->flags, 0);
	ck_assert_uint_eq(region->addr % (2 << 20), arg.gpa % (2 << 20));
	map[P] = 0x5a;
	ck_assert_int_eq(vm_read_gpa(&m.vm, arg.gpa + P, &byte, 1), 0);
	ck_assert_uint_eq(byte, 0x5a);
	/* flags, and the same once more */
	arg.flags = KVM_MEM_LOG_DIRTY_PAGES;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_uint_eq(region->flags, UMBRA_REGION_LOG_DIRTY);
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	arg.flags = 0;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_ptr_null(m.vm.dirty[5]);
	/* move */
	arg.gpa = 0x50000000;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_uint_eq(region->gpa, 0x50000000);
	ck_assert_ptr_null(vm_gpa_to_hva(&m.vm, 0x40000000, 1, false));
	hva = vm_gpa_to_hva(&m.vm, 0x50000000, 4 * P, true);
	ck_assert_ptr_eq(hva, (void *)region->addr);
	ck_assert_ptr_null(vm_gpa_to_hva(&m.vm, 0x50000000, 4 * P + 1, false));
	/* delete */
	arg.size = 0;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_uint_eq(region->size, 0);
	ck_assert_int_eq(vm_read_gpa(&m.vm, 0x50000000, &byte, 1), -EFAULT);
	ck_assert_int_eq(machine_memory(&arg, -1), -EINVAL);
}
END_TEST

START_TEST(shim_refuses)
{
	struct channel_memory arg = { GOOD };

	m.fake.region_ret = -ENOMEM;
	ck_assert_int_eq(machine_memory(&arg, machine_memfd(4 * P, NULL)), -ENOMEM);
	ck_assert_ptr_null(vm_gpa_to_hva(&m.vm, arg.gpa, 1, false));
	ck_assert_int_eq(machine_memory(&arg, machine_memfd(4 * P, NULL)), 0);
	arg.flags = KVM_MEM_LOG_DIRTY_PAGES;
	m.fake.region_ret = -ENOMEM;
	ck_assert_int_eq(machine_memory(&arg, -1), -ENOMEM);
	ck_assert_ptr_null(m.vm.dirty[5]);
	arg.size = 0;
	m.fake.region_ret = -ENOMEM;
	ck_assert_int_eq(machine_memory(&arg, -1), -ENOMEM);
	ck_assert_ptr_nonnull(vm_gpa_to_hva(&m.vm, arg.gpa, 1, false));
}
END_TEST

START_TEST(read_only)
{
	uint8_t byte = 1;

	ck_assert_ptr_null(vm_gpa_to_hva(&m.vm, ROM_GPA, 1, true));
	ck_assert_ptr_nonnull(vm_gpa_to_hva(&m.vm, ROM_GPA, 1, false));
	ck_assert_int_eq(vm_write_gpa(&m.vm, ROM_GPA, &byte, 1), -EFAULT);
	ck_assert_uint_eq(m.fake.region[1].flags, UMBRA_REGION_READONLY);
}
END_TEST

/* Copies go across neighbouring slots and stop at a hole. */
START_TEST(across)
{
	struct channel_memory arg = { .slot = 5, .gpa = RAM_SIZE, .size = P, .userspace_addr = 0x30000000 };
	uint8_t *map, buf[16];

	ck_assert_int_eq(machine_memory(&arg, machine_memfd(P, &map)), 0);
	ck_assert_int_eq(vm_write_gpa(&m.vm, RAM_SIZE - 8, "0123456789abcdef", 16), 0);
	ck_assert_int_eq(memcmp(m.ram + RAM_SIZE - 8, "01234567", 8), 0);
	ck_assert_int_eq(memcmp(map, "89abcdef", 8), 0);
	ck_assert_int_eq(vm_read_gpa(&m.vm, RAM_SIZE - 8, buf, 16), 0);
	ck_assert_int_eq(memcmp(buf, "0123456789abcdef", 16), 0);
	ck_assert_int_eq(vm_read_gpa(&m.vm, RAM_SIZE + P - 8, buf, 16), -EFAULT);
	ck_assert_ptr_null(vm_gpa_to_hva(&m.vm, RAM_SIZE - 8, 16, false));
}
END_TEST

static int64_t get_dirty(uint32_t slot, uint64_t first, uint64_t *bitmap, uint32_t *size)
{
	static uint8_t out[CHANNEL_PAYLOAD_MAX] __attribute__((aligned(8)));
	struct kvm_dirty_log arg = { .slot = slot };
	struct call call = { .nr = KVM_GET_DIRTY_LOG, .arg = first, .in = &arg, .in_size = sizeof(arg), .out = out };
	int64_t ret = vm_call(&m.vm, &call);

	memcpy(bitmap, out, 8);
	*size = call.out_size;
	return ret;
}

static int64_t clear_dirty(uint32_t slot, uint64_t first, uint32_t pages, uint64_t bits)
{
	struct {
		struct kvm_clear_dirty_log arg;
		uint64_t bits;
	} in = { { .slot = slot, .num_pages = pages, .first_page = first }, bits };
	struct call call = { .nr = KVM_CLEAR_DIRTY_LOG, .in = &in, .in_size = sizeof(in) };

	return vm_call(&m.vm, &call);
}

static void log_ram(void)
{
	struct channel_memory arg = {
		.slot = 0, .flags = KVM_MEM_LOG_DIRTY_PAGES, .size = RAM_SIZE, .userspace_addr = 0x10000000
	};

	ck_assert_int_eq(machine_memory(&arg, -1), 0);
}

/* The guest's writes come from the shim, the shadow's own are added. */
START_TEST(dirty_log)
{
	uint64_t bits;
	uint32_t size;

	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), -ENOENT);
	ck_assert_int_eq(get_dirty(600, 0, &bits, &size), -ENOENT);
	ck_assert_int_eq(get_dirty(32764, 0, &bits, &size), -EINVAL);
	ck_assert_int_eq(get_dirty(2 << 16, 0, &bits, &size), -EINVAL);
	log_ram();
	m.fake.dirty_word = 1 << 9;
	ck_assert_int_eq(vm_write_gpa(&m.vm, 3 * P - 1, "ab", 2), 0);
	ck_assert_ptr_nonnull(vm_gpa_to_hva(&m.vm, 7 * P, 8, true));
	ck_assert_ptr_nonnull(vm_gpa_to_hva(&m.vm, 8 * P, 8, false));
	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), 0);
	ck_assert_uint_eq(size, 8);
	ck_assert_uint_eq(bits, 1 << 2 | 1 << 3 | 1 << 7 | 1 << 9);
	ck_assert_uint_eq(m.fake.dirty_arg.pages, 64);
	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, 0);
	ck_assert_int_eq(get_dirty(0, 1, &bits, &size), -EINVAL);
	ck_assert_int_eq(get_dirty(0, 64, &bits, &size), -EINVAL);
	ck_assert_int_eq(clear_dirty(0, 0, 64, 1), 0); /* what was fetched is clear already */
	ck_assert_int_eq(clear_dirty(32764, 0, 64, 1), -EINVAL);
	ck_assert_int_eq(clear_dirty(600, 0, 64, 1), -ENOENT);
}
END_TEST

START_TEST(dirty_manual)
{
	bool all = _i;
	uint64_t bits;
	uint32_t size;

	m.vm.manual_dirty_protect = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | (all ? KVM_DIRTY_LOG_INITIALLY_SET : 0);
	log_ram();
	m.fake.dirty_word = 6;
	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, all ? ~0ULL : 6);
	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, all ? ~0ULL : 6); /* still */
	ck_assert_int_eq(clear_dirty(0, 0, 64, 2), 0);
	m.fake.dirty_word = 8;
	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, all ? ~2ULL : 12);
	ck_assert_int_eq(clear_dirty(0, 1, 63, 0), -EINVAL);
	ck_assert_int_eq(clear_dirty(0, 0, 63, 0), -EINVAL);
	ck_assert_int_eq(clear_dirty(0, 64, 64, 0), -EINVAL);
	ck_assert_int_eq(clear_dirty(0, 0, 65, 0), -EINVAL);
	ck_assert_int_eq(clear_dirty(1, 0, 4, 0), -ENOENT);
	ck_assert_int_eq(clear_dirty(600, 0, 64, 0), -ENOENT);
}
END_TEST

/* It has marked its page as dirty, and writes once the log has been fetched: as one that loses its CPU in between. */
static atomic_bool late_marked;

static void *late_writer(void *arg)
{
	unsigned int calls = m.fake.dirty_calls;
	uint8_t *hva;

	vm_read_lock(&m.vm);
	hva = vm_gpa_to_hva(&m.vm, 5 * P, 8, true);
	atomic_store(&late_marked, true);
	while (m.fake.dirty_calls == calls || atomic_load(&m.vm.dirty[0]->own[0]))
		sched_yield();
	usleep(50000);
	memcpy(hva, "new data", 8);
	vm_read_unlock(&m.vm);
	return arg;
}

/* Who reads a page after its bit was fetched finds what was written. Else the write would be in no log any more. */
START_TEST(dirty_written)
{
	pthread_t thread;
	uint64_t bits;
	uint32_t size;

	m.vm.manual_dirty_protect = _i ? KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE : 0;
	log_ram();
	pthread_create(&thread, NULL, late_writer, NULL);
	while (!atomic_load(&late_marked))
		sched_yield();
	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), 0);
	ck_assert_mem_eq(m.ram + 5 * P, "new data", 8);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(bits, 1 << 5);
	ck_assert_int_eq(get_dirty(0, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, _i ? 1 << 5 : 0);
}
END_TEST

/* The shim's bits go with the region that it had at the old place: no page of the slot is taken for clean. */
START_TEST(dirty_moved)
{
	struct channel_memory arg = { GOOD, .flags = KVM_MEM_LOG_DIRTY_PAGES };
	uint64_t bits;
	uint32_t size;

	ck_assert_int_eq(machine_memory(&arg, machine_memfd(4 * P, NULL)), 0);
	ck_assert_int_eq(get_dirty(5, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, 0);
	arg.gpa += 0x10000000;
	m.fake.region_ret = -ENOMEM;
	ck_assert_int_eq(machine_memory(&arg, -1), -ENOMEM);
	ck_assert_int_eq(get_dirty(5, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, 0);
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_int_eq(get_dirty(5, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, 0xf);
	ck_assert_int_eq(get_dirty(5, 0, &bits, &size), 0);
	ck_assert_uint_eq(bits, 0);
}
END_TEST

/* Readers hold a snapshot while slots come and go: under ASan a use after free or after unmapping ends the test. */
static atomic_bool stop;

static void *reader(void *arg)
{
	uint64_t sum = 0;

	(void)arg;
	while (!atomic_load(&stop)) {
		uint8_t *hva;

		vm_read_lock(&m.vm);
		hva = vm_gpa_to_hva(&m.vm, 0x40000000, P, false);
		if (hva)
			sum += hva[0] + hva[P - 1];
		vm_read_unlock(&m.vm);
	}
	return (void *)sum;
}

#define HUGE (2ULL << 20)

static bool page_there(uint64_t gpa)
{
	unsigned char there;
	void *hva = vm_gpa_to_hva(&m.vm, gpa, 1, false);

	ck_assert_ptr_nonnull(hva);
	ck_assert_int_eq(mincore((void *)((uintptr_t)hva & -P), P, &there), 0);
	return there & 1;
}

/* Whether this kernel has huge pages to give is not the question here: what is asked for, and when. */
START_TEST(huge)
{
	struct channel_memory arg = { GOOD };
	const struct umbra_region *region = &m.fake.region[5];
	unsigned int misses;
	int fd = machine_memfd(8 * HUGE, NULL);

	arg.gpa = 0x40000000 + HUGE / 2;
	arg.fd_offset = HUGE / 2;
	arg.size = 3 * HUGE;
	arg.huge = 1;
	ck_assert_int_eq(machine_memory(&arg, fd), 0);
	ck_assert_uint_eq(region->flags, UMBRA_REGION_ANNOUNCE);
	vm_first_touch(&m.vm, arg.gpa + P); /* no whole piece in the slot */
	vm_first_touch(&m.vm, arg.gpa + arg.size - P);
	vm_first_touch(&m.vm, 0x60000000); /* no slot */
	vm_first_touch(&m.vm, P);	   /* a slot without */
	ck_assert_uint_eq(m.vm.huge_misses, 0);
	ck_assert(!page_there(arg.gpa + P) && !page_there(arg.gpa + arg.size - P));
	vm_first_touch(&m.vm, 0x40000000 + HUGE + 5 * P + 9);
	ck_assert(page_there(0x40000000 + HUGE + 5 * P));
	ck_assert(!page_there(0x40000000 + 2 * HUGE));
	if (!m.vm.huge_misses)
		ck_assert(page_there(0x40000000 + HUGE) && page_there(0x40000000 + 2 * HUGE - P));
	misses = m.vm.huge_misses;
	/* Once a piece: a hole that the VMM punched since stays one. */
	ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE), 0);
	ck_assert(!page_there(0x40000000 + HUGE + 5 * P));
	vm_first_touch(&m.vm, 0x40000000 + HUGE + 5 * P);
	ck_assert(!page_there(0x40000000 + HUGE + 5 * P));
	ck_assert_uint_eq(m.vm.huge_misses, misses);
	/* It is not tried for ever. */
	m.vm.huge_misses = 16;
	vm_first_touch(&m.vm, 0x40000000 + 2 * HUGE);
	ck_assert(!page_there(0x40000000 + 2 * HUGE));
	m.vm.huge_misses = misses;
	/* Not while pages are logged, and again after. */
	arg.flags = KVM_MEM_LOG_DIRTY_PAGES;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_uint_eq(region->flags, UMBRA_REGION_LOG_DIRTY);
	arg.flags = 0;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_uint_eq(region->flags, UMBRA_REGION_ANNOUNCE);
	/* Moved to where the file's pieces are not the guest's. */
	arg.gpa += P;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_uint_eq(region->flags, 0);
	arg.size = 0;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	arg.size = 3 * HUGE;
	ck_assert_int_eq(machine_memory(&arg, fd), 0);
	ck_assert_uint_eq(region->flags, 0);
}
END_TEST

START_TEST(readers_race)
{
	struct channel_memory add = { GOOD }, gone = { .slot = 5 };
	int fd = machine_memfd(4 * P, NULL);
	pthread_t thread[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, reader, NULL);
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(machine_memory(&add, fd), 0);
		sched_yield();
		ck_assert_int_eq(machine_memory(&gone, -1), 0);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}
END_TEST

/* hugetlbfs maps whole pages of its own size only; slots begin and end where the machine's holes are. */
START_TEST(hugetlb)
{
	static const struct channel_memory rows[] = {
		{ .slot = 5, .gpa = 0x40000000, .size = 0xa0000, .userspace_addr = 0x30000000 },
		{ .slot = 5, .gpa = 0x400c0000, .size = 0x40000, .userspace_addr = 0x300c0000, .fd_offset = 0xc0000 },
		{ .slot = 5, .gpa = 0x40100000, .size = 0x500000, .userspace_addr = 0x30100000, .fd_offset = 0x100000 },
		{ .slot = 5, .gpa = 0x40100000, .size = 0x300000, .userspace_addr = 0x30200000, .fd_offset = 0x200000 },
	};
	struct channel_memory arg = rows[_i];
	struct umbra_region *region = &m.fake.region[5];
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	void *page;

	if (fd < 0) {
		ck_assert_msg(errno == ENOSYS || errno == ENODEV || errno == EINVAL, "memfd_create: %d", errno);
		printf("no hugetlbfs in this kernel: not tested\n");
		return;
	}
	ck_assert_int_eq(ftruncate(fd, 8 << 20), 0);
	ck_assert_int_eq(machine_memory(&arg, fd), 0);
	ck_assert_uint_eq(region->size, arg.size);
	ck_assert_uint_eq(region->addr % (2 << 20), arg.fd_offset % (2 << 20));
	if (!fallocate(fd, 0, 0, 8 << 20)) { /* there are huge pages to be had */
		uint8_t byte = 0x5a, back = 0;

		ck_assert_int_eq(vm_write_gpa(&m.vm, arg.gpa + arg.size - 1, &byte, 1), 0);
		page = mmap(NULL, 8 << 20, PROT_READ, MAP_SHARED, fd, 0);
		ck_assert_ptr_ne(page, MAP_FAILED);
		back = ((uint8_t *)page)[arg.fd_offset + arg.size - 1];
		ck_assert_uint_eq(back, byte);
	}
	page = (void *)region->addr;
	arg.size = 0;
	ck_assert_int_eq(machine_memory(&arg, -1), 0);
	ck_assert_int_eq(msync(page, P, MS_ASYNC), -1); /* nothing is mapped there any more */
	ck_assert_int_eq(errno, ENOMEM);
}
END_TEST

Suite *suite_slots(void)
{
	Suite *suite = suite_create("slots");
	TCase *tcase = tcase_create("slots");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, refused, 0, (int)(sizeof(bad_rows) / sizeof(bad_rows[0])));
	tcase_add_test(tcase, no_descriptor);
	tcase_add_test(tcase, life);
	tcase_add_test(tcase, shim_refuses);
	tcase_add_test(tcase, read_only);
	tcase_add_test(tcase, across);
	tcase_add_test(tcase, dirty_log);
	tcase_add_loop_test(tcase, dirty_manual, 0, 2);
	tcase_add_loop_test(tcase, dirty_written, 0, 2);
	tcase_add_test(tcase, dirty_moved);
	tcase_add_test(tcase, huge);
	tcase_add_loop_test(tcase, hugetlb, 0, 4);
	tcase_add_test(tcase, readers_race);
	suite_add_tcase(suite, tcase);
	return suite;
}
