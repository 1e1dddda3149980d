// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hostile-vmm MODE SEED SECONDS: a VMM that means ill, against real shadows.
 *   channel   packets on the control channel: malformed ones, wrong sizes, every call in any order, huge counts, foreign descriptors
 *   pages     the shared pages of a vCPU (kvm_run, coalesced ring, doorbell, payload) change all the time while its guest runs
 * A shadow may answer with an errno or end with a message. It must not hang, nor crash, nor break its policy.
 */
#define _GNU_SOURCE
#include "../unit/channel_fds.h"
#include "channel_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"
#include "kvm_calls.h"
#include "umbra_abi.h"

#define SHADOW "/usr/libexec/umbra/umbra-shadow"
#define PATIENCE 20000 /* ms for any answer */

struct session {
	pid_t pid;
	int sock;
	int dead;
};

static unsigned long answers, errors, deaths, sessions;
static unsigned char payload[CHANNEL_PAYLOAD_MAX], reply[CHANNEL_PAYLOAD_MAX];
static char last_message[1100], last_sent[200];

static void failed(const char *what)
{
	printf("FAILED %s; last sent: %s; last words: %s\n", what, last_sent, last_message);
	fflush(stdout);
	exit(1);
}

/* ---- numbers that are worth trying ---- */

static uint64_t nasty(void)
{
	static const uint64_t values[] = {
		0,
		1,
		2,
		3,
		4,
		7,
		8,
		15,
		16,
		63,
		64,
		65,
		127,
		128,
		255,
		256,
		4095,
		4096,
		4097,
		0xfee00000,
		0xfec00000,
		0xe0000000,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x100000000,
		0xffffffff000,
		0x7ffffffff000,
		0x800000000000,
		1ULL << 52,
		1ULL << 63,
		~0ULL,
		~0ULL - 4095,
		0x7fffffffffffffff,
	};

	switch (rnd() % 4) {
	case 0:
		return rnd();
	case 1:
		return rnd() % 1024;
	default:
		return values[rnd() % (sizeof(values) / sizeof(values[0]))];
	}
}

static void payload_random(size_t size)
{
	size_t i;

	switch (rnd() % 5) {
	case 0:
		memset(payload, 0, size);
		break;
	case 1:
		memset(payload, 0xff, size);
		break;
	case 2:
		for (i = 0; i < size; i++)
			payload[i] = (unsigned char)rnd();
		break;
	default: /* words; mostly zero */
		memset(payload, 0, size);
		for (i = 0; i + 8 <= size; i += 8) {
			uint64_t v = rnd() % 3 ? 0 : nasty();

			if (rnd() & 1)
				v = (v & 0xffffffff) | nasty() << 32;
			memcpy(payload + i, &v, 8);
			if (i > 512 && rnd() % 8)
				break;
		}
	}
	if (size >= 8 && rnd() & 1) { /* the last of what makes sense: small numbers */
		for (i = 0; i + 4 <= size && i < 256; i += 4) {
			uint32_t v = rnd() % 4 ? 0 : (uint32_t)(rnd() % 32);

			memcpy(payload + i, &v, 4);
		}
	}
	if (size >= 8 && rnd() & 1) { /* a count or a flag in front */
		uint32_t v = (uint32_t)nasty();

		memcpy(payload, &v, 4);
		v = rnd() & 1 ? 0 : v;
		memcpy(payload + 4, &v, 4);
	}
}

/* From the first on so many of them: SYSTEM, VM, or all. */
static uint32_t call_number(size_t from, size_t count)
{
	uint32_t nr = calls[from + rnd() % count];

	switch (rnd() % 10) {
	case 0:
		return (uint32_t)rnd();
	case 1:
		return nr ^ (uint32_t)(1u << rnd() % 32);
	case 2:
		return 0xae00 | (uint32_t)(rnd() & 0xff);
	}
	return nr;
}

/* A shadow takes only memory that cannot be cut off. */
static int sealed_memfd(const char *name, off_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		failed("memfd");
	return fd;
}

/* ---- descriptors of every kind, most of them the wrong ones ---- */

#define POOL 12
static int pool[POOL];

