# SPDX-License-Identifier: GPL-2.0-or-later
# Guests with several CPUs, on Umbra and on stock KVM in the same boot: the load of smp-load.c with a watch on the guest's kernel
# log, then as many vCPUs as asked for once to user space. From the machine's command line:
#   smp=4 load=40 most=16   vCPUs, seconds of load (a soak: 300), vCPUs of the last boot (0: none)
. /testbed/lib.sh

smp=4 load=40 most=16
for word in $(cat /proc/cmdline); do
	case $word in
	smp=*) smp=${word#*=} ;;
	load=*) load=${word#*=} ;;
	most=*) most=${word#*=} ;;
	esac
done
cat /guest/initrd /guest/smp.cpio >/tmp/initrd
# Warnings and worse, and no more, so that lines are whole.
guest_append="console=ttyS0 loglevel=5 panic=-1 cryptomgr.notests initcall_blacklist=load_system_certificate_list"
# What a guest's kernel says when a CPU, an interrupt, a TLB flush or a clock has gone missing.
trouble='rcu.*(stall|self-detected)|soft lockup|hard LOCKUP|blocked for more than|BUG:|WARNING:|Oops|clocksource:.*(unstable|skew|Watchdog)|TSC found unstable|TSC ADJUST|failed to (boot|come)|Not responding|Stuck|IPI.*timeout|csd: Detected|No irq handler'

run() { # run NAME ON VCPUS SECONDS: a guest; its console stays in /tmp/NAME.ON
	guest_files="-m 256 -smp $3 -kernel /guest/vmlinuz -initrd /tmp/initrd"
	echo "== $1 on $2: $3 vCPUs on $(grep -c ^processor /proc/cpuinfo) CPUs, load for $4 s"
	${2}_guest $((600 + 3 * ${4:-0})) microvm "${4:+offon=3 load=$4}" | tee "/tmp/$1.$2"
	expect "smp.$1.$2.user" "user space not reached" grep -q '^guest: user space reached' "/tmp/$1.$2"
	expect "smp.$1.$2.cpus" "not all CPUs are there" grep -q "^guest: cpus $3[[:space:]]*\$" "/tmp/$1.$2"
	[ -z "$4" ] || expect "smp.$1.$2.offon" "a CPU did not come up again" grep -q '^guest: cpu1 off and on 3' "/tmp/$1.$2"
	[ -z "$4" ] || expect "smp.$1.$2.load" "$(grep '^load: WRONG' "/tmp/$1.$2" | head -n 1)" \
		grep -q '^guest: load ended with 0' "/tmp/$1.$2"
	# QEMU's TCG lets a guest set XCR0 behind its hypervisor's back; the kernel's complaint is the same on stock KVM.
	grep -E "$trouble" "/tmp/$1.$2" | grep -v 'WARNING: .* fpu__init_system_xstate' >"/tmp/$1.$2.trouble"
	expect "smp.$1.$2.log" "$(head -n 3 "/tmp/$1.$2.trouble" | tr '\n' '|')" test ! -s "/tmp/$1.$2.trouble"
	expect "smp.$1.$2.off" "no power-off" grep -q 'reboot: Power down' "/tmp/$1.$2"
	[ "$2" = stock ] || expect "smp.$1.idle" "VMs, vCPUs or pages left over" umbra_idle
}

expect smp.umbra-load "insmod failed" umbra_load
stock_load || not_ok smp.stock-load "stock KVM does not load"
export UMBRA_STATS=1
run load umbra "$smp" "$load"
run load stock "$smp" "$load"
# The clock source is the same, and what the kernel says of its TSC.
clocks() { grep -hoE 'info: clocksource .*|tsc: Marking.*' "/tmp/load.$1" | sort; }
expect smp.clocks "umbra: $(clocks umbra | tr '\n' ' '), stock: $(clocks stock | tr '\n' ' ')" test "$(clocks umbra)" = "$(clocks stock)"
# Paravirtual services that the guests took; asynchronous page faults are not offered.
pv() { sed -n "s/^load: pv //p" "/tmp/load.$1" | tr -d "\r" | grep -v "async PF" | sort -u; }
expect smp.pv "umbra: $(pv umbra | tr "\n" "|"), stock: $(pv stock | tr "\n" "|")" test "$(pv umbra)" = "$(pv stock)" -a -n "$(pv umbra)"
# With more vCPUs than CPUs they wait for each other, and the guest is told.
steal=$(sed -n "s/^load: steal \([0-9]*\).*/\1/p" /tmp/load.umbra)
[ "$smp" -le "$(grep -c ^processor /proc/cpuinfo)" ] || expect smp.steal "${steal:-no} hundredths of a second of steal time in $load seconds" test "${steal:-0}" -ge $((load * 10))
[ "$most" = 0 ] || run most umbra "$most" ""
expect smp.unload "rmmod failed" rmmod umbra
exit $failed
