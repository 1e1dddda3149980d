#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Known vulnerabilities of KVM against Umbra, in an emulated machine with SVM: prints a table of the rows that were run, and what
# share of all that are in scope is contained. With a pattern only the rows whose id it matches.
#   tests/attack/cve.sh [PATTERN]
set -uo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
table=${UMBRA_BUILD:-$tests/../build}/logs/svm-cve.table
case ${1:-} in -*) sed -n '3,5s/^# //p' "$0"; exit 2 ;; esac
rm -f "$table"
said=$(UMBRA_CVE=${1:-} "$tests/run.sh" svm-cve 2>&1)
status=$?
[ $status = 0 ] || echo "$said"
[ -f "$table" ] && cat "$table"
exit $status
