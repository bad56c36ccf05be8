//! Many at once: 500 containers, 500 commands in one, 50 processes that want the same name. Each either works or says why not,
//! and nothing is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use drydock_testkit::{Sandbox, in_vm, is_root, require};
use std::process::{Child, Output, Stdio};

fn many(host: usize) -> usize {
    if in_vm() { host / 25 } else { host }
}

fn spawn(sandbox: &Sandbox, words: &[&str]) -> Child {
    let mut command = sandbox.command("container");
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ended(children: Vec<Child>) -> Vec<Output> {
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

#[track_caller]
fn all_well(ends: &[Output]) {
    let failed: Vec<_> = ends
        .iter()
        .filter(|end| !end.status.success())
        .map(|end| String::from_utf8_lossy(&end.stderr).into_owned())
        .collect();
    assert!(failed.is_empty(), "{} of {} failed: {}", failed.len(), ends.len(), failed[0]);
}

#[test]
fn containers_and_commands_by_the_hundred() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    sandbox.run("container", &["run", "--rm", "--net", "none", "--", "true"]).success();
    let name = |n: usize| sandbox.unique(&format!("c{n}"));
    let run = |n: usize| spawn(&sandbox, &["run", "--rm", "--net", "none", "--name", &name(n), "--", "true"]);
    all_well(&ended((0..many(500)).map(run).collect()));
    let id = sandbox.unique("one");
    sandbox.run("container", &["run", "-d", "--net", "none", "--name", &id, "--", "sleep", "1000"]).success();
    all_well(&ended((0..many(500)).map(|_| spawn(&sandbox, &["exec", &id, "true"])).collect()));
    let ps = sandbox.run("container", &["ps", "-f", "json", &id]).success().stdout;
    assert_eq!(ps.matches(',').count(), 0, "only the first process is left: {ps}");
    sandbox.run("container", &["delete", "-f", &id]).success();
    sandbox.run("container", &["gc", "--check"]).success();
    assert!(sandbox.census().is_empty(), "{:?}", sandbox.census());
}

/// Made and deleted by everybody at the same time: whoever makes it makes it whole, and the last deletion leaves nothing.
#[test]
fn one_name_made_and_deleted_by_fifty() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    sandbox.run("container", &["run", "--rm", "--net", "none", "--", "true"]).success();
    let id = sandbox.unique("race");
    let count = many(50);
    let children: Vec<_> = (0..count)
        .map(|n| match n % 2 {
            0 => spawn(&sandbox, &["run", "-d", "--net", "none", "--name", &id, "--", "sleep", "1000"]),
            _ => spawn(&sandbox, &["delete", "-f", &id]),
        })
        .collect();
    for (n, end) in ended(children).iter().enumerate() {
        let told = String::from_utf8_lossy(&end.stderr);
        // One that was deleted before its command ran, or came too late, says so.
        let refused = n % 2 == 0 && told.lines().count() == 1;
        assert!(end.status.success() || refused, "{n}: {:?}: {told}", end.status);
    }
    sandbox.run("container", &["delete", "-f", &id]).success();
    sandbox.run("container", &["gc", "--check"]).success();
    assert!(sandbox.census().is_empty(), "{:?}", sandbox.census());
}
