//! Running a plan: the parent's side, the child's side, and the swap of roles without a fork.

use super::outside::expect_go;
use super::persist::Pin;
use super::{CreateStep, Plan, TimeStep};
use crate::credentials::{self, Ids};
use crate::exec;
use crate::relay::{self, End, Said};
use crate::{Kind, Set, idmap};
use drydock_core::error::CallExt;
use drydock_core::exec::Command;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::{Ctx, Error, Result};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A command that runs in its new namespaces.
#[derive(Debug)]
pub struct Running {
    /// The process: the caller's child.
    pub child: Child,
    /// Whether it is PID 1 of its pid namespace, which the kernel shields from signals that it does not handle.
    pub is_pid_1: bool,
}

impl Plan {
    /// Makes the namespaces and runs the command in a child; returns when the command has been executed. Without
    /// `fork` the caller itself becomes the command, and this returns only on failure.
    ///
    /// The caller must have one thread. With a time namespace and no user namespace, the caller's later children are
    /// in the new time namespace too.
    ///
    /// # Errors
    /// The first step that failed, in the parent or in the child; then the child has been reaped and files made for
    /// persistent namespaces are gone.
    pub fn start(&self, command: &Command, ctx: &Ctx<'_>) -> Result<Running> {
        let outer = Outer { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        if !self.request.fork {
            return Err(self.become_command(command, outer, ctx));
        }
        let mut pins = self.prepare_pins(ctx)?;
        let (end, child_end) = relay::pair()?;
        let raw = end.as_raw_fd();
        if self.time == Some(TimeStep::Parent) {
            self.make_time(ctx)?;
        }
        if self.request.pid_lesson {
            super::lesson::before(ctx, || self.unshare(Set::EMPTY.with(Kind::Pid), ctx))?;
        }
        let mut new = self.request.new;
        if self.time.is_some() {
            new = new.without(Kind::Time);
        }
        if self.request.pid_lesson {
            new = new.without(Kind::Pid);
        }
        let child = ctx.perform(&CreateStep::Clone { new }, |_| {
            let inside = || {
                // Else the child would not notice that its parent has died.
                let _ = nix::unistd::close(raw);
                let error = self.inside(command, outer, &child_end, ctx);
                child_end.fail(&error);
                error.exit_code()
            };
            self.as_owner(|| {
                clone_child(new.flags(), None, inside)
                    .map_err(|e| explain_clone(e, self.request.new, "clone3"))
            })
        })?;
        drop(child_end);
        super::lesson::note_parent(ctx, &child);
        match self.attend_and_hear(&child, &end, &mut pins, ctx) {
            Ok(()) => {
                pins.into_iter().for_each(Pin::keep);
                Ok(Running { child, is_pid_1: self.request.new.contains(Kind::Pid) })
            }
            Err(e) => {
                drop(end);
                reap(&child);
                Err(e)
            }
        }
    }

    fn attend_and_hear(&self, child: &Child, end: &End, pins: &mut [Pin], ctx: &Ctx<'_>) -> Result<()> {
        if self.request.pid_lesson {
            // While the first child still waits: a pid namespace whose PID 1 has ended takes nobody.
            super::lesson::second_fork(ctx)?;
        }
        // When the child has failed, its own word says more than our broken pipe.
        let attended = self.attend(child.pid, end, pins, ctx);
        if attended.is_err() {
            end.shut();
        }
        match (end.hear(), attended) {
            (Err(told), Ok(())) => Err(told),
            (_, Err(own)) => Err(own),
            (Ok(Said::Closed), Ok(())) => Ok(()),
            (Ok(_), Ok(())) => Err(Error::failed("child", "said something out of turn")),
        }
    }

    /// The child: everything from inside, ending in the exec. Returns only its error.
    fn inside(&self, command: &Command, outer: Outer, end: &End, ctx: &Ctx<'_>) -> Error {
        let result = self.bind_life().and_then(|()| expect_go(end)).and_then(|()| {
            super::lesson::note_child(ctx);
            self.settle(outer, ctx)?;
            self.wait_for_pins(end)?;
            self.arrange(ctx)?;
            self.bind_life()?;
            // From here on the parent says nothing more: whatever can be read now is its end.
            if self.request.kill_child.is_some() && end.is_shut() {
                return Err(Error::failed("parent", "has ended"));
            }
            Ok(())
        });
        match result {
            Ok(()) => command.exec(),
            Err(e) => e,
        }
    }

    /// No fork: the caller goes in, and a short-lived child writes its maps if there are any.
    fn become_command(&self, command: &Command, outer: Outer, ctx: &Ctx<'_>) -> Error {
        let new = if self.time.is_some() { self.request.new.without(Kind::Time) } else { self.request.new };
        let entered = match self.request.new.contains(Kind::User) {
            true => self.unshare_with_helper(new, ctx),
            false => self.unshare(new, ctx),
        };
        match entered.and_then(|()| self.settle(outer, ctx)).and_then(|()| self.arrange(ctx)) {
            Ok(()) => command.exec(),
            Err(e) => e,
        }
    }

    fn unshare_with_helper(&self, new: Set, ctx: &Ctx<'_>) -> Result<()> {
        let (end, helper_end) = relay::pair()?;
        let (raw, me) = (end.as_raw_fd(), nix::unistd::getpid().as_raw());
        let helper = clone_child(0, None, || {
            let _ = nix::unistd::close(raw);
            // The caller says ready when it is inside, or ends.
            let done = match helper_end.hear() {
                Ok(Said::Ready) => self.attend(me, &helper_end, &mut [], ctx),
                _ => Ok(()),
            };
            done.map_or_else(
                |e| {
                    helper_end.fail(&e);
                    e.exit_code()
                },
                |()| 0,
            )
        })
        .call(|| "clone3({flags=CLONE_PIDFD})")?;
        drop(helper_end);
        let entered = self.unshare(new, ctx).and_then(|()| end.ready()).and_then(|()| expect_go(&end));
        end.shut();
        reap(&helper);
        entered
    }

    fn unshare(&self, new: Set, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(&CreateStep::Unshare { new }, |_| {
            let flags = CloneFlags::from_bits_retain(i32::try_from(new.flags()).unwrap_or(0));
            self.as_owner(|| {
                nix::sched::unshare(flags).map_err(|e| explain_clone(e.into(), self.request.new, "unshare"))
            })
        })
    }

    /// A user namespace belongs to whoever makes it: with an owner, that one makes it.
    fn as_owner<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some((uid, gid)) = self.request.owner else { return make() };
        let own = (nix::unistd::geteuid(), nix::unistd::getegid());
        let refused = |call: String, e: Errno| {
            Error::call(call, e)
                .on("--owner")
                .hint("to make a namespace for another user takes CAP_SETUID and CAP_SETGID: root")
        };
        let (group, user) = (nix::unistd::Gid::from_raw(gid), nix::unistd::Uid::from_raw(uid));
        nix::unistd::setegid(group).map_err(|e| refused(format!("setegid({gid})"), e))?;
        let became = nix::unistd::seteuid(user).map_err(|e| refused(format!("seteuid({uid})"), e));
        let made = became.and_then(|()| make());
        nix::unistd::seteuid(own.0).call(|| "seteuid(own)")?;
        nix::unistd::setegid(own.1).call(|| "setegid(own)")?;
        credentials::show()?;
        made
    }

