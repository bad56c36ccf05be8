//! One entry after the other, made below a root.

use super::limits::{Known, Used, clean};
use super::place::{Places, path, split, stamps};
use super::tarball::{Entry, Kind, Tarball};
use super::{Devices, Ids, Options, Report};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

/// What marks a file of the layers below as removed. Source: image-spec, layer.md.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// AUFS' own files, which have no meaning in an image.
const AUFS: &[u8] = b".wh..wh.";

/// A root that archives are unpacked into.
pub struct Unpacker<'o> {
    places: Places,
    options: &'o Options,
    used: Used,
    made: Known,
    buffer: Vec<u8>,
    /// What has been done so far.
    pub report: Report,
}

impl<'o> Unpacker<'o> {
    /// Into this directory.
    pub fn new(root: OwnedFd, options: &'o Options) -> Self {
        Self {
            places: Places::new(root),
            options,
            used: Used::default(),
            made: Known::default(),
            buffer: vec![0; 256 << 10],
            report: Report::default(),
        }
    }

    /// Unpacks all entries of one archive; with `whiteouts` it is a layer over what is there already.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for what an archive may not have; system calls'.
    pub fn archive<R: Read>(
        &mut self,
        tarball: &mut Tarball<R>,
        whiteouts: bool,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        self.made.clear();
        while let Some(entry) = tarball.next_entry()? {
            if !go_on(tarball.position()) {
                return Err(Error::failed("interrupted", "what had been unpacked is removed"));
            }
            self.used.count(&entry, &self.options.limits)?;
            self.entry(&entry, tarball, whiteouts).map_err(|e| name(&entry, e))?;
            self.report.entries += 1;
        }
        tarball.finish()?;
        self.places.settle()
    }

