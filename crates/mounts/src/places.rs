//! Mount points for mounts that somebody else makes: criu mounts what a checkpoint had, but where something is there.

use crate::inside::{Inside, Links, Want, open_host};
use crate::request::Mount;
use drydock_core::Result;
use rustix::fs::OFlags;
use std::path::{Component, Path, PathBuf};

/// Makes the mount points that are missing, without mounting anything: of a mount that lies in a bind mount, in that one's
/// source.
///
/// # Errors
/// What cannot be opened or made.
pub fn ensure(root: &Path, mounts: &[Mount]) -> Result<()> {
    let places: Vec<PathBuf> = mounts.iter().map(|mount| clean(&mount.destination)).collect();
    for (at, (mount, place)) in mounts.iter().zip(&places).enumerate() {
        let before = mounts.iter().zip(&places).take(at);
        let below = before.filter(|(_, other)| *other != place && place.starts_with(other));
        // The innermost, and of two at one place the one on top.
        let (base, rest) = match below.max_by_key(|(_, other)| other.components().count()) {
            None => (root, place.as_path()),
            Some((outer, above)) => match (source(outer), place.strip_prefix(above)) {
                (Some(source), Ok(rest)) => (source, rest),
                // criu writes such a file system's directories itself.
                _ => continue,
            },
        };
        let want = match source(mount) {
            Some(source) if !source.is_dir() => Want::File,
            _ => Want::Directory,
        };
        let rest = Path::new("/").join(rest);
        Inside::new(open_host(base, OFlags::DIRECTORY)?).ensure(
            &rest.to_string_lossy(),
            want,
            Links::Follow,
        )?;
    }
    Ok(())
}

/// What a bind mount shows.
fn source(mount: &Mount) -> Option<&Path> {
    let fstype = mount.fstype.as_deref();
    let bind = mount.options.iter().any(|word| word == "bind" || word == "rbind")
        || fstype.is_none_or(|fstype| matches!(fstype, "" | "bind" | "none"));
    mount.source.as_deref().filter(|_| bind).map(Path::new)
}

fn clean(destination: &str) -> PathBuf {
    Path::new(destination).components().fold(PathBuf::from("/"), |mut place, part| {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => drop(place.pop()),
            _ => {}
        }
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_root_and_in_what_is_bound_there() {
        let dir = std::env::temp_dir().join(format!("drydock-places-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let made = ["root", "one", "two"].map(|name| dir.join(name));
        made.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        let file = dir.join("file");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("/", dir.join("one/link")).unwrap();
        let bind =
            |source: &Path, destination: &str| Mount::bind(&source.to_string_lossy(), destination, &[]);
        let mounts = [
            bind(&made[1], "/test"),
            bind(&made[2], "test/for/../for/nested"),
            bind(&file, "/test/link/file"),
            Mount::tmpfs("/tmp/x", &[]),
            bind(&made[2], "/tmp/x/y"),
            Mount::of("proc", "/test/for/nested/proc", &[]),
        ];
        for _ in 0..2 {
            ensure(&made[0], &mounts).unwrap();
        }
        for directory in ["root/test", "one/for/nested", "root/tmp/x", "two/proc"] {
            assert!(dir.join(directory).is_dir(), "{directory}");
        }
        assert!(dir.join("one/file").is_file(), "a link in a source leads nowhere else");
        assert!(!dir.join("root/tmp/x/y").exists() && !dir.join("root/test/for").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
