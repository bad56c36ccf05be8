//! A network without privileges: pasta(1), else slirp4netns(1), moves packets between a namespace and ordinary sockets of
//! the host. They are executed directly, by absolute path.

mod pasta;
mod slirp;

use crate::STAGE;
use crate::publish::{Publish, Transport};
use crate::step::NetStep;
use drydock_core::{Ctx, Error, Result, text};
use serde::Serialize;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DIRS: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin"];
const DEVICE: &str = "/dev/net/tun";
const PACKAGES: &str = "apt install passt (or slirp4netns)";

/// The program that does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// pasta(1).
    Pasta(PathBuf),
    /// slirp4netns(1).
    Slirp(PathBuf),
}

fn find(name: &str) -> Option<PathBuf> {
    DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

impl Program {
    /// The one to take: of both, the one that hands published ports on with an address of which no service inside thinks
    /// that it is its own machine's.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] that names what is missing; what keeps this user from [`DEVICE`].
    pub fn installed(ports: &[Publish]) -> Result<Self> {
        Self::choose(find("pasta"), find("slirp4netns"), ports, pasta::tells_loopback_apart)
    }

    /// slirp4netns, whatever else is installed.
    ///
    /// # Errors
    /// As [`Program::installed`].
    pub fn slirp(ports: &[Publish]) -> Result<Self> {
        let Some(path) = find("slirp4netns") else {
            return Err(Error::bad_input("--net", "slirp4netns is not installed")
                .hint("apt install slirp4netns, or --net pasta"));
        };
        Self::choose(None, Some(path), ports, |_| false)
    }

    fn choose(
        pasta: Option<PathBuf>,
        slirp: Option<PathBuf>,
        ports: &[Publish],
        tells_apart: impl FnOnce(&Path) -> bool,
    ) -> Result<Self> {
        if let Some(port) = ports.iter().find(|p| p.transport == Transport::Sctp) {
            let problem = "needs --net bridge (pasta and slirp4netns know tcp and udp)";
            return Err(Error::bad_input(format!("publish '{port}'"), problem));
        }
        let unfit = ports.iter().find_map(|p| slirp::unfit(p).map(|why| (p, why)));
        match (pasta, slirp) {
            (Some(pasta), Some(slirp)) => {
                let take_slirp = !ports.is_empty() && unfit.is_none() && !tells_apart(&pasta);
                Ok(if take_slirp { Self::Slirp(slirp) } else { Self::Pasta(pasta) })
            }
            (Some(pasta), None) => Ok(Self::Pasta(pasta)),
            (None, Some(slirp)) => match unfit {
                Some((port, why)) => {
                    Err(Error::bad_input(format!("publish '{port}'"), why).hint("apt install passt"))
                }
                None => Ok(Self::Slirp(slirp)),
            },
            (None, None) => Err(Error::bad_input(
                "--net",
                "a network without root needs pasta or slirp4netns, and neither is installed",
            )
            .hint(PACKAGES)),
        }
    }

    /// Whether this user may use the device through which either works. Opening it makes nothing.
    ///
    /// # Errors
    /// What is missing, and what helps.
    pub fn check_device() -> Result<()> {
        match std::fs::OpenOptions::new().read(true).write(true).open(DEVICE) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(Error::failed(
                DEVICE,
                "this user may not open it, and a network without root goes through it",
            )
            .hint(format!("as root: chmod 0666 {DEVICE}"))),
            Err(_) => Err(Error::failed(DEVICE, "is not there, and a network without root goes through it")
                .hint("as root: modprobe tun")),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pasta(_) => "pasta",
            Self::Slirp(_) => "slirp4netns",
        }
    }

    /// The address inside at which it answers for the host's name server, also for one on the host's loopback.
    pub fn resolver(&self) -> IpAddr {
        match self {
            Self::Pasta(_) => IpAddr::from(pasta::RESOLVER),
            Self::Slirp(_) => IpAddr::from(slirp::RESOLVER),
        }
    }

    /// What its user should know: nothing, if all is as it should be.
    pub fn warning(&self, ports: &[Publish]) -> Option<String> {
        match self {
            Self::Pasta(path) if !ports.is_empty() && !pasta::tells_loopback_apart(path) => Some(
                "this pasta is older than 2024_10_30: who connects to a published port from this machine's loopback \
                 comes from 127.0.0.1 inside, too; with slirp4netns installed, ports go through that"
                    .into(),
            ),
            _ => None,
        }
    }

    /// Gives the network namespace of a process a way out, and waits until it is there. The caller ends the process that
    /// is returned when the container does; `dir` is the container's state directory.
    ///
    /// # Errors
    /// The program's own words.
    pub fn start(&self, pid: i32, ports: &[Publish], dir: &Path, ctx: &Ctx<'_>) -> Result<i32> {
        Self::check_device()?;
        let words = match self {
            Self::Pasta(_) => pasta::words(pid, ports, dir),
            Self::Slirp(_) => slirp::words(pid, ports),
        };
        let (Self::Pasta(path) | Self::Slirp(path)) = self;
        ctx.perform(&NetStep::Helper { path: path.clone(), words: words.clone() }, |_| match self {
            Self::Pasta(path) => pasta::start(path, &words, dir),
            Self::Slirp(path) => slirp::start(path, &words, dir),
        })
    }

    /// Publishes the ports, where that is not done from the start. Returns the addresses inside, as far as they are known.
    ///
    /// # Errors
    /// A port that is taken; the program's own words.
    pub fn publish(&self, ports: &[Publish], dir: &Path) -> Result<Vec<String>> {
        match self {
            Self::Pasta(_) => Ok(Vec::new()),
            Self::Slirp(path) => slirp::publish(path, ports, dir).map(|()| vec![slirp::ADDRESS.to_string()]),
        }
    }
}

