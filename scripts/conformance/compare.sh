#!/usr/bin/env bash
# Compares tables of run.sh: scripts/conformance/compare.sh NAME=TABLE NAME=TABLE…
# Markdown: totals, a table by group, and for each runtime the tests that fail with it and pass with another.
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: compare.sh NAME=TABLE…" >&2 && exit 2; }
for argument in "$@"; do
    awk -F '\t' -v OFS='\t' -v name="${argument%%=*}" '{ print name, $0 }' "${argument#*=}"
done | awk -F '\t' '
    {
        if (!($1 in known)) { known[$1]; runtimes[++many] = $1 }
        if (!($3 in group)) { group[$3]; groups[++all] = $3 }
        key = $3 ": " $4
        if (!(key in test)) { test[key]; tests[++count] = key }
        result[$1, key] = $5
        n[$1, $3, $5]++; n[$1, "", $5]++
        if ($5 == "pass") passes[key] = passes[key] " " $1
    }
    function cell(runtime, name) { return n[runtime, name, "pass"] + 0 "/" n[runtime, name, "fail"] + 0 "/" n[runtime, name, "skip"] + 0 }
    function row(name, title,   i, line) {
        line = "| " title " |"
        for (i = 1; i <= many; i++) line = line " " cell(runtimes[i], name) " |"
        print line
    }
    END {
        line = "| group (pass/fail/skip) |"; rule = "|---|"
        for (i = 1; i <= many; i++) { line = line " " runtimes[i] " |"; rule = rule "---|" }
        print line; print rule
        for (g = 1; g <= all; g++) row(groups[g], groups[g])
        row("", "**total**")
        for (t = 1; t <= count; t++) if (tests[t] in passes) any++
        print "\npass with at least one: " any + 0
        for (i = 1; i <= many; i++) {
            print "\nfail with " runtimes[i] ", pass with another:\n"
            for (t = 1; t <= count; t++)
                if (result[runtimes[i], tests[t]] == "fail" && tests[t] in passes) print "- " tests[t] " (" substr(passes[tests[t]], 2) ")"
        }
    }'
