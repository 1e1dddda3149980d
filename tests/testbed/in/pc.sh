# SPDX-License-Identifier: GPL-2.0-or-later
# PC machines: firmware, boot loaders, CPU modes, QEMU's monitor and debugger, guest memory of all kinds.
#   pc=GROUP,...    which groups (all)
#   on=HYPERVISOR   umbra, or stock: to see what the tests say about stock KVM
. /testbed/lib.sh

on=${on:-umbra}
groups=$(echo "${pc:-modes,roms,boot,hpet,grub,control,reset,panic,msix,gdb,memory,balloon,hotplug,ovmf}" | tr , ' ')
pc_qemu="qemu-system-x86_64 -cpu host,kvm-asyncpf-int=off -nodefaults -no-user-config -display none"
kernel="-kernel /guest/vmlinuz -initrd /guest/initrd"
t=/tmp/pc
mkdir -p $t
# The machine's clock may be several times too quick: TCG under load
slow=${slow:-4}

pre() { [ "$1" = stock ] || echo "umbra run --"; }
skip() { echo "skip $1: $2"; }
note() { echo "-- $1 ($(cut -d' ' -f1 /proc/uptime))"; }
idle() { [ "$on" = stock ] || expect "pc.$1.idle" "VMs, vCPUs or pages left over" umbra_idle; }

# run_to_end NAME HYPERVISOR SECONDS QEMU-ARGUMENTS...: until it powers off; the console is in $t/NAME.HYPERVISOR
run_to_end() {
	local name=$1 hypervisor=$2 seconds=$3
	shift 3
	note "$name on $hypervisor"
	timeout $((seconds * slow)) $(pre "$hypervisor") $pc_qemu -no-reboot -serial stdio "$@" </dev/null >"$t/$name.$hypervisor" 2>&1
	echo "status $?" >>"$t/$name.$hypervisor"
	tr -d '\r' <"$t/$name.$hypervisor" | grep -a '^guest: \|^modes: \|^rom: \|^[0-9a-f]\{4,8\}$' >"$t/$name.$hypervisor.lines"
}
show() { echo "-- output of $1"; tail -n "${2:-15}" "$t/$1" | tr -d '\r' | cut -c1-160; }

# ---- a guest that is talked to: vm_start NAME QEMU-ARGUMENTS... ----
vm_start() {
	vm=$1
	shift
	note "$vm on $on"
	rm -f $t/qmp.in $t/qmp.out $t/ser.in $t/ser.out
	mkfifo $t/qmp.in $t/qmp.out $t/ser.in $t/ser.out
	: >$t/$vm.qmp
	: >$t/$vm.con
	cat $t/qmp.out >$t/$vm.qmp &
	cat $t/ser.out >$t/$vm.con &
	$(pre $on) $pc_qemu -chardev pipe,id=q,path=$t/qmp -mon chardev=q,mode=control \
		-chardev pipe,id=s,path=$t/ser -serial chardev:s "$@" </dev/null >$t/$vm.err 2>&1 &
	vm_pid=$!
	exec 5<>$t/qmp.in 6<>$t/ser.in
	qmp '"qmp_capabilities"'
}
qmp() { echo "{\"execute\": $1}" >&5; } # QUOTED-COMMAND[, "arguments": ...]
hmp() { qmp "\"human-monitor-command\", \"arguments\": {\"command-line\": \"$1\"}"; }
say() { echo "$1" >&6; }
# seen FILE PATTERN SECONDS [COUNT]: waits for so many lines that match
seen() {
	local end=$(($(cut -d. -f1 /proc/uptime) + $3 * slow))
	until [ "$(grep -ac "$2" "$t/$vm.$1")" -ge "${4:-1}" ]; do
		[ "$(cut -d. -f1 /proc/uptime)" -lt $end ] || return 1
		kill -0 "$vm_pid" 2>/dev/null || { sleep 0.5; [ "$(grep -ac "$2" "$t/$vm.$1")" -ge "${4:-1}" ]; return; }
		sleep 0.2
	done
}
count() { grep -ac "$2" "$t/$vm.$1"; }
vm_ready() { seen con '^guest: ready' 60 "${1:-1}"; }
vm_end() { # vm_end SECONDS: waits for QEMU's end; its status in $vm_status
	local status end=$(($(cut -d. -f1 /proc/uptime) + $1 * slow))
	vm_status=gone
	while kill -0 "$vm_pid" 2>/dev/null; do
		[ "$(cut -d. -f1 /proc/uptime)" -lt $end ] || { vm_status=late; qmp '"quit"'; sleep 2; kill -9 $vm_pid 2>/dev/null; break; }
		sleep 0.2
	done
	wait "$vm_pid"
	status=$?
	[ $vm_status = late ] || vm_status=$status
	exec 5>&- 6>&-
	[ -z "$(cat $t/$vm.err)" ] || { echo "-- errors of $vm"; head -n 20 $t/$vm.err | cut -c1-200; }
}
vm_quit() { qmp '"quit"'; vm_end 20; }
command_guest="-kernel /guest/vmlinuz -initrd /pc/initrd"

