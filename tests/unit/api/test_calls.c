// SPDX-License-Identifier: GPL-2.0-or-later
/* vCPU calls: round trips and refusals. */
#include <errno.h>
#include <string.h>

#include "fakes.h"
#include "sys.h"

static void set_up(void)
{
	world_make();
	guest_cpuid_supported();
	/* the FPU calls use the real CPU's XSAVE */
	cpuid_host = cpu_cpuid;
	w->vm.info.guest_xcr0 = 3;
}

/* Fills with a pattern that is not zero anywhere. */
static void pattern(void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)p)[i] = (uint8_t)(i * 7 + 1) | 1;
}

START_TEST(test_regs)
{
	struct kvm_regs in, out;
	uint32_t size;

	pattern(&in, sizeof(in));
	w->run.dirty = 0;
	w->vcpu.exception.pending = true;
	ck_assert_int_eq(call(KVM_SET_REGS, &in, sizeof(in), &size), 0);
	ck_assert_uint_eq(size, 0);
	ck_assert(w->run.dirty & UMBRA_STATE_RIP);
	ck_assert(!w->vcpu.exception.pending);
	ck_assert_uint_eq(w->run.gpr[UMBRA_RSP], in.rsp);
	ck_assert_uint_eq(w->run.gpr[15], in.r15);
	ck_assert_int_eq(call(KVM_GET_REGS, &out, 0, &size), 0);
	ck_assert_uint_eq(size, sizeof(out));
	in.rflags |= 2;
	ck_assert_mem_eq(&in, &out, sizeof(in));
	ck_assert_int_eq(call(KVM_SET_REGS, &in, sizeof(in) - 1, &size), -EINVAL);
}
END_TEST

static void good_sregs(struct kvm_sregs *s)
{
	struct kvm_segment seg = {
		.base = 0x1000, .limit = 0xfffff, .selector = 8, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1
	};

	memset(s, 0, sizeof(*s));
	s->cs = s->ds = s->es = s->fs = s->gs = s->ss = seg;
	s->cs.type = 11;
	s->cs.l = 1;
	s->cs.db = 0;
	s->tr = (struct kvm_segment) { .limit = 0x67, .type = 11, .present = 1, .selector = 0x40 };
	s->ldt = (struct kvm_segment) { .type = 2, .unusable = 1 };
	s->gdt.base = 0x5000;
	s->gdt.limit = 0x7f;
	s->idt.base = 0x6000;
	s->idt.limit = 0xfff;
	s->cr0 = 0x80050033;
	s->cr2 = 0x1234;
	s->cr3 = 0x2000;
	s->cr4 = 0x6a0;
	s->cr8 = 5;
	s->efer = 0xd01;
	s->apic_base = 0xfee00900;
}

START_TEST(test_sregs)
{
	struct kvm_sregs in, out;
	uint32_t size;

	good_sregs(&in);
	in.interrupt_bitmap[1] = 1ull << 3;
	w->run.dirty = 0;
	ck_assert_int_eq(call(KVM_SET_SREGS, &in, sizeof(in), NULL), 0);
	ck_assert_uint_eq(w->run.dirty,
			  UMBRA_STATE_CR | UMBRA_STATE_SEG_CODE | UMBRA_STATE_SEG_DATA | UMBRA_STATE_SEG_SYS);
	ck_assert(w->run.flags & UMBRA_RUN_FLUSH_TLB);
	ck_assert(w->vcpu.interrupt.injected);
	ck_assert_uint_eq(w->vcpu.interrupt.vector, 67);
	ck_assert_uint_eq(w->run.seg[UMBRA_CS].attr, 0xa09b);
	ck_assert_uint_eq(w->run.seg[UMBRA_LDTR].attr, 2);
	ck_assert_uint_eq(w->run.seg[UMBRA_TR].attr, 0x8b);
	ck_assert_int_eq(call(KVM_GET_SREGS, &out, 0, &size), 0);
	ck_assert_uint_eq(size, sizeof(out));
	ck_assert_mem_eq(&in, &out, sizeof(in));
}
END_TEST

