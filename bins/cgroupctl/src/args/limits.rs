//! Limits as flags, and how a cgroup is made.

use clap::Args as Flags;
use drydock_cgroups::Limits;
use drydock_core::Result;
use std::path::PathBuf;

/// Limits as flags.
#[derive(Flags, Debug, Default)]
pub struct LimitFlags {
    /// Processors: 0.5, 50%, 2, or max (v2 cpu.max)
    #[arg(long, visible_alias = "cpus", value_name = "N")]
    pub cpu: Option<String>,
    /// Share of the processor against others, 1 to 10000, default 100 (v2 cpu.weight)
    #[arg(long, value_name = "WEIGHT")]
    pub cpu_weight: Option<String>,
    /// Processors that may be used: 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used: 0
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory in bytes or as 100M, or max (v2 memory.max)
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Memory above which it is slowed down (v2 memory.high; not in v1)
    #[arg(long, value_name = "SIZE")]
    pub memory_high: Option<String>,
    /// Memory that is spared from reclaim (v2 memory.low)
    #[arg(long, value_name = "SIZE")]
    pub memory_low: Option<String>,
    /// Swap alone, not memory and swap (v2 memory.swap.max); on v1 it needs --memory
    #[arg(long, value_name = "SIZE")]
    pub swap: Option<String>,
    /// Processes and threads (pids.max)
    #[arg(long, value_name = "N")]
    pub pids: Option<String>,
    /// Share of block input/output, 1 to 10000, default 100 (v2 io.weight)
    #[arg(long, value_name = "WEIGHT")]
    pub io_weight: Option<String>,
    /// Memory that is never reclaimed (v2 memory.min; not in v1)
    #[arg(long, value_name = "SIZE")]
    pub memory_min: Option<String>,
    /// An OOM kill takes all processes of the cgroup (v2 memory.oom.group; not in v1)
    #[arg(long)]
    pub oom_group: bool,
    /// Rates of a disk: 'DEVICE rbps=1M wbps=1M riops=100 wiops=100', DEVICE a path or major:minor; may be repeated
    #[arg(long, value_name = "SPEC")]
    pub io_max: Vec<String>,
    /// Which devices may be used: 'allow /dev/null rw', 'deny b 8:* rwm', 'allow all'; the first rule says by its kind what
    /// holds for all others: the opposite. May be repeated
    #[arg(long, value_name = "RULES")]
    pub devices: Vec<String>,
    /// Any other setting as `set` takes it: hugetlb.2MB.max=64M, 'rdma.max=mlx5_0 hca_handle=2'. May be repeated
    #[arg(long = "set", value_name = "FILE=VALUE")]
    pub others: Vec<String>,
}

impl LimitFlags {
    /// The limits, parsed.
    pub fn limits(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        if let Some(text) = &self.cpu {
            limits.cpu = Some(Limits::parse_cpus(text)?);
        }
        let settings = [
            ("cpu.weight", &self.cpu_weight),
            ("cpuset.cpus", &self.cpuset_cpus),
            ("cpuset.mems", &self.cpuset_mems),
            ("memory.max", &self.memory),
            ("memory.high", &self.memory_high),
            ("memory.low", &self.memory_low),
            ("memory.swap.max", &self.swap),
            ("pids.max", &self.pids),
            ("io.weight", &self.io_weight),
            ("memory.min", &self.memory_min),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                limits.set(key, value)?;
            }
        }
        if self.oom_group {
            limits.set("memory.oom.group", "1")?;
        }
        self.io_max.iter().try_for_each(|spec| limits.set("io.max", spec))?;
        self.devices.iter().try_for_each(|rules| limits.set("devices", rules))?;
        settings_into(&mut limits, &self.others)?;
        Ok(limits)
    }
}

/// How a cgroup is made.
#[derive(Flags, Debug, Default)]
pub struct Making {
    #[command(flatten)]
    pub limits: LimitFlags,
    /// Go on without what this kernel lacks, and say so
    #[arg(long)]
    pub lenient: bool,
    /// v1: no cpuset cgroup unless a limit needs one, as `container run` does
    #[arg(long)]
    pub lean: bool,
    /// v2: move processes that are in the way of enabling a controller into a child cgroup 'leaf'
    #[arg(long)]
    pub make_leaf: bool,
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// Record the cgroup in the journal of container ID, so that `container gc` and `container delete` find it
    #[arg(long, value_name = "ID")]
    pub owner: Option<String>,
    /// State directory for --owner [default: /run/drydock, or DRYDOCK_ROOT]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// `FILE=VALUE` words.
pub fn settings_into(limits: &mut Limits, settings: &[String]) -> Result<()> {
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            let shown = drydock_core::text::escape(setting);
            let shown = drydock_core::text::shorten(&shown, 60);
            return Err(drydock_core::Error::bad_input(
                "set",
                format!("'{shown}' is not a setting (allowed: FILE=VALUE such as memory.max=100M)"),
            ));
        };
        limits.set(key, value)?;
    }
    Ok(())
}
