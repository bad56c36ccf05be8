//! A topology as a TOML file says it: networks, who is on them, what more may reach each other.

use drydock_core::{Error, Result, text};
use drydock_network::limit::Direction;
use drydock_network::{InterfaceAddress, Publish, Subnet, address, name, netns, rate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// Larger files are no topologies.
const MAX_BYTES: u64 = 1 << 20;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Networks by name.
    #[serde(default)]
    pub networks: BTreeMap<String, Network>,
    /// Namespaces by name.
    #[serde(default)]
    pub namespaces: BTreeMap<String, Namespace>,
    /// Pairs of networks that may reach each other.
    #[serde(default)]
    pub allow: Vec<(String, String)>,
    /// What `check` must find, where that does not follow from the rest.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// A network: a bridge with a subnet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// The bridge's interface name; the network's own name if it fits.
    pub bridge: Option<String>,
    /// Subnet; a free one if not given.
    pub subnet: Option<Subnet>,
    /// IPv6 subnet; unique local addresses if not given.
    pub subnet6: Option<Subnet>,
    /// IPv6 beside IPv4.
    #[serde(default = "yes")]
    pub ipv6: bool,
    /// Nothing leaves it.
    #[serde(default)]
    pub internal: bool,
    /// Masquerade what leaves it.
    #[serde(default)]
    pub nat: bool,
    /// Its members reach the host, not each other.
    #[serde(default)]
    pub isolated: bool,
    /// MTU.
    pub mtu: Option<u32>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Namespace {
    /// The networks that it is on: names, or names with addresses.
    #[serde(default)]
    pub networks: Memberships,
    /// Published ports, as of `netsetup publish`.
    #[serde(default)]
    pub publish: Vec<String>,
    /// It may send from any address (a router).
    #[serde(default)]
    pub allow_spoofing: bool,
    /// It may ask the cloud's metadata server.
    #[serde(default)]
    pub allow_metadata: bool,
    /// Limits of its first interface, as of `netsetup limit`.
    pub limit: Option<Limits>,
}

/// The networks of a namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Memberships {
    /// With the next free address on each.
    Names(Vec<String>),
    /// With these addresses.
    Addresses(BTreeMap<String, String>),
}

impl Default for Memberships {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

/// Limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// What it may send.
    pub egress: Option<String>,
    /// What it may receive.
    pub ingress: Option<String>,
    /// Delay of what it sends.
    pub delay: Option<String>,
    /// How much of that is lost.
    pub loss: Option<String>,
}

/// What `check` must find for one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// From this namespace.
    pub from: String,
    /// To this one.
    pub to: String,
    /// It is reached.
    pub reach: bool,
}

fn yes() -> bool {
    true
}

/// A namespace's place on a network.
pub struct Member {
    /// The network's name.
    pub network: String,
    /// An address that is asked for.
    pub address: Option<IpAddr>,
}

impl Network {
    /// The bridge's interface name.
    pub fn bridge(&self, own: &str) -> String {
        match &self.bridge {
            Some(bridge) => bridge.clone(),
            None if name::check_interface("network", own).is_ok() => own.to_string(),
            None => format!("br-{:010x}", name::hash(&["network", own]) >> 24),
        }
    }
}

impl Namespace {
    /// Its places, in order.
    pub fn members(&self) -> Vec<Member> {
        match &self.networks {
            Memberships::Names(names) => {
                names.iter().map(|n| Member { network: n.clone(), address: None }).collect()
            }
            Memberships::Addresses(all) => {
                all.iter().map(|(n, a)| Member { network: n.clone(), address: a.parse().ok() }).collect()
            }
        }
    }

    /// Its limits, checked.
    pub fn directions(&self) -> Result<Option<(Direction, Direction)>> {
        let Some(limits) = &self.limit else { return Ok(None) };
        let rate = |what, word: &Option<String>| word.as_deref().map(|r| rate::rate(what, r)).transpose();
        let egress = Direction {
            rate: rate("egress", &limits.egress)?,
            delay: limits.delay.as_deref().map(|t| rate::time("delay", t)).transpose()?,
            loss: limits.loss.as_deref().map(|l| rate::percent("loss", l)).transpose()?,
            ..Direction::default()
        };
        Ok(Some((egress, Direction { rate: rate("ingress", &limits.ingress)?, ..Direction::default() })))
    }

    /// Its published ports, checked.
    pub fn ports(&self) -> Result<Vec<Publish>> {
        let mut all = Vec::new();
        for spec in &self.publish {
            all.extend(Publish::parse(spec)?);
        }
        Ok(all)
    }
}