# ---- groups ----

group_modes() { # all modes and their paging; the same on stock KVM
	local h
	for h in $([ $on = stock ] || echo umbra) stock; do
		run_to_end modes $h 60 -accel kvm,kernel-irqchip=split -M pc -m 64 -kernel /pc/modes.elf \
			-device isa-debug-exit,iobase=0xf4,iosize=4
	done
	expect pc.modes.end "not run to the end: $(tail -n 2 $t/modes.$on | tr '\n' '|')" grep -q '^modes: done' $t/modes.$on
	expect pc.modes.rom "a write to the ROM changed it, or was not tried" grep -q '^modes: ROM kept' $t/modes.$on
	expect pc.modes.exit "$(tail -n 1 $t/modes.$on)" grep -q '^status 33' $t/modes.$on
	expect pc.modes.same "differs: $(diff $t/modes.$on.lines $t/modes.stock.lines | grep '^[-+]' | tr '\n' '|')" \
		cmp -s $t/modes.$on.lines $t/modes.stock.lines
}

group_roms() { # option ROMs, from QEMU and from a PCI device, by way of the memory that PAM registers switch
	local machine h
	for machine in pc q35; do
		for h in $([ $on = stock ] || echo umbra) stock; do
			run_to_end roms-$machine $h 40 -accel kvm,kernel-irqchip=split -M $machine -m 64 -option-rom /pc/option.rom \
				-device virtio-rng-pci,romfile=/pc/pci.rom -device isa-debug-exit,iobase=0xf4,iosize=4
		done
		expect pc.roms-$machine.option "the option ROM did not boot: $(tail -n 2 $t/roms-$machine.$on | tr '\n' '|')" \
			grep -q '^rom: option, boots: ' $t/roms-$machine.$on.lines
		expect pc.roms-$machine.pci "the device's ROM was not called" grep -q "^rom: PCI device's, called: written" $t/roms-$machine.$on.lines
		expect pc.roms-$machine.exit "$(tail -n 1 $t/roms-$machine.$on)" grep -q '^status 33' $t/roms-$machine.$on
		expect pc.roms-$machine.same "differs: $(diff $t/roms-$machine.$on.lines $t/roms-$machine.stock.lines | grep '^[-+]' | tr '\n' '|')" \
			cmp -s $t/roms-$machine.$on.lines $t/roms-$machine.stock.lines
	done
	idle roms
}

