//! Entering namespaces that exist. Source: setns(2), ioctl_ns(2).
//!
//! The order matters for the user namespace only: who has CAP_SYS_ADMIN over all of them joins it last, because inside
//! it the privilege over the others is gone; who gets that privilege from it joins it first. One process's namespaces
//! are joined by one call on its pidfd, which the kernel checks as a whole. A pid namespace takes the caller's
//! children, not the caller: [`Plan::needs_fork`].

use crate::process::Process;
use crate::{Kind, NamespaceId, Set, nsfile};
use drydock_core::{Ctx, Error, Explain, Result, Step};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

/// Where a namespace is taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A namespace file.
    Path(PathBuf),
    /// A process.
    Pid(i32),
}

/// A namespace that is open already, and what to call it instead of a path.
#[derive(Debug)]
pub struct Opened {
    /// Its kind.
    pub kind: Kind,
    /// Its file.
    pub fd: OwnedFd,
    /// Its name in errors.
    pub label: String,
}

impl Source {
    /// Opens the namespace, with its kind checked.
    ///
    /// # Errors
    /// As [`Request::plan`].
    pub fn open(&self, kind: Kind, held: &mut Vec<Rc<Process>>) -> Result<OwnedFd> {
        let found = open(kind, self, false, held)?;
        found.map(|(fd, _, _)| fd).ok_or_else(|| Error::failed(format!("{kind} namespace"), "not there"))
    }
}

/// Which namespaces to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Each kind at most once.
    pub targets: Vec<(Kind, Source)>,
    /// Leave out, without an error, a user namespace that is the caller's already and kinds that the kernel lacks:
    /// for "all namespaces of". Other kinds that are shared already are always left out.
    #[serde(default)]
    pub skip_shared: bool,
}

impl Request {
    /// Every namespace of a process that the caller does not share with it.
    pub fn all_of(pid: i32) -> Self {
        let targets = Kind::ALL.into_iter().map(|kind| (kind, Source::Pid(pid))).collect();
        Self { targets, skip_shared: true }
    }

    /// Checks what can be told without looking at the system.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] when a kind is named twice.
    pub fn validate(&self) -> Result<()> {
        let mut seen = Set::EMPTY;
        for (kind, _) in &self.targets {
            if !seen.insert(*kind) {
                return Err(Error::bad_input(format!("{kind} namespace"), "named twice (allowed: once)"));
            }
        }
        Ok(())
    }

    /// Opens what is to be joined, checks it, and puts it in order. Nothing is joined.
    ///
    /// # Errors
    /// No such process or file, the wrong type, no access, a namespace that can never be joined.
    pub fn plan(&self) -> Result<Plan> {
        self.plan_with(&mut Vec::new(), Vec::new())
    }

    /// As [`Request::plan`], with processes that the caller holds already, which are used instead of looking up the pid
    /// again, and with more namespaces, which it has opened.
    ///
    /// # Errors
    /// As [`Request::plan`].
    pub fn plan_with(&self, held: &mut Vec<Rc<Process>>, opened: Vec<Opened>) -> Result<Plan> {
        self.validate()?;
        let mut members = Vec::new();
        for Opened { kind, fd, label } in opened {
            if self.targets.iter().any(|(other, _)| *other == kind) {
                return Err(Error::bad_input(format!("{kind} namespace"), "named twice (allowed: once)"));
            }
            members.extend(self.check(kind, fd, label, None)?);
        }
        for (kind, source) in &self.targets {
            let Some((fd, label, process)) = open(*kind, source, self.skip_shared, held)? else { continue };
            if let Some(member) = self.check(*kind, fd, label, process)? {
                members.push(member);
            }
        }
        for process in members.iter().filter_map(|m| m.process.as_ref()) {
            process.check_alive()?;
        }
        Ok(Plan { steps: order(members, has_sys_admin()) })
    }