static const struct {
	const char *name;
	uint64_t cr0, cr3, cr4, efer;
	int l;
	uint64_t apic_base;
} bad_sregs[] = {
	{ "PG without PE", 0x80050032, 0x2000, 0x6a0, 0xd01, 1, 0xfee00900 },
	{ "NW without CD", 0xa0050033, 0x2000, 0x6a0, 0xd01, 1, 0xfee00900 },
	{ "CR0 high", 0x180050033, 0x2000, 0x6a0, 0xd01, 1, 0xfee00900 },
	{ "long mode without PAE", 0x80050033, 0x2000, 0x680, 0xd01, 1, 0xfee00900 },
	{ "LME and PG without LMA", 0x80050033, 0x2000, 0x6a0, 0x901, 1, 0xfee00900 },
	{ "LMA without LME", 0x80050033, 0x2000, 0x6a0, 0xc01, 1, 0xfee00900 },
	{ "CS.L outside long mode", 0x50033, 0x2000, 0x6a0, 0x801, 1, 0xfee00900 },
	{ "LMA without PG", 0x50033, 0x2000, 0x6a0, 0xd01, 0, 0xfee00900 },
	{ "CR3 past the address width", 0x80050033, 1ull << 46, 0x6a0, 0xd01, 1, 0xfee00900 },
	{ "CR4.VMXE", 0x80050033, 0x2000, 0x26a0, 0xd01, 1, 0xfee00900 },
	{ "CR4.PKE", 0x80050033, 0x2000, 0x4006a0, 0xd01, 1, 0xfee00900 },
	{ "EFER.SVME", 0x80050033, 0x2000, 0x6a0, 0x1d01, 1, 0xfee00900 },
	{ "APIC base", 0x80050033, 0x2000, 0x6a0, 0xd01, 1, 0xfee00901 },
};

START_TEST(test_bad_sregs)
{
	struct kvm_sregs s;
	struct umbra_run before;

	good_sregs(&s);
	s.cr0 = bad_sregs[_i].cr0;
	s.cr3 = bad_sregs[_i].cr3;
	s.cr4 = bad_sregs[_i].cr4;
	s.efer = bad_sregs[_i].efer;
	s.cs.l = bad_sregs[_i].l;
	s.apic_base = bad_sregs[_i].apic_base;
	before = w->run;
	ck_assert_msg(call(KVM_SET_SREGS, &s, sizeof(s), NULL) == -EINVAL, "%s", bad_sregs[_i].name);
	ck_assert_mem_eq(&before, &w->run, sizeof(before));
	ck_assert_uint_eq(seen.apic_base_set, 0);
}
END_TEST

