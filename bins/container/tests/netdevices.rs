//! `linux.netDevices`: devices of a throw-away host go into a container, as the kernel shows it.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use drydock_testkit::{Output, Sandbox, have, is_root, require};
use serde_json::{Value, json};
use std::process::Command;

/// Two devices with all that goes with them, and some that does not; their peers stay.
const HOST: &str = "\
ip link add nd-one type veth peer name peer-one
ip link add nd-two type veth peer name peer-two
ip link set nd-one mtu 1789 address 02:00:00:00:00:11 alias first
ip addr add 10.9.8.7/24 brd + dev nd-one label nd-one:web
ip addr add 10.9.9.1 peer 10.9.9.2/32 dev nd-one
ip addr add 10.9.7.1/24 dev nd-one scope link
ip addr add 10.9.6.1/24 dev nd-one valid_lft 1000 preferred_lft 1000
ip addr add fd00:9::7/64 dev nd-one nodad
ip link set nd-one up
ip link set peer-one up
";

fn bundle(sandbox: &Sandbox, command: &str, change: impl FnOnce(&mut Value)) {
    let dir = sandbox.join("bundle");
    let root = dir.join("rootfs").display().to_string();
    std::fs::create_dir_all(&dir).unwrap();
    sandbox.run("rootfs", &["new", &root]).success();
    let output = Command::new("sh").args(["-c", "readlink -f \"$(command -v ip)\""]).output().unwrap();
    let ip = String::from_utf8(output.stdout).unwrap().trim().to_string();
    sandbox.run("rootfs", &["copy", &root, &ip]).success();
    let args: Vec<&str> = std::iter::once(ip.as_str()).chain(command.split_whitespace()).collect();
    let mut config = json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "args": args, "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "mount" }],
            "netDevices": { "nd-one": { "name": "net1" } }
        }
    });
    change(&mut config);
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// A script on a host of its own, in which `run` runs the bundle.
fn on_a_host(sandbox: &Sandbox, script: &str) -> Output {
    let run = format!(
        "{} run --bundle bundle {}",
        drydock_testkit::bin("container").display(),
        sandbox.unique("nd")
    );
    let whole = format!("set -e\nrun() {{ {run}; }}\n{HOST}{script}");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &whole]).current_dir(sandbox.path());
    command.env("DRYDOCK_ROOT", sandbox.state()).env("DRYDOCK_DATA", sandbox.data());
    drydock_testkit::run(&mut command)
}

macro_rules! sandbox {
    () => {{
        require!(is_root() && have("ip") && have("unshare"), "needs root, ip and unshare");
        Sandbox::new()
    }};
}

#[test]
fn a_device_goes_with_its_permanent_global_addresses_and_is_up() {
    let sandbox = sandbox!();
    bundle(&sandbox, "addr show dev net1", |_| {});
    let output = on_a_host(&sandbox, "run\nip -o link").success();
    for part in [
        "mtu 1789",
        "link/ether 02:00:00:00:00:11",
        "inet 10.9.8.7/24 brd 10.9.8.255 scope global net1:web",
        "inet 10.9.9.1 peer 10.9.9.2/32 scope global net1",
        "inet6 fd00:9::7/64 scope global",
        ",UP",
    ] {
        assert!(output.stdout.contains(part), "{part}: {}", output.describe());
    }
    for part in ["10.9.7.1", "10.9.6.1"] {
        assert!(!output.stdout.contains(part), "{part}: {}", output.describe());
    }
    assert!(output.stdout.contains("nd-two") && !output.stdout.contains(" nd-one"), "{}", output.describe());
}

#[test]
fn a_joined_namespace_keeps_its_devices_and_numbers_names() {
    let sandbox = sandbox!();
    bundle(&sandbox, "-o link", |config| {
        config["linux"]["netDevices"] =
            json!({ "nd-one": { "name": "net%d" }, "nd-two": { "name": "net%d" } });
        config["linux"]["namespaces"][1]["path"] = json!("/proc/PID/ns/net");
    });
    let script = "\
unshare --net sh -c 'ip link add net0 type veth peer name other; echo ready; exec sleep 100' >fifo & other=$!
read ready <fifo
sed -i s/PID/$other/ bundle/config.json
run
echo AFTER
nsenter -t $other -n ip -o addr show dev net1
nsenter -t $other -n ip -o link show dev net1
nsenter -t $other -n ip -o link show dev net2
ip -o link
kill $other";
    let output = on_a_host(&sandbox, &format!("mkfifo fifo\n{script}")).success();
    let (inside, after) = output.stdout.split_once("AFTER").unwrap();
    assert!(inside.contains(" net1@") && inside.contains(" net2@"), "{}", output.describe());
    assert!(
        after.contains("10.9.8.7/24") && after.contains("alias first") && !after.contains("nd-"),
        "{}",
        output.describe()
    );
}

