#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# smp-root.sh OUT: makes OUT an overlay with /guest/smp.cpio, which adds the load program to the nested guest's file system.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$1
rm -rf "$out"
mkdir -p "$out/guest"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir "$root/bin"
gcc -std=gnu11 -O2 -Wall -Wextra -Wshadow -Werror -static -pthread -o "$root/bin/smp-load" "$testbed/smp-load.c"
cpio_pack "$root" >"$out/guest/smp.cpio"
