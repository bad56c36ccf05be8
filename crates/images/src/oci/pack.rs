//! A directory, or what has changed between two, as a tar archive: reproducible, in order of names, without anything of
//! the machine that it was made on but owners, modes, times and attributes. Sources: image-spec, layer.md; pax(1).

use super::tree::attributes;
use crate::unpack::path;
use crate::unpack::tarball::padding;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::os::fd::OwnedFd;
use tar::{EntryType, Header};

/// Directories in each other, at most.
const MAX_DEPTH: usize = 1024;

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// No file is newer than this (SOURCE_DATE_EPOCH), in seconds since 1970.
    pub epoch: Option<i64>,
    /// Files of whoever packs become root's: as [`crate::unpack::Ids::Mine`] unpacked them.
    pub mine_as_root: bool,
}

/// Which part of what lies below a directory is its own, and whose its files are.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Only what has this mount id (statx(2)): a mounted file or directory is passed over, as if it were unchanged. Without:
    /// what is mounted on a directory is not entered.
    pub mount: Option<u64>,
    /// A user namespace's users, as in uid_map: (inside, outside, count).
    pub users: Vec<(u32, u32, u32)>,
    /// The same for groups.
    pub groups: Vec<(u32, u32, u32)>,
}

impl View {
    /// What is at a name; `None` for nothing, and for what is not the directory's own.
    fn stat(&self, dir: &OwnedFd, name: &[u8]) -> Result<Option<Stat>> {
        let inside = |maps: &[(u32, u32, u32)], id: u32| {
            let found = maps.iter().find_map(|m| Some((m.0, id.checked_sub(m.1).filter(|n| *n < m.2)?)));
            found.and_then(|(first, n)| first.checked_add(n)).unwrap_or(id)
        };
        let found = stat(dir, name)?.map(|mut s| {
            (s.st_uid, s.st_gid) = (inside(&self.users, s.st_uid), inside(&self.groups, s.st_gid));
            s
        });
        Ok(found)
    }

    /// Whether a name is a mount point.
    fn is_mounted(&self, dir: &OwnedFd, name: &[u8]) -> Result<bool> {
        let Some(own) = self.mount else { return Ok(false) };
        Ok(mount_id(dir, name)?.is_some_and(|id| id != own))
    }
}

/// The id of the mount that a name is on; `None` if there is nothing.
fn mount_id(dir: &OwnedFd, name: &[u8]) -> Result<Option<u64>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(dir, path(name), flags, StatxFlags::MNT_ID) {
        Ok(found) if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 => Ok(Some(found.stx_mnt_id)),
        Ok(_) => Err(Error::failed("statx()", "tells no mount ids here (they need Linux 5.8)")),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::call(format!("statx({:?})", path(name)), e)),
    }
}

/// The id of the mount that a directory is on.
///
/// # Errors
/// statx(2)'s; before Linux 5.8.
pub fn mount_of(dir: &OwnedFd) -> Result<u64> {
    mount_id(dir, b".")?.ok_or_else(|| Error::failed("directory", "is gone"))
}

/// How one name differs between two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Not in the first.
    Added,
    /// In both, but not the same.
    Changed,
    /// Not in the second.
    Deleted,
}

/// Writes entries.
pub struct Writer<'o, W: Write> {
    out: W,
    options: &'o Options,
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Entries written.
    pub entries: u64,
    /// Sockets, which no archive can hold, passed over.
    pub sockets: u64,
}

fn open_dir(at: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path(name), flags, Mode::empty()).call(|| format!("openat({:?})", path(name)))
}

