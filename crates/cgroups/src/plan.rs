//! The plan: which directories, which controllers, which values; and what came of it.

use crate::Request;
use drydock_core::{Explain, Object, Step};
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
        let make = self.request.if_exists != crate::IfExists::Require;
        for parent in &branch.parents {
            if make {
                acts.push(Act::Parent { dir: parent.clone() });
                if branch.cpuset {
                    acts.push(Act::Inherit { dir: parent.clone() });
                }
            }
            if on_the_way {
                acts.push(enable(parent));
            }
        }
        if make {
            acts.push(Act::Make { dir: branch.leaf.clone(), journal });
            if branch.cpuset {
                acts.push(Act::Inherit { dir: branch.leaf.clone() });
            }
        }
        acts
    }
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Kill all processes.
    Kill { dirs: Vec<PathBuf> },
    /// Kill and remove what stands under the name.
    Remove { dirs: Vec<PathBuf> },
    /// v2: let the cgroups below use controllers.
    Enable { dir: PathBuf, controllers: Vec<String>, required: Vec<String> },
    /// A directory on the way; kept if it is there.
    Parent { dir: PathBuf },
    /// The cgroup itself.
    Make { dir: PathBuf, journal: Vec<PathBuf> },
    /// v1 cpuset: processors and memory nodes of the parent.
    Inherit { dir: PathBuf },
    /// v2: move the processes of `dir` into `dir/leaf`.
    Leaf { dir: PathBuf },
    /// A limit.
    Write(Write),
}

impl Explain for Act {
    fn explain(&self) -> Step {
        let shown = |p: &Path| format!("{:?}", p.display().to_string());
        let (call, why, man, undo) = match self {
            Act::Kill { dirs } => (
                format!(
                    "write({}, \"1\")",
                    dirs.iter().map(|d| shown(&d.join("cgroup.kill"))).next_back().unwrap_or_default()
                ),
                "kill every process in it at once; v1: freeze, SIGKILL each, thaw, until nobody is left"
                    .to_string(),
                "cgroups(7)",
                None,
            ),
            Act::Remove { dirs } => (
                format!("rmdir({})", dirs.iter().map(|d| shown(d)).collect::<Vec<_>>().join(", ")),
                "kill what is in the cgroup of this name, wait until it is gone, remove it, children first"
                    .to_string(),
                "cgroups(7)",
                None,
            ),
            Act::Enable { dir, controllers, .. } => {
                let value: Vec<String> = controllers.iter().map(|c| format!("+{c}")).collect();
                (
                    format!("write({}, {:?})", shown(&dir.join("cgroup.subtree_control")), value.join(" ")),
                    "a v2 cgroup has a controller's files only if its parent enables them".to_string(),
                    "cgroups(7)",
                    None,
                )
            }
            Act::Parent { dir } => (
                format!("mkdir({}, 0755)", shown(dir)),
                "the cgroup above".to_string(),
                "mkdir(2)",
                Some(format!("rmdir {}", dir.display())),
            ),
            Act::Make { dir, .. } => (
                format!("mkdir({}, 0755)", shown(dir)),
                "making a directory makes a cgroup".to_string(),
                "cgroups(7)",
                Some(format!("rmdir {}", dir.display())),
            ),
            Act::Inherit { dir } => (
                format!("write({}, …)", shown(&dir.join("cpuset.{cpus,mems}"))),
                "a new v1 cpuset is empty and cannot be joined: copy its parent's".to_string(),
                "cpuset(7)",
                None,
            ),
            Act::Leaf { dir } => (
                format!("write({}, PID…)", shown(&dir.join("leaf/cgroup.procs"))),
                "no-internal-process rule: a cgroup with processes cannot enable controllers for others"
                    .to_string(),
                "cgroups(7)",
                Some(format!("write the pids to {}", dir.join("cgroup.procs").display())),
            ),
            Act::Write(write) => (
                format!("write({}, {:?})", shown(&write.path()), write.value),
                why(&write.file).to_string(),
                "cgroups(7)",
                None,
            ),
        };
        Step { stage: "cgroup".into(), call, why: why.into(), man: man.into(), undo }
    }

    fn leaves(&self) -> Option<Object> {
        match self {
            Act::Make { journal, .. } if !journal.is_empty() => {
                Some(Object::Cgroup { dirs: journal.clone() })
            }
            _ => None,
        }
    }
}

fn why(file: &str) -> &'static str {
    match file {
        "cpu.max" => "processor time in microseconds for each period",
        "cpu.cfs_period_us" => "the period over which processor time is counted",
        "cpu.cfs_quota_us" => "processor time in microseconds for each period",
        "cpu.weight" | "cpu.shares" => "the share of the processor when others want it too",
        "cpuset.cpus" => "the processors it may run on",
        "cpuset.mems" => "the memory nodes it may use",
        "memory.max" | "memory.limit_in_bytes" => "beyond this much memory the OOM killer comes",
        "memory.swap.max" => "how much of it may be swapped out",
        "memory.memsw.limit_in_bytes" => "memory and swap together, as v1 counts",
        "memory.high" => "above this it is slowed down and reclaimed",
        "cpu.cfs_burst_us" | "cpu.max.burst" => "processor time that may be saved up",
        "memory.swappiness" => "how soon it is swapped out",
        "memory.oom_control" => "at the limit processes wait instead of being killed",
        "net_cls.classid" => "the class of its packets, for tc",
        "net_prio.ifpriomap" => "the priority of its packets on this interface",
        "rdma.max" => "what it may hold of this RDMA device",
        "pids.max" => "fork fails with EAGAIN beyond this many processes and threads",
        "io.max" => "rates of one block device",
        _ => "as asked",
    }
}
