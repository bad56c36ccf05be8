//! OverlayFS: read-only layers below, one writable above. Source: Documentation/filesystems/overlayfs.rst.

use crate::inside::{fd_path, mount_id, open_host};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The kernel's limit (OVL_MAX_STACK).
pub const MAX_LOWER: usize = 500;
/// mount(2) takes at most a page of data, with its NUL.
const MAX_DATA: usize = 4095;

/// The layers of one overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overlay {
    /// Read-only layers, the topmost first. Absolute.
    pub lower: Vec<PathBuf>,
    /// The writable layer; empty for an overlay that cannot be written.
    pub upper: PathBuf,
    /// An empty directory on the same mount as `upper`, for the kernel's use.
    pub work: PathBuf,
    /// Never sync: faster, and the upper layer is not to be used again after a crash (Linux 5.10).
    pub volatile: bool,
    /// A tmpfs to be mounted first, in the same mount namespace, for `upper`, `work` and the overlay's mount point, which
    /// are made in it: it vanishes with the namespace, and nothing is written to a disk.
    pub scratch: Option<Scratch>,
    /// Keep marks in `user.` instead of `trusted.` attributes: needed in a user namespace (Linux 5.11).
    pub userxattr: bool,
}

/// A tmpfs for a writable layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// Its mount point, an existing directory; `upper`, `work` and the overlay's mount point lie right in it.
    pub path: PathBuf,
    /// At most this many bytes.
    pub size: u64,
}

impl Scratch {
    /// Files that it may have: one for each 4 KiB would be half of the memory in inodes alone.
    const INODES: u32 = 262_144;

    /// The option words of its mount. Source: tmpfs(5).
    pub fn options(&self) -> Vec<String> {
        vec!["mode=700".into(), format!("size={}", self.size), format!("nr_inodes={}", Self::INODES)]
    }
}

impl Overlay {
    /// Whether it has a writable layer.
    pub fn is_writable(&self) -> bool {
        !self.upper.as_os_str().is_empty()
    }

