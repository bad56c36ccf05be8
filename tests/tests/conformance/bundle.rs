//! A bundle of busybox in a sandbox of its own.

use drydock_testkit::{Output, Sandbox};
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Applets that the tests call by name.
const APPLETS: [&str; 14] = [
    "sh", "cat", "id", "ls", "echo", "pwd", "sleep", "true", "touch", "stat", "hostname", "readlink",
    "uname", "mkdir",
];

/// Where a static busybox is.
pub fn busybox() -> Option<&'static str> {
    ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
}

/// A bundle, and the container that it may become.
pub struct Bundle {
    pub sandbox: Sandbox,
    pub id: String,
    pub config: Value,
}

impl Bundle {
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let root = sandbox.join("bundle/rootfs");
        for dir in ["bin", "proc", "sys", "dev", "tmp", "mnt", "etc"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::copy(busybox().expect("busybox"), root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let id = sandbox.unique("conf");
        let config = json!({
            "ociVersion": "1.3.0",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["true"], "env": ["PATH=/bin"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }
            ],
            "linux": { "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" }
            ] }
        });
        Self { sandbox, id, config }
    }

    /// A bundle that runs this script.
    pub fn script(script: &str) -> Self {
        Self::new().with("/process/args", json!(["sh", "-c", script]))
    }

    /// With another value at a JSON pointer, whose parent is there.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match self.config.pointer_mut(parent).unwrap() {
            Value::Array(list) => list.push(value),
            object => object[name] = value,
        }
        self
    }

    pub fn without(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        self
    }

    pub fn dir(&self) -> PathBuf {
        self.sandbox.join("bundle")
    }

    pub fn write(&self) {
        std::fs::write(self.dir().join("config.json"), self.config.to_string()).unwrap();
    }

    pub fn container(&self, words: &[&str]) -> Output {
        self.sandbox.run("container", words)
    }

    pub fn run(&self) -> Output {
        self.write();
        self.container(&["run", "--bundle", self.dir().to_str().unwrap(), &self.id])
    }

    /// The container keeps the streams that it is created with, so they are files: a pipe would not end.
    pub fn create(&self) -> Output {
        self.create_with(&[])
    }

    pub fn create_with(&self, options: &[&str]) -> Output {
        self.write();
        let file = |name: &str| std::fs::File::create(self.sandbox.join(name)).unwrap();
        let mut command = self.sandbox.command("container");
        command.args(["create", "--bundle", self.dir().to_str().unwrap(), &self.id]).args(options);
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let status = command.status().unwrap();
        let read = |name: &str| std::fs::read_to_string(self.sandbox.join(name)).unwrap();
        Output {
            command: format!("{command:?}"),
            code: status.code(),
            signal: status.signal(),
            stdout: read("stdout"),
            stderr: read("stderr"),
            took: Duration::ZERO,
        }
    }

    pub fn start(&self) -> Output {
        self.container(&["start", &self.id])
    }

    /// The specification's state.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.container(&["state", &self.id]).success().stdout).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_string()
    }

    pub fn wait_for(&self, status: &str) {
        self.sandbox.wait_until(status, || self.status() == status);
    }

    /// Neither a state nor anything else of the container is there.
    pub fn is_gone(&self) {
        assert!(!self.sandbox.state().join(&self.id).exists(), "{} has a state", self.id);
    }

    /// The bundle is refused with this sentence, and nothing is left.
    pub fn is_refused(&self, says: &str) {
        self.create().fails_with(2).says(says);
        self.is_gone();
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.sandbox.command("container").args(["delete", "-f", &self.id]).output();
    }
}

/// The bundle, or a skip.
#[macro_export]
macro_rules! needs {
    () => {
        drydock_testkit::require!(drydock_testkit::is_root(), "needs root");
        drydock_testkit::require!($crate::bundle::busybox().is_some(), "needs busybox");
    };
}
