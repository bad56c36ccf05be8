//! User and group id maps of a user namespace, written by the parent. Source: user_namespaces(7), newuidmap(1).
//!
//! The process inside cannot write its own map for more than one id, and once it is inside it has no id to name;
//! the parent knows both sides.

mod write;

pub use write::{Ids, MapStep, Plan, Request, Setgroups, has_helper, privileged, write_maps};

use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The kernel takes at most this many lines in one map (Linux 4.15).
pub const MAX_LINES: usize = 340;

/// One line of a map: `count` ids from `inside` in the namespace are those from `outside` in its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id within the namespace (OCI `containerID`).
    #[serde(rename = "containerID", alias = "inside")]
    pub inside: u32,
    /// First id outside (OCI `hostID`).
    #[serde(rename = "hostID", alias = "outside")]
    pub outside: u32,
    /// How many (OCI `size`).
    #[serde(rename = "size", alias = "count")]
    pub count: u32,
}

impl IdMap {
    /// One line.
    pub const fn new(inside: u32, outside: u32, count: u32) -> Self {
        Self { inside, outside, count }
    }

    /// In words: `inside 0 = host 100000`, or `inside 0 to 65535 = host 100000 to 165535`. The host is the parent namespace.
    pub fn words(self) -> String {
        let last = |first: u32| first.saturating_add(self.count.saturating_sub(1));
        match self.count {
            1 => format!("inside {} = host {}", self.inside, self.outside),
            _ => format!(
                "inside {} to {} = host {} to {}",
                self.inside,
                last(self.inside),
                self.outside,
                last(self.outside)
            ),
        }
    }

    /// The outside id of an inside one.
    pub fn to_outside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside)?;
        (offset < self.count).then(|| self.outside.checked_add(offset)).flatten()
    }

    /// The inside id of an outside one.
    pub fn to_inside(self, id: u32) -> Option<u32> {
        IdMap::new(self.outside, self.inside, self.count).to_outside(id)
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.inside, self.outside, self.count)
    }
}

impl FromStr for IdMap {
    type Err = Error;

    /// `inside:outside:count`.
    fn from_str(text: &str) -> Result<Self> {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 60);
        let bad = || {
            Error::bad_input(
                format!("id map '{shown}'"),
                "not a map (allowed: INSIDE:OUTSIDE:COUNT, such as 0:100000:65536)",
            )
        };
        let mut fields = text.split(':').map(|field| {
            // u32::from_str takes a sign, which is not an id.
            if field.starts_with('+') { Err(bad()) } else { field.parse::<u32>().map_err(|_| bad()) }
        });
        let mut next = || fields.next().unwrap_or_else(|| Err(bad()));
        let map = IdMap::new(next()?, next()?, next()?);
        if fields.next().is_some() {
            return Err(bad());
        }
        validate("id map", &[map])?;
        Ok(map)
    }
}

/// A whole map in words; `nothing` if it is empty.
pub fn words(map: &[IdMap]) -> String {
    match map.len() {
        0 => "nothing".to_string(),
        1..=4 => map.iter().map(|line| line.words()).collect::<Vec<_>>().join(", "),
        many => {
            format!("{} and {} more", map.first().map_or_else(String::new, |line| line.words()), many - 1)
        }
    }
}

/// The map of a process of its own, as /proc/self/uid_map or gid_map shows it.
pub fn of_self(ids: Ids) -> Vec<IdMap> {
    let text = std::fs::read_to_string(format!("/proc/self/{}", ids.map_file())).unwrap_or_default();
    text.lines().filter_map(parse_line).collect()
}

/// A line of such a file.
pub fn parse_line(line: &str) -> Option<IdMap> {
    let mut numbers = line.split_whitespace().map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    Some(IdMap::new(next()?, next()?, next()?))
}

/// The inside id of `outside` in a whole map.
pub fn inside(map: &[IdMap], outside: u32) -> Option<u32> {
    map.iter().find_map(|line| line.to_inside(outside))
}

