//! Keeping a namespace alive after its last process: a bind mount of its file. Source: namespaces(7), ip-netns(8).

use crate::{Kind, nsfile};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Checks a file on which a namespace is to be pinned.
pub(super) fn check(path: &Path, fork: bool) -> Result<()> {
    let name = nsfile::shown(path);
    if !fork {
        // Once inside, the caller could not undo the mount if a later step fails.
        return Err(Error::bad_input(
            name,
            "keeping a namespace takes a process that stays outside (allowed: without --no-fork)",
        ));
    }
    if path.file_name().is_none() {
        return Err(Error::bad_input(
            name,
            "not a file (allowed: the path of a file, made if it is missing)",
        ));
    }
    // Stacking a second namespace on the same file would hide the first, and whoever uses it would not notice.
    if let Ok((_, found)) = nsfile::open(path, None) {
        return Err(Error::bad_input(name.clone(), format!("holds a {found} namespace already"))
            .hint(format!("join it with joinns {name} -- CMD, or remove it: umount {name} && rm {name}")));
    }
    if let Some(dir) = directory(path).filter(|dir| !dir.is_dir() && !is_ip_netns(dir)) {
        let dir = nsfile::shown(dir);
        let problem =
            format!("'{dir}' is not there, or no directory (allowed: a file in a directory that is there)");
        return Err(Error::bad_input(name, problem));
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => {
            Err(Error::bad_input(name, "not a regular file (allowed: a file, or nothing yet)"))
        }
        Ok(meta) if meta.len() > 0 => {
            Err(Error::bad_input(name, "is not empty (allowed: an empty file, or nothing yet)"))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::call(format!("lstat(\"{name}\")"), e)),
    }
}

fn directory(path: &Path) -> Option<&Path> {
    path.parent().filter(|dir| !dir.as_os_str().is_empty())
}

/// The directory of ip-netns(8), which is made by whoever comes first.
fn is_ip_netns(dir: &Path) -> bool {
    matches!(dir.to_str(), Some("/run/netns" | "/var/run/netns"))
}

/// A file made for a namespace. Dropped before it is kept, it is unmounted and removed again.
#[derive(Debug)]
pub(super) struct Pin {
    kind: Kind,
    path: PathBuf,
    made: bool,
    mounted: bool,
    kept: bool,
}

impl Pin {
    /// Makes the file, unless it is there.
    pub(super) fn prepare(kind: Kind, path: &Path) -> Result<Self> {
        if let Some(dir) = directory(path).filter(|dir| is_ip_netns(dir) && !dir.exists()) {
            std::fs::create_dir(dir).call(|| format!("mkdir({dir:?}, 0755)"))?;
        }
        let options = || {
            let mut options = std::fs::OpenOptions::new();
            options
                .write(true)
                .create_new(true)
                .mode(0o444)
                .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC);
            options
        };
        let made = match options().open(path) {
            Ok(_) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(Error::call(format!("open({path:?}, O_CREAT|O_EXCL, 0444)"), e)),
        };
        Ok(Self { kind, path: path.to_path_buf(), made, mounted: false, kept: false })
    }

    /// Binds the namespace of process `pid` on the file.
    pub(super) fn mount(&mut self, pid: i32) -> Result<()> {
        let name = if self.kind == Kind::Time { "time_for_children" } else { self.kind.proc_name() };
        let source = format!("/proc/{pid}/ns/{name}");
        let none = None::<&str>;
        nix::mount::mount(Some(source.as_str()), &self.path, none, MsFlags::MS_BIND, none).map_err(|e| {
            let error = Error::call(format!("mount(\"{source}\", {:?}, NULL, MS_BIND)", self.path), e);
            match (e, self.kind) {
                (Errno::EINVAL, Kind::Mount) => error.hint(
                    "a mount namespace can only be kept on a private mount: mount --bind DIR DIR && mount --make-private DIR",
                ),
                (Errno::EPERM, _) => error.hint("keeping a namespace needs CAP_SYS_ADMIN in the user namespace of this mount namespace"),
                _ => error,
            }
        })?;
        self.mounted = true;
        Ok(())
    }

    /// The command runs: it stays.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // A failed attempt leaves what was there before.
        if self.mounted {
            let _ = nix::mount::umount2(&self.path, MntFlags::MNT_DETACH);
        }
        if self.made {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
