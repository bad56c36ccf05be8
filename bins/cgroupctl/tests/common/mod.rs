//! What the tests of the built tool share. They look at the kernel's own files, on v1, hybrid or v2, as the machine is.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used, clippy::panic)] // helpers fail as tests do

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// The built tool.
pub const TOOL: &str = env!("CARGO_BIN_EXE_cgroupctl");

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name that nobody else uses; whatever stands under it is removed at the end, also of a failed test.
pub struct Name(pub String);

impl Name {
    pub fn new() -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("drydock-test-{}-{n}", std::process::id()))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Command::new(TOOL).args(["cleanup", &self.0]).output();
        let left = dirs(&self.0);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

/// What a call of the tool gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Ran {
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Failed with this code and one sentence that has all these words.
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        let lines: Vec<&str> = self.err.lines().filter(|l| !l.contains(": PID ")).collect();
        assert_eq!(lines.len(), 1, "one sentence: {self:?}");
        assert!(lines[0].starts_with("cgroupctl: "), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word} in {self:?}");
        }
        self
    }
}

/// Runs the tool.
pub fn tool(args: &[&str]) -> Ran {
    Command::new(TOOL).args(args).output().unwrap().into()
}

/// Hierarchies as the kernel lists them, independent of the tool: (controllers, mount point).
pub fn mounts() -> Vec<(String, PathBuf)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1)?.to_string();
        let point = PathBuf::from(before.split(' ').nth(4)?);
        match kind {
            "cgroup2" => Some(("v2".to_string(), point)),
            "cgroup" if !options.contains("name=") => Some((options, point)),
            _ => None,
        }
    };
    text.lines().filter_map(parse).collect()
}

/// Pure v2.
pub fn is_v2() -> bool {
    mounts().iter().all(|(kind, _)| kind == "v2")
}

/// The directories of a cgroup.
pub fn dirs(name: &str) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        mounts().into_iter().map(|(_, p)| p.join(name)).filter(|p| p.is_dir()).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

/// A kernel file of a cgroup.
pub fn file(name: &str, file: &str) -> Option<String> {
    dirs(name).iter().find_map(|d| std::fs::read_to_string(d.join(file)).ok()).map(|t| t.trim().to_string())
}

/// A counter `key value` in a kernel file.
pub fn counter(name: &str, file_name: &str, key: &str) -> Option<u64> {
    let text = file(name, file_name)?;
    text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
}

/// Whether we are root and cgroups can be made: else the test is skipped, and says so.
pub fn can_run(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self")
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
        .unwrap_or(false);
    if root && tool(&["check"]).code == 0 {
        return true;
    }
    skip(test, "needs root and a cgroup file system");
    false
}

/// Says that a test was skipped, past the harness's capture.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {reason}");
}

/// Waits until a condition holds, at most five seconds; in the VM, which is emulated, fifty.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let seconds = if std::env::var_os("DRYDOCK_VM").is_some() { 50 } else { 5 };
    for _ in 0..seconds * 100 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within {seconds} s: {what}");
}
