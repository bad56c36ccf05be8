//! `container up` and `down` by their effects. Each command runs in a network namespace of its own: "the host" is thrown
//! away with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const CONTAINER: &str = env!("CARGO_BIN_EXE_container");

fn skip(name: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIP {name}: {reason}\n").as_bytes());
}

/// Can these tests run here?
fn root() -> bool {
    let name = std::thread::current().name().unwrap_or("?").to_string();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |tool: &&str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    if !nix::unistd::geteuid().is_root() {
        skip(&name, "needs root");
        return false;
    }
    if let Some(tool) = ["unshare", "nsenter", "ip", "nft"].iter().find(|tool| !has(tool)) {
        skip(&name, &format!("needs {tool}"));
        return false;
    }
    true
}

fn limit(seconds: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("DRYDOCK_VM").is_some() { seconds * 10 } else { seconds })
}

/// How many places use the shared default root file system.
static USERS: Mutex<usize> = Mutex::new(0);

fn data() -> PathBuf {
    std::env::temp_dir().join(format!("drydock-up-data-{}", std::process::id()))
}

/// The default root file system is built by the first that needs it, and removed by the last.
fn use_data() {
    let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
    if *users == 0 {
        let dir = data();
        std::fs::create_dir_all(&dir).unwrap();
        let built = Command::new(CONTAINER)
            .args(["run", "--net", "none", "--rm", "--", "true"])
            .env("DRYDOCK_ROOT", dir.join("state"))
            .env("DRYDOCK_DATA", &dir)
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
    }
    *users += 1;
}

fn leave_data() {
    let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
    *users -= 1;
    if *users == 0 {
        let _ = std::fs::remove_dir_all(data());
    }
}

/// A directory with a Compose file, a state root, and a throw-away network namespace for everything that runs here.
struct Place {
    dir: PathBuf,
    host: Child,
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new(compose: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        use_data();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ddup{}x{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let host = Command::new("unshare")
            .args(["--net", "--kill-child", "sh", "-c", "ip link set lo up; echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut place = Self { dir, host };
        let mut ready = [0u8; 6];
        place.host.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        if !compose.is_empty() {
            place.file("compose.yaml", compose);
        }
        place
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.host.id())).arg(program).args(args);
        command.current_dir(&self.dir).env("DRYDOCK_ROOT", self.state()).env("DRYDOCK_DATA", data());
        command.env("FROM_CALLER", "caller").env_remove("COMPOSE_PROJECT_NAME").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(CONTAINER, args).spawn().unwrap())
    }

    fn network(&self, program: &str, args: &[&str]) -> String {
        finish(self.command(program, args).spawn().unwrap()).out
    }

    /// The names of the containers that there are.
    fn containers(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.state()).into_iter().flatten().flatten();
        let mut all: Vec<String> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        all.retain(|name| !name.starts_with('@'));
        all.sort();
        all
    }

    /// What is there of the containers with this project's name, as the kernel shows it.
    #[track_caller]
    fn clean(&self) {
        assert_eq!(self.containers(), Vec::<String>::new());
        assert_eq!(self.run(&["gc", "--check"]).code, Some(0));
        let links = self.network("ip", &["-o", "link"]);
        assert!(!links.contains("br-") && !links.contains("dd"), "{links}");
        assert!(!self.network("nft", &["list", "ruleset"]).contains("drydock"));
        let name = self.dir.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!cgroups().iter().any(|path| path.contains(&name)), "{:?}", cgroups());
        let left = std::fs::read_dir(data().join("containers")).into_iter().flatten().flatten();
        assert!(!left.map(|e| e.file_name().to_string_lossy().into_owned()).any(|n| n.contains(&name)));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.containers().is_empty() {
            let mut args = vec!["delete".to_string(), "--force".to_string()];
            args.extend(self.containers());
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let _ = self.command(CONTAINER, &args).output();
        }
        let _ = self.host.kill();
        let _ = self.host.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
        leave_data();
    }
}

