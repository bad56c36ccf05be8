//! Whether a value that was written is the value that is read back: the kernel rounds some, and must not drop any.

use crate::limits::parse_list;
use crate::stats::number;

/// What reading back says of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// As asked, or a file whose text says nothing about it.
    Same,
    /// Rounded by the kernel to what it counts in.
    Rounded,
    /// Something else: the write was taken and had no effect.
    None,
}

/// What v1 reads as no limit is the largest number of pages.
const V1_MAX: u64 = 1 << 62;

/// Judges by the file's kind; an unknown file is not judged. `page`: bytes that the kernel counts memory in.
pub(crate) fn of(file: &str, asked: &str, kernel: &str, page: u64) -> Effect {
    let (asked, kernel) = (asked.trim(), kernel.trim());
    // Some files are write-only, and what is the same text is the same.
    if asked == kernel || kernel.is_empty() {
        return Effect::Same;
    }
    let same = |same: bool| if same { Effect::Same } else { Effect::None };
    match file {
        "pids.max" | "cpu.weight" | "cpu.shares" | "cpu.idle" | "cpu.cfs_quota_us" | "cpu.cfs_period_us"
        | "cpu.cfs_burst_us" | "cpu.max.burst" | "memory.oom.group" | "memory.swappiness"
        | "blkio.weight" => same(plain(asked) == plain(kernel)),
        "cpu.max" => same(kernel.split_whitespace().zip(asked.split_whitespace()).all(|(k, a)| k == a)),
        "cpuset.cpus" | "cpuset.mems" => {
            let list = |text: &str| parse_list(file, text).map(spread).unwrap_or_default();
            same(list(asked) == list(kernel))
        }
        "io.max" => same(io(asked, kernel)),
        "io.weight" | "io.latency" | "misc.max" => same(lines(asked, kernel)),
        _ if file.starts_with("blkio.throttle.") => same(throttle(asked, kernel)),
        "memory.max"
        | "memory.high"
        | "memory.low"
        | "memory.min"
        | "memory.swap.max"
        | "memory.swap.high"
        | "memory.limit_in_bytes"
        | "memory.soft_limit_in_bytes"
        | "memory.memsw.limit_in_bytes" => size(asked, kernel, page),
        _ => match hugetlb_page(file) {
            Some(page) => size(asked, kernel, page),
            None => Effect::Same,
        },
    }
}

/// A number, where "max" and -1 are the same.
fn plain(text: &str) -> Option<u64> {
    if matches!(text, "max" | "-1") { Some(u64::MAX) } else { number(text) }
}

fn size(asked: &str, kernel: &str, page: u64) -> Effect {
    match (plain(asked), plain(kernel)) {
        (Some(a), Some(k)) if a == k || (a >= V1_MAX && k >= V1_MAX) => Effect::Same,
        (Some(a), Some(k)) if a.abs_diff(k) < page => Effect::Rounded,
        (Some(_), Some(_)) => Effect::None,
        _ => Effect::Same,
    }
}

fn spread(ranges: Vec<(u32, u32)>) -> Vec<u32> {
    let mut all: Vec<u32> = ranges.into_iter().flat_map(|(low, high)| low..=high).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// `8:0 rbps=1 wiops=max` in the lines of all devices; a device without limits has none.
fn io(asked: &str, kernel: &str) -> bool {
    let mut words = asked.split_whitespace();
    let device = words.next().unwrap_or_default();
    let line = kernel.lines().find_map(|l| l.strip_prefix(device)?.strip_prefix(' '));
    let has = |word: &str| match line {
        Some(line) => line.split_whitespace().any(|w| w == word),
        None => word.ends_with("=max"),
    };
    words.all(has)
}

/// `8:0 200` or `res_a 10` among lines; `default` is for a device that then has no line of its own.
fn lines(asked: &str, kernel: &str) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    let asked = words(asked);
    let (Some(first), Some(last)) = (asked.first(), asked.last()) else { return true };
    match kernel.lines().map(words).find(|line| line.first() == Some(first)) {
        Some(line) => line == asked,
        // Where the kernel shows no line there is nothing to compare with.
        None => last == "default" || kernel.lines().count() == 0,
    }
}

