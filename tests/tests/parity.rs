//! One production path: what `container plan --format commands` prints, run by hand line by line with the stage tools,
//! gives the same container as `container run` with the same options.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "parity/snapshot.rs"]
mod snapshot;

use drydock_testkit::bins::TOOLS;
use drydock_testkit::{Sandbox, bin, have, is_root, require, run, skip};
use snapshot::Facts;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A process in new namespaces that keeps them: the throw-away host of a container, or something to join.
struct Holder(Child);

impl Holder {
    fn new(sandbox: &Sandbox, flags: &[&str]) -> Self {
        // Its end of the pipe ends it when the test ends, however that is.
        let child = Command::new("unshare")
            .args(flags)
            .args(["cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let holder = Self(child.expect("unshare(1) can be run"));
        sandbox.wait_until("the namespaces of the test", || holder.inside().is_some());
        holder
    }

    /// The process in the namespaces: what unshare(1) has become, or its child.
    fn inside(&self) -> Option<u32> {
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let child = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let cat = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "cat")
        };
        [Some(own), child].into_iter().flatten().find(cat)
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.inside().unwrap_or(0)))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container that was started one way or the other.
struct Started {
    child: Child,
    what: &'static str,
    errors: PathBuf,
    /// It runs on when its maker has ended.
    detached: bool,
}

impl Started {
    /// The process of the container's command, once it is executed.
    fn command(&mut self, sandbox: &Sandbox, words: &[String]) -> i32 {
        let mut found = None;
        sandbox.wait_until(&format!("the command of {}", self.what), || {
            if let (false, Ok(Some(ended))) = (self.detached, self.child.try_wait()) {
                panic!("{} ended too early, {ended}:\n{}", self.what, self.said());
            }
            found = process_of(words);
            found.is_some()
        });
        found.expect("it was found")
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn process_of(words: &[String]) -> Option<i32> {
    let wanted: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let mut pids =
        pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|cmdline| cmdline == wanted));
    pids.next()
}

/// One set of options, run both ways under one name.
struct Parity<'a> {
    sandbox: &'a Sandbox,
    name: String,
    root: Option<PathBuf>,
    others: Vec<PathBuf>,
    options: Vec<String>,
    words: Vec<String>,
    /// The options name a bundle, which has its own command.
    bundle: bool,
    /// Facts that may differ.
    differs: &'static [&'static str],
}

impl<'a> Parity<'a> {
    fn new(sandbox: &'a Sandbox, options: &[&str]) -> Self {
        // Nobody else sleeps for so long.
        static TESTS: AtomicU32 = AtomicU32::new(100);
        let seconds = format!("{}{:03}", std::process::id(), TESTS.fetch_add(1, Ordering::Relaxed));
        Self {
            sandbox,
            name: sandbox.unique("parity"),
            root: None,
            others: Vec::new(),
            options: options.iter().map(ToString::to_string).collect(),
            words: vec!["sleep".into(), seconds],
            bundle: false,
            differs: &[],
        }
    }

    fn container(&self, host: &Holder, verb: &[&str]) -> Command {
        let mut command = self.within(host, &bin("container"));
        if let Some(root) = &self.root {
            command.env_remove("DRYDOCK_ROOT").arg("--root").arg(root);
        }
        command.args(verb);
        command
    }

    fn within(&self, host: &Holder, program: &Path) -> Command {
        let mut command = self.sandbox.command("container");
        let (data, state) = (self.sandbox.data(), self.sandbox.state());
        command = {
            let mut outer = Command::new("nsenter");
            outer.arg(format!("--net={}", host.namespace("net").display())).arg("--").arg(program);
            outer.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
            outer.env("DRYDOCK_ROOT", state).env("DRYDOCK_DATA", data);
            outer
        };
        command
    }

