//! The machine as a whole: the heading of `top`.

use crate::procfs::Proc;
use crate::procfs::pressure::{self, Pressure};
use std::collections::BTreeMap;

/// One look; rates are since the one before.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    ticks: Option<(u64, u64)>,
    /// Busy share of all processors together, per cent; `None` until the second look.
    pub cpu_percent: Option<f64>,
    /// Processors that are online.
    pub processors: usize,
    /// Load averages as the kernel shows them.
    pub load: String,
    /// Seconds since boot.
    pub uptime: u64,
    /// Memory in bytes: all, and what can be had without swapping.
    pub memory: Option<(u64, u64)>,
    /// Swap in bytes: all, and free.
    pub swap: Option<(u64, u64)>,
    /// By resource, where the kernel keeps it.
    pub pressure: BTreeMap<&'static str, Pressure>,
}

impl Machine {
    /// Looks again.
    pub fn look(&mut self, proc: &Proc) {
        let stat = proc.text("stat").unwrap_or_default();
        let ticks = busy(&stat);
        self.cpu_percent = self.ticks.zip(ticks).and_then(|(old, new)| share(old, new));
        self.ticks = ticks;
        let is_one =
            |l: &&str| l.strip_prefix("cpu").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        self.processors = stat.lines().filter(is_one).count();
        let words = |file: &str| proc.line(file).unwrap_or_default();
        self.load = words("loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
        self.uptime = words("uptime").split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let meminfo = proc.text("meminfo").unwrap_or_default();
        let kib = |key: &str| {
            let line = meminfo.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        self.memory = kib("MemTotal").zip(kib("MemAvailable"));
        self.swap = kib("SwapTotal").zip(kib("SwapFree")).filter(|(all, _)| *all > 0);
        self.pressure = ["cpu", "memory", "io"]
            .into_iter()
            .filter_map(|r| Some((r, pressure::parse(&proc.text(&format!("pressure/{r}")).ok()?))))
            .collect();
    }
}

/// Ticks that were not idle, and all. Source: proc_stat(5); guest time is in user time already.
fn busy(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|w| w.parse().ok()).collect();
    let all = ticks.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    let idle = ticks.get(3)?.saturating_add(*ticks.get(4)?);
    Some((all.saturating_sub(idle), all))
}

#[allow(clippy::cast_precision_loss)] // ticks of one interval
fn share(old: (u64, u64), new: (u64, u64)) -> Option<f64> {
    let (busy, all) = (new.0.checked_sub(old.0)?, new.1.checked_sub(old.1)?);
    (all > 0).then(|| busy as f64 / all as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_share() {
        let text = "cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 1\n";
        assert_eq!(busy(text), Some((20, 100)));
        assert_eq!(share((20, 100), (70, 200)), Some(50.0));
        assert_eq!(share((20, 100), (10, 200)), None, "a counter went back");
        assert_eq!(share((20, 100), (20, 100)), None);
        assert_eq!(busy("cpu x\n"), None);
    }
}
