#!/usr/bin/env bash
# Part of `make bench`: cgroupctl against Debian's cgroup-tools and systemd's tools, by turns; see docs/BENCHMARKS.md, whose
# second table this rewrites. The tool is taken from dist/bin.
#   BENCH_RUNS=25        how often each step is measured
#   BENCH_MANY=500       cgroups whose counters are read
#   BENCH_BIN=DIR        another place than dist/bin
#   BENCH_OUTPUT=FILE    another file than docs/BENCHMARKS.md
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${BENCH_RUNS:-25} many=${BENCH_MANY:-500}
output=${BENCH_OUTPUT:-docs/BENCHMARKS.md}
bin=${BENCH_BIN:-$PWD/dist/bin}
tool=$bin/cgroupctl

. scripts/bench-lib.sh
[ "$(id -u)" = 0 ] || die "needs root"
[ -x "$tool" ] || die "no $tool: make build"
command -v cgcreate >/dev/null || die "no cgcreate: scripts/deps.sh bench installs Debian's"
. scripts/cargo.sh
measure=${BENCH_MEASURE:-${bin_dir%/debug}/release/drydock-bench} # another one only where there is no time to build it
[ -x "$measure" ] || cargo build --quiet --locked --release -p drydock-bench

group=drydock-bench.$$
work=$(mktemp -d)
finish() {
    "$tool" cleanup "$group" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT
"$tool" create "$group" >/dev/null

# What the four programs do, step by step; and the same in one command.
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    version=v2 v2=1 quota="-r cpu.max=50000 -r memory.max=104857600"
else
    version="v1 or hybrid" v2= quota="-r cpu.cfs_quota_us=50000 -r memory.limit_in_bytes=104857600"
fi
controllers=cpu,memory,pids
limits="--cpu 0.5 --memory 100M --pids 100"
{
    g="-g $controllers:$group/tools"
    echo "cgroup-tools|create=cgcreate $g|limits=cgset $quota -r pids.max=100 $group/tools|run=cgexec $g true|delete=cgdelete $g"
    n=$group/ours
    echo "cgroupctl|create=$tool create $n|limits=$tool set $n cpu.max=50% memory.max=100M pids.max=100|run=$tool run -q $n -- true|delete=$tool delete $n"
    echo "cgroupctl run --rm|all=$tool run -q --rm $limits $group/one -- true"
    if systemctl is-system-running >/dev/null 2>&1 || [ -S /run/systemd/private ]; then
        echo "systemd-run --scope|all=systemd-run --quiet --scope -p CPUQuota=50% -p MemoryMax=100M -p TasksMax=100 true"
    else
        say "systemd-run is left out: systemd does not run here"
    fi
} >"$work/cases"
say "create, limits, run, delete"
"$measure" "$runs" 5 <"$work/cases" >"$work/values"

# The counters of many cgroups: the same files, once each.
say "counters of $many cgroups"
for i in $(seq "$many"); do echo "$group/many/$i"; done | xargs -n 50 -P 1 sh -c 'for n; do "$0" create "$n" >/dev/null; done' "$tool"
cat >"$work/loop" <<'LOOP'
for c in "$1"/*/; do
    for f in $2; do
        [ -r "$c$f" ] && IFS= read -r -d '' v <"$c$f"
        [ -n "$v" ] && total=$((total + ${#v}))
    done
done
LOOP
sed 's/IFS= read.*$/v=$(cat "$c$f")/' "$work/loop" >"$work/cats"
if [ -n "$v2" ]; then
    printf '%s\n' "/sys/fs/cgroup/$group/many cpu.stat memory.current memory.swap.current memory.events pids.current io.stat" >"$work/where"
else
    root=/sys/fs/cgroup
    printf '%s\n' "$root/cpuacct/$group/many cpuacct.usage" "$root/cpu/$group/many cpu.stat" "$root/pids/$group/many pids.current" \
        "$root/memory/$group/many memory.usage_in_bytes memory.memsw.usage_in_bytes memory.oom_control" \
        "$root/blkio/$group/many blkio.throttle.io_service_bytes_recursive" >"$work/where"
fi
for kind in loop cats; do
    { echo "run() { $(cat "$work/$kind"); }"; while read -r dir files; do echo "run '$dir' '$files'"; done <"$work/where"; } >"$work/$kind.sh"
done
{
    echo "list|list=$tool list $group/many --stats"
    echo "top|list=$tool top $group/many --once --all"
    echo "bash with read|list=bash $work/loop.sh"
    echo "bash with cat|list=bash $work/cats.sh"
    command -v systemd-cgtop >/dev/null && echo "systemd-cgtop|list=systemd-cgtop -n1 -b /$group/many"
} >"$work/cases"
"$measure" "$(((runs + 4) / 5))" 5 <"$work/cases" >>"$work/values"

value() { awk -F, -v name="$1" -v step="$2" -v column="$3" '$1 == name && (step == "" || $2 == step) { sum += $column } END { if (sum) print sum }' "$work/values"; }
row() { # NAME BASE STEPS…
    local name=$1 base=$2 step cells=""
    shift 2
    for step in "$@"; do cells+=" $(printf '%.1f' "$(value "$name" "$step" 3)") |"; done
    echo "| $name |$cells $(printf '%.1f' "$(value "$name" "" 3)") | $(awk -v a="$(value "$name" "" 3)" -v b="$(value "$base" "" 3)" 'BEGIN { printf "%.2f", a / b }') | $(printf '%.1f' "$(value "$name" "" 4)") |"
}
{
    echo "$(uname -sr), $(nproc) processors; cgroup $version; $(dpkg-query -W -f '${Package} ${Version}' cgroup-tools 2>/dev/null || echo cgroup-tools); $("$tool" --version); medians of $runs runs, in ms."
    printf '\n| a cgroup with limits | create | limits | run | delete | together | ratio | processor |\n|---|---|---|---|---|---|---|---|\n'
    row cgroup-tools cgroup-tools create limits run delete
    row cgroupctl cgroup-tools create limits run delete
    printf '\n| the same in one command | ms | ratio to cgroup-tools | processor |\n|---|---|---|---|\n'
    for name in "cgroupctl run --rm" "systemd-run --scope"; do [ -z "$(value "$name" "" 3)" ] || row "$name" cgroup-tools; done
    printf '\n| counters of %s cgroups | ms | ratio to the built-in read | processor |\n|---|---|---|---|\n' "$many"
    for name in "bash with read" "bash with cat" systemd-cgtop list top; do
        [ -z "$(value "$name" "" 3)" ] || row "$name" "bash with read" | sed 's/^| list /| cgroupctl list --stats /; s/^| top /| cgroupctl top --once (two passes, 200 ms apart) /'
    done
} >"$work/table"
put_table cgroups "$work/table" "$output"
