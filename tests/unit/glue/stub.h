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
};

/* kvm_irq_level.irq: what its interrupt bell does. */
enum stub_irq {
	STUB_IRQ_LATE = 1000, /* so that the caller sleeps */
	STUB_IRQ_BAD_SIZE,
	STUB_IRQ_BAD_RET,
	STUB_IRQ_KILLED,
};

#endif
