//! pasta(1): the container has the host's address, and connections are those of ordinary sockets.

use super::{last_words, until_ready, words_file};
use crate::publish::{Publish, Transport};
use drydock_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where it answers for the host's name server.
pub(super) const RESOLVER: [u8; 4] = [169, 254, 1, 1];

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("pasta.pid")
}

pub(super) fn words(pid: i32, ports: &[Publish], dir: &Path) -> Vec<String> {
    let mut words: Vec<String> =
        ["--config-net", "--quiet", "--no-map-gw", "-T", "none", "-U", "none"].map(String::from).to_vec();
    let resolver = std::net::Ipv4Addr::from(RESOLVER);
    words.extend(["--dns-forward".into(), resolver.to_string()]);
    for (option, transport) in [("-t", Transport::Tcp), ("-u", Transport::Udp)] {
        let mut some = false;
        for p in ports.iter().filter(|p| p.transport == transport) {
            let host = if p.host.is_unspecified() { String::new() } else { format!("{}/", p.host) };
            words.extend([option.into(), format!("{host}{}:{}", p.host_port, p.container_port)]);
            some = true;
        }
        if !some {
            words.extend([option.into(), "none".into()]);
        }
    }
    words.extend(["--pid".into(), pid_file(dir).display().to_string(), pid.to_string()]);
    words
}

/// It goes into the background when the network is there.
pub(super) fn start(path: &Path, words: &[String], dir: &Path) -> Result<i32> {
    let mut ended = false;
    let pid_file = pid_file(dir);
    let pid =
        until_ready(Command::new(path).args(words).stdin(Stdio::null()), path, Stdio::null(), |child| {
            ended |= child.try_wait().is_ok_and(|status| status.is_some_and(|s| s.success()));
            let pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok();
            // Without a process id in the file it counts as none.
            ended.then(|| pid().unwrap_or(0))
        })?;
    let _ = std::fs::remove_file(&pid_file);
    match pid {
        0 => Err(Error::failed(path.display().to_string(), "wrote no process id")),
        pid => Ok(pid),
    }
}

/// From 2024_10_30 on, what comes from the host's loopback does not come from the container's own.
pub(super) fn tells_loopback_apart(path: &Path) -> bool {
    let Ok(file) = words_file() else { return false };
    let Ok(out) = file.try_clone() else { return false };
    let run =
        Command::new(path).arg("--help").stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).status();
    run.is_ok() && last_words(file).contains("--host-lo-to-ns-lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_keep_their_addresses() {
        let ports = ["8080:80", "0.0.0.0:53:5353/udp"].map(|p| Publish::parse(p).unwrap()).concat();
        let line = words(7, &ports, Path::new("/d")).join(" ");
        assert!(line.contains("-t 127.0.0.1/8080:80 -u 53:5353"), "{line}");
        assert!(words(7, &[], Path::new("/d")).join(" ").contains("-t none -u none"));
    }
}
