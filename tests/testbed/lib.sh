# SPDX-License-Identifier: GPL-2.0-or-later
# Shared by the testbed's scripts: where things are, and how programs get into an initramfs.

testbed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_root=$(cd "$testbed/../.." && pwd)
build_root=${UMBRA_BUILD:-$source_root/build}
cache=${UMBRA_TESTBED:-$build_root/testbed}

die() { echo "testbed: $*" >&2; exit 125; }

# kernel_release 6.1|6.12: the release that the installed headers belong to, for example 6.1.0-56-cloud-amd64
kernel_release() {
	local meta
	case $1 in
	6.1) meta=linux-headers-cloud-amd64 ;;
	6.12) meta=linux-headers-6.12-cloud-amd64 ;;
	*) die "unknown kernel '$1': 6.1 or 6.12" ;;
	esac
	dpkg-query -W -f '${Depends}\n' "$meta" 2>/dev/null | sed -n 's/^linux-headers-\([^ ,]*\).*/\1/p' | grep . ||
		die "$meta is not installed: run tests/setup.sh"
}

# package_file PACKAGE FILE: unpacks a package into the cache once, without installing it; prints the file's place there
package_file() {
	local dir=$cache/package/$1 tmp
	if [ ! -d "$dir" ]; then
		mkdir -p "$cache/package"
		tmp=$(mktemp -d "$cache/package/fetch.XXXXXX")
		(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$1" >&2 && dpkg-deb -x ./*.deb . &&
			rm ./*.deb) || { rm -rf "$tmp"; die "cannot fetch $1: run apt-get update"; }
		mv -T "$tmp" "$dir" 2>/dev/null || rm -rf "$tmp" # another run may have been first
	fi
	[ -f "$dir/$2" ] || die "$1 has no $2"
	echo "$dir/$2"
}

# kernel_fetch 6.1|6.12: unpacks that kernel's package into the cache once; prints the folder
kernel_fetch() {
	local release dir tmp version
	case $1 in */*) echo "$1"; return ;; esac # one that is there already: tests/fuzz/debug-kernel.sh
	release=$(kernel_release "$1") || exit
	dir=$cache/kernel/$release
	if [ ! -d "$dir" ]; then
		mkdir -p "$cache/kernel"
		tmp=$(mktemp -d "$cache/kernel/fetch.XXXXXX")
		version=$(dpkg-query -W -f '${Version}' "linux-headers-$release")
		(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 download \
			"linux-image-$release=$version" >&2 && dpkg-deb -x linux-image-*.deb . && rm linux-image-*.deb) || {
			rm -rf "$tmp"
			die "cannot fetch linux-image-$release $version: run tests/setup.sh --refresh and build again"
		}
		mv -T "$tmp" "$dir" 2>/dev/null || rm -rf "$tmp" # another run may have been first
	fi
	echo "$dir"
}

# root_add ROOT FILE...: copies programs and libraries under the same path, with the libraries they need
root_add() {
	local root=$1 file lib
	shift
	for file; do
		mkdir -p "$root$(dirname "$file")"
		cp -L "$file" "$root$file"
		root_add_libs "$root" "$file"
	done
}

# root_add_libs ROOT FILE: the shared libraries that FILE needs
root_add_libs() {
	local root=$1 libs lib
	libs=$(ldd "$2" 2>/dev/null || true)
	grep -q 'not found' <<<"$libs" && die "$2 needs libraries that are not there: $(grep 'not found' <<<"$libs")"
	# No "grep /" here: the loader's own line has no arrow, the vdso's has no path.
	for lib in $(sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' <<<"$libs"); do
		[ -e "$root$lib" ] && continue
		case $lib in "$root"*) continue ;; esac
		mkdir -p "$root$(dirname "$lib")"
		cp -L "$lib" "$root$lib"
	done
}

# cpio_pack DIR: an uncompressed archive of DIR on stdout, independent of names, times and owners outside
cpio_pack() { (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0); }

# guest_initrd OUT: the nested guest's file system
guest_initrd() {
	local root
	root=$(mktemp -d)
	mkdir -p "$root"/{bin,dev,proc,sys,tmp}
	cp /bin/busybox "$root/bin/"
	install -m 755 "$testbed/guest-init" "$root/init"
	cpio_pack "$root" >"$1"
	rm -rf "$root"
}

# cached OUT INPUT...: true when OUT is newer than all inputs (files or folders)
cached() {
	local out=$1 input
	shift
	[ -e "$out" ] || return 1
	for input; do
		[ -z "$(find -L "$input" -newer "$out" -print -quit)" ] || return 1
	done
}
