#!/usr/bin/env bash
# cargo's runner of tests, set by scripts/test.sh: an executable that hangs is ended and run once more; when it hangs again it
# counts as one failure, so that the others still run and the log says which one it was. Seconds: DRYDOCK_TEST_TIMEOUT.
set -u
limit=${DRYDOCK_TEST_TIMEOUT:-600}
# With a terminal the tests stay in its foreground, so that Ctrl-C reaches them; else their whole process group is ended.
[ -t 0 ] && options=(--foreground) || options=()
for attempt in 1 2; do
    timeout "${options[@]}" --kill-after=10 "$limit" "$@"
    code=$?
    case $code in
    124 | 137) printf '\n     %s was ended after %s s (run %s of 2)\n' "$(basename "$1")" "$limit" "$attempt" ;;
    *) exit $code ;;
    esac
done
echo 'test result: FAILED. 0 passed; 1 failed; ended because it hung'
exit 101
