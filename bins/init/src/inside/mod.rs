//! The inside of a container, set up by its own first process: namespaces' contents, mounts, host name, privileges,
//! and at last the command. `container` runs this after its clone, `init` after its own: one production path.

mod course;

use crate::steps::InsideStep;
use drydock_core::error::CallExt;
use drydock_core::{Error, Explain, Observer, Result, Step};
use drydock_security::{Ahead, user};
use drydock_supervise::exec::{Command, FileId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is asked of the inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Host name; `None` leaves it.
    pub hostname: Option<String>,
    /// NIS domain name; `None` leaves it.
    pub domainname: Option<String>,
    /// Make a cgroup namespace once the process is in its cgroup, so that the cgroup is its root.
    pub cgroup_namespace: bool,
    /// Bring `lo` up: the network namespace is new.
    pub loopback: bool,
    /// Lead a new session, so that the caller's terminal cannot be reached.
    pub session: bool,
    /// Give the command a pseudoterminal of its own.
    pub terminal: bool,
    /// Namespaced sysctls, `net.ipv4.ip_forward` or `net/ipv4/ip_forward`, and their values.
    pub sysctls: BTreeMap<String, String>,
    /// Mounts; `None` keeps the mount namespace as it is.
    pub mounts: Option<drydock_mounts::Request>,
    /// Capabilities, seccomp, rlimits, …; of its `user` only the umask counts if there is a `user` below.
    pub security: drydock_security::Request,
    /// `UID[:GID]` or `NAME[:GROUP]`, looked up in the root file system; `None` is the security stage's user exactly as
    /// it is, or root.
    pub user: Option<String>,
    /// Working directory inside; `None` leaves it.
    pub workdir: Option<String>,
    /// It is made if missing.
    pub make_workdir: bool,
    /// The command.
    pub args: Vec<String>,
    /// Its whole environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// Stay as PID 1: reap, forward signals, pass on the exit code.
    pub reaper: bool,
    /// This many descriptors from 3 up are passed on to the command.
    #[serde(default)]
    pub preserve_fds: u32,
}

/// A checked [`Request`]; nothing is touched yet.
#[derive(Debug)]
pub struct Plan {
    request: Request,
    mounts: Option<drydock_mounts::Plan>,
    sources: drydock_mounts::Sources,
    security: drydock_security::Plan,
    command: Command,
    own_program: Option<FileId>,
    reaper_options: Vec<CString>,
    /// Another process than the one that prepares executes the command.
    heir: bool,
    /// The settings that come before anything is joined have been made.
    settled: bool,
    ahead: Ahead,
}

/// What the process that executes the command has from the one that prepared.
#[derive(Debug)]
pub struct Prepared {
    reaper: Option<OwnedFd>,
}

impl Prepared {
    /// The program that will be executed, if it is open.
    pub fn program(&self) -> Option<BorrowedFd<'_>> {
        self.reaper.as_ref().map(AsFd::as_fd)
    }
}

/// Closes to a container what it could otherwise reach of us through /proc: descriptors, memory, the program itself
/// (CVE-2016-9962). Undone by the exec.
///
/// # Errors
/// prctl(2)'s.
pub fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .call(|| "prctl(PR_SET_DUMPABLE, 0)")
}