    /// Ids of the new user namespace, then the time namespace, which needs them.
    fn settle(&self, outer: Outer, ctx: &Ctx<'_>) -> Result<()> {
        if self.request.new.contains(Kind::User) {
            // Whoever was made as the owner has the owner's effective ids, which need not exist inside.
            let made_as = |map: &[idmap::IdMap], id: u32| {
                let own = idmap::inside(map, id).or(idmap::outside(map, 0).map(|_| 0));
                self.request.owner.and(own)
            };
            let (uids, gids) = (&self.request.uid_maps, &self.request.gid_maps);
            let uid = outer.lost(uids, outer.uid).or_else(|| made_as(uids, outer.uid));
            let gid = outer.lost(gids, outer.gid).or_else(|| made_as(gids, outer.gid));
            if uid.is_some() || gid.is_some() {
                let step = CreateStep::Ids { uid, gid };
                ctx.perform(&step, |_| credentials::become_ids(Ids { uid, gid, keep_capabilities: false }))?;
            }
            // A change of ids hides the process from its own /proc files.
            credentials::show()?;
        }
        if self.time == Some(TimeStep::Child) {
            self.make_time(ctx)?;
        }
        Ok(())
    }

    fn make_time(&self, ctx: &Ctx<'_>) -> Result<()> {
        let offsets = self.request.time;
        ctx.perform(&CreateStep::Time { offsets }, |_| {
            crate::time::unshare()?;
            crate::time::write_offsets(&offsets)
        })
    }

    /// Mounts, names, directories, ids, and a clean process.
    fn arrange(&self, ctx: &Ctx<'_>) -> Result<()> {
        let request = &self.request;
        if request.new.contains(Kind::Mount)
            && let Some(flag) = request.propagation.flag()
        {
            ctx.perform(&CreateStep::Propagation(request.propagation), |_| {
                mount_flags(Path::new("/"), flag | MsFlags::MS_REC)
                    .call(|| format!("mount(NULL, \"/\", NULL, MS_REC|{})", request.propagation.flag_name()))
            })?;
        }
        if let Some(name) = &request.hostname {
            ctx.perform(&CreateStep::Hostname(name.clone()), |_| {
                nix::unistd::sethostname(name).call(|| format!("sethostname({name:?})"))
            })?;
        }
        if let Some(root) = &request.root {
            ctx.perform(&CreateStep::Root(root.clone()), |_| enter_root(root))?;
        }
        if let Some(target) = &request.mount_proc {
            let mounted = ctx.perform(&CreateStep::Proc(target.clone()), |_| mount_proc(target));
            // A user namespace within a container, where a part of /proc is hidden.
            if !request.proc_if_possible {
                mounted?;
            }
        }
        if let Some(directory) = &request.working_directory {
            ctx.perform(&CreateStep::Directory(directory.clone()), |_| {
                nix::unistd::chdir(directory.as_path()).call(|| format!("chdir({directory:?})"))
            })?;
        }
        self.last_ids(ctx)?;
        exec::clean_process()
    }

