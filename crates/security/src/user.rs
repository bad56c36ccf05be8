//! Who `--user` means, by the container's own passwd and group files.
//!
//! The files belong to the image, so they are hostile (CVE-2026-47262's and CVE-2024-9676's class): they are looked up
//! inside the root only, must be regular, and are read up to a bound.

use crate::request::User;
use drydock_core::error::CallExt;
use drydock_core::{Error, Kind, Result, text};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A larger passwd or group file is an attack.
const MAX_BYTES: u64 = 16 << 20;
/// uid and gid -1 mean "leave it" to the kernel.
const MAX_ID: u64 = 4_294_967_294;
/// The kernel's limit (NGROUPS_MAX).
const MAX_GROUPS: usize = 65536;

/// A user as the root file system knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Ids and groups; no umask.
    pub user: User,
    /// The name, if the passwd file has one.
    pub name: Option<String>,
    /// The home directory: an absolute path; `/` when the passwd file has none.
    pub home: PathBuf,
    /// The login shell, if the passwd file has one.
    pub shell: Option<PathBuf>,
}

struct Entry {
    name: Vec<u8>,
    gid: u32,
    uid: u32,
    home: Option<PathBuf>,
    shell: Option<PathBuf>,
}

/// Resolves `name`, `name:group`, `uid` or `uid:gid` inside the root directory `root`; an empty text is root.
///
/// A number is an id, whether the files know it or not (gid 0 then). Supplementary groups are those of the group file
/// that list the user, unless a group is given: then there are none, as with Docker.
///
/// # Errors
/// [`Kind::BadInput`] for a form that is none of these, an id that is too great, an unknown name, or a passwd or group
/// file that is needed and hostile: not regular, larger than 16 MiB, a link out of the root is followed inside it.
pub fn resolve(spec: &str, root: BorrowedFd<'_>) -> Result<Resolved> {
    let (user, group) = split(spec)?;
    let uid = number(user)?;
    let gid = group.map(number).transpose()?.flatten();
    let passwd = read(root, "etc/passwd");
    // With both ids as numbers the file only adds name and home: a bad one is ignored.
    let passwd = if uid.is_some() && gid.is_some() { passwd.unwrap_or_default() } else { passwd? };
    let entry = match uid {
        Some(uid) => find(&passwd, |e| e.uid == uid),
        None => find(&passwd, |e| e.name == user.as_bytes()),
    };
    // Up to 16 MiB: not kept while the group file is read.
    drop(passwd);
    let uid = match (uid, &entry) {
        (Some(uid), _) => uid,
        (None, Some(entry)) => entry.uid,
        // A root file system without passwd still has a root.
        (None, None) if user == "root" => 0,
        (None, None) => return Err(unknown(user, "user", "etc/passwd")),
    };
    let (gid, additional_gids) = match (group, gid) {
        (_, Some(gid)) => (gid, Vec::new()),
        (Some(name), None) => (group_id(&read(root, "etc/group")?, name)?, Vec::new()),
        (None, None) => primary_and_others(root, entry.as_ref())?,
    };
    let user = User { uid, gid, additional_gids, ..User::default() };
    Ok(match entry {
        None => Resolved { user, name: None, home: PathBuf::from("/"), shell: None },
        Some(entry) => Resolved {
            user,
            name: String::from_utf8(entry.name).ok(),
            home: entry.home.unwrap_or_else(|| PathBuf::from("/")),
            shell: entry.shell,
        },
    })
}

/// Resolves a group name or number inside the root, as `--group-add` needs it.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_group(spec: &str, root: BorrowedFd<'_>) -> Result<u32> {
    if spec.is_empty() || spec.contains(':') {
        return Err(bad_form(spec));
    }
    match number(spec)? {
        Some(gid) => Ok(gid),
        None => group_id(&read(root, "etc/group")?, spec),
    }
}

/// Checks the form of a user, without looking anything up.
///
/// # Errors
/// [`Kind::BadInput`] for a form that is none, or an id that is too great.
pub fn check_spec(spec: &str) -> Result<()> {
    let (user, group) = split(spec)?;
    number(user)?;
    group.map(number).transpose().map(drop)
}

fn primary_and_others(root: BorrowedFd<'_>, entry: Option<&Entry>) -> Result<(u32, Vec<u32>)> {
    match entry {
        None => Ok((0, Vec::new())),
        Some(entry) => Ok((entry.gid, groups_of(&read(root, "etc/group")?, &entry.name)?)),
    }
}

fn split(spec: &str) -> Result<(&str, Option<&str>)> {
    if spec.is_empty() {
        return Ok(("0", None));
    }
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let bad = |part: &str| {
        part.is_empty() || part.contains(':') || part.chars().any(|c| c.is_control() || c == '/')
    };
    if bad(user) || group.is_some_and(bad) { Err(bad_form(spec)) } else { Ok((user, group)) }
}

