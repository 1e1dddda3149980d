// SPDX-License-Identifier: GPL-2.0-or-later
/* What goes to stderr: by write() alone, from any thread. */
#include <string.h>

#include "core.h"
#include "sys.h"
#include "vcpu.h"

static const char *const exit_names[VMEXIT_REASONS] = {
	[VMEXIT_NONE] = "NONE",
	[VMEXIT_INTERRUPTED] = "INTERRUPTED",
	[VMEXIT_DEADLINE] = "DEADLINE",
	[VMEXIT_IO] = "IO",
	[VMEXIT_MEM] = "MEM",
	[VMEXIT_CPUID] = "CPUID",
	[VMEXIT_RDMSR] = "RDMSR",
	[VMEXIT_WRMSR] = "WRMSR",
	[VMEXIT_HLT] = "HLT",
	[VMEXIT_CR] = "CR",
	[VMEXIT_DR] = "DR",
	[VMEXIT_XSETBV] = "XSETBV",
	[VMEXIT_EXCEPTION] = "EXCEPTION",
	[VMEXIT_INTR_WINDOW] = "INTR_WINDOW",
	[VMEXIT_NMI_WINDOW] = "NMI_WINDOW",
	[VMEXIT_SHUTDOWN] = "SHUTDOWN",
	[VMEXIT_PAUSE] = "PAUSE",
	[VMEXIT_INVD] = "INVD",
	[VMEXIT_WBINVD] = "WBINVD",
	[VMEXIT_INVLPG] = "INVLPG",
	[VMEXIT_RDPMC] = "RDPMC",
	[VMEXIT_RDTSC] = "RDTSC",
	[VMEXIT_MONITOR] = "MONITOR",
	[VMEXIT_MWAIT] = "MWAIT",
	[VMEXIT_HYPERCALL] = "HYPERCALL",
	[VMEXIT_UNDEFINED] = "UNDEFINED",
	[VMEXIT_TASK_SWITCH] = "TASK_SWITCH",
	[VMEXIT_TPR] = "TPR",
	[VMEXIT_BAD_STATE] = "BAD_STATE",
	[VMEXIT_UNKNOWN] = "UNKNOWN",
};

struct line {
	char text[256];
	uint32_t len;
};

static void line_text(struct line *line, const char *text)
{
	while (*text && line->len < sizeof(line->text) - 1)
		line->text[line->len++] = *text++;
}

static void line_number(struct line *line, uint64_t value, uint32_t base)
{
	char digits[24];
	uint32_t n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n && line->len < sizeof(line->text) - 1)
		line->text[line->len++] = digits[--n];
}

static void line_write(struct line *line, int fd)
{
	line->text[line->len++] = '\n';
	sys_write(fd, line->text, line->len);
	line->len = 0;
}

static void stats_line(int fd, const char *what, const char *name, uint64_t value)
{
	struct line line = { .len = 0 };

	line_text(&line, "umbra: ");
	line_text(&line, what);
	line_text(&line, name);
	line_text(&line, " ");
	line_number(&line, value, 10);
	line_write(&line, fd);
}

/* The counters belong to running threads: each is read once, nothing more is promised. */
void stats_print(struct vm *vm, int fd)
{
	uint64_t exits[VMEXIT_REASONS] = { 0 }, user = 0, shim = 0, runs = 0, polls = 0, polls_ended = 0;
	uint32_t count = atomic_load(&vm->vcpus);

	for (uint32_t i = 0; i < count; i++) {
		const volatile struct vcpu *vcpu = vm->vcpu[i];

		for (int n = 0; n < VMEXIT_REASONS; n++)
			exits[n] += vcpu->exits[n];
		user += vcpu->exits_user;
		shim += vcpu->exits_shim_calls;
		runs += vcpu->exits_runs;
		polls += vcpu->halt.polls;
		polls_ended += vcpu->halt.polls_ended;
	}
	for (int n = 0; n < VMEXIT_REASONS; n++)
		if (exits[n])
			stats_line(fd, "exits ", exit_names[n], exits[n]);
	stats_line(fd, "exits to the VMM", "", user);
	if (vm->coalesced_writes)
		stats_line(fd, "coalesced writes", "", vm->coalesced_writes);
	stats_line(fd, "runs", "", runs);
	stats_line(fd, "calls of the shim's RUN", "", shim);
	stats_line(fd, "halts polled", "", polls);
	stats_line(fd, "halts that ended while polled", "", polls_ended);
	stats_line(fd, "ioeventfd signals", "", atomic_load(&vm->ioeventfd_signals));
	stats_line(fd, "irqfd interrupts", "", atomic_load(&vm->irqfd_interrupts));
}

static const char *const bad_rules[] = {
	[UMBRA_BAD_HARDWARE] = "the CPU refused the guest's state (SDM 3C 27.3)",
	[UMBRA_BAD_ENTRY] = "the CPU refused the controls or the event to inject (SDM 3C 27.2)",
	[UMBRA_BAD_CONTROL] = "unknown bits in the control part of the run area, or a TPR threshold above 15",
	[UMBRA_BAD_EVENT] = "the event to inject has unknown flags",
	[UMBRA_BAD_CR0] = "CR0 has bits that this machine does not allow",
	[UMBRA_BAD_CR4] = "CR4 has bits that this machine does not allow",
	[UMBRA_BAD_EFER] = "EFER has bits that this machine does not allow",
	[UMBRA_BAD_XCR0] = "XCR0 has bits or a combination that this machine does not allow",
	[UMBRA_BAD_MSR] = "LSTAR or CSTAR is not canonical, or FMASK or TSC_AUX has more than 32 bits",
};

void explain_bad_state(struct vcpu *vcpu)
{
	const struct umbra_run *run = vcpu->run;
	uint32_t rule = vcpu->exit.bad.rule;
	struct line line = { .len = 0 };

	line_text(&line, "umbra: vCPU ");
	line_number(&line, vcpu->id, 10);
	line_text(&line, " cannot be entered: ");
	if (rule < sizeof(bad_rules) / sizeof(bad_rules[0]) && bad_rules[rule])
		line_text(&line, bad_rules[rule]);
	else
		line_text(&line, "unknown rule");
	line_write(&line, 2);
	line_text(&line, "umbra: hardware reason 0x");
	line_number(&line, vcpu->exit.bad.hw_reason, 16);
	line_text(&line, " info 0x");
	line_number(&line, vcpu->exit.bad.hw_info, 16);
	line_text(&line, " rip 0x");
	line_number(&line, run->rip, 16);
	line_text(&line, " cr0 0x");
	line_number(&line, run->cr0, 16);
	line_text(&line, " cr3 0x");
	line_number(&line, run->cr3, 16);
	line_text(&line, " cr4 0x");
	line_number(&line, run->cr4, 16);
	line_text(&line, " efer 0x");
	line_number(&line, run->efer, 16);
	line_text(&line, " cs 0x");
	line_number(&line, run->seg[UMBRA_CS].attr, 16);
	line_text(&line, " inject 0x");
	line_number(&line, run->exit.event.vector | run->exit.event.type << 8 | run->exit.event.flags << 16, 16);
	line_write(&line, 2);
}
