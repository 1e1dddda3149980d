#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Proves with CBMC what the files *_proofs.c say of the shim's source, and that each proof can fail: it does so for every
# mutation of the source that is given with it.
#   tests/model/run.sh [--list] [--keep DIR] [NAME...]
# A proof is a comment in front of the function NAME_proof():
#   PROOF name: what is proved
#   BOUNDS: what is assumed of the inputs
#   CBMC: options
#   MUTATION file: sed -E expression, applied to a copy of the shim's file
# UMBRA_MODEL_JOBS: how many at a time (CPUs); UMBRA_MODEL_TIMEOUT: seconds for one (240).
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../testbed/lib.sh"

# proof_table: "NAME|FILE|OPTIONS|BOUNDS|TEXT" and "NAME|mutation|FILE|EXPRESSION" lines
proof_table() {
	awk -F': ' '
		function rest() { sub(/^[^:]*:[ ]?/, ""); return $0 }
		FNR == 1 { file = FILENAME; sub(/.*\//, "", file) }
		/^ \* PROOF / { name = $1; sub(/^ \* PROOF /, "", name); text = rest(); bounds = "" }
		/^ \* BOUNDS:/ { bounds = rest() }
		/^ \* CBMC:/ { printf "%s|%s|%s|%s|%s\n", name, file, rest(), bounds, text }
		/^ \* MUTATION / { of = $1; sub(/^ \* MUTATION /, "", of); printf "%s|mutation|%s|%s\n", name, of, rest() }
	' "$here"/*_proofs.c
}

table=$(proof_table) keep= names=()
while [ $# -gt 0 ]; do
	case $1 in
	--list) <<<"$table" awk -F'|' '$2 != "mutation" { printf "%-18s %s\n", $1, $5 }'; exit 0 ;;
	--keep) keep=${2:?--keep needs a folder}; shift ;;
	-*) sed -n '3,11s/^# //p' "$0"; exit 2 ;;
	*) names+=("$1") ;;
	esac
	shift
done

cbmc=$("$here/cbmc.sh") || exit 1
headers=/usr/src/linux-headers-$(kernel_release 6.1) || exit 1
[ -f "$headers/Makefile" ] || die "no kernel headers in $headers"
work=${keep:-$(mktemp -d)}
mkdir -p "$work"
[ -n "$keep" ] || trap 'rm -rf "$work"' EXIT

# prove DIR FILE NAME OPTIONS: CBMC over the shim's files in DIR. KERNEL among the options: preprocessed by the kernel's build
# system with its headers.
prove() {
	local dir=$1 file=$2 name=${3//-/_} source=$here/$2
	shift 3
	if [ "${1:-}" = KERNEL ]; then
		shift
		cp "$here/$file" "$here"/*.h "$source_root/shim/Kbuild" "$dir"
		source=$dir/pruned.i
		make -s -C "$headers" M="$dir" "${file%.c}.i" >"$dir/log" 2>&1 || return 2
		awk -f "$here/prune.awk" "$dir/${file%.c}.i" >"$source"
	fi
	# With another number of bits of the address a level, for the small tables.
	sed "s/\\b9 \* (level/BITS * (level/" "$dir/pt.c" >"$dir/pt_small.c"
	# With the calls for a table below an entry led to a model.
	sed -E 's/table_(zap\(pt, |empty\()entry_table/child_\1entry_table/' "$dir/pt.c" >"$dir/pt_child.c"
	ulimit -v 6000000 # no proof needs it, and a machine has other work
	timeout -k 5 "${UMBRA_MODEL_TIMEOUT:-240}" "$cbmc" --function "${name}_proof" --drop-unused-functions \
		-I"$dir" -I"$here" "$@" "$source" >"$dir/log" 2>&1
}

# job NAME NUMBER: number 0 is the proof itself, others are its mutations. Prints one line.
job() {
	local name=$1 number=$2 dir=$work/$1.$2 file options status mutant expression started=$SECONDS
	IFS='|' read -r _ file options _ < <(<<<"$table" awk -F'|' -v n="$name" '$1 == n && $2 != "mutation"')
	mkdir -p "$dir"
	cp "$source_root"/shim/*.[ch] "$dir"
	if [ "$number" = 0 ]; then
		prove "$dir" "$file" "$name" $options
		status=$?
		case $status in
		0) echo "ok model.$name ($(sed -n 's/^\*\* 0 of \([0-9]*\) failed.*/\1 assertions/p' "$dir/log"), $((SECONDS - started)) s)" ;;
		124 | 137) echo "not ok model.$name: no answer in time" ;;
		*) echo "not ok model.$name: $(grep -m 3 -E ': FAILURE$|rror' "$dir/log" | tr '\n' ';')" ;;
		esac
		return
	fi
	IFS='|' read -r _ _ mutant expression < <(<<<"$table" awk -F'|' -v n="$name" '$1 == n && $2 == "mutation"' |
		sed -n "${number}p")
	sed -E -i.before "$expression" "$dir/$mutant"
	if cmp -s "$dir/$mutant" "$dir/$mutant.before"; then
		echo "not ok model.$name.mutation$number: changes nothing in $mutant: $expression"
		return
	fi
	prove "$dir" "$file" "$name" $options
	status=$?
	# Not by the bounds alone: an assertion has to fail.
	if [ $status = 10 ] && grep ': FAILURE$' "$dir/log" | grep -qv unwind; then
		echo "ok model.$name.mutation$number ($(grep ': FAILURE$' "$dir/log" | grep -v unwind | head -n 1 |
			sed 's/.*\] line [0-9]* //; s/.*\] //; s/: FAILURE$//'), $((SECONDS - started)) s)"
	else
		echo "not ok model.$name.mutation$number: the proof still passes (status $status) with $expression"
	fi
}

if [ "${UMBRA_MODEL_JOB:-}" ]; then
	job $UMBRA_MODEL_JOB
	exit 0
fi

for name in ${names[@]+"${names[@]}"}; do
	grep -q "^$name|" <<<"$table" || { echo "run.sh: no proof '$name'; see --list" >&2; exit 2; }
done
<<<"$table" awk -F'|' -v wanted=" ${names[*]-} " '
	wanted == "  " || index(wanted, " " $1 " ") { print $1, $2 == "mutation" ? ++n[$1] : 0 }' |
	xargs -P "${UMBRA_MODEL_JOBS:-$(nproc)}" -I@ env UMBRA_MODEL_JOB=@ "$0" --keep "$work" | tee "$work/results"
! grep -q '^not ok' "$work/results" && grep -q '^ok' "$work/results"