boot_case() { # boot_case NAME QEMU-ARGUMENTS...: a kernel by SeaBIOS and linuxboot
	local name=$1
	shift
	run_to_end "$name" $on 60 -m 128 $kernel -append "$guest_append" "$@"
	expect "pc.$name.user" "user space not reached: $(tail -n 2 "$t/$name.$on" | cut -c1-120 | tr '\n' '|')" grep -q '^guest: done' "$t/$name.$on"
	expect "pc.$name.same" "differs from stock KVM: $(diff "$t/$name.$on.lines" $t/reference.stock.lines | grep '^[-+]' | tr '\n' '|')" \
		cmp -s "$t/$name.$on.lines" $t/reference.stock.lines
	grep -q '^guest: done' "$t/$name.$on" || show "$name.$on"
}
reference() {
	[ -e $t/reference.stock.lines ] || run_to_end reference stock 60 -accel kvm -M q35 -m 128 $kernel -append "$guest_append"
}

group_boot() {
	local machine chip
	reference
	for machine in pc q35; do
		for chip in split on off; do
			boot_case boot-$machine-$chip -M $machine -accel kvm,kernel-irqchip=$chip
		done
	done
	idle boot
}

group_hpet() { # QEMU's, by memory-mapped reads
	run_to_end hpet $on 60 -m 128 -M q35 -accel kvm,kernel-irqchip=split $kernel -append "$guest_append clocksource=hpet"
	expect pc.hpet.clock "the guest's clock is not the HPET" grep -q '^info: clocksource hpet' $t/hpet.$on
	expect pc.hpet.done "user space not reached" grep -q '^guest: done' $t/hpet.$on
	idle hpet
}

disk() { cp /pc/disk.img $t/disk.img; echo "-drive file=$t/disk.img,format=raw,if=ide,cache=unsafe"; }
group_grub() {
	local machine
	reference
	for machine in pc q35; do
		run_to_end grub-$machine $on 90 -M $machine -accel kvm,kernel-irqchip=split -m 128 $(disk)
		expect pc.grub-$machine.grub "GRUB did not get to its menu's end" grep -aq 'grub: booting' $t/grub-$machine.$on
		expect pc.grub-$machine.user "user space not reached" grep -q '^guest: done' $t/grub-$machine.$on
		expect pc.grub-$machine.same "differs from stock KVM" cmp -s $t/grub-$machine.$on.lines $t/reference.stock.lines
		grep -q '^guest: done' $t/grub-$machine.$on || show grub-$machine.$on
	done
	rm -f $t/disk.img
	idle grub
}

group_ovmf() { # flash, UEFI's shell, and from there a kernel
	reference
	cp /usr/share/OVMF/OVMF_VARS_4M.fd $t/vars.fd
	run_to_end ovmf $on 300 -M q35 -accel kvm,kernel-irqchip=split -m 256 $(disk) \
		-drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd -drive if=pflash,format=raw,file=$t/vars.fd
	expect pc.ovmf.shell "UEFI's shell not reached" grep -aq 'shell: running' $t/ovmf.$on
	expect pc.ovmf.user "user space not reached" grep -aq '^guest: done' $t/ovmf.$on
	expect pc.ovmf.same "differs from stock KVM" cmp -s $t/ovmf.$on.lines $t/reference.stock.lines
	expect pc.ovmf.flash "nothing was written to the flash" sh -c "! cmp -s $t/vars.fd /usr/share/OVMF/OVMF_VARS_4M.fd"
	grep -aq '^guest: done' $t/ovmf.$on || show ovmf.$on 30
	rm -f $t/disk.img $t/vars.fd
	idle ovmf
}