/// Whoever made this process and waits for it.
pub trait Peer {
    /// The pty's master, for whoever shows the terminal.
    ///
    /// # Errors
    /// When it cannot be sent.
    fn console(&self, master: BorrowedFd<'_>) -> Result<()>;
    /// The container's copy of /etc/hosts, open for writing: its addresses may not have been known when it was made.
    ///
    /// # Errors
    /// When it cannot be sent.
    fn hosts(&self, _copy: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
    /// Everything is mounted, the host's root is not gone yet: the last moment to do something with both.
    ///
    /// # Errors
    /// What stops the container from being made.
    fn before_pivot(&self) -> Result<()> {
        Ok(())
    }
    /// A filter that asks an agent is about to be installed: whoever takes its descriptor gets it this way.
    ///
    /// # Errors
    /// When nobody can be told.
    fn handover(&self) -> Result<Option<&drydock_security::Handover>> {
        Ok(None)
    }
    /// The system calls that it makes from [`Peer::ready`] on.
    fn calls(&self) -> Vec<drydock_security::seccomp::Call> {
        Vec::new()
    }
    /// Everything but the last is done: say so, and wait for the word. `env`: the command's environment. `confine` gives
    /// the calling process the command's privileges, for what else of the container's is executed before it.
    ///
    /// # Errors
    /// When the peer has gone: then nothing may be executed.
    fn ready(&self, env: &[String], confine: &dyn Fn() -> Result<()>) -> Result<()>;
    /// Who watches the steps.
    fn observer(&self) -> &dyn Observer;
}

impl Request {
    /// Checks everything that can be checked before anything is touched.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the option.
    pub fn validate(self) -> Result<Plan> {
        if let Some(name) = &self.hostname {
            check_hostname("--hostname", name)?;
        }
        if let Some(name) = &self.domainname {
            check_hostname("--domainname", name)?;
        }
        if let Some(dir) = &self.workdir
            && (!dir.starts_with('/') || dir.contains('\0'))
        {
            let shown = drydock_core::text::escape(dir);
            return Err(Error::bad_input(
                "--workdir",
                format!("'{shown}' is not absolute (allowed: an absolute path)"),
            ));
        }
        for (key, value) in &self.sysctls {
            crate::sysctl::check(key, value)?;
        }
        if let Some(user) = &self.user {
            user::check_spec(user)?;
        }
        let command = Command::new(&self.args, &self.env)?;
        let mounts = self.mounts.clone().map(drydock_mounts::Request::validate).transpose()?;
        let security = self.security.clone().validate()?;
        let sources = drydock_mounts::Sources::default();
        Ok(Plan {
            request: self,
            mounts,
            sources,
            security,
            command,
            own_program: None,
            reaper_options: Vec::new(),
            heir: false,
            settled: false,
            ahead: Ahead::default(),
        })
    }
}

/// A host name: 1 to 64 bytes of printable ASCII without blanks. Source: hostname(7), uname(2).
fn check_hostname(option: &str, name: &str) -> Result<()> {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if (1..=64).contains(&name.len()) && name.chars().all(ok) {
        return Ok(());
    }
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(name), 70);
    Err(Error::bad_input(
        option,
        format!("'{shown}' is not a host name (allowed: 1 to 64 of A-Z a-z 0-9 - . _)"),
    ))
}

impl Plan {
    /// Gives the reaper options of its own: `-g`, `--grace`.
    #[must_use]
    pub fn reap_with(mut self, options: Vec<CString>) -> Self {
        self.reaper_options = options;
        self
    }

    /// Opens what the mounts need and a child in a user namespace of its own cannot open: in its parent, before the clone.
    /// `userns`: the user namespace that the child joins.
    ///
    /// # Errors
    /// A source that is not there, or cannot be id-mapped.
    pub fn open_sources(&mut self, userns: Option<BorrowedFd<'_>>) -> Result<()> {
        if let Some(mounts) = &self.mounts {
            self.sources = mounts.open_sources(userns)?;
        }
        Ok(())
    }

    /// What was asked.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The last stage.
    pub fn security(&self) -> &drydock_security::Plan {
        &self.security
    }

    /// The steps in the order in which they are done.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.early().iter().map(Explain::explain).collect();
        if let Some(mounts) = &self.mounts {
            steps.extend(mounts.steps());
        }
        steps.extend(self.late().iter().map(Explain::explain));
        steps.extend(self.security.steps());
        steps.push(
            InsideStep::Exec { command: self.request.args.clone(), reaper: self.request.reaper }.explain(),
        );
        steps
    }

    fn early(&self) -> Vec<InsideStep> {
        let request = &self.request;
        let mut steps = Vec::new();
        if request.cgroup_namespace {
            steps.push(InsideStep::CgroupNamespace);
        }
        if request.session {
            steps.push(InsideStep::Session);
        }
        if request.loopback {
            steps.push(InsideStep::Loopback);
        }
        steps.extend(request.hostname.clone().map(InsideStep::Hostname));
        steps.extend(request.domainname.clone().map(InsideStep::Domainname));
        // Through the host's /proc, before the container's own is mounted and made read-only; the kernel takes the
        // writer's namespaces.
        steps.extend(request.sysctls.iter().map(|(k, v)| InsideStep::Sysctl(k.clone(), v.clone())));
        steps
    }

    fn late(&self) -> Vec<InsideStep> {
        let terminal = self.request.terminal.then_some(InsideStep::Terminal);
        let make = self.request.make_workdir;
        let workdir = self.request.workdir.clone().map(|dir| InsideStep::Workdir { dir, make });
        terminal.into_iter().chain(workdir).collect()
    }

    /// The process that calls [`Plan::prepare`] stays out of the container's pid namespace, where others are who could take
    /// hold of it; a child of its, born there, calls [`Plan::finish`].
    #[must_use]
    pub fn for_an_heir(mut self) -> Self {
        self.heir = true;
        self
    }
}
