//! SIGKILL at any moment leaves nothing that `container gc`, or `container delete --force`, does not take away.
//!
//! strace(1) counts the system calls of one command and kills it at the N-th, for N spread over all of them. After each
//! kill the machine is compared with what it was: processes, cgroups of every hierarchy, mounts, links, addresses, nft
//! rules, sysctls, leases, state and data directories; and another container goes on as if nothing had been.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{difference, everything, in_own_network, say};
use drydock_testkit::{Sandbox, have, in_vm, is_root, require, run};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Points of one series on this machine; the VM, which is ten times slower, gets fewer.
fn points(wanted: usize) -> usize {
    if in_vm() { wanted.div_ceil(10) } else { wanted }
}

/// What one series is about.
struct Series<'a> {
    name: &'a str,
    /// Commands that come before each kill, `ID` for the container.
    before: &'a [&'a [&'a str]],
    /// The command that is killed.
    killed: &'a [&'a str],
    /// Kill its children, too, each at its own N-th call.
    children: bool,
    points: usize,
    /// At named places of the program instead of system calls.
    named: bool,
}

/// A series in which the command alone is killed.
fn series<'a>(
    name: &'a str,
    before: &'a [&'a [&'a str]],
    killed: &'a [&'a str],
    wanted: usize,
    named: bool,
) -> Series<'a> {
    Series { name, before, killed, children: false, points: points(wanted), named }
}

#[derive(Default)]
struct Tally {
    points: usize,
    left: usize,
    found: usize,
    leaks: Vec<String>,
}

/// The place of a series: a sandbox, and a container that must not notice anything.
struct Ground {
    sandbox: Sandbox,
    id: String,
    neighbour: Option<Neighbour>,
    clean: BTreeSet<String>,
}

struct Neighbour {
    id: String,
    pid: i32,
    address: std::net::IpAddr,
}

impl Ground {
    fn new(with_neighbour: bool) -> Ground {
        let sandbox = Sandbox::new().lenient();
        let id = sandbox.unique("k");
        // The default root file system, before anything is counted.
        sandbox.run("container", &["run", "--rm", "--net", "none", "--", "true"]).success();
        let neighbour = with_neighbour.then(|| Neighbour::start(&sandbox));
        // What the first container on the bridge leaves for the next ones is there from now on.
        sandbox.run("container", &["run", "--rm", "--net", "bridge", "--", "true"]).success();
        let clean = everything(&sandbox);
        Ground { sandbox, id, neighbour, clean }
    }

