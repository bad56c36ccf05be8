//! The inside of a container, set up by its own first process: namespaces' contents, mounts, host name, privileges,
//! and at last the command. `container` runs this after its clone, `init` after its own: one production path.

use crate::steps::InsideStep;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Explain, Observer, Result, Step};
use drydock_security::user;
use drydock_supervise::exec::{Command, FileId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

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
    /// Working directory inside, made if missing; `None` leaves it.
    pub workdir: Option<String>,
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

/// The file that this process was executed from, asked while /proc is the host's.
fn own_program() -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/exe").ok().map(|meta| (meta.dev(), meta.ino()))
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
            return Err(Error::bad_input("--workdir", format!("'{shown}' (allowed: an absolute path)")));
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
        })
    }
}

/// The container's own copy of /etc/hosts, while the host's path still leads to it.
fn give_hosts(mounts: &drydock_mounts::Plan, peer: &dyn Peer) -> Result<()> {
    let Some(path) = mounts.stored_file("/etc/hosts") else { return Ok(()) };
    let file =
        std::fs::OpenOptions::new().write(true).open(path).call(|| format!("open({path:?}, O_WRONLY)"))?;
    peer.hosts(file.as_fd())
}

/// Changing the user clears it (prctl(2)): who was to die with its parent still is. A seccomp profile of the caller's may
/// refuse it; it is a second line of defence.
fn stay_tied(tied: Option<rustix::process::Signal>) {
    if tied.is_some() {
        let _ = rustix::process::set_parent_process_death_signal(tied);
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
        let workdir = self.request.workdir.clone().map(InsideStep::Workdir);
        terminal.into_iter().chain(workdir).collect()
    }

    /// Carries the plan out in the process that becomes the container's first. Returns only if it failed.
    ///
    /// Privileges: those of the steps, in the process's own namespaces; all of them are given up on the way.
    pub fn enter(&mut self, peer: &dyn Peer) -> Error {
        match self.prepare(peer).and_then(|reaper| self.finish(peer, reaper)) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Everything up to the point of no return.
    fn prepare(&mut self, peer: &dyn Peer) -> Result<Option<OwnedFd>> {
        let ctx = Ctx::new(peer.observer(), None);
        hide()?;
        self.own_program = own_program();
        for step in self.early() {
            ctx.perform(&step, InsideStep::act)?;
        }
        let reaper = if self.request.reaper { Some(crate::reaper::open_program()?) } else { None };
        if let Some(mounts) = &self.mounts {
            let sources = std::mem::take(&mut self.sources);
            mounts.apply_with(&ctx, sources, &mut || {
                give_hosts(mounts, peer)?;
                peer.before_pivot()
            })?;
        }
        // A mount namespace of its own has a /dev/console of its own.
        let console = self.mounts.is_some();
        for step in self.late() {
            match &step {
                InsideStep::Terminal => {
                    let master = ctx.perform(&step, |_| crate::steps::open_terminal(console))?;
                    peer.console(master.as_fd())?;
                }
                step => ctx.perform(step, InsideStep::act)?,
            }
        }
        self.resolve_user()?;
        self.command.check().map_err(|e| e.in_stage("process"))?;
        drydock_security::reset_inherited()?;
        self.security.apply_settings(&ctx)?;
        if self.security.listener().is_some() {
            // Whoever listens is told while the one who makes the container is still there.
            let tied = rustix::process::parent_process_death_signal().ok().flatten();
            self.security.apply_privileges(&ctx, peer.handover()?)?;
            stay_tied(tied);
        }
        Ok(reaper)
    }

    fn finish(&mut self, peer: &dyn Peer, reaper: Option<OwnedFd>) -> Result<std::convert::Infallible> {
        let security = &self.security;
        let confine = || match security.listener() {
            // Done already, and inherited.
            Some(_) => Ok(()),
            None => security.apply_privileges(&Ctx::silent(), None).map(drop),
        };
        peer.ready(&self.request.env, &confine)?;
        let ctx = Ctx::new(peer.observer(), None);
        let first = self.request.preserve_fds.saturating_add(3);
        drydock_core::sys::fd::close_on_exec_from(first)
            .call(|| format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"))?;
        // Below that the command gets what the caller passed, which is what does not close on exec: where a number was free,
        // a descriptor of ours may be, and all of ours do.
        let tied = rustix::process::parent_process_death_signal().ok().flatten();
        if self.security.listener().is_none() {
            self.security.apply_privileges(&ctx, None)?;
        }
        stay_tied(tied);
        let exec = InsideStep::Exec { command: self.request.args.clone(), reaper: self.request.reaper };
        ctx.perform(&exec, |_| {
            Err(match &reaper {
                Some(program) => crate::reaper::exec(program.as_fd(), &self.reaper_options, &self.command),
                None => self.command.clone().never(self.own_program).exec(),
            })
        })
    }

    /// The user is looked up in the container's own /etc/passwd, hence after the pivot.
    fn resolve_user(&mut self) -> Result<()> {
        let given = self.request.security.user.clone().unwrap_or_default();
        let exact = self.request.user.is_none();
        let spec = self.request.user.clone().unwrap_or_else(|| format!("{}:{}", given.uid, given.gid));
        // An empty one is none, as for runc.
        let homeless = !self.request.env.iter().any(|w| w.starts_with("HOME=") && w != "HOME=");
        if exact && !homeless {
            return self.security.set_user(&given);
        }
        let root = std::fs::File::open("/").call(|| "open(\"/\", O_RDONLY)")?;
        let account = user::resolve(&spec, root.as_fd())?;
        if homeless {
            let home = if account.home.is_absolute() { account.home.as_path() } else { Path::new("/") };
            self.request.env.retain(|word| word != "HOME=");
            self.request.env.push(format!("HOME={}", home.to_string_lossy().replace('\0', "")));
            self.command = Command::new(&self.request.args, &self.request.env)?;
        }
        let mut user = account.user;
        if exact {
            user = given;
        } else {
            user.umask = given.umask;
            user.additional_gids.extend_from_slice(&given.additional_gids);
        }
        self.security.set_user(&user)
    }
}
