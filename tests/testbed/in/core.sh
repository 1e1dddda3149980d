# SPDX-License-Identifier: GPL-2.0-or-later
# The machine tests: straight at the module's ABI, no VMM.
. /testbed/lib.sh

expect core.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
machine-tests --scale "${scale:-100}" --module /umbra.ko smoke negative exits fpu kick memory hoststate life
expect core.idle "VMs, vCPUs or pages left over" umbra_idle
expect core.unload "rmmod failed" rmmod umbra
exit $failed
