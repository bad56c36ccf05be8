//! Where in the container's cgroup the command runs: `--cgroup`, and what cgroup v2 leaves.

use drydock_cgroups::{Cgroup, Hierarchy, Layout, Version, check_name};
use drydock_core::{Error, Result, text};
use std::path::{Path, PathBuf};

/// One word of `--cgroup`.
#[derive(Debug, PartialEq, Eq)]
struct Below<'a> {
    /// Of these hierarchies; empty: of all that no other word names.
    controllers: Vec<&'a str>,
    /// The path below the container's cgroup; empty: that cgroup itself.
    path: &'a str,
}

/// Takes `--cgroup`'s words apart.
fn parse(words: &[String]) -> Result<Vec<Below<'_>>> {
    let mut all: Vec<Below<'_>> = Vec::new();
    for word in words {
        let (names, path) = word.split_once(':').map_or(("", word.as_str()), |(names, path)| (names, path));
        let controllers: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
        let path = path.trim_matches('/');
        let shown = text::shorten(&text::escape(word), 80);
        if !path.is_empty() {
            check_name(path).map_err(|e| {
                Error::bad_input("--cgroup", format!("'{shown}': bad sub cgroup path: {}", e.sentence()))
            })?;
        }
        let same = |other: &Below<'_>| {
            (controllers.is_empty() && other.controllers.is_empty())
                || controllers.iter().any(|name| other.controllers.contains(name))
        };
        if all.iter().any(same) {
            return Err(Error::bad_input(
                "--cgroup",
                format!("'{shown}': a second one for the same hierarchy"),
            ));
        }
        all.push(Below { controllers, path });
    }
    Ok(all)
}

/// The cgroup for a command in a container that has these directories and this first process.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming `--cgroup`.
pub fn choose(dirs: &[PathBuf], words: &[String], pid: i32) -> Result<Cgroup> {
    let below = parse(words)?;
    if dirs.is_empty() && below.is_empty() {
        return Cgroup::at(Vec::new());
    }
    let layout = Layout::detect()?;
    let of = |dir: &Path| {
        layout
            .hierarchies()
            .iter()
            .filter(|h| dir.starts_with(&h.mount))
            .max_by_key(|h| h.mount.as_os_str().len())
    };
    let mut used = vec![false; below.len()];
    let mut chosen = Vec::new();
    for dir in dirs {
        let hierarchy = of(dir);
        let named = |b: &Below<'_>| hierarchy.is_some_and(|h| b.controllers.iter().any(|name| has(h, name)));
        let word =
            below.iter().position(named).or_else(|| below.iter().position(|b| b.controllers.is_empty()));
        if let Some(mark) = word.and_then(|n| used.get_mut(n)) {
            *mark = true;
        }
        let v2 = hierarchy.is_some_and(|h| h.version == Version::V2);
        chosen.push(match word.and_then(|n| below.get(n)) {
            None if v2 && !dir.is_dir() => where_it_went(hierarchy, dir, pid),
            None if v2 => where_processes_may_be(dir, pid),
            None => dir.clone(),
            Some(word) => existing(dir, word, v2 && dirs.len() > 1)?,
        });
    }
    if let Some((word, _)) = below.iter().zip(used).find(|(_, used)| !used) {
        let names = text::shorten(&text::escape(&word.controllers.join(",")), 60);
        return Err(Error::bad_input(
            "--cgroup",
            format!("unknown controller '{names}': no hierarchy that the container is in"),
        ));
    }
    Cgroup::at(chosen)
}

fn has(hierarchy: &Hierarchy, name: &str) -> bool {
    let own = hierarchy.name.as_deref();
    let v1 = hierarchy.version == Version::V1 && hierarchy.controllers.iter().any(|c| c == name);
    v1 || (own.is_some() && own == Some(name.strip_prefix("name=").unwrap_or(name)))
}

fn existing(dir: &Path, word: &Below<'_>, hybrid: bool) -> Result<PathBuf> {
    let path = dir.join(word.path);
    if path.is_dir() {
        return Ok(path);
    }
    // v2 without controllers beside v1: whoever made the cgroup need not have made it here.
    if hybrid && word.controllers.is_empty() {
        return Ok(dir.to_path_buf());
    }
    let shown = text::shorten(&text::escape(word.path), 80);
    Err(Error::bad_input(
        "--cgroup",
        format!(
            "'{shown}': no such cgroup below the container's: no such file or directory (allowed: one that exists)"
        ),
    ))
}

/// The first process has moved to another cgroup, and its own was removed: the command goes where that process is.
fn where_it_went(hierarchy: Option<&Hierarchy>, dir: &Path, pid: i32) -> PathBuf {
    let found = hierarchy.map(|hierarchy| hierarchy.mount.join(path_of(pid)));
    found.filter(|found| found.is_dir()).unwrap_or_else(|| dir.to_path_buf())
}

/// A process's place in cgroup v2, without the first slash. Shown from our own cgroup namespace's root, which is where the
/// hierarchy is mounted.
fn path_of(pid: i32) -> String {
    let lines = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    lines.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_string()
}

/// A container that has made cgroups of its own and given them controllers has no process left in its own cgroup, and may
/// have none (cgroups(7), no internal processes): then the command joins the first process.
fn where_processes_may_be(dir: &Path, pid: i32) -> PathBuf {
    let delegated =
        std::fs::read_to_string(dir.join("cgroup.subtree_control")).is_ok_and(|text| !text.trim().is_empty());
    if !delegated {
        return dir.to_path_buf();
    }
    let path = path_of(pid);
    let found =
        dir.ancestors().map(|root| root.join(&path)).find(|found| found.is_dir() && found.starts_with(dir));
    found.filter(|_| !path.is_empty()).unwrap_or_else(|| dir.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_of_cgroup() {
        let given = words(&["cpu,memory:a/b", "/sub/"]);
        let parsed = parse(&given).unwrap();
        assert_eq!(parsed[0], Below { controllers: vec!["cpu", "memory"], path: "a/b" });
        assert_eq!(parsed[1], Below { controllers: vec![], path: "sub" });
        assert_eq!(parse(&words(&["/"])).unwrap()[0].path, "");
        for bad in
            [vec!["../x"], vec!["cpu:a/../../b"], vec!["a", "b"], vec!["cpu:a", "memory,cpu:b"], vec!["a\nb"]]
        {
            assert_eq!(parse(&words(&bad)).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