START_TEST(test_sregs2)
{
	struct kvm_sregs common;
	struct kvm_sregs2 in = { 0 }, out;
	const uint64_t table[4] = { 0x1001, 0x2001, 0x3001, 0x4001 };

	/* PAE paging */
	good_sregs(&common);
	common.cs.l = 0;
	common.efer = 0;
	common.cr3 = 0x120;
	memcpy(&in, &common, offsetof(struct kvm_sregs2, flags));
	memcpy(w->memory + 0x120, table, sizeof(table));
	ck_assert_int_eq(call(KVM_SET_SREGS2, &in, sizeof(in), NULL), 0); /* loaded from memory */
	ck_assert_int_eq(call(KVM_GET_SREGS2, &out, 0, NULL), 0);
	ck_assert_uint_eq(out.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
	ck_assert_mem_eq(out.pdptrs, table, sizeof(table));
	in.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	in.pdptrs[2] = 0x7001;
	ck_assert_int_eq(call(KVM_SET_SREGS2, &in, sizeof(in), NULL), 0); /* given */
	ck_assert_uint_eq(w->run.pdpte[2], 0x7001);
	ck_assert_uint_eq(w->run.pdpte[0], 0);
	in.flags = 2;
	ck_assert_int_eq(call(KVM_SET_SREGS2, &in, sizeof(in), NULL), -EINVAL);
	in.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	in.cr0 = 0x50033; /* no paging */
	ck_assert_int_eq(call(KVM_SET_SREGS2, &in, sizeof(in), NULL), -EINVAL);
}
END_TEST

START_TEST(test_reset_wakes)
{
	struct kvm_sregs s = { .cs = { .selector = 0xf000, .base = 0xffff0000, .present = 1, .s = 1, .type = 11 },
			       .cr0 = 0x60000010,
			       .apic_base = 0xfee00900 };

	w->vcpu.mp_state = KVM_MP_STATE_HALTED;
	w->run.rip = 0xfff0;
	ck_assert_int_eq(call(KVM_SET_SREGS, &s, sizeof(s), NULL), 0);
	ck_assert_uint_eq(w->vcpu.mp_state, KVM_MP_STATE_RUNNABLE);
}
END_TEST

START_TEST(test_debugregs)
{
	struct kvm_debugregs in = { .db = { 1, 2, 3, 4 }, .dr6 = 0xffff0ff0, .dr7 = 0x403 }, out;

	ck_assert_int_eq(call(KVM_SET_DEBUGREGS, &in, sizeof(in), NULL), 0);
	ck_assert_int_eq(call(KVM_GET_DEBUGREGS, &out, 0, NULL), 0);
	ck_assert_mem_eq(&in, &out, sizeof(in));
	in.dr7 = 1ull << 32;
	ck_assert_int_eq(call(KVM_SET_DEBUGREGS, &in, sizeof(in), NULL), -EINVAL);
	in.dr7 = 0;
	in.dr6 = 1ull << 32;
	ck_assert_int_eq(call(KVM_SET_DEBUGREGS, &in, sizeof(in), NULL), -EINVAL);
	in.dr6 = 0;
	in.flags = 1;
	ck_assert_int_eq(call(KVM_SET_DEBUGREGS, &in, sizeof(in), NULL), -EINVAL);
}
END_TEST

/* ---- FPU: parked (_i 0) and live in this thread's registers (_i 1; x87 only, the compiler leaves that alone) ---- */

START_TEST(test_fpu)
{
	struct kvm_fpu in = { .fcw = 0x27f, .fsw = 0x3800, .ftwx = 0x80, .last_opcode = 0x123, .mxcsr = 0 }, out;

	for (int i = 0; i < 8; i++)
		pattern(in.fpr[i], 10);
	pattern(in.xmm, sizeof(in.xmm));
	w->vcpu.fpu_parked = !_i;
	ck_assert_int_eq(call(KVM_SET_FPU, &in, sizeof(in), NULL), 0);
	ck_assert_int_eq(call(KVM_GET_FPU, &out, 0, NULL), 0);
	__asm__ volatile("fninit");
	ck_assert_uint_eq(out.fcw, 0x27f);
	ck_assert_uint_eq(out.ftwx, 0x80);
	ck_assert_mem_eq(out.fpr[0], in.fpr[0], 10);
	ck_assert_mem_eq(out.fpr[7], in.fpr[7], 10);
	ck_assert_uint_eq(out.mxcsr, 0x1f80); /* not set by this call */
	if (!_i)
		ck_assert_mem_eq(out.xmm, in.xmm, sizeof(in.xmm));
}
END_TEST

static uint8_t area[4096] __attribute__((aligned(64)));

static void good_xsave(void)
{
	memset(area, 0, sizeof(area));
	*(uint16_t *)area = 0x27f;
	*(uint32_t *)(area + 24) = 0x1f80;
	area[512] = 3;
	pattern(area + 32, 10);
	pattern(area + 160, 256);
}

START_TEST(test_xsave)
{
	static uint8_t out[4096];
	uint32_t size;

	good_xsave();
	w->vcpu.fpu_parked = !_i;
	ck_assert_int_eq(call(KVM_SET_XSAVE, area, sizeof(area), NULL), 0);
	ck_assert_int_eq(call(KVM_GET_XSAVE2, out, 0, &size), 0);
	__asm__ volatile("fninit");
	ck_assert_uint_eq(size, 4096);
	ck_assert_uint_eq(*(uint16_t *)out, 0x27f);
	ck_assert_mem_eq(out + 32, area + 32, 10);
	ck_assert_uint_eq(out[512] & ~3, 0);
	ck_assert_uint_eq(out[512] & 1, 1);
	if (!_i)
		ck_assert_mem_eq(out + 160, area + 160, 256);
	for (int i = 520; i < 576; i++)
		ck_assert_uint_eq(out[i], 0);
	ck_assert_int_eq(call(KVM_GET_XSAVE, out, 0, &size), 0);
	ck_assert_uint_eq(size, 4096);
}
END_TEST

/* What XRSTOR would fault on. */
START_TEST(test_xsave_bad)
{
	static const struct {
		int at;
		uint8_t value;
	} bad[] = { { 512, 7 }, { 513, 2 }, { 519, 0x80 }, { 520, 1 },	{ 527, 0x80 },
		    { 528, 1 }, { 575, 1 }, { 26, 1 },	   { 27, 0x80 } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		good_xsave();
		area[bad[i].at] = bad[i].value;
		ck_assert_msg(call(KVM_SET_XSAVE, area, sizeof(area), NULL) == -EINVAL, "byte %d", bad[i].at);
	}
	good_xsave();
	ck_assert_int_eq(call(KVM_SET_XSAVE, area, 4095, NULL), -EINVAL);
	/* MXCSR means nothing where neither SSE nor AVX is said to be there */
	area[512] = 1;
	area[27] = 0x80;
	w->vcpu.fpu_parked = true;
	ck_assert_int_eq(call(KVM_SET_XSAVE, area, sizeof(area), NULL), 0);
	ck_assert_uint_eq(((uint32_t *)w->vcpu.fpu_park)[6], 0x1f80);
}
END_TEST

START_TEST(test_xcrs)
{
	struct kvm_xcrs in = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = 7 } } }, out;

	ck_assert_int_eq(call(KVM_SET_XCRS, &in, sizeof(in), NULL), 0);
	ck_assert_int_eq(call(KVM_GET_XCRS, &out, 0, NULL), 0);
	ck_assert_mem_eq(&in, &out, sizeof(in));
	in.xcrs[0].value = 0xff;
	ck_assert_int_eq(call(KVM_SET_XCRS, &in, sizeof(in), NULL), -EINVAL);
	in.xcrs[0].value = 1;
	in.flags = 1;
	ck_assert_int_eq(call(KVM_SET_XCRS, &in, sizeof(in), NULL), -EINVAL);
	in.flags = 0;
	in.nr_xcrs = KVM_MAX_XCRS + 1;
	ck_assert_int_eq(call(KVM_SET_XCRS, &in, sizeof(in), NULL), -EINVAL);
	w->vm.info.guest_xcr0 = 0;
	ck_assert_int_eq(call(KVM_GET_XCRS, &out, 0, NULL), -EINVAL);
}
END_TEST