impl Topology {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the place in the file.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = text::escape(&path.to_string_lossy());
        let unreadable = |e: std::io::Error| {
            let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
            Error::bad_input(&shown, why)
        };
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            return Err(Error::bad_input(&shown, "is no topology (allowed: a TOML file of at most 1 MiB)"));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::bad_input(&shown, "is not UTF-8"))?;
        let parsed: Self = toml::from_str(&text).map_err(|e| {
            let line = e.span().map(|s| text.get(..s.start).unwrap_or("").matches('\n').count() + 1);
            let at = line.map_or(shown.clone(), |line| format!("{shown}:{line}"));
            Error::bad_input(at, e.message().replace('\n', " "))
        })?;
        parsed.check().map_err(|e| Error::bad_input(&shown, e.sentence()))?;
        Ok(parsed)
    }

    fn check(&self) -> Result<()> {
        for (name, network) in &self.networks {
            name::check_network(name)?;
            name::check_interface(&format!("bridge of network '{name}'"), &network.bridge(name))?;
            drydock_network::bridge::check_mtu(network.mtu)?;
            let twice =
                self.networks.iter().find(|(n, other)| *n < name && other.bridge(n) == network.bridge(name));
            if let Some((other, _)) = twice {
                return Err(Error::bad_input(
                    format!("networks '{other}' and '{name}'"),
                    "have the same bridge",
                ));
            }
            for (n, other) in self.networks.iter().filter(|(n, _)| *n < name) {
                if let (Some(a), Some(b)) = (network.subnet, other.subnet)
                    && a.overlaps(b)
                {
                    return Err(Error::bad_input(
                        format!("subnet {a} of '{name}'"),
                        format!("overlaps {b} of '{n}'"),
                    ));
                }
            }
        }
        let known = |network: &str| {
            self.networks.get(network).ok_or_else(|| {
                Error::bad_input(format!("network '{}'", text::escape(network)), "is not in the file")
            })
        };
        let namespace = |name: &str| match self.namespaces.contains_key(name) {
            true => Ok(()),
            false => {
                Err(Error::bad_input(format!("namespace '{}'", text::escape(name)), "is not in the file"))
            }
        };
        for (name, ns) in &self.namespaces {
            netns::path_of(name)?;
            ns.directions().map_err(|e| Error::bad_input(format!("namespace '{name}'"), e.sentence()))?;
            ns.ports().map_err(|e| Error::bad_input(format!("namespace '{name}'"), e.sentence()))?;
            if let Memberships::Addresses(all) = &ns.networks {
                for (network, word) in all {
                    self.check_address(name, known(network)?, word)?;
                }
            }
            for member in ns.members() {
                known(&member.network)?;
            }
        }
        for (a, b) in &self.allow {
            known(a).and(known(b))?;
        }
        for e in &self.expect {
            namespace(&e.from).and(namespace(&e.to))?;
        }
        Ok(())
    }

    fn check_address(&self, name: &str, network: &Network, word: &str) -> Result<()> {
        let at = format!("address of '{name}'");
        let shown = text::shorten(&text::escape(word), 40);
        let allowed =
            || Error::bad_input(&at, format!("'{shown}' is no address (allowed: such as 10.0.0.2)"));
        let address: IpAddr = word.parse().map_err(|_| allowed())?;
        address::check_unicast(&at, address, word)?;
        let Some(subnet) = network.subnet else {
            return Err(Error::bad_input(at, format!("'{shown}' needs a subnet of the network")));
        };
        InterfaceAddress::parse_as(&at, &subnet.with(address).to_string())?;
        match subnet.host_number(address) {
            Some(_) => Ok(()),
            None => Err(Error::bad_input(at, format!("'{shown}' is outside the subnet {subnet}"))),
        }
    }

    /// Whether one namespace is to reach another: they share a network, or two networks of theirs may reach each other;
    /// unless the file says what is expected.
    pub fn expects(&self, from: &str, to: &str) -> bool {
        if let Some(said) = self.expect.iter().rev().find(|e| e.from == from && e.to == to) {
            return said.reach;
        }
        let (Some(a), Some(b)) = (self.namespaces.get(from), self.namespaces.get(to)) else { return false };
        let (a, b) = (a.members(), b.members());
        a.iter().any(|x| {
            b.iter().any(|y| {
                let isolated = self.networks.get(&x.network).is_some_and(|n| n.isolated);
                let allowed = |(p, q): &(String, String)| {
                    (*p == x.network && *q == y.network) || (*q == x.network && *p == y.network)
                };
                (x.network == y.network && !isolated) || self.allow.iter().any(allowed)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Topology> {
        let t: Topology = toml::from_str(text).map_err(|e| Error::bad_input("x", e.to_string()))?;
        t.check().map(|()| t)
    }

    #[test]
    fn who_reaches_whom() {
        let t = parse(
            "allow = [[\"l\", \"z\"]]\n[networks.l]\n[networks.r]\n[networks.z]\nisolated = true\n\
             [namespaces.a]\nnetworks = [\"l\"]\n[namespaces.b]\nnetworks = [\"l\", \"r\"]\n\
             [namespaces.c]\nnetworks = [\"r\"]\n[namespaces.d]\nnetworks = [\"z\"]\n[namespaces.e]\nnetworks = [\"z\"]\n",
        )
        .unwrap();
        assert!(t.expects("a", "b") && t.expects("b", "c") && !t.expects("a", "c") && !t.expects("c", "a"));
        assert!(t.expects("a", "d") && t.expects("d", "a") && !t.expects("d", "e") && !t.expects("c", "d"));
    }

    #[test]
    fn bad_files_are_refused() {
        for bad in [
            "x = 1",
            "[networks.\"a/b\"]",
            "[networks.a]\nsubnet = \"10.0.0.1/24\"",
            "[networks.a]\nsubnet = \"10.0.0.0/24\"\n[networks.b]\nsubnet = \"10.0.0.0/16\"",
            "[networks.a]\nbridge = \"x\"\n[networks.b]\nbridge = \"x\"",
            "[networks.a]\nmtu = 5",
            "[namespaces.n]\nnetworks = [\"missing\"]",
            "[networks.a]\n[namespaces.n]\nnetworks = { a = \"10.0.0.2\" }",
            "[networks.a]\nsubnet = \"10.0.0.0/24\"\n[namespaces.n]\nnetworks = { a = \"10.0.1.2\" }",
            "[networks.a]\nsubnet = \"10.0.0.0/24\"\n[namespaces.n]\nnetworks = { a = \"10.0.0.255\" }",
            "[namespaces.n]\npublish = [\"0\"]",
            "[namespaces.n]\nlimit = { egress = \"x\" }",
            "[namespaces.\"..\"]",
            "allow = [[\"a\", \"b\"]]",
            "[[expect]]\nfrom = \"a\"\nto = \"b\"\nreach = true",
        ] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
