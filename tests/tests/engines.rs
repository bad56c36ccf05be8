//! Engines from the system's packages run containers through `container` as their OCI runtime: containerd, Podman, Docker.
//!
//! Each engine has directories, sockets, a cgroup and namespaces of its own, and ends with its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "engines/place.rs"]
mod place;

use drydock_testkit::{Output, Terminal, bin, have, is_root, require};
use place::{IMAGE, Place, busybox, image};

const MEMORY: &[&str] = &["memory.max", "memory.limit_in_bytes"];
const PIDS: &[&str] = &["pids.max"];

/// Runs a client of an engine with a space-separated list of words; words with spaces follow in `last`.
struct Client<'a> {
    place: &'a Place,
    base: Vec<String>,
}

impl Client<'_> {
    fn words<'w>(&'w self, words: &'w str, last: &[&'w str]) -> Vec<&'w str> {
        let all = self.base.iter().map(String::as_str).chain(words.split_whitespace());
        all.chain(last.iter().copied()).collect()
    }

    #[track_caller]
    fn run(&self, words: &str, last: &[&str]) -> Output {
        let output = self.place.run(&self.words(words, last));
        if output.code != Some(0) {
            show(&format!("{}\n{}", output.describe(), self.place.log()));
        }
        output
    }

    #[track_caller]
    fn terminal(&self, words: &str, last: &[&str]) -> Terminal {
        self.place.terminal(&self.words(words, last))
    }

    /// A conversation with a command that runs `TALK`.
    #[track_caller]
    fn talk(&self, words: &str) {
        let mut terminal = self.terminal(words, &[TALK]);
        terminal.shows("/dev/pts/0").shows("ready").types("word\n");
        terminal.end().exits(8);
    }
}

/// Tells its terminal, and ends as it is told to.
const TALK: &str = "tty; echo ready; read word; test \"$word\" = word && exit 8";

/// Shown by libtest when the test fails.
#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}

/// What is the same for Podman and Docker, whose command lines are: run, exec, logs, stats, top, pause, kill, rm, -it,
/// limits, another user, a read-only root.
fn command_line(client: &Client<'_>, options: &str) {
    let place = client.place;
    client.run("load -i", &[&image(&place.sandbox)]).success();
    client.run(&format!("run --rm {options} {IMAGE} echo hi"), &[]).success().stdout_is("hi");
    client.run(&format!("run --rm {options} {IMAGE} sh -c"), &["exit 7"]).exits(7);

    let limits = "--memory 32m --pids-limit 50 --cpus 0.5";
    let started = client.run(
        &format!("run -d --name one {options} {limits} {IMAGE} sh -c"),
        &["echo started; exec sleep 1000"],
    );
    let id = started.success().stdout.trim().to_string();
    assert_eq!(place.limit(&id, MEMORY).as_deref(), Some("33554432"), "memory of {id}");
    assert_eq!(place.limit(&id, PIDS).as_deref(), Some("50"), "processes of {id}");
    client.run("exec one sh -c", &["echo in; exit 9"]).exits(9).stdout_has("in");
    client.run("exec -u nobody one id -u", &[]).success().stdout_is("65534");
    place.wait_until("the log is there", |_| client.run("logs one", &[]).stdout.contains("started"));
    client.run("stats --no-stream one", &[]).success().stdout_has("one");
    client.run("top one", &[]).success().stdout_has("sleep");
    client.run("pause one", &[]).success();
    client.run("ps -a", &[]).success().stdout_has("Paused");
    client.run("unpause one", &[]).success();
    client.run("ps -a", &[]).success().stdout_lacks("Paused").stdout_has("Up ");
    client.run("kill one", &[]).success();
    place.wait_until("it has ended by SIGKILL", |_| client.run("ps -a", &[]).stdout.contains("Exited (137)"));
    client.run("rm one", &[]).success();

    client.talk(&format!("run -it --rm {options} {IMAGE} sh -c"));
    let confined = client.run(
        &format!("run --rm --user nobody --read-only --cap-drop all --security-opt no-new-privileges {options} {IMAGE} sh -c"),
        &["id -u; touch /x; grep -E '^(NoNewPrivs|CapBnd)' /proc/self/status"],
    );
    confined
        .success()
        .stdout_has("65534")
        .says("Read-only file system")
        .stdout_has("NoNewPrivs:\t1")
        .stdout_has("CapBnd:\t0000000000000000");
    client.run("ps -a", &[]).success().stdout_lacks(IMAGE);
}

