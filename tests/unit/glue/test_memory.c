/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "glue.h"

#define PAGE 4096
#define PAGES 200

static uint8_t *map_private(size_t pages)
{
	uint8_t *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	memory_note_mmap(p, pages * PAGE, MAP_PRIVATE | MAP_ANONYMOUS);
	return p;
}

static void unmap(uint8_t *p, size_t pages)
{
	memory_forget(p, pages * PAGE);
	munmap(p, pages * PAGE);
}

/* Another mapping of what is passed along: what a shadow would see. */
static uint8_t *share(const uint8_t *p, size_t pages, struct memory_ref *ref)
{
	uint8_t *view;
	int ret = memory_share((uintptr_t)p, pages * PAGE, ref);

	ck_assert_int_eq(ret, 0);
	view = mmap(NULL, pages * PAGE, PROT_READ | (ref->readonly ? 0 : PROT_WRITE), MAP_SHARED, ref->fd, ref->offset);
	ck_assert_ptr_ne(view, MAP_FAILED);
	return view;
}

static ino_t inode(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

static uint64_t pages_used(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_blocks * 512 / PAGE;
}

START_TEST(anonymous)
{
	uint8_t *p = map_private(PAGES), *view;
	struct memory_ref ref;

	/* Every third page, across the chunks in which it is copied, the first and the last. */
	for (int i = 0; i < PAGES; i++)
		if (i % 3 == 0 || i == PAGES - 1)
			memset(p + i * PAGE, i + 1, PAGE);
	view = share(p, PAGES, &ref);
	ck_assert(!ref.readonly);
	ck_assert_mem_eq(p, view, PAGES * PAGE);
	for (int i = 0; i < PAGES; i++)
		ck_assert_int_eq(p[i * PAGE + 99], i % 3 == 0 || i == PAGES - 1 ? (uint8_t)(i + 1) : 0);
	p[7 * PAGE] = 0xee;
	ck_assert_int_eq(view[7 * PAGE], 0xee);
	view[8 * PAGE] = 0xdd;
	ck_assert_int_eq(p[8 * PAGE], 0xdd);
	munmap(view, PAGES * PAGE);
	close(ref.fd);
	unmap(p, PAGES);
	ck_assert_uint_eq(memory_converted, 0);
}
END_TEST

START_TEST(untouched_takes_no_memory)
{
	uint8_t *p = map_private(PAGES);
	struct memory_ref ref;

	p[3 * PAGE] = 1;
	ck_assert_int_eq(*(volatile uint8_t *)(p + 5 * PAGE), 0); /* read only: a zero page */
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), 0);
	ck_assert_uint_eq(pages_used(ref.fd), 1);
	/* Neither the shadow nor anyone else can make it smaller. */
	ck_assert_int_eq(ftruncate(ref.fd, PAGE), -1);
	ck_assert_int_eq(errno, EPERM);
	close(ref.fd);
	unmap(p, PAGES);
}
END_TEST

START_TEST(pieces_and_aliases)
{
	uint8_t *p = map_private(PAGES), *a, *b, *c;
	struct memory_ref first, second, third;

	memset(p, 0x41, PAGES * PAGE);
	a = share(p + 10 * PAGE, 20, &first);
	b = share(p + 100 * PAGE, 50, &second);
	c = share(p, PAGES, &third);
	ck_assert_uint_eq(inode(first.fd), inode(second.fd));
	ck_assert_uint_eq(inode(first.fd), inode(third.fd));
	ck_assert_uint_eq(first.offset, 10 * PAGE);
	ck_assert_uint_eq(second.offset, 100 * PAGE);
	ck_assert_uint_eq(third.offset, 0);
	p[12 * PAGE] = 0x42;
	ck_assert_int_eq(a[2 * PAGE], 0x42);
	ck_assert_int_eq(c[12 * PAGE], 0x42);
	b[0] = 0x43;
	ck_assert_int_eq(c[100 * PAGE], 0x43);
	munmap(a, 20 * PAGE);
	munmap(b, 50 * PAGE);
	munmap(c, PAGES * PAGE);
	close(first.fd);
	close(second.fd);
	close(third.fd);
	unmap(p, PAGES);
}
END_TEST