/* ---- MSRs and CPUID ---- */

START_TEST(test_msrs)
{
	struct {
		struct {
			uint32_t nmsrs, pad;
		} head; /* as struct kvm_msrs */
		struct kvm_msr_entry e[3];
	} m = { .head.nmsrs = 3,
		.e = { { .index = 0xc0000081, .data = 5 }, { .index = 0x12345 }, { .index = 0xc0000082, .data = 6 } } };
	uint32_t size;

	ck_assert_int_eq(call(KVM_SET_MSRS, &m, sizeof(m), &size), 1); /* up to the unknown one */
	ck_assert_uint_eq(size, 0);
	ck_assert_uint_eq(w->run.msr.star, 5);
	ck_assert_uint_eq(w->run.msr.lstar, 0);
	m.e[0].data = 0;
	m.e[1].index = 0xc0000082;
	m.e[2].index = 0x12345;
	ck_assert_int_eq(call(KVM_GET_MSRS, &m, sizeof(m), &size), 2);
	ck_assert_uint_eq(size, sizeof(m));
	ck_assert_uint_eq(m.e[0].data, 5);
	ck_assert_int_eq(call(KVM_GET_MSRS, &m, sizeof(m) - 1, &size), -EINVAL);
	m.head.nmsrs = 256;
	ck_assert_int_eq(call(KVM_GET_MSRS, &m, sizeof(m), &size), -E2BIG);
	ck_assert_int_eq(call(KVM_SET_MSRS, &m, sizeof(m), &size), -E2BIG);
}
END_TEST

static struct {
	struct {
		uint32_t nent, pad;
	} head; /* as struct kvm_cpuid2 */
	struct kvm_cpuid_entry2 e[256];
} cpuid;

START_TEST(test_cpuid2)
{
	uint32_t size, n = w->vcpu.cpuid_count;

	cpuid.head.nent = 1;
	ck_assert_int_eq(call(KVM_GET_CPUID2, &cpuid, 8, &size), -E2BIG);
	ck_assert_uint_eq(cpuid.head.nent, n);
	ck_assert_int_eq(call(KVM_GET_CPUID2, &cpuid, 8, &size), 0);
	ck_assert_uint_eq(size, 8 + 40 * n);
	ck_assert_mem_eq(cpuid.e, w->vcpu.cpuid, 40 * n);
	ck_assert_int_eq(call(KVM_SET_CPUID2, &cpuid, 8 + 40 * n - 1, NULL), -EINVAL);
	cpuid.head.nent = 2;
	ck_assert_int_eq(call(KVM_SET_CPUID2, &cpuid, 88, NULL), 0);
	ck_assert_uint_eq(w->vcpu.cpuid_count, 2);
	cpuid.head.nent = 257;
	ck_assert_int_eq(call(KVM_SET_CPUID2, &cpuid, sizeof(cpuid), NULL), -E2BIG);
}
END_TEST

