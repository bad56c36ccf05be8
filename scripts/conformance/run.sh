#!/usr/bin/env bash
# Runs one of the public conformance suites against a runtime, and writes a table of its results:
#   scripts/conformance/run.sh RUNTIME SUITE DIRECTORY TABLE [GROUP…]
# SUITE is contest, validation or bats; README.md beside this file says what DIRECTORY must hold. Without GROUP, all.
# TABLE gets a line a test (suite, group, test, pass|fail|skip), TABLE.log everything that was printed.
# Each group is one process with a time limit, in mount, pid, network, ipc and cgroup namespaces of its own, so that one
# that panics or hangs ends alone and none leaves anything on the machine.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/suites.sh"

die() { printf 'conformance: %s\n' "$*" >&2 && exit 2; }
[ $# -ge 4 ] || die "usage: run.sh RUNTIME contest|validation|bats DIRECTORY TABLE [GROUP…]"
[ "$(id -u)" = 0 ] || die "the suites need root"
runtime=$(readlink -f "$(command -v "$1")") suite=$2 directory=$(readlink -f "$3") table=$4
[ -x "$runtime" ] || die "$1 cannot be executed"
case $suite in contest | validation | bats) ;; *) die "no suite $suite (allowed: contest, validation, bats)" ;; esac
shift 4

# A suite counts descriptors: what this shell was started with is not the runtime's.
for fd in /proc/$$/fd/*; do
    n=${fd##*/}
    [ "$n" -gt 2 ] && [ "$n" -ne 255 ] && eval "exec $n>&-"
done

limit=${CONFORMANCE_LIMIT:-300}
scratch=$(mktemp -d /tmp/cf.XXXXXX)
trap 'rm -rf --one-file-system "$scratch"' EXIT
export RUNTIME=$runtime RUNTIME_KIND=other RUNC=$runtime TMPDIR=$scratch/tmp HOME=${HOME:-/root}
: >"$table" && : >"$table.log"

# One group, in a sandbox; its output goes to stdout.
group() {
    mkdir -p "$scratch/tmp" && chmod 1777 "$scratch/tmp" && chmod 755 "$scratch"
    (cd "$directory" && "$here/sandbox.sh" "$limit" "$here/suites.sh" "${suite}_run" "$scratch" "$@" 2>&1 </dev/null) | tr -d "\\000"
    local code=${PIPESTATUS[0]}
    rm -rf --one-file-system "$scratch/tmp"
    return "$code"
}

groups=("$@")
if [ ${#groups[@]} = 0 ]; then
    mkdir -p "$TMPDIR"
    mapfile -t groups <<<"$(cd "$directory" && "${suite}_groups")"
fi
[ -n "${groups[0]}" ] || die "no test found in $directory"
for name in "${groups[@]}"; do
    output=$(group "$name")
    code=$?
    printf '=== %s %s (exit code %d)\n%s\n' "$suite" "$name" "$code" "$output" >>"$table.log"
    # Names of tests are the suite's: what it says it has and has not reported did not pass.
    printf '%s\n' "$output" | "${suite}_results" "$name" "$code" |
        awk -v OFS='\t' -v suite="$suite" -v group="$name" -F '\t' '{ print suite, group, $1, $2 }' | tee -a "$table"
done
awk -F '\t' -v name="$(basename "$runtime")" '{ n[$4]++ } END {
    printf "total: %s: %d passed, %d failed, %d skipped\n", name, n["pass"], n["fail"], n["skip"] }' "$table" | tee -a "$table.log" >&2