fn cgroups() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let roots = mounts.lines().filter(|l| l.split(' ').nth(2).is_some_and(|t| t.starts_with("cgroup")));
    let dirs = roots.filter_map(|l| std::fs::read_dir(Path::new(l.split(' ').nth(1)?).join("drydock")).ok());
    dirs.flatten().flatten().map(|e| e.path().display().to_string()).collect()
}

#[track_caller]
fn finish(mut child: Child) -> Ran {
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.map(|mut s| s.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|s| Box::new(s) as _));
    let err = read(child.stderr.take().map(|s| Box::new(s) as _));
    let until = Instant::now() + limit(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("not over in time: {}{}", out.join().unwrap(), err.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ran { code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit(20);
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn services_reach_each_other_by_name() {
    if !root() {
        return;
    }
    let place = Place::new(
        "name: pair
services:
  late:
    depends_on: [early]
    networks: {inside: {ipv4_address: 10.211.0.9, aliases: [other]}}
    command: [bash, -c, 'until exec 3<>/dev/tcp/early/7000; do sleep 0.1; done; cat <&3; ip route']
  early:
    networks: [inside]
    extra_hosts: ['far:192.0.2.7', 'gw:host-gateway']
    command:
      - bash
      - -c
      - |
        cat /etc/hosts
        # A server out of what is in the default root: the shell's own tools cannot listen, so nft counts what came.
        for i in 1 2 3 4 5 6 7 8 9 10; do (exec 3<>/dev/tcp/other/7001) 2>&1 | grep -o refused && break; sleep 0.2; done
networks:
  inside: {internal: true, ipam: {config: [{subnet: 10.211.0.0/24}]}}
",
    );
    let started = place.run(&["up", "-d"]);
    assert_eq!(started.code, Some(0), "{}", started.err);
    assert_eq!(started.out, "pair-early-1\npair-late-1\n", "the order of depends_on");
    // `refused` comes from the other container's kernel: the name resolves, the packets arrive, nothing listens.
    until("an answer from the other", || place.run(&["logs", "pair-early-1"]).out.contains("refused"));
    let hosts = place.run(&["logs", "pair-early-1"]).out;
    for line in
        ["10.211.0.9\tlate", "10.211.0.9\tother", "10.211.0.2\tearly", "192.0.2.7\tfar", "10.211.0.1\tgw"]
    {
        assert!(hosts.contains(line), "{line}: {hosts}");
    }
    let routes = place.run(&["exec", "pair-late-1", "ip", "route"]);
    assert!(
        routes.out.contains("10.211.0.0/24") && !routes.out.contains("default"),
        "{}{}",
        routes.out,
        routes.err
    );
    let hosts = place.run(&["exec", "pair-late-1", "cat", "/etc/hosts"]).out;
    assert!(hosts.contains("10.211.0.2\tearly"), "{hosts}");
    let again = place.run(&["up", "-d"]);
    assert_eq!(again.code, Some(2));
    assert!(
        again.err.contains("already")
            && again.err.contains("container down -p pair")
            && again.err.lines().count() == 1,
        "{}",
        again.err
    );
    let down = place.run(&["down", "-t", "0"]);
    assert_eq!((down.code, down.out.as_str()), (Some(0), "pair-late-1\npair-early-1\n"), "{}", down.err);
    place.clean();
    assert_eq!(place.run(&["down"]).code, Some(0), "twice is fine");
}

#[test]
fn fields_show_inside() {
    if !root() {
        return;
    }
    let place = Place::new(
        "services:
  one:
    container_name: ${NAME_IN_ENV}-one
    entrypoint: sh -c
    command:
      - |
        echo env=$$A/$$B/$$C/$$FROM_CALLER/$$FROM_FILE
        echo who=$$(id -u):$$(id -g) host=$$(hostname) pwd=$$(pwd)
        touch /root-file 2>&1
        touch /scratch/x && echo scratch
        cat /data/hello; touch /data/x 2>&1
        ulimit -n
        cat /proc/sys/net/ipv4/ip_default_ttl
        grep -E 'CapBnd|NoNewPrivs' /proc/self/status
        grep nameserver /etc/resolv.conf
        echo to-stderr >&2
    environment: {A: 1, FROM_CALLER: null, C: '${UNSET_ONE:-dflt}'}
    env_file: my.env
    user: '1234:1235'
    hostname: inner
    working_dir: /tmp
    read_only: true
    tmpfs: ['/scratch:mode=1777']
    volumes: ['./shared:/data:ro']
    ulimits: {nofile: {soft: 100, hard: 200}}
    sysctls: {net.ipv4.ip_default_ttl: 77}
    cap_drop: [ALL]
    security_opt: ['no-new-privileges:true']
    dns: 192.0.2.53
    cpus: 0.25
    mem_limit: 64m
    memswap_limit: 96m
    pids_limit: 33
    stop_grace_period: 1m30s
    labels: [a=b]
    x-anything: {of: mine}
version: '3'
x-top: 1
",
    );
    std::fs::create_dir(place.dir.join("shared")).unwrap();
    place.file("shared/hello", "hello\n");
    place.file("my.env", "# comment\nB='two words'\nA=overridden\nFROM_FILE=$NAME_IN_ENV\n");
    let name = place.dir.file_name().unwrap().to_string_lossy().into_owned();
    place.file(".env", &format!("NAME_IN_ENV={name}\n"));
    let ran = place.run(&["up"]);
    let out = &ran.out;
    assert_eq!(ran.code, Some(0), "{out}{}", ran.err);
    for line in [
        &format!("env=1/two words/dflt/caller/{name}"),
        "who=1234:1235 host=inner pwd=/tmp",
        "Read-only file system",
        "one | scratch",
        "one | hello",
        "one | 100",
        "one | 77",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "nameserver 192.0.2.53",
    ] {
        assert!(out.contains(line), "{line}: {out}{}", ran.err);
    }
    assert!(ran.err.contains("one | to-stderr") && !out.contains("to-stderr"), "{}", ran.err);
    assert!(!place.dir.join("shared/x").exists());
    place.clean();
}

#[test]
fn limits_are_the_kernels() {
    if !root() {
        return;
    }
    let place = Place::new(
        "services: {lim: {command: sleep 100, network_mode: none, cpus: 0.25, mem_limit: 64m, memswap_limit: 96m, pids_limit: 33}}",
    );
    assert_eq!(place.run(&["up", "-d", "-p", "limits"]).code, Some(0));
    let found = cgroups().into_iter().filter(|path| path.ends_with("/limits-lim-1"));
    let read =
        |dir: &String, file: &str| std::fs::read_to_string(Path::new(dir).join(file)).unwrap_or_default();
    let all: Vec<String> = found.collect();
    let value = |files: &[&str]| {
        let values = files.iter().flat_map(|f| all.iter().map(move |dir| read(dir, f)));
        values.map(|v| v.trim().to_string()).find(|v| !v.is_empty()).unwrap_or_default()
    };
    assert_eq!(value(&["pids.max"]), "33");
    assert_eq!(value(&["memory.max", "memory.limit_in_bytes"]), (64 << 20).to_string());
    assert!(value(&["cpu.max", "cpu.cfs_quota_us"]).starts_with("25000"));
    let swap = value(&["memory.swap.max", "memory.memsw.limit_in_bytes"]);
    assert!([String::new(), (32 << 20).to_string(), (96 << 20).to_string()].contains(&swap), "{swap}");
    assert_eq!(place.run(&["down", "-p", "limits"]).out, "limits-lim-1\n");
    place.clean();
}

const REFUSED: &[(&str, &str)] = &[
    ("services: {web: {build: .}}", "/services/web/build: not supported (allowed: "),
    ("services: {web: {build: x}}", "/services/web/build: not supported"),
    ("services: {web: {comand: x}}", "/services/web/comand: not supported"),
    ("services: {web: {privileged: true}}", "/services/web/privileged: not supported"),
    ("services: {web: {}}\nsecrets: {}", "/secrets: not supported"),
    ("services: {web: {depends_on: [db]}}", "/services/web/depends_on/db: no such service"),
    ("services: {web: {depends_on: [web]}}", "/services/web/depends_on/web: "),
    ("services: {a: {depends_on: [b]}, b: {depends_on: [a]}}", "/services/a/depends_on: "),
    (
        "services: {a: {depends_on: {b: {condition: service_healthy}}}, b: {}}",
        "/services/a/depends_on/b/condition: 'service_healthy'",
    ),
    ("services: {web: {ports: ['80:80', '80:81']}}", "/services/web/ports: "),
    ("services: {a: {ports: ['1-60000:1-60000']}}", "/services/a/ports: more than 1000"),
    ("services: {a: {ports: ['80:80']}, b: {ports: ['80:81']}}", "/services/b/ports: "),
    ("services: {web: {ports: [80]}}", "/services/web/ports/0: "),
    ("services: {web: {ports: ['99999:1']}}", "/services/web/ports/0: "),
    ("services: {a: {container_name: x}, b: {container_name: x}}", "/services/b/container_name: "),
    ("services: {a: {}, a: {}}", "'a' is given twice"),
    ("services: {web: {networks: [nope]}}", "/services/web/networks/nope: no such network"),
    ("services: {web: {}}\nnetworks: {a: {driver: overlay}}", "/networks/a/driver: not supported"),
    (
        "services: {web: {}}\nnetworks: {a: {ipam: {config: [{subnet: x}]}}}",
        "/networks/a/ipam/config/0/subnet: ",
    ),
    (
        "services: {web: {networks: {a: {ipv4_address: 10.1.2.3}}}}\nnetworks: {a: {ipam: {config: [{subnet: 10.212.0.0/24}]}}}",
        "/ipv4_address: ",
    ),
    (
        "services: {web: {networks: {a: {mac_address: x}}}}\nnetworks: {a: }",
        "/services/web/networks/a/mac_address: not supported",
    ),
    ("services: {web: {network_mode: 'service:db'}}", "/services/web/network_mode: "),
    ("services: {web: {network_mode: none, ports: ['80:80']}}", "/services/web/ports: "),
    ("services: {web: {volumes: ['data:/x']}}", "/services/web/volumes/0: named volumes"),
    ("services: {web: {volumes: ['./nope:/x']}}", "/services/web/volumes/0: the source"),
    ("services: {web: {volumes: ['.:/x:zz']}}", "/services/web/volumes: "),
    (
        "services: {web: {volumes: [{type: volume, target: /x}]}}",
        "/services/web/volumes/0: type: not supported",
    ),
    ("services: {web: {environment: [A=1, A=2]}}", "/services/web/environment/1: 'A' is given twice"),
    ("services: {web: {environment: 5}}", "/services/web/environment: a number"),
    ("services: {web: {command: 'a \"b'}}", "/services/web/command: a double quote"),
    ("services: {web: {read_only: maybe}}", "/services/web/read_only: "),
    ("services: {web: {cpus: much}}", "/services/web/cpus: "),
    ("services: {web: {mem_limit: much}}", "/services/web/mem_limit: "),
    ("services: {web: {mem_limit: 100m, memswap_limit: 50m}}", "/services/web/memswap_limit: "),
    ("services: {web: {memswap_limit: 50m}}", "/services/web/memswap_limit: needs mem_limit"),
    ("services: {web: {stop_grace_period: 10}}", "/services/web/stop_grace_period: "),
    ("services: {web: {stop_signal: SIGNOPE}}", "/services/web/stop_signal: "),
    ("services: {web: {user: [a]}}", "/services/web/user: a list"),
    ("services: {web: {cap_add: [NOPE]}}", "/services/web"),
    ("services: {web: {ulimits: {nofile: {soft: 1}}}}", "/services/web/ulimits/nofile: needs soft and hard"),
    ("services: {web: {env_file: nope.env}}", "/services/web/env_file: "),
    ("services: {web: {x-rootfs: ./nope}}", "/services/web/x-rootfs: "),
    ("services: {web: {hostname: '${NOPE_NOPE:?must be given}'}}", "must be given"),
    ("services: {web: {hostname: '${'}}", "/services/web/hostname: "),
    ("services: {'we b': {}}", "not a service name"),
    ("services: {web: 5}", "/services/web: a number"),
    ("services: []", "/services: a list"),
    ("services: {}", "has no services"),
    ("name: 'Bad Name'\nservices: {web: {}}", "/name: 'Bad Name'"),
    ("volumes: {data: {driver: x}}\nservices: {web: {}}", "/volumes/data/driver: "),
    ("services: {web: {labels: {drydock.project: x}}}", "/services/web/labels: "),
    ("a: [", "compose.yaml: "),
    ("", "no Compose file"),
    (
        "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]",
        "compose.yaml: ",
    ),
];

#[test]
fn what_is_wrong_is_refused_by_name() {
    if !root() {
        return;
    }
    let place = Place::new("x");
    for (text, sentence) in REFUSED {
        place.file("compose.yaml", text);
        let ran = place.run(&["up"]);
        assert_eq!(ran.code, Some(2), "{text}: {}{}", ran.out, ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{text}: {}", ran.err);
        assert!(ran.err.contains(sentence), "{text}: {}", ran.err);
        assert!(ran.out.is_empty() && place.containers().is_empty(), "{text}");
    }
    assert!(!place.state().exists(), "no side effect");
    place.file("compose.yaml", &"#".repeat((1 << 20) + 1));
    assert!(place.run(&["up"]).err.contains("larger than 1 MiB"));
    for args in [
        &["up", "-f", "/no/such"][..],
        &["up", "-f", "/dev/zero"],
        &["up", "-f", "."],
        &["up", "-p", "A B"],
        &["down", "-p", ".."],
    ] {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.err.lines().count()), (Some(2), 1), "{args:?}: {}", ran.err);
    }
}

#[test]
fn ends_with_the_first_failure_and_completion_is_waited_for() {
    if !root() {
        return;
    }
    let place = Place::new(
        "services:
  second: {network_mode: none, command: sh -c 'echo second; exit 7', depends_on: {first: {condition: service_completed_successfully}}}
  first: {network_mode: none, command: sh -c 'sleep 0.3; echo first'}
",
    );
    let ran = place.run(&["up"]);
    assert_eq!(ran.code, Some(7), "{}{}", ran.out, ran.err);
    assert_eq!(ran.out, "first  | first\nsecond | second\n");
    place.clean();
    place.file(
        "compose.yaml",
        "services:
  second: {network_mode: none, command: echo second, depends_on: {first: {condition: service_completed_successfully}}}
  first: {network_mode: none, command: 'false'}
  other: {network_mode: none, command: sleep 100}
",
    );
    for args in [&["up"][..], &["up", "-d"]] {
        let ran = place.run(args);
        assert_eq!(ran.code, Some(125), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("'first' ended with code 1") && !ran.out.contains("second"), "{}", ran.err);
        place.clean();
    }
}

#[test]
fn a_failure_rolls_everything_back() {
    if !root() {
        return;
    }
    let place = Place::new(
        "services:\n  one: {command: sleep 100}\n  two: {command: no-such-command, depends_on: [one]}\n",
    );
    for args in [&["up"][..], &["up", "-d"]] {
        let ran = place.run(args);
        assert_eq!(ran.code, Some(127), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("no-such-command") && ran.err.lines().count() == 1, "{}", ran.err);
        place.clean();
    }
}

fn running(place: &Place, stdin: Stdio, args: &[&str], containers: usize) -> Child {
    let child = place.command(CONTAINER, args).stdin(stdin).spawn().unwrap();
    until("everything runs", || {
        let list = place.run(&["list"]).out;
        list.lines().filter(|line| line.contains(" running ")).count() == containers
    });
    child
}

const TWO: &str = "services:
  one: {command: sh -c 'trap \"echo bye; exit 0\" TERM; echo up; while :; do sleep 0.05; done'}
  two: {command: sleep 100, depends_on: [one]}
";

#[test]
fn signals_and_enter_bring_everything_down() {
    if !root() {
        return;
    }
    let place = Place::new(TWO);
    for signal in [nix::sys::signal::SIGINT, nix::sys::signal::SIGTERM] {
        let child = running(&place, Stdio::null(), &["up"], 2);
        // The traps need a moment; nsenter has become `container`.
        std::thread::sleep(limit(1) / 2);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let ran = finish(child);
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(
            ran.out.contains("one | up\n") && ran.out.contains("one | bye\n"),
            "last words are shown: {}",
            ran.out
        );
        place.clean();
    }
    let mut child = running(&place, Stdio::piped(), &["up"], 2);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"x").unwrap();
    std::thread::sleep(limit(1) / 3);
    assert!(child.try_wait().unwrap().is_none(), "only a whole line ends it");
    pipe.write_all(b"\n").unwrap();
    let ran = finish(child);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("Press Enter to stop"), "{}", ran.err);
    place.clean();
}

