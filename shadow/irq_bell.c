// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VM's interrupt bell (struct channel_irq): interrupts that threads of the VMM raise which run no vCPU. The VMM writes everything
 * here at any time: what is used is copied once, and checked as the same call on the socket is.
 */
#include "irq_bell.h"

#include <errno.h>
#include <string.h>

#include "channel.h"
#include "sys.h"
#include "vm.h"

static struct channel_irq *bell_of(struct vm *vm)
{
	return __atomic_load_n(&vm->irq_bell, __ATOMIC_ACQUIRE);
}

static int serve(struct vm *vm, volatile struct channel_irq *bell)
{
	_Alignas(8) uint8_t in[CHANNEL_IRQ_PAYLOAD], out[CHANNEL_IRQ_PAYLOAD];
	struct call call = { .nr = bell->nr, .in = in, .in_size = bell->size, .out = out };
	int ret;

	bell->size = 0;
	if (call.in_size > sizeof(in))
		return -EINVAL;
	memcpy(in, (const void *)bell->payload, sizeof(in));
	ret = (int)vm_interrupt_call(vm, &call);
	if (call.out_size && call.out_size <= sizeof(out)) {
		memcpy((void *)bell->payload, out, call.out_size);
		bell->size = call.out_size;
	}
	return ret;
}

bool irq_bell_serve(struct vm *vm)
{
	struct channel_irq *bell = bell_of(vm);
	uint32_t rung = CHANNEL_IRQ_RUNG;

	if (!bell || __atomic_load_n(&bell->bell, __ATOMIC_RELAXED) != rung ||
	    !__atomic_compare_exchange_n(&bell->bell, &rung, CHANNEL_IRQ_TAKEN, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_RELAXED))
		return false;
	bell->ret = serve(vm, bell);
	__atomic_exchange_n(&bell->bell, CHANNEL_IRQ_IDLE, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&bell->vmm_sleeps, __ATOMIC_SEQ_CST))
		sys_futex_wake(&bell->bell, 1);
	return true;
}

void irq_bell_polled(struct vm *vm, int by)
{
	struct channel_irq *bell = bell_of(vm);

	if (bell)
		__atomic_fetch_add(&bell->polled, (uint32_t)by, __ATOMIC_RELAXED);
}
