# SPDX-License-Identifier: GPL-2.0-or-later
# Attacks on shadows: by a hostile guest kernel, by a hostile VMM; beside a witness, whose guest must not notice.
# Kernel arguments: seeds=N guests of each kind (4), ops=N operations a guest (4000), seconds=N of each kind of VMM (10), first=SEED (1).
. /testbed/lib.sh

seeds=${seeds:-4} ops=${ops:-4000} seconds=${seconds:-10} first=${first:-1}
elf=/usr/libexec/umbra/hostile.elf
t=/tmp/attack
mkdir -p $t

expect shadow.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
umbra run -- $qemu $(guest_args microvm) -append "$guest_append work=1" </dev/null >$t/witness 2>&1 &
witness=$!
for i in $(seq 1 200); do grep -q '^guest: work' $t/witness && break; sleep 1; done

# hostile NAME SEED QEMU...: how the guest ended, in $how: done, shutdown (a triple fault), refused (an instruction that nobody emulates),
# spins (its own affair, as long as the VMM can be ended), hangs, crashed, or what was said last
hostile() {
	local name=$1 seed=$2 status out pid i
	out=$t/$1.$2
	shift 2
	UMBRA_STATS=1 ${run-umbra run --} "$@" -accel kvm -cpu host -m 64 -nodefaults -display none -no-reboot -serial stdio \
		-kernel $elf -append "seed=$seed ops=$ops $more" </dev/null >"$out" 2>&1 &
	pid=$! how=spins
	for i in $(seq 1 $((${patience:-60} * 2))); do
		kill -0 $pid 2>/dev/null || { how=ended; break; }
		grep -aq 'KVM internal error\|emulation failure' "$out" && { how=refused; break; }
		usleep 500000
	done
	kill $pid 2>/dev/null
	for i in $(seq 1 40); do kill -0 $pid 2>/dev/null || break; usleep 500000; done
	if kill -9 $pid 2>/dev/null; then how=hangs; fi
	wait $pid 2>/dev/null
	status=$?
	if grep -aq "umbra.*\(signal [0-9]\|forbidden\|policy\)" "$out"; then
		how=crashed
	elif grep -aq '^hostile: done' "$out"; then
		how=done
	elif [ $how = ended ] && [ $status = 0 ]; then
		how=shutdown
	elif [ $how = ended ]; then
		how="ended with $status: $(tail -n 1 "$out" | cut -c1-100)"
	fi
	echo "# $name seed $seed: $how; $(grep -a '^hostile:' "$out" | tr -d '\r' | tail -n 4 | tr '\n' ';')"
	case $how in done) ;; *) sed 's/^/| /' "$out" | tail -n "${lines:-12}" | cut -c1-160 ;; esac
}

guests() { # guests NAME QEMU...: all seeds; none may crash its shadow, nor hang it
	local name=$1 seed bad= finished=0
	shift
	for seed in $(seq "$first" $((first + seeds - 1))); do
		hostile "$name" "$seed" "$@"
		case $how in
		done) finished=$((finished + 1)) ;;
		shutdown | refused | spins) ;;
		*) bad="$bad seed $seed $how;" ;;
		esac
	done
	expect "shadow.guest.$name" "$bad" test -z "$bad"
	expect "shadow.guest.$name.done" "no guest came to its end" test $finished -gt 0
}

vmm() { # vmm MODE: for some seconds, on some seeds
	local mode=$1 seed bad=
	for seed in $(seq "$first" $((first + 1))); do
		timeout -k 5 $((seconds * 4 + 120)) hostile-vmm "$mode" "$seed" $((seconds / 2)) >"$t/vmm.$mode" 2>&1
		grep -q '^DONE' "$t/vmm.$mode" || bad="$bad seed $seed: $(grep -a '^FAILED' "$t/vmm.$mode" | cut -c1-300)"
		sed 's/^/| /' "$t/vmm.$mode" | tail -n 8 | cut -c1-240
	done
	expect "shadow.vmm.$mode" "${bad:-it did not end}" test -z "$bad"
}

api() { # the KVM API through the glue
	local seed bad=
	for seed in $(seq "$first" $((first + 1))); do
		timeout -k 5 $((seconds * 4 + 120)) umbra run -- hostile-api "$seed" $((seconds / 2)) >"$t/api" 2>&1 || bad="$bad seed $seed: $(tail -n 1 "$t/api" | cut -c1-200)"
		sed "s/^/| /" "$t/api" | tail -n 4 | cut -c1-200
	done
	expect shadow.vmm.api "$bad" test -z "$bad"
}

for kind in ${only:-microvm microvm-smp channel pages api}; do
	case $kind in
	microvm) guests microvm $qemu -M microvm ;;
	microvm-smp) guests microvm-smp $qemu -M microvm -smp 2 ;;
	pc) [ ! -x /usr/bin/qemu-system-x86_64 ] || guests pc qemu-system-x86_64 -M pc -smp 2 ;;
	channel | pages) vmm $kind ;;
	api) api ;;
	esac
done

expect shadow.witness.alive "the witness's VMM is gone: $(tail -n 1 $t/witness)" kill -0 $witness
before=$(grep -c '^guest: work' $t/witness)
for i in $(seq 1 60); do [ "$(grep -c '^guest: work' $t/witness)" -gt "$before" ] && break; sleep 1; done
rounds=$(grep -c '^guest: work [0-9]* same' $t/witness) wrong=$(grep -c '^guest: work [0-9]* differs' $t/witness)
echo "# witness: $rounds rounds, $wrong wrong"
expect shadow.witness.right "the witness computed wrongly $wrong times in $rounds rounds, or stands still" test "$rounds" -gt "$before" -a "$wrong" = 0
kill -9 $witness
wait $witness 2>/dev/null
expect shadow.processes "a shadow is left: $(pidof umbra-shadow)" \
	sh -c 'for i in $(seq 1 100); do pidof umbra-shadow >/dev/null || exit 0; usleep 100000; done; exit 1'
expect shadow.idle "VMs, vCPUs or pages left over" umbra_idle
expect shadow.unload "rmmod failed" rmmod umbra
exit $failed
