/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_VCPU_H
#define UMBRA_VCPU_H

#include "channel.h"
#include "exit.h"
#include "halt_poll.h"
#include "lapic.h"
#include "steal.h"
#include "turns.h"
#include "vm.h"

/*
 * A vCPU. Everything below belongs to its thread, but for the fields marked A (atomic, any thread).
 * Code on the vCPU thread is compiled with -mgeneral-regs-only (the thread's FPU state is the guest's), calls no libc
 * function but the project's own mem* functions, and makes system calls through sys.h only.
 */

/* Events on their way to the guest. (SDM 3A 6.9: the order of their priority is in inject.c.) */
struct pending_exception {
	bool pending;  /* raised, not yet handed to the shim */
	bool injected; /* handed over (or its delivery was interrupted): must be handed in again */
	bool has_error_code;
	bool has_payload;
	uint8_t vector;
	uint8_t type;	  /* UMBRA_EVENT_ICEBP, UMBRA_EVENT_SOFT_EXC; 0: a hardware exception */
	uint8_t insn_len; /* with such a type */
	uint32_t error_code;
	uint64_t payload; /* CR2 for #PF, DR6 bits for #DB */
};

struct pending_interrupt {
	bool injected;
	bool soft;
	uint8_t vector;
	uint8_t insn_len;
};

#define VCPU_MAX_CPUID 256 /* entries */

struct vcpu {
	struct vm *vm;
	uint32_t id;
	int fd; /* the shim's vCPU */
	struct umbra_run *run;
	void *vapic;
	struct umbra_answer *answers; /* UMBRA_ANSWERS of them; NULL: a shim without */
	uint64_t valid;		      /* UMBRA_STATE_* groups of *run that are the guest's present state */

	struct kvm_run *kvm;	      /* shared with the VMM: write freely, read once and check */
	uint8_t *pio;		      /* KVM_PIO page, shared with the VMM */
	struct channel_vcpu *channel; /* shared with the VMM */
	uint8_t *payload;	      /* shared with the VMM */
	int kick_fd, done_fd;	      /* eventfds: VMM -> shadow: stop; shadow -> VMM: done (mode 2) */

	struct vmexit exit; /* the last one */
	struct lapic lapic;
	uint64_t apic_base; /* IA32_APIC_BASE */

	struct pending_exception exception;
	struct pending_interrupt interrupt;
	uint8_t nmi_pending; /* 0..2 */
	bool nmi_injected;
	bool svm;	  /* C: the hardware is SVM, which does not know of blocked NMIs and soft events */
	bool nmi_blocked; /* svm only; VMX has it in run->intr_shadow */
	bool triple_fault;
	uint32_t mp_state;  /* KVM_MP_STATE_* */
	int user_interrupt; /* KVM_INTERRUPT's vector (VMM's PIC), -1: none */

	struct kvm_cpuid_entry2 cpuid[VCPU_MAX_CPUID];
	uint32_t cpuid_count;
	uint16_t cpuid_first[3][32];	     /* cpuid.c: [function >> 30][low 5 bits]: its first entry + 1; 0: none */
	uint16_t cpuid_next[VCPU_MAX_CPUID]; /* next entry of the same function + 1; 0: none */
	uint64_t cr4_guest_bits;	     /* CR4 bits that cpuid[] allows */
	uint64_t xcr0_guest_bits;	     /* XCR0 bits that cpuid[] allows */
	uint64_t efer_guest_bits;
	uint8_t maxphyaddr;
	struct vcpu_msrs *msrs; /* msr.h: the emulated ones */

	uint64_t dr6;
	uint64_t tsc_khz;
	uint64_t smbase;
	uint32_t guest_debug; /* KVM_GUESTDBG_* */
	uint32_t careful;     /* CAREFUL_* */
	struct kvm_guest_debug_arch guest_debug_regs;

	/* What the VMM's answer to the last exit completes; NULL: nothing. Returns as an exit handler does. */
	int (*complete)(struct vcpu *vcpu);
	struct emul_resume *resume; /* core.h: an instruction that waits for the VMM */
	struct emul_cache *insns;   /* emulate.h */
	struct walk_cache *walks;   /* emulate.h */
	uint64_t mem_retried;	    /* exits.c: the address of the last such entry */
	uint32_t mem_retries;	    /* exits.c: entries tried again since memory is there after all */

	void *fpu_park; /* XSAVE area, 64-byte aligned, for fpu_park()/fpu_unpark() */
	bool fpu_parked;

	/* A: requests from other threads */
	atomic_uint requests; /* VCPU_REQ_* */
	atomic_uint in_guest; /* 1 from before the last look at requests until RUN is back */
	atomic_uint wake;     /* futex: an idle (HLT, wait-for-SIPI) vCPU sleeps on it; bumped by vcpu_notify */

	uint64_t exits[VMEXIT_REASONS]; /* counters; read by others without a lock */
	uint64_t exits_user;		/* that went to the VMM */
	uint64_t exits_shim_calls;	/* RUNs */