    fn check(
        &self,
        kind: Kind,
        fd: OwnedFd,
        label: String,
        process: Option<Rc<Process>>,
    ) -> Result<Option<Member>> {
        let id = NamespaceId::of_fd(fd.as_fd())?;
        if NamespaceId::of_self(kind)? == id {
            if kind == Kind::User && !self.skip_shared {
                return Err(Error::bad_input(label, "already in this user namespace (setns(2) refuses it)"));
            }
            return Ok(None);
        }
        if kind == Kind::Pid && !is_descendant(fd.as_fd()) {
            let problem = "cannot enter an ancestor or unrelated pid namespace (allowed: the own one and those below it)";
            return Err(Error::bad_input(label, problem));
        }
        Ok(Some(Member { kind, id, fd, label, process }))
    }
}

type Found = (OwnedFd, String, Option<Rc<Process>>);

fn open(
    kind: Kind,
    source: &Source,
    skip_missing: bool,
    held: &mut Vec<Rc<Process>>,
) -> Result<Option<Found>> {
    match source {
        Source::Path(path) => {
            let (fd, _) = nsfile::open(path, Some(kind))?;
            Ok(Some((fd, nsfile::shown(path), None)))
        }
        Source::Pid(pid) => {
            let process = match held.iter().find(|p| p.pid() == *pid) {
                Some(process) => process.clone(),
                None => {
                    let process = Rc::new(Process::open(*pid)?);
                    held.push(process.clone());
                    process
                }
            };
            let label = format!("/proc/{pid}/ns/{kind}");
            match process.namespace(kind)? {
                Some(fd) => Ok(Some((fd, label, Some(process)))),
                None if skip_missing => Ok(None),
                None => Err(kind.require().err().unwrap_or_else(|| Error::failed(label, "not there"))),
            }
        }
    }
}

/// Whether a pid namespace is the caller's own or below it: only those take its children.
fn is_descendant(ns: BorrowedFd<'_>) -> bool {
    let Ok(own) = NamespaceId::of_self(Kind::Pid) else { return true };
    let Ok(mut at) = ns.try_clone_to_owned() else { return true };
    // The kernel nests at most 32 levels. EPERM from NS_GET_PARENT: the parent is outside the caller's view.
    for _ in 0..=32 {
        if NamespaceId::of_fd(at.as_fd()).is_ok_and(|id| id == own) {
            return true;
        }
        match drydock_core::sys::ns::parent(at.as_fd()) {
            Ok(parent) => at = parent,
            Err(_) => return false,
        }
    }
    false
}

fn has_sys_admin() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// One namespace to join, open.
#[derive(Debug)]
struct Member {
    kind: Kind,
    id: NamespaceId,
    fd: OwnedFd,
    label: String,
    process: Option<Rc<Process>>,
}

/// One setns(2), or what stands for it on older kernels.
#[derive(Debug)]
pub struct JoinStep {
    members: Vec<Member>,
    /// Given when all members are of this process: then one call joins them.
    process: Option<Rc<Process>>,
}

impl JoinStep {
    fn set(&self) -> Set {
        self.members.iter().map(|m| m.kind).collect()
    }

    fn act(&self) -> Result<()> {
        let sensitive = [Kind::User, Kind::Mount, Kind::Time].iter().any(|k| self.set().contains(*k));
        if sensitive && drydock_core::sys::process::thread_count().is_some_and(|n| n > 1) {
            let problem = "cannot be joined by a process with more than one thread";
            return Err(Error::failed(format!("{} namespace", self.set()), problem));
        }
        let Some(process) = &self.process else { return self.one_by_one() };
        let flags = CloneFlags::from_bits_retain(i32::try_from(self.set().flags()).unwrap_or(0));
        match nix::sched::setns(process.pidfd(), flags) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => {
                Err(Error::bad_input(format!("process {}", process.pid()), "no such process"))
            }
            // Before Linux 5.8 setns takes no pidfd; and alone each refusal can be told apart.
            Err(Errno::EINVAL | Errno::EBADF) => self.one_by_one(),
            Err(Errno::EPERM) => {
                let error =
                    explain_setns(Errno::EPERM, &format!("pidfd of {}", process.pid()), self.set(), None);
                Err(self.members.first().map_or(error.clone(), |first| who_may(error, first.fd.as_fd())))
            }
            Err(e) => Err(explain_setns(e, &format!("pidfd of {}", process.pid()), self.set(), None)),
        }
    }

    fn one_by_one(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| {
            let set = Set::EMPTY.with(member.kind);
            let flags = CloneFlags::from_bits_retain(i32::try_from(set.flags()).unwrap_or(0));
            nix::sched::setns(&member.fd, flags).map_err(|e| {
                let error = explain_setns(e, &member.label, set, Some(member.kind));
                if e == Errno::EPERM { who_may(error, member.fd.as_fd()) } else { error }
            })
        })
    }
}

