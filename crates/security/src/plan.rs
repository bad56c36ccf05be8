//! The security stage's steps, in the order in which the kernel allows them.

use crate::capabilities::Capabilities;
use crate::capset::CapSet;
use crate::request::{Request, Rlimit, Seccomp, User};
use crate::scheduling::ExecCpuAffinity;
use crate::seccomp::{Arch, Filter, Listener, Profile, compile, compile::Target};
use crate::{lsm, rlimit};
use drydock_core::{Error, Explain, Result, Step, text};
use rustix::process::Resource;
use std::ffi::CString;
use std::path::Path;

/// uid and gid -1 mean "leave it" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

/// What fits into a socket address with its final NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The kernel's limit (NGROUPS_MAX).
const MAX_GROUPS: usize = 65536;

/// One change to the process.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write /proc/self/oom_score_adj.
    OomScoreAdj(i32),
    /// setpriority(2).
    Nice(i32),
    /// sched_setaffinity(2).
    Affinity(Vec<usize>),
    /// sched_setaffinity(2) with every CPU there may be.
    AllCpus,
    /// sched_setattr(2).
    Scheduler(drydock_core::sys::sched::Attributes),
    /// ioprio_set(2).
    IoPriority(u16),
    /// set_mempolicy(2): mode with flags, nodes.
    MemoryPolicy(u32, Vec<usize>),
    /// personality(2).
    Personality(u32),
    /// One resource limit.
    Rlimit {
        /// Which.
        resource: Resource,
        /// As asked.
        limit: Rlimit,
    },
    /// A new session keyring.
    Keyring {
        /// Its name.
        name: CString,
        /// SELinux context that it gets.
        label: Option<String>,
    },
    /// AppArmor profile at the next exec.
    AppArmor(String),
    /// SELinux context at the next exec.
    Selinux(String),
    /// Take everything but this out of the bounding set.
    Bounding(CapSet),
    /// The standard streams belong to this user.
    OwnStreams(u32),
    /// Exactly these supplementary groups.
    Groups(Vec<u32>),
    /// setresgid, then setresuid.
    Ids {
        /// All three user ids.
        uid: u32,
        /// All three group ids.
        gid: u32,
        /// Keep the permitted capabilities over the change; a later step sets them.
        keep_caps: bool,
    },
    /// umask(2).
    Umask(u32),
    /// The final sets, with CAP_SYS_ADMIN until the filter is installed.
    CapabilitiesForFilter(Capabilities),
    /// The final effective, permitted and inheritable set.
    Capabilities(Capabilities),
    /// Exactly this ambient set.
    Ambient(CapSet),
    /// prctl(PR_SET_NO_NEW_PRIVS).
    NoNewPrivs,
    /// The system call filter.
    Seccomp(Filter),
}

impl Action {
    /// Drops no privilege.
    pub(crate) fn is_setting(&self) -> bool {
        use Action as A;
        matches!(
            self,
            A::OomScoreAdj(_)
                | A::Nice(_)
                | A::Affinity(_)
                | A::AllCpus
                | A::Scheduler(_)
                | A::IoPriority(_)
                | A::MemoryPolicy(..)
                | A::Personality(_)
                | A::Rlimit { .. }
                | A::Keyring { .. }
                | A::AppArmor(_)
                | A::Selinux(_)
        )
    }

    /// A setting that needs no file and no privilege that a process inside lacks, and may hinder what comes before it.
    pub(crate) fn is_late_setting(&self) -> bool {
        matches!(self, Action::MemoryPolicy(..) | Action::Personality(_) | Action::Rlimit { .. })
    }
}

/// The steps that one process takes, in order. Made by [`Request::validate`]; nothing has been touched yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Where the process runs before it is moved into its cgroup.
    pub(crate) first_cpus: Option<Action>,
    listener: Option<Listener>,
    own_streams: bool,
}

