//! Rules about what the code does.

use crate::strip::{code, has_word, without_comments, without_tests};
use crate::workspace::{File, Workspace};

const SYS: &str = "crates/core/src/sys/";

/// Programs whose work the libraries do with system calls.
const PROGRAMS: [&str; 16] = [
    "sh",
    "bash",
    "ip",
    "tc",
    "iptables",
    "nft",
    "mount",
    "umount",
    "tar",
    "ldd",
    "unshare",
    "nsenter",
    "chroot",
    "pivot_root",
    "cp",
    "mkdir",
];

fn product(workspace: &Workspace) -> impl Iterator<Item = &File> {
    let sources = workspace.files.iter().filter(|f| f.path.ends_with(".rs") && f.path.contains("/src/"));
    let ours = sources.filter(|f| f.path.starts_with("crates/") || f.path.starts_with("bins/"));
    ours.filter(|f| {
        !f.path.starts_with("crates/testkit/") && !f.path.ends_with("tests.rs") && !f.path.contains("/tests/")
    })
}

/// `unsafe` occurs in core's sys modules only.
pub fn unsafe_only_in_sys(workspace: &Workspace) -> Vec<String> {
    let elsewhere = workspace.files.iter().filter(|f| f.path.ends_with(".rs") && !f.path.starts_with(SYS));
    let mut offences = Vec::new();
    for file in elsewhere {
        for (number, line) in code(&file.text).lines().enumerate() {
            if has_word(line, "unsafe") {
                offences.push(format!("{}:{}: unsafe outside of {SYS}", file.path, number + 1));
            }
        }
    }
    offences
}

/// Each unsafe block has a SAFETY comment on one of the lines before it.
pub fn unsafe_has_reason(workspace: &Workspace) -> Vec<String> {
    let mut offences = Vec::new();
    for file in workspace.files.iter().filter(|f| f.path.starts_with(SYS) && f.path.ends_with(".rs")) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in code(&file.text).lines().enumerate() {
            if !has_word(line, "unsafe") || line.contains("unsafe_code") {
                continue;
            }
            let near = lines.iter().take(number + 1).skip(number.saturating_sub(8));
            if !near.into_iter().any(|l| l.contains("SAFETY")) {
                offences.push(format!(
                    "{}:{}: unsafe without a SAFETY comment above it",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    offences
}

/// Product code starts no shell and no program that does what a system call does.
pub fn no_shelling_out(workspace: &Workspace) -> Vec<String> {
    let mut offences = Vec::new();
    // What the demo's container runs inside is a shell.
    for file in product(workspace).filter(|file| file.path != "bins/container/src/commands/demo.rs") {
        let text = without_tests(&without_comments(&file.text), &code(&file.text));
        for (number, line) in text.lines().enumerate() {
            if let Some(program) = started(line) {
                let place = format!("{}:{}", file.path, number + 1);
                offences.push(format!(
                    "{place}: starts `{program}`, but product code makes the system calls itself"
                ));
            }
        }
    }
    offences
}

/// The forbidden program that this line starts.
fn started(line: &str) -> Option<&str> {
    if line.contains("\"sh\", \"-c\"") || line.contains("\"/bin/sh\", \"-c\"") {
        return Some("sh -c");
    }
    let (_, rest) = line.split_once("Command::new(\"")?;
    let path = rest.split('"').next()?;
    let name = path.rsplit('/').next()?;
    PROGRAMS.contains(&name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::samples::workspace;

    #[test]
    fn unsafe_is_found_outside_sys() {
        let bad = "fn f() {\n    unsafe { g() }\n}\n";
        let files = [
            ("crates/core/src/sys/fd.rs", bad),
            ("crates/core/src/lib.rs", "#![deny(unsafe_code)] // unsafe\n"),
            ("bins/init/src/lib.rs", bad),
            ("bins/init/tests/x.rs", bad),
        ];
        let found = unsafe_only_in_sys(&workspace(vec![], &files));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|f| f.starts_with("bins/init/") && f.contains(":2: ")));
    }

    #[test]
    fn unsafe_needs_a_reason() {
        let text = "// SAFETY: g has no preconditions.\nunsafe { g() }\n\n\n\n\n\n\n\n\n\nunsafe { h() }\n";
        let found = unsafe_has_reason(&workspace(vec![], &[("crates/core/src/sys/fd.rs", text)]));
        assert_eq!(found, ["crates/core/src/sys/fd.rs:12: unsafe without a SAFETY comment above it"]);
    }

    #[test]
    fn programs_are_not_started() {
        let bad = "Command::new(\"/sbin/ip\");\n// Command::new(\"tar\")\n#[cfg(test)]\nmod t { Command::new(\"nft\"); }\n";
        let files = [
            ("crates/network/src/lib.rs", bad),
            ("bins/init/src/x.rs", "[\"sh\", \"-c\", script]"),
            ("bins/init/tests/x.rs", bad),
            ("crates/testkit/src/lib.rs", bad),
            ("bins/joinns/src/lib.rs", "Command::new(program)"),
        ];
        let found = no_shelling_out(&workspace(vec![], &files));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|f| f.starts_with("crates/network/src/lib.rs:1: starts `ip`")));
        assert!(found.iter().any(|f| f.starts_with("bins/init/src/x.rs:1: starts `sh -c`")));
    }
}
