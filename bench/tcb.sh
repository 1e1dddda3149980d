#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What has to be trusted: code by privilege and file, the ABI, what the module imports, and what is let through; beside KVM
# of the same kernel, counted from Debian's linux-source package. A table on standard output.
#   bench/tcb.sh [--build DIR] [--json FILE] [--svg FILE] [--no-kvm] [--files]
# --build: a build tree that has umbra.ko (build/product; else the module is built). --no-kvm: without KVM's part, which
# fetches a package of 140 MB the first time. --files: each file's lines in the table, too.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tests/testbed/lib.sh"

build=$build_root/product json= svg= kvm=1 files=
while [ $# -gt 0 ]; do
	case $1 in
	--build) build=${2:?}; shift ;;
	--json) json=${2:?}; shift ;;
	--svg) svg=${2:?}; shift ;;
	--no-kvm) kvm= ;;
	--files) files=1 ;;
	*) sed -n '3,7s/^# //p' "$0"; exit 2 ;;
	esac
	shift
done
command -v cloc >/dev/null || die "cloc is not installed: run tests/setup.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# cloc_files FOLDER...: "lines file"
cloc_files() {
	cloc --quiet --csv --by-file --skip-uniqueness --include-lang="C,C/C++ Header,Assembly" "$@" |
		awk -F, '$1 == "C" || $1 == "C/C++ Header" || $1 == "Assembly" { print $5, $2 }'
}

# module_figures NAME KO...: code with constants, variables, imports
module_figures() {
	local name=$1
	shift
	size "$@" | awk -v name="$name" 'NR > 1 { text += $1; data += $2 + $3 } END { print name "_text", text; print name "_data", data }'
	# What one of them has is not imported.
	echo "${name}_imports $(nm -u "$@" | sed -n 's/^ *U //p' | sort -u | grep -vxFf <(nm --defined-only "$@" | awk 'NF == 3 { print $3 }') | wc -l)"
}

