// SPDX-License-Identifier: GPL-2.0-or-later
/* Whatever hardware says of an exit: it is decoded to something that the shadow's handlers can take. */
#include "exit.h"
#include "input.h"

static void holds(const struct vmexit *exit, bool svm)
{
	fuzz_assert(exit->reason < VMEXIT_REASONS);
	switch (exit->reason) {
	case VMEXIT_IO:
		fuzz_assert(!(exit->io.flags >> 3) && exit->io.seg < UMBRA_SEGS);
		break;
	case VMEXIT_CR:
		fuzz_assert(exit->cr.cr < 16 && exit->cr.op <= VMEXIT_CR_UNKNOWN);
		fuzz_assert(exit->cr.gpr < UMBRA_GPRS || (svm && exit->cr.gpr == VMEXIT_GPR_UNKNOWN));
		break;
	case VMEXIT_DR:
		fuzz_assert(exit->dr.dr < 16 && exit->dr.write <= 1);
		fuzz_assert(exit->dr.gpr < UMBRA_GPRS || (svm && exit->dr.gpr == VMEXIT_GPR_UNKNOWN));
		break;
	case VMEXIT_TASK_SWITCH:
		fuzz_assert(exit->task.source <= 3);
		break;
	case VMEXIT_EXCEPTION:
		fuzz_assert(exit->exc.has_error_code <= 1 && (exit->exc.has_error_code || !exit->exc.error_code));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	struct umbra_run *run = malloc(sizeof(*run));
	struct vmexit vmx, svm;

	memset(run, 0x5a, sizeof(*run));
	memset(&vmx, 0xa5, sizeof(vmx));
	svm = vmx;
	run->rip = input_number(&in);
	input_bytes(&in, &run->exit, sizeof(run->exit));
	/* The shim's own reasons are below 6; it never hands over others. */
	run->exit.reason = input_u8(&in) & 3 ? UMBRA_EXIT_HARDWARE : run->exit.reason % 6;
	if (input_u8(&in) & 3)
		run->exit.hw_reason &= 0xff;
	run->exit.insn_len &= 15;
	exit_read_vmx(run, &vmx);
	exit_read_svm(run, &svm);
	holds(&vmx, false);
	holds(&svm, true);
	free(run);
	return 0;
}
