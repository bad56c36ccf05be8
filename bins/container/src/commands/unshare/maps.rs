//! The id map options of `container unshare`.

use drydock_core::{Error, Result};
use drydock_namespaces::IdMap;
use drydock_namespaces::idmap::{Ids, Setgroups};
use drydock_namespaces::subid;

/// Options that describe the maps of a new user namespace; each of them implies it.
#[derive(clap::Args, Debug)]
pub struct MapArgs {
    /// Map the caller to root inside; user_namespaces(7)
    #[arg(short = 'r', long, conflicts_with_all = ["map_current_user", "map_user", "map_group"])]
    map_root_user: bool,
    /// Map the caller to the same ids inside; user_namespaces(7)
    #[arg(short = 'c', long, conflicts_with_all = ["map_user", "map_group"])]
    map_current_user: bool,
    /// Map the caller's user to this one inside; user_namespaces(7)
    #[arg(long, value_name = "UID|NAME", value_parser = parse_user)]
    map_user: Option<u32>,
    /// Map the caller's group to this one inside; user_namespaces(7)
    #[arg(long, value_name = "GID|NAME", value_parser = parse_group)]
    map_group: Option<u32>,
    /// Map a range of users, 'auto' (the first range of /etc/subuid, from 0 up), 'subids' (the same, unchanged) or 'all'; may
    /// be given again; newuidmap(1)
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", value_parser = parse_range)]
    map_users: Vec<RangeArg>,
    /// Map a range of groups, 'auto' (the first range of /etc/subgid, from 0 up), 'subids' (the same, unchanged) or 'all'; may
    /// be given again; newgidmap(1)
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", value_parser = parse_range)]
    map_groups: Vec<RangeArg>,
    /// Map the first ranges of /etc/subuid and /etc/subgid from id 0 up; subuid(5)
    #[arg(long)]
    map_auto: bool,
    /// Map the first ranges of /etc/subuid and /etc/subgid to the same ids inside; subuid(5)
    #[arg(long, conflicts_with = "map_auto")]
    map_subids: bool,
    /// User and group that own the new user namespace, and so have all capabilities in it; user_namespaces(7)
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    owner: Option<(u32, u32)>,
    /// Whether setgroups(2) works inside [default: deny if a single group is mapped]; user_namespaces(7)
    #[arg(long, value_name = "allow|deny", value_parser = clap::builder::PossibleValuesParser::new(["allow", "deny"]))]
    setgroups: Option<String>,
}

/// One value of `--map-users`.
#[derive(Clone, Copy, Debug)]
pub enum RangeArg {
    Auto,
    SubIds,
    All,
    Map(IdMap),
}

/// An id: 4294967295 means "none" to the kernel.
pub fn parse_id(text: &str) -> Result<u32, String> {
    let id = text.parse::<u32>().ok().filter(|id| *id < u32::MAX && !text.starts_with('+'));
    id.ok_or_else(|| "not an id (allowed: 0 to 4294967294)".to_string())
}

/// A user of this machine, by number or name.
fn parse_user(text: &str) -> Result<u32, String> {
    named(text, "/etc/passwd", "user")
}

fn parse_group(text: &str) -> Result<u32, String> {
    named(text, "/etc/group", "group")
}

fn named(text: &str, file: &str, what: &str) -> Result<u32, String> {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return parse_id(text);
    }
    let lines = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let found = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.ok_or_else(|| format!("no such {what} in {file} (allowed: 0 to 4294967294, or a name)"))
}

fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let (uid, gid) = text.split_once(':').ok_or("not UID:GID (allowed: such as 1000:1000)")?;
    Ok((parse_id(uid)?, parse_id(gid)?))
}

fn parse_range(text: &str) -> Result<RangeArg, String> {
    match text {
        "auto" => Ok(RangeArg::Auto),
        "subids" => Ok(RangeArg::SubIds),
        "all" => Ok(RangeArg::All),
        // unshare(1) had OUTSIDE,INSIDE,COUNT first, and still takes it.
        other => match other.split(',').collect::<Vec<_>>().as_slice() {
            [outside, inside, count] => format!("{inside}:{outside}:{count}").parse(),
            _ => other.parse(),
        }
        .map(RangeArg::Map)
        .map_err(|e: Error| e.to_string()),
    }
}

impl MapArgs {
    /// Whether a map is asked for.
    pub fn any(&self) -> bool {
        self.map_root_user
            || self.map_current_user
            || self.map_auto
            || self.map_subids
            || self.owner.is_some()
            || self.map_user.is_some()
            || self.map_group.is_some()
            || !self.map_users.is_empty()
            || !self.map_groups.is_empty()
    }

    /// What `--owner` says.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// What `--setgroups` says.
    pub fn setgroups(&self) -> Option<Setgroups> {
        match self.setgroups.as_deref() {
            Some("allow") => Some(Setgroups::Allow),
            Some(_) => Some(Setgroups::Deny),
            None => None,
        }
    }

    /// The user and the group map.
    pub fn build(&self) -> Result<(Vec<IdMap>, Vec<IdMap>)> {
        let uid = nix::unistd::geteuid().as_raw();
        let gid = nix::unistd::getegid().as_raw();
        let own = |named: Option<u32>, outside: u32| match (self.map_root_user, self.map_current_user) {
            (true, _) => Some((0, outside)),
            (_, true) => Some((outside, outside)),
            _ => named.map(|inside| (inside, outside)),
        };
        let more = match (self.map_auto, self.map_subids) {
            (true, _) => Some(RangeArg::Auto),
            (_, true) => Some(RangeArg::SubIds),
            _ => None,
        };
        let all = |ranges: &[RangeArg]| ranges.iter().copied().chain(more).collect::<Vec<_>>();
        Ok((
            one(Ids::User, own(self.map_user, uid), &all(&self.map_users))?,
            one(Ids::Group, own(self.map_group, gid), &all(&self.map_groups))?,
        ))
    }
}

/// The caller's own id, and the ranges around it.
fn one(ids: Ids, own: Option<(u32, u32)>, ranges: &[RangeArg]) -> Result<Vec<IdMap>> {
    if ranges.iter().any(|range| matches!(range, RangeArg::Auto)) && ranges.len() == 1 {
        return subid::auto(ids, own);
    }
    let mut map = Vec::new();
    for range in ranges {
        match range {
            RangeArg::Auto => map.extend(subid::auto(ids, None)?),
            RangeArg::SubIds => map.push(subid::identity(ids)?),
            RangeArg::Map(line) => map.push(*line),
            RangeArg::All => map.extend(identity(ids)),
        }
    }
    if let Some((inside, outside)) = own {
        map = subid::make_room(map, inside, outside);
        map.push(IdMap::new(inside, outside, 1));
        map.sort_by_key(|line| line.inside);
    }
    Ok(map)
}

/// Every id of this user namespace to itself.
fn identity(ids: Ids) -> Vec<IdMap> {
    let same = |line: IdMap| IdMap::new(line.inside, line.inside, line.count);
    drydock_namespaces::idmap::of_self(ids).into_iter().map(same).collect()
}