/* ---- events ---- */

#define EV(nr) call(nr, &e, sizeof(e), NULL)

START_TEST(test_events)
{
	struct kvm_vcpu_events e = { 0 }, out;

	e.exception.injected = 1;
	e.exception.nr = 14;
	e.exception.has_error_code = 1;
	e.exception.error_code = 6;
	e.interrupt.injected = 1;
	e.interrupt.nr = 0x31;
	e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	e.nmi.injected = 1;
	e.nmi.pending = 1;
	e.nmi.masked = 1;
	e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	w->run.dirty = 0;
	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), 0);
	ck_assert_uint_eq(w->run.dirty, UMBRA_STATE_INTR);
	ck_assert_uint_eq(w->run.intr_shadow, UMBRA_SHADOW_STI | UMBRA_SHADOW_NMI);
	ck_assert_int_eq(call(KVM_GET_VCPU_EVENTS, &out, 0, NULL), 0);
	ck_assert_mem_eq(&e, &out, sizeof(e));
}
END_TEST

START_TEST(test_events_payload)
{
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_PAYLOAD,
				     .exception = { .pending = 1, .nr = 14 },
				     .exception_has_payload = 1,
				     .exception_payload = 0xabc };

	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), -EINVAL); /* not asked for */
	w->vm.exception_payload = true;
	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), 0);
	ck_assert(w->vcpu.exception.pending && !w->vcpu.exception.injected && w->vcpu.exception.payload == 0xabc);
	ck_assert_int_eq(call(KVM_GET_VCPU_EVENTS, &e, 0, NULL), 0);
	ck_assert(e.exception.pending && !e.exception.injected && e.exception_payload == 0xabc);
	/* without the capability the payload lands in CR2 */
	w->vm.exception_payload = false;
	ck_assert_int_eq(call(KVM_GET_VCPU_EVENTS, &e, 0, NULL), 0);
	ck_assert(!e.exception.pending && e.exception.injected && !e.exception_has_payload);
	ck_assert_uint_eq(w->run.cr2, 0xabc);
}
END_TEST

START_TEST(test_events_bad)
{
	struct kvm_vcpu_events e = { .flags = 1u << 7 };

	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), -EINVAL);
	e = (struct kvm_vcpu_events) { .exception = { .injected = 1, .nr = 2 } };
	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), -EINVAL);
	e.exception.nr = 32;
	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), -EINVAL);
	e = (struct kvm_vcpu_events) { .flags = KVM_VCPUEVENT_VALID_SMM, .smi = { .smm = 1 } };
	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), -EINVAL);
	e = (struct kvm_vcpu_events) { .flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT, .triple_fault = { .pending = 1 } };
	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), -EINVAL);
	w->vm.triple_fault_event = true;
	ck_assert_int_eq(EV(KVM_SET_VCPU_EVENTS), 0);
	ck_assert(w->vcpu.triple_fault);
}
END_TEST

