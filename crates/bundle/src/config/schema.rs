//! The shape of config.json. Source: OCI runtime specification 1.3, config.md and config-linux.md.
//!
//! Values that a stage has a table of (actions of seccomp, policies of the scheduler, mount options, …) are that stage's
//! to judge; here is their type.

use super::shape::Shape::{Bool, Int, List, Map, Object, Text, Word};
use super::shape::{Field, Shape, may, must};

const ANY: Shape = Text(|_| None);
const FILLED: Shape = Text(|text| text.is_empty().then_some("a text that is not empty"));
const ABSOLUTE: Shape = Text(|path| (!path.starts_with('/')).then_some("an absolute path"));
/// May be empty, which is the same as absent.
const ABSOLUTE_OR_NONE: Shape =
    Text(|path| (!path.is_empty() && !path.starts_with('/')).then_some("an absolute path"));
const VARIABLE: Shape = Text(|text| match text.split_once('=') {
    Some((name, _)) if !name.is_empty() => None,
    _ => Some("NAME=VALUE"),
});
const PAGE_SIZE: Shape = Text(|text| {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    let fits =
        digits.is_some_and(|d| !d.starts_with('0') && !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    (!fits).then_some("a page size such as 2MB or 1GB")
});

const I32: Shape = Int(i32::MIN as i128, i32::MAX as i128);
const I64: Shape = Int(i64::MIN as i128, i64::MAX as i128);
const U16: Shape = Int(0, u16::MAX as i128);
const U32: Shape = Int(0, u32::MAX as i128);
const U64: Shape = Int(0, u64::MAX as i128);
/// 4294967295 means "no id" to the kernel.
const ID: Shape = Int(0, u32::MAX as i128 - 1);

const TEXTS: Shape = List(&ANY, 0);
const TEXT_MAP: Shape = Map(&ANY, 10_000);

/// The whole of config.json.
pub const CONFIG: Shape = Object(&[
    must("ociVersion", FILLED),
    must("root", Object(&[must("path", ANY), may("readonly", Bool)])),
    must("process", PROCESS),
    may("mounts", List(&MOUNT, 0)),
    may("hostname", ANY),
    may("domainname", ANY),
    may("annotations", TEXT_MAP),
    may("hooks", HOOKS),
    may("linux", LINUX),
]);

const PROCESS: Shape = Object(&[
    may("terminal", Bool),
    may("consoleSize", Object(&[must("height", U16), must("width", U16)])),
    may("user", Object(&USER)),
    must("args", List(&ANY, 1)),
    may("env", List(&VARIABLE, 0)),
    must("cwd", ABSOLUTE),
    may("capabilities", Object(&CAPABILITIES)),
    may("rlimits", List(&RLIMIT, 0)),
    may("noNewPrivileges", Bool),
    may("apparmorProfile", ANY),
    may("selinuxLabel", ANY),
    may("oomScoreAdj", Int(-1000, 1000)),
    may("scheduler", Object(&SCHEDULER)),
    may("ioPriority", Object(&[must("class", ANY), may("priority", I32)])),
    may("execCPUAffinity", Object(&[may("initial", ANY), may("final", ANY)])),
]);

const USER: [Field; 5] = [
    may("uid", ID),
    may("gid", ID),
    may("umask", Int(0, 0o777)),
    may("additionalGids", List(&ID, 0)),
    may("username", ANY),
];

const CAPABILITIES: [Field; 5] = [
    may("bounding", TEXTS),
    may("effective", TEXTS),
    may("permitted", TEXTS),
    may("inheritable", TEXTS),
    may("ambient", TEXTS),
];

/// Names of getrlimit(2).
const RLIMITS: [&str; 16] = [
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
];
const RLIMIT: Shape = Object(&[must("type", Word(&RLIMITS)), must("soft", U64), must("hard", U64)]);

const SCHEDULER: [Field; 7] = [
    must("policy", ANY),
    may("nice", I32),
    may("priority", I32),
    may("flags", TEXTS),
    may("runtime", U64),
    may("deadline", U64),
    may("period", U64),
];

const MOUNT: Shape = Object(&[
    must("destination", FILLED),
    may("type", ANY),
    may("source", ANY),
    may("options", TEXTS),
    may("uidMappings", MAPPINGS),
    may("gidMappings", MAPPINGS),
]);

const MAPPINGS: Shape = List(&Object(&[must("containerID", U32), must("hostID", U32), must("size", U32)]), 0);

const HOOK: Shape = Object(&[
    must("path", ABSOLUTE),
    may("args", TEXTS),
    may("env", TEXTS),
    may("timeout", Int(1, i32::MAX as i128)),
]);
const HOOK_LIST: Shape = List(&HOOK, 0);
const HOOK_KINDS: [Field; 6] = [
    may("prestart", HOOK_LIST),
    may("createRuntime", HOOK_LIST),
    may("createContainer", HOOK_LIST),
    may("startContainer", HOOK_LIST),
    may("poststart", HOOK_LIST),
    may("poststop", HOOK_LIST),
];
const HOOKS: Shape = Object(&HOOK_KINDS);

/// The kinds of hooks.
pub fn hooks() -> impl Iterator<Item = &'static str> {
    HOOK_KINDS.iter().map(|field| field.name)
}

