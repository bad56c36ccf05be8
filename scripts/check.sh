#!/usr/bin/env bash
# `make check`: everything that is checked without running the product. Goes on after a failure, and lists them all.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/cargo.sh

failed=()
step() {
    local name=$1
    shift
    printf '== %s\n' "$name"
    "$@" || failed+=("$name")
}

component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    rustup component add "${2:-$1}" && return
    echo "cargo $1 is missing: install the Rust component ${2:-$1}" >&2
    return 1
}
format() { component fmt rustfmt && cargo fmt --all --check; }
lints() { component clippy && cargo clippy --workspace --all-targets --locked --quiet -- -D warnings; }
rules() { cargo run --quiet --locked -p drydock-check; }
# drydock-check looks for unused dependencies too; cargo-machete is used where it is installed.
machete() { if cargo machete --version >/dev/null 2>&1; then cargo machete; fi; }
# A link to a private item is for those who read the source.
docs() { RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --locked --quiet; }
shells() {
    local file bad=0
    for file in scripts/*.sh scripts/vm/*.sh scripts/conformance/*.sh .ci/run; do
        bash -n "$file" || bad=1
    done
    sh -n scripts/vm/init || bad=1
    return "$bad"
}

step "cargo fmt --check" format
step "cargo clippy -D warnings" lints
step "rules between crates" rules
step "unused dependencies" machete
step "cargo doc -D warnings" docs
step "shell syntax" shells

if [ ${#failed[@]} -gt 0 ]; then
    printf 'check: failed: %s\n' "$(IFS=,; echo "${failed[*]}")" >&2
    exit 1
fi
echo "check: all passed"
