/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_CHANNEL_IO_H
#define UMBRA_CHANNEL_IO_H

#include <stddef.h>

#include "channel.h"

/*
 * One message of channel.h over its SOCK_SEQPACKET socket. Blocking; EINTR is handled inside.
 * Every descriptor that arrives is O_CLOEXEC.
 */

/*
 * Sends one packet: *msg (version and size are filled in here) and the payload. By writev(), so that a shadow, which has no
 * descriptor to give, needs no call that could; who calls it ignores SIGPIPE.
 * 0, or -EMSGSIZE (payload too large), or the socket's errno (-EPIPE: the other side is gone).
 */
int channel_send(int fd, const struct channel_msg *msg, const void *payload, size_t size);

/*
 * Receives one packet. payload: room for CHANNEL_PAYLOAD_MAX bytes; fds: room for CHANNEL_FDS_MAX.
 * 1: *msg, payload and fds (*nfds of them, the caller's to close) hold a whole message: version right,
 *    msg->size equal to the bytes that came, kind in range.
 * 0: the other side has closed.
 * -EBADMSG: a malformed packet (*msg: its header as far as it came, zero behind); its descriptors are closed.
 *    The channel itself still works.
 * other -errno: the socket failed.
 */
int channel_receive(int fd, struct channel_msg *msg, void *payload, int *fds, int *nfds);

/* CHANNEL_DEATH by write() alone: async-signal-safe, allowed to every thread by its policy. Errors are ignored. */
void channel_death(int fd, const char *text);

#endif
