# SPDX-License-Identifier: GPL-2.0-or-later
# tests/fuzz/abi in the machine. Kernel arguments: fuzz_seed=N fuzz_seconds=N fuzz_options=--calls,1000000
. /testbed/lib.sh

expect fuzz.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null # KCOV, where the kernel has it
echo 1 >/proc/sys/vm/overcommit_memory
expect fuzz.clean "see its output" \
	abi-fuzz --seed "${fuzz_seed:-1}" --seconds "${fuzz_seconds:-60}" $(echo "$fuzz_options" | tr , ' ')
expect fuzz.idle "VMs, vCPUs or pages left over" umbra_idle
expect fuzz.unload "rmmod failed" rmmod umbra
exit $failed
