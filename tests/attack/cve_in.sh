# SPDX-License-Identifier: GPL-2.0-or-later
# Runs in the machine: the rows of cves.tsv with a shadow that has a mistake put back, or with the product's; then those that are
# tests of the module itself. Kernel argument: rows=PATTERN, only the rows whose id it matches.
. /testbed/lib.sh

table=/usr/share/umbra/cves.tsv
takeovers=yes
if [ -n "$rows" ]; then
	grep -E "$rows" $table >/tmp/rows
	table=/tmp/rows
	echo TAKEOVER | grep -qE "$rows" || takeovers=no
fi
expect cve.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
insmod /lib/modules/msr.ko # for those tests that read the host's MSRs
cve-client all $table /usr/libexec/umbra/umbra-shadow-faults /usr/libexec/umbra/umbra-shadow $takeovers || failed=1
kill -9 $(pidof cve-client) 2>/dev/null
expect cve.idle "VMs, vCPUs or pages left over" umbra_idle

# Their own lines are only shown: what counts here is the row's, and one whose program is not there is not run.
for test in $(awk -F'\t' '$6 == "test" { print $8 }' $table | tr ' ' '\n' | sort -u); do
	case $test in
	attack.*) command -v attack-tests >/dev/null && attack-tests --scale 20 "$test" ;;
	*) machine-tests --scale 20 --module /umbra.ko "$test" ;;
	esac >>/tmp/tests 2>&1
done
sed 's/^/| /' /tmp/tests
awk -F'\t' '$6 == "test" { print $1, $8 }' $table | while read -r id names; do
	bad= missing=
	for name in $names; do
		grep -q "^not ok $name:" /tmp/tests && bad="$bad $name"
		grep -qE "^ok $name( |\$)" /tmp/tests || missing="$missing $name"
	done
	[ -z "$bad" ] || { not_ok "cve/$id" "failed:$bad"; continue; }
	[ -n "$missing" ] || { ok "cve/$id"; printf 'TEST\t%s\t%s\n' "$id" "$names"; }
done
grep -q '^not ok' /tmp/tests && failed=1
expect cve.unload "rmmod failed" rmmod umbra
exit $failed