static void pool_make(int sock)
{
	struct umbra_create_vm vm = { 0 };
	int i, p[2];

	for (i = 0; i < POOL; i++)
		if (pool[i] > 0)
			close(pool[i]);
	pool[0] = sealed_memfd("memory", 64 << 12);
	for (i = 1; i < 3; i++) {
		pool[i] = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (ftruncate(pool[i], (off_t[]) { 0, 1 << 20, 1LL << 34 }[i]))
			perror("ftruncate");
	}
	pool[3] = sealed_memfd("right", CHANNEL_VCPU_SIZE);
	pool[4] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pool[5] = eventfd(~0u, EFD_CLOEXEC); /* full soon, and blocking */
	if (pipe2(p, O_CLOEXEC))
		perror("pipe");
	pool[6] = p[0];
	pool[7] = p[1];
	pool[8] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pool[9] = dup(sock);
	pool[10] = open("/dev/umbra", O_RDWR | O_CLOEXEC);
	pool[11] = pool[10] >= 0 ? ioctl(pool[10], UMBRA_CREATE_VM, &vm) : -1;
	if (pool[11] < 0)
		pool[11] = open("/dev/zero", O_RDWR | O_CLOEXEC);
}

/* ---- sessions ---- */

static int wait_ready(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, PATIENCE);
	while (n < 0 && errno == EINTR);
	return n;
}

/* 1: a reply; 0: the shadow is gone, with a message or without. */
static int receive(struct session *s, struct channel_msg *msg)
{
	int fds[CHANNEL_FDS_MAX], nfds = 0, got;

	if (wait_ready(s->sock) <= 0)
		failed("the shadow hangs: no answer");
	got = channel_receive(s->sock, msg, reply, fds, &nfds);
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
	if (got == 1 && msg->kind == CHANNEL_DEATH) {
		snprintf(last_message, sizeof(last_message), "%.*s", (int)(msg->size > 1024 ? 1024 : msg->size),
			 (char *)reply);
		s->dead = 1;
		return 0;
	}
	if (got == -EBADMSG)
		failed("the shadow's answer is malformed");
	if (got <= 0) {
		s->dead = 1;
		return 0;
	}
	answers++;
	errors += msg->ret < 0;
	if (msg->ret < -4095)
		failed("a result that is no errno");
	return 1;
}

static void session_start(struct session *s)
{
	struct channel_msg msg;
	int pair[2];

	memset(s, 0, sizeof(*s));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		failed("socketpair");
	fflush(stdout);
	s->pid = fork();
	if (!s->pid) {
		setpgid(0, 0);
		dup2(pair[1], 3);
		fcntl(3, F_SETFD, 0);
		closefrom(4);
		execl(SHADOW, "umbra-shadow", "--fd", "3", NULL);
		_exit(127);
	}
	close(pair[1]);
	s->sock = pair[0];
	last_message[0] = 0;
	if (!receive(s, &msg) || msg.kind != CHANNEL_HELLO)
		failed("no hello");
	sessions++;
	pool_make(s->sock);
}

/* The socket closes: the shadow ends soon, and not by a signal. */
static void session_end(struct session *s)
{
	uint64_t end = now_ms() + PATIENCE;
	int status;

	for (int i = 0; i < POOL; i++) /* one of them is the socket */
		if (pool[i] > 0)
			close(pool[i]);
	memset(pool, 0, sizeof(pool));
	close(s->sock);
	while (waitpid(s->pid, &status, WNOHANG) == 0) {
		if (now_ms() > end)
			failed("the shadow does not end when its socket is closed");
		usleep(2000);
	}
	if (s->dead) {
		deaths++;
		printf("a shadow ended (%x): %s; after: %s\n", status, last_message, last_sent);
		if (!last_message[0])
			failed("the shadow ended without a word");
		if (strstr(last_message, "signal") || strstr(last_message, "forbidden") ||
		    strstr(last_message, "system call"))
			failed("the shadow crashed, or broke its policy");
	} else if (WIFSIGNALED(status) || WEXITSTATUS(status) >= 128) {
		printf("status %x\n", status);
		failed("the shadow was ended by a signal");
	}
}

static int transact(struct session *s, struct channel_msg *msg, size_t size, const int *fds, int nfds)
{
	int error;

	snprintf(last_sent, sizeof(last_sent), "kind %u nr %x arg %llx size %zu fds %d", msg->kind, msg->nr,
		 (unsigned long long)msg->arg, size, nfds);
	error = channel_send_fds(s->sock, msg, payload, size, fds, nfds);
	if (error == -EPIPE || error == -ECONNRESET)
		return receive(s, msg); /* its last words */
	if (error)
		return 1;
	return receive(s, msg);
}

