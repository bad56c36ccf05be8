//! What a published port is, and how it is written.

use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        }
    }

    /// `tcp`, `udp` or `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }
}

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// Address of the host that answers: 127.0.0.1 (default), another of its own, or 0.0.0.0 for all.
    pub host: IpAddr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// Transport protocol.
    pub transport: Transport,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.is_ipv6() { format!("[{}]", self.host) } else { self.host.to_string() };
        write!(f, "{host}:{}:{}/{}", self.host_port, self.container_port, self.transport.name())
    }
}

impl Publish {
    /// Parses `8080:80`, `8080` (the same port), `0.0.0.0:8080:80/udp`, `8000-8010:9000-9010`. A range gives one entry a port.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with what is allowed.
    pub fn parse(spec: &str) -> Result<Vec<Self>> {
        let bad = |why: String| {
            let shown = text::shorten(&text::escape(spec), 60);
            let object = format!("publish '{shown}'");
            Error::bad_input(
                object,
                format!(
                    "{why} (allowed: [HOST_ADDRESS:]PORT[:CONTAINER_PORT][/tcp|udp|sctp], or ranges FROM-TO)"
                ),
            )
        };
        let (ports, protocol) = spec.rsplit_once('/').unwrap_or((spec, "tcp"));
        let transport = match protocol {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            "sctp" => Transport::Sctp,
            other => return Err(bad(format!("'{other}' is not a protocol"))),
        };
        let (host, ports) = host_part(ports).map_err(|why| bad(why.into()))?;
        let (outside, inside) = ports.split_once(':').unwrap_or((ports, ports));
        let outside = range(outside).map_err(&bad)?;
        let inside = range(inside).map_err(&bad)?;
        let length = |r: (u16, u16)| r.1 - r.0;
        if length(outside) != length(inside) {
            return Err(bad("the two ranges differ in length".into()));
        }
        let pairs = (outside.0..=outside.1).zip(inside.0..=inside.1);
        Ok(pairs
            .map(|(host_port, container_port)| Self { host, host_port, container_port, transport })
            .collect())
    }

    pub(super) fn collides(&self, other: &Publish) -> bool {
        let same = self.host == other.host || self.host.is_unspecified() || other.host.is_unspecified();
        self.host_port == other.host_port && self.transport == other.transport && same
    }
}

fn host_part(ports: &str) -> std::result::Result<(IpAddr, &str), &'static str> {
    const DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(rest) = ports.strip_prefix('[') {
        let (address, rest) = rest.split_once("]:").ok_or("the address in brackets does not end")?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| "bad IPv6 address")?;
        return Ok((IpAddr::V6(address), rest));
    }
    match ports.split(':').count() {
        1 | 2 => Ok((DEFAULT, ports)),
        3 => {
            let (address, rest) = ports.split_once(':').ok_or("bad address")?;
            let address: Ipv4Addr = address.parse().map_err(|_| "the host address is not an IPv4 address")?;
            Ok((IpAddr::V4(address), rest))
        }
        _ => Err("too many colons; an IPv6 address goes in brackets"),
    }
}

fn range(text: &str) -> std::result::Result<(u16, u16), String> {
    let port = |t: &str| {
        let digits = !t.is_empty() && t.len() <= 5 && t.bytes().all(|b| b.is_ascii_digit());
        t.parse::<u16>()
            .ok()
            .filter(|p| digits && *p > 0)
            .ok_or_else(|| format!("'{}' is not a port from 1 to 65535", text::shorten(&text::escape(t), 20)))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("the range {first}-{last} goes backwards"));
    }
    Ok((first, last))
}

/// Refuses what cannot be published together.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`]: twice the same port, or families that do not fit.
pub fn check(ports: &[Publish], container: Option<IpAddr>) -> Result<()> {
    for (i, p) in ports.iter().enumerate() {
        if ports.iter().take(i).any(|q| q.collides(p)) {
            return Err(Error::bad_input(format!("publish '{p}'"), "the same host port is given twice"));
        }
        if p.host.is_multicast() {
            return Err(Error::bad_input(
                format!("publish '{p}'"),
                "the host address is a multicast address",
            ));
        }
        if p.host.is_ipv6() && p.host.is_loopback() {
            return Err(Error::bad_input(
                format!("publish '{p}'"),
                "the kernel does not forward from ::1 (allowed: 127.0.0.1 or another address of the host)",
            ));
        }
        if container.is_some_and(|c| c.is_ipv4() != p.host.is_ipv4()) {
            return Err(Error::bad_input(
                format!("publish '{p}'"),
                "host address and container address are of different families",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let one = |s: &str| {
            Publish::parse(s).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(one("8080:80"), "127.0.0.1:8080:80/tcp");
        assert_eq!(one("8080"), "127.0.0.1:8080:8080/tcp");
        assert_eq!(one("0.0.0.0:53:53/udp"), "0.0.0.0:53:53/udp");
        assert_eq!(one("[fd00::1]:1:2"), "[fd00::1]:1:2/tcp");
        assert_eq!(one("10-11:20-21"), "127.0.0.1:10:20/tcp 127.0.0.1:11:21/tcp");
        for bad in [
            "",
            "0",
            "65536",
            "-1",
            "10-5",
            "10-12:20",
            "80:80/icmp",
            "x",
            "80:",
            ":80",
            "1:2:3",
            "1.2.3:1:2",
            "1:2:3:4",
            "[::1:1:2",
            "80:80/",
            "80/TCP",
            "+80",
            "80:80 ",
            "999999:1",
            "0080808:80",
        ] {
            assert_eq!(Publish::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn collisions() {
        let p = |s: &str| Publish::parse(s).unwrap();
        assert!(check(&[p("80:80"), p("80:81")].concat(), None).is_err());
        assert!(check(&[p("80:80"), p("0.0.0.0:80:81")].concat(), None).is_err());
        assert!(check(&[p("80:80"), p("192.0.2.1:80:81"), p("80:80/udp")].concat(), None).is_ok());
        assert!(check(&p("[::1]:80:80"), None).is_err());
        assert!(check(&p("80:80"), Some("fd00::1".parse().unwrap())).is_err());
    }
}
