#!/usr/bin/env bash
# Installs what is missing for a purpose, with the system's package manager, and says what and why:
#   scripts/deps.sh [build] [demo] [test] [vm] [bench] [engines]      default: build
# Nothing is done for what is there already. Needs root only if something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vm/lib.sh

say() { printf 'deps: %s\n' "$*" >&2; }

manager() {
    local known
    for known in apt-get dnf apk pacman zypper; do
        if command -v "$known" >/dev/null; then
            echo "$known"
            return
        fi
    done
}

# A linker, and a C library to link statically with.
links_statically() {
    local out
    command -v cc >/dev/null || return 1
    out=$(mktemp)
    if ! echo 'int main(void) { return 0; }' | cc -static -x c -o "$out" - 2>/dev/null; then
        rm -f "$out"
        return 1
    fi
    rm -f "$out"
}
has() { command -v "$1" >/dev/null; }
has_qemu() { find_qemu >/dev/null; }
has_virtiofsd() { find_virtiofsd >/dev/null; }
has_busybox() { find_busybox >/dev/null; }

# PURPOSES | test that succeeds when it is there | packages: apt, dnf, apk, pacman, zypper ("-": not needed or not there) | why
needs() {
    cat <<'TABLE'
build|links_statically|gcc libc6-dev|gcc glibc-static|gcc musl-dev|gcc|gcc glibc-devel-static|a linker and the static C library, for cargo
build|has make|make|make|make|make|make|the Makefile
demo,test|has ps|procps|procps-ng|procps|procps-ng|procps|ps, shown inside the container
demo,test|has ip|iproute2|iproute|iproute2|iproute2|iproute2|ip, shown inside the container, and what network tests compare with
test|has nft|nftables|nftables|nftables|nftables|nftables|what network tests compare with
test|has nsenter|util-linux|util-linux|util-linux-misc|util-linux|util-linux|what namespace tests compare with
test|has ping|iputils-ping|iputils|iputils-ping|iputils|iputils|network tests
test|has pasta|passt|passt|passt|passt|passt|networks without root
test|has slirp4netns|slirp4netns|slirp4netns|slirp4netns|slirp4netns|slirp4netns|networks without root, where pasta is missing
test|has strace|strace|strace|strace|strace|strace|tests that kill a run at each of its system calls
test,vm|has_busybox|busybox-static|busybox|busybox-static|busybox|busybox-static|a root file system for tests, and the VM's first program
test|has rsvg-convert|librsvg2-bin|librsvg2-tools|librsvg|librsvg|rsvg-convert|rsvg-convert, which draws monitor's picture
test|has tar|tar|tar|tar|tar|tar|what image tests compare with
test,bench|has umoci|umoci|umoci|umoci|umoci|umoci|what unpacked images are compared with
test|has docker-registry|docker-registry|-|docker-registry|-|-|a registry for tests, on the loopback
test|has openssl|openssl|openssl|openssl|openssl|openssl|certificates for that registry
test,bench|has debootstrap|debootstrap|debootstrap|debootstrap|debootstrap|debootstrap|a Debian root file system for tests
bench|has zstd|zstd|zstd|zstd|zstd|zstd|what unpacking is compared with
vm|has_qemu|qemu-system-x86|qemu-system-x86-core|-|qemu-system-x86|qemu-x86|the VM
vm|has_virtiofsd|qemu-system-common virtiofsd|virtiofsd|-|virtiofsd|virtiofsd|the VM sees this machine's files
engines|has containerd|containerd|containerd|containerd|containerd|containerd|an engine that runs containers through ours
engines|has ctr|containerd|containerd|containerd-ctr|containerd|containerd-ctr|its client
engines|has podman|podman|podman|podman|podman|podman|another engine
engines|has conmon|conmon|conmon|conmon|conmon|conmon|what Podman starts containers with
engines|has dockerd|docker.io|moby-engine|docker-engine|docker|docker|another engine
engines|has docker|docker.io docker-cli|docker-cli|docker-cli|docker|docker|its client
bench|has crun|crun|crun|crun|crun|crun|the runtime to compare with
bench|has cgcreate|cgroup-tools|libcgroup-tools|-|libcgroup|libcgroup-tools|the tools that cgroupctl is compared with
bench|has runc|runc|runc|runc|runc|runc|the other runtime to compare with
bench|has /usr/lib/cni/bridge|containernetworking-plugins|containernetworking-plugins|-|-|cni-plugins|the plugins that netsetup is compared with
TABLE
}

fresh_lists=""
install_packages() {
    local known package
    known=$(manager)
    case $known in
    apt-get)
        # RUNLEVEL: services that a package brings are not started.
        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        if [ -z "$fresh_lists" ]; then apt-get -q update >&2 && fresh_lists=1; fi
        for package in "$@"; do
            # A package that this release does not have (virtiofsd came with Debian 13) is left out.
            apt-cache show "$package" >/dev/null 2>&1 || continue
            apt-get -q install -y --no-install-recommends "$package" >&2 || return 1
        done
        ;;
    dnf) dnf -q -y install "$@" >&2 ;;
    apk) apk add --quiet "$@" >&2 ;;
    pacman) pacman -Sy --noconfirm --needed "$@" >&2 ;;
    zypper) zypper --non-interactive --quiet install "$@" >&2 ;;
    *) return 1 ;;
    esac
}

column() {
    case $(manager) in apt-get) echo 3 ;; dnf) echo 4 ;; apk) echo 5 ;; pacman) echo 6 ;; zypper) echo 7 ;; *) echo 0 ;; esac
}

missing=0
ensure() {
    local purposes=$1 probe=$2 packages=$3 why=$4 must=$5
    $probe && return
    if [ "$packages" = - ] || [ -z "$packages" ]; then
        say "missing: $why; this system's package manager is not known or does not have it"
        missing=$((missing + must))
    elif [ "$(id -u)" != 0 ]; then
        say "missing: $packages ($why); install it, or run this as root"
        missing=$((missing + must))
    else
        say "installing $packages: $why"
        # shellcheck disable=SC2086 # several packages
        install_packages $packages || true
        if ! $probe; then
            say "cannot install $packages ($why)"
            missing=$((missing + must))
        fi
    fi
}

main() {
    local wanted=" ${*:-build} " row purposes probe purpose must col
    col=$(column)
    if ! has cargo; then
        say "missing: Rust (cargo); see https://rustup.rs"
        missing=1
    fi
    while IFS= read -r row; do
        purposes=$(echo "$row" | cut -d'|' -f1)
        probe=$(echo "$row" | cut -d'|' -f2)
        for purpose in ${purposes//,/ }; do
            [[ $wanted == *" $purpose "* ]] || continue
            # Only the build cannot do without; tests and the VM say SKIP themselves.
            must=0
            [ "$purpose" = build ] && must=1
            ensure "$purposes" "$probe" "$([ "$col" = 0 ] || echo "$row" | cut -d"|" -f"$col")" "$(echo "$row" | cut -d'|' -f8)" "$must" </dev/null
            break
        done
    done < <(needs)
    [ "$missing" = 0 ]
}

main "$@"