fn bad_form(spec: &str) -> Error {
    let shown = text::shorten(&text::escape(spec), 80);
    Error::bad_input("user", format!("'{shown}' is no user (allowed: NAME[:GROUP] or UID[:GID])"))
}

/// The id, if the text is a number.
fn number(part: &str) -> Result<Option<u32>> {
    let digits = part.strip_prefix(['-', '+']).unwrap_or(part);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let value = part.parse::<u64>().ok().filter(|id| *id <= MAX_ID && !part.starts_with('+'));
    value.and_then(|id| u32::try_from(id).ok()).map(Some).ok_or_else(|| {
        let shown = text::shorten(&text::escape(part), 40);
        Error::bad_input("user", format!("{shown} is no id (allowed: 0 to {MAX_ID})"))
    })
}

fn unknown(name: &str, what: &str, file: &str) -> Error {
    let shown = text::shorten(&text::escape(name), 80);
    Error::bad_input(what, format!("'{shown}' is not in the container's /{file}"))
        .hint("give a number, or a name that the root file system knows")
}

/// The file's bytes; empty if it does not exist.
fn read(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    let object = || format!("the container's /{path}");
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags: OFlags| openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how);
    let bad = |e: Error| e.with_kind(Kind::BadInput).on(object());
    let regular = |fd: &OwnedFd| -> Result<()> {
        let stat = fstat(fd).call(|| format!("fstat({path:?})")).map_err(bad)?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if size <= MAX_BYTES => Ok(()),
            FileType::RegularFile => {
                Err(Error::bad_input(object(), format!("{size} bytes (allowed: at most {MAX_BYTES})")))
            }
            other => Err(Error::bad_input(object(), format!("{} (allowed: a regular file)", kind(other)))),
        }
    };
    // Looked at before it is opened: opening a device could act on it.
    let seen = match open(OFlags::PATH) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        other => other.call(|| format!("openat2(root, {path:?}, O_PATH, RESOLVE_IN_ROOT)")).map_err(bad)?,
    };
    regular(&seen)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open(flags)
        .call(|| format!("openat2(root, {path:?}, O_RDONLY|O_NONBLOCK, RESOLVE_IN_ROOT)"))
        .map_err(bad)?;
    regular(&fd)?;
    let mut bytes = Vec::new();
    let read = File::from(fd).take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.call(|| format!("read({path:?})")).map_err(bad)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::bad_input(object(), format!("grows beyond {MAX_BYTES} bytes while it is read")));
    }
    Ok(bytes)
}

fn kind(file: FileType) -> &'static str {
    match file {
        FileType::Fifo => "a FIFO",
        FileType::Directory => "a directory",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Socket => "a socket",
        _ => "not a regular file",
    }
}

/// The first entry that fits; lines that are no entries are passed over.
fn find(passwd: &[u8], fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
    passwd.split(|b| *b == b'\n').filter_map(entry).find(fits)
}

/// `name:password:uid:gid:comment:home:shell`. Source: passwd(5).
fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|b| *b == b':');
    let name = fields.next().filter(|n| !n.is_empty())?.to_vec();
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    let path = |field: Option<&[u8]>| {
        let text = std::str::from_utf8(field?).ok()?;
        let fits = text.starts_with('/') && text.len() < 4096 && !text.chars().any(char::is_control);
        fits.then(|| PathBuf::from(text))
    };
    let home = path(fields.nth(1));
    Some(Entry { name, gid, uid, home, shell: path(fields.next()) })
}

fn id(field: &[u8]) -> Option<u32> {
    let text =
        std::str::from_utf8(field).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse::<u32>().ok().filter(|id| u64::from(*id) <= MAX_ID)
}

/// `name:password:gid:members`. Source: group(5).
fn groups(file: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    file.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = line.splitn(4, |b| *b == b':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let gid = id(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn group_id(file: &[u8], wanted: &str) -> Result<u32> {
    let found = groups(file).find(|(name, _, _)| *name == wanted.as_bytes()).map(|(_, gid, _)| gid);
    found.or((wanted == "root").then_some(0)).ok_or_else(|| unknown(wanted, "group", "etc/group"))
}

fn groups_of(file: &[u8], user: &[u8]) -> Result<Vec<u32>> {
    let mut gids: Vec<u32> = Vec::new();
    let member = |members: &[u8]| members.split(|b| *b == b',').any(|m| m == user);
    gids.extend(groups(file).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    gids.sort_unstable();
    gids.dedup();
    if gids.len() > MAX_GROUPS {
        let problem = format!("{} groups for one user (allowed: at most {MAX_GROUPS})", gids.len());
        return Err(Error::bad_input("the container's /etc/group", problem));
    }
    Ok(gids)
}
