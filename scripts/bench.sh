#!/usr/bin/env bash
# `make bench`: container against crun and runc, and monitor against lsns, by turns; see docs/BENCHMARKS.md, which this
# rewrites between its markers. The tools are taken from dist/bin.
#   BENCH_RUNS=25        how often each step is measured
#   BENCH_RUNTIMES=…     runtimes to compare with, as NAME=PROGRAM words; default: crun=crun runc=runc. The first is the base
#   BENCH_OUTPUT=FILE    another file than docs/BENCHMARKS.md
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${BENCH_RUNS:-25}
output=${BENCH_OUTPUT:-docs/BENCHMARKS.md}
bin=${BENCH_BIN:-$PWD/dist/bin}
read -ra peers <<<"${BENCH_RUNTIMES:-crun=crun runc=runc}"
base=${peers[0]%%=*}

. scripts/bench-lib.sh
[ "$(id -u)" = 0 ] || die "needs root"
for tool in runc lsns busybox "${peers[@]#*=}"; do
    command -v "$tool" >/dev/null || die "no $tool: scripts/deps.sh bench test installs Debian's"
done
[ -x "$bin/container" ] || die "no $bin/container: make build"

# Everything runs in network and mount namespaces of its own: the bridge is not this machine's, and on a hybrid host only v1 is
# seen, because crun refuses hybrid.
if [ -z "${BENCH_INSIDE:-}" ]; then
    . scripts/cargo.sh
    cargo build --quiet --locked --release -p drydock-bench
    measure=${bin_dir%/debug}/release/drydock-bench
    exec env BENCH_INSIDE="$(realpath "$measure")" unshare --mount --net bash -c '
        if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] && mountpoint -q /sys/fs/cgroup/unified; then
            umount /sys/fs/cgroup/unified || exit
        fi
        exec "$0"' "$PWD/scripts/bench.sh"
fi

work=$(mktemp -d)
export DRYDOCK_ROOT=/run/drydock-bench.$$ DRYDOCK_DATA=$work/data
# The cgroup around all that is measured: the containers' own are put below it.
group=drydock-bench.$$
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then version=v2 tree=/sys/fs/cgroup/$group; else version=v1 tree=/sys/fs/cgroup/memory/$group; fi
runtimes=("${peers[@]}" "container=$bin/container")
finish() {
    local entry
    for entry in "${runtimes[@]}"; do "${entry#*=}" delete --force "bench-${entry%%=*}-sleep" >/dev/null 2>&1 || true; done
    "$bin/container" gc >/dev/null 2>&1 || true
    find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null || true
    [ -z "${outer:-}" ] || kill "$outer" 2>/dev/null || true
    rm -rf "$work" "$DRYDOCK_ROOT"
}
trap finish EXIT

# bundle NAME COMMAND: runc spec's configuration with this command, in a cgroup below ours.
bundle() {
    local dir=$work/$1
    mkdir -p "$dir"/rootfs/{bin,proc,sys,dev,tmp,etc}
    cp "$(readlink -f "$(command -v busybox)")" "$dir/rootfs/bin/busybox"
    ln -s busybox "$dir/rootfs/bin/true"
    ln -s busybox "$dir/rootfs/bin/sleep"
    (cd "$dir" && runc spec && sed -i -e 's/"terminal": true/"terminal": false/' -e "s|^\(\t*\)\"sh\"$|\1$2|" \
        -e "s|^\(\t*\)\"linux\": {|&\n\t\t\"cgroupsPath\": \"/$group/$1\",|" config.json)
    grep -q "cgroupsPath" "$dir/config.json" && grep -qF "$2" "$dir/config.json" || die "runc spec has another form than expected"
}

cases=$work/cases
for entry in "${runtimes[@]}"; do
    name=${entry%%=*} program=$(command -v "${entry#*=}")
    bundle "$name" '"/bin/true"'
    bundle "$name-sleep" '"/bin/sleep", "100000"'
    # As engines call them: with a file for the pid.
    at="--bundle $work/$name --pid-file $work/$name.pid" id=bench-$name
    echo "$name|create=$program create $at $id|start=$program start $id|delete=$program delete --force $id" >>"$cases.bundle"
    echo "$name run|run=$program run $at $id" >>"$cases.one"
    "$program" create --bundle "$work/$name-sleep" "$id-sleep" </dev/null >/dev/null 2>"$work/errors" &&
        "$program" start "$id-sleep" 2>"$work/errors" || die "$name: $(head -n 3 "$work/errors")"
    echo "$name exec|exec=$program exec $id-sleep /bin/true" >>"$cases.one"
