# SPDX-License-Identifier: GPL-2.0-or-later
# A Debian system under QEMU, first on stock KVM, then on Umbra, in one boot, each with a disk of its own.
# Kernel arguments: cases=NAME,... (q35), on=HYPERVISOR,... (stock,umbra)
. /testbed/lib.sh
. /testbed/guest.sh

started=$(date +%s)
note() { echo "[$(($(date +%s) - started)) s] $*"; }
listed() { case ,$2, in *,$1,*) ;; *) return 1 ;; esac; }
same() { [ -n "$1" ] && [ "$1" = "$2" ]; }

devices_pci="-device virtio-serial-pci%o -device virtio-blk-pci,drive=disk%o -device virtio-net-pci,netdev=net%o -device virtio-rng-pci%o"
user_net="user,id=net,hostfwd=tcp:127.0.0.1:7002-:80"

# start HYPERVISOR DISK: QEMU's options for the case
start() {
	local drive="-drive file=$2,format=raw,if=none,id=disk,cache=none"
	case $case in
	q35)
		guest_begin "$1" "$case.$1" -M q35 -smp 2 -m 640 $(echo "$devices_pci" | sed 's/%o//g') $drive -netdev "$user_net"
		;;
	*) echo "no case $case" >&2; exit 2 ;;
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
	local first
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
	net_check "$mb_net" 10.0.2.2 http://127.0.0.1:7002 || return 1
	guest_send "systemctl reboot"
	guest_up 400 || { not_ok "$name.again" "did not come up after its reboot"; return 1; }
	expect "$name.again" "the same boot still" test "$boot" != "$first"
	note "$name: up again"
	step disk.again 300 "cd /var/tmp && md5sum <data | cmp - data.sum" || return 1
	journals "$1" || return 1
	guest_send "systemctl poweroff"
	guest_ends 200
	expect "$name.ended" "QEMU ended with status $?" test $? = 0
	expect "$name.down" "no power-off on the console" grep -aq 'reboot: Power down' "/tmp/$guest_name.console"
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
cpus=2 mb_disk=256 mb_net=64
on=${on:-stock,umbra}

for case in $(echo "${cases:-q35}" | tr , ' '); do
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
		expect "system.$case.errors" "in the journal: $(head -n 3 /tmp/more | tr '\n' '|')" test ! -s /tmp/more
	fi
done
note "end"
exit $failed