fn explain_setns(errno: Errno, label: &str, set: Set, kind: Option<Kind>) -> Error {
    let error = Error::call(format!("setns({label}, {})", set.flag_names()), errno);
    match (errno, kind) {
        (Errno::EINVAL, Some(Kind::User)) => error.because(
            "already in this user namespace, or one that shares its file system state with another process",
        ),
        (Errno::EINVAL, Some(Kind::Mount)) => {
            error.because("the caller shares its root and working directory with another process (CLONE_FS)")
        }
        (Errno::EINVAL, Some(Kind::Pid)) => error.because("cannot enter an ancestor pid namespace"),
        (Errno::EUSERS, _) => error.because("more threads than one"),
        _ => error,
    }
}

/// The own user namespace, also of a process that has hidden its files in /proc. Nothing is joined yet.
fn own_user() -> Option<NamespaceId> {
    let hidden = || {
        crate::credentials::show().ok()?;
        let id = NamespaceId::of_self(Kind::User).ok();
        crate::credentials::hide().ok()?;
        id
    };
    NamespaceId::of_self(Kind::User).ok().or_else(hidden)
}

/// Looks whose the namespace is, and what is missing.
fn who_may(error: Error, ns: BorrowedFd<'_>) -> Error {
    let owner = drydock_core::sys::ns::owner(ns).ok().and_then(|fd| NamespaceId::of_fd(fd.as_fd()).ok());
    let ours = own_user();
    match owner {
        Some(owner) if ours.is_some() && Some(owner) != ours => error.hint(format!(
            "it belongs to the user namespace user:{owner}, over which you have no CAP_SYS_ADMIN: join its user namespace too (-U), or run as root"
        )),
        _ if !has_sys_admin() => error.hint(
            "it belongs to your own user namespace, in which you lack CAP_SYS_ADMIN: run as root (or join its user namespace too, -U)",
        ),
        _ => error.hint("joining a mount namespace takes CAP_SYS_CHROOT in your own user namespace, too; and a system call filter may refuse setns"),
    }
}

impl Explain for JoinStep {
    fn explain(&self) -> Step {
        let what = match (&self.process, self.members.first()) {
            (Some(process), _) => format!("pidfd_open({})", process.pid()),
            (None, Some(member)) => format!("open(\"{}\")", member.label),
            (None, None) => "nothing".to_string(),
        };
        let ids: Vec<String> = self.members.iter().map(|m| format!("{}:{}", m.kind, m.id)).collect();
        let set = self.set();
        let note =
            if set.contains(Kind::Pid) { "; the pid namespace takes only what is forked next" } else { "" };
        Step {
            stage: "join".into(),
            call: format!("setns({what}, {})", set.flag_names()),
            why: format!("enter {}{note}", ids.join(" ")).into(),
            man: "setns(2)".into(),
            undo: None,
        }
    }
}

/// Puts the members in order and groups those of one process into one call.
fn order(mut members: Vec<Member>, privileged: bool) -> Vec<JoinStep> {
    // Stable, false first: the user namespace last with privilege, first without.
    members.sort_by_key(|m| (m.kind == Kind::User) == privileged);
    let first = members.first().and_then(|m| m.process.clone());
    let one = |p: &Rc<Process>| members.iter().all(|m| m.process.as_ref().is_some_and(|q| Rc::ptr_eq(p, q)));
    if let Some(process) = first.filter(one) {
        return vec![JoinStep { members, process: Some(process) }];
    }
    members.into_iter().map(|m| JoinStep { members: vec![m], process: None }).collect()
}