    fn last_ids(&self, ctx: &Ctx<'_>) -> Result<()> {
        let (uid, gid) = (self.request.uid, self.request.gid);
        let keep = self.request.keep_capabilities;
        if uid.is_some() || gid.is_some() {
            let ids = Ids { uid, gid, keep_capabilities: keep };
            ctx.perform(&CreateStep::Ids { uid, gid }, |_| credentials::become_ids(ids))?;
        }
        if keep { credentials::keep_over_exec() } else { credentials::clear_inheritable() }
    }

    /// The child dies with its parent. A change of ids clears this, so it is done again before the exec.
    fn bind_life(&self) -> Result<()> {
        let Some(signal) = self.request.kill_child.filter(|_| self.request.fork) else { return Ok(()) };
        let signal = nix::sys::signal::Signal::try_from(signal)
            .map_err(|_| Error::bad_input("--kill-child", format!("{signal} is not a signal")))?;
        nix::sys::prctl::set_pdeathsig(signal).call(|| format!("prctl(PR_SET_PDEATHSIG, {signal})"))
    }
}

/// The caller's ids, in the parent namespace.
#[derive(Clone, Copy)]
struct Outer {
    uid: u32,
    gid: u32,
}

impl Outer {
    /// 0 if the map leaves the caller's id out but has a root: else it would run as 65534.
    fn lost(self, map: &[idmap::IdMap], id: u32) -> Option<u32> {
        (idmap::inside(map, id).is_none() && idmap::outside(map, 0).is_some()).then_some(0)
    }
}

/// Reaps a child that has ended or is about to.
pub(super) fn reap(child: &Child) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;
    while matches!(
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED),
        Err(rustix::io::Errno::INTR)
    ) {}
}

fn mount_flags(target: &Path, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    nix::mount::mount(none, target, none, flags, none)
}

fn enter_root(root: &Path) -> Result<()> {
    nix::unistd::chdir(root).call(|| format!("chdir({root:?})"))?;
    nix::unistd::chroot(".").call(|| "chroot(\".\")")
}

fn mount_proc(target: &Path) -> Result<()> {
    // If the target is a mount that propagates, the new one must not appear outside. EINVAL: it is no mount point.
    let _ = mount_flags(target, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("proc"), target, Some("proc"), flags, None::<&str>).map_err(|e| {
        let error = Error::call(format!("mount(\"proc\", {target:?}, \"proc\", MS_NOSUID|MS_NODEV|MS_NOEXEC)"), e);
        match e {
            Errno::EPERM => error.hint(
                "a procfs can be mounted by who owns the pid namespace (add --pid), and in a user namespace only where no other part of /proc is hidden",
            ),
            _ => error,
        }
    })
}

/// Makes new namespaces for the calling process, which has one thread; a pid or time namespace for its children.
///
/// # Errors
/// unshare(2)'s, with the reason.
pub fn unshare(new: Set) -> Result<()> {
    let flags = CloneFlags::from_bits_retain(i32::try_from(new.flags()).unwrap_or(0));
    nix::sched::unshare(flags).map_err(|e| explain_clone(e.into(), new, "unshare"))
}

/// Why new namespaces were refused: the error of `call` (clone3, unshare) with the sysctl, limit or privilege behind it.
pub fn explain_clone(e: std::io::Error, new: Set, call: &str) -> Error {
    let errno = e.raw_os_error().map(Errno::from_raw);
    let error = Error::call(format!("{call}({})", new.flag_names()), e);
    let user = new.contains(Kind::User);
    let no = matches!(errno, Some(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::EUSERS));
    match errno {
        Some(Errno::EPERM) if !user => {
            error.hint("new namespaces need CAP_SYS_ADMIN: run as root, or with a user namespace (unshare --user -r, spec --rootless)")
        }
        Some(Errno::ENOSPC) => error.hint(limit(new)),
        Some(Errno::EBUSY) => error.because("the caller has more than one thread"),
        _ if no && user => match crate::refusal::of_user_namespace() {
            Some(found) => error.because(found.because).hint(found.fix),
            None => error,
        },
        _ => error,
    }
}

/// Which of the limits it is can be seen where it is 0.
fn limit(new: Set) -> String {
    let zero = new.iter().map(|kind| format!("user.max_{kind}_namespaces")).find(|name| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "0")
    });
    match zero {
        Some(name) => format!("sysctl {name} is 0: sysctl -w {name}=15000 (the limits are /proc/sys/user/max_*_namespaces)"),
        None => "a limit in /proc/sys/user/max_*_namespaces is reached, or namespaces are nested more than 32 deep".into(),
    }
}
