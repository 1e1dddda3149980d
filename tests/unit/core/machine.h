/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef MACHINE_H
#define MACHINE_H

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fake_shim.h"

/* One VM with one vCPU on the fake shim: 32-bit flat protected mode, code at CODE, RAM in slot 0, ROM in slot 1. */
#define RAM_SIZE (64 * 4096ULL)
#define ROM_GPA 0x100000ULL
#define ROM_SIZE (4 * 4096ULL)
#define DEVICE 0xd0000000ULL
#define CODE 0x1000ULL

struct machine {
	struct fake_shim fake;
	struct vm vm;
	struct vcpu *vcpu;
	struct umbra_run *run;
	struct kvm_run *kvm;
	uint8_t *ram, *rom; /* the VMM's own mappings */
};

extern struct machine m;

void machine_start(bool split_irqchip);
void machine_start_svm(bool split_irqchip);
void machine_code(const void *code, size_t len); /* at CODE, and rip there */
int64_t machine_memory(const struct channel_memory *arg, int fd);
int machine_memfd(uint64_t size, uint8_t **map);
/* Runs and expects KVM_RUN to give ret and, with ret 0, this exit reason. */
void machine_run(int ret, uint32_t exit_reason);
/* The event handed over at entry n. */
void machine_injected(unsigned int n, uint8_t type, uint8_t vector);
void machine_injected_code(unsigned int n, uint8_t vector, uint32_t code);
void machine_injected_none(unsigned int n);

Suite *suite_exits(void);
Suite *suite_memory(void);
Suite *suite_resume(void);
Suite *suite_state(void);
Suite *suite_inject(void);
Suite *suite_slots(void);
Suite *suite_control(void);
Suite *suite_run(void);
Suite *suite_svm(void);
Suite *suite_pv(void);
Suite *suite_irqchip(void);

#endif
