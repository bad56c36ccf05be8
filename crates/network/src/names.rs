//! Who else is on one's networks, by name: lines of a hosts file that follow a marker and are written anew when somebody
//! comes or goes. No resolver runs for it.

use crate::state::Store;
use crate::{STAGE, netns};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Before the lines that are written anew.
pub const MARKER: &str = "# Others on the same networks, kept by drydock:";
/// First line of the files that we make for named namespaces.
pub const OURS: &str = "# Written by netsetup dns.";
/// Larger files are not ours.
const MAX_BYTES: u64 = 1 << 20;

/// Where ip-netns(8) and `netsetup ns exec` look for a namespace's files.
pub fn directory(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

/// Who is on the networks of an owner, itself not among them: names with addresses, by name.
///
/// # Errors
/// When the lease directory cannot be read.
pub fn neighbours(lease_dir: &Path, owner: &str) -> Result<Vec<(String, IpAddr)>> {
    if !lease_dir.exists() {
        return Ok(Vec::new());
    }
    let mut store = Store::lock(lease_dir)?;
    let mut found = BTreeSet::new();
    for network in store.networks()? {
        if !network.leases.iter().any(|l| l.owner == owner) {
            continue;
        }
        for lease in network.leases.iter().filter(|l| l.owner != owner) {
            found.extend(
                std::iter::once(lease.address).chain(lease.address6).map(|a| (lease.owner.clone(), a)),
            );
        }
    }
    Ok(found.into_iter().collect())
}

/// Who is on these networks.
///
/// # Errors
/// When the lease directory cannot be read.
pub fn members(lease_dir: &Path, networks: &[String]) -> Result<BTreeSet<String>> {
    if networks.is_empty() || !lease_dir.exists() {
        return Ok(BTreeSet::new());
    }
    let mut store = Store::lock(lease_dir)?;
    let all = store.networks()?.into_iter().filter(|n| networks.contains(&n.network));
    Ok(all.flat_map(|n| n.leases.into_iter().map(|l| l.owner)).collect())
}

/// The networks that an owner is on.
///
/// # Errors
/// When the lease directory cannot be read.
pub fn networks_of(lease_dir: &Path, owner: &str) -> Result<Vec<String>> {
    if !lease_dir.exists() {
        return Ok(Vec::new());
    }
    let mut store = Store::lock(lease_dir)?;
    let on = store.networks()?.into_iter().filter(|n| n.leases.iter().any(|l| l.owner == owner));
    Ok(on.map(|n| n.network).collect())
}

/// A hosts file's text with these lines after its marker. Names that the rest of it has already stay as they are there.
pub fn with_lines(text: &str, neighbours: &[(String, IpAddr)]) -> String {
    let own = text.split(MARKER).next().unwrap_or("").trim_end_matches('\n');
    let known: BTreeSet<&str> = own.lines().flat_map(|l| l.split_whitespace().skip(1)).collect();
    let mut out = format!("{own}\n");
    let new: Vec<&(String, IpAddr)> = neighbours
        .iter()
        .filter(|(name, _)| !known.contains(name.as_str()) && crate::etc::is_name(name))
        .collect();
    if !new.is_empty() {
        out.push_str(&format!("{MARKER}\n"));
        for (name, address) in new {
            out.push_str(&format!("{address}\t{name}\n"));
        }
    }
    out
}

/// Writes the lines into `/etc/hosts` of a process's root, in place, for the file may be bound over another. What the
/// process has made of that path is followed within its own root only, and never through a link.
///
/// # Errors
/// The process is gone; the file cannot be written.
pub fn write_inside(pid: i32, neighbours: &[(String, IpAddr)]) -> Result<()> {
    let root = format!("/proc/{pid}/root");
    let root = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({root:?}, O_PATH)"))?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat2(&root, "etc/hosts", flags, Mode::empty(), how)
        .call(|| "openat2(\"/etc/hosts\", RESOLVE_IN_ROOT|RESOLVE_NO_SYMLINKS)")?;
    rewrite(file, neighbours)
}

fn rewrite(file: OwnedFd, neighbours: &[(String, IpAddr)]) -> Result<()> {
    let meta = rustix::fs::fstat(&file).call(|| "fstat(hosts)")?;
    let regular = rustix::fs::FileType::from_raw_mode(meta.st_mode).is_file();
    if !regular || u64::try_from(meta.st_size).is_ok_and(|s| s > MAX_BYTES) {
        return Err(Error::failed("/etc/hosts", "is no hosts file"));
    }
    let mut file = std::fs::File::from(file);
    let mut text = String::new();
    std::io::Read::by_ref(&mut file).take(MAX_BYTES).read_to_string(&mut text).call(|| "read(hosts)")?;
    let new = with_lines(&text, neighbours);
    if new == text {
        return Ok(());
    }
    std::io::Seek::rewind(&mut file).call(|| "lseek(hosts)")?;
    // A reader in between sees a file that is too long rather than an empty one.
    file.write_all(new.as_bytes()).call(|| "write(hosts)")?;
    file.set_len(new.len() as u64).call(|| "ftruncate(hosts)")
}

/// Brings the hosts file of a named namespace up to date, if `netsetup dns` has made one.
///
/// # Errors
/// When it cannot be written.
pub fn refresh_named(namespace: &str, lease_dir: &Path, owner: &str) -> Result<()> {
    let path = directory(namespace).join("hosts");
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()) else { return Ok(()) };
    let mut first = vec![0u8; OURS.len()];
    let read = rustix::io::pread(&file, first.as_mut_slice(), 0).unwrap_or(0);
    if first.get(..read) != Some(OURS.as_bytes()) {
        return Ok(());
    }
    rewrite(file, &neighbours(lease_dir, owner)?)
}

