# SPDX-License-Identifier: GPL-2.0-or-later
# Runs in the machine under test: the same programs on stock KVM and on Umbra. Each figure is a line
# "RESULT stock|umbra ITEM VALUE". Kernel arguments: bench=PARTS (exits,start,boot,memory), items=A,B,.. batches=N boots=N
. /testbed/lib.sh

marker="guest: user space reached"
die() { echo "bench: $*" >&2; exit 1; }
wanted() { case ,${bench:-exits,start,boot,memory}, in *,$1,*) ;; *) return 1 ;; esac; }
on() { [ "$1" = stock ] || echo umbra run --; } # what a command on that hypervisor begins with
# Umbra and stock KVM never at once: newer kernels hold VMX as long as kvm-intel is loaded.
load() { ${1}_load || die "$1 does not load: $(dmesg | tail -n 1)"; }
unload() {
	if [ "$1" = umbra ]; then
		umbra_idle || die "Umbra has VMs, vCPUs or pages left over"
		rmmod umbra || die "rmmod umbra"
	else
		stock_unload || die "rmmod kvm"
	fi
}
# results HYPERVISOR COMMAND...: its lines "ITEM VALUE ..." become results
results() {
	local hypervisor=$1
	shift
	"$@" >/tmp/out 2>/tmp/err || { tail -n 5 /tmp/err; die "failed on $hypervisor: $*"; }
	[ -s /tmp/out ] || die "no figures: $*"
	sed "s/^/RESULT $hypervisor /" /tmp/out
}

# Kilobytes of a process by kind of mapping: "private KIND N", "pss KIND N". Guest memory and the vCPUs' run areas
# are memfds and shared with the VMM: a kind of their own.
process_memory() {
	awk '
	/^[0-9a-f]+-[0-9a-f]+ / {
		kind = $6 ~ /memfd:/ ? "memfd" : $6 ~ /^\[/ ? substr($6, 2, length($6) - 2) : $6 ~ /umbra-shadow/ ? "program" :
			$6 ~ /^\/dev\// || $6 ~ /anon_inode/ ? "device" : $6 ~ /^\// ? "libraries" : "anonymous"
		sub(/:.*/, "", kind)
	}
	/^Pss:/ { pss[kind] += $2 }
	/^Private_(Clean|Dirty):/ { private[kind] += $2 }
	END { for (k in pss) print k, private[k] + 0, pss[k] + 0 }' "/proc/$1/smaps"
}
shadow_memory() {
	local vmm pid i role shadow= out=/tmp/console
	: >$out
	umbra_guest 120 microvm hold=100 >$out &
	vmm=$!
	for i in $(seq 1 300); do
		grep -q '^guest: hold' $out && break
		kill -0 $vmm 2>/dev/null || break
		sleep 0.2
	done
	grep -q '^guest: hold' $out || { tail -n 5 $out; die "the guest did not get to its user space"; }
	for pid in $(pidof umbra-shadow); do # the waiter has the same name, but no VM
		role=waiter
		ls -l "/proc/$pid/fd" | grep -q 'anon_inode:umbra-vm' && role=shadow && shadow=$pid
		process_memory "$pid" | while read -r kind private pss; do
			echo "RESULT umbra memory_${role}_${kind}_private_kib $private"
			echo "RESULT umbra memory_${role}_${kind}_pss_kib $pss"
		done
		echo "RESULT umbra memory_${role}_page_tables_kib $(awk '/^VmPTE:/ { print $2 }' "/proc/$pid/status")"
	done
	[ -n "$shadow" ] || die "no shadow found"
	kill "$(pidof $qemu)"
	wait $vmm
}

boot_results() {
	results $hypervisor boot "$marker" timeout 300 $(on $hypervisor) $qemu $(guest_args microvm) -append "$guest_append" </dev/null >/tmp/boot
	cat /tmp/boot
	[ $hypervisor = umbra ] || sed 's/ boot_[a-z]*/&_huge/' /tmp/boot
}

cpus=$(grep -c ^processor /proc/cpuinfo)
echo "bench: $(uname -r), $cpus CPU(s)"
for hypervisor in stock umbra; do
	load $hypervisor
	if wanted exits; then
		results $hypervisor $(on $hypervisor) exits --batches "${batches:-20}" $(echo "$items" | tr , ' ')
	fi
	if wanted start; then
		for i in 1 2 3 4 5; do results $hypervisor $(on $hypervisor) exits --startup; done
	fi
	if wanted boot; then
		for i in $(seq 1 "${boots:-2}"); do
			boot_results
		done
		# Guest memory in huge pages: stock KVM's has them by default; Umbra's is shared and needs the host's leave.
		if [ $hypervisor = umbra ]; then
			echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled
			boot_results | sed 's/ boot_[a-z]*/&_huge/'
			echo never >/sys/kernel/mm/transparent_hugepage/shmem_enabled
		fi
	fi
	if wanted memory && [ $hypervisor = umbra ]; then shadow_memory; fi
	unload $hypervisor
done
echo "bench: end"
exit 0
