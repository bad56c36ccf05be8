//! One failure, told once: stage, object, problem, call with arguments, errno, remedy.

use std::fmt;
use std::io;

/// What an [`Error`] means for the exit code (see [`crate::exit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is wrong; nothing was touched. Exit 2.
    BadInput,
    /// The command to run does not exist. Exit 127.
    NotFound,
    /// The command to run exists but cannot be executed. Exit 126.
    CannotExecute,
    /// The tool could not do what was asked. Exit 125.
    Failed,
    /// It was done, but a hook that belongs behind it failed. Exit 1.
    Hook,
}

/// The error of every Drydock library. Displayed as one line:
/// `stage: object: problem: call(args): errno text (ERRNO); hint: remedy`, without the parts that are not known.
#[derive(Debug, Clone)]
pub struct Error(Box<Details>);

// Boxed: errors are rare, and a small Result keeps the good path fast.
#[derive(Debug, Clone)]
struct Details {
    kind: Kind,
    stage: Option<&'static str>,
    object: Option<String>,
    problem: Option<String>,
    call: Option<String>,
    errno: Option<i32>,
    hint: Option<String>,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(kind: Kind) -> Self {
        Self(Box::new(Details {
            kind,
            stage: None,
            object: None,
            problem: None,
            call: None,
            errno: None,
            hint: None,
        }))
    }

    fn with(kind: Kind, object: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(kind).on(object).because(problem)
    }

    /// The request is wrong: `object: problem (what is allowed)`. Nothing may have been touched yet.
    pub fn bad_input(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::with(Kind::BadInput, object, problem)
    }

    /// Something other than a system call failed: `object: problem`.
    pub fn failed(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::with(Kind::Failed, object, problem)
    }

    /// A whole sentence that another process of ours has made already.
    pub fn told(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Failed).because(sentence)
    }

    /// A system call failed. `call` is the call with its arguments as in strace: `mount("proc", "/proc", …)`;
    /// `errno` is anything that converts to an [`io::Error`] (nix and rustix `Errno`, [`io::Error`]).
    pub fn call(call: impl Into<String>, errno: impl Into<io::Error>) -> Self {
        let io: io::Error = errno.into();
        let mut error = Self::new(Kind::Failed);
        error.0.call = Some(call.into());
        error.0.errno = io.raw_os_error();
        if error.0.errno.is_none() { error.because(io.to_string()) } else { error }
    }

    /// The same with another kind (for exec failures).
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Name the stage (`cgroup`, `network`, …), unless a deeper level has named one.
    pub fn in_stage(mut self, stage: &'static str) -> Self {
        self.0.stage.get_or_insert(stage);
        self
    }

    /// Name the object that the caller was working on, unless a deeper level has named one.
    pub fn on(mut self, object: impl Into<String>) -> Self {
        self.0.object.get_or_insert_with(|| object.into());
        self
    }

    /// Say in words what went wrong, unless a deeper level has said it.
    pub fn because(mut self, problem: impl Into<String>) -> Self {
        self.0.problem.get_or_insert_with(|| problem.into());
        self
    }

    /// Add the remedy, unless a deeper level knew a better one.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// What this means for the exit code.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The errno of the failed call, if a call failed.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// The stage that failed, if named.
    pub fn stage(&self) -> Option<&'static str> {
        self.0.stage
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The call that failed, with its arguments.
    pub fn failed_call(&self) -> Option<&str> {
        self.0.call.as_deref()
    }

    /// The exit code of a tool that ends with this error (see [`crate::exit`]).
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            Kind::BadInput => crate::exit::USAGE,
            Kind::NotFound => crate::exit::NOT_FOUND,
            Kind::CannotExecute => crate::exit::CANNOT_EXECUTE,
            Kind::Failed => crate::exit::FAILED,
            Kind::Hook => crate::exit::HOOK,
        }
    }

    /// The sentence without the hint.
    pub fn sentence(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.0.stage.map(str::to_string));
        parts.extend(self.0.object.clone());
        parts.extend(self.0.problem.clone());
        parts.extend(self.0.call.clone());
        parts.extend(self.0.errno.map(errno_text));
        parts.join(": ")
    }
}

/// `Permission denied (EACCES)`, as strace and the man pages name it.
pub fn errno_text(errno: i32) -> String {
    let known = nix::errno::Errno::from_raw(errno);
    format!("{} ({known:?})", known.desc())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        match &self.0.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Turns the failure of a call into an [`Error`] that names it.
pub trait CallExt<T> {
    /// Name the call; the text is made only on failure.
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> CallExt<T> for std::result::Result<T, E> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::call(call(), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_call_errno_and_hint() {
        let e = Error::call("mkdir(\"/x\", 0755)", nix::errno::Errno::EACCES)
            .in_stage("cgroup")
            .in_stage("ignored")
            .hint("run as root");
        assert_eq!(
            e.to_string(),
            "cgroup: mkdir(\"/x\", 0755): Permission denied (EACCES); hint: run as root"
        );
        assert_eq!(e.exit_code(), 125);
    }

    #[test]
    fn bad_input_exits_2() {
        let e = Error::bad_input("--cpus", "'x' is not a number (allowed: 0.01 and more)");
        assert_eq!((e.exit_code(), e.errno()), (2, None));
    }
}
