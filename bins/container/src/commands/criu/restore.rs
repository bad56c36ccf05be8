//! `container restore`.

use super::options::Options;
use super::{INSIDE, STATE, directory, find};
use crate::cleanup;
use crate::commands::oci::write_pid;
use crate::watch::{Show, Watch};
use drydock_bundle::state::{read_bounded, start_time, write_atomically};
use drydock_bundle::{Bundle, Life, State, Store};
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::sys::process::Child;
use drydock_core::{ContainerId, Ctx, Error, Journal, Object, Result};
use drydock_supervise::{Blocked, Supervised};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
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
    let images = args.options.images();
    let read = |name: &str| {
        read_bounded(&images.join(name), 4 << 20).map_err(|e| {
            Error::bad_input("--image-path", e.sentence()).hint("container checkpoint makes one")
        })
    };
    let mut state: State = serde_json::from_slice(&read(STATE)?)
        .map_err(|e| Error::bad_input("--image-path", format!("{STATE}: {e}")))?;
    let inside = read(INSIDE)?;
    if let Some(dir) = &args.bundle {
        let bundle = Bundle::read(dir)?;
        let root = bundle.spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path().as_path());
        let root = bundle.dir.join(root);
        state.rootfs = std::fs::canonicalize(&root)
            .call(|| format!("realpath({root:?})"))
            .map_err(|e| e.on("--bundle"))?;
        if let Some(oci) = &mut state.oci {
            oci.bundle.clone_from(&bundle.dir);
        }
    }
    let program = find()?;
    directory("--work-path", &args.options.work())?;
    (state.id, state.status, state.pid, state.start_time) = (id.clone(), Life::Creating, None, None);
    let (dir, held) = store.create(&id)?;
    let made = restore(args, &mut state, &dir, &inside, &program);
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
    let ended = Supervised::new(&child, true).wait(&Blocked::all()?)?;
    crate::commands::delete::delete_one(&store.find_exact(id.as_str())?, store)?;
    Ok(ended.code())
}

fn restore(args: &Args, state: &mut State, dir: &Path, inside: &[u8], program: &Path) -> Result<Child> {
    state.write(dir)?;
    let journal = Journal::create(dir)?;
    if !state.cgroup.is_empty() {
        journal.record(&Object::Cgroup { dirs: state.cgroup.clone() })?;
    }
    write_atomically(dir, crate::commands::exec::FILE, inside)?;
    let pid_file = dir.join("criu.pid");
    let root = state.rootfs.clone();
    let log = args.options.work().join("restore.log");
    super::run(program, words(args, &root, &pid_file), &log, || own_root(&root))?;
    let pid = std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let process = pid.and_then(Pid::from_raw);
    let (Some(pid), Some(process)) = (pid, process) else {
        return Err(Error::failed("criu restore", "did not say which process it has made"));
    };
    let pidfd = pidfd_open(process, PidfdFlags::empty()).call(|| format!("pidfd_open({pid})"))?;
    let child = Child { pid, pidfd };
    (state.pid, state.start_time, state.status) = (Some(pid), start_time(pid), Life::Running);
    if let Some(start_time) = state.start_time {
        journal.record(&Object::Process { pid, start_time })?;
    }
    state.write(dir)?;
    args.pid_file.as_deref().map_or(Ok(()), |path| write_pid(path, pid))?;
    Ok(child)
}

fn words(args: &Args, root: &Path, pid_file: &Path) -> Vec<String> {
    let mut words = vec!["restore".to_string()];
    words.extend(args.options.words("restore.log"));
    words.push(format!("--root={}", root.display()));
    words.push(format!("--pidfile={}", pid_file.display()));
    // A child of ours, not of criu's, so that its end is ours, or our caller's.
    words.extend(["--restore-detached".to_string(), "--restore-sibling".to_string()]);
    words.extend(args.lsm_profile.as_ref().map(|profile| format!("--lsm-profile={profile}")));
    words.extend(args.lsm_mount_context.as_ref().map(|context| format!("--lsm-mount-context={context}")));
    words
}

/// criu wants the root to be a mount: one that only it sees.
fn own_root(root: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).call(|| "unshare(CLONE_NEWNS)")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .call(|| "mount(\"/\", MS_REC|MS_SLAVE)")?;
    mount(Some(root), root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .call(|| format!("mount({root:?}, MS_BIND|MS_REC)"))
}
