//! What outlives one call: per network its bridge, subnet and leases; for the host its changed sysctls and published
//! ports. JSON files in the lease directory, written by rename under one lock, so that a killed writer leaves the old
//! file or the new one.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::address::{Mac, Subnet};
use crate::publish::Publish;

const LOCK: &str = "lock";
const HOST: &str = "host.json";
const TEMPORARY: &str = ".new";

/// Directory below the state root where leases and references are kept. No container id has an `@`.
pub const LEASE_DIR: &str = "@networks";

const MAX_BYTES: u64 = 16 << 20;

/// An address that an owner holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Container id or namespace name.
    pub owner: String,
    /// Host end of its veth pair: tells two interfaces of one owner apart.
    pub link: String,
    /// Interface within its namespace.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// It needs the network's NAT.
    #[serde(default)]
    pub nat: bool,
    /// Its IPv6 address, where the network has IPv6 beside IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<IpAddr>,
    /// Addresses that were added later (`netsetup addr`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<IpAddr>,
    /// Its namespace, where that has a name: `/run/netns/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// What it sends is not checked (`--allow-spoofing`).
    #[serde(default)]
    pub unchecked: bool,
    /// It may ask the cloud's metadata server (`--allow-metadata`).
    #[serde(default)]
    pub metadata: bool,
    /// Its link-layer address: nobody else may send from it, and it from no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// NAT or forwarding for a subnet that somebody has turned on by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetUse {
    /// Whose it is.
    pub owner: String,
    /// The subnet.
    pub subnet: Subnet,
    /// With masquerade; else forwarding alone.
    pub masquerade: bool,
}

/// Two subnets that may reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// One.
    pub a: Subnet,
    /// The other.
    pub b: Subnet,
}

/// A network: one bridge, one subnet, its leases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub network: String,
    /// Its bridge.
    pub bridge: String,
    /// We made the bridge, so we remove it after the last user.
    pub made_bridge: bool,
    /// Its subnet.
    pub subnet: Subnet,
    /// The host's address on the bridge, and the containers' gateway.
    pub gateway: Option<IpAddr>,
    /// Owners that keep the network without a lease (`bridge add`).
    #[serde(default)]
    pub holders: Vec<String>,
    /// Who has which address.
    #[serde(default)]
    pub leases: Vec<Lease>,
    /// Its IPv6 subnet beside an IPv4 one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet>,
    /// NAT of IPv6 was asked for.
    #[serde(default)]
    pub nat6: bool,
    /// No way out of it and none in but published ports.
    #[serde(default)]
    pub internal: bool,
    /// First and last address that are given without being asked for; the whole subnet if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<(IpAddr, IpAddr)>,
    /// Host number after the last given address: addresses come back into use as late as possible.
    #[serde(default)]
    pub next: u64,
}

/// A sysctl of the host that was changed for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlUse {
    /// Value before the first user.
    pub previous: String,
    /// Value that was set.
    pub set: String,
    /// Who needs it.
    pub users: Vec<String>,
}

/// A published port and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Container id or namespace name.
    pub owner: String,
    /// The container's address.
    pub container: IpAddr,
    /// The port.
    #[serde(flatten)]
    pub port: Publish,
}

/// What is shared by all networks of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Changed sysctls by absolute path.
    #[serde(default)]
    pub sysctls: BTreeMap<String, SysctlUse>,
    /// Published ports.
    #[serde(default)]
    pub published: Vec<PublishedPort>,
    /// NAT and forwarding that were turned on by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<SubnetUse>,
    /// Which subnets may reach each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Allowed>,
    /// Topologies that were applied, by owner.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topologies: BTreeMap<String, serde_json::Value>,
}

/// The lease directory, locked until dropped.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: File,
    /// The host's shared state; [`Store::save_host`] writes it.
    pub host: Host,
    /// Files that could not be read and were set aside.
    pub set_aside: Vec<String>,
}