    fn start(&self, what: &'static str, mut command: Command) -> Started {
        let errors = self.sandbox.join("errors");
        let file = fs::File::create(&errors).expect("a file in the sandbox");
        // Standard input is a pipe, so that it shows whether it is passed on.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).spawn();
        let detached = self.options.iter().any(|option| option == "-d");
        Started { child: child.expect("it can be run"), what, errors, detached }
    }

    fn with(&self, verb: &str, more: &[&str]) -> Vec<String> {
        if self.bundle && verb == "run" {
            // As runc has it: the name comes last.
            let words = ["run".to_string()].into_iter().chain(self.options.iter().cloned());
            return words.chain([self.name.clone()]).collect();
        }
        let own = [verb, "--name", &self.name].into_iter().chain(more.iter().copied()).map(String::from);
        let words = own.chain(self.options.iter().cloned());
        if self.bundle {
            return words.collect();
        }
        words.chain(["--".to_string()]).chain(self.words.iter().cloned()).collect()
    }

    fn lines(&self, host: &Holder) -> String {
        let words = self.with("plan", &["--format", "commands"]);
        let plan = run(self.container(host, &[]).args(words)).success();
        let mut open = false;
        for line in plan.stdout.lines() {
            // A word may go on in the next line, in quotes.
            let goes_on = open;
            open ^= !line.starts_with('#') && line.replace("'\\''", "").matches('\'').count() % 2 == 1;
            if goes_on {
                continue;
            }
            let first = line.split(' ').next().unwrap_or_default();
            assert!(
                first == "#" || (TOOLS.contains(&first) && first != "container"),
                "not a stage tool's line: {line}"
            );
        }
        plan.stdout
    }

    /// Looks at a container and takes it away again.
    fn look(&self, host: &Holder, mut started: Started) -> Facts {
        let pid = started.command(self.sandbox, &self.words);
        self.sandbox.wait_until("the command has been loaded, and sleeps", || is_asleep(pid));
        let facts = snapshot::take(self.sandbox, &self.name, pid, &host.namespace("net"), &self.others);
        run(self.container(host, &["delete", "--force", &self.name]).stdin(Stdio::null())).success();
        started.child.wait().expect("it can be waited for");
        let state = self.root.clone().unwrap_or(self.sandbox.state()).join(&self.name);
        assert!(!state.exists(), "{} left {}", started.what, state.display());
        let links = run(Command::new("nsenter")
            .arg(format!("--net={}", host.namespace("net").display()))
            .args(["ls", "/proc/sys/net/ipv4/conf"]));
        assert!(
            !links.stdout.contains("drydock0") && !links.stdout.contains("dd-"),
            "{} left links:\n{}",
            started.what,
            links.stdout
        );
        assert!(!Path::new("/run/netns").join(&self.name).exists(), "{} left its namespace", started.what);
        assert!(
            !self.sandbox.data().join("containers").join(&self.name).exists(),
            "{} left its layers",
            started.what
        );
        facts
    }

    /// Both ways; what was seen.
    fn check(&self) -> Facts {
        self.check_lines().0
    }

    /// Both ways; what was seen, and the lines.
    fn check_lines(&self) -> (Facts, String) {
        let mut run = self.by_run();
        let (mut by_hand, lines) = self.by_hand();
        for fact in self.differs {
            run.remove(*fact);
            by_hand.remove(*fact);
        }
        let difference = snapshot::difference(&run, &by_hand);
        assert!(
            difference.is_empty(),
            "not the same container:\n{}\n--- the lines:\n{lines}",
            difference.join("\n")
        );
        assert!(run.len() > 100, "only {} facts", run.len());
        (run, lines)
    }

    fn by_run(&self) -> Facts {
        let host = Holder::new(self.sandbox, &["--net"]);
        let run = self.start("container run", {
            let mut command = self.container(&host, &[]);
            command.args(self.with("run", &[]));
            command
        });
        self.look(&host, run)
    }

