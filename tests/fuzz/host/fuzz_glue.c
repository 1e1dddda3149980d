// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The glue: what a VMM's calls carry (payload.c), over memory whose bytes change with each reading; the shadow's
 * answers (message_check); lines of /proc/self/maps.
 */
#include <errno.h>
#include <linux/kvm.h>

#include "glue.h"
#include "input.h"

#define MEMORY 0x100000 /* where the VMM's memory lies */
#define MEMORY_SIZE 0x20000

static uint8_t buf[CHANNEL_PAYLOAD_MAX + 64];
static struct input *source;

/* Whatever is read twice is something else the second time. */
int user_read(void *to, uint64_t addr, size_t len)
{
	fuzz_assert(len <= CHANNEL_PAYLOAD_MAX);
	if (addr < MEMORY || len > MEMORY_SIZE || addr - MEMORY > MEMORY_SIZE - len)
		return -EFAULT;
	input_bytes(source, to, len);
	return 0;
}

/* The rest of the glue, which nothing here calls. */
void file_forget(int fd)
{
	(void)fd;
	abort();
}
void glue_say(const char *fmt, ...)
{
	(void)fmt;
	abort();
}
void private_close(int fd)
{
	(void)fd;
	abort();
}
int private_fd(int fd)
{
	(void)fd;
	abort();
}
int real_close(int fd)
{
	(void)fd;
	abort();
}
pid_t spawn_shadow(int socket)
{
	(void)socket;
	abort();
}

static const uint32_t calls[] = {
	KVM_GET_MSR_INDEX_LIST,
	KVM_GET_SUPPORTED_CPUID,
	KVM_GET_CPUID2,
	KVM_SET_CPUID2,
	KVM_SET_CPUID,
	KVM_GET_MSRS,
	KVM_SET_MSRS,
	KVM_SET_GSI_ROUTING,
	KVM_GET_NESTED_STATE,
	KVM_SET_NESTED_STATE,
	KVM_SET_IRQCHIP,
	KVM_SET_PIT,
	KVM_SET_XSAVE,
	KVM_GET_XSAVE2,
	KVM_X86_SET_MSR_FILTER,
	KVM_SET_DEVICE_ATTR,
	KVM_GET_DEVICE_ATTR,
	KVM_HAS_DEVICE_ATTR,
	KVM_SET_PMU_EVENT_FILTER,
	KVM_SET_REGS,
	KVM_GET_SREGS,
	KVM_GET_LAPIC,
	KVM_CHECK_EXTENSION,
};

static void gather(struct input *in)
{
	uint32_t nr = input_u8(in) & 1 ? calls[input_pick(in, sizeof(calls) / 4)] : input_u32(in);
	uint32_t xsave = (uint32_t)input_number(in);
	uint64_t arg = input_u8(in) & 7 ? MEMORY + input_u8(in) : input_number(in);
	struct payload p;
	int ret;

	memset(buf + CHANNEL_PAYLOAD_MAX, 0x5a, 64);
	ret = payload_gather(nr, arg, xsave, buf, &p);
	for (int i = 0; i < 64; i++)
		fuzz_assert(buf[CHANNEL_PAYLOAD_MAX + i] == 0x5a);
	fuzz_assert(ret <= 0 && ret > -4096);
	if (ret)
		return;
	fuzz_assert(p.in_size <= CHANNEL_PAYLOAD_MAX && p.out_max <= CHANNEL_PAYLOAD_MAX);
	fuzz_assert(!p.number || (!p.in_size && !p.out_max));
	/* The count that was checked is the one that is handed over. */
	if (nr == KVM_SET_MSRS)
		fuzz_assert(((struct kvm_msrs *)buf)->nmsrs <= 255 &&
			    p.in_size == 8 + 16 * ((struct kvm_msrs *)buf)->nmsrs);
	if (nr == KVM_SET_CPUID2)
		fuzz_assert(((struct kvm_cpuid2 *)buf)->nent <= 256);
}

static void message(struct input *in)
{
	struct channel_msg msg;
	struct request request = { .kind = CHANNEL_VM, .nr = input_u8(in), .max = input_u32(in) };
	size_t bytes = input_number(in);
	int ret;

	input_bytes(in, &msg, sizeof(msg));
	if (input_u8(in) & 1) {
		msg.version = CHANNEL_VERSION;
		msg.size = (uint32_t)(bytes - sizeof(msg));
		msg.nr = request.nr;
	}
	ret = message_check(&msg, bytes, input_u8(in) == 1, &request);
	if (ret == 0)
		fuzz_assert(msg.kind == request.kind && msg.size <= request.max && bytes == msg.size + sizeof(msg) &&
			    msg.ret >= -4095 && msg.ret <= INT32_MAX);
	else if (ret == 1)
		fuzz_assert(msg.size <= 1024 && msg.kind == CHANNEL_DEATH);
}

static void maps(struct input *in)
{
	size_t len = (size_t)(in->end - in->at);
	char *line = malloc(len + 1);
	struct map_info info;

	input_bytes(in, line, len);
	line[len] = 0;
	if (maps_parse_line(line, &info))
		fuzz_assert(info.start < info.end && memchr(info.path, 0, sizeof(info.path)));
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);

	source = &in;
	switch (input_u8(&in) & 3) {
	case 0:
		maps(&in);
		break;
	case 1:
		message(&in);
		break;
	default:
		gather(&in);
	}
	return 0;
}
