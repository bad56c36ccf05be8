# Sourced by the scripts that run cargo: every one of them compiles for the same target with the same flags, so that they
# share what is built, and tests run static tools as the product's are (`container run --init` executes the `init` beside
# it inside a root that has no libraries).
# shellcheck shell=bash

triple=$(rustc -vV | sed -n 's/^host: //p')
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
# An explicit target, so that procedural macros, which run in the compiler, are not linked statically.
export CARGO_BUILD_TARGET=$triple
variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$triple")_RUSTFLAGS
export "$variable=-C target-feature=+crt-static -C relocation-model=pic"
unset variable
# Where the development profile's tools are.
bin_dir=${CARGO_TARGET_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target}/$triple/debug