/// Namespaces that are open and ready to be joined.
#[derive(Debug, Default)]
pub struct Plan {
    steps: Vec<JoinStep>,
}

impl Plan {
    /// What will be done, in order.
    pub fn steps(&self) -> &[JoinStep] {
        &self.steps
    }

    /// Which kinds will change; those that are shared already are not in it.
    pub fn joins(&self) -> Set {
        self.steps.iter().flat_map(|s| s.members.iter().map(|m| m.kind)).collect()
    }

    /// Whether the caller must fork after [`Plan::apply`] so that somebody really is inside: for pid (setns(2)), and
    /// for time on older kernels.
    pub fn needs_fork(&self) -> bool {
        self.joins().contains(Kind::Pid) || self.joins().contains(Kind::Time)
    }

    /// An open namespace file of the plan.
    pub fn file(&self, kind: Kind) -> Option<BorrowedFd<'_>> {
        self.steps.iter().flat_map(|s| &s.members).find(|m| m.kind == kind).map(|m| m.fd.as_fd())
    }

    /// Two plans: the kinds of `first`, and the rest. For a caller that joins some before it clones a child (pid, time,
    /// user) and others in the child.
    pub fn split(self, first: Set) -> (Plan, Plan) {
        let members = self.steps.into_iter().flat_map(|s| s.members);
        let (a, b): (Vec<_>, Vec<_>) = members.partition(|m| first.contains(m.kind));
        let privileged = has_sys_admin();
        (Plan { steps: order(a, privileged) }, Plan { steps: order(b, privileged) })
    }

    /// Closes the files and pidfds that the plan holds: for a caller that has joined and goes on to fork.
    #[must_use]
    pub fn close(self) -> Plan {
        Plan { steps: Vec::new() }
    }

    /// Joins. Changes the calling thread's namespaces: a tool does it in the process that will exec.
    ///
    /// # Errors
    /// setns(2)'s with the reason; some namespaces may have been joined by then, so the caller should end.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let mut report = Report::default();
        for step in &self.steps {
            ctx.perform(step, JoinStep::act)?;
            report.joined.extend(step.members.iter().map(|m| Joined { kind: m.kind, id: m.id }));
        }
        Ok(report)
    }
}

/// One namespace that was joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// Its type.
    pub kind: Kind,
    /// Its identity.
    #[serde(flatten)]
    pub id: NamespaceId,
}

/// What was joined, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The namespaces.
    pub joined: Vec<Joined>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(kind: Kind) -> Member {
        let (fd, _) = nsfile::open(format!("/proc/self/ns/{kind}").as_ref(), Some(kind)).unwrap();
        let id = NamespaceId::of_fd(fd.as_fd()).unwrap();
        Member { kind, id, fd, label: String::new(), process: None }
    }

    fn kinds(privileged: bool) -> Vec<Kind> {
        let members = [Kind::User, Kind::Mount, Kind::Network].map(member).into_iter().collect();
        order(members, privileged).iter().map(|s| s.members[0].kind).collect()
    }

    #[test]
    fn user_last_with_privilege_else_first() {
        assert_eq!(kinds(true), [Kind::Mount, Kind::Network, Kind::User]);
        assert_eq!(kinds(false), [Kind::User, Kind::Mount, Kind::Network]);
    }

    #[test]
    fn own_namespaces_are_left_out() {
        let me = i32::try_from(std::process::id()).unwrap();
        let plan = Request::all_of(me).plan().unwrap();
        assert!(plan.steps().is_empty() && !plan.needs_fork());
        let user = Request { targets: vec![(Kind::User, Source::Pid(me))], skip_shared: false };
        assert!(user.plan().unwrap_err().to_string().contains("already in this user namespace"));
    }

    #[test]
    fn twice_is_refused() {
        let target = (Kind::Uts, Source::Pid(1));
        let twice = Request { targets: vec![target.clone(), target], skip_shared: false };
        assert_eq!(twice.plan().unwrap_err().exit_code(), 2);
    }
}
