// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The glue: what a VMM's calls carry and what comes back (payload.c), over memory whose bytes change with each reading, in a buffer that the
 * shadow changes meanwhile; its answers (message_check), exits (exit.c) and coalesced writes (ring.c); lines of /proc/self/maps.
 */
#include <errno.h>
#include <linux/kvm.h>

#include "glue.h"
#include "input.h"

#define MEMORY 0x100000 /* where the VMM's memory lies */
#define MEMORY_SIZE 0x20000

static uint8_t buf[CHANNEL_PAYLOAD_MAX + 64];
static struct input *source;
static uint8_t first_read[160]; /* of a call: what its count has to be taken from */
static bool has_read;

/* The buffer is shared with the shadow: at any moment there is something else in it. */
static void shadow_changes(void)
{
	uint8_t how = input_u8(source);

	if (how & 1)
		buf[input_pick(source, 160)] = input_u8(source);
	if (how & 2)
		memset(buf, 0xff, 16);
}

/* Whatever is read twice is something else the second time. */
int user_read(void *to, uint64_t addr, size_t len)
{
	fuzz_assert(len <= CHANNEL_PAYLOAD_MAX);
	if (addr < MEMORY || len > MEMORY_SIZE || addr - MEMORY > MEMORY_SIZE - len)
		return -EFAULT;
	shadow_changes();
	input_bytes(source, to, len);
	if (!has_read)
		memcpy(first_read, to, len < sizeof(first_read) ? len : sizeof(first_read));
	has_read = true;
	shadow_changes();
	return 0;
}

static const struct payload *asked; /* whose answer is written */
static uint8_t written[160];

int user_write(uint64_t addr, const void *from, size_t len)
{
	uint64_t at = addr - asked->out_addr;

	fuzz_assert(!len || (addr >= asked->out_addr && at <= asked->out_max && len <= asked->out_max - at));
	if (len && at < sizeof(written))
		memcpy(written + at, from, len < sizeof(written) - at ? len : sizeof(written) - at);
	shadow_changes();
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
int real_madvise(void *addr, size_t len, int advice)
{
	(void)addr;
	(void)len;
	(void)advice;
	abort();
}
void *real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	(void)addr;
	(void)len;
	(void)prot;
	(void)flags;
	(void)fd;
	(void)offset;
	abort();
}
int real_munmap(void *addr, size_t len)
{
	(void)addr;
	(void)len;
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
	KVM_CREATE_DEVICE,
	KVM_GET_STATS_FD,
};

/* An answer of the shadow: any size, any result. */
static void put(struct input *in, uint32_t nr, const struct payload *p)
{
	uint32_t size = (uint32_t)input_number(in), count;
	int64_t ret = input_u8(in) & 1 ? (int32_t)input_u32(in) : input_u8(in) - 8;
	int done;

	asked = p;
	memset(written, 0, sizeof(written));
	done = payload_put(nr, p, buf, size, ret);
	fuzz_assert(done == 0 || done == -EPROTO);
	if (done || ret < 0)
		return;
	fuzz_assert(nr != KVM_CREATE_DEVICE && nr != KVM_GET_STATS_FD);
	if (!p->counted)
		return;
	memcpy(&count, written + p->count_at, sizeof(count));
	fuzz_assert(count <= p->count && ret <= p->count);
}

