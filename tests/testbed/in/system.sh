# SPDX-License-Identifier: GPL-2.0-or-later
# A Debian system under QEMU, first on stock KVM, then on Umbra, in one boot, each with a disk of its own.
# Kernel arguments: cases=NAME,... (q35; split, doorbell, vhost, microvm), on=HYPERVISOR,... (stock,umbra), guest_cpus=N (2),
# irqchip=on|split|off (QEMU's default)
. /testbed/lib.sh
. /testbed/guest.sh

started=$(date +%s)
note() { echo "[$(($(date +%s) - started)) s] $*"; }
listed() { case ,$2, in *,$1,*) ;; *) return 1 ;; esac; }
same() { [ -n "$1" ] && [ "$1" = "$2" ]; }

# case_options: what QEMU gets besides the disk, in $options; the network's two ends in $host, $url; how much is done
case_options() {
	local blk=drive=disk net=netdev=net all=''
	host=10.0.2.2 url=http://127.0.0.1:7002 mb_disk=64 mb_net=16 again=
	local chip=${irqchip:+,kernel-irqchip=$irqchip}
	options="-smp $cpus -m 640"
	case $case in
	vhost) # disk and network without QEMU's main loop: their interrupts come through irqfds
		modprobe -a tun vhost_net && [ -e /dev/net/tun ] && [ -e /dev/vhost-net ] || return 1
		ifconfig tap0 >/dev/null 2>&1 || tunctl -t tap0 >/dev/null
		ifconfig tap0 10.9.9.1 netmask 255.255.255.0 up || return 1
		host=10.9.9.1 url=http://10.9.9.2
		options="$options -object iothread,id=io -netdev tap,id=net,ifname=tap0,script=no,downscript=no,vhost=on"
		blk=$blk,iothread=io
		;;
	*) options="$options -netdev user,id=net,hostfwd=tcp:127.0.0.1:7002-:80" ;;
	esac
	case $case in
	q35) mb_disk=256 mb_net=64 again=1 options="$options -M q35$chip" ;;
	split) options="$options -M q35,kernel-irqchip=split" ;;
	doorbell) all=,ioeventfd=off options="$options -M q35$chip" ;;
	vhost) options="$options -M q35$chip" ;;
	microvm)
		options="$options -M microvm -kernel /debian/vmlinuz -initrd /debian/initrd -device virtio-serial-device
			-device virtio-blk-device,$blk -device virtio-net-device,$net -device virtio-rng-device"
		return 0
		;;
	*) echo "no case $case" >&2; return 1 ;;
	esac
	options="$options -device virtio-serial-pci$all -device virtio-blk-pci,$blk$all -device virtio-net-pci,$net$all
		-device virtio-rng-pci$all"
}

# start HYPERVISOR DISK
start() {
	set -- "$1" "$case.$1" $options -drive "file=$2,format=raw,if=none,id=disk,cache=none"
	[ $case != microvm ] || set -- "$@" -append "root=/dev/vda1 ro $(cat /debian/cmdline)"
	guest_begin "$@"
}

# doorbells: what Umbra counted. The VMM's own devices use eventfds, or do not, as the case says.
doorbells() {
	local signals irqs
	signals=$(sed -n 's/^umbra: ioeventfd signals //p' "/tmp/$guest_name.vmm")
	irqs=$(sed -n 's/^umbra: irqfd interrupts //p' "/tmp/$guest_name.vmm")
	note "$name: ioeventfd signals ${signals:-unknown}, irqfd interrupts ${irqs:-unknown}"
	case $case in
	doorbell) expect "$name.no-eventfds" "eventfds in use: $signals, $irqs" test "$signals $irqs" = "0 0" ;;
	*) expect "$name.ioeventfd" "$signals doorbells by ioeventfd" test "${signals:-0}" -gt 500 ;;
	esac
	case $case in # QEMU uses irqfds for MSI-X only: neither in microvm nor with doorbells of its own
	doorbell | microvm) ;;
	*) expect "$name.irqfd" "$irqs interrupts by irqfd" test "${irqs:-0}" -gt 500 ;;
	esac
}

# A check in the guest: step NAME SECONDS COMMAND. What it answers is shown; one that does not answer ends the case.
step() {
	local status
	guest_do "$2" "$3"
	status=$?
	sed 's/^/    /' /tmp/answer
	note "$name.$1: status $status"
	case $status in
	0) ok "$name.$1" ;;
	124)
		not_ok "$name.$1" "no answer in $2 seconds"
		return 1
		;;
	*) not_ok "$name.$1" "status $status: $(tail -n 1 /tmp/answer)" ;;
	esac
	return 0
}

disk_check() { # disk_check MB
	# Random numbers are slow here: the same ones again and again, but each time elsewhere in a block.
	step disk.write 400 "cd /var/tmp && head -c 1048000 /dev/urandom >base && i=0 &&
		while test \$i -le $1; do i=\$((i + 1)); echo block \$i; cat base; done | head -c $(($1 << 20)) | tee data | md5sum >data.sum &&
		sync -f data && test \$(stat -c %s data) = $(($1 << 20))" || return 1
	step disk.verify 300 "cd /var/tmp && echo 3 >/proc/sys/vm/drop_caches && md5sum <data | cmp - data.sum" || return 1
}

