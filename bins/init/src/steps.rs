//! The steps of the inside that are neither mounts nor security.

use drydock_core::error::CallExt;
use drydock_core::{Error, Explain, Result, Step};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsideStep {
    /// A new cgroup namespace, rooted at the cgroup that the process is in by now.
    CgroupNamespace,
    /// A new session.
    Session,
    /// `lo` up.
    Loopback,
    /// Host name.
    Hostname(String),
    /// NIS domain name.
    Domainname(String),
    /// A namespaced sysctl and its value.
    Sysctl(String, String),
    /// A pseudoterminal as controlling terminal and standard streams.
    Terminal,
    /// The working directory.
    Workdir {
        /// Where it is.
        dir: String,
        /// It is made if missing.
        make: bool,
    },
    /// The end: the command, or the reaper that runs it.
    Exec {
        /// The command's words.
        command: Vec<String>,
        /// Whether PID 1 stays and reaps.
        reaper: bool,
    },
}

impl Explain for InsideStep {
    fn explain(&self) -> Step {
        let step = |stage: &'static str, call: String, why: &'static str, man: &'static str| Step {
            stage: stage.into(),
            call,
            why: why.into(),
            man: man.into(),
            undo: None,
        };
        match self {
            Self::CgroupNamespace => step(
                "namespace",
                "unshare(CLONE_NEWCGROUP)".into(),
                "the container sees its own cgroup as the root",
                "cgroup_namespaces(7)",
            ),
            Self::Session => {
                step("process", "setsid()".into(), "out of reach of the caller's terminal", "setsid(2)")
            }
            Self::Loopback => step(
                "network",
                "sendto(NETLINK_ROUTE, RTM_NEWLINK lo IFF_UP)".into(),
                "a new network namespace has its loopback down",
                "rtnetlink(7)",
            ),
            Self::Hostname(name) => {
                step("uts", format!("sethostname({name:?})"), "the container's own name", "sethostname(2)")
            }
            Self::Domainname(name) => step(
                "uts",
                format!("setdomainname({name:?})"),
                "the container's own NIS domain",
                "setdomainname(2)",
            ),
            Self::Sysctl(key, value) => step(
                "sysctl",
                format!("write({:?}, {value:?})", crate::sysctl::path(key)),
                "a kernel parameter of the container's namespaces",
                "proc_sys(5)",
            ),
            Self::Terminal => step(
                "terminal",
                "open(\"/dev/ptmx\"); ioctl(slave, TIOCSCTTY); dup2(slave, 0..2)".into(),
                "a terminal of the container's own devpts, not the caller's",
                "pts(4)",
            ),
            Self::Workdir { dir, .. } => {
                step("process", format!("chdir({dir:?})"), "where the command starts", "chdir(2)")
            }
            Self::Exec { command, reaper } => {
                let words: Vec<String> = command.iter().map(|w| format!("{w:?}")).collect();
                let (call, why) = if *reaper {
                    (
                        format!("execveat(init, [\"init\", \"--\", {}])", words.join(", ")),
                        "PID 1 reaps and forwards signals",
                    )
                } else {
                    (format!("execve({})", words.join(", ")), "the command itself is PID 1")
                };
                step("process", call, why, "execve(2)")
            }
        }
    }
}

impl InsideStep {
    /// Does the step (all but [`InsideStep::Terminal`] and [`InsideStep::Exec`], whose results their caller needs).
    ///
    /// # Errors
    /// The failing call.
    pub fn act(&self) -> Result<()> {
        match self {
            Self::CgroupNamespace => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
                .call(|| "unshare(CLONE_NEWCGROUP)")
                .map_err(|e| {
                    e.hint("needs Linux 4.6 with CONFIG_CGROUPS and CAP_SYS_ADMIN; or: --ns cgroup=host")
                }),
            // EPERM: already a leader, which is as good.
            Self::Session => match nix::unistd::setsid() {
                Ok(_) | Err(nix::errno::Errno::EPERM) => Ok(()),
                Err(e) => Err(Error::call("setsid()", e)),
            },
            Self::Loopback => drydock_network::loopback_up(),
            Self::Hostname(name) => nix::unistd::sethostname(name).call(|| format!("sethostname({name:?})")),
            Self::Domainname(name) => {
                rustix::system::setdomainname(name.as_bytes()).call(|| format!("setdomainname({name:?})"))
            }
            Self::Sysctl(key, value) => crate::sysctl::write(key, value),
            Self::Workdir { dir, make } => enter_workdir(dir, *make),
            Self::Terminal | Self::Exec { .. } => Ok(()),
        }
    }
}

/// Changes to the working directory, made (as Docker does) if missing and asked for, and makes sure that it is inside: a directory
/// reached through a leaked descriptor has no path below the root (CVE-2024-21626).
fn enter_workdir(dir: &str, make: bool) -> Result<()> {
    match std::env::set_current_dir(dir) {
        Err(e) if make && e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).call(|| format!("mkdir({dir:?})")).map_err(|e| e.on("--workdir"))?;
            std::env::set_current_dir(dir).call(|| format!("chdir({dir:?})"))?;
        }
        other => other.call(|| format!("chdir({dir:?})")).map_err(|e| e.on("--workdir"))?,
    }
    let real = std::env::current_dir().call(|| "getcwd()").map_err(|e| e.on("--workdir"))?;
    if real.is_absolute() && !real.starts_with(Path::new("(unreachable)")) {
        return Ok(());
    }
    Err(Error::bad_input("--workdir", format!("'{dir}' leads out of the root file system")))
}

/// A pty of the container's own devpts: its slave becomes terminal and standard streams, its master is returned. `console`:
/// the slave is bound over /dev/console, too, which is the container's own. `lead`: the calling process leads a session,
/// whose controlling terminal it becomes.
///
/// # Errors
/// See [`drydock_supervise::terminal`].
pub fn open_terminal(console: bool, lead: bool) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    let (master, slave) = drydock_supervise::terminal::open_pty()?;
    let fd = open(
        slave.as_str(),
        OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .call(|| format!("open({slave:?}, O_RDWR|O_NOCTTY)"))?;
    if !drydock_supervise::terminal::is_terminal(fd.as_fd()) {
        return Err(Error::failed(slave, "is not a terminal: /dev/pts is not what it should be"));
    }
    if lead {
        rustix::process::ioctl_tiocsctty(&fd).call(|| "ioctl(TIOCSCTTY)")?;
    }
    drydock_supervise::terminal::take_streams(&fd)?;
    if console {
        match drydock_mounts::dev::bind_console(fd.as_fd()) {
            // A read-only root without a place for it: its programs have /dev/tty.
            Err(e) if e.errno() == Some(nix::libc::EROFS) => {}
            other => other?,
        }
    }
    Ok(master)
}
/// Standard streams that are the host's /dev/null become the container's own, where it has one: no file of the host's stays
/// open for that, and a checkpoint (criu(8)) finds it among the container's mounts. As runc(8) does. Best effort.
pub fn own_null() {
    use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, open};
    let is_null = |stat: &rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(own) = open("/dev/null", flags, Mode::empty()) else { return };
    if !fstat(&own).is_ok_and(|stat| is_null(&stat)) {
        return;
    }
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (number, stream) in (0..).zip([input.as_fd(), output.as_fd(), errors.as_fd()]) {
        if fstat(stream).is_ok_and(|stat| is_null(&stat)) {
            let _ = drydock_core::sys::fd::replace_standard_stream(own.as_fd(), number);
        }
    }
}