/// `8:0 1048576`; 0 removes the line.
fn throttle(asked: &str, kernel: &str) -> bool {
    match asked.split_once(' ') {
        Some((device, "0")) => !kernel.lines().any(|l| l.starts_with(&format!("{device} "))),
        _ => kernel.lines().any(|l| l.trim() == asked),
    }
}

/// The page's bytes of `hugetlb.2MB.max` and its kin.
fn hugetlb_page(file: &str) -> Option<u64> {
    let size = file.strip_prefix("hugetlb.")?.split('.').next()?;
    let unit = |text: &str, unit: &str, shift: u32| number(text.strip_suffix(unit)?)?.checked_shl(shift);
    unit(size, "KB", 10).or_else(|| unit(size, "MB", 20)).or_else(|| unit(size, "GB", 30))
}

#[cfg(test)]
mod tests {
    use super::{Effect, of};

    fn judged(file: &str, asked: &str, kernel: &str) -> Effect {
        of(file, asked, kernel, 4096)
    }

    #[test]
    fn rounding_is_not_loss() {
        assert_eq!(judged("memory.max", "1000000", "999424"), Effect::Rounded);
        assert_eq!(judged("memory.max", "104857600", "104857600"), Effect::Same);
        assert_eq!(judged("memory.max", "104857600", "max"), Effect::None);
        assert_eq!(judged("memory.limit_in_bytes", "-1", "9223372036854771712"), Effect::Same);
        assert_eq!(judged("hugetlb.2MB.max", "3145728", "2097152"), Effect::Rounded);
        assert_eq!(judged("hugetlb.2MB.max", "8388608", "2097152"), Effect::None);
        assert_eq!(judged("pids.max", "100", "99"), Effect::None);
        assert_eq!(judged("cpu.max", "50000", "50000 100000"), Effect::Same);
        assert_eq!(judged("cpu.max", "50000 100000", "max 100000"), Effect::None);
        assert_eq!(judged("cpuset.cpus", "0,1", "0-1"), Effect::Same);
        assert_eq!(judged("cpuset.cpus", "0-1", "0"), Effect::None);
        let line = "8:0 rbps=max wbps=1048576 riops=max wiops=max";
        assert_eq!(judged("io.max", "8:0 wbps=1048576", line), Effect::Same);
        assert_eq!(judged("io.max", "8:16 wbps=1048576", line), Effect::None);
        assert_eq!(judged("io.max", "8:16 wbps=max", line), Effect::Same);
        assert_eq!(judged("blkio.throttle.write_bps_device", "8:0 5", "8:16 1\n8:0 5"), Effect::Same);
        assert_eq!(judged("blkio.throttle.write_bps_device", "8:0 0", "8:16 1"), Effect::Same);
        assert_eq!(judged("blkio.throttle.write_bps_device", "8:0 7", "8:0 5"), Effect::None);
        assert_eq!(judged("misc.max", "res_a 1", "res_b 5\nres_a 2"), Effect::None);
        assert_eq!(judged("misc.max", "res_a 1", "res_b 5\nres_a 1"), Effect::Same);
        assert_eq!(judged("io.weight", "default 200", "default 200\n8:0 7"), Effect::Same);
        assert_eq!(judged("io.weight", "8:0 7", "default 200"), Effect::None);
        assert_eq!(judged("io.weight", "8:0 default", "default 200"), Effect::Same);
        assert_eq!(judged("io.latency", "8:0 target=5", "8:0 target=5"), Effect::Same);
        assert_eq!(judged("rdma.max", "x 1", "x 2"), Effect::Same, "not judged");
    }
}
