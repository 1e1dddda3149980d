/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SUITES_H
#define SUITES_H

#include <check.h>

Suite *suite_pic(void);
Suite *suite_pit(void);
Suite *suite_ioapic(void);
Suite *suite_irqchip(void);

#endif
