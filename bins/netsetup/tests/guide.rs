//! The guide's networking exercises (S15–S19), by effect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod common;
use common::{Host, connect, have, on_fresh_host, ping, serve, skip};
use std::process::Command;

fn ip(args: &[&str]) -> (bool, String) {
    let output = Command::new("ip").args(args).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn s15_named_namespaces_work_with_ip_netns_both_ways() {
    on_fresh_host("s15_named_namespaces_work_with_ip_netns_both_ways", |host| {
        host.ok("ns add blue");
        assert!(host.ok("ns add blue").contains("already"));
        let links = host.json("show blue");
        assert_eq!(links["links"].as_array().unwrap().len(), 1);
        assert_eq!(links["links"][0]["name"], "lo");
        for (line, code) in [
            ("ns exec blue true", 0),
            ("ns exec blue false", 1),
            ("ns exec blue no-such-cmd", 127),
            ("ns exec blue /etc/passwd", 126),
        ] {
            assert_eq!(host.run(&line.split(' ').collect::<Vec<_>>()).code, code, "{line}");
        }
        assert_eq!(host.run(&["ns", "exec", "blue", "sh", "-c", "kill -9 $$"]).code, -1);
        let shown = host.ok("ns exec blue ls /sys/class/net");
        assert_eq!(shown.trim(), "lo", "/sys shows the namespace's devices");
        let mut sleeper = host.command(&["ns", "exec", "blue", "sleep", "30"]).spawn().unwrap();
        let pid = sleeper.id().to_string();
        // exec happens in the same process, a moment later.
        let found = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            host.ok("ns pids blue").split_whitespace().any(|p| p == pid)
        });
        assert!(found);
        assert_eq!(host.ok(&format!("ns identify {pid}")).trim(), "blue");
        assert!(host.ok(&format!("ns attach sky {pid}")).contains("is now"));
        assert!(host.ok(&format!("ns attach sky {pid}")).contains("already"));
        assert_eq!(host.ok(&format!("ns identify {pid}")), "blue\nsky\n");
        assert_eq!(
            host.run(&["ns", "attach", "blue", &std::process::id().to_string()]).code,
            2,
            "another's name"
        );
        assert_eq!(host.run(&["ns", "attach", "x", "999999999"]).code, 2);
        host.ok("ns del sky");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        if have("ip") {
            assert!(ip(&["netns", "list"]).1.contains("blue"));
            assert!(ip(&["netns", "add", "red"]).0);
            let names = host.json("ns list");
            let names: Vec<&str> =
                names.as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["blue", "red"]);
            host.ok("ns del red");
            assert!(!ip(&["netns", "list"]).1.contains("red"));
            assert!(ip(&["netns", "del", "blue"]).0);
            assert!(host.ok("ns list").lines().count() == 1);
        } else {
            skip("s15 interoperation", "no ip(8)");
        }
        host.ok("ns del blue");
        assert!(host.ok("ns del blue").contains("not there"));
    });
}

#[test]
fn s16_a_link_pings_both_ways() {
    on_fresh_host("s16_a_link_pings_both_ways", |host| {
        host.ok("ns add blue");
        host.ok("link blue --host-addr 10.0.0.1/24 --addr 10.0.0.2/24");
        assert!(host.ok("link blue --host-addr 10.0.0.1/24 --addr 10.0.0.2/24").contains("already"));
        serve(Some("blue"), "10.0.0.2:7");
        serve(None, "10.0.0.1:7");
        assert_eq!(connect(None, "10.0.0.2:7").unwrap().to_string(), "10.0.0.1");
        assert_eq!(connect(Some("blue"), "10.0.0.1:7").unwrap().to_string(), "10.0.0.2");
        if have("ping") {
            assert!(ping(None, "10.0.0.2") && ping(Some("blue"), "10.0.0.1"));
        }
        let inside = host.json("show blue");
        let link = |name: &str| {
            inside["links"].as_array().unwrap().iter().find(|l| l["name"] == name).unwrap().clone()
        };
        assert!(link("lo")["up"] == true && link("eth0")["up"] == true);
        host.ok("undo --owner blue");
    });
}

