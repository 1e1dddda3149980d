# SPDX-License-Identifier: GPL-2.0-or-later
# Ends of every kind, with QEMU, glue, shadow and module together.
. /testbed/lib.sh

boot() { # boot NAME [APPEND]: starts a guest, its console to /tmp/NAME; sets vmm
	umbra run -- $qemu $(guest_args microvm) -append "console=ttyS0 panic=-1 ${2:-}" </dev/null >"/tmp/$1" 2>&1 &
	vmm=$!
}
ended() { # ended PID: it ends within ten seconds
	local i
	for i in $(seq 1 100); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -9 "$1"
	return 1
}
sleep_random() { usleep $((RANDOM % $1 * 1000)); }
no_shadow() { local i; for i in $(seq 1 50); do pidof umbra-shadow >/dev/null || return 0; sleep 0.1; done; return 1; }

expect life.load "insmod failed" umbra_load
stock_load || not_ok life.stock "stock KVM does not load" # one test wants both
machine-tests --scale "${scale:-100}" --module /umbra.ko life
expect life.alone.idle "VMs, vCPUs or pages left over" umbra_idle
rounds=${rounds:-10}

bad=0
for i in $(seq 1 "$rounds"); do
	boot kill
	sleep_random 4000
	kill -9 "$vmm"
	wait "$vmm" 2>/dev/null
	no_shadow || bad=$((bad + 1))
done
expect life.kill-vmm "after $bad of $rounds kills of the VMM its shadow lived on" test $bad = 0
expect life.kill-vmm.idle "VMs, vCPUs or pages left over" umbra_idle

bad=0
for i in $(seq 1 "$rounds"); do
	boot kill
	for j in $(seq 1 100); do pidof umbra-shadow >/dev/null && break; sleep 0.1; done
	sleep_random 4000
	kill -9 $(pidof umbra-shadow) # both of them: the shadow and its waiter
	ended "$vmm" || bad=$((bad + 1))
	wait "$vmm" 2>/dev/null
done
tail -n 3 /tmp/kill
expect life.kill-shadow "after $bad of $rounds kills of the shadow its VMM hung" test $bad = 0
expect life.kill-shadow.said "the VMM's stderr does not say that the shadow died" grep -qi 'umbra.*shadow' /tmp/kill
expect life.kill-shadow.idle "VMs, vCPUs or pages left over" umbra_idle

# A shadow that makes a forbidden system call: it dies, the message names the call, another guest goes on.
boot other "cryptomgr.notests hold=600" # it must not end by itself
other=$vmm
export UMBRA_SHADOW=/usr/libexec/umbra/umbra-shadow-test UMBRA_TEST_FORBIDDEN_SYSCALL=2
boot forbidden
unset UMBRA_SHADOW UMBRA_TEST_FORBIDDEN_SYSCALL
sleep 4
expect life.forbidden "the VMM of a shadow that broke its policy lives on" ended "$vmm"
tail -n 3 /tmp/forbidden
expect life.forbidden.said "the VMM's stderr does not name the system call" grep -q getppid /tmp/forbidden
expect life.forbidden.other "the other guest's VMM went too" kill -0 "$other"
kill -9 "$other"
wait
expect life.forbidden.idle "VMs, vCPUs or pages left over" umbra_idle

# A VMM that cuts its guest's memory short: that guest ends in an orderly way, and it is said why.
umbra run -- memory-cut >/tmp/cut 2>&1
expect life.cut "$(tail -n 1 /tmp/cut)" grep -q '^DONE' /tmp/cut
expect life.cut.said "the VMM's stderr does not name the cause: $(grep -a umbra /tmp/cut | tail -n 1)" grep -q 'is gone: .*cut short' /tmp/cut
expect life.cut.idle "VMs, vCPUs or pages left over" umbra_idle

# Two guests at once, one of them killed half-way: the other ends well. rmmod is refused meanwhile.
boot first "cryptomgr.notests hold=600" # the second one ends by itself, this one must not
first=$vmm
sleep 1
boot second cryptomgr.notests
for i in $(seq 1 300); do [ "$(counter vms)" = 2 ] && break; sleep 0.1; done
expect life.two "two guests are not two VMs but $(counter vms)" test "$(counter vms)" = 2
expect life.rmmod-busy "the module went with guests running" sh -c '! rmmod umbra 2>/dev/null'
kill -9 "$first"
wait "$first" 2>/dev/null
for i in $(seq 1 900); do kill -0 "$vmm" 2>/dev/null || break; sleep 0.2; done
expect life.two.other "the second guest did not end well: $(tail -n 1 /tmp/second)" grep -q '^guest: done' /tmp/second
expect life.idle "VMs, vCPUs or pages left over" umbra_idle
expect life.unload "rmmod failed" rmmod umbra
exit $failed
