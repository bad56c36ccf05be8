#!/usr/bin/env bash
# Reads lines `SKIP (TIER) TEST: REASON` and prints those whose reason does not hold on this machine: a tier that this
# machine can run must not be skipped. A reason may name several things ("needs root and setpriv(1)"): one that is really
# lacking explains it.
set -u
. "$(dirname "$0")/vm/lib.sh"

vm_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The programs that tests compare with, as reasons name them: `nft`, nft(8), or "no nft".
programs=" busybox busybox-static capsh chrt conmon containerd ctr curl debootstrap docker docker-registry dockerd gcc getcap ionice ip iptables lsns mkfs.ext4 mmdebstrap newuidmap nft nsenter openssl perl ping ping6 podman prlimit ps python3 rsvg-convert runc setpriv setsid sh socat
 strace su systemd tar taskset tc umoci unshare "

lacks_command() { # TIER COMMAND
    if [ "$1" = vm ]; then ! PATH=$vm_path command -v "$2" >/dev/null; else ! command -v "$2" >/dev/null; fi
}
cgroup_is_v2() { [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; }
no_capability() { [ $((0x$(sed -n 's/^CapEff:\s*//p' /proc/self/status) >> $1 & 1)) = 0 ]; }
no_lsm() { ! grep -q "$1" /sys/kernel/security/lsm 2>/dev/null; }
older_than() { [ "$(printf '%s\n%s\n' "$(uname -r)" "$1" | sort -V | head -n 1)" != "$1" ]; }

# lacks_a_program TIER REASON: one of the programs that the reason names is not there.
lacks_a_program() {
    local tier=$1 word
    for word in $2; do
        word=${word//[\`\',;:()]/ }
        word=${word%% *}
        [[ $programs == *[[:space:]]$word[[:space:]]* ]] || continue
        lacks_command "$tier" "$word" && return
    done
    return 1
}

# What may be lacking here, by the words of the reason.
holds_on_host() {
    local reason=$1
    case $reason in *root*) [ "$(id -u)" != 0 ] && return ;; esac
    case $reason in *unprivileged* | *"not as root"*) [ "$(id -u)" = 0 ] && return ;; esac
    case $reason in *hybrid* | *v1*) cgroup_is_v2 && return ;; esac
    case $reason in *v2* | *cgroup2* | *pressure* | *psi*) cgroup_is_v2 || return 0 ;; esac
    case $reason in *apparmor*) no_lsm apparmor && return ;; esac
    case $reason in *selinux*) no_lsm selinux && return ;; esac
    case $reason in *landlock*) no_lsm landlock && return ;; esac
    case $reason in *cap_sys_resource* | *oom_score*) no_capability 24 && return ;; esac
    case $reason in *"cpuset controller"*) grep -qw cpuset /proc/cgroups || return 0 ;; esac
    case $reason in *"hugetlb controller"*) grep -qw hugetlb /proc/cgroups || return 0 ;; esac
    case $reason in *"huge pages"*) [ -d /sys/kernel/mm/hugepages/hugepages-2048kB ] || return 0 ;; esac
    case $reason in *"block device"*) [ -n "$(ls /sys/block 2>/dev/null)" ] || return 0 ;; esac
    case $reason in *"account swap"*) [ -e /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes ] || cgroup_is_v2 || return 0 ;; esac
    case $reason in *"time namespace"*) [ -e /proc/self/ns/time ] || return 0 ;; esac
    case $reason in *"user namespaces"*) unshare --user true 2>/dev/null || return 0 ;; esac
    case $reason in *real-time*) chrt --fifo 1 true 2>/dev/null || return 0 ;; esac
    case $reason in *sch_netem*) [ -d /sys/module/sch_netem ] || return 0 ;; esac
    case $reason in *numa*) [ -e /proc/self/numa_maps ] || return 0 ;; esac
    case $reason in *"id-mapped mounts"*) [[ $(stat -f -c %T /tmp) =~ ^(tmpfs|ext2/ext3|xfs|btrfs)$ ]] || return 0 ;; esac
    case $reason in *overlay*) grep -qw overlay /proc/filesystems || return 0 ;; esac
    case $reason in *qemu* | *virtiofsd* | *busybox* | *apt-get* | *"the vm"*) [ -n "$(vm_lacks)" ] && return ;; esac
    case $reason in *x86_64* | *x86-64*) [ "$(uname -m)" != x86_64 ] && return ;; esac
    [[ $reason =~ (linux|kernel)\ ([56]\.[0-9]+) ]] && older_than "${BASH_REMATCH[2]}"
}

# What the VM never has: it is root on pure cgroup v2, with AppArmor.
holds_in_vm() {
    case $1 in
    *host_only* | *v1* | *hybrid* | *selinux* | *unprivileged* | *"not as root"* | *"apparmor is active"*) return 0 ;;
    esac
    return 1
}

while IFS= read -r line; do
    [ -n "$line" ] || continue
    if ! [[ $line =~ ^SKIP\ \(([a-z]+)\)\ ([^:]*(::[^:]+)*):\ (.*)$ ]]; then
        echo "$line"
        continue
    fi
    tier=${BASH_REMATCH[1]} reason=${BASH_REMATCH[4],,}
    case $reason in
    # Conditions of the moment, which say nothing about a tier.
    *"too busy"* | *"is nosuid"* | *"no i386 calls"*) continue ;;
    # Given by whoever has one: making it needs a mirror.
    *"no mirror answers"* | *"in an emulated machine"*) continue ;;
    *"two cpus"*) [ "$(nproc)" -lt 2 ] && continue ;;
    esac
    lacks_a_program "$tier" "$reason" && continue
    if [ "$tier" = vm ] && [[ $line != "SKIP (vm) vm: "* ]]; then
        holds_in_vm "$reason" && continue
    else
        holds_on_host "$reason" && continue
    fi
    echo "$line"
done
