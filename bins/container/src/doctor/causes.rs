//! Why the kernel refuses: the setting behind an errno, with the command that changes it.

use drydock_core::Error;
use nix::libc;

fn sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|v| v.trim().to_string())
}

/// Whether a seccomp filter is on this process already: a container's, a sandbox's.
pub(super) fn outer_seccomp() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|l| l.strip_prefix("Seccomp:").is_some_and(|v| v.trim() == "2"))
}

/// The remedy when something else than the kernel itself refuses.
pub(super) fn refused(e: &Error) -> Option<String> {
    let denied = matches!(e.errno(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
    (denied && outer_seccomp()).then(|| {
        "this process is under an outer seccomp filter (Seccomp: 2 in /proc/self/status), which may be what refuses: \
         start without it, as docker run --security-opt seccomp=unconfined"
            .to_string()
    })
}

/// Why a user namespace was refused: what is wrong, and what helps. Source: user_namespaces(7), clone(2).
pub(super) fn user_namespace(errno: Option<i32>) -> Option<(String, String)> {
    let why = |cause: &str, fix: &str| Some((cause.to_string(), fix.to_string()));
    if sysctl("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return why("kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if sysctl("user/max_user_namespaces").as_deref() == Some("0") {
        return why("user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000");
    }
    if sysctl("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return why(
            "kernel.apparmor_restrict_unprivileged_userns is 1",
            "give container an AppArmor profile with 'userns,', or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    if !drydock_namespaces::Kind::User.is_available() {
        return why("this kernel has no user namespaces", "a kernel with CONFIG_USER_NS=y");
    }
    if outer_seccomp() {
        return why(
            "an outer seccomp filter is active and may refuse it",
            "start without that filter, as docker run --security-opt seccomp=unconfined",
        );
    }
    match errno {
        Some(libc::ENOSPC | libc::EUSERS) => why(
            "user.max_user_namespaces is reached, or they are nested more than 32 deep",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        Some(libc::EPERM) if unmapped() => why(
            "this user has no id in its own user namespace",
            "enter the namespace with maps, as unshare --map-root-user",
        ),
        Some(libc::EPERM) if chrooted() => {
            why("this process is in a chroot", "enter the root by pivot_root: rootfs enter")
        }
        _ => None,
    }
}

/// Our id is the overflow id because no map has it.
fn unmapped() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let uid = nix::unistd::geteuid().as_raw();
    let lines = map.lines().filter_map(|l| {
        let mut fields = l.split_whitespace().map(|f| f.parse::<u64>().ok());
        Some((fields.next()??, fields.nth(1)??))
    });
    let mut lines = lines;
    !lines.any(|(first, count)| (first..first.saturating_add(count)).contains(&u64::from(uid)))
}

/// No mount point is `/`: the root directory is not the root of a mount.
fn chrooted() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    !mounts.is_empty() && !mounts.lines().any(|l| l.split(' ').nth(4) == Some("/"))
}
