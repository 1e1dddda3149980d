// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's disk and network (loops.c), both virtio, with drivers as modules in /modules. The guest's first process is all there is. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "loops.h"

#define DISK "/dev/vda"
#define DISK_SIZE (32UL << 20) /* at least */
#define READ_SIZE 4096UL
#define WRITE_SIZE (128UL << 10)
#define STREAM_SIZE (256U << 10)

static char *buffer; /* page-aligned, for O_DIRECT */
static int disk = -1, connection = -1;
static unsigned int answer_size, request_size;

static void load_module(const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/modules/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		err(1, "%s", path);
	close(fd);
}

static void network_up(void)
{
	struct ifreq request = { .ifr_name = "eth0" };
	struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	address->sin_family = AF_INET;
	address->sin_addr.s_addr = inet_addr("10.9.0.2");
	if (fd < 0 || ioctl(fd, SIOCSIFADDR, &request))
		err(1, "eth0");
	address->sin_addr.s_addr = inet_addr("255.255.255.0");
	if (ioctl(fd, SIOCSIFNETMASK, &request) || ioctl(fd, SIOCGIFFLAGS, &request))
		err(1, "eth0");
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		err(1, "eth0");
	close(fd);
}

void io_begin(void)
{
	static const char *const modules[] = { "failover",    "net_failover", "virtio_ring", "virtio",
					       "virtio_mmio", "virtio_blk",   "virtio_net" };

	for (unsigned int i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
		load_module(modules[i]);
	mkdir("/dev", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, "") && access(DISK, F_OK))
		err(1, "/dev");
	for (int i = 0; i < 100 && access(DISK, F_OK); i++)
		usleep(50000);
	if (posix_memalign((void **)&buffer, 4096, STREAM_SIZE))
		errx(1, "memory");
	memset(buffer, 0x5a, STREAM_SIZE);
	network_up();
}

/* ---- disk, past the guest's page cache ---- */

void disk_begin(void)
{
	disk = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk < 0)
		err(1, DISK);
}

void disk_end(void)
{
	close(disk);
}

uint64_t disk_read_loop(unsigned long n)
{
	static uint64_t random = 88172645463325252;
	uint64_t start = loops_now();

	while (n--) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (pread(disk, buffer, READ_SIZE, (off_t)(random % (DISK_SIZE / READ_SIZE) * READ_SIZE)) != READ_SIZE)
			err(1, "read");
	}
	return loops_now() - start;
}

uint64_t disk_write_loop(unsigned long n)
{
	static uint64_t at;
	uint64_t start = loops_now();

	for (; n; n--, at = (at + WRITE_SIZE) % DISK_SIZE)
		if (pwrite(disk, buffer, WRITE_SIZE, (off_t)at) != WRITE_SIZE)
			err(1, "write");
	return loops_now() - start;
}

/* ---- network: peer.c on the other side ---- */

static void connect_for(unsigned int request, unsigned int answer)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(5009),
				       .sin_addr.s_addr = inet_addr("10.9.0.1") };
	uint32_t sizes[2] = { request, answer };
	int one = 1;

	request_size = request;
	answer_size = answer;
	connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection < 0 || setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    connect(connection, (struct sockaddr *)&address, sizeof(address)) ||
	    send(connection, sizes, sizeof(sizes), 0) != sizeof(sizes))
		err(1, "peer");
}

void request_begin(void)
{
	connect_for(1, 1);
}

void send_begin(void)
{
	connect_for(STREAM_SIZE, 1);
}

void receive_begin(void)
{
	connect_for(1, STREAM_SIZE);
}

void network_end(void)
{
	close(connection);
}

uint64_t network_loop(unsigned long n)
{
	uint64_t start = loops_now();

	while (n--)
		if (send(connection, buffer, request_size, 0) != (ssize_t)request_size ||
		    recv(connection, buffer, answer_size, MSG_WAITALL) != (ssize_t)answer_size)
			err(1, "peer");
	return loops_now() - start;
}
