//! SIGKILL at any moment, then `netsetup gc`: nothing half-made is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod common;
use common::{Host, have, on_fresh_host, own_etc, skip};
use std::path::Path;
use std::process::{Command, Stdio};

fn killed_at(host: &Host, call: &str, when: usize, args: &[&str]) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={when}");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, common::TOOL])
        .args(args)
        .env("DRYDOCK_ROOT", &host.root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    !status.success()
}

#[test]
fn killed_at_any_call_leaves_nothing_after_undo() {
    on_fresh_host("killed_at_any_call_leaves_nothing_after_undo", |host| {
        if !have("strace") {
            return skip("killed_at_any_call_leaves_nothing_after_undo", "no strace(1)");
        }
        let attach = ["attach", "n", "--nat", "-p", "8000:80", "--bridge", "br0", "--owner", "n"];
        let mut kills = 0;
        // The VM is emulated: a sample there.
        let stride = if std::env::var_os("DRYDOCK_VM").is_some() { 7 } else { 1 };
        for call in ["sendto", "rename,renameat,renameat2", "openat", "write", "setns", "flock", "close"] {
            for when in (1..60).step_by(stride) {
                host.ok("ns add n");
                let killed = killed_at(host, call, when, &attach);
                kills += usize::from(killed);
                if killed {
                    host.ok("gc");
                    // The namespace was there before and stays; what the killed command made does not, unless it was
                    // killed when all was done.
                    let view = host.json("show");
                    let count = view["links"].as_array().unwrap().len();
                    if count == 3 {
                        assert!(
                            host.run(&attach).out.contains("already"),
                            "{call} {when}: half is left: {view}"
                        );
                    } else {
                        assert!(
                            view["nft"].as_array().unwrap().is_empty() && count == 1,
                            "{call} {when}: {view}"
                        );
                        assert_eq!(host.json("leases").as_array().unwrap().len(), 0, "{call} {when}");
                    }
                    assert!(host.ok("ns list").contains("net:["), "{call} {when}");
                }
                host.ok("undo --owner n");
                host.census();
                if !killed {
                    break;
                }
            }
        }
        for call in ["mount", "unshare", "openat", "write", "clone3,clone"] {
            for when in (1..30).step_by(stride) {
                let killed = killed_at(host, call, when, &["ns", "add", "n"]);
                kills += usize::from(killed);
                host.ok("gc");
                // A last write is that of the result, when all is done.
                assert!(!killed || call == "write" || !host.ok("ns list").contains("n "), "{call} {when}");
                host.ok("undo --owner n");
                host.census();
                if !killed {
                    break;
                }
            }
        }
        // And while it is taken away.
        for call in ["sendto", "rename,renameat,renameat2", "umount2", "unlink,unlinkat", "write"] {
            for when in (1..40).step_by(stride) {
                host.ok("ns add n");
                host.ok("attach n --nat -p 8000:80 --bridge br0");
                let killed = killed_at(host, call, when, &["undo", "--owner", "n"]);
                kills += usize::from(killed);
                host.ok("gc");
                // Killed before it had begun: then all is there.
                if host.ok("ns list").contains("n ") {
                    let again = host.ok("attach n --nat -p 8000:80 --bridge br0");
                    assert!(again.contains("already"), "{call} {when}: half is left: {again}");
                    host.ok("undo --owner n");
                }
                host.census();
                if !killed {
                    break;
                }
            }
        }
        assert!(kills > 60 / stride, "only {kills} kills");
    });
}

const CALLS: [&str; 4] = ["sendto", "rename,renameat,renameat2", "openat", "write"];

/// Kills a command at a sample of its calls, collects, and looks. `after` gets whether it was killed, and takes away what
/// the command has made if it was not killed early enough.
fn kill_everywhere(host: &Host, line: &str, before: &[&str], after: impl Fn(bool)) {
    let words: Vec<&str> = line.split_whitespace().collect();
    // The VM is emulated: fewer there.
    let stride = if std::env::var_os("DRYDOCK_VM").is_some() { 11 } else { 3 };
    let mut kills = 0;
    for (offset, call) in CALLS.into_iter().enumerate() {
        for when in (1 + offset..200).step_by(stride) {
            before.iter().for_each(|line| drop(host.ok(line)));
            let killed = killed_at(host, call, when, &words);
            kills += usize::from(killed);
            host.ok("gc");
            after(killed);
            host.census();
            if !killed {
                break;
            }
        }
    }
    assert!(kills >= CALLS.len(), "only {kills} kills of netsetup {line}");
}