static void gather(struct input *in)
{
	uint32_t nr = input_u8(in) & 1 ? calls[input_pick(in, sizeof(calls) / 4)] : input_u32(in);
	uint32_t xsave = (uint32_t)input_number(in);
	uint64_t arg = input_u8(in) & 7 ? MEMORY + input_u8(in) : input_number(in);
	struct payload p;
	int ret;

	memset(buf + CHANNEL_PAYLOAD_MAX, 0x5a, 64);
	has_read = false;
	ret = payload_gather(nr, arg, xsave, buf, &p);
	for (int i = 0; i < 64; i++)
		fuzz_assert(buf[CHANNEL_PAYLOAD_MAX + i] == 0x5a);
	fuzz_assert(ret <= 0 && ret > -4096);
	if (ret)
		return;
	fuzz_assert(p.in_size <= CHANNEL_PAYLOAD_MAX && p.out_max <= CHANNEL_PAYLOAD_MAX);
	fuzz_assert(!p.number || (!p.in_size && !p.out_max));
	/* What was checked is what sizes come from. */
	fuzz_assert(!p.counted || !memcmp(&p.count, first_read + p.count_at, sizeof(p.count)));
	if (nr == KVM_SET_MSRS || nr == KVM_GET_MSRS)
		fuzz_assert(p.count <= 255 && p.in_size == 8 + 16 * p.count &&
			    (nr == KVM_SET_MSRS || p.out_max == p.in_size));
	if (nr == KVM_SET_CPUID2)
		fuzz_assert(p.count <= 256 && p.in_size == 8 + 40 * p.count);
	put(in, nr, &p);
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

/* Whatever the shadow's area has, what the VMM gets stays within its own three pages. */
static void exits(struct input *in)
{
	struct vcpu vcpu = { .run = malloc(CHANNEL_VCPU_OFFSET), .area = malloc(CHANNEL_VCPU_OFFSET) };
	const struct kvm_run *run = vcpu.run;
	uint8_t first[8];

	memset(vcpu.run, 0x11, CHANNEL_VCPU_OFFSET);
	memset(vcpu.area, 0x22, CHANNEL_VCPU_OFFSET);
	memcpy(first, run, sizeof(first));
	for (int i = 0; i < 3; i++) {
		bool sound;

		input_bytes(in, vcpu.area, 32 + input_pick(in, 200));
		vcpu.area->exit_reason = input_u8(in) & 31;
		if (input_u8(in) & 1) {
			vcpu.area->io.size = 1 << (input_u8(in) & 3);
			vcpu.area->io.count = input_u32(in) & 0x1fff;
			vcpu.area->io.data_offset = CHANNEL_PIO_OFFSET + (input_u32(in) & 0x1fff);
		}
		sound = exit_take(&vcpu);
		fuzz_assert(!memcmp(first, run, sizeof(first)));
		fuzz_assert((uint64_t)vcpu.answer_at + vcpu.answer_bytes <= CHANNEL_RING_OFFSET);
		if (!sound)
			continue;
		if (run->exit_reason == KVM_EXIT_IO)
			fuzz_assert(run->io.data_offset >= CHANNEL_PIO_OFFSET &&
				    run->io.data_offset <= CHANNEL_RING_OFFSET &&
				    (uint64_t)run->io.size * run->io.count <=
					    CHANNEL_RING_OFFSET - run->io.data_offset);
		if (run->exit_reason == KVM_EXIT_MMIO)
			fuzz_assert(run->mmio.len && run->mmio.len <= 8);
		if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
			fuzz_assert(run->internal.ndata <= 16);
		exit_hand_in(&vcpu);
	}
	free(vcpu.run);
	free(vcpu.area);
}

static void ring(struct input *in)
{
	struct vm vm = { .ring = { .lock = PTHREAD_MUTEX_INITIALIZER,
				   .vmm = calloc(1, GLUE_PAGE),
				   .shadow = calloc(1, GLUE_PAGE) } };
	const uint32_t entries =
		(GLUE_PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio);

	for (int i = 0; i < 4; i++) {
		uint32_t n = input_u8(in), at = vm.ring.shadow->last % entries;

		for (uint32_t k = 0; k < n; k++, at = (at + 1) % entries)
			vm.ring.shadow->coalesced_mmio[at].len = 4;
		input_bytes(in, &vm.ring.shadow->coalesced_mmio[input_pick(in, entries)], 24);
		vm.ring.shadow->last = input_u8(in) & 7 ? at : input_u32(in);
		if (input_u8(in) & 1)
			vm.ring.shadow->first = input_u32(in);
		if (input_u8(in) == 1) /* VMMs may write it, too */
			vm.ring.vmm->last = input_u8(in) & 1 ? input_u32(in) : at;
		ring_sync(&vm);
		fuzz_assert(vm.ring.shadow->first == vm.ring.vmm->first);
		if (vm.ring.vmm->last >= entries)
			break; /* its own nonsense */
		for (n = input_u8(in); n && vm.ring.vmm->first != vm.ring.vmm->last; n--) {
			const struct kvm_coalesced_mmio *entry = &vm.ring.vmm->coalesced_mmio[vm.ring.vmm->first];

			fuzz_assert(entry->len <= 8 && entry->pio <= 1);
			vm.ring.vmm->first = (vm.ring.vmm->first + 1) % entries;
		}
	}
	free(vm.ring.vmm);
	free(vm.ring.shadow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);

	source = &in;
	switch (input_u8(&in) & 7) {
	case 0:
		maps(&in);
		break;
	case 1:
		message(&in);
		break;
	case 4:
		exits(&in);
		break;
	case 5:
		ring(&in);
		break;
	default:
		gather(&in);
	}
	return 0;
}
