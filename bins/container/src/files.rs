//! /etc/hosts, /etc/hostname and /etc/resolv.conf: files in the state directory, bound over the container's.

use crate::options::Options;
use crate::request::Network;
use crate::rootfs::Source;
use drydock_bundle::state::write_atomically;
use drydock_core::{ContainerId, Error, Result};
use serde::Serialize;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What goes into the files.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// Where they are.
    pub dir: PathBuf,
    /// The host name; `None` when the uts namespace is the host's.
    pub hostname: Option<String>,
    /// Extra lines of /etc/hosts.
    pub hosts: Vec<(String, IpAddr)>,
    /// Name servers; empty: the host's that can be reached from inside.
    pub dns: Vec<IpAddr>,
    /// The network is the host's own, so its loopback resolver can be reached.
    pub host_network: bool,
}

impl Request {
    /// From the options.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for an address or a name that is none.
    pub fn new(
        id: &ContainerId,
        state_root: &Path,
        hostname: Option<&str>,
        options: &Options,
        network: &Network,
    ) -> Result<Self> {
        let dns = options.dns.iter().map(|text| address("--dns", text)).collect::<Result<_>>()?;
        let hosts = options.add_host.iter().map(|text| host_line(text)).collect::<Result<_>>()?;
        Ok(Self {
            dir: state_root.join(id),
            hostname: hostname.map(String::from),
            hosts,
            dns,
            host_network: *network == Network::Host,
        })
    }

    /// Which file goes where; a root file system without /etc gets none.
    pub fn injected(&self, source: &Source) -> Vec<(String, PathBuf)> {
        if !source.path().join("etc").is_dir() && matches!(source, Source::Directory(_)) {
            return Vec::new();
        }
        ["hosts", "hostname", "resolv.conf"]
            .iter()
            .filter(|name| **name != "hostname" || self.hostname.is_some())
            .map(|name| (format!("/etc/{name}"), self.dir.join(name)))
            .collect()
    }

    /// Writes the files; the container's own address is not known yet.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub fn write(&self) -> Result<()> {
        self.write_hosts(&[])?;
        if let Some(name) = &self.hostname {
            write_readable(&self.dir, "hostname", &format!("{name}\n"))?;
        }
        write_readable(&self.dir, "resolv.conf", &self.resolv_conf())
    }

    /// Writes /etc/hosts with the container's addresses. The file is written in place: it may be bound already.
    ///
    /// # Errors
    /// As [`Request::write`].
    pub fn write_hosts(&self, own: &[IpAddr]) -> Result<()> {
        let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        if let Some(name) = &self.hostname {
            let loopback = [IpAddr::from([127, 0, 1, 1])];
            for address in if own.is_empty() { &loopback } else { own } {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{address}\t{name}");
            }
        }
        for (name, address) in &self.hosts {
            let _ = writeln!(text, "{address}\t{name}");
        }
        write_readable(&self.dir, "hosts", &text)
    }

    /// The name servers asked for, else the host's; those on a loopback address of the host cannot be reached.
    fn resolv_conf(&self) -> String {
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let mut text = String::new();
        let mut servers = 0;
        for address in &self.dns {
            let _ = writeln!(text, "nameserver {address}");
            servers += 1;
        }
        for line in host.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next().and_then(|word| word.parse::<IpAddr>().ok())) {
                (Some("nameserver"), Some(address)) if self.dns.is_empty() => {
                    if self.host_network || !address.is_loopback() {
                        let _ = writeln!(text, "nameserver {address}");
                        servers += 1;
                    }
                }
                (Some("search" | "domain" | "options"), _) => {
                    let _ = writeln!(text, "{}", line.trim());
                }
                _ => {}
            }
        }
        if servers == 0 {
            text.push_str(
                "# The host has no name server that can be reached from here; give one with --dns.\n",
            );
        }
        text
    }
}

/// Readable by every user inside; written in place if it is there.
fn write_readable(dir: &Path, name: &str, text: &str) -> Result<()> {
    use drydock_core::error::CallExt;
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    if path.exists() {
        return std::fs::write(&path, text).call(|| format!("write({path:?})"));
    }
    write_atomically(dir, name, text.as_bytes())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        .call(|| format!("chmod({path:?}, 0644)"))
}

fn address(option: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 60);
        Error::bad_input(option, format!("'{shown}' is not an address (allowed: such as 192.0.2.1)"))
    })
}

/// `NAME:ADDRESS`; the address may have colons.
fn host_line(text: &str) -> Result<(String, IpAddr)> {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 60);
    let bad = || Error::bad_input("--add-host", format!("'{shown}' (allowed: NAME:ADDRESS)"));
    let (name, rest) = text.split_once(':').or_else(|| text.split_once('=')).ok_or_else(bad)?;
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(ok) {
        return Err(bad());
    }
    Ok((name.to_string(), rest.trim_matches(['[', ']']).parse().map_err(|_| bad())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_lines_cannot_smuggle() {
        assert_eq!(host_line("db:10.0.0.2").unwrap().0, "db");
        assert!(host_line("db:fd00::1").is_ok() && host_line("db:[fd00::1]").is_ok());
        for bad in ["x", "x:y", "x:1.2.3.4\n6.6.6.6 bank", "a b:1.1.1.1", ":1.1.1.1", "x:"] {
            assert_eq!(host_line(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
