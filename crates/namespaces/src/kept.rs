//! Namespaces that are kept without a process: bind mounts of their files. Source: namespaces(7), proc_pid_mountinfo(5).

use crate::{Kind, nsfile};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Explain, Result, Step};
use nix::errno::Errno;
use nix::mount::MntFlags;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount of a namespace's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its kind.
    pub kind: Kind,
    /// Its number, as in `net:[4026532177]`.
    pub inode: u64,
    /// Where it is mounted.
    pub path: PathBuf,
}

/// All that the calling process's mount namespace shows.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read.
pub fn list() -> Result<Vec<Kept>> {
    let text = std::fs::read("/proc/self/mountinfo").call(|| "open(\"/proc/self/mountinfo\")")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Kept> {
    let mut fields = line.split(|b| *b == b' ');
    let root = std::str::from_utf8(fields.nth(3)?).ok()?;
    let path = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    fields.find(|field| *field == b"-")?;
    if fields.next()? != b"nsfs" {
        return None;
    }
    let (kind, number) = root.split_once(":[")?;
    let inode = number.strip_suffix(']')?.parse().ok()?;
    Some(Kept { kind: kind.parse().ok()?, inode, path })
}

/// Space, tab, newline and backslash stand as `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or(&[]);
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Taking one away again.
#[derive(Clone, Debug)]
pub struct Remove {
    path: PathBuf,
}

impl Remove {
    /// Checks that a namespace, and nothing else, is kept there.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if not.
    pub fn plan(path: &Path) -> Result<Remove> {
        let name = nsfile::shown(path);
        let path = std::path::absolute(path).call(|| "getcwd()")?;
        nsfile::open(&path, None)?;
        if !list()?.iter().any(|kept| kept.path == path) {
            return Err(Error::bad_input(
                name,
                "no namespace is kept there (allowed: what container ns list shows)",
            ));
        }
        Ok(Remove { path })
    }

    /// Unmounts it, however often one was put over another, and removes the file if it is as empty as those that are
    /// made for this. Processes that are in the namespace keep it.
    ///
    /// # Errors
    /// umount2(2)'s.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(self, |step| {
            let mut first = true;
            loop {
                match nix::mount::umount2(&step.path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                    Ok(()) => first = false,
                    // Nothing is mounted any more.
                    Err(Errno::EINVAL) if !first => break,
                    Err(e) => {
                        let error = Error::call(format!("umount2({:?}, MNT_DETACH)", step.path), e);
                        return Err(error
                            .hint("this needs CAP_SYS_ADMIN in the user namespace of this mount namespace"));
                    }
                }
                if nsfile::open(&step.path, None).is_err() {
                    break;
                }
            }
            let empty = std::fs::symlink_metadata(&step.path).is_ok_and(|m| m.is_file() && m.len() == 0);
            if empty {
                std::fs::remove_file(&step.path).call(|| format!("unlink({:?})", step.path))?;
            }
            Ok(())
        })
    }
}

impl Explain for Remove {
    fn explain(&self) -> Step {
        let shown = drydock_core::text::escape_bytes(self.path.as_os_str().as_bytes());
        Step {
            stage: "persist".into(),
            call: format!("umount2(\"{shown}\", MNT_DETACH), unlink(\"{shown}\")"),
            why: "without this mount the namespace ends with its last process".into(),
            man: "namespaces(7)".into(),
            undo: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let kept = parse(b"36 35 0:4 net:[77] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw").unwrap();
        assert_eq!((kept.kind, kept.inode, kept.path), (Kind::Network, 77, "/run/netns/a b".into()));
        for bad in [
            &b""[..],
            b"37 35 0:4 nonsense /x rw - nsfs nsfs rw",
            b"38 35 0:9 net:[5] /x rw - tmpfs x rw",
            b"1 2",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
