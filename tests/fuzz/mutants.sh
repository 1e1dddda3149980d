#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mutants.sh [SECONDS]: can the fuzzers fail? Each line below is a mistake put into a copy of one source file; its target must find it
# from its corpus within SECONDS (20). Needs what tests/fuzz/run.sh needs.
set -uo pipefail
fuzz=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$fuzz/../testbed/lib.sh"
. "$fuzz/corpus.sh"
seconds=${1:-20}
work=$build_root/fuzz-mutants
rm -rf "$work"
mkdir -p "$work"
zydis=$(pkg-config --libs zydis 2>/dev/null || echo -lZydis)
flags=(-g -O1 -D_GNU_SOURCE= -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -w -I"$fuzz/host" -I"$source_root/runtime")
export ASAN_OPTIONS=detect_leaks=0

found=0 all=0
while IFS='|' read -r target folder file change; do
	case $target in '' | '#'*) continue ;; esac
	all=$((all + 1))
	rm -rf "$work/src"
	cp -r "$source_root/$folder" "$work/src"
	sed -i "$change" "$work/src/$file"
	if cmp -s "$work/src/$file" "$source_root/$folder/$file"; then
		echo "not ok $target: '$change' changes nothing"
		continue
	fi
	case $target in
	check | pt) sources=("$work/src/$target.c") ;;
	exits) sources=("$work/src"/exit_{vmx,svm}.c) ;;
	emul) sources=("$work/src"/emul*.c) ;;
	policyc) sources=() ;;
	glue) sources=("$work/src"/{payload,exit,ring,maps,shadow}.c) ;;
	esac
	if ! clang "${flags[@]}" -I"$work/src" -I"$source_root/shim" "$fuzz/host/fuzz_$target.c" ${sources[@]+"${sources[@]}"} $zydis -lseccomp -o "$work/fuzz" 2>"$work/log"; then
		echo "not ok $target: '$change' does not compile: $(head -n 1 "$work/log")"
		continue
	fi
	mkdir -p "$work/corpus"
	if timeout $((seconds + 20)) "$work/fuzz" -max_total_time="$seconds" -max_len=1500 -artifact_prefix="$work/" "$work/corpus" "$(corpus_unpack "$target")" >"$work/log" 2>&1; then
		echo "not ok $target: $file '$change' was not found"
	else
		echo "ok $target: $file '$change': $(grep -aE 'broken:|runtime error:|ERROR: (Addr|lib)' "$work/log" | head -n 1 | sed 's/.*\(broken\|error\|ERROR\): //' | cut -c 1-70)"
		found=$((found + 1))
	fi
	rm -rf "$work/corpus"
done <<'MUTANTS'
check|shim|check.c|s/return size \&\& size <= end \&\& base <= end - size;/return size \&\& base + size <= end;/
check|shim|check.c|s/ranges\[i\].gpa < gpa + size \&\& gpa </ranges[i].gpa <= gpa \&\& gpa </
check|shim|check.c|s/low = mid + 1;/low = mid + 2;/
check|shim|check.c|s/dirty->first_page & 63 ||/dirty->first_page \& 31 ||/
check|shim|check.c|s/dirty->pages > 1 << 20/dirty->pages > 1 << 30/
check|shim|check.c|s/(xcr0 & 6) != 4/1/
check|shim|check.c|s/|| !is_canonical(in->msr.cstar)//
check|shim|check.c|s/(in->msr.fmask | in->msr.tsc_aux) >> 32/in->msr.fmask >> 32/
check|shim|check.c|s/in->tpr_threshold > 15/in->tpr_threshold > 16/
pt|shim|pt.c|s/base < end; i++/base < end \&\& i < 511; i++/
pt|shim|pt.c|s/pt->leaves -= level_size(level) \/ PT_PAGE;/pt->leaves--;/
pt|shim|pt.c|s/if (table_empty(entry_table(table\[i\]))) {/if (0) {/
pt|shim|pt.c|s/\*flush = true; \/\* another page/; \/* another page/
pt|shim|pt.c|s/return !\*pt_find(pt, gpa, &level) && level > 1;/return !*pt_find(pt, gpa, \&level);/
pt|shim|pt.c|s/entry_set(entry, \*entry & ~pt->format->write);/;/
exits|shadow|exit_vmx.c|s/exit->cr.gpr = qual >> 8 & 15;/exit->cr.gpr = qual >> 8 \& 31;/
exits|shadow|exit_vmx.c|s/hw->hw_reason < sizeof(reasons)/hw->hw_reason <= sizeof(reasons)/
emul|shadow|emul_string.c|s/EMUL_PORT_BATCH/(2 * EMUL_PORT_BATCH)/
emul|shadow|emul_string.c|162s/e->ctx->commits++;/;/
policyc|seccomp|policyc.c|s@rule->nr, rule->conds, rule->cond)@rule->nr, rule->conds / 2, rule->cond)@
policyc|seccomp|policyc.c|s/rule->error ? SCMP_ACT_ERRNO((uint32_t)rule->error) : SCMP_ACT_ALLOW/SCMP_ACT_ALLOW/
glue|qemu-glue|payload.c|s/if (bytes > MSR_FILTER_BITMAP_MAX)/if (0)/
glue|qemu-glue|payload.c|s/if (rule->most \&\& count > rule->most)/if (0)/
glue|qemu-glue|maps.c|s/if (len >= sizeof(info->path))/if (0)/
glue|qemu-glue|payload.c|s/memcpy(&count, head + rule->count, sizeof(count));/memcpy(\&count, buf + rule->count, sizeof(count));/
glue|qemu-glue|payload.c|s/if (ret > p->count)/if (0)/
glue|qemu-glue|payload.c|s/return count <= (ret < 0.*/return true;/
glue|qemu-glue|exit.c|s/run->mmio.len <= sizeof(run->mmio.data)/run->mmio.len <= 16/
glue|qemu-glue|exit.c|s/bytes > CHANNEL_RING_OFFSET - offset/bytes > CHANNEL_RING_OFFSET/
glue|qemu-glue|ring.c|s/entry.len > sizeof(entry.data)/entry.len > 16/
glue|qemu-glue|ring.c|s/ || entry.pio > 1//
MUTANTS
echo "$found of $all found"
[ $found = $all ]
