//! A container from `run` to `delete`, by what the kernel and the command itself show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{difference, everything, in_own_network, tree};
use drydock_testkit::{CgroupMode, Output, Sandbox, cgroup_mode, have, in_vm, is_root, require, run};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A sandbox, and the container commands in it.
struct Place {
    sandbox: Sandbox,
}

impl Place {
    fn new() -> Place {
        Place { sandbox: Sandbox::new() }
    }

    fn container(&self, words: &[&str]) -> Output {
        self.sandbox.run("container", words)
    }

    /// `container run --rm OPTIONS -- sh -c SCRIPT`.
    fn sh(&self, options: &[&str], script: &str) -> Output {
        let words = [&["run", "--rm"], options, &["--", "sh", "-c", script]].concat();
        self.container(&words)
    }

    /// Starts a detached container and returns its name.
    fn start(&self, name: &str, options: &[&str], command: &[&str]) -> String {
        let id = self.sandbox.unique(name);
        let words = [&["run", "-d", "--name", &id], options, &["--"], command].concat();
        self.container(&words).success().stdout_is(&id);
        id
    }

    fn inspect(&self, id: &str) -> serde_json::Value {
        serde_json::from_str(&self.container(&["inspect", id]).success().stdout).expect("JSON")
    }

    fn pid(&self, id: &str) -> i32 {
        i32::try_from(self.inspect(id)["pid"].as_i64().expect("a pid")).unwrap()
    }

    fn delete(&self, id: &str) {
        self.container(&["delete", "--force", id]).success();
    }
}

macro_rules! place {
    () => {{
        require!(is_root(), "needs root");
        Place::new()
    }};
}

fn limit(time: Duration) -> Duration {
    if in_vm() { time * 10 } else { time }
}

#[test]
fn the_exit_code_is_the_commands() {
    let place = place!();
    place.sh(&[], "exit 0").success();
    place.sh(&[], "exit 7").exits(7);
    place.sh(&[], "sh -c 'kill -KILL $$'").exits(137);
    let reaped = place.sh(&["--init"], "kill -TERM $$");
    // A reaper that is linked dynamically, as in a build for one machine, cannot run in another root file system.
    if !reaped.stderr.contains("shared libraries") {
        reaped.exits(143);
    }
    place.container(&["run", "--rm", "--", "no-such-command"]).fails_with(127).says("no-such-command");
    place.container(&["run", "--rm", "--", "/no/such/command"]).fails_with(127);
    place.container(&["run", "--rm", "--", "/etc/passwd"]).fails_with(126).says("not executable");
    place.container(&["run", "--rm", "--", "/etc"]).fails_with(126);
    place.container(&["run", "--rm", "--no-such-option", "--", "true"]).fails_with(2);
    let gone = place.sandbox.join("gone");
    place.container(&["run", "--rm", "--rootfs", gone.to_str().unwrap(), "--", "true"]).fails_with(2);
}

/// Rows S49, S50: PID 1, a host name, a /proc of its own.
#[test]
fn pid_1_in_a_world_of_its_own() {
    let place = place!();
    let script = "echo $$; hostname; ls -d /proc/[0-9]* | wc -l; ls / | tr '\\n' ' '";
    let output = place.sh(&["--hostname", "ship"], script).success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..2], ["1", "ship"], "{}", output.describe());
    assert!(lines[2].trim().parse::<u32>().unwrap() <= 4, "{}", output.describe());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(host.trim(), "ship");
    let kinds = "for k in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$k; done";
    for link in place.sh(&[], kinds).success().stdout.lines() {
        let kind = link.split(':').next().unwrap();
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(own.to_str().unwrap(), link);
    }
}

#[test]
fn standard_input() {
    let place = place!();
    let feed =
        |words: &[&str]| run::run_for(place.sandbox.command("container").args(words), b"hi\n", run::TIME);
    feed(&["run", "--rm", "-i", "--", "cat"]).success().stdout_is("hi");
    feed(&["run", "--rm", "--", "cat"]).success().stdout_is("");
    let streams = place.sh(&[], "echo out; echo err >&2").success();
    assert_eq!((streams.stdout.as_str(), streams.stderr.as_str()), ("out\n", "err\n"));
    // A large stream arrives whole.
    let much = place.sh(&[], "head -c 3000000 /dev/zero | tr '\\0' x").success();
    assert_eq!(much.stdout.len(), 3_000_000);
}