/// The outside id of `inside` in a whole map.
pub fn outside(map: &[IdMap], inside: u32) -> Option<u32> {
    map.iter().find_map(|line| line.to_outside(inside))
}

/// Checks a map as the kernel will: no empty line, no id above 4294967294, no overlap on either side, at most 340 lines.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] that names `object` and the line.
pub fn validate(object: &str, map: &[IdMap]) -> Result<()> {
    if map.len() > MAX_LINES {
        let problem = format!("{} lines (allowed: at most {MAX_LINES})", map.len());
        return Err(Error::bad_input(object, problem));
    }
    for line in map {
        if line.count == 0 {
            return Err(Error::bad_input(
                object,
                format!("{line} maps no id (allowed: a count of 1 or more)"),
            ));
        }
        // 4294967295 means "no id" to the kernel.
        if line.inside.checked_add(line.count).is_none() || line.outside.checked_add(line.count).is_none() {
            let problem = format!("{line} goes beyond the last id (allowed: up to 4294967294)");
            return Err(Error::bad_input(object, problem));
        }
    }
    overlap(object, map, "inside", |line| line.inside)?;
    overlap(object, map, "outside", |line| line.outside)
}

fn overlap(object: &str, map: &[IdMap], side: &str, start: impl Fn(&IdMap) -> u32) -> Result<()> {
    let mut sorted: Vec<&IdMap> = map.iter().collect();
    sorted.sort_by_key(|line| start(line));
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && start(b) - start(a) < a.count
        {
            return Err(Error::bad_input(object, format!("{a} and {b} overlap {side} the namespace")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_one_line() {
        assert_eq!("0:100000:65536".parse::<IdMap>().unwrap(), IdMap::new(0, 100_000, 65536));
        for bad in [
            "",
            "0",
            "0:1",
            "0:1:0",
            "a:b:c",
            "0:1:2:3",
            "-1:0:1",
            "+1:0:1",
            "0:4294967295:1",
            "4294967290:0:9",
        ] {
            assert_eq!(bad.parse::<IdMap>().unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn in_words() {
        assert_eq!(IdMap::new(0, 100_000, 1).words(), "inside 0 = host 100000");
        assert_eq!(words(&[IdMap::new(0, 100_000, 65536)]), "inside 0 to 65535 = host 100000 to 165535");
        assert_eq!(
            (words(&[]).as_str(), parse_line("  0  1000 1"), parse_line("0 x")),
            ("nothing", Some(IdMap::new(0, 1000, 1)), None)
        );
    }

    #[test]
    fn oci_names() {
        let map: IdMap = serde_json::from_str(r#"{"containerID":0,"hostID":1000,"size":1}"#).unwrap();
        assert_eq!(map, IdMap::new(0, 1000, 1));
        assert_eq!(
            (map.to_inside(1000), map.to_inside(1001), map.to_outside(0)),
            (Some(0), None, Some(1000))
        );
    }

    #[test]
    fn refuses_overlaps_and_too_many() {
        let overlap_in = [IdMap::new(0, 1000, 10), IdMap::new(5, 5000, 1)];
        let overlap_out = [IdMap::new(0, 1000, 10), IdMap::new(50, 1009, 1)];
        let fine = [IdMap::new(10, 1000, 10), IdMap::new(0, 5000, 10)];
        assert!(validate("m", &overlap_in).unwrap_err().to_string().contains("overlap inside"));
        assert!(validate("m", &overlap_out).unwrap_err().to_string().contains("overlap outside"));
        validate("m", &fine).unwrap();
        let many: Vec<IdMap> = (0..341).map(|i| IdMap::new(i, 1000 + i, 1)).collect();
        assert!(validate("m", &many).unwrap_err().to_string().contains("340"));
        validate("m", &many[..340]).unwrap();
    }
}
