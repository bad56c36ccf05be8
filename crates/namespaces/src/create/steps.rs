//! The steps of making namespaces, as `--explain` shows them.

use super::Propagation;
use crate::time::Offsets;
use crate::{Kind, Set};
use drydock_core::{Explain, Step};
use std::path::PathBuf;

/// One step. The id maps have steps of their own ([`crate::idmap::MapStep`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateStep {
    /// The file that a persistent namespace is bound on.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// The child, in every new namespace at once.
    Clone {
        /// The namespaces.
        new: Set,
    },
    /// The caller itself goes in.
    Unshare {
        /// The namespaces.
        new: Set,
    },
    /// A time namespace and its offsets.
    Time {
        /// The offsets.
        offsets: Offsets,
    },
    /// A namespace pinned on its file.
    Persist {
        /// Its type.
        kind: Kind,
        /// The file.
        path: PathBuf,
        /// Whose namespace.
        pid: i32,
    },
    /// Ids inside a new user namespace.
    Ids {
        /// User id.
        uid: Option<u32>,
        /// Group id.
        gid: Option<u32>,
    },
    /// Propagation of every mount.
    Propagation(Propagation),
    /// The host name.
    Hostname(String),
    /// The root directory.
    Root(PathBuf),
    /// A procfs of the new pid namespace.
    Proc(PathBuf),
    /// The working directory.
    Directory(PathBuf),
}

impl Explain for CreateStep {
    fn explain(&self) -> Step {
        let (stage, call, why, man): (&'static str, String, &'static str, &'static str) = match self {
            CreateStep::File { path } => (
                "persist",
                format!("open({path:?}, O_CREAT|O_EXCL, 0444)"),
                "a bind mount needs a file to be on",
                "open(2)",
            ),
            CreateStep::Clone { new } => (
                "clone",
                format!("clone3({{flags={}|CLONE_PIDFD, exit_signal=SIGCHLD}})", new.flag_names()),
                "one call makes the child inside every new namespace",
                "clone(2)",
            ),
            CreateStep::Unshare { new } => {
                let why = if *new == Set::EMPTY.with(Kind::Pid) {
                    "what the caller forks next goes in, not the caller itself"
                } else {
                    "the caller itself goes in"
                };
                ("clone", format!("unshare({})", new.flag_names()), why, "unshare(2)")
            }
            CreateStep::Time { offsets } => (
                "time",
                format!(
                    "unshare(CLONE_NEWTIME), write(\"/proc/self/timens_offsets\", {:?})",
                    offsets.lines()
                ),
                "offsets can only be set before the first process is inside",
                "time_namespaces(7)",
            ),
            CreateStep::Persist { kind, path, pid } => (
                "persist",
                format!("mount(\"/proc/{pid}/ns/{kind}\", {path:?}, NULL, MS_BIND, NULL)"),
                "a namespace lives as long as a mount of its file",
                "namespaces(7)",
            ),
            CreateStep::Ids { uid, gid } => {
                let text = |id: &Option<u32>| id.map_or("-1".to_string(), |id| id.to_string());
                let call = format!(
                    "setgroups(0, []), setresgid({0}, {0}, {0}), setresuid({1}, {1}, {1})",
                    text(gid),
                    text(uid)
                );
                ("user", call, "take on ids that are mapped inside", "credentials(7)")
            }
            CreateStep::Propagation(how) => (
                "mounts",
                format!("mount(NULL, \"/\", NULL, MS_REC|{}, NULL)", how.flag_name()),
                "a new mount namespace is a copy whose mounts still propagate as before",
                "mount_namespaces(7)",
            ),
            CreateStep::Hostname(name) => {
                ("uts", format!("sethostname({name:?})"), "seen by this namespace only", "sethostname(2)")
            }
            CreateStep::Root(path) => {
                ("mounts", format!("chroot({path:?})"), "the command's root directory", "chroot(2)")
            }
            CreateStep::Proc(path) => (
                "mounts",
                format!("mount(\"proc\", {path:?}, \"proc\", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)"),
                "a procfs shows the pid namespace of whoever mounts it",
                "proc(5)",
            ),
            CreateStep::Directory(path) => {
                ("mounts", format!("chdir({path:?})"), "the command's working directory", "chdir(2)")
            }
        };
        let undo = match self {
            CreateStep::Persist { path, .. } => Some(format!("umount {}", path.display())),
            CreateStep::File { path } => Some(format!("rm {}", path.display())),
            _ => None,
        };
        Step { stage: stage.into(), call, why: why.into(), man: man.into(), undo }
    }
}
