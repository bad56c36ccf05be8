#!/usr/bin/env bash
# `make vm-test`: runs the integration tests that were built on this machine inside the VM, as root, one after another.
# The list is what cargo says it has built; a test with host_only in its name is left out and says so.
#   scripts/vm/test.sh [CARGO OPTIONS]   for example -p drydock-init, or --test lifecycle; default --workspace
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$repo/scripts/cargo.sh"

selection=("${@:---workspace}")
lacks=$(vm_lacks)
if [ -n "$lacks" ]; then
    echo "SKIP vm: $lacks" >&2
    exit 0
fi
"$vm_scripts/kernel.sh" >/dev/null

# One line each: the package's directory, the executable. cargo prints one JSON object a line.
list=$(mktemp "$vm_cache/tests.XXXXXX")
trap 'rm -f "$list" "$list".*' EXIT
(cd "$repo" && cargo build --workspace --locked --all-targets && cargo test "${selection[@]}" --locked --no-run --message-format=json) |
    sed -n 's|.*"manifest_path":"\([^"]*\)/Cargo.toml","target":{"kind":\["test"\].*"executable":"\([^"]*\)".*|\1\t\2|p' >"$list"
[ -s "$list" ] || die "no integration tests are built by: cargo test ${selection[*]}"

export DRYDOCK_BIN_DIR=$bin_dir
# An emulated machine uses one processor here: two machines, with every second executable each, use two.
split() { awk -v n="$1" 'NR % 2 == n' "$list" >"$list.$1"; }
guest() {
    [ -s "$list.$1" ] || return 0
    "$vm_scripts/run.sh" --timeout "${DRYDOCK_VM_TIMEOUT:-3300}" -- bash "$vm_scripts/guest-tests.sh" "$list.$1"
}
split 0
split 1
guest 0 >"$list.out" 2>&1 &
other=$!
failed=0
guest 1 || failed=$?
wait "$other" || failed=$?
cat "$list.out"
exit "$failed"
