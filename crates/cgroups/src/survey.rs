//! The counters of all cgroups in one pass: each hierarchy is walked once, and of each cgroup only the files are read that
//! a list needs. A directory without children is known by its link count, and not listed.

use crate::layout::{Layout, Mode, Version};
use crate::stats::{number, parse_flat, parse_io};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode as FileMode;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a list shows of a cgroup. What the kernel does not offer is `None`, never 0. As v2 counts, those below included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Brief {
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Processor time in microseconds.
    pub cpu_us: Option<u64>,
    /// Time it was held back by its limit, in microseconds.
    pub throttled_us: Option<u64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Swap in bytes.
    pub swap: Option<u64>,
    /// Processes that the OOM killer took.
    pub oom_kills: Option<u64>,
    /// Bytes read from block devices.
    pub read: Option<u64>,
    /// Bytes written to block devices.
    pub written: Option<u64>,
}

impl Layout {
    /// All cgroups below the place where names begin, or `name` and those below it, by their relative names. Those that
    /// vanish meanwhile are left out.
    pub fn survey(&self, name: Option<&str>) -> BTreeMap<String, Brief> {
        let mut all = BTreeMap::new();
        let mut buffer = vec![0u8; 65536];
        let v1_cpu = self.hierarchy_of("cpuacct").is_some();
        for hierarchy in self.hierarchies().iter().filter(|h| h.name.is_none()) {
            let read: &Reader = match hierarchy.version {
                Version::V2 if self.mode() == Mode::V2 => &unified,
                Version::V2 if v1_cpu => &nothing,
                Version::V2 => &unified_cpu,
                Version::V1 => &v1,
            };
            let has = |c: &str| hierarchy.controllers.iter().any(|h| h == c);
            let base = hierarchy.place();
            let start = name.map_or_else(|| base.to_path_buf(), |n| base.join(n));
            walk(&start, base, &mut |dir, relative| {
                let entry: &mut Brief = all.entry(relative).or_default();
                read(&mut Files { dir, buffer: &mut buffer }, &has, entry);
            });
        }
        all
    }
}

type Reader = dyn Fn(&mut Files<'_>, &dyn Fn(&str) -> bool, &mut Brief);

fn nothing(_: &mut Files<'_>, _: &dyn Fn(&str) -> bool, _: &mut Brief) {}

fn unified_cpu(files: &mut Files<'_>, _: &dyn Fn(&str) -> bool, brief: &mut Brief) {
    if let Some(cpu) = files.read("cpu.stat").map(parse_flat) {
        brief.cpu_us = cpu.get("usage_usec").copied();
        brief.throttled_us = cpu.get("throttled_usec").copied();
    }
}

fn unified(files: &mut Files<'_>, has: &dyn Fn(&str) -> bool, brief: &mut Brief) {
    unified_cpu(files, has, brief);
    if has("memory") {
        brief.memory = files.read("memory.current").and_then(number);
        if brief.memory.is_some() {
            brief.swap = files.read("memory.swap.current").and_then(number);
            let events = files.read("memory.events").map(parse_flat);
            brief.oom_kills = events.and_then(|e| e.get("oom_kill").copied());
        }
    }
    if has("pids") {
        brief.tasks = files.read("pids.current").and_then(number);
    }
    if has("io")
        && let Some(io) = files.read("io.stat").map(parse_io)
    {
        brief.read = Some(io.values().map(|io| io.rbytes).fold(0, u64::saturating_add));
        brief.written = Some(io.values().map(|io| io.wbytes).fold(0, u64::saturating_add));
    }
}

fn v1(files: &mut Files<'_>, has: &dyn Fn(&str) -> bool, brief: &mut Brief) {
    if has("pids") {
        brief.tasks = files.read("pids.current").and_then(number);
    }
    if has("cpuacct") {
        brief.cpu_us = files.read("cpuacct.usage").and_then(number).map(|ns| ns / 1000);
    }
    if has("cpu")
        && let Some(cpu) = files.read("cpu.stat").map(parse_flat)
    {
        brief.throttled_us = cpu.get("throttled_time").map(|ns| ns / 1000);
    }
    if has("memory") {
        brief.memory = files.read("memory.usage_in_bytes").and_then(number);
        let both = files.read("memory.memsw.usage_in_bytes").and_then(number);
        brief.swap = both.zip(brief.memory).map(|(both, memory)| both.saturating_sub(memory));
        let control = files.read("memory.oom_control").map(parse_flat);
        brief.oom_kills = control.and_then(|c| c.get("oom_kill").copied());
    }
    if has("blkio")
        && let Some(text) = files.read("blkio.throttle.io_service_bytes_recursive")
    {
        let sum = |kind: &str| {
            let value = |l: &str| number(l.split_once(kind)?.1);
            text.lines().filter_map(value).fold(0, u64::saturating_add)
        };
        (brief.read, brief.written) = (Some(sum(" Read ")), Some(sum(" Write ")));
    }
}

/// The files of one cgroup, read into one buffer for all.
struct Files<'a> {
    dir: &'a Path,
    buffer: &'a mut [u8],
}

impl Files<'_> {
    fn read(&mut self, file: &str) -> Option<&str> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let fd = open(&self.dir.join(file), flags, FileMode::empty()).ok()?;
        let read = nix::unistd::read(&fd, self.buffer).ok()?;
        std::str::from_utf8(self.buffer.get(..read)?).ok()
    }
}

fn walk(dir: &Path, base: &Path, each: &mut dyn FnMut(&Path, String)) {
    let Ok(status) = std::fs::symlink_metadata(dir) else { return };
    if let Ok(relative) = dir.strip_prefix(base)
        && !relative.as_os_str().is_empty()
    {
        each(dir, relative.to_string_lossy().into_owned());
    }
    // `.` and the entry above make two.
    if status.nlink() == 2 {
        return;
    }
    // A cgroup that vanishes while we look is no error.
    let Ok(children) = std::fs::read_dir(dir) else { return };
    for child in children.flatten().filter(|c| c.file_type().is_ok_and(|t| t.is_dir())) {
        walk(&child.path(), base, each);
    }
}
