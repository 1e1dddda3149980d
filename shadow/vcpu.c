// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core.h"
#include "cpuid.h"
#include "msr.h"
#include "sys.h"

#define DEFAULT_APIC_BASE 0xfee00000ULL
#define CR4_WITHOUT_CPUID 0x7ffULL /* VME..OSXMMEXCPT: no CPUID bit of KVM's takes them away */

/* ---- the run area ---- */

int vcpu_run_shim(struct vcpu *vcpu)
{
	struct shim *shim = vcpu->vm->shim;

	vcpu->exits_shim_calls++;
	return shim->ops->run(shim, vcpu->fd);
}

/* Groups are the guest's state when this exit stored them or when they wait to be loaded. */
void vcpu_after_run(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;

	vcpu->valid = run->exit.valid | run->dirty | UMBRA_STATE_RIP;
}

void vcpu_fetch(struct vcpu *vcpu, uint64_t groups)
{
	struct umbra_run *run = vcpu->run;
	uint64_t missing = groups & ~vcpu->valid, want;
	struct umbra_event inject = run->inject;

	if (__builtin_expect(!missing, 1))
		return;
	want = run->want;
	run->want = missing;
	run->inject.flags = 0; /* the shim would take it over and give it back by this exit */
	run->flags |= UMBRA_RUN_NO_ENTRY;
	if (vcpu_run_shim(vcpu) >= 0 && run->exit.reason == UMBRA_EXIT_NONE)
		vcpu->valid |= run->exit.valid;
	run->flags &= ~(uint32_t)UMBRA_RUN_NO_ENTRY;
	run->want = want;
	run->inject = inject;
}

bool vcpu_code64(struct vcpu *vcpu)
{
	vcpu_fetch(vcpu, UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE);
	return (vcpu->run->efer & X86_EFER_LMA) && (vcpu->run->seg[UMBRA_CS].attr & (1 << 13));
}

int vcpu_cpl(struct vcpu *vcpu)
{
	vcpu_fetch(vcpu, UMBRA_STATE_SEG_CODE);
	return vcpu->run->seg[UMBRA_SS].attr >> 5 & 3;
}

/* What the end of each instruction brings with it: no more STI or MOV SS shadow, no RF, a single step's #DB. */
static __attribute__((noinline)) void insn_done_slow(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;

	if (run->intr_shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS)) {
		vcpu_fetch(vcpu, UMBRA_STATE_INTR);
		run->intr_shadow &= ~(uint32_t)(UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS);
		run->dirty |= UMBRA_STATE_INTR;
	}
	run->rflags &= ~X86_RFLAGS_RF;
	if (vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP) {
		vcpu->debug_pending = true;
		return;
	}
	if (run->rflags & X86_RFLAGS_TF)
		inject_debug(vcpu, X86_DR6_BS);
}

void vcpu_insn_done(struct vcpu *vcpu)
{
	if (__builtin_expect((vcpu->run->intr_shadow & (UMBRA_SHADOW_STI | UMBRA_SHADOW_MOV_SS)) ||
				     (vcpu->run->rflags & (X86_RFLAGS_TF | X86_RFLAGS_RF)) || vcpu->guest_debug,
			     0))
		insn_done_slow(vcpu);
}

static __attribute__((noinline)) void skip_slow(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint8_t len = vcpu->exit.insn_len;
	uint64_t next;

	if (!len)
		len = insn_length(vcpu);
	next = run->rip + len;
	/* Only a step over a multiple of 4 GiB depends on the mode. */
	if ((next ^ run->rip) >> 32 && !vcpu_code64(vcpu))
		next = (uint32_t)next;
	run->rip = next;
	run->dirty |= UMBRA_STATE_RIP;
	vcpu_insn_done(vcpu);
}

/* What is rare is in functions of its own here, so that each exit but those does without a stack frame. */
void vcpu_skip_insn(struct vcpu *vcpu)
{
	struct umbra_run *run = vcpu->run;
	uint64_t next = run->rip + vcpu->exit.insn_len;

	if (__builtin_expect(!vcpu->exit.insn_len || (next ^ run->rip) >> 32, 0)) {
		skip_slow(vcpu);
		return;
	}
	run->rip = next;
	run->dirty |= UMBRA_STATE_RIP;
	vcpu_insn_done(vcpu);
}

/* ---- reset ---- */

