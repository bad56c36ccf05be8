#!/usr/bin/env bash
# Runs a command as root in a virtual machine with Debian's kernel (pure cgroup v2, AppArmor), with this machine's files:
#   scripts/vm/run.sh [--timeout SECONDS] [--cpus N] [--memory SIZE] -- COMMAND…
# The command sees the whole file system of the host; what it writes stays in the VM. /tmp, /run, /root, /home, /var/tmp
# and /var/lib/drydock start empty. Its output is printed as it comes, its exit code is ours; 125 if the VM failed,
# 124 after the timeout, both with the console's last lines.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

timeout=300 cpus=${DRYDOCK_VM_CPUS:-2} memory=2G
while [ $# -gt 0 ]; do
    case $1 in
    --timeout) timeout=$2 && shift 2 ;;
    --cpus) cpus=$2 && shift 2 ;;
    --memory) memory=$2 && shift 2 ;;
    --) shift && break ;;
    *) die "usage: run.sh [--timeout SECONDS] [--cpus N] [--memory SIZE] -- COMMAND…" ;;
    esac
done
[ $# -gt 0 ] || die "usage: run.sh [--timeout SECONDS] [--cpus N] [--memory SIZE] -- COMMAND…"

lacks=$(vm_lacks)
[ -z "$lacks" ] || die "$lacks"
kernel=$("$vm_scripts/kernel.sh")
job=$(mktemp -d "$vm_cache/run.XXXXXX")
chmod 755 "$job"
# What runs that were killed have left: their names end in a process that is no more.
for stale in /tmp/drydock-vm.*; do
    [ -O "$stale" ] && [ ! -d "/proc/${stale##*.}" ] && rm -rf "$stale"
done
sockets=$(mktemp -d --suffix=".$$" /tmp/drydock-vm.XXXXXX) # short: a socket's path has at most 107 bytes
pids=() reader=

# Ends what was started here, whatever happened.
finish() {
    local pid
    trap - EXIT INT TERM HUP
    [ -z "$reader" ] || pids+=("$reader")
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$job" "$sockets"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The command, quoted, in this directory and with the variables that tests need.
{
    printf 'cd %q 2>/dev/null\n' "$PWD"
    for name in $(compgen -e); do
        case $name in
        DRYDOCK_VM_*) ;;
        DRYDOCK_* | CARGO_TARGET_DIR | CARGO_TERM_COLOR | RUST_BACKTRACE | RUST_TEST_* | NO_COLOR | LD_LIBRARY_PATH)
            printf 'export %s=%q\n' "$name" "${!name}" ;;
        esac
    done
    printf '%q ' "$@"
    echo
} >"$job/command"

# A mount of the host's root that is read only and has no other file system of the host in it, but for those on which
# the kept directories lie.
keep=("$repo" "$target_dir" "$vm_cache")
for dir in "${RUSTUP_HOME:-$HOME/.rustup}" "${CARGO_HOME:-$HOME/.cargo}"; do
    [ -d "$dir" ] && keep+=("$(readlink -f "$dir")")
done
printf '%s\n' "${keep[@]}" >"$job/keep"
mkdir "$job/share"
share_script='
share=$1; shift
mount --make-rprivate /
mount --bind / "$share"
for dir in "$@"; do
    [ "$(stat -c %d "$dir")" = "$(stat -c %d /)" ] || mount --bind "$dir" "$share$dir"
done
mount -o remount,bind,ro "$share"
exec "$VIRTIOFSD" "${VIRTIOFSD_ARGS[@]}"'
virtiofsd=$(find_virtiofsd)
# Debian 12 has the C virtiofsd (-o source=), later ones the Rust virtiofsd (--shared-dir).
if "$virtiofsd" --help 2>&1 | grep -q -- --shared-dir; then
    args=(--socket-path="$sockets/fs" --shared-dir="$job/share" --cache=always --sandbox=chroot --xattr)
else
    args=(--socket-path="$sockets/fs" -f -o source="$job/share" -o cache=always -o sandbox=chroot -o xattr
        -o log_level=err --rlimit-nofile=0)
