# SPDX-License-Identifier: GPL-2.0-or-later
# For scripts in the machine: a Debian guest (tests/testbed/debian-image.sh) and commands to it. One guest at a time.

full_qemu=qemu-system-x86_64
guest_pid= guest_name=

# guest_begin HYPERVISOR NAME QEMU-OPTIONS...: starts it; console in /tmp/NAME.console, QEMU's output in /tmp/NAME.vmm
guest_begin() {
	local on= name=$2
	[ "$1" = stock ] || on="umbra run --"
	shift 2
	guest_name=$name
	rm -f /tmp/control.in /tmp/control.out
	mkfifo /tmp/control.in /tmp/control.out
	exec 5<>/tmp/control.in 6<>/tmp/control.out # both ways: opening waits for nobody
	rm -f /tmp/monitor.in /tmp/monitor.out
	mkfifo /tmp/monitor.in /tmp/monitor.out
	exec 7<>/tmp/monitor.in 8<>/tmp/monitor.out
	timeout 3600 $on $full_qemu -accel kvm -cpu host -nodefaults -no-user-config -display none \
		-chardev "file,id=console,path=/tmp/$name.console" -serial chardev:console \
		-chardev pipe,id=control,path=/tmp/control "$@" -device virtserialport,chardev=control,name=umbra.control \
		-chardev pipe,id=monitor,path=/tmp/monitor -mon monitor \
		</dev/null >"/tmp/$name.vmm" 2>&1 5>&- 6>&- 7>&- 8>&- &
	guest_pid=$!
}

# guest_line SECONDS: the next line that the guest sends, in $line; false when there is none in time
guest_line() {
	local end=$(($(date +%s) + $1)) left
	while left=$((end - $(date +%s))); [ $left -gt 0 ]; do
		[ $left -lt 5 ] || left=5
		IFS= read -r -t $left line <&6 && return 0
		kill -0 "$guest_pid" 2>/dev/null || return 1
		! grep -aq '^KVM' "/tmp/$guest_name.vmm" || return 1 # QEMU stops a guest that cannot go on
	done
	return 1
}

# guest_up SECONDS: waits for user space to be there; the boot's id is in $boot
guest_up() {
	while guest_line "$1"; do
		case $line in '+ up '*) boot=${line#+ up }; return 0 ;; esac
	done
	boot=
	return 1
}

guest_send() { echo "$1" | tr '\n' ' ' >&5; echo >&5; } # COMMAND, without waiting; as one line

# guest_do SECONDS COMMAND: runs it in the guest; its output in /tmp/answer, its status returned (124: no answer in time)
guest_do() {
	local end=$(($(date +%s) + $1))
	: >/tmp/answer
	guest_send "$2"
	while guest_line $((end - $(date +%s))); do
		case $line in
		'| '*) echo "${line#| }" >>/tmp/answer ;;
		'= '*) return "${line#= }" ;;
		esac
	done
	return 124
}

# guest_ends SECONDS: waits for QEMU to end; its status
guest_ends() {
	local end=$(($(date +%s) + $1))
	while kill -0 "$guest_pid" 2>/dev/null; do
		[ "$(date +%s)" -lt $end ] || return 124
		sleep 0.5
	done
	wait "$guest_pid"
}

# guest_state: where its CPUs are, when it is lost
guest_state() {
	local reply
	kill -0 "$guest_pid" 2>/dev/null || return 0
	printf '%s\n' 'info status' 'info registers -a' 'info pic' >&7
	while IFS= read -r -t 5 reply <&8; do
		case $reply in *'info '* | *XMM* | *YMM* | *FPR* | *ZMM*) ;; *) echo "$reply" ;; esac
	done
}

guest_kill() {
	kill "$guest_pid" 2>/dev/null
	wait "$guest_pid" 2>/dev/null
	exec 5>&- 6>&- 7>&- 8>&-
}

# guest_console PATTERN SECONDS: waits for it on the console
guest_console() {
	local end=$(($(date +%s) + $2))
	until grep -aq "$1" "/tmp/$guest_name.console"; do
		[ "$(date +%s)" -lt $end ] && kill -0 "$guest_pid" 2>/dev/null || return 1
		sleep 0.5
	done
}
