/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_TEST_GLUE_STUB_H
#define UMBRA_TEST_GLUE_STUB_H

/* kvm_mp_state.mp_state given to the stub: what its KVM_RUN does from then on. */
enum stub_mode {
	STUB_EXIT_IO = 0,  /* OUT 0x3f8, 'U' */
	STUB_UNTIL_STOP,   /* until the glue stops it */
	STUB_EXIT_OR_STOP, /* stopped, or OUT after a millisecond */
	STUB_KILLED,	   /* SIGKILL to itself */
	STUB_LAST_WORDS,   /* CHANNEL_DEATH, then the end */
	STUB_BAD_RET,
	STUB_BAD_OFFSET, /* io.data_offset far outside */
	STUB_BAD_SIZE,	 /* io.size 3 */
	STUB_BAD_MMIO,	 /* mmio.len a MiB */
	STUB_BAD_NDATA,	 /* internal.ndata far more than there are */
	STUB_BAD_BYTES,	 /* emulation_failure.insn_size 200 */
	STUB_BAD_REASON, /* KVM_EXIT_SYSTEM_EVENT, which no shadow has */
	STUB_BAD_ENTRY,	 /* in the ring: a length of a MiB */
	STUB_BAD_LAST,	 /* the ring's */
	STUB_ASKS,	 /* IN, MMIO read, RDMSR in turn; KVM_GET_REGS has what it was answered */
	/* OUT, MMIO write in turn; when told to (channel_vcpu.reserved[0]) it writes nonsense over them ([1]: has done so) until the next call */
	STUB_CHANGES,
	STUB_RING,	 /* 100 coalesced writes, numbered; then OUT */
	STUB_RING_STOP,	 /* one of them, then until the glue stops it */
	STUB_HIDES_NOTE, /* until stopped, and takes away what the glue would see a signal by */
};

/* kvm_irq_level.irq: what its interrupt bell does. */
enum stub_irq {
	STUB_IRQ_LATE = 1000, /* so that the caller sleeps */
	STUB_IRQ_BAD_SIZE,
	STUB_IRQ_BAD_RET,
	STUB_IRQ_KILLED,
};

/* kvm_msr_entry.index of a KVM_GET_MSRS or KVM_SET_MSRS: what the answer is. */
enum stub_msr {
	STUB_MSR_GOOD = 1,
	STUB_MSR_MORE,	   /* one more in the head than was asked for */
	STUB_MSR_TOO_MANY, /* done than there were */
};

#endif
