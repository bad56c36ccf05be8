//! slirp4netns(1): a TCP/IP stack in a process; ports are published over its socket.

use super::{failed, until_ready};
use crate::publish::{Publish, Transport};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, text};
use rustix::fs::{Mode, OFlags};
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where it answers for the host's name server.
pub(super) const RESOLVER: [u8; 4] = [10, 0, 2, 3];
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// The container's address.
pub(super) const ADDRESS: &str = "10.0.2.100/24";
const SOCKET: &str = "slirp.sock";
const PATIENCE: Duration = Duration::from_secs(10);

/// Why it cannot publish a port. The host's loopback is closed to what is inside, and its answers to UDP clients there
/// with it (TCP connections know their way back).
pub(super) fn unfit(port: &Publish) -> Option<&'static str> {
    match port.transport {
        _ if port.host.is_ipv6() => Some("slirp4netns publishes on IPv4 addresses only"),
        Transport::Udp if port.host.is_loopback() => {
            Some("slirp4netns does not answer UDP on the loopback (allowed: another address of the host)")
        }
        _ => None,
    }
}

/// Its own mount namespace, so that it sees nothing of the host's files; and it ends when its standard input does, which
/// is when the process that started it dies.
pub(super) fn words(pid: i32, ports: &[Publish]) -> Vec<String> {
    let mut words: Vec<String> = [
        "--configure",
        "--mtu=65520",
        "--disable-host-loopback",
        "--enable-sandbox",
        "--enable-seccomp",
        "--exit-fd=0",
        "--ready-fd=1",
    ]
    .map(String::from)
    .to_vec();
    if !ports.is_empty() {
        words.push(format!("--api-socket={SOCKET}"));
    }
    words.extend([pid.to_string(), "tap0".into()]);
    words
}

pub(super) fn start(path: &Path, words: &[String], dir: &Path) -> Result<i32> {
    let (stdin, keep) = std::io::pipe().call(|| "pipe2()")?;
    let (mut ready, stdout) = std::io::pipe().call(|| "pipe2()")?;
    rustix::io::ioctl_fionbio(&ready, true).map_err(|e| Error::call("ioctl(FIONBIO)", e))?;
    let mut command = Command::new(path);
    command.args(words).current_dir(dir).stdin(stdin);
    let pid = until_ready(&mut command, path, stdout.into(), |child| {
        let mut byte = [0u8; 1];
        matches!(ready.read(&mut byte), Ok(1)).then(|| child.id().cast_signed())
    })?;
    // It stays open for as long as this process lives.
    std::mem::forget(keep);
    Ok(pid)
}

/// Publishes ports through the program's socket.
pub(super) fn publish(path: &Path, ports: &[Publish], dir: &Path) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place =
        rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| Error::call(format!("open({dir:?})"), e))?;
    // A path that fits into an address, wherever the directory is.
    let socket = format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd());
    for port in ports {
        let answer = ask(&socket, &request(port)).call(|| format!("connect({SOCKET:?})"))?;
        if let Some(why) = refusal(&answer) {
            let object = format!("publish '{port}'");
            return Err(match taken(port) {
                true => Error::failed(object, "the port is in use on this host"),
                false => failed(path, &format!("{object}: {why}")),
            });
        }
    }
    let _ = std::fs::remove_file(dir.join(SOCKET));
    Ok(())
}

fn request(port: &Publish) -> String {
    serde_json::json!({
        "execute": "add_hostfwd",
        "arguments": {
            "proto": port.transport.name(),
            "host_addr": port.host.to_string(),
            "host_port": port.host_port,
            "guest_addr": INSIDE.to_string(),
            "guest_port": port.container_port,
        }
    })
    .to_string()
}

/// One question a connection, which ends with the answer.
fn ask(socket: &str, request: &str) -> std::io::Result<String> {
    let end = Instant::now() + PATIENCE;
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Err(e)
                if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                    && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => break other?,
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer)?;
    Ok(answer)
}

fn refusal(answer: &str) -> Option<String> {
    match serde_json::from_str::<serde_json::Value>(answer) {
        Ok(value) if value.get("error").is_none() && value.get("return").is_some() => None,
        Ok(value) => Some(text::escape(value["error"]["desc"].as_str().unwrap_or("refused"))),
        Err(_) => Some("no answer".into()),
    }
}

/// Whether somebody else has the port: the program itself does not say why it failed.
fn taken(port: &Publish) -> bool {
    let at = (port.host, port.host_port);
    let error = match port.transport {
        Transport::Udp => std::net::UdpSocket::bind(at).err(),
        _ => std::net::TcpListener::bind(at).err(),
    };
    error.is_some_and(|e| e.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(refusal(r#"{"return": {"id": 1}}"#), None);
        let no = refusal(r#"{"error": {"desc": "bad request: add_hostfwd: slirp_add_hostfwd failed"}}"#);
        assert!(no.is_some_and(|why| why.contains("add_hostfwd")));
        assert!(refusal("").is_some() && refusal("{}").is_some() && refusal("[1").is_some());
        assert!(words(7, &[]).ends_with(&["7".into(), "tap0".into()]));
    }
}
