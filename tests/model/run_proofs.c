// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Proof about how the shim takes over the run area (shim/vcpu.c), which the user side can change at any moment: every read
 * of it gives any value, also two of the same word.
 */
#include "kernel_model.h"

#include <linux/string.h>

static void model_memcpy(void *to, const void *from, size_t size);
#undef memcpy
#define memcpy(to, from, size) model_memcpy(to, from, size)

#include "vcpu.c"
#include "check.c"

#undef memcpy
static struct umbra_run shared;
struct limits shim_limits;

/* The compiler may read shared memory as often as it likes in one copy; but what is copied stays. */
static void model_memcpy(void *to, const void *from, size_t size)
{
	struct umbra_run *copy = to;
	const struct umbra_run *old = from;

	if (from == &shared) {
		*copy = nondet_run();
	} else if (size == sizeof(*copy)) {
		*copy = *old;
	} else {
		PROVE(size == __builtin_offsetof(struct umbra_run, gpr), "the control part");
		copy->dirty = old->dirty;
		copy->want = old->want;
		copy->want_emul = old->want_emul;
		copy->intercepts = old->intercepts;
		copy->exceptions = old->exceptions;
		copy->flags = old->flags;
		copy->tpr_threshold = old->tpr_threshold;
		copy->tsc_offset = old->tsc_offset;
		copy->deadline_tsc = old->deadline_tsc;
		copy->inject = old->inject;
		copy->reserved[0] = old->reserved[0];
		copy->reserved[1] = old->reserved[1];
	}
}

/* What the rest of the shim relies on, of the copy that it uses. */
static bool control_good(const struct umbra_run *in)
{
	return in->want < 256 && in->want_emul < 256 && in->intercepts < 16 && in->flags < 4 && in->tpr_threshold < 16;
}

static bool state_good(const struct umbra_run *in)
{
	return !(in->cr0 & ~shim_limits.cr0_may) && !(in->cr4 & ~shim_limits.cr4_may) &&
	       !(in->efer & ~shim_limits.efer_may) && !(in->xcr0 & ~shim_limits.xcr0_may) &&
	       (!(in->cr4 >> 18 & 1) || in->xcr0 & 1) && (in->msr.lstar + (1ULL << 47)) >> 48 == 0 &&
	       (in->msr.cstar + (1ULL << 47)) >> 48 == 0 && in->msr.fmask >> 32 == 0 && in->msr.tsc_aux >> 32 == 0;
}

/*
 * PROOF run-load: whatever the other side writes meanwhile, the copy in use has passed the checks, and so has the event
 * BOUNDS: one call, from any state in which the copy has passed (all zero has): so, by induction, any number of calls
 * CBMC: KERNEL --unwind 20
 * MUTATION vcpu.c: s/rule = check_control\(next\)/rule = check_control(run)/
 * MUTATION vcpu.c: s/memcpy\(in, next, dirty/memcpy(in, run, dirty/
 * MUTATION vcpu.c: s/if \(!rule && dirty & ~UMBRA_STATE_RIP\)/if (!rule \&\& next->dirty \& UMBRA_STATE_CR)/
 * MUTATION vcpu.c: s/in->deadline_tsc = READ_ONCE\(run->deadline_tsc\)/in->cr4 = READ_ONCE(run->cr4)/
 * MUTATION vcpu.c: s/vcpu->event = in->inject/vcpu->event = run->inject/
 */
void run_load_proof(void)
{
	static struct vcpu vcpu;
	struct umbra_run any;

	shim_limits = nondet_limits();
	ASSUME(shim_limits.xcr0_may || !(shim_limits.cr4_may >> 18 & 1)); /* limits_init() */
	vcpu.run = &shared;
	shared = any;
	vcpu.in = nondet_run();
	vcpu.dirty = nondet_u64();
	ASSUME(control_good(&vcpu.in) && state_good(&vcpu.in) && vcpu.dirty < 256);
	vcpu.event.flags = 0; /* run_return() */
	if (run_load(&vcpu))
		PROVE(!(vcpu.event.flags & UMBRA_EVENT_VALID), "what was refused is not injected");
	PROVE(control_good(&vcpu.in), "the control part in use has been checked");
	PROVE(state_good(&vcpu.in), "the state in use has been checked");
	PROVE(!(vcpu.event.flags & UMBRA_EVENT_VALID) || (vcpu.event.flags < 4 && vcpu.event.type < 7),
	      "the event, too");
	PROVE(vcpu.dirty < 256, "no unknown group");
}
