/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_POLICY_H
#define UMBRA_POLICY_H

#include <linux/filter.h>

/* A compiled policy; defined in the C file that policyc writes. */
struct policy {
	const char *name;
	const struct sock_filter *filter;
	unsigned short count; /* instructions */
};

extern const struct policy policy_control, policy_event, policy_vcpu, policy_waiter;

/* "unknown" for a number that has no name. Async-signal-safe. */
const char *policy_syscall_name(unsigned int nr);

#endif
