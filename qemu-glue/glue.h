/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_GLUE_H
#define UMBRA_GLUE_H

/*
 * The preload library: KVM's descriptors in a VMM that knows nothing of Umbra. Functions return a value >= 0 or a
 * negative errno; only the interposers (interpose.c) turn that into -1 and errno.
 */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "channel.h"

#define GLUE_PAGE 4096UL

/* One clear line on stderr, "umbra: " in front. */
void glue_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- the C library's own functions, past the interposers (real.c) ---- */
int real_close(int fd);
int real_dup3(int from, int to, int flags);
void *real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int real_munmap(void *addr, size_t len);
int real_madvise(void *addr, size_t len, int advice);
long real_futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout);

/* The VMM's memory, without a fault here: 0 or -EFAULT. */
int user_read(void *to, uint64_t addr, size_t len);
int user_write(uint64_t addr, const void *from, size_t len);

/* ---- descriptors (files.c) ---- */
enum file_kind { FILE_NONE, FILE_PRIVATE, FILE_KVM, FILE_VM, FILE_VCPU };

struct shadow;
struct vm;
struct vcpu;

/* An open file, as the kernel has it: several descriptors may stand for one. Never freed, only used again, so
 * that file_get() needs no lock. */
struct file {
	atomic_uint refs; /* descriptors and calls under way */
	atomic_int kind;
	void *object;	   /* struct kvm, vm, vcpu */
	struct file *next; /* free list */
};

#define FILE_TABLE_SIZE (1 << 16) /* descriptors above it cannot be ours */
extern _Atomic(struct file *) file_table[FILE_TABLE_SIZE];

static inline bool file_is_ours(int fd)
{
	return fd >= 0 && fd < FILE_TABLE_SIZE && atomic_load_explicit(&file_table[fd], memory_order_relaxed);
}

struct file *file_new(enum file_kind kind, void *object);
struct file *file_get(int fd); /* NULL: not ours */
void file_put(struct file *file);
int file_install(int fd, struct file *file); /* takes over the caller's reference; -EMFILE */
void file_copy(int from, int to);	     /* after dup: the descriptor to stands for the same file */
void file_forget(int fd);		     /* before close */
int file_highest(void);			     /* upper bound of the descriptors that are ours */
bool file_is_private(int fd);
int private_fd(int fd); /* moves a descriptor of the glue's own out of the VMM's way; takes it over */
void private_close(int fd);

/* Ends the object behind a file when its last reference goes (calls.c). */
void file_release(enum file_kind kind, void *object);

/* ---- shadows (shadow.c) ---- */
struct shadow {
	pthread_mutex_t lock; /* one request at a time */
	atomic_uint refs;
	int socket; /* -1: closed */
	pid_t pid;
	bool has_vm;
	uint32_t tsc_khz;    /* the host's */
	uint32_t xsave_size; /* of its VM: what KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2) said before a guest ran */
	atomic_bool dead;    /* it ended or misbehaved: reported, everything is EIO */
	atomic_bool closed;  /* ended by us */
	int wait_status;     /* when dead; -1 unknown */
	char why[1100];	     /* its last words */
	struct shadow *next; /* list of all, for fork */
	uint8_t buf[CHANNEL_PAYLOAD_MAX]; /* the payload, in and out; under lock */
	uint8_t packet[sizeof(struct channel_msg) + CHANNEL_PAYLOAD_MAX + 1];
};

struct request {
	uint16_t kind;
	uint32_t nr;
	uint64_t arg;
	uint32_t cookie;
	uint32_t size; /* of shadow->buf handed over; out: received */
	uint32_t max;  /* reply payload allowed */
	int fds[CHANNEL_FDS_MAX];
	int nfds;
};

int shadow_start(struct shadow **out);
void shadow_get(struct shadow *shadow);
void shadow_put(struct shadow *shadow);
void shadow_close(struct shadow *shadow);   /* ends the process and waits for it */
bool shadow_is_gone(struct shadow *shadow); /* looks; once it is gone, says so on stderr */
void shadow_is_broken(struct shadow *shadow, const char *why);
void shadow_is_broken_locked(struct shadow *shadow, const char *why);
int64_t shadow_request_locked(struct shadow *shadow, struct request *request);
void shadow_fork_child(void);
int message_check(const struct channel_msg *msg, size_t bytes, bool truncated, const struct request *request);