#[test]
fn containerd_runs_containers_through_us() {
    require!(is_root(), "needs root");
    require!(have("containerd") && have("ctr"), "needs containerd and ctr");
    require!(busybox().is_some(), "needs busybox");
    let config = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
    let place = Place::new(&format!(
        "printf '{config}' >config.toml; containerd -c config.toml --root $PWD/root --state $PWD/state-dir -a $PWD/socket &"
    ));
    let socket = place.sandbox.join("socket").display().to_string();
    let ctr = Client { place: &place, base: vec!["ctr".into(), "-a".into(), socket] };
    place.wait_until("containerd answers", |p| p.run(&ctr.words("version", &[])).code == Some(0));

    ctr.run("image import --snapshotter native", &[&image(&place.sandbox)]).success();
    let runtime = bin("container");
    let fifo = place.sandbox.join("fifo");
    let options =
        format!("--snapshotter native --runc-binary {} --fifo-dir {}", runtime.display(), fifo.display());
    ctr.run(&format!("run --rm {options} {IMAGE} a echo hi"), &[]).success().stdout_is("hi");
    ctr.run(&format!("run --rm {options} {IMAGE} a sh -c"), &["exit 7"]).exits(7);

    let limits = format!("--memory-limit 33554432 --cpus 0.5 --cgroup {}/one", place.cgroup());
    ctr.run(&format!("run -d {options} {limits} {IMAGE} one sleep 1000"), &[]).success();
    assert_eq!(place.limit("one", MEMORY).as_deref(), Some("33554432"));
    let exec = format!("task exec --fifo-dir {} --exec-id", fifo.display());
    ctr.run(&format!("{exec} e1 one sh -c"), &["echo in; exit 9"]).exits(9).stdout_has("in");
    ctr.run("task ps one", &[]).success();
    ctr.run("task metrics one", &[]).success().stdout_has("memory");
    ctr.run("task pause one", &[]).success();
    ctr.run("task ls", &[]).success().stdout_has("PAUSED");
    ctr.run("task resume one", &[]).success();
    ctr.run("task ls", &[]).success().stdout_has("RUNNING");
    ctr.run("task kill -s KILL one", &[]).success();
    place.wait_until("it has ended", |_| ctr.run("task ls", &[]).stdout.contains("STOPPED"));
    ctr.run("task rm one", &[]);
    ctr.run("container rm one", &[]).success();
    ctr.run("task ls -q", &[]).success().stdout_is("");
    ctr.talk(&format!("run -t --rm {options} {IMAGE} t sh -c"));
}

#[test]
fn podman_runs_containers_through_us() {
    require!(is_root(), "needs root");
    require!(have("podman") && have("conmon"), "needs podman and conmon");
    require!(busybox().is_some(), "needs busybox");
    let place = Place::new("mount -t tmpfs containers /var/lib/containers");
    let dir = |name: &str| place.sandbox.join(name).display().to_string();
    let base = format!(
        "podman --runtime {} --cgroup-manager cgroupfs --root {} --runroot {} --tmpdir {} --storage-driver vfs --events-backend file",
        bin("container").display(),
        dir("root"),
        dir("runroot"),
        dir("tmp")
    );
    let podman = Client { place: &place, base: base.split(' ').map(str::to_string).collect() };
    command_line(&podman, &format!("--network none --cgroup-parent {}", place.cgroup()));
}

#[test]
fn docker_runs_containers_through_us() {
    require!(is_root(), "needs root");
    require!(have("dockerd") && have("docker") && have("containerd"), "needs dockerd, docker and containerd");
    require!(busybox().is_some(), "needs busybox");
    let options = "--iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --bridge=none \
        --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs";
    let place = Place::new(&format!(
        "echo '{{}}' >config.json; dockerd --config-file $PWD/config.json --data-root $PWD/root --exec-root $PWD/exec \
         --pidfile $PWD/pid -H unix://$PWD/socket --add-runtime ours={} --default-runtime ours {options} &",
        bin("container").display()
    ));
    let socket = format!("unix://{}", place.sandbox.join("socket").display());
    let docker = Client { place: &place, base: vec!["docker".into(), "-H".into(), socket] };
    place.wait_until("dockerd answers", |p| p.run(&docker.words("version", &[])).code == Some(0));
    // Docker loads its profile by a program that need not be there.
    let unconfined = if have("apparmor_parser") { "" } else { "--security-opt apparmor=unconfined" };
    command_line(&docker, &format!("--cgroup-parent {} {unconfined}", place.cgroup()));
}