impl Plan {
    pub(crate) fn new(request: &Request) -> Result<Plan> {
        let (filter, listener) = filter(request)?.unzip();
        let listener = listener.flatten();
        let mut actions = settings(request)?;
        let user = request.user.as_ref().map(check_user).transpose()?;
        if let Some(caps) = &request.capabilities {
            caps.check()?;
            actions.push(Action::Bounding(caps.bounding));
        }
        // Without no_new_privs the kernel takes a filter only from CAP_SYS_ADMIN, so it comes before that is dropped;
        // else the filter comes last, so that no step of ours needs to be allowed by it.
        let admin = CapSet::exact("CAP_SYS_ADMIN").unwrap_or_default();
        let keeps = request.capabilities.is_some_and(|caps| caps.effective.contains(admin));
        let early = filter.as_ref().filter(|_| !request.no_new_privs && !keeps);
        if let (Some(filter), None) = (early, &request.capabilities) {
            actions.push(Action::Seccomp(filter.clone()));
        }
        if let Some(user) = user {
            actions.extend(identity(user, request.own_streams, request.capabilities.is_some()));
        }
        if let Some(caps) = request.capabilities {
            if let Some(filter) = early {
                actions.push(Action::CapabilitiesForFilter(caps));
                actions.push(Action::Ambient(caps.ambient));
                actions.push(Action::Seccomp(filter.clone()));
                actions.push(Action::Capabilities(caps));
            } else {
                actions.push(Action::Capabilities(caps));
                actions.push(Action::Ambient(caps.ambient));
            }
        }
        if request.no_new_privs {
            actions.push(Action::NoNewPrivs);
        }
        if request.no_new_privs || keeps {
            actions.extend(filter.map(Action::Seccomp));
        }
        let cpus = request.exec_cpu_affinity.as_ref().map(ExecCpuAffinity::check).transpose()?;
        let first_cpus = cpus.and_then(|[first, _]| first).map(Action::Affinity);
        Ok(Plan { actions, first_cpus, listener, own_streams: request.own_streams })
    }

    /// Whom the command runs as, in place of what the request said: names are known only once the container's own
    /// files can be read, after the pivot.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for ids that the kernel does not have.
    pub fn set_user(&mut self, user: &User) -> Result<()> {
        let new = identity(
            check_user(user)?,
            self.own_streams,
            self.actions.iter().any(|a| matches!(a, Action::Capabilities(_))),
        );
        let old = |a: &Action| {
            matches!(a, Action::OwnStreams(_) | Action::Groups(_) | Action::Ids { .. } | Action::Umask(_))
        };
        // Where no user was planned: behind what needs the caller's privileges, before they are dropped.
        let drops = |a: &Action| {
            matches!(a, Action::CapabilitiesForFilter(_) | Action::Capabilities(_) | Action::NoNewPrivs)
        };
        let place = self.actions.iter().position(old).or_else(|| self.actions.iter().position(drops));
        let at = place.unwrap_or(self.actions.len());
        self.actions.retain(|a| !old(a));
        self.actions.splice(at..at, new);
        Ok(())
    }

    /// The steps in words, in order.
    pub fn steps(&self) -> Vec<Step> {
        self.actions.iter().map(Explain::explain).collect()
    }

    /// The typed steps, in order.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The filter, if one is installed.
    pub fn filter(&self) -> Option<&Filter> {
        self.actions.iter().find_map(|a| match a {
            Action::Seccomp(filter) => Some(filter),
            _ => None,
        })
    }

    /// The CPUs before the process is moved into its cgroup, as a mask: `0x3`.
    pub fn first_cpu_mask(&self) -> Option<String> {
        match &self.first_cpus {
            Some(Action::Affinity(cpus)) => Some(crate::list::mask(cpus)),
            _ => None,
        }
    }

    /// What is left of the bounding set, if it is changed.
    pub fn bounding(&self) -> Option<CapSet> {
        self.actions.iter().find_map(|a| match a {
            Action::Bounding(keep) => Some(*keep),
            _ => None,
        })
    }

