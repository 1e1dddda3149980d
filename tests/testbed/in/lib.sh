# SPDX-License-Identifier: GPL-2.0-or-later
# For the scripts that run in the machine under test.

export PATH=$PATH:/usr/libexec/umbra
failed=0
ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; failed=1; }
expect() { # expect NAME REASON COMMAND...
	local name=$1 reason=$2
	shift 2
	if "$@"; then ok "$name"; else not_ok "$name" "$reason"; fi
}

# From 6.12 on it would hold the hardware from load to rmmod, if it were not told otherwise.
stock_load() {
	insmod /lib/modules/irqbypass.ko &&
		insmod /lib/modules/kvm.ko $(grep -q enable_virt_at_load /lib/modules/kvm.ko && echo enable_virt_at_load=0) &&
		insmod "/lib/modules/kvm-$(grep -qw vmx /proc/cpuinfo && echo intel || echo amd).ko"
}
stock_unload() { rmmod kvm-intel 2>/dev/null || rmmod kvm-amd; rmmod kvm; rmmod irqbypass; }

umbra_load() { insmod /umbra.ko; }
counter() { cat "/sys/module/umbra/parameters/$1"; }
umbra_idle() { # all of the module's counters fall to zero within ten seconds
	local i
	[ -e /sys/module/umbra/parameters/vms ] || { echo "the module has no counters"; return 1; }
	for i in $(seq 1 50); do
		[ "$(counter vms) $(counter vcpus) $(counter pages)" = "0 0 0" ] && return 0
		sleep 0.2
	done
	echo "vms $(counter vms) vcpus $(counter vcpus) pages $(counter pages)"
	return 1
}

# machine_disk N: the Nth disk (from 0) that the machine was given
machine_disk() {
	local hw i
	if grep -qw svm /proc/cpuinfo; then
		modprobe -a virtio_pci virtio_blk && hw="/dev/vd$(echo abcdefgh | cut -c$(($1 + 1)))"
	else
		modprobe -a ata_piix sd_mod && hw="/dev/sd$(echo abcdefgh | cut -c$(($1 + 1)))"
	fi
	for i in 1 2 3 4 5 6 7 8 9 10; do
		[ -b "$hw" ] && { echo "$hw"; return 0; }
		sleep 0.5
	done
	return 1
}

# A nested Linux under QEMU; its console is stdout
qemu=qemu-system-x86_64-microvm
guest_args() {
	echo "-M $1 -accel kvm -cpu host -m 128 -nodefaults -no-user-config -display none -no-reboot -serial stdio" \
		"${guest_files:--kernel /guest/vmlinuz -initrd /guest/initrd}"
}
guest_append="console=ttyS0 quiet panic=-1 cryptomgr.notests initcall_blacklist=load_system_certificate_list"
stock_guest() { # stock_guest SECONDS MACHINE [APPEND]
	timeout "$1" $qemu $(guest_args "$2") -append "$guest_append ${3:-}" </dev/null 2>&1
}
# Where the threads of shadows and VMMs are, twice: to see who is stuck.
vmm_state() {
	local i task
	for i in 1 2; do
		for task in $(for pid in $(pidof umbra-shadow $qemu); do echo /proc/$pid/task/*; done); do
			echo "# $task $(cat $task/comm $task/wchan | tr "\n" " ") state, time: $(cut -d" " -f3,14,15 $task/stat) call: $(cat $task/syscall), run, waited, times: $(cat $task/schedstat)"
		done
		grep "^cpu" /proc/stat | sed "s/^/# /"
		sleep 5
	done
}
umbra_guest() {
	local watch status
	{ sleep $(($1 - 15)); vmm_state; } >/dev/ttyS0 2>&1 &
	watch=$!
	timeout "$1" umbra run -- $qemu $(guest_args "$2") -append "$guest_append ${3:-}" </dev/null 2>&1
	status=$?
	kill $watch
	return $status
}
