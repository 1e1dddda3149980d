# SPDX-License-Identifier: GPL-2.0-or-later
# A guest on Umbra, its console live, then who ran where. In the emulated machine, or natively with
# umbra_scripts, umbra_ko, guest_kernel, guest_initrd and shim_lines set.
. "${umbra_scripts:-/testbed}/lib.sh"

out=$(mktemp -d)
vmm=
finish() {
	[ -z "$vmm" ] || kill "$vmm" 2>/dev/null
	[ -z "$loaded" ] || { umbra_idle >/dev/null; rmmod umbra 2>/dev/null; }
	rm -rf "$out"
}
trap finish EXIT
trap 'exit 130' INT TERM
loaded=

field() { awk -v k="$2:" '$1 == k { $1 = ""; sub(/^ /, ""); print; exit }' "/proc/$1/status"; }
user_of() { awk -F: -v u="$1" '$3 == u { print $1; f = 1; exit } END { if (!f) print "uid " u }' /etc/passwd; }
own_namespaces() { # those that differ from ours
	local n
	for n in user mnt net ipc uts pid cgroup; do
		[ "$(readlink "/proc/$1/ns/$n")" = "$(readlink "/proc/self/ns/$n")" ] || printf '%s ' $n
	done
}
# The guest's memory is a memfd; pages of it that nobody else maps at the moment are not the process's own.
private_kib() {
	awk '/^[0-9a-f]+-[0-9a-f]+ / { guest = /memfd:umbra-/ } /^Private_(Clean|Dirty):/ && !guest { s += $2 } END { print s + 0 }' "/proc/$1/smaps"
}
report_process() { # PID TITLE
	echo "$2"
	echo "  process         $1 ($(cat "/proc/$1/comm")), uid $(field "$1" Uid | awk '{ print $1 }') ($(user_of "$(field "$1" Uid | awk '{ print $1 }')")), parent $(field "$1" PPid)"
	echo "  threads         $(cat /proc/"$1"/task/*/comm | sort | uniq -c | awk '{ printf "%s%s x%s", s, $2, $1; s = ", " }')"
	echo "  private memory  without the guest's: $(private_kib "$1") KiB"
	echo "  capabilities    effective $(field "$1" CapEff), bounding $(field "$1" CapBnd)"
	echo "  NoNewPrivs      $(field "$1" NoNewPrivs)"
	echo "  Seccomp         $(cat /proc/"$1"/task/*/status | awk '$1 == "Seccomp:" { m = $2 } $1 == "Seccomp_filters:" { n[$2]++ } END { printf "mode %s;", m; for (i in n) printf " %s thread(s) with %s filter(s)", n[i], i; print "" }')"
	echo "  own namespaces  $(own_namespaces "$1" | grep . || echo none)"
	echo "  open files      $(ls "/proc/$1/fd" | wc -l): $(for f in /proc/"$1"/fd/*; do readlink "$f"; done | sed 's/:\[[0-9]*\]$//; s/ (deleted)//' | sort | uniq -c | awk '{ printf "%s%s", s, $2; if ($1 > 1) printf " x%s", $1; s = ", " }')"
}

echo "== loading the module"
insmod "${umbra_ko:-/umbra.ko}" || { dmesg | tail -n 3; exit 1; }
loaded=1
dmesg | grep 'umbra: ' | tail -n 2
[ -z "${umbra_scripts:-}" ] || guest_files="-kernel $guest_kernel -initrd $guest_initrd"

echo "== the guest: umbra run -- $qemu -M microvm -accel kvm ..."
mkfifo "$out/pipe"
tee "$out/console" <"$out/pipe" &
UMBRA_STATS=1 umbra run -- $qemu $(guest_args microvm) -append "${guest_append} hold=4" </dev/null >"$out/pipe" 2>&1 &
vmm=$!

for i in $(seq 1 600); do # two minutes
	grep -q '^guest: hold' "$out/console" 2>/dev/null && break
	kill -0 "$vmm" 2>/dev/null || break
	sleep 0.2
done
shadow=
for p in $(pidof umbra-shadow); do # its waiter has the same name, but no VM
	ls -l "/proc/$p/fd" | grep -q 'anon_inode:umbra-vm' && shadow=$p
done
qemu_pid=$(pidof $qemu | awk '{ print $1 }')
if [ -n "$shadow" ] && [ -n "$qemu_pid" ]; then
	{
		report_process "$qemu_pid" "QEMU: devices of the guest; has no descriptor of the module"
		waiter=$(field "$shadow" PPid)
		[ "$waiter" = "$qemu_pid" ] || report_process "$waiter" "first process of the shadow's PID namespace: waits for its end"
		report_process "$shadow" "umbra-shadow: the hypervisor, user mode, one process a guest"
	} >"$out/report" 2>&1
fi
wait "$vmm"
status=$?
vmm=
sleep 0.5

echo
echo "==== report ===="
cat "$out/report" 2>/dev/null || echo "no report: the guest did not get to its user space, or its processes were gone"
echo "umbra.ko: the kernel's part"
echo "  lines of code   ${shim_lines:-unknown}; $(awk '$1 == "umbra" { print $2 }' /proc/modules) bytes in memory"
echo "exits by kind, counted by the shadow"
# The guest's console and the shadow's lines share one stream.
grep -ao 'umbra: exits [A-Z0-9_]* [0-9]*' "$out/console" | sort -k4 -rn | awk '{ printf "  %-24s %s\n", $3, $4; f = 1 } END { if (!f) print "  none reported" }'
sed -n "s/.*umbra: \(exits to the VMM\|runs\|calls of the shim's RUN\) \([0-9]*\)$/\1=\2/p" "$out/console" | awk -F= '{ printf "  (%s) %s\n", $1, $2 }'
if grep -q '^guest: done' "$out/console" && [ $status = 0 ]; then
	echo "The guest reached user space and powered off."
	if umbra_idle; then echo "Nothing is left in the kernel: 0 VMs, 0 vCPUs, 0 pages."; else status=1; fi
else
	echo "The guest did not end well (status $status)."
	[ $status != 0 ] || status=1
fi
exit $status