    /// Checks what can be checked without touching anything.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str, problem: String| Err(Error::bad_input(format!("overlay {what}"), problem));
        let writable = self.is_writable();
        let enough = if writable { 1 } else { 2 };
        if self.lower.len() < enough || self.lower.len() > MAX_LOWER {
            let with = if writable { "with an upper one" } else { "without an upper one" };
            return bad(
                "lower",
                format!("{} layers (allowed {with}: {enough} to {MAX_LOWER})", self.lower.len()),
            );
        }
        if writable == self.work.as_os_str().is_empty() {
            return bad(
                "work",
                "an upper layer and a work directory are given together or not at all".to_string(),
            );
        }
        let named =
            self.lower.iter().map(|p| ("lower", p)).chain([("upper", &self.upper), ("work", &self.work)]);
        for (what, path) in named.filter(|(_, p)| !p.as_os_str().is_empty()) {
            if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
                return bad(what, format!("{path:?} is not an absolute path"));
            }
        }
        if let Some(scratch) = &self.scratch {
            let inside = [&self.upper, &self.work].iter().all(|dir| dir.parent() == Some(&scratch.path));
            if !writable || !inside {
                return bad("scratch", format!("upper and work must lie right in {:?}", scratch.path));
            }
        }
        if writable && (self.work.starts_with(&self.upper) || self.upper.starts_with(&self.work)) {
            return bad("work", format!("{:?} and upper {:?} contain each other", self.work, self.upper));
        }
        if writable && self.lower.iter().any(|l| l == &self.upper || l == &self.work) {
            return bad("upper", format!("{:?} is a lower layer too", self.upper));
        }
        Ok(())
    }

    /// The option string, as people read it (mount(2)'s data when no path has a character that needs escaping).
    pub fn data(&self) -> String {
        let show = |path: &PathBuf| path.to_string_lossy().into_owned();
        self.data_of(&self.lower.iter().map(show).collect::<Vec<_>>(), &show(&self.upper), &show(&self.work))
    }

    fn data_of(&self, lower: &[String], upper: &str, work: &str) -> String {
        let mut data = format!("lowerdir={}", lower.join(":"));
        if self.is_writable() {
            data.push_str(&format!(",upperdir={upper},workdir={work}"));
        }
        data.push_str(self.words());
        data
    }

    fn words(&self) -> &'static str {
        match (self.volatile, self.userxattr) {
            (true, true) => ",volatile,userxattr",
            (true, false) => ",volatile",
            (false, true) => ",userxattr",
            (false, false) => "",
        }
    }

    /// Mounts it on `target` (a path of this process: for a checked descriptor its /proc/self/fd name), which errors
    /// call `shown`.
    ///
    /// # Errors
    /// mount(2)'s, with the cause where it can be found out.
    pub fn mount(&self, target: &str, shown: &str, flags: MsFlags) -> Result<()> {
        // Colons, commas and backslashes separate and escape in the option string, differently on different kernels:
        // paths with them, and long strings, are given as descriptors instead.
        let plain = |path: &Path| !path.as_os_str().as_encoded_bytes().iter().any(|b| b":,\\".contains(b));
        let all_plain = self.lower.iter().chain([&self.upper, &self.work]).all(|p| plain(p));
        let data = self.data();
        if all_plain && data.len() <= MAX_DATA {
            return self.call(target, shown, flags, &data);
        }
        let mut held = Vec::new();
        let mut hold = |path: &Path| -> Result<String> {
            if path.as_os_str().is_empty() {
                return Ok(String::new());
            }
            let fd: OwnedFd = open_host(path, OFlags::DIRECTORY)?;
            let name = fd_path(fd.as_fd());
            held.push(fd);
            Ok(name)
        };
        let lower = self.lower.iter().map(|p| hold(p)).collect::<Result<Vec<_>>>()?;
        let (upper, work) = (hold(&self.upper)?, hold(&self.work)?);
        let data = self.data_of(&lower, &upper, &work);
        if data.len() <= MAX_DATA {
            return self.call(target, shown, flags, &data);
        }
        self.mount_many(target, flags, &lower, &upper, &work)
    }

    fn call(&self, target: &str, shown: &str, flags: MsFlags, data: &str) -> Result<()> {
        nix::mount::mount(Some("overlay"), target, Some("overlay"), flags, Some(data))
            .call(|| {
                format!(
                    "mount(\"overlay\", {shown:?}, \"overlay\", {}, {:?})",
                    crate::options::show(flags),
                    self.data()
                )
            })
            .map_err(|e| self.explain(e))
    }

    /// More layers than a page of data holds: one fsconfig(2) call a layer (`lowerdir+`, Linux 6.5).
    fn mount_many(
        &self,
        target: &str,
        flags: MsFlags,
        lower: &[String],
        upper: &str,
        work: &str,
    ) -> Result<()> {
        use rustix::mount as m;
        let fs = m::fsopen("overlay", m::FsOpenFlags::FSOPEN_CLOEXEC).call(|| "fsopen(\"overlay\")")?;
        let set = |key: &str, value: &str| {
            m::fsconfig_set_string(&fs, key, value)
                .call(|| format!("fsconfig(FSCONFIG_SET_STRING, {key:?}, {value:?})"))
        };
        for layer in lower {
            set("lowerdir+", layer)
                .map_err(|e| e.hint("so many layers need Linux 6.5: merge some, or use shorter paths"))?;
        }
        if self.is_writable() {
            set("upperdir", upper)?;
            set("workdir", work)?;
        }
        for word in self.words().split(',').filter(|w| !w.is_empty()) {
            m::fsconfig_set_flag(&fs, word).call(|| format!("fsconfig(FSCONFIG_SET_FLAG, {word:?})"))?;
        }
        m::fsconfig_create(&fs).call(|| "fsconfig(FSCONFIG_CMD_CREATE)").map_err(|e| self.explain(e))?;
        let options = crate::options::Options { flags: crate::options::Flags(flags), ..Default::default() };
        let bits = u32::try_from(options.attributes().0).unwrap_or(0);
        let attributes = m::MountAttrFlags::from_bits_retain(bits);
        let mount = m::fsmount(&fs, m::FsMountFlags::FSMOUNT_CLOEXEC, attributes).call(|| "fsmount()")?;
        m::move_mount(
            &mount,
            "",
            rustix::fs::CWD,
            target,
            m::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | m::MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
        )
        .call(|| format!("move_mount(fd, \"\", AT_FDCWD, {target:?}, MOVE_MOUNT_F_EMPTY_PATH)"))
    }

    /// The kernel answers EINVAL to nearly every mistake and says why only in its log: look for the cause.
    fn explain(&self, error: Error) -> Error {
        let error = error.on("overlay");
        let hint = match error.errno() {
            Some(nix::libc::ENODEV) => {
                Some("this kernel has no OverlayFS: load the module ('modprobe overlay') or build it in".to_string())
            }
            Some(nix::libc::EPERM) => Some(
                "needs CAP_SYS_ADMIN; in a user namespace OverlayFS needs Linux 5.11 and the userxattr option".to_string(),
            ),
            Some(nix::libc::EBUSY) => {
                Some("the upper or work directory is in use by another overlay: give each its own".to_string())
            }
            Some(nix::libc::ENOENT | nix::libc::ENOTDIR) => self.missing(),
            Some(nix::libc::EROFS) => Some("the upper layer is on a read-only file system".to_string()),
            Some(nix::libc::EINVAL | nix::libc::EXDEV | nix::libc::EOPNOTSUPP) => self.unsupported(),
            _ => None,
        };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn missing(&self) -> Option<String> {
        let mut all =
            self.lower.iter().chain([&self.upper, &self.work]).filter(|p| !p.as_os_str().is_empty());
        all.find(|p| !p.is_dir()).map(|p| format!("{} is not a directory", p.display()))
    }

    fn unsupported(&self) -> Option<String> {
        if let Some(missing) = self.missing() {
            return Some(missing);
        }
        let open = |path: &Path| open_host(path, OFlags::DIRECTORY).ok();
        if self.is_writable() {
            let (upper, work) = (open(&self.upper)?, open(&self.work)?);
            let kind = file_system(&upper);
            if let Some((name, why)) = kind.and_then(unsuitable) {
                let upper = self.upper.display();
                return Some(format!(
                    "the upper layer {upper} is on {name}, {why}: put upper and work on ext4, xfs, btrfs or tmpfs"
                ));
            }
            if mount_id(upper.as_fd()) != mount_id(work.as_fd()) {
                return Some("the upper layer and the work directory must be on the same mount".to_string());
            }
        }
        let nested = self.lower.iter().find(|l| open(l).as_ref().and_then(file_system) == Some(OVERLAY));
        nested.map(|l| {
            format!(
                "the lower layer {} is an overlay itself; the kernel allows two levels of nesting at most",
                l.display()
            )
        })
    }
}

