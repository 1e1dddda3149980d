/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_EMULATE_H
#define UMBRA_EMULATE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The instruction emulator: Zydis decodes, this executes. It knows no vCPU: it reaches registers and memory through
 * ops, so that tests drive it with tables.
 */
enum emul_result {
	EMUL_DONE,    /* executed: registers and rip are updated */
	EMUL_USER,    /* a memory or port access waits for the VMM: call emulate() again when its data is there */
	EMUL_FAULT,   /* an exception was raised through ops->fault; rip unchanged */
	EMUL_UNKNOWN, /* cannot be emulated: KVM_EXIT_INTERNAL_ERROR with the bytes */
};

#define EMUL_PORT_BATCH 1024 /* bytes of INS and OUTS in one ops->io */

/* Results of memory and port ops. */
#define EMUL_OK 0
#define EMUL_PENDING 1	 /* went to the VMM; the same access will be asked again and then has its answer */
#define EMUL_RAISED (-1) /* ops->fault was called */

struct emul_ctx;

struct emul_ops {
	/* Linear addresses, access checks for cpl included; an access that crosses pages is split by the callee. */
	int (*read)(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len);
	int (*write)(struct emul_ctx *ctx, uint64_t gva, const void *data, uint32_t len);
	int (*fetch)(struct emul_ctx *ctx, uint64_t gva, void *data, uint32_t len);
	int (*io)(struct emul_ctx *ctx, bool in, uint16_t port, uint32_t size, void *data, uint32_t count);
	void (*fault)(struct emul_ctx *ctx, uint8_t vector, bool has_code, uint32_t code);
	/*
	 * A guest's vector register, 16 or 32 bytes (from the parked FPU state). Write: with vex all above len is
	 * zeroed, without (len is 16 then) it stays.
	 */
	void (*vec_read)(struct emul_ctx *ctx, uint32_t reg, void *data, uint32_t len);
	void (*vec_write)(struct emul_ctx *ctx, uint32_t reg, const void *data, uint32_t len, bool vex);
	/*
	 * A guest's MMX register; false: an x87 exception is pending. Afterwards, when the instruction is complete: value (NULL:
	 * it was only read) goes there, and the x87 stack is as each MMX instruction leaves it.
	 */
	bool (*mmx_read)(struct emul_ctx *ctx, uint32_t reg, uint64_t *value);
	void (*mmx_done)(struct emul_ctx *ctx, uint32_t reg, const uint64_t *value);
	/* The x87 unit's control word, or its status word. */
	uint16_t (*x87_word)(struct emul_ctx *ctx, bool status);
	/*
	 * Optional (NULL: none). Would page tables allow a write of len bytes (at most a page)? EMUL_OK or
	 * EMUL_RAISED, never EMUL_PENDING, and no part of the sequence of accesses. Read-modify-write asks it first,
	 * so that its #PF says W; INS asks it before it takes data from a port that it could not put down.
	 */
	int (*probe_write)(struct emul_ctx *ctx, uint64_t gva, uint32_t len);
	/*
	 * Optional (NULL: yes). May a REP INS or OUTS do [gva, gva + len), all in one page, in one access to the port and
	 * one to memory? false where memory is a device's, which gets its elements one by one.
	 */
	bool (*batch)(struct emul_ctx *ctx, bool in, uint16_t port, uint64_t gva, uint32_t len);
	/* Optional: fills in seg[] of DS, ES, FS, GS, which 64-bit code seldom needs; in other code they are there. */
	void (*segments)(struct emul_ctx *ctx);
	/* Optional: around a call of the decoder's library, which may use vector registers. */
	void (*library)(struct emul_ctx *ctx, bool enter);
};

/*
 * Restart. After EMUL_USER nothing has changed but the progress of complete REP iterations (registers are written
 * back, rip is not). The next emulate(), with decoded set and the same insn (or without: it fetches again), asks for the
 * same accesses in the same order, if code and registers are still the same: answers must be matched by kind, address and
 * length, and all accesses must be remembered, those to RAM too: a second read would see what the instruction itself has
 * written.
 * Each REP iteration (or INS/OUTS batch) that is complete counts up ctx->commits, which starts at 0 in each emulate():
 * what was answered before that is used up, and is not asked again.
 * A write to the VMM may be answered EMUL_OK at once, with ctx->posted set, if every later access gets EMUL_PENDING: an
 * instruction that ends with its write is then over, and needs no second emulate().
 */