group_control() { # stop, cont, info registers, nmi, system_powerdown
	local before after
	vm_start control -M q35 -accel kvm,kernel-irqchip=split -m 128 $command_guest -append "$guest_append"
	if vm_ready; then ok pc.control.ready; else not_ok pc.control.ready "the guest is not there"; show control.con; fi
	say 'beat 100000 &'
	seen con 'guest: beat' 20
	qmp '"stop"'
	expect pc.control.stop "no STOP event" seen qmp '"event": "STOP"' 10
	sleep 1
	before=$(count con 'guest: beat')
	sleep 3
	after=$(count con 'guest: beat')
	expect pc.control.stopped "the guest goes on while it is stopped: $before, then $after" [ "$before" = "$after" ]
	hmp 'info registers' # of the kernel or of a program, whichever ran: where RIP is and the privilege level belong together
	seen qmp 'EFER=' 10
	expect pc.control.registers "$(grep -ao 'RIP=.*CPL=.\|CR0=[^ ]*\|EFER=[^\\]*' $t/control.qmp | tr '\n' ' ')" grep -aq \
		'RIP=\(ffffffff[89a-f][0-9a-f]\{7\} [^]]*\] CPL=0\|0000[0-7][0-9a-f]\{11\} [^]]*\] CPL=3\) .*CR0=8005.*EFER=0000000000000d01' $t/control.qmp
	hmp 'x /2xb $pc' # a wrong RIP has none: "Cannot access memory"
	expect pc.control.memory "no memory" seen qmp ': 0x[0-9a-f][0-9a-f] 0x[0-9a-f][0-9a-f]' 10
	qmp '"cont"'
	expect pc.control.cont "no RESUME event" seen qmp '"event": "RESUME"' 10
	expect pc.control.resumed "the guest does not go on" seen con 'guest: beat' 20 $((after + 3))
	say 'kill $!; nmis'
	seen con 'guest: NMIs' 20
	qmp '"inject-nmi"'
	say nmi_wait
	expect pc.control.nmi "no NMI came: $(grep -a 'guest: NMIs' $t/control.con | tr '\n' '|')" seen con 'guest: NMIs 1' 20
	say 'power_button &'
	expect pc.control.button "the guest does not wait for its power button" seen con 'guest: waits for the button' 20
	qmp '"system_powerdown"'
	expect pc.control.powerdown "the guest saw no power button" seen con 'guest: power button' 20
	vm_end 30
	expect pc.control.off "QEMU's status is $vm_status" [ "$vm_status" = 0 ]
	expect pc.control.event "no SHUTDOWN event by the guest" grep -q '"guest": true.*"event": "SHUTDOWN"\|"event": "SHUTDOWN".*"guest": true' $t/control.qmp
	idle control
}

group_reset() { # by the monitor, by the guest's firmware, by a triple fault; -no-reboot
	vm_start reset -M pc -accel kvm,kernel-irqchip=split -m 128 $command_guest -append "$guest_append reboot=t"
	vm_ready || show reset.con
	qmp '"system_reset"'
	expect pc.reset.monitor "the guest is not back after system_reset" vm_ready 2
	say 'reboot -f'
	expect pc.reset.triple "the guest is not back after its triple fault" vm_ready 3
	say 'reboot -f'
	expect pc.reset.again "the guest is not back once more" vm_ready 4
	qmp '"set-action", "arguments": {"reboot": "shutdown"}'
	say 'reboot -f'
	vm_end 40
	expect pc.reset.no-reboot "QEMU's status is $vm_status" [ "$vm_status" = 0 ]
	expect pc.reset.no-reboot-reason "$(grep SHUTDOWN $t/reset.qmp)" grep -q '"event": "SHUTDOWN".*"reason": "guest-reset"' $t/reset.qmp
	expect pc.reset.events "RESET events: $(count qmp '"event": "RESET"')" [ "$(count qmp '"event": "RESET"')" -ge 3 ]
	# With two CPUs and the whole irqchip: by the monitor, then by the guest
	vm_start reset-smp -M q35 -smp 2 -accel kvm,kernel-irqchip=on -m 160 $command_guest -append "$guest_append"
	for n in 1 2 3; do
		vm_ready $n || show reset-smp.con
		say 'echo "guest: cpus $(grep -c ^processor /proc/cpuinfo)"'
		expect pc.reset.smp-$n "no two CPUs after boot $n" seen con '^guest: cpus 2' 20 $n
		case $n in
		1) qmp '"system_reset"' ;;
		2) say 'reboot -f' ;;
		esac
	done
	vm_quit
	idle reset
}

