# SPDX-License-Identifier: GPL-2.0-or-later
# PIC, PIT and I/O APIC in the shadow beside stock KVM's: a client that compares their state, then Linux on PCs and microvm with the
# whole irqchip and the split one, with and without the guest's use of the I/O APIC. The same interrupts by name.
# Kernel argument: guests=microvm leaves the PCs out.
. /testbed/lib.sh

# Stock KVM offers asynchronous page faults, which have an interrupt; whether the clock's alarm comes depends on the time.
interrupts() { awk '/^info: +[0-9]+:/ { $1 = $3 = ""; print }' "$1" | grep -v rtc0; }
compare() { # compare NAME MACHINE APPEND CONTROLLER: the timer or the console has this one
	local on
	for on in umbra stock; do
		echo "== $2 $3 on $on"
		${on}_guest 200 "$2" "$3" | tr -d '\r' | tee "/tmp/$1.$on"
		expect "irqchip.$1.$on" "not to its end" grep -q 'reboot: Power down' "/tmp/$1.$on"
		interrupts "/tmp/$1.$on" >"/tmp/$1.$on.interrupts"
		[ $on = stock ] || expect "irqchip.$1.idle" "VMs, vCPUs or pages left over" umbra_idle
	done
	expect "irqchip.$1.controller" "no interrupt by $4" grep -q "$4" "/tmp/$1.umbra.interrupts"
	expect "irqchip.$1.same" "other interrupts: $(diff "/tmp/$1.stock.interrupts" "/tmp/$1.umbra.interrupts" | tr '\n' '|')" \
		cmp -s "/tmp/$1.stock.interrupts" "/tmp/$1.umbra.interrupts"
}

expect irqchip.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
expect irqchip.stock "stock KVM does not load" stock_load
client() { # client NAME PROGRAM: the same output on both
	umbra run -- $2 >/tmp/$1.umbra
	expect "irqchip.$1.umbra" "$(tail -n 1 /tmp/$1.umbra)" grep -qx end /tmp/$1.umbra
	$2 >/tmp/$1.stock
	expect "irqchip.$1.stock" "$(tail -n 1 /tmp/$1.stock)" grep -qx end /tmp/$1.stock
	diff /tmp/$1.stock /tmp/$1.umbra | head -n 40
	echo "$(wc -l </tmp/$1.umbra) lines compared"
	expect "irqchip.$1.same" "$(diff /tmp/$1.stock /tmp/$1.umbra | grep -c '^[-+]') lines differ" cmp -s /tmp/$1.stock /tmp/$1.umbra
}
client client kvm-irqchip
client errors kvm-errors # what a VMM does wrong, on VMs with each kind of irqchip

if [ "$guests" != microvm ]; then
	qemu=qemu-system-x86_64
	compare q35 q35 "" "IO-APIC.*timer"
	compare pc pc "" "IO-APIC.*timer"
	compare pc-noapic pc noapic "XT-PIC.*timer"
	compare q35-noapic q35 noapic "XT-PIC.*timer"
	compare pc-split pc,kernel-irqchip=split "" "IO-APIC.*timer"
	compare q35-split q35,kernel-irqchip=split "" "IO-APIC.*timer"
fi
compare microvm microvm,pit=on,pic=on,ioapic2=off,kernel-irqchip=on "" "IO-APIC.*ttyS0"
expect irqchip.unload "rmmod failed" rmmod umbra
exit $failed
