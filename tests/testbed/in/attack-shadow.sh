# SPDX-License-Identifier: GPL-2.0-or-later
# Attacks on shadows: by a hostile guest kernel, by a hostile VMM; beside a witness, whose guest must not notice.
# Kernel arguments: seeds=N guests of each kind (4), ops=N operations a guest (2500), seconds=N of each kind of VMM (8), first=SEED (1),
# only=KIND,...: guests by what of the interrupt controllers is in the shadow (microvm: the APICs; microvm-irqchip, pc: the PIC and PIT, too),
# VMMs by what they attack.
. /testbed/lib.sh

seeds=${seeds:-4} ops=${ops:-2500} seconds=${seconds:-8} first=${first:-1}
elf=/usr/libexec/umbra/hostile.elf
t=/tmp/attack
mkdir -p $t

# Does the main thread of a process compute? QEMU's own devices can spin on what a guest has put into them, on stock KVM, too.
computes() { # PID
	local file=/proc/$1/task/$1/stat was
	was=$(awk '{ print $14 + $15 }' "$file") && sleep 1 && [ $(($(awk '{ print $14 + $15 }' "$file") - was)) -gt 20 ]
}

gone() { # PID SECONDS: it ends, or has ended
	local i
	for i in $(seq 1 $(($2 * 5))); do
		case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) in '' | Z) return 0 ;; esac
		usleep 200000
	done
	return 1
}

# hostile NAME SEED QEMU...: how the guest ended, in $how: done, shutdown (a triple fault), refused (an instruction that nobody emulates),
# spins (its own affair, as long as the VMM can be ended), vmm-spins (in QEMU's own code: what it leaves must go all the same), hangs,
# crashed, or what was said last
hostile() {
	local name=$1 seed=$2 status=0 out pid i
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
	if ! gone $pid 20; then
		how=hangs
		computes $pid && how=vmm-spins
		kill -9 $pid 2>/dev/null
	fi
	if gone $pid 20; then
		wait $pid 2>/dev/null
		status=$?
	else
		how=hangs
	fi
	if grep -aq "the shadow (pid [0-9]*) .* is gone:\|umbra.*\(signal [0-9]\|forbidden\|policy\)" "$out"; then
		how=crashed
	elif [ $how = hangs ] || [ $how = vmm-spins ]; then
		:
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
		shutdown | refused | spins | vmm-spins) ;;
		*) bad="$bad seed $seed $how;" ;;
		esac
	done
	expect "shadow.guest.$name" "$bad" test -z "$bad"
	expect "shadow.guest.$name.done" "no guest came to its end" test $finished -gt 0
}

# What a guest does to its APIC, and nothing else: a guest that comes to its end on stock KVM has to do so here. Stock KVM goes first.
apic_seeds=$(seq "$first" $((first + 2)))
apic_on_stock() {
	local seed run= more=what=16
	stock_load || return 1
	for seed in $apic_seeds; do
		hostile apic-stock "$seed" $qemu -M microvm
		[ "$how" != done ] || apic_done="$apic_done $seed"
	done
	stock_unload
}

apic() {
	local seed bad= more=what=16
	for seed in $apic_done; do
		hostile apic "$seed" $qemu -M microvm
		[ "$how" = done ] || bad="$bad seed $seed $how;"
	done
	expect shadow.guest.apic "unlike on stock KVM (done:$apic_done):$bad" test -z "$bad" -a -n "$apic_done"
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

kinds=$(echo "${only:-apic,microvm,microvm-smp,microvm-irqchip,pc,channel,pages,api}" | tr , " ")
case $kinds in *apic*) apic_on_stock ;; esac
expect shadow.load "insmod failed: $(dmesg | tail -n 2)" umbra_load
UMBRA_STATS=1 umbra run -- $qemu $(guest_args microvm) -append "$guest_append work=1" </dev/null >$t/witness 2>&1 &
witness=$!
for i in $(seq 1 200); do grep -q '^guest: work' $t/witness && break; sleep 1; done
for kind in $kinds; do
	case $kind in
	apic) apic ;;
	microvm) guests microvm $qemu -M microvm ;;
	microvm-smp) guests microvm-smp $qemu -M microvm -smp 2 ;;
	microvm-irqchip) guests microvm-irqchip $qemu -M microvm,pit=on,pic=on,ioapic2=off,kernel-irqchip=on ;;
	pc) guests pc qemu-system-x86_64 -M pc -smp 2 ;;
	channel | pages) vmm $kind ;;
	api) api ;;
	esac
done

if ! kill -0 $witness 2>/dev/null; then # what it said, and how its VMM and its guest ended
	wait $witness
	echo "# witness: status $?"
	tail -n 40 $t/witness | tr -d "\r" | sed "s/^/| /"
fi
expect shadow.witness.alive "the witness's VMM is gone: $(tail -n 1 $t/witness)" kill -0 $witness
before=$(grep -c '^guest: work [0-9]* same' $t/witness) # whole lines
for i in $(seq 1 60); do [ "$(grep -c '^guest: work [0-9]* same' $t/witness)" -gt "$before" ] && break; sleep 1; done
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
