#!/usr/bin/env bash
# Reads lines `SKIP (TIER) TEST: REASON` and prints those whose reason does not hold on this machine: a tier that this
# machine can run must not be skipped. Each line of the table is a pattern of reasons and a command that succeeds where
# the machine really lacks the thing.
set -u
. "$(dirname "$0")/vm/lib.sh"

lacks_command() { ! command -v "$1" >/dev/null 2>&1; }
fs_at_top() { stat -f -c %T /sys/fs/cgroup 2>/dev/null; }
no_capability() { [ $((0x$(sed -n 's/^CapEff:\s*//p' /proc/self/status) >> $1 & 1)) = 0 ]; }
no_lsm() { ! grep -q "$1" /sys/kernel/security/lsm 2>/dev/null; }
is_older() { [ "$(printf '%s\n%s\n' "$(uname -r)" "$1" | sort -V | head -n 1)" != "$1" ]; }

# holds TIER REASON: whether the machine (for the tier vm: the VM) lacks what the reason names.
holds() {
    local tier=$1 reason=${2,,} tool
    # Whatever the tier: a program that neither has (the VM shows this machine's files).
    if [[ $reason =~ (no|needs|without)\ \`?([a-z0-9_.-]+)\`?(\ (is\ )?(not\ )?(installed|here|command|in\ path))?$ ]]; then
        tool=${BASH_REMATCH[2]}
        case $tool in root | v1 | v2 | cgroup* | kernel) ;; *) lacks_command "$tool" && return ;; esac
    fi
    if [ "$tier" = vm ]; then
        case $reason in
        *host_only* | *v1* | *hybrid* | *selinux*) return 0 ;;
        esac
        return 1
    fi
    case $reason in
    *root*) [ "$(id -u)" != 0 ] ;;
    *unprivileged*) [ "$(id -u)" = 0 ] ;;
    *hybrid* | *v1*) [ "$(fs_at_top)" = cgroup2fs ] ;;
    *v2*) [ "$(fs_at_top)" != cgroup2fs ] ;;
    *pressure* | *psi*) ! [ -e /proc/pressure/cpu ] || [ "$(fs_at_top)" != cgroup2fs ] ;;
    *apparmor*) no_lsm apparmor ;;
    *selinux*) no_lsm selinux ;;
    *landlock*) no_lsm landlock ;;
    *cap_sys_resource*) no_capability 24 ;;
    *"time namespace"*) ! [ -e /proc/self/ns/time ] ;;
    *"user namespace"*) ! unshare --user true 2>/dev/null ;;
    *overlay*) ! grep -qw overlay /proc/filesystems ;;
    *vm* | *qemu*) [ -n "$(vm_lacks)" ] ;;
    *"linux 6."* | *"kernel 6."*) [[ $reason =~ (6\.[0-9]+) ]] && is_older "${BASH_REMATCH[1]}" ;;
    *) return 1 ;;
    esac
}

while IFS= read -r line; do
    [[ $line =~ ^SKIP\ \(([a-z]+)\)\ (.*):\ (.*)$ ]] || { [ -n "$line" ] && echo "$line"; continue; }
    holds "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}" || echo "$line"
done