	/* The core's own (vcpu_thread.c, inject.c, debug.c) */
	bool injecting;		 /* an event was handed over for the present entry */
	bool run_failed;	 /* the shim refused RUN or the state */
	bool debug_pending;	 /* a single step of the VMM's debugger is to be reported */
	bool debug_tf;		 /* the guest runs with an RFLAGS.TF that is not its own */
	bool debug_drs;		 /* the VMM's breakpoints are in run->dr */
	uint64_t debug_saved[5]; /* the guest's DR0-3, DR7 meanwhile */
	uint64_t iret_rip;	 /* CAREFUL_IRET: of the IRET */
	bool iret_tf;		 /* and RFLAGS.TF was set by the guest itself */
	bool soft_sent;		 /* svm: an exception of INT3, INTO or INT1 was handed over */
	uint8_t soft_len;	 /* with RIP this far past the instruction */
	uint64_t soft_rip;	 /* and at this */
	uint64_t exits_runs;	 /* KVM_RUN calls */
	void *call_buf;		 /* private copy of a call's payload */
	uint32_t spin_us;	 /* how long waiting for the bell without sleep pays */
	atomic_uint pv_unhalt;	 /* A: KVM_HC_KICK_CPU */
	struct vcpu_steal steal; /* steal.h */
	struct vcpu_turn turn;	 /* turns.h */
	struct vcpu_halt halt;	 /* halt_poll.h */
	atomic_uint gate;	 /* A: futex: 0 until the new thread may begin, or must end */
};

#define VCPU_REQ_STOP (1 << 0)	   /* the VMM wants KVM_RUN to end */
#define VCPU_REQ_EVENT (1 << 1)	   /* an interrupt, NMI or INIT/SIPI may be there */
#define VCPU_REQ_CLOCK (1 << 2)	   /* write the guest's pvclock again */
#define VCPU_REQ_SCAN_EOI (1 << 3) /* routes changed: which vectors' EOIs go to the VMM */
#define VCPU_REQ_NMI (1 << 4)	   /* an NMI from another thread (LAPIC, MSI) */
#define VCPU_REQ_EXIT (1 << 5)	   /* the shadow ends */
#define VCPU_REQ_ANSWERS (1 << 6)  /* the MSR filter changed */

/* Sets requests and makes the vCPU look at them: wakes it out of HLT, kicks it out of the guest. Any thread. */
void vcpu_notify(struct vcpu *vcpu, unsigned int requests);

/* ---- state access (vcpu.c) ---- */

/* Makes groups of *run valid (one RUN with NO_ENTRY where they are not). */
void vcpu_fetch(struct vcpu *vcpu, uint64_t groups);
/* Says that groups of *run were changed; they must be valid. */
static inline void vcpu_dirty(struct vcpu *vcpu, uint64_t groups)
{
	vcpu->run->dirty |= groups;
}

static inline bool vcpu_long_mode(struct vcpu *vcpu) /* needs CR */
{
	return vcpu->run->efer & (1 << 10);
}
bool vcpu_code64(struct vcpu *vcpu); /* fetches what it needs */
int vcpu_cpl(struct vcpu *vcpu);

/* Next instruction: rip += insn_len (32 bits outside 64-bit code), ends STI/MOV SS shadow. Finds the
 * length by decoding where the shim did not give one. */
void vcpu_skip_insn(struct vcpu *vcpu);

/* ---- what exit handlers return ---- */
#define EXIT_RESUME 1 /* enter the guest again */
#define EXIT_USER 0   /* kvm_run is filled in: back to the VMM */
/* a negative errno: KVM_RUN fails with it */

int vcpu_handle_exit(struct vcpu *vcpu); /* exits.c: one flat table */

/* ---- events (inject.c) ---- */
void inject_exception(struct vcpu *vcpu, uint8_t vector); /* without error code */
void inject_exception_code(struct vcpu *vcpu, uint8_t vector, uint32_t code);
void inject_page_fault(struct vcpu *vcpu, uint64_t gva, uint32_t code);
static inline void inject_gp(struct vcpu *vcpu)
{
	inject_exception_code(vcpu, 13, 0);
}
static inline void inject_ud(struct vcpu *vcpu)
{
	inject_exception(vcpu, 6);
}
void inject_take_back(struct vcpu *vcpu);   /* after an exit: what run->exit.event says goes back to the queues */
int inject_before_entry(struct vcpu *vcpu); /* hands over what is due, asks for windows; EXIT_* */
bool inject_can_take_interrupt(struct vcpu *vcpu); /* RFLAGS.IF and no shadow, nothing else being delivered */
bool vcpu_has_work(struct vcpu *vcpu);		   /* would a halted vCPU wake up? */

/* ---- answers.c: what the shim answers by itself ---- */
void answers_update(struct vcpu *vcpu);
bool answers_concern(uint32_t msr); /* does a write to this MSR change an answer? */

/* ---- calls (vcpu_calls.c) ----
 * One vCPU call of the KVM API, on the vCPU thread. buf: a private copy of the payload, capacity
 * CHANNEL_PAYLOAD_MAX; *size in and out. */
bool vcpu_tsc_khz_possible(const struct vm *vm, uint32_t khz); /* KVM_SET_TSC_KHZ; any thread */
int vcpu_call(struct vcpu *vcpu, uint32_t nr, uint64_t arg, void *buf, uint32_t *size);

/* ---- thread (vcpu_thread.c) ---- */
int vcpu_create(struct vm *vm, uint32_t id, int memfd, int kick_fd, int done_fd); /* starts the thread */
void vcpu_park_fpu(struct vcpu *vcpu);	 /* the guest's FPU state to memory: library code may run */
void vcpu_unpark_fpu(struct vcpu *vcpu); /* and back */

#endif
