//! `container restore`.

use super::options::Options;
use super::service::{Kind, Notice, Request};
use super::wire::Message;
use super::{INSIDE, STATE, external, find};
use crate::commands::oci::{check_pid_file, write_pid};
use crate::session::relay;
use crate::watch::{Show, Watch};
use crate::{cleanup, console};
use drydock_bundle::state::{read_bounded, start_time, write_atomically};
use drydock_bundle::{Bundle, Life, OciState, State, Store};
use drydock_cgroups::{Cgroup, Layout, Version};
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::sys::process::Child;
use drydock_core::{ContainerId, Ctx, Error, Journal, Object, Result, Silent};
use drydock_supervise::{Blocked, Supervised};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Arguments of `container restore`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub options: Options,
    /// The bundle whose root file system it gets [default: the one it had]
    #[arg(short = 'b', long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Send the terminal's master to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the pid of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Accepted for runc's sake: criu makes the root file system
    #[arg(long)]
    pub no_pivot: bool,
    /// Accepted for runc's sake: restore never becomes a subreaper
    #[arg(long)]
    pub no_subreaper: bool,
    /// AppArmor or SELinux profile that it gets instead of its own
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// SELinux context that its mounts get instead of their own
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    /// The name that the container gets
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Brings a container back from the files of a checkpoint.
///
/// # Errors
/// No such images, a name that is taken, no criu; what criu says. Then nothing of the container is left.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let id = ContainerId::parse(&args.id)?;
    args.pid_file.as_deref().map_or(Ok(()), check_pid_file)?;
    let images = args.options.images();
    let read = |name: &str| {
        read_bounded(&images.join(name), 4 << 20).map_err(|e| {
            Error::bad_input("--image-path", e.sentence()).hint("container checkpoint makes one")
        })
    };
    let mut state: State = serde_json::from_slice(&read(STATE)?)
        .map_err(|e| Error::bad_input("--image-path", format!("{STATE}: {e}")))?;
    let kept = Kept { inside: read(INSIDE)?, streams: read(external::STREAMS).unwrap_or_default() };
    kept.check_terminal(args)?;
    let cgroup = args.bundle.as_deref().map(|dir| take_bundle(&mut state, dir, &id, store)).transpose()?;
    let program = find()?;
    let console = args.console_socket.as_deref().map(|path| console::connect_to("--console-socket", path));
    let console = console.transpose()?;
    (state.id, state.status, state.pid, state.start_time) = (id.clone(), Life::Creating, None, None);
    state.owner = None;
    let (dir, held) = store.create(&id)?;
    let mut restoring = Restoring { args, dir: &dir, program: &program, console, master: None, pid: None };
    let made = restoring.make(&mut state, cgroup.flatten(), &kept);
    if made.is_err() {
        let watch = Watch::new(Show::default());
        // The first error is the one to report; what cannot be removed now is found by gc.
        let _ = cleanup::undo(&id, &dir, store.root(), &Ctx::new(&watch, None));
        let _ = cleanup::forget(store, &id);
    }
    let child = made?;
    // Nobody owns it: whoever restored it deletes it.
    drop(held);
    if args.detach {
        return Ok(0);
    }
    let signals = Blocked::all()?;
    let ended = match &restoring.master {
        Some(master) => relay(&child, true, &signals, master, true)?,
        None => Supervised::new(&child, true).wait(&signals)?,
    };
    crate::commands::delete::delete_one(&store.find_exact(id.as_str())?, store)?;
    Ok(ended.code())
}

/// What lies beside criu's images.
struct Kept {
    inside: Vec<u8>,
    streams: Vec<u8>,
}

impl Kept {
    /// As at `create`: a terminal needs somebody who takes it.
    fn check_terminal(&self, args: &Args) -> Result<()> {
        let inside: serde_json::Value = serde_json::from_slice(&self.inside)
            .map_err(|e| Error::bad_input("--image-path", format!("{INSIDE}: {e}")))?;
        let terminal = inside.get("terminal").and_then(serde_json::Value::as_bool).unwrap_or_default();
        match (terminal, args.detach, args.console_socket.is_some()) {
            (true, true, false) => Err(Error::bad_input(
                "--console-socket",
                "needed: the container has a terminal, and nobody stays to show it",
            )),
            (false, _, true) => Err(Error::bad_input(
                "--console-socket",
                "the container has no terminal (allowed with one that had it at the checkpoint)",
            )),
            _ => Ok(()),
        }
    }
}

/// The bundle says where it is restored: its root, its cgroup with the limits of now, the namespaces that are joined.
fn take_bundle(
    state: &mut State,
    dir: &Path,
    id: &ContainerId,
    store: &Store,
) -> Result<Option<drydock_cgroups::Plan>> {
    let bundle = Bundle::read(dir)?;
    let request = crate::oci::request(&bundle, id, store.root())?;
    state.rootfs = request.rootfs.path().to_path_buf();
    if let (Some(oci), Some(bundled)) = (&mut state.oci, &request.bundled) {
        let unattended = oci.unattended;
        *oci = OciState { unattended, ..bundled.state() };
    }
    request.cgroup.map(|cgroup| cgroup.validate(&Layout::detect()?)).transpose()
}

/// A restore under way.
struct Restoring<'a> {
    args: &'a Args,
    dir: &'a Path,
    program: &'a Path,
    console: Option<OwnedFd>,
    /// The terminal's other end, if nobody else takes it.
    master: Option<OwnedFd>,
    pid: Option<i32>,
}

