//! The steps of a plan, and what each says of itself.

use crate::devices::{Gate, How};
use crate::list::List;
use crate::plan::Write;
use drydock_core::{Explain, Object, Step};
use std::path::{Path, PathBuf};

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Kill all processes.
    Kill { dirs: Vec<PathBuf> },
    /// Stop all processes, or let them go on.
    Freeze { dirs: Vec<PathBuf>, freeze: bool },
    /// Move a process in.
    Join { dirs: Vec<PathBuf>, pid: i32 },
    /// Remove it if nobody is in it.
    Delete { dirs: Vec<PathBuf>, recursive: bool },
    /// Kill and remove what stands under the name.
    Remove { dirs: Vec<PathBuf> },
    /// v2: let the cgroups below use controllers.
    Enable { dir: PathBuf, controllers: Vec<String>, required: Vec<String> },
    /// v2: the cgroups below lose controllers.
    Disable { dir: PathBuf, controllers: Vec<String> },
    /// A directory on the way; kept if it is there.
    Parent { dir: PathBuf },
    /// The cgroup itself.
    Make { dir: PathBuf, journal: Vec<PathBuf>, mark: bool },
    /// v1 cpuset: processors and memory nodes of the parent; `pass_on`: and the same in what will be made below.
    Inherit { dir: PathBuf, pass_on: bool },
    /// v2: move the processes of `dir` into `dir/leaf`.
    Leaf { dir: PathBuf },
    /// v1: the processes of `from` join `dir` too.
    Adopt { dir: PathBuf, from: PathBuf },
    /// v2: give the cgroup's management to a user of the container.
    Delegate { dir: PathBuf, uid: u32 },
    /// A limit.
    Write(Write),
    /// Which devices may be used.
    Gate(Gate),
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
            Act::Freeze { dirs, freeze } => freeze_words(dirs, *freeze),
            Act::Join { dirs, pid } => (
                dirs.iter()
                    .map(|d| format!("write({}, \"{pid}\")", shown(&d.join("cgroup.procs"))))
                    .collect::<Vec<_>>()
                    .join(", "),
                "the process and all its threads count here from now on; memory that it has stays where it was".to_string(),
                "cgroups(7)",
                None,
            ),
            Act::Delete { dirs, recursive } => (
                format!("rmdir({})", dirs.iter().map(|d| shown(d)).collect::<Vec<_>>().join(", ")),
                if *recursive { "remove the cgroup and those below, children first" } else { "remove the empty cgroup" }
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
            Act::Disable { dir, controllers } => {
                let value: Vec<String> = controllers.iter().map(|c| format!("-{c}")).collect();
                (
                    format!("write({}, {:?})", shown(&dir.join("cgroup.subtree_control")), value.join(" ")),
                    "the cgroups below lose the controller's files, and count with this one".to_string(),
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
            Act::Inherit { dir, .. } => (
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
            Act::Adopt { dir, from } => (
                format!("write({}, PID…)", shown(&dir.join("cgroup.procs"))),
                format!("the processes of {} join this controller's hierarchy too", from.display()),
                "cgroups(7)",
                None,
            ),
            Act::Delegate { dir, uid } => (
                format!(
                    "chown({}, {uid}, -1), and its cgroup.procs and the like",
                    shown(dir)
                ),
                "this user may make cgroups below it and move processes among them, but not change its limits".to_string(),
                "cgroups(7)",
                None,
            ),
            Act::Write(write) => (
                format!("write({}, {:?})", shown(&write.path()), write.value),
                why(&write.file).to_string(),
                "cgroups(7)",
                None,
            ),
            Act::Gate(gate) => explain_gate(gate),
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

fn freeze_words(dirs: &[PathBuf], freeze: bool) -> (String, String, &'static str, Option<String>) {
    let v1 = dirs.iter().map(|d| d.join("freezer.state")).find(|p| p.exists());
    let v2 = dirs.iter().map(|d| d.join("cgroup.freeze")).find(|p| p.exists());
    let word = |old: &'static str, new: &'static str| if freeze { old } else { new };
    let writes = [v2.map(|p| (p, word("1", "0"))), v1.map(|p| (p, word("FROZEN", "THAWED")))];
    let call: Vec<String> = writes
        .into_iter()
        .flatten()
        .map(|(p, v)| format!("write({:?}, {v:?})", p.display().to_string()))
        .collect();
    let why = word("stop every process in it, and wait until all have stopped", "let the processes go on");
    let undo = freeze.then(|| "cgroupctl thaw".to_string());
    (call.join(", "), why.to_string(), "cgroups(7)", undo)
}

fn explain_gate(gate: &Gate) -> (String, String, &'static str, Option<String>) {
    let dir = gate.dir.display();
    let (call, man) = match &gate.how {
        How::V1(list) => {
            let changes = list.changes(&List::open());
            let file = |allow: bool| if allow { "devices.allow" } else { "devices.deny" };
            let shown =
                changes.iter().map(|(allow, line)| format!("write(\"{dir}/{}\", {line:?})", file(*allow)));
            (shown.collect::<Vec<_>>().join(", "), "cgroups(7)")
        }
        How::V2(program) => (
            format!("bpf(BPF_PROG_LOAD, {} instructions), bpf(BPF_PROG_ATTACH, \"{dir}\")", program.len()),
            "bpf(2)",
        ),
    };
    (call, "which devices may be opened and made; all others are refused with EPERM".to_string(), man, None)
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
