/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_VM_H
#define UMBRA_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lock.h"
#include "shim.h"
#include "turns.h"

#define VM_MAX_VCPUS UMBRA_MAX_VCPUS
#define VM_MAX_VCPU_IDS (4 * VM_MAX_VCPUS) /* APIC IDs have gaps where a topology's counts are no powers of 2 */
#define VM_MAX_SLOTS 509		   /* KVM_CAP_NR_MEMSLOTS; slot n of the KVM API is region n of the shim */
#define VM_MAX_ROUTES 4096		   /* KVM_CAP_IRQ_ROUTING: GSIs; as many as KVM */

struct channel_irq;
struct irqchip;
struct vcpu;

/* One memory slot; read on vCPU threads without a lock (see vm_slots_find). */
struct slot {
	uint64_t gpa;	   /* bytes */
	uint64_t size;	   /* bytes; 0: empty */
	uint8_t *hva;	   /* the shadow's own mapping */
	void *map;	   /* what was mapped for it: whole pages of its file, more than the slot with hugetlbfs */
	uint64_t map_size; /* bytes */
	uint64_t userspace_addr; /* the VMM's */
	uint32_t id;
	uint32_t flags; /* KVM_MEM_* */
	bool huge;	/* to be taken in pieces of 2 MiB where that can be */
};

/* Huge pages are asked for in pieces of 2 MiB, in the first TiB of guest-physical addresses. */
#define HUGE_PIECES (1 << 19)

/* An immutable snapshot, sorted by gpa; replaced as a whole on every change. */
struct slots {
	uint32_t count;
	uint64_t generation; /* never the same twice, unlike the address */
	struct slot slot[];
};

/* One ioeventfd. */
struct ioevent {
	uint64_t addr;
	uint64_t match;
	uint32_t len; /* 0 (any), 1, 2, 4, 8 */
	int fd;
	uint32_t cookie;
	bool pio, has_match;
};

struct ioevents {
	uint32_t count;
	struct ioevent event[];
};

/* KVM_REGISTER_COALESCED_MMIO's zones. */
struct coalesced_zones {
	uint32_t count;
	struct kvm_coalesced_mmio_zone zone[];
};

/*
 * Locks. V: vm->lock, held by the control thread for every change. R: published snapshot, read with
 * vm_read_lock()/vm_read_unlock() (see vm.c), freed when no vCPU thread can still hold it.
 * C: fixed before the first vCPU runs. A: atomic.
 */
struct vm {
	struct shim *shim;	/* C */
	struct umbra_info info; /* C */
	pthread_mutex_t lock;
	_Atomic(struct slots *) slots;			   /* R */
	_Atomic(struct ioevents *) ioevents;		   /* R */
	atomic_uint ioevent_buses;			   /* which have any: bit 0 memory, bit 1 ports */
	_Atomic(struct coalesced_zones *) coalesced_zones; /* R */
	struct kvm_coalesced_mmio_ring *ring;		   /* C: in the first vCPU's area, shared with the VMM */
	atomic_uint ring_lock;				   /* of ring's end and coalesced_writes */
	uint64_t coalesced_writes;			   /* counter; read by others without a lock */
	struct channel_irq *irq_bell;	 /* A: set once; in the first vCPU's area, shared with the VMM */
	struct lock irq_lock;		 /* inside every other lock; see irqchip.h */
	struct irq_routes *routes;	 /* irq_lock */
	struct eventfds *eventfds;	 /* own lock: see routing.h */
	struct vcpu *vcpu[VM_MAX_VCPUS]; /* A: set once */
	atomic_uint vcpus;		 /* A */
	bool pause_loops;		 /* C: the hardware tells loops of PAUSE from one */
	bool in_shim;			 /* V: the shim has it; KVM_CREATE_VM may have failed after that */
	bool created;			 /* V: KVM_CREATE_VM done */
	bool split_irqchip;	   /* V, set before the first vCPU: LAPICs in the shadow, PIC and I/O APIC in the VMM */
	struct irqchip *irqchip;   /* V, set before the first vCPU: PIC and I/O APIC in the shadow too */
	uint32_t ioapic_pins;	   /* V: KVM_CAP_SPLIT_IRQCHIP's argument */
	bool x2apic_api_32bit_ids; /* V: KVM_CAP_X2APIC_API bit 0 */
	bool x2apic_no_broadcast_quirk; /* V: KVM_CAP_X2APIC_API bit 1 */
	bool exception_payload;		/* V */
	bool triple_fault_event;	/* V */
	uint64_t user_space_msr_mask;	/* V: KVM_CAP_X86_USER_SPACE_MSR's argument */
	struct msr_filter *msr_filter;	/* R, see msr.h */
	uint32_t max_vcpu_ids;		/* V: KVM_CAP_MAX_VCPU_ID, 0: neither asked for nor a vCPU made yet */
	uint32_t boot_cpu_id;		/* V: KVM_SET_BOOT_CPU_ID; fixed by the first vCPU */
	uint32_t disabled_exits;	/* V: KVM_CAP_X86_DISABLE_EXITS */
	uint64_t bus_lock_mode;		/* V */
	bool exit_on_emulation_failure; /* V: KVM_CAP_EXIT_ON_EMULATION_FAILURE */
	_Atomic uint64_t tsc_offset; /* A: by the VMM's last TSC write, 0: none yet; writes within a second share it */
	struct vm_turns turns;	     /* turns.h */
	uint32_t tsc_khz;	     /* V: default for new vCPUs, kHz */
	struct vm_clock *clock;	     /* own lock: see clock.h */
	uint64_t tss_addr, identity_map_addr;	       /* V: stored; unrestricted guest needs neither */
	uint64_t manual_dirty_protect;		       /* V */
	_Atomic uint64_t ioeventfd_signals;	       /* A: for stats_print() alone */
	_Atomic uint64_t irqfd_interrupts;	       /* A: the same */
	atomic_uint huge_misses;		       /* A: pieces in a row that could not be had as huge pages */
	_Atomic uint64_t huge_asked[HUGE_PIECES / 64]; /* A: pieces that were asked for, a bit each */
	struct slot_dirty *dirty[VM_MAX_SLOTS];	       /* V: dirty bits fetched but not yet cleared (manual protect) */
};