    fn by_hand(&self) -> (Facts, String) {
        let host = Holder::new(self.sandbox, &["--net"]);
        let lines = self.lines(&host);
        let script = self.sandbox.join("by-hand.sh");
        fs::write(&script, &lines).expect("a file in the sandbox");
        let by_hand = self.start("the lines by hand", {
            let mut command = self.within(&host, Path::new("sh"));
            let path = std::env::var("PATH").unwrap_or_default();
            let tools = bin("init").parent().expect("it is in a directory").display().to_string();
            command.env("PATH", format!("{tools}:{path}")).arg("-e").arg(&script);
            if self.root.is_some() {
                command.env_remove("DRYDOCK_ROOT");
            }
            command
        });
        (self.look(&host, by_hand), lines)
    }
}

/// Whether a process is in sleep(3): before, the dynamic linker has files open.
fn is_asleep(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|word| word.parse().ok());
    number.is_some_and(|n: i64| [nix::libc::SYS_clock_nanosleep, nix::libc::SYS_nanosleep].contains(&n))
}

/// What every test here needs, or why it cannot run.
fn able() -> Result<Sandbox, &'static str> {
    if !is_root() {
        return Err("needs root");
    }
    if !(have("unshare") && have("nsenter")) {
        return Err("needs unshare(1) and nsenter(1)");
    }
    for tool in TOOLS.into_iter().filter(|tool| *tool != "monitor") {
        bin(tool);
    }
    Ok(Sandbox::new())
}

macro_rules! sandbox {
    () => {
        match able() {
            Ok(sandbox) => sandbox,
            Err(reason) => {
                skip(reason);
                return;
            }
        }
    };
}

#[test]
fn the_default_with_limits_and_a_published_port() {
    let sandbox = sandbox!();
    let options = [
        "--net",
        "bridge",
        "--memory",
        "64M",
        "--cpus",
        "0.5",
        "--pids",
        "50",
        "--cpu-weight",
        "50",
        "-p",
        "8080:80",
    ];
    Parity::new(&sandbox, &options).check();
}

#[test]
fn a_closed_container() {
    let sandbox = sandbox!();
    let data = sandbox.join("my data");
    fs::create_dir(&data).unwrap();
    let volume = format!("{}:/data:ro", data.display());
    let options = [
        "--net",
        "none",
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m,mode=700",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_BIND_SERVICE",
        "-u",
        "1000:1001",
        "-w",
        "/scratch",
        "-e",
        "A=b c'd \"$HOME\" `id`",
        "-e",
        "LINES_2=a\nb",
        "--ulimit",
        "nofile=100:200",
        "--security-opt",
        "no-new-privileges",
        "-v",
        &volume,
        "--hostname",
        "other",
        "--shm-size",
        "1m",
        "--pids",
        "1",
    ];
    Parity::new(&sandbox, &options).check();
}

#[test]
fn an_open_container() {
    let sandbox = sandbox!();
    let options = [
        "--net",
        "host",
        "--ns",
        "pid=host",
        "--ns",
        "ipc=host",
        "--ns",
        "uts=host",
        "--ns",
        "cgroup=host",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "no-new-privileges=false",
        "--cap-add",
        "ALL",
        "--pids",
        "-1",
        "-i",
    ];
    Parity::new(&sandbox, &options).check();
}

#[test]
fn a_directory_as_root_with_an_address_and_names() {
    let sandbox = sandbox!();
    let root = sandbox.join("root fs");
    sandbox.run("rootfs", &["new", &root.display().to_string()]).success();
    sandbox.run("rootfs", &["copy", &root.display().to_string(), "/bin/sleep"]).success();
    let env = sandbox.join("env file");
    fs::write(&env, "# comment\nFROM_FILE=1 2\n").unwrap();
    let root = root.display().to_string();
    let options = [
        "--rootfs",
        &root,
        "--net",
        "bridge",
        "--ip",
        "10.88.0.77",
        "--dns",
        "9.9.9.9",
        "--add-host",
        "db:10.0.0.5",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=80",
        "--sysctl",
        "kernel.shmmax=1000000",
        "--env-file",
        "./env file",
        "--memory",
        "64M",
        "--swap",
        "32M",
    ];
    let mut parity = Parity::new(&sandbox, &options);
    parity.root = Some(sandbox.join("other state"));
    parity.check();
}

