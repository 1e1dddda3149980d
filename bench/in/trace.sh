# SPDX-License-Identifier: GPL-2.0-or-later
# Runs in the machine under test, for bench/trace.sh. Symbols and mappings go to the emulator's output.
. /testbed/lib.sh

${hypervisor}_load || exit 1
awk '$2 ~ /^[tTwW]$/ { print "KSYM", $1, $3, $4 == "" ? "kernel" : $4 }' /proc/kallsyms | debugport
maps() { # of the programs named
	for pid in $(pidof "$@"); do
		awk '$3 == "00000000" && $6 ~ /^\// { sub(/-.*/, "", $1); print "MAP", $1, $6 }' "/proc/$pid/maps"
	done | debugport
}
prefix=$([ "$hypervisor" = stock ] || echo umbra run --)

if [ "$item" = boot ]; then
	(sleep 3; maps boot umbra-shadow $qemu) &
	MAGIC=1 UMBRA_STATS=1 boot "guest: user space reached" $prefix $qemu $(guest_args microvm) -append "$guest_append" </dev/null
	echo "TRACE-END" | debugport
	exit 1
fi
mkfifo /tmp/go
$prefix exits --magic --batches 4 "$item" </tmp/go >/tmp/out 2>&1 &
exec 3>/tmp/go
for i in $(seq 1 100); do
	grep -q ready /tmp/out && break
	sleep 0.2
done
cat /tmp/out
maps exits umbra-shadow
echo go >&3
wait
cat /tmp/out
exit 1