/* Of the host's TSC. */
static inline uint64_t vm_us_to_ticks(const struct vm *vm, uint64_t us)
{
	return vm->info.tsc_khz * us / 1000;
}

/* LAPICs in the shadow, whoever has the PIC and the I/O APIC. */
static inline bool vm_has_lapics(const struct vm *vm)
{
	return vm->split_irqchip || vm->irqchip;
}

/* Guest-physical range to the shadow's memory: NULL unless all of [gpa, gpa + len) lies in one slot
 * (and, with write, one that is not read-only). Any thread. No vector registers. */
void *vm_gpa_to_hva(struct vm *vm, uint64_t gpa, size_t len, bool write);

/* Copy across slots; 0 or -EFAULT (nothing promised about a partly done copy). */
int vm_read_gpa(struct vm *vm, uint64_t gpa, void *to, size_t len);
int vm_write_gpa(struct vm *vm, uint64_t gpa, const void *from, size_t len);

/* On a vCPU thread: the guest is about to touch the 2 MiB around gpa for the first time. */
void vm_first_touch(struct vm *vm, uint64_t gpa);

/* Readers of R snapshots on any thread bracket their use. May be nested; never across a RUN or a sleep. */
void vm_read_lock(struct vm *vm);
void vm_read_unlock(struct vm *vm);

/* KVM API calls on the VM and on /dev/kvm, as the control thread gets them. ret >= 0 or -errno. in: payload
 * (size bytes); out: reply payload of at most CHANNEL_PAYLOAD_MAX bytes, *out_size set. fds: those that came along;
 * the callee takes over (and clears to -1) each that it keeps. */
struct call {
	uint32_t nr;
	uint64_t arg;
	const void *in;
	uint32_t in_size;
	void *out;
	uint32_t out_size;
	uint32_t cookie;
	int *fds;
	int nfds;
};
int64_t vm_call(struct vm *vm, struct call *call);	     /* vm_calls.c */
int64_t vm_interrupt_call(struct vm *vm, struct call *call); /* the same; on any thread, no vector registers */
int64_t vm_memory(struct vm *vm, struct call *call);	     /* slots.c: CHANNEL_MEMORY */
int64_t vm_create_vcpu(struct vm *vm, struct call *call);    /* vm_calls.c: CHANNEL_VCPU */
int64_t system_call(struct vm *vm, struct call *call);	     /* system_calls.c: /dev/kvm itself */
int64_t vm_check_extension(struct vm *vm, uint64_t cap);     /* system_calls.c; also on the VM */

#endif