/* Neighbours that the kernel keeps as one mapping are not part of the block: one may be a heap or a stack. */
START_TEST(neighbours_stay_private)
{
	uint8_t *p = mmap(NULL, 3 * PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct map_info m[4];
	struct memory_ref ref;

	memory_note_mmap(p + PAGES * PAGE, PAGES * PAGE, MAP_PRIVATE);
	p[0] = p[2 * PAGES * PAGE] = 1;
	ck_assert_int_eq(memory_share((uintptr_t)p + (PAGES + 5) * PAGE, 10 * PAGE, &ref), 0);
	ck_assert_uint_eq(ref.offset, 5 * PAGE);
	ck_assert_int_eq(maps_read((uintptr_t)p, (uintptr_t)p + 3 * PAGES * PAGE, m, 4, false), 3);
	ck_assert(!m[0].shared && m[1].shared && !m[2].shared);
	ck_assert_uint_eq(m[1].start, (uintptr_t)p + PAGES * PAGE);
	ck_assert_uint_eq(m[1].end, (uintptr_t)p + 2 * PAGES * PAGE);
	close(ref.fd);
	unmap(p, 3 * PAGES);
}
END_TEST

START_TEST(protection_and_advice_are_kept)
{
	uint8_t *p = map_private(PAGES);
	struct map_info m[4];
	struct memory_ref ref;

	memset(p, 0x55, PAGES * PAGE);
	ck_assert_int_eq(madvise(p, PAGES * PAGE, MADV_DONTFORK), 0);
	ck_assert_int_eq(madvise(p, PAGES * PAGE, MADV_DONTDUMP), 0);
	mprotect(p + 50 * PAGE, 10 * PAGE, PROT_NONE);
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), 0);
	ck_assert_int_eq(maps_read((uintptr_t)p, (uintptr_t)p + PAGES * PAGE, m, 4, true), 3);
	for (int i = 0; i < 3; i++)
		ck_assert(m[i].shared && m[i].dontfork && m[i].dontdump);
	ck_assert_int_eq(m[1].prot, PROT_NONE);
	/* What cannot be read now was copied all the same. */
	mprotect(p + 50 * PAGE, 10 * PAGE, PROT_READ);
	ck_assert_int_eq(p[55 * PAGE], 0x55);
	close(ref.fd);
	unmap(p, PAGES);
}
END_TEST

START_TEST(read_only)
{
	uint8_t *p = map_private(PAGES);
	struct memory_ref ref;

	memset(p, 0x66, PAGES * PAGE);
	mprotect(p, PAGES * PAGE, PROT_READ);
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), 0);
	ck_assert(ref.readonly);
	ck_assert_ptr_eq(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ref.fd, 0), MAP_FAILED);
	close(ref.fd);
	unmap(p, PAGES);
}
END_TEST

static int temp_file(size_t pages)
{
	char name[] = "/tmp/umbra-test-XXXXXX";
	int fd = mkstemp(name);
	uint8_t page[PAGE];

	unlink(name);
	for (size_t i = 0; i < pages; i++) {
		memset(page, 0x80 + i, PAGE);
		ck_assert_int_eq(write(fd, page, PAGE), PAGE);
	}
	return fd;
}

