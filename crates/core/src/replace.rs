//! Giving a file a new content, whole or not at all.

use std::io;
use std::path::Path;

/// rename(2) to a name that is perhaps taken. The two change places, and the old one is unlinked: ext4 writes a file to
/// disk at once that is renamed over another one, which takes milliseconds, and what our directories hold need not outlive
/// the machine's next start.
///
/// # Errors
/// rename(2)'s.
pub fn replace(new: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, path, RenameFlags::EXCHANGE) {
        // Should the old one stay, it does so under a name that the next writer takes, and goes with its directory.
        Ok(()) => std::fs::remove_file(new).or(Ok(())),
        // None there yet, or a file system that cannot exchange.
        Err(_) => std::fs::rename(new, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, read_dir, read_to_string, remove_dir_all, write};

    #[test]
    fn one_file_is_left_with_what_was_written_last() {
        let dir = std::env::temp_dir().join(format!("drydock-replace-{}", std::process::id()));
        create_dir_all(&dir).unwrap();
        let (new, path) = (dir.join("new"), dir.join("file"));
        for text in ["one", "two", "three"] {
            write(&new, text).unwrap();
            replace(&new, &path).unwrap();
            assert_eq!(read_to_string(&path).unwrap(), text);
            assert_eq!(read_dir(&dir).unwrap().count(), 1);
        }
        assert!(replace(&new, &path).is_err(), "there is no new one");
        remove_dir_all(&dir).unwrap();
    }
}
