#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs what is missing, builds, and runs all tests or the named parts. The last line has the totals.
#   tests/run.sh [--list] [--all] [--jobs N] [NAME...]
# Without names or --all, parts that are marked long are left out.
# UMBRA_BUILD is the build folder (build), UMBRA_SCALE the machine tests' repetitions in per cent (100).
set -uo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tests/testbed/lib.sh"
. "$tests/parts.sh"

# name, seconds at most, what it needs, what it does. Parts that need the product run side by side after it is built;
# long ones as well, when they are asked for.
parts=(
	"build        900 -       product and machine tests, gcc and clang, no warnings"
	"headers      300 -       each header compiles alone, gcc and clang"
	"format       120 -       clang-format finds nothing to change"
	"size         60  -       the shim has at most 3,000 lines of code"
	"tcb          600 -       what has to be trusted, counted; the ABI's document and history are of this header"
	"documents    60  -       the tests and proofs that the threat model names exist"
	"model        1500 -      CBMC proves the shim's checks, tables and controls, and each proof fails for its mutations"
	"sparse       600 -       sparse finds nothing in the module"
	"unit         1800 -      unit tests under ASan and UBSan"
	"fuzz         900 -       fuzzers under ASan and UBSan, a short slice; UMBRA_FUZZ: seconds a target (8)"
	"module-6.12  600 -       the module builds for Linux 6.12"
	"testbed      300 -       the emulated machines themselves: exit status, time-out, stock KVM on SVM"
	"vmx-core     900 product the module's ABI on VMX, 2 CPUs, stock KVM as the oracle"
	"vmx-stress   1500 product FPU, kicks and memory under load, 2 CPUs"
	"vmx-linux    900 product  Linux under QEMU on Umbra and on stock KVM, same output"
	"vmx-life     2400 product CPU offline, kill, two guests, a shadow that breaks its policy, rmmod"
	"svm-core     900 product the module's ABI on SVM, 2 CPUs, stock KVM as the oracle"
	"svm-stress   1500 product FPU, kicks and memory under load on SVM, 2 CPUs"
	"svm-fuzz     600 product hostile call sequences at the module's ABI; UMBRA_SEED=N|date: others than CI's; UMBRA_FUZZ: seconds (40)"
	"vmx-fuzz     1500 long    the same on VMX (120)"
	"svm-linux    600 product  Linux under QEMU on Umbra and on stock KVM on SVM, same output"
	"svm-life     2400 product CPU offline, kill, two guests, a broken policy, rmmod on SVM"
	"vmx-smp      1800 long    2 vCPUs under a short load, 4 to user space, on Umbra and stock KVM"
	"svm-smp      1500 product 4 vCPUs on 2 CPUs under load, 16 to user space; UMBRA_LOAD=300: seconds of load (40)"
	"svm-hotplug  900 product a CPU plugged into a running q35 guest, and taken off and on by it"
	"svm-cve      900 product known vulnerabilities of KVM put back into the shadow or sent to it; UMBRA_CVE=PATTERN: only these ids"
	"vmx-cve      900 product those of them that need a CPU with VMX, and its mitigations on; the checks against them, taken out, are found"
	"svm-guests   1500 product four guests at once, killed and started in random order beside a witness, 50 kills"
	"svm-attack   1200 product attacks on the module by property S1 to S10, and copies of it that lack a check, on SVM"
	"vmx-attack   2700 product the same on VMX"
	"svm-attack-shadow 900 product attacks on shadows by a guest kernel and a VMM; UMBRA_SEEDS, UMBRA_OPS, UMBRA_SECONDS: longer"
	"vmx-attack-shadow 2400 long    the same on VMX, but for the PC"
	"vmx-irqchip  900 product PIC, PIT and I/O APIC beside stock KVM's: a client, microvm"
	"svm-irqchip  1500 product PIC, PIT and I/O APIC beside stock KVM's, PCs with the whole irqchip and the split one"
	"svm-pc       1500 product PCs: gdbstub, QEMU's monitor, resets, panic, MSI-X"
	"vmx-gdb      900 product QEMU's gdbstub on VMX: breakpoints, a watchpoint, single steps, as on stock KVM"
	"svm-pc-boot  1500 product PCs: CPU modes, option ROMs, SeaBIOS to kernels with each kind of irqchip, the HPET as the guest's clock"
	"svm-pc-memory 2400 long    PCs: backends of guest memory, PCI hole, balloon, hot-plug"
	"svm-pc-firmware 2400 long    PCs: GRUB from a disk, UEFI with its flash and shell"
	"vmx-pc-firmware 1500 long    UEFI on VMX: its flash, its shell, from there a kernel"
	"svm-memtest  1500 long    memtest86+ on a q35 with VGA: firmware, emulator, coalesced writes"
	"vmx-6.12     1800 long    Linux 6.12 on VMX: core tests, Linux under QEMU on Umbra and on stock KVM"
	"svm-6.12     1200 product Linux 6.12 on SVM: the same"
	"svm-6.12-pc  1500 long    PCs on Linux 6.12, guests of 6.12: CPU modes, option ROMs, SeaBIOS to kernels, HPET"
	"svm-system   3600 long    a Debian system on q35, 2 CPUs, on Umbra and on stock KVM: disk, network, reboot, journal"
	"svm-devices  2400 long    the same system on Umbra with vhost-net, without eventfds, and on microvm"
	"bench        900 product  exits beside stock KVM, in short; a missed target is a failure"
	"vmx-refuse-lynnfield 300 product the module refuses a CPU without unrestricted guest"
	"vmx-refuse-sandybridge 300 product the module refuses a CPU without FSGSBASE"
	"vmx-refuse-penryn    300 product the module refuses a CPU without EPT"
	"vmx-refuse-l1tf      300 product with mitigations on, the module refuses a CPU that cannot flush its L1D"
	"svm-refuse-svm       300 product the module refuses a CPU without SVM"
	"svm-refuse-npt       300 product the module refuses a CPU without nested paging"
	"svm-refuse-fsgsbase  300 product the module refuses a CPU with SVM and without FSGSBASE"
)