/// Rows S52 and S68, and every verb on a detached container.
#[test]
fn the_verbs() {
    let place = place!();
    let script = "echo out; echo err >&2; trap 'exit 5' TERM; while :; do sleep 0.05; done";
    let id = place.start("verbs", &[], &["sh", "-c", script]);
    place.sandbox.wait_until("the log", || place.container(&["logs", &id]).stdout.contains("out"));
    place.container(&["logs", &id]).success().stdout_has("out").says("err");
    place.container(&["list"]).success().stdout_has(&id).stdout_has("running");
    place.container(&["list", "--json"]).success().stdout_has(&id);
    place.container(&["ps", &id]).success().stdout_has("sh -c");
    place.container(&["stats", &id]).success().stdout_has(&id);
    let state = place.inspect(&id);
    assert_eq!(state["status"], "running");
    assert!(state["namespaces"]["pid"].as_str().unwrap().starts_with("pid:["));
    place.container(&["exec", &id, "--", "sh", "-c", "echo inside; exit 3"]).exits(3).stdout_is("inside");
    place.container(&["exec", &id, "--", "no-such-command"]).fails_with(127);
    place.container(&["exec", &id, "--", "/etc/passwd"]).fails_with(126);
    place.container(&["delete", &id]).fails_with(125).says("is running");
    let waiting =
        place.sandbox.command("container").args(["wait", &id]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    place.container(&["kill", "-s", "NONE", &id]).fails_with(2);
    place.container(&["kill", "-s", "TERM", &id]).success();
    let waited = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&waited.stdout).trim(), "5");
    place.container(&["wait", &id]).success().stdout_is("5");
    place.container(&["list"]).success().stdout_has("stopped (5)");
    place.container(&["exec", &id, "--", "true"]).fails_with(125).says("not running");
    place.container(&["kill", &id]).fails_with(125).says("not running");
    place.container(&["logs", &id]).success().stdout_has("out");
    place.container(&["delete", &id]).success();
    for verb in ["inspect", "ps", "logs", "attach", "stop", "kill", "delete", "wait", "stats"] {
        place.container(&[verb, &id]).fails_with(2).says("does not exist");
    }
    place.container(&["exec", &id, "--", "true"]).fails_with(2).says("does not exist");
    place.container(&["no-such-verb"]).fails_with(2);
}

#[test]
fn stopping() {
    let place = place!();
    // A command that takes the signal's default action ends at once, though it is PID 1.
    let id = place.start("plain", &[], &["sleep", "60"]);
    let started = Instant::now();
    place.container(&["stop", "--time", "25", &id]).success();
    assert!(started.elapsed() < limit(Duration::from_secs(20)), "{:?}", started.elapsed());
    let code = place.container(&["wait", &id]).success().stdout;
    assert!(["143", "137"].contains(&code.trim()), "{code}");
    place.delete(&id);
    // One that ignores it gets the grace and then SIGKILL.
    let id = place.start("deaf", &[], &["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]);
    place.sandbox.wait_until("its trap", || place.container(&["logs", &id]).stdout.contains("up"));
    let started = Instant::now();
    place.container(&["stop", "--time", "1", &id]).success();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    place.container(&["wait", &id]).success().stdout_is("137");
    place.delete(&id);
    // The stop signal is an option.
    let id = place.start(
        "usr",
        &["--stop-signal", "USR1"],
        &["sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.1; done"],
    );
    place.sandbox.wait_until("its trap", || place.container(&["logs", &id]).stdout.contains("up"));
    place.container(&["stop", &id]).success();
    place.container(&["wait", &id]).success().stdout_is("9");
    place.delete(&id);
}

#[test]
fn signals_are_forwarded() {
    let place = place!();
    for (signal, script, code) in [
        ("TERM", "trap 'exit 21' TERM; echo up; while :; do sleep 0.05; done", 21),
        ("INT", "trap 'exit 22' INT; echo up; while :; do sleep 0.05; done", 22),
        ("HUP", "trap 'exit 23' HUP; echo up; while :; do sleep 0.05; done", 23),
        ("USR1", "trap 'exit 24' USR1; echo up; while :; do sleep 0.05; done", 24),
        ("TERM", "echo up; exec sleep 60", 143),
    ] {
        let up = place.sandbox.join("up");
        let file = std::fs::File::create(&up).unwrap();
        let mut command = place.sandbox.command("container");
        command.args(["run", "--rm", "--", "sh", "-c", script]).stdin(Stdio::null()).stdout(file);
        let mut child = command.spawn().unwrap();
        place.sandbox.wait_until("the command", || std::fs::read_to_string(&up).unwrap().contains("up"));
        let started = Instant::now();
        let name = format!("SIG{signal}").parse::<nix::sys::signal::Signal>().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), name).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        assert!(started.elapsed() < limit(Duration::from_secs(20)), "{signal}: {:?}", started.elapsed());
    }
}