#[test]
fn ipv6_links_work() {
    on_fresh_host("ipv6_links_work", |host| {
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
            return skip("ipv6_links_work", "no IPv6");
        }
        host.ok("ns add six");
        host.ok("link six --host-addr fd00:1::1/64 --addr fd00:1::2/64");
        serve(Some("six"), "[fd00:1::2]:7");
        assert_eq!(connect(None, "[fd00:1::2]:7").unwrap().to_string(), "fd00:1::1");
        host.ok("ns del six");
    });
}

#[test]
fn ipv6_is_masqueraded_and_published() {
    on_fresh_host("ipv6_is_masqueraded_and_published", |host| {
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
            return skip("ipv6_is_masqueraded_and_published", "no IPv6");
        }
        let forwarding = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap();
        host.ok("ns add outside");
        host.ok("link outside --host-addr 2001:db8::1/64 --addr 2001:db8::2/64 --no-default-route");
        serve(Some("outside"), "[2001:db8::2]:80");
        host.ok("ns add blue");
        host.ok("attach blue --bridge br0 --subnet 10.5.0.0/24 --subnet6 fd00:5::/64 --nat");
        serve(Some("blue"), "[fd00:5::2]:80");
        assert_eq!(connect(Some("blue"), "[2001:db8::2]:80"), None, "only IPv4 has NAT");
        assert_eq!(forwarding().trim(), "0");
        host.ok("detach blue");
        host.ok("attach blue --bridge br0 --subnet 10.5.0.0/24 --subnet6 fd00:5::/64 --nat6");
        assert_eq!(forwarding().trim(), "1");
        // The outside sees the host's address, not the container's.
        assert_eq!(connect(Some("blue"), "[2001:db8::2]:80").unwrap().to_string(), "2001:db8::1");
        host.ok("publish fd00:5::2 [2001:db8::1]:8080:80 --owner blue");
        host.ok("ns add red");
        host.ok("attach red --bridge br0 --nat6");
        // From outside, from the host, and from a neighbour: who asks comes through, where the answer finds its way.
        let outside = connect(Some("outside"), "[2001:db8::1]:8080").unwrap();
        assert_eq!(outside.to_string(), "2001:db8::2");
        assert!(connect(None, "[2001:db8::1]:8080").is_some());
        assert!(connect(Some("red"), "[2001:db8::1]:8080").is_some(), "hairpin");
        assert_eq!(connect(Some("outside"), "[fd00:5::2]:80"), None, "not past the published port");
        // A firewall's restart, and all is as before.
        if have("nft") {
            assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
            assert_eq!(connect(Some("blue"), "[2001:db8::2]:80"), None);
            host.ok("reload");
            assert_eq!(connect(Some("blue"), "[2001:db8::2]:80").unwrap().to_string(), "2001:db8::1");
            assert!(connect(Some("outside"), "[2001:db8::1]:8080").is_some());
        }
        host.ok("unpublish fd00:5::2 --owner blue");
        assert_eq!(connect(Some("outside"), "[2001:db8::1]:8080"), None);
        host.ok("ns del blue");
        host.ok("ns del red");
        host.ok("ns del outside");
        assert_eq!(forwarding().trim(), "0");
    });
}

fn outside(host: &Host) {
    host.ok("ns add outside");
    host.ok("link outside --host-addr 192.0.2.1/24 --addr 192.0.2.2/24 --no-default-route");
    serve(Some("outside"), "192.0.2.2:80");
}

fn counted(host: &Host, chain: &str) -> u64 {
    let view = host.json("show");
    let rules = view["nft"].as_array().unwrap();
    rules.iter().filter(|r| r["chain"] == chain).filter_map(|r| r["packets"].as_u64()).sum()
}