#[test]
fn what_cannot_go_is_refused_and_everything_stays() {
    for (devices, says) in [
        (json!({ "nd-one": {}, "nd-zero": {} }), "/linux/netDevices/nd-zero: no network device 'nd-zero'"),
        (
            json!({ "nd-one": {}, "nd-two": { "name": "nd-one" } }),
            "/linux/netDevices/nd-two: a second device",
        ),
        (json!({ "nd-one": {}, "nd-two": { "name": "a/b" } }), "/linux/netDevices/nd-two/name"),
        (json!({ "nd-one": {}, "lo": { "name": "net2" } }), "/linux/netDevices/lo"),
    ] {
        let sandbox = sandbox!();
        bundle(&sandbox, "link", |config| config["linux"]["netDevices"] = devices);
        let output = on_a_host(
            &sandbox,
            "run && exit 9\necho code $?\nip -o addr show dev nd-one\nip -o link show nd-two",
        );
        let output = output.success().says(says).stdout_has("code 2").stdout_has("nd-two");
        // An address that would not have gone along: the device has never moved.
        output.stdout_has("10.9.6.1");
    }
}

#[test]
fn a_name_that_is_taken_inside_is_refused() {
    let sandbox = sandbox!();
    bundle(&sandbox, "link", |config| {
        config["linux"]["namespaces"][1]["path"] = json!("/proc/PID/ns/net");
        config["linux"]["netDevices"] = json!({ "nd-one": {}, "nd-two": { "name": "net1" } });
    });
    let script = "\
mkfifo fifo
unshare --net sh -c 'ip link add net1 type veth peer name other; echo ready; exec sleep 100' >fifo & other=$!
read ready <fifo
sed -i s/PID/$other/ bundle/config.json
code=0; run || code=$?
kill $other
echo code $code; ip -o addr show dev nd-one; ip -o link show nd-two";
    let output = on_a_host(&sandbox, script).success();
    output
        .says("/linux/netDevices/nd-two: the container has a network device 'net1' already")
        .stdout_has("code 2")
        .stdout_has("10.9.6.1");
}

#[test]
fn what_has_moved_comes_back_when_another_cannot_go() {
    let sandbox = sandbox!();
    bundle(&sandbox, "link", |config| {
        config["linux"]["namespaces"][1]["path"] = json!("/proc/PID/ns/net");
        config["linux"]["netDevices"] = json!({ "nd-one": { "name": "net1" }, "nd-two": { "name": "net2" } });
    });
    // A second address of the old kind goes first; in a namespace without IPv6 the second device's address cannot.
    let script = "\
ip addr del fd00:9::7/64 dev nd-one
ip addr add fd00:8::7/64 dev nd-two nodad
mkfifo fifo
unshare --net sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; echo ready; exec sleep 100' >fifo & other=$!
read ready <fifo
sed -i s/PID/$other/ bundle/config.json
code=0; run || code=$?
echo code $code; ip addr show dev nd-one; ip link show dev nd-one; ip addr show dev nd-two
echo THERE; nsenter -t $other -n ip -o link
kill $other";
    let output = on_a_host(&sandbox, script).success().says("IPv6 is off").stdout_has("code 125");
    let (here, there) = output.stdout.split_once("THERE").unwrap();
    for part in [
        "nd-one@",
        "10.9.8.7/24 brd 10.9.8.255 scope global nd-one:web",
        "alias first",
        "mtu 1789",
        ",UP",
        "fd00:8::7/64",
    ] {
        assert!(here.contains(part), "{part}: {}", output.describe());
    }
    assert!(!there.contains("net1") && !there.contains("nd-"), "{}", output.describe());
}

#[test]
fn a_plan_shows_each_device() {
    let sandbox = sandbox!();
    bundle(&sandbox, "link", |_| {});
    let plan = format!("{} plan --bundle bundle", drydock_testkit::bin("container").display());
    let output = on_a_host(&sandbox, &format!("{plan}\necho JSON\n{plan} --json")).success();
    let (text, json) = output.stdout.split_once("JSON\n").unwrap();
    assert!(text.contains("RTM_NEWLINK nd-one netns PID name net1"), "{}", output.describe());
    let plan: Value = serde_json::from_str(json).unwrap();
    let stages = plan["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["stage"] == "network-devices").unwrap();
    assert_eq!(stage["request"]["devices"], json!({ "nd-one": "net1" }));
    // What a run would refuse, its plan refuses, too.
    sandbox.run("container", &["plan", "--bundle", "bundle"]).fails_with(2).says("/linux/netDevices/nd-one");
}
