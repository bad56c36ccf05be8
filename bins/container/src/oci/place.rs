//! Where in config.json a stage's error comes from.
//!
//! A stage names its own fields. When it refuses what a bundle asks, the JSON pointer is found here: by the field's name,
//! or by asking the stage again about one part after the other.

use super::bad;
use crate::request::Request;
use drydock_core::{Error, Kind};

/// The fields of stages that have the names of the specification, and what they are part of.
const FIELDS: [(&str, &str); 17] = [
    ("apparmor", "/process/apparmorProfile"),
    ("selinux", "/process/selinuxLabel"),
    ("seccomp", "/linux/seccomp"),
    ("scheduler", "/process/scheduler"),
    ("ioPriority", "/process/ioPriority"),
    ("execCPUAffinity", "/process/execCPUAffinity"),
    ("oomScoreAdj", "/process/oomScoreAdj"),
    ("memoryPolicy", "/linux/memoryPolicy"),
    ("personality", "/linux/personality"),
    ("intelRdt", "/linux/intelRdt"),
    ("cgroupsPath", "/linux/cgroupsPath"),
    ("--hostname", "/hostname"),
    ("--domainname", "/domainname"),
    ("--workdir", "/process/cwd"),
    ("command", "/process/args"),
    ("environment", "/process/env"),
    ("umask", "/process/user/umask"),
];

/// What the cgroup stage calls the fields of `linux.resources`: as the kernel calls its files.
const LIMITS: [(&str, &str); 26] = [
    ("cpu.shares", "cpu/shares"),
    ("cpu.max quota", "cpu/quota"),
    ("cpu.max period", "cpu/period"),
    ("cpu.max.burst", "cpu/burst"),
    ("cpu.rt_period_us", "cpu/realtimePeriod"),
    ("cpu.rt_runtime_us", "cpu/realtimeRuntime"),
    ("cpuset.cpus", "cpu/cpus"),
    ("cpuset.mems", "cpu/mems"),
    ("memory.max", "memory/limit"),
    ("memory.low", "memory/reservation"),
    ("memory.memsw.limit_in_bytes", "memory/swap"),
    ("pids.max", "pids/limit"),
    ("blkio.weight", "blockIO/weight"),
    ("blkio.leaf_weight", "blockIO/leafWeight"),
    ("blkio.weight_device", "blockIO/weightDevice"),
    ("blkio.leaf_weight_device", "blockIO/weightDevice"),
    ("hugetlb", "hugepageLimits"),
    ("cpu.max", "cpu/quota"),
    ("cpu.idle", "cpu/idle"),
    ("memory.swappiness", "memory/swappiness"),
    ("memory.oom_control", "memory/disableOOMKiller"),
    ("io.max", "blockIO"),
    ("net_cls.classid", "network/classID"),
    ("net_prio.ifpriomap", "network/priorities"),
    ("rdma.max", "rdma"),
    ("devices", "devices"),
];

