#!/usr/bin/env bash
# Part of `make bench`: monitor on a full machine, in one run: 1000 processes in 200 containers, each with cgroups and five
# namespaces of its own, then 10000 processes. `ns ls` against lsns, one pass over all containers' counters against systemd-cgtop,
# the processor share of the full screen of `top`, and the peak of memory. The table goes into docs/BENCHMARKS.md.
#   BENCH_RUNS=25        how often each command is measured
#   BENCH_BIN=DIR        another place than dist/bin
#   BENCH_OUTPUT=FILE    another file than docs/BENCHMARKS.md
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${BENCH_RUNS:-25}
output=${BENCH_OUTPUT:-docs/BENCHMARKS.md}
monitor=${BENCH_BIN:-$PWD/dist/bin}/monitor
containers=200 processes=1000 many=10000

. scripts/bench-lib.sh
[ "$(id -u)" = 0 ] || die "needs root"
[ -x "$monitor" ] || die "no $monitor: make build"
for tool in lsns script busybox; do command -v "$tool" >/dev/null || die "no $tool: scripts/deps.sh bench test installs Debian's"; done
. scripts/cargo.sh
measure=${BENCH_MEASURE:-${bin_dir%/debug}/release/drydock-bench} # another one only where there is no time to build it
[ -x "$measure" ] || cargo build --quiet --locked --release -p drydock-bench

