//! The last moments before a command runs: clean process state, then execve(2) with errors that say where it was
//! looked for.

use drydock_core::error::CallExt;
use drydock_core::{Error, Kind, Result};
use nix::errno::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where commands are looked for when PATH is not set.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Gives the command a clean start: every signal at its default and unblocked, every descriptor above 2 closed by the
/// exec.
///
/// # Errors
/// When the descriptors can be closed neither by close_range(2) nor through /proc.
pub fn clean_process() -> Result<()> {
    drydock_core::sys::signal::reset_dispositions();
    drydock_core::sys::signal::unblock_all().call(|| "sigprocmask(SIG_SETMASK, [])")?;
    drydock_core::sys::fd::close_on_exec_from(3).call(|| "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)")
}

/// Makes an open directory the root and the working directory.
///
/// # Errors
/// EPERM without CAP_SYS_CHROOT in the user namespace.
pub fn enter_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).call(|| "fchdir(root)")?;
    rustix::process::chroot(".").call(|| "chroot(\".\")")
}

/// Makes an open directory the working directory.
///
/// # Errors
/// fchdir(2)'s.
pub fn enter_directory(directory: impl AsFd) -> Result<()> {
    rustix::process::fchdir(directory).call(|| "fchdir(working directory)")
}

/// A command with its environment.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program and its arguments; the program is looked up in PATH if it has no slash.
    pub argv: Vec<OsString>,
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
    /// The root in which it is looked for, in words: `the root of process 7`.
    pub place: String,
}

impl Command {
    /// A command with the caller's environment.
    pub fn new(argv: Vec<OsString>, place: impl Into<String>) -> Self {
        Self { argv, env: std::env::vars_os().collect(), place: place.into() }
    }

    /// Executes it. Returns only on failure.
    pub fn execute(&self) -> Error {
        match self.try_execute() {
            Ok(never) => match never {},
            Err(e) => e,
        }
    }

    fn try_execute(&self) -> Result<std::convert::Infallible> {
        let program = self.argv.first().ok_or_else(|| Error::bad_input("command", "is empty"))?;
        let argv = self.argv.iter().map(|a| c_string(a)).collect::<Result<Vec<_>>>()?;
        let env = self.env.iter().map(|(k, v)| pair(k, v)).collect::<Result<Vec<_>>>()?;
        let mut refused = None;
        for path in self.candidates(program) {
            let name = c_string(path.as_os_str())?;
            let errno = match nix::unistd::execve(&name, &argv, &env) {
                Ok(never) => return Ok(never),
                Err(errno) => errno,
            };
            match errno {
                Errno::ENOENT | Errno::ENOTDIR if !is_there(&path) => {}
                // A directory or a file without the x bit does not hide a later one in PATH.
                Errno::EACCES => drop(refused.get_or_insert((path, errno))),
                _ => return Err(self.failure(&path, errno)),
            }
        }
        match refused {
            Some((path, errno)) => Err(self.failure(&path, errno)),
            None => Err(self.not_found(program)),
        }
    }

    fn candidates(&self, program: &OsStr) -> Vec<PathBuf> {
        if program.as_bytes().contains(&b'/') {
            return vec![PathBuf::from(program)];
        }
        if program.is_empty() {
            return Vec::new();
        }
        let path = self
            .env
            .iter()
            .find(|(k, _)| k == "PATH")
            .map_or(OsStr::new(DEFAULT_PATH), |(_, v)| v.as_os_str());
        // An empty element would mean the working directory, which a container's image chooses.
        std::env::split_paths(path).filter(|d| d.is_absolute()).map(|d| d.join(program)).collect()
    }

    fn not_found(&self, program: &OsStr) -> Error {
        let name = crate::nsfile::shown(Path::new(program));
        let how = if program.as_bytes().contains(&b'/') { "not found in" } else { "not found by PATH in" };
        Error::failed(name, format!("{how} {}", self.place)).with_kind(Kind::NotFound)
    }

    fn failure(&self, path: &Path, errno: Errno) -> Error {
        let name = crate::nsfile::shown(path);
        let error = Error::call(format!("execve(\"{name}\")"), errno).with_kind(Kind::CannotExecute).on(name);
        match errno {
            Errno::ENOENT => error
                .because(format!("is in {}, but the interpreter or loader that it names is not", self.place))
                .with_kind(Kind::NotFound),
            Errno::EACCES if path.is_dir() => error.because("is a directory"),
            Errno::EACCES => error.hint("it needs the x bit for this user, on a file system without noexec"),
            Errno::ENOEXEC => error.because("is neither a program for this machine nor a script with #!"),
            _ => error,
        }
    }
}

/// Whether something is there, without following a last symbolic link that leads nowhere.
fn is_there(path: &Path) -> bool {
    path.exists()
}

fn c_string(text: &OsStr) -> Result<CString> {
    let bytes = text.to_os_string().into_vec();
    CString::new(bytes).map_err(|_| Error::bad_input(crate::nsfile::shown(Path::new(text)), "has a NUL byte"))
}

fn pair(key: &OsStr, value: &OsStr) -> Result<CString> {
    let mut text = key.to_os_string();
    text.push("=");
    text.push(value);
    c_string(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(program: &str) -> Error {
        let mut command = Command::new(vec![program.into()], "the root of process 7");
        command.env = vec![("PATH".into(), "relative::/nonexistent:/etc".into())];
        command.execute()
    }

    #[test]
    fn says_where_it_looked() {
        let e = fails("nosuch");
        assert_eq!((e.exit_code(), e.to_string().contains("the root of process 7")), (127, true));
        assert_eq!(fails("/nonexistent/x").exit_code(), 127);
        assert_eq!(fails("/etc/passwd").exit_code(), 126);
        assert_eq!(fails("passwd").exit_code(), 126);
        assert!(fails("/etc").to_string().contains("is a directory"));
        assert_eq!(fails("").exit_code(), 127);
    }
}
