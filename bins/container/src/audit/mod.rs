//! What a container's isolation is worth, as the kernel shows it.

mod practices;
mod reach;

pub use practices::practices;
pub use reach::reach;

use drydock_bundle::State;
use drydock_cgroups::{Cgroup, Limits};
use drydock_core::text::escape;
use drydock_core::{Error, Result};
use drydock_monitor::procfs::mountinfo::{self, Mount};
use drydock_monitor::procfs::status::{self, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Not.
    Fail,
    /// This machine cannot have it, or we cannot see it.
    Unknown,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// The result.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// The command that shows it.
    pub proof: String,
    /// What helps, when it is not as it should be.
    pub fix: Option<String>,
}

impl Finding {
    pub(crate) fn new(
        check: &'static str,
        verdict: Verdict,
        found: String,
        proof: String,
        fix: &str,
    ) -> Self {
        let fix = (verdict != Verdict::Pass && !fix.is_empty()).then(|| fix.to_string());
        Self { check, verdict, found, proof, fix }
    }

    /// For people.
    pub fn lines(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Unknown => "unknown",
        };
        let mut text = format!("  {verdict:<7}  {:<28} {}\n", self.check, escape(&self.found));
        text.push_str(&format!("           proof: {}\n", escape(&self.proof)));
        if let Some(fix) = &self.fix {
            text.push_str(&format!("           fix: {}\n", escape(fix)));
        }
        text
    }
}

/// What is read once, for all checks.
#[derive(Debug)]
pub struct Facts {
    /// Host pid of its first process.
    pub pid: i32,
    /// Its record.
    pub state: State,
    /// The state root.
    pub root: PathBuf,
    /// `/proc/PID/status`.
    pub status: Status,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its limits.
    pub limits: Limits,
    /// Inode numbers of its namespaces and of the machine's (ours, where PID 1 is closed to us).
    pub namespaces: BTreeMap<&'static str, (Option<u64>, Option<u64>)>,
    /// Its uid map.
    pub uid_map: String,
    /// Its AppArmor or SELinux label.
    pub label: Option<String>,
}

/// The types, by their names under /proc/PID/ns.
pub const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

impl Facts {
    /// Reads them.
    ///
    /// # Errors
    /// When it ends meanwhile, or is closed to us.
    pub fn of(state: &State, root: &Path) -> Result<Self> {
        let pid = state.pid.unwrap_or(0);
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path)
                .map_err(|e| Error::call(format!("open({path:?})"), e).on(format!("'{}'", state.id)))
        };
        let inode = |who: &str, kind: &str| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(format!("/proc/{who}/ns/{kind}")).ok().map(|m| m.ino())
        };
        let spaces = KINDS.iter().map(|kind| {
            let machine = inode("1", kind).or_else(|| inode("self", kind));
            (*kind, (inode(&pid.to_string(), kind), machine))
        });
        let label = read("attr/current").ok().map(|t| t.trim_end_matches(['\0', '\n']).to_string());
        Ok(Self {
            pid,
            status: status::parse(&read("status")?),
            mounts: mountinfo::parse(&read("mountinfo")?),
            limits: Cgroup::at(state.cgroup.iter().cloned()).map(|c| c.limits()).unwrap_or_default(),
            namespaces: spaces.collect(),
            uid_map: read("uid_map").unwrap_or_default(),
            label: label.filter(|l| !l.is_empty()),
            state: state.clone(),
            root: root.to_path_buf(),
        })
    }

    /// Whether a namespace is its own; `None` when that cannot be seen.
    pub fn own(&self, kind: &str) -> Option<bool> {
        let (its, machine) = self.namespaces.get(kind).copied()?;
        Some(its? != machine?)
    }

    /// The mount on which a path of the container stands.
    pub fn mount_of(&self, path: &str) -> Option<&Mount> {
        let covers =
            |m: &&Mount| m.target == "/" || path == m.target || path.starts_with(&format!("{}/", m.target));
        // Of several at one place the last is seen.
        self.mounts.iter().filter(covers).max_by_key(|m| (m.target.len(), m.id))
    }

    /// A file of /proc/PID.
    pub fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }
}

/// Whether a mount is read-only.
pub fn is_read_only(mount: &Mount) -> bool {
    let has = |options: &str| options.split(',').any(|o| o == "ro");
    has(&mount.options) || has(&mount.super_options)
}
