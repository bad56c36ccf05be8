//! Options of everything that unpacks.

use drydock_core::{Error, Result, size};
use drydock_images::unpack::{Devices, Ids, Limits, Options, Report};

/// How to unpack.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Unpacking {
    /// Device nodes: create, skip or refuse [default: create as root, else skip]
    #[arg(long, value_name = "WHAT", value_parser = ["create", "skip", "refuse"], help_heading = "Policy")]
    devices: Option<String>,
    /// Refuse what could only be left out: device nodes that may not be made
    #[arg(long, conflicts_with = "devices", help_heading = "Policy")]
    strict: bool,
    /// No set-user-ID and set-group-ID bits, no file capabilities
    #[arg(long, help_heading = "Policy")]
    no_setuid: bool,
    /// Files of user INSIDE become user OUTSIDE's: INSIDE:OUTSIDE:COUNT, as in uid_map (repeatable; needs root)
    #[arg(long, value_name = "MAP", requires = "map_groups", help_heading = "Policy")]
    map_users: Vec<String>,
    /// The same for groups
    #[arg(long, value_name = "MAP", requires = "map_users", help_heading = "Policy")]
    map_groups: Vec<String>,
    /// All files become whoever unpacks's [default without root, where /etc/subuid and /etc/subgid grant no ids]
    #[arg(long, conflicts_with = "map_users", help_heading = "Policy")]
    mine: bool,
    /// Bytes of all files together [default: 32g]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_size: Option<String>,
    /// Entries [default: 1000000]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_entries: Option<u64>,
    /// How many times larger than its compressed form a layer of more than 32 MiB may be [default: 200]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_ratio: Option<u64>,
}

impl Unpacking {
    /// Whether files are to keep their owners.
    pub fn wants_ids(&self) -> bool {
        !self.mine && self.map_users.is_empty()
    }

    /// As the library takes it.
    pub fn options(&self) -> Result<Options> {
        let mut options = Options::usual();
        match self.devices.as_deref() {
            Some("create") => options.devices = Devices::Create,
            Some("skip") => options.devices = Devices::Skip,
            Some(_) => options.devices = Devices::Refuse,
            None if self.strict => options.devices = Devices::Refuse,
            None => {}
        }
        options.no_setuid = self.no_setuid;
        if self.mine {
            options.ids = Ids::Mine;
        }
        if !self.map_users.is_empty() {
            let users = maps("--map-users", &self.map_users)?;
            options.ids = Ids::Map { users, groups: maps("--map-groups", &self.map_groups)? };
        }
        let limits = Limits::default();
        options.limits = Limits {
            bytes: self.max_size.as_deref().map_or(Ok(limits.bytes), |t| size::parse("--max-size", t))?,
            entries: self.max_entries.unwrap_or(limits.entries),
            ratio: self.max_ratio.unwrap_or(limits.ratio).max(1),
            ..limits
        };
        Ok(options)
    }
}

/// `INSIDE:OUTSIDE:COUNT` lines that do not overlap.
fn maps(option: &str, words: &[String]) -> Result<Vec<(u32, u32, u32)>> {
    let mut maps: Vec<(u32, u32, u32)> = Vec::new();
    for word in words {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 60);
        let bad = |why: &str| {
            Error::bad_input(option, format!("'{shown}' {why} (allowed: such as 0:100000:65536)"))
        };
        let numbers: Vec<u32> = word.split(':').filter_map(|n| n.parse().ok()).collect();
        let [inside, outside, count] = numbers[..] else { return Err(bad("is not INSIDE:OUTSIDE:COUNT")) };
        if word.split(':').count() != 3 || count == 0 {
            return Err(bad("is not INSIDE:OUTSIDE:COUNT"));
        }
        if inside.checked_add(count).is_none() || outside.checked_add(count).is_none() {
            return Err(bad("goes beyond the last id"));
        }
        let overlap = |a: u32, b: u32, n: u32| a < b + n && b < a + count;
        if maps.iter().any(|m| overlap(inside, m.0, m.2) || overlap(outside, m.1, m.2)) {
            return Err(bad("overlaps another"));
        }
        maps.push((inside, outside, count));
    }
    Ok(maps)
}

/// What was left out, for people.
pub fn warn(report: &Report) {
    let say = |count: u64, what: &str| {
        if count > 0 {
            drydock_cli::output::warn("rootfs", &format!("{count} {what}"));
        }
    };
    say(report.skipped_devices, "device nodes left out");
    say(report.skipped_xattrs, "extended attributes left out (overlays', labels, or not possible here)");
}
