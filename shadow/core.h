/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_CORE_H
#define UMBRA_CORE_H

/* What the core's own files (vm, slots, vcpu, exits, access, inject, control) share among themselves. */

#include "emulate.h"
#include "vcpu.h"
#include "vm.h"

#define X86_CR0_PE (1ULL << 0)
#define X86_CR0_TS (1ULL << 3)
#define X86_CR0_ET (1ULL << 4)
#define X86_CR0_NW (1ULL << 29)
#define X86_CR0_CD (1ULL << 30)
#define X86_CR0_PG (1ULL << 31)
#define X86_CR4_DE (1ULL << 3)
#define X86_CR4_PSE (1ULL << 4)
#define X86_CR4_PAE (1ULL << 5)
#define X86_CR4_PGE (1ULL << 7)
#define X86_CR4_LA57 (1ULL << 12)
#define X86_CR4_PCIDE (1ULL << 17)
#define X86_CR4_OSXSAVE (1ULL << 18)
#define X86_CR4_SMEP (1ULL << 20)
#define X86_EFER_LME (1ULL << 8)
#define X86_EFER_LMA (1ULL << 10)
#define X86_RFLAGS_FIXED (1ULL << 1)
#define X86_RFLAGS_TF (1ULL << 8)
#define X86_RFLAGS_IF (1ULL << 9)
#define X86_RFLAGS_RF (1ULL << 16)
#define X86_RFLAGS_VM (1ULL << 17)
#define X86_DR6_ACTIVE_LOW 0xffff0ff0ULL
#define X86_DR6_BD (1ULL << 13)
#define X86_DR6_BS (1ULL << 14)
#define X86_DR7_GD (1ULL << 13)
#define X86_DR7_FIXED 0x400ULL

#define EXC_DB 1
#define EXC_BP 3
#define EXC_OF 4
#define EXC_UD 6
#define EXC_DF 8
#define EXC_GP 13
#define EXC_PF 14
#define EXC_AC 17
#define EXC_MC 18

/* What exit handlers return besides EXIT_*: nothing changed that the loop must look at before the next entry. */
#define EXIT_QUICK 2

/* vcpu.careful: why the next entry and exit need more than the hot path does. */
#define CAREFUL_IRET (1 << 0)	  /* SVM: one IRET runs in single step, to see the end of NMI blocking */
#define CAREFUL_NMI_POLL (1 << 1) /* SVM: an NMI waits for something that no window tells of */

#define APIC_BASE_BSP (1ULL << 8)
#define APIC_BASE_ENABLE (1ULL << 11)

/* ---- an instruction or a port access that waits for the VMM (access.c, resume.c) ---- */
enum resume_kind { RESUME_READ = 1, RESUME_WRITE, RESUME_IN, RESUME_OUT };

/* One access that was done, of at most 8 bytes (RESUME_IN's data lie in pio_in). */
struct resume_entry {
	uint64_t gpa; /* or the port */
	uint32_t len;
	uint32_t kind;
	uint8_t data[8];
};

/* A page of a batch in pieces of 8 bytes, and more than any other instruction has. */
#define RESUME_ENTRIES (EMUL_PORT_BATCH / 8 + 32)

struct emul_resume {
	bool active;	       /* an instruction was left half-done */
	bool asked;	       /* the VMM is asked for entry[entries] */
	bool posted;	       /* the VMM is told of a write, which is in the log as done */
	uint64_t rip;	       /* of that instruction */
	struct emul_insn insn; /* it */
	/* What was done of the instruction or REP iteration under way, RAM included: nothing is done or read twice. */
	uint32_t entries;
	uint32_t cursor;  /* the next one that emulate() will ask for */
	uint32_t commits; /* emul_ctx.commits that the entries belong to */
	struct resume_entry entry[RESUME_ENTRIES + 1];
	uint8_t pio_in[EMUL_PORT_BATCH];
	uint8_t batch;	   /* what op_batch said: 0: not asked, 1: no, 2: yes */
	uint32_t pio_size; /* of a plain IN or OUT (exits.c) */
	/* What hardware told about the exit: saves the walk for this page. */
	uint64_t hint_gva, hint_gpa;
	uint32_t hint_access; /* UMBRA_MEM_*; 0: no hint */
};

/* resume.c: the log */
struct resume_entry *resume_next(struct emul_resume *resume, uint32_t kind, uint64_t gpa, uint32_t len);
struct resume_entry *resume_new(struct emul_resume *resume, uint32_t kind, uint64_t gpa, uint32_t len);
void resume_sync(struct emul_resume *resume, uint32_t commits);
/* These hand an access to the VMM; the new entry is what resume_new() gave. EMUL_OK or EMUL_PENDING. */
int resume_mmio(struct vcpu *vcpu, struct resume_entry *entry);
int resume_port(struct vcpu *vcpu, struct resume_entry *entry, uint32_t size, const void *data, uint32_t count);
void resume_answered(struct vcpu *vcpu); /* the VMM is back */
static inline void resume_done(struct emul_resume *resume)
{
	resume->cursor = ++resume->entries;
}

