#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mutants.sh vmx|svm|mitigations KERNEL-HEADERS WORK OUT: builds copies of shim/ that each lack one check, as OUT/mutants/NAME.ko,
# and OUT/mutants/list: NAME and the attack that must find it. mitigations: on VMX, and found only in a machine that has them on.
# In the sources themselves nothing of this exists.
set -euo pipefail
source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
hw=$1 kdir=$2 work=$(realpath -m "$3") out=$(realpath -m "$4")/mutants

# name | hardware | attack that finds it | files | what sed does to them
list() {
	cat <<-'LIST'
	s1.intercept | both | s1.mandatory | svm.c vmx.c | s/INTERCEPT_WBINVD,//; s/SECONDARY_EXEC_WBINVD_EXITING,/0,/
	s1.unknown-bit | both | s1.control_bits | check.c | s/in->intercepts & ~UMBRA_ICPT_ALL ||//
	s1.double-fetch | vmx | s1.double_fetch | vcpu.c | s/rule = check_state(next, &shim_limits);/({ mdelay(2); rule = check_state(run, \&shim_limits); });/; s/#include <linux\/smp.h>/&\n#include <linux\/delay.h>/
	s2.msr-bitmap | both | s2.msr_read | svm.c vmx.c | s/MSR_FS_BASE,\t/MSR_IA32_MISC_ENABLE, &/; s/{ MSR_FS_BASE, true }/{ MSR_IA32_MISC_ENABLE, false }, &/
	s2.io-bitmap | svm | s2.ports | svm.c | s/memset(io_bitmap.*/&\n\tclear_bit(0xf122, io_bitmap);/
	s2.io-exiting | vmx | s2.ports | vmx.c | s/| CPU_BASED_UNCOND_IO_EXITING//
	s3.db | both | s3.db_step | svm_run.c vmx_run.c | s/BIT(X86_TRAP_DB) | //
	s3.ac | vmx | s3.ac | vmx_run.c | s/BIT(X86_TRAP_AC) | //
	s4.cr4 | both | s4.control_registers | check.c | s/in->cr4 & ~limits->cr4_may/0/
	s4.canonical | svm | s4.msr_values | check.c | s/!is_canonical(in->msr.lstar) ||//
	s5.breakpoints | both | s5.hostile_state | vcpu.c | s/hw_breakpoint_restore();/(void)0;/
	s5.gdt | vmx | s5.hostile_state | vmx_run.c | s/native_load_gdt(&gdt);/(void)gdt;/
	s6.notifier | both | s6.gone | mem.c | s/if (start < end)/if (0)/
	s6.user-end | both | s6.addresses | check.c | s/!range_ok(region->addr, region->size, limits->user_end)/0/
	s6.address-space | both | s6.passed | vcpu.c | s/unlikely(current->mm != vcpu->vm->mm)/0/
	s7.read-only | both | s7.readonly_toggle | mem.c | s/UMBRA_REGION_READONLY/0/
	s7.dirty | both | s7.dirty_toggle | pt.c | s/entry_set(entry, \*entry & ~pt->format->write);/(void)0;/
	s7.itlb | mitigations | s7.itlb_multihit | vmx.c | s/!boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT)/1/
	s8.asid | svm | s8.isolation | svm_run.c | s/cpu->asid = 1;/cpu->asid = 0;/
	s8.vpid | vmx | s8.isolation | vmx.c | s/ida_alloc_range(&vmx_vpids, 1,/ida_alloc_range(\&vmx_vpids, 0,/
	s9.busy | svm | s9.two_threads | vcpu.c | s/unlikely(atomic_cmpxchg(&vcpu->busy, 0, 1))/0/
	s10.deadline | both | s10.deadlines | svm_run.c vmx_run.c | s/if (deadline && deadline <= now)/if (0)/; s/ticks = 0;/ticks = vmx.timer_bound;/
	s9.leak | both | s9.no_descriptor | main.c | s/if (r < 0)/if (0)/
	LIST
}

rm -rf "$work" "$out"
mkdir -p "$work" "$out"
cp "$source_root"/shim/{Kbuild,*.[chS]} "$work/"
while IFS='|' read -r name for attack files script; do
	read -r name for attack files <<<"$name $for $attack $files"
	[ "$for" = "$hw" ] || { [ "$for" = both ] && [ "$hw" != mitigations ]; } || continue
	for file in $files; do
		sed -i "$script" "$work/$file"
		cmp -s "$work/$file" "$source_root/shim/$file" && { echo "mutants: $name changes nothing in $file" >&2; exit 1; }
	done
	make -s -C "$kdir" M="$work" modules >"$work/log" 2>&1 || { tail "$work/log" >&2; echo "mutants: $name does not build" >&2; exit 1; }
	cp "$work/umbra.ko" "$out/$name.ko"
	strip -g "$out/$name.ko"
	echo "$name attack.$attack" >>"$out/list"
	for file in $files; do cp "$source_root/shim/$file" "$work/"; done
done < <(list)
