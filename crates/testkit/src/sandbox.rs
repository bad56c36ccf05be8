//! A place of its own for each test, and a clean-up that notices what the test left.

use crate::census::{self, Census, Scope};
use crate::run::Output;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A test's own directories and names. Dropping it removes what the test left on the machine and, unless the test is
/// failing already, fails it for having left something.
#[derive(Debug)]
pub struct Sandbox {
    dir: tempfile::TempDir,
    name: String,
    check: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// A new directory under `TMPDIR`, with `state` (DRYDOCK_ROOT) and `data` (DRYDOCK_DATA) in it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let name = crate::unique("dd");
        let dir =
            tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().expect("a temporary directory");
        let sandbox = Self { dir, name, check: true };
        for path in [sandbox.state(), sandbox.data()] {
            std::fs::create_dir(path).expect("a directory in the sandbox");
        }
        // A container with a user namespace has to pass through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(sandbox.path(), open).expect("chmod of the sandbox");
        sandbox
    }

    /// Clean up without failing the test for what was left: for tests that kill on purpose and count by themselves.
    pub fn lenient(mut self) -> Self {
        self.check = false;
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path within the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What commands get as DRYDOCK_ROOT.
    pub fn state(&self) -> PathBuf {
        self.join("state")
    }

    /// What commands get as DRYDOCK_DATA.
    pub fn data(&self) -> PathBuf {
        self.join("data")
    }

    /// A name that ends in the sandbox's own: containers, cgroups and namespaces named so are found and removed.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.name)
    }

    /// What this sandbox's commands could have left.
    pub fn scope(&self) -> Scope {
        Scope::of([self.name.clone()]).with_state(&self.state())
    }

    /// Counts what of this sandbox is on the machine.
    pub fn census(&self) -> Census {
        Census::take(&self.scope())
    }

    /// A command that runs a tool of ours with DRYDOCK_ROOT and DRYDOCK_DATA set.
    pub fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(crate::bin(tool));
        command.env("DRYDOCK_ROOT", self.state()).env("DRYDOCK_DATA", self.data()).current_dir(self.path());
        command
    }

    /// Runs a tool of ours to its end, for at most [`crate::run::TIME`].
    #[track_caller]
    pub fn run(&self, tool: &str, args: &[&str]) -> Output {
        crate::run::run(self.command(tool).args(args))
    }

    /// Waits until a condition holds, for at most ten seconds (more in the VM).
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let limit = Duration::from_secs(if crate::in_vm() { 60 } else { 10 });
        let until = Instant::now() + limit;
        while !holds() {
            assert!(Instant::now() < until, "not within {limit:?}: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes everything with the sandbox's name: processes, then cgroups, mounts, namespaces, links. Idempotent.
    fn sweep(&self) {
        let scope = self.scope();
        for _ in 0..50 {
            let left = census::processes(&scope);
            for (pid, _) in &left {
                let pid = nix::unistd::Pid::from_raw(*pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for dir in census::cgroups(&scope) {
            let _ = std::fs::remove_dir(dir);
        }
        for line in census::mounts(&scope).iter().rev() {
            // Without its first three fields a line is: root, mount point, options …
            if let Some(target) = line.split(' ').nth(1) {
                let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        for path in census::named_netns(&scope) {
            let _ = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(path);
        }
        for link in census::links(&scope) {
            let name = link.split(' ').next().unwrap_or_default();
            let _ = Command::new("ip").args(["link", "delete", name]).output();
        }
    }

    /// `container gc` removes what a failed or killing test left; it needs no more than the state directory.
    fn collect_garbage(&self) {
        let has_state = std::fs::read_dir(self.state()).is_ok_and(|mut entries| entries.next().is_some());
        if has_state && (std::thread::panicking() || !self.check) {
            let tool = std::panic::catch_unwind(|| crate::bin("container"));
            let Ok(tool) = tool else { return };
            let mut command = Command::new(tool);
            command.arg("gc").env("DRYDOCK_ROOT", self.state()).env("DRYDOCK_DATA", self.data());
            let _ = command.output();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let left = if self.check { self.census().since(&Census::default()) } else { Vec::new() };
        self.collect_garbage();
        self.sweep();
        if !left.is_empty() && !std::thread::panicking() {
            panic!("the test left on the machine:\n{}", left.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_and_removes_what_was_left() {
        let sandbox = Sandbox::new();
        let dir = sandbox.path().to_path_buf();
        let mut child = Command::new("sleep").arg("60").current_dir(&dir).spawn().unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(sandbox)));
        let message = result.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("process: ") && message.contains("sleep"), "{message}");
        assert!(!child.wait().unwrap().success());
        assert!(!dir.exists());
    }

    #[test]
    fn a_clean_test_passes() {
        let sandbox = Sandbox::new();
        assert!(sandbox.unique("web").starts_with("web-dd-t"));
        assert!(sandbox.census().is_empty());
    }
}
