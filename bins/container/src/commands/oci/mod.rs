//! The verbs of an OCI runtime, as engines call them. Source: OCI runtime specification, runtime.md; runc(8).

pub mod after;
pub mod create;
pub mod features;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;

use crate::commands::exec::descriptors::Passed;
use crate::console;
use crate::oci::Bundled;
use crate::parent::Running;
use crate::request::Request;
use drydock_bundle::{Bundle, Store};
use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Error, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What `create` and `run` say about a bundle.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "OCI bundle")]
pub struct BundleArgs {
    /// The bundle: a directory with config.json and the root file system [default: the current directory]
    #[arg(short = 'b', long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Send the terminal's master to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Send a pidfd of the container's first process to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Write the pid of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root(2): for a root on a ramfs; weaker
    #[arg(long)]
    pub no_pivot: bool,
    /// Do not make a session keyring for the container
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass on up to N more descriptors than the standard streams: 3 up to 2+N
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Do not become a subreaper for the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
}

/// How a bundle's container is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// The caller does not stay.
    pub unattended: bool,
    /// systemd makes the cgroup.
    pub systemd_cgroup: bool,
}

impl BundleArgs {
    /// Whether anything is said that only a bundle can mean.
    pub fn any(&self) -> bool {
        self.bundle.is_some()
            || self.console_socket.is_some()
            || self.pidfd_socket.is_some()
            || self.pid_file.is_some()
            || self.no_pivot
            || self.no_new_keyring
            || self.preserve_fds > 0
            || self.no_subreaper
    }

    /// The bundle's directory.
    pub fn dir(&self) -> &Path {
        self.bundle.as_deref().unwrap_or(Path::new("."))
    }

    /// Reads the bundle and makes the request.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`], before anything is touched.
    pub fn request(&self, id: &ContainerId, how: How, store: &Store) -> Result<Request> {
        let How { unattended, systemd_cgroup } = how;
        if self.bundle.is_none() && !Path::new(drydock_bundle::config::FILE).exists() {
            return Err(Error::bad_input(
                "--bundle",
                "missing, and there is no config.json here (allowed: a directory with config.json)",
            ));
        }
        let bundle = Bundle::read(self.dir())?;
        self.pid_file.as_deref().map_or(Ok(()), check_pid_file)?;
        let options = crate::oci::Options {
            systemd_cgroup,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
        };
        let mut request = crate::oci::request_with(&bundle, id, store.root(), options)?;
        let passed = Passed::find(self.preserve_fds)?;
        request.inside.preserve_fds = passed.all;
        request.inside.env.extend(passed.environment());
        let bundled = request.bundled.get_or_insert_with(Bundled::default);
        (bundled.unattended, bundled.awaited) = (unattended, self.pid_file.is_some());
        self.check_terminal(request.inside.terminal, unattended)?;
        Ok(request)
    }

    fn check_terminal(&self, terminal: bool, unattended: bool) -> Result<()> {
        let socket = self.console_socket.is_some();
        let problem = match (terminal, unattended, socket) {
            (true, true, false) => {
                "needed: the configuration asks for a terminal, and nobody stays to show it"
            }
            (false, _, true) => {
                "the configuration asks for no terminal (allowed with process.terminal: true)"
            }
            (_, false, true) => "needs --detach: in the foreground the caller's terminal is used",
            _ => return Ok(()),
        };
        Err(Error::bad_input("--console-socket", problem))
    }

    /// Connects to whoever takes descriptors.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] when nobody listens.
    pub fn connect(&self) -> Result<Receivers> {
        let to = |option, path: &Option<PathBuf>| {
            path.as_ref().map(|path| console::connect_to(option, path)).transpose()
        };
        Ok(Receivers {
            console: to("--console-socket", &self.console_socket)?,
            pidfd: to("--pidfd-socket", &self.pidfd_socket)?,
        })
    }

    /// Gives everything away that was asked for of a container that is ready.
    ///
    /// # Errors
    /// When a receiver has gone, or the pid file cannot be written.
    pub fn deliver(
        &self,
        running: &mut Running,
        receivers: &Receivers,
        size: Option<(u16, u16)>,
    ) -> Result<()> {
        if let (Some(master), Some(size)) = (&running.console, size) {
            console::resize(master, size)?;
        }
        // Without a socket the master stays: the caller's own terminal is connected with it.
        if let Some(socket) = &receivers.console
            && let Some(master) = running.console.take()
        {
            console::send(socket, master.as_fd(), "/dev/ptmx")?;
        }
        if let Some(socket) = &receivers.pidfd {
            console::send(socket, running.child.pidfd.as_fd(), "pidfd")?;
        }
        self.pid_file.as_ref().map_or(Ok(()), |path| write_pid(path, running.child.pid))
    }
}

/// Sockets that take descriptors.
#[derive(Debug)]
pub struct Receivers {
    console: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
}

/// That a pid file could be written there. Asked before a container is made for it.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming the file.
pub fn check_pid_file(path: &Path) -> Result<()> {
    use nix::unistd::{AccessFlags, access};
    let bad = |problem: &str| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(&path.to_string_lossy()), 200);
        let allowed = "allowed: a file in a directory that is there and can be written to";
        Err(Error::bad_input("--pid-file", format!("'{shown}' {problem} ({allowed})")))
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.file_name().is_none() || path.is_dir() {
        return bad("is a directory");
    }
    match access(dir, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) if dir.is_dir() => Ok(()),
        Ok(()) => bad("is not in a directory"),
        Err(errno) => bad(&format!("cannot be made: {}", drydock_core::error::errno_text(errno as i32))),
    }
}

/// A pid file appears whole: an engine polls for it.
///
/// # Errors
/// write(2)'s and rename(2)'s, naming the file.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&temporary, pid.to_string())
        .call(|| format!("write({temporary:?})"))
        .and_then(|()| std::fs::rename(&temporary, path).call(|| format!("rename({temporary:?}, {path:?})")))
        .map_err(|e| {
            let _ = std::fs::remove_file(&temporary);
            e.on("--pid-file")
        })
}

/// Closes what the caller left open, but for what it wants passed on, and runs from a copy of the program that nobody in
/// the container can write through: see `drydock_security::sealed`.
///
/// # Errors
/// When there can be no such copy.
pub fn seal(preserved: u32) -> Result<()> {
    let first = Passed::find(preserved)?.end();
    drydock_core::sys::fd::close_on_exec_from(first)
        .call(|| format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"))?;
    drydock_security::run_sealed()
}
