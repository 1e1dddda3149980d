#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# check.sh [DESCRIPTION HEADER]: does the description say what shim/umbra_abi.h says? Every structure with the place and size of each
# field, every call with its number, direction and argument, every constant with its value; and nothing is left out on either side.
# The compiler decides: the description becomes assertions about the header.
#   check.sh --write   makes umbra.txt.const anew
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
write=
[ "${1:-}" != --write ] || { write=1; shift; }
text=${1:-$here/umbra.txt} header=${2:-$here/../../../shim/umbra_abi.h}
consts=${text}.const

# The constants that the header defines (functions and the include guard are none) and those of the system that the text uses.
joined=$(sed -e ':a' -e '/\\$/N' -e 's/\\\n/ /' -e 'ta' "$header")
defined=$(sed -nE 's/^#define[[:space:]]+(UMBRA_[A-Z0-9_]+)[[:space:]]+[^[:space:]].*/\1/p' <<<"$joined" | sort -u)
system="AT_FDCWD MAP_SHARED O_RDWR SEEK_SET __NR_ioctl __NR_lseek __NR_mmap __NR_openat"

compile() { gcc -std=gnu11 -Werror -Wall -I"$(dirname "$header")" -x c "$@"; }
prologue='#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
'"#include \"$(basename "$header")\""

if [ -n "$write" ]; then
	{
		echo "$prologue"
		echo 'int main(void) { puts("# SPDX-License-Identifier: GPL-2.0-or-later\n# By check.sh --write\narches = amd64");'
		for name in $defined $system; do echo "printf(\"$name = %llu\\n\", (unsigned long long)($name));"; done
		echo 'return 0; }'
	} >"$work/write.c"
	compile -o "$work/write" "$work/write.c"
	"$work/write" >"$consts"
fi

{
	echo "$prologue"
	# Structures: bytes of each type, in turn, as syzkaller lays them out (naturally aligned, as the header's rule is).
	awk '
	function bytes(type,   t, n) {
		if (type ~ /^array\[/) {
			t = type; sub(/^array\[/, "", t); sub(/\]$/, "", t)
			n = t; sub(/.*, */, "", n); sub(/, *[^,]*$/, "", t)
			return bytes(t) * n
		}
		if (type ~ /^(const|flags|len)\[/) { sub(/\]$/, "", type); sub(/.*, */, "", type); return bytes(type) }
		if (type ~ /^(vma64|ptr64\[)/) return 8
		if (match(type, /^int(8|16|32|64)(\[.*\])?$/)) { sub(/\[.*/, "", type); return substr(type, 4) / 8 }
		if (type in size) return size[type]
		return -1
	}
	/^[a-z_]+ \{$/ { name = $1; at = 0; next }
	name != "" && /^\}$/ {
		size[name] = at
		printf "_Static_assert(sizeof(struct %s) == %d, \"size of %s\");\n", name, at, name
		name = ""; next
	}
	name != "" && NF >= 2 {
		field = $1; type = $0; sub(/^[ \t]*[a-z0-9_]+[ \t]+/, "", type)
		n = bytes(type)
		if (n < 0) { printf "#error \"what type is %s?\"\n", type; next }
		printf "_Static_assert(offsetof(struct %s, %s) == %d, \"place of %s.%s\");\n", name, field, at, name, field
		printf "_Static_assert(sizeof(((struct %s *)0)->%s) == %d, \"size of %s.%s\");\n", name, field, n, name, field
		at += n
	}
	# Calls: the argument is what the number says.
	/^ioctl\$/ {
		call = $0; sub(/^ioctl\$/, "", call); sub(/\(.*/, "", call)
		if ($0 !~ "cmd const\\[" call "\\]") printf "#error \"%s has the number of another call\"\n", call
		if (match($0, /arg ptr\[(in|out|inout), [a-z_]+\]/)) {
			split(substr($0, RSTART + 8, RLENGTH - 9), part, ", ")
			printf "_Static_assert(_IOC_SIZE(%s) == sizeof(struct %s), \"argument of %s\");\n", call, part[2], call
			printf "_Static_assert(_IOC_DIR(%s) == %s, \"direction of %s\");\n", call, part[1] == "in" ? "_IOC_WRITE" : part[1] == "out" ? "_IOC_READ" : "(_IOC_READ | _IOC_WRITE)", call
		} else {
			printf "_Static_assert(_IOC_DIR(%s) == _IOC_NONE && !_IOC_SIZE(%s), \"%s has no argument\");\n", call, call, call
		}
	}' "$text"
	# Constants.
	awk '$2 == "=" && $1 != "arches" { printf "_Static_assert((unsigned long long)(%s) == %sULL, \"value of %s\");\n", $1, $3, $1 }' "$consts"
} >"$work/check.c"
compile -fsyntax-only "$work/check.c" || { echo "syzkaller description: differs from the header" >&2; exit 1; }
[ "$(grep -c _Static_assert "$work/check.c")" -gt 250 ] || { echo "syzkaller description: hardly anything was checked" >&2; exit 1; }

# Nothing is left out: structures and fields, constants, flags in use.
missing() { echo "syzkaller description: $1" >&2; failed=1; }
failed=
while read -r struct field; do
	awk -v s="$struct" -v f="$field" '$1 == s && $2 == "{" { in_it = 1 } in_it && $1 == f { found = 1 } /^}/ { in_it = 0 } END { exit !found }' "$text" ||
		missing "struct $struct has no $field"
done < <(awk '
	/^struct umbra_[a-z_]+ \{/ { name = $2 }
	/^\};/ { name = "" }
	name != "" && /^\t(__[us][0-9]+|struct umbra_[a-z_]+) / {
		line = $0; sub(/;.*/, "", line); sub(/^\t(__[us][0-9]+|struct [a-z_]+) */, "", line)
		n = split(line, field, /, */)
		for (i = 1; i <= n; i++) { sub(/\[.*/, "", field[i]); print name, field[i] }
	}' "$header")
for name in $defined; do
	grep -q "^$name = " "$consts" || missing "no constant $name: check.sh --write"
	case $name in
	*_ALL) ;;
	UMBRA_REGION_* | UMBRA_STATE_* | UMBRA_EVENT_* | UMBRA_ICPT_* | UMBRA_RUN_* | UMBRA_SHADOW_* | UMBRA_ANSWER_* | UMBRA_INFO | UMBRA_CREATE_VM | UMBRA_VM_* | UMBRA_VCPU_*)
		grep -qw "$name" <(grep -v '^#' "$text") || missing "$name is not used"
		;;
	esac
done
for name in $(grep -ohE '\bUMBRA_[A-Z0-9_]+' <(grep -v '^#' "$text") | sort -u); do
	grep -q "^$name = " "$consts" || grep -q "ioctl\\\$$name" "$text" || missing "$name has no value"
done
[ -z "$failed" ] || exit 1
