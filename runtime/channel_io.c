/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "channel_io.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define DEATH_TEXT_MAX 512

int channel_send(int fd, const struct channel_msg *msg, const void *payload, size_t size)
{
	struct channel_msg head = *msg;
	struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)payload, size } };
	ssize_t sent;

	if (size > CHANNEL_PAYLOAD_MAX)
		return -EMSGSIZE;
	head.version = CHANNEL_VERSION;
	head.size = size;
	do
		sent = writev(fd, iov, size ? 2 : 1);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0; /* a packet goes whole or not at all */
}

/* Takes over every descriptor that came, wanted or not. False: something else than a few descriptors was there. */
static bool collect_fds(struct msghdr *hdr, int *fds, int *nfds)
{
	bool ok = !(hdr->msg_flags & MSG_CTRUNC);
	struct cmsghdr *cmsg;

	*nfds = 0;
	for (cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
			ok = false;
			continue;
		}
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (*nfds < CHANNEL_FDS_MAX) {
				fds[(*nfds)++] = fd;
			} else {
				close(fd);
				ok = false;
			}
		}
	}
	return ok;
}

static bool message_whole(const struct channel_msg *msg, size_t bytes)
{
	return bytes >= sizeof(*msg) && msg->version == CHANNEL_VERSION && msg->kind >= CHANNEL_HELLO &&
	       msg->kind <= CHANNEL_DEATH && msg->size == bytes - sizeof(*msg);
}

int channel_receive(int fd, struct channel_msg *msg, void *payload, int *fds, int *nfds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov[2] = { { msg, sizeof(*msg) }, { payload, CHANNEL_PAYLOAD_MAX } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t bytes;
	bool ok;

	*nfds = 0;
	memset(msg, 0, sizeof(*msg));
	do {
		hdr.msg_control = &control;
		hdr.msg_controllen = sizeof(control);
		bytes = recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC);
	} while (bytes < 0 && errno == EINTR);
	if (bytes < 0)
		return -errno;

	ok = collect_fds(&hdr, fds, nfds) && !(hdr.msg_flags & MSG_TRUNC);
	if (ok && message_whole(msg, bytes))
		return 1;
	while (*nfds)
		close(fds[--*nfds]);
	/* An empty packet cannot be told from the end; nobody has a reason to send one. */
	return bytes ? -EBADMSG : 0;
}

void channel_death(int fd, const char *text)
{
	struct {
		struct channel_msg msg;
		char text[DEATH_TEXT_MAX];
	} packet;
	size_t size = strnlen(text, DEATH_TEXT_MAX);

	if (fd < 0)
		return;
	memset(&packet.msg, 0, sizeof(packet.msg));
	packet.msg.version = CHANNEL_VERSION;
	packet.msg.kind = CHANNEL_DEATH;
	packet.msg.size = size;
	memcpy(packet.text, text, size);
	if (write(fd, &packet, sizeof(packet.msg) + size) < 0)
		return; /* nobody listens any more */
}
