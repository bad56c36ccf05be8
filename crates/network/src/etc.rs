//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a container: written into a directory of the host's, and bound over
//! the container's own. Sources: hosts(5), hostname(5), resolv.conf(5).

use crate::STAGE;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// The files, in the order in which they are written.
pub const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// What goes into the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Where they are written; made if it is missing.
    pub dir: PathBuf,
    /// The host name; `None` when the uts namespace is the host's: then there is no `hostname` either.
    pub hostname: Option<String>,
    /// Extra lines of `hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Name servers; empty: the host's that can be reached from inside.
    pub dns: Vec<IpAddr>,
    /// Where the host's name server is asked if it cannot be reached otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarder: Option<IpAddr>,
    /// The network is the host's own, so its loopback resolver can be reached.
    pub host_network: bool,
}

impl Request {
    /// Checks the host name, which becomes a line of two files.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn validate(&self) -> Result<()> {
        match &self.hostname {
            Some(name) if !is_name(name) => {
                let shown = text::shorten(&text::escape(name), 60);
                Err(Error::bad_input(
                    "--hostname",
                    format!("'{shown}' is not a host name (allowed: A-Z a-z 0-9 - . _)"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The names of the files that there will be.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let named = self.hostname.is_some();
        FILES.into_iter().filter(move |file| *file != "hostname" || named)
    }

    /// Writes the files. `own`: the container's addresses, as far as they are known by now.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, own: &[IpAddr]) -> Result<()> {
        self.make_dir()?;
        self.write_hosts(own)?;
        if let Some(name) = &self.hostname {
            self.put("hostname", &format!("{name}\n"))?;
        }
        let host = host_resolv_conf();
        self.put("resolv.conf", &self.resolv_conf(&host))
    }

    /// The directory, for every user of a container to enter; what it lies in, if it is missing too, is closed to others.
    fn make_dir(&self) -> Result<()> {
        if let Some(parent) = self.dir.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.call(|| format!("mkdir({parent:?}, 0700)"))?;
        }
        match DirBuilder::new().mode(0o755).create(&self.dir) {
            Err(_) if self.dir.is_dir() => Ok(()),
            Err(e) => Err(Error::call(format!("mkdir({:?}, 0755)", self.dir), e)),
            Ok(()) => std::fs::set_permissions(&self.dir, std::fs::Permissions::from_mode(0o755))
                .call(|| format!("chmod({:?}, 0755)", self.dir)),
        }
    }

    /// Writes `hosts` with the container's addresses, in place: the file may be bound already.
    ///
    /// # Errors
    /// As [`Request::write`].
    pub fn write_hosts(&self, own: &[IpAddr]) -> Result<()> {
        self.put("hosts", &self.hosts_text(own))
    }

    /// [`Request::write_hosts`], with the names of others on its networks.
    ///
    /// # Errors
    /// As [`Request::write`].
    pub fn write_hosts_among(&self, own: &[IpAddr], others: &[(String, IpAddr)]) -> Result<()> {
        self.put("hosts", &crate::names::with_lines(&self.hosts_text(own), others))
    }

    /// Writes what [`Request::write_hosts`] wrote to a copy of it.
    ///
    /// # Errors
    /// read(2)'s and write(2)'s.
    pub fn copy_hosts(&self, copy: std::fs::File) -> Result<()> {
        let path = self.dir.join("hosts");
        let text = std::fs::read(&path).call(|| format!("read({path:?})"))?;
        copy.set_len(0).call(|| "ftruncate(hosts, 0)")?;
        (&copy).write_all(&text).call(|| "write(hosts)")
    }

    fn hosts_text(&self, own: &[IpAddr]) -> String {
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
        text
    }

    /// The text of `hosts`.
    pub fn hosts(&self, own: &[IpAddr]) -> String {
        self.hosts_text(own)
    }

    /// Whether a word can be a host's name, or a domain's.
    pub fn is_hostname(word: &str) -> bool {
        is_name(word)
    }

    /// What resolv.conf of a namespace says.
    pub fn resolver(&self) -> String {
        self.resolv_conf(&host_resolv_conf())
    }

    /// The name servers asked for, else the host's; those on a loopback address of the host cannot be reached.
    fn resolv_conf(&self, host: &str) -> String {
        let mut text = String::new();
        let mut servers = self.dns.len();
        for address in &self.dns {
            let _ = writeln!(text, "nameserver {address}");
        }
        for line in host.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next().and_then(|word| word.parse::<IpAddr>().ok())) {
                (Some("nameserver"), Some(address))
                    if self.dns.is_empty() && (self.host_network || !address.is_loopback()) =>
                {
                    let _ = writeln!(text, "nameserver {address}");
                    servers += 1;
                }
                (Some("search" | "domain" | "options"), _) => {
                    let _ = writeln!(text, "{}", line.trim());
                }
                _ => {}
            }
        }
        if let (0, Some(address), true) = (servers, self.forwarder, host.contains("nameserver")) {
            let _ = writeln!(text, "nameserver {address}");
            servers = 1;
        }
        if servers == 0 {
            text.push_str(
                "# The host has no name server that can be reached from here; give one with --dns.\n",
            );
        }
        text
    }

