//! A file with the command's PID in it, for as long as the command runs.

use drydock_core::error::{CallExt, errno_text};
use drydock_core::{Error, Result, text};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file of `--pid-file`. It appears whole, and is removed when this value is dropped.
#[derive(Debug, Default)]
pub struct PidFile {
    /// Where it is to be.
    path: Option<PathBuf>,
    /// What is written before it gets its name.
    open: Option<(File, PathBuf)>,
    written: bool,
}

impl PidFile {
    /// Makes an unnamed beginning of it, so that what is wrong with the place is said before the command runs.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a place where no file can be, or that is a link or no file.
    pub fn open(path: Option<&Path>) -> Result<PidFile> {
        let Some(path) = path else { return Ok(PidFile::default()) };
        let shown = text::shorten(&text::escape(&path.to_string_lossy()), 200).to_string();
        let bad = |problem: &str| Error::bad_input("--pid-file", format!("'{shown}': {problem}"));
        let Some(name) = path.file_name() else {
            return Err(bad("names no file (allowed: a file's path)"));
        };
        // Whoever can make a link here decides what is written over.
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => return Err(bad("is a symbolic link (allowed: a file)")),
            Ok(found) if !found.is_file() => return Err(bad("is no regular file (allowed: a file)")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(bad(&why(&error))),
        }
        // The command's process goes to another directory.
        let path = std::path::absolute(path).call(|| "getcwd()")?;
        let beginning = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let file = File::options().write(true).create_new(true).mode(0o644).open(&beginning);
        let file = file.map_err(|error| bad(&why(&error)))?;
        Ok(PidFile { path: Some(path), open: Some((file, beginning)), written: false })
    }

    /// Writes the PID and gives the file its name.
    ///
    /// # Errors
    /// write(2)'s and rename(2)'s.
    pub fn write(&mut self, pid: i32) -> Result<()> {
        let (Some(path), Some((file, beginning))) = (&self.path, &mut self.open) else { return Ok(()) };
        file.write_all(format!("{pid}\n").as_bytes())
            .and_then(|()| std::fs::rename(beginning, path))
            .call(|| format!("write({path:?})"))
            .map_err(|e| e.on("--pid-file"))?;
        self.written = true;
        self.open = None;
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some((_, beginning)) = &self.open {
            let _ = std::fs::remove_file(beginning);
        }
        if let Some(path) = self.path.as_ref().filter(|_| self.written) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn why(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_text)
}