impl Store {
    /// Locks the lease directory, making it (mode 0700) if it is missing. Waits for other holders.
    ///
    /// # Errors
    /// When the directory cannot be made or locked, or is not a directory of ours.
    pub fn lock(dir: &Path) -> Result<Self> {
        if !dir.is_absolute() {
            return Err(Error::bad_input(
                dir.display().to_string(),
                "the lease directory must be an absolute path",
            ));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .call(|| format!("mkdir({dir:?}, 0700)"))
            .map_err(|e| e.hint("run as root, or give a state directory that can be written (--root DIR)"))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
            .open(&path)
            .call(|| format!("open({path:?}, O_WRONLY|O_CREAT)"))?;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::call(format!("flock({path:?}, LOCK_EX)"), e)),
            }
        }
        // A writer that was killed left it; nobody else writes while we hold the lock.
        unlink(&dir.join(TEMPORARY))?;
        let mut store =
            Self { dir: dir.to_path_buf(), _lock: lock, host: Host::default(), set_aside: Vec::new() };
        store.host = store.load(HOST)?.unwrap_or_default();
        Ok(store)
    }

    /// Whether an owner has anything for which the host forwards packets.
    ///
    /// # Errors
    /// When a network's file cannot be read.
    pub fn forwards_for(&mut self, owner: &str) -> Result<bool> {
        let host = &self.host;
        let own =
            host.published.iter().any(|p| p.owner == owner) || host.subnets.iter().any(|s| s.owner == owner);
        Ok(own || self.networks()?.iter().flat_map(|n| &n.leases).any(|l| l.owner == owner && l.nat))
    }

    /// The network's state, if it has any.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn network(&mut self, name: &str) -> Result<Option<Network>> {
        self.load(&file_name(name))
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// When the directory or a file cannot be read.
    pub fn networks(&mut self) -> Result<Vec<Network>> {
        let dir = &self.dir;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).call(|| format!("opendir({dir:?})"))? {
            let name = entry.call(|| format!("readdir({dir:?})"))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("net-") && name.ends_with(".json") {
                names.push(name);
            }
        }
        names.sort();
        let mut all = Vec::new();
        for name in names {
            all.extend(self.load(&name)?);
        }
        Ok(all)
    }

    /// Writes a network's state.
    ///
    /// # Errors
    /// ENOSPC, EROFS, …: the old state stays.
    pub fn save_network(&self, network: &Network) -> Result<()> {
        self.save(&file_name(&network.network), network)
    }

    /// Forgets a network.
    ///
    /// # Errors
    /// unlink(2)'s, except ENOENT.
    pub fn forget_network(&self, name: &str) -> Result<()> {
        unlink(&self.dir.join(file_name(name)))
    }

    /// Writes the host's shared state; removes the file when nothing is in it.
    ///
    /// # Errors
    /// As [`Store::save_network`].
    pub fn save_host(&self) -> Result<()> {
        if self.host == Host::default() {
            return unlink(&self.dir.join(HOST));
        }
        self.save(HOST, &self.host)
    }

    /// A file that is not ours or was damaged is set aside as `NAME.corrupt`, so that one bad file stops nobody.
    fn load<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let path = self.dir.join(name);
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
            .open(&path);
        let file = match open {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(nix::libc::ELOOP) => {
                return self.put_aside(&path).map(|()| None);
            }
            other => other.call(|| format!("open({path:?}, O_RDONLY|O_NOFOLLOW)"))?,
        };
        let meta = file.metadata().call(|| format!("fstat({path:?})"))?;
        let mut bytes = Vec::new();
        if meta.is_file() && meta.len() <= MAX_BYTES {
            file.take(MAX_BYTES).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
            if let Ok(value) = serde_json::from_slice(&bytes) {
                return Ok(Some(value));
            }
        }
        self.put_aside(&path).map(|()| None)
    }

    fn put_aside(&mut self, path: &Path) -> Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".corrupt");
        std::fs::rename(path, &aside).call(|| format!("rename({path:?}, {aside:?})"))?;
        self.set_aside.push(format!("{} could not be read and was set aside as .corrupt", path.display()));
        Ok(())
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.dir.join(name);
        let temporary = self.dir.join(TEMPORARY);
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Error::failed(path.display().to_string(), e.to_string()))?;
        unlink(&temporary)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&temporary)
            .call(|| format!("open({temporary:?}, O_WRONLY|O_CREAT|O_EXCL)"))?;
        file.write_all(&bytes).call(|| format!("write({temporary:?})"))?;
        drydock_core::replace(&temporary, &path).call(|| format!("rename({temporary:?}, {path:?})"))
    }
}

impl Network {
    /// Somebody needs its NAT.
    pub fn needs_nat(&self) -> bool {
        self.leases.iter().any(|l| l.nat)
    }

    /// Its subnets: one, or one of each family.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> {
        std::iter::once(self.subnet).chain(self.subnet6)
    }

    /// The IPv6 address that goes with an IPv4 one: the same host number.
    pub fn beside(&self, address: IpAddr) -> Option<IpAddr> {
        self.subnet6?.host(self.subnet.host_number(address)?)
    }

    /// The host's IPv6 address on the bridge.
    pub fn gateway6(&self) -> Option<IpAddr> {
        self.beside(self.gateway?)
    }

    /// Nobody needs it any more.
    pub fn unused(&self) -> bool {
        self.holders.is_empty() && self.leases.is_empty()
    }
}

/// Keeps a topology for an owner, or forgets it.
///
/// # Errors
/// When the lease directory cannot be written.
pub fn remember_topology(lease_dir: &Path, owner: &str, topology: Option<serde_json::Value>) -> Result<()> {
    let mut store = Store::lock(lease_dir)?;
    match topology {
        Some(value) => store.host.topologies.insert(owner.to_string(), value),
        None => store.host.topologies.remove(owner),
    };
    store.save_host()
}

/// The topologies that were applied, by owner.
///
/// # Errors
/// When the lease directory cannot be read.
pub fn topologies(lease_dir: &Path) -> Result<BTreeMap<String, serde_json::Value>> {
    if !lease_dir.exists() {
        return Ok(BTreeMap::new());
    }
    Ok(Store::lock(lease_dir)?.host.topologies.clone())
}

fn file_name(network: &str) -> String {
    format!("net-{network}.json")
}

fn unlink(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::call(format!("unlink({path:?})"), e)),
        _ => Ok(()),
    }
}
