//! Block devices as io.max names them: `major:minor` of the whole disk.

use crate::limits::bad;
use drydock_core::error::CallExt;
use drydock_core::text::escape;
use drydock_core::{Error, Result};
use nix::sys::stat::{SFlag, major, minor, stat};
use std::path::Path;

/// Checks `major:minor`.
pub(crate) fn check_numbers(text: &str) -> Result<()> {
    let number = |t: &str| !t.is_empty() && t.len() <= 10 && t.bytes().all(|b| b.is_ascii_digit());
    match text.split_once(':') {
        Some((a, b)) if number(a) && number(b) => Ok(()),
        _ => Err(bad("device", text, "not a device (allowed: major:minor such as 8:0, or a path)")),
    }
}

/// The whole disk that holds a path: of the device itself if the path is a block device, else of its file system.
/// `8:0` is taken as it is. Limits apply to whole disks only, so a partition becomes its disk.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] if there is no such path or its file system has no block device (tmpfs, overlay).
pub fn whole_disk(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        check_numbers(text)?;
        return Ok(text.to_string());
    }
    let shown = escape(text);
    let status = stat(Path::new(text))
        .call(|| format!("stat({text:?})"))
        .map_err(|e| e.on("io.max").with_kind(drydock_core::Kind::BadInput))?;
    let block = status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFBLK.bits();
    let device = if block { status.st_rdev } else { status.st_dev };
    let numbers = format!("{}:{}", major(device), minor(device));
    let sys = Path::new("/sys/dev/block").join(&numbers);
    if !sys.exists() {
        return Err(Error::bad_input(
            "io.max",
            format!(
                "'{shown}' is on a file system without a block device of its own (allowed: a path on a disk, or major:minor)"
            ),
        ));
    }
    if !sys.join("partition").exists() {
        return Ok(numbers);
    }
    // /sys/dev/block/8:1 links to …/sda/sda1: the disk is the parent directory.
    let disk = std::fs::canonicalize(&sys).ok().and_then(|p| p.parent().map(|p| p.join("dev")));
    let disk = disk.and_then(|dev| crate::files::read_if_there(&dev));
    match disk {
        Some(disk) => Ok(disk.trim().to_string()),
        None => Err(Error::failed("io.max", format!("cannot tell the disk of partition {numbers}"))),
    }
}
