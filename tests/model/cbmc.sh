#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# CBMC of Debian 13, unpacked beside a Debian 12 system: prints the path of a program that runs it with its own libraries.
#   tests/model/cbmc.sh
# The archive is the one that the system's apt has; its lists for Debian 13 are kept apart, in the testbed's cache.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../testbed/lib.sh"

suite=trixie
packages=(cbmc minisat libc6 libstdc++6 libgcc-s1 zlib1g)
dir=$cache/cbmc

if [ -x "$dir/run" ]; then
	echo "$dir/run"
	exit
fi

. /etc/os-release
uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	awk -v release="$VERSION_CODENAME" '$2 == release && $3 == "main" { print $1; exit }')
[ -n "$uri" ] || die "no source of $VERSION_CODENAME main in apt's sources"
mkdir -p "$cache"
tmp=$(mktemp -d "$cache/cbmc.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{apt/partial,lists/partial,archives/partial}
key=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f $key ] && signed="[signed-by=$key]" || signed=
echo "deb $signed $uri $suite main" >"$tmp/sources.list"
apt() {
	apt-get -qq -o Dir::Etc::SourceList="$tmp/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$tmp/lists" -o Dir::Cache="$tmp" -o Dir::State::status=/dev/null \
		-o Dir::Etc::PreferencesParts=/dev/null -o Dir::Etc::Preferences=/dev/null -o Acquire::Languages=none \
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User=root \
		-o APT::Default-Release= -o Acquire::Retries=3 "$@" >&2
}
apt update || die "cannot read the lists of $suite"
(cd "$tmp/apt" && apt download "${packages[@]}") || die "cannot fetch CBMC from $suite"
for deb in "$tmp"/apt/*.deb; do dpkg-deb -x "$deb" "$tmp/unpacked"; done

# usrmerge or not: the loader and the libraries are where they are.
loader=$(find "$tmp/unpacked" -name 'ld-linux-x86-64.so.2' | head -n 1)
[ -n "$loader" ] && [ -x "$tmp/unpacked/usr/bin/cbmc" ] || die "the packages do not hold what was expected"
cat >"$tmp/run" <<'END'
#!/bin/bash
# The loader and libraries of the same packages; gcc, which preprocesses, is the system's.
root=$(dirname "$(readlink -f "$0")")/unpacked
exec "$(find "$root" -name ld-linux-x86-64.so.2 -print -quit)" \
	--library-path "$root/usr/lib/x86_64-linux-gnu:$root/usr/lib" "$root/usr/bin/cbmc" "$@"
END
chmod +x "$tmp/run"
rm -rf "$tmp"/{apt,lists,archives,sources.list} "$tmp"/*.bin
"$tmp/run" --version >/dev/null || die "CBMC does not start"
mv -T "$tmp" "$dir" 2>/dev/null || [ -x "$dir/run" ] # another run may have been first
trap - EXIT
rm -rf "$tmp"
echo "$dir/run"
