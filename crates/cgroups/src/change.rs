//! A change of limits that a container has already: what it depends on, and what holds after it.

use crate::resources::{CpuMax, DeviceWeight, IoMax};
use crate::{Limits, UNLIMITED};

/// Takes each field that the change gives.
macro_rules! take {
    ($into:ident, $from:ident, $($field:ident),+) => {
        $(if $from.$field.is_some() { $into.$field = $from.$field.clone(); })+
    };
}

impl Limits {
    /// The limits after `change`: what it gives replaces what was there, the rest stays. Maps and device lists are
    /// changed entry by entry.
    pub fn merge(&mut self, change: &Self) {
        // Two ways to say one thing: the later one holds.
        if change.cpu_weight.is_some() || change.cpu_shares.is_some() {
            (self.cpu_weight, self.cpu_shares) = (None, None);
        }
        if change.swap_max.is_some() || change.memsw_max.is_some() {
            (self.swap_max, self.memsw_max) = (None, None);
        }
        if change.io_weight.is_some() || change.blkio_weight.is_some() {
            (self.io_weight, self.blkio_weight) = (None, None);
        }
        take!(
            self,
            change,
            cpu_burst_us,
            cpu_weight,
            cpu_shares,
            cpu_idle,
            cpu_rt_runtime_us,
            cpu_rt_period_us
        );
        take!(
            self,
            change,
            cpuset_cpus,
            cpuset_mems,
            memory_max,
            memory_high,
            memory_low,
            memory_min,
            oom_group
        );
        take!(self, change, swap_max, memsw_max, memory_swappiness, oom_kill_disable, pids_max, io_weight);
        take!(self, change, blkio_weight, blkio_leaf_weight, net_cls_classid, devices);
        self.memory_check = change.memory_check;
        if let Some(cpu) = change.cpu {
            let old = self.cpu.unwrap_or_default();
            let quota_us = cpu.quota_us.or(old.quota_us);
            self.cpu = Some(CpuMax { quota_us, period_us: cpu.period_us.or(old.period_us) });
        }
        change.blkio_weight_device.iter().for_each(|new| merge_weight(&mut self.blkio_weight_device, new));
        change.io_max.iter().for_each(|new| merge_io(&mut self.io_max, new));
        self.hugetlb.extend(change.hugetlb.clone());
        self.net_prio.extend(change.net_prio.clone());
        self.rdma.extend(change.rdma.clone());
        self.unified.extend(change.unified.clone());
        self.raw.extend(change.raw.clone());
    }

    /// `change` with what it depends on of these limits, for writing it to the kernel: memory and swap together need
    /// each other, and so do quota and period. Unlimited memory means unlimited swap, unless swap is given.
    pub fn completed(&self, change: &Self) -> Self {
        let mut full = change.clone();
        if full.memory_max == Some(UNLIMITED) && full.memsw_max.is_none() && full.swap_max.is_none() {
            full.memsw_max = Some(UNLIMITED);
        }
        if full.memory_max.is_some() && full.memsw_max.is_none() && full.swap_max.is_none() {
            full.memsw_max = self.memsw_max;
        }
        if full.memsw_max.is_some() {
            full.memory_max = full.memory_max.or(self.memory_max);
        }
        if let (Some(cpu), Some(old)) = (&mut full.cpu, self.cpu) {
            cpu.quota_us = cpu.quota_us.or(old.quota_us);
            cpu.period_us = cpu.period_us.or(old.period_us);
        }
        full
    }
}

fn merge_weight(all: &mut Vec<DeviceWeight>, new: &DeviceWeight) {
    match all.iter_mut().find(|old| old.device == new.device) {
        Some(old) => {
            take!(old, new, weight, leaf_weight);
        }
        None => all.push(new.clone()),
    }
}

fn merge_io(all: &mut Vec<IoMax>, new: &IoMax) {
    match all.iter_mut().find(|old| old.device == new.device) {
        Some(old) => {
            take!(old, new, rbps, wbps, riops, wiops);
        }
        None => all.push(new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Limits {
        Limits::default()
    }

    #[test]
    fn a_change_leaves_the_rest() {
        let io = |rbps, wbps| IoMax { device: "8:0".into(), rbps, wbps, ..IoMax::default() };
        let cpu = Some(CpuMax::new(50_000, 100_000));
        let mut all =
            Limits { cpu, cpu_weight: Some(7), io_max: vec![io(Some(1), None)], pids_max: Some(9), ..none() };
        let quota = Some(CpuMax { quota_us: Some(20_000), period_us: None });
        all.merge(&Limits { cpu: quota, cpu_shares: Some(512), io_max: vec![io(None, Some(2))], ..none() });
        assert_eq!(all.cpu, Some(CpuMax::new(20_000, 100_000)));
        assert_eq!((all.cpu_weight, all.cpu_shares, all.pids_max), (None, Some(512), Some(9)));
        assert_eq!(all.io_max, [io(Some(1), Some(2))]);
    }

    #[test]
    fn memory_and_swap_need_each_other() {
        let had = Limits { memory_max: Some(4 << 20), memsw_max: Some(8 << 20), ..none() };
        let both = |change: Limits| {
            let full = had.completed(&change);
            (full.memory_max, full.memsw_max)
        };
        assert_eq!(both(Limits { memory_max: Some(5 << 20), ..none() }), (Some(5 << 20), Some(8 << 20)));
        assert_eq!(both(Limits { memsw_max: Some(9 << 20), ..none() }), (Some(4 << 20), Some(9 << 20)));
        assert_eq!(
            both(Limits { memory_max: Some(UNLIMITED), ..none() }),
            (Some(UNLIMITED), Some(UNLIMITED))
        );
        assert_eq!(both(Limits { pids_max: Some(1), ..none() }), (None, None));
    }
}
