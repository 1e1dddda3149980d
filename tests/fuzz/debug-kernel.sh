#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds Debian's Linux 6.1 with KASAN, UBSan, lockdep and KCOV for the emulated machine, once, and the module for it.
#   tests/fuzz/debug-kernel.sh         builds what is missing; prints the kernel's folder, for machine.sh --kernel
#   tests/fuzz/debug-kernel.sh --run [SECONDS [OPTIONS of tests/fuzz/abi]]   and fuzzes the module on it (SVM)
# It takes about half an hour on two CPUs the first time, and 3 GB of disk.
set -euo pipefail
fuzz=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$fuzz/../testbed/lib.sh"

work=$cache/debug-kernel
config=$fuzz/debug-kernel.config

# Not in tests/setup.sh: only this script needs them.
need=()
for package in flex bison libelf-dev bc; do
	dpkg-query -W -f '${db:Status-Status}\n' $package 2>/dev/null | grep -qx installed || need+=($package)
done
[ ${#need[@]} = 0 ] || apt-get -qq -y install --no-install-recommends "${need[@]}" >&2 || die "cannot install ${need[*]}"

kernel_build() {
	local source release=
	mkdir -p "$work"
	exec 8>"$work/lock"
	flock 8
	[ ! -s "$work/release" ] || release=$(cat "$work/release")
	if [ -z "$release" ] || ! cached "$work/out/$release/boot/vmlinuz-$release" "$config"; then
		if [ ! -e "$work/source/Makefile" ]; then
			source=$(package_file linux-source-6.1 usr/src/linux-source-6.1.tar.xz)
			rm -rf "$work/source.new"
			mkdir "$work/source.new"
			tar -xf "$source" -C "$work/source.new" --strip-components=1
			mv -T "$work/source.new" "$work/source"
		fi
		mkdir -p "$work/build"
		make -s -C "$work/source" O="$work/build" KCONFIG_ALLCONFIG="$config" allnoconfig >&2
		# A line that the kernel's rules have dropped would be a check that silently is not made.
		while read -r line; do
			grep -qxF "$line" "$work/build/.config" || die "the kernel did not take $line"
		done < <(grep '^CONFIG_' "$config")
		nice make -s -C "$work/source" O="$work/build" -j "$(nproc)" bzImage modules >&2
		release=$(make -s -C "$work/source" O="$work/build" kernelrelease)
		rm -rf "$work/out"
		mkdir -p "$work/out/$release/boot"
		make -s -C "$work/source" O="$work/build" INSTALL_MOD_PATH="$work/out/$release" INSTALL_MOD_STRIP=1 modules_install >&2
		rm -f "$work/out/$release/lib/modules/$release"/{build,source}
		cp "$work/build/arch/x86/boot/bzImage" "$work/out/$release/boot/vmlinuz-$release"
		echo "$release" >"$work/release"
	fi
	exec 8>&-
	echo "$work/out/$release"
}

# The module, with coverage and UBSan, for that kernel.
module_build() {
	rm -rf "$build_root/debug-module" "$build_root/debug-root"
	mkdir -p "$build_root/debug-root"
	cp -r "$source_root/shim" "$build_root/debug-module"
	make -s -C "$work/build" M="$build_root/debug-module" KCOV_INSTRUMENT=y UBSAN_SANITIZE=y modules >&2 &&
		cp "$build_root/debug-module/umbra.ko" "$build_root/debug-root/"
}

# What of the module was reached: places that the compiler marked, by function; the console has "kcov OFFSET" lines.
coverage() { # CONSOLE
	objdump -dr "$build_root/debug-module/umbra.ko" -j .text | awk -v console="$1" '
		BEGIN { while ((getline line < console) > 0) if (split(line, w, " ") == 2 && w[1] == "kcov") { sub(/\r/, "", w[2]); hit[w[2]] = 1 } }
		/^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]/, "", name) }
		marked { at = $1; sub(/:$/, "", at); all[name]++; total++; if (at in hit) { got[name]++; reached++ } marked = 0 }
		/__sanitizer_cov_trace_pc/ { marked = 1 }
		END {
			for (name in all) printf "%4d of %4d  %s\n", got[name], all[name], name | "sort -k 4"
			close("sort -k 4")
			printf "%d of %d places of the module\n", reached, total
		}'
}

tree=$(kernel_build)
if [ "${1:-}" != --run ]; then
	echo "$tree"
	exit 0
fi
shift
seconds=300
case ${1:-} in [0-9]*) seconds=$1; shift ;; esac
. "$fuzz/../parts.sh"
[ -d "$build_root/root" ] || product_build >&2 || die "the product does not build"
module_build || die "the module does not build for that kernel"
mkdir -p "$build_root/logs"
log=$build_root/logs/debug-fuzz.console status=0
"$testbed/machine.sh" --hw svm --model max --cpus 2 --mem 2048 --kernel "$tree" --overlay "$build_root/root" --overlay "$build_root/debug-root" \
	--script "$testbed/in/abi-fuzz.sh" --append "fuzz_seconds=$seconds fuzz_seed=${UMBRA_SEED:-1} fuzz_options=$(tr ' ' , <<<"$*")" \
	--timeout $((seconds * 3 + 300)) --log "$log" || status=$?
grep -av '^kcov ' "$log"
grep -aE 'KASAN|UBSAN|BUG:|WARNING:|possible (circular|recursive|irq)|suspicious' "$log.kernel" && status=1
coverage "$log"
exit $status