#[test]
fn s17_nat_masquerades_and_restores_forwarding() {
    on_fresh_host("s17_nat_masquerades_and_restores_forwarding", |host| {
        outside(host);
        host.ok("ns add blue");
        host.ok("link blue --host-addr 10.0.0.1/24 --addr 10.0.0.2/24");
        assert_eq!(connect(Some("blue"), "192.0.2.2:80"), None, "outside knows no way back");
        host.ok("nat on 10.0.0.0/24");
        assert!(host.ok("nat on 10.0.0.0/24").contains("already"));
        assert_eq!(host.forwarding(), "1");
        // The outside sees the host's address, not the namespace's.
        assert_eq!(connect(Some("blue"), "192.0.2.2:80").unwrap().to_string(), "192.0.2.1");
        assert!(counted(host, "postrouting") > 0 && counted(host, "forward") > 0);
        if have("nft") {
            let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&tables.stdout).trim(), "table inet drydock");
        }
        // A second subnet keeps forwarding when the first goes.
        host.ok("nat on 10.7.0.0/24");
        host.ok("nat off 10.0.0.0/24");
        assert_eq!(host.forwarding(), "1");
        assert_eq!(connect(Some("blue"), "192.0.2.2:80"), None);
        host.ok("nat off 10.7.0.0/24");
        assert!(host.ok("nat off 10.7.0.0/24").contains("already"));
        host.ok("nat on 10.7.0.0/24");
        assert!(host.ok("nat off").contains("nat-10.7.0.0-24"));
        assert!(host.ok("nat off 10.7.0.0/24").contains("already"));
        assert_eq!(host.forwarding(), "0");
        // It was on before us: it stays on.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        host.ok("nat on 10.0.0.0/24");
        host.ok("nat off 10.0.0.0/24");
        assert_eq!(host.forwarding(), "1");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        host.ok("ns del blue");
        host.ok("ns del outside");
    });
}

#[test]
fn nat_warns_about_another_tables_drop() {
    on_fresh_host("nat_warns_about_another_tables_drop", |host| {
        if !have("nft") {
            return skip("nat_warns_about_another_tables_drop", "no nft(8) to make the other table");
        }
        let rules =
            "add table ip other; add chain ip other fw { type filter hook forward priority 0; policy drop; }";
        assert!(Command::new("nft").arg(rules).status().unwrap().success());
        let ran = host.run(&["nat", "on", "10.0.0.0/24"]);
        assert!(ran.code == 0 && ran.err.contains("ip other fw"), "{}", ran.err);
        host.ok("nat off 10.0.0.0/24");
        let left = Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "table ip other", "never another's table");
    });
}

#[test]
fn s18_two_namespaces_on_a_bridge() {
    on_fresh_host("s18_two_namespaces_on_a_bridge", |host| {
        host.ok("bridge add br0 --addr 10.0.0.1/24");
        assert!(host.ok("bridge add br0 --addr 10.0.0.1/24").contains("already"));
        host.ok("ns add ns1");
        host.ok("ns add ns2");
        host.ok("attach ns1 --bridge br0 --addr 10.0.0.2/24");
        host.ok("attach ns2 --bridge br0 --addr 10.0.0.3/24");
        assert!(host.ok("attach ns2 --bridge br0 --addr 10.0.0.3/24").contains("already"));
        serve(Some("ns1"), "10.0.0.2:7");
        serve(Some("ns2"), "10.0.0.3:7");
        serve(None, "10.0.0.1:7");
        for (from, to) in [
            (Some("ns1"), "10.0.0.3:7"),
            (Some("ns2"), "10.0.0.2:7"),
            (Some("ns1"), "10.0.0.1:7"),
            (None, "10.0.0.3:7"),
        ] {
            assert!(connect(from, to).is_some(), "{from:?} -> {to}");
        }
        if have("ping") {
            assert!(ping(Some("ns1"), "10.0.0.3") && ping(Some("ns2"), "10.0.0.2") && ping(None, "10.0.0.2"));
        }
        let view = host.json("show");
        let ports = view["ports"].as_array().unwrap();
        assert!(
            ports.len() == 2 && ports.iter().all(|p| p["bridge"] == "br0" && p["state"] == "forwarding"),
            "{ports:?}"
        );
        assert!(host.ok("bridge list").contains("forwarding"));
        let rules = view["nft"].as_array().unwrap();
        assert!(rules.iter().all(|r| r["chain"] != "postrouting"), "no NAT was asked for: {rules:?}");
        assert_eq!(host.forwarding(), "0");
        let refused = host.run(&["bridge", "del", "br0"]);
        assert!(refused.code == 125 && refused.err.contains("ns1 (10.0.0.2)"), "{}", refused.err);
        host.ok("ns del ns1");
        host.ok("detach ns2");
        assert!(host.ok("detach ns2").contains("not attached"));
        host.ok("ns del ns2");
        host.ok("bridge del br0");
    });
}

