//! Reading and writing the kernel's one-value files.

use drydock_core::Result;
use drydock_core::error::CallExt;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::unistd::write as write_fd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// More than any cgroup file holds except the pid lists of huge cgroups.
const MAX_BYTES: usize = 64 << 20;

/// The whole file, in as few calls as its size allows.
pub fn read(path: &Path) -> Result<String> {
    let fd =
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).call(|| format!("open({path:?})"))?;
    let mut text = Vec::new();
    let mut buffer = [0u8; 16384];
    loop {
        let read = match nix::unistd::read(&fd, &mut buffer) {
            Err(Errno::EINTR) => continue,
            other => other.call(|| format!("read({path:?})"))?,
        };
        text.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if read == 0 || text.len() > MAX_BYTES {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

/// The file, or `None` if the kernel does not offer it or the cgroup is gone.
pub fn read_if_there(path: &Path) -> Option<String> {
    read(path).ok()
}

/// One write(2) of the value: the kernel takes it whole or refuses it.
pub fn write(path: &Path, value: &str) -> Result<()> {
    let fd = open_for_writing(path).call(|| format!("open({path:?}, O_WRONLY)"))?;
    write_fd(&fd, value.as_bytes()).call(|| format!("write({path:?}, {value:?})"))?;
    Ok(())
}

/// The file opened for writing, close-on-exec.
pub fn open_for_writing(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}

/// Writes the value and reads back, through the same descriptor, what the kernel made of it.
pub fn write_and_read_back(path: &Path, value: &str) -> Result<String> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let fd = match open(path, OFlag::O_RDWR | flags, Mode::empty()) {
        // Some files are write-only.
        Err(Errno::EACCES | Errno::EINVAL) => open(path, OFlag::O_WRONLY | flags, Mode::empty()),
        other => other,
    }
    .call(|| format!("open({path:?}, O_RDWR)"))?;
    write_fd(&fd, value.as_bytes()).call(|| format!("write({path:?}, {value:?})"))?;
    let mut buffer = [0u8; 4096];
    let read = pread(&fd, &mut buffer, 0).unwrap_or(0);
    Ok(String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).trim_end().to_string())
}
