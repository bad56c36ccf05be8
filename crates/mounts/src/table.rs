//! /proc/PID/mountinfo. Source: proc_pid_mountinfo(5).

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use serde::Serialize;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount as the kernel lists it. Names are unescaped; what is not UTF-8 in texts is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Mount id.
    pub id: u64,
    /// Id of the mount that it is mounted on.
    pub parent: u64,
    /// Device of the file system: major number.
    pub major: u32,
    /// Device of the file system: minor number.
    pub minor: u32,
    /// The directory of the file system that is the root of this mount.
    pub root: PathBuf,
    /// Where, relative to the reading process's root.
    pub mount_point: PathBuf,
    /// Options of the mount: `ro,nosuid,…`.
    pub options: String,
    /// Peer group, if shared.
    pub shared: Option<u32>,
    /// Peer group of the master, if a slave.
    pub master: Option<u32>,
    /// Cannot be bound.
    pub unbindable: bool,
    /// File system type.
    pub fstype: String,
    /// Source as given to mount(2).
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

impl Entry {
    /// Its propagation as `findmnt` words it: `private`, `shared`, `slave`, `shared,slave`, `unbindable`.
    pub fn propagation(&self) -> &'static str {
        match (self.unbindable, self.shared, self.master) {
            (true, ..) => "unbindable",
            (_, Some(_), Some(_)) => "shared,slave",
            (_, Some(_), None) => "shared",
            (_, None, Some(_)) => "slave",
            _ => "private",
        }
    }

    /// Whether the mount has this option, or its file system has.
    pub fn has_option(&self, word: &str) -> bool {
        self.options.split(',').chain(self.super_options.split(',')).any(|o| o == word)
    }
}

/// Parses the file's bytes. Lines that are not of the documented form are left out.
pub fn parse(bytes: &[u8]) -> Vec<Entry> {
    bytes.split(|b| *b == b'\n').filter_map(line).collect()
}

fn line(bytes: &[u8]) -> Option<Entry> {
    let mut words = bytes.split(|b| *b == b' ').filter(|w| !w.is_empty());
    let mut next = || words.next();
    let (id, parent) = (number(next()?)?, number(next()?)?);
    let device = String::from_utf8_lossy(next()?).into_owned();
    let (major, minor) = device.split_once(':')?;
    let root = path(next()?);
    let mount_point = path(next()?);
    let options = text(next()?);
    let (mut shared, mut master, mut unbindable) = (None, None, false);
    loop {
        let word = text(next()?);
        match word.split_once(':') {
            _ if word == "-" => break,
            Some(("shared", group)) => shared = group.parse().ok(),
            Some(("master", group)) => master = group.parse().ok(),
            // propagate_from only accompanies master; the rest are tags of a later kernel.
            _ => unbindable |= word == "unbindable",
        }
    }
    let fstype = text(next()?);
    // An empty source is printed as nothing at all: then the options follow at once.
    let (source, super_options) = match (next(), next()) {
        (Some(source), Some(options)) => (text(source), text(options)),
        (Some(options), None) => (String::new(), text(options)),
        _ => return None,
    };
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    Some(Entry {
        id,
        parent,
        major,
        minor,
        root,
        mount_point,
        options,
        shared,
        master,
        unbindable,
        fstype,
        source,
        super_options,
    })
}

fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(bytes)).into_owned()
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(unescape(bytes)))
}

/// The kernel writes space, tab, newline, backslash and hash as `\NNN` (octal).
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            digits
                .iter()
                .try_fold(0u32, |n, d| (b'0'..=b'7').contains(d).then(|| n * 8 + u32::from(d - b'0')))
        });
        match octal.and_then(|n| u8::try_from(n).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// Reads the mounts of a process (`None`: the caller's own), as seen from its root. Another user's needs ptrace access.
///
/// # Errors
/// When the process does not exist or may not be read.
pub fn read(pid: Option<i32>) -> Result<Vec<Entry>> {
    // A thread can have a mount namespace of its own.
    let own = || "/proc/thread-self/mountinfo".to_string();
    let file = pid.map_or_else(own, |pid| format!("/proc/{pid}/mountinfo"));
    // The file has no size to go by; a large buffer saves reads, each of which the kernel formats anew.
    let mut bytes = Vec::with_capacity(32 << 10);
    let mut open = std::fs::File::open(&file).call(|| format!("open({file:?}, O_RDONLY)"))?;
    std::io::Read::read_to_end(&mut open, &mut bytes).call(|| format!("read({file:?})"))?;
    Ok(parse(&bytes))
}

/// How many mounts lie on each other at this mount point, in the caller's mount namespace.
///
/// # Errors
/// When /proc cannot be read.
pub fn stacked(path: &Path) -> Result<usize> {
    Ok(read(None)?.iter().filter(|mount| mount.mount_point == path).count())
}

/// The mount that an absolute path without symbolic links is on: the last one listed whose mount point is the longest
/// prefix of it.
pub fn containing<'a>(mounts: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    mounts.iter().filter(|m| path.starts_with(&m.mount_point)).max_by_key(|m| m.mount_point.as_os_str().len())
}

/// The topmost mount whose mount point is exactly this path.
pub fn at<'a>(mounts: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    mounts.iter().rev().find(|m| m.mount_point == path)
}

/// [`containing`] in the caller's own mount namespace, symbolic links resolved.
///
/// # Errors
/// When the path does not exist, or /proc is not mounted.
pub fn of_path(path: &Path) -> Result<Entry> {
    let real = std::fs::canonicalize(path).call(|| format!("realpath({path:?})"))?;
    let mounts = read(None)?;
    containing(&mounts, &real)
        .cloned()
        .ok_or_else(|| Error::failed(path.display().to_string(), "on no mount of this namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] =
        b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
        40 36 0:30 / /mnt\\0402/a ro,nosuid shared:7 master:3 propagate_from:2 - tmpfs  rw,size=4k\n\
        41 36 0:31 / /x rw unbindable - proc proc rw\n\
        garbage\n42 36 0:3";

    #[test]
    fn parses_the_documented_form() {
        let all = parse(SAMPLE);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].mount_point, Path::new("/mnt 2"));
        assert_eq!((all[0].propagation(), all[0].master), ("slave", Some(1)));
        assert_eq!(
            (all[1].propagation(), all[1].shared, all[1].source.as_str()),
            ("shared,slave", Some(7), "")
        );
        assert_eq!(all[2].propagation(), "unbindable");
        assert!(all[1].has_option("ro") && all[1].has_option("size=4k"));
    }

    #[test]
    fn finds_the_mount_of_a_path() {
        let all = parse(SAMPLE);
        assert_eq!(containing(&all, Path::new("/mnt 2/a/b")).unwrap().id, 40);
        assert_eq!(containing(&all, Path::new("/mnt 2/ab")).unwrap().id, 36);
        assert!(containing(&all, Path::new("/y")).is_none());
        assert!(at(&all, Path::new("/mnt 2/a/b")).is_none());
    }

    #[test]
    fn unescapes() {
        assert_eq!(unescape(b"a\\040b\\134c\\9\\04"), b"a b\\c\\9\\04");
    }
}
