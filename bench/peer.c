// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * peer ADDRESS PORT: what a guest's network loops (io.c) talk to. Each connection begins with two 32-bit numbers: so many bytes make
 * a request, so many an answer. A process a connection.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

static char buf[1 << 16];

static void serve(int fd)
{
	uint32_t sizes[2];

	if (recv(fd, sizes, sizeof(sizes), MSG_WAITALL) != sizeof(sizes))
		return;
	for (;;) {
		for (uint32_t left = sizes[0]; left;) {
			ssize_t got = recv(fd, buf, left < sizeof(buf) ? left : sizeof(buf), 0);

			if (got <= 0)
				return;
			left -= (uint32_t)got;
		}
		for (uint32_t left = sizes[1]; left;) {
			ssize_t put = send(fd, buf, left < sizeof(buf) ? left : sizeof(buf), MSG_NOSIGNAL);

			if (put <= 0)
				return;
			left -= (uint32_t)put;
		}
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (argc != 3 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
		errx(2, "usage: peer ADDRESS PORT");
	address.sin_port = htons((uint16_t)atoi(argv[2]));
	signal(SIGCHLD, SIG_IGN);
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 8))
		err(1, "port %s", argv[2]);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			err(1, "accept");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve(fd);
			_exit(0);
		}
		close(fd);
	}
}
