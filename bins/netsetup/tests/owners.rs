//! Whose everything is, and that all of it goes: bad input, names, repetition, SIGKILL at any moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod common;
use common::{files, have, on_fresh_host, skip};
use std::process::{Command, Stdio};

#[test]
fn bad_input_is_one_sentence_and_touches_nothing() {
    on_fresh_host("bad_input_is_one_sentence_and_touches_nothing", |host| {
        host.ok("ns add n");
        std::fs::write("/run/plain", "x").unwrap();
        let before = files(&host.root);
        for line in [
            "ns add ..",
            "ns add a/b",
            "ns del ..",
            "ns exec missing true",
            "ns pids missing",
            "ns identify -1",
            "ns identify 999999999",
            "ns exec /run/plain true",
            "ns exec /proc/self/ns/mnt true",
            "attach missing --bridge br0",
            "attach /run/plain --bridge br0",
            "attach /proc/self/ns/net --bridge br0",
            "attach n --bridge abcdefghijklmnop",
            "attach n --bridge ..",
            "attach n --bridge a/b",
            "attach n --bridge a:b",
            "attach n --bridge br%d",
            "attach n --bridge lo",
            "attach n --bridge br0 --no-create",
            "attach n --bridge br0 --addr 10.0.0.0/24",
            "attach n --bridge br0 --addr 10.0.0.255/24",
            "attach n --bridge br0 --addr 10.0.0.1/33",
            "attach n --bridge br0 --addr 10.0.0",
            "attach n --bridge br0 --addr ::1/64",
            "attach n --bridge br0 --addr fe80::1/64",
            "attach n --bridge br0 --addr 0.0.0.0/8",
            "attach n --bridge br0 --addr 10.0.0.2/24 --gateway 10.1.0.1",
            "attach n --bridge br0 --addr 10.0.0.2/24 --gateway 10.0.0.2",
            "attach n --bridge br0 --addr 10.0.0.1/24",
            "attach n --bridge br0 --mtu 0",
            "attach n --bridge br0 --mtu 67",
            "attach n --bridge br0 --mtu 70000",
            "attach n --bridge br0 --mtu abc",
            "attach n --bridge br0 --mac 01:00:00:00:00:01",
            "attach n --bridge br0 --mac 02:00",
            "attach n --bridge br0 -p 0:80",
            "attach n --bridge br0 -p 65536:80",
            "attach n --bridge br0 -p 10-5:80",
            "attach n --bridge br0 -p 10-12:20",
            "attach n --bridge br0 -p 80:80/icmp",
            "attach n --bridge br0 -p 80:80 -p 80:81",
            "attach n --bridge br0 -p 203.0.113.9:80:80",
            "attach n --bridge br0 --interface eth%d",
            "attach n --bridge br0 --owner ../x",
            "attach n --owner @networks",
            "attach n --bridge br0 --subnet 10.0.0.1/24",
            "attach n --bridge br0 --subnet 10.0.0.0/24 --addr 10.1.0.2/24",
            "bridge add br0",
            "bridge add br0 --addr 10.0.0.0/24",
            "bridge add .. --addr 10.0.0.1/24",
            "bridge add lo --addr 10.0.0.1/24",
            "link n --host-addr 10.0.0.1/24 --addr 10.0.1.2/24",
            "link n --host-addr 10.0.0.1/24 --addr 10.0.0.1/24",
            "link n --host-addr 10.0.0.1/24",
            "link missing --host-addr 10.0.0.1/24 --addr 10.0.0.2/24",
            "nat on 10.0.0.1/24",
            "nat on x",
            "nat on 0.0.0.0/0",
            "publish n x",
            "publish missing 80:80",
            "undo",
            "show --pid 0",
            "show --pid 999999999",
            "show missing",
            "nonsense",
            "route n x --via 10.0.0.1",
            "route n default --via x",
            "addr n 10.0.0.0/24",
            "--root relative ns list --owner x",
            "undo --owner a/b",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ran = host.run(&words);
            // `ns list` needs no state directory.
            if line.starts_with("--root") {
                continue;
            }
            assert_eq!(ran.code, 2, "netsetup {line}: {}{}", ran.out, ran.err);
            assert_eq!(ran.err.lines().count(), 1, "netsetup {line}: {}", ran.err);
            assert!(ran.out.is_empty(), "netsetup {line}: {}", ran.out);
        }
        let view = host.json("show");
        let only_lo =
            view["links"].as_array().unwrap().iter().all(|l| !l["name"].as_str().unwrap().starts_with("br"));
        assert!(only_lo && view["nft"].as_array().unwrap().is_empty());
        let left: Vec<_> =
            files(&host.root).into_iter().filter(|f| !before.contains(f) && !f.ends_with("lock")).collect();
        assert!(left.is_empty(), "{left:?}");
        host.ok("ns del n");
    });
}