START_TEST(test_mp_state)
{
	struct kvm_mp_state mp;

	for (uint32_t s = 0; s < 4; s++) {
		mp.mp_state = s;
		ck_assert_int_eq(call(KVM_SET_MP_STATE, &mp, sizeof(mp), NULL), 0);
		mp.mp_state = 99;
		ck_assert_int_eq(call(KVM_GET_MP_STATE, &mp, 0, NULL), 0);
		ck_assert_uint_eq(mp.mp_state, s);
	}
	mp.mp_state = KVM_MP_STATE_AP_RESET_HOLD;
	ck_assert_int_eq(call(KVM_SET_MP_STATE, &mp, sizeof(mp), NULL), 0);
	ck_assert_int_eq(call(KVM_GET_MP_STATE, &mp, 0, NULL), 0);
	ck_assert_uint_eq(mp.mp_state, KVM_MP_STATE_AP_RESET_HOLD);
	/* a kick that came before is told as its effect, and so is an INIT */
	w->vcpu.pv_unhalt = 1;
	ck_assert_int_eq(call(KVM_GET_MP_STATE, &mp, 0, NULL), 0);
	ck_assert_uint_eq(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	w->vcpu.lapic.init_pending = 1;
	ck_assert_int_eq(call(KVM_GET_MP_STATE, &mp, 0, NULL), 0);
	ck_assert_uint_eq(mp.mp_state, KVM_MP_STATE_INIT_RECEIVED);
	/* SIPI received: waits for KVM_RUN with the vector of KVM_SET_VCPU_EVENTS */
	w->vcpu.lapic.sipi_vector = 0x9a;
	mp.mp_state = KVM_MP_STATE_SIPI_RECEIVED;
	ck_assert_int_eq(call(KVM_SET_MP_STATE, &mp, sizeof(mp), NULL), 0);
	ck_assert_uint_eq(w->vcpu.mp_state, KVM_MP_STATE_INIT_RECEIVED);
	ck_assert_uint_eq(w->vcpu.lapic.sipi_vector, 0x19a);
	for (uint32_t s = 5; s < 12; s++) {
		mp.mp_state = s == KVM_MP_STATE_AP_RESET_HOLD ? 99 : s;
		ck_assert_int_eq(call(KVM_SET_MP_STATE, &mp, sizeof(mp), NULL), -EINVAL);
	}
	mp.mp_state = 99;
	ck_assert_int_eq(call(KVM_SET_MP_STATE, &mp, sizeof(mp), NULL), -EINVAL);
	w->vm.split_irqchip = false;
	mp.mp_state = KVM_MP_STATE_HALTED;
	ck_assert_int_eq(call(KVM_SET_MP_STATE, &mp, sizeof(mp), NULL), -EINVAL);
}
END_TEST

START_TEST(test_interrupt_nmi)
{
	struct kvm_interrupt irq = { .irq = 256 };
	char none = 0;

	ck_assert_int_eq(call(KVM_INTERRUPT, &irq, sizeof(irq), NULL), -EINVAL);
	irq.irq = 0x20;
	ck_assert_int_eq(call(KVM_INTERRUPT, &irq, sizeof(irq), NULL), 0);
	ck_assert_int_eq(w->vcpu.user_interrupt, 0x20);
	ck_assert_int_eq(call(KVM_INTERRUPT, &irq, sizeof(irq), NULL), -EEXIST);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(call(KVM_NMI, &none, 0, NULL), 0);
	ck_assert_uint_eq(w->vcpu.nmi_pending, 2);
}
END_TEST

START_TEST(test_guest_debug)
{
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
				     .arch = { .debugreg = { 0x1000 } } };

	ck_assert_int_eq(call(KVM_SET_GUEST_DEBUG, &d, sizeof(d), NULL), 0);
	ck_assert_uint_eq(w->vcpu.guest_debug, d.control);
	ck_assert_uint_eq(w->vcpu.guest_debug_regs.debugreg[0], 0x1000);
	d.control = KVM_GUESTDBG_ENABLE | 1u << 30;
	ck_assert_int_eq(call(KVM_SET_GUEST_DEBUG, &d, sizeof(d), NULL), -EINVAL);
	d.control = KVM_GUESTDBG_INJECT_DB;
	ck_assert_int_eq(call(KVM_SET_GUEST_DEBUG, &d, sizeof(d), NULL), 0);
	ck_assert(w->vcpu.exception.pending && w->vcpu.exception.vector == 1);
	ck_assert_uint_eq(w->vcpu.guest_debug, 0);
	ck_assert_int_eq(call(KVM_SET_GUEST_DEBUG, &d, sizeof(d), NULL), -EBUSY);
	w->vcpu.exception.pending = false;
	d.control = KVM_GUESTDBG_INJECT_BP;
	ck_assert_int_eq(call(KVM_SET_GUEST_DEBUG, &d, sizeof(d), NULL), 0);
	ck_assert(w->vcpu.exception.vector == 3 && w->vcpu.exception.type == UMBRA_EVENT_SOFT_EXC);
}
END_TEST

/* ---- the rest ---- */

static int tsc_khz(uint64_t khz)
{
	uint32_t size = 0;

	return vcpu_call(&w->vcpu, KVM_SET_TSC_KHZ, khz, area, &size);
}

