/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_WAITER_H
#define UMBRA_WAITER_H

/*
 * The waiter's life, already without privileges and under its policy: waits until the shadow (pidfd) ends, or the glue's
 * end of the socket is closed, or the VMM (peer_pidfd; -1: not known) ends. In the latter cases the shadow gets a moment to end by
 * itself, then SIGKILL. A shadow killed by a signal is reported as CHANNEL_DEATH. Ends with the shadow's status.
 */
_Noreturn void waiter_run(int pidfd, int control_fd, int peer_pidfd);

#endif