START_TEST(private_file)
{
	int fd = temp_file(20);
	uint8_t *p = mmap(NULL, 24 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * PAGE), *view;
	struct memory_ref ref;
	uint8_t byte;
	bool done;

	memory_note_mmap(p, 24 * PAGE, MAP_PRIVATE);
	p[PAGE] = 0x11; /* its own copy of this page; the others are still the file's; the last six are past its end */
	view = share(p, 24, &ref);
	ck_assert_int_eq(view[0], 0x82);
	ck_assert_int_eq(view[PAGE], 0x11);
	ck_assert_int_eq(view[17 * PAGE], 0x93);
	ck_assert_int_eq(view[18 * PAGE], 0);
	p[2 * PAGE] = 0x22;
	ck_assert_int_eq(pread(fd, &byte, 1, 4 * PAGE), 1);
	ck_assert_int_eq(byte, 0x84); /* the file itself is never written */
	/* Giving up pages brings the file's contents back. */
	ck_assert_int_eq(memory_advise(p + PAGE, 2 * PAGE, MADV_DONTNEED, &done), 0);
	ck_assert(done);
	ck_assert_int_eq(p[PAGE], 0x83);
	ck_assert_int_eq(view[2 * PAGE], 0x84);
	munmap(view, 24 * PAGE);
	close(ref.fd);
	close(fd);
	unmap(p, 24);
}
END_TEST

START_TEST(shared_file)
{
	int fd = memfd_create("test", 0), ro;
	uint8_t *p, *r, *view;
	struct memory_ref ref;
	char name[64];

	ck_assert_int_eq(ftruncate(fd, PAGES * PAGE), 0);
	p = mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 10 * PAGE);
	view = share(p + 5 * PAGE, 10, &ref);
	ck_assert_uint_eq(inode(ref.fd), inode(fd));
	ck_assert_uint_eq(ref.offset, 15 * PAGE);
	ck_assert_uint_eq(memory_converted, 0); /* as it is */
	view[0] = 9;
	ck_assert_int_eq(p[5 * PAGE], 9);
	munmap(view, 10 * PAGE);
	close(ref.fd);
	munmap(p, 20 * PAGE);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ro = open(name, O_RDONLY);
	r = mmap(NULL, 20 * PAGE, PROT_READ, MAP_SHARED, ro, 0);
	close(fd);
	view = share(r, 20, &ref);
	ck_assert(ref.readonly);
	munmap(view, 20 * PAGE);
	close(ref.fd);
	munmap(r, 20 * PAGE);
	close(ro);
}
END_TEST

static int rights(int fd)
{
	return fcntl(fd, F_GETFL) & O_ACCMODE;
}

/* The VMM holds a descriptor for reading and writing. The shadow gets no more than the mapping has, and a position of its own. */
START_TEST(shared_rights)
{
	int fd = _i == 0   ? memfd_create("test", 0)
		 : _i == 1 ? temp_file(20)
			   : memfd_create("test", MFD_HUGETLB | 21 << 26);
	size_t pages = _i == 2 ? 512 : 20;
	struct memory_ref ref;
	uint8_t *p;

	if (_i == 0)
		ck_assert_int_eq(ftruncate(fd, pages * PAGE), 0);
	if (_i == 2 && (fd < 0 || ftruncate(fd, pages * PAGE)))
		return; /* no hugetlbfs in this kernel */
	p = mmap(NULL, pages * PAGE, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(memory_share((uintptr_t)p, pages * PAGE, &ref), 0);
	ck_assert(ref.readonly);
	ck_assert_uint_eq(inode(ref.fd), inode(fd));
	ck_assert_int_eq(rights(ref.fd), O_RDONLY);
	close(ref.fd);
	munmap(p, pages * PAGE);
	p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	ck_assert_int_eq(memory_share((uintptr_t)p, pages * PAGE, &ref), 0);
	ck_assert_int_eq(rights(ref.fd), O_RDWR);
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	ck_assert_int_eq(lseek(ref.fd, 5 * PAGE, SEEK_SET), 5 * PAGE);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0);
	close(ref.fd);
	close(fd);
	munmap(p, pages * PAGE);
}
END_TEST

/* Passed on by somebody who may open it to a VMM that may not: works all the same, with the VMM's descriptor. */
START_TEST(shared_refused)
{
	int fd = temp_file(20);
	uint8_t *p = mmap(NULL, 20 * PAGE, PROT_READ, MAP_SHARED, fd, 0), *view;
	struct memory_ref ref;
	char name[64];

	ck_assert_int_eq(fchmod(fd, 0), 0);
	if (!geteuid())
		ck_assert_int_eq(setresuid(1234, 1234, 1234), 0);
	prctl(PR_SET_DUMPABLE, 1);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ck_assert_int_eq(open(name, O_RDONLY), -1);
	view = share(p, 20, &ref);
	ck_assert(ref.readonly);
	ck_assert_int_eq(view[PAGE], 0x81);
	ck_assert_uint_eq(inode(ref.fd), inode(fd));
}
END_TEST

