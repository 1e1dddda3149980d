# SPDX-License-Identifier: GPL-2.0-or-later
# Four guests at once, started and killed in random order, beside a witness that must not notice; nothing is left behind.
# Kernel argument: kills=N (50).
. /testbed/lib.sh

kills=${kills:-50}
slots="1 2 3 4"

start() { # start SLOT
	umbra run -- $qemu $(guest_args microvm) -append "console=ttyS0 quiet panic=-1 cryptomgr.notests hold=600" \
		</dev/null >"/tmp/guest.$1" 2>&1 &
	eval "vmm_$1=$!"
}
# The shadow of a VMM is its child, or its child's child behind the waiter: with the VMM's socket it ends, so either may be hit.
children() { cat /proc/"$1"/task/*/children 2>/dev/null; }
kill_slot() { # kill_slot SLOT: the VMM or, every other time, the shadow
	local victim child
	eval "victim=\$vmm_$1"
	if [ $((RANDOM % 2)) = 0 ]; then
		child=$(children "$victim")
		kill -9 ${child:-$victim} 2>/dev/null
		shadow_kills=$((shadow_kills + 1))
		for i in $(seq 1 100); do kill -0 "$victim" 2>/dev/null || break; usleep 100000; done
		if kill -0 "$victim" 2>/dev/null; then hung=$((hung + 1)); fi
	fi
	kill -9 "$victim" 2>/dev/null
	wait "$victim" 2>/dev/null
	eval "vmm_$1="
}
# A shadow ends after its VMM: what is counted is counted when only the witness's two processes and its VM are left.
settled() { # settled WHEN; what is left otherwise goes to $left
	local i
	for i in $(seq 1 200); do
		[ "$(counter vms) $(pidof umbra-shadow | wc -w)" = "1 2" ] && return
		usleep 100000
	done
	left="$left $1 $(pidof umbra-shadow | wc -w) shadow processes and $(counter vms) VMs, not 2 and 1;"
}
# What a leak would show in, after caches are dropped: kB of shared memory, kB of slabs that cannot be reclaimed, open files.
# The kernel's number of files leaves out up to 31 a CPU, more or less; those of a CPU that goes away are added.
memory() {
	local cpu1=/sys/devices/system/cpu/cpu1/online
	echo 0 >$cpu1 || return
	sync
	echo 3 >/proc/sys/vm/drop_caches
	awk '/^(Shmem|SUnreclaim|PageTables):/ { printf "%s ", $2 }' /proc/meminfo
	cut -f1 /proc/sys/fs/file-nr
	echo 1 >$cpu1
}
no_shadow() { local i; for i in $(seq 1 100); do pidof umbra-shadow >/dev/null || return 0; usleep 100000; done; return 1; }

expect guests.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
umbra run -- $qemu $(guest_args microvm) -append "$guest_append work=1" </dev/null >/tmp/witness 2>&1 &
witness=$!
for i in $slots; do start "$i"; done
for i in $(seq 1 300); do [ "$(counter vms)" = 5 ] && break; usleep 100000; done
expect guests.five "there are not five VMs but $(counter vms)" test "$(counter vms)" = 5
for i in $(seq 1 200); do grep -q '^guest: work' /tmp/witness && break; sleep 1; done

# Text is one copy for all of them: no private page in the executable mappings of the shadow's own program.
sum() { cat $(for p in $(pidof umbra-shadow); do echo "/proc/$p/smaps"; done) |
	awk -v want="$1:" '/^[0-9a-f]+-/ { text = /r-xp .*umbra-shadow$/ } text && $1 == want { s += $2 } END { print s + 0 }'; }
shared=$(($(sum Shared_Clean) + $(sum Shared_Dirty))) private=$(($(sum Private_Clean) + $(sum Private_Dirty)))
echo "# text of $(pidof umbra-shadow | wc -w) shadow processes: $shared kB shared, $private kB private"
expect guests.text "executable pages of the shadows are not shared: $shared kB shared, $private kB private" \
	test "$shared" -gt 0 -a "$private" = 0

storm() { # storm KILLS: as many, of guests in any phase of their life; then none is left
	local n=0 slot running
	while [ $n -lt "$1" ]; do
		slot=$((RANDOM % 4 + 1))
		eval "running=\$vmm_$slot"
		if [ -n "$running" ]; then
			kill_slot $slot 2>/dev/null
			n=$((n + 1))
		else
			start $slot
		fi
		usleep $((RANDOM % 1500 * 1000))
	done
	for slot in $slots; do
		eval "running=\$vmm_$slot"
		[ -z "$running" ] || kill_slot "$slot" 2>/dev/null
	done
}
shadow_kills=0 hung=0 left=
storm $((kills / 5)) # before anything is counted: caches fill
settled "after the first kills"
before=$(memory) || left="$left CPU 1 does not go off and on;"
storm $((kills - kills / 5))
settled "after all kills"
after=$(memory) || left="$left CPU 1 does not go off and on;"
echo "# $kills kills and more, $shadow_kills of them of the shadow"
expect guests.kills "after $hung of $shadow_kills kills of a shadow its VMM hung" test $hung = 0 -a $shadow_kills -gt 0
expect guests.settled "left over:$left" test -z "$left"

expect guests.witness.alive "the witness's VMM is gone: $(tail -n 1 /tmp/witness)" kill -0 $witness
kill_witness() { kill -9 $witness; wait $witness 2>/dev/null; }
rounds=$(grep -c '^guest: work [0-9]* same' /tmp/witness)
wrong=$(grep -c '^guest: work [0-9]* differs' /tmp/witness)
echo "# witness: $rounds rounds, $wrong wrong"
expect guests.witness.right "the witness computed wrongly $wrong times in $rounds rounds, or not at all" test "$rounds" -gt 3 -a "$wrong" = 0
kill_witness
expect guests.processes "a shadow is left: $(pidof umbra-shadow)" no_shadow
expect guests.idle "VMs, vCPUs or pages left over" umbra_idle
echo "# kB of shared memory, slabs, page tables, and open files: before $before, after $after"
set -- $before
shmem=$1 slab=$2 tables=$3 files=$4
set -- $after
expect guests.shmem "shared memory grew by $(($1 - shmem)) kB: a memfd is left" test $(($1 - shmem)) -le 8192
expect guests.slab "slabs grew by $(($2 - slab)) kB" test $(($2 - slab)) -le 1024
expect guests.tables "page tables grew by $(($3 - tables)) kB" test $(($3 - tables)) -le 512
expect guests.files "open files grew by $(($4 - files))" test $(($4 - files)) -le 64
expect guests.log "the kernel's log has a warning: $(dmesg | grep -E 'WARNING|BUG|Call Trace' | head -n 1)" \
	sh -c '! dmesg | grep -qE "WARNING|BUG:|Call Trace"'
expect guests.unload "rmmod failed" rmmod umbra
exit $failed
