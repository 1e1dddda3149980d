#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# bench/trace.sh ITEM stock|umbra [BUILD]: where the instructions of one round trip go. The emulator traces the last batch of
# `exits ITEM`, which begins with its magic breakpoint; addresses become functions by /proc/kallsyms and nm. ITEM boot: a guest's
# boot to user space, one instruction in 100,003 looked at.
# BUILD: a finished build tree (Release, prefix /usr); default: bench/run.sh's.
set -euo pipefail
bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$bench/../tests/testbed/lib.sh"

[ $# -ge 2 ] || { sed -n '3,7s/^# //p' "$0" >&2; exit 1; }
item=$1 on=$2 tree=${3:-$build_root/bench/build-6.1} steps=${STEPS:-60000}
out=$build_root/bench/trace.$item.$on
rm -rf "$out"
mkdir -p "$out/bin"
out=$(realpath "$out")
"$testbed/umbra-root.sh" "$tree" "$out/machine"
for program in exits boot debugport; do install -D "$tree/bench/$program" "$out/machine/usr/libexec/umbra/$program"; done

# The testbed starts bochs-bin in the folder of its bochsrc: stand in for it.
cat >"$out/bin/bochs-bin" <<RC
#!/bin/bash
printf '%s\n' 'magic_break: enabled=1' 'port_e9_hack: enabled=1' >>bochsrc
if [ $item = boot ]; then
	{ echo c; yes 's 100003' | head -n ${SAMPLES:-20000}; echo q; } >rc
else
	printf '%s\n' c 'trace on' 's $steps' q >rc
fi
exec $(command -v bochs-bin) "\$@" >"$out/trace"
RC
chmod +x "$out/bin/bochs-bin"
PATH=$out/bin:$PATH "$testbed/machine.sh" --overlay "$out/machine" --script "$bench/in/trace.sh" --timeout 400 \
	--log "$out/console" --append "item=$item hypervisor=$on" >"$out/log" 2>&1 || true # the emulator ends at "q"
grep -q 'Magic breakpoint' "$out/trace" || { tail -n 20 "$out/log" >&2; die "no trace"; }

# Symbols: "ADDRESS NAME OBJECT". Of the kernel from the machine, of programs by their mappings.
sed -n 's/^KSYM //p' "$out/trace" >"$out/symbols"
sed -n 's/^MAP //p' "$out/trace" | sort -u | while read -r start object; do
	file=$out/machine$object
	[ -e "$file" ] || file=$object # in the basic root: copied from here
	[ -f "$file" ] || continue
	case $object in # not stripped
	*/umbra-shadow) file=$tree/shadow/umbra-shadow ;;
	*/exits) file=$tree/bench/exits ;;
	esac
	{ nm "$file" 2>/dev/null | grep . || nm -D "$file"; } | awk 'NF == 3 && $2 ~ /^[tTwWi]$/ { print $1, $3 }' | while read -r address name; do
		printf '%016x %s %s\n' $((0x$start + 0x$address)) "${name%%@*}" "$(basename "$object")"
	done
	printf '%016x ? %s\n' $((0x$start)) "$(basename "$object")"
done >>"$out/symbols"
awk -v boot="$([ "$item" != boot ] || echo 1)" -f "$bench/trace.awk" <(sort "$out/symbols") "$out/trace" | tee "$out/breakdown"
echo "bench: trace, symbols and breakdown are in $out"