START_TEST(shared_anonymous)
{
	uint8_t *p = mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *view;
	struct memory_ref ref;

	memset(p, 0x21, 20 * PAGE);
	view = share(p, 20, &ref);
	ck_assert_mem_eq(view, p, 20 * PAGE);
	view[3] = 0x22;
	ck_assert_int_eq(p[3], 0x22);
	munmap(view, 20 * PAGE);
	close(ref.fd);
	unmap(p, 20);
}
END_TEST

START_TEST(mixed_is_refused)
{
	int fd = memfd_create("test", 0);
	uint8_t *p = map_private(PAGES);
	struct memory_ref ref;

	ck_assert_int_eq(ftruncate(fd, PAGES * PAGE), 0);
	mmap(p + 100 * PAGE, 50 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	p[0] = 0x31;
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), -EINVAL);
	ck_assert_int_eq(p[0], 0x31);
	/* The private part alone is fine; then a slot over converted and other memory is not. */
	ck_assert_int_eq(memory_share((uintptr_t)p, 50 * PAGE, &ref), 0);
	close(ref.fd);
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), -EINVAL);
	unmap(p, PAGES);
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), -EFAULT);
	ck_assert_int_eq(memory_share((uintptr_t)p, 0, &ref), -EINVAL);
	ck_assert_int_eq(memory_share(UINT64_MAX - PAGE + 1, 2 * PAGE, &ref), -EINVAL);
	close(fd);
}
END_TEST

START_TEST(punch_holes)
{
	uint8_t *p = map_private(PAGES), *view;
	struct memory_ref ref;
	bool done;

	memset(p, 0x71, PAGES * PAGE);
	view = share(p, PAGES, &ref);
	ck_assert_uint_eq(pages_used(ref.fd), PAGES);
	ck_assert_int_eq(memory_advise(p + 20 * PAGE, 30 * PAGE, MADV_DONTNEED, &done), 0);
	ck_assert(done);
	ck_assert_uint_eq(pages_used(ref.fd), PAGES - 30);
	ck_assert_int_eq(p[20 * PAGE] | p[49 * PAGE] | view[20 * PAGE], 0);
	ck_assert_int_eq(p[20 * PAGE - 1], 0x71);
	ck_assert_int_eq(p[50 * PAGE], 0x71);
	/* Not ours: the kernel's. */
	ck_assert_int_eq(memory_advise(view, PAGE, MADV_DONTNEED, &done), 0);
	ck_assert(!done);
	memory_advise(p + 1, PAGE, MADV_DONTNEED, &done);
	ck_assert(!done);
	munmap(view, PAGES * PAGE);
	close(ref.fd);
	unmap(p, PAGES);
}
END_TEST

START_TEST(forgets_what_is_unmapped)
{
	uint8_t *p = map_private(PAGES);
	struct memory_ref ref;
	ino_t before;
	bool done;

	memset(p, 0x61, PAGES * PAGE);
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), 0);
	before = inode(ref.fd);
	close(ref.fd);
	/* A new mapping in the middle: two ranges are left of one. */
	memory_forget(p + 50 * PAGE, 50 * PAGE);
	ck_assert_ptr_ne(mmap(p + 50 * PAGE, 50 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			      -1, 0),
			 MAP_FAILED);
	ck_assert_uint_eq(memory_converted, 2);
	memory_advise(p + 60 * PAGE, PAGE, MADV_DONTNEED, &done);
	ck_assert(!done);
	ck_assert_int_eq(memory_share((uintptr_t)p + 120 * PAGE, 10 * PAGE, &ref), 0);
	ck_assert_uint_eq(inode(ref.fd), before);
	ck_assert_uint_eq(ref.offset, 120 * PAGE);
	close(ref.fd);
	ck_assert_int_eq(memory_share((uintptr_t)p + 60 * PAGE, 10 * PAGE, &ref), 0);
	ck_assert_uint_ne(inode(ref.fd), before);
	close(ref.fd);
	/* Unmapped behind our back, as free() does, and something else there now. */
	munmap(p, 50 * PAGE);
	ck_assert_ptr_eq(mmap(p, 50 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), p);
	p[0] = 0x62;
	ck_assert_int_eq(memory_share((uintptr_t)p, 50 * PAGE, &ref), 0);
	ck_assert_uint_ne(inode(ref.fd), before);
	ck_assert_int_eq(p[0], 0x62);
	close(ref.fd);
	unmap(p, PAGES);
	ck_assert_uint_eq(memory_converted, 0);
}
END_TEST

