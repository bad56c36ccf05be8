//! Executing a command, and saying exactly why it could not be executed.

use crate::text::{escape_bytes, shorten};
use crate::{Error, Kind, Result};
use nix::errno::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A command ready for execve(2): every word checked for NUL bytes before anything is touched.
#[derive(Clone, Debug)]
pub struct Command {
    name: OsString,
    args: Vec<CString>,
    env: Vec<CString>,
    path: OsString,
    never: Option<FileId>,
    place: Option<String>,
}

/// A file, whatever its name: device and inode number.
pub type FileId = (u64, u64);

/// The PATH that is searched when the environment has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Command {
    /// A command with its arguments and whole environment (`KEY=VALUE`). PATH is taken from that environment.
    ///
    /// # Errors
    /// [`Kind::BadInput`]: no command, an empty name, or a NUL byte.
    pub fn new<W: AsRef<OsStr>>(args: &[W], env: &[W]) -> Result<Self> {
        let Some(name) = args.first() else {
            return Err(Error::bad_input("command", "missing (allowed: a program and its arguments)"));
        };
        if name.as_ref().is_empty() {
            return Err(Error::bad_input("command", "empty (allowed: a program and its arguments)"));
        }
        let path = |word: &W| {
            word.as_ref().as_bytes().strip_prefix(b"PATH=").map(OsStr::from_bytes).map(OsString::from)
        };
        Ok(Self {
            name: name.as_ref().into(),
            args: words("command", args)?,
            env: words("environment", env)?,
            path: env.iter().rev().find_map(path).unwrap_or_else(|| DEFAULT_PATH.into()),
            never: None,
            place: None,
        })
    }

    /// A command with the caller's environment.
    ///
    /// # Errors
    /// As [`Command::new`].
    pub fn of_caller(args: &[OsString]) -> Result<Self> {
        Self::new(args, &join_pairs(std::env::vars_os()))
    }

    /// Says in errors where the command was looked for: `the root of process 7`.
    #[must_use]
    pub fn within(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Refuses to execute this file under any name, also as a script's interpreter: the runtime itself, which an image
    /// can name as /proc/self/exe to get hold of it (CVE-2019-5736).
    #[must_use]
    pub fn never(mut self, file: Option<FileId>) -> Self {
        self.never = file;
        self
    }

    /// Executes the file at this path, whatever the first word is.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.name = path.as_os_str().to_os_string();
        self
    }

    /// Replaces the calling process. Returns only if that failed.
    ///
    /// The error's kind is [`Kind::NotFound`] or [`Kind::CannotExecute`] (exit 127 and 126), and its sentence says which
    /// of the reasons behind ENOENT and EACCES it was.
    pub fn exec(&self) -> Error {
        if self.name.as_bytes().contains(&b'/') {
            let errno = self.try_path(Path::new(&self.name));
            return self.explain(Path::new(&self.name), errno);
        }
        let mut found: Option<(PathBuf, Errno)> = None;
        // An empty or relative element would mean the working directory, which whoever made the files chooses.
        for dir in std::env::split_paths(&self.path).filter(|dir| dir.is_absolute()) {
            let candidate = dir.join(&self.name);
            match self.try_path(&candidate) {
                Errno::ENOENT if !candidate.exists() => {}
                Errno::ENOTDIR => {}
                // A directory or a file without the x bit does not hide a later one.
                errno => found = found.or(Some((candidate, errno))),
            }
        }
        match found {
            Some((path, errno)) => self.explain(&path, errno),
            None => self.not_found(),
        }
    }

    /// Whether there is something to execute, as far as it can be told without trying: for those who must know before
    /// the point of no return.
    ///
    /// # Errors
    /// As [`Command::exec`] would have: nothing of that name, or only a directory or files without the x bit.
    pub fn check(&self) -> Result<()> {
        let mut found = None;
        let candidates: Vec<PathBuf> = match self.name.as_bytes().contains(&b'/') {
            true => vec![PathBuf::from(&self.name)],
            false => std::env::split_paths(&self.path)
                .filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(&self.name))
                .collect(),
        };
        for path in candidates {
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => return Ok(()),
                Ok(_) => found = found.or(Some((path, Errno::EACCES))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) if e.raw_os_error() == Some(nix::libc::ENOTDIR) => {}
                // Not for this process to see, perhaps for the command's user.
                Err(_) => return Ok(()),
            }
        }
        Err(match found {
            Some((path, errno)) => self.explain(&path, errno),
            None if self.name.as_bytes().contains(&b'/') => {
                self.explain(Path::new(&self.name), Errno::ENOENT)
            }
            None => self.not_found(),
        })
    }

    /// Engines look for these words, to give an exit code of their own.
    fn not_found(&self) -> Error {
        let path = shorten(&escape_bytes(self.path.as_bytes()), 200);
        let problem = format!("executable file not found in $PATH ({path}){}", self.place());
        Error::failed(self.object(), problem).with_kind(Kind::NotFound)
    }

    fn object(&self) -> String {
        format!("'{}'", shorten(&escape_bytes(self.name.as_bytes()), 200))
    }

    fn place(&self) -> String {
        self.place.as_ref().map_or_else(String::new, |place| format!(" in {place}"))
    }

    fn try_path(&self, path: &Path) -> Errno {
        if self.never.is_some_and(|file| leads_to(path, file)) {
            return Errno::ELOOP;
        }
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Errno::EINVAL };
        match nix::unistd::execve(&path, &self.args, &self.env) {
            Err(errno) => errno,
            Ok(never) => match never {},
        }
    }

    /// Executes an open program (fexecve) with these words before the command's own. Returns only if that failed.
    pub fn exec_fd(&self, program: std::os::fd::BorrowedFd<'_>, before: &[CString]) -> Error {
        let args: Vec<&CString> = before.iter().chain(&self.args).collect();
        let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
        match nix::unistd::execveat(program, c"", &args, &self.env, flags) {
            Err(errno) => {
                Error::call("execveat(init, \"\", …, AT_EMPTY_PATH)", errno).with_kind(Kind::CannotExecute)
            }
            Ok(never) => match never {},
        }
    }
}

