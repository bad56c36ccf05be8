//! The reader: every file is opened relative to one verified procfs.

use drydock_core::error::CallExt;
use drydock_core::text::escape_bytes;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, fstatfs, openat, statx};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

/// Files of a process are small; mountinfo and cgroup.procs can be large. More than this is cut.
const MAX_FILE: usize = 64 << 20;
/// How much of a command line is worth keeping.
const MAX_CMDLINE: usize = 4096;
/// The kernel gives what fits into 4 KiB, and stops short of that only before a longer line, or at the end.
const SHORT: usize = 2048;

/// A procfs mount, held open.
#[derive(Debug)]
pub struct Proc {
    dir: OwnedFd,
    nsfs: OnceLock<Option<Device>>,
}

/// A device number: major, minor.
pub type Device = (u32, u32);

impl Proc {
    /// Opens `path` and verifies that it is procfs (a container could have put something else there).
    ///
    /// # Errors
    /// When it cannot be opened, or is not procfs (statfs(2), `PROC_SUPER_MAGIC`).
    pub fn open(path: &Path) -> Result<Self> {
        let proc = Self::unverified(path)?;
        let shown = path.display();
        let stat = fstatfs(&proc.dir).call(|| format!("fstatfs(\"{shown}\")"))?;
        if stat.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(Error::failed(shown.to_string(), "not a proc file system")
                .hint(format!("mount -t proc proc {shown}")));
        }
        Ok(proc)
    }

    /// Opens a directory that looks like procfs: for fixtures.
    pub(crate) fn unverified(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())
            .call(|| format!("open(\"{}\", O_DIRECTORY)", path.display()))
            .map_err(|e| e.on("/proc").hint("mount -t proc proc /proc"))?;
        Ok(Self { dir, nsfs: OnceLock::new() })
    }

    /// All process ids, ascending.
    ///
    /// # Errors
    /// getdents64(2)'s.
    pub fn pids(&self) -> Result<Vec<u32>> {
        // A directory stream has one position: open it anew, so that several lists can be made.
        let dir = openat(&self.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .call(|| "open(\"/proc\")")?;
        numbers(dir.as_fd()).call(|| "getdents64(\"/proc\")")
    }

    /// A directory below the root (`PID`, `PID/fd`): to look below it, or, if `listable`, also to list it.
    ///
    /// # Errors
    /// openat(2)'s.
    pub fn directory(&self, path: &str, listable: bool) -> io::Result<OwnedFd> {
        let access = if listable { OFlags::RDONLY } else { OFlags::PATH };
        Ok(openat(&self.dir, path, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens a file below the root for reading, following its magic link (`PID/ns/net`, `PID/root/…`).
    ///
    /// # Errors
    /// openat(2)'s.
    pub fn open_at(&self, path: &str) -> io::Result<OwnedFd> {
        Ok(openat(&self.dir, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?)
    }

    /// The bytes of a file, at most `limit`.
    ///
    /// # Errors
    /// openat(2)'s and read(2)'s (ESRCH when the process went away in between).
    pub fn bytes(&self, path: &str, limit: usize) -> io::Result<Vec<u8>> {
        self.read(path, limit, 0)
    }

    /// The same of a file whose lines are short: what is shorter than [`SHORT`] is the whole, without asking for more.
    ///
    /// # Errors
    /// As [`Proc::bytes`].
    pub fn small(&self, path: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path, MAX_FILE, SHORT)?).into_owned())
    }

    fn read(&self, path: &str, limit: usize, short: usize) -> io::Result<Vec<u8>> {
        let file = self.open_at(path)?;
        let mut bytes = Vec::new();
        let mut buffer = [0u8; 8192];
        while bytes.len() < limit {
            match rustix::io::read(&file, &mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    if n < short {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        bytes.truncate(limit);
        Ok(bytes)
    }

    /// A text file of lines; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// As [`Proc::bytes`].
    pub fn text(&self, path: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(path, MAX_FILE)?).into_owned())
    }

    /// A file of one line, safe to print: control characters and bytes that are not UTF-8 are escaped.
    ///
    /// # Errors
    /// As [`Proc::bytes`].
    pub fn line(&self, path: &str) -> io::Result<String> {
        Ok(escape_bytes(self.read(path, MAX_CMDLINE, SHORT)?.trim_ascii_end()))
    }

    /// The command line of a process, escaped and cut to 4 KiB; a kernel thread or zombie has none: `[comm]`.
    pub fn command(&self, pid: u32) -> String {
        let argv = self.read(&format!("{pid}/cmdline"), MAX_CMDLINE, SHORT).unwrap_or_default();
        let words: Vec<String> = argv.split(|b| *b == 0).map(escape_bytes).collect();
        let text = words.join(" ").trim_end().to_string();
        if !text.is_empty() {
            return text;
        }
        self.line(&format!("{pid}/comm")).map_or(String::new(), |comm| format!("[{comm}]"))
    }

    /// Whether the process exists (and hidepid does not hide it).
    pub fn exists(&self, pid: u32) -> bool {
        rustix::fs::statat(&self.dir, pid.to_string(), AtFlags::empty()).is_ok()
    }

    /// The device of nsfs, on which all namespace files are.
    pub fn nsfs(&self) -> Option<Device> {
        let ask = || identity(self.dir.as_fd(), c"self/ns/user").ok().map(|found| found.device);
        *self.nsfs.get_or_init(ask)
    }

    /// The root itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The file system's device.
    pub device: Device,
    /// Inode number.
    pub inode: u64,
    /// It is a socket.
    pub socket: bool,
}

/// Device and inode number of what a link leads to, without asking a file system that may hang (a server that does not
/// answer). Source: statx(2), `AT_STATX_DONT_SYNC`.
///
/// # Errors
/// statx(2)'s.
pub fn identity(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Identity> {
    let found = statx(dir, name, AtFlags::STATX_DONT_SYNC, StatxFlags::INO | StatxFlags::TYPE)?;
    Ok(Identity {
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        socket: FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::Socket,
    })
}

/// The entries of a directory that are numbers (pids, tids, descriptors), ascending.
///
/// # Errors
/// getdents64(2)'s.
pub fn numbers(dir: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 << 10];
    let mut raw = RawDir::new(dir, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = raw.next() {
        if let Some(n) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
            found.push(n);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The same for a directory of /proc, whose entries come in one piece when they fit: without asking for more after the
/// last.
///
/// # Errors
/// As [`numbers`].
pub fn numbers_of_proc(dir: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    const SIZE: usize = 8 << 10;
    /// An entry has a header, and a name of a few digits.
    const ENTRY: usize = 48;
    let mut buffer = [MaybeUninit::<u8>::uninit(); SIZE];
    let mut raw = RawDir::new(dir, &mut buffer);
    let (mut found, mut seen) = (Vec::new(), 0);
    while let Some(entry) = raw.next() {
        seen += 1;
        if let Some(n) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
            found.push(n);
        }
        if raw.is_buffer_empty() && seen * ENTRY < SIZE {
            break;
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether an error means that the process has ended, not that it is closed to us.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}