/// A terminal of its own, of the caller's size, and the caller's restored afterwards.
#[test]
fn a_terminal() {
    let place = place!();
    require!(have("setsid"), "setsid(1) is not installed");
    let tool = drydock_testkit::bin("container").display().to_string();
    let in_terminal = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command.env("DRYDOCK_ROOT", place.sandbox.state()).env("DRYDOCK_DATA", place.sandbox.data());
        drydock_testkit::Terminal::start(&command).end()
    };
    let output = in_terminal(&format!(
        "stty rows 33 cols 99; {tool} run --rm -it -- sh -c 'tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all'"
    ));
    let output = output.success().stdout_has("/dev/pts/0").stdout_has("33 99").stdout_has("all");
    assert!(output.stdout.contains("\r\n"), "{}", output.describe());
    // Raw meanwhile; afterwards as before, also when the tool is told to end.
    for (after, command) in [("", "true"), ("& sleep 1; kill -TERM $!; wait $!", "sleep 60")] {
        let input = if after.is_empty() { "" } else { "</dev/tty" };
        let output = in_terminal(&format!(
            "a=$(stty -g); {tool} run --rm -it -- {command} {input} {after}; b=$(stty -g); test \"$a\" = \"$b\" && echo restored"
        ));
        output.stdout_has("restored");
    }
    // Without -t there is none, whatever the caller has.
    in_terminal(&format!("{tool} run --rm -i -- sh -c 'tty; ls -l /proc/self/fd/0' || true"))
        .stdout_lacks("pts/0\r\nall");
    // And -t with no terminal outside is still one inside.
    place.container(&["run", "--rm", "-t", "--", "tty"]).success().stdout_is("/dev/pts/0");
}

