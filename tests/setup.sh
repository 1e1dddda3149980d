#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs what building, testing and the demo need on Debian 12. Quick when all is there.
#   tests/setup.sh             install what is missing
#   tests/setup.sh --refresh   also bring the kernel headers up to the archive's version
set -euo pipefail

packages=(
	# build
	gcc libc6-dev make cmake pkg-config binutils kmod bc
	libseccomp-dev libcap-dev libzydis-dev
	linux-headers-cloud-amd64 linux-headers-6.12-cloud-amd64
	# unit tests and static checks
	check clang llvm libclang-rt-14-dev clang-format sparse cloc
	# the emulated machines and what runs in them
	qemu-system-x86 bochs bochsbios vgabios isolinux syslinux-common genisoimage
	seabios ipxe-qemu ovmf grub-pc-bin grub-common mtools xorriso debootstrap
	busybox-static cpio xz-utils procps
)

die() { echo "setup: $*" >&2; exit 1; }

missing() {
	local status
	status=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
	for p in "${packages[@]}"; do
		grep -qx "$p installed" <<<"$status" || echo "$p"
	done
}

apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
		-o Acquire::Retries=3 "$@" </dev/null >"$log" 2>&1
}

command -v apt-get >/dev/null || die "this script knows Debian's apt only; install by hand: ${packages[*]}"
todo=$(missing)
[ "${1:-}" = --refresh ] && todo="$todo linux-headers-cloud-amd64 linux-headers-6.12-cloud-amd64"
[ -n "$todo" ] || exit 0
[ "$(id -u)" = 0 ] || die "packages are missing, run as root: apt-get install" $todo

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "setup: installing" $todo
# The package lists may be absent or too old to find what they name: update only then.
if [ "${1:-}" = --refresh ] || ! apt install --no-install-recommends $todo; then
	apt update || { cat "$log" >&2; die "apt-get update failed: is the network up, are /etc/apt/sources.list* right?"; }
	apt install --no-install-recommends $todo || {
		cat "$log" >&2
		die "apt-get cannot install the packages above: Debian 12 (main, with updates and security) is needed"
	}
fi
todo=$(missing)
[ -z "$todo" ] || die "still missing after installation:" $todo
