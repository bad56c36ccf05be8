//! Whole topologies (S20), and what stops a connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod common;
use common::{Host, have, on_fresh_host, serve, skip};
use std::process::Command;

const ABC: &str = r#"
[networks.left]
subnet = "10.1.0.0/24"
[networks.right]
[namespaces.a]
networks = ["left"]
[namespaces.b]
networks = ["left", "right"]
[namespaces.c]
networks = ["right"]
"#;

fn file(host: &Host, text: &str) -> String {
    let path = "/run/abc.toml";
    std::fs::write(path, text).unwrap();
    assert!(host.root.is_absolute());
    path.to_string()
}

#[test]
fn s20_a_reaches_b_reaches_c_but_a_does_not_reach_c() {
    on_fresh_host("s20_a_reaches_b_reaches_c_but_a_does_not_reach_c", |host| {
        let path = file(host, ABC);
        assert_eq!(host.run(&["check", &path, "--matrix"]).code, 2, "not made yet");
        host.ok(&format!("apply {path}"));
        assert!(!host.ok(&format!("apply {path}")).contains("made"));
        for forward in ["0", "1"] {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", forward).unwrap();
            host.ok(&format!("check {path} --matrix"));
            let matrix = host.json("check --matrix");
            let reached = |from: &str, to: &str| {
                let pairs = matrix["pairs"].as_array().unwrap();
                pairs.iter().find(|p| p["from"] == from && p["to"] == to).unwrap()["reached"] == true
            };
            assert!(reached("a", "b") && reached("b", "a") && reached("b", "c") && reached("c", "b"));
            assert!(!reached("a", "c") && !reached("c", "a"));
        }
        // What the file says and what is there differ: exit 1, and the pair is named.
        let wrong = file(host, &format!("{ABC}\n[[expect]]\nfrom = \"a\"\nto = \"c\"\nreach = true\n"));
        let ran = host.run(&["check", &wrong, "--matrix"]);
        assert!(ran.code == 1 && ran.out.contains("a -> c: not reached"), "{}{}", ran.out, ran.err);
        // Asked: then they do.
        let open = file(host, &format!("allow = [[\"left\", \"right\"]]\n{ABC}"));
        host.ok(&format!("apply {open}"));
        host.ok(&format!("check {open} --matrix"));
        assert_eq!(host.run(&["check", &file(host, ABC), "--matrix"]).code, 1, "reached, but must not be");
        // And back; and one namespace less.
        host.ok(&format!("apply {}", file(host, ABC)));
        host.ok("check --matrix");
        let smaller = ABC.split("[namespaces.c]").next().unwrap();
        assert!(host.ok(&format!("apply {}", file(host, smaller))).contains("'c' removed"));
        host.ok("check --matrix");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        host.ok("undo topology-abc");
    });
}

#[test]
fn bad_topologies_touch_nothing() {
    on_fresh_host("bad_topologies_touch_nothing", |host| {
        for text in ["x = 1", "[networks.a", "[namespaces.n]\nnetworks = [\"none\"]", "\u{feff}\u{1b}"] {
            let path = file(host, text);
            let ran = host.run(&["apply", &path]);
            assert!(
                ran.code == 2 && ran.err.lines().count() == 1 && ran.err.contains("abc.toml"),
                "{}",
                ran.err
            );
        }
        assert_eq!(host.run(&["apply", "/run/missing.toml"]).code, 2);
        assert_eq!(host.run(&["apply", "/run"]).code, 2);
        assert_eq!(host.run(&["check", "--matrix"]).code, 2);
        // What cannot be made is taken away again.
        let path = file(
            host,
            "[networks.a]\nbridge = \"lo0\"\nsubnet = \"10.1.0.0/24\"\n[namespaces.n]\nnetworks = { a = \"10.1.0.1\" }",
        );
        assert_ne!(host.run(&["apply", &path]).code, 0);
        let missing = host.run(&["apply", "/run/missing.toml"]);
        assert_eq!((missing.code, missing.err.lines().count()), (2, 1));
        assert!(!missing.err.contains("os error"), "{}", missing.err);
    });
}

