//! What every tool promises: help, version, one sentence and exit code 2 for a bad option.

use drydock_testkit::bins::TOOLS;
use drydock_testkit::{Sandbox, run};
use std::process::Command;

#[test]
fn help_and_version_go_to_stdout() {
    let sandbox = Sandbox::new();
    for tool in TOOLS {
        let help = sandbox.run(tool, &["--help"]).success().stdout_has("Usage:").stdout_has("--version");
        assert_eq!(help.stderr, "", "{tool}");
        // Engines read an OCI runtime's version in the form of runc's.
        let number = env!("CARGO_PKG_VERSION");
        let version = sandbox.run(tool, &["--version"]).success();
        if tool == "container" {
            let lines: Vec<&str> = version.stdout.lines().collect();
            assert_eq!((lines[0], lines[2]), (&*format!("{tool} version {number}"), "spec: 1.3.0"));
            assert!(lines[1].starts_with("commit: ") && lines.len() == 3, "{lines:?}");
        } else {
            version.stdout_is(&format!("{tool} {number}"));
        }
    }
}

#[test]
fn a_bad_option_is_one_sentence_and_touches_nothing() {
    let sandbox = Sandbox::new();
    for tool in TOOLS {
        let failed = sandbox.run(tool, &["--no-such-option"]).fails_with(2).says("--no-such-option");
        assert!(failed.stderr.starts_with(&format!("{tool}: ")), "{}", failed.describe());
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let sandbox = Sandbox::new();
    for tool in TOOLS {
        let failed = sandbox.run(tool, &["--no\x1b]0;title\x07such"]).fails_with(2);
        assert!(!failed.stderr.contains(['\x1b', '\x07']), "{}", failed.describe());
    }
}

#[test]
fn a_full_disk_is_reported() {
    let sandbox = Sandbox::new();
    for tool in TOOLS {
        // run() collects stdout, so a shell redirects it.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" --help >/dev/full"])
            .arg(drydock_testkit::bin(tool))
            .current_dir(sandbox.path());
        run(&mut command).fails_with(125).says("ENOSPC");
    }
}