    fn container(&self, words: &[&str]) -> run::Output {
        let words: Vec<String> = words.iter().map(|word| self.word(word)).collect();
        self.sandbox.run("container", &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn word(&self, word: &str) -> String {
        match word {
            "ID" => self.id.clone(),
            "BUNDLE" => self.bundle(),
            other => other.to_string(),
        }
    }

    /// A bundle over the default root file system, whose command stays.
    fn bundle(&self) -> String {
        let dir = self.sandbox.join("bundle");
        let shown = dir.to_str().unwrap().to_string();
        if dir.join("config.json").exists() {
            return shown;
        }
        std::fs::create_dir_all(&dir).unwrap();
        self.sandbox.run("container", &["spec", "--bundle", &shown]).success();
        let roots = std::fs::read_dir(self.sandbox.data().join("rootfs")).unwrap();
        let root = roots.flatten().map(|e| e.path()).find(|p| p.join("bin").exists()).unwrap();
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["root"] = serde_json::json!({ "path": root, "readonly": true });
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["sleep", "60"]);
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        shown
    }

    /// The command under strace, ended at a system call; returns whether it was killed.
    fn killed(&self, series: &Series<'_>, (name, occurrence): &(String, usize)) -> bool {
        if series.named {
            let mut command = self.bare(series);
            command.env("DRYDOCK_FAILPOINT", format!("{name}#{occurrence}"));
            return !command.status().expect("the tool starts").success();
        }
        let mut command = Command::new("strace");
        command.args([
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("inject={name}:signal=KILL:when={occurrence}"),
        ]);
        if series.children {
            command.arg("-f");
        }
        self.fill(&mut command, series);
        let status = command.status().expect("strace starts");
        // strace ends as its first command does; which of several was killed, it does not tell.
        series.children || status.signal() == Some(9)
    }

    /// The command without strace.
    fn bare(&self, series: &Series<'_>) -> Command {
        let mut command = self.sandbox.command("container");
        command.args(series.killed.iter().map(|word| self.word(word)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The named places that the command and the processes that it makes come by.
    fn names(&self, series: &Series<'_>) -> Vec<(String, usize)> {
        self.prepare(series);
        let log = self.sandbox.join("names");
        std::fs::write(&log, "").unwrap();
        self.bare(series).env("DRYDOCK_FAILPOINTS", &log).status().expect("the tool starts");
        self.container(&["delete", "--force", "ID"]).success();
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        let mut seen = BTreeMap::new();
        let mut names = Vec::new();
        for line in text.lines() {
            let count = seen.entry(line).or_insert(0);
            *count += 1;
            let name = (line.split_once(' ').unwrap().1.to_string(), *count);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn fill(&self, command: &mut Command, series: &Series<'_>) {
        let tool = self.sandbox.command("container");
        command.arg(tool.get_program());
        command.args(series.killed.iter().map(|word| self.word(word)));
        command.env("DRYDOCK_ROOT", self.sandbox.state()).env("DRYDOCK_DATA", self.sandbox.data());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }

    /// The system calls that the command makes when nobody kills it: each with its how-manieth of its name it is, since
    /// strace counts each name by itself.
    fn calls(&self, series: &Series<'_>) -> Vec<(String, usize)> {
        self.prepare(series);
        let log = self.sandbox.join("calls");
        let mut command = Command::new("strace");
        command.args(["-qq", "-o"]).arg(&log).args(series.children.then_some("-f"));
        self.fill(&mut command, series);
        command.status().expect("strace starts");
        self.container(&["delete", "--force", "ID"]).success();
        let mut seen = BTreeMap::new();
        let text = std::fs::read_to_string(&log).unwrap();
        let calls = text.lines().filter_map(|line| {
            // With -f a line begins with the process, whose calls are counted by themselves.
            let line = line.trim_start();
            let (pid, call) =
                line.split_once(' ').filter(|(pid, _)| pid.parse::<u32>().is_ok()).unwrap_or(("", line));
            let name = call.trim_start().split_once('(')?.0.to_string();
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return None;
            }
            let count = seen.entry((pid.to_string(), name.clone())).or_insert(0);
            *count += 1;
            Some((name, *count))
        });
        calls.collect()
    }

    fn prepare(&self, series: &Series<'_>) {
        for words in series.before {
            self.container(words).success();
        }
    }

    /// Waits, shortly, until what is dying is dead; returns what is left then.
    fn settled(&self, patience: Duration) -> String {
        let until = Instant::now() + if in_vm() { patience * 10 } else { patience };
        loop {
            let difference = difference(&self.clean, &everything(&self.sandbox));
            if difference.is_empty() || Instant::now() > until {
                return difference;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn runs(&self) -> bool {
        let list = self.container(&["list", "--json"]);
        let lives = |text: &str| text.contains("\"running\"") || text.contains("\"created\"");
        list.stdout.contains(&self.id) && lives(&self.container(&["state", "ID"]).stdout)
    }

    fn point(&self, series: &Series<'_>, when: &(String, usize), tally: &mut Tally) {
        self.prepare(series);
        if !self.killed(series, when) {
            self.container(&["delete", "--force", "ID"]).success();
            return;
        }
        tally.points += 1;
        let left = self.settled(Duration::from_millis(60));
        tally.left += usize::from(!left.is_empty());
        let checked = self.container(&["gc", "--check"]);
        tally.found += usize::from(checked.code == Some(1));
        let lives = checked.code == Some(0) && !left.is_empty() && self.runs();
        let mut wrong = Vec::new();
        // A finished container's record stays until it is deleted: that is no leak.
        let record = !left.is_empty() && self.container(&["inspect", "ID"]).stdout.contains("\"stopped\"");
        let seen = checked.code != Some(0) || lives || record;
        if !left.is_empty() && !seen && !self.settled(Duration::from_secs(3)).is_empty() {
            wrong.push(format!("gc --check finds nothing, but there is:\n{left}"));
        }
        let how: &[&str] =
            if tally.points.is_multiple_of(2) { &["gc"] } else { &["delete", "--force", "ID"] };
        let cleaned = self.container(how);
        if cleaned.code != Some(0) {
            wrong.push(cleaned.describe());
        }
        if how == ["gc"] {
            let again = self.container(&["gc", "--check"]);
            if again.code != Some(0) {
                wrong.push(format!("after gc: {}", again.describe()));
            }
            // What is not left behind is gc's to leave alone: a container that runs, or a record.
            if lives && !self.runs() {
                wrong.push("gc ended a container whose owner lives".into());
            }
            if lives || self.container(&["inspect", "ID"]).stdout.contains("\"stopped\"") {
                self.container(&["delete", "--force", "ID"]).success();
            }
        }
        let leaked = self.settled(Duration::from_secs(2));
        if !leaked.is_empty() {
            wrong.push(format!("left after `container {}`:\n{leaked}", how.join(" ")));
            self.container(&["gc"]);
            self.container(&["delete", "--force", "ID"]);
            let stays = self.settled(Duration::from_secs(1));
            wrong.push(format!("and after both: {stays:?}"));
        }
        if let Some(neighbour) = &self.neighbour
            && let Some(trouble) = neighbour.trouble(&self.sandbox)
        {
            wrong.push(trouble);
        }
        if !wrong.is_empty() {
            tally.leaks.push(format!("{} at {}({}): {}", series.name, when.0, when.1, wrong.join("\n")));
        }
    }

    fn series(&self, series: &Series<'_>) -> Tally {
        let calls = if series.named { self.names(series) } else { self.calls(series) };
        let mut tally = Tally::default();
        let started = Instant::now();
        for i in 0..series.points {
            // Evenly over all calls, the first and the last included.
            let when = i * calls.len().saturating_sub(1) / series.points.saturating_sub(1).max(1);
            self.point(series, calls.get(when).expect("a call"), &mut tally);
            assert!(tally.leaks.len() < 5, "{}", tally.leaks.join("\n\n"));
        }
        say(&format!(
            "kill: {}: {} places, {} points, {} left something, gc --check saw {}, leaks after cleaning: {} ({:.0?})",
            series.name,
            calls.len(),
            tally.points,
            tally.left,
            tally.found,
            tally.leaks.len(),
            started.elapsed()
        ));
        tally.leaks.iter().for_each(|leak| say(leak));
        tally
    }
}

impl Neighbour {
    fn start(sandbox: &Sandbox) -> Neighbour {
        let id = sandbox.unique("n");
        sandbox
            .run("container", &["run", "-d", "--net", "bridge", "--name", &id, "--", "sleep", "3600"])
            .success();
        let text = sandbox.run("container", &["inspect", &id]).success().stdout;
        let field = |name: &str| {
            let rest = text.split_once(&format!("\"{name}\":")).map(|(_, rest)| rest).unwrap_or_default();
            rest.trim_start_matches([' ', '[', '\n', '"'])
                .split([',', '"', '\n', '/'])
                .next()
                .unwrap_or_default()
                .to_string()
        };
        let pid = field("pid").parse().unwrap_or_else(|_| panic!("no pid in {text}"));
        let address = field("addresses").parse().unwrap_or_else(|_| panic!("no address in {text}"));
        Neighbour { id, pid, address }
    }

    /// It runs, as the process it was, and can be reached: a closed port that says so is a reachable one.
    fn trouble(&self, sandbox: &Sandbox) -> Option<String> {
        let command = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        if !command.starts_with(b"sleep\0") {
            return Some(format!("the neighbour {} has gone", self.id));
        }
        let answer = TcpStream::connect_timeout(&SocketAddr::new(self.address, 9), Duration::from_secs(3));
        match answer.map_err(|e| e.kind()) {
            Err(std::io::ErrorKind::ConnectionRefused) => {}
            other => return Some(format!("the neighbour cannot be reached: {other:?}")),
        }
        let list = sandbox.run("container", &["inspect", &self.id]);
        (!list.stdout.contains("\"running\"")).then(|| list.describe())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(neighbour) = &self.neighbour {
            let _ = self.sandbox.command("container").args(["delete", "--force", &neighbour.id]).output();
        }
    }
}

macro_rules! require_tools {
    () => {
        require!(is_root(), "needs root");
        require!(have("strace"), "strace is not installed (scripts/deps.sh test)");
        require!(have("ip") && have("nft"), "ip and nft are not installed (scripts/deps.sh test)");
    };
}

fn check(series: &[Series<'_>], with_neighbour: bool) {
    in_own_network(|| {
        let ground = Ground::new(with_neighbour);
        let leaks: Vec<String> = series.iter().flat_map(|series| ground.series(series).leaks).collect();
        assert!(leaks.is_empty(), "{}", leaks.join("\n\n"));
    });
}

const RUN: &[&str] = &["run", "--rm", "--name", "ID", "-p", "8080:80", "--", "true"];
const DETACHED: &[&str] = &["run", "-d", "--net", "bridge", "--name", "ID", "--", "sleep", "60"];

#[test]
fn run_beside_another_container() {
    require_tools!();
    check(
        &[Series {
            name: "run",
            before: &[],
            killed: RUN,
            children: false,
            points: points(80),
            named: false,
        }],
        true,
    );
}

#[test]
fn run_as_the_only_container() {
    require_tools!();
    let user: &[&str] = &["run", "--net", "bridge", "--name", "ID", "-u", "1000", "--", "true"];
    check(
        &[
            Series {
                name: "run alone",
                before: &[],
                killed: RUN,
                children: false,
                points: points(40),
                named: false,
            },
            Series {
                name: "run as another user",
                before: &[],
                killed: user,
                children: false,
                points: points(20),
                named: false,
            },
        ],
        false,
    );
}

#[test]
fn detached_run_and_its_supervisor() {
    require_tools!();
    let short: &[&str] = &["run", "-d", "--rm", "--net", "bridge", "--name", "ID", "--", "true"];
    check(
        &[
            Series {
                name: "run -d",
                before: &[],
                killed: DETACHED,
                children: false,
                points: points(20),
                named: false,
            },
            Series {
                name: "run -d, with its supervisor and child",
                before: &[],
                killed: short,
                children: true,
                points: points(40),
                named: false,
            },
        ],
        true,
    );
}

#[test]
fn stop_and_delete() {
    require_tools!();
    let stop: &[&str] = &["stop", "--time", "1", "ID"];
    let delete: &[&str] = &["delete", "--force", "ID"];
    let ended: &[&str] = &["run", "--net", "bridge", "--name", "ID", "--", "true"];
    check(
        &[
            Series {
                name: "stop",
                before: &[DETACHED],
                killed: stop,
                children: false,
                points: points(25),
                named: false,
            },
            Series {
                name: "delete --force",
                before: &[DETACHED],
                killed: delete,
                children: false,
                points: points(40),
                named: false,
            },
            Series {
                name: "delete",
                before: &[ended],
                killed: &["delete", "ID"],
                children: false,
                points: points(25),
                named: false,
            },
        ],
        true,
    );
}

/// The places that the program itself has names for: before and after each step, around each record, in each part of a command.
#[test]
fn named_places() {
    require_tools!();
    let bridged: &[&str] = &["run", "--net", "bridge", "-p", "8080:80", "--name", "ID", "--", "true"];
    let one = |name, before, killed, wanted| series(name, before, killed, wanted, true);
    let start: &[&str] = &["start", "ID"];
    let exec: &[&str] = &["exec", "ID", "true"];
    check(
        &[
            one("start at named places", &[CREATE], start, 5),
            one("run at named places", &[], bridged, 30),
            one("run -d at named places", &[], DETACHED, 10),
            one("create at named places", &[], CREATE, 15),
            one("exec at named places", &[DETACHED], exec, 3),
            one("delete at named places", &[CREATE, start], &["delete", "--force", "ID"], 7),
        ],
        false,
    );
}

const CREATE: &[&str] = &["create", "--bundle", "BUNDLE", "ID"];

#[test]
fn a_bundles_create_start_and_delete() {
    require_tools!();
    let start: &[&str] = &["start", "ID"];
    let delete: &[&str] = &["delete", "--force", "ID"];
    let run: &[&str] = &["run", "--detach", "--bundle", "BUNDLE", "ID"];
    let one = |name, before, killed, wanted| series(name, before, killed, wanted, false);
    check(
        &[
            one("create", &[], CREATE, 50),
            one("start", &[CREATE], start, 20),
            one("delete of a started one", &[CREATE, start], delete, 25),
            one("run --detach of a bundle", &[], run, 25),
        ],
        false,
    );
}