static void reset_segments(struct umbra_run *run)
{
	for (int i = UMBRA_ES; i <= UMBRA_GS; i++)
		run->seg[i] = (struct umbra_segment) { .attr = 0x93, .limit = 0xffff };
	run->seg[UMBRA_CS] =
		(struct umbra_segment) { .selector = 0xf000, .base = 0xffff0000, .attr = 0x9b, .limit = 0xffff };
	run->seg[UMBRA_LDTR] = (struct umbra_segment) { .attr = 0x82, .limit = 0xffff };
	run->seg[UMBRA_TR] = (struct umbra_segment) { .attr = 0x8b, .limit = 0xffff };
	run->gdtr = (struct umbra_dtable) { .limit = 0xffff };
	run->idtr = (struct umbra_dtable) { .limit = 0xffff };
}

static bool vcpu_is_bsp(const struct vcpu *vcpu)
{
	return vcpu->id == vcpu->vm->boot_cpu_id;
}

/* Power-up, or INIT, which keeps more. (SDM 3A 10.1.1, table 10-1) */
void vcpu_reset(struct vcpu *vcpu, bool init)
{
	struct umbra_run *run = vcpu->run;
	const struct kvm_cpuid_entry2 *leaf1 = vcpu->cpuid_count ? cpuid_find(vcpu, 1, 0) : NULL;
	uint64_t cr0 = 0x60000010;

	if (init) {
		vcpu_fetch(vcpu, UMBRA_STATE_CR | UMBRA_STATE_MSR);
		cr0 = X86_CR0_ET | (run->cr0 & (X86_CR0_CD | X86_CR0_NW));
	} else {
		memset(&run->msr, 0, sizeof(run->msr));
		run->msr.pat = 0x0007040600070406ULL;
		run->xcr0 = vcpu->vm->info.guest_xcr0 ? 1 : 0; /* 0: a host without XSAVE */
	}
	memset(run->gpr, 0, sizeof(run->gpr));
	run->gpr[UMBRA_RDX] = leaf1 ? leaf1->eax : 0x600;
	run->cr2 = 0;
	run->rip = 0xfff0;
	run->rflags = X86_RFLAGS_FIXED;
	run->intr_shadow = 0;
	run->pending_dbg = 0;
	reset_segments(run);
	run->cr0 = cr0;
	run->cr3 = run->cr4 = run->efer = 0;
	memset(run->pdpte, 0, sizeof(run->pdpte));
	memset(run->dr, 0, sizeof(run->dr));
	run->dr7 = X86_DR7_FIXED;
	run->msr.sysenter_cs = run->msr.sysenter_esp = run->msr.sysenter_eip = 0;
	vcpu->dr6 = X86_DR6_ACTIVE_LOW;
	run->inject.flags = 0;
	run->dirty = vcpu->valid = UMBRA_STATE_ALL;
	run->flags |= UMBRA_RUN_FLUSH_TLB;

	vcpu->exception = (struct pending_exception) { .pending = false };
	vcpu->interrupt = (struct pending_interrupt) { .injected = false };
	vcpu->nmi_pending = 0;
	vcpu->nmi_injected = false;
	vcpu->nmi_blocked = false;
	vcpu->careful = 0;
	vcpu->debug_tf = false;
	vcpu->soft_sent = false;
	vcpu->injecting = false;
	vcpu->triple_fault = false;
	vcpu->user_interrupt = -1;
	/* As on KVM, INIT takes the guest's addresses for the host to write to away. */
	steal_reset(vcpu);
	atomic_store(&vcpu->pv_unhalt, 0);
	if (vcpu->msrs)
		vcpu->msrs->system_time = 0;
	if (!init) {
		vcpu->apic_base = DEFAULT_APIC_BASE | APIC_BASE_ENABLE | (vcpu_is_bsp(vcpu) ? APIC_BASE_BSP : 0);
		vcpu->smbase = 0x30000;
	}
	lapic_reset(vcpu, init);
}

void vcpu_sipi(struct vcpu *vcpu, uint8_t vector)
{
	struct umbra_segment *cs = &vcpu->run->seg[UMBRA_CS];

	vcpu_fetch(vcpu, UMBRA_STATE_SEG_CODE);
	cs->selector = (uint16_t)(vector << 8);
	cs->base = (uint64_t)vector << 12;
	vcpu->run->rip = 0;
	vcpu_dirty(vcpu, UMBRA_STATE_SEG_CODE | UMBRA_STATE_RIP);
}

/* ---- making one ---- */

