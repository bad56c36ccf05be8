//! Where an engine runs: namespaces of its own, a cgroup of its own, and an image made here.

use drydock_testkit::{Output, Sandbox, Terminal, in_vm, run};
use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the image is called.
pub const IMAGE: &str = "localhost/drydock-test:1";

/// The programs in the image.
const APPLETS: &[&str] =
    &["sh", "cat", "echo", "sleep", "true", "id", "grep", "tty", "touch", "head", "ps", "stty", "env", "ls"];

/// A mount, network, ipc and pid namespace, with a `/run` of its own; an engine in it ends with it.
pub struct Place {
    pub sandbox: Sandbox,
    holder: Child,
    pid: String,
}

impl Place {
    /// The namespaces, with `engine` (a shell command; may be empty) running in them, in the sandbox's directory.
    pub fn new(engine: &str) -> Place {
        let sandbox = Sandbox::new();
        let mut script = String::from(
            "set -e; mount --make-rprivate /; mount -t tmpfs -o mode=755 run /run; ip link set lo up\n",
        );
        // As the first process of its namespace the shell stays, to collect what engines leave to it.
        let _ = write!(
            script,
            "{engine}\ntouch {}\nset +e; while :; do wait; sleep 1; done",
            sandbox.join("up").display()
        );
        let holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                &script,
            ])
            .current_dir(sandbox.path())
            .env("DRYDOCK_ROOT", sandbox.state())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(sandbox.join("log")).expect("a log"))
            .stderr(std::fs::File::create(sandbox.join("holder.log")).expect("a log"))
            .spawn()
            .expect("unshare(1) starts");
        let mut place = Place { sandbox, holder, pid: String::new() };
        place.wait_until("the namespaces are there", |p| p.sandbox.join("up").exists());
        let children = format!("/proc/{0}/task/{0}/children", place.holder.id());
        place.pid = std::fs::read_to_string(children).expect("the holder's child").trim().to_string();
        place
    }

    /// Waits for at most a minute (ten in the VM).
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..if in_vm() { 6000 } else { 600 } {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("not in time: {what}\n{}", self.log());
    }

    /// The end of what the engine wrote.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.sandbox.join(name)).unwrap_or_default();
        let text = read("log") + &read("holder.log");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The cgroup below which the engine makes its containers'.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.sandbox.unique("engine"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid, "--mount", "--net", "--ipc", "--pid", "--"]).args(words);
        command.current_dir(self.sandbox.path()).env("DRYDOCK_ROOT", self.sandbox.state());
        command
    }

    /// Runs a command in the namespaces.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Output {
        run::run_for(&mut self.command(words), b"", Duration::from_secs(60))
    }

    /// Runs a command in the namespaces with a terminal, which stays open: with the end of input right at the beginning
    /// engines may lose a short command's output, whatever the runtime.
    #[track_caller]
    pub fn terminal(&self, words: &[&str]) -> Terminal {
        Terminal::start(&self.command(words))
    }

    /// The first file with one of these names in a container's cgroup, whose directory's name ends in `id`.
    pub fn limit(&self, id: &str, names: &[&str]) -> Option<String> {
        let mut found = Vec::new();
        for root in drydock_testkit::probe::cgroup_mounts() {
            walk(&root.join(self.cgroup().trim_start_matches('/')), &mut found);
        }
        let own =
            found.iter().filter(|dir| dir.file_name().is_some_and(|n| n.to_string_lossy().ends_with(id)));
        let mut files = own.flat_map(|dir| names.iter().map(move |name| dir.join(name)));
        files.find_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_string())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The holder ends when its child is gone, and the first process of a pid namespace goes last of all in there.
        if let Ok(pid) = self.pid.parse() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        } else {
            let _ = self.holder.kill();
        }
        let _ = self.holder.wait();
        for root in drydock_testkit::probe::cgroup_mounts() {
            let mut found = Vec::new();
            walk(&root.join(self.cgroup().trim_start_matches('/')), &mut found);
            for dir in found.iter().rev() {
                // Processes that are ending still hold theirs for a moment.
                for _ in 0..50 {
                    if std::fs::remove_dir(dir).is_ok() || !dir.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

/// A directory and all below it, parents first.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    if !dir.is_dir() {
        return;
    }
    found.push(dir.to_path_buf());
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}

/// Where a static busybox is.
pub fn busybox() -> Option<PathBuf> {
    let known = ["/usr/bin/busybox", "/bin/busybox", "/usr/bin/busybox.static", "/bin/busybox.static"];
    known.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// An archive as `docker save` writes it, of one layer: busybox.
pub fn image(sandbox: &Sandbox) -> String {
    let (root, parts) = (sandbox.join("image-root"), sandbox.join("image-parts"));
    for dir in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    std::fs::create_dir(&parts).expect("a directory");
    std::fs::copy(busybox().expect("busybox"), root.join("bin/busybox")).expect("copy of busybox");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    let users = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), users).expect("a file");
    let tar = |from: &Path, to: &Path, what: &[&str]| {
        let mut command = Command::new("tar");
        command.args(["--owner=0", "--group=0", "-C"]).arg(from).arg("-cf").arg(to).args(what);
        run::run(&mut command).success();
    };
    let layer = parts.join("layer.tar");
    tar(&root, &layer, &["."]);
    let sum = run::run(Command::new("sha256sum").arg(&layer)).success().stdout;
    let sum = sum.split(' ').next().unwrap_or_default();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
        "history": [{ "created": "2026-01-01T00:00:00Z", "created_by": "a test" }],
    });
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    std::fs::write(parts.join("config.json"), config.to_string()).expect("a file");
    std::fs::write(parts.join("manifest.json"), manifest.to_string()).expect("a file");
    let archive = sandbox.join("image.tar");
    tar(&parts, &archive, &["manifest.json", "config.json", "layer.tar"]);
    archive.display().to_string()
}
