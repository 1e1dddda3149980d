#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds Umbra and boots a Linux guest under QEMU on it, in an emulated machine or on this one.
#   qemu-glue/demo.sh [--hw svm|vmx|native]
# svm (default): emulated by QEMU, quick; vmx: emulated by Bochs, slow; native: this machine, its kernel gets the module.
set -euo pipefail
hw=svm
case ${1:-} in
--hw) hw=${2:-} ;;
--hw=*) hw=${1#--hw=} ;;
'') ;;
*) hw= ;;
esac
case $hw in svm | vmx | native) ;; *) sed -n '3,5s/^# //p' "$0"; exit 2 ;; esac
demo_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$demo_root/tests/testbed/lib.sh"
. "$demo_root/tests/parts.sh"

child='' scratch=$(mktemp -d)
finish() {
	trap - EXIT INT TERM
	if [ -n "$child" ]; then
		kill -TERM "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	rm -rf "$scratch"
}
trap finish EXIT
trap 'echo; echo "demo: interrupted"; exit 130' INT
trap 'exit 143' TERM

# progress PID FILE: shows FILE as it grows, dots while nothing comes, until the process ends
progress() {
	local more text='' dots=
	while true; do
		if IFS= read -r -t 1 more; then
			[ -z "$dots" ] || echo
			case $text$more in TESTBED-* | 'umbra: exits '* | 'umbra: runs '* | 'umbra: calls '*) ;; *) echo "$text$more" ;; esac
			text='' dots=
		elif [ $? -gt 128 ]; then # nothing new, or a part of a line
			text=$text$more dots=1
			printf .
		else
			break
		fi
	done < <(tail -n +1 -s 0.2 --pid="$1" -F "$2" 2>/dev/null)
	[ -z "$dots" ] || echo
}

# step TEXT COMMAND...: quiet, with dots; its output only if it fails
step() {
	local text=$1
	shift
	printf '== %s ' "$text"
	"$@" </dev/null >"$scratch/step" 2>&1 &
	child=$!
	while kill -0 "$child" 2>/dev/null; do
		sleep 1
		printf .
	done
	echo
	if wait "$child"; then
		child=
	else
		child=
		tail -n 40 "$scratch/step"
		echo "demo: this step failed: $text" >&2
		exit 1
	fi
}

# Why this machine cannot run a guest on Umbra itself; nothing when it can.
native_obstacle() {
	local users
	[ -n "$native_kind" ] || { echo "its CPU shows neither VMX nor SVM"; return; }
	[ -e "/lib/modules/$(uname -r)/build/Makefile" ] || { echo "it has no headers of its kernel $(uname -r)"; return; }
	[ "$(cat /proc/sys/kernel/modules_disabled 2>/dev/null)" = 0 ] || { echo "its kernel loads no modules"; return; }
	grep -q '^CapEff:.*[13579bdf]....$' /proc/self/status || { echo "this process may not load modules"; return; }
	[ -d /sys/module/umbra ] && { echo "the module umbra is loaded already (rmmod umbra)"; return; }
	[ -r "/boot/vmlinuz-$(uname -r)" ] || { echo "/boot has no kernel image to be the guest"; return; }
	users=$(awk -v kvm="$native_kvm" '$1 == kvm { print $3 }' /proc/modules)
	[ "${users:-0}" = 0 ] || { echo "KVM has guests running"; return; }
	# Since 6.12 a loaded KVM holds the hardware even without guests, unless told otherwise.
	if [ -n "$users" ] && [ "$(cat /sys/module/kvm/parameters/enable_virt_at_load 2>/dev/null)" = Y ]; then
		echo "$native_kvm is loaded and holds $native_kind (modprobe -r $native_kvm)"
	fi
}
native_kind= native_kvm=
if grep -qw vmx /proc/cpuinfo; then
	native_kind=VMX native_kvm=kvm_intel
elif grep -qw svm /proc/cpuinfo; then
	native_kind=SVM native_kvm=kvm_amd
fi

echo "Umbra: KVM's work in a sandboxed user process, a small module in the kernel."
if [ $hw = native ]; then
	obstacle=$(native_obstacle)
	[ -z "$obstacle" ] || { echo "demo: not on this machine: $obstacle" >&2; exit 1; }
fi
step "packages" "$demo_root/tests/setup.sh"
shim_lines=$(cloc --quiet --csv --include-lang="C,C/C++ Header,Assembly" "$demo_root/shim" | awk -F, '$2 == "SUM" { print $5 }')

if [ $hw = native ]; then
	echo "== running on this machine: it has $native_kind and nothing is in the way"
	step "building for $(uname -r)" root_build demo-native "/lib/modules/$(uname -r)/build"
	step "the guest's file system" guest_initrd "$scratch/initrd"
	export umbra_scripts=$testbed/in umbra_ko=$build_root/demo-native-root/umbra.ko guest_kernel=/boot/vmlinuz-$(uname -r)
	export guest_initrd=$scratch/initrd shim_lines UMBRA_ROOT=$build_root/demo-native-root
	export PATH=$UMBRA_ROOT/usr/bin:$PATH
	bash "$testbed/in/demo.sh" </dev/null >"$scratch/console" 2>&1 &
else
	case $hw in
	svm) machine="QEMU, SVM" boot="a few" cpus=2 ;;
	vmx) machine="Bochs, VMX" boot=20 cpus=1 ;;
	esac
	echo "== running on an emulated machine ($machine)"
	step "building for Debian's kernel $(kernel_release 6.1)" root_build demo "$(kdir 6.1)"
	echo "== starting the machine: $boot seconds of boot, then the guest"
	"$testbed/machine.sh" --hw $hw --cpus $cpus --overlay "$build_root/demo-root" --script "$testbed/in/demo.sh" \
		--append "shim_lines=$shim_lines" --timeout 600 --log "$scratch/console" 2>"$scratch/errors" &
fi
child=$!
progress "$child" "$scratch/console"
status=0
wait "$child" || status=$?
child=
if [ -s "$scratch/errors" ]; then cat "$scratch/errors" >&2; fi
exit $status
