#!/usr/bin/env bash
# Runs a command with a time limit in mount, pid, network, ipc and, with cgroup v1, cgroup namespaces of its own:
#   sandbox.sh SECONDS COMMAND…
# CONFORMANCE_CGROUPS=v1 shows it the v1 hierarchies only, as on a machine without cgroup v2.
set -euo pipefail

if [ "${1-}" = --inside ]; then
    shift
    mount --make-rprivate /
    mount -t proc proc /proc
    mount -t tmpfs tmpfs /run 2>/dev/null
    ip link set lo up
    [ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ]; then
        mapfile -t hierarchies <<<"$(awk -F: '$2 != "" { print $2 }' /proc/self/cgroup)"
        unified=$([ "${CONFORMANCE_CGROUPS-}" != v1 ] && mountpoint -q /sys/fs/cgroup/unified && echo 1 || true)
        umount -R /sys/fs/cgroup
        mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
        for name in "${hierarchies[@]}"; do
            mkdir "/sys/fs/cgroup/${name#name=}"
            mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/${name#name=}"
        done
        if [ -n "$unified" ]; then
            mkdir /sys/fs/cgroup/unified
            mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
        fi
    fi
    # Not exec: as the first process of its namespace this shell collects the processes that containers leave.
    "$@"
    exit
fi

limit=$1
shift
unique=conformance-$$
made=()

# Takes away what is left below our cgroups, deepest first, and the processes in it.
finish() {
    local directory pass
    trap - EXIT INT TERM
    for directory in "${made[@]}"; do
        echo $$ >"${directory%/*}/cgroup.procs" 2>/dev/null || true
        # A process that is frozen does not die.
        while IFS= read -r state; do
            echo THAWED >"$state" 2>/dev/null || true
        done < <(find "$directory" -name freezer.state)
        for pass in 1 2 3 4 5; do
            find "$directory" -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
            find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [ -d "$directory" ] || break
            sleep "0.$pass"
        done
    done
}
trap finish EXIT
trap 'exit 130' INT TERM

# A cgroup below the one we are in, in each v1 hierarchy, is the root that the suite sees. Not with v2 alone: a cgroup
# with processes in it, as the suite's root would be, cannot hand controllers on.
mapfile -t own </proc/self/cgroup
for line in "${own[@]}"; do
    IFS=: read -r _ controllers path <<<"$line"
    [ -n "$controllers" ] || continue
    mounted=/sys/fs/cgroup/${controllers#name=}
    [ -d "$mounted" ] || continue
    directory=${mounted}${path%/}/$unique
    mkdir "$directory"
    made+=("$directory")
    if [ "$controllers" = cpuset ]; then
        for file in cpus mems; do
            cat "${directory%/*}/cpuset.$file" >"$directory/cpuset.$file"
        done
    fi
    # Real-time processes get what is there, else none.
    [ ! -f "$directory/cpu.rt_runtime_us" ] || cat "${directory%/*}/cpu.rt_runtime_us" >"$directory/cpu.rt_runtime_us" || true
    echo $$ >"$directory/cgroup.procs"
done

view=()
[ ${#made[@]} = 0 ] || view=(--cgroup)
timeout --foreground --kill-after=5 "$limit" unshare --mount --pid --net --ipc "${view[@]}" --fork --kill-child "$0" --inside "$@"