fn names(dir: &OwnedFd) -> Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir).call(|| "getdents64()")? {
        let name = entry.call(|| "getdents64()")?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(dir, path(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::call(format!("fstatat({:?})", path(name)), e)),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl<'o, W: Write> Writer<'o, W> {
    /// Writes to `out`.
    pub fn new(out: W, options: &'o Options) -> Self {
        Self { out, options, linked: HashMap::new(), buffer: vec![0; 256 << 10], entries: 0, sockets: 0 }
    }

    /// A whole directory, itself first.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn directory(&mut self, root: &OwnedFd, view: &View) -> Result<()> {
        let Some(stat) = view.stat(root, b".")? else { return Ok(()) };
        self.header(b"./", &stat, EntryType::Directory, b"", &attributes(root)?)?;
        self.below(root, b"", view, stat.st_dev, 0)
    }

    fn below(&mut self, dir: &OwnedFd, at: &[u8], view: &View, device: u64, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::bad_input("directory", format!("is deeper than {MAX_DEPTH}")));
        }
        for name in names(dir)? {
            // What is mounted there is not the directory's own.
            let Some(found) = view.stat(dir, &name)? else { continue };
            if view.is_mounted(dir, &name)? {
                continue;
            }
            let full = join(at, &name);
            self.one(dir, &name, &full, &found)?;
            if kind(&found) == FileType::Directory && found.st_dev == device {
                self.below(&open_dir(dir, &name)?, &full, view, device, depth + 1)?;
            }
        }
        Ok(())
    }

    /// One file, not what is in it.
    fn one(&mut self, dir: &OwnedFd, name: &[u8], full: &[u8], found: &Stat) -> Result<()> {
        let key = (found.st_dev, found.st_ino);
        let is_directory = kind(found) == FileType::Directory;
        if found.st_nlink > 1 && !is_directory {
            if let Some(first) = self.linked.get(&key).cloned() {
                return self.header(full, found, EntryType::Link, &first, &[]);
            }
            self.linked.insert(key, full.to_vec());
        }
        match kind(found) {
            FileType::Directory => {
                let fd = open_dir(dir, name)?;
                self.header(&[full, b"/"].concat(), found, EntryType::Directory, b"", &attributes(&fd)?)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, path(name), Vec::new())
                    .call(|| format!("readlinkat({:?})", path(name)))?;
                self.header(full, found, EntryType::Symlink, target.as_bytes(), &[])
            }
            FileType::RegularFile => self.file(dir, name, full, found),
            FileType::CharacterDevice => self.header(full, found, EntryType::Char, b"", &[]),
            FileType::BlockDevice => self.header(full, found, EntryType::Block, b"", &[]),
            FileType::Fifo => self.header(full, found, EntryType::Fifo, b"", &[]),
            _ => {
                self.sockets += 1;
                Ok(())
            }
        }
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8], full: &[u8], found: &Stat) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, path(name), flags, Mode::empty())
            .call(|| format!("openat({:?})", path(full)))?;
        self.header(full, found, EntryType::Regular, b"", &attributes(&fd)?)?;
        let size = u64::try_from(found.st_size).unwrap_or(0);
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let n = rustix::io::read(&fd, self.buffer.get_mut(..want).unwrap_or_default())
                .call(|| format!("read({:?})", path(full)))?;
            if n == 0 {
                let shown = crate::root::shown(path(full));
                return Err(Error::failed(shown, "has become shorter meanwhile"));
            }
            self.out.write_all(self.buffer.get(..n).unwrap_or_default()).call(|| "write(archive)")?;
            left -= n as u64;
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let zeros = [0; 512];
        let n = usize::try_from(padding(size)).unwrap_or(0);
        self.out.write_all(zeros.get(..n).unwrap_or_default()).call(|| "write(archive)")
    }

    /// A name that is not there any more.
    ///
    /// # Errors
    /// Those of writing.
    pub fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.options.epoch.unwrap_or(0)).unwrap_or(0));
        self.write(header, &join(dir, &[b".wh.", name].concat()), b"", Vec::new())
    }

    fn header(
        &mut self,
        name: &[u8],
        found: &Stat,
        entry: EntryType,
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(entry);
        header.set_mode(found.st_mode & 0o7777);
        let mut pax = Vec::new();
        let owner = |id: u32, own: u32| if self.options.mine_as_root && id == own { 0 } else { id };
        let uid = owner(found.st_uid, nix::unistd::geteuid().as_raw());
        let gid = owner(found.st_gid, nix::unistd::getegid().as_raw());
        // Seven octal digits are what ustar has.
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if id > 0o7_777_777 {
                record(&mut pax, key.as_bytes(), id.to_string().as_bytes());
            }
        }
        header.set_uid(u64::from(uid.min(0o7_777_777)));
        header.set_gid(u64::from(gid.min(0o7_777_777)));
        let mtime = self.options.epoch.map_or(found.st_mtime, |epoch| found.st_mtime.min(epoch));
        if !(0..=0o77_777_777_777).contains(&mtime) {
            record(&mut pax, b"mtime", mtime.to_string().as_bytes());
        }
        header.set_mtime(u64::try_from(mtime.clamp(0, 0o77_777_777_777)).unwrap_or(0));
        if matches!(entry, EntryType::Char | EntryType::Block) {
            let (major, minor) = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
            let set = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
            set.map_err(|e| Error::failed("archive", e.to_string()))?;
        }
        if entry == EntryType::Regular {
            let size = u64::try_from(found.st_size).unwrap_or(0);
            if size > 0o77_777_777_777 {
                record(&mut pax, b"size", size.to_string().as_bytes());
            }
            header.set_size(size.min(0o77_777_777_777));
        }
        for (key, value) in xattrs {
            record(&mut pax, &[b"SCHILY.xattr.", &key[..]].concat(), value);
        }
        self.write(header, name, link, pax)
    }

    fn write(&mut self, mut header: Header, name: &[u8], link: &[u8], mut pax: Vec<u8>) -> Result<()> {
        if let Some(ustar) = header.as_ustar_mut() {
            match split(name) {
                Some((prefix, rest)) => {
                    put(&mut ustar.prefix, prefix);
                    put(&mut ustar.name, rest);
                }
                None => {
                    record(&mut pax, b"path", name);
                    put(&mut ustar.name, name);
                }
            }
            put(&mut ustar.linkname, link);
        }
        if link.len() > 100 {
            record(&mut pax, b"linkpath", link);
        }
        if !pax.is_empty() {
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            extended.set_mode(0o644);
            extended.set_size(pax.len() as u64);
            if let Some(ustar) = extended.as_ustar_mut() {
                put(&mut ustar.name, b"PaxHeaders/entry");
            }
            extended.set_cksum();
            self.out.write_all(extended.as_bytes()).call(|| "write(archive)")?;
            self.out.write_all(&pax).call(|| "write(archive)")?;
            self.pad(pax.len() as u64)?;
        }
        header.set_cksum();
        self.entries += 1;
        self.out.write_all(header.as_bytes()).call(|| "write(archive)")
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> Result<W> {
        self.out.write_all(&[0; 1024]).call(|| "write(archive)")?;
        Ok(self.out)
    }

    /// What has changed from one tree to another, as a layer.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn changes(&mut self, old: &OwnedFd, new: &OwnedFd, view: &View) -> Result<()> {
        if let (Some(was), Some(is)) = (stat(old, b".")?, view.stat(new, b".")?)
            && !same(old, new, b".", &was, &is)?
        {
            self.header(b"./", &is, EntryType::Directory, b"", &attributes(new)?)?;
        }
        let mut visitor =
            |change, dir: &OwnedFd, at: &[u8], name: &[u8], found: Option<&Stat>| match (change, found) {
                (Change::Deleted, _) | (_, None) => self.whiteout(at, name),
                (_, Some(found)) => self.one(dir, name, &join(at, name), found),
            };
        compare((old, new), view, b"", 0, &mut visitor)
    }
}