/* ---- payloads (payload.c) ---- */
struct payload {
	uint32_t in_size;  /* bytes in the buffer to hand over */
	uint32_t out_max;  /* bytes that may come back */
	uint64_t out_addr; /* where they go */
	bool number;	   /* the argument is a number */
	bool counted;	   /* a list; */
	uint16_t count_at; /* where it has its count, */
	uint32_t count;	   /* and how much of it the VMM has room for */
};
int payload_gather(uint32_t nr, uint64_t arg, uint32_t xsave_size, void *buf, struct payload *payload);
/* Writes the answer back. buf may be shared with the shadow. -EFAULT; -EPROTO: no answer that KVM could give. */
int payload_put(uint32_t nr, const struct payload *payload, const void *buf, uint32_t size, int64_t ret);

/* ---- waiting for an answer in shared memory (wait.c) ---- */
#define WAIT_LOOK_MS 200 /* between two looks at whether the shadow lives */

struct wait_adapt {
	uint32_t spin_us; /* before it sleeps; adapted */
	uint32_t yields;  /* sched_yield()s before a sleep; adapted */
	uint32_t cpus;	  /* this thread may use; 0: not looked up yet */
	uint32_t sleeps;  /* since cpus was looked up */
};

struct wait {
	uint32_t *word;	  /* both sides' futex */
	uint32_t mask;	  /* of it: all 0 when the answer is there */
	uint32_t *sleeps; /* tells the shadow that it has to wake this thread */
	struct wait_adapt *adapt;
	struct shadow *shadow;
	struct vcpu *run;      /* whose KVM_RUN this is, which signals end; else NULL: an answer is due soon */
	bool stopped;	       /* it was asked to end the run */
	bool ignored;	       /* immediate_exit was set before the ring: the shadow sees to that itself */
	struct timespec since; /* the last sign of life, for what must be answered soon */
};

void wait_init(struct wait_adapt *adapt);
uint32_t wait_word(const struct wait *wait);
bool wait_is_over(const struct wait *wait, uint32_t word);
void wait_stop(struct wait *wait);
/* Before each sleep: asks for the run's end where one is wanted. False: the answer is there. */
bool wait_goes_on(struct wait *wait, uint32_t *word);
int wait_look(struct wait *wait); /* -EIO: nobody is there to answer */
/* True when the answer came. On one CPU it does not spin: that would only keep the shadow from running. */
bool wait_spin(struct wait *wait);
/* 0 when the answer is there, -EIO when there will be none. The second one neither spins nor yields first. */
int wait_answer(struct wait *wait);
int wait_sleep(struct wait *wait);

/* ---- objects (calls.c) ---- */
struct kvm {
	pthread_mutex_t lock;
	struct shadow *shadow;
};

struct vm_slot {
	uint32_t slot;
	uint64_t pages;
};

/* The ring of coalesced writes, see ring.c. */
struct ring {
	pthread_mutex_t lock;
	int fd;	       /* the first vCPU's, with the VMM's ring; -1: no vCPU yet */
	uint32_t last; /* as far as the shadow's ring was taken */
	struct kvm_coalesced_mmio_ring *vmm, *shadow;
};

struct vm {
	struct shadow *shadow;
	atomic_uint refs; /* its file and its vCPUs */
	uint32_t xsave_size;
	uint32_t nslots;
	struct vm_slot *slots;	  /* under shadow->lock */
	pthread_mutex_t irq_lock; /* one call at a time by the interrupt bell */
	struct wait_adapt irq_adapt;
	_Atomic(struct channel_irq *) irq; /* NULL: no vCPU yet */
	int irq_kick_fd;		   /* the first vCPU's kick eventfd */
	struct ring ring;
};

int kvm_open(int flags);
int64_t glue_ioctl(struct file *file, uint32_t nr, uint64_t arg);

