#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Measures Umbra beside stock KVM in one boot of an emulated machine: with VMX in instructions, which its TSC counts; with SVM by
# the wall clock, both by turns.
set -euo pipefail
bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$bench/../tests/testbed/lib.sh"

usage() {
	cat <<'USAGE'
usage: bench/run.sh [options]
  --hw vmx|svm       VMX: exits, boot, memory; SVM: exits, boot, and what a Linux guest measures of itself (vmx)
  --kernel 6.1|6.12  Debian's cloud kernel (6.1)
  --build DIR        a finished build tree (Release, prefix /usr) instead of an own one
  --batches N        per exit (20, with SVM 8); the least counts
  --boots N          guest boots per hypervisor (2); the least counts
  --append TEXT      more kernel arguments for the machine, for example mitigations=auto
  --rounds N         of it: of each thing on each hypervisor (5); the median of the rounds' ratios counts
  --pairs            with VMX, too, what --hw svm measures: slow (an hour a round), but nothing else on this machine matters
  --realtime         the machine gets real-time priority: other work here hardly disturbs it, but stands still meanwhile
  --only LIST        of it: of exits,1,2,4,io1,io2 (numbers: guests with so many vCPUs; io: disk and network)
  --raw FILE         of it: add the figures to FILE; the table is of all in there, so that it can be measured in pieces
  --stats            of it: exits by kind, in the machine's console
  --no-smp           VMX: leave out the second machine, which has two CPUs
  --quick            VMX: no second machine, no guest boots, few batches: about two minutes; SVM: one round
  -o FILE            JSON (build/bench/results.json)
  --strict           a missed target is an error
exit status: 0 when everything was measured, 1 when not (--strict: or a target was missed)
USAGE
}

hw=vmx kernel=6.1 tree= batches= rounds=5 stats= boots=2 append= smp=1 pairs= only= raw= parts=exits,start,boot,memory json= strict= realtime=
while [ $# -gt 0 ]; do
	case $1 in
	--no-smp) smp=; shift; continue ;;
	--quick) smp= parts=exits,start,memory batches=8 rounds=1; shift; continue ;;
	--pairs) pairs=1; shift; continue ;;
	--stats) stats=1; shift; continue ;;
	--strict) strict=1; shift; continue ;;
	--realtime) realtime="chrt -r 1"; shift; continue ;;
	--help) usage; exit 0 ;;
	-o | --*) [ $# -gt 1 ] || { usage >&2; exit 1; } ;;
	esac
	case $1 in
	--hw) hw=$2 ;;
	--kernel) kernel=$2 ;;
	--build) tree=$2 ;;
	--batches) batches=$2 ;;
	--rounds) rounds=$2 ;;
	--boots) boots=$2 ;;
	--only) only=$2 ;;
	--raw) raw=$(realpath -m "$2") ;;
	--append) append=$2 ;;
	-o) json=$2 ;;
	*) usage >&2; exit 1 ;;
	esac
	shift 2
done
case $hw in
vmx) batches=${batches:-20} ;;
svm) batches=${batches:-8} pairs=1 ;;
*) usage >&2; exit 1 ;;
esac
[ "$rounds" -gt 0 ] || { usage >&2; exit 1; }
out=$build_root/bench
[ -z "$pairs" ] && results=results || results=results-$hw
json=$(realpath -m "${json:-$out/$results.json}")
mkdir -p "$out" "$(dirname "$json")"
fail() { echo "bench: $*" >&2; exit 1; }

"$source_root/tests/setup.sh"
if [ -z "$tree" ]; then
	tree=$out/build-$kernel
	echo "bench: building, log in $out/build.log"
	{
		cmake -S "$source_root" -B "$tree" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr \
			-DUMBRA_KDIR="/usr/src/linux-headers-$(kernel_release "$kernel")" \
			-DUMBRA_PARTS="shim;seccomp;runtime;shadow;qemu-glue;bench" && cmake --build "$tree" -j "$(nproc)"
	} >"$out/build.log" 2>&1 || { tail -n 20 "$out/build.log" >&2; fail "the build failed"; }
fi
work=$(mktemp -d "$out/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$testbed/umbra-root.sh" "$tree" "$work/machine"
for program in exits boot peer; do install -D "$tree/bench/$program" "$work/machine/usr/libexec/umbra/$program"; done
commit=$(git -C "$source_root" describe --always --dirty 2>/dev/null || echo unknown)

# machine NAME SCRIPT SECONDS CPUS KERNEL-ARGUMENTS: its console is $out/console.NAME
machine() {
	local status=0 console=$out/console.$1
	echo "bench: emulated machine ($hw) with $4 CPU(s)"
	$realtime "$testbed/machine.sh" --hw $hw --cpus "$4" --kernel "$kernel" --overlay "$work/machine" --script "$bench/in/$2.sh" \
		--timeout "$3" --log "$console" --append "batches=$batches $5 $append" || status=$?
	[ $status = 0 ] || { tail -n 8 "$console" >&2; fail "the run failed (status $status), console in $console"; }
	grep -q '^bench: end' "$console" || fail "no end in $console"
}

# The guest's drivers, and the machine's for TAP devices
modules() {
	local name file to
	for name in failover net_failover virtio virtio_ring virtio_mmio virtio_blk virtio_net tun; do
		file=$(find "$(kernel_fetch "$kernel")/lib/modules" -name "$name.ko*")
		to=$work/modules/modules/$name.ko
		[ $name != tun ] || to=$work/machine/lib/modules/tun.ko
		mkdir -p "${to%/*}"
		case $file in *.xz) xz -dc "$file" >"$to" ;; *) cp "$file" "$to" ;; esac
	done
	cpio_pack "$work/modules" >"$work/machine/guest/modules.cpio"
}

if [ -n "$pairs" ]; then
	mkdir -p "$work/loops/bin" "$work/machine/guest"
	cp "$tree/bench/loops" "$work/loops/bin/"
	cpio_pack "$work/loops" >"$work/machine/guest/loops.cpio"
	modules
	echo "bench: this machine's load is $(cut -d ' ' -f 1-3 /proc/loadavg) on $(nproc) CPUs"
	machine $hw pairs $((300 + rounds * $([ $hw = svm ] && echo 600 || echo 3600))) 2 "rounds=$rounds ${only:+only=$only} ${stats:+stats=1}"
	echo "bench: this machine's load was $(cut -d ' ' -f 1-3 /proc/loadavg)"
	sed -n 's/^RESULT //p' "$out/console.$hw" >>"${raw:=$work/results}"
	awk -v json="$json" -v kernel="$(kernel_release "$kernel")" -v append="$append" -v part="$only" -v strict="$strict" \
		-v commit="$commit" -f "$bench/pairs.awk" "$bench/items-pairs" "$raw"
	exit
fi

# exits_machine CPUS KERNEL-ARGUMENTS
exits_machine() {
	machine "$1" bench 1500 "$1" "boots=$boots $2"
	sed -n "s/^RESULT /$1 /p" "$out/console.$1" >>"$work/results"
}
: >"$work/results"
exits_machine 1 bench=$parts
[ -z "$smp" ] || exits_machine 2 "bench=exits,boot items=port_out,port_in,mmio_write,halt_wake"

awk -v json="$json" -v kernel="$(kernel_release "$kernel")" -v append="$append" \
	-v smp="$smp" -v boot="$([[ $parts != *boot* ]] || echo 1)" -v strict="$strict" \
	-v commit="$commit" \
	-f "$bench/report.awk" "$bench/items" "$work/results"
