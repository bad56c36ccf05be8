//! Arguments of the commands that only look.

use clap::Args as Flags;

#[derive(Flags, Debug)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct List {
    /// Only this cgroup and those below it
    pub name: Option<String>,
    /// Counters of each, with those below it: tasks, processor time, memory, swap, bytes read and written, OOM kills
    #[arg(long)]
    pub stats: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Show {
    /// Relative name of the cgroup
    pub name: String,
    /// Kernel files to print, such as memory.max; v2 names also work on v1 and v1's on v2 where there is a counterpart
    pub files: Vec<String>,
    /// All kernel files that can be read
    #[arg(short, long, conflicts_with = "files")]
    pub all: bool,
    /// All kernel files of this controller
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["files", "all"])]
    pub controller: Option<String>,
    /// Only the values, without the files' names
    #[arg(short, long)]
    pub values: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Psi {
    /// Relative name of the cgroup
    pub name: String,
    /// Tell each time when processes waited so long within the window: some:150ms/1s, memory:full:50ms/1s; without a
    /// resource all three are watched. May be repeated
    #[arg(long, value_name = "TRIGGER")]
    pub watch: Vec<String>,
    /// With --watch: end after so many times
    #[arg(long, value_name = "N", requires = "watch")]
    pub count: Option<u64>,
    /// With --watch: end after so many seconds; exit 1 if it never happened
    #[arg(long, value_name = "SECONDS", requires = "watch")]
    pub timeout: Option<String>,
    /// Print JSON; with --watch one line each time
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Watch {
    /// Relative name of the cgroup
    pub name: String,
    /// Also tell when a pressure trigger fires: some:150ms/1s, memory:full:50ms/1s. May be repeated
    #[arg(long, value_name = "TRIGGER")]
    pub psi: Vec<String>,
    /// End at the first event of this kind: a counter such as oom_kill, or empty, populated, frozen, thawed, pressure; on v1
    /// also a level of memory.pressure_level: low, medium, critical
    #[arg(long, value_name = "EVENT")]
    pub until: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// End after so many seconds; exit 1 if nothing happened
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<String>,
    /// Print JSON, one line an event
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Monitor {
    /// Relative name of the cgroup
    pub name: String,
    /// One sample (the processor's share is measured over the interval, at most 0.2 s), then end
    #[arg(long)]
    pub once: bool,
    /// End after so many samples
    #[arg(long, value_name = "N", conflicts_with = "once")]
    pub count: Option<u64>,
    /// Print JSON; without --once one line a sample
    #[arg(long)]
    pub json: bool,
    /// Seconds between samples, 0.05 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "2")]
    pub interval: String,
}

#[derive(Flags, Debug)]
pub struct Top {
    /// Only this cgroup and those below it
    pub name: Option<String>,
    /// What comes first
    #[arg(short, long, value_name = "COLUMN", value_parser = ["cpu", "memory", "io", "tasks", "name"], default_value = "cpu")]
    pub sort: String,
    /// Levels of the tree
    #[arg(short, long, value_name = "N", default_value_t = 3)]
    pub depth: usize,
    /// One sample (over the interval, at most 0.2 s), then end
    #[arg(long)]
    pub once: bool,
    /// End after so many samples
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "once")]
    pub iterations: Option<u64>,
    /// Also those without processes
    #[arg(short, long)]
    pub all: bool,
    /// Plain numbers: bytes, bytes a second
    #[arg(long)]
    pub raw: bool,
    /// Print JSON; without --once one line a sample
    #[arg(long)]
    pub json: bool,
    /// Seconds between samples, 0.05 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "2")]
    pub interval: String,
}
