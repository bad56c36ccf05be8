#!/usr/bin/env bash
# Runs the tests, tier by tier, and ends with a total:
#   scripts/test.sh [host] [vm]      default: both
# host: unit tests, each tool's own tests, and the tests across tools (those that need root say SKIP without it).
# vm:   the integration tests again in a virtual machine with pure cgroup v2.
# With CI_STRICT=1 a skipped test whose reason does not hold on this machine is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/vm/lib.sh
. scripts/cargo.sh
. scripts/retry.sh

tiers=${*:-host vm}
logs=$target_dir/test-logs
mkdir -p "$logs"
broken=()

tier() {
    local name=$1
    shift
    "$@" 2>&1 | tee "$logs/$name.log"
    local code=${PIPESTATUS[0]}
    if [ "$name" = host ] && [ "$code" = 101 ] && grep -q '^test result: FAILED' "$logs/host.log"; then
        echo "     Once more: $(failed_tests "$logs/host.log" | tr '\n' ' ')"
        # shellcheck disable=SC2046
        if cargo test --workspace --locked --no-fail-fast -- --test-threads=1 --exact $(failed_tests "$logs/host.log") >"$logs/again.log" 2>&1; then
            forgive "$logs/host.log"
            code=0
        else
            cat "$logs/again.log"
        fi
    fi
    # A failed test is counted by its result line; what failed without one (a compile error, the VM) counts here.
    if [ "$code" != 0 ] && ! grep -q '^test result: FAILED' "$logs/$name.log"; then broken+=("$name"); fi
}

# The sum of the numbers before a word in all result lines of the tiers.
sum() {
    local word=$1 name total=0
    for name in $tiers; do
        total=$((total + $(sed -n "s/^test result:.* \([0-9]*\) $word.*/\1/p" "$logs/$name.log" | awk '{ n += $1 } END { print n + 0 }')))
    done
    echo "$total"
}

# All tools and tests at once; tests across tools find the tools there and need not build them.
cargo build --workspace --all-targets --locked || broken+=("build")
export DRYDOCK_BIN_DIR=$bin_dir
export "CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$triple")_RUNNER=$PWD/scripts/limit.sh"

for name in $tiers; do
    rm -f "$logs/$name.log"
    case $name in
    host) tier host cargo test --workspace --locked --no-fail-fast ;;
    vm) tier vm scripts/vm/test.sh ;;
    *) die "no such tier: $name (allowed: host, vm)" ;;
    esac
done

skips=$(for name in $tiers; do sed -n "s/^.*SKIP /SKIP ($name) /p" "$logs/$name.log"; done)
unexplained=""
[ "${CI_STRICT:-}" = 1 ] && unexplained=$(printf '%s\n' "$skips" | scripts/explain-skips.sh)
echo
[ -n "$skips" ] && printf '%s\n' "$skips"
for name in "${broken[@]}"; do echo "BROKEN: the $name (tier) ended without a result"; done
[ -n "$unexplained" ] && printf 'skipped although this machine can run it:\n%s\n' "$unexplained"

passed=$(sum passed)
failed=$(($(sum failed) + ${#broken[@]}))
[ -n "$unexplained" ] && failed=$((failed + $(printf '%s\n' "$unexplained" | wc -l)))
echo "total: $passed passed, $failed failed, $(printf '%s' "$skips" | grep -c SKIP) skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
