#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# pc-root.sh OUT: makes OUT an overlay with what the tests of PC machines run: /pc/initrd (a guest that takes
# commands), /pc/disk.img (GRUB in the boot sector; a FAT partition with a kernel, for UEFI's shell too),
# /pc/modes.elf with its addresses in /pc/modes.sym, and gdb-client.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# = 1 ] || die "usage: pc-root.sh OUT"
out=$1
sources=$source_root/tests/machine/pc
tree=$(kernel_fetch 6.1)
release=$(basename "$tree")
kernel=$tree/boot/vmlinuz-$release
rm -rf "$out"
mkdir -p "$out/pc" "$out/usr/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

gcc -O1 -Wall -Wextra -static -o "$out/usr/bin/gdb-client" "$sources/gdb_client.c"
gcc -m32 -nostdlib -static -Wl,-Ttext=0x100000,-z,noexecstack,--no-warn-rwx-segments,--build-id=none,-N \
	-o "$out/pc/modes.elf" "$sources/modes.S"
for symbol in debug_break debug_second debug_watch debug_stored debug_value; do
	nm "$out/pc/modes.elf" | awk -v s=$symbol '$3 == s { print $1 }'
done >"$out/pc/modes.sym"

# option_rom OUT DEFINE: a ROM whose bytes have the sum 0
option_rom() {
	gcc -m32 -c "$2" -o "$work/rom.o" "$sources/option_rom.S"
	ld -m elf_i386 -Ttext=0 --oformat=binary -o "$1" "$work/rom.o"
	printf "$(od -An -v -tu1 "$1" | awk '{ for (i = 1; i <= NF; i++) s += $i } END { printf "\\x%02x", (65536 - s) % 256 }')" |
		dd of="$1" bs=1 seek=511 conv=notrunc status=none
}
option_rom "$out/pc/option.rom" -DBOOT
option_rom "$out/pc/pci.rom" -DDEVICE=0x1005 # a virtio-rng-pci

# The guest that takes commands
modules="acpi/button input/evdev misc/pvpanic/pvpanic misc/pvpanic/pvpanic-mmio virtio/virtio_ring virtio/virtio
	virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev virtio/virtio_pci virtio/virtio_balloon block/virtio_blk"
mkdir -p "$work/top"/{bin,dev,proc,sys,tmp}
cp /bin/busybox "$work/top/bin/"
install -m 755 "$testbed/pc-init" "$work/top/init"
for module in $modules; do
	cp "$tree/lib/modules/$release/kernel/drivers/$module.ko" "$work/top/"
	echo "$(basename "$module").ko" >>"$work/top/modules.list"
done
cpio_pack "$work/top" >"$out/pc/initrd"

# The disk: MBR, GRUB behind it, one FAT partition at 1 MiB
guest_initrd "$work/initrd"
append="console=ttyS0 quiet panic=-1 cryptomgr.notests"
cat >"$work/grub.cfg" <<-CFG
	serial --unit=0 --speed=115200
	terminal_output serial
	echo "grub: loading"
	set root=(hd0,msdos1)
	linux /vmlinuz $append
	initrd /initrd
	echo "grub: booting"
	boot
CFG
grub-mkimage -O i386-pc -p '(hd0,msdos1)/' -c "$work/grub.cfg" -o "$work/core.img" \
	biosdisk part_msdos fat normal configfile linux serial terminal echo boot
printf 'echo shell: running\r\n\\vmlinuz initrd=\\initrd %s\r\n' "$append" >"$work/startup.nsh"
truncate -s 32M "$out/pc/disk.img"
dd if=/usr/lib/grub/i386-pc/boot.img of="$out/pc/disk.img" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$out/pc/disk.img" bs=512 seek=1 conv=notrunc status=none
[ "$(stat -c %s "$work/core.img")" -lt $((2047 * 512)) ] || die "GRUB's core is larger than the gap"
# One active entry: type 0e (FAT16, LBA), from sector 2048 on; then the boot signature.
printf '\x80\xfe\xff\xff\x0e\xfe\xff\xff\x00\x08\x00\x00\x00\xf8\x00\x00' |
	dd of="$out/pc/disk.img" bs=1 seek=446 conv=notrunc status=none
printf '\x55\xaa' | dd of="$out/pc/disk.img" bs=1 seek=510 conv=notrunc status=none
mformat -i "$out/pc/disk.img@@1M" -T 63488 -h 16 -s 63 ::
cp "$kernel" "$work/vmlinuz"
mcopy -i "$out/pc/disk.img@@1M" "$work/vmlinuz" "$work/initrd" "$work/startup.nsh" ::/
