/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MACHINE_LIB_H
#define UMBRA_MACHINE_LIB_H

/*
 * What the machine tests share. They run as root on a machine with the module loaded, in the place of
 * a shadow: straight at the ABI.
 *
 * Each test runs in a process of its own, bounded in time. Its line is one of
 *   ok NAME
 *   not ok NAME: reason
 *   skip NAME: reason
 * and it is not ok either if VMs, vCPUs or pages of the module remain, or the kernel log has a complaint.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exit.h"
#include "umbra_abi.h"

/* ---- guest-physical layout of every guest here ---- */
#define GPA_GDT 0x1000
#define GPA_IDT 0x2000	/* 64-bit gates; vector n goes to GPA_STUBS + 16 * n */
#define GPA_ROOT 0x3000 /* PML4, or the page directory or PDPT of 32-bit modes */
#define GPA_PDPT 0x4000
#define GPA_PD 0x5000 /* gva 0..1 GiB: identity, 2 MiB pages; gva 1..2 GiB: the same again */
#define GPA_PT 0x6000 /* not linked in; gva 0..2 MiB in 4 KiB pages */
#define GPA_TSS 0x7000
#define GPA_STUBS 0x8000
#define GPA_HANDLER 0x9000 /* OUT to PORT_VECTORED, IRETQ */
#define GPA_CODE 0x10000
#define GPA_DATA 0x20000
#define GPA_STACK 0x40000 /* top */
#define GUEST_MEM 0x200000
#define GVA_ALIAS 0x40000000ULL
#define GPA_HOLE 0x1000000ULL /* no region is here unless a test puts one */

#define PORT_VECTORED 0xee
#define PORT_DONE 0xdd

#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_TSS 0x20
#define SEL_USER_CODE64 0x33
#define SEL_USER_DATA 0x3b

enum guest_mode { MODE_LONG64, MODE_REAL, MODE_PROT32, MODE_PAGING32, MODE_PAE, MODE_USER64 };

/* Code written in snippets.S; at[] lists its instructions marked with X, up to a zero entry. */
struct snip_at {
	uint64_t where;
	uint64_t len;
};

struct snippet {
	const unsigned char *start, *end;
	const struct snip_at *at;
};

#define SNIPPET(name)                                                                  \
	({                                                                             \
		extern const unsigned char snip_##name[], snip_##name##_end[];         \
		extern const struct snip_at snip_##name##_at[];                        \
		(struct snippet) { snip_##name, snip_##name##_end, snip_##name##_at }; \
	})

struct vm {
	int dev, fd;
	unsigned char *mem; /* guest-physical 0.. */
	size_t size;
};

struct vcpu {
	int fd;
	struct umbra_run *run;
	struct vm *vm;
	void (*read)(const struct umbra_run *run, struct vmexit *exit); /* the decoder for this hardware */
	struct vmexit exit;						/* vcpu_run fills it in */
};

/* An interrupt frame as the stubs leave it. */
struct frame {
	uint64_t vector, error_code, rip, cs, rflags, rsp, ss;
};

struct test {
	const char *name;
	void (*run)(void);
	unsigned int seconds; /* 0: 60 */
};

/* ---- results ---- */
int run_tests(const char *program, const struct test *tests, size_t count);
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void skip_test(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void die(void) __attribute__((noreturn));

/* check: note the failure and go on. need: end the test. */
#define check(cond, ...)                   \
	do {                               \
		if (!(cond))               \
			fail(__VA_ARGS__); \
	} while (0)
#define need(cond, ...)                    \
	do {                               \
		if (!(cond)) {             \
			fail(__VA_ARGS__); \
			die();             \
		}                          \
	} while (0)

extern unsigned int test_scale; /* per cent */
extern const char *module_path; /* umbra.ko, or NULL */
extern const char *test_only;	/* run only this test, or NULL */
extern int test_list;		/* print names instead of running */
uint64_t scaled(uint64_t n);
uint64_t random_next(uint64_t *state);
long counter_read(const char *name); /* vms, vcpus, pages; -1: no module */
int counters_zero_wait(void);	     /* 0: all zero within a second */
int file_write(const char *path, const char *text);
uint64_t tsc_read(void);
uint64_t time_ms(void);
void cpu_pin(int cpu); /* the calling thread; -1: any CPU */
int cpu_count_online(void);

/* ---- machine ---- */
const struct umbra_info *info(void);
int is_svm(void);
int dev_open(void);
void vm_create(struct vm *vm, size_t size); /* memory of size bytes at gpa 0, slot 0; tables in it */
int vm_region(struct vm *vm, uint32_t slot, uint64_t flags, uint64_t gpa, const void *addr, uint64_t size);
int vm_dirty(struct vm *vm, uint32_t slot, uint64_t first, uint64_t pages, void *bitmap);
void vm_destroy(struct vm *vm);
void *memory_new(size_t size, size_t align); /* private anonymous */

int vcpu_create_fd(struct vm *vm);
void vcpu_create(struct vcpu *vcpu, struct vm *vm);
void vcpu_destroy(struct vcpu *vcpu);
void vcpu_state(struct umbra_run *run, enum guest_mode mode, uint64_t rip);
uint64_t guest_code(struct vm *vm, uint64_t gpa, struct snippet code); /* returns gpa */
void vcpu_load(struct vcpu *vcpu, enum guest_mode mode, struct snippet code);
int vcpu_run(struct vcpu *vcpu);     /* 0 or -errno */
void vcpu_decode(struct vcpu *vcpu); /* after a RUN by other means */
int vcpu_kick(struct vcpu *vcpu);
uint32_t vcpu_exit(struct vcpu *vcpu); /* RUN until another reason than INTERRUPTED */
void vcpu_skip(struct vcpu *vcpu);     /* past the instruction that exited */
unsigned int insn_length(struct vcpu *vcpu);
void vcpu_expect(struct vcpu *vcpu, uint32_t reason, const char *what); /* vcpu_exit and need() that reason */
void vcpu_expect_io(struct vcpu *vcpu, uint16_t port, const char *what);
void vcpu_expect_vector(struct vcpu *vcpu, unsigned int vector, struct frame *frame, const char *what);
void vcpu_iret(struct vcpu *vcpu); /* after vcpu_expect_vector: RSP to the frame, RIP to the IRETQ */
const char *exit_name(uint32_t reason);
const char *vcpu_describe(struct vcpu *vcpu);

/* A fresh guest with one vCPU in one call; the VM and vCPU live as long as the test's process. */
struct guest {
	struct vm vm;
	struct vcpu vcpu;
};
void guest_new(struct guest *guest, enum guest_mode mode, struct snippet code);

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* programs */
int smoke_main(void);
int negative_main(void);
int exits_main(void);
int oracle_main(int argc, char **argv);
int fpu_main(void);
int kick_main(void);
int memory_main(void);
int life_main(void);
int hoststate_main(void);

#endif
