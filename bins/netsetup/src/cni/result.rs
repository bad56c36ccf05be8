//! Results and errors as the specification has them.

use super::config::Config;
use drydock_core::{Error, Kind, Result};
use drydock_network::attach;
use drydock_network::rtnl::Rtnl;
use serde_json::{Value, json};
use std::path::Path;

/// Versions of the specification that are spoken.
pub const SUPPORTED: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The version is not spoken.
pub const VERSION: u32 = 1;
/// A variable of the environment is missing or wrong.
pub const ENVIRONMENT: u32 = 4;
/// Reading failed.
pub const IO: u32 = 5;
/// The configuration is not JSON.
pub const DECODE: u32 = 6;
/// The configuration is wrong.
pub const CONFIG: u32 = 7;
/// STATUS: an ADD cannot work.
pub const UNAVAILABLE: u32 = 50;
/// CHECK: something is not as it was made.
pub const BROKEN: u32 = 101;
/// Something else failed.
const FAILED: u32 = 100;

/// An error, as the runtime gets it.
#[derive(Debug)]
pub struct Failure {
    code: u32,
    message: String,
    details: String,
    version: String,
}

impl Failure {
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new(), version: "1.1.0".into() }
    }

    /// In the configuration's version.
    pub fn of_version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    pub fn json(&self) -> Value {
        json!({ "cniVersion": self.version, "code": self.code, "msg": self.message, "details": self.details })
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let code = if e.kind() == Kind::BadInput { CONFIG } else { FAILED };
        let mut failure = Self::new(code, e.sentence());
        failure.details = e.remedy().unwrap_or_default().to_string();
        failure
    }
}

/// What an ADD has made.
pub fn of(config: &Config, sandbox: Option<&Path>, report: &attach::Report) -> Result<Value> {
    let host = Rtnl::here()?;
    let mac = |name: &str| -> Result<Value> { Ok(json!(host.link(name)?.and_then(|l| l.mac))) };
    let old = config.cni_version.starts_with("0.");
    let ip = |address: String, gateway: Option<std::net::IpAddr>, version: &str| {
        let mut ip = json!({ "address": address, "interface": 2 });
        if let (Some(gateway), Some(map)) = (gateway, ip.as_object_mut()) {
            map.insert("gateway".into(), json!(gateway));
        }
        if let (true, Some(map)) = (old, ip.as_object_mut()) {
            map.insert("version".into(), json!(version));
        }
        ip
    };
    let family = if report.address.address().is_ipv4() { "4" } else { "6" };
    let mut ips = vec![ip(report.address.to_string(), report.gateway, family)];
    ips.extend(report.address6.map(|a| ip(a.to_string(), None, "6")));
    let mut routes = Vec::new();
    if let (true, Some(gateway)) = (config.default_route(), report.gateway) {
        let to = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        routes.push(json!({ "dst": to, "gw": gateway }));
    }
    Ok(json!({
        "cniVersion": config.cni_version,
        "interfaces": [
            { "name": report.bridge, "mac": mac(&report.bridge)? },
            { "name": report.host_link, "mac": mac(&report.host_link)? },
            { "name": report.interface, "mac": report.mac, "sandbox": sandbox },
        ],
        "ips": ips,
        "routes": routes,
        "dns": config.dns.clone().unwrap_or_else(|| json!({})),
    }))
}