fi
start_virtiofsd() {
    rm -f "$sockets/fs"
    setpriv --pdeathsig KILL unshare --mount bash -c "VIRTIOFSD=$(printf %q "$virtiofsd"); VIRTIOFSD_ARGS=($(printf '%q ' "${args[@]}")); $share_script" \
        share "$job/share" "${keep[@]}" >"$job/virtiofsd.log" 2>&1 &
    pids=($!)
    for _ in $(seq 200); do
        [ -S "$sockets/fs" ] && return
        kill -0 "${pids[0]}" 2>/dev/null || break
        sleep 0.05
    done
    die "virtiofsd did not start: $(cat "$job/virtiofsd.log")"
}

# TCG, always the same: nested KVM is often there and does not work.
accel=${DRYDOCK_VM_ACCEL:-tcg,thread=single}
# la57 and cx16 off: five-level paging and 16-byte compare-and-swap are slow to emulate.
cpu=max,la57=off,cx16=off
# On a busy machine the guest cannot measure its clock against the emulated timer, and hangs: it is told. An emulated
# processor's time stamp counter is the host's.
mhz=$(sed -n 's/^cpu MHz\s*: //p' /proc/cpuinfo | head -n 1)
khz=$(awk -v mhz="${mhz:-2000}" 'BEGIN { printf "%d", mhz * 1000 }')
cmdline="tsc_early_khz=$khz tsc=reliable lpj=$((khz * 4)) no_timer_check console=ttyS0 loglevel=4 panic=-1 reboot=t nokaslr mitigations=off random.trust_cpu=on cgroup_no_v1=all \
lsm=landlock,lockdown,yama,apparmor,bpf vm.job=$job"
start_qemu() {
    : >"$job/console"
    # Whatever ends this script or timeout(1), also SIGKILL, ends the VM.
    setpriv --pdeathsig TERM timeout --kill-after=5 "$timeout" setpriv --pdeathsig KILL "$(find_qemu)" -M microvm,rtc=on,memory-backend=mem -accel "$accel" -cpu "$cpu" \
        -smp "$cpus" -m "$memory" -object memory-backend-memfd,id=mem,size="$memory",share=on \
        -nodefaults -no-user-config -no-reboot -display none -global virtio-mmio.force-legacy=false \
        -kernel "$kernel/vmlinuz" -initrd "$kernel/initramfs" -serial file:"$job/console" -append "$cmdline" \
        -chardev socket,id=fs,path="$sockets/fs" -device vhost-user-fs-device,chardev=fs,tag=host,queue-size=1024 \
        -device virtio-serial-device -chardev file,id=out,path="$job/out" -device virtserialport,chardev=out,name=out \
        -chardev file,id=code,path="$job/code" -device virtserialport,chardev=code,name=code \
        >"$job/qemu.log" 2>&1 &
    pids+=($!)
}

# Whether the guest comes to its command in time. On a busy machine an emulated processor now and then hangs while it
# boots: nothing has run by then, so it is started again.
comes_up() {
    local until=$((SECONDS + boot_time))
    while [ "$SECONDS" -lt "$until" ]; do
        grep -q '^vm: up' "$job/console" 2>/dev/null && return
        kill -0 "${pids[1]}" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}
boot_time=${DRYDOCK_VM_BOOT_TIME:-60}

mkfifo "$job/out"
: >"$job/code"
# Open for writing too until qemu has ended: the reader does not end between two attempts.
cat "$job/out" &
reader=$!
exec 8>"$job/out"
for attempt in 1 2 3; do
    start_virtiofsd
    start_qemu
    comes_up && break
    [ "$attempt" = 3 ] && break
    say "not up within $boot_time s, starting again"
    kill "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
    # Or it is only slow.
    boot_time=$((boot_time * 2))
done
status=0
wait "${pids[1]}" || status=$?
exec 8>&-
wait "$reader" || true

code=$(cat "$job/code")
[ -n "$code" ] && exit "$code"
show() { [ -s "$1" ] && tail -n 40 "$1" | sed 's/^/vm: | /' >&2; }
show "$job/qemu.log" || true
show "$job/virtiofsd.log" || true
show "$job/console" || true
if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    say "the timeout of $timeout s is over"
    exit 124
fi
die "the VM ended without a result (qemu's exit code: $status)"
