//! What a container cannot do to its host, and what unusual callers and leftovers get.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::in_own_network;
use drydock_testkit::{Sandbox, have, is_root, require, run_for};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn limit(time: Duration) -> Duration {
    if std::env::var_os("DRYDOCK_VM").is_some() { time * 10 } else { time }
}

/// `container` with these words, without its output held: what stays behind would keep the pipes open.
fn quiet(sandbox: &Sandbox, words: &[&str], out: Stdio) -> std::process::ExitStatus {
    let mut command = sandbox.command("container");
    command.args(words).stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).status().unwrap()
}

#[test]
fn files_of_its_own_fill_nothing_of_the_hosts() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    for options in [&["--net", "none"][..], &["--net", "none", "--userns", "0:700000:65536"]] {
        let name = sandbox.unique("files");
        let script = "echo '10.9.9.9 other' >>/etc/hosts && tail -n 1 /etc/hosts && stat -c %u /etc/hosts; \
                      for f in hosts hostname resolv.conf; do head -c 9000000 /dev/zero >>/etc/$f; done; \
                      du -cb /etc/hosts /etc/hostname /etc/resolv.conf | tail -n 1 | cut -f 1; : >/tmp/full; sleep 1000";
        let words = [&["run", "-d", "--name", &name], options, &["--", "sh", "-c", script]].concat();
        assert!(quiet(&sandbox, &words, Stdio::null()).success());
        let logs = || sandbox.run("container", &["logs", &name]).stdout;
        sandbox.wait_until("the container has written", || logs().lines().count() >= 3);
        let logs = logs();
        let lines: Vec<&str> = logs.lines().collect();
        assert_eq!(&lines[..2], ["10.9.9.9 other", "0"], "{logs}");
        let written: u64 = lines[2].parse().unwrap();
        assert!(written <= 1 << 20, "{written} bytes written");
        for place in [sandbox.state().join(&name), sandbox.data().join("containers").join(&name)] {
            for file in ["hosts", "hostname", "resolv.conf"] {
                let size = fs::metadata(place.join("etc").join(file)).map_or(0, |meta| meta.len());
                assert!(size < 4096, "{file} has {size} bytes on the host");
            }
        }
        sandbox.run("container", &["delete", "--force", &name]).success();
    }
    assert!(sandbox.census().is_empty());
}

#[test]
fn its_own_copy_of_hosts_has_its_address() {
    require!(is_root() && have("ip"), "needs root and ip(8)");
    in_own_network(|| {
        let sandbox = Sandbox::new();
        let name = sandbox.unique("own");
        let words = [
            "run",
            "--rm",
            "--name",
            &name,
            "--hostname",
            "own",
            "--ip",
            "10.88.0.99",
            "--",
            "cat",
            "/etc/hosts",
        ];
        sandbox.run("container", &words).success().stdout_has("10.88.0.99\town").stdout_lacks("127.0.1.1");
    });
}

#[test]
fn input_that_nobody_reads_blocks_nobody() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let name = sandbox.unique("deaf");
    let script = "trap 'echo ended; exit 3' TERM; while :; do sleep 0.1; done";
    let words = ["run", "-d", "-i", "--net", "none", "--name", &name, "--", "sh", "-c", script];
    assert!(quiet(&sandbox, &words, Stdio::null()).success());
    let mut attach = sandbox.command("container");
    attach.args(["attach", &name]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut attach = attach.spawn().unwrap();
    let mut input = attach.stdin.take().unwrap();
    // Until every buffer on the way is full, and a little more.
    let writer = std::thread::spawn(move || input.write_all(&vec![b'x'; 2 << 20]));
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    sandbox.run("container", &["stop", "--time", "25", &name]).success();
    sandbox.run("container", &["wait", &name]).success().stdout_is("3");
    assert!(began.elapsed() < limit(Duration::from_secs(20)), "it took {:?}", began.elapsed());
    sandbox.run("container", &["logs", &name]).success().stdout_has("ended");
    attach.wait().unwrap();
    assert!(writer.join().unwrap().is_err(), "nobody read all of it");
    sandbox.run("container", &["delete", &name]).success();
}