#[test]
fn long_names_fit_into_15_bytes() {
    on_fresh_host("long_names_fit_into_15_bytes", |host| {
        let name = "mycontainer-".repeat(19);
        host.ok(&format!("ns add {name}"));
        host.ok(&format!("attach {name} --bridge br0 --addr 10.0.0.2/24"));
        let view = host.json("show");
        let link = view["links"].as_array().unwrap().iter().find(|l| l["kind"] == "veth").unwrap().clone();
        assert!(link["name"].as_str().unwrap().len() <= 15);
        assert_eq!(link["alias"].as_str().unwrap(), format!("drydock:{name}"));
        let inside = host.json(&format!("show {name}"));
        let default =
            inside["routes"].as_array().unwrap().iter().find(|r| r["destination"].is_null()).unwrap().clone();
        assert_eq!(default["gateway"], "10.0.0.1");
        host.ok(&format!("ns del {name}"));
    });
}

#[test]
fn one_owner_of_everything_is_undone_at_once() {
    on_fresh_host("one_owner_of_everything_is_undone_at_once", |host| {
        host.ok("ns add ns1 --owner demo");
        host.ok("ns add ns2 --owner demo");
        host.ok("bridge add br7 --addr 10.0.0.1/24 --owner demo");
        host.ok("attach ns1 --bridge br7 --nat -p 8000:80 --owner demo");
        host.ok("attach ns2 --bridge br7 --owner demo");
        host.ok("nat on 10.9.0.0/24 --owner demo");
        host.ok("detach ns2 --owner demo");
        let leases = host.json("leases");
        assert_eq!(leases[0]["leases"].as_array().unwrap().len(), 1, "{leases}");
        let rules = host.json("show")["nft"].as_array().unwrap().len();
        assert!(rules > 10, "the other namespace keeps its rules: {rules}");
        host.ok("undo --owner demo");
        assert!(host.ok("undo --owner demo").contains("nothing"));
        host.ok("undo nobody");
    });
}

#[test]
fn what_is_gone_already_is_no_error() {
    on_fresh_host("what_is_gone_already_is_no_error", |host| {
        if !have("ip") || !have("nft") {
            return skip("what_is_gone_already_is_no_error", "no ip(8) or nft(8)");
        }
        host.ok("ns add n");
        host.ok("attach n --bridge br0 --addr 10.0.0.2/24 --nat -p 80:80");
        let run = |line: &str| {
            let mut words = line.split(' ');
            assert!(Command::new(words.next().unwrap()).args(words).status().unwrap().success(), "{line}");
        };
        run("nft flush table inet drydock");
        run("nft delete table inet drydock");
        run("ip link del br0");
        run("ip netns del n");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        host.ok("undo --owner n");
        // And what was broken beneath us is repaired by the next user.
        host.ok("ns add n");
        host.ok("attach n --bridge br0 --addr 10.0.0.2/24 --nat");
        run("nft flush table inet drydock");
        host.ok("ns add m");
        host.ok("attach m --bridge br0 --nat");
        assert!(host.json("show")["nft"].as_array().unwrap().iter().any(|r| r["chain"] == "postrouting"));
        host.ok("ns del n");
        host.ok("ns del m");
    });
}