#[test]
fn the_surroundings() {
    let place = place!();
    let file = place.sandbox.join("env");
    std::fs::write(&file, "# a comment\nFROM_FILE=one two\nBOTH=file\n").unwrap();
    let env = ["-e", "A=1", "-e", "BOTH=option", "--env-file", file.to_str().unwrap()];
    place.sh(&env, "echo $A-$BOTH-$FROM_FILE").success().stdout_is("1-option-one two");
    // Nothing of the caller's environment comes along unasked.
    let mut command = place.sandbox.command("container");
    command.env("SECRET", "x").args(["run", "--rm", "--", "sh", "-c", "echo [$SECRET]"]);
    drydock_testkit::run(&mut command).success().stdout_is("[]");
    let mut command = place.sandbox.command("container");
    command.env("SECRET", "x").args(["run", "--rm", "-e", "SECRET", "--", "sh", "-c", "echo [$SECRET]"]);
    drydock_testkit::run(&mut command).success().stdout_is("[x]");
    place.sh(&["-w", "/usr"], "pwd").success().stdout_is("/usr");
    place.sh(&["-w", "/new/deep"], "pwd").success().stdout_is("/new/deep");
    place.sh(&["-u", "1000:1001"], "id -u; id -g; id -G").success().stdout_is("1000\n1001\n1001");
    place
        .sh(&["--hostname", "box"], "hostname; cat /etc/hostname; grep -c box /etc/hosts")
        .success()
        .stdout_is("box\nbox\n1");
    place.sh(&["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn").success().stdout_is("100\n200");
    place
        .sh(&["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward")
        .success()
        .stdout_is("1");
    place.sh(&["--sysctl", "kernel.msgmax=4242"], "cat /proc/sys/kernel/msgmax").success().stdout_is("4242");
}

#[test]
fn files() {
    let place = place!();
    let shared = place.sandbox.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("there"), "host\n").unwrap();
    let volume = format!("{}:/v", shared.display());
    place.sh(&["-v", &volume], "cat /v/there; echo inside > /v/new").success().stdout_is("host");
    assert_eq!(std::fs::read_to_string(shared.join("new")).unwrap(), "inside\n");
    place.sh(&["-v", &format!("{volume}:ro")], "cat /v/there; echo no > /v/there").says("Read-only").exits(2);
    assert_eq!(std::fs::read_to_string(shared.join("there")).unwrap(), "host\n");
    let missing = format!("{}/missing:/v", shared.display());
    place.container(&["run", "--rm", "-v", &missing, "--", "true"]).fails_with(2).says("missing");
    assert!(!shared.join("missing").exists());
    place
        .sh(&["--tmpfs", "/t:size=1m"], "stat -f -c %T /t; head -c 2000000 /dev/zero > /t/f")
        .stdout_is("tmpfs")
        .says("No space left");
    place.sh(&["--read-only"], "echo x > /file").says("Read-only").exits(2);
    place
        .sh(&["--read-only", "--tmpfs", "/run"], "echo x > /run/file && cat /run/file")
        .success()
        .stdout_is("x");
    // Each starts clean: what one writes, the next does not see, nor does the shared root keep it.
    place.sh(&[], "echo mine > /etc/mine; echo broken > /bin/sh || true; rm -f /bin/cat").success();
    place.sh(&[], "cat /etc/mine").exits(1);
    place.sh(&[], "echo works").success().stdout_is("works");
}

/// With --rootfs what is written stays in the directory, and nothing of the tool's own does.
#[test]
fn a_directory_as_root() {
    let place = place!();
    let root = place.sandbox.join("root");
    let root_text = root.display().to_string();
    place.sandbox.run("rootfs", &["new", &root_text]).success();
    for program in ["sh", "cat", "ls"] {
        place.sandbox.run("rootfs", &["copy", &root_text, program]).success();
    }
    let before = tree(&root);
    place.sh(&["--rootfs", &root_text], "echo kept > /kept; cat /etc/hosts > /dev/null").success();
    assert_eq!(std::fs::read_to_string(root.join("kept")).unwrap(), "kept\n");
    let new: Vec<String> = tree(&root).into_iter().filter(|path| !before.contains(path)).collect();
    let expected = ["kept", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"];
    assert!(new.iter().all(|path| expected.contains(&path.as_str()) || path.ends_with('/')), "{new:?}");
    place.sh(&["--rootfs", &root_text, "--read-only"], "echo x > /no").exits(2);
    assert!(!root.join("no").exists());
}

#[test]
fn limits_as_the_kernel_has_them() {
    let place = place!();
    require!(cgroup_mode() != CgroupMode::None, "no cgroup hierarchy is mounted");
    let options = ["--cpus", "0.5", "--memory", "100M", "--swap", "50M", "--pids", "77"];
    let id = place.start("limits", &options, &["sleep", "60"]);
    let state = place.inspect(&id);
    let dirs: Vec<&str> = state["cgroup"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
    let read = |name: &str| dirs.iter().find_map(|dir| std::fs::read_to_string(format!("{dir}/{name}")).ok());
    let lacking = state["lacking"].to_string();
    let expect = |v2: (&str, &str), v1: (&str, &str)| {
        let (file, value) = if cgroup_mode() == CgroupMode::V2 { v2 } else { v1 };
        match read(file) {
            Some(text) => assert_eq!(text.trim(), value, "{file}"),
            // A controller that the machine does not offer is named.
            None => assert!(lacking.len() > 2, "{file} is not there and nothing is said to be lacking"),
        }
    };
    let bytes = (100u64 << 20).to_string();
    expect(("memory.max", &bytes), ("memory.limit_in_bytes", &bytes));
    expect(
        ("memory.swap.max", &(50u64 << 20).to_string()),
        ("memory.memsw.limit_in_bytes", &(150u64 << 20).to_string()),
    );
    expect(("cpu.max", "50000 100000"), ("cpu.cfs_quota_us", "50000"));
    expect(("pids.max", "77"), ("pids.max", "77"));
    let pid = state["pid"].as_i64().unwrap();
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(own.lines().any(|line| line.ends_with(&format!("drydock/{id}"))), "{own}");
    place.delete(&id);
    assert!(dirs.iter().all(|dir| !std::path::Path::new(dir).exists()));
}

#[test]
fn out_of_memory() {
    let place = place!();
    let id = place.sandbox.unique("oom");
    let probe = place.sh(&["--memory", "20M"], "true");
    require!(!probe.stderr.contains("memory"), "no memory controller");
    place
        .container(&["run", "--name", &id, "--memory", "20M", "--swap", "0", "--", "tail", "/dev/zero"])
        .exits(137);
    let state = place.inspect(&id);
    assert_eq!((&state["oom_killed"], &state["exit_code"]), (&true.into(), &137.into()));
    place.delete(&id);
}

#[test]
fn a_fork_bomb_is_contained_and_deleted() {
    let place = place!();
    let bomb = "b() { b | b & }; b; while :; do sleep 1; done";
    // The other tests load the machine meanwhile: the best of three counts.
    let took = (0..3).map(|i| {
        let id = place.start(&format!("bomb{i}"), &["--pids", "60"], &["sh", "-c", bomb]);
        std::thread::sleep(limit(Duration::from_millis(500)));
        let pid = place.pid(&id);
        let started = Instant::now();
        place.delete(&id);
        let took = started.elapsed();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        took
    });
    let best = took.min().unwrap();
    assert!(best < limit(Duration::from_secs(10)), "{best:?}");
}

/// Row S12: two containers do not see each other.
#[test]
fn two_pid_namespaces() {
    let place = place!();
    let a = place.start("a", &[], &["sleep", "100"]);
    let b = place.start("b", &[], &["sleep", "100"]);
    let (x, y) = (place.inspect(&a), place.inspect(&b));
    assert_ne!(x["namespaces"]["pid"], y["namespaces"]["pid"]);
    for id in [&a, &b] {
        let text = place.container(&["ps", id]).success().stdout;
        assert_eq!(text.lines().count(), 2, "a heading and one process: {text}");
    }
    place
        .container(&["exec", &a, "--", "sh", "-c", &format!("kill -0 {}", y["pid"])])
        .exits(1)
        .says("No such process");
    place.delete(&a);
    place.delete(&b);
}

#[test]
fn privileges() {
    let place = place!();
    let status = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t' ' '";
    let field = |output: &Output, name: &str| {
        let value = output.stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        value.trim_start_matches(':').trim().to_string()
    };
    let plain = place.sh(&[], status).success();
    assert_eq!((field(&plain, "NoNewPrivs"), field(&plain, "Seccomp")), ("1".into(), "2".into()));
    let dropped = place.sh(&["--cap-drop", "ALL"], status).success();
    assert_eq!(field(&dropped, "CapEff"), "0000000000000000");
    let added = place.sh(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], status).success();
    assert_eq!(field(&added, "CapEff"), format!("{:016x}", 1u64 << 12));
    let free = place
        .sh(&["--security-opt", "no-new-privileges=false", "--security-opt", "seccomp=unconfined"], status)
        .success();
    assert_eq!((field(&free, "NoNewPrivs"), field(&free, "Seccomp")), ("0".into(), "0".into()));
}

#[test]
fn namespaces_that_are_not_new() {
    let place = place!();
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for kind in ["pid", "ipc", "uts", "cgroup"] {
        let name = place.sandbox.unique("n");
        let words = [
            "run",
            "--rm",
            "--name",
            &name,
            "--ns",
            &format!("{kind}=host"),
            "--",
            "readlink",
            &format!("/proc/self/ns/{kind}"),
        ];
        place.container(&words).success().stdout_is(&own(kind));
    }
    place
        .container(&["run", "--rm", "--net", "host", "--", "readlink", "/proc/self/ns/net"])
        .success()
        .stdout_is(&own("net"));
    let id = place.start("holder", &[], &["sleep", "60"]);
    let pid = place.pid(&id);
    let joined = format!("ns:/proc/{pid}/ns/net");
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().display().to_string();
    place
        .container(&["run", "--rm", "--net", &joined, "--", "readlink", "/proc/self/ns/net"])
        .success()
        .stdout_is(&theirs);
    let joined = format!("ipc=/proc/{pid}/ns/ipc");
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/ipc")).unwrap().display().to_string();
    place
        .container(&["run", "--rm", "--ns", &joined, "--", "readlink", "/proc/self/ns/ipc"])
        .success()
        .stdout_is(&theirs);
    place.delete(&id);
    place.sh(&["--net", "none"], "ip -o link | wc -l").success().stdout_is("1");
}

/// Two containers on one bridge, both on port 80, published on the host and reached by address.
#[test]
fn published_ports() {
    let place = place!();
    require!(have("ip") && have("python3"), "ip and python3 are not installed");
    in_own_network(|| {
        // The default root file system has no server: the host's files are one's root for this.
        let before = everything(&place.sandbox);
        let serve = "import socket,os\ns=socket.socket();s.setsockopt(1,2,1);s.bind(('',80));s.listen()\nprint('up',flush=True)\nwhile 1:\n c,_=s.accept();c.sendall(('hello-'+os.uname()[1]).encode());c.close()";
        let host: Vec<String> = ["usr", "lib", "lib64"]
            .iter()
            .filter(|d| std::path::Path::new(&format!("/{d}")).is_dir())
            .map(|d| format!("/{d}:/{d}:ro"))
            .collect();
        let mut volumes: Vec<&str> = Vec::new();
        for volume in host.iter().take(1) {
            volumes.extend(["-v", volume]);
        }
        let start = |name: &str, port: &str| {
            let options = [&volumes[..], &["--net", "bridge", "-p", port, "--hostname", name]].concat();
            place.start(name, &options, &["python3", "-c", serve])
        };
        let (a, b) = (start("a", "8081:80"), start("b", "8082:80"));
        let hear = |address: &str| -> Option<String> {
            use std::io::Read;
            let mut text = String::new();
            let mut stream =
                std::net::TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2))
                    .ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        };
        for (id, name, port) in [(&a, "a", 8081), (&b, "b", 8082)] {
            place.sandbox.wait_until("the server", || place.container(&["logs", id]).stdout.contains("up"));
            assert_eq!(hear(&format!("127.0.0.1:{port}")).as_deref(), Some(format!("hello-{name}").as_str()));
            let address =
                place.inspect(id)["addresses"][0].as_str().unwrap().split('/').next().unwrap().to_string();
            assert_eq!(hear(&format!("{address}:80")).as_deref(), Some(format!("hello-{name}").as_str()));
        }
        // A port that is taken is refused, and the one who has it keeps it.
        place.container(&["run", "--rm", "-p", "8081:80", "--", "true"]).exits(125).says("8081");
        assert!(hear("127.0.0.1:8081").is_some());
        place.delete(&a);
        place.delete(&b);
        assert_eq!(difference(&before, &everything(&place.sandbox)), "");
        assert_eq!(hear("127.0.0.1:8081"), None);
    });
}

