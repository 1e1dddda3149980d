#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Measures Umbra beside stock kvm-intel in one boot of the emulated machine, whose TSC counts instructions.
set -euo pipefail
bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$bench/../tests/testbed/lib.sh"

usage() {
	cat <<'USAGE'
usage: bench/run.sh [options]
  --kernel 6.1|6.12  Debian's cloud kernel (6.1)
  --build DIR        a finished build tree (Release, prefix /usr) instead of an own one
  --batches N        per exit (20); the least counts
  --boots N          guest boots per hypervisor (2); the least counts
  --append TEXT      more kernel arguments for the machine, for example mitigations=auto
  --no-smp           leave out the second machine, which has two CPUs
  --quick            no second machine, no guest boots, few batches: about two minutes
  -o FILE            JSON (build/bench/results.json)
  --strict           a missed target is an error
exit status: 0 when everything was measured, 1 when not (--strict: or a target was missed)
USAGE
}

kernel=6.1 tree= batches=20 boots=2 append= smp=1 parts=exits,start,boot,memory json= strict=
while [ $# -gt 0 ]; do
	case $1 in
	--no-smp) smp=; shift; continue ;;
	--quick) smp= parts=exits,start,memory batches=8; shift; continue ;;
	--strict) strict=1; shift; continue ;;
	--help) usage; exit 0 ;;
	-o | --*) [ $# -gt 1 ] || { usage >&2; exit 1; } ;;
	esac
	case $1 in
	--kernel) kernel=$2 ;;
	--build) tree=$2 ;;
	--batches) batches=$2 ;;
	--boots) boots=$2 ;;
	--append) append=$2 ;;
	-o) json=$2 ;;
	*) usage >&2; exit 1 ;;
	esac
	shift 2
done
out=$build_root/bench
json=$(realpath -m "${json:-$out/results.json}")
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
"$testbed/umbra-root.sh" "$tree" "$work/root"
for program in exits boot; do install -D "$tree/bench/$program" "$work/root/usr/libexec/umbra/$program"; done

# machine CPUS SECONDS KERNEL-ARGUMENTS: results go to $work/CPUS
machine() {
	local status=0
	echo "bench: emulated machine with $1 CPU(s)"
	"$testbed/machine.sh" --cpus "$1" --kernel "$kernel" --overlay "$work/root" --script "$bench/in/bench.sh" \
		--timeout "$2" --log "$out/console.$1" --append "batches=$batches boots=$boots $3 $append" || status=$?
	[ $status = 0 ] || { tail -n 8 "$out/console.$1" >&2; fail "the run failed (status $status), console in $out/console.$1"; }
	grep -q '^bench: end' "$out/console.$1" || fail "no end in $out/console.$1"
	sed -n "s/^RESULT /$1 /p" "$out/console.$1" >>"$work/results"
}
: >"$work/results"
machine 1 1500 bench=$parts
[ -z "$smp" ] || machine 2 1500 "bench=exits,boot items=port_out,port_in,mmio_write,halt_wake"

awk -v json="$json" -v kernel="$(kernel_release "$kernel")" -v append="$append" \
	-v smp="$smp" -v boot="$([[ $parts != *boot* ]] || echo 1)" -v strict="$strict" \
	-v commit="$(git -C "$source_root" describe --always --dirty 2>/dev/null || echo unknown)" \
	-f "$bench/report.awk" "$bench/items" "$work/results"
