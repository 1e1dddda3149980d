#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# debian-image.sh: makes a Debian system on a disk image once, with debootstrap and the mirror that apt uses here.
# Prints the folder that holds disk.img (GRUB in the boot sector, ext4 in the first partition), vmlinuz and initrd.
# Needs root (debootstrap works in a chroot). Made again when this script or debian/ change; older images go away.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

disk_mb=1536
first_sector=2048
packages=(
	systemd-sysv systemd udev dbus # the system
	linux-image-cloud-amd64 initramfs-tools
	iproute2 kmod busybox-static e2fsprogs
)
grub_modules=(biosdisk part_msdos ext2 normal linux serial terminal configfile)

codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
key=$(cat "${BASH_SOURCE[0]}" "$testbed"/debian/* | sha256sum | cut -c1-16)
out=$cache/debian-$codename-$key
[ ! -e "$out/disk.img" ] || { echo "$out"; exit 0; }
[ "$(id -u)" = 0 ] || die "debootstrap needs root"

# apt_mirror: where apt takes this release's main archive from
apt_mirror() {
	local uri
	uri=$(apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(COMPONENT) $(REPO_URI)' |
		sed -n "s/^Packages $codename main //p" | head -n 1)
	# Right after installation the lists may be missing; then apt knows the suite by its name only.
	[ -n "$uri" ] || uri=$(apt-get indextargets --format '$(CREATED_BY) $(RELEASE) $(COMPONENT) $(REPO_URI)' |
		sed -n "s/^Packages $codename main //p" | head -n 1)
	case $uri in
	http://* | https://* | file:/*) echo "$uri" ;;
	'') die "apt has no source for Debian $codename main" ;;
	*) die "debootstrap cannot read apt's source $uri" ;;
	esac
}

mkdir -p "$cache"
work=$(mktemp -d "$cache/debian.XXXXXX")
root=$work/root
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf "$work"' EXIT
build() {
	local proxy='' mirror include
	mirror=$(apt_mirror)
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	include=$(IFS=,; echo "${packages[*]}")
	[ -z "$proxy" ] || export http_proxy=$proxy https_proxy=$proxy
	debootstrap --variant=minbase --include="$include" "$codename" "$root" "$mirror"
	configure
	pack
}

configure() {
	local release
	cp "$testbed/debian/control.service" "$root/etc/systemd/system/umbra-control.service"
	install -m 755 "$testbed/debian/control" "$root/usr/local/sbin/umbra-control"
	cp "$testbed/debian/wired.network" "$root/etc/systemd/network/"
	mkdir -p "$root/var/log/journal" "$root/boot/grub"
	echo testbed >"$root/etc/hostname"
	echo "/dev/vda1 / ext4 rw,noatime 0 0" >"$root/etc/fstab"
	printf '127.0.0.1 localhost testbed\n' >"$root/etc/hosts"
	rm -f "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_*
	chroot "$root" systemctl --quiet enable umbra-control.service systemd-networkd.service
	# Nothing here needs them, and each costs seconds on an emulated machine.
	chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
		e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer systemd-networkd-wait-online.service getty@tty1.service \
		systemd-hwdb-update.service
	# The disk and the file system are known, and what is small is unpacked soon.
	printf '%s\n' virtio_pci virtio_mmio virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
	sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$root/etc/initramfs-tools/initramfs.conf"
	mount -t proc proc "$root/proc"
	chroot "$root" update-initramfs -u
	umount "$root/proc"
	release=$(basename "$root"/boot/vmlinuz-* | sed 's/^vmlinuz-//')
	ln -sf "vmlinuz-$release" "$root/boot/vmlinuz"
	ln -sf "initrd.img-$release" "$root/boot/initrd.img"
	cat >"$root/boot/grub/grub.cfg" <<-CFG
		serial --unit=0 --speed=115200
		terminal_input serial
		terminal_output serial
		set timeout=0
		menuentry "Debian" {
			linux /boot/vmlinuz root=/dev/vda1 ro $(cat "$testbed/debian/cmdline")
			initrd /boot/initrd.img
		}
	CFG
}

# pack: boot sector, GRUB's core behind it, one partition with the file system in it. No loop device is needed.
pack() {
	local image=$work/disk.img sectors core
	sectors=$((disk_mb * 2048 - first_sector))
	truncate -s "${disk_mb}M" "$image"
	# GRUB reads neither a checksum seed nor orphan files.
	mke2fs -q -t ext4 -L root -O ^metadata_csum_seed -E "offset=$((first_sector * 512)),root_owner=0:0" \
		-d "$root" "$image" "$((sectors / 2))k"
	echo "set root=(hd0,msdos1)" >"$work/early.cfg"
	echo "set prefix=(hd0,msdos1)/boot/grub" >>"$work/early.cfg"
	echo "configfile (hd0,msdos1)/boot/grub/grub.cfg" >>"$work/early.cfg"
	grub-mkimage -O i386-pc -p "(hd0,msdos1)/boot/grub" -c "$work/early.cfg" -o "$work/core.img" "${grub_modules[@]}"
	core=$(stat -c %s "$work/core.img")
	[ "$core" -lt $(((first_sector - 1) * 512)) ] || die "GRUB's core does not fit before the partition"
	# The boot sector loads the core from sector 1 on, as it comes; its last bytes are the partition table's.
	dd if=/usr/lib/grub/i386-pc/boot.img of="$image" bs=440 count=1 conv=notrunc status=none
	dd if="$work/core.img" of="$image" bs=512 seek=1 conv=notrunc status=none
	partition_table "$first_sector" "$sectors" | dd of="$image" bs=1 seek=446 conv=notrunc status=none
	cp "$(realpath "$root"/boot/vmlinuz-*)" "$work/vmlinuz"
	cp "$(realpath "$root"/boot/initrd.img-*)" "$work/initrd"
	cp "$testbed/debian/cmdline" "$work/cmdline"
}

# partition_table START SECTORS: one Linux partition, bootable, and the signature
partition_table() {
	local value
	printf '\x80\xfe\xff\xff\x83\xfe\xff\xff'
	for value in "$1" "$2"; do
		printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $((value & 255)) $((value >> 8 & 255)) $((value >> 16 & 255)) $((value >> 24)))"
	done
	head -c 48 /dev/zero
	printf '\x55\xaa'
}

build >"$work/log" 2>&1 </dev/null || {
	tail -n 25 "$work/log" "$root/debootstrap/debootstrap.log" >&2 2>/dev/null || true
	die "the Debian image cannot be made, see above"
}
umount "$root/proc" 2>/dev/null || true
rm -rf "$root" "$work/core.img"
rm -rf "$cache/debian-$codename"-*
mv -T "$work" "$out"
trap - EXIT
echo "$out"