/* An instruction, decoded: emul_decode.c makes it, the emulator alone looks inside. */
struct emul;
enum { OPERAND_NONE, OPERAND_GPR, OPERAND_IMMEDIATE, OPERAND_MEMORY, OPERAND_SEGMENT, OPERAND_VECTOR, OPERAND_MMX };
#define OPERAND_NO_REG 0xff
#define OPERAND_RIP 0xfe
struct emul_operand {
	uint8_t kind;
	uint8_t len; /* bytes */
	uint8_t reg; /* general: 0-15, or 16-19 for AH CH DH BH; others: their number */
	/* memory: seg:[base + index * scale + value] */
	uint8_t seg, base, index, scale;
	uint64_t value; /* immediate (sign-extended where it is signed), displacement */
};
struct emul_insn {
	int (*exec)(struct emul *e); /* NULL: valid, but not emulated */
	uint8_t length;
	uint8_t arg;	      /* exec's own */
	uint8_t asize, osize; /* bits; osize 8 for byte instructions */
	uint8_t operands;     /* visible ones */
	uint8_t seg;	      /* of a string's source */
	bool rep, repe;	      /* F2 or F3; the last of them was F3 */
	bool vex;
	struct emul_operand op[3];
};

/* Decoded instructions by their bytes, which are fetched each time: code that changes is never mistaken. */
#define EMUL_CACHE 128
struct emul_cached {
	uint64_t bytes[2], mask[2];
	uint32_t mode;
	struct emul_insn insn;
};
struct emul_cache {
	struct emul_cached entry[EMUL_CACHE];
	uint64_t hits, misses;
};

struct emul_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t attr; /* as in struct umbra_segment */
	uint16_t selector;
};

struct emul_ctx {
	const struct emul_ops *ops;
	void *opaque;
	uint64_t *gpr; /* 16, order of instruction encodings */
	uint64_t rip, rflags;
	uint64_t cr0, cr4, efer;
	struct emul_segment seg[6]; /* ES CS SS DS FS GS */
	uint8_t cpl;
	bool decoded;		  /* *insn is the instruction at rip */
	struct emul_insn *insn;	  /* the caller's */
	struct emul_cache *cache; /* NULL: none */
	uint64_t bytes[2];	  /* the instruction as fetched, for reports; at most 15 bytes, then 0 */
	uint8_t fetched;	  /* so many of them */
	uint32_t commits;	  /* set by emulate(): REP iterations completed in this call; see Restart */
	bool rep_yield; /* set by emulate(): a REP stopped part-way on purpose, rip unchanged; enter the guest again */
	bool posted;	/* set by ops, cleared by emulate() when it begins: see Restart */
};

enum emul_result emulate(struct emul_ctx *ctx);
/* Only decodes: the instruction's length, 0 if it cannot be fetched or decoded. */
uint8_t emulate_length(struct emul_ctx *ctx);
/* Decodes, and reads or writes the first operand as the instruction would (EMUL_DONE); rip stays. */
enum emul_result emulate_operand(struct emul_ctx *ctx, bool write, uint64_t *value);

/* walk.c: guest page tables. access: WALK_*; on failure the #PF error code in *error. */
#define WALK_WRITE (1 << 1) /* as the bits of a #PF error code */
#define WALK_USER (1 << 2)
#define WALK_FETCH (1 << 4)
/*
 * Walks that were done, with the entries that they read: a hit needs every entry to be what it was, in slots that are what
 * they were. So it is as good as a walk, and needs no flush.
 */
#define WALK_CACHE 16
struct walk_cached {
	uint64_t page;	     /* gva >> 12 */
	uint64_t cr3, gpa;   /* gpa of the page */
	uint64_t generation; /* of the slots */
	uint32_t control;    /* rights asked for, and the bits of registers that they depend on */
	uint32_t depth;	     /* 0: empty */
	const uint64_t *entry[4];
	uint64_t value[4];
};
struct walk_cache {
	struct walk_cached at[WALK_CACHE];
};

struct walk_regs {
	uint64_t cr0, cr3, cr4, efer, rflags;
	uint8_t maxphyaddr;
	bool implicit;		  /* supervisor access made by the CPU itself (SMAP) */
	const uint64_t *pdpte;	  /* PAE paging: the four registers; NULL: as in memory now */
	struct walk_cache *cache; /* long mode's; the calling thread's; NULL: none */
};
struct vm;
/* 0: *gpa is set; -1: *error is set. Sets accessed and dirty bits as hardware does. */
int walk_gva(struct vm *vm, const struct walk_regs *regs, uint64_t gva, uint32_t access, uint64_t *gpa,
	     uint32_t *error);

#endif