static int64_t simple(struct session *s, uint16_t kind, uint32_t nr, uint64_t arg, size_t size, const int *fds,
		      int nfds)
{
	struct channel_msg msg = { .kind = kind, .nr = nr, .arg = arg };

	return transact(s, &msg, size, fds, nfds) ? msg.ret : -EPIPE;
}

/*
 * A vCPU whose kick descriptor the shadow cannot wait for fails after the module has made it: it is unmade, and the next one is
 * made. A memfd, and a chain of epolls that is too long.
 */
static void bad_kicks(struct session *s, int vcpu_fd, int done)
{
	struct epoll_event event = { .events = EPOLLIN };
	int kick[8], n = 0;

	kick[n++] = done;
	do {
		kick[n] = epoll_create1(EPOLL_CLOEXEC);
	} while (!epoll_ctl(kick[n], EPOLL_CTL_ADD, kick[n - 1], &event) && ++n < 8);
	if (n < 3 || n == 8)
		failed("no chain of epolls");
	if (simple(s, CHANNEL_VCPU, KVM_CREATE_VCPU, 0, 0, (int[]) { vcpu_fd, vcpu_fd, done }, 3) >= 0 ||
	    simple(s, CHANNEL_VCPU, KVM_CREATE_VCPU, 0, 0, (int[]) { vcpu_fd, kick[n - 1], done }, 3) >= 0 || s->dead)
		failed("a vCPU that cannot be kicked");
	for (close(kick[n]); n-- > 1;)
		close(kick[n]);
}

/* A machine as QEMU makes it, more or less: then the calls get deeper. */
static void machine_make(struct session *s, int with_irqchip, int vcpu_fd, int kick, int done)
{
	struct channel_memory memory = { .slot = 0, .gpa = 0, .size = 0x100000, .userspace_addr = 0x10000000 };
	struct kvm_pit_config pit = { 0 };
	int ram = sealed_memfd("ram", 0x100000);

	simple(s, CHANNEL_VM, KVM_CREATE_VM, 0, 0, NULL, 0);
	if (with_irqchip)
		simple(s, CHANNEL_VM, KVM_CREATE_IRQCHIP, 0, 0, NULL, 0);
	memcpy(payload, &pit, sizeof(pit));
	if (with_irqchip)
		simple(s, CHANNEL_VM, KVM_CREATE_PIT2, 0, sizeof(pit), NULL, 0);
	memcpy(payload, &memory, sizeof(memory));
	simple(s, CHANNEL_MEMORY, 0, 0, sizeof(memory), &ram, 1);
	close(ram);
	bad_kicks(s, vcpu_fd, done);
	if (simple(s, CHANNEL_VCPU, KVM_CREATE_VCPU, 0, 0, (int[]) { vcpu_fd, kick, done }, 3))
		failed("no vCPU");
}

/* Our own end of the socket as what a shadow keeps: it would never see it closed. session_end() sees whether it does. */
static void own_end(struct session *s, int memfd, int kick)
{
	struct kvm_irqfd irqfd = { .gsi = 5 };
	struct kvm_ioeventfd io = { .addr = 0x1000, .len = 4 };
	struct channel_memory memory = { .slot = 9, .gpa = 0x4000000, .size = 0x1000, .userspace_addr = 0x30000000 };
	int64_t ret;

	memcpy(payload, &irqfd, sizeof(irqfd));
	ret = simple(s, CHANNEL_VM, KVM_IRQFD, 0, sizeof(irqfd), &s->sock, 1);
	memcpy(payload, &io, sizeof(io));
	if (ret == -EINVAL)
		ret = simple(s, CHANNEL_VM, KVM_IOEVENTFD, 0, sizeof(io), &s->sock, 1);
	memcpy(payload, &memory, sizeof(memory));
	if (ret == -EINVAL)
		ret = simple(s, CHANNEL_MEMORY, 0, 0, sizeof(memory), &s->sock, 1);
	if (ret == -EINVAL)
		ret = simple(s, CHANNEL_VCPU, KVM_CREATE_VCPU, 7, 0, (int[]) { memfd, kick, s->sock }, 3);
	if (ret == -EINVAL)
		ret = simple(s, CHANNEL_VCPU, KVM_CREATE_VCPU, 7, 0, (int[]) { memfd, s->sock, kick }, 3);
	if (ret != -EINVAL)
		failed("a shadow took its VMM's end of the socket");
}