#[test]
fn without_a_file_one_container_waits_for_enter() {
    if !root() {
        return;
    }
    let place = Place::new("");
    let mut child = running(&place, Stdio::piped(), &["up"], 1);
    let id = place.containers().remove(0);
    assert_eq!(id.len(), 12);
    let inside = place.run(&["exec", &id, "ip", "-o", "addr", "show", "dev", "eth0"]);
    assert!(inside.out.contains("10.88."), "{}{}", inside.out, inside.err);
    let inspect = place.run(&["inspect", &id]).out;
    assert!(inspect.contains("drydock.project"), "{inspect}");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let ran = finish(child);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), id.as_str()), "{}", ran.err);
    assert!(ran.err.contains("Press Enter to stop"), "{}", ran.err);
    place.clean();
    assert_eq!(place.run(&["up", "-d"]).code, Some(0));
    assert_eq!(place.containers().len(), 1);
    assert_eq!(place.run(&["down"]).code, Some(0));
    place.clean();
}

#[test]
fn two_projects_have_networks_of_their_own() {
    if !root() {
        return;
    }
    let place = Place::new("services: {web: {command: sleep 100, ports: ['${PORT:-18080}:80']}}");
    assert_eq!(place.run(&["up", "-d", "-p", "aa"]).code, Some(0));
    let second = finish(
        place.command(CONTAINER, &["up", "-d", "-p", "bb", "--json"]).env("PORT", "18081").spawn().unwrap(),
    );
    assert_eq!(second.code, Some(0), "{}", second.err);
    assert!(
        second.out.contains("10.90.0.2/16") && second.out.contains("127.0.0.1:18081:80/tcp"),
        "{}",
        second.out
    );
    assert_eq!(place.network("ip", &["-o", "link", "show", "type", "bridge"]).lines().count(), 2);
    assert_eq!(place.run(&["down", "-p", "aa"]).out, "aa-web-1\n");
    assert_eq!(place.containers(), ["bb-web-1"]);
    assert_eq!(place.run(&["down", "-p", "bb"]).out, "bb-web-1\n");
    place.clean();
}

