//! Namespaced kernel parameters. Source: proc_sys(5), sysctl(8), namespaces(7).

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Of the uts namespace; the host name is an option of its own.
const DOMAINNAME: &str = "kernel/domainname";

/// Parameters of the ipc and uts namespaces; all below `net/` belong to the network namespace.
const NAMESPACED: [&str; 9] = [
    DOMAINNAME,
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Checks a key and its value: a namespaced parameter, no way out of /proc/sys, one line.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check(key: &str, value: &str) -> Result<()> {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(key), 60);
    let bad = |why: &str| Err(Error::bad_input("--sysctl", format!("'{shown}' {why}")));
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    if key.is_empty() || !key.chars().all(ok) {
        return bad("is not a parameter's name (allowed: such as net.ipv4.ip_forward=1)");
    }
    let name = slashes(key);
    if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return bad("is not a parameter's name (allowed: such as net.ipv4.ip_forward=1)");
    }
    if value.chars().any(char::is_control) || value.len() > 4096 {
        return bad("has a value that does not fit (allowed: at most 4096 bytes without control characters)");
    }
    let below = ["net/", "fs/mqueue/", "user/"].iter().any(|start| name.starts_with(start));
    let namespaced = below || NAMESPACED.contains(&name.as_str());
    if namespaced {
        Ok(())
    } else {
        bad(
            "belongs to the whole host (allowed: net.*, user.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*, kernel.domainname)",
        )
    }
}

/// The namespace to which a parameter that [`check`] lets pass belongs.
pub fn namespace(key: &str) -> drydock_namespaces::Kind {
    use drydock_namespaces::Kind;
    match slashes(key).as_str() {
        DOMAINNAME => Kind::Uts,
        name if name.starts_with("net/") => Kind::Network,
        name if name.starts_with("user/") => Kind::User,
        _ => Kind::Ipc,
    }
}

/// Dots become slashes; a key that has slashes is taken as it is, so that `net/ipv4/conf/eth0.1/…` can be said.
fn slashes(key: &str) -> String {
    if key.contains('/') { key.to_string() } else { key.replace('.', "/") }
}

/// The parameter's file.
pub fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(slashes(key))
}

/// Writes one parameter of the calling process's namespaces. Only before the container's own mounts are made: /proc is
/// the host's then.
///
/// # Errors
/// ENOENT for a parameter that this kernel lacks; EACCES; EINVAL for a value that it refuses.
pub fn write(key: &str, value: &str) -> Result<()> {
    let path = path(key);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .call(|| format!("write({path:?}, {value:?})"))
        .map_err(|e| e.on("--sysctl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaced_keys() {
        for good in [
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eth0.1/forwarding",
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "kernel.domainname",
            "user.max_pid_namespaces",
        ] {
            assert!(check(good, "1").is_ok(), "{good}");
        }
        let bad = [
            "kernel.core_pattern",
            "net/../kernel/core_pattern",
            "net..x",
            "",
            "vm.swappiness",
            "net/",
            "/net/ipv4",
            "net.ipv4\n.x",
            "kernel.shmmax2",
            "net.+x",
        ];
        for key in bad {
            assert_eq!(check(key, "1").unwrap_err().exit_code(), 2, "{key}");
        }
        assert!(check("net.ipv4.ip_forward", "1\n2").is_err());
    }
}
