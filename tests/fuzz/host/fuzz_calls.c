// SPDX-License-Identifier: GPL-2.0-or-later
/* A VMM that sets and gets all state that there is: vCPU calls (registers, events, MSRs, CPUID, LAPIC), and runs between. */
#include "rig.h"

#define STEPS 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	uint8_t how = input_u8(&in);

	rig_begin(&in, how & 1);
	rig_machine(how >> 1 & 3);
	rig_mode(rig.vm.vcpu[0], how >> 3 & 3);
	if (how & 0x20)
		rig_vcpu(1);
	for (unsigned int n = 0; input_more(&in) && n < STEPS; n++) {
		switch (input_u8(&in) & 15) {
		case 0:
		case 1:
		case 2:
			rig_step_run(&in);
			break;
		case 3:
			rig_step_time(&in);
			break;
		case 4:
			rig_step_call(&in);
			break;
		case 5:
			rig_step_scribble(&in);
			break;
		default:
			rig_step_vcpu_call(&in);
		}
	}
	rig_end();
	return 0;
}
