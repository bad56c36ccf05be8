//! Rules about files: their size, and what must not stand in them.

use crate::workspace::{File, Workspace};

const MAIN_LINES: usize = 12;
const SOURCE_LINES: usize = 600;
const ARCHITECTURE_LINES: usize = 200;

/// A tool's main.rs only calls its library.
pub fn short_mains(workspace: &Workspace) -> Vec<String> {
    let mains =
        workspace.files.iter().filter(|f| f.path.starts_with("bins/") && f.path.ends_with("src/main.rs"));
    longer(mains, MAIN_LINES, "main.rs only calls the tool's library")
}

/// A source file is read in one go.
pub fn file_size(workspace: &Workspace) -> Vec<String> {
    let sources = workspace.files.iter().filter(|f| f.path.contains("src/") && f.path.ends_with(".rs"));
    longer(sources, SOURCE_LINES, "split it by concept")
}

/// The map stays a map.
pub fn architecture_size(workspace: &Workspace) -> Vec<String> {
    let map = workspace.files.iter().filter(|f| f.path == "ARCHITECTURE.md");
    longer(map, ARCHITECTURE_LINES, "details belong to the code's own documentation")
}

fn longer<'a>(files: impl Iterator<Item = &'a File>, most: usize, why: &str) -> Vec<String> {
    let long = files.map(|f| (f, f.text.lines().count())).filter(|(_, lines)| *lines > most);
    long.map(|(f, lines)| format!("{}: {lines} lines, at most {most}: {why}", f.path)).collect()
}

/// No path of the machine on which it was written: it would be wrong on every other.
pub fn machine_paths(workspace: &Workspace) -> Vec<String> {
    let mut offences = Vec::new();
    for file in &workspace.files {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(path) = machine_path(line, &workspace.root.display().to_string()) {
                offences.push(format!("{}:{}: {path} is a path of one machine", file.path, number + 1));
            }
        }
    }
    offences
}

/// Users that examples may have.
const EXAMPLE_USERS: [&str; 6] = ["user", "alice", "bob", "you", "me", "app"];

/// The first absolute path of a development machine in a line.
fn machine_path<'a>(line: &'a str, root: &str) -> Option<&'a str> {
    let starts = |(at, _): &(usize, &str)| {
        // A path begins here, it does not go on: `overlay/work/` and `{dir}/root/` are other things.
        let before = line.get(..*at).and_then(|t| t.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "_.-}*/)$".contains(c))
    };
    let whole = |(at, _): (usize, &str)| {
        let rest = line.get(at..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || "\"'`,;:)".contains(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    };
    let mut paths = line.match_indices('/').filter(starts).map(whole);
    paths.find(|path| {
        let mut parts = path.split('/').skip(1);
        let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let dynamic = root.len() > 1 && path.starts_with(root);
        let named = second.starts_with(|c: char| c.is_ascii_alphanumeric());
        dynamic
            || (first == "work" && named)
            || (first == "root" && second.starts_with('.') && second.len() > 1)
            || (first == "home" && named && !EXAMPLE_USERS.contains(&second))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::samples::workspace;

    #[test]
    fn sizes() {
        let long = "x\n".repeat(601);
        let files = [
            ("bins/init/src/main.rs", "x\n".repeat(13)),
            ("bins/joinns/src/main.rs", "x\n".repeat(12)),
            ("crates/core/src/lib.rs", long.clone()),
            ("crates/core/tests/lib.rs", long),
            ("ARCHITECTURE.md", "x\n".repeat(201)),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (*p, t.as_str())).collect();
        let workspace = workspace(vec![], &files);
        assert_eq!(short_mains(&workspace).len(), 1);
        assert_eq!(file_size(&workspace).len(), 1);
        assert_eq!(
            architecture_size(&workspace),
            ["ARCHITECTURE.md: 201 lines, at most 200: details belong to the code's own documentation"]
        );
    }

    #[test]
    fn paths_of_a_machine() {
        // Put together, so that this file passes its own rule.
        let bad = |dir: &str, rest: &str| format!("see /{dir}/{rest} there");
        let lines = [
            bad("work", "project"),
            bad("root", ".cargo/bin"),
            bad("home", "jane/x"),
            bad("src", "checkout/Cargo.toml"),
        ];
        for line in &lines {
            assert_eq!(machine_paths(&workspace(vec![], &[("README.md", line)])).len(), 1, "{line}");
        }
        for fine in
            ["{dir}/work/x", "overlay/work/x", "cd /root", "/home/alice", "/proc/1/root/.x", "/home", "/work"]
        {
            assert_eq!(machine_path(fine, "/src/checkout"), None, "{fine}");
        }
    }
}
