#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Known vulnerabilities of KVM against Umbra, in emulated machines with SVM and, for a few, VMX: prints a table of the rows that were
# run, and what share of all that are in scope is contained. With a pattern only the rows whose id it matches.
#   tests/attack/cve.sh [PATTERN]
set -uo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
attack=$tests/attack logs=${UMBRA_BUILD:-$tests/../build}/logs
case ${1:-} in -*) sed -n '3,5s/^# //p' "$0"; exit 2 ;; esac
rm -f "$logs/svm-cve.console" "$logs/vmx-cve.results"
vmx=
awk -F'\t' '$6 == "vmx" { print $1 }' "$attack/cves.tsv" | grep -qE "${1:-}" && vmx=vmx-cve
said=$(UMBRA_CVE=${1:-} "$tests/run.sh" svm-cve $vmx 2>&1)
status=$?
[ $status = 0 ] || echo "$said"
[ ! -f "$logs/svm-cve.console" ] ||
	awk -f "$attack/cve_report.awk" "$attack/cves.tsv" "$tests"/../seccomp/*.policy "$logs/svm-cve.console" ${vmx:+"$logs/vmx-cve.results"}
exit $status