#[test]
fn input_arrives_whole() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let name = sandbox.unique("count");
    let words = ["run", "-d", "-i", "--net", "none", "--name", &name, "--", "sh", "-c", "sleep 0.5; wc -c"];
    assert!(quiet(&sandbox, &words, Stdio::null()).success());
    let mut attach = sandbox.command("container");
    run_for(attach.args(["attach", &name]), &vec![b'x'; 1_234_567], limit(Duration::from_secs(20))).success();
    sandbox.run("container", &["wait", &name]).success().stdout_is("0");
    sandbox.run("container", &["logs", &name]).stdout_has("1234567");
    sandbox.run("container", &["delete", &name]).success();
}

#[test]
fn a_writer_that_outlives_it_does_not_keep_its_supervisor() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let name = sandbox.unique("writer");
    let script = "while :; do echo again; done & exit 4";
    let words = ["run", "-d", "--net", "none", "--ns", "pid=host", "--name", &name, "--", "sh", "-c", script];
    assert!(quiet(&sandbox, &words, Stdio::null()).success());
    let mut wait = sandbox.command("container");
    run_for(wait.args(["wait", &name]), b"", limit(Duration::from_secs(20))).success().stdout_is("4");
    sandbox.run("container", &["delete", &name]).success();
    assert!(sandbox.census().is_empty());
}

#[test]
fn a_name_that_cannot_be_told_leaves_no_container() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let name = sandbox.unique("untold");
    let words = ["run", "-d", "--net", "none", "--name", &name, "--", "sleep", "1000"];
    assert_eq!(quiet(&sandbox, &words, full.into()).code(), Some(125));
    assert!(sandbox.census().is_empty(), "{:?}", sandbox.census());
}

#[test]
fn the_code_of_a_container_that_is_removed() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let name = sandbox.unique("code");
    let words = ["run", "-d", "--rm", "--net", "none", "--name", &name, "--", "sh", "-c", "sleep 1; exit 7"];
    assert!(quiet(&sandbox, &words, Stdio::null()).success());
    sandbox.run("container", &["wait", &name]).success().stdout_is("7");
    sandbox.run("container", &["wait", &name]).fails_with(2);
}

#[test]
fn a_root_file_system_has_files() {
    let sandbox = Sandbox::new();
    for (dir, says) in [("/proc", "procfs"), ("/sys", "sysfs")] {
        let words = ["run", "--net", "none", "--rootfs", dir, "--", "true"];
        sandbox.run("container", &words).fails_with(2).says("--rootfs").says(says);
    }
    assert!(sandbox.census().is_empty());
}

#[test]
fn every_step_is_explained() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let words = ["run", "--rm", "--explain", "--net", "none", "--", "true"];
    let explained = sandbox.run("container", &words).success().stderr;
    let state = explained.lines().position(|line| line.starts_with("state") && line.contains("flock("));
    let cgroup = explained.lines().position(|line| line.starts_with("cgroup"));
    assert!(state.is_some() && state < cgroup, "{explained}");
}

#[test]
fn what_stands_for_a_journal_or_a_lock_is_removed() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    sandbox.run("container", &["gc"]).success();
    let make = |name: &str| {
        let dir = sandbox.state().join(name);
        fs::create_dir_all(dir.join("journal/deeper")).unwrap();
        fs::create_dir_all(dir.join("lock")).unwrap();
        dir
    };
    let (forced, collected) = (make("forced"), make("collected"));
    sandbox.run("container", &["delete", "--force", "forced"]).success();
    assert!(!forced.exists());
    sandbox.run("container", &["gc", "--check"]).exits(1);
    sandbox.run("container", &["gc"]).success();
    assert!(!collected.exists());
}

#[test]
fn a_journal_cannot_name_what_is_the_hosts() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let dir = sandbox.state().join("liar");
    fs::create_dir_all(&dir).unwrap();
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", bystander.id())).unwrap();
    let start = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().to_string();
    let lines = format!(
        "{{\"object\":\"process\",\"pid\":{},\"start_time\":{start}}}\n{{\"object\":\"mount\",\"target\":\"/nowhere\"}}\n",
        bystander.id()
    );
    fs::write(dir.join("journal"), lines).unwrap();
    let said = sandbox.run("container", &["delete", "--force", "liar"]).fails_with(125).stderr;
    assert!(said.contains("/nowhere") && said.contains("not ours"), "{said}");
    assert!(bystander.try_wait().unwrap().is_none(), "somebody else's process was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn whole_names_for_what_ends_a_container() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let name = sandbox.unique("whole");
    let words = ["run", "-d", "--net", "none", "--name", &name, "--", "sleep", "1000"];
    assert!(quiet(&sandbox, &words, Stdio::null()).success());
    let part = &name[..name.len() - 1];
    for words in [&["stop", part][..], &["kill", part], &["delete", part]] {
        sandbox.run("container", words).fails_with(2).says(&name);
    }
    sandbox.run("container", &["delete", "--force", part]).success();
    assert!(sandbox.run("container", &["list"]).stdout.contains("running"));
    sandbox.run("container", &["delete", "--force", &name]).success();
}