/* ---- bus.c: who gets an access before the VMM does; true: it is done. len, size: 1..8 and 1, 2, 4. ---- */
bool bus_mmio_read(struct vcpu *vcpu, uint64_t gpa, void *data, uint32_t len);
bool bus_mmio_write(struct vcpu *vcpu, uint64_t gpa, const void *data, uint32_t len);
bool bus_port_in(struct vcpu *vcpu, uint16_t port, uint32_t size, void *data);
bool bus_port_out(struct vcpu *vcpu, uint16_t port, uint32_t size, const void *data);
bool bus_has_mmio(struct vcpu *vcpu, uint64_t gpa); /* in place of RAM at this page */
bool bus_has_port(struct vcpu *vcpu, bool out, uint16_t port, uint32_t size);

int access_emulate(struct vcpu *vcpu); /* the instruction at rip; EXIT_* */
void access_hint(struct vcpu *vcpu, uint64_t gva, uint64_t gpa, uint32_t access);
/* Up to len bytes at rip: how many could be read. */
uint32_t access_fetch(struct vcpu *vcpu, uint8_t *bytes, uint32_t len);
uint8_t access_insn_length(struct vcpu *vcpu);
/* Reads or writes the first operand, in RAM, as the instruction would. false: *ret is what the exit handler returns. */
bool access_operand(struct vcpu *vcpu, bool write, uint64_t *value, uint8_t *len, int *ret);
int access_internal_error(struct vcpu *vcpu, const uint8_t *bytes, uint32_t len);

/* ---- the instruction behind an exit whose hardware does not describe it (insn.c) ---- */
uint8_t insn_length(struct vcpu *vcpu); /* 0: cannot be told */
/* Fill in what the exit lacks, its length included. false: *ret (resume) is what the exit handler returns. */
bool insn_cr(struct vcpu *vcpu, int *ret);
bool insn_dr(struct vcpu *vcpu);

/* ---- vcpu_regs.c ---- */
struct walk_regs vcpu_walk_regs(struct vcpu *vcpu); /* for walk_gva() */

/* ---- vcpu.c ---- */
int vcpu_init(struct vcpu *vcpu, struct vm *vm, uint32_t id); /* all but the thread; -errno */
void vcpu_fini(struct vcpu *vcpu);
void vcpu_reset(struct vcpu *vcpu, bool init);
void vcpu_sipi(struct vcpu *vcpu, uint8_t vector);
void vcpu_after_run(struct vcpu *vcpu); /* upkeep of valid after RUN */
int vcpu_run_shim(struct vcpu *vcpu);
void vcpu_insn_done(struct vcpu *vcpu);

/* ---- inject.c ---- */
void inject_debug(struct vcpu *vcpu, uint64_t dr6);
void inject_soft_exception(struct vcpu *vcpu, uint8_t vector, uint8_t type, uint8_t insn_len);
void inject_undo(struct vcpu *vcpu); /* what was handed over was not entered with: it is due again */
/* SVM: the guest is at an IRET that may end NMI blocking; the #DB after it, and what of its DR6 bits is the guest's. */
void inject_iret(struct vcpu *vcpu);
uint64_t inject_iret_done(struct vcpu *vcpu, uint64_t dr6);
uint64_t inject_deadline(const struct vcpu *vcpu); /* host TSC, 0: none */

/* ---- vcpu_thread.c ---- */
int vcpu_run(struct vcpu *vcpu);	     /* KVM_RUN: 0 or -errno */
void vcpu_take_init_sipi(struct vcpu *vcpu); /* what other vCPUs have sent */
bool vcpu_take_unhalt(struct vcpu *vcpu);    /* KVM_HC_KICK_CPU came since the last halt */
void vcpu_set_current(struct vcpu *vcpu);    /* this thread is the vCPU's */
void vcpu_serve(struct vcpu *vcpu, uint32_t bell);
uint64_t vcpu_fpu_mask(const struct vcpu *vcpu);

/* ---- coalesced.c ---- */
bool coalesced_write(struct vm *vm, bool pio, uint64_t addr, const void *data, uint32_t len);
int64_t coalesced_call(struct vm *vm, const struct call *call, bool add);

/* ---- control registers (cr.c) ---- */
int exit_cr(struct vcpu *vcpu);
int exit_dr(struct vcpu *vcpu);
int exit_xsetbv(struct vcpu *vcpu);
bool xcr0_valid(const struct vcpu *vcpu, uint64_t value);

/* ---- guest debugging (debug.c) ---- */
void debug_enter(struct vcpu *vcpu);
void debug_leave(struct vcpu *vcpu);
int debug_exit(struct vcpu *vcpu, uint8_t vector, uint64_t dr6); /* fills in KVM_EXIT_DEBUG */
int exit_exception(struct vcpu *vcpu);

/* ---- hypercalls (hypercall.c) ---- */
int exit_hypercall(struct vcpu *vcpu);
int exit_undefined(struct vcpu *vcpu);

/* ---- stats.c ---- */
void stats_print(struct vm *vm, int fd);
void explain_bad_state(struct vcpu *vcpu); /* one line to stderr, in words */

/* ---- slots ---- */
void slots_init(struct vm *vm);
void slots_fini(struct vm *vm);
int64_t slots_get_dirty(struct vm *vm, struct call *call);
int64_t slots_clear_dirty(struct vm *vm, struct call *call);
void vm_synchronize(struct vm *vm); /* until every reader that began before is done */
int vm_init(struct vm *vm, struct shim *shim);
unsigned int vm_cpus(void); /* CPUs for this process, at least 1 */

int shadow_main(int control_fd, struct shim *shim);
int shadow_prepare(void); /* eventfds.c; once, before the process's filter is on: 0 or -errno */
bool control_serve(int fd, struct vm *vm);

#endif