static void raw_packet(struct session *s)
{
	static unsigned char packet[sizeof(struct channel_msg) + CHANNEL_PAYLOAD_MAX];
	struct channel_msg *header = (struct channel_msg *)packet, msg;
	size_t size = rnd() & 1 ? rnd() % 80 : rnd() % sizeof(packet);

	for (size_t i = 0; i < size; i++)
		packet[i] = (unsigned char)rnd();
	if (rnd() & 1)
		header->version = CHANNEL_VERSION;
	if (rnd() & 1)
		header->kind = (uint16_t)(rnd() % 8);
	if (rnd() & 1)
		header->size = (uint32_t)nasty();
	snprintf(last_sent, sizeof(last_sent), "a raw packet of %zu bytes", size);
	if (!size) /* means the end */
		size = 1;
	if (send(s->sock, packet, size, MSG_NOSIGNAL) < 0)
		return;
	receive(s, &msg);
}

static void channel_step(struct session *s)
{
	struct channel_msg msg = { 0 };
	int fds[CHANNEL_FDS_MAX], nfds = 0;
	size_t size;

	if (!(rnd() % 12)) {
		raw_packet(s);
		return;
	}
	msg.kind = (uint16_t)(rnd() % 20 ? CHANNEL_SYSTEM + rnd() % 4 : rnd());
	msg.nr = msg.kind == CHANNEL_SYSTEM ? call_number(0, VM_CALLS) : call_number(VM_CALLS, VCPU_CALLS - VM_CALLS);
	if (!(rnd() & 7))
		msg.nr = call_number(0, CALLS);
	msg.arg = nasty();
	msg.cookie = (uint32_t)(rnd() % 4);
	size = _IOC_SIZE(msg.nr);
	if (msg.kind == CHANNEL_MEMORY)
		size = sizeof(struct channel_memory);
	if (!(rnd() % 4))
		size = rnd() & 1 ? rnd() % 4096 : rnd() % (CHANNEL_PAYLOAD_MAX + 1);
	if (size > CHANNEL_PAYLOAD_MAX)
		size = CHANNEL_PAYLOAD_MAX;
	payload_random(size);
	if (msg.kind == CHANNEL_VCPU && rnd() & 1) {
		fds[0] = pool[3], fds[1] = pool[4], fds[2] = pool[5], nfds = 3;
		msg.arg = rnd() % 300;
	} else if (rnd() & 1 || msg.kind == CHANNEL_MEMORY) {
		for (nfds = 0; nfds < (int)(rnd() % (CHANNEL_FDS_MAX + 1)); nfds++)
			fds[nfds] = pool[rnd() % POOL];
	}
	if (msg.kind == CHANNEL_MEMORY && rnd() & 1) {
		struct channel_memory *m = (struct channel_memory *)payload;

		*m = (struct channel_memory) { .slot = (uint32_t)(rnd() % 4),
					       .flags = (uint32_t)(rnd() % 4),
					       .gpa = rnd() % 64 << 12,
					       .size = rnd() % 64 << 12,
					       .userspace_addr = 0x10000000,
					       .fd_offset = nasty() & ~4095ULL };
		fds[0] = pool[rnd() % POOL];
		nfds = 1;
	}
	transact(s, &msg, size, fds, nfds);
}

static void channel_mode(uint64_t end)
{
	while (now_ms() < end) {
		uint64_t start = seed;
		struct session s;

		session_start(&s);
		if (rnd() & 1) {
			machine_make(&s, rnd() & 1, pool[3], pool[4], pool[4]);
			own_end(&s, pool[3], pool[4]);
		}
		for (int i = 0; i < 400 && !s.dead && now_ms() < end; i++)
			channel_step(&s);
		if (!s.dead && simple(&s, CHANNEL_SYSTEM, KVM_GET_API_VERSION, 0, 0, NULL, 0) != 12 && !s.dead)
			failed("afterwards it does not know its version any more");
		if (s.dead)
			printf("(session's seed %llx)\n", (unsigned long long)start);
		session_end(&s);
	}
}

/* ---- shared pages ---- */

struct scribble {
	volatile unsigned char *area;
	volatile int stop, level;
	uint64_t seed;
};

