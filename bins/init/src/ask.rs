//! `init`'s arguments as a plan.

use crate::command::Args;
use crate::inside::{Plan, Request};
use crate::options::{Options, Surroundings};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_mounts::{Overlay, Root, Scratch};
use drydock_namespaces::{Kind, Set};

/// Options that would have no effect are mistakes, not requests.
pub fn check_fit(args: &Args, new: Set) -> Result<()> {
    let o = &args.inside;
    let rooted = [
        ("--tty", o.tty),
        ("--volume", !o.volume.is_empty()),
        ("--tmpfs", !o.tmpfs.is_empty()),
        ("--read-only", o.read_only),
        ("--shm-size", o.shm_size.is_some()),
        ("--file", !o.file.is_empty()),
    ];
    if !args.map_users.is_empty() && !new.contains(Kind::User) {
        return Err(Error::bad_input("--map-users", "needs a user namespace (allowed: with --unshare user)"));
    }
    if args.request.is_some() && args.inside != Options::default() {
        return Err(Error::bad_input(
            "--request",
            "says everything itself (allowed: no other option of the inside)",
        ));
    }
    match rooted.into_iter().find(|(_, given)| *given && args.root.is_none()) {
        Some((option, _)) => Err(Error::bad_input(
            option,
            "needs a root file system (allowed: with --unshare mount --root DIR)",
        )),
        None => Ok(()),
    }
}

pub fn namespaces(words: &[String]) -> Result<Set> {
    let mut set = Set::default();
    for word in words {
        let kind: Kind = word.parse()?;
        set.insert(kind);
    }
    Ok(set)
}

pub fn plan(args: &Args, new: Set, command: &[String]) -> Result<Plan> {
    if let Some(json) = &args.request {
        return from_json(json, args, new, command);
    }
    let root = root(args, new)?;
    let confined = root.is_some() || args.confine;
    let mut request = args.inside.request(
        command,
        Surroundings {
            root,
            new_network: new.contains(Kind::Network),
            new_cgroup: new.contains(Kind::Cgroup),
            user_namespace: new.contains(Kind::User),
            id: args.id.clone(),
        },
    )?;
    request.reaper = !args.exec;
    request.session = confined;
    if !confined && args.inside.cap_add.is_empty() && args.inside.cap_drop.is_empty() {
        // A bare namespace keeps the caller's privileges, as unshare(1) does.
        request.security.capabilities = None;
        if args.inside.security_opt.is_empty() {
            request.security.seccomp = drydock_security::Seccomp::None;
            request.security.no_new_privs = false;
        }
    }
    request.validate()
}

/// A request as it is printed; a command on the command line is the one that is meant.
fn from_json(json: &str, args: &Args, new: Set, command: &[String]) -> Result<Plan> {
    let mut request: Request =
        serde_json::from_str(json).map_err(|e| Error::bad_input("--request", e.to_string()))?;
    if !command.is_empty() {
        request.args = command.to_vec();
    }
    if request.mounts.is_some() && !new.contains(Kind::Mount) {
        let why = "has mounts, which need a mount namespace of their own (allowed: with --unshare mount)";
        return Err(Error::bad_input("--request", why));
    }
    request.reaper = !args.exec;
    request.validate()
}

/// The root file system: a directory, or with `--lower` the mount point of an overlay that is made first.
fn root(args: &Args, new: Set) -> Result<Option<Root>> {
    let (Some(dir), Some(lower)) = (&args.root, &args.lower) else {
        return args.root.as_ref().map(|dir| checked_root(dir)).transpose();
    };
    let path = std::path::absolute(dir).call(|| "getcwd()")?;
    let lower = checked_root(lower).map_err(|e| e.on("--lower"))?.path;
    let Some(layers) = path.parent().filter(|layers| layers.parent().is_some()) else {
        return Err(Error::bad_input(
            "--root",
            "lies in no directory of its own (allowed: such as DIR/root)",
        ));
    };
    let size = match &args.scratch {
        Some(text) => drydock_core::size::parse("--scratch", text)?,
        None => 1 << 30,
    };
    let overlay = Overlay {
        lower: vec![lower],
        upper: layers.join("upper"),
        work: layers.join("work"),
        scratch: Some(Scratch { path: layers.to_path_buf(), size }),
        userxattr: new.contains(Kind::User),
        ..Overlay::default()
    };
    Ok(Some(Root { path, overlay: Some(overlay), ..Root::default() }))
}

fn checked_root(dir: &std::path::Path) -> Result<Root> {
    let shown = drydock_core::text::escape(&dir.to_string_lossy());
    let real = std::fs::canonicalize(dir).call(|| format!("realpath({dir:?})"));
    let real = real.map_err(|e| Error::bad_input("--root", format!("'{shown}': {}", e.sentence())))?;
    if !real.is_dir() {
        return Err(Error::bad_input("--root", format!("'{shown}' is not a directory")));
    }
    if real == std::path::Path::new("/") {
        return Err(Error::bad_input(
            "--root",
            "'/' is the host's own root (allowed: a directory of its own)",
        ));
    }
    Ok(Root::directory(real))
}
