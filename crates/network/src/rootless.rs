//! A network without privileges: pasta(1), else slirp4netns(1), moves packets between a namespace and ordinary sockets of
//! the host. They are executed directly, by absolute path.

use crate::STAGE;
use crate::publish::{Publish, Transport};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, text};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const DIRS: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin"];

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
    /// The one that is installed, and can publish if ports are asked for.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] that names what is missing.
    pub fn installed(ports: &[Publish]) -> Result<Self> {
        if let Some(pasta) = find("pasta") {
            return Ok(Self::Pasta(pasta));
        }
        match find("slirp4netns") {
            Some(slirp) if ports.is_empty() => Ok(Self::Slirp(slirp)),
            Some(_) => Err(Error::bad_input("--publish", "needs pasta, and only slirp4netns is installed")
                .hint("apt install passt")),
            None => Err(Error::bad_input(
                "--net",
                "a network without root needs pasta or slirp4netns, and neither is installed",
            )
            .hint("apt install passt")),
        }
    }

    /// Gives the network namespace of a process a way out, and waits until it is there. Both programs end when the
    /// namespace goes; the caller ends the process that is returned when the container does. `pid_file` is made by pasta.
    ///
    /// # Errors
    /// The program's own words.
    pub fn start(&self, pid: i32, ports: &[Publish], pid_file: &Path) -> Result<i32> {
        match self {
            Self::Pasta(path) => pasta(path, pid, ports, pid_file),
            Self::Slirp(path) => slirp(path, pid),
        }
    }
}

fn pasta(path: &Path, pid: i32, ports: &[Publish], pid_file: &Path) -> Result<i32> {
    let mut command = Command::new(path);
    command.args(["--config-net", "--quiet", "--no-map-gw", "-T", "none", "-U", "none"]);
    for (option, transport) in [("-t", Transport::Tcp), ("-u", Transport::Udp)] {
        let mut some = false;
        for p in ports.iter().filter(|p| p.transport == transport) {
            let host = if p.host.is_unspecified() { String::new() } else { format!("{}/", p.host) };
            command.args([option, &format!("{host}{}:{}", p.host_port, p.container_port)]);
            some = true;
        }
        if !some {
            command.args([option, "none"]);
        }
    }
    command.arg("--pid").arg(pid_file).arg(pid.to_string());
    // It goes into the background when the network is there.
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(Child::wait_with_output)
        .call(|| format!("execve({path:?})"))?;
    if !output.status.success() {
        return Err(failed(path, &output.stderr));
    }
    let text = std::fs::read_to_string(pid_file).call(|| format!("read({pid_file:?})"))?;
    let _ = std::fs::remove_file(pid_file);
    text.trim().parse().map_err(|_| Error::failed(path.display().to_string(), "wrote no process id"))
}

fn slirp(path: &Path, pid: i32) -> Result<i32> {
    let mut child = Command::new(path)
        .args([
            "--configure",
            "--mtu=65520",
            "--disable-host-loopback",
            "--ready-fd=1",
            &pid.to_string(),
            "tap0",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .call(|| format!("execve({path:?})"))?;
    let mut ready = [0u8; 1];
    let read = child.stdout.as_mut().map_or(0, |out| out.read(&mut ready).unwrap_or(0));
    if read == 1 {
        return Ok(child.id().cast_signed());
    }
    let output = child.wait_with_output().call(|| "wait4(slirp4netns)")?;
    Err(failed(path, &output.stderr))
}

fn failed(path: &Path, said: &[u8]) -> Error {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("failed");
    Error::failed(path.display().to_string(), text::shorten(&text::escape(last.trim()), 300)).in_stage(STAGE)
}