    /// Who gets the filter's notify descriptor: then the process must be given a [`crate::Handover`].
    pub fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// Names in refusing rules of the seccomp profile that no architecture knows: without effect, worth a warning.
    pub fn unknown_syscalls(&self) -> &[String] {
        self.filter().map_or(&[], |f| &f.unknown)
    }
}

/// What needs the caller's privileges and is not about them.
fn settings(request: &Request) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    if let Some(score) = request.oom_score_adj {
        in_range("oomScoreAdj", score, -1000, 1000)?;
        actions.push(Action::OomScoreAdj(score));
    }
    if let Some(nice) = request.nice {
        in_range("nice", nice, -20, 19)?;
        actions.push(Action::Nice(nice));
    }
    let cpus = request.exec_cpu_affinity.as_ref().map(ExecCpuAffinity::check).transpose()?;
    if request.all_cpus && request.exec_cpu_affinity.is_none() {
        actions.push(Action::AllCpus);
    }
    actions.extend(cpus.and_then(|[_, last]| last).map(Action::Affinity));
    if let Some(scheduler) = &request.scheduler {
        actions.push(Action::Scheduler(scheduler.check()?));
    }
    if let Some(priority) = &request.io_priority {
        actions.push(Action::IoPriority(priority.check()?));
    }
    if let Some(policy) = &request.memory_policy {
        let (mode, nodes) = policy.check()?;
        actions.push(Action::MemoryPolicy(mode, nodes));
    }
    if let Some(personality) = &request.personality {
        actions.push(Action::Personality(personality.check()?));
    }
    if let Some(name) = &request.keyring {
        actions.push(Action::Keyring { name: check_keyring(name)?, label: request.selinux.clone() });
    }
    if let Some(profile) = &request.apparmor {
        actions.extend(lsm::check_apparmor(profile)?.then(|| Action::AppArmor(profile.clone())));
    }
    if let Some(label) = &request.selinux {
        lsm::check_selinux(label)?;
        actions.push(Action::Selinux(label.clone()));
    }
    // Last: few descriptors or little memory should not hinder the others.
    actions.extend(rlimit::check(&request.rlimits)?);
    Ok(actions)
}

fn identity(user: &User, own_streams: bool, keep_caps: bool) -> Vec<Action> {
    let mut actions: Vec<Action> = own_streams.then_some(Action::OwnStreams(user.uid)).into_iter().collect();
    actions.extend([
        Action::Groups(user.additional_gids.clone()),
        Action::Ids { uid: user.uid, gid: user.gid, keep_caps },
    ]);
    actions.extend(user.umask.map(Action::Umask));
    actions
}

fn in_range(what: &str, value: i32, low: i32, high: i32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::bad_input(what, format!("{value} is out of range (allowed: {low} to {high})")))
}

fn check_user(user: &User) -> Result<&User> {
    let ids = [user.uid, user.gid];
    if ids.iter().chain(&user.additional_gids).any(|id| *id > MAX_ID) {
        return Err(Error::bad_input("user", format!("{} is no id (allowed: 0 to {MAX_ID})", u32::MAX)));
    }
    if user.additional_gids.len() > MAX_GROUPS {
        let problem = format!("{} groups (allowed: at most {MAX_GROUPS})", user.additional_gids.len());
        return Err(Error::bad_input("user", problem));
    }
    match user.umask {
        Some(mask) if mask > 0o777 => {
            Err(Error::bad_input("umask", format!("0{mask:o} is out of range (allowed: 0 to 0777)")))
        }
        _ => Ok(user),
    }
}

fn check_keyring(name: &str) -> Result<CString> {
    let bad = || {
        let shown = text::shorten(&text::escape(name), 60);
        Error::bad_input(
            "keyring",
            format!("'{shown}' is no name (allowed: 1 to 4095 bytes, no leading dot, no NUL)"),
        )
    };
    if name.is_empty() || name.starts_with('.') || name.len() > 4095 {
        return Err(bad());
    }
    CString::new(name).map_err(|_| bad())
}