/// The same error at a pointer.
pub(super) fn under(pointer: &str, error: &Error) -> Error {
    let (_, problem) = parts(error);
    let placed = bad(pointer, problem).with_kind(error.kind());
    match error.remedy() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

/// A sentence is `object: problem`.
fn parts(error: &Error) -> (String, String) {
    let sentence = error.sentence();
    let (object, problem) = sentence.split_once(": ").unwrap_or(("", &sentence));
    (object.to_string(), problem.to_string())
}

/// The error of a stage at its field's place: `seccomp.syscalls[2].args[0].op` is `/linux/seccomp/syscalls/2/args/0/op`.
pub(super) fn stage(error: &Error) -> Option<Error> {
    let (object, _) = parts(error);
    let (first, rest) = match object.find(['.', '[']) {
        Some(end) => object.split_at(end),
        None => (object.as_str(), ""),
    };
    let (_, place) = FIELDS.iter().find(|(name, _)| *name == first)?;
    let rest = rest.replace(['.', '['], "/").replace(']', "");
    Some(under(&format!("{place}{rest}"), error))
}

/// What a stage refuses of a bundle's request, at its place in config.json. Other errors, and those of requests that do
/// not come from a bundle, stay as they are.
pub fn place(request: &Request, error: Error) -> Error {
    if request.bundled.is_none() || error.sentence().contains("config.json") {
        return error;
    }
    // What is right, but nothing that this machine can do.
    if error.kind() != Kind::BadInput || error.stage() == Some("cgroup") {
        let found =
            error.stage().and_then(|name| stage(&without(name, &error)).or_else(|| lacking(request, &error)));
        return found.unwrap_or(error);
    }
    let found = stage(&error).or_else(|| of_mounts(request)).or_else(|| of_security(request, &error));
    found.or_else(|| of_cgroup(request, &error)).unwrap_or_else(|| {
        let (object, problem) = parts(&error);
        Error::bad_input(format!("config.json: {object}"), problem)
    })
}

/// The error without its stage's name, which stands before the object.
fn without(name: &str, error: &Error) -> Error {
    let sentence = error.sentence();
    let (object, problem) =
        sentence.trim_start_matches(name).trim_start_matches(": ").split_once(": ").unwrap_or_default();
    let bare = Error::failed(object, problem);
    match error.remedy() {
        Some(hint) => bare.hint(hint),
        None => bare,
    }
}

/// `cgroup: NAME: FILE: why`: a limit that this machine's cgroups do not have.
fn lacking(request: &Request, error: &Error) -> Option<Error> {
    let cgroup = request.cgroup.as_ref()?;
    let (field, why) = limit(error, &|file| cgroup.limits.unified.contains_key(file))?;
    let placed = bad(&format!("/linux/resources/{field}"), why).with_kind(error.kind());
    Some(match error.remedy() {
        Some(hint) => placed.hint(hint),
        None => placed,
    })
}

/// The field of `linux.resources` that an error of the cgroup stage is about, and what it says. `unified`: whether a file of
/// the kernel's is asked for by its own name.
pub fn limit(error: &Error, unified: &dyn Fn(&str) -> bool) -> Option<(String, String)> {
    let (file, why) = match error.stage() {
        Some("cgroup") => {
            let (_, problem) = parts(&without("cgroup", error));
            let (file, why) = problem.split_once(": ")?;
            (file.to_string(), why.to_string())
        }
        _ => parts(error),
    };
    let known = LIMITS.iter().find(|(name, _)| *name == file).map(|(_, field)| (*field).to_string());
    let field = match unified(&file) {
        true => Some(format!("unified/{file}")),
        false => known.or_else(|| file.starts_with("hugetlb.").then(|| "hugepageLimits".to_string())),
    };
    field.map(|field| (field, why))
}

/// What the container's first process could not do of what a bundle asks: its words are those of `init` and of the calls.
pub fn told(request: &Request, error: Error) -> Error {
    if request.bundled.is_none() {
        return error;
    }
    /// How sentences begin, and what else they say; the place.
    const PLACES: [(&str, &str, &str); 9] = [
        ("sysctl: --sysctl: ", "", "/linux/sysctl"),
        ("process: --workdir: ", "", "/process/cwd"),
        ("security: ", "sched_setattr(", "/process/scheduler"),
        ("security: ", "ioprio_set(", "/process/ioPriority"),
        ("security: ", "oom_score_adj", "/process/oomScoreAdj"),
        ("security: ", "set_mempolicy(", "/linux/memoryPolicy"),
        ("security: ", "personality(", "/linux/personality"),
        ("security: ", "prlimit", "/process/rlimits"),
        ("", "/timens_offsets", "/linux/timeOffsets"),
    ];
    let sentence = error.sentence();
    let here = |start: &str, word: &str| sentence.starts_with(start) && sentence.contains(word);
    let Some((start, _, place)) = PLACES.iter().find(|(start, word, _)| here(start, word)) else {
        return error;
    };
    let placed = bad(place, sentence.trim_start_matches(start)).with_kind(error.kind());
    match error.remedy() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

fn of_mounts(request: &Request) -> Option<Error> {
    let all = request.inside.mounts.as_ref()?;
    let bare = drydock_mounts::Request {
        mounts: vec![],
        devices: vec![],
        masked_paths: vec![],
        readonly_paths: vec![],
        ..all.clone()
    };
    let refused = |part: drydock_mounts::Request, pointer: &dyn Fn() -> String| {
        // The problem's own words name the mount.
        part.validate().err().map(|e| {
            let (object, problem) = parts(&e);
            bad(&pointer(), format!("{object}: {problem}"))
        })
    };
    let mounts = all.mounts.iter().enumerate().find_map(|(n, mount)| {
        refused(drydock_mounts::Request { mounts: vec![mount.clone()], ..bare.clone() }, &|| {
            format!("/mounts/{n}")
        })
    });
    let lists = || {
        let with = [
            (drydock_mounts::Request { devices: all.devices.clone(), ..bare.clone() }, "/linux/devices"),
            (
                drydock_mounts::Request { masked_paths: all.masked_paths.clone(), ..bare.clone() },
                "/linux/maskedPaths",
            ),
            (
                drydock_mounts::Request { readonly_paths: all.readonly_paths.clone(), ..bare.clone() },
                "/linux/readonlyPaths",
            ),
        ];
        with.into_iter().find_map(|(part, pointer)| refused(part, &|| pointer.to_string()))
    };
    mounts.or_else(lists)
}

fn of_security(request: &Request, error: &Error) -> Option<Error> {
    let security = &request.inside.security;
    let only = |part: drydock_security::Request, pointer: &str| {
        part.validate().err().map(|e| bad(pointer, e.sentence()))
    };
    let none = drydock_security::Request::default;
    only(drydock_security::Request { rlimits: security.rlimits.clone(), ..none() }, "/process/rlimits")
        .or_else(|| {
            only(drydock_security::Request { user: security.user.clone(), ..none() }, "/process/user")
        })
        .or_else(|| {
            let seccomp =
                drydock_security::Request { seccomp: security.seccomp.clone(), no_new_privs: true, ..none() };
            only(seccomp, "/linux/seccomp")
        })
        .or_else(|| {
            let label = drydock_security::Request { apparmor: security.apparmor.clone(), ..none() };
            only(label, "/process/apparmorProfile")
        })
        .or_else(|| {
            let label = drydock_security::Request { selinux: security.selinux.clone(), ..none() };
            only(label, "/process/selinuxLabel")
        })
        .filter(|found| found.kind() == error.kind())
}

fn of_cgroup(request: &Request, error: &Error) -> Option<Error> {
    let limits = &request.cgroup.as_ref()?.limits;
    // Limits are named after the kernel's files: memory.max.
    let (object, _) = parts(error);
    if let Some((_, field)) = LIMITS.iter().find(|(file, _)| *file == object) {
        return Some(under(&format!("/linux/resources/{field}"), error));
    }
    let refused = limits.check().is_err() || object.contains('.') && !object.contains(' ');
    let wrong = |(file, value): (&String, &String)| {
        let one =
            drydock_cgroups::Limits { unified: [(file.clone(), value.clone())].into(), ..Default::default() };
        let error = one.check().err()?;
        let file = file.replace('~', "~0").replace('/', "~1");
        let file = drydock_core::text::shorten(&drydock_core::text::escape(&file), 60);
        Some(bad(&format!("/linux/resources/unified/{file}"), parts(&error).1))
    };
    let unified = limits.unified.iter().find_map(wrong);
    refused.then(|| unified.unwrap_or_else(|| bad("/linux/resources", error.sentence())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_pointers() {
        let error = Error::bad_input("seccomp.syscalls[2].args[0].op", "'X' is not one (allowed: Y)");
        assert_eq!(
            stage(&error).unwrap().sentence(),
            "config.json: /linux/seccomp/syscalls/2/args/0/op: 'X' is not one (allowed: Y)"
        );
        let error = Error::bad_input("oomScoreAdj", "2000 does not fit");
        assert_eq!(stage(&error).unwrap().sentence(), "config.json: /process/oomScoreAdj: 2000 does not fit");
        assert!(stage(&Error::bad_input("mount /x", "…")).is_none());
    }
}
