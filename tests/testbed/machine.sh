#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Boots an emulated machine with VMX (Bochs) or SVM (QEMU TCG), runs a script in it, ends with the script's exit status.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<'USAGE'
usage: tests/testbed/machine.sh [options]
  --hw vmx|svm       emulator: Bochs with VMX, or QEMU TCG with SVM (vmx)
  --cpus N           CPUs (1)
  --kernel 6.1|6.12  Debian's cloud kernel (6.1); or the folder of another one
  --model NAME       CPU model of the emulator (vmx: corei7_haswell_4770, svm: max,-xsave)
  --mem MB           memory (1024)
  --append TEXT      more kernel arguments, after the usual ones
  --overlay DIR      files laid over the root (may be repeated)
  --disk FILE        a disk, which the machine may change but whose file stays as it is (may be repeated; vmx: once);
                     the script finds it with machine_disk N
  --script FILE      run by the machine's shell as root; default: only boot
  --timeout SECONDS  wall clock for all of it (300)
  --log FILE         the machine's console; its kernel log goes to FILE.kernel
  --follow           also show the console while it runs
exit status: the script's; 124 after a time-out; 125 when the machine could not be run or crashed
USAGE
}

hw=vmx cpus=1 kernel=6.1 model= mem=1024 append= overlays=() disks=() script= timeout=300 log= follow=
while [ $# -gt 0 ]; do
	case $1 in
	--follow) follow=1; shift; continue ;;
	--help) usage; exit 0 ;;
	--*) [ $# -gt 1 ] || die "$1 needs a value" ;;
	esac
	case $1 in
	--hw) hw=$2 ;;
	--cpus) cpus=$2 ;;
	--kernel) kernel=$2 ;;
	--model) model=$2 ;;
	--mem) mem=$2 ;;
	--append) append=$2 ;;
	--overlay) overlays+=("$2") ;;
	--disk) disks+=("$(realpath "$2")") ;;
	--script) script=$2 ;;
	--timeout) timeout=$2 ;;
	--log) log=$2 ;;
	*) usage >&2; exit 125 ;;
	esac
	shift 2
