//! Networks that other programs make: CNI plugins, pasta.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use drydock_testkit::{Sandbox, bin, have, is_root, require};
use std::process::{Command, Output};

/// Runs a script in network and mount namespaces of its own, with an empty /run and our tools in $BIN.
fn script(sandbox: &Sandbox, text: &str) -> Output {
    let tools = bin("container");
    let head = "set -e; mount -t tmpfs tmpfs /run; ip link set lo up; export PATH=$BIN:$PATH DRYDOCK_ROOT=/run/dd DRYDOCK_DATA=/run/data\n";
    Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "bash", "-c", &format!("{head}{text}")])
        .env("BIN", tools.parent().unwrap())
        .env("ID", sandbox.unique("cni"))
        .current_dir(sandbox.path())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The plugin is netsetup itself.
const CNI: &str = r#"
mkdir /run/net.d /run/plugins; ln -s "$BIN/netsetup" /run/plugins/
export NETCONFPATH=/run/net.d CNI_PATH=/run/plugins
echo '{"cniVersion":"1.1.0","name":"lab","plugins":[{"type":"netsetup","bridge":"lab0","subnet":"10.78.0.0/24","capabilities":{"portMappings":true}}]}' >/run/net.d/10-lab.conflist
"#;

#[test]
fn a_cni_network_by_name() {
    let sandbox = Sandbox::new();
    require!(is_root() && have("unshare") && have("ip"), "needs root, unshare(1) and ip(8)");
    let run = format!(
        "{CNI}
        container run -d --net cni:lab -p 8088:80 --name $ID -- sleep 1000
        container exec $ID -- cat /proc/net/fib_trie | grep -c 10.78.0.2
        container inspect $ID | grep -o 'cni:lab'
        netsetup --root /run/drydock leases | grep cni-$ID-eth0
        container delete --force $ID
        ! ip link show lab0 2>/dev/null
        test -z \"$(netsetup --root /run/drydock leases | grep cni-)\"
        container run --net cni:nope --name $ID -- true; echo never"
    );
    let output = script(&sandbox, &run);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("no CNI network 'nope'"), "{}", said(&output));
    // A plugin that is not there is named before anything is made.
    let missing = format!("{CNI} CNI_PATH=/nowhere; container run --net cni:lab --name $ID -- true");
    let output = script(&sandbox, &missing);
    assert!(
        output.status.code() == Some(2) && said(&output).contains("CNI plugin 'netsetup'"),
        "{}",
        said(&output)
    );
}

/// Killed while a plugin is at work: the plugin goes on, and what it makes then is collected, too.
#[test]
fn a_plugin_that_outlives_its_caller_leaves_nothing() {
    let sandbox = Sandbox::new();
    let plugins = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
    let there = |dir: &&&str| std::path::Path::new(dir).join("host-local").exists();
    let dir = plugins.iter().find(there);
    require!(is_root() && have("unshare") && have("ip"), "needs root, unshare(1) and ip(8)");
    require!(dir.is_some(), "needs containernetworking-plugins");
    let run = format!(
        r#"mkdir /run/net.d /run/plugins
        export NETCONFPATH=/run/net.d CNI_PATH=/run/plugins:{}
        cat >/run/plugins/late <<'SCRIPT'
#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then touch /run/started; until [ -e /run/go ]; do sleep 0.02; done; fi
{0}/host-local; code=$?
if [ "$CNI_COMMAND" = ADD ]; then touch /run/ended; fi
exit $code
SCRIPT
        chmod +x /run/plugins/late
        echo '{{"cniVersion":"1.0.0","name":"lab","plugins":[{{"type":"bridge","bridge":"lab0","isGateway":true,"ipam":{{"type":"late","dataDir":"/run/leases","ranges":[[{{"subnet":"10.78.0.0/24"}}]]}}}}]}}' >/run/net.d/10-lab.conflist
        leases() {{ find /run/leases -name '10.78.*' | wc -l; }}
        touch /run/go; container run --rm --net cni:lab --name $ID -- true; rm /run/go /run/started /run/ended
        test $(leases) = 0
        container run -d --net cni:lab --name $ID -- sleep 1000 & caller=$!
        until [ -e /run/started ]; do sleep 0.02; done
        for parent in $(ps -eo pid,comm | awk '$2 == "container" {{ print $1 }}'); do
            if tr '\0' ' ' <"/proc/$parent/cmdline" | grep -q "$ID"; then kill -9 "$parent"; fi
        done
        (sleep 0.3; touch /run/go) &
        container gc
        for i in $(seq 400); do if [ -e /run/ended ]; then break; fi; sleep 0.05; done
        test -e /run/ended; test $(leases) = 0
        # The cable dies with the namespace, a little later.
        for i in $(seq 200); do if [ -z "$(ip -o link show type veth)" ]; then break; fi; sleep 0.05; done
        test -z "$(ip -o link show type veth)"
        container gc --check"#,
        dir.unwrap()
    );
    let output = script(&sandbox, &run);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn what_a_killed_owner_has_of_a_cni_network_is_collected() {
    let sandbox = Sandbox::new();
    require!(is_root() && have("unshare") && have("ip"), "needs root, unshare(1) and ip(8)");
    let run = format!(
        "{CNI}
        container run -d --net cni:lab --name $ID -- sleep 1000
        pid=$(container inspect $ID | sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' | head -1)
        kill -9 $(awk '{{ print $4 }}' /proc/$pid/stat)
        while ! container gc --check | grep -q cni; do sleep 0.1; done
        container gc
        test -z \"$(netsetup --root /run/drydock leases | grep cni-)\"
        ! ip link show lab0 2>/dev/null"
    );
    let output = script(&sandbox, &run);
    assert!(output.status.success(), "{}", said(&output));
}
