#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzzes on the host: builds all targets with clang, replays what once failed (regress/), then fuzzes each from its corpus.
#   tests/fuzz/run.sh [OPTIONS] SECONDS   SECONDS for each target; as many at once as there are CPUs
#   --target NAME    only this one (may be repeated)
#   --jobs N         so many at once
#   --coverage       afterwards: what the corpora reach, by file (llvm-cov), in build/fuzz-coverage/report
#   --minimise       afterwards: tests/fuzz/corpus becomes the smallest set that reaches as much, short inputs first
# Exit status: 0 when nothing was found. A finding is said with the path of its input; put that into regress/NAME/.
set -uo pipefail
fuzz=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$fuzz/../testbed/lib.sh"
. "$fuzz/corpus.sh"

targets=(check pt exits guest calls control emul lapic irqchip policyc glue)
jobs=$(nproc) wanted=() coverage= minimise= seconds=
while [ $# -gt 0 ]; do
	case $1 in
	--target) wanted+=("${2:?--target needs a name}"); shift ;;
	--jobs) jobs=${2:?--jobs needs a number}; shift ;;
	--coverage) coverage=1 ;;
	--minimise) minimise=1 ;;
	[0-9]*) seconds=$1 ;;
	*) sed -n '3,10s/^# //p' "$0"; exit 2 ;;
	esac
	shift
done
[ -n "$seconds" ] || { sed -n '3,10s/^# //p' "$0"; exit 2; }
[ ${#wanted[@]} = 0 ] || targets=("${wanted[@]}")

tree=$build_root/fuzz grown=$build_root/fuzz-corpus found=$build_root/fuzz-found logs=$build_root/logs/fuzz
mkdir -p "$grown" "$found" "$logs"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export ASAN_SYMBOLIZER_PATH=/usr/bin/llvm-symbolizer

build() { # build TREE OPTIONS...
	CC=clang cmake -S "$source_root" -B "$1" -DUMBRA_PARTS=tests/fuzz -DUMBRA_WERROR=ON "${@:2}" >"$logs/build" 2>&1 &&
		cmake --build "$1" -j "$(nproc)" >>"$logs/build" 2>&1 || { tail -n 20 "$logs/build" >&2; echo "not ok fuzz.build: see above"; exit 1; }
}

# fuzz_one NAME: in a process of its own; its results go to stdout
fuzz_one() {
	local name=$1 program=$tree/tests/fuzz/fuzz_$1 log=$logs/$1 file options=() seeds
	mkdir -p "$grown/$name"
	seeds=$(corpus_unpack "$name")
	for file in "$fuzz/regress/$name"/*; do
		[ -f "$file" ] || continue
		timeout 60 "$program" "$file" >"$log" 2>&1 && continue
		echo "not ok fuzz.$name.regress: $file fails again: $(reason "$log")"
		return
	done
	[ ! -f "$fuzz/dict/$name.dict" ] || options+=("-dict=$fuzz/dict/$name.dict")
	rm -f "$found/$name"-*
	timeout $((seconds + 120)) "$program" -max_total_time="$seconds" -max_len=1000 -len_control=0 -timeout=20 -rss_limit_mb=3000 -reload=0 -print_final_stats=1 \
		-artifact_prefix="$found/$name-" ${options[@]+"${options[@]}"} "$grown/$name" "$seeds" >"$log" 2>&1
	if [ $? = 0 ]; then
		echo "# fuzz.$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, $(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1)"
		echo "ok fuzz.$name"
	else
		echo "not ok fuzz.$name: $(ls "$found/$name"-* 2>/dev/null | head -n 1) ($log): $(reason "$log")"
	fi
}

reason() { grep -aE 'broken:|runtime error:|^SUMMARY|ERROR: libFuzzer|the shadow|a lock is' "$1" | head -n 1 | cut -c 1-200; }

build "$tree"
failed=0 running=0
results=$(mktemp)
trap 'rm -f "$results"; kill $(jobs -p) 2>/dev/null' EXIT
for name in "${targets[@]}"; do
	while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do sleep 0.2; done
	fuzz_one "$name" | tee -a "$results" &
done
wait
! grep -q '^not ok' "$results" || failed=1
[ "$(grep -c '^ok' "$results")" -ge 1 ] || failed=1

if [ -n "$minimise" ]; then
	for name in "${targets[@]}"; do
		rm -rf "$build_root/fuzz-merged"
		mkdir -p "$build_root/fuzz-merged"
		timeout 600 "$tree/tests/fuzz/fuzz_$name" -merge=1 -use_counters=0 -max_len=1000 -timeout=20 "$build_root/fuzz-merged" "$(corpus_unpack "$name")" "$grown/$name" >"$logs/$name.merge" 2>&1 || continue
		corpus_pack "$name" "$build_root/fuzz-merged" "${UMBRA_CORPUS_SHARE:-12000}"
	done
fi

if [ -n "$coverage" ]; then
	tree=$build_root/fuzz-coverage
	build "$tree" -DUMBRA_FUZZ_COVERAGE=ON
	objects=()
	for name in "${targets[@]}"; do
		LLVM_PROFILE_FILE=$tree/$name.profraw timeout 600 "$tree/tests/fuzz/fuzz_$name" -runs=0 -max_len=1000 "$(corpus_unpack "$name")" "$grown/$name" >"$logs/$name.coverage" 2>&1 ||
			echo "not ok fuzz.$name.coverage: see $logs/$name.coverage"
		objects+=(-object "$tree/tests/fuzz/fuzz_$name")
	done
	llvm-profdata merge -o "$tree/all.profdata" "$tree"/*.profraw &&
		llvm-cov report -instr-profile "$tree/all.profdata" "${objects[@]}" \
			-ignore-filename-regex='tests/fuzz|\.h$' | awk '
			/^Filename|^TOTAL/ || /\.c / { printf "%-34s lines %8s of %s (%s), branches %s\n", $1, $8 - $9, $8, $10, $13 }' >"$tree/report"
	cat "$tree/report"
fi
exit $failed