/// Types of namespaces.
pub const NAMESPACES: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];
const PROPAGATIONS: [&str; 9] =
    ["", "private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared", "runbindable"];

const LINUX: Shape = Object(&[
    may("namespaces", List(&Object(&[must("type", Word(&NAMESPACES)), may("path", ABSOLUTE_OR_NONE)]), 0)),
    may("uidMappings", MAPPINGS),
    may("gidMappings", MAPPINGS),
    may("timeOffsets", Object(&[may("monotonic", CLOCK), may("boottime", CLOCK)])),
    may("devices", List(&DEVICE, 0)),
    may("netDevices", Map(&Object(&[may("name", ANY)]), 10_000)),
    may("cgroupsPath", ANY),
    may("resources", Object(&RESOURCES)),
    may("sysctl", TEXT_MAP),
    may("seccomp", Object(&SECCOMP)),
    may("rootfsPropagation", Word(&PROPAGATIONS)),
    may("maskedPaths", List(&ABSOLUTE, 0)),
    // A relative one is taken as below the root: every other runtime starts such a container, and less is writable.
    may("readonlyPaths", List(&FILLED, 0)),
    may("mountLabel", ANY),
    may("intelRdt", Object(&INTEL_RDT)),
    may("memoryPolicy", Object(&[may("mode", ANY), may("nodes", ANY), may("flags", TEXTS)])),
    may("personality", Object(&[must("domain", ANY), may("flags", TEXTS)])),
]);

const SECCOMP: [Field; 7] = [
    must("defaultAction", ANY),
    may("defaultErrnoRet", U32),
    may("architectures", TEXTS),
    may("flags", TEXTS),
    may("listenerPath", ANY),
    may("listenerMetadata", ANY),
    may("syscalls", List(&SYSCALLS, 0)),
];
const SYSCALLS: Shape = Object(&[
    must("names", List(&FILLED, 1)),
    must("action", ANY),
    may("errnoRet", U32),
    may("args", List(&CONDITION, 0)),
]);
const CONDITION: Shape =
    Object(&[must("index", Int(0, 5)), must("value", U64), may("valueTwo", U64), must("op", ANY)]);

const CLOCK: Shape = Object(&[may("secs", I64), may("nanosecs", Int(0, 999_999_999))]);

const DEVICE: Shape = Object(&[
    must("type", Word(&["c", "b", "u", "p"])),
    must("path", ABSOLUTE),
    may("major", I64),
    may("minor", I64),
    may("fileMode", Int(0, 0o177_777)),
    may("uid", ID),
    may("gid", ID),
]);

const INTEL_RDT: [Field; 5] = [
    may("closID", ANY),
    may("l3CacheSchema", ANY),
    may("memBwSchema", ANY),
    may("schemata", TEXTS),
    may("enableMonitoring", Bool),
];

/// `linux.resources`, which `update` reads from a file of its own.
pub const RESOURCES: [Field; 9] = [
    may("memory", Object(&MEMORY)),
    may("cpu", Object(&CPU)),
    may("pids", Object(&[may("limit", I64)])),
    may("blockIO", Object(&BLOCK_IO)),
    may("hugepageLimits", List(&Object(&[must("pageSize", PAGE_SIZE), must("limit", U64)]), 0)),
    may("network", Object(&[may("classID", U32), may("priorities", List(&PRIORITY, 0))])),
    may("rdma", Map(&Object(&[may("hcaHandles", U32), may("hcaObjects", U32)]), 10_000)),
    may("unified", TEXT_MAP),
    may("devices", List(&DEVICE_RULE, 0)),
];

const MEMORY: [Field; 9] = [
    may("limit", I64),
    may("reservation", I64),
    may("swap", I64),
    may("kernel", I64),
    may("kernelTCP", I64),
    may("swappiness", Int(0, 100)),
    may("disableOOMKiller", Bool),
    may("useHierarchy", Bool),
    may("checkBeforeUpdate", Bool),
];

const CPU: [Field; 9] = [
    may("shares", U64),
    may("quota", I64),
    may("burst", U64),
    may("period", U64),
    may("realtimeRuntime", I64),
    may("realtimePeriod", U64),
    may("cpus", ANY),
    may("mems", ANY),
    may("idle", Int(0, 1)),
];

const WEIGHTED: Shape =
    Object(&[must("major", I64), must("minor", I64), may("weight", U16), may("leafWeight", U16)]);
const THROTTLED: Shape = List(&Object(&[must("major", I64), must("minor", I64), must("rate", U64)]), 0);
const BLOCK_IO: [Field; 7] = [
    may("weight", U16),
    may("leafWeight", U16),
    may("weightDevice", List(&WEIGHTED, 0)),
    may("throttleReadBpsDevice", THROTTLED),
    may("throttleWriteBpsDevice", THROTTLED),
    may("throttleReadIOPSDevice", THROTTLED),
    may("throttleWriteIOPSDevice", THROTTLED),
];

const PRIORITY: Shape = Object(&[must("name", FILLED), must("priority", U32)]);

const DEVICE_RULE: Shape = Object(&[
    must("allow", Bool),
    may("type", Word(&["", "a", "b", "c"])),
    may("major", I64),
    may("minor", I64),
    // An `a` among them means nothing; configurations have it.
    may("access", Text(|text| (!text.bytes().all(|b| b"rwma".contains(&b))).then_some("letters of rwm"))),
]);
