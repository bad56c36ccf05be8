//! v1 controller statistics through cgroups-rs.
//!
//! Used only where that crate is right: reading cpuacct, pids and memsw counters of directories that we name ourselves
//! (its own path handling lets absolute names out of the hierarchy). It answers 0 for a file that is not there, so each
//! controller is asked only after we have seen its file. Its parsers of memory.stat, memory.numa_stat and
//! memory.oom_control panic on text that they do not expect: those files are read by ourselves.

use crate::stats::v1_files;
use crate::{Cgroup, Stats};
use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use std::path::PathBuf;

/// Fills in what v1 controllers know.
pub(crate) fn fill(cgroup: &Cgroup, stats: &mut Stats) {
    v1_files(cgroup, stats);
    let v1 = |file: &str| -> Option<PathBuf> {
        let dir = cgroup.entries().iter().find(|d| !d.v2 && d.path.join(file).exists())?;
        Some(dir.path.clone())
    };
    if let Some(dir) = v1("cpuacct.usage") {
        let cpu = CpuAcctController::new(dir.clone(), dir).cpuacct();
        stats.cpu.usage_us = Some(cpu.usage / 1000);
        stats.cpu.user_us = Some(cpu.usage_user / 1000);
        stats.cpu.system_us = Some(cpu.usage_sys / 1000);
    }
    if let Some(dir) = v1("memory.memsw.usage_in_bytes") {
        let swap = MemController::new(dir.clone(), dir, false).memswap();
        let limit = u64::try_from(swap.limit_in_bytes).ok().filter(|n| *n < 1 << 62);
        stats.memory.swap_max = limit.zip(stats.memory.max).and_then(|(sum, memory)| sum.checked_sub(memory));
    }
    if let Some(dir) = v1("pids.current") {
        let pids = PidController::new(dir.clone(), dir, false);
        stats.pids.current = pids.get_pid_current().ok();
        stats.pids.max = match pids.get_pid_max() {
            Ok(MaxValue::Value(n)) => u64::try_from(n).ok(),
            _ => None,
        };
        stats.pids.max_events = pids.get_pid_events().ok();
    }
}
