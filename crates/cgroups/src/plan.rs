//! The plan: which directories, which controllers, which values; and what came of it.

use crate::Request;
use crate::devices::Gate;
use crate::step::Act;
use drydock_core::{Explain, Step};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub v2: bool,
    /// A new v1 cpuset has no processors and no memory: they are copied from its parent.
    pub cpuset: bool,
    pub base: PathBuf,
    /// Directories between base and leaf, outermost first.
    pub parents: Vec<PathBuf>,
    pub leaf: PathBuf,
    /// v2 controllers to enable from base down, and those of them that a limit needs.
    pub enable: Vec<String>,
    pub required: Vec<String>,
    /// One of systemd's, without controllers.
    pub named: bool,
    /// Whether its directories are made if they are missing.
    pub make: bool,
    /// The cgroup is there, but not in this v1 hierarchy: its processes, listed in this directory, are moved in.
    pub adopt: Option<PathBuf>,
}

/// A memory limit that must not be below what is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryCheck {
    pub dir: PathBuf,
    pub limits: Vec<(&'static str, u64)>,
}

/// One value into one kernel file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub dir: PathBuf,
    pub file: String,
    pub value: String,
    /// File and value for a kernel that has no such file.
    pub instead: Option<(String, String)>,
    /// A kernel that has no such file lacks nothing.
    pub optional: bool,
    /// A file that is not known here, named by whoever asked.
    pub raw: bool,
}

impl Write {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.file)
    }
}

/// A checked request, laid out for this machine. Nothing has been touched.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) request: Request,
    pub(crate) branches: Vec<Branch>,
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) writes: Vec<Write>,
    pub(crate) gate: Option<Gate>,
    pub(crate) check: Option<MemoryCheck>,
    pub(crate) lacking: Vec<String>,
}

/// A limit as asked for and as the kernel has it now (it rounds to pages, for example).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The kernel's file.
    pub file: String,
    /// What was written.
    pub asked: String,
    /// What reading it back gave.
    pub kernel: String,
    /// Whether the kernel rounded it, to pages for example.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rounded: bool,
}

/// What exists now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The cgroup's directories, one for each hierarchy.
    pub dirs: Vec<PathBuf>,
    /// The limits, read back.
    pub settings: Vec<Setting>,
    /// What this machine could not do, each with its reason: of lenient requests, and what its cgroups have no use for.
    pub lacking: Vec<String>,
}

impl Plan {
    pub(crate) fn empty(request: Request) -> Self {
        Self {
            request,
            branches: Vec::new(),
            dirs: Vec::new(),
            writes: Vec::new(),
            gate: None,
            check: None,
            lacking: Vec::new(),
        }
    }

    /// The steps in order, in words.
    pub fn steps(&self) -> Vec<Step> {
        let mut acts = Vec::new();
        let leaves = self.dirs.clone();
        if self.request.if_exists == crate::IfExists::Replace && !leaves.is_empty() {
            acts.push(Act::Remove { dirs: leaves.clone() });
        }
        let mut journal = leaves;
        for branch in &self.branches {
            acts.extend(self.acts_of(branch, std::mem::take(&mut journal)));
        }
        acts.extend(self.writes.iter().cloned().map(Act::Write));
        acts.extend(self.gate.iter().cloned().map(Act::Gate));
        acts.iter().map(Explain::explain).collect()
    }

    /// The directories that will be the cgroup's, one for each hierarchy.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The relative name.
    pub fn name(&self) -> &str {
        &self.request.name
    }

    /// The request that this plan carries out.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What this machine is known to lack before trying.
    pub fn lacking(&self) -> &[String] {
        &self.lacking
    }

    /// The steps in one hierarchy: parents, controllers on the way, the leaf. `journal`: what to record before the
    /// leaf is made.
    pub(crate) fn acts_of(&self, branch: &Branch, journal: Vec<PathBuf>) -> Vec<Act> {
        let mut acts = Vec::new();
        let enable = |dir: &Path| Act::Enable {
            dir: dir.to_path_buf(),
            controllers: branch.enable.clone(),
            required: branch.required.clone(),
        };
        let on_the_way = branch.v2 && !branch.enable.is_empty();
        if on_the_way {
            acts.push(enable(&branch.base));
        }
        let make = branch.make;
        for parent in &branch.parents {
            if make {
                acts.push(Act::Parent { dir: parent.clone() });
                if branch.cpuset {
                    acts.push(Act::Inherit { dir: parent.clone(), pass_on: true });
                }
            }
            if on_the_way {
                acts.push(enable(parent));
            }
        }
        if make {
            acts.push(Act::Make { dir: branch.leaf.clone(), journal, mark: branch.named });
            if branch.cpuset {
                acts.push(Act::Inherit { dir: branch.leaf.clone(), pass_on: false });
            }
            if let Some(from) = &branch.adopt {
                acts.push(Act::Adopt { dir: branch.leaf.clone(), from: from.clone() });
            }
        }
        acts
    }
}
