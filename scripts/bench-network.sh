#!/usr/bin/env bash
# `make bench`, the network: a namespace with a veth pair, bridge port, address, default route and NAT, set up and torn down, by
# netsetup, by netsetup as a CNI plugin, by ip(8) and nft(8), and by Debian's CNI plugins bridge and host-local. By turns, in a
# network namespace of its own. Prints tables.
#   BENCH_RUNS=25   rounds        BENCH_BIN=DIR   the tools; default dist/bin      CNI_PATH=DIR  the plugins; default /usr/lib/cni
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${BENCH_RUNS:-25}
bin=${BENCH_BIN:-$PWD/dist/bin}
plugins=${CNI_PATH:-/usr/lib/cni}
. scripts/bench-lib.sh
[ "$(id -u)" = 0 ] || die "needs root"
for tool in ip nft unshare "$bin/netsetup" "$plugins/bridge" "$plugins/host-local"; do
    command -v "$tool" >/dev/null || die "no $tool (apt install iproute2 nftables containernetworking-plugins; make build)"
done
[ -n "${BENCH_INSIDE:-}" ] || exec env BENCH_INSIDE=1 unshare --net --mount --propagation private bash "$0"

mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/plugins
mount --bind /run/netns /run/netns
mount --make-shared /run/netns
ln -s "$bin/netsetup" /run/plugins/netsetup
ip link set lo up
export DRYDOCK_ROOT=/run/drydock-bench PATH=$bin:$PATH

netsetup bridge add brn --addr 10.1.0.1/16 >/dev/null
ip link add bri type bridge
ip addr add 10.2.0.1/16 dev bri
ip link set bri up
nft 'add table ip bench; add chain ip bench post { type nat hook postrouting priority srcnat; }'

config() { printf '{"cniVersion":"1.0.0","name":"%s","type":"%s","bridge":"%s","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","dataDir":"/run/leases","ranges":[[{"subnet":"%s"}]],"routes":[{"dst":"0.0.0.0/0"}]}}' "$@"; }
plugin() { CNI_COMMAND=$1 CNI_CONTAINERID=x CNI_NETNS=/run/netns/x CNI_IFNAME=eth0 CNI_PATH=$plugins "$2" <<<"$3" >/dev/null; }
bridge_config=$(config chain bridge brc 10.3.0.0/16)
own_config=$(config own netsetup bro 10.4.0.0/16)

up_netsetup() {
    netsetup ns add x >/dev/null
    netsetup attach x --bridge brn --nat >/dev/null
}
down_netsetup() { netsetup ns del x >/dev/null; }
up_plugin() { plugin ADD /run/plugins/netsetup "$own_config"; }
down_plugin() { plugin DEL /run/plugins/netsetup "$own_config"; }
up_chain() { plugin ADD "$plugins/bridge" "$bridge_config"; }
down_chain() { plugin DEL "$plugins/bridge" "$bridge_config"; }
up_ip() {
    ip netns add x
    ip link add v0 type veth peer name eth0 netns x
    ip link set v0 master bri up
    ip -n x addr add 10.2.0.2/16 dev eth0
    ip -n x link set lo up
    ip -n x link set eth0 up
    ip -n x route add default via 10.2.0.1
    nft add rule ip bench post ip saddr 10.2.0.2 ip daddr != 10.2.0.0/16 masquerade
}
down_ip() {
    nft flush chain ip bench post
    ip link del v0
    ip netns del x
}
now() { echo "${EPOCHREALTIME/[.,]/}"; }
declare -A up down
measure() {
    local name=$1 begin middle
    case $name in plugin | chain) ip netns add x ;; esac
    begin=$(now)
    "up_$name"
    middle=$(now)
    "down_$name"
    down[$name]+="$(($(now) - middle)) "
    up[$name]+="$((middle - begin)) "
    case $name in plugin | chain) ip netns del x ;; esac
}
median() { tr ' ' '\n' <<<"$1" | sed '/^$/d' | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for ((i = 0; i <= runs; i++)); do
    for name in netsetup plugin ip chain; do measure "$name"; done
    # The first round warms up.
    [ "$i" != 0 ] || up=() down=()
done
chain=$(($(median "${up[chain]}") + $(median "${down[chain]}")))
echo "| | set up, ms | torn down, ms | both, against the CNI plugins |"
echo "|---|---|---|---|"
for name in netsetup plugin ip chain; do
    case $name in
    netsetup) what="\`netsetup ns add\`, \`attach --nat\`; \`ns del\` (the namespace too)" ;;
    plugin) what="\`netsetup\` as a CNI plugin: ADD; DEL" ;;
    ip) what="\`ip\` and \`nft\`, eight commands; three (the namespace too)" ;;
    chain) what="CNI \`bridge\` with \`host-local\` and ipMasq: ADD; DEL" ;;
    esac
    awk -v w="$what" -v u="$(median "${up[$name]}")" -v d="$(median "${down[$name]}")" -v c="$chain" \
        'BEGIN { printf "| %s | %.1f | %.1f | %.2f |\n", w, u / 1000, d / 1000, (u + d) / c }'
done

# A hundred in a row: the last ten take as long as the first ten, or the growth is worse than linear.
times=()
for ((i = 0; i < 100; i++)); do
    begin=$(now)
    netsetup ns add "n$i" >/dev/null
    netsetup attach "n$i" --bridge brn --nat >/dev/null
    times+=($(($(now) - begin)))
done
first=$(median "${times[*]:0:10}") last=$(median "${times[*]:90:10}")
awk -v f="$first" -v l="$last" 'BEGIN { printf "\n100 namespaces in a row: %.1f ms each among the first ten, %.1f ms among the last ten (median).\n", f / 1000, l / 1000 }'