    fn entry<R: Read>(&mut self, entry: &Entry, tarball: &mut Tarball<R>, whiteouts: bool) -> Result<()> {
        let target = clean(entry, &entry.name, &self.options.limits)?;
        if target.is_empty() {
            return self.root(entry);
        }
        let (dir, name) = split(&target);
        if whiteouts && name.starts_with(WHITEOUT) {
            return self.whiteout(entry, dir, name);
        }
        let parent = self.places.directory(dir)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, &parent, &target, name)?,
            Kind::File => self.file(entry, tarball, &parent, dir, name)?,
            Kind::Symlink => self.symlink(entry, &parent, dir, name)?,
            Kind::HardLink => self.hard_link(entry, &parent, &target)?,
            Kind::Char | Kind::Block | Kind::Fifo => self.node(entry, &parent, dir, name)?,
        }
        self.made.add(&target);
        Ok(())
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(entry.bad("is the root itself, but not as a directory"));
        }
        let root = self.places.root().try_clone().call(|| "dup(root)")?;
        self.dress(entry, &root)?;
        self.places.set_later(&root, b"", self.mode(entry), stamps(entry.mtime))
    }

    /// Does `make`; where the name is taken, what has it goes first.
    fn making(
        &mut self,
        parent: &OwnedFd,
        dir: &[u8],
        name: &[u8],
        call: &str,
        mut make: impl FnMut() -> Result<(), Errno>,
    ) -> Result<()> {
        match make() {
            Err(Errno::EXIST) => {
                self.places.remove(parent, dir, name, &Known::default())?;
                make().call(|| format!("{call}({:?})", path(name)))
            }
            other => other.call(|| format!("{call}({:?})", path(name))),
        }
    }

    fn directory(&mut self, entry: &Entry, parent: &OwnedFd, target: &[u8], name: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, path(name), flags, Mode::empty());
        let make = || rustix::fs::mkdirat(parent, path(name), Mode::from_raw_mode(0o700));
        let fd = match make() {
            Ok(()) => open(),
            Err(Errno::EXIST) => match open() {
                // A link to a directory is no directory: it goes, and what it leads to is not touched.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let dir = split(target).0;
                    self.making(parent, dir, name, "mkdirat", make)?;
                    open()
                }
                Err(Errno::ACCESS) => Ok(rustix::io::dup(&*self.places.directory(target)?)
                    .call(|| format!("openat({:?})", path(name)))?),
                other => other,
            },
            Err(e) => Err(e),
        };
        let fd = fd.call(|| format!("mkdirat({:?})", path(name)))?;
        self.dress(entry, &fd)?;
        self.report.directories += 1;
        self.places.set_later(&fd, target, self.mode(entry), stamps(entry.mtime))
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        tarball: &mut Tarball<R>,
        parent: &OwnedFd,
        dir: &[u8],
        name: &[u8],
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut fd = None;
        self.making(parent, dir, name, "openat", || {
            fd = Some(rustix::fs::openat(parent, path(name), flags, Mode::from_raw_mode(0o600))?);
            Ok(())
        })?;
        let Some(fd) = fd else { return Err(Error::failed("openat", "no file")) };
        self.fill(entry, tarball, &fd)?;
        self.dress(entry, &fd)?;
        let mode = self.mode(entry);
        if mode != 0o600 {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).call(|| format!("fchmod({mode:04o})"))?;
        }
        // Owner and mode first: each takes file capabilities away again.
        self.capability(entry, &fd)?;
        rustix::fs::futimens(&fd, &stamps(entry.mtime)).call(|| "utimensat()")?;
        self.report.files += 1;
        self.report.bytes += entry.size;
        Ok(())
    }

    fn fill<R: Read>(&mut self, entry: &Entry, tarball: &mut Tarball<R>, fd: &OwnedFd) -> Result<()> {
        let whole = [(0, entry.size)];
        let segments = entry.segments.as_deref().unwrap_or(&whole);
        for (offset, length) in segments {
            let (mut at, end) = (*offset, offset.saturating_add(*length));
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
                let part = self.buffer.get_mut(..want).unwrap_or_default();
                let got = tarball.data(part)?;
                let mut rest = part.get(..got).unwrap_or_default();
                while !rest.is_empty() {
                    // pwrite: the offsets of a sparse file are its own.
                    let wrote = match rustix::io::pwrite(fd, rest, at) {
                        Err(Errno::INTR) => continue,
                        other => other.call(|| "pwrite64()")?,
                    };
                    at += wrote as u64;
                    rest = rest.get(wrote..).unwrap_or_default();
                }
                if got == 0 {
                    return Err(entry.bad("has less data than it says"));
                }
            }
        }
        if entry.segments.is_some() {
            rustix::fs::ftruncate(fd, entry.size).call(|| format!("ftruncate({})", entry.size))?;
        }
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, parent: &OwnedFd, dir: &[u8], name: &[u8]) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > 4095 {
            let problem = format!("leads to a name of {} bytes (allowed: 1 to 4095)", entry.link.len());
            return Err(entry.bad(problem));
        }
        let target = path(&entry.link);
        self.making(parent, dir, name, "symlinkat", || rustix::fs::symlinkat(target, parent, path(name)))?;
        self.own(entry, parent, name)?;
        self.stamp(entry, parent, name)?;
        self.report.links += 1;
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, parent: &OwnedFd, target: &[u8]) -> Result<()> {
        let source = clean(entry, &entry.link, &self.options.limits)?;
        let shown = || drydock_core::text::shorten(&drydock_core::text::escape_bytes(&entry.link), 200);
        if source == target {
            return Err(entry.bad("is a hard link to itself"));
        }
        let (dir, name) = split(target);
        let (from_dir, from_name) = split(&source);
        let missing = || entry.bad(format!("is a hard link to '{}', which is not there", shown()));
        let from = self.places.existing(from_dir)?.ok_or_else(missing)?;
        let stat = match rustix::fs::statat(&*from, path(from_name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            Err(e) => return Err(Error::call(format!("fstatat({:?})", path(from_name)), e)),
        };
        if source.is_empty() || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(entry.bad(format!("is a hard link to '{}', a directory", shown())));
        }
        if let Ok(there) = rustix::fs::statat(parent, path(name), AtFlags::SYMLINK_NOFOLLOW)
            && there.st_ino == stat.st_ino
        {
            // Two names of one file already.
            return Ok(());
        }
        self.making(parent, dir, name, "linkat", || {
            rustix::fs::linkat(&*from, path(from_name), parent, path(name), AtFlags::empty())
        })?;
        self.report.hard_links += 1;
        Ok(())
    }

    fn node(&mut self, entry: &Entry, parent: &OwnedFd, dir: &[u8], name: &[u8]) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = kind != FileType::Fifo;
        // A character device 0:0 hides files in an overlay: an image has whiteouts for that.
        let hides = entry.kind == Kind::Char && entry.device == (0, 0);
        if device && (hides || self.options.devices != Devices::Create) {
            if self.options.devices == Devices::Refuse {
                return Err(entry.bad(format!("is a device node, {}:{}", entry.device.0, entry.device.1)));
            }
            self.places.remove(parent, dir, name, &Known::default())?;
            self.report.skipped_devices += 1;
            return Ok(());
        }
        let number = rustix::fs::makedev(entry.device.0, entry.device.1);
        let made = self.making(parent, dir, name, "mknodat", || {
            rustix::fs::mknodat(parent, path(name), kind, Mode::from_raw_mode(0o600), number)
        });
        match made {
            // No device nodes here: in a user namespace, or a container.
            Err(e) if device && e.errno() == Some(nix::libc::EPERM) => {
                self.report.skipped_devices += 1;
                return Ok(());
            }
            other => other?,
        }
        self.own(entry, parent, name)?;
        let mode = Mode::from_raw_mode(self.mode(entry));
        rustix::fs::chmodat(parent, path(name), mode, AtFlags::empty())
            .call(|| format!("fchmodat({:?})", path(name)))?;
        self.stamp(entry, parent, name)?;
        self.report.nodes += 1;
        Ok(())
    }

    fn whiteout(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Result<()> {
        if name == OPAQUE {
            let Some(fd) = self.places.existing(dir)? else { return Ok(()) };
            self.places.empty(&fd, dir, &self.made)?;
            self.report.whiteouts += 1;
            return Ok(());
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(entry.bad("is a whiteout of no name (allowed: .wh.NAME)"));
        }
        let Some(parent) = self.places.existing(dir)? else { return Ok(()) };
        let full = if dir.is_empty() { hidden.to_vec() } else { [dir, b"/", hidden].concat() };
        let is_directory = rustix::fs::statat(&*parent, path(hidden), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
        if is_directory || !self.made.has(&full) {
            self.places.remove(&parent, dir, hidden, &self.made)?;
        }
        self.report.whiteouts += 1;
        Ok(())
    }

    fn mode(&self, entry: &Entry) -> u32 {
        if self.options.no_setuid && entry.kind == Kind::File { entry.mode & 0o1777 } else { entry.mode }
    }

    /// The owner here of an entry's owner; `None`: whoever unpacks.
    fn owner(&self, entry: &Entry) -> Result<Option<(Uid, Gid)>> {
        let id = |what: &str, number: i64| {
            u32::try_from(number)
                .ok()
                .filter(|n| *n != u32::MAX)
                .ok_or_else(|| entry.bad(format!("{what} {number} (allowed: 0 to {})", u32::MAX - 1)))
        };
        let (uid, gid) = (id("user id", entry.uid)?, id("group id", entry.gid)?);
        let (uid, gid) = match &self.options.ids {
            Ids::Keep => (uid, gid),
            Ids::Mine => return Ok(None),
            Ids::Map { users, groups } => {
                let find = |what: &str, maps: &[(u32, u32, u32)], id: u32| {
                    let inside = |m: &&(u32, u32, u32)| id.checked_sub(m.0).is_some_and(|n| n < m.2);
                    let map = maps.iter().find(inside);
                    map.and_then(|m| m.1.checked_add(id - m.0))
                        .ok_or_else(|| entry.bad(format!("{what} {id} is not in the map")))
                };
                (find("user id", users, uid)?, find("group id", groups, gid)?)
            }
        };
        Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid))))
    }

    fn own(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let Some((uid, gid)) = self.owner(entry)? else { return Ok(()) };
        rustix::fs::chownat(parent, path(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| unowned(entry, uid, gid, format!("fchownat({:?}, {uid:?}, {gid:?})", path(name)), e))
    }

    fn stamp(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        rustix::fs::utimensat(parent, path(name), &stamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .call(|| format!("utimensat({:?})", path(name)))
    }

    /// Owner and extended attributes of an open file or directory.
    fn dress(&mut self, entry: &Entry, fd: &OwnedFd) -> Result<()> {
        if let Some((uid, gid)) = self.owner(entry)? {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(|e| {
                unowned(entry, uid, gid, format!("fchown({}, {uid:?}, {gid:?})", fd.as_raw_fd()), e)
            })?;
        }
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| key != CAPABILITY) {
            if wanted(key) {
                self.attribute(fd, key, value)?;
            } else {
                self.report.skipped_xattrs += 1;
            }
        }
        Ok(())
    }

    fn capability(&mut self, entry: &Entry, fd: &OwnedFd) -> Result<()> {
        let Some((key, value)) = entry.xattrs.iter().find(|(key, _)| key == CAPABILITY) else {
            return Ok(());
        };
        if self.options.no_setuid {
            self.report.skipped_xattrs += 1;
            return Ok(());
        }
        self.attribute(fd, key, value)
    }

    fn attribute(&mut self, fd: &OwnedFd, key: &[u8], value: &[u8]) -> Result<()> {
        match rustix::fs::fsetxattr(fd, path(key), value, rustix::fs::XattrFlags::empty()) {
            Ok(()) => Ok(()),
            // Not on this file system, not for us.
            Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL | Errno::RANGE) => {
                self.report.skipped_xattrs += 1;
                Ok(())
            }
            Err(e) => {
                let key = drydock_core::text::escape_bytes(key.get(..100).unwrap_or(key));
                Err(Error::call(format!("fsetxattr({key}, {} bytes)", value.len()), e))
            }
        }
    }
}

const CAPABILITY: &[u8] = b"security.capability";

/// Attributes that are files' own. Not: what the kernel keeps for overlays, labels of another machine's policy.
fn wanted(key: &[u8]) -> bool {
    (key.starts_with(b"user.") && !key.starts_with(b"user.overlay.")) || key.starts_with(b"system.posix_acl_")
}

/// In a user namespace there are only the ids that it maps.
fn unowned(entry: &Entry, uid: Uid, gid: Gid, call: String, errno: Errno) -> Error {
    if errno != Errno::INVAL {
        return Error::call(call, errno);
    }
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    entry
        .bad(format!(
            "belongs to user {uid}, group {gid}, which this user namespace does not have (user_namespaces(7))"
        ))
        .hint("--mine gives all files to you; /etc/subuid and /etc/subgid grant more ids")
}

/// Names the entry in an error that does not.
fn name(entry: &Entry, error: Error) -> Error {
    let shown = entry.shown();
    if error.sentence().contains(&shown) { error } else { super::within(&shown, &error) }
}
