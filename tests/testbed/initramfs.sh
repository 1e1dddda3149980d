#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# initramfs.sh RELEASE-FOLDER: builds the machine's basic initramfs (and in it the nested guest's) once; prints its path.
# The nested guest is /guest/vmlinuz and /guest/initrd; more is added by appending archives.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tree=$1
release=$(basename "$tree")
out=$cache/initramfs-$release.cpio
qemu=/usr/bin/qemu-system-x86_64-microvm

cached "$out" "$testbed/init" "$testbed/guest-init" "${BASH_SOURCE[0]}" "$qemu" /bin/busybox && { echo "$out"; exit 0; }

work=$(mktemp -d "$cache/initramfs.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/etc" "$root"/{bin,sbin,dev,proc,sys,tmp,lib/modules,guest,testbed,usr/share/qemu,var/tmp}

guest_initrd "$root/guest/initrd"
cp "$tree/boot/vmlinuz-$release" "$root/guest/vmlinuz"

cp /bin/busybox "$root/bin/"
install -m 755 "$testbed/init" "$root/init"
for module in virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-intel arch/x86/kvm/kvm-amd arch/x86/kernel/msr; do
	file=$tree/lib/modules/$release/kernel/$module.ko
	if [ -e "$file.xz" ]; then xz -dc "$file.xz" >"$root/lib/modules/$(basename "$file")"; else cp "$file" "$root/lib/modules/"; fi
done
root_add "$root" "$qemu"
for rom in qboot.rom bios-microvm.bin linuxboot.bin linuxboot_dma.bin pvh.bin; do
	cp -L "/usr/share/qemu/$rom" "$root/usr/share/qemu/"
done

printf "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n" >"$root/etc/passwd"
printf "root:x:0:\nkvm:x:36:\nnogroup:x:65534:\n" >"$root/etc/group"

cpio_pack "$root" >"$work/out"
mv "$work/out" "$out"
echo "$out"