impl Restoring<'_> {
    fn make(
        &mut self,
        state: &mut State,
        cgroup: Option<drydock_cgroups::Plan>,
        kept: &Kept,
    ) -> Result<Child> {
        let args = self.args;
        state.write(self.dir)?;
        let journal = Journal::create(self.dir)?;
        let root = state.rootfs.clone();
        // Before the directories are opened: criu can mount only in those of its own mount namespace.
        own_root(&root)?;
        mount_points(state)?;
        let (mut options, _directories) = args.options.open("restore.log", super::configuration(state))?;
        let files = match cgroup {
            Some(plan) => {
                state.cgroup = plan.apply(&Ctx::new(&Silent, Some(&journal)))?.dirs;
                roots(&state.cgroup, &mut options)?;
                Cgroup::at(state.cgroup.iter().cloned())?.all_join_files()?
            }
            None if state.cgroup.is_empty() => Vec::new(),
            None => {
                // criu makes it again as it was.
                journal.record(&Object::Cgroup { dirs: state.cgroup.clone() })?;
                Vec::new()
            }
        };
        write_atomically(self.dir, crate::commands::exec::FILE, &kept.inside)?;
        self.fill(&mut options, &root);
        external::connect(&kept.streams, &mut options);
        let inherited = external::bring(state, &mut options)?;
        let log = args.options.work().join("restore.log");
        let request =
            Request { program: self.program, kind: Kind::Restore, options, inherited: &inherited, log: &log };
        let before = || drydock_cgroups::join(&files);
        let shared = &*state;
        request.run(before, |notice| self.hear(notice, shared))?;
        let process = self.pid.and_then(Pid::from_raw);
        let (Some(pid), Some(process)) = (self.pid, process) else {
            return Err(Error::failed("criu restore", "did not say which process it has made"));
        };
        let pidfd = pidfd_open(process, PidfdFlags::empty()).call(|| format!("pidfd_open({pid})"))?;
        let child = Child { pid, pidfd };
        (state.pid, state.start_time, state.status) = (Some(pid), start_time(pid), Life::Running);
        if let Some(start_time) = state.start_time {
            journal.record(&Object::Process { pid, start_time })?;
        }
        state.write(self.dir)?;
        args.pid_file.as_deref().map_or(Ok(()), |path| write_pid(path, pid))?;
        Ok(child)
    }

    fn fill(&self, options: &mut Message, root: &Path) {
        options.text(13, root.as_os_str().as_bytes());
        options.flag(6, true);
        // A child of ours, not of criu's, so that its end is ours, or our caller's.
        options.flag(26, true);
        self.args.lsm_profile.iter().for_each(|profile| options.text(53, profile));
        self.args.lsm_mount_context.iter().for_each(|context| options.text(63, context));
    }

    fn hear(&mut self, notice: Notice, state: &State) -> Result<()> {
        self.pid = notice.pid.or(self.pid);
        match (notice.name.as_str(), notice.fd) {
            // The namespaces are there, nothing runs in them yet: as at `create`.
            ("setup-namespaces", _) => {
                let Some(oci) = &state.oci else { return Ok(()) };
                let made = State { pid: notice.pid, ..state.clone() };
                let text = crate::oci::life::json(&made, Life::Created).to_string();
                let env = crate::hooks::own_environment();
                let dir = Some(oci.bundle.as_path());
                crate::hooks::run("prestart", &oci.hooks.prestart, &text, &env, dir)?;
                crate::hooks::run("createRuntime", &oci.hooks.create_runtime, &text, &env, dir)
            }
            ("orphan-pts-master", Some(master)) => match &self.console {
                Some(socket) => console::send(socket, master.as_fd(), "/dev/ptmx"),
                None => {
                    self.master = Some(master);
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }
}

/// Where the images' cgroups are put: the container's of now, which criu's process is in, too.
fn roots(dirs: &[PathBuf], options: &mut Message) -> Result<()> {
    for hierarchy in Layout::detect()?.hierarchies() {
        let dir = dirs.iter().find(|dir| dir.starts_with(&hierarchy.mount)).unwrap_or(&hierarchy.own);
        let below = dir.strip_prefix(&hierarchy.mount).unwrap_or(Path::new(""));
        let named = hierarchy.name.iter().map(|name| format!("name={name}"));
        let controllers = match hierarchy.version {
            Version::V1 => hierarchy.controllers.iter().cloned().chain(named).collect(),
            Version::V2 => vec![String::new()],
        };
        for controller in controllers {
            let mut root = Message::default();
            root.text(1, controller);
            root.text(2, Path::new("/").join(below).as_os_str().as_bytes());
            options.message(25, &root);
        }
    }
    Ok(())
}

/// Mount points that are gone since the checkpoint. Where the bundle has gone as well, what is there has to do.
fn mount_points(state: &State) -> Result<()> {
    let bundle = state.oci.as_ref().and_then(|oci| Bundle::read(&oci.bundle).ok());
    bundle.map_or(Ok(()), |bundle| {
        drydock_mounts::places::ensure(&state.rootfs, &crate::oci::mounts::list(&bundle))
    })
}

/// criu wants the root to be a mount: one that only it sees, and this process, whose child it is.
fn own_root(root: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).call(|| "unshare(CLONE_NEWNS)")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .call(|| "mount(\"/\", MS_REC|MS_SLAVE)")?;
    mount(Some(root), root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .call(|| format!("mount({root:?}, MS_BIND|MS_REC)"))
}
