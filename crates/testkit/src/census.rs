//! What of ours is on the machine, as the kernel shows it. Two counts, before and after, tell what was left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which objects belong to the count: those that have one of these words in their name, path, alias or comment.
#[derive(Clone, Debug)]
pub struct Scope {
    words: Vec<String>,
    state: Option<PathBuf>,
}

impl Scope {
    /// Everything of Drydock's, whoever made it, with the state in `/run/drydock`.
    pub fn everything() -> Self {
        Self { words: vec!["drydock".into()], state: Some("/run/drydock".into()) }
    }

    /// What carries one of these words.
    pub fn of<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), state: None }
    }

    /// And the files under this state directory.
    pub fn with_state(mut self, dir: &Path) -> Self {
        self.state = Some(dir.to_path_buf());
        self
    }

    /// Whether a text has one of the words.
    pub fn matches(&self, text: &str) -> bool {
        self.words.iter().any(|word| text.contains(word.as_str()))
    }
}

/// The objects by kind: `process`, `cgroup`, `mount`, `netns`, `link`, `nft`, `state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census(pub BTreeMap<&'static str, BTreeSet<String>>);

impl Census {
    /// Counts now.
    pub fn take(scope: &Scope) -> Self {
        let mut all = BTreeMap::new();
        all.insert(
            "process",
            processes(scope).into_iter().map(|(pid, what)| format!("{pid} {what}")).collect(),
        );
        all.insert("cgroup", cgroups(scope).iter().map(|p| p.display().to_string()).collect());
        all.insert("mount", mounts(scope).into_iter().collect());
        all.insert("netns", named_netns(scope).iter().map(|p| p.display().to_string()).collect());
        all.insert("link", links(scope).into_iter().collect());
        all.insert("nft", nft(scope).into_iter().collect());
        all.insert("state", scope.state.as_deref().map(files).unwrap_or_default());
        Self(all)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// What is in `self` and was not in `before`: one line each, `kind: object`.
    pub fn since(&self, before: &Census) -> Vec<String> {
        let empty = BTreeSet::new();
        let news = self.0.iter().flat_map(|(kind, now)| {
            now.difference(before.0.get(kind).unwrap_or(&empty))
                .map(move |object| format!("{kind}: {object}"))
        });
        news.collect()
    }

    /// What differs, as a list to read: `+` came, `-` went.
    pub fn diff(&self, after: &Census) -> String {
        let came = after.since(self).into_iter().map(|line| format!("+ {line}"));
        let went = self.since(after).into_iter().map(|line| format!("- {line}"));
        came.chain(went).collect::<Vec<_>>().join("\n")
    }
}

/// Processes that carry a word in their cgroup path, command line, environment, executable, root or working directory;
/// not this process, nor its ancestors. Zombies are left out: they hold nothing but a pid that their parent will reap.
pub fn processes(scope: &Scope) -> Vec<(i32, String)> {
    let skipped = ancestors();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter(|pid| !skipped.contains(pid)).filter_map(|pid| {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| {
            let bytes = fs::read(dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let link =
            |name: &str| fs::read_link(dir.join(name)).map(|p| p.display().to_string()).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next());
        if state.is_none_or(|s| s == 'Z' || s == 'X') {
            return None;
        }
        let cmdline = read("cmdline");
        let places =
            [read("cgroup"), cmdline.clone(), read("environ"), link("exe"), link("root"), link("cwd")];
        // The executable of a test or a compiler lies in a directory of this project: only for a word of a test.
        let found = if scope.words.iter().any(|w| w == "drydock") { places.get(..1)? } else { &places[..] };
        found.iter().any(|text| scope.matches(text)).then(|| (pid, cmdline.trim().to_string()))
    });
    ours.collect()
}

fn ancestors() -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    let mut pid = nix::unistd::getpid().as_raw();
    while pid > 0 && all.insert(pid) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        pid = parent.unwrap_or(0);
    }
    all
}

/// Cgroup directories in every hierarchy, the deepest first.
pub fn cgroups(scope: &Scope) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mount in crate::probe::cgroup_mounts() {
        walk(&mount, &mut |path| {
            if scope.matches(&path.strip_prefix(&mount).unwrap_or(path).to_string_lossy()) {
                found.push(path.to_path_buf());
            }
        });
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found.dedup();
    found
}

fn walk(dir: &Path, see: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            see(&entry.path());
            walk(&entry.path(), see);
        }
    }
}

/// Lines of this mount namespace's mountinfo.
pub fn mounts(scope: &Scope) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The first three fields are numbers that mean nothing to a reader.
    let lines = all.lines().filter(|line| scope.matches(line) && !line.contains(" /sys/fs/cgroup"));
    lines.map(|line| line.splitn(4, ' ').last().unwrap_or(line).to_string()).collect()
}

/// Named network namespaces (ip-netns(8)).
pub fn named_netns(scope: &Scope) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| scope.matches(&path.to_string_lossy())).collect()
}

/// Links of this network namespace, by name or alias: `NAME (ALIAS)`.
pub fn links(scope: &Scope) -> Vec<String> {
    // /sys/class/net shows the namespace of whoever mounted it, which is ours on a host.
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let all = entries.flatten().map(|entry| {
        let alias = fs::read_to_string(entry.path().join("ifalias")).unwrap_or_default();
        format!("{} ({})", entry.file_name().to_string_lossy(), alias.trim())
    });
    all.filter(|link| scope.matches(link)).collect()
}

/// Rules, chains, sets and elements of nftables; none if `nft` is not installed.
pub fn nft(scope: &Scope) -> Vec<String> {
    let Ok(output) = Command::new("nft").args(["-a", "list", "ruleset"]).output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| scope.matches(line)).map(|line| line.trim().to_string()).collect()
}

/// Files under a directory, relative to it; locks are not counted: removing one that somebody holds would break it.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            } else if !is_kept(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                found.insert(path.strip_prefix(dir).unwrap_or(&path).display().to_string());
            }
        }
    }
    found
}

/// Whether a file of the state root stays when all containers are gone: locks, and what was written down of them
/// (`container events`).
pub fn is_kept(name: &str) -> bool {
    name.ends_with("lock") || matches!(name, "@events" | "@events.old")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_a_process_come_and_go() {
        let word = crate::unique("census");
        let scope = Scope::of([word.clone()]);
        let before = Census::take(&scope);
        assert!(before.is_empty(), "{before:?}");
        let mut child = Command::new("sleep").arg("60").env("WORD", &word).spawn().unwrap();
        let during = Census::take(&scope);
        assert_eq!(during.since(&before).len(), 1, "{during:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(before.diff(&Census::take(&scope)), "");
        assert!(before.diff(&during).starts_with("+ process: "));
    }

    #[test]
    fn sees_state() {
        let dir = tempfile::tempdir().unwrap();
        let scope = Scope::of(["no-such-word-anywhere"]).with_state(dir.path());
        fs::create_dir(dir.path().join("web")).unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        assert!(Census::take(&scope).is_empty());
        fs::write(dir.path().join("web/journal"), "").unwrap();
        assert_eq!(Census::take(&scope).since(&Census::default()), ["state: web/journal"]);
    }
}