#[test]
fn one_name_one_winner() {
    let place = place!();
    place.sh(&[], "true").success();
    let id = place.sandbox.unique("one");
    let count = if in_vm() { 10 } else { 50 };
    let children: Vec<_> = (0..count)
        .map(|_| {
            let mut command = place.sandbox.command("container");
            command.args(["run", "-d", "--name", &id, "--", "sleep", "60"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let ends: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let won = ends.iter().filter(|end| end.status.success()).count();
    let refused = ends
        .iter()
        .filter(|end| end.status.code() == Some(125) && String::from_utf8_lossy(&end.stderr).contains(&id))
        .count();
    assert_eq!((won, refused), (1, count - 1));
    let state = place.inspect(&id);
    assert_eq!(state["status"], "running");
    place.delete(&id);
}

#[test]
fn a_hundred_at_once() {
    let place = place!();
    place.sh(&[], "true").success();
    let count = if in_vm() { 10 } else { 100 };
    let name = |i: usize| place.sandbox.unique(&format!("h{i}"));
    let children: Vec<_> = (0..count)
        .map(|i| {
            let mut command = place.sandbox.command("container");
            command.args(["run", "--rm", "--net", "none", "--name", &name(i), "--", "true"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let end = child.wait_with_output().unwrap();
        assert_eq!(end.status.code(), Some(0), "{}", String::from_utf8_lossy(&end.stderr));
    }
    assert!(tree(&place.sandbox.data().join("containers")).is_empty());
    place.container(&["gc", "--check"]).success();
    // The sandbox looks for the rest.
}

#[test]
fn names_that_mean_nothing_or_too_much() {
    let place = place!();
    let a = place.start("web-1", &[], &["sleep", "60"]);
    let b = place.start("web-2", &[], &["sleep", "60"]);
    place.container(&["inspect", "web"]).fails_with(2).says("ambiguous");
    place.container(&["inspect", &a[..5]]).success();
    // Deleting takes whole names: this one is nobody's, which --force passes over.
    place.container(&["delete", "--force", "web"]).success();
    for bad in ["../etc", "", "a/b", "-x", "a b", "é", "a\nb"] {
        let refused = place.container(&["inspect", "--", bad]);
        assert_eq!(refused.code, Some(2), "{}", refused.describe());
    }
    place.container(&["delete", &a, "no-such"]).fails_with(2).says("no-such");
    assert_eq!(place.inspect(&a)["status"], "running");
    place.delete(&a);
    place.delete(&b);
    place.container(&["delete", "--force", "no-such"]).success();
}

/// `plan` touches nothing at all; `--explain` names each step once, before it is done.
#[test]
fn plan_and_explain() {
    let place = place!();
    in_own_network(|| {
        let before = (everything(&place.sandbox), tree(place.sandbox.path()));
        for format in ["json", "commands"] {
            let words = [
                "plan", "--format", format, "--memory", "50M", "--net", "bridge", "-p", "8080:80", "--",
                "true",
            ];
            place.container(&words).success();
        }
        assert_eq!((everything(&place.sandbox), tree(place.sandbox.path())), before);
    });
    place.sh(&[], "true").success();
    let explained =
        place.container(&["run", "--rm", "--explain", "--", "sh", "-c", "echo now >&2"]).success();
    let lines: Vec<&str> = explained.stderr.lines().collect();
    let last = lines.iter().position(|line| *line == "now").unwrap();
    let exec = lines.iter().position(|line| line.contains("execve(")).unwrap();
    assert!(exec < last, "{}", explained.describe());
    for call in
        ["clone3(", "pivot_root", "sethostname(", "seccomp(", "\"/proc\", \"proc\"", "PR_SET_NO_NEW_PRIVS"]
    {
        let count = lines.iter().filter(|line| line.contains(call)).count();
        assert_eq!(count, 1, "{call} is named {count} times: {}", explained.describe());
    }
    assert!(lines.iter().take(last).all(|line| line.contains(" # ")), "{}", explained.describe());
    explained.says("container PID 1").says("exited with code 0");
    place.container(&["run", "--rm", "--timings", "--", "true"]).success().says("clone").says("total");
    let file = place.sandbox.join("timings.json");
    place.container(&["run", "--rm", &format!("--timings={}", file.display()), "--", "true"]).success();
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"stages\""));
    let report = place.container(&["run", "--rm", "--json", "--", "sh", "-c", "exit 4"]).exits(4);
    let report: serde_json::Value = serde_json::from_str(report.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(report["exit_code"], 4);
}

/// Input that cannot be: one sentence, exit code 2, and nothing anywhere, not even the default root file system.
#[test]
fn bad_options() {
    let place = place!();
    let long = "x".repeat(300);
    let table: &[&[&str]] = &[
        &["--name", "../x"],
        &["--name", ".."],
        &["--name", "."],
        &["--name", ""],
        &["--name", "a/b"],
        &["--name", "a b"],
        &["--name=-x"],
        &["--name", &long],
        &["--name", "a\nb"],
        &["--name", "\u{202e}x"],
        &["--memory", "x"],
        &["--memory", "0"],
        &["--memory", "1"],
        &["--memory", "100Q"],
        &["--memory", "99999999999999999999"],
        &["--memory=-5"],
        &["--memory", ""],
        &["--swap", "10M"],
        &["--memory", "10M", "--swap", "x"],
        &["--cpus", "0"],
        &["--cpus", "nan"],
        &["--cpus", "inf"],
        &["--cpus=-1"],
        &["--cpus", "1e9"],
        &["--cpus", ""],
        &["--cpu-weight", "0"],
        &["--cpu-weight", "10001"],
        &["--pids", "0"],
        &["--pids", "x"],
        &["--pids", "1.5"],
        &["--pids=-2"],
        &["-p", "99999:1"],
        &["-p", "0:80"],
        &["-p", "a:b"],
        &["-p", "1:2/icmp"],
        &["-p", "999.1.1.1:1:2"],
        &["-p", ""],
        &["-p", "8080:80", "-p", "8080:81"],
        &["-p", "80:80", "--net", "none"],
        &["-v", "rel:/x"],
        &["-v", "/etc"],
        &["-v", "/etc:rel"],
        &["-v", "/etc:/x:bogus"],
        &["-v", "/nonexistent:/x"],
        &["-v", ""],
        &["-v", "/etc:/"],
        &["-v", "/etc:/x", "-v", "/usr:/x"],
        &["--tmpfs", "rel"],
        &["--tmpfs", "/"],
        &["--tmpfs", "/x:size=z"],
        &["--net", "foo"],
        &["--net", "ns:rel"],
        &["--net", "ns:/etc/passwd"],
        &["--net", "ns:/nonexistent"],
        &["--net", ""],
        &["--ns", "foo=host"],
        &["--ns", "pid=xx"],
        &["--ns", "pid"],
        &["--ns", "pid=/etc/passwd"],
        &["--ns", "pid=host", "--ns", "pid=new"],
        &["--ns", "mnt=host"],
        &["--ns", "uts=host", "--hostname", "x"],
        &["--cap-add", "FOO"],
        &["--cap-drop", "CAP_"],
        &["--security-opt", "foo"],
        &["--security-opt", "seccomp=/nonexistent"],
        &["--security-opt", "seccomp=/etc/passwd"],
        &["--security-opt", "no-new-privileges=maybe"],
        &["--ulimit", "foo=1"],
        &["--ulimit", "nofile=200:100"],
        &["--ulimit", "nofile=x"],
        &["--ulimit", "nofile"],
        &["--sysctl", "kernel.panic=1"],
        &["--sysctl", "net.ipv4.ip_forward"],
        &["--sysctl", "../../etc/passwd=1"],
        &["--sysctl", "vm.swappiness=1"],
        &["-w", "rel"],
        &["-w", ""],
        &["--hostname", "a/b"],
        &["--hostname", ""],
        &["--hostname", &long],
        &["-u", "99999999999"],
        &["-u=-1"],
        &["-e", "=x"],
        &["-e", ""],
        &["--env-file", "/nonexistent"],
        &["--rootfs", "/nonexistent"],
        &["--rootfs", "/"],
        &["--rootfs", "/etc/passwd"],
        &["--rootfs", ""],
        &["--userns", "foo"],
        &["--userns", "0:0:0"],
        &["--stop-signal", "FOO"],
        &["--stop-signal", "99"],
        &["--label", "=x"],
        &["--add-host", "x"],
        &["--add-host", "x:1.2.3.4\n6.6.6.6 bank"],
        &["--dns", "x"],
        &["--ip", "x"],
        &["--ip", "1.2.3.4", "--net", "none"],
    ];
    let before = tree(place.sandbox.path());
    let mut wrong = Vec::new();
    for options in table {
        let words = [&["run", "--rm"], *options, &["--", "true"]].concat();
        let output = place.container(&words);
        let fine = output.code == Some(2)
            && output.stderr.lines().count() == 1
            && output.stdout.is_empty()
            && output.stderr.chars().all(|c| c == '\n' || !c.is_control())
            && !output.stderr.contains('\u{202e}');
        if !fine {
            wrong.push(output.describe());
        }
        let after = tree(place.sandbox.path());
        if after != before && wrong.is_empty() {
            wrong.push(format!(
                "{options:?} left {:?}",
                after.iter().filter(|p| !before.contains(p)).take(5).collect::<Vec<_>>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

/// Signals that come while it starts and stops end it, and leave nothing.
#[test]
fn signal_storms() {
    let place = place!();
    place.sh(&[], "true").success();
    let rounds = if in_vm() { 5 } else { 30 };
    for round in 0..rounds {
        let mut command = place.sandbox.command("container");
        command.args(["run", "--rm", "--name", &place.sandbox.unique("storm"), "--", "sleep", "60"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        std::thread::sleep(Duration::from_millis(round * 3));
        let until = Instant::now() + limit(Duration::from_secs(10));
        let mut signal =
            [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT].into_iter().cycle();
        while child.try_wait().unwrap().is_none() {
            let _ = nix::sys::signal::kill(pid, signal.next().unwrap());
            std::thread::sleep(Duration::from_millis(2));
            assert!(Instant::now() < until, "round {round}: it does not end");
        }
        let checked = place.container(&["gc", "--check"]);
        // Before the signals are blocked one ends it like any command, and then nothing has been made.
        assert_eq!(checked.code, Some(0), "round {round}: {}", checked.describe());
        assert!(tree(&place.sandbox.data().join("containers")).is_empty(), "round {round}");
    }
}
