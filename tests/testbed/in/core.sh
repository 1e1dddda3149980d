# SPDX-License-Identifier: GPL-2.0-or-later
# Machine tests straight at the module's ABI, no VMM. Kernel arguments: programs=A,B,... scale=PERCENT then=SCRIPT.
. /testbed/lib.sh

expect core.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
# The oracle. It may be loaded beside Umbra as long as it has no VM.
expect core.stock "stock KVM does not load" stock_load
insmod /lib/modules/msr.ko # one test reads the host's MSRs
machine-tests --scale "${scale:-100}" --module /umbra.ko $(echo "$programs" | tr , ' ')
expect core.idle "VMs, vCPUs or pages left over" umbra_idle
expect core.unload "rmmod failed" rmmod umbra
if [ -n "$then" ]; then
	stock_unload
	. "/testbed/$then"
fi
exit $failed
