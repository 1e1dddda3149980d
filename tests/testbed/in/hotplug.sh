# SPDX-License-Identifier: GPL-2.0-or-later
# A CPU is plugged into a running q35 guest through QEMU's monitor, on Umbra and on stock KVM.
. /testbed/lib.sh

arguments="-M q35 -accel kvm -cpu host -m 256 -smp 1,maxcpus=2,sockets=2,cores=1,threads=1 -nodefaults -no-user-config -display none
	-no-reboot -kernel /guest/vmlinuz -initrd /guest/initrd -monitor stdio"

until_said() { # until_said ON TEXT: its guest says so, or QEMU ends, or four minutes pass
	local i
	for i in $(seq 1 480); do
		grep -q "$2" "/tmp/plug.$1" && return 0
		kill -0 "$vmm" 2>/dev/null || return 1
		sleep 0.5
	done
	return 1
}

plug() { # plug ON COMMAND-BEFORE-QEMU
	rm -f /tmp/monitor
	mkfifo /tmp/monitor
	: >"/tmp/plug.$1"
	timeout 600 $2 qemu-system-x86_64 $arguments -serial "file:/tmp/plug.$1" -append "$guest_append hotplug=2 offon=2" \
		</tmp/monitor >"/tmp/monitor.$1" 2>&1 &
	vmm=$!
	exec 9>/tmp/monitor
	until_said "$1" '^guest: waits for CPUs'
	echo "device_add host-x86_64-cpu,id=c1,socket-id=1,core-id=0,thread-id=0" >&9
	until_said "$1" 'reboot: Power down'
	exec 9>&-
	wait "$vmm"
	echo "QEMU ended with $?"
	grep -i error "/tmp/monitor.$1"
	sed 's/^/   /' "/tmp/plug.$1"
	expect "hotplug.$1.up" "the new CPU is not there" grep -q '^guest: cpus now 2' "/tmp/plug.$1"
	expect "hotplug.$1.offon" "the new CPU did not come up again" grep -q '^guest: cpu1 off and on 2' "/tmp/plug.$1"
	expect "hotplug.$1.off" "no power-off" grep -q 'reboot: Power down' "/tmp/plug.$1"
}

expect hotplug.load "insmod failed" umbra_load
stock_load || not_ok hotplug.stock "stock KVM does not load"
plug umbra "umbra run --"
expect hotplug.idle "VMs, vCPUs or pages left over" umbra_idle
plug stock ""
exit $failed
