//! What `--explain` shows of pids: who is who on both sides, and who gets into a pid namespace at all.

use drydock_core::error::CallExt;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::{Ctx, Result, Step};

/// Shows that unshare(CLONE_NEWPID) leaves the caller where it is.
pub(super) fn before(ctx: &Ctx<'_>, unshare: impl FnOnce() -> Result<()>) -> Result<()> {
    note(ctx, "readlink(\"/proc/self/ns/pid\")", &link("pid"), "the caller's pid namespace before");
    unshare()?;
    note(ctx, "readlink(\"/proc/self/ns/pid\")", &link("pid"), "unchanged: unshare does not move the caller");
    Ok(())
}

/// Forks a second child into the namespace: it is PID 2.
pub(super) fn second_fork(ctx: &Ctx<'_>) -> Result<()> {
    note(
        ctx,
        "readlink(\"/proc/self/ns/pid_for_children\")",
        &link("pid_for_children"),
        "changed: the first fork became PID 1 of this namespace",
    );
    let second = clone_child(0, None, || {
        let (pid, ppid) = (nix::unistd::getpid(), nix::unistd::getppid());
        note(
            ctx,
            "getpid()",
            &format!("{pid}, getppid() = {ppid}"),
            "the second fork is PID 2 of the same namespace",
        );
        0
    })
    .call(|| "clone3({flags=CLONE_PIDFD})")?;
    super::run::reap(&second);
    Ok(())
}

fn link(name: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{name}"))
        .map_or_else(|e| e.to_string(), |target| target.display().to_string())
}

fn note(ctx: &Ctx<'_>, call: &str, result: &str, why: &'static str) {
    if ctx.observer().wants() {
        ctx.observer().before(&Step {
            stage: "clone".into(),
            call: format!("{call} = {result}"),
            why: why.into(),
            man: "pid_namespaces(7)".into(),
            undo: None,
        });
    }
}

/// The pids as the parent sees them.
pub(super) fn note_parent(ctx: &Ctx<'_>, child: &Child) {
    let parent = nix::unistd::getpid();
    note(ctx, "getpid()", &parent.to_string(), "parent PID, where this tool runs");
    note(ctx, "clone3()", &child.pid.to_string(), "child PID, as the parent sees it");
}

/// The pids as the child sees them.
pub(super) fn note_child(ctx: &Ctx<'_>) {
    let (pid, ppid) = (nix::unistd::getpid(), nix::unistd::getppid());
    note(
        ctx,
        "getpid()",
        &format!("{pid}, getppid() = {ppid}"),
        "what the child sees; a parent in another pid namespace shows as 0",
    );
}
