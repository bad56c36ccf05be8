//! What the tests of `rootfs` share.
#![allow(dead_code)] // each test file uses its part

use drydock_testkit::{Output, Sandbox};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that runs the tool under test.
pub fn command(sandbox: &Sandbox) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootfs"));
    command
        .env("DRYDOCK_ROOT", sandbox.state())
        .env("DRYDOCK_DATA", sandbox.data())
        .current_dir(sandbox.path());
    command
}

/// Runs the tool under test.
#[track_caller]
pub fn rootfs(sandbox: &Sandbox, args: &[&str]) -> Output {
    drydock_testkit::run(command(sandbox).args(args))
}

/// Builds something with the host's C compiler; false if it has none.
pub fn gcc(dir: &Path, source: &str, args: &[&str]) -> bool {
    let file = dir.join(format!("source-{}.c", args.join("-").replace(['/', '$'], "_").len()));
    std::fs::write(&file, source).unwrap();
    Command::new("gcc").current_dir(dir).arg("-w").arg(&file).args(args).status().is_ok_and(|s| s.success())
}

/// Everything below a directory with what could have changed: path, mode, size, modification time.
pub fn listing(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let m = std::fs::symlink_metadata(&path).unwrap();
            found.push(format!("{path:?} {:o} {} {}.{}", m.mode(), m.size(), m.mtime(), m.mtime_nsec()));
            if m.is_dir() {
                todo.push(path);
            }
        }
    }
    found.sort();
    found
}
