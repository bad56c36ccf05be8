//! What every container gets unless something else is asked: the file systems, devices and masks of the default profile.

use crate::request::{Device, DeviceKind, Mount, Request, Root, Symlink};

/// Paths that read as empty: they tell about the host, or reach into it. Those that this kernel lacks are left out
/// when the plan is applied.
pub const MASKED: [&str; 22] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/dynamic_debug",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// Paths that can be read but not written, with everything below.
pub const READONLY: [&str; 6] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/mtrr", "/proc/sys", "/proc/sysrq-trigger"];

/// Each processor has one of these, and it tells neighbours about each other's load.
const CPUS: &str = "/sys/devices/system/cpu";

impl Request {
    /// The defaults of a container: proc, /dev with its nodes, links, pts, shm and mqueue, sysfs and cgroup read-only,
    /// masked and read-only paths. Every tmpfs is bounded in size and in number of files.
    pub fn container_defaults(root: Root) -> Self {
        Self {
            root,
            mounts: mounts(),
            devices: devices(),
            symlinks: symlinks(),
            masked_paths: masked(),
            readonly_paths: READONLY.map(String::from).to_vec(),
            ..Self::default()
        }
    }
}

fn mounts() -> Vec<Mount> {
    vec![
        Mount::of("proc", "/proc", &["nosuid", "nodev", "noexec"]),
        Mount::of(
            "tmpfs",
            "/dev",
            &["nosuid", "noexec", "strictatime", "mode=755", "size=64k", "nr_inodes=1024"],
        ),
        Mount::of(
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        Mount::of(
            "tmpfs",
            "/dev/shm",
            &["nosuid", "nodev", "noexec", "mode=1777", "size=64m", "nr_inodes=16384"],
        ),
        Mount::of("mqueue", "/dev/mqueue", &["nosuid", "nodev", "noexec"]),
        Mount::of("sysfs", "/sys", &["nosuid", "nodev", "noexec", "ro"]),
        Mount::of("cgroup", crate::cgroup::ROOT, &["nosuid", "nodev", "noexec", "relatime", "ro"]),
    ]
}

/// The six nodes that programs expect. Source: Documentation/admin-guide/devices.txt.
pub fn devices() -> Vec<Device> {
    let nodes =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let node = |(name, major, minor): (&str, u32, u32)| Device {
        path: format!("/dev/{name}"),
        kind: DeviceKind::Char,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    nodes.into_iter().map(node).collect()
}

/// The links in /dev that programs expect.
pub fn symlinks() -> Vec<Symlink> {
    // A kernel may be built without it.
    let core = std::path::Path::new("/proc/kcore").exists();
    let links = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/core", "/proc/kcore"),
    ];
    let links = links.into_iter().filter(|(path, _)| core || *path != "/dev/core");
    links.map(|(path, target)| Symlink { path: path.to_string(), target: target.to_string() }).collect()
}

/// [`MASKED`] and the thermal counters of this machine's processors.
pub fn masked() -> Vec<String> {
    let mut all = MASKED.map(String::from).to_vec();
    if std::path::Path::new(CPUS).join("cpu0/thermal_throttle").exists() {
        let entries = std::fs::read_dir(CPUS).into_iter().flatten().flatten();
        let mut cpus: Vec<String> = entries
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| {
                n.strip_prefix("cpu").is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
            })
            .map(|n| format!("{CPUS}/{n}/thermal_throttle"))
            .collect();
        cpus.sort();
        all.append(&mut cpus);
    }
    all
}
