#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Counts, in the source tree, what has to be trusted and what can be called: "name value" a line. The build compiles the
# figures into `umbra tcb`; bench/tcb.sh holds the counts of lines against cloc's.
#   runtime/tcb-figures.sh [--header] [--files]
set -eu
cd "$(dirname "$0")/.."

# Lines that hold more than blanks and comments, in assembly also than what the preprocessor takes: "count file" a line.
lines() {
	awk '
		FNR == 1 { if (file != "") print count, file; file = FILENAME; count = 0; comment = 0 }
		{
			text = $0; code = ""
			while (text != "") {
				if (comment) {
					at = index(text, "*/")
					if (!at) { text = ""; break }
					text = substr(text, at + 2); comment = 0; continue
				}
				at = match(text, /"([^"\\]|\\.)*"|\/\*|\/\//)
				if (!at) { code = code text; break }
				code = code substr(text, 1, at - 1)
				found = substr(text, at, RLENGTH); text = substr(text, at + RLENGTH)
				if (found == "//") break
				if (found == "/*") comment = 1; else code = code found
			}
			if (code ~ /[^ \t]/ && !(FILENAME ~ /\.S$/ && code ~ /^#/)) count++
		}
		END { if (file != "") print count, file }
	' "$@"
}

# The same files as cloc, which leaves out those that repeat another one: there are none.
kernel() { find shim -name '*.[chS]'; }
# Of runtime/, what is linked into umbra-shadow; the rest is the umbra command, which the user runs.
runtime_names=$(awk '/^set\(runtime_sources/ { gsub(/set\(runtime_sources|\)/, ""); print }' runtime/CMakeLists.txt)
sandboxed() {
	find shadow -name '*.[chS]'
	for name in $runtime_names; do
		echo "runtime/$name"
		[ ! -f "runtime/${name%.c}.h" ] || echo "runtime/${name%.c}.h"
	done
	echo runtime/channel.h
}
vmm() { find qemu-glue -name '*.[chS]'; }
command() { find runtime -name '*.[ch]' | grep -vxF "$(sandboxed)"; }
sum() { lines $("$1" | LC_ALL=C sort -u) | awk '{ n += $1 } END { print n + 0 }'; }

# calls POLICY: system calls that it allows; those that only return an error are none
calls() {
	sed 's/#.*//' "seccomp/$1.policy" | while read -r word rest; do
		case $word in
		include) calls "${rest%.policy}" ;;
		'' | within) ;;
		*) case $rest in return*) ;; *) echo "$word" ;; esac ;;
		esac
	done
}
count_calls() { calls "$1" | sort -u | wc -l; }

# table FILE NAME: the text of an initialised table
table() { awk -v name="$2" 'index($0, name "[] = {") { on = 1 } on { print } on && /^};/ { exit }' "shim/$1"; }
# controls need: names of the third to the fourth field, of all rows
vmx_exits() {
	awk '/^} controls\[\] = \{/ { on = 1 } on { print } on && /^};/ { exit }' shim/vmx.c |
		grep -oE '[A-Z0-9_]+_EXITING|PIN_BASED_EXT_INTR_MASK' | grep -vE 'PAUSE_LOOP|ENCLS' | sort -u | wc -l
}

abi() { awk -v want="$1" '
	{ gsub(/\/\*.*\*\//, ""); sub(/\/\*.*/, "") }
	/^struct umbra_[a-z_]+ \{/ { structs++; inside = 1; next }
	/^};/ { inside = 0 }
	inside && /;/ { text = $0; fields += gsub(/,/, "", text) + 1 }
	/^#define UMBRA_[A-Z_]+ _IO[RW]*\(/ { calls++ }
	END { print want == "structures" ? structs : want == "fields" ? fields : calls }
' shim/umbra_abi.h; }

figures() {
	echo "kernel_lines $(sum kernel)"
	echo "sandboxed_lines $(sum sandboxed)"
	echo "vmm_lines $(sum vmm)"
	echo "command_lines $(sum command)"
	echo "abi_calls $(abi calls)"
	echo "abi_structures $(abi structures)"
	echo "abi_fields $(abi fields)"
	echo "vmx_msrs $(table vmx.c passed_msrs | grep -oE 'MSR_[A-Z0-9_]+' | sort -u | wc -l)"
	echo "svm_msrs $(table svm.c passed_msrs | grep -oE 'MSR_[A-Z0-9_]+' | sort -u | wc -l)"
	echo "vmx_exits $(vmx_exits)"
	echo "svm_exits $(table svm.c fixed_intercepts | grep -oE 'INTERCEPT_[A-Z0-9_]+' | sort -u | wc -l)"
	for role in control event vcpu waiter; do echo "calls_$role $(count_calls $role)"; done
}

case ${1:-} in
--header)
	echo "/* Made by runtime/tcb-figures.sh. */"
	figures | awk '{ printf "#define TCB_%s %s\n", toupper($1), $2 }'
	;;
--files)
	for group in kernel sandboxed vmm command; do lines $($group | LC_ALL=C sort -u) | sed "s/^/$group /"; done
	;;
*) figures ;;
esac