const OVERLAY: u32 = 0x794c_7630;

fn file_system(fd: &OwnedFd) -> Option<u32> {
    rustix::fs::fstatfs(fd).ok().map(|s| u32::try_from(s.f_type & 0xffff_ffff).unwrap_or(0))
}

/// File systems that cannot be an upper layer: (name, why).
fn unsuitable(magic: u32) -> Option<(&'static str, &'static str)> {
    Some(match magic {
        OVERLAY => ("an overlay itself", "which cannot be an upper layer (nested overlay)"),
        0x6969 => ("NFS", "which lacks the extended attributes and whiteouts that OverlayFS needs"),
        0x4d44 => ("vfat", "which lacks the extended attributes and file types that OverlayFS needs"),
        0x6573_5546 => {
            ("FUSE", "which may lack the extended attributes and RENAME_WHITEOUT that OverlayFS needs")
        }
        0x0102_1997 => ("9p", "which lacks the extended attributes and whiteouts that OverlayFS needs"),
        0x8584_58f6 => ("ramfs", "which lacks the extended attributes that OverlayFS needs"),
        0x7371_7368 => ("squashfs", "which is read-only"),
        0xe0f5_e1e2 => ("erofs", "which is read-only"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Overlay {
        Overlay {
            lower: vec!["/a".into(), "/b".into()],
            upper: "/u".into(),
            work: "/w".into(),
            ..Overlay::default()
        }
    }

    #[test]
    fn data_has_the_topmost_layer_first() {
        assert_eq!(sample().data(), "lowerdir=/a:/b,upperdir=/u,workdir=/w");
        let read_only = Overlay { upper: PathBuf::new(), work: PathBuf::new(), userxattr: true, ..sample() };
        assert_eq!(read_only.data(), "lowerdir=/a:/b,userxattr");
        read_only.check().unwrap();
    }

    #[test]
    fn refuses_layers_that_cannot_work() {
        sample().check().unwrap();
        for bad in [
            Overlay { lower: vec![], ..sample() },
            Overlay { lower: vec!["/a".into(); 501], ..sample() },
            Overlay { lower: vec!["a".into()], ..sample() },
            Overlay { lower: vec!["/u".into()], ..sample() },
            Overlay { work: PathBuf::new(), ..sample() },
            Overlay { work: "/u/w".into(), ..sample() },
            Overlay { upper: "/w/u".into(), ..sample() },
            Overlay { lower: vec!["/a".into()], upper: PathBuf::new(), work: PathBuf::new(), ..sample() },
        ] {
            assert_eq!(bad.check().unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
