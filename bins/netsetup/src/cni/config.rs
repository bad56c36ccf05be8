//! The network configuration of a runtime: the keys of the bridge, host-local, portmap and bandwidth plugins that mean
//! something here.

use super::result::{CONFIG, DECODE, Failure, SUPPORTED, VERSION};
use drydock_core::{Error, Result};
use drydock_network::limit::Direction;
use drydock_network::{InterfaceAddress, Mac, Publish, Subnet, attach, name};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// The configuration. Keys that are not known are left alone, as the specification wants it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    pub cni_version: String,
    pub name: String,
    #[serde(default)]
    bridge: Option<String>,
    #[serde(default)]
    subnet: Option<Subnet>,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default = "yes")]
    ip_masq: bool,
    #[serde(default = "yes")]
    is_default_gateway: bool,
    #[serde(default)]
    port_isolation: bool,
    #[serde(default = "yes")]
    macspoofchk: bool,
    #[serde(default)]
    allow_metadata: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default = "yes")]
    ipv6: bool,
    #[serde(default)]
    ipam: Ipam,
    #[serde(default)]
    pub dns: Option<Value>,
    #[serde(default)]
    runtime_config: Runtime,
    #[serde(default)]
    args: Args,
    #[serde(default)]
    prev_result: Option<Previous>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Vec<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ipam {
    #[serde(default)]
    subnet: Option<Subnet>,
    #[serde(default)]
    range_start: Option<IpAddr>,
    #[serde(default)]
    range_end: Option<IpAddr>,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    ranges: Vec<Vec<Range>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    subnet: Subnet,
    #[serde(default)]
    range_start: Option<IpAddr>,
    #[serde(default)]
    range_end: Option<IpAddr>,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Runtime {
    #[serde(default)]
    port_mappings: Vec<Mapping>,
    #[serde(default)]
    mac: Option<String>,
    #[serde(default)]
    ips: Vec<String>,
    #[serde(default)]
    bandwidth: Option<Bandwidth>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// Bits and bits a second, as the bandwidth plugin has them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bandwidth {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: ArgsCni,
}

#[derive(Debug, Default, Deserialize)]
struct ArgsCni {
    #[serde(default)]
    ips: Vec<String>,
    #[serde(default)]
    mac: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Previous {
    #[serde(default)]
    ips: Vec<PreviousIp>,
}

#[derive(Debug, Deserialize)]
struct PreviousIp {
    address: InterfaceAddress,
}

/// An attachment that the runtime knows (GC).
#[derive(Debug, Deserialize)]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub ifname: String,
}

fn yes() -> bool {
    true
}

impl Config {
    pub fn parse(text: &str) -> std::result::Result<Self, Failure> {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Failure::new(DECODE, format!("the configuration is not JSON: {e}")))?;
        let version = value.get("cniVersion").and_then(Value::as_str).unwrap_or("").to_string();
        if !SUPPORTED.contains(&version.as_str()) {
            let shown = drydock_core::text::escape(&version);
            let problem = format!("cniVersion '{shown}' is not spoken (allowed: {})", SUPPORTED.join(", "));
            return Err(Failure::new(VERSION, problem));
        }
        let config: Self = serde_json::from_value(value).map_err(|e| {
            Failure::new(CONFIG, format!("the configuration is wrong: {e}")).of_version(&version)
        })?;
        name::check_network(&config.name)
            .map_err(|e| Failure::new(CONFIG, e.sentence()).of_version(&version))?;
        Ok(config)
    }

    /// The namespace gets a default route.
    pub fn default_route(&self) -> bool {
        self.is_default_gateway && !self.internal
    }

    /// The addresses of the result that an ADD gave.
    pub fn previous_addresses(&self) -> Vec<IpAddr> {
        self.prev_result.iter().flat_map(|p| p.ips.iter().map(|ip| ip.address.address())).collect()
    }

    /// The request that it makes.
    pub fn fill(&self, request: &mut attach::Request) -> Result<()> {
        request.network.clone_from(&self.name);
        request.bridge = match &self.bridge {
            Some(bridge) => bridge.clone(),
            None if name::check_interface("bridge", &self.name).is_ok() => self.name.clone(),
            None => format!("br-{:010x}", name::hash(&["network", &self.name]) >> 24),
        };
        let ranges: Vec<Range> = self.ipam.ranges.iter().flatten().cloned().collect();
        let first = ranges.iter().find(|r| r.subnet.address().is_ipv4()).or(ranges.first());
        let beside = first.filter(|f| f.subnet.address().is_ipv4());
        let second = beside.and_then(|_| ranges.iter().find(|r| r.subnet.address().is_ipv6()));
        request.subnet = self.subnet.or(self.ipam.subnet).or(first.map(|r| r.subnet));
        request.subnet6 = second.map(|r| r.subnet);
        request.gateway = self.ipam.gateway.or(first.and_then(|r| r.gateway));
        let start = self.ipam.range_start.or(first.and_then(|r| r.range_start));
        let end = self.ipam.range_end.or(first.and_then(|r| r.range_end));
        if let (Some(subnet), true) = (request.subnet, start.is_some() || end.is_some()) {
            let last = subnet.hosts().checked_sub(1).and_then(|n| subnet.host(n));
            request.pool = start.or(subnet.host(0)).zip(end.or(last));
        }
        request.mtu = self.mtu.filter(|mtu| *mtu != 0);
        request.nat = self.ip_masq && !self.internal;
        request.internal = self.internal;
        request.isolated = self.port_isolation;
        request.check_source = self.macspoofchk;
        request.metadata = self.allow_metadata;
        request.ipv6 = self.ipv6;
        request.default_route = self.default_route();
        let mac = self.runtime_config.mac.as_ref().or(self.args.cni.mac.as_ref());
        request.mac = mac.map(|m| Mac::parse(m)).transpose()?;
        let ips =
            if self.runtime_config.ips.is_empty() { &self.args.cni.ips } else { &self.runtime_config.ips };
        for word in ips {
            let parsed = asked(word, request.subnet, request.subnet6)?;
            match parsed.address() {
                IpAddr::V6(_) if request.subnet.is_none_or(|s| s.address().is_ipv4()) => {
                    request.address6 = Some(parsed);
                }
                _ => request.address = Some(parsed),
            }
        }
        request.publish = self.ports()?;
        Ok(())
    }

    fn ports(&self) -> Result<Vec<Publish>> {
        let mut all = Vec::new();
        for m in self.runtime_config.port_mappings.iter().filter(|m| m.host_port != 0) {
            // Without an address it is every one, as the portmap plugin has it.
            let host = if m.host_ip.is_empty() { "0.0.0.0" } else { &m.host_ip };
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
            let protocol = if m.protocol.is_empty() { "tcp".into() } else { m.protocol.to_ascii_lowercase() };
            all.extend(Publish::parse(&format!("{host}:{}:{}/{protocol}", m.host_port, m.container_port))?);
        }
        Ok(all)
    }

    /// Limits of what the namespace sends and receives.
    pub fn limits(&self) -> Result<Option<(Direction, Direction)>> {
        let Some(b) = &self.runtime_config.bandwidth else { return Ok(None) };
        let one = |rate: u64, burst: u64| -> Result<Direction> {
            if rate == 0 {
                return Ok(Direction::default());
            }
            if !(8_000..=1_000_000_000_000).contains(&rate) {
                return Err(Error::bad_input(
                    "bandwidth",
                    format!("{rate} is out of range (allowed: 8000 bits a second and more)"),
                ));
            }
            let burst = u32::try_from(burst / 8).ok().filter(|b| *b > 0);
            Ok(Direction { rate: Some(rate / 8), burst, ..Direction::default() })
        };
        let both = (one(b.egress_rate, b.egress_burst)?, one(b.ingress_rate, b.ingress_burst)?);
        Ok((both != Default::default()).then_some(both))
    }
}

/// `ADDRESS` or `ADDRESS/PREFIX`.
fn asked(word: &str, subnet: Option<Subnet>, subnet6: Option<Subnet>) -> Result<InterfaceAddress> {
    if word.contains('/') {
        return InterfaceAddress::parse_as("ips", word);
    }
    let shown = drydock_core::text::escape(word);
    let address: IpAddr =
        word.parse().map_err(|_| Error::bad_input("ips", format!("'{shown}' is not an address")))?;
    let within = [subnet, subnet6].into_iter().flatten().find(|s| s.contains(address));
    let within =
        within.ok_or_else(|| Error::bad_input("ips", format!("{address} is in no subnet of the network")))?;
    InterfaceAddress::parse_as("ips", &within.with(address).to_string())
}
