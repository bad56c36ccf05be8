#!/usr/bin/env bash
# Fetches Debian's cloud kernel (Linux 6.12, pure cgroup v2) into the cache, and makes an initramfs for it.
# Nothing is installed, and the machine's own package lists and sources stay as they are: apt runs with lists, cache and
# sources of our own. Prints the directory: vmlinuz, initramfs, lib/modules/VERSION.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

kernel=$vm_cache/kernel
suites=("bookworm-backports" "trixie")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Module file names; what they need comes with them. The rest of what containers use is built into Debian's kernel.
modules=(virtio_mmio overlay loop veth bridge br_netfilter dummy tun ifb macvlan ipvlan 8021q vxlan
    nf_tables nft_chain_nat nft_masq nft_ct nft_nat nft_redir nft_limit nft_log nft_reject_inet nft_fib_inet nft_compat
    nft_numgen nft_hash nf_conntrack_netlink xt_comment xt_MASQUERADE xt_conntrack xt_addrtype xt_nat
    sch_tbf sch_htb sch_netem sch_ingress cls_u32 cls_matchall act_mirred act_police
    unix_diag inet_diag tcp_diag udp_diag raw_diag netlink_diag af_packet_diag binfmt_misc)

apt_private() {
    local tool=$1
    shift
    "$tool" -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists" \
        -o Dir::Cache="$apt" -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}

# Downloads the newest cloud kernel of a suite as $apt/*.deb.
download() {
    local suite=$1 package
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main" >"$apt/sources.list"
    apt_private apt-get update >&2 || return 1
    package=$(apt_private apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    [ -n "$package" ] || return 1
    say "downloading $package from Debian $suite (34 MB)"
    (cd "$apt" && apt_private apt-get download "$package" >&2)
}

# Prints the modules and all that they need, each after its needs, as paths relative to lib/modules/VERSION.
closure() {
    awk -v wanted="${modules[*]}" '
        { file = $1; sub(":", "", file); name = file; sub(".*/", "", name); sub("[.]ko.*", "", name); gsub("-", "_", name)
          path[name] = file; needs[file] = ""
          for (i = 2; i <= NF; i++) needs[file] = needs[file] " " $i }
        function visit(file, list, n, i) {
            if (file in seen) return
            seen[file] = 1
            n = split(needs[file], list, " ")
            for (i = n; i >= 1; i--) visit(list[i])
            print file }
        END { count = split(wanted, names, " ")
              for (k = 1; k <= count; k++) if (names[k] in path) visit(path[names[k]]) }' "$1/modules.dep"
}

build_initramfs() {
    local version=$1 root=$kernel/initramfs.d busybox file name
    busybox=$(find_busybox)
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,sys,host,root,modules}
    cp -L "$busybox" "$root/bin/busybox"
    cp "$vm_scripts/init" "$root/init"
    chmod 755 "$root/init"
    local from=$kernel/lib/modules/$version
    "$busybox" depmod -b "$kernel" "$version" >&2
    closure "$from" | while read -r file; do
        name=$(basename "$file")
        name=${name%%.*}.ko
        case $file in
        *.xz) "$busybox" xzcat "$from/$file" >"$root/modules/$name" ;;
        *.ko) cp "$from/$file" "$root/modules/$name" ;;
        *) die "cannot unpack $file" ;;
        esac
        echo "$name" >>"$root/modules/order"
    done
    (cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$kernel/initramfs"
    rm -rf "$root"
}

main() {
    local version apt=$vm_cache/apt
    # The initramfs contains init and the list above: made again when one of them has changed.
    local stamp
    stamp=$(cat "$vm_scripts/init" "$0" | sha256sum)
    if [ -s "$kernel/ready" ] && [ "$(cat "$kernel/ready")" = "$stamp" ]; then
        echo "$kernel"
        return
    fi
    local lacks
    lacks=$(vm_lacks)
    [ -z "$lacks" ] || die "$lacks"
    if [ ! -s "$kernel/vmlinuz" ]; then
        local suite
        for suite in "${suites[@]}"; do
            download "$suite" && break
        done
        compgen -G "$apt/linux-image-*.deb" >/dev/null || die "cannot download Debian's kernel from deb.debian.org"
        rm -rf "$kernel"
        mkdir -p "$kernel"
        dpkg-deb -x "$apt"/linux-image-*.deb "$kernel"
        mv "$kernel"/boot/vmlinuz-* "$kernel/vmlinuz"
        rm -rf "$apt"
    fi
    version=$(ls "$kernel/lib/modules")
    build_initramfs "$version"
    echo "$stamp" >"$kernel/ready"
    echo "$kernel"
}

main
