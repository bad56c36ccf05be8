#!/usr/bin/env bash
# scripts/hot.sh BUNDLE: makes bins/container/hot.ld anew, the list of functions that a container's start runs. BUNDLE is one
# whose command ends at once. As root, on x86-64; needs a release build with symbols, which it makes. Only worth while when
# much of `container` has changed: names that are no more do no harm.
set -euo pipefail
cd "$(dirname "$0")/.."
bundle=$(realpath "${1:?which BUNDLE?}")
. scripts/cargo.sh
CARGO_PROFILE_RELEASE_STRIP=none cargo build --quiet --release --locked -p drydock-container
program=${bin_dir%/debug}/release/container

work=$(mktemp -d)
export DRYDOCK_ROOT=$work/state DRYDOCK_DATA=$work/data
trap '"$program" delete --force hot >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
cc -O2 -Wno-unused-result -o "$work/trace" scripts/hot/trace.c
trace() { "$work/trace" "$program" "$@" >>"$work/ran"; }

# What begins with the fewest comes first, so that it stays together.
"$program" create --bundle "$bundle" hot </dev/null >/dev/null 2>&1
trace start hot
trace state hot
trace delete --force hot
# The created container is traced until it executes its command.
trace create --bundle "$bundle" hot &
tracer=$!
for _ in $(seq 100); do "$program" state hot 2>/dev/null | grep -q '"created"' && break || sleep 0.1; done
"$program" start hot
wait "$tracer"
"$program" delete --force hot
trace run --bundle "$bundle" hot
"$program" create --bundle "$bundle" hot </dev/null >/dev/null 2>&1
trace exec hot /bin/true
"$program" delete --force hot

# Symbols without what differs between builds: of several functions of one name, as generic ones are, all are meant. Those of
# which too little is run are left out, or come last. The C library's by the archive's members.
plain() { sed -E -e 's/17h[0-9a-f]{16}E(\.llvm\.[0-9]+)?$/17h*/' -e 's/Cs[0-9A-Za-z]+_/Cs*_/g' -e 's/\.llvm\.[0-9]+$/*/'; }
nm -S -t d "$program" | awk '$3 ~ /[tTWi]/ { print $2 + 0, $4 }' | sort -u -k2,2 | plain >"$work/sizes.all"
awk 'NR == FNR { ran[$0] = 1; next } $2 in ran' "$work/ran" <(nm -S -t d "$program" | awk '$3 ~ /[tTWi]/ { print $2 + 0, $4 }' | sort -u -k2,2) | plain >"$work/sizes.ran"
for archive in "$(dirname "$(cc -print-file-name=libc.a)")"/lib{c,m,m-*}.a; do
    { nm -A "$archive" 2>/dev/null || true; } | awk -F: -v archive="$(basename "$archive" | sed 's/[-.].*//')" '{
        split($3, word, " "); if (word[3] != "" && !seen[word[3]]++) print word[3], archive, $2 }'
done >"$work/members"
awk '!seen[$0]++' "$work/ran" | plain | awk '!seen[$0]++' >"$work/names"
awk -v sizes="$work/sizes.all" -v ran="$work/sizes.ran" -v members="$work/members" '
    BEGIN {
        while ((getline <sizes) > 0) all[$2] += $1
        while ((getline <ran) > 0) used[$2] += $1
        while ((getline <members) > 0) if (!($1 in member)) member[$1] = $2 "*.a:" $3
    }
    /^(_ZN|_R)/ {
        if (all[$0] > 100000 && all[$0] > 4 * used[$0]) next
        line = "    *(.text." $0 " .text.unlikely." $0 ")\n"
        if (all[$0] > 1.5 * used[$0] && all[$0] > 3000) last = last line; else printf "%s", line
        next
    }
    ($1 in member) && !seen[member[$1]]++ { libc = libc "    *" member[$1] "(.text .text.*)\n" }
    END { printf "    *crt*.o(.text .text.*)\n    *(.text.main)\n%s%s", libc, last }' "$work/names" >"$work/list"
{
    sed -n '/^SECTIONS/q; p' bins/container/hot.ld
    printf 'SECTIONS\n{\n  .text.hot :\n  {\n'
    cat "$work/list"
    printf '  }\n}\nINSERT BEFORE .text;\n'
} >"$work/hot.ld"
cp "$work/hot.ld" bins/container/hot.ld