type Visit<'v> = dyn FnMut(Change, &OwnedFd, &[u8], &[u8], Option<&Stat>) -> Result<()> + 'v;

/// Tells how two trees differ: change, path.
///
/// # Errors
/// Those of reading.
pub fn diff(old: &OwnedFd, new: &OwnedFd, tell: &mut dyn FnMut(Change, &[u8])) -> Result<()> {
    compare((old, new), &View::default(), b"", 0, &mut |change, _, at, name, _| {
        tell(change, &join(at, name));
        Ok(())
    })
}

fn compare(
    (old, new): (&OwnedFd, &OwnedFd),
    view: &View,
    at: &[u8],
    depth: usize,
    visit: &mut Visit<'_>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::bad_input("directory", format!("is deeper than {MAX_DEPTH}")));
    }
    let device = rustix::fs::fstat(new).call(|| "fstat()")?.st_dev;
    let (before, after) = (names(old)?, names(new)?);
    for name in before.union(&after) {
        if view.is_mounted(new, name)? {
            continue;
        }
        let full = join(at, name);
        match (stat(old, name)?, view.stat(new, name)?) {
            (None, None) => {}
            (Some(_), None) => visit(Change::Deleted, new, at, name, None)?,
            (None, Some(found)) => {
                visit(Change::Added, new, at, name, Some(&found))?;
                if kind(&found) == FileType::Directory && found.st_dev == device {
                    added(&open_dir(new, name)?, view, &full, device, depth + 1, visit)?;
                }
            }
            (Some(was), Some(is)) => {
                if !same(old, new, name, &was, &is)? {
                    visit(Change::Changed, new, at, name, Some(&is))?;
                }
                // What is mounted there is nobody's change.
                let both = kind(&was) == FileType::Directory && kind(&is) == FileType::Directory;
                if both && is.st_dev == device {
                    compare((&open_dir(old, name)?, &open_dir(new, name)?), view, &full, depth + 1, visit)?;
                } else if kind(&is) == FileType::Directory && !both && is.st_dev == device {
                    added(&open_dir(new, name)?, view, &full, device, depth + 1, visit)?;
                }
            }
        }
    }
    Ok(())
}

