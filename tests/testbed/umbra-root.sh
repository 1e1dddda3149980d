#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# umbra-root.sh BUILD OUT: makes OUT an overlay with Umbra as `cmake --install BUILD` installs it, the
# libraries it needs, /umbra.ko and the machine tests.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=$1 out=$2
[ -f "$build/CMakeCache.txt" ] || die "$build is not a CMake build tree"
rm -rf "$out"
mkdir -p "$out/testbed"
DESTDIR=$(realpath "$out") cmake --install "$build" >/dev/null
rm -rf "$out"/usr/share/man "$out"/usr/share/doc "$out"/usr/include

# Built, but not for installation.
for program in tests/machine/{machine-tests,kvm-irqchip,kvm-errors,memory-cut} tests/attack/{attack-tests,hostile-vmm,hostile-api,hostile.elf} tests/fuzz/abi/abi-fuzz shadow/umbra-shadow-test; do
	[ ! -x "$build/$program" ] || install -D -m 755 "$build/$program" "$out/usr/libexec/umbra/$(basename "$program")"
done
ko=$(find "$out" -name umbra.ko | head -n 1)
[ -n "$ko" ] || die "no umbra.ko in the installed tree: is the shim built?"
mv "$ko" "$out/umbra.ko"
while read -r file; do
	root_add_libs "$out" "$file"
done < <(find "$out/usr" -type f \( -perm -u+x -o -name '*.so*' \))
# A script or a preloaded library may be all that names the loader and libc.
root_add_libs "$out" /bin/bash