group_panic() {
	vm_start panic -M q35 -accel kvm,kernel-irqchip=split -m 128 $command_guest -append "$guest_append" \
		-device pvpanic -action panic=exit-failure
	vm_ready || show panic.con
	say 'echo c >/proc/sysrq-trigger'
	expect pc.panic.event "no GUEST_PANICKED event" seen qmp GUEST_PANICKED 30
	vm_end 30
	expect pc.panic.status "QEMU's status is $vm_status, not 1" [ "$vm_status" = 1 ]
	idle panic
}

irqs() { # the guest's table of virtio's interrupts, once more; irq NAME COLUMN [NTH TABLE FROM THE END]
	say irqs
	tables=$((tables + 1))
	seen con '^guest: did irqs' 30 $tables
}
irq() { grep -a "^guest: irq $1 " "$t/$vm.con" | tail -n "${3:-1}" | head -n 1 | cut -d' ' -f"$2" | tr -d '\r' | grep . || echo 0; }
rise() { echo $(($(irq "$1" $((5 + $2))) - $(irq "$1" $((5 + $2)) 2))); } # NAME CPU: from one table to the next
resize() { # MIB: disk a; shows the interrupts after the guest has seen it
	qmp "\"block_resize\", \"arguments\": {\"device\": \"a\", \"size\": $(($1 << 20))}"
	say "for i in \$(seq 100); do [ \$(cat /sys/block/vda/size) = $(($1 << 11)) ] && break; sleep 0.1; done"
	irqs
}
msix_case() { # messages of the queues and of changes, one of them moved to another CPU; a device beside it that has a line
	tables=0
	truncate -s 4M $t/a.img $t/b.img
	vm_start msix-$1 -M q35 -smp 2 -accel kvm,kernel-irqchip=$1 -m 192 $command_guest -append "$guest_append" \
		-drive file=$t/a.img,format=raw,if=none,id=a -device virtio-blk-pci,drive=a,num-queues=2,vectors=3 \
		-drive file=$t/b.img,format=raw,if=none,id=b -device virtio-blk-pci,drive=b,num-queues=1,vectors=0
	vm_ready || show msix-$1.con
	irqs
	expect pc.msix-$1.vectors "$(grep -a '^guest: irq' $t/$vm.con | tr '\n' '|')" \
		[ "$(irq virtio0-config 4) $(irq virtio0-req.0 4) $(irq virtio0-req.1 4) $(irq virtio1 4)" = "MSI MSI MSI IO-APIC" ]
	say 'disk_read vda 0; disk_read vda 1; disk_read vdb 0'
	seen con '^guest: did disk_read' 30
	irqs
	expect pc.msix-$1.queues "$(rise virtio0-req.0 0) and $(rise virtio0-req.1 1) messages for 20 requests each" \
		[ "$(rise virtio0-req.0 0)" -ge 20 -a "$(rise virtio0-req.1 1)" -ge 20 ]
	expect pc.msix-$1.line "$(rise virtio1 0) and $(rise virtio1 1) interrupts for 20 requests" \
		[ $(($(rise virtio1 0) + $(rise virtio1 1))) -ge 20 ]
	say 'irq_move virtio0-config 0'
	seen con '^guest: did irq_move virtio0-config 0' 20
	resize 5 # a move takes effect with the next interrupt
	resize 6
	expect pc.msix-$1.config "$(rise virtio0-config 0) and $(rise virtio0-config 1) messages" [ "$(rise virtio0-config 0)" = 1 ]
	say 'irq_move virtio0-config 1'
	seen con '^guest: did irq_move virtio0-config 1' 20
	resize 7
	resize 8
	expect pc.msix-$1.moved "$(rise virtio0-config 0) and $(rise virtio0-config 1) messages" \
		[ "$(rise virtio0-config 0) $(rise virtio0-config 1)" = "0 1" ]
	vm_quit
}
group_msix() {
	local chip
	for chip in split on; do
		msix_case $chip
	done
	rm -f $t/a.img $t/b.img
	idle msix
}

