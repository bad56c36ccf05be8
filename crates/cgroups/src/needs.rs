//! Which counters are wanted: who looks at many cgroups again and again does not read files that nobody sees.

/// A group of counters that come from the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// User and system time apart: on v1 from files of their own.
    CpuParts,
    /// Periods and throttling.
    Throttling,
    /// Memory in use; the other figures of memory need it, too.
    Memory,
    /// The memory limit.
    MemoryLimit,
    /// The peak.
    MemoryPeak,
    /// The kernel's memory.
    MemoryKernel,
    /// Anonymous memory, page cache, shared memory.
    MemoryParts,
    /// Swap in use.
    Swap,
    /// Kills for want of memory, and hits of the limit.
    Oom,
    /// Bytes read and written.
    Io,
    /// Tasks.
    Tasks,
    /// Pressure on the processor.
    PressureCpu,
    /// On memory.
    PressureMemory,
    /// On input and output.
    PressureIo,
    /// All others: further limits, peaks, and numbers of operations.
    Others,
}

/// A set of them. What is not in it may be missing in what is read; processor time never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs(u32);

impl Needs {
    /// Every figure.
    pub const ALL: Needs = Needs(u32::MAX);
    /// Processor time alone.
    pub const NONE: Needs = Needs(0);

    /// With a figure.
    #[must_use]
    pub fn with(self, figure: Figure) -> Self {
        Needs(self.0 | 1 << figure as u32)
    }

    /// Whether a figure is in it.
    pub fn has(self, figure: Figure) -> bool {
        self.0 & 1 << figure as u32 != 0
    }

    /// Whether a file of a cgroup is to be read; `v1` says that it is v1's where both dialects have the name.
    pub(crate) fn wants(self, file: &str, v1: bool) -> bool {
        let any = |figures: &[Figure]| figures.iter().any(|f| self.has(*f));
        match file {
            "cpuacct.usage" => true,
            "cpu.stat" => !v1 || any(&[Figure::Throttling]),
            "cpuacct.usage_user" | "cpuacct.usage_sys" => any(&[Figure::CpuParts]),
            "memory.current" | "memory.usage_in_bytes" => any(&[Figure::Memory]),
            "memory.max" | "memory.limit_in_bytes" => any(&[Figure::MemoryLimit]),
            "memory.peak" | "memory.max_usage_in_bytes" => any(&[Figure::MemoryPeak]),
            "memory.kmem.usage_in_bytes" => any(&[Figure::MemoryKernel]),
            "memory.swap.current" | "memory.memsw.usage_in_bytes" => any(&[Figure::Swap]),
            // v1 has swap there, v2 the kernel's memory.
            "memory.stat" => any(&[Figure::MemoryParts, Figure::MemoryKernel, Figure::Swap]),
            "memory.events" | "memory.oom_control" | "memory.failcnt" | "memory.memsw.failcnt" => {
                any(&[Figure::Oom])
            }
            "io.stat" | "blkio.throttle.io_service_bytes" | "blkio.throttle.io_service_bytes_recursive" => {
                any(&[Figure::Io])
            }
            "pids.current" => any(&[Figure::Tasks]),
            "cpu.pressure" => any(&[Figure::PressureCpu]),
            "memory.pressure" => any(&[Figure::PressureMemory]),
            "io.pressure" => any(&[Figure::PressureIo]),
            _ => any(&[Figure::Others]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_by_figures() {
        for file in ["cpu.stat", "memory.stat", "pids.max", "io.pressure", "memory.memsw.limit_in_bytes"] {
            assert!(Needs::ALL.wants(file, true), "{file}");
        }
        assert!(Needs::NONE.wants("cpuacct.usage", true) && Needs::NONE.wants("cpu.stat", false));
        assert!(!Needs::NONE.wants("cpu.stat", true) && !Needs::NONE.wants("pids.max", false));
        let some = Needs::NONE.with(Figure::Swap).with(Figure::Memory);
        assert!(some.wants("memory.stat", true) && some.wants("memory.current", false));
        assert!(!some.wants("memory.peak", false) && some.has(Figure::Swap) && !some.has(Figure::Io));
    }
}
