# SPDX-License-Identifier: GPL-2.0-or-later
# A CPU that lacks what Umbra needs: loading fails and the log says what is missing (kernel argument refuse=WORD, + for a blank).
. /testbed/lib.sh

words=$(echo "$refuse" | tr + ' ')
if insmod /umbra.ko 2>/dev/null; then
	not_ok refuse.load "insmod succeeded on a CPU without $words"
else
	ok refuse.load
fi
dmesg | grep -i 'umbra' | grep -v 'tainting\|verification'
expect refuse.line "no log line of the module names '$words'" sh -c "dmesg | grep 'umbra: ' | grep -qi '$words'"
expect refuse.one "not one log line but $(dmesg | grep -c 'umbra: ')" test "$(dmesg | grep 'umbra: ' | grep -vc 'tainting\|verification\|out-of-tree')" = 1
expect refuse.gone "the module stayed" test ! -d /sys/module/umbra
expect refuse.device "/dev/umbra is there" test ! -e /dev/umbra
exit $failed
