/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umbra tcb: what has to be trusted. Counted in the source when this was built; what is loaded is read now. */
#include "umbra.h"

#include <stdlib.h>

#include "tcb_figures.h"
#include "version.h"

/* A number in a file of the module's: -1 where there is none. */
static long module_number(const char *root, const char *name)
{
	char path[256], text[32];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "%s/sys/module/umbra/%s", root, name);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fgets(text, sizeof(text), file) && text[0] >= '0' && text[0] <= '9')
		value = strtol(text, NULL, 10);
	fclose(file);
	return value;
}

void tcb_report(const char *root, FILE *out)
{
	long size = module_number(root, "coresize"), vms = module_number(root, "parameters/vms");
	static const struct {
		int figure;
		const char *text;
	} rows[] = {
		{ TCB_KERNEL_LINES, "lines of code in the kernel (shim/)" },
		{ TCB_SANDBOXED_LINES,
		  "lines of code in the sandbox, one process a guest (shadow/, most of runtime/)" },
		{ TCB_VMM_LINES, "lines of code in the VMM (qemu-glue/)" },
		{ TCB_ABI_CALLS, "calls of the module's ABI" },
		{ TCB_ABI_STRUCTURES, "structures of it" },
		{ TCB_ABI_FIELDS, "fields of these" },
		{ TCB_VMX_MSRS, "MSRs that a guest reaches without an exit, VMX" },
		{ TCB_SVM_MSRS, "the same, SVM" },
		{ TCB_VMX_EXITS, "exits switched on for every guest, VMX (besides those that always are)" },
		{ TCB_SVM_EXITS, "the same, SVM (besides those of debug registers)" },
		{ TCB_CALLS_VCPU, "system calls that a vCPU's thread can make" },
		{ TCB_CALLS_EVENT, "system calls of the event thread" },
		{ TCB_CALLS_CONTROL, "system calls of the control thread" },
		{ TCB_CALLS_WAITER, "system calls of the waiter, the shadow's parent" },
	};

	fprintf(out, "Umbra " UMBRA_VERSION ", counted in its source when this program was built:\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		fprintf(out, "%7d  %s\n", rows[i].figure, rows[i].text);
	if (size < 0) {
		fprintf(out, "The module is not loaded.\n");
		return;
	}
	fprintf(out,
		"The module as it is loaded now (it may be of another build):\n%7ld  bytes in the kernel's memory\n",
		size);
	if (vms >= 0)
		fprintf(out, "%7ld  virtual machines\n", vms);
}