START_TEST(moves)
{
	uint8_t *p = map_private(PAGES), *q;
	struct memory_ref ref;

	memset(p, 0x51, PAGES * PAGE);
	ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), 0);
	close(ref.fd);
	ck_assert_int_eq(memory_mremap_check(p, PAGES * PAGE, 2 * PAGES * PAGE), -ENOMEM);
	ck_assert_int_eq(memory_mremap_check(p, PAGES * PAGE, PAGE), 0);
	q = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_eq(mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	memory_moved(p, PAGES * PAGE, q, PAGES * PAGE);
	ck_assert_uint_eq(memory_converted, 1);
	ck_assert_int_eq(memory_share((uintptr_t)q + 3 * PAGE, 5 * PAGE, &ref), 0);
	ck_assert_uint_eq(ref.offset, 3 * PAGE);
	ck_assert_int_eq(q[3 * PAGE], 0x51);
	close(ref.fd);
	unmap(q, PAGES);
	ck_assert_uint_eq(memory_converted, 0);
}
END_TEST

static bool kernel_says(const char *name, const char *value)
{
	char path[128], text[128] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/mm/transparent_hugepage/%s", name);
	file = fopen(path, "r");
	if (!file)
		return false;
	value = fgets(text, sizeof(text), file) ? strstr(text, value) : NULL;
	fclose(file);
	return value;
}

/* Huge pages are to be asked for where the kernel would have given them. */
START_TEST(huge_as_before)
{
	bool shmem_never = kernel_says("shmem_enabled", "[never]"), always = kernel_says("enabled", "[always]"),
	     advised = kernel_says("enabled", "[madvise]");
	bool want[3] = { shmem_never && always, shmem_never && (always || advised), false };
	static const int advice[3] = { MADV_NORMAL, MADV_HUGEPAGE, MADV_NOHUGEPAGE };

	for (int i = 0; i < 3; i++) {
		uint8_t *p = map_private(PAGES);
		struct memory_ref ref;

		if (madvise(p, PAGES * PAGE, advice[i]))
			ck_assert_int_eq(errno, EINVAL); /* a kernel without huge pages */
		ck_assert_int_eq(memory_share((uintptr_t)p, PAGES * PAGE, &ref), 0);
		ck_assert_int_eq(ref.huge, want[i]);
		close(ref.fd);
		unmap(p, PAGES);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("glue_memory");
	TCase *tc = tcase_create("memory");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tc, anonymous);
	tcase_add_test(tc, untouched_takes_no_memory);
	tcase_add_test(tc, pieces_and_aliases);
	tcase_add_test(tc, neighbours_stay_private);
	tcase_add_test(tc, protection_and_advice_are_kept);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, private_file);
	tcase_add_test(tc, shared_file);
	tcase_add_loop_test(tc, shared_rights, 0, 3);
	tcase_add_test(tc, shared_refused);
	tcase_add_test(tc, shared_anonymous);
	tcase_add_test(tc, mixed_is_refused);
	tcase_add_test(tc, punch_holes);
	tcase_add_test(tc, forgets_what_is_unmapped);
	tcase_add_test(tc, moves);
	tcase_add_test(tc, huge_as_before);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
