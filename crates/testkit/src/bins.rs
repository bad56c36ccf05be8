//! Where the built tools are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The seven tools.
pub const TOOLS: [&str; 7] = ["init", "netsetup", "rootfs", "cgroupctl", "joinns", "monitor", "container"];

/// The path of a tool: in `DRYDOCK_BIN_DIR`, else beside the running test's own directory (`target/PROFILE`, or
/// `target/TRIPLE/PROFILE`), built first
/// when the test was started by cargo, so that it is never an old one.
///
/// # Panics
/// When it is not there and cannot be built.
pub fn bin(tool: &str) -> PathBuf {
    assert!(TOOLS.contains(&tool), "{tool} is not one of {TOOLS:?}");
    if let Some(dir) = std::env::var_os("DRYDOCK_BIN_DIR") {
        let path = Path::new(&dir).join(tool);
        assert!(path.is_file(), "no {tool} in DRYDOCK_BIN_DIR={}", path.parent().unwrap_or(&path).display());
        return path;
    }
    let dir = profile_dir();
    let path = dir.join(tool);
    build_once(tool, &dir);
    assert!(path.is_file(), "no {}: build it with `cargo build -p drydock-{tool}`", path.display());
    path
}

/// `target/PROFILE`, from the test executable's own path `target/PROFILE/deps/NAME-HASH`.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("/proc/self/exe is readable");
    let dir = exe.parent().expect("an executable is in a directory");
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_path_buf() } else { dir.to_path_buf() }
}

fn build_once(tool: &str, dir: &Path) {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // cargo sets CARGO for the tests that it runs; elsewhere (the VM, a copied executable) there is nothing to build with.
    let Some(cargo) = std::env::var_os("CARGO") else { return };
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !built.insert(tool.to_string()) {
        return;
    }
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", &format!("drydock-{tool}")]);
    if dir.ends_with("release") {
        command.arg("--release");
    }
    // `target/TRIPLE/PROFILE`: the test was built for an explicit target.
    let triple = dir.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    if let Some(triple) = triple.filter(|name| name.contains("-linux-")) {
        command.args(["--target", triple]);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = command.current_dir(workspace).output().expect("cargo can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot build drydock-{tool}:\n{errors}");
}
