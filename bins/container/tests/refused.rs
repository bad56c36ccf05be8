//! What is wrong on the command line is told in one sentence, with exit code 2, before anything is touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use drydock_testkit::{Sandbox, is_root, require};
use std::os::unix::fs::symlink;

/// Each line is refused with this sentence, and the sandbox stays as it is.
#[track_caller]
fn refused(sandbox: &Sandbox, cases: &[(&[&str], &str)]) {
    let before = files(sandbox);
    for (args, told) in cases {
        let output = sandbox.run("container", args).fails_with(2);
        let lines = output.stderr.lines().count();
        assert!(lines == 1 && output.stderr.contains(told), "{told}: {}", output.describe());
    }
    assert_eq!(files(sandbox), before);
}

fn files(sandbox: &Sandbox) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut todo = vec![sandbox.path().to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            all.push(entry.path().display().to_string());
        }
    }
    all.sort();
    all
}

#[test]
fn a_state_directory_that_is_none() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.join("file"), "").unwrap();
    symlink("/", sandbox.join("link")).unwrap();
    let at = |name: &str| sandbox.join(name).display().to_string();
    let (file, link, below) = (at("file"), at("link"), at("file/x"));
    refused(
        &sandbox,
        &[
            (&["--root", &file, "list"], "file' is not a directory (allowed: "),
            (&["--root", &file, "run", "--rm", "--", "true"], "is not a directory"),
            (&["--root", &link, "list"], "is not a directory"),
            (&["--root", &below, "state", "x"], "ENOTDIR"),
            (&["--root", "/proc/none", "create", "--bundle", "/none", "x"], "--bundle: '/none': "),
            (&["--root", "relative", "list"], "'relative' is relative (allowed: an absolute path)"),
        ],
    );
}

#[test]
fn a_pid_file_that_cannot_be() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.join("bundle/rootfs")).unwrap();
    let bundle = sandbox.join("bundle").display().to_string();
    sandbox.run("container", &["spec", "-b", &bundle]).success();
    let config = std::fs::read_to_string(sandbox.join("bundle/config.json")).unwrap();
    let config = config.replace("\"terminal\": true", "\"terminal\": false");
    std::fs::write(sandbox.join("bundle/config.json"), config).unwrap();
    let missing = sandbox.join("none/pid").display().to_string();
    let directory = sandbox.path().display().to_string();
    let id = sandbox.unique("p");
    for verb in ["create", "run"] {
        refused(
            &sandbox,
            &[
                (&[verb, "-b", &bundle, "--pid-file", &missing, &id], "--pid-file: "),
                (&[verb, "-b", &bundle, "--pid-file", &directory, &id], "is a directory (allowed: "),
            ],
        );
    }
    sandbox.run("container", &["run", "-d", "--name", &id, "--", "sleep", "100"]).success();
    // What its supervisor still makes is not the refused command's.
    let attach = sandbox.state().join(&id).join("attach");
    sandbox.wait_until("its supervisor listens", || attach.exists());
    refused(&sandbox, &[(&["exec", "--pid-file", &missing, &id, "true"], "--pid-file: ")]);
    sandbox.run("container", &["delete", "-f", &id]).success();
}

#[test]
fn limits_by_the_name_of_their_option() {
    let sandbox = Sandbox::new();
    let run = |option: &'static str, value: &'static str| ["run", "--rm", option, value, "--", "true"];
    for (option, value, told) in [
        ("--memory", "0", "--memory: 0 is out of range (allowed: 4096 to "),
        ("--memory", "1k", "--memory: 1024 is out of range (allowed: 4096 to "),
        ("--cpus", "x", "--cpus: 'x' is not a number of processors"),
        ("--cpu-weight", "0", "--cpu-weight: 0 is out of range (allowed: 1 to 10000)"),
        ("--cpu-weight", "x", "--cpu-weight: 'x' is not a whole number"),
        ("--cpuset-cpus", "0-", "--cpuset-cpus: '0-' is not a list"),
        ("--cpuset-cpus", "0-99999", "--cpuset-cpus: "),
        ("--cpuset-mems", "x", "--cpuset-mems: 'x' is not a list"),
        ("--pids", "99999999", "--pids: 99999999 is out of range"),
    ] {
        refused(&sandbox, &[(&run(option, value), told)]);
    }
}

#[test]
fn sentences_say_what_is_wrong_once() {
    let sandbox = Sandbox::new();
    refused(
        &sandbox,
        &[
            (&["run", "--hostname", "a b", "--", "true"], "--hostname: 'a b' is not a host name (allowed: "),
            (&["run", "--workdir", "x", "--", "true"], "--workdir: 'x' is not absolute (allowed: "),
            (&["run", "--env", "=x", "--", "true"], "--env: '=x' is not a variable (allowed: "),
            (&["run", "--net", "x", "--", "true"], "--net: 'x' is no network (allowed: "),
            (&["run", "-p", "0:80", "--", "true"], "(allowed: [HOST_ADDRESS:]PORT[:CONTAINER_PORT]"),
            (&["unshare", "--map-users", "x", "true"], "container: --map-users: 'x' is not a map (allowed: "),
            (&["unshare", "--propagation", "x", "true"], "'x' is none of its values (allowed: private, "),
            (&["state", "none"], "container: 'none': error: the container does not exist; hint: "),
            (&["update", "none"], "no limit is given (allowed: "),
            (&["frob"], "container: command: No help topic for 'frob': "),
            (&["help", "frob"], "container: command: No help topic for 'frob': "),
            (&["list", "--frob"], "unexpected argument '--frob'"),
        ],
    );
    let other = sandbox.run("cgroupctl", &["frob"]).fails_with(2);
    assert!(!other.stderr.contains("No help topic"), "{}", other.describe());
}

#[test]
fn a_namespace_is_kept_in_a_directory_that_is_there() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let kept = format!("--uts={}", sandbox.join("none/uts").display());
    refused(&sandbox, &[(&["unshare", &kept, "true"], "none' is not there, or no directory (allowed: ")]);
}

#[test]
fn processors_and_memory_nodes() {
    require!(is_root(), "needs root");
    let v2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let there = std::path::Path::new("/sys/fs/cgroup/cpuset").is_dir() || v2.contains("cpuset");
    require!(there, "no cpuset controller");
    let sandbox = Sandbox::new();
    let script = "grep -E '^(Cpus|Mems)_allowed_list' /proc/self/status";
    let words = ["run", "--rm", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--", "sh", "-c", script];
    sandbox.run("container", &words).success().stdout_is("Cpus_allowed_list:\t0\nMems_allowed_list:\t0");
}
