/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_GLUE_SPAWN_H
#define UMBRA_GLUE_SPAWN_H

#include <sys/types.h>

/* Starts umbra-shadow with the socket as its descriptor 3: the pid, or a negative errno with a line said. */
pid_t spawn_shadow(int sock);

#endif
