//! The directories that an overlay of a container's own needs.

use crate::overlay::Overlay;
use drydock_core::Result;
use drydock_core::error::CallExt;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes the overlay's upper and work directories and its mount point, as far as they are missing, with missing
/// parents. Returns what was made, parents first.
///
/// The upper directory lends its mode to the container's `/`: 0755 whatever the umask is. What it lies in is closed to
/// others (0700), because a container can leave set-user-ID programs there; what lies above can be passed through (0711),
/// as a container with a user namespace has to.
///
/// # Errors
/// mkdir(2)'s.
pub fn make(overlay: &Overlay, target: &Path) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    match make_all(overlay, target, &mut made) {
        Ok(()) => Ok(made),
        Err(e) => {
            take_back(&made);
            Err(e)
        }
    }
}

fn make_all(overlay: &Overlay, target: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    for dir in [overlay.upper.as_path(), &overlay.work, target] {
        if dir.as_os_str().is_empty() {
            continue;
        }
        if let Some(own) = dir.parent() {
            let above: Vec<&Path> = own.ancestors().skip(1).collect();
            for parent in above.into_iter().rev() {
                make_one(parent, 0o711, made)?;
            }
            make_one(own, 0o700, made)?;
        }
        make_one(dir, 0o755, made)?;
    }
    Ok(())
}

fn make_one(dir: &Path, mode: u32, made: &mut Vec<PathBuf>) -> Result<()> {
    match DirBuilder::new().mode(mode).create(dir) {
        // Something else there: the mount says what.
        Err(_) if dir.exists() => return Ok(()),
        other => other.call(|| format!("mkdir({dir:?}, {mode:#o})"))?,
    }
    made.push(dir.to_path_buf());
    std::fs::set_permissions(dir, Permissions::from_mode(mode)).call(|| format!("chmod({dir:?}, {mode:#o})"))
}

/// Takes back what [`make`] made and nobody uses; best effort.
pub fn take_back(made: &[PathBuf]) {
    for dir in made.iter().rev() {
        // Not empty or busy: somebody else's by now.
        let _ = std::fs::remove_dir(dir);
    }
}

/// The file beside the layers that says whose they are.
const OWNER: &str = "owner";

/// Writes down, in the directory of a container's layers, the state directory that they belong to. The state is gone
/// after a reboot, the layers stay: so they are known as left behind.
///
/// # Errors
/// write(2)'s.
pub fn mark(dir: &Path, state_dir: &Path) -> Result<()> {
    let file = dir.join(OWNER);
    std::fs::write(&file, state_dir.as_os_str().as_encoded_bytes()).call(|| format!("write({file:?})"))
}

/// The state directory that layers belong to; `None` if they do not say.
pub fn owner(dir: &Path) -> Option<PathBuf> {
    use std::io::Read;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(dir.join(OWNER)).ok()?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_do_not_depend_on_the_umask() {
        let top = std::env::temp_dir().join(format!("drydock-layers-{}", std::process::id()));
        let overlay =
            Overlay { upper: top.join("c/x/upper"), work: top.join("c/x/work"), ..Overlay::default() };
        let target = top.join("t");
        let made = make(&overlay, &target).unwrap();
        let mode = |dir: &str| std::fs::metadata(top.join(dir)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            [mode("c"), mode("c/x"), mode("c/x/upper"), mode("c/x/work"), mode("t")],
            [0o711, 0o700, 0o755, 0o755, 0o755]
        );
        assert_eq!(make(&overlay, &target).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(owner(&top), None);
        mark(&top, Path::new("/run/x")).unwrap();
        assert_eq!(owner(&top).as_deref(), Some(Path::new("/run/x")));
        std::fs::remove_file(top.join(OWNER)).unwrap();
        take_back(&made);
        assert!(!top.exists());
    }
}
