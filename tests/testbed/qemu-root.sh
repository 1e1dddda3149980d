#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# qemu-root.sh OUT: makes OUT an overlay with Debian's full qemu-system-x86_64, its libraries, and the
# firmware and option ROMs of PC machines. About 55 MB: give the machine some more memory (--mem 1536).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# = 1 ] || die "usage: qemu-root.sh OUT"
out=$1
roms=(
	/usr/share/seabios/bios{,-256k}.bin
	/usr/share/seabios/vgabios-{stdvga,bochs-display,virtio,ramfb,cirrus}.bin
	/usr/share/qemu/{linuxboot,linuxboot_dma,multiboot,multiboot_dma,pvh,kvmvapic,qboot.rom,bios-microvm.bin}
	/usr/lib/ipxe/qemu/efi-{virtio,e1000,e1000e,rtl8139}.rom
	/usr/share/OVMF/OVMF_{CODE,VARS}_4M.fd
)

rm -rf "$out"
mkdir -p "$out"
root_add "$out" /usr/bin/qemu-system-x86_64
for rom in "${roms[@]}"; do
	[ -e "$rom" ] || [ ! -e "$rom.bin" ] || rom=$rom.bin
	[ -e "$rom" ] || die "$rom is not there: run tests/setup.sh"
	install -D -m 644 "$(realpath "$rom")" "$out$rom"
done
