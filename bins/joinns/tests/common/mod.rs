//! What the tests of `joinns` share: a target process in new namespaces, and running the tool.
#![allow(dead_code)] // each test binary uses its part

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const JOINNS: &str = env!("CARGO_BIN_EXE_joinns");

/// Says why a test did not run; not captured by the harness.
pub fn skip(name: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIP {name}: {reason}\n").as_bytes());
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where a program is, if it is installed.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file())
}

/// A process that sleeps in namespaces of its own; killed and reaped when dropped.
pub struct Target {
    pub pid: i32,
    outer: Child,
}

impl Target {
    /// `flags` are unshare(1)'s, given before `sleep`; `before` stands before unshare, such as setpriv.
    pub fn start(before: &[&str], flags: &[&str]) -> Option<Target> {
        which("unshare")?;
        if let Some(first) = before.first() {
            which(first)?;
        }
        let words: Vec<&str> =
            before.iter().copied().chain(["unshare"]).chain(flags.iter().copied()).collect();
        let mut outer = Command::new(words[0])
            .args(&words[1..])
            .args(["--fork", "--kill-child", "--", "sleep", "300"])
            .stdin(Stdio::null())
            .spawn()
            .ok()?;
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            let children = format!("/proc/{0}/task/{0}/children", outer.id());
            let pid = std::fs::read_to_string(children).ok().and_then(|t| t.trim().parse().ok());
            if let Some(pid) = pid.filter(|pid| comm(*pid) == "sleep") {
                return Some(Target { pid, outer });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = outer.kill();
        let _ = outer.wait();
        None
    }

    pub fn ns(&self, kind: &str) -> String {
        ns_of(&self.pid.to_string(), kind)
    }

    pub fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.pid)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

pub fn comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_string()
}

/// `net:[4026531840]` of a process.
pub fn ns_of(pid: &str, kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    link.map(|l| l.display().to_string()).unwrap_or_default()
}

/// Runs joinns with its stdin closed.
pub fn joinns(args: &[&str]) -> Output {
    Command::new(JOINNS).args(args).stdin(Stdio::null()).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_string()
}

/// A directory of this test, removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("joinns-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Field 22 of /proc/PID/stat.
pub fn start_time(pid: i32) -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
    text.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}
