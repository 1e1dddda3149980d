# SPDX-License-Identifier: GPL-2.0-or-later
# memtest86+ on a PC: real-mode firmware, VGA text through emulated and coalesced writes, caches off and on, every page of memory.
. /testbed/lib.sh

seconds=${seconds:-600}
screen() { tr -d '\000\r' </tmp/serial | sed 's/\x1b\[[0-9;?]*[A-Za-z]/\n/g'; } # what it wrote, without the cursor's moves
tests_seen() { screen | sed -n 's/.*#\([0-9][0-9]*\) *\[.*/\1/p' | sort -nu; }
no_errors() { screen | grep -q 'Errors: 0 ' && ! screen | grep 'Errors: *[1-9]'; }
stat() { sed -n "s/^umbra: $1 \([0-9]*\)$/\1/p" /tmp/err; }

expect memtest.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
: >/tmp/serial
UMBRA_STATS=1 umbra run -- qemu-system-x86_64 -M q35,kernel-irqchip=split -accel kvm -cpu host -m 32 -nodefaults -no-user-config \
	-vga std -display none -monitor none -no-reboot -serial file:/tmp/serial -kernel /memtest86+ \
	-append console=ttyS0,115200 </dev/null >/tmp/out 2>/tmp/err &
vmm=$!
last=
for i in $(seq 1 "$seconds"); do # test 4 on its screen: 0 to 3 are done
	kill -0 $vmm 2>/dev/null || break
	last=$(tests_seen | tail -n 1)
	[ "${last:-0}" -lt 4 ] || break
	sleep 1
done
expect memtest.starts "no test is on its screen" [ -n "$last" ]
expect memtest.tests "it got to test ${last:-none}" [ "${last:--1}" -ge 4 ]
expect memtest.right "it found errors" no_errors
expect memtest.alive "QEMU has ended: $(tail -n 2 /tmp/err)" kill -0 $vmm
kill -INT $vmm 2>/dev/null
wait $vmm
cat /tmp/out /tmp/err
screen | grep . | tail -n 20
expect memtest.emulated "no exits of memory" [ "$(stat 'exits MEM')" -gt 0 ]
expect memtest.coalesced "coalesced writes: $(stat 'coalesced writes')" [ "$(stat 'coalesced writes')" -gt 1000 ]
expect memtest.idle "left over: $(umbra_idle)" umbra_idle
rmmod umbra
exit $failed
