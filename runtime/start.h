/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_START_H
#define UMBRA_START_H

#include <stddef.h>

#include "umbra_abi.h"

struct shim;

/* shadow/control.c: serves the glue until it closes its end of the socket. Returns the process's exit status. */
int shadow_main(int control_fd, struct shim *shim);
int shadow_prepare(void); /* makes what can be made without a filter only; 0 or -errno */

/* Opens the device and checks that it speaks our ABI: a descriptor, or -1 and the reason in text. */
int start_open_device(const char *path, struct umbra_info *info, char *text, size_t size);

/* What a failed open() of the device means, in words. */
const char *start_open_error(int error);

#endif
