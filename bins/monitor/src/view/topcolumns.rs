//! The columns of `monitor top` and of `monitor stats` of several.

use crate::model::sampler::Row;
use drydock_core::size::show;
use drydock_core::{Error, Result};
use std::cmp::Ordering;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The container, or the cgroup.
    Name,
    /// Who made it.
    Runtime,
    /// Its lowest pid.
    Pid,
    /// Processes.
    Procs,
    /// Processor, per cent of one.
    Cpu,
    /// Share of the periods in which it was held back.
    Throttled,
    /// Memory.
    Memory,
    /// Of its limit.
    MemoryPercent,
    /// Its limit.
    Limit,
    /// Until the nearest limit.
    Headroom,
    /// Most that ever was.
    Peak,
    /// Anonymous memory.
    Anon,
    /// Page cache.
    File,
    /// The kernel's.
    Kernel,
    /// Shared memory.
    Shmem,
    /// Swap.
    Swap,
    /// Read from disks.
    Read,
    /// Written to disks.
    Write,
    /// Received.
    Rx,
    /// Sent.
    Tx,
    /// Tasks.
    Pids,
    /// Pressure on the processor.
    PsiCpu,
    /// On memory.
    PsiMemory,
    /// On input and output.
    PsiIo,
    /// Processes killed for want of memory.
    Oom,
    /// Its id.
    Id,
    /// The cgroup's path.
    Path,
}

/// All, with heading, width on a screen, and what it is.
const ALL: [(Column, &str, usize, &str); 27] = [
    (Column::Name, "NAME", 24, "container, or cgroup"),
    (Column::Runtime, "RUNTIME", 10, "who made it"),
    (Column::Pid, "PID", 7, "its lowest pid"),
    (Column::Procs, "PROCS", 5, "processes"),
    (Column::Cpu, "CPU%", 6, "processor; 100 is one"),
    (Column::Throttled, "THR%", 5, "periods in which it was held back"),
    (Column::Memory, "MEMORY", 7, "memory in use"),
    (Column::MemoryPercent, "MEM%", 5, "of its limit"),
    (Column::Limit, "LIMIT", 7, "its memory limit"),
    (Column::Headroom, "HEADROOM", 8, "until the nearest limit, also of a cgroup above"),
    (Column::Peak, "PEAK", 7, "most memory that ever was in use"),
    (Column::Anon, "ANON", 7, "anonymous memory"),
    (Column::File, "FILE", 7, "page cache"),
    (Column::Kernel, "KERNEL", 7, "the kernel's memory for it"),
    (Column::Shmem, "SHMEM", 7, "shared memory and tmpfs"),
    (Column::Swap, "SWAP", 7, "swap in use"),
    (Column::Read, "READ/S", 7, "read from block devices"),
    (Column::Write, "WRITE/S", 7, "written to block devices"),
    (Column::Rx, "RX/S", 7, "received by its network namespace"),
    (Column::Tx, "TX/S", 7, "sent by its network namespace"),
    (Column::Pids, "PIDS", 5, "processes and threads"),
    (Column::PsiCpu, "PSI-CPU", 7, "share of 10 s in which something waited for the processor"),
    (Column::PsiMemory, "PSI-MEM", 7, "for memory"),
    (Column::PsiIo, "PSI-IO", 6, "for input and output"),
    (Column::Oom, "OOM", 4, "processes killed for want of memory"),
    (Column::Id, "ID", 12, "id of its engine, or systemd's unit"),
    (Column::Path, "PATH", 30, "the cgroup's path"),
];

impl Column {
    /// All columns.
    pub fn all() -> impl Iterator<Item = Column> {
        ALL.iter().map(|(column, ..)| *column)
    }

    fn entry(self) -> (&'static str, usize, &'static str) {
        let found = ALL.iter().find(|(column, ..)| *column == self);
        found.map_or(("", 0, ""), |(_, name, width, about)| (*name, *width, *about))
    }

    /// Its heading.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// Its width on a screen.
    pub fn width(self) -> usize {
        self.entry().1
    }

