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
    /// Map the caller's user to UID inside; user_namespaces(7)
    #[arg(long, value_name = "UID", value_parser = parse_id)]
    map_user: Option<u32>,
    /// Map the caller's group to GID inside; user_namespaces(7)
    #[arg(long, value_name = "GID", value_parser = parse_id)]
    map_group: Option<u32>,
    /// Map a range of users, 'auto' (the first range of /etc/subuid) or 'all'; may be given again; newuidmap(1)
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", value_parser = parse_range)]
    map_users: Vec<RangeArg>,
    /// Map a range of groups, 'auto' (the first range of /etc/subgid) or 'all'; may be given again; newgidmap(1)
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", value_parser = parse_range)]
    map_groups: Vec<RangeArg>,
    /// Map the first ranges of /etc/subuid and /etc/subgid from id 0 up; subuid(5)
    #[arg(long)]
    map_auto: bool,
    /// Whether setgroups(2) works inside [default: deny if a single group is mapped]; user_namespaces(7)
    #[arg(long, value_name = "allow|deny", value_parser = clap::builder::PossibleValuesParser::new(["allow", "deny"]))]
    setgroups: Option<String>,
}

/// One value of `--map-users`.
#[derive(Clone, Copy, Debug)]
pub enum RangeArg {
    Auto,
    All,
    Map(IdMap),
}

/// An id: 4294967295 means "none" to the kernel.
pub fn parse_id(text: &str) -> Result<u32, String> {
    let id = text.parse::<u32>().ok().filter(|id| *id < u32::MAX && !text.starts_with('+'));
    id.ok_or_else(|| "not an id (allowed: 0 to 4294967294)".to_string())
}

fn parse_range(text: &str) -> Result<RangeArg, String> {
    match text {
        "auto" => Ok(RangeArg::Auto),
        "all" => Ok(RangeArg::All),
        other => other.parse().map(RangeArg::Map).map_err(|e: Error| e.to_string()),
    }
}

impl MapArgs {
    /// Whether a map is asked for.
    pub fn any(&self) -> bool {
        self.map_root_user
            || self.map_current_user
            || self.map_auto
            || self.map_user.is_some()
            || self.map_group.is_some()
            || !self.map_users.is_empty()
            || !self.map_groups.is_empty()
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
        Ok((
            one(Ids::User, own(self.map_user, uid), &self.map_users, self.map_auto)?,
            one(Ids::Group, own(self.map_group, gid), &self.map_groups, self.map_auto)?,
        ))
    }
}

fn one(ids: Ids, own: Option<(u32, u32)>, ranges: &[RangeArg], auto: bool) -> Result<Vec<IdMap>> {
    let auto = auto || ranges.iter().any(|r| matches!(r, RangeArg::Auto));
    let mut map = match (auto, own) {
        (true, own) => subid::auto(ids, own)?,
        (false, Some((inside, outside))) => vec![IdMap::new(inside, outside, 1)],
        (false, None) => Vec::new(),
    };
    for range in ranges {
        match range {
            RangeArg::Auto => {}
            RangeArg::Map(line) => map.push(*line),
            RangeArg::All => map.extend(identity(ids)?),
        }
    }
    Ok(map)
}

/// Every id of this user namespace to itself.
fn identity(ids: Ids) -> Result<Vec<IdMap>> {
    let path = format!("/proc/self/{}", ids.map_file());
    let text =
        std::fs::read_to_string(&path).map_err(|e| Error::call(format!("open({path:?}, O_RDONLY)"), e))?;
    let line = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let inside = fields.next()?.ok()?;
        let count = fields.nth(1)?.ok()?;
        Some(IdMap::new(inside, inside, count))
    };
    Ok(text.lines().filter_map(line).collect())
}
