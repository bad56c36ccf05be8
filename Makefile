# `make` or `make help` lists what there is. Everything works from a fresh clone with Rust and git.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo test vm-test bench check docs install uninstall clean deps

PREFIX ?= /usr/local
DESTDIR ?=
TOOLS := init netsetup rootfs cgroupctl joinns monitor container

# One static file a tool, for any distribution: musl where rustup has it for this machine and musl-gcc is there (the
# decompressors are C), else glibc. The flags go with
# an explicit --target, so that procedural macros, which run in the compiler, are not linked statically, and
# `cargo build` and `cargo test` stay as they are.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
MUSL := $(shell command -v musl-gcc >/dev/null && rustup target list --installed 2>/dev/null | grep -x "$(firstword $(subst -, ,$(HOST)))-unknown-linux-musl")
TARGET ?= $(or $(MUSL),$(HOST))
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
RUSTFLAGS_VARIABLE := CARGO_TARGET_$(shell echo "$(TARGET)" | tr 'a-z-' 'A-Z_')_RUSTFLAGS
STATIC := -C target-feature=+crt-static -C relocation-model=pic
# Relative relocations packed (RELR): a third of a MiB less to read at each start. Tried, because C libraries before
# glibc 2.36 and musl 1.2.4 do not know them.
RELR := -C link-arg=-Wl,-z,pack-relative-relocs
RELR_WORKS = $(shell d=$$(mktemp -d) && echo 'fn main() { println!("{:?}", std::env::args()) }' | \
	rustc --crate-name relr --target $(TARGET) $(STATIC) $(RELR) -o $$d/relr - 2>/dev/null && $$d/relr >/dev/null && echo yes; rm -rf $$d)
# What `container --version` says that it was built from.
export DRYDOCK_COMMIT ?= $(shell git describe --always --abbrev=40 --exclude '*' --dirty 2>/dev/null)
RELEASE = env -u RUSTFLAGS $(RUSTFLAGS_VARIABLE)="$(STATIC)$(if $(RELR_WORKS), $(RELR))" \
	cargo build --release --locked --target $(TARGET)
DIST := dist/bin
SHARE := dist/share

help: ## show this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

deps: ## install what the build needs and this machine lacks (a linker, the static C library)
	@scripts/deps.sh build

build: deps ## build the seven tools, statically linked, into dist/bin
	$(RELEASE) $(foreach tool,$(TOOLS),-p drydock-$(tool))
	@mkdir -p $(DIST)
	@for tool in $(TOOLS); do install -m 755 "$(TARGET_DIR)/$(TARGET)/release/$$tool" "$(DIST)/$$tool"; done
	@# What was just written is cached in big pieces, which the kernel maps whole; read again it is cached in small ones.
	@for tool in $(TOOLS); do sync "$(DIST)/$$tool" && dd if="$(DIST)/$$tool" of=/dev/null iflag=nocache count=0 status=none; done 2>/dev/null || true
	@echo "built $(TOOLS) in $(DIST)"

demo: ## run one container through every stage, as root; needs no network, image or daemon
	@scripts/deps.sh build demo
	@$(MAKE) --no-print-directory build
	@$(DIST)/container demo

test: ## run all tests here, then the integration tests in the VM; ends with a total
	@scripts/deps.sh build test vm
	@scripts/test.sh host vm

vm-test: ## run the integration tests in a virtual machine with pure cgroup v2
	@scripts/deps.sh build test vm
	@scripts/test.sh vm

bench: ## measure against crun and runc, into docs/BENCHMARKS.md
	@scripts/deps.sh build bench
	@$(MAKE) --no-print-directory build
	@scripts/bench.sh
	@for part in cgroups images network monitor; do scripts/bench-$$part.sh || echo "bench: $$part: not measured, see above" >&2; done

check: ## formatting, lints, rules between crates, unused dependencies, docs, shell syntax
	@scripts/check.sh

docs: deps ## write man pages and shell completions into dist/share
	@. scripts/cargo.sh && cargo run --quiet --locked -p drydock-docs -- $(SHARE)

install: build docs ## install tools, man pages and completions under PREFIX (default /usr/local); DESTDIR for packages
	@init="$(DESTDIR)$(PREFIX)/bin/init"; if [ -e "$$init" ] && ! "$$init" --version 2>/dev/null </dev/null | grep -q '^init [0-9]'; then \
		echo "install: $$init is another program, perhaps the system's own init: choose another PREFIX" >&2; exit 1; fi
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(addprefix $(DIST)/,$(TOOLS)) "$(DESTDIR)$(PREFIX)/bin/"
	cd $(SHARE) && find . -type f -exec install -D -m 644 {} "$(abspath $(DESTDIR)$(PREFIX))/share/{}" \;

uninstall: ## remove what install put there
	rm -f $(addprefix "$(DESTDIR)$(PREFIX)"/bin/,$(TOOLS))
	if [ -d $(SHARE) ]; then cd $(SHARE) && find . -type f -exec rm -f "$(abspath $(DESTDIR)$(PREFIX))/share/{}" \; ; fi

clean: ## remove everything that was built or downloaded for the build and the VM
	cargo clean --quiet
	rm -rf dist