/// Brings the hosts files of the named namespaces on these networks up to date.
///
/// # Errors
/// When the leases cannot be read.
pub fn refresh(lease_dir: &Path, networks: &[String]) -> Result<()> {
    if !Path::new("/etc/netns").exists() {
        return Ok(());
    }
    let mut store = Store::lock(lease_dir)?;
    let mut named = BTreeSet::new();
    for network in store.networks()?.into_iter().filter(|n| networks.contains(&n.network)) {
        for lease in &network.leases {
            let name = lease.netns.as_deref().and_then(|p| p.strip_prefix(netns::DIR).ok());
            named.extend(name.and_then(Path::to_str).map(|name| (name.to_string(), lease.owner.clone())));
        }
    }
    drop(store);
    for (namespace, owner) in named {
        refresh_named(&namespace, lease_dir, &owner).map_err(|e| e.in_stage(STAGE))?;
    }
    Ok(())
}

/// Removes the files that `netsetup dns` has made for a namespace, and its directory if nothing else is in it.
///
/// # Errors
/// unlink(2)'s.
pub fn forget(namespace: &str, ctx: &Ctx<'_>) -> Result<bool> {
    let dir = directory(namespace);
    let mut removed = false;
    for name in ["hosts", "resolv.conf"] {
        let path = dir.join(name);
        // An empty one: its writer was killed.
        if !std::fs::read_to_string(&path).is_ok_and(|text| text.is_empty() || text.starts_with(OURS)) {
            continue;
        }
        ctx.perform(&crate::NetStep::DeleteFile { path: path.clone() }, |_| {
            std::fs::remove_file(&path).call(|| format!("unlink({path:?})"))
        })?;
        removed = true;
    }
    if removed {
        let _ = std::fs::remove_dir(&dir);
        let _ = std::fs::remove_dir("/etc/netns");
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_and_go_and_the_rest_stays() {
        let base = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n";
        let db =
            vec![("db".to_string(), "10.0.0.3".parse().unwrap()), ("web".into(), "6.6.6.6".parse().unwrap())];
        let with = with_lines(base, &db);
        assert_eq!(with, format!("{base}{MARKER}\n10.0.0.3\tdb\n"));
        assert_eq!(with_lines(&with, &db), with);
        assert_eq!(with_lines(&with, &[]), base);
        let smuggler = vec![("a\n6.6.6.6 bank".to_string(), "10.0.0.3".parse().unwrap())];
        assert_eq!(with_lines(base, &smuggler), base);
    }
}
