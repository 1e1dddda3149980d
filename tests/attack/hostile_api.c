// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hostile-api SEED SECONDS, for "umbra run --": calls of the KVM API through the glue, in any order, on the right and the wrong
 * descriptors, closed ones among them, with huge counts and arguments that point nowhere. Each returns; none ends this process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostile.h"
#include "kvm_calls.h"

#define BUFFER (1 << 20) /* larger than any count that is used makes a call read */

static void fill(unsigned char *buffer)
{
	memset(buffer, rnd() & 7 ? 0 : 0xff, 8192);
	for (int n = (int)(rnd() % 24); n; n--) {
		uint32_t v = rnd() & 1 ? (uint32_t)(rnd() % 64) : (uint32_t)rnd();

		memcpy(buffer + rnd() % (rnd() & 1 ? 64 : 4096), &v, 4);
	}
	if (rnd() & 1) {
		uint32_t count = (uint32_t[]) { 0, 1, 2, 80, 256, 4096 }[rnd() % 6];

		memcpy(buffer, &count, 4);
	}
}

int main(int argc, char **argv)
{
	unsigned long calls_made = 0, errors = 0;
	unsigned char *buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = { .memory_size = 2 << 20, .userspace_addr = (uintptr_t)memory };
	uint64_t end, slowest = 0;
	int fd[6], kvm;

	if (argc != 3 || buffer == MAP_FAILED || memory == MAP_FAILED)
		return 2;
	seed_set(argv[1]);
	end = now_ms() + strtoull(argv[2], NULL, 0) * 1000;
	while (now_ms() < end) {
		kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
		if (kvm < 0) {
			printf("FAILED open: %s\n", strerror(errno));
			return 1;
		}
		fd[0] = kvm;
		fd[1] = ioctl(kvm, KVM_CREATE_VM, 0);
		if (rnd() & 1)
			ioctl(fd[1], KVM_CREATE_IRQCHIP, 0);
		ioctl(fd[1], KVM_SET_USER_MEMORY_REGION, &slot);
		fd[2] = ioctl(fd[1], KVM_CREATE_VCPU, 0);
		fd[3] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		fd[4] = dup(fd[1]);
		fd[5] = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd[1] < 0 || fd[2] < 0) {
			printf("FAILED VM %d, vCPU %d: %s\n", fd[1], fd[2], strerror(errno));
			return 1;
		}
		for (int i = 0; i < 300 && now_ms() < end; i++) {
			size_t n = rnd() % CALLS;
			int on = n < VM_CALLS ? fd[0] : n < VCPU_CALLS ? fd[1] : fd[2], r;
			void *arg = buffer;
			uint64_t start = now_ms();

			if (!(rnd() % 8))
				on = rnd() & 7 ? fd[rnd() % 6] : (int)rnd();
			if (calls[n] == KVM_RUN || calls[n] == KVM_SET_USER_MEMORY_REGION ||
			    calls[n] == KVM_SET_SIGNAL_MASK)
				continue; /* blocks; is the glue's; is the kernel's */
			fill(buffer);
			if (!(rnd() % 16))
				arg = (void *)(uintptr_t)(rnd() % 300); /* a number, or a pointer to nothing */
			r = ioctl(on, calls[n], arg);
			calls_made++;
			errors += r < 0;
			if (r > 2 && r < 1024 &&
			    (calls[n] == KVM_CREATE_VM || calls[n] == KVM_CREATE_VCPU || calls[n] == KVM_GET_STATS_FD))
				close(r);
			if (now_ms() - start > slowest)
				slowest = now_ms() - start;
		}
		for (int i = 0; i < 6; i++) /* in any order */
			close(fd[(i * 5 + (int)(seed % 6)) % 6]);
	}
	printf("DONE %lu calls, %lu errors, the slowest %llu ms\n", calls_made, errors, (unsigned long long)slowest);
	return slowest > 20000;
}
