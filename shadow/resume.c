// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an instruction has done so far when it has to wait for the VMM. It is begun again with the answer; everything
 * that it did before is given to it from this log.
 */
#include <string.h>

#include "core.h"
#include "fault.h"
#include "vcpu.h"

/* What belongs to an iteration that is complete is used up. */
void resume_sync(struct emul_resume *resume, uint32_t commits)
{
	if (resume->commits == commits)
		return;
	resume->commits = commits;
	resume->entries = resume->cursor = 0;
	resume->batch = 0;
}

/* The next access as it was done before; NULL: it is new. */
struct resume_entry *resume_next(struct emul_resume *resume, uint32_t kind, uint64_t gpa, uint32_t len)
{
	struct resume_entry *entry = &resume->entry[resume->cursor];

	if (resume->cursor >= resume->entries || entry->gpa != gpa || entry->len != len || entry->kind != kind) {
		resume->entries = resume->cursor; /* what follows was for another access */
		return NULL;
	}
	resume->cursor++;
	return entry;
}

/* The end of the log, not yet part of it; NULL: full. */
struct resume_entry *resume_new(struct emul_resume *resume, uint32_t kind, uint64_t gpa, uint32_t len)
{
	struct resume_entry *entry = &resume->entry[resume->entries];

	if (resume->entries >= RESUME_ENTRIES)
		return NULL;
	entry->gpa = gpa;
	entry->len = len;
	entry->kind = kind;
	return entry;
}

/* A write is over for the guest as soon as the VMM is told: nothing of it comes back. */
static int resume_hand_over(struct emul_resume *resume, const struct resume_entry *entry)
{
	if (entry->kind == RESUME_WRITE || entry->kind == RESUME_OUT) {
		resume->posted = true;
		resume_done(resume);
		return EMUL_OK;
	}
	resume->asked = true;
	return EMUL_PENDING;
}

int resume_mmio(struct vcpu *vcpu, struct resume_entry *entry)
{
	struct kvm_run *kvm = vcpu->kvm;

	kvm->exit_reason = KVM_EXIT_MMIO;
	kvm->mmio.phys_addr = entry->gpa;
	kvm->mmio.len = entry->len;
	kvm->mmio.is_write = entry->kind == RESUME_WRITE;
	memset(kvm->mmio.data, 0, sizeof(kvm->mmio.data));
	if (entry->kind == RESUME_WRITE)
		memcpy(kvm->mmio.data, entry->data, entry->len);
	FAULT_POINT(mmio_exit, kvm, entry, entry->len);
	return resume_hand_over(vcpu->resume, entry);
}

/* data: of an OUT */
int resume_port(struct vcpu *vcpu, struct resume_entry *entry, uint32_t size, const void *data, uint32_t count)
{
	struct kvm_run *kvm = vcpu->kvm;

	if (entry->kind == RESUME_OUT)
		memcpy(vcpu->pio, data, size * count);
	kvm->exit_reason = KVM_EXIT_IO;
	kvm->io.direction = entry->kind == RESUME_IN ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	kvm->io.size = (uint8_t)size;
	kvm->io.port = (uint16_t)entry->gpa;
	kvm->io.count = count;
	kvm->io.data_offset = CHANNEL_PIO_OFFSET;
	return resume_hand_over(vcpu->resume, entry);
}

void resume_answered(struct vcpu *vcpu)
{
	struct emul_resume *resume = vcpu->resume;
	struct resume_entry *entry = &resume->entry[resume->entries];

	if (!resume->asked)
		return;
	resume->asked = false;
	FAULT_POINT(mmio_answer, vcpu, entry, entry->len);
	if (entry->kind == RESUME_IN)
		memcpy(resume->pio_in, vcpu->pio, entry->len);
	else
		memcpy(entry->data, vcpu->kvm->mmio.data, entry->len);
	resume->entries++;
}
