/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_ATTACK_H
#define UMBRA_ATTACK_H

/*
 * Attacks on the shim: processes that take the place of a shadow. While one of them runs, a second guest (the witness)
 * computes checksums in a process of its own, and watchers, one a CPU, look at everything of the host that a process can see.
 * What they find fails the attack's test.
 */

#include "../machine/lib.h"

#define PAGE UMBRA_PAGE_SIZE
#define LONG 20000 /* milliseconds that nothing takes, on a slow machine either */

void watch_init(void);	/* once, before anything else: how the host is when nothing has happened yet */
void watch_begin(void); /* starts witness and watchers, and sees them do a round */
void watch_end(void);	/* sees each of them do another round, and ends them */

/* The CPU that attacks take offline, in no other way: its watcher has to know. */
#define HOTPLUG_CPU 1
#define HOTPLUG_PATH "/sys/devices/system/cpu/cpu1/online"
int hotplug_set(int online); /* 0 or -errno */

/* A test body that runs under watch. */
#define ATTACK(name)                   \
	static void name##_body(void); \
	static void name(void)         \
	{                              \
		watch_begin();         \
		name##_body();         \
		watch_end();           \
	}                              \
	static void name##_body(void)

/* RUN until an exit that is not INTERRUPTED, for ms milliseconds at most; then its reason is DEADLINE. */
uint32_t run_bounded(struct vcpu *vcpu, unsigned int ms);
void run_good(struct vcpu *vcpu, const struct umbra_run *base, const char *after); /* the vCPU still works */
pid_t child_new(void); /* fork; the child dies with its parent */
void child_kill(pid_t pid);
int child_wait(pid_t pid, unsigned int ms); /* its status; -1: it does not end */
int fds_send(int socket, const int *fds, int count);
int fds_receive(int socket, int *fds, int count);
uint64_t cpu_time_us(pid_t pid); /* user and system time of a process */

int s1_main(void);
int s2_main(void);
int s3_main(void);
int s4_main(void);
int s5_main(void);
int s6_main(void);
int s7_main(void);
int s8_main(void);
int s9_main(void);
int s10_main(void);

#endif
