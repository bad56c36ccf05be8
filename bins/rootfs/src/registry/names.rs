//! Addresses of hosts. The program is linked statically, where the C library's own resolver would load modules of the
//! system's: so /etc/hosts and the name servers of /etc/resolv.conf are asked here. Sources: hosts(5), resolver(5), RFC 1035.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// See the module.
#[derive(Debug)]
pub struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let mut found = self.empty();
        for address in addresses(host).into_iter().take(16) {
            found.push(SocketAddr::new(address, port));
        }
        if found.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(found) }
    }
}

fn addresses(host: &str) -> Vec<IpAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let known = in_hosts(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), host);
    if !known.is_empty() {
        return known;
    }
    let servers = servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut all = Vec::new();
    for kind in [A, AAAA] {
        all.extend(servers.iter().find_map(|server| ask(*server, host, kind)).unwrap_or_default());
    }
    all
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default());
    let fits = |line: &str| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|w| w.eq_ignore_ascii_case(host)).then_some(address)
    };
    lines.filter_map(fits).collect()
}

fn servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().filter_map(|l| l.trim().strip_prefix("nameserver"));
    let addresses = words.filter_map(|w| w.trim().split('%').next()?.parse::<IpAddr>().ok());
    let mut all: Vec<SocketAddr> = addresses.map(|a| SocketAddr::new(a, 53)).collect();
    if all.is_empty() {
        all.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
    }
    all.truncate(3);
    all
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// One question to one server, twice if it is silent. `None`: no answer.
fn ask(server: SocketAddr, host: &str, kind: u16) -> Option<Vec<IpAddr>> {
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(local, 0)).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
    // A number that nobody can guess: the keys of RandomState are the kernel's random bytes.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), kind);
    let [first, second, ..] = random.to_ne_bytes();
    let id = [first, second];
    let question = question(id, host, kind)?;
    let mut answer = [0; 4096];
    for _ in 0..2 {
        socket.send(&question).ok()?;
        // A stray packet is not the answer.
        for _ in 0..4 {
            let Ok(n) = socket.recv(&mut answer) else { break };
            if let Some(found) = read(answer.get(..n)?, id, kind) {
                return Some(found);
            }
        }
    }
    None
}

fn question(id: [u8; 2], host: &str, kind: u16) -> Option<Vec<u8>> {
    let mut packet = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n))?;
        packet.push(length);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    Some(packet)
}

/// The addresses in an answer; names on the way (CNAME) come with what they lead to.
fn read(packet: &[u8], id: [u8; 2], kind: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    if packet.get(..2)? != id || packet.get(2)? & 0x80 == 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(packet, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..word(6)?.min(64) {
        at = skip_name(packet, at)?;
        let (is, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = packet.get(at + 10..at + 10 + length)?;
        if is == kind {
            match data.len() {
                4 => found.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
                16 => found.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
                _ => {}
            }
        }
        at += 10 + length;
    }
    Some(found)
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            n if n & 0xc0 == 0xc0 => return Some(at + 2),
            n => at += usize::from(n) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1 a.example A.example # comment b\n::1 a.example\nbad x\n";
        assert_eq!(in_hosts(hosts, "a.example").len(), 2);
        assert!(in_hosts(hosts, "b").is_empty());
        assert_eq!(servers("nameserver 1.1.1.1\n nameserver fe80::1%eth0\n").len(), 2);
    }

    #[test]
    fn an_answer() {
        let mut packet = question([7, 8], "a.example", A).unwrap();
        packet[2] = 0x81;
        packet[7] = 1;
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3]);
        assert_eq!(read(&packet, [7, 8], A).unwrap(), [IpAddr::from([10, 1, 2, 3])]);
        assert_eq!(read(&packet, [7, 9], A), None);
        for end in 0..packet.len() {
            let _ = read(&packet[..end], [7, 8], A);
        }
    }
}