/* ---- vCPUs (vcpu.c) ---- */
struct vcpu {
	struct vm *vm;
	uint32_t id;
	pthread_mutex_t lock; /* one call at a time */
	int fd;		      /* the VMM's descriptor: a memfd with the pages that it maps */
	int area_fd;	      /* the shadow's memfd; -1 once it has it */
	int kick_fd, done_fd;
	int signal_fd;			  /* for sigmask; -1: not made */
	struct kvm_run *run;		  /* the VMM's, in which the shadow has no part: exit.c copies */
	struct kvm_run *area;		  /* the shadow's, shared with it */
	uint32_t answer_at, answer_bytes; /* what the VMM answers the last exit with: where in the area */
	struct channel_vcpu *channel;
	uint8_t *payload;
	struct wait_adapt adapt;
	bool has_sigmask;
	uint64_t sigmask;	   /* KVM_SET_SIGNAL_MASK; kernel layout */
	bool told_dead;		   /* the one KVM_EXIT_INTERNAL_ERROR was given */
	volatile bool noted;	   /* a handler ran during the RUN under way */
	volatile bool rung;	   /* between ring and answer of a RUN on this thread */
	volatile bool finished;	   /* a call from a signal handler ended the RUN under way ... */
	volatile int finished_ret; /* ... with this */
};

int vcpu_create(struct vm *vm, uint32_t id, int *fd);
void vcpu_destroy(struct vcpu *vcpu);
int64_t vcpu_ioctl(struct vcpu *vcpu, uint32_t nr, uint64_t arg);
bool vcpu_vm_call(struct vm *vm, uint32_t nr, uint64_t arg, int64_t *ret); /* false: not done */
void vcpu_stop(struct vcpu *vcpu);					   /* asks the shadow to end the run */
int vcpu_set_signal_mask(struct vcpu *vcpu, uint64_t arg);
void vcpu_note(struct vcpu *vcpu, bool noted);
/* After a mapping of a vCPU's descriptor: the VM's one ring in place of its own. 0 or -errno. */
int vcpu_map_ring(int fd, uint8_t *addr, size_t len, int prot, int flags, uint64_t offset);

/* ---- what an exit carries (exit.c) ---- */
bool exit_hand_in(struct vcpu *vcpu); /* for the next RUN; was immediate_exit set? */
bool exit_take(struct vcpu *vcpu);    /* after a RUN; false: no exit that KVM has */

/* ---- coalesced writes (ring.c) ---- */
int ring_open(struct vm *vm, const struct vcpu *vcpu); /* vcpu: the VM's first */
void ring_close(struct vm *vm, bool mapped);
bool ring_sync(struct vm *vm); /* false: the shadow has put nonsense there */

/* ---- the interrupt bell (irq_bell.c) ---- */
int irq_bell_open(struct vm *vm, const struct vcpu *vcpu); /* vcpu: the VM's first */
void irq_bell_close(struct vm *vm);
/* KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI. false: not done, the socket has to do. */
bool irq_bell_call(struct vm *vm, uint32_t nr, uint64_t arg, int64_t *ret);

/* ---- signals (signals.c) ---- */
/* The kvm_run of the RUN under way on this thread; a handler that runs meanwhile marks its CHANNEL_NOTE_BYTE. */
extern __thread struct vcpu *volatile signal_vcpu __attribute__((tls_model("initial-exec")));
void signals_watch(void); /* from the first vCPU on */

/* ---- memory (memory.c) ---- */
struct memory_ref {
	int fd; /* to pass along; to be closed by the caller */
	uint64_t offset;
	bool readonly;
	bool huge; /* see struct channel_memory */
};
int memory_share(uint64_t addr, uint64_t size, struct memory_ref *ref);
extern atomic_uint memory_converted; /* ranges in the table: 0 lets munmap and madvise pass at once */
void memory_note_mmap(void *addr, size_t len, int flags);
void memory_forget(void *addr, size_t len);
int memory_advise(void *addr, size_t len, int advice, bool *done);
int memory_mremap_check(void *old, size_t old_len, size_t new_len);
void memory_moved(void *from, size_t from_len, void *to, size_t to_len);
void memory_fork_child(void);

/* ---- /proc/self/maps (maps.c) ---- */
struct map_info {
	uint64_t start, end, offset;
	int prot;
	bool shared;
	uint64_t dev, inode; /* 0: anonymous */
	uint32_t page_size;  /* bytes, of hugetlbfs; from smaps */
	bool dontfork, dontdump, hugepage, nohugepage, locked;
	char path[256];
};
int proc_open(const char *name, int flags); /* below /proc/self; -1 and errno */
void proc_fork_child(void);
bool maps_parse_line(const char *line, struct map_info *info);
/* Maps that overlap [start, end), at most max; the number or -errno. detail: page_size and what follows it, too. */
int maps_read(uint64_t start, uint64_t end, struct map_info *info, int max, bool detail);

#endif