START_TEST(test_tsc_khz)
{
	char none = 0;

	ck_assert_int_eq(call(KVM_GET_TSC_KHZ, &none, 0, NULL), 2000000);
	ck_assert_int_eq(tsc_khz(0), 0);
	ck_assert_int_eq(tsc_khz(2000500), 0);
	ck_assert_int_eq(call(KVM_GET_TSC_KHZ, &none, 0, NULL), 2000500);
	ck_assert_int_eq(tsc_khz(1999500), 0);
	ck_assert_int_eq(tsc_khz(2000501), -EINVAL);
	ck_assert_int_eq(tsc_khz(1999499), -EINVAL);
}
END_TEST

START_TEST(test_attr)
{
	struct {
		struct kvm_device_attr a;
		uint64_t value;
	} in = { .a = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET }, .value = 0x123456 };
	uint64_t v[3];
	uint32_t size;

	ck_assert_int_eq(call(KVM_HAS_DEVICE_ATTR, &in, sizeof(in.a), &size), 0);
	ck_assert_uint_eq(size, 0);
	ck_assert_int_eq(call(KVM_SET_DEVICE_ATTR, &in, sizeof(in.a), &size), -EINVAL);
	ck_assert_int_eq(call(KVM_SET_DEVICE_ATTR, &in, sizeof(in), &size), 0);
	ck_assert_uint_eq(w->run.tsc_offset, 0x123456);
	memcpy(v, &in.a, sizeof(in.a));
	ck_assert_int_eq(call(KVM_GET_DEVICE_ATTR, v, sizeof(v), &size), 0);
	ck_assert_uint_eq(size, 8);
	ck_assert_uint_eq(v[0], 0x123456);
	in.a.attr = 1;
	ck_assert_int_eq(call(KVM_GET_DEVICE_ATTR, &in, sizeof(in), &size), -ENXIO);
	in.a.attr = 0;
	in.a.group = 1;
	ck_assert_int_eq(call(KVM_HAS_DEVICE_ATTR, &in, sizeof(in), &size), -ENXIO);
}
END_TEST

START_TEST(test_translate)
{
	struct kvm_translation t = { .linear_address = 0x12345 };

	ck_assert_int_eq(call(KVM_TRANSLATE, &t, sizeof(t), NULL), 0);
	ck_assert(t.valid && t.physical_address == 0x2345 && t.linear_address == 0x12345);
	t.linear_address = 0x1234;
	ck_assert_int_eq(call(KVM_TRANSLATE, &t, sizeof(t), NULL), 0);
	ck_assert(!t.valid && t.physical_address == ~0ull);
}
END_TEST

START_TEST(test_lapic)
{
	static struct kvm_lapic_state in, out;
	uint32_t size;

	pattern(&in, sizeof(in));
	ck_assert_int_eq(call(KVM_SET_LAPIC, &in, sizeof(in), NULL), 0);
	ck_assert_int_eq(call(KVM_GET_LAPIC, &out, 0, &size), 0);
	ck_assert_uint_eq(size, 1024);
	ck_assert_mem_eq(&in, &out, sizeof(in));
	w->vm.split_irqchip = false;
	ck_assert_int_eq(call(KVM_GET_LAPIC, &out, 0, &size), -EINVAL);
	ck_assert_uint_eq(size, 0);
}
END_TEST

START_TEST(test_small)
{
	struct kvm_tpr_access_ctl tac = { .enabled = 1 };
	struct kvm_vapic_addr vapic = { 0 };
	uint64_t mcg = 10 | 1 << 8;
	char none = 0;

	ck_assert_int_eq(call(KVM_TPR_ACCESS_REPORTING, &tac, sizeof(tac), NULL), 0);
	tac.flags = 1;
	ck_assert_int_eq(call(KVM_TPR_ACCESS_REPORTING, &tac, sizeof(tac), NULL), -EINVAL);
	ck_assert_int_eq(call(KVM_SET_VAPIC_ADDR, &vapic, sizeof(vapic), NULL), 0);
	vapic.vapic_addr = 0x1000;
	ck_assert_int_eq(call(KVM_SET_VAPIC_ADDR, &vapic, sizeof(vapic), NULL), 0);
	vapic.vapic_addr = 0x100000000;
	ck_assert_int_eq(call(KVM_SET_VAPIC_ADDR, &vapic, sizeof(vapic), NULL), -EINVAL);
	ck_assert_int_eq(call(KVM_KVMCLOCK_CTRL, &none, 0, NULL), -EINVAL);
	w->vcpu.msrs->system_time = 1;
	ck_assert_int_eq(call(KVM_KVMCLOCK_CTRL, &none, 0, NULL), 0);
	ck_assert_int_eq(call(KVM_X86_SETUP_MCE, &mcg, sizeof(mcg), NULL), 0);
	ck_assert_uint_eq(w->vcpu.msrs->mcg_cap, mcg);
	mcg = 0;
	ck_assert_int_eq(call(KVM_X86_SETUP_MCE, &mcg, sizeof(mcg), NULL), -EINVAL);
}
END_TEST