#[test]
fn addresses_do_not_collide_under_concurrency() {
    on_fresh_host("addresses_do_not_collide_under_concurrency", |host| {
        let count = 24;
        for i in 0..count {
            host.ok(&format!("ns add c{i}"));
        }
        let children: Vec<_> = (0..count)
            .map(|i| {
                let ns = format!("c{i}");
                host.command(&["attach", &ns, "--bridge", "br0", "--nat"])
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let leases = host.json("leases");
        let addresses: std::collections::HashSet<String> =
            leases[0]["leases"].as_array().unwrap().iter().map(|l| l["address"].to_string()).collect();
        assert_eq!(addresses.len(), count);
        let children: Vec<_> = (0..count)
            .map(|i| host.command(&["ns", "del", &format!("c{i}")]).stdout(Stdio::null()).spawn().unwrap())
            .collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
    });
}

#[test]
fn attaching_again_adds_what_is_missing() {
    on_fresh_host("attaching_again_adds_what_is_missing", |host| {
        host.ok("ns add n");
        host.ok("attach n --bridge br0");
        assert_eq!(host.forwarding(), "0");
        assert!(host.ok("attach n --bridge br0").contains("already"));
        host.ok("attach n --bridge br0 --nat -p 8000:80");
        assert_eq!(host.forwarding(), "1");
        let rules = host.json("show")["nft"].as_array().unwrap().len();
        assert!(host.ok("attach n --bridge br0 --nat -p 8000:80").contains("already"));
        assert_eq!(host.json("show")["nft"].as_array().unwrap().len(), rules, "nothing twice");
        let other = host.run(&["attach", "n", "--bridge", "br0", "--addr", "10.88.0.77/16"]);
        assert!(other.code == 125 && other.err.contains("already, with"), "{}", other.err);
        let missing = host.run(&["attach", "n", "--bridge", "br1"]);
        assert_ne!(missing.code, 0);
        host.ok("detach n");
        assert_eq!(host.forwarding(), "0");
        host.ok("ns del n");
    });
}

#[test]
fn what_is_about_one_interface_leaves_the_others() {
    on_fresh_host("what_is_about_one_interface_leaves_the_others", |host| {
        host.ok("ns add n");
        host.ok("ns add m");
        host.ok("attach n --bridge br0 --subnet 10.1.0.0/24 -p 8000:80");
        host.ok("attach m --bridge br0");
        assert!(host.ok("detach n --interface eth9").contains("is not attached"));
        assert!(host.ok("publish n 8000:80").contains("already"), "its port is published still");
        // Nobody becomes the gateway, or a neighbour, by an address.
        for address in ["10.1.0.1/24", "10.1.0.3/24"] {
            let ran = host.run(&["addr", "n", address]);
            assert!(ran.code == 2 && ran.err.lines().count() == 1, "{address}: {}{}", ran.out, ran.err);
            assert!(!host.ok("show n").contains(address), "{address}");
        }
        host.ok("addr n 10.1.0.9/24");
        host.ok("ns del n");
        host.ok("ns del m");
    });
}

#[test]
fn a_network_avoids_the_hosts_routes() {
    on_fresh_host("a_network_avoids_the_hosts_routes", |host| {
        host.ok("ns add lan");
        host.ok("link lan --host-addr 10.88.5.1/24 --addr 10.88.5.2/24 --no-default-route");
        host.ok("ns add n");
        let report = host.json("attach n");
        assert_eq!(report["address"], "10.89.0.2/16", "{report}");
        let refused = host.run(&["bridge", "add", "br1", "--addr", "10.88.0.1/16"]);
        assert!(refused.code == 2 && refused.err.contains("overlaps"), "{}", refused.err);
        let refused = host.run(&["bridge", "add", "br1", "--addr", "10.89.7.1/24"]);
        assert!(refused.code == 2 && refused.err.contains("overlaps"), "{}", refused.err);
        host.ok("ns del n");
        host.ok("ns del lan");
    });
}

#[test]
fn without_privilege_it_says_so_and_leaves_nothing() {
    on_fresh_host("without_privilege_it_says_so_and_leaves_nothing", |host| {
        if !have("setpriv") {
            return skip("without_privilege_it_says_so_and_leaves_nothing", "no setpriv(1)");
        }
        let root = std::path::Path::new("/run/nobody");
        std::fs::create_dir(root).unwrap();
        std::os::unix::fs::chown(root, Some(65534), Some(65534)).unwrap();
        // The tool itself must be reachable for nobody.
        let tool = "/run/netsetup";
        std::fs::copy(common::TOOL, tool).unwrap();
        for line in ["ns add a", "nat on 10.9.0.0/24", "bridge add br9 --addr 10.9.0.1/24"] {
            let output = Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", tool])
                .args(line.split(' '))
                .env("DRYDOCK_ROOT", root.join("dd"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(125), "{line}: {text}");
            assert!(text.lines().count() == 1 && text.contains("run as root"), "{line}: {text}");
            let left: Vec<_> = files(root).into_iter().filter(|f| !f.ends_with("lock")).collect();
            assert!(left.is_empty(), "{line}: {left:?}");
        }
        host.ok("leases");
    });
}

#[test]
fn etc_files_name_the_namespace() {
    on_fresh_host("etc_files_name_the_namespace", |host| {
        host.ok("ns add web");
        host.ok("attach web --bridge br0 --addr 10.1.0.7/24");
        let dir = host.root.join("made/etc");
        let shown = dir.display().to_string();
        host.ok(&format!("etc {shown} --hostname web --address-of web --dns 9.9.9.9 --add-host db:10.1.0.9"));
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        assert!(
            read("hosts").contains("10.1.0.7\tweb\n") && read("hosts").contains("10.1.0.9\tdb\n"),
            "{}",
            read("hosts")
        );
        assert_eq!(read("hostname"), "web\n");
        assert!(read("resolv.conf").starts_with("nameserver 9.9.9.9\n"));
        let mode = |path: &std::path::Path| {
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
        };
        assert_eq!((mode(&dir), mode(&dir.join("hosts"))), (0o755, 0o644));
        // Without a name there is no hostname; nothing is written on bad input.
        host.ok(&format!("etc {shown}/second"));
        assert!(dir.join("second/hosts").exists() && !dir.join("second/hostname").exists());
        for line in ["--hostname a/b", "--dns x", "--add-host x", "--address x", "--address-of missing"] {
            assert_eq!(
                host.run(
                    &[&["etc", &format!("{shown}/third")], &line.split(' ').collect::<Vec<_>>()[..]].concat()
                )
                .code,
                2,
                "{line}"
            );
        }
        assert!(!dir.join("third").exists());
        std::fs::remove_dir_all(host.root.join("made")).unwrap();
        host.ok("undo --owner web");
        host.ok("bridge del br0");
    });
}