fn rules(host: &Host) -> usize {
    host.json("show")["nft"].as_array().unwrap().len()
}

#[test]
fn a_killed_apply_leaves_nothing() {
    on_fresh_host("a_killed_apply_leaves_nothing", |host| {
        if !have("strace") {
            return skip("a_killed_apply_leaves_nothing", "no strace(1)");
        }
        let text = "[networks.left]\nsubnet = \"10.1.0.0/24\"\nnat = true\n[namespaces.a]\nnetworks = [\"left\"]\npublish = [\"8000:80\"]\n";
        std::fs::write("/run/t.toml", text).unwrap();
        kill_everywhere(host, "apply /run/t.toml", &[], |_| {
            // Killed when all was done, it is whole.
            if host.ok("ns list").contains("a ") {
                let again = host.ok("apply /run/t.toml");
                assert!(again.contains("already") && !again.contains("made"), "half is left: {again}");
                host.ok("undo --owner topology-t");
            }
        });
        std::fs::remove_file("/run/t.toml").unwrap();
    });
}

#[test]
fn a_killed_bridge_or_forward_leaves_nothing() {
    on_fresh_host("a_killed_bridge_or_forward_leaves_nothing", |host| {
        if !have("strace") {
            return skip("a_killed_bridge_or_forward_leaves_nothing", "no strace(1)");
        }
        kill_everywhere(host, "bridge add br7 --addr 10.7.0.1/24", &[], |_| {
            if host.ok("bridge list").contains("br7") {
                assert!(host.ok("bridge add br7 --addr 10.7.0.1/24").contains("already"));
            }
            host.ok("bridge del br7");
        });
        kill_everywhere(host, "forward on 10.9.0.0/24", &[], |_| {
            if rules(host) > 0 {
                assert!(host.ok("forward on 10.9.0.0/24").contains("already"));
            }
            host.ok("forward off 10.9.0.0/24");
        });
        let bridges = ["bridge add br7 --addr 10.7.0.1/24", "bridge add br8 --addr 10.8.0.1/24"];
        bridges.iter().for_each(|line| drop(host.ok(line)));
        let without = rules(host);
        bridges.iter().for_each(|line| drop(host.ok(&line[..14].replace("add", "del"))));
        kill_everywhere(host, "forward allow br7 br8", &bridges, |_| {
            if rules(host) > without || host.forwarding() == "1" {
                assert!(host.ok("forward allow br7 br8").contains("already"));
                host.ok("forward deny br7 br8");
            }
            assert_eq!((rules(host), host.forwarding().as_str()), (without, "0"));
            host.ok("bridge del br7");
            host.ok("bridge del br8");
        });
    });
}

#[test]
fn a_killed_publish_or_dns_leaves_nothing() {
    on_fresh_host("a_killed_publish_or_dns_leaves_nothing", |host| {
        if !have("strace") {
            return skip("a_killed_publish_or_dns_leaves_nothing", "no strace(1)");
        }
        own_etc("nameserver 192.0.2.53\n");
        let before = ["ns add n", "attach n --bridge br0 --subnet 10.1.0.0/24"];
        before.iter().for_each(|line| drop(host.ok(line)));
        let without = rules(host);
        host.ok("ns del n");
        kill_everywhere(host, "publish n 8000:80", &before, |_| {
            if rules(host) != without {
                assert!(host.ok("publish n 8000:80").contains("already"));
                host.ok("unpublish n");
            }
            assert_eq!((rules(host), host.forwarding().as_str()), (without, "0"));
            host.ok("ns del n");
        });
        kill_everywhere(host, "dns n", &before, |_| {
            let dir = Path::new("/etc/netns/n");
            let whole = ["hosts", "resolv.conf"]
                .map(|file| std::fs::read_to_string(dir.join(file)).is_ok_and(|text| text.ends_with('\n')));
            assert!(whole == [true; 2] || !dir.exists(), "{whole:?}");
            host.ok("ns del n");
            assert!(!dir.exists());
        });
    });
}
