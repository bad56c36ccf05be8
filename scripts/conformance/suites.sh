#!/usr/bin/env bash
# How each suite is listed, run and read. Sourced by run.sh; executed inside the sandbox as: suites.sh FUNCTION ARGUMENTS…
# *_groups: a line a group, from the suite's directory. *_run SCRATCH GROUP. *_results GROUP CODE: output → "test<TAB>result".

# youki's contest: the bundle is looked for in the current directory. A test that panics ends the whole group unreported:
# its tests are then run one by one, where the file `tests` (a line a test: group, tab, name) knows them.
contest_groups() { ./contest list 2>/dev/null; }
contest_run() {
    local directory=$PWD test
    mkdir -p "$1/cwd" && cp -n bundle.tar.gz "$1/cwd" && cd "$1/cwd" || return
    contest() { "$directory/contest" run --runtime "$RUNTIME" --runtimetest "$directory/runtimetest" --tests "$1"; }
    contest "$2" && return
    [ -f "$directory/tests" ] || return
    awk -F '\t' -v group="$2" '$1 == group { print $2 }' "$directory/tests" | while IFS= read -r test; do
        case $test in *" "*) continue ;; esac # contest splits its argument at spaces
        contest "$2::$test" || printf '1 / 1 : %s : not ok\n' "$test"
    done
}
contest_results() {
    awk -v OFS='\t' -v group="$1" -v code="$2" '
        match($0, /^[0-9]+ \/ [0-9]+ : .* : (ok|not ok|skipped)$/) {
            result = $0; sub(/.* : /, "", result)
            name = $0; sub(/^[0-9]+ \/ [0-9]+ : /, "", name); sub(/ : (ok|not ok|skipped)$/, "", name)
            print name, result == "ok" ? "pass" : result == "skipped" ? "skip" : "fail"
            seen++
        }
        END { if (!seen) print "(" group ": no result, exit code " code ")", "fail" }'
}

# opencontainers/runtime-tools: a program passes if it ends with 0 and has printed no "not ok".
validation_groups() { for program in validation/*/*.t; do basename "$program" .t; done; }
validation_run() { "validation/$2/$2.t"; }
validation_results() {
    awk -v OFS='\t' -v group="$1" -v code="$2" '
        /^ *not ok/ && !/# (SKIP|TODO)/ { bad = 1 }
        END { print group, code || bad ? "fail" : "pass" }'
}

# runc tests/integration: a .bats file is a group. Half of its tests want a terminal: python's pty gives one.
bats_groups() { for file in tests/integration/*.bats; do basename "$file" .bats; done; }
bats_run() {
    bats --count "tests/integration/$2.bats" | sed 's/^/count /'
    python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' \
        bats --tap "tests/integration/$2.bats" </dev/null | tr -d '\r'
    return "${PIPESTATUS[0]}"
}
bats_results() {
    awk -v OFS='\t' -v group="$1" '
        $1 == "count" { count = $2 }
        /^(ok|not ok) [0-9]+ / {
            skipped = / # skip/; result = /^not/ ? "fail" : skipped ? "skip" : "pass"
            name = $0; sub(/^(ok|not ok) [0-9]+ /, "", name); sub(/ # skip.*/, "", name); sub(/ # timeout.*/, "", name)
            print name, result
            seen++
        }
        END { for (i = seen + 1; i <= count; i++) print "(" group ": test " i " not reported)", "fail" }'
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    function=$1
    shift
    "$function" "$@"
fi
