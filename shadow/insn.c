// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The instruction that exited, where the hardware does not describe it. SVM's exits name no operands and, on CPUs that do not
 * save the next RIP, no length. The few forms that there can be are told from their bytes; all else goes to the emulator's decoder.
 * Guests can change the bytes meanwhile: whoever finds another instruction there says so and the guest is entered again.
 */
#include <string.h>

#include "core.h"
#include "vcpu.h"

#define INSN_MAX 15

struct insn {
	uint8_t bytes[INSN_MAX];
	uint8_t have; /* bytes that could be read */
	uint8_t at;   /* the opcode's place */
	uint8_t rex;
	bool rep; /* F3 */
};

/* A reason's instruction: opcode bytes behind the prefixes. */
struct form {
	uint8_t reason, len;
	uint8_t bytes[3];
	bool rep;
};

static const struct form forms[] = {
	{ VMEXIT_CPUID, 2, { 0x0f, 0xa2 }, false },
	{ VMEXIT_RDMSR, 2, { 0x0f, 0x32 }, false },
	{ VMEXIT_WRMSR, 2, { 0x0f, 0x30 }, false },
	{ VMEXIT_HLT, 1, { 0xf4 }, false },
	{ VMEXIT_PAUSE, 1, { 0x90 }, true },
	{ VMEXIT_XSETBV, 3, { 0x0f, 0x01, 0xd1 }, false },
	{ VMEXIT_UNDEFINED, 3, { 0x0f, 0x01, 0xd9 }, false }, /* VMMCALL */
	{ VMEXIT_INVD, 2, { 0x0f, 0x08 }, false },
	{ VMEXIT_WBINVD, 2, { 0x0f, 0x09 }, false },
	{ VMEXIT_RDPMC, 2, { 0x0f, 0x33 }, false },
	{ VMEXIT_RDTSC, 2, { 0x0f, 0x31 }, false },
	{ VMEXIT_RDTSC, 3, { 0x0f, 0x01, 0xf9 }, false }, /* RDTSCP */
	{ VMEXIT_MONITOR, 3, { 0x0f, 0x01, 0xc8 }, false },
	{ VMEXIT_MONITOR, 3, { 0x0f, 0x01, 0xfa }, false }, /* MONITORX */
	{ VMEXIT_MWAIT, 3, { 0x0f, 0x01, 0xc9 }, false },
	{ VMEXIT_MWAIT, 3, { 0x0f, 0x01, 0xfb }, false }, /* MWAITX */
};

static bool is_legacy_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26: /* segments */
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66: /* sizes */
	case 0x67:
	case 0xf0: /* LOCK and REP */
	case 0xf2:
	case 0xf3:
		return true;
	default:
		return false;
	}
}

static void insn_read(struct vcpu *vcpu, struct insn *insn)
{
	bool code64 = vcpu_code64(vcpu);

	*insn = (struct insn) { .have = 0 };
	insn->have = (uint8_t)access_fetch(vcpu, insn->bytes, INSN_MAX);
	for (; insn->at < insn->have; insn->at++) {
		uint8_t byte = insn->bytes[insn->at];

		if (is_legacy_prefix(byte)) {
			insn->rex = 0; /* counts only right before the opcode */
			insn->rep |= byte == 0xf3;
		} else if (code64 && (byte & 0xf0) == 0x40) {
			insn->rex = byte;
		} else {
			return;
		}
	}
}

static bool insn_is(const struct insn *insn, const struct form *form)
{
	return insn->at + form->len <= insn->have && (!form->rep || insn->rep) &&
	       !memcmp(insn->bytes + insn->at, form->bytes, form->len);
}

uint8_t insn_length(struct vcpu *vcpu)
{
	const struct form *last = NULL;
	struct insn insn;
	uint8_t len;

	insn_read(vcpu, &insn);
	for (uint32_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (forms[i].reason != vcpu->exit.reason)
			continue;
		last = &forms[i];
		if (insn_is(&insn, last))
			return insn.at + last->len;
	}
	len = access_insn_length(vcpu);
	/* Not to be read any more, but it was executed. */
	return len || !last ? len : last->len + last->rep;
}

/* ---- MOV to and from CRs and DRs, CLTS, LMSW (APM 3) ---- */

/* 0F op /r, whose r/m names a register whatever mod says: its number goes to *gpr, its length to the exit. */
static bool mov_special(struct vcpu *vcpu, const struct insn *insn, uint8_t op, uint8_t *gpr)
{
	const uint8_t *at = insn->bytes + insn->at;

	if (insn->at + 3 > insn->have || at[0] != 0x0f || at[1] != op)
		return false;
	*gpr = (at[2] & 7) | (insn->rex & 1 ? 8 : 0);
	vcpu->exit.insn_len = insn->at + 3;
	return true;
}

/* 0F 01 /reg: SMSW is 4, LMSW 6. */
static bool is_msw(const struct insn *insn, uint8_t reg)
{
	const uint8_t *at = insn->bytes + insn->at;

	return insn->at + 3 <= insn->have && at[0] == 0x0f && at[1] == 0x01 && (at[2] >> 3 & 7) == reg;
}

static bool lmsw(struct vcpu *vcpu, int *ret)
{
	struct vmexit *exit = &vcpu->exit;
	uint64_t value;

	if (!access_operand(vcpu, false, &value, &exit->insn_len, ret))
		return false;
	exit->cr.op = VMEXIT_CR_LMSW;
	exit->cr.lmsw = (uint16_t)value;
	return true;
}

/* Exits as a read of CR0: to memory, or to a register of any size. */
static bool smsw(struct vcpu *vcpu, int *ret)
{
	uint64_t value = vcpu->run->cr0;

	vcpu->exit.cr.op = VMEXIT_CR_SMSW;
	return access_operand(vcpu, true, &value, &vcpu->exit.insn_len, ret);
}

bool insn_cr(struct vcpu *vcpu, int *ret)
{
	struct vmexit *exit = &vcpu->exit;
	struct insn insn;

	insn_read(vcpu, &insn);
	*ret = EXIT_RESUME;
	if (exit->cr.op == VMEXIT_CR_MOV_FROM) {
		if (mov_special(vcpu, &insn, 0x20, &exit->cr.gpr))
			return true;
		exit->cr.gpr = 0;
		return !exit->cr.cr && is_msw(&insn, 4) && smsw(vcpu, ret);
	}
	if (mov_special(vcpu, &insn, 0x22, &exit->cr.gpr)) {
		exit->cr.op = VMEXIT_CR_MOV_TO;
		return true;
	}
	if (exit->cr.cr)
		return false;
	exit->cr.gpr = 0;
	if (insn.at + 2 <= insn.have && insn.bytes[insn.at] == 0x0f && insn.bytes[insn.at + 1] == 0x06) {
		exit->cr.op = VMEXIT_CR_CLTS;
		exit->insn_len = insn.at + 2;
		return true;
	}
	return is_msw(&insn, 6) && lmsw(vcpu, ret);
}

bool insn_dr(struct vcpu *vcpu)
{
	struct insn insn;

	insn_read(vcpu, &insn);
	return mov_special(vcpu, &insn, vcpu->exit.dr.write ? 0x23 : 0x21, &vcpu->exit.dr.gpr);
}
