//! Statistics of a cgroup that is read again and again: its files are opened once, and read by one call each.

use crate::needs::Needs;
use crate::stats::{Files, Stats, pressure, v1_files, v2_files};
use crate::{Cgroup, files};
use nix::errno::Errno;
use nix::sys::uio::pread;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A cgroup with its files open. It keeps about twenty descriptors; where there are none left, it opens anew each time.
#[derive(Debug)]
pub struct Meter {
    cgroup: Cgroup,
    files: RefCell<BTreeMap<(Which, &'static str), Known>>,
    /// A file answered since the last look.
    alive: Cell<bool>,
    needs: Cell<Needs>,
}

/// What is known of a file.
#[derive(Debug)]
enum Known {
    Open(File),
    /// The kernel does not offer it.
    Missing,
    /// It is there; no descriptor was left for it.
    At(PathBuf),
}

impl Known {
    fn open(path: Option<PathBuf>) -> Self {
        let Some(path) = path else { return Known::Missing };
        match File::open(&path) {
            Ok(file) => Known::Open(file),
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE)) => {
                Known::At(path)
            }
            Err(_) => Known::Missing,
        }
    }
}

/// Whose file of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    First,
    V2,
    V1Cpu,
}

impl Meter {
    /// The cgroup with these directories; see [`Cgroup::at`].
    ///
    /// # Errors
    /// As [`Cgroup::at`].
    pub fn open(directories: impl IntoIterator<Item = PathBuf>) -> drydock_core::Result<Self> {
        Ok(Self {
            cgroup: Cgroup::at(directories)?,
            files: RefCell::default(),
            alive: Cell::new(false),
            needs: Cell::new(Needs::ALL),
        })
    }

    /// The counters now, as [`Cgroup::stats`] reads them; `None` when the cgroup is gone.
    pub fn read(&self) -> Option<Stats> {
        self.read_some(Needs::ALL)
    }

    /// The same without reading what is not needed: those figures are missing then.
    pub fn read_some(&self, needs: Needs) -> Option<Stats> {
        self.needs.set(needs);
        self.alive.set(false);
        let mut stats = Stats { pressure: pressure(self), ..Stats::default() };
        v1_files(self, &mut stats);
        v2_files(self, &mut stats);
        // A cgroup without any controller has no file that we read: its directory tells.
        let there = self.alive.get() || self.cgroup.dirs().any(Path::exists);
        there.then_some(stats)
    }

    fn text(&self, which: Which, file: &'static str) -> Option<String> {
        if !self.needs.get().wants(file, which == Which::V1Cpu) {
            return None;
        }
        let mut known = self.files.borrow_mut();
        let known = known.entry((which, file)).or_insert_with(|| Known::open(self.path(which, file)));
        let text = match known {
            Known::Open(file) => again(file),
            Known::At(path) => files::read_if_there(path),
            Known::Missing => None,
        };
        if text.is_some() {
            self.alive.set(true);
        }
        text
    }

    fn path(&self, which: Which, file: &str) -> Option<PathBuf> {
        let dirs = self.cgroup.entries().iter();
        match which {
            Which::First => {
                // Of v1's hierarchies the one that is called like the file's controller has it, if any.
                let controller = file.split('.').next().unwrap_or_default();
                let called = |d: &&crate::group::Dir| {
                    let parts = d.path.iter().filter_map(|part| part.to_str());
                    parts.flat_map(|part| part.split(',')).any(|word| word == controller)
                };
                let (first, others): (Vec<&crate::group::Dir>, Vec<&crate::group::Dir>) =
                    dirs.partition(called);
                first.into_iter().chain(others).map(|d| d.path.join(file)).find(|p| p.exists())
            }
            Which::V2 => dirs.filter(|d| d.v2).map(|d| d.path.join(file)).next(),
            Which::V1Cpu => Some(self.cgroup.with_file("cpu.cfs_quota_us")?.with_file_name(file)),
        }
    }
}

impl Files for Meter {
    fn read(&self, file: &'static str) -> Option<String> {
        self.text(Which::First, file)
    }

    fn read_v2(&self, file: &'static str) -> Option<String> {
        self.text(Which::V2, file)
    }

    fn read_v1_cpu(&self) -> Option<String> {
        self.text(Which::V1Cpu, "cpu.stat")
    }
}

/// The whole file from its beginning: the kernel makes its text anew. ENODEV when the cgroup is gone.
fn again(file: &File) -> Option<String> {
    let mut buffer = [0u8; 8192];
    let mut bytes = Vec::new();
    loop {
        let at = i64::try_from(bytes.len()).ok()?;
        match pread(file, &mut buffer, at) {
            Ok(read) => bytes.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
        // A short answer is the end: one call instead of two.
        if bytes.len() % buffer.len() != 0 || bytes.is_empty() || bytes.len() > 1 << 20 {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
