/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_CHANNEL_H
#define UMBRA_CHANNEL_H

/*
 * The channel between the glue (in the VMM) and a shadow. Two parts:
 *
 * 1. A SOCK_SEQPACKET socket pair: one request, one reply, in turn. Descriptors travel with it.
 *    It carries the system and VM calls of the KVM API and the creation of vCPUs.
 * 2. Per vCPU one memfd (struct kvm_run's pages, then struct channel_vcpu): KVM_RUN and every other
 *    vCPU call. The VMM maps pages of its own, as it maps /dev/kvm's; the glue copies between both what an exit and
 *    a restart carry.
 *
 * Neither side trusts the other: the shadow checks every field against its own limits and answers with an
 * errno; the glue checks sizes and results. Both sides copy what they check.
 */

#include <linux/kvm.h>
#include <linux/types.h>

#define CHANNEL_VERSION 3	  /* raised with each change that the other side must know of */
#define CHANNEL_PAYLOAD_MAX 65536 /* bytes after struct channel_msg */
/* KVM's limits: an id beyond them gives EINVAL, one below them that is not in use ENOENT. */
#define CHANNEL_SLOT_KNOWN(id) ((id) >> 16 < 2 && ((id)&0xffff) < 32764)
#define CHANNEL_FDS_MAX 4

enum channel_kind {
	CHANNEL_HELLO = 1, /* shadow -> glue, unasked, once its sandbox is closed: struct channel_hello */
	CHANNEL_SYSTEM,	   /* a call on /dev/kvm; nr, arg or payload as in the KVM API */
	CHANNEL_VM,	   /* a call on the VM; KVM_CREATE_VM itself is nr KVM_CREATE_VM here */
	CHANNEL_MEMORY,	   /* KVM_SET_USER_MEMORY_REGION: struct channel_memory, one fd unless size is 0 */
	CHANNEL_VCPU,	   /* KVM_CREATE_VCPU: arg is the vcpu id; fds: memfd, kick eventfd, done eventfd */
	CHANNEL_DEATH,	   /* shadow -> glue, unasked: why it is about to end; text, no NUL, at most 1024 bytes */
};

/* The header of every message; payload follows in the same packet. */
struct channel_msg {
	__u16 version; /* CHANNEL_VERSION */
	__u16 kind;    /* enum channel_kind */
	__u32 nr;      /* the KVM ioctl's number (its low 16 bits and size bits as in <linux/kvm.h>) */
	__u64 arg;     /* for calls that pass a number instead of a pointer */
	__s64 ret;     /* in a reply: what the ioctl returns, or a negative errno */
	__u32 size;    /* bytes of payload: the pointed-to structure, variable tail included */
	__u32 cookie;  /* KVM_IRQFD, KVM_IOEVENTFD: the eventfd's kernel-wide id (fdinfo eventfd-id) */
};

/*
 * Payloads. A call whose argument is a pointer hands over what it points to as it lies in memory, a variable
 * tail included (KVM_SET_GSI_ROUTING, KVM_SET_CPUID2, KVM_SET_MSRS, ...); a call that passes a number sets arg
 * and has no payload. The same rules hold for CHANNEL_CALL on a vCPU, where arg, size and payload lie in
 * struct channel_vcpu.
 *
 * Request: only what KVM reads. _IOW and _IOWR: the structure. _IOR: nothing (size 0), KVM_SET_IRQCHIP and
 * KVM_SET_PIT (declared _IOR, but input) excepted. Lists that are filled in (KVM_GET_SUPPORTED_CPUID,
 * KVM_GET_EMULATED_CPUID, KVM_GET_CPUID2, KVM_GET_SUPPORTED_HV_CPUID, KVM_GET_MSR_INDEX_LIST,
 * KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_NESTED_STATE): the header alone; its count says for how many there
 * is room. KVM_GET_MSRS: header and entries.
 * Reply: only what KVM writes back. _IOR and _IOWR: the structure; the lists: header and as many entries as
 * were written; KVM_GET_MSRS: header and all entries. A reply with an error may carry a payload too: it is
 * written back before the errno is returned (E2BIG with the true count in the header). A reply larger than the
 * caller's room counts as malformed.
 *
 * What has pointers or descriptors in it:
 * KVM_GET_DIRTY_LOG: request: arg = first page wanted (a multiple of 64), struct kvm_dirty_log. Reply: the
 *   bitmap's bytes from there, to the slot's end or CHANNEL_PAYLOAD_MAX; the glue asks again for the rest.
 * KVM_CLEAR_DIRTY_LOG: request: struct kvm_clear_dirty_log, then the bitmap: ceil(num_pages / 64) * 8 bytes.
 *   Larger ones come in several calls.
 * KVM_SET_GSI_ROUTING: request: arg = first entry of these, struct kvm_irq_routing with the number of all, these entries.
 *   Larger tables come in several calls, in order; the last one makes all of them valid.
 * KVM_X86_SET_MSR_FILTER request: struct kvm_msr_filter, then the bitmaps of the ranges with nmsrs > 0 in
 *   order, each rounded up to 8 bytes.
 * KVM_SET_DEVICE_ATTR: request: struct kvm_device_attr, then the 8 bytes at its addr.
 * KVM_GET_DEVICE_ATTR: request: struct kvm_device_attr. Reply: the 8 bytes for its addr. KVM_HAS_DEVICE_ATTR:
 *   no reply payload.
 * KVM_IRQFD: cookie of fd. fds: fd, and resamplefd with KVM_IRQFD_FLAG_RESAMPLE; none with
 *   KVM_IRQFD_FLAG_DEASSIGN (cookie and gsi say which). The numbers in the structure mean nothing to the
 *   shadow.
 * KVM_IOEVENTFD: cookie of fd. fds: fd; none with KVM_IOEVENTFD_FLAG_DEASSIGN.
 * KVM_GET_XSAVE2: reply: at most what KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2) says. KVM_SET_XSAVE: that many
 *   bytes, at least 4096.
 * KVM_SET_SIGNAL_MASK and KVM_SET_USER_MEMORY_REGION never appear here: the glue does the first,
 *   CHANNEL_MEMORY is the second.
 * CHANNEL_DEATH: ret may be the negative errno that open("/dev/kvm") shall fail with if no hello was sent
 *   before.
 */

