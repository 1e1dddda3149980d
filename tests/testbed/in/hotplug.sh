# SPDX-License-Identifier: GPL-2.0-or-later
# A CPU is plugged into a running q35 guest through QEMU's monitor, on Umbra and on stock KVM.
. /testbed/lib.sh

plug() { # plug ON: a guest whose monitor is this function's pipe; its console is /tmp/plug.ON
	local i arguments="-M q35 -accel kvm -cpu host -m 256 -smp 1,maxcpus=2,sockets=2,cores=1,threads=1 -nodefaults -no-user-config
		-display none -no-reboot -kernel /guest/vmlinuz -initrd /guest/initrd -serial file:/tmp/plug.$1 -monitor stdio"
	: >"/tmp/plug.$1"
	{
		for i in $(seq 1 600); do
			grep -q '^guest: waits for CPUs' "/tmp/plug.$1" && break
			sleep 0.5
		done
		echo "device_add host-x86_64-cpu,id=c1,socket-id=1,core-id=0,thread-id=0"
		for i in $(seq 1 600); do
			grep -q 'reboot: Power down' "/tmp/plug.$1" && break
			sleep 0.5
		done
	} | timeout 600 $2 qemu-system-x86_64 $arguments -append "$guest_append hotplug=2 offon=2" 2>&1 | tail -n 5
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