# The hierarchies: the one of v2, or each of v1.
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    version=v2 trees=(/sys/fs/cgroup)
else
    version="v1 or hybrid" trees=()
    for tree in /sys/fs/cgroup/*/; do
        # A cpuset without processors takes no process.
        if [ -e "$tree/cgroup.procs" ] && [ ! -h "${tree%/}" ] && [ ! -e "$tree/cpuset.cpus" ]; then trees+=("${tree%/}"); fi
    done
fi
group=drydock-bench-monitor.$$
work=$(mktemp -d)
finish() {
    # unshare heeds no other signal while it waits; the pid namespace and all in it end with it.
    [ -z "${crowd:-}" ] || kill -KILL "$crowd" 2>/dev/null || true
    local tree tries
    for ((tries = 0; tries < 300; tries++)); do
        for tree in "${trees[@]}"; do
            [ ! -d "$tree/$group" ] || find "$tree/$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        done
        [ -n "$(find "${trees[@]}" -maxdepth 1 -name "$group" -print -quit)" ] || break
        sleep 0.2
    done
    rm -rf "$work"
}
trap finish EXIT

for tree in "${trees[@]}"; do
    mkdir -p "$tree/$group/lxc" 2>/dev/null || continue
    if [ "$version" = v2 ]; then
        for dir in "$tree" "$tree/$group" "$tree/$group/lxc"; do
            for controller in cpu memory io pids; do echo "+$controller" >"$dir/cgroup.subtree_control" || true; done 2>/dev/null
        done
    fi
done

# Containers, as monitor tells them by their cgroups' paths: lxc/cN. In a pid namespace whose end takes them all away.
fill() {
    local n tree
    for ((n = 0; n < containers; n++)); do
        (
            for tree in $trees; do mkdir "$tree/$group/lxc/c$n" && echo "$BASHPID" >"$tree/$group/lxc/c$n/cgroup.procs"; done 2>/dev/null
            # shellcheck disable=SC2016 # the inner shell's
            exec unshare --mount --uts --ipc --net --pid --fork busybox sh -c \
                'for n in '"$(seq -s ' ' $((processes / containers - 2)))"'; do busybox sleep 100000 & done; exec busybox sleep 100000'
        ) &
    done
    sleep 1
    echo >"$work/containers"
    until [ -e "$work/go" ]; do sleep 0.1; done
    busybox sh -c 'n='$((many - processes))'; while [ $n -gt 0 ]; do busybox sleep 100000 & n=$((n - 1)); done; echo >"$0"; wait' "$work/many"
}
export -f fill
trees="${trees[*]}" group=$group work=$work containers=$containers processes=$processes many=$many \
    setsid unshare --pid --fork --kill-child bash -c fill &
crowd=$!
wait_for() { # FILE COUNT
    local tries
    for ((tries = 0; tries < 1200; tries++)); do
        if [ -e "$1" ] && [ "$(running)" -ge "$2" ]; then return; fi
        sleep 0.1
    done
    die "the processes did not all start"
}
running() { printf '%s\n' /proc/[0-9]* | wc -l; }
before=$(running)
# lsns fails when another process of the machine ends under its hands: then once more.
take() { # ROUNDS: of the cases
    local tries
    for tries in 1 2 3; do
        if "$measure" "$1" 5 <"$work/cases" >"$work/measured"; then
            cat "$work/measured" >>"$work/values"
            return
        fi
        say "again ($tries of 3)"
    done
    die "could not be measured"
}
wait_for "$work/containers" "$processes"

say "$processes processes in $containers containers"
{
    echo "lsns|list=lsns"
    echo "monitor ns ls|list=$monitor ns ls"
    if command -v systemd-cgtop >/dev/null; then echo "systemd-cgtop|list=systemd-cgtop -b -n 2 -d 0.1 --depth=10"; fi
    echo "monitor stats|list=$monitor stats --once --interval 100ms"
    echo "monitor top|list=$monitor top --once --interval 100ms"
} >"$work/cases"
take "$runs"
namespaces=$("$monitor" ns ls -n | wc -l) lsns=$(lsns -n | wc -l) counted=$("$monitor" stats --once --interval 100ms | tail -n +2 | wc -l)
[ "$counted" -ge "$containers" ] || die "stats shows $counted containers"

# The full screen's user and system time: what the second of two runs takes longer is what it takes in steady state.
share() { # SECONDS
    { sleep "$1" && printf q; } | COLUMNS=120 LINES=40 TERM=xterm script -qec "stty rows 40 cols 120; exec bash -c 'TIMEFORMAT=\"%U %S\"; { time $monitor top --interval 2s; } 2>$work/time'" /dev/null >/dev/null
    awk '{ print $1 + $2 }' "$work/time"
}
short=8 long=48
say "top for $((short + long)) s"
spent_short=$(share $short) spent_long=$(share $long)
top_share=$(awk -v a="$spent_short" -v b="$spent_long" -v t=$((long - short)) 'BEGIN { printf "%.2f", (b - a) / t * 100 }')

: >"$work/go"
wait_for "$work/many" "$many"
say "$many processes"
{
    echo "lsns of many|list=lsns"
    echo "monitor ns ls of many|list=$monitor ns ls"
    echo "monitor ps of many|list=$monitor ps"
    echo "monitor stats of many|list=$monitor stats --once --interval 100ms"
    echo "monitor top of many|list=$monitor top --batch --count 3 --interval 100ms"
} >"$work/cases"
take "$(((runs + 4) / 5))"

value() { awk -F, -v name="$1" -v column="$2" '$1 == name { print $column }' "$work/values"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'; }
row() { # NAME BASE SHOWN
    [ -n "$(value "$1" 3)" ] || return 0
    printf '| %s | %.1f | %s | %.1f | %s | %s |\n' "$3" "$(value "$1" 3)" "$(ratio "$(value "$1" 3)" "$(value "$2" 3)")" \
        "$(value "$1" 4)" "$(ratio "$(value "$1" 4)" "$(value "$2" 4)")" "$(value "$1" 5)"
}
head='ms | ratio | processor, ms | ratio | largest process, KiB |'
{
    echo "$(uname -sr), $(nproc) processors; cgroup $version; $("$monitor" --version), $(lsns --version), systemd-cgtop $(systemd-cgtop --version 2>/dev/null | awk 'NR == 1 { print $2 }'); medians of $runs runs; $before other processes."
    printf '\n| %s processes, %s containers | %s\n|---|---|---|---|---|---|\n' "$processes" "$containers" "$head"
    row lsns lsns "lsns ($lsns namespaces)"
    row "monitor ns ls" lsns "monitor ns ls ($namespaces namespaces)"
    row systemd-cgtop systemd-cgtop "systemd-cgtop, two looks 100 ms apart"
    row "monitor stats" systemd-cgtop "monitor stats, the same ($counted containers)"
    row "monitor top" systemd-cgtop "monitor top --once, the same (all cgroups)"
    printf '\n`monitor top` at 2 s with %s containers, full screen of 120x40: %s %% of one processor.\n' "$counted" "$top_share"
    printf '\n| %s processes | %s\n|---|---|---|---|---|---|\n' "$many" "$head"
    row "lsns of many" "lsns of many" lsns
    row "monitor ns ls of many" "lsns of many" "monitor ns ls"
    for name in ps stats top; do row "monitor $name of many" "lsns of many" "monitor $name"; done
} >"$work/table"
put_table monitor "$work/table" "$output"
