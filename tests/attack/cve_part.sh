# SPDX-License-Identifier: GPL-2.0-or-later
# The part svm-cve of tests/run.sh: builds a shadow with mistakes put back, boots a machine with SVM, prints the table.
# UMBRA_CVE: only rows whose id it matches; then nothing is held against the list of expected tests.

attack=$source_root/tests/attack
product=$build_root/product/shadow/umbra-shadow
faulty=$build_root/faults/shadow/umbra-shadow-faults
root=$build_root/cve-root

check cve.build "the shadow with mistakes does not build" configure_build faults gcc -DCMAKE_BUILD_TYPE=RelWithDebInfo -DUMBRA_FAULTS=ON \
	-DUMBRA_PARTS="seccomp;runtime;shadow"

# The product has nothing of it, neither a name nor a text; and with UMBRA_FAULTS=ON its own shadow is the same program.
traces() { { strings -a "$1"; nm -a "$1"; } | grep -cE 'UMBRA_FAULT|fault_point|fault_result|TAKEOVER|CVE-[0-9]'; }
code() { objcopy -O binary -j .text "$1" /dev/stdout | sha256sum; }
check cve.faulty-binary "not even the shadow with mistakes has a trace of them: the next check is blind" \
	test "$(traces "$faulty")" -gt 50
check cve.product-binary "the product's shadow has traces of the mistakes" test "$(traces "$product")" = 0
check cve.product-code "with UMBRA_FAULTS=ON the product's own shadow is another program" \
	test "$(code "$product")" = "$(code "$build_root/faults/shadow/umbra-shadow")"

rm -rf "$root"
install -D -m 755 "$faulty" "$root/usr/libexec/umbra/umbra-shadow-faults"
install -D -m 755 "$build_root/faults/shadow/cve-client" "$root/usr/libexec/umbra/cve-client"
install -D -m 644 "$attack/cves.tsv" "$root/usr/share/umbra/cves.tsv"
machine_root=$build_root/root console=$build_root/logs/svm-cve.console status=0
"$testbed/machine.sh" --script "$attack/cve_in.sh" --overlay "$machine_root" --overlay "$root" --timeout "$limit" --log "$console" \
	--hw svm --model max,-xsave --cpus 2 --mem 1536 --append "rows=${UMBRA_CVE:-} clearcpuid=umip secretmem.enable=1" || status=$?
rm -rf "$root"
tr -d '\r' <"$console" | grep -av '^ROW'
if [ -z "${UMBRA_CVE:-}" ]; then
	{
		cat "$testbed/expected/svm-cve"
		# Rows whose test is one of tests/attack, where that is built.
		[ ! -x "$machine_root/usr/libexec/umbra/attack-tests" ] || cat "$attack/cve_with_attacks"
	} >"$build_root/logs/svm-cve.expected"
	machine_results "$console" "$build_root/logs/svm-cve.expected"
	[ $status -lt 124 ] || not_ok svm-cve.machine "$([ $status = 124 ] && echo "no end in time" || echo "the machine did not run or crashed")"
else
	check cve.rows "see the log" test $status = 0
fi
awk -f "$attack/cve_report.awk" "$attack/cves.tsv" "$source_root"/seccomp/*.policy "$console" >"$build_root/logs/svm-cve.table"
cat "$build_root/logs/svm-cve.table"