/// Bridge ports, reverse path, routes and other tables' verdicts: each is named, and nothing before it.
#[test]
fn each_obstacle_is_named() {
    on_fresh_host("each_obstacle_is_named", |host| {
        if !have("ip") || !have("nft") {
            return skip("each_obstacle_is_named", "no ip(8) or nft(8) to break things");
        }
        host.ok(&format!("apply {}", file(host, ABC)));
        serve(Some("b"), "10.1.0.3:80");
        let c = host.json("show c")["addresses"].as_array().unwrap().iter().find_map(|a| {
            let address = a["address"].as_str()?.split('/').next()?;
            address.starts_with("10.").then(|| address.to_string())
        });
        let c = c.expect("c has an IPv4 address");
        serve(Some("c"), &format!("{c}:80"));
        let run = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{line}");
        };
        let stopped = |at: &str, wanted: &[&str]| {
            let ran = host.run(&["check", "a", at]);
            let stops: Vec<&str> = ran.out.lines().filter(|l| l.starts_with("STOP")).collect();
            assert!(ran.code == 1 && stops.len() == 1, "{}{}", ran.out, ran.err);
            assert!(wanted.iter().all(|w| stops[0].contains(w)), "{wanted:?} not in {}", ran.out);
        };
        let ports = host.json("show")["ports"].clone();
        let left: Vec<&str> = ports
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| p["bridge"] == "left")
            .map(|p| p["port"].as_str().unwrap())
            .collect();
        let slave = |what: &str| {
            left.iter().for_each(|port| run(&format!("ip link set {port} type bridge_slave {what}")))
        };
        host.ok("check a b:80");
        slave("isolated on");
        stopped("b:80", &["bridge port", left[0], left[1], "isolated from each other"]);
        slave("isolated off");
        // A spanning tree does not let a port forward at once: either end's.
        for port in &left {
            for (tree, stops) in [("1", true), ("0", false)] {
                run(&format!("ip link set left type bridge stp_state {tree}"));
                run(&format!("ip link set {port} down"));
                run(&format!("ip link set {port} up"));
                if stops {
                    stopped("b:80", &["bridge port", port, "listening"]);
                }
            }
        }
        host.ok("check a b:80");
        host.ok("forward allow left right");
        host.ok("check a c:80");
        // The host would send answers elsewhere.
        let rp_filter = "/proc/sys/net/ipv4/conf/left/rp_filter";
        std::fs::write(rp_filter, "1").unwrap();
        host.ok("check a c:80");
        run("ip route add 10.1.0.2/32 dev right");
        stopped("c:80", &["rp_filter", "strict on left", "10.1.0.2"]);
        run("ip route del 10.1.0.2/32 dev right");
        std::fs::write(rp_filter, "0").unwrap();
        // No way from the host on.
        stopped("192.0.2.99:80", &["host route", "no route to 192.0.2.99"]);
        // A firewall that is not ours.
        run("nft add table inet fw");
        run("nft add chain inet fw strict { type filter hook forward priority -10 ; policy drop ; }");
        stopped("c:80", &["firewall", "table inet fw chain strict"]);
        run("nft delete table inet fw");
        host.ok("check a c:80");
        host.ok("forward deny left right");
        stopped("c:80", &["forwarding", "net.ipv4.ip_forward is 0"]);
        host.ok("undo topology-abc");
    });
}

#[test]
fn the_first_thing_that_stops_a_packet_is_named() {
    on_fresh_host("the_first_thing_that_stops_a_packet_is_named", |host| {
        if !have("ip") || !have("nft") {
            return skip(
                "the_first_thing_that_stops_a_packet_is_named",
                "no ip(8) or nft(8) to break things",
            );
        }
        host.ok(&format!("apply {}", file(host, ABC)));
        serve(Some("b"), "10.1.0.3:80");
        let run = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{line}");
        };
        let stopped = |at: &str| {
            let ran = host.run(&["check", "a", at]);
            assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
            let line = ran.out.lines().find(|l| l.starts_with("STOP")).unwrap_or_default();
            assert_eq!(ran.out.lines().filter(|l| l.starts_with("STOP")).count(), 1, "{}", ran.out);
            line.to_string()
        };
        host.ok("check a b:80");
        host.ok("check a b");
        host.ok("check host b:80");
        assert!(stopped("b:81").contains("nobody listens on 10.1.0.3:81"));
        assert!(stopped("c:80").contains("net.ipv4.ip_forward is 0"), "{}", stopped("c:80"));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let rule = stopped("c:80");
        assert!(rule.contains("firewall") && rule.contains("drydock:network:right"), "{rule}");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let port = host.json("show")["ports"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["bridge"] == "left")
            .unwrap()
            .clone();
        let port = port["port"].as_str().unwrap();
        run(&format!("ip link set {port} down"));
        assert!(stopped("b:80").contains("link"), "{}", stopped("b:80"));
        run(&format!("ip link set {port} up"));
        // Somebody else's rule, on the host and in the other namespace.
        run("ip netns exec b nft add table inet f");
        run("ip netns exec b nft add chain inet f in { type filter hook input priority 0 ; }");
        run("ip netns exec b nft add rule inet f in tcp dport 80 drop");
        let rule = stopped("b:80");
        assert!(rule.contains("dropped on 'b'") && rule.contains("table inet f chain in"), "{rule}");
        run("ip netns exec b nft delete table inet f");
        host.ok("check a b:80");
        run("ip netns exec a ip route del 10.1.0.0/24");
        run("ip netns exec a ip route del default");
        assert!(
            host.run(&["check", "a", "10.1.0.3:80"]).out.contains("no route to 10.1.0.3")
                || stopped("10.1.0.3:80").contains("route")
        );
        assert_eq!(host.run(&["check", "a", "b:0"]).code, 2);
        assert_eq!(host.run(&["check", "missing", "b:80"]).code, 2);
        host.ok("undo topology-abc");
    });
}
