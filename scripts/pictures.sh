#!/usr/bin/env bash
# Makes docs/top.txt and docs/graph.svg, which README.md shows, from a real run: four containers in a network and a mount
# namespace of their own, so that nothing of this machine is in the picture. Needs root, ip, and the tools in dist/bin.
#   BIN=DIR   other tools than dist/bin's
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-$PWD/dist/bin}
[ "$(id -u)" = 0 ] || { echo "pictures: needs root" >&2; exit 1; }
if [ -z "${PICTURES_INSIDE:-}" ]; then
    exec env PICTURES_INSIDE=1 unshare --mount --net --pid --fork --mount-proc --propagation private "$0"
fi
# Namespaces that others have mounted are not of this picture; the mount namespace is our own.
umount -a -t nsfs || true
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip link set lo up
export DRYDOCK_ROOT=/run/drydock DRYDOCK_DATA=/run/data
names=(web db job cache)
finish() { "$bin/container" delete --force "${names[@]}" >/dev/null 2>&1 || true; }
trap finish EXIT
start() { "$bin/container" run -d "$@" >/dev/null; }
start --net bridge --name web --cpus 0.5 --memory 100M -p 8080:80 -v /srv:/srv:ro -- sh -c 'while :; do sleep 0.1; done'
start --net bridge --name db --memory 200M --userns auto -- sh -c 'x=$(head -c 20000000 /dev/zero | tr "\0" x); sleep 1000'
start --name job --cpus 0.3 --memory 50M --pids 20 -- sh -c 'while :; do :; done'
start --net bridge --name cache --memory 64M --read-only -- sleep 1000
ip netns add spare
# Pressure is an average of ten seconds.
sleep 8
"$bin/monitor" top --snapshot 112x30 --containers --details --interval 2s >docs/top.txt
"$bin/monitor" graph --output docs/graph.svg
ip netns delete spare