done
{
    echo "container run of its own root|run=$bin/container run --rm -- true"
    echo "container run --net bridge|run=$bin/container run --rm --net bridge -- true"
} >>"$cases.one"
printf '%s\n' "lsns|list=lsns" "monitor ns ls|list=$bin/monitor ns ls" >"$cases.list"
# joinns beside nsenter, unshare beside unshare(1): the same flags, of a target of ours.
unshare --mount --pid --net --uts --ipc --fork --kill-child --mount-proc sleep 100000 &
outer=$!
until target=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null) && target=${target// /} && [ -n "$target" ] && [ "$(cat "/proc/$target/comm")" = sleep ]; do sleep 0.05; done
{
    for flags in "-n" "-a"; do
        echo "nsenter $flags|run=nsenter -t $target $flags /bin/true"
        echo "joinns $flags|run=$bin/joinns -t $target $flags /bin/true"
        echo "joinns $flags --privileged|run=$bin/joinns --privileged -t $target $flags /bin/true"
    done
    for flags in "-m -u -i -n" "-p -f --mount-proc" "-U -r -n"; do
        echo "unshare $flags|run=unshare $flags /bin/true"
        echo "container unshare $flags|run=$bin/container unshare $flags /bin/true"
    done
} >"$cases.enter"

# measure LABEL GAP FILE: appends lines LABEL,NAME,STEP,WALL,PROCESSOR,PEAK,TREE to $work/values.
measure() {
    say "$1: $(basename "$3" | sed 's/.*\.//')"
    "$BENCH_INSIDE" "$runs" "$2" "$tree" <"$3" >"$work/measured" || exit
    sed "s/^/$1,/" "$work/measured" >>"$work/values"
}
"$bin/container" run --rm -- true >/dev/null 2>&1 || die "container run fails"
for kind in bundle one; do
    measure idle 60 "$cases.$kind"
    measure busy 0 "$cases.$kind"
done
measure busy 0 "$cases.list"
measure busy 0 "$cases.enter"
# What stays in memory of an init that waits, in KiB.
"$bin/init" -s -- sleep 100000 &
waiting=$!
sleep 2
resident=$(awk '/^VmRSS/ { print $2 }' "/proc/$waiting/status")
kill "$waiting" && wait "$waiting" || true

# value LABEL NAME STEP COLUMN: the number, or the sum of the steps, or for the peaks (6, 7) the largest.
value() {
    awk -F, -v label="$1" -v name="$2" -v step="$3" -v column="$4" '$1 == label && $2 == name && (step == "" || $3 == step) {
        if (column < 6) sum += $column; else if ($column > sum) sum = $column } END { print sum }' "$work/values"
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
ms() { printf '%.1f' "$1"; }
name_of() { "$@" --version 2>/dev/null | head -n 1; }

bundle_table() { # LABEL
    local entry name all
    for entry in "${runtimes[@]}"; do
        name=${entry%%=*} all=$(value "$1" "$name" "" 4)
        echo "| $name | $(ms "$(value "$1" "$name" create 4)") | $(ms "$(value "$1" "$name" start 4)") | $(ms "$(value "$1" "$name" delete 4)") |" \
            "$(ms "$all") | $(ratio "$all" "$(value "$1" "$base" "" 4)") | $(ms "$(value "$1" "$name" "" 5)") | $(value "$1" "$name" "" 6) | $(value "$1" "$name" "" 7) |"
    done
}
one_row() { # NAME BASE
    local idle busy
    idle=$(value idle "$1" "" 4) busy=$(value busy "$1" "" 4)
    echo "| $1 | $(ms "$idle") | $(ratio "$idle" "$(value idle "$2" "" 4)") | $(ms "$busy") | $(ratio "$busy" "$(value busy "$2" "" 4)") |" \
        "$(ms "$(value idle "$1" "" 5)") | $(value idle "$1" "" 6) | $(value idle "$1" "" 7) |"
}

head="create | start | delete | together, ms | ratio to $base | processor, ms | largest process, KiB | whole tree, KiB |"
{
    echo "$(uname -sr), $(nproc) processors, $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1); cgroup $version;"
    echo "$(for entry in "${peers[@]}"; do printf '%s: %s, ' "${entry%%=*}" "$(name_of "${entry#*=}")"; done)$(name_of "$bin/container"); medians of $runs runs."
    printf '\n| a bundle, 60 ms apart | %s\n|---|---|---|---|---|---|---|---|---|\n' "$head"
    bundle_table idle
    printf '\n| a bundle, back to back | %s\n|---|---|---|---|---|---|---|---|---|\n' "$head"
    bundle_table busy
    printf '\n| command | 60 ms apart, ms | ratio | back to back, ms | ratio | processor, ms | largest process, KiB | whole tree, KiB |\n|---|---|---|---|---|---|---|---|\n'
    for entry in "${runtimes[@]}"; do one_row "${entry%%=*} run" "$base run"; done
    for entry in "${runtimes[@]}"; do one_row "${entry%%=*} exec" "$base exec"; done
    one_row "container run of its own root" "$base run"
    one_row "container run --net bridge" "$base run"
    printf '\n| listing %s processes'"'"' namespaces | ms | ratio to lsns | largest process, KiB |\n|---|---|---|---|\n' \
        "$(find /proc -maxdepth 1 -name '[0-9]*' | wc -l)"
    for name in lsns "monitor ns ls"; do
        echo "| $name | $(ms "$(value busy "$name" "" 4)") | $(ratio "$(value busy "$name" "" 4)" "$(value busy lsns "" 4)") | $(value busy "$name" "" 6) |"
    done
    printf '\n| joining and making namespaces, back to back | ms | ratio to util-linux | processor, ms | largest process, KiB |\n|---|---|---|---|---|\n'
    while IFS='|' read -r name _; do
        case $name in nsenter* | unshare*) peer=$name ;; esac
        echo "| $name | $(ms "$(value busy "$name" "" 4)") | $(ratio "$(value busy "$name" "" 4)" "$(value busy "$peer" "" 4)") | $(ms "$(value busy "$name" "" 5)") | $(value busy "$name" "" 6) |"
    done <"$cases.enter"
    printf '\n`init` that waits for its command: %s KiB resident.\n' "$resident"
} >"$work/table"
put_table bench "$work/table" "$output"