static void *scribble_thread(void *arg)
{
	struct scribble *sc = arg;
	uint64_t x = sc->seed;

	while (!sc->stop) {
		size_t at;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		switch (sc->level) {
		case 0: /* what a VMM may well write: not the doorbell */
			at = 16 + x % (CHANNEL_RUN_PAGES * 4096 - 16);
			break;
		case 1: /* the channel's own part */
			at = CHANNEL_VCPU_OFFSET + x % 192;
			break;
		default: /* all of it */
			at = x >> 40 & 1 ? x % 64 : x % CHANNEL_VCPU_SIZE;
		}
		sc->area[at] = (unsigned char)(x >> 32 & 3 ? x >> 48 : 0);
		if (!(x >> 20 & 63))
			usleep(50);
	}
	return NULL;
}

/* Real mode at the reset vector: ports, strings, memory without a slot, CPUID, HLT with interrupts off now and then. */
static void guest_write(unsigned char *rom)
{
	static const unsigned char code[] = {
		0xba, 0xf8, 0x03, 0xee, 0xec,			/* mov dx, 3f8h; out dx, al; in al, dx */
		0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0,		/* ds = es = 0 */
		0xb8, 0x00, 0x90, 0x8e, 0xd8,			/* ds = 9000h: no slot there */
		0xa2, 0x00, 0x50, 0xa0, 0x00, 0x50,		/* mov [5000h], al; mov al, [5000h] */
		0xb9, 0x05, 0x00, 0x31, 0xf6, 0xf3, 0x6e,	/* mov cx, 5; xor si, si; rep outsb */
		0xb9, 0x09, 0x00, 0xbf, 0x00, 0x60, 0xf3, 0x6d, /* mov cx, 9; mov di, 6000h; rep insw */
		0x31, 0xc0, 0x0f, 0xa2,				/* cpuid */
		0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32, /* mov ecx, 1bh; rdmsr */
		0xff, 0x06, 0x00, 0x70,				/* inc word [7000h] */
	};

	memset(rom, 0xf4, 0x1000);
	memcpy(rom, code, sizeof(code));
	rom[sizeof(code)] = 0xe9; /* jmp to the start */
	rom[sizeof(code) + 1] = (unsigned char)-(int)(sizeof(code) + 3);
	rom[sizeof(code) + 2] = 0xff;
	memcpy(rom + 0xff0, "\xe9\x0d\xf0", 3); /* F000:FFF0 to F000:F000 */
}