done
case $hw in vmx | svm) ;; *) die "unknown --hw '$hw': vmx or svm" ;; esac
[ "$hw" = svm ] || [ ${#disks[@]} -le 1 ] || die "Bochs has one disk"

mkdir -p "$cache"
run=$(mktemp -d "$cache/run.XXXXXX")
emulator= tail=
cleanup() {
	trap - EXIT INT TERM HUP
	[ -z "$tail" ] || kill "$tail" 2>/dev/null || true
	if [ -n "$emulator" ]; then
		kill -KILL "$emulator" 2>/dev/null || true
		wait "$emulator" 2>/dev/null || true
	fi
	rm -rf "$run"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

log=$(realpath -m "${log:-$run/console}")
mkdir -p "$(dirname "$log")"
: >"$log"
: >"$log.kernel"

# The root: basic archive, overlays, script. The kernel unpacks archives that follow each other.
tree=$(kernel_fetch "$kernel")
release=$(basename "$tree")
base=$("$testbed/initramfs.sh" "$tree")
mkdir -p "$run/top/testbed"
cp "$testbed"/in/*.sh "$run/top/testbed/"
if [ -n "$script" ]; then cp "$script" "$run/top/testbed/script"; else echo true >"$run/top/testbed/script"; fi
cp "$base" "$run/initrd.img"
if [ ${#disks[@]} -gt 0 ]; then
	modules=$("$testbed/modules.sh" "$tree") # not otherwise: unpacking them costs Bochs seconds
	cat "$modules" >>"$run/initrd.img"
fi
for overlay in ${overlays[@]+"${overlays[@]}"} "$run/top"; do
	[ -d "$overlay" ] || die "no overlay folder $overlay"
	cpio_pack "$overlay" >>"$run/initrd.img"
done
vmlinuz=$tree/boot/vmlinuz-$release
case " $append" in *" mitigations="*) mitigations= ;; *) mitigations=mitigations=off ;; esac
arguments="console=ttyS1,115200 panic=-1 nokaslr $mitigations no_timer_check tsc=reliable cryptomgr.notests initcall_blacklist=load_system_certificate_list loglevel=5 $append"

# preload NAME: builds NAME.c once, to be preloaded into an emulator; prints its path
preload() {
	local so=$cache/$1.so
	cached "$so" "$testbed/$1.c" || { gcc -O1 -shared -fPIC -o "$run/$1.so" "$testbed/$1.c" -ldl && mv "$run/$1.so" "$so"; }
	echo "$so"
}

start_vmx() {
	local iso=$run/iso preload disk=
	preload=$(preload unbuffer)
	mkdir "$iso"
	cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$iso/"
	cp "$vmlinuz" "$iso/vmlinuz"
	mv "$run/initrd.img" "$iso/initrd.img"
	printf '%s\n' 'default l' 'prompt 0' 'label l' ' kernel /vmlinuz' ' initrd /initrd.img' " append $arguments" >"$iso/isolinux.cfg"
	genisoimage -quiet -o "$run/l1.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$iso" 2>/dev/null
	rm -rf "$iso"
	# Changes go to a file beside it, so that the disk stays as it is.
	[ ${#disks[@]} = 0 ] || disk="ata0-slave: type=disk, path=${disks[0]}, mode=volatile, journal=$run/disk.redo"
	cat >"$run/bochsrc" <<-RC
		cpu: model=${model:-corei7_haswell_4770}, count=$cpus, ips=50000000, reset_on_triple_fault=0
		memory: guest=$mem, host=$mem
		romimage: file=/usr/share/bochs/BIOS-bochs-latest
		vgaromimage: file=/usr/share/vgabios/vgabios.bin
		ata0-master: type=cdrom, path=$run/l1.iso, status=inserted
		${disk:-# no disk}
		boot: cdrom
		com1: enabled=1, mode=file, dev=$log
		com2: enabled=1, mode=file, dev=$log.kernel
		display_library: rfb, options="timeout=0"
		clock: sync=none
		log: $run/bochs.log
		panic: action=fatal
		sound: waveoutdrv=dummy
	RC
	echo c >"$run/rc" # Debian's build starts in its debugger: continue
	(cd "$run" && LD_PRELOAD=$preload exec bochs-bin -q -f bochsrc -rc rc </dev/null >"$run/emulator" 2>&1) &
	emulator=$!
}

# No XSAVE by default: QEMU 7.2 has no intercept for XSETBV, so no hypervisor in there learns of a guest's XCR0, and the
# guest's vector registers get lost.
start_svm() {
	local i drives=() preload
	preload=$(preload tcgfix)
	for i in "${!disks[@]}"; do
		drives+=(-drive "file=${disks[i]},format=raw,if=none,id=disk$i,snapshot=on" -device "virtio-blk-pci,drive=disk$i")
	done
	LD_PRELOAD=$preload TMPDIR=$run qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu "${model:-max,-xsave}" -smp "$cpus" -m "$mem" \
		-kernel "$vmlinuz" -initrd "$run/initrd.img" -append "$arguments" -nodefaults -display none \
		${drives[@]+"${drives[@]}"} -serial "file:$log" -serial "file:$log.kernel" -no-reboot </dev/null >"$run/emulator" 2>&1 &
	emulator=$!
}

# ended: the machine said so, or it booted a second time (Bochs has no switch against reboots)
ended() { grep -aq '^TESTBED-EXIT [0-9]' "$log" || [ "$(grep -ac '^TESTBED-BOOT ' "$log")" -gt 1 ]; }

explain() {
	echo "testbed: $1" >&2
	tail -n 15 "$run/emulator" >&2
	[ ! -e "$run/bochs.log" ] || grep -a 'PANIC' "$run/bochs.log" | tail -n 5 >&2 || true
	echo "testbed: last lines of the kernel's log and of the console:" >&2
	tail -n 12 "$log.kernel" >&2
	tail -n 12 "$log" >&2
}

start_$hw
if [ -n "$follow" ]; then
	tail -n +1 -F "$log" 2>/dev/null &
	tail=$!
fi

deadline=$((SECONDS + timeout))
while ! ended; do
	if [ $SECONDS -ge $deadline ]; then
		explain "no end after $timeout seconds"
		exit 124
	fi
	if ! kill -0 "$emulator" 2>/dev/null && ! ended; then
		explain "the emulator ended by itself"
		exit 125
	fi
	sleep 0.2
done
[ -z "$follow" ] || sleep 1.2 # tail looks once a second
status=$(sed -n 's/^TESTBED-EXIT \([0-9]*\).*/\1/p' "$log" | head -n 1)
if [ -z "$status" ]; then
	explain "the machine crashed and booted again"
	exit 125
fi
exit "$status"
