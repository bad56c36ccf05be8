//! `container` called by the name of runc: what is looked for by those who call it so.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use drydock_testkit::{Output, Sandbox, is_root, require, run};
use std::os::unix::process::CommandExt;

fn runc(sandbox: &Sandbox, args: &[&str]) -> Output {
    run(sandbox.command("container").arg0("/usr/sbin/runc").args(args))
}

#[test]
fn its_name_version_and_exit_codes() {
    let sandbox = Sandbox::new();
    let version = runc(&sandbox, &["--version"]).success();
    let lines: Vec<&str> = version.stdout.lines().collect();
    assert_eq!(lines[0], concat!("runc version ", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit: ") && lines[2] == "spec: 1.3.0", "{lines:?}");
    runc(&sandbox, &["--help"]).success().stdout_has("runc - Open Container Initiative runtime");
    runc(&sandbox, &["state", "nosuch"]).fails_with(1).says("runc: 'nosuch': ");
    runc(&sandbox, &["--nosuch"]).fails_with(1).says("--nosuch");
    runc(&sandbox, &["exec", "nosuch", "true"])
        .fails_with(255)
        .says("exec failed: unable to start container");
    let bundle = sandbox.join("nosuch").display().to_string();
    let told = runc(&sandbox, &["run", "-b", &bundle, "x"]).fails_with(1);
    assert!(
        told.stderr.starts_with("runc run failed: unable to start container process: "),
        "{}",
        told.stderr
    );
    // By its own name, the codes of all tools.
    sandbox.run("container", &["state", "nosuch"]).fails_with(2).says("container: 'nosuch': ");
    sandbox.run("container", &["run", "-b", &bundle, "x"]).fails_with(2);
}

#[test]
fn a_root_that_is_not_there_has_no_list() {
    let sandbox = Sandbox::new();
    let nowhere = sandbox.join("nowhere").display().to_string();
    runc(&sandbox, &["--root", &nowhere, "list"]).fails_with(1).says("nowhere': no such file or directory");
    sandbox.run("container", &["--root", &nowhere, "list"]).success();
}

#[test]
fn the_commands_own_code_stays() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("runc");
    runc(&sandbox, &["run", "-d", "--name", &id, "--net", "none", "--", "sleep", "600"]).success();
    runc(&sandbox, &["exec", &id, "sh", "-c", "exit 42"]).exits(42);
    runc(&sandbox, &["exec", &id, "no-such-binary"]).fails_with(255);
    sandbox.run("container", &["exec", &id, "no-such-binary"]).fails_with(127);
    runc(&sandbox, &["pause", &id]).success();
    runc(&sandbox, &["exec", &id, "true"]).fails_with(255).says("cannot exec in a paused container");
    runc(&sandbox, &["delete", "-f", &id]).success();
}
