/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_PT_MODEL_H
#define UMBRA_PT_MODEL_H

/* Tables' formats, for proofs that include pt.c or what run.sh makes of it. */
#include "model.h"
#include "pt.h"

static struct pt_format format;
static struct pt pt;

/* Both vendors' formats are like this: see the proofs vmx-format and svm-format. */
static void any_format(void)
{
	struct pt_format any;

	format = any;
	ASSUME(format.huge && !(format.huge & (format.huge - 1)) && format.write &&
	       !(format.write & (format.write - 1)));
	ASSUME(!((format.table | format.leaf | format.write | format.huge) & PT_ADDR_MASK));
	ASSUME(format.table && format.leaf && !((format.table | format.leaf) & format.huge) &&
	       !(format.leaf & format.write));
	ASSUME(format.huge != format.write && (format.table & format.write));
	pt.format = &format;
}

static bool is_huge(__u64 entry)
{
	return entry & format.huge;
}

#endif
