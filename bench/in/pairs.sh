# SPDX-License-Identifier: GPL-2.0-or-later
# Runs in the machine under test: the same programs on stock KVM and on Umbra by turns. Each figure is a line
# "RESULT ROUND stock|umbra CPUS ITEM NANOSECONDS [MEDIAN]". Kernel arguments: rounds=N batches=N; only=LIST: these groups;
# stats=1: exits by kind
. /testbed/lib.sh
die() { echo "bench: $*" >&2; exit 1; }

mhz=$(dmesg | sed -n 's/.*tsc: Detected \([0-9.]*\) MHz processor.*/\1/p' | head -n 1)
[ -n "$mhz" ] || die "the TSC's frequency is not in the kernel's log"
# Ticks of "ITEM LEAST [MEDIAN]" on stdin become nanoseconds.
nanoseconds() { awk -v mhz="$mhz" -v as="$1" '{ printf "%s %s %.1f", as, $1, $2 * 1000 / mhz; if (NF > 2) printf " %.1f", $3 * 1000 / mhz; print "" }'; }

cat /guest/initrd /guest/loops.cpio >/tmp/initrd
cat /tmp/initrd /guest/modules.cpio >/tmp/initrd-io

# The guest's disk is a file in memory, its network a TAP device with a process of this machine behind it.
devices="-drive file=/tmp/disk,format=raw,if=none,id=disk -device virtio-blk-device,drive=disk
	-netdev tap,id=net,ifname=tap0,script=/tmp/tap-up,downscript=no -device virtio-net-device,netdev=net"
dd if=/dev/zero of=/tmp/disk bs=1M count=32 2>/dev/null || die "no room for the disk"
printf '#!/bin/sh\nip addr add 10.9.0.1/24 dev $1 && ip link set $1 up\n' >/tmp/tap-up
chmod 755 /tmp/tap-up
insmod /lib/modules/tun.ko && mkdir -p /dev/net && { [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200; } || die "no TAP devices"
peer 0.0.0.0 5009 &
peer=$!
[ -z "$stats" ] || export UMBRA_STATS=1

exit_items="cpuid rdmsr_apic_base rdmsr_misc_enable wrmsr_tsc_deadline port_out port_in mmio_write mmio_read ioeventfd_port ioeventfd_mmio halt_wake"
exits_run() { # of the API alone, by a small VMM
	timeout 300 $on exits --batches "${batches:-8}" $exit_items >/tmp/out 2>/tmp/err && [ -s /tmp/out ] || { tail -n 5 /tmp/err; die "exits failed on $hypervisor"; }
	nanoseconds "RESULT $round $hypervisor 0" </tmp/out
	[ -z "$stats" ] || sed 's/^/stats: /' /tmp/err
}

guest_run() { # vCPUs GROUPS...: Linux with the loops as its first process
	local cpus=$1 initrd=/tmp/initrd
	shift
	case $* in *io*) initrd="/tmp/initrd-io $devices" ;; esac
	guest_files="-smp $cpus -m 256 -kernel /guest/vmlinuz -initrd $initrd"
	timeout 300 boot "guest: user space reached" $on $qemu $(guest_args microvm) -append "$guest_append rdinit=/bin/loops -- $*" \
		</dev/null >/tmp/out 2>/tmp/err || { tail -n 20 /tmp/err; die "a guest with $cpus vCPU(s) failed on $hypervisor"; }
	tr -d '\r' </tmp/err >/tmp/console
	grep -q "^LOOPS cpus $cpus\$" /tmp/console && grep -q '^LOOPS end' /tmp/console ||
		{ grep -B3 "loops:" /tmp/console; tail -n 20 /tmp/console; die "a guest with $cpus vCPU(s) did not end on $hypervisor"; }
	sed -n "s/^LOOPS \([a-z_]* [0-9.]* [0-9.]*\)\$/RESULT $round $hypervisor $cpus \1/p" /tmp/console
	[ "$initrd" != /tmp/initrd ] || grep boot_user /tmp/out | nanoseconds "RESULT $round $hypervisor $cpus"
	[ -z "$stats" ] || grep -v '^LOOPS' /tmp/console | sed 's/^/stats: /'
}

wanted() { # is this group in the list of those asked for (none: all)?
	case $1 in
	exits_run) set -- exits ;;
	*io) set -- "io$(echo "$1" | cut -d " " -f 2)" ;;
	*) set -- "$(echo "$1" | cut -d " " -f 2)" ;;
	esac
	case ${only:+,$only,} in "" | *,$1,*) ;; *) return 1 ;; esac
}

# Both at once: neither holds SVM without a guest. Who comes first changes, so that a load that grows hits both.
umbra_load && stock_load || die "a module does not load: $(dmesg | tail -n 1)"
echo "bench: $(uname -r), $(grep -c ^processor /proc/cpuinfo) CPU(s), TSC $mhz MHz"
for round in $(seq 1 "${rounds:-5}"); do
	order="stock umbra"
	[ $((round % 2)) = 1 ] || order="umbra stock"
	for what in exits_run "guest_run 1 one load" "guest_run 2 two load" "guest_run 4 load" "guest_run 1 io" "guest_run 2 io"; do
		wanted "$what" || continue
		for hypervisor in $order; do
			on=
			[ $hypervisor = stock ] || on="umbra run --"
			$what
		done
	done
	umbra_idle || die "Umbra has VMs, vCPUs or pages left over"
	echo "bench: round $round, $(cut -d ' ' -f 1-3 /proc/loadavg)"
done
kill $peer
rmmod umbra && stock_unload || die "rmmod"
echo "bench: end"
exit 0