jobs=$(nproc) names=() all=
while [ $# -gt 0 ]; do
	case $1 in
	--list)
		for part in "${parts[@]}"; do
			read -r name _ needs text <<<"$part"
			printf '%-22s %s%s\n' "$name" "$text" "$([ "$needs" != long ] || echo " (long)")"
		done
		exit 0
		;;
	--all) all=1 ;;
	--jobs) jobs=${2:?--jobs needs a number}; shift ;;
	-*) sed -n '3,6s/^# //p' "$0"; exit 2 ;;
	*) names+=("$1") ;;
	esac
	shift
done
for name in ${names[@]+"${names[@]}"}; do
	printf '%s\n' "${parts[@]}" | grep -q "^$name " || { echo "run.sh: no part '$name'; see --list" >&2; exit 2; }
done

logs=$build_root/logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0
declare -A running=() started=()
set -m # each part is a process group of its own, so that all of it can be ended

finish() {
	trap - EXIT INT TERM
	local pid
	for pid in "${!running[@]}"; do kill -TERM -- "-$pid" 2>/dev/null; done
	wait
}
trap finish EXIT
trap 'finish; exit 130' INT TERM

part_start() { # NAME SECONDS
	local function=part_${1//[-.]/_}
	case $1 in vmx-refuse-* | svm-refuse-*) function=part_${1%%-*}_refuse ;; esac
	: >"$logs/$1.results"
	(
		set -e
		results=$logs/$1.results part=$1 limit=$2
		$function
	) </dev/null >"$logs/$1.log" 2>&1 &
	running[$!]=$1
	started[$1]=$SECONDS
	echo "== $1"
}

part_end() { # PID STATUS: prints and counts the part's results
	local name=${running[$1]} file p f s
	unset "running[$1]"
	file=$logs/$name.results
	p=$(grep -c '^ok ' "$file") f=$(grep -c '^not ok ' "$file") s=$(grep -c '^skip ' "$file")
	if [ "$2" != 0 ] && [ "$f" = 0 ]; then
		echo "not ok $name: ended with status $2" >>"$file"
		f=1
	elif [ "$((p + f + s))" = 0 ]; then
		echo "not ok $name: reported nothing" >>"$file"
		f=1
	fi
	if [ "$f" -gt 0 ]; then
		tail -n 40 "$logs/$name.log" | sed "s/^/   $name| /"
	fi
	grep -v '^ok ' "$file" | sed "s/^/   $name: /"
	echo "== $name: $p passed, $f failed$([ "$s" = 0 ] || echo ", $s SKIPPED") ($((SECONDS - started[$name])) s, log $logs/$name.log)"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

reap() { # waits for one part to end
	local pid status
	while true; do
		for pid in "${!running[@]}"; do
			kill -0 "$pid" 2>/dev/null && continue
			wait "$pid"
			part_end "$pid" $?
			return
		done
		sleep 0.3
	done
}

"$tests/setup.sh" || { echo "not ok setup"; echo "0 passed, 1 failed"; exit 1; }

# Other parts need the product's build tree; naming one of them builds it quietly first.
wanted=" ${names[*]+"${names[*]}"} "
left_out=
product=no
for part in "${parts[@]}"; do
	read -r name limit needs _ <<<"$part"
	if [ "$wanted" != "  " ]; then
		[[ $wanted == *" $name "* ]] || continue
	elif [ "$needs" = long ] && [ -z "$all" ]; then
		left_out="$left_out $name"
		continue
	fi
	[ "$needs" != long ] || needs=product
	if [ "$needs" = product ] && [ $product = no ]; then
		while [ ${#running[@]} -gt 0 ]; do reap; done
		echo "== product for the machines"
		if product_build </dev/null >"$logs/product.log" 2>&1; then product=yes; else product=broken; fi
	fi
	if [ "$needs" = product ] && [ $product = broken ]; then
		tail -n 20 "$logs/product.log" | sed 's/^/   product| /'
		echo "   $name: not ok: the product does not build"
		failed=$((failed + 1))
		continue
	fi
	width=$jobs
	[ "$needs" = product ] || width=1 # builds use the CPUs themselves
	while [ ${#running[@]} -ge "$width" ]; do reap; done
	part_start "$name" "$limit"
done
while [ ${#running[@]} -gt 0 ]; do reap; done

[ -z "$left_out" ] || echo "left out, for they are long (--all runs them):$left_out"
totals="$passed passed, $failed failed"
[ $skipped = 0 ] || totals="$totals, $skipped skipped"
echo "$totals"
[ $failed = 0 ] && [ $passed -gt 0 ]