static void futex_wake(volatile void *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static unsigned long rings, runs_done;

static void ring(struct channel_vcpu *v, volatile unsigned char *area, int kick, unsigned char bell)
{
	uint64_t one = 1, end = now_ms() + 30;

	v->stop = 0;
	__atomic_store_n(&area[CHANNEL_BELL_BYTE], bell, __ATOMIC_SEQ_CST);
	futex_wake(area);
	rings++;
	while (__atomic_load_n(&area[CHANNEL_BELL_BYTE], __ATOMIC_SEQ_CST) != CHANNEL_IDLE && now_ms() < end)
		usleep(100);
	runs_done += area[CHANNEL_BELL_BYTE] == CHANNEL_IDLE;
	v->stop = 1;
	if (write(kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
		failed("kick");
	end = now_ms() + 30;
	while (__atomic_load_n(&area[CHANNEL_BELL_BYTE], __ATOMIC_SEQ_CST) != CHANNEL_IDLE && now_ms() < end)
		usleep(100);
}

/* The interrupt bell, with a call that makes sense or one that does not. */
static void ring_irq(unsigned char *area, int kick)
{
	static const uint32_t irq_calls[] = { KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI };
	struct channel_irq *irq = (void *)(area + CHANNEL_IRQ_OFFSET);
	uint64_t one = 1, end = now_ms() + 30;

	irq->nr = rnd() % 4 ? irq_calls[rnd() % 3] : (uint32_t)nasty();
	irq->size = rnd() % 4 ? _IOC_SIZE(irq->nr) : (uint32_t)nasty();
	irq->vmm_sleeps = rnd() & 1;
	payload_random(sizeof(irq->payload));
	memcpy(irq->payload, payload, sizeof(irq->payload));
	__atomic_store_n(&irq->bell, rnd() % 8 ? CHANNEL_IRQ_RUNG : (uint32_t)nasty(), __ATOMIC_SEQ_CST);
	rings++;
	if (write(kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
		failed("kick");
	while (__atomic_load_n(&irq->bell, __ATOMIC_SEQ_CST) != CHANNEL_IRQ_IDLE && now_ms() < end)
		usleep(100);
	runs_done += irq->bell == CHANNEL_IRQ_IDLE;
}

static void pages_session(uint64_t end)
{
	struct session s;
	int vcpu_fd = sealed_memfd("vcpu", CHANNEL_VCPU_SIZE), kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	    done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rom = sealed_memfd("rom", 0x1000);
	struct channel_memory memory = { .slot = 1, .gpa = 0xfffff000, .size = 0x1000, .userspace_addr = 0x20000000 };
	struct kvm_coalesced_mmio_zone zone = { .addr = 0x95000, .size = 0x100 };
	unsigned char *area = mmap(NULL, CHANNEL_VCPU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	struct channel_vcpu *v = (void *)(area + CHANNEL_VCPU_OFFSET);
	struct scribble sc = { .area = area, .seed = rnd() | 1 };
	uint64_t stop_at = now_ms() + 1500;
	pthread_t thread;
	void *at;

	if (area == MAP_FAILED)
		failed("memory");
	at = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, rom, 0);
	guest_write(at);
	session_start(&s);
	machine_make(&s, rnd() & 1, vcpu_fd, kick, done);
	own_end(&s, vcpu_fd, kick);
	memcpy(payload, &memory, sizeof(memory));
	if (simple(&s, CHANNEL_MEMORY, 0, 0, sizeof(memory), &rom, 1))
		failed("no memory slot");
	/* A hole where the guest writes: without RAM at 90000h on it is the VMM's, or the ring's. */
	memory = (struct channel_memory) { .slot = 0 };
	memcpy(payload, &memory, sizeof(memory));
	simple(&s, CHANNEL_MEMORY, 0, 0, sizeof(memory), NULL, 0);
	memcpy(payload, &zone, sizeof(zone));
	if (rnd() & 1)
		simple(&s, CHANNEL_VM, KVM_REGISTER_COALESCED_MMIO, 0, sizeof(zone), NULL, 0);
	sc.level = (int)(rnd() % 3);
	if (pthread_create(&thread, NULL, scribble_thread, &sc))
		failed("thread");
	while (now_ms() < stop_at && now_ms() < end && !s.dead) {
		if (!(rnd() % 8)) {
			ring_irq(area, kick);
		} else if (rnd() & 3) {
			ring(v, area, kick, CHANNEL_RUN);
		} else {
			v->nr = call_number(VCPU_CALLS, CALLS - VCPU_CALLS);
			v->arg = nasty();
			v->size = rnd() & 1 ? (uint32_t)nasty() : _IOC_SIZE(v->nr);
			payload_random(4096);
			memcpy(area + CHANNEL_PAYLOAD_OFFSET, payload, 4096);
			snprintf(last_sent, sizeof(last_sent), "vCPU call %x arg %llx size %u", v->nr,
				 (unsigned long long)v->arg, v->size);
			ring(v, area, kick, rnd() % 16 ? CHANNEL_CALL : (unsigned char)rnd());
		}
		if (!(rnd() % 8)) { /* it still answers */
			if (simple(&s, CHANNEL_SYSTEM, KVM_GET_API_VERSION, 0, 0, NULL, 0) != 12 && !s.dead)
				failed("it does not know its version any more");
		}
	}
	sc.stop = 1;
	pthread_join(thread, NULL);
	session_end(&s);
	munmap(at, 0x1000);
	munmap(area, CHANNEL_VCPU_SIZE);
	close(vcpu_fd);
	close(kick);
	close(done);
	close(rom);
}

static void on_bus(int signal)
{
	(void)signal;
	failed("SIGBUS here: the shared memory was cut off");
}

int main(int argc, char **argv)
{
	uint64_t end;

	if (argc != 4) {
		fprintf(stderr, "usage: hostile-vmm channel|pages SEED SECONDS\n");
		return 2;
	}
	seed_set(argv[2]);
	end = now_ms() + strtoull(argv[3], NULL, 0) * 1000;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGBUS, on_bus);
	if (!strcmp(argv[1], "pages"))
		while (now_ms() < end)
			pages_session(end);
	else
		channel_mode(end);
	printf("DONE %lu shadows, %lu answers, %lu of them errors, %lu ended with a message, %lu rings, %lu answered\n",
	       sessions, answers, errors, deaths, rings, runs_done);
	return 0;
}
