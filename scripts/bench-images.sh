#!/usr/bin/env bash
# Part of `make bench`: rootfs against umoci, tar and the decompressors alone, by turns, on a Debian-minimal image; programs
# copied with their libraries against ldd(1) and cp(1) in a shell; a container over a shared tree against one over a copy.
# Rewrites the third table of docs/BENCHMARKS.md. The tools are taken from dist/bin.
#   BENCH_DEBIAN=DIR     a Debian root file system [default: made by debootstrap; needs a mirror]
#   BENCH_RUNS=5         how often each is measured
#   BENCH_TMP=DIR        where to work [default: /dev/shm, if 3 GiB are free there: no disk is measured]
#   BENCH_BIN=DIR        another place than dist/bin
#   BENCH_OUTPUT=FILE    another file than docs/BENCHMARKS.md
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${BENCH_RUNS:-5} output=${BENCH_OUTPUT:-docs/BENCHMARKS.md} bin=${BENCH_BIN:-$PWD/dist/bin}

. scripts/bench-lib.sh
[ "$(id -u)" = 0 ] || die "needs root"
[ -x "$bin/rootfs" ] || die "no $bin/rootfs: make build"
for program in umoci tar gzip zstd ldd; do command -v $program >/dev/null || die "no $program: scripts/deps.sh bench"; done
place=${BENCH_TMP:-${TMPDIR:-/tmp}}
if [ -z "${BENCH_TMP:-}" ] && [ "$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }')" -ge 3 ] 2>/dev/null; then place=/dev/shm; fi
# podman takes no upper case in a path.
work=$place/drydock-bench-$$
mkdir -m 700 "$work"
trap 'rm -rf "$work"' EXIT
export DRYDOCK_DATA=$work/data DRYDOCK_ROOT=$work/state
debian=${BENCH_DEBIAN:-$work/debian}
[ -d "$debian" ] || "$bin/rootfs" deb "$debian" --suite stable >/dev/null
for kind in gzip zstd; do "$bin/rootfs" pack "$debian" "oci:$work/img:$kind" --compress $kind >/dev/null; done
layer_file() { # KIND: the largest blob that it has
    local name
    for name in $("$bin/rootfs" inspect --manifest "oci:$work/img:$1" | grep -o 'sha256:[0-9a-f]*' | cut -d: -f2); do
        printf '%s %s\n' "$(stat -c %s "$work/img/blobs/sha256/$name")" "$work/img/blobs/sha256/$name"
    done | sort -n | tail -n 1 | cut -d' ' -f2
}
gz=$(layer_file gzip) zst=$(layer_file zstd)
programs=$(find /usr/bin -maxdepth 1 -type f -perm -1 | sort | while read -r f; do head -c 4 "$f" | grep -q ELF && echo "$f"; done | sed 50q | tr "\n" " " || true)
cat >"$work/ldd.sh" <<'SHELL'
to=$1; shift
for program in "$@"; do
    for file in "$program" $(ldd "$program" 2>/dev/null | grep -o '/[^ )]*'); do
        mkdir -p "$to$(dirname "$file")"; [ -e "$to$file" ] || cp -L "$file" "$to$file"
    done
done
SHELL
names=() commands=()
add() { names+=("$1") commands+=("$2"); }
add "unpack gzip: umoci" "umoci unpack --image $work/img:gzip out"
add "unpack gzip: gzip -dc, tar" "mkdir out && gzip -dc $gz | tar -x --xattrs --numeric-owner -C out"
add "unpack gzip: rootfs" "$bin/rootfs unpack oci:$work/img:gzip out"
if command -v podman >/dev/null; then
    add "unpack gzip: podman pull (vfs)" "podman --root $work/out --runroot $work/run --storage-driver vfs pull -q oci:$work/img:gzip"
fi
add "gzip -dc alone" "gzip -dc $gz >/dev/null"
add "unpack zstd: zstd -dc, tar" "mkdir out && zstd -qdc $zst | tar -x --xattrs --numeric-owner -C out"
add "unpack zstd: rootfs" "$bin/rootfs unpack oci:$work/img:zstd out"
add "zstd -dc alone" "zstd -qdc $zst >/dev/null"
add "50 programs: ldd, cp" "sh $work/ldd.sh $work/out $programs"
add "50 programs: rootfs copy" "$bin/rootfs new out && $bin/rootfs copy out $programs"
if [ -x "$bin/container" ]; then
    "$bin/container" run --rm "oci:$work/img:gzip" true
    add "start over a copy (cp -a)" "cp -a $debian out && $bin/container run --rm --rootfs out -- true"
    add "start over a shared tree" "$bin/container run --rm --image oci:$work/img:gzip -- true"
fi
for ((round = 0; round < runs; round++)); do
    for i in "${!names[@]}"; do
        rm -rf "$work/out"
        start=$(date +%s%N)
        (cd "$work" && sh -c "${commands[$i]}") >/dev/null 2>"$work/errors" || die "${names[$i]}: $(head -n 3 "$work/errors")"
        echo "$i $((($(date +%s%N) - start) / 1000))" >>"$work/values"
    done
done
median() { grep "^$1 " "$work/values" | cut -d' ' -f2 | sort -n | sed -n "$((runs / 2 + 1))p"; }
base=0
{
    echo "$(find "$debian" -xdev | wc -l) files, $(du -sxm "$debian" | cut -f1) MiB; $(umoci --version), $(tar --version | head -n 1), $("$bin/rootfs" --version); medians of $runs runs; on $(stat -f -c %T "$work")."
    printf '\n| what | ms | ratio to the first of its kind |\n|---|---|---|\n'
    last=
    for i in "${!names[@]}"; do
        kind=${names[$i]%%:*}
        case $kind in "gzip -dc alone" | "zstd -dc alone" | "start over a shared tree") kind=$last ;; esac
        [ "$kind" = "$last" ] || base=$(median "$i")
        last=$kind
        echo "| ${names[$i]} | $(awk -v v="$(median "$i")" 'BEGIN { printf "%.0f", v / 1000 }') | $(awk -v a="$(median "$i")" -v b="$base" 'BEGIN { printf "%.2f", a / b }') |"
    done
} >"$work/table"
put_table bench-images "$work/table" "$output"
