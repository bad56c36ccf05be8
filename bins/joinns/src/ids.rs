//! Whom the command runs as. Source: credentials(7), user_namespaces(7).

use crate::args::{Args, Id};
use crate::request::needs_target;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_namespaces::idmap::{self, IdMap};
use drydock_namespaces::process::Process;
use drydock_namespaces::{Kind, join};
use drydock_security::user;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// Ids inside.
#[derive(Clone, Debug)]
pub struct Account {
    /// User id; nothing: the caller's.
    pub uid: Option<u32>,
    /// Group id; nothing: the caller's.
    pub gid: Option<u32>,
    /// Home directory by the target's files.
    pub home: PathBuf,
}

/// Finds out the ids that the arguments name.
///
/// # Errors
/// An unknown name; `follow` without a process, or an id of it that the joined user namespace does not have.
pub fn account(
    args: &Args,
    join: &join::Plan,
    process: Option<&Process>,
    root: Option<BorrowedFd<'_>>,
) -> Result<Account> {
    let user_joined = join.joins().contains(Kind::User);
    // In a joined user namespace the caller's need not exist.
    let default = (user_joined && !args.preserve_credentials).then_some(0);
    let files = match root {
        Some(root) => root.try_clone_to_owned().call(|| "fcntl(F_DUPFD_CLOEXEC)")?,
        None => std::fs::File::open("/").call(|| "open(\"/\", O_RDONLY)")?.into(),
    };
    let (mut uid, mut gid) = (default, default);
    match &args.setuid {
        None => {}
        Some(Id::Number(number)) => uid = Some(*number),
        Some(Id::Follow) => uid = Some(follow(process, "--setuid", "Uid:", "uid_map", user_joined)?),
        Some(Id::Name(name)) => {
            let found = user::resolve(name, files.as_fd()).map_err(|e| e.on("--setuid"))?;
            (uid, gid) = (Some(found.user.uid), Some(found.user.gid));
        }
    }
    match &args.setgid {
        None => {}
        Some(Id::Number(number)) => gid = Some(*number),
        Some(Id::Follow) => gid = Some(follow(process, "--setgid", "Gid:", "gid_map", user_joined)?),
        Some(Id::Name(name)) => {
            gid = Some(user::resolve_group(name, files.as_fd()).map_err(|e| e.on("--setgid"))?);
        }
    }
    let who = uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    // Whatever the target's files are, they only add a name here.
    let found = user::resolve(&format!("{who}:0"), files.as_fd()).ok();
    let home = found.map(|found| found.home).filter(|home| home.is_absolute()).unwrap_or_else(|| "/".into());
    Ok(Account { uid, gid, home })
}

/// The target's own id, as it is called inside.
fn follow(process: Option<&Process>, option: &str, key: &str, map: &str, inside: bool) -> Result<u32> {
    let process = process.ok_or_else(|| needs_target(option))?;
    let status = String::from_utf8_lossy(&process.read("status")?).into_owned();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    // The real id, then the effective one.
    let id = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
    let id = id.ok_or_else(|| {
        Error::failed(format!("/proc/{}/status", process.pid()), "not as proc(5) describes it")
    })?;
    if !inside {
        return Ok(id);
    }
    let text = String::from_utf8_lossy(&process.read(map)?).into_owned();
    let entry = |line: &str| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        match numbers.as_slice() {
            [inside, outside, count] => Some(IdMap::new(*inside, *outside, *count)),
            _ => None,
        }
    };
    let lines: Vec<IdMap> = text.lines().filter_map(entry).collect();
    idmap::inside(&lines, id)
        .ok_or_else(|| Error::failed(option, format!("the target's id {id} is not mapped inside")))
}