#[test]
fn namespaces_of_others() {
    let sandbox = sandbox!();
    let other = Holder::new(&sandbox, &["--net", "--ipc", "--uts"]);
    let net = format!("ns:{}", other.namespace("net").display());
    let ipc = format!("ipc={}", other.namespace("ipc").display());
    let uts = format!("uts={}", other.namespace("uts").display());
    let options = ["--net", &net, "--ns", &ipc, "--ns", &uts, "--ns", "time=new"];
    let mut parity = Parity::new(&sandbox, &options);
    parity.others = vec![other.namespace("")];
    let facts = parity.check();
    for (kind, which) in [
        ("net", "of other 0"),
        ("ipc", "of other 0"),
        ("uts", "of other 0"),
        ("time", "its own"),
        ("user", "the host's"),
    ] {
        assert_eq!(facts[&format!("{kind} namespace")], which, "{kind}");
    }
}

#[test]
fn a_pid_namespace_of_others() {
    let sandbox = sandbox!();
    let other = Holder::new(&sandbox, &["--pid", "--fork"]);
    let pid = format!("pid={}", other.namespace("pid").display());
    let mut parity = Parity::new(&sandbox, &["--net", "none", "--ns", &pid]);
    parity.others = vec![other.namespace("")];
    let facts = parity.check();
    assert_eq!(facts["pid namespace"], "of other 0");
}

#[test]
fn under_a_reaper() {
    let sandbox = sandbox!();
    let mut program = Vec::new();
    fs::File::open(bin("init")).unwrap().read_to_end(&mut program).unwrap();
    let dynamic = program.windows(9).any(|bytes| bytes == b"/ld-linux");
    require!(!dynamic, "init is linked dynamically: it cannot run in a container's root");
    Parity::new(&sandbox, &["--net", "none", "--init"]).check();
}

#[test]
fn a_user_namespace_over_the_default_root() {
    let sandbox = sandbox!();
    let data = sandbox.join("data of the host");
    fs::create_dir(&data).unwrap();
    let volume = format!("{}:/data", data.display());
    let options = ["--userns", "0:700000:65536", "-v", &volume, "--memory", "64M", "-u", "5:7"];
    let facts = Parity::new(&sandbox, &options).check();
    assert_eq!(facts["user namespace"], "its own");
    assert_eq!(facts["Uid"].split_whitespace().next(), Some("700005"));
}

#[test]
fn a_user_namespace_over_a_directory() {
    let sandbox = sandbox!();
    let root = sandbox.join("root fs");
    sandbox.run("rootfs", &["new", &root.display().to_string()]).success();
    sandbox.run("rootfs", &["copy", &root.display().to_string(), "/bin/sleep"]).success();
    let root = root.display().to_string();
    let facts = Parity::new(&sandbox, &["--userns", "auto", "--rootfs", &root, "--net", "host"]).check();
    assert_eq!(facts["user namespace"], "its own");
}

#[test]
fn a_terminal() {
    let sandbox = sandbox!();
    let facts = Parity::new(&sandbox, &["--net", "none", "-t", "-i"]).check();
    assert!(facts["open files"].contains("1 /dev/pts/0"), "{}", facts["open files"]);
}

#[test]
fn in_the_background_with_what_only_the_record_has() {
    let sandbox = sandbox!();
    let options = ["--net", "none", "-d", "--label", "a=b", "--stop-signal", "INT", "--stop-timeout", "1"];
    let mut parity = Parity::new(&sandbox, &options);
    // The supervisor gives it pipes, the shell the log itself.
    parity.differs = &["open files"];
    let lines = parity.check_lines().1;
    for said in ["# --label a=b: recorded by container only", "# --stop-signal INT", "# --stop-timeout 1"] {
        assert!(lines.contains(said), "{said}:\n{lines}");
    }
    assert!(lines.contains(" </dev/null >"), "{lines}");
}

