# Sourced by the benchmarks: what they say, and where their tables go.
# shellcheck shell=bash

say() { printf 'bench: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# put_table NAME TABLE FILE: prints the table, and puts it between FILE's lines <!-- NAME:begin --> and <!-- NAME:end -->.
put_table() {
    cat "$2"
    awk -v begin="<!-- $1:begin -->" -v end="<!-- $1:end -->" -v table="$2" '
        index($0, begin) { print; while ((getline line < table) > 0) print line; skip = 1; next }
        index($0, end) { skip = 0 }
        !skip' "$3" >"$2.whole"
    cat "$2.whole" >"$3"
}