/* The guest's FPU state: which parts, and how large its XSAVE area. */
uint64_t vcpu_fpu_mask(const struct vcpu *vcpu)
{
	return vcpu->vm->info.guest_xcr0;
}

static size_t fpu_area_size(void)
{
	uint32_t regs[4];

	cpu_cpuid(0, 0, regs);
	if (regs[0] < 0xd)
		return 4096;
	cpu_cpuid(0xd, 0, regs); /* EBX: for the XCR0 in force */
	return regs[1] < 4096 ? 4096 : ((size_t)regs[1] + 4095) & ~(size_t)4095;
}

static void *private_pages(size_t size)
{
	void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return area == MAP_FAILED ? NULL : area;
}

/* FCW and MXCSR as after FNINIT and as KVM starts a vCPU; with an empty header XRSTOR loads initial states. */
static void fpu_area_reset(void *area)
{
	uint16_t fcw = 0x37f;
	uint32_t mxcsr = 0x1f80;

	memcpy(area, &fcw, sizeof(fcw));
	memcpy((uint8_t *)area + 24, &mxcsr, sizeof(mxcsr));
}

void vcpu_fini(struct vcpu *vcpu)
{
	if (vcpu->run)
		vcpu->vm->shim->ops->destroy_vcpu(vcpu->vm->shim, vcpu->fd, vcpu->run);
	vcpu->run = NULL;
	free(vcpu->msrs);
	vcpu->msrs = NULL;
	if (vcpu->fpu_park)
		munmap(vcpu->fpu_park, fpu_area_size());
	if (vcpu->call_buf)
		munmap(vcpu->call_buf, CHANNEL_PAYLOAD_MAX);
	free(vcpu->resume);
	free(vcpu->insns);
	free(vcpu->walks);
	vcpu->fpu_park = vcpu->call_buf = vcpu->resume = NULL;
	vcpu->insns = NULL;
	vcpu->walks = NULL;
}

/* On the control thread, before the vCPU's own exists. kvm, pio, channel and payload are set already. */
int vcpu_init(struct vcpu *vcpu, struct vm *vm, uint32_t id)
{
	struct umbra_run *run;
	int ret;

	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->svm = vm->info.hw == UMBRA_HW_SVM;
	vcpu->fpu_park = private_pages(fpu_area_size());
	vcpu->call_buf = private_pages(CHANNEL_PAYLOAD_MAX);
	vcpu->resume = calloc(1, sizeof(*vcpu->resume));
	vcpu->insns = calloc(1, sizeof(*vcpu->insns));
	vcpu->walks = calloc(1, sizeof(*vcpu->walks));
	if (!vcpu->fpu_park || !vcpu->call_buf || !vcpu->resume || !vcpu->insns || !vcpu->walks) {
		vcpu_fini(vcpu);
		return -ENOMEM;
	}
	fpu_area_reset(vcpu->fpu_park);
	ret = vm->shim->ops->create_vcpu(vm->shim, &run, &vcpu->vapic);
	if (ret < 0) {
		vcpu_fini(vcpu);
		/* The count was looked at before: the hardware's tags (VPID, ASID) are used up. KVM has no errno for that. */
		return ret == -ENOSPC ? -ENOMEM : ret;
	}
	vcpu->run = run;
	vcpu->fd = ret;
	if (vm->info.run_size >= UMBRA_ANSWERS_OFFSET + UMBRA_ANSWERS * sizeof(*vcpu->answers) &&
	    !vm->shim->ops->exit_read)
		vcpu->answers = (void *)((char *)run + UMBRA_ANSWERS_OFFSET);
	run->want_emul = UMBRA_STATE_SEG_CODE | UMBRA_STATE_SEG_DATA | UMBRA_STATE_CR;
	vcpu->lapic.regs = vcpu->vapic;
	vcpu->tsc_khz = vm->tsc_khz;
	vcpu->maxphyaddr = 36;
	vcpu->cr4_guest_bits = CR4_WITHOUT_CPUID & vm->info.guest_cr4;
	vcpu->xcr0_guest_bits = 0;
	vcpu->efer_guest_bits = 1; /* SCE */
	vcpu->mp_state = vm_has_lapics(vm) && !vcpu_is_bsp(vcpu) ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE;
	vcpu->spin_us = 20;
	vcpu_reset(vcpu, false);
	ret = msr_init(vcpu);
	if (ret < 0)
		vcpu_fini(vcpu);
	else
		answers_update(vcpu);
	return ret;
}
