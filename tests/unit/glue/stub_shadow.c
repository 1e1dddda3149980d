/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands in for umbra-shadow in tests of the glue: speaks the channel as a shadow does, and misbehaves when told to. How
 * it starts is told by UMBRA_STUB_START; what a RUN does by KVM_SET_MP_STATE (stub.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel.h"
#include "stub.h"

static int sock = 3;

struct stub_vcpu {
	struct kvm_run *run;
	struct channel_vcpu *channel;
	uint8_t *payload;
	int kick_fd, done_fd;
	uint32_t mode;
	struct kvm_regs regs;
	uint32_t turn; /* of STUB_ASKS and STUB_CHANGES */
	pthread_t thread;
};

static uint8_t packet[sizeof(struct channel_msg) + CHANNEL_PAYLOAD_MAX];
static uint8_t *const body = packet + sizeof(struct channel_msg);

static uint8_t *slot_view; /* of slot 0 */

static void send_msg(struct channel_msg msg, const void *payload)
{
	struct iovec iov[2] = { { &msg, sizeof(msg) }, { (void *)(uintptr_t)payload, msg.size } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };

	if (sendmsg(sock, &hdr, MSG_NOSIGNAL) < 0)
		_exit(99);
}

static void die(const char *text, int error)
{
	send_msg((struct channel_msg) { .version = CHANNEL_VERSION,
					.kind = CHANNEL_DEATH,
					.ret = -error,
					.size = strlen(text) },
		 text);
	_exit(7);
}

/* ---- vCPU ---- */

static uint8_t bell(struct stub_vcpu *v)
{
	return __atomic_load_n((uint8_t *)v->run + CHANNEL_BELL_BYTE, __ATOMIC_SEQ_CST);
}

static void answer(struct stub_vcpu *v, int32_t ret)
{
	uint64_t one = 1;
	uint32_t sleeps;

	v->channel->ret = ret;
	__atomic_store_n((uint8_t *)v->run + CHANNEL_BELL_BYTE, CHANNEL_IDLE, __ATOMIC_SEQ_CST);
	sleeps = __atomic_load_n(&v->channel->vmm_sleeps, __ATOMIC_SEQ_CST);
	if (sleeps == 1)
		syscall(SYS_futex, v->run, FUTEX_WAKE, 1, NULL, NULL, 0);
	else if (sleeps == 2 && write(v->done_fd, &one, sizeof(one)) < 0)
		_exit(98);
}

static void wait_ring(struct stub_vcpu *v)
{
	uint32_t word;

	for (int i = 0; i < 100; i++) {
		if (bell(v) != CHANNEL_IDLE)
			return;
		sched_yield();
	}
	__atomic_store_n(&v->channel->shadow_sleeps, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		word = __atomic_load_n((uint32_t *)v->run, __ATOMIC_SEQ_CST);
		if ((uint8_t)(word >> 16) != CHANNEL_IDLE)
			break;
		syscall(SYS_futex, v->run, FUTEX_WAIT, word, NULL, NULL, 0);
	}
	__atomic_store_n(&v->channel->shadow_sleeps, 0, __ATOMIC_SEQ_CST);
}

/* A guest that runs until it is stopped; true when that came. A kick without stop is late and ends nothing. */
static bool wait_stop(struct stub_vcpu *v, int timeout)
{
	struct pollfd pfd = { .fd = v->kick_fd, .events = POLLIN };
	uint64_t count;

	for (;;) {
		if (__atomic_load_n(&v->channel->stop, __ATOMIC_SEQ_CST))
			return true;
		if (poll(&pfd, 1, timeout) == 0)
			return false;
		if (read(v->kick_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			_exit(97);
	}
}

/* how: the direction; and the size, where it is not one byte (OUT) or two times four (IN), in the next eight bits */
static void exit_io(struct stub_vcpu *v, uint64_t offset, uint32_t how)
{
	v->run->exit_reason = KVM_EXIT_IO;
	v->run->io.direction = how;
	v->run->io.size = how >> 8 ? how >> 8 : how == KVM_EXIT_IO_IN ? 4 : 1;
	v->run->io.port = 0x3f8;
	v->run->io.count = how == KVM_EXIT_IO_IN ? 2 : 1;
	v->run->io.data_offset = offset;
	if (how != KVM_EXIT_IO_IN)
		((uint8_t *)v->run)[CHANNEL_PIO_OFFSET] = 'U';
	answer(v, 0);
}

static struct kvm_coalesced_mmio_ring *ring; /* in the first vCPU's area */
static uint32_t ring_sent;

static bool ring_put(uint32_t len)
{
	const uint32_t entries = (4096 - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);
	uint32_t last = ring->last, next = (last + 1) % entries;

	if (next == __atomic_load_n(&ring->first, __ATOMIC_SEQ_CST))
		return false;
	ring->coalesced_mmio[last] =
		(struct kvm_coalesced_mmio) { .phys_addr = ring_sent++, .len = len, .data = "ring" };
	__atomic_store_n(&ring->last, next, __ATOMIC_SEQ_CST);
	return true;
}

/* What the VMM has made of the exit before this one; then the next. */
static void ask(struct stub_vcpu *v)
{
	struct kvm_run *run = v->run;

	v->regs.rax = *(uint64_t *)((uint8_t *)run + CHANNEL_PIO_OFFSET + 8);
	memcpy(&v->regs.rbx, run->mmio.data, 8);
	v->regs.rcx = run->msr.data;
	v->regs.rdx = run->msr.error;
	v->regs.rsi = run->cr8;
	v->regs.rdi = run->request_interrupt_window;
	v->turn++;
	run->cr8 = v->turn;
	run->apic_base = 0xfee00900 + v->turn;
	run->if_flag = run->ready_for_interrupt_injection = v->turn & 1;
	if (v->turn % 3 == 1) {
		exit_io(v, CHANNEL_PIO_OFFSET + 8, KVM_EXIT_IO_IN);
		return;
	}
	if (v->turn % 3 == 2) {
		run->exit_reason = KVM_EXIT_MMIO;
		run->mmio.phys_addr = 0x123456789;
		run->mmio.len = 4;
		run->mmio.is_write = 0;
	} else {
		run->exit_reason = KVM_EXIT_X86_RDMSR;
		run->msr.error = 0;
		run->msr.index = 0x1234;
		run->msr.reason = KVM_MSR_EXIT_REASON_FILTER;
		run->msr.data = 0;
	}
	answer(v, 0);
}

static void change(struct stub_vcpu *v)
{
	struct kvm_run *run = v->run;

	if (v->turn++ & 1) {
		exit_io(v, CHANNEL_PIO_OFFSET, KVM_EXIT_IO_OUT);
	} else {
		run->exit_reason = KVM_EXIT_MMIO;
		run->mmio.phys_addr = 0x1000;
		run->mmio.len = 4;
		run->mmio.is_write = 1;
		answer(v, 0);
	}
	while (!__atomic_load_n(&v->channel->reserved[0], __ATOMIC_SEQ_CST))
		sched_yield(); /* the VMM has it */
	v->channel->reserved[0] = 0;
	while (bell(v) == CHANNEL_IDLE) {
		memset((uint8_t *)run + 8, 0x77, 256); /* all but the futex word */
		memset((uint8_t *)run + CHANNEL_PIO_OFFSET, 0x77, 16);
		memset(&ring->coalesced_mmio[0], 0x77, 256);
		ring->first = 0x77777777;
		__atomic_store_n(&v->channel->reserved[1], 1, __ATOMIC_SEQ_CST);
	}
	ring->first = ring->last;
	v->channel->reserved[1] = 0;
}

static void bad_exit(struct stub_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_HLT;
	if (v->mode == STUB_BAD_MMIO) {
		run->exit_reason = KVM_EXIT_MMIO;
		run->mmio.phys_addr = 0;
		run->mmio.len = 1 << 20;
		run->mmio.is_write = 0;
	} else if (v->mode == STUB_BAD_NDATA) {
		run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
		run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
		run->internal.ndata = 0x10000000;
	} else if (v->mode == STUB_BAD_BYTES) {
		run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
		run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
		run->emulation_failure.ndata = 3;
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = 200;
	} else if (v->mode == STUB_BAD_REASON) {
		run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
		run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
		run->system_event.ndata = 0;
	} else if (v->mode == STUB_BAD_ENTRY) {
		ring_put(1 << 20);
	} else if (v->mode == STUB_BAD_LAST) {
		ring->last = 0x10000;
	} else {
		exit_io(v, CHANNEL_PIO_OFFSET, KVM_EXIT_IO_OUT | 3 << 8);
		return;
	}
	answer(v, 0);
}

static void do_run(struct stub_vcpu *v)
{
	if (v->run->immediate_exit) {
		v->run->exit_reason = KVM_EXIT_INTR;
		answer(v, -EINTR);
		return;
	}
	switch (v->mode) {
	case STUB_EXIT_IO:
		exit_io(v, CHANNEL_PIO_OFFSET, KVM_EXIT_IO_OUT);
		break;
	case STUB_UNTIL_STOP:
		wait_stop(v, -1);
		v->run->exit_reason = KVM_EXIT_INTR;
		answer(v, -EINTR);
		break;
	case STUB_EXIT_OR_STOP:
		if (wait_stop(v, 1)) {
			v->run->exit_reason = KVM_EXIT_INTR;
			answer(v, -EINTR);
		} else {
			exit_io(v, CHANNEL_PIO_OFFSET, KVM_EXIT_IO_OUT);
		}
		break;
	case STUB_KILLED:
		kill(getpid(), SIGKILL);
		break;
	case STUB_LAST_WORDS:
		die("forbidden system call execve (59)\033[31m", 0);
		break;
	case STUB_BAD_RET:
		answer(v, -5000);
		break;
	case STUB_BAD_OFFSET:
		exit_io(v, 0x7fff00000000, KVM_EXIT_IO_OUT);
		break;
	case STUB_ASKS:
		ask(v);
		break;
	case STUB_CHANGES:
		change(v);
		break;
	case STUB_RING:
		for (int i = 0; i < 100 && ring_put(4); i++)
			;
		exit_io(v, CHANNEL_PIO_OFFSET, KVM_EXIT_IO_OUT);
		break;
	case STUB_RING_STOP:
		ring_put(4);
		wait_stop(v, -1);
		v->run->exit_reason = KVM_EXIT_INTR;
		answer(v, -EINTR);
		break;
	case STUB_HIDES_NOTE:
		while (!__atomic_load_n(&v->channel->stop, __ATOMIC_SEQ_CST))
			__atomic_store_n((uint8_t *)v->run + CHANNEL_NOTE_BYTE, 0, __ATOMIC_SEQ_CST);
		v->run->exit_reason = KVM_EXIT_INTR;
		answer(v, -EINTR);
		break;
	default:
		bad_exit(v);
	}
}

static int32_t do_msrs(struct stub_vcpu *v, uint32_t nr, uint32_t size)
{
	struct kvm_msrs *msrs = (struct kvm_msrs *)v->payload;
	uint32_t how = msrs->entries[0].index, count = msrs->nmsrs;

	if (nr == KVM_GET_MSRS)
		v->channel->size = size;
	msrs->nmsrs += how == STUB_MSR_MORE;
	return count + (how == STUB_MSR_TOO_MANY);
}

/* What was handed over can be had back: the payload of the last KVM_SET_REGS. */
static void do_call(struct stub_vcpu *v)
{
	uint32_t nr = v->channel->nr, size = v->channel->size;

	v->channel->size = 0;
	if (nr == KVM_SET_MP_STATE && size == 4) {
		memcpy(&v->mode, v->payload, 4);
		answer(v, 0);
	} else if (nr == KVM_SET_REGS && size == sizeof(v->regs)) {
		memcpy(&v->regs, v->payload, size);
		answer(v, 0);
	} else if (nr == KVM_GET_REGS && size == 0) {
		memcpy(v->payload, &v->regs, sizeof(v->regs));
		v->channel->size = sizeof(v->regs);
		answer(v, 0);
	} else if (nr == KVM_GET_MSRS || nr == KVM_SET_MSRS) {
		answer(v, do_msrs(v, nr, size));
	} else if (nr == KVM_GET_STATS_FD) {
		answer(v, 0); /* a descriptor, it says */
	} else if (nr == KVM_GET_SREGS) {
		v->channel->size = 60000; /* more than was asked for */
		answer(v, 0);
	} else {
		answer(v, -ENOTTY);
	}
}

/* Another status than by the socket: the way is seen. */
static void do_vm_call(struct stub_vcpu *v)
{
	if (v->channel->nr != KVM_IRQ_LINE_STATUS || v->channel->size != sizeof(struct kvm_irq_level)) {
		answer(v, -EINVAL);
		return;
	}
	((struct kvm_irq_level *)v->payload)->status = 2;
	answer(v, 0);
}

static void *vcpu_thread(void *arg)
{
	struct stub_vcpu *v = arg;

	for (;;) {
		wait_ring(v);
		if (bell(v) == CHANNEL_RUN)
			do_run(v);
		else if (bell(v) == CHANNEL_VM_CALL)
			do_vm_call(v);
		else
			do_call(v);
	}
	return NULL;
}

/*
 * The interrupt bell, with a third status. The interrupt says what the stub does. Whoever polls the bell needs no kick: here every other
 * call finds it polled.
 */
static void answer_bell(struct channel_irq *irq)
{
	struct kvm_irq_level *level = (struct kvm_irq_level *)irq->payload;
	bool is_sound = irq->nr == KVM_IRQ_LINE_STATUS && irq->size == sizeof(*level);

	switch (level->irq) {
	case STUB_IRQ_LATE:
		usleep(300000);
		break;
	case STUB_IRQ_BAD_SIZE:
		irq->size = sizeof(*level) + 1;
		break;
	case STUB_IRQ_BAD_RET:
		irq->ret = -5000;
		return;
	case STUB_IRQ_KILLED:
		kill(getpid(), SIGKILL);
	}
	level->status = 3;
	irq->size = is_sound ? irq->size : 0;
	irq->ret = is_sound ? 0 : -EINVAL;
}

static void *bell_thread(void *arg)
{
	struct stub_vcpu *v = arg;
	struct channel_irq *irq = (struct channel_irq *)((uint8_t *)v->run + CHANNEL_IRQ_OFFSET);
	struct pollfd pfd = { .fd = v->kick_fd, .events = POLLIN };

	for (;;) {
		/* Not read: the vCPU's thread looks at it, too. */
		while ((!irq->polled && poll(&pfd, 1, 1) < 1) ||
		       __atomic_load_n(&irq->bell, __ATOMIC_SEQ_CST) != CHANNEL_IRQ_RUNG)
			usleep(100);
		irq->bell = CHANNEL_IRQ_TAKEN;
		answer_bell(irq);
		irq->polled = !irq->polled;
		__atomic_store_n(&irq->bell, CHANNEL_IRQ_IDLE, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&irq->vmm_sleeps, __ATOMIC_SEQ_CST))
			syscall(SYS_futex, &irq->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	return NULL;
}

static int create_vcpu(uint64_t id, const int *fds)
{
	static bool has_bell, made[64];
	pthread_t thread;
	struct stub_vcpu *v = calloc(1, sizeof(*v));
	uint8_t *area = mmap(NULL, CHANNEL_VCPU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);

	if (!v || area == MAP_FAILED || fds[1] < 0 || fds[2] < 0 || id >= sizeof(made))
		return -EINVAL;
	if (made[id])
		return -EEXIST;
	made[id] = true;
	v->run = (struct kvm_run *)area;
	v->channel = (struct channel_vcpu *)(area + CHANNEL_VCPU_OFFSET);
	v->payload = area + CHANNEL_PAYLOAD_OFFSET;
	v->kick_fd = fds[1];
	v->done_fd = fds[2];
	if (!has_bell)
		ring = (struct kvm_coalesced_mmio_ring *)(area + CHANNEL_RING_OFFSET);
	if (!has_bell && pthread_create(&thread, NULL, bell_thread, v))
		return -EAGAIN;
	has_bell = true;
	return -pthread_create(&v->thread, NULL, vcpu_thread, v);
}

/* ---- control ---- */

static int64_t set_memory(const int *fds)
{
	struct channel_memory *m = (struct channel_memory *)body;

	if (!m->size)
		return 0;
	if (fds[0] < 0)
		return -EBADF;
	slot_view =
		mmap(NULL, m->size, PROT_READ | (m->fd_readonly ? 0 : PROT_WRITE), MAP_SHARED, fds[0], m->fd_offset);
	return slot_view == MAP_FAILED ? -errno : 0;
}

static uint64_t routes_taken; /* KVM_CHECK_EXTENSION tells */

/* Takes tables in pieces that follow each other, whose entries are numbered by their GSIs. EPROTO: they are not. */
static int64_t routes(uint64_t first, uint32_t in)
{
	const struct kvm_irq_routing *routing = (const struct kvm_irq_routing *)body;
	uint32_t count = (in - sizeof(*routing)) / sizeof(routing->entries[0]);

	if (!first)
		routes_taken = 0;
	if (first != routes_taken || in != sizeof(*routing) + count * sizeof(routing->entries[0]) ||
	    first + count > routing->nr)
		return -EPROTO;
	for (uint32_t i = 0; i < count; i++)
		if (routing->entries[i].gsi != first + i)
			return routing->entries[i].gsi == UINT32_MAX ? -EINVAL : -EPROTO;
	routes_taken += count;
	return 0;
}

/* Calls with a small program of their own, so that both directions can be seen. */
static int64_t system_or_vm(struct channel_msg *msg, const int *fds)
{
	uint32_t in = msg->size;

	msg->size = 0;
	switch (msg->nr) {
	case KVM_GET_API_VERSION:
		return 12;
	case KVM_CREATE_VM:
		return msg->arg ? -EINVAL : 0;
	case KVM_CHECK_EXTENSION:
		if (msg->arg == KVM_CAP_IRQ_ROUTING)
			return routes_taken;
		return msg->arg == KVM_CAP_XSAVE2 ? 4096 : 0;
	case KVM_GET_VCPU_MMAP_SIZE:
		return CHANNEL_RUN_PAGES * 4096;
	case KVM_GET_SUPPORTED_CPUID: { /* three entries */
		struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)body;
		uint32_t room = cpuid->nent;

		if (in != sizeof(*cpuid))
			return -EPROTO;
		cpuid->nent = 3;
		msg->size = sizeof(*cpuid);
		if (room < 3)
			return -E2BIG;
		memset(cpuid->entries, 0x5a, 3 * sizeof(cpuid->entries[0]));
		msg->size += 3 * sizeof(cpuid->entries[0]);
		return 0;
	}
	case KVM_SET_GSI_ROUTING:
		return routes(msg->arg, in);
	case KVM_IRQ_LINE_STATUS:
		((struct kvm_irq_level *)body)->status = 1;
		msg->size = sizeof(struct kvm_irq_level);
		return 0;
	case KVM_GET_DIRTY_LOG:
		msg->size = 16; /* of a slot of 128 pages */
		memset(body, 0xa5, 16);
		return 0;
	case KVM_IRQFD: /* the cookie, and whether an eventfd came */
		return msg->cookie * 10 + (fds[0] >= 0);
	case KVM_SET_TSS_ADDR: /* what does slot 0 have at this offset? */
		return slot_view ? slot_view[msg->arg] : -ENOENT;
	case KVM_SET_NR_MMU_PAGES: /* write to it */
		slot_view[msg->arg] = 0x77;
		return 0;
	case KVM_NMI: /* malformed: another call's number */
		msg->nr = KVM_SMI;
		return 0;
	case KVM_REINJECT_CONTROL:
		msg->size = 4096; /* more than was asked for */
		return 0;
	case KVM_CREATE_DEVICE:
		msg->size = sizeof(struct kvm_create_device); /* a descriptor, it says */
		((struct kvm_create_device *)body)->fd = 0;
		return 0;
	case KVM_CREATE_PIT:
		die("asked to", 0);
	}
	return -ENOTTY;
}

static ssize_t receive(int *fds)
{
	struct iovec iov = { packet, sizeof(packet) };
	char control[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)] __attribute__((aligned(8)));
	struct msghdr hdr = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&hdr) : NULL;

	for (int i = 0; i < CHANNEL_FDS_MAX; i++)
		fds[i] = -1;
	if (cmsg)
		memcpy(fds, CMSG_DATA(cmsg), cmsg->cmsg_len - CMSG_LEN(0));
	return n;
}

static void say_hello(void)
{
	const char *start = getenv("UMBRA_STUB_START");
	struct channel_hello hello = { .abi_version = 1, .pid = getpid() };
	struct channel_msg msg = { .version = CHANNEL_VERSION, .kind = CHANNEL_HELLO, .size = sizeof(hello) };

	if (start && !strcmp(start, "die"))
		die("the shim's ABI is 7, not 1", ENODEV);
	if (start && !strcmp(start, "exit"))
		_exit(5);
	if (start && !strcmp(start, "version"))
		msg.version = 77;
	if (start && !strcmp(start, "short"))
		msg.size = sizeof(hello) - 8;
	send_msg(msg, &hello);
}

int main(void)
{
	int fds[CHANNEL_FDS_MAX];
	struct channel_msg msg;

	if (getenv("LD_PRELOAD"))
		return 6; /* it would load the glue into a shadow */
	say_hello();
	while (receive(fds) >= (ssize_t)sizeof(msg)) {
		memcpy(&msg, packet, sizeof(msg));
		if (msg.kind == CHANNEL_VCPU) {
			msg.ret = create_vcpu(msg.arg, fds);
			msg.size = 0;
		} else if (msg.kind == CHANNEL_MEMORY) {
			msg.ret = set_memory(fds);
			msg.size = 0;
		} else {
			msg.ret = system_or_vm(&msg, fds);
		}
		send_msg(msg, body);
	}
	return 0;
}
