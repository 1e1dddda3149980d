# SPDX-License-Identifier: GPL-2.0-or-later
# Attacks on the module from the place of a shadow; then on copies of it that lack a check (/mutants): there the attack must find
# something. Kernel arguments: attacks=A,B,... scale=PERCENT.
. /testbed/lib.sh

expect attack.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
expect attack.msr "no module msr: nobody could watch the host's MSRs" insmod /lib/modules/msr.ko
attack-tests --scale "${scale:-100}" $(echo "${attacks:-all}" | tr , ' ')
expect attack.idle "VMs, vCPUs or pages left over" umbra_idle
expect attack.unload "rmmod failed" rmmod umbra

[ -e /mutants/list ] || exit $failed
while read -r name attack; do
	if insmod "/mutants/$name.ko"; then
		attack-tests --scale "${scale:-100}" "$attack" >/tmp/mutant 2>&1 </dev/null
		sed 's/^/| /' /tmp/mutant
		expect "attack.mutant.$name" "$attack does not find it" grep -q "^not ok $attack:" /tmp/mutant
		umbra_idle >/dev/null # an attack that found something may leave its processes to the kernel, which ends them a little later
		rmmod umbra || not_ok "attack.mutant.$name" "rmmod failed"
	else
		not_ok "attack.mutant.$name" "insmod failed"
	fi
done </mutants/list
exit $failed
