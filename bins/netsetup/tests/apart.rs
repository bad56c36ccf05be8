//! Networks are kept apart, and nobody on a bridge can pose as somebody else (NET-01, NET-02).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod common;
use common::{Host, connect, have, on_fresh_host, serve, skip, within};
use std::process::Command;

/// A on the left, C on the right, B on both; the host forwards.
fn abc(host: &Host) {
    for ns in ["a", "b", "c"] {
        host.ok(&format!("ns add {ns}"));
    }
    host.ok("attach a --bridge br-left --subnet 10.1.0.0/24");
    host.ok("attach b --bridge br-left");
    host.ok("attach b --bridge br-right --subnet 10.2.0.0/24 --interface eth1 --no-default-route");
    host.ok("attach c --bridge br-right");
    for (ns, at) in [("a", "10.1.0.2:7"), ("b", "10.1.0.3:7"), ("b", "10.2.0.2:7"), ("c", "10.2.0.3:7")] {
        serve(Some(ns), at);
    }
}

#[test]
fn networks_reach_each_other_only_when_asked() {
    on_fresh_host("networks_reach_each_other_only_when_asked", |host| {
        abc(host);
        let forward = |value| std::fs::write("/proc/sys/net/ipv4/ip_forward", value).unwrap();
        for value in ["0", "1"] {
            forward(value);
            assert!(connect(Some("a"), "10.1.0.3:7").is_some() && connect(Some("b"), "10.2.0.3:7").is_some());
            for (from, to) in [("a", "10.2.0.3:7"), ("a", "10.2.0.2:7"), ("c", "10.1.0.2:7")] {
                assert_eq!(connect(Some(from), to), None, "{from} -> {to} with ip_forward {value}");
            }
        }
        forward("0");
        host.ok("forward allow br-left br-right");
        assert!(host.ok("forward allow br-right br-left").contains("already"));
        assert_eq!(host.forwarding(), "1");
        assert!(connect(Some("a"), "10.2.0.3:7").is_some() && connect(Some("c"), "10.1.0.2:7").is_some());
        // A network that comes later does not shut the door.
        host.ok("ns add d");
        host.ok("attach d --bridge br-new --subnet 10.3.0.0/24 --nat");
        assert!(connect(Some("a"), "10.2.0.3:7").is_some());
        assert_eq!(connect(Some("d"), "10.2.0.3:7"), None);
        host.ok("forward deny br-left br-right");
        assert_eq!(connect(Some("a"), "10.2.0.3:7"), None);
        for ns in ["a", "b", "c", "d"] {
            host.ok(&format!("ns del {ns}"));
        }
    });
}

#[test]
fn internal_networks_have_no_way_out_and_isolated_ports_no_neighbours() {
    on_fresh_host("internal_networks_have_no_way_out_and_isolated_ports_no_neighbours", |host| {
        host.ok("ns add outside");
        host.ok("link outside --host-addr 192.0.2.1/24 --addr 192.0.2.2/24");
        serve(Some("outside"), "192.0.2.2:80");
        for ns in ["a", "b", "p", "q"] {
            host.ok(&format!("ns add {ns}"));
        }
        host.ok("attach a --bridge br-in --subnet 10.1.0.0/24 --internal");
        host.ok("attach b --bridge br-in");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        serve(Some("b"), "10.1.0.3:7");
        assert!(connect(Some("a"), "10.1.0.3:7").is_some());
        let routes = host.json("show a")["routes"].clone();
        assert!(routes.as_array().unwrap().iter().all(|r| !r["destination"].is_null()), "{routes}");
        host.ok("route a default --via 10.1.0.1");
        assert_eq!(connect(Some("a"), "192.0.2.2:80"), None, "even with a route");
        let refused = host.run(&["attach", "b", "--bridge", "br-in", "--nat"]);
        assert!(refused.code == 2 && refused.err.contains("internal"), "{}", refused.err);
        host.ok("attach p --bridge br-iso --subnet 10.2.0.0/24 --isolated");
        host.ok("attach q --bridge br-iso --isolated");
        serve(Some("q"), "10.2.0.3:7");
        serve(None, "10.2.0.1:7");
        assert_eq!(connect(Some("p"), "10.2.0.3:7"), None);
        assert!(connect(Some("p"), "10.2.0.1:7").is_some() && connect(None, "10.2.0.3:7").is_some());
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        for ns in ["a", "b", "p", "q", "outside"] {
            host.ok(&format!("ns del {ns}"));
        }
    });
}

