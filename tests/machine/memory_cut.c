// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A KVM client for "umbra run --": it cuts the file of its guest's memory short just before the hypervisor itself writes there (an
 * INS is completed). KVM_RUN says so in an orderly way, once, then fails; another VM of this process is none the worse.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE 0x1000
#define CUT 0x10000 /* guest-physical: the memory whose file goes */
#define SIZE 0x10000

static void need(int ok, const char *what)
{
	if (!ok) {
		printf("FAILED %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

struct guest {
	int vm, vcpu;
	struct kvm_run *run;
};

static int slot_set(const struct guest *g, uint32_t slot, uint64_t gpa, void *memory)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = SIZE, .userspace_addr = (uintptr_t)memory
	};

	return ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* In real mode; ES is what an INS at 0 puts into memory of the file. */
static struct guest guest_new(int kvm, int file)
{
	static const uint8_t code[] = {
		0xba, 0x60, 0x00, 0x31, 0xff, 0x6c, 0xf4
	}; /* mov dx, 60h; xor di, di; insb; hlt */
	uint8_t *ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *cut = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	struct guest g = { .vm = ioctl(kvm, KVM_CREATE_VM, 0) };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	need(g.vm >= 0 && ram != MAP_FAILED && cut != MAP_FAILED, "VM and memory");
	memcpy(ram + CODE, code, sizeof(code));
	need(!slot_set(&g, 0, 0, ram) && !slot_set(&g, 1, CUT, cut), "slots");
	g.vcpu = ioctl(g.vm, KVM_CREATE_VCPU, 0);
	need(g.vcpu >= 0, "vCPU");
	g.run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, g.vcpu, 0);
	need(g.run != MAP_FAILED && !ioctl(g.vcpu, KVM_GET_SREGS, &sregs), "vCPU's area and registers");
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.es.base = CUT;
	sregs.es.selector = CUT >> 4;
	need(!ioctl(g.vcpu, KVM_SET_SREGS, &sregs) && !ioctl(g.vcpu, KVM_SET_REGS, &regs), "registers");
	return g;
}

/* Up to its INS, which gets a byte. */
static void guest_start(const struct guest *g)
{
	need(!ioctl(g->vcpu, KVM_RUN, 0) && g->run->exit_reason == KVM_EXIT_IO && g->run->io.port == 0x60, "INS");
	*((uint8_t *)g->run + g->run->io.data_offset) = 0x5a;
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), file[2];
	struct guest cut, other;
	uint8_t byte = 0;

	for (int i = 0; i < 2; i++) {
		file[i] = memfd_create("guest", MFD_CLOEXEC);
		need(file[i] >= 0 && !ftruncate(file[i], SIZE), "memfd");
	}
	need(kvm >= 0, "/dev/kvm");
	cut = guest_new(kvm, file[0]);
	other = guest_new(kvm, file[1]);
	guest_start(&cut);
	need(!ftruncate(file[0], 0), "ftruncate");
	need(!ioctl(cut.vcpu, KVM_RUN, 0), "the run after the cut");
	need(cut.run->exit_reason == KVM_EXIT_INTERNAL_ERROR, "its exit is KVM_EXIT_INTERNAL_ERROR");
	need(ioctl(cut.vcpu, KVM_RUN, 0) == -1 && errno == EIO, "EIO from the next one");
	guest_start(&other);
	need(!ioctl(other.vcpu, KVM_RUN, 0) && other.run->exit_reason == KVM_EXIT_HLT, "the other guest's end");
	need(pread(file[1], &byte, 1, 0) == 1 && byte == 0x5a, "the other guest's memory");
	printf("DONE\n");
	return 0;
}
