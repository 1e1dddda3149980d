// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Debugs modes.S through QEMU's gdbstub, which speaks GDB's remote protocol:
 *   gdb-client PORT BREAK SECOND WATCH STORED VALUE breakpoints|steps      (addresses, hexadecimal)
 * With "steps" it gets to each place in single steps: QEMU's TCG emulates an SVM that intercepts no INT3 and gives a
 * nested guest no debug registers that work. Each step prints what it found, on any hypervisor the same.
 */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REG_RCX 2
#define REG_RDX 3
#define REG_RIP 16

static int sock;
static char reply[8192];
static int with_breakpoints;

static void die(const char *why)
{
	printf("gdb: %s\n", why);
	exit(1);
}

static void connect_stub(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 0; i < 300; i++) {
		sock = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(sock, (struct sockaddr *)&to, sizeof(to)))
			return;
		close(sock);
		usleep(200000);
	}
	die("no connection");
}

static char get_char(void)
{
	char c;

	if (read(sock, &c, 1) != 1)
		die("the stub is gone");
	return c;
}

static void put(const char *data)
{
	char packet[512];
	uint8_t sum = 0;
	int len;

	for (const char *p = data; *p; p++)
		sum += (uint8_t)*p;
	len = snprintf(packet, sizeof(packet), "$%s#%02x", data, sum);
	if (write(sock, packet, (size_t)len) != len)
		die("cannot write");
	while (get_char() != '+')
		;
}

static void get(void)
{
	size_t len = 0;
	char c;

	while (get_char() != '$')
		;
	while ((c = get_char()) != '#')
		if (len < sizeof(reply) - 1)
			reply[len++] = c;
	reply[len] = 0;
	get_char();
	get_char();
	if (write(sock, "+", 1) != 1)
		die("cannot write");
}

static const char *ask(const char *format, ...)
{
	char data[256];
	va_list args;

	va_start(args, format);
	vsnprintf(data, sizeof(data), format, args);
	va_end(args);
	put(data);
	get();
	return reply;
}

static uint64_t reg(int nr)
{
	uint64_t value = 0;
	const char *hex;

	ask("g"); /* with KVM only this fetches registers; "p" tells what was fetched last */
	hex = ask("p%x", nr);

	for (int i = 0; i < 8 && hex[2 * i]; i++) {
		unsigned int byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			die("no register");
		value |= (uint64_t)byte << (8 * i);
	}
	return value;
}

static void stopped(const char *after, uint64_t expected)
{
	uint64_t rip = reg(REG_RIP);

	if (rip == expected)
		printf("gdb: %s\n", after);
	else
		printf("gdb: %s: at %llx, not %llx\n", after, (unsigned long long)rip, (unsigned long long)expected);
}

static void must(const char *what, const char *answer)
{
	if (strcmp(answer, "OK"))
		printf("gdb: %s: '%s'\n", what, answer);
}

/* To an address: by a breakpoint of the type (0 software, 1 hardware), or in single steps. */
static void run_to(const char *what, uint64_t address, int type)
{
	if (with_breakpoints) {
		must("set breakpoint", ask("Z%d,%llx,1", type, (unsigned long long)address));
		ask("c");
	} else {
		for (int i = 0; i < 100; i++) {
			ask("s");
			if (reg(REG_RIP) == address)
				break;
		}
	}
	stopped(what, address);
	if (with_breakpoints)
		must("remove breakpoint", ask("z%d,%llx,1", type, (unsigned long long)address));
}

/* Breaks in until the program is there. */
static void interrupt_at(uint64_t from, uint64_t to)
{
	for (int i = 0; i < 200; i++) {
		uint64_t rip;

		sleep(1);
		if (write(sock, "\003", 1) != 1)
			die("cannot write");
		get();
		rip = reg(REG_RIP);
		if (rip >= from && rip < to) {
			printf("gdb: interrupted\n");
			return;
		}
		put("c");
	}
	die("the program does not start");
}

int main(int argc, char **argv)
{
	uint64_t at[5];
	uint64_t rdx;

	if (argc != 8)
		return 2;
	with_breakpoints = !strcmp(argv[7], "breakpoints");
	for (int i = 0; i < 5; i++)
		at[i] = strtoull(argv[2 + i], NULL, 16);
	setvbuf(stdout, NULL, _IOLBF, 0);
	connect_stub(atoi(argv[1]));
	ask("qXfer:features:read:target.xml:0,fff"); /* only then single registers can be read */
	ask("?");
	stopped("reset vector", 0xfff0);

	/* A breakpoint of before SeaBIOS loads the program would be overwritten: the program waits in a loop. */
	put("c");
	interrupt_at(at[1] - 0x1000, at[1]);
	must("write memory", ask("M%llx,4:01000000", (unsigned long long)at[4]));
	run_to(with_breakpoints ? "breakpoint" : "steps to the loop", at[0], 1);
	rdx = reg(REG_RDX);
	ask("s");
	stopped("step", at[0] + 1);
	ask("s");
	stopped("step", at[0] + 4);
	printf("gdb: rdx + %llu, rcx %llu\n", (unsigned long long)(reg(REG_RDX) - rdx),
	       (unsigned long long)reg(REG_RCX));

	for (int i = 0; i < 3; i++) {
		run_to(with_breakpoints ? "software breakpoint" : "steps to its end", at[1], 0);
		printf("gdb: rcx %llu\n", (unsigned long long)reg(REG_RCX));
		ask("s"); /* over it, as GDB does */
		stopped("step over it", at[1] + 1);
	}
	run_to("loop done", at[2], 0);
	printf("gdb: rcx %llu\n", (unsigned long long)reg(REG_RCX));

	if (with_breakpoints) {
		must("set watchpoint", ask("Z2,%llx,4", (unsigned long long)at[4]));
		ask("c");
		printf("gdb: %s\n", strstr(reply, "watch:") ? "watchpoint told" : reply);
		stopped("watchpoint", at[3]);
		must("remove it", ask("z2,%llx,4", (unsigned long long)at[4]));
	} else {
		ask("s");
		stopped("stored", at[3]);
	}
	printf("gdb: value %s\n", ask("m%llx,4", (unsigned long long)at[4]));
	must("write a register", ask("P%x=%s", REG_RDX, "7856341200000000"));
	printf("gdb: rdx %llx\n", (unsigned long long)reg(REG_RDX));
	must("detach", ask("D"));
	printf("gdb: done\n");
	return 0;
}