/// NET-11: what a cloud tells a machine about itself is not for its containers.
#[test]
fn the_clouds_metadata_server_is_closed_unless_asked() {
    on_fresh_host("the_clouds_metadata_server_is_closed_unless_asked", |host| {
        const SERVER: &str = "169.254.169.254:80";
        host.ok("ns add cloud");
        host.ok("link cloud --host-addr 169.254.169.1/24 --addr 169.254.169.254/24");
        serve(Some("cloud"), SERVER);
        host.ok("ns add a");
        let open = |flags: &str| {
            host.ok(&format!("attach a --bridge br0 --nat {flags}"));
            let open = connect(Some("a"), SERVER).is_some();
            host.ok("detach a");
            open
        };
        assert!(connect(None, SERVER).is_some(), "the host itself asks it");
        assert!(!open("") && !open("--allow-spoofing"));
        assert!(open("--allow-metadata") && open("--allow-metadata --allow-spoofing"));
        host.ok("attach a --bridge br0 --nat");
        let said = host.run(&["check", "a", SERVER]);
        assert!(said.code == 1 && said.out.contains("--allow-metadata"), "{}{}", said.out, said.err);
        if have("nft") {
            assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
            host.ok("reload");
            assert!(connect(Some("a"), SERVER).is_none(), "after a firewall's restart");
        }
        host.ok("ns del a");
        host.ok("ns del cloud");
    });
}

/// Sends frames from eth0 of the namespace `a`: `name hexadecimal-bytes` a line.
const SENDER: &str = r#"
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for line in sys.stdin.read().split():
    s.send(bytes.fromhex(line).ljust(60, b"\0"))
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A gratuitous ARP answer.
fn arp(source: &str, sender: &str, address: [u8; 4]) -> String {
    let all = "ffffffffffff";
    let address = hex(&address);
    format!("{all}{source}08060001080006040002{sender}{address}{all}{address}")
}

fn send(host: &Host, frames: &[String]) {
    let mut child = host
        .command(&["ns", "exec", "a", "python3", "-c", SENDER])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), frames.join("\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn neighbours_of_b(host: &Host) -> String {
    host.json("show b")["neighbours"].to_string()
}

#[test]
fn nobody_on_a_bridge_poses_as_another() {
    on_fresh_host("nobody_on_a_bridge_poses_as_another", |host| {
        if !have("python3") || !have("ip") {
            return skip("nobody_on_a_bridge_poses_as_another", "no python3(1) or ip(8) to craft the attack");
        }
        for ns in ["a", "b"] {
            host.ok(&format!("ns add {ns}"));
        }
        host.ok("attach a --bridge br0 --subnet 10.0.0.0/24");
        host.ok("attach b --bridge br0");
        serve(None, "10.0.0.1:7");
        serve(Some("b"), "0.0.0.0:7");
        let evil = "0add0a000002"; // a's own address, 10.0.0.2
        let other = "0add0a0000ff";
        let attack = |host: &Host| {
            // B knows the gateway and A.
            assert!(connect(Some("b"), "10.0.0.1:7").is_some() && connect(Some("a"), "10.0.0.3:7").is_some());
            let frames: Vec<String> = (0..100)
                .flat_map(|_| {
                    [
                        arp(evil, evil, [10, 0, 0, 1]),
                        arp(other, other, [10, 0, 0, 1]),
                        arp(evil, other, [10, 0, 0, 2]),
                    ]
                })
                .collect();
            send(host, &frames);
        };
        let poisoned = |host: &Host| {
            let view = host.json("show b");
            let all = view["neighbours"].as_array().unwrap().clone();
            all.iter().any(|n| {
                (n["address"] == "10.0.0.1" && n["mac"] != "02:dd:3e:38:f6:01")
                    || (n["address"] == "10.0.0.2" && n["mac"] != "0a:dd:0a:00:00:02")
            })
        };
        attack(host);
        assert!(!poisoned(host), "{}", neighbours_of_b(host));
        // Nor with another IP address, nor another's.
        let spoof = "ip addr add 10.0.0.9/24 dev eth0";
        let run = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(host.run(&[&["ns", "exec", "a"], &words[..]].concat()).code, 0, "{line}");
        };
        run(spoof);
        let from = |address: &str| {
            let script = format!(
                "import socket; s=socket.create_connection((\"10.0.0.3\",7),1,(\"{address}\",0)); print(s.recv(99))"
            );
            host.run(&["ns", "exec", "a", "python3", "-c", &script]).code == 0
        };
        assert!(from("10.0.0.2") && !from("10.0.0.9"));
        host.ok("addr a 10.0.0.9/24");
        assert!(from("10.0.0.9"), "what netsetup gave it may be used");
        host.ok("addr a 10.0.0.9/24 --del");
        run(spoof);
        assert!(!from("10.0.0.9"));
        // The attack is real: an interface that is not checked can do it.
        host.ok("detach a");
        host.ok("attach a --bridge br0 --addr 10.0.0.2/24 --allow-spoofing");
        attack(host);
        assert!(poisoned(host), "the attack itself does not work here: {}", neighbours_of_b(host));
        for ns in ["a", "b"] {
            host.ok(&format!("ns del {ns}"));
        }
    });
}

