//! What is in the making somewhere on this machine, written down in the data directory before it is made: a process that is
//! killed leaves the word, and `rootfs gc` finds by it what is to be removed. The word is locked as long as its writer lives.

use drydock_core::error::CallExt;
use drydock_core::{Result, paths};
use rustix::fs::{FlockOperation, OFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Words, below the data directory.
const DIR: &str = "unfinished";
/// Longer than any path.
const MAX_BYTES: u64 = 4096;

/// A word; it goes when this is dropped: when what it says is in its place, or removed.
#[derive(Debug)]
pub struct Word {
    path: PathBuf,
    _lock: File,
}

impl Word {
    /// Says that something will be made at a path, by a hidden name. `None` where nothing can be written down: the work
    /// goes on all the same.
    pub fn of(place: &Path) -> Option<Self> {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let dir = paths::data_root().ok()?.join(DIR);
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir).ok()?;
        for _ in 0..64 {
            let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = dir.join(format!("{}-{n}", std::process::id()));
            let mut options = std::fs::OpenOptions::new();
            let Ok(mut file) = options.write(true).create_new(true).mode(0o600).open(&path) else { continue };
            // `gc` may have been faster, and has taken it for a dead one's.
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !path.exists() {
                continue;
            }
            file.write_all(place.as_os_str().as_bytes()).ok()?;
            return Some(Self { path, _lock: file });
        }
        None
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a process that is no more has left.
#[derive(Debug)]
pub struct Left {
    /// Where; there may be nothing (any more).
    pub place: PathBuf,
    word: PathBuf,
    _lock: File,
}

impl Left {
    /// Whether there is something.
    pub fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.place).is_ok()
    }

    /// Removes it, and the word.
    ///
    /// # Errors
    /// When it cannot be removed: then the word stays.
    pub fn remove(&self) -> Result<()> {
        crate::unpack::staging::remove(&self.place);
        match std::fs::symlink_metadata(&self.place) {
            Ok(meta) if !meta.is_dir() => std::fs::remove_file(&self.place),
            Ok(_) => std::fs::remove_dir_all(&self.place),
            Err(_) => Ok(()),
        }
        .call(|| format!("unlink({:?})", self.place))?;
        let _ = std::fs::remove_file(&self.word);
        Ok(())
    }
}

/// All that has been left. Only what has one of our hidden names is believed.
pub fn left(data_root: &Path) -> Vec<Left> {
    let entries = std::fs::read_dir(data_root.join(DIR)).into_iter().flatten().flatten();
    entries.filter_map(|entry| read(entry.path())).collect()
}

fn read(word: PathBuf) -> Option<Left> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(flags.bits().cast_signed()).open(&word).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    let mut bytes = Vec::new();
    (&file).take(MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
    let place = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let name = place.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
    let ours = name.starts_with(b".") && name.windows(MARK.len()).any(|w| w == MARK.as_bytes());
    if place.as_os_str().len() as u64 > MAX_BYTES || !place.is_absolute() || !ours {
        // Its writer has died before it was whole: nothing was made.
        let _ = std::fs::remove_file(&word);
        return None;
    }
    Some(Left { place, word, _lock: file })
}

/// In every hidden name of something in the making.
pub const MARK: &str = ".drydock-";
