// SPDX-License-Identifier: GPL-2.0-or-later
/* The control thread: one request of the glue after the other. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "channel_io.h"
#include "core.h"
#include "sys.h"
#include "vm.h"

static _Alignas(16) uint8_t payload_in[CHANNEL_PAYLOAD_MAX];
static _Alignas(16) uint8_t payload_out[CHANNEL_PAYLOAD_MAX];
static struct vm the_vm;

static int64_t dispatch(struct vm *vm, uint32_t kind, struct call *call)
{
	switch (kind) {
	case CHANNEL_SYSTEM:
		return system_call(vm, call);
	case CHANNEL_VM:
		return vm_call(vm, call);
	case CHANNEL_MEMORY:
		return vm_memory(vm, call);
	case CHANNEL_VCPU:
		return vm_create_vcpu(vm, call);
	default:
		return -EINVAL;
	}
}

/* One message, answered whatever it is. false: the glue is gone. */
bool control_serve(int fd, struct vm *vm)
{
	struct channel_msg msg;
	int fds[CHANNEL_FDS_MAX], nfds = 0, got;
	struct call call = { .in = payload_in, .out = payload_out, .fds = fds };

	got = channel_receive(fd, &msg, payload_in, fds, &nfds);
	if (got == -EBADMSG) {
		msg.kind = CHANNEL_SYSTEM; /* whatever it was, the reply is whole */
		msg.ret = -EBADMSG;
	} else if (got <= 0) {
		return false;
	} else {
		call.nr = msg.nr;
		call.arg = msg.arg;
		call.in_size = msg.size;
		call.cookie = msg.cookie;
		call.nfds = nfds;
		msg.ret = dispatch(vm, msg.kind, &call);
		for (int i = 0; i < nfds; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		if (call.out_size > CHANNEL_PAYLOAD_MAX)
			call.out_size = 0;
	}
	return channel_send(fd, &msg, payload_out, call.out_size) == 0;
}

int shadow_main(int control_fd, struct shim *shim)
{
	const char *stats = getenv("UMBRA_STATS");
	int ret = vm_init(&the_vm, shim);

	if (ret < 0)
		return 1;
	while (control_serve(control_fd, &the_vm))
		;
	if (stats && *stats && strcmp(stats, "0"))
		stats_print(&the_vm, 2);
	sys_exit_group(0); /* vCPU threads may be anywhere: nothing is torn down under them */
}
