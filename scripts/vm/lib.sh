# Sourced by the VM scripts: where things are.
# shellcheck shell=bash

vm_scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$vm_scripts/../.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$repo/target}
# Kernel, modules and initramfs are kept here between runs; `make clean` removes them with the target directory.
vm_cache=${DRYDOCK_VM_CACHE:-$target_dir/vm}

say() { printf 'vm: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 125
}

# The first of the given paths or commands that is there.
first_of() {
    local candidate
    for candidate in "$@"; do
        command -v "$candidate" 2>/dev/null && return 0
    done
    return 1
}

find_qemu() { first_of qemu-system-x86_64 /usr/libexec/qemu-kvm; }
find_virtiofsd() { first_of /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd /usr/lib/virtiofsd virtiofsd; }
find_busybox() { first_of /bin/busybox.static /usr/bin/busybox.static /bin/busybox /usr/bin/busybox busybox; }

# Prints why this machine cannot run the VM, or nothing if it can. Only qemu and its friends are looked at here:
# scripts/deps.sh vm installs them where it can.
vm_lacks() {
    [ "$(uname -m)" = x86_64 ] || { echo "the VM's kernel is for x86_64, this machine is $(uname -m)"; return; }
    [ "$(id -u)" = 0 ] || { echo "virtiofsd needs root"; return; }
    find_qemu >/dev/null || { echo "no qemu-system-x86_64"; return; }
    find_virtiofsd >/dev/null || { echo "no virtiofsd"; return; }
    find_busybox >/dev/null || { echo "no busybox"; return; }
    [ -s "$vm_cache/kernel/ready" ] && return
    command -v apt-get >/dev/null || { echo "no apt-get to fetch Debian's kernel with"; return; }
}