# QEMU's TCG intercepts no INT3 and emulates no debug registers in a nested guest: it stops at no breakpoint, with stock KVM neither.
# There all is done in single steps; breakpoints and watchpoints are for the part with VMX.
gdb_how=$(grep -qw vmx /proc/cpuinfo && echo breakpoints || echo steps)
gdb_case() { # gdb_case HYPERVISOR
	local pid
	note "gdb on $1"
	timeout $((90 * slow)) $(pre "$1") $pc_qemu -no-reboot -accel kvm,kernel-irqchip=split -M pc -m 64 -kernel /pc/modes.elf -append wait -S -gdb tcp:127.0.0.1:1234 \
		-device isa-debug-exit,iobase=0xf4,iosize=4 -serial "file:$t/gdb.$1.con" </dev/null >$t/gdb.$1.err 2>&1 &
	pid=$!
	timeout $((80 * slow)) gdb-client 1234 $(cat /pc/modes.sym) $gdb_how >$t/gdb.$1 2>&1
	wait $pid
	echo "status $?" >>$t/gdb.$1
}
gdb_told() { expect "pc.gdb.$(echo "$1" | tr ' ' -)" "$(grep "^gdb: $1" $t/gdb.$on | head -n 1)" grep -qx "gdb: $1" $t/gdb.$on; }
group_gdb() { # breakpoints, steps, watchpoint; the same on stock KVM
	[ $on = stock ] || gdb_case umbra
	gdb_case stock
	cat $t/gdb.$on
	for what in interrupted step 'step over it' 'rcx 3' 'loop done' 'value 34120000' 'rdx 12345678' done; do
		gdb_told "$what"
	done
	if [ $gdb_how = breakpoints ]; then
		for what in breakpoint 'software breakpoint' 'watchpoint told'; do gdb_told "$what"; done
	fi
	expect pc.gdb.end "the debugged program did not end: $(tail -n 1 $t/gdb.$on)" grep -q '^status 33' $t/gdb.$on
	expect pc.gdb.same "differs: $(diff $t/gdb.$on $t/gdb.stock | grep '^[-+]' | tr '\n' '|')" cmp -s $t/gdb.$on $t/gdb.stock
	idle gdb
}

group_memory() { # kinds of guest memory
	reference
	mkdir -p $t/huge
	echo 80 >/proc/sys/vm/nr_hugepages
	mount -t hugetlbfs hugetlbfs $t/huge
	boot_case memory-memfd -M q35,memory-backend=m -accel kvm,kernel-irqchip=split -object memory-backend-memfd,id=m,size=128M
	boot_case memory-file -M q35,memory-backend=m -accel kvm,kernel-irqchip=split \
		-object memory-backend-file,id=m,size=128M,mem-path=/dev/shm,share=on
	if [ "$(awk '$1 == "HugePages_Total:" { print $2 }' /proc/meminfo)" -ge 64 ]; then
		boot_case memory-hugetlbfs -M q35,memory-backend=m -accel kvm,kernel-irqchip=split \
			-object memory-backend-file,id=m,size=128M,mem-path=$t/huge,share=on
		boot_case memory-hugetlb-memfd -M q35,memory-backend=m -accel kvm,kernel-irqchip=split \
			-object memory-backend-memfd,id=m,size=128M,hugetlb=on
	else
		not_ok pc.memory-hugetlbfs.user "no huge pages in this machine"
	fi
	umount $t/huge
	echo 0 >/proc/sys/vm/nr_hugepages
	boot_case memory-prealloc -M pc -accel kvm,kernel-irqchip=split -mem-prealloc
	# 4 GiB with the hole for PCI: most of it is never touched, and this machine has less
	echo 1 >/proc/sys/vm/overcommit_memory
	vm_start hole -M q35 -accel kvm,kernel-irqchip=split -m 4G $command_guest -append "$guest_append"
	vm_ready || show hole.con
	say 'memory; sed -n "/System RAM/s/^/guest: /p" /proc/iomem'
	seen con 'guest: did memory' 20
	expect pc.memory-hole.size "$(grep -a 'guest: memory' $t/hole.con)" grep -aqE 'guest: memory (39|40)[0-9][0-9] MiB' $t/hole.con
	expect pc.memory-hole.above "no memory above 4 GiB" grep -aqi 'guest: 100000000-17fffffff : System RAM' $t/hole.con
	vm_quit
	echo 0 >/proc/sys/vm/overcommit_memory
	idle memory
}