#[test]
fn a_user_namespace_without_the_group_of_terminals() {
    require!(is_root() && have("unshare"), "needs root and unshare(1)");
    let sandbox = Sandbox::new();
    sandbox.run("rootfs", &["default"]).success();
    let mut command = Command::new("unshare");
    command
        .arg("-Ur")
        .arg(drydock_testkit::bin("container"))
        .args(["run", "--rm", "--net", "none", "--", "ls", "/dev/pts"]);
    command.env("DRYDOCK_ROOT", sandbox.state()).env("DRYDOCK_DATA", sandbox.data());
    drydock_testkit::run(&mut command).success().stdout_has("ptmx");
}

#[test]
fn the_state_of_another_user() {
    require!(is_root() && have("setpriv"), "needs root and setpriv(1)");
    let sandbox = Sandbox::new();
    sandbox.run("container", &["gc"]).success();
    let tool = sandbox.join("container");
    fs::copy(drydock_testkit::bin("container"), &tool).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&tool).arg("list");
    command.env("DRYDOCK_ROOT", sandbox.state());
    drydock_testkit::run(&mut command).fails_with(125).says("another user's");
}

#[test]
fn unshare_explains_pid_and_reports() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    sandbox.run("container", &["unshare", "--explain=pid", "--", "true"]).success();
    let said =
        sandbox.run("container", &["unshare", "--uts", "--json", "--", "sh", "-c", "exit 3"]).exits(3).stderr;
    let report: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(report["exit_code"], 3);
    assert_eq!(report["namespaces"], serde_json::json!(["uts"]));
}

#[test]
fn cgroupctl_reports_whatever_it_does() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let name = sandbox.unique("json");
    let json = |words: &[&str]| {
        let output = sandbox.run("cgroupctl", words).success();
        serde_json::from_str::<serde_json::Value>(output.stdout.trim())
            .unwrap_or_else(|_| panic!("{}", output.describe()))
    };
    for verb in ["freeze", "thaw", "kill", "delete"] {
        sandbox.run("cgroupctl", &[verb, &name]).exits(if verb == "delete" { 0 } else { 2 });
    }
    sandbox.run("cgroupctl", &["create", &name]).success();
    let said =
        sandbox.run("cgroupctl", &["run", "--json", &name, "--", "sh", "-c", "exit 5"]).exits(5).stderr;
    assert_eq!(serde_json::from_str::<serde_json::Value>(said.trim()).unwrap()["exit_code"], 5);
    // After cgroup.kill Linux 6.18 kills what is cloned into the cgroup: it is the last.
    assert_eq!(json(&["freeze", "--json", &name])["frozen"], true);
    assert_eq!(json(&["thaw", "--json", &name])["thawed"], true);
    assert_eq!(json(&["kill", "--json", &name])["killed"], true);
    assert_eq!(json(&["delete", "--json", &name])["removed"], true);
    assert_eq!(json(&["delete", "--json", &name])["removed"], false);
}

/// A parameter that would be the host's is refused, and what cannot be written is told before anything runs.
#[test]
fn nothing_of_the_hosts_is_changed_by_an_option() {
    let sandbox = Sandbox::new();
    let file = "/proc/sys/net/ipv4/ip_default_ttl";
    let before = std::fs::read_to_string(file).unwrap();
    let words = ["run", "--rm", "--net", "host", "--sysctl", "net.ipv4.ip_default_ttl=77", "--", "true"];
    sandbox.run("container", &words).fails_with(2).says("--sysctl").says("would be the host's");
    let words = ["run", "--rm", "--ns", "ipc=host", "--sysctl", "kernel.msgmax=9001", "--", "true"];
    sandbox.run("container", &words).fails_with(2).says("kernel.msgmax");
    assert_eq!(std::fs::read_to_string(file).unwrap(), before);
    let ran = sandbox.run("container", &["run", "--rm", "--timings=/nosuch/x", "--", "echo", "ran"]);
    ran.fails_with(2).says("--timings").stdout_is("");
}