# "component lines file" of KVM's x86 part, from its source; the same files for each vendor
kvm_source() {
	local version dir tmp
	version=$(dpkg-query -W -f '${Version}' "linux-headers-$(kernel_release 6.1)")
	dir=$cache/kvm-source/$version
	if [ ! -d "$dir" ]; then
		mkdir -p "$cache/kvm-source"
		tmp=$(mktemp -d "$cache/kvm-source/fetch.XXXXXX")
		# Nothing but these folders is unpacked.
		(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 download "linux-source-6.1=$version" >&2 &&
			dpkg-deb --fsys-tarfile ./*.deb | tar -xO --wildcards '*/linux-source-*.tar.xz' | xz -dc |
			tar -x --strip-components=1 --wildcards 'linux-source-*/arch/x86/kvm' 'linux-source-*/virt/kvm' \
				'linux-source-*/include/uapi/linux/kvm.h' && rm ./*.deb) ||
			{ rm -rf "$tmp"; die "cannot fetch linux-source-6.1 $version: run tests/setup.sh --refresh"; }
		mv -T "$tmp" "$dir" 2>/dev/null || rm -rf "$tmp" # another run may have been first
	fi
	echo "$dir"
}

kvm_component='
	function component(file) {
		if (file ~ /\/x86\/kvm\/vmx\//) return "VMX"
		if (file ~ /\/x86\/kvm\/svm\//) return "SVM"
		if (file ~ /\/x86\/kvm\/mmu/) return "MMU"
		if (file ~ /emulate/) return "emulator"
		if (file ~ /\/(lapic|ioapic|i8254|i8259|irq|irq_comm)\.[ch]$/) return "interrupt controllers, PIT"
		if (file ~ /\/(hyperv|xen)\.[ch]$/) return "Hyper-V, Xen"
		if (file ~ /\/virt\/kvm\//) return "virt/kvm"
		if (file ~ /\/x86\.[ch]$/) return "x86.c"
		return "CPUID, PMU, other"
	}'

"$source_root/runtime/tcb-figures.sh" >"$work/figures"
"$source_root/runtime/tcb-figures.sh" --files >"$work/groups"
(cd "$source_root" && cloc_files shim runtime shadow qemu-glue) | sort -k2 >"$work/cloc"
# The two counts must be of the same files and say the same.
if ! diff <(sort -k2 <(cut -d' ' -f2- "$work/groups")) "$work/cloc" >"$work/diff"; then
	cat "$work/diff" >&2
	die "runtime/tcb-figures.sh and cloc count differently"
fi

ko=$build/shim/module/umbra.ko
if [ ! -f "$ko" ]; then
	cp -r "$source_root/shim" "$work/module"
	make -s -C "/usr/src/linux-headers-$(kernel_release 6.1)" M="$work/module" modules >"$work/log" 2>&1 ||
		{ cat "$work/log" >&2; die "umbra.ko does not build"; }
	ko=$work/module/umbra.ko
fi
module_figures umbra "$ko" >>"$work/figures"
nm -u "$ko" | sed -n 's/^ *U //p' | sort >"$work/imports"

: >"$work/kvm"
if [ "$kvm" ]; then
	source=$(kvm_source)
	cloc_files "$source/arch/x86/kvm" "$source/virt/kvm" | sed "s|$source/||" | awk "$kvm_component"'
		{ print component("/" $2) "|" $1 "|" $2 }' | sort >"$work/kvm"
	modules=$(kernel_fetch 6.1)
	module_figures kvm $(find "$modules" -name kvm.ko -o -name kvm-intel.ko -o -name kvm-amd.ko) >>"$work/figures"
	echo "kvm_calls $(grep -cE '^#define KVM_[A-Z0-9_]+[[:space:]]+_IO[RW]*\(' "$source/include/uapi/linux/kvm.h")" >>"$work/figures"
	awk -F'|' '{ n += $2 } END { print "kvm_lines", n }' "$work/kvm" >>"$work/figures"
fi

awk -v kvm="$kvm" -v files="$files" -v groups="$work/groups" -v components="$work/kvm" -v published="$source_root/bench/tcb-published" '
	{ f[$1] = $2 }
	function thousands(n,   out) {
		while (n >= 1000) { out = "," sprintf("%03d", n % 1000) out; n = int(n / 1000) }
		return n out
	}
	function row(text, name, other) {
		printf "| %s | %s |%s\n", text, thousands(f[name]), kvm ? " " (other == "" ? "-" : thousands(f[other])) " |" : ""
	}
	END {
		print "| | Umbra |" (kvm ? " KVM of the same kernel, x86 |" : "")
		print "| --- | --- |" (kvm ? " --- |" : "")
		row("code lines in the kernel", "kernel_lines", "kvm_lines")
		row("code lines in the sandbox", "sandboxed_lines")
		row("code lines in the VMM", "vmm_lines")
		row("code lines of the command, run by the user", "command_lines")
		row("calls (KVM: of all architectures)", "abi_calls", "kvm_calls")
		row("structures", "abi_structures")
		row("fields of these", "abi_fields")
		row("kernel symbols imported", "umbra_imports", "kvm_imports")
		row("bytes of code and constants in the kernel", "umbra_text", "kvm_text")
		row("bytes of variables in the kernel", "umbra_data", "kvm_data")
		row("MSRs without an exit, VMX", "vmx_msrs")
		row("MSRs without an exit, SVM", "svm_msrs")
		row("exits switched on for each guest, VMX (besides those that always are)", "vmx_exits")
		row("exits switched on for each guest, SVM (besides debug registers)", "svm_exits")
		row("system calls of a vCPU thread", "calls_vcpu")
		row("system calls of the event thread", "calls_event")
		row("system calls of the control thread", "calls_control")
		row("system calls of the waiter", "calls_waiter")
		if (kvm) {
			print "\nKVM by component (arch/x86/kvm, virt/kvm):\n"
			while ((getline < components) > 0) { split($0, part, "|"); lines[part[1]] += part[2] }
			print "| component | code lines |\n| --- | --- |"
			for (name in lines) printf "| %s | %s |\n", name, thousands(lines[name]) | "sort -t\"|\" -k3 -r -V"
			close("sort -t\"|\" -k3 -r -V")
		}
		if (files) {
			print "\n| privilege | file | code lines |\n| --- | --- | --- |"
			while ((getline < groups) > 0) printf "| %s | %s | %s |\n", $1, $3, $2
		}
		print "\nPublished by others:\n\n| system | privileged code | source |\n| --- | --- | --- |"
		while ((getline < published) > 0) if (!/^#/) { split($0, part, "|"); printf "| %s | %s | %s |\n", part[1], part[2], part[3] }
	}' "$work/figures"

[ -z "$json" ] || awk -v groups="$work/groups" -v components="$work/kvm" -v imports="$work/imports" -v release="$(kernel_release 6.1)" '
	function quote(text) { gsub(/["\\]/, "\\\\&", text); return "\"" text "\"" }
	{ figures = figures sprintf("%s\n    %s: %s", figures == "" ? "" : ",", quote($1), $2) }
	END {
		printf "{\n  \"kernel\": %s,\n  \"figures\": {%s\n  },\n  \"files\": [", quote(release), figures
		while ((getline < groups) > 0) {
			printf "%s\n    {\"privilege\": %s, \"file\": %s, \"lines\": %s}", comma, quote($1), quote($3), $2
			comma = ","
		}
		printf "\n  ],\n  \"kvm\": ["
		comma = ""
		while ((getline < components) > 0) {
			split($0, part, "|")
			printf "%s\n    {\"component\": %s, \"file\": %s, \"lines\": %s}", comma, quote(part[1]), quote(part[3]), part[2]
			comma = ","
		}
		printf "\n  ],\n  \"imports\": ["
		comma = ""
		while ((getline < imports) > 0) { printf "%s%s", comma, quote($1); comma = ", " }
		print "]\n}"
	}' "$work/figures" >"$json"

[ -z "$svg" ] || awk -f "$source_root/bench/tcb-chart.awk" -v release="$(kernel_release 6.1)" -v components="$work/kvm" \
	-v groups="$work/groups" /dev/null >"$svg"
