# SPDX-License-Identifier: GPL-2.0-or-later
# Linux under QEMU on Umbra and on stock KVM, in one boot: user space, power-off, the same output.
. /testbed/lib.sh

compare() { # compare NAME MACHINE
	local on
	for on in umbra stock; do
		echo "== $2 on $on, at $(cut -d. -f1 /proc/uptime) s"
		${on}_guest 300 "$2" | tee "/tmp/$1.$on.all"
		grep '^guest: ' "/tmp/$1.$on.all" >"/tmp/$1.$on"
		expect "linux.$1.$on.user" "user space not reached" grep -q '^guest: user space reached' "/tmp/$1.$on"
		expect "linux.$1.$on.kernel" "not the kernel of this machine" grep -q "^guest: kernel $(uname -r)[[:space:]]*$" "/tmp/$1.$on"
		expect "linux.$1.$on.off" "no power-off" grep -q 'reboot: Power down' "/tmp/$1.$on.all"
		[ $on = stock ] || expect "linux.$1.idle" "VMs, vCPUs or pages left over" umbra_idle
	done
	expect "linux.$1.same" "output differs from stock KVM: $(diff "/tmp/$1.umbra" "/tmp/$1.stock" | grep '^[-+]' | grep -v '^[-+][-+]' | head -n 4 | tr '\n' '|')" \
		cmp -s "/tmp/$1.umbra" "/tmp/$1.stock"
}

expect linux.load "insmod failed" umbra_load
# Stock KVM may be loaded beside Umbra as long as it has no VM.
stock_load || not_ok linux.stock "stock KVM does not load"
compare microvm microvm
compare legacy-free microvm,pit=off,pic=off,rtc=off
expect linux.unload "rmmod failed" rmmod umbra
exit $failed