/* Not offered, unknown, or cut short: EINVAL, and nothing goes back. */
static const struct {
	uint32_t nr, in;
} refused[] = {
	{ KVM_SMI, 0 },
	{ KVM_GET_NESTED_STATE, 128 },
	{ KVM_SET_NESTED_STATE, 128 },
	{ KVM_ENABLE_CAP, sizeof(struct kvm_enable_cap) },
	{ _IO(KVMIO, 0xee), 0 },
	{ _IO(0xAB, 0x81), 0 },
	{ _IOR(KVMIO, 0x81, struct kvm_sregs), 0 },
	{ KVM_GET_ONE_REG, 16 },
	{ KVM_SET_SREGS, sizeof(struct kvm_sregs) - 1 },
	{ KVM_SET_SREGS2, 8 },
	{ KVM_SET_FPU, 8 },
	{ KVM_SET_XCRS, 8 },
	{ KVM_SET_DEBUGREGS, 8 },
	{ KVM_SET_VCPU_EVENTS, 63 },
	{ KVM_SET_MP_STATE, 3 },
	{ KVM_SET_LAPIC, 1023 },
	{ KVM_GET_MSRS, 7 },
	{ KVM_SET_MSRS, 0 },
	{ KVM_SET_CPUID2, 7 },
	{ KVM_GET_CPUID2, 0 },
	{ KVM_INTERRUPT, 3 },
	{ KVM_TRANSLATE, 23 },
	{ KVM_SET_GUEST_DEBUG, 8 },
	{ KVM_X86_SETUP_MCE, 7 },
	{ KVM_X86_SET_MCE, 63 },
	{ KVM_HAS_DEVICE_ATTR, 8 },
	{ KVM_TPR_ACCESS_REPORTING, 8 },
	{ KVM_SET_VAPIC_ADDR, 7 },
};

START_TEST(test_refused)
{
	uint32_t size = 77;

	memset(area, 0, sizeof(area));
	ck_assert_int_eq(call(refused[_i].nr, area, refused[_i].in, &size), -EINVAL);
	ck_assert_uint_eq(size, 0);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

Suite *suite_calls(void)
{
	Suite *s = suite_create("vCPU calls");
	TCase *t = tcase_create("calls");

	tcase_add_checked_fixture(t, set_up, world_drop);
	tcase_add_test(t, test_regs);
	tcase_add_test(t, test_sregs);
	tcase_add_loop_test(t, test_bad_sregs, 0, COUNT(bad_sregs));
	tcase_add_test(t, test_sregs2);
	tcase_add_test(t, test_reset_wakes);
	tcase_add_test(t, test_debugregs);
	tcase_add_loop_test(t, test_fpu, 0, 2);
	tcase_add_loop_test(t, test_xsave, 0, 2);
	tcase_add_test(t, test_xsave_bad);
	tcase_add_test(t, test_xcrs);
	tcase_add_test(t, test_msrs);
	tcase_add_test(t, test_cpuid2);
	tcase_add_test(t, test_events);
	tcase_add_test(t, test_events_payload);
	tcase_add_test(t, test_events_bad);
	tcase_add_test(t, test_mp_state);
	tcase_add_test(t, test_interrupt_nmi);
	tcase_add_test(t, test_guest_debug);
	tcase_add_test(t, test_tsc_khz);
	tcase_add_test(t, test_attr);
	tcase_add_test(t, test_translate);
	tcase_add_test(t, test_lapic);
	tcase_add_test(t, test_small);
	tcase_add_loop_test(t, test_refused, 0, COUNT(refused));
	suite_add_tcase(s, t);
	return s;
}