/// Starts a program and waits for `ready`; when it ends before, or is not ready in time, its last words are the error.
fn until_ready(
    command: &mut Command,
    path: &Path,
    stdout: Stdio,
    mut ready: impl FnMut(&mut Child) -> Option<i32>,
) -> Result<i32> {
    use drydock_core::error::CallExt;
    const PATIENCE: Duration = Duration::from_secs(30);
    // Read from a file: a pipe would have to be drained for as long as the program lives.
    let said = words_file()?;
    let stderr = said.try_clone().call(|| "dup()")?;
    let mut child =
        command.stdout(stdout).stderr(Stdio::from(stderr)).spawn().call(|| format!("execve({path:?})"))?;
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(pid) = ready(&mut child) {
            return Ok(pid);
        }
        let status = child.try_wait().call(|| "wait4()")?;
        if status.is_some_and(|s| !s.success()) || Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(path, &last_words(said)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A file without a name.
fn words_file() -> Result<std::fs::File> {
    let file = rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC);
    file.map(std::fs::File::from).map_err(|e| Error::call("memfd_create()", e))
}

fn last_words(mut file: std::fs::File) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(0));
    let _ = file.take(1 << 16).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn failed(path: &Path, said: &str) -> Error {
    // Its excuse about a log that it cannot write is not why it failed.
    let mut lines = said.lines().rev().map(str::trim).filter(|l| !l.is_empty() && !l.contains("syslog"));
    let last = lines.next().unwrap_or("failed");
    Error::failed(path.display().to_string(), text::shorten(&text::escape(last), 300)).in_stage(STAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(pasta: bool, slirp: bool, ports: &str, new: bool) -> Result<Program> {
        let ports = if ports.is_empty() { Vec::new() } else { Publish::parse(ports)? };
        let path = |there: bool, name: &str| there.then(|| PathBuf::from(name));
        Program::choose(path(pasta, "/pasta"), path(slirp, "/slirp"), &ports, |_| new)
    }

    #[test]
    fn the_program_that_hides_no_origin_is_taken() {
        let pasta = Program::Pasta("/pasta".into());
        let slirp = Program::Slirp("/slirp".into());
        assert_eq!(choose(true, true, "", false).unwrap(), pasta);
        assert_eq!(choose(true, true, "80", true).unwrap(), pasta);
        assert_eq!(choose(true, true, "80", false).unwrap(), slirp);
        assert_eq!(choose(true, true, "53:53/udp", false).unwrap(), pasta);
        assert_eq!(choose(true, false, "80", false).unwrap(), pasta);
        assert_eq!(choose(false, true, "80", false).unwrap(), slirp);
        for (pasta, slirp, ports, word) in [
            (false, false, "", "passt"),
            (false, true, "[::1]:80:80", "passt"),
            (false, true, "53:53/udp", "passt"),
            (true, true, "80:80/sctp", "bridge"),
        ] {
            let error = choose(pasta, slirp, ports, true).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
