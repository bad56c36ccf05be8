//! What confines a container's processes.

use super::place::Facts;
use super::{Finding, Need, Probe};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result, sys};
use drydock_security::seccomp::action::{Action, available_actions};
use drydock_security::{CapSet, Request, Seccomp, lsm_active};
use nix::libc;
use std::collections::BTreeSet;

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "security",
        "no_new_privs",
        "no_new_privs",
        "container run: set-uid programs inside could gain privileges",
        "Linux 3.5",
        &[],
        All,
        no_new_privs
    ),
    probe!(
        "security",
        "seccomp",
        "the default seccomp filter",
        "container run without --security-opt seccomp=unconfined",
        "a kernel with CONFIG_SECCOMP_FILTER=y",
        &["CONFIG_SECCOMP_FILTER"],
        All,
        filter
    ),
    probe!(
        "security",
        "seccomp-actions",
        "seccomp's actions",
        "profiles with the missing actions (--security-opt seccomp=FILE)",
        "Linux 5.0",
        &["CONFIG_SECCOMP_FILTER"],
        None,
        actions
    ),
    probe!(
        "security",
        "capabilities",
        "capabilities of this process",
        "what the missing ones allow: limits, networks, ids, device nodes",
        "run as root on the host, or give the outer container the named capabilities",
        &[],
        Root,
        capabilities
    ),
    probe!(
        "security",
        "lsm",
        "AppArmor or SELinux",
        "--security-opt apparmor=NAME, label=…",
        "boot with lsm=…,apparmor or …,selinux",
        &["CONFIG_SECURITY_APPARMOR", "CONFIG_SECURITY_SELINUX"],
        None,
        lsm
    ),
    probe!(
        "security",
        "landlock",
        "Landlock",
        "Landlock rules inside containers",
        "Linux 5.13, booted with lsm=landlock,…",
        &["CONFIG_SECURITY_LANDLOCK"],
        None,
        landlock
    ),
    probe!(
        "security",
        "keyring",
        "session keyrings",
        "a session keyring of the container's own: without keys there is nothing to share",
        "a kernel with CONFIG_KEYS=y, or an outer seccomp filter that lets keyctl through",
        &["CONFIG_KEYS"],
        None,
        keyring
    ),
];

fn no_new_privs(_: &Facts) -> Result<Finding> {
    rustix::thread::set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS, 1)")?;
    let on = rustix::thread::no_new_privs().call(|| "prctl(PR_GET_NO_NEW_PRIVS)")?;
    if on { Finding::ok("") } else { Finding::missing("was set and is not on") }
}

fn filter(_: &Facts) -> Result<Finding> {
    let request = Request { no_new_privs: true, seccomp: Seccomp::Default, ..Request::default() };
    request.validate()?.apply(&Ctx::silent())?;
    let status = std::fs::read_to_string("/proc/self/status").call(|| "read(\"/proc/self/status\")")?;
    let on = status.lines().any(|l| l.strip_prefix("Seccomp:").is_some_and(|v| v.trim() == "2"));
    if on { Finding::ok("") } else { Finding::missing("was installed and is not on") }
}

fn actions(_: &Facts) -> Result<Finding> {
    let have: BTreeSet<&str> = available_actions().into_iter().collect();
    let want: BTreeSet<&str> = Action::ALL.iter().map(|a| a.kernel_name()).collect();
    let lack: Vec<&str> = want.difference(&have).copied().collect();
    if lack.is_empty() {
        return Finding::ok(have.into_iter().collect::<Vec<_>>().join(" "));
    }
    Finding::degraded(format!("without {}", lack.join(" ")))
}

fn capabilities(facts: &Facts) -> Result<Finding> {
    // What setting up a container takes; the rest is what a container may be given.
    const NEEDED: [&str; 8] =
        ["SYS_ADMIN", "SETUID", "SETGID", "SETPCAP", "CHOWN", "DAC_OVERRIDE", "NET_ADMIN", "SYS_CHROOT"];
    if !facts.root {
        return Finding::ok("not needed: the container's user namespace gives them");
    }
    let have = rustix::thread::capabilities(None).call(|| "capget(0)")?.effective.bits();
    let lack: Vec<String> = CapSet(CapSet::all().0 & !have).names();
    let essential: Vec<&str> =
        NEEDED.into_iter().filter(|n| CapSet::parse(n).is_ok_and(|c| c.0 & have == 0)).collect();
    match (essential.is_empty(), lack.is_empty()) {
        (true, true) => Finding::ok("all"),
        (true, false) => Finding::degraded(format!("all but {}", lack.join(" "))),
        _ => Finding::missing(format!("CAP_{} missing", essential.join(", CAP_"))),
    }
}

fn lsm(_: &Facts) -> Result<Finding> {
    let active = lsm_active();
    let said = active.join(", ");
    if active.iter().any(|m| m == "apparmor" || m == "selinux") {
        Finding::ok(said)
    } else {
        Finding::degraded(format!("neither; active: {said}"))
    }
}

fn landlock(_: &Facts) -> Result<Finding> {
    let version = sys::probe::landlock_version()
        .map_err(|e| Error::call("landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)", e))?;
    Finding::ok(format!("version {version}"))
}

fn keyring(_: &Facts) -> Result<Finding> {
    match sys::keyring::join_new_session(c"_drydock_doctor") {
        Ok(()) => Finding::ok(""),
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {
            Finding::degraded("ENOSYS: this kernel has no keys, so none leak")
        }
        Err(e) => Err(Error::call("keyctl(KEYCTL_JOIN_SESSION_KEYRING, \"_drydock_doctor\")", e)),
    }
}
