//! run --scope: where systemd owns the tree, it makes the cgroup: a scope around the command, delegated to us.

use crate::args::Run;
use crate::make::{note_devices, request, warn_lacking};
use drydock_cgroups::systemd::{self, Scope};
use drydock_cgroups::{Cgroup, IfExists, Layout};
use drydock_cli::Explainer;
use drydock_core::error::CallExt;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::{Ctx, Error, Result};
use drydock_supervise::exec::Command;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

const SIGKILL: i32 = 9;

/// The scope that is asked for, checked. Touches nothing.
pub fn plan(args: &Run, layout: &Layout) -> Result<Scope> {
    let name = args.name.strip_suffix(".scope").unwrap_or(&args.name);
    let slice = args.slice.as_deref().unwrap_or(if args.user { "app.slice" } else { "system.slice" });
    let mut pairs = BTreeMap::new();
    for property in &args.property {
        let Some((key, value)) = property.split_once('=') else {
            let problem = "not NAME=VALUE (allowed: such as 'TasksMax=uint64 100')";
            return Err(Error::bad_input("--property", problem));
        };
        pairs.insert(format!("{}{key}", systemd::ANNOTATION_PREFIX), value.to_string());
    }
    let words = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    systemd::Request {
        path: Some(format!("{slice}::{name}")),
        id: name.to_string(),
        limits: args.making.limits.limits()?,
        properties: systemd::properties_of_annotations(words)?,
        user: args.user,
    }
    .plan(layout.mode())
}

/// Starts the command in it: the child waits until systemd has made the scope around it, and the limits are written.
pub fn start(scope: &Scope, args: &Run, layout: &Layout, command: &Command) -> Result<(Cgroup, Child)> {
    let (wait, go) = pipe2(OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
    let child = clone_child(0, None, || {
        drop_our(&go);
        let mut byte = [0u8; 1];
        match nix::unistd::read(&wait, &mut byte) {
            Ok(1) => crate::run::become_command(&[], command),
            // The parent has failed, and says why.
            _ => drydock_core::exit::FAILED,
        }
    })
    .map_err(|e| Error::call("clone3()", e))?;
    let explainer = Explainer { on: args.making.explain };
    let ctx = Ctx::new(&explainer, None);
    // Best effort: the error is the one to tell.
    let end_child = || {
        let _ = pidfd_kill(child.pidfd.as_fd(), SIGKILL);
        let _ = drydock_supervise::wait_exit(&child);
    };
    // A scope that could not be started is another's, or none.
    let name = scope.start(child.pid, &ctx).inspect_err(|_| end_child())?;
    let cgroup = limit(&name, args, layout, &ctx).inspect_err(|_| {
        end_child();
        let _ = systemd::stop(scope.unit(), args.user);
    })?;
    nix::unistd::write(&go, b"1").call(|| "write(pipe)")?;
    Ok((cgroup, child))
}

/// The child's copy of the parent's end: without closing it the child would not see its parent die.
fn drop_our(go: &std::os::fd::OwnedFd) {
    use std::os::fd::AsRawFd;
    let _ = nix::unistd::close(go.as_raw_fd());
}

/// Writes the limits that systemd does not know, and reads all back.
fn limit(name: &str, args: &Run, layout: &Layout, ctx: &Ctx<'_>) -> Result<Cgroup> {
    let mut asked = request(name, &args.making, IfExists::Reuse)?;
    asked.place = drydock_cgroups::Place::Root;
    let plan = asked.validate_made(layout)?;
    let report = plan.apply(ctx)?;
    warn_lacking(&report);
    note_devices(&plan, &report)?;
    Cgroup::at(report.dirs)
}
