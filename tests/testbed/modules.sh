#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# modules.sh RELEASE-FOLDER: an archive with the kernel modules for the machine's disks and its guests' networks, with
# what they need, for modprobe; built once. Prints its path.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tree=$1
release=$(basename "$tree")
out=$cache/modules-$release.cpio
wanted=(virtio_pci virtio_blk virtio_net ata_piix sd_mod vhost_net tun)

cached "$out" "${BASH_SOURCE[0]}" && { echo "$out"; exit 0; }

work=$(mktemp -d "$cache/modules.XXXXXX")
trap 'rm -rf "$work"' EXIT
from=$tree/lib/modules/$release

# module_add NAME: with what it depends on
module_add() {
	local file name
	file=$(find "$from/kernel" -name "${1//[-_]/[-_]}.ko*" | head -n 1)
	[ -n "$file" ] || { grep -q "/${1//[-_]/[-_]}\.ko" "$from/modules.builtin" || die "$release has no module $1"; return 0; }
	name=$work/modules/lib/modules/$release/${file#"$from"/}
	[ ! -e "${name%.xz}" ] || return 0
	mkdir -p "$(dirname "$name")"
	case $file in *.xz) xz -dc "$file" >"${name%.xz}" ;; *) cp "$file" "$name" ;; esac
	for name in $(modinfo -F depends "$file" | tr , ' '); do module_add "$name"; done
}
for module in "${wanted[@]}"; do module_add "$module"; done
cp "$from"/modules.{builtin,builtin.modinfo,order} "$work/modules/lib/modules/$release/"
depmod -b "$work/modules" "$release"
cpio_pack "$work/modules" >"$work/out"
mv "$work/out" "$out"
echo "$out"