fn filter(request: &Request) -> Result<Option<(Filter, Option<Listener>)>> {
    let (mut filter, listener) = match &request.seccomp {
        Seccomp::None => return Ok(None),
        Seccomp::Default => compiled(&crate::seccomp::default::profile(), request)?,
        Seccomp::Profile(path) => from_file(path, request)?,
        Seccomp::Inline(profile) => compiled(profile, request)?,
    };
    if request.seccomp_log {
        filter.flags |= drydock_core::sys::seccomp::FLAG_LOG;
    }
    Ok(Some((filter, listener)))
}

fn from_file(path: &Path, request: &Request) -> Result<(Filter, Option<Listener>)> {
    let profile = Profile::read(path)?;
    let object = || format!("seccomp profile {}", text::escape(&path.to_string_lossy()));
    compiled(&profile, request).map_err(|e| match e.remedy() {
        Some(hint) => Error::bad_input(object(), e.sentence()).hint(hint),
        None => Error::bad_input(object(), e.sentence()),
    })
}

fn compiled(profile: &Profile, request: &Request) -> Result<(Filter, Option<Listener>)> {
    let filter = compile(profile, &target(request))?;
    if !filter.notify {
        return Ok((filter, None));
    }
    let Some(path) = &profile.listener_path else {
        return Err(Error::bad_input(
            "seccomp.listenerPath",
            "missing (allowed: with SCMP_ACT_NOTIFY, the agent's socket)",
        ));
    };
    if !path.starts_with('/') || path.len() > MAX_SOCKET_PATH || path.contains('\0') {
        let shown = text::shorten(&text::escape(path), 120);
        let allowed = format!("an absolute path of at most {MAX_SOCKET_PATH} bytes");
        return Err(Error::bad_input(
            "seccomp.listenerPath",
            format!("'{shown}' is no such path (allowed: {allowed})"),
        ));
    }
    let metadata = profile.listener_metadata.clone().unwrap_or_default();
    let flags = filter.flags | drydock_core::sys::seccomp::FLAG_NEW_LISTENER;
    Ok((Filter { flags, ..filter }, Some(Listener { path: path.into(), metadata })))
}

/// What a request's filter is compiled for: this architecture and kernel, and the bounding set that it will have.
fn target(request: &Request) -> Target {
    let bounding = request.capabilities.map_or_else(current_bounding, |caps| caps.bounding);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel = crate::seccomp::parse_release(&release).unwrap_or((5, 10));
    Target { native: Arch::NATIVE, bounding, kernel }
}

fn current_bounding() -> CapSet {
    let has =
        |n: &u8| matches!(rustix::thread::capability_is_in_bounding_set(CapSet::of(*n).raw()), Ok(true));
    (0..=crate::capset::last_cap()).filter(has).fold(CapSet::EMPTY, |set, n| set | CapSet::of(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_is_known_late_comes_to_the_same_place() {
        let user = User { uid: 5, gid: 6, additional_gids: vec![7], umask: Some(0o77) };
        for no_new_privs in [true, false] {
            for capabilities in [None, Some(Capabilities::uniform(CapSet::DEFAULT))] {
                for seccomp in [Seccomp::None, Seccomp::Default] {
                    let oom_score_adj = Some(1);
                    let without =
                        Request { no_new_privs, capabilities, seccomp, oom_score_adj, ..Request::default() };
                    let with = |user: &User| Request { user: Some(user.clone()), ..without.clone() };
                    let wanted = with(&user).validate().unwrap();
                    for mut plan in [without.clone(), with(&User::default())].map(|r| r.validate().unwrap()) {
                        plan.set_user(&user).unwrap();
                        assert_eq!(plan, wanted);
                    }
                }
            }
        }
    }
}
