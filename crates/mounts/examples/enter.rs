//! Makes the mounts of a request for a child in namespaces of its own, as a runtime does, and executes a command there:
//! `enter '{"root":{"path":"/some/root"},"mounts":[…]}' /bin/sh -c …`. With `user_namespace` and maps in the request, the
//! child is in such a user namespace, and what only the parent can open is opened by the parent.

use drydock_core::error::CallExt;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::{Ctx, Error, Result};
use drydock_mounts::{IdMapping, Plan, Request};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(tell(&error)),
    }
}

fn tell(error: &Error) -> u8 {
    let _ = writeln!(std::io::stderr(), "refused: {error}");
    error.exit_code()
}

fn run() -> Result<u8> {
    let mut args = std::env::args().skip(1);
    let json = args.next().ok_or_else(|| Error::bad_input("usage", "enter REQUEST-JSON COMMAND…"))?;
    let command: Vec<String> = args.collect();
    let request: Request =
        serde_json::from_str(&json).map_err(|e| Error::bad_input("request", e.to_string()))?;
    let maps = request.user_namespace.then(|| request.uid_mappings.clone());
    let plan = request.validate()?;
    let mut sources = Some(plan.open_sources(None)?);
    let (mut ours, mut theirs) = UnixStream::pair().call(|| "socketpair(AF_UNIX)")?;
    let flags = if maps.is_some() { CLONE_NEWNS | CLONE_NEWUSER } else { CLONE_NEWNS };
    let child = clone_child(flags, None, || {
        let go = theirs.read_exact(&mut [0]).call(|| "read(socket)");
        let inside = go.and_then(|()| inside(&plan, sources.take().unwrap_or_default(), &command));
        inside.err().map_or(0, |error| tell(&error))
    })
    .call(|| "clone3()")?;
    drop(sources.take());
    if let Some(maps) = maps {
        write_maps(&child, &maps)?;
    }
    ours.write_all(b"x").call(|| "write(socket)")?;
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).call(|| "waitid()")?;
    let code = status.and_then(|s| s.exit_status()).unwrap_or(255);
    Ok(u8::try_from(code).unwrap_or(255))
}

fn write_maps(child: &Child, maps: &[IdMapping]) -> Result<()> {
    let text: String =
        maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    for name in ["uid_map", "gid_map"] {
        let file = format!("/proc/{}/{name}", child.pid);
        std::fs::write(&file, &text).call(|| format!("write({file:?}, {text:?})"))?;
    }
    Ok(())
}

fn inside(plan: &Plan, sources: drydock_mounts::Sources, command: &[String]) -> Result<()> {
    use nix::unistd::{setresgid, setresuid};
    let gid = setresgid(0.into(), 0.into(), 0.into());
    gid.and_then(|()| setresuid(0.into(), 0.into(), 0.into())).call(|| "setresuid(0, 0, 0)")?;
    let report = plan.apply_with(&Ctx::silent(), sources, &mut || Ok(()))?;
    for note in report.notes {
        let _ = writeln!(std::io::stderr(), "note: {note}");
    }
    let Some((program, args)) = command.split_first() else { return Ok(()) };
    Err(Error::call(format!("execve({program:?})"), Command::new(program).args(args).exec()))
}
