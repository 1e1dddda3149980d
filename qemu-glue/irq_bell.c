/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/*
 * Interrupts raised by threads that run no vCPU, such as the one that completes requests of disks: two of them a request on some
 * machines. On the socket each would cost eight system calls and two sleeps.
 */

int irq_bell_open(struct vm *vm, const struct vcpu *vcpu)
{
	uint8_t *page =
		real_mmap(NULL, GLUE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->area_fd, CHANNEL_VCPU_OFFSET);

	if (page == MAP_FAILED)
		return -errno;
	real_madvise(page, GLUE_PAGE, MADV_DONTFORK);
	vm->irq_kick_fd = private_fd(fcntl(vcpu->kick_fd, F_DUPFD_CLOEXEC, 0));
	if (vm->irq_kick_fd < 0) {
		real_munmap(page, GLUE_PAGE);
		return -EMFILE;
	}
	/* Other threads may look at it already. */
	atomic_store(&vm->irq, (struct channel_irq *)(page + (CHANNEL_IRQ_OFFSET - CHANNEL_VCPU_OFFSET)));
	return 0;
}

void irq_bell_close(struct vm *vm)
{
	struct channel_irq *irq = atomic_load(&vm->irq);

	if (!irq)
		return;
	private_close(vm->irq_kick_fd);
	if (!atomic_load(&vm->shadow->closed)) /* in a child made by fork() it is not mapped */
		real_munmap((uint8_t *)irq - (CHANNEL_IRQ_OFFSET - CHANNEL_VCPU_OFFSET), GLUE_PAGE);
}

static void kick(const struct vm *vm)
{
	uint64_t one = 1;
	ssize_t n = write(vm->irq_kick_fd, &one, sizeof(one));

	(void)n; /* full (EAGAIN): it is readable, which is all that is needed */
}

static int64_t ring(struct vm *vm, struct channel_irq *irq, uint32_t nr, const void *in, uint32_t size)
{
	struct wait wait = { .word = &irq->bell,
			     .mask = ~0u,
			     .sleeps = &irq->vmm_sleeps,
			     .adapt = &vm->irq_adapt,
			     .shadow = vm->shadow };

	memcpy(irq->payload, in, size);
	irq->nr = nr;
	irq->size = size;
	clock_gettime(CLOCK_MONOTONIC, &wait.since);
	__atomic_store_n(&irq->bell, CHANNEL_IRQ_RUNG, __ATOMIC_SEQ_CST);
	/* Who polls may be about to stop: no answer soon, and the event thread is called after all. */
	if (!__atomic_load_n(&irq->polled, __ATOMIC_SEQ_CST) || !wait_spin(&wait)) {
		kick(vm);
		if (wait_answer(&wait))
			return -EIO;
	}
	return __atomic_load_n(&irq->ret, __ATOMIC_SEQ_CST);
}

static int64_t call_locked(struct vm *vm, struct channel_irq *irq, uint32_t nr, uint64_t arg)
{
	uint8_t buf[CHANNEL_IRQ_PAYLOAD];
	struct payload p;
	uint32_t size;
	int64_t ret;
	int put;

	if (atomic_load(&vm->shadow->dead))
		return -EIO;
	ret = payload_gather(nr, arg, 0, buf, &p);
	if (ret)
		return ret;
	ret = ring(vm, irq, nr, buf, p.in_size);
	size = __atomic_load_n(&irq->size, __ATOMIC_SEQ_CST);
	if (ret == -EIO)
		return ret;
	put = ret < -4095 ? -EPROTO : payload_put(nr, &p, irq->payload, size, ret);
	if (put == -EPROTO) {
		shadow_is_broken(vm->shadow, "it sent a malformed reply at the interrupt bell");
		return -EIO;
	}
	return put ? put : ret;
}

bool irq_bell_call(struct vm *vm, uint32_t nr, uint64_t arg, int64_t *ret)
{
	struct channel_irq *irq = atomic_load(&vm->irq);

	if (!irq || atomic_load(&vm->shadow->closed) || pthread_mutex_trylock(&vm->irq_lock))
		return false;
	*ret = call_locked(vm, irq, nr, arg);
	pthread_mutex_unlock(&vm->irq_lock);
	return true;
}