#[test]
fn router_advertisements_of_neighbours_are_ignored() {
    on_fresh_host("router_advertisements_of_neighbours_are_ignored", |host| {
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() || !have("python3") {
            return skip("router_advertisements_of_neighbours_are_ignored", "no IPv6 or no python3(1)");
        }
        for ns in ["a", "b"] {
            host.ok(&format!("ns add {ns}"));
        }
        host.ok("attach a --bridge br0");
        host.ok("attach b --bridge br0");
        let script = r#"
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
for _ in range(20):
    s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0))
"#;
        // Even a container that would listen to them.
        let listen = within(Some("b"), || {
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/autoconf", "1").unwrap();
        });
        listen.join().unwrap();
        let sent = (0..50).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            host.run(&["ns", "exec", "a", "python3", "-c", script]).code == 0
        });
        assert!(sent, "no link-local address to send from");
        let view = host.json("show b").to_string();
        assert!(!view.contains("2001:db8:bad"), "{view}");
        let read = |ns: &'static str, key: &'static str| {
            within(Some(ns), move || {
                std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap().trim().to_string()
            })
            .join()
            .unwrap()
        };
        for (key, value) in [
            ("ipv6/conf/eth0/accept_ra", "0"),
            ("ipv6/conf/eth0/autoconf", "0"),
            ("ipv6/conf/eth0/proxy_ndp", "0"),
            ("ipv4/conf/eth0/accept_redirects", "0"),
        ] {
            assert_eq!(read("a", key), value, "{key}");
        }
        let host_side =
            |key: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/br0/{key}")).unwrap();
        assert_eq!((host_side("rp_filter").trim(), host_side("arp_ignore").trim()), ("1", "1"));
        for ns in ["a", "b"] {
            host.ok(&format!("ns del {ns}"));
        }
    });
}

#[test]
fn what_a_firewall_flushed_is_made_anew() {
    on_fresh_host("what_a_firewall_flushed_is_made_anew", |host| {
        if !have("nft") {
            return skip("what_a_firewall_flushed_is_made_anew", "no nft(8) to flush");
        }
        abc(host);
        host.ok("ns add outside");
        host.ok("link outside --host-addr 192.0.2.1/24 --addr 192.0.2.2/24 --no-default-route");
        serve(Some("outside"), "192.0.2.2:80");
        host.ok("nat on 10.1.0.0/24");
        host.ok("publish c 8000:7");
        host.ok("forward allow br-left br-right");
        let list = |host: &Host| {
            let mut all: Vec<String> = host.json("show")["nft"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| format!("{} {}", r["chain"], r["comment"]))
                .collect();
            all.sort();
            all
        };
        let before = list(host);
        assert!(host.ok("reload").contains("nothing was missing"));
        assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert_eq!(connect(Some("a"), "192.0.2.2:80"), None);
        host.ok("reload");
        assert_eq!(list(host), before);
        assert_eq!(connect(Some("a"), "192.0.2.2:80").unwrap().to_string(), "192.0.2.1");
        assert!(connect(None, "127.0.0.1:8000").is_some() && connect(Some("a"), "10.2.0.3:7").is_some());
        let checks = Command::new("nft").args(["list", "table", "netdev", "drydock"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&checks.stdout).matches("hook ingress").count(), 4);
        assert!(host.ok("reload").contains("nothing was missing"));
        host.ok("forward deny br-left br-right");
        for ns in ["a", "b", "c", "outside"] {
            host.ok(&format!("ns del {ns}"));
        }
        host.ok("nat off");
    });
}

#[test]
fn what_others_deleted_is_collected() {
    on_fresh_host("what_others_deleted_is_collected", |host| {
        if !have("ip") {
            return skip("what_others_deleted_is_collected", "no ip(8)");
        }
        host.ok("ns add n");
        host.ok("attach n --bridge br0 --nat -p 8000:80");
        assert!(host.ok("gc --check").contains("nothing"));
        assert!(Command::new("ip").args(["netns", "del", "n"]).status().unwrap().success());
        let found = host.run(&["gc", "--check"]);
        assert!(found.code == 1 && found.out.contains("of 'n' in network 'br0'"), "{}", found.out);
        host.ok("gc");
        assert!(host.ok("gc --check").contains("nothing"));
        host.census();
    });
}
