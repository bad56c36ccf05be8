//! The steps besides joining, as `--explain` shows them.

use drydock_core::{Explain, Step};
use drydock_namespaces::credentials::Ids;
use std::path::PathBuf;

/// One step.
#[derive(Clone, Debug)]
pub enum EnterStep {
    /// The process that will be inside.
    Fork,
    /// A terminal and session of its own.
    Terminal,
    /// One of the target's cgroups.
    Cgroup(PathBuf),
    /// The root directory.
    Root,
    /// The caller's programs.
    Tools,
    /// The working directory.
    Directory(PathBuf),
    /// User and group.
    Ids(Ids),
    /// The process that becomes the command, made by one that has given up all privileges.
    Heir,
}

impl Explain for EnterStep {
    fn explain(&self) -> Step {
        let (call, why, man) = match self {
            EnterStep::Fork => (
                "clone3({flags=CLONE_PIDFD, exit_signal=SIGCHLD})".to_string(),
                "setns(2) does not move the caller into a pid namespace, only what it forks",
                "pid_namespaces(7)",
            ),
            EnterStep::Terminal => (
                "setsid(); ioctl(slave, TIOCSCTTY); dup2(slave, 0..2)".to_string(),
                "a terminal of its own: nobody inside ever holds the caller's",
                "pts(4)",
            ),
            EnterStep::Cgroup(path) => {
                (format!("write({path:?}, \"0\")"), "join the target's cgroup", "cgroups(7)")
            }
            EnterStep::Root => {
                ("fchdir(root), chroot(\".\")".to_string(), "the command's root directory", "chroot(2)")
            }
            EnterStep::Tools => (
                "unshare(CLONE_NEWNS), fsopen(\"tmpfs\"), move_mount(tools, \"/.drydock\")".to_string(),
                "a copy of the target's mounts with the caller's programs added, which ends with the command",
                "mount_namespaces(7)",
            ),
            EnterStep::Directory(path) => {
                (format!("chdir({path:?})"), "the command's working directory", "chdir(2)")
            }
            EnterStep::Heir => (
                "clone(SIGCHLD)".to_string(),
                "once the privileges below are given up: who is born in the pid namespace never has more than the command",
                "clone(2)",
            ),
            EnterStep::Ids(ids) => {
                let text = |id: Option<u32>| id.map_or("-1".to_string(), |id| id.to_string());
                let call = format!(
                    "setgroups(0, []), setresgid({0}, …), setresuid({1}, …)",
                    text(ids.gid),
                    text(ids.uid)
                );
                (call, "ids that exist in the user namespace", "credentials(7)")
            }
        };
        Step { stage: "join".into(), call, why: why.into(), man: man.into(), undo: None }
    }
}
