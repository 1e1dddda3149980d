// SPDX-License-Identifier: GPL-2.0-or-later
/* A hostile glue on the control socket, from the first message on; and on the vCPUs' shared pages. */
#include "rig.h"

#define STEPS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	uint8_t how = input_u8(&in);

	rig_begin(&in, how & 1);
	if (how & 2)
		rig_machine(how >> 2 & 3);
	for (unsigned int n = 0; input_more(&in) && n < STEPS; n++) {
		switch (input_u8(&in) & 15) {
		case 0:
			rig_step_raw(&in);
			break;
		case 1:
		case 2:
			rig_step_memory(&in);
			break;
		case 3:
			rig_step_vcpu(&in);
			break;
		case 4:
			rig_step_events(&in);
			break;
		case 5:
			rig_step_time(&in);
			break;
		case 6:
			rig_step_scribble(&in);
			break;
		case 7:
			rig_step_run(&in);
			break;
		case 8:
			rig_step_vcpu_call(&in);
			break;
		default:
			rig_step_call(&in);
		}
	}
	rig_end();
	return 0;
}
