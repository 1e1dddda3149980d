/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_MACHINE_LIFE_H
#define UMBRA_MACHINE_LIFE_H

#include "lib.h"

void life_rmmod_busy(void);
void life_reload(void);
void life_kvm_busy(void);
void life_kvm_msrs(void);
void life_suspend(void);
void kvm_spin(void); /* oracle.c: a guest of stock KVM in long mode with system call MSRs of its own, until killed */

#endif