    /// What it is.
    pub fn about(self) -> &'static str {
        self.entry().2
    }

    /// Text stands on the left, numbers on the right.
    pub fn is_text(self) -> bool {
        matches!(self, Column::Name | Column::Runtime | Column::Id | Column::Path)
    }

    /// The column of a name: `cpu`, `CPU%`, `mem`, `psi-mem`, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let plain =
            |text: &str| text.trim_end_matches(['%', 'S', 's']).trim_end_matches('/').to_ascii_lowercase();
        let exact = Self::all().find(|c| c.name().eq_ignore_ascii_case(name));
        match name.to_ascii_lowercase().as_str() {
            "mem" => Some(Column::Memory),
            "container" => Some(Column::Name),
            "io" => Some(Column::Read),
            _ => exact.or_else(|| Self::all().find(|c| plain(c.name()) == plain(name))),
        }
    }

    /// The columns of a list, `+LIST` in addition to the usual ones.
    ///
    /// # Errors
    /// Bad input for a name that is none.
    pub fn list(option: &str, text: &str, usual: &[Column]) -> Result<Vec<Column>> {
        let (mut columns, text) = match text.strip_prefix('+') {
            Some(rest) => (usual.to_vec(), rest),
            None => (Vec::new(), text),
        };
        for name in text.split(',') {
            let column = Self::named(name.trim()).ok_or_else(|| Self::unknown(option, name))?;
            columns.push(column);
        }
        Ok(columns)
    }

    /// The error for a name that is no column.
    pub fn unknown(option: &str, name: &str) -> Error {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(name), 40);
        let all: Vec<&str> = Self::all().map(Self::name).collect();
        Error::bad_input(option, format!("unknown column '{shown}' (allowed: {})", all.join(", ")))
    }

    /// Its number in a row, for sorting and for conditions; `None` for text, and for what is not known.
    #[allow(clippy::cast_precision_loss)] // to compare
    pub fn number(self, row: &Row) -> Option<f64> {
        let s = &row.usage.stats;
        let psi = |resource: &str| s.pressure.get(resource)?.some.as_ref().map(|line| line.avg10);
        let whole = |n: Option<u64>| n.map(|n| n as f64);
        match self {
            Column::Name | Column::Runtime | Column::Id | Column::Path => None,
            Column::Pid => row.pid.map(f64::from),
            Column::Procs => Some(row.nprocs as f64),
            Column::Cpu => row.usage.cpu_percent,
            Column::Throttled => row.usage.throttled_percent,
            Column::MemoryPercent => {
                let (max, current) = (whole(s.memory.max)?, whole(s.memory.current)?);
                (max > 0.0).then(|| current / max * 100.0)
            }
            Column::Memory => whole(s.memory.current),
            Column::Limit => whole(s.memory.max),
            Column::Headroom => row.memory_headroom.as_ref().map(|h| h.bytes as f64),
            Column::Peak => whole(s.memory.peak),
            Column::Anon => whole(s.memory.anon),
            Column::File => whole(s.memory.file),
            Column::Kernel => whole(s.memory.kernel),
            Column::Shmem => whole(s.memory.shmem),
            Column::Swap => whole(s.memory.swap),
            Column::Read => whole(row.usage.read_bytes_per_second),
            Column::Write => whole(row.usage.write_bytes_per_second),
            Column::Rx => {
                whole(row.network.as_ref().filter(|n| !n.shared).and_then(|n| n.rx_bytes_per_second))
            }
            Column::Tx => {
                whole(row.network.as_ref().filter(|n| !n.shared).and_then(|n| n.tx_bytes_per_second))
            }
            Column::Pids => whole(s.pids.current),
            Column::PsiCpu => psi("cpu"),
            Column::PsiMemory => psi("memory"),
            Column::PsiIo => psi("io"),
            Column::Oom => whole(s.memory.oom_kill),
        }
    }

    /// As it is shown; `-` is a figure that the kernel does not keep here.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // numbers of bytes, not negative
    pub fn text(self, row: &Row) -> String {
        let dash = || "-".to_string();
        let number = self.number(row);
        match self {
            Column::Name => row.name.clone(),
            Column::Runtime => row.runtime.map_or_else(dash, str::to_string),
            Column::Id => row.id.clone().unwrap_or_else(dash),
            Column::Path => row.path.clone(),
            Column::Pid | Column::Procs | Column::Pids | Column::Oom => {
                number.map_or_else(dash, |n| format!("{n:.0}"))
            }
            Column::Cpu
            | Column::Throttled
            | Column::MemoryPercent
            | Column::PsiCpu
            | Column::PsiMemory
            | Column::PsiIo => number.map_or_else(dash, |n| format!("{n:.1}")),
            _ => number.map_or_else(dash, |n| show(n as u64)),
        }
    }

    /// For conditions: numbers plain, so that they compare with `100M` as with `104857600`.
    pub fn raw(self, row: &Row) -> Option<String> {
        if self.is_text() {
            return Some(self.text(row)).filter(|t| t != "-");
        }
        self.number(row).map(|n| n.to_string())
    }

    /// The greatest first, text by the alphabet; what is not known last.
    pub fn compare(self, a: &Row, b: &Row) -> Ordering {
        if self.is_text() {
            return self.text(a).cmp(&self.text(b));
        }
        let key = |row: &Row| self.number(row).unwrap_or(-1.0);
        key(b).total_cmp(&key(a))
    }
}

/// Sorts rows; equal ones by memory, then by name.
pub fn sort(rows: &mut [Row], column: Column, reverse: bool) {
    rows.sort_by(|a, b| {
        let order = column.compare(a, b);
        let order = if reverse { order.reverse() } else { order };
        order.then_with(|| Column::Memory.compare(a, b)).then_with(|| a.name.cmp(&b.name))
    });
}

/// The names of all columns in lower case, for conditions, and how to look a value up.
pub fn for_conditions() -> Vec<String> {
    Column::all()
        .map(|c| c.name().to_ascii_lowercase())
        .chain(ALIASES.iter().map(ToString::to_string))
        .collect()
}

/// Short names in conditions.
const ALIASES: [&str; 9] = ["cpu", "mem", "container", "throttled", "thr", "read", "write", "rx", "tx"];

/// The value of a column for a condition.
pub fn value(row: &Row, column: &str) -> Option<String> {
    match column {
        "container" => Some(row.is_container.to_string()),
        "throttled" => Column::Throttled.raw(row),
        name => Column::named(name)?.raw(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, column) in [
            ("cpu", Column::Cpu),
            ("CPU%", Column::Cpu),
            ("mem", Column::Memory),
            ("mem%", Column::MemoryPercent),
            ("pids", Column::Pids),
            ("pid", Column::Pid),
            ("psi-mem", Column::PsiMemory),
            ("read", Column::Read),
            ("procs", Column::Procs),
        ] {
            assert_eq!(Column::named(name), Some(column), "{name}");
        }
        assert_eq!(Column::named("nope"), None);
        assert_eq!(Column::list("-o", "+oom", &[Column::Name]).unwrap(), [Column::Name, Column::Oom]);
        assert_eq!(Column::list("-o", "a,b", &[]).unwrap_err().exit_code(), 2);
    }
}
