# SPDX-License-Identifier: GPL-2.0-or-later
# A CPU that lacks what Umbra needs: loading fails and the log says what is missing (kernel argument refuse=WORD, + for a blank).
. /testbed/lib.sh

words=$(echo "$refuse" | tr + ' ')
if insmod /umbra.ko 2>/dev/null; then
	not_ok refuse.load "insmod succeeded on a CPU without $words"
else
	ok refuse.load
fi
# busybox tries a second way to load a module after the first failed: the same line twice is one line.
dmesg | sed -n 's/.*umbra: //p' | grep -v 'taint' | sort -u >/tmp/lines
cat /tmp/lines
expect refuse.line "no log line of the module names '$words'" grep -qi "$words" /tmp/lines
expect refuse.one "not one log line" test "$(wc -l </tmp/lines)" = 1
expect refuse.gone "the module stayed" test ! -d /sys/module/umbra
expect refuse.device "/dev/umbra is there" test ! -e /dev/umbra
exit $failed
