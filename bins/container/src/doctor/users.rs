//! User namespaces and the ids that they may map.

use super::place::{Facts, map_own};
use super::{Finding, Need, Probe, TIME, causes, child};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_namespaces::idmap::Ids;
use drydock_namespaces::{Kind, subid};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::os::unix::fs::PermissionsExt;

/// "nobody", as every distribution has it.
const NOBODY: u32 = 65_534;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "user namespace",
        group: "users",
        what: "user namespace",
        lost: "container run without root, container run --userns, unshare --user, init --unshare user",
        fix: "a kernel with CONFIG_USER_NS=y",
        options: &["CONFIG_USER_NS"],
        need: Need::User,
        test: own,
    },
    Probe {
        id: "unprivileged user namespace",
        group: "users",
        what: "user namespace for an ordinary user",
        lost: "container run and unshare for users other than root",
        fix: "a kernel with CONFIG_USER_NS=y",
        options: &["CONFIG_USER_NS"],
        need: Need::None,
        test: nobody,
    },
    Probe {
        id: "subuid",
        group: "users",
        what: "id ranges in /etc/subuid, /etc/subgid",
        lost: "more than one id in a rootless container: --userns auto as an ordinary user, unshare --map-auto",
        fix: "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME",
        options: &[],
        need: Need::None,
        test: ranges,
    },
    Probe {
        id: "newuidmap",
        group: "users",
        what: "newuidmap, newgidmap",
        lost: "ranges of ids for ordinary users: unshare --map-users, --map-groups without root",
        fix: "apt install uidmap (or shadow-utils), both programs set-uid root",
        options: &[],
        need: Need::None,
        test: helpers,
    },
];

fn new() -> Result<Finding> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let made = child::run(u64::from(Kind::User.flag()), TIME / 2, || {
        map_own(uid, gid)?;
        Finding::ok(format!("uid {uid} is root in it"))
    });
    let errno = match &made {
        Ok(found) if found.status == super::Status::Ok => return made,
        Ok(_) => None,
        Err(e) => e.errno(),
    };
    let detail = match made {
        Ok(found) => found.detail,
        Err(e) => Error::call("clone3(CLONE_NEWUSER)", io(e.errno())).sentence(),
    };
    match causes::user_namespace(errno) {
        Some((cause, fix)) => Ok(Finding::missing(format!("{detail}: {cause}"))?.with_fix(fix)),
        None => Finding::missing(detail),
    }
}

fn io(errno: Option<i32>) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.unwrap_or(nix::libc::EIO))
}

fn own(_: &Facts) -> Result<Finding> {
    Kind::User.require()?;
    new()
}

fn nobody(facts: &Facts) -> Result<Finding> {
    if !facts.root {
        return own(facts);
    }
    Kind::User.require()?;
    become_nobody().map_err(|e| {
        e.hint("this needs CAP_SETUID and CAP_SETGID, and a user namespace that maps uid 65534")
    })?;
    // Changing ids made /proc/self root's; the maps are written through it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .call(|| "prctl(PR_SET_DUMPABLE, 1)")?;
    new()
}

fn become_nobody() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[]).call(|| "setgroups(0, [])")?;
    setresgid(gid, gid, gid).call(|| format!("setresgid({NOBODY}, {NOBODY}, {NOBODY})"))?;
    setresuid(uid, uid, uid).call(|| format!("setresuid({NOBODY}, {NOBODY}, {NOBODY})"))
}

fn ranges(facts: &Facts) -> Result<Finding> {
    if facts.root {
        return anybodys();
    }
    let mut said = Vec::new();
    for ids in [Ids::User, Ids::Group] {
        let ranges = subid::granted(ids)?;
        let texts: Vec<String> = ranges.iter().take(3).map(|r| format!("{}:{}", r.start, r.count)).collect();
        said.push(format!("{} {}", ids.grants(), texts.join(",")));
    }
    Finding::ok(said.join("; "))
}

/// Root needs no grant; whether ordinary users have any.
fn anybodys() -> Result<Finding> {
    let lines = |ids: Ids| {
        let text = std::fs::read_to_string(ids.grants()).unwrap_or_default();
        text.lines().filter(|l| l.split(':').count() == 3).count()
    };
    match (lines(Ids::User), lines(Ids::Group)) {
        (0, 0) => Finding::missing("no user has any; root needs none"),
        (0, _) | (_, 0) => Finding::degraded("only one of the two files has any"),
        (users, _) => Finding::ok(format!("{users} granted")),
    }
}

fn helpers(_: &Facts) -> Result<Finding> {
    for name in ["newuidmap", "newgidmap"] {
        let Some(path) = super::tools::which(name) else {
            return Finding::missing(format!("{name}: not in PATH"));
        };
        let set_uid = std::fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o4000 != 0);
        let mut value = [0u8; 64];
        let capable = rustix::fs::getxattr(&path, "security.capability", &mut value).is_ok();
        if !set_uid && !capable {
            return Finding::degraded(format!(
                "{} is neither set-uid nor has file capabilities",
                path.display()
            ));
        }
    }
    Finding::ok("")
}
