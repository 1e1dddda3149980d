/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_TEST_CHANNEL_FDS_H
#define UMBRA_TEST_CHANNEL_FDS_H

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "channel.h"

/* channel_send() as a VMM needs it: with descriptors, which a shadow never sends. They stay open. */
static inline int channel_send_fds(int fd, const struct channel_msg *msg, const void *payload, size_t size,
				   const int *fds, int nfds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct channel_msg head = *msg;
	struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)payload, size } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = size ? 2 : 1 };
	struct cmsghdr *cmsg;
	ssize_t sent;

	if (size > CHANNEL_PAYLOAD_MAX || nfds < 0 || nfds > CHANNEL_FDS_MAX)
		return -EMSGSIZE;
	head.version = CHANNEL_VERSION;
	head.size = size;
	if (nfds) {
		memset(&control, 0, sizeof(control));
		hdr.msg_control = &control;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * nfds);
	}
	do
		sent = sendmsg(fd, &hdr, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

#endif
