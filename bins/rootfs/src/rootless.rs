//! Without root: files keep their owners where the system grants ranges of ids (/etc/subuid, /etc/subgid). The program is
//! executed once more in a user namespace in which the caller is root and those ids are there. Sources: user_namespaces(7),
//! subuid(5), newuidmap(1).

use crate::interrupt::Interrupt;
use drydock_core::error::CallExt;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::{Ctx, Error, Result, paths};
use drydock_namespaces::idmap::{Ids, write_maps};
use drydock_namespaces::relay::{self, End, Said};
use drydock_namespaces::{Kind, Set, subid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Whether one id is all there is, and what then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// It is said: files change their owners.
    Note,
    /// It makes no difference to most.
    Silence,
}

/// Does the same command in such a namespace, with more words behind it; its exit code. `None`: the caller goes on by itself,
/// as it is root, or has no ids but its own.
///
/// # Errors
/// clone3(2)'s, poll(2)'s.
pub fn again(without: Without, more: &[OsString]) -> Result<Option<u8>> {
    if nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    match start(more) {
        Ok(child) => wait(&child).map(Some),
        Err(e) => {
            if without == Without::Note {
                let hint = e.remedy().map_or_else(String::new, |remedy| format!("; {remedy}"));
                let note =
                    format!("all files become yours, whoever owns them in the image: {}{hint}", e.sentence());
                drydock_cli::output::note("rootfs", &note);
            }
            Ok(None)
        }
    }
}

/// Does some work in a process of its own in such a namespace. `None`: there are no ids but the caller's own, and nothing was
/// done; for root neither.
///
/// # Errors
/// The work's.
pub fn within(work: impl FnOnce() -> Result<()>) -> Result<Option<()>> {
    if nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let mut end = None;
    let started = enter(&mut end, |there| match work() {
        Ok(()) => 0,
        Err(e) => {
            there.fail(&e);
            125
        }
    });
    let Ok(child) = started else { return Ok(None) };
    let said = end.as_ref().map(End::hear);
    let ended = drydock_supervise::wait_exit(&child)?;
    match said {
        Some(Err(e)) => Err(e),
        _ if ended.code() == 0 => Ok(Some(())),
        _ => Err(Error::failed("user namespace", format!("the work in it ended with {}", ended.code()))),
    }
}

fn start(more: &[OsString]) -> Result<Child> {
    // Root there has other directories by default than the caller here.
    let (data, state) = (paths::data_root()?, paths::state_root(None)?);
    enter(&mut None, |_| {
        let mut words = std::env::args_os();
        let mut command = Command::new("/proc/self/exe");
        command.arg0(words.next().unwrap_or_default()).args(words).args(more);
        let error = command.env("DRYDOCK_DATA", &data).env("DRYDOCK_ROOT", &state).exec();
        let error = Error::call("execve(\"/proc/self/exe\")", error);
        drydock_cli::output::print_error_line(&format!("rootfs: {}", error.sentence()));
        125
    })
}

/// A child in a user namespace with the caller's id as 0 and the granted ones from 1 on. `end` is the caller's end of what
/// they may say to each other.
fn enter(end: &mut Option<End>, work: impl FnOnce(&End) -> u8) -> Result<Child> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let users = subid::auto(Ids::User, Some((0, uid)))?;
    let groups = subid::auto(Ids::Group, Some((0, gid)))?;
    let (here, there) = relay::pair()?;
    *end = Some(here);
    let kinds: Set = [Kind::User].into_iter().collect();
    let child = clone_child(kinds.flags(), None, || {
        drop(end.take());
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        if !matches!(there.hear(), Ok(Said::Go)) {
            return 125;
        }
        work(&there)
    })
    .map_err(|e| drydock_namespaces::create::explain_clone(e, kinds, "clone3"))?;
    let ready = write_maps(child.pid, &users, &groups, &Ctx::silent()).and_then(|()| match end.as_ref() {
        Some(end) => End::go(end),
        None => Ok(()),
    });
    if let Err(e) = ready {
        drop(end.take());
        let _ = drydock_supervise::wait_exit(&child);
        return Err(e);
    }
    Ok(child)
}

/// Until it ends; what asks us to end asks it.
fn wait(child: &Child) -> Result<u8> {
    let interrupt = Interrupt::hold()?;
    let now_and_then = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        let mut ended = [PollFd::new(&child.pidfd, PollFlags::IN)];
        match poll(&mut ended, Some(&now_and_then)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(drydock_supervise::wait_exit(child)?.code()),
            Err(e) => return Err(Error::call("poll(pidfd)", e)),
        }
        if interrupt.asked() {
            pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGTERM).call(|| "pidfd_send_signal(SIGTERM)")?;
        }
    }
}
