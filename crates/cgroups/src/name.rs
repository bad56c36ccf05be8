//! Names of cgroups: relative, and safe as directory names.

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};

/// The cgroup under which containers' cgroups stand. Whatever is below it is ours, so it is removed with its last child.
pub const SHARED_PARENT: &str = "drydock";

/// The kernel's own files start with a controller's name and a dot.
const PREFIXES: [&str; 17] = [
    "cgroup.",
    "cpu.",
    "cpuacct.",
    "cpuset.",
    "memory.",
    "io.",
    "blkio.",
    "pids.",
    "devices.",
    "freezer.",
    "hugetlb.",
    "rdma.",
    "misc.",
    "net_cls.",
    "net_prio.",
    "dmem.",
    "debug.",
];
const MAX_DEPTH: usize = 32;
const MAX_BYTES: usize = 3072;

/// Checks the name of a cgroup: relative (`web` or `drydock/web`), without `.` and `..`, without control characters,
/// each component at most 255 bytes and not the name of a kernel file.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with what is allowed.
pub fn check_name(name: &str) -> Result<()> {
    let bad = |problem: &str| {
        Err(Error::bad_input(format!("cgroup name '{}'", shorten(&escape(name), 60)), problem.to_string()))
    };
    if name.is_empty() {
        return bad("empty (allowed: a relative name such as drydock/web)");
    }
    if name.starts_with('/') {
        return bad("absolute (allowed: a name relative to the hierarchy, such as drydock/web)");
    }
    if name.len() > MAX_BYTES {
        return bad("too long (allowed: at most 3072 bytes)");
    }
    if name.chars().any(char::is_control) {
        return bad("has a control character (allowed: printable characters)");
    }
    let components: Vec<&str> = name.split('/').collect();
    if components.len() > MAX_DEPTH {
        return bad("too deep (allowed: at most 32 levels)");
    }
    for component in components {
        match component {
            "" => return bad("has an empty component (allowed: names separated by single slashes)"),
            "." | ".." => return bad("leaves the cgroup tree (allowed: no '.' or '..')"),
            c if c.len() > 255 => {
                return bad("has a component of more than 255 bytes (allowed: at most 255)");
            }
            c if is_kernel_file(c) => {
                return bad("has a component that is the name of a kernel file, or begins as one");
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_kernel_file(component: &str) -> bool {
    matches!(component, "tasks" | "notify_on_release" | "release_agent")
        || PREFIXES.iter().any(|p| component.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["web", "drydock/web", "a.b", "grün", "x/y/z", "cpu", &"x".repeat(255)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "/abs",
            "..",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\n",
            "a\u{1b}[0m",
            "\0",
            "cgroup.procs",
            "a/cgroup.kill",
            "tasks",
            "memory.max",
            &"x".repeat(256),
            &"x/".repeat(2000),
            &["y"; 40].join("/"),
        ] {
            assert_eq!(check_name(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
