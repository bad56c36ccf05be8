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

    fn is(&self, program: &str) -> bool {
        self.base.first().is_some_and(|first| first == program)
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

/// What is the same for Podman and Docker, whose command lines are.
fn command_line(client: &Client<'_>, options: &str, init: &str) {
    client.run("load -i", &[&image(&client.place.sandbox)]).success();
    let run = format!("run --rm {options}");
    ends(client, &run);
    one_life(client, options);
    inside(client, &run, init);
    stop_and_restart(client, options);
    client.run("ps -a", &[]).success().stdout_lacks(IMAGE);
}

/// Output, exit codes, terminals.
fn ends(client: &Client<'_>, run: &str) {
    client.run(&format!("{run} {IMAGE} echo hi"), &[]).success().stdout_is("hi");
    client.run(&format!("{run} {IMAGE} sh -c"), &["exit 7"]).exits(7);
    // Engines know these by the words of the error.
    client.run(&format!("{run} {IMAGE} nosuch"), &[]).exits(127).says("not found");
    client.run(&format!("{run} {IMAGE} /etc/passwd"), &[]).exits(126).says("permission denied");
    client.talk(&format!("{run} -it {IMAGE} sh -c"));
}

/// One container: limits, exec, logs, stats, top, update, pause, kill, rm.
fn one_life(client: &Client<'_>, options: &str) {
    let place = client.place;
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
    client.run("exec -w /tmp -e KEY=value one sh -c", &["pwd; echo $KEY"]).success().stdout_is("/tmp\nvalue");
    // Docker says 126 of an exec that fails, whatever the reason and the runtime.
    client.run("exec one nosuch", &[]).exits(if client.is("podman") { 127 } else { 126 });
    client.run("exec one /etc/passwd", &[]).exits(126);
    assert_ne!(client.run("exec -w /nosuch one true", &[]).code, Some(0));
    client.run("exec one ls /nosuch", &[]).exits(1);
    client.talk("exec -it one sh -c");
    client.run("exec -d one sleep 2000", &[]).success();
    client.run("top one", &[]).success().stdout_has("sleep 1000");
    place.wait_until("both are there", |_| client.run("top one", &[]).stdout.contains("sleep 2000"));
    place.wait_until("the log is there", |_| client.run("logs one", &[]).stdout.contains("started"));
    client.run("stats --no-stream one", &[]).success().stdout_has("one");
    client.run("update --memory 64m --memory-swap 64m one", &[]).success();
    assert_eq!(place.limit(&id, MEMORY).as_deref(), Some("67108864"), "memory of {id}");
    client.run("pause one", &[]).success();
    client.run("ps -a", &[]).success().stdout_has("Paused");
    assert_ne!(client.run("exec one true", &[]).code, Some(0), "nothing runs in a paused one");
    client.run("unpause one", &[]).success();
    client.run("ps -a", &[]).success().stdout_lacks("Paused").stdout_has("Up ");
    client.run("kill one", &[]).success();
    place.wait_until("it has ended by SIGKILL", |_| client.run("ps -a", &[]).stdout.contains("Exited (137)"));
    client.run("rm one", &[]).success();
}

/// What a container is given: user, privileges, root, volumes, devices, an init, kernel parameters.
fn inside(client: &Client<'_>, run: &str, init: &str) {
    let confined = client.run(
        &format!(
            "{run} --user nobody --read-only --cap-drop all --security-opt no-new-privileges {IMAGE} sh -c"
        ),
        &["id -u; touch /x; grep -E '^(NoNewPrivs|CapBnd)' /proc/self/status"],
    );
    confined
        .success()
        .stdout_has("65534")
        .says("Read-only file system")
        .stdout_has("NoNewPrivs:\t1")
        .stdout_has("CapBnd:\t0000000000000000");
    let shared = client.place.sandbox.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("in"), "from outside").unwrap();
    let volume = format!("{run} -v {}:/shared", shared.display());
    client
        .run(&format!("{volume} {IMAGE} sh -c"), &["cat /shared/in; echo back >/shared/out"])
        .stdout_is("from outside");
    assert_eq!(std::fs::read_to_string(shared.join("out")).unwrap(), "back\n");
    client.run(&format!("{volume}:ro {IMAGE} touch /shared/x"), &[]).exits(1).says("Read-only file system");
    client
        .run(&format!("{run} --user 5:6 --group-add 9 {IMAGE} sh -c"), &["id -u; id -g; id -G"])
        .success()
        .stdout_has("5\n6\n6 9");
    client
        .run(
            &format!("{run} --init {init} {IMAGE} sh -c"),
            &["grep -c . /proc/1/cmdline; echo I am $$; exit 6"],
        )
        .exits(6)
        .stdout_lacks("I am 1\n");
    let given = "--hostname box --tmpfs /scratch:size=1m --device /dev/null:/dev/nothing \
        --sysctl net.ipv4.ip_forward=1 --oom-score-adj 100";
    let script = "cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj; \
        grep -c /scratch /proc/mounts; echo x >/dev/nothing && echo written";
    client
        .run(&format!("{run} {given} {IMAGE} sh -c"), &[script])
        .success()
        .stdout_is("box\n1\n100\n1\nwritten");
}

