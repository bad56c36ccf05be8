#!/usr/bin/env bash
# In the VM: runs the listed test executables (lines DIRECTORY<tab>EXECUTABLE) and fails if one of them fails.
set -u
. "$(dirname "$0")/../retry.sh"
each=${DRYDOCK_VM_TEST_TIMEOUT:-900}
failed=0
while IFS=$'\t' read -r dir executable; do
    name=$(basename "$executable")
    name=${name%-*}
    echo "     Running in the VM: $name ($(basename "$dir"))"
    "$executable" --list 2>/dev/null | sed -n 's/^\(.*host_only.*\): test$/SKIP \1: host_only, its subject is not in the VM/p'
    log=$(mktemp)
    # One that hangs is ended and run once more as a whole.
    for _ in 1 2; do
        (cd "$dir" && exec timeout --kill-after=10 "$each" "$executable" --test-threads=1 --skip host_only) </dev/null 2>&1 |
            tee "$log" | grep --line-buffered -v '^test result:'
        code=${PIPESTATUS[0]}
        case $code in 124 | 137) echo "     $name was ended after $each s" ;; *) break ;; esac
    done
    if [ "$code" = 101 ] && grep -q '^test result:' "$log"; then
        echo "     Once more: $(failed_tests "$log" | tr '\n' ' ')"
        # shellcheck disable=SC2046
        if (cd "$dir" && exec timeout --kill-after=10 "$each" "$executable" --test-threads=1 --exact $(failed_tests "$log")) </dev/null 2>&1 |
            grep -v '^test result:'; [ "${PIPESTATUS[0]}" = 0 ]; then
            forgive "$log"
            code=0
        fi
    fi
    grep '^test result:' "$log"
    if [ "$code" != 0 ]; then
        failed=1
        # An executable that was ended has no result line: it counts as one failure.
        grep -q '^test result:' "$log" ||
            echo "test result: FAILED. $(grep -c '^test .* ok$' "$log") passed; 1 failed; $name ended with $code (124: $each s were over)"
    fi
    rm -f "$log"
done <"$1"
exit "$failed"
