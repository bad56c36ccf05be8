//! Devices as cgroups name them: the whole disk for input and output, a node for the device rules, sizes of huge pages.

use crate::limits::bad;
use crate::rules::DeviceType;
use drydock_core::error::CallExt;
use drydock_core::text::escape;
use drydock_core::{Error, Kind, Result};
use nix::sys::stat::{FileStat, SFlag, major, minor, stat};
use std::path::{Path, PathBuf};

/// Checks `major:minor`.
pub(crate) fn check_numbers(text: &str) -> Result<()> {
    let number = |t: &str| !t.is_empty() && t.len() <= 10 && t.bytes().all(|b| b.is_ascii_digit());
    match text.split_once(':') {
        Some((a, b)) if number(a) && number(b) => Ok(()),
        _ => Err(bad("device", text, "not a device (allowed: major:minor such as 8:0, or a path)")),
    }
}

/// A disk, found by whatever names a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// `major:minor`.
    pub numbers: String,
    /// The kernel's name: `sda`.
    pub name: String,
    /// The partition that was named, if it was one: `sda1`.
    pub partition: Option<String>,
}

impl Disk {
    /// What a user should know: that a limit for a partition holds for all of the disk.
    pub fn note(&self) -> Option<String> {
        let part = self.partition.as_ref()?;
        Some(format!(
            "{part} is a partition: the kernel limits whole disks, so this holds for all of {} ({})",
            self.name, self.numbers
        ))
    }
}

/// The whole disk that holds a path: of the device itself if the path is a block device, else of its file system.
/// A partition, by path or by `8:1`, becomes its disk.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] if there is no such path or device, or the path's file system has no block device.
pub fn disk(text: &str) -> Result<Disk> {
    let numbers = if text.starts_with('/') {
        of_path(text)?
    } else {
        check_numbers(text)?;
        text.to_string()
    };
    let sys = Path::new("/sys/dev/block").join(&numbers);
    let Ok(real) = std::fs::canonicalize(&sys) else {
        // Whether there is such a device is for the kernel to say.
        return Ok(Disk { numbers, name: String::new(), partition: None });
    };
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if !real.join("partition").exists() {
        return Ok(Disk { numbers, name: name(&real), partition: None });
    }
    // /sys/dev/block/8:1 links to …/sda/sda1: the disk is the parent directory.
    let parent = real.parent().unwrap_or(&real);
    match crate::files::read_if_there(&parent.join("dev")) {
        Some(disk) => {
            Ok(Disk { numbers: disk.trim().to_string(), name: name(parent), partition: Some(name(&real)) })
        }
        None => Err(Error::failed("io.max", format!("cannot tell the disk of partition {numbers}"))),
    }
}

/// Whether a block device of these numbers is there; without sysfs that is for the kernel to say.
pub fn is_there(numbers: &str) -> bool {
    let all = Path::new("/sys/dev/block");
    all.join(numbers).exists() || !all.is_dir()
}

/// The numbers of [`disk`].
///
/// # Errors
/// As [`disk`].
pub fn whole_disk(text: &str) -> Result<String> {
    disk(text).map(|d| d.numbers)
}

fn of_path(text: &str) -> Result<String> {
    let status = stat_of(text, "io.max")?;
    let numbers = |device| format!("{}:{}", major(device), minor(device));
    if is(&status, SFlag::S_IFBLK) {
        return Ok(numbers(status.st_rdev));
    }
    let own = numbers(status.st_dev);
    if Path::new("/sys/dev/block").join(&own).exists() {
        return Ok(own);
    }
    // btrfs and the like number their files' devices by themselves: the mount says what is below.
    let source = mount_source(Path::new(text)).filter(|s| s.starts_with("/dev/"));
    match source.and_then(|s| stat(Path::new(&s)).ok()).filter(|s| is(s, SFlag::S_IFBLK)) {
        Some(source) => Ok(numbers(source.st_rdev)),
        None => Err(Error::bad_input(
            "io.max",
            format!(
                "'{}' is on a file system without a block device of its own, such as tmpfs or overlay (allowed: a path on a disk, or major:minor)",
                escape(text)
            ),
        )),
    }
}

/// The source of the mount that a path is on. Source: proc_pid_mountinfo(5).
fn mount_source(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let table = crate::files::read_if_there(Path::new("/proc/self/mountinfo"))?;
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = PathBuf::from(crate::layout::unescape(before.split(' ').nth(4)?));
        path.starts_with(&point)
            .then(|| (point.components().count(), after.split(' ').nth(1).map(String::from)))
    };
    // Of mounts one over another the last counts.
    table.lines().filter_map(line).max_by_key(|(depth, _)| *depth)?.1
}

/// What a device node is.
pub(crate) fn node(path: &str) -> Result<(DeviceType, u32, u32)> {
    let status = stat_of(path, "devices")?;
    let kind = if is(&status, SFlag::S_IFBLK) {
        DeviceType::Block
    } else if is(&status, SFlag::S_IFCHR) {
        DeviceType::Char
    } else {
        return Err(bad("devices", path, "not a device (allowed: a node such as /dev/null, or c 1:3)"));
    };
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok((kind, number(major(status.st_rdev)), number(minor(status.st_rdev))))
}

fn stat_of(path: &str, object: &str) -> Result<FileStat> {
    if path.contains('\0') {
        return Err(bad(object, path, "not a path"));
    }
    stat(Path::new(path))
        .call(|| format!("stat({path:?})"))
        .map_err(|e| e.on(object.to_string()).with_kind(Kind::BadInput))
}

fn is(status: &FileStat, kind: SFlag) -> bool {
    status.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

/// The sizes of huge pages that this kernel has, as the files of the controller name them: `2MB`, `1GB`, `64KB`.
pub(crate) fn huge_pages() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let mut sizes: Vec<u64> = entries.filter_map(|e| size(&e.file_name().to_string_lossy())).collect();
    sizes.sort_unstable();
    let shown = |kib: u64| match kib {
        _ if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        _ if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    };
    sizes.into_iter().map(shown).collect()
}
