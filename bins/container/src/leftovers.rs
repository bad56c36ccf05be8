//! A look at what containers could leave behind, as the kernel and the file system show it.

use drydock_bundle::Store;
use drydock_core::paths;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names of things that are there now, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers(BTreeMap<&'static str, BTreeSet<String>>);

impl Leftovers {
    /// Looks. What cannot be read is left out.
    pub fn look(store: &Store) -> Self {
        let data = paths::data_root().map(|d| d.join("containers")).unwrap_or_default();
        Self(BTreeMap::from([
            ("processes", processes()),
            ("cgroups", cgroups()),
            ("mounts", lines("/proc/self/mountinfo", &["drydock", &store.root().to_string_lossy()])),
            ("links", links()),
            ("network namespaces", names(Path::new("/run/netns"))),
            ("state", names(store.root()).into_iter().filter(|n| !n.starts_with('@')).collect()),
            ("leases", leases(store)),
            ("layers", names(&data)),
            ("forwarding", std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").into_iter().collect()),
            ("nft rules", nft()),
        ]))
    }

    /// What is there now and was not before, by kind.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let none = BTreeSet::new();
        let new = |(kind, now): (&&'static str, &BTreeSet<String>)| {
            (*kind, now.difference(before.0.get(*kind).unwrap_or(&none)).cloned().collect())
        };
        Self(self.0.iter().map(new).collect())
    }

    /// Is nothing there?
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// One row a kind.
    pub fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .0
            .iter()
            .map(|(kind, names)| {
                let what = if names.is_empty() {
                    "nothing".into()
                } else {
                    names.iter().cloned().collect::<Vec<_>>().join(", ")
                };
                vec![(*kind).to_string(), what]
            })
            .collect();
        drydock_cli::output::table(&["KIND", "LEFT"], &rows)
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Processes of this very program, other than this one.
fn processes() -> BTreeSet<String> {
    let own = std::fs::read_link("/proc/self/exe").ok();
    let pids = names(Path::new("/proc")).into_iter().filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
    pids.filter(|pid| *pid != std::process::id().to_string())
        .filter(|pid| own.is_some() && std::fs::read_link(format!("/proc/{pid}/exe")).ok() == own)
        .collect()
}

fn cgroups() -> BTreeSet<String> {
    let Ok(layout) = drydock_cgroups::Layout::detect() else { return BTreeSet::new() };
    let bases = layout.hierarchies().iter().filter_map(|h| h.base.clone());
    let mut found = BTreeSet::new();
    for parent in bases.map(|base| base.join(drydock_cgroups::SHARED_PARENT)) {
        if parent.is_dir() {
            found.insert(parent.display().to_string());
            found.extend(directories(&parent).iter().map(|d| d.display().to_string()));
        }
    }
    found
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn lines(file: &str, words: &[&str]) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let of_ours = text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    of_ours.filter_map(|line| line.split_whitespace().nth(4)).map(String::from).collect()
}

fn links() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_string())).collect()
}

fn leases(store: &Store) -> BTreeSet<String> {
    drydock_network::lease::list(&crate::network::lease_dir(store.root()))
        .unwrap_or_default()
        .iter()
        .map(|lease| serde_json::to_string(lease).unwrap_or_default())
        .collect()
}

/// The rules of our table, each as text.
fn nft() -> BTreeSet<String> {
    let Ok(nft) = drydock_network::nft::Nft::here() else { return BTreeSet::new() };
    nft.rules().unwrap_or_default().iter().map(|rule| format!("{rule:?}")).collect()
}
