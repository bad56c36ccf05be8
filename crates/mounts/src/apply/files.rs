//! Copies of files of the host on a small tmpfs of the container's own.

use crate::inside;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use rustix::fs::{Mode, OFlags, openat};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// All that a container can write to these files, and the inodes that a few of them need.
pub(crate) const OPTIONS: &str = "mode=755,size=1m,nr_inodes=32";

/// Reads the files, mounts the tmpfs over their directory, and writes them again.
pub(super) fn store(dir: &Path, names: &[OsString]) -> Result<()> {
    let contents = names.iter().map(|name| read(&dir.join(name))).collect::<Result<Vec<_>>>()?;
    let below = inside::open_host(dir, OFlags::DIRECTORY)?;
    let to = inside::fd_path(below.as_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("tmpfs"), to.as_str(), Some("tmpfs"), flags, Some(OPTIONS))
        .call(|| format!("mount(\"tmpfs\", {dir:?}, \"tmpfs\", …, {OPTIONS:?})"))?;
    let top = inside::open_host(dir, OFlags::DIRECTORY)?;
    for (name, bytes) in names.iter().zip(contents) {
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&top, name, create, Mode::from_raw_mode(0o644))
            .call(|| format!("openat({dir:?}, {name:?}, O_CREAT|O_EXCL, 0644)"))?;
        std::fs::File::from(fd).write_all(&bytes).call(|| format!("write({:?})", dir.join(name)))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut options = std::fs::OpenOptions::new();
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file =
        options.read(true).custom_flags(flags).open(path).call(|| format!("open({path:?}, O_RDONLY)"))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(Error::failed(path.display().to_string(), "is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
    Ok(bytes)
}
