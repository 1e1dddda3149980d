/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_TEST_EMUL_RIG_H
#define UMBRA_TEST_EMUL_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "emulate.h"

/*
 * A machine for the emulator: linear addresses below 1 MiB, and the same again from 0xffff800000000000.
 *   0x00000  RAM       0x10000  not present    0x11000  RAM    0x12000  read-only    0x13000  RAM
 *   0x20000  device: each access waits for the VMM once, as does each port access
 * Elsewhere nothing is present.
 */
#define RIG_SIZE 0x30000
#define RIG_ABSENT 0x10000
#define RIG_READONLY 0x12000
#define RIG_DEVICE 0x20000
#define RIG_HIGH 0xffff800000000000ull

#define RIG_ANSWERS 8

enum rig_mode { REAL16, PROT16, PROT32, COMPAT32, LONG64 };

struct rig_answer {
	int kind; /* 'r', 'w', 'i', 'o' */
	uint64_t gva;
	uint32_t len;
	uint8_t data[4096];
};

struct rig {
	struct emul_ctx ctx;
	struct emul_insn insn;
	uint64_t gpr[16];
	uint8_t vec[16][32];
	uint64_t mmx[8];
	bool x87_pending;
	uint8_t mem[RIG_SIZE];
	/* what the VMM has answered of the instruction (or REP iteration) that is under way */
	struct rig_answer answer[RIG_ANSWERS];
	uint32_t answers, cursor, commits;
	/* what happened */
	uint32_t pendings, faults, yields;
	uint8_t vector;
	bool has_code;
	uint32_t code;
	uint8_t port_out[8192], port_in[8192];
	uint32_t port_out_len, port_in_used;
	uint16_t port;
	bool keep_decoded; /* after a wait: no second fetch */
};

void rig_init(struct rig *rig, enum rig_mode mode);
/*
 * Until the instruction is done (all REP iterations, all waits) or ends otherwise; checks the rules of restart on
 * the way.
 */
enum emul_result rig_run(struct rig *rig);

#endif
