// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest against its shadow: exits as VMX and SVM describe them, instructions, page tables, devices; the VMM answers.
 * Exit decoding, emulator, page walks, injection, MSRs, CPUID, interrupt controllers.
 */
#include "rig.h"

#define STEPS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	uint8_t how = input_u8(&in);

	rig_begin(&in, how & 1);
	rig_machine(how >> 1 & 3);
	rig_mode(rig.vm.vcpu[0], how >> 3 & 3);
	if (how & 0x20)
		rig_vcpu(1);
	input_bytes(&in, rig.ram + RIG_CODE, how >> 6 ? 32 : 8);
	for (unsigned int n = 0; input_more(&in) && n < STEPS; n++) {
		switch (input_u8(&in) & 15) {
		case 0:
			rig_step_ram(&in);
			break;
		case 1:
			rig_step_time(&in);
			break;
		case 2:
			rig_step_events(&in);
			break;
		case 3:
			rig_step_call(&in);
			break;
		default:
			rig_step_run(&in);
		}
	}
	rig_end();
	return 0;
}
