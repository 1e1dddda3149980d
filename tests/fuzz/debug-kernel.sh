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

tree=$(kernel_build)
echo "$tree"