/// A bundle in the sandbox: its directory.
fn bundle(sandbox: &Sandbox, words: &[String], more: &str) -> PathBuf {
    let dir = sandbox.join("bundle");
    let root = dir.join("rootfs").display().to_string();
    fs::create_dir_all(&dir).unwrap();
    sandbox.run("rootfs", &["new", &root]).success();
    sandbox.run("rootfs", &["copy", &root, "/bin/sleep"]).success();
    let config = format!(
        r#"{{
        "ociVersion": "1.2.0", "hostname": "bundled", "annotations": {{"a": "b"}},
        "root": {{"path": "rootfs", "readonly": true}},
        "process": {{
            "args": {words:?}, "cwd": "/tmp", "noNewPrivileges": true,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TEXT=it's \"here\""],
            "user": {{"uid": 5, "gid": 7, "additionalGids": [8, 9], "umask": 23}},
            "capabilities": {{
                "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
                "inheritable": [], "ambient": []
            }},
            "rlimits": [{{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}}], "oomScoreAdj": 100
        }},
        "mounts": [
            {{"destination": "/proc", "type": "proc", "source": "proc"}},
            {{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]}},
            {{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "size=1m"]}}
        ],
        "linux": {{
            "namespaces": [
                {{"type": "pid"}}, {{"type": "network"}}, {{"type": "ipc"}}, {{"type": "uts"}}, {{"type": "mount"}}
            ],
            "resources": {{"pids": {{"limit": 33}}, "memory": {{"limit": 67108864}}}},
            "seccomp": {{
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}}]
            }},
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]
        }}{more}
    }}"#
    );
    fs::write(dir.join("config.json"), config).unwrap();
    dir
}

#[test]
fn a_bundle() {
    let sandbox = sandbox!();
    let mut parity = Parity::new(&sandbox, &[]);
    let dir = bundle(&sandbox, &parity.words, "").display().to_string();
    parity.options = vec!["--bundle".into(), dir];
    parity.bundle = true;
    let (facts, lines) = parity.check_lines();
    assert!(lines.contains("# /annotations: recorded by container only"), "{lines}");
    for (fact, value) in [
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapBnd", "0000000000000021"),
        ("Groups", "8 9"),
        ("Umask", "0027"),
        ("hostname", "bundled\n"),
        ("oom_score_adj", "100\n"),
        ("cwd", "/tmp"),
        ("uts namespace", "its own"),
        ("cgroup namespace", "the host's"),
    ] {
        assert_eq!(facts[fact], value, "{fact}");
    }
    assert!(facts["environ"].contains("TEXT=it's \"here\""), "{}", facts["environ"]);
    let pids = facts.iter().find(|(name, _)| name.ends_with(" pids.max")).map(|(_, value)| value.trim());
    assert_eq!(pids, Some("33"));
}

#[test]
fn what_only_a_runtime_does_of_a_bundle_is_refused() {
    let sandbox = Sandbox::new();
    require!(is_root(), "needs root");
    let words = ["true".to_string()];
    let hooks = r#", "hooks": {"poststop": [{"path": "/bin/true"}]}"#;
    let dir = bundle(&sandbox, &words, hooks).display().to_string();
    sandbox
        .run("container", &["plan", "--format", "commands", "--bundle", &dir])
        .fails_with(2)
        .says("/hooks");
}

#[test]
fn what_lines_cannot_say_is_refused_by_name() {
    let sandbox = Sandbox::new();
    if is_root() {
        sandbox
            .run("container", &["plan", "--format", "commands", "--userns", "auto", "--net", "bridge"])
            .fails_with(2)
            .says("--userns");
    }
    sandbox
        .run("container", &["plan", "--format", "commands", "--net", "none", "--", "echo", "\u{1b}[2J"])
        .fails_with(2);
    assert!(sandbox.census().is_empty());
}
