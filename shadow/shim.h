/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_SHIM_H
#define UMBRA_SHIM_H

#include "exit.h"
#include "umbra_abi.h"

/*
 * How the shadow reaches the shim. shim_dev.c has the real one; tests/unit/fake_shim.c plays scripted exits.
 * Every call returns >= 0 or a negative errno.
 */
struct shim;

struct shim_ops {
	int (*info)(struct shim *shim, struct umbra_info *info);
	int (*create_vm)(struct shim *shim); /* once a shim; the VM descriptor stays inside */
	int (*set_region)(struct shim *shim, const struct umbra_region *region);
	int (*get_dirty)(struct shim *shim, const struct umbra_dirty *dirty);
	int (*create_vcpu)(struct shim *shim, struct umbra_run **run, void **vapic); /* returns its fd */
	/* A vCPU that never ran and that no other thread knows. run and vapic are gone after it. */
	void (*destroy_vcpu)(struct shim *shim, int vcpu_fd, struct umbra_run *run);
	int (*run)(struct shim *shim, int vcpu_fd); /* called on the vCPU thread only: no libc, no vector registers */
	/* What RUN came back with; the same thread, the same rules. NULL: exit_read_vmx. */
	void (*exit_read)(const struct umbra_run *run, struct vmexit *exit);
	int (*kick)(struct shim *shim, int vcpu_fd); /* any thread */
};

struct shim {
	const struct shim_ops *ops;
	int dev_fd;
	int vm_fd;
};

/* Takes over an open /dev/umbra. */
void shim_dev_init(struct shim *shim, int dev_fd);

#endif