#[test]
fn s19_published_ports_answer_where_they_should() {
    on_fresh_host("s19_published_ports_answer_where_they_should", |host| {
        outside(host);
        host.ok("bridge add br0 --addr 10.0.0.1/24");
        for (ns, address) in [("ns1", "10.0.0.2/24"), ("ns2", "10.0.0.3/24")] {
            host.ok(&format!("ns add {ns}"));
            host.ok(&format!("attach {ns} --bridge br0 --addr {address} --nat"));
        }
        serve(Some("ns1"), "0.0.0.0:8000");
        host.ok("publish ns1 8000:8000");
        assert!(host.ok("publish ns1 8000:8000").contains("already"));
        assert!(connect(None, "10.0.0.2:8000").is_some(), "by the container's address");
        assert!(connect(None, "127.0.0.1:8000").is_some(), "by 127.0.0.1");
        // With and without bridged packets passing through the rules (br_netfilter).
        let bridged = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
        for value in ["0", "1"].iter().take(if bridged.exists() { 2 } else { 1 }) {
            let _ = std::fs::write(bridged, value);
            assert!(connect(Some("ns2"), "10.0.0.1:8000").is_some(), "hairpin from a neighbour ({value})");
            assert!(connect(Some("ns1"), "10.0.0.1:8000").is_some(), "from the container itself ({value})");
        }
        // Not to the world: neither by the host's outer address, nor by a route to the container.
        assert_eq!(connect(Some("outside"), "192.0.2.1:8000"), None);
        host.ok("route outside default --via 192.0.2.1");
        assert_eq!(connect(Some("outside"), "10.0.0.2:8000"), None);
        assert_eq!(connect(Some("outside"), "10.0.0.1:8000"), None);
        // Where an address is given, it answers there, with the client's own address.
        host.ok("publish ns1 192.0.2.1:9000:8000");
        assert_eq!(connect(Some("outside"), "192.0.2.1:9000").unwrap().to_string(), "192.0.2.2");
        assert_eq!(connect(Some("outside"), "10.0.0.1:9000"), None);
        let taken = host.run(&["publish", "ns2", "8000:80"]);
        assert!(taken.code == 125 && taken.err.contains("already published by 'ns1'"), "{}", taken.err);
        serve(None, "127.0.0.1:8100");
        let busy = host.run(&["publish", "ns2", "8100:80"]);
        assert!(busy.code == 125 && busy.err.contains("in use by pid"), "{}", busy.err);
        host.ok("unpublish ns1");
        assert_eq!(connect(None, "127.0.0.1:8000"), None);
        for owner in ["ns1", "ns2", "outside", "br0"] {
            host.ok(&format!("undo --owner {owner}"));
        }
    });
}

#[test]
fn a_neighbour_cannot_reach_the_hosts_loopback() {
    on_fresh_host("a_neighbour_cannot_reach_the_hosts_loopback", |host| {
        if !have("ip") || !have("nft") {
            return skip(
                "a_neighbour_cannot_reach_the_hosts_loopback",
                "no ip(8) or nft(8) to craft the attack",
            );
        }
        host.ok("ns add ns1");
        host.ok("attach ns1 --bridge br0 --addr 10.0.0.2/24 -p 8000:8000");
        serve(None, "127.0.0.1:9999");
        let attack = "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip rule add pref 1 from all lookup 7; \
            ip rule del pref 0; ip rule add pref 9 from all lookup local; \
            ip route add 127.0.0.1 via 10.0.0.1 dev eth0 src 10.0.0.2 table 7";
        assert!(
            Command::new("ip")
                .args(["netns", "exec", "ns1", "sh", "-ec", attack])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(connect(Some("ns1"), "127.0.0.1:9999"), None);
        // The attack is real: without the guard it works.
        assert!(
            Command::new("nft")
                .args(["flush", "chain", "inet", "drydock", "guard"])
                .status()
                .unwrap()
                .success()
        );
        assert!(connect(Some("ns1"), "127.0.0.1:9999").is_some(), "the attack itself does not work here");
        host.ok("ns del ns1");
    });
}