shmem() { awk '$1 == "Shmem:" { s += $2 } $1 == "AnonPages:" { s += $2 } END { print int(s / 1024) }' /proc/meminfo; } # MiB of guests and processes
group_balloon() { # memory that the balloon takes goes back to the host
	local full small=0 i=0
	vm_start balloon -M q35 -accel kvm,kernel-irqchip=split -m 256 -device virtio-balloon-pci,id=b $command_guest -append "$guest_append"
	vm_ready || show balloon.con
	# Nearly all of its memory: what the guest has never touched the host does not get back
	say 'touch_free 6'
	expect pc.balloon.fill "the guest cannot use its memory" seen con 'guest: touched' 60
	full=$(shmem)
	qmp '"balloon", "arguments": {"value": 134217728}'
	expect pc.balloon.inflate "the balloon does not reach 128 MiB" seen qmp '"actual": 134217728' 60
	small=$(shmem)
	while [ $((full - small)) -lt 120 ] && [ $((i = i + 1)) -lt 20 ]; do sleep 0.5; small=$(shmem); done # QEMU may be at it still
	echo "-- $full MiB, with the balloon $small MiB"
	expect pc.balloon.back "$full MiB before, $small MiB after: less than 90 % of 128 MiB" [ $((full - small)) -ge 116 ]
	qmp '"balloon", "arguments": {"value": 268435456}'
	expect pc.balloon.deflate "the balloon does not go back" seen qmp '"actual": 268435456' 60
	say 'fill 140'
	expect pc.balloon.use "the memory cannot be used again" seen con 'guest: filled 140' 120
	vm_quit
	idle balloon
}

group_hotplug() { # a pc-dimm
	vm_start hotplug -M q35 -accel kvm,kernel-irqchip=split -m 256,slots=2,maxmem=1G $command_guest -append "$guest_append"
	vm_ready || show hotplug.con
	say memory
	seen con 'guest: memory' 20
	qmp '"object-add", "arguments": {"qom-type": "memory-backend-ram", "id": "d", "size": 268435456}'
	qmp '"device_add", "arguments": {"driver": "pc-dimm", "id": "dimm", "memdev": "d"}'
	sleep 3
	say 'for b in /sys/devices/system/memory/memory*; do [ $(cat $b/state) = online ] || echo online >$b/state; done; memory'
	seen con 'guest: memory' 30 2
	expect pc.hotplug.size "$(grep -a 'guest: memory' $t/hotplug.con | tr '\n' '|')" \
		[ "$(awk '$2 == "memory" { n = $3 } END { print (n > 400) }' $t/hotplug.con)" = 1 ]
	say 'fill 260' # more than it began with
	expect pc.hotplug.use "the new memory cannot be used" seen con 'guest: filled 260' 240
	vm_quit
	idle hotplug
}

[ $on = stock ] || expect pc.load "insmod failed" umbra_load
stock_load || not_ok pc.stock "stock KVM does not load"
for group in $groups; do
	group_$group
done
[ $on = stock ] || expect pc.unload "rmmod failed" rmmod umbra
exit $failed