# net_check MB HOST-ADDRESS GUEST-URL: the guest fetches a file of the host's, the host one of the guest's
net_check() {
	local sum got
	dd if=/tmp/www/data of=/tmp/www/part bs=1M count="$1" 2>/dev/null
	sum=$(md5sum </tmp/www/part)
	step net.fetch 300 "busybox wget -q -O - http://$2:7001/part | md5sum" || return 1
	expect "$name.net.fetched" "not what was sent" same "$(cat /tmp/answer)" "$sum"
	step net.serve 100 "mkdir -p /var/tmp/www && dd if=/dev/urandom of=/var/tmp/www/data bs=1M count=$1 2>/dev/null &&
		busybox httpd -p 80 -h /var/tmp/www && md5sum </var/tmp/www/data" || return 1
	got=$(timeout 300 wget -q -O - "$3/data" | md5sum)
	expect "$name.net.served" "not what was sent" same "$got" "$(cat /tmp/answer)"
}

# run_case HYPERVISOR DISK: false when the guest did not get through
run_case() {
	local first status
	name=system.$case.$1
	note "== $case on $1"
	start "$1" "$2"
	guest_up 400 || { not_ok "$name.up" "user space did not report"; return 1; }
	ok "$name.up"
	first=$boot
	note "$name: up"
	guest_console 'testbed login:' 100
	expect "$name.login" "no login prompt" grep -aq 'testbed login:' "/tmp/$guest_name.console"
	step state 300 "systemctl is-system-running --wait; systemctl --failed --no-legend --plain; systemd-analyze time;
		systemctl is-system-running --quiet" || return 1
	step cpus 20 "test \$(nproc) = $cpus" || return 1
	step rng 60 "grep -q ^virtio_rng /sys/class/misc/hw_random/rng_current && test \$(head -c 4096 /dev/hwrng | wc -c) = 4096" || return 1
	disk_check "$mb_disk" || return 1
	net_check "$mb_net" $host $url || return 1
	if [ -n "$again" ]; then
		guest_send "systemctl reboot"
		guest_up 400 || { not_ok "$name.again" "did not come up after its reboot"; return 1; }
		expect "$name.again" "the same boot still" test "$boot" != "$first"
		note "$name: up again"
		step disk.again 300 "cd /var/tmp && md5sum <data | cmp - data.sum" || return 1
	fi
	journals "$1" || return 1
	guest_send "systemctl poweroff"
	guest_ends 200
	status=$?
	expect "$name.ended" "QEMU ended with status $status" test $status = 0
	expect "$name.down" "no power-off on the console" grep -aq 'reboot: Power down' "/tmp/$guest_name.console"
	[ "$1" != umbra ] || doorbells
}

# journals HYPERVISOR: errors of all boots, without times and numbers that differ from boot to boot
journals() {
	step journal 200 "journalctl --sync; journalctl --no-pager -q -o cat -p err; true" || return 1
	sed 's/0x[0-9a-f]*/N/g; s/[0-9][0-9]*/N/g' /tmp/answer | sort -u >"/tmp/$case.$1.errors"
	step warnings 200 "journalctl --no-pager -q -k -o cat -p warning; true" || return 1
	sed 's/0x[0-9a-f]*/N/g; s/[0-9][0-9]*/N/g' /tmp/answer | sort -u >"/tmp/$case.$1.warnings"
	expect "$name.stalls" "$(grep -E "$stalls" /tmp/answer | head -n 1)" none_of "$stalls" /tmp/answer
}
stalls='rcu.*stall|soft lockup|hard LOCKUP|hung_task|blocked for more than|clocksource.*unstable|BUG:|Oops|general protection'
none_of() { ! grep -qE "$1" "$2"; }

mkdir -p /tmp/www
dd if=/dev/urandom of=/tmp/www/data bs=1M count=64 2>/dev/null
httpd -p 7001 -h /tmp/www
cpus=${guest_cpus:-2}
export UMBRA_STATS=1
on=${on:-stock,umbra}

for case in $(echo "${cases:-q35}" | tr , ' '); do
	case_options || { not_ok "system.$case" "this machine cannot do it"; continue; }
	n=0
	for hypervisor in stock umbra; do
		listed $hypervisor "$on" || continue
		${hypervisor}_load || { not_ok "system.$case.$hypervisor.load" "no insmod: $(dmesg | tail -n 1)"; continue; }
		disk=$(machine_disk $n) || { not_ok "system.$case.$hypervisor.disk" "the machine has no disk $n"; exit 1; }
		run_case $hypervisor "$disk" || {
			echo "-- console of $name, its end"
			tail -n 30 "/tmp/$guest_name.console"
			echo "-- QEMU's output"
			tail -n 30 "/tmp/$guest_name.vmm"
			guest_state
		}
		guest_kill
		cat "/tmp/$guest_name.vmm"
		if [ $hypervisor = umbra ]; then
			expect "system.$case.idle" "VMs, vCPUs or pages left over" umbra_idle
			rmmod umbra
		else
			stock_unload
		fi
		n=$((n + 1))
	done
	if listed stock "$on" && listed umbra "$on"; then
		diff "/tmp/$case.stock.warnings" "/tmp/$case.umbra.warnings" | sed 's/^/info: warnings: /'
		grep -vxFf "/tmp/$case.stock.errors" "/tmp/$case.umbra.errors" >/tmp/more
		[ -e "/tmp/$case.stock.errors" ] && [ -e "/tmp/$case.umbra.errors" ] || echo "no journal of both" >/tmp/more
		expect "system.$case.errors" "in the journal: $(head -n 3 /tmp/more | tr '\n' '|')" test ! -s /tmp/more
	fi
done
note "end"
exit $failed