#[test]
fn a_service_between_two_networks() {
    if !root() {
        return;
    }
    let place = Place::new(
        "name: mid
services:
  db: {networks: [back], command: sleep 100}
  proxy: {networks: [back, front], command: sleep 100}
  web: {networks: [front], command: sleep 100}
networks:
  back: {internal: true}
  front:
",
    );
    let started = place.run(&["up", "-d"]);
    assert_eq!(started.code, Some(0), "{}", started.err);
    let hosts = |id| place.run(&["exec", id, "cat", "/etc/hosts"]).out;
    assert!(hosts("mid-proxy-1").contains("\tdb\n") && hosts("mid-proxy-1").contains("\tweb\n"));
    assert!(!hosts("mid-web-1").contains("\tdb\n") && hosts("mid-web-1").contains("\tproxy\n"));
    let routes = place.run(&["exec", "mid-proxy-1", "ip", "route"]).out;
    assert!(
        routes.contains("default via 10.89.0.1 dev eth0")
            || routes.contains("default via 10.90.0.1 dev eth0")
    );
    assert_eq!(routes.lines().filter(|line| line.contains("dev eth1")).count(), 1, "{routes}");
    let db = place.run(&["exec", "mid-db-1", "ip", "route"]).out;
    assert!(!db.contains("default"), "{db}");
    assert_eq!(place.run(&["down"]).code, Some(0));
    place.clean();
}