struct channel_hello {
	__u32 abi_version; /* of the shim */
	__u32 pid;	   /* the shadow's, in its parent's pid namespace where known, else 0 */
	__u32 namespaces;  /* CLONE_NEW* bits in force */
	__u32 tsc_khz;	   /* of the host */
};

struct channel_memory {
	__u32 slot;	      /* as in struct kvm_userspace_memory_region: address space in the high half */
	__u32 flags;	      /* KVM_MEM_* */
	__u64 gpa;	      /* bytes */
	__u64 size;	      /* bytes; 0 deletes */
	__u64 userspace_addr; /* the VMM's address: only to tell a moved slot from a changed one */
	__u64 fd_offset;      /* bytes into the descriptor passed along */
	__u32 fd_readonly;    /* 1: map without PROT_WRITE */
	__u32 huge;	      /* 1: the VMM's memory would have got huge pages of the kernel: see vm_first_touch() */
};

/* ---- vCPU area ---- */

#define CHANNEL_RUN_PAGES 3 /* KVM_GET_VCPU_MMAP_SIZE: kvm_run, PIO data, coalesced ring */
#define CHANNEL_PIO_OFFSET 4096
#define CHANNEL_RING_OFFSET 8192
#define CHANNEL_VCPU_OFFSET (CHANNEL_RUN_PAGES * 4096)
#define CHANNEL_VCPU_SIZE (CHANNEL_VCPU_OFFSET + 4096 + CHANNEL_PAYLOAD_MAX) /* of the memfd */

/*
 * The doorbell: byte 2 of struct kvm_run (padding1[0] in <linux/kvm.h>, always 0 for a VMM). It lies in the
 * same aligned 32-bit word as immediate_exit, which is the VMM's own as it was at the ring. That word is the futex
 * of both sides: a signal handler that runs before the VMM's thread sleeps changes CHANNEL_NOTE_BYTE, so FUTEX_WAIT returns at
 * once and no kick is lost.
 */
#define CHANNEL_BELL_BYTE 2
#define CHANNEL_NOTE_BYTE \
	3 /* the glue's own, to change the word before it sleeps; the shadow neither reads nor writes it */
enum channel_bell {
	CHANNEL_IDLE = 0, /* the VMM owns the area */
	CHANNEL_RUN = 1,  /* the shadow owns it: KVM_RUN */
	CHANNEL_CALL = 2, /* the shadow owns it: call.nr */
	/* The same for the VM calls that only interrupt vCPUs: KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI. */
	CHANNEL_VM_CALL = 3,
};

struct channel_vcpu {
	__u32 shadow_sleeps; /* shadow -> VMM: ring with FUTEX_WAKE */
	__u32 vmm_sleeps;    /* VMM -> shadow: 1: FUTEX_WAKE when done; 2: write the done eventfd */
	__u32 dead;	     /* set by the glue when the shadow is gone */
	__u32 nr;	     /* CALL: the KVM ioctl's number */
	__u64 arg;	     /* CALL: for calls that pass a number */
	__u32 size;	     /* CALL: in: bytes of payload handed over; out: bytes to hand back */
	__s32 ret;	     /* RUN, CALL: the ioctl's result or a negative errno */
	__u32 stop;	     /* VMM -> shadow: end this RUN with EINTR; then the kick eventfd is written. The
				VMM clears it before it rings RUN: a kick found with stop 0 is late and means nothing */
	__u32 reserved[7];
	/* payload at CHANNEL_VCPU_OFFSET + 4096 */
};

/*
 * The interrupt bell, in the first vCPU's area alone: KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS and KVM_SIGNAL_MSI of threads that run no vCPU. The
 * VMM fills in the call, sets bell from IDLE to RUNG and writes that vCPU's kick eventfd, unless a thread of the shadow looks at
 * bell anyway (polled) and is done soon. Who does the call sets bell to TAKEN, and to IDLE when ret, size and payload are the answer.
 */
#define CHANNEL_IRQ_PAYLOAD 32 /* bytes: struct kvm_msi; struct kvm_irq_level has fewer */
enum channel_irq_bell { CHANNEL_IRQ_IDLE, CHANNEL_IRQ_RUNG, CHANNEL_IRQ_TAKEN };

struct channel_irq {
	__u32 bell;	  /* enum channel_irq_bell; the VMM's futex */
	__u32 vmm_sleeps; /* VMM -> shadow: FUTEX_WAKE when done */
	__u32 polled;	  /* shadow -> VMM: so many threads look at bell */
	__u32 nr;	  /* the KVM ioctl's number */
	__u32 size;	  /* in: bytes of payload handed over; out: bytes to hand back */
	__s32 ret;	  /* the ioctl's result or a negative errno */
	__u32 reserved[2];
	__u8 payload[CHANNEL_IRQ_PAYLOAD];
};
#define CHANNEL_IRQ_OFFSET (CHANNEL_VCPU_OFFSET + 128)
#define CHANNEL_PAYLOAD_OFFSET (CHANNEL_VCPU_OFFSET + 4096)

#endif