/// stop, restart, start, a health check's exec.
fn stop_and_restart(client: &Client<'_>, options: &str) {
    let place = client.place;
    let script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done";
    client.run(&format!("run -d --name two {options} {IMAGE} sh -c"), &[script]).success();
    let ups = |n: usize| {
        place.wait_until("it is up", |_| client.run("logs two", &[]).stdout.matches("up").count() >= n);
    };
    ups(1);
    client.run("restart -t 60 two", &[]).success();
    ups(2);
    client.run("stop -t 60 two", &[]).success();
    place.wait_until("it has stopped", |_| client.run("ps -a", &[]).stdout.contains("Exited (3)"));
    client.run("start two", &[]).success();
    ups(3);
    client.run("rm -f two", &[]).success();
    // Every second, whoever runs it.
    let health = "--health-interval 1s --health-cmd";
    client.run(&format!("run -d --name three {options} {health} true {IMAGE} sleep 1000"), &[]).success();
    place.wait_until("it is healthy", |_| {
        // Podman without systemd runs it on demand alone.
        if client.is("podman") {
            client.run("healthcheck run three", &[]).success();
        }
        client.run("inspect -f {{.State.Health.Status}} three", &[]).stdout.trim() == "healthy"
    });
    client.run("rm -f three", &[]).success();
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
    // Podman's package does not make the directory, and this machine is not to get one.
    let place = Place::new(
        "test -d /var/lib/containers || { mount -t tmpfs lib /var/lib; mkdir /var/lib/containers; }; \
         mount -t tmpfs containers /var/lib/containers",
    );
    let dir = |name: &str| place.sandbox.join(name).display().to_string();
    let base = format!(
        "podman --runtime {} --cgroup-manager cgroupfs --root {} --runroot {} --tmpdir {} --storage-driver vfs --events-backend file",
        bin("container").display(),
        dir("root"),
        dir("runroot"),
        dir("tmp")
    );
    let podman = Client { place: &place, base: base.split(' ').map(str::to_string).collect() };
    let init = format!("--init-path {}", bin("init").display());
    command_line(&podman, &format!("--network none --cgroup-parent {}", place.cgroup()), &init);
    let mapped = format!(
        "run --rm --network none --cgroup-parent {} --uidmap 0:100000:65536 --gidmap 0:100000:65536",
        place.cgroup()
    );
    podman
        .run(&format!("{mapped} {IMAGE} sh -c"), &["cat /proc/self/uid_map; id -u; touch /x && echo mine"])
        .success()
        .stdout_has("100000")
        .stdout_has("0\nmine");
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
         --pidfile $PWD/pid -H unix://$PWD/socket --add-runtime ours={} --default-runtime ours --init-path {} {options} &",
        bin("container").display(),
        bin("init").display()
    ));
    let socket = format!("unix://{}", place.sandbox.join("socket").display());
    let docker = Client { place: &place, base: vec!["docker".into(), "-H".into(), socket] };
    place.wait_until("dockerd answers", |p| p.run(&docker.words("version", &[])).code == Some(0));
    // Docker loads its profile by a program that need not be there.
    let unconfined = if have("apparmor_parser") { "" } else { "--security-opt apparmor=unconfined" };
    command_line(&docker, &format!("--cgroup-parent {} {unconfined}", place.cgroup()), "");
}
