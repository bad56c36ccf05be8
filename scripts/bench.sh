#!/usr/bin/env bash
# `make bench`: container against crun and runc, and monitor against lsns, side by side; see docs/BENCHMARKS.md, which this
# rewrites between its markers. The tools are taken from dist/bin.
#   BENCH_ROUNDS=3 BENCH_RUNS=12   how often; BENCH_OUTPUT=FILE   another file than docs/BENCHMARKS.md
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${BENCH_ROUNDS:-3} runs=${BENCH_RUNS:-12}
output=${BENCH_OUTPUT:-docs/BENCHMARKS.md}
bin=$PWD/dist/bin

say() { printf 'bench: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
[ "$(id -u)" = 0 ] || die "needs root"
for tool in hyperfine runc crun lsns busybox; do
    command -v "$tool" >/dev/null || die "no $tool: scripts/deps.sh bench test installs it"
done
[ -x "$bin/container" ] || die "no dist/bin/container: make build"

# Everything runs in network and mount namespaces of its own: the bridge is not this machine's, and on a hybrid host only v1 is
# seen, because crun refuses hybrid.
if [ -z "${BENCH_INSIDE:-}" ]; then
    exec env BENCH_INSIDE=1 unshare --mount --net bash -c '
        if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] && mountpoint -q /sys/fs/cgroup/unified; then
            umount /sys/fs/cgroup/unified || exit
        fi
        exec "$0"' "$PWD/scripts/bench.sh"
fi

work=$(mktemp -d)
export DRYDOCK_ROOT=/run/drydock-bench.$$ DRYDOCK_DATA=$work/data
finish() {
    "$bin/container" gc >/dev/null 2>&1 || true
    rm -rf "$work" "$DRYDOCK_ROOT"
}
trap finish EXIT

bundle=$work/bundle
mkdir -p "$bundle"/rootfs/{bin,proc,sys,dev,tmp,etc} "$DRYDOCK_DATA"
cp "$(readlink -f "$(command -v busybox)")" "$bundle/rootfs/bin/busybox"
ln -s busybox "$bundle/rootfs/bin/true"
(cd "$bundle" && runc spec && sed -i -e 's/"terminal": true/"terminal": false/' -e 's/^\(\t*\)"sh"$/\1"\/bin\/true"/' config.json)
grep -q '"/bin/true"' "$bundle/config.json" || die "runc spec has another form than expected"

# names and commands: NAME|COMMAND
starts=(
    "crun run|crun run --bundle $bundle bench-crun"
    "runc run|runc run --bundle $bundle bench-runc"
    "container run|$bin/container run --rm -- true"
    "container run --net bridge|$bin/container run --rm --net bridge -- true"
)
lists=(
    "lsns|lsns"
    "monitor ns ls|$bin/monitor ns ls"
)

# measure LABEL PREPARE COMMANDS…: appends lines `LABEL,NAME,MEDIAN in ms` to $work/values, round by round.
measure() {
    local label=$1 prepare=$2 entry
    shift 2
    local args=()
    for entry in "$@"; do args+=(-n "${entry%%|*}" "${entry#*|}"); done
    hyperfine -N --style none --warmup 2 --runs "$runs" ${prepare:+--prepare "$prepare"} --export-csv "$work/csv" "${args[@]}" \
        >/dev/null 2>"$work/errors" || die "$label: $(tail -n 3 "$work/errors")"
    awk -F, -v label="$label" 'NR > 1 { printf "%s,%s,%.3f\n", label, $1, $4 * 1000 }' "$work/csv" >>"$work/values"
}

for entry in "${starts[@]}" "${lists[@]}"; do
    # Once each, aloud: a command that fails must not be measured.
    ${entry#*|} >/dev/null 2>"$work/errors" || die "\`${entry#*|}\` fails: $(head -n 3 "$work/errors")"
done
for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    measure "60 ms" "sleep 0.06" "${starts[@]}"
    measure "back to back" "" "${starts[@]}"
    measure "namespaces" "" "${lists[@]}"
done

# The median of the rounds for one label and name.
median() {
    awk -F, -v label="$1" -v name="$2" '$1 == label && $2 == name { print $3 }' "$work/values" | sort -n |
        awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
row() { # NAME BASE LABEL…
    local name=$1 base=$2 label
    shift 2
    printf '| %s |' "$name"
    for label in "$@"; do
        awk -v a="$(median "$label" "$name")" -v b="$(median "$label" "$base")" 'BEGIN { printf " %.1f | %.2f |", a, a / b }'
    done
    echo
}
version() { "$@" 2>/dev/null | head -n 1; }

{
    echo "$(uname -sr), $(nproc) processors, $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1); cgroup $([ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] && echo v2 || echo v1);"
    echo "$(version crun --version), $(version runc --version), $(version "$bin/container" --version); $rounds rounds of $runs runs."
    echo
    echo "| command | 60 ms: median, ms | ratio to crun | back to back: median, ms | ratio to crun |"
    echo "|---|---|---|---|---|"
    for entry in "${starts[@]}"; do row "${entry%%|*}" "crun run" "60 ms" "back to back"; done
    echo
    echo "| listing $(find /proc -maxdepth 1 -name '[0-9]*' | wc -l) processes' namespaces | median, ms | ratio to lsns |"
    echo "|---|---|---|"
    for entry in "${lists[@]}"; do row "${entry%%|*}" "lsns" "namespaces"; done
} >"$work/table"
cat "$work/table"
awk -v table="$work/table" '
    /<!-- bench:begin -->/ { print; while ((getline line < table) > 0) print line; skip = 1; next }
    /<!-- bench:end -->/ { skip = 0 }
    !skip' "$output" >"$work/new"
cat "$work/new" >"$output"
