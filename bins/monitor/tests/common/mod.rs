//! What the tests of `monitor` share.
#![allow(dead_code)] // each test binary uses a part

use drydock_cgroups::{Hierarchy, Layout};
use drydock_testkit::{Output, Sandbox};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A process that ends with the test.
pub struct Running(pub Child);

impl Running {
    /// Starts a command in the background, in a process group of its own.
    pub fn start(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt;
        let quiet = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap())
    }

    pub fn unshare(args: &[&str]) -> Self {
        Self::start(Command::new("unshare").args(args))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(-i32::try_from(self.pid()).unwrap());
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Runs monitor.
pub fn monitor(sandbox: &Sandbox, args: &[&str]) -> Output {
    sandbox.run("monitor", args)
}

/// Runs monitor with --json and parses what it says.
#[track_caller]
pub fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    let output = monitor(sandbox, &args).success();
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e} in {}", output.stdout))
}

/// The inode number behind `/proc/WHO/ns/KIND`, as readlink shows it.
pub fn inode(who: &str, kind: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{who}/ns/{kind}")).ok()?;
    link.to_str()?.strip_prefix(&format!("{kind}:["))?.strip_suffix(']')?.parse().ok()
}

/// Waits until the process has executed `comm` (unshare and sh become something else).
pub fn wait_comm(sandbox: &Sandbox, pid: u32, comm: &str) {
    let path = format!("/proc/{pid}/comm");
    sandbox.wait_until(comm, || std::fs::read_to_string(&path).unwrap_or_default().trim_end() == comm);
}

/// The first child of a process, once there is one that has executed `comm`.
pub fn child(sandbox: &Sandbox, pid: u32, comm: &str) -> u32 {
    let mut found = None;
    sandbox.wait_until("a child", || {
        found = children(pid).into_iter().find(|child| {
            std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default().trim_end() == comm
        });
        found.is_some()
    });
    found.unwrap()
}

fn children(parent: u32) -> Vec<u32> {
    pids().into_iter().filter(|pid| ppid(*pid) == Some(parent)).collect()
}

fn ppid(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// All pids of /proc.
pub fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// A directory of this name in each hierarchy with controllers, and a process in it.
pub struct Placed {
    pub dirs: Vec<PathBuf>,
    pub process: Option<Running>,
}

impl Placed {
    pub fn new(sandbox: &Sandbox, name: &str) -> Self {
        let layout = Layout::detect().unwrap();
        let base = |h: &Hierarchy| h.base.clone().filter(|_| h.name.is_none());
        let dirs: Vec<PathBuf> = layout.hierarchies().iter().filter_map(base).map(|b| b.join(name)).collect();
        for dir in &dirs {
            std::fs::create_dir(dir).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = std::fs::read_to_string(dir.parent().unwrap().join(file)) {
                    let _ = std::fs::write(dir.join(file), all);
                }
            }
        }
        let process = Running::start(Command::new("sleep").arg("60"));
        wait_comm(sandbox, process.pid(), "sleep");
        for dir in &dirs {
            std::fs::write(dir.join("cgroup.procs"), process.pid().to_string()).unwrap();
        }
        Self { dirs, process: Some(process) }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        drop(self.process.take());
        for dir in &self.dirs {
            let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while dir.exists() && std::fs::remove_dir(dir).is_err() && std::time::Instant::now() < until {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}