/// Names and values as the words of an environment.
pub fn join_pairs(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<OsString> {
    let join = |(mut word, value): (OsString, OsString)| {
        word.push("=");
        word.push(value);
        word
    };
    pairs.into_iter().map(join).collect()
}

fn words<W: AsRef<OsStr>>(what: &str, words: &[W]) -> Result<Vec<CString>> {
    let convert = |word: &W| {
        let bytes = word.as_ref().as_bytes();
        CString::new(bytes).map_err(|_| {
            let shown = shorten(&escape_bytes(bytes), 60);
            Error::bad_input(what, format!("'{shown}' contains a NUL byte (allowed: any other byte)"))
        })
    };
    words.iter().map(convert).collect()
}

impl Command {
    /// execve(2) says ENOENT for a missing interpreter and EACCES for a directory: look, and say which.
    fn explain(&self, path: &Path, errno: Errno) -> Error {
        let object = self.object();
        let at =
            if Path::new(&self.name) == path { String::new() } else { format!(" (at {})", path.display()) };
        let cannot =
            |why: String| Error::failed(object.clone(), format!("{why}{at}")).with_kind(Kind::CannotExecute);
        let call = || {
            Error::call(format!("execve({path:?})"), errno).on(object.clone()).with_kind(Kind::CannotExecute)
        };
        match (errno, std::fs::metadata(path)) {
            (Errno::ENOENT | Errno::ENOTDIR, Err(_)) => {
                let problem = format!("no such file or directory{}", self.place());
                Error::failed(object, problem).with_kind(Kind::NotFound)
            }
            (Errno::ENOENT, Ok(_)) => match interpreter(path) {
                Some(interpreter) => cannot(format!(
                    "exec {}: no such file or directory",
                    escape_bytes(path.as_os_str().as_bytes())
                ))
                .hint(format!(
                    "its interpreter '{interpreter}' does not exist here: copy it and its libraries into the root \
                     file system (rootfs copy)"
                )),
                None => call(),
            },
            (Errno::EACCES, Ok(meta)) if meta.is_dir() => {
                cannot("permission denied: it is a directory".into())
            }
            (Errno::EACCES, Ok(meta)) if meta.permissions().mode() & 0o111 == 0 => {
                cannot("permission denied: it is not executable".into())
                    .hint(format!("chmod +x {}", path.display()))
            }
            (Errno::EACCES, Ok(_)) => {
                call().hint("it needs the x bit for this user, on a file system without noexec")
            }
            (Errno::ENOEXEC, Ok(_)) => {
                cannot("exec format error: neither an ELF program of this machine nor a #! script".into())
            }
            (Errno::ELOOP, Ok(meta)) if meta.is_file() => {
                cannot("is the container runtime itself, which no container may execute".into())
            }
            (Errno::E2BIG, _) => cannot("argument list too long".into()),
            _ => call(),
        }
    }
}

/// Is `path` that file, or a script that ends in it? The kernel follows five interpreters at most (execve(2)).
fn leads_to(path: &Path, file: FileId) -> bool {
    use std::os::unix::fs::MetadataExt;
    let mut path = path.to_path_buf();
    for _ in 0..6 {
        match std::fs::metadata(&path) {
            Ok(meta) if (meta.dev(), meta.ino()) == file => return true,
            Ok(meta) if meta.is_file() => {}
            _ => return false,
        }
        match script_interpreter(&path) {
            Some(next) => path = next,
            None => return false,
        }
    }
    true
}

fn script_interpreter(path: &Path) -> Option<PathBuf> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let word = line.split(|b| matches!(b, b' ' | b'\t')).find(|w| !w.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

/// The `#!` or ELF interpreter that a file names, if it can be read.
fn interpreter(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(64 * 1024).read_to_end(&mut head).ok()?;
    if let Some(rest) = head.strip_prefix(b"#!") {
        let line = rest.split(|b| *b == b'\n').next()?;
        let word = line.split(|b| b.is_ascii_whitespace()).find(|w| !w.is_empty())?;
        return Some(escape_bytes(word));
    }
    elf_interpreter(&head).map(escape_bytes)
}

/// PT_INTERP of a 64-bit little-endian ELF whose headers are at its beginning, as linkers put them. Source: elf(5).
fn elf_interpreter(head: &[u8]) -> Option<&[u8]> {
    let int = |at: usize, n: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(n)?)?;
        Some(bytes.iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (int(32, 8)?, int(54, 2)?, int(56, 2)?);
    (0..count.min(64)).find_map(|i| {
        let header = table.checked_add(i.checked_mul(size)?)?;
        if int(header, 4)? != 3 {
            return None;
        }
        let (offset, length) = (int(header.checked_add(8)?, 8)?, int(header.checked_add(32)?, 8)?);
        let text = head.get(offset..offset.checked_add(length)?)?;
        text.split(|b| *b == 0).next()
    })
}

/// The words of an `OsStr` list as text.
///
/// # Errors
/// [`Kind::BadInput`] for a word that is not UTF-8.
pub fn utf8_words<'a>(what: &str, words: impl IntoIterator<Item = &'a OsStr>) -> Result<Vec<String>> {
    let convert = |word: &OsStr| {
        word.to_str().map(String::from).ok_or_else(|| {
            let shown = escape_bytes(word.as_bytes());
            Error::bad_input(what, format!("'{shown}' is not valid UTF-8"))
        })
    };
    words.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(args: &[&str], path: &str) -> (u8, String) {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let command = Command::new(&args, &[format!("PATH={path}")]).unwrap().within("the moon");
        let error = command.exec();
        // What the check lets pass is what only the kernel refuses.
        if let Err(early) = command.check() {
            assert_eq!(early.to_string(), error.to_string());
        } else {
            assert_eq!(error.exit_code(), 126);
        }
        (error.exit_code(), error.to_string())
    }

    #[test]
    fn says_why() {
        let dir = std::env::temp_dir().join(format!("drydock-exec-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let search = dir.display().to_string();
        let (code, text) = fails(&["nope"], &format!("relative::{search}"));
        assert!(code == 127 && text.contains("in the moon"), "{text}");
        assert_eq!(fails(&["passwd"], "/nonexistent:/etc").0, 126);
        assert_eq!(fails(&["/nope/nope"], &search).0, 127);
        let (code, text) = fails(&[&write("plain", "x", 0o644)], &search);
        assert!(code == 126 && text.contains("not executable"), "{text}");
        let (code, text) = fails(&["bad"], &{
            write("bad", "#!/no/such/interpreter -x\n", 0o755);
            search.clone()
        });
        assert!(code == 126 && text.contains("/no/such/interpreter"), "{text}");
        let (code, text) = fails(&[&write("text", "no magic", 0o755)], &search);
        assert!(code == 126 && text.contains("exec format error"), "{text}");
        let (code, text) = fails(&[&search], &search);
        assert!(code == 126 && text.contains("is a directory"), "{text}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn refuses_before_touching() {
        for (args, env) in [(&[][..], ""), (&[""], ""), (&["a\0b"], ""), (&["a"], "K=\0")] {
            assert_eq!(Command::new(args, &[env]).unwrap_err().exit_code(), 2);
        }
    }
}