fn added(
    dir: &OwnedFd,
    view: &View,
    at: &[u8],
    device: u64,
    depth: usize,
    visit: &mut Visit<'_>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::bad_input("directory", format!("is deeper than {MAX_DEPTH}")));
    }
    for name in names(dir)? {
        let Some(found) = view.stat(dir, &name)? else { continue };
        if view.is_mounted(dir, &name)? {
            continue;
        }
        visit(Change::Added, dir, at, &name, Some(&found))?;
        if kind(&found) == FileType::Directory && found.st_dev == device {
            added(&open_dir(dir, &name)?, view, &join(at, &name), device, depth + 1, visit)?;
        }
    }
    Ok(())
}

/// Whether one name is the same in two trees: kind, mode, owner, time, and what it holds (of a directory: not what is in it).
fn same(old: &OwnedFd, new: &OwnedFd, name: &[u8], was: &Stat, is: &Stat) -> Result<bool> {
    if (was.st_dev, was.st_ino) == (is.st_dev, is.st_ino) {
        return Ok(true);
    }
    let plain = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime);
    if plain(was) != plain(is) {
        return Ok(false);
    }
    match kind(is) {
        FileType::Symlink => {
            let read =
                |dir: &OwnedFd| rustix::fs::readlinkat(dir, path(name), Vec::new()).call(|| "readlinkat()");
            Ok(read(old)? == read(new)?)
        }
        FileType::CharacterDevice | FileType::BlockDevice => Ok(was.st_rdev == is.st_rdev),
        FileType::Directory => Ok(attributes(&open_dir(old, name)?)? == attributes(&open_dir(new, name)?)?),
        FileType::RegularFile if was.st_size != is.st_size => Ok(false),
        FileType::RegularFile => same_content(old, new, name),
        _ => Ok(true),
    }
}

fn same_content(old: &OwnedFd, new: &OwnedFd, name: &[u8]) -> Result<bool> {
    let open = |dir: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(dir, path(name), flags, Mode::empty()).call(|| format!("openat({:?})", path(name)))
    };
    let (a, b) = (open(old)?, open(new)?);
    if attributes(&a)? != attributes(&b)? {
        return Ok(false);
    }
    let (mut a, mut b) = (std::fs::File::from(a), std::fs::File::from(b));
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let n = std::io::Read::read(&mut a, &mut left).call(|| "read()")?;
        if n == 0 {
            return Ok(true);
        }
        let part = right.get_mut(..n).unwrap_or_default();
        if std::io::Read::read_exact(&mut b, part).is_err() || left.get(..n) != Some(&*part) {
            return Ok(false);
        }
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(format!("{length} ").as_bytes());
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn put(field: &mut [u8], value: &[u8]) {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
}

/// A name as ustar's prefix (155) and name (100); `None` if it does not fit.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    let ends = name.iter().enumerate().filter(|(at, b)| **b == b'/' && (1..=155).contains(at));
    let fits = |at: &usize| (1..=100).contains(&(name.len() - at - 1));
    let at = ends.map(|(at, _)| at).find(fits)?;
    Some((name.get(..at)?, name.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        let mut pax = Vec::new();
        record(&mut pax, b"path", &[b'x'; 92]);
        assert!(pax.starts_with(b"102 path=x"));
        assert_eq!(pax.len(), 102);
    }

    #[test]
    fn long_names() {
        let name = [vec![b'a'; 90], vec![b'/'], vec![b'b'; 90]].concat();
        assert_eq!(split(&name).map(|(p, n)| (p.len(), n.len())), Some((90, 90)));
        assert_eq!(split(&[b'a'; 101]), None);
    }
}