    /// Readable by every user inside, whatever the umask is.
    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .call(|| format!("open({path:?}, O_WRONLY|O_CREAT|O_TRUNC|O_NOFOLLOW, 0644)"))
            .map_err(|e| e.in_stage(STAGE))?;
        file.write_all(text.as_bytes()).call(|| format!("write({path:?})"))?;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.set_permissions(readable).call(|| format!("fchmod({path:?}, 0644)"))
    }
}

/// The host's resolv.conf; where that names only a resolver on a loopback address, the one with the servers that this
/// resolver asks (systemd-resolved(8), NetworkManager(8)): those can be reached from another network namespace.
fn host_resolv_conf() -> String {
    const BEHIND: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let reachable = |text: &str| {
        let servers = text.lines().filter_map(|l| l.trim().strip_prefix("nameserver"));
        servers.filter_map(|s| s.trim().parse::<IpAddr>().ok()).any(|a| !a.is_loopback())
    };
    let own = read("/etc/resolv.conf");
    if reachable(&own) {
        return own;
    }
    BEHIND.iter().map(|path| read(path)).find(|text| reachable(text)).unwrap_or(own)
}

pub(crate) fn is_name(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !name.is_empty() && name.len() <= 253 && name.chars().all(ok)
}

/// A name server as typed.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming `option`.
pub fn parse_server(option: &str, word: &str) -> Result<IpAddr> {
    word.parse().map_err(|_| {
        let shown = text::shorten(&text::escape(word), 60);
        Error::bad_input(option, format!("'{shown}' is not an address (allowed: such as 192.0.2.1)"))
    })
}

/// `NAME:ADDRESS`; the address may have colons.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn parse_host(word: &str) -> Result<(String, IpAddr)> {
    let shown = text::shorten(&text::escape(word), 60);
    let bad =
        || Error::bad_input("--add-host", format!("'{shown}' is not a line for it (allowed: NAME:ADDRESS)"));
    let (name, rest) = word.split_once(':').or_else(|| word.split_once('=')).ok_or_else(bad)?;
    if !is_name(name) {
        return Err(bad());
    }
    Ok((name.to_string(), rest.trim_matches(['[', ']']).parse().map_err(|_| bad())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            dir: "/nowhere".into(),
            hostname: Some("web".into()),
            hosts: Vec::new(),
            dns: Vec::new(),
            forwarder: None,
            host_network: false,
        }
    }

    #[test]
    fn host_lines_cannot_smuggle() {
        assert_eq!(parse_host("db:10.0.0.2").unwrap().0, "db");
        assert!(parse_host("db:fd00::1").is_ok() && parse_host("db:[fd00::1]").is_ok());
        for bad in ["x", "x:y", "x:1.2.3.4\n6.6.6.6 bank", "a b:1.1.1.1", ":1.1.1.1", "x:"] {
            assert_eq!(parse_host(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
        let smuggler = Request { hostname: Some("a\n6.6.6.6 bank".into()), ..request() };
        assert_eq!(smuggler.validate().unwrap_err().exit_code(), 2);
        assert!(request().validate().is_ok());
    }

    #[test]
    fn hosts_name_the_container_itself() {
        assert!(request().hosts_text(&[]).contains("127.0.1.1\tweb\n"));
        let text = request().hosts_text(&[IpAddr::from([10, 88, 0, 2])]);
        assert!(text.contains("10.88.0.2\tweb\n") && !text.contains("127.0.1.1"));
    }

    #[test]
    fn loopback_resolvers_only_where_they_can_be_reached() {
        let host = "nameserver 127.0.0.53\nsearch example\n";
        let inside = request().resolv_conf(host);
        assert!(
            !inside.contains("127.0.0.53") && inside.contains("search example") && inside.contains("--dns")
        );
        let same = Request { host_network: true, ..request() };
        assert!(same.resolv_conf(host).contains("nameserver 127.0.0.53"));
        let forwarded = Request { forwarder: Some(IpAddr::from([10, 0, 2, 3])), ..request() };
        assert!(forwarded.resolv_conf(host).contains("nameserver 10.0.2.3\n"));
        assert!(!forwarded.resolv_conf("nameserver 9.9.9.9\n").contains("10.0.2.3"));
        let asked = Request { dns: vec![IpAddr::from([9, 9, 9, 9])], ..request() };
        assert!(asked.resolv_conf("nameserver 1.1.1.1\n").starts_with("nameserver 9.9.9.9\n"));
    }
}
